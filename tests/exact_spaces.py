"""Spaces read exactly: stored floats as integers times a power of two.

Nothing here knows gwtools: spaces are read by their attributes alone. Entries that are
roots (Euclidean distances) are enclosed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from operator import mul
from typing import Any, NamedTuple

import numpy as np

ROOT_BITS = 170  # of the smallest positive Euclidean distance

Integers = list[list[int]]


class Enclosure(NamedTuple):
    """A number between two fractions, which are the same where it is known exactly."""

    low: Fraction
    high: Fraction


def integers(values: Iterable[float]) -> tuple[list[int], int]:
    """Return integers and one exponent e with values = integers · 2^e, exactly."""
    ratios = [float(value).as_integer_ratio() for value in values]
    # Denominators are powers of two; the largest is 2^(shift - 1).
    shift = max([below.bit_length() for _, below in ratios], default=1)
    numbers = [above << (shift - below.bit_length()) for above, below in ratios]
    return numbers, 1 - shift


def scaled(number: int, exponent: int) -> Fraction:
    """Return number · 2^exponent."""
    if exponent >= 0:
        return Fraction(number << exponent)
    return Fraction(number, 1 << -exponent)


@dataclass(frozen=True)
class Exact:
    """A space over its atoms of positive weight, in integers.

    Its weights are masses / total; C lies within low and high, times 2^exponent.

    Parameters
    ----------
    atoms : list of int
        Places of the atoms in the space that was read.
    masses : list of int
        Their weights, up to a common factor.
    low, high : square lists of integers
        What the entries of C lie between; the same list where they are known exactly.
    exponent : int
        Of both.
    """

    atoms: list[int]
    masses: list[int]
    low: Integers
    high: Integers
    exponent: int

    @property
    def size(self) -> int:
        """Number of atoms of positive weight."""
        return len(self.atoms)

    @property
    def known(self) -> bool:
        """Whether all entries of C are known exactly."""
        return self.low is self.high

    @cached_property
    def total(self) -> int:
        """Sum of the masses."""
        return sum(self.masses)

    @property
    def weights(self) -> list[Fraction]:
        """Exactly normalised weights."""
        return [Fraction(mass, self.total) for mass in self.masses]

    @property
    def matrix(self) -> list[list[Enclosure]]:
        """The entries of C as fractions."""
        rows = []
        for lows, highs in zip(self.low, self.high, strict=True):
            row = []
            for low, high in zip(lows, highs, strict=True):
                least = scaled(low, self.exponent)
                most = scaled(high, self.exponent)
                row.append(Enclosure(least, most))
            rows.append(row)
        return rows

    def row_means(self) -> list[int]:
        """Return row means up to a common factor; of entries rounded down."""
        return [dot(row, self.masses) for row in self.low]

    def eccentricities(self) -> list[int]:
        """Return means of squares in each row, up to a common factor."""
        means = []
        for row in self.low:
            squares = map(mul, row, row)
            means.append(dot(squares, self.masses))
        return means

    def in_units_of(self, exponent: int) -> tuple[Integers, Integers]:
        """Return the ends of C in units of 2^exponent, which is no larger."""
        shift = self.exponent - exponent
        low = shifted(self.low, shift)
        high = low if self.known else shifted(self.high, shift)
        return low, high


def dot(first: Iterable[int], second: Iterable[int]) -> int:
    """Return the sum of products."""
    return sum(map(mul, first, second))


def shifted(matrix: Integers, shift: int) -> Integers:
    """Return a matrix times 2^shift."""
    return [[value << shift for value in row] for row in matrix]


def rows_of(numbers: Sequence[int], width: int) -> Integers:
    """Cut a list into rows."""
    starts = range(0, len(numbers), width)
    return [list(numbers[start : start + width]) for start in starts]


def exact(space: Any) -> Exact:
    """Read a space: the stored values exactly, without its atoms of weight zero.

    Parameters
    ----------
    space : gwtools.Space
        With ``weights`` and ``data``; a matrix, of which the symmetric part counts,
        points or a factor.
    """
    stored = [float(weight) for weight in np.asarray(space.weights)]
    atoms = [i for i, weight in enumerate(stored) if weight > 0]
    masses, _ = integers([stored[i] for i in atoms])
    if len(set(masses)) == 1:
        masses = [1] * len(atoms)
    data = np.asarray(space.data)
    form = type(space).__name__
    if form == "DenseSpace":
        low, exponent = _symmetric_part(data[np.ix_(atoms, atoms)])
        high = low
    elif form == "GramSpace":
        low, exponent = _products(data[:, atoms].T)
        high = low
    else:
        low, exponent = _squared_distances(data[atoms])
        high = low
        if space.metric != "sqeuclidean":
            low, high, exponent = _roots(low, exponent)
    return Exact(atoms, masses, low, high, exponent)


def _symmetric_part(data: Any) -> tuple[Integers, int]:
    """Return half of C + Cᵀ, with its exponent."""
    numbers, exponent = integers(data.ravel().tolist())
    matrix = rows_of(numbers, len(data))
    sums = []
    for row, column in zip(matrix, zip(*matrix, strict=True), strict=True):
        sums.append([p + q for p, q in zip(row, column, strict=True)])
    return sums, exponent - 1


def _products(points: Any) -> tuple[Integers, int]:
    """Return all inner products, with their exponent."""
    numbers, exponent = integers(points.ravel().tolist())
    rows = rows_of(numbers, points.shape[1])
    return [[dot(p, q) for q in rows] for p in rows], 2 * exponent


def _squared_distances(points: Any) -> tuple[Integers, int]:
    """Return all squared distances, with their exponent."""
    numbers, exponent = integers(points.ravel().tolist())
    rows = rows_of(numbers, points.shape[1])
    squares = []
    for p in rows:
        differences = [[s - t for s, t in zip(p, q, strict=True)] for q in rows]
        squares.append([dot(vector, vector) for vector in differences])
    return squares, 2 * exponent


def _roots(squares: Integers, exponent: int) -> tuple[Integers, Integers, int]:
    """Enclose the roots of squares · 2^exponent, which is even."""
    positive = [value for row in squares for value in row if value]
    least = min(positive, default=1)
    digits = max(0, ROOT_BITS - least.bit_length() // 2)
    low, high = [], []
    for row in shifted(squares, 2 * digits):
        roots = [math.isqrt(value) for value in row]
        low.append(roots)
        # A root that is not an integer lies below the next one.
        ends = zip(roots, row, strict=True)
        high.append([root + (root * root != value) for root, value in ends])
    if low == high:
        high = low
    return low, high, exponent // 2 - digits
