"""Bounds on boxes of few coordinates: theorem 17, also against rational arithmetic."""

import dataclasses
import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from gwtools.bounds import node_bounds
from gwtools.bounds.node_bounds import (
    coordinates,
    cut_height,
    gain_of,
    node_values,
    on_principal_axes,
    root_box,
)
from gwtools.plans import as_plan
from gwtools.preparation import prepare
from tests.checkers import objective, walk
from tests.libraries import LIBRARIES
from tests.rational import exact_weights, fraction, rational
from tests.strategies import Drawn, couplings, spaces


@st.composite
def pairs(draw, most=6):
    """Two clouds, or two Gram spaces, of at most three dimensions each."""
    kind = draw(st.sampled_from(("sqeuclidean", "gram")))
    return tuple(draw(spaces(kinds=(kind,), most=most)) for _ in range(2))


def read(x, y):
    return coordinates(x.space(), y.space())


def point(pair, plan):
    """(w, Z) of a coupling as a matrix."""
    Z = pair.left.T @ plan @ pair.right
    return np.concatenate([[pair.alpha @ plan @ pair.beta], Z.ravel()])


@settings(max_examples=60)
@given(st.data())
def test_theorem_17_few_coordinates_decide(data):
    x, y = data.draw(pairs())
    plan = data.draw(couplings(x.weights, y.weights))
    pair = read(x, y)
    found = pair.constant - 4 * gain_of(point(pair, plan))
    scale = max(np.abs(x.matrix).max(), np.abs(y.matrix).max(), 1e-300) ** 2
    assert abs(found - objective(x.matrix, y.matrix, plan)) <= 1e-12 * scale


def test_theorem_17_a_sparse_plan_has_the_same_coordinates():
    rng = np.random.default_rng(0)
    x = gw.PointCloud(rng.standard_normal((6, 2)), metric="sqeuclidean")
    y = gw.PointCloud(rng.standard_normal((5, 3)), metric="sqeuclidean")
    pair = coordinates(x, y)
    plan = gw.solve(x, y, gw.ConditionalGradient()).plan
    assert np.allclose(pair.point(plan), point(pair, plan.dense()), atol=1e-14)
    assert as_plan(plan, (6, 5)) is plan


# Rational arithmetic: vertices of exactly normalised weights, exact objectives.


def vertices(a, b, most=6):
    """Couplings of exact weights, by the north-west corner rule in some orders.

    In all orders they are all vertices.
    """
    n, m = len(a), len(b)
    orders = itertools.product(
        itertools.islice(itertools.permutations(range(n)), most),
        itertools.islice(itertools.permutations(range(m)), most),
    )
    for rows, cols in orders:
        plan = np.full((n, m), Fraction(0), dtype=object)
        for i, j, mass in walk(np.argsort(rows), a, np.argsort(cols), b):
            plan[i, j] += mass
        yield plan


def exact_point(pair, plan):
    alpha, beta = rational(pair.alpha), rational(pair.beta)
    left, right = rational(pair.left), rational(pair.right)
    Z = left.T @ plan @ right
    return np.concatenate([[alpha @ plan @ beta], Z.ravel()])


def exact_gain(point):
    return point[0] + sum(z * z for z in point[1:]) / 2


def exact_matrix(drawn):
    data = rational(drawn.data)
    if drawn.kind == "gram":
        return data.T @ data
    squares = (data[:, None, :] - data[None, :, :]) ** 2
    return squares.sum(axis=2)


def exact_objective(C, D, plan):
    atoms = [(i, j) for i, j in np.ndindex(plan.shape) if plan[i, j]]
    return sum(
        (C[i, k] - D[j, m]) ** 2 * plan[i, j] * plan[k, m]
        for i, j in atoms
        for k, m in atoms
    )


def is_inside(point, low, high):
    ends = zip(rational(low), point, rational(high), strict=True)
    return all(least <= e <= most for least, e, most in ends)


