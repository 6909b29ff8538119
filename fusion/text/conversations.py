"""Examples in the tokens of one tokenizer, cut where their completion starts.

What is stored or compared across tokenizers hangs on the text alone: the key of an
example is a hash of its content, and positions are byte offsets in the UTF-8
completion.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from fusion.text.messages import Example, Message, sha256
from fusion.text.rows import read_examples, read_rows
from fusion.text.templates import Rendering, render, rendering
from fusion.text.tokens import Tokens, tokenize

__all__ = [
    "Encoded",
    "Example",
    "Message",
    "encode",
    "encode_prompt",
    "read_examples",
    "read_rows",
    "render",
]


@dataclass(frozen=True, eq=False)
class Encoded:
    """An example in one tokenizer's tokens.

    Attributes
    ----------
    input_ids : (T,) int64 array
        Prompt, completion and its end: one or more tokens, or none where the tokenizer
        has no end token.
    completion_mask : (T,) bool array
        True for the n tokens of the completion and its end. Row t of the logits
        predicts token t + 1, so the rows that matter are those before these tokens:
        ``positions``.
    ends : (n,) int32 array
        For each of them, the byte of the UTF-8 completion at which it ends. Tokens of
        the end add no byte.
    digest : str
        The sha256 of the text that was tokenized.
    start : int
        Where the first of them starts, as ``ends`` a byte relative to the completion:
        below 0 if the token begins with the end of the prompt, above where the chat
        template strips white space in front of the completion, else 0.
    cut : bool
        Whether tokens of the completion or its end are cut off.
    """

    input_ids: NDArray[np.int64]  # (T,)
    completion_mask: NDArray[np.bool_]  # (T,)
    ends: NDArray[np.int32]  # (n,), one for each marked token
    digest: str  # in hexadecimal
    start: int = 0  # in bytes
    cut: bool = False

    @property
    def positions(self) -> NDArray[np.int64]:
        """Positions (n,) whose next token is one of the completion or its end."""
        # The logits before a token predict it.
        return np.flatnonzero(self.completion_mask) - 1


class _Seams(NamedTuple):
    """Which tokens of a text are the completion's, and where that lies in bytes."""

    first: int  # the first token of the completion, or of its end
    last: int  # the first token behind the completion
    start: int  # bytes before the completion
    stop: int  # bytes up to the completion's end


def encode(
    example: Example,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | None = None,
) -> Encoded:
    """Tokenize the whole text of an example, once, and mark its completion.

    The tokens are those of what the chat template makes of the conversation, or of
    prompt and completion one behind the other, after the start tokens of the tokenizer.
    A token that spans the end of the prompt and the start of the completion belongs to
    the completion.

    Parameters
    ----------
    example : Example
        What to tokenize.
    tokenizer : PreTrainedTokenizerBase
        A fast tokenizer.
    max_length : int, optional
        Tokens beyond it are cut from the completion's end.

    Returns
    -------
    Encoded
        The completion is followed by its end, from which a model learns to stop. Of
        plain text that is the end-of-sequence token. Of a conversation it is the first
        token that the template puts there, or, where white space and then a special
        token stand there, as of Llama 2, all tokens up to that special one.

    Raises
    ------
    ValueError
        If the tokenizer is not a fast one, its template cannot render the example as it
        is, the prompt gives no token or leaves no room for the completion, or there is
        neither a token of the completion nor an end token; the message names the row.

    Examples
    --------
    A tokenizer of five words; the end token is part of the completion, and adds no byte
    to it.

    >>> import fusion
    >>> from tokenizers import Tokenizer, models, pre_tokenizers
    >>> from transformers import PreTrainedTokenizerFast
    >>> words = Tokenizer(
    ...     models.WordLevel(
    ...         {"</s>": 0, "two": 1, "plus": 2, "is": 3, "four": 4}, unk_token="</s>"
    ...     )
    ... )
    >>> words.pre_tokenizer = pre_tokenizers.Whitespace()
    >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>")
    >>> encoded = fusion.encode(fusion.Example("two plus two is", " four"), tokenizer)
    >>> (
    ...     encoded.input_ids.tolist(),
    ...     encoded.completion_mask.astype(int).tolist(),
    ...     encoded.ends.tolist(),
    ... )
    ([1, 2, 1, 3, 4, 0], [0, 0, 0, 0, 1, 1], [5, 5])
    """
    text = rendering(example, tokenizer)
    tokens = _tokens_of(text, tokenizer, plain=isinstance(example.prompt, str))
    seams = _seams(tokens, text, tokenizer)
    _check_length(seams.first, max_length, example)

    # What the template puts behind the end of the answer is no part of the example.
    behind = seams.last + _end_length(tokens, seams.last, text, tokenizer)
    ids = np.array(tokens.ids[:behind], dtype=np.int64)
    _check_some(len(ids) - seams.first, example)
    completion_mask = np.arange(len(ids)) >= seams.first

    # Ends in the completion: tokens may reach beyond it, as into the template's line
    # break. What ends it adds no byte: it ends where the last of them does, or at 0
    # where the completion gives no token.
    inside = tokens.ends[seams.first : seams.last]
    ends = np.clip(inside, seams.start, seams.stop) - seams.start
    # White space that the last token of the prompt took up is of no token, either.
    taken_up = max(int(tokens.ends[seams.first - 1]) - seams.start, 0)
    end = np.full(len(ids) - seams.last, ends.max(initial=taken_up))
    start = min(int(tokens.starts[seams.first]) - seams.start, 0)
    # White space that a template strips is part of the completion, but of no token.
    in_completion = (np.append(ends, end) + text.skipped).astype(np.int32)
    # A first token that begins in the prompt starts below 0, whatever is stripped.
    if start == 0:
        start = text.skipped + taken_up

    kept = ids[:max_length]
    return Encoded(
        kept,
        completion_mask[:max_length],
        in_completion[: len(kept) - seams.first],
        digest=sha256(json.dumps([text.head, text.completion, text.tail])),
        start=start,
        cut=len(kept) < len(ids),
    )


