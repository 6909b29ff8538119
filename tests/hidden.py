"""Python as it is where packages are not installed, in a process of its own."""

import functools
import os
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parent.parent
CORE = {
    "numpy",
    "scipy",
    "ot",
    "array_api_compat",
    "array_api_extra",
}  # what `pip install .` brings
_VARIABLE = "TESTS_HIDDEN_PACKAGES"


class _Hiding:
    """Finds what the other finders find, but for some packages.

    A search for these ends as where they are not installed.
    """

    def __init__(self, packages: Iterable[str]) -> None:
        self._packages, self._finders = set(packages), list(sys.meta_path)

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self._packages:
            return None
        specs = (finder.find_spec(name, path, target) for finder in self._finders)
        return next((spec for spec in specs if spec is not None), None)

    def find_distributions(self, *arguments):
        finders = [
            finder for finder in self._finders if hasattr(finder, "find_distributions")
        ]
        found = (
            each for finder in finders for each in finder.find_distributions(*arguments)
        )
        return (
            each
            for each in found
            if each.metadata["Name"].replace("-", "_") not in self._packages
        )


def hide() -> None:
    """Hide the packages that `run` was told; called when the process starts."""
    sys.meta_path[:] = [_Hiding(os.environ[_VARIABLE].split(","))]


@functools.cache
def all_but_core() -> frozenset[str]:
    """Return what is installed here beyond the core dependencies."""
    return frozenset(packages_distributions()) - CORE - {"gwtools", "fusion"}


def run(
    packages: Iterable[str], *arguments: str, folder: Path, paths: Iterable[Path] = ()
) -> subprocess.CompletedProcess:
    """Run Python without some packages.

    ``folder`` is for what makes it so, and ``paths`` go before the installed packages.
    """
    (folder / "sitecustomize.py").write_text(
        "from tests.hidden import hide\n\nhide()\n"
    )
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, [folder, *paths, ROOT])),
        _VARIABLE: ",".join(packages),
    }
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
