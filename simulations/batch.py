"""Throughput of batches: many pairs of small spaces at once against loops.

The loops are Python's over single calls; a second table compares with ot.batch.

The pairs are Euclidean distance matrices of 3-D Gaussian clouds of 10 to 64 points,
uniform weights, both sizes at random. Every run makes its spaces anew, as they keep
what was computed of them; making them is not timed. Loops run over the first pairs only
(column "loop of"): throughput is in pairs a second. Batches of NumPy arrays may use
threads, so they run once with all that they take and once with a single one. A bound is
compared with two loops: over the bound itself, and over :func:`gwtools.solve`, whose
result holds that bound among other things. In the second table all pairs are of one
size, and POT's proximal solver runs at fixed ε with its own tolerances; its plans are
rounded to the marginals before they are judged.

    python -m simulations.batch --out DIR [--quick] [--seed S] [--repeats R] [--pairs B]

writes trials.csv (one row a run), summary.csv, peers.csv, meta.json and batch.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist
from tqdm import tqdm

import gwtools as gw
from gwtools.batch.threads import VARIABLE, processors
from gwtools.marginals import rounded_matrix
from simulations import _report as report
from simulations._report import Row

Numbers: TypeAlias = npt.NDArray[Any]
Convert: TypeAlias = Callable[[Numbers], Any]

SMALLEST, LARGEST = 10, 64
PEERS = ((0.1, 50), (0.3, 50))  # ε and iterations of ot.batch
# The solve whose result holds a bound: as its estimate, or in its certificate.
HELD = {
    "row_means": ("row_means", "linear"),
    "first": ("row_means", "quadratic"),
    "norm": ("norm", "linear"),
    "spectral": ("spectral", "linear"),
    "second": ("row_means", "quadratic"),
}


@dataclass(frozen=True)
class Scale:
    """How many pairs run together and in the loop, and their sizes.

    The same for Sinkhorn, and the sizes and pairs against ot.batch.
    """

    pairs: int
    loop: int
    slow_pairs: int
    slow_loop: int
    sizes: tuple[int, ...]
    equal: int


FULL, QUICK = Scale(4096, 512, 4096, 64, (16, 32), 16), Scale(64, 16, 16, 8, (12,), 8)


@dataclass(frozen=True)
class Case:
    """One computation: all pairs at once, one pair, and one pair by a solve.

    The result of the solve holds the same number.
    """

    name: str
    together: Callable[[Any, Any], Any]
    alone: Callable[[Any, Any], Any]
    solved: Callable[[Any, Any], Any]
    slow: bool = False


def cases() -> list[Case]:
    """Return the solvers and bounds that run in batches."""
    found = []
    for s in (
        gw.Sorted(),
        gw.Sorted(kind="norm"),
        gw.Sorted(kind="spectral"),
        gw.Sinkhorn(),
    ):
        together, alone = partial(gw.solve_batch, solver=s), partial(gw.solve, solver=s)
        found.append(Case(str(s), together, alone, alone, isinstance(s, gw.Sinkhorn)))
    for name, (kind, effort) in HELD.items():
        solved = partial(gw.solve, solver=gw.Sorted(kind=kind), effort=effort)
        found.append(
            Case(
                f"bounds.{name}",
                getattr(gw.batch, name),
                getattr(gw.bounds, name),
                solved,
            )
        )
    return found


def matrices(
    count: int, seed: int, smallest: int = SMALLEST, largest: int = LARGEST
) -> list[tuple[Numbers, Numbers]]:
    """Draw pairs of distance matrices."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(smallest, largest + 1, (count, 2))
    clouds = [[rng.standard_normal((n, 3)) for n in pair] for pair in sizes]
    return [(cdist(x, x), cdist(y, y)) for x, y in clouds]


def spaces(
    pairs: Sequence[tuple[Numbers, Numbers]], convert: Convert
) -> tuple[list[gw.Space], list[gw.Space]]:
    """Make the spaces of both sides."""
    made = [[gw.DenseSpace(convert(matrix)) for matrix in pair] for pair in pairs]
    return [x for x, _ in made], [y for _, y in made]


