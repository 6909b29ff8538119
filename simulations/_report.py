"""What all simulations share: command line, folder of results, tables and figures.

The folder holds the metadata of its results, and figures have one look.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from tqdm import tqdm

Row = dict[str, Any]

# Distinct to most eyes (Okabe and Ito), and two more.
DISTINCT = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#8B5A2B",
)
MARKS = "osD^vP*X"
PACKAGES = ("numpy", "scipy", "POT", "gwfusion")


def command_line(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the options that every simulation takes."""
    # The description is a docstring, whose lines are as they should be.
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument(
        "--quick", action="store_true", help="a small run; its results go to OUT-quick"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="seed of all random numbers (default: %(default)s)",
    )
    return parser


def results_folder(arguments: argparse.Namespace) -> Path:
    """Make the folder of results.

    Quick results have their own, so that they never replace those of a full run.
    """
    out: Path = arguments.out
    folder = out.with_name(f"{out.name}-quick") if arguments.quick else out
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run_and_publish(
    folder: Path,
    run: Callable[[], None],
    publish: Callable[[Path], None],
) -> int:
    """Run what is not finished, and publish all of it; return the exit status."""
    try:
        run()
    except KeyboardInterrupt:
        print(
            f"Interrupted: what is finished is kept in {folder}; "
            "the same command resumes there.",
            file=sys.stderr,
        )
        return 130
    publish(folder)
    return 0


@dataclass(frozen=True)
class Grid:
    """A study over sizes, with several runs of each: what is run, and how published."""

    run: Callable[[Path, Sequence[int], int, int], None]
    publish: Callable[[Path], None]
    sizes: Sequence[int]
    quick_sizes: Sequence[int]
    counts: tuple[int, int]
    unit: str

    def main(self, description: str | None, argv: Sequence[str] | None) -> int:
        """Read the command line, run what is not finished, and publish all of it."""
        parser = command_line(description)
        full, quick = self.counts
        parser.add_argument(
            "--sizes",
            type=int,
            nargs="+",
            help=f"sizes (default: {self.sizes}, quick {self.quick_sizes})",
        )
        parser.add_argument(
            f"--{self.unit}",
            type=int,
            help=f"{self.unit} a size (default: {full}, quick {quick})",
        )
        arguments = parser.parse_args(argv)
        sizes = arguments.sizes or (self.quick_sizes if arguments.quick else self.sizes)
        count = getattr(arguments, self.unit) or (quick if arguments.quick else full)
        folder = results_folder(arguments)
        run = partial(self.run, folder, sizes, count, arguments.seed)
        return run_and_publish(folder, run, self.publish)


@dataclass(frozen=True)
class Comparison:
    """A comparison by numbered trials: how one is measured, and all are published.

    Attributes
    ----------
    measure : callable
        Returns the row of a trial, of a seed and one of ``trials``.
    publish : callable
        Writes what is shown of a folder's trials.
    trials : callable
        Returns the trials of a count, in their order.
    counts : pair of int
        The count of a full and of a quick run.
    unit : str
        What is counted, in the plural.
    units : dict of str
        Of the columns.
    """

    measure: Callable[[int, Any], Row]
    publish: Callable[[Path], None]
    trials: Callable[[int], Sequence[Any]]
    counts: tuple[int, int]
    unit: str
    units: Mapping[str, str]

    def run(self, folder: Path, seed: int, count: int) -> None:
        """Measure the trials that are not in the folder yet."""
        facts = {"seed": seed, self.unit: count, "units": self.units, **versions()}
        claim(folder, facts)
        path = folder / "trials.csv"
        done = len(resume_rows(path))
        trials = self.trials(count)
        # The first solve loads libraries, which no time should include.
        self.measure(seed, trials[0])
        for trial in tqdm(trials[done:], unit=self.unit):
            append_row(path, self.measure(seed, trial))

    def main(self, description: str | None, argv: Sequence[str] | None) -> int:
        """Read the command line, run what is not finished, and publish all of it."""
        parser = command_line(description)
        full, quick = self.counts
        parser.add_argument(
            f"--{self.unit}",
            type=int,
            help=f"{self.unit} (default: {full}, quick {quick})",
        )
        arguments = parser.parse_args(argv)
        count = getattr(arguments, self.unit) or (quick if arguments.quick else full)
        folder = results_folder(arguments)
        run = partial(self.run, folder, arguments.seed, count)
        return run_and_publish(folder, run, self.publish)


def versions() -> dict[str, str]:
    """Return the versions that the numbers of a run depend on."""
    return {"python": platform.python_version()} | {
        name: version_of(name) for name in PACKAGES
    }


def version_of(package: str) -> str:
    """Return the version of a package, or that it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def claim(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write ``meta.json`` beside the results.

    Exit where the folder holds results made under other facts.
    """
    path = folder / "meta.json"
    if not path.exists():
        path.write_text(json.dumps(facts, indent=2) + "\n")
        return
    found = json.loads(path.read_text())
    if changed := [name for name, value in facts.items() if found.get(name) != value]:
        raise SystemExit(
            f"{folder} holds results that differ in {', '.join(changed)} "
            "(see meta.json): "
            "delete that folder, or choose another one with --out."
        )