@settings(max_examples=30)
@given(st.data())
def test_theorem_17_random_cuts_and_weights_hold_in_rational_arithmetic(data):
    x, y = data.draw(pairs(most=4))
    scale = data.draw(st.sampled_from((1.0, 1e-3, 1e4)))
    x = dataclasses.replace(x, data=x.data * scale)
    pair = read(x, y)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**20)))
    # 1. Random slopes, potentials and weights, none of them optimal.
    K = 4
    low, high = root_box(pair)
    width = np.abs(np.concatenate([low, high])).max()
    slopes = width * rng.standard_normal((K, pair.number))
    potentials = width**2 * rng.standard_normal((K, len(pair.b)))
    heights = []
    for slope, potential in zip(slopes, potentials, strict=True):
        heights.append(cut_height(pair, slope, pair.costs(slope), potential))
    theta = rng.dirichlet(np.ones(K)) * rng.choice([1.0, 1 + 1e-9, 0.3, 2.0])
    # 2. Every coupling obeys the cuts, is in the root box and below the bound of it.
    value = node_values(
        low[None], high[None], slopes[None], np.array([heights]), theta[None]
    )[0]
    lower = pair.lower(value)
    C, D = exact_matrix(x), exact_matrix(y)
    a, b = exact_weights(x.weights), exact_weights(y.weights)
    points = []
    for plan in vertices(a, b):
        z = exact_point(pair, plan)
        points.append(z)
        assert is_inside(z, low, high)
        for slope, height in zip(rational(slopes), heights, strict=True):
            assert z[0] + slope @ z[1:] <= fraction(height)
        assert exact_gain(z) <= fraction(value)
        assert fraction(lower) <= exact_objective(C, D, plan)
    # 3. The bound of a box holds for the couplings in it, also where it is a point.
    z = points[rng.integers(len(points))].astype(float)
    low, high = np.nextafter(z, -np.inf), np.nextafter(z, np.inf)
    value = node_values(
        low[None], high[None], slopes[None], np.array([heights]), theta[None]
    )[0]
    inside = [p for p in points if is_inside(p, low, high)]
    assert all(exact_gain(p) <= fraction(value) for p in inside)


@settings(max_examples=30)
@given(st.data())
def test_theorem_17_the_constant_and_the_radius_hold_in_rational_arithmetic(data):
    x, y = data.draw(pairs(most=4))
    pair = read(x, y)
    C, D = exact_matrix(x), exact_matrix(y)
    a, b = exact_weights(x.weights), exact_weights(y.weights)
    for plan in itertools.islice(vertices(a, b), 5):
        # With its own gain, no bound of the coupling's objective is beyond it.
        gain = exact_gain(exact_point(pair, plan))
        rounded = np.nextafter(float(gain), np.inf)
        exact = exact_objective(C, D, plan)
        assert fraction(pair.lower(rounded)) <= exact
        floats = plan.astype(float)
        rows, cols = np.nonzero(floats)
        sparse = gw.SparsePlan(rows, cols, floats[rows, cols], floats.shape)
        assert exact <= fraction(pair.upper(sparse))
        # And the root is off by no more than the radius and what is rounded down.
        root = float(exact) ** 0.5
        least = max(root - 2.1 * pair.radius, 0.0) ** 2
        assert pair.lower(rounded) >= least * (1 - 1e-13) - 1e-13 * pair.constant


@settings(max_examples=40)
@given(st.integers(0, 2**20), st.integers(1, 5), st.integers(1, 4))
def test_theorem_17_turned_factors_keep_their_products_up_to_the_radius(seed, n, d):
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((n, d)) * 10.0 ** rng.integers(-9, 3, d)
    weights = rng.dirichlet(np.ones(n))
    turned, axes, radius = on_principal_axes(factor, weights, 4.0)
    assert axes.shape == (d, turned.shape[1])
    G, H, a = rational(factor), rational(turned), exact_weights(weights)
    off = G @ G.T - H @ H.T
    square = sum(a[i] * a[k] * off[i, k] ** 2 for i, k in np.ndindex(n, n))
    assert square <= fraction(radius) ** 2
    moments = weights @ turned**2
    assert np.all(np.diff(moments) <= 1e-12 * moments[0])  # the largest first


