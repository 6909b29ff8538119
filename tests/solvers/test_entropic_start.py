"""First states of Sinkhorn: warm starts come to the fixed point, and soon."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from gwtools.solvers.entropic_start import SHARE_OF_PRODUCT, first_state
from tests import checkers
from tests.libraries import EAGER, to_numpy
from tests.solvers.test_conditional_gradient import arguments, random_problem, scale
from tests.strategies import couplings, pairs, vertex
from tests.whole.test_array_libraries import drawn_pair

QUIET = pytest.mark.filterwarnings("ignore::gwtools.ConvergenceWarning")
KINDS = ["euclidean", "dense", "gram"]
FORMS = ["plan", "both"]


def entropic(problem, share, **options):
    """A solver at a share of the variation of a problem as its fixed ε."""
    epsilon = share * problem.detached().variation
    return gw.Sinkhorn(epsilon=epsilon, proximal=False, **options)


def previous(x, y, solver):
    """The plan and the potentials that a solver ends with."""
    outcome = solver.run(gw.GWProblem(x, y))
    return outcome.plan, outcome.potentials


def start_of(form, plan, potentials):
    return {
        "plan": plan,
        "potentials": potentials,
        "both": (plan, potentials),
        "product with potentials": ("product", potentials),
    }[form]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [1e-3, 1e-2, 0.03])
def test_a_fixed_point_is_recognised_at_once(kind, share, form):
    x, y = (s.space() for s in random_problem(kind, 13, 9, 2))
    solver = entropic(gw.GWProblem(x, y), share)
    cold = gw.solve(x, y, solver)
    assert cold.status is gw.Status.FIXED_POINT
    init = start_of(form, *previous(x, y, solver))
    warm = gw.solve(x, y, entropic(gw.GWProblem(x, y), share, init=init))
    assert warm.status is gw.Status.FIXED_POINT
    assert warm.iterations == 1 < cold.iterations
    assert np.array_equal(warm.plan.dense(), cold.plan.dense())


@pytest.mark.parametrize(("n", "m"), [(12, 17), (17, 12)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_first_kernel_of_a_fixed_point_is_scaled_already(kind, n, m):
    """Its plan tells the scalings: log π is the exponent plus u_i + v_j.

    Up to ‖π − π⁺‖² ≤ 2 KL, where ε KL is at most the gap.
    """
    x, y = (s.space() for s in random_problem(kind, n, m, 4))
    problem = gw.GWProblem(x, y)
    tolerance, share = 1e-12, 0.03
    solver = entropic(problem, share, tolerance=tolerance, max_iterations=5000)
    plan, (f, g) = previous(x, y, solver)
    final = solver.final_epsilon(problem)
    for init in (plan, (plan, (f, g))):
        state = first_state(problem, init, final, 0.0, False)
        exponent = -problem.gradient(state.cross) / final
        masses = np.exp(exponent + state.u[:, None] + state.v[None, :])
        moved = np.abs(masses - plan.dense()).sum()
        assert moved <= (2 * tolerance / share) ** 0.5


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(3))
def test_near_problems_are_near_starts(form, seed):
    """Another ε, or data that changed a little: the same plan in fewer iterations."""
    x, y = (s.space() for s in random_problem("euclidean", 13, 9, seed))
    solver = entropic(gw.GWProblem(x, y), 0.2)
    init = start_of(form, *previous(x, y, solver))
    rng = np.random.default_rng(seed)
    moved = x.with_data(x.data + 1e-3 * rng.standard_normal(x.data.shape), x.weights)
    fewer = 0
    for near, share in ((x, 0.18), (moved, 0.2)):
        problem = gw.GWProblem(near, y)
        cold = gw.solve(near, y, entropic(problem, share, tolerance=1e-8))
        warm = gw.solve(near, y, entropic(problem, share, tolerance=1e-8, init=init))
        assert warm.status is gw.Status.FIXED_POINT
        assert np.abs(warm.plan.dense() - cold.plan.dense()).sum() <= 1e-3
        fewer += cold.iterations - warm.iterations
    assert fewer > 0


@pytest.mark.parametrize("form", ["potentials", "product with potentials"])
@pytest.mark.parametrize("kind", KINDS)
def test_potentials_alone_change_no_kernel(kind, form):
    """A kernel's plan does not depend on what it is scaled from."""
    x, y = (s.space() for s in random_problem(kind, 13, 9, 2))
    problem = gw.GWProblem(x, y)
    solver = entropic(problem, 0.05, max_iterations=1, tolerance=1e-12)
    init = start_of(form, *previous(x, y, entropic(problem, 0.05)))
    warm = entropic(problem, 0.05, max_iterations=1, tolerance=1e-12, init=init)
    with pytest.warns(gw.ConvergenceWarning):
        expected = gw.solve(x, y, solver).plan.dense()
    with pytest.warns(gw.ConvergenceWarning):
        found = gw.solve(x, y, warm).plan.dense()
    assert np.abs(found - expected).sum() <= 1e-9


