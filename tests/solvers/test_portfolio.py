"""The portfolio: couplings, what they attain, and that labels do not matter."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from gwtools.solvers import portfolio
from gwtools.solvers.portfolio import MEDIUM, PARTS, SMALL, Search, left_out
from tests import checkers
from tests.libraries import EAGER, to_numpy
from tests.strategies import Drawn, pairs, spaces

GENERATORS = {
    part.starts.__name__: part.starts
    for part in PARTS
    if part.starts not in (portfolio.product_coupling, portfolio.coarse_to_fine)
}


def search_of(x, y, seed=0, features=None):
    alpha = None if features is None else 0.5
    problem = gw.GWProblem(x, y, features, alpha)
    rng = np.random.default_rng(seed)
    return Search(problem, rng, gw.ConditionalGradient())


def made(name, x, y):
    # One start is of fused objectives alone.
    features = None
    if name == "linear_transport":
        features = x.row_means[:, None] * y.row_means[None, :]
    return list(GENERATORS[name](search_of(x, y, features=features)))


def arguments(x, y):
    return x.matrix, x.weights, y.matrix, y.weights


def scale(x, y):
    return max(1e-300, *(np.abs(side.matrix).max() ** 2 for side in (x, y)))


def random_space(kind, n, seed, uniform=False):
    rng = np.random.default_rng(seed)
    data = rng.standard_normal((n, n if kind == "dense" else 3))
    data = data + data.T if kind == "dense" else data
    data = data.T.copy() if kind == "gram" else data
    weights = np.full(n, 1 / n) if uniform else rng.dirichlet(np.full(n, 3.0))
    return Drawn(kind, data, weights)


@pytest.mark.parametrize("name", GENERATORS)
@settings(max_examples=40)
@given(pair=pairs(most=6))
def test_starts_are_couplings(name, pair):
    x, y = pair
    for candidate in made(name, x.space(), y.space()):
        plan = candidate.plan.dense()
        assert checkers.coupling_error(plan, x.weights, y.weights) <= 1e-12
        assert candidate.independent
        assert candidate.name


@pytest.mark.parametrize("name", GENERATORS)
def test_starts_between_a_few_atoms(name):
    rng = np.random.default_rng(0)
    for n, m in itertools.product((1, 2, 3), repeat=2):
        x, y = random_space("dense", n, n), random_space("dense", m, 5 + m)
        for C, D in ((x.data, y.data), (np.ones((n, n)), y.data), (x.data, np.eye(m))):
            spaces = gw.DenseSpace(C, x.weights), gw.DenseSpace(D, y.weights)
            for candidate in GENERATORS[name](search_of(*spaces, rng)):
                plan = candidate.plan.dense()
                assert checkers.coupling_error(plan, x.weights, y.weights) <= 1e-12


def test_the_product_coupling_is_left_to_the_solver():
    x, y = random_space("dense", 3, 0), random_space("dense", 4, 1)
    (candidate,) = portfolio.product_coupling(search_of(x.space(), y.space()))
    assert candidate.plan is None


# --------------------------------------------------------------------------------
# couplings that attain bounds


@settings(max_examples=60)
@given(pair=pairs(most=6))
def test_the_third_bound_is_attained(pair):
    """Its coupling has the least cost of the bound's program."""
    x, y = pair
    (candidate,) = made("third_bound", x.space(), y.space())
    plan = candidate.plan.dense()
    costs = residual_costs(x, y)
    least = checkers.linear_program(costs, x.weights, y.weights)
    assert abs((costs * plan).sum() - least) <= 1e-9 * scale(x, y)
    bound = float(gw.bounds.third(x.space(), y.space(), residual=True))
    assert abs((costs * plan).sum() - bound) <= 1e-9 * scale(x, y)


def residual_costs(x, y):
    """2 (α_i − β_j)² and W_2² of the rows of both residuals, and (m_C − m_D)²."""
    (m_C, alpha, R), (m_D, beta, S) = (
        checkers.parts((side.matrix + side.matrix.T) / 2, side.weights)
        for side in (x, y)
    )
    costs = 2 * (alpha[:, None] - beta) ** 2 + (m_C - m_D) ** 2
    for i, j in itertools.product(range(x.size), range(y.size)):
        costs[i, j] += checkers.line(R[i], x.weights, S[j], y.weights, 2)
    return costs


