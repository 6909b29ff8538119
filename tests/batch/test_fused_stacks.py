"""Fused problems of many pairs: a stack has what each problem has, and one result."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from gwtools.batch import sinkhorn
from gwtools.batch.fused_stacks import stacked
from gwtools.batch.gather import Pairs
from gwtools.fused import Fused
from tests.fused_problems import fused_problems
from tests.libraries import EAGER, to_numpy
from tests.strategies import normalised

SINKHORNS = [gw.Sinkhorn(), gw.Sinkhorn(epsilon=0.3, proximal=False)]


def problems(count=5, seed=0):
    """Pairs of unlike sizes and weights, some 0, with costs of either sign."""
    rng = np.random.default_rng(seed)
    xs, ys, features = [], [], []
    for i in range(count):
        n, m = (int(size) for size in rng.integers(2, 9, 2))
        a = normalised(rng.integers(1, 5, n))
        b = normalised(rng.integers(1, 5, m))
        costs = rng.random((n, m)) - 0.3
        if i % 3 == 2:
            a = normalised(np.append(0.0, a[1:]))
            costs[0] = 1e300
        points, others = rng.standard_normal((n, 2)), rng.standard_normal((m, 3))
        xs.append(gw.PointCloud(points, a))
        ys.append(gw.PointCloud(others, b, metric="sqeuclidean"))
        features.append(costs)
    return xs, ys, features


def agree(found, expected):
    assert float(found.objective) == pytest.approx(float(expected.objective), abs=1e-12)
    assert (found.status, found.iterations) == (expected.status, expected.iterations)
    assert found.alpha == expected.alpha
    assert found.solver == expected.solver
    difference = found.plan.dense() - expected.plan.dense()
    assert np.abs(difference).max() <= 1e-12
    mine, other = found.certificate, expected.certificate
    assert mine.lower == pytest.approx(other.lower, abs=1e-12)
    assert mine.upper == pytest.approx(other.upper, abs=1e-12)
    assert mine.kind is other.kind
    for step, of_single in zip(found.history, expected.history, strict=True):
        assert step.objective == pytest.approx(of_single.objective, abs=1e-10)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("solver", [*SINKHORNS, gw.ConditionalGradient()], ids=str)
def test_each_result_is_that_of_the_single_call(solver, alpha):
    xs, ys, features = problems()
    batch = gw.solve_batch(xs, ys, solver, features=features, alpha=alpha)
    for found, x, y, costs in zip(batch, xs, ys, features, strict=True):
        agree(found, gw.solve(x, y, solver, features=costs, alpha=alpha))


@pytest.mark.parametrize("metric", [None, "euclidean"])
def test_features_of_spaces_are_costs_between_them(metric):
    xs, ys, _ = problems(3)
    rng = np.random.default_rng(1)
    xs, ys = (
        [
            gw.PointCloud(
                space.points,
                space.weights,
                metric=space.metric,
                features=rng.random((space.size, 2)),
            )
            for space in side
        ]
        for side in (xs, ys)
    )
    batch = gw.solve_batch(xs, ys, gw.Sinkhorn(), features=metric, alpha=0.5)
    for found, x, y in zip(batch, xs, ys, strict=True):
        agree(found, gw.solve(x, y, gw.Sinkhorn(), features=metric, alpha=0.5))


@given(st.lists(fused_problems(shares=(0.0, 0.5, 0.9)), min_size=1, max_size=3))
@settings(max_examples=20)
def test_a_stack_has_the_numbers_of_each_problem(known):
    left = [each.spaces[0] for each in known]
    right = [each.spaces[1] for each in known]
    fused = [Fused(each.features, each.alpha) for each in known]
    plain = sinkhorn.problems(left, right)
    stack = stacked(plain, Pairs(left, right, fused))
    for k, each in enumerate(known):
        single = each.problem
        scale = 1e-12 * each.scale
        for name in ("slope_range", "variation", "float_error"):
            expected = getattr(single, name)
            assert getattr(stack, name)[k] == pytest.approx(
                expected, rel=1e-9, abs=scale
            )
        n, m = single.shape
        assert stack.bilinear_cost[k, :n, :m] == pytest.approx(
            single.bilinear_cost, abs=scale
        )
        assert stack.linear.mean[k] == pytest.approx(single.linear.mean, abs=scale)


def test_neither_padding_nor_atoms_without_weight_count():
    """The size is that of the centred costs between atoms, here 1/4."""
    costs = np.array([[-1e300, 1e300], [1.0, 5.0], [0.0, 6.0]])
    x = gw.DenseSpace(1 - np.eye(3), np.array([0.0, 0.5, 0.5]))
    y = gw.DenseSpace(1 - np.eye(2))
    larger = gw.DenseSpace(1 - np.eye(6))
    left, right = [x, larger], [y, larger]
    fused = [Fused(costs, 0.5), Fused(np.eye(6), 0.5)]
    stack = stacked(sinkhorn.problems(left, right), Pairs(left, right, fused))
    single = gw.GWProblem(gw.as_space(1 - np.eye(2)), y, costs[1:], 0.5)
    assert single.linear.size == 0.25
    for name in ("size", "least", "float_error"):
        expected = getattr(single.linear, name)
        assert getattr(stack.linear, name)[0] == pytest.approx(expected)


@pytest.mark.parametrize("library", EAGER, ids=str)
def test_libraries_and_dtypes_are_kept(library):
    xs, ys, features = (side[:2] for side in problems())
    made = [
        [
            gw.PointCloud(
                library.array(s.points), library.array(s.weights), metric=s.metric
            )
            for s in side
        ]
        for side in (xs, ys)
    ]
    costs = [library.array(each) for each in features]
    batch = gw.solve_batch(*made, SINKHORNS[1], features=costs, alpha=0.5)
    expected = gw.solve_batch(xs, ys, SINKHORNS[1], features=features, alpha=0.5)
    for found, other in zip(batch, expected, strict=True):
        assert library.owns(found.objective)
        assert library.owns(found.plan.dense())
        value = float(to_numpy(found.objective))
        assert value == pytest.approx(float(other.objective), rel=100 * library.rtol)


@pytest.mark.parametrize("solver", [gw.Sinkhorn(), gw.ConditionalGradient()], ids=str)
def test_gradients_are_those_of_the_single_calls(solver):
    torch = pytest.importorskip("torch")
    xs, ys, features = (side[:2] for side in problems())

    def gradients(solve):
        points = [torch.asarray(s.points).requires_grad_() for s in xs]
        costs = [torch.asarray(each).requires_grad_() for each in features]
        alpha = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
        left = [
            gw.PointCloud(p, torch.asarray(s.weights))
            for p, s in zip(points, xs, strict=True)
        ]
        right = [
            gw.PointCloud(
                torch.asarray(s.points), torch.asarray(s.weights), metric=s.metric
            )
            for s in ys
        ]
        total = sum(result.objective for result in solve(left, right, costs, alpha))
        return torch.autograd.grad(total, [*points, *costs, alpha])

    together = gradients(
        lambda xs, ys, costs, alpha: gw.solve_batch(
            xs, ys, solver, features=costs, alpha=alpha
        )
    )
    one_by_one = gradients(
        lambda xs, ys, costs, alpha: [
            gw.solve(x, y, solver, features=M, alpha=alpha)
            for x, y, M in zip(xs, ys, costs, strict=True)
        ]
    )
    for found, expected in zip(together, one_by_one, strict=True):
        assert torch.allclose(found, expected, rtol=1e-9, atol=1e-12)
        assert found.abs().sum() > 0
