"""Array libraries: the functions that the array-API standard lacks, and the way to NumPy on the CPU.

No other file knows array libraries: everything else is written against the standard.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Hashable, Sequence
from functools import cache
from typing import Any, TypeAlias

import array_api_compat as compat
import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.spatial.distance import cdist as _scipy_cdist

Array: TypeAlias = Any
Namespace: TypeAlias = Any
NumpyArray: TypeAlias = npt.NDArray[Any]

_WORTH_COMPRESSING = 2**16  # entries: products with less are quick anyhow

_namespaces: dict[type, Namespace] = {}


def namespace(*arrays: Array) -> Namespace:
    """Return the array-API namespace of arrays of one library; remembered by type, as small problems ask often."""
    kind = type(arrays[0])
    xp = _namespaces.get(kind)
    if xp is None:
        xp = compat.array_namespace(*arrays)
        if is_array(arrays[0]):
            _namespaces[kind] = xp
    return xp


def is_array(value: object) -> bool:
    """Tell whether ``value`` is an array of a library that follows the array-API standard."""
    return bool(compat.is_array_api_obj(value))


def library(array: Array) -> str:
    """Name the array library that ``array`` belongs to, as a reader would write it."""
    module = namespace(array).__name__
    return str(module.removeprefix("array_api_compat.").split(".")[0])


def kind(array: Array) -> Hashable:
    """Name what arrays must share to be computed with together: library, dtype and device, without looking them up."""
    if is_traced(array):
        array = detached(array)
    return type(array), array.dtype, getattr(array, "device", None)


def device(array: Array) -> Any:
    """Return the device that holds an array, within a transformation of JAX as well."""
    return compat.device(detached(array) if is_traced(array) else array)


def dtype_name(array: Array) -> str:
    """Name the dtype of an array, whatever its byte order, which no computation keeps."""
    dtype = (
        array.dtype.newbyteorder("=") if compat.is_numpy_array(array) else array.dtype
    )
    return str(dtype)


def native(array: Array) -> Array:
    """Return the same numbers in the processor's byte order, which NumPy arrays read from files may lack."""
    if not compat.is_numpy_array(array) or array.dtype.isnative:
        return array
    return array.astype(array.dtype.newbyteorder("="))


def is_integer(array: Array) -> bool:
    """Tell whether the array holds integers."""
    return bool(namespace(array).isdtype(array.dtype, "integral"))


def is_floating(array: Array) -> bool:
    """Tell whether the array holds real floating-point numbers, half precision included."""
    return _is_floating(namespace(array), array.dtype)


@cache  # namespaces take their time to tell, and small problems ask often
def _is_floating(xp: Namespace, dtype: Any) -> bool:
    try:
        return bool(xp.isdtype(dtype, "real floating")) or "bfloat16" in str(dtype)
    except TypeError:  # a dtype that another package has added to NumPy
        return False


def epsilon(array: Array) -> float:
    """Spacing of 1.0 in the array's dtype."""
    return _epsilon(namespace(array), array.dtype)


@cache
def _epsilon(xp: Namespace, dtype: Any) -> float:
    return float(xp.finfo(dtype).eps)


def to_numpy(array: Array) -> NumpyArray:
    """Copy to the CPU as NumPy, out of any gradient graph; bfloat16, which NumPy lacks, becomes float32 exactly."""
    if compat.is_torch_array(array):
        array = array.detach().cpu()
        if "bfloat16" in str(array.dtype):
            array = array.float()
        return np.asarray(array.numpy())
    if compat.is_cupy_array(array):
        return np.asarray(array.get())
    if compat.is_numpy_array(array) or compat.is_jax_array(array):
        return np.asarray(detached(array))
    return np.asarray(np.from_dlpack(array))


def from_numpy(array: NumpyArray, like: Array) -> Array:
    """Bring a NumPy array to the library and device of ``like``; floating-point values take its dtype as well."""
    xp = namespace(like)
    dtype = like.dtype if np.issubdtype(array.dtype, np.floating) else None
    if xp is namespace(array):
        return array if dtype is None else array.astype(dtype, copy=False)
    return xp.asarray(np.asarray(array, order="C"), dtype=dtype, device=device(like))


def detached(array: Array) -> Array:
    """Return the values outside any gradient graph."""
    if compat.is_torch_array(array):
        return array.detach()
    return sys.modules["jax"].lax.stop_gradient(array) if is_traced(array) else array


def is_traced(array: Array) -> bool:
    """Tell whether an array is one of JAX within a transformation such as ``jax.grad``."""
    return bool(
        compat.is_jax_array(array) and isinstance(array, sys.modules["jax"].core.Tracer)
    )


def is_abstract(array: Array) -> bool:
    """Tell whether an array has no values yet, as within ``jax.jit`` and ``jax.vmap``."""
    return is_traced(array) and is_traced(detached(array))


