"""F + ε KL where it is convex: no coupling is below the interval, from any plan."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from gwtools.certify.entropic_intervals import (
    curvature_between_couplings,
    value_with_entropy,
)
from tests import checkers
from tests.libraries import EAGER
from tests.strategies import CONDITIONALLY_NEGATIVE, couplings, pairs

SIGNS = {"dense": 0, "gram": 1} | dict.fromkeys(CONDITIONALLY_NEGATIVE, -1)
FACTORS = st.sampled_from([1.01, 1.5, 4.0, 50.0])


def entropy(plan, a, b):
    product = np.outer(a, b)
    positive = plan > 0
    ratio = plan[positive] / product[positive]
    return float(plan[positive] @ np.log(ratio))


def value(x, y, plan, epsilon):
    objective = checkers.objective(x.matrix, y.matrix, plan)
    return objective + epsilon * entropy(plan, x.weights, y.weights)


def curvature(x, y):
    """Threshold and largest product, in plain NumPy."""
    (_, _, R), (_, _, S) = (checkers.parts(s.matrix, s.weights) for s in (x, y))
    sign = SIGNS[x.kind] * SIGNS[y.kind]
    if sign < 0:
        return 0.0, 0.0
    if sign > 0:
        diagonals = np.diag(R), np.diag(S)
        norms = [
            math.sqrt(s.weights @ d**2) for s, d in zip((x, y), diagonals, strict=True)
        ]
        largest = np.abs(diagonals[0]).max() * np.abs(diagonals[1]).max()
        return 4 * norms[0] * norms[1], largest
    ranges = [
        2 * np.abs(matrix).max()
        if s.kind in ("gram", "sqeuclidean")
        else np.ptp(matrix)
        for s, matrix in ((x, R), (y, S))
    ]
    return ranges[0] * ranges[1], ranges[0] * ranges[1] / 4


def size(x, y):
    return max(1e-300, *(np.abs(s.matrix).max() for s in (x, y))) ** 2


@given(pairs(least=2, most=5))
def test_the_threshold_is_that_of_theory(pair):
    x, y = pair
    found = curvature_between_couplings(x.space(), y.space())
    threshold, largest = curvature(x, y)
    slack = 1e-11 * size(x, y)
    # Where low rank meets a matrix, a percent pays for float errors.
    assert found.threshold == pytest.approx(threshold, rel=0.011, abs=slack)
    assert found.largest == pytest.approx(largest, rel=0.011, abs=slack)


@settings(max_examples=40)
@given(pairs(least=2, most=5), FACTORS, st.data())
def test_no_coupling_is_below_the_interval_whatever_the_plan(pair, factor, data):
    x, y = pair
    threshold, _ = curvature(x, y)
    epsilon = factor * 1.011 * threshold + 1e-3 * size(x, y)
    plan = data.draw(couplings(x.weights, y.weights))
    seed = data.draw(st.integers(0, 2**32 - 1))
    scale = np.random.default_rng(seed).choice([0.0, 1.0]) * size(x, y)
    rng = np.random.default_rng(seed)
    potentials = tuple(scale * rng.standard_normal(s.size) for s in (x, y))
    known = value(x, y, plan, epsilon)
    total, interval = value_with_entropy(
        x.space(),
        y.space(),
        gw.DensePlan(plan),
        epsilon,
        potentials,
        np.float64(checkers.objective(x.matrix, y.matrix, plan)),
    )
    slack = 1e-11 * (size(x, y) + epsilon)
    assert float(total) == pytest.approx(known, abs=slack)
    lower, upper = interval
    assert upper == float(total)
    solver = gw.Sinkhorn(epsilon=epsilon, proximal=False, tolerance=1e-12)
    with warnings.catch_warnings():
        # Below what float64 resolves the iterations may run out.
        warnings.simplefilter("ignore", gw.ConvergenceWarning)
        best = gw.solve(x.space(), y.space(), solver)
    others = [
        best.plan.dense(),
        np.outer(x.weights, y.weights),
        data.draw(couplings(x.weights, y.weights)),
    ]
    least = min(value(x, y, other, epsilon) for other in others)
    assert lower <= least + slack
    # The solver's own interval is nearly closed, and holds that value.
    low, high = best.regularized_interval
    assert low - slack <= least <= high + slack
    assert high - low <= 1e-5 * (size(x, y) + epsilon)


@given(st.floats(0.1, 10), st.floats(0.1, 10), st.booleans())
def test_the_threshold_cannot_be_lowered(r, s, definite):
    # Two points: R = r (1, −1; −1, 1). Below ε = 4 r s the product coupling, which is
    # stationary, is no minimum (theorem 8 f); from there on it is.
    pair = [
        gw.GramSpace(math.sqrt(v) * np.array([[1.0, -1.0]]))
        if definite
        else gw.DenseSpace(v * np.array([[1.0, -1.0], [-1.0, 1.0]]))
        for v in (r, s)
    ]
    found = curvature_between_couplings(*pair)
    assert found.threshold == pytest.approx(4 * r * s)
    plan = np.array([[1.05, 0.95], [0.95, 1.05]]) / 4

    def above_product(factor):
        epsilon = factor * 4 * r * s
        change = -2 * (4 * r * s * 0.0125**2 * 4)
        return change + epsilon * entropy(plan, np.full(2, 0.5), np.full(2, 0.5))

    assert above_product(0.99) < 0 < above_product(1.01)


def two_clouds(library=EAGER[0], unit=1.0):
    rng = np.random.default_rng(0)
    weights = np.append(rng.dirichlet(np.ones(5)), 0.0)
    points = unit * rng.standard_normal((6, 2))
    x = gw.PointCloud(library.array(points), library.array(weights))
    y = gw.PointCloud(library.array(unit * rng.standard_normal((7, 3))))
    return x, y


@pytest.mark.parametrize("unit", [1.0, 1e100, 1e-100])
def test_results_hold_it_in_their_units_and_in_batches(unit, tmp_path):
    x, y = two_clouds(unit=unit)
    solver = gw.Sinkhorn(epsilon=30.0 * unit * unit, proximal=False)
    result = gw.solve(x, y, solver)
    lower, upper = result.regularized_interval
    assert 0 < lower <= upper == float(result.regularized)
    assert upper - lower <= 1e-5 * upper
    here = gw.solve(*two_clouds(), gw.Sinkhorn(epsilon=30.0, proximal=False))
    wanted = here.regularized_interval
    assert (lower / unit / unit, upper / unit / unit) == pytest.approx(wanted, rel=1e-9)
    together = gw.solve_batch([x, y], [y, x], solver)
    for one in together:
        assert one.regularized_interval == pytest.approx((lower, upper), rel=1e-5)
    assert result.as_dict()["regularized_lower"] == lower
    assert "of the least)" in str(result)
    result.save(tmp_path / "result.npz")
    loaded = gw.GWResult.load(tmp_path / "result.npz")
    assert loaded.regularized_interval == (lower, upper)


@pytest.mark.parametrize("library", EAGER, ids=str)
def test_it_is_of_floats_in_every_library(library):
    solver = gw.Sinkhorn(epsilon=30.0, proximal=False)
    expected = gw.solve(*two_clouds(), solver).regularized_interval
    result = gw.solve(*two_clouds(library), solver)
    assert all(isinstance(end, float) for end in result.regularized_interval)
    assert result.regularized_interval == pytest.approx(expected, rel=1e-5)
    assert library.owns(result.regularized)


def test_it_is_none_where_nothing_is_proved():
    x, y = two_clouds()
    for solver in (
        gw.Sinkhorn(epsilon=0.5, proximal=False),
        gw.Sinkhorn(),
        gw.ConditionalGradient(),
    ):
        result = gw.solve(x, y, solver)
        assert result.regularized_interval is None
        assert result.as_dict()["regularized_lower"] is None
        assert "of the least" not in str(result)


def test_between_a_kernel_and_distances_every_epsilon_is_convex():
    rng = np.random.default_rng(1)
    x = gw.GramSpace(rng.standard_normal((3, 6)))
    y = gw.PointCloud(rng.standard_normal((5, 2)))
    result = gw.solve(x, y, gw.Sinkhorn(epsilon=0.2, proximal=False))
    lower, upper = result.regularized_interval
    assert upper - lower == pytest.approx(result.frank_wolfe_gap, rel=1e-3)
    # A coupling from another start ends inside.
    other = gw.ConditionalGradient()
    plan = gw.solve(x, y, other).plan.dense()
    start = (plan + np.full((6, 5), 1 / 30)) / 2
    again = gw.solve(x, y, gw.Sinkhorn(epsilon=0.2, proximal=False, init=start))
    assert float(again.regularized) >= lower
