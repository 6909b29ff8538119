"""Couplings between two spaces: a sparse list of atoms or a dense matrix, behind one interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast, final

import array_api_compat as compat
import numpy as np
import scipy.sparse

from gwtools import _array, _check
from gwtools._array import Array, NumpyArray

_SMALL = 64**2  # entries of matrices that are multiplied whole


@dataclass(frozen=True, eq=False)
class Plan(ABC):
    """A coupling π of shape (n, m): mass that atoms of x send to atoms of y."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Numbers of atoms (n, m)."""

    @abstractmethod
    def dense(self) -> Array:
        """Return the (n, m) matrix of masses."""

    @abstractmethod
    def sparse(self) -> scipy.sparse.coo_array:
        """Return the non-zero masses as a ``scipy.sparse.coo_array`` of shape (n, m), on the CPU."""

    @abstractmethod
    def marginals(self) -> tuple[Array, Array]:
        """Return the row sums (n,) and the column sums (m,)."""

    @abstractmethod
    def inner(self, matrix: Array) -> Array:
        """Return Σ π_ij matrix_ij for a matrix of shape (n, m)."""

    @abstractmethod
    def apply(self, values: Array) -> Array:
        """Return π @ values for values of shape (m, k)."""

    @property
    @abstractmethod
    def masses(self) -> Array:
        """All stored masses, in any order."""


@final
@dataclass(frozen=True, eq=False)
class DensePlan(Plan):
    """A coupling stored as its full matrix.

    Parameters
    ----------
    matrix : array of shape (n, m)
        Masses, non-negative.
    """

    matrix: Array

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of atoms (n, m)."""
        n, m = self.matrix.shape
        return n, m

    @property
    def masses(self) -> Array:
        """The matrix itself."""
        return self.matrix

    def dense(self) -> Array:
        """Return the (n, m) matrix of masses."""
        return self.matrix

    def sparse(self) -> scipy.sparse.coo_array:
        """Return the non-zero masses as a ``scipy.sparse.coo_array`` of shape (n, m), on the CPU."""
        return scipy.sparse.coo_array(_array.to_numpy(self.matrix))

    def marginals(self) -> tuple[Array, Array]:
        """Return the row sums (n,) and the column sums (m,)."""
        return self._marginals

    @cached_property
    def _marginals(self) -> tuple[Array, Array]:
        xp = _array.namespace(self.matrix)
        return xp.sum(self.matrix, axis=1), xp.sum(self.matrix, axis=0)

    def inner(self, matrix: Array) -> Array:
        """Return Σ π_ij matrix_ij for a matrix of shape (n, m)."""
        xp = _array.namespace(matrix)
        return xp.sum(xp.vecdot(self.matrix, matrix))  # row by row, which rounds less than one long sum

    def apply(self, values: Array) -> Array:
        """Return π @ values for values of shape (m, k)."""
        return self.matrix @ values


@final
@dataclass(frozen=True, eq=False)
class SparsePlan(Plan):
    """A coupling stored as a list of atoms: what sorts and linear programs return, mostly with at most n + m − 1 of them.

    Parameters
    ----------
    rows, cols : integer arrays of shape (k,)
        Positions of the atoms; a position may repeat.
    mass : array of shape (k,)
        Masses, non-negative.
    size : (int, int)
        Numbers of atoms (n, m) of the two spaces.
    """

    rows: Array
    cols: Array
    mass: Array
    size: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of atoms (n, m)."""
        return self.size

    @property
    def masses(self) -> Array:
        """The stored masses (k,)."""
        return self.mass

    @cached_property
    def _csr(self) -> scipy.sparse.csr_array:
        return scipy.sparse.csr_array((self.mass, (self.rows, self.cols)), shape=self.size)

    def dense(self) -> Array:
        """Return the (n, m) matrix of masses."""
        n, m = self.size
        flat = _array.scatter_sum(self.rows * m + self.cols, self.mass, n * m)
        return _array.namespace(self.mass).reshape(flat, (n, m))

    def sparse(self) -> scipy.sparse.coo_array:
        """Return the non-zero masses as a ``scipy.sparse.coo_array`` of shape (n, m), on the CPU."""
        rows, cols, mass = map(_array.to_numpy, (self.rows, self.cols, self.mass))
        plan = scipy.sparse.coo_array((mass, (rows, cols)), shape=self.size)
        plan.sum_duplicates()
        plan.eliminate_zeros()
        return plan

    def marginals(self) -> tuple[Array, Array]:
        """Return the row sums (n,) and the column sums (m,)."""
        return self._marginals

    @cached_property
    def _marginals(self) -> tuple[Array, Array]:
        n, m = self.size
        return _array.scatter_sum(self.rows, self.mass, n), _array.scatter_sum(self.cols, self.mass, m)

    def inner(self, matrix: Array) -> Array:
        """Return Σ π_ij matrix_ij for a matrix of shape (n, m)."""
        xp = _array.namespace(matrix)
        flat = xp.take(xp.reshape(matrix, (-1,)), self.rows * self.size[1] + self.cols)
        return xp.vecdot(self.mass, flat)

    def apply(self, values: Array) -> Array:
        """Return π @ values for values of shape (m, k)."""
        # SciPy's sparse products take a while to start.
        if compat.is_numpy_array(values) and self.size[0] * self.size[1] > _SMALL:
            return self._csr @ values
        return self.dense() @ values

    def rows_apart(self, other: SparsePlan) -> Array | None:
        """Return the atoms of x that two plans treat differently, or None where looking for them is not worth it."""
        if not compat.is_numpy_array(self.mass) or self.size[0] * self.size[1] <= _SMALL:
            return None
        return np.unique((self._csr - other._csr).nonzero()[0])

    def apply_rows(self, rows: Array, values: Array) -> Array:
        """Return the given rows of π @ values, for NumPy values of shape (m, k)."""
        return self._csr[rows] @ values


