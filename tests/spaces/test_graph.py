"""Graphs as spaces: shortest paths against Floyd and Warshall, and refused graphs."""

import subprocess
import sys
from fractions import Fraction

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from tests import checkers
from tests.strategies import weights


def floyd_warshall(lengths):
    """All shortest paths, from direct lengths that are infinite where no edge is."""
    paths = lengths.copy()
    np.fill_diagonal(paths, 0.0)
    for k in range(len(paths)):
        paths = np.minimum(paths, paths[:, k, None] + paths[None, k, :])
    return paths


@st.composite
def graphs(draw, least=1, most=9):
    """Direct lengths (n, n) of a connected graph, and weights, some of them zero.

    Lengths are infinite where there is no edge.
    """
    n = draw(st.integers(least, most))
    lengths = np.full((n, n), np.inf)
    spanning = [(i, draw(st.integers(0, i - 1))) for i in range(1, n)]
    more = draw(
        st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=n)
    )
    for i, j in spanning + more:
        lengths[i, j] = lengths[j, i] = draw(st.sampled_from([0, 1, 2, 3, 7]))
    return lengths, draw(weights(n, null=True))


def sparse(lengths, kind=sp.coo_array, dtype=float):
    rows, cols = np.nonzero(np.isfinite(lengths))
    return kind((lengths[rows, cols].astype(dtype), (rows, cols)), shape=lengths.shape)


def ring(n):
    return nx.to_scipy_sparse_array(nx.cycle_graph(n), dtype=float)


@pytest.mark.parametrize("dtype", [float, np.float32, int, np.uint8])
@pytest.mark.parametrize(
    "kind", [sp.csr_array, sp.csc_matrix, sp.coo_array, sp.lil_array]
)
@given(st.data())
def test_lengths_are_those_of_floyd_and_warshall(kind, dtype, data):
    lengths, a = data.draw(graphs())
    if kind is sp.lil_array:
        lengths[lengths == 0] = 1  # which does not store zeros
        adjacency = sp.lil_array(sparse(lengths, dtype=dtype))
    else:
        adjacency = sparse(lengths, kind, dtype)
    space = gw.GraphSpace(adjacency, a)
    assert space.weights.dtype == space.dense().dtype == np.float64
    assert space.nodes == tuple(range(len(a)))
    assert np.array_equal(space.dense(), floyd_warshall(lengths))


@given(graphs(least=2), st.data())
def test_a_graph_is_the_dense_space_of_its_paths(graph, data):
    lengths, a = graph
    C = floyd_warshall(lengths)
    space, dense = gw.GraphSpace(sparse(lengths), a), gw.DenseSpace(C, a)
    start = data.draw(st.integers(0, len(a) - 1))
    stop = data.draw(st.integers(start + 1, len(a)))
    assert np.array_equal(space.rows(start, stop), C[start:stop])
    assert C.max() <= space.largest() <= 2 * C.max()
    for name in ("row_means", "deviations", "mean"):
        assert np.array_equal(getattr(space, name), getattr(dense, name))
    assert np.array_equal(space.residual().dense(), dense.residual().dense())
    assert np.array_equal(space.power_means(2.0), dense.power_means(2.0))
    assert np.array_equal(space.scaled(16.0).dense(), 16 * C)
    assert space.sign == 0
    assert space.low_rank is None


@given(graphs(least=2), st.data())
def test_restricted_nodes_keep_the_paths_of_the_whole_graph(graph, data):
    lengths, a = graph
    index = np.array(data.draw(st.lists(st.integers(0, len(a) - 1), min_size=1)))
    space = gw.GraphSpace(sparse(lengths), a)
    part = space.restrict(index)
    expected = floyd_warshall(lengths)[np.ix_(index, index)]
    assert np.array_equal(part.dense(), expected)
    assert np.array_equal(part.rows(0, len(index)), expected)
    assert np.array_equal(part.weights, space.weights[index])
    assert part.nodes == tuple(index)
    assert np.array_equal(part.restrict(np.array([0, 0])).dense(), np.zeros((2, 2)))
    assert np.array_equal(part.scaled(4.0).dense(), 4 * expected)


def test_blocks_of_rows_are_computed_on_the_fly_and_kept_only_by_dense(monkeypatch):
    monkeypatch.setattr("gwtools.spaces.base.BLOCK_ENTRIES", 20)
    space, whole = gw.GraphSpace(ring(9)), nx.floyd_warshall_numpy(nx.cycle_graph(9))
    assert np.array_equal(
        np.concatenate([space.rows(i, j) for i, j in space.blocks()]), whole
    )
    assert np.array_equal(space.row_means, whole.mean(0))
    assert "matrix" not in vars(space._paths)
    assert np.array_equal(space.dense(), whole)
    assert space.dense() is space.dense()
    assert space.restrict(np.arange(3))._paths is space._paths


