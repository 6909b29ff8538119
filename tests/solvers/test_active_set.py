"""Theorem 8: the best mixture of couplings, and what becomes of too many."""

import numpy as np
import pytest
import torch

import gwtools as gw
from gwtools.problems import GWProblem
from gwtools.solvers.active_set import MOST, ActiveSet
from tests import checkers


@pytest.mark.parametrize("count", [2, 5, 40, MOST + 40])
def test_theorem_8_fully_corrective(count):
    """No point on the way to the last vertex is better, whatever the curvature."""
    rng = np.random.default_rng(count)
    g, h = rng.standard_normal((9, 9)), rng.standard_normal((7, 7))
    x, y = (
        gw.DenseSpace(g + g.T, rng.dirichlet(np.ones(9))),
        gw.DenseSpace(h + h.T, rng.dirichlet(np.ones(7))),
    )
    problem = GWProblem(x, y)
    product = gw.DensePlan(np.outer(x.weights, y.weights))
    active = ActiveSet.of(problem, product, problem.cross(product))
    for _ in range(count):
        vertex = (
            gw.solve(x, y, gw.Sorted()).plan
            if len(active.plans) == 1
            else random_vertex(x, y, rng)
        )
        wider = active.extended(problem, vertex, problem.cross(vertex))
        steps = [
            gw.DensePlan((1 - t) * active.plan().dense() + t * vertex.dense())
            for t in np.linspace(0, 1, 11)
        ]
        active = wider.minimised(1e-12, 1e-15)
        found = problem.relative_objective(active.plan(), problem.cross(active.plan()))
        assert found == pytest.approx(active.relative_objective, abs=1e-12)
        assert (
            found
            <= min(problem.relative_objective(p, problem.cross(p)) for p in steps)
            + 1e-12
        )
        assert (
            checkers.coupling_error(active.plan().dense(), x.weights, y.weights)
            <= 1e-13
        )
        assert len(active.plans) <= MOST


def random_vertex(x, y, rng):
    return gw.solve(
        gw.DenseSpace(np.add.outer(*[rng.standard_normal(x.size)] * 2), x.weights),
        gw.DenseSpace(np.add.outer(*[rng.standard_normal(y.size)] * 2), y.weights),
        gw.Sorted(),
    ).plan


def test_many_active_couplings_are_merged_without_moving_the_plan():
    """The couplings of least weight become one: the objective stays."""
    rng = np.random.default_rng(1)
    x, y = (
        gw.PointCloud(rng.standard_normal((6, 2)), rng.dirichlet(np.ones(6)))
        for _ in range(2)
    )
    problem, count = GWProblem(x, y), MOST + 30
    product = gw.DensePlan(np.outer(x.weights, y.weights))
    active = ActiveSet.of(problem, product, problem.cross(product))
    for _ in range(count - 1):
        vertex = random_vertex(x, y, rng)
        active = active.extended(problem, vertex, problem.cross(vertex))
    weights = rng.dirichlet(np.ones(count))
    before = gw.DensePlan(
        sum(w * plan.dense() for w, plan in zip(weights, active.plans, strict=True))
    )
    after = active._kept(weights)
    assert len(after.plans) == MOST
    assert np.abs(after.plan().dense() - before.matrix).max() <= 1e-15
    assert after.relative_objective == pytest.approx(
        problem.relative_objective(before, problem.cross(before)), abs=1e-13
    )


def test_a_step_on_the_line_is_the_best_of_it_and_forgets_no_coupling():
    """As all steps of plain Frank-Wolfe, whose first coupling keeps some weight."""
    rng = np.random.default_rng(4)
    x, y = (
        gw.DenseSpace(
            np.cov(rng.standard_normal((n, 2 * n))), rng.dirichlet(np.ones(n))
        )
        for n in (6, 5)
    )
    problem = GWProblem(x, gw.DenseSpace(-y.distances, y.weights))  # a convex one
    product = gw.DensePlan(np.outer(x.weights, y.weights))
    active = ActiveSet.of(problem, product, problem.cross(product))
    for count in range(1, 5):
        vertex = random_vertex(x, y, rng)
        before = active.plan().dense()
        wider = active.extended(problem, vertex, problem.cross(vertex))
        active = wider.on_the_line()
        assert active.joined == count
        values = []
        for t in np.linspace(0, 1, 201):
            plan = gw.DensePlan((1 - t) * before + t * vertex.dense())
            values.append(problem.relative_objective(plan, problem.cross(plan)))
        assert active.relative_objective <= min(values) + 1e-12
        assert active.relative_objective == pytest.approx(min(values), rel=0.05)
        corrected = wider.minimised(1e-12, 1e-15)
        assert corrected.relative_objective <= active.relative_objective + 1e-12


@pytest.mark.parametrize("seed", [5, 10, 42])
def test_mixtures_are_exchanged_in_every_library(seed):
    """PyTorch keeps mixtures as matrices, whose atoms may be exchanged all the same."""
    rng = np.random.default_rng(seed)
    n, m = rng.integers(3, 6, 2)
    C, D = rng.random((n, n)) + 0.1, rng.random((m, m)) + 0.1
    a, b = rng.random(n) + 0.2, rng.random(m) + 0.2
    arrays = [C + C.T, a / a.sum(), D + D.T, b / b.sum()]
    found = []
    for convert in (np.asarray, torch.asarray):
        of_x, x_weights, of_y, y_weights = map(convert, arrays)
        x, y = gw.DenseSpace(of_x, x_weights), gw.DenseSpace(of_y, y_weights)
        found.append(float(gw.solve(x, y, gw.ConditionalGradient()).objective))
    assert found[1] == pytest.approx(found[0], rel=1e-9)
