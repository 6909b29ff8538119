"""Conditional gradient over plans with free marginals, and moves of single atoms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast, final

from gwtools import _array
from gwtools._array import Array
from gwtools._check_free import SEMI_RELAXED
from gwtools.free_marginals import misses, rounded_free
from gwtools.free_problems import FreeProblem, listed_plan
from gwtools.plans import DensePlan, Plan, make_unchecked
from gwtools.problems import Quadratic
from gwtools.results import Status
from gwtools.solvers.active_set import ActiveSet
from gwtools.solvers.base import Callback, IterativeSolver, Outcome, gap_above
from gwtools.solvers.free_vertices import Vertex, steepest_vertex
from gwtools.spaces import Space
from gwtools.transport.programs import Program

_STALLED = 20  # steps in a row that hardly lower the objective
# Steps along the line to the vertex alone, before mixtures of all vertices are sought:
# these settle early on the face of the first few.
_STRAIGHT = 30


@dataclass(frozen=True, eq=False)
class _State:
    """A mixture of vertices, and what the next linear program starts from.

    Parameters
    ----------
    plan : Plan
        The plan π.
    relative_objective : float
        F(π), in squared units of C.
    cross : array of shape (n, m)
        Q(π).
    active : ActiveSet
        π as a mixture.
    status : Status or None
        Why the solver stops here, if it does.
    frank_wolfe_gap, gap_before : float or None
        The Frank-Wolfe gap of this plan, and of the one before the last step.
    program : Program or None
        The last transport program.
    stalled : int
        Steps in a row that did not lower the objective beyond float error.
    steps : int
        Steps since the start, or since an atom was moved.
    """

    plan: Plan
    relative_objective: float
    cross: Array
    active: ActiveSet
    status: Status | None = None
    frank_wolfe_gap: float | None = None
    gap_before: float | None = None
    program: Program | None = None
    stalled: int = 0
    steps: int = 0

    @property
    def epsilon(self) -> None:
        """Linear programs have no entropy."""
        return None


@final
@dataclass(frozen=True, eq=False)
class FreeDescent(IterativeSolver[_State]):
    """Descend to a stationary plan from one start, by fully corrective steps.

    As :class:`gwtools.ConditionalGradient` does over couplings.

    Parameters
    ----------
    first : Plan
        The plan to start from.
    exchange : bool
        Whether to move single atoms of x from a stationary semi-relaxed plan where that
        lowers the objective.
    """

    first: Any = None
    exchange: bool = True

    def numbers_held(self, x: Space, y: Space) -> float:
        """Estimate how many numbers are held: C, D, their squares, and costs."""
        matrices = 4.0 * (x.size**2 + y.size**2)
        return matrices + 12.0 * (x.size + 1.0) * (y.size + 1.0)

    def run(self, problem: Any, callback: Callback | None = None) -> Outcome:
        """Take steps until the gap is closed; see :meth:`IterativeSolver.run`."""
        problem = problem.detached()
        outcome = self._repeated(problem, callback)
        missed = misses(outcome.plan, problem.x, problem.y, problem.marginals)
        if missed <= max(4 * _array.epsilon(problem.x.weights), 1e-13):
            return outcome
        # Float errors of many mixtures add up.
        matrix = outcome.plan.dense()
        plan = rounded_free(matrix, problem.x, problem.y, problem.marginals)
        return replace(outcome, plan=plan)

    def accepted_gap(self, problem: Quadratic) -> float:
        """Return the decrease that the tolerance neglects, in squared units of C."""
        return self.tolerance * cast(float, problem.variation)

    def first_plan(self, problem: Quadratic) -> Plan:
        """Return the plan to start from."""
        return cast(Plan, self.first)

    def start(self, problem: Quadratic) -> _State:
        """Return the state at the plan to start from."""
        return _alone(problem, self.first)

    def potentials(self, problem: Quadratic, state: _State) -> tuple[Array, Array]:
        """Return zeros: no potentials of plans with free marginals are kept."""
        a = problem.x.weights
        b = problem.y.weights
        xp = _array.namespace(a)
        return xp.zeros_like(a), xp.zeros_like(b)

    def step(self, problem: Quadratic, state: _State) -> _State:
        """Solve the linear program at the plan and move to the best mixture."""
        free = cast(FreeProblem, problem)
        # 1. The steepest vertex and the Frank-Wolfe gap.
        gradient = free.gradient(state.cross)
        vertex = steepest_vertex(free, gradient, state.program)
        value = _array.number(state.plan.inner(gradient))
        gap = gap_above(vertex.lower, value)
        state = replace(
            state, frank_wolfe_gap=gap, gap_before=gap, program=vertex.program
        )
        negligible = cast(float, self.negligible(free))
        if gap <= negligible:
            return self._at_rest(free, state, gradient, negligible)
        # 2. The best mixture of this vertex and those before.
        following = self._corrected(free, state, vertex)
        decrease = state.relative_objective - following.relative_objective
        resolved = _array.epsilon(free.x.weights) * free.variation
        if decrease > resolved:
            return following
        # 3. Without a decrease that floating point resolves, twenty times in a row, the
        # plan is as good as it gets.
        stalled = state.stalled + 1
        if stalled >= _STALLED:
            return replace(state, status=Status.NOT_STATIONARY)
        return replace(following, stalled=stalled)

    def _corrected(self, problem: FreeProblem, state: _State, vertex: Vertex) -> _State:
        """Return the best mixture of the active plans and a vertex."""
        tolerance = 1e-2 * cast(float, self.negligible(problem))
        float_error = 16 * _array.epsilon(problem.x.weights)
        cross = problem.cross(vertex.plan)
        active = state.active
        if state.steps < _STRAIGHT:
            active = ActiveSet.of(problem, state.plan, state.cross)
        active = active.extended(problem, vertex.plan, cross)
        active = active.minimised(tolerance, float_error)
        plan = active.plan()
        if plan is not vertex.plan:
            cross = problem.cross(plan)
        return _State(
            plan=plan,
            relative_objective=active.relative_objective,
            cross=cross,
            active=active,
            gap_before=state.gap_before,
            program=vertex.program,
            steps=state.steps + 1,
        )

    def _at_rest(
        self,
        problem: FreeProblem,
        state: _State,
        gradient: Array,
        negligible: float,
    ) -> _State:
        """Return a stationary state, or the one after the best move of an atom."""
        if self.exchange and problem.marginals == SEMI_RELAXED:
            plan = _moved(problem, state.plan, gradient, negligible)
            if plan is not None:
                moved = _alone(problem, plan)
                # Moves strictly descend, so that no plan comes twice.
                if moved.relative_objective < state.relative_objective - negligible:
                    return replace(moved, gap_before=state.gap_before)
        return replace(state, status=Status.STATIONARY)


def _alone(problem: Quadratic, plan: Plan) -> _State:
    """Return the state at one plan."""
    cross = problem.cross(plan)
    active = ActiveSet.of(problem, plan, cross)
    return _State(
        plan=plan,
        relative_objective=active.relative_objective,
        cross=cross,
        active=active,
    )


def _moved(
    problem: FreeProblem,
    plan: Plan,
    gradient: Array,
    negligible: float,
) -> Plan | None:
    """Return the plan after the best move of one atom of x; None where none descends.

    The whole mass a_i of atom i goes to atom j instead: in the direction d = a_i e_j −
    π_i of row i the objective changes by ⟨G_i, d⟩ + Σ E_jl d_j d_l, where E_jl = D_jl²
    − 2 C_ii D_jl, or the share of F of it (THEORY.md, theorem 18).
    """
    a = problem.x.weights
    C, D = problem.matrices
    xp = _array.namespace(a)
    matrix = plan.dense()
    diagonal = xp.linalg.diagonal(C)  # (n,)
    _, squares = problem.squares
    # 1. Slopes ⟨G_i, d⟩.
    slopes = a[:, None] * gradient - xp.vecdot(gradient, matrix)[:, None]
    # 2. Curvatures a² E_jj − 2 a (E π_i)_j + π_iᵀ E π_i.
    image = matrix @ squares - 2 * diagonal[:, None] * (matrix @ D)  # E π_i, (n, m)
    at_targets = xp.linalg.diagonal(squares)[None, :] - 2 * (
        diagonal[:, None] * xp.linalg.diagonal(D)[None, :]
    )
    own = xp.vecdot(matrix, image)[:, None]
    weights = a[:, None]
    curvatures = weights**2 * at_targets - 2 * weights * image + own
    curvatures = problem.share * curvatures  # the linear term has none
    # 3. The best of them.
    changes = _array.to_numpy(slopes + curvatures)
    best = int(changes.argmin())
    i, j = divmod(best, changes.shape[1])
    if not float(changes[i, j]) < -negligible:
        return None
    rows = xp.arange(matrix.shape[0], device=_array.device(a))
    cols = xp.arange(matrix.shape[1], device=_array.device(a))
    in_row = (rows == i)[:, None]
    target = in_row & (cols == j)[None, :]
    zeros = xp.zeros_like(matrix)
    moved = xp.where(in_row, zeros, matrix) + xp.where(target, weights, zeros)
    return listed_plan(make_unchecked(DensePlan, matrix=moved))
