"""Pairings: a plan read as pairs of atoms, by rows or with no atom named twice."""

from __future__ import annotations

from typing import Any

import numpy as np

from gwtools._array import NumpyArray


def largest_of_rows(
    plan: Any,
    masses: NumpyArray,
) -> tuple[NumpyArray, NumpyArray, NumpyArray]:
    """Return the largest mass of each row that has any, with its position.

    Of equal masses the first.
    """
    # By row, in each by falling mass, then by column.
    order = np.lexsort((plan.col, -masses, plan.row))
    _, first = np.unique(plan.row[order], return_index=True)
    best = order[first]
    return plan.row[best], plan.col[best], masses[best]


def assignment(plan: Any) -> tuple[NumpyArray, NumpyArray, NumpyArray]:
    """Return min(n, m) positions, one a row and column at most, of the largest mass."""
    from scipy.optimize import linear_sum_assignment  # takes long to import

    matrix = plan.toarray()  # (n, m)
    rows, cols = linear_sum_assignment(matrix, maximize=True)
    masses = matrix[rows, cols].astype(np.float64)
    return rows, cols, masses
