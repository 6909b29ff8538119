"""Free marginals from end to end: known answers, checks, libraries and gradients."""

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from gwtools.free_marginals import mass_of
from tests import checkers, free_plans
from tests.libraries import EAGER, Library, to_numpy

KINDS = ["semi_relaxed", gw.Partial(0.7)]


@pytest.mark.parametrize("marginals", KINDS, ids=str)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10**6), metric=st.booleans())
def test_results_are_what_they_claim(marginals, seed, metric):
    """Plans have the marginals, and the objective and its gap are recomputed."""
    C, a, D, b, rng = free_plans.drawn(seed, metric)
    x, y = gw.DenseSpace(C, a), gw.DenseSpace(D, b)
    result = gw.solve(x, y, marginals=marginals, effort="cubic")
    found = free_plans.check_free(result, C, a, D, b, marginals)
    assert result.status.success
    assert result.marginals == marginals
    assert set(result.certificate.bounds) == {"nonnegativity", "third"}
    # Stationary: no plan of these marginals promises a decrease.
    slope = checkers.gradient(C, D, np.asarray(result.plan))
    least = free_plans.least_cost(slope, a, b, marginals)
    gap = float((slope * np.asarray(result.plan)).sum()) - least
    assert gap <= 1e-8
    assert abs(gap - result.frank_wolfe_gap) <= 1e-8
    # No plan is below the proved bound.
    for _ in range(5):
        other = free_plans.random_plan(a, b, marginals, rng)
        assert free_plans.plan_error(other, a, b, marginals) <= 1e-12
        assert result.certificate.lower <= checkers.objective(C, D, other)
    # The product plan is one of the starts.
    columns = np.full(len(b), 1 / len(b)) if marginals == "semi_relaxed" else b
    product = np.outer(a, columns) * mass_of(marginals)
    assert found <= checkers.objective(C, D, product) + 1e-12


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_theorem_22_semi_relaxed_is_at_most_balanced(seed):
    """Couplings are among the semi-relaxed plans, whatever the weights of y are."""
    C, a, D, b, _ = free_plans.drawn(seed)
    x, y = gw.DenseSpace(C, a), gw.DenseSpace(D, b)
    balanced = gw.solve(x, y, gw.ConditionalGradient())
    solver = gw.ConditionalGradient(init=balanced.plan)
    free = gw.solve(x, y, solver, marginals="semi_relaxed")
    assert float(free.objective) <= float(balanced.objective) + 1e-12


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6), mass=st.floats(0.1, 0.99))
def test_theorem_22_partial_is_at_most_the_square_of_its_mass_times_balanced(
    seed, mass
):
    """A coupling times s is a partial plan, whose objective is s² times as large."""
    C, a, D, b, _ = free_plans.drawn(seed)
    x, y = gw.DenseSpace(C, a), gw.DenseSpace(D, b)
    balanced = gw.solve(x, y, gw.ConditionalGradient())
    init = gw.DensePlan(mass * np.asarray(balanced.plan))
    solver = gw.ConditionalGradient(init=init)
    partial = gw.solve(x, y, solver, marginals=gw.Partial(mass))
    assert float(partial.objective) <= mass**2 * float(balanced.objective) + 1e-12


def test_all_of_the_mass_is_the_balanced_problem():
    """Bit for bit, with its solvers, its certificate and its distance."""
    C, a, D, b, _ = free_plans.drawn(3)
    x, y = gw.DenseSpace(C, a), gw.DenseSpace(D, b)
    plain = gw.solve(x, y)
    for marginals in ("balanced", gw.Partial(1), gw.Partial(1.0)):
        result = gw.solve(x, y, marginals=marginals)
        assert np.array_equal(np.asarray(result.plan), np.asarray(plain.plan))
        assert result.distance == plain.distance
        assert result.certificate == plain.certificate
        assert result.marginals == "balanced"


def test_blown_up_graphs_are_at_distance_0_of_their_quotient():
    """Twins share their image: semi-relaxed plans need not know how many there are."""
    quotient = nx.to_numpy_array(nx.path_graph(4), weight=None)
    twins = np.repeat(np.arange(4), [1, 3, 2, 4])
    C = quotient[np.ix_(twins, twins)]
    result = gw.solve(C, quotient, marginals="semi_relaxed")
    assert float(result.objective) == pytest.approx(0, abs=1e-12)
    assert result.status is gw.Status.GLOBAL
    assert result.certificate.kind is gw.Kind.GLOBAL
    image = np.array([j for _, j, _ in result.matching()])
    assert np.array_equal(quotient[np.ix_(image, image)], C)


