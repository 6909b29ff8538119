"""Import of log-probabilities that a server returned, as a teacher's store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

from fusion import _check
from fusion.teachers.server_rows import read_row
from fusion.teachers.store import Origin, Record, StoreWriter, data_fingerprint
from fusion.text.conversations import Example
from fusion.text.rows import ON_BAD_ROWS, OnBadRows, listed

# What rows lack, or have of another form, shows as one of these.
_FAULTS = (
    AttributeError,
    IndexError,
    KeyError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)


class BadRow(NamedTuple):
    """A row that cannot be stored.

    Attributes
    ----------
    row : int
        Its number, from 1; of a file, that of its line.
    reason : str
        Why, as a part of a sentence.
    """

    row: int
    reason: str

    def __str__(self) -> str:
        """The row and the reason, as a line of a list."""
        return f"Row {self.row}: {self.reason}."


class Imported(NamedTuple):
    """What became of the rows of a server's log.

    Attributes
    ----------
    examples : int
        How many are stored.
    tokens : int
        Of all of them.
    repeated : int
        Rows of examples that an earlier row holds, which counts.
    left_out : tuple of BadRow
        Rows that cannot be stored.
    """

    examples: int
    tokens: int
    repeated: int
    left_out: tuple[BadRow, ...]


class _Log(NamedTuple):
    """A log that is read whole."""

    records: dict[str, Record]  # by the keys of their examples
    data: dict[str, dict[str, Any]]  # likewise, rows without what the server said
    rows: int
    bad: list[BadRow]


def import_logprobs(
    source: str | Path | Iterable[Mapping[str, Any]],
    path: str | Path,
    *,
    k: int = 10,
    model: str = "",
    vocabulary: int = 0,
    shard_size: int = 256,
    on_bad_rows: OnBadRows = "error",
    data: str | Path | None = None,
) -> Imported:
    """Make a store of the log-probabilities that a server returned for completions.

    Servers return no logits: standardisations that need them are refused later. All
    rows are read before anything is written.

    Parameters
    ----------
    source : path of a JSONL file, or iterable of mappings
        Rows with ``prompt`` or ``messages`` as
        :func:`fusion.text.conversations.read_examples` takes them, and ``response``,
        the JSON object that the server returned: of OpenAI's chats or completions,
        vLLM, SGLang, llama.cpp or Ollama, as fusion/SERVERS.md lists them. Or, in place
        of it, ``logprobs`` as such servers return them. The completion is the row's,
        where the row has one, and must then be the response's, or be in the prompt that
        the server scored; else it is the response's. Ids are kept where the server
        tells them. Tokens that hold a part of a character are placed by the text.
    path : path
        Folder of the store.
    k : int
        Entries a token; the server must have been asked for as many.
    model : str
        Name under which the server offers the teacher.
    vocabulary : int
        Length of the teacher's vocabulary; 0 where unknown.
    shard_size : int
        Examples a file.
    on_bad_rows : {"error", "drop"}
        What to do where rows cannot be stored: refuse all, or leave these out.
    data : path, optional
        JSONL file to write: the stored rows with their completions, and without the
        server's answers. It is the data to train on.

    Returns
    -------
    Imported
        How many examples and tokens are stored, and what was left out.

    Raises
    ------
    ValueError
        If k or the shard size is less than 1, the vocabulary is no integer larger than
        every id, ``on_bad_rows`` is unknown, or no row is left. If rows cannot be
        stored, since they lack log-probabilities, have fewer than k or numbers that a
        store cannot hold, or their tokens do not spell their completion: the message
        counts them and lists the first ten.

    Examples
    --------
    A chat completion of two tokens, of which the server shows one candidate each.

    >>> import fusion
    >>> from fusion.teachers.server_logs import import_logprobs
    >>> tokens = []
    >>> for text in ("four", "<end>"):
    ...     token = {"token": text, "logprob": -0.5}
    ...     tokens.append(token | {"top_logprobs": [token]})
    >>> choice = {"message": {"content": "four"}, "logprobs": {"content": tokens}}
    >>> row = {"prompt": "two plus two is", "response": {"choices": [choice]}}
    >>> import_logprobs([row], "served", k=1)
    Imported(examples=1, tokens=2, repeated=0, left_out=())
    >>> example = fusion.Example("two plus two is", "four")
    >>> fusion.TeacherStore("served")[example.key].ends.tolist()
    [4, 4]
    """
    _check.count(k, "k")
    _check.count(shard_size, "shard_size")
    _check.choice(on_bad_rows, "on_bad_rows", ON_BAD_ROWS)
    _check_vocabulary(vocabulary)
    log = _read(source, k)
    if log.bad and on_bad_rows == "error":
        raise ValueError(_refusal(log))
    if not log.records:
        raise ValueError(_without_rows(log))
    _check_ids(log.records.values(), vocabulary)
    lines = _lines(log.data.values()) if data is not None else ""
    tokens = _write(log.records, path, k, model, int(vocabulary), shard_size)
    if data is not None:
        # Halves of characters, which JSON may hold, stay written as it escapes them.
        Path(data).write_bytes(lines.encode(errors="backslashreplace"))
    good = log.rows - len(log.bad)
    return Imported(
        examples=len(log.records),
        tokens=tokens,
        repeated=good - len(log.records),
        left_out=tuple(log.bad),
    )


def _read(source: str | Path | Iterable[Mapping[str, Any]], k: int) -> _Log:
    """Read all rows of a log, good and bad."""
    records: dict[str, Record] = {}
    data: dict[str, dict[str, Any]] = {}
    bad: list[BadRow] = []
    rows = 0
    for number, row in _numbered(source):
        rows += 1
        try:
            # What stands for a line that is no JSON.
            if isinstance(row, ValueError):
                raise row
            read = read_row(row, k)
        except _FAULTS as error:
            bad.append(BadRow(number, _reason(error)))
            continue
        key = read.example.key
        # The first of several answers to one example counts.
        if key not in records:
            records[key] = Record(key, _digest(read.example), read.rows)
            data[key] = read.data
    return _Log(records, data, rows, bad)


def _lines(data: Iterable[Mapping[str, Any]]) -> str:
    """Return rows as JSONL."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in data]
    return "".join(lines)


