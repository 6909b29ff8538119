"""The search for multipliers: steps, where it runs, and what it returns."""

import math

import numpy as np
import pytest
from hypothesis import given, settings

from gwtools._compiled import compilation
from gwtools.bounds import level_one, nested_programs
from gwtools.bounds.distributions import third_costs
from gwtools.bounds.level_one import Search, best_multipliers, bound_of
from gwtools.transport.local_distributions import Centred, centred
from gwtools.transport.programs import exact
from tests import checkers
from tests.bounds.formulas import NAMES, pair
from tests.libraries import to_numpy
from tests.strategies import pairs

torch = pytest.importorskip("torch")
strict = pytest.importorskip("array_api_strict")

SINGLE = np.empty(0, np.float32)
# Where a search runs: an array of the library, or the CPU by default.
PLACES = {
    "compiled": None,
    "numpy": SINGLE,
    "torch": torch.empty(0, dtype=torch.float64),
    "strict": strict.asarray(SINGLE),
    "strict device": strict.asarray(SINGLE, device=strict.Device("device1")),
}


def parts(name):
    return [centred(space) for space in pair(name)]


def parts_of(drawn):
    mean, alpha, R = checkers.parts(drawn.matrix, drawn.weights)
    return Centred(drawn.weights, drawn.matrix, mean, alpha, R)


@pytest.fixture
def no_numba(monkeypatch):
    monkeypatch.setattr(compilation, "_numba", lambda: None)


def iterate(search):
    """The iterate of a search, in NumPy."""
    return to_numpy(search.iterate())


def projector(x, y):
    """Onto the span V of all π_ij / √(a_i b_j), and its one vector with mass."""
    root_a, root_b = np.sqrt(x.weights), np.sqrt(y.weights)
    of_x = np.eye(len(root_a)) - np.outer(root_a, root_a)
    of_y = np.eye(len(root_b)) - np.outer(root_b, root_b)
    q = np.kron(root_a, root_b)
    return np.kron(of_x, of_y) + np.outer(q, q), q


def plain_steps(x, y, penalty, count):
    """Douglas-Rachford splitting of the linear program, by its definition."""
    n, m = len(x.weights), len(y.weights)
    P, q = projector(x, y)
    costs = (x.matrix[:, None, :, None] - y.matrix[None, :, None, :]) ** 2
    moved = P @ (costs.reshape(n * m, n * m) * np.outer(q, q)) @ P
    moved -= (q @ moved @ q) * np.outer(q, q)
    w = np.outer(q, q)
    for _ in range(count):
        z = 2 * np.maximum(w, 0) - w - moved / penalty
        inside = P @ z @ P
        inside += (1 - q @ inside @ q) * np.outer(q, q)
        w = w + 1.8 * (inside - np.maximum(w, 0))
    return w.reshape(n, m, n, m)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", NAMES)
