"""Conditional gradient: known answers, the saddle, stopping, and POT's answers."""

import itertools

import numpy as np
import ot
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import gwtools as gw
from gwtools.solvers import conditional_gradient
from gwtools.solvers.exchange import exchanged
from tests import checkers
from tests.strategies import (
    CONDITIONALLY_NEGATIVE,
    KINDS,
    Drawn,
    additive_pairs,
    couplings,
    known,
    one_points,
    orders,
    pairs,
    permuted_copies,
    scaled_copies,
    simplices,
    spaces,
    two_points,
    well_separated,
)

REACHED = {
    "one point": one_points(),
    "two points": two_points(),
    "uniform simplices": simplices(uniform=True),
    "permuted copy": permuted_copies(generic=True),
    "scaled copy": scaled_copies(generic=True),
    "additive": additive_pairs(),
}


def arguments(x, y):
    return x.matrix, x.weights, y.matrix, y.weights


def scale(x, y):
    return max(1e-300, *(np.abs(s.matrix).max() ** 2 for s in (x, y)))


def solve(x, y, **options):
    return gw.solve(x.space(), y.space(), gw.ConditionalGradient(**options))


@pytest.mark.parametrize("name", REACHED)
@given(data=st.data())
def test_reaches_known_answers(name, data):
    known = data.draw(REACHED[name])
    assume(
        name not in ("permuted copy", "scaled copy") or well_separated(known.x, known.y)
    )
    result = solve(known.x, known.y)
    found = checkers.check_result(result, *arguments(known.x, known.y))
    assert abs(found - known.value) <= 1e-9 * scale(known.x, known.y)
    assert result.status.success


@given(permuted_copies(kinds=("dense", "euclidean"), generic=True))
def test_a_permuted_copy_is_at_distance_exactly_zero(known):
    assume(well_separated(known.x))
    result = solve(known.x, known.y)
    assert float(result.objective) == float(result.distance) == 0.0
    assert result.certificate.kind is gw.Kind.GLOBAL


@given(known())
def test_is_never_below_a_known_answer(known):
    result = solve(known.x, known.y)
    assert checkers.check_result(
        result, *arguments(known.x, known.y)
    ) >= known.value - 1e-12 * scale(known.x, known.y)


@pytest.mark.filterwarnings("ignore::gwtools.ConvergenceWarning")
@given(pairs(null=True), st.integers(1, 30))
def test_results_hold(pair, steps):
    x, y = pair
    result = solve(x, y, max_iterations=steps)
    found = checkers.check_result(result, *arguments(x, y))
    product = checkers.objective(x.matrix, y.matrix, np.outer(x.weights, y.weights))
    assert found <= product + 1e-12 * scale(x, y)
    assert result.iterations <= steps
    assert float(result.estimate) == float(result.objective)


@pytest.mark.filterwarnings("ignore::gwtools.ConvergenceWarning")
@given(pairs(), st.integers(1, 30))
def test_the_gap_is_that_of_the_returned_plan(pair, steps):
    x, y = pair
    result = solve(x, y, max_iterations=steps)
    gap = checkers.frank_wolfe_gap(*arguments(x, y), result.plan.dense())
    if (
        result.frank_wolfe_gap is None
    ):  # the steps ran out; the certificate may close all the same
        assert result.status in (gw.Status.MAX_ITERATIONS, gw.Status.GLOBAL)
    else:
        assert result.status.success
        assert result.frank_wolfe_gap == pytest.approx(gap, abs=1e-7 * scale(x, y))


@given(pairs(kinds=CONDITIONALLY_NEGATIVE, generic=True))
def test_stationary_means_a_small_gap(pair):
    x, y = pair
    result = solve(x, y)
    assert result.status in (gw.Status.STATIONARY, gw.Status.GLOBAL)
    gap = checkers.frank_wolfe_gap(*arguments(x, y), result.plan.dense())
    product = checkers.objective(x.matrix, y.matrix, np.outer(x.weights, y.weights))
    assert -1e-12 * scale(x, y) <= gap <= 1.1e-9 * product + 1e-9 * scale(x, y)


