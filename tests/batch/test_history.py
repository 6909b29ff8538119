"""Histories of problems that take their steps together: those of each by itself."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

import gwtools as gw
from gwtools.batch import sinkhorn
from gwtools.batch.history import StackHistory
from tests.batch.test_solve import made, problems
from tests.libraries import Library

SCALED = [
    gw.Sinkhorn(),
    gw.Sinkhorn(epsilon=2.0, proximal=False),
    gw.Sinkhorn(max_iterations=3),
]


@pytest.mark.filterwarnings("ignore::gwtools.ConvergenceWarning")
@pytest.mark.parametrize("solver", SCALED, ids=str)
@pytest.mark.parametrize("name", ["numpy", "torch", "array_api_strict"])
def test_each_problem_has_the_steps_of_its_single_solve(name, solver):
    library = Library(name, "float64")
    sides = [made(side, library.array) for side in problems("euclidean")]
    results = gw.solve_batch(*sides, solver)
    assert len({result.iterations for result in results}) > 1 or solver is SCALED[2]
    for result, x, y in zip(results, *sides, strict=True):
        alone = gw.solve(x, y, solver)
        scale = gw.GWProblem(x, y).product_objective
        assert len(result.history) == len(alone.history) == result.iterations
        for step, other in zip(result.history, alone.history, strict=True):
            assert step.iteration == other.iteration
            assert abs(step.objective - other.objective) <= 1e-8 * scale
            for found, expected in zip(step[2:4], other[2:4], strict=True):
                assert (found is None) == (expected is None)
                if expected is not None:
                    assert abs(found - expected) <= 1e-8 * scale
        seconds = [step.seconds for step in result.history]
        assert seconds == sorted(seconds)


def state(relative, gap, last_gap, epsilon):
    return SimpleNamespace(
        relative_objective=np.array(relative),
        gap=np.array(gap),
        last_gap=np.array(last_gap),
        epsilon=np.array(epsilon),
    )


def test_steps_are_cut_by_problem_and_end_before_values_that_are_not_finite():
    xs = [gw.DenseSpace(1 - np.eye(n)) for n in (2, 3)]
    ys = [
        gw.DenseSpace(2 - 2 * np.eye(3), weights=np.array([0.5, 0.25, 0.25])),
        gw.DenseSpace(1 - np.eye(4)),
    ]
    stack = sinkhorn.problems(xs, ys)
    products = [
        gw.GWProblem(x, y).product_objective for x, y in zip(xs, ys, strict=True)
    ]
    history = StackHistory(stack)
    nan = math.nan
    before = state([0.0, 0.0], [nan, nan], [nan, nan], [0.5, 0.25])
    first = state([-0.125, -9.0], [nan, nan], [3.0, 4.0], [0.1, 0.1])
    history.record(np.array([0, 1]), before, first)
    # The first problem goes wrong, the second one is then alone.
    second = state([nan, -0.25], [nan, 0.5], [nan, 0.75], [0.1, 0.1])
    history.record(np.array([0, 1]), first, second)
    third = state([-0.3], [nan], [7.0], [0.1])
    history.record(np.array([1]), state([0], [0], [0], [0.2]), third)
    (only,), (one, two, three) = history.finished()
    assert only[:4] == (1, pytest.approx(products[0] - 0.125), None, 0.5)
    # No objective is below 0.
    assert one[:4] == (1, 0.0, 0.75, 0.25)
    assert two[:4] == (2, pytest.approx(products[1] - 0.25), 0.5, 0.1)
    assert three[:4] == (3, pytest.approx(products[1] - 0.3), None, 0.2)
    assert 0.0 <= one.seconds <= two.seconds <= three.seconds


def test_no_gap_is_that_of_the_next_problems_first_plan():
    spaces = [gw.DenseSpace(1 - np.eye(n)) for n in (2, 3)]
    history = StackHistory(sinkhorn.problems(spaces, spaces[::-1]))
    nan = math.nan
    before = state([0.0, 0.0], [nan, nan], [nan, nan], [0.5, 0.25])
    after = state([-0.1, -0.1], [nan, nan], [3.0, 4.0], [0.5, 0.25])
    history.record(np.array([0, 1]), before, after)
    for steps in history.finished():
        assert [step.frank_wolfe_gap for step in steps] == [None]


def test_without_steps_there_is_no_history():
    spaces = [gw.DenseSpace(1 - np.eye(2))] * 3
    assert StackHistory(sinkhorn.problems(spaces, spaces)).finished() == [()] * 3
