"""Plans with free marginals: against POT's from one start, and what they recover.

Random pairs of 5 to 20 atoms of unlike numbers, with weights that are not uniform:
Euclidean clouds, and symmetric matrices of random entries, of which every fifth has an
atom whose values are all 0. Partial plans of masses from 1e-3 to 1, and unbalanced ones
at prices from 1e-3 to 1e6; and all three with features, of shares α of 0.3, 0.5 and
0.8. POT and gwtools begin at the product plan; the default, a few starts, is recorded
beside. Then graphs of three blocks, partitioned by semi-relaxed
plans from one random start; and points of which some are replaced by outliers far away:
partial plans of the inliers' mass are to match these to their copies.

    python -m simulations.free_marginals --out DIR [--quick] [--seed S]

writes trials.csv (one row a case, as soon as it is finished: an interrupted run
resumes), summary.csv, meta.json and free_marginals.md.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import numpy.typing as npt
import ot
from scipy.spatial.distance import cdist
from scipy.special import kl_div
from sklearn.metrics import adjusted_rand_score
from tqdm import tqdm

import gwtools as gw
from simulations import _report as report
from simulations._report import Row

Numbers = npt.NDArray[Any]

CASES, QUICK_CASES = 50, 3
FAMILIES = ("clouds", "random matrices")
PLAIN = ("semi_relaxed", "partial", "unbalanced")
FUSED = "fused "  # in front of the kinds with features
KINDS = (*PLAIN, *(FUSED + kind for kind in PLAIN))
SHARES = (0.3, 0.5, 0.8)  # α, one after another, by the seed
RHOS = tuple(10.0**power for power in range(-3, 7))  # one after another, by the seed
BLOCKS = "graphs of 3 blocks"
BLOCK_CASES = 10
# Points, and outliers among them.
OUTLIERS = ((36, 6), (180, 30))
OUTLIER_CASES = 5
EQUAL, CLOSE = 1e-6, 1e-3  # by which objectives may differ, relative to POT's
RANDS = ("rand_pot", "rand_single", "rand_default")
UNITS = {
    "pot, single, default": "objective of the plan, squared units of C: of POT's, of "
    "gwtools' from the same start, of gwtools' from a few starts",
    "seconds": "of each call; gwtools' with its certificate",
    "rand": "adjusted Rand index of the blocks, of the same plans",
    "matched": "share of the inliers that go to their copies",
}
NOTES = """\
- pot, single, default: the mean objective of POT's plan, of `gwtools.solve` by \
`ConditionalGradient(init=...)` from the same
  start, and of the default's; objectives are computed from the plans alone.
- not above: the share of cases whose objective is at most POT's, up to 1e-6 of it; \
close: up to 1e-3.
- unbalanced: prices 1e-3, 1e-2, … 1e6; the objective with KL(p⊗p | a⊗a), which \
`ot.gromov.fused_unbalanced_gromov_wasserstein` without
  entropy has too, of the better one of its two plans. Where POT raises for NaN (pot \
failed), the case is in no other number.
- fused: (1 - α) <M, π> + α times the distortion in its place, \
random costs M in [0, 1]; POT's unbalanced
  function takes (1 - α)/α as its alpha, and the price divided by α. Seconds of these \