def test_two_communities_are_found_with_unlike_sizes():
    """A template of two nodes recovers both cliques, of 9 and of 4 nodes."""
    graph = nx.disjoint_union(nx.complete_graph(9), nx.complete_graph(4))
    graph.add_edge(0, 9)
    adjacency = nx.to_numpy_array(graph) + np.eye(13)
    result = gw.solve(adjacency, np.eye(2), marginals="semi_relaxed")
    groups = [j for _, j, _ in result.matching()]
    assert len(set(groups[:9])) == len(set(groups[9:])) == 1
    assert groups[0] != groups[9]


def test_outliers_are_left_out():
    """6 of 36 points are far away in y: the others are matched to their copies."""
    rng = np.random.default_rng(4)
    points = rng.standard_normal((36, 2))
    others = points.copy()
    outliers = rng.choice(36, 6, replace=False)
    others[outliers] = 20 + 5 * rng.standard_normal((6, 2))
    order = rng.permutation(36)
    x, y = gw.PointCloud(points), gw.PointCloud(others[order])
    result = gw.solve(x, y, marginals=gw.Partial(30 / 36))
    image = {i: order[j] for i, j, share in result.matching() if share > 0.5}
    inliers = np.setdiff1d(np.arange(36), outliers)
    right = [image.get(i) == i for i in inliers]
    assert np.mean(right) >= 0.95
    # What is left out has no share, and no row in the plan.
    rows, _ = result.plan.marginals()
    assert [i for i, _, _ in result.matching()] == list(np.nonzero(rows > 0)[0])


def test_atoms_of_weight_0_get_nothing_in_x_and_may_receive_in_y():
    """The weights of y are not read where its marginal is free."""
    C = 1 - np.eye(4)
    a = np.array([0.5, 0.25, 0.0, 0.25])
    D = 1 - np.eye(3)
    b = np.array([0.5, 0.5, 0.0])
    x = gw.DenseSpace(C, a)
    result = gw.solve(x, gw.DenseSpace(D, b), marginals="semi_relaxed")
    uniform = gw.solve(x, gw.as_space(D), marginals="semi_relaxed")
    assert np.array_equal(np.asarray(result.plan), np.asarray(uniform.plan))
    rows, cols = result.plan.marginals()
    assert rows[2] == 0
    assert cols[2] > 0
    assert float(result.objective) == pytest.approx(0)
    # Partial plans have both weights as bounds.
    partial = gw.solve(x, gw.DenseSpace(D, b), marginals=gw.Partial(0.8))
    rows, cols = partial.plan.marginals()
    assert rows[2] == cols[2] == 0
    assert free_plans.plan_error(np.asarray(partial.plan), a, b, gw.Partial(0.8)) < 1e-9


@pytest.mark.parametrize("marginals", KINDS, ids=str)
@pytest.mark.parametrize("library", EAGER, ids=str)
def test_every_array_library_gives_the_same(library: Library, marginals):
    """Arrays come back in the library and dtype of the spaces."""
    C, a, D, b, _ = free_plans.drawn(5)
    arrays = [library.array(values) for values in (C, a, D, b)]
    x, y = gw.DenseSpace(*arrays[:2]), gw.DenseSpace(*arrays[2:])
    result = gw.solve(x, y, gw.ConditionalGradient(), marginals=marginals)
    single = library.dtype == "float32"
    tolerance = 1e-6 if single else 1e-12
    assert library.owns(result.objective)
    assert library.owns(result.plan.masses)
    free_plans.check_free(
        result,
        to_numpy(arrays[0]),
        to_numpy(arrays[1]),
        to_numpy(arrays[2]),
        to_numpy(arrays[3]),
        marginals,
        tolerance,
    )
    reference = gw.solve(
        gw.DenseSpace(C, a),
        gw.DenseSpace(D, b),
        gw.ConditionalGradient(),
        marginals=marginals,
    )
    expected = float(reference.objective)
    assert float(result.objective) == pytest.approx(
        expected, rel=1e-3 if single else 1e-9
    )


@pytest.mark.parametrize("scale", [1e-120, 1e-3, 1e120])
@pytest.mark.parametrize("marginals", KINDS, ids=str)
def test_units_do_not_matter(marginals, scale):
    """The same plan, and the square of the scale in every number."""
    C, a, D, b, _ = free_plans.drawn(6)
    plain = gw.solve(gw.DenseSpace(C, a), gw.DenseSpace(D, b), marginals=marginals)
    x, y = gw.DenseSpace(scale * C, a), gw.DenseSpace(scale * D, b)
    scaled = gw.solve(x, y, marginals=marginals, effort="cubic")
    assert np.allclose(np.asarray(plain.plan), np.asarray(scaled.plan), atol=1e-9)
    unscaled = float(scaled.objective) / scale / scale
    assert unscaled == pytest.approx(float(plain.objective), rel=1e-9)


