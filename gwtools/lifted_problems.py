"""Problems of low rank, whose matrices (n, m) are costs between few coordinates.

Theorem 12 (g): the linear programs of spaces with d and d' columns are transport
between points of min(d, d') + 1 coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np

from gwtools import _array
from gwtools._array import Array, NumpyArray
from gwtools.marginals import has_marginals, rounded_plan
from gwtools.plans import DensePlan, Plan, SparsePlan, changed, make_unchecked
from gwtools.problems import GWProblem, Quadratic
from gwtools.spaces import Space
from gwtools.spaces.double_centering import LowRankForm, LowRankResidual, Residual
from gwtools.transport.lifted import LiftedCosts
from gwtools.transport.programs import repaired
from gwtools.transport.simplex import Units

LEAST_ENTRIES = 2000**2  # n m from which programs between coordinates take less time
MOST_COORDINATES = 8  # min(d, d'): nearest neighbours among more are found slowly
_MOST_ATOMS = 50_000  # of the larger space, between which programs are solved
_MOST_PRICED = 300_000  # and between which they are priced, so that a gap is known
_NUMBERS_OF_AN_ATOM = 1000  # arcs, neighbours and trees, in a program
_NUMBERS_WITHOUT_PROGRAMS = 120  # plans and trees


def are_lifted(x: Space, y: Space) -> bool:
    """Tell whether the linear programs of two spaces are those between coordinates.

    Of large squared clouds and Gram spaces, of which one has few columns.
    """
    if x.size * y.size < LEAST_ENTRIES or not (x.saves_work and y.saves_work):
        return False
    rank = cast(LowRankForm, x.low_rank).rank
    other_rank = cast(LowRankForm, y.low_rank).rank
    return min(rank, other_rank) <= MOST_COORDINATES


def numbers_of_lifted(x: Space, y: Space) -> float:
    """Estimate from above how many numbers programs between coordinates hold."""
    of_an_atom = _NUMBERS_OF_AN_ATOM
    if are_too_many((x.size, y.size)):
        of_an_atom = _NUMBERS_WITHOUT_PROGRAMS
    return of_an_atom * float(x.size + y.size)


def are_too_many(shape: tuple[int, int]) -> bool:
    """Tell whether programs between coordinates of so many atoms are not solved."""
    return max(shape) > _MOST_ATOMS


def are_unpriced(shape: tuple[int, int]) -> bool:
    """Tell whether no program of so many atoms is priced: no gap is known there."""
    return max(shape) > _MOST_PRICED


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Weighted atoms of a space by their coordinates, in NumPy and float64.

    Parameters
    ----------
    weights : array of shape (n,)
        a.
    deviations : array of shape (n,)
        α, in units of C.
    factor : array of shape (n, d)
        G, where R = ± G Gᵀ.
    """

    weights: NumpyArray
    deviations: NumpyArray
    factor: NumpyArray

    @property
    def row_means(self) -> NumpyArray:
        """Row means of C, up to a constant, shape (n,)."""
        return self.deviations

    @classmethod
    def of(cls, space: Space) -> Coordinates:
        """Return the coordinates of all atoms of a space."""
        factor = cast(LowRankResidual, space.residual()).factor
        return cls(space.weights, space.deviations, factor)


