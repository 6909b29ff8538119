"""Features beside free marginals, from end to end: known answers, bounds, gradients."""

import itertools
import warnings

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize_scalar

import gwtools as gw
from tests import checkers, free_plans, unbalanced_plans
from tests.libraries import EAGER, Library, to_numpy

FIXED = ["semi_relaxed", gw.Partial(0.7)]
PRICED = [gw.Unbalanced((0.3, 0.5)), gw.Unbalanced(0.3, "tv")]
KINDS = FIXED + PRICED
ONE = gw.ConditionalGradient()


def drawn(seed, marginals):
    """Two spaces, costs between them, of any sign where these are offered, and data."""
    C, a, D, b, rng = free_plans.drawn(seed, least=4, most=7)
    features = rng.standard_normal((len(a), len(b)))
    if getattr(marginals, "penalty", None) == "tv":
        features = np.abs(features)
    return gw.DenseSpace(C, a), gw.DenseSpace(D, b), features, (C, a, D, b), rng


def objective(data, features, alpha, plan, marginals):
    """Of a plan, term by term."""
    C, a, D, b = data
    structure = checkers.objective(C, D, plan)
    value = alpha * structure + (1 - alpha) * float((features * plan).sum())
    if isinstance(marginals, gw.Unbalanced):
        whole = unbalanced_plans.objective(C, a, D, b, plan, marginals)
        return value + whole - structure
    return value


@pytest.mark.parametrize("marginals", FIXED, ids=str)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10**6), alpha=st.sampled_from([0.1, 0.5, 0.9]))
def test_theorem_18_fused_results_are_what_they_claim(marginals, seed, alpha):
    """The objective is recomputed, no plan promises a decrease or is below a bound."""
    x, y, features, data, rng = drawn(seed, marginals)
    C, a, D, b = data
    given = {"features": features, "alpha": alpha, "marginals": marginals}
    result = gw.solve(x, y, ONE, effort="cubic", **given)
    plan = np.asarray(result.plan)
    assert free_plans.plan_error(plan, a, b, marginals) <= 1e-12
    found = objective(data, features, alpha, plan, marginals)
    assert float(result.objective) == pytest.approx(found, abs=1e-11)
    slope = alpha * checkers.gradient(C, D, plan) + (1 - alpha) * features
    least = free_plans.least_cost(slope, a, b, marginals)
    gap = float((slope * plan).sum()) - least
    assert gap <= 1e-7
    assert abs(gap - result.frank_wolfe_gap) <= 1e-8
    certificate = result.certificate
    assert certificate.lower <= float(result.objective) <= certificate.upper
    assert certificate.upper <= found + 1e-9
    names = {"nonnegativity + transport", "third + transport", "joint third"}
    assert set(certificate.bounds) == names
    # The program of both terms proves no less than both of them apart.
    apart = certificate.bounds["third + transport"]
    if marginals == "semi_relaxed":
        assert certificate.bounds["joint third"] >= apart - 1e-11
    for _ in range(5):
        other = free_plans.random_plan(a, b, marginals, rng)
        assert certificate.lower <= objective(data, features, alpha, other, marginals)


@pytest.mark.parametrize("marginals", PRICED, ids=str)
@settings(max_examples=2, deadline=None)
@given(seed=st.integers(0, 10**6), alpha=st.sampled_from([0.1, 0.5, 0.9]))
def test_theorem_18_fused_unbalanced_results_are_what_they_claim(
    marginals, seed, alpha
):
    """No mass and no part of it, nor any other plan tried, is better than the plan."""
    x, y, features, data, rng = drawn(seed, marginals)
    given = {"features": features, "alpha": alpha, "marginals": marginals}
    result = gw.solve(x, y, ONE, effort="cubic", **given)
    plan = np.asarray(result.plan)
    assert plan.min() >= 0
    found = objective(data, features, alpha, plan, marginals)
    assert float(result.objective) == pytest.approx(found, abs=1e-11)
    certificate = result.certificate
    assert certificate.lower <= float(result.objective) <= certificate.upper
    assert certificate.upper <= found + 1e-9
    others = [0 * plan, np.outer(x.weights, y.weights)]
    others += [factor * plan for factor in (0.9, 0.99, 1.01, 1.1)]
    for other in others:
        reached = objective(data, features, alpha, other, marginals)
        assert found <= reached + 1e-12
    for _ in range(20):
        other = rng.random() * 3 * rng.dirichlet(np.full(plan.size, 0.2))
        other = other.reshape(plan.shape)
        reached = objective(data, features, alpha, other, marginals)
        assert certificate.lower <= reached


