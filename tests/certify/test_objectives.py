"""Upper ends: which formula of theorem 13 (g) rounds which objective up."""

import math

import numpy as np
import pytest
from hypothesis import given

import gwtools as gw
from gwtools.bounds import (
    certified,
    float_error,
    outward,
)
from gwtools.certify import PlanObjective, coupling_distance, enclosed
from gwtools.certify.objectives import (
    missed_mass,
    objective_of_plan,
    objective_of_product,
    objectives_of_sorting,
)
from gwtools.transport.one_dimensional import sorting_plan
from tests import checkers, radii
from tests.bounds.test_distributions import slack
from tests.radii import some_extent, some_radii
from tests.strategies import coupled


def some_parts(n, m):
    return some_radii(1, n), some_radii(2, m), some_extent(3), some_extent(4)


def test_pairs_say_how_far_values_are_apart():
    x = gw.DenseSpace(np.full((2, 2), 0.7))
    y = gw.DenseSpace(np.full((3, 3), 2.0))
    parts = some_parts(2, 3)
    for first, second in ((x, y), (y, x)):
        _, pair = radii.enclosed(first, second, *parts)
        assert pair.mean_gap == pytest.approx(1.3, rel=1e-14)
        wanted = float_error.max_difference(pair.mean_gap, *parts)
        assert pair.largest == pytest.approx(wanted, rel=1e-14)


def space_of(name, points, weights):
    if name == "gram":
        return gw.GramSpace(points.T, weights)
    return gw.DenseSpace(checkers.euclidean(points), weights)


def generic_pair(rng, name_x, name_y):
    """Spaces with large radii, and plans that miss their weights a little.

    The plans are a matrix, and the same as a list.
    """
    a = rng.dirichlet(np.full(3, 5.0))
    b = rng.dirichlet(np.full(5, 5.0))
    x = space_of(name_x, rng.standard_normal((3, 2)), a)
    y = space_of(name_y, rng.standard_normal((5, 2)), b)
    problem, pair = radii.enclosed(x, y, *some_parts(3, 5))
    matrix = np.outer(a, b) * (1 + 1e-2 * rng.uniform(-1, 1, (3, 5)))
    rows, cols = np.divmod(np.arange(15), 5)
    listed = gw.SparsePlan(rows, cols, matrix.ravel(), (3, 5))
    return problem, pair, gw.DensePlan(matrix), listed


NAMES = [("dense", "dense"), ("gram", "gram"), ("gram", "dense"), ("dense", "gram")]


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("names", NAMES)
def test_objectives_are_rounded_by_the_form_of_the_plan(coarse, rng, names, listed):
    problem, pair, matrix, atoms = generic_pair(rng, *names)
    plan, terms = (atoms, 15) if listed else (matrix, 3)
    of_x = pair.x.radii
    of_y = pair.y.radii
    row_sums, col_sums = plan.marginals()
    rows = np.abs(row_sums - problem.x.weights).sum()
    cols = np.abs(col_sums - problem.y.weights).sum()
    missed = outward.missed_mass(rows, cols, terms, of_x, of_y)
    assert missed_mass(plan, pair) == pytest.approx(missed, rel=1e-13)
    value = float(problem.objective(plan))
    if listed and names != ("gram", "gram"):
        upper = outward.squares_upper(value, 15, missed, pair.largest, of_x, of_y)
    else:
        parts = of_x, of_y, pair.x.extent, pair.y.extent
        sizes = missed, pair.mean_gap, pair.largest
        upper = outward.parts_upper(value, 2 * terms, *sizes, *parts)
    found = objective_of_plan(problem, pair, plan)
    assert found.value == value
    assert found.lower == 0.0
    assert found.upper == pytest.approx(upper, rel=1e-13)


@pytest.mark.parametrize("form", ["dense", "gram"])
@pytest.mark.parametrize("more", [-0.05, 0.05])
def test_matchings_stand_for_the_coupling_they_mean(coarse, rng, form, more):
    """An upper end holds for the coupling with the weights as its masses.

    It holds for the plan as it is stored as well.
    """
    weights = np.array([0.2, 0.3, 0.5])
    index = np.arange(3)
    x = space_of(form, rng.standard_normal((3, 2)), weights)
    y = space_of(form, rng.standard_normal((3, 2)), weights)
    parts = some_parts(3, 3)
    problem, pair = radii.enclosed(x, y, *parts)

    def upper(plan, value):
        if form == "dense":
            return outward.squares_upper(value, 3, 0.0, pair.largest, *parts[:2])
        missed = missed_mass(plan, pair)
        return outward.parts_upper(
            value, 6, missed, pair.mean_gap, pair.largest, *parts
        )

    def objective(plan, evaluated):
        found = objective_of_plan(problem, pair, plan, evaluated)
        return found.value, found.upper

    exact = gw.SparsePlan(index, index, weights, (3, 3))
    off = gw.SparsePlan(index, index, weights + np.array([more, 0.0, 0.0]), (3, 3))
    value = float(gw.GWProblem(x, y).objective(exact))
    value_off = float(gw.GWProblem(x, y).objective(off))
    wanted = upper(exact, value)
    wanted_off = max(wanted, upper(off, value_off))
    known = PlanObjective(x, y, exact, np.asarray(7.0))
    known_off = PlanObjective(x, y, off, np.asarray(7.0))
    for evaluated in (None, known_off):
        found = objective(exact, evaluated)
        assert found == pytest.approx((value, wanted), rel=1e-13)
    for evaluated in (None, known):
        found = objective(off, evaluated)
        assert found == pytest.approx((value_off, wanted_off), rel=1e-13)
    # What was evaluated is not computed again, but of these spaces and this plan alone.
    assert objective(exact, known)[0] == 7.0
    assert objective(exact, known._replace(x=y))[0] == value
    assert objective(exact, known._replace(y=x))[0] == value


