"""Teachers behind a server: a store from the log-probabilities that it exported."""

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
    """Make a store of what a server returns for completions, which is log-probabilities and no logits.

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
    rows = list(read_rows(source))
    examples = read_examples(rows)
    records: dict[str, Record] = {}
    for number, (row, example) in enumerate(zip(rows, examples, strict=True), start=1):
        try:
            made = Record(
                example.key,
                _digest(example),
                _rows(row["logprobs"]["content"], example, k),
            )
            records.setdefault(example.key, made)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"Row {number} must have the log-probabilities of its completion's tokens, but does not "
                f"({type(error).__name__}: {error}): ask the server for `logprobs` and `top_logprobs` = {k}, and keep all."
            ) from error
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
    writer, kept = StoreWriter(path, origin), list(records.values())
    for index in range(origin.shards):
        if index not in writer.done:
            writer.write(index, kept[index * shard_size : (index + 1) * shard_size])


def _digest(example: Example) -> str:
    """The server's template is unknown: the content stands for the text."""
    return hashlib.sha256(example.key.encode()).hexdigest()


def _rows(
    content: Sequence[Mapping[str, Any]], example: Example, k: int
) -> TeacherRows:
    pieces = [_bytes(token) for token in content]
    whole = example.completion.encode()
    if b"".join(pieces[:-1]) == whole:  # the last token ends the text and says nothing
        pieces[-1] = b""
    if b"".join(pieces) != whole:
        raise ValueError(
            f"the tokens spell {b''.join(pieces)[:40]!r}, not {whole[:40]!r}"
        )
    tops = [
        sorted(token["top_logprobs"], key=lambda top: -top["logprob"])[:k]
        for token in content
    ]
    if min(map(len, tops)) < k:
        raise ValueError(
            f"a token has {min(map(len, tops))} top log-probabilities, not {k}"
        )
    n = len(content)
    return TeacherRows(
        values=np.array(
            [[top["logprob"] for top in row] for row in tops], dtype=np.float16
        ),
        ids=np.array(
            [[top.get("id", -1) for top in row] for row in tops], dtype=np.int32
        ),
        logsumexp=np.zeros(n, dtype=np.float32),
        mean=None,
        std=None,
        nll=-np.array([token["logprob"] for token in content], dtype=np.float16),
        ends=np.cumsum([len(piece) for piece in pieces], dtype=np.int32),
    )


def _bytes(token: Mapping[str, Any]) -> bytes:
    return (
        bytes(token["bytes"])
        if token.get("bytes") is not None
        else str(token["token"]).encode()
    )
