"""The training objective: the supervised loss, and what several teachers add to it.

A step, in any loop::

    # or fusion.chunked_head(hidden, weight, labels, k=10)
    out = fusion.read(logits, labels, k=10)
    loss = fusion.FusionLoss(weight=0.02)
    result = loss(
        out.topk,
        out.mean_nll,
        {"qwen": fusion.TeacherTerm(topk, student_index, teacher_index, pairs)},
    )
    result.total.backward()

With B examples in a batch, w, a, g and λ of :class:`FusionLoss` and the weights c of
each :class:`TeacherTerm`:

    total = (1 − w) · SFT + w · Σ_s λ_s · (a · A_s + g · G_s)

    SFT = Σ_b u_b / Σ_b n_b
    A_s, G_s = Σ_b c_sb · u_sb / Σ_b c_sb · n_sb

where u and n, all of shape (B,), are for each example

- in SFT, the sum of −log p over its labels, and their number;
- in A_s, the sum of ULD, KL or JSD over its aligned pairs, and their number; where
  pairs have weights, the weighted sum and the sum of the weights;
- in G_s, its graph loss, and 1; both 0 where it has none.

Weights. c_s, of shape (B,), is the weight of each example in the means of teacher s: 1
by default, and 0 leaves the example out. λ_s is the weight of teacher s among the
teachers: 1 over their number by default. A factor on all of c_s cancels; one on λ_s
does not.
``result.terms`` holds each mean as a 0-d tensor: "sft", "uld/qwen", "graph/qwen", …;
``sums`` and ``counts`` hold u and n.

Micro-batches and ranks. Where a step of the optimiser has several micro-batches, pass
``totals``, the denominators of the whole step: the losses of its micro-batches then add
up to that of the step. Data-parallel ranks average gradients as usual: for them,
``totals`` are the sums over all ranks, divided by the number of ranks. Ranks that share
sequences pass ``group``.

One mean over all teachers. A total that is one number, Σ_s Σ_b c_sb · n_sb, divides the
sums of every teacher. With λ_s = 1, Σ_s A_s is then the weighted mean over the pairs of
all teachers, in which c also weighs the teachers against each other.
:class:`FusionTrainer` does so: its weights of an example sum to 1 over the teachers
that have seen it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
import torch.distributed as dist
from torch import Tensor

from fusion import _check
from fusion.logits.topk import KINDS, TopKLogits
from fusion.losses import graphs
from fusion.losses.terms import FusionLossOutput, TeacherTerm, Total, Totals
from fusion.losses.tokens import jsd_loss, kl_loss, uld_loss

ALIGNMENTS = ("uld", "kl", "jsd")
# A loss of one's own in place of the graph's: from the student's raw logits and the
# teacher's term, the loss (B,) of each example, and which examples (B,) have one.
GraphLoss = Callable[[TopKLogits, TeacherTerm], tuple[Tensor, Tensor]]


@final
@dataclass(frozen=True)
class FusionLoss:
    """The supervised loss plus what several teachers s add.

    It is (1 − w) · SFT + w · Σ_s λ_s · (a · A_s + g · G_s), with A a loss at aligned
    positions and G a loss between graphs.

    Terms differ in scale by orders of magnitude: ULD is in logits, row-means graphs are
    in squared logits, the other kinds in their fourth power. Read ``terms`` and
    ``gradient_norms`` of the output before choosing weights.

    Parameters
    ----------
    weight : float
        The weight w of what the teachers add, between 0 and 1. ULD of raw logits or
        log-probabilities has several times the gradient of SFT: at the default it has
        about a tenth, the best of three shares in this project's study
        (``simulations/results/fusion_study/tuning.csv``).
    alignment : {"uld", "kl", "jsd"} or None
        The token-level loss A on aligned pairs; KL and JSD need the student's
        vocabulary.
    graph : {"row_means", "norm", "spectral", "gw"}, callable or None
        The graph loss G; see :func:`graph_loss`. None, the default, is without one: in
        the study of this project it lowers a student's accuracy
        (``simulations/results/fusion_study``). A callable is a loss of your own: it
        is given the student's logits as they are passed and the teacher's
        :class:`TeacherTerm`, neither standardised nor cut, and returns the loss (B,) of
        each example, 0 where it has none, and a mask (B,) of those that have one.
    channels : {"rank", "vocabulary"}
        Nodes of the graphs.
    alignment_weight : float
        The factor a of A, at least 0.
    graph_weight : float
        The factor g of G, at least 0.
    teacher_weights : mapping from teacher to float, optional
        The weights λ, used as given; 1 over the number of teachers in the call by
        default. Weights of single examples are those of :class:`TeacherTerm`.
    standardize : {"none", "center", "logprob", "softmax", "zscore"}
        What ULD and the graphs compare, as in :func:`top_k`; raw logits that are passed
        are standardised. KL and JSD compare log-probabilities, whatever it is.
    temperature : float
        Divides the logits before they are standardised, for every loss but SFT.
    beta : float
        Weight of the teacher in :func:`jsd_loss`.

    Raises
    ------
    ValueError
        If a setting is unknown or out of range.

    Examples
    --------
    Two positions with their labels, and a teacher whose two positions are aligned with
    them: (1 − w) · SFT + w · (ULD + GLD), as published.

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
    >>> loss = fusion.FusionLoss(weight=0.25, graph="row_means")
    >>> result = loss(
    ...     output.topk, output.nll, {"qwen": fusion.TeacherTerm(topk, pairs, pairs)}
    ... )
    >>> (
    ...     {name: round(term.item(), 2) for name, term in result.terms.items()},
    ...     round(result.total.item(), 2),
    ... )
    ({'sft': 0.29, 'uld/qwen': 1.75, 'graph/qwen': 7.56}, 2.54)
    """

    weight: float = 0.02  # w
    alignment: str | None = "uld"  # A
    graph: str | GraphLoss | None = None  # G
    channels: str = "rank"
    alignment_weight: float = 1.0  # a
    graph_weight: float = 1.0  # g
    teacher_weights: Mapping[str, float] | None = None  # λ
    standardize: str = "none"
    temperature: float = 1.0
    beta: float = 0.5

    def __post_init__(self) -> None:
        _check.number(self.weight, "weight", least=0, most=1)
        _check.choice(self.alignment, "alignment", (*ALIGNMENTS, None))
        if not callable(self.graph):
            _check.choice(self.graph, "graph", (*graphs.KINDS, None))
        _check.choice(self.standardize, "standardize", KINDS)
        for name in ("alignment_weight", "graph_weight"):
            _check.number(getattr(self, name), name, least=0)
        for name in ("temperature", "beta"):
            _check.number(getattr(self, name), name, above=0)
        _check.number(1 - self.beta, "1 − beta", above=0)
        kind = None if callable(self.graph) else self.graph
        graphs.check_channels(kind, self.channels)
        if self.teacher_weights is not None:
            for name, value in self.teacher_weights.items():
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

        Returns
        -------
        FusionLossOutput
            The loss, its terms, and the sums and counts u and n.

        Raises
        ------
        ValueError
            If a teacher has no weight, a term lacks what its loss needs, or sides do
            not fit each other.
        """
        # Before any work is done, since a weight that is missing is an error.
        shares = {}
        for name in teachers:
            shares[name] = self._share(name, len(teachers))

        # SFT = Σ_b u_b / Σ_b n_b, where it is not passed as a mean.
        terms = {"sft": nll}
        sums = {}
        counts = {}
        if nll.ndim > 0:
            u = nll.sum(dim=1)  # (B,), like every u and n
            n = student.mask.sum(dim=1)
            total = _denominator(totals, "tokens")
            sums["sft"] = u
            counts["sft"] = n
            terms["sft"] = _mean(u, n, None, total, group)

        zero = terms["sft"].new_zeros(())
        alignment = zero  # Σ_s λ_s A_s
        graph = zero  # Σ_s λ_s G_s
        for name, term in teachers.items():
            if self.alignment is not None:
                key = f"{self.alignment}/{name}"
                total = _denominator(totals, "pairs", name)
                u, n = self._alignment(student, name, term)
                sums[key] = u
                counts[key] = n
                terms[key] = _mean(u, n, term.weights, total, group)
                alignment = alignment + shares[name] * terms[key]
            if self.graph is not None:
                key = f"graph/{name}"
                total = _denominator(totals, "sequences", name)
                u, n = self._graph(student, term, group)
                sums[key] = u
                counts[key] = n
                # Rows were shared: u and n are those of whole sequences on every rank
                # already, and their mean needs no sum over the group.
                terms[key] = _mean(u, n, term.weights, total, None)
                graph = graph + shares[name] * terms[key]
        loss = self.combined(terms["sft"], alignment, graph)
        return FusionLossOutput(loss, terms, sums, counts)

    def combined(self, sft: Any, alignment: Any, graph: Any) -> Any:
        """Return (1 − w) · SFT + w · (a · Σ_s λ_s A_s + g · Σ_s λ_s G_s).

        Parameters
        ----------
        sft, alignment, graph : numbers or 0-d tensors
            SFT, Σ_s λ_s A_s and Σ_s λ_s G_s.

        Returns
        -------
        number or 0-d tensor
            The loss.
        """
        a = self.alignment_weight
        g = self.graph_weight
        w = self.weight
        added = a * alignment + g * graph
        return (1 - w) * sft + w * added

    def _share(self, name: str, count: int) -> float:
        """Return λ of a teacher among ``count``."""
        if self.teacher_weights is None:
            return 1 / count
        if name not in self.teacher_weights:
            raise ValueError(
                f"teacher_weights must name every teacher, but {name!r} is not among "
                f"{sorted(self.teacher_weights)}: "
                "add its weight, or leave teacher_weights out for equal ones."
            )
        return float(self.teacher_weights[name])

    def _alignment(
        self,
        student: TopKLogits,
        name: str,
        term: TeacherTerm,
    ) -> tuple[Tensor, Tensor]:
        """Sum the token-level loss to one teacher over the pairs of each example.

        Returns the sums u (B,) and the numbers n (B,) of valid pairs, or of their
        weights where they have some.
        """
        if self.alignment == "uld":
            values, mask = self._uld(student, name, term)
        else:
            values, mask = self._divergence(student, name, term)
        if term.pair_weights is None:
            return values.sum(dim=1), mask.sum(dim=1)
        weights = term.pair_weights.to(values.dtype) * mask
        return (weights * values).sum(dim=1), weights.sum(dim=1)

    def _uld(
        self,
        student: TopKLogits,
        name: str,
        term: TeacherTerm,
    ) -> tuple[Tensor, Tensor]:
        """ULD at each pair (B, P), and which of them are valid on both sides."""
        student_index, teacher_index, pairs = _aligned(term, name)
        ours, theirs = self._sides(student, term)
        ours = ours.select(student_index, pairs)
        theirs = theirs.select(teacher_index, pairs)
        values = uld_loss(ours, theirs, "none")
        return values, ours.mask & theirs.mask

    def _divergence(
        self,
        student: TopKLogits,
        name: str,
        term: TeacherTerm,
    ) -> tuple[Tensor, Tensor]:
        """KL or JSD at each pair (B, P), and which of them are valid on both sides."""
        student_index, teacher_index, pairs = _aligned(term, name)
        logprobs_at = _given(term.logprobs_at, "logprobs_at", name)
        teacher = term.topk.select(teacher_index, pairs)
        student_mask = student.mask.gather(1, student_index)
        mask = student_mask & teacher.mask
        # The student's log-probabilities are at the temperature already.
        if teacher.standardize == "none":
            temperature = self._temperature(term)
            teacher = teacher.standardized("logprob", temperature)
        if self.alignment == "kl":
            values = kl_loss(logprobs_at, teacher, mask, "none")
        else:
            values = jsd_loss(logprobs_at, teacher, mask, "none", self.beta)
        return values, mask

    def _graph(
        self,
        student: TopKLogits,
        term: TeacherTerm,
        group: Any,
    ) -> tuple[Tensor, Tensor]:
        """Compute the graph loss u (B,) to one teacher, and n (B,) of each example.

        n is 1 for examples with a valid position on both sides, else 0.
        """
        if callable(self.graph):
            return self._own_graph(student, term, group)
        ours, theirs = self._sides(student, term)
        if group is not None:
            ours = graphs.shared(ours, group)
            theirs = graphs.shared(theirs, group)
        kind = str(self.graph)
        values = graphs.graph_loss(ours, theirs, kind, self.channels, "none")
        present = graphs.taking_part(ours, theirs)
        return values, present.long()

    def _own_graph(
        self,
        student: TopKLogits,
        term: TeacherTerm,
        group: Any,
    ) -> tuple[Tensor, Tensor]:
        """Compute u (B,) and n (B,) by the caller's loss."""
        if group is not None:
            raise ValueError(
                "graph must be one of fusion's where ranks share sequences, "
                "but is a callable, which sees the positions of its own rank alone: "
                "leave group out."
            )
        loss: Any = self.graph
        values, present = loss(student, term)
        shapes = {tuple(values.shape), tuple(present.shape)}
        if shapes != {(student.batch,)}:
            raise ValueError(
                f"graph must return {student.batch} losses and a mask of as many, one "
                f"of each example, but their shapes are {tuple(values.shape)} and "
                f"{tuple(present.shape)}: return both without a reduction."
            )
        return values, present.long()

    def _sides(
        self,
        student: TopKLogits,
        term: TeacherTerm,
    ) -> tuple[TopKLogits, TopKLogits]:
        """Return student and teacher with as many ranks of the same quantity."""
        temperature = self._temperature(term)
        # A teacher with more ranks than the student is not cut: the losses refuse it.
        k = min(student.k, term.topk.k)
        ours = student.first(k)
        ours = ours.standardized(self.standardize, temperature)
        theirs = term.topk.standardized(self.standardize, temperature)
        return ours, theirs

    def _temperature(self, term: TeacherTerm) -> float:
        """Return the temperature of a teacher, and of the student beside it."""
        return self.temperature if term.temperature is None else term.temperature


