"""Capture of a teacher's logits at every completion token, into a store."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fusion import _check
from fusion.fingerprints import (
    model_fingerprint,
    template_fingerprint,
    tokenizer_fingerprint,
)
from fusion.logits.reduction import read_relative
from fusion.logits.rows import Reading
from fusion.models import input_device, longest, vocabulary_size
from fusion.teachers.store import (
    Origin,
    Record,
    StoreWriter,
    TeacherRows,
    data_fingerprint,
)
from fusion.text.conversations import Encoded, Example, encode
from fusion.text.fitting import fit
from fusion.text.rows import OnBadRows


def capture(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    path: str | Path,
    *,
    k: int = 10,
    batch_size: int = 8,
    shard_size: int = 256,
    max_length: int | None = None,
    template: str | None = None,
    on_bad_rows: OnBadRows = "error",
    rank: int = 0,
    world: int = 1,
    progress: bool = True,
) -> None:
    """Store the top-k logits of a teacher at every completion token.

    Where an earlier run was interrupted, this one goes on. Of a head that is padded
    with columns of no token, those of the tokenizer's ids alone are read.

    Parameters
    ----------
    model : PreTrainedModel
        The teacher, on the device and in the dtype it shall compute in.
    tokenizer : PreTrainedTokenizerBase
        Its fast tokenizer.
    examples : sequence of Example
        Examples of the same content are asked once.
    path : path
        Folder of the store (:class:`fusion.TeacherStore`).
    k : int
        Logits a token.
    batch_size : int
        Examples a forward pass. Batches never cross shards, so that a resumed run
        computes the same ones.
    shard_size : int
        Examples a file, and what an interruption can cost.
    max_length : int, optional
        Tokens beyond it, or beyond the teacher's context, are cut from the completion's
        end.
    template : str, optional
        Chat template, in Jinja, in place of the tokenizer's: base models have none. It
        is part of what the store is known by; the tokenizer is left as it is.
    on_bad_rows : {"error", "drop"}
        Whether examples that cannot be asked, as prompts without room for a completion,
        are an error before the first of them or left out.
    rank, world : int
        This process writes every ``world``-th shard, from ``rank`` on.
    progress : bool
        Whether to show a bar.

    Raises
    ------
    ValueError
        If there are no examples, a size is out of range, the folder holds the
        beginning of another capture, an example cannot be asked, as one with a token
        that the model has no embedding of, and ``on_bad_rows`` is "error", or a logit
        is not finite.

    Warns
    -----
    fusion.text.rows.ExamplesWarning
        If examples are left out, or completions are cut.
    """
    # By key, which says the content: what occurs twice is asked once.
    asked = {example.key: example for example in examples}
    unique = list(asked.values())
    if template is not None:
        tokenizer = copy.copy(tokenizer)
        tokenizer.chat_template = template
    columns = model.config.get_text_config().vocab_size
    vocabulary = min(vocabulary_size(tokenizer), columns)
    _check_sizes(
        unique,
        k,
        vocabulary,
        batch_size,
        shard_size,
        max_length,
        rank,
        world,
    )
    max_length = longest(model, max_length)
    unique = fit(
        unique,
        tokenizer,
        max_length,
        columns=columns,
        on_bad_rows=on_bad_rows,
        progress=progress,
    ).examples
    origin = origin_of(model, tokenizer, unique, vocabulary, k, shard_size, max_length)
    writer = StoreWriter(path, origin, rank)
    # Shards of other ranks are theirs to write, also where they are missing.
    own = range(rank, origin.shards, world)
    missing = set(own) - writer.done
    bar = tqdm(
        sorted(missing),
        desc="capture",
        unit="shard",
        disable=not progress,
    )
    for index in bar:
        first = index * shard_size
        chosen = unique[first : first + shard_size]
        encoded = [encode(example, tokenizer, max_length) for example in chosen]
        rows = _shard_rows(model, encoded, k, batch_size, vocabulary)
        # A shard is written whole or not at all: an interruption loses one at most.
        records = _records(chosen, encoded, rows)
        writer.write(index, records)


def origin_of(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    vocabulary: int,
    k: int,
    shard_size: int,
    max_length: int | None,
) -> Origin:
    """Say what all rows of a store, or of a teacher in memory, have in common.

    Parameters
    ----------
    model, tokenizer, k, shard_size, max_length
        As of `capture`.
    examples : sequence of Example
        All that is stored, in its order.
    vocabulary : int
        How many of the first columns of the logits are of tokens.
    """
    dtype = str(model.dtype)
    return Origin(
        model=model_fingerprint(model),
        tokenizer=tokenizer_fingerprint(tokenizer),
        template=template_fingerprint(tokenizer),
        vocabulary=vocabulary,
        k=k,
        dtype=dtype.removeprefix("torch."),
        logits=True,
        data=data_fingerprint(example.key for example in examples),
        examples=len(examples),
        shard_size=shard_size,
        max_length=max_length,
    )


def _records(
    examples: Sequence[Example],
    encoded: Sequence[Encoded],
    rows: Sequence[TeacherRows],
) -> list[Record]:
    """Put the rows of examples beside their keys and the digests of their texts."""
    records = []
    for example, code, found in zip(examples, encoded, rows, strict=True):
        record = Record(
            key=example.key,
            digest=code.digest,
            rows=found,
        )
        records.append(record)
    return records


def _shard_rows(
    model: PreTrainedModel,
    encoded: Sequence[Encoded],
    k: int,
    batch_size: int,
    vocabulary: int,
) -> list[TeacherRows]:
    """Ask a model about all examples of a shard; rows are in the examples' order."""
    # Batches are of examples of similar length, so that little of them is padding. The
    # sort is stable: a resumed run makes the same batches.
    lengths = _lengths(encoded)
    order = np.argsort(lengths, kind="stable")
    rows: dict[int, TeacherRows] = {}
    for first in range(0, len(order), batch_size):
        members = order[first : first + batch_size].tolist()
        batch = [encoded[i] for i in members]
        found = teacher_rows(model, batch, k, vocabulary)
        rows.update(zip(members, found, strict=True))
    in_order = []
    for i in range(len(encoded)):
        in_order.append(rows[i])
    return in_order


