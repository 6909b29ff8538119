"""Transports on the line between many weighted lists of numbers at once, padded with atoms that carry no weight."""

from __future__ import annotations

from typing import NamedTuple

from gwtools import _array
from gwtools._array import Array
from gwtools.batch.stacks import dot


class Atoms(NamedTuple):
    """Sorting couplings: atoms of both sides and masses, shape (B, K), those without mass last; and which are balanced.

    A problem is balanced where all its n = m weights are one number, so that values pair off.
    """

    rows: Array
    cols: Array
    mass: Array
    balanced: Array


def comonotone(x: Array, a: Array, y: Array, b: Array) -> Atoms:
    """Couple each row of values with its partner in sorted order: :func:`gwtools.linear.comonotone` of many lists.

    Parameters
    ----------
    x, a : arrays of shape (B, N)
        Values and weights; atoms of weight zero take no part.
    y, b : arrays of shape (B, M)
        Values and weights.

    Returns
    -------
    Atoms
        N + M atoms for each problem, most of those without mass cut off.
    """
    xp, (count, n) = _array.namespace(x, a, y, b), x.shape
    order_x, order_y = xp.argsort(x, axis=1), xp.argsort(y, axis=1)
    ends_x, ends_y = (_ends(w, order) for w, order in ((a, order_x), (b, order_y)))
    ends = xp.concat([ends_x, ends_y], axis=1)
    # One merge for each problem: the place of an end among those of its own list is the atom that its cell belongs to.
    order = xp.argsort(ends, axis=1)
    ends = xp.take_along_axis(ends, order, axis=1)
    mass = ends - xp.concat([xp.zeros((count, 1), dtype=a.dtype, device=_array.device(a)), ends[:, :-1]], axis=1)
    of_x = xp.astype(order < n, order.dtype)
    first = xp.clip(xp.cumulative_sum(of_x, axis=1) - of_x, max=n - 1)
    second = xp.clip(xp.cumulative_sum(1 - of_x, axis=1) - 1 + of_x, max=y.shape[1] - 1)
    level = xp.max(a, axis=1)
    paired = balanced(a, b)
    mass = xp.where(paired[:, None] & (mass > 0), level[:, None], mass)
    # Cells without length go last, name atom 0, and those that are one in every problem go away.
    here = mass > 0
    width = int(xp.max(support(mass)))
    kept = xp.argsort(xp.astype(~here, order.dtype), axis=1)[:, :width]
    first, second, mass = (xp.take_along_axis(v, kept, axis=1) for v in (first, second, mass))
    rows, cols = xp.take_along_axis(order_x, first, axis=1), xp.take_along_axis(order_y, second, axis=1)
    none = xp.zeros_like(rows)
    return Atoms(xp.where(mass > 0, rows, none), xp.where(mass > 0, cols, none), mass, paired)


def _ends(weights: Array, order: Array) -> Array:
    """Right ends of the sorted atoms' cells, of which the last is 1."""
    xp = _array.namespace(weights)
    ends = xp.cumulative_sum(xp.take_along_axis(weights, order, axis=1), axis=1)
    return ends / ends[:, -1:]


def balanced(a: Array, b: Array) -> Array:
    """Tell for each problem whether all positive weights of both lists are one number, as many on both sides."""
    xp = _array.namespace(a, b)
    level = xp.max(a, axis=1)
    flat = [xp.all((w == level[:, None]) | (w == 0), axis=1) for w in (a, b)]
    return flat[0] & flat[1] & (support(a) == support(b))


def support(weights: Array) -> Array:
    """Return the number of atoms that carry weight, shape (B,)."""
    xp = _array.namespace(weights)
    return xp.count_nonzero(weights, axis=1)


def line(x: Array, a: Array, y: Array, b: Array, p: float) -> Array:
    """Return W_p^p between weighted lists of numbers, shape (B,): :func:`gwtools.linear.line` of many lists."""
    return total(comonotone(x, a, y, b), x, y, p)


def total(atoms: Atoms, x: Array, y: Array, p: float) -> Array:
    """Return Σ mass · |x − y|^p over the atoms of each coupling, shape (B,)."""
    xp = _array.namespace(x, y)
    apart = xp.abs(xp.take_along_axis(x, atoms.rows, axis=1) - xp.take_along_axis(y, atoms.cols, axis=1))
    return dot(atoms.mass, apart if p == 1 else apart**p)