@pytest.mark.parametrize("seed", range(5))
def test_theorem_17_axes_that_are_left_out_are_charged(seed, monkeypatch):
    monkeypatch.setattr(node_bounds, "_NO_MOMENT", 0.4)
    rng = np.random.default_rng(seed)
    factor, weights = rng.standard_normal((4, 3)), rng.dirichlet(np.ones(4))
    turned, _, radius = on_principal_axes(factor, weights, 4.0)
    assert turned.shape[1] < 3
    G, H, a = rational(factor), rational(turned), exact_weights(weights)
    off = G @ G.T - H @ H.T
    square = sum(a[i] * a[k] * off[i, k] ** 2 for i, k in np.ndindex(4, 4))
    assert square <= fraction(radius) ** 2


def test_theorem_17_axes_without_moment_are_left_out():
    rng = np.random.default_rng(1)
    flat = rng.standard_normal((9, 2)) @ rng.standard_normal((2, 5))
    x = gw.PointCloud(flat, metric="sqeuclidean")
    assert coordinates(x, x).shape == (2, 2)
    point = gw.PointCloud(np.ones((3, 4)), metric="sqeuclidean")
    assert coordinates(point, x).shape == (1, 2)


def test_theorem_17_less_than_all_weight_is_charged_by_the_range_of_w():
    low, high = np.array([[-3.0, -1.0]]), np.array([[2.0, 1.0]])
    slopes, heights = np.zeros((1, 1, 1)), np.array([[0.5]])
    for theta in (0.0, 0.25, 1.0, 1.5):
        rest = 1 - theta
        wanted = theta * 0.5 + max(-3 * rest, 2 * rest) + 0.5
        found = node_values(low, high, slopes, heights, np.array([[theta]]))
        assert found[0] == pytest.approx(wanted, abs=1e-13)
        assert found[0] > wanted - 1e-15


def test_theorem_17_no_weight_of_w_is_asked_for_between_gram_spaces():
    rng = np.random.default_rng(2)
    x, y = (Drawn("gram", rng.standard_normal((2, 5)), np.full(5, 0.2)) for _ in "xy")
    pair = read(x, y)
    low, high = root_box(pair)
    assert low[0] == high[0] == 0.0
    slope = rng.standard_normal(pair.number)
    height = cut_height(pair, slope, pair.costs(slope), np.zeros(5))
    # Twice the cut at half the weight proves the same.
    one, two = (
        node_values(
            low[None],
            high[None],
            (factor * slope)[None, None],
            np.array([[factor * height]]),
            np.array([[1 / factor]]),
        )[0]
        for factor in (1.0, 2.0)
    )
    assert one == pytest.approx(two, rel=1e-14)


@pytest.mark.parametrize(
    "library", [one for one in LIBRARIES if str(one) != "jax-float32"], ids=str
)
def test_every_library_has_the_same_coordinates(library):
    rng = np.random.default_rng(3)
    X, Y = rng.standard_normal((6, 2)), rng.standard_normal((7, 3))
    a, b = rng.dirichlet(np.ones(6)), rng.dirichlet(np.ones(7))
    wanted = coordinates(
        gw.PointCloud(X, a, metric="sqeuclidean"),
        gw.PointCloud(Y, b, metric="sqeuclidean"),
    )
    with library.active():
        x = gw.PointCloud(library.array(X), library.array(a), metric="sqeuclidean")
        y = gw.PointCloud(library.array(Y), library.array(b), metric="sqeuclidean")
        ready = prepare(x, y)
        found = coordinates(ready.x, ready.y)
    assert isinstance(found.left, np.ndarray)
    assert found.left.dtype == np.float64
    assert found.constant == pytest.approx(wanted.constant, rel=10 * library.rtol)


def test_few_coordinates_decide_for_two_squared_clouds_or_two_gram_spaces():
    points = np.array([[0.0, 1.0], [2.0, 0.5]])
    made = {
        "squared": gw.PointCloud(points, metric="sqeuclidean"),
        "metric": gw.PointCloud(points),
        "gram": gw.GramSpace(points),
        "dense": gw.DenseSpace(1 - np.eye(2)),
    }
    decided = {
        names
        for names in itertools.product(made, repeat=2)
        if node_bounds.few_coordinates_decide(*(made[name] for name in names))
    }
    assert decided == {("squared", "squared"), ("gram", "gram")}
