"""Tables of numbers in text files, read exactly or refused by the line at fault.

Decimal commas are read where no cell has a decimal point and some cell cannot be a
number with separated thousands; :mod:`gwtools.files.labels` says what names the columns
and rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from gwtools._array import NumpyArray
from gwtools._check import unreadable
from gwtools.files.labels import (
    Hints,
    describe_column,
    is_first_column_index,
    read_first_line,
    require_coordinates,
)
from gwtools.files.records import kind, list_records
from gwtools.files.rows import Row, first_cells, read_rows, shorten, stack


@dataclass(frozen=True, eq=False)
class Table:
    """Numbers (n, d), and the names of their rows where the file has them."""

    values: NumpyArray
    names: list[str] | None


def read_table(text: str, name: str, hints: Hints) -> Table:
    r"""Read a table of numbers.

    Parameters
    ----------
    text : str
        Content of the file.
    name : str
        What errors call the file.
    hints : Hints
        What is known of the table.

    Returns
    -------
    Table
        The numbers, and the names of the rows where there are any.

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
    # 1. Lines of numbers, and those below the header.
    records = list_records(text, name, numbers=True)
    if not records:
        raise unreadable(
            name, "hold numbers", "is empty", "write one row for each atom"
        )
    rows = read_rows(records, name)
    # The titles as text: a row keeps only its first cell so.
    head = records[0][1]
    header, index = read_first_line(head, rows, name, hints)
    below = rows[1:] if header else rows
    if not below:
        raise unreadable(
            name,
            "hold numbers",
            "holds one line of names alone",
            "write one row for each atom below it",
        )
    # From here on the rows make a matrix, and each column has a title or none has.
    _require_one_width(below, name)
    titles = _titles(head, below[0], index, name) if header else None
    if below[0].width == 1 and hints.index:
        raise unreadable(
            name,
            "hold numbers",
            "has no column beside the names of its rows",
            "write numbers beside the names, or leave --index-column out",
        )

    # 2. Whether the first column names the rows. The cells behind it must be numbers in
    # either case, and are checked first: a bad cell says more than a question about the
    # first column.
    _require_numbers(below, 1, titles, name, hints)
    index = index or is_first_column_index(below, titles, name, hints)
    start = 1 if index else 0
    _require_numbers(below, start, titles, name, hints)
    # Only who says that there is no index says that all columns are coordinates. Where
    # their number is known, a second index is one column too many.
    may_have_index = hints.index is not False and hints.columns is None
    if titles is not None and may_have_index:
        require_coordinates(below, titles, name, hints)

    # 3. Numbers and names.
    values = stack(below, start)  # (n, d)
    if not index:
        return Table(values, None)
    names = first_cells(below)
    return Table(values, names)


def _require_one_width(rows: list[Row], name: str) -> None:
    """Require that all rows have as many cells as the first."""
    first = rows[0]
    for row in rows:
        if row.width != first.width:
            cells = _count_cells(first.width)
            raise unreadable(
                f"{name}, line {row.line}",
                f"have {cells}, as line {first.line} has",
                f"has {row.width}",
                "give every line the same number of cells",
            )


def _titles(head: list[str], row: Row, index: bool, name: str) -> list[str]:
    """Return a title for every column; R writes none above the names of the rows."""
    if len(head) == row.width - 1 and index:
        return ["", *head]
    if len(head) != row.width:
        cells = _count_cells(len(head))
        raise unreadable(
            f"{name}, line {row.line}",
            f"have {cells}, as the line of names has",
            f"has {row.width}",
            "give every line the same number of cells",
        )
    return head


def _count_cells(count: int) -> str:
    return f"{count} cell" if count == 1 else f"{count} cells"


def _require_numbers(
    rows: list[Row], start: int, titles: list[str] | None, name: str, hints: Hints
) -> None:
    """Require a number in every cell from column ``start`` on."""
    found = _first_other_cell(rows, start)
    if found is None:
        return
    row, k = found
    cell = row.other[k]
    column = describe_column(k, titles)
    received = "is empty" if cell == "" else f"is {shorten(cell)}"
    requirement = "hold a number"
    # Text in the first line may be a header that was not taken for one, unless it is
    # said that there is none.
    undecided = titles is None and hints.header is None
    may_be_header = undecided and row is rows[0]
    content = kind(cell)
    if content == "missing":
        remedy = _remedy_of_gap(row, k, may_be_header and hints.options)
    elif content == "infinite":
        requirement = "hold a finite number"
        remedy = "remove that row or replace the value"
    else:
        remedy = _remedy_of_text(content, row, k, may_be_header, hints)
    place = f"{name}, line {row.line}, {column}"
    raise unreadable(place, requirement, received, remedy)


def _first_other_cell(rows: list[Row], start: int) -> tuple[Row, int] | None:
    """Return the first cell from column ``start`` on that holds no number."""
    for row in rows:
        for k in row.other:
            if k >= start:
                return row, k
    return None


def _remedy_of_gap(row: Row, k: int, may_be_header: bool) -> str:
    """Return what to do about a missing value at column ``k``."""
    remedy = "remove that row or replace the missing value"
    contents = map(kind, row.other.values())
    # A first line of numbers and gaps is data, unless the gap is an empty corner.
    if may_be_header and (k == 0 or "word" in contents):
        remedy += ", or pass --header yes if this line names the columns"
    return remedy


def _remedy_of_text(
    content: str, row: Row, k: int, may_be_header: bool, hints: Hints
) -> str:
    """Return what to do about text at column ``k``, of the kind ``content``."""
    # Text that means a number can be mended, other text cannot.
    if content == "notation":
        remedy = (
            "write plain numbers with decimal points, without units and separators of "
            "thousands"
        )
    elif row.width > 1:
        remedy = "remove that column or replace the text"
    else:
        remedy = "replace the text"
    # Without options only the file itself can say what its lines and columns are.
    if may_be_header and hints.options:
        remedy += ", or pass --header yes if this line names the columns"
    elif may_be_header:
        remedy += ", or remove this line if it names the columns"
    # A single column names no rows, and only an option that was not given is offered.
    if k > 0 or row.width == 1 or hints.index is not None:
        return remedy
    if hints.options:
        remedy += ", or pass --index-column yes if this column names the rows"
    else:
        remedy += (
            ", or write words alone, or integers that differ, into this column if it "
            "names the rows"
        )
    return remedy
