"""How far solvers end from the minimum, on instances whose minimum is proved.

``BranchAndBound`` encloses the minimum of each instance to a millionth of it. POT's
conditional gradient from its default start, ours, Sinkhorn and what ``solve`` does by
default then say what they find: the share by which they are above the proved lower end,
and whether that is the minimum.

    python -m simulations.global_gap --out DIR [--quick] [--seed S] [--seeds K]
        [--time-limit SECONDS]

writes trials.csv (one row an instance, as soon as it is finished: an interrupted run
resumes), summary.csv, meta.json, global_gap.md and global_gap.png.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from zlib import crc32

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from tqdm import tqdm

import gwtools as gw
from simulations import _report as report
from simulations import search_peers
from simulations._report import Row
from simulations.families import WEIGHTS
from simulations.hard_families import Numbers, Pair
from simulations.search_families import rounded

Spaces = tuple[gw.Space, gw.Space]
Draw = Callable[[np.random.Generator, int, Numbers | None], gw.Space]

SIZES = ((20, 20), (30, 30), (40, 40), (45, 30), (60, 60))
QUICK_SIZES = ((7, 7), (8, 6))
SEEDS, QUICK_SEEDS = 5, 1
TOLERANCE = 1e-6
TIME_LIMIT, QUICK_TIME_LIMIT = 120.0, 5.0  # seconds an instance
# Of the proved lower end: what is above it by less has found the minimum.
FOUND = 1e-5
# An objective below the proved lower end by more than this share would refute it.
ROUNDING = 1e-9
SOLVERS: dict[str, gw.Solver | None] = {
    "ConditionalGradient": gw.ConditionalGradient(),
    "Sinkhorn": gw.Sinkhorn(),
    "auto": None,
}
METHODS = ("POT", *SOLVERS)
KEY = ("kind", "weights", "n", "m", "seed")
UNITS = {
    "lower, upper and objectives": "GW_2^2, squared units of C",
    "_excess": "objective / lower - 1",
    "_found": f"1 where the excess is at most {FOUND}",
    "_s": "seconds, certificates included",
}


def _cloud(
    rng: np.random.Generator, n: int, weights: Numbers | None, dimension: int
) -> gw.Space:
    points = rng.standard_normal((n, dimension))
    return gw.PointCloud(points, weights, metric="sqeuclidean")


def _gram(
    rng: np.random.Generator, n: int, weights: Numbers | None, rows: int
) -> gw.Space:
    return gw.GramSpace(rng.standard_normal((rows, n)), weights)


# Both spaces of every kind.
KINDS: dict[str, tuple[Draw, Draw]] = {
    "1-D": (partial(_cloud, dimension=1), partial(_cloud, dimension=1)),
    "2-D": (partial(_cloud, dimension=2), partial(_cloud, dimension=2)),
    "2-D against 3-D": (partial(_cloud, dimension=2), partial(_cloud, dimension=3)),
    "Gram": (partial(_gram, rows=2), partial(_gram, rows=2)),
}
NOTES = f"""\
- 1-D, 2-D, 2-D against 3-D: squared distances of points of N(0, I); Gram: inner \
products of columns of N(0, I_2).
  Weights: {"; ".join(f"{name}: {law}" for name, law in WEIGHTS.items())}.
- proved: `gwtools.BranchAndBound(tolerance={TOLERANCE:g})` closed the interval in \
time; the other columns are of these
  instances alone.
