"""The sum of a bound of F and of the least linear term is rounded down."""

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from gwtools.bounds.float_error import UNIT
from gwtools.certify.linear_costs import LinearCosts
from gwtools.fused import Fused


def rounded_sum(share, plain, least):
    """The sum of both shares as a certificate rounds it down, and exactly."""
    known = SimpleNamespace(fused=Fused(None, share), least=least)
    exact = Fraction(share) * Fraction(plain) + (1 - Fraction(share)) * Fraction(least)
    return LinearCosts.at_least(known, plain), exact


def test_sums_of_both_shares_are_rounded_down():
    """Four roundings, of which each may go up."""
    rng = np.random.default_rng(0)
    for share, plain, least in zip(
        rng.random(500), rng.random(500), rng.standard_normal(500), strict=True
    ):
        lower, exact = rounded_sum(float(share), float(plain), float(least))
        size = Fraction(share * plain + (1 - share) * abs(least))
        assert exact - 16 * Fraction(UNIT) * size <= Fraction(lower) <= exact


@pytest.mark.parametrize("count", [1, 3, 5])
def test_shares_that_underflow_are_rounded_down(count):
    """Halves of odd multiples of the least number are no numbers."""
    lower, exact = rounded_sum(0.5, count * 5e-324, 0.0)
    assert Fraction(lower) <= exact
