"""Where a search ends, and where a start is given up: replayed from the records."""

import math

import numpy as np
import pytest

import gwtools as gw
from gwtools.solvers import multi_start
from gwtools.solvers.multi_start import _Limit
from gwtools.solvers.portfolio import PARTS, Candidate
from tests.solvers.test_multi_start import clouds, same

# --------------------------------------------------------------------------------
# patience


def is_planned(start):
    return not start.name.startswith(("restart", "random vertex"))


def replayed(starts, negligible):
    """The number of starts after which a search of such records ends by itself."""
    planned = sum(map(is_planned, starts))
    for number in range(planned, len(starts)):
        made = starts[:number]
        least = min(start.objective for start in made)
        reached = [start.objective <= least + negligible for start in made]
        gained = 1 + reached.index(True)
        independent = [not start.name.startswith("restart") for start in made]
        agreeing = sum(map(all, zip(reached, independent, strict=True)))
        patience = multi_start._PATIENCE
        if agreeing >= multi_start._AGREEING:
            patience = multi_start._PATIENCE_AGREEING
        if multi_start._PATIENT < 12:
            patience = multi_start._PATIENCE_LARGE
        is_out_of_steps = (
            sum(start.iterations for start in made) >= multi_start._MOST_STEPS
        )
        is_out_of_patience = number - max(gained, planned) >= patience
        if is_out_of_steps or is_out_of_patience or number >= multi_start._MOST_STARTS:
            return number
    return len(starts)


def test_the_numbers_are_those_that_are_documented():
    patience = (
        multi_start._PATIENCE,
        multi_start._PATIENCE_AGREEING,
        multi_start._PATIENCE_LARGE,
    )
    assert patience == (20, 10, 5)
    assert (multi_start._AGREEING, multi_start._PATIENT) == (5, 150)
    assert (multi_start._MOST_STARTS, multi_start._MOST_STEPS) == (64, 300)


RULES = {
    "usual": {},
    "at the size of the usual patience": {"_PATIENT": 12},
    "larger": {"_PATIENT": 11},
    "steps run out": {"_MOST_STEPS": 60},
    "steps run out at once": {"_MOST_STEPS": 1},
    "starts run out": {"_MOST_STARTS": 15},
    "more must agree": {"_AGREEING": 9},
}


@pytest.mark.parametrize("rule", RULES)
def test_patience_begins_anew_after_a_gain(monkeypatch, rule):
    """The search ends some starts after the last one that gained something."""
    whole = [search(seed) for seed in range(8)]
    for name, value in RULES[rule].items():
        monkeypatch.setattr(multi_start, name, value)
    numbers = []
    for seed, (_, everything) in enumerate(whole):
        problem, starts = search(seed)
        names = [start.name for start in starts]
        planned = sum(map(is_planned, starts))
        # Planned starts are made in any case, unless independent ones agree.
        if rule != "more must agree":
            assert planned == sum(map(is_planned, everything))
        assert names[planned:] == endless_names(len(names) - planned)
        negligible = gw.MultiStart().accepted_gap(problem)
        assert len(starts) == replayed(starts, negligible)
        # No start depends on where the search ends.
        if rule != "more must agree":
            for ours, theirs in zip(starts, everything, strict=False):
                assert (ours.name, ours.objective) == (theirs.name, theirs.objective)
        numbers.append((planned, len(starts)))
    if rule == "usual":
        check_kinds_of_ends(whole)
    if rule == "at the size of the usual patience":
        assert numbers == [
            (sum(map(is_planned, starts)), len(starts)) for _, starts in whole
        ]
    if rule == "larger":
        assert min(number - planned for planned, number in numbers) == 5
    if rule == "steps run out at once":
        assert all(planned == number for planned, number in numbers)
    if rule == "starts run out":
        assert max(number for _, number in numbers) == 15


def search(seed):
    x, y = clouds(9, 12, seed)
    return gw.GWProblem(x, y), list(gw.solve(x, y, gw.MultiStart()).starts)


def check_kinds_of_ends(whole):
    """Among the searches there are some with late gains, and some that agree."""
    gained, lengths = [], []
    for _, starts in whole:
        planned = sum(map(is_planned, starts))
        first = next(place for place, start in enumerate(starts, 1) if start.reached)
        gained.append(first > planned)
        lengths.append(len(starts) - max(first, planned))
    assert any(gained)
    assert not all(gained)
    # Where starts agree late, between both.
    assert multi_start._PATIENCE in lengths
    assert min(lengths) < multi_start._PATIENCE
    assert min(lengths) >= multi_start._PATIENCE_AGREEING


def endless_names(count):
    names = ["restart from the best"] * count
    for number, place in enumerate(range(5, count, 6), 1):
        names[place] = f"random vertex {number}"
    return names


def test_a_number_of_starts_is_made_whatever_their_steps(monkeypatch):
    x, y = clouds(9, 12, 3)
    monkeypatch.setattr(multi_start, "_MOST_STEPS", 1)
    monkeypatch.setattr(multi_start, "_MOST_STARTS", 2)
    by_itself = gw.solve(x, y, gw.MultiStart())
    assert all(map(is_planned, by_itself.starts))
    assert len(gw.solve(x, y, gw.MultiStart(starts=40)).starts) == 40
    number = len(by_itself.starts)
    same(gw.solve(x, y, gw.MultiStart(starts=number)), by_itself)


