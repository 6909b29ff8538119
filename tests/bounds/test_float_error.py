"""Radii of all parts, written out again: no term, index or factor may change unseen."""

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse

import gwtools as gw
from gwtools.bounds import float_error
from gwtools.bounds.float_error import Bound, Extent, Radii, gamma
from tests.bounds.formulas import ROOT, SIZES, agree, floored, raised, whole
from tests.radii import numbers, some_extent, some_radii

UNIT = Fraction(1, 2**53)
UNDERFLOW = 2.0**-22  # at the unit of the fixture ``coarse``, which is 2⁻²⁰


def test_the_unit_is_that_of_float64():
    assert Fraction(float_error.UNIT) == UNIT
    assert float_error.UNDERFLOW == 2.0**-900
    assert float_error.UNDERFLOW_OF_ROOTS == 2.0**-450


@pytest.mark.parametrize("terms", [1, 2, 3, 10, 999, 10**5, 10**7])
def test_gamma_is_not_below_its_exact_value(terms):
    exact = terms * UNIT / (1 - terms * UNIT)
    assert exact <= Fraction(gamma(terms)) <= Fraction(102, 100) * exact


@pytest.mark.parametrize("terms", [1, 7.5, 1000, 50_000])
def test_gamma_at_a_large_unit(coarse, terms):
    share = Fraction(terms) * Fraction(1, 2**20)
    enlarged = Fraction(101, 100) * share / (1 - share)
    assert float(enlarged) == pytest.approx(gamma(terms), rel=1e-13)


def test_directions(coarse):
    def lower_end(value, radius):
        return max(value - radius, 0.0)

    pairs = [(1.3, 0.7), (0.7, 1.3), (0.7, 0.7)]
    agree(float_error.lower_end, lower_end, pairs)
    values = [(0.7,), (1.3,), (0.0,)]
    agree(float_error.rounded_down, floored, values)
    agree(float_error.rounded_up, raised, values)


def test_bounds_of_lengths():
    def length(value, radius):
        return value, max(value - radius, 0.0), value + radius

    bound = Bound(1.3, 0.7, 1.9)
    assert Bound(1.3, 0.7).upper == math.inf
    near = [1.3, 0.7 - 0.3, 1.9 + 0.3]
    assert numbers(bound.widened(0.3)) == pytest.approx(near, rel=1e-13)
    far = [1.3, 0.0, 2.7]
    assert numbers(bound.widened(0.8)) == pytest.approx(far, rel=1e-13)
    squares = [1.69, 0.49, 3.61]
    assert numbers(bound.squared()) == pytest.approx(squares, rel=1e-13)
    roots = [math.sqrt(v) for v in (1.3, 0.7, 1.9)]
    assert numbers(bound.root()) == pytest.approx(roots, rel=1e-13)
    agree(float_error.length, length, [(0.7, 0.3), (0.3, 0.7), (1.3, 0.1)])


@pytest.mark.parametrize("size", [n for n, _ in SIZES])
def test_radii_of_norms_and_of_wholes(coarse, size):
    def norm(radii, value):
        return gamma(radii.norm_terms) * value + radii.residual + ROOT

    calls = [
        (some_radii(0, size), 0.7),
        (some_radii(1, size), 1.3),
        (some_radii(2, size), 0.001),
    ]
    agree(Radii.norm, norm, calls)
    agree(Radii.root_radius, whole, calls)
    radii = calls[0][0]
    assert radii.root_radius() == pytest.approx(whole(radii), rel=1e-13)


def dense_radii(n, omega, operations, largest, skew):
    """Theorem 13 (a) and (c)."""
    top = largest + UNDERFLOW
    half = 0.51 * skew
    more = operations + 1
    k = n + omega + more
    row_means = gamma(k + 3) * top + half
    mean = gamma(2 * k + 4) * top + half
    deviations = gamma(3 * k + 6) * top + half
    entries = half
    if skew:
        entries += gamma(1) * top
    if operations:
        entries += gamma(operations) * top + ROOT
    # The halves of both deviations and of the mean, which are in them, and of the
    # entry itself.
    residual = 2 * deviations + mean + 7 * gamma(3 + more) * top + half
    return Radii(
        size=n,
        weights=omega,
        largest=top,
        largest_computed=top if operations else 0.0,
        entries=entries,
        row_means=row_means,
        mean=mean,
        deviations=deviations,
        residual=residual,
        norm_terms=2 * (2 * n + 2 * omega + 2),
    )


