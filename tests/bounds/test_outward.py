"""Bounds and objectives are rounded outward as theorem 13 says, term by term."""

import math

import pytest

from gwtools.bounds import float_error, outward
from gwtools.bounds.float_error import Bound, gamma
from tests.bounds.formulas import SIZES, agree, whole
from tests.radii import some_extent, some_radii


@pytest.mark.parametrize("sizes", SIZES)
def test_additive_bounds(coarse, sizes):
    def formula(apart, between, norms, x, y):
        radii = [
            gamma(s.norm_terms) * v + s.residual + 2.0**-14
            for v, s in zip(norms, (x, y), strict=True)
        ]
        difference = abs(norms[0] - norms[1])
        lengths = (
            (apart, apart, x.mean + y.mean),
            (
                math.sqrt(between.lower),
                math.sqrt(between.upper),
                x.deviations + y.deviations,
            ),
            (difference, difference, radii[0] + radii[1]),
        )
        low = [max(least - radius, 0.0) ** 2 for least, _, radius in lengths]
        high = [(most + radius) ** 2 for _, most, radius in lengths]
        residual = (norms[0] - norms[1]) ** 2
        row_means = Bound(
            apart**2 + between.value,
            (low[0] + low[1]) * (1 - gamma(20)),
            (high[0] + high[1]) * (1 + gamma(20)),
        )
        norm = Bound(
            apart**2 + 2 * between.value + residual,
            (low[0] + 2 * low[1] + low[2]) * (1 - gamma(20)),
            (high[0] + 2 * high[1] + high[2]) * (1 + gamma(20)),
        )
        raised = [
            norm_of + radius for norm_of, radius in zip(norms, radii, strict=True)
        ]
        return (
            row_means,
            norm,
            (4 * raised[0] * raised[1] + norm.upper - norm.lower) * (1 + gamma(20)),
        )

    calls = [
        (
            0.7,
            Bound(1.3, 1.2, 1.5),
            (0.9, 1.6),
            some_radii(1, sizes[0]),
            some_radii(2, sizes[1]),
        ),
        (
            1e-4,
            Bound(0.3, 0.2, 0.5),
            (1.7, 0.6),
            some_radii(3, sizes[0]),
            some_radii(4, sizes[1]),
        ),
        (
            0.2,
            Bound(1e-9, 0.0, 1e-8),
            (1.1, 1.1001),
            some_radii(5, sizes[0]),
            some_radii(6, sizes[1]),
        ),
    ]
    agree(outward.additive_bounds, formula, calls)


@pytest.mark.parametrize("sizes", SIZES)
def test_product_coupling(coarse, sizes):
    def formula(value, x, y):
        n, m = x.size, y.size
        index = 2 * (n + m + x.weights + y.weights) + x.norm_terms + y.norm_terms + 40
        root = math.sqrt(value * (1 + gamma(index)) + (n + m) * 2.0**-22)
        return (root + whole(x) + whole(y)) ** 2 * (1 + gamma(20))

    calls = [
        (v, some_radii(i, sizes[0]), some_radii(i + 9, sizes[1]))
        for i, v in enumerate((0.7, 1.3, 0.0))
    ]
    agree(outward.product_upper, formula, calls)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("atoms", [6, 4000])
def test_sums_of_squares(coarse, sizes, atoms):
    def formula(value, atoms, missed, largest, x, y):
        index = 2 * atoms + 2 * x.weights + 2 * y.weights + 20
        root = math.sqrt(
            value * (1 + gamma(index)) + atoms * (1 + largest**2) * 2.0**-22
        )
        root += 1.01 * (1 + missed) * (x.entries + y.entries)
        return (root**2 + largest**2 * missed * (2 + missed)) * (1 + gamma(20))

    calls = [
        (
            value,
            atoms + place,
            missed,
            largest,
            some_radii(place, sizes[0]),
            some_radii(place + 9, sizes[1]),
        )
        for place, (value, missed, largest) in enumerate(
            [(0.7, 0.1, 1.3), (1.3, 0.3, 0.7), (0.0, 0.0, 1.9)]
        )
    ]
    agree(outward.squares_upper, formula, calls)


@pytest.mark.parametrize("sizes", SIZES)
def test_sums_of_parts(coarse, sizes):
    def formula(value, sums, missed, apart, largest, x, y, of_x, of_y):
        lines = 2 * (of_x.deviation + of_y.deviation) ** 2
        everything = apart**2 + lines + (of_x.residual + of_y.residual) ** 2
        index = (
            4 * (x.size + y.size)
            + sums
            + 2 * (x.weights + y.weights)
            + x.norm_terms
            + y.norm_terms
            + 60
        )
        inner = value + gamma(index) * everything * (1 + missed) ** 2
        inner += (
            (lines + 2 * of_x.residual * of_y.residual + largest**2)
            * missed
            * (2 + missed)
        )
        inner += (x.size + y.size) * (1 + everything) * 2.0**-22
        return (math.sqrt(inner) + whole(x) + whole(y)) ** 2 * (1 + gamma(20))

    calls = [
        (
            *call,
            some_radii(i, sizes[0]),
            some_radii(i + 9, sizes[1]),
            some_extent(i),
            some_extent(i + 9),
        )
        for i, call in enumerate(
            [
                (0.7, 11, 0.1, 1.3, 1.7),
                (1.3, 3000, 0.3, 0.7, 0.9),
                (0.01, 8, 0.0, 0.2, 2.1),
            ]
        )
    ]
    agree(outward.parts_upper, formula, calls)


@pytest.mark.parametrize("sizes", SIZES)
def test_missed_masses(coarse, sizes):
    def formula(rows, cols, sums, x, y):
        return 1.01 * (rows + 2 * cols) + 3 * gamma(
            x.size + y.size + sums + x.weights + y.weights
        )

    values = [(0.07, 0.13, 11), (0.0, 0.0, 3000), (1e-3, 3e-3, 8)]
    agree(
        outward.missed_mass,
        formula,
        [
            (*value, some_radii(i, sizes[0]), some_radii(i + 9, sizes[1]))
            for i, value in enumerate(values)
        ],
    )


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("unit", [2.0**-53, 2.0**-20])
def test_tolerance(monkeypatch, sizes, unit):
    monkeypatch.setattr(float_error, "UNIT", unit)

    def formula(lower, largest, roundings, x, y):
        off = (
            256
            * unit
            * (largest + x.computed + y.computed)
            * (x.size + y.size + roundings + 64)
        )
        return 2 * off * math.sqrt(lower) + off**2

    values = [(0.4, 0.7, 11), (0.1, 1.3, 3000), (0.0, 2.9, 3)]
    calls = [
        (*value, some_radii(i, sizes[0]), some_radii(i + 9, sizes[1]))
        for i, value in enumerate(values)
    ]
    agree(outward.interval_width, formula, calls)
