"""Exact copies: found where there are any, and nothing that is no copy is returned."""

import itertools

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from gwtools.solvers import exact_copies
from gwtools.solvers.exact_copies import exact_copy
from gwtools.transport.local_distributions import centred
from tests.strategies import orders, pairs, permuted_copies

TOLERANCE = 1000 * np.finfo(float).eps


def copy_of(C, a, D, b, tolerance=TOLERANCE):
    x = centred(gw.DenseSpace(np.asarray(C, dtype=float), a))
    y = centred(gw.DenseSpace(np.asarray(D, dtype=float), b))
    return exact_copy(x, y, tolerance)


def relabelled(C, a=None, seed=0):
    """A copy, whose atom j is the atom order[j]."""
    order = np.random.default_rng(seed).permutation(len(C))
    return C[np.ix_(order, order)], None if a is None else a[order]


def preserves(images, C, a, D, b, tolerance=TOLERANCE):
    """Whether the images are a bijection that keeps all values and weights."""
    assert sorted(images) == list(range(len(C)))
    D, b = D[np.ix_(images, images)], b[images]
    values = np.abs(C - D).max() <= tolerance * np.abs(C).max()
    return bool(values and np.abs(a - b).max() <= tolerance * a.max())


def uniform(n):
    return np.full(n, 1 / n)


def found(C, a=None, seed=0, tolerance=TOLERANCE):
    C = np.asarray(C, dtype=float)
    D, b = relabelled(C, a, seed)
    images = copy_of(C, a, D, b, tolerance)
    a, b = (uniform(len(C)) if w is None else w for w in (a, b))
    return images is not None and preserves(images, C, a, D, b, tolerance)


def adjacency(graph):
    return nx.to_numpy_array(graph)


def paths(graph):
    return np.asarray(nx.floyd_warshall_numpy(graph, weight=None))


def rook(n):
    return nx.line_graph(nx.complete_bipartite_graph(n, n))


def shrikhande():
    nodes = [(i, j) for i in range(4) for j in range(4)]
    graph = nx.Graph()
    for i, j in nodes:
        for s, t in ((0, 1), (1, 0), (1, 1)):
            graph.add_edge((i, j), ((i + s) % 4, (j + t) % 4))
    return graph


GRAPHS = {
    "one atom": nx.empty_graph(1),
    "two atoms": nx.path_graph(2),
    "cycle": nx.cycle_graph(17),
    "complete": nx.complete_graph(9),
    "hypercube": nx.hypercube_graph(5),
    "Petersen": nx.petersen_graph(),
    "dodecahedron": nx.dodecahedral_graph(),
    "torus": nx.grid_2d_graph(4, 5, periodic=True),
    "rook": rook(5),
    "Shrikhande": shrikhande(),
    "binary tree": nx.balanced_tree(2, 4),
    "random tree": nx.random_labeled_tree(30, seed=2),
    "cubic": nx.random_regular_graph(3, 24, seed=3),
    "triangles": nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(3)),
    "no symmetry": nx.frucht_graph(),
}


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("seed", range(3))
def test_relabelled_graphs(name, seed):
    graph = GRAPHS[name]
    assert found(adjacency(graph), seed=seed)
    if nx.is_connected(graph):
        assert found(paths(graph), seed=seed)


# Same sizes, and the same values equally often in every row, or the same spectrum.
NO_COPIES = {
    "strongly regular": (shrikhande(), rook(4)),
    "triangles and hexagon": (GRAPHS["triangles"], nx.cycle_graph(6)),
    "cospectral": (
        nx.star_graph(4),
        nx.disjoint_union(nx.cycle_graph(4), nx.empty_graph(1)),
    ),
    "cubic": (nx.complete_bipartite_graph(3, 3), nx.circular_ladder_graph(3)),
    "one edge less": (nx.cycle_graph(6), nx.path_graph(6)),
    "other size": (nx.cycle_graph(6), nx.cycle_graph(7)),
    "cubic of ten": (nx.petersen_graph(), nx.circular_ladder_graph(5)),
}


