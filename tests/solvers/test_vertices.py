"""Vertices: the linear programs of solvers, in every library, and equal vertices."""

import numpy as np
import pytest

import gwtools as gw
from gwtools.plans import changed
from gwtools.problems import GWProblem
from gwtools.solvers.vertices import has_same_atoms, linear_program, vertex_like
from tests import checkers
from tests.libraries import LIBRARIES, to_numpy


@pytest.fixture
def clouds(rng):
    """Points and weights of two clouds."""
    points = rng.standard_normal((6, 2)), rng.standard_normal((5, 3))
    weights = rng.dirichlet(np.full(6, 4.0)), rng.dirichlet(np.full(5, 4.0))
    return points, weights


@pytest.mark.parametrize("library", LIBRARIES, ids=str)
def test_programs_are_solved_in_float64_whatever_the_library(library, clouds):
    points, weights = clouds
    with library.active():
        x, y = (
            gw.PointCloud(library.array(p), library.array(w))
            for p, w in zip(points, weights, strict=True)
        )
        problem = GWProblem(x, y)
        cost = problem.bilinear_cost
        sorting = gw.solve(x, y, gw.Sorted()).plan
        for start in (None, sorting):
            program = linear_program(problem, cost, start)
            assert program.plan.mass.dtype == np.float64
            # Theorem 8 c: the sorting coupling is a solution.
            least = (to_numpy(cost) * to_numpy(sorting.dense())).sum()
            assert program.lower == pytest.approx(float(least), rel=1e-5)
            vertex = vertex_like(program.plan, x.weights)
            assert library.owns(vertex.mass)
            error = checkers.coupling_error(
                to_numpy(vertex.dense()), to_numpy(x.weights), to_numpy(y.weights)
            )
            assert error <= (1e-14 if library.dtype == "float64" else 1e-6)


def test_vertices_are_equal_whatever_the_order_of_their_atoms(clouds):
    points, weights = clouds
    x, y = (gw.PointCloud(p, w) for p, w in zip(points, weights, strict=True))
    plan = gw.solve(x, y, gw.Sorted()).plan
    turned = changed(
        plan, rows=plan.rows[::-1], cols=plan.cols[::-1], mass=plan.mass[::-1]
    )
    assert has_same_atoms(plan, turned)
    assert not has_same_atoms(plan, changed(plan, cols=plan.cols[::-1]))
    shorter = changed(plan, rows=plan.rows[1:], cols=plan.cols[1:], mass=plan.mass[1:])
    assert not has_same_atoms(shorter, plan)
    assert not has_same_atoms(gw.DensePlan(plan.dense()), plan)