def as_plan(plan: Any, shape: tuple[int, int]) -> Plan:
    """Return a plan as it is and a dense matrix as a plan, after checking shape, finiteness and sign.

    Raises
    ------
    TypeError
        If ``plan`` is neither a plan nor a floating-point array.
    ValueError
        If its shape is not ``shape`` or a mass is negative, NaN or infinite.
    """
    result: Plan = plan if isinstance(plan, Plan) else DensePlan(_check.array(plan, "plan", 2))
    _check.coupling_shape(result.shape, shape)
    _check.finite(result.masses, "plan")
    _check.non_negative(result.masses, "plan")
    return result


def mixture(plans: Sequence[Plan], weights: Sequence[Any]) -> Plan:
    """Return the coupling Σ w_k V_k, sparse where all are and the library has sparse sums.

    Parameters
    ----------
    plans : sequence of Plan
        Couplings V_k of one shape (n, m).
    weights : sequence of numbers
        Their weights w_k, non-negative and of sum 1.
    """
    if compat.is_numpy_array(plans[0].masses) and all(isinstance(plan, SparsePlan) for plan in plans):
        sparse = cast(Sequence[SparsePlan], plans)
        rows, cols = (np.concatenate([getattr(plan, axis) for plan in sparse]) for axis in ("rows", "cols"))
        mass = np.concatenate([weight * plan.mass for weight, plan in zip(weights, sparse, strict=True)])
        total = scipy.sparse.csr_array((mass, (rows, cols)), shape=plans[0].shape).tocoo()
        rows, cols = (index.astype(np.int64) for index in total.coords)
        return SparsePlan(rows, cols, total.data, plans[0].shape)
    return DensePlan(sum(weight * plan.dense() for plan, weight in zip(plans, weights, strict=True)))


def inner_products(plans: Sequence[Plan], matrix: Array) -> NumpyArray:
    """Return the inner products of plans (n, m) with one matrix (n, m), in float64 on the CPU, shape (K,)."""
    sparse = [plan for plan in plans if isinstance(plan, SparsePlan)]
    if len(sparse) < len(plans) or not compat.is_numpy_array(matrix):
        return np.array([float(plan.inner(matrix)) for plan in plans])
    places = np.concatenate([plan.rows * plan.size[1] + plan.cols for plan in sparse])
    terms = np.concatenate([plan.mass for plan in sparse]) * matrix.ravel()[places]
    starts = np.cumsum([0, *(plan.mass.shape[0] for plan in sparse[:-1])])
    return np.add.reduceat(terms, starts).astype(np.float64, copy=False)


def detached_plan(plan: Plan) -> Plan:
    """Return the plan outside any gradient graph."""
    if isinstance(plan, SparsePlan):
        return plan if not _array.tracked(plan.mass) else replace(plan, mass=_array.detached(plan.mass))
    return DensePlan(_array.detached(plan.dense()))


def marginal_error(plan: Plan, a: Array, b: Array) -> float:
    """Return Σ |π 1 − a| + Σ |πᵀ 1 − b|, the mass that is out of place."""
    xp = _array.namespace(a)
    return sum(
        _array.number(xp.sum(xp.abs(found - wanted))) for found, wanted in zip(plan.marginals(), (a, b), strict=True)
    )


def relative_entropy(plan: Plan, a: Array, b: Array) -> float:
    """Return KL(π | a ⊗ b) = Σ π_ij log(π_ij / a_i b_j) of a coupling; atoms without weight count nothing."""
    matrix = _array.detached(plan.dense())
    xp, tiny = _array.namespace(matrix), _array.namespace(matrix).finfo(matrix.dtype).smallest_normal
    # The product of two small weights may have no number, so logarithms are taken one by one.
    mass, rows, cols = (
        xp.log(xp.clip(values, min=tiny)) for values in (matrix, _array.detached(a), _array.detached(b))
    )
    return float(xp.sum(xp.vecdot(matrix, mass - rows[:, None] - cols[None, :])))


def embed(plan: Plan, rows: Array, cols: Array, shape: tuple[int, int]) -> Plan:
    """Place a coupling of the atoms ``rows`` × ``cols`` into a larger coupling that gives all other atoms no mass."""
    if isinstance(plan, SparsePlan):
        xp = _array.namespace(plan.mass)
        return SparsePlan(xp.take(rows, plan.rows), xp.take(cols, plan.cols), plan.mass, shape)
    matrix = plan.dense()
    xp = _array.namespace(matrix)
    for axis, index, size in ((0, rows, shape[0]), (1, cols, shape[1])):
        found = xp.searchsorted(index, xp.arange(size, device=_array.device(index)))
        found = xp.clip(found, max=index.shape[0] - 1)
        present = xp.take(index, found) == xp.arange(size, device=_array.device(index))
        matrix = xp.take(matrix, found, axis=axis)
        mask = present[:, None] if axis == 0 else present[None, :]
        matrix = xp.where(mask, matrix, xp.zeros_like(matrix))
    return DensePlan(matrix)
