"""Block descent: the best matrix for given plans, and where descents begin."""

import math

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

import gwtools as gw
from gwtools.block_descent import Task, best_features, best_matrix, minimised
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


@settings(max_examples=30)
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
    middle = gw.barycenter([cycle, cycle], solver=Stuck(), alpha=alpha, starts=0)
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
