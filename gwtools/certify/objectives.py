"""Upper ends of certificates: objectives of couplings, rounded up (theorem 13 g)."""

from __future__ import annotations

import math
from typing import NamedTuple

from gwtools import _array
from gwtools._array import Array
from gwtools.bounds import float_error, outward
from gwtools.bounds.certified import EnclosedParts
from gwtools.bounds.enclosures import EnclosedPair, enclosure
from gwtools.bounds.float_error import Bound
from gwtools.certify.matchings import has_same_masses, is_isometry, matching_of
from gwtools.certify.plans import restricted
from gwtools.plans import Plan, SparsePlan
from gwtools.preparation import prepare
from gwtools.problems import GWProblem
from gwtools.spaces import Space
from gwtools.transport.one_dimensional import sorting_plan


class PlanObjective(NamedTuple):
    """A plan's objective between two spaces, in squared units of C."""

    x: Space
    y: Space
    plan: Plan
    objective: Array

    def is_of(self, problem: GWProblem, plan: Plan) -> bool:
        """Tell whether it is the objective of this plan between these spaces."""
        same_spaces = self.x is problem.x and self.y is problem.y
        return same_spaces and self.plan is plan


def enclosed(problem: GWProblem) -> EnclosedPair:
    """Enclose the parts of both spaces of a problem."""
    return EnclosedPair(enclosure(problem.x), enclosure(problem.y))


def coupling_distance(
    x: Space,
    y: Space,
    plan: Plan,
) -> float:
    """Return the root of the objective of the coupling nearest to a plan, rounded up.

    It is in units of C (theorem 13 g).
    """
    ready = prepare(x, y)
    problem = GWProblem(ready.x, ready.y)
    pair = enclosed(problem)
    plan = restricted(plan, ready)
    upper = objective_of_plan(problem, pair, plan).upper
    if upper == 0.0:
        return 0.0
    root = float(float_error.rounded_up(upper**0.5))
    # In the given units; the product with them is rounded, too.
    return math.nextafter(root * ready.unit, math.inf)


def objective_of_plan(
    problem: GWProblem,
    pair: EnclosedPair,
    plan: Plan,
    evaluated: PlanObjective | None = None,
) -> Bound:
    """Return a plan's objective, with that of the nearest coupling rounded up.

    The objective is not computed again where ``evaluated`` is of this plan.
    """
    if evaluated is not None and evaluated.is_of(problem, plan):
        value = float(evaluated.objective)
    else:
        value = float(problem.objective(plan))
    if _is_null(problem):
        return Bound(0.0, 0.0, 0.0)
    matching = matching_of(plan, problem.x, problem.y)
    if matching is None:
        upper = _upper(problem, pair, plan, value, matched=False)
        return Bound(value, 0.0, upper)
    # Copies have distance 0 exactly: no float error may open their interval.
    if is_isometry(problem.x, problem.y, matching, value):
        return Bound(0.0, 0.0, 0.0)
    upper = _upper(problem, pair, plan, value, matched=True)
    if not has_same_masses(plan, matching):
        # The upper end holds for the plan as computed and for the matching, a coupling
        # of the exact weights, which the plan is up to the float error of its masses.
        exact = float(problem.objective(matching))
        upper_of_matching = _upper(problem, pair, matching, exact, matched=True)
        upper = max(upper_of_matching, upper)
    return Bound(value, 0.0, upper)


def _is_null(problem: GWProblem) -> bool:
    """Tell whether all values are 0, and every objective, without float error."""
    return problem.x.largest() == problem.y.largest() == 0.0


def _upper(
    problem: GWProblem,
    pair: EnclosedPair,
    plan: Plan,
    value: float,
    matched: bool,
) -> float:
    """Return the objective of the coupling nearest to a plan, rounded up.

    ``value`` is the objective as computed; ``matched`` says that a sparse plan is a
    coupling itself.
    """
    atoms = plan.masses.shape[0]
    low_rank = problem.x.low_rank is not None and problem.y.low_rank is not None
    if isinstance(plan, SparsePlan) and not low_rank:
        # The value was summed over pairs of the plan's atoms.
        missed = 0.0 if matched else missed_mass(plan, pair)
        return float(pair.squares_upper(value, atoms, missed))
    # The value of any other plan was computed from m, α and R.
    missed = missed_mass(plan, pair)
    return float(pair.parts_upper(value, 2 * atoms, missed))


def missed_mass(plan: Plan, pair: EnclosedPair) -> float:
    """Return how much mass a plan may be off the nearest coupling of exact weights."""
    row_sums, col_sums = plan.marginals()
    terms = plan.masses.shape[0]
    return float(pair.missed_mass(row_sums, col_sums, terms))


def objective_of_product(problem: GWProblem, pair: EnclosedPair) -> Bound:
    """Return the objective of the product coupling, rounded up (theorem 2).

    It is (m_C − m_D)² + 2 (‖α‖² + ‖β‖²) + ‖R‖² + ‖S‖².
    """
    if _is_null(problem):
        return Bound(0.0, 0.0, 0.0)
    x = problem.x
    y = problem.y
    norms = x.residual_norm_squared() + y.residual_norm_squared()  # ‖R‖² + ‖S‖²
    spread_x = x.weights @ x.deviations**2  # ‖α‖²
    spread_y = y.weights @ y.deviations**2  # ‖β‖²
    spread = spread_x + spread_y
    value = float(pair.mean_gap**2 + 2 * spread + norms)
    upper = outward.product_upper(value, pair.x.radii, pair.y.radii)
    return Bound(value, 0.0, float(upper))


def objectives_of_sorting(
    problem: GWProblem,
    pair: EnclosedPair,
    parts_x: EnclosedParts,
    parts_y: EnclosedParts,
) -> list[Bound]:
    """Return the objectives of couplings that sort one number of each atom.

    These are the row means, up or down, and the eccentricities.
    """
    x = problem.x
    y = problem.y
    squares_x = _squared_eccentricities(parts_x, x.weights)  # (n,)
    squares_y = _squared_eccentricities(parts_y, y.weights)  # (m,)
    plans = [
        sorting_plan(x.row_means, x.weights, y.row_means, y.weights),
        sorting_plan(x.row_means, x.weights, -y.row_means, y.weights),
        sorting_plan(squares_x, x.weights, squares_y, y.weights),
    ]
    return [objective_of_plan(problem, pair, plan) for plan in plans]


def _squared_eccentricities(side: EnclosedParts, like: Array) -> Array:
    """Return Σ_k a_k C_ik² for every atom, which sorts as the eccentricities do."""
    C = side.parts.matrix  # (n, n)
    squares = C**2 @ side.parts.weights  # (n,)
    return _array.from_numpy(squares, like)
