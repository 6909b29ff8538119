"""Plans: couplings as dense matrices or sparse lists of atoms, and the rounding of matrices onto given marginals."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar, cast, final

import array_api_compat as compat
import numpy as np
import scipy.sparse

from gwtools import _array, _check, _check_plans, _check_spaces
from gwtools._array import Array, NumpyArray

_SMALL = 64**2  # entries of matrices that are multiplied whole
P = TypeVar("P", bound="Plan")


@dataclass(frozen=True, eq=False)
class Plan(ABC):
    """A coupling π of shape (n, m): mass that atoms of x send to atoms of y. ``numpy.asarray(plan)`` is its matrix.

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> y = gw.DenseSpace(1 - np.eye(3), weights=np.array([0.5, 0.25, 0.25]))
    >>> plan = gw.solve(1 - np.eye(2), y).plan
    >>> isinstance(plan, gw.Plan), plan.shape
    (True, (2, 3))
    >>> rows, columns = plan.marginals()
    >>> rows.round(4), columns.round(4)
    (array([0.5, 0.5]), array([0.5 , 0.25, 0.25]))
    """

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

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NumpyArray:
        """Return the (n, m) matrix of masses as a NumPy array, on the CPU and outside any gradient graph."""
        return np.array(_array.to_numpy(self.dense()), dtype=dtype, copy=copy)


@final
@dataclass(frozen=True, eq=False)
class DensePlan(Plan):
    """A coupling stored as its full matrix.

    Parameters
    ----------
    matrix : array of shape (n, m)
        Masses, non-negative: what takes a plan tests that, and that its marginals are
        the weights.

    Raises
    ------
    TypeError
        If the matrix is no array of floating-point numbers.
    ValueError
        If it is empty or has not two axes.

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> plan = gw.DensePlan(np.eye(2) / 2)
    >>> plan.shape
    (2, 2)
    >>> np.asarray(plan)
    array([[0.5, 0. ],
           [0. , 0.5]])
    """

    matrix: Array

    def __post_init__(self) -> None:
        object.__setattr__(self, "matrix", _check.floating(self.matrix, "matrix", 2))

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
        """Return Σ π_ij matrix_ij for a matrix of shape (n, m), or the sums of two stacks of matrices."""
        xp = _array.namespace(matrix)
        return xp.sum(
            xp.vecdot(self.matrix, matrix), axis=-1
        )  # row by row, with less float error than one long sum

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

    Raises
    ------
    TypeError
        If an argument is no array of one library, positions are no integers or masses
        no floating-point numbers.
    ValueError
        If the arrays differ in length, or a position is outside the matrix.

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> plan = gw.SparsePlan(
    ...     np.array([0, 1]), np.array([2, 0]), np.array([0.5, 0.5]), (2, 3)
    ... )
    >>> np.asarray(plan)
    array([[0. , 0. , 0.5],
           [0.5, 0. , 0. ]])
    """

    rows: Array
    cols: Array
    mass: Array
    size: tuple[int, int]

    def __post_init__(self) -> None:
        _check_plans.atoms_of_plan(self.rows, self.cols, self.mass, self.size)
        object.__setattr__(self, "mass", _array.native(self.mass))

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
        return scipy.sparse.csr_array(
            (self.mass, (self.rows, self.cols)), shape=self.size
        )

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
        return _array.scatter_sum(self.rows, self.mass, n), _array.scatter_sum(
            self.cols, self.mass, m
        )

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

    def differing_rows(self, other: SparsePlan) -> Array | None:
        """Return the rows in which two plans differ, or None where comparing them takes longer than a product."""
        if (
            not compat.is_numpy_array(self.mass)
            or self.size[0] * self.size[1] <= _SMALL
        ):
            return None
        return np.unique((self._csr - other._csr).nonzero()[0])

    def apply_rows(self, rows: Array, values: Array) -> Array:
        """Return the given rows of π @ values, for NumPy values of shape (m, k)."""
        return self._csr[rows] @ values


def make_unchecked(kind: type[P], **values: Any) -> P:
    """Make a plan of computed values, without checking them."""
    plan = object.__new__(kind)
    for name, value in values.items():
        object.__setattr__(plan, name, value)
    return plan


def changed(plan: SparsePlan, **values: Any) -> SparsePlan:
    """Copy a sparse plan with other, computed values, without checking them."""
    fields = {name: getattr(plan, name) for name in ("rows", "cols", "mass", "size")}
    return make_unchecked(SparsePlan, **(fields | values))


