"""How tight each lower bound is, and what it costs: a suite of families of instances.

Each bound as a share of the best objective: the least found from 20 starts (conditional
gradient from the product coupling, from annealed Sinkhorn's plan and from random
vertices) and by ``bounds_reference``. No bound may be above that objective; the column
``above`` counts those that are. Bounds are computed up to the sizes that they are made
for; beyond, their cells are empty.

    python -m simulations.bounds --out DIR [--quick] [--seed S] [--sizes N ...]
        [--seeds K]

writes trials.csv (one row an instance, as soon as it is finished: an interrupted run
resumes), summary.csv, meta.json, bounds.md and bounds.png.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

import gwtools as gw
from gwtools.certify import EFFORTS
from gwtools.transport.one_dimensional import sorting_plan
from simulations import _report as report
from simulations import bounds_reference
from simulations._report import Row
from simulations.families import CLASSIC_SEEDS, FAMILIES, WEIGHTS, Family

Numbers = npt.NDArray[Any]

SIZES, SEEDS = (60, 200), 5
QUICK_SIZES, QUICK_SEEDS = (30,), 1
STARTS, STEPS, MORE_STEPS = 20, 25, 200
BOUNDS: dict[str, Callable[..., Any]] = {
    "row_means": gw.bounds.row_means,
    "first": gw.bounds.first,
    "norm": gw.bounds.norm,
    "spectral": gw.bounds.spectral,
    "second": gw.bounds.second,
    "third": gw.bounds.third,
    "third_residual": partial(gw.bounds.third, residual=True),
    "convex": gw.bounds.convex,
    "reformulation": gw.bounds.reformulation,
    "semidefinite": partial(gw.bounds.semidefinite, iterations=600),
}
# Atoms of the larger space, beyond which a bound is not computed.
LARGEST = {"reformulation": 100, "semidefinite": 35, "quartic": 100}
# Those of which the shares by family are drawn.
DRAWN = ("norm", "spectral", "second", "third", "convex")
DRAWN += ("reformulation", "semidefinite")
CLOUDS = ("euclidean", "squared", "mixed")
UNITS = {
    "best and bounds": "GW_2^2, squared units of C",
    "_s": "seconds; distance matrices of graphs excluded, all else included",
    "gap": "(best - lower) / best",
}
NOTES = f"""\
- best: the least objective of {STARTS} starts: conditional gradient from the product \
coupling, from the plan of annealed
  Sinkhorn and from random vertices (where the objective is convex: from the first \
two), or that of
  `reference/bounds_best.csv` where it is lower. It is an upper bound; the truth \
may be lower, and the shares higher.
- shares are means over the seeds of bound / best, in percent; empty where a bound is \
not computed. \
{", ".join(EFFORTS)}: the lower end of `gwtools.certify` at
  that effort, rounded outward; all others are the plain values of `gwtools.bounds`.
