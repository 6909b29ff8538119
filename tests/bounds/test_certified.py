"""Every lower bound with its rounding, written out again from theorem 13."""

import math

import numpy as np
import pytest

import gwtools as gw
from gwtools.bounds import (
    certified,
    float_error,
    outward,
    projected_quadratic,
    transport_error,
)
from gwtools.bounds.certified import EnclosedParts
from gwtools.bounds.distributions import third_costs
from gwtools.bounds.float_error import Bound, gamma
from gwtools.transport import programs
from gwtools.transport.local_distributions import centred
from tests.bounds.formulas import (
    NAMES,
    ROOT,
    artificial_modes,
    close,
    floored,
    pair,
    rooted,
    row_transport_error,
    sides,
    whole,
)
from tests.radii import enclosed, some_extent, some_radii

# At the true unit most terms of a radius drown in the value that it is taken off.
pytestmark = pytest.mark.usefixtures("coarse")


def between(x, y, values):
    """What the line tells of two lists of values, with the larger of both weights' terms."""
    terms = max(x.radii.weights, y.radii.weights)
    return transport_error.transport_on_line(
        values[0], x.parts.weights, values[1], y.parts.weights, terms=terms
    )


def additive(x, y):
    """(m_C − m_D)² + 2 W_2²(α, β), as computed and with its radii off, before it is rounded down."""
    apart = abs(x.parts.mean - y.parts.mean)
    lines = between(x, y, (x.parts.deviations, y.parts.deviations))
    least = max(math.sqrt(lines.lower) - (x.radii.deviations + y.radii.deviations), 0.0)
    low = max(apart - (x.radii.mean + y.radii.mean), 0.0)
    return apart**2 + 2 * lines.value, low**2 + 2 * least**2


def matched_spectra(lam, mu):
    """The distance of two spectra of which the signs are matched apart, by size."""
    length, squares = max(len(lam), len(mu)), 0.0
    for sign in (1, -1):
        lists = [
            sorted((max(sign * v, 0.0) for v in values), reverse=True)
            for values in (lam, mu)
        ]
        first, second = ([*values, *[0.0] * (length - len(values))] for values in lists)
        squares += sum((u - v) ** 2 for u, v in zip(first, second, strict=True))
    return math.sqrt(squares)


def with_spectra(x, y, lam, mu, radius):
    value, low = additive(x, y)
    root = matched_spectra(lam, mu)
    radius = radius + gamma(4 * (len(lam) + len(mu)) + 6) * root + ROOT
    return value + root**2, floored(low + max(root - radius, 0.0) ** 2)


def linear(x, y, of_x, of_y):
    return certified.linear(
        x, y, enclosed(x, y, of_x, of_y, some_extent(1), some_extent(2))[1]
    )


@pytest.mark.parametrize("name", NAMES)
def test_bounds_of_linear_effort(name):
    x, y = pair(name)
    of_x, of_y = some_radii(3, x.size), some_radii(8, y.size)
    apart = abs(float(x.mean) - float(y.mean))
    terms = max(of_x.weights, of_y.weights)
    lines = transport_error.transport_on_line(
        x.deviations, x.weights, y.deviations, y.weights, terms=terms
    )
    norms = tuple(math.sqrt(float(s.residual_norm_squared())) for s in (x, y))
    row_means, norm, a_priori = outward.additive_bounds(apart, lines, norms, of_x, of_y)
    for radii in ((of_x, of_y), (of_y, of_x)):  # either one has the larger terms
        again = linear(x, y, *radii)
        assert set(again.bounds) == (
            {"row_means", "norm", "spectral"}
            if name == "low rank"
            else {"row_means", "norm"}
        )
    found = linear(x, y, of_x, of_y)
    assert found.bounds["row_means"] == pytest.approx(row_means, rel=1e-13)
    assert found.bounds["norm"] == pytest.approx(norm, rel=1e-13)
    assert found.a_priori == pytest.approx(a_priori, rel=1e-13)


