"""Transport between weighted lists of numbers, by one sort of each."""

from __future__ import annotations

from typing import NamedTuple

from gwtools import _array
from gwtools._array import Array
from gwtools.plans import SparsePlan, unchecked

SLIVER = 2.0**-45  # share of the largest mass below which an atom is rounding


class Line(NamedTuple):
    """The comonotone coupling of two weighted lists of numbers: indices into each list, and the mass of each atom."""

    first: Array
    second: Array
    mass: Array


def comonotone(x: Array, a: Array, y: Array, b: Array) -> Line:
    """Couple two weighted lists of numbers in sorted order, by the north-west corner rule.

    Parameters
    ----------
    x, a : arrays of shape (n,)
        Values and weights.
    y, b : arrays of shape (m,)
        Values and weights.

    Returns
    -------
    Line
        At most n + m atoms; exactly n where n = m and all weights are equal.
    """
    xp = _array.namespace(x, a, y, b)
    order_x, order_y = xp.argsort(x), xp.argsort(y)
    mass_x, mass_y = xp.take(a, order_x), xp.take(b, order_y)
    if x.shape == y.shape and bool(xp.all(mass_x == mass_y)):
        return Line(order_x, order_y, mass_x)
    # Differences of long sums are the masses: in single precision they would miss the weights of 100,000 atoms.
    ends_x, ends_y = (xp.cumulative_sum(_array.for_long_sums(mass)) for mass in (mass_x, mass_y))
    # Both lists end at the same total, so that no sliver of mass is left over by rounding.
    ends_x, ends_y = ends_x / ends_x[-1], ends_y / ends_y[-1]
    ends = xp.sort(xp.concat([ends_x, ends_y]))
    starts = xp.concat([xp.zeros_like(ends[:1]), ends[:-1]])
    middles = (starts + ends) / 2
    first = xp.clip(xp.searchsorted(ends_x, middles), max=x.shape[0] - 1)
    second = xp.clip(xp.searchsorted(ends_y, middles), max=y.shape[0] - 1)
    return Line(xp.take(order_x, first), xp.take(order_y, second), xp.astype(ends - starts, a.dtype, copy=False))


def line(x: Array, a: Array, y: Array, b: Array, p: float) -> Array:
    """Return W_p^p between two weighted lists of numbers, in units of x to the power p.

    Parameters
    ----------
    x, a : arrays of shape (n,)
        Values and weights.
    y, b : arrays of shape (m,)
        Values and weights.
    p : float
        Power of the cost, at least 1.

    Notes
    -----
    Differentiable in the values; at ties any order gives the same value and a valid subgradient.
    """
    xp = _array.namespace(x, y)
    if balanced(a, b):  # the values alone need sorting, not their places
        apart = xp.sort(x, stable=False) - xp.sort(y, stable=False)
        return a[0] * (xp.vecdot(apart, apart) if p == 2 else xp.sum(xp.abs(apart) ** p))
    return total(comonotone(x, a, y, b), x, y, p)


def total(pairs: Line, x: Array, y: Array, p: float) -> Array:
    """Return Σ mass · |x − y|^p over the atoms of a coupling."""
    xp = _array.namespace(x, y)
    apart = xp.abs(xp.take(x, pairs.first) - xp.take(y, pairs.second))
    return xp.vecdot(pairs.mass, apart if p == 1 else apart**p)


def balanced(a: Array, b: Array) -> bool:
    """Tell whether all weights of both lists are one and the same number, so that values pair off."""
    xp = _array.namespace(a, b)
    return a.shape == b.shape and bool(xp.all(a == a[0])) and bool(xp.all(b == a[0]))


def sorting_plan(x: Array, a: Array, y: Array, b: Array) -> SparsePlan:
    """Return the comonotone coupling of two weighted lists of numbers as a plan of shape (n, m)."""
    pairs = comonotone(x, a, y, b)
    kept = _array.namespace(pairs.mass).nonzero(
        pairs.mass > SLIVER * _array.number(_array.namespace(pairs.mass).max(pairs.mass))
    )[0]
    take = _array.namespace(pairs.mass).take
    rows, cols, mass = (take(values, kept) for values in (pairs.first, pairs.second, pairs.mass))
    return unchecked(SparsePlan, rows=rows, cols=cols, mass=mass, size=(x.shape[0], y.shape[0]))
