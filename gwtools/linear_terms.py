"""Linear terms ⟨L, π⟩ of fused objectives, and how much they vary over couplings.

Of one problem, or of each problem of a stack.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gwtools import _array
from gwtools._array import Array
from gwtools._stacks import (
    Numbers,
    at_pairs,
    chosen,
    dot,
    expanded,
    from_left,
    is_stack,
    numbers,
)


@dataclass(frozen=True, eq=False)
class LinearTerm:
    """⟨L, π⟩ = Σ L_ij π_ij over couplings π of weights a and b.

    Parameters
    ----------
    costs : array of shape (…, n, m)
        L, in squared units of C; 0 at the padding of a stack.
    a, b : arrays of shape (…, n) and (…, m)
        The weights.
    """

    costs: Array
    a: Array
    b: Array

    @cached_property
    def row_means(self) -> Array:
        """L b, shape (…, n)."""
        return _array.times(self.costs, self.b)

    @cached_property
    def column_means(self) -> Array:
        """Lᵀ a, shape (…, m)."""
        return from_left(self.a, self.costs)

    @cached_property
    def mean(self) -> Numbers:
        """⟨L, a ⊗ b⟩, the term at the product coupling."""
        return dot(self.a, self.row_means)

    @cached_property
    def centred(self) -> Array:
        """L less what depends on i or on j alone, 0 on average over rows and columns.

        On couplings the term is ⟨L, a ⊗ b⟩ plus that of this matrix.
        """
        of_rows = self.row_means - expanded(self.mean, 1)
        of_columns = self.column_means[..., None, :]
        centred = self.costs - of_rows[..., :, None] - of_columns
        return at_pairs(self.a, self.b, centred, 0.0)

    @cached_property
    def size(self) -> Numbers:
        """No coupling's term is farther than this from the product coupling's.

        The lesser of two bounds: a coupling has mass 1, and as a density
        between L²(b) and L²(a) it is a contraction of rank at most min(n, m).
        """
        by_norm = _root(self._least_count()) * self._norm(self.centred)
        by_entries = _largest(self.centred)
        return chosen(by_norm < by_entries, by_norm, by_entries)

    @cached_property
    def float_error(self) -> Numbers:
        """Estimate of the float error of the term of the centred matrix.

        Entries of L are off by about the spacing of 1.0 times themselves. The factor 16
        is a margin, no proof.
        """
        spacing = _array.epsilon(self.costs)
        return 16 * spacing * self._norm(self.costs)

    @cached_property
    def least(self) -> Numbers:
        """The least entry of L, which no coupling's term is below."""
        xp = _array.namespace(self.costs)
        return numbers(xp.min(self.costs, axis=(-2, -1)))

    def _least_count(self) -> Numbers:
        """Return min(n, m), without the padding of a stack."""
        n, m = self.costs.shape[-2:]
        if self.a.ndim == 1:
            return min(n, m)
        xp = _array.namespace(self.costs)
        of_x = xp.count_nonzero(self.a, axis=-1)
        of_y = xp.count_nonzero(self.b, axis=-1)
        return xp.astype(xp.minimum(of_x, of_y), self.costs.dtype)

    def _norm(self, matrix: Array) -> Numbers:
        """Return the root of Σ a_i b_j matrix_ij²."""
        # In units of the largest entry, whose square may have no number.
        largest = _largest(matrix)
        unit = chosen(largest == 0.0, 1.0, largest)
        squares = (matrix / expanded(unit, 2)) ** 2
        return unit * _root(dot(self.a, _array.times(squares, self.b)))


def _root(values: Numbers) -> Numbers:
    """Return the square root of a number, or of those of a stack."""
    if not is_stack(values):
        return math.sqrt(values)
    return values**0.5


def _largest(matrix: Array) -> Numbers:
    """Return the largest absolute value of a matrix, or of each of a stack."""
    xp = _array.namespace(matrix)
    return numbers(xp.max(xp.abs(matrix), axis=(-2, -1)))


def share_of(alpha: Any) -> float:
    """Return α as a number, of a float or of an array without axes."""
    return alpha if isinstance(alpha, float) else _array.number(alpha)


class WithFeatures:
    """The share and the linear term of a problem with features M, or without."""

    x: Any
    y: Any
    features: Array  # M, (n, m), or None
    alpha: Any  # α, or None

    @cached_property
    def share(self) -> float:
        """α, the factor of F in a fused objective; 1 for F alone."""
        return 1.0 if self.alpha is None else share_of(self.alpha)

    @cached_property
    def linear(self) -> LinearTerm | None:
        """The linear term (1 − α) ⟨M, π⟩; None for F alone, also where α is 1."""
        if self.share == 1.0:
            return None
        costs = (1.0 - self.share) * self.features
        return LinearTerm(costs, self.x.weights, self.y.weights)
