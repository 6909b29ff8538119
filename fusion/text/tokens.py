"""Tokens of a whole text, with the bytes that they span."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from fusion.text.byte_offsets import Bytes, ByteSpans, byte_spans


class Tokens(NamedTuple):
    """A text in n tokens.

    Attributes
    ----------
    ids : list of n ints
        The tokens; those that the tokenizer put in front of the text come first.
    starts, ends : (n,) int64 arrays
        Where they start and end in the text, in bytes of its UTF-8; 0 for those in
        front.
    """

    ids: list[int]
    starts: Bytes
    ends: Bytes


def tokenize(text: str, tokenizer: PreTrainedTokenizerBase, *, plain: bool) -> Tokens:
    """Tokenize a text once, as a whole.

    Parameters
    ----------
    text : str
        Rendered by a chat template, which has written the special tokens, or plain.
    tokenizer : PreTrainedTokenizerBase
        A fast tokenizer.
    plain : bool
        Whether the start tokens that the tokenizer puts in front of every text belong
        there. They are left out where the text begins with them. What it puts behind
        texts never belongs there: the text goes on.

    Raises
    ------
    ValueError
        If the tokenizer is not a fast one.
    """
    if not tokenizer.is_fast:
        raise ValueError(
            "tokenizer must be a fast one, which tells where its tokens are in the "
            f"text, but is {type(tokenizer).__name__}: load its fast version."
        )
    encoding = tokenizer(
        text,
        add_special_tokens=plain,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
    )
    ids = encoding["input_ids"]
    offsets = encoding["offset_mapping"]
    # 1 for tokens that the tokenizer adds. Special tokens of the text itself have 0.
    added = encoding["special_tokens_mask"] if plain else [0] * len(ids)
    own = [i for i, flag in enumerate(added) if not flag]
    first = own[0] if own else 0
    last = own[-1] + 1 if own else 0
    starting = ids[:first]
    ids = ids[first:last]
    spans = byte_spans(text, ids, offsets[first:last], tokenizer)
    if not starting or ids[:1] == starting[:1]:
        return Tokens(ids, *spans)
    nowhere = np.zeros(len(starting), dtype=np.int64)
    return Tokens([*starting, *ids], *_with_front(nowhere, spans))


def _with_front(front: Bytes, spans: ByteSpans) -> ByteSpans:
    """Return the spans behind those of tokens that start and end at ``front``."""
    starts = np.concatenate([front, spans.starts])
    ends = np.concatenate([front, spans.ends])
    return ByteSpans(starts, ends)
