"""Running times of gwtools against POT, on points of the Gromov-Wasserstein table.

Both sides go from arrays to a plan and its objective, as a user would call them, ours
with the certificate. They run in one process on one core and take turns; the times are
medians of process CPU time, which does not count other processes, of small problems for
as many calls in a row as take some milliseconds. Conditional gradient starts from the
product coupling on both sides; ``exchange=False`` leaves out the search that POT has
not, so that objectives are equal. POT's proximal solver (PPA) runs at epsilon 0.05 for
at most 100 iterations: minutes a repeat at n = 1000.

    python -m simulations.speed --out DIR [--quick] [--seed S] [--repeats R]

writes trials.csv (one row a repeat), summary.csv, meta.json and speed.md.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import numpy.typing as npt
import ot
from scipy.spatial.distance import cdist
from tqdm import tqdm

import gwtools as gw
from simulations import _report as report
from simulations._report import Row
from simulations.gw_table import clouds

Numbers: TypeAlias = npt.NDArray[Any]
Run: TypeAlias = Callable[[], float]

REPEATS = 5
SOLVERS: dict[str, gw.solvers.Solver] = {
    "ConditionalGradient": gw.ConditionalGradient(),
    "ConditionalGradient(exchange=False)": gw.ConditionalGradient(exchange=False),
    "Sinkhorn": gw.Sinkhorn(),
}


@dataclass(frozen=True)
class Case:
    """One comparison: a solver of ours against its counterpart in POT, on n points."""

    solver: str
    space: str
    n: int

    def __str__(self) -> str:
        """Name the row of the table."""
        return f"{self.solver}, {self.space}, n = {self.n}"


def cases(quick: bool) -> list[Case]:
    """Return the comparisons.

    The quick ones are a tenth the size, so their ratios say nothing.
    """
    small, large = (100, 200) if quick else (1000, 2000)
    both = [name for name in SOLVERS if name != "Sinkhorn"]
    return [
        *(
            Case(name, "Euclidean matrix", n)
            for n in (5, 20, 50, 100, small, large)
            for name in both
        ),
        Case("ConditionalGradient", "squared Euclidean cloud", large),
        Case("Sinkhorn", "Euclidean matrix", small),
    ]


def runs(case: Case, seed: int) -> tuple[Run, Run]:
    """Return our run and POT's, each from arrays to the objective."""
    points = clouds(seed, case.n, 0)
    squared = case.space.startswith("squared")
    matrices = [cdist(p, p, "sqeuclidean" if squared else "euclidean") for p in points]
    solver = SOLVERS[case.solver]

    def space(i: int) -> gw.Space:
        return (
            gw.PointCloud(points[i], metric="sqeuclidean")
            if squared
            else gw.DenseSpace(matrices[i])
        )

    def ours() -> float:
        return float(gw.solve(space(0), space(1), solver).objective)

    return ours, _pot_proximal(
        matrices
    ) if case.solver == "Sinkhorn" else _pot_conditional_gradient(matrices)


def _pot_conditional_gradient(matrices: Sequence[Numbers]) -> Run:
    def run() -> float:
        _, log = ot.gromov.gromov_wasserstein(
            *matrices, loss_fun="square_loss", log=True
        )
        return float(log["gw_dist"])

    return run


def _pot_proximal(matrices: Sequence[Numbers]) -> Run:
    def run() -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of inner iterations that ran out
            _, log = ot.gromov.entropic_gromov_wasserstein(
                *matrices,
                loss_fun="square_loss",
                epsilon=0.05,
                max_iter=100,
                solver="PPA",
                log=True,
            )
        return float(log["gw_dist"])

    return run


def _timed(run: Run, calls: int) -> tuple[float, float]:
    """Return the value and the CPU seconds of one call, a mean over calls in a row."""
    start = time.process_time()
    for _ in range(calls):
        value = run()
    return value, (time.process_time() - start) / calls


def measure(case: Case, repeats: int, seed: int, path: Path) -> list[Row]:
    """Let the two sides take turns, and keep every repeat."""
    ours, theirs = runs(case, seed)
    rows: list[Row] = []
    calls = max(1, 200 // case.n)
    for repeat in range(repeats):
        (our_value, our_time), (pot_value, pot_time) = (
            _timed(ours, calls),
            _timed(theirs, calls),
        )
        row = {
            "solver": case.solver,
            "space": case.space,
            "n": case.n,
            "repeat": repeat,
        }
        row |= {
            "ours_s": our_time,
            "pot_s": pot_time,
            "ours_objective": our_value,
            "pot_objective": pot_value,
        }
        report.append_row(path, row)
        rows.append(row)
    return rows


def summarise(repeats: Sequence[Row]) -> Row:
    """Return the medians of one case, their ratio, and how far objectives differ.

    The difference is that of our objective from POT's.
    """
    ours, pot = (
        median(row[f"{side}_s"] for row in repeats) for side in ("ours", "pot")
    )
    values = {name: repeats[0][name] for name in ("ours_objective", "pot_objective")}
    difference = (values["ours_objective"] - values["pot_objective"]) / values[
        "pot_objective"
    ]
    case = {name: repeats[0][name] for name in ("solver", "space", "n")}
    return case | {
        "ours_s": ours,
        "pot_s": pot,
        "ratio": pot / ours,
        **values,
        "relative_difference": difference,
    }


def table(summary: Sequence[Row]) -> str:
    """Lay the comparisons out."""
    header = [
        "solver",
        "space",
        "n",
        "ours, s",
        "POT, s",
        "POT / ours",
        "our objective",
        "POT's",
        "relative difference",
    ]
    rows = [
        [
            *(row[name] for name in ("solver", "space", "n")),
            *(f"{row[name]:.3g}" for name in ("ours_s", "pot_s")),
            f"{row['ratio']:.2g}",
            *(f"{row[name]:.6g}" for name in ("ours_objective", "pot_objective")),
            f"{row['relative_difference']:+.1e}",
        ]
        for row in summary
    ]
    return report.markdown_table(header, rows)


def main(argv: Sequence[str] | None = None) -> int:
    parser = report.command_line(__doc__)
    parser.add_argument(
        "--repeats",
        type=int,
        default=REPEATS,
        help="repeats of each side (default: %(default)s)",
    )
    arguments = parser.parse_args(argv)
    folder = report.results_folder(arguments)
    # Times are compared within one process only, so earlier repeats are of no use.
    for name in ("trials.csv", "meta.json"):
        (folder / name).unlink(missing_ok=True)
    report.claim(
        folder,
        {
            "seed": arguments.seed,
            "repeats": arguments.repeats,
            "versions": report.versions(),
        },
    )
    summary = []
    for case in tqdm(cases(arguments.quick), unit="case"):
        summary.append(
            summarise(
                measure(case, arguments.repeats, arguments.seed, folder / "trials.csv")
            )
        )
    report.write_rows(folder / "summary.csv", summary)
    text = table(summary)
    (folder / "speed.md").write_text(
        f"# Running times against POT\n\n{text}\n\n"
        "Medians of process CPU seconds on one core.\n"
    )
    print(text, f"Written to {folder}.", sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
