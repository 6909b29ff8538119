"""Starts that are bijections: exact copies, and the best of all permutations."""

import itertools

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings

import gwtools as gw
from gwtools.solvers import portfolio
from tests import checkers
from tests.solvers.test_portfolio import made, random_space, scale
from tests.strategies import permuted_copies


@settings(max_examples=60)
@given(pair=permuted_copies())
def test_exact_copies_have_objective_zero(pair):
    x, y = pair.x, pair.y
    (candidate,) = made("exact_copies", x.space(), y.space())
    plan = candidate.plan.dense()
    # Weights that are equal up to float error take each other's place.
    value = checkers.objective(x.matrix, y.matrix, plan)
    assert value <= 1e-24 * scale(x, y)
    assert np.count_nonzero(plan) == x.size


def test_spaces_of_unlike_norms_are_not_compared(monkeypatch):
    def compared(*_):
        raise AssertionError("a search was begun")

    monkeypatch.setattr(portfolio, "exact_copy", compared)
    x = random_space("euclidean", 6, 0)
    for y in (x.scaled(1.01), random_space("euclidean", 6, 1)):
        assert made("exact_copies", x.space(), y.space()) == []


def adjacency(graph):
    return nx.to_numpy_array(graph)


def two_triangles():
    return adjacency(nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(3)))


def shrikhande():
    """The strongly regular graph with the spectrum of a 4 × 4 rook's graph."""
    steps = {(1, 0), (0, 1), (1, 1), (3, 0), (0, 3), (3, 3)}
    places = list(itertools.product(range(4), repeat=2))
    return np.array(
        [
            [float(((a - c) % 4, (b - d) % 4) in steps) for c, d in places]
            for a, b in places
        ]
    )


def rook():
    return adjacency(nx.line_graph(nx.complete_bipartite_graph(4, 4)))


def test_regular_graphs_of_unlike_spectra_are_not_compared(monkeypatch):
    """Their moments are equal, and only eigenvalues tell that they are no copies."""
    compared = []

    def exact_copy(*arguments):
        compared.append(arguments)

    monkeypatch.setattr(portfolio, "exact_copy", exact_copy)
    hexagon = adjacency(nx.cycle_graph(6))
    x, y = gw.as_space(hexagon), gw.as_space(two_triangles())
    (alpha, left), (beta, right) = gw.GWProblem(x, y).norms
    assert (alpha, left) == pytest.approx((beta, right))
    assert made("exact_copies", x, y) == []
    assert compared == []
    # With equal spectra a bijection is looked for.
    order = np.random.default_rng(0).permutation(6)
    made("exact_copies", x, gw.as_space(hexagon[np.ix_(order, order)]))
    assert len(compared) == 1
    made("exact_copies", gw.as_space(rook()), gw.as_space(shrikhande()))
    assert len(compared) == 2


def test_equal_spectra_are_no_proof_of_a_copy():
    pair = gw.as_space(rook()), gw.as_space(shrikhande())
    spectra = [np.linalg.eigvalsh(space.dense()) for space in pair]
    np.testing.assert_allclose(*spectra, atol=1e-12)
    assert made("exact_copies", *pair) == []


@pytest.mark.parametrize("seed", range(4))
def test_permutations_are_the_best_bijections(seed):
    x = random_space("euclidean", 5, seed, uniform=True)
    y = random_space("dense", 5, seed + 20, uniform=True)
    for first, second in ((x, y), (x, random_space("euclidean", 5, seed + 9, True))):
        (candidate,) = made("permutations", first.space(), second.space())
        found = checkers.objective(first.matrix, second.matrix, candidate.plan.dense())
        best = checkers.best_permutation(first.matrix, second.matrix)
        assert found == pytest.approx(best, rel=1e-12)
        # Distances are of negative type: the objective is concave.
        assert candidate.optimal == (second.kind == "euclidean")


def test_permutations_need_equal_weights_and_few_atoms():
    for n, m, uniform in ((4, 4, False), (4, 5, True), (10, 10, True)):
        x = random_space("euclidean", n, 0, uniform)
        y = random_space("euclidean", m, 1, uniform)
        assert made("permutations", x.space(), y.space()) == []
