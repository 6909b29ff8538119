"""The linear term of a fused objective in a certificate, with its float errors.

THEORY.md, "Fused objectives"; the float errors are those of theorem 13 (f) and (g).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gwtools import _array
from gwtools._array import NumpyArray
from gwtools.bounds.float_error import UNDERFLOW, UNIT, Bound, gamma
from gwtools.bounds.transport_error import dual_value
from gwtools.certify.intervals import (
    CertifiedObjective,
    finite_or_zero,
    interval_of_bounds,
)
from gwtools.fused import Fused
from gwtools.plans import Plan, SparsePlan, changed
from gwtools.spaces import Space
from gwtools.transport.programs import Program, exact

TRANSPORT = "transport"  # the bound of the linear term


@dataclass(frozen=True, eq=False)
class LinearCosts:
    """Costs M between the atoms of two prepared spaces in float64, and the share α.

    Parameters
    ----------
    x, y : Space
        The spaces.
    fused : Fused
        The features M, prepared, and α.
    omega : float
        ω of the weights (theorem 13).
    """

    x: Space
    y: Space
    fused: Fused
    omega: float

    @property
    def share(self) -> float:
        """α."""
        return self.fused.share

    @cached_property
    def costs(self) -> NumpyArray:
        """M in NumPy, (n, m)."""
        return np.ascontiguousarray(_array.to_numpy(self.fused.features))

    @cached_property
    def weights(self) -> tuple[NumpyArray, NumpyArray]:
        """The stored weights a and b in NumPy."""
        return _array.to_numpy(self.x.weights), _array.to_numpy(self.y.weights)

    @property
    def largest(self) -> float:
        """The largest |M_ij|."""
        return float(np.abs(self.costs).max())

    @cached_property
    def program(self) -> Program:
        """The linear program min ⟨M, π⟩ over couplings, solved."""
        a, b = self.weights
        return exact(self.costs, a, b)

    @property
    def plan(self) -> SparsePlan:
        """The coupling of least ⟨M, π⟩."""
        plan = self.program.plan
        like = self.x.weights
        return changed(
            plan,
            rows=_array.from_numpy(plan.rows, like),
            cols=_array.from_numpy(plan.cols, like),
            mass=_array.from_numpy(plan.mass, like),
        )

    @cached_property
    def least(self) -> float:
        """A number that ⟨M, π⟩ is below for no plan; of couplings by duality."""
        if self.largest == 0.0:
            return 0.0
        a, b = self.weights
        potential = self.program.potentials[1]
        return float(dual_value(self.costs, potential, a, b, self.omega))

    def at_least(self, plain: float) -> float:
        """Return a number that no α F + (1 − α) ⟨M, ·⟩ is below, where F ≥ ``plain``.

        ``plain`` is at least 0.
        """
        share = self.fused.share
        structure = share * plain
        linear: float = (1 - share) * self.least
        size = structure + abs(linear)
        # Nothing underflows where all terms are 0.
        underflow = UNDERFLOW if size > 0.0 else 0.0
        return float(structure + linear - gamma(8) * size - underflow)

    def of_plan(self, plan: Plan, plain: Bound, missed: float) -> Bound:
        """Return the objective of a plan, with that of a plan nearby rounded up.

        Parameters
        ----------
        plan : Plan
            The plan.
        plain : Bound
            F of it, and that of the plan nearby rounded up.
        missed : float
            The mass e between both: the linear term is at most e max |M_ij| higher.
        """
        features = self.fused.features
        xp = _array.namespace(features)
        value = _array.number(plan.inner(features))
        size = _array.number(plan.inner(xp.abs(features)))
        terms = plan.masses.shape[0] + sum(plan.shape) + 8
        error = gamma(terms) * size + 1.01 * missed * self.largest
        return self._sum(plain, value, size, error)

    def of_product(self, plain: Bound) -> Bound:
        """Return the objective of the product coupling, of which F is given."""
        a, b = self.weights
        value = float(a @ self.costs @ b)
        size = float(a @ np.abs(self.costs) @ b)
        error = gamma(sum(self.costs.shape) + 2 * self.omega + 8) * size
        return self._sum(plain, value, size, error)

    def _sum(self, plain: Bound, value: float, size: float, error: float) -> Bound:
        """Add the shares of F and of a linear term known up to an error."""
        share = self.fused.share
        total = share * plain.value + (1 - share) * value
        upper = share * plain.upper + (1 - share) * (value + error)
        sums = share * plain.upper + (1 - share) * (size + error)
        underflow = UNDERFLOW if sums > 0.0 else 0.0
        return Bound(total, -math.inf, upper + gamma(8) * sums + underflow)

    def structure_of(self, total: float) -> float:
        """Return about what F is where the objective is a number."""
        share = self.fused.share
        plain = max(total - (1 - share) * self.least, 0.0)
        return plain / share if share > 0.0 else 0.0

    def error_width(self, of_structure: float) -> float:
        """Return the width that float errors of all values account for.

        ``of_structure`` is that of the values of C and D alone.
        """
        share = self.fused.share
        n, m = self.costs.shape
        of_linear = 256 * (n + m + 64) * UNIT * self.largest
        width = share * of_structure + (1 - share) * of_linear
        return float(width + 8 * (n + m) * UNDERFLOW)


def fused_interval(
    linear: LinearCosts,
    bounds: Mapping[str, float],
    joint: Mapping[str, float],
    upper: Bound,
    width_of: Callable[[float], float],
    tolerance: float,
    unit: float,
    of_plan: bool,
) -> CertifiedObjective:
    """Return the certificate of a fused objective, in the given units.

    Parameters
    ----------
    linear : LinearCosts
        The features, whose values were divided by the square of ``unit``.
    bounds : mapping from the name of a theorem to a number
        Lower bounds of F over the plans, rounded down.
    joint : mapping from a name to a number
        Lower bounds of the fused objective, rounded down.
    upper : Bound
        A fused objective, and the same rounded up for a plan that competes.
    width_of : function
        From F to the width that float errors of C and D account for.
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
    # 1. Lower ends: the share of each bound of F, and the least linear term.
    here = dict(joint)
    if linear.share == 0.0:
        here[TRANSPORT] = linear.at_least(0.0)
    else:
        for name, bound in bounds.items():
            here[f"{name} + {TRANSPORT}"] = linear.at_least(finite_or_zero(bound))
    # 2. The width of both terms together.
    width = linear.error_width(width_of(linear.structure_of(upper.value)))
    return interval_of_bounds(here, upper, width, tolerance, unit, of_plan)