- above: bounds above the best objective by more than rounding. It must be 0.
- Weights: {"; ".join(f"{name}: {law}" for name, law in WEIGHTS.items())}."""


@dataclass(frozen=True)
class Case:
    """One instance: a family with its size, weights and seed."""

    family: Family
    n: int
    weights: str
    seed: int

    @property
    def key(self) -> tuple[Any, ...]:
        """What identifies its row."""
        return self.family.name, self.n, self.weights, self.seed


def cases(sizes: Sequence[int], seeds: int, first_seed: int) -> Iterator[Case]:
    """Yield all instances; graphs that exist in one size have it, and fewer seeds."""
    for family in FAMILIES:
        own, count = (
            ((family.size,), min(seeds, CLASSIC_SEEDS))
            if family.size
            else (sizes, seeds)
        )
        for n in own:
            for weights in WEIGHTS:
                yield from (
                    Case(family, n, weights, first_seed + i) for i in range(count)
                )


def measure(case: Case) -> Row:
    """Draw one instance, search for its best objective and compute every bound."""
    x, y = case.family.draw(case.n, case.weights, case.seed)
    start = time.perf_counter()
    best = search(
        x, y, np.random.default_rng(case.seed), 2 if case.family.convex else STARTS
    )
    seconds = time.perf_counter() - start
    known = bounds_reference.known().get(case.key, np.inf)
    row: Row = {
        "family": case.family.name,
        "law": case.family.law,
        "bandwidth": case.family.bandwidth or "",
        "n": case.n,
        "size_x": x.size,
        "size_y": y.size,
        "weights": case.weights,
        "seed": case.seed,
        "best": min(float(best.objective), known),
        "best_s": seconds,
    }
    atoms = max(x.size, y.size)
    for name, bound in BOUNDS.items():
        if atoms > LARGEST.get(name, np.inf):
            row |= {name: "", f"{name}_s": ""}
            continue
        row |= _timed(name, partial(bound, _fresh(x), _fresh(y)))
    for effort in EFFORTS:
        if atoms > LARGEST.get(effort, np.inf):
            row |= {effort: "", f"{effort}_s": ""}
            continue
        row |= _timed(effort, partial(_lower, _fresh(x), _fresh(y), best.plan, effort))
    slack = 1e-10 * gw.GWProblem(x, y).product_objective
    values = [row[name] for name in (*BOUNDS, *EFFORTS) if row[name] != ""]
    row["above"] = sum(value > row["best"] + slack for value in values)
    return row


def _lower(x: gw.Space, y: gw.Space, plan: gw.Plan, effort: str) -> float:
    return gw.certify(x, y, plan, effort).lower


def _fresh(space: gw.Space) -> gw.Space:
    """A copy that keeps nothing of what was computed from the space.

    Shortest paths of a graph are kept.
    """
    return space.with_data(space.data, space.weights)


def _timed(name: str, run: Callable[[], Any]) -> Row:
    start = time.perf_counter()
    value = float(run())
    return {name: value, f"{name}_s": time.perf_counter() - start}


def search(
    x: gw.Space, y: gw.Space, rng: np.random.Generator, count: int
) -> gw.GWResult:
    """Return the result with the least objective of all starts.

    A few steps are taken from each, and many more from the best.
    """
    starts: list[Any] = ["product", _solve(x, y, gw.Sinkhorn()).plan]
    while len(starts) < count:
        starts.append(
            sorting_plan(rng.random(x.size), x.weights, rng.random(y.size), y.weights)
        )
    results = (
        _solve(x, y, gw.ConditionalGradient(1e-6, STEPS, init)) for init in starts
    )
    best = min(results, key=lambda result: float(result.objective))
    return _solve(
        x, y, gw.ConditionalGradient(init=best.plan, max_iterations=MORE_STEPS)
    )


def _solve(x: gw.Space, y: gw.Space, solver: gw.Solver) -> gw.GWResult:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", gw.ConvergenceWarning
        )  # any coupling's objective is an upper bound
        return gw.solve(x, y, solver)


def run(folder: Path, sizes: Sequence[int], seeds: int, seed: int) -> None:
    """Measure the instances that the folder does not hold yet."""
    path = folder / "trials.csv"
    done = {
        tuple(row[name] for name in ("family", "n", "weights", "seed"))
        for row in report.resume_rows(path)
    }
    pending = [case for case in cases(sizes, seeds, seed) if case.key not in done]
    facts: dict[str, Any] = {
        "seed": seed,
        "starts": STARTS,
        "bounds": [*BOUNDS, *EFFORTS],
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
    if pending:
        measure(
            Case(FAMILIES[0], 3, "uniform", 0)
        )  # the first solve loads libraries, which no time should include
    with tqdm(pending, unit="instance", disable=not pending) as progress:
        for case in progress:
            progress.set_description(f"{case.family.name} {case.n} {case.weights}")
            report.append_row(path, measure(case))


def column(trials: Sequence[Row], name: str) -> Numbers:
    """Return a column as numbers, NaN where there is none or its cell is empty."""
    cells = [row.get(name, "") for row in trials]
    return np.array([np.nan if cell == "" else float(cell) for cell in cells])


def shares(trials: Sequence[Row], name: str) -> Numbers:
    """Return a bound over the best objective, NaN where it was not computed."""
    return np.asarray(column(trials, name) / column(trials, "best"))


def _computed(values: Numbers) -> Numbers:
    return np.asarray(values[~np.isnan(values)])


def _over(values: Numbers, statistic: Callable[[Numbers], Any]) -> float | str:
    """Return a statistic of what was computed; an empty cell where nothing was."""
    found = _computed(values)
    return float(statistic(found)) if found.size else ""


def summarise(trials: Sequence[Row]) -> list[Row]:
    """Return one row for each family, size and kind of weights.

    A row holds mean shares of the best objective and median times.
    """
    names = (*BOUNDS, *EFFORTS)
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for trial in trials:
        groups.setdefault((trial["family"], trial["n"], trial["weights"]), []).append(
            trial
        )
    rows = []
    for (family, n, weights), group in groups.items():
        row: Row = {"family": family, "n": n, "weights": weights, "seeds": len(group)}
        row |= {
            "best": np.mean([trial["best"] for trial in group]),
            "above": sum(trial["above"] for trial in group),
        }
        row |= {name: _over(shares(group, name), np.mean) for name in names}
        row |= {
            f"{name}_s": _over(column(group, f"{name}_s"), np.median)
            for name in ("best", *names)
        }
        rows.append(row)
    return rows


def table(summary: Sequence[Row], weights: str) -> str:
    """Lay out the shares in percent, with the best one of each row in bold."""
    names = (*BOUNDS, *EFFORTS)
    rows = []
    for row in summary:
        if row["weights"] != weights:
            continue
        top = max(row[name] for name in BOUNDS if row[name] != "")
        cells = []
        for name in names:
            text = _formatted(row[name], ".1%")
            cells.append(f"**{text}**" if row[name] == top else text)
        rows.append(
            [row["family"], row["n"], f"{row['best']:.4g}", *cells, row["above"]]
        )
    return report.markdown_table(["family", "n", "best", *names, "above"], rows)


def _formatted(value: float | str, form: str) -> str:
    """Format a number; an empty cell stays one."""
    return "" if value == "" else format(value, form)


def times(trials: Sequence[Row]) -> str:
    """Lay out the median seconds of each bound by size."""
    names = ("best", *BOUNDS, *EFFORTS)
    rows = []
    for n in sorted({row["n"] for row in trials}):
        chosen = [row for row in trials if row["n"] == n]
        medians = [_over(column(chosen, f"{name}_s"), np.median) for name in names]
        rows.append([n, *(_formatted(median, ".2g") for median in medians)])
    return report.markdown_table(["n", *names], rows)


def checks(trials: Sequence[Row]) -> str:
    """Say in sentences what must hold on the suite, and whether it does."""
    share = {name: shares(trials, name) for name in (*BOUNDS, *EFFORTS)}
    count = sum(len(_computed(values)) for values in share.values())
    uniform = np.array([row["weights"] == "uniform" for row in trials])
    clouds = uniform & np.array([row["family"].startswith(CLOUDS) for row in trials])
    close = uniform & (clouds | np.array([row["family"] == "rbf" for row in trials]))
    strongest = np.maximum(share["second"], share["third"])
    ahead = share[EFFORTS[-1]] - strongest
    lead = share["convex"] - share["third"]
    least_ahead, least_lead = (_over(gaps, np.min) for gaps in (ahead, lead[close]))
    return f"""\
