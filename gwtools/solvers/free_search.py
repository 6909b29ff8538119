"""A search over plans with free marginals: descents from a few deterministic starts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import cast

import numpy as np
from scipy.spatial.distance import cdist

from gwtools import _array, _check, _check_free
from gwtools._array import Array, NumpyArray
from gwtools._check_free import KL, SEMI_RELAXED
from gwtools.free_marginals import (
    FreeMarginals,
    Partial,
    Unbalanced,
    below_weights,
    misses,
    require_marginals,
    rounded_free,
)
from gwtools.free_problems import FreeProblem
from gwtools.history import now
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
from gwtools.solvers.base import Callback, Outcome, Progress, is_true
from gwtools.solvers.conditional_gradient import ConditionalGradient
from gwtools.solvers.free_descent import FreeDescent
from gwtools.solvers.free_vertices import cheapest_part, first_vertex
from gwtools.solvers.starts import product_plan, sorting_coupling
from gwtools.solvers.unbalanced_descent import UnbalancedDescent
from gwtools.start_records import Start, Starts
from gwtools.transport.local_distributions import transports
from gwtools.unbalanced_problems import UnbalancedProblem

_RANDOM = 6  # random vertices among the starts
_LEVELS = 64  # quantiles by which parts of rows are compared
# How soft the paths are by which unbalanced shapes descend, beside the straight one.
_SOFTNESS = (0.5, 0.2, 0.1)
# Masses s' > s of which parts are starts, as shares of the way from s to 1.
_LARGER = (0.25, 0.5, 0.75)
_MOST_ROWS = 500  # atoms up to which distributions of distances are compared

MakePlan = Callable[[], Plan]
MakeCosts = Callable[[], Array]
Descent = FreeDescent | UnbalancedDescent
Trials = dict[str, Callable[[], Descent]]


@dataclass(frozen=True, eq=False)
class FreeSearch:
    """What answers a problem with free marginals.

    Parameters
    ----------
    settings : ConditionalGradient or None
        A solver for one start; None for a few starts, of which the best is kept.
    """

    settings: ConditionalGradient | None = None

    @property
    def name(self) -> str:
        """What a result calls it."""
        if self.settings is None:
            return "auto: ConditionalGradient() from a few starts"
        return str(self.settings)

    def descent(self, marginals: FreeMarginals) -> Descent:
        """Return the solver that descends from a start."""
        settings = self.settings or ConditionalGradient()
        if isinstance(marginals, Unbalanced) and marginals.penalty == KL:
            return UnbalancedDescent(
                tolerance=settings.tolerance, max_iterations=settings.max_iterations
            )
        return FreeDescent(
            tolerance=settings.tolerance,
            max_iterations=settings.max_iterations,
            exchange=settings.exchange,
        )

    def on_atoms(self, ready: Prepared, shape: tuple[int, int]) -> FreeSearch:
        """Return the search whose ``init`` is cut to the atoms that are kept."""
        if self.settings is None:
            return self
        return FreeSearch(self.settings.on_atoms(ready, shape))

    def run(self, problem: FreeProblem, callback: Callback | None) -> Outcome:
        """Answer the problem, from the start given or from a few.

        Parameters
        ----------
        problem : FreeProblem
            The problem.
        callback : callable or None
            Called after each step of each start, counted through; True ends the search.
        """
        problem = problem.detached()
        descent = self.descent(problem.marginals)
        if self.settings is None:
            trials = _trials(descent, problem)
            return _best_of(descent, problem, trials, callback)
        first: Plan = product_of(problem)
        if not isinstance(self.settings.init, str):
            first = given_free_plan(self.settings.init, problem)
        alone = replace(descent, first=first)
        if isinstance(alone, FreeDescent):
            return alone.run(problem, callback)
        # One start, by several paths.
        paths = _paths(alone, "start given", _RANDOM // 2)
        outcome = _best_of(descent, problem, paths, callback)
        return replace(outcome, starts=None)


class _Counted:
    """A callback that counts the steps of all starts, and remembers a wish to stop."""

    def __init__(self, callback: Callback | None) -> None:
        self.callback = callback
        self.before = 0
        self.stopped = False

    def __call__(self, progress: Progress) -> bool:
        """Pass a step on under the number that it has among all."""
        if self.callback is not None:
            counted = replace(progress, iteration=self.before + progress.iteration)
            self.stopped = is_true(self.callback(counted))
        return self.stopped


def _best_of(
    descent: Descent,
    problem: FreeProblem,
    trials: Trials,
    callback: Callback | None,
) -> Outcome:
    """Make all descents and return the outcome of the best one."""
    counted = _Counted(callback)
    negligible = descent.negligible(problem)
    outcomes: list[Outcome] = []
    objectives: list[float] = []
    records: list[Start] = []
    for name, make in trials.items():
        began = now()
        outcome = make().run(problem, counted)
        objective = _array.number(problem.objective(outcome.plan))
        counted.before += outcome.iterations
        seconds = now() - began
        outcomes.append(outcome)
        objectives.append(objective)
        records.append(
            Start(name, objective, outcome.iterations, seconds, False, False)
        )
        if counted.stopped or objective <= problem.floor + problem.float_error:
            break
    # Of starts that are as good up to float error, the first.
    ranked = [value if math.isfinite(value) else math.inf for value in objectives]
    least = min(ranked)
    best = next(
        k for k, value in enumerate(ranked) if value <= least + problem.float_error
    )
    made = []
    for k, record in enumerate(records):
        reached = objectives[k] <= objectives[best] + negligible
        made.append(record._replace(reached=bool(reached), won=k == best))
    outcome = replace(outcomes[best], starts=Starts(tuple(made)))
    if counted.stopped and not outcome.status.success:
        outcome = replace(outcome, status=Status.STOPPED)
    return outcome


def product_of(problem: FreeProblem) -> DensePlan:
    """Return the product plan s · a ⊗ b, where b is uniform if it is not read."""
    product = product_plan(problem)
    return make_unchecked(DensePlan, matrix=problem.mass * product.matrix)


def _trials(descent: Descent, problem: FreeProblem) -> Trials:
    """Return what makes the descents of a search, by name, in their order."""
    trials: Trials = {}
    for name, make in _starts(problem).items():
        trials[name] = partial(_from_start, descent, make)
    if not isinstance(descent, UnbalancedDescent):
        return trials
    product = replace(descent, first=product_of(problem))
    return _paths(product, "product plan", _RANDOM) | trials


def _from_start(descent: Descent, make: MakePlan) -> Descent:
    """Return a descent from a start that is made now."""
    return replace(descent, first=make())


def _paths(descent: UnbalancedDescent, name: str, count: int) -> Trials:
    """Return descents from one start: straight, by soft paths, and by random ones."""
    trials: Trials = {name: lambda: descent}
    for softness in _SOFTNESS:
        soft = replace(descent, softness=softness)
        trials[f"{name}, by a path of softness {softness:g}"] = partial(_itself, soft)
    for seed in range(count):
        random = replace(descent, softness=_SOFTNESS[0], seed=seed)
        trials[f"{name}, by random path {seed + 1}"] = partial(_itself, random)
    return trials


def _itself(descent: Descent) -> Descent:
    """Return a descent that is made already."""
    return descent


def _starts(problem: FreeProblem) -> dict[str, MakePlan]:
    """Return what makes the starts, by name, in their order."""
    x = problem.x
    y = problem.y
    balanced = GWProblem(x, y, problem.features, problem.alpha)

    def scaled(plan: Plan) -> Plan:
        return _times(plan, problem.mass)

    def solved() -> Plan:
        return scaled(ConditionalGradient().run(balanced).plan)

    by_total_variation = isinstance(problem, UnbalancedProblem) and problem.is_partial
    starts: dict[str, MakePlan] = {
        "product plan": lambda: product_of(problem),
        "sorting coupling": lambda: scaled(sorting_coupling(balanced)),
        "balanced coupling": solved,
    }
    if problem.linear is not None:
        linear = problem.linear.costs
        starts["linear transport"] = lambda: first_vertex(problem, linear)
    rows = cache(partial(_costs_of_rows, problem))
    if max(problem.shape) <= _MOST_ROWS:
        starts["distributions of distances"] = partial(_first_of, problem, rows)
    if isinstance(problem.marginals, Partial) or by_total_variation:
        # What is far away is mostly left out: the rest of it counts for nothing here.
        for part in (1.0, 0.5):
            name = f"nearest {part:g} of the mass"
            starts[name] = partial(_of_nearest, problem, part)
    if by_total_variation:
        for softness in (0.0, *_SOFTNESS):
            name = f"divergences, by a path of softness {softness:g}"
            starts[name] = partial(_by_divergences, problem, softness)
    if isinstance(problem, UnbalancedProblem) and not problem.is_partial:
        starts["semi-relaxed plan"] = partial(_semi_relaxed, problem)
        starts["nearest pair"] = partial(_nearest_pair, problem)
        # Random paths from the product plan lead further than random vertices.
        return starts
    for seed in range(_RANDOM):
        starts[f"random vertex {seed + 1}"] = partial(_random_vertex, problem, seed)
    if isinstance(problem.marginals, Partial):
        starts |= _parts(problem, rows)
    return starts


def _parts(problem: FreeProblem, rows: MakeCosts) -> dict[str, MakePlan]:
    """Return what makes starts that are parts of plans of larger masses.

    Where more mass must be matched, what a descent finds depends less on single pairs.
    """
    starts: dict[str, MakePlan] = {}
    for part in _LARGER:
        mass = problem.mass + part * (1 - problem.mass)
        if not problem.mass < mass < 1:
            continue
        larger = replace(problem, marginals=Partial(mass))
        first = partial(_of_nearest, larger, 1.0)
        name = f"part of a plan of mass {mass:.3g}"
        starts[name] = partial(_part_of_descent, problem, larger, first)
        if part == _LARGER[1] and max(problem.shape) <= _MOST_ROWS:
            first = partial(_first_of, larger, rows)
            name = f"{name}, by distributions"
            starts[name] = partial(_part_of_descent, problem, larger, first)
    return starts


def _first_of(problem: FreeProblem, costs: MakeCosts) -> Plan:
    """Return a vertex that is optimal for costs, which are computed only now."""
    return first_vertex(problem, costs())


def _part_of_descent(
    problem: FreeProblem, larger: FreeProblem, first: MakePlan
) -> Plan:
    """Return a part of the plan that a descent finds at a larger mass."""
    return part_of(problem, FreeDescent(first=first()).run(larger).plan)


def part_of(problem: FreeProblem, plan: Plan) -> Plan:
    """Return a partial plan π′ ≤ π of a plan π of a larger mass: the better of two.

    They are π scaled down, whose F falls by the square of the factor (theorem 22 iv),
    and the part of π that costs least by the gradient at that.
    """
    rows, _ = plan.marginals()
    scaled = _times(plan, problem.mass / float(_array.to_numpy(rows).sum()))
    gradient = problem.gradient(problem.cross(scaled))
    cheapest = cheapest_part(plan, gradient, problem.mass)
    candidates = (scaled, cheapest)
    objectives = [_array.number(problem.objective(each)) for each in candidates]
    return candidates[int(np.argmin(objectives))]


def _by_divergences(problem: FreeProblem, softness: float) -> Plan:
    """Return the plan found with divergences at the same price, below the weights."""
    rho = cast(Unbalanced, problem.marginals).prices
    smooth = replace(problem, marginals=Unbalanced(rho))
    descent = UnbalancedDescent(first=product_of(problem), softness=softness)
    matrix = descent.run(smooth).plan.dense()
    below = below_weights(matrix, problem.x.weights, problem.y.weights)
    return make_unchecked(DensePlan, matrix=below)


def _semi_relaxed(problem: FreeProblem) -> Plan:
    """Return the plan that is found where the weights of y are free."""
    relaxed = FreeProblem(
        problem.x, problem.y, SEMI_RELAXED, problem.features, problem.alpha
    )
    return FreeDescent(first=product_of(relaxed)).run(relaxed).plan


def _nearest_pair(problem: UnbalancedProblem) -> Plan:
    """Return the plan of one pair of atoms that is best of these.

    Its distortion is that of both diagonals, and its divergences are −log a_i and −log
    b_j. Where prices are low, few atoms are worth their distortion.
    """
    C, D = problem.matrices
    first, second = problem.unbalanced.prices
    xp = _array.namespace(C)
    gaps = xp.linalg.diagonal(C)[:, None] - xp.linalg.diagonal(D)[None, :]
    of_rows = 2 * first * xp.log(problem.x.weights)
    of_cols = 2 * second * xp.log(problem.y.weights)
    costs = _array.to_numpy(
        _with_linear(problem, gaps**2) - of_rows[:, None] - of_cols[None, :]
    )
    matrix = np.zeros(costs.shape)
    matrix.flat[int(costs.argmin())] = 1.0
    return make_unchecked(
        DensePlan, matrix=_array.from_numpy(matrix, problem.x.weights)
    )


def _times(plan: Plan, mass: float) -> Plan:
    """Return a plan times a number."""
    if mass == 1.0:
        return plan
    if isinstance(plan, SparsePlan):
        return changed(plan, mass=mass * plan.mass)
    return make_unchecked(DensePlan, matrix=mass * plan.dense())


def _costs_of_rows(problem: FreeProblem) -> Array:
    """Return W_2² between the rows of C and of D, with the costs of the features."""
    C, D = problem.matrices
    a = problem.x.weights
    b = problem.y.weights
    first, weights, second, others = (
        _array.to_numpy(array).astype(np.float64) for array in (C, a, D, b)
    )
    costs = transports(first, weights, second, others)
    return _with_linear(problem, _array.from_numpy(costs, a))


def _of_nearest(problem: FreeProblem, part: float) -> Plan:
    """Return the vertex whose costs compare what is near to an atom on either side.

    The costs are W_2² between the least values in a row of C and in one of D: those of
    a part of the mass that is moved.
    """
    x = problem.x
    y = problem.y
    C, D = problem.matrices
    levels = (np.arange(_LEVELS) + 0.5) / _LEVELS * problem.mass * part
    nearest_x = _quantiles(C, x.weights, levels)
    nearest_y = _quantiles(D, y.weights, levels)
    costs = cdist(nearest_x, nearest_y, "sqeuclidean")
    costs = _with_linear(problem, _array.from_numpy(costs, x.weights))
    return first_vertex(problem, costs)


def _with_linear(problem: FreeProblem, costs: Array) -> Array:
    """Return the share of costs that stand for F, with those of the linear term."""
    if problem.linear is None:
        return costs
    return problem.share * costs + problem.linear.costs


def _quantiles(matrix: Array, weights: Array, levels: NumpyArray) -> NumpyArray:
    """Return the quantiles (n, k) of each row of a matrix, at ascending levels."""
    values = _array.to_numpy(matrix).astype(np.float64)
    masses = _array.to_numpy(weights).astype(np.float64)
    order = np.argsort(values, axis=1)
    last = values.shape[1] - 1
    rows = []
    for row, ascending in zip(values, order, strict=True):
        places = np.searchsorted(np.cumsum(masses[ascending]), levels)
        rows.append(row[ascending[np.minimum(places, last)]])
    return np.stack(rows)


def _random_vertex(problem: FreeProblem, seed: int) -> Plan:
    """Return the vertex of random costs, the same for every call."""
    rng = np.random.default_rng(seed)
    numbers = rng.standard_normal(problem.shape)
    costs = _array.from_numpy(numbers, problem.x.weights)
    return first_vertex(problem, costs)


def given_free_plan(given: Plan | Array, problem: FreeProblem) -> Plan:
    """Return a given start, rounded where it misses its marginals a little.

    Parameters
    ----------
    given : Plan or array of shape (n, m)
        The start; called ``init`` in errors.
    problem : FreeProblem
        The problem.

    Raises
    ------
    TypeError, ValueError
        If it is of another library, dtype or shape than the spaces, or misses its
        marginals by more than a thousandth of the mass.
    """
    x = problem.x
    y = problem.y
    plan = detached_plan(as_plan(given, problem.shape, "init"))
    rows, _ = plan.marginals()
    _check.same_kind(rows, x.weights, "init", "the spaces")
    if isinstance(problem.marginals, Unbalanced):
        xp = _array.namespace(rows)
        _check_free.start_has_mass(_array.number(xp.sum(rows)))
    require_marginals(plan, x, y, problem.marginals, "init")
    float_error = max(4 * _array.epsilon(x.weights), 1e-13)
    if misses(plan, x, y, problem.marginals) <= float_error:
        return plan
    return rounded_free(plan.dense(), x, y, problem.marginals)
