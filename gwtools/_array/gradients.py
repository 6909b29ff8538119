"""Values with chosen gradients: roots at zero, symmetric matrices, replaced numbers."""

from __future__ import annotations

from gwtools._array.libraries import Array, detached, device, namespace, tracked
from gwtools._array.matrices import exchanged_axes


def number(array: Array) -> float:
    """Read a 0-d array as a Python number, outside any gradient graph."""
    return float(detached(array))


def with_value(array: Array, number: float) -> Array:
    """Return a 0-d array with another value, and the gradient of the one given."""
    old = detached(array)
    if float(old) == number:
        return array
    new = namespace(array).asarray(number, dtype=array.dtype, device=device(array))
    if not tracked(array):
        return new
    # array − old is zero, and carries the gradient.
    return array - old + new


def symmetric(matrix: Array) -> Array:
    """Return a symmetric matrix (n, n) with the same values and symmetric gradients.

    Its entries may be vectors, along a third axis.

    Gradients of a function of symmetric matrices are determined up to an antisymmetric
    part, which depends on how the function is written; a step along it would leave the
    symmetric matrices.
    """
    mean = matrix / 2 + exchanged_axes(matrix) / 2
    # The values are those given, to the last digit; the gradient is that of the mean.
    return detached(matrix) + (mean - detached(mean))


def root(value: Array, p: float = 2.0) -> Array:
    """Return the p-th root of numbers ≥ 0, with a zero subgradient at zero."""
    xp = namespace(value)
    positive = value > 0
    if value.ndim == 0 and bool(positive):
        # The root of one positive number has a derivative: nothing needs masking.
        return _smooth_root(value, p)
    ones = xp.ones_like(value)
    zeros = xp.zeros_like(value)
    # Zeros are replaced before the root, not after: its infinite derivative times the
    # zero of the mask would be NaN.
    base = xp.where(positive, value, ones)
    return xp.where(positive, _smooth_root(base, p), zeros)


def _smooth_root(value: Array, p: float) -> Array:
    """Return the p-th root of positive numbers: for p = 2, correctly rounded."""
    if p == 2:
        return namespace(value).sqrt(value)
    return value ** (1.0 / p)
