"""Theorem 18: linear programs over plans with free marginals, against HiGHS."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from gwtools.free_problems import FreeProblem
from gwtools.solvers.free_vertices import steepest_vertex
from tests import free_plans


@pytest.mark.parametrize(
    "marginals", ["semi_relaxed", gw.Partial(0.3), gw.Partial(0.999999)], ids=str
)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), sign=st.sampled_from([-1.0, 0.0, 1.0]))
def test_theorem_22_vertices(marginals, seed, sign):
    """The least cost, also where all costs are of one sign."""
    C, a, D, b, rng = free_plans.drawn(seed)
    problem = FreeProblem(gw.DenseSpace(C, a), gw.DenseSpace(D, b), marginals)
    costs = rng.standard_normal((len(a), len(b)))
    if sign:
        costs = sign * np.abs(costs)
    vertex = steepest_vertex(problem, costs)
    plan = vertex.plan.dense()
    assert free_plans.plan_error(plan, a, b, marginals) <= 1e-12
    value = float((plan * costs).sum())
    least = free_plans.least_cost(costs, a, b, marginals)
    assert value == pytest.approx(least, abs=1e-9)
    assert vertex.lower <= value + 1e-12
    assert vertex.lower == pytest.approx(least, abs=1e-9)
    again = steepest_vertex(problem, costs, vertex.program)
    assert np.allclose(again.plan.dense(), plan, atol=1e-12)


def test_equal_costs_send_mass_to_the_first_atom():
    x, y = gw.as_space(1 - np.eye(3)), gw.as_space(1 - np.eye(4))
    problem = FreeProblem(x, y, "semi_relaxed")
    vertex = steepest_vertex(problem, np.zeros((3, 4)))
    assert np.array_equal(vertex.plan.cols, [0, 0, 0])


@pytest.mark.parametrize("cost", [-2.0, 0.0, 3.0])
def test_equal_costs_leave_the_mass_as_it_is_asked_for(cost):
    C, a, D, b, _ = free_plans.drawn(0)
    marginals = gw.Partial(0.4)
    problem = FreeProblem(gw.DenseSpace(C, a), gw.DenseSpace(D, b), marginals)
    vertex = steepest_vertex(problem, np.full((len(a), len(b)), cost))
    plan = vertex.plan.dense()
    assert free_plans.plan_error(plan, a, b, marginals) <= 1e-12
    assert vertex.lower == pytest.approx(0.4 * cost)
