"""The training objective: the supervised loss, and what several teachers add to it.

A step, in any loop::

    out = fusion.read(logits, labels, k=10)  # or fusion.chunked_head(hidden, weight, labels, k=10)
    loss = fusion.FusionLoss(weight=0.5, alignment="uld", graph="row_means", channels="rank")
    result = loss(out.topk, out.mean_nll, {"qwen": fusion.TeacherTerm(topk, student_index, teacher_index, pairs)})
    result.total.backward()

    total = (1 − w) · SFT + w · Σ_s λ_s · (a · A_s + g · G_s)

with A_s the token-level loss on aligned positions (ULD; KL or JSD where the vocabulary is the same) and G_s the graph loss on
all positions. ``result.terms`` holds each unweighted term as a 0-d tensor: "sft", "uld/qwen", "graph/qwen", …

Micro-batches and ranks. Every term is a mean: over tokens (SFT), pairs (alignment) or sequences (graph). Where a step of the
optimiser has several micro-batches, pass ``totals``, the counts of the whole step: the losses of its micro-batches then add up
to that of the step. Data-parallel ranks average gradients as usual, with ``totals`` those of the step over all ranks, divided
by their number. Ranks that share sequences pass ``group``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
import torch.distributed as dist
from torch import Tensor

from fusion import _check
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
        The teacher's logits at its completion positions, shape (B, T', k). A sequence that the teacher has not seen is masked.
    student_index, teacher_index : int64 tensors of shape (B, P), optional
        Aligned pairs of positions, into the student's T and the teacher's T'; needed by the token-level losses only.
    pairs : bool tensor of shape (B, P), optional
        True where a pair is one, not padding; all by default.
    logprobs_at : tensor of shape (B, P, k), optional
        The student's log-probabilities of the teacher's tokens at the pairs; needed by KL and JSD only.
    """

    topk: TopKLogits
    student_index: Tensor | None = None
    teacher_index: Tensor | None = None
    pairs: Tensor | None = None
    logprobs_at: Tensor | None = None


@final
@dataclass(frozen=True)
class Totals:
    """Counts of one optimiser step over all its micro-batches, divided by the number of ranks.

    Parameters
    ----------
    tokens : float
        Positions with a label.
    pairs, sequences : mapping from teacher to float
        Valid pairs of positions, and sequences with a valid position on both sides; a sequence counts on every rank that holds
        a part of it.
    """

    tokens: float
    pairs: Mapping[str, float]
    sequences: Mapping[str, float]


@final
@dataclass(frozen=True, eq=False)
class FusionLossOutput:
    """The loss and its terms.

    Parameters
    ----------
    total : 0-d tensor
        What to differentiate.
    terms : dict of 0-d tensors
        Unweighted: "sft", and for each teacher its token-level loss ("uld/NAME") and its graph loss ("graph/NAME").
    """

    total: Tensor
    terms: dict[str, Tensor]

    def gradient_norms(self, at: Tensor) -> dict[str, float]:
        """Return the norm of each term's gradient with respect to ``at`` (logits, hidden states, a parameter).

        Costs a backward pass a term, down to ``at``; the graph is kept for the step itself.
        """
        norms = {}
        for name, term in self.terms.items():
            gradient = (
                torch.autograd.grad(term, at, retain_graph=True, allow_unused=True)[0] if term.requires_grad else None
            )
            norms[name] = 0.0 if gradient is None else float(gradient.norm())
        return norms


