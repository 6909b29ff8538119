"""Certificates held against rational arithmetic, without any tolerance.

Nothing here knows gwtools: spaces, plans and certificates are read by their attributes
alone. Stored floats are integers times a power of two, so that all sums are of
integers; numbers become fractions only where they are compared. Entries that are roots
(Euclidean distances) are enclosed, and so are the objectives made of them; a statement
counts as violated only where every number within the enclosures violates it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import permutations
from operator import mul
from typing import Any, NamedTuple

import numpy as np

ROOT_BITS = 170  # of the smallest positive Euclidean distance
PERMUTED = 4  # spaces of so many atoms are tried in all orders
CORNERS = 5  # couplings that sort spaces of so many atoms are tried in all orders
WIDTH = Fraction(
    1, 10**8
)  # what rounding may account for, in units of the squared largest difference
SHARE = Fraction(
    1, 10**10
)  # and of that difference times the largest value, where values are computed
LEAST = Fraction(1, 10**320)  # and in the last numbers before zero

Integers = list[list[int]]


class Enclosure(NamedTuple):
    """A number between two fractions, which are the same where it is known exactly."""

    low: Fraction
    high: Fraction


def integers(values: Iterable[float]) -> tuple[list[int], int]:
    """Return integers and one exponent e with values = integers · 2^e, exactly."""
    pairs = [float(value).as_integer_ratio() for value in values]
    shift = max((below.bit_length() for _, below in pairs), default=1)
    return [above << (shift - below.bit_length()) for above, below in pairs], 1 - shift


def _scaled(number: int, exponent: int) -> Fraction:
    return (
        Fraction(number << exponent)
        if exponent >= 0
        else Fraction(number, 1 << -exponent)
    )


@dataclass(frozen=True)
class Exact:
    """A space over its atoms of positive weight: weights masses / total, and C within low and high, times 2^exponent.

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
        return [
            [
                Enclosure(_scaled(low, self.exponent), _scaled(high, self.exponent))
                for low, high in zip(*rows, strict=True)
            ]
            for rows in zip(self.low, self.high, strict=True)
        ]

    def row_means(self) -> list[int]:
        """Return row means up to a common factor; of entries rounded down where they are enclosed."""
        return [sum(map(mul, row, self.masses)) for row in self.low]

    def eccentricities(self) -> list[int]:
        """Return means of squares in each row, up to a common factor."""
        return [
            sum(
                mass * entry * entry
                for mass, entry in zip(self.masses, row, strict=True)
            )
            for row in self.low
        ]


def exact(space: Any) -> Exact:
    """Read a space: the stored values exactly, without its atoms of weight zero.

    Parameters
    ----------
    space : gwtools.Space
        With ``weights`` and ``data``; a matrix, of which the symmetric part counts,
        points or a factor.
    """
    masses = [float(weight) for weight in np.asarray(space.weights)]
    atoms = [i for i, mass in enumerate(masses) if mass > 0]
    weights = integers(masses[i] for i in atoms)[0]
    if len(set(weights)) == 1:
        weights = [1] * len(atoms)
    data = np.asarray(space.data)
    name = type(space).__name__
    if name == "DenseSpace":
        numbers, exponent = integers(float(data[i, k]) for i in atoms for k in atoms)
        matrix = _square(numbers, len(atoms))
        # The symmetric part: half of C + Cᵀ.
        matrix = [
            [matrix[i][k] + matrix[k][i] for k in range(len(atoms))]
            for i in range(len(atoms))
        ]
        return Exact(atoms, weights, matrix, matrix, exponent - 1)
    rows = data[:, atoms].T if name == "GramSpace" else data[atoms]
    numbers, exponent = integers(rows.ravel().tolist())
    d = rows.shape[1]
    points = [numbers[i * d : (i + 1) * d] for i in range(len(atoms))]
    if name == "GramSpace":
        matrix = [[sum(map(mul, p, q)) for q in points] for p in points]
        return Exact(atoms, weights, matrix, matrix, 2 * exponent)
    squares = [
        [sum((s - t) ** 2 for s, t in zip(p, q, strict=True)) for q in points]
        for p in points
    ]
    if space.metric == "sqeuclidean":
        return Exact(atoms, weights, squares, squares, 2 * exponent)
    low, high, exponent = _roots(squares, exponent)
    return Exact(atoms, weights, low, high, exponent)


