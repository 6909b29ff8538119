"""Exact linear programs, small and large: other solvers, and their proved values."""

import numpy as np
import ot
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

import gwtools as gw
from gwtools.transport import programs
from tests import checkers
from tests.strategies import couplings, values, vertex, weights


def stacked(pairs):
    """Pad pairs of lists with atoms of weight zero.

    Their values have no say; at most one more than needed is added.
    """

    def padded(lists, filled):
        size = max(map(len, lists)) + len(pairs) % 2
        return np.array(
            [np.concatenate([v, filled * np.arange(size - len(v))]) for v in lists]
        )

    x, a, y, b = zip(*pairs, strict=True)
    return padded(x, 0.7), padded(a, 0), padded(y, -0.9), padded(b, 0)


@st.composite
def small_programs(draw):
    n, m = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    return draw(values((n, m), False)), draw(weights(n)), draw(weights(m))


@given(small_programs())
def test_exact_is_the_linear_program(program):
    cost, a, b = program
    found = programs.exact(cost, a, b)
    least, scale = checkers.linear_program(cost, a, b), max(1.0, np.abs(cost).max())
    assert checkers.coupling_error(found.plan.dense(), a, b) <= 1e-12
    assert len(found.plan.mass) <= len(a) + len(b) - 1
    assert float((found.plan.dense() * cost).sum()) == pytest.approx(
        least, abs=1e-9 * scale
    )
    assert least - 1e-9 * scale <= found.lower <= least + 1e-12 * scale


@given(small_programs(), st.data())
def test_exact_lower_is_below_every_coupling(program, data):
    cost, a, b = program
    plan = data.draw(couplings(a, b))
    assert programs.exact(cost, a, b).lower <= float((plan * cost).sum()) + 1e-14 * max(
        1.0, np.abs(cost).max()
    )


@given(
    small_programs(),
    st.sampled_from([1e-12, 1e-3, 1e6]),
    st.sampled_from([-1e3, -1.0, 0.0, 10.0]),
)
def test_exact_does_not_depend_on_the_unit_and_origin_of_costs(program, unit, shift):
    cost, a, b = program
    scale = unit * (np.abs(cost).max() + abs(shift) + 1.0)
    found = programs.exact(unit * (cost + shift), a, b)
    expected = unit * (checkers.linear_program(cost, a, b) + shift)
    assert float(found.plan.inner(unit * (cost + shift))) == pytest.approx(
        expected, abs=1e-9 * scale
    )
    assert found.lower == pytest.approx(expected, abs=1e-9 * scale)


def test_constant_costs():
    found = programs.exact(np.full((3, 4), -2.5), np.full(3, 1 / 3), np.full(4, 0.25))
    assert found.lower == pytest.approx(-2.5)
    assert (
        checkers.coupling_error(found.plan.dense(), np.full(3, 1 / 3), np.full(4, 0.25))
        <= 1e-15
    )


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


LARGE = [
    "random",
    "negative",
    "inner",
    "squared",
    "integers",
    "rank one",
    "one cheap column",
]


SHAPES = [(320, 320), (301, 340), (1000, 100)]


def starting_plan(a, b, rng):
    n, m = len(a), len(b)
    matrix = vertex(a, b, rng.permutation(n), rng.permutation(m))
    rows, cols = np.nonzero(matrix)
    return gw.SparsePlan(rows, cols, matrix[rows, cols], (n, m))


def dense_optimum(cost, a, b):
    """POT's dense simplex on shifted costs, its own dual a proof of optimality."""
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
        assert float(found.plan.inner(cost)) == pytest.approx(
            expected, abs=1e-9 * scale
        )
        assert expected - 1e-9 * scale <= found.lower <= expected + 1e-12 * scale
        start, potentials = found.plan, found.potentials


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("quality", ["near", "random", "huge"])
def test_large_programs_from_any_potentials(name, quality, rng):
    """Potentials of another program only cost time.

    Near ones, random ones and ones far out of scale.
    """
    n = 310
    cost, w = large_costs(name, n, n, rng), np.full(n, 1 / n)
    rows, cols = linear_sum_assignment(cost)
    expected, scale = float(cost[rows, cols].mean()), np.abs(cost).max()
    start = starting_plan(w, w, rng)
    if quality == "near":
        other = cost + 0.01 * scale * rng.standard_normal(cost.shape)
        potentials = programs.exact(other, w, w, start).potentials
    else:
        potentials = tuple(
            rng.standard_normal((2, n)) * (1e6 if quality == "huge" else 1.0)
        )
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
        return np.zeros(cost.shape), {
            "u": np.zeros(len(a)),
            "v": np.zeros(len(b)),
            "warning": "infeasible",
        }

    monkeypatch.setattr("ot.lp.emd", broken)
    with pytest.raises(RuntimeError, match=r"misses its marginals by .*infeasible"):
        programs.exact(np.eye(2), np.full(2, 0.5), np.full(2, 0.5))


@st.composite
def missed(draw):
    """A coupling, its marginals, and factors of its masses.

    The factors are off by up to a thousandth.
    """
    a, b = (draw(weights(draw(st.integers(1, 7)))) for _ in range(2))
    noise = 1 + 1e-3 * np.random.default_rng(draw(st.integers(0, 999))).uniform(
        -1, 1, (len(a), len(b))
    )
    return draw(couplings(a, b)), a, b, noise


@given(missed())
def test_plans_of_a_simplex_that_stopped_early_are_set_right(instance):
    plan, a, b, noise = instance
    rows, cols = np.nonzero(plan)
    found = programs.repaired(
        gw.SparsePlan(rows, cols, (plan * noise)[rows, cols], plan.shape), a, b
    )
    assert checkers.coupling_error(found.dense(), a, b) <= 1e-15
    assert (
        np.abs(found.dense() - plan).sum()
        <= 5 * np.abs(plan * (noise - 1)).sum() + 1e-14
    )


def test_float32_weights_that_the_simplex_misses():
    """The network simplex misses these marginals by 4e-10.

    Its own comparisons are absolute.
    """
    rng = np.random.default_rng(11)
    for n in (65, 120, 200):
        points, mass = (
            rng.standard_normal((n, 2)),
            rng.dirichlet(np.full(n, 0.5)).astype(np.float32),
        )
        order = rng.permutation(n)
        x = gw.PointCloud(points.astype(np.float32), mass)
        y = gw.PointCloud(points[order].astype(np.float32), mass[order])
        assert gw.solve(x, y).status.success


@pytest.mark.parametrize(("n", "m"), [(310, 310), (301, 400)])
def test_large_programs_do_not_need_a_feasible_start(n, m, rng):
    """Arcs of a start that is no coupling of these weights cannot carry them.

    A start may be so that was made in float32.
    """
    a, b, cost = (
        rng.dirichlet(np.full(n, 0.3)),
        rng.dirichlet(np.full(m, 0.3)),
        rng.standard_normal((n, m)),
    )
    places = np.arange(min(n, m))
    start = gw.SparsePlan(places, places, np.full(len(places), 1 / len(places)), (n, m))
    found = programs.exact(cost, a, b, start)
    assert checkers.coupling_error(found.plan.dense(), a, b) <= 1e-12
    best = ot.emd2(a, b * (a.sum() / b.sum()), cost - cost.min()) + cost.min()
    assert float(found.plan.inner(cost)) == pytest.approx(best)
    assert found.lower == pytest.approx(best, abs=1e-9)
