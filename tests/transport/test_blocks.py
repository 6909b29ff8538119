"""Transport in blocks: the same marginals, at no greater cost (theorem 12 i)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gwtools.plans import SparsePlan
from gwtools.transport import blocks
from gwtools.transport.blocks import lowered_by_columns, lowered_by_rows
from gwtools.transport.lifted import LiftedCosts
from tests import checkers
from tests.strategies import couplings, values, weights


def listed(matrix):
    rows, cols = np.nonzero(matrix)
    return SparsePlan(rows, cols, matrix[rows, cols], matrix.shape)


@st.composite
def coupled(draw):
    """Points, also equal ones, a coupling of them, and blocks of rows and columns."""
    q = draw(st.integers(1, 3))
    n, m = draw(st.integers(2, 7)), draw(st.integers(2, 7))
    u, v = draw(values((n, q), False)), draw(values((m, q), False))
    plan = draw(couplings(draw(weights(n)), draw(weights(m))))
    of = [draw(st.lists(st.integers(0, 2), min_size=k, max_size=k)) for k in (n, m)]
    return u, v, plan, *map(np.array, of)


@settings(max_examples=40)
@given(coupled())
def test_theorem_12_blocks_are_coupled_at_least_cost(drawn):
    u, v, plan, of_rows, of_cols = drawn
    cost = -(u @ v.T)
    scale = max(1.0, np.abs(cost).max())
    by_rows = lowered_by_rows(LiftedCosts(u, v), listed(plan), of_rows).dense()
    by_cols = lowered_by_columns(LiftedCosts(u, v), listed(plan), of_cols).dense()
    # Columns are rows of the transposed problem.
    for found, before, costs, of in (
        (by_rows, plan, cost, of_rows),
        (by_cols.T, plan.T, cost.T, of_cols),
    ):
        a, b = before.sum(axis=1), before.sum(axis=0)
        assert checkers.coupling_error(found, a, b) <= 1e-14
        for block in set(of):
            part, old, c = (array[of == block] for array in (found, before, costs))
            own, other = old.sum(axis=1), old.sum(axis=0)
            total, kept = own.sum(), other > 0
            least = checkers.linear_program(
                c[:, kept], own / total, other[kept] / total
            )
            assert np.abs(part.sum(axis=0) - other).max() <= 1e-14
            assert (part * c).sum() / total == pytest.approx(least, abs=1e-9 * scale)


def test_one_block_is_the_whole_program(rng):
    u, v = rng.standard_normal((30, 2)), rng.standard_normal((20, 2))
    plan = np.outer(rng.dirichlet(np.ones(30)), rng.dirichlet(np.ones(20)))
    a, b = plan.sum(axis=1), plan.sum(axis=0)
    found = lowered_by_rows(LiftedCosts(u, v), listed(plan), np.zeros(30, dtype=int))
    cost = -(u @ v.T)
    assert (found.dense() * cost).sum() == pytest.approx(
        checkers.linear_program(cost, a, b), abs=1e-12
    )


def test_blocks_of_too_many_pairs_stay(rng, monkeypatch):
    monkeypatch.setattr(blocks, "_MOST_PAIRS", 10)
    plan = np.full((4, 4), 1 / 16)
    costs = LiftedCosts(rng.standard_normal((4, 2)), rng.standard_normal((4, 2)))
    found = lowered_by_rows(costs, listed(plan), np.zeros(4, dtype=int))
    assert np.array_equal(found.dense(), plan)
