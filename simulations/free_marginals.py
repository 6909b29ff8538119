"""Plans with free marginals: against POT's from one start, and what they recover.

Random pairs of 5 to 20 atoms of unlike numbers, with weights that are not uniform:
Euclidean clouds, and symmetric matrices of random entries. POT and gwtools begin at the
product plan; the default, a few starts, is recorded beside. Then points of which some
are replaced by outliers far away: partial plans of the inliers' mass are to match these
to their copies.

    python -m simulations.free_marginals --out DIR [--quick] [--seed S]

writes trials.csv (one row a case, as soon as it is finished: an interrupted run
resumes), summary.csv, meta.json and free_marginals.md.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import ot
from scipy.spatial.distance import cdist
from tqdm import tqdm

import gwtools as gw
from simulations import _report as report
from simulations._report import Row

Numbers = npt.NDArray[Any]

CASES, QUICK_CASES = 40, 3
FAMILIES = ("clouds", "random matrices")
KINDS = ("semi_relaxed", "partial")
# Points, and outliers among them.
OUTLIERS = ((36, 6), (180, 30))
OUTLIER_CASES = 5
EQUAL = 1e-6  # by which objectives may differ, relative to POT's
UNITS = {
    "pot, single, default": "objective of the plan, squared units of C: of POT's, of "
    "gwtools' from the same start, of gwtools' from a few starts",
    "seconds": "of each call; gwtools' with its certificate",
    "matched": "share of the inliers that go to their copies",
}
NOTES = """\
- pot, single, default: the mean objective of POT's plan, of `gwtools.solve` by \
`ConditionalGradient(init=...)` from the same
  start, and of the default's; objectives are computed from the plans alone.
- not above: the share of cases whose objective is at most POT's, up to 1e-6 of it.
- matched: the mean, and the least, share of the inliers that go to their copies."""


class Pair(NamedTuple):
    """Two matrices with weights, and the mass that a partial plan moves."""

    C: Numbers
    a: Numbers
    D: Numbers
    b: Numbers
    mass: float


def draw(family: str, seed: int) -> Pair:
    """Draw a pair of 5 to 20 atoms, of unlike numbers."""
    rng = np.random.default_rng(seed)
    n, m = rng.choice(np.arange(5, 21), 2, replace=False)
    if family == "clouds":
        points, others = rng.standard_normal((n, 2)), rng.standard_normal((m, 3))
        C, D = cdist(points, points), cdist(others, others)
    else:
        C, D = (_symmetric(rng, k) for k in (n, m))
    a, b = (rng.dirichlet(np.full(k, 3.0)) for k in (n, m))
    return Pair(C, a, D, b, rng.uniform(0.3, 0.95))


def _symmetric(rng: np.random.Generator, k: int) -> Numbers:
    """Return a symmetric matrix of random entries with zeros on its diagonal."""
    entries = rng.random((k, k))
    matrix: Numbers = entries + entries.T
    np.fill_diagonal(matrix, 0.0)
    return matrix


def objective(pair: Pair, plan: Numbers) -> float:
    """Return Σ (C_ik − D_jl)² π_ij π_kl from the marginals of a plan."""
    p, q = plan.sum(axis=1), plan.sum(axis=0)
    squares = p @ pair.C**2 @ p + q @ pair.D**2 @ q
    return float(squares - 2 * np.vdot(plan, pair.C @ plan @ pair.D))


def pot_plan(pair: Pair, kind: str, start: Numbers) -> Numbers:
    """Return POT's plan from a start."""
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


def compare(family: str, kind: str, seed: int) -> Row:
    """Solve one pair by POT and by gwtools from one start, and by the default."""
    pair = draw(family, seed)
    if kind == "semi_relaxed":
        marginals: Any = kind
        start = np.outer(pair.a, np.full(len(pair.b), 1 / len(pair.b)))
    else:
        marginals = gw.Partial(pair.mass)
        start = pair.mass * np.outer(pair.a, pair.b)
    x, y = gw.DenseSpace(pair.C, pair.a), gw.DenseSpace(pair.D, pair.b)
    began = time.perf_counter()
    plans = {"pot": pot_plan(pair, kind, start)}
    seconds = {"pot": time.perf_counter() - began}
    solvers = {"single": gw.ConditionalGradient(init=start), "default": None}
    for name, solver in solvers.items():
        began = time.perf_counter()
        result = gw.solve(x, y, solver, marginals=marginals)
        seconds[name] = time.perf_counter() - began
        plans[name] = np.asarray(result.plan)
    found = {name: objective(pair, plan) for name, plan in plans.items()}
    times = {f"seconds_{name}": value for name, value in seconds.items()}
    return found | times | {"matched": ""}


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
    }


def cases(first: int, quick: bool) -> list[tuple[str, str, int]]:
    """Return family, kind and seed of all cases."""
    count = QUICK_CASES if quick else CASES
    listed = [
        (family, kind, first + seed)
        for family in FAMILIES
        for kind in KINDS
        for seed in range(count)
    ]
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
    for name in names:
        row[name] = _mean([trial[name] for trial in group])
    for name in names[1:]:
        row[f"{name}_not_above"] = _mean(
            [
                trial[name] <= trial["pot"] * (1 + EQUAL) + 1e-15
                for trial in group
                if trial["pot"] != ""
            ]
        )
    matched = [trial["matched"] for trial in group if trial["matched"] != ""]
    row["matched"] = _mean(matched)
    row["least_matched"] = min(matched) if matched else ""
    for name in names:
        row[f"seconds_{name}"] = _mean([trial[f"seconds_{name}"] for trial in group])
    return row


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