@pytest.mark.parametrize("name", NO_COPIES)
@pytest.mark.parametrize("seed", range(3))
def test_graphs_that_are_no_copies(name, seed):
    first, second = (adjacency(graph) for graph in NO_COPIES[name])
    second, _ = relabelled(second, seed=seed)
    assert copy_of(first, None, second, None) is None
    assert copy_of(second, None, first, None) is None


def test_cospectral_graphs_have_one_spectrum():
    first, second = (adjacency(graph) for graph in NO_COPIES["cospectral"])
    spectra = [np.linalg.eigvalsh(C) for C in (first, second)]
    np.testing.assert_allclose(*spectra, atol=1e-12)


def test_the_atlas():
    """Graphs of six nodes: a copy is found exactly where networkx finds one."""
    graphs = [graph for graph in nx.graph_atlas_g() if len(graph) == 6]
    rng = np.random.default_rng(0)
    counts = {True: 0, False: 0}
    by_degrees = {}
    for graph in graphs:
        degrees = tuple(sorted(degree for _, degree in graph.degree))
        by_degrees.setdefault(degrees, []).append(graph)
    for alike in by_degrees.values():
        for first in alike[:2]:
            for second in alike[:3]:
                order = rng.permutation(6)
                C = adjacency(first)
                D = adjacency(second)[np.ix_(order, order)]
                images = copy_of(C, None, D, None)
                isomorphic = nx.is_isomorphic(first, second)
                assert (images is not None) == isomorphic
                counts[isomorphic] += 1
                if images is not None:
                    assert preserves(images, C, uniform(6), D, uniform(6))
    assert min(counts.values()) > 20


@settings(max_examples=100)
@given(pair=permuted_copies())
def test_copies_of_weighted_spaces(pair):
    """Ties, twins, negative values, one atom; of every kind, weights unequal."""
    arguments = pair.x.matrix, pair.x.weights, pair.y.matrix, pair.y.weights
    images = copy_of(*arguments)
    assert images is not None
    assert preserves(images, *arguments)


@settings(max_examples=60)
@given(pairs(most=4), st.data())
def test_no_bijection_that_keeps_no_values_is_returned(pair, data):
    """Spaces of one distribution of values, mostly of no copies."""
    x, _ = pair
    n = x.size
    # The values above the diagonal, and those on it, in another order.
    rows, cols = np.triu_indices(n, 1)
    values = x.matrix[rows, cols]
    moved = data.draw(orders(len(values)))
    D = np.diag(np.diag(x.matrix)[data.draw(orders(n))])
    D[rows, cols] = D[cols, rows] = values[moved]
    b = x.weights[data.draw(orders(n))]
    images = copy_of(x.matrix, x.weights, D, b)
    if images is not None:
        C = (x.matrix + x.matrix.T) / 2
        assert preserves(images, C, x.weights, D, b)
    brute = any(
        preserves(np.array(other), x.matrix, x.weights, D, b)
        for other in itertools.permutations(range(n))
    )
    assert (images is not None) == brute


def test_weights_break_a_symmetry():
    C = paths(nx.cycle_graph(8))
    a = np.array([1, 1, 1, 2, 1, 1, 3, 1]) / 11
    assert found(C, a)
    # A reflection of the cycle, and one that no symmetry leads to.
    assert copy_of(C, a, C, a[::-1].copy()) is not None
    assert copy_of(C, a, C, a[[0, 1, 2, 3, 4, 6, 5, 7]]) is None


def test_equal_matrices_with_weights_at_other_atoms():
    C = paths(nx.path_graph(5))
    a = np.array([2, 1, 1, 1, 1]) / 6
    assert copy_of(C, a, C, a[::-1].copy()) is not None
    assert copy_of(C, a, C, a[[1, 0, 2, 3, 4]]) is None
    assert copy_of(C, a, C, np.array([2, 2, 1, 1, 1]) / 7) is None


