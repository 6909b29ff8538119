"""Barycenters against POT's from the same start, plain and fused.

Random lists of two to four spaces of 4 to 12 atoms with weights that are not uniform:
Euclidean clouds, squared distances and random symmetric matrices, with features of two
coordinates where they are fused; the shares of the spaces and the weights of the
barycenter's atoms are random, too. POT and gwtools begin at the same matrix, and the
same features. Objectives are computed here, from the barycenter and the plans.

    python -m simulations.barycenters --out DIR [--quick] [--seed S] [--cases K]

writes trials.csv (one row a list, as soon as it is finished: an interrupted run
resumes), summary.csv, meta.json and barycenters.md.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import ot

import gwtools as gw
from gwtools.block_descent import Task, minimised
from simulations import _report as report
from simulations._report import Row

Numbers = npt.NDArray[Any]

CASES, QUICK_CASES = 100, 5  # of plain and of fused lists each
SHARES = (0.0, 0.1, 0.5, 0.9, 1.0)
KINDS = ("euclidean", "sqeuclidean", "dense")
FEWEST, MOST = 4, 12  # atoms of a space, and of the barycenter
EQUAL = 1e-6  # by which objectives may differ, relative to POT's
UNITS = {
    "pot, one, given": "sum over the spaces of share times ((1 - alpha) <M, pi> + "
    "alpha sum (B_ik - C_jl)^2 pi_ij pi_kl) of POT's barycenter and plans, of one "
    "descent's from the same start, of barycenter's with that start",
    "lower": "of the interval of the last of these, in the same units",
    "seconds_...": "of the call, certificates included where there are any",
}
NOTES = """\
- pot: `ot.gromov.gromov_barycenters`, fused `ot.gromov.fgw_barycenters`, \
`max_iter=1000`, from a random start; one: the block descent of
  gwtools from that start alone; given: `gw.barycenter(init=start, \
solver=gw.ConditionalGradient())`, which begins at others, too.
- as good: objectives at most 1e-6 above POT's, relative to it; mean ratio: \
the mean of objective / POT's; worst: the largest.
- at its middle: objectives of one at most 1e-6 above POT's where one begins \
at POT's barycenter instead.
- proved: the mean of lower / objective of given; seconds: the median."""


class Case(NamedTuple):
    """Spaces with shares, a start and the share of the structure; None for plain."""

    kind: str
    spaces: list[gw.DenseSpace]
    shares: list[float]
    start: gw.DenseSpace
    alpha: float | None


def draw(seed: int, number: int, fused: bool) -> Case:
    """Draw a list; its kind and its share go round."""
    rng = np.random.default_rng([seed, number, fused])
    kind = KINDS[number % len(KINDS)]
    count = int(rng.integers(2, 5))
    sizes = rng.integers(FEWEST, MOST + 1, count + 1)
    drawn = [_matrix(kind, int(size), rng) for size in sizes]
    features: list[Numbers | None] = [None] * (count + 1)
    if fused:
        # Both terms are of one size, so that no share is as good as 0 or 1.
        spread = np.mean([matrix.std() for matrix in drawn])
        features = [spread * rng.standard_normal((int(n), 2)) for n in sizes]
    spaces = []
    for matrix, of_atoms in zip(drawn, features, strict=True):
        a = rng.uniform(0.2, 1.0, len(matrix))
        spaces.append(gw.DenseSpace(matrix, a / a.sum(), features=of_atoms))
    shares = rng.uniform(0.2, 1.0, count)
    alpha = SHARES[number % len(SHARES)] if fused else None
    return Case(kind, spaces[1:], list(shares / shares.sum()), spaces[0], alpha)


def _matrix(kind: str, size: int, rng: np.random.Generator) -> Numbers:
    if kind == "dense":
        values = rng.standard_normal((size, size))
        return np.asarray(values + values.T)
    points = rng.standard_normal((size, int(rng.integers(1, 4))))
    return np.asarray(ot.dist(points, points, metric=kind))


def objective(case: Case, middle: gw.DenseSpace, plans: Sequence[Numbers]) -> float:
    """Return the mean objective of plans between a barycenter and the spaces."""
    alpha = 1.0 if case.alpha is None else case.alpha
    total = 0.0
    for share, space, plan in zip(case.shares, case.spaces, plans, strict=True):
        rows, cols = plan.sum(axis=1), plan.sum(axis=0)
        B, C = middle.distances, space.distances
        squares = rows @ B**2 @ rows + cols @ C**2 @ cols
        value = alpha * (squares - 2 * np.sum((B @ plan @ C) * plan))
        if alpha < 1.0:
            costs = ot.dist(middle.features, space.features)
            value += (1 - alpha) * np.sum(costs * plan)
        total += share * value
    return float(total)


def by_pot(case: Case) -> tuple[gw.DenseSpace, list[Numbers]]:
    """Return POT's barycenter from the start, with its plans."""
    p = case.start.weights
    matrices = [space.distances for space in case.spaces]
    options: dict[str, Any] = {
        "ps": [space.weights for space in case.spaces],
        "p": p,
        "lambdas": case.shares,
        "max_iter": 1000,
        "init_C": case.start.distances,
        "log": True,
    }
    if case.alpha is None:
        B, log = ot.gromov.gromov_barycenters(len(p), matrices, **options)
        return gw.DenseSpace(_symmetric(B), p), log["T"]
    X, B, log = ot.gromov.fgw_barycenters(
        len(p),
        [space.features for space in case.spaces],
        matrices,
        alpha=case.alpha,
        init_X=case.start.features,
        **options,
    )
    return gw.DenseSpace(_symmetric(B), p, features=X), log["T"]


