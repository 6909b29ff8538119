"""Theorem 6 in floating point: norms against rational arithmetic, with no tolerance."""

import math
from decimal import localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given

import gwtools as gw
from gwtools import stability
from tests.rational import exact_weights
from tests.stability.moves import SEEDS
from tests.stability.rational import (
    KINDS,
    POWERS,
    SCALES,
    WIDE,
    entries,
    instance,
    lies_just_above,
    power_of_norm,
    radius_of_entries,
    space_of,
)


@given(SEEDS, SCALES, POWERS, KINDS)
def test_perturbation_is_rounded_up(seed, scale, p, kind):
    data, moved, a = instance(kind, seed, scale)
    x = space_of(kind, data, a)
    x2 = space_of(kind, moved, a)
    with localcontext(WIDE):
        difference = entries(kind, data) - entries(kind, moved)
        power = power_of_norm(difference, exact_weights(x.weights), p)
    found = stability.perturbation(x, x2, p)
    assert lies_just_above(found, power, p, radius_of_entries(x, x2))


@given(SEEDS, SCALES, POWERS, KINDS)
def test_row_means_perturbation_is_rounded_up(seed, scale, p, kind):
    data, moved, a = instance(kind, seed, scale)
    x = space_of(kind, data, a)
    x2 = space_of(kind, moved, a)
    a = exact_weights(x.weights)
    with localcontext(WIDE):
        C = entries(kind, data)
        D = entries(kind, moved)
        power = a @ abs((C - D) @ a) ** p
        # As large as the means could be, if they did not cancel.
        size = float_in_units(power_of_norm(C - D, a, 1), scale)
    largest = max(abs(C).max(), abs(D).max())
    radius = 1e-12 * size
    if kind != "dense":
        radius += 1e-12 * float_in_units(largest, scale)
    found = stability.row_means_perturbation(x, x2, p)
    assert lies_just_above(found, power, p, radius)


def float_in_units(value, scale):
    """A rational number of the size of a scale as a float, without underflow."""
    share = float(value * Fraction(2) ** 600 / Fraction(scale))
    return math.ldexp(share, -600) * scale


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 7.0])
@pytest.mark.parametrize("value", [5e-324, 1e-310, 1e-170, 1.0, 1e150, 1e200, 1.7e308])
def test_a_single_entry_is_seen_whatever_its_size(value, p):
    entry = value * (1 - 1e-13)
    for bound in (stability.perturbation, stability.row_means_perturbation):
        found = bound(np.zeros((1, 1)), np.full((1, 1), entry), p)
        assert entry <= found <= value + 1e-321


def test_squares_that_underflow_under_the_root_of_a_distance_are_paid():
    weights = np.array([0.5, 0.5, 1e-250])
    matrix = np.zeros((3, 3))
    matrix[0, 2] = matrix[2, 0] = matrix[1, 2] = matrix[2, 1] = 1.0
    cloud = gw.PointCloud(np.array([[0.0], [1e-170], [1e-170]]), weights)
    found = stability.perturbation(gw.DenseSpace(matrix, weights), cloud, 1.0)
    # Half of all pairs of the first two atoms are 1e-170 apart.
    assert found >= 5e-171


@pytest.mark.parametrize("seed", range(40))
def test_the_rounding_of_a_power_is_paid(seed):
    """A root of 1e-300 moves by hundreds of units in the last place with it."""
    mpmath = pytest.importorskip("mpmath")
    p = float(np.random.default_rng(seed).uniform(1, 2))
    weights = np.array([1.0, 1e-150])
    moved = np.zeros((2, 2))
    moved[1, 1] = 1.0
    x = gw.DenseSpace(np.zeros((2, 2)), weights)
    x2 = gw.DenseSpace(moved, weights)
    found = stability.perturbation(x, x2, p)
    with mpmath.workdps(60):
        small = mpmath.mpf(1e-150)
        share = small / (mpmath.mpf(1) + small)
        exact = share ** (2 / mpmath.mpf(p))
        assert exact <= found <= exact * (1 + 1e-12)
