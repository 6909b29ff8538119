"""Transports on the line between many weighted lists of numbers at once, padded with atoms that carry no weight."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

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

    In order, those without length last.
    """

    rows: Array
    cols: Array
    mass: Array


class Counts(NamedTuple):
    """How many atoms of two weighted lists carry weight, whether these are of equal weight, and whether balanced, too: (B,).

    They are ``even`` where each list has one weight for all its atoms, and ``balanced`` where both have the same number of
    atoms and the same weight, so that values pair off.
    """

    first: Array
    second: Array
    even: Array
    balanced: Array


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
    """Couple each row of values with its partner in sorted order: :func:`gwtools.transport.programs.comonotone` of many lists.

    Parameters
    ----------
    x, a : arrays of shape (B, N)
        Values and weights; atoms of weight zero take no part.
    y, b : arrays of shape (B, M)
        Values and weights.

    Returns
    -------
    Atoms
        In sorted order; at most N + M for each problem, and as many as the problem with most of them has.
    """
    xp = _array.namespace(x, a, y, b)
    # Atoms of weight zero are sorted behind all others.
    order_x, order_y = (
        xp.argsort(xp.where(w > 0, v, xp.asarray(xp.inf, dtype=v.dtype, device=_array.device(v))), axis=1)
        for v, w in ((x, a), (y, b))
    )
    counts = counted(a, b)
    if _tell_ends(counts, a, b):
        cells = _even_cells(counts.first, counts.second, a)
    else:
        cells = _merged_cells(_array.take_along_rows(a, order_x), _array.take_along_rows(b, order_y))
    rows, cols = (_array.take_along_rows(o, i) for o, i in ((order_x, cells.rows), (order_y, cells.cols)))
    here, none = cells.mass > 0, xp.zeros_like(rows)
    mass = xp.where(counts.balanced[:, None] & here, xp.max(a, axis=1)[:, None], cells.mass)
    return Atoms(xp.where(here, rows, none), xp.where(here, cols, none), mass, counts.balanced)


def counted(a: Array, b: Array) -> Counts:
    """Count the atoms of lists with weights (B, N) and (B, M)."""
    xp = _array.namespace(a, b)
    n, m, tops = support(a), support(b), [xp.max(w, axis=1) for w in (a, b)]
    uniform = [xp.all((w == top[:, None]) | (w == 0), axis=1) for w, top in zip((a, b), tops, strict=True)]
    even = uniform[0] & uniform[1]
    return Counts(n, m, even, even & (n == m) & (tops[0] == tops[1]))


def _tell_ends(counts: Counts, a: Array, b: Array) -> bool:
    """Tell whether the numbers of atoms tell their ends, as all weights of each list are one number.

    Not where gradients with respect to weights are asked for, or where the dtype does not hold the ends of that many.
    """
    if _array.tracked(a) or _array.tracked(b) or not _holds_ends(a, b):
        return False
    return bool(_array.namespace(a).all(counts.even))


def _holds_ends(x: Array, y: Array) -> bool:
    """Tell whether the dtype of two lists, (B, N) and (B, M), holds the whole numbers of :func:`_even_cells`."""
    sizes = x.shape[1], y.shape[1]
    return bool(sum(sizes) * max(sizes) * _array.epsilon(x) <= 1)