def _aligned(
    term: TeacherTerm,
    name: str,  # of the teacher
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the positions (B, P) of student and teacher, and which are pairs."""
    student_index = _given(term.student_index, "student_index", name)
    teacher_index = _given(term.teacher_index, "teacher_index", name)
    pairs = term.pairs
    if pairs is None:
        pairs = torch.ones_like(student_index, dtype=torch.bool)
    return student_index, teacher_index, pairs


def _given(
    value: Tensor | None,
    part: str,
    name: str,  # of the teacher
) -> Tensor:
    """Require a part of a teacher's term that is optional for other losses."""
    if value is None:
        raise ValueError(
            f"teacher {name!r} must have {part} for this alignment, but has none: "
            "add it to its TeacherTerm."
        )
    return value


def _denominator(
    totals: Totals | None,
    part: str,
    teacher: str = "",
) -> Total | None:
    """Return the denominator that was passed for a mean, None where there is none."""
    if totals is None:
        return None
    total: Any = getattr(totals, part)
    # A mapping has a number for each teacher, else one number serves all of them.
    if isinstance(total, Mapping):
        total = total[teacher]
    denominator: Total = total
    return denominator


def _mean(
    u: Tensor,  # (B,)
    n: Tensor,  # (B,)
    c: Tensor | None,  # (B,), weights of the examples
    total: Total | None,
    group: Any,
) -> Tensor:
    """Return Σ_b c_b u_b over Σ_b c_b n_b, or over a given total; 0 where that is 0.

    With a group, the values of its ranks average to Σ c u / Σ c n over all ranks.
    """
    n = n.to(u.dtype)
    if c is not None:
        c = c.to(u.dtype)
        u = c * u
        n = c * n
    if total is None:
        total = n.sum()
        if group is not None:
            # The average over ranks of u / (Σ n / ranks) is Σ u / Σ n.
            dist.all_reduce(total, group=group)
            total = total / dist.get_world_size(group)
    divisor = torch.as_tensor(total, dtype=u.dtype, device=u.device)
    # Where nothing counts, all of u is zero, and so is 0 / tiny.
    tiny = torch.finfo(u.dtype).tiny
    divisor = divisor.clamp(min=tiny)
    return u.sum() / divisor
