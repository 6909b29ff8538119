"""Pivots that go on from a coupling: the programs of the matrix of costs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gwtools import _compiled
from gwtools.plans import SparsePlan
from gwtools.transport import lifted, lifted_pivots
from gwtools.transport.lifted import LiftedCosts, priced_plan
from gwtools.transport.lifted_pivots import continued_program
from gwtools.transport.one_dimensional import sorting_plan
from tests import checkers
from tests.strategies import couplings, values, weights


@pytest.fixture(autouse=True)
def on_few_arcs(monkeypatch):
    """Price few arcs at a time."""
    monkeypatch.setattr(lifted, "DENSE_ENTRIES", 0)
    monkeypatch.setattr(lifted, "_CELL", 2)
    monkeypatch.setattr(lifted, "_OF_ROWS", 2)
    monkeypatch.setattr(lifted, "_OF_COLUMNS", 1)


def listed(matrix):
    rows, cols = np.nonzero(matrix)
    return SparsePlan(rows, cols, matrix[rows, cols], matrix.shape)


@st.composite
def started(draw):
    """Points, also equal ones, their weights and any coupling, circles included."""
    q = draw(st.integers(1, 3))
    n, m = draw(st.integers(2, 9)), draw(st.integers(2, 9))
    u, v = draw(values((n, q), False)), draw(values((m, q), False))
    a, b = draw(weights(n)), draw(weights(m))
    return u, v, a, b, draw(couplings(a, b))


def check(u, v, a, b, found):
    cost = -(u @ v.T)
    scale = max(1.0, np.abs(cost).max())
    plan = found.plan.dense()
    least = checkers.linear_program(cost, a, b)
    assert checkers.coupling_error(plan, a, b) <= 1e-12
    assert (plan * cost).sum() == pytest.approx(least, abs=1e-9 * scale)
    assert found.lower == pytest.approx(least, abs=1e-9 * scale)
    f, g = found.potentials
    assert (cost - f[:, None] - g).min() >= -1e-12 * scale
    assert len(found.plan.mass) <= len(a) + len(b) - 1


@settings(max_examples=30)
@given(started())
def test_programs_are_those_of_the_matrix(drawn):
    u, v, a, b, plan = drawn
    check(u, v, a, b, continued_program(LiftedCosts(u, v), a, b, listed(plan)))


@pytest.mark.parametrize(("n", "m"), [(90, 90), (70, 110)])
@pytest.mark.parametrize("equal", [True, False])
def test_large_programs_are_those_of_the_matrix(n, m, equal, rng):
    u, v = rng.standard_normal((n, 3)) * [3, 1, 1], rng.gamma(2.0, 1.0, (m, 3))
    a, b = rng.dirichlet(np.full(n, 2.0)), rng.dirichlet(np.full(m, 2.0))
    if equal:
        a, b = np.full(n, 1 / n), np.full(m, 1 / m)
    start = sorting_plan(u[:, 0], a, v[:, 0], b)
    costs = LiftedCosts(u, v)
    found = continued_program(costs, a, b, start)
    check(u, v, a, b, found)
    # From the solution and its potentials.
    check(u, v, a, b, continued_program(costs, a, b, found.plan, found.potentials))


@pytest.mark.skipif(not _compiled.available(), reason="kernels need numba")
def test_early_ends_leave_a_share_of_what_is_gained(rng):
    u, v = rng.standard_normal((150, 3)), rng.gamma(2.0, 1.0, (120, 3))
    a, b = rng.dirichlet(np.ones(150)), rng.dirichlet(np.ones(120))
    costs, cost = LiftedCosts(u, v), -(u @ v.T)
    start = sorting_plan(u[:, 0], a, v[:, 0], b)
    found = continued_program(costs, a, b, start, share=0.5)
    value = (found.plan.dense() * cost).sum()
    before = (start.dense() * cost).sum()
    assert checkers.coupling_error(found.plan.dense(), a, b) <= 1e-12
    assert found.lower <= checkers.linear_program(cost, a, b) + 1e-12
    assert value - found.lower <= 0.5 * (before - found.lower)


def test_forests_have_no_circles_and_cost_no_more(rng):
    """A coupling of all with all has many of them."""
    u, v = rng.standard_normal((6, 2)), rng.standard_normal((5, 2))
    a, b = rng.dirichlet(np.ones(6)), rng.dirichlet(np.ones(5))
    costs, cost = LiftedCosts(u, v), -(u @ v.T)
    found = lifted_pivots.forest(costs, a, b, listed(np.outer(a, b)))
    assert len(found.mass) <= 10
    assert checkers.coupling_error(found.dense(), a, b) <= 1e-14
    assert (found.dense() * cost).sum() <= (np.outer(a, b) * cost).sum()
    assert lifted_pivots.forest(costs, a, b, found) is found


@pytest.mark.parametrize("limit", ["_PIVOTS_PER_POINT", "MOST_ROUNDS"])
def test_pivots_without_an_end_are_given_up(limit, rng, monkeypatch):
    monkeypatch.setattr(lifted_pivots, limit, 0)
    a = np.full(20, 1 / 20)
    costs = LiftedCosts(rng.standard_normal((20, 2)), rng.standard_normal((20, 2)))
    start = sorting_plan(costs.u[:, 0], a, costs.v[:, 0], a)
    assert continued_program(costs, a, a, start) is None


@settings(max_examples=40)
@given(started())
def test_theorem_12_prices_prove_a_value_below_every_coupling(drawn):
    u, v, a, b, plan = drawn
    start = listed(plan)
    found = priced_plan(LiftedCosts(u, v), a, b, start)
    cost = -(u @ v.T)
    scale = max(1.0, np.abs(cost).max())
    assert found.plan is start
    assert found.lower <= checkers.linear_program(cost, a, b) + 1e-12 * scale
    f, g = found.potentials
    assert (cost - f[:, None] - g).min() >= -1e-12 * scale
