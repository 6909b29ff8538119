"""Work in several processes, whose results arrive as they are finished."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def _deaf() -> None:
    """Leave an interrupt to the process that gathers the results."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def results(
    function: Callable[[Item], Result], items: Sequence[Item], jobs: int
) -> Iterator[Result]:
    """Yield what a function of a module returns for each item, in any order.

    One job needs no process beside this one.
    """
    if jobs == 1 or not items:
        yield from map(function, items)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, _deaf) as pool:
        yield from pool.imap_unordered(function, items)
