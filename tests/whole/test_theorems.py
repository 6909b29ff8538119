"""Theorems of gwtools/THEORY.md that join several rooms.

One property each, named after it.
"""

from fractions import Fraction

import numpy as np
import ot
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from tests import checkers
from tests.bounds.test_every_bound import NAMES, arguments, slack, sorting, value
from tests.strategies import (
    CONDITIONALLY_NEGATIVE,
    Drawn,
    additive,
    additive_pairs,
    coupled,
    couplings,
    orders,
    pairs,
    scaled_copies,
    spaces,
)


@given(coupled(null=True))
def test_theorem_2_pythagoras(instance):
    x, y, plan = instance
    expected = checkers.objective(x.matrix, y.matrix, plan)
    (m_C, alpha, R), (m_D, beta, S) = (
        checkers.parts(s.matrix, s.weights) for s in (x, y)
    )
    linear = float((plan * (alpha[:, None] - beta[None, :]) ** 2).sum())
    split = (m_C - m_D) ** 2 + 2 * linear + checkers.objective(R, S, plan)
    assert split == pytest.approx(expected, rel=1e-12, abs=slack(x, y))
    problem = gw.GWProblem(x.space(), y.space())
    assert float(problem.objective(gw.DensePlan(plan))) == pytest.approx(
        expected, rel=1e-12, abs=10 * slack(x, y)
    )


@given(pairs(null=True))
def test_theorem_2_product(pair):
    x, y = pair
    problem = gw.GWProblem(x.space(), y.space())
    product = np.outer(x.weights, y.weights)
    expected = checkers.objective(x.matrix, y.matrix, product)
    assert problem.product_objective == pytest.approx(
        expected, rel=1e-12, abs=slack(x, y)
    )


@given(pairs(null=True))
def test_theorem_3_a_priori(pair):
    x, y = pair
    bound = checkers.norm_bound(*arguments(x, y))
    (_, alpha, R), (_, beta, S) = (checkers.parts(s.matrix, s.weights) for s in (x, y))
    sizes = checkers.norm(R, x.weights) * checkers.norm(S, y.weights)
    reached = checkers.objective(x.matrix, y.matrix, sorting(x, y))
    assert reached <= bound + 4 * sizes + slack(x, y)
    if (x.kind == "gram") == (y.kind == "gram") and "dense" not in (x.kind, y.kind):
        assert reached <= bound + 2 * sizes + slack(x, y)
    spread = (
        x.weights @ alpha**2
        + y.weights @ beta**2
        - checkers.line(alpha, x.weights, beta, y.weights, 2)
    )
    product = checkers.objective(x.matrix, y.matrix, np.outer(x.weights, y.weights))
    assert product == pytest.approx(
        bound + 2 * spread + 2 * sizes, rel=1e-10, abs=slack(x, y)
    )
    certificate = gw.certify(x.space(), y.space())
    assert certificate.a_priori == pytest.approx(
        4 * sizes, rel=1e-10, abs=max(10 * slack(x, y), 1e-250)
    )
    assert reached <= certificate.bounds["norm"] + certificate.a_priori + slack(x, y)


@given(additive_pairs())
def test_theorem_5_additive(known):
    for name in ("norm", "spectral"):
        assert value(name, known.x, known.y) == pytest.approx(
            known.value, rel=1e-10, abs=10 * slack(known.x, known.y)
        )
    result = gw.solve(known.x.space(), known.y.space(), gw.Sorted(kind="norm"))
    for found in (result.objective, result.estimate):
        assert float(found) == pytest.approx(
            known.value, rel=1e-10, abs=10 * slack(known.x, known.y)
        )


@given(additive(), st.data())
def test_theorem_5_no_coupling_is_better(x, data):
    y = data.draw(spaces())
    plan = data.draw(couplings(x.weights, y.weights))
    reached = checkers.objective(x.matrix, y.matrix, sorting(x, y))
    assert reached <= checkers.objective(x.matrix, y.matrix, plan) + slack(x, y)


@pytest.mark.parametrize("name", NAMES)
@given(
    spaces(kinds=("dense",)),
    spaces(),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1e-6, 1e-2, 1.0]),
)
def test_theorem_6_perturbation(name, x, y, seed, size):
    noise = size * np.random.default_rng(seed).standard_normal(x.data.shape)
    moved = Drawn("dense", x.data + (noise + noise.T) / 2, x.weights)
    allowed = checkers.norm(moved.data - x.data, x.weights)
    roots = [value(name, s, y) ** 0.5 for s in (x, moved)]
    float_error = 8 * np.finfo(float).eps * max(roots) + 1e3 * slack(
        x, y, moved
    ) ** 0.5 * (min(roots) < 1e-5)
    assert abs(roots[0] - roots[1]) <= allowed * (1 + 1e-9) + float_error


