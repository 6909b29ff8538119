"""Exact copies: the bijection between two spaces that preserves every value.

Found by colour refinement with individualisation (McKay and Piperno 2014,
arXiv:1301.1493, whose search tree this is, without its pruning by automorphisms).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gwtools._array import NumpyArray
from gwtools.transport.local_distributions import Centred

# The search gives up after so many refinements, or after fewer where each sorts many
# entries; above a thousand atoms no choice of partners is taken back.
_MOST_REFINEMENTS = 400
_MOST_ENTRIES = 10**6


class _Pair(NamedTuple):
    """Two coloured matrices, one above the other.

    Parameters
    ----------
    values : integer array of shape (2n, n)
        Row i holds the numbers of the values C_ik, row n + j those of D_jl: equal
        values have equal numbers.
    colours : integer array of shape (2n,)
        The colours of the atoms of x, then of y.
    """

    values: NumpyArray
    colours: NumpyArray

    @property
    def size(self) -> int:
        """The number of atoms n."""
        return int(self.values.shape[1])


def exact_copy(x: Centred, y: Centred, tolerance: float) -> NumpyArray | None:
    """Find a bijection σ with C_ik = D_σ(i)σ(k) and a_i = b_σ(i), up to float error.

    Parameters
    ----------
    x, y : Centred
        Spaces of n and m atoms.
    tolerance : float
        Values that differ by less than this share of the largest count as equal:
        distances within a rotated cloud are those of the cloud up to float error.

    Returns
    -------
    integer array of shape (n,) or None
        The positions σ(i). None where there is none, or where the search gave up:
        between regular graphs that are no copies of each other its tree may be large.
    """
    if len(x.weights) != len(y.weights):
        return None
    pair = _numbered(x, y, tolerance)
    if pair is None:
        return None
    colours = _refined(pair)
    if colours is None:
        return None
    refined = pair._replace(colours=colours)
    # Where symmetries exchange all atoms of a colour, any partner will do.
    partners = _greedy(refined)
    if partners is None:
        partners = _searched(refined)
    if partners is None:
        return None
    # Values in a row that are each equal to the next may lead from one end to another.
    copied = y.matrix[np.ix_(partners, partners)]
    error = float(np.abs(x.matrix - copied).max())
    largest = float(np.abs(x.matrix).max())
    missed = float(np.abs(x.weights - y.weights[partners]).sum())
    is_copy = error <= tolerance * largest and missed <= tolerance
    return partners if is_copy else None


def _numbered(x: Centred, y: Centred, tolerance: float) -> _Pair | None:
    """Number the values and weights of both spaces; None where they are not the same.

    The colour of an atom is the number of its weight and of its own value C_ii.
    """
    values = _numbers(x.matrix, y.matrix, tolerance)
    weights = _numbers(x.weights, y.weights, tolerance)
    if values is None or weights is None:
        return None
    n = len(x.weights)
    atoms = np.arange(n)
    own_values = values[np.arange(2 * n), np.tile(atoms, 2)]
    colours = _of_pairs(weights.ravel(), own_values)
    return _Pair(values, colours)


def _numbers(
    first: NumpyArray,
    second: NumpyArray,
    tolerance: float,
) -> NumpyArray | None:
    """Number the values of two arrays, one above the other, equal values alike.

    None where the arrays do not hold the same values equally often.
    """
    both = np.concatenate([first, second])
    flat = both.ravel()
    order = np.argsort(flat, kind="stable")
    ascending = flat[order]
    steps = np.diff(ascending)
    least_step = tolerance * np.abs(ascending).max()
    # A new number begins where the next value is larger by more than float error.
    number = np.concatenate([[0], np.cumsum(steps > least_step)])
    numbers = np.empty(len(flat), dtype=np.int64)
    numbers[order] = number
    half = len(flat) // 2
    highest = int(number[-1]) + 1
    in_first = np.bincount(numbers[:half], minlength=highest)
    in_second = np.bincount(numbers[half:], minlength=highest)
    if not np.array_equal(in_first, in_second):
        return None
    return numbers.reshape(both.shape)


def _of_pairs(first: NumpyArray, second: NumpyArray) -> NumpyArray:
    """Return a colour for each pair of entries of two lists, equal pairs alike."""
    keys = first * (int(second.max()) + 1) + second
    _, colours = np.unique(keys, return_inverse=True)
    return colours.ravel()


def _of_rows(table: NumpyArray) -> NumpyArray:
    """Return a colour for each row of an integer table, equal rows alike."""
    _, colours = np.unique(table, axis=0, return_inverse=True)
    return colours.ravel()


def _refined(pair: _Pair) -> NumpyArray | None:
    """Refine colours until none splits; None where both spaces do not split alike.

    The new colour of an atom is its colour with the multiset of the values to all atoms
    and the colours of these.
    """
    colours = pair.colours
    n = pair.size
    number = int(colours.max()) + 1
    while True:
        of_columns = np.stack([colours[:n], colours[n:]])  # (2, n)
        beside = np.repeat(of_columns, n, axis=0)  # (2n, n)
        # One number for a value and the colour at its end.
        pairs = pair.values * number + beside
        pairs.sort(axis=1)
        table = np.concatenate([colours[:, None], pairs], axis=1)
        colours = _of_rows(table)
        if not _split_alike(colours):
            return None
        finer = int(colours.max()) + 1
        if finer == number:
            return colours
        number = finer


def _split_alike(colours: NumpyArray) -> bool:
    """Tell whether both spaces have as many atoms of each colour."""
    n = len(colours) // 2
    highest = int(colours.max()) + 1
    of_x = np.bincount(colours[:n], minlength=highest)
    of_y = np.bincount(colours[n:], minlength=highest)
    return np.array_equal(of_x, of_y)


def _greedy(pair: _Pair) -> NumpyArray | None:
    """Pair atoms of one colour as they come, each pair splitting colours by its values.

    None where the bijection does not preserve all values, as no choice is taken back.
    """
    n = pair.size
    colours = pair.colours
    for _ in range(n):
        atom, partners, _ = _branches(colours)
        if atom is None:
            break
        to_atom = pair.values[:n, atom]
        to_partner = pair.values[n:, partners[0]]
        towards = np.concatenate([to_atom, to_partner])
        singled = _singled(colours, atom, int(partners[0]))
        colours = _of_pairs(singled, towards)
        if not _split_alike(colours):
            return None
    sigma = _bijection(colours)
    of_y = pair.values[n:]
    copied = of_y[np.ix_(sigma, sigma)]
    return sigma if np.array_equal(pair.values[:n], copied) else None


def _singled(colours: NumpyArray, atom: int, partner: int) -> NumpyArray:
    """Return colours in which an atom of x and its partner in y have their own."""
    n = len(colours) // 2
    singled = colours.copy()
    own = colours.max() + 1
    singled[atom] = own
    singled[n + partner] = own
    return singled


def _searched(pair: _Pair) -> NumpyArray | None:
    """Search depth first: single out an atom of x, and try its partners in y in turn.

    Each stack entry is a refined colouring, and the partners left to try.
    """
    most = min(_MOST_REFINEMENTS, _MOST_ENTRIES // pair.size**2)
    tried = 0
    waiting = [_branches(pair.colours)]
    while waiting:
        atom, partners, colours = waiting[-1]
        if atom is None:
            return _bijection(colours)
        if len(partners) == 0:
            waiting.pop()
            continue
        waiting[-1] = (atom, partners[1:], colours)
        tried += 1
        if tried > most:
            return None
        singled = _singled(colours, atom, int(partners[0]))
        refined = _refined(pair._replace(colours=singled))
        if refined is not None:
            waiting.append(_branches(refined))
    return None


def _branches(
    colours: NumpyArray,
) -> tuple[int | None, NumpyArray, NumpyArray]:
    """Return an atom of the smallest colour class of several, and its partners in y.

    The atom is None where every class has one.
    """
    n = len(colours) // 2
    of_x = colours[:n]
    sizes = np.bincount(of_x)
    repeated = np.nonzero(sizes > 1)[0]
    if len(repeated) == 0:
        return None, np.empty(0, dtype=np.int64), colours
    smallest = repeated[sizes[repeated].argmin()]
    atom = int(np.nonzero(of_x == smallest)[0][0])
    partners = np.nonzero(colours[n:] == smallest)[0]
    return atom, partners, colours


def _bijection(colours: NumpyArray) -> NumpyArray:
    """Return the partner in y of each atom of x, where each colour has one of both."""
    n = len(colours) // 2
    by_colour_x = np.argsort(colours[:n])
    by_colour_y = np.argsort(colours[n:])
    partners = np.empty(n, dtype=np.int64)
    partners[by_colour_x] = by_colour_y
    return partners
