"""Whether certificates are true: small pairs, held against rational arithmetic.

The pairs are of every kind, and the comparison has no tolerance.

Values, weights, kinds of spaces, dtypes and plans are drawn to upset rounding: ties,
copies up to an ulp, large offsets, squares that underflow, scales far apart, weights
whose sum is off 1 by rounding or of 1e-310, plans off their marginals. Counted are the
statements of a certificate that are false in exact arithmetic (`tests/oracle.py`): a
lower bound above a coupling's objective, an upper one below its own coupling's, an a
priori radius that does not reach, an interval called closed that is open, numbers that
are not finite, and exceptions other than a refusal of the range in a sentence.

    python -m simulations.proofs --out DIR [--quick] [--seed S] [--instances N]
        [--jobs J]
    python -m simulations.proofs --only SEED --name "offset float32" --call certify
        [--effort EFFORT]

The first writes chunks.csv (one row for each fifty instances, as soon as they are
finished: an interrupted run resumes), violations.csv (one row a false statement),
summary.csv, meta.json and proofs.md, and exits with 1 if there is any.
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

import gwtools as gw
from simulations import _processes
from simulations import _report as report
from simulations._report import Row
from tests import oracle
from tests.instances import NAMES, Instance, instance

INSTANCES, QUICK_INSTANCES = 200_000, 2_000
JOBS = 2
CHUNK = 50
# One chunk in so many is certified with every effort, and better couplings are
# looked for.
EVERY_EFFORT = 10
ROUNDS = 2
EFFORTS = ("linear", "quadratic", "cubic", "quartic")
SOLVERS: dict[str, gw.Solver] = {
    "Sorted": gw.Sorted(),
    "ConditionalGradient": gw.ConditionalGradient(),
    "Sinkhorn": gw.Sinkhorn(proximal=False, max_iterations=10),
}
CALLS = (
    "certify",
    "solve Sorted",
    "solve ConditionalGradient",
    "solve Sinkhorn",
    "batch Sorted",
    "batch Sinkhorn",
)
SORTS = (
    "bound",
    "upper",
    "a_priori",
    "crossed",
    "objective below",
    "objective above",
    "misjudged",
    "tolerance",
    "rounding",
    "open",
    "lower",
    "negative",
    "not finite",
    "exception",
)
# Errors that say that values are out of range.
RANGE = re.compile(r"too (large|small)|\brange\b|smallest normal|overflow|underflow")
NOTES = """\
- bound: a lower bound above a coupling's objective; upper: below its own \
coupling's objective; a_priori: GW_2² may lie
  farther above the `norm` bound; crossed: lower above upper; \
objective below, above: a solver's number outside.
- misjudged: GLOBAL where the interval is wider than its tolerance, or not GLOBAL \
where it is not; tolerance: more than
  1e-8 Ω², Ω the largest |C_ik − D_jl|, or than the proof of a convex \
problem; wide, open: a GLOBAL interval that is.
- refused: a ValueError that names the range; warned: a warning other than \
ConvergenceWarning. Neither is a violation.
- One instance again: `python -m simulations.proofs --only SEED --name NAME \
--call CALL --effort EFFORT`."""


class Chunk(NamedTuple):
    """Instances of one name, which one call certifies with one effort."""

    index: int
    call: str
    name: str
    effort: str
    seeds: tuple[int, ...]

    def row(self) -> Row:
        """Return the words as the first columns of a row."""
        family, dtype = self.name.split()
        return {
            "chunk": self.index,
            "call": self.call,
            "dtype": dtype,
            "effort": self.effort,
            "kind": family,
        }


class Answer(NamedTuple):
    """What a call gave: a certificate with its plan and objective, or an error.

    The number of warnings comes along.
    """

    certificate: Any = None
    plan: Any = None
    objective: Any = None
    error: Exception | None = None
    warned: int = 0


def chunks(seed: int, instances: int) -> list[Chunk]:
    """Return all chunks; each depends on the seed and its index alone."""
    found = []
    for index in range(-(-instances // CHUNK)):
        rng = np.random.default_rng(np.random.SeedSequence((seed, index)))
        call, name = (
            CALLS[int(rng.integers(len(CALLS)))],
            NAMES[int(rng.integers(len(NAMES)))],
        )
        first = seed * 10**8 + index * CHUNK
        seeds = tuple(range(first, first + min(CHUNK, instances - index * CHUNK)))
        efforts = EFFORTS if index % EVERY_EFFORT == 0 else EFFORTS[:1]
        found += [Chunk(index, call, name, effort, seeds) for effort in efforts]
    return found


def answers(call: str, effort: str, drawn: Sequence[Instance]) -> list[Answer]:
    """Certify instances by one call."""
    kind, _, solver = call.partition(" ")
    if kind == "batch":
        found = _batch(SOLVERS[solver], effort, drawn)
        # One problem that is refused, or fails, takes its batch with it.
        return found or [
            _answer(lambda one=one: _batched(SOLVERS[solver], effort, [one])[0])
            for one in drawn
        ]
    if kind == "certify":
        return [_answer(lambda one=one: _certified(one, effort)) for one in drawn]
    return [
        _answer(
            lambda one=one: _solved(
                gw.solve(one.x, one.y, SOLVERS[solver], effort=effort)
            )
        )
        for one in drawn
    ]


def _certified(one: Instance, effort: str) -> Answer:
    return Answer(gw.certify(one.x, one.y, one.plan, effort), one.plan)


def _solved(result: gw.GWResult) -> Answer:
    return Answer(result.certificate, result.plan, result.objective)


def _batched(solver: gw.Solver, effort: str, drawn: Sequence[Instance]) -> list[Answer]:
    results = gw.solve_batch(
        [one.x for one in drawn], [one.y for one in drawn], solver, effort=effort
    )
    return [_solved(result) for result in results]


def _batch(solver: gw.Solver, effort: str, drawn: Sequence[Instance]) -> list[Answer]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _batched(solver, effort, drawn)
        except Exception:
            return []


def _answer(call: Any) -> Answer:
    """Return what a call gives or raises."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = call()
        except Exception as error:
            found = Answer(error=error)
    others = sum(not issubclass(w.category, gw.ConvergenceWarning) for w in caught)
    return found._replace(warned=others)


