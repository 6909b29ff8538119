"""Intervals of the least objective over plans with free marginals (theorem 18)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gwtools import _array
from gwtools.bounds import certified_fused
from gwtools.bounds.certified import AffineMinorant
from gwtools.bounds.enclosures import EnclosedPair
from gwtools.bounds.float_error import UNDERFLOW, Bound, gamma
from gwtools.bounds.row_minima import RowCosts, RowsSide
from gwtools.certify.free_costs import FreeCosts
from gwtools.certify.intervals import (
    CertifiedObjective,
    finite_or_zero,
    interval_of_bounds,
)
from gwtools.certify.linear_costs import (
    TRANSPORT,
    fused_interval,
)
from gwtools.certify.objectives import enclosed
from gwtools.certify.plans import restricted, widened
from gwtools.free_marginals import (
    FreeMarginals,
    Partial,
    Unbalanced,
    largest_root,
    mass_of,
    misses,
)
from gwtools.free_problems import FreeProblem, listed_plan
from gwtools.fused import Fused
from gwtools.history import now
from gwtools.plans import DensePlan, Plan, SparsePlan
from gwtools.preparation import Prepared, prepare
from gwtools.problems import GWProblem
from gwtools.spaces import Space, converted, detached
from gwtools.transport.local_distributions import centred
from gwtools.unbalanced_problems import (
    UnbalancedProblem,
    free_problem,
    least_of_mass,
)

NONNEGATIVITY = "nonnegativity"
THIRD = "third"
MASS = "mass"


def free_interval(
    x: Space,
    y: Space,
    plan: Plan,
    marginals: FreeMarginals,
    effort: str,
    tolerance: float,
    fused: Fused | None = None,
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
        From "cubic" on, or against one point, the bound by minima over rows is
        computed, but for unbalanced plans, which may have no mass.
    tolerance : float
        Width that counts as closed because it was asked for, in squared units of C.
    fused : Fused or None
        Features between the spaces and their share.
    """
    # 1. The same in float64, on the atoms of positive weight, in units near 1.
    x = converted(detached(x), _array.widen)
    y = converted(detached(y), _array.widen)
    beside = largest_root(marginals)
    if fused is not None:
        fused = fused.detached().converted(_array.widen)
        beside = max(beside, fused.size(x, y))
    ready = prepare(x, y, beside=beside)
    problem = free_problem(ready.x, ready.y, marginals, ready.unit)
    plan = _on_support(widened(plan), ready)
    pair = enclosed(GWProblem(ready.x, ready.y))
    # 2. The bound by minima over rows, but for its last step.
    started = now()
    sides: list[RowCosts] = []
    # Against one point rows have one coupling, and the bound costs little.
    affordable = effort in ("cubic", "quartic") or min(problem.shape) == 1
    if affordable and not isinstance(marginals, Unbalanced):
        sides = _row_costs(ready, pair, marginals)
    lower = {NONNEGATIVITY: 0.0}
    if sides:
        lower[THIRD] = max(float(side.least().lower) for side in sides)
    seconds = {THIRD: now() - started} if sides else {}
    # 3. The interval, with the width that float errors of the values account for.
    if fused is not None:
        here = _FusedPlans(problem, pair, fused.prepared(ready), mass_of(marginals))
        minorants = [side.minorant for side in sides]
        if len(sides) > 1:
            minorants[1] = _turned(minorants[1])
        found = here.interval(lower, minorants, plan, tolerance, ready.unit)
        return found.noting(seconds=seconds)
    upper = _upper(problem, pair, plan)
    width = float(pair.float_error_above(finite_or_zero(max(lower.values()))))
    if isinstance(problem, UnbalancedProblem):
        # Sums of masses are multiplied by prices.
        width += 2 * _penalties(problem, pair, plan)[1]
    found = interval_of_bounds(
        {name: finite_or_zero(bound) for name, bound in lower.items()},
        upper,
        width,
        tolerance,
        ready.unit,
        of_plan=True,
    )
    return found.noting(seconds=seconds)