@pytest.mark.parametrize(
    "sizes", [(3, 8, 2, 7), (8, 8, 2, 2), (9, 8, 2, 7), (3, 8, 8, 7)]
)
def test_spectra_of_low_rank_forms(sizes, rng):
    height, n, width, m = sizes
    x = gw.GramSpace(
        3 * rng.standard_normal((height, n)), rng.dirichlet(np.full(n, 5.0))
    )
    y = gw.PointCloud(
        rng.standard_normal((m, width)),
        rng.dirichlet(np.full(m, 5.0)),
        metric="sqeuclidean",
    )
    of_x, of_y = some_radii(3, n), some_radii(8, m)
    found = linear(x, y, of_x, of_y).bounds
    assert ("spectral" in found) == (height <= n and width <= m)
    if "spectral" not in found:
        return
    radius, spectra = 0.0, []
    for space, radii in ((x, of_x), (y, of_y)):
        covariance = space.low_rank.covariance
        covariance = (covariance + covariance.T) / 2
        values, vectors = np.linalg.eigh(covariance)
        norm = math.sqrt((covariance**2).sum())
        radius += gamma(radii.norm_terms) * norm + radii.residual + ROOT
        radius += float_error.eigenvalue_error(covariance, values, vectors)[0]
        spectra.append(values if space is x else -values)
    apart = abs(float(x.mean) - float(y.mean))
    lines = transport_error.transport_on_line(
        x.deviations,
        x.weights,
        y.deviations,
        y.weights,
        terms=max(of_x.weights, of_y.weights),
    )
    low = max(apart - (of_x.mean + of_y.mean), 0.0) ** 2
    low += (
        2 * max(math.sqrt(lines.lower) - (of_x.deviations + of_y.deviations), 0.0) ** 2
    )
    root = matched_spectra(*spectra)
    radius += gamma(4 * (height + width) + 6) * root + ROOT
    close(
        found["spectral"],
        apart**2 + 2 * lines.value + root**2,
        floored(low + max(root - radius, 0.0) ** 2),
    )


@pytest.mark.parametrize(
    "lists",
    [
        ([1.3, -0.7, 0.2], [0.4, -1.9]),
        ([0.1], [0.1001]),
        ([0.7, 1.1], [2.3, -0.3, 0.9]),
    ],
)
def test_matched_spectra(lists):
    lam, mu = (np.array(values) for values in lists)
    root = matched_spectra(lam, mu)
    left = max(root - (0.003 + gamma(4 * (len(lam) + len(mu)) + 6) * root + ROOT), 0.0)
    found = certified._spectral_bound(Bound(1.7, 0.9), lam, mu, 0.003)
    close(found, 1.7 + root**2, floored(0.9 + left**2))


def test_sides_are_those_of_matrices(rng):
    for space in (*pair("dense"), *pair("low rank")):
        side = certified.enclosed_parts(space)
        assert side.radii == float_error.matrix_radii(space)
        for found, wanted in zip(side.parts, centred(space), strict=True):
            assert np.array_equal(found, wanted)


def test_parts_add_up(rng):
    """Of a matrix that is off its transpose, the symmetric part is split."""
    weights, skewed = rng.dirichlet(np.ones(5)), rng.standard_normal((5, 5))
    symmetric = (skewed + skewed.T) / 2
    parts = centred(gw.DenseSpace(symmetric, weights).with_data(skewed, weights))
    assert np.array_equal(parts.matrix, symmetric)
    assert parts.mean == pytest.approx(float(weights @ symmetric @ weights), rel=1e-13)
    assert parts.row_means == pytest.approx(symmetric @ weights, rel=1e-12)
    again = parts.mean + parts.deviations[:, None] + parts.deviations + parts.residual
    assert np.abs(again - symmetric).max() <= 1e-14
    assert np.abs(parts.residual @ weights).max() <= 1e-14


