"""Examples: a prompt, its answer, and the key of their content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class _Turn(NamedTuple):
    """Who speaks, and what is said."""

    role: str
    content: str | None


class Message(_Turn):
    """One turn of a conversation: a pair, which may carry further fields.

    Parameters
    ----------
    role : str
        Who speaks.
    content : str or None
        What is said; None where other fields say it, as calls of tools.
    fields : mapping, optional
        What else the turn has, by name: ``name``, ``tool_calls``, ``tool_call_id``,
        ``reasoning_content`` or any other that a chat template renders.
    """

    fields: Mapping[str, Any]

    def __new__(
        cls,
        role: str,
        content: str | None,
        fields: Mapping[str, Any] | None = None,
    ) -> Message:
        """Make the pair, and put the fields beside it."""
        turn = super().__new__(cls, role, content)
        turn.fields = dict(fields or {})
        return turn

    def as_dict(self) -> dict[str, Any]:
        """Return the turn as rows have it, and as chat templates read it."""
        return {"role": self.role, "content": self.content, **self.fields}

    def with_fields(self, fields: Mapping[str, Any]) -> Message:
        """Return the turn with these fields in place of its own."""
        return Message(self.role, self.content, fields)

    def __eq__(self, other: object) -> bool:
        fields = getattr(other, "fields", {})
        return tuple.__eq__(self, other) is True and self.fields == fields

    def __ne__(self, other: object) -> bool:
        return not self == other

    # Fields may hold lists: turns that differ in them alone share a hash.
    __hash__ = tuple.__hash__

    def __repr__(self) -> str:
        fields = f", fields={self.fields!r}" if self.fields else ""
        return f"Message(role={self.role!r}, content={self.content!r}{fields})"


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
    tools : tuple of mappings
        Definitions of the tools that a conversation may call, given to the template.
    row : int, optional
        Number of the row, or of the line in a file, that it was read from, for
        messages; no part of the key.

    Raises
    ------
    ValueError
        If the prompt or the completion is empty, any text has no encoding in UTF-8,
        fields or tools are no JSON, a turn has neither content nor other fields, or
        plain text has tools.

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
    tools: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    row: int | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse empty or unencodable text, and tools that nothing renders."""
        if not self.prompt or not self.completion:
            empty = "completion" if self.prompt else "prompt"
            raise ValueError(
                f"{empty} must not be empty, but is {getattr(self, empty)!r}: "
                "drop that example."
            )
        if self.tools and isinstance(self.prompt, str):
            raise ValueError(
                "prompt must be a conversation where there are tools, which a chat "
                f"template renders, but is {self.prompt[:40]!r}: "
                "give a list of messages, or write the tools into the text."
            )
        if not isinstance(self.prompt, str):
            _check_turns(self.prompt)
        _check_encodable("completion", self.completion)
        _check_encodable("prompt", self._as_json())

    @property
    def key(self) -> str:
        """The sha256 of the content, whatever the tokenizer, template or order."""
        # Rows of teachers are stored under this key: its form is part of theirs.
        return sha256(json.dumps(self._content(), separators=(",", ":")))

    @property
    def place(self) -> str:
        """Where the example was read, or else how it begins, for messages."""
        if self.row is not None:
            return f"row {self.row}"
        beginning = self.completion[:40]
        return f"the example whose completion begins with {beginning!r}"

    def _content(self) -> list[Any]:
        """Return what the key is a hash of."""
        if isinstance(self.prompt, str):
            return [self.prompt, self.completion]
        content: list[Any] = []
        for turn in self.prompt:
            # Only what a turn has, so that keys of plain turns stay what they were.
            content.append([*turn, turn.fields] if turn.fields else [*turn])
        content.append(["assistant", self.completion])
        if self.tools:
            content.append({"tools": list(self.tools)})
        return content

    def _as_json(self) -> str:
        """Return the content as text of JSON, with all characters as they are."""
        try:
            return json.dumps(self._content(), ensure_ascii=False)
        except (TypeError, ValueError) as error:
            raise ValueError(
                "tools and fields of messages must be what JSON can hold, "
                f"but are not ({error}): write them as numbers, texts, lists and "
                "objects."
            ) from error


def _check_turns(turns: tuple[Message, ...]) -> None:
    """Require that every turn says something in some way."""
    for number, turn in enumerate(turns, start=1):
        if turn.content is None and not turn.fields:
            raise ValueError(
                "content must be text where a turn has nothing else, "
                f"but is None in message {number}: give an empty text, or drop it."
            )


def _check_encodable(name: str, text: str) -> None:
    """Require that a text has an encoding in UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} must be encodable as UTF-8, but {error}: repair the text first."
        ) from error


def sha256(text: str) -> str:
    """Return the digest of a text in UTF-8, in hexadecimal."""
    digest = hashlib.sha256(text.encode())
    return digest.hexdigest()