def without_numbers(array: Array) -> str | None:
    """Name the kind of a PyTorch tensor whose entries cannot be read: on the meta device, nested, or within ``torch.vmap``."""
    if not compat.is_torch_array(array):
        return None
    if array.device.type == "meta":
        return "a tensor on the meta device"
    if array.is_nested:
        return "a nested tensor"
    is_batched = getattr(
        getattr(sys.modules["torch"]._C, "_functorch", None), "is_batchedtensor", None
    )
    return (
        "a tensor within torch.vmap"
        if is_batched is not None and is_batched(array)
        else None
    )


def is_wrapped(array: Array) -> bool:
    """Tell whether a tensor is within ``torch.func.grad`` or the like, where its entries can be computed with but not read."""
    if not compat.is_torch_array(array):
        return False
    test = getattr(
        getattr(sys.modules["torch"]._C, "_functorch", None),
        "is_functorch_wrapped_tensor",
        None,
    )
    return test is not None and bool(test(array))


def on_cpu(array: Array) -> bool:
    """Tell whether the array lies in the processor's memory."""
    return "cpu" in str(device(array)).lower()


def free_on_device(array: Array) -> float | None:
    """Return the bytes that are free on the CUDA device of a PyTorch tensor; None for arrays elsewhere."""
    if not compat.is_torch_array(array) or array.device.type != "cuda":
        return None
    cuda = sys.modules["torch"].cuda
    unused = cuda.memory_reserved(array.device) - cuda.memory_allocated(array.device)
    return float(cuda.mem_get_info(array.device)[0] + unused)


def tracked(array: Array) -> bool:
    """Tell whether gradients with respect to the array are asked for."""
    return (
        bool(array.requires_grad) if compat.is_torch_array(array) else is_traced(array)
    )


def exact_sum(values: Array) -> float:
    """Return the correctly rounded sum of a list, which does not depend on the order of its entries."""
    return math.fsum(to_numpy(values).tolist())


def normalised(weights: Array) -> Array:
    """Divide weights by their sum, which does not depend on their order but in a gradient graph."""
    return weights / (
        namespace(weights).sum(weights) if tracked(weights) else exact_sum(weights)
    )


def number(array: Array) -> float:
    """Read a 0-d array as a Python number, outside any gradient graph."""
    return float(detached(array))


def least_not_below(number: float, like: Array) -> float:
    """Return the least number of an array's dtype that is not below ``number``."""
    if epsilon(like) < 1e-10:
        return number
    narrow = np.float32(number)
    return float(
        narrow if float(narrow) >= number else np.nextafter(narrow, np.float32(np.inf))
    )


def with_value(array: Array, number: float) -> Array:
    """Return a 0-d array with another value, and the gradient that it has."""
    if float(detached(array)) == number:
        return array
    if not tracked(array):
        return namespace(array).asarray(number, dtype=array.dtype, device=device(array))
    kept = detached(array)
    return (
        array
        - kept
        + namespace(array).asarray(number, dtype=array.dtype, device=device(array))
    )


def symmetric(matrix: Array) -> Array:
    """Return a symmetric matrix (n, n) with the same values, along which gradients are symmetric as well.

    Gradients of a function of symmetric matrices are determined up to an antisymmetric
    part, which depends on how the function is written; a step along it would leave the
    symmetric matrices.
    """
    mean = matrix / 2 + matrix.T / 2
    return detached(matrix) + (mean - detached(mean))


def root(value: Array, p: float = 2.0) -> Array:
    """The p-th root of numbers that are not negative, with a zero subgradient at zero."""
    xp, positive = namespace(value), value > 0
    if value.ndim == 0 and bool(
        positive
    ):  # one number with a derivative: nothing needs masking
        return xp.sqrt(value) if p == 2 else value ** (1.0 / p)
    ones = xp.ones_like(value)
    base = xp.where(positive, value, ones)
    return xp.where(
        positive, xp.sqrt(base) if p == 2 else base ** (1.0 / p), xp.zeros_like(value)
    )


def widen(array: Array) -> Array:
    """Convert to float64 exactly; in NumPy on the CPU where the library or the device has no float64."""
    xp = namespace(array)
    if array.dtype == xp.float64:
        return array
    if compat.is_jax_array(array) and xp.zeros(1, dtype=float).dtype != xp.float64:
        return to_numpy(array).astype(np.float64)
    if "mps" in str(device(array)):
        return to_numpy(array).astype(np.float64)
    return xp.astype(array, xp.float64, copy=False)


def for_long_sums(array: Array) -> Array:
    """Convert to float64, within a gradient graph too, where the library and the device have it; else leave as it is."""
    xp = namespace(array)
    if compat.is_jax_array(array) or "mps" in str(device(array)):
        return array
    return xp.astype(array, xp.float64, copy=False)