def _symmetric(matrix: Numbers) -> Numbers:
    """Return a matrix that float errors left a little asymmetric."""
    return (matrix + matrix.T) / 2


def by_one_descent(
    case: Case, start: gw.DenseSpace
) -> tuple[gw.DenseSpace, list[Numbers]]:
    """Return what the block descent of gwtools finds from a start alone."""
    descent = gw.ConditionalGradient()
    alpha = 1.0 if case.alpha is None else case.alpha
    task = Task(
        tuple(case.spaces),
        tuple(case.shares),
        start.weights,
        descent,
        descent,
        alpha,
    )
    state, _, _ = minimised(task, [start], 1000)
    return state.middle, [np.asarray(plan.dense()) for plan in state.plans]


def by_barycenter(case: Case) -> tuple[gw.Barycenter, list[Numbers]]:
    """Return the barycenter of the public function, with the start given."""
    found = gw.barycenter(
        case.spaces,
        case.shares,
        init=case.start,
        alpha=case.alpha,
        solver=gw.ConditionalGradient(),
    )
    return found, [np.asarray(plan.dense()) for plan in found.plans]


def measure(seed: int, trial: tuple[int, bool]) -> Row:
    """Compute the barycenter of one list, of a number and a kind, four times."""
    number, fused = trial
    case = draw(seed, number, fused)
    row: Row = {
        "fused": int(fused),
        "case": number,
        "kind": case.kind,
        "spaces": len(case.spaces),
        "atoms": case.start.size,
        "alpha": "" if case.alpha is None else case.alpha,
    }
    calls: dict[str, Callable[[], Any]] = {
        "pot": lambda: by_pot(case),
        "one": lambda: by_one_descent(case, case.start),
        "given": lambda: by_barycenter(case),
    }
    seconds = {}
    found = {}
    for name, call in calls.items():
        started = time.perf_counter()
        found[name] = call()
        seconds[f"seconds_{name}"] = time.perf_counter() - started
    result, plans = found["given"]
    found["given"] = (result.space, plans)
    found["after"] = by_one_descent(case, found["pot"][0])
    for name, (middle, of_middle) in found.items():
        row[name] = objective(case, middle, of_middle)
    return row | {"lower": result.interval[0]} | seconds


