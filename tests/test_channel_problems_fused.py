"""Features beside directed spaces and other losses: solved, with gradients."""

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from tests import channel_problems, checkers
from tests.libraries import EAGER, Library, to_numpy

LOSSES = ["square", "kl", "absolute"]
ONE = gw.ConditionalGradient()


def drawn(seed, loss="square", directed=True):
    """Two spaces, costs of either sign between them, and their data."""
    C, a, D, b, rng = channel_problems.drawn(seed, loss, directed)
    features = rng.standard_normal((len(a), len(b)))
    x, y = channel_problems.spaces(C, a, D, b, directed)
    return x, y, features, (C, a, D, b), rng


def objective(data, features, alpha, plan, loss):
    """Of a plan, term by term."""
    C, _, D, _ = data
    structure = channel_problems.objective(C, D, plan, loss)
    return alpha * structure + (1 - alpha) * float((features * plan).sum())


@pytest.mark.parametrize("solver", [None, ONE, gw.Sinkhorn()], ids=str)
@pytest.mark.parametrize(
    ("loss", "directed"), [*((k, True) for k in LOSSES), ("kl", 0)]
)
@settings(max_examples=2, deadline=None)
@given(seed=st.integers(0, 10**6), alpha=st.sampled_from([0.1, 0.5, 0.9]))
def test_results_are_what_they_claim(loss, directed, solver, seed, alpha):
    """The objective is recomputed, the plan is stationary, no plan is below."""
    x, y, features, data, rng = drawn(seed, loss, bool(directed))
    C, a, D, b = data
    given = {"features": features, "alpha": alpha, "loss": loss}
    result = gw.solve(x, y, solver, effort="cubic", **given)
    plan = np.asarray(result.plan)
    assert checkers.coupling_error(plan, a, b) <= 1e-12
    found = objective(data, features, alpha, plan, loss)
    assert float(result.objective) == pytest.approx(found, abs=1e-11)
    certificate = result.certificate
    assert certificate.lower <= float(result.objective) <= certificate.upper
    names = {"joint row_means", "joint third", "nonnegativity + transport"}
    assert set(certificate.bounds) == names
    slope = alpha * channel_problems.gradient(C, D, plan, loss)
    slope = slope + (1 - alpha) * features
    least = checkers.linear_program(slope, a, b)
    assert float((slope * plan).sum()) - least <= 1e-6
    for _ in range(3):
        other = np.asarray(channel_problems.random_plan(a, b, rng))
        reached = objective(data, features, alpha, other, loss)
        assert certificate.lower <= reached
        certified = gw.certify(x, y, other, **given)
        assert certified.lower <= min(found, reached) + 1e-12
        assert reached - 1e-12 <= certified.upper <= reached + 1e-10


@pytest.mark.parametrize("loss", LOSSES)
def test_joint_bounds_are_programs_of_both_terms(loss):
    """At least the sum of both bounds; with costs of 0 the share of the plain one."""
    x, y, features, (_, a, _, b), _ = drawn(5, loss)
    plain = gw.certify(x, y, effort="cubic", loss=loss)
    least = checkers.linear_program(features, a, b)
    for alpha in (0.3, 0.8):
        given = {"alpha": alpha, "loss": loss, "effort": "cubic"}
        fused = gw.certify(x, y, features=features, **given)
        alone = gw.certify(x, y, features=0 * features, **given)
        for name in ("row_means", "third"):
            total = alpha * plain.bounds[name] + (1 - alpha) * least
            assert fused.bounds[f"joint {name}"] >= total - 1e-11
            share = alpha * plain.bounds[name]
            assert alone.bounds[f"joint {name}"] == pytest.approx(share, abs=1e-11)
        assert alone.bounds["nonnegativity + transport"] == pytest.approx(0, abs=1e-13)


@pytest.mark.parametrize("loss", LOSSES)
def test_at_share_0_it_is_linear_transport(loss):
    x, y, features, (_, a, _, b), _ = drawn(6, loss)
    result = gw.solve(x, y, features=features, alpha=0, loss=loss)
    assert float(result.objective) == pytest.approx(ot.emd2(a, b, features), abs=1e-13)
    assert result.certificate.kind is gw.Kind.GLOBAL
    assert result.certificate.bound == "transport"


@pytest.mark.parametrize("loss", LOSSES)
def test_at_share_1_it_is_the_plain_problem(loss):
    """Bit for bit."""
    x, y, features, _, _ = drawn(7, loss)
    plain = gw.solve(x, y, loss=loss)
    fused = gw.solve(x, y, features=features, alpha=1, loss=loss)
    assert np.array_equal(fused.plan.dense(), plain.plan.dense())
    assert fused.certificate == plain.certificate
    assert repr(fused) == repr(plain)


