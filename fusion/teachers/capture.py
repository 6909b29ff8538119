"""Asking a teacher once, and keeping what it says about every completion token."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fusion import _check
from fusion.logits.reduction import read_logits
from fusion.logits.rows import Reading
from fusion.models import model_fingerprint, template_fingerprint, tokenizer_fingerprint
from fusion.teachers.store import (
    Origin,
    Record,
    StoreWriter,
    TeacherRows,
    data_fingerprint,
)
from fusion.text.conversations import Encoded, Example, encode


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
    rank: int = 0,
    world: int = 1,
    progress: bool = True,
) -> None:
    """Store the top-k logits of a teacher at every completion token; go on where an earlier run was interrupted.

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
        Tokens beyond it are cut from the completion's end.
    rank, world : int
        This process writes every ``world``-th shard, from ``rank`` on.
    progress : bool
        Whether to show a bar.

    Raises
    ------
    ValueError
        If the folder holds the beginning of another capture, a prompt leaves no room
        for its completion, or a logit is not finite.
    """
    asked = {example.key: example for example in examples}
    unique = list(asked.values())
    _check_sizes(
        unique,
        k,
        model.config.get_text_config().vocab_size,
        batch_size,
        shard_size,
        rank,
        world,
    )
    origin = Origin(
        model=model_fingerprint(model),
        tokenizer=tokenizer_fingerprint(tokenizer),
        template=template_fingerprint(tokenizer),
        vocabulary=model.config.get_text_config().vocab_size,
        k=k,
        dtype=str(model.dtype).removeprefix("torch."),
        logits=True,
        data=data_fingerprint(asked),
        examples=len(unique),
        shard_size=shard_size,
        max_length=max_length,
    )
    writer = StoreWriter(path, origin, rank)
    open_shards = [
        index for index in range(rank, origin.shards, world) if index not in writer.done
    ]
    for index in tqdm(open_shards, desc="capture", unit="shard", disable=not progress):
        chosen = unique[index * shard_size : (index + 1) * shard_size]
        encoded = [encode(example, tokenizer, max_length) for example in chosen]
        rows = _shard_rows(model, encoded, k, batch_size)
        writer.write(
            index,
            [
                Record(e.key, c.digest, r)
                for e, c, r in zip(chosen, encoded, rows, strict=True)
            ],
        )


def _shard_rows(
    model: PreTrainedModel, encoded: Sequence[Encoded], k: int, batch_size: int
) -> list[TeacherRows]:
    """Rows in the order of the examples; batches are of similar length."""
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i].input_ids))
    rows: dict[int, TeacherRows] = {}
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        rows |= zip(
            batch, teacher_rows(model, [encoded[i] for i in batch], k), strict=True
        )
    return [rows[i] for i in range(len(encoded))]


@torch.inference_mode()
def teacher_rows(
    model: PreTrainedModel, batch: Sequence[Encoded], k: int
) -> list[TeacherRows]:
    """Ask a model about one batch.

    Parameters
    ----------
    model : PreTrainedModel
    batch : sequence of Encoded
    k : int

    Returns
    -------
    list of TeacherRows
    """
    was_training = model.training
    model.train(False)
    try:
        logits = _logits(model, batch).split([len(code.ends) for code in batch])  # type: ignore[no-untyped-call]
        return [_rows(rows, code, k) for rows, code in zip(logits, batch, strict=True)]
    finally:
        model.train(was_training)


def _logits(model: PreTrainedModel, batch: Sequence[Encoded]) -> Tensor:
    """The rows of full logits (N, V) that predict completion tokens, example after example."""
    shape = (len(batch), max(len(code.input_ids) for code in batch))
    ids, mask, wanted = (
        torch.zeros(shape, dtype=kind)
        for kind in (torch.int64, torch.int64, torch.bool)
    )
    for i, code in enumerate(
        batch
    ):  # padded on the right, so that positions need no shift
        ids[i, : len(code.input_ids)], mask[i, : len(code.input_ids)] = (
            torch.from_numpy(code.input_ids),
            1,
        )
        wanted[i, torch.from_numpy(code.positions)] = True
    ids, mask, wanted = (tensor.to(model.device) for tensor in (ids, mask, wanted))

    def select(_: Any, hidden: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (hidden[0][wanted][None], *hidden[1:])

    # The head sees these positions alone: with short answers and large vocabularies it
    # would be most of the work.
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    hook = None if head is None else head.register_forward_pre_hook(select)
    try:
        logits: Tensor = model(
            input_ids=ids, attention_mask=mask, use_cache=False
        ).logits
    finally:
        if hook is not None:
            hook.remove()
    return logits[wanted] if logits.shape[:2] == shape else logits[0]


def _rows(logits: Tensor, code: Encoded, k: int) -> TeacherRows:
    """The rows of one example from its full logits (n, V)."""
    targets = torch.from_numpy(code.input_ids[code.completion_mask]).to(logits.device)
    found = read_logits(
        logits,
        torch.arange(len(logits), device=logits.device),
        targets[:, None],
        Reading(k),
    )
    mean, std = found.moments.half().unbind(1)
    return TeacherRows(
        values=_array(found.values.half()),
        ids=_array(found.ids.int()),
        logsumexp=_array(found.logsumexp[:, 0].float()),
        mean=_array(mean),
        std=_array(std),
        nll=_array((found.logsumexp[:, 0] - found.at[:, 0]).half()),
        ends=code.ends,
    )


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.cpu().numpy()


def _check_sizes(
    examples: Sequence[Example],
    k: int,
    vocabulary: int,
    batch_size: int,
    shard_size: int,
    rank: int,
    world: int,
) -> None:
    if not examples:
        raise ValueError(
            "examples must not be empty, but there are none: give at least one."
        )
    _check.count(k, "k", vocabulary)
    _check.count(batch_size, "batch_size")
    _check.count(shard_size, "shard_size")
    if not 0 <= rank < world:
        raise ValueError(
            f"rank must be between 0 and world - 1 = {world - 1}, but is {rank}: number the processes from 0."
        )