cases are those of a busy machine.
- rand: the mean adjusted Rand index of the blocks that the plans send to one node each.
- matched: the mean, and the least, share of the inliers that go to their copies."""


class Pair(NamedTuple):
    """Two matrices with weights, the mass of a partial plan, and the price rho.

    And costs M between the atoms, where there are any, with the share alpha.
    """

    C: Numbers
    a: Numbers
    D: Numbers
    b: Numbers
    mass: float
    rho: float
    features: Numbers | None = None
    alpha: float = 1.0


def with_features(pair: Pair, seed: int) -> Pair:
    """Return a pair with random costs between the atoms, of another seed."""
    rng = np.random.default_rng([seed, 1])
    features = rng.random((len(pair.a), len(pair.b)))
    return pair._replace(features=features, alpha=SHARES[seed % len(SHARES)])


def draw(family: str, seed: int) -> Pair:
    """Draw a pair of 5 to 20 atoms, of unlike numbers."""
    rng = np.random.default_rng(seed)
    n, m = rng.choice(np.arange(5, 21), 2, replace=False)
    if family == "clouds":
        points, others = rng.standard_normal((n, 2)), rng.standard_normal((m, 3))
        C, D = cdist(points, points), cdist(others, others)
    else:
        C, D = (_symmetric(rng, k) for k in (n, m))
        if seed % 5 == 0:
            for matrix in (C, D):
                matrix[0, :] = matrix[:, 0] = 0.0
    a, b = (rng.dirichlet(np.full(k, 3.0)) for k in (n, m))
    mass = 10 ** rng.uniform(-3.0, 0.0)
    return Pair(C, a, D, b, mass, RHOS[seed % len(RHOS)])


def _symmetric(rng: np.random.Generator, k: int) -> Numbers:
    """Return a symmetric matrix of random entries with zeros on its diagonal."""
    entries = rng.random((k, k))
    matrix: Numbers = entries + entries.T
    np.fill_diagonal(matrix, 0.0)
    return matrix


def objective(pair: Pair, plan: Numbers) -> float:
    """Return Σ (C_ik − D_jl)² π_ij π_kl from the marginals of a plan.

    With features its share, and that of their mean.
    """
    p, q = plan.sum(axis=1), plan.sum(axis=0)
    squares = p @ pair.C**2 @ p + q @ pair.D**2 @ q
    distortion = float(squares - 2 * np.vdot(plan, pair.C @ plan @ pair.D))
    if pair.features is None:
        return distortion
    linear = float(np.vdot(pair.features, plan))
    return (1 - pair.alpha) * linear + pair.alpha * distortion


def unbalanced_objective(pair: Pair, plan: Numbers) -> float:
    """Return the objective with the price of KL(p⊗p | a⊗a) and KL(q⊗q | b⊗b)."""
    penalties = _divergence(plan.sum(axis=1), pair.a)
    penalties += _divergence(plan.sum(axis=0), pair.b)
    return objective(pair, plan) + pair.rho * penalties


def _divergence(p: Numbers, a: Numbers) -> float:
    """Return KL(p⊗p | a⊗a) as a sum over pairs."""
    masses, weights = np.outer(p, p), np.outer(a, a)
    return float(kl_div(masses, weights).sum())


def pot_plan(pair: Pair, kind: str, start: Numbers) -> Numbers | None:
    """Return POT's plan from a start; None where it finds none."""
    if kind.endswith("unbalanced"):
        return _pot_unbalanced(pair, start)
    if pair.features is not None:
        return _pot_fused(pair, kind, start)
    if kind == "semi_relaxed":
        plan = ot.gromov.semirelaxed_gromov_wasserstein(
            pair.C, pair.D, pair.a, symmetric=True, G0=start, tol_rel=1e-12
        )
    else:
        plan = ot.gromov.partial_gromov_wasserstein(
            pair.C,
            pair.D,
            pair.a,
            pair.b,
            m=pair.mass,
            G0=start,
            symmetric=True,
            numItermax=10_000,
            tol=1e-12,
        )
    return np.asarray(plan)


def _pot_fused(pair: Pair, kind: str, start: Numbers) -> Numbers:
    """Return POT's semi-relaxed or partial plan with features."""
    if kind.endswith("semi_relaxed"):
        plan = ot.gromov.semirelaxed_fused_gromov_wasserstein(
            pair.features,
            pair.C,
            pair.D,
            pair.a,
            symmetric=True,
            alpha=pair.alpha,
            G0=start,
            tol_rel=1e-12,
        )
    else:
        plan = ot.gromov.partial_fused_gromov_wasserstein(
            pair.features,
            pair.C,
            pair.D,
            pair.a,
            pair.b,
            m=pair.mass,
            alpha=pair.alpha,
            G0=start,
            symmetric=True,
            numItermax=10_000,
            tol=1e-12,
        )
    return np.asarray(plan)


def _pot_unbalanced(pair: Pair, start: Numbers) -> Numbers | None:
    """Return the better one of POT's two plans; None where it raises for NaN."""
    # Its objective is that of gwtools divided by α.
    linear = {}
    if pair.features is not None:
        linear = {"M": pair.features, "alpha": (1 - pair.alpha) / pair.alpha}
    rho = pair.rho / pair.alpha
    try:
        with warnings.catch_warnings():
            # Of divisions, and of iterations that run out.
            warnings.simplefilter("ignore")
            plans = ot.gromov.fused_unbalanced_gromov_wasserstein(
                pair.C,
                pair.D,
                pair.a,
                pair.b,
                rho,
                epsilon=0,
                init_pi=start,
                **linear,
            )
    except ValueError:
        return None
    found = [np.asarray(plan) for plan in plans]
    return min(found, key=lambda plan: unbalanced_objective(pair, plan))