@final
@dataclass(frozen=True)
class FusionLoss:
    """The supervised loss plus what several teachers add: (1 − w) · SFT + w · Σ_s λ_s · (a · A_s + g · G_s).

    Terms differ in scale by orders of magnitude: ULD is in logits, row-means graphs are in squared logits, the other kinds in
    their fourth power. Read ``terms`` and ``gradient_norms`` of the output before choosing weights.

    Parameters
    ----------
    weight : float
        w between 0 and 1.
    alignment : {"uld", "kl", "jsd"} or None
        The token-level loss A on aligned pairs; KL and JSD need the student's vocabulary.
    graph : {"row_means", "norm", "spectral", "gw"} or None
        The graph loss G; see :func:`graph_loss`.
    channels : {"rank", "vocabulary"}
        Nodes of the graphs.
    alignment_weight, graph_weight : float
        a and g, at least 0.
    teacher_weights : mapping from teacher to float, optional
        λ, used as given; 1 over the number of teachers in the call by default.
    standardize, temperature
        What ULD and the graphs compare, as in :func:`top_k`; raw logits that are passed are standardised. KL and JSD compare
        log-probabilities at the temperature, whatever ``standardize`` is.
    beta : float
        Of :func:`jsd_loss`.

    Raises
    ------
    ValueError
        If a setting is unknown or out of range.
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
            The student's logits at all its completion positions, shape (B, T, k), with k at least that of every teacher: it is
            cut to the teacher's.
        nll : tensor of shape (B, T), or 0-d
            Negative log-likelihoods, zero at masked positions; or their mean, taken as it is.
        teachers : mapping from name to TeacherTerm
            Those that say something of this batch.
        totals : Totals, optional
            Counts to divide by instead of this batch's own.
        group : torch.distributed.ProcessGroup, optional
            Ranks that each hold other positions of the same examples. The average over ranks of every term, and of its
            gradient, is that of the whole sequences.

        Raises
        ------
        ValueError
            If a teacher has no weight, a term lacks what its loss needs, or sides do not fit each other.
        """
        names = list(teachers)
        weights = {name: self._weight(name, len(names)) for name in names}
        terms = {"sft": _mean(nll, student.mask, None if totals is None else totals.tokens, group)}
        added = terms["sft"].new_zeros(())
        for name, term in teachers.items():
            if self.alignment is not None:
                aligned = self._alignment(student, name, term, totals, group)
                terms[f"{self.alignment}/{name}"] = aligned
                added = added + weights[name] * self.alignment_weight * aligned
            if self.graph is not None:
                graph = self._graph(student, name, term, totals, group)
                terms[f"graph/{name}"] = graph
                added = added + weights[name] * self.graph_weight * graph
        return FusionLossOutput((1 - self.weight) * terms["sft"] + self.weight * added, terms)

    def _weight(self, name: str, count: int) -> float:
        if self.teacher_weights is None:
            return 1 / count
        if name not in self.teacher_weights:
            raise ValueError(
                f"teacher_weights must name every teacher, but {name!r} is not among {sorted(self.teacher_weights)}: "
                "add its weight, or leave teacher_weights out for equal ones."
            )
        return float(self.teacher_weights[name])

    def _alignment(
        self, student: TopKLogits, name: str, term: TeacherTerm, totals: Totals | None, group: Any
    ) -> Tensor:
        """Token-level loss of one teacher; zero where it has no valid pair."""
        si, ti = (_given(getattr(term, part), part, name) for part in ("student_index", "teacher_index"))
        pairs = torch.ones_like(si, dtype=torch.bool) if term.pairs is None else term.pairs
        teacher, mask = term.topk.select(ti, pairs), student.mask.gather(1, si) & pairs
        if self.alignment == "uld":
            ours = self._standardized(student.first(min(student.k, teacher.k))).select(si, pairs)
            values = uld_loss(ours, self._standardized(teacher), "none")
        else:
            at = _given(term.logprobs_at, "logprobs_at", name)
            if teacher.standardize == "none":
                teacher = teacher.standardized("logprob", self.temperature)
            values = (
                kl_loss(at, teacher, mask, "none")
                if self.alignment == "kl"
                else jsd_loss(at, teacher, mask, "none", self.beta)
            )
        return _mean(values, mask & teacher.mask, None if totals is None else totals.pairs[name], group)

    def _graph(self, student: TopKLogits, name: str, term: TeacherTerm, totals: Totals | None, group: Any) -> Tensor:
        """Graph loss of one teacher; zero where no sequence has a valid position on both sides."""
        ours = self._standardized(student.first(min(student.k, term.topk.k)))
        theirs = self._standardized(term.topk)
        if group is not None:
            ours, theirs = graphs.shared(ours, group), graphs.shared(theirs, group)
        count = int(graphs.taking_part(ours, theirs).sum())
        if count == 0:
            return ours.values.new_zeros(())
        total = count if totals is None else totals.sequences[name]
        return graphs.graph_loss(ours, theirs, str(self.graph), self.channels, "sum") / total

    def _standardized(self, topk: TopKLogits) -> TopKLogits:
        wanted = (self.standardize, self.temperature)
        if (topk.standardize, topk.temperature) == ("none", 1.0) != wanted:
            return topk.standardized(*wanted)
        if (topk.standardize, topk.temperature) != wanted:
            raise ValueError(
                f"logits must be raw or {self.standardize!r} at temperature {self.temperature:g}, but are "
                f"{topk.standardize!r} at {topk.temperature:g}: give top_k and FusionLoss the same settings."
            )
        return topk


def _given(value: Tensor | None, part: str, name: str) -> Tensor:
    if value is None:
        raise ValueError(
            f"teacher {name!r} must have {part} for this alignment, but has none: add it to its TeacherTerm."
        )
    return value


def _mean(values: Tensor, mask: Tensor, total: float | None, group: Any) -> Tensor:
    """Sum over the total or, by default, the valid positions; ranks of a group share those equally."""
    if values.ndim == 0:
        return values
    count = mask.sum() if total is None else torch.tensor(total, device=values.device)
    if group is not None and total is None:
        dist.all_reduce(count, group=group)
        count = count / dist.get_world_size(group)
    return values.sum() / count.to(values.dtype).clamp(min=torch.finfo(values.dtype).tiny)
