"""Intervals of fused objectives: bounds of F and of the linear term put together.

THEORY.md, "Fused objectives"; the float errors are those of theorem 13 (f) and (g).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gwtools import _array
from gwtools._array import NumpyArray
from gwtools.bounds import certified, certified_fused, certified_quadratic
from gwtools.bounds.enclosures import EnclosedPair
from gwtools.bounds.float_error import UNDERFLOW, UNIT, Bound, gamma
from gwtools.bounds.transport_error import dual_value
from gwtools.certify.efforts import Work
from gwtools.certify.intervals import (
    CertifiedObjective,
    closed_up_to,
    finite_or_zero,
    kind_of,
)
from gwtools.certify.objectives import (
    missed_mass,
    objective_of_plan,
    objective_of_product,
)
from gwtools.fused import Fused
from gwtools.plans import Plan, changed
from gwtools.problems import GWProblem
from gwtools.results import Certificate
from gwtools.transport.programs import Program, exact

TRANSPORT = "transport"  # the bound of the linear term


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
    def costs(self) -> NumpyArray:
        """M in NumPy, (n, m)."""
        return np.ascontiguousarray(_array.to_numpy(self.fused.features))

    @cached_property
    def weights(self) -> tuple[NumpyArray, NumpyArray]:
        """The stored weights a and b in NumPy."""
        a = _array.to_numpy(self.problem.x.weights)
        b = _array.to_numpy(self.problem.y.weights)
        return a, b

    @property
    def largest(self) -> float:
        """The largest |M_ij|."""
        return float(np.abs(self.costs).max())

    @cached_property
    def omega(self) -> float:
        """ω of the weights (theorem 13)."""
        return float(max(self.pair.x.radii.weights, self.pair.y.radii.weights))

    @cached_property
    def transport(self) -> Program:
        """The linear program min ⟨M, π⟩ over couplings, solved."""
        a, b = self.weights
        return exact(self.costs, a, b)

    @cached_property
    def least_transport(self) -> float:
        """A number that ⟨M, π⟩ is below for no coupling, by duality."""
        a, b = self.weights
        potential = self.transport.potentials[1]
        return float(dual_value(self.costs, potential, a, b, self.omega))

    def at_least(self, plain: float) -> float:
        """Return a number that no α F + (1 − α) ⟨M, ·⟩ is below, where F ≥ ``plain``.

        ``plain`` is at least 0.
        """
        share = self.fused.share
        structure = share * plain
        linear: float = (1 - share) * self.least_transport
        size = structure + abs(linear)
        return float(structure + linear - gamma(8) * size - UNDERFLOW)

    def of_plan(self, plan: Plan) -> Bound:
        """Return the objective of a plan, with that of the nearest coupling rounded up.

        A coupling that is a mass e away from the plan has a linear term at most
        e max |M_ij| higher.
        """
        plain = objective_of_plan(self.problem, self.pair, plan)
        features = self.fused.features
        xp = _array.namespace(features)
        value = _array.number(plan.inner(features))
        size = _array.number(plan.inner(xp.abs(features)))
        terms = plan.masses.shape[0] + sum(plan.shape) + 8
        missed = missed_mass(plan, self.pair)
        error = gamma(terms) * size + 1.01 * missed * self.largest
        return self._sum(plain, value, size, error)

    def of_product(self) -> Bound:
        """Return the objective of the product coupling, rounded up."""
        plain = objective_of_product(self.problem, self.pair)
        a, b = self.weights
        value = float(a @ self.costs @ b)
        size = float(a @ np.abs(self.costs) @ b)
        error = gamma(sum(self.costs.shape) + 2 * self.omega + 8) * size
        return self._sum(plain, value, size, error)

    def of_transport(self) -> Bound:
        """Return the objective of the coupling of least linear term, rounded up."""
        plan = self.transport.plan
        like = self.problem.x.weights
        here = changed(
            plan,
            rows=_array.from_numpy(plan.rows, like),
            cols=_array.from_numpy(plan.cols, like),
            mass=_array.from_numpy(plan.mass, like),
        )
        return self.of_plan(here)

    def _sum(self, plain: Bound, value: float, size: float, error: float) -> Bound:
        """Add the shares of F and of a linear term known up to an error."""
        share = self.fused.share
        total = share * plain.value + (1 - share) * value
        upper = share * plain.upper + (1 - share) * (value + error)
        sums = share * plain.upper + (1 - share) * (size + error)
        return Bound(total, -math.inf, upper + gamma(8) * sums + UNDERFLOW)

    def error_width(self, objective: float) -> float:
        """Return the width that float errors of the values account for."""
        share = self.fused.share
        n, m = self.costs.shape
        of_linear = 256 * (n + m + 64) * UNIT * self.largest
        of_structure = float(self.pair.float_error_above(objective))
        width = share * of_structure + (1 - share) * of_linear
        return float(width + 8 * (n + m) * UNDERFLOW)


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
    bounds = {}
    for name, minorant in minorants.items():
        bounds[f"joint {name}"] = certified_fused.joint(
            work.x, work.y, minorant, fused.costs, fused.fused.share, size
        )
    return {name: bound for name, bound in bounds.items() if math.isfinite(bound)}


def fused_interval(
    fused: FusedPair,
    bounds: Mapping[str, float],
    joint: Mapping[str, float],
    upper: Bound,
    tolerance: float,
    unit: float,
    of_plan: bool,
) -> CertifiedObjective:
    """Return the certificate of a fused objective, in the given units.

    Parameters
    ----------
    fused : FusedPair
        The spaces and the features, whose values were divided by ``unit``, and by its
        square.
    bounds : mapping from the name of a theorem to a number
        Lower bounds of F over couplings, rounded down.
    joint : mapping from a name to a number
        Lower bounds of the fused objective, rounded down.
    upper : Bound
        A fused objective, and the same rounded up for a coupling.
    tolerance : float
        Width that counts as closed because it was asked for, in the given units.
    unit : float
        What values of C were divided by.
    of_plan : bool
        Whether the upper end is that of a plan that was given.

    Returns
    -------
    CertifiedObjective
        In the given units; its objective is at least the best lower bound.
    """
    share = fused.fused.share
    # 1. Lower ends: the share of each bound of F, and the least linear term.
    here = dict(joint)
    if share == 0.0:
        here[TRANSPORT] = fused.at_least(0.0)
    else:
        for name, bound in bounds.items():
            here[f"{name} + {TRANSPORT}"] = fused.at_least(finite_or_zero(bound))
    lower = {name: _in_given(value, unit, -math.inf) for name, value in here.items()}
    best = max(lower, key=lower.__getitem__)
    # 2. The upper end, and what the width says.
    high = _in_given(upper.upper, unit, math.inf)
    plain_value = max(upper.value - (1 - share) * fused.least_transport, 0.0)
    plain_value = plain_value / share if share > 0.0 else 0.0
    width = _in_given(fused.error_width(plain_value), unit, math.inf)
    closed, tolerance = closed_up_to(high - lower[best], width, tolerance)
    certificate = Certificate(
        lower=lower[best],
        upper=high,
        kind=kind_of(closed, of_plan),
        bound=best,
        bounds=lower,
        tolerance=tolerance,
        rounding=width,
    )
    # 3. The objective itself: float error may have moved it below the lower end.
    value = max(upper.value, here[best])
    return CertifiedObjective(
        certificate,
        objective=value * unit * unit,
        distance=max(value, 0.0) ** 0.5 * unit,
    )


def _in_given(value: float, unit: float, towards: float) -> float:
    """Return value · unit², of any sign, rounded to the next float in a direction."""
    if value == 0.0:
        return 0.0
    return math.nextafter(float(value) * unit * unit, towards)