def test_own_values_count():
    C, D = np.ones((3, 3)), np.ones((3, 3))
    C[0, 0], D[2, 2] = 5.0, 5.0
    assert copy_of(C, None, D, None).tolist()[0] == 2
    D[2, 2], D[0, 1], D[1, 0] = 1.0, 5.0, 5.0
    assert copy_of(C, None, D, None) is None


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_rotated_clouds_have_equal_values_up_to_float_error(dimension):
    rng = np.random.default_rng(dimension)
    points = rng.standard_normal((40, dimension))
    # Twins, which any order suits.
    points[5], points[17] = points[3], points[3]
    rotation = np.linalg.qr(rng.standard_normal((dimension, dimension)))[0]
    order = rng.permutation(40)
    a = rng.choice([1.0, 2.0, 3.0], 40)
    a /= a.sum()
    x = gw.PointCloud(points, a)
    y = gw.PointCloud((points @ rotation + 3.0)[order], a[order])
    assert not np.array_equal(np.sort(x.dense().ravel()), np.sort(y.dense().ravel()))
    images = exact_copy(centred(x), centred(y), TOLERANCE)
    assert preserves(images, x.dense(), a, y.dense(), a[order])


@pytest.mark.parametrize("scale", [1e-100, 1.0, 1e100])
def test_the_tolerance_is_a_share_of_the_largest_value(scale):
    rng = np.random.default_rng(4)
    C = rng.random((8, 8)) * scale
    C = C + C.T
    D, _ = relabelled(C)
    noise = np.triu(rng.uniform(-1, 1, (8, 8)), 1) * C.max()
    noise = noise + noise.T
    assert copy_of(C, None, D + 0.1 * TOLERANCE * noise, None) is not None
    assert copy_of(C, None, D + 100 * TOLERANCE * noise, None) is None


def test_a_chain_of_nearly_equal_values_is_no_copy():
    """Each value is equal to the next, the first not to the last."""
    step = 0.5 * TOLERANCE
    rows, cols = np.triu_indices(12, 1)
    C = np.zeros((12, 12))
    chain = 1 - step * np.arange(len(rows))
    C[rows, cols] = C[cols, rows] = chain
    D = np.zeros_like(C)
    D[rows, cols] = D[cols, rows] = np.random.default_rng(0).permutation(chain)
    assert copy_of(C, None, D, None) is None


@pytest.mark.parametrize("tolerance", [TOLERANCE, 1e-4])
def test_a_chain_of_nearly_equal_weights_keeps_weights(tolerance):
    """Weights that are each equal to the next, against the same ones elsewhere."""
    C = paths(nx.cycle_graph(40))
    a = 1 + 0.9 * tolerance * np.random.default_rng(0).permutation(40)
    a /= a.sum()
    for seed in range(5):
        D, b = relabelled(C, a, seed)
        images = copy_of(C, a, D, b, tolerance)
        assert images is None or np.abs(a - b[images]).sum() <= tolerance


def test_constant_and_zero_matrices():
    for value in (0.0, 2.0, -1.0):
        C = np.full((4, 4), value)
        assert copy_of(C, None, C, None) is not None
        assert copy_of(C, None, C + 1, None) is None
    assert copy_of(np.zeros((1, 1)), None, np.zeros((2, 2)), None) is None


def test_the_search_gives_up(monkeypatch):
    """Where symmetries do not exchange all atoms, partners are tried one by one."""
    assert found(adjacency(GRAPHS["cubic"]))
    monkeypatch.setattr(exact_copies, "_greedy", lambda _: None)
    assert found(adjacency(GRAPHS["cubic"]), seed=1)
    assert found(adjacency(rook(4)))
    monkeypatch.setattr(exact_copies, "_MOST_REFINEMENTS", 1)
    assert not found(adjacency(rook(4)))
