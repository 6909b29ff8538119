"""Linear terms: what couplings can change, and what depends on one atom alone."""

import numpy as np
import pytest
from hypothesis import given

from gwtools.linear_terms import LinearTerm
from tests.fused_problems import fused_problems


def term(known):
    return LinearTerm(known.features, known.x.weights, known.y.weights)


@given(fused_problems(null=True))
def test_no_coupling_is_farther_from_the_product_coupling_than_the_size(known):
    found = term(known)
    product = np.outer(known.x.weights, known.y.weights)
    moved = float((known.features * (known.plan - product)).sum())
    assert abs(moved) <= found.size + 1e-13 * known.scale
    assert found.mean == pytest.approx(
        (known.features * product).sum(), abs=1e-13 * known.scale
    )


@given(fused_problems(null=True))
def test_couplings_do_not_see_what_centring_takes_away(known):
    found = term(known)
    on_coupling = float((found.centred * known.plan).sum()) + found.mean
    slack = 1e-13 * known.scale
    assert on_coupling == pytest.approx(
        float((known.features * known.plan).sum()), abs=slack
    )
    assert np.abs(found.centred @ known.y.weights).max() <= slack
    assert np.abs(known.x.weights @ found.centred).max() <= slack


def test_the_size_is_attained():
    """Costs −1 of pairs that must match, of uniform weights: the identity gains most.

    Centred they are −1 + 1/n there and 1/n elsewhere, of norm √(1/n − 1/n²).
    """
    n = 4
    found = LinearTerm(-np.eye(n), np.full(n, 1 / n), np.full(n, 1 / n))
    gain = 1 - 1 / n
    assert found.size == pytest.approx(gain, rel=1e-14)


@given(fused_problems())
def test_size_and_float_error_are_proportional_to_the_costs(known):
    small = term(known)
    large = LinearTerm(4.0**300 * small.costs, small.a, small.b)
    assert large.size == 4.0**300 * small.size
    assert large.float_error == 4.0**300 * small.float_error
