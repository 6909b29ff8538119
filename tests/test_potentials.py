"""Potentials: feasible and optimal in the dual of the linear program at the plan."""

import math

import numpy as np
import pytest
from hypothesis import given

import gwtools as gw
from gwtools import _array
from gwtools.potentials import with_c_transforms
from tests import checkers
from tests.libraries import Library
from tests.solvers.test_base import QUIET, arguments
from tests.strategies import pairs
from tests.test_history import SOLVERS, clouds

FIXED = gw.Sinkhorn(epsilon=0.3, proximal=False, tolerance=1e-9)


def costs(C, a, D, b, plan):
    """−4 α β − 4 R π S."""
    (_, alpha, R), (_, beta, S) = checkers.parts(C, a), checkers.parts(D, b)
    return -4 * np.outer(alpha, beta) - 4 * R @ plan @ S


@QUIET
@given(pair=pairs(null=True))
def test_linear_programs_leave_feasible_potentials_whose_value_is_the_plans(pair):
    x, y = pair
    result = gw.solve(x.space(), y.space())
    f, g = result.potentials
    assert f.shape == x.weights.shape
    assert g.shape == y.weights.shape
    assert np.isfinite(f).all()
    assert np.isfinite(g).all()
    if result.iterations == 0 or result.frank_wolfe_gap is None:
        return
    plan = result.plan.dense()
    cost = costs(*arguments(x, y), plan)
    rounding = 1e-11 * max(np.abs(side.matrix).max() ** 2 for side in pair)
    assert (f[:, None] + g <= cost + rounding).all()
    value = x.weights @ f + y.weights @ g
    assert value >= (plan * cost).sum() - result.frank_wolfe_gap - rounding


def with_null_atoms(seed=0):
    """The clouds, with atoms of weight 0 among the others."""
    rng = np.random.default_rng(seed)
    spaces = []
    for space, places in zip(clouds(), ((0, 4, 9), (2, 12)), strict=True):
        far = rng.standard_normal((len(places), 2))
        points = np.insert(space.points, places, far, axis=0)
        weights = np.insert(space.weights, places, 0.0)
        spaces.append(gw.PointCloud(points, weights=weights))
    return spaces


@pytest.mark.parametrize("batch", [False, True], ids=["solve", "solve_batch"])
@pytest.mark.parametrize("solver", [*SOLVERS, FIXED], ids=str)
def test_atoms_without_weight_get_the_c_transform(solver, batch):
    x, y = with_null_atoms()
    result = gw.solve_batch([x], [y], solver)[0] if batch else gw.solve(x, y, solver)
    alone = gw.solve(*clouds(), solver).potentials
    f, g = result.potentials
    # Potentials are unique up to a constant, which moves from one side to the other.
    constant = (f[x.weights > 0] - alone[0]).mean()
    tolerance = {"rtol": 1e-6, "atol": 1e-8}
    np.testing.assert_allclose(f[x.weights > 0] - constant, alone[0], **tolerance)
    np.testing.assert_allclose(g[y.weights > 0] + constant, alone[1], **tolerance)
    plan = result.plan.dense()
    cost = costs(x.dense(), x.weights, y.dense(), y.weights, plan)
    of_rows = (cost - g)[:, y.weights > 0].min(axis=1)
    of_columns = (cost - f[:, None]).min(axis=0)
    np.testing.assert_allclose(f[x.weights == 0], of_rows[x.weights == 0], atol=1e-12)
    np.testing.assert_allclose(
        g[y.weights == 0], of_columns[y.weights == 0], atol=1e-12
    )


@pytest.mark.parametrize("batch", [False, True], ids=["solve", "solve_batch"])
def test_a_fixed_epsilon_leaves_the_potentials_of_the_entropic_problem(batch):
    x, y = clouds()
    result = gw.solve_batch([x], [y], FIXED)[0] if batch else gw.solve(x, y, FIXED)
    f, g = result.potentials
    plan = result.plan.dense()
    cost = costs(x.dense(), x.weights, y.dense(), y.weights, plan)
    ratio = np.log(plan / np.outer(x.weights, y.weights))
    # A gap of 1e-9 moves logarithms of small masses by its root.
    np.testing.assert_allclose(f[:, None] + g, cost + 0.3 * ratio, atol=5e-3)


@QUIET
@pytest.mark.parametrize("batch", [False, True], ids=["solve", "solve_batch"])
def test_kernels_at_rest_leave_the_costs_where_the_plan_has_mass(monkeypatch, batch):
    monkeypatch.setattr(_array, "on_cpu", lambda _: False)
    x, y = clouds()
    solver = gw.Sinkhorn(tolerance=1e-9)
    result = gw.solve_batch([x], [y], solver)[0] if batch else gw.solve(x, y, solver)
    f, g = result.potentials
    plan = result.plan.dense()
    cost = costs(x.dense(), x.weights, y.dense(), y.weights, plan)
    missed = np.abs(f[:, None] + g - cost)[plan > 1e-3]
    assert len(missed) >= len(f)
    assert missed.max() <= 1e-3 * np.ptp(cost)


