"""Text files cut into cells: their delimiter, quotes, comments, and what a cell holds.

Lines are split by the delimiter that most of them hold, of ``;``, tab, ``,`` and white
space the first of equals. Blank lines, lines that start with ``#`` and delimiters at
the ends of all lines are passed over.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator

from gwtools._check import unreadable

# Lines and records carry their number in the file, from 1, which errors name.
Line = tuple[int, str]
Record = tuple[int, list[str]]

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
INTEGER = re.compile(r"[+-]?[0-9]+")
DECIMAL_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+([eE][+-]?[0-9]+)?")
# Numbers as people write them: with a currency, a percent sign, separated thousands, an
# exponent of Fortran, another minus.
_NOTATION = re.compile(
    r"(?=.*[0-9])[-+−–($€£¥ ]*[0-9.,][0-9.,'_ ]*([eEdD][-+−]?[0-9]+)?[ %)$€£¥]*"
)
_EXCELS_FIRST_LINE = re.compile(r"\s*sep=([;,:|\t])\s*", flags=re.IGNORECASE)
_QUOTED = re.compile(r'"[^"]*"')
_WORD = re.compile(r'"((?:[^"]|"")*)"|(\S+)')
_TWO_INTEGERS = re.compile(r"[+-]?[0-9]+,[0-9]+")
_LEADING_ZERO = re.compile(r"0[0-9]")

# Gaps as pandas, R, NumPy and databases write them, and the errors of spreadsheets.
_MISSING = {
    "",
    "na",
    "n/a",
    "nan",
    "+nan",
    "-nan",
    "nat",
    "<na>",
    "null",
    "none",
    "nil",
    "missing",
    "-",
    "--",
    ".",
    "?",
    "#na",
    "#n/a",
    "#value!",
    "#div/0!",
    "#num!",
    "#ref!",
}
_TRUTH = {"true", "false"}
_INFINITE = {"inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"}

_SIGNS = (";", "\t", ",")  # the first of equals is taken
_WHITE = " "  # stands for any run of white space
_WHOLE_LINE = "\n"  # stands for no delimiter: a line is one cell
_SAMPLE = 200  # lines that are looked at for the delimiter


def list_records(text: str, name: str, *, numbers: bool = False) -> list[Record]:
    """Split text into cells.

    Parameters
    ----------
    text : str
        Content of the file.
    name : str
        What errors call the file.
    numbers : bool
        Whether cells are meant as numbers. Then a blank line between those of a single
        column is an empty cell, and what may be a single column of decimal commas is
        refused.

    Returns
    -------
    list of (int, list of str)
        Number of the line and its cells, for every line that is neither blank nor a
        comment.

    Raises
    ------
    ValueError
        If a quotation mark is not closed, or two integers may be a decimal comma.
    """
    every = _lines(text)
    lines = [(number, line) for number, line in every if _is_content(line)]
    if not lines:
        return []
    first = lines[0][1]
    excel = _EXCELS_FIRST_LINE.fullmatch(first)
    if excel is not None:
        delimiter = excel[1]
        lines = lines[1:]
    else:
        delimiter = _delimiter(lines[:_SAMPLE])
    if not lines:  # Excel's line alone
        return []

    records: list[Record] = []
    for number, cells in _split(lines, delimiter, name):
        stripped = list(map(str.strip, cells))
        records.append((number, stripped))
    _drop_trailing(records)
    if not numbers:
        return records
    if delimiter == ",":
        _refuse_lone_decimals(records, name)
    return _with_gaps(records, every)


def _lines(text: str) -> list[Line]:
    """Split text at the ends of lines of every system."""
    # "\r\r\n" is what text mode on Windows makes of "\r\n"; longer endings go first, so
    # that none counts as several lines.
    for ending in ("\r\r\n", "\r\n", "\r"):
        text = text.replace(ending, "\n")
    return list(enumerate(text.split("\n"), start=1))


def _is_content(line: str) -> bool:
    """Tell whether a line is neither blank nor a comment."""
    stripped = line.strip()
    return bool(stripped) and not stripped.startswith("#")


def _delimiter(lines: list[Line]) -> str:
    """Return the delimiter of most lines below the first, which may be a title."""
    # Lines that hold each delimiter; between quotation marks it is part of a cell.
    counts = {";": 0, "\t": 0, ",": 0, _WHITE: 0}
    for _, line in lines[1:]:
        bare = _QUOTED.sub("_", line)
        for sign in _SIGNS:
            counts[sign] += sign in bare
        counts[_WHITE] += len(bare.split()) > 1
    # Of equals the first.
    most = max(counts, key=counts.__getitem__)
    if counts[most] > 0:
        return most

    # No line below holds a delimiter: these are one column, and a first line of words
    # is its title, whatever delimiters it holds.
    head = _QUOTED.sub("_", lines[0][1])
    titles = map(str.strip, re.split("[;,\t]", head))
    if len(lines) > 1 and are_words(titles):
        return _WHOLE_LINE
    for sign in _SIGNS:
        if sign in head:
            return sign
    return _WHITE


def _split(lines: list[Line], delimiter: str, name: str) -> Iterator[Record]:
    """Split each line at the delimiter."""
    if delimiter == _WHITE:
        return _split_at_white_space(lines)
    if delimiter == _WHOLE_LINE:
        return _leave_whole(lines)
    return _split_at_sign(lines, delimiter, name)


def _split_at_white_space(lines: list[Line]) -> Iterator[Record]:
    """Split at runs of white space, which csv would take for empty cells."""
    for number, line in lines:
        cells: list[str] = []
        for quoted, plain in _WORD.findall(line):
            cell = quoted or plain
            cells.append(cell.replace('""', '"'))
        yield number, cells


def _leave_whole(lines: list[Line]) -> Iterator[Record]:
    """Take each line as one cell."""
    for number, line in lines:
        cell = line.strip().strip('"')
        yield number, [cell]


def _split_at_sign(lines: list[Line], sign: str, name: str) -> Iterator[Record]:
    """Split at a sign, where a quoted cell may hold the sign and ends of lines."""
    ended = (line + "\n" for _, line in lines)
    reader = csv.reader(ended, delimiter=sign, skipinitialspace=True, strict=True)
    # A record of several lines is called by the first of them, which is lines[start].
    start = 0
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            number, _ = lines[start]
            raise unreadable(
                f"{name}, line {number}",
                "hold quoted or plain cells",
                f"it does not ({error})",
                "close the quotation marks, and double those within a cell",
            ) from error
        number, _ = lines[start]
        yield number, cells
        start = reader.line_num  # lines that are read so far


def _drop_trailing(records: list[Record]) -> None:
    """Drop, in place, the empty last cells that all lines have."""
    head = records[0][1]
    below = [cells for _, cells in records[1:]]
    while _end_in_a_delimiter(head, below):
        # The first line may be titles without a delimiter at their end.
        if len(head) == len(below[0]):
            head.pop()
        for cells in below:
            cells.pop()


def _end_in_a_delimiter(head: list[str], below: list[list[str]]) -> bool:
    """Tell whether all lines end in an empty cell; a shorter first line need not."""
    if not below:
        return False  # the empty cell of a single line may be a gap
    width = len(below[0])
    if width < 2 or len(head) > width:
        return False
    if len(head) == width and head[-1]:
        return False
    for cells in below:
        if len(cells) != width:
            return False
        if cells[-1]:
            return False
    return True


def _refuse_lone_decimals(records: list[Record], name: str) -> None:
    """Refuse pairs of integers that may be decimal commas of a single column."""
    head = records[0][1]
    titled = len(head) == 1 and len(records) > 1
    rows = records[1:] if titled else records
    for _, cells in rows:
        if len(cells) != 2 or not _TWO_INTEGERS.fullmatch(",".join(cells)):
            return
    for line, cells in rows:
        whole, decimals = cells
        # Signs of a decimal comma: one title above two cells, "-0,5", and "2,05".
        if titled or whole == "-0" or _LEADING_ZERO.match(decimals):
            pair = f"{whole},{decimals}"
            raise unreadable(
                f"{name}, line {line}",
                "hold numbers of one meaning",
                f"{pair!r} may also be one number with a decimal comma",
                "write decimal points, or give integers in two columns another "
                "delimiter and no leading zeros",
            )


def _with_gaps(records: list[Record], every: list[Line]) -> list[Record]:
    """Read blank lines within a single column, below its title, as empty cells."""
    if len(records) < 2:
        return records
    for _, cells in records:
        if len(cells) != 1:
            return records
    titled = kind(records[0][1][0]) == "word"
    top = records[1] if titled else records[0]
    first = top[0]
    last = records[-1][0]
    gaps: list[Record] = []
    # Lines are numbered from 1, so that this slice lies between the first and the last.
    for number, line in every[first : last - 1]:
        if not line.strip():
            gaps.append((number, [""]))
    return sorted(records + gaps)


def kind(cell: str) -> str:
    """Tell what a cell holds.

    Returns
    -------
    {"number", "missing", "infinite", "notation", "word"}
        "notation" is a number with a currency, a unit or separated thousands, in the
        notation of Fortran and the like, or a truth value.
    """
    if NUMBER.fullmatch(cell):
        finite = math.isfinite(float(cell))  # 1e999 is not
        return "number" if finite else "infinite"
    folded = cell.casefold()
    if folded in _MISSING:
        return "missing"
    if folded in _INFINITE:
        return "infinite"
    if DECIMAL_COMMA.fullmatch(cell):
        return "number"
    if folded in _TRUTH or _NOTATION.fullmatch(cell):
        return "notation"
    return "word"


def are_words(cells: Iterable[str]) -> bool:
    """Tell whether all cells are words."""
    return all(kind(cell) == "word" for cell in cells)


def is_corner(cell: str) -> bool:
    """Tell whether the first cell of a header says that its column is an index."""
    return cell == "" or cell.casefold().startswith("unnamed: 0")
