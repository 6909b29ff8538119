"""Histories: the plan after every step, judged by solves that stop at that step."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given

import gwtools as gw
from gwtools import history
from tests import checkers
from tests.libraries import Library
from tests.solvers.test_base import QUIET, arguments, variation
from tests.strategies import pairs

SOLVERS = [
    gw.ConditionalGradient(),
    gw.Sinkhorn(),
    gw.Sinkhorn(proximal=False),
]


def clouds(n=9, m=12, seed=0):
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(n, 3.0)), rng.dirichlet(np.full(m, 3.0))
    return [gw.PointCloud(rng.standard_normal((len(w), 2)), weights=w) for w in weights]


@QUIET
@pytest.mark.parametrize("solver", SOLVERS, ids=str)
@given(pair=pairs(null=True))
def test_every_step_is_one_that_a_callback_was_told_of(solver, pair):
    x, y = (side.space() for side in pair)
    told = []
    result = gw.solve(x, y, solver, callback=told.append)
    assert [step[:2] for step in result.history] == [
        (progress.iteration, progress.objective) for progress in told
    ]
    for step, progress in zip(result.history, told, strict=True):
        assert step.lower is None
        assert progress.lower is None
        if progress.frank_wolfe_gap is not None:
            assert step.frank_wolfe_gap == progress.frank_wolfe_gap
    assert len(result.history) == result.iterations
    seconds = [step.seconds for step in result.history]
    assert seconds == sorted(seconds)
    if result.history and result.status is not gw.Status.NON_FINITE:
        scale = max(np.abs(side.matrix).max() ** 2 for side in pair)
        last = result.history[-1]
        assert abs(last.objective - float(result.objective)) <= 1e-11 * scale


def stopped_after(step, x, y, solver):
    """The plan after a step, of a solver that stops there."""
    return gw.solve(x, y, solver, callback=lambda p: p.iteration == step)


@QUIET
@given(pair=pairs())
def test_gaps_are_those_of_the_plan_after_the_step(pair):
    x, y = (side.space() for side in pair)
    solver = gw.ConditionalGradient()
    steps = gw.solve(x, y, solver).history
    scale = max(np.abs(side.matrix).max() ** 2 for side in pair)
    for step in steps:
        plan = stopped_after(step.iteration, x, y, solver).plan.dense()
        gap = checkers.frank_wolfe_gap(*arguments(*pair), plan)
        assert step.frank_wolfe_gap == pytest.approx(gap, abs=1e-11 * scale)


@QUIET
def test_gaps_at_a_fixed_epsilon_are_those_of_the_plan_after_the_step():
    x, y = clouds()
    epsilon = 0.3
    solver = gw.Sinkhorn(epsilon=epsilon, proximal=False, tolerance=1e-9)
    steps = gw.solve(x, y, solver).history
    plans = [stopped_after(step.iteration, x, y, solver).plan.dense() for step in steps]
    product = np.outer(x.weights, y.weights)
    problem = gw.GWProblem(x, y)
    assert len(steps) > 4
    for step, plan, following in zip(steps, plans, plans[1:], strict=False):
        # The next plan minimises ⟨∇F(π), ·⟩ + ε KL.
        cost = problem.linearize(gw.DensePlan(plan))

        def value(coupling, cost=cost):
            entropy = np.sum(coupling * np.log(coupling / product))
            return np.sum(cost * coupling) + epsilon * entropy

        gap = value(plan) - value(following)
        assert step.frank_wolfe_gap == pytest.approx(gap, rel=1e-3, abs=1e-8)
    assert steps[0].frank_wolfe_gap > 10 * steps[-1].frank_wolfe_gap


def test_epsilon_is_that_of_the_kernel_of_the_step():
    x, y = clouds()
    size = variation(x.dense(), x.weights, y.dense(), y.weights)
    annealed = gw.solve(x, y, gw.Sinkhorn(cooling=0.5)).history
    kernels = [step.epsilon for step in annealed if step.epsilon is not None]
    expected = [max(size / 8 * 0.5**k, 1e-3 * size) for k in range(len(kernels))]
    np.testing.assert_allclose(kernels, expected)
    # Linear programs go on from there, as the same solver.
    programs = annealed[len(kernels) :]
    assert programs
    assert {step.epsilon for step in programs} == {None}
    fixed = gw.solve(x, y, gw.Sinkhorn(epsilon=0.3, proximal=False)).history
    assert {step.epsilon for step in fixed} == {0.3}
    assert {step.epsilon for step in gw.solve(x, y).history} == {None}


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_steps_are_in_the_units_of_the_given_spaces(solver):
    unit = 2.0**240  # squares of squares of such values have no numbers
    x, y = clouds()
    large = [gw.DenseSpace(space.dense() * unit, space.weights) for space in (x, y)]
    small = [gw.DenseSpace(space.dense(), space.weights) for space in (x, y)]
    expected = gw.solve(*small, solver).history
    found = gw.solve(*large, solver).history
    assert len(found) == len(expected)
    for step, other in zip(found, expected, strict=True):
        for name in ("objective", "frank_wolfe_gap", "epsilon"):
            value, of_other = getattr(step, name), getattr(other, name)
            assert (value is None) == (of_other is None)
            if value is not None:
                assert value / unit / unit == pytest.approx(of_other, abs=1e-9)


@pytest.mark.parametrize("batch", [False, True], ids=["solve", "solve_batch"])
def test_seconds_are_counted_from_the_start_of_the_first_solver(monkeypatch, batch):
    ticks = itertools.count(1000.0)
    clock = SimpleNamespace(perf_counter=lambda: next(ticks))
    monkeypatch.setattr(history, "time", clock)
    x, y = clouds()
    if batch:
        (result,) = gw.solve_batch([x], [y], gw.Sinkhorn())
    else:
        result = gw.solve(x, y, gw.Sinkhorn())
    # One tick a step, and one more where conditional gradient starts.
    kernels = sum(step.epsilon is not None for step in result.history)
    assert 0 < kernels < len(result.history)
    expected = [k + (k > kernels) for k in range(1, len(result.history) + 1)]
    assert [step.seconds for step in result.history] == expected
    numbers = [step.iteration for step in result.history]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("batch", [False, True], ids=["solve", "solve_batch"])
def test_closed_forms_have_no_steps(batch):
    x, y = clouds()
    result = gw.solve_batch([x], [y], gw.Sorted())[0] if batch else None
    result = result or gw.solve(x, y, gw.Sorted())
    assert result.history == ()


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
@pytest.mark.parametrize("name", ["torch", "array_api_strict"])
def test_steps_are_numbers_of_python_in_every_library(name, solver):
    library = Library(name, "float64")
    x, y = (
        gw.PointCloud(library.array(s.points), weights=library.array(s.weights))
        for s in clouds()
    )
    for result in (gw.solve(x, y, solver), *gw.solve_batch([x], [y], solver)):
        assert result.history
        for step in result.history:
            assert {type(value) for value in step} <= {int, float, type(None)}


def test_a_gap_is_added_to_the_last_step_alone_and_only_where_it_is_missing():
    step = gw.Step(1, 2.0, None, None, 0.5)
    steps = [step, step]
    history.with_gap(steps, None)
    assert steps == [step, step]
    history.with_gap(steps, 0.25)
    history.with_gap(steps, 0.75)
    assert steps == [step, step._replace(frank_wolfe_gap=0.25)]
    nothing = []
    history.with_gap(nothing, 0.25)
    assert nothing == []
