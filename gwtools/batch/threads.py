"""Parts of a batch side by side.

NumPy's functions run outside Python's lock, but on one processor: batches of NumPy arrays are computed part by part on threads,
of which the caller's is one. The other libraries spread their work themselves.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context, copy_context
from functools import partial
from typing import Generic, Self, TypeVar, cast

from gwtools import _array, _check
from gwtools._array import Array

VARIABLE = "GWTOOLS_NUM_THREADS"
_WORTH_A_THREAD, _WAITING_ENTRIES = 2**15, 2**24
T = TypeVar("T")
R = TypeVar("R")


class Ahead(Generic[R]):
    """Calls that other threads make while this one goes on, where that is worth it; else each is made at once.

    A context: calls that are not begun when it is left are dropped.

    Parameters
    ----------
    like : array
        Of the library that the calls compute with.
    """

    def __init__(self, like: Array) -> None:
        others = processors() - 1 if _array.library(like) == "numpy" else 0
        self._pool = ThreadPoolExecutor(others) if others else None
        # Threads see what the caller set for itself, such as NumPy's handling of floating-point errors.
        self._context = copy_context()
        self._calls: list[_Call[R]] = []
        self._waiting: deque[_Call[R]] = deque()
        self._entries = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def add(self, run: Callable[[], R], entries: float) -> None:
        """Have a call made; it must not warn, as all threads share the filters.

        ``entries`` is how many entries its matrices have: short calls would wait for Python's lock, and what a call is made
        with stays in memory as long as it waits. So this thread makes short ones, and others where enough wait.
        """
        call = _Call(run, entries)
        self._calls.append(call)
        while self._waiting and self._waiting[0].is_begun():  # each turn takes one away
            self._entries -= self._waiting.popleft().entries
        if self._pool is None or entries < _WORTH_A_THREAD or self._entries > _WAITING_ENTRIES:
            call.make()
        else:
            call.submit(self._pool, self._context.copy())
            self._waiting.append(call)
            self._entries += entries

    def finish(self) -> list[R]:
        """Make the calls that are not begun, the last one first, and return all results in order.

        Raises
        ------
        Exception
            That of the first call that failed.
        """
        for call in reversed(self._calls):
            call.help()
        return [call.result() for call in self._calls]


class _Call(Generic[R]):
    """One call, made once; what it was made with is let go of then."""

    def __init__(self, run: Callable[[], R], entries: float) -> None:
        self.entries = entries
        self._run: Callable[[], R] | None = run
        self._future: Future[R] = Future()

    def submit(self, pool: ThreadPoolExecutor, context: Context) -> None:
        self._future = pool.submit(context.run, self._made)

    def make(self) -> None:
        self._future = Future()
        try:
            self._future.set_result(self._made())
        except Exception as error:
            self._future.set_exception(error)

    def is_begun(self) -> bool:
        return self._future.running() or self._future.done()

    def help(self) -> None:
        if self._future.cancel():
            self.make()

    def result(self) -> R:
        return self._future.result()

    def _made(self) -> R:
        run, self._run = cast(Callable[[], R], self._run), None
        return run()


def each(run: Callable[[T], R], parts: Sequence[T], like: Array, entries: float) -> list[R]:
    """Run a function for every part, of so many ``entries``, as :class:`Ahead` does; results are in the order of the parts."""
    with Ahead[R](like) as ahead:
        for part in parts:
            ahead.add(partial(run, part), entries)
        return ahead.finish()


def processors() -> int:
    """Return how many threads to use: GWTOOLS_NUM_THREADS if set, else the processors that this process may run on.

    Raises
    ------
    ValueError
        Unless GWTOOLS_NUM_THREADS is a whole number of at least 1.
    """
    wanted = os.environ.get(VARIABLE, "")
    if not wanted:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    _check.count_in_environment(wanted, VARIABLE)
    return int(wanted)
