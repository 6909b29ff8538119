"""Matrices and stacks of them: products, blocks, padding, spectra, distances."""

from __future__ import annotations

from collections.abc import Sequence

import array_api_compat as compat
import numpy as np
from scipy.sparse import csr_array
from scipy.spatial.distance import cdist as _scipy_cdist

from gwtools._array.libraries import (
    Array,
    NumpyArray,
    device,
    from_numpy,
    namespace,
    on_cpu,
)
from gwtools._array.precision import at_least_single, widen

_CACHED = 2**15  # entries: a quarter of a megabyte in float64


def times(matrix: Array, vector: Array) -> Array:
    """Multiply matrices (…, n, m), sparse or not, by vectors (…, m): shape (…, n)."""
    if vector.ndim == 1:
        return matrix @ vector
    columns = vector[..., None]  # (…, m, 1)
    return (matrix @ columns)[..., 0]


def dot(first: Array, second: Array) -> Array:
    """Return the inner products of vectors (…, n), shape (…)."""
    if first.ndim == 1:
        return first @ second
    return namespace(first, second).vecdot(first, second)


def add_outer(matrix: NumpyArray, column: NumpyArray, row: NumpyArray) -> None:
    """Add a column times a row to a matrix (n, m) of NumPy, in place.

    In blocks of rows that stay in the processor's cache.
    """
    n, m = matrix.shape
    step = max(1, _CACHED // m)
    for start in range(0, n, step):
        block = slice(start, start + step)
        matrix[block] += column[block, None] * row


def transposed(matrix: Array) -> Array:
    """Transpose matrices (…, n, m)."""
    if matrix.ndim == 2:
        return matrix.T
    return namespace(matrix).matrix_transpose(matrix)


def exchanged_axes(values: Array) -> Array:
    """Exchange the first two axes of values (n, m) or (n, m, c)."""
    if values.ndim == 2:
        return values.T
    return namespace(values).permute_dims(values, (1, 0, 2))


def columns(matrix: Array) -> Array:
    """Transpose matrices (…, n, m); in NumPy and SciPy, store the columns as rows."""
    if isinstance(matrix, csr_array):
        return matrix.T.tocsr()
    turned = transposed(matrix)
    if compat.is_numpy_array(matrix):
        # Sums and products along the columns then read memory in its order.
        return np.ascontiguousarray(turned)
    return turned


def joined(parts: Sequence[Array], axis: int = 0) -> Array:
    """Concatenate blocks along an axis; a single one is not copied."""
    if len(parts) == 1:
        return parts[0]
    xp = namespace(parts[0])
    return xp.concat(parts, axis=axis)


def total(parts: Sequence[Array]) -> Array:
    """Sum arrays of one shape."""
    if len(parts) == 1:
        return parts[0]
    xp = namespace(parts[0])
    stack = xp.stack(parts)
    return xp.sum(stack, axis=0)


def padded(array: Array, size: int, axes: int = 1) -> Array:
    """Pad each of the last ``axes`` axes with zeros to the length ``size``."""
    xp = namespace(array)
    first = array.ndim - axes
    for axis in range(first, array.ndim):
        missing = size - array.shape[axis]
        if missing > 0:
            shape = list(array.shape)
            shape[axis] = missing
            zeros = _zeros(tuple(shape), array)
            array = xp.concat([array, zeros], axis=axis)
    return array


def _zeros(shape: tuple[int, ...], like: Array) -> Array:
    """Return zeros of the library, dtype and device of an array."""
    xp = namespace(like)
    return xp.zeros(shape, dtype=like.dtype, device=device(like))


def stacked(matrices: Sequence[Array], size: int) -> Array:
    """Pad B square matrices with zeros and stack them: shape (B, size, size)."""
    if compat.is_numpy_array(matrices[0]):
        return _stacked_in_numpy(matrices, size)
    # One lookup for the whole stack: padding matrix by matrix is several calls each,
    # whose start takes a GPU longer than the work.
    first = matrices[0]
    xp = namespace(first)
    flat = [xp.reshape(matrix, (-1,)) for matrix in matrices]
    flat.append(_zeros((1,), first))
    entries = xp.concat(flat)  # (Σ n_b² + 1,), with a zero at the end for the padding
    sizes = [matrix.shape[0] for matrix in matrices]
    positions = _positions_in_stack(sizes, size)
    flat_positions = from_numpy(positions.reshape(-1), first)
    stack = xp.take(entries, flat_positions)
    return xp.reshape(stack, positions.shape)


def _stacked_in_numpy(matrices: Sequence[Array], size: int) -> Array:
    shape = (len(matrices), size, size)
    stack = np.zeros(shape, dtype=matrices[0].dtype)
    for target, matrix in zip(stack, matrices, strict=True):
        n = matrix.shape[0]
        target[:n, :n] = matrix
    return stack


def _positions_in_stack(sizes: Sequence[int], size: int) -> Array:
    """Return where each entry of a padded stack is in the list of all entries.

    The list holds the matrices one after the other, row by row, and then a zero, which
    the padding is read from. Shape (B, size, size).
    """
    n = np.array(sizes)[:, None, None]  # (B, 1, 1)
    count = n**2
    ends = np.cumsum(count, axis=0)
    starts = ends - count
    column = np.arange(size)
    row = column[:, None]
    inside = (row < n) & (column < n)
    position = starts + row * n + column  # (B, size, size)
    zero_at = ends[-1]
    return np.where(inside, position, zero_at)


def take_along_rows(values: Array, index: Array) -> Array:
    """Return the entries of each row at the positions in that row of an index.

    Values are (N,) or (B, N), and positions (K,) or (B, K).
    """
    if not compat.is_numpy_array(values):
        xp = namespace(values)
        return xp.take_along_axis(values, index, axis=-1)
    # In NumPy, take from a flat list is several times faster than take_along_axis.
    if values.ndim == 1:
        return values.take(index)
    count, size = values.shape
    row_starts = size * np.arange(count)[:, None]
    flat = values.reshape(-1)
    return flat.take(index + row_starts)


def scatter_sum(index: Array, values: Array, size: int) -> Array:
    """Sum values (K,) by their index (K,), which may repeat: shape (size,)."""
    if compat.is_numpy_array(values):
        sums = np.bincount(index, weights=values, minlength=size)
        return sums.astype(values.dtype, copy=False)
    xp = namespace(values)
    zeros = _zeros((size,), values)
    if compat.is_torch_array(values):
        return zeros.index_add(0, index, values)
    if compat.is_jax_array(values):
        return zeros.at[index].add(values)
    # The standard has no sum by index: a product with the incidence matrix is one.
    places = xp.arange(size, device=device(values))
    incidence = places[:, None] == index[None, :]  # (size, K)
    return xp.astype(incidence, values.dtype) @ values


def all_equal(values: Array) -> bool:
    """Tell whether all entries of a list are the same number."""
    xp = namespace(values)
    equal = values == values[0]
    return bool(xp.all(equal))


def all_positive(values: Array) -> bool:
    """Tell whether all entries of a list are above 0."""
    xp = namespace(values)
    return bool(xp.all(values > 0))


def logsumexp(array: Array, axis: int) -> Array:
    """Return the logarithm of the sum of exponentials along an axis.

    Every line along the axis must have a finite entry.
    """
    xp = namespace(array)
    largest = xp.max(array, axis=axis, keepdims=True)
    shifted = array - largest
    # Exponents ≤ 0, one of them 0: the sums neither overflow nor vanish.
    exponentials = _exp_in_place(shifted)
    sums = xp.sum(exponentials, axis=axis)
    scale = xp.squeeze(largest, axis=axis)
    return xp.log(sums) + scale


def _exp_in_place(array: Array) -> Array:
    """Exponentiate an array; in NumPy, into its own memory."""
    if compat.is_numpy_array(array):
        return np.exp(array, out=array)
    return namespace(array).exp(array)


def eigenvalues(matrices: Array) -> Array:
    """Return eigenvalues (…, k), ascending, of symmetric matrices (…, k, k)."""
    xp = namespace(matrices)
    # No library has a routine for half precision.
    wide = at_least_single(matrices)
    # PyTorch's float32 routine on the CPU fails on some matrices of low rank.
    if compat.is_torch_array(wide) and on_cpu(wide):
        wide = widen(wide)
    values = xp.linalg.eigvalsh(wide)
    return xp.astype(values, matrices.dtype, copy=False)


def pairwise_distances(x: Array, y: Array) -> Array:
    """Return Euclidean distances between the rows of x (n, d) and y (m, d).

    They are computed from differences, never from the expansion of the square, so that
    near points keep their digits. The gradient at coinciding points is defined as zero.
    """
    if compat.is_numpy_array(x):
        return _scipy_cdist(x, y).astype(x.dtype, copy=False)
    if compat.is_torch_array(x):
        return _torch_distances(x, y)
    return _standard_distances(x, y)


def _torch_distances(x: Array, y: Array) -> Array:
    """Return distances by PyTorch, which computes none in half precision."""
    xp = namespace(x, y)
    wide_x = at_least_single(x)
    wide_y = at_least_single(y)
    mode = "donot_use_mm_for_euclid_dist"
    distances = xp.cdist(wide_x, wide_y, compute_mode=mode)
    return xp.astype(distances, x.dtype, copy=False)


def _standard_distances(x: Array, y: Array) -> Array:
    """Return distances by the functions of the array-API standard."""
    xp = namespace(x, y)
    n, dimension = x.shape
    m = y.shape[0]
    square = _zeros((n, m), x)
    # One coordinate after the other, so that no array (n, m, d) is made.
    for k in range(dimension):
        x_k = x[:, k]
        y_k = y[:, k]
        difference = x_k[:, None] - y_k[None, :]  # (n, m)
        square = square + difference**2
    distinct = square > 0
    # Zeros are replaced before the root, whose derivative there is infinite.
    ones = xp.ones_like(square)
    zeros = xp.zeros_like(square)
    base = xp.where(distinct, square, ones)
    distances = xp.sqrt(base)
    return xp.where(distinct, distances, zeros)
