"""Threads for the parts of a batch of NumPy arrays.

NumPy's functions run outside Python's lock, but on one processor: a batch is computed
part by part on several threads, the caller's among them. The other libraries spread
their work themselves.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Generic, Self, TypeVar

from gwtools import _array, _check
from gwtools._array import Array

VARIABLE = "GWTOOLS_NUM_THREADS"

# Calls on fewer entries are made by the caller: they would wait for Python's lock.
_WORTH_A_THREAD = 2**15
# Entries of waiting calls above which the caller makes the next one itself.
_WAITING_ENTRIES = 2**24

T = TypeVar("T")
R = TypeVar("R")


class Background(Generic[R]):
    """Calls that other threads make while this one goes on.

    A call is made at once where a thread is not worth it. As a context: calls that are
    not begun when it is left are dropped.

    Parameters
    ----------
    like : array
        Of the library that the calls compute with.
    """

    def __init__(self, like: Array) -> None:
        others = 0
        if _array.library(like) == "numpy":
            others = processors() - 1
        self._pool = ThreadPoolExecutor(others) if others else None
        # Threads see what the caller set for itself, such as NumPy's handling of
        # floating-point errors.
        self._context = copy_context()
        # Calls and the entries of their matrices, by position among all calls.
        self._not_begun: dict[int, tuple[Callable[[], R], float]] = {}
        self._results: list[Future[R]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def add(self, call: Callable[[], R], entries: float) -> None:
        """Have a call made by another thread, or at once.

        The call must not warn, as all threads share the filters of warnings.

        Parameters
        ----------
        call : callable
            Called without arguments.
        entries : float
            How many entries its matrices have.
        """
        # A list first: other threads take calls out meanwhile.
        waiting = 0.0
        for _, entries_of_call in list(self._not_begun.values()):
            waiting += entries_of_call
        # What a call is made with stays in memory as long as it waits.
        is_full = waiting > _WAITING_ENTRIES
        is_short = entries < _WORTH_A_THREAD
        position = len(self._results)
        self._results.append(Future())
        self._not_begun[position] = (call, entries)
        if self._pool is None or is_short or is_full:
            self._make(position)
            return
        # A context can be entered by one thread at a time: each call has a copy.
        context = self._context.copy()
        self._pool.submit(context.run, self._make, position)

    def add_eigenvalues(self: Background[Array], matrices: Array) -> None:
        """Have the eigenvalues of symmetric matrices (g, k, k) computed."""
        call = partial(_array.eigenvalues, matrices)
        self.add(call, math.prod(matrices.shape))

    def finish(self) -> list[R]:
        """Return the results of all calls, in the order in which they were added.

        Calls that are not begun are made here.

        Raises
        ------
        Exception
            That of the first call that failed.
        """
        # From the last one on, as other threads take the first ones.
        for position in reversed(range(len(self._results))):
            self._make(position)
        return [result.result() for result in self._results]

    def _make(self, position: int) -> None:
        """Make a call unless another thread has begun it."""
        # ``pop`` is atomic: of two threads, one gets the call.
        call, _ = self._not_begun.pop(position, (None, 0.0))
        if call is None:
            return
        try:
            value = call()
        except Exception as error:
            self._results[position].set_exception(error)
        else:
            # Its arguments are released before anybody has the result.
            del call
            self._results[position].set_result(value)


def each(
    run: Callable[[T], R],
    parts: Sequence[T],
    like: Array,
    entries: float,
) -> list[R]:
    """Run a function for every part, and return the results in order.

    Parameters
    ----------
    run : callable
        Called with each part.
    parts : sequence
        What it is called with.
    like : array
        Of the library that the function computes with.
    entries : float
        How many entries the matrices of a part have.
    """
    with Background[R](like) as background:
        for part in parts:
            background.add(partial(run, part), entries)
        return background.finish()


def processors() -> int:
    """Return how many threads to use.

    GWTOOLS_NUM_THREADS if set, else the processors that this process may run on.

    Raises
    ------
    ValueError
        Unless GWTOOLS_NUM_THREADS is a whole number of at least 1.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted:
        _check.count_in_environment(wanted, VARIABLE)
        return int(wanted)
    # Not on every system.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
