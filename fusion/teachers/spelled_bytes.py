"""Which bytes of a known text each token of a server stands for.

Servers show tokens as text, and a token that holds a part of a character has none: it
arrives as U+FFFD, as an empty string, in an alphabet that stands for bytes, or in
brackets. The text as a whole is known, though, so that the tokens before and after
such a run fix which bytes it has. How it is cut in itself is known only where its
tokens are as many as its bytes; else each of them takes one byte, in their order, and
the last one the rest.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from fusion.text.byte_offsets import byte_of_character

# What stands where bytes are no text: U+FFFD, and halves of UTF-16 pairs.
_UNSPELLED = re.compile("([\ufffd\ud800-\udfff]+)")
# Legacy completions of OpenAI show bytes that are no text so.
_ESCAPED = re.compile(r"bytes:((?:\\x[0-9a-fA-F]{2})+)")
_BRACKETED = re.compile(r"<0x([0-9a-fA-F]{2})>")
# One U+FFFD stands for at most this many bytes: what is cut off a character of four.
_LONGEST_PART = 3
_FIRST_OF_HIGH_BYTES = 0x80  # bytes below it are characters, and can be spelled
# Texts with more ways to be cut at one token than this are not cut at all.
_MOST_WAYS = 256


class Hole(NamedTuple):
    """Bytes of unknown value, all of them within characters of several bytes."""

    least: int  # how many they are
    most: int


# What a token may stand for: known bytes and holes, one after the other.
Spelling = tuple[bytes | Hole, ...]
# Spellings of one token, the likeliest first; none where nothing is known of it.
Spellings = Sequence[Spelling]
# A token that adds no byte to its text, whatever the server shows for it.
SILENT: Spellings = ((),)
# A token that is shown as nothing: a part of a character, or one that adds no byte.
EMPTY: Spellings = ((Hole(0, _LONGEST_PART),),)


class Found(NamedTuple):
    """Where a part of a text is among the tokens."""

    first: int  # its first token
    ends: list[int]  # bytes of the part at which its tokens end


def spellings(text: str | None, data: bytes | None) -> list[Spelling]:
    """Return what a token may stand for.

    Parameters
    ----------
    text : str or None
        The token as the server shows it.
    data : bytes or None
        Its bytes as the server gives them: its own ones, or those of the text that the
        server shows.

    Returns
    -------
    list of tuple
        Spellings, the likeliest first; none where nothing is known.
    """
    shown: list[str] = []
    found: list[Spelling] = []
    if data:
        try:
            shown.append(data.decode())
        except UnicodeDecodeError:
            # Parts of characters: these are the token's own bytes.
            found.append((data,))
    if text is not None:
        shown.append(text)
    for string in shown:
        for spelling in _spellings_of(string):
            if spelling not in found:
                found.append(spelling)
    return found


def _spellings_of(text: str) -> list[Spelling]:
    """Return what a shown string may stand for, the likeliest first."""
    # 1. Nothing.
    if not text:
        return list(EMPTY)
    # 2. What is written.
    found = [_written(text)]
    # 3. A byte in brackets or escaped.
    match = _BRACKETED.fullmatch(text)
    if match is not None:
        found.append((bytes.fromhex(match[1]),))
    match = _ESCAPED.fullmatch(text)
    if match is not None:
        digits = match[1].replace("\\x", "")
        found.append((bytes.fromhex(digits),))
    # 4. Tokens as vocabularies write them: SentencePiece's space, GPT-2's bytes.
    if "▁" in text:
        found.append(_written(text.replace("▁", " ")))
    table = byte_of_character()
    if not text.isascii() and all(character in table for character in text):
        found.append((bytes(table[character] for character in text),))
    return found


def _written(text: str) -> Spelling:
    """Spell a text, with holes where it shows that bytes are none."""
    parts: list[bytes | Hole] = []
    for piece in _UNSPELLED.split(text):
        if not piece:
            continue
        if _UNSPELLED.fullmatch(piece):
            # The character U+FFFD itself, of three bytes, is among what fits.
            parts.append(Hole(len(piece), _LONGEST_PART * len(piece)))
        else:
            parts.append(piece.encode())
    return tuple(parts)


def place(tokens: Sequence[Spellings], whole: bytes) -> list[int] | None:
    """Return the bytes of a text at which the tokens that make it end.

    Parameters
    ----------
    tokens : sequence of n lists of spellings
        What each token may stand for.
    whole : bytes
        The text. The first token may have a space before it, which tokenizers put
        there.

    Returns
    -------
    list of n ints, or None
        Non-decreasing, the last is the length of the text; None where the tokens do not
        make it.
    """
    found = _placed(_with_dropped_space(tokens), whole, inside=False)
    if found is None:
        return None
    return _shared(found, tokens, whole)


def find(tokens: Sequence[Spellings], part: bytes) -> list[Found]:
    """Return all places where consecutive tokens make a part of their text.

    Parameters
    ----------
    tokens : sequence of lists of spellings
        What each token of the whole text may stand for.
    part : bytes
        The part: it begins where a token does, or behind the space with which a token
        begins, and ends where a token does.

    Returns
    -------
    list of Found
        In the order of the tokens.
    """
    places = []
    for first in range(len(tokens)):
        rest = tokens[first:]
        ends = _placed(_with_dropped_space(rest), part, inside=True)
        # Tokens without a byte begin no part: it begins at the first that has some.
        if ends is None or ends[0] == 0:
            continue
        # The first character may be cut among empty tokens before the one that shows
        # it: as many of them as it has bytes but one.
        before = 0
        _, most = _first_character(part, 0, ends[0])
        while before < min(most, first) and _is_empty(tokens[first - before - 1]):
            before += 1
        start = first - before
        ends = _shared([0] * before + ends, tokens[start:], part)
        places.append(Found(start, ends))
    return places


def _with_dropped_space(tokens: Sequence[Spellings]) -> list[Spellings]:
    """Let the first token that is not silent lack the space that it begins with."""
    changed = list(tokens)
    for i, token in enumerate(tokens):
        if token is SILENT:
            continue
        more = list(token)
        for spelling in token:
            head = spelling[0] if spelling else b""
            if isinstance(head, bytes) and head.startswith(b" "):
                more.append((head[1:], *spelling[1:]))
        changed[i] = more
        break
    return changed


def _placed(
    tokens: Sequence[Spellings],
    whole: bytes,
    inside: bool,  # whether the text may end before the last token does
) -> list[int] | None:
    """Return where tokens end, by dynamic programming over tokens and bytes."""
    size = len(whole)
    # 1. Forwards: from each byte that a token may start at to those it may end at, the
    #    likeliest first. What is left must be enough for the tokens that are left.
    left = [] if inside else _least_left(tokens)
    steps: list[dict[int, list[int]]] = []
    starts = {0}
    for i, token in enumerate(tokens):
        if inside and size in starts:
            break
        last = size if inside else size - left[i]
        step = {}
        for start in starts:
            ends = [end for end in _ends(token, whole, start) if end <= last]
            if ends:
                step[start] = ends
        starts = {end for ends in step.values() for end in ends}
        if not starts or len(starts) > _MOST_WAYS:
            return None
        steps.append(step)
    if size not in starts:
        return None
    # 2. Backwards: what leads to the end of the text.
    leading = {size}
    for step in reversed(steps):
        for start, ends in list(step.items()):
            kept = [end for end in ends if end in leading]
            if kept:
                step[start] = kept
            else:
                del step[start]
        leading = set(step)
    # 3. The likeliest of it.
    found = []
    at = 0
    for step in steps:
        at = step[at][0]
        found.append(at)
    return found


def _least_left(tokens: Sequence[Spellings]) -> list[int]:
    """Return the fewest bytes that the tokens after each one have."""
    left = []
    total = 0
    for token in reversed(tokens):
        left.append(total)
        total += min(map(_least, token), default=0)
    left.reverse()
    return left


def _least(spelling: Spelling) -> int:
    """Return the fewest bytes that a spelling has."""
    return sum(part.least if isinstance(part, Hole) else len(part) for part in spelling)


def _ends(token: Spellings, whole: bytes, start: int) -> list[int]:
    """Return where a token that starts at a byte may end, the likeliest first."""
    found: list[int] = []
    for spelling in token:
        places = {start}
        for part in spelling:
            places = _after(part, whole, places)
        # Of a run that is not spelled each token has one byte, and the last one the
        # rest: the shortest comes first, and none at all last.
        for end in sorted(places, key=lambda end: (end == start, end)):
            if end not in found:
                found.append(end)
    return found


def _after(part: bytes | Hole, whole: bytes, places: set[int]) -> set[int]:
    """Return where a part of a token ends that starts at one of these bytes."""
    found = set()
    for start in places:
        if isinstance(part, bytes):
            if whole.startswith(part, start):
                found.add(start + len(part))
            continue
        high = 0  # bytes from here on that a hole may have
        for byte in whole[start : start + part.most]:
            if byte < _FIRST_OF_HIGH_BYTES:
                break
            high += 1
        found.update(range(start + part.least, start + high + 1))
    return found


def _shared(
    ends: list[int],
    tokens: Sequence[Spellings],
    whole: bytes,
) -> list[int]:
    """Share a character among its tokens, where only the last of them shows it.

    Servers that wait for whole characters show empty strings for all but the last.
    """
    found = list(ends)
    run = 0  # tokens before this one that are empty and were given no byte
    for i, end in enumerate(ends):
        start = ends[i - 1] if i > 0 else 0
        if end == start:
            run = run + 1 if _is_empty(tokens[i]) else 0
            continue
        if run:
            head, inside = _first_character(whole, start, end)
            for j in range(run):
                # One byte each, and at least one for the token that shows it.
                taken = min(j + 1, inside)
                if taken:
                    found[i - run + j] = head + taken
        run = 0
    return found


def _is_empty(token: Spellings) -> bool:
    """Tell whether a token is shown as nothing."""
    return tuple(token) == EMPTY


def _first_character(whole: bytes, start: int, end: int) -> tuple[int, int]:
    """Return where the first character of a token starts, and its bytes but the first.

    A space before it is passed over: the first of the empty tokens holds it, together
    with the first byte of the character.
    """
    head = start
    if whole[head:end].startswith(b" "):
        head += 1
    length = 1
    # Bytes after the first of a character are 10xxxxxx.
    while head + length < end and whole[head + length] >> 6 == 0b10:
        length += 1
    return head, length - 1
