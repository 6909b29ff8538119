"""Transport between free marginals at a price: interior points and a dual value.

Minimise ⟨G, π⟩ + r KL(π1 | a) + t KL(πᵀ1 | b) over the probabilities π on pairs of
atoms, without any entropy of π itself.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.linalg

from gwtools._array import NumpyArray

_MOST_STEPS = 100
_TOLERANCE = 1e-12  # of the range of the costs, at which the gap counts as closed
_SHARE = 0.995  # of the way to the boundary that a step goes at most
_REGULAR = 1e-14  # added to the unit diagonal of the normal equations
_WORSE = 1e3  # the gap grows by this only where float error has taken over


class PenalisedProgram(NamedTuple):
    """A solution π, and a number that no plan's value is below, up to float error."""

    plan: NumpyArray  # (n, m), of sum 1
    value: float
    lower: float


class _Point(NamedTuple):
    """Masses π > 0, slacks z > 0 of the dual constraints, and what they prove."""

    masses: NumpyArray  # (n, m)
    slacks: NumpyArray  # (n, m)
    value: float
    lower: float


def relative_entropy(masses: NumpyArray, weights: NumpyArray) -> float:
    """Return KL(p | a) = Σ p_i log(p_i / a_i) − p_i + a_i, with 0 log 0 = 0.

    Where p is near a its digits are those of the difference, not of the sum.
    """
    terms = masses * log_ratios(masses, weights) - (masses - weights)
    return float(terms.sum())


def log_ratios(masses: NumpyArray, weights: NumpyArray) -> NumpyArray:
    """Return log(p_i / a_i), (n,), where p_i is 0 that of the least positive float."""
    floor = np.finfo(float).tiny
    apart = np.log(np.maximum(masses, floor)) - np.log(weights)
    near = np.abs(masses - weights) <= weights / 2
    excess = np.where(near, masses - weights, 0.0) / weights
    return np.where(near, np.log1p(excess), apart)


def penalised(
    costs: NumpyArray,
    a: NumpyArray,
    b: NumpyArray,
    prices: tuple[float, float],
) -> PenalisedProgram:
    """Minimise ⟨costs, π⟩ + r KL(π1 | a) + t KL(πᵀ1 | b) over probabilities π.

    By a primal-dual method of interior points (predictor and corrector). In the masses
    of any total the problem is transport with free mass, whose plan, divided by its
    sum, is the solution: scaling a plan by s adds r s log s to its first penalty.

    Parameters
    ----------
    costs : array of shape (n, m)
        Costs G of any sign.
    a, b : arrays of shape (n,) and (m,)
        Positive weights.
    prices : pair of float
        r > 0 and t > 0, in units of the costs.

    Returns
    -------
    PenalisedProgram
        Masses that are 0 where the dual constraint is not tight.
    """
    # A constant in the costs changes no plan.
    shift = float(costs.min())
    shifted = costs - shift
    span = max(float(shifted.max()), np.finfo(float).tiny)
    best = point = _first_point(shifted, a, b, prices, span)
    for _ in range(_MOST_STEPS):
        gap = point.value - point.lower
        if gap <= _TOLERANCE * span:
            break
        if not gap <= _WORSE * (best.value - best.lower):
            break
        following = _stepped(shifted, a, b, prices, point)
        if following is None:
            break
        point = following
        if point.value - point.lower < best.value - best.lower:
            best = point
    plan = _without_small_masses(best, span)
    return PenalisedProgram(plan, best.value + shift, best.lower + shift)


def _first_point(
    costs: NumpyArray,
    a: NumpyArray,
    b: NumpyArray,
    prices: tuple[float, float],
    span: float,
) -> _Point:
    """Return the product plan, with slacks that are well above 0."""
    masses = a[:, None] * b[None, :]
    slacks = np.maximum(costs, 0.1 * span)
    return _measured(costs, a, b, prices, masses, slacks)


def _measured(
    costs: NumpyArray,
    a: NumpyArray,
    b: NumpyArray,
    prices: tuple[float, float],
    masses: NumpyArray,
    slacks: NumpyArray,
) -> _Point:
    """Return a point with the value of its masses and a dual value."""
    plan = masses / masses.sum()
    value = penalised_value(costs, a, b, prices, plan)
    lower = dual_value(costs, a, b, prices, masses)
    return _Point(masses, slacks, value, lower)


def dual_value(
    costs: NumpyArray,
    a: NumpyArray,
    b: NumpyArray,
    prices: tuple[float, float],
    masses: NumpyArray,
) -> float:
    """Return a number that no plan's value is below, from the marginals of masses.

    At a solution f_i = −r log(p_i / a_i), and g likewise, are potentials that prove it;
    elsewhere they are lowered until f_i + g_j ≤ G_ij. Up to float error.
    """
    f = -prices[0] * log_ratios(masses.sum(axis=1), a)
    g = -prices[1] * log_ratios(masses.sum(axis=0), b)
    g = np.minimum(g, (costs - f[:, None]).min(axis=0))
    f = (costs - g[None, :]).min(axis=1)
    return soft_least(f, a, prices[0]) + soft_least(g, b, prices[1])


