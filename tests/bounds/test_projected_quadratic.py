"""Theorem 10: the convex quadratic bound, its duals and the ascent."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.optimize import linprog

import gwtools as gw
from gwtools.bounds import projected_quadratic
from gwtools.transport.local_distributions import centred
from tests import checkers
from tests.bounds.test_distributions import slack
from tests.strategies import coupled, known, pairs


def contraction(minorants, plan):
    """q(π), from its definition."""
    Q = plan / np.sqrt(np.outer(minorants.a, minorants.b))
    return minorants.U.T @ Q @ minorants.V


def drawn_point(data, minorants, plan):
    """Weights, feasible duals and a matrix q, all arbitrary."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    masses = (rng.uniform(0, 1, len(v)) for v in (minorants.lam, minorants.mu))
    s, t = projected_quadratic.eigenvalue_duals(minorants.lam, minorants.mu, *masses)
    t = t * rng.uniform(0.5, 2)
    d, s = projected_quadratic.slack(
        minorants.lam, minorants.mu, s * rng.uniform(0.5, 2), t
    )
    q = contraction(minorants, plan) + data.draw(
        st.sampled_from([0.0, 0.1, 3.0])
    ) * rng.standard_normal(d.shape)
    return projected_quadratic.Point(
        rng.dirichlet(np.ones(3)), d, float(s.sum() + t.sum()), q
    ), (s, t)


def offset(x, y):
    return (
        checkers.parts(x.matrix, x.weights)[0] - checkers.parts(y.matrix, y.weights)[0]
    ) ** 2


@given(coupled())
def test_theorem_10_convex(instance):
    x, y, plan = instance
    found = float(gw.bounds.convex(x.space(), y.space(), steps=50))
    assert found <= checkers.objective(x.matrix, y.matrix, plan) + 100 * slack(x, y)
    for residual in (False, True):
        assert float(
            gw.bounds.third(x.space(), y.space(), residual=residual)
        ) <= found + 100 * slack(x, y)


@given(known())
def test_theorem_10_below_known_answers(known):
    found = float(gw.bounds.convex(known.x.space(), known.y.space(), steps=50))
    assert found <= known.value + 100 * slack(known.x, known.y)


@given(coupled(generic=True), st.data())
def test_theorem_10_every_step(instance, data):
    """Any weights, feasible duals and matrix q give a bound.

    At the plan's own q its tangent touches the function.
    """
    x, y, plan = instance
    minorants = projected_quadratic.minorants(centred(x.space()), centred(y.space()))
    point, (s, t) = drawn_point(data, minorants, plan)
    reached = checkers.objective(x.matrix, y.matrix, plan)
    assert point.bound(minorants) + offset(x, y) <= reached + 100 * slack(x, y)
    # The tangent at q(π), evaluated at π, is the mixture there.
    q = contraction(minorants, plan)
    at_plan = point._replace(q=q)
    tangent = at_plan.constant(minorants) + float(
        (plan * at_plan.slope(minorants)).sum()
    )
    alpha, beta = (checkers.parts(z.matrix, z.weights)[1] for z in (x, y))
    rows = 2 * float((plan * (alpha[:, None] - beta) ** 2).sum())
    norms = minorants.lam @ minorants.lam + minorants.mu @ minorants.mu
    assert norms == pytest.approx(
        sum(
            checkers.norm(checkers.parts(z.matrix, z.weights)[2], z.weights) ** 2
            for z in (x, y)
        )
    )
    curved = norms + s.sum() + t.sum() + rows + float((point.d * q**2).sum())
    whole = [curved, *(float((plan * cost).sum()) for cost in minorants.costs[1:])]
    assert tangent == pytest.approx(
        point.theta @ whole, rel=1e-9, abs=100 * slack(x, y)
    )
    assert max(whole) <= reached - offset(x, y) + 100 * slack(x, y)
    # What the quadratic leaves out is s and t times the slacks of the contraction.
    left_out = -s @ (1 - (q**2).sum(1)) - t @ (1 - (q**2).sum(0))
    assert reached - offset(x, y) - curved == pytest.approx(
        left_out, rel=1e-8, abs=1e3 * slack(x, y)
    )


@given(pairs(generic=True))
def test_theorem_10_contains_spectral(pair):
    """Largest duals and q = 0: the first function alone leaves the spectral bound."""
    x, y = pair
    p = projected_quadratic.minorants(centred(x.space()), centred(y.space()))
    s, t = projected_quadratic.eigenvalue_duals(
        p.lam, p.mu, np.ones_like(p.lam), np.ones_like(p.mu)
    )
    d, s = projected_quadratic.slack(p.lam, p.mu, s, t)
    found = projected_quadratic.Point(
        np.eye(3)[0], d, float(s.sum() + t.sum()), np.zeros_like(d)
    ).bound(p) + offset(x, y)
    expected = checkers.spectral(x.matrix, x.weights, y.matrix, y.weights)
    assert found == pytest.approx(expected, rel=1e-9, abs=100 * slack(x, y))


@st.composite
def eigenvalues(draw):
    n, m = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lam, mu = (
        np.sort(rng.integers(-3, 4, k) * draw(st.sampled_from([1.0, 0.3])))
        for k in (n, m)
    )
    masses = (rng.integers(0, 4, k) / 3 for k in (n, m))
    return (lam.astype(float), mu.astype(float), *masses)