def setting(pair: Pair, kind: str) -> tuple[Any, Numbers]:
    """Return the marginals, and the product plan to start from."""
    if kind.endswith("semi_relaxed"):
        return "semi_relaxed", np.outer(pair.a, np.full(len(pair.b), 1 / len(pair.b)))
    product = np.outer(pair.a, pair.b)
    if kind.endswith("partial"):
        return gw.Partial(pair.mass), pair.mass * product
    return gw.Unbalanced(pair.rho), product


def compare(family: str, kind: str, seed: int) -> Row:
    """Solve one pair by POT and by gwtools from one start, and by the default."""
    pair = draw(family, seed)
    if kind.startswith(FUSED):
        pair = with_features(pair, seed)
    marginals, start = setting(pair, kind)
    plans, seconds = solved(pair, kind, marginals, start)
    measured = unbalanced_objective if kind.endswith("unbalanced") else objective
    found = {
        name: "" if plan is None else measured(pair, plan)
        for name, plan in plans.items()
    }
    return found | seconds | {"matched": ""} | dict.fromkeys(RANDS, "")


def solved(
    pair: Pair, kind: str, marginals: Any, start: Numbers
) -> tuple[dict[str, Numbers | None], dict[str, float]]:
    """Return the plans of POT, of gwtools from the same start and of its default.

    And the seconds that each took.
    """
    x, y = gw.DenseSpace(pair.C, pair.a), gw.DenseSpace(pair.D, pair.b)
    began = time.perf_counter()
    plans = {"pot": pot_plan(pair, kind, start)}
    seconds = {"seconds_pot": time.perf_counter() - began}
    solvers = {"single": gw.ConditionalGradient(init=start), "default": None}
    given: dict[str, Any] = {"marginals": marginals}
    if pair.features is not None:
        given |= {"features": pair.features, "alpha": pair.alpha}
    for name, solver in solvers.items():
        began = time.perf_counter()
        result = gw.solve(x, y, solver, **given)
        seconds[f"seconds_{name}"] = time.perf_counter() - began
        plans[name] = np.asarray(result.plan)
    return plans, seconds


def partition(seed: int) -> Row:
    """Send the nodes of a graph of three blocks to a template of three nodes."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(20, 31, 3)
    chances = np.full((3, 3), 0.1) + 0.3 * np.eye(3)
    graph = nx.stochastic_block_model(sizes, chances, seed=seed)
    C = nx.to_numpy_array(graph)
    n = len(C)
    blocks = np.repeat(np.arange(3), sizes)
    pair = Pair(C, np.full(n, 1 / n), chances, np.full(3, 1 / 3), 1.0, 1.0)
    start = rng.dirichlet(np.ones(3), n) / n
    plans, seconds = solved(pair, "semi_relaxed", "semi_relaxed", start)
    row: Row = {}
    for name, plan in plans.items():
        assert plan is not None
        row[name] = objective(pair, plan)
        row[f"rand_{name}"] = float(adjusted_rand_score(blocks, plan.argmax(axis=1)))
    ordered = {name: row[name] for name in ("pot", "single", "default")}
    rands = {name: row[name] for name in RANDS}
    return ordered | seconds | {"matched": ""} | rands


def recover(n: int, count: int, seed: int) -> Row:
    """Match points to copies of which some are outliers far away, in another order."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n, 2))
    others = points.copy()
    outliers = rng.choice(n, count, replace=False)
    others[outliers] = 20 + 5 * rng.standard_normal((count, 2))
    order = rng.permutation(n)
    x, y = gw.PointCloud(points), gw.PointCloud(others[order])
    began = time.perf_counter()
    result = gw.solve(x, y, marginals=gw.Partial((n - count) / n))
    seconds = time.perf_counter() - began
    image = {i: order[j] for i, j, _ in result.matching()}
    inliers = np.setdiff1d(np.arange(n), outliers)
    matched = np.mean([image.get(i) == i for i in inliers])
    return {
        "pot": "",
        "single": "",
        "default": float(result.objective),
        "seconds_pot": "",
        "seconds_single": "",
        "seconds_default": seconds,
        "matched": float(matched),
    } | dict.fromkeys(RANDS, "")


