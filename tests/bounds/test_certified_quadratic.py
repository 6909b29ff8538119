"""Bounds by convex quadratics are rounded down as theorem 13 says, term by term."""

import math
from dataclasses import replace

import numpy as np
import pytest

from gwtools.bounds import certified_quadratic, projected_quadratic, transport_error
from gwtools.bounds.certified import Modes
from gwtools.bounds.float_error import gamma
from gwtools.transport import programs
from tests.bounds.formulas import (
    NAMES,
    ROOT,
    artificial_modes,
    close,
    rooted,
    row_transport_error,
    sides,
    whole,
)

# At the true unit most terms of a radius drown in the value that it is taken off.
pytestmark = pytest.mark.usefixtures("coarse")


def test_wholes_are_the_larger_of_two():
    x, y = sides("dense")
    of_x, of_y = artificial_modes(x, y)
    parts = whole(x.radii, of_x.error) + whole(y.radii, of_y.error)
    assert parts > x.radii.entries + y.radii.entries
    assert certified_quadratic._root_radius(x, y, of_x, of_y) == pytest.approx(
        parts, rel=1e-13
    )
    rough = x._replace(radii=replace(x.radii, entries=0.7))
    assert certified_quadratic._root_radius(rough, y, of_x, of_y) == pytest.approx(
        0.7 + y.radii.entries, rel=1e-13
    )
    assert certified_quadratic._root_radius(y, rough, of_x, of_y) == pytest.approx(
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
    below = below + gamma(12) * sizes + row_transport_error(x, y)
    potential = programs.exact(slope, p.a, p.b).potentials[1]
    terms = max(x.radii.weights, y.radii.weights)
    proved = transport_error.dual_value(slope, potential, p.a, p.b, terms, below)
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
    assert certified_quadratic._proved_point(
        p, point, x, y, of_x, of_y
    ) == pytest.approx(wanted, rel=1e-11)


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
        assert (
            certified_quadratic._proved_point(p, endless, x, y, of_x, of_y) == -np.inf
        )


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
    close(certified_quadratic.convex(x, y, of_x, of_y), offset + value, lower)


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
    proved = transport_error.dual_value(
        costs, program.potentials[1], a, b, terms, below
    )
    lower = constant + 2 * between + proved - curvature
    lower -= gamma(index) * (constant + abs(between) + abs(proved) + 2 * size)
    lower = rooted(lower, whole(x.radii) + whole(y.radii))
    value = constant + 2 * between + program.lower - curvature
    assert 0 < lower < value
    found = certified_quadratic.convexity(x, y, plan, curvature_of_one)
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
    found = certified_quadratic.eigenvalue_product_of_kinds(x, y, *signs)
    assert found == pytest.approx(wanted, rel=1e-13) if known else found == math.inf
    for sign in (-1, 1):
        assert (
            certified_quadratic.eigenvalue_product_of_kinds(x, y, 0, sign)
            == certified_quadratic.eigenvalue_product_of_kinds(x, y, sign, 0)
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
    assert certified_quadratic.largest_eigenvalue_product(of_x, of_y) == pytest.approx(
        wanted, rel=1e-13
    )
    # All of one kind of sign is left with a product of errors.
    assert certified_quadratic.largest_eigenvalue_product(of_x, of_y) >= 0.03 * 0.07
