"""Hypothesis strategies: spaces with their matrices, and couplings.

Also pairs whose distance is known beforehand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

import gwtools as gw
from tests.checkers import euclidean, objective, two_by_two, walk

KINDS = ("dense", "euclidean", "sqeuclidean", "gram")
CONDITIONALLY_NEGATIVE = ("euclidean", "sqeuclidean")


@dataclass(frozen=True, eq=False)
class Drawn:
    """A space as a test knows it.

    The stored values, the weights and, computed apart, the matrix C.
    """

    kind: str
    data: np.ndarray
    weights: np.ndarray

    @property
    def size(self) -> int:
        return len(self.weights)

    @property
    def matrix(self) -> np.ndarray:
        if self.kind == "dense":
            return self.data
        if self.kind == "gram":
            return self.data.T @ self.data
        return euclidean(self.data) ** (2 if self.kind == "sqeuclidean" else 1)

    def space(self, array: Any = np.asarray) -> gw.Space:
        data, weights = array(self.data), array(self.weights)
        if self.kind == "dense":
            return gw.DenseSpace(data, weights)
        if self.kind == "gram":
            return gw.GramSpace(data, weights)
        return gw.PointCloud(data, weights, metric=self.kind)

    def take(self, order: Any) -> Drawn:
        """The same space with its atoms in another order, or some of them."""
        data = {
            "dense": lambda d: d[np.ix_(order, order)],
            "gram": lambda d: d[:, order],
        }.get(self.kind, lambda d: d[order])
        return replace(
            self,
            data=np.ascontiguousarray(data(self.data)),
            weights=self.weights[order],
        )

    def scaled(self, factor: float) -> Drawn:
        """The space with ``factor`` · C.

        Up to rounding of the root where C is quadratic in the data.
        """
        return replace(
            self,
            data=self.data
            * (factor**0.5 if self.kind in ("sqeuclidean", "gram") else factor),
        )


@dataclass(frozen=True, eq=False)
class Known:
    """Two spaces, their GW_2² and a coupling that attains it."""

    x: Drawn
    y: Drawn
    value: float
    plan: np.ndarray


def normalised(counts: Any) -> np.ndarray:
    counts = np.asarray(counts, dtype=float)
    return counts / counts.sum()


# One number a list: drawing its entries one by one would take most of the suite's time.
def digits(number: int, base: int, count: int) -> list[int]:
    return [number // base**i % base for i in range(count)]


def orders(size: int) -> st.SearchStrategy[list[int]]:
    """Permutations, by their number in the factorial system; 0 is the identity."""

    def order(number: int) -> list[int]:
        left = list(range(size))
        return [
            left.pop(number // math.factorial(k) % (k + 1))
            for k in reversed(range(size))
        ]

    return st.integers(0, math.factorial(size) - 1).map(order)


@st.composite
def weights(draw: st.DrawFn, size: int, null: bool = False) -> np.ndarray:
    """Non-uniform, uniform and very unequal weights; with ``null``, some are zero."""
    counts = np.array([1, 1, 2, 3, 7, 50])[
        digits(draw(st.integers(0, 6**size - 1)), 6, size)
    ]
    if null:
        counts = counts * digits(draw(st.integers(1, 2**size - 1)), 2, size)
    return normalised(counts)


@st.composite
def values(draw: st.DrawFn, shape: tuple[int, ...], generic: bool) -> np.ndarray:
    """Numbers in general position, or on a small lattice, where ties are common."""
    seed = draw(st.integers(0, 2**20 - 1))
    rng = np.random.default_rng(seed)
    return (
        rng.standard_normal(shape)
        if generic or seed % 2
        else rng.integers(-4, 5, shape) / 2
    )


@st.composite
def spaces(
    draw: st.DrawFn,
    kinds: tuple[str, ...] = KINDS,
    least: int = 1,
    most: int = 7,
    generic: bool = False,
    null: bool = False,
) -> Drawn:
    kind = draw(st.sampled_from(kinds))
    n = draw(st.integers(least, most))
    if kind == "dense":
        data = draw(values((n, n), generic))
        data = (data + data.T) / 2
    else:
        d = draw(st.integers(2 if generic else 1, 3))
        data = draw(values((n, d), generic))
        data = data.T.copy() if kind == "gram" else data
    return Drawn(kind, data, draw(weights(n, null)))


def pairs(**options: Any) -> st.SearchStrategy[tuple[Drawn, Drawn]]:
    return st.tuples(spaces(**options), spaces(**options))


def additive() -> st.SearchStrategy[Drawn]:
    """Spaces with C_ik = u_i + u_k."""

    @st.composite
    def build(draw: st.DrawFn) -> Drawn:
        n = draw(st.integers(1, 7))
        u = draw(values((n,), False))
        return Drawn("dense", u[:, None] + u[None, :], draw(weights(n)))

    return build()


def vertex(a: np.ndarray, b: np.ndarray, order_a: Any, order_b: Any) -> np.ndarray:
    """The north-west corner coupling under two orders: a vertex of the couplings."""
    plan = np.zeros((len(a), len(b)))
    for i, j, mass in walk(np.argsort(order_a), a, np.argsort(order_b), b):
        plan[i, j] += mass
    return plan


@st.composite
def couplings(draw: st.DrawFn, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Convex combinations of the product coupling and of vertices."""
    count = draw(st.integers(1, 3))
    chosen = [(draw(orders(len(a))), draw(orders(len(b)))) for _ in range(count)]
    parts = [np.outer(a, b), *(vertex(a, b, *order) for order in chosen)]
    shares = np.array(digits(draw(st.integers(0, 4**4 - 1)), 4, 1 + count))
    shares[1:] += 1
    mixing = normalised(shares)
    return sum(share * part for share, part in zip(mixing, parts, strict=True))


