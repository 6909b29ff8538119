"""Glued plans: couplings of the right weights, as good as what they are glued of."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from tests import checkers
from tests.libraries import EAGER, to_numpy
from tests.strategies import couplings, spaces, weights


def as_sparse(matrix):
    rows, cols = np.nonzero(matrix)
    return gw.SparsePlan(rows, cols, matrix[rows, cols], matrix.shape)


@given(st.data(), st.booleans())
def test_the_triangle_inequality_holds_for_glued_plans(data, is_sparse):
    x, y, landmark = (data.draw(spaces(most=5, null=True)) for _ in range(3))
    P = data.draw(couplings(x.weights, landmark.weights))
    Q = data.draw(couplings(y.weights, landmark.weights))
    convert = as_sparse if is_sparse else gw.DensePlan
    glued = gw.glued_plan(convert(P), convert(Q))
    assert isinstance(glued, gw.SparsePlan if is_sparse else gw.DensePlan)
    matrix = glued.dense()
    assert matrix.shape == (x.size, y.size)
    assert checkers.coupling_error(matrix, x.weights, y.weights) <= 1e-14
    roots = [
        math.sqrt(checkers.objective(first.matrix, second.matrix, plan))
        for first, second, plan in (
            (x, y, matrix),
            (x, landmark, P),
            (y, landmark, Q),
        )
    ]
    scale = max(np.abs(s.matrix).max() for s in (x, y, landmark))
    assert roots[0] <= roots[1] + roots[2] + 1e-7 * scale
    assert np.asarray(gw.glued_plan(P, Q)) == pytest.approx(matrix, abs=1e-15)


@given(st.data())
def test_a_landmark_that_is_one_of_the_spaces_changes_nothing(data):
    a = data.draw(weights(4))
    b = data.draw(weights(3))
    plan = data.draw(couplings(a, b))
    # x is the landmark: P is the identity.
    glued = gw.glued_plan(np.diag(a), gw.DensePlan(plan.T.copy()))
    assert np.asarray(glued) == pytest.approx(plan, abs=1e-15)


def test_a_glued_plan_starts_a_solver_in_every_library():
    rng = np.random.default_rng(0)
    points = [rng.standard_normal((n, 2)) for n in (5, 6, 4)]
    for library in (EAGER[0], *EAGER[2:5]):
        x, y, landmark = (gw.PointCloud(library.array(p)) for p in points)
        P, Q = (gw.solve(s, landmark, gw.ConditionalGradient()).plan for s in (x, y))
        glued = gw.glued_plan(P, Q)
        assert library.owns(glued.masses)
        error = checkers.coupling_error(
            to_numpy(glued.dense()), np.full(5, 1 / 5), np.full(6, 1 / 6)
        )
        assert error <= (1e-14 if library.dtype == "float64" else 1e-6)
        start = gw.GWProblem(x, y).objective(glued)
        result = gw.solve(x, y, gw.ConditionalGradient(init=glued))
        assert float(result.objective) <= float(start) * (1 + 1e-6)
