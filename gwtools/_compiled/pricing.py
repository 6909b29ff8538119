"""Pricing of the arcs of a transport program: one pass over its matrix of costs.

The reduced cost of the arc from row i to column j is c_ij − u_i − v_j.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gwtools._compiled.compilation import compiled

_PER_COLUMN = 2


@compiled
def tightened(cost: Any, u: Any, per_row: int) -> Any:
    """Tighten potentials, and list the arcs that these price lowest.

    Parameters
    ----------
    cost : numpy array of shape (n, m)
        Costs, of C order.
    u : numpy array of shape (n,)
        Potentials of the rows, which are overwritten: those of the columns become
        v_j = min_i (c_ij − u_i), and then u_i = min_j (c_ij − v_j).
    per_row : int
        How many arcs of each row are listed, at most m; two of each column are.

    Returns
    -------
    (array of shape (m,), array of shape (n, per_row), array of shape (m, 2))
        v, the columns of each row's arcs, and the rows of each column's.
    """
    n, m = cost.shape
    v = np.full(m, np.inf)
    for i in range(n):
        row = cost[i]
        u_i = u[i]
        for j in range(m):
            v[j] = min(v[j], row[j] - u_i)
    of_rows = np.zeros((n, per_row), np.int32)
    of_cols = np.zeros((m, _PER_COLUMN), np.int32)
    reduced = np.empty(m)
    least = np.empty(per_row)
    first = np.full(m, np.inf)
    second = np.full(m, np.inf)
    for i in range(n):
        row = cost[i]
        for j in range(m):
            reduced[j] = row[j] - v[j]
        _least_of(reduced, least, of_rows[i])
        u_i = least[0]
        u[i] = u_i
        for j in range(m):
            value = reduced[j] - u_i
            if value < second[j]:
                if value < first[j]:
                    second[j] = first[j]
                    of_cols[j, 1] = of_cols[j, 0]
                    first[j] = value
                    of_cols[j, 0] = i
                else:
                    second[j] = value
                    of_cols[j, 1] = i
    return v, of_rows, of_cols


@compiled
def _least_of(values: Any, least: Any, places: Any) -> None:
    """Write the least values, ascending, and where they are."""
    count = len(least)
    least[:] = np.inf
    most = np.inf
    for j in range(len(values)):
        value = values[j]
        if value < most:
            t = count - 1
            while t > 0 and least[t - 1] > value:
                least[t] = least[t - 1]
                places[t] = places[t - 1]
                t -= 1
            least[t] = value
            places[t] = j
            most = least[count - 1]


@compiled
def violated(cost: Any, u: Any, v: Any, per_row: int, allowed: float) -> Any:
    """List arcs of negative reduced cost, and the least of each row.

    Parameters
    ----------
    cost : numpy array of shape (n, m)
        Costs, of C order.
    u, v : numpy arrays of shape (n,) and (m,)
        Potentials.
    per_row : int
        How many arcs of each row are listed at most, at most m; two of each column are.
    allowed : float
        Arcs whose reduced cost is at least minus this are not listed.

    Returns
    -------
    (array of shape (n,), array of shape (k,), array of shape (k,))
        The least reduced cost of each row; the rows and the columns of the arcs.
    """
    n, m = cost.shape
    least_of_rows = np.empty(n)
    rows = np.empty(n * per_row + _PER_COLUMN * m, np.int32)
    cols = np.empty(n * per_row + _PER_COLUMN * m, np.int32)
    count = 0
    of_cols = np.full((m, _PER_COLUMN), -1, np.int32)
    reduced = np.empty(m)
    least = np.empty(per_row)
    places = np.zeros(per_row, np.int32)
    first = np.full(m, -allowed)
    second = np.full(m, -allowed)
    for i in range(n):
        row = cost[i]
        u_i = u[i]
        smallest = np.inf
        for j in range(m):
            value = row[j] - u_i - v[j]
            reduced[j] = value
            smallest = min(smallest, value)
        least_of_rows[i] = smallest
        # Late in a program most rows have no such arc.
        if smallest >= -allowed:
            continue
        _least_of(reduced, least, places)
        for t in range(per_row):
            if least[t] < -allowed:
                rows[count] = i
                cols[count] = places[t]
                count += 1
        for j in range(m):
            value = reduced[j]
            if value < second[j]:
                if value < first[j]:
                    second[j] = first[j]
                    of_cols[j, 1] = of_cols[j, 0]
                    first[j] = value
                    of_cols[j, 0] = i
                else:
                    second[j] = value
                    of_cols[j, 1] = i
    for j in range(m):
        for t in range(_PER_COLUMN):
            if of_cols[j, t] >= 0:
                rows[count] = of_cols[j, t]
                cols[count] = j
                count += 1
    return least_of_rows, rows[:count], cols[:count]
