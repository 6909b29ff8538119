"""Import of log-probabilities that a server returned, as a teacher's store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fusion.teachers.store import (
    Origin,
    Record,
    StoreWriter,
    TeacherRows,
    data_fingerprint,
)
from fusion.text.conversations import Example, read_examples, read_rows


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
        If a row lacks log-probabilities, has fewer than k, or its tokens do not spell
        its completion; the message names it.
    """
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
        except (KeyError, TypeError, ValueError) as error:
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
        ids.append([entry.get("id", -1) for entry in top])
        logprobs.append(token["logprob"])
    # Log-probabilities are logits whose log-sum-exp is 0. Moments of their full rows
    # are unknown.
    return TeacherRows(
        values=np.array(values, dtype=np.float16),
        ids=np.array(ids, dtype=np.int32),
        logsumexp=np.zeros(len(tokens), dtype=np.float32),
        mean=None,
        std=None,
        nll=-np.array(logprobs, dtype=np.float16),
        ends=np.cumsum(lengths, dtype=np.int32),
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


def _negative_logprob(entry: Mapping[str, Any]) -> Any:
    """Key by which the likeliest token comes first."""
    return -entry["logprob"]


def _bytes(token: Mapping[str, Any]) -> bytes:
    """Bytes of a token: its string is wrong for tokens that split a character."""
    if token.get("bytes") is not None:
        return bytes(token["bytes"])
    text = str(token["token"])
    return text.encode()
