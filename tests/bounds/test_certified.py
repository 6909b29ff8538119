"""Every lower bound with its rounding, written out again from theorem 13: at a large unit, and with large radii."""

import math
from dataclasses import replace

import numpy as np
import pytest

import gwtools as gw
from gwtools.bounds import certified, float_error, projected_quadratic
from gwtools.bounds.certified import EnclosedParts, Modes
from gwtools.bounds.distributions import third_costs
from gwtools.bounds.float_error import Bound, gamma
from gwtools.transport import programs
from gwtools.transport.local_distributions import centred
from tests.radii import enclosed, some_extent, some_radii

pytestmark = pytest.mark.usefixtures("coarse")

ROOT = 2.0**-14  # what underflow is to a root, in this file


def floored(value):
    return value * (1 - gamma(20))


def whole(radii, spectrum=0.0):
    return 1.01 * math.sqrt(
        radii.mean**2 + 2 * radii.deviations**2 + (radii.residual + spectrum) ** 2
    )


def rooted(value, radius):
    """A radius off the root of a value that is rounded down before and after."""
    return floored(max(math.sqrt(floored(max(value, 0.0))) - radius, 0.0) ** 2)


def close(found, value, lower):
    assert found.value == pytest.approx(value, rel=1e-12, abs=0)
    assert found.lower == pytest.approx(lower, rel=1e-12, abs=0)
    assert found.upper == math.inf


def matrix(rng, size, scale, shift):
    base = scale * rng.standard_normal((size, size))
    return (base + base.T) / 2 + shift


def pair(name):
    """Two spaces far apart, so that no bound is 0 for all of the rounding."""
    rng = np.random.default_rng(11)
    if name == "dense":
        spaces = [
            gw.DenseSpace(matrix(rng, 6, 1.0, 0.3), rng.dirichlet(np.full(6, 5.0))),
            gw.DenseSpace(matrix(rng, 9, 1.7, 4.0), rng.dirichlet(np.full(9, 5.0))),
        ]
    elif name == "swapped":
        spaces = pair("dense")[::-1]
    elif name == "uniform":
        spaces = [
            gw.DenseSpace(matrix(rng, 6, 1.0, 5.3)),
            gw.DenseSpace(matrix(rng, 6, 1.9, 0.0)),
        ]
    else:
        spaces = [
            gw.GramSpace(
                2 * rng.standard_normal((3, 8)), rng.dirichlet(np.full(8, 5.0))
            ),
            gw.PointCloud(
                rng.standard_normal((7, 2)) * 2,
                rng.dirichlet(np.full(7, 5.0)),
                metric="sqeuclidean",
            ),
        ]
    return spaces


def sides(name):
    return [
        EnclosedParts(centred(space), some_radii(seed, space.size))
        for seed, space in zip((3, 8), pair(name), strict=True)
    ]


NAMES = ["dense", "swapped", "uniform", "low rank"]