# --------------------------------------------------------------------------------
# independent starts that agree


def from_plans(monkeypatch, plans, independent=True):
    """Make the planned starts those from given plans, after the product coupling."""

    def starts(_):
        yield Candidate("product coupling", None)
        for place, plan in enumerate(plans):
            yield Candidate(f"plan {place}", gw.DensePlan(plan), independent)

    part = PARTS[0]._replace(starts=starts)
    monkeypatch.setattr(multi_start, "parts_of", lambda problem: (part,))


@pytest.mark.parametrize("independent", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_five_independent_starts_agree(monkeypatch, independent, seed):
    x, y = clouds(6, 8, seed)
    plan = gw.solve(x, y, gw.MultiStart()).plan.dense()
    from_plans(monkeypatch, [plan] * 9, independent)
    starts = gw.solve(x, y, gw.MultiStart()).starts
    names = [start.name for start in starts]
    # Where nothing better is found, all starts at that plan are the best.
    assert all(start.reached for start in starts if start.name.startswith("plan"))
    # The first of equal ones wins.
    assert starts.best.name in ("product coupling", "plan 0")
    planned = names.index("restart from the best")
    if independent:
        # The other planned ones are skipped, and the patience is less.
        assert planned == (5 if starts[0].reached else 6)
        assert len(names) == planned + 10
    else:
        assert planned == 10
        assert len(names) == planned + 20


# --------------------------------------------------------------------------------
# starts that are given up


def step(objective, iteration=1):
    return gw.Progress(
        iteration=iteration,
        objective=objective,
        frank_wolfe_gap=1.0,
    )


def given_up_at(objectives, least=1.0, most=math.inf):
    """The step at which a start of such objectives is given up; None for never."""
    limit = _Limit(None, least, most)
    for number, objective in enumerate(objectives, 1):
        if limit(step(objective)):
            assert limit.has_given_up
            return number
        assert not limit.has_given_up
    return None


def test_starts_are_given_up_after_eight_steps_at_rest():
    assert given_up_at([2.0] * 8) is None
    assert given_up_at([2.0] * 30) == 9
    # At the best objective, or below it, never.
    assert given_up_at([1.0] * 30) is None
    assert given_up_at([0.5] * 30) is None
    assert given_up_at([2.0] * 7 + [1.0] * 30) is None


@pytest.mark.parametrize(("pace", "number"), [(0.051, None), (0.049, 9)])
def test_twenty_further_steps_at_the_pace_of_the_last_four_decide(pace, number):
    """At the ninth step the objective is 2, which is 1 above the best."""
    before = [2.0 + pace * k for k in range(8, 0, -1)]
    assert given_up_at([*before, 2.0]) == number
    # The pace of the last four, not of those before them.
    early = [5.0, 4.5, 4.0, 3.5]
    assert given_up_at([*early, *before[-4:], 2.0]) == number
    assert given_up_at([*early, 2.0, 2.0, 2.0, 2.0, 2.0]) == 9


def test_starts_of_large_problems_have_a_share_of_steps():
    falling = [1000.0 - 40.0 * k for k in range(24)]
    assert given_up_at(falling, 1.0) is None
    assert given_up_at(falling, 1.0, most=12.5) == 13
    assert given_up_at(falling, 1.0, most=3) == 4
    assert given_up_at(falling, 990.0, most=3) is None


def test_callers_are_asked_at_the_step_of_giving_up_too():
    told = []
    limit = _Limit(told.append, 1.0, math.inf)
    answers = [limit(step(2.0, number)) for number in range(1, 10)]
    assert answers == [None] * 8 + [True]
    assert [progress.iteration for progress in told] == list(range(1, 10))
    # What the caller answers is passed on, and is no giving up.
    limit = _Limit(lambda _: True, 1.0, math.inf)
    assert limit(step(2.0)) is True
    assert not limit.has_given_up


def test_given_up_starts_do_not_stop_a_search(monkeypatch):
    limits = []

    def noted(*arguments):
        limits.append(_Limit(*arguments))
        return limits[-1]

    monkeypatch.setattr(multi_start, "_Limit", noted)
    monkeypatch.setattr(multi_start, "_FEWEST_STEPS", 4)
    given_up = []
    for seed in range(4):
        limits.clear()
        x, y = clouds(20, 25, seed)
        result = gw.solve(x, y, gw.MultiStart(starts=15))
        assert len(result.starts) == 15
        assert result.status is gw.Status.STATIONARY
        # The first start has no limit.
        for limit, start in zip(limits, list(result.starts)[1:], strict=True):
            given_up.append(limit.has_given_up)
            if limit.has_given_up:
                assert start.iterations == len(limit.objectives) > 4
                assert not start.won
                assert start.objective > result.starts.best.objective
        least = np.minimum.accumulate([start.objective for start in result.starts])
        ratios = [limit.least for limit in limits] / least[:-1]
        # In one unit of their own.
        np.testing.assert_allclose(ratios, ratios[0], rtol=1e-9)
    assert any(given_up)
    assert not all(given_up)
