"""The Gromov-Wasserstein objective of plans that pay for the marginals they miss."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from gwtools import _array
from gwtools._array import Array
from gwtools._check_free import TV
from gwtools.free_marginals import FreeMarginals, Unbalanced, in_units
from gwtools.free_problems import FreeProblem, extremes
from gwtools.plans import Plan
from gwtools.spaces import Space


@dataclass(frozen=True, eq=False)
class UnbalancedProblem(FreeProblem):
    """Minimise F(π) + ρ₁ Pen(π1, a) + ρ₂ Pen(πᵀ1, b) over all π ≥ 0.

    With features (1 − α) ⟨M, π⟩ + α F(π) stands in the place of F. With total
    variation, plans that give or receive too much are no better than others that do
    not, whose penalty is 2ρ (1 − s): over these the problem is F with linear costs, −2ρ
    for each mass (THEORY.md, theorem 18 viii).

    Parameters
    ----------
    x, y : Space
        Spaces of n and m atoms. Not checked here.
    marginals : Unbalanced
        Prices, in squared units of the spaces' C, and the penalty.
    """

    @property
    def unbalanced(self) -> Unbalanced:
        """The prices and the penalty."""
        return cast(Unbalanced, self.marginals)

    @property
    def is_partial(self) -> bool:
        """Whether plans that are nowhere above the weights suffice, as with TV."""
        return self.unbalanced.penalty == TV

    @property
    def price(self) -> float:
        """ρ₁ + ρ₂, the objective of the plan without mass."""
        return sum(self.unbalanced.prices)

    @cached_property
    def bilinear_cost(self) -> Array:
        """L, less ρ₁ + ρ₂ for each mass where that is what it saves, (n, m)."""
        costs = super().bilinear_cost
        return costs - self.price if self.is_partial else costs

    @property
    def product_objective(self) -> float:
        """What is added to relative objectives: the price, where masses save it."""
        return self.price if self.is_partial else 0.0

    @cached_property
    def variation(self) -> float:
        """What the least objective cannot exceed, in squared units of C.

        The objective of the product plan, at most Ω², or that of no plan; with features
        the size of both.
        """
        difference, _ = self.largest
        if self.linear is None:
            return min(difference**2, self.price)
        structure = self.share * difference**2
        low, high = extremes(self.linear.costs)
        return min(structure + max(high, -low), self.price + max(-low, 0.0))

    @cached_property
    def float_error(self) -> float:
        """Estimate of the float error of an objective, that of prices included.

        They count for more, as sums of many masses are multiplied by them.
        """
        _, size = self.largest
        terms = self.share * size**2 + self.largest_cost
        return 16 * _array.epsilon(self.x.weights) * (terms + 8 * self.price)

    @property
    def floor(self) -> float:
        """A number that no objective is below (theorem 18 x)."""
        if self.linear is None or self.is_partial:
            return 0.0
        return least_of_mass(float(self.linear.least), self.price)

    def objective(self, plan: Plan) -> Array:
        """Return F(π) + ρ₁ Pen(π1, a) + ρ₂ Pen(πᵀ1, b), in squared units of C."""
        p, q = plan.marginals()
        first, second = self.unbalanced.prices
        penalty = total_variation if self.is_partial else quadratic_divergence
        of_rows = first * penalty(p, self.x.weights)
        of_cols = second * penalty(q, self.y.weights)
        return super().objective(plan) + of_rows + of_cols

    def size_of_penalties(self, plan: Plan) -> float:
        """Return the sum of the sizes of all terms of the penalties.

        Relative errors of masses and weights move the penalties by that share of it.
        """
        total = 0.0
        weights = (self.x.weights, self.y.weights)
        sums = plan.marginals()
        for price, p, w in zip(self.unbalanced.prices, sums, weights, strict=True):
            xp = _array.namespace(p)
            mass = _array.number(xp.sum(p) + xp.sum(w))
            logarithms = _array.number(xp.sum(p * xp.abs(log_ratios(p, w))))
            total += 4 * price * mass * (logarithms + 4 * mass + 4)
        return total


def least_of_mass(cost: float, price: float) -> float:
    """Return the least of c s + R (1 − s)² over masses s ≥ 0.

    R (1 − s)² is what divergences of a plan of mass s cost at least (theorem 18 x).
    """
    if cost >= 2 * price:
        return price
    return cost - cost * cost / (4 * price)


def total_variation(masses: Array, weights: Array) -> Array:
    """Return Σ |p_i − a_i|."""
    xp = _array.namespace(masses)
    return xp.sum(xp.abs(masses - weights))


def quadratic_divergence(masses: Array, weights: Array) -> Array:
    """Return KL(p⊗p | a⊗a) = 2 s KL(p | a) + (s − Σ a)², where s = Σ p.

    KL(p | a) = Σ p_i log(p_i / a_i) − p_i + a_i; atoms without mass count as 0 log 0 =
    0.
    """
    xp = _array.namespace(masses)
    mass = xp.sum(masses)
    terms = masses * log_ratios(masses, weights) - (masses - weights)
    return 2 * mass * xp.sum(terms) + (mass - xp.sum(weights)) ** 2


def log_ratios(masses: Array, weights: Array) -> Array:
    """Return log(p_i / a_i), (n,); 0 where p_i is 0.

    Of the relative difference where that is small, whose digits count at a high price.
    """
    xp = _array.namespace(masses)
    present = masses > 0
    near = xp.abs(masses - weights) <= weights / 2
    ones = xp.ones_like(masses)
    zeros = xp.zeros_like(masses)
    excess = xp.where(near, masses - weights, zeros) / xp.where(near, weights, ones)
    ratios = xp.where(present, masses, ones) / xp.where(present, weights, ones)
    return xp.where(near, xp.log1p(excess), xp.log(ratios))


def free_problem(
    x: Space,
    y: Space,
    marginals: FreeMarginals,
    unit: float,
    features: Array = None,
    alpha: Any = None,
) -> FreeProblem:
    """Return the problem of spaces whose C was divided by ``unit``.

    Parameters
    ----------
    x, y : Space
        The spaces, prepared.
    marginals : "semi_relaxed", Partial or Unbalanced
        Which plans there are; prices are in squared units of the given C.
    unit : float
        What C was divided by.
    features, alpha : array of shape (n, m) and float, optional
        Costs M in squared units of the spaces' C, and the share of F.
    """
    if isinstance(marginals, Unbalanced):
        prices = in_units(marginals, unit)
        return UnbalancedProblem(x, y, prices, features, alpha)
    return FreeProblem(x, y, marginals, features, alpha)
