"""Block descent: the best matrix for given plans, and where descents begin."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from gwtools.block_descent import Task, best_matrix, drawn, minimised
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
        assert np.array_equal(drawn(made, 0), made.spaces[chosen].distances)
    # Of equal spreads the largest space.
    twice = task(2, 4, factors=(1.0, 1.0))
    copies = np.repeat(np.arange(2), 2)
    larger = twice.spaces[0].distances[np.ix_(copies, copies)]
    pair = replace(
        twice, spaces=(twice.spaces[0], dense_space(larger, np.full(4, 0.25)))
    )
    assert np.array_equal(drawn(pair, 0), larger)


def test_atoms_are_taken_as_often_as_they_fit_and_drawn_where_they_do_not():
    few = task(3, k=7)
    matrix = drawn(few, 0)
    assert np.array_equal(matrix[:3, :3], few.spaces[0].distances)
    assert np.array_equal(matrix[3:6, 3:6], few.spaces[0].distances)
    assert len(set(np.diag(drawn(task(6, k=4), 0)))) == 4


def test_the_lowest_of_the_descents_goes_on():
    rng = np.random.default_rng(1)
    made = []
    for n in (5, 6, 7):
        points = rng.standard_normal((n, 2))
        made.append(gw.DenseSpace(checkers.euclidean(points)))
    p = np.full(5, 0.2)
    one_start = gw.ConditionalGradient()
    whole = Task(tuple(made), (0.5, 0.25, 0.25), p, one_start, one_start)
    starts = [checkers.euclidean(rng.standard_normal((5, 2))) for _ in range(3)]
    ends = []
    for matrices in (starts[:1], starts[1:2], starts[2:], starts):
        state, status, steps = minimised(whole, matrices, 100)
        assert status is gw.Status.STATIONARY
        assert state.objective == steps[-1].objective
        ends.append(state.objective)
    assert len(set(ends[:3])) == 3
    assert ends[3] == min(ends[:3])
