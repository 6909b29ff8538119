"""Every formula of theorem 13, written out again in plain numbers: no term, index, factor or direction may change unseen."""

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse

import gwtools as gw
from gwtools.bounds import float_error
from gwtools.bounds.float_error import Bound, Extent, Radii, gamma
from gwtools.transport import one_dimensional
from tests.radii import numbers, some_extent, some_radii, stacked

SIZES = ((5, 7), (2000, 3), (4, 1500))


def agree(function, formula, calls):
    """The function gives what the formula does, call by call and for all calls at once."""
    expected = [numbers(formula(*arguments)) for arguments in calls]
    for arguments, wanted in zip(calls, expected, strict=True):
        assert numbers(function(*arguments)) == pytest.approx(wanted, rel=1e-13, abs=0)
    together = function(*stacked(calls))
    for place, wanted in enumerate(expected):
        assert numbers(together, place) == pytest.approx(wanted, rel=1e-13, abs=0)


def test_the_unit_is_that_of_float64():
    assert Fraction(float_error.UNIT) == Fraction(1, 2**53)
    assert (float_error.UNDERFLOW, float_error.UNDERFLOW_OF_ROOTS) == (
        2.0**-900,
        2.0**-450,
    )


@pytest.mark.parametrize("terms", [1, 2, 3, 10, 999, 10**5, 10**7])
def test_gamma_is_not_below_its_exact_value(terms):
    exact = terms * Fraction(1, 2**53) / (1 - terms * Fraction(1, 2**53))
    assert exact <= Fraction(gamma(terms)) <= Fraction(102, 100) * exact


def test_gamma_at_a_large_unit(coarse):
    for terms in (1, 7.5, 1000, 50_000):
        exact = (
            Fraction(terms)
            * Fraction(1, 2**20)
            / (1 - Fraction(terms) * Fraction(1, 2**20))
        )
        assert float(Fraction(101, 100) * exact) == pytest.approx(
            gamma(terms), rel=1e-13
        )


def test_directions(coarse):
    agree(
        float_error.lower_end,
        lambda value, radius: max(value - radius, 0.0),
        [(1.3, 0.7), (0.7, 1.3), (0.7, 0.7)],
    )
    agree(
        float_error.floor,
        lambda value: value * (1 - gamma(20)),
        [(0.7,), (1.3,), (0.0,)],
    )
    agree(
        float_error.ceiling,
        lambda value: value * (1 + gamma(20)),
        [(0.7,), (1.3,), (0.0,)],
    )


def test_bounds_of_lengths():
    bound = Bound(1.3, 0.7, 1.9)
    assert Bound(1.3, 0.7).upper == math.inf
    assert numbers(bound.around(0.3)) == pytest.approx(
        [1.3, 0.7 - 0.3, 1.9 + 0.3], rel=1e-13
    )
    assert numbers(bound.around(0.8)) == pytest.approx([1.3, 0.0, 2.7], rel=1e-13)
    assert numbers(bound.squared()) == pytest.approx([1.69, 0.49, 3.61], rel=1e-13)
    assert numbers(bound.root()) == pytest.approx(
        [math.sqrt(1.3), math.sqrt(0.7), math.sqrt(1.9)], rel=1e-13
    )
    agree(
        float_error.length,
        lambda v, r: (v, max(v - r, 0.0), v + r),
        [(0.7, 0.3), (0.3, 0.7), (1.3, 0.1)],
    )


@pytest.mark.parametrize("sizes", SIZES)
def test_radii_of_norms_and_of_wholes(coarse, sizes):
    def norm(radii, value):
        return gamma(radii.norm_terms) * value + radii.residual + 2.0**-14

    def whole(radii, spectrum):
        residual = radii.residual + spectrum
        return 1.01 * math.sqrt(radii.mean**2 + 2 * radii.deviations**2 + residual**2)

    calls = [
        (some_radii(seed, sizes[0]), value)
        for seed, value in enumerate((0.7, 1.3, 0.001))
    ]
    agree(Radii.norm, norm, calls)
    agree(Radii.root_radius, whole, calls)
    assert calls[0][0].root_radius() == pytest.approx(
        whole(calls[0][0], 0.0), rel=1e-13
    )