def judged(one: Instance, answer: Answer, rounds: int = 0) -> list[str]:
    """Return what is false in an answer.

    ``["refused"]`` where values are refused for their range.
    """
    if answer.error is not None:
        return _raised(answer.error)
    certificate = answer.certificate
    # What a solver leaves by its own tolerance may count as closed.
    allowed = 0.0 if answer.objective is None else certificate.tolerance
    return oracle.violations(
        certificate,
        one.x,
        one.y,
        answer.plan,
        answer.objective,
        allowed=allowed,
        hints=one.hints,
        rounds=rounds,
    )


def _raised(error: Exception) -> list[str]:
    text = " ".join(str(error).split())
    refused = isinstance(error, ValueError) and RANGE.search(text)
    return ["refused"] if refused else [f"exception: {type(error).__name__}: {text}"]


def examine(chunk: Chunk) -> tuple[Chunk, Row, list[Row]]:
    """Certify a chunk; return its row of counts, and a row for each false statement."""
    drawn: list[Instance] = []
    judgements: list[tuple[int, list[str]]] = []
    counts: Counter[str] = Counter()
    found: list[Row] = []
    for seed in chunk.seeds:
        try:
            drawn.append(instance(chunk.name, seed))
        except ValueError as error:
            judgements.append((seed, _raised(error)))
    for one, answer in zip(
        drawn, answers(chunk.call, chunk.effort, drawn), strict=True
    ):
        counts["warned"] += answer.warned > 0
        judgements.append(
            (
                one.seed,
                judged(one, answer, ROUNDS if chunk.index % EVERY_EFFORT == 0 else 0),
            )
        )
    for seed, messages in judgements:
        if messages == ["refused"]:
            counts["refused"] += 1
            continue
        counts["violating"] += bool(messages)
        counts.update({message.split(":")[0] for message in messages})
        words = {
            "chunk": chunk.index,
            "call": chunk.call,
            "effort": chunk.effort,
            "name": chunk.name,
            "seed": seed,
        }
        found += [words | {"message": message} for message in messages]
    columns = ("refused", "warned", "violating", *SORTS)
    row = (
        chunk.row()
        | {"instances": len(chunk.seeds)}
        | {name: counts[name] for name in columns}
    )
    return chunk, row, found


def run(folder: Path, seed: int, instances: int, jobs: int) -> None:
    """Examine the chunks that the folder does not hold yet."""
    path = folder / "chunks.csv"
    done = {(row["chunk"], row["effort"]) for row in report.resume_rows(path)}
    pending = [
        chunk
        for chunk in chunks(seed, instances)
        if (chunk.index, chunk.effort) not in done
    ]
    facts: dict[str, Any] = {"seed": seed, "instances": instances}
    # Finished results may be summarised under other versions, but never be mixed with
    # new ones.
    report.claim(folder, facts | {"versions": report.versions()} if pending else facts)
    if done:
        print(
            f"{len(done)} chunks are in {folder} already; "
            "delete that folder to run them again."
        )
    total, violating = sum(len(chunk.seeds) for chunk in pending), 0
    with tqdm(total=total, unit="instance", disable=not pending) as progress:
        for chunk, row, found in _processes.results(examine, pending, jobs):
            # Before the row that says that they are complete.
            for violation in found:
                report.append_row(folder / "violations.csv", violation)
            report.append_row(path, row)
            violating += row["violating"]
            progress.update(len(chunk.seeds))
            progress.set_postfix(violating=violating, refresh=False)


