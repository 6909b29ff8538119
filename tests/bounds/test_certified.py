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
    some_weights,
    whole,
)
from tests.radii import enclosed, some_extent, some_radii

# At the true unit most terms of a radius drown in the value that it is taken off.
pytestmark = pytest.mark.usefixtures("coarse")


def transport(values_x, values_y, x, y):
    """W_2² between numbers at the atoms, with the larger ω of both weights."""
    return transport_error.transport_on_line(
        values_x,
        x.parts.weights,
        values_y,
        y.parts.weights,
        terms=max(x.radii.weights, y.radii.weights),
    )


def additive(mean_gap, lines, of_x, of_y):
    """(m_C − m_D)² + 2 W_2²(α, β): its value, and less its radii, not rounded down."""
    low = max(mean_gap - (of_x.mean + of_y.mean), 0.0)
    radius = of_x.deviations + of_y.deviations
    least = max(math.sqrt(lines.lower) - radius, 0.0)
    return mean_gap**2 + 2 * lines.value, low**2 + 2 * least**2


def with_spectra(additive_part, lam, mu, radius):
    """Theorem 4: its value, and rounded down."""
    value, low = additive_part
    root = matched_spectra(lam, mu)
    radius = radius + gamma(4 * (len(lam) + len(mu)) + 6) * root + ROOT
    least = max(root - radius, 0.0)
    return value + root**2, floored(low + least**2)


def matched_spectra(lam, mu):
    """The distance of two spectra of which the signs are matched apart, by size."""
    length = max(len(lam), len(mu))
    squares = 0.0
    for sign in (1, -1):
        lists = []
        for values in (lam, mu):
            sizes = sorted(max(sign * v, 0.0) for v in values)
            zeros = [0.0] * (length - len(values))
            lists.append([*zeros, *sizes])
        squares += sum((u - v) ** 2 for u, v in zip(*lists, strict=True))
    return math.sqrt(squares)


def linear(x, y, of_x, of_y):
    _, enclosed_pair = enclosed(x, y, of_x, of_y, some_extent(1), some_extent(2))
    return certified.linear(x, y, enclosed_pair)


def lines_of_spaces(x, y, of_x, of_y):
    return transport_error.transport_on_line(
        x.deviations,
        x.weights,
        y.deviations,
        y.weights,
        terms=max(of_x.weights, of_y.weights),
    )


