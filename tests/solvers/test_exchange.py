"""Theorem 8: exchanges of two atoms change the objective as the formula says."""

import itertools

import numpy as np
import pytest
from hypothesis import given

import gwtools as gw
from gwtools.plans import SparsePlan
from gwtools.problems import GWProblem
from gwtools.solvers import exchange
from gwtools.solvers.exchange import Atoms, exchanged
from tests import checkers
from tests.strategies import coupled, vertex


@given(coupled(null=True))
def test_theorem_8_exchange(instance):
    """Exchanges change the objective by the formula, for unequal masses too."""
    x, y, plan = instance
    rows, cols = np.nonzero(plan)
    sparse = SparsePlan(rows, cols, plan[rows, cols], plan.shape)
    problem = GWProblem(x.space(), y.space())
    atoms = Atoms.of(problem, sparse, problem.linearize(sparse))
    best = atoms.best()
    before, changes = checkers.objective(x.matrix, y.matrix, plan), []
    for s, t in itertools.combinations_with_replacement(range(len(rows)), 2):
        moved = min(plan[rows[s], cols[s]], plan[rows[t], cols[t]])
        after = plan.copy()
        for i, j, sign in ((s, s, -1), (t, t, -1), (s, t, 1), (t, s, 1)):
            after[rows[i], cols[j]] += sign * moved
        changes.append(
            checkers.objective(x.matrix, y.matrix, np.maximum(after, 0)) - before
        )
    scale = max(np.abs(s.matrix).max() ** 2 for s in (x, y))
    assert abs(best.change - min(changes)) <= 1e-11 * scale
    # The slopes after an exchange are those at its plan, duplicates and parts of atoms
    # included.
    after = atoms.after(best)
    fresh = problem.linearize(after.plan(sparse))[after.rows][:, after.cols]
    assert np.abs(after.slopes - fresh).max() <= 1e-12 * scale
    (form,) = after.forms
    for found, residual, index in (
        (form.left, problem.left, after.rows),
        (form.right, problem.right, after.cols),
    ):
        assert (
            np.abs(found - residual.dense()[np.ix_(index, index)]).max()
            <= 1e-13 * scale**0.5
        )
    found, _ = exchanged(problem, sparse, problem.cross(sparse), 1e-9 * scale + 1e-300)
    assert checkers.coupling_error(found.dense(), x.weights, y.weights) <= 1e-14
    assert (
        checkers.objective(x.matrix, y.matrix, found.dense()) <= before + 1e-11 * scale
    )
    assert np.array_equal(found.sparse().toarray(), found.dense())


@pytest.mark.parametrize("spare", [64, 1])
@pytest.mark.parametrize(("n", "m"), [(30, 30), (22, 31)])
def test_compiled_passes_make_the_same_exchanges(n, m, spare, monkeypatch, rng):
    """From permutations, and from couplings whose atoms have unequal masses.

    Their number grows, beyond what there is room for.
    """
    monkeypatch.setattr(exchange, "_SPARE", spare)
    x, y = (gw.PointCloud(rng.standard_normal((k, 3))) for k in (n, m))
    problem = GWProblem(x, y)
    start = vertex(x.weights, y.weights, rng.permutation(n), rng.permutation(m))
    rows, cols = np.nonzero(start)
    plan = SparsePlan(rows, cols, start[rows, cols], start.shape)
    expected, _ = exchanged(problem, plan, problem.cross(plan), 1e-12)
    monkeypatch.setattr(exchange, "_COMPILED_ATOMS", 0)
    monkeypatch.setattr("gwtools._compiled.available", lambda: True)
    found, is_last = exchanged(problem, plan, problem.cross(plan), 1e-12)
    assert found is not plan
    assert np.abs(found.dense() - expected.dense()).max() <= 1e-15
    assert is_last is (n == m)  # the others end by their number
    if is_last:
        again, _ = exchanged(problem, found, problem.cross(found), 1e-12)
        assert again is found


@pytest.mark.parametrize("compiled_atoms", [0, 100])
def test_exchanges_are_the_last_ones_where_no_other_lowers(compiled_atoms, monkeypatch):
    """Atoms that meet at one position are one, of which more can be moved."""
    monkeypatch.setattr(exchange, "_COMPILED_ATOMS", compiled_atoms)
    monkeypatch.setattr("gwtools._compiled.available", lambda: True)
    said = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        n, m = rng.integers(4, 14, 2)
        a, b = rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m))
        if seed % 2:  # permutations, whose atoms never meet
            a = b = np.full(n, 1 / n)
            m = n
        x = gw.PointCloud(rng.standard_normal((n, 3)), weights=a)
        y = gw.PointCloud(rng.standard_normal((m, 2)), weights=b)
        problem = GWProblem(x, y)
        start = vertex(a, b, rng.permutation(n), rng.permutation(m))
        rows, cols = np.nonzero(start)
        plan = SparsePlan(rows, cols, start[rows, cols], start.shape)
        found, is_last = exchanged(problem, plan, problem.cross(plan), 1e-12)
        again, _ = exchanged(problem, found, problem.cross(found), 1e-12)
        assert again is found or not is_last
        said.add((is_last, again is found))
    assert {(True, True), (False, False)} <= said
