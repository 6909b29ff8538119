"""Couplings of small objective, searched in rational arithmetic.

The objective of each coupling bounds GW_2² from above.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import permutations
from typing import Any, NamedTuple

from tests.exact_couplings import Coupling, Pair
from tests.exact_spaces import Enclosure, Integers, dot

PERMUTED = 4  # spaces of so many atoms are tried in all orders
DIGITS = 20  # binary ones of a step: few are enough, and keep the numbers short


def best(pair: Pair, plans: Iterable[Any] = (), rounds: int = 0) -> Enclosure:
    """Return the least objective that is found, by its upper end.

    Parameters
    ----------
    pair : Pair
        The two spaces.
    plans : iterable of plans
        Their nearest couplings and, where they pair off the atoms, the couplings along
        them are tried as well.
    rounds : int
        Exact steps of descent from the product coupling, from that which sorts row
        means and from the plans.
    """
    plans = list(plans)
    found = [pair.objective(coupling) for coupling in _candidates(pair, plans)]
    if rounds:
        found += _descended(pair, plans, rounds)
    return min(found, key=lambda value: value.high)


def _candidates(pair: Pair, plans: Iterable[Any]) -> list[Coupling]:
    """Return couplings that may have a small objective."""
    x, y = pair.x, pair.y
    means_x = x.row_means()
    means_y = y.row_means()
    couplings = [
        pair.product(),
        pair.sorting(means_x, means_y),
        pair.sorting(means_x, [-mean for mean in means_y]),
        pair.sorting(x.eccentricities(), y.eccentricities()),
    ]
    for plan in plans:
        couplings.append(pair.nearest(plan))
        along = pair.bijection(plan)
        if along is not None:
            couplings.append(along)
    uniform = len(set(x.masses)) == len(set(y.masses)) == 1
    if uniform and x.size == y.size <= PERMUTED:
        couplings.append(_best_permutation(pair))
    return couplings


def _best_permutation(pair: Pair) -> Coupling:
    """Return the permutation of least objective, by its upper end; equal weights."""
    n = pair.x.size
    _, table = pair.squares

    def value(order: Sequence[int]) -> int:
        places = [i * n + j for i, j in enumerate(order)]
        return sum([table[place][other] for place in places for other in places])

    coupling = pair.along(min(permutations(range(n)), key=value))
    assert coupling is not None
    return coupling


# Descent


def _descended(pair: Pair, plans: Iterable[Any], rounds: int) -> list[Enclosure]:
    """Return objectives after a few exchanges, each of which lowers it the most."""
    starts = [pair.product(), pair.sorting(pair.x.row_means(), pair.y.row_means())]
    starts += [pair.nearest(plan) for plan in plans]
    found = []
    for coupling in starts:
        for _ in range(rounds):
            better = _exchanged(pair, coupling)
            if better is None:
                break
            coupling = better
        found.append(pair.objective(coupling))
    return found


class Exchange(NamedTuple):
    """Mass moved between two rows and two columns: δ is 1 at `up`, −1 at `down`."""

    up: tuple[int, int]  # places in the list of masses
    down: tuple[int, int]
    share: Fraction  # how much mass, times the coupling's total
    change: Fraction  # of the objective, up to a positive factor


def _exchanged(pair: Pair, coupling: Coupling) -> Coupling | None:
    """Return the coupling after the best exchange of mass, or None."""
    _, table = pair.squares
    slopes = [dot(row, coupling.masses) for row in table]
    found = None
    for up, down in _rectangles(pair.x.size, pair.y.size):
        exchange = _exchange(table, slopes, coupling, up, down)
        if exchange is None or exchange.change >= 0:
            continue
        if found is None or exchange.change < found.change:
            found = exchange
    if found is None:
        return None
    denominator = found.share.denominator
    masses = [mass * denominator for mass in coupling.masses]
    for place in found.up:
        masses[place] += found.share.numerator
    for place in found.down:
        masses[place] -= found.share.numerator
    return Coupling(masses, coupling.total * denominator)


def _rectangles(n: int, m: int) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield the corners of all rectangles of an n × m matrix.

    First the two where mass goes, then those that it comes from; each rectangle comes
    both ways round.
    """
    for i in range(n):
        for k in range(n):
            if i == k:
                continue
            for j in range(m):
                for h in range(j):
                    yield (i * m + h, k * m + j), (i * m + j, k * m + h)


def _exchange(
    table: Integers,
    slopes: list[int],
    coupling: Coupling,
    up: tuple[int, int],
    down: tuple[int, int],
) -> Exchange | None:
    """Return the exchange at four corners that lowers the objective most, if any does.

    Along π + t δ the objective is F(π) + 2 t ⟨π, δ⟩ + t² ⟨δ, δ⟩ in the bilinear
    form of the squares.
    """
    first, second = up
    third, fourth = down
    slope = slopes[first] + slopes[second] - slopes[third] - slopes[fourth]
    most = min(coupling.masses[third], coupling.masses[fourth])
    if slope >= 0 or not most:
        return None
    curvature = (
        _form(table, up, up) + _form(table, down, down) - 2 * _form(table, up, down)
    )
    share = Fraction(most)
    if curvature > 0:
        share = min(share, Fraction(-slope, curvature))
    parts = math.floor(share * 2**DIGITS / most)
    share = Fraction(parts * most, 2**DIGITS)
    change = 2 * share * slope + share * share * curvature
    return Exchange(up, down, share, change)


def _form(table: Integers, first: tuple[int, int], second: tuple[int, int]) -> int:
    """Return the bilinear form at two pairs of places."""
    return sum([table[p][q] for p in first for q in second])
