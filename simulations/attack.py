"""Whether a lower bound is above a coupling: tiny pairs and thirty descents each.

The pairs are those of `tests/instances.py`, of up to six atoms: every kind, ties,
copies, units far apart, weights of zero and nearly so, float32. Each is certified with
the effort "quartic", every tenth with a budget of seconds instead, so that moment
matrices are searched too, and solved by branch and bound with few nodes where its kind
allows. Every bound is compared, in rational arithmetic and without tolerance, with the
least objective of the couplings at which conditional gradient ends from thirty random
starts, and each certificate is computed again from the proof that it keeps.

    python -m simulations.attack --out DIR [--quick] [--seed S] [--instances N]
        [--jobs J]
    python -m simulations.attack --only SEED --name "offset float32" --call quartic

The first writes chunks.csv (one row for each twenty instances and call, as soon as
they are finished: an interrupted run resumes), violations.csv (one row a false
statement), summary.csv, meta.json and attack.md, and exits with 1 if there is any.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

import gwtools as gw
from gwtools.transport.programs import exact as exact_program
from simulations import _processes, proofs
from simulations import _report as report
from simulations._report import Row
from tests.exact_couplings import Pair
from tests.exact_search import best
from tests.exact_spaces import exact
from tests.instances import NAMES, Instance, instance

INSTANCES, QUICK_INSTANCES = 100_000, 400
SIZES = (1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6)
CHUNK = 20
# One chunk in so many is certified with a budget.
BUDGET_EVERY = 10
BUDGET = 0.3  # seconds
STARTS = 30
STEPS = 30  # of conditional gradient, at most
# Of the couplings of least objective, so many are compared.
COMPARED = 3
NODES = (1, 3, 10, 40)  # of branch and bound
MOST_COORDINATES = 6
CALLS = ("quartic", "budget", "branch_and_bound")
SORTS = (*proofs.SORTS, "verify")
COUNTS = ("instances", "refused", "warned", "violating", "compared", *SORTS)
NOTES = f"""\
- instances: certificates; compared: their lower bounds, each with the least objective \
of {STARTS} descents, of the couplings
  that sort the atoms, and of all permutations where these are few. ratio: the largest \