@given(pairs(kinds=CONDITIONALLY_NEGATIVE, generic=True), st.data())
def test_does_not_depend_on_labels_or_on_the_order_of_the_spaces(pair, data):
    x, y = pair
    assume(well_separated(x, y))
    order = np.array(data.draw(orders(x.size)))
    results = [
        float(solve(*spaces).objective)
        for spaces in ((x, y), (x.take(order), y), (y, x))
    ]
    assert np.ptp(results) <= 1e-9 * scale(x, y)


@given(
    st.integers(2, 4), st.sampled_from([("gram",), CONDITIONALLY_NEGATIVE]), st.data()
)
def test_never_beats_all_permutations_on_concave_problems(n, kinds, data):
    drawn = [data.draw(spaces(kinds=kinds, least=n, most=n)) for _ in range(2)]
    x, y = (Drawn(s.kind, s.data, np.full(n, 1 / n)) for s in drawn)
    best = checkers.best_permutation(x.matrix, y.matrix)
    assert float(solve(x, y).objective) >= best - 1e-12 * scale(x, y)


CONSTANT_ROW_MEANS = {
    "two points": lambda n: (n % 5 + 1.0) * (1 - np.eye(2)),
    "simplex": lambda n: 1 - np.eye(n),
    "cycle": lambda n: np.minimum(
        d := abs(np.subtract.outer(np.arange(n), np.arange(n))), n - d
    ).astype(float),
}


@pytest.mark.parametrize("first", CONSTANT_ROW_MEANS)
@pytest.mark.parametrize("second", CONSTANT_ROW_MEANS)
@pytest.mark.parametrize(("n", "m"), [(2, 5), (5, 4), (6, 6), (7, 3), (9, 8)])
@pytest.mark.parametrize("noise", [0.0, 1e-16])
def test_leaves_the_saddle(first, second, n, m, noise, rng):
    """All these pairs descend from the product coupling (theorem 8 d)."""
    C, D = CONSTANT_ROW_MEANS[first](n), CONSTANT_ROW_MEANS[second](m)
    C = C * (1 + noise * (np.add.outer(*[rng.standard_normal(len(C))] * 2)))
    result = gw.solve(C, D)
    product = checkers.objective(C, D, np.full((len(C), len(D)), 1 / len(C) / len(D)))
    assert float(result.objective) < product * (1 - 1e-3)
    assert result.status.success


def random_problem(kind, n, m, seed):
    rng = np.random.default_rng(seed)
    a, b = (
        np.full(k, 1 / k) if seed % 3 == 0 else rng.dirichlet(np.full(k, 2.0))
        for k in (n, m)
    )
    if kind == "dense":
        C, D = (
            np.abs(g + g.T)
            for g in (rng.standard_normal((n, n)), rng.standard_normal((m, m)))
        )
        return Drawn("dense", C, a), Drawn("dense", D, b)
    x, y = (rng.standard_normal((k, 3)) for k in (n, m))
    return Drawn(kind, x.T if kind == "gram" else x, a), Drawn(
        kind, y.T if kind == "gram" else y, b
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("n", "m"), [(30, 30), (25, 40), (60, 35)])
@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"dense"}))
def test_objective_is_that_of_POT_from_the_same_start(kind, n, m, seed):
    x, y = random_problem(kind, n, m, seed)
    start = interior_start(x, y, seed)
    ours = solve(
        x,
        y,
        init=gw.DensePlan(start),
        tolerance=1e-12,
        max_iterations=2000,
        exchange=False,
    )
    plan, log = ot.gromov.gromov_wasserstein(
        x.matrix,
        y.matrix,
        x.weights,
        y.weights,
        G0=start,
        log=True,
        tol_rel=1e-15,
        tol_abs=1e-15,
        max_iter=2000,
    )
    assert float(ours.objective) == pytest.approx(float(log["gw_dist"]), rel=1e-8)
    assert float(ours.objective) == pytest.approx(
        float(gw.GWProblem(x.space(), y.space()).objective(gw.DensePlan(plan))),
        rel=1e-8,
    )