@dataclass(frozen=True, eq=False)
class _FusedPlans:
    """A fused problem with free marginals, certified.

    Parameters
    ----------
    problem : FreeProblem
        The problem of F alone.
    pair : EnclosedPair
        The enclosures of both spaces.
    fused : Fused
        The features M, prepared, and α.
    mass : float
        The mass of all plans, where they have one.
    """

    problem: FreeProblem
    pair: EnclosedPair
    fused: Fused
    mass: float

    @cached_property
    def linear(self) -> FreeCosts:
        """The linear term."""
        radii = (self.pair.x.radii, self.pair.y.radii)
        omega = float(max(side.weights for side in radii))
        problem = self.problem
        mass = self.mass if isinstance(problem.marginals, Partial) else None
        return FreeCosts(problem.x, problem.y, self.fused, omega, mass)

    def interval(
        self,
        lower: dict[str, float],
        minorants: list[AffineMinorant],
        plan: Plan,
        tolerance: float,
        unit: float,
    ) -> CertifiedObjective:
        """Return the certificate of a plan, in units of which C was divided by one."""
        linear = self.linear
        width_of = self.pair.float_error_above
        missed = 0.0
        if isinstance(self.problem, UnbalancedProblem):
            bounds = self._of_prices(self.problem)
            value = _array.number(self.problem.distortion(plan))
            plain = _distortion(self.problem, self.pair, plan, value)
            rest = linear.of_plan(plan, plain, missed)
            penalties, error = _penalties(self.problem, self.pair, plan)
            upper = Bound(rest.value + penalties, 0.0, rest.upper + penalties + error)
            structure = linear.structure_of(rest.value)
            # The float errors of both ends: sums of masses are multiplied by prices.
            width = linear.error_width(float(width_of(structure))) + 2 * error
            return interval_of_bounds(
                bounds, upper, width, tolerance, unit, of_plan=True
            )
        plain = _upper(self.problem, self.pair, plan)
        missed = _missed_mass(self.problem, self.pair, plan)
        joint = {}
        if minorants and linear.share > 0.0:
            proved = [self._joint(minorant) for minorant in minorants]
            joint[f"joint {THIRD}"] = max(proved)
        return fused_interval(
            linear,
            lower,
            {name: bound for name, bound in joint.items() if math.isfinite(bound)},
            linear.of_plan(plan, plain, missed),
            lambda value: float(width_of(value)),
            tolerance,
            unit,
            of_plan=True,
        )

    def _joint(self, minorant: AffineMinorant) -> float:
        """Return the bound of the costs of rows and M by one program of both."""
        linear = self.linear
        return certified_fused.joint(
            linear.program_of,
            minorant,
            linear.costs,
            linear.share,
            float(self.problem.variation),
        )

    def _of_prices(self, problem: UnbalancedProblem) -> dict[str, float]:
        """Return lower bounds of an objective with penalties (theorem 18 x)."""
        bounds = {}
        linear = self.linear
        cost = (1 - linear.share) * float(linear.costs.min())
        if cost >= 0.0:
            bounds[NONNEGATIVITY] = 0.0
        price = problem.price
        if problem.is_partial:
            bounds[TRANSPORT] = linear.least_at_price(price)
        else:
            size = abs(cost) + price + cost * cost / price
            error = float(gamma(8)) * size + UNDERFLOW
            bounds[MASS] = least_of_mass(cost, price) - error
        return bounds


def _turned(minorant: AffineMinorant) -> AffineMinorant:
    """Return costs (m, n) as costs (n, m)."""
    return minorant._replace(
        costs=np.ascontiguousarray(minorant.costs.T),
        costs_error=np.ascontiguousarray(minorant.costs_error.T),
    )


def _on_support(plan: Plan, ready: Prepared) -> Plan:
    """Restrict a plan to the atoms of positive weight, also one that has no mass."""
    masses = plan.masses
    xp = _array.namespace(masses)
    atoms = plan.sparse()
    is_there = atoms.data > 0
    for positions, kept in zip((atoms.row, atoms.col), ready.atoms, strict=True):
        if kept is not None:
            is_there &= np.isin(positions, _array.to_numpy(kept))
    if is_there.any():
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
    penalties, error = _penalties(problem, pair, plan)
    value = _array.number(problem.objective(plan))
    return Bound(value, 0.0, least + penalties + error)


def _penalties(
    problem: UnbalancedProblem, pair: EnclosedPair, plan: Plan
) -> tuple[float, float]:
    """Return the penalties of a plan, and their float error."""
    value = _array.number(problem.objective(plan))
    penalties = max(0.0, value - _array.number(problem.distortion(plan)))
    terms = sum(problem.shape) + int(plan.masses.shape[0])
    terms += pair.x.radii.weights + pair.y.radii.weights + 40
    error = float(gamma(terms)) * (value + problem.size_of_penalties(plan))
    return penalties, error


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


def _row_costs(
    ready: Prepared, pair: EnclosedPair, marginals: FreeMarginals
) -> list[RowCosts]:
    """Return the costs of the bound by minima over rows; of partial plans both sides.

    The masses of rows are bounded by a there, and those of columns by b.
    """
    x, y = (
        RowsSide(
            matrix=np.ascontiguousarray(centred(space).matrix),
            weights=_array.to_numpy(space.weights),
            omega=float(side.radii.weights),
            entries=float(side.radii.entries),
        )
        for space, side in ((ready.x, pair.x), (ready.y, pair.y))
    )
    mass = mass_of(marginals)
    sides = [RowCosts.of(x, y, mass)]
    if isinstance(marginals, Partial):
        sides.append(RowCosts.of(y, x, mass))
    return sides
