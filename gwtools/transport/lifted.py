"""Optimal transport between points for the costs −⟨u, v⟩, without their matrix.

Reduced costs are squared distances in one dimension more, so that nearest neighbours
price them exactly (theorem 12 h).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import scipy.sparse

from gwtools._array import NumpyArray
from gwtools.plans import SparsePlan
from gwtools.transport.one_dimensional import comonotone
from gwtools.transport.programs import Program, exact, exact_on_arcs

DENSE_ENTRIES = 2**18  # programs of fewer are solved as matrices
_OF_ROWS = 16  # arcs that are priced for an atom of x at once
_OF_COLUMNS = 2  # and for an atom of y
_MOST_ARCS = 32  # of an atom, above which the dearest are dropped
_KEPT_ARCS = 16
MOST_ROUNDS = 200
_LEAF = 96  # points of a leaf of the trees
_CELL = 12  # points of a cell, of which coarse programs have one
_MOST_CELLS = 8192  # of coarse programs: more points have larger cells
_BLOCK = 2**15  # points that are priced at once
_FAR = 1000  # interquartile ranges from the median: such points are far from most
_MOST_FAR = 32  # points that are compared one by one
_FLAT = 1e-9  # share of the largest standard deviation: lesser ones are raised to it
_FLOAT_ERROR = 1e-14  # of reduced costs, relative to the largest terms


@dataclass(frozen=True, eq=False)
class LiftedCosts:
    """The costs −⟨u_i, v_j⟩ (n, m) between weighted points.

    Parameters
    ----------
    u, v : arrays of shape (n, q) and (m, q)
        Points, in float64.
    """

    u: NumpyArray
    v: NumpyArray

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of points (n, m)."""
        return len(self.u), len(self.v)

    @property
    def size(self) -> float:
        """A bound of the absolute values of the costs."""
        return _longest(self.u) * _longest(self.v)

    @property
    def transposed(self) -> LiftedCosts:
        """The costs of the same pairs, rows and columns exchanged."""
        return LiftedCosts(self.v, self.u)

    def at(self, rows: NumpyArray, cols: NumpyArray) -> NumpyArray:
        """Return the costs of pairs (k,)."""
        costs: NumpyArray = -np.einsum("kq,kq->k", self.u[rows], self.v[cols])
        return costs

    def balanced(self) -> Self:
        """Return the same costs by coordinates of one standard deviation in u and v.

        Where a few points are far from all others, the standard deviations are those of
        the others, between which coordinates are also uncorrelated. Else the far points
        would set the scale, and coordinates that hardly change the costs between the
        others would decide which of these are near.
        """
        of_most_u = ~_are_far(self.u)
        of_most_v = ~_are_far(self.v)
        if not (of_most_u.all() and of_most_v.all()):
            return self._uncorrelated(of_most_u, of_most_v)
        spread_u = self.u.std(axis=0)
        spread_v = self.v.std(axis=0)
        kept = (spread_u > 0.0) & (spread_v > 0.0)
        stretch = np.ones_like(spread_u)
        stretch[kept] = np.sqrt(spread_v[kept] / spread_u[kept])
        return type(self)(self.u * stretch, self.v / stretch)

    def _uncorrelated(self, of_most_u: NumpyArray, of_most_v: NumpyArray) -> Self:
        """Return the same costs by coordinates of one covariance Λ^½ of most points.

        With Σ_v = L Lᵀ and Lᵀ Σ_u L = V Λ Vᵀ that are u A and v A⁻ᵀ for A = L V Λ^-¼.
        """
        factors = []
        for points in (self.u[of_most_u], self.v[of_most_v]):
            _, singular, axes = np.linalg.svd(
                points - points.mean(axis=0), full_matrices=False
            )
            least = _FLAT * singular.max(initial=0.0)
            if least == 0.0:
                return self
            root = np.maximum(singular, least) / np.sqrt(len(points))
            factors.append(axes.T * root)
        # Roots of both covariances, whose product has the singular values Λ^½.
        _, size, V = np.linalg.svd(factors[0].T @ factors[1])
        A = factors[1] @ V.T / np.sqrt(size)
        return type(self)(self.u @ A, np.linalg.solve(A, self.v.T).T)

    def cheapest(
        self,
        prices: NumpyArray,
        count: int,
    ) -> tuple[NumpyArray, NumpyArray]:
        """Return the columns j of least −⟨u_i, v_j⟩ − g_j in each row, and these.

        By nearest neighbours of (u_i, 0) among the points (v_j, √(2 (w_j − min w))),
        with w_j = −g_j − |v_j|²/2 (theorem 12 h).

        Parameters
        ----------
        prices : array of shape (m,)
            g.
        count : int
            Columns of a row.

        Returns
        -------
        pair of arrays of shape (n, min(count, m))
            Columns, and their reduced costs; ascending.
        """
        far_u = _are_far(self.u)
        far_v = _are_far(self.v)
        if not (far_u.any() or far_v.any()):
            return self._nearest(prices, count)
        # 1. The nearest among most points, by coordinates about their means.
        of_most = np.nonzero(~far_v)[0]
        centre_u = self.u[~far_u].mean(axis=0)
        centre_v = self.v[of_most].mean(axis=0)
        v = self.v[of_most]
        among = type(self)(self.u - centre_u, v - centre_v)
        near, _ = among._nearest(prices[of_most] + v @ centre_u, count)
        # 2. The few points far from all others are compared one by one: in the tree the
        # squares of their lengths would leave the heights of the others nearly equal.
        n = len(self.u)
        every = np.tile(np.nonzero(far_v)[0], (n, 1))
        columns = np.hstack([of_most[near], every])
        reduced = -np.einsum("iq,ikq->ik", self.u, self.v[columns]) - prices[columns]
        columns, reduced = _least_of_rows(columns, reduced, count)
        # 3. A far u_i is nearly as far from every v_j: all are compared one by one.
        rows = np.nonzero(far_u)[0]
        every = np.tile(np.arange(len(self.v)), (len(rows), 1))
        of_rows = -np.einsum("iq,ikq->ik", self.u[rows], self.v[every]) - prices
        columns[rows], reduced[rows] = _least_of_rows(every, of_rows, count)
        return columns, reduced

    def _nearest(
        self,
        prices: NumpyArray,
        count: int,
    ) -> tuple[NumpyArray, NumpyArray]:
        """Return the columns of :meth:`cheapest` by one tree of all points."""
        from scipy.spatial import cKDTree  # takes long to import

        n, m = self.shape
        count = min(count, m)
        heights = -prices - np.sum(self.v**2, axis=1) / 2
        heights = np.sqrt(2 * (heights - heights.min()))
        tree = cKDTree(
            np.column_stack([self.v, heights]), leafsize=_LEAF, compact_nodes=False
        )
        columns = np.empty((n, count), dtype=np.int64)
        reduced = np.empty((n, count))
        for start in range(0, n, _BLOCK):
            u = self.u[start : start + _BLOCK]
            _, near = tree.query(np.column_stack([u, np.zeros(len(u))]), k=count)
            near = near.reshape(len(u), count)
            costs = -np.einsum("iq,ikq->ik", u, self.v[near]) - prices[near]
            # Distances have other float errors than reduced costs.
            part = slice(start, start + len(u))
            columns[part], reduced[part] = _least_of_rows(near, costs, count)
        return columns, reduced

    def least(
        self,
        rows: NumpyArray,
        cols: NumpyArray,
        prices: NumpyArray,
    ) -> NumpyArray:
        """Return min over ``cols`` of the costs less prices (m,) in ``rows``.

        0 in rows of points that are no numbers.
        """
        least = np.zeros(len(rows))
        finite = np.isfinite(self.u[rows]).all(axis=1)
        there = np.isfinite(self.v[cols]).all(axis=1)
        if finite.any() and there.any():
            kept = cols[there]
            among = LiftedCosts(self.u[rows[finite]], self.v[kept])
            _, reduced = among.cheapest(prices[kept], 1)
            least[finite] = reduced[:, 0]
        return least