def _even_cells(n: Array, m: Array, like: Array) -> Cells:
    """Return the cells of n and m atoms of equal weight, whole numbers of shape (B,), in the dtype of ``like``.

    Of all n + m ends in order, y's first where two meet, the i-th of x has ⌊i m / n⌋ of y before it: ⌈t n / (n + m)⌉ − 1 of
    the first t − 1 are x's. Both lists end together gcd(n, m) times, at equal distances, and the cell between two ends that
    meet has no length: it is left out. All are whole numbers, and quotients of whole numbers that a dtype holds are never
    rounded up to the next one.
    """
    xp, kind = _array.namespace(like), {"dtype": like.dtype, "device": _array.device(like)}
    whole = [_array.to_numpy(v)[:, None] for v in (n, m)]
    meetings = np.gcd(*whole)
    kept = whole[0] + whole[1] - meetings
    places = xp.arange(int(kept.max()), **kind)[None, :]
    n, m, kept, shares = (_array.from_numpy(v.astype(float), like) for v in (*whole, kept, kept // meetings))
    here = xp.astype(places < kept, like.dtype)
    cols = places + xp.floor(places / shares)
    rows = cols * n
    rows += n - 1
    rows = xp.floor(rows / (n + m))
    cols -= rows
    rows *= here
    cols *= here
    ends = xp.minimum(rows * m + m, cols * n + n)
    mass = ends - xp.concat([xp.zeros_like(n), ends[:, :-1]], axis=1)
    mass *= here
    integer = xp.arange(1, device=_array.device(like)).dtype
    return Cells(xp.astype(rows, integer), xp.astype(cols, integer), mass / (n * m))


def _even_line(x: Array, here_x: Array, y: Array, here_y: Array, p: float, n: Array, m: Array) -> Array:
    """Return W_p^p between lists of equal weights, of whose n and m atoms ``here`` tells: only values need sorting."""
    xp = _array.namespace(x, y)
    # What is no atom is sorted behind all others, or among those of the largest value.
    x, y = (
        xp.sort(xp.where(here, v, xp.max(v, axis=1, keepdims=True)), axis=1, stable=False)
        for v, here in ((x, here_x), (y, here_y))
    )
    return total(_even_cells(n, m, x), x, y, p)


def _merged_cells(a: Array, b: Array) -> Cells:
    """Return the cells of weights (B, N) and (B, M) in sorted order, of any size, by one merge of all ends."""
    xp, (count, n) = _array.namespace(a), a.shape
    ends = xp.concat([xp.cumulative_sum(w, axis=1) for w in (a, b)], axis=1)
    ends = xp.concat([v / v[:, -1:] for v in (ends[:, :n], ends[:, n:])], axis=1)
    # The place of an end among those of its own list is the atom that its cell belongs to.
    order = xp.argsort(ends, axis=1)
    ends = _array.take_along_rows(ends, order)
    mass = ends - xp.concat([xp.zeros((count, 1), dtype=a.dtype, device=_array.device(a)), ends[:, :-1]], axis=1)
    of_x = xp.astype(order < n, order.dtype)
    before = xp.cumulative_sum(of_x, axis=1) - of_x
    rank = xp.zeros_like(order) + xp.arange(order.shape[1], dtype=order.dtype, device=_array.device(order))
    rows, cols = xp.clip(before, max=n - 1), xp.clip(rank - before, max=b.shape[1] - 1)
    # Cells without length go last, and as many go as all problems have.
    rank = xp.where(mass > 0, rank, xp.full_like(rank, order.shape[1]))
    kept = xp.argsort(rank, axis=1)[:, : int(xp.max(support(mass)))]
    rows, cols, mass = (_array.take_along_rows(v, kept) for v in (rows, cols, mass))
    return Cells(rows, cols, mass)


def support(weights: Array) -> Array:
    """Return the number of atoms that carry weight, shape (B,)."""
    return _array.namespace(weights).count_nonzero(weights, axis=1)


def line(x: Array, a: Array, y: Array, b: Array, p: float) -> Array:
    """Return W_p^p between weighted lists of numbers, shape (B,): :func:`gwtools.transport.programs.line` of many lists."""
    counts = counted(a, b)
    if _tell_ends(counts, a, b):
        return _even_line(x, a > 0, y, b > 0, p, counts.first, counts.second)
    return total(comonotone(x, a, y, b), x, y, p)


def line_of_entries(x: Entries, y: Entries, p: float) -> Array:
    """Return W_p^p between all entries of matrices, shape (B,)."""
    xp, counts = _array.namespace(x.values), counted(x.weights, y.weights)
    if _tell_ends(counts, x.weights, y.weights) and _holds_ends(x.values, y.values):
        (n, whole_x), (m, whole_y) = (
            (k**2, xp.astype(k, s.sizes.dtype) == s.sizes) for k, s in ((counts.first, x), (counts.second, y))
        )
        if bool(xp.all(whole_x & whole_y)):
            return _even_line(x.values, x.places < n[:, None], y.values, y.places < m[:, None], p, n, m)
    return line(x.values, x.masses, y.values, y.masses, p)


def total(atoms: Atoms | Cells, x: Array, y: Array, p: float) -> Array:
    """Return Σ mass · |x − y|^p over the atoms of each coupling, shape (B,)."""
    apart = _array.take_along_rows(x, atoms.rows) - _array.take_along_rows(y, atoms.cols)
    return dot(atoms.mass, _power(apart, p))


def _power(apart: Array, p: float) -> Array:
    size = _array.namespace(apart).abs(apart)
    return size if p == 1 else size**p
