"""Examples, and how a tokenizer sees them: input ids, which tokens are completion, and where each ends in its text.

What is stored or compared across tokenizers hangs on the text alone: the key of an
example is a hash of its content, and positions are byte offsets in the UTF-8
completion.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from fusion.text.byte_offsets import byte_ends

# Stands where the completion goes while a chat template is rendered.
_MARK = "[[completion]]"


class Message(NamedTuple):
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True)
class Example:
    """A prompt and its completion.

    Attributes
    ----------
    prompt : str or tuple of Message
        Plain text, used as it is, or the turns before the answer, which a chat template
        renders.
    completion : str
        The answer: what is learnt, and where teachers' rows are kept.
    domain : str
        For reports; no part of the key.

    Examples
    --------
    An example is known by its content, in whatever order, domain or tokenizer it comes.

    >>> import fusion
    >>> example = fusion.Example("two plus two is", "four", domain="sums")
    >>> example.key == fusion.Example("two plus two is", "four").key
    True
    """

    prompt: str | tuple[Message, ...]
    completion: str
    domain: str = ""

    def __post_init__(self) -> None:
        """Refuse empty or unencodable text."""
        if not self.prompt or not self.completion:
            empty = "completion" if self.prompt else "prompt"
            raise ValueError(
                f"{empty} must not be empty, but is {getattr(self, empty)!r}: drop that example."
            )
        try:
            self.completion.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"completion must be encodable as UTF-8, but {error}: repair the text first."
            ) from error

    @property
    def key(self) -> str:
        """The sha256 of the content: the same for every tokenizer, template and order of rows."""
        chat = not isinstance(self.prompt, str)
        content = (
            [*self.prompt, ("assistant", self.completion)]
            if chat
            else [self.prompt, self.completion]
        )
        return hashlib.sha256(
            json.dumps(content, separators=(",", ":")).encode()
        ).hexdigest()


@dataclass(frozen=True, eq=False)
class Encoded:
    """An example in one tokenizer's tokens.

    Attributes
    ----------
    input_ids : (T,) int64 array
        Prompt, completion and one end token where the tokenizer has one.
    completion_mask : (T,) bool array
        True for the n tokens of the completion and its end. Row t of the logits
        predicts token t + 1, so the rows that matter are those before these tokens:
        ``positions``.
    ends : (n,) int32 array
        For each of them, the byte of the UTF-8 completion at which it ends; the end
        token adds none.
    digest : str
        The sha256 of the text that was tokenized.
    """

    input_ids: NDArray[np.int64]
    completion_mask: NDArray[np.bool_]
    ends: NDArray[np.int32]
    digest: str

    @property
    def positions(self) -> NDArray[np.int64]:
        """Positions (n,) whose next token is one of the completion or its end."""
        return np.flatnonzero(self.completion_mask) - 1


def read_examples(source: str | Path | Iterable[Mapping[str, Any]]) -> list[Example]:
    """Read examples from a JSONL file, a ``datasets.Dataset`` or any rows of the same columns.

    Parameters
    ----------
    source : path or iterable of mappings
        Each row has ``prompt`` and ``completion`` (both text, or both lists of
        ``{"role", "content"}``), or ``messages`` whose last is the assistant's; and
        perhaps ``domain``. Other columns are ignored.

    Returns
    -------
    list of Example
        In the order of the rows.

    Raises
    ------
    ValueError
        If a row is not of this form; the message names the row.

    Examples
    --------
    >>> import fusion
    >>> turns = [
    ...     {"role": "user", "content": "two plus two?"},
    ...     {"role": "assistant", "content": "four"},
    ... ]
    >>> rows = [
    ...     {"prompt": "two plus two is", "completion": "four"},
    ...     {"messages": turns, "domain": "chat"},
    ... ]
    >>> for example in fusion.read_examples(rows):
    ...     print(example.prompt, "->", example.completion)
    two plus two is -> four
    (Message(role='user', content='two plus two?'),) -> four
    """
    return [
        _example(row, number) for number, row in enumerate(read_rows(source), start=1)
    ]


def read_rows(
    source: str | Path | Iterable[Mapping[str, Any]],
) -> Iterable[Mapping[str, Any]]:
    """Return the rows of a JSONL file, or what is given if it is no path."""
    return _lines(Path(source)) if isinstance(source, str | Path) else source


def render(example: Example, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """Return the text before and after the completion: plain, or what the tokenizer's chat template puts there.

    Parameters
    ----------
    example : Example
        The completion itself is never changed, even where a template would trim it.
    tokenizer : PreTrainedTokenizerBase
        Its chat template renders prompts that are conversations; plain prompts are
        followed by its end-of-sequence token.

    Returns
    -------
    head, tail : str

    Raises
    ------
    ValueError
        If the prompt is a conversation and the tokenizer has no usable chat template.
    """
    if isinstance(example.prompt, str):
        return example.prompt, tokenizer.eos_token or ""
    if not tokenizer.chat_template:
        raise ValueError(
            "tokenizer must have a chat template for prompts that are conversations, but has none: "
            "set tokenizer.chat_template, or give prompt and completion as plain text."
        )
    turns = [turn._asdict() for turn in (*example.prompt, Message("assistant", _MARK))]
    pieces = str(tokenizer.apply_chat_template(turns, tokenize=False)).split(_MARK)
    if len(pieces) != 2:
        raise ValueError(
            f"chat template must render the answer exactly once, but did so {len(pieces) - 1} times: use another template."
        )
    return pieces[0], pieces[1]


def encode(
    example: Example, tokenizer: PreTrainedTokenizerBase, max_length: int | None = None
) -> Encoded:
    """Tokenize an example, prompt and completion apart, as they will meet when a model continues the prompt.

    Parameters
    ----------
    example : Example
    tokenizer : PreTrainedTokenizerBase
        A fast tokenizer.
    max_length : int, optional
        Tokens beyond it are cut from the completion's end.

    Returns
    -------
    Encoded
        The completion is followed by one end token: the first that the template puts
        there, or end-of-sequence.

    Raises
    ------
    ValueError
        If the prompt gives no token, or leaves no room for the completion.

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
    >>> encoded = fusion.encode(fusion.Example("two plus two is", "four"), tokenizer)
    >>> (
    ...     encoded.input_ids.tolist(),
    ...     encoded.completion_mask.astype(int).tolist(),
    ...     encoded.ends.tolist(),
    ... )
    ([1, 2, 1, 3, 4, 0], [0, 0, 0, 0, 1, 1], [4, 4])
    """
    head, tail = render(example, tokenizer)
    prompt = tokenizer(head, add_special_tokens=isinstance(example.prompt, str))[
        "input_ids"
    ]
    answer = tokenizer(
        example.completion, add_special_tokens=False, return_offsets_mapping=True
    )
    end = tokenizer(tail, add_special_tokens=False)["input_ids"][:1] if tail else []
    _room(len(prompt), max_length)
    ids = np.array([*prompt, *answer["input_ids"], *end], dtype=np.int64)[:max_length]
    ends = byte_ends(
        example.completion, answer["input_ids"], answer["offset_mapping"], tokenizer
    )
    ends = np.append(ends, ends[-1:].repeat(len(end)))[: len(ids) - len(prompt)]
    digest = hashlib.sha256(
        json.dumps([head, example.completion, tail]).encode()
    ).hexdigest()
    return Encoded(ids, np.arange(len(ids)) >= len(prompt), ends, digest)


def _room(prompt: int, max_length: int | None) -> None:
    if prompt == 0:
        raise ValueError(
            "prompt must give at least one token, from which the first of the completion is predicted, but gives none: "
            "put a start token before it."
        )
    if max_length is not None and prompt >= max_length:
        raise ValueError(
            f"prompt must be shorter than max_length = {max_length} tokens, but has {prompt}: "
            "raise max_length or drop that example."
        )


def _lines(path: Path) -> Iterable[Mapping[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"{path} must hold one JSON object a line, but line {number} is none: {error}."
                ) from error


def _example(row: Mapping[str, Any], number: int) -> Example:
    try:
        domain = str(row.get("domain") or "")
        if row.get("messages") is not None:
            *prompt, answer = _turns(row["messages"])
            return Example(tuple(prompt), _answer(answer), domain)
        if isinstance(row["prompt"], str) and isinstance(row["completion"], str):
            return Example(row["prompt"], row["completion"], domain)
        (answer,) = _turns(row["completion"])
        return Example(_turns(row["prompt"]), _answer(answer), domain)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"Row {number} must have `prompt` and `completion` (two texts or two lists of messages) or `messages` that "
            f"end with the assistant's, but does not ({type(error).__name__}: {error}): repair or drop it."
        ) from error


def _turns(messages: Any) -> tuple[Message, ...]:
    turns = tuple(Message(message["role"], message["content"]) for message in messages)
    if not all(isinstance(text, str) for turn in turns for text in turn):
        raise TypeError("role and content must be text")
    return turns


def _answer(message: Message) -> str:
    if message.role != "assistant":
        raise ValueError(f"the last message is the {message.role}'s")
    return message.content
