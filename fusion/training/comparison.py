"""What each teacher says of a batch, as the loss takes it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from fusion.fingerprints import tokenizer_fingerprint
from fusion.logits.topk import TopKLogits
from fusion.losses.terms import TeacherTerm
from fusion.teachers.live import LiveTeacher
from fusion.teachers.store import TeacherStore
from fusion.training.batches import Batch, TeacherBatch, targets

Teachers = Mapping[str, TeacherStore] | Mapping[str, LiveTeacher]


def teacher_terms(
    batch: Batch,
    stores: Teachers,
    temperatures: Mapping[str, float],
    logprobs_at: Tensor | None = None,
) -> dict[str, TeacherTerm]:
    """Return each teacher's part of the loss of a batch, from raw logits.

    Parameters
    ----------
    batch : Batch
        The batch.
    stores : mapping of str to TeacherStore or LiveTeacher
        All teachers.
    temperatures : mapping of str to float
        Of teachers that have their own.
    logprobs_at : tensor of shape (B, T − first − 1, S · k), optional
        The student's log-probabilities of `teachers_tokens`, which KL and JSD need.

    Returns
    -------
    dict of TeacherTerm
        By name, of the S teachers that have seen any of the examples.
    """
    terms = {}
    for place, (name, teacher) in enumerate(batch["teachers"].items()):
        at_pairs = None
        if logprobs_at is not None:
            k = teacher["ids"].shape[2]
            own = logprobs_at[..., place * k : (place + 1) * k]
            at_pairs = _at(own, teacher["student_index"])  # (B, P, k)
        topk = TopKLogits(
            values=teacher["values"],
            ids=teacher["ids"],
            mask=teacher["mask"],
            logsumexp=teacher.get("logsumexp"),
            mean=teacher.get("mean"),
            std=teacher.get("std"),
            vocabulary=stores[name].manifest.vocabulary,
        )
        terms[name] = TeacherTerm(
            topk,
            student_index=teacher["student_index"],
            teacher_index=teacher["teacher_index"],
            pairs=teacher["pairs"],
            logprobs_at=at_pairs,
            weights=teacher["weights"],
            pair_weights=teacher.get("pair_weights"),
            temperature=temperatures.get(name),
        )
    return terms


def teachers_tokens(batch: Batch) -> Tensor | None:
    """Return the tokens of all teachers at the student's positions, one behind another.

    Their shape is (B, T − first − 1, S · k) for S teachers; None if there is none. Only
    teachers with the student's tokens have them at the same positions; token 0 stands
    where a position is in no pair.
    """
    B, rows = targets(batch).shape
    tokens = []
    for teacher in batch["teachers"].values():
        tokens.append(_tokens_at(teacher, (B, rows)))
    return torch.cat(tokens, dim=2) if tokens else None


def _tokens_at(teacher: TeacherBatch, shape: tuple[int, int]) -> Tensor:
    """One teacher's tokens (B, rows, k) at the student's positions."""
    ids = teacher["ids"]  # (B, T', k)
    tokens = ids.new_zeros((*shape, ids.shape[2]))
    # Of pairs alone: padding has the position 0, which may be one of a pair.
    example, pair = teacher["pairs"].nonzero(as_tuple=True)
    to = teacher["student_index"][example, pair]
    of = teacher["teacher_index"][example, pair]
    tokens[example, to] = ids[example, of]
    return tokens


def _at(values: Tensor, index: Tensor) -> Tensor:
    """Rows (B, P, k) of values (B, rows, k) at positions (B, P)."""
    k = values.shape[2]
    return values.gather(1, index[..., None].expand(-1, -1, k))


def check_tokenizers(
    stores: Teachers,
    tokenizer: PreTrainedTokenizerBase,
    alignment: str,
) -> None:
    """Require teachers with the student's tokenizer where tokens are compared.

    Raises
    ------
    ValueError
        If one has another tokenizer, or its store does not tell.
    """
    if alignment == "uld":
        return
    own = tokenizer_fingerprint(tokenizer)
    for name, store in stores.items():
        found = store.manifest.tokenizer
        if found != own:
            which = "another" if found else "an unknown one"
            has = f"the store of {name} was made with"
            if isinstance(store, LiveTeacher):
                has = f"{name} has"
            raise ValueError(
                f"alignment {alignment!r} needs teachers with the student's tokenizer, "
                f"but {has} {which}: use alignment 'uld'."
            )
