"""Certificates: an interval that holds, whatever plan it is given."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from gwtools.bounds import (
    certified,
    certified_quadratic,
    outward,
)
from gwtools.certify import certified_objective, enclosed
from gwtools.certify.objectives import objective_of_plan, objective_of_product
from gwtools.preparation import prepare
from tests import checkers
from tests.solvers.test_conditional_gradient import arguments, scale
from tests.strategies import (
    additive_pairs,
    coupled,
    couplings,
    known,
    one_points,
    pairs,
    permuted_copies,
)
from tests.test_plans import FORMS


@pytest.mark.parametrize("form", FORMS)
@given(coupled(null=True))
def test_interval_holds_the_objective_of_its_plan(form, instance):
    x, y, plan = instance
    certificate = gw.certify(x.space(), y.space(), FORMS[form](plan))
    checkers.check_certificate(certificate, *arguments(x, y))
    found = checkers.objective(x.matrix, y.matrix, plan)
    assert certificate.lower <= found <= certificate.upper
    assert certificate.upper <= found + 1e-10 * scale(x, y)


@given(pairs(null=True))
def test_every_lower_bound_is_below_every_upper_one(pair):
    x, y = pair
    alone = gw.certify(x.space(), y.space())
    solved = gw.solve(x.space(), y.space(), gw.Sorted()).certificate
    assert alone.lower == solved.lower
    assert alone.lower <= min(alone.upper, solved.upper)


@given(pairs(null=True))
def test_without_a_plan_the_upper_bound_is_the_product(pair):
    x, y = pair
    certificate = gw.certify(x.space(), y.space())
    plan = np.outer(x.weights, y.weights)
    product = checkers.objective(x.matrix, y.matrix, plan)
    checkers.check_certificate(certificate, *arguments(x, y))
    assert product <= certificate.upper <= product + 1e-10 * scale(x, y)
    assert certificate.kind in (gw.Kind.LOWER, gw.Kind.GLOBAL)


CLOSED = {
    "one point": one_points(),
    "copy": permuted_copies(),
    "additive": additive_pairs(),
}


@pytest.mark.parametrize("family", CLOSED)
@given(data=st.data())
def test_closed_gaps_are_global(family, data):
    known = data.draw(CLOSED[family])
    size = scale(known.x, known.y)
    certificate = gw.certify(known.x.space(), known.y.space(), known.plan)
    assert certificate.kind is gw.Kind.GLOBAL
    assert certificate.lower <= known.value * (1 + 1e-15) + 1e-300
    assert known.value <= certificate.upper + 1e-13 * size
    assert certificate.gap <= 1e-9 * size


@given(coupled(least=2))
def test_open_gaps_are_brackets(instance):
    x, y, plan = instance
    certificate = gw.certify(x.space(), y.space(), plan)
    is_open = certificate.gap > 1e-6 * scale(x, y)
    if is_open:
        assert certificate.kind is gw.Kind.BRACKET


@given(known(), st.data())
def test_known_answers_lie_inside(known, data):
    plan = data.draw(couplings(known.x.weights, known.y.weights))
    certificate = gw.certify(known.x.space(), known.y.space(), plan)
    rounded = 1e-15 * scale(known.x, known.y)
    assert certificate.lower - rounded <= known.value <= certificate.upper + rounded


def has_one_row(drawn):
    return drawn.kind == "gram" and len(drawn.data) == 1


@given(coupled(kinds=("sqeuclidean", "gram"), least=3))
def test_low_rank_spaces_get_the_spectral_bound(instance):
    x, y, plan = instance
    bounds = gw.certify(x.space(), y.space(), plan).bounds
    expected = {"row_means", "norm", "spectral"}
    if has_one_row(x) and has_one_row(y):
        expected.add("rank_one")
    assert set(bounds) == expected
    plain = float(gw.bounds.spectral(x.space(), y.space()))
    assert plain - 1e-9 * scale(x, y) <= bounds["spectral"] <= plain


def narrow(values):
    return values.astype(np.float32)


@given(coupled(null=True))
def test_float32_spaces_are_certified_as_the_values_they_store(instance):
    x, y, plan = instance
    narrow_x = x.space(narrow)
    narrow_y = y.space(narrow)
    certificate = gw.certify(narrow_x, narrow_y, narrow(plan))
    C, a = stored(narrow_x, x)
    D, b = stored(narrow_y, y)
    checkers.check_certificate(certificate, C, a, D, b)
    product = checkers.objective(C, D, np.outer(a, b))
    assert certificate.lower <= product


def stored(space, drawn):
    """Matrix and weights of the stored float32 values, in float64."""
    weights = space.weights.astype(float)
    data = space.data.astype(float)
    wide = type(drawn)(drawn.kind, data, weights / weights.sum())
    return wide.matrix, wide.weights


def test_a_plan_need_not_come_from_a_solver(rng):
    C = checkers.euclidean(rng.standard_normal((4, 2)))
    D = checkers.euclidean(rng.standard_normal((6, 2)))
    product = np.outer(np.full(4, 0.25), np.full(6, 1 / 6))
    with_plan = gw.certify(C, D, product)
    without = gw.certify(C, D)
    assert with_plan.kind is gw.Kind.BRACKET
    assert without.kind is gw.Kind.LOWER
    assert with_plan.upper == pytest.approx(without.upper, rel=1e-10)


@pytest.mark.parametrize("with_plan", [False, True])
def test_certificates_hold_what_each_formula_says(rng, with_plan):
    """In units that are changed and given back.

    The ends, the name of the best bound, a priori and rounding.
    """
    points = rng.standard_normal((4, 2))
    points_y = rng.standard_normal((6, 2))
    far = 4.0**150
    x = gw.DenseSpace(checkers.euclidean(points) * far, rng.dirichlet(np.ones(4)))
    y = gw.DenseSpace(checkers.euclidean(points_y) * 2 * far, rng.dirichlet(np.ones(6)))
    plan = np.outer(x.weights, y.weights) if with_plan else None
    found = gw.certify(x, y, plan)
    # 1. What is computed, in the units of the prepared spaces.
    ready = prepare(x, y)
    assert ready.unit not in (0.0, 1.0)
    square = ready.unit**2
    problem = gw.GWProblem(ready.x, ready.y)
    pair = enclosed(problem)
    bounds, a_priori = certified.linear(ready.x, ready.y, pair)
    upper = (
        objective_of_plan(problem, pair, gw.DensePlan(plan))
        if with_plan
        else objective_of_product(problem, pair)
    )
    # 2. What is given back.
    assert set(found.bounds) == set(bounds)
    for name, bound in bounds.items():
        assert found.bounds[name] == math.nextafter(bound.lower * square, 0)
    assert found.bound == "norm"
    assert found.lower == found.bounds["norm"] == max(found.bounds.values())
    assert found.upper == math.nextafter(upper.upper * square, math.inf)
    above = math.nextafter(a_priori * square, math.inf)
    assert found.a_priori == above + 2 * math.ulp(found.lower)
    width = outward.interval_width(
        bounds["norm"].lower,
        pair.largest,
        0,
        pair.x.radii,
        pair.y.radii,
    )
    assert found.rounding == math.nextafter(width * square, math.inf)
    assert found.tolerance == found.rounding
    assert found.kind is (gw.Kind.BRACKET if with_plan else gw.Kind.LOWER)
    # 3. The objective and its root.
    detailed = certified_objective(x, y, plan, "linear")
    assert detailed.objective == upper.value * square
    root = math.sqrt(upper.value) * ready.unit
    assert detailed.distance == pytest.approx(root, rel=1e-15)


@pytest.mark.parametrize("side", [0, 1])
def test_values_whose_squares_leave_the_range_are_refused(side):
    spaces = [np.array([[0.0, 1.0], [1.0, 0.0]])] * 2
    spaces[side] = spaces[side] * 2.0**509
    assert math.isfinite(gw.certify(*spaces).upper)
    spaces[side] = spaces[side] * (1 + 2.0**-52)
    message = r"values of C must be at most 1\.6759\d+e\+153 in absolute value"
    with pytest.raises(ValueError, match=message):
        gw.certify(*spaces)


@pytest.mark.parametrize("effort", ["quadratic", "cubic"])
def test_convexity_takes_what_is_known_of_the_signs(coarse, rng, effort):
    """The kinds of spaces alone, or the smaller of what they and the spectra say."""
    x = gw.GramSpace(rng.standard_normal((3, 5)))
    y = gw.PointCloud(5 + 9 * rng.standard_normal((6, 2)))
    plan = np.outer(x.weights, y.weights)
    sides = certified.enclosed_parts(x), certified.enclosed_parts(y)
    curvatures = [
        certified_quadratic.eigenvalue_product_of_kinds(*sides, x.sign, y.sign)
    ]
    if effort == "cubic":
        modes = [certified.modes(side) for side in sides]
        curvatures.append(certified_quadratic.largest_eigenvalue_product(*modes))
        assert curvatures[0] != curvatures[1]
    found = gw.certify(x, y, plan, effort).bounds["convexity"]
    lower = certified_quadratic.convexity(*sides, plan, min(curvatures)).lower
    assert 0 < found == math.nextafter(lower, 0)
    less = certified_quadratic.convexity(*sides, plan, max(curvatures) * 0.1).lower
    assert lower != less
