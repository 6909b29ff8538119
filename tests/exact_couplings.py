"""Couplings of two spaces read exactly, and their objectives in rational arithmetic.

Where entries of C or D are enclosed, so are the objectives.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np

from tests.exact_spaces import (
    Enclosure,
    Exact,
    Integers,
    dot,
    integers,
    rows_of,
    scaled,
)

CORNERS = 5  # couplings that sort spaces of so many atoms are tried in all orders


class Coupling(NamedTuple):
    """A coupling of exactly normalised weights.

    ``masses`` has an entry for every pair (i, j) of atoms of positive weight, row by
    row: the coupling's, times ``total``.
    """

    masses: list[int]
    total: int


@dataclass(frozen=True)
class Pair:
    """Two spaces read exactly."""

    x: Exact
    y: Exact

    @cached_property
    def exponent(self) -> int:
        """Of the common unit of C and D."""
        return min(self.x.exponent, self.y.exponent)

    @cached_property
    def known(self) -> bool:
        """Whether all entries are known exactly."""
        return self.x.known and self.y.known

    @cached_property
    def squares(self) -> tuple[Integers, Integers]:
        """(C_ik − D_jl)² rounded down and up, over pairs (i, j) and (k, l).

        They are in units of 4^exponent.
        """
        low_x, high_x = self.x.in_units_of(self.exponent)
        low_y, high_y = self.y.in_units_of(self.exponent)
        if self.known:
            table = []
            for c in low_x:
                for d in low_y:
                    table.append([(s - t) ** 2 for s in c for t in d])
            return table, table
        down, up = [], []
        for low_c, high_c in zip(low_x, high_x, strict=True):
            for low_d, high_d in zip(low_y, high_y, strict=True):
                # C − D lies between least and most.
                least = [s - t for s in low_c for t in high_d]
                most = [s - t for s in high_c for t in low_d]
                row_down, row_up = [], []
                for first, last in zip(least, most, strict=True):
                    low, high = _squared(first, last)
                    row_down.append(low)
                    row_up.append(high)
                down.append(row_down)
                up.append(row_up)
        return down, up

    def largest(self) -> Fraction:
        """Return Ω², the largest (C_ik − D_jl)², rounded up."""
        return scaled(max(map(max, self.squares[1])), 2 * self.exponent)

    def size(self) -> Fraction:
        """Return the largest C_ik² or D_jl², rounded up."""
        largest = 0
        for space in (self.x, self.y):
            for matrix in space.in_units_of(self.exponent):
                for row in matrix:
                    largest = max(largest, max(row), -min(row))
        return scaled(largest**2, 2 * self.exponent)

    def objective(self, coupling: Coupling) -> Enclosure:
        """Return F of a coupling."""
        down, up = self.squares
        low = self._sum(down, coupling)
        high = low if self.known else self._sum(up, coupling)
        return Enclosure(low, high)

    def _sum(self, table: Integers, coupling: Coupling) -> Fraction:
        """Return the quadratic form of a table of squares."""
        places = [place for place, mass in enumerate(coupling.masses) if mass]
        masses = [coupling.masses[place] for place in places]
        total = 0
        for place, mass in zip(places, masses, strict=True):
            row = table[place]
            total += mass * dot(masses, [row[other] for other in places])
        return scaled(total, 2 * self.exponent) / coupling.total**2

    # Couplings

    def product(self) -> Coupling:
        """Return the product coupling."""
        masses = [p * q for p in self.x.masses for q in self.y.masses]
        return Coupling(masses, self.x.total * self.y.total)

    def sorting(self, first: Sequence[int], second: Sequence[int]) -> Coupling:
        """Return the north-west corner coupling of atoms sorted by two lists."""
        n, m = self.x.size, self.y.size
        left = sorted(range(n), key=first.__getitem__)
        right = sorted(range(m), key=second.__getitem__)
        # What is left of the weights, over their common denominator.
        rest_x = [mass * self.y.total for mass in self.x.masses]
        rest_y = [mass * self.x.total for mass in self.y.masses]
        masses = [0] * (n * m)
        r = 0
        s = 0
        while r < n and s < m:
            i = left[r]
            j = right[s]
            moved = min(rest_x[i], rest_y[j])
            masses[i * m + j] += moved
            rest_x[i] -= moved
            rest_y[j] -= moved
            r += rest_x[i] == 0
            s += rest_y[j] == 0
        return Coupling(masses, self.x.total * self.y.total)

    def corners(self) -> Iterator[Coupling]:
        """Yield the sorting couplings of all orders of the atoms, where few."""
        if max(self.x.size, self.y.size) <= CORNERS:
            for left in permutations(range(self.x.size)):
                for right in permutations(range(self.y.size)):
                    yield self.sorting(left, right)

    def along(self, order: Sequence[int]) -> Coupling | None:
        """Return the coupling of atoms i and order[i], where their weights agree."""
        masses = [0] * (self.x.size * self.y.size)
        for i, j in enumerate(order):
            if self.x.masses[i] * self.y.total != self.y.masses[j] * self.x.total:
                return None
            masses[i * self.y.size + j] = self.x.masses[i]
        return Coupling(masses, self.x.total)

    def bijection(self, plan: Any) -> Coupling | None:
        """Return the coupling along a plan that pairs off atoms of equal weights."""
        if self.x.size != self.y.size:
            return None
        matrix, _ = masses_of(self, plan)
        order = []
        for row in matrix:
            places = [j for j, mass in enumerate(row) if mass]
            if len(places) != 1:
                return None
            order += places
        if len(set(order)) < self.y.size:
            return None
        return self.along(order)

    def nearest(self, plan: Any) -> Coupling:
        """Round a plan to a coupling (theorem 13 g).

        Parameters
        ----------
        plan : gwtools.Plan or array of shape (n, m)
            Non-negative masses, which may miss the marginals.
        """
        matrix, exponent = masses_of(self, plan)
        # Entries, rows' and columns' masses over one denominator `total`.
        common = self.x.total * self.y.total
        more = 1 << max(-exponent, 0)
        total = common * more
        rows = [mass * self.y.total * more for mass in self.x.masses]
        cols = [mass * self.x.total * more for mass in self.y.masses]
        entry = common << max(exponent, 0)
        matrix = [_times(row, entry) for row in matrix]
        # 1. Rows are cut to their weights.
        matrix, factor = _cut(matrix, rows)
        total *= factor
        rows = _times(rows, factor)
        cols = _times(cols, factor)
        # 2. Then columns.
        turned, factor = _cut(_transposed(matrix), cols)
        matrix = _transposed(turned)
        total *= factor
        rows = _times(rows, factor)
        cols = _times(cols, factor)
        # 3. The product of the deficits is added.
        missing_x = _missing(rows, matrix)
        missing_y = _missing(cols, turned)
        deficit = sum(missing_x)
        masses = [mass for row in matrix for mass in row]
        if deficit:
            added = [p * q for p in missing_x for q in missing_y]
            pairs = zip(masses, added, strict=True)
            masses = [mass * deficit + extra for mass, extra in pairs]
            total *= deficit
        divisor = math.gcd(total, *masses)
        return Coupling([mass // divisor for mass in masses], total // divisor)


def _squared(least: int, most: int) -> tuple[int, int]:
    """Return the least and the largest square of a number between two others."""
    first = least * least
    second = most * most
    low = 0 if least <= 0 <= most else min(first, second)
    return low, max(first, second)


# Plans


def masses_of(pair: Pair, plan: Any) -> tuple[Integers, int]:
    """Return a plan's masses between atoms of positive weight.

    They are integers times a power of two, of which the exponent is returned.
    """
    x, y = pair.x, pair.y
    if hasattr(plan, "rows"):
        return _masses_of_sparse(pair, plan)
    values = np.asarray(plan.matrix if hasattr(plan, "matrix") else plan)
    kept = values[np.ix_(x.atoms, y.atoms)]
    numbers, exponent = integers(kept.ravel().tolist())
    return rows_of(numbers, y.size), exponent


def _masses_of_sparse(pair: Pair, plan: Any) -> tuple[Integers, int]:
    rows = np.asarray(plan.rows).tolist()
    cols = np.asarray(plan.cols).tolist()
    numbers, exponent = integers(np.asarray(plan.mass).tolist())
    place_x = {atom: place for place, atom in enumerate(pair.x.atoms)}
    place_y = {atom: place for place, atom in enumerate(pair.y.atoms)}
    matrix = [[0] * pair.y.size for _ in pair.x.atoms]
    for i, j, number in zip(rows, cols, numbers, strict=True):
        if i in place_x and j in place_y:
            matrix[place_x[i]][place_y[j]] += number
    return matrix, exponent


def _cut(matrix: Integers, wanted: Sequence[int]) -> tuple[Integers, int]:
    """Scale rows by min(1, wanted / found).

    They are returned over a denominator that is larger by a factor, with the factor.
    """
    ratios = []
    for want, row in zip(wanted, matrix, strict=True):
        have = sum(row)
        ratios.append(Fraction(want, have) if have > want else Fraction(1))
    factor = math.lcm(*[ratio.denominator for ratio in ratios])
    cut = []
    for ratio, row in zip(ratios, matrix, strict=True):
        scale = ratio.numerator * (factor // ratio.denominator)
        cut.append(_times(row, scale))
    return cut, factor


def _missing(wanted: Sequence[int], matrix: Integers) -> list[int]:
    """Return what rows miss of their weights."""
    return [want - sum(row) for want, row in zip(wanted, matrix, strict=True)]


def _times(numbers: Iterable[int], factor: int) -> list[int]:
    return [number * factor for number in numbers]


def _transposed(matrix: Integers) -> Integers:
    return [list(column) for column in zip(*matrix, strict=True)]
