"""What a status promises: success is stationarity, in any units, and no saddle or exchange that anyone can see is left."""

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
from gwtools import _array
from gwtools.problems import GWProblem
from gwtools.solvers import sinkhorn as solver_module
from gwtools.transport.sinkhorn import sinkhorn
from tests import checkers
from tests.strategies import coupled, pairs

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


# ------------------------------------------------------------------------------------------------
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


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
@pytest.mark.parametrize("seed", range(8))
def test_comes_to_rest_on_pairs_of_any_curvature(solver, seed):
    """Adjacency, integers with ties, kernels, paths and distances against each other, weights unequal on one side."""
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
    """A constant matrix, one point, and a space without spread: every coupling has the same objective."""
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


# --------------------------------------------------------------------------------------------------
# saddles and exchanges

EXCHANGEABLE = {
    "star": nx.star_graph(20),
    "complete bipartite": nx.complete_bipartite_graph(3, 7),
    "neopentane": nx.Graph(
        [("C", f"M{k}") for k in range(4)]
        + [(f"M{k}", f"h{k}{i}") for k in range(4) for i in range(3)]
    ),
    "karate club": nx.karate_club_graph(),
    "binary tree": nx.balanced_tree(2, 4),
    "barbell": nx.barbell_graph(10, 3),
}


@pytest.mark.parametrize("name", EXCHANGEABLE)
def test_proximal_steps_leave_saddles_of_exchangeable_atoms(name):
    """A plan that spreads mass evenly over atoms that look alike is stationary, and no minimum."""
    C = paths(EXCHANGEABLE[name])
    for seed in range(3):
        result = gw.solve(C, relabelled(C, seed)[0], gw.Sinkhorn())
        assert result.status.success
        assert float(result.objective) <= 0.02 * variation(
            *[C, np.full(len(C), 1 / len(C))] * 2
        )


@pytest.mark.parametrize(
    "graph", [nx.cycle_graph(8), nx.icosahedral_graph()], ids=["cycle", "icosahedron"]
)
def test_symmetric_graphs_are_matched_to_themselves(graph):
    C = paths(graph)
    assert float(gw.solve(C, C).objective) == 0.0


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_no_swap_of_two_images_improves_a_permutation(solver, seed):
    rng = np.random.default_rng(seed)
    graphs = (
        nx.gnp_random_graph(14, 0.3, seed=seed),
        nx.watts_strogatz_graph(14, 4, 0.3, seed=seed),
    )
    clouds = rng.standard_normal((2, 14, 3))
    for C, D in ([nx.to_numpy_array(g) for g in graphs], [cdist(c, c) for c in clouds]):
        result = gw.solve(C, D, solver)
        plan, tolerance = (
            result.plan.dense(),
            solver.tolerance
            * variation(C, np.full(14, 1 / 14), D, np.full(14, 1 / 14)),
        )
        if np.count_nonzero(plan > 1e-12) > 14:
            continue
        images = plan.argmax(axis=1)
        here = ((C - D[np.ix_(images, images)]) ** 2).mean()
        for i, j in itertools.combinations(range(14), 2):
            other = images.copy()
            other[[i, j]] = other[[j, i]]
            assert (
                (C - D[np.ix_(other, other)]) ** 2
            ).mean() >= here - tolerance - 1e-12


