"""What solvers find does not depend on the units of the spaces."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

import gwtools as gw
from tests.solvers.test_base import SOLVERS
from tests.strategies import pairs


def cloud_pair(n=25, seed=0):
    points, order = (
        np.random.default_rng(seed).standard_normal((n, 3)),
        np.random.default_rng(seed + 1).permutation(n),
    )
    return cdist(points, points), cdist(points[order], points[order]), order


def share_matched(result, order):
    """Mass on the pairs of copies; atom j of y is atom order[j] of x."""
    return float(np.asarray(result.plan.dense())[order, np.arange(len(order))].sum())


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
@pytest.mark.parametrize(
    ("dtype", "factor"),
    [(np.float64, 10.0**k) for k in (-8, -4, -1, 0, 2, 5, 8)]
    + [(np.float32, 10.0**k) for k in (-4, -1, 0, 2, 4)],
)
def test_copies_are_matched_in_unlike_units(solver, dtype, factor):
    C, D, order = cloud_pair()
    C, D = C.astype(dtype), (factor * D).astype(dtype)
    assert share_matched(gw.solve(C, D, solver), order) == pytest.approx(1, abs=1e-6)
    assert share_matched(gw.solve(D, C, solver), np.argsort(order)) == pytest.approx(
        1, abs=1e-6
    )
    (found,) = gw.solve_batch([C], [D], solver)
    assert share_matched(found, order) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
@pytest.mark.parametrize(
    ("dtype", "spread"),
    [(np.float64, 10.0), (np.float64, 1e4), (np.float32, 10.0), (np.float32, 100.0)],
)
def test_similarities_near_one_are_matched(solver, dtype, spread):
    C, D, order = cloud_pair(40)
    similar = [(1 - matrix / spread).astype(dtype) for matrix in (C, D)]
    assert share_matched(gw.solve(*similar, solver), order) == pytest.approx(
        1, abs=1e-6
    )
    assert share_matched(
        gw.solve(-similar[0], D.astype(dtype), solver), order
    ) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("solver", [*SOLVERS, gw.Sinkhorn(cooling=0.5)], ids=str)
@given(
    pair=pairs(generic=True),
    scale=st.sampled_from([4.0**-10, 4.0**-2, 4.0**3, 4.0**13]),
)
def test_the_path_does_not_depend_on_powers_of_four(solver, pair, scale):
    """Such a scale of one space changes no digit.

    Deviations, residuals, their factors and what is judged against them stay.
    """
    x, y = pair
    first = gw.solve(
        gw.DenseSpace(x.matrix, x.weights), gw.DenseSpace(y.matrix, y.weights), solver
    )
    second = gw.solve(
        gw.DenseSpace(x.matrix, x.weights),
        gw.DenseSpace(scale * y.matrix, y.weights),
        solver,
    )
    # Float errors of a much larger matrix may be all that is between the ends of an
    # interval.
    closed = (
        gw.Status.GLOBAL in (first.status, second.status)
        and first.status.success
        and second.status.success
    )
    assert first.status is second.status or closed
    assert first.iterations == second.iterations
    assert np.array_equal(first.plan.dense(), second.plan.dense())
