"""The objective plus entropy, and an interval of its least value where it is convex.

THEORY.md, "Entropy: where the problem is convex".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from gwtools import _array
from gwtools._array import Array
from gwtools.certify.plans import widened
from gwtools.fused import Fused, problem_of
from gwtools.plans import Plan
from gwtools.problems import GWProblem
from gwtools.spaces import Space, converted, detached
from gwtools.spaces.double_centering import column_blocks


class ValueWithEntropy(NamedTuple):
    """F + ε KL(· | a ⊗ b) of a plan, and an interval of the least such value."""

    value: Array | None  # in squared units of C
    interval: tuple[float, float] | None = None  # in squared units of C


class Curvature(NamedTuple):
    """What the objective can curve downwards between couplings.

    From ε = ``threshold`` on F + ε KL has but one stationary value. ``largest`` is max
    |R − r| · max |S − s| for some numbers r and s, or 0 where F is convex by itself.
    """

    threshold: float  # in squared units of C
    largest: float  # in squared units of C


def value_with_entropy(
    x: Space,
    y: Space,
    plan: Plan,
    epsilon: float | None,
    potentials: tuple[Array, Array] | None,
    objective: Array,
    unit: float = 1.0,
    fused: Fused | None = None,
) -> ValueWithEntropy:
    """Add the entropy of a plan to its objective, and bound how far this is above.

    Parameters
    ----------
    x, y : Space
        The spaces, whose values were divided by ``unit``.
    plan : Plan
        A coupling π of them.
    epsilon : float or None
        ε, in squared units of these spaces; None where there is no entropy.
    potentials : pair of arrays of shape (n,) and (m,), or None
        Any numbers; the nearer they are to potentials of ⟨∇F(π), ·⟩ + ε KL, the
        narrower the interval. In squared units of these spaces.
    objective : 0-d array
        F(π), in squared units of C as given.
    unit : float
        What values of C as given were divided by.
    fused : Fused or None
        Features between these spaces and their share, where F is fused with them.

    Returns
    -------
    ValueWithEntropy
        In squared units of C as given. The interval is computed in float64 and not
        rounded outward; None where ε is not above the threshold.
    """
    if epsilon is None:
        return ValueWithEntropy(None)
    # 1. The value; factor by factor, as the square of the unit may have no number.
    penalty = epsilon * _relative_entropy(plan, x.weights, y.weights)
    total = objective + penalty * unit * unit
    if potentials is None:
        return ValueWithEntropy(total)
    # 2. How far it can be above the least one.
    if fused is not None:
        fused = fused.detached().converted(_array.widen)
    problem = problem_of(_in_float64(x), _in_float64(y), fused)
    curvature = curvature_between_couplings(problem.x, problem.y, problem.share)
    # Written so that what is no number proves nothing.
    if not epsilon > curvature.threshold:
        return ValueWithEntropy(total)
    _, g = potentials
    gap = _gap(problem, widened(plan), epsilon, g)
    # The tangent of F is not below F: what it may miss is a multiple of the gap.
    factor = 1.0 + 4 * curvature.largest / (epsilon - curvature.threshold)
    value = _array.number(total)
    floor = problem.floor * unit * unit
    lower = max(floor, value - factor * gap * unit * unit)
    return ValueWithEntropy(total, (lower, value))


def curvature_between_couplings(x: Space, y: Space, share: float = 1.0) -> Curvature:
    """Return what F can curve downwards between couplings, or a share of F.

    Parameters
    ----------
    x, y : Space
        The spaces.
    share : float
        The factor of F in the objective; a linear term has no curvature.

    Returns
    -------
    Curvature
        Both 0 where the kinds of the spaces tell that F is convex.
    """
    signs = x.sign * y.sign
    if signs < 0:
        return Curvature(0.0, 0.0)
    if signs > 0:
        norm_R, largest_R = _of_diagonal(x)
        norm_S, largest_S = _of_diagonal(y)
        threshold = 4 * norm_R * norm_S
        return Curvature(share * threshold, share * (largest_R * largest_S))
    largest = share * (_half_range(x) * _half_range(y))
    return Curvature(4 * largest, largest)


def _of_diagonal(space: Space) -> tuple[float, float]:
    """Return the weighted norm and the largest of the |R_ii| of a definite residual.

    No entry is larger than the largest of these.
    """
    xp = _array.namespace(space.weights)
    parts = []
    if space.low_rank is not None:
        for block in space.low_rank.blocks():
            parts.append(xp.sum(block**2, axis=0))
    else:
        for start, stop in _blocks(space):
            rows = space.residual_rows(start, stop)
            parts.append(xp.abs(xp.linalg.diagonal(rows[:, start:stop])))
    diagonal = _array.joined(parts)  # (n,)
    norm = float(space.weights @ diagonal**2) ** 0.5
    return norm, float(xp.max(diagonal))


def _half_range(space: Space) -> float:
    """Return a number c such that |R_ik − r| ≤ c for some number r."""
    if space.low_rank is not None:
        return space.low_rank.largest()
    xp = _array.namespace(space.weights)
    largest = -math.inf
    least = math.inf
    for start, stop in _blocks(space):
        rows = space.residual_rows(start, stop)
        largest = max(largest, float(xp.max(rows)))
        least = min(least, float(xp.min(rows)))
    return (largest - least) / 2


def _blocks(space: Space) -> Iterator[tuple[int, int]]:
    """Return ranges of few rows, beside which solvers may hold their matrices."""
    return column_blocks(space.size, space.size)


def _cross(x: Space, y: Space, plan: Plan) -> Array:
    """Return R π S, shape (n, m), without R or S where these are matrices."""
    S_times_plan = _residual_times(y, plan.dense().T)  # S πᵀ, (m, n)
    return _residual_times(x, S_times_plan.T)


def _residual_times(space: Space, values: Array) -> Array:
    """Return R @ values for values of shape (n, k)."""
    if space.low_rank is not None:
        return space.residual().apply(values)
    blocks = []
    for start, stop in _blocks(space):
        blocks.append(space.residual_rows(start, stop) @ values)
    return _array.joined(blocks)


def _gap(problem: GWProblem, plan: Plan, epsilon: float, g: Array) -> float:
    """Bound ⟨∇F(π), π⟩ + ε KL(π) less the least ⟨∇F(π), σ⟩ + ε KL(σ) over couplings.

    By duality, from any numbers g (theorem 8 h).
    """
    a = problem.x.weights
    b = problem.y.weights
    cross = problem.share * _cross(problem.x, problem.y, plan)
    gradient = problem.gradient(cross)
    linear = float(plan.inner(gradient))
    value = linear + epsilon * _relative_entropy(plan, a, b)
    # In units of ε. Each step raises the dual value; after the last one exponentials
    # sum to 1. Where ∇F is additive, as at a ⊗ b where that is stationary, these few
    # end at the potentials from any start.
    cost = gradient / epsilon
    v = _array.from_numpy(_array.to_numpy(g), b) / epsilon
    u = _soft_minima(cost, v, b)
    v = _soft_minima(cost.T, u, a)
    u = _soft_minima(cost, v, b)
    dual = epsilon * (float(a @ u) + float(b @ v))
    return max(0.0, value - dual)


def _soft_minima(cost: Array, v: Array, b: Array) -> Array:
    """Return −log Σ_j b_j exp(v_j − cost_ij), shape (n,)."""
    xp = _array.namespace(b)
    tiny = xp.finfo(b.dtype).smallest_normal
    log_b = xp.log(xp.clip(b, min=tiny))
    exponent = (v + log_b)[None, :] - cost
    return -_array.logsumexp(exponent, axis=1)


def _in_float64(space: Space) -> Space:
    """Return a space in float64, without gradients."""
    return converted(detached(space), _array.widen)


def _relative_entropy(plan: Plan, a: Array, b: Array) -> float:
    """Return KL(π | a ⊗ b) = Σ π_ij log(π_ij / a_i b_j), where 0 log 0 = 0."""
    matrix = _array.detached(plan.dense())
    xp = _array.namespace(matrix)
    tiny = xp.finfo(matrix.dtype).smallest_normal
    a = xp.clip(_array.detached(a), min=tiny)
    b = xp.clip(_array.detached(b), min=tiny)
    # The product of two small weights may underflow to 0, so logarithms are taken one
    # by one.
    log_mass = xp.log(xp.clip(matrix, min=tiny))
    log_a = xp.log(a)
    log_b = xp.log(b)
    log_ratio = log_mass - log_a[:, None] - log_b[None, :]  # (n, m)
    rows = xp.vecdot(matrix, log_ratio)  # (n,)
    return float(xp.sum(rows))
