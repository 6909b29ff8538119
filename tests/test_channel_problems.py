"""Objectives of directed spaces and other losses, against sums over all quadruples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from gwtools.channel_problems import (
    ChannelProblem,
    blocks,
    has_forms,
    prepared_for,
    read_loss,
    words_of_forms,
)
from gwtools.losses import SQUARE
from gwtools.problems import GWProblem
from tests import channel_problems

KINDS = [("square", True), ("kl", True), ("kl", False), ("absolute", True)]


def problem_of(seed, loss, directed):
    C, a, D, b, rng = channel_problems.drawn(seed, loss, directed)
    x, y = channel_problems.spaces(C, a, D, b, directed)
    problem = ChannelProblem(x, y, loss=read_loss(loss, x, y))
    return problem, C, D, channel_problems.random_plan(a, b, rng)


@pytest.mark.parametrize(("loss", "directed"), KINDS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_objective_and_gradient_are_those_of_all_quadruples(loss, directed, seed):
    problem, C, D, plan = problem_of(seed, loss, directed)
    matrix = np.asarray(plan)
    expected = channel_problems.objective(C, D, matrix, loss)
    cross = problem.cross(plan)
    relative = problem.relative_objective(plan, cross)
    size = problem.product_objective + problem.variation
    a, b = problem.x.weights, problem.y.weights
    product = channel_problems.objective(C, D, np.outer(a, b), loss)
    assert problem.product_objective == pytest.approx(product, abs=1e-13 * size)
    assert float(problem.objective(plan)) == pytest.approx(expected, abs=1e-13 * size)
    assert product + relative == pytest.approx(expected, abs=1e-13 * size)
    assert abs(relative) <= problem.variation
    sparse = gw.SparsePlan(
        *np.nonzero(matrix), matrix[np.nonzero(matrix)], matrix.shape
    )
    assert float(problem.objective(sparse)) == pytest.approx(expected, abs=1e-13 * size)
    # The gradient, with what depends on i or on j alone.
    of_rows, of_cols = problem.row_parts(plan)
    slope = problem.gradient(cross) + of_rows[:, None] + of_cols
    missing = channel_problems.gradient(C, D, matrix, loss) - slope
    assert np.ptp(missing) <= 1e-12 * size


def test_symmetric_matrices_have_the_plain_problem_whatever_they_are_called():
    C, a, D, b, rng = channel_problems.drawn(3, directed=False)
    plan = channel_problems.random_plan(a, b, rng)
    plain = GWProblem(*channel_problems.spaces(C, a, D, b, directed=False))
    forms = ChannelProblem(*channel_problems.spaces(C, a, D, b))
    for name in ("product_objective", "variation", "float_error", "slope_range"):
        assert getattr(forms, name) == pytest.approx(getattr(plain, name), rel=1e-12)
    assert np.allclose(forms.linearize(plan), plain.linearize(plan), atol=1e-13)
    assert float(forms.objective(plan)) == pytest.approx(float(plain.objective(plan)))


def test_one_directed_space_adds_what_it_turns_by():
    """F(C, D) = F(C, D_s) + ‖D_k‖² for a symmetric C (theorem 14)."""
    C, a, D, b, rng = channel_problems.drawn(4)
    C = C + C.T
    plan = channel_problems.random_plan(a, b, rng)
    x, y = gw.DenseSpace(C, a), gw.DenseSpace(D, b, directed=True)
    found = ChannelProblem(x, y)
    assert len(found.forms) == 1
    symmetric = GWProblem(x, gw.DenseSpace((D + D.T) / 2, b))
    turning = b @ ((D - D.T) / 2) ** 2 @ b
    expected = float(symmetric.objective(plan)) + turning
    assert float(found.objective(plan)) == pytest.approx(expected, rel=1e-13)


def test_a_fused_objective_adds_costs():
    problem, C, D, plan = problem_of(5, "square", True)
    features = np.arange(plan.dense().size, dtype=float).reshape(plan.shape)
    fused = ChannelProblem(problem.x, problem.y, features, 0.25)
    expected = 0.25 * channel_problems.objective(C, D, np.asarray(plan))
    expected += 0.75 * float(plan.inner(features))
    assert float(fused.objective(plan)) == pytest.approx(expected, rel=1e-13)
    relative = fused.relative_objective(plan, fused.cross(plan))
    assert fused.product_objective + relative == pytest.approx(expected, rel=1e-13)
    assert abs(relative) <= fused.variation


def test_blocks_of_forms_are_those_between_atoms():
    problem, _, _, plan = problem_of(6, "square", True)
    matrix = np.asarray(plan)
    sparse = gw.SparsePlan(
        *np.nonzero(matrix), matrix[np.nonzero(matrix)], matrix.shape
    )
    first, second = blocks(problem, sparse)
    assert (first.sign, second.sign) == (1.0, -1.0)
    assert np.allclose(first.left, first.left.T)
    assert np.allclose(second.right, -second.right.T)
    expected = problem.forms[1].x.residual[np.ix_(sparse.rows, sparse.rows)]
    assert np.array_equal(second.left, expected)


def test_a_problem_is_plain_unless_directed_or_of_another_loss():
    C, a, D, b, _ = channel_problems.drawn(7, directed=False)
    x, y = channel_problems.spaces(C, a, D, b, directed=False)
    towards = gw.DenseSpace(C, a, directed=True)
    assert not has_forms(x, y, SQUARE)
    assert has_forms(towards, y, SQUARE)
    assert words_of_forms(x, y, SQUARE) is None
    assert words_of_forms(towards, y, SQUARE) == "directed spaces"
    loss = read_loss("kl", gw.DenseSpace(abs(C), a), gw.DenseSpace(abs(D) + 1, b))
    assert words_of_forms(x, y, loss) == "loss='kl'"


def test_values_are_kept_for_losses_of_more_than_differences():
    x = gw.DenseSpace(1e200 * (8 - np.eye(2)), np.array([1.0, 0.0]))
    y = gw.DenseSpace(8 - np.eye(2))
    loss = read_loss("kl", gw.DenseSpace(8 - np.eye(2)), y)
    with pytest.raises(ValueError, match="values of C must be at most"):
        prepared_for(loss, x, y)
    ready = prepared_for(loss, gw.DenseSpace(8 - np.eye(2), np.array([1.0, 0.0])), y)
    assert ready.unit == 1.0
    assert np.array_equal(ready.x.distances, [[7.0]])
    assert np.array_equal(ready.y.distances, y.distances)
