"""Theorem 13: float error never makes a bound of a certificate false."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from gwtools.bounds import (
    certified,
    float_error,
    transport_error,
)
from gwtools.certify import EFFORTS, enclosed
from gwtools.preparation import prepare
from gwtools.problems import GWProblem
from gwtools.transport.programs import exact
from tests import checkers
from tests.bounds.test_distributions import slack
from tests.rational import exact_weights, fraction, rational
from tests.strategies import Drawn, orders, pairs, spaces
from tests.whole.test_theorems import lattice_pairs

SEEDS = st.integers(0, 2**32 - 1)
QUADRATIC = {"row_means", "norm", "first", "second"}


@given(lattice_pairs(), st.data())
def test_theorem_13_every_bound_is_below_exact_arithmetic(instance, data):
    """Against rational arithmetic, with no tolerance at all."""
    C, a, D, b = instance
    places_a = np.argsort(data.draw(orders(len(a))))
    places_b = np.argsort(data.draw(orders(len(b))))
    plan = np.zeros((len(a), len(b)))
    for i, j, mass in checkers.walk(places_a, a, places_b, b):
        plan[i, j] += mass
    reached = checkers.exact_objective(C, D, plan)
    certificate = gw.certify(gw.DenseSpace(C, a), gw.DenseSpace(D, b), plan, "cubic")
    for name, lower in certificate.bounds.items():
        assert Fraction(lower) <= reached, name
    assert reached <= Fraction(certificate.upper)


@given(
    spaces(generic=True, least=2),
    st.sampled_from([1e-15, 1e-12, 1e-9]),
    SEEDS,
)
def test_theorem_13_near_equal(x, size, seed):
    """Where the distance is as small as rounding, no bound is above the identity's."""
    noise = np.random.default_rng(seed).standard_normal(x.data.shape) * size
    is_dense = x.kind == "dense"
    if is_dense:
        noise = (noise + noise.T) / 2
    y = Drawn(x.kind, x.data + noise, x.weights)
    identity = np.diag(x.weights)
    certificate = gw.certify(x.space(), y.space(), identity, "cubic")
    if is_dense:
        total = rational(x.weights).sum()
        reached = checkers.exact_objective(x.data, y.data, identity) / total**2
        assert Fraction(certificate.lower) <= reached <= Fraction(certificate.upper)
    reached = checkers.objective(x.matrix, y.matrix, identity)
    lost = 0.0 if is_dense else 1e-30 * np.abs(x.matrix).max() ** 2
    assert certificate.lower <= reached * (1 + 1e-12) + lost


@pytest.mark.parametrize("size", [1e-12, 1e-9, 1e-6])
def test_theorem_13_near_equal_stays_sharp(size, rng):
    """Roots are shrunk, not values: a distance of 1e-12 is still certified.

    In value it is 1e-24.
    """
    C = checkers.euclidean(rng.standard_normal((12, 3)))
    D = C * (1 + size)
    order = np.arange(12)
    plan = gw.SparsePlan(order, order, np.full(12, 1 / 12), (12, 12))
    certificate = gw.certify(C, D, plan, "quadratic")
    reached = float(checkers.exact_objective(C, D, np.eye(12) / 12))
    assert 0.999 * reached <= certificate.bounds["second"] <= reached
    moved = (D - C).mean(1)
    share = 0.9 if size > 1e-12 else 0.3
    assert certificate.bounds["row_means"] >= share * float((moved**2).mean())
    assert certificate.upper <= reached * (1 + 1e-6) + 1e-26


