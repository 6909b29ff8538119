"""Where descents begin: the space of most spread, other atoms, and random plans."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from gwtools.barycenter_starts import drawn, varied
from gwtools.block_descent import Task
from gwtools.spaces.dense import dense_space
from tests.libraries import EAGER
from tests.test_barycenter import clouds


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


@settings(max_examples=30)
@given(st.integers(0, 6), st.integers(1, 6), st.integers(0, 3))
def test_varied_starts_are_of_k_atoms_within_the_range_of_the_spaces(count, k, seed):
    whole = task(3, 5, 2, shares=(0.5, 0.3, 0.2), factors=(3.0, 2.0, 1.0), k=k)
    begins = varied(whole, count, seed)
    assert len(begins) == count
    for begin in begins:
        assert begin.distances.shape == (k, k)
        assert np.array_equal(begin.weights, whole.weights)
        assert 0.0 <= begin.distances.min() <= begin.distances.max() <= 3.0 + 1e-12
    again = varied(whole, count, seed)
    for begin, other in zip(begins, again, strict=True):
        assert np.array_equal(begin.distances, other.distances)


def test_half_of_the_varied_starts_are_over_atoms_of_the_other_spaces():
    whole = task(4, 4, 4, shares=(0.2, 0.5, 0.3))
    begins = varied(whole, 4, 0)
    found = [begin.distances for begin in begins]
    assert np.array_equal(found[0], whole.spaces[2].distances)
    assert np.array_equal(found[1], whole.spaces[0].distances)
    # The others mix atoms, each in its own way.
    assert not np.array_equal(found[2], found[3])
    assert not any(np.array_equal(found[2], s.distances) for s in whole.spaces)


@pytest.mark.parametrize("library", EAGER, ids=str)
def test_varied_starts_keep_the_library(library):
    whole = task(3, 4)
    made = [
        dense_space(
            library.array(s.distances),
            library.array(s.weights),
            library.array(s.weights[:, None]),
        )
        for s in whole.spaces
    ]
    here = replace(whole, spaces=tuple(made), weights=library.array(whole.weights))
    for begin in varied(here, 3, 0):
        assert library.owns(begin.distances)
        assert library.owns(begin.features)


def test_further_descents_end_no_higher_and_mostly_lower():
    lower = 0
    for seed in range(4):
        inputs, shares = clouds(seed, 3, least=5)
        ends = [
            gw.barycenter(
                inputs, shares, 5, solver=gw.ConditionalGradient(), starts=starts
            ).objective
            for starts in (0, 8)
        ]
        assert ends[1] <= ends[0] * (1 + 1e-6)
        lower += ends[1] < ends[0] * (1 - 1e-6)
    assert lower >= 2