def test_a_constant_is_added_to_the_objective_and_to_both_ends():
    x, y, features, _, _ = drawn(8, "kl")
    given = {"alpha": 0.4, "loss": "kl", "effort": "cubic"}
    here = gw.solve(x, y, ONE, features=features, **given)
    there = gw.solve(x, y, ONE, features=features + 2.0, **given)
    for name in ("lower", "upper"):
        ends = [getattr(found.certificate, name) for found in (here, there)]
        assert ends[1] == pytest.approx(ends[0] + 0.6 * 2.0, abs=1e-12)
    assert float(there.objective) == pytest.approx(float(here.objective) + 1.2)


@pytest.mark.parametrize("loss", ["square", "kl"])
def test_gradients_in_features_and_share_are_finite_differences(loss):
    """And those in C, which are the share of the plain ones."""
    torch = pytest.importorskip("torch")
    x, y, features, (C, a, D, b), rng = drawn(9, loss)
    C = C + 0.1  # away from zeros, where the divergence has no derivative
    x = gw.DenseSpace(C, a, directed=True)
    given = {"features": features, "alpha": 0.5, "loss": loss}
    start = np.asarray(gw.solve(x, y, **given).plan)

    def value(C, features, alpha):
        solver = gw.ConditionalGradient(init=start)
        x = gw.DenseSpace(C, a, directed=True)
        result = gw.solve(x, y, solver, features=features, alpha=alpha, loss=loss)
        return float(result.objective)

    leaves = [torch.tensor(v, requires_grad=True) for v in (C, features)]
    alpha = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    solver = gw.ConditionalGradient(init=gw.DensePlan(torch.tensor(start)))
    result = gw.solve(
        gw.DenseSpace(leaves[0], torch.tensor(a), directed=True),
        gw.DenseSpace(torch.tensor(D), torch.tensor(b), directed=True),
        solver,
        features=leaves[1],
        alpha=alpha,
        loss=loss,
    )
    result.objective.backward()
    step = 1e-6
    there = rng.standard_normal(C.shape), rng.standard_normal(features.shape), 1.0
    grads = leaves[0].grad.numpy(), leaves[1].grad.numpy(), alpha.grad.numpy()
    for place, (direction, gradient) in enumerate(zip(there, grads, strict=True)):
        ends = []
        for sign in (1, -1):
            data = [C, features, 0.5]
            data[place] = data[place] + sign * step * direction
            ends.append(value(*data))
        slope = (ends[0] - ends[1]) / (2 * step)
        assert np.sum(gradient * direction) == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("library", EAGER, ids=str)
def test_every_library_finds_the_plan_of_numpy(library: Library):
    x, y, features, (C, a, D, b), _ = drawn(10)
    one = gw.ConditionalGradient(exchange=False)
    expected = gw.solve(x, y, one, features=features, alpha=0.5)
    spaces = (
        gw.DenseSpace(library.array(M), library.array(w), directed=True)
        for M, w in ((C, a), (D, b))
    )
    found = gw.solve(*spaces, one, features=library.array(features), alpha=0.5)
    assert library.owns(found.objective)
    assert float(found.objective) == pytest.approx(
        float(expected.objective), rel=library.rtol, abs=1e-6
    )
    assert found.certificate.lower <= float(found.objective)
    assert to_numpy(found.plan.dense()).shape == features.shape


def test_atoms_without_weight_and_their_costs_change_nothing():
    x, y, features, (_, _, D, b), _ = drawn(11)
    plain = gw.solve(x, y, ONE, features=features, alpha=0.5)
    with_null = np.full((len(D) + 1, len(D) + 1), -1.0)
    with_null[1:, 1:] = D
    more = np.full((len(features), 1), 1e9)
    wider = gw.DenseSpace(with_null, np.append(0.0, b), directed=True)
    found = gw.solve(
        x, wider, ONE, features=np.concatenate([more, features], axis=1), alpha=0.5
    )
    assert float(found.objective) == float(plain.objective)
    assert np.array_equal(found.plan.dense()[:, 1:], plain.plan.dense())


def test_a_result_says_that_it_is_fused(tmp_path):
    x, y, features, _, _ = drawn(12, "kl")
    result = gw.solve(x, y, features=features, alpha=0.5, loss="kl")
    assert str(result).startswith("Fused Gromov-Wasserstein of the loss 'kl' between")
    assert "the share of the loss" in str(result)
    result.save(tmp_path / "result.npz")
    loaded = gw.GWResult.load(tmp_path / "result.npz")
    assert str(loaded) == str(result)
    with pytest.raises(ValueError, match=r"read result\.objective"):
        _ = result.distance
