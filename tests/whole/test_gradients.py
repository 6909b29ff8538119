"""Gradients against finite differences.

Closed forms and bounds by autograd, objectives by the envelope theorem.
"""

import numpy as np
import pytest

import gwtools as gw
from gwtools.transport import one_dimensional

torch = pytest.importorskip("torch")
KINDS = ("dense", "euclidean", "sqeuclidean", "gram")
SINGLE = {
    name: getattr(gw.bounds, name)
    for name in ("row_means", "first", "norm", "spectral", "second")
}
BATCHED = {f"batch.{name}": getattr(gw.batch, name) for name in SINGLE}


def drawn(kind, n, seed):
    """Generic data and weights.

    A dense space is the matrix plus its transpose, whose diagonal has no ties.
    """
    rng = np.random.default_rng(seed)
    points, weights = rng.standard_normal((n, 2)), rng.uniform(1, 2, n)
    data = {"gram": points.T.copy(), "dense": rng.standard_normal((n, n))}.get(
        kind, points
    )
    return torch.asarray(data), torch.asarray(weights / weights.sum())


def space(kind, data, weights):
    if kind == "dense":
        return gw.DenseSpace(data + data.T, weights)
    return (
        gw.GramSpace(data, weights)
        if kind == "gram"
        else gw.PointCloud(data, weights, metric=kind)
    )


def preserving(weights, moves):
    """Weights moved without a change of their sum."""
    return weights + moves - moves.mean()


@pytest.mark.parametrize("name", [*SINGLE, *BATCHED])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_bounds_in_data_and_weights(kind, name):
    (data_x, a), (data_y, b) = drawn(kind, 4, 1), drawn(kind, 6, 2)
    bound = SINGLE.get(name) or (lambda x, y: BATCHED[name]([x, y], [y, x])[0])
    inputs = [
        v.requires_grad_()
        for v in (data_x, data_y, torch.zeros(4).double(), torch.zeros(6).double())
    ]

    def value(data_x, data_y, moved_x, moved_y):
        return bound(
            space(kind, data_x, preserving(a, moved_x)),
            space(kind, data_y, preserving(b, moved_y)),
        )

    assert torch.autograd.gradcheck(value, inputs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["row_means", "norm"])
@pytest.mark.parametrize("p", [1.0, 3.0])
def test_gradients_of_other_powers(name, p):
    bound = {
        "row_means": lambda x, y: gw.batch.row_means([x], [y], p),
        "norm": lambda x, y: gw.batch.first([x], [y], p),
    }[name]
    (data_x, a), (data_y, b) = drawn("euclidean", 4, 1), drawn("euclidean", 6, 2)
    inputs = [v.requires_grad_() for v in (data_x, data_y)]

    def value(data_x, data_y):
        return bound(space("euclidean", data_x, a), space("euclidean", data_y, b))

    assert torch.autograd.gradcheck(value, inputs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["row_means", "norm", "spectral"])
@pytest.mark.parametrize("height", [2, 7])
def test_second_derivatives_in_factors_of_any_height(name, height):
    rng = np.random.default_rng(4)
    factor, other = (torch.asarray(rng.standard_normal((height, n))) for n in (4, 6))
    (_, a), (_, b) = drawn("gram", 4, 1), drawn("gram", 6, 2)

    def value(factor):
        return getattr(gw.batch, name)(
            [space("gram", factor, a)], [space("gram", other, b)]
        )

    assert torch.autograd.gradgradcheck(
        value, (factor.requires_grad_(),), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("name", ["row_means", "first", "norm", "spectral"])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_batches_of_spaces_without_residual_have_finite_gradients(name, value):
    """Equal columns have R = 0, where norms have no derivative."""
    factors = [
        torch.full((3, n), value, dtype=torch.float64, requires_grad=True)
        for n in (4, 5)
    ]
    spaces = [gw.GramSpace(f) for f in factors]
    getattr(gw.batch, name)(spaces, spaces[::-1]).sum().backward()
    assert all(bool(torch.all(torch.isfinite(f.grad))) for f in factors)


def test_factors_of_unequal_heights_are_those_of_each():
    rng = np.random.default_rng(0)
    factors = [
        torch.asarray(rng.standard_normal((t, 4))).requires_grad_()
        for t in (3, 5, 9, 4)
    ]
    for name in ("row_means", "norm", "spectral"):
        spaces = [
            gw.GramSpace(f, torch.full((4,), 1 / 4, dtype=torch.float64))
            for f in factors
        ]
        together = getattr(gw.batch, name)(spaces, spaces[::-1])
        alone = torch.stack(
            [
                getattr(gw.bounds, name)(x, y)
                for x, y in zip(spaces, spaces[::-1], strict=True)
            ]
        )
        torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-12)
        for found, wanted in zip(
            *(torch.autograd.grad(v.sum(), factors) for v in (together, alone)),
            strict=True,
        ):
            torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", [*SINGLE, *BATCHED])
