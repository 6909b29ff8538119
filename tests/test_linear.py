"""Linear transport: the line, exact programs small and large, and scaling."""

import numpy as np
import ot
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

import gwtools as gw
from gwtools.plans import rounded_plan
from gwtools.transport import one_dimensional, programs, sinkhorn
from tests import checkers
from tests.strategies import couplings, values, vertex, weights


@st.composite
def lines(draw, null=False, equal=False):
    """Two weighted lists of numbers, with ties; of equal weights, some of them may be zero as well."""
    n, m = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    a, b = draw(weights(n, null)), draw(weights(m, null))
    if equal:
        a, b = ((w > 0) / np.count_nonzero(w) for w in (a, b))
    return draw(values((n,), False)), a, draw(values((m,), False)), b


def stacks(**kinds):
    """One to four pairs of lists."""
    return st.booleans().flatmap(lambda equal: st.lists(lines(equal=equal, **kinds), min_size=1, max_size=4))


def stacked(pairs):
    """Pad pairs of lists with atoms of weight zero and of values that have no say, at most one more than needed."""

    def padded(lists, filled):
        size = max(map(len, lists)) + len(pairs) % 2
        return np.array([np.concatenate([v, filled * np.arange(size - len(v))]) for v in lists])

    x, a, y, b = zip(*pairs, strict=True)
    return padded(x, 0.7), padded(a, 0), padded(y, -0.9), padded(b, 0)


@st.composite
def small_programs(draw):
    n, m = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    return draw(values((n, m), False)), draw(weights(n)), draw(weights(m))


@given(stacks(null=True), st.sampled_from([1.0, 1.5, 2.0, 4.0]))
def test_lemma_A_line_is_the_linear_program(pairs, p):
    costs = [np.abs(x[:, None] - y[None, :]) ** p for x, _, y, _ in pairs]
    programs = [checkers.linear_program(cost, a, b) for cost, (_, a, _, b) in zip(costs, pairs, strict=True)]
    merged = [checkers.line(*pair, p) for pair in pairs]
    alone = [float(one_dimensional.wasserstein(*pair, p)) for pair in pairs]
    for found in (alone, one_dimensional.wasserstein(*stacked(pairs), p).tolist()):
        assert found == pytest.approx(programs, rel=1e-9, abs=1e-12)
        assert found == pytest.approx(merged, rel=1e-12, abs=1e-14)


@given(stacks(null=True))
def test_sorting_couplings_of_a_stack_are_those_of_each_pair(pairs):
    x, a, y, b = stacked(pairs)
    coupling = one_dimensional.comonotone(x, a, y, b)
    wanted = np.array([checkers.line(*pair, 2.0) for pair in pairs])
    np.testing.assert_allclose(one_dimensional.cost(coupling, x, y, 2.0), wanted, rtol=1e-12, atol=1e-14)
    assert coupling.mass.shape[1] == np.count_nonzero(coupling.mass, axis=1).max()
    equal, pairing = one_dimensional.equal_weights(a, b), one_dimensional.pairs_off(coupling, a, b)
    for place, (row, col, mass) in enumerate(zip(*coupling, strict=True)):
        count = np.count_nonzero(mass)
        assert (mass[:count] > 0).all()
        # Atoms without mass name ones that have mass, or atom 0.
        assert set(row[count:].tolist()) <= {0, *row[:count].tolist()}
        assert set(col[count:].tolist()) <= {0, *col[:count].tolist()}
        assert (np.diff(x[place][row[:count]]) >= 0).all()
        assert (np.diff(y[place][col[:count]]) >= 0).all()
        plan = np.zeros((x.shape[1], y.shape[1]))
        np.add.at(plan, (row, col), mass)
        assert checkers.coupling_error(plan, a[place], b[place]) <= 1e-15
        # Sorted weights that are the same numbers are the masses.
        of_x, of_y = (w[place][np.argsort(v[place], kind="stable")] for v, w in ((x, a), (y, b)))
        same = of_x[of_x > 0].tolist() == of_y[of_y > 0].tolist()
        assert pairing[place] == same
        assert equal[place] == (same and len(set(of_x[of_x > 0])) == 1)
        if same:
            assert mass[:count].tolist() == of_x[of_x > 0].tolist()


