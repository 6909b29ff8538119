"""Plans between squared clouds of ten thousand to a million points, on one core.

Each solve runs in a process of its own. Smaller clouds are the first points of larger
ones, so that all sizes estimate one distance. At 10,000 points the ways that large
clouds take are compared to the descent from the sorting coupling.

    python -m simulations.squared_clouds --out DIR [--quick] [--seed S] [--trials K]

writes trials.csv (one row a solve, as soon as it is finished: an interrupted run
resumes), meta.json and squared_clouds.md.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np

import gwtools as gw
from gwtools import lifted_problems
from gwtools.solvers import lifted_starts
from simulations import _report as report
from simulations._report import Row

POINTS = 1_000_000  # of the largest clouds
UNITS = {
    "objective, gap, lower": "GW_2^2, squared units of C",
    "gap": "Frank-Wolfe gap of the plan",
    "seconds": "CPU of the process in gwtools.solve, its certificate included",
    "mebibytes": "most memory of the process, that of libraries and points included",
}
NOTES = """\
- unlike: normal coordinates of deviations 3, 2, 1 against gamma variables; alike: two \
draws of one normal law, whose
  distance is that of samples.
- sorting: descent from the sorting coupling; cells: from cells, with programs of all \
points; blocks: from cells, no program
  of all points. From 20,000 points on the default is cells, above 50,000 it is blocks.
- seconds of CPU on one core, certificates included; MiB: most memory of the process; \
gap: the Frank-Wolfe gap
  over the objective, not computed above 300,000 points."""


class Trial(NamedTuple):
    """What is solved: two clouds of so many points, in one way."""

    clouds: str
    points: int
    way: str


ALL = tuple(
    Trial(clouds, points, way)
    for clouds in ("unlike", "alike")
    for points, way in (
        (10_000, "sorting"),
        (10_000, "cells"),
        (10_000, "blocks"),
        (100_000, "blocks"),
        (POINTS, "blocks"),
    )
)
QUICK = tuple(Trial("unlike", 2500, way) for way in ("sorting", "cells", "blocks"))


def draw(seed: int, trial: Trial) -> tuple[gw.PointCloud, gw.PointCloud]:
    """Return the first points of two clouds of a million."""
    of_x, of_y = np.random.default_rng(seed).spawn(2)
    shape = (trial.points, 3)
    x = of_x.standard_normal(shape)
    if trial.clouds == "alike":
        y = of_y.standard_normal(shape)
    else:
        x = x * np.array([3.0, 2.0, 1.0])
        y = of_y.gamma(2.0, 1.0, shape) * np.array([1.0, 2.0, 2.0])
    return (
        gw.PointCloud(x, metric="sqeuclidean"),
        gw.PointCloud(y, metric="sqeuclidean"),
    )


def measure(seed: int, trial: Trial) -> Row:
    """Solve in this process."""
    x, y = draw(seed, trial)
    with ExitStack() as settings:
        from_cells = trial.points + 1 if trial.way == "sorting" else 1000
        settings.enter_context(patch.object(lifted_starts, "LARGE", from_cells))
        if trial.way == "blocks":
            settings.enter_context(patch.object(lifted_problems, "_MOST_ATOMS", 1000))
        settings.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", gw.ConvergenceWarning)  # the status is recorded
        start = time.process_time()
        result = gw.solve(x, y, gw.ConditionalGradient())
        seconds = time.process_time() - start
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return trial._asdict() | {
        "status": result.status.name,
        "iterations": result.iterations,
        "objective": float(result.objective),
        "gap": result.frank_wolfe_gap,
        "lower": result.certificate.lower,
        "seconds": seconds,
        "mebibytes": most / 1024,
    }


def apart(seed: int, trial: Trial) -> Row:
    """Solve in a new process, so that its memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, (seed, trial))


def _shown(row: Row) -> str:
    """Return the relative gap in two digits; nothing where it was not computed."""
    gap = row["gap"]
    return f"{gap / row['objective']:.1e}" if isinstance(gap, float) else ""


def publish(folder: Path) -> None:
    """Write the Markdown of all trials, and print it."""
    rows = [
        {
            "clouds": row["clouds"],
            "points": row["points"],
            "way": row["way"],
            "objective": f"{row['objective']:.6g}",
            "gap": _shown(row),
            "lower": f"{row['lower']:.6g}",
            "seconds": f"{row['seconds']:.1f}",
            "MiB": f"{row['mebibytes']:.0f}",
            "status": row["status"],
        }
        for row in report.read_rows(folder / "trials.csv")
    ]
    table = report.markdown_table(list(rows[0]), [list(row.values()) for row in rows])
    text = f"{NOTES}\n\n{table}"
    title = "# Large squared clouds"
    (folder / "squared_clouds.md").write_text(f"{title}\n\n{text}\n")
    print(text, f"Written to {folder}.", sep="\n\n")


def run(folder: Path, seed: int, trials: Sequence[Trial]) -> None:
    """Measure the trials that the folder does not hold yet."""
    facts: dict[str, Any] = {"seed": seed, "units": UNITS, **report.versions()}
    report.claim(folder, facts)
    path = folder / "trials.csv"
    done = {
        (row["clouds"], row["points"], row["way"]) for row in report.resume_rows(path)
    }
    for trial in trials:
        if tuple(trial) not in done:
            report.append_row(path, apart(seed, trial))


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, run what is not finished, and publish all of it."""
    parser = report.command_line(__doc__)
    parser.add_argument("--trials", type=int, help="trials, from the first (all)")
    arguments = parser.parse_args(argv)
    trials = (QUICK if arguments.quick else ALL)[: arguments.trials]
    folder = report.results_folder(arguments)
    return report.run_and_publish(
        folder, lambda: run(folder, arguments.seed, trials), publish
    )


if __name__ == "__main__":
    sys.exit(main())
