"""What the default search is said to find, checked case by case.

Copies of graphs in another order are found to be copies; cycles of n against n + 1 are
solved as well as by 50 starts of POT; planted couplings are reached; quadratic
assignment problems are solved as well as by ten starts of SciPy's FAQ; distances of
curves obey the triangle inequality; and large pairs cost little more than a single
conditional gradient.

    python -m simulations.search_claims --out DIR [--quick] [--large]

writes trials.csv (one row a case, as soon as it is finished: an interrupted run
resumes), summary.csv, meta.json and search_claims.md. ``--large`` adds n = 5000, which
takes minutes.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
from scipy.spatial.distance import cdist
from tqdm import tqdm

import gwtools as gw
from simulations import _report as report
from simulations import hard_families, search_graphs, search_peers, search_qap
from simulations._report import Row
from simulations.gw_table import clouds
from simulations.hard_families import Numbers, Pair, paths
from simulations.search_families import planted_coupling, spaces

ZERO = 1e-9  # objectives of paths over edges of length 1 are exact up to this
ROUNDING = 1e-9  # by which equal objectives may differ
LAST_CYCLE, CURVES, CURVE_POINTS = 30, 16, 50
ATLAS_PAIRS, ATLAS_NODES = 100, 7
SLACK = 1e-6  # of triangle inequalities, in units of the largest distance
LARGE = {1000: 4.0, 5000: 2.0}  # times that of a single conditional gradient


class Measured(NamedTuple):
    """A value that is to be at most a limit, and a time over another one."""

    value: float
    limit: float
    ratio: float | str = ""


Check = Callable[[], Measured]
# What is claimed of every case, and of which share of the cases.
CLAIMS = {
    "relabelled": ("of itself and 10 copies above 0: none", 1.0),
    "atlas": (f"pairs of {ATLAS_PAIRS} above 0: none", 1.0),
    "hypercube": ("of itself and 3 copies above 0: none", 1.0),
    "binary tree": ("of itself and 3 copies above 0: none", 1.0),
    "named graph": ("of itself and 3 copies above 0: none", 1.0),
    "cycles": ("objective at most POT's best of 50 starts", 1.0),
    "planted": ("objective at most the planted coupling's", 1.0),
    "assignment": ("cost at most FAQ's best of 10 starts", 2 / 3),
    "assignment time": ("time over that of FAQ's 10 starts, at most 20", 1.0),
    "triangle": ("largest violation over the largest distance, at most 1e-6", 1.0),
    "large": ("time over a single conditional gradient's, at most 4 or 2", 1.0),
}


def objective(C: Numbers, D: Numbers) -> float:
    """Return GW_2² of the plan that the default search finds."""
    return float(gw.solve(C, D).objective)


def copies_above_zero(C: Numbers, seeds: Sequence[int]) -> Measured:
    """Count the copies, the space itself and shuffled ones, not found to be such."""
    orders = [np.arange(len(C))]
    orders += [np.random.default_rng(seed).permutation(len(C)) for seed in seeds]
    count = sum(objective(C, C[np.ix_(order, order)]) > ZERO for order in orders)
    return Measured(count, 0)


def atlas_above_zero(count: int) -> Measured:
    """Count the pairs of small graphs and their copies that are above 0."""
    atlas = [
        graph
        for graph in nx.graph_atlas_g()
        if len(graph) == ATLAS_NODES and nx.is_connected(graph)
    ]
    rng = np.random.default_rng(0)
    above = 0
    for chosen in rng.choice(len(atlas), count, replace=False):
        C = paths(atlas[chosen])
        order = rng.permutation(len(C))
        above += objective(C, C[np.ix_(order, order)]) > ZERO
    return Measured(above, 0)


def cycles(n: int) -> Measured:
    """Compare a cycle of n against one of n + 1 with the best of POT's starts."""
    C, D = (paths(nx.cycle_graph(k)) for k in (n, n + 1))
    pair = Pair(C, D, None)
    plan = search_peers.pot_best_of(pair, search_peers.STARTS, n)()
    return Measured(objective(C, D), search_peers.objective(pair, plan))


def planted(pair: Pair) -> Measured:
    """Compare what is found with the coupling that undoes the shuffle."""
    coupling = planted_coupling(pair)
    assert coupling is not None
    problem = gw.GWProblem(*spaces(pair))
    limit = float(problem.objective(gw.DensePlan(coupling)))
    return Measured(objective(pair.C, pair.D), limit)


def hexagons() -> Pair:
    """A slice of a hexagonal lattice against itself, turned by 40° and disturbed."""
    points = np.array(
        [(i + 0.5 * (j % 2), j * 0.866) for i in range(9) for j in range(8)]
    )
    rng = np.random.default_rng(0)
    order = rng.permutation(len(points))
    turn = np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
    others = (points @ turn)[order] + 0.02 * rng.standard_normal(points.shape)
    return Pair(cdist(points, points), cdist(others, others), order)


