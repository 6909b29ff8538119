"""What a loss is made of: what each teacher says of a batch, denominators, the result.

The loss itself is :class:`fusion.FusionLoss` (fusion/losses/objective.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from fusion import _check
from fusion.logits.rows import wide
from fusion.logits.topk import TopKLogits

Total = float | Tensor


@final
@dataclass(frozen=True, eq=False)
class TeacherTerm:
    """What one teacher says of a batch of B examples.

    Parameters
    ----------
    topk : TopKLogits
        The teacher's logits at its completion positions, shape (B, T', k). An example
        that the teacher has not seen is masked.
    student_index, teacher_index : int64 tensors of shape (B, P), optional
        Aligned pairs of positions, into the student's T and the teacher's T'; needed by
        the token-level losses only.
    pairs : bool tensor of shape (B, P), optional
        True where a pair is one, not padding; all by default.
    logprobs_at : tensor of shape (B, P, k), optional
        The student's log-probabilities of the teacher's tokens at the pairs; needed by
        KL and JSD only.
    weights : tensor of shape (B,), optional
        Weight of each example in this teacher's means, at least 0; 1 by default.
    pair_weights : tensor of shape (B, P), optional
        Weight of each pair in its example's token-level loss, at least 0; 1 by default.
    temperature : float, optional
        Divides the logits of this teacher and of the student beside it; by default that
        of the loss.

    Raises
    ------
    ValueError
        If weights are not B finite numbers at least 0, those of pairs not one for each,
        or the temperature is not positive.

    Examples
    --------
    A teacher that counts half for the second of two examples, whose only positions are
    aligned with the student's first ones.

    >>> import torch, fusion
    >>> topk = fusion.top_k(torch.tensor([[[4.0, 1.0, 0.0]], [[0.0, 3.0, 2.0]]]), k=2)
    >>> first = torch.zeros((2, 1), dtype=torch.int64)
    >>> term = fusion.TeacherTerm(
    ...     topk,
    ...     student_index=first,
    ...     teacher_index=first,
    ...     weights=torch.tensor([1.0, 0.5]),
    ... )
    >>> student = fusion.top_k(torch.tensor([[[2.0, 1.0]], [[1.0, 1.5]]]), k=2)
    >>> loss = fusion.FusionLoss(weight=1.0, graph=None)
    >>> loss(student, torch.zeros(2, 1), {"teacher": term}).terms["uld/teacher"]
    tensor(2.1667)
    """

    topk: TopKLogits
    student_index: Tensor | None = None  # (B, P)
    teacher_index: Tensor | None = None  # (B, P)
    pairs: Tensor | None = None  # (B, P)
    logprobs_at: Tensor | None = None  # (B, P, k)
    weights: Tensor | None = None  # (B,)
    pair_weights: Tensor | None = None  # (B, P)
    temperature: float | None = None

    def __post_init__(self) -> None:
        if self.weights is not None:
            _check.weights(self.weights, "weights", self.topk.batch)
        if self.pair_weights is not None:
            _check.pair_weights(self.pair_weights, self.student_index)
        if self.temperature is not None:
            _check.number(self.temperature, "temperature", above=0)


@final
@dataclass(frozen=True)
class Totals:
    """Denominators of one optimiser step over all its micro-batches.

    With data-parallel ranks, each is the sum over all ranks divided by the number of
    ranks. Each is a number or a 0-d tensor, which may stay on its device.

    Parameters
    ----------
    tokens : float
        Number of positions with a label.
    pairs, sequences : float, or mapping from teacher to float
        Number of valid pairs of positions, and of sequences with a valid position on
        both sides, each times the weight of its example; a sequence counts on every
        rank that holds a part of it. One number divides the sums of every teacher:
        their terms are then parts of one mean.

    Examples
    --------
    Two micro-batches of a step: with its totals, their losses add up to the loss of the
    step.

    >>> import torch, fusion
    >>> logits = torch.tensor([[[2.0, 0.0], [0.0, 3.0]], [[1.0, 0.0], [0.0, 0.0]]])
    >>> labels = torch.tensor([[0, 1], [1, -100]])
    >>> outputs = [
    ...     fusion.read(logits[i : i + 1], labels[i : i + 1], k=2) for i in range(2)
    ... ]
    >>> totals = fusion.Totals(tokens=3, pairs=0, sequences=0)
    >>> loss = fusion.FusionLoss(weight=0.0, alignment=None, graph=None)
    >>> sum(loss(output.topk, output.nll, {}, totals).total for output in outputs)
    tensor(0.4963)
    >>> fusion.read(logits, labels, k=2).mean_nll
    tensor(0.4963)
    """

    tokens: Total  # Σ_b n_b of SFT
    pairs: Total | Mapping[str, Total]  # Σ_b c_sb n_sb of A_s
    sequences: Total | Mapping[str, Total]  # Σ_b c_sb n_sb of G_s


@final
@dataclass(frozen=True, eq=False)
class FusionLossOutput:
    """The loss and its terms.

    Parameters
    ----------
    total : 0-d tensor
        What to differentiate.
    terms : dict of 0-d tensors
        The means SFT, A and G: "sft", and for each teacher its token-level loss
        ("uld/NAME") and its graph loss ("graph/NAME").
    sums, counts : dict of tensors of shape (B,)
        For each term, without weights: the sum of the losses in each example, and the
        number of its positions, pairs or graphs. "sft" is left out where its mean was
        passed.

    Examples
    --------
    >>> import torch, fusion
    >>> output = fusion.read(
    ...     torch.tensor([[[2.0, 0.0, 1.0], [0.0, 3.0, 1.0]]]),
    ...     torch.tensor([[0, 1]]),
    ...     k=2,
    ... )
    >>> teacher = fusion.TeacherTerm(
    ...     fusion.top_k(torch.tensor([[[4.0, 1.0], [3.0, 2.5]]]), k=2)
    ... )
    >>> result = fusion.FusionLoss(weight=0.25, alignment=None, graph="row_means")(
    ...     output.topk, output.nll, {"qwen": teacher}
    ... )
    >>> (
    ...     {name: round(term.item(), 2) for name, term in result.terms.items()},
    ...     round(result.total.item(), 2),
    ... )
    ({'sft': 0.29, 'graph/qwen': 7.56}, 2.11)
    """

    total: Tensor
    terms: dict[str, Tensor]
    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, Tensor] = field(default_factory=dict)

    def gradient_norms(self, at: Tensor) -> dict[str, float]:
        """Return the norm of each term's gradient with respect to a tensor.

        Costs a backward pass for each term, down to that tensor; the graph is kept for
        the step itself.

        Parameters
        ----------
        at : tensor
            Logits, hidden states or a parameter.

        Returns
        -------
        dict of float
            Zero for terms that do not depend on it.
        """
        norms = {}
        for name, term in self.terms.items():
            norms[name] = _gradient_norm(term, at)
        return norms


def _gradient_norm(term: Tensor, at: Tensor) -> float:
    """Norm of the gradient of a 0-d tensor, in at least float32."""
    if not term.requires_grad:
        return 0.0
    (gradient,) = torch.autograd.grad(
        term,
        at,
        retain_graph=True,  # for the step itself
        allow_unused=True,  # what the term does not depend on
    )
    if gradient is None:
        return 0.0
    norm = wide(gradient).norm()
    return float(norm)