@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 10**6), rho=st.sampled_from([0.05, 0.5, 5.0]))
def test_theorem_18_fused_divergences_are_stationary(seed, rho):
    """The derivative is 0 where the plan has mass, and nowhere below.

    But where an atom is left with nearly none, whose logarithm counts for nothing.
    """
    marginals = gw.Unbalanced(rho)
    x, y, features, (C, a, D, b), _ = drawn(seed, marginals)
    result = gw.solve(x, y, ONE, features=features, alpha=0.5, marginals=marginals)
    plan = np.asarray(result.plan)
    slope = 0.5 * checkers.gradient(C, D, plan) + 0.5 * features
    for side, weights in enumerate((a, b)):
        p = plan.sum(axis=1 - side)
        logs = np.log(np.maximum(p, 1e-300) / weights)
        change = 2 * rho * (p @ logs + plan.sum() * logs)
        slope = slope + (change[:, None] if side == 0 else change)
    assert np.abs(slope[plan > 1e-6]).max() <= 1e-3 * (1 + rho)
    kept = np.ix_(plan.sum(axis=1) > 1e-9, plan.sum(axis=0) > 1e-9)
    assert slope[kept].min() >= -1e-3 * (1 + rho)


@pytest.mark.parametrize("marginals", FIXED, ids=str)
def test_at_share_0_it_is_linear_transport(marginals):
    """Proved: each atom's least cost, or partial transport as POT solves it."""
    x, y, features, (_, a, _, b), _ = drawn(6, marginals)
    result = gw.solve(x, y, features=features, alpha=0, marginals=marginals)
    if marginals == "semi_relaxed":
        least = a @ features.min(axis=1)
    else:
        shifted = features - features.min()
        plan = ot.partial.partial_wasserstein(a, b, shifted, m=marginals.mass)
        least = float((plan * features).sum())
    assert float(result.objective) == pytest.approx(least, abs=1e-13)
    assert result.certificate.kind is gw.Kind.GLOBAL
    assert result.certificate.bound == "transport"


def test_at_share_0_total_variation_is_a_linear_program():
    marginals = gw.Unbalanced(0.3, "tv")
    x, y, features, (_, a, _, b), _ = drawn(7, marginals)
    result = gw.solve(x, y, features=features, alpha=0, marginals=marginals)
    n, m = features.shape
    sums = np.vstack([np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))])
    weights = np.concatenate([a, b])
    solved = linprog((features - 0.6).ravel(), A_ub=sums, b_ub=weights)
    assert float(result.objective) == pytest.approx(0.6 + solved.fun, abs=1e-12)
    assert result.certificate.kind is gw.Kind.GLOBAL


@pytest.mark.parametrize("price", [1e-3, 1.0, 1e4, 1e8])
def test_intervals_close_at_any_price(price):
    """What prices multiply float errors of masses by counts as float error."""
    marginals = gw.Unbalanced(price, "tv")
    x, y, features, _, _ = drawn(7, marginals)
    for costs in (features, 0 * features):
        result = gw.solve(x, y, features=costs, alpha=0, marginals=marginals)
        assert result.certificate.kind is gw.Kind.GLOBAL
        assert result.certificate.rounding <= 1e-11 * (price + 1)


@pytest.mark.parametrize("gained", [1e3, 1e5])
def test_costs_far_below_0_beside_a_small_price(gained):
    """More mass is better by far; one pair of cells says what mass."""
    C = np.array([[0.0, 1.0], [1.0, 0.0]])
    costs = np.full((2, 2), -gained)
    given = {"alpha": 0.5, "marginals": gw.Unbalanced(1.0)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gw.ConvergenceWarning)
        result = gw.solve(C, C, features=costs, **given)
    s = float(result.plan.masses.sum())
    # The derivative in s of s L − s gained / 2 and of the prices is 0.
    assert 8 * np.log(s) * s == pytest.approx(gained / 2, rel=1e-6)


@pytest.mark.parametrize("cost", [-0.7, 0.0, 0.4, 3.0])
def test_one_pair_of_atoms_has_the_best_mass(cost):
    """Among plans s of one pair the objective is a function of s alone."""
    x, y = gw.DenseSpace(np.array([[0.5]])), gw.DenseSpace(np.array([[1.5]]))
    given = {"features": np.array([[cost]]), "alpha": 0.25}
    result = gw.solve(x, y, **given, marginals=gw.Unbalanced((0.2, 0.3)))

    def value(s):
        penalty = 2 * s * s * np.log(s) - s * s + 1
        return 0.25 * s * s + 0.75 * cost * s + 0.5 * penalty

    least = minimize_scalar(value, bounds=(1e-9, 4), options={"xatol": 1e-12})
    expected = min(least.fun, 0.5)  # without mass both prices are paid
    assert float(result.objective) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("marginals", KINDS, ids=str)
