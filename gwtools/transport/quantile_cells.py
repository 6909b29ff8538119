"""Common cells of two quantile functions: intervals of [0, 1] where both are constant.

By lemma A these intervals are the atoms of the optimal coupling of two sorted lists of
numbers, and their lengths are its masses.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gwtools import _array
from gwtools._array import Array, take_along_rows


class SortingCoupling(NamedTuple):
    """Atoms of a coupling of two lists, in ascending order of their values.

    Positions in either list, and masses, each of shape (…, K). In a stack, atoms
    without mass come last; outside of gradient graphs, they name atoms that have mass,
    or atom 0.
    """

    rows: Array
    cols: Array
    mass: Array


def equal_cells(
    n: Array,
    m: Array,
    like: Array,
) -> SortingCoupling:
    """Couple n with m atoms of equal weights in order, by arithmetic alone.

    Parameters
    ----------
    n, m : arrays of whole numbers of shape (…)
        Numbers of atoms; :func:`dtype_holds_ends` tells whether the dtype of ``like``
        is wide enough for them.
    like : array
        Names the library, the device and the dtype of the result.

    Returns
    -------
    SortingCoupling
        Atoms of shape (…, K): the n + m − gcd(n, m) cells of the grids i/n and j/m, and
        for pairs with fewer than K of them zeros behind.

    Notes
    -----
    Take all n + m ends i/n and j/m in order, j/m first where two meet. The i-th end i/n
    has ⌊i m / n⌋ ends j/m before it, so of the first t − 1 ends ⌈t n / (n + m)⌉ − 1 are
    of the form i/n. Both grids meet gcd(n, m) times, at equal distances, and the cell
    between two ends that meet has no length: it is left out. All are whole numbers, and
    a quotient of whole numbers that a dtype holds is never rounded up to the next one.
    """
    xp = _array.namespace(like)
    # 1. The number of cells of each pair, in whole numbers on the CPU.
    whole_n = _array.to_numpy(n)[..., None]  # (…, 1)
    whole_m = _array.to_numpy(m)[..., None]
    meetings = np.gcd(whole_n, whole_m)
    whole_kept = whole_n + whole_m - meetings
    # Ends of both lists meet at equal distances: cells between two meetings.
    period = whole_kept // meetings
    whole = [whole_n, whole_m, whole_kept, period]
    # One transfer for all four: each would cost a call on a device.
    counts = np.array(whole, dtype=float)
    counts = _array.from_numpy(counts, like)  # (4, …, 1)
    n = counts[0, ...]
    m = counts[1, ...]
    kept = counts[2, ...]
    period = counts[3, ...]
    # 2. The atoms of cell k. k + ⌊k / period⌋ ends come before it, those that meet
    #    counted twice: call them t − 1. The i-th end of x has ⌊i m / n⌋ ends of y
    #    before it, so ⌈t n / (n + m)⌉ − 1 of the t − 1 are ends of x: the rows before
    #    its row. The other ends are the columns before its column. Lists may be long:
    #    arrays are changed in place.
    largest = int(whole_kept.max())
    device = _array.device(like)
    integers = xp.arange(largest, device=device)  # (K,)
    index = xp.astype(integers, like.dtype)
    here = xp.astype(index < kept, like.dtype)  # 1 at cells, 0 behind them
    ends_before = index + xp.floor(index / period)  # t − 1
    rows = ends_before * n
    rows += n - 1
    rows = xp.floor(rows / (n + m))  # ⌈t n / (n + m)⌉ − 1
    cols = ends_before
    cols -= rows
    rows *= here
    cols *= here
    # 3. Lengths of the cells, in units of 1 / (n m).
    ends = xp.minimum(rows * m + m, cols * n + n)
    zero = xp.zeros_like(ends[..., :1])
    mass = ends - xp.concat([zero, ends[..., :-1]], axis=-1)
    mass *= here
    whole_rows = xp.astype(rows, integers.dtype)
    whole_cols = xp.astype(cols, integers.dtype)
    return SortingCoupling(whole_rows, whole_cols, mass / (n * m))


def dtype_holds_ends(x: Array, y: Array) -> bool:
    """Tell whether the dtype of lists is wide enough for :func:`equal_cells`.

    Its whole numbers are at most (N + M) max(N, M) for lists of shapes (…, N) and
    (…, M).
    """
    n = x.shape[-1]
    m = y.shape[-1]
    largest = (n + m) * max(n, m)
    spacing = _array.epsilon(x)
    return bool(largest * spacing <= 1)


def merged_cells(ends_x: Array, ends_y: Array) -> SortingCoupling:
    """Couple atoms in order by the right ends of their quantile cells.

    Parameters
    ----------
    ends_x, ends_y : arrays of shape (…, N) and (…, M)
        Right ends of the cells, ascending to 1.

    Returns
    -------
    SortingCoupling
        N + M − 1 atoms; where ends of both lists meet, some have no mass.
    """
    xp = _array.namespace(ends_x)
    n = ends_x.shape[-1]
    m = ends_y.shape[-1]
    # 1. Cells lie between consecutive ends of either list.
    inner_x = ends_x[..., :-1]
    inner_y = ends_y[..., :-1]
    inner = xp.concat([inner_x, inner_y], axis=-1)
    order = xp.argsort(inner)
    inner = take_along_rows(inner, order)  # (…, N + M − 2)
    zero = xp.zeros_like(ends_x[..., :1])
    one = zero + 1
    mass = xp.concat([inner, one], axis=-1) - xp.concat([zero, inner], axis=-1)
    # 2. As many atoms of a list lie before a cell as ends of that list do.
    number_x = n - 1  # of inner ends, which come first in what was sorted
    is_end_of_x = xp.astype(order < number_x, order.dtype)
    none = xp.astype(zero, order.dtype)
    rows = xp.cumulative_sum(is_end_of_x, axis=-1)
    rows = xp.concat([none, rows], axis=-1)
    device = _array.device(order)
    positions = xp.arange(n + m - 1, dtype=order.dtype, device=device)
    cols = positions - rows
    return SortingCoupling(rows, cols, mass)
