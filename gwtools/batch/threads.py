"""Parts of a batch side by side.

NumPy's functions run outside Python's lock, but on one processor: batches of NumPy
arrays are computed part by part on threads, of which the caller's is one. The other
libraries spread their work themselves.
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
_WORTH_A_THREAD, _WAITING_ENTRIES = 2**15, 2**24
T = TypeVar("T")
R = TypeVar("R")


class Background(Generic[R]):
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
        # Threads see what the caller set for itself, such as NumPy's handling of
        # floating-point errors.
        self._context = copy_context()
        self._not_begun: dict[
            int, tuple[Callable[[], R], float]
        ] = {}  # calls and their entries, by position
        self._results: list[Future[R]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def add(self, call: Callable[[], R], entries: float) -> None:
        """Have a call made; it must not warn, as all threads share the filters.

        ``entries`` is how many entries its matrices have: short calls would wait for
        Python's lock, and what a call is made with stays in memory as long as it waits.
        So this thread makes short ones, and others where enough wait.
        """
        waiting = sum(others for _, others in list(self._not_begun.values()))
        position = len(self._results)
        self._results.append(Future())
        self._not_begun[position] = call, entries
        if (
            self._pool is None
            or entries < _WORTH_A_THREAD
            or waiting > _WAITING_ENTRIES
        ):
            self._make(position)
        else:
            self._pool.submit(self._context.copy().run, self._make, position)

    def add_eigenvalues(self: Background[Array], matrices: Array) -> None:
        """Have the eigenvalues of symmetric matrices (g, k, k) computed."""
        self.add(partial(_array.eigenvalues, matrices), math.prod(matrices.shape))

    def finish(self) -> list[R]:
        """Make the calls that are not begun, the last one first, and return all results in order.

        Raises
        ------
        Exception
            That of the first call that failed.
        """
        for position in reversed(range(len(self._results))):
            self._make(position)
        return [result.result() for result in self._results]

    def _make(self, position: int) -> None:
        """Make a call unless another thread has begun it."""
        call, _ = self._not_begun.pop(position, (None, 0.0))
        if call is None:
            return
        try:
            value = call()
        except Exception as error:
            self._results[position].set_exception(error)
        else:
            del call  # what it was made with is let go of before anybody has the result
            self._results[position].set_result(value)


def each(
    run: Callable[[T], R], parts: Sequence[T], like: Array, entries: float
) -> list[R]:
    """Run a function for every part, each of so many ``entries``, and return the results in order."""
    with Background[R](like) as background:
        for part in parts:
            background.add(partial(run, part), entries)
        return background.finish()


def processors() -> int:
    """Return how many threads to use: GWTOOLS_NUM_THREADS if set, else the processors that this process may run on.

    Raises
    ------
    ValueError
        Unless GWTOOLS_NUM_THREADS is a whole number of at least 1.
    """
    wanted = os.environ.get(VARIABLE, "")
    if not wanted:
        return (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1
        )
    _check.count_in_environment(wanted, VARIABLE)
    return int(wanted)
