"""Programs by compiled pivots: any start, any potentials, ties, weights."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from gwtools import _compiled
from gwtools.transport import programs, simplex
from tests import checkers
from tests.strategies import values, vertex, weights


def sparse(plan):
    rows, cols = np.nonzero(plan)
    return gw.SparsePlan(rows, cols, plan[rows, cols], plan.shape)


def assert_solves(found, cost, a, b, scale):
    plan, u, v, lower = found
    least = checkers.linear_program(cost, a, b)
    assert checkers.coupling_error(plan.dense(), a, b) <= 1e-13
    assert len(plan.mass) <= len(a) + len(b) - 1
    assert float(plan.inner(cost)) == pytest.approx(least, abs=1e-9 * scale)
    assert least - 1e-9 * scale <= lower <= least + 1e-12 * scale
    assert (cost - u[:, None] - v).min() >= -1e-12 * scale


@st.composite
def instances(draw):
    n, m = draw(st.integers(2, 12)), draw(st.integers(2, 12))
    cost = draw(values((n, m), False))
    if draw(st.booleans()):  # few values, many ties
        cost = np.rint(cost)
    a, b = draw(weights(n)), draw(weights(m))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    start = vertex(a, b, rng.permutation(n), rng.permutation(m))
    size = draw(st.sampled_from([0.0, 1.0, 1e6]))
    return cost, a, b, start, size * rng.standard_normal(n)


@given(instances())
def test_pivots_solve_the_program(instance):
    cost, a, b, start, u = instance
    found = simplex.minimised(cost, a, b, sparse(start), (u, None))
    assert_solves(found, cost, a, b, max(1.0, np.abs(cost).max()))


@settings(max_examples=40)
@given(instances(), st.floats(0.0, 1.0))
def test_a_start_may_have_cycles(instance, share):
    """Exchanges of parts of atoms, and mixtures, leave the vertices."""
    cost, a, b, start, u = instance
    places = np.arange(len(a)), np.arange(len(b))
    mixed = share * vertex(a, b, *places) + (1 - share) * start
    found = simplex.minimised(cost, a, b, sparse(mixed), (u, None))
    assert_solves(found, cost, a, b, max(1.0, np.abs(cost).max()))


@given(instances())
def test_costs_in_single_precision_are_solved_in_double(instance):
    """The answer is that of the rounded costs, up to the same float error."""
    cost, a, b, start, u = instance
    rounded = cost.astype(np.float32)
    found = simplex.minimised(rounded, a, b, sparse(start), (u, None))
    assert_solves(found, rounded.astype(float), a, b, max(1.0, np.abs(cost).max()))


@pytest.mark.parametrize(("n", "m"), [(12, 12), (12, 8), (7, 9)])
def test_equal_weights_have_no_float_error(n, m, rng):
    """Masses are multiples of that of the least common cell."""
    a, b = np.full(n, 1 / n), np.full(m, 1 / m)
    cost = rng.integers(0, 4, (n, m)).astype(float)
    start = vertex(a, b, rng.permutation(n), rng.permutation(m))
    found = simplex.minimised(cost, a, b, sparse(start), None)
    assert_solves(found, cost, a, b, 4.0)
    cells = found[0].mass * (n * m / np.gcd(n, m))
    assert np.abs(cells - np.rint(cells)).max() <= 1e-14 * n
    if n == m:
        assert np.array_equal(found[0].mass, a)


def test_a_start_that_fits_other_weights_is_not_used(rng):
    n, m = 9, 11
    cost = rng.standard_normal((n, m))
    a, b = rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m))
    places = np.arange(n)
    start = gw.SparsePlan(places, places, np.full(n, 1 / n), (n, m))
    found = simplex.minimised(cost, a, b, start, None)
    assert_solves(found, cost, a, b, 4.0)


def test_a_start_in_the_order_of_the_atoms_has_no_empty_arcs():
    """Where quantile cells of both lists of weights end together, one is empty."""
    a, b = np.array([0.5, 0.5]), np.array([0.25, 0.25, 0.5])
    other = gw.SparsePlan(np.array([0, 1, 1]), np.arange(3), np.full(3, 1 / 3), (2, 3))
    rows, cols, masses = simplex.started(simplex.Units.of(a, b), other)
    assert np.array_equal(rows, [0, 0, 1])
    assert np.array_equal(cols, [0, 1, 2])
    assert np.array_equal(masses, b)


def test_pivots_that_come_to_no_end_leave_the_program_to_POT(monkeypatch, rng):
    cost, w = rng.standard_normal((301, 301)), np.full(301, 1 / 301)
    places = np.arange(301)
    start = gw.SparsePlan(places, places, w, (301, 301))
    expected = programs.exact(cost, w, w, start)
    monkeypatch.setattr(_compiled, "available", lambda: True)
    monkeypatch.setattr(programs, "minimised", lambda *arguments: None)
    found = programs.exact(cost, w, w, start)
    assert found.lower == pytest.approx(expected.lower, abs=1e-12)
    assert np.array_equal(found.plan.dense(), expected.plan.dense())
    monkeypatch.setattr(simplex, "_PIVOTS_PER_NODE", 0)
    assert simplex.minimised(cost, w, w, start, None) is None


@pytest.mark.parametrize(("n", "m"), [(10, 10), (10, 4)])
def test_slivers_of_equal_weights_are_told_from_masses(n, m):
    a, b = np.full(n, 1 / n), np.full(m, 1 / m)
    units = simplex.Units.of(a, b)
    masses = np.array([1.0, 2.0, 0.0]) * units.unit + [1e-16, -2e-16, 1e-16]
    kept, settled = units.fitted(masses).settled(masses, np.full(3, 1 / n))
    assert kept.tolist() == [True, True, False]
    assert np.array_equal(settled, units.unit * np.array([1.0, 2.0]))


def test_parts_of_units_and_small_atoms_stay():
    """Plans need no vertices: of theirs, and of unequal weights, only slivers go."""
    equal = np.full(10, 0.1)
    parts = np.array([0.05, 0.025, 1e-16])
    units = simplex.Units.of(equal, equal).fitted(parts)
    kept, settled = units.settled(parts, np.full(3, 0.1))
    assert kept.tolist() == [True, True, False]
    assert np.array_equal(settled, parts[:2])
    small = np.array([1e-16, 0.3, 0.7 - 1e-16])
    units = simplex.Units.of(small, small).fitted(small)
    kept, settled = units.settled(small, small)
    assert kept.all()
    assert np.array_equal(settled, small)
