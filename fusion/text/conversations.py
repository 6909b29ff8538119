"""Examples of a prompt and a completion: read, rendered and tokenized.

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

Row = Mapping[str, Any]
Rows = Iterable[Row]

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

    Raises
    ------
    ValueError
        If the prompt or the completion is empty, or the completion has no encoding in
        UTF-8.

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
                f"{empty} must not be empty, but is {getattr(self, empty)!r}: "
                "drop that example."
            )
        try:
            self.completion.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"completion must be encodable as UTF-8, but {error}: "
                "repair the text first."
            ) from error

    @property
    def key(self) -> str:
        """The sha256 of the content, whatever the tokenizer, template or order."""
        content: list[Any]
        if isinstance(self.prompt, str):
            content = [self.prompt, self.completion]
        else:
            answer = ("assistant", self.completion)
            content = [*self.prompt, answer]
        # Rows of teachers are stored under this key: its form is part of theirs.
        text = json.dumps(content, separators=(",", ":"))
        return _sha256(text)


def _sha256(text: str) -> str:
    """Return the digest of a text in UTF-8, in hexadecimal."""
    digest = hashlib.sha256(text.encode())
    return digest.hexdigest()


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
    cut : bool
        Whether tokens of the completion or its end are cut off.
    """

    input_ids: NDArray[np.int64]  # (T,)
    completion_mask: NDArray[np.bool_]  # (T,)
    ends: NDArray[np.int32]  # (n,), one for each marked token
    digest: str  # in hexadecimal
    cut: bool = False

    @property
    def positions(self) -> NDArray[np.int64]:
        """Positions (n,) whose next token is one of the completion or its end."""
        # The logits before a token predict it.
        return np.flatnonzero(self.completion_mask) - 1


def read_examples(source: str | Path | Rows) -> list[Example]:
    """Read examples from a JSONL file, a ``datasets.Dataset`` or any such rows.

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
    examples = []
    for number, row in enumerate(read_rows(source), start=1):
        example = _example(row, number)
        examples.append(example)
    return examples


def read_rows(source: str | Path | Rows) -> Rows:
    """Return the rows of a JSONL file, or what is given if it is no path."""
    if isinstance(source, str | Path):
        return _lines(Path(source))
    return source


def render(example: Example, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """Return the text before and after the completion.

    It is plain, or what the tokenizer's chat template puts there.

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
        The text before the completion, and after it.

    Raises
    ------
    ValueError
        If the prompt is a conversation and the tokenizer has no usable chat template.
    """
    if isinstance(example.prompt, str):
        return example.prompt, tokenizer.eos_token or ""
    if not tokenizer.chat_template:
        raise ValueError(
            "tokenizer must have a chat template for prompts that are conversations, "
            "but has none: set tokenizer.chat_template, "
            "or give prompt and completion as plain text."
        )
    # With a mark in place of the answer, which a template might trim.
    answer = Message("assistant", _MARK)
    turns = [turn._asdict() for turn in (*example.prompt, answer)]
    rendered = tokenizer.apply_chat_template(turns, tokenize=False)
    pieces = str(rendered).split(_MARK)
    times = len(pieces) - 1
    if times != 1:
        raise ValueError(
            "chat template must render the answer exactly once, "
            f"but did so {times} times: use another template."
        )
    head, tail = pieces
    return head, tail


def encode(
    example: Example,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | None = None,
) -> Encoded:
    """Tokenize prompt and completion of an example, each by itself.

    No token spans both, as where a model continues the prompt.

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
    completion = example.completion

    # 1. Three pieces, each by itself. A template has its special tokens in its text.
    plain = isinstance(example.prompt, str)
    prompt = tokenizer(head, add_special_tokens=plain)["input_ids"]
    answer = tokenizer(
        completion,
        add_special_tokens=False,
        return_offsets_mapping=True,
    )
    end = _end_token(tail, tokenizer)
    _check_length(len(prompt), max_length)

    # 2. Joined, and cut at the end.
    tokens = answer["input_ids"]
    ids = np.array([*prompt, *tokens, *end], dtype=np.int64)
    cut = max_length is not None and len(ids) > max_length
    ids = ids[:max_length]
    completion_mask = np.arange(len(ids)) >= len(prompt)

    # 3. Where tokens end in the completion. The end token adds no byte: it ends where
    #    the last of them does, or at 0 where the completion gives no token.
    ends = byte_ends(completion, tokens, answer["offset_mapping"], tokenizer)
    last = ends.max(initial=0)
    ends = np.append(ends, np.full(len(end), last))
    kept = len(ids) - len(prompt)
    digest = _sha256(json.dumps([head, completion, tail]))
    return Encoded(ids, completion_mask, ends[:kept], digest, cut)


def _end_token(tail: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the first token of the text after a completion, if there is any."""
    if not tail:
        return []
    ids: list[int] = tokenizer(tail, add_special_tokens=False)["input_ids"]
    return ids[:1]


def _check_length(prompt: int, max_length: int | None) -> None:
    """Require some tokens of the prompt, and room for one more."""
    if prompt == 0:
        raise ValueError(
            "prompt must give at least one token, from which the first of the "
            "completion is predicted, but gives none: put a start token before it."
        )
    if max_length is not None and prompt >= max_length:
        raise ValueError(
            f"prompt must be shorter than max_length = {max_length} tokens, "
            f"but has {prompt}: raise max_length or drop that example."
        )


def _lines(path: Path) -> Rows:
    """Read the lines of a JSONL file, one at a time."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"{path} must hold one JSON object a line, "
                    f"but line {number} is none: {error}."
                ) from error


def _example(row: Row, number: int) -> Example:
    """Make the example of a row; an error about it names its number."""
    try:
        return _example_of(row)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # Whatever a row lacks shows as one of these.
        raise ValueError(
            f"Row {number} must have `prompt` and `completion` "
            "(two texts or two lists of messages) or `messages` that "
            "end with the assistant's, "
            f"but does not ({type(error).__name__}: {error}): repair or drop it."
        ) from error


def _example_of(row: Row) -> Example:
    """Make the example of a row in one of its three forms."""
    domain = str(row.get("domain") or "")
    # 1. A whole conversation.
    if row.get("messages") is not None:
        *turns, answer = _turns(row["messages"])
        return Example(tuple(turns), _answer(answer), domain)
    # 2. Plain text.
    prompt = row["prompt"]
    if isinstance(prompt, str) and isinstance(row["completion"], str):
        return Example(prompt, row["completion"], domain)
    # 3. Turns of a conversation, with the last one apart.
    (answer,) = _turns(row["completion"])
    return Example(_turns(prompt), _answer(answer), domain)


def _turns(messages: Any) -> tuple[Message, ...]:
    """Read turns; their content must be text, not a list of parts."""
    turns = []
    for message in messages:
        turn = Message(message["role"], message["content"])
        turns.append(turn)
    # After all are read: a missing key is the first thing to say.
    for role, content in turns:
        if not isinstance(role, str) or not isinstance(content, str):
            raise TypeError("role and content must be text")
    return tuple(turns)


def _answer(message: Message) -> str:
    """Return the content of a last message, which must be the assistant's."""
    if message.role != "assistant":
        raise ValueError(f"the last message is the {message.role}'s")
    return message.content
