"""One row of a server's log: its example, and the teacher's rows of its completion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple

from fusion.teachers.server_formats import Candidate, Entry, Reading, readings
from fusion.teachers.server_numbers import teacher_rows
from fusion.teachers.spelled_bytes import (
    SILENT,
    Spelling,
    Spellings,
    find,
    place,
    spellings,
)
from fusion.teachers.store import TeacherRows
from fusion.text.conversations import Example, read_examples

# No template puts so many bytes of plain text after an answer: a completion of this
# length that is found in a prompt for the last time is the answer itself.
_LONG = 16


class ReadRow(NamedTuple):
    """A row of a server's log."""

    example: Example
    rows: TeacherRows  # what the server says of its completion
    data: dict[str, Any]  # the row with its completion, without the server's answer


class Scored(NamedTuple):
    """The tokens of a completion, and where they end."""

    entries: Sequence[Entry]
    ends: list[int]  # in bytes of the completion


def read_row(row: Any, k: int) -> ReadRow:
    """Read one row of a server's log.

    Parameters
    ----------
    row : mapping
        See :func:`fusion.teachers.server_logs.import_logprobs`.
    k : int
        Entries a token.

    Returns
    -------
    ReadRow
        Its example, and what the server says at each token of the completion and, where
        it is told, at its end.

    Raises
    ------
    ValueError
        If the row cannot be stored; the message is a part of a sentence that says why.
    """
    if not isinstance(row, Mapping):
        raise ValueError(f"it is of type {type(row).__name__}, not an object")
    found = readings(_answer(row))
    given = _given(row)
    reading = _chosen(found, given)
    completion = given
    if completion is None:
        completion = _generated(reading, row)
    data = _with_completion(row, completion)
    example = _example(data)
    scored = _scored(reading, example)
    rows = teacher_rows(scored.entries, scored.ends, k)
    return ReadRow(example, rows, data)