@pytest.mark.parametrize("size", [1, 5, 2000])
def test_radii_of_matrices(coarse, size):
    def formula(n, omega, roundings, largest, skew):
        top, half, more = largest + 2.0**-22, 0.51 * skew, roundings + 1
        k = n + omega + more
        row_means, mean = gamma(k + 3) * top + half, gamma(2 * k + 4) * top + half
        deviations = gamma(3 * k + 6) * top + half
        entries = half + (gamma(1) * top if skew else 0.0)
        if roundings:
            entries += gamma(roundings) * top + 2.0**-14
        # The halves of both deviations and of the mean, which are in them, and of the
        # entry itself.
        residual = 2 * deviations + mean + 7 * gamma(3 + more) * top + half
        norm_terms = 2 * (2 * n + 2 * omega + 2)
        computed = top if roundings else 0.0
        return Radii(
            n,
            omega,
            top,
            computed,
            entries,
            row_means,
            mean,
            deviations,
            residual,
            norm_terms,
        )

    calls = [
        (size, 4.7, 0, 1.3, 0.0),
        (size, 5.3, 0, 0.7, 0.002),
        (size, 4.1, 6, 1.7, 0.003),
    ]
    agree(float_error.dense_radii, formula, calls)


def lopsided():
    """A stored matrix that is not symmetric, as no check lets pass."""
    matrix = np.array([[0.1, 0.7, -1.3], [0.702, 0.3, 0.9], [-1.3, 0.9, 1.1]])
    symmetric = gw.DenseSpace((matrix + matrix.T) / 2, np.array([0.2, 0.3, 0.5]))
    return symmetric.with_data(matrix, symmetric.weights)


@pytest.mark.parametrize("name", ["dense", "graph", "whole graph", "cloud"])
def test_radii_of_spaces_without_a_low_rank_form(coarse, rng, name):
    weights = np.array([0.2, 0.3, 0.5])
    edges = scipy.sparse.csr_array(
        np.array([[0, 1, 0], [1, 0, 3], [0, 3, 0]]) * (0.1 if name == "graph" else 1.0)
    )
    space, skew, roundings = {
        "dense": lambda: (lopsided(), 0.702 - 0.7, 0),
        "graph": lambda: (gw.GraphSpace(edges, weights), 0.0, 3),
        "whole graph": lambda: (gw.GraphSpace(edges, weights), 0.0, 0),
        "cloud": lambda: (gw.PointCloud(rng.standard_normal((3, 2)), weights), 0.0, 6),
    }[name]()
    omega = abs(math.fsum(space.weights.tolist()) - 1) / 2.0**-20 + 4
    wanted = float_error.dense_radii(3, omega, roundings, space.largest(), skew)
    assert numbers(float_error.radii(space)) == pytest.approx(
        numbers(wanted), rel=1e-13
    )
    assert numbers(float_error.matrix_radii(space)) == pytest.approx(
        numbers(wanted), rel=1e-13
    )


@pytest.mark.parametrize(("height", "size"), [(2, 9), (5, 5), (6, 5), (3, 1200)])
@pytest.mark.parametrize("kind", ["gram", "cloud"])
def test_radii_of_low_rank_forms(coarse, rng, height, size, kind):
    weights, points = rng.dirichlet(np.ones(size)), rng.standard_normal((size, height))
    gram = kind == "gram"
    space = (
        gw.GramSpace(points.T, weights)
        if gram
        else gw.PointCloud(points, weights, metric="sqeuclidean")
    )
    top = space.largest() + 2.0**-22
    omega = abs(math.fsum(space.weights.tolist()) - 1) / 2.0**-20 + 4
    k = size + omega
    whole = 9 * gamma(k + 2 * height + 24) * top
    entries = gamma(height if gram else height + 4) * top + 2.0**-14
    if height <= size:
        residual, norm_terms = 5 * gamma(k + 2 * height + 24) * top, 2 * height**2 + 8
    else:  # R itself is summed: two deviations, a mean and three entries' own roundings
        residual, norm_terms = 6 * whole, 4 * (k + 2 * height + 24)
    wanted = [size, omega, top, top, entries, whole, whole, whole, residual, norm_terms]
    assert numbers(float_error.radii(space)) == pytest.approx(wanted, rel=1e-13)