def at_least_single(array: Array) -> Array:
    """Convert half-precision arrays to float32, in which sums are made; leave wider ones as they are."""
    return (
        array
        if epsilon(array) < 1e-5
        else namespace(array).astype(array, namespace(array).float32)
    )


def power_of_four(value: float) -> float:
    """A power of four near ``value``, whose inverse is finite: scaling by it, or by its root, is exact."""
    return 4.0 ** max(math.floor(math.log(value, 4.0)), -510) if value > 0.0 else 1.0


def scaled(array: Array, factor: float) -> Array:
    """Multiply by a power of two, in two steps where the array's dtype need not hold it."""
    exponent = math.frexp(factor)[1] - 1
    if abs(exponent) < 120:
        return array * factor
    half = exponent // 2
    return array * 2.0**half * 2.0 ** (exponent - half)


def pairwise_distances(x: Array, y: Array) -> Array:
    """Euclidean distances between the rows of ``x`` (n, d) and ``y`` (m, d).

    Computed from differences, never from the expansion of the square, so that near
    points keep their digits. The gradient at coinciding points is defined as zero.
    """
    if compat.is_numpy_array(x):
        return _scipy_cdist(x, y).astype(x.dtype, copy=False)
    xp = namespace(x, y)
    if compat.is_torch_array(x):  # which has no distances in half precision
        wide = (at_least_single(values) for values in (x, y))
        return xp.astype(
            xp.cdist(*wide, compute_mode="donot_use_mm_for_euclid_dist"),
            x.dtype,
            copy=False,
        )
    square = xp.zeros((x.shape[0], y.shape[0]), dtype=x.dtype, device=device(x))
    for k in range(x.shape[1]):
        square = square + (x[:, k][:, None] - y[:, k][None, :]) ** 2
    distinct = square > 0
    return xp.where(
        distinct,
        xp.sqrt(xp.where(distinct, square, xp.ones_like(square))),
        xp.zeros_like(square),
    )


def columns(matrix: Array) -> Array:
    """Transpose matrices (…, n, m) and, in NumPy and SciPy, store them row by row, along which products and sums run."""
    if isinstance(matrix, csr_array):
        return matrix.T.tocsr()
    turned = transposed(matrix)
    return np.ascontiguousarray(turned) if compat.is_numpy_array(matrix) else turned


def joined(parts: Sequence[Array], axis: int = 0) -> Array:
    """Concatenate blocks; a single one is returned as it is, for a copy would cost as much as the block."""
    return parts[0] if len(parts) == 1 else namespace(parts[0]).concat(parts, axis=axis)


def total(parts: Sequence[Array]) -> Array:
    """Sum arrays of one shape, one a block of rows."""
    xp = namespace(parts[0])
    return parts[0] if len(parts) == 1 else xp.sum(xp.stack(parts), axis=0)


def padded(array: Array, size: int, axes: int = 1) -> Array:
    """Pad the last axes, as many as are asked for, with zeros to the length ``size``."""
    xp = namespace(array)
    for axis in range(array.ndim - axes, array.ndim):
        missing = size - array.shape[axis]
        if missing > 0:
            shape = (*array.shape[:axis], missing, *array.shape[axis + 1 :])
            zeros = xp.zeros(shape, dtype=array.dtype, device=device(array))
            array = xp.concat([array, zeros], axis=axis)
    return array


def all_equal(values: Array) -> bool:
    """Tell whether all entries of a list are the same number."""
    return bool(namespace(values).all(values == values[0]))


def all_positive(values: Array) -> bool:
    """Tell whether all entries of a list are above 0."""
    return bool(namespace(values).all(values > 0))


def stacked(matrices: Sequence[Array], size: int) -> Array:
    """Stack square matrices of at most ``size`` rows, padded with zeros: shape (B, size, size)."""
    xp, first = namespace(matrices[0]), matrices[0]
    if compat.is_numpy_array(first):
        result = np.zeros((len(matrices), size, size), dtype=first.dtype)
        for padded_matrix, matrix in zip(result, matrices, strict=True):
            padded_matrix[: matrix.shape[0], : matrix.shape[0]] = matrix
        return result
    # Padding is read from a zero behind all entries.
    flat = xp.concat(
        [xp.reshape(m, (-1,)) for m in matrices]
        + [xp.zeros(1, dtype=first.dtype, device=device(first))]
    )
    n = np.array([m.shape[0] for m in matrices])[:, None, None]
    start, position = np.cumsum(n**2, axis=0) - n**2, np.arange(size)
    here = (position[:, None] < n) & (position < n)
    index = from_numpy(
        np.where(here, start + position[:, None] * n + position, flat.shape[0] - 1),
        first,
    )
    return xp.reshape(
        xp.take(flat, xp.reshape(index, (-1,))), (len(matrices), size, size)
    )


