"""Problems between coordinates: the matrices of the plain problem, without them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from gwtools import _array, lifted_problems
from gwtools.lifted_problems import LiftedProblem, are_lifted
from gwtools.plans import DensePlan, SparsePlan
from tests import checkers
from tests.libraries import EAGER
from tests.strategies import couplings, spaces

KINDS = ("sqeuclidean", "gram")


def matrix(costs):
    return -(costs.u @ costs.v.T)


@st.composite
def low_rank(draw):
    pair = [draw(spaces(kinds=KINDS, least=4)) for _ in range(2)]
    x, y = (space.space() for space in pair)
    return x, y, draw(couplings(x.weights, y.weights))


@settings(max_examples=60)
@given(low_rank())
def test_theorem_12_programs_are_those_between_coordinates(drawn):
    x, y, coupling = drawn
    plan, problem = DensePlan(coupling), gw.GWProblem(x, y)
    lifted = LiftedProblem.of(problem)
    scale = 1e-12 * max(1.0, problem.variation, *map(np.max, (x.dense(), y.dense())))
    cross = lifted.cross(plan)
    ranks = [space.low_rank.rank for space in (x, y)]
    assert lifted.gradient(cross).u.shape[1] == min(ranks) + 1
    assert np.abs(matrix(cross) - problem.cross(plan)).max() <= scale
    gradient = lifted.gradient(cross)
    wanted = problem.linearize(plan)
    assert np.abs(matrix(gradient) - wanted).max() <= 10 * scale
    assert abs(lifted.inner(plan, gradient) - plan.inner(wanted)) <= 10 * scale
    # The gradient of F, up to what depends on i or on j alone.
    whole = checkers.gradient(x.dense(), y.dense(), coupling)
    rest = matrix(gradient) - whole
    rest = rest - rest[:1] - rest[:, :1] + rest[0, 0]
    assert np.abs(rest).max() <= 100 * scale
    rows, cols = np.array([1, 0, 1]), np.array([2, 3])
    assert np.allclose(lifted.block(gradient, rows, cols), wanted[rows][:, cols])


SIZES = {
    "large": ((200, 200), (3, 2), True),
    "many of one": ((2000, 20), (3, 2), True),
    "small": ((200, 199), (3, 2), False),
    "few columns of one": ((200, 200), (9, 8), True),
    "many columns": ((200, 200), (9, 9), False),
}


@pytest.mark.parametrize("case", SIZES)
def test_which_spaces_are_lifted(case, rng, monkeypatch):
    monkeypatch.setattr(lifted_problems, "LEAST_ENTRIES", 200**2)
    (n, m), (d, t), wanted = SIZES[case]
    x = gw.PointCloud(rng.standard_normal((n, d)), metric="sqeuclidean")
    y = gw.GramSpace(rng.standard_normal((t, m)), np.full(m, 1 / m))
    assert are_lifted(x, y) is are_lifted(y, x) is wanted
    assert not are_lifted(x, gw.PointCloud(rng.standard_normal((n, 2))))
    assert not are_lifted(x, gw.GramSpace(rng.standard_normal((3, 2)), np.ones(2) / 2))


@pytest.mark.parametrize("library", EAGER, ids=str)
@pytest.mark.parametrize("sparse", [True, False])
def test_couplings_are_brought_to_double_precision(library, sparse, rng):
    a, b = rng.dirichlet(np.ones(6)), rng.dirichlet(np.ones(5))
    x = gw.PointCloud(
        library.array(rng.standard_normal((6, 2))), library.array(a), "sqeuclidean"
    )
    y = gw.GramSpace(library.array(rng.standard_normal((2, 5))), library.array(b))
    problem = gw.GWProblem(x, y)
    lifted = LiftedProblem.of(problem)
    plan = DensePlan(library.array(np.outer(a, b)))
    if sparse:
        rows, cols = np.divmod(np.arange(30), 5)
        like = library.array(a)
        rows, cols = (_array.from_numpy(index, like) for index in (rows, cols))
        mass = library.array(np.outer(a, b).ravel())
        plan = SparsePlan(rows, cols, mass, (6, 5))
    found = lifted.coupling(plan)
    error = checkers.coupling_error(found.dense(), lifted.x.weights, lifted.y.weights)
    assert error <= 1e-15
    assert isinstance(found, SparsePlan) is sparse
    assert np.abs(found.dense() - np.outer(a, b)).max() <= 1e-6
