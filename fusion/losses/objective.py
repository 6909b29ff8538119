"""The training objective: the supervised loss, and what several teachers add to it.

A step, in any loop::

    out = fusion.read(
        logits, labels, k=10
    )  # or fusion.chunked_head(hidden, weight, labels, k=10)
    loss = fusion.FusionLoss(
        weight=0.5, alignment="uld", graph="row_means", channels="rank"
    )
    result = loss(
        out.topk,
        out.mean_nll,
        {"qwen": fusion.TeacherTerm(topk, student_index, teacher_index, pairs)},
    )
    result.total.backward()

With B examples in a batch, w, a, g and λ of :class:`FusionLoss` and the weights c of
each :class:`TeacherTerm`:

    total = (1 − w) · SFT + w · Σ_s λ_s · (a · A_s + g · G_s)

    SFT = Σ_b u_b / Σ_b n_b                  u (B,) sums −log p over the n (B,) labels of an example
    A_s = Σ_b c_sb · u_sb / Σ_b c_sb · n_sb  u_s (B,) sums ULD, KL or JSD over the n_s
    (B,) aligned pairs of an example G_s = Σ_b c_sb · u_sb / Σ_b c_sb · n_sb  u_s (B,)
    is the graph loss of an example, n_s (B,) 1 where it has one, else 0

Weights. c_s, of shape (B,), is what teacher s counts for each example: 1 by default, 0
takes the teacher away from it. λ_s is what teacher s counts beside the others: 1 over
their number by default. A factor on all of c_s cancels; one on λ_s does not.
``result.terms`` holds each mean as a 0-d tensor: "sft", "uld/qwen", "graph/qwen", …;
``sums`` and ``counts`` hold u and n.

Micro-batches and ranks. Where a step of the optimiser has several micro-batches, pass
``totals``, the denominators of the whole step: the losses of its micro-batches then add
up to that of the step. Data-parallel ranks average gradients as usual, with ``totals``
those of the step over all ranks, divided by their number. Ranks that share sequences
pass ``group``.

One mean over all teachers. Totals that are one number, Σ_s Σ_b c_sb · n_sb, are those
of every teacher. With λ_s = 1, Σ_s A_s is then the weighted mean over the pairs of all
teachers, in which c also says what teachers count beside each other. So does
:class:`FusionTrainer`, whose weights of an example sum to 1 over the teachers that have seen it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, final

import torch
import torch.distributed as dist
from torch import Tensor

from fusion import _check
from fusion.logits.rows import wide
from fusion.logits.topk import KINDS, TopKLogits
from fusion.losses import graphs
from fusion.losses.tokens import jsd_loss, kl_loss, uld_loss

ALIGNMENTS = ("uld", "kl", "jsd")


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
        What the teacher counts for each example, at least 0; 1 by default.
    temperature : float, optional
        Divides the logits of this teacher and of the student beside it; by default that
        of the loss.

    Raises
    ------
    ValueError
        If weights are not B finite numbers at least 0, or the temperature is not
        positive.

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
    student_index: Tensor | None = None
    teacher_index: Tensor | None = None
    pairs: Tensor | None = None
    logprobs_at: Tensor | None = None
    weights: Tensor | None = None
    temperature: float | None = None

    def __post_init__(self) -> None:
        if self.weights is not None:
            _check.weights(self.weights, "weights", self.topk.batch)
        if self.temperature is not None:
            _check.number(self.temperature, "temperature", above=0)


@final
@dataclass(frozen=True)
class Totals:
    """Denominators of one optimiser step over all its micro-batches, divided by the number of ranks.

    Each is a number or a 0-d tensor, which may stay on its device.

    Parameters
    ----------
    tokens : float
        Positions with a label.
    pairs, sequences : float, or mapping from teacher to float
        Valid pairs of positions, and sequences with a valid position on both sides,
        each with the weight of its example; a sequence counts on every rank that holds
        a part of it. One number is that of every teacher: their terms are then parts of
        one mean.

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

    tokens: float | Tensor
    pairs: float | Tensor | Mapping[str, float | Tensor]
    sequences: float | Tensor | Mapping[str, float | Tensor]


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
        Of the terms, before any weight: what each example adds up to, and over how many
        positions, pairs or graphs. Without "sft" where its mean was passed.

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
    >>> result = fusion.FusionLoss(weight=0.25, alignment=None)(
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
        """Return the norm of each term's gradient with respect to ``at`` (logits, hidden states, a parameter).

        Costs a backward pass a term, down to ``at``; the graph is kept for the step
        itself.
        """
        norms = {}
        for name, term in self.terms.items():
            gradient = (
                torch.autograd.grad(term, at, retain_graph=True, allow_unused=True)[0]
                if term.requires_grad
                else None
            )
            norms[name] = 0.0 if gradient is None else float(wide(gradient).norm())
        return norms


@final
@dataclass(frozen=True)
class FusionLoss:
    """The supervised loss plus what several teachers add: (1 − w) · SFT + w · Σ_s λ_s · (a · A_s + g · G_s).

    Terms differ in scale by orders of magnitude: ULD is in logits, row-means graphs are
    in squared logits, the other kinds in their fourth power. Read ``terms`` and
    ``gradient_norms`` of the output before choosing weights.

    Parameters
    ----------
    weight : float
        w between 0 and 1.
    alignment : {"uld", "kl", "jsd"} or None
        The token-level loss A on aligned pairs; KL and JSD need the student's
        vocabulary.
    graph : {"row_means", "norm", "spectral", "gw"} or None
        The graph loss G; see :func:`graph_loss`.
    channels : {"rank", "vocabulary"}
        Nodes of the graphs.
    alignment_weight, graph_weight : float
        a and g, at least 0.
    teacher_weights : mapping from teacher to float, optional
        λ, used as given; 1 over the number of teachers in the call by default. Weights
        of single examples are those of
        :class:`TeacherTerm`.
    standardize, temperature
        What ULD and the graphs compare, as in :func:`top_k`; raw logits that are passed
        are standardised. KL and JSD compare log-probabilities at the temperature,
        whatever ``standardize`` is.
    beta : float
        Of :func:`jsd_loss`.

    Raises
    ------
    ValueError
        If a setting is unknown or out of range.

    Examples
    --------
    Two positions with their labels, and a teacher whose two positions are aligned with
    them: (1 − w) · SFT + w · (ULD + graph).

    >>> import torch, fusion
    >>> output = fusion.read(
    ...     torch.tensor([[[2.0, 0.0, 1.0], [0.0, 3.0, 1.0]]]),
    ...     torch.tensor([[0, 1]]),
    ...     k=2,
    ... )
    >>> topk, pairs = (
    ...     fusion.top_k(torch.tensor([[[4.0, 1.0], [3.0, 2.5]]]), k=2),
    ...     torch.tensor([[0, 1]]),
    ... )
    >>> loss = fusion.FusionLoss(weight=0.25)
    >>> result = loss(
    ...     output.topk, output.nll, {"qwen": fusion.TeacherTerm(topk, pairs, pairs)}
    ... )
    >>> (
    ...     {name: round(term.item(), 2) for name, term in result.terms.items()},
    ...     round(result.total.item(), 2),
    ... )
    ({'sft': 0.29, 'uld/qwen': 1.75, 'graph/qwen': 7.56}, 2.54)
    """

    weight: float = 0.5
    alignment: str | None = "uld"
    graph: str | None = "row_means"
    channels: str = "rank"
    alignment_weight: float = 1.0
    graph_weight: float = 1.0
    teacher_weights: Mapping[str, float] | None = None
    standardize: str = "none"
    temperature: float = 1.0
    beta: float = 0.5

    def __post_init__(self) -> None:
        _check.number(self.weight, "weight", least=0, most=1)
        _check.choice(self.alignment, "alignment", (*ALIGNMENTS, None))
        _check.choice(self.graph, "graph", (*graphs.KINDS, None))
        _check.choice(self.standardize, "standardize", KINDS)
        for name in ("alignment_weight", "graph_weight"):
            _check.number(getattr(self, name), name, least=0)
        for name in ("temperature", "beta"):
            _check.number(getattr(self, name), name, above=0)
        _check.number(1 - self.beta, "1 − beta", above=0)
        graphs.check_nodes(self.graph, self.channels)
        for name, value in (self.teacher_weights or {}).items():
            _check.number(value, f"teacher_weights[{name!r}]", least=0)

    def __call__(
        self,
        student: TopKLogits,
        nll: Tensor,
        teachers: Mapping[str, TeacherTerm],
        totals: Totals | None = None,
        group: Any = None,
    ) -> FusionLossOutput:
        """Return the loss of a batch.

        Parameters
        ----------
        student : TopKLogits
            The student's logits at all its completion positions, shape (B, T, k), with
            k at least that of every teacher: it is cut to the teacher's.
        nll : tensor of shape (B, T), or 0-d
            Negative log-likelihoods, zero at masked positions; or their mean, taken as
            it is.
        teachers : mapping from name to TeacherTerm
            Those that say something of this batch.
        totals : Totals, optional
            Denominators of the means instead of this batch's own.
        group : torch.distributed.ProcessGroup, optional
            Ranks that each hold other positions of the same examples. The average over
            ranks of every term, and of its gradient, is that of the whole sequences.

        Raises
        ------
        ValueError
            If a teacher has no weight, a term lacks what its loss needs, or sides do
            not fit each other.
        """
        shares = {name: self._share(name, len(teachers)) for name in teachers}
        sums, counts, terms = {}, {}, {"sft": nll}
        if nll.ndim > 0:
            sums["sft"], counts["sft"] = nll.sum(dim=1), student.mask.sum(dim=1)
            terms["sft"] = _mean(
                sums["sft"], counts["sft"], None, _total(totals, "tokens"), group
            )
        alignment = graph = terms["sft"].new_zeros(())
        for name, term in teachers.items():
            if self.alignment is not None:
                key, total = f"{self.alignment}/{name}", _total(totals, "pairs", name)
                sums[key], counts[key] = self._alignment(student, name, term)
                terms[key] = _mean(sums[key], counts[key], term.weights, total, group)
                alignment = alignment + shares[name] * terms[key]
            if self.graph is not None:
                key, total = f"graph/{name}", _total(totals, "sequences", name)
                sums[key], counts[key] = self._graph(student, term, group)
                # Every rank of a group has the loss of the whole sequences: there is
                # nothing to share.
                terms[key] = _mean(sums[key], counts[key], term.weights, total, None)
                graph = graph + shares[name] * terms[key]
        return FusionLossOutput(
            self.combined(terms["sft"], alignment, graph), terms, sums, counts
        )

    def combined(self, sft: Any, alignment: Any, graph: Any) -> Any:
        """Return (1 − w) · SFT + w · (a · Σ_s λ_s A_s + g · Σ_s λ_s G_s) of these sums, numbers or tensors."""
        added = self.alignment_weight * alignment + self.graph_weight * graph
        return (1 - self.weight) * sft + self.weight * added

    def _share(self, name: str, count: int) -> float:
        """Return λ of a teacher among ``count``."""
        if self.teacher_weights is None:
            return 1 / count
        if name not in self.teacher_weights:
            raise ValueError(
                f"teacher_weights must name every teacher, but {name!r} is not among {sorted(self.teacher_weights)}: "
                "add its weight, or leave teacher_weights out for equal ones."
            )
        return float(self.teacher_weights[name])

    def _alignment(
        self, student: TopKLogits, name: str, term: TeacherTerm
    ) -> tuple[Tensor, Tensor]:
        """Sums (B,) of one teacher's token-level loss over the pairs of each example, and their numbers (B,)."""
        si, ti = (
            _given(getattr(term, part), part, name)
            for part in ("student_index", "teacher_index")
        )
        pairs = (
            torch.ones_like(si, dtype=torch.bool) if term.pairs is None else term.pairs
        )
        if self.alignment == "uld":
            ours, theirs = self._sides(student, term)
            ours, theirs = ours.select(si, pairs), theirs.select(ti, pairs)
            values, mask = uld_loss(ours, theirs, "none"), ours.mask & theirs.mask
            return values.sum(dim=1), mask.sum(dim=1)
        at, teacher = (
            _given(term.logprobs_at, "logprobs_at", name),
            term.topk.select(ti, pairs),
        )
        mask = student.mask.gather(1, si) & teacher.mask
        if teacher.standardize == "none":
            teacher = teacher.standardized("logprob", self._temperature(term))
        divergence = (
            kl_loss if self.alignment == "kl" else partial(jsd_loss, beta=self.beta)
        )
        return divergence(at, teacher, mask, "none").sum(dim=1), mask.sum(dim=1)

    def _graph(
        self, student: TopKLogits, term: TeacherTerm, group: Any
    ) -> tuple[Tensor, Tensor]:
        """Graph losses (B,) to one teacher, and 1 for each example with a valid position on both sides, else 0."""
        ours, theirs = self._sides(student, term)
        if group is not None:
            ours, theirs = graphs.shared(ours, group), graphs.shared(theirs, group)
        values = graphs.graph_loss(ours, theirs, str(self.graph), self.channels, "none")
        return values, graphs.taking_part(ours, theirs).long()

    def _sides(
        self, student: TopKLogits, term: TeacherTerm
    ) -> tuple[TopKLogits, TopKLogits]:
        """Return student and teacher as they are compared: as many ranks of the same quantity."""
        temperature = self._temperature(term)
        ours = student.first(min(student.k, term.topk.k))
        return ours.standardized(self.standardize, temperature), term.topk.standardized(
            self.standardize, temperature
        )

    def _temperature(self, term: TeacherTerm) -> float:
        return self.temperature if term.temperature is None else term.temperature


def _given(value: Tensor | None, part: str, name: str) -> Tensor:
    if value is None:
        raise ValueError(
            f"teacher {name!r} must have {part} for this alignment, but has none: add it to its TeacherTerm."
        )
    return value


def _total(
    totals: Totals | None, part: str, teacher: str = ""
) -> float | Tensor | None:
    """Return what was passed to divide by, if anything was; one number is that of every teacher."""
    total = None if totals is None else getattr(totals, part)
    return total[teacher] if isinstance(total, Mapping) else total


def _mean(
    sums: Tensor,
    counts: Tensor,
    weights: Tensor | None,
    total: float | Tensor | None,
    group: Any,
) -> Tensor:
    """Return Σ_b c_b u_b / Σ_b c_b n_b of u, n and c of shape (B,), or over the total; zero where that is zero.

    The average over the ranks of a group is the mean of all their sums.
    """
    counts = counts.to(sums.dtype)
    if weights is not None:
        weights = weights.to(sums.dtype)
        sums, counts = weights * sums, weights * counts
    if total is None:
        total = counts.sum()
        if group is not None:
            dist.all_reduce(total, group=group)
            total = total / dist.get_world_size(group)
    divisor = torch.as_tensor(total, dtype=sums.dtype, device=sums.device)
    return sums.sum() / divisor.clamp(min=torch.finfo(sums.dtype).tiny)
