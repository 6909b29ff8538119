"""Weights, and how far the marginals of listed masses are from them, in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from gwtools._compiled.compilation import compiled


@compiled
def are_equal(values: Any) -> bool:
    """Tell whether all numbers of an array (n,) are one."""
    return bool((values == values[0]).all())


@compiled
def missed(rows: Any, cols: Any, masses: Any, a: Any, b: Any) -> Any:
    """Return how far the sums of listed masses are from weights, and what is positive.

    Parameters
    ----------
    rows, cols : integer arrays of shape (k,)
        The arcs.
    masses : numpy array of shape (k,)
        Their masses.
    a, b : numpy arrays of shape (n,) and (m,)
        The weights.

    Returns
    -------
    (float, bool, bool)
        The largest error of a row or a column, NaN where one is; whether each column
        has an arc of mass above 0; and whether all masses are above 0.
    """
    of_rows = -a
    of_cols = -b
    all_positive = True
    is_touched = np.zeros(len(b), np.bool_)
    for t in range(len(masses)):
        of_rows[rows[t]] += masses[t]
        of_cols[cols[t]] += masses[t]
        if masses[t] > 0.0:
            is_touched[cols[t]] = True
        else:
            all_positive = False
    error = max(np.abs(of_rows).max(), np.abs(of_cols).max())
    return error, is_touched.all(), all_positive
