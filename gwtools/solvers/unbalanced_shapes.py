"""Shapes of unbalanced plans: probabilities π of least distortion and divergence.

L(π) = F(π) + 2ρ₁ KL(π1 | a) + 2ρ₂ KL(πᵀ1 | b), whose minimum over probabilities says
which unbalanced plan is best, and what mass it has (theorem 18 vii). With a linear term
L depends on the mass, and both are improved in turn (theorem 18 xi).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import scipy.linalg
from scipy.optimize import brentq

from gwtools import _array
from gwtools._array import NumpyArray
from gwtools.transport.penalised import (
    PenalisedProgram,
    dual_value,
    log_ratios,
    penalised,
    relative_entropy,
)
from gwtools.unbalanced_problems import UnbalancedProblem

_POINTS = 64  # at which a line is searched before its best part is
_NEWTON_STEPS = 40
_HALVINGS = 30
_EMPTY = 1e-6  # masses of rows and columns below this count as nearly none
_MOST_EXPONENT = 200.0  # of masses, whose squares are numbers
_MOST_BISECTIONS = 1000  # far above what a root takes
_FLAT = 1e-10  # curvatures below this share of the largest count as it


@dataclass(frozen=True, eq=False)
class Shapes:
    """L over probabilities on pairs of atoms, in float64 on the CPU.

    Parameters
    ----------
    C, D : arrays of shape (n, n) and (m, m)
        The matrices.
    a, b : arrays of shape (n,) and (m,)
        The weights.
    prices : pair of float
        2ρ₁ and 2ρ₂.
    share : float
        α, the factor of F.
    costs : array of shape (n, m) or None
        The costs of the linear term; None without one.
    held_mass : float
        The mass s of the plan where there is a linear term, which is of size 1/s in L.
    """

    C: NumpyArray
    D: NumpyArray
    a: NumpyArray
    b: NumpyArray
    prices: tuple[float, float]
    share: float = 1.0
    costs: NumpyArray | None = None
    held_mass: float = 1.0

    @classmethod
    def of(cls, problem: UnbalancedProblem) -> Self:
        """Return those of a problem outside any gradient graph."""
        C, D = (_float64(matrix) for matrix in problem.matrices)
        first, second = problem.unbalanced.prices
        a = _float64(problem.x.weights)
        b = _float64(problem.y.weights)
        shapes = cls(C, D, a, b, (2 * first, 2 * second))
        if problem.linear is None:
            return shapes
        costs = _float64(problem.linear.costs)
        return replace(shapes, share=problem.share, costs=costs)

    @property
    def total_price(self) -> float:
        """ρ₁ + ρ₂."""
        return sum(self.prices) / 2

    @cached_property
    def slopes(self) -> NumpyArray:
        """The costs of the linear term in L, (n, m)."""
        if self.costs is None:
            return np.zeros((len(self.a), len(self.b)))
        return self.costs / self.held_mass

    def gradient(self, shape: NumpyArray) -> NumpyArray:
        """Return ∇F(π), (n, m), or its share with the costs of the linear term."""
        gradient = self.quadratic(shape)
        return gradient if self.costs is None else gradient + self.slopes

    def quadratic(self, shape: NumpyArray) -> NumpyArray:
        """Return ∇F(π), or its share, which is linear in π; (n, m)."""
        rows = self.C**2 @ shape.sum(axis=1)
        cols = self.D**2 @ shape.sum(axis=0)
        gradient: NumpyArray = 2 * (rows[:, None] + cols[None, :])
        gradient -= 4 * (self.C @ shape @ self.D)
        return self.share * gradient

    def divergences(self, shape: NumpyArray) -> float:
        """Return 2ρ₁ KL(π1 | a) + 2ρ₂ KL(πᵀ1 | b)."""
        rows = relative_entropy(shape.sum(axis=1), self.a)
        cols = relative_entropy(shape.sum(axis=0), self.b)
        return self.prices[0] * rows + self.prices[1] * cols

    def value(self, shape: NumpyArray, gradient: NumpyArray) -> float:
        """Return L(π); F is half of ⟨∇F(π), π⟩."""
        linear = 0.0 if self.costs is None else float(np.vdot(self.slopes, shape))
        distortion = max(0.0, (float(np.vdot(gradient, shape)) - linear) / 2)
        return distortion + linear + self.divergences(shape)

    def massed(self, shape: NumpyArray) -> Shapes:
        """Return the same with the best mass of a shape, near the one that is held.

        Without a linear term no mass is held.
        """
        if self.costs is None:
            return self
        linear = float(np.vdot(self.costs, shape))
        value = self.value(shape, self.gradient(shape))
        rest = value - linear / self.held_mass
        mass = best_mass(rest, linear, self.total_price, self.held_mass)
        return replace(self, held_mass=mass)

    def mass(self, value: float) -> float:
        """Return s = exp(−L / 2(ρ₁ + ρ₂)), the best mass of a shape, or that held."""
        if self.costs is not None:
            return self.held_mass
        return float(np.exp(-value / (2 * self.total_price)))

    def objective(self, value: float) -> float:
        """Return (ρ₁ + ρ₂)(1 − s²), the objective of a shape with its best mass.

        With a linear term, that of the mass held.
        """
        if self.costs is not None:
            s = self.held_mass
            return s * s * value + self.total_price * mass_penalty(s)
        return -self.total_price * float(np.expm1(-value / self.total_price))

    def decrease(self, value: float, gap: float) -> float:
        """Return by how much the objective falls where L falls by a gap."""
        if self.costs is not None:
            return self.held_mass**2 * gap
        left = self.total_price * float(np.exp(-value / self.total_price))
        with np.errstate(over="ignore"):
            promised = left * float(np.expm1(gap / self.total_price))
        # No objective is below 0.
        return min(promised, max(0.0, self.objective(value)))

    def program(self, shape: NumpyArray, gradient: NumpyArray) -> PenalisedProgram:
        """Minimise ⟨∇F, π⟩ and the divergences: L with F linearised at a shape.

        A stationary shape itself proves the least value more sharply than a solution
        that is only near.
        """
        solved = penalised(gradient, self.a, self.b, self.prices)
        proved = dual_value(gradient, self.a, self.b, self.prices, shape)
        return solved._replace(lower=max(solved.lower, proved))

    def searched(
        self, shape: NumpyArray, gradient: NumpyArray, end: NumpyArray
    ) -> NumpyArray:
        """Return the best shape between two, or the first where none is better.

        At 65 points, and between the neighbours of the best one where the slope changes
        its sign.
        """
        direction = end - shape
        slope = float(np.vdot(gradient, direction))
        curvature = float(np.vdot(self.quadratic(direction), direction)) / 2
        rows, cols = shape.sum(axis=1), shape.sum(axis=0)
        to_rows, to_cols = direction.sum(axis=1), direction.sum(axis=0)

        def change(step: float) -> float:
            of_rows = relative_entropy(np.maximum(rows + step * to_rows, 0.0), self.a)
            of_cols = relative_entropy(np.maximum(cols + step * to_cols, 0.0), self.b)
            divergences = self.prices[0] * of_rows + self.prices[1] * of_cols
            return step * slope + step * step * curvature + divergences

        def rate(step: float) -> float:
            of_rows = log_ratios(np.maximum(rows + step * to_rows, 0.0), self.a)
            of_cols = log_ratios(np.maximum(cols + step * to_cols, 0.0), self.b)
            divergences = self.prices[0] * float(to_rows @ of_rows)
            divergences += self.prices[1] * float(to_cols @ of_cols)
            return slope + 2 * step * curvature + divergences

        steps = np.linspace(0.0, 1.0, _POINTS + 1)
        values = [change(step) for step in steps]
        best = int(np.argmin(values))
        step = float(steps[best])
        low, high = steps[max(0, best - 1)], steps[min(_POINTS, best + 1)]
        if rate(low) < 0.0 < rate(high):
            root = float(brentq(rate, low, high, xtol=1e-15))
            step = root if change(root) <= values[best] else step
        if step == 1.0:
            return end
        return shape + step * direction

    def completed(self, shape: NumpyArray, solved: NumpyArray) -> NumpyArray:
        """Return a shape whose nearly empty rows and columns are those of a solution.

        Their masses, which depend on potentials alone, are too small for steps of the
        whole shape. Where that is no better, the shape itself.
        """
        rows = shape.sum(axis=1) < _EMPTY
        cols = shape.sum(axis=0) < _EMPTY
        taken = np.where(rows[:, None] | cols[None, :], solved, shape)
        taken = taken / taken.sum()
        value = self.value(shape, self.gradient(shape))
        return taken if self.value(taken, self.gradient(taken)) < value else shape

    def settled(
        self, shape: NumpyArray, support: NumpyArray, tolerance: float
    ) -> NumpyArray:
        """Descend to a stationary shape among those on a support, by Newton's method.

        Steps are projected onto masses of at least 0 and of sum 1.

        Parameters
        ----------
        shape : array of shape (n, m)
            The shape to start from, on the support.
        support : array of shape (n, m)
            True where there may be mass.
        tolerance : float
            Decrease of L that counts as none.
        """
        on = _Support.of(self, support)
        masses = shape[on.rows, on.cols]
        masses = masses / masses.sum()
        value = on.value(masses)
        for _ in range(_NEWTON_STEPS):
            found = _descended(on, masses, value, tolerance)
            if found is None:
                break
            masses, value = found
        result = np.zeros_like(shape)
        result[on.rows, on.cols] = masses
        return result


@dataclass(frozen=True, eq=False)
class _Support:
    """L as a function of the masses (k,) of a list of pairs."""

    shapes: Shapes
    rows: NumpyArray  # (k,)
    cols: NumpyArray  # (k,)
    distortions: NumpyArray  # (C_ik − D_jl)², or a share of it, (k, k)
    slopes: NumpyArray  # costs of the linear term, (k,)

    @classmethod
    def of(cls, shapes: Shapes, support: NumpyArray) -> Self:
        """Return that of the pairs where a matrix is True."""
        rows, cols = np.nonzero(support)
        differences = shapes.C[np.ix_(rows, rows)] - shapes.D[np.ix_(cols, cols)]
        distortions = shapes.share * differences**2
        return cls(shapes, rows, cols, distortions, shapes.slopes[rows, cols])

    def marginals(self, masses: NumpyArray) -> tuple[NumpyArray, NumpyArray]:
        """Return p (n,) and q (m,)."""
        p = np.bincount(self.rows, masses, len(self.shapes.a))
        q = np.bincount(self.cols, masses, len(self.shapes.b))
        return p, q

    def value(self, masses: NumpyArray) -> float:
        """Return L, a sum of squares and the divergences."""
        p, q = self.marginals(masses)
        first, second = self.shapes.prices
        divergences = first * relative_entropy(p, self.shapes.a)
        divergences += second * relative_entropy(q, self.shapes.b)
        linear = float(self.slopes @ masses)
        return float(masses @ self.distortions @ masses) + divergences + linear

    def gradient(self, masses: NumpyArray) -> NumpyArray:
        """Return the gradient (k,), but for a constant."""
        p, q = self.marginals(masses)
        first, second = self.shapes.prices
        of_rows = first * log_ratios(p, self.shapes.a)
        of_cols = second * log_ratios(q, self.shapes.b)
        gradient: NumpyArray = 2 * (self.distortions @ masses) + self.slopes
        return gradient + of_rows[self.rows] + of_cols[self.cols]

    def hessian(self, masses: NumpyArray, free: NumpyArray) -> NumpyArray:
        """Return the second derivatives in the masses that are free."""
        p, q = self.marginals(masses)
        first, second = self.shapes.prices
        tiny = np.finfo(float).tiny
        rows, cols = self.rows[free], self.cols[free]
        hessian: NumpyArray = 2 * self.distortions[np.ix_(free, free)]
        same_row = rows[:, None] == rows[None, :]
        same_col = cols[:, None] == cols[None, :]
        hessian += same_row * (first / np.maximum(p[rows], tiny))
        hessian += same_col * (second / np.maximum(q[cols], tiny))
        return hessian


def _descended(
    on: _Support, masses: NumpyArray, value: float, tolerance: float
) -> tuple[NumpyArray, float] | None:
    """Return masses of a lower L, and that; None where no step promises a decrease."""
    gradient = on.gradient(masses)
    gradient = gradient - float(gradient @ masses)
    # 1. Masses that are 0 stay so where they would cost more, and in empty rows and
    # columns, whose curvature has no end.
    p, q = on.marginals(masses)
    beside = np.minimum(p[on.rows], q[on.cols])
    joins = (gradient < 0.0) & (beside > 0.0)
    free = np.nonzero((masses > 0.0) | joins)[0]
    # Those that join are as large as their row and column allow.
    sizes = np.where(masses > 0.0, masses, np.minimum(beside, 1e-2 / len(masses)))
    direction = np.zeros_like(masses)
    direction[free] = _newton(on.hessian(masses, free), gradient[free], sizes[free])
    promised = -float(gradient @ direction)
    if not promised > tolerance:
        return None
    # 2. Where the first mass falls to 0, and halvings of the whole step.
    falling = direction < 0.0
    first = 1.0
    if falling.any():
        first = min(1.0, float((-masses[falling] / direction[falling]).min()))
    steps = [0.5**k for k in range(_HALVINGS)]
    for step in [*steps[:4], first, *(k for k in steps[4:] if k < first)]:
        moved = np.maximum(masses + step * direction, 0.0)
        moved /= moved.sum()
        lower = on.value(moved)
        if lower < value - 1e-4 * step * promised:
            return moved, lower
    return None


def _newton(hessian: NumpyArray, gradient: NumpyArray, sizes: NumpyArray) -> NumpyArray:
    """Return Newton's direction of sum 0, negative curvatures taken as positive.

    In units of the roots of the sizes of masses, in which divergences curve alike
    everywhere.
    """
    units = np.sqrt(sizes)
    normal = units / np.linalg.norm(units)
    scaled = hessian * (units[:, None] * units[None, :])
    slopes = gradient * units
    # Within the plane where the masses keep their sum.
    slopes -= normal * (normal @ slopes)
    along = scaled @ normal
    inner = float(normal @ along)
    scaled -= normal[:, None] * along[None, :] + along[:, None] * normal[None, :]
    scaled += inner * normal[:, None] * normal[None, :]
    largest = float(np.abs(np.diag(scaled)).max()) or 1.0
    scaled += largest * normal[:, None] * normal[None, :]
    try:
        factor = scipy.linalg.cho_factor(scaled, check_finite=False)
        solved = scipy.linalg.cho_solve(factor, slopes, check_finite=False)
    except np.linalg.LinAlgError:
        curvatures, vectors = np.linalg.eigh(scaled)
        sizes = np.abs(curvatures)
        sizes = np.maximum(sizes, _FLAT * sizes.max())
        solved = vectors @ ((vectors.T @ slopes) / sizes)
    solved -= normal * (normal @ solved)
    direction: NumpyArray = -solved * units
    return direction


def mass_penalty(s: float) -> float:
    """Return 2 s² log s − s² + 1, what a mass pays for each unit of ρ₁ + ρ₂."""
    if s == 0.0:
        return 1.0
    return 2 * s * s * math.log(s) - (s - 1) * (s + 1)


def best_mass(rest: float, linear: float, price: float, held: float) -> float:
    """Return the mass s > 0 of least s² A + s B + R (2 s² log s − s² + 1), or near it.

    Its derivative is s k(s) with k(s) = 2 A + B / s + 4 R log s. For B ≤ 0 that changes
    its sign once; for B > 0 never, or twice, from + to − and back (theorem 18 xi).

    Parameters
    ----------
    rest : float
        A, of the shape's distortion and divergences.
    linear : float
        B, of its linear term.
    price : float
        R > 0.
    held : float
        The mass that is held: where it is better, it is kept.
    """

    def slope(logarithm: float) -> float:
        inverse = math.exp(-logarithm)
        return 2 * rest + linear * inverse + 4 * price * logarithm

    def value(s: float) -> float:
        return s * s * rest + s * linear + price * mass_penalty(s)

    if linear > 0.0:
        # Where k is least; if it is not below 0 there, less mass is always better.
        low = max(math.log(linear) - math.log(4 * price), -_MOST_EXPONENT)
        high = 0.0
        if low >= 0.0 or slope(low) >= 0.0:
            return min(math.exp(low), held)
    else:
        low = -min(rest / (2 * price), _MOST_EXPONENT)
        high = min(-linear / (4 * price), _MOST_EXPONENT)
    best = high if slope(high) <= 0.0 else low
    if slope(low) < 0.0 < slope(high):
        # Over log s, as masses may be small by any number of digits.
        best = float(brentq(slope, low, high, xtol=1e-15, maxiter=_MOST_BISECTIONS))
    mass = math.exp(best)
    return mass if value(mass) <= value(held) else held


def _float64(array: NumpyArray) -> NumpyArray:
    """Bring an array to the CPU in float64."""
    return np.ascontiguousarray(_array.to_numpy(array), dtype=np.float64)
