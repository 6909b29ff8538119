"""Work in processes of their own, and the memory that a process needs.

Results of several processes arrive as they are finished.
"""

from __future__ import annotations

import multiprocessing
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
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


def alone(function: Callable[[Item], Result], item: Item, module: str) -> Result:
    """Return what a function of a module returns, in a process that does nothing else.

    The module is imported once, in a process from which all these are forked, and in
    which nothing is computed. A process that is killed raises here.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([module])
    with ProcessPoolExecutor(1, context, _deaf) as pool:
        return pool.submit(function, item).result()


def peak_bytes(reset: bool = False) -> int | None:
    """Return the most memory that this process held since the last reset.

    With ``reset`` it begins again, and what is returned is in use now. None where the
    system does not tell.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
    return None if found is None else int(found[1]) * 1024