- found: instances on which the plan's objective is at most {FOUND:g} of it above the \
proved lower end.
- excess: objective / lower end - 1; the mean and the largest over the instances.
- POT: `ot.gromov.gromov_wasserstein` from its default start, its plan rounded onto \
the weights. auto: `gwtools.solve(x, y)`."""


@dataclass(frozen=True)
class Instance:
    """A pair of spaces by its kind, weights, sizes and seed."""

    kind: str
    weights: str
    n: int
    m: int
    seed: int

    @property
    def key(self) -> tuple[Any, ...]:
        """What identifies its row."""
        return self.kind, self.weights, self.n, self.m, self.seed

    def draw(self) -> Spaces:
        """Draw the spaces; they depend on nothing but the names."""
        name = crc32(self.kind.encode())
        entropy = (name, self.n, self.m, self.seed)
        rng = np.random.default_rng(np.random.SeedSequence(entropy))
        first, second = KINDS[self.kind]
        a = b = None
        if self.weights == "random":
            a = rng.dirichlet(np.ones(self.n))
            b = rng.dirichlet(np.ones(self.m))
        return first(rng, self.n, a), second(rng, self.m, b)


def instances(
    sizes: Sequence[tuple[int, int]], seeds: int, first: int
) -> Iterator[Instance]:
    """Yield all instances: small ones first."""
    for n, m in sizes:
        for kind in KINDS:
            for weights in WEIGHTS:
                for seed in range(first, first + seeds):
                    yield Instance(kind, weights, n, m, seed)


def measure(instance: Instance, time_limit: float) -> Row:
    """Enclose the minimum of an instance, and solve it by every method."""
    row: Row = dict(zip(KEY, instance.key, strict=True))
    # 1. The proof.
    solver = gw.BranchAndBound(tolerance=TOLERANCE, time_limit=time_limit)
    result, row["proof_s"] = _timed(partial(gw.solve, *instance.draw(), solver))
    lower, upper = result.certificate.lower, result.certificate.upper
    row |= {"lower": lower, "upper": upper}
    row["proved"] = int(result.status is gw.Status.GLOBAL)
    # 2. What the methods find.
    x, y = instance.draw()
    matrices = [np.asarray(space.dense()) for space in (x, y)]
    weights = [np.asarray(space.weights) for space in (x, y)]
    pair = Pair(*matrices, None, *weights)
    plans: dict[str, Numbers] = {}
    seconds: dict[str, float] = {}
    plans["POT"], seconds["POT"] = _timed(search_peers.pot(pair))
    for name, method in SOLVERS.items():
        # A space keeps what was computed from it: each run gets new ones.
        found, seconds[name] = _timed(partial(gw.solve, *instance.draw(), method))
        plans[name] = np.asarray(found.plan.dense())
    # 3. All judged by the same objective, of plans that have the weights.
    problem = gw.GWProblem(x, y)
    for name, plan in plans.items():
        coupling = gw.DensePlan(rounded(pair, plan))
        objective = float(problem.objective(coupling))
        excess = objective / lower - 1 if lower > 0 else np.inf
        row |= {name: objective, f"{name}_s": seconds[name]}
        row |= {f"{name}_excess": excess, f"{name}_found": int(excess <= FOUND)}
    slack = ROUNDING * float(problem.product_objective)
    row["below"] = sum(row[name] < lower - slack for name in METHODS)
    return row


def _timed(run: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = run()
    return result, time.perf_counter() - start


def run(folder: Path, wanted: Sequence[Instance], seed: int, time_limit: float) -> None:
    """Measure the instances that the folder does not hold yet."""
    path = folder / "trials.csv"
    done = {tuple(row[name] for name in KEY) for row in report.resume_rows(path)}
    pending = [instance for instance in wanted if instance.key not in done]
    facts: dict[str, Any] = {
        "seed": seed,
        "tolerance": TOLERANCE,
        "time_limit": time_limit,
        "units": UNITS,
    }
    # Finished results may be summarised under other versions, but never be mixed with
    # new ones.
    report.claim(folder, facts | {"versions": report.versions()} if pending else facts)
    if done:
        print(
            f"{len(done)} instances are in {folder} already; "
            "delete that folder to run them again."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of solvers that do not converge
        if pending:
            first = Instance("2-D", "uniform", 3, 3, 0)
            measure(first, time_limit)  # the first solve loads libraries
        with tqdm(pending, unit="instance", disable=not pending) as progress:
            for instance in progress:
                sizes = f"{instance.n}, {instance.m}"
                progress.set_description(f"{instance.kind} {sizes}")
                report.append_row(path, measure(instance, time_limit))


def summarise(trials: Sequence[Row]) -> list[Row]:
    """Return one row for each kind and weights, and one for all."""
    groups = {
        (kind, weights): [
            row for row in trials if (row["kind"], row["weights"]) == (kind, weights)
        ]
        for kind in KINDS
        for weights in WEIGHTS
    }
    groups["all", "both"] = list(trials)
    summary = []
    for (kind, weights), rows in groups.items():
        proved = [row for row in rows if row["proved"]]
        line: Row = {"kind": kind, "weights": weights, "instances": len(rows)}
        line |= {"proved": len(proved), "below": sum(row["below"] for row in rows)}
        line["proof_s"] = median(row["proof_s"] for row in rows) if rows else ""
        for name in METHODS:
            excesses = [max(row[f"{name}_excess"], 0.0) for row in proved]
            line[f"{name}_found"] = sum(row[f"{name}_found"] for row in proved)
            line[f"{name}_mean"] = float(np.mean(excesses)) if excesses else ""
            line[f"{name}_most"] = max(excesses, default="")
            times = [row[f"{name}_s"] for row in proved]
            line[f"{name}_s"] = median(times) if times else ""
        summary.append(line)
    return summary


def table(summary: Sequence[Row]) -> str:
    """Lay out how often each method found the minimum, and how far it was above."""
    header = ["kind", "weights", "proved", "s proof"]
    for name in METHODS:
        header += [f"{name} found", "mean excess", "largest"]
    lines = []
    for row in summary:
        proved = f"{row['proved']} of {row['instances']}"
        cells = [row["kind"], row["weights"], proved, _formatted(row["proof_s"], ".2g")]
        for name in METHODS:
            cells.append(row[f"{name}_found"])
            cells += [_formatted(row[f"{name}_{what}"]) for what in ("mean", "most")]
        lines.append(cells)
    return report.markdown_table(header, lines)


def _formatted(value: float | str, form: str = ".2%") -> str:
    """Format a number; an empty cell stays one."""
    return "" if value == "" else format(value, form)


def checks(summary: Sequence[Row]) -> str:
    """Say what must hold, and whether it does; then what was found."""
    total = summary[-1]
    proved = total["proved"]
    lines = [f"- Objectives below a proved lower end: {total['below']}."]
    for name in METHODS if proved else ():
        found = total[f"{name}_found"]
        lines.append(
            f"- {name} found the minimum of {found} of {proved} instances "
            f"({found / proved:.0%}), in {total[f'{name}_s']:.2g} s (median)."
        )
    return "\n".join(lines)


def draw(trials: Sequence[Row], summary: Sequence[Row], path: Path) -> None:
    """Draw how often the minimum was found, and how far the objectives are above it."""
    with report.figure_style():
        figure = Figure(figsize=(10, 4))
        found, excess = figure.subplots(1, 2)
        _found(found, [row for row in summary if row["proved"]])
        _excesses(excess, [row for row in trials if row["proved"]])
        # Left the marks are of a method, right the lines.
        handles = [
            Line2D([], [], color=f"C{i}", marker=report.MARKS[i], ms=5, label=name)
            for i, name in enumerate(METHODS)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(METHODS))
        figure.savefig(path)


def _found(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw a line for each kind of instances, and on it a mark for each method."""
    percent = {
        name: [100 * row[f"{name}_found"] / row["proved"] for row in rows]
        for name in METHODS
    }
    labels = [f"{row['kind']}, {row['weights']} ({row['proved']})" for row in rows]
    # Marks of methods that are equal stand side by side.
    report.marks_by_row(axes, labels, percent, spread=0.12)
    axes.set(xlim=(-2, 102), xlabel="% of instances whose minimum was found")
    axes.set_ylabel("kind, weights (proved instances)")
    axes.set_title("how often the minimum is found", fontsize="medium")


