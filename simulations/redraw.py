"""Draw figures again from what is recorded; nothing is run, no number is written.

    python -m simulations.redraw [NAME ...]
    python -m simulations.redraw --tables

The names are those of folders in simulations/results; by default all that have a figure
whose numbers are recorded. Gradients of ``loss_fields`` are not: its script takes
seconds, and draws them. ``--tables`` lays out the tables of all recorded pages again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from simulations import (
    bounds,
    closing_interval,
    fusion_study,
    global_gap,
    gw_table,
    hard_pairs,
    scaling,
)
from simulations._report import lay_out_tables, read_rows
from simulations.study import language_models

RESULTS = Path(__file__).parent / "results"


def _gw_table(folder: Path) -> None:
    gw_table.draw(read_rows(folder / "summary.csv"), folder / "gw_table.png")


def _bounds(folder: Path) -> None:
    trials = read_rows(folder / "trials.csv")
    bounds.draw(trials, bounds.summarise(trials), folder / "bounds.png")


def _closing_interval(folder: Path) -> None:
    rows = read_rows(folder / "intervals.csv")
    closing_interval.draw(rows, folder / "closing_interval.png")


def _hard_pairs(folder: Path) -> None:
    hard_pairs.draw(read_rows(folder / "trials.csv"), folder / "hard_pairs.png")


def _global_gap(folder: Path) -> None:
    trials = read_rows(folder / "trials.csv")
    global_gap.draw(trials, global_gap.summarise(trials), folder / "global_gap.png")


def _scaling(folder: Path) -> None:
    trials = scaling.with_shares(read_rows(folder / "trials.csv"))
    scaling.draw(trials, folder / "scaling.png")


def _language_models(folder: Path) -> None:
    rows = read_rows(folder / "training.csv")
    language_models.draw(rows, folder / "language_models.png")


FIGURES: dict[str, Callable[[Path], None]] = {
    "gw_table": _gw_table,
    "closing_interval": _closing_interval,
    "bounds": _bounds,
    "hard_pairs": _hard_pairs,
    "global_gap": _global_gap,
    "scaling": _scaling,
    "fusion_study": fusion_study.draw,
    "fusion_study_gemma": _language_models,
    "fusion_study_taught": _language_models,
}


def pages() -> Iterator[Path]:
    """Yield the recorded pages."""
    for path in sorted(RESULTS.glob("*/*.md")):
        if not path.parent.name.endswith("-quick"):
            yield path


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("names", nargs="*", metavar="NAME", help="folders of results")
    parser.add_argument(
        "--tables", action="store_true", help="lay out the tables of all pages instead"
    )
    arguments = parser.parse_args(argv)
    if arguments.tables:
        for path in pages():
            path.write_text(lay_out_tables(path.read_text()))
        return 0
    names = arguments.names or list(FIGURES)
    if unknown := sorted(set(names) - set(FIGURES)):
        parser.error(f"{', '.join(unknown)}: NAME must be one of {', '.join(FIGURES)}")
    for name in names:
        FIGURES[name](RESULTS / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
