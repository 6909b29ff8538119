"""Parts of a batch on threads: the same numbers, in the same order.

Each is computed with the caller's settings.
"""

import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest

import gwtools as gw
from gwtools.batch import threads
from tests import checkers

NUMPY = np.zeros(1)
MANY = 10**6
PATIENCE = (
    600.0  # seconds: ends a test that hangs, and is far more than any machine needs
)


@pytest.fixture(params=[1, 3])
def count(request, monkeypatch):
    monkeypatch.setenv("GWTOOLS_NUM_THREADS", str(request.param))
    return request.param


def spaces(sizes, seed):
    rng = np.random.default_rng(seed)
    found = []
    for n in sizes:
        weights = rng.random(n) + 0.1
        found.append(
            gw.DenseSpace(
                checkers.euclidean(rng.standard_normal((n, 2))), weights / weights.sum()
            )
        )
    return found


@pytest.mark.parametrize("solver", [gw.Sorted(kind="spectral"), gw.Sinkhorn()], ids=str)
def test_threads_change_no_digit(solver, monkeypatch):
    monkeypatch.setattr("gwtools.batch.threads._WORTH_A_THREAD", 0)
    xs, ys = spaces([3, 20, 5, 12, 3, 33], 0), spaces([4, 21, 9, 5, 31, 6], 1)
    numbers = []
    for count in ("1", "3"):
        monkeypatch.setenv("GWTOOLS_NUM_THREADS", count)
        found = gw.solve_batch(xs, ys, solver)
        numbers.append(
            [(float(r.objective), float(r.estimate), r.certificate) for r in found]
        )
        numbers[-1].append(gw.batch.spectral(xs, ys).tolist())
    assert numbers[0] == numbers[1]


def test_parts_run_side_by_side(monkeypatch):
    monkeypatch.setenv("GWTOOLS_NUM_THREADS", "2")
    meeting = threading.Barrier(2, timeout=PATIENCE)
    assert sorted(threads.each(lambda _: meeting.wait(), [0, 1], NUMPY, MANY)) == [0, 1]


def test_calls_are_made_while_the_caller_goes_on(monkeypatch):
    monkeypatch.setenv("GWTOOLS_NUM_THREADS", "2")
    begun, known = threading.Event(), threading.Event()

    def wait():
        begun.set()
        return known.wait(PATIENCE)

    with threads.Background(NUMPY) as background:
        background.add(wait, MANY)
        assert begun.wait(PATIENCE)
        known.set()
        assert background.finish() == [True]


@pytest.fixture
def busy(monkeypatch):
    """Calls for one other thread, which the first of them holds until it is let go."""
    monkeypatch.setenv("GWTOOLS_NUM_THREADS", "2")
    begun, free = threading.Event(), threading.Event()

    def first():
        begun.set()
        free.wait(PATIENCE)

    background = threads.Background(NUMPY)
    background.add(first, MANY)
    assert begun.wait(PATIENCE)
    yield background, free
    free.set()


@pytest.mark.parametrize("fails", [False, True])
def test_calls_that_are_not_begun_are_dropped_with_their_context(
    fails, busy, monkeypatch
):
    (background, free), made, shutdown = busy, [], ThreadPoolExecutor.shutdown

    def dropped(pool, wait=True, *, cancel_futures=False):
        shutdown(pool, wait=False, cancel_futures=cancel_futures)
        free.set()
        shutdown(pool, wait)

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", dropped)
    with pytest.raises(KeyError) if fails else nullcontext(), background:
        for i in range(5):
            background.add(partial(made.append, i), MANY)
        if fails:
            raise KeyError
    assert made == []


def test_the_caller_makes_short_calls_and_those_that_would_wait_with_too_much(
    busy, monkeypatch
):
    monkeypatch.setattr(threads, "_WAITING_ENTRIES", 1.5 * MANY)
    (background, free), made = busy, []
    with background:
        for i in range(4):
            background.add(partial(made.append, i), MANY)
        background.add(partial(made.append, 4), 1)
        assert made == [2, 3, 4]
        free.set()
        background.finish()
        assert sorted(made) == [0, 1, 2, 3, 4]
        background.add(partial(made.append, 5), MANY)
        background.finish()
    assert sorted(made) == [0, 1, 2, 3, 4, 5]


def test_calls_let_go_of_what_they_were_made_with(count):
    array = np.zeros(5)
    kept = weakref.ref(array)
    with threads.Background(NUMPY) as background:
        background.add(array.sum, MANY)
        del array
        assert background.finish() == [0.0]
        assert kept() is None


def test_short_work_stays_on_one_thread(monkeypatch):
    monkeypatch.setenv("GWTOOLS_NUM_THREADS", "2")
    here = threading.get_ident()
    assert set(threads.each(lambda _: threading.get_ident(), [0, 1], NUMPY, 100)) == {
        here
    }


def test_results_are_in_order_and_errors_reach_the_caller(count):
    assert threads.each(lambda i: i * i, range(20), NUMPY, MANY) == [
        i * i for i in range(20)
    ]
    assert threads.each(lambda i: i, [], NUMPY, MANY) == []
    with pytest.raises(KeyError, match="2"):
        threads.each({0: 0, 1: 1}.__getitem__, range(9), NUMPY, MANY)


def test_threads_handle_floating_point_errors_as_the_caller_does(count):
    def invert(value):
        return 1.0 / np.full(2, value)

    with np.errstate(divide="ignore"):
        assert np.isinf(threads.each(invert, [0.0, 0.0], NUMPY, MANY)).all()
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        threads.each(invert, [0.0, 0.0], NUMPY, MANY)


def test_other_libraries_stay_on_one_thread(monkeypatch):
    strict = pytest.importorskip("array_api_strict")
    monkeypatch.setenv("GWTOOLS_NUM_THREADS", "2")
    here = threading.get_ident()
    assert set(
        threads.each(lambda _: threading.get_ident(), [0, 1], strict.zeros(1), MANY)
    ) == {here}


def test_number_of_threads(monkeypatch):
    monkeypatch.delenv("GWTOOLS_NUM_THREADS", raising=False)
    assert threads.processors() >= 1
    for wrong in ("0", "-1", "two", "1.5"):
        monkeypatch.setenv("GWTOOLS_NUM_THREADS", wrong)
        with pytest.raises(
            ValueError, match="GWTOOLS_NUM_THREADS must be a whole number"
        ):
            threads.processors()
        for solver in (gw.Sorted(), gw.Sinkhorn()):
            with pytest.raises(
                ValueError, match="GWTOOLS_NUM_THREADS must be a whole number"
            ):
                gw.solve_batch(spaces([3], 0), spaces([4], 1), solver)
