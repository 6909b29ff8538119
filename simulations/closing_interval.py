"""How the proved interval of two pairs closes, from effort to effort.

    python -m simulations.closing_interval --out DIR [--quick] [--seed S]

writes intervals.csv (one row a certificate, as soon as it is finished: an interrupted
run resumes), meta.json, closing_interval.md and closing_interval.png. The efforts are
those of ``gwtools.certify``, for the plan of ``gwtools.solve``, and then a minute where
it pays; in quick form of smaller pairs, and seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import gwtools as gw
from simulations import _report as report
from simulations._report import Row

# The second pair is that of the README, for seed 0.
PAIRS = {
    "20 points in the plane, 20 others": ((20, 2), (20, 2)),
    "60 points in 3-D, 80 in the plane": ((60, 3), (80, 2)),
}
QUICK_PAIRS = {"6 points in the plane, 7 in 3-D": ((6, 2), (7, 3))}
EFFORTS = ("linear", "quadratic", "cubic", "quartic")
BUDGET, QUICK_BUDGET = 60.0, 1.0  # seconds
UNITS = {"lower, upper": "GW_2^2, squared units of C", "seconds": "of the certificate"}
NOTES = """\
- Points of N(0, I), Euclidean distances, equal weights. The plan is that of
  `gwtools.solve(x, y)`; its objective is the upper end of every row.
- proved: lower / upper. Seconds are of the clock, on a shared machine, and of the
  certificate alone."""


def pair(sizes: Sequence[tuple[int, int]], seed: int) -> list[gw.PointCloud]:
    """Draw the two clouds of a pair."""
    rng = np.random.default_rng(seed)
    return [gw.PointCloud(rng.standard_normal(size)) for size in sizes]


def run(folder: Path, seed: int, quick: bool) -> None:
    """Certify what is not in the folder yet."""
    budget = QUICK_BUDGET if quick else BUDGET
    report.claim(
        folder, {"seed": seed, "budget": budget, "units": UNITS, **report.versions()}
    )
    path = folder / "intervals.csv"
    done = [(row["pair"], row["effort"]) for row in report.resume_rows(path)]
    for name, sizes in (QUICK_PAIRS if quick else PAIRS).items():
        x, y = pair(sizes, seed)
        settings: dict[str, Any] = {effort: {"effort": effort} for effort in EFFORTS}
        settings[f"{budget:g} s"] = {"budget": budget}
        pending = [effort for effort in settings if (name, effort) not in done]
        plan = gw.solve(x, y).plan if pending else None
        for effort in pending:
            started = time.perf_counter()
            found = gw.certify(x, y, plan, **settings[effort])
            row: Row = {"pair": name, "effort": effort}
            row["seconds"] = time.perf_counter() - started
            row |= {"lower": found.lower, "upper": found.upper, "bound": found.bound}
            report.append_row(path, row)


def table(rows: Sequence[Row]) -> str:
    """Lay the intervals out."""
    lines = [
        [
            row["pair"],
            row["effort"],
            f"{row['seconds']:.2g}",
            f"[{row['lower']:.6g}, {row['upper']:.6g}]",
            f"{row['lower'] / row['upper']:.4%}",
            row["bound"],
        ]
        for row in rows
    ]
    header = ["pair", "effort", "seconds", "interval", "proved", "bound"]
    return report.markdown_table(header, lines)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw the intervals of every pair, an effort below the other."""
    names = list(dict.fromkeys(row["pair"] for row in rows))
    with report.figure_style():
        figure = Figure(figsize=(8, 2.6))
        panels = figure.subplots(1, len(names), squeeze=False)[0]
        for axes, name in zip(panels, names, strict=True):
            own = [row for row in rows if row["pair"] == name]
            gw.plot.certificate({row["effort"]: interval(row) for row in own}, axes)
            axes.set_title(name, fontsize="medium")
            axes.grid(visible=False, axis="y")
        marks = panels[0].get_legend_handles_labels()
        figure.legend(*marks, loc="outside lower center", ncols=3)
        figure.savefig(path)


def interval(row: Row) -> gw.Certificate:
    """Return a recorded interval as a certificate."""
    return gw.Certificate(row["lower"], row["upper"], gw.Kind.BRACKET, row["bound"])


def publish(folder: Path) -> None:
    """Write the Markdown and the figure, and print the table."""
    rows = report.resume_rows(folder / "intervals.csv")
    text = f"{NOTES}\n\n{table(rows)}"
    (folder / "closing_interval.md").write_text(f"# The closing interval\n\n{text}\n")
    draw(rows, folder / "closing_interval.png")
    print(text, f"Written to {folder}.", sep="\n\n")


def main(argv: Sequence[str] | None = None) -> int:
    arguments = report.command_line(__doc__).parse_args(argv)
    folder = report.results_folder(arguments)
    work = partial(run, folder, arguments.seed, arguments.quick)
    return report.run_and_publish(folder, work, publish)


if __name__ == "__main__":
    sys.exit(main())