@pytest.mark.parametrize("size", [-1e2, 1e5, 1e10, 1e300])
@pytest.mark.parametrize("proximal", [True, False])
@pytest.mark.parametrize("with_plan", [True, False])
def test_potentials_that_do_not_suit_do_no_harm(size, proximal, with_plan):
    """A kernel is scaled from nothing where its dual is larger there."""
    x, y = (s.space() for s in random_problem("euclidean", 13, 9, 2))
    rng = np.random.default_rng(0)
    pair = (size * rng.standard_normal(13), size * rng.standard_normal(9))
    plain = "product"
    init = pair
    if with_plan:
        plain = gw.solve(x, y, gw.Sorted()).plan
        init = (plain, pair)
    expected = gw.solve(x, y, gw.Sinkhorn(proximal=proximal, init=plain))
    found = gw.solve(x, y, gw.Sinkhorn(proximal=proximal, init=init))
    assert found.status is expected.status
    assert found.iterations <= expected.iterations + 5
    assert float(found.objective) <= float(expected.objective) * (1 + 1e-4)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_proximal_steps_keep_a_plan_at_rest(kind, form):
    x, y = (s.space() for s in random_problem(kind, 13, 9, 2))
    cold = gw.solve(x, y, gw.Sinkhorn())
    init = start_of(form, *previous(x, y, gw.Sinkhorn()))
    warm = gw.solve(x, y, gw.Sinkhorn(init=init))
    assert warm.status.success
    assert warm.iterations <= 4 < cold.iterations
    assert float(warm.objective) <= float(cold.objective) * (1 + 1e-12)
    assert np.abs(warm.plan.dense() - cold.plan.dense()).sum() <= 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_proximal_kernel_of_a_plan_at_rest_is_scaled_already(kind):
    """Potentials of a linear program are ∇F where its vertex has mass.

    Up to the share of a ⊗ b in what the kernel is relative to.
    """
    x, y = (s.space() for s in random_problem(kind, 13, 9, 2))
    problem = gw.GWProblem(x, y)
    solver = gw.Sinkhorn()
    plan, pair = previous(x, y, solver)
    final = solver.final_epsilon(problem)
    state = first_state(problem, (plan, pair), final, 0.0, True)
    exponent = state.exponent - problem.gradient(state.cross) / final
    masses = np.exp(exponent + state.u[:, None] + state.v[None, :])
    assert np.abs(masses - plan.dense()).sum() <= 4 * SHARE_OF_PRODUCT


@QUIET
@pytest.mark.parametrize("proximal", [True, False])
@given(pair=pairs(null=True), steps=st.integers(1, 20), data=st.data())
def test_no_step_climbs_from_a_given_plan(proximal, pair, steps, data):
    """Objective, or objective plus ε KL, are at most those of the start."""
    x, y = pair
    given_plan = data.draw(couplings(x.weights, y.weights))
    epsilon = None if proximal else max(0.1 * scale(x, y), 1e-200)
    solver = gw.Sinkhorn(
        proximal=proximal, epsilon=epsilon, max_iterations=steps, init=given_plan
    )
    result = gw.solve(x.space(), y.space(), solver)
    checkers.check_result(result, *arguments(x, y))
    value = checkers.objective(x.matrix, y.matrix, given_plan)
    found = float(result.objective)
    if not proximal:
        value += epsilon * entropy(given_plan, x.weights, y.weights)
        found = float(result.regularized)
    assert found <= value + 1e-11 * scale(x, y)


def entropy(plan, a, b):
    """KL(π | a ⊗ b)."""
    mass = plan[plan > 0]
    product = np.outer(a, b)[plan > 0]
    return float((mass * np.log(mass / product)).sum())


def test_proximal_steps_leave_the_support_of_a_sparse_plan():
    """Without conditional gradient after them, too, as on other devices.

    The plan matches a path of weighted atoms to its copy in a wrong order.
    """
    rng = np.random.default_rng(0)
    points = rng.standard_normal((7, 2))
    C = checkers.euclidean(points)
    wrong = np.eye(7)[[1, 0, 2, 3, 4, 5, 6]] / 7
    problem = gw.GWProblem(gw.DenseSpace(C), gw.DenseSpace(C))
    solver = gw.Sinkhorn(init=wrong)
    state = solver.start(problem)
    for _ in range(10):
        state = solver.step(problem, state)
    moved = np.abs(state.matrix - wrong).sum()
    assert moved > 0.1
    assert checkers.objective(C, C, state.matrix) < checkers.objective(C, C, wrong)