@pytest.mark.parametrize("size", [1, 5, 2000])
def test_radii_of_matrices(coarse, size):
    calls = [
        (size, 4.7, 0, 1.3, 0.0),
        (size, 5.3, 0, 0.7, 0.002),
        (size, 4.1, 6, 1.7, 0.003),
    ]
    agree(float_error.dense_radii, dense_radii, calls)


def lopsided(weights):
    """A stored matrix that is not symmetric, as no check lets pass."""
    matrix = np.array([[0.1, 0.7, -1.3], [0.702, 0.3, 0.9], [-1.3, 0.9, 1.1]])
    symmetric = gw.DenseSpace((matrix + matrix.T) / 2, weights)
    return symmetric.with_data(matrix, symmetric.weights)


def coarse_omega(space):
    return abs(math.fsum(space.weights.tolist()) - 1) / 2.0**-20 + 4


@pytest.mark.parametrize(
    ("name", "skew", "operations"),
    [
        ("dense", 0.702 - 0.7, 0),
        ("graph", 0.0, 3),
        ("whole graph", 0.0, 0),
        ("cloud", 0.0, 6),
    ],
)
def test_radii_of_spaces_without_a_low_rank_form(coarse, rng, name, skew, operations):
    weights = np.array([0.2, 0.3, 0.5])
    edges = np.array([[0, 1, 0], [1, 0, 3], [0, 3, 0]])
    if name == "dense":
        space = lopsided(weights)
    elif name == "graph":
        space = gw.GraphSpace(scipy.sparse.csr_array(0.1 * edges), weights)
    elif name == "whole graph":
        space = gw.GraphSpace(scipy.sparse.csr_array(1.0 * edges), weights)
    else:
        space = gw.PointCloud(rng.standard_normal((3, 2)), weights)
    omega = coarse_omega(space)
    radii = float_error.dense_radii(3, omega, operations, space.largest(), skew)
    wanted = pytest.approx(numbers(radii), rel=1e-13)
    assert numbers(float_error.radii(space)) == wanted
    assert numbers(float_error.matrix_radii(space)) == wanted


@pytest.mark.parametrize(("height", "size"), [(2, 9), (5, 5), (6, 5), (3, 1200)])
@pytest.mark.parametrize("kind", ["gram", "cloud"])
def test_radii_of_low_rank_forms(coarse, rng, height, size, kind):
    weights = rng.dirichlet(np.ones(size))
    points = rng.standard_normal((size, height))
    if kind == "gram":
        space = gw.GramSpace(points.T, weights)
        operations = height
    else:
        space = gw.PointCloud(points, weights, metric="sqeuclidean")
        operations = height + 4
    top = space.largest() + UNDERFLOW
    omega = coarse_omega(space)
    index = size + omega + 2 * height + 24
    part = 9 * gamma(index) * top
    entries = gamma(operations) * top + ROOT
    if height <= size:
        residual = 5 * gamma(index) * top
        norm_terms = 2 * height**2 + 8
    else:  # R itself is summed: two deviations, a mean and three entries' own roundings
        residual = 6 * part
        norm_terms = 4 * index
    wanted = [size, omega, top, top, entries, part, part, part, residual, norm_terms]
    assert numbers(float_error.radii(space)) == pytest.approx(wanted, rel=1e-13)


def off_one(weights):
    """|Σ a − 1| in rational numbers."""
    total = Fraction(0)
    for weight in weights.tolist():
        total += Fraction(weight)
    return abs(total - 1)


@pytest.mark.parametrize("steps", [0, 1, -3, 40])
def test_terms_of_weights(steps):
    weights = np.array([0.5, 0.25, 0.125, 0.125]) * (1 + steps * 2.0**-52)
    exact = off_one(weights) / UNIT
    assert float_error.weight_terms(weights) == float(exact) + 4