def test_lists_that_pair_off_keep_their_masses_beside_lists_that_do_not():
    rng = np.random.default_rng(3)
    weights = [np.array([0.1, 0.2, 0.3, 0.25, 0.15]), np.full(7, 1 / 7)]
    pairs = [(np.arange(len(w)) * 1.0, w, np.arange(len(w)) + 0.4, w) for w in weights]
    pairs.append((rng.random(4), rng.dirichlet(np.ones(4)), rng.random(3), rng.dirichlet(np.ones(3))))
    x, a, y, b = stacked(pairs)
    coupling = one_dimensional.comonotone(x, a, y, b)
    for masses, w in zip(coupling.mass, weights, strict=False):
        assert masses[: len(w)].tolist() == w.tolist()
    assert one_dimensional.pairs_off(coupling, a, b).tolist() == [True, True, False]
    assert one_dimensional.equal_weights(a, b).tolist() == [False, True, False]


@given(lines(null=True))
def test_sorting_plan_is_comonotone_and_has_the_marginals(lists):
    x, a, y, b = lists
    plan = one_dimensional.sorting_plan(x, a, y, b)
    assert checkers.coupling_error(plan.dense(), a, b) <= 1e-15
    assert plan.mass.min() > 0
    assert len(plan.mass) <= len(a) + len(b)
    order = np.lexsort((y[plan.cols], x[plan.rows]))
    assert np.all(np.diff(y[plan.cols][order]) >= 0)


@given(st.integers(1, 50), st.integers(0, 2**32 - 1))
def test_equal_uniform_weights_give_a_permutation(n, seed):
    x, y = np.random.default_rng(seed).standard_normal((2, n))
    w = np.full(n, 1 / n)
    plan = one_dimensional.sorting_plan(x, w, y, w)
    assert sorted(plan.rows) == sorted(plan.cols) == list(range(n))
    assert np.array_equal(plan.mass, w)


@given(small_programs())
def test_exact_is_the_linear_program(program):
    cost, a, b = program
    found = programs.exact(cost, a, b)
    least, scale = checkers.linear_program(cost, a, b), max(1.0, np.abs(cost).max())
    assert checkers.coupling_error(found.plan.dense(), a, b) <= 1e-12
    assert len(found.plan.mass) <= len(a) + len(b) - 1
    assert float((found.plan.dense() * cost).sum()) == pytest.approx(least, abs=1e-9 * scale)
    assert least - 1e-9 * scale <= found.lower <= least + 1e-12 * scale


@given(small_programs(), st.data())
def test_exact_lower_is_below_every_coupling(program, data):
    cost, a, b = program
    plan = data.draw(couplings(a, b))
    assert programs.exact(cost, a, b).lower <= float((plan * cost).sum()) + 1e-14 * max(1.0, np.abs(cost).max())


@given(small_programs(), st.sampled_from([1e-12, 1e-3, 1e6]), st.sampled_from([-1e3, -1.0, 0.0, 10.0]))
def test_exact_does_not_depend_on_the_unit_and_origin_of_costs(program, unit, shift):
    cost, a, b = program
    scale = unit * (np.abs(cost).max() + abs(shift) + 1.0)
    found = programs.exact(unit * (cost + shift), a, b)
    expected = unit * (checkers.linear_program(cost, a, b) + shift)
    assert float(found.plan.inner(unit * (cost + shift))) == pytest.approx(expected, abs=1e-9 * scale)
    assert found.lower == pytest.approx(expected, abs=1e-9 * scale)


def test_constant_costs():
    found = programs.exact(np.full((3, 4), -2.5), np.full(3, 1 / 3), np.full(4, 0.25))
    assert found.lower == pytest.approx(-2.5)
    assert checkers.coupling_error(found.plan.dense(), np.full(3, 1 / 3), np.full(4, 0.25)) <= 1e-15