@pytest.mark.parametrize("steps", [0, 1, -3, 40])
def test_terms_of_weights(steps):
    weights = np.array([0.5, 0.25, 0.125, 0.125]) * (1 + steps * 2.0**-52)
    off = abs(sum(map(Fraction, weights.tolist()), Fraction(0)) - 1) / Fraction(
        1, 2**53
    )
    assert float_error.weight_terms(weights) == float(off) + 4


def test_terms_of_weights_cover_what_their_sum_is_off(rng):
    for n in (3, 10, 300):
        for weights in (
            rng.dirichlet(np.ones(n)),
            np.full(n, 1 / n),
            rng.dirichlet(np.ones(n)).astype(np.float32),
        ):
            wide = np.asarray(weights, dtype=float)
            off = abs(sum(map(Fraction, wide.tolist()), Fraction(0)) - 1)
            assert off <= (Fraction(float_error.weight_terms(wide)) - 2) * Fraction(
                1, 2**53
            )


def test_extents(rng):
    def dense(deviation, spread, of):
        deviation, spread = 1.01 * deviation + of.deviations, 1.01 * spread + of.mean
        return Extent(deviation, spread + 2 * deviation + of.residual, spread)

    def low_rank(deviation, residual, of):
        deviation, residual = (
            1.01 * deviation + of.deviations,
            1.01 * residual + of.residual,
        )
        return Extent(deviation, residual, 2 * deviation + residual + of.mean)

    calls = [
        (0.7, 1.3, some_radii(0, 5)),
        (0.2, 3.1, some_radii(1, 9)),
        (0.0, 0.1, some_radii(2, 2)),
    ]
    agree(float_error.dense_extent, dense, calls)
    agree(float_error.low_rank_extent, low_rank, calls)
    weights, of = rng.dirichlet(np.ones(5)), some_radii(3, 5)
    matrix = rng.standard_normal((5, 5))
    for space in (
        gw.DenseSpace(matrix + matrix.T, weights),
        gw.DenseSpace(-matrix - matrix.T, weights),
    ):
        C = space.dense()
        f = C @ weights
        m = float(weights @ f)
        wanted = dense(float(np.abs(f - m).max()), max(C.max() - m, m - C.min()), of)
        assert numbers(float_error.extent(space, of)) == pytest.approx(
            numbers(wanted), rel=1e-13
        )
    for height in (2, 9):
        points = rng.standard_normal((5, height))
        for space in (
            gw.GramSpace(points.T, weights),
            gw.PointCloud(points, weights, metric="sqeuclidean"),
        ):
            centred = points - weights @ points
            factor = 2.0 if space.kind == "sqeuclidean" else 1.0
            # The bound of the largest squared norm has 1 % in it already.
            residual = 1.01 * factor * float((centred**2).sum(axis=1).max())
            wanted = low_rank(float(np.abs(space.deviations).max()), residual, of)
            assert numbers(float_error.extent(space, of)) == pytest.approx(
                numbers(wanted), rel=1e-12
            )


def test_largest_differences():
    def formula(apart, x, y, of_x, of_y):
        return 1.01 * apart + x.mean + y.mean + of_x.spread + of_y.spread

    calls = [
        (
            0.3 * i,
            some_radii(i, 5),
            some_radii(i + 9, 7),
            some_extent(i),
            some_extent(i + 9),
        )
        for i in range(3)
    ]
    agree(float_error.max_difference, formula, calls)