@pytest.mark.parametrize("n", [3, 10, 300])
@pytest.mark.parametrize("kind", ["random", "uniform", "narrow"])
def test_terms_of_weights_cover_what_their_sum_is_off(rng, n, kind):
    weights = rng.dirichlet(np.ones(n))
    if kind == "uniform":
        weights = np.full(n, 1 / n)
    if kind == "narrow":
        weights = weights.astype(np.float32).astype(float)
    terms = Fraction(float_error.weight_terms(weights))
    assert off_one(weights) <= (terms - 2) * UNIT


def dense_extent(deviation, spread, of):
    deviation = 1.01 * deviation + of.deviations
    spread = 1.01 * spread + of.mean
    return Extent(deviation, spread + 2 * deviation + of.residual, spread)


def low_rank_extent(deviation, residual, of):
    deviation = 1.01 * deviation + of.deviations
    residual = 1.01 * residual + of.residual
    return Extent(deviation, residual, 2 * deviation + residual + of.mean)


def test_extents():
    calls = [
        (0.7, 1.3, some_radii(0, 5)),
        (0.2, 3.1, some_radii(1, 9)),
        (0.0, 0.1, some_radii(2, 2)),
    ]
    agree(float_error.dense_extent, dense_extent, calls)
    agree(float_error.low_rank_extent, low_rank_extent, calls)


@pytest.mark.parametrize("sign", [1, -1])
def test_extents_of_matrices(rng, sign):
    weights = rng.dirichlet(np.ones(5))
    of = some_radii(3, 5)
    base = sign * rng.standard_normal((5, 5))
    space = gw.DenseSpace(base + base.T, weights)
    C = space.dense()
    f = C @ weights
    m = float(weights @ f)
    deviation = float(np.abs(f - m).max())
    spread = max(C.max() - m, m - C.min())
    wanted = numbers(dense_extent(deviation, spread, of))
    found = numbers(float_error.extent(space, of))
    assert found == pytest.approx(wanted, rel=1e-13)


@pytest.mark.parametrize("height", [2, 9])
@pytest.mark.parametrize("kind", ["gram", "cloud"])
def test_extents_of_low_rank_forms(rng, height, kind):
    weights = rng.dirichlet(np.ones(5))
    of = some_radii(3, 5)
    points = rng.standard_normal((5, height))
    if kind == "gram":
        space = gw.GramSpace(points.T, weights)
        factor = 1.0
    else:
        space = gw.PointCloud(points, weights, metric="sqeuclidean")
        factor = 2.0
    centred = points - weights @ points
    largest = float((centred**2).sum(axis=1).max())
    deviation = float(np.abs(space.deviations).max())
    # The bound of the largest squared norm has 1 % in it already.
    wanted = numbers(low_rank_extent(deviation, 1.01 * factor * largest, of))
    found = numbers(float_error.extent(space, of))
    assert found == pytest.approx(wanted, rel=1e-12)


def test_largest_differences():
    def formula(mean_gap, x, y, of_x, of_y):
        return 1.01 * mean_gap + x.mean + y.mean + of_x.spread + of_y.spread

    calls = []
    for seed in range(3):
        radii = some_radii(seed, 5), some_radii(seed + 9, 7)
        extents = some_extent(seed), some_extent(seed + 9)
        calls.append((0.3 * seed, *radii, *extents))
    agree(float_error.max_difference, formula, calls)


def exact_entries(space, points):
    """C in rational numbers, as an array of objects."""
    if space.kind == "DenseSpace":
        return rational(space.dense())
    rows = rational(points)
    C = np.empty((len(rows), len(rows)), dtype=object)
    for i, u in enumerate(rows):
        for k, v in enumerate(rows):
            squared = space.kind == "sqeuclidean"
            C[i, k] = ((u - v) ** 2).sum() if squared else (u * v).sum()
    return C


def rational(values):
    return np.vectorize(Fraction, otypes=[object])(np.asarray(values, dtype=float))