def _numbered(
    source: str | Path | Iterable[Mapping[str, Any]],
) -> Iterator[tuple[int, Any]]:
    """Yield rows with their numbers, and an error in place of a line that is no JSON.

    Lines of white space are no rows.
    """
    if not isinstance(source, str | Path):
        yield from enumerate(source, start=1)
        return
    # Bytes, as one line that is no text must not spoil the others.
    with Path(source).open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line)
            except (RecursionError, ValueError) as error:
                yield number, ValueError(f"it is no JSON ({error})")


def _reason(error: Exception) -> str:
    """Say in a part of a sentence why a row cannot be stored."""
    text = " ".join(str(error).split())
    # What this package says of rows is a sentence; all else names its type.
    if type(error) is not ValueError:
        text = f"it has another form ({type(error).__name__}: {text})"
    return text.removesuffix(".")


def _refusal(log: _Log) -> str:
    """Count the bad rows, and list the first of them."""
    head = (
        f"source must hold rows that can be stored, but {len(log.bad)} of {log.rows} "
        "cannot be: repair them, or leave them out with on_bad_rows=drop."
    )
    return "\n".join([head, *listed(log.bad)])


def _without_rows(log: _Log) -> str:
    """Say that nothing is left: such a store would be refused only where it is used."""
    if not log.rows:
        return (
            "source must hold at least one row, but holds none: "
            "give what the server returned."
        )
    return (
        f"source must hold a row that can be stored, but all {log.rows} cannot be: "
        f"ask the server again.\n{log.bad[0]}"
    )


def _check_vocabulary(vocabulary: Any) -> None:
    """Require the length of a vocabulary, or 0."""
    # True and False are integers to Python.
    integer = isinstance(vocabulary, Integral) and not isinstance(vocabulary, bool)
    if not integer or vocabulary < 0:
        raise ValueError(
            "vocabulary must be an integer at least 0, "
            f"but is {vocabulary!r}: pass the number of the teacher's logits, "
            "or 0 where it is unknown."
        )


def _check_ids(records: Iterable[Record], vocabulary: int) -> None:
    """Require that every id is one of the vocabulary, where that is known."""
    largest = max(int(record.rows.ids.max()) for record in records)
    if vocabulary and largest >= vocabulary:
        raise ValueError(
            f"vocabulary must be larger than every id, but is {vocabulary} where an id "
            f"is {largest}: pass the number of the teacher's logits, "
            "or 0 where it is unknown."
        )


def _digest(example: Example) -> str:
    """Digest that stands for the text the teacher read."""
    # The server's template is unknown, and so is that text: the example's own content,
    # of which the key is a hash, takes its place.
    digest = hashlib.sha256(example.key.encode())
    return digest.hexdigest()


def _write(
    records: Mapping[str, Record],
    path: str | Path,
    k: int,
    model: str,
    vocabulary: int,
    shard_size: int,
) -> int:
    """Write the store, or what is missing of it; return the number of its tokens."""
    # What cannot be known of a model behind a server is empty.
    origin = Origin(
        model=model,
        tokenizer="",
        template="",
        vocabulary=vocabulary,
        k=k,
        dtype="",
        logits=False,
        data=data_fingerprint(records),
        examples=len(records),
        shard_size=shard_size,
    )
    writer = StoreWriter(path, origin)
    kept: Sequence[Record] = list(records.values())
    for index in range(origin.shards):
        if index in writer.done:
            continue
        first = index * shard_size
        writer.write(index, kept[first : first + shard_size])
    return sum(len(record.rows.ends) for record in kept)