def test_a_path_has_known_distances():
    n = 6
    space = gw.GraphSpace(nx.path_graph(n))
    i = np.arange(n)
    assert np.array_equal(space.dense(), np.abs(i[:, None] - i))
    line = gw.PointCloud(i[:, None].astype(float))
    assert float(gw.solve(space, line).objective) == pytest.approx(0.0, abs=1e-12)


def test_networkx_nodes_keep_their_order_and_edges_their_lengths():
    graph = nx.Graph()
    graph.add_nodes_from("dcba")
    graph.add_weighted_edges_from([("a", "b", 2), ("b", "c", 0.5)])
    graph.add_edge("c", "d", weight=1)
    space = gw.GraphSpace(graph, weight="weight")
    assert space.nodes == ("d", "c", "b", "a")
    assert space.dense()[0].tolist() == [0.0, 1.0, 1.5, 3.5]
    assert space.restrict(np.array([3, 0])).nodes == ("a", "d")


def test_of_parallel_edges_the_shortest_counts():
    graph = nx.MultiGraph()
    graph.add_weighted_edges_from([(0, 1, 5), (1, 0, 2), (0, 1, 3), (0, 0, 1)])
    assert gw.GraphSpace(graph, weight="weight").dense().tolist() == [
        [0.0, 2.0],
        [2.0, 0.0],
    ]


@pytest.mark.parametrize(
    "name", ["karate_club", "les_miserables", "davis_southern_women"]
)
def test_classic_graphs(name):
    graph = getattr(nx, f"{name}_graph")()
    space = (
        gw.GraphSpace(graph)
        if name.startswith("davis")
        else gw.GraphSpace(graph, weight="weight")
    )
    assert space.nodes == tuple(graph)
    assert np.array_equal(space.dense(), nx.floyd_warshall_numpy(graph))
    assert np.array_equal(
        gw.GraphSpace(nx.to_scipy_sparse_array(graph)).dense(), space.dense()
    )


@pytest.mark.parametrize("effort", ["linear", "quadratic", "cubic"])
def test_solve_and_certify(effort):
    x, y = (
        gw.GraphSpace(nx.karate_club_graph(), weight="weight"),
        gw.GraphSpace(nx.davis_southern_women_graph()),
    )
    result = gw.solve(x, y, effort=effort)
    C, D = x.dense(), y.dense()
    found = checkers.objective(C, D, result.plan.dense())
    assert float(result.objective) == pytest.approx(found, rel=1e-12)
    assert result.certificate.lower <= found <= result.certificate.upper
    dense = gw.certify(gw.DenseSpace(C), gw.DenseSpace(D), result.plan, effort)
    assert result.certificate.bounds == pytest.approx(dense.bounds, rel=1e-9)


def test_zero_weight_nodes_still_carry_paths():
    a = np.array([0.5, 0.0, 0.0, 0.5])
    result = gw.solve(
        gw.GraphSpace(nx.path_graph(4), a), np.array([[0.0, 3.0], [3.0, 0.0]])
    )
    assert float(result.objective) == 0.0
    assert result.plan.shape == (4, 2)


@pytest.mark.parametrize("effort", ["linear", "cubic"])
def test_certificates_allow_for_the_rounding_of_long_paths(effort):
    """Float errors of long sums count where only the ends of a path have weight.

    A thousand edges of length 0.1 are off by far more than an ulp.
    """
    n = 1001
    a = np.array([0.5, *np.zeros(n - 2), 0.5])
    x = gw.GraphSpace(
        sp.diags_array([np.full(n - 1, 0.1)] * 2, offsets=[-1, 1]).tocsr(), a
    )
    exact = (n - 1) * Fraction(0.1)
    assert abs(x.restrict(np.array([0, n - 1])).dense()[0, 1] - float(exact)) > 1e-12
    y = np.array([[0.0, float(exact)], [float(exact), 0.0]])
    certificate = gw.certify(x, y, effort=effort)
    assert (
        Fraction(certificate.lower)
        <= (exact - Fraction(float(exact))) ** 2 / 2
        <= Fraction(certificate.upper)
    )


