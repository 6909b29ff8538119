"""W_p between all pairs of rows of two matrices: the local distributions of values of Mémoli's third bound (theorem 7)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial.distance import cdist

from gwtools import _array
from gwtools._array import NumpyArray
from gwtools.spaces import Space
from gwtools.transport.one_dimensional import equal_cells, merged_cells


class Centred(NamedTuple):
    """A space in float64 NumPy: its weights, C, and the parts of C = m + α1ᵀ + 1αᵀ + R with R a = 0."""

    weights: NumpyArray
    matrix: NumpyArray
    mean: float
    deviations: NumpyArray
    residual: NumpyArray

    @property
    def row_means(self) -> NumpyArray:
        """f_C = C a, shape (n,), in units of C."""
        return np.asarray(self.deviations + self.mean)


def centred(space: Space) -> Centred:
    """Read a space whose weights are positive into float64 and split it into its parts; O(n²) memory."""
    weights = _array.to_numpy(space.weights).astype(np.float64)
    matrix = _array.to_numpy(space.dense()).astype(np.float64, copy=False)
    matrix = (matrix + matrix.T) / 2
    rows = matrix @ weights
    mean = float(weights @ rows)
    deviations = rows - mean
    return Centred(
        weights,
        matrix,
        mean,
        deviations,
        matrix - mean - (deviations[:, None] + deviations),
    )


def transports(
    C: NumpyArray, a: NumpyArray, D: NumpyArray, b: NumpyArray, p: float = 2.0
) -> NumpyArray:
    """Return W_p^p between row i of C with weights a and row j of D with weights b, for all i and j.

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
        return _over_cells(*_common_cells(np.sort(C, axis=1), np.sort(D, axis=1)), p)
    if p == 2:
        squares = (C**2 @ a)[:, None] + D**2 @ b
        swap = C.shape[1] > D.shape[1]
        correlation = _correlations(D, b, C, a).T if swap else _correlations(C, a, D, b)
        return np.asarray(np.maximum(squares - 2 * correlation, 0.0))
    return _merged(C, a, D, b, p)


def uniform(weights: NumpyArray) -> bool:
    """Tell whether all weights are equal up to float error."""
    return bool(np.ptp(weights) <= 4 * np.finfo(weights.dtype).eps * weights.max())


def _common_cells(
    x: NumpyArray, y: NumpyArray
) -> tuple[NumpyArray, NumpyArray, NumpyArray]:
    """Write sorted rows of n and of m equal weights on the n + m − gcd(n, m) cells of both quantile grids."""
    n, m = x.shape[1], y.shape[1]
    if n == m:
        return x, y, np.full(n, 1.0 / n)
    cells = equal_cells(np.asarray(n), np.asarray(m), x)
    return x[:, cells.rows], y[:, cells.cols], cells.mass


def _over_cells(
    x: NumpyArray, y: NumpyArray, widths: NumpyArray, p: float
) -> NumpyArray:
    """Sum widths · |x_i − y_j|^p over the cells, for all pairs of rows."""
    if p == 2:
        shift = x.mean()  # a smaller square cancels less
        x, y = ((values - shift) * np.sqrt(widths) for values in (x, y))
        squares = np.einsum("ik,ik->i", x, x)[:, None] + np.einsum("jk,jk->j", y, y)
        return np.asarray(np.maximum(squares - 2 * (x @ y.T), 0.0))
    if p == 1:
        return np.asarray(cdist(x * widths, y * widths, "cityblock"))
    return np.stack([np.abs(row - y) ** p @ widths for row in x])


def _quantiles(
    values: NumpyArray, weights: NumpyArray
) -> tuple[NumpyArray, NumpyArray]:
    """Sort each row; return it with the right ends of its quantile cells, of which the last is 1."""
    order = np.argsort(values, axis=1)
    ends = np.cumsum(weights[order], axis=1)
    ends /= ends[:, -1:]
    return np.take_along_axis(values, order, axis=1), ends


def _correlations(
    C: NumpyArray, a: NumpyArray, D: NumpyArray, b: NumpyArray
) -> NumpyArray:
    """Return the largest E[C_i D_j] over couplings: Σ_k x_ik (G_j(e_ik) − G_j(e_i,k−1)), G_j the integrated quantiles."""
    (x, ends), (y, knots) = _quantiles(C, a), _quantiles(D, b)
    # Summed by parts: G_j is needed at the inner ends only, and at 1.
    jumps, inner = -np.diff(x, axis=1), ends[:, :-1].ravel()
    largest = np.empty((len(x), len(y)))
    for j in range(len(y)):
        grid = np.concatenate([[0.0], knots[j]])
        integral = np.concatenate([[0.0], np.cumsum(y[j] * np.diff(grid))])
        partial = np.interp(inner, grid, integral).reshape(jumps.shape)
        largest[:, j] = np.einsum("ik,ik->i", partial, jumps) + x[:, -1] * integral[-1]
    return largest


def _merged(
    C: NumpyArray, a: NumpyArray, D: NumpyArray, b: NumpyArray, p: float
) -> NumpyArray:
    """Merge the quantile cells of each pair of rows; O(l (n + m)) memory."""
    (x, ends_x), (y, ends_y) = _quantiles(C, a), _quantiles(D, b)
    costs = np.empty((len(x), len(y)))
    for i in range(len(x)):
        cells = merged_cells(np.broadcast_to(ends_x[i], (len(y), x.shape[1])), ends_y)
        difference = np.abs(
            x[i][cells.rows] - np.take_along_axis(y, cells.cols, axis=1)
        )
        costs[i] = np.einsum("jk,jk->j", cells.mass, difference**p)
    return costs
