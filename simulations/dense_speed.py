"""Running times of conditional gradient between dense matrices against POT's.

Both sides go from arrays to a plan and its objective, from the product coupling, and
without a certificate: ours by the solver alone, with its exchanges. They run in one
process on one core and take turns; the times are medians of process CPU time, which
does not count other processes, of small problems for several calls in a row. Euclidean
distances are of the points of the Gromov-Wasserstein table; graphs are a preferential
attachment graph of three edges a node against a random one of as many edges or more, by
shortest paths and by adjacency. At n = 5000 ours runs alone, with the memory that it
takes at most beside what was held before.

    OMP_NUM_THREADS=1 python -m simulations.dense_speed --out DIR [--quick] [--seed S]
        [--least N] [--most N]

writes trials.csv (one row a repeat), summary.csv, meta.json and dense_speed.md. Of the
sizes that are not asked for, what an earlier run measured stays.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import ot
from scipy.sparse import csgraph
from scipy.spatial.distance import cdist
from tqdm import tqdm

import gwtools as gw
from simulations import _report as report
from simulations._report import Row
from simulations.gw_table import clouds

Numbers = npt.NDArray[Any]
ALONE = 5000  # points from which POT does not run


@dataclass(frozen=True)
class Case:
    """Two matrices of n atoms, and how often each side runs."""

    space: str
    n: int
    repeats: int


def cases(quick: bool) -> list[Case]:
    """Return the comparisons; the quick ones are small."""
    if quick:
        return [Case("Euclidean", n, 2) for n in (50, 100)]
    small = [Case("Euclidean", n, 5) for n in (50, 100, 200, 300, 500, 1000)]
    return [
        *small,
        Case("shortest paths", 1000, 5),
        Case("Euclidean", 2000, 3),
        Case("adjacency", 1000, 3),
        Case("Euclidean", ALONE, 1),
    ]


def matrices(case: Case, seed: int) -> tuple[Numbers, Numbers]:
    """Draw both matrices."""
    if case.space == "Euclidean":
        x, y = (cdist(points, points) for points in clouds(seed, case.n, 0))
        return x, y
    attached = nx.barabasi_albert_graph(case.n, 3, seed=seed)
    random = nx.fast_gnp_random_graph(case.n, 8 / case.n, seed=seed + 1)
    parts = [next(iter(part)) for part in nx.connected_components(random)]
    random.add_edges_from((parts[0], other) for other in parts[1:])
    adjacencies = [
        nx.to_numpy_array(graph, weight=None, dtype=float)
        for graph in (attached, random)
    ]
    if case.space == "adjacency":
        return adjacencies[0], adjacencies[1]
    x, y = (csgraph.shortest_path(A, unweighted=True) for A in adjacencies)
    return x, y


def ours(x: Numbers, y: Numbers) -> float:
    """Return the objective of our plan."""
    problem = gw.GWProblem(gw.DenseSpace(x), gw.DenseSpace(y))
    outcome = gw.ConditionalGradient().run(problem)
    return float(problem.objective(outcome.plan))


def theirs(x: Numbers, y: Numbers) -> float:
    """Return the objective of POT's plan."""
    _, log = ot.gromov.gromov_wasserstein(x, y, loss_fun="square_loss", log=True)
    return float(log["gw_dist"])


def timed(
    run: Callable[[Numbers, Numbers], float], x: Numbers, y: Numbers, calls: int
) -> tuple[float, float]:
    """Return the value and the CPU seconds of one call."""
    start = time.process_time()
    for _ in range(calls):
        value = run(x, y)
    return value, (time.process_time() - start) / calls


