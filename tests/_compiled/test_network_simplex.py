"""The network simplex on small programs: optimal, and strongly feasible."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwtools._compiled import compilation
from gwtools._compiled.network_simplex import (
    _least_difference,
    _place,
    empty_tree,
    pivoted,
    plant,
    settle,
)
from tests import checkers
from tests.strategies import values, vertex, weights

numba_alone = pytest.mark.skipif(
    not compilation.available(), reason="numba, the extra fast, is not installed"
)


@st.composite
def planted(draw):
    """A program and a tree of a vertex."""
    n, m = draw(st.integers(1, 7)), draw(st.integers(1, 20))
    cost, a, b = draw(values((n, m), False)), draw(weights(n)), draw(weights(m))
    plan = vertex(a, b, np.arange(n), np.arange(m))
    rows, cols = np.nonzero(plan)
    tree = empty_tree(n, m, draw(values((n,), False)))
    plant(tree, cost, rows, cols, plan[rows, cols])
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
            assert tree.potentials[q] == tree.given[q]
            continue
        row, col = min(q, parent), max(q, parent)
        assert row < n <= col
        reduced = cost[row, col - n] - tree.potentials[q] - tree.potentials[parent]
        assert abs(reduced) <= 1e-12 * (1 + abs(tree.potentials).max())


@given(planted())
def test_pivots_end_at_the_optimum(instance):
    cost, a, b, tree = instance
    n, m = cost.shape
    assert_is_a_tree(tree, cost)
    assert checkers.coupling_error(plan_of(tree, n, m), a, b) <= 1e-14
    scale = max(1.0, np.abs(cost).max(), np.abs(tree.given).max())
    least = np.full(n, np.nan)
    assert pivoted(tree, cost, least, 1e-14 * scale, 10_000) < 10_000
    assert_is_a_tree(tree, cost)
    # The least reduced cost of each row is that at the last potentials.
    u, v = tree.potentials[:n], tree.potentials[n:-1]
    assert np.array_equal(least, (cost - v).min(axis=1) - u)
    assert least.min() >= -1e-14 * scale
    plan = plan_of(tree, n, m)
    assert checkers.coupling_error(plan, a, b) <= 1e-13
    optimum = checkers.linear_program(cost, a, b)
    assert float((plan * cost).sum()) == pytest.approx(optimum, abs=1e-9 * scale)
    # The same masses from what hangs below each arc.
    supplies = np.concatenate([a, -b, np.zeros(1)])
    settle(tree, supplies, np.argsort(-tree.depths, kind="stable"), n)
    assert np.abs(plan_of(tree, n, m) - plan).max() <= 1e-13


@given(st.integers(2, 8), st.integers(0, 999))
def test_arcs_without_mass_go_up(n, seed):
    """Between equal weights most arcs of a tree are empty: columns hang on full ones.

    Costs of few values make many ties, on which pivots must not go round for ever.
    """
    rng = np.random.default_rng(seed)
    cost = rng.integers(0, 3, (n, n)).astype(float)
    tree = empty_tree(n, n, np.zeros(n))
    plant(tree, cost, np.arange(n), rng.permutation(n), np.ones(n))
    reduced = np.empty(n)
    for _ in range(10 * n * n):
        assert tree.flows[n : 2 * n].min() > 0.0
        if pivoted(tree, cost, reduced, 1e-14, 1) == 0:
            break
    else:
        raise AssertionError("pivots came to no end")
    least = checkers.linear_program(cost, np.full(n, 1 / n), np.full(n, 1 / n))
    assert float((plan_of(tree, n, n) * cost).sum()) == pytest.approx(n * least)


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