def penalised_value(
    costs: NumpyArray,
    a: NumpyArray,
    b: NumpyArray,
    prices: tuple[float, float],
    plan: NumpyArray,
) -> float:
    """Return ⟨costs, π⟩ + r KL(π1 | a) + t KL(πᵀ1 | b) of a plan of sum 1."""
    rows = relative_entropy(plan.sum(axis=1), a)
    cols = relative_entropy(plan.sum(axis=0), b)
    return float(np.vdot(costs, plan)) + prices[0] * rows + prices[1] * cols


def soft_least(values: NumpyArray, weights: NumpyArray, price: float) -> float:
    """Return −r log Σ a_i exp(−f_i / r), the least of ⟨f, p⟩ + r KL(p | a)."""
    least = float(values.min())
    # Near 0 for large r, where log(1 + x) keeps the digits.
    excess = np.expm1(-(values - least) / price)
    mean = float(weights @ excess) / float(weights.sum())
    return least - price * float(np.log1p(mean))


def _stepped(
    costs: NumpyArray,
    a: NumpyArray,
    b: NumpyArray,
    prices: tuple[float, float],
    point: _Point,
) -> _Point | None:
    """Return the next point; None where float error leaves none."""
    masses, slacks = point.masses, point.slacks
    rows = masses.sum(axis=1)
    cols = masses.sum(axis=0)
    f = -prices[0] * log_ratios(rows, a)
    g = -prices[1] * log_ratios(cols, b)
    residual = costs - f[:, None] - g[None, :] - slacks
    ratios = masses / slacks
    newton = _Newton.of(ratios, rows / prices[0], cols / prices[1])
    if newton is None:
        return None
    # 1. The predictor aims at π z = 0.
    product = masses * slacks
    moved, opened = newton.direction(residual, -product, masses)
    step = min(_longest(masses, moved), _longest(slacks, opened))
    mean = float(product.mean())
    after = float(((masses + step * moved) * (slacks + step * opened)).mean())
    centre = mean * min(1.0, max(after, 0.0) / mean) ** 3
    # 2. The corrector aims at products that are alike, with the error of the first.
    target = centre - product - moved * opened
    moved, opened = newton.direction(residual, target, masses)
    step = min(_longest(masses, moved), _longest(slacks, opened))
    if not step > 0.0:
        return None
    masses = masses + step * moved
    slacks = slacks + step * opened
    if not (masses.min() > 0.0 and slacks.min() > 0.0):
        return None
    return _measured(costs, a, b, prices, masses, slacks)


class _Newton(NamedTuple):
    """The normal equations of a step, scaled and factored."""

    factor: tuple[NumpyArray, bool]
    scale: NumpyArray  # (n + m,)
    ratios: NumpyArray  # π / z, (n, m)

    @classmethod
    def of(
        cls, ratios: NumpyArray, rows: NumpyArray, cols: NumpyArray
    ) -> _Newton | None:
        """Factor them; None where float error leaves them indefinite."""
        n, m = ratios.shape
        matrix = np.zeros((n + m, n + m))
        matrix[:n, n:] = ratios
        matrix[n:, :n] = ratios.T
        diagonal = np.concatenate(
            [rows + ratios.sum(axis=1), cols + ratios.sum(axis=0)]
        )
        scale = 1 / np.sqrt(diagonal)
        matrix *= scale[:, None] * scale[None, :]
        np.fill_diagonal(matrix, 1.0 + _REGULAR)
        try:
            factor = scipy.linalg.cho_factor(matrix, check_finite=False)
        except np.linalg.LinAlgError:
            return None
        return cls(factor, scale, ratios)

    def direction(
        self, residual: NumpyArray, target: NumpyArray, masses: NumpyArray
    ) -> tuple[NumpyArray, NumpyArray]:
        """Return the changes of π and of z that reach the target and no residual."""
        n = masses.shape[0]
        pulled = self.ratios * (target / masses - residual)
        sums = np.concatenate([pulled.sum(axis=1), pulled.sum(axis=0)])
        solved = scipy.linalg.cho_solve(
            self.factor, sums * self.scale, check_finite=False
        )
        solved *= self.scale
        prices = solved[:n, None] + solved[None, n:]
        return pulled - self.ratios * prices, residual + prices


def _longest(values: NumpyArray, changes: NumpyArray) -> float:
    """Return how far values > 0 may go along changes, at most 1."""
    falling = changes < 0.0
    if not falling.any():
        return 1.0
    return min(1.0, _SHARE * float((-values[falling] / changes[falling]).min()))


def _without_small_masses(point: _Point, span: float) -> NumpyArray:
    """Drop the masses at slack constraints, and return the rest with the sum 1.

    No row and no column is emptied: at every solution all have mass.
    """
    masses, slacks = point.masses, point.slacks
    ratios = masses / slacks
    kept = ratios * span >= masses.sum()
    kept |= ratios == ratios.max(axis=1, keepdims=True)
    kept |= ratios == ratios.max(axis=0, keepdims=True)
    plan: NumpyArray = np.where(kept, masses, 0.0)
    plan /= plan.sum()
    return plan
