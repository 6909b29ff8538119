"""Lower ends of the linear term over plans with free marginals, in exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest

import gwtools as gw
from gwtools.certify.free_costs import FreeCosts
from gwtools.fused import Fused
from tests import free_plans


def drawn(seed, mass, share=0.25):
    C, a, D, b, rng = free_plans.drawn(seed)
    costs = rng.standard_normal((len(a), len(b))) + 10.0 ** rng.integers(0, 9)
    x, y = gw.DenseSpace(C, a), gw.DenseSpace(D, b)
    return FreeCosts(x, y, Fused(costs, share), 4.0, mass), costs, a, b


@pytest.mark.parametrize("seed", range(20))
def test_no_float_error_raises_the_least_costs_of_rows(seed):
    """Σ a_i min_j M_ij of the exactly normalised weights."""
    known, costs, a, _ = drawn(seed, None)
    weights = [Fraction(float(w)) for w in a]
    least = sum(
        w * Fraction(float(cost))
        for w, cost in zip(weights, costs.min(axis=1), strict=True)
    ) / sum(weights)
    assert Fraction(known.least) <= least
    assert known.least >= float(least) - 1e-12 * np.abs(costs).max()


@pytest.mark.parametrize("mass", [0.01, 0.5, 0.999])
@pytest.mark.parametrize("seed", range(4))
def test_the_least_costs_of_a_part_are_proved(seed, mass):
    known, costs, a, b = drawn(seed, mass)
    size = np.abs(costs).max()
    expected = size * free_plans.least_cost(costs / size, a, b, gw.Partial(mass))
    assert known.least <= expected + 1e-8 * size
    assert known.least >= expected - 1e-8 * size
    # What costs may be too large by is taken off.
    lowered = known.program_of(costs, np.full(costs.shape, 0.125))
    assert lowered == pytest.approx(known.least - 0.125 * mass, abs=1e-12 * size)


def test_a_price_above_all_costs_moves_all_mass():
    known, costs, _, _ = drawn(3, None)
    price = 4 * np.abs(costs).max()
    least = known.least_at_price(price)
    plan = gw.solve(known.x, known.y, features=costs, alpha=0).plan.dense()
    assert least == pytest.approx(0.75 * (costs * plan).sum(), rel=1e-12)
    # At a price of nearly nothing none is moved.
    assert known.least_at_price(1e-3) == pytest.approx(1e-3, rel=1e-9)