def test_ties_and_coinciding_points_have_finite_subgradients(name):
    points = torch.asarray(
        [[0.0, 0.0], [0.0, 0.0], [1.0, 2.0]], dtype=torch.float64, requires_grad=True
    )
    weights = torch.full((3,), 1 / 3, dtype=torch.float64, requires_grad=True)
    bound = SINGLE.get(name) or (lambda x, y: BATCHED[name]([x], [y])[0])
    bound(gw.PointCloud(points, weights), gw.PointCloud(points.detach())).backward()
    assert bool(torch.all(torch.isfinite(points.grad)))
    assert bool(torch.all(torch.isfinite(weights.grad)))


SOLVED = {
    "solve": lambda x, y, solver: gw.solve(x, y, solver),
    "solve_batch": lambda x, y, solver: gw.solve_batch([x], [y], solver)[0],
}


@pytest.mark.parametrize("call", SOLVED)
@pytest.mark.parametrize("solver", [gw.ConditionalGradient(), gw.Sorted()], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_objectives_by_the_envelope_theorem(kind, solver, call):
    """At a vertex that stays optimal nearby, the plan is constant.

    The gradient at the held plan is the objective's.
    """
    (data_x, a), (data_y, b) = drawn(kind, 4, 1), drawn(kind, 5, 2)
    if kind == "dense":  # distances, whose optima are vertices
        data_x, data_y = (
            torch.cdist(drawn("euclidean", n, n)[0], drawn("euclidean", n, n)[0]) / 2
            for n in (4, 5)
        )

    def value(data_x, data_y):
        return SOLVED[call](
            space(kind, data_x, a), space(kind, data_y, b), solver
        ).objective

    assert torch.autograd.gradcheck(
        value, (data_x.requires_grad_(), data_y.requires_grad_()), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("kind", ["dense", "euclidean", "sqeuclidean"])
def test_weights_by_the_potentials_of_the_last_program(kind):
    """Distances whose optimum is a nondegenerate vertex.

    n + m − 1 atoms of positive mass, so unique potentials.
    """
    (data_x, a), (data_y, b) = drawn(kind, 4, 1), drawn(kind, 5, 2)
    if kind == "dense":
        data_x, data_y = (
            torch.cdist(drawn("euclidean", n, n)[0], drawn("euclidean", n, n)[0]) / 2
            for n in (4, 5)
        )

    def value(moved_x, moved_y):
        x, y = (
            space(kind, data_x, preserving(a, moved_x)),
            space(kind, data_y, preserving(b, moved_y)),
        )
        return gw.solve(x, y, gw.ConditionalGradient(tolerance=1e-12)).objective

    assert (
        len(gw.solve(space(kind, data_x, a), space(kind, data_y, b)).plan.sparse().data)
        == 4 + 5 - 1
    )
    moves = [torch.zeros(n, dtype=torch.float64, requires_grad=True) for n in (4, 5)]
    assert torch.autograd.gradcheck(value, moves, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("call", SOLVED)
@pytest.mark.parametrize("part", ["data", "weights"])
@pytest.mark.parametrize("kind", ["dense", "euclidean", "sqeuclidean"])
def test_proximal_optimum_by_the_envelope_theorem(kind, part, call):
    """A nondegenerate vertex, reached by proximal steps.

    Along one direction, as every value is a solve.
    """
    (data_x, a), (data_y, b) = drawn(kind, 4, 1), drawn(kind, 5, 2)
    if kind == "dense":
        data_x, data_y = (
            torch.cdist(drawn("euclidean", n, n)[0], drawn("euclidean", n, n)[0]) / 2
            for n in (4, 5)
        )
    inputs = {"data": data_x.clone(), "weights": torch.zeros(4, dtype=torch.float64)}
    chosen = inputs[part].requires_grad_()

    def value(points, moved):
        x, y = space(kind, points, preserving(a, moved)), space(kind, data_y, b)
        return SOLVED[call](x, y, gw.Sinkhorn(tolerance=1e-12)).objective

    value(*inputs.values()).backward()
    direction = torch.asarray(
        np.random.default_rng(6).standard_normal(tuple(chosen.shape))
    )
    ends = []
    for step in (1e-4, -1e-4):
        moved = [
            v.detach() + step * direction if v is chosen else v.detach()
            for v in inputs.values()
        ]
        ends.append(float(value(*moved)))
    assert float((chosen.grad * direction).sum()) == pytest.approx(
        (ends[0] - ends[1]) / 2e-4, rel=1e-5
    )


@pytest.mark.parametrize("part", ["data", "weights"])
def test_entropic_optimum_by_the_envelope_theorem(part):
    """At a fixed ε, the gradient is that of the objective plus ε KL(π | a ⊗ b).

    This is the value of ``regularized``.
    """
    (data_x, a), (data_y, b) = drawn("euclidean", 3, 1), drawn("euclidean", 4, 2)
    solver = gw.Sinkhorn(
        epsilon=20.0, proximal=False, tolerance=1e-14, max_iterations=100
    )

    def solved(points, moved):
        x, y = gw.PointCloud(points, preserving(a, moved)), gw.PointCloud(data_y, b)
        return gw.solve(x, y, solver), x.weights[:, None] * y.weights[None, :]

    inputs = {"data": data_x, "weights": torch.zeros(3, dtype=torch.float64)}
    chosen = inputs[part] = inputs[part].requires_grad_()
    result = solved(*inputs.values())[0]
    (found,) = torch.autograd.grad(result.regularized, chosen, retain_graph=True)
    torch.testing.assert_close(
        torch.autograd.grad(result.objective, chosen)[0], found, rtol=0, atol=0
    )
    rng, step = np.random.default_rng(6), 1e-5
    direction = torch.asarray(rng.standard_normal(tuple(chosen.shape)))
    values = []
    for sign in (1, -1):
        moved = {name: v.detach() for name, v in inputs.items()}
        moved[part] = moved[part] + sign * step * direction
        result, product = solved(*moved.values())
        plan = result.plan.dense()
        values.append(
            float(
                result.objective
                + solver.epsilon * (plan * (plan / product).log()).sum()
            )
        )
        assert float(result.regularized) == pytest.approx(values[-1], rel=1e-12)
    assert float((found * direction).sum()) == pytest.approx(
        (values[0] - values[1]) / (2 * step), abs=1e-5
    )


@pytest.mark.parametrize(
    "solver", [gw.ConditionalGradient(), gw.Sinkhorn(), gw.Sorted()], ids=str
)
@pytest.mark.parametrize("call", SOLVED)
def test_distance_zero_has_the_gradient_zero(call, solver):
    """The root has no derivative there; zero is a subgradient's choice."""
    points = drawn("euclidean", 4, 1)[0].requires_grad_()
    SOLVED[call](
        gw.PointCloud(points), gw.PointCloud(points.detach()), solver
    ).distance.backward()
    assert bool(torch.all(torch.isfinite(points.grad)))


def test_certificates_and_reports_read_numbers_outside_the_gradient_graph():
    """Torch warns where a number is read from within; warnings are errors here."""
    (data_x, a), (data_y, b) = drawn("gram", 4, 1), drawn("gram", 5, 2)
    for v in (data_x, a, data_y, b):
        v.requires_grad_()
    for solver in (gw.ConditionalGradient(), gw.Sinkhorn(), gw.Sorted(kind="spectral")):
        result = gw.solve(
            space("gram", data_x, a), space("gram", data_y, b), solver, effort="cubic"
        )
        assert str(result)
        assert result.as_dict()["objective"] == float(result.objective.detach())


@pytest.mark.parametrize(
    "solver", [gw.Sorted(), gw.Sorted(kind="norm"), gw.Sinkhorn()], ids=str
)
def test_gradients_of_a_batch_are_those_of_single_solves(solver):
    pairs = [
        (drawn("gram", n, n), drawn("gram", m, m + 20))
        for n, m in ((3, 5), (9, 4), (5, 5))
    ]
    for pair in pairs:
        pair[0][0].requires_grad_()
    spaces = [[space("gram", *side) for side in pair] for pair in pairs]
    together = gw.solve_batch(*zip(*spaces, strict=True), solver)
    sum(r.estimate + r.objective for r in together).backward()
    for pair in pairs:
        found, pair[0][0].grad = pair[0][0].grad.clone(), None
        alone = gw.solve(*(space("gram", *side) for side in pair), solver)
        (alone.estimate + alone.objective).backward()
        torch.testing.assert_close(found, pair[0][0].grad, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean"])
@pytest.mark.parametrize("name", ["row_means", "first", "norm", "spectral", "second"])
def test_weights_of_zero_have_finite_gradients(name, metric):
    points = torch.as_tensor(np.random.default_rng(0).standard_normal((5, 2)))
    weights = torch.tensor(
        [0.0, 0.25, 0.25, 0.25, 0.25], dtype=torch.float64, requires_grad=True
    )
    y = gw.PointCloud(
        torch.as_tensor(np.random.default_rng(1).standard_normal((6, 2))), metric=metric
    )
    getattr(gw.bounds, name)(
        gw.PointCloud(points, weights, metric=metric), y
    ).backward()
    assert bool(torch.isfinite(weights.grad).all())


def test_regularized_has_the_gradient_at_the_epsilon_that_follows_from_the_data():
    points, other = (
        torch.as_tensor(np.random.default_rng(n).standard_normal((n, 2)))
        for n in (5, 6)
    )
    found = []
    epsilon = 1e-3 * gw.GWProblem(gw.PointCloud(points), gw.PointCloud(other)).variation
    for given in (None, epsilon):
        x = points.clone().requires_grad_()
        solver = gw.Sinkhorn(epsilon=given, proximal=False)
        gw.solve(gw.PointCloud(x), gw.PointCloud(other), solver).regularized.backward()
        found.append(x.grad)
    assert torch.allclose(*found, rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("sizes", [(5, 5), (4, 6)])
@pytest.mark.parametrize("stacked", [False, True])
def test_gradients_in_equal_weights_are_subgradients(rng, sizes, stacked):
    """Transport on the line is convex in both weights.

    It has a kink where quantile cells end together.
    """
    values = [torch.asarray(rng.standard_normal(n)) for n in sizes]
    weights = [
        torch.full((n,), 1 / n, dtype=torch.float64, requires_grad=True) for n in sizes
    ]

    def transport(a, b):
        lists = values[0], a, values[1], b
        if stacked:
            return one_dimensional.wasserstein(*(v.expand(2, -1) for v in lists), 2.0)[
                0
            ]
        return one_dimensional.wasserstein(*lists, 2.0)

    value = transport(*weights)
    gradients = torch.autograd.grad(value, weights)
    for _ in range(20):
        moves = [torch.asarray(rng.standard_normal(n) * 0.02) for n in sizes]
        moved = [
            (w + m - m.mean()).detach() for w, m in zip(weights, moves, strict=True)
        ]
        slope = sum(
            float(g @ (m - m.mean())) for g, m in zip(gradients, moves, strict=True)
        )
        assert float(transport(*moved)) >= value.item() + slope - 1e-12


@pytest.mark.parametrize("stacked", [False, True])
def test_gradients_in_weights_vanish_between_copies(rng, stacked):
    """The least value is 0 there: an optimiser of weights stays."""
    values, weights = (
        torch.asarray(rng.standard_normal(5)),
        torch.asarray(rng.dirichlet(np.full(5, 3.0))),
    )
    order = torch.asarray(rng.permutation(5))
    lists = [
        v.expand(2, -1) if stacked else v
        for v in (values, weights, values[order], weights[order])
    ]
    tracked = lists[1].clone().requires_grad_()
    one_dimensional.wasserstein(
        lists[0], tracked, lists[2], lists[3], 2.0
    ).sum().backward()
    assert torch.allclose(
        tracked.grad, tracked.grad.mean(), atol=1e-14
    )  # but for a constant, along which no mass moves


@pytest.mark.parametrize("kind", ["row_means", "norm", "spectral"])
def test_estimates_of_a_batch_have_the_gradients_of_single_ones(rng, kind):
    """In equal weights too, where they have a kink."""
    points = [torch.asarray(rng.standard_normal((n, 2))) for n in (4, 6)]
    gradients = []
    for solve in (gw.solve, lambda x, y, solver: gw.solve_batch([x], [y], solver)[0]):
        weights = torch.full((4,), 0.25, dtype=torch.float64, requires_grad=True)
        solve(
            gw.PointCloud(points[0], weights),
            gw.PointCloud(points[1]),
            gw.Sorted(kind=kind),
        ).estimate.backward()
        gradients.append(weights.grad - weights.grad.mean())
    assert torch.allclose(*gradients, rtol=1e-9, atol=1e-12)
