"""Results of mutants: verdicts of earlier runs, accepted survivors, what is printed."""

from __future__ import annotations

import ast
import csv
import hashlib
import io
import json
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.mutation.mutants import Identity, Mutant
from tests.mutation.patterns import RULES
from tests.mutation.server import Outcome

FIELDS = (
    "number",
    "module",
    "line",
    "function",
    "rule",
    "nth",
    "before",
    "after",
    "verdict",
    "seconds",
    "killer",
    "key",
)

# What a verdict holds for


def key(mutant: Mutant, mark: str) -> str:
    """Return what a verdict holds for: a mutant among the same tests."""
    text = f"{mark} {mutant.module} {mutant.source}"
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def fingerprint(root: Path, module: str, tests: Sequence[str]) -> str:
    """Hash what a verdict depends on besides the mutant.

    That is the tests, what they import, and the code of the other modules.
    """
    digest = hashlib.sha256(repr(tuple(tests)).encode())
    package = Path(module).parts[0]
    files = {test.partition("::")[0] for test in tests}
    for path in _read_by(root, package, files):
        digest.update(path.read_bytes())
    for path in sorted((root / package).rglob("*.py")):
        if path != root / module:
            # Comments change nothing.
            code = ast.dump(ast.parse(path.read_bytes()))
            digest.update(code.encode())
    return digest.hexdigest()


def _read_by(root: Path, package: str, tests: Iterable[str]) -> list[Path]:
    """Return test files and what they import from below the root, but the package."""
    waiting = [root / test for test in tests]
    for path in list(waiting):
        waiting += [path.parent / "conftest.py", path.parent / "__init__.py"]
    found: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in found or not path.exists():
            continue
        found.add(path)
        for name in _imported(path):
            if name.partition(".")[0] != package:
                place = root.joinpath(*name.split("."))
                waiting += [place.with_suffix(".py"), place / "__init__.py"]
    return sorted(found)


def _imported(path: Path) -> list[str]:
    """Return the names that may be those of modules that a file imports."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


# Verdicts of earlier runs


def recorded(file: Path | None) -> dict[str, Outcome]:
    """Read the verdicts of an earlier run."""
    if file is None or not file.exists():
        return {}
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    found = {}
    for row in rows:
        if row["verdict"] not in ("", "error"):
            seconds = float(row["seconds"])
            found[row["key"]] = Outcome(row["verdict"], seconds, row["killer"])
    return found


def write(
    file: Path | None,
    made: Sequence[Mutant],
    keys: Mapping[int, str],
    outcomes: Mapping[int, Outcome],
) -> None:
    """Write all mutants with the verdicts that there are, in one piece."""
    if file is None:
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for mutant in made:
        row: dict[str, Any] = mutant._asdict()
        row["key"] = keys[mutant.number]
        found = outcomes.get(mutant.number)
        if found is not None:
            row["verdict"] = found.verdict
            row["seconds"] = f"{found.seconds:.2f}"
            row["killer"] = found.killer
        writer.writerow(row)
    file.parent.mkdir(parents=True, exist_ok=True)
    # A run that is interrupted leaves the whole file of before.
    part = file.with_name(file.name + ".part")
    part.write_text(text.getvalue(), encoding="utf-8")
    part.replace(file)


# Survivors that are accepted


def accepted(file: Path) -> dict[Identity, str]:
    """Read the survivors that are proved harmless, with their proofs.

    Raises
    ------
    ValueError
        If an entry stands twice, or its proof is not one line.
    """
    if not file.exists():
        return {}
    entries = tomllib.loads(file.read_text(encoding="utf-8")).get("survivor", [])
    proofs: dict[Identity, str] = {}
    for entry in entries:
        place = (entry["module"], entry["function"], entry["rule"])
        identity = (*place, entry["before"], entry["after"], entry.get("nth", 1))
        if identity in proofs:
            raise ValueError(f"{file}: this stands twice: {entry}")
        if len(entry.get("proof", "").strip().splitlines()) != 1:
            raise ValueError(f"{file}: a proof is one line: {entry}")
        proofs[identity] = entry["proof"]
    return proofs


def _entry(mutant: Mutant) -> str:
    """Return a survivor as the list has it, without its proof."""
    fields: dict[str, Any] = {
        "module": mutant.module,
        "function": mutant.function,
        "rule": mutant.rule,
        "before": mutant.before,
        "after": mutant.after,
    }
    if mutant.nth > 1:
        fields["nth"] = mutant.nth
    lines = ["[[survivor]]"]
    for name, value in fields.items():
        lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join([*lines, 'proof = ""'])


# What is printed


def report(
    made: Sequence[Mutant],
    outcomes: Mapping[int, Outcome],
    proofs: Mapping[Identity, str],
) -> bool:
    """Print what came of a run: counts, new survivors and stale entries.

    Entries of other modules than those of ``made`` are left alone; so are entries of
    mutants that were not run.

    Returns
    -------
    bool
        Whether nothing is new.
    """
    ran = [mutant for mutant in made if mutant.number in outcomes]
    survivors = _with_verdict("survived", ran, outcomes)
    errors = _with_verdict("error", ran, outcomes)
    new = [mutant for mutant in survivors if mutant.identity not in proofs]
    _print_counts(ran, outcomes)
    total = math.fsum([found.seconds for found in outcomes.values()])
    print(
        f"{len(outcomes)} mutants in {total:.0f} s of tests: "
        f"{len(survivors)} survive, {len(new)} of them new"
    )
    for mutant in errors:
        print(f"\nERROR {mutant}\n{outcomes[mutant.number].log[-2000:]}")
    for mutant in new:
        print(f"\nNEW {mutant}\n{_entry(mutant)}")
    for identity, verdict in _stale(made, outcomes, proofs):
        module, function, rule, before, after, nth = identity
        print(
            f"\nSTALE ({verdict}) {module} {function} rule {rule} ({nth}): "
            f"{before}  ->  {after}"
        )
    return not new and not errors


def _with_verdict(
    verdict: str, ran: Sequence[Mutant], outcomes: Mapping[int, Outcome]
) -> list[Mutant]:
    return [mutant for mutant in ran if outcomes[mutant.number].verdict == verdict]


def _print_counts(ran: Sequence[Mutant], outcomes: Mapping[int, Outcome]) -> None:
    """Print how many mutants of each module and rule survive."""
    for module in dict.fromkeys([mutant.module for mutant in ran]):
        for rule, meaning in RULES.items():
            verdicts = []
            for mutant in ran:
                if mutant.module == module and mutant.rule == rule:
                    verdicts.append(outcomes[mutant.number].verdict)
            if verdicts:
                alive = verdicts.count("survived")
                counts = f"{len(verdicts)} mutants, {alive} survive"
                print(f"{module} rule {rule} ({meaning}): {counts}")


def _stale(
    made: Sequence[Mutant],
    outcomes: Mapping[int, Outcome],
    proofs: Mapping[Identity, str],
) -> list[tuple[Identity, str]]:
    """Return the accepted survivors that do not survive, and what became of them."""
    modules = {mutant.module for mutant in made}
    numbers = {mutant.identity: mutant.number for mutant in made}
    stale = []
    for identity in proofs:
        module = identity[0]
        if module not in modules:
            continue
        if identity not in numbers:
            stale.append((identity, "no longer exists"))
            continue
        found = outcomes.get(numbers[identity])
        if found is not None and found.verdict.startswith("killed"):
            stale.append((identity, found.verdict))
    return stale
