"""Theorem 18: shapes of unbalanced plans, and the steps that lower L."""

from dataclasses import replace

import numpy as np
import pytest

import gwtools as gw
from gwtools.solvers.unbalanced_shapes import Shapes, best_mass, mass_penalty
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


def fused(seed, mass=0.7):
    """Shapes with a linear term, of a mass that is held."""
    _, shape, rng, problem = drawn(seed)
    features = rng.standard_normal(shape.shape)
    problem = replace(problem, features=features, alpha=0.25)
    return replace(Shapes.of(problem), held_mass=mass), shape, problem


@pytest.mark.parametrize("seed", range(3))
def test_a_linear_term_counts_by_the_mass_that_is_held(seed):
    """The objective is that of the plan, and L falls as the plans of this mass do."""
    shapes, shape, problem = fused(seed)
    plan = gw.DensePlan(shapes.held_mass * shape)
    found = value(shapes, shape)
    assert float(problem.objective(plan)) == pytest.approx(shapes.objective(found))
    other = shape[::-1].copy()
    end = value(shapes, other)
    there = float(problem.objective(gw.DensePlan(shapes.held_mass * other)))
    fall = float(problem.objective(plan)) - there
    assert fall == pytest.approx(shapes.decrease(found, found - end))
    on = np.ones(shape.shape, dtype=bool)
    assert value(shapes, shapes.settled(shape, on, 1e-12)) <= found
    # Along a line it is quadratic, but for the divergences.
    searched = shapes.searched(shape, shapes.gradient(shape), other)
    line = [value(shapes, shape + t * (other - shape)) for t in np.linspace(0, 1, 101)]
    assert value(shapes, searched) <= min(line) + 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_the_best_mass_of_a_fused_shape(seed):
    shapes, shape, problem = fused(seed)
    best = shapes.massed(shape).held_mass
    found = float(problem.objective(gw.DensePlan(best * shape)))
    for mass in np.linspace(0.01, 3, 60):
        other = float(problem.objective(gw.DensePlan(mass * shape)))
        assert found <= other + 1e-12


@pytest.mark.parametrize("linear", [0.3, 0.9, 5.0])
def test_masses_of_costs_that_nothing_pays_for(linear):
    """Where less is always better the mass falls, and never rises."""

    def objective(s):
        return s * s * 0.2 + s * linear + 0.5 * mass_penalty(s)

    mass = 1.0
    for _ in range(3):
        following = best_mass(0.2, linear, 0.5, mass)
        assert objective(following) <= objective(mass)
        mass = following


@pytest.mark.parametrize("price", [1e-12, 1e-3, 10.0])
@pytest.mark.parametrize("gained", [1e2, 1e5, 1e12])
def test_the_best_mass_where_costs_are_far_below_0(gained, price):
    """At it the derivative 2 A + B / s + 4 R log s is 0, though s may be very large."""
    mass = best_mass(0.3 * price, -gained * price, price, 1.0)
    ratio = 0.6 + 4 * np.log(mass)
    assert ratio * mass == pytest.approx(gained, rel=1e-12)


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