@given(coupled(), st.integers(0, 10**6))
def test_theorem_8_gaps_from_potentials(instance, seed):
    """Any potentials prove gaps that are no smaller than the true ones."""
    x, y, plan = instance
    problem, rng = GWProblem(x.space(), y.space()), np.random.default_rng(seed)
    dense = gw.DensePlan(plan)
    solver = gw.Sinkhorn(proximal=False)
    state = solver._unscaled(problem, dense, 1.0, 1.0)
    size = max(np.abs(s.matrix).max() ** 2 for s in (x, y))
    state = state._replace(v=size * rng.standard_normal(y.size))
    true = checkers.frank_wolfe_gap(*arguments(x, y), plan)
    assert solver_module._proved_gap(problem, state) >= true - 1e-11 * size
    # With entropy: the value at another coupling is no lower than the dual value.
    state, gradient = (
        state._replace(epsilon=size + 1e-300),
        problem.gradient(state.cross),
    )
    kernel = -gradient / state.epsilon
    scaling = sinkhorn(
        kernel,
        x.weights,
        y.weights,
        rng.standard_normal(x.size),
        rng.standard_normal(y.size),
        1.0,
    )
    gap = solver_module._entropic_gap(problem, state, gradient, scaling)
    product = np.outer(x.weights, y.weights)

    def value(coupling):
        inside = np.where(coupling > 0, coupling, 1.0)
        return float(
            (coupling * gradient).sum()
            + state.epsilon * (coupling * np.log(inside / product)).sum()
        )

    assert gap >= value(plan) - value(product) - 1e-11 * size


# ------------------------------------------------------------------------------------------------------------------
# units


def cloud_pair(n=25, seed=0):
    points, order = (
        np.random.default_rng(seed).standard_normal((n, 3)),
        np.random.default_rng(seed + 1).permutation(n),
    )
    return cdist(points, points), cdist(points[order], points[order]), order


def share_matched(result, order):
    """Mass on the pairs of copies; atom j of y is atom order[j] of x."""
    return float(np.asarray(result.plan.dense())[order, np.arange(len(order))].sum())


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
@pytest.mark.parametrize(
    ("dtype", "factor"),
    [(np.float64, 10.0**k) for k in (-8, -4, -1, 0, 2, 5, 8)]
    + [(np.float32, 10.0**k) for k in (-4, -1, 0, 2, 4)],
)
def test_copies_are_matched_in_unlike_units(solver, dtype, factor):
    C, D, order = cloud_pair()
    C, D = C.astype(dtype), (factor * D).astype(dtype)
    assert share_matched(gw.solve(C, D, solver), order) == pytest.approx(1, abs=1e-6)
    assert share_matched(gw.solve(D, C, solver), np.argsort(order)) == pytest.approx(
        1, abs=1e-6
    )
    (found,) = gw.solve_batch([C], [D], solver)
    assert share_matched(found, order) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
@pytest.mark.parametrize(
    ("dtype", "spread"),
    [(np.float64, 10.0), (np.float64, 1e4), (np.float32, 10.0), (np.float32, 100.0)],
)
def test_similarities_near_one_are_matched(solver, dtype, spread):
    C, D, order = cloud_pair(40)
    similar = [(1 - matrix / spread).astype(dtype) for matrix in (C, D)]
    assert share_matched(gw.solve(*similar, solver), order) == pytest.approx(
        1, abs=1e-6
    )
    assert share_matched(
        gw.solve(-similar[0], D.astype(dtype), solver), order
    ) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("solver", [*SOLVERS, gw.Sinkhorn(cooling=0.5)], ids=str)
@given(
    pair=pairs(generic=True),
    scale=st.sampled_from([4.0**-10, 4.0**-2, 4.0**3, 4.0**13]),
)
def test_the_path_does_not_depend_on_powers_of_four(solver, pair, scale):
    """Such a scale of one space changes no digit of deviations, residuals, their factors and what is judged against them."""
    x, y = pair
    first = gw.solve(
        gw.DenseSpace(x.matrix, x.weights), gw.DenseSpace(y.matrix, y.weights), solver
    )
    second = gw.solve(
        gw.DenseSpace(x.matrix, x.weights),
        gw.DenseSpace(scale * y.matrix, y.weights),
        solver,
    )
    # Float errors of a much larger matrix may be all that is between the ends of an
    # interval.
    closed = (
        gw.Status.GLOBAL in (first.status, second.status)
        and first.status.success
        and second.status.success
    )
    assert first.status is second.status or closed
    assert first.iterations == second.iterations
    assert np.array_equal(first.plan.dense(), second.plan.dense())


# ---------------------------------------------------------------------------------------------------------
# other devices