@given(eigenvalues())
def test_theorem_10_duals(drawn):
    """Feasible, and as large as the linear program over s and t allows."""
    lam, mu, mass_lam, mass_mu = drawn
    s, t = projected_quadratic.eigenvalue_duals(lam, mu, mass_lam, mass_mu)
    limits = -2 * np.outer(lam, mu)
    assert max(s.max(), t.max()) <= 0
    assert (s[:, None] + t - limits).max() <= 1e-12
    n, m = limits.shape
    rows = np.hstack(
        [np.kron(np.eye(n), np.ones((m, 1))), np.kron(np.ones((n, 1)), np.eye(m))]
    )
    best = linprog(
        -np.concatenate([mass_lam, mass_mu]),
        A_ub=rows,
        b_ub=limits.ravel(),
        bounds=(None, 0),
    )
    assert best.success
    assert s @ mass_lam + t @ mass_mu == pytest.approx(-best.fun, abs=1e-9)


@given(eigenvalues(), st.sampled_from([0.0, 0.25]))
def test_slack_is_lowered_where_duals_are_not_feasible(drawn, least):
    lam, mu, s, t = drawn
    d, lowered = projected_quadratic.slack(lam, mu, -s, -t, least)
    assert d.min() >= least - 1e-15
    assert np.all(lowered <= -s)
    assert np.allclose(d, -2 * np.outer(lam, mu) - lowered[:, None] + t)
    feasible = (-2 * np.outer(lam, mu) + s[:, None] + t).min(axis=1) >= least
    assert np.array_equal(lowered[feasible], -s[feasible])


def test_middle_duals_are_taken_where_any_are_optimal():
    """Theorem 10 (iii) with θ = 1/2."""
    lam, mu = np.array([1.0, 3.0]), np.array([2.0, 5.0])
    s, t = projected_quadratic.eigenvalue_duals(lam, mu, np.ones(2), np.ones(2))
    assert s == pytest.approx([-2.0, -2.0 - 2 * 2 * 3.5])
    assert t == pytest.approx([-2.0, -2.0 - 2 * 3 * 2.0])


@given(pairs(generic=True, least=3))
def test_theorem_10_constant_rows(pair):
    """Theorem 10 (vi), where a space has constant row means.

    The first function is never above the spectral bound.
    """
    x, _ = pair
    n = x.size
    circle = checkers.euclidean(
        np.exp(2j * np.pi * np.arange(n) / n).view(float).reshape(n, 2)
    )
    first, second = centred(gw.DenseSpace(circle)), centred(x.space())
    minorants = projected_quadratic.minorants(first, second)
    spectral = (
        checkers.spectral(circle, first.weights, x.matrix, x.weights)
        - (first.mean - second.mean) ** 2
    )
    for point in projected_quadratic._points(minorants, 30, 10):
        alone = point._replace(theta=np.eye(3)[0])
        assert alone.bound(minorants) <= spectral + 1e-9 * max(1, spectral)


def cloud(seed, n, d):
    return gw.PointCloud(np.random.default_rng(seed).standard_normal((n, d)))


# Bounds after 5000 steps with tolerance 0: what the ascent is measured against.
LONG_RUNS = [
    (0, 20, 20, (3, 3), 0.2244854),
    (1, 15, 24, (2, 3), 1.3321108),
    (2, 24, 12, (2, 2), 0.2329163),
]


@pytest.mark.parametrize(("seed", "n", "m", "dims", "long"), LONG_RUNS)
def test_the_ascent_comes_near_its_limit(seed, n, m, dims, long):
    x, y = cloud(seed, n, dims[0]), cloud(seed + 100, m, dims[1])
    found = float(gw.bounds.convex(x, y))
    thirds = [
        float(gw.bounds.third(x, y, residual=residual)) for residual in (False, True)
    ]
    assert found >= 0.995 * long
    assert found <= long * (1 + 1e-3)
    assert long >= 1.005 * max(thirds)
    assert float(gw.bounds.convex(x, y, steps=0)) == pytest.approx(
        max(thirds), rel=1e-9
    )


def test_adjacency_matrices_gain_over_the_third_bound(rng):
    """Where the quadratic is weak, its mixture with linear costs still is not."""
    C, D = ((m + m.T > 1.6).astype(float) for m in rng.uniform(0, 1, (2, 16, 16)))
    thirds = [
        float(gw.bounds.third(C, D, residual=residual)) for residual in (False, True)
    ]
    assert float(gw.bounds.convex(C, D)) >= 1.01 * max(thirds)


def test_library_and_dtype_come_back(library, rng):
    points = rng.standard_normal((6, 2)), rng.standard_normal((5, 3))
    found = gw.bounds.convex(*(gw.PointCloud(library.array(p)) for p in points))
    assert library.owns(found)
    assert float(found) == pytest.approx(
        float(gw.bounds.convex(*(gw.PointCloud(p) for p in points))), rel=1e-3
    )


@given(pairs(generic=True, least=2, most=4), st.sampled_from([1e150, 1e-150]))
def test_values_scale(pair, factor):
    x, y = pair
    here = float(gw.bounds.convex(x.space(), y.space(), steps=30))
    assume(here > 1e-6)
    there = float(
        gw.bounds.convex(x.scaled(factor).space(), y.scaled(factor).space(), steps=30)
    )
    assert there / factor / factor == pytest.approx(here, rel=1e-3)


def test_arguments_are_checked():
    C = np.ones((2, 2))
    for options in ({"steps": -1}, {"tolerance": -1.0}):
        with pytest.raises(
            ValueError, match=r"must be an? (finite number|integer) at least"
        ):
            gw.bounds.convex(C, C, **options)
