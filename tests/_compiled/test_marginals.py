"""Marginals of listed masses: sums of rows and columns beside given weights."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwtools._compiled.marginals import are_equal, missed
from tests.strategies import couplings, weights


@given(st.data(), st.floats(0, 1))
def test_how_far_masses_miss_weights(data, off):
    a, b = (data.draw(weights(data.draw(st.integers(1, 7)))) for _ in range(2))
    plan = data.draw(couplings(a, b))
    rows, cols = np.nonzero(plan)
    masses = plan[rows, cols]
    error, all_touched, all_positive = missed(rows, cols, masses, a, b)
    assert error == pytest.approx(0, abs=1e-15)
    assert all_touched
    assert all_positive
    b[0] += off
    error, _, _ = missed(rows, cols, masses, a, b)
    assert error == pytest.approx(off, abs=1e-15)
    masses[cols == 0] = 0.0
    assert missed(rows, cols, masses, a, b)[1:] == (False, False)


def test_a_mass_that_is_no_number_is_none_of_the_weights():
    places = np.arange(3)
    masses = np.array([0.5, np.nan, 0.25])
    error, _, _ = missed(places, places, masses, np.ones(3), np.ones(3))
    assert np.isnan(error)


def test_equal_numbers():
    assert are_equal(np.full(3, 0.1))
    assert are_equal(np.array([0.1]))
    assert not are_equal(np.array([0.1, 0.1, 0.2]))