def test_at_share_1_it_is_the_plain_problem(marginals):
    """Bit for bit."""
    x, y, features, _, _ = drawn(8, marginals)
    plain = gw.solve(x, y, ONE, marginals=marginals, effort="cubic")
    given = {"features": features, "alpha": 1, "marginals": marginals}
    fused = gw.solve(x, y, ONE, effort="cubic", **given)
    assert np.array_equal(fused.plan.dense(), plain.plan.dense())
    assert fused.certificate == plain.certificate
    assert repr(fused) == repr(plain)


@pytest.mark.parametrize("marginals", FIXED, ids=str)
def test_a_constant_is_added_for_each_mass(marginals):
    x, y, features, _, _ = drawn(9, marginals)
    given = {"alpha": 0.4, "marginals": marginals, "effort": "cubic"}
    here = gw.solve(x, y, ONE, features=features, **given)
    there = gw.solve(x, y, ONE, features=features + 2.0, **given)
    added = 0.6 * 2.0 * float(here.plan.dense().sum())
    assert float(there.objective) == pytest.approx(float(here.objective) + added)
    for name in ("lower", "upper"):
        ends = [getattr(found.certificate, name) for found in (here, there)]
        assert ends[1] == pytest.approx(ends[0] + added, abs=1e-11)


@pytest.mark.parametrize("penalty", ["kl", "tv"])
def test_costs_far_above_the_price_leave_no_mass(penalty):
    marginals = gw.Unbalanced(0.1, penalty)
    x, y, features, _, _ = drawn(10, marginals)
    costs = 50.0 + np.abs(features)
    result = gw.solve(x, y, features=costs, alpha=0.5, marginals=marginals)
    assert float(result.plan.dense().sum()) == 0.0
    assert float(result.objective) == pytest.approx(0.2)
    assert result.status is gw.Status.GLOBAL
    assert result.certificate.lower == pytest.approx(0.2)


@pytest.mark.parametrize("penalty", ["kl", "tv"])
def test_prices_that_are_high_leave_the_balanced_problem(penalty):
    x, y, features, _, _ = drawn(11, gw.Unbalanced(1.0, penalty))
    given = {"features": np.abs(features), "alpha": 0.5}
    balanced = gw.solve(x, y, ONE, **given)
    solver = gw.ConditionalGradient(init=balanced.plan)
    prices = gw.Unbalanced(1e6, penalty)
    found = gw.solve(x, y, solver, marginals=prices, **given)
    assert float(found.objective) <= float(balanced.objective) + 1e-9
    assert float(found.objective) == pytest.approx(float(balanced.objective), rel=1e-4)
    assert float(found.plan.dense().sum()) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("marginals", KINDS, ids=str)
def test_gradients_in_features_share_and_matrices_are_finite_differences(marginals):
    """The plan held, as first-order changes of it have no effect."""
    x, y, features, (C, a, D, b), rng = drawn(12, marginals)
    given = {"features": features, "alpha": 0.5, "marginals": marginals}
    start = gw.solve(x, y, gw.ConditionalGradient(tolerance=1e-12), **given).plan
    solver = gw.ConditionalGradient(init=start, tolerance=1e-12)

    def value(C, features, alpha):
        x = gw.DenseSpace(C, a)
        changed = {"features": features, "alpha": alpha, "marginals": marginals}
        return float(gw.solve(x, y, solver, **changed).objective)

    leaves = [torch.tensor(v, requires_grad=True) for v in (C, features)]
    alpha = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    result = gw.solve(
        gw.DenseSpace(leaves[0], torch.tensor(a)),
        gw.DenseSpace(torch.tensor(D), torch.tensor(b)),
        gw.ConditionalGradient(init=gw.DensePlan(torch.tensor(start.dense()))),
        features=leaves[1],
        alpha=alpha,
        marginals=marginals,
    )
    result.objective.backward()
    step = 1e-6
    of_C = rng.standard_normal(C.shape)
    there = of_C + of_C.T, rng.standard_normal(features.shape), 1.0
    grads = leaves[0].grad.numpy(), leaves[1].grad.numpy(), alpha.grad.numpy()
    for place, (direction, gradient) in enumerate(zip(there, grads, strict=True)):
        ends = []
        for sign in (1, -1):
            data = [C, features, 0.5]
            data[place] = data[place] + sign * step * direction
            ends.append(value(*data))
        slope = (ends[0] - ends[1]) / (2 * step)
        assert np.sum(gradient * direction) == pytest.approx(slope, abs=1e-5)


