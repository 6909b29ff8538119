"""The server that tests mutants: a child for each, several at once."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import gc
import importlib
import importlib.metadata
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.mutation.children import FOUND, LOG, Selected, tested
from tests.mutation.mutants import Mutant


class Outcome(NamedTuple):
    """What came of the tests of a mutant."""

    # "killed", "killed (timeout)", "killed (crash)", "survived" or "error"
    verdict: str
    seconds: float
    killer: str = ""  # the first test that failed
    durations: Mapping[str, float] = {}
    log: str = ""


@dataclasses.dataclass
class Child:
    """A process that tests one mutant."""

    pid: int
    folder: Path
    started: float
    mutant: Mutant | None


class Server:
    """Forks a child for each mutant.

    It has imported everything but the package and its tests.

    Parameters
    ----------
    root : Path
        The folder above the package and the tests.
    jobs : int
        How many children run at once.
    preload : sequence of str
        Modules that are imported first, where they exist.
    """

    def __init__(self, root: Path, jobs: int, preload: Sequence[str]):
        self.root = root
        self.jobs = jobs
        self.durations: dict[str, float] = {}
        self.kills: collections.Counter[str] = collections.Counter()
        for name in preload:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        for plugin in importlib.metadata.entry_points(group="pytest11"):
            plugin.load()
        gc.freeze()

    def cost(self, test: str) -> float:
        """Seconds per mutant that a test may be expected to kill."""
        return (self.durations.get(test, 0.0) + 0.01) / (self.kills[test] + 1)

    def run(
        self, queue: Sequence[tuple[Mutant | None, Sequence[str]]], limit: float
    ) -> Iterator[tuple[Mutant | None, Outcome]]:
        """Test mutants, or the modules as they are where there is none.

        Parameters
        ----------
        queue : sequence of (Mutant or None, sequence of str)
            Mutants, each with the tests that matter.
        limit : float
            Seconds after which a child is killed.

        Yields
        ------
        (Mutant or None, Outcome)
            As they end.
        """
        waiting = list(reversed(queue))
        running: list[Child] = []
        try:
            while waiting or running:
                while waiting and len(running) < self.jobs:
                    mutant, tests = waiting.pop()
                    running.append(self._start(mutant, tests))
                for child in list(running):
                    outcome = self._ended(child, limit)
                    if outcome is not None:
                        running.remove(child)
                        self.kills[outcome.killer] += 1
                        yield child.mutant, outcome
                time.sleep(0.01)
        finally:
            for child in running:
                _kill(child)
                os.waitpid(child.pid, 0)
                shutil.rmtree(child.folder)

    def _start(self, mutant: Mutant | None, tests: Sequence[str]) -> Child:
        folder = Path(tempfile.mkdtemp(prefix="mutant-"))
        # What is buffered would be printed by both processes.
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            code = 3
            try:
                selected = Selected(tests, self.cost)
                code = tested(mutant, selected, self.root, folder)
            finally:
                os._exit(code)
        return Child(pid, folder, time.monotonic(), mutant)

    def _ended(self, child: Child, limit: float) -> Outcome | None:
        """Return what came of a child that has ended, or whose time is over."""
        late = time.monotonic() - child.started > limit
        if late:
            _kill(child)
        pid, status = os.waitpid(child.pid, 0 if late else os.WNOHANG)
        if not pid:
            return None
        return _outcome(child, os.waitstatus_to_exitcode(status), late)


def _kill(child: Child) -> None:
    """Kill a child and, once it leads a group, its own children as well."""
    for end in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            end(child.pid, signal.SIGKILL)


def _outcome(child: Child, code: int, late: bool) -> Outcome:
    """Read what a child found, and remove its folder."""
    seconds = time.monotonic() - child.started
    found: dict[str, Any] = {}
    file = child.folder / FOUND
    if file.exists() and not late:
        found = json.loads(file.read_text(encoding="utf-8"))
    text = ""
    log = child.folder / LOG
    if log.exists():
        text = log.read_text(encoding="utf-8", errors="replace")
    shutil.rmtree(child.folder)
    return Outcome(
        verdict=_verdict(code, late, found),
        seconds=seconds,
        killer=found.get("killer", ""),
        durations=found.get("durations", {}),
        log=text,
    )


def _verdict(code: int, late: bool, found: Mapping[str, Any]) -> str:
    if late:
        return "killed (timeout)"
    if code < 0:  # it was ended by a signal
        return "killed (crash)"
    if not found:
        return "error"
    if code in (1, 2):  # tests that failed, or could not be imported
        return "killed"
    if code == 0 and not found["unused"]:
        return "survived"
    return "error"
