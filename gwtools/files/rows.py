"""Lines of a table as numbers, with decimal points or decimal commas."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

import numpy as np

from gwtools._array import NumpyArray
from gwtools._check import unreadable
from gwtools.files.records import DECIMAL_COMMA, NUMBER, Record

# One comma at most: with two, as in 1,234,567, a number is no DECIMAL_COMMA either.
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}")


@dataclass(frozen=True, eq=False)
class Row:
    """A line of a table as numbers, and its cells that hold none."""

    line: int  # its number in the file
    values: NumpyArray  # (width,), NaN at cells without a number
    other: dict[int, str]  # these cells as they are written, by their columns
    first: str  # the first cell as it is written
    pointed: bool = False  # whether a number has a decimal point

    @property
    def width(self) -> int:
        """Number of cells."""
        return len(self.values)


def read_rows(records: list[Record], name: str) -> list[Row]:
    """Read the cells of every line as numbers.

    Parameters
    ----------
    records : list of (int, list of str)
        Number of the line and its cells, for every line.
    name : str
        What errors call the file.

    Returns
    -------
    list of Row
        The lines, which need not have the same number of cells.

    Raises
    ------
    ValueError
        If a comma may be that of decimals or of thousands, or some numbers have decimal
        commas and others decimal points.
    """
    rows: list[Row] = []
    commas: list[tuple[int, str]] = []  # line and cell of each number with a comma
    for line, cells in records:
        row = _row(line, cells)
        rows.append(row)
        for cell in row.other.values():
            if DECIMAL_COMMA.fullmatch(cell):
                commas.append((row.line, cell))
    if not commas:
        return rows
    _require_decimal_commas(commas, rows, name)
    return list(map(_with_decimal_points, rows))


def _row(line: int, cells: list[str]) -> Row:
    """Read the cells of one line as numbers with decimal points."""
    # Most lines hold numbers alone, which are read in one step.
    try:
        numbers = list(map(float, cells))
    except ValueError:
        return _row_with_text(line, cells)
    values = np.array(numbers)
    text = "".join(cells)
    # Python takes nan, inf and 1_000 for numbers too, which a table must not hold.
    if not np.isfinite(values).all() or "_" in text:
        return _row_with_text(line, cells)
    return Row(line, values, {}, cells[0], "." in text)


def _row_with_text(line: int, cells: list[str]) -> Row:
    """Read the cells of one line, some of which may hold no number."""
    numbers: list[float] = []  # (width,), NaN where there is none
    other: dict[int, str] = {}
    pointed = False
    for k, cell in enumerate(cells):
        number = float(cell) if NUMBER.fullmatch(cell) else math.nan
        if math.isfinite(number):
            numbers.append(number)
            pointed = pointed or "." in cell
        else:
            numbers.append(math.nan)
            other[k] = cell
    return Row(line, np.array(numbers), other, cells[0], pointed)


def _require_decimal_commas(
    commas: list[tuple[int, str]],
    rows: list[Row],
    name: str,
) -> None:
    """Require that commas within numbers can be decimal commas alone."""
    # The first of these numbers stands for all in the sentence.
    line, cell = commas[0]
    place = f"{name}, line {line}"
    remedy = "write all numbers with decimal points and without separators of thousands"
    shown = shorten(cell)
    for row in rows:
        if row.pointed:
            raise unreadable(
                place,
                "write decimals as the rest of the file",
                f"has {shown} here and a decimal point in line {row.line}",
                remedy,
            )
    # One number that cannot have separated thousands decides for all of the file.
    for _, number in commas:
        if not _THOUSANDS.fullmatch(number):
            return
    decimal = cell.replace(",", ".")
    thousands = cell.replace(",", "")
    raise unreadable(
        place,
        "hold numbers of one meaning",
        f"{shown} may be {decimal} or {thousands}",
        remedy,
    )


def _with_decimal_points(row: Row) -> Row:
    """Read the decimal commas of a row."""
    if not row.other:
        return row
    # Other cells, and numbers beyond the range of float64, stay what they are.
    values = row.values.copy()
    other = dict(row.other)
    for k, cell in row.other.items():
        if not DECIMAL_COMMA.fullmatch(cell):
            continue
        number = float(cell.replace(",", "."))
        if math.isfinite(number):
            values[k] = number
            del other[k]
    return replace(row, values=values, other=other)


def first_cells(rows: list[Row]) -> list[str]:
    """Return the first cell of every row, as it is written."""
    return [row.first for row in rows]


def column(rows: list[Row], k: int) -> NumpyArray:
    """Return the numbers (n,) of one column."""
    numbers = np.empty(len(rows))
    for i, row in enumerate(rows):
        numbers[i] = row.values[k]
    return numbers


def stack(rows: list[Row], start: int) -> NumpyArray:
    """Return the numbers (n, width − start) of rows of one width, from a column on."""
    return np.array([row.values[start:] for row in rows])


def shorten(cell: str) -> str:
    """Return a cell as errors show it: quoted, and at most 30 characters of it."""
    # A sentence must stay readable where a cell holds a paragraph.
    if len(cell) > 30:
        cell = cell[:29] + "…"
    return repr(cell)