def _lengths(encoded: Sequence[Encoded]) -> list[int]:
    """Tokens of each example, prompt and completion together."""
    return [len(code.input_ids) for code in encoded]


@torch.inference_mode()
def teacher_rows(
    model: PreTrainedModel,
    batch: Sequence[Encoded],
    k: int,
    vocabulary: int | None = None,
) -> list[TeacherRows]:
    """Ask a model about one batch.

    Parameters
    ----------
    model : PreTrainedModel
        The teacher; it is left in the mode, training or evaluation, that it is in.
    batch : sequence of Encoded
        Examples in its tokens.
    k : int
        Logits a token.
    vocabulary : int, optional
        How many of the first columns of the logits are of tokens; all by default.

    Returns
    -------
    list of TeacherRows
        One for each example.
    """
    # Dropout must not decide what a teacher says.
    was_training = model.training
    model.train(False)
    try:
        logits = _logits(model, batch)  # (N, V)
        counts = []
        for code in batch:
            counts.append(len(code.ends))
        # The rows of each example, as views.
        parts = logits.split(counts)
        rows = []
        for part, code in zip(parts, batch, strict=True):
            found = _rows(part, code, k, vocabulary)
            rows.append(replace(found, start=code.start))
        return rows
    finally:
        model.train(was_training)


def _logits(model: PreTrainedModel, batch: Sequence[Encoded]) -> Tensor:
    """Full logits (N, V) that predict completion tokens, example after example."""
    ids, mask, wanted = _padded(batch)  # (B, T) each
    # Models may lie on several devices: the first one moves what comes after it.
    device = input_device(model)
    ids = ids.to(device)
    mask = mask.to(device)
    with _head_at(model, wanted):
        output = model(
            input_ids=ids,
            attention_mask=mask,
            use_cache=False,
        )
    logits: Tensor = output.logits
    # Models that name no head have applied it to all positions: (B, T, V). All others
    # give (1, N, V). The two shapes always differ: no example's last token is wanted,
    # so that N < T where B = 1.
    if logits.shape[:2] == wanted.shape:
        return logits[wanted.to(logits.device)]
    return logits[0]


