"""Coarse to fine between coordinates: cells, their problem, and plans on all atoms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from gwtools import lifted_problems
from gwtools.lifted_problems import LiftedProblem
from gwtools.plans import DensePlan, SparsePlan
from gwtools.solvers import lifted_cells, lifted_starts
from gwtools.solvers.lifted_cells import Cells
from gwtools.transport import lifted
from gwtools.transport.one_dimensional import sorting_plan
from tests import checkers
from tests.strategies import couplings, spaces

KINDS = ("sqeuclidean", "gram")
ONE = gw.ConditionalGradient()


@pytest.fixture(autouse=True)
def cells_of_two(monkeypatch):
    """Take small spaces for large ones, of cells of two atoms."""
    monkeypatch.setattr(lifted_cells, "_POINTS", 2)
    monkeypatch.setattr(lifted_problems, "LEAST_ENTRIES", 0)


@st.composite
def in_cells(draw):
    """Two spaces in cells, and a coupling of the cells."""
    drawn = [draw(spaces(kinds=KINDS, least=5, most=9)) for _ in range(2)]
    x, y = (space.space() for space in drawn)
    cells = Cells.of(LiftedProblem.of(gw.GWProblem(x, y)))
    coarse = cells.coarse
    plan = draw(couplings(coarse.x.weights, coarse.y.weights))
    return x, y, cells, plan


def listed(matrix):
    rows, cols = np.nonzero(matrix)
    return SparsePlan(rows, cols, matrix[rows, cols], matrix.shape)


@settings(max_examples=60)
@given(in_cells())
def test_plans_of_cells_are_couplings_of_their_atoms(drawn):
    x, y, cells, plan = drawn
    found = cells.extended(listed(plan)).dense()
    # Parts of at most 1e-15 are left out as float errors, a few of them at an atom.
    assert checkers.coupling_error(found, x.weights, y.weights) <= 1e-14
    between = np.zeros_like(plan)
    np.add.at(between, (cells.of_x[:, None], cells.of_y), found)
    assert np.abs(between - plan).max() <= 1e-14


@pytest.mark.parametrize(("n", "m"), [(1000, 1000), (1000, 500)])
def test_plans_between_equal_weights_have_no_atoms_of_float_error(n, m, rng):
    """Between as many atoms they are permutations, as vertices between cells are."""
    x, y = (
        gw.PointCloud(rng.standard_normal((k, 3)), metric="sqeuclidean") for k in (n, m)
    )
    cells = Cells.of(LiftedProblem.of(gw.GWProblem(x, y)))
    of_x, of_y = cells.coarse.x, cells.coarse.y
    plan = sorting_plan(of_x.deviations, of_x.weights, of_y.deviations, of_y.weights)
    found = cells.extended(plan)
    assert len(found.mass) == max(n, m)
    assert np.abs(found.mass * max(n, m) - 1).max() <= 1e-12


@settings(max_examples=40)
@given(in_cells())
def test_problems_of_cells_are_those_of_couplings_that_treat_atoms_alike(drawn):
    x, y, cells, plan = drawn
    coarse = cells.coarse
    found = coarse.product_objective + coarse.relative_objective(
        DensePlan(plan), coarse.cross(DensePlan(plan))
    )
    share_x = x.weights / coarse.x.weights[cells.of_x]
    share_y = y.weights / coarse.y.weights[cells.of_y]
    alike = plan[cells.of_x][:, cells.of_y] * np.outer(share_x, share_y)
    C, D = x.dense(), y.dense()
    scale = max(np.abs(C).max(), np.abs(D).max()) ** 2
    assert abs(found - checkers.objective(C, D, alike)) <= 1e-11 * scale


@settings(max_examples=40)
@given(spaces(kinds=KINDS, least=2))
def test_atoms_of_a_cell_have_near_rows(drawn):
    space = drawn.space()
    profiles = lifted_cells._profiles(lifted_problems.Coordinates.of(space))
    C = drawn.matrix
    rows = ((C[:, None] - C) ** 2) @ drawn.weights
    found = ((profiles[:, None] - profiles) ** 2).sum(axis=-1)
    assert np.abs(found - rows).max() <= 1e-11 * max(1.0, np.abs(C).max()) ** 2


@pytest.mark.parametrize("weighted", [True, False])
def test_large_spaces_are_solved_through_cells(weighted, rng, monkeypatch):
    x, y = rng.standard_normal((160, 3)) * [3, 2, 1], rng.gamma(2.0, 1.0, (140, 2))
    a = rng.dirichlet(np.full(160, 2.0)) if weighted else None
    x = gw.PointCloud(x, a, metric="sqeuclidean")
    y = gw.PointCloud(y, metric="sqeuclidean")
    monkeypatch.setattr(lifted, "DENSE_ENTRIES", 100)
    wanted = gw.solve(x, y, ONE)
    monkeypatch.setattr(lifted_starts, "LARGE", 100)
    found = gw.solve(x, y, ONE)
    assert isinstance(found.plan, SparsePlan)
    checkers.check_certificate(
        found.certificate, x.dense(), x.weights, y.dense(), y.weights
    )
    plan = found.plan.dense()
    assert checkers.coupling_error(plan, x.weights, y.weights) <= 1e-12
    assert found.status is gw.Status.STATIONARY
    assert float(found.objective) <= 1.02 * float(wanted.objective)
    assert found.plan.mass.shape != wanted.plan.mass.shape or not np.array_equal(
        plan, wanted.plan.dense()
    )