def between(x, y, values):
    """What the line tells of two lists of values, with the larger of both weights' terms."""
    terms = max(x.radii.weights, y.radii.weights)
    return float_error.transport_on_line(
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
    lines = float_error.transport_on_line(
        x.deviations, x.weights, y.deviations, y.weights, terms=terms
    )
    norms = tuple(math.sqrt(float(s.residual_norm_squared())) for s in (x, y))
    row_means, norm, a_priori = float_error.additive_bounds(
        apart, lines, norms, of_x, of_y
    )
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
    lines = float_error.transport_on_line(
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


def second(x, y, products_of):
    lists = [
        (s.parts.matrix.ravel(), np.outer(s.parts.weights, s.parts.weights).ravel())
        for s in (x, y)
    ]
    terms = 2 * max(x.radii.weights, y.radii.weights) + 1
    lines = float_error.transport_on_line(
        *lists[0], *lists[1], terms=terms, products_of=products_of
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


def transport_error(x, y):
    top = sum(
        max(float(np.abs(s.parts.matrix).max()), float(np.abs(s.parts.residual).max()))
        for s in (x, y)
    )
    return (
        16
        * gamma(
            6 * (x.radii.size + y.radii.size) + x.radii.weights + y.radii.weights + 40
        )
        * top**2
    )


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
        assert certified._transport_error(left, right) == pytest.approx(
            transport_error(left, right), rel=1e-13
        )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("residual", [False, True])
def test_third(name, residual):
    x, y = sides(name)
    offset, costs = third_costs(x.parts, y.parts, residual=residual)
    assert (offset > 0) == residual
    program = programs.exact(costs, x.parts.weights, y.parts.weights)
    below = transport_error(x, y) + gamma(8) * costs
    terms = max(x.radii.weights, y.radii.weights)
    potential = program.potentials[1]
    proved = float_error.dual_value(
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
    assert certified._lower_by_root(value, radius) == pytest.approx(
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


def artificial_modes(x, y):
    """Modes with large errors."""
    (lam, U), (mu, V) = (projected_quadratic.spectrum(s.parts) for s in (x, y))
    return Modes(lam, U, 0.0031, 0.0023), Modes(mu, V, 0.0017, 0.0041)


@pytest.mark.parametrize("name", NAMES)
def test_spectral(name):
    x, y = sides(name)
    of_x, of_y = artificial_modes(x, y)
    radius = x.radii.residual + of_x.error + y.radii.residual + of_y.error
    value, lower = with_spectra(x, y, of_x.values, of_y.values, radius)
    assert 0 < lower < value
    close(certified.spectral(x, y, of_x, of_y), value, lower)


def test_wholes_are_the_larger_of_two():
    x, y = sides("dense")
    of_x, of_y = artificial_modes(x, y)
    parts = whole(x.radii, of_x.error) + whole(y.radii, of_y.error)
    assert parts > x.radii.entries + y.radii.entries
    assert certified._root_radius(x, y, of_x, of_y) == pytest.approx(parts, rel=1e-13)
    rough = x._replace(radii=replace(x.radii, entries=0.7))
    assert certified._root_radius(rough, y, of_x, of_y) == pytest.approx(
        0.7 + y.radii.entries, rel=1e-13
    )
    assert certified._root_radius(y, rough, of_x, of_y) == pytest.approx(
        y.radii.entries + 0.7, rel=1e-13
    )


def proved_point(p, point, x, y, of_x, of_y):
    """Theorem 13 f with theorem 10 (i), entry by entry."""
    theta, d, duals, q = point
    n, m = len(p.a), len(p.b)
    root = np.sqrt(np.outer(p.a, p.b))
    margin = (
        64
        * 2.0**-20
        * max(np.abs(p.lam).tolist(), default=0.0)
        * max(np.abs(p.mu).tolist(), default=0.0)
    )
    slack = np.array(
        [[max(v - margin, 0.0) for v in row] for row in d.tolist()]
    ).reshape(d.shape)
    # Each s falls by as much as the least slack of its row needs.
    excess = sum(max([0.0, *(margin - v for v in row)]) for row in d.tolist())
    curved = np.einsum("ki,ij,lj->kl", p.U, slack * q, p.V) / root
    bent = np.einsum("ki,ij,lj->kl", abs(p.U), slack * abs(q), abs(p.V)) / root
    linear_part = theta[0] * p.costs[0] + theta[1] * p.costs[1] + theta[2] * p.costs[2]
    sizes = (
        theta[0] * abs(p.costs[0])
        + theta[1] * abs(p.costs[1])
        + theta[2] * abs(p.costs[2])
    )
    slope = point._replace(d=slack).slope(p)
    assert slope == pytest.approx(
        linear_part + 2 * theta[0] * curved, rel=1e-11, abs=1e-11
    )
    below = gamma(n + m + x.radii.weights + y.radii.weights + 16) * 2 * theta[0] * bent
    below = below + gamma(12) * sizes + transport_error(x, y)
    potential = programs.exact(slope, p.a, p.b).potentials[1]
    terms = max(x.radii.weights, y.radii.weights)
    proved = float_error.dual_value(slope, potential, p.a, p.b, terms, below)
    norms = float((p.lam**2).sum() + (p.mu**2).sum())
    constant = theta[0] * (norms + duals - float((slack * q**2).sum()))
    tilted = 2 * theta[0] * math.sqrt(((slack * q) ** 2).sum())
    tilted *= of_x.off + of_y.off + of_x.off * of_y.off
    sums = norms + abs(duals) + float((d * q**2).sum()) + abs(proved)
    return constant + proved - excess - 1.01 * tilted - gamma(n * m + 20) * sums


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("theta", [(0.5, 0.3, 0.2), (1.0, 0.0, 0.0), (0.1, 0.2, 0.7)])
def test_points_are_proved(name, theta, rng):
    x, y = sides(name)
    of_x, of_y = artificial_modes(x, y)
    p = projected_quadratic.minorants(x.parts, y.parts, of_x[:2], of_y[:2])
    shape = len(p.lam), len(p.mu)
    margin = 64 * 2.0**-20 * np.abs(p.lam).max() * np.abs(p.mu).max()
    d = rng.uniform(0.5, 1.5, shape)
    d[0, 0], d[0, 1], d[2, 1], d[3, 2] = 0.0, 0.3 * margin, 0.7 * margin, 1.1 * margin
    q = rng.uniform(-0.3, 0.3, shape)
    point = projected_quadratic.Point(np.array(theta), d, -0.7, q)
    wanted = proved_point(p, point, x, y, of_x, of_y)
    assert certified._proved_point(p, point, x, y, of_x, of_y) == pytest.approx(
        wanted, rel=1e-11
    )


def test_points_without_finite_slopes_prove_nothing():
    x, y = sides("dense")
    of_x, of_y = artificial_modes(x, y)
    p = projected_quadratic.minorants(x.parts, y.parts, of_x[:2], of_y[:2])
    point = projected_quadratic.linear_point(p, 1)
    endless = point._replace(
        q=np.full_like(point.q, np.inf),
        d=np.ones_like(point.d),
        theta=np.array([1.0, 0.0, 0.0]),
    )
    with np.errstate(invalid="ignore"):
        assert certified._proved_point(p, endless, x, y, of_x, of_y) == -np.inf


@pytest.mark.parametrize("name", NAMES)
def test_quadratic(name):
    x, y = sides(name)
    of_x, of_y = artificial_modes(x, y)
    p = projected_quadratic.minorants(x.parts, y.parts, of_x[:2], of_y[:2])
    point, value = projected_quadratic.maximise(p)
    offset = (x.parts.mean - y.parts.mean) ** 2
    proved = offset * (1 - gamma(8)) + proved_point(p, point, x, y, of_x, of_y)
    wholes = whole(x.radii, of_x.error) + whole(y.radii, of_y.error)
    lower = rooted(proved, max(wholes, x.radii.entries + y.radii.entries))
    assert 0 < lower < offset + value
    close(certified.convex(x, y, of_x, of_y), offset + value, lower)


def plans(x, y):
    """A coupling, and one whose rows and columns miss the weights by about a millionth."""
    a, b = x.parts.weights, y.parts.weights
    # The product coupling alone would leave nothing of ⟨π, R π S⟩.
    vertex = programs.exact(
        np.random.default_rng(2).standard_normal((len(a), len(b))), a, b
    ).plan.dense()
    coupling = (np.outer(a, b) + vertex) / 2
    missing = coupling * (
        1 + 1e-6 * np.random.default_rng(1).uniform(-1, 1, coupling.shape)
    )
    return coupling, missing, 1.1 * missing


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("curvature_of_one", [0.0, 0.003])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_convexity(name, curvature_of_one, which):
    x, y = sides(name)
    plan = plans(x, y)[which]
    (a, _, m_C, alpha, R), (b, _, m_D, beta, S) = x.parts, y.parts
    cross = R @ plan @ S
    costs = 2 * (alpha[:, None] - beta[None, :]) ** 2 - 4 * cross
    constant = (m_C - m_D) ** 2
    constant += float(a @ (R**2 @ a)) + float(b @ (S**2 @ b))
    between = float((plan * cross).sum())
    program = programs.exact(costs, a, b)
    kappa = math.sqrt(max((plan.sum(1) / a).tolist()) * max((plan.sum(0) / b).tolist()))
    curvature = 2 * curvature_of_one * (1 + kappa) ** 2 * min(len(a), len(b))
    curvature *= 1 + gamma(len(a) + len(b) + x.radii.weights + y.radii.weights + 20)
    index = 2 * (len(a) + len(b)) + 2 * (x.radii.weights + y.radii.weights) + 20
    size = float(abs(R).max()) * float(abs(S).max()) * float(plan.sum())
    below = gamma(8) * abs(costs) + 8 * gamma(index) * size
    terms = max(x.radii.weights, y.radii.weights)
    proved = float_error.dual_value(costs, program.potentials[1], a, b, terms, below)
    lower = constant + 2 * between + proved - curvature
    lower -= gamma(index) * (constant + abs(between) + abs(proved) + 2 * size)
    lower = rooted(lower, whole(x.radii) + whole(y.radii))
    value = constant + 2 * between + program.lower - curvature
    assert 0 < lower < value
    found = certified.convexity(x, y, plan, curvature_of_one)
    assert found.value == pytest.approx(value, rel=1e-11)
    assert found.lower == pytest.approx(lower, rel=1e-11)


@pytest.mark.parametrize(
    ("signs", "known"),
    [((1, -1), True), ((-1, 1), True), ((1, 1), False), ((-1, -1), False)],
)
def test_signs_of_kinds(signs, known):
    x, y = sides("low rank")
    sizes = [
        math.sqrt(float(s.parts.weights @ s.parts.residual**2 @ s.parts.weights)) + ROOT
        for s in (x, y)
    ]
    wanted = 1.01 * (
        x.radii.residual * (sizes[1] + y.radii.residual) + y.radii.residual * sizes[0]
    )
    found = certified.eigenvalue_product_of_kinds(x, y, *signs)
    assert found == pytest.approx(wanted, rel=1e-13) if known else found == math.inf
    for sign in (-1, 1):
        assert (
            certified.eigenvalue_product_of_kinds(x, y, 0, sign)
            == certified.eigenvalue_product_of_kinds(x, y, sign, 0)
            == math.inf
        )


@pytest.mark.parametrize(
    ("lam", "mu"),
    [
        ([-1.3, 0.7], [-1.9, 0.2]),
        ([-0.3, 1.7], [-0.9, 1.2]),
        ([0.3, 1.7], [-1.9, -1.2]),
        ([0.3, 0.7], [-9.0, -1.2]),
        ([-9.0, -1.2], [0.3, 0.7]),
        ([-0.3, -0.7], [9.0, 1.2]),
        ([0.3, 1.7], [0.4, 1.1]),
        ([-0.3, -1.7], [-0.4, -1.1]),
        ([], [-0.4, 1.1]),
    ],
)
def test_signs_of_spectra(lam, mu):
    of_x, of_y = (
        Modes(np.array(values), np.zeros((0, 0)), error, 0.1)
        for values, error in ((lam, 0.03), (mu, 0.07))
    )
    (low_x, high_x), (low_y, high_y) = (
        (min([0.0, *v]) - e, max([0.0, *v]) + e) for v, e in ((lam, 0.03), (mu, 0.07))
    )
    wanted = (1 + gamma(8)) * max(low_x * low_y, high_x * high_y)
    assert certified.largest_eigenvalue_product(of_x, of_y) == pytest.approx(
        wanted, rel=1e-13
    )
    # All of one kind of sign is left with a product of errors.
    assert certified.largest_eigenvalue_product(of_x, of_y) >= 0.03 * 0.07


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
    alike = float_error.transport_on_line(
        h, a, k, b, terms=max(of_x.weights, of_y.weights)
    )
    assert alike.value < float_error.transport_on_line(h, a, -k, b).value
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