def test_gradients_in_the_weights_of_x_count_the_costs():
    x, _, features, (C, a, D, _), rng = drawn(13, "semi_relaxed")
    weights = torch.tensor(a, requires_grad=True)
    given = {"alpha": 0.5, "marginals": "semi_relaxed"}
    costs = torch.tensor(features, requires_grad=True)
    result = gw.solve(
        gw.DenseSpace(torch.tensor(C), weights),
        gw.as_space(torch.tensor(D)),
        features=costs,
        **given,
    )
    result.objective.backward()
    # By the envelope theorem, (1 − α) π.
    assert np.abs(costs.grad.numpy() - result.plan.dense().numpy() / 2).max() <= 1e-12
    change = rng.standard_normal(len(a))
    change -= change.mean()
    step = 1e-6
    ends = []
    for sign in (1, -1):
        x = gw.DenseSpace(C, a + sign * step * change)
        ends.append(float(gw.solve(x, D, features=features, **given).objective))
    slope = (ends[0] - ends[1]) / (2 * step)
    assert float(weights.grad @ torch.tensor(change)) == pytest.approx(slope, abs=1e-6)


# Of unbalanced plans, which are searched for in NumPy, a few libraries.
LIBRARIES = [*itertools.product(EAGER, FIXED), *zip(EAGER[2:4], PRICED, strict=True)]


@pytest.mark.parametrize(("library", "marginals"), LIBRARIES, ids=str)
def test_every_array_library_gives_the_same(library: Library, marginals):
    x, y, features, (C, a, D, b), _ = drawn(14, marginals)
    given = {"alpha": 0.5, "marginals": marginals}
    expected = gw.solve(x, y, ONE, features=features, **given)
    found = gw.solve(
        gw.DenseSpace(library.array(C), library.array(a)),
        gw.DenseSpace(library.array(D), library.array(b)),
        ONE,
        features=library.array(features),
        **given,
    )
    assert library.owns(found.objective)
    assert library.owns(found.plan.masses)
    single = library.dtype == "float32"
    assert float(found.objective) == pytest.approx(
        float(expected.objective), rel=1e-3 if single else 1e-9
    )
    plan = to_numpy(found.plan.dense()).astype(float)
    reached = objective((C, a, D, b), features, 0.5, plan, marginals)
    assert float(found.objective) == pytest.approx(
        reached, abs=1e-5 if single else 1e-11
    )
    assert found.certificate.lower <= float(found.objective) <= found.certificate.upper


@pytest.mark.parametrize(
    ("scale", "marginals"), [*zip([1e-120, 1e120] * 2, KINDS, strict=True)], ids=str
)
def test_units_do_not_matter(marginals, scale):
    """C in other units, M and prices in their squares."""
    x, y, features, (C, a, D, b), _ = drawn(15, marginals)
    here = gw.solve(x, y, ONE, features=features, alpha=0.5, marginals=marginals)
    prices = marginals
    if isinstance(marginals, gw.Unbalanced):
        first, second = (price * scale * scale for price in marginals.prices)
        prices = gw.Unbalanced((first, second), marginals.penalty)
    there = gw.solve(
        gw.DenseSpace(scale * C, a),
        gw.DenseSpace(scale * D, b),
        ONE,
        features=features * scale * scale,
        alpha=0.5,
        marginals=prices,
        effort="cubic",
    )
    found = float(there.objective) / scale / scale
    assert found == pytest.approx(float(here.objective), rel=1e-9)


def test_costs_choose_which_part_is_moved():
    """A square has eight symmetries: a known pair and a forbidden atom leave one."""
    square = gw.PointCloud(np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]))
    costs = np.ones((4, 4))
    costs[0, 2] = costs[1, 1] = 0.0
    costs[3] = 1e3
    result = gw.solve(
        square, square, features=costs, alpha=0.5, marginals=gw.Partial(0.75)
    )
    assert [(i, j) for i, j, _ in result.matching()] == [(0, 2), (1, 1), (2, 0)]


@pytest.mark.parametrize("marginals", KINDS, ids=str)
def test_a_result_says_that_it_is_fused(marginals, tmp_path):
    x, y, features, _, _ = drawn(16, marginals)
    given = {"features": features, "alpha": 0.5, "marginals": marginals}
    result = gw.solve(x, y, ONE, **given)
    assert str(result).startswith("Fused ")
    assert "0.5  (the share of the distortion)" in str(result)
    assert (result.alpha, result.marginals) == (0.5, marginals)
    result.save(tmp_path / "result.npz")
    loaded = gw.GWResult.load(tmp_path / "result.npz")
    assert str(loaded) == str(result)
    with pytest.raises(ValueError, match=r"read result\.objective"):
        _ = result.distance


def test_features_of_spaces_are_read():
    rng = np.random.default_rng(17)
    points = rng.standard_normal((5, 2))
    x = gw.PointCloud(points, features=points)
    y = gw.PointCloud(points[:4], features=points[:4])
    result = gw.solve(x, y, alpha=0.5, marginals=gw.Partial(0.5))
    assert float(result.objective) == pytest.approx(0.0, abs=1e-9)
    assert all(i == j for i, j, _ in result.matching())
