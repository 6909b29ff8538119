"""Steps in single precision: the same answers, each proved in double precision."""

import numpy as np
import pytest

import gwtools as gw
from gwtools.solvers import single_precision
from gwtools.solvers.single_precision import SingleProblem
from gwtools.transport.programs import exact
from tests import checkers

MANY = "_MANY"


def distances(rng, n, weighted=False):
    points = rng.standard_normal((n, 3))
    weights = rng.uniform(0.5, 1.5, n) if weighted else np.ones(n)
    matrix = np.linalg.norm(points[:, None] - points, axis=-1)
    return gw.DenseSpace(matrix, weights / weights.sum())


def adjacency(rng, n):
    """A random graph: its objective is not concave, so that plans are mixtures."""
    upper = np.triu(rng.random((n, n)) < 0.1, 1).astype(float)
    return gw.DenseSpace(upper + upper.T)


@pytest.fixture
def small(monkeypatch):
    """Single precision at the sizes of tests."""
    monkeypatch.setattr(single_precision, MANY, 1)


def drawn(name, rng):
    if name == "adjacency":
        return adjacency(rng, 210), adjacency(rng, 230)
    weighted = name == "weights"
    m = 240 if weighted else 220
    return distances(rng, 220, weighted), distances(rng, m, weighted)


@pytest.mark.parametrize("name", ["equal weights", "weights", "adjacency"])
def test_the_gap_is_that_of_double_precision(name, small, rng):
    """An independent program at the plan promises no more than the gap says."""
    x, y = drawn(name, rng)
    problem = gw.GWProblem(x, y)
    outcome = gw.ConditionalGradient().run(problem)
    assert outcome.status is gw.Status.STATIONARY
    assert checkers.coupling_error(outcome.plan.dense(), x.weights, y.weights) <= 1e-12
    gradient = problem.linearize(outcome.plan)
    program = exact(gradient, x.weights, y.weights, outcome.plan)
    promised = outcome.plan.inner(gradient) - program.lower
    accepted = gw.ConditionalGradient().negligible(problem)
    assert promised <= outcome.frank_wolfe_gap + problem.float_error
    assert outcome.frank_wolfe_gap <= accepted


@pytest.mark.parametrize("name", ["equal weights", "weights"])
def test_the_objective_is_that_of_double_precision(name, rng, monkeypatch):
    x, y = drawn(name, rng)
    solver = gw.ConditionalGradient()
    double = gw.solve(x, y, solver)
    monkeypatch.setattr(single_precision, MANY, 1)
    single = gw.solve(x, y, solver)
    assert float(single.objective) == pytest.approx(float(double.objective), rel=1e-7)
    assert single.certificate.lower <= float(double.objective)


def test_products_are_rounded_only(small, rng):
    """Those of a plan, and those after a change of some of its rows."""
    x, y = drawn("weights", rng)
    problem = gw.GWProblem(x, y)
    single = SingleProblem.of(problem)
    n, m = problem.shape
    rows, cols = np.arange(300) % n, rng.permutation(300) % m
    plan = gw.SparsePlan(rows, cols, rng.random(300), (n, m))
    swapped = np.concatenate([cols[1:40], cols[:1], cols[40:]])
    other = gw.SparsePlan(rows, swapped, plan.mass, (n, m))
    accepted = 1e-6 * np.abs(problem.cross(plan)).max()
    cross = single.cross(plan)
    assert cross.dtype == np.float32
    assert np.abs(cross - problem.cross(plan)).max() <= accepted
    updated = single.updated_cross(other, plan, cross)
    assert updated.dtype == np.float32
    assert np.abs(updated - problem.cross(other)).max() <= accepted
    assert single.gradient(cross).dtype == np.float32


@pytest.mark.parametrize("factor", [1e-25, 1e25])
def test_units_beyond_single_precision(factor, small, rng):
    """Products of values of 1e-25 or 1e25 are 0 or infinite in single precision."""
    x, y = drawn("equal weights", rng)
    expected = gw.ConditionalGradient().run(gw.GWProblem(x, y))
    far = gw.GWProblem(
        gw.DenseSpace(factor * x.dense()), gw.DenseSpace(factor * y.dense())
    )
    outcome = gw.ConditionalGradient().run(far)
    assert outcome.status is gw.Status.STATIONARY
    objective = gw.GWProblem(x, y).objective
    assert float(objective(outcome.plan)) == pytest.approx(
        float(objective(expected.plan)), rel=1e-7
    )


def test_steps_are_counted_and_shown(small, rng):
    x, y = drawn("equal weights", rng)
    shown = []
    outcome = gw.ConditionalGradient().run(gw.GWProblem(x, y), shown.append)
    assert [progress.iteration for progress in shown] == list(
        range(1, outcome.iterations + 1)
    )
    objectives = [progress.objective for progress in shown]
    assert all(np.diff(objectives) <= 1e-6 * objectives[0])
    stopped = gw.ConditionalGradient(max_iterations=1).run(gw.GWProblem(x, y))
    assert stopped.iterations == 1
    assert stopped.frank_wolfe_gap is None
    assert checkers.coupling_error(stopped.plan.dense(), x.weights, y.weights) <= 1e-12


def test_what_stays_in_double_precision(small, rng):
    """Other dtypes, coordinates, features and problems that are none of GWProblem."""
    x, y = drawn("equal weights", rng)
    assert SingleProblem.of(gw.GWProblem(x, y)) is not None
    rounded = gw.DenseSpace(x.dense().astype(np.float32), x.weights.astype(np.float32))
    assert SingleProblem.of(gw.GWProblem(rounded, rounded)) is None
    squared = gw.PointCloud(rng.standard_normal((220, 2)), metric="sqeuclidean")
    assert SingleProblem.of(gw.GWProblem(squared, y)) is None
    fused = gw.GWProblem(x, y, features=rng.random((220, 220)), alpha=0.5)
    assert SingleProblem.of(fused) is None


def test_few_atoms_stay_in_double_precision(rng):
    x, y = drawn("equal weights", rng)
    assert SingleProblem.of(gw.GWProblem(x, y)) is None
