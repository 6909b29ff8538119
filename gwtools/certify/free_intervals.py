"""Intervals of the least objective over plans with free marginals (theorem 18)."""

from __future__ import annotations

import math

import numpy as np

from gwtools import _array
from gwtools.bounds.enclosures import EnclosedPair
from gwtools.bounds.float_error import Bound, gamma
from gwtools.bounds.row_minima import RowsSide, row_minima
from gwtools.certify.intervals import (
    CertifiedObjective,
    finite_or_zero,
    interval_of_bounds,
)
from gwtools.certify.objectives import enclosed
from gwtools.certify.plans import restricted, widened
from gwtools.free_marginals import (
    FreeMarginals,
    Partial,
    Unbalanced,
    largest_root,
    misses,
)
from gwtools.free_problems import FreeProblem, listed_plan
from gwtools.history import now
from gwtools.plans import DensePlan, Plan, SparsePlan
from gwtools.preparation import Prepared, prepare
from gwtools.problems import GWProblem
from gwtools.spaces import Space, converted, detached
from gwtools.transport.local_distributions import centred
from gwtools.unbalanced_problems import UnbalancedProblem, free_problem

NONNEGATIVITY = "nonnegativity"
THIRD = "third"


def free_interval(
    x: Space,
    y: Space,
    plan: Plan,
    marginals: FreeMarginals,
    effort: str,
    tolerance: float,
) -> CertifiedObjective:
    """Return the certificate of a plan with free marginals, in the given units.

    Parameters
    ----------
    x, y : Space
        The spaces, with uniform weights where none are read.
    plan : Plan
        The plan, on all atoms.
    marginals : "semi_relaxed", Partial or Unbalanced
        Which plans there are.
    effort : str
        From "cubic" on the bound by minima over rows is computed, but for unbalanced
        plans, which may have no mass.
    tolerance : float
        Width that counts as closed because it was asked for, in squared units of C.
    """
    # 1. The same in float64, on the atoms of positive weight, in units near 1.
    ready = prepare(
        converted(detached(x), _array.widen),
        converted(detached(y), _array.widen),
        beside=largest_root(marginals),
    )
    problem = free_problem(ready.x, ready.y, marginals, ready.unit)
    plan = _on_support(widened(plan), ready)
    pair = enclosed(GWProblem(ready.x, ready.y))
    upper = _upper(problem, pair, plan)
    # 2. Lower bounds: a sum of squares is not below 0.
    bounds = {NONNEGATIVITY: 0.0}
    seconds = {}
    has_mass = not isinstance(marginals, Unbalanced)
    if effort in ("cubic", "quartic") and has_mass:
        started = now()
        bounds[THIRD] = float(_third(ready, pair, marginals).lower)
        seconds[THIRD] = now() - started
    # 3. The interval, with the width that float errors of the values account for.
    width = float(pair.float_error_above(finite_or_zero(max(bounds.values()))))
    return interval_of_bounds(
        bounds, seconds, upper, width, ready.unit, tolerance, of_plan=True
    )


def _on_support(plan: Plan, ready: Prepared) -> Plan:
    """Restrict a plan to the atoms of positive weight, also one that has no mass."""
    masses = plan.masses
    xp = _array.namespace(masses)
    if bool(xp.any(masses > 0)):
        return listed_plan(restricted(plan, ready))
    shape = (ready.x.size, ready.y.size)
    zeros = xp.zeros(shape, dtype=masses.dtype, device=_array.device(masses))
    return DensePlan(zeros)


def _upper(problem: FreeProblem, pair: EnclosedPair, plan: Plan) -> Bound:
    """Return a plan's objective, and the same rounded up for the nearest plan."""
    if isinstance(problem, UnbalancedProblem):
        return _with_penalties(problem, pair, plan)
    value = _array.number(problem.objective(plan))
    return _distortion(problem, pair, plan, value)


def _with_penalties(
    problem: UnbalancedProblem, pair: EnclosedPair, plan: Plan
) -> Bound:
    """Return a plan's objective with its penalties, and the same rounded up.

    Every plan competes, so that none nearby is meant; masses and weights are off by
    their float errors alone.
    """
    distortion = _array.number(problem.distortion(plan))
    least = _distortion(problem, pair, plan, distortion).upper
    value = _array.number(problem.objective(plan))
    penalties = max(0.0, value - distortion)
    terms = sum(problem.shape) + int(plan.masses.shape[0])
    terms += pair.x.radii.weights + pair.y.radii.weights + 40
    error = float(gamma(terms)) * (value + problem.size_of_penalties(plan))
    return Bound(value, 0.0, least + penalties + error)


def _distortion(
    problem: FreeProblem, pair: EnclosedPair, plan: Plan, value: float
) -> Bound:
    """Return F of a plan, and the same rounded up for the nearest plan."""
    if problem.x.largest() == problem.y.largest() == 0.0:
        return Bound(0.0, 0.0, 0.0)
    missed = _missed_mass(problem, pair, plan)
    if isinstance(plan, SparsePlan):
        atoms = plan.masses.shape[0]
        return Bound(value, 0.0, float(pair.squares_upper(value, atoms, missed)))
    # A matrix of many masses: its objective is a difference of sums, each of terms up
    # to Λ² and rounded n + m times, at most.
    _, size = problem.largest
    n, m = problem.shape
    terms = 4 * (n + m) + 2 * (pair.x.radii.weights + pair.y.radii.weights) + 60
    summed = value + 8 * float(gamma(terms)) * (size * (1 + missed)) ** 2
    return Bound(value, 0.0, float(pair.squares_upper(summed, n + m, missed)))


def _missed_mass(problem: FreeProblem, pair: EnclosedPair, plan: Plan) -> float:
    """Bound the mass between a plan and the nearest one of exact weights.

    Scaling down rows and columns removes what exceeds their weights; what is then
    missing of the mass is spread. So no more than twice what is missed moves.
    """
    missed = misses(plan, problem.x, problem.y, problem.marginals)
    n, m = plan.shape
    omega = pair.x.radii.weights + pair.y.radii.weights
    terms = n + m + plan.masses.shape[0] + omega
    return float(1.01 * 2 * missed + 8 * gamma(terms))


def _third(ready: Prepared, pair: EnclosedPair, marginals: FreeMarginals) -> Bound:
    """Return the bound by minima over rows; of partial plans the better of both sides.

    The masses of rows are bounded by a there, and those of columns by b.
    """
    sides = [
        RowsSide(
            matrix=np.ascontiguousarray(centred(space).matrix),
            weights=_array.to_numpy(space.weights),
            omega=float(side.radii.weights),
            entries=float(side.radii.entries),
        )
        for space, side in ((ready.x, pair.x), (ready.y, pair.y))
    ]
    x, y = sides
    if not isinstance(marginals, Partial):
        return row_minima(x, y, 1.0)
    both = [row_minima(x, y, marginals.mass), row_minima(y, x, marginals.mass)]
    return max(both, key=lambda bound: (bound.lower, -math.inf))