@pytest.mark.parametrize("name", NAMES)
def test_first(name):
    x, y = sides(name)
    sizes = [np.sqrt(s.parts.matrix**2 @ s.parts.weights) for s in (x, y)]
    lines = between(x, y, sizes)
    off = 0.0
    for s, size in zip((x, y), sizes, strict=True):
        off += (
            gamma(s.radii.size + s.radii.weights + 5) * max(size.tolist())
            + s.radii.entries
            + ROOT
        )
    lower = floored(max(math.sqrt(lines.lower) - off, 0.0) ** 2)
    assert 0 < lower < lines.value
    close(certified.first(x, y), lines.value, lower)
    swapped = certified.first(y, x)
    assert swapped.lower == pytest.approx(lower, rel=1e-9)


def second(x, y, same_factors):
    lists = [
        (s.parts.matrix.ravel(), np.outer(s.parts.weights, s.parts.weights).ravel())
        for s in (x, y)
    ]
    terms = 2 * max(x.radii.weights, y.radii.weights) + 1
    lines = transport_error.transport_on_line(
        *lists[0], *lists[1], terms=terms, same_factors=same_factors
    )
    left = max(math.sqrt(lines.lower) - (x.radii.entries + y.radii.entries), 0.0)
    return lines.value, floored(left**2)


@pytest.mark.parametrize("name", NAMES)
def test_second(name):
    x, y = sides(name)
    value, lower = second(x, y, name == "uniform")
    assert 0 < lower < value
    close(certified.second(x, y), value, lower)


def test_second_of_products_that_agree(rng):
    """Atoms pair off where they are the same ones of the same weights, not where their products happen to be equal."""
    weights, order = np.array([0.2, 0.3, 0.5]), np.array([2, 0, 1])
    matrix = np.array([[0.1, 0.7, 1.3], [0.7, 0.4, 1.9], [1.3, 1.9, 2.2]])
    spaces = (
        gw.DenseSpace(matrix, weights),
        gw.DenseSpace(2 * matrix, weights),
        gw.DenseSpace(2 * matrix[np.ix_(order, order)], weights[order]),
    )
    x, same, moved = (
        EnclosedParts(centred(space), some_radii(5, 3)) for space in spaces
    )
    close(certified.second(x, same), *second(x, same, True))
    close(certified.second(x, moved), *second(x, moved, False))
    assert second(x, moved, False)[1] < 0.9999 * second(x, same, True)[1]


def test_errors_of_transports_between_rows():
    x, y = sides("dense")
    large_residual = x._replace(parts=x.parts._replace(residual=5 * x.parts.residual))
    large_matrix = y._replace(parts=y.parts._replace(matrix=-3 * y.parts.matrix))
    for left, right in (
        (x, y),
        (large_residual, y),
        (x, large_matrix),
        (large_residual, large_matrix),
    ):
        assert certified.row_transport_error(left, right) == pytest.approx(
            row_transport_error(left, right), rel=1e-13
        )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("residual", [False, True])
def test_third(name, residual):
    x, y = sides(name)
    offset, costs = third_costs(x.parts, y.parts, residual=residual)
    assert (offset > 0) == residual
    program = programs.exact(costs, x.parts.weights, y.parts.weights)
    below = row_transport_error(x, y) + gamma(8) * costs
    terms = max(x.radii.weights, y.radii.weights)
    potential = program.potentials[1]
    proved = transport_error.dual_value(
        costs, potential, x.parts.weights, y.parts.weights, terms, below
    )
    off = (
        whole(x.radii) + whole(y.radii)
        if residual
        else x.radii.entries + y.radii.entries
    )
    lower = rooted(offset + max(proved, 0.0), off)
    assert 0 < lower < offset + program.lower
    close(certified.third(x, y, residual), offset + program.lower, lower)


