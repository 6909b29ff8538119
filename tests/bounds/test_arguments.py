"""Arguments of bounds: raw arrays, powers, and values in the units of the spaces."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from tests.bounds.test_every_bound import NAMES, slack, value
from tests.strategies import pairs


@pytest.mark.parametrize("name", NAMES)
@given(st.sampled_from([1e150, 1e-150]), pairs(generic=True))
def test_bounds_scale(name, factor, pair):
    x, y = pair
    scaled = value(name, x.scaled(factor), y.scaled(factor))
    assert np.isfinite(scaled)
    # In two steps: the square of the factor leaves the range.
    found = scaled / factor / factor
    assert found == pytest.approx(value(name, x, y), rel=1e-10, abs=slack(x, y))


@pytest.mark.parametrize("name", NAMES)
@given(pairs(kinds=("dense",), null=True))
def test_raw_arrays_are_dense_spaces(name, pair):
    x, y = pair
    bound = getattr(gw.bounds, name)
    of_arrays = bound(x.matrix, y.matrix)
    of_spaces = bound(gw.DenseSpace(x.matrix), gw.DenseSpace(y.matrix))
    assert float(of_arrays) == float(of_spaces)


@pytest.mark.parametrize("bound", [gw.bounds.row_means, gw.bounds.first])
@given(pairs(generic=True))
def test_p_must_be_at_least_one(bound, pair):
    x, y = pair
    with pytest.raises(ValueError, match=r"p must be a finite number at least 1,"):
        bound(x.space(), y.space(), p=0.5)
