"""Compiled exchanges are those of array operations."""

import numpy as np
import pytest

from gwtools._compiled import compilation
from gwtools._compiled.exchanges import add_product, best_pair, pairs, renew_pairs
from gwtools.channel_problems import FormBlock
from gwtools.solvers.exchange import Atoms

COUNT = 70  # atoms: more than fit a tile
numba_alone = pytest.mark.skipif(
    not compilation.available(), reason="numba, the extra fast, is not installed"
)
either = pytest.mark.parametrize(
    "plain",
    [
        pytest.param(False, marks=numba_alone, id="compiled"),
        pytest.param(True, id="not compiled"),
    ],
)


def kernel(function, plain):
    return function.__wrapped__ if plain else function


def drawn(n, m, seed):
    rng = np.random.default_rng(seed)
    left, right = rng.standard_normal((n, n)), rng.standard_normal((m, m))
    rows, cols = rng.integers(0, n, COUNT), rng.integers(0, m, COUNT)
    mass = rng.dirichlet(np.ones(COUNT))
    gradient = rng.standard_normal((n, m))
    return gradient, left + left.T, right + right.T, rows, cols, mass


def all_pairs(plain, gradient, left, right, rows, cols):
    """The slopes and curvatures, with room for three atoms more."""
    room = len(rows) + 3
    slopes, curvatures = np.full((2, room, room), np.nan)
    kernel(pairs, plain)(slopes, curvatures, gradient, left, right, rows, cols)
    return slopes, curvatures


def upper(matrix):
    """The pairs, without the room for more."""
    return matrix[np.triu_indices(COUNT, 1)]


@either
@pytest.mark.parametrize("seed", range(4))
def test_the_best_exchange_is_that_of_the_matrices(plain, seed):
    """Of atoms some of which share a row or a column."""
    gradient, left, right, rows, cols, mass = drawn(20, 30, seed)
    atoms = Atoms(
        rows=rows,
        cols=cols,
        mass=mass,
        slopes=gradient[rows][:, cols],
        forms=(FormBlock(left[rows][:, rows], right[cols][:, cols], 1.0),),
    )
    expected = atoms.best()
    slopes, curvatures = all_pairs(plain, gradient, left, right, rows, cols)
    none = np.zeros(COUNT)
    best = kernel(best_pair, plain)(slopes, curvatures, mass, none, none, 0.0)
    assert best[0] == pytest.approx(expected.change, rel=1e-12)
    assert set(best[1:]) == {expected.first, expected.second}


@either
@pytest.mark.parametrize("seed", range(2))
def test_slopes_after_an_exchange_are_those_of_its_gradient(plain, seed, rng):
    """Two atoms get other columns, and the gradient another product."""
    gradient, left, right, rows, cols, mass = drawn(20, 30, seed)
    slopes, curvatures = all_pairs(plain, gradient, left, right, rows, cols)
    x, y, moved = rng.standard_normal(20), rng.standard_normal(30), 0.25
    cols[[3, 40]] = cols[[40, 3]]
    for atom in (3, 40):
        kernel(renew_pairs, plain)(
            slopes, curvatures, gradient, left, right, rows, cols, atom
        )
    found = kernel(best_pair, plain)(slopes, curvatures, mass, x[rows], y[cols], moved)
    kernel(add_product, plain)(gradient, -4 * moved * x, y)
    fresh, bends = all_pairs(plain, gradient, left, right, rows, cols)
    assert np.abs(upper(slopes) - upper(fresh)).max() <= 1e-13
    assert np.abs(upper(curvatures) - upper(bends)).max() <= 1e-13
    none = np.zeros(COUNT)
    best = kernel(best_pair, plain)(fresh, bends, mass, none, none, 0.0)
    assert found[0] == pytest.approx(best[0], rel=1e-12)
    assert found[1:] == best[1:]


def test_no_exchange_that_lowers_nothing():
    """Between the two atoms of an isometry each exchange costs."""
    distance = np.array([[0.0, 1.0], [1.0, 0.0]])
    plan = np.eye(2) / 2
    gradient = -4 * (distance - 0.5) @ plan @ (distance - 0.5)
    order = np.arange(2)
    slopes, curvatures = all_pairs(
        False, gradient, distance - 0.5, distance - 0.5, order, order
    )
    none = np.zeros(2)
    change, _, _ = best_pair(slopes, curvatures, np.full(2, 0.5), none, none, 0.0)
    assert change >= -1e-15


def test_products_are_added_in_place(rng):
    matrix, column, row = rng.random((4, 6)), rng.random(4), rng.random(6)
    expected = matrix + np.outer(column, row)
    add_product(matrix, column, row)
    assert np.abs(matrix - expected).max() <= 1e-15