def large_costs(name, n, m, rng):
    x, y = rng.standard_normal((n, 3)), rng.standard_normal((m, 3))
    return {
        "random": lambda: rng.random((n, m)),
        "negative": lambda: -rng.random((n, m)) - 5,
        "inner": lambda: -x @ y.T,
        "squared": lambda: ((x[:, None] - y[None]) ** 2).sum(-1),
        "integers": lambda: rng.integers(0, 3, (n, m)).astype(float),
        "rank one": lambda: np.outer(x[:, 0], y[:, 0]),
        "one cheap column": lambda: rng.random((n, m)) + 100.0 * (np.arange(m) > 0),
    }[name]()


LARGE = ["random", "negative", "inner", "squared", "integers", "rank one", "one cheap column"]
SHAPES = [(320, 320), (301, 340), (1000, 100)]


def starting_plan(a, b, rng):
    n, m = len(a), len(b)
    matrix = vertex(a, b, rng.permutation(n), rng.permutation(m))
    rows, cols = np.nonzero(matrix)
    return gw.SparsePlan(rows, cols, matrix[rows, cols], (n, m))


def dense_optimum(cost, a, b):
    """POT's dense simplex on shifted costs, with its own dual as a proof of optimality."""
    plan, log = ot.lp.emd(a, b, cost - cost.min(), numItermax=10**8, log=True)
    value = float((plan * cost).sum())
    dual = float(log["u"] @ a + log["v"] @ b) + cost.min()
    assert abs(value - dual) <= 1e-9 * np.abs(cost).max()
    return value


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_large_programs(name, shape, rng):
    n, m = shape
    assert n * m > programs._DENSE_PROGRAM
    cost = large_costs(name, n, m, rng)
    a, b = rng.dirichlet(np.full(n, 3.0)), rng.dirichlet(np.full(m, 3.0))
    expected, scale = dense_optimum(cost, a, b), np.abs(cost).max()
    start, potentials = starting_plan(a, b, rng), None
    for _ in range(2):
        found = programs.exact(cost, a, b, start, potentials)
        assert checkers.coupling_error(found.plan.dense(), a, b) <= 1e-12
        assert float(found.plan.inner(cost)) == pytest.approx(expected, abs=1e-9 * scale)
        assert expected - 1e-9 * scale <= found.lower <= expected + 1e-12 * scale
        start, potentials = found.plan, found.potentials


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("quality", ["near", "random", "huge"])
def test_large_programs_from_any_potentials(name, quality, rng):
    """Potentials of another program only cost time: near ones, random ones and ones far out of scale."""
    n = 310
    cost, w = large_costs(name, n, n, rng), np.full(n, 1 / n)
    rows, cols = linear_sum_assignment(cost)
    expected, scale = float(cost[rows, cols].mean()), np.abs(cost).max()
    start = starting_plan(w, w, rng)
    if quality == "near":
        other = cost + 0.01 * scale * rng.standard_normal(cost.shape)
        potentials = programs.exact(other, w, w, start).potentials
    else:
        potentials = tuple(rng.standard_normal((2, n)) * (1e6 if quality == "huge" else 1.0))
    found = programs.exact(cost, w, w, start, potentials)
    assert checkers.coupling_error(found.plan.dense(), w, w) <= 1e-12
    assert float(found.plan.inner(cost)) == pytest.approx(expected, abs=1e-9 * scale)
    assert expected - 1e-9 * scale <= found.lower <= expected + 1e-12 * scale


def test_large_program_potentials_are_feasible(rng):
    n, m = 320, 330
    cost = large_costs("squared", n, m, rng)
    a, b = rng.dirichlet(np.full(n, 3.0)), rng.dirichlet(np.full(m, 3.0))
    found = programs.exact(cost, a, b, starting_plan(a, b, rng))
    u, v = found.potentials
    assert (cost - u[:, None] - v[None, :]).min() >= -1e-12 * cost.max()
    assert float(a @ u + b @ v) == pytest.approx(found.lower, abs=1e-10 * cost.max())