def as_plan(plan: Any, shape: tuple[int, int], name: str = "plan") -> Plan:
    """Return a plan as it is and a dense matrix as a plan, after checking shape, finiteness and sign.

    Errors call it ``name``.

    Raises
    ------
    TypeError
        If ``plan`` is neither a plan nor a floating-point array.
    ValueError
        If its shape is not ``shape`` or a mass is negative, NaN or infinite.
    """
    result: Plan = (
        plan
        if isinstance(plan, Plan)
        else make_unchecked(DensePlan, matrix=_check.array(plan, name, 2))
    )
    _check_plans.coupling_shape(result.shape, shape, name)
    _check.finite(result.masses, name)
    _check_plans.non_negative(result.masses, name)
    return result


def round_plan(matrix: Any, a: Array, b: Array) -> Plan:
    """Round a matrix of masses onto given marginals (Altschuler, Weed and Rigollet 2017, algorithm 2).

    A coupling near the matrix, for plans of other libraries and of iterations that were
    stopped early, whose marginals are off.

    Parameters
    ----------
    matrix : Plan or array of shape (n, m)
        Finite, non-negative masses of any total; rows and columns may be empty.
    a, b : arrays of shape (n,) and (m,)
        Weights of the array library, dtype and device of the matrix, each of sum 1;
        None for uniform ones.

    Returns
    -------
    Plan
        A coupling π′ with the marginals a and b up to float error and Σ |π′ − π| ≤ 2
        (‖π1 − a‖₁ + ‖πᵀ1 − b‖₁); the given plan itself where its marginals are right
        already. Of the library, dtype and device of the matrix. O(n m).

    Raises
    ------
    TypeError
        If the matrix is neither a plan nor an array of floating-point numbers, or the
        weights differ from it in library, dtype or device.
    ValueError
        If the shapes do not match, a mass is negative, NaN or infinite, or the weights
        are no probabilities.

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> a, b = np.array([0.5, 0.5]), np.array([0.25, 0.75])
    >>> plan = gw.round_plan(np.array([[0.2, 0.3], [0.0, 0.49]]), a, b)
    >>> np.asarray(plan).round(4)
    array([[0.2152, 0.2848],
           [0.0348, 0.4652]])
    """
    if not isinstance(matrix, Plan):
        matrix = _check.array(matrix, "matrix", 2)
    n, m = matrix.shape
    masses = matrix.masses if isinstance(matrix, Plan) else matrix
    a, b = (
        _check_spaces.weights(w, masses, size, name)
        for w, size, name in ((a, n, "a"), (b, m, "b"))
    )
    plan = as_plan(matrix, (n, m), "matrix")
    with np.errstate(over="ignore"):  # sums beyond the range are too large anyhow
        if has_marginals(plan, a, b):
            return plan
        coupling = rounded_matrix(
            *(_array.at_least_single(values) for values in (plan.dense(), a, b))
        )
    return make_unchecked(
        DensePlan,
        matrix=_array.namespace(masses).astype(coupling, masses.dtype, copy=False),
    )


def has_marginals(plan: Plan, a: Array, b: Array) -> bool:
    """Tell whether a plan has the marginals a and b up to float error."""
    return marginal_error(plan, a, b) <= max(4 * _array.epsilon(a), 1e-13)


def rounded_matrix(matrix: Array, a: Array, b: Array) -> Array:
    """Round a non-negative matrix, or a stack, onto the marginals a and b (Altschuler, Weed and Rigollet 2017, alg. 2)."""
    xp = _array.namespace(matrix)
    tiny = xp.finfo(matrix.dtype).smallest_normal
    # 1-2. Scale down the rows, then the columns, that carry too much mass.
    matrix = (
        matrix
        * xp.clip(a / xp.clip(xp.sum(matrix, axis=-1), min=tiny), max=1.0)[..., :, None]
    )
    matrix = (
        matrix
        * xp.clip(b / xp.clip(xp.sum(matrix, axis=-2), min=tiny), max=1.0)[..., None, :]
    )
    # 3. Spread the missing mass as a product.
    rows, cols = (
        xp.clip(a - xp.sum(matrix, axis=-1), min=0.0),
        xp.clip(b - xp.sum(matrix, axis=-2), min=0.0),
    )
    missing = xp.clip((xp.sum(rows, axis=-1) + xp.sum(cols, axis=-1)) / 2, min=tiny)
    return matrix + rows[..., :, None] * (cols / missing[..., None])[..., None, :]


def rounded_plan(matrix: Array, a: Array, b: Array) -> DensePlan:
    """Round a non-negative matrix onto the marginals a and b, as a plan."""
    return make_unchecked(DensePlan, matrix=rounded_matrix(matrix, a, b))


