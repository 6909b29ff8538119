"""Conditional gradient (Frank-Wolfe): exact linear programs, and the best mixture of the vertices they give."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self, cast, final

import numpy as np

from gwtools import _array, _check, _check_plans
from gwtools._array import Array, NumpyArray
from gwtools.bounds.moments import has_one_row
from gwtools.marginals import has_marginals, rounded_plan
from gwtools.plans import (
    DensePlan,
    Plan,
    SparsePlan,
    as_plan,
    changed,
    detached_plan,
    make_unchecked,
)
from gwtools.preparation import Prepared
from gwtools.problems import GWProblem
from gwtools.results import Status
from gwtools.solvers.active_set import ActiveSet
from gwtools.solvers.base import Callback, IterativeSolver, Outcome, gap_above
from gwtools.solvers.exchange import MOST_ATOMS, exchanged
from gwtools.solvers.starts import is_stationary_at_product, off_saddle, product_plan
from gwtools.spaces import Space, numbers_at_atoms
from gwtools.transport.one_dimensional import sorting_plan
from gwtools.transport.programs import Program, exact

_STALLED = 20  # steps in a row that do not lower the objective by more than float error


@dataclass(frozen=True, eq=False)
class _State:
    """A mixture of vertices with its ``cross`` matrix; a vertex and potentials that the next program starts from.

    ``stalled`` counts steps in a row that do not lower the objective beyond float
    error; ``tried`` tells that since the objective last fell a vertex has already
    replaced a mixture that was as good.
    """

    plan: Plan
    relative_objective: float
    status: Status | None = None
    frank_wolfe_gap: float | None = None
    cross: Array = None
    active: ActiveSet | None = None
    vertex: SparsePlan | None = None
    potentials: tuple[NumpyArray, NumpyArray] | None = None
    stalled: int = 0
    tried: bool = False


@final
@dataclass(frozen=True, eq=False)
class ConditionalGradient(IterativeSolver[_State]):
    """Find a stationary coupling by linear programs, each solved exactly on the CPU by POT's network simplex.

    Parameters
    ----------
    tolerance : float
        Stop when the Frank-Wolfe gap is at most this share of 4‖α‖‖β‖ + 2‖R‖‖S‖, a
        bound on how far any coupling's objective is from the product coupling's
        (theorem 2), or below float error. It does not depend on the units of either
        space, nor, as long as float error is smaller, on constants added to C or D.
    max_iterations : int
        Linear programs at most.
    init : "product", Plan or array of shape (n, m)
        Coupling to start from. One that misses the weights of either space by at most a
        thousandth of the mass in total, as plans of iterations that were stopped early
        do, is rounded onto the marginals (:func:`gwtools.round_plan`). From the product
        coupling the first program is solved by the sorting coupling (theorem 8); that
        step is taken before any gap is tested. Where row means are constant, the
        product coupling is a saddle with gap 0, or a minimum: the first step is then
        along the eigenvectors of the residuals that descend most, where any do. Gram
        spaces of one row start from the better of two sorting couplings, which is
        optimal (theorem 12 f).
    exchange : bool
        At a stationary sparse coupling of at most 3000 atoms, try all exchanges of two
        of them (between permutations: swaps of two images), and go on from there where
        one lowers the objective. On the way to it the objective may rise first, so that
        no gradient shows it.

    Notes
    -----
    Products with C and D stay in the array library and on the device of the spaces;
    each step sends one cost matrix to the CPU and brings one vertex back. Where both
    spaces are of negative type, or both Gram spaces, the objective is concave over
    couplings: every program's step is a full one and the answer mostly a vertex
    (theorem 11). Elsewhere a step is fully corrective: the objective is lowered over
    the mixtures of the vertices found so far that still have weight, as steps towards
    single vertices zigzag (Lacoste-Julien and Jaggi 2015, arXiv:1511.05932).

    Examples
    --------
    The Frank-Wolfe gap says that the plan is stationary; another start is another
    chance.

    >>> import numpy as np, gwtools as gw
    >>> x = gw.PointCloud(
    ...     np.array([[0.0], [1.0], [3.0]]), weights=np.array([0.5, 0.25, 0.25])
    ... )
    >>> y = gw.PointCloud(np.array([[0.0, 0.0], [0.0, 1.0], [2.0, 0.0]]))
    >>> result = gw.solve(x, y, gw.ConditionalGradient(tolerance=1e-6))
    >>> round(float(result.objective), 6), result.frank_wolfe_gap < 1e-6
    (0.737702, True)
    >>> start = gw.round_plan(np.eye(3), x.weights, y.weights)
    >>> round(float(gw.solve(x, y, gw.ConditionalGradient(init=start)).objective), 6)
    0.737702
    """

    init: Any = "product"
    exchange: bool = True

    def __post_init__(self) -> None:
        _check.number(self.tolerance, "tolerance", least=0.0)
        _check.integer(self.max_iterations, "max_iterations", least=1)
        if isinstance(self.init, str):
            _check.choice(self.init, "init", ("product",))
        elif not isinstance(self.init, Plan):
            object.__setattr__(self, "init", _check.floating(self.init, "init", 2))
        _check.flag(self.exchange, "exchange")

    def on_atoms(self, prepared: Prepared, shape: tuple[int, int]) -> Self:
        """Return the solver whose ``init`` is cut to the atoms that carry weight."""
        if isinstance(self.init, str) or all(kept is None for kept in prepared.atoms):
            return self
        plan = as_plan(self.init, shape, "init")
        _check.same_kind(plan.masses, prepared.x.weights, "init", "the spaces")
        matrix = plan.dense()
        for axis, kept in enumerate(prepared.atoms):
            matrix = (
                matrix
                if kept is None
                else _array.namespace(matrix).take(matrix, kept, axis=axis)
            )
        return replace(self, init=make_unchecked(DensePlan, matrix=matrix))

    def numbers_held(self, x: Space, y: Space) -> float:
        """Return what costs and linear programs need beside R and S: eight n × m arrays, or four while atoms are exchanged."""
        atoms = float(min(x.size + y.size, MOST_ATOMS)) if self.exchange else 0.0
        entries = float(x.size * y.size)
        stages = 8 * entries, 4 * entries + 9 * atoms**2, numbers_at_atoms(x, y)
        return x.numbers_held + y.numbers_held + max(stages)

    def run(self, problem: GWProblem, callback: Callback | None = None) -> Outcome:
        """Take steps until the gap is closed; round a plan whose marginals drifted over many mixtures onto them in the end."""
        outcome = super().run(problem, callback)
        a, b = (_array.detached(space.weights) for space in (problem.x, problem.y))
        if has_marginals(outcome.plan, a, b):
            return outcome
        return replace(outcome, plan=rounded_plan(outcome.plan.dense(), a, b))

    def first_plan(self, problem: GWProblem) -> Plan:
        """Return the given coupling, or the product coupling."""
        return (
            product_plan(problem)
            if isinstance(self.init, str)
            else self._given(problem)
        )

    def _given(self, problem: GWProblem) -> Plan:
        """Return the given coupling outside any gradient graph, rounded onto the marginals where it misses them a little."""
        plan, a, b = (
            detached_plan(as_plan(self.init, problem.shape, "init")),
            problem.x.weights,
            problem.y.weights,
        )
        for marginal, weights, side in zip(plan.marginals(), (a, b), "xy", strict=True):
            _check.same_kind(marginal, weights, "init", "the spaces")
            _check_plans.marginal(marginal, weights, side, name="init")
        return plan if has_marginals(plan, a, b) else rounded_plan(plan.dense(), a, b)

    def start(self, problem: GWProblem) -> _State:
        """Return the given coupling, or the best one on the segment from the product to the sorting coupling.

        Where row means promise nothing, a coupling off the saddle, or the product
        coupling where that is a minimum. Between Gram spaces of one row, a coupling
        that is optimal.
        """
        if (
            isinstance(self.init, str)
            and has_one_row(problem.x)
            and has_one_row(problem.y)
        ):
            return _one_row(problem)
        vertex = sorting_plan(
            problem.x.row_means,
            problem.x.weights,
            problem.y.row_means,
            problem.y.weights,
        )
        if not isinstance(self.init, str):
            return replace(_alone(problem, self._given(problem)), vertex=vertex)
        product, negligible = product_plan(problem), self.negligible(problem)
        if is_stationary_at_product(problem, negligible):
            plan = off_saddle(problem, negligible)
            if plan is None:
                return replace(
                    _alone(problem, product),
                    status=Status.STATIONARY,
                    frank_wolfe_gap=problem.slope_range,
                )
            return replace(_alone(problem, plan), vertex=vertex)
        # At the product coupling q and K are 0, as α, β and the rows of R and S have
        # mean 0.
        active = ActiveSet((product,), np.ones(1), np.zeros(1), np.zeros((1, 1)))
        return self._corrected(problem, active, vertex, problem.cross(vertex))

    def potentials(self, problem: GWProblem, state: _State) -> tuple[Array, Array]:
        """Return the last program's potentials."""
        a, b = problem.x.weights, problem.y.weights
        xp = _array.namespace(a, b)
        if state.potentials is None:
            return xp.zeros_like(a), xp.zeros_like(b)
        return _array.from_numpy(state.potentials[0], a), _array.from_numpy(
            state.potentials[1], b
        )

    def step(self, problem: GWProblem, state: _State) -> _State:
        """Solve the linear program at the plan and move to the best mixture of its vertex and those before."""
        gradient, negligible = problem.gradient(state.cross), self.negligible(problem)
        program = linear_program(problem, gradient, state.vertex, state.potentials)
        gap = gap_above(program.lower, float(state.plan.inner(gradient)))
        state = replace(state, frank_wolfe_gap=gap, potentials=program.potentials)
        if (
            gap <= negligible
            and isinstance(state.plan, SparsePlan)
            and _same_atoms(program.plan, state.plan)
        ):
            return self._at_rest(problem, state, negligible)
        vertex = _from_numpy(program.plan, problem.x.weights)
        if state.plan is state.vertex:
            cross = problem.updated_cross(vertex, state.vertex, state.cross)
        else:
            cross = problem.cross(vertex)
        following = self._corrected(
            problem, cast(ActiveSet, state.active), vertex, cross
        )
        following = replace(following, potentials=program.potentials)
        decrease = state.relative_objective - following.relative_objective
        if decrease > negligible:
            return following
        if gap <= negligible:
            # A mixture may have gap 0 and be a saddle: towards a vertex the objective
            # then falls to second order only, which the step above has tried. A vertex
            # that is as good is preferred, as exchanges trade whole atoms there.
            at_vertex = replace(
                _alone(problem, vertex, cross),
                vertex=vertex,
                potentials=program.potentials,
                tried=True,
            )
            mixed = state.plan is not state.vertex and not state.tried
            if (
                mixed
                and at_vertex.relative_objective
                <= state.relative_objective + problem.float_error
            ):
                return at_vertex
            return self._at_rest(problem, state, negligible)
        stalled = (
            0
            if decrease > _array.epsilon(problem.x.weights) * problem.variation
            else state.stalled + 1
        )
        if stalled >= _STALLED:
            return replace(state, status=Status.NOT_STATIONARY)
        return replace(following, stalled=stalled, tried=state.tried)

    def _corrected(
        self, problem: GWProblem, active: ActiveSet, vertex: SparsePlan, cross: Array
    ) -> _State:
        """Return the best mixture of the active couplings and a vertex, which is given with its ``cross`` matrix."""
        float_error = 16 * _array.epsilon(problem.x.weights)
        active = active.extended(problem, vertex, cross).minimised(
            1e-2 * self.negligible(problem), float_error
        )
        plan = active.plan()
        cross = cross if plan is vertex else problem.cross(plan)
        return _State(
            plan, active.relative_objective, None, None, cross, active, vertex
        )

    def _at_rest(self, problem: GWProblem, state: _State, negligible: float) -> _State:
        """Return the state with its status, or, where an exchange lowers the objective, the state after it."""
        if self.exchange and isinstance(state.plan, SparsePlan):
            plan = exchanged(problem, state.plan, state.cross, negligible)
            if plan is not state.plan:
                # Exchanges of parts of atoms leave the vertices: the next program says
                # whether one is as good.
                return replace(
                    _alone(problem, plan),
                    vertex=changed(plan),
                    potentials=state.potentials,
                )
        return replace(state, status=Status.STATIONARY)


