"""Linear terms ⟨L, π⟩ of fused objectives, and how much they vary over couplings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gwtools import _array
from gwtools._array import Array


@dataclass(frozen=True, eq=False)
class LinearTerm:
    """⟨L, π⟩ = Σ L_ij π_ij over couplings π of weights a and b.

    Parameters
    ----------
    costs : array of shape (n, m)
        L, in squared units of C.
    a, b : arrays of shape (n,) and (m,)
        The weights.
    """

    costs: Array
    a: Array
    b: Array

    @cached_property
    def row_means(self) -> Array:
        """L b, shape (n,)."""
        return self.costs @ self.b

    @cached_property
    def column_means(self) -> Array:
        """Lᵀ a, shape (m,)."""
        return self.a @ self.costs

    @cached_property
    def mean(self) -> float:
        """⟨L, a ⊗ b⟩, the term at the product coupling."""
        return _array.number(self.a @ self.row_means)

    @cached_property
    def centred(self) -> Array:
        """L less what depends on i or on j alone, 0 on average over rows and columns.

        On couplings the term is ⟨L, a ⊗ b⟩ plus that of this matrix.
        """
        of_rows = self.row_means - self.mean
        return self.costs - of_rows[:, None] - self.column_means[None, :]

    @cached_property
    def size(self) -> float:
        """No coupling's term is farther than this from the product coupling's.

        The lesser of two bounds: a coupling has mass 1, and as a density
        between L²(b) and L²(a) it is a contraction of rank at most min(n, m).
        """
        n, m = self.costs.shape
        by_norm = math.sqrt(min(n, m)) * self._norm(self.centred)
        return min(_largest(self.centred), by_norm)

    @cached_property
    def float_error(self) -> float:
        """Estimate of the float error of the term of the centred matrix.

        Entries of L are off by about the spacing of 1.0 times themselves. The factor 16
        is a margin, no proof.
        """
        spacing = _array.epsilon(self.costs)
        return 16 * spacing * self._norm(self.costs)

    @cached_property
    def least(self) -> float:
        """The least entry of L, which no coupling's term is below."""
        xp = _array.namespace(self.costs)
        return _array.number(xp.min(self.costs))

    def _norm(self, matrix: Array) -> float:
        """Return the root of Σ a_i b_j matrix_ij²."""
        # In units of the largest entry, whose square may have no number.
        unit = _largest(matrix)
        if unit == 0.0:
            return 0.0
        squares = (matrix / unit) ** 2
        return unit * math.sqrt(_array.number(self.a @ (squares @ self.b)))


def _largest(matrix: Array) -> float:
    """Return the largest absolute value of a matrix."""
    xp = _array.namespace(matrix)
    return _array.number(xp.max(xp.abs(matrix)))


def share_of(alpha: Any) -> float:
    """Return α as a number, of a float or of an array without axes."""
    return alpha if isinstance(alpha, float) else _array.number(alpha)