def mixture(plans: Sequence[Plan], weights: Sequence[Any]) -> Plan:
    """Return the coupling Σ w_k V_k, sparse where all are and the library has sparse sums.

    Parameters
    ----------
    plans : sequence of Plan
        Couplings V_k of one shape (n, m).
    weights : sequence of numbers
        Their weights w_k, non-negative and of sum 1.
    """
    if compat.is_numpy_array(plans[0].masses) and all(
        isinstance(plan, SparsePlan) for plan in plans
    ):
        sparse = cast(Sequence[SparsePlan], plans)
        rows, cols = (
            np.concatenate([getattr(plan, axis) for plan in sparse])
            for axis in ("rows", "cols")
        )
        mass = np.concatenate(
            [weight * plan.mass for weight, plan in zip(weights, sparse, strict=True)]
        )
        total = scipy.sparse.csr_array(
            (mass, (rows, cols)), shape=plans[0].shape
        ).tocoo()
        rows, cols = (index.astype(np.int64) for index in total.coords)
        return make_unchecked(
            SparsePlan, rows=rows, cols=cols, mass=total.data, size=plans[0].shape
        )
    total = sum(
        weight * plan.dense() for plan, weight in zip(plans, weights, strict=True)
    )
    return make_unchecked(DensePlan, matrix=total)


def inner_products(plans: Sequence[Plan], matrix: Array) -> NumpyArray:
    """Return the inner products of plans (n, m) with one matrix (n, m), in float64 on the CPU, shape (K,)."""
    sparse = [plan for plan in plans if isinstance(plan, SparsePlan)]
    if len(sparse) < len(plans) or not compat.is_numpy_array(matrix):
        return np.array([float(plan.inner(matrix)) for plan in plans])
    positions = np.concatenate(
        [plan.rows * plan.size[1] + plan.cols for plan in sparse]
    )
    terms = np.concatenate([plan.mass for plan in sparse]) * matrix.ravel()[positions]
    starts = np.cumsum([0, *(plan.mass.shape[0] for plan in sparse[:-1])])
    return np.add.reduceat(terms, starts).astype(np.float64, copy=False)


def detached_plan(plan: Plan) -> Plan:
    """Return the plan outside any gradient graph."""
    if isinstance(plan, SparsePlan):
        return (
            plan
            if not _array.tracked(plan.mass)
            else changed(plan, mass=_array.detached(plan.mass))
        )
    return make_unchecked(DensePlan, matrix=_array.detached(plan.dense()))


def marginal_error(plan: Plan, a: Array, b: Array) -> float:
    """Return Σ |π 1 − a| + Σ |πᵀ 1 − b|, the mass that is out of place."""
    xp = _array.namespace(a)
    return sum(
        _array.number(xp.sum(xp.abs(sums - weights)))
        for sums, weights in zip(plan.marginals(), (a, b), strict=True)
    )


def relative_entropy(plan: Plan, a: Array, b: Array) -> float:
    """Return KL(π | a ⊗ b) = Σ π_ij log(π_ij / a_i b_j) of a coupling; atoms without weight count nothing."""
    matrix = _array.detached(plan.dense())
    xp, tiny = (
        _array.namespace(matrix),
        _array.namespace(matrix).finfo(matrix.dtype).smallest_normal,
    )
    # The product of two small weights may have no number, so logarithms are taken one
    # by one.
    mass, rows, cols = (
        xp.log(xp.clip(values, min=tiny))
        for values in (matrix, _array.detached(a), _array.detached(b))
    )
    return float(xp.sum(xp.vecdot(matrix, mass - rows[:, None] - cols[None, :])))


def embed(plan: Plan, rows: Array, cols: Array, shape: tuple[int, int]) -> Plan:
    """Place a coupling of the atoms ``rows`` × ``cols`` into a larger coupling that gives all other atoms no mass."""
    if isinstance(plan, SparsePlan):
        xp = _array.namespace(plan.mass)
        return changed(
            plan,
            rows=xp.take(rows, plan.rows),
            cols=xp.take(cols, plan.cols),
            size=shape,
        )
    matrix = plan.dense()
    xp = _array.namespace(matrix)
    for axis, index, size in ((0, rows, shape[0]), (1, cols, shape[1])):
        source = xp.searchsorted(index, xp.arange(size, device=_array.device(index)))
        source = xp.clip(source, max=index.shape[0] - 1)
        present = xp.take(index, source) == xp.arange(size, device=_array.device(index))
        matrix = xp.take(matrix, source, axis=axis)
        mask = present[:, None] if axis == 0 else present[None, :]
        matrix = xp.where(mask, matrix, xp.zeros_like(matrix))
    return make_unchecked(DensePlan, matrix=matrix)
