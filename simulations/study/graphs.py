"""Graph losses in place of the published one, each with what it sees and what it moves.

Each takes the student's logits, all V of every row, and a teacher's term, and returns
the loss (B,) of every example and which examples have one: a ``graph`` of
:class:`fusion.FusionLoss`. Numbers of theorems are those of gwtools/THEORY.md.

Losses of probabilities (`ByteGraph`, `PositionGraph`, `Questions`, `Fused`) do not
depend on a constant added to a row of logits: their gradients sum to zero over it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from transformers import PreTrainedTokenizerBase as Tokenizer

from fusion import TeacherTerm, TopKLogits, graph_loss
from fusion.losses.graphs import taking_part
from simulations.study.next_bytes import (
    NextBytes,
    Symbols,
    at_pairs,
    compare,
    hybrid,
    mean_of_pairs,
    symbols,
)

Loss = Callable[[TopKLogits, TeacherTerm], tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class ByteGraph:
    """Vocabulary channels through byte strings: ‖C − D‖_F² with C = HᵀH / P.

    H (P, S + 1) holds the next-byte probabilities at the P aligned pairs: nodes are
    bytes, and an edge says how probable both are at the same positions. Which node is
    which is known, so nothing is sorted and no coupling sought. With n = S + 1 nodes of
    weight 1/n the identity is a coupling, of objective Σ (C − D)² / n² (theorem 8 a):

        n² L_norm ≤ n² L_spec ≤ n² GW_2² ≤ ‖C − D‖_F²          (theorems 3 and 4).

    It sees which bytes are expected, how often and together with which others. The
    gradient with respect to H is 4 H (C − D) / P: a row moves along bytes that are
    joined to its own. C is the same for QH with any orthogonal Q, as for rows in
    another order, so it cannot move what is said to where it belongs.
    """

    symbols: Symbols

    def __call__(self, student: TopKLogits, term: TeacherTerm) -> tuple[Tensor, Tensor]:
        """‖C − D‖_F², in squared probabilities."""
        compared = compare(self.symbols, student, term)
        H, G = compared.profiles()
        pairs = compared.mask.sum(dim=1)
        P = pairs.clamp(min=1)[:, None, None]
        difference = (H.mT @ H - G.mT @ G) / P
        return difference.square().sum(dim=(1, 2)), pairs > 0


@dataclass(frozen=True, eq=False)
class PositionGraph:
    """Positions as nodes: ‖C − D‖_F² / P² with C = HHᵀ, H as of `ByteGraph`.

    Aligned positions are known to correspond, through the bytes of the text. With
    weights 1/P the value is the objective of the identity, so

        L_norm ≤ L_spec ≤ GW_2² ≤ Σ (C − D)² / P²        (theorems 3, 4 and 8 a).

    It sees how sure each position is, C_pp = |h_p|², and which positions expect the
    same. The gradient with respect to H is 4 (C − D) H / P²: a row moves towards rows
    to which it should be nearer. C is the same for HQ with any orthogonal Q, as for
    bytes exchanged for others everywhere, so it cannot say which byte is right.
    """

    symbols: Symbols

    def __call__(self, student: TopKLogits, term: TeacherTerm) -> tuple[Tensor, Tensor]:
        """‖C − D‖_F² / P², in squared probabilities."""
        compared = compare(self.symbols, student, term)
        H, G = compared.profiles()
        pairs = compared.mask.sum(dim=1)
        P = pairs.clamp(min=1)
        difference = H @ H.mT - G @ G.mT
        return difference.square().sum(dim=(1, 2)) / P**2, pairs > 0


@dataclass(frozen=True)
class Windows:
    """The published loss on windows of consecutive aligned pairs, mean over windows.

    Raw logits, rank channels; the last window of an example may be shorter. Of each
    window it is :func:`fusion.graph_loss` of kind "row_means", k times a lower bound of
    GW_1 (theorem 1). The narrower the windows, the less can be averaged away.

    Width 1 is ULD of rows that are scaled by their own means. A single row h has the
    graph hhᵀ, whose row means are h m(h) with m(h) = Σ_r h_r / k. For positive m(h)
    and m(g) both are in descending order, and the loss is Σ_r |m(h) h_r − m(g) g_r|: m
    times ULD where both means are m. Where one mean is negative its order is reversed.
    Other than ULD it is not moved alike by a shift: h + c has (m + c)(h_r + c).
    """

    width: int

    def __call__(self, student: TopKLogits, term: TeacherTerm) -> tuple[Tensor, Tensor]:
        """Mean over windows, in squared logits."""
        k = term.topk.k
        ours, theirs = at_pairs(student.first(k), term)
        # Pairs first, in their order: windows then hold consecutive ones.
        order = (~ours.mask).long().argsort(dim=1, stable=True)
        mask = self._cut(ours.mask.gather(1, order))  # (B, windows, width)
        order = order[:, :, None].expand(-1, -1, k)
        h = self._cut(ours.values.gather(1, order))  # (B, windows, width, k)
        g = self._cut(theirs.values.gather(1, order))
        values = row_means_apart(row_means(h, mask), row_means(g, mask))
        return mean_of_pairs(values, mask.any(dim=2))

    def _cut(self, rows: Tensor) -> Tensor:
        """Cut rows (B, P, …) into windows (B, windows, width, …), padded with zeros."""
        B, P, *rest = rows.shape
        missing = -P % self.width
        zeros = rows.new_zeros(B, missing, *rest)
        return torch.cat([rows, zeros], dim=1).reshape(B, -1, self.width, *rest)


def row_means(rows: Tensor, mask: Tensor) -> Tensor:
    """Row means (…, k) of the graphs HᵀH / T of rows (…, T, k), of which T are valid.

    They are Hᵀ(H1) / (k T): no graph is formed.
    """
    rows = torch.where(mask[..., None], rows, 0.0)
    k = rows.shape[-1]
    T = mask.sum(dim=-1, keepdim=True).clamp(min=1)
    masses = rows.sum(dim=-1, keepdim=True)
    return (rows * masses).sum(dim=-2) / (k * T)


def row_means_apart(f: Tensor, g: Tensor) -> Tensor:
    """Σ_r |f↓(r) − g↓(r)| over the last axis: k W_1, the published graph loss."""
    f = f.sort(dim=-1).values
    g = g.sort(dim=-1).values
    return (f - g).abs().sum(dim=-1)


@dataclass(frozen=True)
class WithoutShift:
    """Rank graphs of rows without their means, compared by spectra (theorem 4).

    The mean of a row's k kept logits is taken off it; no probability among the k
    depends on it. The published loss on raw logits moves little else: where all row
    means f of the student are above the teacher's, or all below, it is ±Σ_r f(r) =
    ±Σ_t (Σ_r h_tr)² / (k T) and a constant, whose gradient is the same number for all k
    logits of a row. Only ranks of unlike signs move them against each other.

    The gradient with respect to the k logits of a row sums to zero here. Centred rows
    have H1 = 0, so all row means C1 vanish, and with them the published loss
    (theorem 2: C = R); the kind "spectral" compares what is left, Σ_r (λ_r − μ_r)² ≤
    GW_2², L_norm ≤ L_spec. Spectra are the same for QHU with orthogonal Q and U: it
    sees how many patterns of logits there are and how strong, neither where nor which.
    """

    def __call__(self, student: TopKLogits, term: TeacherTerm) -> tuple[Tensor, Tensor]:
        """The bound of GW_2² by spectra, in the fourth power of logits."""
        ours = _centred(student.first(term.topk.k))
        theirs = _centred(term.topk)
        values = graph_loss(ours, theirs, kind="spectral", reduction="none")
        return values, taking_part(ours, theirs)


def _centred(side: TopKLogits) -> TopKLogits:
    """Take off each row the mean of its kept logits; masked rows stay zero."""
    values = side.values - side.values.mean(dim=2, keepdim=True)
    return replace(side, values=values)


@dataclass(frozen=True, eq=False)
class Questions:
    """A graph between the questions of a batch: one minus linear CKA of Gram matrices.

    An example's feature is the mean of its next-byte probabilities over its pairs, less
    the mean of the batch; K (n, n) are the products of the n features, of Frobenius
    norm 1. The loss 1 − ⟨K_s, K_t⟩ = ‖K_s − K_t‖_F² / 2 lies in [0, 1] and is split by
    rows: example b has n ‖(K_s − K_t)_b‖² / 2, of which the mean over examples is the
    loss. With weights 1/n, 2/n² times it is the objective of the identity, an upper
    bound of GW_2² (theorem 8 a).

    It sees which questions have answers alike, what no other loss does. Rotations,
    shifts and a scale of the features of either side leave it as it is, so it says of
    no single question what its answer is. It needs many questions: two always have
    K = [[½, −½], [−½, ½]], and the loss is zero. Losses of Gram matrices and their
    Procrustes relatives: arXiv 2509.25253, where CKA is said not to fix the features'
    geometry.
    """

    symbols: Symbols

    def __call__(self, student: TopKLogits, term: TeacherTerm) -> tuple[Tensor, Tensor]:
        """Each example's share, times the number of examples that have one."""
        compared = compare(self.symbols, student, term)
        present = compared.mask.any(dim=1)
        P = compared.mask.sum(dim=1).clamp(min=1)[:, None]
        H, G = compared.profiles()
        K_s = kernel(H.sum(dim=1) / P, present)
        K_t = kernel(G.sum(dim=1) / P, present)
        # A teacher to whom all questions are alike says nothing of how they differ.
        present = present & bool(K_t.any())
        n = present.sum()
        values = (K_s - K_t).square().sum(dim=1) * n / 2
        return values, present


