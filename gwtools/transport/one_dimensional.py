"""One-dimensional optimal transport by sorting: one pair of weighted lists, or a stack.

Lists have shapes (…, N) and (…, M). Without leading axes they are one pair; in a stack,
lists are padded to one length with atoms of weight zero, whatever their values.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gwtools import _array
from gwtools._array import Array, take_along_rows
from gwtools.plans import SparsePlan, make_unchecked
from gwtools.transport.quantile_cells import (
    SortingCoupling,
    dtype_holds_ends,
    equal_cells,
    merged_cells,
)

SLIVER = 2.0**-45  # share of the largest mass below which an atom is float error


def wasserstein(
    x: Array,
    a: Array,
    y: Array,
    b: Array,
    p: float,
) -> Array:
    """Return W_p^p between weighted lists of numbers, shape (…), in units of x^p.

    Parameters
    ----------
    x, a : arrays of shape (…, N)
        Values and weights.
    y, b : arrays of shape (…, M)
        Values and weights.
    p : float
        Power of the cost, at least 1.

    Returns
    -------
    array of shape (…)
        One cost for each pair of lists.

    Notes
    -----
    Differentiable in the values; at ties any order gives the same value and a valid
    subgradient. In the weights, where quantile cells of both lists end together, the
    gradient is the mean of two subgradients: 0 between a list and its copy.
    """
    if _weights_are_tracked(a, b):
        # Gradients with respect to weights are asked for. Of ends that meet, either
        # list's may come first: the mean of both orders.
        coupling = comonotone(x, a, y, b)
        x_first = cost(coupling, x, y, p)
        coupling = comonotone(y, b, x, a)
        y_first = cost(coupling, y, x, p)
        return (x_first + y_first) / 2
    if _share_one_weight(a, b):
        weight = a[..., 0]
        return weight * _sum_of_powers(x, y, p)
    numbers = _numbers_of_equal_atoms(a, b)
    if numbers is None:
        coupling = comonotone(x, a, y, b)
        return cost(coupling, x, y, p)  # W_p^p, (…): no root is taken
    # Of equal weights only the numbers count, and padding must not be sorted before
    # an atom.
    n, m = numbers
    if a.ndim > 1:
        x = _padded_by_largest(x, a > 0)
        y = _padded_by_largest(y, b > 0)
    return _between_equal_weights(x, y, n, m, p)


def comonotone(
    x: Array,
    a: Array,
    y: Array,
    b: Array,
) -> SortingCoupling:
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
    is_stack = a.ndim > 1
    tracked = _weights_are_tracked(a, b)
    order_x = _ascending(x, a)
    order_y = _ascending(y, b)
    mass_x = take_along_rows(a, order_x)
    mass_y = take_along_rows(b, order_y)
    # 1. If all lists have equal sorted weights, atoms of one rank pair off, and masses
    #    are the stored weights.
    as_many = a.shape == b.shape
    pair_off = as_many and bool(xp.all(mass_x == mass_y))
    if pair_off and not tracked:
        coupling = SortingCoupling(order_x, order_y, mass_x)
        return _without_empty_atoms(coupling) if is_stack else coupling
    # 2. Else atoms of the coupling are the common cells of both quantile functions.
    numbers = _numbers_of_equal_atoms(a, b)
    if numbers is None:
        cells = _merged_weights(mass_x, mass_y)
    else:
        n, m = numbers
        cells = equal_cells(n, m, a)
    rows = take_along_rows(order_x, cells.rows)
    cols = take_along_rows(order_y, cells.cols)
    if not is_stack:
        return SortingCoupling(rows, cols, cells.mass)
    # 3. In a stack, a single pair of lists may still have equal sorted weights.
    mass = cells.mass
    if not tracked:
        mass = _stored_masses(cells, mass_x, mass_y)
    coupling = SortingCoupling(rows, cols, mass)
    return _without_empty_atoms(coupling) if numbers is None else coupling


def cost(
    coupling: SortingCoupling,
    x: Array,
    y: Array,
    p: float,
) -> Array:
    """Return Σ mass · |x − y|^p over the atoms of couplings, shape (…)."""
    xp = _array.namespace(x, y)
    rows, cols, mass = coupling
    difference = take_along_rows(x, rows) - take_along_rows(y, cols)  # (…, K)
    difference = xp.abs(difference)
    # Atoms without mass cost nothing, even where the power of their difference
    # overflows: 0 · inf would be no number.
    if not _array.tracked(mass):
        difference = xp.where(mass > 0, difference, xp.zeros_like(difference))
    powers = difference if p == 1 else difference**p
    return xp.vecdot(mass, powers)


def sorting_plan(
    x: Array,
    a: Array,
    y: Array,
    b: Array,
) -> SparsePlan:
    """Return the comonotone coupling of one pair of lists as a plan of shape (n, m).

    Parameters
    ----------
    x, a : arrays of shape (n,)
        Values and weights.
    y, b : arrays of shape (m,)
        Values and weights.

    Returns
    -------
    SparsePlan
        At most n + m − 1 atoms; those that are float error of the sums are left out.
    """
    coupling = comonotone(x, a, y, b)
    xp = _array.namespace(coupling.mass)
    largest = _array.number(xp.max(coupling.mass))
    kept = xp.nonzero(coupling.mass > SLIVER * largest)[0]
    return make_unchecked(
        SparsePlan,
        rows=xp.take(coupling.rows, kept),
        cols=xp.take(coupling.cols, kept),
        mass=xp.take(coupling.mass, kept),
        size=(x.shape[0], y.shape[0]),
    )


def equal_weights(a: Array, b: Array) -> Array:
    """Tell whether lists have as many atoms, all of one weight.

    Sorted values then pair off. A bool for one pair, an array (B,) for a stack.
    """
    if a.ndim == 1:
        return _share_one_weight(a, b)
    xp = _array.namespace(a, b)
    weight = xp.max(a, axis=-1, keepdims=True)  # (…, 1)
    one_weight = xp.all(_have_weight(a, weight), axis=-1)
    same_weight = xp.all(_have_weight(b, weight), axis=-1)
    as_many = _support(a) == _support(b)
    return one_weight & same_weight & as_many


def pairs_off(
    coupling: SortingCoupling,
    a: Array,
    b: Array,
) -> Array:
    """Tell whether couplings map atoms one to one between equal weights, shape (…)."""
    xp = _array.namespace(a, b)
    rows, cols, mass = coupling
    whole_x = mass == take_along_rows(a, rows)  # (…, K)
    whole_y = mass == take_along_rows(b, cols)
    empty = mass == 0
    whole = xp.all((whole_x & whole_y) | empty, axis=-1)
    # As many atoms as either list has: none of them is met twice.
    number = _support(mass)
    each_of_x = number == _support(a)
    each_of_y = number == _support(b)
    return whole & each_of_x & each_of_y


class Entries(NamedTuple):
    """The entries of B matrices, each of which weighs a_i a_k."""

    values: Array  # (B, K): the n² entries of each matrix row by row, then padding
    weights: Array  # (B, N): the weights of its n atoms, then zeros
    sizes: Array  # (B,): n

    @property
    def positions(self) -> Array:
        """0, 1, … along the entries, whole numbers of shape (1, K)."""
        xp = _array.namespace(self.values)
        count = self.values.shape[1]
        device = _array.device(self.values)
        positions = xp.arange(count, device=device)
        return positions[None, :]

    @property
    def masses(self) -> Array:
        """The products a_i a_k that belong to the entries, (B, K); zero at padding."""
        xp = _array.namespace(self.values)
        positions = self.positions
        size = xp.astype(self.sizes, positions.dtype)[:, None]  # (B, 1)
        row = positions // size
        col = positions - row * size
        # Padding has rows from n on, and no weight of its own to read.
        row_read = xp.minimum(row, size - 1)
        first = take_along_rows(self.weights, row_read)
        second = take_along_rows(self.weights, col)
        products = first * second
        return xp.where(row < size, products, xp.zeros_like(first))


def wasserstein_of_entries(
    x: Entries,
    y: Entries,
    p: float,
) -> Array:
    """Return W_p^p between all entries of matrices, shape (B,), in units of x^p."""
    numbers = _numbers_of_equal_entries(x, y)
    if numbers is None:
        return wasserstein(x.values, x.masses, y.values, y.masses, p)
    # Entries of one weight need no masses, and the cells are known without a merge.
    count_x, count_y = numbers  # (B,) each
    here_x = x.positions < count_x[:, None]  # (B, K)
    here_y = y.positions < count_y[:, None]
    values_x = _padded_by_largest(x.values, here_x)
    values_y = _padded_by_largest(y.values, here_y)
    return _between_equal_weights(values_x, values_y, count_x, count_y, p)


def _numbers_of_equal_entries(x: Entries, y: Entries) -> tuple[Array, Array] | None:
    """Count the entries of matrices, (B,), if :func:`equal_cells` may couple them."""
    atoms = _numbers_of_equal_atoms(x.weights, y.weights)
    if atoms is None:
        return None
    if not dtype_holds_ends(x.values, y.values):
        return None
    n, m = atoms
    # An atom without weight would leave entries without weight between others, where
    # only padding behind all entries is left out.
    xp = _array.namespace(x.values)
    none_empty = (n == x.sizes) & (m == y.sizes)
    if not bool(xp.all(none_empty)):
        return None
    return n**2, m**2


def _merged_weights(a: Array, b: Array) -> SortingCoupling:
    """Couple atoms of any weights (…, N) and (…, M) in order."""
    xp = _array.namespace(a)
    # Differences of long sums are the masses: in single precision they would miss the
    # weights of 100,000 atoms.
    ends_x = xp.cumulative_sum(_array.for_long_sums(a), axis=-1)
    ends_y = xp.cumulative_sum(_array.for_long_sums(b), axis=-1)
    # Both lists end at the same total, so that no sliver of mass is left over by float
    # error.
    ends_x = ends_x / ends_x[..., -1:]
    ends_y = ends_y / ends_y[..., -1:]
    cells = merged_cells(ends_x, ends_y)
    mass = xp.astype(cells.mass, a.dtype, copy=False)
    return cells._replace(mass=mass)


def _sum_of_powers(
    x: Array,
    y: Array,
    p: float,
) -> Array:
    """Return Σ |x_(k) − y_(k)|^p over sorted lists of as many numbers, shape (…)."""
    xp = _array.namespace(x, y)
    difference = xp.sort(x, stable=False) - xp.sort(y, stable=False)
    if p == 2:
        return xp.vecdot(difference, difference)
    powers = xp.abs(difference) ** p
    return xp.sum(powers, axis=-1)


def _between_equal_weights(
    x: Array,
    y: Array,
    n: Array,
    m: Array,
    p: float,
) -> Array:
    """Return W_p^p between the n and the m least values of lists of equal weights.

    The values alone need sorting.
    """
    xp = _array.namespace(x, y)
    cells = equal_cells(n, m, x)
    sorted_x = xp.sort(x, stable=False)
    sorted_y = xp.sort(y, stable=False)
    return cost(cells, sorted_x, sorted_y, p)


def _padded_by_largest(x: Array, here: Array) -> Array:
    """Give padding the largest value of its list.

    It is then sorted behind the atoms, or among some of the same value.
    """
    xp = _array.namespace(x)
    largest = xp.max(x, axis=-1, keepdims=True)  # of padding too: it is no less
    return xp.where(here, x, largest)


def _numbers_of_equal_atoms(a: Array, b: Array) -> tuple[Array, Array] | None:
    """Count the atoms of lists, shape (…), if :func:`equal_cells` may couple them.

    That is if each list has one weight for all its atoms and the dtype holds the ends
    of that many. Not where gradients with respect to weights are asked for: masses
    would be constants.
    """
    if not (_has_one_weight(a) and _has_one_weight(b)):
        return None
    if not dtype_holds_ends(a, b):
        return None
    if _weights_are_tracked(a, b):
        return None
    if a.ndim > 1:
        return _support(a), _support(b)
    n = np.asarray(a.shape[0])
    m = np.asarray(b.shape[0])
    return n, m


def _weights_are_tracked(a: Array, b: Array) -> bool:
    """Tell whether gradients with respect to weights are asked for.

    Masses are then sums of weights, even where they are stored ones.
    """
    return _array.tracked(a) or _array.tracked(b)


def _has_one_weight(a: Array) -> bool:
    """Tell whether all atoms of each list have one weight.

    In one pair, which is not padded, this includes atoms of weight zero.
    """
    xp = _array.namespace(a)
    if a.ndim == 1:
        alike = a == a[:1]
    else:
        largest = xp.max(a, axis=-1, keepdims=True)
        alike = _have_weight(a, largest)
    return bool(xp.all(alike))


def _have_weight(a: Array, weight: Array) -> Array:
    """Tell which atoms of lists (…, N) have the weight (…, 1), or are padding."""
    is_padding = a == 0
    return (a == weight) | is_padding


def _share_one_weight(a: Array, b: Array) -> bool:
    """Tell whether lists without padding have as many atoms, all of one weight."""
    xp = _array.namespace(a, b)
    if a.shape != b.shape:
        return False
    if not bool(xp.all(a == b)):
        return False
    first = a[..., :1]
    return bool(xp.all(a == first))


def _support(weights: Array) -> Array:
    """Return the number of atoms that carry weight, shape (…)."""
    xp = _array.namespace(weights)
    return xp.count_nonzero(weights, axis=-1)


def _ascending(x: Array, a: Array) -> Array:
    """Return the positions of values in ascending order, shape (…, N).

    In a stack, atoms of weight zero are sorted behind all others.
    """
    xp = _array.namespace(x)
    if a.ndim > 1:
        infinity = xp.inf * xp.ones_like(x)
        x = xp.where(a > 0, x, infinity)
    return xp.argsort(x)


def _stored_masses(
    cells: SortingCoupling,
    a: Array,
    b: Array,
) -> Array:
    """Return the masses (…, K) of cells, which are the weights where these pair off."""
    xp = _array.namespace(a)
    mass_x = take_along_rows(a, cells.rows)
    mass_y = take_along_rows(b, cells.cols)
    here = cells.mass > 0
    same_rank = cells.rows == cells.cols
    same_mass = mass_x == mass_y
    alike = (same_rank & same_mass) | ~here
    # Whether all atoms of a pair of lists meet one of the same rank and weight, (…, 1).
    pair_off = xp.all(alike, axis=-1, keepdims=True)
    return xp.where(pair_off & here, mass_x, cells.mass)


def _without_empty_atoms(coupling: SortingCoupling) -> SortingCoupling:
    """Move atoms without mass last and let them name atom 0.

    As many atoms are kept as the pair with most atoms of mass has. Within a gradient
    graph all are kept, as their masses have gradients.
    """
    xp = _array.namespace(coupling.mass)
    is_empty = xp.astype(coupling.mass <= 0, xp.int8)
    order = xp.argsort(is_empty)
    tracked = _array.tracked(coupling.mass)
    if not tracked:
        most = int(xp.max(_support(coupling.mass)))
        order = order[..., :most]
    rows = take_along_rows(coupling.rows, order)
    cols = take_along_rows(coupling.cols, order)
    mass = take_along_rows(coupling.mass, order)
    if tracked:
        return SortingCoupling(rows, cols, mass)
    here = mass > 0
    rows = xp.where(here, rows, xp.zeros_like(rows))
    cols = xp.where(here, cols, xp.zeros_like(cols))
    mass = xp.where(here, mass, xp.zeros_like(mass))
    return SortingCoupling(rows, cols, mass)
