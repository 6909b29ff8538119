"""What an effort costs and leaves out, and what a budget buys."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

import gwtools as gw
from gwtools.bounds import (
    branching,
    certified,
    certified_level_one,
    level_one,
    nested_programs,
)
from gwtools.certify import efforts
from tests import checkers
from tests.strategies import coupled, known


def clouds(n=8, m=7, dimension=3):
    rng = np.random.default_rng(5)
    x = gw.PointCloud(rng.standard_normal((n, 2)), rng.dirichlet(np.ones(n)))
    y = gw.PointCloud(rng.standard_normal((m, dimension)), rng.dirichlet(np.ones(m)))
    return x, y


@settings(max_examples=60)
@given(coupled(null=True))
def test_theorem_15_quartic_certificates_are_below_every_coupling(instance):
    x, y, plan = instance
    certificate = gw.certify(x.space(), y.space(), plan, effort="quartic")
    cubic = gw.certify(x.space(), y.space(), plan, effort="cubic")
    assert cubic.lower <= certificate.lower <= certificate.upper
    assert certificate.lower <= checkers.objective(x.matrix, y.matrix, plan)


@settings(max_examples=60)
@given(known())
def test_theorem_15_quartic_certificates_are_below_known_answers(known):
    certificate = gw.certify(known.x.space(), known.y.space(), effort="quartic")
    assert certificate.lower <= known.value * (1 + 1e-12)


def test_every_bound_says_what_it_cost():
    x, y = clouds()
    plan = gw.solve(x, y).plan
    certificate = gw.certify(x, y, plan, effort="quartic")
    linear = {"row_means", "norm"}
    assert set(certificate.seconds) == set(certificate.bounds) - linear | {"linear"}
    assert all(seconds >= 0 for seconds in certificate.seconds.values())
    assert certificate.left_out == {}


def test_certificates_are_the_same_bit_for_bit():
    x, y = clouds()
    plan = gw.solve(x, y).plan
    first, second = (gw.certify(x, y, plan, effort="quartic") for _ in range(2))
    assert first == second


def test_searches_that_do_not_fit_are_left_out_with_the_reason():
    x, y = clouds()
    certificate = gw.certify(x, y, effort="quartic", memory_limit=60_000)
    assert "reformulation" not in certificate.bounds
    assert "GB do not fit memory" in certificate.left_out["reformulation"]


def test_large_searches_ask_for_a_budget(monkeypatch):
    monkeypatch.setattr(efforts, "_MOST_PAIRS", 50)
    x, y = clouds()
    certificate = gw.certify(x, y, effort="quartic")
    assert "pass a budget in seconds" in certificate.left_out["reformulation"]
    certificate = gw.certify(x, y, budget=0.5)
    assert "reformulation" in certificate.bounds


def test_closed_intervals_are_not_searched():
    x, _ = clouds()
    certificate = gw.certify(x, x, np.diag(x.weights), effort="quartic")
    assert certificate.kind is gw.Kind.GLOBAL
    assert "reformulation" not in certificate.bounds


def test_a_budget_is_for_quartic_alone():
    x, y = clouds()
    with pytest.raises(ValueError, match='pass effort="quartic", which spends it'):
        gw.certify(x, y, effort="cubic", budget=1.0)
    with pytest.raises(ValueError, match="budget must be a finite number greater"):
        gw.certify(x, y, budget=0.0)


def test_a_budget_that_is_over_still_proves_an_interval():
    x, y = clouds()
    certificate = gw.certify(x, y, budget=1e-9)
    assert 0 < certificate.lower <= certificate.upper
    # No search is begun.
    spent = "the budget was spent"
    assert certificate.left_out == {"reformulation": spent, "semidefinite": spent}


def test_budgets_end_exact_inner_programs(monkeypatch):
    x, y = clouds()
    clock = iter(range(10**6))
    monkeypatch.setattr(nested_programs, "now", lambda: float(next(clock)))
    parts = [certified.enclosed_parts(space) for space in (x, y)]
    multipliers = level_one.residual_third_multipliers(*(p.parts for p in parts))
    solved = []
    for deadline in (-1.0, 5.0, math.inf):
        bound, nested = certified_level_one.reformulation(*parts, multipliers, deadline)
        solved.append(len(nested.inner))
        assert 0 < bound.lower <= gw.solve(x, y).objective
    assert solved[0] == 0 < solved[1] < solved[2]


def test_an_interrupted_search_keeps_what_was_found(monkeypatch):
    x, y = clouds()
    whole = gw.certify(x, y, effort="quartic")
    calls = []
    step = level_one.Search.step

    def interrupted(self):
        calls.append(None)
        if len(calls) > 60:
            raise KeyboardInterrupt
        step(self)

    monkeypatch.setattr(level_one.Search, "step", interrupted)
    certificate = gw.certify(x, y, effort="quartic")
    assert len(calls) == 61
    cubic = gw.certify(x, y, effort="cubic")
    assert cubic.lower < certificate.lower <= whole.lower


def plane(n=9, m=8):
    rng = np.random.default_rng(6)
    x = gw.PointCloud(
        rng.standard_normal((n, 2)), rng.dirichlet(np.ones(n)), metric="sqeuclidean"
    )
    y = gw.PointCloud(
        rng.standard_normal((m, 2)), rng.dirichlet(np.ones(m)), metric="sqeuclidean"
    )
    return x, y


def test_theorem_17_closes_few_coordinates():
    x, y = plane()
    plan = gw.solve(x, y).plan
    certificate = gw.certify(x, y, plan, effort="quartic", keep_proof=True)
    assert certificate.bound == "branch_and_bound"
    assert certificate.gap <= 2e-6 * certificate.upper
    assert certificate.left_out["reformulation"].startswith("branch_and_bound proves")
    assert certificate.verify(x, y).agrees
    best = gw.solve(x, y, gw.BranchAndBound())
    assert certificate.lower <= float(best.objective)


def test_without_a_plan_the_upper_end_is_that_of_the_tree():
    x, y = plane()
    best = gw.solve(x, y, gw.BranchAndBound())
    certificate = gw.certify(x, y, effort="quartic")
    assert float(best.objective) <= certificate.upper * (1 + 1e-12)
    assert certificate.gap <= 2e-6 * certificate.upper
    assert certificate.kind is gw.Kind.LOWER
    # Given a plan, the upper end is the plan's.
    product = np.outer(x.weights, y.weights)
    assert gw.certify(x, y, product, effort="quartic").upper > 1.1 * certificate.upper


@pytest.mark.parametrize("at", [1, 5])
def test_an_interrupted_tree_closes_nothing(at, monkeypatch):
    x, y = plane()
    original = branching.Search._program
    count = itertools.count(1)

    def interrupted(self, slope):
        if next(count) == at:
            raise KeyboardInterrupt
        return original(self, slope)

    monkeypatch.setattr(branching.Search, "_program", interrupted)
    certificate = gw.certify(x, y, effort="quartic")
    assert "branch_and_bound" in certificate.bounds
    assert certificate.left_out == {}
    assert certificate.bound == "reformulation"


def test_trees_are_left_to_few_coordinates():
    x, y = plane()
    more = gw.PointCloud(np.random.default_rng(7).standard_normal((8, 3)), None)
    squared = gw.PointCloud(more.points, metric="sqeuclidean")
    assert "branch_and_bound" not in gw.certify(x, squared, effort="quartic").bounds
    assert "branch_and_bound" not in gw.certify(more, more, effort="quartic").bounds
    gram = gw.GramSpace(y.points.T)
    assert "branch_and_bound" not in gw.certify(x, gram, effort="quartic").bounds
    other = gw.GramSpace(x.points.T)
    assert "branch_and_bound" in gw.certify(other, gram, effort="quartic").bounds


def test_theorem_16_needs_a_budget():
    x, y = clouds()
    assert "semidefinite" not in gw.certify(x, y, effort="quartic").bounds
    certificate = gw.certify(x, y, gw.solve(x, y).plan, budget=1.0, keep_proof=True)
    assert "semidefinite" in certificate.bounds
    # Its proof is repeated whether it is the best bound or not.
    lower = certificate.bounds["semidefinite"]
    alone = replace(
        certificate, lower=lower, bounds={"semidefinite": lower}, bound="semidefinite"
    )
    again = alone.verify(x, y)
    assert again.bound == "semidefinite"
    assert again.lower == pytest.approx(lower, rel=1e-9)
    assert again.agrees
    more = replace(alone, bounds={"semidefinite": 1.001 * lower})
    assert not more.verify(x, y).agrees


def test_moment_matrices_of_many_pairs_are_left_out(monkeypatch):
    monkeypatch.setattr(efforts, "_MOST_MOMENT_PAIRS", 50)
    x, y = clouds()
    certificate = gw.certify(x, y, budget=0.5)
    assert certificate.left_out["semidefinite"] == "more than 50 pairs of atoms"


def test_trees_of_many_pairs_ask_for_a_budget_and_of_more_coordinates_say_so(
    monkeypatch,
):
    x, y = plane()
    monkeypatch.setattr(efforts, "_MOST_PAIRS", 50)
    certificate = gw.certify(x, y, effort="quartic")
    assert "pass a budget" in certificate.left_out["branch_and_bound"]
    assert gw.certify(x, y, budget=5.0).bound == "branch_and_bound"
    space = gw.PointCloud(
        np.random.default_rng(8).standard_normal((7, 3)), metric="sqeuclidean"
    )
    certificate = gw.certify(x, space, budget=0.5)
    reason = "the dimensions have a product above 4"
    assert certificate.left_out["branch_and_bound"] == reason


def test_moment_matrices_that_do_not_fit_are_left_out():
    x, y = clouds()
    limit = 8 * efforts.numbers_held(8, 7) + 1000
    certificate = gw.certify(x, y, budget=0.5, memory_limit=limit)
    assert "reformulation" in certificate.bounds
    assert "GB do not fit memory" in certificate.left_out["semidefinite"]


def test_theorem_15_deadlines_leave_inner_programs_unsolved():
    x, y = clouds()
    parts = [certified.enclosed_parts(space) for space in (x, y)]
    found = level_one.best_multipliers(parts[0].parts, parts[1].parts, 5.0, 100)
    whole, _ = certified_level_one.reformulation(*parts, found)
    late, nested = certified_level_one.reformulation(*parts, found, -np.inf)
    assert nested.inner == {}
    assert 0 < late.lower < whole.lower
