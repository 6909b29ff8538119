"""Whether the solvers answer: random pairs, each in a process that can be killed.

The pairs are those of ``simulations.random_pairs``. What must not happen: hang (killed
as it takes too long), crash (an exception that is no sentence, or a process that
ended), nan (a number that is not finite), infeasible (a plan that misses its
marginals), crossed (a lower bound above the upper one). A pair that is refused in a
sentence is counted apart.

    python -m simulations.watchdog --out DIR [--quick] [--seed S] [--pairs N]
                                   [--jobs J] [--limit SECONDS]
    python -m simulations.watchdog --only INDEX [--seed S]

The first writes trials.csv (one row a pair, as soon as it is finished: an interrupted
run resumes), summary.csv, meta.json and watchdog.md. The second solves one pair in its
own process, with its traceback.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import gwtools as gw
from simulations import _report as report
from simulations._report import Row
from simulations._watchdog_tables import BROKEN, publish
from simulations.random_pairs import Case, build, case

PAIRS, QUICK_PAIRS = 10_000, 200
JOBS = 2
LIMIT = 120.0  # seconds for programs of up to 350 x 350; more in proportion
TO_LOAD = 60.0  # seconds more for a new process, which loads its libraries first
# What a row says of a result, where there is none.
NO_RESULT: Row = {"status": "", "iterations": "", "objective": "", "message": ""}

# One pair


def outcome(case: Case) -> Row:
    """Solve a pair and say what came of it."""
    start = time.perf_counter()
    found = NO_RESULT.copy()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            x, y, solver = build(case)
            result = gw.solve(x, y, solver)
        except Exception as error:
            name = "refused" if _is_sentence(error) else "crash"
            found["status"] = type(error).__name__
            found["message"] = " ".join(str(error).split())
        else:
            name = judge(x, y, result)
            found["status"] = result.status.name
            found["iterations"] = result.iterations
            found["objective"] = float(result.objective)
    if not found["message"]:
        found["message"] = _first_warning(caught)
    return {"outcome": name, **found, "seconds": time.perf_counter() - start}


def _is_sentence(error: Exception) -> bool:
    """Tell whether an error says in a sentence what is wrong with a pair."""
    refusal = isinstance(error, ValueError | MemoryError)
    return refusal and str(error).endswith(".")


def _first_warning(caught: Sequence[warnings.WarningMessage]) -> str:
    """Return the first warning that is not about convergence, else nothing."""
    for warning in caught:
        if not issubclass(warning.category, gw.ConvergenceWarning):
            return f"{warning.category.__name__}: {warning.message}"
    return ""


def judge(x: gw.Space, y: gw.Space, result: gw.GWResult) -> str:
    """Return which of the things that must not happen did, or "answer"."""
    certificate = result.certificate
    plan = np.asarray(result.plan.dense())
    numbers = (
        result.objective,
        result.distance,
        result.estimate,
        certificate.lower,
        certificate.upper,
        plan,
    )
    if not all(np.all(np.isfinite(values)) for values in numbers):
        return "nan"
    missed = float(np.abs(plan.sum(axis=1) - x.weights).sum())
    missed += float(np.abs(plan.sum(axis=0) - y.weights).sum())
    tolerance = 1e-9 if plan.dtype == np.float64 else 1e-4
    if plan.min() < 0.0 or missed > tolerance:
        return "infeasible"
    return "answer" if certificate.lower <= certificate.upper else "crossed"


def limit(case: Case, seconds: float) -> float:
    """Return after how many seconds a pair is killed: in proportion above 350²."""
    n, m = case.sizes
    return seconds * max(1.0, n * m / 350**2)


# Many pairs, in processes


def _serve(pipe: Connection, seed: int) -> None:
    """Solve one pair after the other, until there are none."""
    # The first solve loads libraries, which no time should include.
    gw.solve(np.eye(2), np.eye(2))
    while (index := pipe.recv()) is not None:
        pipe.send(outcome(case(seed, index)))


class Worker:
    """A process that solves a pair at a time, and can be killed."""

    def __init__(self, seed: int, seconds: float) -> None:
        self.seed = seed
        self.seconds = seconds
        self.case: Case | None = None
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(theirs, self.seed), daemon=True
        )
        self.process.start()
        theirs.close()
        self.fresh = True

    def give(self, index: int) -> None:
        """Start on a pair."""
        self.case = case(self.seed, index)
        self.pipe.send(index)
        allowed = limit(self.case, self.seconds)
        if self.fresh:
            allowed += TO_LOAD
        self.deadline = time.monotonic() + allowed

    def finished(self) -> Row | None:
        """Return the row of the pair once there is an answer, or will be none."""
        assert self.case is not None
        if self.pipe.poll():
            found = self._received()
        elif time.monotonic() >= self.deadline:
            found = {"outcome": "hang", **NO_RESULT}
            self.stop()
            self._start()
        else:
            return None
        row = self.case.row()
        row["seconds"] = limit(self.case, self.seconds)
        self.case = None
        return row | found

    def _received(self) -> Row:
        """Return what the process sent, or that it ended."""
        try:
            found: Row = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            message = f"the process ended with exit code {self.process.exitcode}"
            self._start()
            return {"outcome": "crash", **NO_RESULT, "message": message}
        self.fresh = False
        return found

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        self.process.kill()
        self.process.join()


def watch(
    seed: int, indices: Sequence[int], jobs: int, seconds: float
) -> Iterator[Row]:
    """Solve pairs under a time limit; yield their rows as they are finished."""
    waiting = iter(indices)
    workers = [Worker(seed, seconds) for _ in range(min(jobs, len(indices)))]
    try:
        for worker, index in zip(workers, waiting, strict=False):
            worker.give(index)
        while busy := [worker for worker in workers if worker.case is not None]:
            _wait(busy)
            for worker in busy:
                row = worker.finished()
                if row is None:
                    continue
                yield row
                following = next(waiting, None)
                if following is not None:
                    worker.give(following)
    finally:
        for worker in workers:
            worker.stop()


def _wait(workers: Sequence[Worker]) -> None:
    """Wait until a process answers, or the time of one is over."""
    pipes = [worker.pipe for worker in workers]
    deadline = min([worker.deadline for worker in workers])
    wait(pipes, timeout=max(0.0, deadline - time.monotonic()))


def run(folder: Path, seed: int, pairs: int, jobs: int, seconds: float) -> None:
    """Solve the pairs that the folder does not hold yet."""
    path = folder / "trials.csv"
    done = {row["index"] for row in report.resume_rows(path)}
    pending = [index for index in range(pairs) if index not in done]
    facts: dict[str, Any] = {"seed": seed, "limit_s": seconds}
    if pending:
        # Finished results may be summarised under other versions, but never be mixed
        # with new ones.
        facts["versions"] = report.versions()
    report.claim(folder, facts)
    if done:
        print(
            f"{len(done)} pairs are in {folder} already; "
            "delete that folder to run them again."
        )
    broken = 0
    rows = watch(seed, pending, jobs, seconds)
    with tqdm(rows, total=len(pending), unit="pair", disable=not pending) as progress:
        for row in progress:
            report.append_row(path, row)
            broken += row["outcome"] in BROKEN
            progress.set_postfix(broken=broken, refresh=False)


# The command line


def only(seed: int, index: int) -> int:
    """Solve one pair in this process; what it raises is not caught."""
    chosen = case(seed, index)
    print(f"seed: {seed}")
    for name, value in chosen.row().items():
        print(f"{name}: {value}", flush=True)
    x, y, solver = build(chosen)
    start = time.perf_counter()
    result = gw.solve(x, y, solver)
    print(result)
    print(f"{judge(x, y, result)} in {time.perf_counter() - start:.1f} s")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    single = argparse.ArgumentParser(add_help=False)
    single.add_argument("--only", type=int)
    single.add_argument("--seed", type=int, default=0)
    chosen, _ = single.parse_known_args(argv)
    if chosen.only is not None:
        return only(chosen.seed, chosen.only)
    arguments = _parser().parse_args(argv)
    folder = report.results_folder(arguments)
    pairs = arguments.pairs or (QUICK_PAIRS if arguments.quick else PAIRS)
    try:
        run(folder, arguments.seed, pairs, arguments.jobs, arguments.limit)
    except KeyboardInterrupt:
        print(
            f"Interrupted: what is finished is kept in {folder}; "
            "the same command resumes there.",
            file=sys.stderr,
        )
        return 130
    return min(1, publish(folder))


def _parser() -> argparse.ArgumentParser:
    parser = report.command_line(__doc__)
    parser.add_argument(
        "--pairs",
        type=int,
        help=f"number of pairs (default: {PAIRS}, quick {QUICK_PAIRS})",
    )
    parser.add_argument(
        "--jobs", type=int, default=JOBS, help="processes (default: %(default)s)"
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=LIMIT,
        help="seconds a pair, more if large (default: %(default)s)",
    )
    parser.add_argument(
        "--only",
        type=int,
        metavar="INDEX",
        help="solve this pair alone, in this process; no --out",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
