"""Time, memory and objective against the number of points, beside POT and OTT-JAX.

The clouds of the Gromov-Wasserstein table in three dimensions, with Euclidean and with
squared distances. Every run has a process of its own, goes from points to a plan and
its objective, ours with the certificate, and is preceded by a small one that loads
libraries. Sizes are doubled until the next run is predicted to take too long or to need
too much memory.

    python -m simulations.scaling --out DIR [--quick] [--seed S]

writes trials.csv (one row a run, as soon as it is finished: an interrupted run
resumes), summary.csv with fitted exponents, meta.json, scaling.md and scaling.png.
"""

from __future__ import annotations

import gc
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import ot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

import gwtools as gw
from simulations import _processes as processes
from simulations import _report as report
from simulations._report import Row
from simulations.gw_table import clouds

Numbers = npt.NDArray[Any]

SMALLEST, QUICK_SMALLEST = 500, 40
LARGEST = {"euclidean": 8000, "sqeuclidean": 64000}
QUICK_LARGEST = 80
# Points of the run before the measured one: kernels are compiled for larger problems.
WARM, WARM_OF_SMALL, SMALL = 320, 30, 300
LONGEST = 20.0  # seconds that a run is predicted to take at most
MOST_MEMORY = 3000.0  # MB that a run is predicted to need at most
FITTED_FROM = 1000  # points
RANK = 10  # of low-rank plans
ATOMS_PER_CELL = 10  # of quantised spaces
MOST_PAIRS = 5000**2  # whose plan of a rival is judged as a dense matrix
UNITS = {
    "seconds": "of the process on a CPU, from points to the plan and its objective",
    "memory": "MB, the peak above what the process held before",
    "objective": "GW_2^2 of the plan rounded onto the weights, squared units of C; of "
    "a certificate its upper end",
    "lower": "proved lower end, squared units of C",
}
NOTES = f"""\
- A run is a process of its own with one thread; seconds are of its CPU, and memory is \
its peak above what it held before.
- Ours: `gw.solve` of clouds, certificate included; "certify": `gw.certify(x, y, \
effort=...)` alone, of the cheap coupling that it finds itself.
- POT: `ot.gromov.gromov_wasserstein`; quantised: \
`quantized_fused_gromov_wasserstein_samples`, a cell for {ATOMS_PER_CELL} points;
  low rank: `lowrank_gromov_wasserstein_samples` of rank {RANK}. OTT: \
`LRGromovWasserstein` of rank {RANK}, the second call, without compiling.
- Objectives are computed here of the plan, rounded onto the weights; over best: \
divided by the least one of all methods at this size.
- Exponents are slopes of log seconds and log memory against log n, from \
n = {FITTED_FROM} on. A method ends where doubling n is predicted
  to take more than {LONGEST:.0f} s or {MOST_MEMORY:.0f} MB. Between 2000 and 4000 \
points our descents on squared distances change to programs without matrices,
  so that their memory falls.
- The machine was busy with other work, which slows what is bound by memory: compare \
exponents and orders of magnitude, and times by `make speed`."""


class Found(NamedTuple):
    """What a method returns: an interval, or what makes the plan that is judged."""

    objective: float = math.nan
    lower: float = math.nan
    plan: Callable[[], Numbers] | None = None  # returns (n, m)


class Run(NamedTuple):
    """One run: a metric, a method, and its number of points."""

    metric: str
    method: str
    n: int
    seed: int

    @property
    def key(self) -> tuple[str, str, int]:
        """What identifies its row."""
        return self.metric, self.method, self.n


Points = tuple[Numbers, Numbers]
Method = Callable[[Points, str], Found]


def by_solver(solver: gw.Solver | None) -> Method:
    """Return one of our solvers as a method; None is the default of ``solve``."""

    def method(points: Points, metric: str) -> Found:
        x, y = (gw.PointCloud(p, metric=metric) for p in points)
        result = gw.solve(x, y, solver)
        certificate = result.certificate
        return Found(float(result.objective), certificate.lower)

    return method


def by_certificate(effort: str) -> Method:
    """Return a certificate without a plan as a method."""

    def method(points: Points, metric: str) -> Found:
        x, y = (gw.PointCloud(p, metric=metric) for p in points)
        certificate = gw.certify(x, y, effort=effort)
        return Found(certificate.upper, certificate.lower)

    return method