def _square(numbers: Sequence[int], size: int) -> Integers:
    return [list(numbers[i * size : (i + 1) * size]) for i in range(size)]


def _roots(squares: Integers, exponent: int) -> tuple[Integers, Integers, int]:
    """Enclose the roots of squares · 2^(2 exponent)."""
    least = min((value for row in squares for value in row if value), default=1)
    digits = max(0, ROOT_BITS - least.bit_length() // 2)
    low = [[math.isqrt(value << 2 * digits) for value in row] for row in squares]
    high = [
        [
            root + (root * root != value << 2 * digits)
            for root, value in zip(*rows, strict=True)
        ]
        for rows in zip(low, squares, strict=True)
    ]
    return low, (low if low == high else high), exponent - digits


class Coupling(NamedTuple):
    """A coupling of exactly normalised weights: integer masses over atoms (i, j), times 1 / total.

    ``masses`` has an entry for every pair of atoms of positive weight, row by row.
    """

    masses: list[int]
    total: int


@dataclass(frozen=True)
class Pair:
    """Two spaces read exactly, and the squared differences (C_ik − D_jl)² of all pairs of pairs of atoms."""

    x: Exact
    y: Exact

    @cached_property
    def _aligned(self) -> tuple[Integers, Integers, Integers, Integers, int]:
        exponent = min(self.x.exponent, self.y.exponent)
        shifted = []
        for space in (self.x, self.y):
            shift = space.exponent - exponent
            low = [[value << shift for value in row] for row in space.low]
            high = (
                low
                if space.low is space.high
                else [[value << shift for value in row] for row in space.high]
            )
            shifted += [low, high]
        return shifted[0], shifted[1], shifted[2], shifted[3], exponent

    @cached_property
    def known(self) -> bool:
        """Whether all entries are known exactly."""
        return self.x.low is self.x.high and self.y.low is self.y.high

    @cached_property
    def squares(self) -> tuple[Integers, Integers]:
        """(C_ik − D_jl)² rounded down and up, over pairs (i, j) and (k, l), in units of 4^exponent."""
        low_x, high_x, low_y, high_y, _ = self._aligned
        n, m = range(self.x.size), range(self.y.size)
        if self.known:
            table = [
                [(low_x[i][k] - low_y[j][h]) ** 2 for k in n for h in m]
                for i in n
                for j in m
            ]
            return table, table
        down, up = [], []
        for i in n:
            for j in m:
                # C − D lies between these two.
                ends = [
                    (low_x[i][k] - high_y[j][h], high_x[i][k] - low_y[j][h])
                    for k in n
                    for h in m
                ]
                down.append(
                    [
                        0 if least <= 0 <= most else min(least * least, most * most)
                        for least, most in ends
                    ]
                )
                up.append([max(least * least, most * most) for least, most in ends])
        return down, up

    def largest(self) -> Fraction:
        """Return Ω², the largest (C_ik − D_jl)² over atoms of positive weight, rounded up."""
        return _scaled(max(map(max, self.squares[1])), 2 * self._aligned[4])

    def size(self) -> Fraction:
        """Return the largest C_ik² or D_jl², rounded up."""
        values = (
            abs(value) for part in self._aligned[:4] for row in part for value in row
        )
        return _scaled(max(values) ** 2, 2 * self._aligned[4])

    def objective(self, coupling: Coupling) -> Enclosure:
        """Return F of a coupling."""
        low = self._sum(self.squares[0], coupling)
        return Enclosure(
            low, low if self.known else self._sum(self.squares[1], coupling)
        )

    def _sum(self, table: Integers, coupling: Coupling) -> Fraction:
        places = [place for place, mass in enumerate(coupling.masses) if mass]
        masses = [coupling.masses[place] for place in places]
        total = 0
        for place, mass in zip(places, masses, strict=True):
            row = table[place]
            total += mass * sum(map(mul, masses, [row[other] for other in places]))
        exponent = 2 * self._aligned[4]
        above, below = (
            (total << exponent, 1) if exponent >= 0 else (total, 1 << -exponent)
        )
        return Fraction(above, below * coupling.total**2)

    def product(self) -> Coupling:
        """Return the product coupling."""
        x, y = self.x, self.y
        return Coupling(
            [first * second for first in x.masses for second in y.masses],
            x.total * y.total,
        )

    def sorting(self, first: Sequence[int], second: Sequence[int]) -> Coupling:
        """Return the north-west corner coupling of the atoms sorted by two lists of numbers."""
        x, y = self.x, self.y
        left, right = (
            sorted(range(len(keys)), key=keys.__getitem__) for keys in (first, second)
        )
        # Over the common denominator of the weights.
        rest_x, rest_y = (
            [mass * y.total for mass in x.masses],
            [mass * x.total for mass in y.masses],
        )
        masses, r, s = [0] * (x.size * y.size), 0, 0
        while r < x.size and s < y.size:
            i, j = left[r], right[s]
            moved = min(rest_x[i], rest_y[j])
            masses[i * y.size + j] += moved
            rest_x[i] -= moved
            rest_y[j] -= moved
            r, s = r + (rest_x[i] == 0), s + (rest_y[j] == 0)
        return Coupling(masses, x.total * y.total)

    def corners(self) -> Iterator[Coupling]:
        """Yield the sorting couplings of all orders of the atoms of both spaces, where they are few."""
        if max(self.x.size, self.y.size) <= CORNERS:
            for left in permutations(range(self.x.size)):
                for right in permutations(range(self.y.size)):
                    yield self.sorting(left, right)

    def along(self, order: Sequence[int]) -> Coupling | None:
        """Return the coupling of atom i of x with atom order[i] of y, where their weights agree exactly."""
        x, y = self.x, self.y
        if any(
            x.masses[i] * y.total != y.masses[j] * x.total for i, j in enumerate(order)
        ):
            return None
        masses = [0] * (x.size * y.size)
        for i, j in enumerate(order):
            masses[i * y.size + j] = x.masses[i]
        return Coupling(masses, x.total)

    def bijection(self, plan: Any) -> Coupling | None:
        """Return the coupling along a plan that pairs off the atoms, where the stored weights agree along it."""
        if self.x.size != self.y.size:
            return None
        matrix = self._read(plan)[0]
        order = [[j for j, mass in enumerate(row) if mass] for row in matrix]
        if (
            any(len(places) != 1 for places in order)
            or len({places[0] for places in order}) < self.y.size
        ):
            return None
        return self.along([places[0] for places in order])

    def _read(self, plan: Any) -> tuple[Integers, int]:
        """Return the masses of a plan between atoms of positive weight, integers times a power of two."""
        x, y = self.x, self.y
        if hasattr(plan, "rows"):
            rows, cols, mass = (
                np.asarray(values).tolist()
                for values in (plan.rows, plan.cols, plan.mass)
            )
            numbers, exponent = integers(mass)
            place_x, place_y = (
                {atom: k for k, atom in enumerate(space.atoms)} for space in (x, y)
            )
            matrix = [[0] * y.size for _ in x.atoms]
            for i, j, number in zip(rows, cols, numbers, strict=True):
                if i in place_x and j in place_y:
                    matrix[place_x[i]][place_y[j]] += number
            return matrix, exponent
        values = np.asarray(plan.matrix if hasattr(plan, "matrix") else plan)
        numbers, exponent = integers(
            float(values[i, j]) for i in x.atoms for j in y.atoms
        )
        return [numbers[k * y.size : (k + 1) * y.size] for k in range(x.size)], exponent

    def nearest(self, plan: Any) -> Coupling:
        """Round a plan to a coupling (theorem 13 g): rows cut, then columns, then the deficits' product added.

        Parameters
        ----------
        plan : gwtools.Plan or array of shape (n, m)
            Non-negative masses, which may miss the marginals.
        """
        x, y = self.x, self.y
        matrix, exponent = self._read(plan)
        # Entries, rows' and columns' masses over one denominator `total`.
        total = x.total * y.total << max(-exponent, 0)
        entry = x.total * y.total << max(exponent, 0)
        matrix = [[mass * entry for mass in row] for row in matrix]
        rows = [mass * y.total << max(-exponent, 0) for mass in x.masses]
        cols = [mass * x.total << max(-exponent, 0) for mass in y.masses]
        found = [sum(row) for row in matrix]
        matrix, factor = _cut(matrix, found, rows)
        total, rows, cols = (
            total * factor,
            [v * factor for v in rows],
            [v * factor for v in cols],
        )
        found = [sum(col) for col in zip(*matrix, strict=True)]
        turned, factor = _cut(
            [list(col) for col in zip(*matrix, strict=True)], found, cols
        )
        total, rows, cols = (
            total * factor,
            [v * factor for v in rows],
            [v * factor for v in cols],
        )
        missing_y = [
            wanted - sum(col) for wanted, col in zip(cols, turned, strict=True)
        ]
        matrix = [list(row) for row in zip(*turned, strict=True)]
        missing_x = [
            wanted - sum(row) for wanted, row in zip(rows, matrix, strict=True)
        ]
        deficit = sum(missing_x)
        masses = [mass for row in matrix for mass in row]
        if deficit:
            added = [first * second for first in missing_x for second in missing_y]
            masses = [
                mass * deficit + more for mass, more in zip(masses, added, strict=True)
            ]
            total *= deficit
        common = math.gcd(total, *masses)
        return Coupling([mass // common for mass in masses], total // common)

    def candidates(self, plans: Iterable[Any] = ()) -> list[Enclosure]:
        """Return objectives of couplings, each of which bounds GW_2² from above.

        Parameters
        ----------
        plans : iterable of plans
            Their nearest couplings and, where they pair off the atoms, the couplings
            along them are tried as well.
        """
        x, y = self.x, self.y
        means_x, means_y = x.row_means(), y.row_means()
        couplings = [
            self.product(),
            self.sorting(means_x, means_y),
            self.sorting(means_x, [-value for value in means_y]),
            self.sorting(x.eccentricities(), y.eccentricities()),
        ]
        for plan in plans:
            couplings += [
                coupling
                for coupling in (self.nearest(plan), self.bijection(plan))
                if coupling is not None
            ]
        found = [self.objective(coupling) for coupling in couplings]
        if x.size == y.size <= PERMUTED and len({*x.masses}) == len({*y.masses}) == 1:
            found.append(self._best_permutation())
        return found

    def _best_permutation(self) -> Enclosure:
        """Return the least objective of a permutation, by its upper end; equal weights."""
        n, table = self.x.size, self.squares[1]
        least, best = None, None
        for order in permutations(range(n)):
            places = [i * n + j for i, j in enumerate(order)]
            value = sum(table[place][other] for place in places for other in places)
            if least is None or value < least:
                least, best = value, order
        coupling = self.along(best)
        assert coupling is not None
        return self.objective(coupling)

    def best(self, plans: Iterable[Any] = (), rounds: int = 0) -> Enclosure:
        """Return the least candidate, by its upper end.

        Parameters
        ----------
        plans : iterable of plans
            Further couplings to try, as in :meth:`candidates`.
        rounds : int
            Exact steps of descent from the product coupling, from that which sorts row
            means and from the plans.
        """
        found = self.candidates(plans)
        if rounds:
            found += self._descended(plans, rounds)
        return min(found, key=lambda value: value.high)

    def _descended(self, plans: Iterable[Any], rounds: int) -> list[Enclosure]:
        """Exchange mass between two rows and two columns, as much as lowers the objective most, a few times."""
        starts = [self.product(), self.sorting(self.x.row_means(), self.y.row_means())]
        starts += [self.nearest(plan) for plan in plans]
        found = []
        for coupling in starts:
            for _ in range(rounds):
                better = self._exchanged(coupling)
                if better is None:
                    break
                coupling = better
            found.append(self.objective(coupling))
        return found

    def _exchanged(self, coupling: Coupling) -> Coupling | None:
        """Return the coupling after the best exchange of mass between two rows and columns, or None.

        Along π + t δ the objective is F(π) + 2 t ⟨π, δ⟩ + t² ⟨δ, δ⟩ in the bilinear
        form of the squares.
        """
        n, m, table = self.x.size, self.y.size, self.squares[1]
        slopes = [sum(map(mul, row, coupling.masses)) for row in table]
        gain, step = Fraction(0), None
        for i in range(n):
            for k in range(n):
                for j in range(m):
                    for h in range(j):
                        if i == k:
                            continue
                        down, up = (i * m + j, k * m + h), (i * m + h, k * m + j)
                        slope = sum(slopes[p] for p in up) - sum(
                            slopes[p] for p in down
                        )
                        most = min(coupling.masses[p] for p in down)
                        if slope >= 0 or not most:
                            continue
                        curvature = sum(table[p][q] for p in up for q in up) + sum(
                            table[p][q] for p in down for q in down
                        )
                        curvature -= 2 * sum(table[p][q] for p in up for q in down)
                        share = (
                            min(Fraction(most), Fraction(-slope, curvature))
                            if curvature > 0
                            else Fraction(most)
                        )
                        # Few digits are enough, and keep the numbers short.
                        share = Fraction(math.floor(share * 2**20 / most) * most, 2**20)
                        change = 2 * share * slope + share * share * curvature
                        if change < gain:
                            gain, step = change, (share, up, down)
        if step is None:
            return None
        share, up, down = step
        masses = [mass * share.denominator for mass in coupling.masses]
        for place in up:
            masses[place] += share.numerator
        for place in down:
            masses[place] -= share.numerator
        return Coupling(masses, coupling.total * share.denominator)


def _cut(
    matrix: Integers, found: Sequence[int], wanted: Sequence[int]
) -> tuple[Integers, int]:
    """Scale rows by min(1, wanted / found); return them over a denominator that is larger by a factor."""
    ratios = [
        Fraction(want, have) if have > want else Fraction(1)
        for have, want in zip(found, wanted, strict=True)
    ]
    factor = math.lcm(*(ratio.denominator for ratio in ratios))
    scales = [ratio.numerator * (factor // ratio.denominator) for ratio in ratios]
    return [
        [mass * scale for mass in row]
        for scale, row in zip(scales, matrix, strict=True)
    ], factor


def violations(
    certificate: Any,
    x: Any,
    y: Any,
    plan: Any = None,
    objective: Any = None,
    *,
    allowed: float = 0.0,
    hints: Sequence[Any] = (),
    rounds: int = 0,
) -> list[str]:
    """Return what a certificate says that is false in exact arithmetic: sentences that begin with the sort and a colon.

    Parameters
    ----------
    certificate : gwtools.Certificate
        With ``lower``, ``upper``, ``kind``, ``bounds``, ``a_priori``, ``tolerance`` and
        ``rounding``.
    x, y : gwtools.Space
        The spaces it speaks of.
    plan : Plan or array, optional
        The plan that was certified.
    objective : number, optional
        What a solver says of its plan; it has to lie between ``lower`` and ``upper``.
    allowed : float
        A tolerance that was asked for, in squared units of C.
    hints : sequence of plans
        Couplings that may have a small objective, as the permutation that made a copy.
    rounds : int
        Exact steps of descent towards a smaller objective.
    """
    broken = _malformed(certificate, objective)
    if broken:
        return broken
    pair = Pair(exact(x), exact(y))
    lower, upper = Fraction(certificate.lower), Fraction(certificate.upper)
    best = pair.best([*hints, *([] if plan is None else [plan])], rounds)
    for name, bound in certificate.bounds.items():
        if Fraction(bound) > best.high:
            broken.append(
                f"bound: {name} {bound!r} is above a coupling's objective, by {_excess(bound, best.high)}"
            )
    if plan is None:
        least = best.low
        if least > upper:  # a sort breaks ties in some way
            least = min(
                (pair.objective(coupling).low for coupling in pair.corners()),
                default=least,
            )
    else:
        along = pair.bijection(plan)
        couplings = [pair.nearest(plan), *([] if along is None else [along])]
        least = min(pair.objective(coupling).low for coupling in couplings)
    if least > upper:
        broken.append(
            f"upper: {certificate.upper!r} is below its coupling's objective, by {_excess(least, upper)}"
        )
    if certificate.a_priori is not None and "norm" in certificate.bounds:
        reach = Fraction(certificate.bounds["norm"]) + Fraction(certificate.a_priori)
        if best.low > reach:
            broken.append(
                f"a_priori: {certificate.a_priori!r} is too small, by {_excess(best.low, reach)}"
            )
    if lower > upper:
        broken.append(
            f"crossed: lower {certificate.lower!r} is above upper {certificate.upper!r}"
        )
    if objective is not None:
        value = Fraction(float(objective))
        if value < lower:
            broken.append(
                f"objective below: {float(objective)!r}, lower {certificate.lower!r}"
            )
        if value > upper:
            broken.append(
                f"objective above: {float(objective)!r}, upper {certificate.upper!r}"
            )
    return broken + _misjudged(certificate, pair, best, allowed)


def _malformed(certificate: Any, objective: Any) -> list[str]:
    """Return what is wrong with the numbers of a certificate by themselves; nothing else is examined then."""
    numbers = {
        "lower": certificate.lower,
        "upper": certificate.upper,
        **certificate.bounds,
    }
    numbers |= {
        name: float(value)
        for name, value in (
            ("a_priori", certificate.a_priori),
            ("tolerance", certificate.tolerance),
            ("rounding", certificate.rounding),
            ("objective", objective),
        )
        if value is not None
    }
    broken = [
        f"not finite: {name} is {value!r}"
        for name, value in numbers.items()
        if not math.isfinite(value)
    ]
    if not broken and certificate.lower != max(certificate.bounds.values()):
        broken.append(
            f"lower: {certificate.lower!r} is not the largest bound {max(certificate.bounds.values())!r}"
        )
    if not broken and certificate.lower < 0:
        broken.append(f"negative: lower is {certificate.lower!r}")
    return broken


def _misjudged(
    certificate: Any, pair: Pair, best: Enclosure, allowed: float
) -> list[str]:
    """Return what is false about the kind."""
    closed = certificate.kind.value == "global"
    lower, upper, tolerance = (
        Fraction(v)
        for v in (certificate.lower, certificate.upper, certificate.tolerance)
    )
    limit = (
        WIDTH * pair.largest()
        + SHARE * _root(pair.largest() * pair.size())
        + SHARE**2 * pair.size()
        + LEAST
    )
    broken = []
    if closed != (upper - lower <= tolerance):
        broken.append(
            f"misjudged: {certificate.kind.value}, width {float(upper - lower)!r}, tolerance {float(tolerance)!r}"
        )
    if certificate.rounding > limit:
        broken.append(f"rounding: {certificate.rounding!r}, allowed {_short(limit)}")
    if not certificate.rounding <= tolerance <= max(certificate.rounding, allowed):
        broken.append(
            f"tolerance: {float(tolerance)!r}, allowed {max(certificate.rounding, allowed)!r}"
        )
    if closed and best.low - lower > tolerance:
        broken.append(
            f"open: a closed interval is {_short(best.low - lower)} wide up to the best coupling"
        )
    return broken


def _root(value: Fraction) -> Fraction:
    """Return a fraction above the root of another one."""
    return Fraction(
        math.isqrt(value.numerator * value.denominator) + 1, value.denominator
    )


def _excess(value: Any, limit: Any) -> str:
    """Say how far a number is above a limit, absolutely and relatively."""
    value, limit = Fraction(value), Fraction(limit)
    return (
        f"{_short(value - limit)} ({_short((value - limit) / limit)} of it)"
        if limit
        else _short(value)
    )


def _short(value: Fraction) -> str:
    """Write a fraction with a few digits, however small or large it is."""
    power = 0
    if value:
        power = math.floor(
            (value.numerator.bit_length() - value.denominator.bit_length())
            * math.log10(2)
        )
        power -= value < Fraction(10) ** power
        power += value >= Fraction(10) ** (power + 1)
    return f"{float(value / Fraction(10) ** power):.3g}e{power:+d}"
