"""Where tokens end in a text, in bytes: exact also for tokens that split a character."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def byte_ends(
    text: str,
    ids: Sequence[int],
    offsets: Sequence[tuple[int, int]],
    tokenizer: PreTrainedTokenizerBase,
) -> NDArray[np.int32]:
    """Return for each token the number of bytes of ``text``, in UTF-8, up to its end.

    Parameters
    ----------
    text : str
    ids : sequence of n ints
        Its tokens.
    offsets : sequence of n pairs
        Their spans in characters, as fast tokenizers give them.
    tokenizer : PreTrainedTokenizerBase
        Tells each token's own bytes. Where these spell the text (byte-level and
        byte-fallback vocabularies; a space that the tokenizer itself put first is
        allowed) the ends are exact. Otherwise, as behind a normalizer, they come from
        the spans, and the cuts inside one character are counted in bytes from its
        start.

    Returns
    -------
    (n,) int32 array
        Non-decreasing; the last is the length of the text.
    """
    whole, tokens = text.encode(), tokenizer.convert_ids_to_tokens(list(ids))
    added = frozenset(tokenizer.get_added_vocab())
    for spell in (_byte_level, _byte_fallback):
        pieces = [
            token.encode() if token in added else spell(token) for token in tokens
        ]
        spelled, ends = (
            b"".join(pieces),
            np.cumsum([len(piece) for piece in pieces], dtype=np.int32),
        )
        if spelled in (whole, b" " + whole):
            return np.maximum(ends - (len(spelled) - len(whole)), 0, dtype=np.int32)
    return _from_offsets(text, np.array(offsets, dtype=np.int64).reshape(-1, 2))


def _byte_level(token: str) -> bytes:
    """The bytes of a GPT-2 style token; no text at all where a character stands for no byte."""
    table = _byte_of_character()
    return (
        bytes(table[character] for character in token)
        if table.keys() >= set(token)
        else b"\xff"
    )


def _byte_fallback(token: str) -> bytes:
    """The bytes of a SentencePiece style token."""
    byte = _BYTE.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode()


@cache
def _byte_of_character() -> dict[str, int]:
    """GPT-2's table: printable Latin-1 characters stand for themselves, the other bytes for the characters from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + i): byte for i, byte in enumerate(others)
    }


def _from_offsets(text: str, spans: NDArray[np.int64]) -> NDArray[np.int32]:
    """A token that overlaps the next one ends inside the character that both share."""
    lengths = np.array([len(character.encode()) for character in text])
    start_of = np.concatenate([[0], np.cumsum(lengths)])
    ends = start_of[spans[:, 1]]
    cuts = 0
    for i in range(len(spans) - 1):
        shared = spans[i + 1, 0] < spans[i, 1]
        cuts = cuts + 1 if shared else 0
        if shared:
            character = spans[i + 1, 0]
            ends[i] = start_of[character] + min(cuts, lengths[character] - 1)
    return np.maximum.accumulate(ends).astype(np.int32)
