"""Where tokens start and end in a text, in bytes, also where one splits a character.

Fast tokenizers tell the span of every token in characters. In bytes it is exact but for
three things, which are decided one by one, so that an odd character spoils what is said
of its own tokens alone:

1. Tokens that share characters, a *run*, are cut apart by their own bytes, where these
   spell the run's text (byte-level and byte-fallback vocabularies).
2. Spans may lack spaces that a token spells, and tokens may spell a space that the
   tokenizer itself put first, which is no byte of the text.
3. Characters that no token spans belong to the token before them, as a mark that a
   normalizer joined with its letter; white space to the token behind it.

Of a run that does not spell its text, as behind a normalizer, the first token takes the
shared character, and the others are empty: none of them is then said to start inside
of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

Ends = NDArray[np.int32]
Bytes = NDArray[np.int64]  # positions in a text, in bytes

_FALLBACK_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE = b" "


class ByteSpans(NamedTuple):
    """Where n tokens start and end, in bytes of the text.

    Attributes
    ----------
    starts : (n,) int64 array
        Where each token's own text starts. It may lie before the end of the token in
        front: both share a character that cannot be cut between them.
    ends : (n,) int64 array
        Non-decreasing.
    """

    starts: Bytes
    ends: Bytes


class _Place(NamedTuple):
    """Where the text of a run may lie: its span, and the tokens around it, in bytes."""

    floor: int  # where the run before ends
    start: int
    end: int
    ceiling: int  # where the run behind starts


def byte_ends(
    text: str,
    ids: Sequence[int],
    offsets: Sequence[tuple[int, int]],
    tokenizer: PreTrainedTokenizerBase,
) -> Ends:
    """Return for each token the number of bytes of ``text``, in UTF-8, up to its end.

    Parameters
    ----------
    text : str
        What was tokenized.
    ids : sequence of n ints
        Its tokens.
    offsets : sequence of n pairs
        Their spans in characters, as fast tokenizers give them.
    tokenizer : PreTrainedTokenizerBase
        Tells each token's own bytes, which decide where spans do not.

    Returns
    -------
    (n,) int32 array
        Non-decreasing; the last is the length of the text, but for white space at its
        end that no token spans.
    """
    spans = byte_spans(text, ids, offsets, tokenizer)
    return spans.ends.astype(np.int32)


def byte_spans(
    text: str,
    ids: Sequence[int],
    offsets: Sequence[tuple[int, int]],
    tokenizer: PreTrainedTokenizerBase,
) -> ByteSpans:
    """Return where each token starts and ends in ``text``, in bytes of its UTF-8.

    Parameters
    ----------
    text, ids, offsets, tokenizer
        As of `byte_ends`.
    """
    whole = text.encode()
    edges = _first_bytes(text)
    characters = np.array(offsets, dtype=np.int64).reshape(-1, 2)  # where n = 0, too
    spans = edges[characters]  # (n, 2), in bytes
    starts = spans[:, 0].copy()
    ends = np.maximum.accumulate(spans[:, 1])

    # 1. and 2. Runs whose tokens' own bytes tell what the spans do not.
    names = tokenizer.convert_ids_to_tokens(list(ids))
    added = frozenset(tokenizer.get_added_vocab())
    for first, last, place in _unclear_runs(spans, len(whole)):
        # Added tokens may span white space around them, which they do not spell.
        if last - first == 1 and names[first] in added:
            continue
        floor = int(ends[first - 1]) if first else 0
        found = _cuts(names[first:last], whole, place._replace(floor=floor))
        if found is not None:
            starts[first:last] = found[:-1]
            ends[first:last] = found[1:]

    # 3. Characters between two tokens, or behind the last, that are no white space.
    ends = np.maximum.accumulate(ends)
    next_starts = np.append(starts[1:], len(whole))
    for i in np.flatnonzero(next_starts > ends).tolist():
        between = whole[ends[i] : next_starts[i]].decode()
        joined = _up_to_white_space(between)
        ends[i] += len(joined.encode())
    return ByteSpans(starts, ends)


def _up_to_white_space(text: str) -> str:
    """Return the characters before the first that is white space."""
    for i, character in enumerate(text):
        if character.isspace():
            return text[:i]
    return text


def _first_bytes(text: str) -> Bytes:
    """Return the first byte of each character, and the length of the text in bytes."""
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    # UTF-8 spells a character in one byte, and in one more from each of these on.
    lengths = 1 + np.searchsorted([0x80, 0x800, 0x10000], codes, side="right")
    return np.concatenate([[0], np.cumsum(lengths)])


def _unclear_runs(
    spans: Bytes,
    length: int,
) -> Iterator[tuple[int, int, _Place]]:
    """Yield the runs of tokens, first and last + 1, of which spans do not tell all.

    Those are runs of several tokens, and runs beside bytes that no token spans.
    """
    if not len(spans):
        return
    reach = np.maximum.accumulate(spans[:, 1])
    is_first = np.append(True, spans[1:, 0] >= reach[:-1])
    firsts = np.flatnonzero(is_first)
    lasts = np.append(firsts[1:], len(spans))
    starts = spans[firsts, 0]
    ends = reach[lasts - 1]
    floors = np.append(0, ends[:-1])
    ceilings = np.append(starts[1:], length)
    shares = lasts - firsts > 1
    has_gap = (starts > floors) | (ceilings > ends)
    for i in np.flatnonzero(shares | has_gap).tolist():
        place = _Place(int(floors[i]), int(starts[i]), int(ends[i]), int(ceilings[i]))
        yield int(firsts[i]), int(lasts[i]), place


def _cuts(names: Sequence[str], whole: bytes, place: _Place) -> Bytes | None:
    """Return the m + 1 edges of a run's m tokens, or None if they do not spell it."""
    spellings: tuple[Callable[[str], bytes | None], ...]
    spellings = (_byte_level, _byte_fallback)
    for spell in spellings:
        pieces = []
        for name in names:
            piece = spell(name)
            if piece is not None:
                pieces.append(piece)
        if len(pieces) == len(names):
            edges = _edges(pieces, whole, place)
            if edges is not None:
                return edges
    return None