- Bounds above the best objective: \
{sum(row["above"] for row in trials)} of {count}.
- {EFFORTS[-1]} minus the larger of second and third, least share: \
{_formatted(least_ahead, "+.2e") or "not computed"}.
- convex minus third on uniform clouds and kernels, least share: \
{_formatted(least_lead, "+.2e") or "not computed"}.
- convex minus third on uniform Euclidean, squared and mixed clouds, mean share: \
{_formatted(_over(lead[clouds], np.mean), "+.4f") or "not computed"}."""


def draw(trials: Sequence[Row], summary: Sequence[Row], path: Path) -> None:
    """Draw what each bound takes and proves at one size, and the shares by family."""
    n = drawn_size(trials)
    uniform = [row for row in summary if row["weights"] == "uniform"]
    # Graphs of one size only are drawn in it.
    sized = {family.name for family in FAMILIES if not family.size}
    rows = [row for row in uniform if row["n"] == n or row["family"] not in sized]
    lines = max(len(rows), len(BOUNDS) + len(EFFORTS))
    with report.figure_style():
        figure = Figure(figsize=(12, 0.26 * lines + 1.6))
        times, proved, by_family = figure.subplots(1, 3, width_ratios=(1, 1, 1.3))
        _each_bound(times, proved, [row for row in trials if row["n"] == n])
        times.set_title(f"time, n = {n}", fontsize="medium")
        proved.set_title("proved, all families and weights", fontsize="medium")
        _by_family(by_family, rows)
        handles = by_family.get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower right", ncols=len(DRAWN))
        figure.savefig(path)


def drawn_size(trials: Sequence[Row]) -> int:
    """Return the size of which most bounds are known, of two such the larger.

    It is one of the sizes that many families have.
    """
    sizes = [int(row["n"]) for row in trials]
    most = max(sizes.count(n) for n in sizes)
    common = [n for n in set(sizes) if 2 * sizes.count(n) >= most]

    def known(n: int) -> int:
        rows = [row for row in trials if row["n"] == n]
        columns = [column(rows, name) for name in (*BOUNDS, *EFFORTS)]
        return sum(_computed(values).size > 0 for values in columns)

    return max(common, key=lambda n: (known(n), n))


def _each_bound(times: Axes, proved: Axes, trials: Sequence[Row]) -> None:
    """Draw a line a bound, the fastest first: median seconds, and shares proved.

    Of the shares the median over the instances, and the range of the middle half.
    """
    medians = {
        name: _over(column(trials, f"{name}_s"), np.median)
        for name in (*BOUNDS, *EFFORTS)
    }
    names = [name for name, median in medians.items() if median != ""]
    names.sort(key=lambda name: float(medians[name]))
    for place, name in enumerate(names):
        is_effort = name in EFFORTS
        style: Any = {"color": "C1" if is_effort else "C0", "ms": 5}
        style["marker"] = "s" if is_effort else "o"
        percent = 100 * _computed(shares(trials, name))
        low, middle, high = np.quantile(percent, (0.25, 0.5, 0.75))
        times.plot(medians[name], place, **style)
        proved.plot([low, high], [place, place], "-", color=style["color"], lw=1)
        proved.plot(middle, place, **style)
    for axes in (times, proved):
        axes.set_yticks(range(len(names)), names if axes is times else [])
        axes.invert_yaxis()
    times.set(xscale="log", xlabel="seconds (median)")
    proved.set(xlim=(0, 101), xlabel="% of the best objective (median, middle half)")
    times.plot([], [], "o", color="C0", label="bound, plain value")
    times.plot([], [], "s", color="C1", label="effort of certify,\nrounded outward")
    # The slowest bounds are at the bottom right.
    times.legend(fontsize="small", loc="lower left")


def _by_family(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw one line a family, and on it a mark for each bound."""
    percent = {name: 100 * column(rows, name) for name in DRAWN if name in BOUNDS}
    labels = [f"{row['family']}, {row['n']}" for row in rows]
    report.marks_by_row(axes, labels, percent)
    axes.tick_params(axis="y", labelsize="small")
    axes.set(xlim=(-1, 101), xlabel="% of the best objective (mean over the seeds)")
    axes.set_title("uniform weights, by family and size", fontsize="medium")


def publish(folder: Path) -> None:
    """Write the summary, the Markdown and the figure, and print the tables.

    All instances in the folder count.
    """
    trials = report.resume_rows(folder / "trials.csv")
    summary = summarise(trials)
    report.write_rows(folder / "summary.csv", summary)
    parts = [NOTES, "## Checks", checks(trials)]
    for weights in WEIGHTS:
        parts += [
            f"## Shares of the best objective, {weights} weights",
            table(summary, weights),
        ]
    text = "\n\n".join([*parts, "## Median seconds", times(trials)])
    (folder / "bounds.md").write_text(f"# Lower bounds\n\n{text}\n")
    draw(trials, summary, folder / "bounds.png")
    print(text, f"Written to {folder}.", sep="\n\n")


def main(argv: Sequence[str] | None = None) -> int:
    return report.Grid(
        run, publish, SIZES, QUICK_SIZES, (SEEDS, QUICK_SEEDS), "seeds"
    ).main(__doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
