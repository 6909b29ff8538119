"""Theorem 18: descents over plans with free marginals, and moves of single atoms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from gwtools.free_problems import FreeProblem
from gwtools.solvers.free_descent import FreeDescent, _moved
from gwtools.solvers.free_search import product_of
from tests import checkers, free_plans


def problem_of(seed, marginals, metric=True, zero_diagonal=True):
    C, a, D, b, _ = free_plans.drawn(seed, metric, zero_diagonal)
    return FreeProblem(gw.DenseSpace(C, a), gw.DenseSpace(D, b), marginals), C, D


def best_move(C, D, plan):
    """The least objective after all mass of one atom of x went to another of y."""
    values = []
    for i, j in np.ndindex(*plan.shape):
        moved = plan.copy()
        moved[i] = 0.0
        moved[i, j] = plan[i].sum()
        values.append(checkers.objective(C, D, moved))
    return min(values)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), metric=st.booleans(), zero=st.booleans())
def test_theorem_22_no_move_of_an_atom_descends(seed, metric, zero):
    problem, C, D = problem_of(seed, "semi_relaxed", metric, zero)
    descent = FreeDescent(first=product_of(problem))
    outcome = descent.run(problem)
    plan = outcome.plan.dense()
    found = checkers.objective(C, D, plan)
    assert best_move(C, D, plan) >= found - 1e-7 * problem.variation
    # Moves only descend.
    without = FreeDescent(first=product_of(problem), exchange=False).run(problem)
    assert found <= checkers.objective(C, D, without.plan.dense()) + 1e-12


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), alpha=st.sampled_from([0.1, 0.5, 0.9]))
def test_theorem_18_no_move_of_an_atom_descends_with_features(seed, alpha):
    """The move's change is exact: no other lowers the fused objective."""
    C, a, D, b, rng = free_plans.drawn(seed, False, False)
    features = rng.standard_normal((len(a), len(b)))
    x, y = gw.DenseSpace(C, a), gw.DenseSpace(D, b)
    problem = FreeProblem(x, y, "semi_relaxed", features, alpha)

    def objective(plan):
        linear = float((features * plan).sum())
        return alpha * checkers.objective(C, D, plan) + (1 - alpha) * linear

    plan = FreeDescent(first=product_of(problem)).run(problem).plan.dense()
    found = objective(plan)
    gradient = problem.gradient(problem.cross(gw.DensePlan(plan)))
    assert _moved(problem, gw.DensePlan(plan), gradient, 1e-9) is None
    for i, j in np.ndindex(*plan.shape):
        other = plan.copy()
        other[i] = 0.0
        other[i, j] = plan[i].sum()
        assert objective(other) >= found - 1e-7 * problem.variation


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6), metric=st.booleans())
def test_theorem_22_semi_relaxed_plans_end_at_maps(seed, metric):
    """With zeros on both diagonals no plan that splits an atom is a strict minimum."""
    problem, C, D = problem_of(seed, "semi_relaxed", metric)
    plan = FreeDescent(first=product_of(problem)).run(problem).plan.dense()
    found = checkers.objective(C, D, plan)
    # Atom by atom, split mass goes where it costs least.
    for i in range(len(plan)):
        while np.count_nonzero(plan[i]) > 1:
            j, k = np.nonzero(plan[i])[0][:2]
            candidates = []
            for target in (j, k):
                moved = plan.copy()
                moved[i, [j, k]] = 0.0
                moved[i, target] = plan[i, j] + plan[i, k]
                candidates.append(moved)
            plan = min(candidates, key=lambda other: checkers.objective(C, D, other))
    assert checkers.objective(C, D, plan) <= found + 1e-10


@pytest.mark.parametrize("marginals", ["semi_relaxed", gw.Partial(0.6)], ids=str)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_objectives_never_rise(marginals, seed):
    problem, C, D = problem_of(seed, marginals, metric=False, zero_diagonal=False)
    outcome = FreeDescent(first=product_of(problem)).run(problem)
    steps = [step.objective for step in outcome.history]
    assert all(np.diff(steps) <= 1e-12)
    found = checkers.objective(C, D, outcome.plan.dense())
    assert steps[-1:] == [] or steps[-1] == pytest.approx(found, abs=1e-11)


def test_values_of_0_need_no_step():
    x = gw.as_space(np.zeros((3, 3)))
    problem = FreeProblem(x, x, "semi_relaxed")
    outcome = FreeDescent(first=product_of(problem)).run(problem)
    assert outcome.iterations == 0
    assert outcome.status is gw.Status.GLOBAL