def some_points(seed, far):
    """Points about a far centre, with uniform weights or others."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 9))
    points = rng.standard_normal((n, 2)) + far * rng.standard_normal(2)
    a = rng.uniform(0, 1, n) ** 3 + 1e-6
    weights = None if rng.uniform() < 0.3 else a / a.sum()
    return points, weights


@pytest.mark.parametrize("far", [0.0, 1e6])
@given(SEEDS)
def test_theorem_13_radii_hold_for_squared_distances(far, seed):
    points, a = some_points(seed, far)
    exact_points = rational(points)
    differences = exact_points[:, None] - exact_points[None, :]
    squares = (differences**2).sum(axis=-1)
    check_radii(gw.PointCloud(points, a, metric="sqeuclidean"), squares)


@pytest.mark.parametrize("far", [0.0, 1e6])
@given(SEEDS)
def test_theorem_13_radii_hold(far, seed):
    """Means, deviations and norms against rational arithmetic.

    Of low-rank forms, and of matrices.
    """
    points, a = some_points(seed, far)
    columns = np.ascontiguousarray(points.T)
    check_radii(gw.GramSpace(columns, a), inner_products(columns))
    matrix = points @ points.T
    matrix = (matrix + matrix.T) / 2
    check_radii(gw.DenseSpace(matrix, a), rational(matrix))


def inner_products(factor):
    columns = rational(factor)
    return columns.T @ columns


def check_radii(space, C):
    """Check the radii of a space's computed parts against exact entries C (n, n)."""
    radii = float_error.radii(space)
    a = exact_weights(space.weights)
    row_means = C @ a
    mean = a @ row_means
    deviations = row_means - mean
    residual = C - deviations[:, None] - deviations[None, :] - mean
    # 1. Means and deviations.
    assert abs(fraction(space.mean) - mean) <= Fraction(radii.mean)
    errors = abs(rational(space.deviations) - deviations)
    assert errors.max() <= Fraction(radii.deviations)
    errors = abs(rational(space.row_means) - row_means)
    assert errors.max() <= Fraction(radii.row_means)
    # 2. The norm of the residual.
    square = a @ residual**2 @ a
    norm = float(space.residual_norm_squared()) ** 0.5
    radius = Fraction(radii.norm(norm)) * Fraction(101, 100)
    least = max(Fraction(norm) - radius, Fraction(0))
    assert least**2 <= square <= (Fraction(norm) + radius) ** 2
    # 3. Sizes of the radii themselves.
    assert radii.largest >= 0.999999 * float(abs(C).max())
    assert radii.mean >= 2.0**-52 * radii.largest
    assert radii.deviations <= 1e-12 * radii.largest


def test_low_rank_radii_follow_the_factor(rng):
    wide = gw.GramSpace(rng.standard_normal((9, 4)), np.full(4, 1 / 4))
    assert not wide.low_rank.saves_work
    check_radii(wide, inner_products(wide.factor))
    ready = prepare(wide, wide)
    pair = enclosed(GWProblem(ready.x, ready.y))
    found = certified.linear(ready.x, ready.y, pair)
    assert set(found.bounds) == {"row_means", "norm"}


@given(pairs(), st.sampled_from([1.0, 2.0]))
def test_theorem_13_line_is_rounded_down(pair, p):
    """Against rational arithmetic with exactly normalised weights."""
    x, y = pair
    first = x.matrix[0]
    second = y.matrix[0]
    exact_first = rational(first)
    exact_second = rational(second)
    cost = Fraction(0)
    a = exact_weights(x.weights)
    b = exact_weights(y.weights)
    for i, j, mass in checkers.walk(exact_first, a, exact_second, b):
        cost += mass * abs(exact_first[i] - exact_second[j]) ** int(p)
    terms_x = float_error.weight_terms(x.weights)
    terms_y = float_error.weight_terms(y.weights)
    value, lower, upper = transport_error.transport_on_line(
        first,
        x.weights,
        second,
        y.weights,
        p,
        max(terms_x, terms_y),
    )
    assert Fraction(lower) <= cost <= Fraction(upper)
    width = np.ptp(np.concatenate([first, second]))
    assert upper - lower <= 2e-12 * width**p + 1e-250
    assert lower <= value <= upper