def test_a_simplex_that_fails_is_not_trusted(monkeypatch):
    """POT answers infeasibility with a plan of zeros and a warning."""

    def broken(a, b, cost, **options):
        return np.zeros(cost.shape), {"u": np.zeros(len(a)), "v": np.zeros(len(b)), "warning": "infeasible"}

    monkeypatch.setattr("ot.lp.emd", broken)
    with pytest.raises(RuntimeError, match=r"misses its marginals by .*infeasible"):
        programs.exact(np.eye(2), np.full(2, 0.5), np.full(2, 0.5))


@given(small_programs(), st.sampled_from([1.0, 1e-2, 1e-4, 1e-6]))
def test_sinkhorn_scales_to_the_marginals(program, epsilon):
    """However sharp the kernel, from any start; exponents of a million have lost six digits more."""
    cost, a, b = program
    kernel = np.log(np.outer(a, b)) - cost / epsilon
    found = sinkhorn.sinkhorn(kernel, a, b, np.zeros(len(a)), np.zeros(len(b)), 1e-9, 200)
    assert np.all(np.isfinite(found.plan))
    assert found.plan.sum() > 0.1
    error = np.abs(found.plan.sum(1) - a).sum() + np.abs(found.plan.sum(0) - b).sum()
    assert found.error == pytest.approx(error, abs=1e-12)
    assert error <= (1e-7 if epsilon > 1e-5 else 1e-5)
    scalings = np.exp(np.clip(kernel + found.u[:, None] + found.v[None, :], -745, 100))
    assert np.abs(scalings - found.plan).max() <= 1e-9


@given(small_programs())
def test_sinkhorn_of_a_product_kernel_is_the_product(program):
    _, a, b = program
    found = sinkhorn.sinkhorn(np.zeros((len(a), len(b))), a, b, np.zeros(len(a)), np.zeros(len(b)), 1e-12)
    assert np.abs(found.plan - np.outer(a, b)).max() <= 1e-15


@given(small_programs(), st.sampled_from([0.0, 1e-9, 0.3, 3.0]), st.integers(0, 2**32 - 1))
def test_rounding_gives_a_coupling_that_is_near(program, size, seed):
    """Altschuler, Weed and Rigollet 2017, lemma 7: the distance is at most twice the marginal error."""
    _, a, b = program
    noise = 1 + size * np.random.default_rng(seed).uniform(-0.9, 1, (len(a), len(b))).clip(-1 / max(size, 1))
    matrix = np.maximum(np.outer(a, b) * noise, 0)
    found = rounded_plan(matrix, a, b).dense()
    assert checkers.coupling_error(found, a, b) <= 1e-15
    error = np.abs(matrix.sum(1) - a).sum() + np.abs(matrix.sum(0) - b).sum()
    assert np.abs(found - matrix).sum() <= 2 * error + 1e-14


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rounding_of_nothing_is_the_product(dtype):
    a, b = np.array([0.25, 0.75], dtype=dtype), np.array([0.5, 0.125, 0.375], dtype=dtype)
    assert np.array_equal(rounded_plan(np.zeros((2, 3), dtype=dtype), a, b).dense(), np.outer(a, b))


@st.composite
def missed(draw):
    """A coupling, its marginals, and factors of its masses that are off by up to a thousandth."""
    a, b = (draw(weights(draw(st.integers(1, 7)))) for _ in range(2))
    noise = 1 + 1e-3 * np.random.default_rng(draw(st.integers(0, 999))).uniform(-1, 1, (len(a), len(b)))
    return draw(couplings(a, b)), a, b, noise


@given(missed())
def test_plans_of_a_simplex_that_stopped_early_are_set_right(instance):
    plan, a, b, noise = instance
    rows, cols = np.nonzero(plan)
    found = programs._repaired(gw.SparsePlan(rows, cols, (plan * noise)[rows, cols], plan.shape), a, b)
    assert checkers.coupling_error(found.dense(), a, b) <= 1e-15
    assert np.abs(found.dense() - plan).sum() <= 5 * np.abs(plan * (noise - 1)).sum() + 1e-14