def curves(count: int, points: int) -> list[Numbers]:
    """Return distances along closed curves, by fours of nearly the same shape.

    A curve that is near another one is nearly as far from a third as this one is, which
    only couplings of one quality show.
    """
    rng = np.random.default_rng(0)
    waves = np.arange(1, 7)
    matrices = []
    for k in range(count):
        if k % 4 == 0:
            shape = rng.standard_normal((2, 6, 2)) / waves[:, None] ** 1.5
        change = 0.03 * rng.standard_normal((2, 6, 2)) / waves[:, None]
        cosines, sines = shape + change  # each (waves, 2)
        start = rng.random()
        phase = 2 * np.pi * (start + np.arange(points)[:, None] / points) * waves
        curve = np.cos(phase) @ cosines + np.sin(phase) @ sines  # (points, 2)
        matrices.append(cdist(curve, curve))
    return matrices


def triangle_violation(count: int, points: int) -> Measured:
    """Measure by how much distances of curves miss the triangle inequality."""
    matrices = curves(count, points)
    distances = np.zeros((count, count))
    for i, j in combinations(range(count), 2):
        distance = float(gw.solve(matrices[i], matrices[j]).distance)
        distances[i, j] = distances[j, i] = distance
    # Σ of the two sides over every third curve, (i, k, j).
    detours = distances[:, :, None] + distances[None, :, :]
    missed = float((distances - detours.min(axis=1)).max())
    return Measured(missed / float(distances.max()), SLACK)


def time_of_large(n: int, repeats: int, copy: bool) -> Measured:
    """Compare the time of the default with that of a single conditional gradient."""
    points, others = clouds(0, n, 0)
    if copy:
        rng = np.random.default_rng(0)
        noise = 0.1 * rng.standard_normal(points.shape)
        others = points[rng.permutation(n)] + noise
    C, D = cdist(points, points), cdist(others, others)
    seconds: dict[str, list[float]] = {"default": [], "single": []}
    solvers = {"default": None, "single": gw.ConditionalGradient()}
    for _ in range(repeats):
        for name, solver in solvers.items():
            start = time.process_time()  # other work of the machine does not count
            gw.solve(C, D, solver)
            seconds[name].append(time.process_time() - start)
    ratio = median(seconds["default"]) / median(seconds["single"])
    return Measured(ratio, LARGE.get(n, LARGE[1000]), ratio)


def cases(quick: bool, large: bool) -> dict[tuple[str, str], Check]:
    """Return every check under its claim and its name."""
    checks: dict[tuple[str, str], Check] = {}
    for claim, graphs in search_graphs.GRAPHS.items():
        seeds = range(10 if claim == "relabelled" else 3)
        for name, make in graphs.items():
            checks[claim, name] = partial(_of_graph, make, seeds)
    pairs = 10 if quick else ATLAS_PAIRS
    checks["atlas", f"{pairs} graphs of 7 nodes"] = partial(atlas_above_zero, pairs)
    for n in range(8, LAST_CYCLE + 1):
        checks["cycles", f"{n} against {n + 1}"] = partial(cycles, n)
    for family, seed in (
        ("grid 10x6, noise .02", 100),
        ("ellipse 1.3, noise .02", 100),
        ("ellipse 1.3, noise .02", 107),
    ):
        pair = hard_families.draw(family, seed)
        checks["planted", f"{family}, seed {seed}"] = partial(planted, pair)
    checks["planted", "hexagonal slice"] = lambda: planted(hexagons())
    for name, problem in search_qap.instances().items():
        checks["assignment", name] = partial(_of_assignment, problem)
    count, points = (5, 20) if quick else (CURVES, CURVE_POINTS)
    curve_check = partial(triangle_violation, count, points)
    checks["triangle", f"{count} curves of {points} points"] = curve_check
    sizes = [100] if quick else [1000, 5000] if large else [1000]
    for n in sizes:
        for copy in (False, True):
            name = f"n = {n}, " + ("a noisy copy" if copy else "normal clouds")
            repeats = 1 if n > 1000 else 3
            checks["large", name] = partial(time_of_large, n, repeats, copy)
    if quick:  # two cases a claim
        seen: dict[str, int] = {}
        for claim, name in list(checks):
            seen[claim] = seen.get(claim, 0) + 1
            if seen[claim] > 2:
                del checks[claim, name]
    return checks


def _of_graph(make: Callable[[], nx.Graph], seeds: Sequence[int]) -> Measured:
    return copies_above_zero(paths(make()), seeds)


