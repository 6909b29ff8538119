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


class Cells(NamedTuple):
    """Intervals of [0, 1] on which both quantile functions are constant: ranks of x and of y, and lengths, shape (B, K).

    In any order; those without length count for nothing.
    """

    first: Array
    second: Array
    mass: Array


class Entries(NamedTuple):
    """The n² entries of matrices row by row, (B, K), and the weights (B, N) of their n atoms, padded; and n itself, (B,)."""

    values: Array
    weights: Array
    sizes: Array

    @property
    def places(self) -> Array:
        """0, 1, … along the entries, whole numbers of shape (1, K)."""
        return _array.namespace(self.values).arange(self.values.shape[1], device=_array.device(self.values))[None, :]

    @property
    def masses(self) -> Array:
        """The products of weights that belong to the entries, shape (B, K); zero at padding."""
        xp, places = _array.namespace(self.values), self.places
        size = xp.astype(self.sizes, places.dtype)[:, None]
        row = places // size
        pair = xp.minimum(row, size - 1), places - row * size
        first, second = (_array.take_along_rows(self.weights, index) for index in pair)
        return xp.where(row < size, first * second, xp.zeros_like(first))


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
        In sorted order; at most N + M for each problem, most of those without mass cut off.
    """
    xp = _array.namespace(x, a, y, b)
    # Atoms of weight zero are sorted behind all others.
    order_x, order_y = (
        xp.argsort(xp.where(w > 0, v, xp.asarray(xp.inf, dtype=v.dtype, device=_array.device(v))), axis=1)
        for v, w in ((x, a), (y, b))
    )
    first, second, mass = _cells(*(_array.take_along_rows(w, o) for w, o in ((a, order_x), (b, order_y))))
    # From one cell to the next one rank rises. Cells without length go last, name atom 0, and as many go as all have.
    here = mass > 0
    width = int(xp.max(support(mass)))
    place = xp.where(here, first + second, xp.full_like(first, first.shape[1]))
    kept = xp.argsort(place, axis=1)[:, :width]
    first, second, mass = (_array.take_along_rows(v, kept) for v in (first, second, mass))
    rows, cols = _array.take_along_rows(order_x, first), _array.take_along_rows(order_y, second)
    none, paired = xp.zeros_like(rows), balanced(a, b)
    mass = xp.where(paired[:, None] & (mass > 0), xp.max(a, axis=1)[:, None], mass)
    return Atoms(xp.where(mass > 0, rows, none), xp.where(mass > 0, cols, none), mass, paired)


def _cells(a: Array, b: Array) -> Cells:
    """Cut [0, 1] at the ends of both lists' atoms, given the weights (B, N) and (B, M) in sorted order."""
    counts = _even_counts(a, b)
    return _merged_cells(a, b) if counts is None else _even_cells(*counts, a, b)


def _even_counts(a: Array, b: Array) -> tuple[Array, Array] | None:
    """Return how many atoms carry weight, (B, 1), if all weights of each list are one number: then that tells their ends.

    Not where gradients with respect to weights are asked for, or where the dtype does not hold the product of both counts.
    """
    if _array.tracked(a) or _array.tracked(b) or a.shape[1] * b.shape[1] * _array.epsilon(a) > 1:
        return None
    xp, (n, m) = _array.namespace(a, b), (support(w) for w in (a, b))
    if not bool(xp.all(_equal(a, n) & _equal(b, m))):
        return None
    return xp.astype(n, a.dtype)[:, None], xp.astype(m, a.dtype)[:, None]


def _equal(weights: Array, count: Array) -> Array:
    """Tell where all of the ``count`` positive weights are one number, shape (B,)."""
    xp = _array.namespace(weights)
    return xp.count_nonzero(weights == xp.max(weights, axis=1, keepdims=True), axis=1) == count


def _even_cells(n: Array, m: Array, a: Array, b: Array) -> Cells:
    """Return the cells of n and m atoms of equal weight, shape (B, 1): those that end with an atom of x, then others of y."""
    xp = _array.namespace(a)
    (second, mass_x), (first, mass_y) = _endings(n, m, a, b)
    own_x, own_y = (xp.zeros_like(v) + xp.arange(v.shape[1], device=_array.device(v)) for v in (second, first))
    ranks = xp.concat([own_x, first], axis=1), xp.concat([second, own_y], axis=1)
    return Cells(*ranks, xp.concat([mass_x, mass_y], axis=1) / (n * m))


def _even_line(x: Array, here_x: Array, y: Array, here_y: Array, p: float, counts: tuple[Array, Array]) -> Array:
    """Return W_p^p between lists of equal weights, of which ``here`` tells the atoms: values need sorting, not their places."""
    xp, (n, m) = _array.namespace(x, y), counts
    # What is no atom is sorted behind all others, or among those of the largest value.
    x, y = (
        xp.sort(xp.where(here, v, xp.max(v, axis=1, keepdims=True)), axis=1, stable=False)
        for v, here in ((x, here_x), (y, here_y))
    )
    (second, mass_x), (first, mass_y) = _endings(n, m, x, y)
    ending_x = dot(mass_x, _power(x - _array.take_along_rows(y, second), p))
    return (ending_x + dot(mass_y, _power(_array.take_along_rows(x, first) - y, p))) / (n * m)[:, 0]