def _one_row(problem: GWProblem) -> _State:
    """Return the better of the couplings of C = h hᵀ, D = k kᵀ that sort h and k alike or against each other (theorem 12 f)."""
    h, k = (space.data[0, :] for space in (problem.x, problem.y))
    plans = (
        sorting_plan(h, problem.x.weights, sign * k, problem.y.weights)
        for sign in (1, -1)
    )
    states = (replace(_alone(problem, plan), vertex=plan) for plan in plans)
    return min(states, key=lambda state: state.relative_objective)


def _alone(problem: GWProblem, plan: Plan, cross: Array | None = None) -> _State:
    """Return the state at one coupling."""
    cross = problem.cross(plan) if cross is None else cross
    active = ActiveSet.of(problem, plan, cross)
    return _State(plan, active.relative_objective, None, None, cross, active)


def linear_program(
    problem: GWProblem,
    gradient: Array,
    start: SparsePlan | None,
    potentials: tuple[NumpyArray, NumpyArray] | None = None,
) -> Program:
    """Solve the linear program over couplings with the costs ``gradient`` (n, m), in float64 on the CPU; see :func:`exact`."""
    arrays = gradient, problem.x.weights, problem.y.weights
    cost, a, b = (
        np.ascontiguousarray(_array.to_numpy(v), dtype=np.float64) for v in arrays
    )
    return exact(cost, a, b, None if start is None else _to_numpy(start), potentials)


def _same_atoms(first: SparsePlan, second: SparsePlan) -> bool:
    """Tell whether two plans put mass on the same pairs."""
    if first.mass.shape != second.mass.shape:
        return False
    one, other = (
        np.sort(_array.to_numpy(plan.rows * plan.shape[1] + plan.cols))
        for plan in (first, second)
    )
    return np.array_equal(one, other)


def _to_numpy(plan: SparsePlan) -> SparsePlan:
    rows, cols, mass = (
        _array.to_numpy(part) for part in (plan.rows, plan.cols, plan.mass)
    )
    return changed(plan, rows=rows, cols=cols, mass=mass)


def _from_numpy(plan: SparsePlan, like: Array) -> SparsePlan:
    rows, cols, mass = (
        _array.from_numpy(part, like) for part in (plan.rows, plan.cols, plan.mass)
    )
    return changed(plan, rows=rows, cols=cols, mass=mass)