def _of_assignment(problem: search_qap.Assignment) -> Measured:
    """Compare the costs; the times of both sides are kept as their ratio."""
    start = time.process_time()
    cost = problem.cost(search_qap.by_search(problem))
    middle = time.process_time()
    limit = problem.cost(search_qap.by_faq(problem))
    end = time.process_time()
    return Measured(cost, limit, (middle - start) / (end - middle))


def measure(claim: str, name: str, check: Check) -> Row:
    """Check one case."""
    start = time.process_time()
    value, limit, ratio = check()
    return {
        "claim": claim,
        "case": name,
        "value": float(value),
        "limit": float(limit),
        # Equal objectives may differ by rounding, also those near 0.
        "met": int(value <= limit + ROUNDING * max(1.0, abs(limit))),
        "ratio": ratio,
        "seconds": time.process_time() - start,
    }


def run(folder: Path, quick: bool, large: bool) -> None:
    """Check the cases that the folder does not hold yet."""
    path = folder / "trials.csv"
    done = {(row["claim"], row["case"]) for row in report.resume_rows(path)}
    checks = cases(quick, large)
    pending = [key for key in checks if key not in done]
    facts: dict[str, Any] = {"claims": {k: text for k, (text, _) in CLAIMS.items()}}
    # Finished results may be summarised under other versions, but never be mixed with
    # new ones.
    report.claim(folder, facts | {"versions": report.versions()} if pending else facts)
    if done:
        print(
            f"{len(done)} cases are in {folder} already; "
            "delete that folder to run them again."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gw.ConvergenceWarning)
        if pending:
            objective(np.zeros((2, 2)), np.ones((2, 2)))  # loads libraries
        with tqdm(pending, unit="case", disable=not pending) as progress:
            for claim, name in progress:
                progress.set_description(f"{claim}: {name}")
                row = measure(claim, name, checks[claim, name])
                report.append_row(path, row)


def summarise(trials: Sequence[Row]) -> list[Row]:
    """Return one row a claim; the times of assignments are a claim of their own."""
    timed = [
        row
        | {"claim": "assignment time", "value": row["ratio"], "limit": 20.0}
        | {"met": int(row["ratio"] <= 20.0)}
        for row in trials
        if row["claim"] == "assignment"
    ]
    summary = []
    for claim, (text, share) in CLAIMS.items():
        rows = [row for row in [*trials, *timed] if row["claim"] == claim]
        if not rows:
            continue
        met = sum(row["met"] for row in rows)
        row: Row = {"claim": claim, "what": text, "cases": len(rows), "met": met}
        row["holds"] = int(met >= share * len(rows))
        ratios = [row["ratio"] for row in rows if row["ratio"] != ""]
        row["ratio"] = median(ratios) if ratios else float("nan")
        summary.append(row | {"seconds": sum(row["seconds"] for row in rows)})
    return summary


def table(summary: Sequence[Row]) -> str:
    """Lay the claims out."""
    header = ["claim", "of every case", "met", "holds", "median time ratio", "seconds"]
    rows = [
        [
            row["claim"],
            row["what"],
            f"{row['met']} of {row['cases']}",
            "yes" if row["holds"] else "NO",
            "" if np.isnan(row["ratio"]) else f"{row['ratio']:.3g}",
            f"{row['seconds']:.1f}",
        ]
        for row in summary
    ]
    return report.markdown_table(header, rows)


def misses(trials: Sequence[Row]) -> str:
    """Lay out the cases that miss their limit."""
    rows = [
        [row["claim"], row["case"], f"{row['value']:.6g}", f"{row['limit']:.6g}"]
        for row in trials
        if not row["met"]
    ]
    if not rows:
        return "None."
    return report.markdown_table(["claim", "case", "value", "limit"], rows)


def publish(folder: Path) -> None:
    """Write the summary and the Markdown of all cases, and print the tables."""
    trials = report.resume_rows(folder / "trials.csv")
    summary = summarise(trials)
    report.write_rows(folder / "summary.csv", summary)
    share = "Two thirds of the assignments are enough; of all else every case counts."
    text = "\n\n".join(
        [table(summary), share, "## Cases above their limit", misses(trials)]
    )
    (folder / "search_claims.md").write_text(f"# What search finds\n\n{text}\n")
    print(text, f"Written to {folder}.", sep="\n\n")


def main(argv: Sequence[str] | None = None) -> int:
    parser = report.command_line(__doc__)
    parser.add_argument("--large", action="store_true", help="n = 5000 too")
    arguments = parser.parse_args(argv)
    folder = report.results_folder(arguments)
    return report.run_and_publish(
        folder, partial(run, folder, arguments.quick, arguments.large), publish
    )


if __name__ == "__main__":
    sys.exit(main())