def _edges(pieces: Sequence[bytes], whole: bytes, place: _Place) -> Bytes | None:
    """Return where pieces meet, if they spell the text at their place.

    Spaces may reach beyond the span, and the first may be one that the tokenizer put
    in front, which the text does not have.
    """
    # 1. What they spell without the spaces around it ends where the span's text does.
    spelled = b"".join(pieces)
    core = spelled.strip(_SPACE)
    before = len(spelled) - len(spelled.lstrip(_SPACE))
    behind = len(spelled) - len(spelled.rstrip(_SPACE))
    inside = whole[place.start : place.end]
    if core:
        core_end = place.start + len(inside.rstrip(_SPACE))
        end = core_end + behind
    else:
        # Spaces alone: they end where the span does, or begin where they can.
        end = max(place.end, place.floor + len(spelled))

    # 2. Nothing but spaces is around it. The first may be the tokenizer's own.
    lengths = np.array([0, *map(len, pieces)], dtype=np.int64)
    reached = np.cumsum(lengths)  # bytes spelled so far
    for dummy in range(min(before, 1) + 1):  # bytes spelled that are none of the text
        start = end - len(spelled) + dummy
        if not place.floor <= start <= end <= place.ceiling:
            continue
        left_out = whole[place.start : start]
        if whole[start:end] == spelled[dummy:] and not left_out.strip(_SPACE):
            return start + np.maximum(reached - dummy, 0, dtype=np.int64)
    return None


def _byte_level(token: str) -> bytes | None:
    """Spell a GPT-2 style token; None where a character stands for no byte."""
    table = byte_of_character()
    spelled = bytearray()
    for character in token:
        if character not in table:
            return None
        spelled.append(table[character])
    return bytes(spelled)


def _byte_fallback(token: str) -> bytes:
    """Spell a SentencePiece style token: "▁" is a space, "<0x41>" a byte."""
    match = _FALLBACK_BYTE.fullmatch(token)
    if match is None:
        with_spaces = token.replace("▁", " ")
        return with_spaces.encode()
    byte = int(match[1], 16)
    return bytes([byte])


@cache
def byte_of_character() -> dict[str, int]:
    """Return GPT-2's table of the characters that stand for bytes.

    Printable characters of Latin-1 stand for themselves, those from 256 on for the
    other bytes in their order.
    """
    printable = {
        *range(33, 127),
        *range(161, 173),
        *range(174, 256),
    }
    table = {}
    others = 0  # bytes so far that are not printable
    for byte in range(256):
        if byte in printable:
            character = chr(byte)
        else:
            character = chr(256 + others)
            others += 1
        table[character] = byte
    return table
