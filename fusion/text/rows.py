"""Rows of files and data sets, read as examples or refused by their number."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from fusion.text.messages import Example, Message
from gwtools._check import choice

Row = Mapping[str, Any]
Rows = Iterable[Row]
Turns = Literal["last", "all"]
OnBadRows = Literal["error", "drop"]
TURNS = get_args(Turns)
ON_BAD_ROWS = get_args(OnBadRows)
# So many bad rows, or cut completions, are listed; the others are counted.
LISTED = 10

# Columns and names of turns of other forms, and how to rename them.
_OTHER_COLUMNS = {
    "instruction": (
        "`instruction` (with `input` behind it, where there is one) to `prompt`, "
        "and `output` to `completion`"
    ),
    "conversations": "`conversations` to `messages`",
}
_OTHER_TURNS = (
    "`from` to `role`, `value` to `content`, and the roles 'human' to 'user' and 'gpt' "
    "to 'assistant'"
)


class ExamplesWarning(UserWarning):
    """Says which examples are left out, and which completions are cut."""


def read_examples(
    source: str | Path | Rows,
    turns: Turns = "last",
    *,
    on_bad_rows: OnBadRows = "error",
) -> list[Example]:
    """Read examples from a JSONL file, a ``datasets.Dataset`` or any such rows.

    Parameters
    ----------
    source : path or iterable of mappings
        Each row has ``prompt`` and ``completion`` (both text, or both lists of
        ``{"role", "content"}``), or ``messages`` whose last is the assistant's; and
        perhaps ``domain`` and ``tools`` (definitions, a list). Messages keep their
        other fields, as ``tool_calls``. Other columns are ignored, and blank lines of a
        file.
    turns : {"last", "all"}
        Whether a conversation gives one example, whose completion is the last message,
        or one of every message of the assistant, each with the messages before it.
    on_bad_rows : {"error", "drop"}
        Whether rows that are not of this form are an error or left out. A line that is
        no JSON is always an error.

    Returns
    -------
    list of Example
        In the order of the rows.

    Raises
    ------
    ValueError
        If ``turns`` or ``on_bad_rows`` is unknown, or rows are not of this form, as
        where the answer has other fields than its content, which must be text; the
        message names the first ten, in a file by their lines.

    Warns
    -----
    ExamplesWarning
        If rows are left out.

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
    choice(turns, "turns", TURNS)
    choice(on_bad_rows, "on_bad_rows", ON_BAD_ROWS)
    examples = []
    bad = []
    total = 0
    for number, row in numbered_rows(source):
        total += 1
        try:
            examples += _examples(row, number, turns)
        except ValueError as error:
            bad.append(str(error))
    is_file = isinstance(source, str | Path)
    # A single one needs no list.
    if len(bad) == 1 and on_bad_rows == "error":
        raise ValueError(f"{source}: {bad[0]}" if is_file else bad[0])
    if bad:
        name = f"rows of {source}" if is_file else "rows"
        require_or_drop(bad, total, name, on_bad_rows, stacklevel=3)
    return examples


def require_or_drop(
    bad: Sequence[str],
    total: int,
    name: str,
    on_bad_rows: OnBadRows,
    stacklevel: int,
) -> None:
    """Refuse examples since some cannot be used, or warn that these are left out.

    Parameters
    ----------
    bad : sequence of str
        What is wrong with each that cannot be used, at least one.
    total : int
        How many examples there are.
    name : str
        What they are called.
    on_bad_rows : {"error", "drop"}
        Whether to refuse all or to warn.
    stacklevel : int
        Of the warning: 2 for the caller.

    Raises
    ------
    ValueError
        If ``on_bad_rows`` is "error", or none is left.
    """
    counted = f"{len(bad)} of {total}"
    if on_bad_rows == "error" or len(bad) == total:
        remedy = "repair them, or leave them out with on_bad_rows=drop"
        if len(bad) == total:
            remedy = "repair them, or choose others"
        head = f"All {name} must be usable, but {counted} are not: {remedy}."
        raise ValueError("\n".join([head, *listed(bad)]))
    head = f"{counted} {name} are left out:"
    message = "\n".join([head, *listed(bad)])
    warnings.warn(message, ExamplesWarning, stacklevel=stacklevel)


def listed(bad: Sequence[object]) -> list[str]:
    """Return a line for each of the first ten bad rows, and one that counts the others.

    Parameters
    ----------
    bad : sequence
        What is wrong with each row, as text or printed as such.
    """
    lines = [f"  {reason}" for reason in bad[:LISTED]]
    if len(bad) > LISTED:
        lines.append(f"  … and {len(bad) - LISTED} more.")
    return lines


def read_rows(source: str | Path | Rows) -> Rows:
    """Return the rows of a JSONL file, or what is given if it is no path."""
    if isinstance(source, str | Path):
        return (row for _, row in _lines(Path(source)))
    return source


def numbered_rows(source: str | Path | Rows) -> Iterable[tuple[int, Row]]:
    """Return rows with their numbers from 1 on, which are those of lines in a file."""
    if isinstance(source, str | Path):
        return _lines(Path(source))
    return enumerate(source, start=1)


