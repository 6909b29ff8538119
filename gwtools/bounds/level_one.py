"""Multipliers of theorem 15, found by Douglas-Rachford splitting.

The level-one reformulation of Adams and Johnson: min ⟨c, Y⟩ over arrays Y_ijkl ≥ 0 in
place of π_ij π_kl, symmetric in both pairs and with the marginals of a product, is a
linear program; its dual is the bound. In coordinates y_ijkl = Y_ijkl / √(a_i b_j a_k
b_l) its constraints are orthogonal: y ≥ 0, and y in V ⊗ V with ⟨q ⊗ q, y⟩ = 1, where
q_ij = √(a_i b_j) and V is the span of all π_ij / q_ij over couplings π.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gwtools import _array
from gwtools._array import Array, NumpyArray
from gwtools._compiled import compilation
from gwtools._compiled.level_one import douglas_rachford_step
from gwtools.bounds.nested_programs import (
    Multipliers,
    NestedBound,
    NestedProgram,
    in_range,
    solve,
)
from gwtools.history import now
from gwtools.transport.local_distributions import Centred

# Relative to ‖R‖‖S‖: what a unit of y is worth. Between 0.1 and 0.4 the values after
# 200 steps differ by less than one per cent of the best objective.
_PENALTY = 0.2
_RELAXATION = 1.8
# The first value is taken after so many steps, and the next ones after half as many
# again as were done, at least as many as at first: a value costs as much as some steps.
_CHECKPOINT = 50
LEAST_GAIN = 1e-5  # of a value, from one checkpoint to the next
_BLOCK = 2**18  # numbers that an array operation takes at once on a CPU,
_BLOCK_ON_DEVICE = 64 * _BLOCK  # and elsewhere, where starting one costs more


class Search:
    """The iterates of the splitting.

    Parameters
    ----------
    x, y : Centred
        The spaces.
    like : array, optional
        An array on the device where to iterate, in operations of its library. By
        default that is the CPU: compiled where the extra ``fast`` is installed, else in
        operations of NumPy.
    """

    def __init__(self, x: Centred, y: Centred, like: Array | None = None) -> None:
        root_a = np.sqrt(x.weights)
        root_b = np.sqrt(y.weights)
        M = root_a[:, None] * x.residual * root_a
        N = root_b[:, None] * y.residual * root_b
        deviations = np.outer(root_a * x.deviations, root_b * y.deviations)
        self.x = x
        self.y = y
        # 1. The penalty ν, in squared units of C. Costs over ν are near 1, whatever the
        #    units of C, and so are both factors of their products R_ik S_jl.
        norm_M = float(np.linalg.norm(M))
        norm_N = float(np.linalg.norm(N))
        norms = norm_M * norm_N
        size = max(norms, float(np.linalg.norm(deviations)))
        penalty = _PENALTY * size
        self.penalty = penalty if penalty > 0 else 1.0
        factor = -2 * norms / self.penalty
        scaled_M = factor * (M / norm_M if norm_M > 0 else M)
        scaled_N = N / norm_N if norm_N > 0 else N
        scaled_deviations = 2 * deviations / self.penalty
        product = np.outer(root_a, root_b)
        # 2. The arrays in single precision, on the device.
        self._compiled = like is None and compilation.available()
        self._root_a = in_single_precision(root_a, like)
        self._root_b = in_single_precision(root_b, like)
        arrays = (scaled_M, scaled_N, scaled_deviations, product)
        self._costs: Any = tuple(in_single_precision(array, like) for array in arrays)
        # 3. The iterate starts at the product coupling, y = q ⊗ q, whose sums over a
        #    marginal follow from Σ a_i = Σ b_j = 1.
        q = self._costs[3]
        self._sums = (
            self._root_b[:, None, None] * q,  # Σ_i √a_i |w|, (m, n, m)
            self._root_a[:, None, None] * q,  # Σ_j √b_j |w|, (n, n, m)
        )
        n, m = product.shape
        if self._compiled:
            # w is symmetric: [j, l] of w_ijkl for all i ≤ k.
            i, k = np.triu_indices(n)
            self._w = [q[i, :, None] * q[k, None, :]]
            return
        #    Blocks of rows i.
        most = _BLOCK if like is None else _BLOCK_ON_DEVICE
        rows = max(1, min(n, most // (m * n * m)))
        self._blocks = [(start, min(start + rows, n)) for start in range(0, n, rows)]
        self._w = []
        for start, stop in self._blocks:
            q_ij = q[start:stop, :]
            self._w.append(q_ij[:, :, None, None] * q)

    def _sums_of_sizes(self) -> tuple[Array, Array]:
        """Return Σ_i √a_i |w|, (m, n, m), and Σ_j √b_j |w|, (n, n, m)."""
        xp = _array.namespace(self._root_a)
        first = None
        second = []
        for (start, stop), w in zip(self._blocks, self._w, strict=True):
            size = xp.abs(w)
            part = xp.tensordot(self._root_a[start:stop], size, axes=([0], [0]))
            first = part if first is None else first + part
            of_rows = xp.tensordot(size, self._root_b, axes=([1], [0]))
            second.append(of_rows)
        return first, xp.concat(second, axis=0)

    def step(self) -> None:
        """Take one step: w ← w + ρ (P(2 w₊ − w − c / ν) − w₊).

        P is the projection onto the y in V ⊗ V of mass ⟨q ⊗ q, y⟩ = 1, ν the penalty,
        ρ the relaxation, and 2 w₊ − w = |w|. What P removes of |w| is √a_i g¹_jkl +
        √b_j g²_ikl and the same with both pairs exchanged.
        """
        first, second, mass = self._corrections()
        missing_mass = 1 - mass
        xp = _array.namespace(first)
        first_inner = xp.permute_dims(first, (1, 2, 0))  # [i, j, l] of g¹_lij
        second_inner = xp.permute_dims(second, (1, 2, 0))  # [i, j, k] of g²_kij
        corrections = (first, second, first_inner, second_inner)
        if self._compiled:
            self._compiled_step(corrections, missing_mass)
            return
        for place, rows in enumerate(self._blocks):
            w = self._w[place]
            self._w[place] = self._new_block(w, rows, corrections, missing_mass)
        self._sums = self._sums_of_sizes()

    def _compiled_step(
        self,
        corrections: tuple[NumpyArray, ...],
        missing_mass: float,
    ) -> None:
        """Take the step in one pass over w_ijkl with i ≤ k."""
        first, *others = corrections
        by_k = np.transpose(first, (1, 0, 2))  # [k, j, l] of g¹_jkl
        contiguous: Any = tuple(np.ascontiguousarray(g) for g in (by_k, *others))
        precision = self._root_a.dtype.type
        numbers = (precision(missing_mass), precision(_RELAXATION))
        of_pairs = np.empty_like(contiguous[0])  # (n, m, m)
        mirrored = np.empty_like(contiguous[0])
        second = np.empty_like(contiguous[1])  # (n, n, m)
        douglas_rachford_step(
            self._w[0],
            (self._root_a, self._root_b),
            self._costs,
            contiguous,
            numbers,
            (of_pairs, mirrored, second),
        )
        # Both parts of Σ_i √a_i |w_ijkl| as arrays [j, k, l].
        direct = np.transpose(of_pairs, (1, 0, 2))
        exchanged = np.transpose(mirrored, (2, 0, 1))
        self._sums = (direct + exchanged, second)

    def _new_block(
        self,
        w: Array,
        rows: tuple[int, int],
        corrections: tuple[Array, ...],
        missing_mass: float,
    ) -> Array:
        """Return the next iterate of a block of rows i, shape (rows, m, n, m)."""
        start, stop = rows
        M, N, deviations, q = self._costs
        first, second, first_inner, second_inner = corrections
        a_i = self._root_a[start:stop, None, None, None]
        b_j = self._root_b[None, :, None, None]
        a_k = self._root_a[None, None, :, None]
        b_l = self._root_b
        q_ij = q[start:stop, :]  # (rows, m)
        deviations_ij = deviations[start:stop, :]
        of_q = deviations_ij + missing_mass * q_ij
        xp = _array.namespace(w)
        # 1. |w|, less what is outside of V ⊗ V ...
        projected = xp.abs(w)
        projected = projected - a_i * first[None, ...]
        projected = projected - b_j * second[start:stop, None, :, :]
        projected = projected - a_k * first_inner[start:stop, :, None, :]
        projected = projected - second_inner[start:stop, :, :, None] * b_l
        # 2. ... and less the costs, which are in V ⊗ V; of mass 1.
        M_ik = M[start:stop, :][:, None, :, None]
        projected = projected - M_ik * N[None, :, None, :]
        projected = projected + of_q[:, :, None, None] * q
        projected = projected + q_ij[:, :, None, None] * deviations
        # 3. The relaxed step.
        y = xp.where(w > 0, w, xp.zeros_like(w))
        return w + _RELAXATION * (projected - y)

    def _corrections(self) -> tuple[Array, Array, float]:
        """Return g¹_jkl (m, n, m), g²_ikl (n, n, m) and ⟨q ⊗ q, |w|⟩."""
        sum_first, sum_second = self._sums
        root_a = self._root_a
        root_b = self._root_b
        xp = _array.namespace(root_a)
        # 1. Off V in the pair (i, j), √a_i e¹_jkl + √b_j e²_ikl.
        both = xp.tensordot(root_b, sum_first, axes=([0], [0]))  # (n, m)
        first = sum_first - root_b[:, None, None] * both
        second = sum_second - root_a[:, None, None] * both
        # 2. Half of the part that is off V in both pairs belongs to either.
        first = first - _off_space(first, root_a, root_b) / 2
        second = second - _off_space(second, root_a, root_b) / 2
        mass = float(xp.sum(both * self._costs[3]))
        return first, second, mass

    def iterate(self) -> Array:
        """Return w, shape (n, m, n, m): y and, where negative, −(reduced costs) / ν."""
        if not self._compiled:
            return _array.joined(self._w)
        n = len(self.x.weights)
        m = len(self.y.weights)
        i, k = np.triu_indices(n)
        w = np.empty((n, m, n, m), self._w[0].dtype)
        w[k, :, i, :] = np.transpose(self._w[0], (0, 2, 1))
        w[i, :, k, :] = self._w[0]
        return w

    def multipliers(self) -> Multipliers:
        """Return the multipliers of the dual at the current iterate."""
        first, second, _ = self._corrections()
        first = _array.to_numpy(first).astype(np.float64)
        second = _array.to_numpy(second).astype(np.float64)
        root_a = np.sqrt(self.x.weights)
        root_b = np.sqrt(self.y.weights)
        product = np.outer(root_a, root_b)  # (n, m)
        S = self.y.residual
        beta = self.y.deviations
        # Reduced costs of y are c + ν (√a_i g¹_jkl + …). Over √(a_i b_j a_k b_l), tiny
        # weights may take them out of the range: the bound is none then.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            of_pairs = -self.penalty / product
            G1 = first * of_pairs / root_b[:, None, None]
            G2 = second * of_pairs / root_a[:, None, None]
            inner = np.transpose(first, (1, 2, 0)) * of_pairs[:, :, None] / root_b
        # In the inner program of i and j, S_jl² and β_l² are potentials too.
        return Multipliers(G1, G2, inner + S**2 + beta**2)


def in_single_precision(array: NumpyArray, like: Array | None) -> Array:
    """Return an array in float32, in the library and on the device of ``like``.

    By default in NumPy.
    """
    narrow = np.ascontiguousarray(array, dtype=np.float32)
    if like is None:
        return narrow
    xp = _array.namespace(like)
    return xp.asarray(narrow, device=_array.device(like))


def _off_space(values: Array, root_a: Array, root_b: Array) -> Array:
    """Return the part of (…, n, m) that is off V, in the last two axes."""
    xp = _array.namespace(values)
    last = values.ndim - 1
    # Where NumPy's matmul reads past the end of a row, it warns of what it finds there.
    of_rows = xp.tensordot(values, root_b, axes=([last], [0]))  # (…, n)
    of_cols = xp.sum(values * root_a[:, None], axis=-2)  # (…, m)
    of_both = xp.tensordot(of_rows, root_a, axes=([last - 1], [0]))  # (…,)
    off = root_a[:, None] * of_cols[..., None, :] + of_rows[..., None] * root_b
    return off - 2 * of_both[..., None, None] * root_a[:, None] * root_b


def residual_third_multipliers(x: Centred, y: Centred) -> Multipliers:
    """Return the multipliers with which theorem 15 is the residual third bound."""
    n = len(x.weights)
    m = len(y.weights)
    # All of 2 (α_i − β_j)² in the outer program: G¹ takes it off the inner ones.
    h = (x.deviations[:, None] - y.deviations) ** 2
    first = np.broadcast_to(h, (m, n, m))
    inner = np.broadcast_to(y.residual**2, (n, m, m))
    return Multipliers(first, np.zeros((n, n, m)), inner)


def best_multipliers(
    x: Centred,
    y: Centred,
    omega: float,
    iterations: int,
    deadline: float = math.inf,
    enough: float = math.inf,
    like: Array | None = None,
    least_gain: float = LEAST_GAIN,
) -> Multipliers:
    """Search for multipliers, and return the best of all checkpoints.

    Parameters
    ----------
    x, y : Centred
        The spaces.
    omega : float
        ω of the weights.
    iterations : int
        Most steps.
    deadline : float
        When to stop, by the clock of :func:`gwtools.history.now`.
    enough : float
        A value of the bound, without (m_C − m_D)², that is enough.
    like : array, optional
        An array on the device where to iterate; by default the CPU.
    least_gain : float
        What share of the value must be gained for the search to go on.
    """
    search = Search(x, y, like)
    best = residual_third_multipliers(x, y)
    best_value = -math.inf
    checkpoint = min(_CHECKPOINT, iterations)
    try:
        for done in range(1, iterations + 1):
            search.step()
            late = now() > deadline
            if not late and done < checkpoint:
                continue
            checkpoint = min(max(done + _CHECKPOINT, done + done // 2), iterations)
            # Their own potentials tell nearly as much as exact inner programs.
            multipliers = search.multipliers()
            if not in_range(multipliers):
                break
            value = bound_of(x, y, omega, multipliers, refine=False).lower
            gain = value - best_value
            if gain > 0:
                best = multipliers
                best_value = value
            small = gain < least_gain * abs(value)
            if late or small or value >= enough:
                break
    except KeyboardInterrupt:
        # What was found so far proves a bound as well as any other multipliers.
        pass
    return best


def bound_of(
    x: Centred,
    y: Centred,
    omega: float,
    multipliers: Multipliers,
    refine: bool = True,
    deadline: float = math.inf,
) -> NestedBound:
    """Return the value of theorem 15 for multipliers, without (m_C − m_D)²."""
    return solve(NestedProgram(x, y, omega, multipliers), refine, deadline)
