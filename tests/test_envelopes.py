"""Gradients of fused objectives by the envelope theorem, against finite differences."""

import numpy as np
import pytest

import gwtools as gw
from tests.whole.test_gradients import KINDS, drawn, preserving, space

torch = pytest.importorskip("torch")
SOLVER = gw.ConditionalGradient(tolerance=1e-12)


def features():
    return torch.asarray(np.random.default_rng(7).random((4, 5)))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_in_data_features_and_share(kind):
    (data_x, a), (data_y, b) = drawn(kind, 4, 1), drawn(kind, 5, 2)

    def value(data_x, data_y, features, alpha):
        x, y = space(kind, data_x, a), space(kind, data_y, b)
        return gw.solve(x, y, SOLVER, features=features, alpha=alpha).objective

    alpha = torch.tensor(0.2, dtype=torch.float64)
    inputs = [v.requires_grad_() for v in (data_x, data_y, features(), alpha)]
    assert torch.autograd.gradcheck(value, inputs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["dense", "euclidean", "sqeuclidean"])
def test_gradients_in_weights_are_potentials(kind):
    (data_x, a), (data_y, b) = drawn(kind, 4, 1), drawn(kind, 5, 2)

    def value(moved_x, moved_y):
        x = space(kind, data_x, preserving(a, moved_x))
        y = space(kind, data_y, preserving(b, moved_y))
        return gw.solve(x, y, SOLVER, features=features(), alpha=0.1).objective

    inputs = [torch.zeros(n, dtype=torch.float64, requires_grad=True) for n in (4, 5)]
    plan = gw.solve(
        space(kind, data_x, a), space(kind, data_y, b), SOLVER,
        features=features(), alpha=0.1,
    ).plan  # fmt: skip
    assert len(plan.masses) == 8  # a vertex with unique potentials
    assert torch.autograd.gradcheck(value, inputs, atol=1e-5, rtol=1e-5)


def test_the_gradient_in_the_share_is_the_difference_of_both_terms():
    """At 1 too, where the objective is the plain one."""
    (data_x, a), (data_y, b) = drawn("euclidean", 4, 1), drawn("euclidean", 5, 2)
    x, y = gw.PointCloud(data_x, a), gw.PointCloud(data_y, b)
    for share in (0.0, 0.5, 1.0):
        alpha = torch.tensor(share, dtype=torch.float64, requires_grad=True)
        result = gw.solve(x, y, features=features(), alpha=alpha)
        result.objective.backward()
        structure = gw.GWProblem(x, y).objective(result.plan)
        linear = result.plan.inner(features())
        assert float(alpha.grad) == pytest.approx(float(structure - linear), abs=1e-10)
    assert float(result.distance.detach()) > 0.0


def test_nothing_is_tracked_where_nothing_asks_for_gradients():
    (data_x, a), (data_y, b) = drawn("euclidean", 4, 1), drawn("euclidean", 5, 2)
    x, y = gw.PointCloud(data_x, a), gw.PointCloud(data_y, b)
    alpha = torch.tensor(0.5, dtype=torch.float64)
    assert not gw.solve(x, y, features=features(), alpha=alpha).objective.requires_grad
