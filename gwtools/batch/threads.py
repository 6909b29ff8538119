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

from gwtools import _array
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
    entries : float
        How many entries their matrices have, on average: many short calls would wait for Python's lock.
    """

    def __init__(self, like: Array, entries: float) -> None:
        others = processors() - 1
        if entries < _WORTH_A_THREAD or _array.library(like) != "numpy":
            others = 0
        self._pool = ThreadPoolExecutor(others) if others else None
        # What a call is made with stays in memory as long as it waits.
        self._most = max(others, int(_WAITING_ENTRIES / max(entries, 1.0)))
        # Threads see what the caller set for itself, such as NumPy's handling of floating-point errors.
        self._context = copy_context()
        self._calls: list[_Call[R]] = []
        self._waiting: deque[_Call[R]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def add(self, run: Callable[[], R]) -> None:
        """Have a call made, by this thread where enough of them wait; it must not warn, as all threads share the filters."""
        call = _Call(run)
        self._calls.append(call)
        while self._waiting and self._waiting[0].is_begun():
            self._waiting.popleft()
        if self._pool is None or len(self._waiting) >= self._most:
            call.make()
        else:
            call.submit(self._pool, self._context.copy())
            self._waiting.append(call)

    def finish(self) -> list[R]:
        """Make the calls that are not begun, the last one first, and return all results in order."""
        return [call.result() for call in reversed(self._calls)][::-1]


class _Call(Generic[R]):
    """One call, made once; what it was made with is let go of then."""

    def __init__(self, run: Callable[[], R]) -> None:
        self._run: Callable[[], R] | None = run
        self._future: Future[R] = Future()

    def submit(self, pool: ThreadPoolExecutor, context: Context) -> None:
        self._future = pool.submit(context.run, self._made)

    def make(self) -> None:
        self._future = Future()
        self._future.set_result(self._made())

    def is_begun(self) -> bool:
        return self._future.running() or self._future.done()

    def result(self) -> R:
        if self._future.cancel():
            self.make()
        return self._future.result()

    def _made(self) -> R:
        run, self._run = cast(Callable[[], R], self._run), None
        return run()


def each(run: Callable[[T], R], parts: Sequence[T], like: Array, entries: float) -> list[R]:
    """Run a function for every part, as :class:`Ahead` does; results are in the order of the parts."""
    with Ahead[R](like, entries) as ahead:
        for part in parts:
            ahead.add(partial(run, part))
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
    if not wanted.isdecimal() or int(wanted) < 1:
        raise ValueError(
            f"{VARIABLE} must be a whole number of at least 1, but is {wanted!r}: set it so, or not at all."
        )
    return int(wanted)
