"""Conditional gradient over unbalanced plans, in which the divergences stay whole."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast, final

import numpy as np

from gwtools import _array
from gwtools._array import Array, NumpyArray
from gwtools.free_problems import listed_plan
from gwtools.plans import DensePlan, Plan, make_unchecked
from gwtools.problems import Quadratic
from gwtools.results import Status
from gwtools.solvers.base import Callback, IterativeSolver, Outcome, gap_above
from gwtools.solvers.soft_paths import soft_path
from gwtools.solvers.unbalanced_shapes import Shapes
from gwtools.spaces import Space
from gwtools.unbalanced_problems import UnbalancedProblem

_STALLED = 5  # steps in a row that hardly lower the objective
# Steps along the line alone, before plans on the support are sought: these settle early
# on the support of the first few.
_STRAIGHT = 10


@dataclass(frozen=True, eq=False)
class _State:
    """A shape, and what was found out at it.

    Parameters
    ----------
    plan : Plan
        The shape times its best mass.
    relative_objective : float
        The objective, in squared units of C.
    shapes : Shapes
        L, of which the shape is an argument.
    shape : array of shape (n, m)
        The probability π.
    gradient : array of shape (n, m)
        ∇F(π).
    value : float
        L(π).
    status : Status or None
        Why the solver stops here, if it does.
    frank_wolfe_gap, gap_before : float or None
        The decrease that L with F linearised promises at this plan, and at the one
        before the last step.
    stalled : int
        Steps in a row that did not lower the objective beyond float error.
    steps : int
        Steps since the start.
    """

    plan: Plan
    relative_objective: float
    shapes: Shapes
    shape: NumpyArray
    gradient: NumpyArray
    value: float
    status: Status | None = None
    frank_wolfe_gap: float | None = None
    gap_before: float | None = None
    stalled: int = 0
    steps: int = 0

    @property
    def epsilon(self) -> None:
        """The plan itself has no entropy."""
        return None


@final
@dataclass(frozen=True, eq=False)
class UnbalancedDescent(IterativeSolver[_State]):
    """Descend to a stationary shape from one start.

    Each step minimises L with F linearised and searches the line to the solution; later
    ones minimise L itself on the pairs that have mass in either.

    Parameters
    ----------
    first : Plan
        The plan to start from, of any positive mass.
    softness : float
        Where above 0, a soft path of this ε leads away from that plan first.
    seed : int or None
        Of random numbers that the masses are multiplied by where a soft path begins.
    """

    first: Any = None
    softness: float = 0.0
    seed: int | None = None

    def run(self, problem: Any, callback: Callback | None = None) -> Outcome:
        """Take steps until the gap is closed; see :meth:`IterativeSolver.run`."""
        problem = problem.detached()
        return _or_without_mass(problem, self._repeated(problem, callback))

    def numbers_held(self, x: Space, y: Space) -> float:
        """Estimate how many numbers are held: matrices, normal equations, supports."""
        atoms = float(x.size + y.size)
        return 8.0 * (x.size**2 + y.size**2) + 24.0 * x.size * y.size + 64.0 * atoms**2

    def accepted_gap(self, problem: Quadratic) -> float:
        """Return the decrease that the tolerance neglects, in squared units of C."""
        return self.tolerance * cast(float, problem.variation)

    def first_plan(self, problem: Quadratic) -> Plan:
        """Return the plan to start from, with its best mass."""
        return self.start(problem).plan

    def potentials(self, problem: Quadratic, state: _State) -> tuple[Array, Array]:
        """Return zeros: no potentials of plans with free marginals are kept."""
        a = problem.x.weights
        b = problem.y.weights
        xp = _array.namespace(a)
        return xp.zeros_like(a), xp.zeros_like(b)

    def start(self, problem: Quadratic) -> _State:
        """Return the state at the plan to start from."""
        unbalanced = cast(UnbalancedProblem, problem)
        shapes = Shapes.of(unbalanced)
        matrix = _array.to_numpy(self.first.dense()).astype(np.float64)
        shapes = replace(shapes, held_mass=float(matrix.sum()))
        shape = matrix / matrix.sum()
        if self.softness > 0.0:
            shape = soft_path(shapes, shape, self.softness, self.seed)
        return _at(unbalanced, shapes, shape)

    def step(self, problem: Quadratic, state: _State) -> _State:
        """Minimise L with F linearised, and move to the best shape found."""
        unbalanced = cast(UnbalancedProblem, problem)
        shapes = state.shapes
        negligible = cast(float, self.negligible(problem))
        # 1. The gap: L with F linearised at π, less what it is at least.
        program = shapes.program(state.shape, state.gradient)
        linearised = float(np.vdot(state.gradient, state.shape))
        linearised += shapes.divergences(state.shape)
        gap = shapes.decrease(state.value, gap_above(program.lower, linearised))
        state = replace(state, frank_wolfe_gap=gap, gap_before=gap)
        if gap <= negligible:
            return replace(state, status=Status.STATIONARY)
        # 2. The best shape on the line, and then on the support of both ends.
        shape = shapes.searched(state.shape, state.gradient, program.plan)
        shape = shapes.completed(shape, program.plan)
        if state.steps >= _STRAIGHT or state.stalled > 0:
            support = (shape > 0.0) | (program.plan > 0.0)
            if np.count_nonzero(support) <= 4 * sum(support.shape):
                shape = shapes.settled(shape, support, 1e-6 * negligible)
        following = _at(unbalanced, shapes, shape)
        following = replace(following, gap_before=gap, steps=state.steps + 1)
        decrease = state.relative_objective - following.relative_objective
        resolved = np.finfo(float).eps * unbalanced.variation
        if decrease > resolved:
            return following
        # 3. Without a decrease that floating point resolves, some times in a row, the
        # shape is as good as it gets.
        stalled = state.stalled + 1
        if stalled >= _STALLED:
            return replace(state, status=Status.NOT_STATIONARY)
        if decrease < 0.0:
            following = replace(state, steps=state.steps + 1)
        return replace(following, stalled=stalled)


def _or_without_mass(problem: UnbalancedProblem, outcome: Outcome) -> Outcome:
    """Return the plan without mass where costs above 0 make it better.

    It is a local minimum then, which no shape leads to.
    """
    if problem.linear is None or not float(problem.linear.least) > 0.0:
        return outcome
    if _array.number(problem.objective(outcome.plan)) <= problem.price:
        return outcome
    nothing = make_unchecked(DensePlan, matrix=0 * outcome.plan.dense())
    return replace(outcome, plan=nothing, status=Status.STATIONARY, frank_wolfe_gap=0.0)


def _at(problem: UnbalancedProblem, shapes: Shapes, shape: NumpyArray) -> _State:
    """Return the state at a shape, with its best mass."""
    shapes = shapes.massed(shape)
    gradient = shapes.gradient(shape)
    value = shapes.value(shape, gradient)
    masses = _array.from_numpy(shapes.mass(value) * shape, problem.x.weights)
    plan = listed_plan(make_unchecked(DensePlan, matrix=masses))
    return _State(
        plan=plan,
        relative_objective=shapes.objective(value),
        shapes=shapes,
        shape=shape,
        gradient=gradient,
        value=value,
    )
