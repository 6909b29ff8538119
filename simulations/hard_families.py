"""Pairs of spaces on which solvers get stuck, each made from a seed alone.

There are 17 families of noisy or exact copies.

In every pair the second space is a copy of the first, moved, disturbed by noise and
shuffled. The coupling that undoes the shuffle is known, and with it a low objective (0
where the copy is exact); symmetric and repetitive shapes have many stationary couplings
above it. Weights are uniform. The least objectives known are in
``reference/hard_pairs.csv``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

Numbers = npt.NDArray[Any]

REFERENCE = Path(__file__).parent / "reference" / "hard_pairs.csv"
COLOURS = 93
BLOCKS = (30, 20, 10)


class Pair(NamedTuple):
    """Symmetric matrices C (n, n) and D (m, m), and what is known of them.

    ``planted``: for every atom j of D the atom of C that it is a copy of, None where
    there is none. ``a``, ``b``: weights; None for uniform ones.
    """

    C: Numbers
    D: Numbers
    planted: Numbers | None
    a: Numbers | None = None
    b: Numbers | None = None


def _distances(points: Numbers, others: Numbers, planted: Numbers) -> Pair:
    return Pair(cdist(points, points), cdist(others, others), planted)


def rotation(rng: np.random.Generator, dimension: int) -> Numbers:
    """A random orthogonal matrix, of the law of Haar.

    The signs make the decomposition unique, and so the law that of Haar.
    """
    q, upper = np.linalg.qr(rng.standard_normal((dimension, dimension)))
    return q * np.sign(np.diag(upper))


def _isometric(seed: int, n: int, dimension: int, noise: float) -> Pair:
    """A normal cloud against itself, rotated, shuffled and disturbed."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n, dimension))
    planted = rng.permutation(n)
    others = (points @ rotation(rng, dimension))[planted] + noise * rng.standard_normal(
        (n, dimension)
    )
    return _distances(points, others, planted)


def _shape(seed: int, points: Numbers, noise: float) -> Pair:
    """A fixed set of points against itself, shuffled and disturbed."""
    rng = np.random.default_rng(seed)
    planted = rng.permutation(len(points))
    others = points[planted] + noise * rng.standard_normal(points.shape)
    return _distances(points, others, planted)


def _clusters(seed: int, count: int, each: int) -> Pair:
    """Clusters against others of the same, rotated centres.

    A point's copy may be any of its cluster; one of these is planted.
    """
    rng = np.random.default_rng(seed)

    def around(centres: Numbers) -> Numbers:
        return np.repeat(centres, each, axis=0) + 0.4 * rng.standard_normal(
            (count * each, 2)
        )

    centres = 4 * rng.standard_normal((count, 2))
    points = around(centres)
    others = around(centres @ rotation(rng, 2))
    planted = rng.permutation(count * each)
    return _distances(points, others[planted], planted)


def _colours(seed: int, noise: float, levels: int | None = None) -> Pair:
    """Dissimilarities of colours in a cylinder as two people judge them.

    The scale has a number of levels or is continuous.
    """
    rng = np.random.default_rng(seed)
    hue = rng.random(COLOURS) * 2 * np.pi
    saturation = np.sqrt(rng.random(COLOURS))
    lightness = rng.random(COLOURS) - 0.5
    points = np.column_stack(
        [saturation * np.cos(hue), saturation * np.sin(hue), lightness]
    )

    def judged() -> Numbers:
        values = cdist(points, points) + noise * rng.standard_normal(
            (COLOURS, COLOURS)
        ) / np.sqrt(2)
        values = (values + values.T) / 2
        np.fill_diagonal(values, 0)
        values = np.clip(values, 0, None)
        return (
            values
            if levels is None
            else np.round(values / values.max() * (levels - 1)) / (levels - 1)
        )

    C, D = judged(), judged()
    planted = rng.permutation(COLOURS)
    return Pair(C, D[np.ix_(planted, planted)], planted)