def test_steps_are_those_of_the_splitting(name, place):
    x, y = parts(name)
    search = Search(x, y, PLACES[place])
    for _ in range(20):
        search.step()
    wanted = plain_steps(x, y, search.penalty, 20)
    assert abs(wanted).max() > 0.1
    np.testing.assert_allclose(iterate(search), wanted, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("without", [False, True])
def test_steps_agree_to_the_last_digits_in_double_precision(
    monkeypatch, request, name, without
):
    """What separates the iterates with numba from those without is single precision."""
    if without:
        request.getfixturevalue("no_numba")
    monkeypatch.setattr(level_one, "in_single_precision", lambda array, like: array)
    x, y = parts(name)
    search = Search(x, y)
    for _ in range(20):
        search.step()
    wanted = plain_steps(x, y, search.penalty, 20)
    assert iterate(search).dtype == np.float64
    np.testing.assert_allclose(iterate(search), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("block", [1, 2 * 9 * 6 * 9, 2**18])
def test_steps_without_numba_go_block_by_block(no_numba, monkeypatch, block):
    monkeypatch.setattr(level_one, "_BLOCK", block)
    x, y = parts("dense")
    search = Search(x, y)
    rows = [len(w) for w in search._w]
    assert rows == {1: [1] * 6, 2**18: [6]}.get(block, [2, 2, 2])
    for _ in range(20):
        search.step()
    wanted = plain_steps(x, y, search.penalty, 20)
    np.testing.assert_allclose(iterate(search), wanted, rtol=0, atol=2e-5)


@pytest.mark.parametrize("place", PLACES)
def test_arrays_stay_on_their_device_and_multipliers_come_back(place):
    x, y = parts("dense")
    search = Search(x, y, PLACES[place])
    search.step()
    if place.startswith("strict"):
        assert {w.device for w in search._w} == {PLACES[place].device}
    for array in search.multipliers()[:3]:
        assert isinstance(array, np.ndarray)
        assert array.dtype == np.float64


@pytest.mark.parametrize("name", NAMES)
def test_multipliers_are_centred_and_reduce_costs(name):
    x, y = parts(name)
    a, b = x.weights, y.weights
    search = Search(x, y)
    for _ in range(60):
        search.step()
    found = search.multipliers()
    size = abs(found.first).max() + abs(found.second).max()
    assert size > 0.1 * search.penalty
    for missed in (np.tensordot(b, found.first, 1), np.tensordot(a, found.second, 1)):
        assert abs(missed).max() <= 1e-4 * size
    # Their own potentials prove nearly what exact inner programs do.
    own = bound_of(x, y, 0.0, found, refine=False).lower
    refined = bound_of(x, y, 0.0, found).lower
    assert own <= refined <= own + 0.05 * abs(refined)


@pytest.mark.parametrize("name", NAMES)
def test_a_search_beats_the_third_bound_and_meets_small_optima(name):
    x, y = parts(name)
    start = bound_of(x, y, 0.0, level_one.residual_third_multipliers(x, y)).value
    few = bound_of(x, y, 0.0, best_multipliers(x, y, 0.0, 10)).value
    many = bound_of(x, y, 0.0, best_multipliers(x, y, 0.0, 300)).value
    assert start < many
    assert few < many


@settings(max_examples=60)
@given(pairs())
def test_multipliers_of_the_third_bound_are_worth_it(pair):
    x, y = map(parts_of, pair)
    found = level_one.residual_third_multipliers(x, y)
    _, costs = third_costs(x, y, residual=True)
    wanted = exact(costs, x.weights, y.weights).lower
    largest = max(abs(x.matrix).max(), abs(y.matrix).max()) ** 2
    value = bound_of(x, y, 0.0, found).value
    assert value == pytest.approx(wanted, rel=1e-10, abs=1e-12 * largest + 1e-200)


def test_steps_are_counted(monkeypatch):
    x, y = parts("dense")
    steps, looks = counted(monkeypatch)
    best_multipliers(x, y, 0.0, 7)
    assert (len(steps), len(looks)) == (7, 1)


def counted(monkeypatch):
    """Lists that grow by each step and by each look at a value."""
    steps, looks = [], []
    step, look = Search.step, level_one.bound_of

    def stepping(search):
        steps.append(step(search))

    def looking(*arguments, **options):
        looks.append(look(*arguments, **options))
        return looks[-1]

    monkeypatch.setattr(Search, "step", stepping)
    monkeypatch.setattr(level_one, "bound_of", looking)
    return steps, looks


def test_a_value_that_is_enough_ends_the_search(monkeypatch):
    x, y = parts("dense")
    steps, looks = counted(monkeypatch)
    found = best_multipliers(x, y, 0.0, 300, enough=1e-9)
    assert (len(steps), len(looks)) == (50, 1)
    assert bound_of(x, y, 0.0, found).lower > 1e-9


def test_a_search_ends_where_it_gains_nothing(monkeypatch):
    x, y = parts("dense")
    steps, looks = counted(monkeypatch)
    best_multipliers(x, y, 0.0, 10**6)
    values = [bound.lower for bound in looks]
    # Looks are 50 steps apart at first, later half as many as there were.
    wanted = 50
    for _ in looks[1:]:
        wanted = max(wanted + 50, wanted + wanted // 2)
    assert len(steps) == wanted < 10**5
    last, before = values[-1], max(values[:-1])
    assert last - before < 1e-5 * abs(last)


def test_the_best_of_all_looks_is_returned(monkeypatch):
    x, y = parts("dense")
    kept = []
    values = iter([0.1, 0.3, 0.2])

    def looking(*arguments, **options):
        kept.append(arguments[3])
        found = nested_programs.solve(
            nested_programs.NestedProgram(x, y, 0.0, arguments[3]), False
        )
        return type(found)(
            found.value, next(values), found.potentials, found.outer, found.inner
        )

    monkeypatch.setattr(level_one, "bound_of", looking)
    assert best_multipliers(x, y, 0.0, 300) is kept[1]
    assert len(kept) == 3


def test_the_clock_is_looked_at(monkeypatch):
    x, y = parts("dense")
    steps, looks = counted(monkeypatch)
    ticks = iter(range(100))
    monkeypatch.setattr(level_one, "now", lambda: float(next(ticks)))
    best_multipliers(x, y, 0.0, 300, deadline=6.5)
    # The step after the deadline is the last, and what it found is looked at.
    assert (len(steps), len(looks)) == (8, 1)


def test_an_interrupt_keeps_what_was_found(monkeypatch):
    x, y = parts("dense")
    step = Search.step
    done = []

    def interrupted(search):
        done.append(step(search))
        if len(done) == 70:
            raise KeyboardInterrupt

    found = best_multipliers(x, y, 0.0, 50)
    monkeypatch.setattr(Search, "step", interrupted)
    kept = best_multipliers(x, y, 0.0, 300)
    for array, wanted in zip(kept[:3], found[:3], strict=True):
        assert np.array_equal(array, wanted)
    # Before anything was found the third bound is left.
    del done[:]
    monkeypatch.setattr(level_one, "_CHECKPOINT", 80)
    kept = best_multipliers(x, y, 0.0, 300)
    third = level_one.residual_third_multipliers(x, y)
    assert np.array_equal(kept.first, third.first)


@pytest.mark.parametrize("weight", [1e-290, 1e-200, 1e-100, 1e-20])
def test_tiny_weights_leave_a_bound(weight):
    x, y = parts("dense")
    a = x.weights.copy()
    a[0] = weight
    a /= a.sum()
    mean, alpha, R = checkers.parts(x.matrix, a)
    x = Centred(a, x.matrix, mean, alpha, R)
    found = best_multipliers(x, y, 0.0, 100)
    assert nested_programs.in_range(found)
    value = bound_of(x, y, 0.0, found).value
    plan = np.outer(a, y.weights)
    upper = checkers.objective(x.matrix, y.matrix, plan) - (mean - y.mean) ** 2
    assert -math.inf < value <= upper


@pytest.mark.parametrize("factors", [(1e50, 1e-50), (1e-60, 1e60), (1e60, 1e60)])
def test_spaces_of_sizes_far_apart(factors):
    x, y = (
        Centred(*(array * (1 if k == 0 else f) for k, array in enumerate(p)))
        for p, f in zip(parts("dense"), factors, strict=True)
    )
    scaled, usual = Search(x, y), Search(*parts("dense"))
    for _ in range(20):
        scaled.step()
        usual.step()
    # The splitting knows no units.
    np.testing.assert_allclose(iterate(scaled), iterate(usual), rtol=0, atol=2e-5)


def test_spaces_without_residuals():
    """Where all values are equal there is nothing to search for."""
    a = np.array([0.25, 0.75])
    constant = Centred(a, np.ones((2, 2)), 1.0, np.zeros(2), np.zeros((2, 2)))
    found = best_multipliers(constant, constant, 0.0, 60)
    assert bound_of(constant, constant, 0.0, found).value == pytest.approx(0, abs=1e-6)
