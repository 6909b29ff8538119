"""Token-level losses between a student's and a teacher's logits at aligned positions: ULD, and KL and JSD as baselines.

Their sum with the supervised loss and the graph losses is :class:`fusion.FusionLoss`
(fusion/losses/objective.py).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fusion import _check
from fusion.logits.rows import wide
from fusion.logits.topk import TopKLogits

REDUCTIONS = ("mean", "sum", "none")


def uld_loss(
    student: TopKLogits, teacher: TopKLogits, reduction: str = "mean"
) -> Tensor:
    """Return the universal logit distillation loss Σ_r |t_r − s_r| over ranks, at aligned positions.

    k times W_1 between the k largest logits of student and teacher, each of mass 1/k:
    it needs no common vocabulary.

    Parameters
    ----------
    student, teacher : TopKLogits
        Row p of both predicts the same text (:meth:`TopKLogits.select` aligns them);
        equal k, standardisation and temperature. Pairs count where both are valid.
    reduction : {"mean", "sum", "none"}
        Over pairs; "none" returns (B, P), zero where a side is masked.

    Returns
    -------
    tensor
        In units of the standardised logits. At ties of the two sides the subgradient is
        zero.

    Raises
    ------
    ValueError
        If the two sides differ in shape, k, standardisation, temperature or device, or,
        for the mean, no pair is valid.

    Examples
    --------
    Sorted logits are compared rank by rank: of three tokens and of four, of whatever
    vocabularies.

    >>> import torch, fusion
    >>> student = fusion.top_k(torch.tensor([[[2.0, 0.0, 1.0], [0.0, 3.0, 1.0]]]), k=2)
    >>> teacher = fusion.top_k(
    ...     torch.tensor([[[4.0, 1.0, 0.0, 0.5], [2.0, 0.0, 3.0, 1.0]]]), k=2
    ... )
    >>> fusion.uld_loss(student, teacher, reduction="none")
    tensor([[2., 1.]])
    >>> fusion.uld_loss(student, teacher)
    tensor(1.5000)
    """
    _check.choice(reduction, "reduction", REDUCTIONS)
    _check.paired(student, teacher)
    mask = _pairs(student.mask, teacher)
    apart = (teacher.values - student.values).abs().sum(dim=2)
    return reduced(torch.where(mask, apart, 0.0), mask, reduction)


def kl_loss(
    student_logprobs: Tensor,
    teacher: TopKLogits,
    mask: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Return KL(teacher ‖ student) on the teacher's k tokens and the rest of the vocabulary as one, at aligned positions.

    By the data processing inequality never above the divergence of the full rows.

    Parameters
    ----------
    student_logprobs : tensor of shape (B, P, k)
        The student's log-probabilities of ``teacher.ids``, from ``logprobs_at`` of
        :func:`read` or :func:`chunked_head`: one vocabulary for both.
    teacher : TopKLogits
        Log-probabilities, or raw logits with their log-sum-exp; the student's
        temperature.
    mask : bool tensor of shape (B, P), optional
        Positions that count, among the teacher's valid ones.
    reduction : {"mean", "sum", "none"}
        Over positions.

    Returns
    -------
    tensor
        In nats.

    Raises
    ------
    ValueError
        If the shapes differ, the teacher's rows cannot become log-probabilities or, for
        the mean, no position is valid.

    Examples
    --------
    Probabilities (1/2, 3/8, 1/8) of the teacher, of which the two largest are kept, and
    (1/4, 1/4, 1/2) of the student.

    >>> import torch, fusion
    >>> teacher = fusion.top_k(torch.tensor([[[0.5, 0.375, 0.125]]]).log(), k=2)
    >>> student = torch.tensor([[[0.25, 0.25, 0.5]]]).log()
    >>> output = fusion.read(student, torch.tensor([[0]]), k=2, ids=teacher.ids)
    >>> fusion.kl_loss(output.logprobs_at, teacher)
    tensor(0.3253)
    """
    log_t, log_s, mask = _atoms(student_logprobs, teacher, mask, reduction)
    return reduced(torch.where(mask, _divergence(log_t, log_s), 0.0), mask, reduction)


