"""Text cut into cells: its delimiter, quotes, comments and blank lines, and what a cell holds.

Lines are split by the delimiter that most of them hold, of ``;``, tab, ``,`` and white
space the first of equals. Blank lines, lines that start with ``#`` and delimiters at
the ends of all lines are passed over.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Sequence

from gwtools._check import unreadable

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
DECIMAL_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+([eE][+-]?[0-9]+)?")
# Numbers as people write them: with a currency, a percent sign, separated thousands, an
# exponent of Fortran, another minus.
_NOTATION = re.compile(
    r"(?=.*[0-9])[-+−–($€£¥ ]*[0-9.,][0-9.,'_ ]*([eEdD][-+−]?[0-9]+)?[ %)$€£¥]*"
)
_EXCELS_FIRST_LINE = re.compile(r"\s*sep=([;,:|\t])\s*", flags=re.IGNORECASE)
_QUOTED = re.compile(r'"[^"]*"')
_WORD = re.compile(r'"((?:[^"]|"")*)"|(\S+)')
_MISSING = {
    *(
        "",
        "na",
        "n/a",
        "nan",
        "+nan",
        "-nan",
        "null",
        "none",
        "nil",
        "missing",
        "nat",
        "<na>",
        "-",
        "--",
        ".",
        "?",
    ),
    *("#na", "#n/a", "#value!", "#div/0!", "#num!", "#ref!"),
}
_TRUTH = {"true", "false"}
_INFINITE = {sign + word for sign in ("", "+", "-") for word in ("inf", "infinity")}
_SAMPLE = 200  # lines that are looked at for the delimiter
_WHITE = " "


def list_records(
    text: str, name: str, *, numbers: bool = False
) -> list[tuple[int, list[str]]]:
    """Split text into cells: (number of the line, its cells) of every line that is neither blank nor a comment.

    Of ``numbers``, a blank line between those of a single column is an empty cell, and
    what may be a single column of decimal commas is refused.
    """
    for ending in ("\r\r\n", "\r\n", "\r"):
        text = text.replace(ending, "\n")
    every = list(enumerate(text.split("\n"), start=1))
    lines = [(i, line) for i, line in every if _is_content(line)]
    said = _EXCELS_FIRST_LINE.fullmatch(lines[0][1]) if lines else None
    if said is not None:
        lines = lines[1:]
    if not lines:
        return []
    delimiter = (
        _delimiter([line for _, line in lines[:_SAMPLE]]) if said is None else said[1]
    )
    records = [
        (i, [cell.strip() for cell in cells])
        for i, cells in _split(lines, delimiter, name)
    ]
    records = _without_trailing(records)
    if numbers and delimiter == ",":
        _refuse_lone_decimals(records, name)
    if numbers and len(records) > 1 and all(len(cells) == 1 for _, cells in records):
        records = _with_gaps(records, every)
    return records


def _with_gaps(
    records: list[tuple[int, list[str]]], lines: list[tuple[int, str]]
) -> list[tuple[int, list[str]]]:
    """Read blank lines between those of a single column, below its title, as empty cells."""
    titled = kind(records[0][1][0]) == "word"
    first, last = records[1 if titled else 0][0], records[-1][0]
    gaps = [(i, [""]) for i, line in lines[first : last - 1] if not line.strip()]
    return sorted(records + gaps)


def _refuse_lone_decimals(records: list[tuple[int, list[str]]], name: str) -> None:
    """Refuse lines of two integers that a title of one column or zeros show to be decimal commas, maybe."""
    head, below = records[0][1], [cells for _, cells in records[1:]]
    titled = bool(below) and len(head) == 1
    rows = records[1:] if titled else records
    pairs = [cells for _, cells in rows]
    if any(
        len(cells) != 2 or not re.fullmatch(r"[+-]?[0-9]+,[0-9]+", ",".join(cells))
        for cells in pairs
    ):
        return
    wrong = next(
        (
            k
            for k, (one, other) in enumerate(pairs)
            if titled or one == "-0" or re.match(r"0[0-9]", other)
        ),
        None,
    )
    if wrong is not None:
        received = (
            f"{','.join(pairs[wrong])!r} may also be one number with a decimal comma"
        )
        remedy = "write decimal points, or give integers in two columns another delimiter and no leading zeros"
        raise unreadable(
            f"{name}, line {rows[wrong][0]}",
            "hold numbers of one meaning",
            received,
            remedy,
        )


def _is_content(line: str) -> bool:
    stripped = line.strip()
    return bool(stripped) and not stripped.startswith("#")


def _delimiter(lines: Sequence[str]) -> str:
    """Return the delimiter of most lines below the first, which may be a title with spaces; a newline where there is none."""
    bare = [_QUOTED.sub("_", line) for line in lines]
    found = {sign: sum(sign in line for line in bare[1:]) for sign in (";", "\t", ",")}
    found[_WHITE] = sum(len(line.split()) > 1 for line in bare[1:])
    if any(found.values()):
        return max(found, key=lambda sign: found[sign])
    if len(bare) > 1 and all(
        kind(cell) == "word" for cell in map(str.strip, re.split("[;,\t]", bare[0]))
    ):
        return "\n"
    return next((sign for sign in (";", "\t", ",") if sign in bare[0]), _WHITE)


def _split(
    lines: list[tuple[int, str]], delimiter: str, name: str
) -> Iterator[tuple[int, list[str]]]:
    if delimiter == _WHITE:
        for number, line in lines:
            yield (
                number,
                [
                    (quoted or plain).replace('""', '"')
                    for quoted, plain in _WORD.findall(line)
                ],
            )
        return
    if delimiter == "\n":
        yield from ((number, [line.strip().strip('"')]) for number, line in lines)
        return
    reader = csv.reader(
        (line + "\n" for _, line in lines),
        delimiter=delimiter,
        skipinitialspace=True,
        strict=True,
    )
    start = 0
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            place = f"{name}, line {lines[min(start, len(lines) - 1)][0]}"
            remedy = "close the quotation marks, and double those within a cell"
            raise unreadable(
                place, "hold quoted or plain cells", f"it does not ({error})", remedy
            ) from error
        yield lines[start][0], cells
        start = reader.line_num


def _without_trailing(
    records: list[tuple[int, list[str]]],
) -> list[tuple[int, list[str]]]:
    """Drop empty last cells of all lines; the first, which may be a header, need not have them, and alone it may have a gap."""
    head, below = records[0][1], [cells for _, cells in records[1:]]
    while below:
        width = len(below[0])
        if width < 2 or any(len(cells) != width or cells[-1] for cells in below):
            break
        if len(head) > width or (len(head) == width and head[-1]):
            break
        for cells in [head, *below] if len(head) == width else below:
            cells.pop()
    return records


def kind(cell: str) -> str:
    """Tell what a cell holds: "number", "missing", "infinite", "notation" (a number or truth value in words) or "word"."""
    if NUMBER.fullmatch(cell):
        return "number" if math.isfinite(float(cell)) else "infinite"
    if cell.casefold() in _MISSING:
        return "missing"
    if cell.casefold() in _INFINITE:
        return "infinite"
    if DECIMAL_COMMA.fullmatch(cell):
        return "number"
    return (
        "notation" if cell.casefold() in _TRUTH or _NOTATION.fullmatch(cell) else "word"
    )


def is_corner(cell: str) -> bool:
    """Tell whether the first cell of a header says that the column below it is an index."""
    return cell == "" or cell.casefold().startswith("unnamed: 0")