def _relabelled(seed: int, matrix: Callable[[int], Numbers]) -> Pair:
    """A matrix against itself with its atoms shuffled: the minimum is 0."""
    C = matrix(seed)
    planted = np.random.default_rng(seed).permutation(len(C))
    return Pair(C, C[np.ix_(planted, planted)], planted)


def paths(graph: nx.Graph) -> Numbers:
    """Shortest paths over edges of length 1.

    Nodes that no path joins are twice the diameter apart.
    """
    lengths = np.asarray(nx.floyd_warshall_numpy(graph, weight=None), float)
    return np.where(np.isinf(lengths), 2 * lengths[np.isfinite(lengths)].max(), lengths)


def _random_tree(seed: int) -> Numbers:
    return paths(nx.random_labeled_tree(60, seed=seed))


def _binary_tree(_: int) -> Numbers:
    return paths(nx.balanced_tree(2, 5))


def _cubic_graph(seed: int) -> Numbers:
    return paths(nx.random_regular_graph(3, 40, seed=seed))


def _hypercube(_: int) -> Numbers:
    return paths(nx.hypercube_graph(6))


def _block_model(seed: int) -> nx.Graph:
    return nx.stochastic_block_model(
        list(BLOCKS), np.where(np.eye(3) > 0, 0.5, 0.05), seed=seed
    )


def _block_model_paths(seed: int) -> Numbers:
    return paths(_block_model(seed))


def _block_model_adjacency(seed: int) -> Numbers:
    return np.asarray(nx.to_numpy_array(_block_model(seed)))


def _ellipse(count: int, ratio: float) -> Numbers:
    angle = 2 * np.pi * np.arange(count) / count
    return np.column_stack([ratio * np.cos(angle), np.sin(angle)])


def _grid(width: int, height: int) -> Numbers:
    return np.array([(i, j) for i in range(width) for j in range(height)], float)


def _stick_man() -> Numbers:
    """A spine, arms and two legs, equal left and right."""
    arms = [(i, 0) for i in range(-10, 11)]
    spine = [(0, j) for j in range(-10, 11) if j != 0]
    legs = [(side * 0.5 * k, -10 - k) for side in (1, -1) for k in range(1, 8)]
    return np.array(arms + spine + legs, float)


FAMILIES: dict[str, Callable[[int], Pair]] = {
    "isometric 2-D, noise .1": partial(_isometric, n=60, dimension=2, noise=0.1),
    "isometric 3-D, noise .1": partial(_isometric, n=60, dimension=3, noise=0.1),
    "isometric 10-D, noise .05": partial(_isometric, n=100, dimension=10, noise=0.05),
    "ellipse 1.3, noise .02": partial(_shape, points=_ellipse(48, 1.3), noise=0.02),
    "ring, noise .02": partial(_shape, points=_ellipse(48, 1.0), noise=0.02),
    "grid 10x6, noise .02": partial(_shape, points=_grid(10, 6), noise=0.02),
    "stick man, noise .02": partial(_shape, points=_stick_man(), noise=0.02),
    "4 clusters of 15": partial(_clusters, count=4, each=15),
    "6 clusters of 10": partial(_clusters, count=6, each=10),
    "random tree 60 relabelled": partial(_relabelled, matrix=_random_tree),
    "binary tree 63 relabelled": partial(_relabelled, matrix=_binary_tree),
    "3-regular 40 relabelled": partial(_relabelled, matrix=_cubic_graph),
    "hypercube 64 relabelled": partial(_relabelled, matrix=_hypercube),
    "block model paths relabelled": partial(_relabelled, matrix=_block_model_paths),
    "block model adjacency relabelled": partial(
        _relabelled, matrix=_block_model_adjacency
    ),
    "93 colours, noise .2": partial(_colours, noise=0.2),
    "93 colours, noise .3, 8 levels": partial(_colours, noise=0.3, levels=8),
}


def draw(family: str, seed: int) -> Pair:
    """Draw a pair; it depends on nothing but the arguments."""
    return FAMILIES[family](seed)