def jsd_loss(
    student_logprobs: Tensor,
    teacher: TopKLogits,
    mask: Tensor | None = None,
    reduction: str = "mean",
    beta: float = 0.5,
) -> Tensor:
    """Return β KL(t ‖ m) + (1 − β) KL(s ‖ m) with m = β t + (1 − β) s, on the atoms of :func:`kl_loss`.

    Parameters
    ----------
    student_logprobs, teacher, mask, reduction
        As in :func:`kl_loss`.
    beta : float
        Weight of the teacher, between 0 and 1; one half is the Jensen-Shannon
        divergence, at most log 2.

    Returns
    -------
    tensor
        In nats.

    Raises
    ------
    ValueError
        As :func:`kl_loss`; or if beta is not strictly between 0 and 1.

    Examples
    --------
    >>> import torch, fusion
    >>> teacher = fusion.top_k(torch.tensor([[[0.5, 0.375, 0.125]]]).log(), k=2)
    >>> student = torch.tensor([[[0.25, 0.25, 0.5]]]).log()
    >>> output = fusion.read(student, torch.tensor([[0]]), k=2, ids=teacher.ids)
    >>> (
    ...     fusion.jsd_loss(output.logprobs_at, teacher),
    ...     fusion.jsd_loss(output.logprobs_at, teacher, beta=0.9),
    ... )
    (tensor(0.0878), tensor(0.0359))
    """
    _check.number(beta, "beta", above=0)
    _check.number(1 - beta, "1 − beta", above=0)
    log_t, log_s, mask = _atoms(student_logprobs, teacher, mask, reduction)
    log_m = torch.logaddexp(log_t + math.log(beta), log_s + math.log1p(-beta))
    divergence = beta * _divergence(log_t, log_m) + (1 - beta) * _divergence(
        log_s, log_m
    )
    return reduced(torch.where(mask, divergence, 0.0), mask, reduction)


def _divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum(dim=2)


def _atoms(
    student: Tensor, teacher: TopKLogits, mask: Tensor | None, reduction: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return log-probabilities of the k tokens and of the rest, shape (B, P, k + 1), of both sides, and the mask."""
    _check.choice(reduction, "reduction", REDUCTIONS)
    _check.tensor(student, "student_logprobs", 3)
    if student.shape != teacher.values.shape:
        raise ValueError(
            f"student_logprobs must have the shape {tuple(teacher.values.shape)} of the teacher's values, "
            f"but have {tuple(student.shape)}: read them at the teacher's ids."
        )
    teacher = teacher.standardized("logprob", teacher.temperature)
    mask = teacher.mask if mask is None else _pairs(mask, teacher)
    return _with_rest(teacher.values), _with_rest(wide(student)), mask


def _with_rest(logprobs: Tensor) -> Tensor:
    """Add the log-probability of the rest, which rounding must not make impossible."""
    mass = logprobs.exp().sum(dim=2, keepdim=True)
    rest = (1 - mass).clamp(min=torch.finfo(mass.dtype).eps)
    return torch.cat([logprobs, rest.log()], dim=2)


def _pairs(mask: Tensor, teacher: TopKLogits) -> Tensor:
    if mask.shape != teacher.mask.shape:
        raise ValueError(
            "student and teacher must hold aligned positions, but their shapes are "
            f"{tuple(mask.shape)} and {tuple(teacher.mask.shape)}: take the pairs of both with .select."
        )
    return mask & teacher.mask


def reduced(
    values: Tensor, mask: Tensor, reduction: str, name: str = "the mask of pairs"
) -> Tensor:
    """Reduce values that are zero outside the mask, of which a mean needs some entry."""
    if reduction == "none":
        return values
    if reduction == "sum":
        return values.sum()
    _check.mask(mask, mask.shape, name)
    return values.sum() / mask.sum()
