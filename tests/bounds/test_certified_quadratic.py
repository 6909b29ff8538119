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

UNIT = 2.0**-20  # of the fixture ``coarse``


def test_wholes_are_the_larger_of_two():
    x, y = sides("dense")
    of_x, of_y = artificial_modes(x, y)
    parts = whole(x.radii, of_x.error) + whole(y.radii, of_y.error)
    assert parts > x.radii.entries + y.radii.entries
    found = certified_quadratic._root_radius(x, y, of_x, of_y)
    assert found == pytest.approx(parts, rel=1e-13)
    rough = x._replace(radii=replace(x.radii, entries=0.7))
    entries = 0.7 + y.radii.entries
    found = certified_quadratic._root_radius(rough, y, of_x, of_y)
    assert found == pytest.approx(entries, rel=1e-13)
    found = certified_quadratic._root_radius(y, rough, of_x, of_y)
    assert found == pytest.approx(entries, rel=1e-13)


def margin(p):
    """By how much the slack may be above the exact one."""
    largest_x = max(np.abs(p.lam).tolist(), default=0.0)
    largest_y = max(np.abs(p.mu).tolist(), default=0.0)
    return 64 * UNIT * largest_x * largest_y


def lowered_slack(p, d):
    """The slack less its margin, and by how much all duals s fall."""
    slack = np.zeros_like(d)
    excess = 0.0
    for i, row in enumerate(d.tolist()):
        fall = 0.0
        for j, value in enumerate(row):
            slack[i, j] = max(value - margin(p), 0.0)
            fall = max(fall, margin(p) - value)
        excess += fall
    return slack, excess


def curved(p, U, V, values):
    """Σ values_ij (u_i)_k (v_j)_l / √(a_k b_l) for all k and l."""
    return np.einsum("ki,ij,lj->kl", U, values, V) / np.sqrt(np.outer(p.a, p.b))


def mixed(theta, costs):
    return theta[0] * costs[0] + theta[1] * costs[1] + theta[2] * costs[2]


def proved_point(p, point, x, y, of_x, of_y):
    """Theorem 13 (f) with theorem 10 (i), entry by entry."""
    theta, d, duals, q = point
    n = len(p.a)
    m = len(p.b)
    omegas = x.radii.weights + y.radii.weights
    # 1. Slacks.
    slack, excess = lowered_slack(p, d)
    # 2. The slope and its float error.
    slope = point._replace(d=slack).slope(p)
    wanted = mixed(theta, p.costs) + 2 * theta[0] * curved(p, p.U, p.V, slack * q)
    assert slope == pytest.approx(wanted, rel=1e-11, abs=1e-11)
    bent = curved(p, abs(p.U), abs(p.V), slack * abs(q))
    below = gamma(n + m + omegas + 16) * 2 * theta[0] * bent
    below = below + gamma(12) * mixed(theta, abs(p.costs)) + row_transport_error(x, y)
    # 3. The linear program.
    potential = programs.exact(slope, p.a, p.b).potentials[1]
    omega = max(x.radii.weights, y.radii.weights)
    proved = transport_error.dual_value(slope, potential, p.a, p.b, omega, below)
    # 4. The constant, and what is taken off for it.
    norms = float((p.lam**2).sum() + (p.mu**2).sum())
    constant = theta[0] * (norms + duals - float((slack * q**2).sum()))
    off = (
        of_x.vectors_error
        + of_y.vectors_error
        + of_x.vectors_error * of_y.vectors_error
    )
    tilted = 2 * theta[0] * math.sqrt(((slack * q) ** 2).sum()) * off
    sums = norms + abs(duals) + float((d * q**2).sum()) + abs(proved)
    return constant + proved - excess - 1.01 * tilted - gamma(n * m + 20) * sums


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("theta", [(0.5, 0.3, 0.2), (1.0, 0.0, 0.0), (0.1, 0.2, 0.7)])
def test_points_are_proved(name, theta, rng):
    x, y = sides(name)
    of_x, of_y = artificial_modes(x, y)
    p = projected_quadratic.minorants(x.parts, y.parts, of_x[:2], of_y[:2])
    shape = len(p.lam), len(p.mu)
    d = rng.uniform(0.5, 1.5, shape)
    # Slacks around the margin.
    d[0, 0] = 0.0
    d[0, 1] = 0.3 * margin(p)
    d[2, 1] = 0.7 * margin(p)
    d[3, 2] = 1.1 * margin(p)
    q = rng.uniform(-0.3, 0.3, shape)
    point = projected_quadratic.Point(np.array(theta), d, -0.7, q)
    wanted = proved_point(p, point, x, y, of_x, of_y)
    found = certified_quadratic._proved_point(p, point, x, y, of_x, of_y)
    assert found == pytest.approx(wanted, rel=1e-11)


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
        found = certified_quadratic._proved_point(p, endless, x, y, of_x, of_y)
    assert found == -np.inf


