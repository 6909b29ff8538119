"""Statistics of the study: paired differences, intervals, permutation tests, power.

Two arms are compared on the same questions and seeds: what counts are the differences
of their accuracies, a number for each (family, seed). Families were chosen, not drawn:
intervals and tests speak of these families, over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from simulations._report import Row
from simulations.study.arms import ARMS

Values = NDArray[np.float64]
Differences = Mapping[str, Values]

LEVEL = 0.05
EXACT = 16  # differences up to which all signs are tried
DRAWS = 100_000  # of signs, where there are more differences
RESAMPLES = 2_000  # of points, for the interval of a rank correlation
# Arms that learn from no teacher: their cells name the one that knows the family.
WITHOUT_TEACHER = tuple(name for name, arm in ARMS.items() if not arm.taught)
GAIN, LOSS, NEITHER = "gain", "loss", "no difference shown"


@dataclass(frozen=True)
class Interval:
    """A mean with the interval that holds the true one with the stated confidence.

    `error` is its standard error, `degrees` the degrees of freedom, `pairs` the number
    of differences, `families` that of families. What too few seeds leave open is nan.
    """

    mean: float
    low: float
    high: float
    error: float
    degrees: float
    pairs: int
    families: int


@dataclass(frozen=True)
class Correlation:
    """Pearson's r and Spearman's ρ of `points` pairs, with their 95 % intervals."""

    pearson: float
    pearson_low: float
    pearson_high: float
    spearman: float
    spearman_low: float
    spearman_high: float
    points: int


def own_teachers(rows: Iterable[Row]) -> dict[str, str]:
    """Return the teacher that knows each family: that named by arms without one.

    Where none of these is recorded, it is the only teacher that the family's cells
    name; with several of them the family is left out.
    """
    named: dict[str, set[str]] = {}
    without: dict[str, str] = {}
    for row in rows:
        named.setdefault(row["family"], set()).add(row["teacher"])
        if row["arm"] in WITHOUT_TEACHER:
            without[row["family"]] = row["teacher"]
    only = {family: min(t) for family, t in named.items() if len(t) == 1}
    return only | without


def accuracies(
    rows: Sequence[Row], arm: str, teacher: str | None = None
) -> dict[tuple[str, int], float]:
    """Return an arm's accuracy by (family, seed), whatever the stage but tuning.

    Of the cells that learnt from `teacher`, by default the one that knows the family.
    Cells without an accuracy count as missing.

    Raises
    ------
    ValueError
        If one cell has two accuracies.
    """
    found: dict[tuple[str, int], float] = {}
    own = own_teachers(rows)
    for row in rows:
        if row["arm"] != arm or row["stage"] == "tuning" or not is_scored(row):
            continue
        family, seed = row["family"], row["seed"]
        wanted = own.get(family) if teacher is None else teacher
        if row["teacher"] != wanted:
            continue
        if found.setdefault((family, seed), row["accuracy"]) != row["accuracy"]:
            raise ValueError(
                f"{arm} on {family} with seed {seed} has two accuracies, "
                f"{found[family, seed]} and {row['accuracy']}."
            )
    return found


def is_scored(row: Row) -> bool:
    """Return whether a row has an accuracy."""
    value = row["accuracy"]
    return isinstance(value, int | float) and math.isfinite(value)


def paired(
    rows: Sequence[Row],
    arm: str,
    against: str,
    families: Iterable[str] | None = None,
    teacher: str | None = None,
) -> dict[str, Values]:
    """Return d_fs = accuracy of `arm` − accuracy of `against`, by family over seeds.

    Only pairs (f, s) that both arms have count, in ascending order of seeds; families
    without one are left out. `teacher` is that of both arms, of those that have one
    (`accuracies`).
    """
    ours, theirs = (
        accuracies(rows, name, None if name in WITHOUT_TEACHER else teacher)
        for name in (arm, against)
    )
    common = sorted(ours.keys() & theirs.keys())
    wanted = dict.fromkeys(f for f, _ in common) if families is None else families
    found = {
        family: np.array([ours[c] - theirs[c] for c in common if c[0] == family])
        for family in wanted
    }
    return {family: d for family, d in found.items() if len(d)}


def transfer_gains(rows: Sequence[Row], arm: str, against: str) -> list[Row]:
    """Return the mean gain of `arm` by family and teacher, with its range over seeds.

    An interval of two seeds would be wider than the axis.
    """
    asked = {
        (row["family"], row["teacher"])
        for row in rows
        if row["arm"] == arm and row["stage"] != "tuning"
    }
    gains = []
    for family, teacher in sorted(asked):
        differences = paired(rows, arm, against, [family], teacher)
        if differences:
            over_seeds = differences[family]
            gains.append(
                {
                    "family": family,
                    "teacher": teacher,
                    "gain": float(over_seeds.mean()),
                    "least": float(over_seeds.min()),
                    "most": float(over_seeds.max()),
                    "pairs": len(over_seeds),
                }
            )
    return gains


def interval(differences: Differences, level: float = LEVEL) -> Interval:
    """Return the mean over families of the family means, with its t-interval.

    With n_f differences of mean d_f and sample variance v_f in each of F families:

        mean = Σ_f d_f / F,    error² = Σ_f v_f / n_f / F²,

        degrees = (Σ_f v_f / n_f)² / Σ_f (v_f / n_f)² / (n_f − 1),

    and the interval is mean ± t · error, t the (1 − level / 2) quantile of Student's t
    (Welch and Satterthwaite). The families are fixed: the error is that over seeds
    within families, and nothing is said of families that were not tried. Of one family
    it is the usual t-interval of a mean. A family with one seed has no variance: then
    only the mean is a number.
    """
    groups = list(differences.values())
    pairs, F = sum(map(len, groups)), len(groups)
    if not groups:
        return Interval(*[math.nan] * 5, pairs, F)
    mean = float(np.mean([d.mean() for d in groups]))
    if min(map(len, groups)) < 2:
        return Interval(mean, *[math.nan] * 4, pairs, F)
    free = np.array([len(d) - 1 for d in groups])
    # In units of the largest, so that squares of the tiniest do not vanish.
    variances = np.array([d.var(ddof=1) / len(d) for d in groups])
    shares = variances / variances.max() if variances.any() else np.ones(F)
    degrees = float(shares.sum() ** 2 / (shares**2 / free).sum())
    error = math.sqrt(variances.sum()) / F
    half = float(stats.t.ppf(1 - level / 2, degrees)) * error
    return Interval(mean, mean - half, mean + half, error, degrees, pairs, F)


def verdict(found: Interval) -> str:
    """Return "gain" or "loss" where the whole interval is above or below zero."""
    if found.low > 0:
        return GAIN
    return LOSS if found.high < 0 else NEITHER


def permutation_p(differences: Differences, draws: int = DRAWS, seed: int = 0) -> float:
    """Return the two-sided p-value of the paired sign-flip permutation test.

    Under the null hypothesis the two accuracies of a pair could be exchanged, so that
    every sign of every difference is as likely as the other. With the statistic

        T(s) = |Σ_f Σ_i s_fi · d_fi / n_f| / F,

    p is the share of the 2ⁿ signs s with T(s) ≥ T(1) where there are at most 16
    differences in all, else (1 + the number of such draws) / (1 + draws).
    """
    groups = list(differences.values())
    if not groups:
        return math.nan
    terms = np.concatenate([d / (len(d) * len(groups)) for d in groups])
    # What counts as equal in spite of the rounding of sums.
    least = abs(terms.sum()) - 1e-12 * np.abs(terms).sum()
    n = len(terms)
    if n <= EXACT:
        signs = 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
        return float(np.mean(np.abs(signs @ terms) >= least))
    rng = np.random.default_rng(seed)
    reached, chunk = 0, 10_000
    for first in range(0, draws, chunk):
        size = (min(chunk, draws - first), n)
        signs = 1 - 2 * rng.integers(0, 2, size, dtype=np.int8)
        reached += int(np.count_nonzero(np.abs(signs @ terms) >= least))
    return (1 + reached) / (1 + draws)


def holm(p_values: ArrayLike) -> Values:
    """Return Holm's step-down adjusted p-values, in the order given.

    Of m p-values in ascending order, the i-th becomes max_{j ≤ i} min(1, (m − j + 1)
    p_j). Those that are nan stay so and do not count.
    """
    given = np.asarray(p_values, dtype=float)
    adjusted = np.full(given.shape, math.nan)
    (known,) = np.nonzero(~np.isnan(given))
    order = known[np.argsort(given[known], kind="stable")]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.maximum.accumulate(np.minimum(1, factors * given[order]))
    return adjusted


def half_width(deviation: float, seeds: int, level: float = LEVEL) -> float:
    """Return t · deviation / √seeds, half the width of the interval of a mean."""
    t = stats.t.ppf(1 - level / 2, seeds - 1)
    return float(t * deviation / math.sqrt(seeds))


def power(
    deviation: float, seeds: float, level: float = LEVEL, power: float = 0.8
) -> float:
    """Return the smallest true mean difference that a paired t-test resolves.

    It is δ · deviation / √seeds, where a noncentral t with ν = seeds − 1 degrees of
    freedom and noncentrality δ leaves ±t, t the (1 − level / 2) quantile of Student's
    t, with probability `power`: the test then finds the difference so often.
    """
    nu = seeds - 1
    t = stats.t.ppf(1 - level / 2, nu)

    def lacking(delta: float) -> float:
        # The other side is below Φ(−6) from δ = 6 on, where scipy returns nan for it.
        other = stats.nct.cdf(-t, nu, delta) if delta < 6 else 0.0
        return float(stats.nct.sf(t, nu, delta) + other) - power

    # At δ = t the test finds about half; few degrees of freedom need many times that.
    high = float(t)
    while lacking(high) < 0:
        high *= 2
    delta = optimize.brentq(lacking, 0.0, high)
    return float(delta * deviation / math.sqrt(seeds))


def correlation(
    x: ArrayLike, y: ArrayLike, level: float = LEVEL, seed: int = 0
) -> Correlation:
    """Return Pearson's and Spearman's correlation, with intervals.

    Pearson's is tanh(artanh r ± z / √(n − 3)), z the normal quantile (Fisher);
    Spearman's is between quantiles of ρ over pairs drawn again with replacement. Pairs
    that are not finite are left out. Fewer than three, or a constant coordinate, leave
    nan; fewer than four leave the intervals nan.
    """
    points = np.column_stack([np.asarray(x, float), np.asarray(y, float)])
    points = points[np.isfinite(points).all(1)]
    n = len(points)
    if n < 3 or (points == points[0]).all(0).any():
        return Correlation(*[math.nan] * 6, n)
    r = float(_pearson(*points.T[:, None])[0])
    rho = float(_pearson(*stats.rankdata(points, axis=0).T[:, None])[0])
    ends = [math.nan] * 2
    between = [math.nan] * 2
    if n > 3:
        half = stats.norm.ppf(1 - level / 2) / math.sqrt(n - 3)
        ends = [r] * 2
        if abs(r) < 1:
            ends = [math.tanh(math.atanh(r) + sign * half) for sign in (-1, 1)]
        drawn = _resampled(points, seed)
        between = np.quantile(drawn, [level / 2, 1 - level / 2]).tolist()
    return Correlation(r, *ends, rho, *between, n)


def _pearson(x: Values, y: Values) -> Values:
    """Correlations of the rows of x with those of y."""
    x, y = (v - v.mean(1, keepdims=True) for v in (x, y))
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
    return np.clip((x * y).sum(1), -1, 1)


def _resampled(points: Values, seed: int) -> Values:
    """Spearman's ρ of pairs drawn again; draws with a constant coordinate are left."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(RESAMPLES // 100):
        drawn = points[rng.integers(0, len(points), (100, len(points)))]
        varies = (drawn != drawn[:, :1]).any(1).all(1)
        x, y = np.moveaxis(stats.rankdata(drawn[varies], axis=1), 2, 0)
        found.append(_pearson(x, y))
    return np.concatenate(found)
