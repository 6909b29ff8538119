"""Unbalanced plans from end to end: known answers, libraries, gradients and files."""

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from tests import checkers, free_plans, unbalanced_plans
from tests.libraries import EAGER, Library, to_numpy

KINDS = [gw.Unbalanced((0.3, 0.5)), gw.Unbalanced(0.3, "tv")]
ONE = gw.ConditionalGradient()


def spaces(seed, metric=True):
    C, a, D, b, rng = free_plans.drawn(seed, metric)
    return gw.DenseSpace(C, a), gw.DenseSpace(D, b), (C, a, D, b), rng


@pytest.mark.parametrize("penalty", ["kl", "tv"])
@settings(max_examples=3, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    metric=st.booleans(),
    rho=st.sampled_from([1e-3, 0.1, 1.0, 1e4]),
)
def test_theorem_18_unbalanced_results_are_what_they_claim(penalty, seed, metric, rho):
    """The objective is recomputed; no start, nor the plan without mass, is better."""
    marginals = gw.Unbalanced(rho, penalty)
    x, y, data, _ = spaces(seed, metric)
    result = gw.solve(x, y, ONE, marginals=marginals, effort="cubic")
    plan = np.asarray(result.plan)
    assert plan.min() >= 0
    found = unbalanced_plans.objective(*data, plan, marginals)
    float_error = 1e-11 * (1 + rho)
    assert float(result.objective) == pytest.approx(found, abs=float_error)
    certificate = result.certificate
    assert certificate.lower == 0
    assert certificate.bound == "nonnegativity"
    assert set(certificate.bounds) == {"nonnegativity"}
    assert certificate.upper >= found - float_error
    assert certificate.upper <= found + 1e-9 * (1 + rho)
    assert found <= 2 * rho + float_error
    product = np.outer(x.weights, y.weights)
    first = unbalanced_plans.objective(*data, product, marginals)
    assert found <= first + float_error
    if penalty == "tv":
        assert (plan.sum(1) - x.weights).max() <= 1e-14
        assert (plan.sum(0) - y.weights).max() <= 1e-14
    # No other mass of this shape is better.
    for factor in (0.9, 1.1):
        other = unbalanced_plans.objective(*data, factor * plan, marginals)
        assert other >= found - float_error


@pytest.mark.parametrize("marginals", KINDS, ids=str)
def test_two_copies_of_a_space_have_the_objective_0(marginals):
    graph = nx.to_numpy_array(nx.path_graph(6), weight=None)
    order = np.random.default_rng(0).permutation(6)
    result = gw.solve(graph, graph[np.ix_(order, order)], marginals=marginals)
    assert float(result.objective) == pytest.approx(0, abs=1e-13)
    assert result.status is gw.Status.GLOBAL
    assert result.certificate.kind is gw.Kind.GLOBAL
    assert np.asarray(result.plan).sum() == pytest.approx(1)


@pytest.mark.parametrize("penalty", ["kl", "tv"])
def test_theorem_18_prices_that_are_high_leave_the_balanced_problem(penalty):
    """From a stationary coupling the objective stays below, and as near as L² / R."""
    for seed in range(3):
        x, y, _, _ = spaces(seed)
        balanced = gw.solve(x, y, ONE)
        solver = gw.ConditionalGradient(init=balanced.plan)
        free = gw.solve(x, y, solver, marginals=gw.Unbalanced(1e6, penalty))
        least = float(balanced.objective)
        assert float(free.objective) <= least + 1e-9
        rows, cols = free.plan.marginals()
        assert np.abs(rows - x.weights).max() <= 1e-5
        assert np.abs(cols - y.weights).max() <= 1e-5
        coupling = gw.round_plan(np.asarray(free.plan), x.weights, y.weights)
        rounded = checkers.objective(x.dense(), y.dense(), coupling.dense())
        assert rounded == pytest.approx(float(free.objective), abs=1e-4)


def test_theorem_18_the_objective_rises_with_the_price():
    """At a lower price the same plan costs less."""
    x, y, _, _ = spaces(1)
    start = gw.solve(x, y, ONE).plan
    values = []
    for rho in (100.0, 0.3, 0.01):
        solver = gw.ConditionalGradient(init=start)
        result = gw.solve(x, y, solver, marginals=gw.Unbalanced(rho))
        values.append(float(result.objective))
        start = result.plan
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("marginals", KINDS, ids=str)
def test_outliers_are_left_out(marginals):
    rng = np.random.default_rng(4)
    points = rng.standard_normal((8, 2))
    others = points.copy()
    others[:2] = 30 + rng.standard_normal((2, 2))
    x, y = gw.PointCloud(points), gw.PointCloud(others)
    result = gw.solve(x, y, marginals=marginals)
    _, received = result.plan.marginals()
    assert received[:2].max() <= 1e-6
    pairs = {i: j for i, j, share in result.matching() if share > 0.5}
    assert all(pairs[i] == i for i in range(2, 8))


@pytest.mark.parametrize("marginals", KINDS, ids=str)
@pytest.mark.parametrize("library", EAGER, ids=str)
def test_every_array_library_gives_the_same(library: Library, marginals):
    _, _, data, _ = spaces(5)
    C, a, D, b = (library.array(values) for values in data)
    x, y = gw.DenseSpace(C, a), gw.DenseSpace(D, b)
    result = gw.solve(x, y, ONE, marginals=marginals)
    assert library.owns(result.objective)
    assert library.owns(result.plan.masses)
    plan = np.asarray(to_numpy(result.plan.dense()), dtype=float)
    values = (np.asarray(to_numpy(array), dtype=float) for array in (C, a, D, b))
    found = unbalanced_plans.objective(*values, plan, marginals)
    tolerance = 1e-5 if library.dtype == "float32" else 1e-11
    assert float(result.objective) == pytest.approx(found, abs=tolerance)
    assert result.certificate.upper >= float(result.objective)
    again = gw.DenseSpace(data[0], data[1]), gw.DenseSpace(data[2], data[3])
    reference = float(gw.solve(*again, ONE, marginals=marginals).objective)
    assert float(result.objective) == pytest.approx(reference, rel=1e-3)