def test_third_of_equal_rows_is_left_with_the_means():
    """Costs of nothing but rounding prove less than 0, and that is no bound."""
    weights = np.full(3, 1 / 3)
    matrix = np.array([[0.0, 1.3, 0.7], [1.3, 0.0, 0.9], [0.7, 0.9, 0.0]])
    x, y = (
        EnclosedParts(centred(gw.DenseSpace(c, weights)), some_radii(5, 3))
        for c in (matrix, matrix + 1.9)
    )
    offset = third_costs(x.parts, y.parts, residual=True)[0]
    assert offset == pytest.approx(1.9**2, rel=1e-12)
    lower = rooted(offset, whole(x.radii) + whole(y.radii))
    assert certified.third(x, y, True).lower == pytest.approx(lower, rel=1e-12)
    assert certified.third(x, x, False).lower == 0.0


@pytest.mark.parametrize(
    ("value", "radius"), [(1.7, 0.3), (0.7, 1.3), (-0.7, 0.3), (0.0, 0.0), (1.7, 0.0)]
)
def test_radii_come_off_roots(value, radius):
    assert certified.lower_by_root(value, radius) == pytest.approx(
        rooted(value, radius), rel=1e-13, abs=0
    )


@pytest.mark.parametrize("name", NAMES)
def test_modes(name):
    for side in sides(name):
        root = np.sqrt(side.parts.weights)
        whole_matrix = root[:, None] * side.parts.residual * root[None, :]
        values, vectors = projected_quadratic.spectrum(side.parts)
        error, off = float_error.eigenvalue_error(whole_matrix, values, vectors)
        error += gamma(2 * side.radii.weights + 8) * math.sqrt((whole_matrix**2).sum())
        found = certified.modes(side)
        assert (found.error, found.off) == pytest.approx((error, off), rel=1e-12)
        assert np.array_equal(found.values, values)
        assert np.array_equal(found.vectors, vectors)


@pytest.mark.parametrize("name", NAMES)
def test_spectral(name):
    x, y = sides(name)
    of_x, of_y = artificial_modes(x, y)
    radius = x.radii.residual + of_x.error + y.radii.residual + of_y.error
    value, lower = with_spectra(x, y, of_x.values, of_y.values, radius)
    assert 0 < lower < value
    close(certified.spectral(x, y, of_x, of_y), value, lower)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("swapped", [False, True])
def test_rank_one(swapped, sign):
    """Both signs of the factor, of which one sorts alike and the other against; either space of the larger moment."""
    rng = np.random.default_rng(5)
    spaces = [
        (1.5 + rng.standard_normal(size), rng.dirichlet(np.full(size, 5.0)), factor)
        for size, factor in ((6, 1.0), (9, 2.0))
    ]
    h, k = (
        factor * values for values, _, factor in (spaces[::-1] if swapped else spaces)
    )
    a, b = (weights for _, weights, _ in (spaces[::-1] if swapped else spaces))
    of_x, of_y = some_radii(4, len(h)), some_radii(6, len(k))
    found = certified.rank_one(
        gw.GramSpace(h[None, :], a), gw.GramSpace(sign * k[None, :], b), of_x, of_y
    )
    # The values of both are mostly positive, so that sorting them alike is the better
    # way.
    alike = transport_error.transport_on_line(
        h, a, k, b, terms=max(of_x.weights, of_y.weights)
    )
    assert alike.value < transport_error.transport_on_line(h, a, -k, b).value
    p, q = float(a @ h**2), float(b @ k**2)
    off = (
        gamma(len(h) + of_x.weights + 8) * p
        + gamma(len(k) + of_y.weights + 8) * q
        + (len(h) + len(k)) * 2.0**-22
    )
    proved = (abs(p - q) - off) ** 2 / 2 + alike.lower * (p + q - off - alike.lower / 2)
    assert abs(p - q) > 10 * off > 1e-3
    close(
        found,
        (p - q) ** 2 / 2 + alike.value * (p + q - alike.value / 2),
        floored(proved - 2.0**-22),
    )