def pot(points: Points, metric: str) -> Found:
    """Run POT's conditional gradient by its defaults."""
    matrices = [ot.dist(p, p, metric=metric) for p in points]
    plan = ot.gromov.gromov_wasserstein(*matrices, loss_fun="square_loss")
    return Found(plan=lambda: plan)


def pot_quantised(points: Points, metric: str) -> Found:
    """Run POT's quantised solver, between means of cells."""
    cells = [len(p) // ATOMS_PER_CELL for p in points]
    _, _, plan = ot.gromov.quantized_fused_gromov_wasserstein_samples(*points, *cells)
    return Found(plan=lambda: plan)


def pot_low_rank(points: Points, metric: str) -> Found:
    """Run POT's solver of low rank."""
    left, right, g = ot.gromov.lowrank_gromov_wasserstein_samples(*points, rank=RANK)
    return Found(plan=lambda: (left / g) @ right.T)


def ott_low_rank(points: Points, metric: str) -> Found:
    """Run OTT's solver of low rank, a second time, so that nothing is compiled."""
    import jax
    from ott.geometry.pointcloud import PointCloud
    from ott.problems.quadratic.quadratic_problem import QuadraticProblem
    from ott.solvers.quadratic.gromov_wasserstein_lr import LRGromovWasserstein

    x, y = (PointCloud(jax.numpy.asarray(p)) for p in points)
    found = LRGromovWasserstein(rank=RANK)(QuadraticProblem(x, y))
    factors = (found.q, found.r, found.g)
    left, right, g = (np.asarray(factor, dtype=float) for factor in factors)
    return Found(plan=lambda: (left / g) @ right.T)


OTT = "OTT low rank"
BOTH: dict[str, Method] = {
    "auto": by_solver(None),
    "ConditionalGradient": by_solver(gw.ConditionalGradient()),
    "Sinkhorn": by_solver(gw.Sinkhorn()),
    "Sorted": by_solver(gw.Sorted(kind="norm")),
    "certify, linear": by_certificate("linear"),
    "certify, quadratic": by_certificate("quadratic"),
    "POT": pot,
}
METHODS: dict[str, dict[str, Method]] = {
    "euclidean": BOTH | {"POT quantised": pot_quantised},
    "sqeuclidean": BOTH | {"POT low rank": pot_low_rank, OTT: ott_low_rank},
}
TITLES = {"euclidean": "Euclidean distances", "sqeuclidean": "Squared distances"}


def measure(run: Run) -> Row:
    """Measure one run in this process."""
    warnings.simplefilter("ignore")  # of criteria that are not met
    method = METHODS[run.metric][run.method]
    # 1. What loads and compiles, before the clock and the memory are read.
    points = clouds(run.seed, run.n, 0)
    warm = WARM_OF_SMALL if run.n <= SMALL else WARM
    # Programs of JAX are compiled for one size.
    method(clouds(run.seed, run.n if run.method == OTT else warm, 1), run.metric)
    gc.collect()
    before = processes.peak_bytes(reset=True)
    # 2. The run.
    start = time.process_time()
    found = method(points, run.metric)
    seconds = time.process_time() - start
    peak = processes.peak_bytes()
    # 3. The plan, judged by no solver.
    objective = found.objective
    if found.plan is not None and run.n**2 <= MOST_PAIRS:
        objective = _objective(found.plan(), points, run.metric)
    known = before is not None and peak is not None
    return {
        "metric": run.metric,
        "method": run.method,
        "n": run.n,
        "seconds": seconds,
        "memory": (peak - before) / 1e6 if known else "",
        "objective": _cell(objective),
        "lower": _cell(found.lower),
        "note": "",
    }


def _cell(value: float) -> float | str:
    return "" if math.isnan(value) else value


def _objective(plan: Numbers, points: Points, metric: str) -> float:
    """Return the objective of a plan that is first rounded onto the weights."""
    x, y = (gw.PointCloud(p, metric=metric) for p in points)
    rounded = gw.round_plan(np.asarray(plan), x.weights, y.weights)
    return float(gw.GWProblem(x, y).objective(rounded))


def predicted(rows: Sequence[Row]) -> tuple[float, float]:
    """Return the seconds and MB of the next run, of twice as many points.

    Seconds grow as they did last, memory by 4 at most.
    """
    last = rows[-1]
    growth = 8.0
    if len(rows) > 1:
        growth = last["seconds"] / max(rows[-2]["seconds"], 1e-3)
    growth = min(max(growth, 2.0), 10.0)
    return growth * last["seconds"], 4 * (last["memory"] or 0.0)


def rows_of(
    metric: str, method: str, sizes: Sequence[int], known: dict[Any, Row], seed: int
) -> Iterator[Row]:
    """Yield the rows of a method, known and new, up to the size where it ends."""
    rows: list[Row] = []
    for n in sizes:
        run = Run(metric, method, n, seed)
        if run.key in known:
            row = known[run.key]
        elif method == OTT and find_spec("ott") is None:
            row = _without(run, "not installed")
        else:
            seconds, memory = predicted(rows) if rows else (0.0, 0.0)
            if seconds > LONGEST:
                row = _without(run, f"predicted: {seconds:.0f} s")
            elif memory > MOST_MEMORY:
                row = _without(run, f"predicted: {memory:.0f} MB")
            else:
                row = processes.alone(measure, run, "simulations.scaling")
        yield row
        if row["note"]:
            return
        rows.append(row)


def _without(run: Run, note: str) -> Row:
    """Return the row of a run that is not made, and why."""
    cells = dict.fromkeys(("seconds", "memory", "objective", "lower"), "")
    names = {"metric": run.metric, "method": run.method, "n": run.n}
    return {**names, **cells, "note": note}


def run(folder: Path, quick: bool, seed: int) -> None:
    """Measure what the folder does not hold yet."""
    packages = {OTT: report.version_of("ott-jax"), "jax": report.version_of("jax")}
    facts = {"seed": seed, "units": UNITS, **report.versions(), **packages}
    report.claim(folder, facts)
    path = folder / "trials.csv"
    known = {
        (row["metric"], row["method"], row["n"]): row
        for row in report.resume_rows(path)
    }
    for metric, methods in METHODS.items():
        largest = QUICK_LARGEST if quick else LARGEST[metric]
        sizes = [QUICK_SMALLEST if quick else SMALLEST]
        while 2 * sizes[-1] <= largest:
            sizes.append(2 * sizes[-1])
        for method in tqdm(methods, desc=metric, unit="method"):
            for row in rows_of(metric, method, sizes, known, seed):
                if (metric, method, row["n"]) not in known:
                    report.append_row(path, row)


def exponent(rows: Sequence[Row], name: str, least: float) -> float | str:
    """Return the slope of log ``name`` against log n, from two sizes on.

    Values up to ``least`` are what a clock or a system does not resolve.
    """
    found = [(row["n"], row[name]) for row in rows if (row[name] or 0.0) > least]
    if len(found) < 2:
        return ""
    sizes, values = np.log(np.array(found)).T
    return float(np.polyfit(sizes, values, 1)[0])


def summarise(trials: Sequence[Row]) -> list[Row]:
    """Return a row a method: its largest run, where it ends, and its exponents."""
    made = [row for row in trials if row["seconds"] != ""]
    summary = []
    for metric, methods in METHODS.items():
        for method in methods:
            key = {"metric": metric, "method": method}
            rows = [row for row in made if _is(row, key)]
            notes = [row["note"] for row in trials if _is(row, key) and row["note"]]
            last = rows[-1] if rows else dict.fromkeys(("n", "seconds", "memory"), "")
            fitted = [row for row in rows if row["n"] >= FITTED_FROM]
            summary.append(
                key
                | {name: last[name] for name in ("n", "seconds", "memory")}
                | {
                    "exponent of seconds": exponent(fitted, "seconds", 1e-3),
                    "exponent of memory": exponent(fitted, "memory", 1.0),
                    "end": notes[-1] if notes else "" if rows else "not run",
                }
            )
    return summary


def _is(row: Row, key: Row) -> bool:
    return all(row[name] == value for name, value in key.items())


def with_shares(trials: Sequence[Row]) -> list[Row]:
    """Add objective and lower end over the least objective at the same size.

    They are left out at sizes where no descent was run.
    """
    best: dict[Any, float] = {}
    descents = ("auto", "ConditionalGradient", "Sinkhorn", "POT")
    sizes = {
        (row["metric"], row["n"])
        for row in trials
        if row["method"] in descents and row["objective"] != ""
    }
    for row in trials:
        if row["objective"] != "" and (row["metric"], row["n"]) in sizes:
            key = row["metric"], row["n"]
            best[key] = min(best.get(key, math.inf), row["objective"])
    shares = []
    for row in trials:
        least = best.get((row["metric"], row["n"]))
        of_row = {
            f"{name} over best": ""
            if row[name] == "" or least is None
            else row[name] / least
            for name in ("objective", "lower")
        }
        shares.append({**row, **of_row})
    return shares


def table(rows: Sequence[Row], names: Sequence[str]) -> str:
    """Lay out columns of rows, numbers with three digits."""
    cells = [[_shown(row[name]) for name in names] for row in rows]
    return report.markdown_table(names, cells)


def _shown(value: Any) -> Any:
    return f"{value:.3g}" if isinstance(value, float) else value


def draw(trials: Sequence[Row], path: Path) -> None:
    """Draw seconds, memory and objectives against n, a row of axes a metric."""
    kinds = {
        "seconds": "seconds of a CPU",
        "memory": "MB above base",
        "objective over best": "objective over the best",
    }
    with report.figure_style():
        figure = Figure(figsize=(12, 3.6 * len(METHODS)))
        rows = figure.subplots(len(METHODS), len(kinds))
        for places, (metric, methods) in zip(rows, METHODS.items(), strict=True):
            of_metric = [row for row in trials if row["metric"] == metric]
            for axes, (name, label) in zip(places, kinds.items(), strict=True):
                _curves(axes, of_metric, list(methods), name)
                axes.set(xlabel="points n", ylabel=label, title=TITLES[metric])
            # Beside the row: within the panels it would cover lines.
            lines = places[0].get_legend_handles_labels()
            places[-1].legend(
                *lines, fontsize="x-small", loc="center left", bbox_to_anchor=(1.0, 0.5)
            )
        figure.savefig(path)


def _curves(axes: Axes, rows: Sequence[Row], methods: Sequence[str], name: str) -> None:
    """Draw a line a method: dotted for certificates, dashed for other libraries."""
    for i, method in enumerate(methods):
        found = [
            (row["n"], row[name])
            for row in rows
            if row["method"] == method and row[name] != ""
        ]
        if name.startswith("objective") and method.startswith("certify"):
            continue  # its upper end is that of a cheap coupling
        if found:
            style: Any = {"marker": "o", "ls": "-"}
            if method.startswith(("POT", "OTT")):
                style = {"marker": "s", "ls": "--"}
            elif method.startswith("certify"):
                style = {"marker": "^", "ls": ":"}
            sizes, values = zip(*found, strict=True)
            axes.plot(sizes, values, ms=3, color=f"C{i % 5}", label=method, **style)
    axes.set(xscale="log", yscale="log")
    sizes = sorted({row["n"] for row in rows})
    axes.set_xticks(sizes, [str(n) for n in sizes], fontsize="x-small", rotation=60)
    axes.minorticks_off()


def publish(folder: Path) -> None:
    """Write the summary, the Markdown and the figure, and print the tables."""
    trials = with_shares(report.resume_rows(folder / "trials.csv"))
    summary = summarise(trials)
    report.write_rows(folder / "summary.csv", summary)
    parts = ["# Scaling", NOTES]
    names = ["method", "n", "seconds", "memory", "objective over best"]
    for metric, title in TITLES.items():
        ends = [row for row in summary if row["metric"] == metric]
        rows = [
            row for row in trials if row["metric"] == metric and row["seconds"] != ""
        ]
        parts += [f"## {title}", table(ends, list(ends[0])[1:])]
        parts += [table(rows, [*names, "lower over best"])]
    text = "\n\n".join(parts)
    (folder / "scaling.md").write_text(f"{text}\n", encoding="utf-8")
    draw(trials, folder / "scaling.png")
    print(text, f"Written to {folder}.", sep="\n\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not finished, and publish all of it."""
    arguments = report.command_line(__doc__).parse_args(argv)
    folder = report.results_folder(arguments)
    return report.run_and_publish(
        folder, lambda: run(folder, arguments.quick, arguments.seed), publish
    )


if __name__ == "__main__":
    sys.exit(main())
