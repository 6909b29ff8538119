"""The rounding of theorem 17, written out again at a unit at which every term shows."""

import math

import numpy as np
import pytest

import gwtools as gw
from gwtools.bounds import float_error, node_bounds
from gwtools.bounds.float_error import gamma
from gwtools.bounds.node_bounds import coordinates, cut_height, node_values, root_box
from gwtools.bounds.transport_error import dual_value, transport_on_line
from tests.bounds.formulas import ROOT, floored, raised, rooted, whole

pytestmark = pytest.mark.usefixtures("coarse")
UNIT = 2.0**-20
UNDERFLOW = 2.0**-22


def near(found, wanted):
    assert found == pytest.approx(wanted, rel=1e-12, abs=0)


def drawn(seed, n, d, kind="sqeuclidean", total=1.0):
    rng = np.random.default_rng(seed)
    weights = total * rng.dirichlet(np.full(n, 2.0))
    if kind == "gram":
        return gw.GramSpace(rng.standard_normal((d, n)), weights)
    return gw.PointCloud(rng.standard_normal((n, d)), weights, metric="sqeuclidean")


def pairs():
    yield coordinates(drawn(0, 4, 2), drawn(1, 5, 3))
    yield coordinates(drawn(2, 6, 2, "gram"), drawn(3, 3, 1, "gram"))


def omega_of(weights):
    return abs(math.fsum(weights.tolist()) - 1) / UNIT + 4


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("q", [1, 4])
def test_leaves(k, q):
    rng = np.random.default_rng(k + q)
    N = 3
    low = -rng.random((N, q + 1))
    high = 2 * rng.random((N, q + 1))
    slopes = rng.standard_normal((N, k, q))
    heights = rng.standard_normal((N, k))
    theta = rng.random((N, k))
    found = node_values(low.copy(), high.copy(), slopes, heights, theta)
    for node in range(N):
        least, most = low[node].tolist(), high[node].tolist()
        value = size = 0.0
        for t, h in zip(theta[node], heights[node], strict=True):
            value += t * h
            size += t * abs(h)
        for e in range(q + 1):
            middle = 1.0 if e == 0 else (least[e] + most[e]) / 2
            used = absolute = 0.0
            for t, B in zip(theta[node], slopes[node], strict=True):
                entry = 1.0 if e == 0 else B[e - 1]
                used += t * entry
                absolute += t * abs(entry)
            rest = middle - used
            value += max(rest * least[e], rest * most[e])
            size += (abs(middle) + absolute) * max(abs(least[e]), abs(most[e]))
            if e:
                value -= least[e] * most[e] / 2
                size += abs(least[e] * most[e]) / 2
        terms = 2 * k + 4 * (q + 1) + 12
        near(found[node], value + gamma(terms) * size + UNDERFLOW)


def test_costs_and_heights():
    for pair in pairs():
        d, other = pair.shape
        slope = np.random.default_rng(0).standard_normal(pair.number)
        size = max(abs(pair.alpha)) * max(abs(pair.beta))
        for e in range(d):
            for f in range(other):
                entry = abs(slope[e * other + f])
                size += max(abs(pair.left[:, e])) * entry * max(abs(pair.right[:, f]))
        error = gamma(d + other + 8) * size + UNDERFLOW
        near(pair.costs_error(slope), error)
        costs = pair.costs(slope)
        potential = np.random.default_rng(1).standard_normal(len(pair.b))
        wanted = dual_value(costs, potential, pair.a, pair.b, pair.omega, error)
        near(cut_height(pair, slope, costs, potential), -wanted)


def test_lower_end():
    for pair in pairs():
        for gain in (-0.5, 0.0, 0.1):
            value = pair.constant - 4 * gain
            value -= 4 * UNIT * (pair.constant + 4 * abs(gain))
            near(pair.lower(gain), rooted(value, pair.radius))


def test_upper_end():
    for pair in pairs():
        n, m = len(pair.a), len(pair.b)
        mass = np.outer(pair.a, pair.b).ravel()
        mass[0] += 0.01
        rows, cols = np.divmod(np.arange(n * m), m)
        plan = gw.SparsePlan(rows, cols, mass, (n, m))
        terms = n + m + n * m + 2 * pair.omega
        missed = 1.01 * 3 * 0.01 + 3 * gamma(terms)
        off = gamma(n * m + 8) * (1 + missed) + missed
        point = pair.point(plan)
        w = point[0] - off * max(abs(pair.alpha)) * max(abs(pair.beta))
        total = 0.0
        for e in range(pair.shape[0]):
            for f in range(pair.shape[1]):
                reach = max(abs(pair.left[:, e])) * max(abs(pair.right[:, f]))
                entry = abs(point[1 + e * pair.shape[1] + f])
                total += max(entry - off * reach, 0.0) ** 2
        value = pair.constant_upper - 4 * w - 2 * total
        value += 16 * UNIT * (pair.constant_upper + 4 * abs(w) + 2 * total)
        root = math.sqrt(max(value, 0.0)) + pair.radius
        assert pair.upper(plan) == pytest.approx(raised(root**2), rel=1e-10)