def take_along_rows(values: Array, index: Array) -> Array:
    """Return the entries of each row of ``values`` (N,) or (B, N) at the positions ``index`` (K,) or (B, K) of that row."""
    if not compat.is_numpy_array(values):
        return namespace(values).take_along_axis(values, index, axis=-1)
    if values.ndim == 1:
        return values.take(index)
    count, size = values.shape
    return values.reshape(-1).take(index + size * np.arange(count)[:, None])


def eigenvalues(matrices: Array) -> Array:
    """Return the eigenvalues of symmetric matrices (…, k, k), shape (…, k), ascending.

    Torch's float32 routine on the CPU finds none for some matrices of low rank: it is
    given float64. No library has one for half precision.
    """
    xp = namespace(matrices)
    wide = (
        widen(matrices)
        if compat.is_torch_array(matrices) and on_cpu(matrices)
        else at_least_single(matrices)
    )
    return xp.astype(xp.linalg.eigvalsh(wide), matrices.dtype, copy=False)


def times(matrix: Array, vector: Array) -> Array:
    """Return the products of matrices (…, n, m), compressed or not, with vectors (…, m), shape (…, n)."""
    if vector.ndim == 1:
        return matrix @ vector
    return (matrix @ vector[..., None])[..., 0]


def dot(first: Array, second: Array) -> Array:
    """Return the inner products of vectors (…, n), shape (…)."""
    if first.ndim == 1:
        return first @ second
    return namespace(first, second).vecdot(first, second)


def transposed(matrix: Array) -> Array:
    """Transpose matrices (…, n, m)."""
    return matrix.T if matrix.ndim == 2 else namespace(matrix).matrix_transpose(matrix)


def scatter_sum(index: Array, values: Array, size: int) -> Array:
    """Sum ``values`` by ``index`` into an array of length ``size``; indices may repeat."""
    if compat.is_numpy_array(values):
        return np.bincount(index, weights=values, minlength=size).astype(
            values.dtype, copy=False
        )
    xp = namespace(values)
    zeros = xp.zeros(size, dtype=values.dtype, device=device(values))
    if compat.is_torch_array(values):
        return zeros.index_add(0, index, values)
    if compat.is_jax_array(values):
        return zeros.at[index].add(values)
    hits = xp.arange(size, device=device(values))[:, None] == index[None, :]
    return xp.astype(hits, values.dtype) @ values


def scaled_exp(matrix: Array, rows: Array, cols: Array) -> Array:
    """Return exp(matrix + rows 1ᵀ + 1 colsᵀ) of one or of a stack, with one array allocated where that is possible.

    Of a compressed matrix, the entries that it stores.
    """
    if isinstance(matrix, csr_array):
        values = (
            matrix.data + np.repeat(rows, np.diff(matrix.indptr)) + cols[matrix.indices]
        )
        return csr_array(
            (np.exp(values), matrix.indices, matrix.indptr), shape=matrix.shape
        )
    result = matrix + rows[..., :, None]
    if compat.is_numpy_array(result):
        np.add(result, cols[..., None, :], out=result)
        return np.exp(result, out=result)
    return namespace(result).exp(result + cols[..., None, :])


def logsumexp(array: Array, axis: int) -> Array:
    """Logarithm of the sum of exponentials along ``axis`` of an array whose every line has a finite entry."""
    xp = namespace(array)
    top = xp.max(array, axis=axis, keepdims=True)
    shifted = array - top
    exponentials = (
        np.exp(shifted, out=shifted)
        if compat.is_numpy_array(shifted)
        else xp.exp(shifted)
    )
    return xp.log(xp.sum(exponentials, axis=axis)) + xp.squeeze(top, axis=axis)


def is_compressed(matrix: Any) -> bool:
    """Tell whether a matrix stores only some of its entries."""
    return isinstance(matrix, csr_array)


def without_small(matrix: Array, share: float) -> Any:
    """Drop small entries, together at most ``share`` of their row; compress the result where SciPy can and few are left."""
    return without_small_masses(matrix, matrix, share)


def without_small_masses(values: Array, matrix: Array, share: float) -> Any:
    """Drop ``values`` where a matrix has small entries, as :func:`without_small` does."""
    if not compat.is_numpy_array(values) or values.size < _WORTH_COMPRESSING:
        return values
    kept = (
        matrix > (share / matrix.shape[1]) * (matrix @ np.ones_like(matrix[0]))[:, None]
    )
    if np.count_nonzero(kept) > matrix.size // 8:
        return values
    index = np.flatnonzero(kept)
    ends = np.concatenate([[0], np.cumsum(np.count_nonzero(kept, axis=1))])
    return csr_array(
        (values.ravel()[index], index % matrix.shape[1], ends), shape=matrix.shape
    )