lower bound over that objective.
- refused: a ValueError that names the range of values. verify: what is computed again \
from the proof does not agree.
- All other sorts are those of `simulations/proofs.py`.
- One instance again: `python -m simulations.attack --only SEED --name NAME --call \
CALL`."""


class Chunk(NamedTuple):
    """Instances of one name, which are certified in one way."""

    index: int
    name: str
    seeds: tuple[int, ...]

    @property
    def effort(self) -> str:
        """The call that certifies them."""
        return CALLS[self.index % BUDGET_EVERY == 0]


def chunks(seed: int, instances: int) -> list[Chunk]:
    """Return all chunks; each depends on the seed and its index alone."""
    found = []
    for index in range(-(-instances // CHUNK)):
        rng = np.random.default_rng(np.random.SeedSequence((seed, index)))
        name = NAMES[int(rng.integers(len(NAMES)))]
        first = seed * 10**8 + index * CHUNK
        last = first + min(CHUNK, instances - index * CHUNK)
        found.append(Chunk(index, name, tuple(range(first, last))))
    return found


# Couplings of small objective


def descents(x: gw.Space, y: gw.Space, seed: int) -> list[gw.Plan]:
    """Return couplings at which conditional gradient ends from random starts.

    Those of least objective, over all atoms of the spaces.
    """
    x, y = (_widened(space) for space in (x, y))
    ready = gw.preparation.prepare(x, y)
    problem = gw.GWProblem(ready.x, ready.y)
    a, b = (np.asarray(space.weights) for space in (ready.x, ready.y))
    rng = np.random.default_rng(seed)
    found = []
    for start in range(STARTS):
        costs = rng.standard_normal((len(a), len(b)))
        plan = np.outer(a, b) if start == 0 else _vertex(costs, a, b)
        plan = _descended(problem, plan, a, b)
        found.append((float(problem.objective(gw.DensePlan(plan))), plan))
    found.sort(key=lambda pair: pair[0])
    return [_embedded(plan, ready.atoms, (x, y)) for _, plan in found[:COMPARED]]


def _widened(space: gw.Space) -> gw.Space:
    return gw.spaces.converted(space, lambda array: array.astype(np.float64))


def _vertex(costs: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(exact_program(costs, a, b).plan.dense())


def _descended(
    problem: gw.GWProblem, plan: np.ndarray, a: np.ndarray, b: np.ndarray
) -> np.ndarray:
    """Return where conditional gradient ends from a coupling, or nearly so."""
    C, D = problem.x.dense(), problem.y.dense()
    squares = (C**2 @ a)[:, None] + D**2 @ b  # (n, m)
    for _ in range(STEPS):
        gradient = 2 * (squares - 2 * C @ plan @ D)
        direction = _vertex(gradient, a, b) - plan
        slope = float((gradient * direction).sum())
        curvature = -2 * float((direction * (C @ direction @ D)).sum())
        if slope >= -1e-13 * float(np.abs(gradient).max()):
            break
        step = 1.0 if curvature <= 0 else min(1.0, -slope / (2 * curvature))
        plan = plan + step * direction
    return np.maximum(plan, 0.0)


def _embedded(
    plan: np.ndarray, atoms: tuple[Any, Any], spaces: tuple[gw.Space, gw.Space]
) -> gw.Plan:
    """Return a coupling of the atoms with mass as one of all atoms."""
    full = np.zeros([space.size for space in spaces])
    kept = [
        np.arange(space.size) if index is None else index
        for space, index in zip(spaces, atoms, strict=True)
    ]
    full[np.ix_(*kept)] = plan
    return gw.DensePlan(full)


# What is certified


def calls(one: Instance, effort: str) -> dict[str, Callable[[], proofs.Answer]]:
    """Return the ways in which an instance is certified, by name."""
    found = {effort: lambda: _certified(one, effort)}
    if _few_coordinates(one.x, one.y):
        found["branch_and_bound"] = lambda: _solved(one)
    return found


def _certified(one: Instance, effort: str) -> proofs.Answer:
    budget = BUDGET if effort == "budget" else None
    certificate = gw.certify(
        one.x, one.y, one.plan, "quartic", budget=budget, keep_proof=True
    )
    return proofs.Answer(certificate, one.plan)


def _solved(one: Instance) -> proofs.Answer:
    nodes = NODES[one.seed % len(NODES)]
    solver = gw.BranchAndBound(max_nodes=nodes, keep_proof=True)
    result = gw.solve(one.x, one.y, solver)
    return proofs.Answer(result.certificate, result.plan, result.objective)


def _few_coordinates(x: gw.Space, y: gw.Space) -> bool:
    """Tell whether branch and bound takes two spaces."""
    if isinstance(x, gw.GramSpace) and isinstance(y, gw.GramSpace):
        return x.data.shape[0] * y.data.shape[0] <= MOST_COORDINATES
    clouds = isinstance(x, gw.PointCloud) and isinstance(y, gw.PointCloud)
    if not clouds or not x.metric == y.metric == "sqeuclidean":
        return False
    return x.data.shape[1] * y.data.shape[1] <= MOST_COORDINATES


def answered(call: Callable[[], proofs.Answer]) -> proofs.Answer:
    """Return what a call gives or raises, with the number of warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            answer = call()
        except Exception as error:
            answer = proofs.Answer(error=error)
    kinds = [warning.category for warning in caught]
    others = sum(not issubclass(kind, gw.ConvergenceWarning) for kind in kinds)
    return answer._replace(warned=others)


# What is false of it


def judged(one: Instance, answer: proofs.Answer) -> list[str]:
    """Return what is false; the instance has the couplings to compare as hints."""
    messages = proofs.judged(one, answer)
    if answer.certificate is None:
        return messages
    try:
        again = answer.certificate.verify(one.x, one.y)
    except Exception as error:
        return [*messages, f"verify: {type(error).__name__}: {error}"]
    if not again.agrees:
        messages.append(f"verify: {again}, of {answer.certificate}")
    return messages


def ratio(certificate: gw.Certificate, least: Fraction) -> float:
    """Return the largest lower bound over the least objective found; 0 over 0."""
    return float(Fraction(certificate.lower) / least) if least else 0.0