def cases(first: int, quick: bool) -> list[tuple[str, str, int]]:
    """Return family, kind and seed of all cases."""
    count = QUICK_CASES if quick else CASES
    listed = [
        (family, kind, first + seed)
        for family in FAMILIES
        for kind in KINDS
        for seed in range(count)
    ]
    blocks = 1 if quick else BLOCK_CASES
    listed += [(BLOCKS, "semi_relaxed", first + seed) for seed in range(blocks)]
    sizes = OUTLIERS[:1] if quick else OUTLIERS
    seeds = 1 if quick else OUTLIER_CASES
    for n, outliers in sizes:
        family = f"{outliers} of {n} points are outliers"
        listed += [(family, "partial", first + seed) for seed in range(seeds)]
    return listed


def measure(family: str, kind: str, seed: int) -> Row:
    """Run one case."""
    row: Row = {"family": family, "kind": kind, "seed": seed}
    if family in FAMILIES:
        return row | compare(family, kind, seed)
    if family == BLOCKS:
        return row | partition(seed)
    count, n = (int(word) for word in family.split() if word.isdigit())
    return row | recover(n, count, seed)


def run(folder: Path, first: int, quick: bool) -> None:
    """Run the cases that the folder does not hold yet."""
    path = folder / "trials.csv"
    done = {
        (row["family"], row["kind"], row["seed"]) for row in report.resume_rows(path)
    }
    pending = [case for case in cases(first, quick) if case not in done]
    facts: dict[str, Any] = {"seed": first, "units": UNITS}
    # Finished results may be summarised under other versions, but never be mixed with
    # new ones.
    report.claim(folder, facts | {"versions": report.versions()} if pending else facts)
    for case in tqdm(pending, unit="case", disable=not pending):
        report.append_row(path, measure(*case))


def summarise(trials: Sequence[Row]) -> list[Row]:
    """Return one row for each family and kind."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for trial in trials:
        groups.setdefault((trial["family"], trial["kind"]), []).append(trial)
    return [_summary(*key, group) for key, group in groups.items()]


def _summary(family: str, kind: str, group: Sequence[Row]) -> Row:
    """Return the means of one family and kind, and who is not above POT."""
    row: Row = {"family": family, "kind": kind, "cases": len(group)}
    names = ("pot", "single", "default")
    compared = [trial for trial in group if trial["pot"] != ""]
    row["pot_failed"] = len(group) - len(compared) if compared else ""
    for name in names:
        row[name] = _mean([trial[name] for trial in compared or group])
    for name in names[1:]:
        row[f"{name}_not_above"] = _share_within(compared, name, EQUAL)
    row["default_close"] = _share_within(compared, "default", CLOSE)
    for name in RANDS:
        row[name] = _mean([trial[name] for trial in group])
    matched = [trial["matched"] for trial in group if trial["matched"] != ""]
    row["matched"] = _mean(matched)
    row["least_matched"] = min(matched) if matched else ""
    for name in names:
        row[f"seconds_{name}"] = _mean([trial[f"seconds_{name}"] for trial in group])
    return row


def _share_within(trials: Sequence[Row], name: str, share: float) -> float | str:
    """Return the share of trials that are not above POT by more than a share."""
    return _mean(
        [trial[name] <= trial["pot"] * (1 + share) + 1e-15 for trial in trials]
    )


def _mean(values: Sequence[Any]) -> float | str:
    """Return the mean of the numbers; empty where there are none."""
    numbers = [value for value in values if value != ""]
    return float(np.mean(numbers)) if numbers else ""


def table(summary: Sequence[Row]) -> str:
    """Lay the families and kinds out."""
    header = list(summary[0])
    rows = [
        [
            f"{value:.4g}" if isinstance(value, float) else value
            for value in row.values()
        ]
        for row in summary
    ]
    return report.markdown_table([name.replace("_", " ") for name in header], rows)


def _shown(value: Any) -> Any:
    """Write a number with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else value


def publish(folder: Path) -> None:
    """Write the summary, as numbers and as a table with its notes."""
    summary = summarise(report.read_rows(folder / "trials.csv"))
    report.write_rows(folder / "summary.csv", summary)
    text = table(summary)
    page = f"# Free marginals against POT\n\n{text}\n\n{NOTES}\n"
    (folder / "free_marginals.md").write_text(page)
    print(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not finished, and publish all of it."""
    arguments = report.command_line(__doc__).parse_args(argv)
    folder = report.results_folder(arguments)
    started = partial(run, folder, arguments.seed, arguments.quick)
    return report.run_and_publish(folder, started, publish)


if __name__ == "__main__":
    sys.exit(main())