def test_a_permuted_graph_is_at_distance_zero(rng):
    graph = nx.karate_club_graph()
    order = rng.permutation(len(graph))
    a = rng.dirichlet(np.ones(len(graph)))
    moved = nx.relabel_nodes(graph, dict(enumerate(np.argsort(order).tolist())))
    moved = nx.to_scipy_sparse_array(moved, nodelist=range(len(graph)))
    x, y = gw.GraphSpace(graph, a, weight="weight"), gw.GraphSpace(moved, a[order])
    plan = np.zeros((len(a), len(a)))
    plan[order, np.arange(len(a))] = a[order]
    certificate = gw.certify(x, y, plan)
    assert certificate.kind is gw.Kind.GLOBAL
    assert certificate.upper <= 1e-8
    assert float(gw.solve(x, y).objective) <= 1e-12


@pytest.mark.parametrize(
    "one", [nx.empty_graph(1), sp.csr_array((1, 1)), sp.coo_array((1, 1), dtype=int)]
)
def test_a_single_node(one):
    space = gw.GraphSpace(one)
    assert space.dense().tolist() == [[0.0]]
    assert float(gw.solve(space, np.array([[2.0]])).objective) == 4.0


def test_the_given_matrix_is_copied_not_kept():
    adjacency = ring(5)
    space = gw.GraphSpace(adjacency)
    adjacency.data[:] = -1
    assert space.dense().max() == 2
    assert np.all(adjacency.data == -1)


def test_repeated_entries_add_up_as_in_scipy():
    doubled = sp.coo_array(
        (np.array([1, 2, 3]), (np.array([0, 0, 1]), np.array([1, 1, 0]))), shape=(2, 2)
    )
    assert gw.GraphSpace(doubled).dense()[0, 1] == 3


def sparse_matrix(rows):
    return sp.csr_array(np.array(rows))


@pytest.mark.parametrize(
    ("adjacency", "kind", "message"),
    [
        (
            np.eye(2),
            TypeError,
            "must be a scipy.sparse matrix or a networkx graph, "
            "but is of type ndarray: convert",
        ),
        (nx.DiGraph([(0, 1)]), ValueError, r"undirected.*pass graph.to_undirected\(\)"),
        (nx.Graph(), ValueError, "at least one node"),
        (sp.csr_array((2, 3)), ValueError, r"square.*\(2, 3\)"),
        (sp.csr_array((0, 0)), ValueError, r"square.*\(0, 0\)"),
        (
            sparse_matrix([[0, 1], [1, 0]]).astype(complex),
            TypeError,
            "real numbers, but has dtype complex128",
        ),
        (
            sparse_matrix([[0.0, 1], [0, 0]]),
            ValueError,
            r"symmetric.*pass adjacency.maximum\(adjacency.T\)",
        ),
        (sparse_matrix([[0.0, 1e-20], [2e-20, 0]]), ValueError, "symmetric"),
        (
            sparse_matrix([[0, -2], [-2, 0]]),
            ValueError,
            "non-negative edge lengths, but the smallest is -2",
        ),
        (
            sparse_matrix([[0, np.inf], [np.inf, 0]]),
            ValueError,
            "adjacency must be finite",
        ),
        (
            nx.Graph([(0, 1, {"weight": float("nan")})]),
            ValueError,
            "adjacency must be finite",
        ),
    ],
)
def test_bad_graphs_are_refused_with_the_remedy(adjacency, kind, message):
    with pytest.raises(kind, match=message):
        gw.GraphSpace(adjacency)


def test_unreachable_nodes_are_refused_by_component():
    graph = nx.Graph([("a", "b"), ("c", "d"), ("d", "e")])
    with pytest.raises(
        ValueError,
        match=r"2 components \(3 nodes, one is 'c'; 2 nodes, one is 'a'\): pass",
    ):
        gw.GraphSpace(graph)
    with pytest.raises(ValueError, match=r"has 8 components .*; …"):
        gw.GraphSpace(sp.csr_array((8, 8)))


def test_weights_are_checked():
    with pytest.raises(ValueError, match="one entry for each of the 3 atoms"):
        gw.GraphSpace(nx.path_graph(3), np.ones(2) / 2)
    with pytest.raises(TypeError, match="dtype"):
        gw.GraphSpace(nx.path_graph(2), np.full(2, 0.5, dtype=np.float32))


def test_networkx_is_not_imported():
    use = (
        "import sys, scipy.sparse, gwtools as gw; "
        "gw.GraphSpace(scipy.sparse.csr_array((1, 1)))"
    )
    code = f"{use}; print('networkx' in sys.modules)"
    environment = {
        f"POT_BACKEND_DISABLE_{name}": "1"
        for name in ("PYTORCH", "JAX", "TENSORFLOW", "CUPY")
    }
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert found.stdout.strip() == "False"


