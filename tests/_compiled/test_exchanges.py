"""Compiled exchanges are those of array operations."""

import numpy as np
import pytest

from gwtools._compiled import compilation
from gwtools._compiled.exchanges import add_product, best_exchange
from gwtools.channel_problems import FormBlock
from gwtools.solvers.exchange import Atoms

numba_alone = pytest.mark.skipif(
    not compilation.available(), reason="numba, the extra fast, is not installed"
)


def drawn(n, m, count, seed):
    rng = np.random.default_rng(seed)
    left, right = rng.standard_normal((n, n)), rng.standard_normal((m, m))
    rows, cols = rng.integers(0, n, count), rng.integers(0, m, count)
    mass = rng.dirichlet(np.ones(count))
    gradient = rng.standard_normal((n, m))
    return gradient, left + left.T, right + right.T, rows, cols, mass


@pytest.mark.parametrize(
    "best",
    [
        pytest.param(best_exchange, marks=numba_alone, id="compiled"),
        pytest.param(best_exchange.__wrapped__, id="not compiled"),
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_the_best_exchange_is_that_of_the_matrices(best, seed):
    """More atoms than fit a tile, some of one row or column."""
    gradient, left, right, rows, cols, mass = drawn(20, 30, 70, seed)
    atoms = Atoms(
        rows=rows,
        cols=cols,
        mass=mass,
        slopes=gradient[rows][:, cols],
        forms=(FormBlock(left[rows][:, rows], right[cols][:, cols], 1.0),),
    )
    expected = atoms.best()
    change, first, second = best(gradient, left, right, rows, cols, mass)
    assert change == pytest.approx(expected.change, rel=1e-12)
    assert {first, second} == {expected.first, expected.second}


def test_no_exchange_that_lowers_nothing():
    """Between the two atoms of an isometry each exchange costs."""
    distance = np.array([[0.0, 1.0], [1.0, 0.0]])
    plan = np.eye(2) / 2
    gradient = -4 * (distance - 0.5) @ plan @ (distance - 0.5)
    arguments = (gradient, distance - 0.5, distance - 0.5)
    order = np.arange(2)
    change, _, _ = best_exchange(*arguments, order, order, np.full(2, 0.5))
    assert change >= -1e-15


def test_products_are_added_in_place(rng):
    matrix, column, row = rng.random((4, 6)), rng.random(4), rng.random(6)
    expected = matrix + np.outer(column, row)
    add_product(matrix, column, row)
    assert np.abs(matrix - expected).max() <= 1e-15