@dataclass(frozen=True)
class Machine:
    """Where a run takes place.

    How its arrays are made, the clock that it is timed by, its name, and the threads of
    a batch.
    """

    convert: Convert
    clock: Callable[[], float]
    name: str
    threads: int = 1

    def timed(self, run: Callable[[], Any]) -> tuple[Any, float]:
        """Run once."""
        start = self.clock()
        value = run()
        return value, self.clock() - start


def measure(
    case: Case,
    pairs: Sequence[tuple[Numbers, Numbers]],
    scale: Scale,
    repeats: int,
    machine: Machine,
) -> list[Row]:
    """Let the batch and the loop take turns."""
    pairs = pairs[: scale.slow_pairs if case.slow else scale.pairs]
    some, rows = pairs[: scale.slow_loop if case.slow else scale.loop], []
    for repeat in range(repeats):
        xs, ys = spaces(pairs, machine.convert)
        row = {
            "case": case.name,
            "pairs": len(pairs),
            "loop_of": len(some),
            "repeat": repeat,
        }
        row["batch_s"] = row["one_thread_s"] = machine.timed(
            partial(case.together, xs, ys)
        )[1]
        if machine.threads > 1:
            with threads(1):
                row["one_thread_s"] = machine.timed(
                    partial(case.together, *spaces(pairs, machine.convert))
                )[1]
        row["loop_s"] = row["solve_loop_s"] = _loop(case.alone, some, machine)
        if case.solved is not case.alone:
            row["solve_loop_s"] = _loop(case.solved, some, machine)
        rows.append(row)
    return rows


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let batches use so many threads."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(count)
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        if before is not None:
            os.environ[VARIABLE] = before


def _loop(
    alone: Callable[[Any, Any], Any],
    pairs: Sequence[tuple[Numbers, Numbers]],
    machine: Machine,
) -> float:
    """Time a loop over fresh spaces."""
    sides = spaces(pairs, machine.convert)
    return machine.timed(lambda: [alone(x, y) for x, y in zip(*sides, strict=True)])[1]


def summarise(rows: Sequence[Row]) -> Row:
    """Return throughputs by median times, and ratios of the batch's to the loops'."""
    first = rows[0]
    batch = first["pairs"] / median(row["batch_s"] for row in rows)
    loop, solve_loop = (
        first["loop_of"] / median(row[name] for row in rows)
        for name in ("loop_s", "solve_loop_s")
    )
    found = {name: first[name] for name in ("case", "pairs", "loop_of")}
    found |= {"batch_per_s": batch, "loop_per_s": loop, "ratio": batch / loop}
    one = first["pairs"] / median(row["one_thread_s"] for row in rows)
    found |= {"solve_loop_per_s": solve_loop, "solve_ratio": batch / solve_loop}
    return found | {"one_thread_per_s": one, "one_thread_solve_ratio": one / solve_loop}


def peers(
    size: int, count: int, seed: int, repeats: int, machine: Machine
) -> list[Row]:
    """Let gw.solve_batch and ot.batch take turns on pairs of one size.

    All plans are judged by one objective.
    """
    from ot.batch import solve_gromov_batch

    pairs = matrices(count, seed, size, size)
    stacks = [machine.convert(np.stack([pair[k] for pair in pairs])) for k in (0, 1)]
    seconds: dict[str, list[float]] = {}
    objective: dict[str, float] = {}
    for _ in range(repeats):
        xs, ys = spaces(pairs, machine.convert)
        found, took = machine.timed(partial(gw.solve_batch, xs, ys, gw.Sinkhorn()))
        seconds.setdefault(name := "gw.Sinkhorn()", []).append(took)
        objective[name] = float(np.mean([float(r.objective) for r in found]))
        for epsilon, steps in PEERS:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                run = partial(solve_gromov_batch, *stacks, reg=epsilon, max_iter=steps)
                result, took = machine.timed(run)
            seconds.setdefault(
                name := f"ot.batch, ε = {epsilon}, {steps} steps", []
            ).append(took)
            objective[name] = _mean_objective(xs, ys, result.plan)
    known = {"n": size, "pairs": count}
    return [
        known | {"solver": k, "seconds": median(v), "objective": objective[k]}
        for k, v in seconds.items()
    ]


