"""The network simplex on all arcs of small programs: optimal, and strongly feasible."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwtools._compiled.network_simplex import Arcs, empty_tree, pivoted, plant, settle
from tests import checkers
from tests.strategies import values, vertex, weights


@st.composite
def planted(draw):
    """A program, all its arcs behind those of a vertex, and a tree of that vertex."""
    n, m = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    cost, a, b = draw(values((n, m), False)), draw(weights(n)), draw(weights(m))
    plan = vertex(a, b, np.arange(n), np.arange(m))
    rows, cols = np.nonzero(plan)
    masses = plan[rows, cols]
    all_rows, all_cols = np.divmod(np.arange(n * m), m)
    rows, cols = np.concatenate([rows, all_rows]), np.concatenate([cols, all_cols])
    arcs = Arcs(rows.astype(np.int32), cols.astype(np.int32), cost[rows, cols])
    tree = empty_tree(n, m, draw(values((n,), False)))
    plant(tree, arcs, masses, n)
    return cost, a, b, arcs, tree


def plan_of(tree, arcs, n, m):
    plan = np.zeros((n, m))
    for flow, arc in zip(tree.flows, tree.arcs, strict=True):
        if arc >= 0:
            plan[arcs.rows[arc], arcs.cols[arc]] += flow
    return plan


def assert_is_a_tree(tree, arcs, n):
    """Every node hangs on its parent by an arc between both, of reduced cost 0."""
    root = len(tree.parents) - 1
    assert tree.parents[root] == -1
    for q in range(root):
        parent, arc = tree.parents[q], tree.arcs[q]
        assert tree.depths[q] == tree.depths[parent] + 1
        if parent == root:
            assert q < n
            assert arc == -1
            assert tree.potentials[q] == tree.given[q]
            continue
        assert {q, parent} == {arcs.rows[arc], n + arcs.cols[arc]}
        reduced = arcs.costs[arc] - tree.potentials[q] - tree.potentials[parent]
        assert abs(reduced) <= 1e-12 * (1 + abs(tree.potentials).max())


@given(planted())
def test_pivots_end_at_the_optimum(instance):
    cost, a, b, arcs, tree = instance
    n, m = cost.shape
    assert_is_a_tree(tree, arcs, n)
    assert checkers.coupling_error(plan_of(tree, arcs, n, m), a, b) <= 1e-14
    scale = max(1.0, np.abs(cost).max(), np.abs(tree.given).max())
    pivots = pivoted(tree, arcs, n, 1e-14 * scale, 10_000)
    assert pivots < 10_000
    assert_is_a_tree(tree, arcs, n)
    plan = plan_of(tree, arcs, n, m)
    assert checkers.coupling_error(plan, a, b) <= 1e-13
    least = checkers.linear_program(cost, a, b)
    assert float((plan * cost).sum()) == pytest.approx(least, abs=1e-9 * scale)
    # The same masses from what hangs below each arc.
    supplies = np.concatenate([a, -b, np.zeros(1)])
    settle(tree, supplies, np.argsort(-tree.depths, kind="stable"), n)
    assert np.abs(plan_of(tree, arcs, n, m) - plan).max() <= 1e-13


@given(st.integers(2, 8), st.integers(0, 999))
def test_arcs_without_mass_go_up(n, seed):
    """Between equal weights most arcs of a tree are empty: columns hang on full ones.

    Costs of few values make many ties, on which pivots must not go round for ever.
    """
    rng = np.random.default_rng(seed)
    cost = rng.integers(0, 3, (n, n)).astype(float)
    start = rng.permutation(n)
    rows, cols = np.divmod(np.arange(n * n), n)
    rows = np.concatenate([np.arange(n), rows]).astype(np.int32)
    cols = np.concatenate([start, cols]).astype(np.int32)
    arcs = Arcs(rows, cols, cost[rows, cols])
    tree = empty_tree(n, n, np.zeros(n))
    plant(tree, arcs, np.ones(n), n)
    for _ in range(10 * n * n):
        assert tree.flows[n : 2 * n].min() > 0.0
        if pivoted(tree, arcs, n, 1e-14, 1) == 0:
            break
    else:
        raise AssertionError("pivots came to no end")
    least = checkers.linear_program(cost, np.full(n, 1 / n), np.full(n, 1 / n))
    assert float((plan_of(tree, arcs, n, n) * cost).sum()) == pytest.approx(n * least)