@given(scaled_copies())
def test_theorem_7_scaled_copy_is_optimal(known):
    sorted_pairs = checkers.line(
        known.x.matrix.ravel(),
        np.outer(known.x.weights, known.x.weights).ravel(),
        known.y.matrix.ravel(),
        np.outer(known.y.weights, known.y.weights).ravel(),
        2,
    )
    assert sorted_pairs == pytest.approx(
        known.value, rel=1e-9, abs=slack(known.x, known.y)
    )


@given(coupled(null=True))
def test_theorem_8_first_step(instance):
    x, y, plan = instance
    product = gw.DensePlan(np.outer(x.weights, y.weights))
    cost = gw.GWProblem(x.space(), y.space()).linearize(product)
    assert float((cost * sorting(x, y)).sum()) <= float(
        (cost * plan).sum()
    ) + 10 * slack(x, y)


@given(coupled(null=True))
def test_theorem_8_gradient(instance):
    x, y, plan = instance
    found = gw.GWProblem(x.space(), y.space()).linearize(gw.DensePlan(plan))
    full = checkers.gradient(x.matrix, y.matrix, plan)
    # Equal up to a function of i plus a function of j, which couplings do not see.
    a, b = x.weights, y.weights
    difference = found - full
    difference = difference - (difference @ b)[:, None]
    difference = difference - (a @ difference)[None, :]
    assert np.abs(difference).max() <= 100 * slack(x, y)


@given(coupled(), st.data())
def test_theorem_8_line_search(instance, data):
    x, y, plan = instance
    other = data.draw(couplings(x.weights, y.weights))
    (_, _, R), (_, _, S) = (checkers.parts(s.matrix, s.weights) for s in (x, y))
    delta = other - plan
    full = checkers.gradient(x.matrix, y.matrix, plan)
    B, A = float((full * delta).sum()), -2 * float(np.trace(R @ delta @ S @ delta.T))
    t = data.draw(st.floats(0, 1))
    expected = checkers.objective(x.matrix, y.matrix, plan) + B * t + A * t**2
    found = checkers.objective(x.matrix, y.matrix, plan + t * delta)
    assert found == pytest.approx(expected, rel=1e-10, abs=100 * slack(x, y))


@pytest.mark.filterwarnings(
    "ignore::gwtools.ConvergenceWarning"
)  # the minimum is approached without end
@pytest.mark.parametrize("solver", [gw.ConditionalGradient(), gw.Sinkhorn()], ids=str)
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1]])
def test_theorem_8_saddle(solver, order):
    """Two edges against the identity: no permutation goes below 1/2.

    The product is at 3/8, the minimum is 1/4.
    """
    C = np.kron(np.eye(2), np.array([[0.0, 1.0], [1.0, 0.0]]))[np.ix_(order, order)]
    assert checkers.best_permutation(C, np.eye(4)) == 0.5
    for pair in ((C, np.eye(4)), (np.eye(4), C)):
        assert float(gw.solve(*pair, solver).objective) == pytest.approx(0.25, abs=1e-3)
    assert float(gw.bounds.spectral(C, np.eye(4))) == pytest.approx(0.25)


@given(pairs(generic=True), st.sampled_from([1e-3, 0.5, 100.0]))
def test_theorem_9_units(pair, unit):
    """Bound and objective grow by different powers of the unit.

    Their relative difference therefore measures the unit.
    """
    x, y = pair
    solver = gw.Sorted(kind="row_means", p=1)
    here, there = (
        gw.solve(s.space(), t.space(), solver)
        for s, t in ((x, y), (x.scaled(unit), y.scaled(unit)))
    )
    assert float(there.estimate) == pytest.approx(
        unit * float(here.estimate), rel=1e-9, abs=unit * slack(x, y)
    )
    assert float(there.objective) == pytest.approx(
        unit**2 * float(here.objective), rel=1e-9, abs=unit**2 * slack(x, y)
    )
    assert float(here.estimate) ** 2 <= float(here.objective) + slack(x, y)


