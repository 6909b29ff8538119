"""Arguments of bounds: raw arrays, powers, and values in the units of the spaces."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from tests.bounds.test_every_bound import NAMES, slack, value
from tests.strategies import (
    pairs,
)


@pytest.mark.parametrize("name", NAMES)
@given(st.sampled_from([1e150, 1e-150]), pairs(generic=True))
def test_bounds_scale(name, factor, pair):
    x, y = pair
    scaled = value(name, x.scaled(factor), y.scaled(factor))
    assert np.isfinite(scaled)
    assert scaled / factor / factor == pytest.approx(
        value(name, x, y), rel=1e-10, abs=slack(x, y)
    )


@given(pairs(kinds=("dense",), null=True))
def test_raw_arrays_are_dense_spaces(pair):
    C, D = (s.matrix for s in pair)
    for name in NAMES:
        bound = getattr(gw.bounds, name)
        assert float(bound(C, D)) == float(bound(gw.DenseSpace(C), gw.DenseSpace(D)))


@given(pairs(generic=True))
def test_p_must_be_at_least_one(pair):
    x, y = (s.space() for s in pair)
    for bound in (gw.bounds.row_means, gw.bounds.first):
        with pytest.raises(ValueError, match=r"p must be a finite number at least 1,"):
            bound(x, y, p=0.5)