def test_root_box():
    for pair in pairs():
        low, high = root_box(pair)
        columns = [(pair.alpha, pair.beta)]
        for e in range(pair.shape[0]):
            for f in range(pair.shape[1]):
                columns.append((pair.left[:, e], pair.right[:, f]))
        for place, (x, y) in enumerate(columns):
            if not x.any():
                assert low[place] == high[place] == 0.0
                continue
            p, q = float(pair.a @ x**2), float(pair.b @ y**2)
            atoms = len(x) + len(y)
            error = gamma(atoms + pair.omega + 12) * (p + q) + atoms * UNDERFLOW
            alike, against = (
                transport_on_line(x, pair.a, other, pair.b, terms=pair.omega).lower
                for other in (y, -y)
            )
            near(high[place], (p + q - alike) / 2 + error)
            near(low[place], -(p + q - against) / 2 - error)


@pytest.mark.parametrize("left_out", [1e-24, 0.3])
def test_turned_factors(left_out, monkeypatch):
    monkeypatch.setattr(node_bounds, "_NO_MOMENT", left_out)
    rng = np.random.default_rng(4)
    for n, d in ((5, 1), (7, 3)):
        factor = rng.standard_normal((n, d))
        weights = rng.dirichlet(np.ones(n))
        _, axes, radius = node_bounds.on_principal_axes(factor, weights, 6.0)
        moments = factor.T @ (weights[:, None] * factor)
        missing = 1.01 * np.linalg.norm((np.eye(d) - axes @ axes.T) @ moments)
        size = 2 + math.sqrt(d) + 3 * (axes**2).sum()
        error = gamma(n + 6.0 + 8 * d + 16) * size * 1.01 * np.trace(moments)
        near(radius, missing + error + ROOT)


def square(space, alpha, factor, sign):
    """2 ‖α‖² + ‖Gᵀ diag(a) G‖², each rounded to one side."""
    a = space.weights
    terms = len(a) + omega_of(a) + 6
    of_alpha = 2 * float(a @ alpha**2) * (1 + sign * gamma(terms))
    covariance = factor.T @ (a[:, None] * factor)
    norm = np.linalg.norm(covariance)
    trace = np.trace(covariance)
    error = 1.01 * gamma(terms) * trace + gamma(covariance.size + 4) * norm
    return of_alpha + max(norm + sign * error, 0.0) ** 2


@pytest.mark.parametrize("kind", ["sqeuclidean", "gram"])
@pytest.mark.parametrize("totals", [(1.0, 1 + 1e-8), (1 + 1e-8, 1.0)])
def test_the_constant_and_the_radius(kind, totals):
    x = drawn(5, 6, 2, kind, totals[0])
    y = drawn(6, 4, 1, kind, totals[1])
    pair = coordinates(x, y)
    gap = 0.0
    radius = 0.0
    if kind == "sqeuclidean":
        gap = abs(float(x.low_rank.mean) - float(y.low_rank.mean))
    least = (gap - UNIT * gap) ** 2
    most = (gap + UNIT * gap) ** 2
    for space, alpha, factor in (
        (x, pair.alpha, pair.left),
        (y, pair.beta, pair.right),
    ):
        least += square(space, alpha, factor, -1)
        most += square(space, alpha, factor, 1)
        given = space.factor.T if kind == "gram" else space.low_rank.factor
        a = space.weights
        _, _, off = node_bounds.on_principal_axes(given, a, omega_of(a))
        of_parts = ROOT
        if kind == "sqeuclidean":
            of_parts = whole(float_error.radii(space))
        radius += of_parts + off
    underflow = 4 * (x.size + y.size) * UNDERFLOW
    near(pair.constant, floored(least) - underflow)
    near(pair.constant_upper, raised(most) + underflow)
    near(pair.radius, 1.01 * radius)
    near(pair.omega, max(omega_of(x.weights), omega_of(y.weights)))


def test_a_narrower_dtype_is_charged(monkeypatch):
    points = np.random.default_rng(7).standard_normal((5, 2)).astype(np.float32)
    narrow = gw.PointCloud(points, metric="sqeuclidean")
    wide = gw.PointCloud(points.astype(float), metric="sqeuclidean")
    before = [coordinates(space, wide).radius for space in (narrow, wide)]
    monkeypatch.setattr(node_bounds, "_NARROW_UNDERFLOW", 1.0)
    after = [coordinates(space, wide).radius for space in (narrow, wide)]
    assert after[0] == pytest.approx(before[0] + 1.01)
    assert after[1] == before[1]