@pytest.mark.filterwarnings("ignore::gwtools.ConvergenceWarning")
@given(st.data())
def test_theorem_11_convex(data):
    """A kernel against a distance: the linearisation is a lower bound.

    At every step the objective minus the Frank-Wolfe gap is below every coupling.
    """
    x, y = (
        data.draw(spaces(kinds=("gram",))),
        data.draw(spaces(kinds=CONDITIONALLY_NEGATIVE)),
    )
    plan = data.draw(couplings(x.weights, y.weights))
    steps = data.draw(st.integers(1, 20))
    result = gw.solve(
        x.space(), y.space(), gw.ConditionalGradient(max_iterations=steps)
    )
    found = checkers.check_result(result, *arguments(x, y))
    gap = checkers.frank_wolfe_gap(*arguments(x, y), result.plan.dense())
    assert found - gap <= checkers.objective(x.matrix, y.matrix, plan) + 10 * slack(
        x, y
    )


@given(st.sampled_from([("gram",), CONDITIONALLY_NEGATIVE]), st.data())
def test_theorem_11_concave(kinds, data):
    x, y = data.draw(pairs(kinds=kinds, generic=True))
    result = gw.solve(x.space(), y.space())
    assert np.count_nonzero(result.plan.dense()) <= x.size + y.size - 1
    plan, other = (data.draw(couplings(x.weights, y.weights)) for _ in range(2))
    ends = [checkers.objective(x.matrix, y.matrix, p) for p in (plan, other)]
    assert checkers.objective(x.matrix, y.matrix, (plan + other) / 2) >= sum(
        ends
    ) / 2 - slack(x, y)


@given(coupled(kinds=("sqeuclidean",)))
def test_theorem_12_low_rank_form(instance):
    x, y, plan = instance
    a, b = x.weights, y.weights
    X, Y = x.data - a @ x.data, y.data - b @ y.data
    alpha, beta = (X**2).sum(1) - a @ (X**2).sum(1), (Y**2).sum(1) - b @ (Y**2).sum(1)
    Z, w = X.T @ plan @ Y, float(alpha @ plan @ beta)
    expected = (
        checkers.objective(x.matrix, y.matrix, np.outer(a, b))
        - 4 * w
        - 8 * float((Z**2).sum())
    )
    found = float(gw.GWProblem(x.space(), y.space()).objective(gw.DensePlan(plan)))
    assert found == pytest.approx(expected, rel=1e-10, abs=100 * slack(x, y))


def test_theorem_12_line():
    """On the line with squared distances neither monotone coupling need be optimal."""
    x, y = (
        np.array(v, dtype=float)
        for v in ([-1, 0, 0, 0, 0, 0, 1], [-1, -1, 0, 0, 0, 0, 0])
    )
    C, D = ((v[:, None] - v[None, :]) ** 2 for v in (x, y))
    monotone = [
        float(((C - D[np.ix_(o, o)]) ** 2).mean()) for o in (range(7), range(6, -1, -1))
    ]
    assert monotone == pytest.approx([36 / 49, 36 / 49])
    assert checkers.best_permutation(C, D) == pytest.approx(32 / 49)


def lattice_pairs() -> st.SearchStrategy[tuple[np.ndarray, ...]]:
    """Integer matrices with weights that are dyadic.

    float64 holds the instance exactly.
    """

    @st.composite
    def side(draw):
        n = draw(st.integers(1, 5))
        values = draw(st.lists(st.integers(-9, 9), min_size=n * n, max_size=n * n))
        matrix = np.array(values, dtype=float).reshape(n, n)
        shares = draw(st.lists(st.integers(0, 8), min_size=8, max_size=8))
        counts = np.bincount(np.array(shares) % n, minlength=n)
        return matrix + matrix.T, counts / 8

    return st.tuples(side(), side()).map(lambda sides: (*sides[0], *sides[1]))


@given(lattice_pairs(), st.data())
def test_theorem_13_outward(instance, data):
    """Against rational arithmetic, with no tolerance at all."""
    C, a, D, b = instance
    order_a, order_b = (data.draw(orders(len(w))) for w in (a, b))
    plan = np.zeros((len(a), len(b)))
    for i, j, mass in checkers.walk(np.argsort(order_a), a, np.argsort(order_b), b):
        plan[i, j] += mass
    exact = checkers.exact_objective(C, D, plan)
    certificate = gw.certify(gw.DenseSpace(C, a), gw.DenseSpace(D, b), plan)
    assert all(Fraction(lower) <= exact for lower in certificate.bounds.values())
    assert exact <= Fraction(certificate.upper)
    assert (
        certificate.gap
        <= float(exact - Fraction(certificate.lower))
        + 1e-9 * max(np.abs(C).max(), np.abs(D).max()) ** 2
    )


