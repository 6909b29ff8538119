"""What fused objectives of couplings are between: bounds of both terms, and plans.

THEORY.md, "Fused objectives"; the float errors are those of theorem 13 (f) and (g).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from gwtools import _array
from gwtools._array import NumpyArray
from gwtools.bounds import certified, certified_fused, certified_quadratic
from gwtools.bounds.enclosures import EnclosedPair
from gwtools.bounds.float_error import Bound
from gwtools.certify.efforts import Work
from gwtools.certify.linear_costs import LinearCosts
from gwtools.certify.objectives import (
    missed_mass,
    objective_of_plan,
    objective_of_product,
)
from gwtools.fused import Fused
from gwtools.plans import Plan
from gwtools.problems import GWProblem


@dataclass(frozen=True, eq=False)
class FusedPair:
    """Two prepared spaces with features between them, in float64.

    Parameters
    ----------
    problem : GWProblem
        The plain problem of the spaces.
    pair : EnclosedPair
        The enclosures of their parts.
    fused : Fused
        The features M, prepared, and α.
    """

    problem: GWProblem
    pair: EnclosedPair
    fused: Fused

    @cached_property
    def linear(self) -> LinearCosts:
        """The linear term."""
        omega = max(self.pair.x.radii.weights, self.pair.y.radii.weights)
        return LinearCosts(self.problem.x, self.problem.y, self.fused, float(omega))

    def of_plan(self, plan: Plan) -> Bound:
        """Return the objective of a plan, with that of the nearest coupling rounded up.

        A coupling that is a mass e away from the plan has a linear term at most
        e max |M_ij| higher.
        """
        plain = objective_of_plan(self.problem, self.pair, plan)
        return self.linear.of_plan(plan, plain, missed_mass(plan, self.pair))

    def of_product(self) -> Bound:
        """Return the objective of the product coupling, rounded up."""
        return self.linear.of_product(objective_of_product(self.problem, self.pair))

    def of_transport(self) -> Bound:
        """Return the objective of the coupling of least linear term, rounded up."""
        return self.of_plan(self.linear.plan)

    def width_of_structure(self, objective: float) -> float:
        """Return the width that float errors of C and D account for, where F is."""
        return float(self.pair.float_error_above(objective))


def joint_bounds(
    fused: FusedPair,
    work: Work,
    plan: Plan | None,
    curvature: float,
) -> dict[str, float]:
    """Return the bounds whose last step is one linear program of both terms, by name.

    Parameters
    ----------
    fused : FusedPair
        The spaces and the features.
    work : Work
        The parts of the spaces and the effort.
    plan : Plan or None
        A coupling at which F has a tangent.
    curvature : float
        The largest product of eigenvalues of R and S; infinite where it is unknown.
    """
    minorants = {}
    if work.effort != "quadratic":
        for name, residual in (("third", False), ("residual_third", True)):
            minorants[name] = certified.of_rows(work.x, work.y, residual)
    if plan is not None and math.isfinite(curvature):
        matrix = _array.to_numpy(plan.dense())
        tangent = certified_quadratic.tangent_at(work.x, work.y, matrix, curvature)
        minorants["convexity"] = tangent.minorant()
    size = float(fused.problem.product_objective)

    def least(costs: NumpyArray, costs_error: NumpyArray) -> float:
        return float(certified.linear_program(costs, work.x, work.y, costs_error).lower)

    bounds = {}
    for name, minorant in minorants.items():
        bounds[f"joint {name}"] = certified_fused.joint(
            least, minorant, fused.linear.costs, fused.fused.share, size
        )
    return {name: bound for name, bound in bounds.items() if math.isfinite(bound)}