def kernel(features: Tensor, present: Tensor) -> Tensor:
    """Products of features (B, d) less their mean, of norm 1; zero where all agree."""
    weight = present.to(features.dtype)[:, None]
    features = weight * features
    mean = features.sum(dim=0) / weight.sum().clamp(min=1)
    centred = features - weight * mean
    K = centred @ centred.T
    square = K.square().sum()
    # Features that agree differ by rounding, which must not be scaled up.
    rounding = torch.finfo(K.dtype).eps * features.square().sum()
    varies = square > rounding**2
    K = torch.where(varies, K, 0.0)
    # The root of 1 keeps NaN from the gradient.
    norm = torch.where(varies, square, 1.0).sqrt()
    return K / norm


@dataclass(frozen=True)
class Constant:
    """A control: the published loss with one and the same graph for all examples.

    Raw logits, rank channels, whole sequences. Each row of the teacher is replaced by
    `row`, whose graph is row rowᵀ: what the loss does is no information on any example.
    By default the row is that of the uniform distribution, whose logits are all zero:
    what is left, Σ_r |f(r)| of the student's row means f, shrinks logits. The mean row
    of a teacher makes a control of the published loss's size.
    """

    row: tuple[float, ...] | None = None  # k logits, those of ranks 1 to k

    def __call__(self, student: TopKLogits, term: TeacherTerm) -> tuple[Tensor, Tensor]:
        """k W_1 between row means, in squared logits."""
        k = term.topk.k
        ours = student.first(k)
        row = ours.values.new_tensor(self.row or (0.0,) * k)
        f = row_means(ours.values, ours.mask)
        g = (row * row.mean()).expand_as(f)
        present = taking_part(ours, term.topk)
        return torch.where(present, row_means_apart(f, g), 0.0), present