@settings(max_examples=60)
@given(pair=pairs(most=6))
def test_the_first_bound_is_attained(pair):
    x, y = pair
    (candidate,) = made("first_bound", x.space(), y.space())
    plan = candidate.plan.dense()
    of_x, of_y = (np.sqrt(side.matrix**2 @ side.weights) for side in (x, y))
    found = float((plan * (of_x[:, None] - of_y) ** 2).sum())
    expected = float(gw.bounds.first(x.space(), y.space()))
    assert abs(found - expected) <= 1e-11 * scale(x, y)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("n", "m"), [(1, 4), (2, 3), (4, 4), (5, 7)])
def test_the_second_bound_is_attained(n, m, seed):
    """The coupling is the (i, j) marginal of one of pairs in the order of their values.

    The pairs (i, k) and (k, i) have one value, and take equal shares of its partners.
    """
    x, y = random_space("dense", n, seed), random_space("dense", m, seed + 30)
    (candidate,) = made("second_bound", x.space(), y.space())
    plan = candidate.plan.dense()
    (values_x, mass_x, pairs_x), (values_y, mass_y, pairs_y) = map(sides, (x, y))
    expected, value = np.zeros((n, m)), 0.0
    for s, t, mass in checkers.walk(values_x, mass_x, values_y, mass_y):
        value += mass * (values_x[s] - values_y[t]) ** 2
        for i, j in itertools.product(pairs_x[s], pairs_y[t]):
            expected[i, j] += mass / 4
    bound = float(gw.bounds.second(x.space(), y.space()))
    assert value == pytest.approx(bound, rel=1e-10)
    np.testing.assert_allclose(plan, expected, atol=1e-14)


def sides(x):
    """The values C_ik for i <= k, the mass of the pairs that have them, and these."""
    C, a = x.matrix, x.weights
    atoms = [(i, k) for k in range(x.size) for i in range(k + 1)]
    values = np.array([C[i, k] for i, k in atoms])
    mass = np.array([a[i] * a[k] * (1 if i == k else 2) for i, k in atoms])
    return values, mass, atoms


# --------------------------------------------------------------------------------
# labels


def relabelled(x, seed):
    return x.take(np.random.default_rng(seed).permutation(x.size))


def objectives(name, x, y):
    problem = gw.GWProblem(x.space(), y.space())
    return sorted(
        checkers.objective(*(side.matrix for side in (x, y)), candidate.plan.dense())
        for candidate in GENERATORS[name](search_of(problem.x, problem.y))
    )


CASES = {
    "dense": ("dense", "dense", 7, 9, False),
    "clouds": ("euclidean", "sqeuclidean", 8, 6, False),
    "gram": ("gram", "gram", 7, 7, False),
    "equal weights": ("euclidean", "euclidean", 6, 6, True),
    "equal weights of more": ("sqeuclidean", "sqeuclidean", 12, 9, True),
}


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("case", CASES)
def test_starts_do_not_depend_on_the_order_of_the_atoms(name, case):
    kind_x, kind_y, n, m, uniform = CASES[case]
    for seed in range(3):
        x = random_space(kind_x, n, seed, uniform)
        y = random_space(kind_y, m, seed + 50, uniform)
        other_x, other_y = relabelled(x, seed), relabelled(y, seed + 9)
        expected = objectives(name, x, y)
        found = objectives(name, other_x, other_y)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_second_bound_follows_the_labels_where_many_values_are_equal():
    """Pairs of one value are coupled independently of each other."""
    rng = np.random.default_rng(0)
    matrices = [rng.integers(0, 3, (n, n)) for n in (7, 9)]
    orders = [rng.permutation(n) for n in (7, 9)]
    spaces, others = [], []
    for matrix, order in zip(matrices, orders, strict=True):
        C = (matrix + matrix.T).astype(float)
        a = rng.dirichlet(np.full(len(C), 3.0))
        spaces.append(gw.DenseSpace(C, a))
        others.append(gw.DenseSpace(C[np.ix_(order, order)], a[order]))
    (candidate,) = made("second_bound", *spaces)
    (other,) = made("second_bound", *others)
    expected = candidate.plan.dense()[np.ix_(*orders)]
    np.testing.assert_allclose(other.plan.dense(), expected, atol=1e-14)


# --------------------------------------------------------------------------------
# eigenvectors