def encode_prompt(
    example: Example,
    tokenizer: PreTrainedTokenizerBase,
) -> tuple[list[int], list[int]]:
    """Tokenize what stands before a completion that is to be generated.

    Parameters
    ----------
    example : Example
        Its completion is of no concern.
    tokenizer : PreTrainedTokenizerBase
        A fast tokenizer.

    Returns
    -------
    ids : list of int
        The prompt, as in training.
    end_ids : list of int
        The tokens that end an answer: end-of-sequence, and the last of the tokens that
        `encode` marks as its end.

    Raises
    ------
    ValueError
        As of `encode`.
    """
    # Any completion will do. A template leaves this one as it is.
    neutral = Example(
        example.prompt,
        "?",
        example.domain,
        example.tools,
        example.row,
    )
    text = rendering(neutral, tokenizer)
    plain = isinstance(example.prompt, str)
    prompt = tokenize(text.head, tokenizer, plain=plain)
    _check_length(len(prompt.ids), None, example)
    tokens = _tokens_of(text, tokenizer, plain=plain)
    seams = _seams(tokens, text, tokenizer)
    # White space before an end token ends no answer: it may be in it.
    behind = seams.last + _end_length(tokens, seams.last, text, tokenizer)
    end_ids = tokens.ids[seams.last : behind][-1:]
    end = tokenizer.eos_token_id
    if end is not None and end not in end_ids:
        end_ids.append(end)
    return prompt.ids, end_ids


def _tokens_of(
    text: Rendering,
    tokenizer: PreTrainedTokenizerBase,
    *,
    plain: bool,
) -> Tokens:
    """Tokenize the text of an example, with what ends it."""
    if not plain:
        return tokenize(text.text, tokenizer, plain=False)
    without_end = text.head + text.completion
    tokens = tokenize(without_end, tokenizer, plain=True)
    end = tokenizer.eos_token_id
    if end is None:
        return tokens
    # By its id: read as text, it might take up white space at the completion's end.
    stop = len(without_end.encode())
    return Tokens(
        [*tokens.ids, end],
        np.append(tokens.starts, stop),
        np.append(tokens.ends, stop),
    )


def _seams(
    tokens: Tokens,
    text: Rendering,
    tokenizer: PreTrainedTokenizerBase,
) -> _Seams:
    """Find the tokens of the completion of a text."""
    start = len(text.head.encode())
    stop = start + len(text.completion.encode())
    # Tokens without a byte of the text, as a space that the tokenizer put in front,
    # start where they end.
    is_behind = (tokens.ends > start) | (tokens.starts >= start)
    is_beyond = tokens.starts >= stop
    # Added tokens may take up white space on the other side of a cut, as Phi-3's do:
    # they stay where their own text is.
    known = tokenizer.added_tokens_decoder
    whole = text.text.encode()
    for i in np.flatnonzero(is_behind & (tokens.starts < start)):
        if tokens.ids[i] in known and known[tokens.ids[i]].rstrip:
            is_behind[i] = bool(whole[start : tokens.ends[i]].strip())
    for i in np.flatnonzero(~is_beyond & (tokens.ends > stop)):
        if tokens.ids[i] in known and known[tokens.ids[i]].lstrip:
            is_beyond[i] = not whole[tokens.starts[i] : stop].strip()
    first = _first_true(is_behind)
    last = max(first, _first_true(is_beyond))
    return _Seams(first, last, start, stop)


def _end_length(
    tokens: Tokens,
    first: int,
    text: Rendering,
    tokenizer: PreTrainedTokenizerBase,
) -> int:
    """Return how many tokens from ``first`` on are the answer's end; 0 if none is left.

    They reach to a special token, if only white space stands before it.
    """
    known = tokenizer.added_tokens_decoder
    for place in range(first, len(tokens.ids)):
        token = tokens.ids[place]
        if token in known and known[token].special:
            between = text.text.encode()[tokens.starts[first] : tokens.starts[place]]
            if not between.strip():
                return place - first + 1
            break
    return min(1, len(tokens.ids) - first)


def _first_true(flags: NDArray[np.bool_]) -> int:
    """Return the position of the first True, or the length where there is none."""
    return int(flags.argmax()) if flags.any() else len(flags)


def _check_length(prompt: int, max_length: int | None, example: Example) -> None:
    """Require some tokens of the prompt, and room for one more."""
    if prompt == 0:
        raise ValueError(
            "prompt must give at least one token, from which the first of the "
            f"completion is predicted, but gives none in {example.place}: "
            "put a start token before it."
        )
    if max_length is not None and prompt >= max_length:
        raise ValueError(
            f"prompt must be shorter than max_length = {max_length} tokens, "
            f"but has {prompt} in {example.place}: "
            "raise max_length, where the model's context allows it, or drop that "
            "example."
        )


def _check_some(marked: int, example: Example) -> None:
    """Require a token of the completion, or of its end."""
    if marked == 0:
        raise ValueError(
            "completion must give at least one token where the tokenizer has no end "
            f"token, but gives none in {example.place}: drop it, or set "
            "tokenizer.eos_token."
        )
