"""Plans: couplings as dense matrices or sparse lists of atoms, and their mixtures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self, TypeGuard, TypeVar, final

import array_api_compat as compat
import numpy as np
import scipy.sparse

from gwtools import _array, _check, _check_plans
from gwtools._array import Array, NumpyArray

# Entries up to which a plan is multiplied as a matrix: sparse products start slowly.
_SMALL = 64**2
_COMPARED = 200**2  # entries from which comparing plans saves products
P = TypeVar("P", bound="Plan")


@dataclass(frozen=True, eq=False)
class Plan(ABC):
    """A coupling π of shape (n, m): the mass that each atom of x sends to each of y.

    ``numpy.asarray(plan)`` is its matrix.

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

    The plan from y to x is of the same kind:

    >>> back = plan.transpose()
    >>> back.shape, type(back) is type(plan)
    ((3, 2), True)
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
        """Return the non-zero masses as a ``scipy.sparse.coo_array``, on the CPU."""

    @abstractmethod
    def marginals(self) -> tuple[Array, Array]:
        """Return the row sums (n,) and the column sums (m,)."""

    @abstractmethod
    def transpose(self) -> Self:
        """Return the plan from y to x, of shape (m, n) and the same kind."""

    @abstractmethod
    def inner(self, matrix: Array) -> Array:
        """Return the inner product Σ π_ij matrix_ij.

        Parameters
        ----------
        matrix : array of shape (n, m)
            Of the plan's library and device.

        Returns
        -------
        array of shape ()
            In units of the matrix.
        """

    @abstractmethod
    def apply(self, values: Array) -> Array:
        """Return the product π @ values.

        Parameters
        ----------
        values : array of shape (m, k)
            Of the plan's library and device.

        Returns
        -------
        array of shape (n, k)
            In units of the values.
        """

    @property
    @abstractmethod
    def masses(self) -> Array:
        """All stored masses, in any order."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NumpyArray:
        """Return the (n, m) matrix of masses as a NumPy array, without gradients."""
        matrix = _array.to_numpy(self.dense())
        return np.array(matrix, dtype=dtype, copy=copy)


@final
@dataclass(frozen=True, eq=False)
class DensePlan(Plan):
    """A coupling stored as its full matrix.

    Parameters
    ----------
    matrix : array of shape (n, m)
        Masses, non-negative; functions that take a plan check that, and that its
        marginals are the weights.

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

    matrix: Array  # (n, m)

    def __post_init__(self) -> None:
        # Signs and marginals are checked where the plan is used.
        matrix = _check.floating(self.matrix, "matrix", 2)
        object.__setattr__(self, "matrix", matrix)

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
        """Return the non-zero masses as a ``scipy.sparse.coo_array``, on the CPU."""
        matrix = _array.to_numpy(self.matrix)
        return scipy.sparse.coo_array(matrix)

    def marginals(self) -> tuple[Array, Array]:
        """Return the row sums (n,) and the column sums (m,)."""
        return self._marginals

    @cached_property
    def _marginals(self) -> tuple[Array, Array]:
        xp = _array.namespace(self.matrix)
        rows = xp.sum(self.matrix, axis=1)  # (n,)
        cols = xp.sum(self.matrix, axis=0)  # (m,)
        return rows, cols

    def transpose(self) -> Self:
        """Return the plan from y to x, of shape (m, n)."""
        return make_unchecked(type(self), matrix=_array.transposed(self.matrix))

    def inner(self, matrix: Array) -> Array:
        """Return Σ π_ij matrix_ij for a matrix (n, m), or for each of a stack."""
        xp = _array.namespace(matrix)
        # Row by row, with less float error than one long sum.
        rows = xp.vecdot(self.matrix, matrix)  # (…, n)
        return xp.sum(rows, axis=-1)

    def apply(self, values: Array) -> Array:
        """Return π @ values for values of shape (m, k)."""
        return self.matrix @ values


