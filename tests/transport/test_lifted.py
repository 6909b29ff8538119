"""Transport between points: pricing by neighbours, programs and their lower values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gwtools.transport import lifted
from gwtools.transport.lifted import LiftedCosts, lifted_program
from gwtools.transport.lifted_pivots import continued_program
from gwtools.transport.one_dimensional import sorting_plan
from gwtools.transport.programs import exact
from tests import checkers
from tests.strategies import values, weights

FEW = settings(max_examples=40)


@st.composite
def points(draw, least=1, most=9):
    """Points in general position or on a lattice, where many are equal."""
    q = draw(st.integers(1, 3))
    sizes = [draw(st.integers(least, most)) for _ in range(2)]
    u, v = (draw(values((n, q), False)) for n in sizes)
    return u, v, draw(weights(len(u))), draw(weights(len(v)))


@pytest.fixture(autouse=True)
def on_few_arcs(monkeypatch):
    """Solve small programs as large ones are, from cells of two points."""
    monkeypatch.setattr(lifted, "DENSE_ENTRIES", 0)
    monkeypatch.setattr(lifted, "_CELL", 2)
    monkeypatch.setattr(lifted, "_OF_ROWS", 2)
    monkeypatch.setattr(lifted, "_OF_COLUMNS", 1)


def cost_of(plan, cost):
    return float((plan.dense() * cost).sum())


@given(points(), st.integers(1, 4), st.data())
def test_theorem_12_neighbours_are_the_least_reduced_costs(program, count, data):
    u, v, _, _ = program
    prices = data.draw(values((len(v),), False))
    columns, reduced = LiftedCosts(u, v).cheapest(prices, count)
    wanted = -(u @ v.T) - prices
    scale = 1 + np.abs(u).max() * np.abs(v).max() + np.abs(prices).max()
    assert columns.shape == reduced.shape == (len(u), min(count, len(v)))
    assert np.allclose(np.take_along_axis(wanted, columns, 1), reduced)
    least = np.sort(wanted, axis=1)[:, :count]
    assert np.abs(reduced - least).max() <= 1e-7 * scale
    assert np.abs(reduced[:, 0] - least[:, 0]).max() <= 1e-12 * scale


@FEW
@given(points())
def test_programs_are_those_of_the_matrix(program):
    u, v, a, b = program
    cost = -(u @ v.T)
    found = lifted_program(LiftedCosts(u, v), a, b)
    least, scale = checkers.linear_program(cost, a, b), max(1.0, np.abs(cost).max())
    assert checkers.coupling_error(found.plan.dense(), a, b) <= 1e-12
    assert cost_of(found.plan, cost) == pytest.approx(least, abs=1e-9 * scale)
    assert least - 1e-9 * scale <= found.lower <= least + 1e-9 * scale
    f, g = found.potentials
    assert (cost - f[:, None] - g).min() >= -1e-12 * scale
    assert a @ f + b @ g == pytest.approx(found.lower, abs=1e-12 * scale)


@pytest.mark.parametrize("most_arcs", [1, 32])
@pytest.mark.parametrize(("n", "m"), [(90, 90), (70, 110)])
def test_large_programs_are_those_of_the_matrix(n, m, most_arcs, rng, monkeypatch):
    """Also where arcs are dropped on the way."""
    monkeypatch.setattr(lifted, "_MOST_ARCS", most_arcs)
    monkeypatch.setattr(lifted, "_KEPT_ARCS", 1)
    u, v = rng.standard_normal((n, 3)) * [3, 1, 1], rng.gamma(2.0, 1.0, (m, 3))
    a, b = rng.dirichlet(np.full(n, 2.0)), rng.dirichlet(np.full(m, 2.0))
    if n == m:
        a = b = np.full(n, 1 / n)
    cost = -(u @ v.T)
    found = lifted_program(LiftedCosts(u, v), a, b)
    wanted = exact(cost, a, b)
    assert cost_of(found.plan, cost) == pytest.approx(
        cost_of(wanted.plan, cost), abs=1e-12
    )
    assert found.lower == pytest.approx(cost_of(found.plan, cost), abs=1e-10)
    assert len(found.plan.mass) <= n + m - 1


@FEW
@given(points(least=3), st.sampled_from([0.1, 0.5]))
def test_early_ends_leave_a_share_of_what_is_gained(program, share):
    leaves_a_share(*program, share)


@pytest.mark.parametrize("share", [0.1, 1e-6])
def test_early_ends_of_large_programs_leave_a_share(share, rng):
    u, v = rng.standard_normal((90, 3)), rng.gamma(2.0, 1.0, (70, 3))
    leaves_a_share(u, v, rng.dirichlet(np.ones(90)), rng.dirichlet(np.ones(70)), share)


def leaves_a_share(u, v, a, b, share):
    cost = -(u @ v.T)
    start = sorting_plan(u[:, 0], a, -v[:, 0], b)
    found = lifted_program(LiftedCosts(u, v), a, b, start, share=share)
    least, scale = exact(cost, a, b).lower, max(1.0, np.abs(cost).max())
    assert found.lower <= least + 1e-9 * scale
    gained = cost_of(start, cost) - found.lower
    left = cost_of(found.plan, cost) - found.lower
    assert left <= share * gained + 1e-9 * scale


@pytest.mark.parametrize("solve", [lifted_program, continued_program])
def test_what_counts_as_float_error_may_be_left(solve, rng):
    u, v = rng.standard_normal((90, 3)), rng.gamma(2.0, 1.0, (70, 3))
    a, b = rng.dirichlet(np.ones(90)), rng.dirichlet(np.ones(70))
    costs, cost = LiftedCosts(u, v), -(u @ v.T)
    start = sorting_plan(u[:, 0], a, -v[:, 0], b)
    exact_value = exact(cost, a, b).lower
    rough = solve(costs, a, b, start, least=0.05)
    assert rough.lower <= exact_value + 1e-12
    assert 1e-12 < cost_of(rough.plan, cost) - rough.lower <= 0.05


def test_potentials_of_a_like_program_need_fewer_rounds(rng, monkeypatch):
    monkeypatch.setattr(lifted, "_OF_ROWS", 16)
    u, v = rng.standard_normal((200, 2)), rng.gamma(2.0, 1.0, (200, 2))
    a = np.full(200, 1 / 200)
    rounds = []
    on_arcs = lifted.exact_on_arcs

    def counted(*arguments):
        rounds.append(1)
        return on_arcs(*arguments)

    monkeypatch.setattr(lifted, "exact_on_arcs", counted)
    first = lifted_program(LiftedCosts(u, v), a, a)
    cold = len(rounds)
    again = lifted_program(LiftedCosts(u, v), a, a, None, first.potentials)
    assert len(rounds) - cold < cold
    assert again.lower == pytest.approx(first.lower, abs=1e-12)


def test_prices_of_any_size_are_exact(rng):
    """One column far below all others leaves little room for their differences."""
    u, v = rng.standard_normal((50, 2)), rng.standard_normal((40, 2))
    prices = rng.standard_normal(40)
    v[0] *= 1e4
    _, reduced = LiftedCosts(u, v).cheapest(prices, 1)
    least = (-(u @ v.T) - prices).min(axis=1)
    assert np.abs(reduced[:, 0] - least).max() <= 1e-10 * 1e4


@pytest.mark.parametrize("sides", ["u", "v", "uv"])
def test_points_far_from_most_are_priced_exactly(sides, rng):
    """Most lie near a line there, off the middle, as atoms of clouds with outliers."""
    u, v = rng.standard_normal((60, 3)), rng.standard_normal((50, 3))
    u[:, 1] = 1e4 * u[:, 0] + 1e-3 * u[:, 1] + 5e3
    for points, letter in ((u, "u"), (v, "v")):
        if letter in sides:
            points[[3, 8]] = 1e9 * rng.standard_normal((2, 3))
    costs = LiftedCosts(u, v)
    balanced = costs.balanced()
    scale = np.abs(u @ v.T).max()
    assert np.abs(balanced.u @ balanced.v.T - u @ v.T).max() <= 1e-9 * scale
    wanted = -(u @ v.T)
    prices = wanted.min(axis=0) + rng.standard_normal(50)
    columns, reduced = balanced.cheapest(prices, 50)
    wanted = np.take_along_axis(wanted - prices, columns, axis=1)
    assert np.array_equal(np.sort(columns, axis=1)[0], np.arange(50))
    assert np.abs(reduced - wanted).max() <= 1e-9 * scale
    _, least = balanced.cheapest(prices, 1)
    assert np.abs(least[:, 0] - wanted.min(axis=1)).max() <= 1e-9 * scale


def test_cells_are_boxes_of_few_points_whose_means_have_the_mean_costs(rng):
    u, v = rng.standard_normal((60, 3)), rng.standard_normal((50, 3))
    a, b = rng.dirichlet(np.ones(60)), rng.dirichlet(np.ones(50))
    cells_u, cells_v = lifted.cells_of(u, 7), lifted.cells_of(v, 7)
    assert np.bincount(cells_u).max() <= 7
    assert sorted(set(cells_u)) == list(range(cells_u.max() + 1))
    means_u, of_u = lifted.cell_means(u, a, cells_u)
    means_v, of_v = lifted.cell_means(v, b, cells_v)
    of_cells = np.zeros((len(of_u), len(of_v)))
    np.add.at(of_cells, (cells_u[:, None], cells_v), -(u @ v.T) * np.outer(a, b))
    assert np.allclose(of_cells / np.outer(of_u, of_v), -(means_u @ means_v.T))
    assert lifted.cells_of(np.ones((30, 2)), 7).max() == 0
