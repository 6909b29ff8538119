"""A lower bound over plans with free marginals, by minima over rows (theorem 18)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from gwtools._array import NumpyArray
from gwtools.bounds.certified import AffineMinorant, lower_by_root
from gwtools.bounds.float_error import UNDERFLOW, Bound, gamma


class RowsSide(NamedTuple):
    """A space in float64 NumPy, and how far its stored weights and entries are off."""

    matrix: NumpyArray  # C, (n, n), symmetric
    weights: NumpyArray  # a, (n,)
    omega: float  # of the weights, see float_error.weight_terms
    entries: float  # radius of the entries


@dataclass(frozen=True, eq=False)
class RowCosts:
    """Costs T (n, m) of which F(π) ≥ ⟨T, π⟩, over plans with π1 ≤ a and of a mass.

    Parameters
    ----------
    side : RowsSide
        The space of the rows.
    minorant : AffineMinorant
        T; its error is that of T, of sums over it, and of their masses.
    mass : float
        s. Where it is 1, π1 = a, as semi-relaxed plans have it.
    """

    side: RowsSide
    minorant: AffineMinorant
    mass: float

    @classmethod
    def of(cls, x: RowsSide, y: RowsSide, mass: float) -> Self:
        """Compute T in O(n m (n log m)) for s = 1, and O(n m (n log n m)) for others.

        Parameters
        ----------
        x, y : RowsSide
            The spaces; the weights of y are not read.
        mass : float
            s.
        """
        n, _ = x.matrix.shape
        m, _ = y.matrix.shape
        costs = np.empty((n, m))  # T
        for j in range(m):
            nearest = _nearest_squares(x.matrix, np.sort(y.matrix[j]))
            costs[:, j] = _least_sums(nearest, x.weights, mass)
        # All float errors are relative to the largest square: n terms a sum, twice.
        largest = float(np.abs(x.matrix).max() + np.abs(y.matrix).max()) ** 2
        error = 8 * gamma(2 * n + 2 * x.omega + 40) * largest + UNDERFLOW
        errors = np.full((n, m), error)
        minorant = AffineMinorant(0.0, costs, errors, x.entries + y.entries)
        return cls(x, minorant, mass)

    def least(self) -> Bound:
        """Bound F from below: the value as computed, and the same rounded down."""
        value = self._over_rows(self.minorant.costs)
        error = float(self.minorant.costs_error.max())
        return Bound(value, lower_by_root(value - error, self.minorant.radius))

    def _over_rows(self, costs: NumpyArray) -> float:
        """Return the least Σ w_i min_j costs_ij of all 0 ≤ w ≤ a with Σ w = s."""
        least = costs.min(axis=1)  # (n,)
        return float(_least_sums(least[None, :], self.side.weights, self.mass)[0])


def _nearest_squares(values: NumpyArray, ascending: NumpyArray) -> NumpyArray:
    """Return the squared distance of each value to the nearest of a sorted list."""
    places = np.searchsorted(ascending, values)
    below = ascending[np.maximum(places - 1, 0)]
    above = ascending[np.minimum(places, len(ascending) - 1)]
    nearest: NumpyArray = np.minimum(np.abs(values - below), np.abs(values - above))
    return nearest**2


def _least_sums(values: NumpyArray, a: NumpyArray, mass: float) -> NumpyArray:
    """Return the least Σ w_k v_k of all 0 ≤ w ≤ a with Σ w = s, for each row v.

    By duality, as max over λ of λ s − Σ a_k (λ − v_k)₊, which any λ bounds from below;
    the maximum is at the value where the masses of the least values exceed s.
    """
    if mass == 1.0:
        sums: NumpyArray = values @ a
        return sums
    order = np.argsort(values, axis=1)
    masses = np.cumsum(a[order], axis=1)
    last = np.minimum((masses < mass).sum(axis=1), values.shape[1] - 1)
    ranked = np.take_along_axis(values, order, axis=1)
    levels = np.take_along_axis(ranked, last[:, None], axis=1)  # λ
    saved = np.maximum(levels - values, 0.0) @ a
    least: NumpyArray = levels[:, 0] * mass - saved
    return least
