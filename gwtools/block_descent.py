"""Block descent over plans and a space: what lowers the objective of a barycenter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, cast

from gwtools import _array
from gwtools._array import Array
from gwtools.fused import costs
from gwtools.history import Step, now, with_gap
from gwtools.plans import Plan
from gwtools.problems import GWProblem
from gwtools.results import Status
from gwtools.solvers import ConditionalGradient, Outcome, Solver, chosen_solver
from gwtools.solvers.refinement import judged
from gwtools.spaces import DenseSpace, Space
from gwtools.spaces.dense import dense_space

# Rounds in a row that lower the objective by less than floats resolve, after which a
# descent is at rest.
_STALLED = 20


class State(NamedTuple):
    """A barycenter, a plan to each space, and the mean objective of these."""

    middle: DenseSpace  # of k atoms
    plans: tuple[Plan, ...]
    objective: float


@dataclass(frozen=True, eq=False)
class Task:
    """What is minimised: spaces of positive weights, in units near 1.

    Parameters
    ----------
    spaces : tuple of S DenseSpace
        The spaces.
    shares : tuple of S float
        The weights λ.
    weights : array of shape (k,)
        The weights p of the barycenter's atoms.
    solver : Solver or None
        What searches for plans; None for the one that suits each problem.
    descent : ConditionalGradient
        What goes on from plans; its tolerance is that of the whole.
    alpha : float
        The share α of the matrices, beside features of all spaces; 1 for these alone.
    """

    spaces: tuple[DenseSpace, ...]
    shares: tuple[float, ...]
    weights: Array
    solver: Solver | None
    descent: ConditionalGradient
    alpha: float = 1.0

    def problems(self, middle: DenseSpace) -> list[GWProblem]:
        """Return the problems between a barycenter and each space."""
        if self.alpha == 1.0:
            return [GWProblem(middle, y) for y in self.spaces]
        return [GWProblem(middle, y, costs(middle, y), self.alpha) for y in self.spaces]

    def best(self, plans: Sequence[Plan]) -> DenseSpace:
        """Return the barycenter of the least mean objective for given plans."""
        matrix = best_matrix(self.spaces, self.shares, plans, self.weights)
        features = None
        if self.spaces[0].features is not None:
            features = best_features(self.spaces, self.shares, plans, self.weights)
        return dense_space(matrix, self.weights, features)

    def mean(self, values: Sequence[float]) -> float:
        """Return Σ_s λ_s value_s."""
        return math.fsum(
            share * value for share, value in zip(self.shares, values, strict=True)
        )

    def objective(self, middle: DenseSpace, plans: Sequence[Plan]) -> float:
        """Return the mean objective of the plans."""
        values = []
        for problem, plan in zip(self.problems(middle), plans, strict=True):
            values.append(float(problem.objective(plan)))
        return self.mean(values)

    def negligible(self, problems: Sequence[GWProblem]) -> float:
        """Return the mean change of the objectives that counts as none."""
        return self.mean([float(self.descent.negligible(each)) for each in problems])

    def resolved(self, problems: Sequence[GWProblem]) -> float:
        """Return the mean float error of the objectives."""
        return self.mean([float(each.float_error) for each in problems])

    def gap(self, state: State) -> float:
        """Return the mean Frank-Wolfe gap of the plans at the barycenter."""
        gaps = []
        for problem, plan in zip(self.problems(state.middle), state.plans, strict=True):
            outcome = judged(problem, Outcome(plan, Status.NOT_STATIONARY), 0.0)
            gaps.append(cast(float, outcome.frank_wolfe_gap))
        return self.mean(gaps)


@dataclass(eq=False)
class _Descent:
    """Rounds of plans and barycenter, of which none raises the objective.

    Parameters
    ----------
    task : Task
        What is minimised.
    state : State
        Where the last round led to; without plans before the first.
    most : int
        Rounds at most.
    steps : list of Step
        What each round led to.
    began : float
        When it began, by the clock of these.
    """

    task: Task
    state: State
    most: int
    steps: list[Step] = field(default_factory=list)
    began: float = field(default_factory=now)

    @property
    def is_over(self) -> bool:
        """Whether the rounds ran out."""
        return len(self.steps) >= self.most

    def round(self, is_search: bool) -> float:
        """Replace plans by better ones, then the space; return what that gained.

        Parameters
        ----------
        is_search : bool
            Whether plans are searched for, or improved from where they are.
        """
        task = self.task
        before = self.state
        problems = task.problems(before.middle)
        # 1. The plans, at the barycenter so far.
        plans = []
        for s, problem in enumerate(problems):
            plan = before.plans[s] if before.plans else None
            plans.append(_better_plan(task, problem, plan, is_search))
        # 2. The matrix and the features, of these plans.
        middle = task.best(plans)
        objective = task.objective(middle, plans)
        # Float errors alone may raise it. Where they do, the gap may still fall.
        if objective <= before.objective + task.resolved(problems):
            least = min(objective, before.objective)
            self.state = State(middle, tuple(plans), least)
        seconds = now() - self.began
        step = Step(len(self.steps) + 1, self.state.objective, None, None, seconds)
        self.steps.append(step)
        return before.objective - self.state.objective

    def descend(self) -> None:
        """Improve plans from where they are until that gains nothing that counts."""
        stalled = 0
        while not self.is_over:
            problems = self.task.problems(self.state.middle)
            negligible = self.task.negligible(problems)
            gain = self.round(False)
            if gain > negligible:
                continue
            if self.gap() <= negligible:
                return
            # Small steps may have a long way to go. Near the end each lowers the gap
            # by a share, when the objective is already as low as floats resolve.
            stalled = 0 if gain > self.task.resolved(problems) else stalled + 1
            if stalled >= _STALLED:
                return

    def gap(self) -> float:
        """Return the mean Frank-Wolfe gap after the last round, and enter it there."""
        gap = self.task.gap(self.state)
        with_gap(self.steps, gap)
        return gap


def minimised(
    task: Task,
    begins: Sequence[DenseSpace],
    most: int,
    others: Sequence[DenseSpace] = (),
) -> tuple[State, Status, tuple[Step, ...]]:
    """Take turns over plans and space until neither gains anything that counts.

    Descents begin at each space with plans that are searched for, and at the first and
    the other ones with those of one start each; the lowest goes on.

    Parameters
    ----------
    task : Task
        What is minimised.
    begins : sequence of DenseSpace
        The spaces of k atoms to begin with.
    most : int
        Rounds at most, of each descent.
    others : sequence of DenseSpace
        Further spaces to begin with, at which no plans are searched for.

    Returns
    -------
    (State, Status, tuple of Step)
        The best barycenter with its plans, why the descent ended, and its rounds.

    Raises
    ------
    KeyboardInterrupt
        If interrupted before the first round was done; later the best so far is
        returned.
    """
    ways = [(begin, True) for begin in begins]
    ways.insert(1, (begins[0], False))
    ways.extend((begin, False) for begin in others)
    descents = []
    for begin, is_search in ways:
        state = State(begin, (), math.inf)
        descents.append((_Descent(task, state, most), is_search))
    every = [descent for descent, _ in descents]
    try:
        for descent, is_search in descents:
            descent.round(is_search)
            descent.descend()
        status = _searched(_lowest(every))
    except KeyboardInterrupt:
        status = Status.STOPPED
        if not _lowest(every).steps:
            raise
    best = _lowest(every)
    return best.state, status, tuple(best.steps)


def _lowest(descents: Sequence[_Descent]) -> _Descent:
    """Return the first descent that none is below by what counts.

    Descents may end at one barycenter with its atoms in other orders, and float error
    must not choose between these.
    """
    lowest = min(descents, key=lambda descent: descent.state.objective)
    if not lowest.steps:
        return descents[0]
    task = lowest.task
    negligible = task.negligible(task.problems(lowest.state.middle))
    most = lowest.state.objective + negligible
    return next(each for each in descents if each.state.objective <= most)


def _searched(descent: _Descent) -> Status:
    """Search for better plans, and go on from them, until a search gains nothing."""
    task = descent.task
    while not descent.is_over:
        problems = task.problems(descent.state.middle)
        gain = descent.round(True)
        negligible = task.negligible(problems)
        if gain <= negligible:
            is_stationary = descent.gap() <= negligible
            return Status.STATIONARY if is_stationary else Status.NOT_STATIONARY
        descent.descend()
    return Status.MAX_ITERATIONS


def _better_plan(
    task: Task,
    problem: GWProblem,
    plan: Plan | None,
    is_search: bool,
) -> Plan:
    """Return a plan that is no worse than the given one."""
    if is_search:
        other = _found(task, problem)
    else:
        start = "product" if plan is None else plan
        other = replace(task.descent, init=start).run(problem).plan
    if plan is None:
        return other
    # What a search finds is not stationary yet: it must be worth going on from there.
    # A descent may lower the gap when the objective is as low as floats resolve.
    worth = -float(problem.float_error)
    if is_search:
        worth = float(task.descent.negligible(problem))
    gain = float(problem.objective(plan)) - float(problem.objective(other))
    return other if gain > worth else plan


def _found(task: Task, problem: GWProblem) -> Plan:
    """Search for a plan without a start."""
    solver = task.solver
    if solver is None:
        solver = chosen_solver(problem, False).solver
    return solver.run(problem).plan


def best_matrix(
    spaces: Sequence[Space],
    shares: Sequence[float],
    plans: Sequence[Plan],
    weights: Array,
) -> Array:
    """Return the matrix of the least mean objective for given plans.

    Parameters
    ----------
    spaces : sequence of S Space
        The spaces, outside any gradient graph.
    shares : sequence of S float
        Their weights λ, of sum 1.
    plans : sequence of S Plan
        Couplings of shape (k, n_s).
    weights : array of shape (k,)
        The weights p > 0 of the matrix' atoms.

    Returns
    -------
    array of shape (k, k)
        B = Σ_s λ_s π_s C_s π_sᵀ / (p pᵀ), symmetric.
    """
    parts = []
    for space, share, plan in zip(spaces, shares, plans, strict=True):
        half = plan.apply(space.dense())  # π C, (k, n)
        # C is symmetric: π (π C)ᵀ = π C πᵀ.
        parts.append(share * plan.apply(half.T))
    matrix = _array.total(parts) / (weights[:, None] * weights[None, :])
    return matrix / 2 + matrix.T / 2


def best_features(
    spaces: Sequence[Space],
    shares: Sequence[float],
    plans: Sequence[Plan],
    weights: Array,
) -> Array:
    """Return the features of the least mean objective for given plans.

    Parameters
    ----------
    spaces, shares, plans, weights
        As of :func:`best_matrix`; the spaces have features Y_s of shape (n_s, d).

    Returns
    -------
    array of shape (k, d)
        X = Σ_s λ_s π_s Y_s / p.
    """
    parts = []
    for space, share, plan in zip(spaces, shares, plans, strict=True):
        parts.append(share * plan.apply(space.features))
    return _array.total(parts) / weights[:, None]
