"""W_p between all pairs of rows of two matrices, for Mémoli's third bound."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial.distance import cdist

from gwtools import _array
from gwtools._array import NumpyArray
from gwtools.spaces import Space
from gwtools.transport.quantile_cells import equal_cells, merged_cells


class Centred(NamedTuple):
    """A space in float64 NumPy, and the parts of C = m + α1ᵀ + 1αᵀ + R, R a = 0."""

    weights: NumpyArray  # a, (n,)
    matrix: NumpyArray  # C, (n, n)
    mean: float  # m_C = aᵀC a
    deviations: NumpyArray  # α = C a − m_C, (n,)
    residual: NumpyArray  # R, (n, n)

    @property
    def row_means(self) -> NumpyArray:
        """f_C = C a, shape (n,), in units of C."""
        return np.asarray(self.deviations + self.mean)


def centred(space: Space) -> Centred:
    """Split a space with positive weights into its parts, in float64; O(n²) memory."""
    weights = _array.to_numpy(space.weights)
    weights = weights.astype(np.float64)
    matrix = _array.to_numpy(space.dense())
    matrix = matrix.astype(np.float64, copy=False)
    if not space.directed:
        # Entries C_ik and C_ki may differ by float error; theorem 2 needs them equal.
        matrix = (matrix + matrix.T) / 2
    row_means = matrix @ weights
    mean = float(weights @ row_means)
    deviations = row_means - mean
    additive = deviations[:, None] + deviations  # α1ᵀ + 1αᵀ, (n, n)
    residual = matrix - mean - additive
    return Centred(weights, matrix, mean, deviations, residual)


def transports(
    C: NumpyArray,
    a: NumpyArray,
    D: NumpyArray,
    b: NumpyArray,
    p: float = 2.0,
) -> NumpyArray:
    """Return W_p^p between all rows of C with weights a and rows of D with weights b.

    Parameters
    ----------
    C, D : numpy arrays of shape (k, n) and (l, m)
        Rows of two matrices.
    a, b : numpy arrays of shape (n,) and (m,)
        Positive weights of the columns, each with sum 1.
    p : float
        Power of the cost, at least 1.

    Returns
    -------
    numpy array of shape (k, l)
        In units of C to the power p. A sort and a matrix product where the weights are
        uniform and p = 2; O(k l min(n, m)) for other weights and p = 2; one merge for
        each pair of rows for other p.
    """
    if uniform(a) and uniform(b):
        x = np.sort(C, axis=1)
        y = np.sort(D, axis=1)
        x, y, widths = _common_cells(x, y)
        return _over_cells(x, y, widths, p)
    if p == 2:
        return _by_correlations(C, a, D, b)
    return _merged(C, a, D, b, p)


def uniform(weights: NumpyArray) -> bool:
    """Tell whether all weights are equal up to float error."""
    spread = np.ptp(weights)
    eps = np.finfo(weights.dtype).eps
    return bool(spread <= 4 * eps * weights.max())


def _common_cells(
    x: NumpyArray, y: NumpyArray
) -> tuple[NumpyArray, NumpyArray, NumpyArray]:
    """Write sorted rows of n and of m equal weights on the common cells of both grids.

    There are n + m − gcd(n, m) cells; returned are the values of both rows on each
    cell, and the widths of the cells.
    """
    n = x.shape[1]
    m = y.shape[1]
    if n == m:
        widths = np.full(n, 1.0 / n)
        return x, y, widths
    cells = equal_cells(np.asarray(n), np.asarray(m), x)
    values_x = x[:, cells.rows]  # (k, n + m − gcd(n, m))
    values_y = y[:, cells.cols]
    return values_x, values_y, cells.mass


def _over_cells(
    x: NumpyArray,
    y: NumpyArray,
    widths: NumpyArray,
    p: float,
) -> NumpyArray:
    """Sum widths · |x_i − y_j|^p over the cells, for all pairs of rows."""
    if p == 2:
        return _squares_over_cells(x, y, widths)
    if p == 1:
        costs = cdist(x * widths, y * widths, "cityblock")
        return np.asarray(costs)
    # Row by row: all differences at once would be k l numbers for each cell.
    rows = [np.abs(row - y) ** p @ widths for row in x]
    return np.stack(rows)


def _squares_over_cells(
    x: NumpyArray,
    y: NumpyArray,
    widths: NumpyArray,
) -> NumpyArray:
    """Sum widths · (x_i − y_j)² over the cells as |x_i|² + |y_j|² − 2 ⟨x_i, y_j⟩."""
    # Costs do not change by the shift, and fewer digits cancel between small squares.
    shift = x.mean()
    roots = np.sqrt(widths)
    x = (x - shift) * roots
    y = (y - shift) * roots
    squares_x = np.einsum("ik,ik->i", x, x)
    squares_y = np.einsum("jk,jk->j", y, y)
    squares = squares_x[:, None] + squares_y  # (k, l)
    costs = squares - 2 * (x @ y.T)
    # Rounding may leave a square of almost equal rows below zero.
    return np.asarray(np.maximum(costs, 0.0))


def _by_correlations(
    C: NumpyArray,
    a: NumpyArray,
    D: NumpyArray,
    b: NumpyArray,
) -> NumpyArray:
    """Return W_2² between all pairs of rows as E C_i² + E D_j² − 2 max E[C_i D_j]."""
    squares_x = C**2 @ a
    squares_y = D**2 @ b
    squares = squares_x[:, None] + squares_y  # (k, l)
    # Integrals are read at the quantiles of the first matrix: the one of fewer columns.
    if C.shape[1] > D.shape[1]:
        transposed = _correlations(D, b, C, a)
        correlations = transposed.T
    else:
        correlations = _correlations(C, a, D, b)
    costs = squares - 2 * correlations
    return np.asarray(np.maximum(costs, 0.0))


def _correlations(
    C: NumpyArray,
    a: NumpyArray,
    D: NumpyArray,
    b: NumpyArray,
) -> NumpyArray:
    """Return the largest E[C_i D_j] over couplings, for all i and j (lemma A).

    With x_i1 ≤ x_i2 ≤ … the values of row i, e_ik the right ends of their quantile
    cells and G_j the integral of the quantile function of D_j from 0, it is
    Σ_k x_ik (G_j(e_ik) − G_j(e_i,k−1)).
    """
    x, ends_x = _quantiles(C, a)
    y, ends_y = _quantiles(D, b)
    # Summed by parts, Σ_k x_ik (G_j(e_ik) − G_j(e_i,k−1)) needs G_j at the inner ends
    # only, and at 1.
    jumps = -np.diff(x, axis=1)  # x_ik − x_i,k+1, (k, n − 1)
    inner = ends_x[:, :-1].ravel()
    correlations = np.empty((len(x), len(y)))
    for j in range(len(y)):
        # 1. G_j, the integral of the quantile function of D_j from 0, is linear between
        #    the ends of its cells.
        grid = np.concatenate([[0.0], ends_y[j]])
        areas = y[j] * np.diff(grid)
        integral = np.concatenate([[0.0], np.cumsum(areas)])
        # 2. Its values at the inner ends of each row of C.
        partial = np.interp(inner, grid, integral)
        partial = partial.reshape(jumps.shape)
        # 3. The sum by parts, for all i at once.
        inner_sum = np.einsum("ik,ik->i", partial, jumps)
        correlations[:, j] = inner_sum + x[:, -1] * integral[-1]
    return correlations


def _merged(
    C: NumpyArray,
    a: NumpyArray,
    D: NumpyArray,
    b: NumpyArray,
    p: float,
) -> NumpyArray:
    """Merge the quantile cells of each pair of rows; O(l (n + m)) memory."""
    x, ends_x = _quantiles(C, a)
    y, ends_y = _quantiles(D, b)
    costs = np.empty((len(x), len(y)))
    for i in range(len(x)):
        costs[i] = _from_one_row(x[i], ends_x[i], y, ends_y, p)
    return costs


def _from_one_row(
    x: NumpyArray,
    ends_x: NumpyArray,
    y: NumpyArray,
    ends_y: NumpyArray,
    p: float,
) -> NumpyArray:
    """Return W_p^p between one sorted row (n,) and each sorted row of y, shape (l,)."""
    ends = np.broadcast_to(ends_x, (len(y), len(x)))
    cells = merged_cells(ends, ends_y)
    values_x = x[cells.rows]  # (l, n + m − 1)
    values_y = np.take_along_axis(y, cells.cols, axis=1)
    difference = np.abs(values_x - values_y)
    powers = difference**p
    return np.asarray(np.einsum("jk,jk->j", cells.mass, powers))


def _quantiles(
    values: NumpyArray, weights: NumpyArray
) -> tuple[NumpyArray, NumpyArray]:
    """Sort each row; return it and the right ends of its quantile cells in [0, 1]."""
    order = np.argsort(values, axis=1)
    ends = np.cumsum(weights[order], axis=1)
    # The last end is 1 exactly: the cells of any two rows then end together.
    ends /= ends[:, -1:]
    ascending = np.take_along_axis(values, order, axis=1)
    return ascending, ends
