"""Families of instances on which bounds are compared.

An instance is two random spaces, made from a seed and a size alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from zlib import crc32

import networkx as nx
import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

import gwtools as gw

Numbers = npt.NDArray[Any]
Build = Callable[[np.random.Generator, int], tuple[gw.Space, gw.Space]]

BANDWIDTH = 0.5**0.5
CLASSIC_SEEDS = 2  # at most, of a graph that exists in one size
WEIGHTS = {
    "uniform": "equal weights",
    "random": "Dirichlet(1, ..., 1) weights, drawn for each space",
}


@dataclass(frozen=True)
class Family:
    """A law of pairs of spaces.

    ``size`` is that of a graph which has only one, ``bandwidth`` that of a kernel;
    ``convex`` tells that the objective is convex over couplings, so that one start
    finds its minimum.
    """

    name: str
    law: str
    build: Build
    size: int | None = None
    bandwidth: float | None = None
    convex: bool = False

    def draw(self, n: int, weights: str, seed: int) -> tuple[gw.Space, gw.Space]:
        """Draw the two spaces; they depend on nothing but the arguments."""
        rng = np.random.default_rng(
            np.random.SeedSequence((crc32(self.name.encode()), n, seed))
        )
        x, y = self.build(rng, n)
        return (
            (x, y) if weights == "uniform" else (_weighted(x, rng), _weighted(y, rng))
        )


def _weighted(space: gw.Space, rng: np.random.Generator) -> gw.Space:
    return space.with_data(space.data, rng.dirichlet(np.ones(space.size)))


def _clouds(
    rng: np.random.Generator, n: int, dimensions: tuple[int, int], metric: str
) -> tuple[gw.Space, gw.Space]:
    x, y = (
        gw.PointCloud(rng.standard_normal((n, d)), metric=metric) for d in dimensions
    )
    return x, y


def _cube_against_sphere(rng: np.random.Generator, n: int) -> tuple[gw.Space, gw.Space]:
    directions = rng.standard_normal((n, 3))
    sphere = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    return gw.PointCloud(rng.uniform(-1, 1, (n, 3))), gw.PointCloud(sphere)


def _kernels(rng: np.random.Generator, n: int) -> tuple[gw.Space, gw.Space]:
    def kernel() -> gw.Space:
        points = rng.standard_normal((n, 3))
        return gw.DenseSpace(
            np.exp(-cdist(points, points, "sqeuclidean") / (2 * BANDWIDTH**2))
        )

    return kernel(), kernel()


def _kernel_against_distance(
    rng: np.random.Generator, n: int
) -> tuple[gw.Space, gw.Space]:
    return _kernels(rng, n)[0], gw.PointCloud(rng.standard_normal((n, 3)))


def _erdos_renyi(rng: np.random.Generator, n: int) -> nx.Graph:
    return _connected(nx.fast_gnp_random_graph(n, 2 * np.log(n) / n, seed=_seed(rng)))


def _blocks(rng: np.random.Generator, n: int) -> nx.Graph:
    sizes = [n // 2, n // 3, n - n // 2 - n // 3]
    inside, between = 3 * np.log(n) / n, 0.3 * np.log(n) / n
    matrix = np.full((3, 3), between) + np.diag(np.full(3, inside - between))
    return _connected(nx.stochastic_block_model(sizes, matrix, seed=_seed(rng)))


def _graphs(
    rng: np.random.Generator,
    n: int,
    graph: Callable[[np.random.Generator, int], nx.Graph],
) -> Any:
    return gw.GraphSpace(graph(rng, n)), gw.GraphSpace(graph(rng, n))


def _adjacencies(rng: np.random.Generator, n: int) -> tuple[gw.Space, gw.Space]:
    x, y = (gw.DenseSpace(nx.to_numpy_array(_erdos_renyi(rng, n))) for _ in range(2))
    return x, y


def _rewired(rng: np.random.Generator, _: int, name: str) -> tuple[gw.Space, gw.Space]:
    """A graph against itself, rewired and shuffled.

    A tenth of its edges are swapped and its nodes shuffled; edges have length 1.
    """
    graph = nx.Graph(getattr(nx, f"{name}_graph")().edges())
    order = rng.permutation(len(graph)).tolist()
    other = nx.relabel_nodes(graph, dict(zip(graph, order, strict=True)))
    nx.double_edge_swap(
        other, max(1, graph.number_of_edges() // 20), max_tries=10_000, seed=_seed(rng)
    )
    other = _connected(other)
    return gw.GraphSpace(graph), gw.GraphSpace(
        nx.relabel_nodes(other, {node: node for node in sorted(other)})
    )


def _connected(graph: nx.Graph) -> nx.Graph:
    """The largest component, with its nodes in order."""
    return nx.Graph(graph.subgraph(max(nx.connected_components(graph), key=len)))


def _coactivation(rng: np.random.Generator, n: int) -> tuple[gw.Space, gw.Space]:
    """C = HᵀH/T of T = 256 rows of logits over n tokens: eight topics and noise.

    Each row is cut to its top tenth.
    """

    def logits() -> Numbers:
        return 2 * rng.standard_normal((256, 8)) @ rng.standard_normal(
            (8, n)
        ) / 8**0.5 + rng.standard_normal((256, n))

    def truncated(rows: Numbers) -> gw.Space:
        least = np.sort(rows, axis=1)[:, -(n // 10), None]
        return gw.GramSpace(np.where(rows >= least, rows, 0.0) / 16, np.full(n, 1 / n))

    return truncated(logits()), truncated(logits())


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def _normal(
    name: str, dimensions: tuple[int, int], metric: str, distances: str
) -> Family:
    first, second = (f"N(0, I_{d})" for d in dimensions)
    return Family(
        name,
        f"{first} against {second}, {distances}",
        partial(_clouds, dimensions=dimensions, metric=metric),
    )


def _classic(name: str, size: int) -> Family:
    law = (
        f"networkx's {name} graph against itself with a tenth of its edges swapped, "
        "shortest paths over unit edges"
    )
    return Family(name, law, partial(_rewired, name=name), size=size)


def _random_graphs(
    name: str, law: str, graph: Callable[[np.random.Generator, int], nx.Graph]
) -> Family:
    return Family(
        name, f"{law}, largest component, shortest paths", partial(_graphs, graph=graph)
    )


FAMILIES = (
    *(_normal(f"euclidean_{d}", (d, d), "euclidean", "distances") for d in (2, 3, 10)),
    *(
        _normal(f"squared_{d}", (d, d), "sqeuclidean", "squared distances")
        for d in (2, 3, 10)
    ),
    _normal("mixed_2_3", (2, 3), "euclidean", "distances"),
    Family(
        "cube_sphere",
        "uniform on [-1, 1]^3 against uniform on the unit sphere, distances",
        _cube_against_sphere,
    ),
    Family(
        "rbf",
        "exp(-|x - y|^2 / 2h^2) on N(0, I_3), against the same",
        _kernels,
        bandwidth=BANDWIDTH,
    ),
    Family(
        "rbf_distance",
        "exp(-|x - y|^2 / 2h^2) on N(0, I_3), against distances on N(0, I_3)",
        _kernel_against_distance,
        bandwidth=BANDWIDTH,
        convex=True,
    ),
    _random_graphs("erdos_renyi", "G(n, 2 log(n)/n)", _erdos_renyi),
    _random_graphs(
        "block_model",
        "blocks n/2, n/3, n/6; 3 log(n)/n inside, 0.3 log(n)/n between",
        _blocks,
    ),
    Family(
        "adjacency",
        "adjacency matrices of G(n, 2 log(n)/n), largest component",
        _adjacencies,
    ),
    Family(
        "coactivation",
        "H'H/T of 256 rows of logits (8 topics and noise), top n/10 of each row",
        _coactivation,
    ),
    _classic("karate_club", 34),
    _classic("les_miserables", 77),
    _classic("davis_southern_women", 32),
)
