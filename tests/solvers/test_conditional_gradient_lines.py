"""The first steps of directed, fused and other problems go towards one vertex each."""

import numpy as np
import ot
import pytest

import gwtools as gw
from tests import channel_problems


def line_searches(C, a, D, b, count):
    """Objectives of plain Frank-Wolfe from the product coupling, step by step."""
    plan = np.outer(a, b)
    values = [channel_problems.objective(C, D, plan)]
    for _ in range(count):
        slopes = channel_problems.gradient(C, D, plan)
        vertex = ot.emd(a, b, slopes)
        slope = np.sum(slopes * (vertex - plan))
        curvature = channel_problems.objective(C, D, vertex) - values[-1] - slope
        step = 1.0
        if curvature > 0.0:
            step = min(1.0, -slope / (2 * curvature))
        plan = (1 - step) * plan + step * vertex
        values.append(channel_problems.objective(C, D, plan))
    return values


@pytest.mark.parametrize("seed", [1, 3])
def test_the_first_ten_steps_are_line_searches_and_later_ones_no_worse(seed):
    """Where both spaces ask for mixtures: entries of opposite signs."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((2, 9, 9))
    C, D = points[0] @ points[0].T, -points[1][:8] @ points[1][:8].T
    C, D = C + 0.1 * rng.random((9, 9)), D + 0.1 * rng.random((8, 8))
    a, b = rng.dirichlet(np.full(9, 3.0)), rng.dirichlet(np.full(8, 3.0))
    steps = []
    x, y = channel_problems.spaces(C, a, D, b)
    gw.solve(x, y, gw.ConditionalGradient(), callback=steps.append)
    found = [step.objective for step in steps]
    assert len(found) > 10
    # The first of them leads from the product coupling to where the solver starts.
    expected = line_searches(C, a, D, b, 40)
    assert found[:9] == pytest.approx(expected[2:11], rel=1e-9)
    assert found[10] < expected[12] * (1 - 1e-9)
    assert found[-1] <= expected[-1] * (1 + 1e-9)


@pytest.mark.parametrize("fused", [False, True])
def test_products_follow_the_plan(fused, rng):
    """Those of mixtures are mixed, those of near plans updated: never off the plan's.

    Of graphs, whose objective is not concave, with more than 200 nodes.
    """
    weights = rng.dirichlet(np.full(205, 5.0))
    upper = (np.triu(rng.random((k, k)) < 0.1, 1).astype(float) for k in (205, 215))
    C, D = (matrix + matrix.T for matrix in upper)
    features = {"features": rng.random((205, 215)), "alpha": 0.5} if fused else {}
    problem = gw.GWProblem(gw.DenseSpace(C, weights), gw.DenseSpace(D), **features)
    solver = gw.ConditionalGradient()
    state = solver.start(problem)
    sizes = set()
    for _ in range(12):
        state = solver.step(problem, state)
        sizes.add(min(len(state.active.plans), 3))
        off = np.abs(state.cross - problem.cross(state.plan)).max()
        assert off <= 1e-13 * np.abs(state.cross).max()
        objective = float(problem.objective(state.plan))
        relative = objective - problem.product_objective
        assert state.relative_objective == pytest.approx(relative, abs=1e-13)
    assert sizes >= {1, 2}
