"""Quantised spaces: means over cells, and the gradient at the lifted coupling."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from gwtools.solvers.coarsening import coarse_costs, quantised
from tests import checkers
from tests.libraries import EAGER, to_numpy
from tests.strategies import Drawn, spaces


def cell_means(C, a, cells):
    """Σ_ik a_i a_k C_ik / (a_s a_t) over the cells s and t, term by term."""
    count = cells.max() + 1
    weights, sums = np.zeros(count), np.zeros((count, count))
    for i, s in enumerate(cells):
        weights[s] += a[i]
        for k, t in enumerate(cells):
            sums[s, t] += a[i] * a[k] * C[i, k]
    return weights, sums / np.outer(weights, weights)


def column_means(R, a, cells):
    columns = [
        R[:, cells == s] @ a[cells == s] / a[cells == s].sum()
        for s in range(cells.max() + 1)
    ]
    return np.stack(columns, axis=1)


@settings(max_examples=100)
@given(spaces(most=12), st.integers(1, 14))
def test_cells_hold_weights_and_means(drawn, count):
    space = drawn.space()
    found = quantised(space, space.residual(), count)
    cells = found.cells
    k = cells.max() + 1
    assert k <= min(count, drawn.size)
    assert np.array_equal(np.unique(cells), np.arange(k))
    C, a = (drawn.matrix + drawn.matrix.T) / 2, drawn.weights
    weights, means = cell_means(C, a, cells)
    scale = max(np.abs(C).max(), 1e-300)
    np.testing.assert_allclose(found.space.weights, weights, atol=1e-14)
    assert abs(found.space.weights.sum() - 1) <= 1e-15 * k
    assert np.abs(found.space.data - means).max() <= 1e-12 * scale
    _, _, R = checkers.parts(C, a)
    expected = column_means(R, a, cells)
    assert np.abs(found.columns - expected).max() <= 1e-12 * scale


def test_enough_cells_keep_every_atom():
    rng = np.random.default_rng(0)
    x = Drawn("euclidean", rng.standard_normal((9, 2)), rng.dirichlet(np.ones(9)))
    found = quantised(x.space(), x.space().residual(), 9)
    assert sorted(found.cells) == list(range(9))
    np.testing.assert_allclose(
        found.space.data[np.ix_(found.cells, found.cells)],
        x.matrix,
        atol=1e-14,
    )


def test_duplicates_share_a_cell():
    rng = np.random.default_rng(1)
    points = np.repeat(rng.standard_normal((4, 2)), [3, 1, 4, 2], axis=0)
    x = gw.PointCloud(points, metric="sqeuclidean")
    found = quantised(x, x.residual(), 8)
    assert len(found.space.weights) <= 8
    # The four positions are apart.
    assert len(np.unique(found.cells[[0, 3, 4, 8]])) == 4
    y = gw.DenseSpace(np.zeros((6, 6)))
    assert quantised(y, y.residual(), 3).cells.tolist() == [0] * 6


def test_cells_gather_what_is_near():
    """Four clusters far apart, four cells."""
    rng = np.random.default_rng(2)
    centres = np.array([[0.0, 0.0], [50.0, 0.0], [0.0, 80.0], [20.0, 30.0]])
    owner = rng.integers(0, 4, 60)
    points = centres[owner] + 0.1 * rng.standard_normal((60, 2))
    x = gw.PointCloud(points, rng.dirichlet(np.full(60, 3.0)))
    cells = quantised(x, x.residual(), 4).cells
    pairs = {(int(s), int(t)) for s, t in zip(owner, cells, strict=True)}
    assert len(pairs) == 4


def large(kind, n, seed, array=np.asarray):
    rng = np.random.default_rng(seed)
    drawn = Drawn(kind, rng.standard_normal((n, 2)), rng.dirichlet(np.full(n, 3.0)))
    if kind == "gram":
        drawn = Drawn(kind, drawn.data.T.copy(), drawn.weights)
    return drawn, drawn.space(array)


@pytest.mark.parametrize("kinds", [("euclidean", "gram"), ("sqeuclidean", "euclidean")])
def test_costs_are_the_gradient_at_the_lifted_coupling(kinds):
    (drawn_x, x), (drawn_y, y) = large(kinds[0], 60, 1), large(kinds[1], 45, 2)
    problem = gw.GWProblem(x, y)
    solver = gw.ConditionalGradient()
    found = coarse_costs(problem, solver)
    # One coarse cell for at least five atoms on average.
    coarse_x = quantised(x, problem.left, 12)
    coarse_y = quantised(y, problem.right, 9)
    plan = gw.solve(coarse_x.space, coarse_y.space, solver).plan.dense()
    a, b = drawn_x.weights, drawn_y.weights
    of_x, of_y = coarse_x.space.weights, coarse_y.space.weights
    lifted = np.zeros((60, 45))
    for i, s in enumerate(coarse_x.cells):
        for j, t in enumerate(coarse_y.cells):
            lifted[i, j] = plan[s, t] * a[i] / of_x[s] * b[j] / of_y[t]
    assert checkers.coupling_error(lifted, a, b) <= 1e-14
    (_, alpha, R), (_, beta, S) = (
        checkers.parts(drawn.matrix, drawn.weights) for drawn in (drawn_x, drawn_y)
    )
    gradient = -4 * np.outer(alpha, beta) - 4 * R @ lifted @ S
    scale = np.abs(gradient).max()
    assert np.abs(found - gradient).max() <= 1e-11 * scale
    # Up to functions of i and of j alone, that of the sum of squares.
    slope = checkers.gradient(drawn_x.matrix, drawn_y.matrix, lifted)
    rest = slope - found
    rest = rest - rest.mean(1, keepdims=True)
    assert np.abs(rest - rest.mean(0)).max() <= 1e-11 * np.abs(slope).max()


@pytest.mark.parametrize("library", EAGER, ids=str)
def test_costs_in_every_library(library):
    _, x = large("euclidean", 30, 3, library.array)
    _, y = large("gram", 20, 4, library.array)
    found = coarse_costs(gw.GWProblem(x, y), gw.ConditionalGradient())
    assert type(found) is np.ndarray
    assert found.dtype == np.float64
    narrow_x, narrow_y = (to_numpy(space.data).astype(float) for space in (x, y))
    weights = [to_numpy(space.weights) for space in (x, y)]
    weights = [w / w.sum() for w in weights]
    expected = coarse_costs(
        gw.GWProblem(
            gw.PointCloud(narrow_x, weights[0]),
            gw.GramSpace(narrow_y, weights[1]),
        ),
        gw.ConditionalGradient(),
    )
    most = 1e-10 if library.dtype == "float64" else 1e-3
    assert np.abs(found - expected).max() <= most * np.abs(expected).max()