@pytest.mark.parametrize("marginals", KINDS, ids=str)
def test_gradients_are_those_of_the_least_objective(marginals):
    """Against finite differences, the plan found anew for each."""
    C, a, D, b, _ = free_plans.drawn(8)
    start = gw.solve(gw.DenseSpace(C, a), gw.DenseSpace(D, b), marginals=marginals)
    solver = gw.ConditionalGradient(init=start.plan)

    def least(C, D, a):
        x, y = gw.DenseSpace(C, a), gw.DenseSpace(D, b)
        return float(gw.solve(x, y, solver, marginals=marginals).objective)

    tensors = [torch.tensor(values, requires_grad=True) for values in (C, D)]
    x = gw.DenseSpace(tensors[0], torch.tensor(a))
    y = gw.DenseSpace(tensors[1], torch.tensor(b))
    torch_start = gw.DensePlan(torch.tensor(np.asarray(start.plan)))
    torch_solver = gw.ConditionalGradient(init=torch_start)
    gw.solve(x, y, torch_solver, marginals=marginals).objective.backward()
    step = 1e-6
    for values, tensor, rest in ((C, tensors[0], "C"), (D, tensors[1], "D")):
        for i, k in ((0, 1), (2, 4), (3, 1)):
            change = np.zeros_like(values)
            change[i, k] = change[k, i] = step
            ends = [
                least(C + sign * change, D, a)
                if rest == "C"
                else least(C, D + sign * change, a)
                for sign in (1, -1)
            ]
            slope = (ends[0] - ends[1]) / (2 * step)
            found = float(tensor.grad[i, k] + tensor.grad[k, i])
            assert found == pytest.approx(slope, abs=1e-6)


def test_gradients_in_the_weights_of_x_where_those_of_y_are_free():
    """By the envelope theorem, along changes that keep the mass."""
    C, a, D, _, rng = free_plans.drawn(9)
    weights = torch.tensor(a, requires_grad=True)
    x = gw.DenseSpace(torch.tensor(C), weights)
    y = gw.as_space(torch.tensor(D))
    gw.solve(x, y, marginals="semi_relaxed").objective.backward()
    change = rng.standard_normal(len(a))
    change -= change.mean()
    step = 1e-6
    ends = [
        float(
            gw.solve(
                gw.DenseSpace(C, a + sign * step * change), D, marginals="semi_relaxed"
            ).objective
        )
        for sign in (1, -1)
    ]
    slope = (ends[0] - ends[1]) / (2 * step)
    assert float(weights.grad @ torch.tensor(change)) == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("marginals", KINDS, ids=str)
def test_results_are_saved_printed_and_have_no_distance(marginals, tmp_path):
    C, a, D, b, _ = free_plans.drawn(10)
    result = gw.solve(gw.DenseSpace(C, a), gw.DenseSpace(D, b), marginals=marginals)
    result.save(tmp_path / "result.npz")
    loaded = gw.GWResult.load(tmp_path / "result.npz")
    assert loaded.marginals == result.marginals
    assert str(loaded) == str(result)
    word = "Semi-relaxed" if marginals == "semi_relaxed" else "Partial"
    assert str(result).startswith(f"{word} Gromov-Wasserstein ")
    assert "distance" not in str(result).split("excess")[0]
    assert f"marginals={marginals!r}" in repr(result)
    numbers = result.as_dict()
    assert numbers["distance"] is None
    assert numbers["mass"] == mass_of(marginals)
    with pytest.raises(ValueError, match=r"read result\.objective"):
        _ = result.distance


def test_callbacks_count_the_steps_of_all_starts_and_may_stop():
    C, a, D, b, _ = free_plans.drawn(11)
    x, y = gw.DenseSpace(C, a), gw.DenseSpace(D, b)
    seen = []
    gw.solve(x, y, marginals="semi_relaxed", callback=seen.append)
    assert [step.iteration for step in seen] == list(range(1, len(seen) + 1))
    result = gw.solve(
        x, y, marginals=gw.Partial(0.6), callback=lambda step: step.iteration == 1
    )
    assert result.status is gw.Status.STOPPED
    assert len(result.starts) == 1


def test_iterations_that_run_out_are_told():
    C, a, D, b, _ = free_plans.drawn(12)
    x, y = gw.DenseSpace(C, a), gw.DenseSpace(D, b)
    solver = gw.ConditionalGradient(max_iterations=1)
    with pytest.raises(gw.ConvergenceError):
        gw.solve(x, y, solver, marginals="semi_relaxed", throw=True)
    with pytest.warns(gw.ConvergenceWarning) as caught:
        result = gw.solve(x, y, solver, marginals="semi_relaxed")
    assert caught[0].filename == __file__
    assert result.status is gw.Status.MAX_ITERATIONS


def test_work_that_does_not_fit_is_refused():
    with pytest.raises(MemoryError, match="ConditionalGradient"):
        gw.solve(
            np.ones((400, 400)),
            np.ones((400, 400)),
            marginals="semi_relaxed",
            memory_limit=10**6,
        )