def test_float32_weights_that_the_simplex_misses():
    """The network simplex misses these marginals by 4e-10, as its own comparisons are absolute."""
    rng = np.random.default_rng(11)
    for n in (65, 120, 200):
        points, mass = rng.standard_normal((n, 2)), rng.dirichlet(np.full(n, 0.5)).astype(np.float32)
        order = rng.permutation(n)
        x = gw.PointCloud(points.astype(np.float32), mass)
        y = gw.PointCloud(points[order].astype(np.float32), mass[order])
        assert gw.solve(x, y).status.success


@pytest.mark.parametrize(("n", "m"), [(310, 310), (301, 400)])
def test_large_programs_do_not_need_a_feasible_start(n, m, rng):
    """Arcs of a start that is no coupling of these weights, as one may be that was made in float32, cannot carry them."""
    a, b, cost = rng.dirichlet(np.full(n, 0.3)), rng.dirichlet(np.full(m, 0.3)), rng.standard_normal((n, m))
    places = np.arange(min(n, m))
    start = gw.SparsePlan(places, places, np.full(len(places), 1 / len(places)), (n, m))
    found = programs.exact(cost, a, b, start)
    assert checkers.coupling_error(found.plan.dense(), a, b) <= 1e-12
    best = ot.emd2(a, b * (a.sum() / b.sum()), cost - cost.min()) + cost.min()
    assert float(found.plan.inner(cost)) == pytest.approx(best)
    assert found.lower == pytest.approx(best, abs=1e-9)


def test_sorting_couplings_of_long_lists_in_single_precision_have_their_weights():
    rng = np.random.default_rng(0)
    n, m = 200_000, 150_000
    a, b = (rng.uniform(1, 2, k) for k in (n, m))
    a, b = (masses.astype(np.float32) / np.float32(masses.sum()) for masses in (a, b))
    x, y = (rng.random(k).astype(np.float32) for k in (n, m))
    plan = one_dimensional.sorting_plan(x, a, y, b)
    assert plan.mass.dtype == np.float32
    for found, masses in zip(plan.marginals(), (a, b), strict=True):
        assert float(np.abs(found - masses).sum()) < 1e-5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cells_of_equal_weights_are_counted_without_rounding(dtype):
    """Those of 2047 and 2048, and of 1 and 2895 atoms, are the largest that float32 holds."""
    cases = [
        (1, 1),
        (1, 2047),
        (2047, 2048),
        (2048, 2048),
        (1024, 2048),
        (6, 4),
        (4, 6),
        (1200, 2200),
        (35, 21),
        (1, 2895),
    ]
    found = one_dimensional.equal_cells(*map(np.array, zip(*cases, strict=True)), np.zeros(1, dtype))
    for (k, j), *row in zip(cases, *found, strict=True):
        ends = np.union1d(np.arange(1, k + 1) * j, np.arange(1, j + 1) * k)
        starts = np.concatenate([[0], ends[:-1]])
        expected = starts // j, starts // k, (ends - starts).astype(dtype) / np.asarray(k * j, dtype=dtype)
        for mine, other in zip(row, expected, strict=True):
            assert mine[: ends.size].tolist() == other.tolist()
            assert not mine[ends.size :].any()


def test_lists_of_equal_weights_too_long_for_exact_counts_are_merged():
    """Products of 5000 and 4001 atoms are no whole numbers in float32."""
    rng = np.random.default_rng(8)
    x, y = (rng.standard_normal((2, n)) for n in (5000, 4001))
    a, b = (np.full(v.shape, 1 / v.shape[1]) for v in (x, y))
    expected = one_dimensional.wasserstein(x, a, y, b, 1.0)
    found = one_dimensional.wasserstein(*(v.astype(np.float32) for v in (x, a, y, b)), 1.0)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