@dataclass(frozen=True, eq=False)
class LiftedProblem(Quadratic):
    """The problem of two spaces of low rank, without any (n, m) matrix.

    Matrices of a :class:`GWProblem` are :class:`LiftedCosts` here.

    Parameters
    ----------
    x, y : Coordinates
        The atoms.
    whole : GWProblem
        The problem of all atoms, in NumPy and float64. Where x and y are cells of
        these, it still says what is small.
    """

    x: Coordinates
    y: Coordinates
    whole: GWProblem

    @classmethod
    def of(cls, problem: GWProblem) -> LiftedProblem:
        """Return the problem of all atoms, outside any gradient graph."""
        whole = GWProblem(_in_double(problem.x), _in_double(problem.y))
        return cls(Coordinates.of(whole.x), Coordinates.of(whole.y), whole)

    @property
    def is_coarse(self) -> bool:
        """Whether x and y are cells of the atoms."""
        return self.shape != self.whole.shape

    @property
    def sign(self) -> int:
        """1 where R and S have one sign, so that F is concave; else −1."""
        return self.whole.left.sign * self.whole.right.sign

    @property
    def left(self) -> Residual:
        """R, the residual of all atoms of x."""
        return self.whole.left

    @property
    def right(self) -> Residual:
        """S, the residual of all atoms of y."""
        return self.whole.right

    @property
    def norms(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """(‖α‖, ‖R‖) and (‖β‖, ‖S‖), in units of C."""
        return cast(tuple[tuple[float, float], tuple[float, float]], self.whole.norms)

    @property
    def float_error(self) -> float:
        """Estimate of the float error of relative objectives, in squared units of C."""
        return cast(float, self.whole.float_error)

    @property
    def product_objective(self) -> float:
        """F(a ⊗ b), in squared units of C."""
        return self.whole.product_objective

    @property
    def floor(self) -> float:
        """A number that no objective is below."""
        return self.whole.floor

    @cached_property
    def units(self) -> Units:
        """The units of mass of the atoms, also in plans of cells."""
        return Units.of(self.whole.x.weights, self.whole.y.weights)

    @cached_property
    def bilinear_cost(self) -> LiftedCosts:
        """The costs −4 α_i β_j, in squared units of C."""
        alpha = self.x.deviations[:, None]
        beta = self.y.deviations[:, None]
        return LiftedCosts(4 * alpha, beta)

    def cross(self, plan: Plan) -> LiftedCosts:
        """Return R π S = ± G Z Hᵀ with Z = Gᵀ π H = Σ σ_k p_k q_kᵀ, as costs."""
        return self.cross_of(self.x.factor.T @ plan.apply(self.y.factor))

    def cross_of(self, core: NumpyArray) -> LiftedCosts:
        """Return ± G Z Hᵀ for a matrix Z (d, d'), as costs."""
        P, singular, Q = np.linalg.svd(core, full_matrices=False)
        root = np.sqrt(singular)
        left = self.x.factor @ (P * root)
        right = self.y.factor @ (Q.T * root)
        return LiftedCosts(-self.sign * left, right)

    def updated_cross(
        self,
        plan: SparsePlan,
        previous: SparsePlan,
        cross: LiftedCosts,
    ) -> LiftedCosts:
        """Return R π S of a plan, which needs no other plan's."""
        return self.cross(plan)

    def gradient(self, cross: LiftedCosts) -> LiftedCosts:
        """Return the gradient −4 α_i β_j − 4 (R π S)_ij as costs."""
        scalar = self.bilinear_cost
        u = np.concatenate([scalar.u, -4 * cross.u], axis=1)
        v = np.concatenate([scalar.v, cross.v], axis=1)
        return LiftedCosts(u, v)

    def inner(self, plan: Plan, matrix: LiftedCosts) -> float:
        """Return Σ π_ij cost_ij of a plan and costs."""
        return -float(np.vdot(matrix.u, plan.apply(matrix.v)))

    def inner_products(
        self,
        plans: Sequence[Plan],
        matrix: LiftedCosts,
    ) -> NumpyArray:
        """Return the inner products (K,) of plans with costs."""
        return np.array([self.inner(plan, matrix) for plan in plans])

    def block(
        self,
        matrix: LiftedCosts,
        rows: NumpyArray,
        cols: NumpyArray,
    ) -> NumpyArray:
        """Return the costs between rows (k,) and columns (l,), shape (k, l)."""
        return -(matrix.u[rows] @ matrix.v[cols].T)

    def coupling(self, plan: Plan) -> Plan:
        """Bring a coupling to NumPy and float64, rounded onto the weights."""
        plan = self.as_computed(plan)
        if isinstance(plan, SparsePlan):
            return self.rounded(plan)
        return rounded_plan(plan.dense(), self.x.weights, self.y.weights)

    def as_computed(self, plan: Plan) -> Plan:
        """Bring a plan to NumPy and float64."""
        mass = _double(plan.masses)
        if not isinstance(plan, SparsePlan):
            return make_unchecked(DensePlan, matrix=mass)
        rows = _array.to_numpy(plan.rows)
        cols = _array.to_numpy(plan.cols)
        return changed(plan, rows=rows, cols=cols, mass=mass)

    def without_slivers(self, plan: SparsePlan) -> SparsePlan:
        """Return a plan without the atoms whose masses are float errors."""
        weights = np.minimum(self.x.weights[plan.rows], self.y.weights[plan.cols])
        kept, mass = self.units.fitted(plan.mass).settled(plan.mass, weights)
        return changed(plan, rows=plan.rows[kept], cols=plan.cols[kept], mass=mass)

    def rounded(self, plan: SparsePlan) -> SparsePlan:
        """Round a sparse plan onto the weights where float errors are off them."""
        a = self.x.weights
        b = self.y.weights
        return plan if has_marginals(plan, a, b) else repaired(plan, a, b)


def _double(values: Array) -> NumpyArray:
    """Bring an array to NumPy, in float64."""
    return _array.to_numpy(values).astype(np.float64, copy=False)


def _in_double(space: Space) -> Space:
    """Bring a space to NumPy and float64, where its weights sum to 1 again."""
    weights = _double(space.weights)
    data = _double(space.data)
    if weights is space.weights and data is space.data:
        return space
    return space.with_data(data, _array.normalised(weights))