@given(st.integers(1, 8), SEEDS, st.sampled_from([0.0, 1e-9, 1e-3]))
def test_theorem_13_eigenvalues_need_no_trust(n, seed, error):
    """Wrong eigenpairs are paid for by their own residual."""
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((n, n))
    matrix = matrix + matrix.T
    values, vectors = np.linalg.eigh(matrix)
    wrong_values = values + error * rng.standard_normal(n)
    wrong_vectors = vectors + error * rng.standard_normal((n, n))
    radius, off = float_error.eigenpair_error(matrix, wrong_values, wrong_vectors)
    assert np.linalg.norm(np.sort(wrong_values) - values) <= radius + 1e-13
    products = wrong_vectors.T @ wrong_vectors
    assert np.linalg.norm(products - np.eye(n)) <= off
    assert radius <= 1e-12 + 100 * n**2 * error


@given(st.integers(1, 6), st.integers(1, 6), SEEDS)
def test_theorem_13_any_potential_bounds_a_linear_program(n, m, seed):
    rng = np.random.default_rng(seed)
    costs = rng.standard_normal((n, m))
    a = rng.dirichlet(np.ones(n))
    b = rng.dirichlet(np.ones(m))
    best = checkers.linear_program(costs, a, b)
    any_potential = rng.standard_normal(m)
    found = transport_error.dual_value(costs, any_potential, a, b, 2)
    assert found <= best + 1e-12
    _, tight = exact(costs, a, b).potentials
    found = transport_error.dual_value(costs, tight, a, b, 2)
    assert best - 1e-12 <= found < best + 1e-12
    below = transport_error.dual_value(costs, tight, a, b, 2, 0.5)
    assert best - 1e-12 - 0.5 <= below <= best - 0.5 + 1e-12


@given(pairs(generic=True, least=2), st.sampled_from([1e-150, 1e150]))
def test_theorem_13_scales(pair, factor):
    x, y = pair
    here = gw.certify(x.space(), y.space(), effort="cubic")
    wide_x = x.scaled(factor).space()
    wide_y = y.scaled(factor).space()
    there = gw.certify(wide_x, wide_y, effort="cubic")
    for name in QUADRATIC | {"third", "residual_third", "spectral"}:
        found = there.bounds[name] / factor / factor
        expected = here.bounds[name]
        assert found == pytest.approx(expected, rel=1e-8, abs=100 * slack(x, y))


@given(pairs(null=True), st.sampled_from([2.0**-20, 2.0**20]))
def test_theorem_13_radii_have_the_units_of_what_they_bound(pair, factor):
    """A power of two changes no digit: neither of a value nor of its radius."""
    x, y = pair
    here = gw.certify(x.space(), y.space(), effort="quadratic")
    wide_x = x.scaled(factor).space()
    wide_y = y.scaled(factor).space()
    there = gw.certify(wide_x, wide_y, effort="quadratic")
    for name in QUADRATIC:
        found = there.bounds[name] / factor**2
        assert found == pytest.approx(here.bounds[name], rel=4e-16, abs=0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("effort", EFFORTS)
def test_narrow_torch_spaces_are_certified_as_the_values_they_store(dtype, effort):
    torch = pytest.importorskip("torch")

    def narrow_and_wide(n):
        generator = torch.Generator().manual_seed(n)
        points = torch.randn((n, 3), generator=generator)
        points = points.to(getattr(torch, dtype))
        matrix = checkers.euclidean(points.double().numpy())
        return gw.PointCloud(points), gw.DenseSpace(matrix, np.full(n, 1 / n))

    narrow_x, wide_x = narrow_and_wide(6)
    narrow_y, wide_y = narrow_and_wide(8)
    certificate = gw.certify(narrow_x, narrow_y, effort=effort)
    wide = gw.certify(wide_x, wide_y, effort=effort)
    assert certificate.lower == pytest.approx(wide.lower, rel=1e-9)
    assert certificate.upper == pytest.approx(wide.upper, rel=1e-9)