def examine(chunk: Chunk) -> tuple[Chunk, list[Row], list[Row]]:
    """Certify a chunk; return it, its counts, and a row for each false statement."""
    counts: dict[str, Counter[str]] = {}
    largest: dict[str, float] = {}
    seconds: dict[str, float] = {}
    found: list[Row] = []
    for seed in chunk.seeds:
        try:
            one = instance(chunk.name, seed, SIZES)
        except ValueError:
            counts.setdefault(chunk.effort, Counter()).update(("instances", "refused"))
            continue
        one, least = _with_couplings(one)
        for call, certify in calls(one, chunk.effort).items():
            started = time.perf_counter()
            answer = answered(certify)
            took = time.perf_counter() - started
            seconds[call] = seconds.get(call, 0.0) + took
            messages = judged(one, answer)
            of_call = counts.setdefault(call, Counter())
            of_call.update(_counted(answer, messages))
            if answer.certificate is not None and least is not None:
                share = ratio(answer.certificate, least)
                largest[call] = max(largest.get(call, 0.0), share)
            if messages != ["refused"]:
                words = {"chunk": chunk.index, "call": call, "name": chunk.name}
                found += [
                    words | {"seed": seed, "message": message} for message in messages
                ]
    rows = [_row(chunk, call, counts, largest, seconds) for call in counts]
    return chunk, rows, found


def _with_couplings(one: Instance) -> tuple[Instance, Fraction | None]:
    """Add the couplings of least objective to the hints, and return that objective.

    None where values are out of range.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            plans = descents(one.x, one.y, one.seed)
        except ValueError:
            return one, None
    one = replace(one, hints=(*one.hints, *plans))
    pair = Pair(exact(one.x), exact(one.y))
    return one, best(pair, one.hints).high


def _counted(answer: proofs.Answer, messages: list[str]) -> Counter[str]:
    """Count one answer and what is false of it."""
    counts = Counter({"instances": 1, "warned": int(answer.warned > 0)})
    if messages == ["refused"]:
        counts["refused"] = 1
        return counts
    if answer.certificate is not None:
        counts["compared"] = len(answer.certificate.bounds)
    counts["violating"] = int(bool(messages))
    counts.update({message.split(":")[0] for message in messages})
    return counts


def _row(
    chunk: Chunk,
    call: str,
    counts: dict[str, Counter[str]],
    largest: dict[str, float],
    seconds: dict[str, float],
) -> Row:
    family, dtype = chunk.name.split()
    row: Row = {"chunk": chunk.index, "call": call, "dtype": dtype, "kind": family}
    row |= {name: counts[call][name] for name in COUNTS}
    row["ratio"] = largest.get(call, 0.0)
    row["seconds"] = seconds.get(call, 0.0)
    return row


# The run


def run(folder: Path, seed: int, instances: int, jobs: int) -> None:
    """Examine the chunks that the folder does not hold yet."""
    path = folder / "chunks.csv"
    done = _finished(report.resume_rows(path))
    pending = [chunk for chunk in chunks(seed, instances) if chunk.index not in done]
    facts: dict[str, Any] = {"seed": seed}
    if pending:
        facts["versions"] = report.versions()
    report.claim(folder, facts)
    total = sum(len(chunk.seeds) for chunk in pending)
    violating = 0
    with tqdm(total=total, unit="instance", disable=not pending) as progress:
        for chunk, rows, found in _processes.results(examine, pending, jobs):
            # Before the rows that say that they are complete.
            for violation in found:
                report.append_row(folder / "violations.csv", violation)
            # The call that every chunk has comes last, and completes it.
            for row in sorted(rows, key=lambda row: row["call"] == chunk.effort):
                report.append_row(path, row)
            violating += len(found)
            progress.update(len(chunk.seeds))
            progress.set_postfix(false=violating, refresh=False)


def _finished(rows: Sequence[Row]) -> set[int]:
    """Return the chunks all of whose rows are there."""
    return {row["chunk"] for row in rows if row["call"] != "branch_and_bound"}


def complete(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of finished chunks, the last where an interrupt repeated one."""
    finished = _finished(rows)
    unique = {(row["chunk"], row["call"]): row for row in rows}
    return [row for (chunk, _), row in unique.items() if chunk in finished]