@given(lattice_pairs(), st.sampled_from([2.0**-490, 2.0**490, 1.0]))
def test_theorem_13_exact_bounds(instance, unit):
    """The row-means bound itself is not below the certified one.

    It is computed in fractions.
    """
    C, a, D, b = instance
    exact_a, exact_b = ([Fraction(v) for v in w] for w in (a, b))
    f, g = (
        [
            sum(
                (Fraction(c) * w for c, w in zip(row, weights, strict=True)),
                Fraction(0),
            )
            for row in matrix
        ]
        for matrix, weights in ((C, exact_a), (D, exact_b))
    )
    exact = sum(
        (m * (f[i] - g[j]) ** 2 for i, j, m in checkers.walk(f, exact_a, g, exact_b)),
        Fraction(0),
    )
    certificate = gw.certify(gw.DenseSpace(C * unit, a), gw.DenseSpace(D * unit, b))
    assert Fraction(certificate.bounds["row_means"]) <= exact * Fraction(unit) ** 2
    largest = max(np.abs(C).max(), np.abs(D).max()) ** 2
    assert (
        certificate.bounds["row_means"] / unit / unit >= float(exact) - 1e-10 * largest
    )


@given(st.sampled_from([1e-150, 1e-75, 1e75, 1e150]), pairs(generic=True))
def test_theorem_13_scales(factor, pair):
    x, y = pair
    here, there = (
        gw.certify(s.space(), t.space())
        for s, t in ((x, y), (x.scaled(factor), y.scaled(factor)))
    )
    for name in ("lower", "upper"):
        scaled = getattr(there, name) / factor / factor
        assert scaled == pytest.approx(getattr(here, name), rel=1e-9, abs=slack(x, y))


@given(
    spaces(generic=True),
    st.sampled_from([1e-15, 1e-12, 1e-9]),
    st.integers(0, 2**32 - 1),
)
def test_theorem_13_near_equal(x, size, seed):
    """Nearly equal spaces: the bound stays below a coupling.

    Rounding is as large as the distance.
    """
    noise = np.random.default_rng(seed).standard_normal(x.data.shape) * size
    if x.kind == "dense":
        noise = (noise + noise.T) / 2
    y = Drawn(x.kind, x.data + noise, x.weights)
    certificate = gw.certify(x.space(), y.space(), np.diag(x.weights))
    reached = checkers.objective(x.matrix, y.matrix, np.diag(x.weights))
    assert certificate.lower <= reached <= certificate.upper


@given(
    lattice_pairs(), st.sampled_from([1e-9, 1e-12, 1e-15]), st.integers(0, 2**32 - 1)
)
def test_theorem_13_marginals(instance, size, seed):
    """A plan that misses its marginals a little still gives an upper bound.

    It bounds a true coupling's objective.
    """
    C, a, D, b = instance
    noise = 1 + size * np.random.default_rng(seed).uniform(-1, 1, (len(a), len(b)))
    certificate = gw.certify(
        gw.DenseSpace(C, a), gw.DenseSpace(D, b), np.outer(a, b) * noise
    )
    assert checkers.exact_objective(C, D, np.outer(a, b)) <= Fraction(certificate.upper)


@given(coupled(kinds=("dense",)), st.integers(0, 2**32 - 1))
def test_theorem_14_asymmetry(instance, seed):
    """Skew parts of rounding size, which DenseSpace accepts, only raise objectives."""
    x, y, plan = instance
    skew = (
        np.random.default_rng(seed).uniform(-1, 1, x.data.shape)
        * 8e-15
        * np.abs(x.data).max()
    )
    C = x.data + (skew - skew.T) / 2
    certificate = gw.certify(gw.DenseSpace(C, x.weights), y.space(), plan)
    symmetric = checkers.objective((C + C.T) / 2, y.matrix, plan)
    assert symmetric <= checkers.objective(C, y.matrix, plan) * (1 + 1e-15)
    assert certificate.lower <= symmetric + slack(x, y) * 1e-3
    assert abs(certificate.upper - symmetric) <= 10 * slack(x, y)


