"""What a status promises: success is stationarity. Batches, steps and callbacks."""

import itertools

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

import gwtools as gw
from tests import checkers
from tests.strategies import pairs

SOLVERS = [gw.ConditionalGradient(), gw.Sinkhorn()]


QUIET = pytest.mark.filterwarnings("ignore::gwtools.ConvergenceWarning")


def arguments(x, y):
    return x.matrix, x.weights, y.matrix, y.weights


def variation(C, a, D, b):
    """4‖α‖‖β‖ + 2‖R‖‖S‖."""
    (_, alpha, R), (_, beta, S) = checkers.parts(C, a), checkers.parts(D, b)
    spread = np.sqrt((a @ alpha**2) * (b @ beta**2))
    return 4 * spread + 2 * checkers.norm(R, a) * checkers.norm(S, b)


def paths(graph):
    return np.asarray(nx.floyd_warshall_numpy(graph, weight=None))


def relabelled(C, seed=0):
    order = np.random.default_rng(seed).permutation(len(C))
    return C[np.ix_(order, order)], order


# --------------------------------------------------------------------------------
# success is stationarity


@QUIET
@pytest.mark.parametrize("solver", SOLVERS, ids=str)
@given(pair=pairs(null=True))
def test_success_means_a_gap_below_the_tolerance(solver, pair):
    x, y = pair
    result = gw.solve(x.space(), y.space(), solver)
    gap = checkers.frank_wolfe_gap(*arguments(x, y), result.plan.dense())
    rounding = 1e-12 * max(np.abs(s.matrix).max() ** 2 for s in pair)
    if result.status.success:
        assert gap <= 1.01 * solver.tolerance * variation(*arguments(x, y)) + rounding
        assert result.frank_wolfe_gap >= gap - rounding


@given(pair=pairs(null=True), seed=st.integers(0, 2**16))
def test_no_gap_is_larger_than_four_variations(pair, seed):
    x, y = pair
    rng = np.random.default_rng(seed)
    plan = gw.round_plan(
        rng.random((len(x.weights), len(y.weights))) ** 8 + 1e-9, x.weights, y.weights
    )
    gap = checkers.frank_wolfe_gap(*arguments(x, y), np.asarray(plan.dense()))
    rounding = 1e-12 * max(np.abs(s.matrix).max() ** 2 for s in pair)
    assert gap <= 4 * variation(*arguments(x, y)) + rounding


def test_the_gap_without_a_step_is_a_bound_at_every_start():
    """R = −S are ±d: at the identity the gap is 8 d², at the product coupling 0."""
    d = 2.0**-50
    C = np.array([[1 + d, 1 - d], [1 - d, 1 + d]])
    D = np.array([[2 - d, 2 + d], [2 + d, 2 - d]])
    problem = gw.GWProblem(gw.DenseSpace(C), gw.DenseSpace(D))
    start = gw.DensePlan(np.eye(2) / 2)
    outcome = gw.ConditionalGradient(init=start).run(problem)
    assert outcome.iterations == 0
    assert outcome.plan.dense().tolist() == start.dense().tolist()
    assert checkers.frank_wolfe_gap(
        C - 1, np.full(2, 0.5), D - 2, np.full(2, 0.5), np.eye(2) / 2
    ) == pytest.approx(8 * d * d)
    assert outcome.frank_wolfe_gap == 8 * d * d


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
@pytest.mark.parametrize("seed", range(8))
def test_comes_to_rest_on_pairs_of_any_curvature(solver, seed):
    """Matrices of every kind against each other, weights unequal on one side.

    Adjacency, integers with ties, kernels, paths and distances.
    """
    rng = np.random.default_rng(seed)
    n, m = rng.integers(8, 24, 2)

    def drawn(kind, size):
        points = rng.standard_normal((size, 3))
        levels = np.triu(rng.integers(0, 5, (size, size)), 1).astype(float)
        return {
            0: lambda: nx.to_numpy_array(nx.gnp_random_graph(size, 0.3, seed=seed)),
            1: lambda: levels + levels.T,
            2: lambda: np.exp(-cdist(points, points, "sqeuclidean")),
            3: lambda: paths(nx.random_labeled_tree(int(size), seed=seed)),
            4: lambda: cdist(points, points),
        }[kind]()

    for first, second in itertools.product(range(5), range(5)):
        x, y = (
            drawn(first, n),
            gw.DenseSpace(drawn(second, m), rng.dirichlet(np.full(m, 2.0))),
        )
        result = gw.solve(x, y, solver)
        assert result.status.success, (first, second)