@pytest.mark.parametrize("batch", [False, True], ids=["solve", "solve_batch"])
def test_closed_forms_have_no_potentials(batch):
    x, y = with_null_atoms()
    results = gw.solve_batch([x], [y], gw.Sorted()) if batch else []
    results = results or [gw.solve(x, y, gw.Sorted())]
    assert results[0].potentials is None


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_potentials_are_in_the_units_of_the_given_spaces(solver):
    unit = 2.0**240  # squares of squares of such values have no numbers
    spaces = with_null_atoms()
    small = [gw.DenseSpace(space.dense(), space.weights) for space in spaces]
    large = [gw.DenseSpace(space.dense() * unit, space.weights) for space in small]
    expected = gw.solve(*small, solver).potentials
    found = gw.solve(*large, solver).potentials
    for values, others in zip(found, expected, strict=True):
        np.testing.assert_allclose(values / unit / unit, others, atol=1e-8)


@pytest.mark.parametrize("batch", [False, True], ids=["solve", "solve_batch"])
@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_values_out_of_range_beside_atoms_without_weight_leave_zeros(solver, batch):
    x, y = (gw.DenseSpace(space.dense(), space.weights) for space in with_null_atoms())
    matrix = x.dense().copy()
    matrix[0, :] = matrix[:, 0] = 1e200
    wild = gw.DenseSpace(matrix, x.weights)
    if batch:
        (result,) = gw.solve_batch([wild], [y], solver)
    else:
        result = gw.solve(wild, y, solver)
    expected = gw.solve(x, y, solver)
    for values in result.potentials:
        assert np.isfinite(values).all()
    f, _ = result.potentials
    np.testing.assert_allclose(
        f[x.weights > 0], expected.potentials[0][x.weights > 0], atol=1e-5
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ["numpy", "torch", "array_api_strict"])
@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_potentials_are_arrays_of_the_spaces_library(solver, name, dtype):
    library = Library(name, dtype)
    x, y = (
        gw.PointCloud(library.array(s.points), weights=library.array(s.weights))
        for s in with_null_atoms()
    )
    for result in (gw.solve(x, y, solver), *gw.solve_batch([x], [y], solver)):
        for values, space in zip(result.potentials, (x, y), strict=True):
            assert library.owns(values)
            assert values.shape == (space.size,)


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_potentials_are_outside_the_gradient_graph(solver):
    torch = pytest.importorskip("torch")
    x, y = with_null_atoms()
    points = torch.tensor(x.points, requires_grad=True)
    weights = torch.tensor(x.weights, requires_grad=True)
    tracked = gw.PointCloud(points, weights=weights)
    other = gw.PointCloud(torch.tensor(y.points), weights=torch.tensor(y.weights))
    results = [
        gw.solve(tracked, other, solver),
        *gw.solve_batch([tracked], [other], solver),
    ]
    for result in results:
        assert result.objective.requires_grad
        for values in result.potentials:
            assert not values.requires_grad


def test_potentials_of_a_batch_do_not_keep_those_of_others():
    rng = np.random.default_rng(0)
    spaces = [gw.PointCloud(rng.random((6, 2))) for _ in range(9)]
    for result in gw.solve_batch(spaces, spaces[::-1], FIXED):
        for values in result.potentials:
            assert values.base is None


def test_c_transforms_of_atoms_on_both_sides_are_feasible_together():
    """Random potentials and plans: what holds is no property of a solver."""
    rng = np.random.default_rng(0)
    x, y = with_null_atoms()
    n, m = x.size, y.size
    plan = gw.round_plan(rng.random((n, m)), x.weights, y.weights)
    given_f, given_g = rng.standard_normal(n), rng.standard_normal(m)
    f, g = with_c_transforms(x, y, plan, (given_f, given_g))
    cost = costs(x.dense(), x.weights, y.dense(), y.weights, plan.dense())
    slack = cost - f[:, None] - g
    null_x, null_y = x.weights == 0, y.weights == 0
    assert f[~null_x].tolist() == given_f[~null_x].tolist()
    assert g[~null_y].tolist() == given_g[~null_y].tolist()
    assert slack[null_x].min() >= -1e-12
    assert slack[:, null_y].min() >= -1e-12
    # The largest that are feasible: each meets one of its costs.
    assert slack[np.ix_(null_x, ~null_y)].min(axis=1).max() <= 1e-12
    assert slack[:, null_y].min(axis=0).max() <= 1e-12
    assert math.isfinite(slack.max())
