"""Free marginals: rounding onto them, and what a plan misses of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from gwtools.free_marginals import misses, rounded_free, with_read_weights
from tests import free_plans

KINDS = ["semi_relaxed", gw.Partial(0.4), gw.Partial(0.95)]


@pytest.mark.parametrize("marginals", KINDS, ids=str)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.sampled_from([0.0, 1e-4, 0.3]))
def test_theorem_22_rounding(marginals, seed, size):
    """It has the marginals, and moves at most twice the mass that is missed."""
    C, a, D, b, rng = free_plans.drawn(seed)
    x, y = gw.DenseSpace(C, a), gw.DenseSpace(D, b)
    plan = free_plans.random_plan(a, b, marginals, rng)
    off = plan * (1 + size * rng.standard_normal(plan.shape).clip(-1, 1))
    missed = misses(gw.DensePlan(off), x, y, marginals)
    rounded = rounded_free(off, x, y, marginals).dense()
    assert free_plans.plan_error(rounded, a, b, marginals) <= 1e-15 * 10
    assert np.abs(rounded - off).sum() <= 2 * missed + 1e-14
    assert misses(gw.DensePlan(rounded), x, y, marginals) <= 1e-14


def test_what_is_missed_is_counted_once():
    x = gw.as_space(1 - np.eye(2))
    plan = gw.DensePlan(np.array([[0.6, 0.0], [0.0, 0.1]]))
    assert misses(plan, x, x, "semi_relaxed") == pytest.approx(0.1 + 0.4)
    # 0.1 above in both marginals, and 0.2 too much in all.
    assert misses(plan, x, x, gw.Partial(0.5)) == pytest.approx(0.1 + 0.1 + 0.2)


def test_weights_are_uniform_where_they_are_not_read():
    y = gw.DenseSpace(1 - np.eye(2), weights=np.array([0.25, 0.75]))
    assert with_read_weights(y, gw.Partial(0.5)) is y
    assert np.array_equal(with_read_weights(y, "semi_relaxed").weights, [0.5, 0.5])
    uniform = gw.as_space(1 - np.eye(2))
    assert with_read_weights(uniform, "semi_relaxed") is uniform