def _least_of_rows(
    columns: NumpyArray,
    reduced: NumpyArray,
    count: int,
) -> tuple[NumpyArray, NumpyArray]:
    """Return columns (n, count) of least reduced costs, ascending, and these."""
    order = np.argsort(reduced, axis=1, kind="stable")[:, :count]
    return (
        np.take_along_axis(columns, order, axis=1),
        np.take_along_axis(reduced, order, axis=1),
    )


def _are_far(points: NumpyArray) -> NumpyArray:
    """Tell which points (n,) are far from most others; none where these are many."""
    low, middle, high = np.quantile(points, (0.25, 0.5, 0.75), axis=0)
    far: NumpyArray = (np.abs(points - middle) > _FAR * (high - low)).any(axis=1)
    most = min(_MOST_FAR, len(points) // 4)
    return far if np.count_nonzero(far) <= most else np.zeros_like(far)


def _longest(points: NumpyArray) -> float:
    """Return the largest norm of points."""
    return float(np.sqrt(np.sum(points**2, axis=1).max()))


def lifted_program(
    costs: LiftedCosts,
    a: NumpyArray,
    b: NumpyArray,
    start: SparsePlan | None = None,
    potentials: tuple[NumpyArray, NumpyArray] | None = None,
    share: float = 0.0,
    least: float = 0.0,
) -> Program:
    """Minimise −Σ ⟨u_i, v_j⟩ π_ij over couplings of a and b, on few arcs at a time.

    Arcs that violate dual feasibility join until none is left, up to float error.

    Parameters
    ----------
    costs : LiftedCosts
        The costs.
    a, b : arrays of shape (n,) and (m,)
        Positive weights of sum 1.
    start : SparsePlan, optional
        A coupling whose arcs are kept at first.
    potentials : pair of arrays, optional
        Potentials of a similar program; by default those of a program of few cells.
    share : float
        The part of what the program gains over ``start`` that may be left: it ends
        early where the cost of its plan is proved to be that near to the least one.
    least : float
        What may be left in any case, as it counts as float error.

    Returns
    -------
    Program
        A vertex of few arcs, potentials that are feasible for all pairs, and their
        value, which is below the cost of every coupling, up to float error.
    """
    b = b * (a.sum() / b.sum())
    n, m = costs.shape
    if n * m <= DENSE_ENTRIES or min(n, m) == 1:
        return exact(-(costs.u @ costs.v.T), a, b)
    costs = costs.balanced()
    g = coarse_prices(costs, a, b) if potentials is None else potentials[1]
    chain = comonotone(costs.u[:, 0], a, costs.v[:, 0], b)
    feasible = [(chain.rows, chain.cols)]
    if start is not None:
        feasible.append((start.rows, start.cols))
    priced = Priced.of(costs, a, b, g)
    arcs = _Arcs.of(m, [*priced.arcs(), *feasible])
    for _ in range(MOST_ROUNDS):
        # 1. Solve on these arcs, by reduced costs: their potentials are near 0.
        c = costs.at(arcs.rows, arcs.cols)
        reduced = c - priced.f[arcs.rows] - priced.g[arcs.cols]
        plan, u, v = exact_on_arcs(reduced, (arcs.rows, arcs.cols), a, b)
        f = priced.f + u
        g = priced.g + v
        reduced = c - f[arcs.rows] - g[arcs.cols]
        value = float(plan.mass @ costs.at(plan.rows, plan.cols))
        # 2. Price all pairs.
        priced = Priced.of(costs, a, b, g)
        float_error = _FLOAT_ERROR * (costs.size + np.abs(f).max() + np.abs(g).max())
        float_error = max(float_error, -float(reduced.min()))
        violated = priced.violated(costs, f, g, float_error)
        left = value - priced.lower
        allowed = max(least, share * gain(costs, start, priced.lower))
        if not violated or left <= allowed:
            break
        # 3. Add the arcs that violate dual feasibility.
        arcs = arcs.extended(reduced, [*violated, (plan.rows, plan.cols), *feasible])
    return Program(plan, (priced.f, priced.g), priced.lower)


def priced_plan(
    costs: LiftedCosts,
    a: NumpyArray,
    b: NumpyArray,
    plan: SparsePlan,
    potentials: tuple[NumpyArray, NumpyArray] | None = None,
) -> Program:
    """Return a coupling with a lower value of its program, which is not solved.

    Parameters
    ----------
    costs : LiftedCosts
        The costs.
    a, b : arrays of shape (n,) and (m,)
        Positive weights of sum 1.
    plan : SparsePlan
        The coupling.
    potentials : pair of arrays, optional
        Potentials of a similar program; by default those of a program of few cells.

    Returns
    -------
    Program
        The coupling itself, and feasible potentials: one query for each row.
    """
    costs = costs.balanced()
    b = b * (a.sum() / b.sum())
    g = coarse_prices(costs, a, b) if potentials is None else potentials[1]
    _, reduced = costs.cheapest(g, 1)
    f = reduced[:, 0].copy()
    return Program(plan, (f, g), float(a @ f + b @ g))


def gain(costs: LiftedCosts, start: SparsePlan | None, lower: float) -> float:
    """Return how far the cost of a start is above a lower value, at least 0."""
    if start is None:
        return 0.0
    return max(0.0, float(start.mass @ costs.at(start.rows, start.cols)) - lower)


@dataclass(frozen=True, eq=False)
class Priced:
    """Feasible potentials f (n,) and g (m,), and the pairs that they price lowest.

    Parameters
    ----------
    f, g : arrays of shape (n,) and (m,)
        Each f_i is the least cost less g_j for the given g; each g_j the least cost
        less f_i, which is no lower.
    lower : float
        a·f + b·g.
    of_rows, of_columns : integer arrays of shape (n, k) and (m, l)
        The columns of least reduced costs in each row, and the rows in each column.
    """

    f: NumpyArray
    g: NumpyArray
    lower: float
    of_rows: NumpyArray
    of_columns: NumpyArray

    @classmethod
    def of(
        cls,
        costs: LiftedCosts,
        a: NumpyArray,
        b: NumpyArray,
        g: NumpyArray,
    ) -> Self:
        """Price all pairs by potentials g."""
        of_rows, reduced = costs.cheapest(g, _OF_ROWS)
        f = reduced[:, 0].copy()
        of_columns, reduced = costs.transposed.cheapest(f, _OF_COLUMNS)
        g = reduced[:, 0].copy()
        return cls(f, g, float(a @ f + b @ g), of_rows, of_columns)

    def arcs(self) -> Iterator[tuple[NumpyArray, NumpyArray]]:
        """Yield rows and columns of the pairs."""
        n, count = self.of_rows.shape
        yield np.repeat(np.arange(n), count), self.of_rows.ravel()
        m, count = self.of_columns.shape
        yield self.of_columns.ravel(), np.repeat(np.arange(m), count)

    def violated(
        self,
        costs: LiftedCosts,
        f: NumpyArray,
        g: NumpyArray,
        float_error: float,
    ) -> list[tuple[NumpyArray, NumpyArray]]:
        """Return the pairs whose cost is below f_i + g_j for potentials of arcs."""
        found = []
        for rows, cols in self.arcs():
            reduced = costs.at(rows, cols) - f[rows] - g[cols]
            below = reduced < -float_error
            if below.any():
                found.append((rows[below], cols[below]))
        return found


@dataclass(frozen=True, eq=False)
class _Arcs:
    """Arcs between n and m points, by ascending positions i m + j."""

    width: int  # m
    positions: NumpyArray

    @classmethod
    def of(cls, width: int, pairs: list[tuple[NumpyArray, NumpyArray]]) -> Self:
        """Return the arcs of lists of rows and columns, each of them once."""
        positions = [rows.astype(np.int64) * width + cols for rows, cols in pairs]
        return cls(width, np.unique(np.concatenate(positions)))

    @property
    def rows(self) -> NumpyArray:
        """The rows i."""
        return self.positions // self.width

    @property
    def cols(self) -> NumpyArray:
        """The columns j."""
        return self.positions % self.width

    def extended(
        self,
        reduced: NumpyArray,
        pairs: list[tuple[NumpyArray, NumpyArray]],
    ) -> Self:
        """Return the arcs with others, without the dearest where there are many."""
        atoms = self.width + int(self.rows[-1]) + 1
        kept = self.positions
        if len(kept) > _MOST_ARCS * atoms:
            count = _KEPT_ARCS * atoms
            kept = kept[np.argpartition(reduced, count)[:count]]
        added = self.of(self.width, pairs)
        return type(self)(self.width, np.union1d(kept, added.positions))


def coarse_prices(
    costs: LiftedCosts,
    a: NumpyArray,
    b: NumpyArray,
) -> NumpyArray:
    """Return prices g (m,) by the program between the cells of both clouds.

    The costs are bilinear, so that those between means are the means of costs: the
    program is that of the couplings of cells.
    """
    n, m = costs.shape
    cells_u = cells_of(costs.u, max(_CELL, n // _MOST_CELLS))
    cells_v = cells_of(costs.v, max(_CELL, m // _MOST_CELLS))
    u, of_u = cell_means(costs.u, a, cells_u)
    v, of_v = cell_means(costs.v, b, cells_v)
    coarse = lifted_program(LiftedCosts(u, v), of_u, of_v)
    f, _ = coarse.potentials
    # The largest prices that are feasible against the cells of x.
    _, reduced = LiftedCosts(costs.v, u).cheapest(f, 1)
    return reduced[:, 0].copy()


def cells_of(points: NumpyArray, most: int) -> NumpyArray:
    """Number the cells (n,) of a partition of points into boxes of few points."""
    from scipy.spatial import cKDTree  # takes long to import

    tree = cKDTree(points, leafsize=most)
    cells = np.empty(len(points), dtype=np.int64)
    number = 0
    nodes = [tree.tree]
    while nodes:
        node = nodes.pop()
        if node.lesser is None:
            cells[node.indices] = number
            number += 1
        else:
            nodes += [node.lesser, node.greater]
    return cells


def cell_means(
    points: NumpyArray,
    weights: NumpyArray,
    cells: NumpyArray,
) -> tuple[NumpyArray, NumpyArray]:
    """Return the means (k, q) of points over cells, and the weights (k,) of these."""
    total = np.bincount(cells, weights=weights)
    shares = scipy.sparse.csr_array(
        (weights / total[cells], (cells, np.arange(len(cells)))),
        shape=(len(total), len(cells)),
    )
    return shares @ points, total
