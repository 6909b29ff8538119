"""Losses as sums of products of functions."""

import numpy as np
import pytest

from gwtools.losses import SQUARE, Absolute, KullbackLeibler, levels
from tests import channel_problems

GRID = np.linspace(0.0, 3.0, 7)
KINDS = {
    "square": SQUARE,
    "kl": KullbackLeibler(),
    "absolute": Absolute(levels(GRID), of_x=True),
    "absolute, of y": Absolute(levels(GRID + 0.1), of_x=False),
}


def values():
    return np.meshgrid(GRID, GRID + 0.1, indexing="ij")


@pytest.mark.parametrize("name", KINDS)
def test_a_loss_is_what_depends_on_one_value_less_its_products(name):
    loss = KINDS[name]
    c, d = values()
    expected = channel_problems.LOSSES[loss.name](c, d)
    assert np.allclose(loss.values(c, d), expected, rtol=1e-14, atol=1e-15)
    products = sum(x * y for x, y in loss.channels(c, d))
    summed = loss.of_first(c) + loss.of_second(d) - 2 * products
    assert np.allclose(summed, expected, rtol=1e-13, atol=1e-14)
    assert (loss.size(c, d) >= np.abs(expected)).all()


@pytest.mark.parametrize("name", KINDS)
def test_both_functions_of_a_product_do_not_decrease(name):
    """So that sorting couples rows best, whatever the loss."""
    c, d = values()
    for x, y in KINDS[name].channels(c, d):
        assert (np.diff(x, axis=0) >= -1e-15).all()
        assert (np.diff(y, axis=1) >= -1e-15).all()


def test_nothing_is_lost_where_a_value_is_0():
    loss = KullbackLeibler()
    zero, one = np.zeros(1), np.ones(1)
    assert loss.values(zero, one) == 1.0
    assert loss.of_first(zero) == 0.0
    assert loss.values(one, one) == 0.0


def test_levels_are_the_different_values():
    assert levels(np.array([[2.0, 1.0], [1.0, -1.0]])) == (-1.0, 1.0, 2.0)


@pytest.mark.parametrize("of_x", [True, False])
def test_absolute_differences_from_a_constant_have_one_product_of_zeros(of_x):
    c, d = values()
    loss = Absolute((1.0,), of_x)
    c, d = (c * 0 + 1.0, d) if of_x else (c, d * 0 + 1.0)
    channels = loss.channels(c, d)
    assert len(channels) == loss.products == 1
    assert not np.any(channels)
    assert np.array_equal(loss.of_first(c) + loss.of_second(d), np.abs(c - d))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("of_c", "of_d"), [(0, 1), (1, 0)])
def test_divergences_whose_ratio_is_no_number_are_finite(dtype, of_c, of_d):
    exponent = 130 if dtype == np.float64 else 15
    sizes = [10.0 ** (-2 * exponent), 10.0**exponent]
    c, d = (np.array([sizes[of], sizes[of] * 3], dtype) for of in (of_c, of_d))
    wide_c, wide_d = c.astype(np.longdouble), d.astype(np.longdouble)
    expected = wide_c * (np.log(wide_c) - np.log(wide_d)) - wide_c + wide_d
    found = KullbackLeibler().values(c, d)
    assert np.allclose(found, expected.astype(float), rtol=1e-5)
    size = KullbackLeibler().size(c, d)
    assert np.isfinite(size).all()
    assert (size >= np.abs(found)).all()
