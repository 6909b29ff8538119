"""Where tokens end in a text, in bytes, also where a token splits a character."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

Ends = NDArray[np.int32]

_FALLBACK_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
# No text in UTF-8 holds this byte: a token spelled so never matches.
_NOT_UTF8 = b"\xff"


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
        Tells each token's own bytes. Where these spell the text (byte-level and
        byte-fallback vocabularies; a space that the tokenizer itself put first is
        allowed) the ends are exact. Otherwise, as behind a normalizer, they come from
        the spans, and the cuts inside one character are counted in bytes from its
        start.

    Returns
    -------
    (n,) int32 array
        Non-decreasing; the last is the length of the text, but for characters at its
        end that no token spans.
    """
    whole = text.encode()
    tokens = tokenizer.convert_ids_to_tokens(list(ids))
    added = frozenset(tokenizer.get_added_vocab())
    for spell in (_byte_level, _byte_fallback):
        pieces = []
        for token in tokens:
            # Added tokens stand for their own characters in every vocabulary.
            piece = token.encode() if token in added else spell(token)
            pieces.append(piece)
        spelled = b"".join(pieces)
        # The tokenizer may have put a space first, which is no byte of the text.
        if spelled in (whole, b" " + whole):
            lengths = list(map(len, pieces))  # in bytes
            ends = np.cumsum(lengths, dtype=np.int32)
            extra = len(spelled) - len(whole)  # 0 or 1
            return np.maximum(ends - extra, 0, dtype=np.int32)
    spans = np.array(offsets, dtype=np.int64)
    spans = spans.reshape(-1, 2)  # also where there is no token
    return _ends_of_spans(text, spans)


def _byte_level(token: str) -> bytes:
    """Spell a GPT-2 style token; as no text where a character stands for no byte."""
    table = _byte_of_character()
    spelled = bytearray()
    for character in token:
        if character not in table:
            return _NOT_UTF8
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
def _byte_of_character() -> dict[str, int]:
    """GPT-2's table of the characters that stand for bytes.

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


def _ends_of_spans(text: str, spans: NDArray[np.int64]) -> Ends:
    """Ends in bytes of spans of characters, shape (n, 2).

    Where the next token starts before this one ends, the end is moved back into the
    character that both share.
    """
    lengths = np.array([len(character.encode()) for character in text])  # in bytes
    edges = np.cumsum(lengths)
    first_byte = np.concatenate([[0], edges])  # of each character, and the text's end
    ends = first_byte[spans[:, 1]]
    cuts = 0  # so far, in a run of tokens that each share a character with the next
    for i in range(len(spans) - 1):
        start_of_next = spans[i + 1, 0]
        if start_of_next < spans[i, 1]:
            # The spans do not tell at which byte the character is cut: the i-th cut is
            # put behind its byte i, but always before its last byte, which belongs to
            # the last of its tokens.
            cuts += 1
            inside = min(cuts, lengths[start_of_next] - 1)
            ends[i] = first_byte[start_of_next] + inside
        else:
            cuts = 0
    ends = np.maximum.accumulate(ends)
    return ends.astype(np.int32)