@pytest.mark.parametrize("seed", range(4))
def test_a_plan_above_the_product_coupling_is_no_reason_to_restart(seed):
    """A start that is worse than a ⊗ b is left by steps, not kept for ever."""
    x, y = random_problem("dense", 9, 8, seed)
    product = np.outer(x.weights, y.weights)
    value = checkers.objective(x.matrix, y.matrix, product)
    rng = np.random.default_rng(seed)
    starts = [
        vertex(x.weights, y.weights, rng.permutation(9), rng.permutation(8))
        for _ in range(20)
    ]
    start = max(starts, key=lambda plan: checkers.objective(x.matrix, y.matrix, plan))
    assert checkers.objective(x.matrix, y.matrix, start) > value
    result = gw.solve(x.space(), y.space(), gw.Sinkhorn(init=start))
    assert result.status.success
    assert result.iterations < 200
    assert float(result.objective) < value
    # Steps go on from the given plan: those from two plans end apart.
    problem = gw.GWProblem(x.space(), y.space())
    ends = []
    for plan in (start, np.mean(starts, axis=0)):
        solver = gw.Sinkhorn(init=plan)
        ends.append(solver.step(problem, solver.start(problem)).matrix)
    assert np.abs(ends[0] - ends[1]).sum() > 0.1


@pytest.mark.parametrize("factor", [1e100, 1e-100])
@pytest.mark.parametrize("form", [*FORMS, "potentials"])
@pytest.mark.parametrize("proximal", [True, False])
def test_units(factor, form, proximal):
    """Potentials are in squared units of C, whatever units these are."""
    pair = random_problem("euclidean", 8, 6, 1)
    x, y = (s.space() for s in pair)
    epsilon = 0.05 * gw.GWProblem(x, y).variation
    plan, (f, g) = previous(x, y, gw.Sinkhorn(epsilon=epsilon, proximal=proximal))
    here = gw.Sinkhorn(
        epsilon=epsilon, proximal=proximal, init=start_of(form, plan, (f, g))
    )
    squared = factor * factor
    there = gw.Sinkhorn(
        epsilon=epsilon * squared,
        proximal=proximal,
        init=start_of(form, plan, (f * squared, g * squared)),
    )
    expected = gw.solve(x, y, here)
    found = gw.solve(*(s.scaled(factor).space() for s in pair), there)
    assert found.status is expected.status
    assert found.iterations == expected.iterations
    assert np.abs(found.plan.dense() - expected.plan.dense()).sum() <= 1e-6


@pytest.mark.parametrize("form", [*FORMS, "potentials"])
@pytest.mark.parametrize("proximal", [True, False])
def test_atoms_without_weight(form, proximal):
    """Rows of a plan and potentials of such atoms are left out."""
    x, y = random_problem("dense", 6, 5, 2)
    solver = gw.Sinkhorn(epsilon=0.1, proximal=proximal)
    plan, (f, g) = previous(x.space(), y.space(), solver)
    init = start_of(form, plan.dense(), (f, g))
    expected = gw.solve(
        x.space(), y.space(), gw.Sinkhorn(epsilon=0.1, proximal=proximal, init=init)
    )
    padded = gw.DenseSpace(np.pad(x.matrix, (1, 0)), np.append(0.0, x.weights))
    more = start_of(
        form, np.pad(plan.dense(), ((1, 0), (0, 0))), (np.append(1e9, f), g)
    )
    found = gw.solve(
        padded, y.space(), gw.Sinkhorn(epsilon=0.1, proximal=proximal, init=more)
    )
    assert found.iterations == expected.iterations
    assert np.array_equal(found.plan.dense()[1:], expected.plan.dense())


@pytest.mark.parametrize("library", EAGER, indirect=True, ids=str)
@pytest.mark.parametrize("form", [*FORMS, "potentials"])
@pytest.mark.parametrize("proximal", [True, False])
def test_array_libraries(library, form, proximal):
    pair = drawn_pair("euclidean", library.dtype)
    x, y = (s.space(library.array) for s in pair)
    solver = gw.Sinkhorn(epsilon=0.5, proximal=proximal)
    plan, potentials = previous(x, y, solver)
    init = start_of(form, plan, potentials)
    cold = gw.solve(x, y, solver)
    warm = gw.solve(x, y, gw.Sinkhorn(epsilon=0.5, proximal=proximal, init=init))
    assert library.owns(warm.plan.dense())
    assert library.owns(warm.objective)
    assert warm.status.success
    assert warm.iterations <= (3 if form in FORMS else cold.iterations)
    difference = np.abs(to_numpy(warm.plan.dense()) - to_numpy(cold.plan.dense()))
    assert difference.sum() <= 1e-3


