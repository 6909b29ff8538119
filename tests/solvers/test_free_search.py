"""Starts of problems with free marginals: which there are, and those that are given."""

import numpy as np
import pytest

import gwtools as gw
from gwtools.free_problems import FreeProblem
from gwtools.solvers.free_search import given_free_plan
from tests import checkers, free_plans

KINDS = ["semi_relaxed", gw.Partial(0.6)]


@pytest.mark.parametrize("marginals", KINDS, ids=str)
def test_the_best_start_is_kept_and_repeats(marginals):
    C, a, D, b, _ = free_plans.drawn(1, least=8, most=12)
    x, y = gw.DenseSpace(C, a), gw.DenseSpace(D, b)
    result = gw.solve(x, y, marginals=marginals)
    names = [start.name for start in result.starts]
    assert names[:2] == ["product plan", "sorting coupling"]
    assert len(names) == (10 if marginals == "semi_relaxed" else 12)
    objectives = [start.objective for start in result.starts]
    best = result.starts.best.objective
    assert best <= min(objectives) + 1e-12
    assert float(result.objective) == pytest.approx(best, rel=1e-12)
    again = gw.solve(x, y, marginals=marginals)
    assert np.array_equal(np.asarray(again.plan), np.asarray(result.plan))


@pytest.mark.parametrize("marginals", KINDS, ids=str)
def test_a_given_start_is_the_only_one(marginals):
    """At a stationary plan nothing moves."""
    C, a, D, b, _ = free_plans.drawn(2)
    x, y = gw.DenseSpace(C, a), gw.DenseSpace(D, b)
    best = gw.solve(x, y, marginals=marginals)
    solver = gw.ConditionalGradient(init=np.asarray(best.plan))
    result = gw.solve(x, y, solver, marginals=marginals)
    assert result.starts is None
    assert np.allclose(np.asarray(result.plan), np.asarray(best.plan), atol=1e-12)
    assert result.solver.startswith("ConditionalGradient(init=")


@pytest.mark.parametrize("marginals", KINDS, ids=str)
def test_starts_that_miss_a_little_are_rounded(marginals):
    C, a, D, b, rng = free_plans.drawn(3)
    problem = FreeProblem(gw.DenseSpace(C, a), gw.DenseSpace(D, b), marginals)
    plan = free_plans.random_plan(a, b, marginals, rng)
    assert np.array_equal(given_free_plan(plan, problem).dense(), plan)
    rounded = given_free_plan(plan * (1 + 2e-4), problem).dense()
    assert free_plans.plan_error(rounded, a, b, marginals) <= 1e-14
    assert np.abs(rounded - plan).max() <= 1e-3


def test_starts_are_cut_to_the_atoms_that_carry_weight():
    C, a, D, b, rng = free_plans.drawn(4)
    plan = free_plans.random_plan(a, b, "semi_relaxed", rng)
    wide_C = np.zeros((len(a) + 1, len(a) + 1))
    wide_C[1:, 1:] = C
    x = gw.DenseSpace(wide_C, np.append(0.0, a))
    start = np.vstack([np.zeros(len(b)), plan])
    results = [
        gw.solve(
            space,
            D,
            gw.ConditionalGradient(init=init),
            marginals="semi_relaxed",
        )
        for space, init in ((x, start), (gw.DenseSpace(C, a), plan))
    ]
    wide, narrow = (np.asarray(result.plan) for result in results)
    assert np.array_equal(wide[1:], narrow)
    assert wide[0].sum() == 0


def test_the_default_is_at_most_what_one_start_gives():
    for seed in range(3):
        C, a, D, b, _ = free_plans.drawn(seed, metric=False)
        x, y = gw.DenseSpace(C, a), gw.DenseSpace(D, b)
        for marginals in KINDS:
            single = gw.solve(x, y, gw.ConditionalGradient(), marginals=marginals)
            search = gw.solve(x, y, marginals=marginals)
            found = checkers.objective(C, D, np.asarray(search.plan))
            assert found <= float(single.objective) + 1e-12