@pytest.mark.parametrize("far", [1.0, 1e6, 1e12])
def test_extents_hold_the_exact_parts(rng, far):
    """However few digits are left of them."""
    points, weights = far + rng.standard_normal((6, 2)), rng.dirichlet(np.ones(6))
    near = np.ones((6, 6)) + 2.0**-52 * rng.integers(-2, 3, (6, 6))
    for space in (
        gw.GramSpace(points.T, weights),
        gw.PointCloud(points, weights, metric="sqeuclidean"),
        gw.DenseSpace((near + near.T) / 2, weights),
    ):
        found = float_error.extent(space, float_error.radii(space))
        C = [[Fraction(0)] * 6 for _ in range(6)]
        stored = [
            [Fraction(float(v)) for v in row]
            for row in (points if space.kind != "DenseSpace" else space.dense())
        ]
        for i in range(6):
            for k in range(6):
                if space.kind == "DenseSpace":
                    C[i][k] = stored[i][k]
                elif space.kind == "sqeuclidean":
                    C[i][k] = sum(
                        (u - v) ** 2 for u, v in zip(stored[i], stored[k], strict=True)
                    )
                else:
                    C[i][k] = sum(
                        u * v for u, v in zip(stored[i], stored[k], strict=True)
                    )
        total = sum(map(Fraction, weights.tolist()))
        a = [Fraction(w) / total for w in weights.tolist()]
        f = [sum(c * w for c, w in zip(row, a, strict=True)) for row in C]
        m = sum(v * w for v, w in zip(f, a, strict=True))
        assert max(abs(v - m) for v in f) <= Fraction(float(found.deviation))
        assert max(abs(c - m) for row in C for c in row) <= Fraction(
            float(found.spread)
        )
        residuals = (C[i][k] - f[i] - f[k] + m for i in range(6) for k in range(6))
        assert max(map(abs, residuals)) <= Fraction(float(found.residual))


def transported(value, p, x, y, terms, matched):
    (low_x, high_x, n), (low_y, high_y, m) = x, y
    apart = max(high_x - low_y, high_y - low_x)
    moved = gamma(2 * n + 3 + terms) * (high_x - low_x) + gamma(2 * m + 3 + terms) * (
        high_y - low_y
    )
    loss = gamma(3 * (n + m) + terms + 6) * value + (n + m) * 2.0**-22 * (1 + apart**p)
    if not matched:
        loss += p * apart ** (p - 1) * moved * (1 + gamma(8))
    return Bound(value, max(value - loss, 0.0), value + loss)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("p", [1.0, 2.0])
def test_transports_on_the_line(coarse, sizes, p):
    n, m = sizes
    calls = [
        (0.7, p, (-0.3, 1.1, n), (0.2, 0.9, m), 4.7, False),
        (1.3, p, (0.3, 1.7, n), (0.9, 2.6, m), 5.3, True),
        (0.9, p, (0.3, 1.4, n), (-1.9, 2.6, m), 7.1, False),
    ]
    agree(float_error.transport_bound, transported, calls)
    nothing = float_error.transport_bound(
        1e-9, p, (-0.3, 1.1, n), (0.2, 0.9, m), 4.7, False
    )
    assert (nothing.value, nothing.lower) == (1e-9, 0.0)


def ends(values):
    return float(min(values)), float(max(values)), len(values)


@pytest.mark.parametrize("p", [1.0, 2.0])
@pytest.mark.parametrize(
    ("first", "second", "products_of", "matched"),
    [
        ("uniform", "uniform", None, True),
        (
            "uniform",
            "uniform",
            False,
            True,
        ),  # one number for all of them: any atoms pair off
        ("uniform", "other", None, False),
        ("unequal", "unequal", None, True),
        ("unequal", "unequal", True, True),
        ("unequal", "unequal", False, False),  # products that agree by chance
        ("unequal", "other", None, False),
        ("unequal", "other", True, False),
        ("unequal", "longer", None, False),
        ("unequal", "longer", True, False),
    ],
)
def test_atoms_of_equal_weights_are_matched(
    coarse, first, second, products_of, matched, p
):
    weights = {
        "uniform": np.full(4, 0.25),
        "unequal": np.array([0.1, 0.2, 0.3, 0.4]),
        "other": np.array([0.2, 0.1, 0.3, 0.4]),
        "longer": np.array([0.1, 0.2, 0.3, 0.3, 0.1]),
    }
    x, y = np.array([0.7, -1.3, 0.2, 1.9]), np.array([0.9, -1.1, 0.3, 2.7, 0.31])
    a, b = weights[first], weights[second]
    y = y[: len(b)]
    value = float(one_dimensional.wasserstein(x, a, y, b, p))
    wanted = transported(value, p, ends(x), ends(y), 4.7, matched)
    found = float_error.transport_on_line(x, a, y, b, p, 4.7, products_of)
    assert numbers(found) == pytest.approx(numbers(wanted), rel=1e-13)