@pytest.mark.parametrize("scale", [1e-100, 1e100])
@pytest.mark.parametrize("marginals", KINDS, ids=str)
def test_units_do_not_matter(marginals, scale):
    """Prices are in squared units of C."""
    x, y, (C, a, D, b), _ = spaces(6)
    plain = gw.solve(x, y, ONE, marginals=marginals)
    rho = tuple(scale**2 * price for price in marginals.prices)
    scaled = gw.solve(
        gw.DenseSpace(scale * C, a),
        gw.DenseSpace(scale * D, b),
        ONE,
        marginals=gw.Unbalanced(rho, marginals.penalty),
    )
    unscaled = float(scaled.objective) / scale / scale
    assert unscaled == pytest.approx(float(plain.objective), rel=1e-9)
    assert np.allclose(np.asarray(plain.plan), np.asarray(scaled.plan), atol=1e-6)


@pytest.mark.parametrize("marginals", KINDS, ids=str)
def test_gradients_are_those_of_the_least_objective(marginals):
    """Against finite differences, the plan found anew for each; KL in weights too."""
    x, y, (C, a, D, b), rng = spaces(8)
    start = np.asarray(gw.solve(x, y, ONE, marginals=marginals).plan)
    # Differences divide what the tolerance leaves by the step.
    solver = gw.ConditionalGradient(init=start, tolerance=1e-13)

    def least(C, D, a):
        near = gw.DenseSpace(C, a), gw.DenseSpace(D, b)
        return float(gw.solve(*near, solver, marginals=marginals).objective)

    smooth = marginals.penalty == "kl"
    tensors = [torch.tensor(values, requires_grad=True) for values in (C, D)]
    weights = torch.tensor(a, requires_grad=smooth)
    tracked = (
        gw.DenseSpace(tensors[0], weights),
        gw.DenseSpace(tensors[1], torch.tensor(b)),
    )
    again = gw.ConditionalGradient(init=torch.tensor(start), tolerance=1e-13)
    gw.solve(*tracked, again, marginals=marginals).objective.backward()
    step = 1e-5
    for k, (values, tensor) in enumerate(zip((C, D), tensors, strict=True)):
        change = np.zeros_like(values)
        change[0, 1] = change[1, 0] = step
        near = [(C + s * change, D) if k == 0 else (C, D + s * change) for s in (1, -1)]
        slope = (least(*near[0], a) - least(*near[1], a)) / (2 * step)
        found = float(tensor.grad[0, 1] + tensor.grad[1, 0])
        assert found == pytest.approx(slope, abs=1e-6)
    if smooth:
        change = rng.standard_normal(len(a))
        change -= change.mean()
        ends = [least(C, D, a + s * step * change) for s in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * step)
        found = float(weights.grad @ torch.tensor(change))
        assert found == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("marginals", KINDS, ids=str)
def test_results_are_saved_printed_and_have_no_distance(marginals, tmp_path):
    x, y, _, _ = spaces(10)
    result = gw.solve(x, y, ONE, marginals=marginals)
    result.save(tmp_path / "result.npz")
    loaded = gw.GWResult.load(tmp_path / "result.npz")
    assert loaded.marginals == result.marginals
    assert str(loaded) == str(result)
    assert str(result).startswith("Unbalanced Gromov-Wasserstein ")
    assert "and its penalties" in str(result)
    assert f"marginals={marginals!r}" in repr(result)
    numbers = result.as_dict()
    assert numbers["marginals"] == "unbalanced"
    assert numbers["mass"] == pytest.approx(np.asarray(result.plan).sum())
    with pytest.raises(ValueError, match=r"read result\.objective"):
        _ = result.distance


@pytest.mark.parametrize("marginals", KINDS, ids=str)
def test_atoms_without_weight_get_nothing(marginals):
    C, D = 1 - np.eye(4), 1 - np.eye(3)
    x = gw.DenseSpace(C, np.array([0.5, 0.25, 0.0, 0.25]))
    y = gw.DenseSpace(D, np.array([0.5, 0.5, 0.0]))
    result = gw.solve(x, y, marginals=marginals)
    rows, cols = result.plan.marginals()
    assert rows[2] == cols[2] == 0
    assert rows.sum() > 0


def test_the_default_is_at_most_what_one_start_gives():
    for marginals in KINDS:
        x, y, _, _ = spaces(1, metric=False)
        single = gw.solve(x, y, ONE, marginals=marginals)
        search = gw.solve(x, y, marginals=marginals)
        assert single.starts is None
        assert float(search.objective) <= float(single.objective) + 1e-9
        assert search.starts.best.name in [start.name for start in search.starts]


@pytest.mark.parametrize("rho", [1e-3, 1e-2])
def test_prices_near_0_leave_almost_no_mass(rho):
    """The mass may be below all floats; its objective is then that of no plan."""
    C, D = np.array([[0.0, 5.0], [5.0, 3.0]]), 9 * np.ones((2, 2))
    result = gw.solve(C, D, marginals=gw.Unbalanced(rho))
    assert float(result.objective) <= 2 * rho
    assert float(result.objective) == pytest.approx(2 * rho)
    assert result.certificate.upper == pytest.approx(2 * rho)