def _answer(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the server answered: ``response``, or ``logprobs`` of the row."""
    answer = row.get("response")
    if answer is None:
        if row.get("logprobs") is None:
            raise ValueError("it has neither `response` nor `logprobs`")
        return {"logprobs": row["logprobs"]}
    # Servers answer a list of one prompt with a list of one.
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if not isinstance(answer, Mapping):
        name = type(answer).__name__
        raise ValueError(f"`response` is of type {name}, not the server's object")
    return answer


def _given(row: Mapping[str, Any]) -> str | None:
    """Return the completion that the row itself has, if it has one."""
    messages = row.get("completion")
    if row.get("messages") is not None:
        messages = row["messages"]
    elif messages is None or isinstance(messages, str):
        return messages
    if not isinstance(messages, list | tuple) or not messages:
        raise ValueError("its messages are no list, or an empty one")
    last = messages[-1]
    if not isinstance(last, Mapping) or last.get("role") != "assistant":
        return None
    content = last.get("content")
    if not isinstance(content, str):
        raise ValueError("the assistant's content is not text")
    return content


def _chosen(found: Sequence[Reading], given: str | None) -> Reading:
    """Return the tokens that hold the completion of the row."""
    for reading in found:
        if given is None or reading.whole or reading.text in (None, given):
            return reading
    raise ValueError(
        f"its completion is {_shown(given)} and the server's {_shown(found[0].text)}"
    )


def _generated(reading: Reading, row: Mapping[str, Any]) -> str:
    """Return the completion that the server made."""
    text = reading.text
    prompt = row.get("prompt")
    if reading.whole and text is not None and isinstance(prompt, str):
        if not text.startswith(prompt):
            raise ValueError(f"the text that the server echoes is {_shown(text)}")
        text = text[len(prompt) :]
    elif reading.whole or text is None:
        raise ValueError("neither the row nor the response tells the completion")
    if not text:
        raise ValueError("its completion is empty")
    return text


def _with_completion(row: Mapping[str, Any], completion: str) -> dict[str, Any]:
    """Return a row without the server's answer; all else that it has is kept."""
    changed = {name: row[name] for name in row if name not in ("response", "logprobs")}
    answer = {"role": "assistant", "content": completion}
    if row.get("messages") is not None:
        if row["messages"][-1].get("role") != "assistant":
            changed["messages"] = [*row["messages"], answer]
    elif row.get("completion") is None:
        plain = isinstance(row.get("prompt"), str)
        changed["completion"] = completion if plain else [answer]
    return changed


def _example(data: Mapping[str, Any]) -> Example:
    """Make the example of a row."""
    try:
        (example,) = read_examples([data])
    except ValueError as error:
        text = str(error)
        raise ValueError(f"it {text.removeprefix('Row 1 ')}") from error
    return example


def _scored(reading: Reading, example: Example) -> Scored:
    """Find the completion among the tokens, with its bytes."""
    tokens = [_spellings(entry.token) for entry in reading.entries]
    if reading.whole:
        return _within(reading, tokens, example)
    whole = example.completion.encode()
    if not tokens:
        raise ValueError("the server tells no token")
    # The last entry may be the end token, which adds nothing to the text, whatever
    # string the server shows for it. If that is nothing, this is tried first.
    ways: list[list[Spellings]] = [[*tokens], [*tokens[:-1], SILENT]]
    if reading.entries[-1].token.text == "":
        ways.reverse()
    ends = _first_placed(ways, whole)
    if ends is None:
        raise ValueError(_mismatch(tokens, example.completion))
    return Scored(reading.entries, ends)


def _within(
    reading: Reading,
    tokens: Sequence[Spellings],
    example: Example,
) -> Scored:
    """Find a completion among the tokens of its prompt and itself."""
    completion = example.completion.encode()
    size = len(completion)
    text, head = _whole(reading, example)
    # 1. By the whole text, where it is known: a token may begin in the prompt. Start
    #    and end tokens may stand around it.
    if text is not None and head is not None:
        ends = _placed_between(tokens, text.encode())
        if ends is not None:
            start = len(head.encode())
            return _cut(reading.entries, ends, start, size)
    # 2. Else by the completion alone.
    places = find(tokens, completion)
    if not places:
        raise ValueError(_mismatch(tokens, example.completion))
    first, ends = places[-1]
    after = first + len(ends)
    if len(places) > 1 and after < len(tokens) and size < _LONG:
        raise ValueError(
            f"its completion is {len(places)} times in the prompt: ask the server "
            "with continue_final_message=true, so that it ends there"
        )
    # The token after it ends the text, and adds no byte.
    if after < len(tokens):
        ends = [*ends, size]
    return Scored(reading.entries[first : first + len(ends)], ends)


def _whole(reading: Reading, example: Example) -> tuple[str | None, str | None]:
    """Return the text of all tokens and what of it is before the completion."""
    text = reading.text
    completion = example.completion
    if isinstance(example.prompt, str):
        # What the server generated after a fixed answer is no part of it.
        expected = example.prompt + completion
        if text is None or text.startswith(expected):
            return text or expected, example.prompt
        raise ValueError(f"the text that the server echoes is {_shown(text)}")
    if text is None:
        return None, None
    times = text.count(completion)
    if times == 1 or text.endswith(completion):
        return text, text[: text.rindex(completion)]
    return None, None


def _placed_between(tokens: Sequence[Spellings], whole: bytes) -> list[int] | None:
    """Place tokens of which the first and the last may be no part of the text."""
    ways = []
    for silent in ((), (0,), (-1,), (0, -1)):
        changed = list(tokens)
        for i in silent:
            changed[i] = SILENT
        ways.append(changed)
    return _first_placed(ways, whole)


def _first_placed(
    ways: Sequence[Sequence[Spellings]],
    whole: bytes,
) -> list[int] | None:
    """Place tokens in the first way that makes the text."""
    for tokens in ways:
        ends = place(tokens, whole)
        if ends is not None:
            return ends
    return None


def _cut(
    entries: Sequence[Entry],
    ends: Sequence[int],  # in bytes of the whole text
    start: int,  # where the completion begins in it
    size: int,  # of the completion, in bytes
) -> Scored:
    """Keep the tokens of a completion, and the one that ends it."""
    stop = start + size
    kept = []
    cut = []
    before = 0  # where the token before this one ends
    for entry, end in zip(entries, ends, strict=True):
        if end > start and before < stop:
            kept.append(entry)
            cut.append(min(end, stop) - start)
        elif before == end == stop:
            # The first token after the completion that adds no byte to it.
            kept.append(entry)
            cut.append(size)
            break
        before = end
    return Scored(kept, cut)


def _spellings(token: Candidate) -> list[Spelling]:
    """Return what a token may stand for."""
    data = token.data
    if data is not None:
        # `bytes` would take a number for a length, and makes zeros of it.
        if not isinstance(data, list | tuple | bytes):
            raise ValueError(f"the bytes of a token are {data!r}, not a list")
        for byte in data:
            whole = isinstance(byte, Integral) and not isinstance(byte, bool)
            if not whole or not 0 <= byte <= 255:
                raise ValueError(f"a byte is {byte!r}, not an integer from 0 to 255")
        data = bytes(data)
    text = token.text
    if text is not None and not isinstance(text, str):
        raise ValueError(f"a token is {text!r}, not text")
    return spellings(text, data)


def _mismatch(tokens: Sequence[Spellings], completion: str) -> str:
    """Say that tokens do not spell their text."""
    shown = []
    for token in tokens:
        for part in token[0] if token else ():
            # Text that is cut within a character, and bytes that are not told.
            known = part.decode(errors="replace") if isinstance(part, bytes) else "�"
            shown.append(known)
    if not shown:
        return "the server spells no token: ask it for their text"
    text = "".join(shown)
    return f"its tokens spell {_shown(text)}, not {_shown(completion)}"


def _shown(text: str | None) -> str:
    """Return the beginning of a text, as in messages."""
    if text is None:
        return "not told"
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