def summarise(rows: Sequence[Row]) -> list[Row]:
    """Add counts up by call, dtype, effort and kind."""
    keys = ("call", "dtype", "effort", "kind")
    sums: dict[tuple[str, ...], Counter[str]] = {}
    for row in rows:
        counts = {
            name: value for name, value in row.items() if name not in (*keys, "chunk")
        }
        sums.setdefault(tuple(row[key] for key in keys), Counter()).update(counts)
    return [
        dict(zip(keys, group, strict=True)) | dict(sums[group])
        for group in sorted(sums)
    ]


def totals(rows: Sequence[Row], key: str) -> str:
    """Lay out the counts by one of the words."""
    groups: dict[str, Counter[str]] = {}
    names = ("instances", "refused", "warned", "violating", *SORTS)
    for row in rows:
        groups.setdefault(row[key], Counter()).update(
            {name: row[name] for name in names}
        )
    shown = [name for name in names if any(counts[name] for counts in groups.values())]
    return report.markdown_table(
        [key, *shown],
        [[group, *(groups[group][n] for n in shown)] for group in sorted(groups)],
    )


def publish(folder: Path) -> int:
    """Write the summary and the Markdown of all chunks, and print them.

    Return how many instances violate.
    """
    rows = report.resume_rows(folder / "chunks.csv")
    summary = summarise(rows)
    report.write_rows(folder / "summary.csv", summary)
    done = {(row["chunk"], row["effort"]) for row in rows}
    # Rows of a chunk that was interrupted come twice.
    unique = {
        tuple(row.items()): row for row in report.resume_rows(folder / "violations.csv")
    }
    found = [row for row in unique.values() if (row["chunk"], row["effort"]) in done]
    violating = sum(row["violating"] for row in summary)
    parts = [
        NOTES,
        *(totals(summary, key) for key in ("call", "dtype", "effort", "kind")),
    ]
    names = ("call", "effort", "name", "seed", "message")
    first = {
        sort: [row for row in found if row["message"].split(":")[0] == sort][:5]
        for sort in SORTS
    }
    listed = [
        [str(row[name]).replace("|", "/")[:120] for name in names]
        for sort in SORTS
        for row in first[sort]
    ]
    parts += [
        f"## Violating: {violating}",
        report.markdown_table(names, listed) if listed else "none",
    ]
    text = "\n\n".join(parts)
    (folder / "proofs.md").write_text(
        f"# Certificates against rational arithmetic\n\n{text}\n"
    )
    print(text, f"Written to {folder}.", sep="\n\n")
    return violating


def only(name: str, seed: int, call: str, effort: str) -> int:
    """Certify one instance and say what is false of it."""
    one = instance(name, seed)
    (answer,) = answers(call, effort, [one])
    for space in (one.x, one.y):
        print(
            space,
            repr(np.asarray(space.data).tolist()),
            repr(np.asarray(space.weights).tolist()),
            sep="\n  ",
        )
    print(
        "plan", one.plan if one.plan is None else np.asarray(one.plan.dense()).tolist()
    )
    print(answer, *judged(one, answer, ROUNDS), sep="\n")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    single = argparse.ArgumentParser(add_help=False)
    single.add_argument("--only", type=int)
    single.add_argument("--name", choices=NAMES, default=NAMES[0])
    single.add_argument("--call", choices=CALLS, default=CALLS[0])
    single.add_argument("--effort", choices=EFFORTS, default=EFFORTS[0])
    chosen, _ = single.parse_known_args(argv)
    if chosen.only is not None:
        return only(chosen.name, chosen.only, chosen.call, chosen.effort)
    parser = report.command_line(__doc__)
    parser.add_argument(
        "--instances",
        type=int,
        help=f"number of instances (default: {INSTANCES}, quick {QUICK_INSTANCES})",
    )
    parser.add_argument(
        "--jobs", type=int, default=JOBS, help="processes (default: %(default)s)"
    )
    parser.add_argument(
        "--only",
        type=int,
        metavar="SEED",
        help="certify this instance alone; see --name, --call, --effort",
    )
    arguments = parser.parse_args(argv)
    folder = report.results_folder(arguments)
    try:
        instances = arguments.instances or (
            QUICK_INSTANCES if arguments.quick else INSTANCES
        )
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
