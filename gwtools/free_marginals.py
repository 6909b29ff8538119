"""Free marginals: which plans compete with couplings where not all mass is matched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from gwtools import _array, _check_free
from gwtools._array import Array
from gwtools._check_free import BALANCED, SEMI_RELAXED
from gwtools.plans import DensePlan, Plan, make_unchecked
from gwtools.spaces import Space


@final
@dataclass(frozen=True)
class Partial:
    """Plans that move a part of the mass: no atom gives or gets more than its weight.

    For ``gw.solve(x, y, marginals=gw.Partial(mass))``: π1 ≤ a, πᵀ1 ≤ b and Σ π =
    ``mass``. Which atoms are left out is part of the answer.

    Parameters
    ----------
    mass : float
        The mass that is moved, above 0 and at most 1. At 1 the plans are the couplings
        of both weights, and the problem is the balanced one.

    Raises
    ------
    ValueError
        If ``mass`` is no number above 0 and at most 1.

    Examples
    --------
    Of four points on a line one is far away in y. Three quarters of the mass are
    matched without a distortion.

    >>> import numpy as np, gwtools as gw
    >>> x = gw.PointCloud(np.array([[0.0], [1.0], [3.0], [7.0]]))
    >>> y = gw.PointCloud(np.array([[7.0], [1.0], [0.0], [99.0]]))
    >>> result = gw.solve(x, y, marginals=gw.Partial(0.75))
    >>> round(float(result.objective), 12)
    0.0
    >>> [(i, j) for i, j, share in result.matching()]
    [(0, 2), (1, 1), (3, 0)]
    """

    mass: float

    def __post_init__(self) -> None:
        mass = _check_free.mass(self.mass)
        # The dataclass is frozen: its field is set past it.
        object.__setattr__(self, "mass", mass)


# "semi_relaxed" or a part of the mass.
FreeMarginals = str | Partial


def given_marginals(value: Any) -> FreeMarginals | None:
    """Return free marginals as they were passed, checked.

    None where the plans are the couplings of both weights.

    Raises
    ------
    TypeError, ValueError
        If they are neither a word for marginals nor a :class:`Partial`.
    """
    _check_free.marginals(value, Partial)
    if value == BALANCED or value == Partial(1.0):
        return None
    marginals: FreeMarginals = value
    return marginals


def with_read_weights(y: Space, marginals: FreeMarginals) -> Space:
    """Return y with uniform weights where its marginal is free: no weight is read.

    Atoms of weight 0 may receive mass then as all others.
    """
    if marginals != SEMI_RELAXED or y.equal_weights:
        return y
    weights = _array.detached(y.weights)
    xp = _array.namespace(weights)
    uniform = xp.ones_like(weights) / y.size
    return y.with_data(y.data, uniform)


def mass_of(marginals: FreeMarginals) -> float:
    """Return the mass of all plans."""
    return marginals.mass if isinstance(marginals, Partial) else 1.0


def misses(plan: Plan, x: Space, y: Space, marginals: FreeMarginals) -> float:
    """Return by how much mass a plan misses its constraints, in total.

    Semi-relaxed: ‖π1 − a‖₁. Partial: Σ (π1 − a)₊ + Σ (πᵀ1 − b)₊ + |Σ π − s|.
    """
    rows, cols = plan.marginals()
    xp = _array.namespace(rows)
    if not isinstance(marginals, Partial):
        return _array.number(xp.sum(xp.abs(rows - x.weights)))
    above_a = xp.sum(xp.clip(rows - x.weights, min=0.0))
    above_b = xp.sum(xp.clip(cols - y.weights, min=0.0))
    moved = xp.sum(rows)
    off = abs(_array.number(moved) - marginals.mass)
    return _array.number(above_a) + _array.number(above_b) + off


def rounded_free(
    matrix: Array, x: Space, y: Space, marginals: FreeMarginals
) -> DensePlan:
    """Round a non-negative matrix of masses onto free marginals.

    Rows and columns that give or get too much are scaled down, and what is missing is
    spread: semi-relaxed in proportion to the columns' mass, partial as a product of
    what all atoms have left.
    """
    a = x.weights
    b = y.weights
    xp = _array.namespace(matrix)
    tiny = xp.finfo(matrix.dtype).smallest_normal
    # 1. Scale down.
    row_sums = xp.clip(xp.sum(matrix, axis=1), min=tiny)
    matrix = matrix * xp.clip(a / row_sums, max=1.0)[:, None]
    if isinstance(marginals, Partial):
        col_sums = xp.clip(xp.sum(matrix, axis=0), min=tiny)
        matrix = matrix * xp.clip(b / col_sums, max=1.0)[None, :]
        moved = _array.number(xp.sum(matrix))
        matrix = matrix * min(1.0, marginals.mass / max(moved, float(tiny)))
    # 2. Spread what is missing.
    rows = xp.clip(a - xp.sum(matrix, axis=1), min=0.0)
    received = xp.sum(matrix, axis=0)
    if not isinstance(marginals, Partial):
        shares = received / xp.sum(received)
        spread = rows[:, None] * shares[None, :]
        return make_unchecked(DensePlan, matrix=matrix + spread)
    cols = xp.clip(b - received, min=0.0)
    missing = max(0.0, marginals.mass - _array.number(xp.sum(matrix)))
    room = _array.number(xp.sum(rows)) * _array.number(xp.sum(cols))
    share = missing / max(room, float(tiny))
    spread = share * (rows[:, None] * cols[None, :])
    return make_unchecked(DensePlan, matrix=matrix + spread)
