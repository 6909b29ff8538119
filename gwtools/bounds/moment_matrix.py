"""Multipliers of theorem 16, found by alternating directions (ADMM).

The semidefinite relaxation: min ⟨c, Y⟩ over arrays Y_ijkl ≥ 0 of sum 1 in place of
π_ij π_kl, with the marginals of a product and positive semidefinite as matrices of rows
(i, j) and columns (k, l). In coordinates y_ijkl = Y_ijkl / √(a_i b_j a_k b_l) the last
two mean y = K r Kᵀ with r positive semidefinite, where the columns of K are an
orthonormal basis of V, the span of all π_ij / √(a_i b_j) over couplings π.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from gwtools import _array
from gwtools._array import Array, NumpyArray
from gwtools.bounds import level_one
from gwtools.bounds.level_one import in_single_precision
from gwtools.bounds.nested_programs import (
    Multipliers,
    NestedProgram,
    in_range,
    solve,
)
from gwtools.history import now
from gwtools.transport.local_distributions import Centred

# Relative to the norm of the costs: what a unit of y is worth.
_PENALTY = 0.1
_RELAXATION = 1.8
_BALANCED = 50  # steps between two changes of the penalty,
_UNBALANCED = 2.0  # where one residual is more than so many times the other,
_CHANGE = 1.5  # by this factor
_FIRST_STEPS = 100  # of theorem 15's search: together they cost less than three here
_CHECKPOINT = 100  # steps between two values
_LEAST_GAIN = 1e-5  # of the best value, after ...
_PATIENCE = 3  # ... so many checkpoints
_ROUNDS = 30  # of Newton's iteration for the mass, at most
_MASS_ERROR = 1e-5
LARGEST = 2.0**450  # of multipliers: squares stay within the range of floats


def completed(root: NumpyArray) -> NumpyArray:
    """Complete a vector of norm 1 to an orthonormal basis, (n, n), up to float error.

    The vector is the first column as it is.
    """
    n = len(root)
    # Its largest entry takes the place of that unit vector: the others are surely
    # independent of it.
    place = int(np.argmax(root))
    others = np.delete(np.eye(n), place, axis=1)
    start = np.column_stack([root, others])
    basis = np.linalg.qr(start)[0]
    basis[:, 0] = root
    return np.ascontiguousarray(basis)


@dataclass(frozen=True, eq=False)
class Basis:
    """K, an orthonormal basis of V: the vector q, and all products e_s ⊗ f_t.

    The columns e_s of E and f_t of F are orthonormal bases of the vectors orthogonal to
    √a and to √b.
    """

    q: Array  # √(a_i b_j), (n, m)
    E: Array  # (n, n − 1)
    F: Array  # (m, m − 1)

    @property
    def size(self) -> int:
        """The dimension of V."""
        return int(self.E.shape[1] * self.F.shape[1]) + 1

    def coordinates(self, y: Array) -> Array:
        """Return Kᵀ y K of a symmetric y (n, m, n, m), shape (size, size)."""
        n, m = self.q.shape
        xp = _array.namespace(y)
        # 1. y K, split into y q and the y (e_s ⊗ f_t): shapes (n, m, …).
        q = xp.reshape(self.q, (n * m, 1))
        with_q = xp.reshape(xp.reshape(y, (n * m, n * m)) @ q, (n, m, 1))
        others = xp.matrix_transpose(self.E) @ y @ self.F
        others = xp.reshape(others, (n, m, self.size - 1))
        # 2. (e_s ⊗ f_t)ᵀ of both, and qᵀ of the first.
        inner = self._products_with(others)
        border = self._products_with(with_q)  # (size − 1, 1)
        corner = xp.matrix_transpose(q) @ xp.reshape(with_q, (n * m, 1))
        top = xp.concat([corner, xp.matrix_transpose(border)], axis=1)
        bottom = xp.concat([border, inner], axis=1)
        r = xp.concat([top, bottom], axis=0)
        return (r + xp.matrix_transpose(r)) / 2

    def _products_with(self, columns: Array) -> Array:
        """Return all Σ_ij e_is f_jt columns_ijk, shape (size − 1, k)."""
        n, m, k = columns.shape
        xp = _array.namespace(columns)
        flat = xp.reshape(columns, (n, m * k))
        of_x = xp.reshape(xp.matrix_transpose(self.E) @ flat, (n - 1, m, k))
        of_both = xp.matrix_transpose(self.F) @ of_x
        return xp.reshape(of_both, (self.size - 1, k))

    def expanded(self, r: Array) -> Array:
        """Return K r Kᵀ, shape (n, m, n, m), of a symmetric r (size, size)."""
        n, m = self.q.shape
        xp = _array.namespace(r)
        # 1. r Kᵀ, shape (size, n, m).
        inner = xp.reshape(r[:, 1:], (self.size, n - 1, m - 1))
        rows = self.E @ inner @ xp.matrix_transpose(self.F)
        rows = rows + r[:, 0, None, None] * self.q
        # 2. K times that.
        flat = xp.reshape(rows[1:, ...], (n - 1, (m - 1) * n * m))
        of_x = xp.reshape(self.E @ flat, (n, m - 1, n * m))
        of_both = xp.reshape(self.F @ of_x, (n, m, n, m))
        return of_both + self.q[:, :, None, None] * rows[0, ...]

    def single(self, like: Array | None) -> Basis:
        """Return the basis in single precision, on the device of an array."""
        q, E, F = (
            in_single_precision(array, like) for array in (self.q, self.E, self.F)
        )
        return Basis(q, E, F)


def basis_of(a: NumpyArray, b: NumpyArray) -> Basis:
    """Return the basis K of V for weights a and b."""
    root_a = np.sqrt(a)
    root_b = np.sqrt(b)
    E = completed(root_a)[:, 1:]
    F = completed(root_b)[:, 1:]
    return Basis(np.outer(root_a, root_b), E, F)


class Search:
    """The iterates: y ≥ 0 of mass 1, and the multipliers of y = K r Kᵀ.

    Parameters
    ----------
    x, y : Centred
        The spaces, of at least two atoms each.
    like : array, optional
        An array on the device where to iterate, in operations of its library; by
        default the CPU, in NumPy.
    """

    def __init__(self, x: Centred, y: Centred, like: Array | None = None) -> None:
        self.x = x
        self.y = y
        self._exact_basis = basis_of(x.weights, y.weights)
        self._basis = self._exact_basis.single(like)
        # 1. Costs in V ⊗ V, with the same Σ c π π up to a constant. Over the penalty
        #    they are near 1, whatever the units of C.
        root_a = np.sqrt(x.weights)
        root_b = np.sqrt(y.weights)
        q = np.outer(root_a, root_b)
        M = root_a[:, None] * x.residual * root_a
        N = root_b[:, None] * y.residual * root_b
        deviations = np.outer(root_a * x.deviations, root_b * y.deviations)
        costs = M[:, None, :, None] * N[:, None]
        costs += deviations[:, :, None, None] * q
        costs += q[:, :, None, None] * deviations
        costs *= -2
        size = float(np.linalg.norm(costs))
        self.penalty = _PENALTY * size if size > 0 else 1.0  # in squared units of C
        self._costs = in_single_precision(costs / self.penalty, like)
        # 2. The product coupling, y = q ⊗ q.
        q = self._basis.q
        self._mass = q[:, :, None, None] * q
        self._y = self._mass
        self._dual = 0 * self._mass  # over the penalty
        self._level = 0.0  # the multiplier of the mass, over the penalty
        self._steps = 0

    def start_from(self, search: level_one.Search) -> None:
        """Start from the iterate of a search for the multipliers of theorem 15."""
        xp = _array.namespace(self._y)
        w = search.iterate()
        zero = xp.zeros_like(w)
        self._y = xp.where(w > 0, w, zero)
        # Costs are the dual, reduced costs and a multiple of q ⊗ q, the mass.
        reduced = xp.where(w < 0, -w, zero) * (search.penalty / self.penalty)
        dual = _symmetric(self._costs - reduced)
        self._dual = dual - float(xp.sum(dual * self._mass)) * self._mass

    def step(self) -> None:
        """Take one step of ADMM, in its scaled form with over-relaxation."""
        # 1. The nearest K r Kᵀ that is positive semidefinite.
        r = self._basis.coordinates(self._y - self._dual)
        moments = self._basis.expanded(positive_part(r))
        # 2. Over-relaxed; the nearest array ≥ 0 of mass 1, less the costs.
        before = self._y
        relaxed = _RELAXATION * moments + (1 - _RELAXATION) * before
        wanted = relaxed + self._dual - self._costs
        self._level, self._y = on_simplex(wanted, self._mass, self._level)
        # 3. The multipliers.
        self._dual = self._dual + relaxed - self._y
        self._steps += 1
        if self._steps % _BALANCED == 0:
            self._dual = _symmetric(self._dual)  # rounding errors would add up
            apart = _norm(moments - self._y)  # the primal residual
            moved = _norm(self._y - before)  # the dual one, over the penalty
            self._balance(apart, moved)

    def _balance(self, apart: float, moved: float) -> None:
        """Change the penalty where one residual is much larger than the other."""
        if apart > _UNBALANCED * moved:
            factor = _CHANGE
        elif moved > _UNBALANCED * apart:
            factor = 1 / _CHANGE
        else:
            return
        self.penalty *= factor
        self._costs = self._costs / factor
        self._dual = self._dual / factor
        self._level = self._level / factor

    def multipliers(self) -> Multipliers:
        """Return the multipliers of the dual at the current iterate."""
        basis = self._exact_basis
        n, m = basis.q.shape
        # 1. In double precision, the nearest Ξ that is positive semidefinite on V. What
        #    it is off V costs nothing: no coupling sees it.
        dual = _array.to_numpy(self._dual).astype(np.float64)
        xi = self.penalty * _symmetric(dual)
        r = basis.coordinates(xi)
        xi = xi + basis.expanded(positive_part(r) - r)
        # 2. Tiny weights may take it out of the range: it proves nothing then.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            tensor = xi / basis.q[:, :, None, None] / basis.q
        # 3. In the inner program of i and j, S_jl² and β_l² are potentials.
        potentials = self.y.residual**2 + self.y.deviations**2
        return Multipliers(
            first=np.zeros((m, n, m)),
            second=np.zeros((n, n, m)),
            potentials=np.broadcast_to(potentials, (n, m, m)),
            tensor=tensor,
        )


def _symmetric(y: Array) -> Array:
    """Return the mean of y_ijkl and y_klij."""
    xp = _array.namespace(y)
    return (y + xp.permute_dims(y, (2, 3, 0, 1))) / 2


def _norm(y: Array) -> float:
    xp = _array.namespace(y)
    return math.sqrt(float(xp.sum(y**2)))


def positive_part(r: Array) -> Array:
    """Return the positive semidefinite matrix that is nearest to a symmetric one."""
    xp = _array.namespace(r)
    if isinstance(r, np.ndarray):
        # In single precision half the time of NumPy, which calls the same routine.
        values, vectors = scipy.linalg.eigh(r, driver="evd", check_finite=False)
    else:
        values, vectors = xp.linalg.eigh(r)
    negative = int(xp.count_nonzero(values < 0))
    # By the fewer ones of its eigenvectors.
    if 2 * negative > r.shape[0]:
        part = vectors[:, negative:]
        return (part * values[negative:]) @ xp.matrix_transpose(part)
    part = vectors[:, :negative]
    return r - (part * values[:negative]) @ xp.matrix_transpose(part)


def on_simplex(wanted: Array, mass: Array, level: float) -> tuple[float, Array]:
    """Return t and y = max(wanted − t mass, 0), with t such that Σ mass · y = 1.

    This is the nearest y ≥ 0 of mass 1. Newton's iteration from a given t: the sum is
    convex in t and falls.
    """
    xp = _array.namespace(wanted)
    zero = xp.zeros_like(wanted)
    for _ in range(_ROUNDS):
        shifted = wanted - level * mass
        inside = xp.where(shifted > 0, mass, zero)
        slope = float(xp.sum(inside * mass))
        if slope == 0:
            # Nothing is left: as if nothing were cut off, which is below the root.
            slope = float(xp.sum(mass * mass))
            inside = mass
        excess = float(xp.sum(inside * shifted)) - 1
        level += excess / slope
        if abs(excess) <= _MASS_ERROR:
            break
    shifted = wanted - level * mass
    return level, xp.where(shifted > 0, shifted, zero)


def best_multipliers(
    x: Centred,
    y: Centred,
    omega: float,
    iterations: int,
    deadline: float = math.inf,
    enough: float = math.inf,
    like: Array | None = None,
    least_gain: float = _LEAST_GAIN,
    patience: int = _PATIENCE,
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
        What share of the value must be gained for the search to go on,
    patience : int
        within so many checkpoints.
    """
    # The residual third bound: of one atom against others it is the objective.
    best = level_one.residual_third_multipliers(x, y)
    best_value = solve(NestedProgram(x, y, omega, best)).lower
    if min(len(x.weights), len(y.weights)) == 1:
        return best
    record = best_value  # when it last rose by more than the least gain
    waited = 0
    try:
        first = level_one.Search(x, y, like)
        for _ in range(min(iterations, _FIRST_STEPS)):
            if now() > deadline:
                break
            first.step()
        candidates = [first.multipliers()]
        search = Search(x, y, like)
        search.start_from(first)
        for done in range(1, iterations + 1):
            search.step()
            late = now() > deadline
            if not late and done % _CHECKPOINT and done < iterations:
                continue
            candidates.append(search.multipliers())
            for multipliers in candidates:
                value, multipliers = _solved(x, y, omega, multipliers)
                if value > best_value:
                    best, best_value = multipliers, value
            candidates = []
            waited += 1
            if best_value > record + least_gain * abs(record):
                record = best_value
                waited = 0
            if late or waited == patience or best_value >= enough:
                break
    except (KeyboardInterrupt, np.linalg.LinAlgError):
        # What was found so far proves a bound as well as any other multipliers.
        pass
    return best


def _solved(
    x: Centred,
    y: Centred,
    omega: float,
    multipliers: Multipliers,
) -> tuple[float, Multipliers]:
    """Return the value of multipliers, and these with the potentials behind it."""
    if not in_range(multipliers, LARGEST):
        return -math.inf, multipliers
    nested = solve(NestedProgram(x, y, omega, multipliers))
    return nested.lower, multipliers._replace(potentials=nested.potentials)
