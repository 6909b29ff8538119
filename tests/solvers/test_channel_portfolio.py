"""Starts between directed spaces and of other losses: known answers of the search."""

import networkx as nx
import numpy as np
import pytest

import gwtools as gw
from gwtools.channel_problems import ChannelProblem
from gwtools.problems import GWProblem
from gwtools.solvers.channel_portfolio import CHANNEL_PARTS, copies, parts_of
from gwtools.solvers.portfolio import PARTS, Search
from tests import channel_problems


def digraph(seed, n=7):
    """Shortest paths in a random strongly connected digraph."""
    rng = np.random.default_rng(seed)
    lengths = np.where(rng.random((n, n)) < 0.3, rng.integers(1, 5, (n, n)), 0)
    lengths[np.arange(n), np.arange(1, n + 1) % n] = 1
    np.fill_diagonal(lengths, 0)
    return nx.from_numpy_array(lengths, create_using=nx.DiGraph)


@pytest.mark.parametrize("seed", range(4))
def test_relabelled_digraphs_have_distance_0(seed):
    graph = digraph(seed)
    rng = np.random.default_rng(seed)
    names = [int(name) for name in rng.permutation(len(graph))]
    other = nx.DiGraph()
    other.add_nodes_from(names)
    other.add_weighted_edges_from(graph.edges(data="weight"))
    x, y = (gw.GraphSpace(g, weight="weight", directed=True) for g in (graph, other))
    result = gw.solve(x, y)
    assert float(result.objective) == 0.0
    assert result.certificate.kind is gw.Kind.GLOBAL
    assert [i for i, j, share in result.matching()] == [*graph]
    for i, j, _ in result.matching():
        assert nx.shortest_path_length(
            graph, i, weight="weight"
        ) == nx.shortest_path_length(other, j, weight="weight")


def test_circuits_agree_with_their_rotations():
    circuit = nx.cycle_graph(7, create_using=nx.DiGraph)
    rotated = nx.relabel_nodes(circuit, {i: (i + 3) % 7 for i in range(7)})
    x, y = (gw.GraphSpace(g, directed=True) for g in (circuit, rotated))
    assert float(gw.solve(x, y).objective) == 0.0
    # And with their reversal, which is a copy as well.
    assert float(gw.solve(x, gw.DenseSpace(y.dense().T, directed=True)).objective) == 0


def test_a_tournament_is_no_copy_of_its_reversal():
    """One player beats all, and the others beat each other in a circle."""
    C = np.array([[0, 1, 1, 1], [0, 0, 1, 0], [0, 0, 0, 1], [0, 1, 0, 0.0]])
    x, y = (gw.DenseSpace(matrix, directed=True) for matrix in (C, C.T))
    result = gw.solve(x, y)
    best = channel_problems.best_permutation(C, C.T)
    assert 0.01 < float(result.objective) <= best + 1e-12
    assert 0.01 < result.certificate.lower <= float(result.objective)


@pytest.mark.parametrize("loss", ["square", "kl", "absolute"])
def test_search_is_at_most_the_best_bijection(loss):
    for seed in range(2):
        rng = np.random.default_rng(seed)
        C, D = rng.random((5, 5)) + 0.1, rng.random((5, 5)) + 0.1
        if loss == "absolute":
            D = np.round(4 * D)
        x, y = (gw.DenseSpace(matrix, directed=True) for matrix in (C, D))
        result = gw.solve(x, y, loss=loss)
        best = channel_problems.best_permutation(C, D, loss)
        assert float(result.objective) <= best * (1 + 1e-12)


def test_spaces_with_one_another_as_copies_are_found_for_all_losses():
    rng = np.random.default_rng(1)
    C = np.round(rng.random((8, 8)), 1) + 0.1
    order = rng.permutation(8)
    x = gw.DenseSpace(C, directed=True)
    y = gw.DenseSpace(C[np.ix_(order, order)], directed=True)
    for loss in ("square", "kl", "absolute"):
        result = gw.solve(x, y, loss=loss)
        assert float(result.objective) == 0.0
        assert result.starts[-1].name in ("product coupling", "exact copy")


def test_relabelled_tournaments_are_found_although_all_sums_of_both_ways_agree():
    rng = np.random.default_rng(2)
    wins = np.triu(rng.random((9, 9)) < 0.5, 1)
    C = np.where(np.tri(9, dtype=bool), ~wins.T, wins) * 1.0
    np.fill_diagonal(C, 0.0)
    assert np.array_equal(C + C.T, 1 - np.eye(9))
    order = rng.permutation(9)
    x = gw.DenseSpace(C, directed=True)
    y = gw.DenseSpace(C[np.ix_(order, order)], directed=True)
    problem = ChannelProblem(x, y)
    (found,) = copies(Search(problem, rng, gw.ConditionalGradient()))
    assert float(problem.objective(found.plan)) == 0.0
    mirrored = gw.DenseSpace(C.T[np.ix_(order, order)], directed=True)
    other = Search(ChannelProblem(x, mirrored), rng, gw.ConditionalGradient())
    assert list(copies(other)) == []


def test_other_problems_have_other_parts():
    x = gw.DenseSpace(1 - np.eye(3))
    assert parts_of(GWProblem(x, x)) is PARTS
    assert parts_of(ChannelProblem(x, x)) is CHANNEL_PARTS


def test_every_start_is_named_and_repeats():
    C, a, D, b, _ = channel_problems.drawn(8)
    x, y = channel_problems.spaces(C, a, D, b)
    first, second = gw.solve(x, y), gw.solve(x, y)
    assert np.array_equal(first.plan.dense(), second.plan.dense())
    names = [start.name for start in first.starts]
    assert names[:2] == ["product coupling", "single steps"]