def _endings(n: Array, m: Array, a: Array, b: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Return for each atom of x and of y the cell that ends with it: the other list's rank, and the length in 1 / (n m).

    A cell that ends with both is that of x alone.
    """
    second, mass_x, _ = _ending(n, m, a, b)
    first, mass_y, shared = _ending(m, n, b, a)
    return (second, mass_x), (first, mass_y * shared)


def _ending(n: Array, m: Array, own: Array, other: Array) -> tuple[Array, Array, Array]:
    """Return for each of n atoms the rank and the length of :func:`_endings`, and 0 where an atom of the other list ends too.

    All are whole numbers, and quotients of whole numbers that a dtype holds are never rounded up to the next one. Places from
    n on have no length.
    """
    xp, dtype = _array.namespace(own), own.dtype
    atom = xp.arange(1, own.shape[1] + 1, dtype=dtype, device=_array.device(own))[None, :]
    end = atom * m
    rank = xp.floor((end - 1) / n)
    over = end - rank * n
    length = xp.minimum(over, m) * xp.astype(atom <= n, dtype)
    integer = xp.arange(1, device=_array.device(own)).dtype
    last = xp.full_like(n, other.shape[1] - 1)
    return xp.astype(xp.minimum(rank, last), integer), length, xp.astype(over < n, dtype)


def _merged_cells(a: Array, b: Array) -> Cells:
    """Return the cells of any weights by one merge of all ends."""
    xp, (count, n) = _array.namespace(a), a.shape
    ends = xp.concat([xp.cumulative_sum(w, axis=1) for w in (a, b)], axis=1)
    ends = xp.concat([v / v[:, -1:] for v in (ends[:, :n], ends[:, n:])], axis=1)
    # The place of an end among those of its own list is the atom that its cell belongs to.
    order = xp.argsort(ends, axis=1)
    ends = _array.take_along_rows(ends, order)
    mass = ends - xp.concat([xp.zeros((count, 1), dtype=a.dtype, device=_array.device(a)), ends[:, :-1]], axis=1)
    of_x = xp.astype(order < n, order.dtype)
    before = xp.cumulative_sum(of_x, axis=1) - of_x
    rank = xp.arange(order.shape[1], dtype=order.dtype, device=_array.device(order))[None, :]
    return Cells(xp.clip(before, max=n - 1), xp.clip(rank - before, max=b.shape[1] - 1), mass)


def balanced(a: Array, b: Array) -> Array:
    """Tell for each problem whether all positive weights of both lists are one number, as many on both sides."""
    xp, (n, m) = _array.namespace(a, b), (support(w) for w in (a, b))
    return _equal(a, n) & _equal(b, m) & (n == m) & (xp.max(a, axis=1) == xp.max(b, axis=1))


def support(weights: Array) -> Array:
    """Return the number of atoms that carry weight, shape (B,)."""
    return _array.namespace(weights).count_nonzero(weights, axis=1)


def line(x: Array, a: Array, y: Array, b: Array, p: float) -> Array:
    """Return W_p^p between weighted lists of numbers, shape (B,): :func:`gwtools.linear.line` of many lists."""
    counts = _even_counts(a, b)
    return total(comonotone(x, a, y, b), x, y, p) if counts is None else _even_line(x, a > 0, y, b > 0, p, counts)


def line_of_entries(x: Entries, y: Entries, p: float) -> Array:
    """Return W_p^p between all entries of matrices, shape (B,)."""
    xp, counts = _array.namespace(x.values), _even_counts(x.weights, y.weights)
    if counts is not None and x.values.shape[1] * y.values.shape[1] * _array.epsilon(x.values) <= 1:
        whole = [xp.all(n[:, 0] == side.sizes) for n, side in zip(counts, (x, y), strict=True)]
        if bool(whole[0] & whole[1]):
            n, m = counts[0] ** 2, counts[1] ** 2
            here = [xp.astype(s.places, k.dtype) < k for s, k in ((x, n), (y, m))]
            return _even_line(x.values, here[0], y.values, here[1], p, (n, m))
    return line(x.values, x.masses, y.values, y.masses, p)


def total(atoms: Atoms, x: Array, y: Array, p: float) -> Array:
    """Return Σ mass · |x − y|^p over the atoms of each coupling, shape (B,)."""
    apart = _array.take_along_rows(x, atoms.rows) - _array.take_along_rows(y, atoms.cols)
    return dot(atoms.mass, _power(apart, p))


def _power(apart: Array, p: float) -> Array:
    size = _array.namespace(apart).abs(apart)
    return size if p == 1 else size**p
