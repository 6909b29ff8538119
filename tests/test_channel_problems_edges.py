"""Edge features: values that are vectors, against sums over their entries."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from gwtools.channel_problems import ChannelProblem, numbers_of_forms, read_loss
from gwtools.losses import SQUARE
from tests import channel_problems, checkers
from tests.libraries import EAGER

SOLVERS = [
    gw.ConditionalGradient(),
    gw.MultiStart(seed=3),
    gw.Sinkhorn(),
    gw.Sinkhorn(epsilon=0.2, proximal=False, tolerance=1e-12),
]


def drawn(seed, directed=False, count=3):
    """Vectors of ``count`` entries of unlike sizes, and weights."""
    C, a, D, b, rng = channel_problems.drawn(seed)
    sizes = rng.uniform(0.2, 3.0, count)
    of_x = sizes * rng.standard_normal((*C.shape, count))
    of_y = sizes * rng.standard_normal((*D.shape, count))
    if not directed:
        of_x, of_y = (M + M.swapaxes(0, 1) for M in (of_x, of_y))
    return of_x, a, of_y, b, rng


def entries(C, D):
    return zip(np.moveaxis(C, 2, 0), np.moveaxis(D, 2, 0), strict=True)


def objective(C, D, plan):
    return sum(channel_problems.objective(*pair, plan) for pair in entries(C, D))


def gradient(C, D, plan):
    return sum(channel_problems.gradient(*pair, plan) for pair in entries(C, D))


@pytest.mark.parametrize("directed", [False, True])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_objective_and_gradient_are_sums_over_the_entries(directed, seed):
    C, a, D, b, rng = drawn(seed, directed)
    x, y = channel_problems.spaces(C, a, D, b, directed)
    problem = ChannelProblem(x, y, loss=read_loss("square", x, y))
    plan = channel_problems.random_plan(a, b, rng)
    matrix = np.asarray(plan)
    size = problem.product_objective + problem.variation
    expected = objective(C, D, matrix)
    cross = problem.cross(plan)
    relative = problem.relative_objective(plan, cross)
    for shape in (plan, channel_problems.listed(plan)):
        found = float(problem.objective(shape))
        assert found == pytest.approx(expected, abs=1e-13 * size)
    product = objective(C, D, np.outer(a, b))
    assert problem.product_objective == pytest.approx(product, abs=1e-13 * size)
    assert product + relative == pytest.approx(expected, abs=1e-13 * size)
    assert abs(relative) <= problem.variation
    of_rows, of_cols = problem.row_parts(plan)
    slope = problem.gradient(cross) + of_rows[:, None] + of_cols
    assert np.ptp(gradient(C, D, matrix) - slope) <= 1e-12 * size


@pytest.mark.parametrize("directed", [False, True])
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_bounds_are_those_of_sums_over_the_entries(directed, seed):
    C, a, D, b, rng = drawn(seed, directed, count=2)
    plan = channel_problems.random_plan(a, b, rng)
    spaces = channel_problems.spaces(C, a, D, b, directed)
    found = gw.certify(*spaces, plan, effort="cubic")
    expected = objective(C, D, np.asarray(plan))
    assert found.lower == max(found.bounds.values()) <= expected <= found.upper
    assert found.upper <= expected * (1 + 1e-11)
    rows, means, gaps = 0.0, 0.0, 0.0
    for X, Y in entries(C, D):
        gap = a @ X @ a - b @ Y @ b
        gaps += gap**2
        for of_x, of_y in ((X, Y), (X.T, Y.T)):
            # Of sorted rows, in the order of both.
            rows = rows + row_costs(of_x, a, of_y, b) / 2
            means = means + ((of_x @ a)[:, None] - of_y @ b - gap) ** 2
    third = checkers.linear_program(rows, a, b)
    assert found.bounds["third"] == pytest.approx(third, rel=1e-10)
    of_means = gaps + checkers.linear_program(means, a, b)
    assert found.bounds["row_means"] == pytest.approx(of_means, rel=1e-10)


def row_costs(X, a, Y, b):
    """Squared differences of sorted rows on average, for all pairs of rows."""
    return np.array(
        [
            [
                sum(
                    mass * (x[k] - y[j]) ** 2
                    for k, j, mass in checkers.walk(x, a, y, b)
                )
                for y in Y
            ]
            for x in X
        ]
    )


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_solvers_end_at_stationary_plans(solver, directed):
    C, a, D, b, _ = drawn(11, directed)
    result = gw.solve(*channel_problems.spaces(C, a, D, b, directed), solver)
    plan = np.asarray(result.plan)
    assert checkers.coupling_error(plan, a, b) <= 1e-12
    expected = objective(C, D, plan)
    assert float(result.objective) == pytest.approx(expected, rel=1e-11)
    assert float(result.distance) == pytest.approx(expected**0.5, rel=1e-11)
    assert result.certificate.lower <= expected <= result.certificate.upper
    slope = gradient(C, D, plan)
    if getattr(solver, "proximal", True):
        least = checkers.linear_program(slope, a, b)
        assert np.sum(slope * plan) - least <= 1e-6 * result.objective
    else:
        penalty = 0.2 * np.sum(plan * np.log(plan / np.outer(a, b)))
        assert float(result.regularized) == pytest.approx(expected + penalty)


@pytest.mark.parametrize("directed", [False, True])
def test_vectors_of_one_entry_are_the_plain_problem(directed):
    C, a, D, b, rng = drawn(12, directed, count=1)
    vectors = channel_problems.spaces(C, a, D, b, directed)
    plain = channel_problems.spaces(C[:, :, 0], a, D[:, :, 0], b, directed)
    start = gw.ConditionalGradient(init=channel_problems.random_plan(a, b, rng))
    here, there = (gw.solve(*pair, start, effort="cubic") for pair in (vectors, plain))
    assert float(here.objective) == pytest.approx(float(there.objective), rel=1e-13)
    assert np.allclose(here.plan, there.plan, atol=1e-13)
    assert here.frank_wolfe_gap == pytest.approx(there.frank_wolfe_gap, abs=1e-12)
    if directed:
        for name, value in there.certificate.bounds.items():
            assert here.certificate.bounds[name] == pytest.approx(value, rel=1e-11)


def test_an_entry_that_repeats_counts_as_often():
    """And one that is multiplied by the root of w counts w times as much."""
    C, a, D, b, _ = drawn(13, directed=True, count=1)
    solver = gw.ConditionalGradient()
    once, thrice, weighted = (
        gw.solve(
            *channel_problems.spaces(factor * C, a, factor * D, b),
            solver,
            effort="cubic",
        )
        for factor in (np.ones(1), np.ones(3), np.array([3.0, 4.0]) ** 0.5)
    )
    for result, times in ((thrice, 3), (weighted, 7)):
        expected = times * float(once.objective)
        assert float(result.objective) == pytest.approx(expected, rel=1e-12)
        for name, value in once.certificate.bounds.items():
            found = result.certificate.bounds[name]
            assert found == pytest.approx(times * value, rel=1e-10)


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_copy_with_other_names_has_objective_0(directed, seed):
    rng = np.random.default_rng(seed)
    # Many pairs have the same entries, but for one of them.
    C = rng.integers(0, 2, (7, 7, 3)).astype(float)
    C = C if directed else np.maximum(C, C.swapaxes(0, 1))
    order = rng.permutation(7)
    x = gw.DenseSpace(C, directed=directed)
    y = gw.DenseSpace(C[np.ix_(order, order)], directed=directed)
    result = gw.solve(x, y)
    assert float(result.objective) == 0.0
    assert result.certificate.kind is gw.Kind.GLOBAL
    rows, cols = np.transpose([pair[:2] for pair in result.matching()])
    images = order[cols]
    assert np.array_equal(C[np.ix_(rows, rows)], C[np.ix_(images, images)])


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_no_bijection_is_better_than_the_search_or_below_the_interval(directed, seed):
    rng = np.random.default_rng(seed)
    C, D = rng.random((2, 5, 5, 2)) + 0.1
    if not directed:
        C, D = C + C.swapaxes(0, 1), D + D.swapaxes(0, 1)
    result = gw.solve(
        gw.DenseSpace(C, directed=directed),
        gw.DenseSpace(D, directed=directed),
        effort="cubic",
    )
    identity = np.eye(5) / 5
    best = min(
        objective(C, D, identity[list(images)])
        for images in itertools.permutations(range(5))
    )
    assert float(result.objective) <= best * (1 + 1e-12)
    assert 0.0 < result.certificate.lower <= best


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_features_join_the_objective_and_its_interval(directed, seed):
    C, a, D, b, rng = drawn(seed + 60, directed)
    M = 3 * rng.random((len(a), len(b)))
    x, y = channel_problems.spaces(C, a, D, b, directed)
    result = gw.solve(x, y, features=M, alpha=0.4, effort="cubic")
    plan = result.plan.dense()
    assert np.allclose(plan.sum(axis=1), a, atol=1e-12)
    assert np.allclose(plan.sum(axis=0), b, atol=1e-12)
    expected = 0.6 * float((M * plan).sum()) + 0.4 * objective(C, D, plan)
    assert float(result.objective) == pytest.approx(expected, rel=1e-10)
    assert result.certificate.lower <= expected
    for _ in range(20):
        other = np.asarray(channel_problems.random_plan(a, b, rng))
        value = 0.6 * float((M * other).sum()) + 0.4 * objective(C, D, other)
        assert result.certificate.lower <= value


@pytest.mark.parametrize("library", EAGER, ids=str)
def test_every_library_finds_the_plan_of_numpy(library):
    C, a, D, b, _ = drawn(22)
    one = gw.ConditionalGradient(exchange=False)
    expected = gw.solve(*channel_problems.spaces(C, a, D, b, False), one)
    with library.active():
        arrays = [library.array(values) for values in (C, a, D, b)]
        x, y = channel_problems.spaces(*arrays, directed=False)
        found = gw.solve(x, y, one)
        assert library.owns(found.objective)
        assert float(found.objective) == pytest.approx(
            float(expected.objective), rel=library.rtol
        )
        assert found.certificate.lower <= float(found.objective)


@pytest.mark.parametrize("directed", [False, True])
def test_gradients_are_those_of_finite_differences(directed):
    torch = pytest.importorskip("torch")
    C, a, D, b, rng = drawn(14, directed)
    data = (C, a, D, b)
    plan = np.asarray(gw.solve(*channel_problems.spaces(*data, directed)).plan)
    leaves = [torch.tensor(values, requires_grad=True) for values in data]
    start = gw.ConditionalGradient(init=gw.DensePlan(torch.tensor(plan)))
    gw.solve(*channel_problems.spaces(*leaves, directed), start).objective.backward()

    def value(place, change):
        moved = list(data)
        moved[place] = moved[place] + change
        start = gw.ConditionalGradient(init=gw.round_plan(plan, moved[1], moved[3]))
        result = gw.solve(*channel_problems.spaces(*moved, directed), start)
        return float(result.objective)

    for place, leaf in enumerate(leaves):
        change = 1e-6 * rng.standard_normal(leaf.shape)
        if place % 2:
            change -= change.mean()  # of weights: their mass stays
        elif not directed:
            change = change + change.swapaxes(0, 1)
            assert torch.equal(leaf.grad, leaf.grad.swapaxes(0, 1))
        slope = (value(place, change) - value(place, -change)) / 2
        found = np.sum(leaf.grad.numpy() * change)
        assert found == pytest.approx(slope, abs=1e-10)


def test_atoms_without_weight_change_nothing():
    C, a, D, b, _ = drawn(16)
    one = gw.ConditionalGradient()
    plain = gw.solve(*channel_problems.spaces(C, a, D, b, False), one)
    with_null = np.full((len(D) + 1, len(D) + 1, 3), -1.0)
    with_null[1:, 1:] = D
    x, y = channel_problems.spaces(C, a, with_null, np.append(0.0, b), False)
    found = gw.solve(x, y, one)
    assert float(found.objective) == float(plain.objective)
    assert np.array_equal(found.plan.dense()[:, 1:], plain.plan.dense())
    assert np.all(np.isfinite(found.potentials[1]))


@pytest.mark.parametrize("unit", [1e-150, 1e140])
def test_units_change_nothing_but_units(unit):
    C, a, D, b, _ = drawn(17)
    here = gw.solve(*channel_problems.spaces(C, a, D, b, False), effort="cubic")
    moved = channel_problems.spaces(unit * C, a, unit * D, b, False)
    there = gw.solve(*moved, effort="cubic")
    assert float(there.distance) == pytest.approx(unit * float(here.distance))
    for name, bound in here.certificate.bounds.items():
        expected = (bound * unit) * unit
        found = there.certificate.bounds[name]
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-320)


def test_results_are_saved_and_loaded(tmp_path):
    C, a, D, b, _ = drawn(18)
    result = gw.solve(*channel_problems.spaces(C, a, D, b, False))
    result.save(tmp_path / "result.npz")
    loaded = gw.GWResult.load(tmp_path / "result.npz")
    assert loaded.certificate == result.certificate
    assert str(loaded) == str(result)
    assert float(loaded.distance) == float(result.distance)


def test_memory_grows_with_the_entries():
    C, a, D, b, _ = drawn(19)
    spaces = channel_problems.spaces(C, a, D, b, False)
    loss = read_loss("square", *spaces)
    directed = channel_problems.spaces(C, a, D, b, True)
    assert numbers_of_forms(*directed, loss) == 2 * numbers_of_forms(*spaces, loss)
    of_numbers = channel_problems.spaces(C[:, :, 0], a, D[:, :, 0], b, True)
    of_one = numbers_of_forms(*of_numbers, SQUARE) / 2
    assert numbers_of_forms(*spaces, loss) == 3 * of_one


REFUSED = {
    "bounds": (lambda x: gw.bounds.row_means(x, x), "x must have one number"),
    "third": (lambda x: gw.bounds.third(x, x), "x must have one number"),
    "norm": (lambda x: gw.bounds.norm(x, x), "x must have one number"),
    "problem": (lambda x: gw.GWProblem(x, x), "gwtools.solve or gwtools.certify"),
    "batch": (lambda x: gw.solve_batch([x], [x]), "must have one number"),
    "pairwise": (lambda x: gw.pairwise([x, x]), r"spaces\[0\] must have one number"),
    "barycenter": (lambda x: gw.barycenter([x, x]), "must have one number"),
    "matrix": (lambda x: x.dense(), "space must have one number"),
    "means": (lambda x: x.row_means, "2 edge features"),
    "loss": (lambda x: gw.solve(x, x, loss="kl"), "loss must be 'square'"),
    "certified loss": (lambda x: gw.certify(x, x, loss="kl"), "loss must be 'square'"),
    "numbers": (
        lambda x: gw.solve(x, 1 - np.eye(3)),
        "y must have 2 edge features .* but has one number",
    ),
    "unlike": (
        lambda x: gw.solve(x, gw.DenseSpace(x.distances[:, :, :1])),
        "y must have 2 edge features .* but has 1 edge features",
    ),
    "solver": (lambda x: gw.solve(x, x, gw.Sorted()), "with edge features"),
    "marginals": (
        lambda x: gw.solve(x, x, marginals="semi_relaxed"),
        "marginals must be left out with edge features",
    ),
    "asymmetric": (
        lambda x: gw.DenseSpace(x.distances * np.tri(3)[:, :, None]),
        "distances must be symmetric",
    ),
    "not square": (
        lambda x: gw.DenseSpace(x.distances[1:]),
        r"square matrix, but has shape \(2, 3, 2\)",
    ),
    "array": (lambda x: gw.solve(x.distances, x), "x must have 2 axes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_one_number_for_a_pair_refuses_vectors(name):
    call, sentence = REFUSED[name]
    values = np.arange(18.0).reshape(3, 3, 2)
    x = gw.DenseSpace(values + values.swapaxes(0, 1))
    with pytest.raises(ValueError, match=sentence):
        call(x)
