"""The quadratic problem: objective and linearisation for all spaces and plans."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from tests import checkers
from tests.strategies import KINDS, coupled, couplings, known, orders, pairs, vertex
from tests.test_plans import FORMS


def scale(x, y):
    return max(1e-300, *(np.abs(s.matrix).max() ** 2 for s in (x, y)))


@pytest.mark.parametrize("form", FORMS)
@given(coupled(null=True))
def test_objective_is_the_sum_over_quadruples(form, instance):
    x, y, plan = instance
    found = float(gw.GWProblem(x.space(), y.space()).objective(FORMS[form](plan)))
    assert abs(found - checkers.objective(x.matrix, y.matrix, plan)) <= 1e-13 * scale(
        x, y
    )
    assert found >= 0


@pytest.mark.parametrize("form", FORMS)
@given(coupled(null=True))
def test_linearize_is_the_gradient_along_couplings(form, instance):
    x, y, plan = instance
    found = gw.GWProblem(x.space(), y.space()).linearize(FORMS[form](plan))
    difference = found - checkers.gradient(x.matrix, y.matrix, plan)
    centred = difference - difference @ y.weights[:, None]
    centred = centred - x.weights[None, :] @ centred
    assert np.abs(centred).max() <= 1e-12 * scale(x, y)


@given(coupled(), st.data())
def test_objective_of_a_transported_plan_does_not_depend_on_labels(instance, data):
    x, y, plan = instance
    order = np.array(data.draw(orders(x.size)))
    here = gw.GWProblem(x.space(), y.space()).objective(gw.DensePlan(plan))
    there = gw.GWProblem(x.take(order).space(), y.space()).objective(
        gw.DensePlan(plan[order])
    )
    assert abs(float(here) - float(there)) <= 1e-13 * scale(x, y)


@given(coupled())
def test_objective_is_symmetric_in_the_spaces(instance):
    x, y, plan = instance
    here = gw.GWProblem(x.space(), y.space()).objective(gw.DensePlan(plan))
    there = gw.GWProblem(y.space(), x.space()).objective(gw.DensePlan(plan.T))
    assert abs(float(here) - float(there)) <= 1e-13 * scale(x, y)


@given(pairs())
def test_float_error_is_proportional_to_the_norms(pair):
    """The spacing of 1.0 times ‖C‖ ‖D − m_D‖ + ‖D‖ ‖C − m_C‖, with a factor of 16."""
    norms = []
    for s in pair:
        mean = s.weights @ s.matrix @ s.weights
        norms.append(
            [(s.weights @ (s.matrix - m) ** 2 @ s.weights) ** 0.5 for m in (0.0, mean)]
        )
    (whole_x, apart_x), (whole_y, apart_y) = norms
    expected = 16 * np.finfo(float).eps * (whole_x * apart_y + whole_y * apart_x)
    found = gw.GWProblem(*(s.space() for s in pair)).float_error
    assert found == pytest.approx(
        expected, abs=1e-6 * np.finfo(float).eps * scale(*pair)
    )


@given(known())
def test_known_answers(known):
    problem = gw.GWProblem(known.x.space(), known.y.space())
    for form in FORMS.values():
        assert abs(
            float(problem.objective(form(known.plan))) - known.value
        ) <= 1e-12 * scale(known.x, known.y)


@given(st.data())
def test_a_sparse_plan_of_a_copy_has_objective_exactly_zero(data):
    """Nothing cancels where differences are squared: 0, not 1e-16."""
    x, _ = data.draw(pairs(kinds=("dense", "euclidean"), generic=True))
    order = np.array(data.draw(orders(x.size)))
    y = x.take(order)
    plan = gw.SparsePlan(order, np.arange(x.size), y.weights, (x.size, x.size))
    assert float(gw.GWProblem(x.space(), y.space()).objective(plan)) == 0.0


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_float32_objective(kind, data):
    x, y = data.draw(pairs(kinds=(kind,)))
    plan = data.draw(couplings(x.weights, y.weights))
    x32, y32 = (s.space(lambda v: v.astype(np.float32)) for s in (x, y))
    found = gw.GWProblem(x32, y32).objective(gw.DensePlan(plan.astype(np.float32)))
    assert found.dtype == np.float32
    assert abs(
        float(found) - checkers.objective(x.matrix, y.matrix, plan)
    ) <= 1e-5 * scale(x, y)


@given(pairs(), st.data())
def test_sparse_vertices_and_their_dense_forms_agree(pair, data):
    x, y = pair
    plan = vertex(x.weights, y.weights, *(data.draw(orders(s.size)) for s in pair))
    problem = gw.GWProblem(x.space(), y.space())
    dense, sparse = (
        float(problem.objective(FORMS[form](plan))) for form in ("dense", "sparse")
    )
    assert abs(dense - sparse) <= 1e-13 * scale(x, y)


def test_plans_of_another_shape_are_refused():
    problem = gw.GWProblem(gw.DenseSpace(np.eye(2)), gw.DenseSpace(np.eye(3)))
    for ask in (problem.objective, problem.linearize):
        with pytest.raises(
            ValueError,
            match=r"plan must have shape \(2, 3\).*but has \(3, 2\): transpose it",
        ):
            ask(gw.DensePlan(np.full((3, 2), 1 / 6)))


@given(coupled(null=True), st.floats(0.25, 8.0), st.floats(-4.0, 4.0))
def test_theorem_2_variation(instance, factor, constant):
    """No objective is farther than this from the product coupling's.

    It is proportional to the scale of a space and does not depend on constants.
    """
    x, y, plan = instance
    problem = gw.GWProblem(x.space(), y.space())
    relative_objective = problem.relative_objective(
        gw.DensePlan(plan), problem.cross(gw.DensePlan(plan))
    )
    product = checkers.objective(x.matrix, y.matrix, np.outer(x.weights, y.weights))
    assert abs(
        relative_objective - (checkers.objective(x.matrix, y.matrix, plan) - product)
    ) <= 1e-12 * scale(x, y)
    assert abs(relative_objective) <= problem.variation + 1e-13 * scale(x, y)
    other = gw.DenseSpace(factor * y.matrix + constant, y.weights)
    moved = gw.GWProblem(gw.DenseSpace(x.matrix, x.weights), other)
    size = 1e-12 * scale(x, y) * max(factor, 1.0) + 1e-12 * np.abs(
        x.matrix
    ).max() * abs(constant)
    assert abs(moved.variation - factor * problem.variation) <= size
    again = moved.relative_objective(
        gw.DensePlan(plan), moved.cross(gw.DensePlan(plan))
    )
    assert abs(again - factor * relative_objective) <= size


def test_large_gradients_hold_no_second_array(monkeypatch, rng):
    """Block by block they are the same numbers, and so is E_π αβ at the atoms."""
    weights = rng.dirichlet(np.ones(70))
    x = gw.PointCloud(rng.standard_normal((70, 3)), weights)
    y = gw.PointCloud(rng.standard_normal((600, 3)))
    problem = gw.GWProblem(x, y)
    plan = gw.SparsePlan(np.arange(70), np.arange(70), weights, (70, 600))
    cross = problem.cross(plan)
    whole = problem.gradient(cross)
    monkeypatch.setattr("gwtools.problems._MANY", 1)
    assert np.array_equal(problem.gradient(cross), whole)
    assert problem.bilinear_inner(plan) == plan.inner(problem.bilinear_cost)


@pytest.mark.parametrize("share", [0.1, 0.7, 0.9])
def test_updated_products_are_those_of_the_plan(share, rng):
    """Where few, many or nearly all rows of a plan have changed."""
    n, m = 250, 230
    problem = gw.GWProblem(*(gw.PointCloud(rng.random((k, 3))) for k in (n, m)))
    rows, cols, mass = np.arange(n), rng.permutation(n) % m, np.full(n, 1 / n)
    moved = np.where(rng.random(n) < share, (cols + 1) % m, cols)
    before, after = (gw.SparsePlan(rows, c, mass, (n, m)) for c in (cols, moved))
    cross = problem.cross(before)
    kept = cross.copy()
    updated = problem.updated_cross(after, before, cross)
    assert np.abs(updated - problem.cross(after)).max() <= 1e-15 * n
    assert np.array_equal(cross, kept)
