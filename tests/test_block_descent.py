"""Block descent: the best matrix for given plans, and where descents begin."""

import math
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

import gwtools as gw
from gwtools.block_descent import (
    Task,
    best_features,
    best_matrix,
    drawn,
    minimised,
)
from gwtools.solvers import Outcome
from gwtools.spaces.dense import dense_space
from tests import checkers
from tests.strategies import couplings, spaces, values, weights


@given(st.data())
def test_no_matrix_is_better_for_given_plans_than_the_closed_form(data):
    inputs = data.draw(st.lists(spaces(most=4), min_size=1, max_size=3))
    shares = data.draw(weights(len(inputs)))
    p = data.draw(weights(3))
    plans = [data.draw(couplings(p, space.weights)) for space in inputs]
    B = best_matrix(
        [space.space() for space in inputs],
        list(shares),
        [gw.DensePlan(plan) for plan in plans],
        p,
    )

    def mean(matrix):
        return math.fsum(
            share * checkers.objective(matrix, space.matrix, plan)
            for share, space, plan in zip(shares, inputs, plans, strict=True)
        )

    # The mean is a paraboloid in the matrix: it rises by Σ p_i p_k (change_ik)².
    change = data.draw(values((3, 3), False))
    change = change + change.T
    rise = mean(B + change) - mean(B)
    scale = max(np.abs(space.matrix).max() for space in inputs) + np.abs(change).max()
    assert rise == pytest.approx(float(p @ change**2 @ p), abs=1e-12 * scale**2)


@given(st.data())
def test_no_features_are_better_for_given_plans_than_the_closed_form(data):
    """Plans of features cost a paraboloid, too: it rises by Σ p_i |change_i|²."""
    p = data.draw(weights(3))
    shares = data.draw(weights(2))
    others = [data.draw(weights(n)) for n in (4, 2)]
    features = [data.draw(values((len(a), 2), False)) for a in others]
    plans = [data.draw(couplings(p, a)) for a in others]
    made = [
        dense_space(np.eye(len(a)), a, of_atoms)
        for a, of_atoms in zip(others, features, strict=True)
    ]
    X = best_features(made, list(shares), [gw.DensePlan(plan) for plan in plans], p)

    def mean(candidate):
        costs = [cdist(candidate, of_atoms, "sqeuclidean") for of_atoms in features]
        terms = [(M * plan).sum() for M, plan in zip(costs, plans, strict=True)]
        return float(shares @ terms)

    change = data.draw(values((3, 2), False))
    scale = max(np.abs(each).max() for each in (*features, change)) ** 2
    expected = float(p @ (change**2).sum(axis=1))
    assert mean(X + change) - mean(X) == pytest.approx(expected, abs=1e-12 * scale)


def test_features_count_by_their_share_of_the_spread():
    """Matrices spread in the first space, features in the second."""
    wide, narrow = np.diag([0.0, 3.0, 0.0]), np.zeros((3, 3))
    column = np.array([[0.0], [1.0], [5.0]])
    equal = np.full(3, 1 / 3)
    first = dense_space(wide, equal, 0 * column)
    second = dense_space(narrow, equal, column)
    descent = gw.ConditionalGradient()
    for alpha, chosen in ((0.0, second), (0.5, second), (0.99, first), (1.0, first)):
        whole = Task((first, second), (0.5, 0.5), equal, None, descent, alpha)
        begin = drawn(whole, 0)
        assert np.array_equal(begin.distances, chosen.distances)
        assert np.array_equal(begin.features, chosen.features)


def task(*sizes, shares=None, factors=None, k=4):
    made = []
    for n, factor in zip(sizes, factors or (1.0,) * len(sizes), strict=True):
        line = np.linspace(0.0, 1.0, n)
        matrix = factor * np.abs(line[:, None] - line) + np.diag(np.arange(n) * 1e-5)
        made.append(dense_space(matrix, np.full(n, 1 / n)))
    equal = (1 / len(sizes),) * len(sizes)
    descent = gw.ConditionalGradient()
    return Task(tuple(made), shares or equal, np.full(k, 1 / k), None, descent)


def test_the_first_matrix_is_that_of_the_space_of_most_weight_and_spread():
    for chosen, made in (
        (2, task(4, 4, 4, shares=(0.2, 0.3, 0.5))),
        (1, task(4, 4, 4, factors=(1.0, 2.0, 0.0))),
        (1, task(4, 4, 4, factors=(0.0, 1.0, 1.0))),
        (0, task(4, 4, factors=(0.0, 0.0))),
    ):
        assert np.array_equal(drawn(made, 0).distances, made.spaces[chosen].distances)
    # Of equal spreads the largest space.
    twice = task(2, 4, factors=(1.0, 1.0))
    copies = np.repeat(np.arange(2), 2)
    larger = twice.spaces[0].distances[np.ix_(copies, copies)]
    pair = replace(
        twice, spaces=(twice.spaces[0], dense_space(larger, np.full(4, 0.25)))
    )
    assert np.array_equal(drawn(pair, 0).distances, larger)


def test_atoms_are_taken_as_often_as_they_fit_and_drawn_where_they_do_not():
    few = task(3, k=7)
    matrix = drawn(few, 0).distances
    assert np.array_equal(matrix[:3, :3], few.spaces[0].distances)
    assert np.array_equal(matrix[3:6, 3:6], few.spaces[0].distances)
    assert len(set(np.diag(drawn(task(6, k=4), 0).distances))) == 4


class Stuck(gw.Solver):
    """Ends where it begins, at the product coupling."""

    carries_features = True

    def run(self, problem, callback=None):
        product = np.outer(problem.x.weights, problem.y.weights)
        return Outcome(gw.DensePlan(product), gw.Status.STATIONARY)


@pytest.mark.parametrize("alpha", [None, 0.5])
def test_where_a_search_finds_nothing_one_start_leaves_the_saddle(alpha):
    """Between cycles the product coupling is stationary, and no minimum."""
    features = None if alpha is None else np.zeros((6, 1))
    cycle = gw.GraphSpace(nx.cycle_graph(6), features=features)
    middle = gw.barycenter([cycle, cycle], solver=Stuck(), alpha=alpha)
    assert middle.objective <= 1e-12
    assert np.array_equal(np.sort(middle.space.dense()), np.sort(cycle.dense()))


def test_the_lowest_of_the_descents_goes_on():
    rng = np.random.default_rng(1)
    made = []
    for n in (5, 6, 7):
        points = rng.standard_normal((n, 2))
        made.append(gw.DenseSpace(checkers.euclidean(points)))
    p = np.full(5, 0.2)
    one_start = gw.ConditionalGradient()
    whole = Task(tuple(made), (0.5, 0.25, 0.25), p, one_start, one_start)
    starts = []
    for _ in range(3):
        matrix = checkers.euclidean(rng.standard_normal((5, 2)))
        starts.append(dense_space(matrix, p))
    ends = []
    for begins in (starts[:1], starts[1:2], starts[2:], starts):
        state, status, steps = minimised(whole, begins, 100)
        assert status is gw.Status.STATIONARY
        assert state.objective == steps[-1].objective
        ends.append(state.objective)
    assert len(set(ends[:3])) == 3
    assert ends[3] == min(ends[:3])