@pytest.mark.parametrize("name", NAMES)
def test_bounds_of_linear_effort(name):
    x, y = pair(name)
    of_x = some_radii(3, x.size)
    of_y = some_radii(8, y.size)
    mean_gap = abs(float(x.mean) - float(y.mean))
    lines = lines_of_spaces(x, y, of_x, of_y)
    norm_x = math.sqrt(float(x.residual_norm_squared()))
    norm_y = math.sqrt(float(y.residual_norm_squared()))
    row_means, norm, a_priori = outward.additive_bounds(
        mean_gap, lines, (norm_x, norm_y), of_x, of_y
    )
    found = linear(x, y, of_x, of_y)
    assert found.bounds["row_means"] == pytest.approx(row_means, rel=1e-13)
    assert found.bounds["norm"] == pytest.approx(norm, rel=1e-13)
    assert found.a_priori == pytest.approx(a_priori, rel=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_spectra_are_of_linear_effort_where_they_are_small(name):
    x, y = pair(name)
    of_x = some_radii(3, x.size)
    of_y = some_radii(8, y.size)
    names = {"row_means", "norm"}
    if name == "low rank":
        names.add("spectral")
    for radii in ((of_x, of_y), (of_y, of_x)):  # either one has the larger terms
        assert set(linear(x, y, *radii).bounds) == names


def covariance_spectrum(space, of):
    """Eigenvalues of the covariance with their sign in R, and their radius."""
    covariance = space.low_rank.covariance
    covariance = (covariance + covariance.T) / 2
    values, vectors = np.linalg.eigh(covariance)
    norm = math.sqrt((covariance**2).sum())
    radius = gamma(of.norm_terms) * norm + of.residual + ROOT
    radius += float_error.eigenpair_error(covariance, values, vectors)[0]
    return space.low_rank.sign * values, radius


@pytest.mark.parametrize(
    "sizes", [(3, 8, 2, 7), (8, 8, 2, 2), (9, 8, 2, 7), (3, 8, 8, 7)]
)
def test_spectra_of_low_rank_forms(sizes, rng):
    height, n, width, m = sizes
    factor = 3 * rng.standard_normal((height, n))
    x = gw.GramSpace(factor, some_weights(rng, n))
    points = rng.standard_normal((m, width))
    y = gw.PointCloud(points, some_weights(rng, m), metric="sqeuclidean")
    of_x = some_radii(3, n)
    of_y = some_radii(8, m)
    found = linear(x, y, of_x, of_y).bounds
    assert ("spectral" in found) == (height <= n and width <= m)
    if "spectral" not in found:
        return
    assert (x.low_rank.sign, y.low_rank.sign) == (1, -1)
    mean_gap = abs(float(x.mean) - float(y.mean))
    lines = lines_of_spaces(x, y, of_x, of_y)
    lam, radius_x = covariance_spectrum(x, of_x)
    mu, radius_y = covariance_spectrum(y, of_y)
    additive_part = additive(mean_gap, lines, of_x, of_y)
    wanted = with_spectra(additive_part, lam, mu, radius_x + radius_y)
    close(found["spectral"], *wanted)


@pytest.mark.parametrize(
    ("lam", "mu"),
    [
        ([1.3, -0.7, 0.2], [0.4, -1.9]),
        ([0.1], [0.1001]),
        ([0.7, 1.1], [2.3, -0.3, 0.9]),
    ],
)
def test_matched_spectra(lam, mu):
    wanted = with_spectra((1.7, 0.9), lam, mu, 0.003)
    found = certified._spectral_bound(
        Bound(1.7, 0.9), np.array(lam), np.array(mu), 0.003
    )
    close(found, *wanted)


def test_sides_are_those_of_matrices(rng):
    for space in (*pair("dense"), *pair("low rank")):
        side = certified.enclosed_parts(space)
        assert side.radii == float_error.matrix_radii(space)
        for found, wanted in zip(side.parts, centred(space), strict=True):
            assert np.array_equal(found, wanted)


def test_parts_add_up(rng):
    """Of a matrix that is off its transpose, the symmetric part is split."""
    weights = rng.dirichlet(np.ones(5))
    skewed = rng.standard_normal((5, 5))
    symmetric = (skewed + skewed.T) / 2
    parts = centred(gw.DenseSpace(symmetric, weights).with_data(skewed, weights))
    assert np.array_equal(parts.matrix, symmetric)
    assert parts.mean == pytest.approx(float(weights @ symmetric @ weights), rel=1e-13)
    assert parts.row_means == pytest.approx(symmetric @ weights, rel=1e-12)
    again = parts.mean + parts.deviations[:, None] + parts.deviations + parts.residual
    assert np.abs(again - symmetric).max() <= 1e-14
    assert np.abs(parts.residual @ weights).max() <= 1e-14


def eccentricities(side):
    values = np.sqrt(side.parts.matrix**2 @ side.parts.weights)
    index = side.radii.size + side.radii.weights + 5
    radius = gamma(index) * max(values.tolist()) + side.radii.entries + ROOT
    return values, radius


@pytest.mark.parametrize("name", NAMES)
def test_first(name):
    x, y = sides(name)
    values_x, radius_x = eccentricities(x)
    values_y, radius_y = eccentricities(y)
    lines = transport(values_x, values_y, x, y)
    least = max(math.sqrt(lines.lower) - (radius_x + radius_y), 0.0)
    lower = floored(least**2)
    assert 0 < lower < lines.value
    close(certified.first(x, y), lines.value, lower)
    swapped = certified.first(y, x)
    assert swapped.lower == pytest.approx(lower, rel=1e-9)


def second(x, y, same_factors):
    a = x.parts.weights
    b = y.parts.weights
    lines = transport_error.transport_on_line(
        x.parts.matrix.ravel(),
        np.outer(a, a).ravel(),
        y.parts.matrix.ravel(),
        np.outer(b, b).ravel(),
        terms=2 * max(x.radii.weights, y.radii.weights) + 1,
        same_factors=same_factors,
    )
    radius = x.radii.entries + y.radii.entries
    least = max(math.sqrt(lines.lower) - radius, 0.0)
    return lines.value, floored(least**2)


@pytest.mark.parametrize("name", NAMES)
def test_second(name):
    x, y = sides(name)
    value, lower = second(x, y, name == "uniform")
    assert 0 < lower < value
    close(certified.second(x, y), value, lower)


def test_second_of_products_that_agree(rng):
    """Atoms of one weight pair off, not those whose products happen to be equal."""
    weights = np.array([0.2, 0.3, 0.5])
    order = np.array([2, 0, 1])
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
    for left in (x, large_residual):
        for right in (y, large_matrix):
            found = certified.row_transport_error(left, right)
            wanted = row_transport_error(left, right)
            assert found == pytest.approx(wanted, rel=1e-13)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("residual", [False, True])
def test_third(name, residual):
    x, y = sides(name)
    a = x.parts.weights
    b = y.parts.weights
    offset, costs = third_costs(x.parts, y.parts, residual=residual)
    assert (offset > 0) == residual
    program = programs.exact(costs, a, b)
    below = row_transport_error(x, y) + gamma(8) * costs
    omega = max(x.radii.weights, y.radii.weights)
    potential = program.potentials[1]
    proved = transport_error.dual_value(costs, potential, a, b, omega, below)
    radius = x.radii.entries + y.radii.entries
    if residual:
        radius = whole(x.radii) + whole(y.radii)
    lower = rooted(offset + max(proved, 0.0), radius)
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
    ("value", "radius"),
    [
        (1.7, 0.3),
        (0.7, 1.3),
        (-0.7, 0.3),
        (0.0, 0.0),
        (1.7, 0.0),
    ],
)
def test_radii_come_off_roots(value, radius):
    found = certified.lower_by_root(value, radius)
    assert found == pytest.approx(rooted(value, radius), rel=1e-13, abs=0)


