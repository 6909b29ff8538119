"""Conditional gradient (Frank-Wolfe) with exact linear programs and exact line search."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self, final

import numpy as np

from gwtools import _array, _check
from gwtools._array import Array, NumpyArray
from gwtools.linear import exact, sorting_plan
from gwtools.plans import DensePlan, SparsePlan, as_plan, marginal_error, mix
from gwtools.problems import GWProblem, Prepared
from gwtools.results import Status
from gwtools.scaling import round_to
from gwtools.solvers.base import Callback, IterativeSolver, Outcome, State
from gwtools.solvers.saddle import is_blind, off_saddle, product_plan


@dataclass(frozen=True, eq=False)
class _State(State):
    cross: Array = None
    vertex: SparsePlan | None = None
    potentials: tuple[NumpyArray, NumpyArray] | None = None


@final
@dataclass(frozen=True, eq=False)
class ConditionalGradient(IterativeSolver[_State]):
    """Find a stationary coupling by linear programs, each solved exactly on the CPU by POT's network simplex.

    Parameters
    ----------
    tolerance : float
        Stop when the Frank-Wolfe gap is at most this share of the product coupling's objective.
    max_iterations : int
        Linear programs at most.
    init : "product", Plan or array of shape (n, m)
        Coupling to start from. From the product coupling the first program is solved by the sorting coupling (theorem 8), and
        that step is taken before any gap is tested. Where row means are constant, the product coupling is a saddle with gap
        0: the first step is then along the eigenvectors of the residuals that descend most.

    Notes
    -----
    Products with C and D stay in the array library and on the device of the spaces; each step sends one cost matrix to
    the CPU and brings one vertex back. Where both spaces are of negative type, or both Gram spaces, the objective is
    concave over couplings: every step is a full one and the answer a vertex (theorem 11).
    """

    init: Any = "product"

    def __post_init__(self) -> None:
        _check.number(self.tolerance, "tolerance", least=0.0)
        _check.integer(self.max_iterations, "max_iterations", least=1)
        if isinstance(self.init, str):
            _check.choice(self.init, "init", ("product",))

    def on_atoms(self, prepared: Prepared, shape: tuple[int, int]) -> Self:
        """Return the solver whose ``init`` is cut to the atoms that carry weight."""
        if isinstance(self.init, str) or all(kept is None for kept in prepared.atoms):
            return self
        plan = as_plan(self.init, shape)
        _check.same_kind(plan.masses, prepared.x.weights, "plan", "the spaces")
        matrix = plan.dense()
        for axis, kept in enumerate(prepared.atoms):
            matrix = matrix if kept is None else _array.namespace(matrix).take(matrix, kept, axis=axis)
        return replace(self, init=DensePlan(matrix))

    def run(self, problem: GWProblem, callback: Callback | None = None) -> Outcome:
        """Take steps until the gap is closed; a plan whose marginals drifted over many mixtures is set right in the end."""
        outcome = super().run(problem, callback)
        a, b = (_array.detached(space.weights) for space in (problem.x, problem.y))
        if marginal_error(outcome.plan, a, b) <= max(4 * _array.epsilon(a), 1e-13):
            return outcome
        return replace(outcome, plan=round_to(outcome.plan.dense(), a, b))

    def start(self, problem: GWProblem) -> _State:
        """Return the given coupling, or the best one on the segment from the product to the sorting coupling."""
        if isinstance(self.init, str):
            return self._leave_product(problem)
        plan = as_plan(self.init, problem.shape)
        for found, space, side in zip(plan.marginals(), (problem.x, problem.y), "xy", strict=True):
            _check.same_kind(found, space.weights, "plan", "the spaces")
            _check.marginal(found, space.weights, side)
        cross = problem.cross(plan)
        return _State(plan, float(problem.value(plan, cross)), cross=cross)

    def _leave_product(self, problem: GWProblem) -> _State:
        """Step from the product coupling to the sorting coupling, or off the saddle where row means promise nothing."""
        x, y = problem.x, problem.y
        product = product_plan(problem)
        if is_blind(problem, self.negligible(problem)):
            plan = off_saddle(problem, self.negligible(problem))
            if plan is None:
                still = _array.namespace(product.matrix).zeros_like(product.matrix)
                return _State(product, problem.product_objective, Status.STATIONARY, 0.0, still)
            cross = problem.cross(plan)
            return _State(plan, float(problem.value(plan, cross)), cross=cross)
        vertex = sorting_plan(x.row_means, x.weights, y.row_means, y.weights)
        cross = problem.cross(vertex)
        slope = float(vertex.inner(problem.linear_cost)) - float(product.inner(problem.linear_cost))
        step = _line_search(min(slope, 0.0), -2 * float(vertex.inner(cross)))
        mixed, cross = (vertex, cross) if step == 1.0 else (mix(product, vertex, step), step * cross)
        return _State(mixed, float(problem.value(mixed, cross)), cross=cross, vertex=vertex)

    def potentials(self, problem: GWProblem, state: _State) -> tuple[Array, Array]:
        """Return the last program's potentials."""
        a, b = problem.x.weights, problem.y.weights
        xp = _array.namespace(a, b)
        if state.potentials is None:
            return xp.zeros_like(a), xp.zeros_like(b)
        return _array.from_numpy(state.potentials[0], a), _array.from_numpy(state.potentials[1], b)

    def step(self, problem: GWProblem, state: _State) -> _State:
        """Solve the linear program at the plan and move to the best point between the plan and its vertex."""
        gradient = problem.gradient(state.cross)
        a, b = (_array.to_numpy(s.weights).astype(np.float64) for s in (problem.x, problem.y))
        start = None if state.vertex is None else _to_numpy(state.vertex)
        program = exact(_array.to_numpy(gradient).astype(np.float64, copy=False), a, b, start, state.potentials)
        here = float(state.plan.inner(gradient))
        gap = max(0.0, here - program.lower)
        negligible = self.negligible(problem)
        if gap <= negligible and state.plan is state.vertex:
            return replace(state, frank_wolfe_gap=gap, potentials=program.potentials, status=Status.STATIONARY)
        vertex = _from_numpy(program.plan, problem.x.weights)
        if state.vertex is not None and state.plan is state.vertex:
            cross = problem.updated_cross(vertex, state.vertex, state.cross)
        else:
            cross = problem.cross(vertex)
        slope = min(0.0, float(vertex.inner(gradient)) - here)
        # The curvature −2 ⟨Δ, R Δ S⟩ along Δ = vertex − plan. A gap of 0 at a plan that is no vertex may hide a descent.
        between = float(vertex.inner(state.cross)) + float(state.plan.inner(cross))
        curvature = 2 * (between - float(vertex.inner(cross)) - float(state.plan.inner(state.cross)))
        step = _line_search(slope, curvature)
        decrease = -step * (slope + step * curvature)
        if decrease <= max(1e-3 * negligible, _array.epsilon(problem.x.weights) * state.objective):
            status = _criterion(gap, negligible)
            return replace(state, frank_wolfe_gap=gap, potentials=program.potentials, status=status)
        cross = cross if step == 1.0 else (1.0 - step) * state.cross + step * cross
        plan = vertex if step == 1.0 else mix(state.plan, vertex, step)
        objective = float(problem.value(plan, cross))
        return _State(plan, objective, None, None, cross, vertex, program.potentials)


def _criterion(gap: float, negligible: float) -> Status:
    return Status.STATIONARY if gap <= negligible else Status.FIXED_POINT


def _line_search(slope: float, curvature: float) -> float:
    """Minimise slope · t + curvature · t² over [0, 1], for slope <= 0."""
    if curvature <= 0.0:
        return 1.0 if slope + curvature < 0.0 else 0.0
    return min(1.0, -slope / (2 * curvature))


def _to_numpy(plan: SparsePlan) -> SparsePlan:
    rows, cols, mass = (_array.to_numpy(part) for part in (plan.rows, plan.cols, plan.mass))
    return SparsePlan(rows, cols, mass, plan.size)


def _from_numpy(plan: SparsePlan, like: Array) -> SparsePlan:
    rows, cols, mass = (_array.from_numpy(part, like) for part in (plan.rows, plan.cols, plan.mass))
    return SparsePlan(rows, cols, mass, plan.size)