def held_memory() -> int:
    """Return the bytes that the process holds, on Linux."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


def measure(case: Case, seed: int, path: Path) -> list[Row]:
    """Let the two sides take turns, keep every repeat, and return all of them."""
    x, y = matrices(case, seed)
    calls = max(1, 200 // case.n)
    trials: list[Row] = []
    for repeat in range(case.repeats):
        held = held_memory()
        our_value, our_time = timed(ours, x, y, calls)
        # The most that the process ever held, which is in the largest case, in KiB.
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        arrays = (1024 * most - held) / (8 * case.n**2)
        pot_value = pot_time = float("nan")
        if case.n < ALONE:
            pot_value, pot_time = timed(theirs, x, y, calls)
        trials.append(
            {
                "space": case.space,
                "n": case.n,
                "repeat": repeat,
                "ours_s": our_time,
                "pot_s": pot_time,
                "ours_objective": our_value,
                "pot_objective": pot_value,
                "arrays": arrays if case.n == ALONE else float("nan"),
            }
        )
        report.append_row(path, trials[-1])
    return trials


def of_case(trials: Sequence[Row], case: Case) -> list[Row]:
    """Return the repeats of one case."""
    name = (case.space, case.n)
    return [trial for trial in trials if (trial["space"], trial["n"]) == name]


def medians(trials: Sequence[Row]) -> Row:
    """Return the row of the summary of the repeats of one case."""
    summary = dict(trials[0])
    del summary["repeat"]
    for side in ("ours_s", "pot_s"):
        summary[side] = median(trial[side] for trial in trials)
    summary["repeats"] = len(trials)
    summary["ratio"] = summary["pot_s"] / summary["ours_s"]
    return summary


def table(summary: Sequence[Row]) -> str:
    """Lay the comparisons out."""
    header = ["space", "n", "ours, s", "POT, s", "POT / ours", "ours / POT, objective"]
    rows = []
    for row in summary:
        excess = row["ours_objective"] / row["pot_objective"] - 1
        both = [f"{row[name]:.3g}" for name in ("ours_s", "pot_s")]
        numbers = [*both, f"{row['ratio']:.2f}", f"{excess:+.1e}"]
        shown = ["" if number in ("nan", "+nan") else number for number in numbers]
        rows.append([row["space"], row["n"], *shown])
    return report.markdown_table(header, rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all cases, and write what the module says."""
    parser = report.command_line(__doc__)
    parser.add_argument("--least", type=int, default=0, help="points at least")
    parser.add_argument("--most", type=int, default=ALONE, help="points at most")
    arguments = parser.parse_args(argv)
    folder = report.results_folder(arguments)
    every_case = cases(arguments.quick)
    chosen = [c for c in every_case if arguments.least <= c.n <= arguments.most]
    path = folder / "trials.csv"
    # Both sides of a case take turns in one process: cases may come from several.
    earlier = report.resume_rows(path)
    path.unlink(missing_ok=True)
    trials: list[Row] = []
    for case in every_case:
        if case not in chosen:
            trials += of_case(earlier, case)
    for trial in trials:
        report.append_row(path, trial)
    (folder / "meta.json").unlink(missing_ok=True)
    clock = "process CPU seconds; other processes ran beside"
    report.claim(
        folder,
        {"seed": arguments.seed, "clock": clock, "versions": report.versions()},
    )
    # Kernels are compiled, or read, before any clock runs.
    for n in (30, 60):
        ours(*matrices(Case("Euclidean", n, 1), arguments.seed))
    for case in tqdm(chosen, unit="case"):
        trials += measure(case, arguments.seed, path)
    path.unlink(missing_ok=True)
    summary = []
    for case in every_case:
        of_this = of_case(trials, case)
        for trial in of_this:
            report.append_row(path, trial)
        if of_this:
            summary.append(medians(of_this))
    report.write_rows(folder / "summary.csv", summary)
    text = table(summary)
    arrays = summary[-1]["arrays"]
    memory = ""
    if np.isfinite(arrays):
        memory = f" The last took {arrays:.1f} arrays of n² numbers beside C and D."
    (folder / "dense_speed.md").write_text(
        "# Dense conditional gradient against POT's\n\n"
        f"{text}\n\nMedians of process CPU seconds on one core, with the extra `fast`, "
        f"without certificates.{memory}\n"
    )
    print(text, f"Written to {folder}.", sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
