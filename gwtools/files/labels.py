"""Names of columns and rows: whether the first line and column of a table hold them.

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
column called so behind the first, as a second index of pandas. Neither is asked where
the number of columns is known, as that of weights is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gwtools._array import NumpyArray
from gwtools._check import unreadable
from gwtools.files.records import INTEGER, are_words, is_corner, kind
from gwtools.files.rows import Row, column, first_cells, shorten, stack

_LABEL_NAMES = {
    *("#", "id", "ids", "index", "idx", "key", "no", "no.", "nr", "nr."),
    *("row", "rowid", "row_id", "label", "name", "names"),
}


@dataclass(frozen=True)
class Hints:
    """What is known of a table before it is read.

    ``header`` and ``index`` say whether the first line and the first column are names;
    None leaves it to the file. ``size`` is the number of rows and ``columns`` that of
    columns of numbers, both without names, where they are known. ``holds`` is
    "distances", of which there are as many rows as columns, or "points", where that is
    said. ``options`` is False where no option says ``header`` and ``index``, so that
    refusals must not advise one.
    """

    header: bool | None = None
    index: bool | None = None
    size: int | None = None
    columns: int | None = None
    holds: str | None = None
    options: bool = True


def read_first_line(
    head: list[str],
    rows: list[Row],
    name: str,
    hints: Hints,
) -> tuple[bool, bool]:
    """Tell what the first line names.

    Parameters
    ----------
    head : list of str
        Cells of the first line.
    rows : list of Row
        All lines, the first included.
    name : str
        What errors call the file.
    hints : Hints
        What is known of the table.

    Returns
    -------
    header, index : bool
        Whether the first line names the columns, and whether it says that the first
        column names the rows.

    Raises
    ------
    ValueError
        If the first line may be data or names, and no known size decides.
    """
    below = rows[1:]
    firsts = first_cells(below)
    width = below[0].width if below else len(head)

    # 1. R leaves the title of the column of labels out, so that the first line is one
    # cell shorter than those below, and pandas leaves it empty.
    short = len(head) == width - 1
    corner = is_corner(head[0])
    titles = head[1:] if corner else head
    labelled = (short or corner) and are_labels(firsts)
    index = labelled and hints.index is not False
    if hints.header is not None:
        return hints.header, hints.header and index

    # 2. First lines that are names for certain.
    if titles and are_words(titles) and (labelled or not short):
        return True, index
    if labelled and _are_titles_beside_labels(titles, firsts, short):
        return True, index

    # 3. First lines that are names or data. A cell that is empty or missing in others
    # is a gap in data, which is refused later.
    if not below or corner or short:
        return False, False
    named = width > 1 and kind(head[0]) == "word" and are_words(firsts)
    if not _may_be_titles(head, below, named):
        return False, False
    columns = width - 1 if named else width
    header = _is_header_by_size(rows, columns, name, hints)
    return header, header and named and hints.index is not False


def _are_titles_beside_labels(
    titles: list[str],
    firsts: list[str],
    short: bool,
) -> bool:
    """Tell whether cells beside a first column of labels are titles for certain."""
    if not titles:
        return False
    # The default titles of pandas, and those of a matrix between the labels.
    if is_counting(titles) or titles == firsts:
        return True
    has_words = False
    for title in titles:
        if kind(title) == "word":
            has_words = True
        elif not INTEGER.fullmatch(title):
            return False
    # A word is no data, and neither are integers behind an empty corner above words.
    if has_words:
        return True
    return not short and are_words(firsts)


def _may_be_titles(head: list[str], below: list[Row], named: bool) -> bool:
    """Tell whether a first line of numbers may also be titles.

    Where the rows are ``named``, the first line starts with the title of their names.
    """
    start = 1 if named else 0
    titles = head[start:]
    # "id" or the like above the names says that the other cells may be titles, too.
    is_id = named and head[0].casefold() in _LABEL_NAMES
    # Without it, fractions and lines of different widths are data.
    for title in titles:
        if not INTEGER.fullmatch(title):
            return is_id
    for row in below:
        if row.width != len(head):
            return is_id
    numbers = np.array(titles, float)  # (d,)
    values = stack(below, start)  # (n, d), NaN at cells without a number
    steps = np.diff(numbers)  # (d − 1,)
    if is_id or is_counting(titles):
        return True
    # Titles that are numbers increase from one column to the next.
    if steps.size == 0 or steps.min() <= 0:
        return False
    even = bool((steps == steps[0]).all())
    if even and _are_like_years(numbers, values):
        return True
    if even and named and steps[0] == 1:
        return True
    # Integers above fractions alone, such as wavelengths.
    whole = values % 1 == 0
    return not whole.any()


def _are_like_years(numbers: NumpyArray, values: NumpyArray) -> bool:
    """Tell whether titles (d,) lie outside the ranges of their columns (n, d).

    Years above other quantities do.
    """
    # Unlike min and max, fmin and fmax pass NaN over.
    below = numbers < np.fmin.reduce(values)
    above = numbers > np.fmax.reduce(values)
    outside = below | above
    if not outside.all():
        return False
    # Two small integers above others are as likely data, such as 30, 31 above 1, 2.
    return len(numbers) > 2 or bool(numbers[0] >= 1000)


def _is_header_by_size(
    rows: list[Row],
    columns: int,
    name: str,
    hints: Hints,
) -> bool:
    """Tell from known sizes whether a first line of numbers is names or data."""
    count = len(rows)  # the line in question included
    if hints.holds == "distances":
        return count == columns + 1
    if hints.size is not None:
        return hints.size == count - 1
    remedy = "pass --header yes if it holds names and --header no if it holds data"
    # A matrix of distances is offered only where it is not said that these are points.
    if hints.holds is None and count == columns:
        remedy += ", or --distances for a matrix of distances"
    raise unreadable(
        f"{name}, line {rows[0].line}",
        "be data or the names of the columns",
        "its integers may also be names",
        remedy,
    )


def is_first_column_index(
    rows: list[Row],
    titles: list[str] | None,
    name: str,
    hints: Hints,
) -> bool:
    """Tell whether the first column names the rows, where the first line does not say.

    Parameters
    ----------
    rows : list of Row
        Lines below the header.
    titles : list of str, optional
        The header, where there is one.
    name : str
        What errors call the file.
    hints : Hints
        What is known of the table.

    Returns
    -------
    bool
        False where it is a coordinate.

    Raises
    ------
    ValueError
        If the first column may be names or a coordinate.
    """
    width = rows[0].width
    if hints.index is not None:
        return hints.index
    if width < 2:
        return False
    firsts = first_cells(rows)
    # A known number of columns leaves one over for names, or none.
    columns = len(rows) if hints.holds == "distances" else hints.columns
    if columns == width:
        return False
    if columns == width - 1:
        return are_labels(firsts)
    # Without it, words are names, and numbers a coordinate unless they look like names.
    if are_words(firsts):
        return True
    # Where the number of columns is known, this one is wrong in either case.
    if hints.columns is None:
        _require_coordinate_first(rows, titles, name)
    return False


def _require_coordinate_first(
    rows: list[Row],
    titles: list[str] | None,
    name: str,
) -> None:
    """Require that the first column, of numbers, can be nothing but a coordinate."""
    remedy = (
        "pass --index-column yes if it names the rows and --index-column no if it is a "
        "coordinate"
    )
    title = None if titles is None else titles[0]
    # An empty corner says that the column is an index, but it holds no labels.
    if title is not None and is_corner(title):
        raise unreadable(
            f"{name}, column 1",
            "have a name where it is a coordinate",
            "has none",
            remedy,
        )
    place = f"{name}, {describe_column(0, titles)}"
    requirement = "be a coordinate or names of rows"
    n = len(rows)
    numbers = column(rows, 0)  # (n,)
    start = numbers[0]
    # A single row counts nothing.
    counting = start + np.arange(n)
    if n > 1 and start in (0, 1) and np.array_equal(numbers, counting):
        received = f"it counts the rows from {start:g}"
        raise unreadable(place, requirement, received, remedy)
    firsts = first_cells(rows)
    is_id = title is not None and title.casefold() in _LABEL_NAMES
    if is_id and are_labels(firsts):
        received = "its name and its integers leave that open"
        raise unreadable(place, requirement, received, remedy)


def require_coordinates(
    rows: list[Row],
    titles: list[str],
    name: str,
    hints: Hints,
) -> None:
    """Require that no column behind the first looks like an index by its title.

    Parameters
    ----------
    rows : list of Row
        Lines below the header.
    titles : list of str
        The header, with one title for each column.
    name : str
        What errors call the file.
    hints : Hints
        What is known of the table.

    Raises
    ------
    ValueError
        If a column called ``id`` or the like, or left by pandas as a second index,
        holds integers that differ.
    """
    for k, title in enumerate(titles[1:], start=1):
        # pandas calls an index that it wrote and read again "Unnamed: 0"; an empty
        # title is that of the first column alone.
        is_unnamed = title != "" and is_corner(title)
        is_id = title.casefold() in _LABEL_NAMES
        if not (is_unnamed or is_id):
            continue
        numbers = column(rows, k)  # (n,)
        distinct = np.unique(numbers)
        whole = numbers % 1 == 0
        if len(distinct) == len(numbers) and whole.all():
            raise unreadable(
                f"{name}, {describe_column(k, titles)}",
                "be a coordinate",
                "its name and its integers look like an index",
                _remedy_of_second_index(rows, hints),
            )


def _remedy_of_second_index(rows: list[Row], hints: Hints) -> str:
    """Return what to do about a column behind the first that looks like an index."""
    firsts = first_cells(rows)
    # The first column is no coordinate where it is said to be names, or holds words.
    if hints.index or are_words(firsts):
        return "remove that column, or give it another name if it is a coordinate"
    return (
        "remove that column, or pass --index-column no if all columns are coordinates"
    )


def describe_column(k: int, titles: list[str] | None) -> str:
    """Return what errors call the column at position ``k``: its number and title."""
    if titles is None or not titles[k]:
        return f"column {k + 1}"
    title = shorten(titles[k])
    return f"column {k + 1} ({title})"


def are_labels(cells: list[str]) -> bool:
    """Tell whether cells are words, or integers that differ."""
    if are_words(cells):
        return True
    for cell in cells:
        if not INTEGER.fullmatch(cell):
            return False
    distinct = set(cells)
    return len(distinct) == len(cells)


def is_counting(cells: list[str]) -> bool:
    """Tell whether cells count from 0 in plain digits."""
    counting = map(str, range(len(cells)))
    return cells == list(counting)
