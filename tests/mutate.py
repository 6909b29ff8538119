"""Mutants: the modules that round outward, changed one place at a time.

``make mutants`` makes every change that the seven rules allow, runs the tests that
matter on each, and prints those that no test notices. Survivors that are proved
harmless are listed in ``tests/survivors.toml``; any other is a gap in the tests.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from tests.mutation.mutants import Identity, Mutant, mutants
from tests.mutation.patterns import RULES
from tests.mutation.results import (
    accepted,
    fingerprint,
    key,
    recorded,
    report,
    write,
)
from tests.mutation.server import Outcome, Server

ROOT = Path(__file__).resolve().parent.parent
SURVIVORS = Path("tests/survivors.toml")
LEAST_LIMIT = 30.0  # seconds per mutant

# What is mutated, and the tests that matter of it: a file, or a file and the first
# letters of the names of tests.
_CERTIFICATES = (
    "tests/bounds/test_float_error.py",
    "tests/bounds/test_transport_error.py",
    "tests/bounds/test_outward.py",
    "tests/bounds/test_certified.py",
    "tests/bounds/test_certified_quadratic.py",
    "tests/certify/test_certificates.py",
    "tests/certify/test_certificates_efforts.py::test_closed_gaps",
    "tests/certify/test_certificates_float_error.py::test_theorem_13",
    "tests/certify/test_intervals.py",
    "tests/certify/test_matchings.py",
    "tests/certify/test_objectives.py",
    "tests/certify/test_plans.py",
    "tests/test_oracle.py",
)
_NESTED = (
    "tests/bounds/test_nested_programs.py",
    "tests/bounds/test_certified_level_one.py",
)
TESTS: Mapping[str, tuple[str, ...]] = {
    "gwtools/bounds/float_error.py": _CERTIFICATES,
    "gwtools/bounds/transport_error.py": _CERTIFICATES,
    "gwtools/bounds/outward.py": _CERTIFICATES,
    "gwtools/bounds/certified.py": _CERTIFICATES,
    "gwtools/bounds/certified_quadratic.py": _CERTIFICATES,
    "gwtools/certify/certificates.py": _CERTIFICATES,
    "gwtools/certify/intervals.py": _CERTIFICATES,
    "gwtools/certify/matchings.py": _CERTIFICATES,
    "gwtools/certify/objectives.py": _CERTIFICATES,
    "gwtools/certify/plans.py": _CERTIFICATES,
    "gwtools/bounds/nested_programs.py": _NESTED,
    "gwtools/bounds/certified_level_one.py": _NESTED,
    "gwtools/bounds/enclosures.py": (
        *_CERTIFICATES,
        "tests/batch/test_certificates.py",
    ),
    "gwtools/bounds/certified_moments.py": ("tests/bounds/test_certified_moments.py",),
    "gwtools/bounds/node_bounds.py": (
        "tests/bounds/test_node_bounds.py::test_theorem_17",
        "tests/bounds/test_node_bounds_float_error.py",
    ),
    "gwtools/batch/certificates.py": (
        "tests/batch/test_certificates.py",
        "tests/batch/test_solve.py::test_certif",
        "tests/batch/test_solve.py::test_values",
        "tests/test_oracle.py",
    ),
}

# Imported once, before the first mutant: whatever the tests import but the package and
# the tests themselves.
PRELOADED = (
    "numpy",
    "scipy.linalg",
    "scipy.optimize",
    "scipy.sparse.csgraph",
    "scipy.special",
    "ot",
    "torch",
    "array_api_compat.torch",
    "array_api_extra",
    "array_api_strict",
    "hypothesis.extra.numpy",
)


@dataclass
class Run:
    """What a run has to test, and what came of it."""

    made: list[Mutant]  # every mutant of the modules
    chosen: list[Mutant]  # those that were asked for
    matter: dict[str, tuple[str, ...]]  # the tests of each module
    keys: dict[int, str]  # what the verdict of each mutant holds for
    outcomes: dict[int, Outcome]  # by the numbers of mutants, earlier ones too
    proofs: dict[Identity, str]  # of the survivors that are accepted
    out: Path | None

    @property
    def queue(self) -> list[Mutant]:
        """Mutants without a verdict."""
        return [one for one in self.chosen if one.number not in self.outcomes]

    def write(self) -> None:
        write(self.out, self.made, self.keys, self.outcomes)

    def report(self) -> bool:
        """Print what came of the mutants that were asked for."""
        numbers = {mutant.number for mutant in self.chosen}
        found = {n: one for n, one in self.outcomes.items() if n in numbers}
        return report(self.made, found, self.proofs)


def main(
    arguments: Sequence[str] | None = None,
    root: Path = ROOT,
    tests: Mapping[str, Sequence[str]] = TESTS,
    preload: Sequence[str] = PRELOADED,
) -> int:
    """Make mutants, test them and report.

    Parameters
    ----------
    arguments : sequence of str, optional
        Of the command line.
    root : Path
        The folder above the package and the tests.
    tests : mapping of str to sequence of str
        The tests that matter of each module.
    preload : sequence of str
        Modules that every child may have imported already.

    Returns
    -------
    int
        1 if there is a survivor that is not listed, or a mutant without verdict, else
        0.
    """
    options = _options(arguments, root, tests)
    made = _made(root, options.module or tests)
    chosen = _chosen(made, options)
    if options.list:
        for mutant in chosen:
            print(mutant)
        return 0

    run = _run(made, chosen, options, root, tests)
    if run.queue:
        server = _server(root, options.jobs, preload)
        limit = _limit(server, run, options.timeout)
        if limit is None:
            return 1
        _test(server, run, limit)
    run.write()
    return 0 if run.report() else 1


def _numbers(text: str) -> set[int]:
    """Read "3,7-9"."""
    numbers: set[int] = set()
    for part in text.split(","):
        ends = part.split("-")
        numbers |= set(range(int(ends[0]), int(ends[-1]) + 1))
    return numbers


def _options(
    arguments: Sequence[str] | None, root: Path, tests: Iterable[str]
) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="mutate", description=__doc__)
    add = parser.add_argument
    # Which mutants
    modules = ", ".join(tests)
    add("--module", action="append", help=f"repeatable; default: {modules}")
    add(
        "--rule",
        type=int,
        action="append",
        choices=RULES,
        help="repeatable; default: all rules",
    )
    add(
        "--only",
        type=_numbers,
        help="numbers of the same modules' --list, such as 3,7-9",
    )
    add("--list", action="store_true", help="print the mutants and exit")
    # How they are tested
    add(
        "--jobs",
        type=int,
        default=os.cpu_count(),
        help="mutants at once (default: %(default)s)",
    )
    add(
        "--tests",
        nargs="+",
        help="files, or file::beginning-of-a-name, in place of those that matter",
    )
    add(
        "--timeout",
        type=float,
        help="seconds per mutant (default: 30, and thrice what the tests take)",
    )
    # Results
    add(
        "--out",
        type=Path,
        help="CSV of mutants with verdicts; those that it holds are not run again",
    )
    survivors = root / SURVIVORS
    add("--survivors", type=Path, default=survivors, help="TOML (default: %(default)s)")
    return parser.parse_args(arguments)


def _made(root: Path, modules: Iterable[str]) -> list[Mutant]:
    """Make the mutants of several modules, numbered throughout."""
    made: list[Mutant] = []
    for module in dict.fromkeys(modules):
        source = (root / module).read_text(encoding="utf-8")
        made += mutants(source, module, len(made) + 1)
    return made


def _chosen(made: Sequence[Mutant], options: argparse.Namespace) -> list[Mutant]:
    """Return the mutants that the command line asks for."""
    chosen = []
    for mutant in made:
        by_rule = not options.rule or mutant.rule in options.rule
        by_number = not options.only or mutant.number in options.only
        if by_rule and by_number:
            chosen.append(mutant)
    return chosen


def _run(
    made: list[Mutant],
    chosen: list[Mutant],
    options: argparse.Namespace,
    root: Path,
    tests: Mapping[str, Sequence[str]],
) -> Run:
    """Gather what a run needs to know, with the verdicts of an earlier one."""
    proofs = accepted(options.survivors)
    matter: dict[str, tuple[str, ...]] = {}
    marks: dict[str, str] = {}
    for module in dict.fromkeys([mutant.module for mutant in made]):
        matter[module] = tuple(options.tests or tests.get(module, _CERTIFICATES))
        marks[module] = fingerprint(root, module, matter[module])
    keys = {mutant.number: key(mutant, marks[mutant.module]) for mutant in made}
    earlier = recorded(options.out)
    outcomes = {n: earlier[name] for n, name in keys.items() if name in earlier}
    return Run(made, chosen, matter, keys, outcomes, proofs, options.out)


def _server(root: Path, jobs: int, preload: Sequence[str]) -> Server:
    """Return a server of a process that may fork."""

    def stopped(*_: object) -> None:
        sys.exit(128 + signal.SIGTERM)  # which ends the children too

    os.environ.setdefault("HYPOTHESIS_PROFILE", "mutants")
    signal.signal(signal.SIGTERM, stopped)
    tqdm.monitor_interval = 0  # a thread, which no fork would survive
    return Server(root, jobs, preload)


def _limit(server: Server, run: Run, timeout: float | None) -> float | None:
    """Run the tests on the modules as they are, which pass.

    How long each test takes says in which order to run them.

    Returns
    -------
    float or None
        Seconds per mutant; None if the tests fail.
    """
    limit = timeout or LEAST_LIMIT
    for tests in dict.fromkeys([run.matter[mutant.module] for mutant in run.queue]):
        ((_, plain),) = server.run([(None, tests)], math.inf)
        if plain.verdict != "survived":
            print(f"The tests fail on the modules as they are:\n{plain.log}")
            return None
        count = len(plain.durations)
        print(
            f"{count} tests of the modules as they are: {plain.seconds:.1f} s",
            flush=True,
        )
        server.durations |= plain.durations
        limit = timeout or max(limit, LEAST_LIMIT + 3 * plain.seconds)
    return limit


def _test(server: Server, run: Run, limit: float) -> None:
    """Test the mutants without a verdict, and write each verdict as it is there."""
    queue = [(mutant, run.matter[mutant.module]) for mutant in run.queue]
    new = 0
    with tqdm(total=len(queue), unit="mutant", mininterval=1.0) as bar:
        for mutant, found in server.run(queue, limit):
            assert mutant is not None
            run.outcomes[mutant.number] = found
            run.write()
            if found.verdict == "survived" and mutant.identity not in run.proofs:
                new += 1
            bar.set_postfix(new=new, refresh=False)
            bar.update()


if __name__ == "__main__":
    sys.exit(main())