def summarise(rows: Sequence[Row], keys: Sequence[str]) -> list[Row]:
    """Add counts and seconds up by words, and take the largest ratio."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    found = []
    for words in sorted(groups):
        group = groups[words]
        sums: Row = dict(zip(keys, words, strict=True))
        for name in (*COUNTS, "seconds"):
            sums[name] = sum(row[name] for row in group)
        sums["ratio"] = max(row["ratio"] for row in group)
        found.append(sums)
    return found


def totals(rows: Sequence[Row], key: str) -> str:
    """Lay out the counts by one of the words."""
    summary = summarise(rows, [key])
    shown = [name for name in COUNTS if any(row[name] for row in summary)]
    lines = []
    for row in summary:
        numbers = [row[name] for name in shown]
        lines.append([row[key], *numbers, repr(row["ratio"]), f"{row['seconds']:.0f}"])
    return report.markdown_table([key, *shown, "ratio", "seconds"], lines)


def publish(folder: Path) -> int:
    """Write the summary and the Markdown of all chunks, and print them.

    Return how many certificates violate.
    """
    rows = complete(report.resume_rows(folder / "chunks.csv"))
    report.write_rows(
        folder / "summary.csv", summarise(rows, ("call", "dtype", "kind"))
    )
    found = report.resume_rows(folder / "violations.csv")
    unique = {tuple(row.items()): row for row in found}.values()
    violating = sum(row["violating"] for row in rows)
    pairs = len({row["chunk"] for row in rows})
    names = ("call", "name", "seed", "message")
    listed = [
        [str(row[name]).replace("|", "/")[:120] for name in names] for row in unique
    ]
    parts = [
        f"{pairs} chunks of {CHUNK} pairs of spaces.",
        NOTES,
        *(totals(rows, key) for key in ("call", "dtype", "kind")),
        f"## Violating: {violating}",
        report.markdown_table(names, listed[:50]) if listed else "none",
    ]
    text = "\n\n".join(parts)
    seed = json.loads((folder / "meta.json").read_text())["seed"]
    title = f"# Lower bounds against couplings, seed {seed}"
    (folder / "attack.md").write_text(f"{title}\n\n{text}\n")
    print(text, f"Written to {folder}.", sep="\n\n")
    return violating


def only(name: str, seed: int, call: str) -> int:
    """Certify one instance and say what is false of it."""
    one, least = _with_couplings(instance(name, seed, SIZES))
    for space in (one.x, one.y):
        print(space, repr(np.asarray(space.data).tolist()), sep="\n  ")
        print("  weights", repr(np.asarray(space.weights).tolist()))
    effort = CALLS[0] if call == "branch_and_bound" else call
    answer = answered(calls(one, effort)[call])
    print(answer, f"least objective {least}", *judged(one, answer), sep="\n")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    single = argparse.ArgumentParser(add_help=False)
    single.add_argument("--only", type=int)
    single.add_argument("--name", choices=NAMES, default=NAMES[0])
    single.add_argument("--call", choices=CALLS, default=CALLS[0])
    chosen, _ = single.parse_known_args(argv)
    if chosen.only is not None:
        return only(chosen.name, chosen.only, chosen.call)
    parser = report.command_line(__doc__)
    parser.add_argument(
        "--instances",
        type=int,
        help=f"number of instances (default: {INSTANCES}, quick {QUICK_INSTANCES})",
    )
    parser.add_argument(
        "--jobs", type=int, default=1, help="processes (default: %(default)s)"
    )
    parser.add_argument(
        "--only",
        type=int,
        metavar="SEED",
        help="certify this instance alone; see --name and --call",
    )
    arguments = parser.parse_args(argv)
    folder = report.results_folder(arguments)
    default = QUICK_INSTANCES if arguments.quick else INSTANCES
    instances = arguments.instances or default
    try:
        run(folder, arguments.seed, instances, arguments.jobs)
    except KeyboardInterrupt:
        print(
            f"Interrupted: what is finished is kept in {folder}; "
            "the same command resumes there.",
            file=sys.stderr,
        )
        return 130
    return min(1, publish(folder))


if __name__ == "__main__":
    sys.exit(main())