@final
@dataclass(frozen=True, eq=False)
class SparsePlan(Plan):
    """A coupling stored as a list of atoms, pairs of positions with their masses.

    Sorts and linear programs return such couplings, mostly with at most n + m − 1
    atoms.

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

    rows: Array  # (k,)
    cols: Array  # (k,)
    mass: Array  # (k,)
    size: tuple[int, int]

    def __post_init__(self) -> None:
        _check_plans.atoms_of_plan(self.rows, self.cols, self.mass, self.size)
        object.__setattr__(self, "mass", _array.in_native_order(self.mass))
        object.__setattr__(self, "rows", _as_index(self.rows))
        object.__setattr__(self, "cols", _as_index(self.cols))

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
        """The compressed rows of π, of NumPy arrays alone."""
        positions = (self.rows, self.cols)
        return scipy.sparse.csr_array((self.mass, positions), shape=self.size)

    @cached_property
    def _positions(self) -> Array:
        """Positions (k,) of the atoms in the matrix read row by row."""
        xp = _array.namespace(self.rows)
        # n m positions need not fit into the integers that hold n rows and m columns.
        widest = xp.arange(0).dtype
        _, m = self.size
        starts = xp.astype(self.rows, widest, copy=False) * m
        return starts + xp.astype(self.cols, widest, copy=False)

    @cached_property
    def _in_rows(self) -> NumpyArray | None:
        """The atoms (n,) in the order of their rows, if each row has one; else None."""
        n, _ = self.size
        if len(self.rows) != n:
            return None
        places = np.arange(n)
        order = np.zeros_like(places)
        order[self.rows] = places
        each_has_one = (self.rows[order] == places).all()
        return order if each_has_one else None

    def dense(self) -> Array:
        """Return the (n, m) matrix of masses."""
        n, m = self.size
        flat = _array.scatter_sum(self._positions, self.mass, n * m)  # (n m,)
        xp = _array.namespace(self.mass)
        return xp.reshape(flat, (n, m))

    def sparse(self) -> scipy.sparse.coo_array:
        """Return the non-zero masses as a ``scipy.sparse.coo_array``, on the CPU."""
        rows = _array.to_numpy(self.rows)
        cols = _array.to_numpy(self.cols)
        mass = _array.to_numpy(self.mass)
        plan = scipy.sparse.coo_array((mass, (rows, cols)), shape=self.size)
        # A position may repeat, and its masses may be 0.
        plan.sum_duplicates()
        plan.eliminate_zeros()
        return plan

    def marginals(self) -> tuple[Array, Array]:
        """Return the row sums (n,) and the column sums (m,)."""
        return self._marginals

    @cached_property
    def _marginals(self) -> tuple[Array, Array]:
        n, m = self.size
        rows = _array.scatter_sum(self.rows, self.mass, n)  # (n,)
        cols = _array.scatter_sum(self.cols, self.mass, m)  # (m,)
        return rows, cols

    def transpose(self) -> Self:
        """Return the plan from y to x, of shape (m, n)."""
        n, m = self.size
        return make_unchecked(
            type(self), rows=self.cols, cols=self.rows, mass=self.mass, size=(m, n)
        )

    def inner(self, matrix: Array) -> Array:
        """Return Σ π_ij matrix_ij for a matrix of shape (n, m)."""
        if compat.is_numpy_array(matrix):
            return np.vecdot(self.mass, matrix.take(self._positions))
        xp = _array.namespace(matrix)
        at_atoms = xp.take(xp.reshape(matrix, (-1,)), self._positions)  # (k,)
        return xp.vecdot(self.mass, at_atoms)

    def apply(self, values: Array) -> Array:
        """Return π @ values for values of shape (m, k)."""
        if not compat.is_numpy_array(values):
            return self.dense() @ values
        # A row of one atom has one row of the values, times its mass.
        order = self._in_rows
        if order is not None:
            return self.mass[order, None] * values.take(self.cols[order], axis=0)
        if self._is_large:
            return self._csr @ values
        return self.dense() @ values

    @property
    def _is_large(self) -> bool:
        """Whether sparse products and sums take less time than dense ones."""
        n, m = self.size
        return n * m > _SMALL

    def differing_rows(self, other: SparsePlan) -> Array | None:
        """Return the rows in which two plans differ.

        Parameters
        ----------
        other : SparsePlan
            A plan of the same shape and library.

        Returns
        -------
        integer array or None
            Ascending; None where comparing takes longer than a product with a plan.
        """
        n, m = self.size
        if n * m <= _COMPARED or not compat.is_numpy_array(self.mass):
            return None
        difference = self._csr - other._csr
        return np.unique(difference.nonzero()[0])

    def apply_rows(self, rows: Array, values: Array) -> Array:
        """Return some rows of π @ values.

        Parameters
        ----------
        rows : integer array of shape (r,)
            Positions of the rows.
        values : NumPy array of shape (m, k)
            The right factor.

        Returns
        -------
        NumPy array of shape (r, k)
            In units of the values.
        """
        return self._csr[rows] @ values


def _as_index(positions: Array) -> Array:
    """Return positions in a dtype that all libraries take entries by."""
    xp = _array.namespace(positions)
    if positions.dtype in (xp.int32, xp.int64):
        return positions
    return xp.astype(positions, xp.arange(0).dtype)


def make_unchecked(kind: type[P], **values: Any) -> P:
    """Make a plan of computed values, without checking them."""
    plan = object.__new__(kind)
    for name, value in values.items():
        object.__setattr__(plan, name, value)
    return plan


def changed(plan: SparsePlan, **values: Any) -> SparsePlan:
    """Copy a sparse plan with other, computed values, without checking them."""
    fields = {
        "rows": plan.rows,
        "cols": plan.cols,
        "mass": plan.mass,
        "size": plan.size,
    }
    fields.update(values)
    return make_unchecked(SparsePlan, **fields)


def as_plan(plan: Any, shape: tuple[int, int], name: str = "plan") -> Plan:
    """Return a plan as it is and a dense matrix as a plan, called ``name`` in errors.

    Either must have the given shape (n, m) and finite, non-negative masses; marginals
    are not checked.
    """
    result: Plan
    if isinstance(plan, Plan):
        result = plan
    else:
        matrix = _check.array(plan, name, 2)
        result = make_unchecked(DensePlan, matrix=matrix)
    _check_plans.coupling_shape(result.shape, shape, name)
    _check.finite(result.masses, name)
    _check_plans.non_negative(result.masses, name)
    return result


def mixture(plans: Sequence[Plan], weights: Sequence[Any]) -> Plan:
    """Return the coupling Σ w_k V_k: sparse if all V_k are, in NumPy; else dense.

    The V_k (n, m) are ``plans``, the w_k their ``weights``, ≥ 0 and of sum 1.
    """
    if not _are_sparse(plans) or not compat.is_numpy_array(plans[0].mass):
        total: Array = 0
        for plan, weight in zip(plans, weights, strict=True):
            total = total + weight * plan.dense()
        return make_unchecked(DensePlan, matrix=total)
    rows = np.concatenate([plan.rows for plan in plans])
    cols = np.concatenate([plan.cols for plan in plans])
    masses = [weight * plan.mass for plan, weight in zip(plans, weights, strict=True)]
    return listed_sums(rows, cols, np.concatenate(masses), plans[0].shape)


def listed_sums(
    rows: NumpyArray, cols: NumpyArray, mass: NumpyArray, size: tuple[int, int]
) -> SparsePlan:
    """Return the plan of NumPy arrays of atoms (k,), row by row.

    Masses of one position are added.
    """
    _, m = size
    positions = rows.astype(np.int64, copy=False) * m + cols
    order = np.argsort(positions, kind="stable")
    positions = positions[order]
    is_first = np.ones(len(positions), dtype=bool)
    is_first[1:] = positions[1:] != positions[:-1]
    places = np.cumsum(is_first) - 1
    sums = np.bincount(places, weights=mass[order]).astype(mass.dtype, copy=False)
    rows, cols = np.divmod(positions[is_first], m)
    return make_unchecked(SparsePlan, rows=rows, cols=cols, mass=sums, size=size)


def inner_products(plans: Sequence[Plan], matrix: Array) -> NumpyArray:
    """Return the inner products of K plans (n, m) with one matrix (n, m).

    Shape (K,), in float64 and on the CPU.
    """
    if not _are_sparse(plans) or not compat.is_numpy_array(matrix):
        return np.array([float(plan.inner(matrix)) for plan in plans])
    # One list of the atoms of all plans: those of plan k begin at starts[k].
    position_lists = []
    mass_lists = []
    starts = []
    count = 0
    for plan in plans:
        position_lists.append(plan._positions)
        mass_lists.append(plan.mass)
        starts.append(count)
        count += plan.mass.shape[0]
    positions = np.concatenate(position_lists)
    mass = np.concatenate(mass_lists)
    terms = mass * matrix.take(positions)
    sums = np.add.reduceat(terms, starts)
    return sums.astype(np.float64, copy=False)


def _are_sparse(plans: Sequence[Plan]) -> TypeGuard[Sequence[SparsePlan]]:
    """Tell whether all plans are sparse."""
    return all(isinstance(plan, SparsePlan) for plan in plans)


def detached_plan(plan: Plan) -> Plan:
    """Return the plan outside any gradient graph."""
    if not isinstance(plan, SparsePlan):
        matrix = _array.detached(plan.dense())
        return make_unchecked(DensePlan, matrix=matrix)
    # The plan itself keeps its cached compressed rows.
    if not _array.tracked(plan.mass):
        return plan
    mass = _array.detached(plan.mass)
    return changed(plan, mass=mass)