def read_rows(path: Path) -> list[Row]:
    """Read a CSV file; numbers come back as numbers."""
    with path.open(newline="") as file:
        return [
            {name: _parsed(text) for name, text in row.items()}
            for row in csv.DictReader(file)
        ]


def _parsed(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def resume_rows(path: Path) -> list[Row]:
    """Read the rows that an earlier run finished.

    A last line that was cut short is removed from the file.
    """
    if not path.exists():
        return []
    text = path.read_text()
    complete = text[: text.rfind("\n") + 1]
    if complete != text:
        path.write_text(complete)
    return read_rows(path)


def append_row(path: Path, row: Row) -> None:
    """Append one row, after the header in a new file.

    The row is handed to the system before this returns.
    """
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if file.tell() == 0:
            writer.writeheader()
        writer.writerow(row)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write a CSV file; numbers are rounded to six digits, as these are for reading."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {name: _rounded(value) for name, value in row.items()} for row in rows
        )


def _rounded(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Lay out a Markdown table, words to the left and numbers to the right.

    It is readable as plain text, too.
    """
    cells = [list(header), *([str(value) for value in row] for row in rows)]
    columns = list(zip(*cells, strict=True))
    widths = [max(map(len, column)) for column in columns]
    of_words = [_holds_words(column[1:]) for column in columns]
    lines = []
    for row in cells:
        texts = [
            text.ljust(width) if words else text.rjust(width)
            for text, width, words in zip(row, widths, of_words, strict=True)
        ]
        lines.append(f"| {' | '.join(texts)} |")
    rules = [
        "-" * (width + 1) + ("-" if words else ":")
        for width, words in zip(widths, of_words, strict=True)
    ]
    return "\n".join([lines[0], f"|{'|'.join(rules)}|", *lines[1:]])


def _holds_words(column: Sequence[str]) -> bool:
    """Return whether most filled cells of a column are letters for the most part."""
    filled = [
        "".join(text.split()) for text in column if text.strip() not in {"", "nan"}
    ]
    words = [sum(map(str.isalpha, text)) > len(text) / 2 for text in filled]
    return sum(words) > len(words) / 2


# The head of a table, the rule below it, and its rows.
_TABLE = re.compile(r"^\|.*\|\n\|[-:|]+\|(?:\n\|.*\|)*$", re.MULTILINE)


def lay_out_tables(text: str) -> str:
    """Lay out the tables of a page again."""

    def again(table: re.Match[str]) -> str:
        cells = [
            [cell.strip() for cell in line[1:-1].split("|")]
            for line in table[0].split("\n")
        ]
        return markdown_table(cells[0], cells[2:])

    return _TABLE.sub(again, text)


def figure_style() -> AbstractContextManager[None]:
    """Return the context in which every figure is drawn."""
    style: Any = {
        "figure.dpi": 150,
        "figure.constrained_layout.use": True,
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "axes.prop_cycle": cycler(color=DISTINCT),
        "legend.frameon": False,
        "errorbar.capsize": 2,
    }
    return matplotlib.rc_context(style)


def marks_by_row(
    axes: Axes,
    labels: Sequence[str],
    values: Mapping[str, Sequence[float]],
    ends: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    spread: float = 0.0,
) -> None:
    """Draw a row for each label, the first one above, and a mark on it for each name.

    Parameters
    ----------
    axes : matplotlib axes
        Where.
    labels : sequence of str
        Of the rows.
    values : dict of sequences
        Of each name a number for each row; one without finite numbers has no mark.
    ends : dict of sequences of pairs, optional
        Intervals of the same names, drawn as lines.
    spread : float
        How far the marks of a row stand from one another, in rows.
    """
    for i, (name, numbers) in enumerate(values.items()):
        place = np.arange(len(labels)) + spread * (i - (len(values) - 1) / 2)
        colour = DISTINCT[i % 5]
        if not np.isfinite(np.asarray(numbers, dtype=float)).any():
            continue
        axes.plot(numbers, place, MARKS[i], color=colour, ms=5, label=name)
        if ends is not None:
            axes.plot(np.transpose(ends[name]), [place, place], "-", color=colour, lw=1)
    axes.set_yticks(np.arange(len(labels)), labels)
    axes.invert_yaxis()


def points_by_kind(
    axes: Axes,
    places: Sequence[tuple[float, float]] | np.ndarray[Any, Any],
    kinds: Sequence[str],
    size: float = 14.0,
) -> None:
    """Draw points in the plane, with a mark and a colour for each kind.

    Parameters
    ----------
    axes : matplotlib axes
        Where.
    places : array of shape (n, 2)
        The points.
    kinds : sequence of str
        The kind of each; "_" in them are written as spaces.
    size : float
        Of the marks, in square points.
    """
    for i, kind in enumerate(dict.fromkeys(kinds)):
        own = np.array(
            [place for place, k in zip(places, kinds, strict=True) if k == kind]
        )
        axes.scatter(
            *own.T,
            s=size,
            alpha=0.6,
            linewidths=0,
            color=DISTINCT[i % len(DISTINCT)],
            marker=MARKS[i % len(MARKS)],
            label=kind.replace("_", " "),
        )