@pytest.mark.parametrize("name", NAMES)
def test_modes(name):
    for side in sides(name):
        root = np.sqrt(side.parts.weights)
        matrix = root[:, None] * side.parts.residual * root[None, :]
        values, vectors = projected_quadratic.spectrum(side.parts)
        error, off = float_error.eigenpair_error(matrix, values, vectors)
        error += gamma(2 * side.radii.weights + 8) * math.sqrt((matrix**2).sum())
        found = certified.modes(side)
        assert (found.error, found.vectors_error) == pytest.approx(
            (error, off), rel=1e-12
        )
        assert np.array_equal(found.values, values)
        assert np.array_equal(found.vectors, vectors)


@pytest.mark.parametrize("name", NAMES)
def test_spectral(name):
    x, y = sides(name)
    of_x, of_y = artificial_modes(x, y)
    radius = x.radii.residual + of_x.error + y.radii.residual + of_y.error
    lines = transport(x.parts.deviations, y.parts.deviations, x, y)
    mean_gap = abs(x.parts.mean - y.parts.mean)
    additive_part = additive(mean_gap, lines, x.radii, y.radii)
    value, lower = with_spectra(additive_part, of_x.values, of_y.values, radius)
    assert 0 < lower < value
    close(certified.spectral(x, y, of_x, of_y), value, lower)


def rank_one(alike, p, q, off):
    """Theorem 12 (f), where sorting both alike is the better way."""
    value = (p - q) ** 2 / 2 + alike.value * (p + q - alike.value / 2)
    proved = (abs(p - q) - off) ** 2 / 2
    proved += alike.lower * (p + q - off - alike.lower / 2)
    return value, floored(proved - 2.0**-22)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("swapped", [False, True])
def test_rank_one(swapped, sign):
    """Either sign of the factor sorts alike; either space has the larger moment."""
    rng = np.random.default_rng(5)
    lists = []
    for size, factor in ((6, 1.0), (9, 2.0)):
        values = 1.5 + rng.standard_normal(size)
        lists.append((factor * values, some_weights(rng, size)))
    (h, a), (k, b) = lists[::-1] if swapped else lists
    of_x = some_radii(4, len(h))
    of_y = some_radii(6, len(k))
    x = gw.GramSpace(h[None, :], a)
    y = gw.GramSpace(sign * k[None, :], b)
    # The values of both are mostly positive, so that sorting them alike is the better
    # way.
    omega = max(of_x.weights, of_y.weights)
    alike = transport_error.transport_on_line(h, a, k, b, terms=omega)
    assert alike.value < transport_error.transport_on_line(h, a, -k, b).value
    p = float(a @ h**2)
    q = float(b @ k**2)
    off = gamma(len(h) + of_x.weights + 8) * p
    off += gamma(len(k) + of_y.weights + 8) * q
    off += (len(h) + len(k)) * 2.0**-22
    assert abs(p - q) > 10 * off > 1e-3
    close(certified.rank_one(x, y, of_x, of_y), *rank_one(alike, p, q, off))
