"""Directed spaces and other losses, solved: libraries, gradients, potentials."""

import numpy as np
import pytest

import gwtools as gw
from gwtools.channel_problems import ChannelProblem, read_loss
from gwtools.solvers.exchange import Atoms
from tests import channel_problems, checkers
from tests.libraries import LIBRARIES

SOLVERS = [
    gw.ConditionalGradient(),
    gw.Sinkhorn(),
    gw.Sinkhorn(epsilon=0.2, proximal=False, tolerance=1e-12),
]
LOSSES = ["square", "kl", "absolute"]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_solvers_end_at_stationary_plans(solver, loss):
    C, a, D, b, _ = channel_problems.drawn(11, loss)
    x, y = channel_problems.spaces(C, a, D, b)
    result = gw.solve(x, y, solver, loss=loss)
    plan = np.asarray(result.plan)
    assert checkers.coupling_error(plan, a, b) <= 1e-12
    expected = channel_problems.objective(C, D, plan, loss)
    assert float(result.objective) == pytest.approx(expected, rel=1e-11)
    assert result.certificate.lower <= expected <= result.certificate.upper
    slope = channel_problems.gradient(C, D, plan, loss)
    if getattr(solver, "proximal", True):
        least = checkers.linear_program(slope, a, b)
        assert np.sum(slope * plan) - least <= 1e-6
    else:
        # At a fixed ε the plan is a kernel of the gradient.
        centred = slope + 0.2 * np.log(plan / np.outer(a, b))
        centred = centred - centred.mean(axis=1)[:, None] - centred.mean(axis=0)
        assert np.ptp(centred) <= 1e-4
        penalty = 0.2 * np.sum(plan * np.log(plan / np.outer(a, b)))
        assert float(result.regularized) == pytest.approx(expected + penalty)


# JAX compiles for half a minute what the others compute at once.
QUICK = [library for library in LIBRARIES if library.name != "jax"]


@pytest.mark.parametrize("library", QUICK, ids=str)
def test_every_library_finds_the_plan_of_numpy(library):
    for loss in ("square", "kl"):
        C, a, D, b, _ = channel_problems.drawn(22, loss)
        # Mixtures are lists in NumPy alone, and only these exchange atoms.
        one = gw.ConditionalGradient(exchange=False)
        expected = gw.solve(*channel_problems.spaces(C, a, D, b), one, loss=loss)
        with library.active():
            x, y = (
                gw.DenseSpace(library.array(M), library.array(w), directed=True)
                for M, w in ((C, a), (D, b))
            )
            found = gw.solve(x, y, one, loss=loss)
            assert library.owns(found.objective)
            assert float(found.objective) == pytest.approx(
                float(expected.objective), rel=library.rtol, abs=1e-6
            )
            assert found.certificate.lower <= float(found.objective)


def test_a_symmetric_matrix_passed_as_directed_is_the_undirected_one():
    C, a, D, b, _ = channel_problems.drawn(13, directed=False)
    plain = gw.solve(*channel_problems.spaces(C, a, D, b, directed=False))
    towards = gw.solve(*channel_problems.spaces(C, a, D, b, directed=True))
    assert float(towards.objective) == float(plain.objective)
    assert towards.certificate == plain.certificate
    one = gw.DenseSpace(C, a, directed=True)
    turned = gw.DenseSpace(D + 1e-9 * np.triu(D), b, directed=True)
    nearly = gw.solve(one, turned)
    assert float(nearly.objective) == pytest.approx(float(plain.objective), rel=1e-6)


def gradients(C, a, D, b, loss, plan):
    """By torch: of the objective in C, D, a and b at a start."""
    torch = pytest.importorskip("torch")
    leaves = [torch.tensor(v, requires_grad=True) for v in (C, a, D, b)]
    x = gw.DenseSpace(leaves[0], leaves[1], directed=True)
    y = gw.DenseSpace(leaves[2], leaves[3], directed=True)
    start = gw.DensePlan(torch.tensor(plan))
    result = gw.solve(x, y, gw.ConditionalGradient(init=start), loss=loss)
    result.objective.backward()
    return [leaf.grad.numpy() for leaf in leaves]


@pytest.mark.parametrize("loss", ["square", "kl"])
def test_gradients_are_those_of_finite_differences(loss):
    C, a, D, b, rng = channel_problems.drawn(14, loss)
    C = C + 0.1
    plan = np.asarray(gw.solve(*channel_problems.spaces(C, a, D, b), loss=loss).plan)

    def value(changes):
        data = [v + change for v, change in zip((C, a, D, b), changes, strict=True)]
        start = gw.round_plan(plan, data[1], data[3])
        solver = gw.ConditionalGradient(init=start)
        x, y = channel_problems.spaces(*data)
        return float(gw.solve(x, y, solver, loss=loss).objective)

    found = gradients(C, a, D, b, loss, plan)
    zeros = [np.zeros_like(v) for v in (C, a, D, b)]
    for place, gradient in enumerate(found):
        direction = rng.standard_normal(gradient.shape)
        if place % 2:
            direction -= direction.mean()  # of weights: their mass stays
        step = 1e-6
        there, back = list(zeros), list(zeros)
        there[place], back[place] = step * direction, -step * direction
        slope = (value(there) - value(back)) / (2 * step)
        assert np.sum(gradient * direction) == pytest.approx(slope, abs=1e-6)
    assert np.abs(found[0] - found[0].T).max() > 1e-3  # entries have a direction


