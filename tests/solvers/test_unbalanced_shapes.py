"""Theorem 18: shapes of unbalanced plans, and the steps that lower L."""

import numpy as np
import pytest

import gwtools as gw
from gwtools.solvers.unbalanced_shapes import Shapes
from gwtools.unbalanced_problems import UnbalancedProblem
from tests import checkers, free_plans


def drawn(seed, rho=0.3):
    C, a, D, b, rng = free_plans.drawn(seed, metric=False)
    problem = UnbalancedProblem(
        gw.DenseSpace(C, a), gw.DenseSpace(D, b), gw.Unbalanced((rho, 2 * rho))
    )
    shape = rng.dirichlet(np.full(len(a) * len(b), 0.4)).reshape(len(a), len(b))
    return Shapes.of(problem), shape, rng, problem


def value(shapes, shape):
    return shapes.value(shape, shapes.gradient(shape))


@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_is_that_of_the_distortion(seed):
    shapes, shape, _, problem = drawn(seed)
    slope = checkers.gradient(shapes.C, shapes.D, shape)
    assert np.allclose(shapes.gradient(shape), slope, atol=1e-12)
    found = value(shapes, shape)
    plan = gw.DensePlan(shapes.mass(found) * shape)
    assert float(problem.objective(plan)) == pytest.approx(shapes.objective(found))


@pytest.mark.parametrize("seed", range(3))
def test_a_line_is_searched_to_a_point_that_is_no_worse_than_others(seed):
    shapes, shape, rng, _ = drawn(seed)
    end = rng.permutation(shape.ravel()).reshape(shape.shape)
    found = shapes.searched(shape, shapes.gradient(shape), end)
    others = [value(shapes, shape + t * (end - shape)) for t in np.linspace(0, 1, 101)]
    assert value(shapes, found) <= min(others) + 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_settled_shapes_are_stationary_on_their_support(seed):
    """Slopes are alike where there is mass, and no lower elsewhere on the support."""
    shapes, shape, rng, _ = drawn(seed)
    support = rng.random(shape.shape) < 0.4
    support |= np.eye(*shape.shape, dtype=bool)
    first = np.where(support, shape, 0.0)
    first /= first.sum()
    settled = shapes.settled(first, support, 1e-15)
    assert value(shapes, settled) <= value(shapes, first)
    assert not np.any(settled[~support])
    assert settled.sum() == pytest.approx(1, abs=1e-14)
    rows, cols = settled.sum(1), settled.sum(0)
    used = support & (rows[:, None] > 1e-9) & (cols[None, :] > 1e-9)
    slopes = shapes.gradient(settled)
    slopes = (
        slopes + shapes.prices[0] * np.log(np.maximum(rows, 1e-300) / shapes.a)[:, None]
    )
    slopes = slopes + shapes.prices[1] * np.log(np.maximum(cols, 1e-300) / shapes.b)
    mean = float((slopes * settled).sum())
    assert np.allclose(slopes[settled > 1e-9], mean, atol=1e-5)
    assert slopes[used].min() >= mean - 1e-5


def test_rows_that_are_empty_are_filled_as_the_program_says():
    shapes, _, _, _ = drawn(0, rho=3.0)
    n, m = len(shapes.a), len(shapes.b)
    full = np.outer(shapes.a, shapes.b)
    empty = full.copy()
    empty[0] = 0.0
    empty /= empty.sum()
    filled = shapes.completed(empty, full)
    assert value(shapes, filled) < value(shapes, empty)
    assert filled[0].sum() > 0
    assert filled.shape == (n, m)
    # Where it does not help nothing changes.
    worse = np.zeros((n, m))
    worse[0, 0] = 1.0
    assert shapes.completed(empty, worse) is empty
