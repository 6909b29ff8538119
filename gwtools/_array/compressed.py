"""Compressed matrices: SciPy's sparse rows for matrices with few large entries."""

from __future__ import annotations

from typing import Any

import array_api_compat as compat
import numpy as np
from scipy.sparse import csr_array

from gwtools._array.libraries import Array, namespace

_WORTH_COMPRESSING = 2**16  # entries: products with fewer take little time anyhow


def is_compressed(matrix: Any) -> bool:
    """Tell whether a matrix stores only some of its entries."""
    return isinstance(matrix, csr_array)


def without_small(matrix: Array, share: float) -> Any:
    """Drop small entries, in total at most ``share`` of each row's sum.

    The result is compressed where few entries are left. Only matrices of NumPy that are
    large enough for it to save time are changed.
    """
    return without_small_masses(matrix, matrix, share)


def without_small_masses(values: Array, masses: Array, share: float) -> Any:
    """Drop the values (n, m) of small masses (n, m), as :func:`without_small` does."""
    if not compat.is_numpy_array(values) or values.size < _WORTH_COMPRESSING:
        return values
    n_columns = masses.shape[1]
    row_sums = masses @ np.ones_like(masses[0])
    # Even n_columns entries below this limit are less than the share of their row.
    limit = (share / n_columns) * row_sums[:, None]
    kept = masses > limit
    if np.count_nonzero(kept) > masses.size // 8:
        return values
    # A matrix in SciPy's row format: kept values, their columns, and where rows begin.
    position = np.flatnonzero(kept)
    kept_by_row = np.count_nonzero(kept, axis=1)
    row_ends = np.cumsum(kept_by_row)
    row_bounds = np.concatenate([[0], row_ends])
    kept_values = values.ravel()[position]
    column = position % n_columns
    return csr_array((kept_values, column, row_bounds), shape=masses.shape)


def scaled_exp(matrix: Array, rows: Array, cols: Array) -> Array:
    """Return exp(matrix + rows 1ᵀ + 1 colsᵀ) of matrices (…, n, m).

    It is the kernel exp(matrix) scaled by exp(rows) and exp(cols), and the only array
    allocated where the library allows that. Of a compressed matrix, only the stored
    entries are exponentiated.
    """
    if isinstance(matrix, csr_array):
        return _scaled_exp_of_stored(matrix, rows, cols)
    by_row = rows[..., :, None]
    by_column = cols[..., None, :]
    exponents = matrix + by_row
    if compat.is_numpy_array(exponents):
        np.add(exponents, by_column, out=exponents)
        return np.exp(exponents, out=exponents)
    xp = namespace(exponents)
    return xp.exp(exponents + by_column)


def _scaled_exp_of_stored(matrix: csr_array, rows: Array, cols: Array) -> csr_array:
    stored_by_row = np.diff(matrix.indptr)
    by_row = np.repeat(rows, stored_by_row)
    by_column = cols[matrix.indices]
    exponents = matrix.data + by_row + by_column  # one a stored entry
    values = np.exp(exponents)
    return csr_array((values, matrix.indices, matrix.indptr), shape=matrix.shape)