def test_products_are_matched_between_the_same_atoms_only(coarse):
    x, a = np.array([0.7, -1.3, 0.2]), np.array([0.2, 0.3, 0.5])
    order = np.array([2, 0, 1])
    y, b = x[order] + 0.7, a[order]
    for products_of, matched in ((None, True), (True, False), (False, False)):
        found = float_error.transport_on_line(x, a, y, b, products_of=products_of)
        wanted = transported(
            float(one_dimensional.wasserstein(x, a, y, b, 2.0)),
            2.0,
            ends(x),
            ends(y),
            0.0,
            matched,
        )
        assert numbers(found) == pytest.approx(numbers(wanted), rel=1e-13)


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
    agree(float_error.additive_bounds, formula, calls)


def whole(radii):
    return 1.01 * math.sqrt(radii.mean**2 + 2 * radii.deviations**2 + radii.residual**2)


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
    agree(float_error.product_upper, formula, calls)


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
    agree(float_error.squares_upper, formula, calls)


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
    agree(float_error.parts_upper, formula, calls)


@pytest.mark.parametrize("sizes", SIZES)
def test_missed_masses(coarse, sizes):
    def formula(rows, cols, sums, x, y):
        return 1.01 * (rows + 2 * cols) + 3 * gamma(
            x.size + y.size + sums + x.weights + y.weights
        )

    values = [(0.07, 0.13, 11), (0.0, 0.0, 3000), (1e-3, 3e-3, 8)]
    agree(
        float_error.missed_mass,
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
    agree(float_error.interval_width, formula, calls)


@pytest.mark.parametrize(("size", "count"), [(5, 5), (5, 3), (40, 39), (7, 1)])
def test_errors_of_eigenvalues(coarse, rng, size, count):
    matrix = rng.standard_normal((size, size))
    matrix = matrix + matrix.T
    values, vectors = (
        found[..., :count] for found in np.linalg.eigh(matrix)
    )  # the largest of them is negative
    values, vectors = (
        values + 0.01 * rng.standard_normal(count),
        vectors + 0.01 * rng.standard_normal((size, count)),
    )
    spread, left = (
        vectors.T @ vectors - np.eye(count),
        matrix - vectors @ np.diag(values) @ vectors.T,
    )
    off = 1.01 * math.sqrt((spread**2).sum()) + 2 * count * gamma(size + 1)
    largest = max(abs(v) for v in values.tolist())
    error = 1.01 * math.sqrt((left**2).sum()) + size * 2.0**-14
    error += gamma(count + 4) * (
        2 * sum(abs(v) for v in values.tolist()) + math.sqrt((matrix**2).sum())
    )
    error += largest * off * (2 + off)
    assert float_error.eigenvalue_error(matrix, values, vectors) == pytest.approx(
        (error, off), rel=1e-12
    )


def test_errors_without_eigenvalues(coarse):
    matrix = np.array([[0.7, 1.3, 0.2], [1.3, -0.4, 0.9], [0.2, 0.9, 1.1]])
    error = math.sqrt((matrix**2).sum()) * (1 + gamma(9)) + 3 * 2.0**-14
    found = float_error.eigenvalue_error(matrix, np.zeros(0), np.zeros((3, 0)))
    assert found == pytest.approx((error, 0.0), rel=1e-13)


@pytest.mark.parametrize("sizes", [(5, 7), (7, 5), (1, 300), (400, 2)])
@pytest.mark.parametrize("below", [None, 0.3, "each"])
def test_values_of_potentials(coarse, rng, sizes, below):
    n, m = sizes
    costs, potential = 3 * rng.standard_normal(sizes), rng.standard_normal(m)
    a, b = rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m))
    below = rng.uniform(0, 1, sizes) if below == "each" else below
    lowered = costs - (0.0 if below is None else below)
    top = max(abs(v) for v in potential.tolist())
    dual = []
    for row in lowered.tolist():
        least = min(
            cost - price for cost, price in zip(row, potential.tolist(), strict=True)
        )
        dual.append(least - 6 * 2.0**-20 * (max(abs(cost) for cost in row) + top))
    reach = max(abs(v) for v in dual) + top
    wanted = sum(w * v for w, v in zip([*a, *b], [*dual, *potential], strict=True))
    wanted -= 2 * gamma(max(n, m) + 4.7 + 4) * reach + (n + m) * 2.0**-22
    arguments = (
        (costs, potential, a, b, 4.7)
        if below is None
        else (costs, potential, a, b, 4.7, below)
    )
    assert float_error.dual_value(*arguments) == pytest.approx(wanted, rel=1e-11)