def test_gradients_of_a_dense_plan_are_those_of_its_sum():
    torch = pytest.importorskip("torch")
    C, a, D, b, _ = channel_problems.drawn(15)
    values = torch.tensor(C, requires_grad=True)
    x = gw.DenseSpace(values, torch.tensor(a), directed=True)
    y = gw.DenseSpace(torch.tensor(D), torch.tensor(b), directed=True)
    fixed = gw.Sinkhorn(epsilon=0.05, proximal=False)
    result = gw.solve(x, y, fixed)
    result.objective.backward()
    plan = np.asarray(result.plan)
    # 2 (C_ik − D_jl) π_ij π_kl, summed over j and l.
    masses = plan.sum(axis=1)
    expected = 2 * (C * np.outer(masses, masses) - plan @ D @ plan.T)
    assert np.abs(values.grad.numpy() - expected).max() <= 1e-9


@pytest.mark.parametrize("loss", LOSSES)
def test_atoms_without_weight_change_nothing(loss):
    C, a, D, b, _ = channel_problems.drawn(16, loss)
    one = gw.ConditionalGradient()
    plain = gw.solve(*channel_problems.spaces(C, a, D, b), one, loss=loss)
    with_null = np.full((len(D) + 1, len(D) + 1), -1.0)
    with_null[1:, 1:] = D
    x, y = channel_problems.spaces(C, a, with_null, np.append(0.0, b))
    found = gw.solve(x, y, one, loss=loss)
    assert float(found.objective) == float(plain.objective)
    assert np.array_equal(found.plan.dense()[:, 1:], plain.plan.dense())
    assert np.all(np.isfinite(found.potentials[1]))
    f, g = plain.potentials
    assert np.allclose(found.potentials[0] - f, (found.potentials[0] - f)[0])
    # Both solve the dual of the program at the plan.
    slope = channel_problems.gradient(C, D, np.asarray(plain.plan), loss)
    gaps = slope - (slope @ b)[:, None] - (a @ slope - a @ slope @ b)
    gaps = gaps - (f - a @ f)[:, None] - (g - b @ g)
    assert np.ptp(gaps[np.asarray(plain.plan) > 1e-9]) <= 1e-9


@pytest.mark.parametrize("loss", ["square", "kl"])
def test_atoms_without_weight_have_potentials_of_their_own_costs(loss):
    """Also where all values are far from 0, and near to each other."""
    rng = np.random.default_rng(23)
    C, D = 100 + rng.random((5, 5)), 100 + rng.random((4, 4))
    a, b = rng.dirichlet(np.ones(5)), np.append(0.0, rng.dirichlet(np.ones(3)))
    x, y = channel_problems.spaces(C, a, D, b)
    result = gw.solve(x, y, gw.ConditionalGradient(), loss=loss)
    f, g = result.potentials
    cost = ChannelProblem(x, y, loss=read_loss(loss, x, y)).linearize(result.plan)
    assert g[0] == pytest.approx((cost[:, 0] - f).min(), abs=1e-11)


def test_slopes_after_an_exchange_are_those_of_its_plan():
    C, a, D, b, rng = channel_problems.drawn(24)
    problem = ChannelProblem(*channel_problems.spaces(C, a, D, b))
    plan = channel_problems.listed(channel_problems.random_plan(a, b, rng))
    atoms = Atoms.of(problem, plan, problem.linearize(plan))
    best = atoms.best()
    after = atoms.after(best)
    there = after.plan(plan)
    change = float(problem.objective(there)) - float(problem.objective(plan))
    assert change == pytest.approx(best.change, abs=1e-12)
    fresh = problem.linearize(there)[after.rows][:, after.cols]
    assert np.abs(after.slopes - fresh).max() <= 1e-12


def test_results_of_a_loss_are_saved_and_loaded(tmp_path):
    C, a, D, b, _ = channel_problems.drawn(17, "kl")
    result = gw.solve(*channel_problems.spaces(C, a, D, b), loss="kl")
    result.save(tmp_path / "result.npz")
    loaded = gw.GWResult.load(tmp_path / "result.npz")
    assert loaded.loss == "kl"
    assert loaded.certificate == result.certificate
    assert str(loaded) == str(result)


def test_exchanges_lower_the_objective_of_directed_spaces():
    """At a stationary vertex, and each by what it promises."""
    C, a, D, b, _ = channel_problems.drawn(18, least=6, most=9)
    n = min(len(a), len(b))
    C, D = C[:n, :n], D[:n, :n]
    x, y = (gw.DenseSpace(M, directed=True) for M in (C, D))
    start = gw.DensePlan(np.eye(n) / n)
    values = []
    for exchange in (False, True):
        solver = gw.ConditionalGradient(init=start, exchange=exchange)
        result = gw.solve(x, y, solver)
        expected = channel_problems.objective(C, D, np.asarray(result.plan))
        assert float(result.objective) == pytest.approx(expected, rel=1e-12)
        assert result.history[-1].objective == pytest.approx(expected, rel=1e-12)
        values.append(expected)
    assert values[1] <= values[0]


def test_progress_and_stop_are_in_the_units_of_the_loss():
    C, a, D, b, _ = channel_problems.drawn(19, "kl")
    x, y = channel_problems.spaces(C, a, D, b)
    steps = []
    result = gw.solve(x, y, gw.ConditionalGradient(), loss="kl", callback=steps.append)
    assert steps[-1].objective == pytest.approx(float(result.objective), rel=1e-9)
    stopped = gw.solve(x, y, loss="kl", callback=lambda step: True)
    assert stopped.status is gw.Status.STOPPED