def flips(seed, dimension=3, n=10):
    """A cloud and its image under a rotation that need not be proper, relabelled."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n, dimension)) * np.arange(1.0, dimension + 1)
    points += 0.3 * points**2  # no symmetry
    turn = np.linalg.qr(rng.standard_normal((dimension, dimension)))[0]
    weights = rng.dirichlet(np.full(n, 4.0))
    order = rng.permutation(n)
    return points, (points @ turn)[order], weights, weights[order]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("dimension", [2, 3])
def test_flipped_and_rotated_clouds_are_matched(seed, dimension):
    first, second, a, b = flips(seed, dimension)
    x = gw.PointCloud(first, a, metric="sqeuclidean")
    y = gw.PointCloud(second, b, metric="sqeuclidean")
    objectives = [
        checkers.objective(x.dense(), y.dense(), candidate.plan.dense())
        for candidate in made("eigenvectors", x, y)
    ]
    assert objectives[0] <= 1e-12 * np.abs(x.dense()).max() ** 2
    assert objectives == sorted(objectives)


@pytest.mark.parametrize("products", [1, 2, 3])
def test_all_signs_are_tried(products, monkeypatch):
    rng = np.random.default_rng(0)
    x = gw.GramSpace(rng.standard_normal((products, 9)), rng.dirichlet(np.ones(9)))
    y = gw.GramSpace(rng.standard_normal((products, 7)), rng.dirichlet(np.ones(7)))
    search = search_of(x, y)
    seen = []
    vertex = Search.vertex
    monkeypatch.setattr(
        Search,
        "vertex",
        lambda self, costs: (seen.append(costs), vertex(self, costs))[1],
    )
    kept = list(portfolio.eigenvectors(search))
    assert len(seen) == 2**products
    U, V, lam_mu = portfolio._aligned_modes(search)
    # Eigenfunctions have mean 0 and norm 1, and those of R and S.
    for modes, space in ((U, x), (V, y)):
        weights = space.weights
        np.testing.assert_allclose(weights @ modes, 0.0, atol=1e-12)
        grams = (modes.T * weights) @ modes
        np.testing.assert_allclose(grams, np.eye(products), atol=1e-12)
    bilinear = np.asarray(search.problem.bilinear_cost)
    for signs, costs in zip(
        itertools.product((1, -1), repeat=products), seen, strict=True
    ):
        expected = bilinear - 4 * (U * lam_mu * signs) @ V.T
        np.testing.assert_allclose(costs, expected, atol=1e-12)
    values = [float(search.problem.objective(vertex(search, costs))) for costs in seen]
    best = [float(search.problem.objective(candidate.plan)) for candidate in kept]
    np.testing.assert_allclose(best, sorted(values)[:3])
    assert len({candidate.name for candidate in kept}) == len(kept)


def test_no_eigenvectors_where_no_product_is_positive():
    rng = np.random.default_rng(1)
    points = rng.standard_normal((6, 2))
    kernel = gw.GramSpace(points.T.copy())
    distances = gw.PointCloud(rng.standard_normal((7, 2)), metric="sqeuclidean")
    assert made("eigenvectors", kernel, distances) == []
    assert made("eigenvectors", gw.as_space(np.ones((4, 4))), distances) == []


@pytest.mark.parametrize("metric", ["sqeuclidean", "gram"])
@pytest.mark.parametrize("seed", range(6))
def test_eigenvalues_that_are_float_error_are_left_out(metric, seed):
    """Clouds in a plane of space: the third eigenvalue is 0 up to float error."""
    rng = np.random.default_rng(seed)
    first, second, a, b = flips(seed, 2)
    clouds = []
    for points in (first, second):
        turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        clouds.append(np.c_[points, np.zeros(len(points))] @ turn)
    if metric == "gram":
        x, y = (
            gw.GramSpace(points.T.copy(), weights)
            for points, weights in zip(clouds, (a, b), strict=True)
        )
    else:
        x, y = (
            gw.PointCloud(points, weights, metric=metric)
            for points, weights in zip(clouds, (a, b), strict=True)
        )
    search = search_of(x, y)
    U, V, products = portfolio._aligned_modes(search)
    assert len(products) == 2
    assert max(np.abs(U).max(), np.abs(V).max()) < 1e2
    best = next(portfolio.eigenvectors(search))
    least = float(search.problem.objective(best.plan))
    assert least <= 1e-12 * np.abs(x.dense()).max() ** 2


# --------------------------------------------------------------------------------
# curvature


@settings(max_examples=60)
@given(pair=st.tuples(spaces(most=6), spaces(most=6)))
def test_curvatures_are_those_of_the_objective(pair):
    """The least and largest product of eigenvalues of both residuals, and 0."""
    x, y = pair
    spectra = [
        np.append(checkers.spectrum((s.matrix + s.matrix.T) / 2, s.weights), 0.0)
        for s in pair
    ]
    products = np.outer(*spectra)
    found = portfolio.curvatures(gw.GWProblem(x.space(), y.space()))
    most = 1e-11 * scale(x, y)
    assert abs(found.least - products.min()) <= most
    assert abs(found.largest - products.max()) <= most


# --------------------------------------------------------------------------------
# what goes on without end, sizes, libraries


def test_the_best_plan_is_perturbed_five_times_for_each_random_vertex():
    x, y = random_space("dense", 6, 0), random_space("dense", 8, 1)
    search = search_of(x.space(), y.space())
    search.best = gw.DensePlan(np.outer(x.weights, y.weights))
    found = list(itertools.islice(portfolio.endless(search), 13))
    independent = [place for place, start in enumerate(found) if start.independent]
    assert independent == [5, 11]
    assert [found[place].name for place in independent] == [
        "random vertex 1",
        "random vertex 2",
    ]
    for candidate in found:
        plan = candidate.plan.dense()
        assert checkers.coupling_error(plan, x.weights, y.weights) <= 1e-12
    assert np.count_nonzero(found[5].plan.dense()) <= 13
    vertices = [found[place].plan.dense() for place in independent]
    assert not np.array_equal(*vertices)


@pytest.mark.parametrize(
    ("n", "m", "words"),
    [
        (9, 9, ""),
        (500, 500, ""),
        (10, 3, ""),
        (500, 501, "eigenvectors, the first bound, the second bound, annealing"),
        (3, 501, "eigenvectors, the first bound, the second bound, annealing"),
        (501, 3, "eigenvectors, the first bound, the second bound, annealing"),
        (2500, 2500, "eigenvectors, the first bound, the second bound, annealing"),
        (2500, 2501, "exact copies, the third bound, eigenvectors"),
    ],
)
def test_what_is_left_out_at_a_size(n, m, words):
    assert (SMALL, MEDIUM) == (500, 2500)
    x, y = (gw.PointCloud(np.zeros((size, 1)), metric="sqeuclidean") for size in (n, m))
    search = search_of(x, y)
    # The larger space decides.
    assert search.atoms == max(n, m)
    found = left_out(search, PARTS)
    assert words in found
    assert bool(found) == bool(words)
    assert found == "" or found.endswith("random and perturbed starts")


def test_large_third_bounds_need_equal_weights(monkeypatch):
    monkeypatch.setattr(portfolio, "SMALL", 6)
    for n, m, uniform, missing in (
        (6, 5, False, False),
        (7, 5, False, True),
        (5, 7, False, True),
        (7, 5, True, False),
    ):
        x = random_space("euclidean", n, 0, uniform)
        y = random_space("euclidean", m, 1, uniform)
        said = left_out(search_of(x.space(), y.space()), PARTS)
        assert ("the third bound" in said) == missing
        names = {start.name for start in gw.solve(x.space(), y.space()).starts}
        assert missing == ("third bound" not in names)


@pytest.mark.parametrize("library", EAGER, ids=str)
@pytest.mark.parametrize("name", GENERATORS)
def test_starts_are_of_the_library_of_the_spaces(library, name):
    first, second, _, _ = flips(0, n=9)
    with library.active():
        x, y = (gw.PointCloud(library.array(points)) for points in (first, second))
        found = made(name, x, y)
        assert found
        a, b = to_numpy(x.weights), to_numpy(y.weights)
        for candidate in found:
            plan = candidate.plan.dense()
            assert library.owns(plan)
            most = 1e-12 if library.dtype == "float64" else 1e-6
            assert checkers.coupling_error(to_numpy(plan), a, b) <= most


def test_coarse_to_fine_starts_between_many_atoms():
    rng = np.random.default_rng(0)
    few, many = rng.standard_normal((249, 2)), rng.standard_normal((260, 2))
    many = gw.PointCloud(many, rng.dirichlet(np.full(260, 3.0)))
    for pair in ((gw.PointCloud(few), many), (many, gw.PointCloud(few))):
        assert list(portfolio.coarse_to_fine(search_of(*pair))) == []
    y = gw.PointCloud(rng.standard_normal((250, 3)))
    search = search_of(many, y)
    (candidate,) = portfolio.coarse_to_fine(search)
    plan = candidate.plan.dense()
    assert checkers.coupling_error(plan, many.weights, y.weights) <= 1e-12
    assert np.count_nonzero(plan) <= 509
    objective = float(search.problem.objective(candidate.plan))
    product = search.problem.product_objective
    assert objective < 0.5 * product
