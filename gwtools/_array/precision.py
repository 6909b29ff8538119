"""Precision: wider dtypes, sums that are rounded once, and exact changes of units."""

from __future__ import annotations

import math

import array_api_compat as compat
import numpy as np

from gwtools._array.libraries import (
    Array,
    device,
    epsilon,
    namespace,
    to_numpy,
    tracked,
)


def exact_sum(values: Array) -> float:
    """Return the correctly rounded sum of a list, whatever the order of its entries."""
    numbers = to_numpy(values).tolist()
    return math.fsum(numbers)


def normalised(weights: Array) -> Array:
    """Divide weights by their sum, which their order does not change.

    In a gradient graph the sum is the library's, which has a gradient and may depend on
    the order.
    """
    if tracked(weights):
        return weights / namespace(weights).sum(weights)
    return weights / exact_sum(weights)


def least_not_below(number: float, like: Array) -> float:
    """Return the least number ≥ ``number`` in the dtype of an array, or in float32.

    Half-precision arrays are computed with in float32.
    """
    if epsilon(like) < 1e-10:
        return number
    nearest = np.float32(number)
    if float(nearest) >= number:
        return float(nearest)
    return float(np.nextafter(nearest, np.float32(np.inf)))


def widen(array: Array) -> Array:
    """Convert to float64 exactly, to a NumPy array where there is no float64.

    JAX has none unless it is configured so, and Apple's GPUs have none.
    """
    xp = namespace(array)
    if array.dtype == xp.float64:
        return array
    if compat.is_jax_array(array) and xp.zeros(1, dtype=float).dtype != xp.float64:
        return to_numpy(array).astype(np.float64)
    if _on_apple_gpu(array):
        return to_numpy(array).astype(np.float64)
    return xp.astype(array, xp.float64, copy=False)


def for_long_sums(array: Array) -> Array:
    """Convert to float64 where library and device have it, with the gradient graph."""
    xp = namespace(array)
    # JAX may have no float64, and Apple's GPUs have none. The way to NumPy, as in
    # widen, would leave the gradient graph.
    if compat.is_jax_array(array) or _on_apple_gpu(array):
        return array
    return xp.astype(array, xp.float64, copy=False)


def _on_apple_gpu(array: Array) -> bool:
    return "mps" in str(device(array))


def at_least_single(array: Array) -> Array:
    """Convert half precision to float32; return wider arrays as they are."""
    if epsilon(array) < 1e-5:
        return array
    xp = namespace(array)
    return xp.astype(array, xp.float32)


def power_of_four(value: float) -> float:
    """Return a power of four near ``value``, by whose root scaling is exact as well."""
    if value > 0.0:
        exponent = math.floor(math.log(value, 4.0))
        # The inverse of 4⁻⁵¹⁰ is a float; that of the least subnormal number is not.
        return 4.0 ** max(exponent, -510)
    return 1.0


def scaled(array: Array, power_of_two: float) -> Array:
    """Multiply by a power of two, which need not be a number of the array's dtype."""
    exponent = math.frexp(power_of_two)[1] - 1
    # float32 holds powers of two down to 2⁻¹²⁶ as normal numbers.
    if abs(exponent) < 120:
        return array * power_of_two
    # In two steps: half the exponent of a float32 number is one that float32 holds.
    half = exponent // 2
    return array * 2.0**half * 2.0 ** (exponent - half)