def strengths(*values):
    """A path whose edges have these attributes "weight"."""
    return nx.Graph([(i, i + 1, {"weight": value}) for i, value in enumerate(values)])


@pytest.mark.parametrize("name", ["karate_club", "les_miserables"])
def test_unlike_attributes_that_nobody_asked_for_warn(name):
    graph = getattr(nx, f"{name}_graph")()
    with pytest.warns(
        UserWarning,
        match=r"read as the length of an edge: .*weight=None .*weight='length'",
    ) as warned:
        space = gw.GraphSpace(graph)
    assert [entry.filename for entry in warned] == [__file__]
    assert np.array_equal(space.dense(), gw.GraphSpace(graph, weight="weight").dense())


@pytest.mark.parametrize(
    "graph", [nx.path_graph(4), strengths(2, 2, 2), strengths(1), nx.empty_graph(1)]
)
def test_equal_or_missing_attributes_do_not_warn(graph):
    lengths = [data.get("weight", 1) for _, _, data in graph.edges(data=True)]
    assert gw.GraphSpace(graph).dense()[0, -1] == sum(lengths)


@pytest.mark.parametrize("kind", [nx.Graph, nx.MultiGraph])
def test_the_attribute_of_lengths_is_named(kind):
    graph = kind(strengths(2, 4))
    for _, _, data in graph.edges(data=True):
        data["length"] = 1 / data["weight"]
    assert gw.GraphSpace(graph, weight="length").dense()[0].tolist() == [0.0, 0.5, 0.75]
    assert gw.GraphSpace(graph, weight="weight").dense()[0].tolist() == [0.0, 2.0, 6.0]
    assert gw.GraphSpace(graph, weight=None).dense()[0].tolist() == [0.0, 1.0, 2.0]


def test_without_an_attribute_every_edge_of_a_sparse_matrix_has_length_one():
    lengths = sparse_matrix([[0, 2.0, 0], [2.0, 0, 5.0], [0, 5.0, 0]])
    assert gw.GraphSpace(lengths, weight=None).dense()[0].tolist() == [0.0, 1.0, 2.0]
    assert lengths.max() == 5.0
    with pytest.raises(
        ValueError,
        match=r"weight must be left out or None for a sparse matrix.*"
        "but is 'weight': name",
    ):
        gw.GraphSpace(lengths, weight="weight")


@pytest.mark.parametrize("weight", ["weight", "length"])
def test_an_attribute_that_was_asked_for_must_be_on_every_edge(weight):
    with pytest.raises(
        ValueError,
        match=f"attribute '{weight}' on every edge, "
        "but 3 of 3 edges lack it: .*weight=None",
    ):
        gw.GraphSpace(nx.path_graph(4), weight=weight)


@pytest.mark.parametrize("value", ["2", None, 1j, [1]])
def test_lengths_must_be_real_numbers(value):
    with pytest.raises((TypeError, ValueError), match="adjacency must have"):
        gw.GraphSpace(strengths(1.0, value))


@given(data=st.data())
def test_directed_rows_are_the_paths_of_floyd_and_warshall(data):
    """Of a ring with more edges, from i to k in row i."""
    lengths, a = data.draw(graphs(least=2))
    n = len(lengths)
    towards = np.where(np.tri(n, dtype=bool), np.inf, lengths)
    towards[np.arange(n), np.arange(1, n + 1) % n] = 2.0
    rows, cols = np.nonzero(np.isfinite(towards))
    adjacency = sp.coo_array((towards[rows, cols], (rows, cols)), shape=(n, n))
    space = gw.GraphSpace(adjacency, a, directed=True)
    expected = floyd_warshall(towards)
    assert np.array_equal(space.dense(), expected)
    assert np.array_equal(space.rows(1, n), expected[1:])
    assert space.largest() == expected.max()
    index = np.arange(n)[::-1]
    assert np.array_equal(space.restrict(index).dense(), expected[::-1, ::-1])
    assert np.array_equal(space.scaled(4.0).dense(), 4 * expected)
    other = nx.DiGraph()
    other.add_nodes_from(range(n))
    for i, k in zip(rows.tolist(), cols.tolist(), strict=True):
        other.add_edge(i, k, length=float(towards[i, k]))
    by_name = gw.GraphSpace(other, weight="length", directed=True)
    assert np.array_equal(by_name.dense(), expected)
