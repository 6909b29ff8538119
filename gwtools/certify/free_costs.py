"""The linear term of fused objectives over plans with free marginals, bounded below.

THEORY.md, theorem 18 (ix) and (x).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gwtools._array import NumpyArray
from gwtools.bounds.float_error import UNDERFLOW, UNIT, gamma
from gwtools.bounds.transport_error import dual_value
from gwtools.certify.linear_costs import LinearCosts
from gwtools.transport.dummy_atoms import with_dummies
from gwtools.transport.programs import exact

_MORE = 16  # float operations behind the weights of programs with dummy atoms


@dataclass(frozen=True, eq=False)
class FreeCosts(LinearCosts):
    """Costs M between the atoms, as plans with free marginals pay them.

    Parameters
    ----------
    mass : float or None
        That of partial plans; None for semi-relaxed ones.
    """

    mass: float | None = None

    @cached_property
    def least(self) -> float:
        """A number that ⟨M, π⟩ is below for no plan."""
        return self.program_of(self.costs, np.zeros_like(self.costs))

    def program_of(self, costs: NumpyArray, error: NumpyArray) -> float:
        """Return a number that ⟨costs − error, π⟩ is below for no plan.

        Semi-relaxed: every atom of x pays its least cost. Partial: by duality of the
        transport program with dummy atoms, whatever both dummies cost each other.
        """
        # What this difference is rounded by is within the errors of the sums below.
        lowered = costs - error
        if self.mass is None:
            a, _ = self.weights
            least = lowered.min(axis=1)
            terms = len(a) + self.omega + 10
            size = float(np.abs(costs).max() + np.abs(error).max())
            return float(a @ least - gamma(terms) * size - UNDERFLOW)
        corner = 2 * float(np.abs(lowered).max()) + np.finfo(float).tiny
        return self._by_dummies(lowered, 1 - self.mass, 2 - self.mass, corner)

    def least_at_price(self, price: float) -> float:
        """Return what (1 − α) ⟨M, π⟩ + R (1 − Σ π) is not below, where π1 ≤ a, πᵀ1 ≤ b.

        Parameters
        ----------
        price : float
            R > 0.
        """
        costs = (1 - self.share) * self.costs
        saved = self._by_dummies(costs - price, 1.0, 2.0, 0.0)
        # The roundings of each cost, and of the sum.
        size = float(np.abs(costs).max()) + price
        return price + saved - 8 * UNIT * (size + abs(saved)) - UNDERFLOW

    def _by_dummies(
        self, costs: NumpyArray, spare: float, total: float, corner: float
    ) -> float:
        """Return a dual value of the program with dummies, in units of its mass."""
        a, b = self.weights
        program = with_dummies(costs, a, b, spare, total, corner)
        potential = exact(*program).potentials[1]
        # Each cost may be rounded, which its own size bounds.
        error = 4 * UNIT * np.abs(program[0])
        omega = self.omega + _MORE
        proved = dual_value(program[0], potential, *program[1:], omega, error)
        return float(total * proved - 4 * UNIT * abs(total * proved))
