"""Starts of problems with free marginals: which there are, and those that are given."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import gwtools as gw
from gwtools.free_problems import FreeProblem
from gwtools.solvers.free_search import given_free_plan, part_of
from tests import checkers, free_plans
from tests.libraries import Library

KINDS = ["semi_relaxed", gw.Partial(0.6)]


@pytest.mark.parametrize("marginals", KINDS, ids=str)
def test_the_best_start_is_kept_and_repeats(marginals):
    C, a, D, b, _ = free_plans.drawn(1, least=8, most=12)
    x, y = gw.DenseSpace(C, a), gw.DenseSpace(D, b)
    result = gw.solve(x, y, marginals=marginals)
    names = [start.name for start in result.starts]
    assert names[:2] == ["product plan", "sorting coupling"]
    assert len(names) == (10 if marginals == "semi_relaxed" else 16)
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


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    mass=st.floats(0.01, 0.99),
    share=st.floats(0.0, 1.0),
    alpha=st.sampled_from([None, 0.5]),
)
@example(seed=439, mass=0.05, share=0.5, alpha=None)  # here the scaled plan is better
def test_theorem_22_parts_of_plans_of_larger_masses(seed, mass, share, alpha):
    """A part of a plan is feasible, below it, and no worse than the scaled plan."""
    C, a, D, b, rng = free_plans.drawn(seed)
    larger = gw.Partial(mass + share * (1 - mass))
    plan = free_plans.random_plan(a, b, larger, rng)
    M = None if alpha is None else rng.standard_normal(plan.shape)
    x, y = gw.DenseSpace(C, a), gw.DenseSpace(D, b)
    problem = FreeProblem(x, y, gw.Partial(mass), M, alpha)
    for whole in (
        gw.DensePlan(plan),
        gw.SparsePlan(*plan.nonzero(), plan[plan > 0], plan.shape),
    ):
        part = part_of(problem, whole).dense()
        assert free_plans.plan_error(part, a, b, problem.marginals) <= 1e-12
        assert (part <= plan + 1e-15).all()
        scale = mass / plan.sum()
        scaled = scale**2 * checkers.objective(C, D, plan)
        found = checkers.objective(C, D, part)
        if alpha is not None:
            scaled = alpha * scaled + (1 - alpha) * scale * (plan * M).sum()
            found = alpha * found + (1 - alpha) * (part * M).sum()
        assert found <= scaled + 1e-11


def test_a_part_of_a_larger_plan_is_found_where_small_masses_mislead():
    """Two photographs of stars; a third of the mass is on both, with small errors."""
    rng = np.random.default_rng(1)
    stars = np.random.default_rng(0).standard_normal((70, 2))
    turn, _ = np.linalg.qr(rng.standard_normal((2, 2)))
    left = stars[:50] + 0.02 * rng.standard_normal((50, 2))
    right = (stars[20:] + 0.02 * rng.standard_normal((50, 2))) @ turn
    x, y = gw.PointCloud(left), gw.PointCloud(right)
    result = gw.solve(x, y, marginals=gw.Partial(0.3))
    own = np.asarray(result.plan)[np.arange(20, 50), np.arange(30)]
    assert own.sum() == pytest.approx(0.3, abs=1e-12)
    assert checkers.objective(x.dense(), y.dense(), np.asarray(result.plan)) < 3e-5
    assert result.starts.best.name.startswith("part of a plan of mass")


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("numpy", "float64"), ("torch", "float32"), ("array_api_strict", "float64")],
)
def test_a_part_leaves_out_the_pair_that_does_not_fit(name, dtype):
    """Three points of which two are as far apart as their partners are."""
    library = Library(name, dtype)
    with library.active():
        x, y = (
            gw.PointCloud(library.array(np.array(p)[:, None]))
            for p in ([0.0, 1.0, 2.0], [0.0, 1.0, 9.0])
        )
        whole = gw.DensePlan(library.array(np.eye(3) / 3))
        part = part_of(FreeProblem(x, y, gw.Partial(0.5)), whole)
        wanted = np.diag([1 / 3, 1 / 6, 0.0])
        assert np.asarray(part) == pytest.approx(wanted, abs=library.rtol)
        assert str(np.asarray(part).dtype) == library.dtype
