"""Tables of numbers in text files as people have them: read exactly, or refused in a sentence that names the line.

Decimal commas are read where no cell has a decimal point and some cell cannot be a
number with separated thousands.

A word is what is no number in any notation, no truth value and not missing. The first
line names the columns where all its cells are words. It also does where its first cell
is empty or ``Unnamed: 0``, or is left out, as pandas and R write it, the first column
then holds labels (words, or integers that differ), and its other cells are words, are
0, 1, …, d − 1, are the labels themselves (a labelled matrix), or are integers over a
first column of words. A first line may be data or names where it is 0, 1, …, d − 1;
where it is integers that increase above numbers none of which is whole, or by one step
above columns that do not reach them (years); and where it is a word and successive
integers above words and numbers. Sizes that are known (of weights, of a square matrix)
decide, otherwise it is refused unless ``header`` says which. Every other first line is
data.

The first column names the rows where the first line says so in one of these ways, where
all its cells are words, and where known sizes leave a column over. A column that counts
the rows from 0 or 1, or that is called ``id`` or the like and holds integers that
differ, may be names or a coordinate: it is refused unless ``index`` says which. So is a
column called so behind the first, as a second index of pandas.
"""

from __future__ import annotations

import math
import re
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from gwtools._array import NumpyArray
from gwtools._check import unreadable
from gwtools.files.records import DECIMAL_COMMA, NUMBER, is_corner, kind, list_records

_INTEGER = re.compile(r"[+-]?[0-9]+")
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}")
_LABEL_NAMES = {
    *("#", "id", "ids", "index", "idx", "key", "no", "no.", "nr", "nr."),
    *("row", "rowid", "row_id", "label", "name", "names"),
}


@dataclass(frozen=True)
class Hints:
    """What is known of a table before it is read.

    ``header`` and ``index`` say whether the first line and the first column are names;
    None leaves it to the file. ``size`` is the number of rows and ``columns`` that of
    columns, where they are known; ``square`` that they are equal.
    """

    header: bool | None = None
    index: bool | None = None
    size: int | None = None
    columns: int | None = None
    square: bool = False


@dataclass(frozen=True, eq=False)
class Table:
    """Numbers (n, d), and the names of their rows where the file has them."""

    values: NumpyArray
    names: list[str] | None


@dataclass(frozen=True, eq=False)
class Row:
    """A line: its number in the file, its numbers, NaN at the cells in ``other``, which hold none, and its first cell."""

    line: int
    values: NumpyArray
    other: dict[int, str]
    first: str
    pointed: bool = False  # whether a number has a decimal point

    @property
    def width(self) -> int:
        """Number of cells."""
        return len(self.values)


def read_table(text: str, name: str, hints: Hints) -> Table:
    r"""Read a table of numbers; see above for what names its columns and rows.

    Raises
    ------
    ValueError
        If there is no number, a cell is missing, infinite or no number, lines differ in
        their numbers of cells, or it cannot be told whether the first line or column
        holds names.

    Examples
    --------
    >>> table = read_table(",0,1\n0,1.5,2\n1,3,4.5\n", "written by pandas", Hints())
    >>> table.values.tolist()
    [[1.5, 2.0], [3.0, 4.5]]
    """
    records = list_records(text, name, numbers=True)
    if not records:
        raise unreadable(
            name, "hold numbers", "is empty", "write one row for each atom"
        )
    head = records[0][1]
    rows = _with_decimal_points([_row(line, cells) for line, cells in records], name)
    header, index = _header(head, rows, name, hints)
    below = rows[1:] if header else rows
    if not below:
        raise unreadable(
            name,
            "hold numbers",
            "holds one line of names alone",
            "write one row for each atom below it",
        )
    _same_widths(below, name)
    title = _titles(head, below[0], index, name) if header else None
    if below[0].width == 1 and hints.index:
        raise unreadable(
            name,
            "hold numbers",
            "has no column beside the names of its rows",
            "pass --index-column no",
        )
    _require_numbers(below, 1, title, name, hints)
    index = index or _index(below, title, name, hints)
    start = 1 if index else 0
    _require_numbers(below, start, title, name, hints)
    if title is not None and hints.index is not False:
        _require_coordinates(below, title, name)
    names = [row.first for row in below] if index else None
    if names == [str(i) for i in range(len(below))]:
        names = None
    return Table(np.array([row.values[start:] for row in below]), names)


def _titles(head: list[str], row: Row, index: bool, name: str) -> list[str]:
    """Return a name for every column; R writes none above the names of the rows."""
    if len(head) == row.width - 1 and index:
        return ["", *head]
    if len(head) != row.width:
        requirement = f"have {_cells(len(head))}, as the line of names has"
        remedy = "give every line the same number of cells"
        raise unreadable(
            f"{name}, line {row.line}", requirement, f"has {row.width}", remedy
        )
    return head


