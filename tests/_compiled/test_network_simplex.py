"""The network simplex on small programs: optimal, and strongly feasible."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gwtools._compiled import compilation
from gwtools._compiled.network_simplex import (
    Arcs,
    _least_difference,
    _place,
    empty_tree,
    optimum,
    pivoted,
    pivoted_on_arcs,
    plant,
    settled,
)
from tests import checkers
from tests.strategies import values, vertex, weights

numba_alone = pytest.mark.skipif(
    not compilation.available(), reason="numba, the extra fast, is not installed"
)


def on_all_arcs(tree, cost, least, allowed, most):
    """Pivots on the list of all arcs, of which the least of each row is read off."""
    n, m = cost.shape
    rows, cols = np.divmod(np.arange(n * m), m)
    arcs = Arcs(rows.astype(np.int32), cols.astype(np.int32), cost.ravel())
    pivots = pivoted_on_arcs(tree, arcs, n, allowed, most)
    least[:] = (cost - tree.potentials[n:-1]).min(axis=1) - tree.potentials[:n]
    return pivots


PIVOTS = {"rows in turn": pivoted, "listed arcs": on_all_arcs}


@st.composite
def planted(draw):
    """A program and a tree of a vertex."""
    n, m = draw(st.integers(1, 7)), draw(st.integers(1, 20))
    cost, a, b = draw(values((n, m), False)), draw(weights(n)), draw(weights(m))
    plan = vertex(a, b, np.arange(n), np.arange(m))
    rows, cols = np.nonzero(plan)
    tree = empty_tree(n, m, draw(values((n,), False)))
    plant(tree, n, rows, cols, cost[rows, cols], plan[rows, cols])
    return cost, a, b, tree


def plan_of(tree, n, m):
    """The masses of the arcs but those to the root."""
    plan = np.zeros((n, m))
    for q in range(n + m):
        low, high = sorted((q, int(tree.parents[q])))
        if high < n + m:
            plan[low, high - n] += tree.flows[q]
    return plan


def assert_is_a_tree(tree, cost):
    """Every node hangs on its parent by an arc between both, of reduced cost 0."""
    n, m = cost.shape
    root = n + m
    assert tree.parents[root] == -1
    for q in range(root):
        parent = tree.parents[q]
        assert tree.depths[q] == tree.depths[parent] + 1
        if parent == root:
            assert q < n
            assert tree.potentials[q] == tree.costs[q]
            continue
        row, col = min(q, parent), max(q, parent)
        assert row < n <= col
        reduced = cost[row, col - n] - tree.potentials[q] - tree.potentials[parent]
        assert abs(reduced) <= 1e-12 * (1 + abs(tree.potentials).max())


@pytest.mark.parametrize("rule", PIVOTS)
@given(instance=planted())
def test_pivots_end_at_the_optimum(rule, instance):
    cost, a, b, tree = instance
    n, m = cost.shape
    assert_is_a_tree(tree, cost)
    assert checkers.coupling_error(plan_of(tree, n, m), a, b) <= 1e-14
    scale = max(1.0, np.abs(cost).max(), np.abs(tree.costs).max())
    least = np.full(n, np.nan)
    assert PIVOTS[rule](tree, cost, least, 1e-14 * scale, 10_000) < 10_000
    assert_is_a_tree(tree, cost)
    # The least reduced cost of each row is that at the last potentials.
    u, v = tree.potentials[:n], tree.potentials[n:-1]
    assert np.array_equal(least, (cost - v).min(axis=1) - u)
    assert least.min() >= -1e-14 * scale
    plan = plan_of(tree, n, m)
    assert checkers.coupling_error(plan, a, b) <= 1e-13
    optimum = checkers.linear_program(cost, a, b)
    assert float((plan * cost).sum()) == pytest.approx(optimum, abs=1e-9 * scale)
    # The same masses from what hangs below each arc, and those above a least one.
    least = float(np.median(tree.flows))
    rows, cols, masses = settled(tree, a, b, least)
    settled_plan = plan_of(tree, n, m)
    assert np.abs(settled_plan - plan).max() <= 1e-13
    listed = np.zeros((n, m))
    listed[rows, cols] = masses
    assert np.array_equal(listed, np.where(settled_plan > least, settled_plan, 0.0))


@pytest.mark.parametrize("rule", PIVOTS)
@given(n=st.integers(2, 8), seed=st.integers(0, 999))
def test_arcs_without_mass_go_up(rule, n, seed):
    """Between equal weights most arcs of a tree are empty: columns hang on full ones.

    Costs of few values make many ties, on which pivots must not go round for ever.
    """
    rng = np.random.default_rng(seed)
    cost = rng.integers(0, 3, (n, n)).astype(float)
    tree = empty_tree(n, n, np.zeros(n))
    rows, cols = np.arange(n), rng.permutation(n)
    plant(tree, n, rows, cols, cost[rows, cols], np.ones(n))
    pivots = PIVOTS[rule]
    for _ in range(10 * n * n):
        assert tree.flows[n : 2 * n].min() > 0.0
        if pivots(tree, cost, np.empty(n), 1e-14, 1) == 0:
            break
    else:
        raise AssertionError("pivots came to no end")
    least = checkers.linear_program(cost, np.full(n, 1 / n), np.full(n, 1 / n))
    assert float((plan_of(tree, n, n) * cost).sum()) == pytest.approx(n * least)


@settings(max_examples=30)
@given(instance=planted(), seed=st.integers(0, 999))
def test_one_call_makes_the_same_pivots(instance, seed):
    cost, a, b, tree = instance
    n, m = cost.shape
    plan = plan_of(tree, n, m)
    rows, cols = np.nonzero(plan)
    given = tree.costs[:n].copy()
    of_row = tree.parents[:n] == n + m
    given[~of_row] = np.random.default_rng(seed).standard_normal(np.sum(~of_row))
    largest = float(np.abs(cost).max())
    arcs = (rows, cols, plan[rows, cols])
    arguments = (cost, (a, b), arcs, given, largest, 0.0)
    pivots, potentials, least, carrying = optimum(*arguments, 10_000)
    tree = empty_tree(n, m, given)
    plant(tree, n, rows, cols, cost[rows, cols], arcs[-1])
    size = max(largest, np.abs(tree.potentials).max())
    expected = np.empty(n)
    assert pivoted(tree, cost, expected, 1e-14 * size, 10_000) == pivots
    assert np.array_equal(potentials, tree.potentials)
    assert np.array_equal(least, expected)
    for found, wanted in zip(carrying, settled(tree, a, b, 0.0), strict=True):
        assert np.array_equal(found, wanted)
    if pivots > 0:
        assert optimum(*arguments, 0)[0] == 0


@pytest.mark.parametrize("size", [1, 15, 16, 17, 47, 64])
@pytest.mark.parametrize(
    ("least_difference", "place"),
    [
        pytest.param(_least_difference, _place, marks=numba_alone, id="compiled"),
        pytest.param(
            _least_difference.__wrapped__, _place.__wrapped__, id="not compiled"
        ),
    ],
)
def test_the_least_arc_of_a_row(least_difference, place, size, rng):
    """Numbers that are none are passed over."""
    minima = np.empty(16)
    for col in range(size):
        row, v = rng.random(size), rng.random(size)
        row[col] -= 2.0
        assert least_difference(row, v, minima) == row[col] - v[col]
        assert place(row, v, row[col] - v[col]) == col
    row[:] = np.nan
    assert least_difference(row, v, minima) == np.inf
    assert place(row, v, np.inf) == -1
