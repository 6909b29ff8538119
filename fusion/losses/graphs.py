"""Losses between graphs on logits, whose edges are products of logits over positions.

With H the (T, k) logits of the T valid positions of a sequence, the nodes of its graph
are the k channels and its edges C = HᵀH / T. It is handed to gwtools as the Gram space
of H / √T, so no graph is formed where only its row means count, and every kind of loss
is a bound or a value of the Gromov-Wasserstein distance between the student's graph C
and the teacher's D (gwtools/THEORY.md, theorems 1, 3 and 4).

Channels. "rank": column r holds the r-th largest logit; k nodes of weight 1/k, no
common vocabulary needed. "vocabulary": column v is token v; V nodes of weight 1/V, of
which those that never occur among the k largest are one atom at zero.

Degeneracy. Row means C 1 / k = Hᵀ(H 1) / (k T) see a sequence through its row masses
H 1 alone. Where those do not vary, the row-means kind compares mean rows only: softmax
over the whole row nearly so, z-scores of the k logits among themselves fully. Raw,
centred or full-row z-scored logits, and the kinds that also see the residual of the
graph, do not have this defect.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

import gwtools as gw
from fusion import _check
from fusion.logits.topk import TopKLogits
from fusion.losses.tokens import REDUCTIONS, reduced

CHANNELS = ("rank", "vocabulary")
Spaces = Sequence[gw.GramSpace]
Loss = Callable[[Spaces, Spaces], Tensor]
_CONSTANT = 1e-3  # relative spread up to which row masses count as constant


def graph_loss(
    student: TopKLogits,
    teacher: TopKLogits,
    kind: str = "row_means",
    channels: str = "rank",
    reduction: str = "mean",
    group: Any = None,
) -> Tensor:
    """Return how far the student's graphs on logits are from the teacher's.

    Parameters
    ----------
    student, teacher : TopKLogits
        Of the same B examples and with the same k; positions need not be aligned, nor
        as many, and vocabularies may differ.
    kind : {"row_means", "norm", "spectral", "gw"}
        "row_means" is the graph-on-logits loss of InfiGFusion: Σ_r |f_C(r) − f_D(r)|
        over sorted row means f, which is k times the lower bound of GW_1 by row means.
        The others are in squared units of C: lower bounds of GW_2² that also compare
        the norms ("norm") or spectra ("spectral") of the residual graphs, and the
        objective of the coupling that conditional gradient finds ("gw", for rank
        channels; an upper bound of GW_2²), with the gradient at that coupling.
    channels : {"rank", "vocabulary"}
        What the nodes are. For vocabulary channels "row_means" is W_1 between all V row
        means, without the factor k.
    reduction : {"mean", "sum", "none"}
        Over the sequences that have a valid position on both sides; "none" returns
        (B,), zero for the others.
    group : torch.distributed.ProcessGroup, optional
        Ranks that each hold other positions of the same B examples (with equal T on all
        ranks). Every rank is sent the rows of all, differentiably: each returns the
        loss of the whole sequences, and the average over ranks of the parameters'
        gradients is the gradient of that loss.

    Returns
    -------
    tensor
        In squared logits for "row_means" (logits enter as products), in their fourth
        power for the other kinds. float64 stays float64, all else is computed in
        float32, with autocast off.

    Raises
    ------
    ValueError
        If the two sides differ in k, standardisation, temperature, batch or device, an
        option is unknown, for vocabulary channels a token is, or, for the mean, no
        sequence has a valid position on both sides.

    Warns
    -----
    UserWarning
        Once for each standardisation, where "row_means" is degenerate: a sequence's row
        masses are constant to 1e-3.

    Examples
    --------
    Two positions of the student and three of the teacher, of other vocabularies:
    neither need be aligned.

    >>> import torch, fusion
    >>> student = fusion.top_k(torch.tensor([[[2.0, 0.0, 1.0], [0.0, 3.0, 1.0]]]), k=2)
    >>> logits = torch.tensor(
    ...     [[[4.0, 1.0, 0.0, 0.5], [2.0, 0.0, 3.0, 2.5], [1.0, 0.0, 0.0, 0.0]]]
    ... )
    >>> teacher = fusion.top_k(logits, k=2)
    >>> [
    ...     round(fusion.graph_loss(student, teacher, kind).item(), 2)
    ...     for kind in ("row_means", "norm", "gw")
    ... ]
    [3.13, 2.56, 2.56]
    >>> fusion.graph_loss(student, student).item()
    0.0
    """
    _check.choice(kind, "kind", KINDS)
    _check.choice(reduction, "reduction", REDUCTIONS)
    _check.paired(student, teacher)
    check_channels(kind, channels)
    if channels == "vocabulary":
        _check.known_tokens(student, "student")
        _check.known_tokens(teacher, "teacher")
    device = student.values.device.type
    # Half precision would lose the sums over positions.
    with torch.autocast(device, enabled=False):
        if group is not None:
            student = shared(student, group)
            teacher = shared(teacher, group)
        values = _values(student, teacher, kind, channels)
        present = taking_part(student, teacher)
        return reduced(values, present, reduction, "the mask of sequences")


def check_channels(kind: str | None, channels: str) -> None:
    """Require known channels, and rank channels for the kind "gw"."""
    _check.choice(channels, "channels", CHANNELS)
    if kind == "gw" and channels != "rank":
        raise ValueError(
            f"channels must be 'rank' for kind 'gw', but are {channels!r}: "
            "couplings of whole vocabularies are out of reach, "
            "use kind 'spectral' there."
        )


def taking_part(student: TopKLogits, teacher: TopKLogits) -> Tensor:
    """Tell which sequences have a valid position on both sides, shape (B,)."""
    ours = student.mask.any(dim=1)
    theirs = teacher.mask.any(dim=1)
    return ours & theirs


def _values(
    student: TopKLogits,
    teacher: TopKLogits,
    kind: str,
    channels: str,
) -> Tensor:
    """Compute the loss of each sequence, shape (B,); zero for those not taking part."""
    present = taking_part(student, teacher)
    sequences = present.nonzero()[:, 0]
    indices = sequences.tolist()
    # The wider of both, so that neither side loses digits.
    ours = student.values.dtype
    theirs = teacher.values.dtype
    dtype = torch.promote_types(ours, theirs)
    if not indices:
        return student.values.new_zeros(student.batch, dtype=dtype)
    xs = [_space(student, b, channels, dtype) for b in indices]
    ys = [_space(teacher, b, channels, dtype) for b in indices]
    values = KINDS[kind](xs, ys)  # (sequences that take part,)
    if kind == "row_means":
        _warn_if_degenerate(student, indices)
        _warn_if_degenerate(teacher, indices)
        if channels == "rank":
            # InfiGFusion sums over the ranks, W_1 is their mean: each weighs 1/k.
            values = values * student.k
    whole = values.new_zeros(student.batch)  # (B,)
    return whole.index_put((present,), values)


def _space(
    side: TopKLogits,
    b: int,  # which sequence
    channels: str,
    dtype: torch.dtype,
) -> gw.GramSpace:
    """Make the graph of one sequence, as the Gram space of its valid rows over √T."""
    valid = side.mask[b]
    H = side.values[b][valid]  # (T, k)
    H = H.to(dtype)
    H = H / len(H) ** 0.5
    if channels == "rank":
        # Columns are atoms: the k ranks, however many positions there are.
        k = side.k
        uniform = H.new_full((k,), 1 / k)
        return gw.GramSpace(H, uniform)

    # Tokens that are never among the k largest have zero columns: they are one atom,
    # the last, so that no array is as long as the vocabulary.
    ids = side.ids[b][valid]
    tokens, column = torch.unique(ids, return_inverse=True)
    count = len(tokens)
    factor = H.new_zeros(len(H), count + 1)
    factor = factor.scatter(1, column, H)
    V = side.vocabulary
    weights = H.new_full((count + 1,), 1 / V)
    weights[-1] = 1 - count / V
    return gw.GramSpace(factor, weights)


def _row_means(xs: Spaces, ys: Spaces) -> Tensor:
    """W_1 between the row means of each pair: a lower bound of GW_1 (theorem 1)."""
    values: Tensor = gw.batch.row_means(xs, ys, p=1)
    return values


def _gw(xs: Spaces, ys: Spaces) -> Tensor:
    """Objective of the best coupling found for each pair: an upper bound of GW_2²."""
    values = []
    for x, y in zip(xs, ys, strict=True):
        # By the envelope theorem the gradient of the minimum is that of the objective
        # with its coupling held fixed.
        coupling = _coupling(x, y)
        problem = gw.GWProblem(x, y)
        value = problem.objective(coupling)
        values.append(value)
    return torch.stack(values)


def _coupling(x: gw.GramSpace, y: gw.GramSpace) -> gw.Plan:
    """Find a coupling of low objective, outside any gradient graph."""
    problem = gw.GWProblem(_detached(x), _detached(y))
    # The solver alone: the objective of any coupling is an upper bound, so neither its
    # status nor a certificate is needed.
    solver = gw.ConditionalGradient()
    result = solver.run(problem)
    return result.plan


def _detached(space: gw.GramSpace) -> gw.GramSpace:
    """Return the same space without gradient."""
    factor = space.factor.detach()
    return gw.GramSpace(factor, space.weights)


KINDS: dict[str, Loss] = {
    "row_means": _row_means,
    "norm": gw.batch.norm,
    "spectral": gw.batch.spectral,
    "gw": _gw,
}


def _warn_if_degenerate(side: TopKLogits, indices: Sequence[int]) -> None:
    """Warn where every sequence of two or more positions has constant row masses."""
    values = side.values.detach()
    values = values[indices]
    mask = side.mask[indices]
    # A single position has but one row mass, which says nothing of their spread.
    several = mask.sum(dim=1) > 1
    values = values[several]  # (sequences, T, k)
    mask = mask[several]
    if len(values) == 0:
        return
    mass = values.sum(dim=2)  # (sequences, T), the row masses H 1
    size = values.abs().sum(dim=2)
    # Masked positions are neither the largest nor the smallest.
    for_largest = torch.where(mask, mass, -torch.inf)
    for_smallest = torch.where(mask, mass, torch.inf)
    largest = for_largest.amax(dim=1)
    smallest = for_smallest.amin(dim=1)
    scale = size.amax(dim=1)
    constant = largest - smallest <= _CONSTANT * scale
    if bool(constant.all()):
        _warn_degenerate(side.standardize)


@lru_cache
def _warn_degenerate(standardize: str) -> None:
    """Warn once for each standardisation: training would repeat it at every step."""
    warnings.warn(
        f"graph_loss of kind 'row_means' is degenerate on these {standardize!r} "
        f"logits: the {_CONSTANT:g} relative spread of their row masses leaves it only "
        "the difference of mean rows, which ULD sees already; use raw, centred or "
        "full-row z-scored logits, or kind 'spectral'.",
        stacklevel=2,
    )


def shared(side: TopKLogits, group: Any) -> TopKLogits:
    """Join the positions (B, T) of all ranks of a group, shape (B, ranks · T).

    The gradient of the values goes back to the rank that holds them.
    """
    from torch.distributed.nn import functional

    # Each rank adds an array that is zero but for its own positions.
    differentiable_sum: Any = functional.all_reduce
    values = _placed(side.values, group)
    values = differentiable_sum(values, group=group)
    # Ids and mask have no gradient, and are added in place.
    ids = _placed(side.ids, group)
    dist.all_reduce(ids, group=group)
    mask = side.mask.to(torch.int64)
    mask = _placed(mask, group)
    dist.all_reduce(mask, group=group)
    return TopKLogits(
        values=values,
        ids=ids,
        mask=mask.bool(),
        logsumexp=None,
        mean=None,
        std=None,
        vocabulary=side.vocabulary,
        standardize=side.standardize,
        temperature=side.temperature,
    )


def _placed(rows: Tensor, group: Any) -> Tensor:
    """Return an array (B, ranks · T, …) of zeros but for this rank's rows (B, T, …)."""
    rank = dist.get_rank(group)
    ranks = dist.get_world_size(group)
    B, T, *rest = rows.shape
    whole = rows.new_zeros(B, ranks * T, *rest)
    start = rank * T
    whole[:, start : start + T] = rows
    return whole