@dataclass(frozen=True, eq=False)
class Fused:
    """Fused Gromov-Wasserstein of rank graphs whose nodes know their bytes.

    (1 − α) ⟨M, π⟩ + α F(π) at a coupling π of the k ranks: F is the objective between
    the graphs C = HᵀH / T of the k largest probabilities, and M_rs = |φ_r − ψ_s|²
    compares what ranks stand for, with φ_r the probability of rank r by symbol, mean
    over positions. Positions need not be aligned.

    π is the matching that minimises the linearisation at the identity, found outside
    the gradient graph. Both graphs are Gram matrices, so along a step Δ the objective
    has the curvature −2 Tr(CΔDΔᵀ) ≤ 0 (theorem 8 b): the whole step never raises it.
    Any coupling's value is at least the minimum (theorem 8 a), and so is this one; were
    π the minimiser, the gradient with π held would be that of the minimum (envelope
    theorem; conditional gradient would go on from here). For α = 1 it is blind to
    bytes as the published loss is; for α = 0 it compares how probable each byte is on
    average.
    """

    symbols: Symbols
    alpha: float = 0.5

    def __call__(self, student: TopKLogits, term: TeacherTerm) -> tuple[Tensor, Tensor]:
        """The fused objective, in squared probabilities."""
        ours = student.first(term.topk.k).standardized("softmax")
        theirs = term.topk.standardized("softmax")
        C, features = self._graph(ours, self.symbols.student)
        D, profiles = self._graph(theirs, self.symbols.teacher)
        M = features[:, :, None] - profiles[:, None, :]
        M = M.square().sum(dim=3)  # (B, k, k)
        matching = self._steepest(M.detach(), C.detach(), D.detach())
        values = self._objective(M, C, D, matching)
        present = taking_part(ours, theirs)
        return torch.where(present, values, 0.0), present

    def _graph(self, side: TopKLogits, of_token: Tensor) -> tuple[Tensor, Tensor]:
        """Graph (B, k, k) of ranks, and their probabilities (B, k, S + 1) by symbol."""
        H = side.values  # (B, T, k), zero at masked positions
        T = side.mask.sum(dim=1).clamp(min=1)[:, None, None]
        groups = of_token[side.ids].mT  # (B, k, T)
        sums = H.new_zeros(side.batch, side.k, self.symbols.count + 1)
        return H.mT @ H / T, sums.scatter_add(2, groups, H.mT) / T

    def _objective(self, M: Tensor, C: Tensor, D: Tensor, matching: Tensor) -> Tensor:
        """The fused objective (B,) of matchings (B, k) of ranks of weight 1/k."""
        k = matching.shape[1]
        rows = matching[:, :, None]
        linear = M.gather(2, rows)[:, :, 0].mean(dim=1)
        D = D.gather(1, rows.expand(-1, -1, k))
        D = D.gather(2, matching[:, None, :].expand(-1, k, -1))
        quadratic = (C - D).square().mean(dim=(1, 2))
        return (1 - self.alpha) * linear + self.alpha * quadratic

    def _steepest(self, M: Tensor, C: Tensor, D: Tensor) -> Tensor:
        """The matchings (B, k) that minimise the linearisation at the identity.

        Its costs are (1 − α) M + 2 α L with L_ij = Σ_r (C_ir − D_jr)² / k.
        """
        k = C.shape[1]
        squares = C.square().mean(dim=2)[:, :, None] + D.square().mean(dim=2)[:, None]
        L = squares - 2 * C @ D.mT / k
        costs = (1 - self.alpha) * M + 2 * self.alpha * L
        found = [linear_sum_assignment(cost)[1] for cost in costs.numpy()]
        return torch.from_numpy(np.array(found))


def losses(student: Tokenizer, teacher: Tokenizer) -> dict[str, Loss]:
    """Every loss of this module and of `next_bytes`, for a pair of tokenizers."""
    shared = symbols(student, teacher)
    return {
        "next_bytes": NextBytes(shared),
        "hybrid": hybrid(student, teacher),
        "byte_graph": ByteGraph(shared),
        "position_graph": PositionGraph(shared),
        "windows_1": Windows(1),
        "windows_4": Windows(4),
        "without_shift": WithoutShift(),
        "questions": Questions(shared),
        "constant": Constant(),
        "fused": Fused(shared),
    }