@pytest.mark.parametrize(("n", "m"), [(30, 30), (25, 40)])
def test_comes_to_rest_between_residuals_of_no_sign(n, m):
    """POT's steps towards single vertices zigzag there.

    Both end in local minima of their own, as good on average.
    """
    ours, theirs = [], []
    for seed in range(12):
        x, y = random_problem("dense", n, m, seed)
        start = interior_start(x, y, seed)
        result = solve(x, y, init=gw.DensePlan(start))
        assert result.status is gw.Status.STATIONARY
        assert result.iterations <= 200
        _, log = ot.gromov.gromov_wasserstein(
            x.matrix,
            y.matrix,
            x.weights,
            y.weights,
            G0=start,
            log=True,
            tol_rel=1e-9,
            tol_abs=1e-9,
            max_iter=300,
        )
        ours.append(float(result.objective))
        theirs.append(float(log["gw_dist"]))
    assert np.mean(ours) <= np.mean(theirs) * 1.01


def interior_start(x, y, seed):
    """An inner coupling, not the product: no gap of 0, no tie between vertices."""
    rng = np.random.default_rng(1000 + seed)
    start = np.outer(x.weights, y.weights) * np.exp(
        0.3 * rng.standard_normal((x.size, y.size))
    )
    for _ in range(500):
        start = start * (y.weights / start.sum(0))[None, :]
        start = start * (x.weights / start.sum(1))[:, None]
    return start


@pytest.mark.parametrize("kind", CONDITIONALLY_NEGATIVE)
def test_product_start_is_that_of_POT(kind):
    """The sorting coupling solves the program that POT sends to its simplex first."""
    x, y = random_problem(kind, 40, 55, 1)
    _, log = ot.gromov.gromov_wasserstein(
        x.matrix,
        y.matrix,
        x.weights,
        y.weights,
        log=True,
        tol_rel=1e-15,
        tol_abs=1e-15,
        max_iter=2000,
    )
    assert float(solve(x, y, exchange=False).objective) == pytest.approx(
        float(log["gw_dist"]), rel=1e-8
    )


def test_large_spaces_use_the_priced_simplex(rng):
    """Above 300² arcs programs are solved on few arcs, with the same answer."""
    x, y = (
        gw.PointCloud(rng.standard_normal((n, 3)), rng.dirichlet(np.full(n, 4.0)))
        for n in (330, 310)
    )
    _, log = ot.gromov.gromov_wasserstein(
        x.dense(),
        y.dense(),
        x.weights,
        y.weights,
        log=True,
        tol_rel=1e-9,
        tol_abs=1e-9,
        max_iter=300,
    )
    result = gw.solve(x, y, gw.ConditionalGradient(exchange=False))
    assert float(result.objective) == pytest.approx(float(log["gw_dist"]), rel=1e-8)
    assert checkers.coupling_error(result.plan.dense(), x.weights, y.weights) <= 1e-12


@pytest.mark.filterwarnings("ignore::gwtools.ConvergenceWarning")
@given(pairs(), st.data())
def test_never_ends_above_its_start(pair, data):
    x, y = pair
    start = data.draw(couplings(x.weights, y.weights))
    result = solve(x, y, init=gw.DensePlan(start), max_iterations=10)
    assert float(result.objective) <= checkers.objective(
        x.matrix, y.matrix, start
    ) + 1e-12 * scale(x, y)
    checkers.check_result(result, *arguments(x, y))


@given(pairs(kinds=CONDITIONALLY_NEGATIVE, generic=True), st.data())
def test_plans_of_either_form_start_alike(pair, data):
    x, y = pair
    start = data.draw(couplings(x.weights, y.weights))
    rows, cols = np.nonzero(start)
    forms = (
        start,
        gw.DensePlan(start),
        gw.SparsePlan(rows, cols, start[rows, cols], start.shape),
    )
    found = [float(solve(x, y, init=form).objective) for form in forms]
    assert np.ptp(found) <= 1e-9 * scale(x, y)


