"""The program of a node: both paths against each other and against SciPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from gwtools._compiled.node_programs import node_program

PATHS = (True, False)  # compiled, where numba is installed, and in arrays


def drawn(seed, q, count, homogeneous=False):
    """Cuts that hold at some points, and a box around these."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((6, q + 1))
    if homogeneous:
        points[:, 0] = 0.0
    slopes = rng.standard_normal((count, q))
    values = points[:, :1] + points[:, 1:] @ slopes.T  # (6, K)
    heights = values.max(axis=0)
    return slopes, heights, points.min(axis=0), points.max(axis=0)


def value_of(slopes, heights, low, high):
    """The value of the program by SciPy."""
    middle = (low + high) / 2
    middle[0] = 1.0
    rows = np.concatenate([np.ones((len(slopes), 1)), slopes], axis=1)
    ends = list(zip(low, high, strict=True))
    found = linprog(-middle, rows, heights, bounds=ends)
    return -found.fun - low[1:] @ high[1:] / 2


def assert_proves_its_value(program, slopes, heights, low, high):
    """The point is feasible and attains the value that the weights prove.

    So both are best. What is violated by less than 1e-11 of the value counts as met.
    """
    middle = (low + high) / 2
    middle[0] = 1.0
    attained = middle @ program.point - low[1:] @ high[1:] / 2
    assert attained == pytest.approx(program.value, rel=1e-12, abs=1e-12)
    missed = program.point[0] + slopes @ program.point[1:] - heights
    assert missed.max() <= 1e-11 * (1 + abs(program.value))
    assert np.all(low <= program.point)
    assert np.all(program.point <= high)
    assert np.all(program.weights > 0)
    assert len(program.cuts) <= len(low)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**20),
    st.integers(1, 6),
    st.integers(1, 12),
    st.booleans(),
)
def test_both_paths_solve_the_program(seed, q, count, homogeneous):
    """Values agree to the last digits; a vertex may have bases of other cuts."""
    data = drawn(seed, q, count, homogeneous)
    one, other = (node_program(*data, -np.inf, use_numba=numba) for numba in PATHS)
    assert one.value == pytest.approx(other.value, rel=1e-12, abs=1e-12)
    for program in (one, other):
        assert_proves_its_value(program, *data)
    # HiGHS meets constraints to 1e-7 only, and its value is no nearer than that.
    assert one.value == pytest.approx(value_of(*data), abs=1e-8)


@pytest.mark.parametrize("numba", PATHS)
def test_it_stops_at_a_target_with_a_value_that_its_weights_prove(numba):
    slopes, heights, low, high = drawn(0, 4, 40)
    best = node_program(slopes, heights, low, high, -np.inf, use_numba=numba)
    early = node_program(slopes, heights, low, high, best.value + 1, use_numba=numba)
    assert best.value <= early.value <= best.value + 1


@pytest.mark.parametrize("numba", PATHS)
def test_a_box_of_one_point_is_solved(numba):
    slopes, heights, low, _ = drawn(1, 3, 5)
    program = node_program(slopes, heights, low, low.copy(), -np.inf, use_numba=numba)
    assert program.value <= low[0] + low[1:] @ low[1:] / 2 + 1e-12