@QUIET
@pytest.mark.parametrize("limit", [10**7, 1])
def test_on_other_devices_potentials_prove_the_gap(limit, monkeypatch):
    """Without a hand-over: success still means that the gap is below the tolerance, proved by potentials or one program."""
    monkeypatch.setattr(_array, "on_cpu", lambda _: False)
    monkeypatch.setattr(solver_module, "MOST_PROGRAM_ENTRIES", limit)
    rng, solver, seen = np.random.default_rng(0), gw.Sinkhorn(), set()
    sides = [
        [
            gw.PointCloud(rng.standard_normal((n, 2)), rng.dirichlet(np.full(n, 3.0)))
            for n in (9, 12, 17)
        ]
        for _ in "xy"
    ]
    sides[0].append(gw.DenseSpace(paths(nx.star_graph(8))))
    sides[1].append(gw.DenseSpace(paths(nx.star_graph(8))))
    for x, y, together in zip(*sides, gw.solve_batch(*sides, solver), strict=True):
        for result in (gw.solve(x, y, solver), together):
            assert isinstance(result.plan, gw.DensePlan)
            seen.add(result.status)
            C, D = x.dense(), y.dense()
            gap = checkers.frank_wolfe_gap(
                C, x.weights, D, y.weights, result.plan.dense()
            )
            if result.frank_wolfe_gap is not None:
                assert result.frank_wolfe_gap >= gap - 1e-12
            if result.status.success:
                assert gap <= 1.01e-5 * variation(C, x.weights, D, y.weights)
    assert gw.Status.STATIONARY in seen


# --------------------------------------------------------------------------------------------------------
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
    """Rings, grids, graphs with exchangeable nodes and their noisy copies: to 1e-6 of what a plan can change."""
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


# ----------------------------------------------------------------------------------------------------
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


# ----------------------------------------------------------------------------------------------------------
# hard corners


@pytest.mark.parametrize("tolerance", [0.3, 0.1, 1e-3, 1e-9])
def test_a_vertex_that_is_no_better_is_not_gone_back_and_forth_to(tolerance):
    """Between a mixture and a vertex that is higher by less than a large tolerance."""
    x = gw.DenseSpace(np.array([[0.2, 0.75], [0.75, 0.4]]), np.array([8 / 9, 1 / 9]))
    y = gw.DenseSpace(np.array([[0.5, 0.3], [0.3, 0.3]]), np.array([1 / 9, 8 / 9]))
    best = gw.solve(x, y).plan
    for init in ("product", best):
        result = gw.solve(x, y, gw.ConditionalGradient(tolerance=tolerance, init=init))
        assert result.status is gw.Status.STATIONARY
        assert result.iterations <= 20
        if init is best:
            assert float(result.objective) <= float(gw.solve(x, y).objective) * (
                1 + 1e-12
            )


@QUIET
@given(pair=pairs(null=True), step=st.sampled_from([1e-3, 0.1, 1.0, 10.0]))
def test_never_ends_above_its_start_at_any_tolerance(pair, step):
    x, y = pair
    start = gw.solve(x.space(), y.space(), gw.ConditionalGradient(tolerance=0.1)).plan
    result = gw.solve(
        x.space(), y.space(), gw.ConditionalGradient(tolerance=step, init=start)
    )
    before, after = (
        checkers.objective(x.matrix, y.matrix, plan.dense())
        for plan in (start, result.plan)
    )
    assert after <= before + 1e-11 * max(np.abs(s.matrix).max() ** 2 for s in pair)


