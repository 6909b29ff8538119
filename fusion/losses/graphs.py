"""Losses between graphs on logits: nodes are channels of the logits, edges their products averaged over positions.

With H the (T, k) logits of the T valid positions of a sequence, its graph is C = HᵀH /
T. It is handed to gwtools as the Gram space of H / √T, so no graph is formed where only
its row means count, and every kind of loss is a bound or a value of the
Gromov-Wasserstein distance between the student's graph C and the teacher's D
(gwtools/THEORY.md, theorems 1, 3 and 4).

Channels. "rank": column r holds the r-th largest logit; k nodes of weight 1/k, no
common vocabulary needed. "vocabulary": column v is token v; V nodes of weight 1/V, of
which those that never occur among the k largest are one atom at zero.

Degeneracy. Row means C 1 / k = Hᵀ(H 1) / (k T) see a sequence through its row masses H
1 alone. Where those do not vary, the row-means kind compares mean rows only: softmax
over the whole row nearly so, z-scores of the k logits among themselves fully. Raw,
centred or full-row z-scored logits, and the kinds that also see the residual of the
graph, do not have this defect.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
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
_CONSTANT = 1e-3


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
        ranks). The rows are shared with their gradient, so that every rank returns the
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
        option is unknown or, for the mean, no sequence has a valid position on both
        sides.

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
    check_nodes(kind, channels)
    with torch.autocast(student.values.device.type, enabled=False):
        if group is not None:
            student, teacher = shared(student, group), shared(teacher, group)
        values = _values(student, teacher, kind, channels)
        return reduced(
            values, taking_part(student, teacher), reduction, "the mask of sequences"
        )


def check_nodes(kind: str | None, channels: str) -> None:
    """Require channels that graphs of a kind can have."""
    _check.choice(channels, "channels", CHANNELS)
    if kind == "gw" and channels != "rank":
        raise ValueError(
            f"channels must be 'rank' for kind 'gw', but are {channels!r}: couplings of whole vocabularies are out of reach, "
            "use kind 'spectral' there."
        )


def taking_part(student: TopKLogits, teacher: TopKLogits) -> Tensor:
    """Tell which sequences have a valid position on both sides, shape (B,)."""
    return student.mask.any(dim=1) & teacher.mask.any(dim=1)


def _values(
    student: TopKLogits, teacher: TopKLogits, kind: str, channels: str
) -> Tensor:
    """Compute the loss of each sequence, shape (B,), zero without a valid position on both sides."""
    present = taking_part(student, teacher)
    indices = present.nonzero()[:, 0].tolist()
    dtype = torch.promote_types(student.values.dtype, teacher.values.dtype)
    if not indices:
        return student.values.new_zeros(student.batch, dtype=dtype)
    xs, ys = (
        [_space(side, b, channels, dtype) for b in indices]
        for side in (student, teacher)
    )
    values = KINDS[kind](xs, ys)
    if kind == "row_means":
        for side in (student, teacher):
            _warn_if_degenerate(side, indices)
        values = values * (student.k if channels == "rank" else 1)
    return values.new_zeros(student.batch).index_put((present,), values)


def _space(side: TopKLogits, b: int, channels: str, dtype: torch.dtype) -> gw.GramSpace:
    """Make the graph of one sequence, as the Gram space of its valid rows over √T."""
    H = side.values[b][side.mask[b]].to(dtype)
    H = H / len(H) ** 0.5
    if channels == "rank":
        uniform = H.new_full(
            (side.k,), 1 / side.k
        )  # the ranks are the atoms, however many positions there are
        return gw.GramSpace(H, uniform)
    tokens, column = torch.unique(side.ids[b][side.mask[b]], return_inverse=True)
    factor = H.new_zeros(len(H), len(tokens) + 1).scatter(1, column, H)
    weights = H.new_full((len(tokens) + 1,), 1 / side.vocabulary)
    weights[-1] = 1 - len(tokens) / side.vocabulary
    return gw.GramSpace(factor, weights)


def _gw(xs: Spaces, ys: Spaces) -> Tensor:
    """Objective of the best coupling found; by the envelope theorem its gradient is that at the coupling held fixed."""
    return torch.stack(
        [
            gw.GWProblem(x, y).objective(_coupling(x, y))
            for x, y in zip(xs, ys, strict=True)
        ]
    )


def _coupling(x: gw.GramSpace, y: gw.GramSpace) -> gw.Plan:
    """Run the solver alone: any coupling's objective is an upper bound, so neither status nor certificate is asked for."""
    x, y = (gw.GramSpace(s.factor.detach(), s.weights) for s in (x, y))
    return gw.ConditionalGradient().run(gw.GWProblem(x, y)).plan


KINDS: dict[str, Callable[[Spaces, Spaces], Tensor]] = {
    "row_means": partial(gw.batch.row_means, p=1),
    "norm": gw.batch.norm,
    "spectral": gw.batch.spectral,
    "gw": _gw,
}


def _warn_if_degenerate(side: TopKLogits, indices: Sequence[int]) -> None:
    """Warn where the row masses of all sequences of two or more positions are constant."""
    values, mask = side.values.detach()[indices], side.mask[indices]
    values, mask = values[mask.sum(dim=1) > 1], mask[mask.sum(dim=1) > 1]
    if len(values) == 0:
        return
    mass, size = values.sum(dim=2), values.abs().sum(dim=2)
    top = torch.where(mask, mass, -torch.inf).amax(dim=1)
    low = torch.where(mask, mass, torch.inf).amin(dim=1)
    if bool((top - low <= _CONSTANT * size.amax(dim=1)).all()):
        _warn_degenerate(side.standardize)


@lru_cache
def _warn_degenerate(standardize: str) -> None:
    warnings.warn(
        f"graph_loss of kind 'row_means' is degenerate on these {standardize!r} logits: the {_CONSTANT:g} relative spread of "
        "their row masses leaves it only the difference of mean rows, which ULD sees already; use raw, centred or "
        "full-row z-scored logits, or kind 'spectral'.",
        stacklevel=2,
    )


def shared(side: TopKLogits, group: Any) -> TopKLogits:
    """Join the positions that the ranks of a group hold, as a sum of arrays that are zero but for a rank's own rows."""
    from torch.distributed.nn import functional

    rank, size, T = (
        dist.get_rank(group),
        dist.get_world_size(group),
        side.values.shape[1],
    )

    def placed(rows: Tensor) -> Tensor:
        whole = rows.new_zeros(rows.shape[0], size * T, *rows.shape[2:])
        whole[:, rank * T : (rank + 1) * T] = rows
        return whole

    values = functional.all_reduce(placed(side.values), group=group)  # type: ignore[no-untyped-call]
    ids, mask = placed(side.ids), placed(side.mask.to(torch.int64))
    for part in (ids, mask):
        dist.all_reduce(part, group=group)
    return TopKLogits(
        values,
        ids,
        mask.bool(),
        None,
        None,
        None,
        side.vocabulary,
        side.standardize,
        side.temperature,
    )