def summarise(trials: Sequence[Row]) -> list[Row]:
    """Return one row for plain lists, one for each share, and one for all fused."""
    groups: dict[str, list[Row]] = {"plain": [r for r in trials if not r["fused"]]}
    for share in SHARES:
        groups[f"fused, {share:g}"] = [r for r in trials if r["alpha"] == share]
    groups["fused, all"] = [r for r in trials if r["fused"]]
    rows = []
    for name, group in groups.items():
        if not group:
            continue
        summary: Row = {"lists": name, "count": len(group)}
        for column in ("one", "given", "after"):
            ratios = [row[column] / row["pot"] for row in group]
            summary |= {
                f"{column}_as_good": int(sum(r <= 1 + EQUAL for r in ratios)),
                f"{column}_mean_ratio": float(np.mean(ratios)),
                f"{column}_worst": float(np.max(ratios)),
            }
        proved = [row["lower"] / row["given"] for row in group]
        summary["proved"] = float(np.mean(proved))
        for column in ("pot", "one", "given"):
            seconds = [row[f"seconds_{column}"] for row in group]
            summary[f"seconds_{column}"] = float(np.median(seconds))
        rows.append(summary)
    return rows


def checks(trials: Sequence[Row]) -> str:
    """Say in sentences what the comparison came to."""
    sentences = []
    for fused, name in ((0, "plain"), (1, "fused")):
        group = [row for row in trials if row["fused"] == fused]
        if not group:
            continue
        pot = float(np.mean([row["pot"] for row in group]))
        for column, words in (("one", "One descent"), ("given", "barycenter")):
            good = sum(row[column] <= row["pot"] * (1 + EQUAL) for row in group)
            mean = float(np.mean([row[column] for row in group]))
            sentences.append(
                f"- {words} is at most {EQUAL:g} above POT on {good} of {len(group)} "
                f"{name} lists; mean objectives {mean:.6g} and {pot:.6g}."
            )
    return "\n".join(sentences)


def table(summary: Sequence[Row]) -> str:
    """Lay the groups out."""
    header = ["lists", "count"]
    for name in ("one", "given"):
        header += [f"{name}: as good", "mean ratio", "worst"]
    header += ["at its middle", "proved", "s, POT", "s, one", "s, given"]
    rows = []
    for row in summary:
        cells = [row["lists"], row["count"]]
        for name in ("one", "given"):
            cells.append(row[f"{name}_as_good"])
            cells.append(f"{row[f'{name}_mean_ratio']:.4f}")
            cells.append(f"{row[f'{name}_worst']:.4f}")
        cells += [row["after_as_good"], f"{row['proved']:.0%}"]
        cells += [f"{row[f'seconds_{name}']:.4f}" for name in ("pot", "one", "given")]
        rows.append(cells)
    return report.markdown_table(header, rows)


def publish(folder: Path) -> None:
    """Write the summary and the Markdown of all trials, and print the table."""
    trials = report.resume_rows(folder / "trials.csv")
    summary = summarise(trials)
    report.write_rows(folder / "summary.csv", summary)
    sections = [NOTES, "## Checks", checks(trials), "## Lists", table(summary)]
    text = "\n\n".join(sections)
    (folder / "barycenters.md").write_text(f"# Barycenters against POT\n\n{text}\n")
    print(text, f"Written to {folder}.", sep="\n\n")


def _trials(count: int) -> list[tuple[int, bool]]:
    """Return number and kind of all lists, plain ones first."""
    return [(number, fused) for fused in (False, True) for number in range(count)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not finished, and publish all of it."""
    comparison = report.Comparison(
        measure, publish, _trials, (CASES, QUICK_CASES), "cases", UNITS
    )
    return comparison.main(__doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