@st.composite
def coupled(draw: st.DrawFn, **options: Any) -> tuple[Drawn, Drawn, np.ndarray]:
    x, y = draw(pairs(**options))
    return x, y, draw(couplings(x.weights, y.weights))


@st.composite
def permuted_copies(
    draw: st.DrawFn, generic: bool = False, kinds: tuple[str, ...] = KINDS
) -> Known:
    x = draw(spaces(kinds=kinds, generic=generic))
    order = np.array(draw(orders(x.size)))
    plan = np.zeros((x.size, x.size))
    plan[order, np.arange(x.size)] = x.weights[order]
    return Known(x, x.take(order), 0.0, plan)


@st.composite
def one_points(draw: st.DrawFn) -> Known:
    """One point against any space.

    There is one coupling, and its objective is a second moment about C_11.
    """
    x, y = draw(spaces(most=1)), draw(spaces())
    centre, b = x.matrix[0, 0], y.weights
    return Known(x, y, float(b @ ((y.matrix - centre) ** 2 @ b)), y.weights[None, :])


@st.composite
def two_points(draw: st.DrawFn) -> Known:
    """Two spaces of two points at distances s and t.

    (s − t)²/2 for uniform weights, else the end of a segment.
    """
    s, t = draw(st.tuples(st.integers(0, 8), st.integers(0, 8)))
    x, y = (
        Drawn("dense", float(d) * (1 - np.eye(2)), draw(weights(2))) for d in (s, t)
    )
    ends = [vertex(x.weights, y.weights, (0, 1), order) for order in ((0, 1), (1, 0))]
    plan = min(ends, key=lambda end: objective(x.matrix, y.matrix, end))
    return Known(x, y, two_by_two(x.matrix, x.weights, y.matrix, y.weights), plan)


@st.composite
def simplices(draw: st.DrawFn, uniform: bool = False) -> Known:
    """Simplices of weights a and b where b splits the atoms of a: Σ a_i² − Σ b_j².

    1/n − 1/m for uniform weights.

    The objective is Σ a_i² + Σ b_j² − 2 P(i = k, j = l), and P(i = k, j = l) ≤ Σ b_j²
    with equality where j tells i.
    """
    n = draw(st.integers(1, 4))
    counts = (
        [draw(st.integers(1, 3))] * n
        if uniform
        else draw(st.lists(st.integers(1, 3), min_size=n, max_size=n))
    )
    owner = np.repeat(np.arange(n), counts)
    b = np.full(len(owner), 1 / len(owner)) if uniform else draw(weights(len(owner)))
    a = np.array([b[owner == i].sum() for i in range(n)])
    plan = np.where(owner[None, :] == np.arange(n)[:, None], b[None, :], 0.0)
    x, y = (Drawn("dense", 1 - np.eye(len(w)), w) for w in (a, b))
    return Known(x, y, float(a @ a - b @ b), plan)


@st.composite
def scaled_copies(draw: st.DrawFn, generic: bool = False) -> Known:
    """A space and s ≥ 0 times it: (1 − s)² Σ a_i a_k C_ik².

    Attained by the identity (theorem 7 v).
    """
    x = draw(spaces(generic=generic))
    s = draw(st.sampled_from([0.25, 0.5, 4.0, 2.25]))
    second_moment = float(x.weights @ (x.matrix**2 @ x.weights))
    return Known(x, x.scaled(s), (1 - s) ** 2 * second_moment, np.diag(x.weights))


@st.composite
def additive_pairs(draw: st.DrawFn) -> Known:
    """An additive space against any: the sorting coupling is optimal (theorem 5)."""
    x, y = draw(additive()), draw(spaces())
    plan = np.zeros((x.size, y.size))
    for i, j, mass in walk(
        x.matrix @ x.weights, x.weights, y.matrix @ y.weights, y.weights
    ):
        plan[i, j] += mass
    return Known(x, y, objective(x.matrix, y.matrix, plan), plan)


def known() -> st.SearchStrategy[Known]:
    return st.one_of(
        permuted_copies(),
        one_points(),
        two_points(),
        simplices(),
        scaled_copies(),
        additive_pairs(),
    )


def well_separated(*spaces: Drawn, least: float = 1e-3) -> bool:
    """Whether no two row means nearly tie."""
    return all(
        np.diff(np.sort(s.matrix @ s.weights)).min(initial=np.inf) > least
        for s in spaces
    )