@pytest.mark.parametrize("far", [1.0, 1e6, 1e12])
@pytest.mark.parametrize("kind", ["gram", "cloud", "dense"])
def test_extents_hold_the_exact_parts(rng, far, kind):
    """However few digits are left of them."""
    points = far + rng.standard_normal((6, 2))
    weights = rng.dirichlet(np.ones(6))
    near = np.ones((6, 6)) + 2.0**-52 * rng.integers(-2, 3, (6, 6))
    if kind == "gram":
        space = gw.GramSpace(points.T, weights)
    elif kind == "cloud":
        space = gw.PointCloud(points, weights, metric="sqeuclidean")
    else:
        space = gw.DenseSpace((near + near.T) / 2, weights)
    found = float_error.extent(space, float_error.radii(space))
    # The parts in rational numbers.
    C = exact_entries(space, points)
    a = rational(weights)
    a = a / a.sum()
    f = C @ a
    m = f @ a
    R = C - f[:, None] - f + m
    assert abs(f - m).max() <= Fraction(float(found.deviation))
    assert abs(C - m).max() <= Fraction(float(found.spread))
    assert abs(R).max() <= Fraction(float(found.residual))


def frobenius(matrix):
    return math.sqrt((matrix**2).sum())


@pytest.mark.parametrize(("size", "count"), [(5, 5), (5, 3), (40, 39), (7, 1)])
def test_errors_of_eigenvalues(coarse, rng, size, count):
    matrix = rng.standard_normal((size, size))
    matrix = matrix + matrix.T
    values, vectors = np.linalg.eigh(matrix)
    # Some eigenpairs, of which the largest is negative, and far from exact.
    values = values[:count] + 0.01 * rng.standard_normal(count)
    vectors = vectors[:, :count] + 0.01 * rng.standard_normal((size, count))
    spread = vectors.T @ vectors - np.eye(count)
    left = matrix - vectors @ np.diag(values) @ vectors.T
    off = 1.01 * frobenius(spread) + 2 * count * gamma(size + 1)
    sizes = [abs(v) for v in values.tolist()]
    error = 1.01 * frobenius(left) + size * ROOT
    error += gamma(count + 4) * (2 * sum(sizes) + frobenius(matrix))
    error += max(sizes) * off * (2 + off)
    found = float_error.eigenpair_error(matrix, values, vectors)
    assert found == pytest.approx((error, off), rel=1e-12)


def test_errors_without_eigenvalues(coarse):
    matrix = np.array([[0.7, 1.3, 0.2], [1.3, -0.4, 0.9], [0.2, 0.9, 1.1]])
    error = frobenius(matrix) * (1 + gamma(9)) + 3 * ROOT
    found = float_error.eigenpair_error(matrix, np.zeros(0), np.zeros((3, 0)))
    assert found == pytest.approx((error, 0.0), rel=1e-13)


@pytest.mark.parametrize("stretch", [1.05, 1.2, 3.0])
def test_vectors_far_from_orthonormal_prove_nothing(coarse, rng, stretch):
    """From a distance of 1 on; short of that they pay for it."""
    matrix = rng.standard_normal((5, 5))
    matrix = matrix + matrix.T
    values, vectors = np.linalg.eigh(matrix)
    radius, off = float_error.eigenpair_error(matrix, values, stretch * vectors)
    wanted = 1.01 * math.sqrt(5) * (stretch**2 - 1) + 10 * gamma(6)
    assert off == pytest.approx(wanted, rel=1e-12)
    assert (radius == 2.0**500) == (off >= 1)
    assert off >= 1 or radius < 50 * np.abs(matrix).max()


def test_eigenpairs_that_are_none_leave_the_other_bounds(monkeypatch, rng):
    """No warning, no NaN, and no bound from spectra."""
    spaces = [gw.DenseSpace(m + m.T) for m in rng.standard_normal((2, 4, 4))]
    expected = gw.certify(*spaces, effort="cubic")
    eigh = np.linalg.eigh

    def stretched(matrix):
        values, vectors = eigh(matrix)
        return values, 3 * vectors

    monkeypatch.setattr(np.linalg, "eigh", stretched)
    found = gw.certify(*spaces, np.full((4, 4), 1 / 16), effort="cubic")
    for name in ("row_means", "norm", "first", "second", "third", "residual_third"):
        assert found.bounds[name] == expected.bounds[name]
    assert found.bounds["spectral"] <= expected.bounds["norm"]
    assert found.bounds["convex"] == found.bounds["convexity"] == 0.0