@pytest.mark.parametrize("size_of_costs", [1e-3, 1.0, 1e8])
@pytest.mark.parametrize("size_of_potentials", [1e-3, 1.0, 1e8])
@pytest.mark.parametrize("below", [0.0, 1e-3])
def test_values_of_potentials_are_below_exact_ones(
    size_of_costs, size_of_potentials, below
):
    """For the potentials that the second ones leave to the first space, and weights divided by their exact sums."""
    rng = np.random.default_rng(7)
    for _ in range(20):
        n, m = (int(v) for v in rng.integers(1, 8, 2))
        costs = size_of_costs * rng.standard_normal((n, m))
        potential = size_of_potentials * rng.standard_normal(m)
        a, b = ((1 + 2.0**-50) * rng.dirichlet(np.ones(k)) for k in (n, m))
        terms = max(float_error.weight_terms(w) for w in (a, b))
        found = float_error.dual_value(costs, potential, a, b, terms, below)
        prices = [Fraction(v) for v in potential.tolist()]
        dual = [
            min(
                Fraction(cost) - Fraction(below) - price
                for cost, price in zip(row, prices, strict=True)
            )
            for row in costs.tolist()
        ]
        exact = Fraction(0)
        for weights, values in ((a, dual), (b, prices)):
            wide = [Fraction(w) for w in weights.tolist()]
            exact += sum(
                (w * v for w, v in zip(wide, values, strict=True)), Fraction(0)
            ) / sum(wide, Fraction(0))
        assert Fraction(found) <= exact
        assert float(exact) - found <= 200 * (terms + 20) * 2.0**-53 * (
            size_of_costs + size_of_potentials
        )


@pytest.mark.parametrize("stretch", [1.05, 1.2, 3.0])
def test_vectors_far_from_orthonormal_prove_nothing(coarse, rng, stretch):
    """From a distance of 1 on; short of that they pay for it."""
    matrix = rng.standard_normal((5, 5))
    values, vectors = np.linalg.eigh(matrix + matrix.T)
    radius, off = float_error.eigenvalue_error(
        matrix + matrix.T, values, stretch * vectors
    )
    wanted = 1.01 * math.sqrt(5) * (stretch**2 - 1) + 10 * gamma(6)
    assert off == pytest.approx(wanted, rel=1e-12)
    assert (radius == 2.0**500) == (off >= 1)
    assert off >= 1 or radius < 100 * np.abs(matrix).max()


def test_eigenpairs_that_are_none_leave_the_other_bounds(monkeypatch, rng):
    """No warning, no NaN, and no bound from spectra."""
    spaces = [gw.DenseSpace(m + m.T) for m in rng.standard_normal((2, 4, 4))]
    expected = gw.certify(*spaces, effort="cubic")
    eigh = np.linalg.eigh
    monkeypatch.setattr(
        np.linalg, "eigh", lambda matrix: (eigh(matrix)[0], 3 * eigh(matrix)[1])
    )
    found = gw.certify(*spaces, np.full((4, 4), 1 / 16), effort="cubic")
    for name in ("row_means", "norm", "first", "second", "third", "residual_third"):
        assert found.bounds[name] == expected.bounds[name]
    assert found.bounds["spectral"] <= expected.bounds["norm"]
    assert found.bounds["convex"] == found.bounds["convexity"] == 0.0