def _padded(batch: Sequence[Encoded]) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, 1 where they are no padding, True where they predict completion."""
    lengths = _lengths(batch)
    shape = (len(batch), max(lengths))  # (B, T)
    ids = torch.zeros(shape, dtype=torch.int64)
    mask = torch.zeros(shape, dtype=torch.int64)
    wanted = torch.zeros(shape, dtype=torch.bool)
    for i, code in enumerate(batch):
        # Padding is on the right, so that positions need no shift.
        length = lengths[i]
        ids[i, :length] = torch.from_numpy(code.input_ids)
        mask[i, :length] = 1
        positions = torch.from_numpy(code.positions)
        wanted[i, positions] = True
    return ids, mask, wanted


@contextmanager
def _head_at(model: PreTrainedModel, wanted: Tensor) -> Iterator[None]:
    """Let the head of a model see the hidden states at some positions (B, T) alone.

    With short answers and large vocabularies the head would be most of the work.
    """
    head = model.get_output_embeddings()
    if head is None:
        yield
        return

    def select(_: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden, *others = inputs  # (B, T, d), and what else the head is given
        # (N, d), and an axis in front: models expect a batch.
        chosen = hidden[wanted.to(hidden.device)][None]
        return (chosen, *others)

    hook = head.register_forward_pre_hook(select)
    try:
        yield
    finally:
        hook.remove()


def _rows(
    logits: Tensor,
    code: Encoded,
    k: int,
    vocabulary: int | None = None,
) -> TeacherRows:
    """Read what is stored of one example from its full logits (n, V)."""
    tokens = code.input_ids[code.completion_mask]  # (n,)
    targets = torch.from_numpy(tokens)
    targets = targets.to(logits.device)
    # Relative to the largest of each row, and only then rounded as it is stored: what
    # is stored of probabilities must not hang on a number that is added to a row. Of
    # each row also the logit of the token that follows it.
    reading = Reading(k, vocabulary=vocabulary)
    shift, found = read_relative(logits, targets[:, None], reading)
    logit_of_target = found.at[:, 0]  # (n,)
    mean, std = found.moments.unbind(1)
    logsumexp = found.logsumexp[:, 0]
    # The negative log-likelihood of a token is the log-sum-exp of its row less its
    # logit. It is rounded last: a difference of rounded numbers would lose digits.
    nll = logsumexp - logit_of_target
    return TeacherRows(
        values=_array(found.values.half()),
        ids=_array(found.ids.int()),
        logsumexp=_array(logsumexp.float()),
        mean=_array(mean.float()),
        std=_array(std.half()),
        nll=_array(nll.half()),
        ends=code.ends,
        shift=_array(shift.float()),
    )


def _array(tensor: Tensor) -> NDArray[Any]:
    """Convert a tensor on any device to an array of NumPy."""
    return tensor.cpu().numpy()


def _check_sizes(
    examples: Sequence[Example],
    k: int,
    vocabulary: int,
    batch_size: int,
    shard_size: int,
    max_length: int | None,
    rank: int,
    world: int,
) -> None:
    """Refuse sizes that no capture can have, before the weights are hashed."""
    if not examples:
        raise ValueError(
            "examples must not be empty, but there are none: give at least one."
        )
    _check.count(k, "k", vocabulary)
    _check.count(batch_size, "batch_size")
    _check.count(shard_size, "shard_size")
    if max_length is not None:
        _check.count(max_length, "max_length")
    if not 0 <= rank < world:
        raise ValueError(
            f"rank must be between 0 and world - 1 = {world - 1}, but is {rank}: "
            "number the processes from 0."
        )