def _excesses(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw for each method the share of the instances that are above by more."""
    for i, name in enumerate(METHODS):
        percent = sorted((100 * row[f"{name}_excess"] for row in rows), reverse=True)
        above = [value for value in percent if value > 100 * FOUND]
        # From the farthest instance on, each adds a step.
        shares = 100 * np.arange(1, len(above) + 1) / max(len(rows), 1)
        axes.step(above, shares, "-", where="pre", color=f"C{i}")
    axes.set(xscale="log", xlabel="% above the proved lower end", ylim=(0, None))
    axes.set_ylabel("% of instances that are above by as much")
    axes.set_title("how far above the minimum, all instances", fontsize="medium")


def publish(folder: Path) -> None:
    """Write the summary, the Markdown and the figure, and print the tables.

    All instances in the folder count.
    """
    trials = report.resume_rows(folder / "trials.csv")
    summary = summarise(trials)
    report.write_rows(folder / "summary.csv", summary)
    text = "\n\n".join([NOTES, "## Checks", checks(summary), table(summary)])
    (folder / "global_gap.md").write_text(f"# Against proved minima\n\n{text}\n")
    draw(trials, summary, folder / "global_gap.png")
    print(text, f"Written to {folder}.", sep="\n\n")


def main(argv: Sequence[str] | None = None) -> int:
    parser = report.command_line(__doc__)
    parser.add_argument("--seeds", type=int, help="seeds of each kind and size")
    parser.add_argument("--time-limit", type=float, help="seconds a proof")
    arguments = parser.parse_args(argv)
    quick = arguments.quick
    sizes = QUICK_SIZES if quick else SIZES
    count = arguments.seeds or (QUICK_SEEDS if quick else SEEDS)
    limit = arguments.time_limit or (QUICK_TIME_LIMIT if quick else TIME_LIMIT)
    folder = report.results_folder(arguments)
    wanted = list(instances(sizes, count, arguments.seed))
    work = partial(run, folder, wanted, arguments.seed, limit)
    return report.run_and_publish(folder, work, publish)


if __name__ == "__main__":
    sys.exit(main())