@pytest.mark.parametrize("form", [*FORMS, "potentials"])
def test_gradients_are_those_of_a_cold_start(form):
    torch = pytest.importorskip("torch")
    pair = random_problem("euclidean", 7, 6, 2)
    epsilon = 0.1 * gw.GWProblem(*(s.space() for s in pair)).variation
    gradients = []
    init = "product"
    for _ in range(2):
        spaces = [s.space(lambda v: torch.asarray(v).requires_grad_()) for s in pair]
        solver = gw.Sinkhorn(
            epsilon=epsilon, proximal=False, tolerance=1e-12, init=init
        )
        result = gw.solve(*spaces, solver)
        data = [s.data for s in spaces] + [s.weights for s in spaces]
        gradients.append(torch.autograd.grad(result.regularized, data))
        init = start_of(form, *previous(*spaces, solver))
    for cold, warm in zip(*gradients, strict=True):
        difference = cold - warm
        if cold.ndim == 1:
            # Those in weights are along changes that keep their mass.
            difference = difference - difference.mean()
        assert float(difference.abs().max()) <= 1e-6 * float(cold.abs().max())


def test_a_constant_objective_returns_the_given_plan():
    """No coupling is better, and the one that was given is as good as any."""
    given_plan = np.eye(3) / 3
    result = gw.solve(np.zeros((3, 3)), np.zeros((3, 3)), gw.Sinkhorn(init=given_plan))
    assert np.array_equal(result.plan.dense(), given_plan)
    assert result.status is gw.Status.GLOBAL


@pytest.mark.parametrize("proximal", [True, False])
def test_batches_solve_problems_with_a_given_start_by_themselves(proximal):
    """As those of conditional gradient: the start has to fit every pair."""
    xs, ys = [], []
    for seed in (1, 2):
        x, y = random_problem("euclidean", 6, 5, seed)
        xs.append(gw.PointCloud(x.data))
        ys.append(gw.PointCloud(y.data))
    uniform = np.full((6, 5), 1 / 30)
    uniform[:2, :2] += 0.01 * np.array([[1, -1], [-1, 1]])
    solver = gw.Sinkhorn(epsilon=0.5, proximal=proximal, init=uniform)
    for found, x, y in zip(gw.solve_batch(xs, ys, solver), xs, ys, strict=True):
        expected = gw.solve(x, y, solver)
        assert found.as_dict() == expected.as_dict()
        assert np.array_equal(found.plan.dense(), expected.plan.dense())
    with pytest.raises(ValueError, match=r"xs\[1\] and ys\[1\]: init must have shape"):
        gw.solve_batch([xs[0], ys[1]], ys, solver)


def test_what_is_shown():
    assert str(gw.Sinkhorn()) == "Sinkhorn()"
    assert str(gw.Sinkhorn(init=np.eye(2) / 2)) == "Sinkhorn(init=…)"
    pair = (np.zeros(2), np.zeros(2))
    assert str(gw.Sinkhorn(init=pair)) == "Sinkhorn(init=…)"


def test_potentials_at_a_product_that_is_kept_are_the_slopes_of_the_weights():
    # Constant row means: at a large ε the product coupling is the answer.
    C = 1 - np.eye(3)
    y = gw.DenseSpace(1 - np.eye(2))
    a = np.array([0.5, 0.3, 0.2])
    solver = gw.Sinkhorn(epsilon=50.0, proximal=False)

    def least(weights):
        return float(gw.solve(gw.DenseSpace(C, weights), y, solver).regularized)

    weights = torch.tensor(a, requires_grad=True)
    tracked = gw.DenseSpace(torch.tensor(C), weights)
    held = gw.DenseSpace(torch.tensor(y.dense()), torch.tensor(y.weights))
    result = gw.solve(tracked, held, solver)
    assert result.iterations == 0
    result.regularized.backward()
    for change in ([1.0, -1.0, 0.0], [0.0, 1.0, -1.0]):
        step = 1e-6 * np.array(change)
        slope = (least(a + step) - least(a - step)) / 2e-6
        found = float(weights.grad.numpy() @ change)
        assert found == pytest.approx(slope, abs=1e-6)