def _row(line: int, cells: list[str]) -> Row:
    with suppress(ValueError):
        values = np.array(
            [float(cell) for cell in cells]
        )  # quick; but Python also reads nan, inf and 1_000
        signs = "".join(cells)
        if np.isfinite(values).all() and "_" not in signs:
            return Row(line, values, {}, cells[0], "." in signs)
    other = {
        k: cell
        for k, cell in enumerate(cells)
        if not (NUMBER.fullmatch(cell) and math.isfinite(float(cell)))
    }
    values = np.array(
        [np.nan if k in other else float(cell) for k, cell in enumerate(cells)]
    )
    pointed = any("." in cell for k, cell in enumerate(cells) if k not in other)
    return Row(line, values, other, cells[0], pointed)


def _with_decimal_points(rows: list[Row], name: str) -> list[Row]:
    """Read decimal commas, where they are no separators of thousands."""
    found = [
        (row, cell)
        for row in rows
        for cell in row.other.values()
        if DECIMAL_COMMA.fullmatch(cell)
    ]
    if not found:
        return rows
    row, cell = found[0]
    place = f"{name}, line {row.line}"
    remedy = "write all numbers with decimal points and without separators of thousands"
    pointed = next((other.line for other in rows if other.pointed), None)
    if pointed is not None:
        received = f"has {_shown(cell)} here and a decimal point in line {pointed}"
        raise unreadable(
            place, "write decimals as the rest of the file", received, remedy
        )
    if all(_THOUSANDS.fullmatch(cell) for _, cell in found):
        received = (
            f"{_shown(cell)} may be {cell.replace(',', '.')} or {cell.replace(',', '')}"
        )
        raise unreadable(place, "hold numbers of one meaning", received, remedy)
    return [_replaced(row) if row.other else row for row in rows]


def _replaced(row: Row) -> Row:
    values, other = row.values.copy(), dict(row.other)
    for k, cell in row.other.items():
        if DECIMAL_COMMA.fullmatch(cell) and math.isfinite(
            number := float(cell.replace(",", "."))
        ):
            values[k] = number
            del other[k]
    return replace(row, values=values, other=other)


def _header(
    head: list[str], rows: list[Row], name: str, hints: Hints
) -> tuple[bool, bool]:
    """Tell whether the first line names the columns, and whether it says that the first column names the rows."""
    below = rows[1:]
    firsts, width = [row.first for row in below], below[0].width if below else len(head)
    short = len(head) == width - 1
    corner = is_corner(head[0])
    titles = head[1:] if corner else head
    counting = titles == [str(k) for k in range(len(titles))]
    words = bool(titles) and all(kind(title) == "word" for title in titles)
    indexed = (short or corner) and _are_labels(firsts)
    worded = all(kind(first) == "word" for first in firsts)
    over_words = (
        not short
        and worded
        and all(kind(title) == "word" or _INTEGER.fullmatch(title) for title in titles)
    )
    if hints.header is not None:
        return hints.header, hints.header and indexed and hints.index is not False
    if words and (not short or indexed):
        return True, indexed and hints.index is not False
    if (
        indexed
        and titles
        and (counting or titles == firsts or over_words or _has_words(titles))
    ):
        return True, hints.index is not False
    named = worded and width > 1 and kind(head[0]) == "word"
    if below and not corner and not short and _may_be_titles(head, below, named):
        header = _is_header_by_size(rows, width - named, name, hints)
        return header, header and named and hints.index is not False
    return False, False


def _has_words(titles: list[str]) -> bool:
    """Tell whether titles are words and integers, so that they cannot be data."""
    return any(kind(title) == "word" for title in titles) and all(
        kind(title) == "word" or _INTEGER.fullmatch(title) for title in titles
    )


def _may_be_titles(head: list[str], below: list[Row], named: bool) -> bool:
    """Tell whether a first line of numbers, after a name where the rows are named, may also be names of columns."""
    titles = head[1:] if named else head
    called = named and head[0].casefold() in _LABEL_NAMES
    if not all(_INTEGER.fullmatch(title) for title in titles) or any(
        row.width != len(head) for row in below
    ):
        return called
    numbers, values = (
        np.array(titles, float),
        np.array([row.values[named:] for row in below]),
    )
    steps = np.diff(numbers)
    if called or titles == [str(k) for k in range(len(titles))]:
        return True
    if steps.size == 0 or steps.min() <= 0:
        return False
    even = bool((steps == steps[0]).all())
    outside = (numbers < np.fmin.reduce(values)) | (numbers > np.fmax.reduce(values))
    like_years = (
        even and bool(outside.all()) and (len(titles) > 2 or numbers[0] >= 1000)
    )
    return (
        like_years or (named and even and steps[0] == 1) or not (values % 1 == 0).any()
    )