def _lines(path: Path) -> Iterator[tuple[int, Row]]:
    """Read the lines of a JSONL file that are not blank, one at a time."""
    # Bytes, so that a line that is no text is named, too.
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                # Some programs put a byte order mark first.
                row = json.loads(line.decode("utf-8-sig"))
            except (RecursionError, ValueError) as error:
                raise ValueError(
                    f"{path} must hold one JSON object a line, "
                    f"but line {number} is none: {error}."
                ) from error
            yield number, row


def _examples(row: Row, number: int, turns: Turns) -> list[Example]:
    """Make the examples of a row; an error about it names its number."""
    try:
        renaming = _renaming(row)
        if renaming is None:
            return _examples_of(row, number, turns)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # Whatever a row lacks shows as one of these.
        raise ValueError(
            f"Row {number} must have `prompt` and `completion` "
            "(two texts or two lists of messages) or `messages` that "
            "end with the assistant's, "
            f"but does not ({type(error).__name__}: {_clause(error)}): "
            "repair or drop it."
        ) from error
    raise ValueError(
        f"Row {number} must have `prompt` and `completion`, or `messages` of `role` "
        f"and `content`, but has other names: rename {renaming}."
    )


def _clause(error: Exception) -> str:
    """Return what an error says, without the full stop, to stand inside a sentence."""
    return str(error).removesuffix(".")


def _renaming(row: Row) -> str | None:
    """Say what to rename in a row of another widespread form; None in others."""
    renamings = []
    if row.get("messages") is None and row.get("prompt") is None:
        for column, renaming in _OTHER_COLUMNS.items():
            if row.get(column) is not None:
                renamings.append(renaming)
    for column in ("messages", "conversations", "prompt"):
        turns = row.get(column)
        if isinstance(turns, list | tuple) and turns:
            first = turns[0]
            if isinstance(first, Mapping) and "from" in first and "role" not in first:
                renamings.append(_OTHER_TURNS)
    return ", and ".join(renamings) or None


def _examples_of(row: Row, number: int, turns: Turns) -> list[Example]:
    """Make the examples of a row in one of its three forms."""
    domain = str(row.get("domain") or "")
    tools = read_tools(row.get("tools"))
    # 1. A whole conversation.
    if row.get("messages") is not None:
        conversation = read_turns(row["messages"])
    else:
        prompt = row["prompt"]
        completion = row["completion"]
        # 2. Plain text.
        if isinstance(prompt, str) and isinstance(completion, str):
            return [Example(prompt, completion, domain, tools, number)]
        # 3. Turns of a conversation, with the last one apart.
        (last,) = read_turns(completion)
        conversation = (*read_turns(prompt), last)
    examples = []
    for place in _answers(conversation, turns):
        answer = _answer(conversation[place], place + 1)
        before = conversation[:place]
        examples.append(Example(before, answer, domain, tools, number))
    return examples


def _answers(conversation: tuple[Message, ...], turns: Turns) -> list[int]:
    """Return the positions of the messages that are learnt; the last is one of them."""
    if not conversation:
        raise ValueError("there is no message")
    last = len(conversation) - 1
    role = conversation[last].role
    if role != "assistant":
        raise ValueError(f"the last message is the {role}'s")
    if turns == "last":
        return [last]
    return [i for i, turn in enumerate(conversation) if turn.role == "assistant"]


def _answer(message: Message, number: int) -> str:
    """Return the content of an answer, which must have nothing else."""
    if message.fields:
        names = ", ".join(f"`{name}`" for name in message.fields)
        raise ValueError(
            f"message {number} is an answer to learn, which must be text alone, and "
            f"has {names}: write that into its content as the template would"
        )
    if message.content is None:
        raise TypeError(f"content of message {number}, an answer to learn, is None")
    return message.content


def read_turns(messages: Any) -> tuple[Message, ...]:
    """Read the turns of a conversation, each with all that it has.

    Parameters
    ----------
    messages : iterable of mappings
        Each has ``role`` and ``content``, which is text, or None beside other fields.
        Other fields that are None or empty say nothing, and are as absent: data sets
        give every row the fields of all rows.

    Raises
    ------
    KeyError
        If a message lacks ``role`` or ``content``.
    TypeError
        If one of these is no text, as where content is a list of parts.
    """
    turns = []
    for message in messages:
        fields = {}
        for name, value in message.items():
            if name not in ("role", "content") and value not in (None, "", [], {}):
                fields[name] = value
        turns.append(Message(message["role"], message["content"], fields))
    # After all are read: a missing key is the first thing to say.
    for number, turn in enumerate(turns, start=1):
        if isinstance(turn.content, list | tuple):
            raise TypeError(
                f"content of message {number} is a list of parts: join the texts, and "
                "leave out images and other parts that are no text"
            )
        no_text = turn.content is None and turn.fields
        if not isinstance(turn.role, str) or not (
            isinstance(turn.content, str) or no_text
        ):
            raise TypeError("role and content must be text")
    return tuple(turns)


def read_tools(value: Any) -> tuple[Mapping[str, Any], ...]:
    """Read the definitions of tools; none where a row does not say them.

    Raises
    ------
    TypeError
        If they are no list of objects.
    """
    if value is None:
        return ()
    if isinstance(value, str) or not all(isinstance(tool, Mapping) for tool in value):
        raise TypeError("tools must be a list of objects: parse text by json.loads")
    return tuple(value)