def test_objective_falls_at_every_step(rng):
    x, y = (checkers.euclidean(rng.standard_normal((n, 3))) for n in (40, 30))
    seen = []
    gw.solve(x, y, gw.ConditionalGradient(), callback=seen.append)
    objectives = [step.objective for step in seen]
    assert len(objectives) > 2
    assert all(
        after <= before * (1 + 1e-14)
        for before, after in itertools.pairwise(objectives)
    )
    assert [step.iteration for step in seen] == list(range(1, len(seen) + 1))


@pytest.mark.parametrize("factor", [1e150, 1e-150, 1e100, 1e-30])
@given(pair=pairs(generic=True, kinds=CONDITIONALLY_NEGATIVE))
def test_scales(factor, pair):
    x, y = pair
    assume(well_separated(x, y))
    here, there = solve(x, y), solve(x.scaled(factor), y.scaled(factor))
    assert np.isfinite(there.objective)
    assert float(there.distance) / factor == pytest.approx(
        float(here.distance), rel=1e-9, abs=1e-7 * scale(x, y) ** 0.5
    )
    assert float(there.objective) / factor / factor == pytest.approx(
        float(here.objective), rel=1e-9, abs=1e-12 * scale(x, y)
    )
    assert there.frank_wolfe_gap / factor / factor == pytest.approx(
        here.frank_wolfe_gap, abs=1e-9 * scale(x, y)
    )


def test_reproducible_bit_for_bit(rng):
    x, y = (checkers.euclidean(rng.standard_normal((n, 3))) for n in (30, 20))
    first, second = gw.solve(x, y), gw.solve(x, y)
    assert np.array_equal(first.plan.dense(), second.plan.dense())
    assert first.as_dict() == second.as_dict()


def test_str_says_what_differs_from_the_defaults():
    assert str(gw.ConditionalGradient()) == "ConditionalGradient()"
    assert (
        str(gw.ConditionalGradient(tolerance=1e-3))
        == "ConditionalGradient(tolerance=0.001)"
    )
    assert (
        str(gw.ConditionalGradient(init=np.eye(2) / 2)) == "ConditionalGradient(init=…)"
    )


def test_init_may_have_rows_for_atoms_without_weight():
    x, y = random_problem("dense", 6, 5, 2)
    start = np.outer(x.weights, y.weights)
    start[:2, :2] += 0.9 * start[:2, :2].min() * np.array([[1, -1], [-1, 1]])
    expected = solve(x, y, init=start)
    padded = gw.DenseSpace(np.pad(x.matrix, (0, 1)), np.append(x.weights, 0.0))
    found = gw.solve(
        padded, y.space(), gw.ConditionalGradient(init=np.pad(start, ((0, 1), (0, 0))))
    )
    assert found.objective == expected.objective
    assert np.array_equal(found.plan.dense()[:-1], expected.plan.dense())
    with pytest.raises(ValueError, match="misses them"):
        gw.solve(
            padded,
            y.space(),
            gw.ConditionalGradient(init=np.pad(start, ((1, 0), (0, 0)))),
        )


def test_exchanges_of_a_plan_are_tried_once(monkeypatch, rng):
    """Where the program after them leads to no other plan, they are not tried again."""
    calls = []

    def recorded(problem, plan, cross, negligible):
        calls.append((plan, exchanged(problem, plan, cross, negligible)))
        return calls[-1][1]

    monkeypatch.setattr(conditional_gradient, "exchanged", recorded)
    clouds = (gw.PointCloud(rng.standard_normal((60, 3))) for _ in range(2))
    outcome = gw.ConditionalGradient().run(gw.GWProblem(*clouds))
    assert outcome.status is gw.Status.STATIONARY
    tried, found = zip(*calls, strict=True)
    assert any(after.plan is not before for before, after in calls)
    last = {id(after.plan) for after in found if after.is_last}
    assert not {id(plan) for plan in tried[1:]} & last
