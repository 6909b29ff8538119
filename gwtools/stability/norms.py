"""Weighted norms of values of any size, rounded up by their float errors.

Every norm of the stability bounds is a (Σ w v^p)^(1/p) of values v ≥ 0, with weights
that sum to one in each index (theorem 6, "Rounded up").
"""

from __future__ import annotations

import math

from gwtools import _array
from gwtools._array import Array
from gwtools.bounds.float_error import gamma
from gwtools.spaces import Space
from gwtools.stability.units import EXPONENT_OF_ZERO, near_one, rounded_up

_SMALLEST = 2.0**-1074  # what a power that underflows loses at most
_SMALLEST_ROOT = 2.0**-537  # and what that is to a root


def terms_of_sums(size: int) -> int:
    """Index of γ for a sum over pairs of n atoms with weights."""
    # 2 n for the sums, 8 n for two weights that are each off by ω ≤ 4 n (theorem 6),
    # and some single operations.
    return 10 * size + 64


def norm_above(
    values: Array,
    p: float,
    terms: int,
    *,
    rows: Array | None = None,
    columns: Array | None = None,
) -> float:
    """Bound (Σ rows_i columns_k v_ik^p)^(1/p) of values v ≥ 0.

    Weights that are None are 1; a list of values has rows alone. The sum has a relative
    float error of at most γ_terms.
    """
    # Powers are taken of values up to 1, the largest above 1/2.
    scaled, exponent = near_one(values)
    if exponent == EXPONENT_OF_ZERO:
        return 0.0
    powers = scaled if p == 1 else scaled**p
    # Every power may have underflowed.
    lost = math.prod(values.shape) * _SMALLEST
    total = _weighted_sum(powers, rows, columns) + lost
    root = math.pow(total, 1.0 / p)
    all_terms = terms + terms_of_root(total, p)
    return rounded_up(root, all_terms, exponent)


def _weighted_sum(
    values: Array,
    rows: Array | None,
    columns: Array | None,
) -> float:
    """Return Σ rows_i columns_k values_ik, columns first."""
    sums = values if columns is None else values @ columns
    if rows is None:
        xp = _array.namespace(sums)
        total = xp.sum(sums)
    else:
        total = rows @ sums
    return _array.number(total)


def joined_norm(norms: list[float], p: float) -> float:
    """Bound (Σ norms_k^p)^(1/p)."""
    largest = max(norms)
    if len(norms) == 1 or largest == 0.0:
        return largest
    powers = [(norm / largest) ** p for norm in norms]
    total = math.fsum(powers)
    root = largest * total ** (1 / p)
    terms = 16 + terms_of_root(total, p)
    return rounded_up(root, terms)


def terms_of_root(power: float, p: float) -> float:
    """Index of γ for the rounding of 1/p in the p-th root of a power."""
    if p in (1, 2) or power == 0.0:  # where 1/p is exact, or the root is 0
        return 0.0
    # An exponent that is off by u/p changes the root by the factor power^(u/p).
    return abs(math.log(power)) / p


def norm_of_space(x: Space) -> float:
    """Bound ‖C‖_2 of the entries as computed, by blocks of rows."""
    norms = [_norm_of_rows(x, start, stop) for start, stop in x.blocks()]
    return joined_norm(norms, 2.0)


def _norm_of_rows(
    x: Space,
    start: int,
    stop: int,
) -> float:
    a = x.weights
    xp = _array.namespace(a)
    sizes = xp.abs(x.rows(start, stop))  # (stop − start, n)
    return norm_above(
        sizes,
        2.0,
        terms_of_sums(x.size),
        rows=a[start:stop],
        columns=a,
    )


def lengths_of_rows(vectors: Array) -> Array:
    """Return the Euclidean length of every row of vectors (n, d), shape (n,)."""
    xp = _array.namespace(vectors)
    largest = xp.max(xp.abs(vectors), axis=1)  # (n,)
    # In units of its largest coordinate no square of a vector over- or underflows.
    unit = xp.where(largest > 0, largest, xp.ones_like(largest))
    squares = (vectors / unit[:, None]) ** 2
    return largest * xp.sqrt(xp.sum(squares, axis=1))


def radius_of_entries(x: Space) -> float:
    """Bound how far computed entries of C are from exact ones; 0 for stored entries."""
    operations = x.float_operations
    if operations == 0:
        return 0.0
    largest = x.largest()
    if largest == 0.0:
        return 0.0
    # Squares of coordinates may underflow under the root of a distance.
    lost = math.sqrt(operations) * _SMALLEST_ROOT
    radius: float = gamma(operations) * largest + lost
    return radius
