"""Units of C that are powers of two, so that no square over- or underflows.

Multiplication by a power of two is exact, but for underflow. Bounds are computed in
such units and multiplied back at the end by :func:`rounded_up` (theorem 6, "Rounded
up").
"""

from __future__ import annotations

import math
from typing import Any

from gwtools import _array, _check
from gwtools._array import Array
from gwtools.bounds.float_error import gamma
from gwtools.spaces import (
    DenseSpace,
    GramSpace,
    GraphSpace,
    PointCloud,
    Space,
    converted,
    undirected_space,
)
from gwtools.spaces.base import copy_unchecked

EXPONENT_OF_ZERO = -10_000  # below the exponent of every float64
_LARGEST_EXPONENT = 1023  # the difference of two values up to 2^1023 is a float64
_SAFE_EXPONENT = 200  # powers of values from 2^−200 to 2^200 need no other unit
_LOST = 2.0**-1070  # more than a few numbers lose below the normal range


def in_float64(x: Any, name: str = "x") -> Space:
    """Return a space, or that of a square array, in float64."""
    return converted(undirected_space(x, name), _array.widen)


def in_safe_units(
    *spaces: Space,
    entries_are_squared: bool = False,
) -> tuple[tuple[Space, ...], int]:
    """Return spaces with C divided by one power of four, and its exponent of two.

    Squares of their values then neither over- nor underflow. Stored matrices are left
    as they are unless their differences overflow, or ``entries_are_squared``.
    """
    exponents = [_exponent_of_entries(space) for space in spaces]
    half = _half_exponent_of_unit(spaces, max(exponents), entries_are_squared)
    if half != 0:
        spaces = tuple([_divided(space, half) for space in spaces])
    for space in spaces:
        require_in_range(space.largest(), 2 * half, "C")
    return spaces, 2 * half


def _half_exponent_of_unit(
    spaces: tuple[Space, ...],
    exponent: int,
    entries_are_squared: bool,
) -> int:
    """Return h of the unit 4^h for entries up to 2^exponent; 0 where none is needed."""
    are_stored = [isinstance(space, DenseSpace) for space in spaces]
    if all(are_stored) and not entries_are_squared:
        # Of stored entries only differences are formed, and a smaller unit would round
        # those entries that become subnormal.
        return 0 if exponent <= _LARGEST_EXPONENT else 1
    if exponent <= EXPONENT_OF_ZERO or abs(exponent) < _SAFE_EXPONENT:
        return 0
    return -(-exponent // 2)  # half the exponent, rounded up


def _divided(space: Space, half: int) -> Space:
    """Return the space with C divided by 4^half."""
    is_squared = isinstance(space, PointCloud) and space.metric == "sqeuclidean"
    if is_squared or isinstance(space, GramSpace):
        # C is quadratic in the stored values.
        data = times_power_of_two(space.data, -half)
        return space.with_data(data, space.weights)
    if isinstance(space, DenseSpace | GraphSpace | PointCloud):
        # C is linear in the stored values.
        data = times_power_of_two(space.data, -2 * half)
        return space.with_data(data, space.weights)
    # How C of another kind depends on its stored values is not known. The factor alone
    # may exceed the range, so it is applied in two steps.
    first = half // 2
    partly = space.scaled(4.0**-first)
    return partly.scaled(4.0 ** (first - half))


def _exponent_of_entries(space: Space) -> int:
    """Return e with max |C_ik| about 2^e, without squares of stored values."""
    if isinstance(space, GramSpace):
        # An entry is a sum of t products. That of one product will do: the sum is at
        # most t times as large, for which the range leaves room.
        largest = _largest(space.data)
        return 2 * _exponent(largest)
    if isinstance(space, PointCloud):
        distances = copy_unchecked(space, metric="euclidean")
        exponent = _exponent(distances.largest())
        return exponent if space.metric == "euclidean" else 2 * exponent
    return _exponent(space.largest())


def _largest(values: Array) -> float:
    """Return max |v|."""
    xp = _array.namespace(values)
    return _array.number(xp.max(xp.abs(values)))


def _exponent(size: float) -> int:
    """Return e with a size in [2^(e − 1), 2^e)."""
    require_in_range(size, 0, "C")
    if size == 0.0:
        return EXPONENT_OF_ZERO
    _, exponent = math.frexp(size)
    return exponent


def near_one(values: Array) -> tuple[Array, int]:
    """Return values divided by 2^e, the largest then in [1/2, 1), and e."""
    largest = _largest(values)
    exponent = _exponent(largest)
    if exponent == EXPONENT_OF_ZERO:
        return values, exponent
    return times_power_of_two(values, -exponent), exponent


def times_power_of_two(values: Array, exponent: int) -> Array:
    """Return values · 2^exponent."""
    if exponent == 0:
        return values
    # In two steps, as the power alone may exceed the range.
    half = exponent // 2
    return values * 2.0**half * 2.0 ** (exponent - half)


def rounded_up(
    value: float,
    terms: float,
    exponent: int = 0,
) -> float:
    """Round value · 2^exponent up, for a value ≥ 0 with relative float error γ_terms.

    Zero stays zero.
    """
    if value == 0.0:
        return 0.0
    value *= 1 + gamma(terms)
    require_in_range(value, exponent, "the bound")
    # In the normal range the second term vanishes beside the enlargement.
    return math.ldexp(value, exponent) + _LOST


def product_rounded_up(first: float, second: float) -> float:
    """Round a product of two numbers ≥ 0 up."""
    # Mantissas apart from exponents: below the normal range a product loses digits.
    mantissa, exponent = math.frexp(first)
    mantissa2, exponent2 = math.frexp(second)
    return rounded_up(mantissa * mantissa2, 16, exponent + exponent2)


def require_in_range(
    value: float,
    exponent: int,
    name: str,
) -> None:
    """Raise a ValueError unless value · 2^exponent is a float64."""
    _, own_exponent = math.frexp(value)
    fits = math.isfinite(value) and own_exponent + exponent <= 1024
    _check.within_range(fits, name)
