"""What the child of the server does: it tests one mutant with pytest."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.mutation.mutants import Mutant

MOST_MEMORY = 8 << 30  # bytes
FOUND = "found"  # the file in which a child says what it found
LOG = "log"  # and that of what it prints


class Replaced(importlib.machinery.SourceFileLoader):
    """Finds and loads one module with another source."""

    def __init__(self, name: str, path: Path, source: str):
        super().__init__(name, str(path))
        self.source = source
        self.used = False

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.path, loader=self)

    def get_code(self, fullname: str) -> Any:
        # Never that of the file, nor of a cache of it.
        self.used = True
        return compile(self.source, self.path, "exec", dont_inherit=True)


class Selected:
    """A plugin of pytest: run the tests that matter, the likeliest to fail first."""

    def __init__(self, tests: Sequence[str], cost: Callable[[str], float]):
        self.tests = tuple(tests)
        self.cost = cost
        self.durations: dict[str, float] = {}  # seconds that each test took
        self.killer = ""  # the first test that failed

    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:
        chosen = [item for item in items if item.nodeid.startswith(self.tests)]
        others = [item for item in items if item not in chosen]
        config.hook.pytest_deselected(items=others)
        items[:] = sorted(chosen, key=lambda item: self.cost(item.nodeid))

    def pytest_runtest_logreport(self, report: Any) -> None:
        earlier = self.durations.get(report.nodeid, 0.0)
        self.durations[report.nodeid] = earlier + report.duration
        self._note(report)

    def pytest_collectreport(self, report: Any) -> None:
        self._note(report)

    def _note(self, report: Any) -> None:
        if report.failed and not self.killer:
            self.killer = report.nodeid


def dotted(module: str) -> str:
    """Return the name that a file is imported by."""
    parts = Path(module).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def tested(
    mutant: Mutant | None,
    selected: Selected,
    root: Path,
    folder: Path,
) -> int:
    """Run the tests on a mutant, or on the modules as they are.

    Parameters
    ----------
    mutant : Mutant or None
        The change, if there is one.
    selected : Selected
        The tests that matter.
    root : Path
        The folder above the package and the tests.
    folder : Path
        Where to write the log and what was found.

    Returns
    -------
    int
        The exit code of pytest.
    """
    _keep_apart(folder / LOG)
    os.chdir(root)
    sys.path.insert(0, str(root))
    loader = None
    if mutant is not None:
        path = root / mutant.module
        loader = Replaced(dotted(mutant.module), path, mutant.source)
        assert loader.name not in sys.modules
        sys.meta_path.insert(0, loader)
    code = _run(selected, root)
    found = {
        "killer": selected.killer,
        "durations": selected.durations,
        # Tests that never import the mutant say nothing about it.
        "unused": loader is not None and not loader.used,
    }
    (folder / FOUND).write_text(json.dumps(found), encoding="utf-8")
    sys.stdout.flush()
    return code


def _keep_apart(log: Path) -> None:
    """Make this process one of its own, which prints into a log."""
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    stream = os.open(log, os.O_WRONLY | os.O_CREAT, 0o600)
    for standard in (1, 2):
        os.dup2(stream, standard)
    # A condition that is turned round may well ask for all the memory there is.
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))


def _run(selected: Selected, root: Path) -> int:
    """Run pytest on the files of the tests that are selected; return its exit code."""
    files = dict.fromkeys([test.partition("::")[0] for test in selected.tests])
    existing = [file for file in files if Path(file).exists()]
    quiet = ["-x", "-q", "-n0", "--tb=short", "-p", "no:cacheprovider"]
    quiet += [f"--rootdir={root}"]
    # What was imported first has no assertions to rewrite.
    quiet += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    return int(pytest.main([*quiet, *existing], plugins=[selected]))