def _is_header_by_size(rows: list[Row], width: int, name: str, hints: Hints) -> bool:
    """Tell whether a first line that may be data or names of columns is the latter, from the sizes that are known."""
    count = len(rows)
    if hints.square:
        return count == width + 1
    if hints.size is not None:
        return hints.size == count - 1
    remedy = "pass --header yes if it holds names and --header no if it holds data"
    if count == width:
        remedy += ", or --distances for a matrix of distances"
    place, received = f"{name}, line {rows[0].line}", "its integers may also be names"
    raise unreadable(place, "be data or the names of the columns", received, remedy)


def _are_labels(cells: list[str]) -> bool:
    """Tell whether cells are words, or integers that differ."""
    if all(kind(cell) == "word" for cell in cells):
        return True
    return all(_INTEGER.fullmatch(cell) for cell in cells) and len(set(cells)) == len(
        cells
    )


def _same_widths(rows: list[Row], name: str) -> None:
    for row in rows:
        if row.width != rows[0].width:
            place, received = f"{name}, line {row.line}", f"has {row.width}"
            requirement = f"have {_cells(rows[0].width)}, as line {rows[0].line} has"
            raise unreadable(
                place, requirement, received, "give every line the same number of cells"
            )


def _index(rows: list[Row], title: list[str] | None, name: str, hints: Hints) -> bool:
    """Tell whether the first column names the rows, where the first line does not say so."""
    width, firsts = rows[0].width, [row.first for row in rows]
    if hints.index is not None or width < 2:
        return bool(hints.index)
    columns = len(rows) if hints.square else hints.columns
    if columns in (width, width - 1):
        return columns == width - 1 and _are_labels(firsts)
    if all(kind(first) == "word" for first in firsts):
        return True
    remedy = "pass --index-column yes if it names the rows and --index-column no if it is a coordinate"
    called = "" if title is None else f" ({_shown(title[0])})"
    place, requirement = f"{name}, column 1{called}", "be a coordinate or names of rows"
    if title is not None and is_corner(title[0]):
        raise unreadable(
            f"{name}, column 1",
            "have a name where it is a coordinate",
            "has none",
            remedy,
        )
    counted = [float(row.values[0]) for row in rows]
    if (
        len(rows) > 1
        and counted[0] in (0, 1)
        and counted == [counted[0] + k for k in range(len(rows))]
    ):
        raise unreadable(
            place, requirement, f"it counts the rows from {counted[0]:g}", remedy
        )
    if (
        title is not None
        and title[0].casefold() in _LABEL_NAMES
        and _are_labels(firsts)
    ):
        raise unreadable(
            place, requirement, "its name and its integers leave that open", remedy
        )
    return False


def _require_numbers(
    rows: list[Row], start: int, title: list[str] | None, name: str, hints: Hints
) -> None:
    """Require a number in every cell from column ``start`` on."""
    row, wrong = next(
        ((row, k) for row in rows for k in row.other if k >= start), (rows[0], None)
    )
    if wrong is None:
        return
    cell = row.other[wrong]
    called = "" if title is None or not title[wrong] else f" ({_shown(title[wrong])})"
    place, found = f"{name}, line {row.line}, column {wrong + 1}{called}", kind(cell)
    received = "is empty" if cell == "" else f"is {_shown(cell)}"
    if found == "missing":
        remedy = "remove that row or replace the missing value"
        if (
            title is None
            and row is rows[0]
            and (wrong == 0 or "word" in map(kind, row.other.values()))
        ):
            remedy += ", or pass --header yes if this line names the columns"
        raise unreadable(place, "hold a number", received, remedy)
    if found == "infinite":
        raise unreadable(
            place,
            "hold a finite number",
            received,
            "remove that row or replace the value",
        )
    if found == "notation":
        remedy = "write plain numbers with decimal points, without units and separators of thousands"
    else:
        remedy = "remove that column or replace the text"
    if title is None and row is rows[0] and hints.header is None:
        remedy += ", or pass --header yes if this line names the columns"
    if wrong == 0 and hints.index is None:
        remedy += ", or pass --index-column yes if this column names the rows"
    raise unreadable(place, "hold a number", received, remedy)


def _require_coordinates(rows: list[Row], title: list[str], name: str) -> None:
    """Require that no column behind the first is a second index, as pandas leaves it, or called ``id`` or the like."""
    for k, called in enumerate(title[1:], start=1):
        values = [float(row.values[k]) for row in rows]
        if not (called.casefold() in _LABEL_NAMES or (called and is_corner(called))):
            continue
        if len(set(values)) == len(values) and all(value % 1 == 0 for value in values):
            place = f"{name}, column {k + 1} ({_shown(called)})"
            received = "its name and its integers look like an index"
            remedy = "remove that column, or pass --index-column no if all columns are coordinates"
            raise unreadable(place, "be a coordinate", received, remedy)


def _cells(count: int) -> str:
    return f"{count} cell" if count == 1 else f"{count} cells"


def _shown(cell: str) -> str:
    return repr(cell if len(cell) <= 30 else cell[:29] + "…")
