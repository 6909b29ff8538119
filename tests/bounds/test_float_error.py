"""Radii of all parts, written out again: no term, index or factor may change unseen."""

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse

import gwtools as gw
from gwtools.bounds import float_error
from gwtools.bounds.float_error import Bound, Extent, Radii, gamma
from tests.bounds.formulas import SIZES, agree
from tests.radii import numbers, some_extent, some_radii


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
