"""The best exchange of two atoms of a coupling, in one pass over all pairs of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from gwtools._compiled.compilation import compiled

_TILE = 32  # atoms: tiles of two matrices stay in the cache together


@compiled
def best_exchange(
    gradient: Any,
    left: Any,
    right: Any,
    rows: Any,
    cols: Any,
    mass: Any,
) -> Any:
    """Return the exchange of :meth:`gwtools.solvers.exchange.Atoms.best`.

    Parameters
    ----------
    gradient : numpy array of shape (n, m)
        That of F at the coupling.
    left, right : numpy arrays of shape (n, n) and (m, m)
        R and S.
    rows, cols : integer arrays of shape (K,)
        The positions of the atoms.
    mass : numpy array of shape (K,)
        Their masses.

    Returns
    -------
    (float, int, int)
        The change of the objective and the positions of both atoms in the list; 0 and
        twice 0 where there is no change below that.
    """
    count = len(mass)
    # 1. The gradient at the row of one atom and the column of another.
    slopes = np.empty((count, count))
    for s in range(count):
        of_row = gradient[rows[s]]
        for t in range(count):
            slopes[s, t] = of_row[cols[t]]
    # 2. Tile by tile, as one of both slopes of a pair is read down a column.
    least = 0.0
    first = 0
    second = 0
    for low in range(0, count, _TILE):
        for begin in range(low, count, _TILE):
            end = min(begin + _TILE, count)
            for s in range(low, min(low + _TILE, count)):
                i = rows[s]
                k = cols[s]
                of_s = slopes[s, s]
                R_ii = left[i, i]
                S_kk = right[k, k]
                for t in range(max(begin, s + 1), end):
                    j = rows[t]
                    c = cols[t]
                    moved = min(mass[s], mass[t])
                    slope = slopes[s, t] + slopes[t, s] - of_s - slopes[t, t]
                    along_x = R_ii + left[j, j] - 2 * left[i, j]
                    along_y = S_kk + right[c, c] - 2 * right[k, c]
                    change = moved * (slope - 2 * moved * along_x * along_y)
                    if change < least:
                        least = change
                        first = s
                        second = t
    return least, first, second


@compiled
def add_product(matrix: Any, column: Any, row: Any) -> None:
    """Add a product of a column and a row to a matrix, in place.

    Parameters
    ----------
    matrix : numpy array of shape (n, m)
        Overwritten.
    column, row : numpy arrays of shape (n,) and (m,)
        The factors.
    """
    for i in range(len(column)):
        factor = column[i]
        of_row = matrix[i]
        for j in range(len(row)):
            of_row[j] += factor * row[j]
