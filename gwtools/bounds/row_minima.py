"""A lower bound over plans with free marginals, by minima over rows (theorem 18)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gwtools._array import NumpyArray
from gwtools.bounds.certified import lower_by_root
from gwtools.bounds.float_error import UNDERFLOW, Bound, gamma


class RowsSide(NamedTuple):
    """A space in float64 NumPy, and how far its stored weights and entries are off."""

    matrix: NumpyArray  # C, (n, n), symmetric
    weights: NumpyArray  # a, (n,)
    omega: float  # of the weights, see float_error.weight_terms
    entries: float  # radius of the entries


def row_minima(x: RowsSide, y: RowsSide, mass: float) -> Bound:
    """Bound F from below over all plans with π1 ≤ a and of a given mass.

    Parameters
    ----------
    x, y : RowsSide
        The spaces; the weights of y are not read.
    mass : float
        s. Where it is 1, π1 = a, as semi-relaxed plans have it.

    Returns
    -------
    Bound
        The value as computed, and the same rounded down; in squared units of C. O(n m
        (n log m)) for s = 1, and O(n m (n log n m)) for others, with O(n²) memory.
    """
    n, _ = x.matrix.shape
    m, _ = y.matrix.shape
    costs = np.empty((n, m))  # T
    for j in range(m):
        nearest = _nearest_squares(x.matrix, np.sort(y.matrix[j]))
        costs[:, j] = _least_sums(nearest, x.weights, mass)
    least = costs.min(axis=1)  # (n,)
    value = float(_least_sums(least[None, :], x.weights, mass)[0])
    # All float errors are relative to the largest square: n terms a sum, twice.
    largest = float(np.abs(x.matrix).max() + np.abs(y.matrix).max()) ** 2
    error = 8 * gamma(2 * n + 2 * x.omega + 40) * largest + UNDERFLOW
    return Bound(value, lower_by_root(value - error, x.entries + y.entries))


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
