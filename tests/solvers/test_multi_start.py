"""The search: what it starts from, where it ends, and that it can be repeated."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings

import gwtools as gw
from gwtools.solvers import multi_start, portfolio
from tests import checkers
from tests.libraries import to_numpy
from tests.strategies import known, pairs
from tests.test_check import refused

QUIET = pytest.mark.filterwarnings("ignore::gwtools.ConvergenceWarning")


def clouds(n=9, m=12, seed=0, array=np.asarray, metric="euclidean"):
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(n, 3.0)), rng.dirichlet(np.full(m, 3.0))
    points = rng.standard_normal((n, 2)), rng.standard_normal((m, 3))
    return [
        gw.PointCloud(array(p), array(w), metric=metric)
        for p, w in zip(points, weights, strict=True)
    ]


def same(first, second):
    """Whether two results are the same, bit for bit, but for seconds and names."""
    assert float(first.objective) == float(second.objective)
    assert float(first.distance) == float(second.distance)
    assert np.array_equal(first.plan.dense(), second.plan.dense())
    assert type(first.plan) is type(second.plan)
    assert first.status is second.status
    assert first.iterations == second.iterations
    assert first.frank_wolfe_gap == second.frank_wolfe_gap
    assert first.certificate.bounds == second.certificate.bounds
    for f, g in zip(first.potentials, second.potentials, strict=True):
        assert np.array_equal(f, g)
    steps, others = (
        [step._replace(seconds=0.0) for step in result.history]
        for result in (first, second)
    )
    assert steps == others


def without_seconds(starts):
    return [start._replace(seconds=0.0) for start in starts]


# --------------------------------------------------------------------------------
# one start, and as many as were made


@QUIET
@settings(max_examples=40)
@given(pair=pairs(null=True))
def test_one_start_is_conditional_gradient(pair):
    x, y = (side.space() for side in pair)
    single = gw.solve(x, y, gw.ConditionalGradient())
    result = gw.solve(x, y, gw.MultiStart(starts=1))
    same(result, single)
    (start,) = result.starts
    assert start.name == "product coupling"
    assert start.iterations == single.iterations
    assert start.won
    assert start.reached
    assert single.starts is None


@QUIET
def test_one_start_has_the_settings_of_the_search():
    x, y = clouds(12, 15)
    for options in ({"tolerance": 1e-3}, {"max_iterations": 1}):
        result = gw.solve(x, y, gw.MultiStart(starts=1, **options))
        same(result, gw.solve(x, y, gw.ConditionalGradient(**options)))


@pytest.mark.parametrize("seed", range(10))
def test_the_number_of_starts_reproduces_a_result(seed):
    rng = np.random.default_rng(seed)
    n, m = rng.integers(4, 14, 2)
    x, y = clouds(n, m, seed)
    result = gw.solve(x, y, gw.MultiStart())
    again = gw.solve(x, y, gw.MultiStart(starts=len(result.starts)))
    same(again, result)
    assert without_seconds(again.starts) == without_seconds(result.starts)
    # Where five independent starts agree the other planned ones are skipped.
    names = [start.name for start in result.starts]
    assert ("annealing" in names) == (seed not in (2, 6, 8))


def test_the_seed_is_that_of_random_starts_alone():
    x, y = clouds(14, 17, seed=3)
    first, again, other = (
        gw.solve(x, y, gw.MultiStart(starts=26, seed=seed)) for seed in (0, 0, 1)
    )
    same(first, again)
    names = [start.name for start in first.starts]
    planned = names.index("restart from the best")
    assert planned >= 7
    records, others = without_seconds(first.starts), without_seconds(other.starts)
    for ours, theirs in zip(records[:planned], others[:planned], strict=True):
        assert (ours.name, ours.objective) == (theirs.name, theirs.objective)
    assert [start.name for start in others] == names
    assert [s.objective for s in records] != [s.objective for s in others]


@QUIET
@settings(max_examples=40)
@given(pair=pairs(null=True))
def test_results_are_what_they_claim(pair):
    x, y = pair
    result = gw.solve(x.space(), y.space(), gw.MultiStart(starts=12))
    checkers.check_result(result, x.matrix, x.weights, y.matrix, y.weights)
    single = gw.solve(x.space(), y.space(), gw.ConditionalGradient())
    assert float(result.objective) <= float(single.objective)
    starts = result.starts
    assert 1 <= len(starts) <= 12
    assert sum(start.won for start in starts) == 1
    scale = max(1e-300, *(np.abs(side.matrix).max() ** 2 for side in pair))
    assert starts.best.objective <= min(s.objective for s in starts) + 1e-12 * scale
    assert abs(starts.best.objective - float(result.objective)) <= 1e-12 * scale
    assert starts.best.iterations == result.iterations
    assert starts.best.reached
    for start in starts:
        assert start.seconds >= 0
        assert start.objective >= 0
        above = start.objective - starts.best.objective
        assert start.reached or above > 0
        assert not start.reached or above <= 1e-8 * scale


@QUIET
@settings(max_examples=40)
@given(instance=known())
def test_known_answers_are_reached(instance):
    result = gw.solve(instance.x.space(), instance.y.space(), gw.MultiStart())
    scale = max(np.abs(side.matrix).max() ** 2 for side in (instance.x, instance.y))
    assert float(result.objective) <= instance.value + 1e-9 * scale + 1e-300


# --------------------------------------------------------------------------------
# ends


class Clock:
    """A clock that moves on by a second each time that it is read."""

    def __init__(self, seconds=1.0):
        self.seconds, self.time = seconds, 0.0

    def __call__(self):
        self.time += self.seconds
        return self.time


def test_budgets_end_between_starts(monkeypatch):
    x, y = clouds(10, 13, seed=2)
    numbers = []
    for budget in (0, 0.0, 3, 20, 60):
        monkeypatch.setattr(multi_start, "now", Clock())
        result = gw.solve(x, y, gw.MultiStart(budget=budget))
        numbers.append(len(result.starts))
        # The clock is read twice in each start, at its end and for the budget.
        *before, last = itertools.accumulate(s.seconds for s in result.starts)
        assert last + 1 >= budget
        assert all(seconds + 1 < budget for seconds in before)
        monkeypatch.undo()
        again = gw.solve(x, y, gw.MultiStart(starts=len(result.starts)))
        same(result, again)
    assert numbers[:2] == [1, 1]
    assert numbers == sorted(numbers)
    assert 1 < numbers[2] < numbers[3] < numbers[4]


def test_a_budget_makes_the_search_go_on(monkeypatch):
    x, y = clouds(5, 6, seed=1)
    by_itself = len(gw.solve(x, y, gw.MultiStart()).starts)
    monkeypatch.setattr(multi_start, "now", Clock(0.1))
    result = gw.solve(x, y, gw.MultiStart(budget=20.0))
    assert len(result.starts) > max(64, by_itself)
    monkeypatch.setattr(multi_start, "now", Clock(0.1))
    result = gw.solve(x, y, gw.MultiStart(budget=20.0, starts=by_itself + 2))
    assert len(result.starts) == by_itself + 2


def test_objective_zero_ends_the_search():
    x, _ = clouds()
    points = to_numpy(x.data)[::-1].copy()
    y = gw.PointCloud(points, x.weights[::-1].copy())
    result = gw.solve(x, y, gw.MultiStart())
    assert len(result.starts) <= 2
    assert result.status is gw.Status.GLOBAL
    assert str(result.starts).startswith("best of")


def test_a_closed_interval_ends_the_search():
    """A space and twice it: the norm bound is attained by the identity."""
    x, _ = clouds(7)
    y = gw.DenseSpace(2 * x.dense(), x.weights)
    x = gw.DenseSpace(x.dense(), x.weights)
    result = gw.solve(x, y, gw.MultiStart())
    assert result.status is gw.Status.GLOBAL
    assert float(result.objective) > 0.1
    assert len(result.starts) < 7


def test_optimal_starts_end_the_search():
    """Distances of nine atoms: all bijections are tried, and none is better."""
    rng = np.random.default_rng(0)
    x, y = (gw.PointCloud(rng.standard_normal((8, 2))) for _ in range(2))
    result = gw.solve(x, y, gw.MultiStart())
    names = [start.name for start in result.starts]
    assert names[-1] == "all permutations"
    assert len(names) <= 3


def test_restarts_are_from_the_best_plan(monkeypatch):
    x, y = clouds(11, 14, seed=5)
    problem = gw.GWProblem(x, y)
    given_plans = []
    perturbed = portfolio.perturbed_plan

    def seen(plan, *rest):
        given_plans.append(float(problem.objective(plan)))
        return perturbed(plan, *rest)

    monkeypatch.setattr(portfolio, "perturbed_plan", seen)
    starts = list(gw.solve(x, y, gw.MultiStart(starts=40)).starts)
    least = list(itertools.accumulate((s.objective for s in starts), min))
    restarts = [k for k, s in enumerate(starts) if s.name.startswith("restart")]
    expected = [least[k - 1] for k in restarts]
    np.testing.assert_allclose(given_plans[: len(expected)], expected, rtol=1e-12)
    assert max(start.objective for start in starts) > 1.01 * least[-1]


def test_steps_are_counted_over_all_starts():
    x, y = clouds(8, 9, seed=4)
    told = []
    result = gw.solve(x, y, gw.MultiStart(), callback=told.append)
    assert [step.iteration for step in told] == list(range(1, len(told) + 1))
    assert sum(start.iterations for start in result.starts) == len(told)
    assert len(result.history) == result.iterations
    same(result, gw.solve(x, y, gw.MultiStart()))


@pytest.mark.parametrize("step", range(1, 25))
def test_true_ends_the_search_with_the_best_plan_so_far(step):
    x, y = clouds(8, 9, seed=4)
    told = []

    def stop(progress):
        told.append(progress)
        return progress.iteration == step

    result = gw.solve(x, y, gw.MultiStart(), callback=stop)
    assert len(told) == step
    assert result.status is gw.Status.STOPPED
    single = gw.solve(x, y, gw.ConditionalGradient(), callback=stop)
    if len(result.starts) > 1:
        whole = gw.solve(x, y, gw.MultiStart(starts=len(result.starts) - 1))
        assert float(result.objective) <= float(whole.objective)
        assert result.starts.best.objective <= told[-1].objective + 1e-12
    else:
        assert np.array_equal(result.plan.dense(), single.plan.dense())
    objective = checkers.objective(x.dense(), y.dense(), result.plan.dense())
    assert float(result.objective) == pytest.approx(objective, rel=1e-12)


def test_other_answers_do_not_stop_a_search():
    x, y = clouds(5, 6)
    answers = itertools.cycle([1, "yes", None, False, [True]])
    asked = gw.solve(x, y, gw.MultiStart(), callback=lambda _: next(answers))
    same(asked, gw.solve(x, y, gw.MultiStart()))
    stopped = gw.solve(x, y, gw.MultiStart(), callback=lambda _: np.True_)
    assert stopped.status is gw.Status.STOPPED
    assert len(stopped.starts) == 1


def test_a_stop_at_the_end_of_the_last_start_is_none():
    """As of a single solver, a criterion that is met at that step counts."""
    x, y = clouds(8, 9, seed=4)
    told = []
    gw.solve(x, y, gw.MultiStart(starts=3), callback=told.append)
    last = told[-1].iteration
    solver = gw.MultiStart(starts=3)
    result = gw.solve(x, y, solver, callback=lambda p: p.iteration == last)
    assert result.status is gw.Status.STATIONARY


BAD_SETTINGS = {
    "starts": [0, True, 1.5, "3"],
    "budget": [-1, math.nan, math.inf],
    "seed": [-1, 0.5, None],
    "tolerance": [-1e-9, math.nan],
    "max_iterations": [0, 2.5, False],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in BAD_SETTINGS.items() for value in values],
)
def test_bad_settings(name, value):
    refused(lambda: gw.MultiStart(**{name: value}), ValueError, name)


def test_settings_are_named():
    assert str(gw.MultiStart()) == "MultiStart()"
    assert str(gw.MultiStart(starts=7, budget=2.0)) == (
        "MultiStart(starts=7, budget=2.0)"
    )
    assert gw.MultiStart(starts=np.int64(3)).starts == 3


def test_no_problem():
    refused(lambda: gw.MultiStart().run(np.eye(3)), TypeError, "problem")


@QUIET
def test_steps_that_run_out_are_told():
    x, y = clouds(20, 25, seed=1)
    result = gw.solve(x, y, gw.MultiStart(starts=2, max_iterations=1))
    assert result.status is gw.Status.MAX_ITERATIONS
    assert all(start.iterations == 1 for start in result.starts)


def test_memory():
    x, y = clouds(40, 30)
    single, search = (
        solver.numbers_held(x, y)
        for solver in (gw.ConditionalGradient(), gw.MultiStart())
    )
    assert gw.MultiStart(starts=1).numbers_held(x, y) == single
    assert search > single + 18 * 40 * 30
    between = 8 * (single + search) / 2
    with pytest.raises(MemoryError, match=r"small enough for MultiStart\(\)"):
        gw.solve(x, y, gw.MultiStart(), memory_limit=between)
    gw.solve(x, y, gw.MultiStart(starts=1), memory_limit=between)


# --------------------------------------------------------------------------------
# sizes


def test_medium_sizes_make_few_starts():
    rng = np.random.default_rng(0)
    x, y = (gw.PointCloud(rng.standard_normal((n, 2))) for n in (510, 520))
    result = gw.solve(x, y, gw.MultiStart())
    assert len(result.starts) <= 5
    assert "left out at this size: eigenvectors, the first bound" in str(result.starts)
    first, *others = result.starts
    least = first.objective
    for start in others:
        # Beyond half of the first start's steps only what is below the best goes on.
        limit = int(multi_start._SHARE_OF_STEPS * first.iterations) + 1
        assert start.iterations <= limit or start.objective < least
        least = min(least, start.objective)
    assert result.status is gw.Status.STATIONARY


def test_later_starts_of_medium_sizes_stop_where_they_are_worse(monkeypatch):
    monkeypatch.setattr(multi_start, "SMALL", 24)
    told = []
    for seed in range(5):
        x, y = clouds(20, 25, seed)
        steps = []
        result = gw.solve(x, y, gw.MultiStart(starts=12), callback=steps.append)
        first = result.starts[0].iterations
        for start in list(result.starts)[1:]:
            told.append(start.iterations > first / 2)
        # The caller is told of all steps, of the last ones too.
        assert len(steps) == sum(start.iterations for start in result.starts)
        assert result.status is gw.Status.STATIONARY
        assert float(result.objective) <= float(
            gw.solve(x, y, gw.ConditionalGradient()).objective
        )
    assert any(told)
    assert not all(told)