def test_epsilon_convention(rng):
    """ε multiplies KL(π | a ⊗ b) in F(π) + ε KL: the same number as POT's epsilon."""
    C, D = (checkers.euclidean(rng.standard_normal((n, 2))) for n in (5, 7))
    a, b = rng.dirichlet(np.full(5, 3.0)), rng.dirichlet(np.full(7, 3.0))
    epsilon = (
        0.5 * gw.GWProblem(gw.DenseSpace(C, a), gw.DenseSpace(D, b)).product_objective
    )
    solver = gw.Sinkhorn(
        epsilon=epsilon, proximal=False, tolerance=1e-14, max_iterations=2000
    )
    ours = gw.solve(gw.DenseSpace(C, a), gw.DenseSpace(D, b), solver).plan.dense()
    theirs = ot.gromov.entropic_gromov_wasserstein(
        C, D, a, b, epsilon=epsilon, tol=1e-14, max_iter=2000
    )
    assert np.abs(ours - np.outer(a, b)).max() > 1e-3
    assert np.abs(ours - theirs).max() <= 1e-7


def squared_clouds(rng, sizes=(5, 6), dimensions=(2, 3)):
    """Centred points of small clouds with weights, and their spaces."""
    drawn = []
    for n, d in zip(sizes, dimensions, strict=True):
        a = rng.dirichlet(np.full(n, 3.0))
        points = rng.uniform(-1, 1, (n, d))
        points = points - a @ points
        space = gw.PointCloud(points, a, metric="sqeuclidean")
        drawn.append((points, a, space))
    return drawn


def test_entropic_dual(rng):
    """F(a ⊗ b) + min over B of 8‖B‖² + entropic transport is the least F + ε KL."""
    (x, a, space_x), (y, b, space_y) = squared_clouds(rng)
    norms_x, norms_y = (x**2).sum(1), (y**2).sum(1)
    threshold = 16 * np.sqrt((a @ norms_x**2) * (b @ norms_y**2))
    epsilon = 1.2 * threshold
    alpha, beta = norms_x - a @ norms_x, norms_y - b @ norms_y

    def transport(B):
        """Entropic transport by Sinkhorn's algorithm, and its coupling."""
        cost = -4 * np.outer(alpha, beta) - 16 * x @ B @ y.T
        kernel = np.exp(-cost / epsilon)
        v = np.ones(len(b))
        for _ in range(200):
            u = 1 / (kernel @ (b * v))
            v = 1 / (kernel.T @ (a * u))
        plan = np.outer(a * u, b * v) * kernel
        return epsilon * (a @ np.log(u) + b @ np.log(v)), plan

    def dual(B):
        product = gw.GWProblem(space_x, space_y).product_objective
        return product + 8 * (B**2).sum() + transport(B)[0]

    B = rng.standard_normal((2, 3)) / 10
    values = []
    for _ in range(200):
        values.append(dual(B))
        B = x.T @ transport(B)[1] @ y
    assert (np.diff(values) <= 1e-12).all()
    solver = gw.Sinkhorn(epsilon=epsilon, proximal=False, tolerance=1e-12)
    result = gw.solve(space_x, space_y, solver)
    assert values[-1] == pytest.approx(float(result.regularized), rel=1e-9)
    assert values[0] > values[-1] + 1e-6
    # The interval holds it, by the same threshold.
    lower, upper = result.regularized_interval
    assert lower - 1e-12 <= values[-1] <= upper + 1e-12
    below = gw.Sinkhorn(epsilon=0.99 * threshold, proximal=False)
    assert gw.solve(space_x, space_y, below).regularized_interval is None


def test_entropic_sample_rate(rng):
    """Sixteen times the sample: a quarter of the error of the least F + ε KL."""
    (x, a, space_x), (y, b, space_y) = squared_clouds(rng, (4, 4), (1, 1))
    solver = gw.Sinkhorn(epsilon=20.0, proximal=False)
    exact = float(gw.solve(space_x, space_y, solver).regularized)
    errors = []
    for n in (50, 800):
        samples = []
        for points, weights in ((x, a), (y, b)):
            drawn = rng.multinomial(n, weights, 150) / n
            samples.append([gw.PointCloud(points, w, "sqeuclidean") for w in drawn])
        found = gw.solve_batch(*samples, solver)
        values = np.array([float(result.regularized) for result in found])
        errors.append(np.abs(values - exact).mean())
    assert 3 < errors[0] / errors[1] < 5.5
