"""Parts of a batch side by side.

NumPy's functions run outside Python's lock, but on one processor: batches of NumPy arrays are computed part by part on threads.
The other libraries spread their work themselves.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from gwtools import _array
from gwtools._array import Array

VARIABLE = "GWTOOLS_NUM_THREADS"
_WORTH_A_THREAD = 2**15
T = TypeVar("T")
R = TypeVar("R")


def each(run: Callable[[T], R], parts: Sequence[T], like: Array, entries: float) -> list[R]:
    """Run a function for every part, side by side where that is worth it; results are in the order of the parts.

    Parameters
    ----------
    run : callable
        Must not warn, as filters of warnings are shared by all threads.
    parts : sequence
        What it is called with.
    like : array
        Of the library that it computes with.
    entries : float
        How many entries the matrices of a part have, on average: many short calls would wait for Python's lock.
    """
    worth_it = entries >= _WORTH_A_THREAD and _array.library(like) == "numpy"
    count = min(len(parts), processors()) if worth_it else 1
    if count < 2:
        return [run(part) for part in parts]
    # Threads see what the caller set for itself, such as NumPy's handling of floating-point errors.
    context = copy_context()
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda part: context.copy().run(run, part), parts))


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
