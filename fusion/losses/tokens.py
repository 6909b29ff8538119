"""Token-level losses at aligned positions: ULD, and KL and JSD as baselines.

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
    student: TopKLogits,
    teacher: TopKLogits,
    reduction: str = "mean",
) -> Tensor:
    """Return the universal logit distillation loss Σ_r |t_r − s_r| over ranks r.

    It is k times W_1 between the k largest logits of student and teacher, each of mass
    1/k: it needs no common vocabulary.

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
    mask = _pairs(student.mask, teacher)  # (B, P)
    # Both rows are sorted, and the sorted coupling of equal weights is optimal: the sum
    # over ranks is k W_1.
    differences = teacher.values - student.values  # (B, P, k)
    losses = differences.abs().sum(dim=2)
    losses = torch.where(mask, losses, 0.0)
    return reduced(losses, mask, reduction)


def kl_loss(
    student_logprobs: Tensor,
    teacher: TopKLogits,
    mask: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Return KL(teacher ‖ student) at aligned positions, on the teacher's k tokens.

    The rest of the vocabulary counts as one more token. By the data processing
    inequality the value is never above the divergence of the full rows.

    Parameters
    ----------
    student_logprobs : tensor of shape (B, P, k)
        The student's log-probabilities of ``teacher.ids``, from ``logprobs_at`` of
        :func:`read` or :func:`chunked_head`: one vocabulary for both.
    teacher : TopKLogits
        Log-probabilities, or raw logits with their log-sum-exp, at the temperature of
        the student's.
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
    losses = _divergence(log_t, log_s)  # (B, P)
    losses = torch.where(mask, losses, 0.0)
    return reduced(losses, mask, reduction)


def jsd_loss(
    student_logprobs: Tensor,
    teacher: TopKLogits,
    mask: Tensor | None = None,
    reduction: str = "mean",
    beta: float = 0.5,
) -> Tensor:
    """Return β KL(t ‖ m) + (1 − β) KL(s ‖ m) with m = β t + (1 − β) s.

    The distributions s and t of student and teacher are those of :func:`kl_loss`.

    Parameters
    ----------
    student_logprobs : tensor of shape (B, P, k)
        As in :func:`kl_loss`.
    teacher : TopKLogits
        As in :func:`kl_loss`.
    mask : bool tensor of shape (B, P), optional
        Positions that count, among the teacher's valid ones.
    reduction : {"mean", "sum", "none"}
        Over positions.
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
    # In logarithms throughout: small probabilities would underflow.
    weighted_t = log_t + math.log(beta)
    weighted_s = log_s + math.log1p(-beta)
    log_m = torch.logaddexp(weighted_t, weighted_s)
    from_teacher = _divergence(log_t, log_m)
    from_student = _divergence(log_s, log_m)
    losses = beta * from_teacher + (1 - beta) * from_student  # (B, P)
    losses = torch.where(mask, losses, 0.0)
    return reduced(losses, mask, reduction)


def _divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p ‖ q) over the last axis of log-probabilities (B, P, atoms)."""
    p = log_p.exp()
    terms = p * (log_p - log_q)
    return terms.sum(dim=2)


def _atoms(
    student: Tensor,  # (B, P, k)
    teacher: TopKLogits,
    mask: Tensor | None,  # (B, P)
    reduction: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return both sides' log-probabilities on common atoms, and the mask (B, P).

    The atoms are the teacher's k tokens and the rest: teacher's and student's
    log-probabilities have shape (B, P, k + 1).
    """
    _check.choice(reduction, "reduction", REDUCTIONS)
    _check.tensor(student, "student_logprobs", 3)
    if student.shape != teacher.values.shape:
        raise ValueError(
            "student_logprobs must have the shape "
            f"{tuple(teacher.values.shape)} of the teacher's values, "
            f"but have {tuple(student.shape)}: read them at the teacher's ids."
        )
    teacher = teacher.standardized("logprob", teacher.temperature)
    mask = teacher.mask if mask is None else _pairs(mask, teacher)
    log_t = _with_rest(teacher.values)
    log_s = _with_rest(wide(student))
    return log_t, log_s, mask


def _with_rest(logprobs: Tensor) -> Tensor:
    """Append the log-probability of the rest to those of k tokens (B, P, k)."""
    probabilities = logprobs.exp()
    mass = probabilities.sum(dim=2, keepdim=True)  # (B, P, 1)
    # Rounding must not make the rest impossible: its logarithm would be infinite.
    least = torch.finfo(mass.dtype).eps
    rest = (1 - mass).clamp(min=least)
    return torch.cat([logprobs, rest.log()], dim=2)


def _pairs(mask: Tensor, teacher: TopKLogits) -> Tensor:
    """Tell which of the masked positions (B, P) are valid for the teacher as well."""
    if mask.shape != teacher.mask.shape:
        raise ValueError(
            "student and teacher must hold aligned positions, but their shapes are "
            f"{tuple(mask.shape)} and {tuple(teacher.mask.shape)}: "
            "take the pairs of both with .select."
        )
    return mask & teacher.mask


def reduced(
    values: Tensor,
    mask: Tensor,  # of the same shape
    reduction: str,
    name: str = "the mask of pairs",
) -> Tensor:
    """Reduce values that are zero outside the mask; the mean is over its entries."""
    if reduction == "none":
        return values
    if reduction == "sum":
        return values.sum()
    _check.mask(mask, mask.shape, name)
    count = mask.sum()
    return values.sum() / count