@pytest.mark.parametrize("name", NAMES)
def test_quadratic(name):
    x, y = sides(name)
    of_x, of_y = artificial_modes(x, y)
    p = projected_quadratic.minorants(x.parts, y.parts, of_x[:2], of_y[:2])
    point, value = projected_quadratic.maximise(p)
    offset = (x.parts.mean - y.parts.mean) ** 2
    proved = offset * (1 - gamma(8)) + proved_point(p, point, x, y, of_x, of_y)
    parts = whole(x.radii, of_x.error) + whole(y.radii, of_y.error)
    radius = max(parts, x.radii.entries + y.radii.entries)
    lower = rooted(proved, radius)
    assert 0 < lower < offset + value
    close(certified_quadratic.convex(x, y, of_x, of_y), offset + value, lower)


def some_plan(kind, x, y):
    """A coupling, or a plan whose rows and columns miss the weights."""
    a = x.parts.weights
    b = y.parts.weights
    shape = len(a), len(b)
    # The product coupling alone would leave nothing of ⟨π, R π S⟩.
    costs = np.random.default_rng(2).standard_normal(shape)
    vertex = programs.exact(costs, a, b).plan.dense()
    coupling = (np.outer(a, b) + vertex) / 2
    if kind == "coupling":
        return coupling
    noise = np.random.default_rng(1).uniform(-1, 1, shape)
    missing = coupling * (1 + 1e-6 * noise)
    return missing if kind == "near" else 1.1 * missing


def curvature(tau, plan, x, y):
    """2 τ (1 + κ)² min(n, m), rounded up."""
    n, m = plan.shape
    rows = (plan.sum(1) / x.parts.weights).tolist()
    cols = (plan.sum(0) / y.parts.weights).tolist()
    kappa = math.sqrt(max(rows) * max(cols))
    enlarged = 1 + gamma(n + m + x.radii.weights + y.radii.weights + 20)
    return 2 * tau * (1 + kappa) ** 2 * min(n, m) * enlarged


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tau", [0.0, 0.003])
@pytest.mark.parametrize("kind", ["coupling", "near", "far"])
def test_convexity(name, tau, kind):
    x, y = sides(name)
    plan = some_plan(kind, x, y)
    a, _, m_C, alpha, R = x.parts
    b, _, m_D, beta, S = y.parts
    # 1. The tangent.
    cross = R @ plan @ S
    costs = 2 * (alpha[:, None] - beta[None, :]) ** 2 - 4 * cross
    constant = (m_C - m_D) ** 2
    constant += float(a @ (R**2 @ a)) + float(b @ (S**2 @ b))
    between = float((plan * cross).sum())
    bent = curvature(tau, plan, x, y)
    # 2. The linear program.
    index = 2 * (len(a) + len(b)) + 2 * (x.radii.weights + y.radii.weights) + 20
    size = float(abs(R).max()) * float(abs(S).max()) * float(plan.sum())
    below = gamma(8) * abs(costs) + 8 * gamma(index) * size
    program = programs.exact(costs, a, b)
    potential = program.potentials[1]
    omega = max(x.radii.weights, y.radii.weights)
    proved = transport_error.dual_value(costs, potential, a, b, omega, below)
    # 3. Both ends.
    value = constant + 2 * between + program.lower - bent
    lower = constant + 2 * between + proved - bent
    lower -= gamma(index) * (constant + abs(between) + abs(proved) + 2 * size)
    lower = rooted(lower, whole(x.radii) + whole(y.radii))
    assert 0 < lower < value
    found = certified_quadratic.convexity(x, y, plan, tau)
    assert found.value == pytest.approx(value, rel=1e-11)
    assert found.lower == pytest.approx(lower, rel=1e-11)


@pytest.mark.parametrize("signs", [(1, -1), (-1, 1)])
def test_signs_of_kinds(signs):
    x, y = sides("low rank")
    norms = []
    for side in (x, y):
        a = side.parts.weights
        norms.append(math.sqrt(float(a @ side.parts.residual**2 @ a)) + ROOT)
    product = x.radii.residual * (norms[1] + y.radii.residual)
    product += y.radii.residual * norms[0]
    found = certified_quadratic.eigenvalue_product_of_kinds(x, y, *signs)
    assert found == pytest.approx(1.01 * product, rel=1e-13)


@pytest.mark.parametrize(
    "signs", [(1, 1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0)], ids=str
)
def test_kinds_without_opposite_signs_say_nothing(signs):
    x, y = sides("low rank")
    found = certified_quadratic.eigenvalue_product_of_kinds(x, y, *signs)
    assert found == math.inf


def modes_of(values, error):
    return Modes(np.array(values), np.zeros((0, 0)), error, 0.1)


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
    low_x = min([0.0, *lam]) - 0.03
    low_y = min([0.0, *mu]) - 0.07
    high_x = max([0.0, *lam]) + 0.03
    high_y = max([0.0, *mu]) + 0.07
    wanted = (1 + gamma(8)) * max(low_x * low_y, high_x * high_y)
    of_x = modes_of(lam, 0.03)
    of_y = modes_of(mu, 0.07)
    found = certified_quadratic.largest_eigenvalue_product(of_x, of_y)
    assert found == pytest.approx(wanted, rel=1e-13)
    # All of one kind of sign is left with a product of errors.
    assert found >= 0.03 * 0.07
