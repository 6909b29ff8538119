"""The Gromov-Wasserstein objective over plans with free marginals, and its gradient."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from gwtools import _array
from gwtools._array import Array
from gwtools.distortions import sum_of_squares
from gwtools.free_marginals import FreeMarginals, mass_of
from gwtools.linear_terms import WithFeatures
from gwtools.plans import DensePlan, Plan, SparsePlan, make_unchecked
from gwtools.problems import Quadratic
from gwtools.spaces import Space, detached


@dataclass(frozen=True, eq=False)
class FreeProblem(WithFeatures, Quadratic):
    """Minimise F(π) = Σ (C_ik − D_jl)² π_ij π_kl over plans with free marginals.

    With p = π1 and q = πᵀ1, F is the quadratic form −2 ⟨π, Q(π)⟩ of Q(π)_ij = (CπD)_ij
    − (C²p)_i / 2 − (D²q)_j / 2, where squares are those of entries (THEORY.md, theorem
    18). Row means and residuals have no part in it, as p and q vary. With features M
    the objective is fused: (1 − α) ⟨M, π⟩ + α F(π).

    Parameters
    ----------
    x, y : Space
        Spaces of n and m atoms. Not checked here.
    marginals : "semi_relaxed" or Partial
        Which plans there are.
    features : array of shape (n, m), optional
        Costs M between the atoms, in squared units of C.
    alpha : float or 0-d array, optional
        The share α of F; it comes with the features.
    """

    x: Space
    y: Space
    marginals: FreeMarginals
    features: Array = None
    alpha: Any = None

    @cached_property
    def largest_cost(self) -> float:
        """The largest |L_ij| of the linear term, in squared units of C."""
        if self.linear is None:
            return 0.0
        xp = _array.namespace(self.linear.costs)
        return _array.number(xp.max(xp.abs(self.linear.costs)))

    @property
    def mass(self) -> float:
        """The mass s of all plans."""
        return mass_of(self.marginals)

    @cached_property
    def matrices(self) -> tuple[Array, Array]:
        """C and D, (n, n) and (m, m)."""
        return self.x.dense(), self.y.dense()

    @cached_property
    def squares(self) -> tuple[Array, Array]:
        """The squared entries of C and D."""
        C, D = self.matrices
        return C**2, D**2

    @cached_property
    def bilinear_cost(self) -> Array:
        """The costs L of the linear term, (n, m); zeros, as F has no linear part."""
        if self.linear is not None:
            return self.linear.costs
        a = self.x.weights
        b = self.y.weights
        xp = _array.namespace(a)
        return xp.zeros_like(a)[:, None] * xp.zeros_like(b)[None, :]

    @cached_property
    def largest(self) -> tuple[float, float]:
        """Ω ≥ max |C_ik − D_jl| and Λ ≥ max |C_ik|, max |D_jl|, in units of C."""
        extremes_x = [extremes(matrix) for matrix in self.matrices]
        (low_x, high_x), (low_y, high_y) = extremes_x
        difference = max(high_x - low_y, high_y - low_x, 0.0)
        size = max(-low_x, high_x, -low_y, high_y)
        return difference, size

    @cached_property
    def variation(self) -> float:
        """Ω² s², in squared units of C: every objective is between 0 and this.

        Of a fused objective that share of it, and s times the range of L.
        """
        difference, _ = self.largest
        distortions = (difference * self.mass) ** 2
        if self.linear is None:
            return distortions
        low, high = extremes(self.linear.costs)
        return self.share * distortions + self.mass * (high - low)

    @cached_property
    def float_error(self) -> float:
        """Estimate of the float error of an objective as computed from Q.

        Its terms are at most Λ² s² each. The factor 16 is a margin, no proof.
        """
        _, size = self.largest
        terms = self.share * (size * self.mass) ** 2 + self.mass * self.largest_cost
        return 16 * _array.epsilon(self.x.weights) * terms

    @property
    def product_objective(self) -> float:
        """0: objectives are not taken relative to that of any plan."""
        return 0.0

    @property
    def floor(self) -> float:
        """A number that no objective is below."""
        return 0.0 if self.linear is None else self.mass * float(self.linear.least)

    def cross(self, plan: Plan) -> Array:
        """Return Q(π), or that share of it, shape (n, m), in squared units of C."""
        return self._shared(self._whole_cross(plan))

    def _whole_cross(self, plan: Plan) -> Array:
        """Return Q(π)."""
        C, D = self.matrices
        squares_x, squares_y = self.squares
        p, q = plan.marginals()
        of_rows = squares_x @ p / 2  # (n,)
        of_cols = squares_y @ q / 2  # (m,)
        product = C @ plan.apply(D)
        return product - of_rows[:, None] - of_cols[None, :]

    def objective(self, plan: Plan) -> Array:
        """Return F(π), or the fused objective, in squared units of C."""
        return self.fused_with(self.distortion(plan), plan)

    def fused_with(self, distortion: Array, plan: Plan) -> Array:
        """Return α F(π) + (1 − α) ⟨M, π⟩ where F(π) is known."""
        if self.features is None:
            return distortion
        return self.alpha * distortion + (1.0 - self.alpha) * plan.inner(self.features)

    def distortion(self, plan: Plan) -> Array:
        """Return F(π) alone: the sum of squares where it is short."""
        listed = listed_plan(plan)
        if isinstance(listed, SparsePlan):
            return sum_of_squares(self.x, self.y, listed)
        objective = -2 * plan.inner(self._whole_cross(plan))
        xp = _array.namespace(objective)
        # A sum of squares, which float errors alone can bring below 0.
        return xp.clip(objective, min=0.0)

    def detached(self) -> FreeProblem:
        """Return the problem outside any gradient graph."""
        x = detached(self.x)
        y = detached(self.y)
        features = self.features
        alpha = self.alpha
        if features is not None:
            features = _array.detached(features)
            alpha = self.share
        # The problem itself keeps its cached matrices.
        same_spaces = x is self.x and y is self.y
        if same_spaces and features is self.features and alpha is self.alpha:
            return self
        return replace(self, x=x, y=y, features=features, alpha=alpha)


def extremes(matrix: Array) -> tuple[float, float]:
    """Return the least and the largest entry."""
    xp = _array.namespace(matrix)
    return _array.number(xp.min(matrix)), _array.number(xp.max(matrix))


def listed_plan(plan: Plan) -> Plan:
    """Return a matrix of few positive masses as a list; others as they are.

    A plan without mass is a matrix: no sum goes over an empty list.
    """
    if isinstance(plan, SparsePlan) and plan.masses.shape[0] > 0:
        return plan
    matrix = plan.dense()
    xp = _array.namespace(matrix)
    n, m = plan.shape
    count = int(xp.count_nonzero(matrix))
    if count == 0:
        return make_unchecked(DensePlan, matrix=matrix)
    # Sums over pairs of more atoms cost more than products of matrices.
    if count > 4 * (n + m):
        return plan
    rows, cols = xp.nonzero(matrix)
    masses = xp.reshape(matrix, (-1,))
    mass = xp.take(masses, rows * m + cols)
    return make_unchecked(SparsePlan, rows=rows, cols=cols, mass=mass, size=(n, m))