@pytest.mark.parametrize("name", ["dense", "gram"])
def test_the_product_is_rounded_by_its_parts(coarse, rng, name):
    problem, pair, _, _ = generic_pair(rng, name, name)
    x = problem.x
    y = problem.y
    a = x.weights
    b = y.weights
    deviations = float(a @ x.deviations**2 + b @ y.deviations**2)
    residuals = float(x.residual_norm_squared() + y.residual_norm_squared())
    value = pair.mean_gap**2 + 2 * deviations + residuals
    found = objective_of_product(problem, pair)
    assert found.value == pytest.approx(value, rel=1e-13)
    reached = checkers.objective(x.dense(), y.dense(), np.outer(a, b))
    assert found.value == pytest.approx(reached, rel=1e-12)
    upper = outward.product_upper(found.value, pair.x.radii, pair.y.radii)
    assert found.upper == pytest.approx(upper, rel=1e-13)


def of_both_signs(n, rng):
    square = rng.standard_normal((n, n))
    return gw.DenseSpace(square + square.T)


def test_the_best_cheap_coupling_is_the_one_of_the_least_upper_end(rng):
    # Of both signs, so that eccentricities sort otherwise than row means.
    x = of_both_signs(4, rng)
    y = of_both_signs(6, rng)
    problem = gw.GWProblem(x, y)
    pair = enclosed(problem)
    ends = []
    for first, second in (
        (x.row_means, y.row_means),
        (x.row_means, -y.row_means),
        (x.dense() ** 2 @ x.weights, y.dense() ** 2 @ y.weights),
    ):
        plan = sorting_plan(first, x.weights, second, y.weights)
        ends.append(objective_of_plan(problem, pair, plan).upper)
    parts_x = certified.enclosed_parts(x)
    parts_y = certified.enclosed_parts(y)
    found = objectives_of_sorting(problem, pair, parts_x, parts_y)
    assert [end.upper for end in found] == ends
    product = objective_of_product(problem, pair).upper
    best = math.nextafter(min(product, *ends), math.inf)
    assert gw.certify(x, y, effort="quadratic").upper == best


def test_distances_of_couplings_are_rounded_up(rng):
    """Roots of upper ends, one float further, in the given units; 0 for copies."""
    weights = np.array([0.2, 0.3, 0.5])
    index = np.arange(3)
    x = space_of("dense", rng.standard_normal((3, 2)), weights)
    y = space_of("dense", rng.standard_normal((3, 2)), weights)
    plan = gw.SparsePlan(index, index, weights, (3, 3))
    root = math.sqrt(gw.certify(x, y, plan).upper)
    for unit in (1.0, 4.0**120):
        found = coupling_distance(x.scaled(unit), y.scaled(unit), plan)
        assert unit * root < found <= unit * root * (1 + 1e-14)
    assert coupling_distance(x, x, plan) == 0.0
    # The next float above the root, and no other.
    problem = gw.GWProblem(x, y)
    upper = objective_of_plan(problem, enclosed(problem), plan).upper
    rounded = float_error.rounded_up(upper**0.5)
    assert coupling_distance(x, y, plan) == math.nextafter(rounded, math.inf)


def sorting_matrix(first, a, second, b):
    plan = np.zeros((len(a), len(b)))
    for i, j, mass in checkers.walk(first, a, second, b):
        plan[i, j] += mass
    return plan


@given(coupled(least=2))
def test_without_a_plan_the_cheap_couplings_compete(instance):
    x, y, _ = instance
    C = x.matrix
    D = y.matrix
    a = x.weights
    b = y.weights
    lists = [(C @ a, D @ b), (C @ a, -D @ b), (C**2 @ a, D**2 @ b)]
    found = gw.certify(x.space(), y.space(), effort="quadratic").upper
    plans = [np.outer(a, b)]
    # Ties would leave the order, and so the coupling, to float error.
    gaps = [np.diff(np.sort(v)).min() for pair in lists for v in pair]
    if min(gaps) > 1e-6:
        plans += [sorting_matrix(first, a, second, b) for first, second in lists]
    best = min([checkers.objective(C, D, plan) for plan in plans])
    if len(plans) > 1:
        assert found == pytest.approx(best, rel=1e-9, abs=100 * slack(x, y))
    assert found <= best * (1 + 1e-9) + 100 * slack(x, y)
