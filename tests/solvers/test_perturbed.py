"""Perturbed couplings: the same marginals, other partners."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from gwtools.solvers.perturbed import perturbed_plan
from tests.checkers import coupling_error
from tests.libraries import EAGER, to_numpy
from tests.strategies import coupled


def sparse(plan):
    rows, cols = np.nonzero(plan)
    return gw.SparsePlan(rows, cols, plan[rows, cols], plan.shape)


@settings(max_examples=120)
@given(coupled(), st.booleans(), st.integers(0, 2**16))
def test_marginals_are_kept(instance, dense, seed):
    x, y, plan = instance
    given_plan = gw.DensePlan(plan) if dense else sparse(plan)
    problem = gw.GWProblem(x.space(), y.space())
    rng = np.random.default_rng(seed)
    for _ in range(5):
        found = perturbed_plan(given_plan, problem, rng)
        matrix = found.dense()
        assert matrix.shape == plan.shape
        assert matrix.min() >= 0
        of_rows, of_cols = plan.sum(1), plan.sum(0)
        assert coupling_error(matrix, of_rows, of_cols) <= 1e-14
        # No position is held twice, and no atom is empty.
        assert len(found.mass) == np.count_nonzero(matrix)
        # The restarts of a search go on from one another.
        given_plan = found
    assert coupling_error(found.dense(), x.weights, y.weights) <= 1e-12


def permutation(n, seed=0):
    order = np.random.default_rng(seed).permutation(n)
    return gw.SparsePlan(np.arange(n), order, np.full(n, 1 / n), (n, n))


@pytest.mark.parametrize("n", [2, 3, 10, 40])
def test_between_permutations_images_are_swapped(n):
    problem = gw.GWProblem(gw.as_space(np.eye(n)), gw.as_space(np.eye(n)))
    plan, rng = permutation(n), np.random.default_rng(0)
    moved = []
    for _ in range(200):
        found = perturbed_plan(plan, problem, rng)
        matrix = found.dense()
        assert np.array_equal(np.unique(matrix), [0.0, 1 / n])
        assert np.array_equal((matrix > 0).sum(0), np.ones(n))
        assert np.array_equal((matrix > 0).sum(1), np.ones(n))
        moved.append(np.count_nonzero((matrix > 0) & (plan.dense() == 0)))
    # Small and large changes are both tried, and hardly ever none.
    assert np.mean(np.array(moved) == 0) <= (0.7 if n < 4 else 0.2)
    if n == 40:
        assert min(moved) <= 3
        assert 12 <= max(moved) <= n


def test_the_lesser_mass_moves():
    plan = np.diag([0.7, 0.3])
    problem = gw.GWProblem(
        gw.DenseSpace(np.eye(2), np.array([0.7, 0.3])),
        gw.DenseSpace(np.eye(2), np.array([0.7, 0.3])),
    )
    exchanged = np.array([[0.4, 0.3], [0.3, 0.0]])
    for given_plan in (gw.DensePlan(plan), sparse(plan)):
        rng = np.random.default_rng(1)
        found = [perturbed_plan(given_plan, problem, rng).dense() for _ in range(40)]
        assert any(np.allclose(matrix, exchanged, atol=1e-15) for matrix in found)
        assert any(np.allclose(matrix, plan, atol=1e-15) for matrix in found)


def test_no_draw_changes_the_plan_that_is_given():
    plan = permutation(12)
    problem = gw.GWProblem(gw.as_space(np.eye(12)), gw.as_space(np.eye(12)))
    before = plan.cols.copy(), plan.mass.copy()
    perturbed_plan(plan, problem, np.random.default_rng(0))
    assert np.array_equal(plan.cols, before[0])
    assert np.array_equal(plan.mass, before[1])


def test_one_seed_makes_one_plan():
    plan = permutation(12)
    problem = gw.GWProblem(gw.as_space(np.eye(12)), gw.as_space(np.eye(12)))
    first, again, other = (
        perturbed_plan(plan, problem, np.random.default_rng(seed)).dense()
        for seed in (5, 5, 6)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_one_atom():
    problem = gw.GWProblem(
        gw.as_space(np.zeros((1, 1))),
        gw.DenseSpace(np.eye(3), np.array([0.2, 0.3, 0.5])),
    )
    plan = gw.DensePlan(np.array([[0.2, 0.3, 0.5]]))
    found = perturbed_plan(plan, problem, np.random.default_rng(0))
    np.testing.assert_allclose(found.dense(), plan.matrix, rtol=1e-15)
    alone = gw.GWProblem(gw.as_space(np.eye(1)), gw.as_space(np.eye(1)))
    one = gw.DensePlan(np.ones((1, 1)))
    assert perturbed_plan(one, alone, np.random.default_rng(0)).dense() == [[1.0]]


@pytest.mark.parametrize("library", EAGER, ids=str)
def test_in_every_library(library):
    a, b = np.array([0.2, 0.3, 0.5]), np.array([0.25, 0.75])
    spaces = [
        gw.DenseSpace(library.array(np.eye(len(w))), library.array(w)) for w in (a, b)
    ]
    plan = gw.DensePlan(library.array(np.outer(a, b)))
    found = perturbed_plan(plan, gw.GWProblem(*spaces), np.random.default_rng(2))
    assert library.owns(found.mass)
    most = 1e-15 if library.dtype == "float64" else 1e-7
    assert coupling_error(to_numpy(found.dense()), a, b) <= most
