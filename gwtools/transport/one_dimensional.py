"""One-dimensional optimal transport by sorting, between weighted lists of numbers: one pair, or a stack of pairs.

Lists have shapes (…, N) and (…, M). Without leading axes they are one pair; in a stack,
lists are padded to one length with atoms of weight zero, whatever their values.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gwtools import _array
from gwtools._array import Array
from gwtools.plans import SparsePlan, make_unchecked

SLIVER = 2.0**-45  # share of the largest mass below which an atom is float error


class SortingCoupling(NamedTuple):
    """Atoms of a coupling of two lists in ascending order: positions in either list, and masses, each of shape (…, K).

    In a stack, atoms without mass come last; outside of gradient graphs, they name
    atoms that have mass, or atom 0.
    """

    rows: Array
    cols: Array
    mass: Array


def wasserstein(x: Array, a: Array, y: Array, b: Array, p: float) -> Array:
    """Return W_p^p between weighted lists of numbers, shape (…), in units of x to the power p.

    Parameters
    ----------
    x, a : arrays of shape (…, N)
        Values and weights.
    y, b : arrays of shape (…, M)
        Values and weights.
    p : float
        Power of the cost, at least 1.

    Notes
    -----
    Differentiable in the values; at ties any order gives the same value and a valid
    subgradient. In the weights, where quantile cells of both lists end together, the
    gradient is the mean of two subgradients: 0 between a list and its copy.
    """
    xp = _array.namespace(x, y)
    if _weights_are_tracked(a, b):
        # Of ends that meet, either list's may come first.
        return (
            cost(comonotone(x, a, y, b), x, y, p)
            + cost(comonotone(y, b, x, a), y, x, p)
        ) / 2
    if _is_one_weight(a, b):
        difference = xp.sort(x, stable=False) - xp.sort(y, stable=False)
        powers = (
            xp.vecdot(difference, difference)
            if p == 2
            else xp.sum(xp.abs(difference) ** p, axis=-1)
        )
        return a[..., 0] * powers
    numbers = _numbers_of_equal_atoms(a, b)
    if numbers is None:
        return cost(comonotone(x, a, y, b), x, y, p)
    if a.ndim > 1:
        x, y = _padded_by_largest(x, a > 0), _padded_by_largest(y, b > 0)
    return _between_equal_weights(x, y, *numbers, p)


def comonotone(x: Array, a: Array, y: Array, b: Array) -> SortingCoupling:
    """Couple weighted lists of numbers in sorted order, by the north-west corner rule.

    Parameters
    ----------
    x, a : arrays of shape (…, N)
        Values and weights.
    y, b : arrays of shape (…, M)
        Values and weights.

    Returns
    -------
    SortingCoupling
        At most N + M atoms. Lists of equal numbers and equal sorted weights pair off:
        their masses are the stored weights.
    """
    xp = _array.namespace(x, a, y, b)
    order_x, order_y = _ascending(x, a), _ascending(y, b)
    mass_x, mass_y = (
        _array.take_along_rows(a, order_x),
        _array.take_along_rows(b, order_y),
    )
    if (
        a.shape == b.shape
        and bool(xp.all(mass_x == mass_y))
        and not _weights_are_tracked(a, b)
    ):
        coupling = SortingCoupling(order_x, order_y, mass_x)
        return coupling if a.ndim == 1 else _without_empty_atoms(coupling)
    numbers = _numbers_of_equal_atoms(a, b)
    cells = (
        _merged_weights(mass_x, mass_y) if numbers is None else equal_cells(*numbers, a)
    )
    rows, cols = (
        _array.take_along_rows(order_x, cells.rows),
        _array.take_along_rows(order_y, cells.cols),
    )
    if a.ndim == 1:
        return SortingCoupling(rows, cols, cells.mass)
    mass = (
        cells.mass
        if _weights_are_tracked(a, b)
        else _stored_masses(cells, mass_x, mass_y)
    )
    coupling = SortingCoupling(rows, cols, mass)
    return _without_empty_atoms(coupling) if numbers is None else coupling


def cost(coupling: SortingCoupling, x: Array, y: Array, p: float) -> Array:
    """Return Σ mass · |x − y|^p over the atoms of couplings, shape (…)."""
    xp = _array.namespace(x, y)
    mass = coupling.mass
    difference = xp.abs(
        _array.take_along_rows(x, coupling.rows)
        - _array.take_along_rows(y, coupling.cols)
    )
    if not _array.tracked(
        mass
    ):  # atoms without mass cost nothing, even where the power of their difference overflows
        difference = xp.where(mass > 0, difference, xp.zeros_like(difference))
    return xp.vecdot(mass, difference if p == 1 else difference**p)


def sorting_plan(x: Array, a: Array, y: Array, b: Array) -> SparsePlan:
    """Return the comonotone coupling of one pair of weighted lists, (n,) and (m,), as a plan of shape (n, m)."""
    coupling = comonotone(x, a, y, b)
    xp, mass = _array.namespace(coupling.mass), coupling.mass
    kept = xp.nonzero(mass > SLIVER * _array.number(xp.max(mass)))[0]
    rows, cols, mass = (xp.take(values, kept) for values in coupling)
    return make_unchecked(
        SparsePlan, rows=rows, cols=cols, mass=mass, size=(x.shape[0], y.shape[0])
    )


def equal_weights(a: Array, b: Array) -> Array:
    """Tell whether all atoms of two lists have one weight and are as many, shape (…): sorted values then pair off."""
    if a.ndim == 1:
        return _is_one_weight(a, b)
    xp = _array.namespace(a, b)
    weight = xp.max(a, axis=-1, keepdims=True)
    same = xp.all((a == weight) | (a == 0), axis=-1) & xp.all(
        (b == weight) | (b == 0), axis=-1
    )
    return same & (_support(a) == _support(b))


def pairs_off(coupling: SortingCoupling, a: Array, b: Array) -> Array:
    """Tell whether a coupling takes each atom of one list to one of the same weight in the other, shape (…)."""
    xp, mass = _array.namespace(a, b), coupling.mass
    whole_x = mass == _array.take_along_rows(a, coupling.rows)
    whole_y = mass == _array.take_along_rows(b, coupling.cols)
    number = _support(mass)
    return (
        xp.all((whole_x & whole_y) | (mass == 0), axis=-1)
        & (number == _support(a))
        & (number == _support(b))
    )


class Entries(NamedTuple):
    """The n² entries of matrices row by row, (B, K), and the weights (B, N) of their n atoms, padded; and n itself, (B,)."""

    values: Array
    weights: Array
    sizes: Array

    @property
    def positions(self) -> Array:
        """0, 1, … along the entries, whole numbers of shape (1, K)."""
        return _array.namespace(self.values).arange(
            self.values.shape[1], device=_array.device(self.values)
        )[None, :]

    @property
    def masses(self) -> Array:
        """The products of weights that belong to the entries, shape (B, K); zero at padding."""
        xp, positions = _array.namespace(self.values), self.positions
        size = xp.astype(self.sizes, positions.dtype)[:, None]
        row = positions // size
        first = _array.take_along_rows(self.weights, xp.minimum(row, size - 1))
        second = _array.take_along_rows(self.weights, positions - row * size)
        return xp.where(row < size, first * second, xp.zeros_like(first))


def wasserstein_of_entries(x: Entries, y: Entries, p: float) -> Array:
    """Return W_p^p between all entries of matrices, shape (B,), where each weighs what its row and its column do."""
    xp, numbers = (
        _array.namespace(x.values),
        _numbers_of_equal_atoms(x.weights, y.weights),
    )
    if numbers is not None and _holds_ends(x.values, y.values):
        n, m = numbers
        if bool(
            xp.all((n == x.sizes) & (m == y.sizes))
        ):  # no atom without weight: entries come first, then padding
            n, m = n**2, m**2
            values_x = _padded_by_largest(x.values, x.positions < n[:, None])
            values_y = _padded_by_largest(y.values, y.positions < m[:, None])
            return _between_equal_weights(values_x, values_y, n, m, p)
    return wasserstein(x.values, x.masses, y.values, y.masses, p)


def equal_cells(n: Array, m: Array, like: Array) -> SortingCoupling:
    """Couple n with m atoms of equal weights in order, shape (…, K), for whole numbers of shape (…), in the dtype of ``like``.

    Atoms of the coupling are the intervals of [0, 1] on which both quantile functions
    are constant.
    """
    # Of all n + m ends in order, y's first where two meet, the i-th of x has ⌊i m / n⌋
    # of y before it: ⌈t n / (n + m)⌉ − 1 of the first t − 1 are x's. Both lists end
    # together gcd(n, m) times, at equal distances, and the cell between two ends that
    # meet has no length: it is left out. All are whole numbers, and quotients of whole
    # numbers that a dtype holds are never rounded up to the next one.
    xp = _array.namespace(like)
    whole_n, whole_m = (np.asarray(_array.to_numpy(v))[..., None] for v in (n, m))
    meetings = np.gcd(whole_n, whole_m)
    kept = whole_n + whole_m - meetings
    integers = xp.arange(int(kept.max()), device=_array.device(like))
    index = xp.astype(integers, like.dtype)
    counts = _array.from_numpy(
        np.array([whole_n, whole_m, kept, kept // meetings], dtype=float), like
    )
    n, m, kept, shares = (counts[i, ...] for i in range(4))
    here = xp.astype(index < kept, like.dtype)
    cols = index + xp.floor(index / shares)
    rows = cols * n
    rows += n - 1
    rows = xp.floor(rows / (n + m))
    cols -= rows
    rows *= here
    cols *= here
    ends = xp.minimum(rows * m + m, cols * n + n)
    mass = ends - xp.concat([xp.zeros_like(ends[..., :1]), ends[..., :-1]], axis=-1)
    mass *= here
    return SortingCoupling(
        xp.astype(rows, integers.dtype), xp.astype(cols, integers.dtype), mass / (n * m)
    )


def merged_cells(ends_x: Array, ends_y: Array) -> SortingCoupling:
    """Couple atoms in order by the right ends of their quantile cells, ascending to 1, (…, N) and (…, M)."""
    xp, n, m = _array.namespace(ends_x), ends_x.shape[-1], ends_y.shape[-1]
    inner = xp.concat([ends_x[..., :-1], ends_y[..., :-1]], axis=-1)
    order = xp.argsort(inner)
    inner, zero = _array.take_along_rows(inner, order), xp.zeros_like(ends_x[..., :1])
    mass = xp.concat([inner, zero + 1], axis=-1) - xp.concat([zero, inner], axis=-1)
    # As many ends of a list as lie before a cell, so many of its atoms do.
    is_end_of_x, none = (
        xp.astype(order < n - 1, order.dtype),
        xp.astype(zero, order.dtype),
    )
    rows = xp.concat([none, xp.cumulative_sum(is_end_of_x, axis=-1)], axis=-1)
    cols = xp.arange(n + m - 1, dtype=order.dtype, device=_array.device(order)) - rows
    return SortingCoupling(rows, cols, mass)


def _merged_weights(a: Array, b: Array) -> SortingCoupling:
    """Couple atoms of any weights (…, N) and (…, M) in order."""
    xp = _array.namespace(a)
    # Differences of long sums are the masses: in single precision they would miss the
    # weights of 100,000 atoms.
    ends_x, ends_y = (
        xp.cumulative_sum(_array.for_long_sums(w), axis=-1) for w in (a, b)
    )
    # Both lists end at the same total, so that no sliver of mass is left over by float
    # error.
    cells = merged_cells(ends_x / ends_x[..., -1:], ends_y / ends_y[..., -1:])
    return cells._replace(mass=xp.astype(cells.mass, a.dtype, copy=False))


def _between_equal_weights(x: Array, y: Array, n: Array, m: Array, p: float) -> Array:
    """Return W_p^p between the n and m least values of lists, all of equal weights: the values alone need sorting."""
    xp = _array.namespace(x, y)
    return cost(
        equal_cells(n, m, x), xp.sort(x, stable=False), xp.sort(y, stable=False), p
    )


def _padded_by_largest(x: Array, here: Array) -> Array:
    """Give padding the largest value of its list: it is then sorted behind the atoms, or among some of the same value."""
    xp = _array.namespace(x)
    return xp.where(here, x, xp.max(x, axis=-1, keepdims=True))


def _numbers_of_equal_atoms(a: Array, b: Array) -> tuple[Array, Array] | None:
    """Count the atoms of lists, shape (…), if each has one weight for all of its own and :func:`equal_cells` may be used.

    Not where gradients with respect to weights are asked for, or where the dtype does
    not hold the ends of that many.
    """
    if not (_has_one_weight(a) and _has_one_weight(b) and _holds_ends(a, b)):
        return None
    if _weights_are_tracked(a, b):
        return None
    if a.ndim == 1:
        return np.asarray(a.shape[0]), np.asarray(b.shape[0])
    return _support(a), _support(b)


def _weights_are_tracked(a: Array, b: Array) -> bool:
    """Tell whether gradients in weights are asked for: masses are then sums of weights, even where they are stored ones."""
    return _array.tracked(a) or _array.tracked(b)


def _has_one_weight(a: Array) -> bool:
    """Tell whether all atoms of each list have one weight; in one pair, which is not padded, also those of weight zero."""
    xp = _array.namespace(a)
    same = (
        a == a[:1]
        if a.ndim == 1
        else (a == xp.max(a, axis=-1, keepdims=True)) | (a == 0)
    )
    return bool(xp.all(same))


def _is_one_weight(a: Array, b: Array) -> bool:
    """Tell whether lists have as many atoms and all of both have one weight, without padding."""
    xp = _array.namespace(a, b)
    return a.shape == b.shape and bool(xp.all(a == b)) and bool(xp.all(a == a[..., :1]))


def _holds_ends(x: Array, y: Array) -> bool:
    """Tell whether the dtype of lists (…, N) and (…, M) holds the whole numbers of :func:`equal_cells`."""
    sizes = x.shape[-1], y.shape[-1]
    return bool(sum(sizes) * max(sizes) * _array.epsilon(x) <= 1)


def _support(weights: Array) -> Array:
    """Return the number of atoms that carry weight, shape (…)."""
    return _array.namespace(weights).count_nonzero(weights, axis=-1)


def _ascending(x: Array, a: Array) -> Array:
    """Return the positions of values in ascending order; in a stack, atoms of weight zero are sorted behind all others."""
    xp = _array.namespace(x)
    return xp.argsort(
        x if a.ndim == 1 else xp.where(a > 0, x, xp.inf * xp.ones_like(x))
    )


def _stored_masses(cells: SortingCoupling, a: Array, b: Array) -> Array:
    """Return the masses (…, K) of cells between sorted weights; where these pair off, the weights themselves."""
    xp, mass = _array.namespace(a), cells.mass
    mass_x, mass_y = (
        _array.take_along_rows(a, cells.rows),
        _array.take_along_rows(b, cells.cols),
    )
    alike, here = (cells.rows == cells.cols) & (mass_x == mass_y), mass > 0
    return xp.where(xp.all(alike | ~here, axis=-1, keepdims=True) & here, mass_x, mass)


def _without_empty_atoms(coupling: SortingCoupling) -> SortingCoupling:
    """Move atoms without mass last and let them name atom 0; keep as many as the pair with most atoms of mass has.

    Within a gradient graph all are kept, as their masses have gradients.
    """
    xp = _array.namespace(coupling.mass)
    order = xp.argsort(xp.astype(coupling.mass <= 0, xp.int8))
    if _array.tracked(coupling.mass):
        return SortingCoupling(
            *(_array.take_along_rows(values, order) for values in coupling)
        )
    order = order[..., : int(xp.max(_support(coupling.mass)))]
    rows, cols, mass = (_array.take_along_rows(values, order) for values in coupling)
    here = mass > 0
    return SortingCoupling(
        *(
            xp.where(here, values, xp.zeros_like(values))
            for values in (rows, cols, mass)
        )
    )
