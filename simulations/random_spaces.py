"""Random spaces of every kind, in any units and dtype, with or without weights.

Among the kinds is all that makes ties and saddles: 0/1 matrices, shortest paths over
unit edges, repeated atoms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import scipy.sparse
from scipy.sparse import csgraph
from scipy.spatial.distance import cdist

import gwtools as gw

Numbers = npt.NDArray[Any]


@dataclass(frozen=True)
class Raw:
    """A space before its units, weights and dtype.

    Parameters
    ----------
    form : str
        What the values are: "matrix", "euclidean" or "sqeuclidean" (points of these
        distances), "factor", or "graph" (an adjacency).
    values : ndarray
        Of shape (n, n), or (n, d) for points and (d, n) for a factor.
    """

    form: str
    values: Numbers

    def take(self, index: Numbers) -> Raw:
        """Return the raw space over some atoms in some order, which may repeat."""
        repeats = len(set(index.tolist())) < len(index)
        if self.form == "graph" and repeats:
            # No path in a graph is of length 0, as between repeated atoms.
            return Raw("matrix", _paths(self.values)).take(index)
        if self.form in ("matrix", "graph"):
            return Raw(self.form, self.values[np.ix_(index, index)])
        if self.form == "factor":
            return Raw(self.form, self.values[:, index])
        return Raw(self.form, self.values[index])

    def space(self, unit: float, weights: Numbers | None, dtype: str) -> gw.Space:
        """Return the space with C in a unit."""
        a = None if weights is None else weights.astype(dtype)
        if self.form == "graph":
            return self._graph(unit, a, dtype)
        if self.form == "factor":
            size = self.values.shape[1]
            if a is None:
                a = np.full(size, 1 / size).astype(dtype)
            # C is quadratic in the factor, and in the points of squared distances.
            return gw.GramSpace((self.values * unit**0.5).astype(dtype), a)
        if self.form == "euclidean":
            points = (self.values * unit).astype(dtype)
            return gw.PointCloud(points, a, metric=self.form)
        if self.form == "sqeuclidean":
            points = (self.values * unit**0.5).astype(dtype)
            return gw.PointCloud(points, a, metric=self.form)
        return gw.DenseSpace((self.values * unit).astype(dtype), a)

    def _graph(self, unit: float, weights: Numbers | None, dtype: str) -> gw.Space:
        """Return shortest paths: lazily in float64, in other dtypes as a matrix."""
        if dtype == "float64":
            return gw.GraphSpace(scipy.sparse.csr_array(self.values) * unit, weights)
        return gw.DenseSpace((_paths(self.values) * unit).astype(dtype), weights)


# Points


def _points(rng: np.random.Generator, n: int) -> Numbers:
    dimension = int(rng.integers(1, 5))
    return rng.standard_normal((n, dimension))


def _distances(rng: np.random.Generator, n: int) -> Raw:
    points = _points(rng, n)
    return Raw("matrix", cdist(points, points))


def _cloud(rng: np.random.Generator, n: int) -> Raw:
    return Raw("euclidean", _points(rng, n))


def _squared_cloud(rng: np.random.Generator, n: int) -> Raw:
    return Raw("sqeuclidean", _points(rng, n))


def _gram(rng: np.random.Generator, n: int) -> Raw:
    return Raw("factor", _points(rng, n).T)


def _kernel(rng: np.random.Generator, n: int) -> Raw:
    points = _points(rng, n)
    return Raw("matrix", np.exp(-cdist(points, points, "sqeuclidean")))


# Matrices


def _gaussian(rng: np.random.Generator, n: int) -> Raw:
    values = rng.standard_normal((n, n))
    return Raw("matrix", values + values.T)


def _levels(rng: np.random.Generator, n: int) -> Raw:
    levels = int(rng.integers(2, 5))
    values = np.triu(rng.integers(0, levels, (n, n))).astype(float)
    return Raw("matrix", np.maximum(values, values.T))


def _constant(rng: np.random.Generator, n: int) -> Raw:
    """One value everywhere, or everywhere but on the diagonal."""
    diagonal = 1.5 * np.eye(n) if rng.random() < 0.5 else 0.0
    return Raw("matrix", np.full((n, n), 1.5) - diagonal)


# Adjacencies as matrices


def _adjacency(probability: Any, rng: np.random.Generator, n: int) -> Numbers:
    edges = np.triu(rng.random((n, n)) < probability, 1)
    adjacency: Numbers = (edges | edges.T).astype(float)
    return adjacency


def _erdos_renyi(rng: np.random.Generator, n: int) -> Raw:
    return Raw("matrix", _adjacency(2 * np.log(n) / n, rng, n))


def _block_model(rng: np.random.Generator, n: int) -> Raw:
    block = rng.integers(0, 3, n)
    probability = np.where(block[:, None] == block, 0.1, 0.01)
    return Raw("matrix", _adjacency(probability, rng, n))


def _barabasi_albert(rng: np.random.Generator, n: int) -> Raw:
    if n == 1:
        return Raw("matrix", np.zeros((1, 1)))
    seed = int(rng.integers(2**31))
    graph = nx.barabasi_albert_graph(n, min(3, n - 1), seed=seed)
    return Raw("matrix", nx.to_numpy_array(graph))


def _nearest_neighbours(rng: np.random.Generator, n: int) -> Raw:
    points = rng.random((n, 2))
    near = cdist(points, points).argsort(axis=1)[:, 1:6]
    edges = np.zeros((n, n))
    edges[np.arange(n)[:, None], near] = 1
    return Raw("matrix", np.maximum(edges, edges.T))


# Shortest paths


def _tree(rng: np.random.Generator, n: int) -> Raw:
    links = [(i, int(rng.integers(i))) for i in range(1, n)]
    return Raw("graph", _linked(n, links))


def _star(_: np.random.Generator, n: int) -> Raw:
    return Raw("graph", _linked(n, [(0, i) for i in range(1, n)]))


def _grid(_: np.random.Generator, n: int) -> Raw:
    width = int(n**0.5)
    right = [(i, i + 1) for i in range(n - 1) if (i + 1) % width]
    down = [(i, i + width) for i in range(n - width)]
    return Raw("matrix", _paths(_linked(n, right + down)))


def _watts_strogatz(rng: np.random.Generator, n: int) -> Raw:
    links = []
    for i in range(n):
        for step in (1, 2, 3):
            # One link of the ring in ten ends anywhere.
            j = int(rng.integers(n)) if rng.random() < 0.1 else (i + step) % n
            if i != j:
                links.append((i, j))
    return Raw("matrix", _paths(_linked(n, links)))


def _linked(n: int, links: Sequence[tuple[int, int]]) -> Numbers:
    """Return the 0/1 adjacency of some edges."""
    adjacency = np.zeros((n, n))
    for i, j in links:
        adjacency[i, j] = 1
        adjacency[j, i] = 1
    return adjacency


def _paths(adjacency: Numbers) -> Numbers:
    """Return numbers of edges on shortest paths; n where there is none."""
    lengths = csgraph.shortest_path(adjacency, directed=False, unweighted=True)
    return np.where(np.isinf(lengths), len(lengths), lengths)


KINDS: dict[str, Callable[[np.random.Generator, int], Raw]] = {
    "distances": _distances,
    "cloud": _cloud,
    "squared cloud": _squared_cloud,
    "gram": _gram,
    "kernel": _kernel,
    "gaussian": _gaussian,
    "levels": _levels,
    "constant": _constant,
    "erdos_renyi": _erdos_renyi,
    "block_model": _block_model,
    "barabasi_albert": _barabasi_albert,
    "nearest_neighbours": _nearest_neighbours,
    "tree": _tree,
    "star": _star,
    "grid": _grid,
    "watts_strogatz": _watts_strogatz,
}

# Kinds of few different values.
TIES = (
    "levels",
    "erdos_renyi",
    "block_model",
    "barabasi_albert",
    "nearest_neighbours",
    "grid",
    "watts_strogatz",
)
