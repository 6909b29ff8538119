"""Bounds and objectives are rounded outward as theorem 13 says, term by term."""

import math

import pytest

from gwtools.bounds import float_error, outward
from gwtools.bounds.float_error import Bound, gamma
from tests.bounds.formulas import (
    ROOT,
    SIZES,
    agree,
    floored,
    raised,
    whole,
    with_radii,
)
from tests.radii import some_extent

UNDERFLOW = 2.0**-22  # at the unit of the fixture ``coarse``


def additive_bounds(mean_gap, transport, norms, x, y):
    """Theorem 13 (d): theorems 1 and 3, and the distance from the latter."""
    # 1. Three lengths: their least and their largest value, each with a radius.
    radius_x = gamma(x.norm_terms) * norms[0] + x.residual + ROOT
    radius_y = gamma(y.norm_terms) * norms[1] + y.residual + ROOT
    difference = abs(norms[0] - norms[1])
    least = (mean_gap, math.sqrt(transport.lower), difference)
    most = (mean_gap, math.sqrt(transport.upper), difference)
    radii = (x.mean + y.mean, x.deviations + y.deviations, radius_x + radius_y)
    low = [max(v - r, 0.0) ** 2 for v, r in zip(least, radii, strict=True)]
    high = [(v + r) ** 2 for v, r in zip(most, radii, strict=True)]
    # 2. The bounds.
    row_means = Bound(
        mean_gap**2 + transport.value,
        floored(low[0] + low[1]),
        raised(high[0] + high[1]),
    )
    norm = Bound(
        mean_gap**2 + 2 * transport.value + difference**2,
        floored(low[0] + 2 * low[1] + low[2]),
        raised(high[0] + 2 * high[1] + high[2]),
    )
    # 3. 4 ‖R‖ ‖S‖ and the width of the interval of the norm bound.
    product = 4 * (norms[0] + radius_x) * (norms[1] + radius_y)
    return row_means, norm, raised(product + norm.upper - norm.lower)


@pytest.mark.parametrize("sizes", SIZES)
def test_additive_bounds(coarse, sizes):
    values = [
        (0.7, Bound(1.3, 1.2, 1.5), (0.9, 1.6)),
        (1e-4, Bound(0.3, 0.2, 0.5), (1.7, 0.6)),
        (0.2, Bound(1e-9, 0.0, 1e-8), (1.1, 1.1001)),
    ]
    agree(outward.additive_bounds, additive_bounds, with_radii(values, sizes))


@pytest.mark.parametrize("sizes", SIZES)
def test_product_coupling(coarse, sizes):
    def formula(value, x, y):
        atoms = x.size + y.size
        index = 2 * (atoms + x.weights + y.weights)
        index += x.norm_terms + y.norm_terms + 40
        root = math.sqrt(value * (1 + gamma(index)) + atoms * UNDERFLOW)
        return raised((root + whole(x) + whole(y)) ** 2)

    values = [(0.7,), (1.3,), (0.0,)]
    agree(outward.product_upper, formula, with_radii(values, sizes))


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("atoms", [6, 4000])
def test_sums_of_squares(coarse, sizes, atoms):
    def formula(value, atoms, missed, largest, x, y):
        index = 2 * atoms + 2 * x.weights + 2 * y.weights + 20
        underflow = atoms * (1 + largest**2) * UNDERFLOW
        root = math.sqrt(value * (1 + gamma(index)) + underflow)
        root += 1.01 * (1 + missed) * (x.entries + y.entries)
        return raised(root**2 + largest**2 * missed * (2 + missed))

    values = [
        (0.7, atoms, 0.1, 1.3),
        (1.3, atoms + 1, 0.3, 0.7),
        (0.0, atoms + 2, 0.0, 1.9),
    ]
    agree(outward.squares_upper, formula, with_radii(values, sizes))


def parts_upper(value, sums, missed, mean_gap, largest, x, y, of_x, of_y):
    """Theorem 13 (g), from parts."""
    lines = 2 * (of_x.deviation + of_y.deviation) ** 2
    everything = mean_gap**2 + lines + (of_x.residual + of_y.residual) ** 2
    product = 2 * of_x.residual * of_y.residual
    index = 4 * (x.size + y.size) + sums + 2 * (x.weights + y.weights)
    index += x.norm_terms + y.norm_terms + 60
    inner = value + gamma(index) * everything * (1 + missed) ** 2
    inner += (lines + product + largest**2) * missed * (2 + missed)
    inner += (x.size + y.size) * (1 + everything) * UNDERFLOW
    return raised((math.sqrt(inner) + whole(x) + whole(y)) ** 2)


@pytest.mark.parametrize("sizes", SIZES)
def test_sums_of_parts(coarse, sizes):
    values = [
        (0.7, 11, 0.1, 1.3, 1.7),
        (1.3, 3000, 0.3, 0.7, 0.9),
        (0.01, 8, 0.0, 0.2, 2.1),
    ]
    calls = []
    for seed, arguments in enumerate(with_radii(values, sizes)):
        extents = some_extent(seed), some_extent(seed + 9)
        calls.append((*arguments, *extents))
    agree(outward.parts_upper, parts_upper, calls)


@pytest.mark.parametrize("sizes", SIZES)
def test_missed_masses(coarse, sizes):
    def formula(rows, cols, sums, x, y):
        index = x.size + y.size + sums + x.weights + y.weights
        return 1.01 * (rows + 2 * cols) + 3 * gamma(index)

    values = [
        (0.07, 0.13, 11),
        (0.0, 0.0, 3000),
        (1e-3, 3e-3, 8),
    ]
    agree(outward.missed_mass, formula, with_radii(values, sizes))


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("unit", [2.0**-53, 2.0**-20])
def test_tolerance(monkeypatch, sizes, unit):
    monkeypatch.setattr(float_error, "UNIT", unit)

    def formula(lower, largest, operations, x, y):
        index = x.size + y.size + operations + 64
        off = 256 * unit * (largest + x.largest_computed + y.largest_computed) * index
        return 2 * off * math.sqrt(lower) + off**2

    values = [
        (0.4, 0.7, 11),
        (0.1, 1.3, 3000),
        (0.0, 2.9, 3),
    ]
    agree(outward.interval_width, formula, with_radii(values, sizes))
