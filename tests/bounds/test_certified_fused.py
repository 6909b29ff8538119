"""Bounds of both terms by one linear program, rounded outward."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from gwtools.bounds import certified, certified_fused
from gwtools.bounds.certified import AffineMinorant, enclosed_parts
from tests import checkers
from tests.fused_problems import fused_problems


def program(*spaces):
    """What no coupling costs less than, of costs that may be too large."""
    x, y = map(enclosed_parts, spaces)
    return lambda costs, error: certified.linear_program(costs, x, y, error).lower


@given(fused_problems(shares=(0.1, 0.5, 0.9)), st.sampled_from([0.0, 1e-9, 1e-2]))
def test_the_bound_is_below_what_exact_parts_may_have(known, radius):
    """√F of the exact parts may be a radius below that of the minorant."""
    rng = np.random.default_rng(known.x.size)
    costs = rng.random(known.features.shape)
    minorant = AffineMinorant(0.5, costs, 0.0 * costs, radius)
    lower = certified_fused.joint(
        program(*known.spaces), minorant, known.features, known.alpha, size=1.0
    )
    stored = 0.5 + float((costs * known.plan).sum())
    least = max(stored**0.5 - radius, 0.0) ** 2
    linear = float((known.features * known.plan).sum())
    value = known.alpha * least + (1 - known.alpha) * linear
    assert lower <= value + 1e-13 * known.scale


@given(fused_problems(shares=(0.1, 0.5, 0.9)))
def test_without_a_radius_it_is_the_value_of_the_program(known):
    costs = np.abs(known.features) + 1.0
    minorant = AffineMinorant(0.25, costs, 0.0 * costs, 0.0)
    lower = certified_fused.joint(
        program(*known.spaces), minorant, known.features, known.alpha, size=1.0
    )
    both = known.alpha * costs + (1 - known.alpha) * known.features
    a, b = known.x.weights, known.y.weights
    expected = known.alpha * 0.25 + checkers.linear_program(both, a, b)
    assert lower == pytest.approx(expected, abs=1e-9 * max(known.scale, 1.0))


@given(fused_problems(shares=(0.5,)), st.sampled_from([0.0, 1e-300, 1.0, 1e300]))
def test_any_size_proves_something_true(known, size):
    """How large F is has no say in the proof."""
    costs = np.ones(known.features.shape)
    minorant = AffineMinorant(1.0, costs, 0.0 * costs, 1e-3)
    lower = certified_fused.joint(
        program(*known.spaces), minorant, known.features, known.alpha, size=size
    )
    linear = float((known.features * known.plan).sum())
    value = 0.5 * (2.0**0.5 - 1e-3) ** 2 + 0.5 * linear
    assert lower <= value + 1e-13 * known.scale


def test_costs_that_may_be_too_large_are_charged():
    of_both = program(gw.as_space(1 - np.eye(2)), gw.as_space(1 - np.eye(3)))
    costs, features = np.ones((2, 3)), np.zeros((2, 3))
    lowers = [
        certified_fused.joint(
            of_both, AffineMinorant(0.0, costs, error * costs, 0.0), features, 0.5, 1.0
        )
        for error in (0.0, 0.25)
    ]
    assert lowers[0] - lowers[1] == pytest.approx(0.125, rel=1e-12)