@pytest.mark.parametrize("epsilon", [0.02, 0.1, 1.0])
@given(pair=pairs(generic=True))
def test_success_at_a_fixed_epsilon_means_a_gap_with_the_entropy(epsilon, pair):
    x, y = pair
    scale = variation(*arguments(x, y))
    if scale <= 1e-9:
        return
    epsilon = epsilon * scale
    result = gw.solve(
        x.space(),
        y.space(),
        gw.Sinkhorn(epsilon=epsilon, proximal=False, max_iterations=2000),
    )
    plan, (C, a, D, b) = result.plan.dense(), arguments(x, y)
    product = np.outer(a, b)
    slope = checkers.gradient(C, D, plan)
    inside = np.where(plan > 0, plan, 1.0)
    value = float(
        (plan * slope).sum() + epsilon * (plan * np.log(inside / product)).sum()
    )
    assert result.status is gw.Status.FIXED_POINT
    # Its least value over couplings is the largest value of the dual, which is concave
    # in the potential of the second space.
    first = np.log(a)[:, None] - slope / epsilon

    def dual(potential):
        rows = -logsumexp((potential + np.log(b))[None, :] - slope / epsilon, axis=1)
        plan = np.exp(first + rows[:, None] + (potential + np.log(b))[None, :])
        return -epsilon * float(a @ rows + b @ potential), -epsilon * (
            b - plan.sum(axis=0)
        )

    found = minimize(
        dual,
        np.zeros(len(b)),
        jac=True,
        method="BFGS",
        options={"gtol": 1e-9 * epsilon, "maxiter": 2000},
    )
    assert value + found.fun <= 1.1e-5 * scale + 1e-6 * epsilon


def test_what_no_plan_changes_is_global():
    """Every coupling has the same objective.

    A constant matrix, one point, and a space without spread.
    """
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(7))
    D = cdist(*[rng.standard_normal((7, 2))] * 2)
    for C in (
        np.full((5, 5), 0.1),
        np.zeros((5, 5)),
        np.full((5, 5), 1e8),
        np.ones((1, 1)),
        np.full((5, 5), -1 / 3),
    ):
        for pair in (
            (gw.DenseSpace(C), gw.DenseSpace(D, weights)),
            (gw.DenseSpace(D, weights), gw.DenseSpace(C)),
        ):
            for solver in (*SOLVERS, gw.Sinkhorn(epsilon=0.1, proximal=False)):
                result = gw.solve(*pair, solver)
                assert result.status is gw.Status.GLOBAL
                expected = np.outer(pair[0].weights, pair[1].weights)
                assert np.array_equal(result.plan.dense(), expected)


# --------------------------------------------------------------------------------
# batch is solve


@QUIET
@pytest.mark.parametrize(
    "solver",
    [
        gw.Sinkhorn(),
        gw.Sinkhorn(epsilon=0.5, proximal=False),
        gw.Sinkhorn(max_iterations=7),
    ],
)
def test_batches_of_symmetric_shapes_are_single_solves(solver):
    """Rings, grids, graphs with exchangeable nodes and their noisy copies.

    To 1e-6 of what a plan can change.
    """
    t, rng = 2 * np.pi * np.arange(24) / 24, np.random.default_rng(3)
    shapes = [
        np.c_[np.cos(t), np.sin(t)],
        np.array([(i, j) for i in range(6) for j in range(4)], float),
    ]
    xs = [cdist(p, p) for p in shapes] + [
        paths(g) for g in (nx.cycle_graph(14), nx.path_graph(13), nx.star_graph(9))
    ]
    ys = [
        cdist(p, p) for p in (s + 0.02 * rng.standard_normal(s.shape) for s in shapes)
    ]
    ys += [paths(g) for g in (nx.path_graph(13), nx.path_graph(13), nx.star_graph(11))]
    for found, x, y in zip(gw.solve_batch(xs, ys, solver), xs, ys, strict=True):
        expected = gw.solve(x, y, solver)
        scale = variation(
            x, np.full(len(x), 1 / len(x)), y, np.full(len(y), 1 / len(y))
        )
        assert abs(float(found.objective) - float(expected.objective)) <= 1e-6 * scale
        assert found.status is expected.status
        assert (found.frank_wolfe_gap is None) == (expected.frank_wolfe_gap is None)


# --------------------------------------------------------------------------------
# steps and callbacks


@QUIET
@pytest.mark.parametrize("last", range(1, 24))
def test_a_callback_stops_at_any_step(last):
    """Also where proximal steps come to rest and conditional gradient would go on."""
    rng, seen = np.random.default_rng(5), []
    x, y = (cdist(*[rng.standard_normal((12, 2))] * 2) for _ in range(2))

    def stop(progress):
        seen.append(progress.iteration)
        return progress.iteration == last

    result = gw.solve(x, y, gw.Sinkhorn(), callback=stop)
    assert seen == list(range(1, result.iterations + 1))
    assert result.iterations <= last
    assert result.status is gw.Status.STOPPED or result.status.success
    assert result.status.success or result.iterations == last


@QUIET
@pytest.mark.parametrize("most", [1, 5, 14, 16, 17, 18, 25])
@pytest.mark.parametrize(
    "solver",
    [gw.ConditionalGradient, gw.Sinkhorn],
    ids=["conditional gradient", "Sinkhorn"],
)
def test_iterations_are_never_more_than_asked_for(solver, most):
    rng, seen = np.random.default_rng(6), []
    kernel = np.exp(-cdist(*[rng.standard_normal((15, 3))] * 2))
    distances = cdist(*[rng.standard_normal((11, 3))] * 2)
    result = gw.solve(
        kernel, distances, solver(max_iterations=most), callback=seen.append
    )
    assert result.iterations <= most
    assert [step.iteration for step in seen] == list(range(1, result.iterations + 1))
    if solver is gw.Sinkhorn and not result.status.success:
        assert result.frank_wolfe_gap is None or result.frank_wolfe_gap > 0.0