@QUIET
@pytest.mark.parametrize(
    ("dtype", "small"), [(np.float32, 1e-24), (np.float64, 1e-200), (np.float64, 1e-30)]
)
def test_weights_whose_products_have_no_number(dtype, small):
    """Two atoms of next to no weight change nothing that can be seen, and no success is claimed of what is not a number."""
    rng = np.random.default_rng(2)
    points = [rng.standard_normal((n, 2)) for n in (7, 6)]
    spaces = [
        gw.PointCloud(p.astype(dtype), weights_with(len(p), small).astype(dtype))
        for p in points
    ]
    blind = [
        gw.DenseSpace((1 - np.eye(len(p))).astype(dtype), s.weights)
        for p, s in zip(points, spaces, strict=True)
    ]
    for x, y in (spaces, blind):
        for solver in (*SOLVERS, gw.Sinkhorn(proximal=False)):
            result = gw.solve(x, y, solver)
            assert np.isfinite(float(result.objective))
            error = 1e-12 if dtype is np.float64 else 1e-6
            assert (
                checkers.coupling_error(
                    result.plan.dense().astype(float), x.weights, y.weights
                )
                <= error
            )
            if result.status.success:
                assert result.frank_wolfe_gap <= 1e-3


def weights_with(n, small):
    weights = np.full(n, 1 / (n - 1))
    weights[0] = small
    return weights


@QUIET
@pytest.mark.parametrize("noise", [1e-15, 1e-13, 1e-11])
def test_what_plans_change_may_be_just_above_rounding(noise):
    rng = np.random.default_rng(0)
    for _ in range(5):
        g = rng.standard_normal((4, 4))
        for solver in SOLVERS:
            result = gw.solve(1 - np.eye(8), 1.7 + noise * (g + g.T), solver)
            assert (
                checkers.coupling_error(
                    result.plan.dense(), np.full(8, 1 / 8), np.full(4, 1 / 4)
                )
                <= 1e-12
            )


@QUIET
@pytest.mark.parametrize("share", [1e-6, 1e-20, 1e-30])
def test_no_success_is_claimed_of_kernels_that_no_scaling_meets(share):
    rng = np.random.default_rng(3)
    C, D = (cdist(p, p) for p in rng.standard_normal((2, 8, 2)))
    for dtype in (np.float32, np.float64):
        solver = gw.Sinkhorn(epsilon=share, proximal=False)
        result = gw.solve(C.astype(dtype), D.astype(dtype), solver)
        gap = checkers.frank_wolfe_gap(
            C,
            np.full(8, 1 / 8),
            D,
            np.full(8, 1 / 8),
            result.plan.dense().astype(float),
        )
        assert not result.status.success or gap <= 1e-2
    with pytest.raises(ValueError, match="epsilon must be at least"):
        gw.solve(C.astype(np.float32), D.astype(np.float32), gw.Sinkhorn(epsilon=1e-50))


def test_starts_that_miss_their_marginals_a_little_are_rounded():
    """As plans of other libraries do; a start within a gradient graph leaves no trace in the plan."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(4)
    C, D = (cdist(p, p) for p in rng.standard_normal((2, 9, 2)))
    start = np.full((9, 9), 1 / 81) * (1 + 1e-8 * rng.standard_normal((9, 9)))
    result = gw.solve(C, D, gw.ConditionalGradient(init=start, max_iterations=200))
    assert result.status.success
    assert (
        checkers.coupling_error(
            result.plan.dense(), np.full(9, 1 / 9), np.full(9, 1 / 9)
        )
        <= 1e-15
    )
    init = torch.full((9, 9), 1 / 81, dtype=torch.float64, requires_grad=True)
    result = gw.solve(
        torch.asarray(C), torch.asarray(D), gw.ConditionalGradient(init=init)
    )
    assert not result.objective.requires_grad
    assert not result.plan.masses.requires_grad


@QUIET
@pytest.mark.parametrize("proximal", [True, False])
def test_batches_whose_largest_space_has_no_slope(proximal):
    rng = np.random.default_rng(5)
    clouds = {n: cdist(*[rng.standard_normal((n, 2))] * 2) for n in (9, 11, 12)}
    solver = gw.Sinkhorn(proximal=proximal)
    xs, ys = (
        [clouds[11], 1 - np.eye(13), clouds[9]],
        [clouds[9], clouds[12], 1 - np.eye(14)],
    )
    for found, x, y in zip(gw.solve_batch(xs, ys, solver), xs, ys, strict=True):
        assert float(found.objective) == pytest.approx(
            float(gw.solve(x, y, solver).objective), abs=1e-8
        )