def _mean_objective(
    xs: Sequence[gw.Space], ys: Sequence[gw.Space], plans: Any
) -> float:
    values = []
    for x, y, plan in zip(xs, ys, plans, strict=True):
        coupling = gw.DensePlan(rounded_matrix(plan, x.weights, y.weights))
        values.append(float(gw.GWProblem(x, y).objective(coupling)))
    return float(np.mean(values))


def tables(summary: Sequence[Row], against: Sequence[Row]) -> str:
    """Lay both tables out."""
    header = [
        "case",
        "pairs",
        "loop of",
        "batch, pairs/s",
        "loop, pairs/s",
        "batch / loop",
        "loop over solve",
        "batch / it",
        "on one thread",
    ]
    first = [
        [
            f"`{row['case']}`",
            row["pairs"],
            row["loop_of"],
            f"{row['batch_per_s']:.4g}",
            f"{row['loop_per_s']:.4g}",
            f"{row['ratio']:.1f}",
            f"{row['solve_loop_per_s']:.4g}",
            f"{row['solve_ratio']:.1f}",
            f"{row['one_thread_solve_ratio']:.1f}",
        ]
        for row in summary
    ]
    second = [
        [
            row["n"],
            row["pairs"],
            row["solver"],
            f"{row['seconds']:.3g}",
            f"{row['objective']:.5f}",
        ]
        for row in against
    ]
    parts = (
        report.markdown_table(header, first),
        report.markdown_table(
            ["n", "pairs", "solver", "seconds", "mean objective"], second
        ),
    )
    return "\n\n".join(parts)


def run(
    folder: Path,
    arguments: Any,
    machine: Machine,
    title: str = "Throughput of batches",
) -> int:
    """Measure everything and write the results, with the machine's name beside them."""
    scale = QUICK if arguments.quick else FULL
    scale = replace(scale, slow_pairs=arguments.pairs or scale.slow_pairs)
    # Times are compared within one process only, so earlier runs are of no use.
    for name in ("trials.csv", "meta.json"):
        (folder / name).unlink(missing_ok=True)
    facts = {
        "seed": arguments.seed,
        "repeats": arguments.repeats,
        "device": machine.name,
        "versions": report.versions(),
    }
    report.claim(folder, facts)
    pairs, summary = matrices(scale.pairs, arguments.seed), []
    for case in tqdm(cases(), unit="case"):
        rows = measure(case, pairs, scale, arguments.repeats, machine)
        for row in rows:
            report.append_row(folder / "trials.csv", row)
        summary.append(summarise(rows))
    report.write_rows(folder / "summary.csv", summary)
    against = [
        row
        for n in scale.sizes
        for row in peers(n, scale.equal, arguments.seed, arguments.repeats, machine)
    ]
    report.write_rows(folder / "peers.csv", against)
    text = tables(summary, against)
    note = (
        f"On {machine.name}. Medians of {arguments.repeats} runs, "
        "in which all take turns."
    )
    (folder / f"{folder.name.removesuffix('-quick')}.md").write_text(
        f"# {title}\n\n{text}\n\n{note}\n"
    )
    print(text, f"Written to {folder}.", sep="\n\n")
    return 0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of these tables' length."""
    parser.add_argument(
        "--repeats",
        type=int,
        default=5,
        help="runs of each side (default: %(default)s)",
    )
    parser.add_argument(
        "--pairs",
        type=int,
        help=f"pairs in Sinkhorn's batch (default: {FULL.slow_pairs})",
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = report.command_line(__doc__)
    add_options(parser)
    arguments = parser.parse_args(argv)
    count = processors()
    machine = Machine(
        np.asarray,
        time.perf_counter,
        f"NumPy, {count} processors of a shared machine",
        count,
    )
    return run(report.results_folder(arguments), arguments, machine)


if __name__ == "__main__":
    sys.exit(main())
