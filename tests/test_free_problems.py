"""Theorem 18: the objective over plans with free marginals, and its gradient."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from gwtools.free_problems import FreeProblem, listed_plan
from tests import checkers, free_plans

KINDS = ["semi_relaxed", gw.Partial(0.6)]


def problem_of(seed, marginals, metric=False):
    C, a, D, b, rng = free_plans.drawn(seed, metric, zero_diagonal=False)
    problem = FreeProblem(gw.DenseSpace(C, a), gw.DenseSpace(D, b), marginals)
    return problem, free_plans.random_plan(a, b, marginals, rng), C, D


@pytest.mark.parametrize("marginals", KINDS, ids=str)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_theorem_22_objective(marginals, seed):
    """Against the sum over all quadruples, and its gradient term by term."""
    problem, matrix, C, D = problem_of(seed, marginals)
    plan = gw.DensePlan(matrix)
    cross = problem.cross(plan)
    expected = checkers.objective(C, D, matrix)
    assert problem.relative_objective(plan, cross) == pytest.approx(expected, rel=1e-11)
    assert float(problem.objective(plan)) == pytest.approx(expected, rel=1e-11)
    slope = checkers.gradient(C, D, matrix)
    assert np.allclose(problem.gradient(cross), slope, rtol=1e-11, atol=1e-11)
    assert 0 <= expected <= problem.variation


@pytest.mark.parametrize("marginals", KINDS, ids=str)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), alpha=st.sampled_from([0.0, 0.3, 0.9]))
def test_theorem_18_fused_objective(marginals, seed, alpha):
    """Both terms, their gradient, and between which numbers all objectives are."""
    problem, matrix, C, D = problem_of(seed, marginals)
    rng = np.random.default_rng(seed)
    features = rng.standard_normal(matrix.shape)
    problem = replace(problem, features=features, alpha=alpha)
    plan = gw.DensePlan(matrix)
    cross = problem.cross(plan)
    expected = alpha * checkers.objective(C, D, matrix)
    expected += (1 - alpha) * float((features * matrix).sum())
    assert problem.relative_objective(plan, cross) == pytest.approx(expected, abs=1e-10)
    assert float(problem.objective(plan)) == pytest.approx(expected, abs=1e-10)
    slope = alpha * checkers.gradient(C, D, matrix) + (1 - alpha) * features
    assert np.allclose(problem.gradient(cross), slope, rtol=1e-11, atol=1e-11)
    assert problem.floor <= expected <= problem.floor + problem.variation


def test_constants_added_to_both_matrices_change_nothing_but_float_errors():
    problem, matrix, C, D = problem_of(1, "semi_relaxed")
    plan = gw.DensePlan(matrix)
    x = gw.DenseSpace(C + 10, problem.x.weights)
    y = gw.DenseSpace(D + 10, problem.y.weights)
    shifted = FreeProblem(x, y, "semi_relaxed")
    assert shifted.variation == pytest.approx(problem.variation)
    change = shifted.relative_objective(plan, shifted.cross(plan))
    change -= problem.relative_objective(plan, problem.cross(plan))
    assert abs(change) <= shifted.float_error


def test_matrices_of_few_masses_become_lists():
    matrix = np.zeros((4, 5))
    matrix[[0, 2], [1, 3]] = 0.25, 0.75
    plan = listed_plan(gw.DensePlan(matrix))
    assert isinstance(plan, gw.SparsePlan)
    assert np.array_equal(np.asarray(plan), matrix)
    assert listed_plan(plan) is plan
    full = gw.DensePlan(np.full((20, 20), 1 / 400))
    assert listed_plan(full) is full
