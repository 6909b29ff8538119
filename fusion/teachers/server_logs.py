"""Import of log-probabilities that a server returned, as a teacher's store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion import _check
from fusion.teachers.store import (
    Origin,
    Record,
    StoreWriter,
    TeacherRows,
    data_fingerprint,
)
from fusion.text.conversations import Example, read_examples, read_rows

# The largest id that stores can hold: they have int32.
_LARGEST_ID = 2**31 - 1


def import_logprobs(
    source: str | Path | Iterable[Mapping[str, Any]],
    path: str | Path,
    *,
    k: int = 10,
    model: str = "",
    vocabulary: int = 0,
    shard_size: int = 256,
) -> None:
    """Make a store of the log-probabilities that a server returned for completions.

    Servers return no logits: standardisations that need them are refused later.

    Parameters
    ----------
    source : path of a JSONL file, or iterable of mappings
        Rows as :func:`fusion.text.conversations.read_examples` takes them, each with
        ``logprobs`` as chat completion servers return them: ``{"content": [{"token",
        "bytes", "logprob", "top_logprobs": [{"token", "logprob"}, …]}, …]}``, one entry
        for each token of the completion and perhaps one for its end. An ``id`` beside a
        top log-probability is kept.
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

    Raises
    ------
    ValueError
        If k or the shard size is less than 1, or there are no rows. If a row lacks
        log-probabilities, has fewer than k, or numbers that a store cannot hold, or its
        tokens do not spell its completion; the message names it.
    """
    _check.count(k, "k")
    _check.count(shard_size, "shard_size")
    records = _records(source, k)
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
    kept = list(records.values())
    for index in range(origin.shards):
        if index in writer.done:
            continue
        first = index * shard_size
        writer.write(index, kept[first : first + shard_size])


def _records(
    source: str | Path | Iterable[Mapping[str, Any]],
    k: int,
) -> dict[str, Record]:
    """Read the records of all rows, by the keys of their examples."""
    # A list, as rows are read twice: for their examples, and for the log-probabilities.
    rows = list(read_rows(source))
    # A store of nothing would be complete, and be refused only where it is used.
    if not rows:
        raise ValueError(
            "source must hold at least one row, but holds none: "
            "give what the server returned."
        )
    examples = read_examples(rows)
    records: dict[str, Record] = {}
    for i, example in enumerate(examples):
        try:
            tokens = rows[i]["logprobs"]["content"]
            record = Record(
                key=example.key,
                digest=_digest(example),
                rows=_rows(tokens, example, k),
            )
        except (
            AttributeError,
            KeyError,
            OverflowError,
            TypeError,
            ValueError,
        ) as error:
            # Whatever a row lacks, or has of another form, shows as one of these.
            raise ValueError(
                f"Row {i + 1} must have the log-probabilities of its completion's "
                f"tokens, but does not ({type(error).__name__}: {error}): ask the "
                f"server for `logprobs` and `top_logprobs` = {k}, and keep all."
            ) from error
        # The first of several answers to one example counts.
        records.setdefault(example.key, record)
    return records


def _digest(example: Example) -> str:
    """Digest that stands for the text the teacher read."""
    # The server's template is unknown, and so is that text: the example's own content,
    # of which the key is a hash, takes its place.
    digest = hashlib.sha256(example.key.encode())
    return digest.hexdigest()


def _rows(
    tokens: Sequence[Mapping[str, Any]],
    example: Example,
    k: int,
) -> TeacherRows:
    """Make the rows of one example from a server's entries for its n tokens."""
    pieces = _pieces(tokens, example)
    tops = _tops(tokens, k)
    values = []  # (n, k)
    ids = []  # (n, k), −1 where the server does not tell them
    logprobs = []  # (n,), of the completion's own tokens
    lengths = []  # (n,), in bytes
    for piece, token, top in zip(pieces, tokens, tops, strict=True):
        lengths.append(len(piece))
        values.append([entry["logprob"] for entry in top])
        ids.append([_id(entry) for entry in top])
        logprobs.append(token["logprob"])
    # Log-probabilities are logits whose log-sum-exp is 0. Moments of their full rows
    # are unknown.
    return TeacherRows(
        values=_half(values),
        ids=np.array(ids, dtype=np.int32),
        logsumexp=np.zeros(len(tokens), dtype=np.float32),
        mean=None,
        std=None,
        nll=-_half(logprobs),
        ends=np.cumsum(lengths, dtype=np.int32),
        shift=np.zeros(len(tokens), dtype=np.float32),
    )


def _pieces(tokens: Sequence[Mapping[str, Any]], example: Example) -> list[bytes]:
    """Bytes of each token; refuse tokens that do not spell the completion."""
    pieces = []
    for token in tokens:
        pieces.append(_bytes(token))
    whole = example.completion.encode()
    # The entry after the completion ends the text and adds nothing to it, whatever
    # string the server shows for it.
    but_last = b"".join(pieces[:-1])
    if but_last == whole:
        pieces[-1] = b""
    spelled = b"".join(pieces)
    if spelled != whole:
        raise ValueError(f"the tokens spell {spelled[:40]!r}, not {whole[:40]!r}")
    return pieces


def _tops(
    tokens: Sequence[Mapping[str, Any]],
    k: int,
) -> list[list[Mapping[str, Any]]]:
    """The k likeliest tokens at each position; refuse positions with fewer."""
    tops = []
    counts = []
    for token in tokens:
        # Servers promise no order, but stores hold values in descending order.
        ranked = sorted(token["top_logprobs"], key=_negative_logprob)
        top = ranked[:k]
        tops.append(top)
        counts.append(len(top))
    fewest = min(counts)
    if fewest < k:
        raise ValueError(f"a token has {fewest} top log-probabilities, not {k}")
    return tops


def _id(entry: Mapping[str, Any]) -> int:
    """Id of a token, or −1 where the server does not tell it."""
    number = entry.get("id", -1)
    # Stores would cut what is no integer. True and False are integers to Python.
    integer = isinstance(number, Integral) and not isinstance(number, bool)
    if not integer or not -1 <= number <= _LARGEST_ID:
        raise ValueError(
            f"an id is {number!r}, not an integer from 0 to {_LARGEST_ID}; "
            "leave out ids that are not known"
        )
    return int(number)


def _half(logprobs: Sequence[Any]) -> NDArray[np.float16]:
    """Log-probabilities as they are stored; refuse what is not finite then."""
    # Numbers that overflow become infinite, which is refused below.
    with np.errstate(over="ignore"):
        stored = np.array(logprobs, dtype=np.float16)
    if not np.isfinite(stored).all():
        raise ValueError("a log-probability is not finite in float16")
    return stored


def _negative_logprob(entry: Mapping[str, Any]) -> Any:
    """Key by which the likeliest token comes first."""
    return -entry["logprob"]


def _bytes(token: Mapping[str, Any]) -> bytes:
    """Bytes of a token: its string is wrong for tokens that split a character."""
    if token.get("bytes") is not None:
        return bytes(token["bytes"])
    text = str(token["token"])
    return text.encode()
