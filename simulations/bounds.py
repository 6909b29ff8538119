"""How tight each lower bound is, and what it costs: a suite of families of instances.

Each bound as a share of the best objective found from 20 starts: conditional gradient
from the product coupling, from annealed Sinkhorn's plan and from random vertices. No
bound may be above that objective; the column ``above`` counts those that are.

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
from simulations._report import Row
from simulations.families import FAMILIES, WEIGHTS, Family

Numbers = npt.NDArray[Any]

SIZES, SEEDS, CLASSIC_SEEDS = (60, 200), 5, 2
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
}
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
two). It is an upper bound; the truth
  may be lower, and the shares higher.
- shares are means over the seeds of bound / best, in percent. \
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
    row: Row = {
        "family": case.family.name,
        "law": case.family.law,
        "bandwidth": case.family.bandwidth or "",
        "n": case.n,
        "size_x": x.size,
        "size_y": y.size,
        "weights": case.weights,
        "seed": case.seed,
        "best": float(best.objective),
        "best_s": time.perf_counter() - start,
    }
    for name, bound in BOUNDS.items():
        row |= _timed(name, partial(bound, _fresh(x), _fresh(y)))
    for effort in EFFORTS:
        row |= _timed(effort, partial(_lower, _fresh(x), _fresh(y), best.plan, effort))
    slack = 1e-10 * gw.GWProblem(x, y).product_objective
    row["above"] = sum(row[name] > row["best"] + slack for name in (*BOUNDS, *EFFORTS))
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
        row |= {
            name: np.mean([trial[name] / trial["best"] for trial in group])
            for name in names
        }
        row |= {
            f"{name}_s": np.median([trial[f"{name}_s"] for trial in group])
            for name in ("best", *names)
        }
        rows.append(row)
    return rows


def table(summary: Sequence[Row], weights: str) -> str:
    """Lay out the shares in percent, with the best one of each row in bold."""
    names = (*BOUNDS, *EFFORTS)
    rows = []
    for row in summary:
        if row["weights"] == weights:
            top = max(row[name] for name in BOUNDS)
            shares = [
                f"**{row[name]:.1%}**" if row[name] == top else f"{row[name]:.1%}"
                for name in names
            ]
            rows.append(
                [row["family"], row["n"], f"{row['best']:.4g}", *shares, row["above"]]
            )
    return report.markdown_table(["family", "n", "best", *names, "above"], rows)


def times(trials: Sequence[Row]) -> str:
    """Lay out the median seconds of each bound by size."""
    names = ("best", *BOUNDS, *EFFORTS)
    sizes = sorted({row["n"] for row in trials})
    rows = [[n, *(f"{_median(trials, n, name):.2g}" for name in names)] for n in sizes]
    return report.markdown_table(["n", *names], rows)


def _median(trials: Sequence[Row], n: int, name: str) -> float:
    return float(np.median([row[f"{name}_s"] for row in trials if row["n"] == n]))


def checks(trials: Sequence[Row]) -> str:
    """Say in sentences what must hold on the suite, and whether it does."""
    share = {
        name: np.array([row[name] / row["best"] for row in trials])
        for name in (*BOUNDS, *EFFORTS)
    }
    uniform = np.array([row["weights"] == "uniform" for row in trials])
    clouds = uniform & np.array([row["family"].startswith(CLOUDS) for row in trials])
    close = uniform & (clouds | np.array([row["family"] == "rbf" for row in trials]))
    strongest = np.maximum(share["second"], share["third"])
    lead = share["convex"] - share["third"]
    return f"""\
- Bounds above the best objective: \
{sum(row["above"] for row in trials)} of {len(trials) * len(share)}.
- {EFFORTS[-1]} minus the larger of second and third, least share: \
{(share[EFFORTS[-1]] - strongest).min():+.2e}.
- convex minus third on uniform clouds and kernels, least share: \
{lead[close].min():+.2e}.
- convex minus third on uniform Euclidean, squared and mixed clouds, mean share: \
{lead[clouds].mean():+.4f}."""


def draw(trials: Sequence[Row], summary: Sequence[Row], path: Path) -> None:
    """Draw the certified width against the time, and the shares by family.

    Each bound is a point of the first.
    """
    uniform = sorted(
        (row for row in summary if row["weights"] == "uniform"),
        key=lambda row: int(row["n"]),
    )
    largest = {row["family"]: row for row in uniform}
    with report.figure_style():
        figure = Figure(figsize=(10, 0.28 * len(largest) + 2))
        widths, shares = figure.subplots(1, 2, width_ratios=(1, 1.2))
        _widths(widths, trials)
        _shares(shares, list(largest.values()))
        figure.savefig(path)


def _widths(axes: Axes, trials: Sequence[Row]) -> None:
    """Draw medians over the instances of the commonest size.

    Of two such sizes the larger is taken; each effort of certify is a star.
    """
    sizes = [row["n"] for row in trials]
    n = max(set(sizes), key=lambda size: (sizes.count(size), size))
    for i, name in enumerate((*BOUNDS, *EFFORTS)):
        seconds, effort = _median(trials, n, name), name in EFFORTS
        width = np.median(
            [1 - row[name] / row["best"] for row in trials if row["n"] == n]
        )
        axes.plot(
            seconds,
            width,
            "*" if effort else "o",
            color=f"C{i % 5}",
            ms=9 if effort else 5,
        )
        axes.annotate(
            name,
            (seconds, width),
            (4, -10 if effort else 4),
            textcoords="offset points",
            size="small",
        )
    axes.set(
        xscale="log",
        ylim=(0, 1.02),
        xlabel="seconds (median)",
        ylabel="(best − bound) / best (median)",
    )
    axes.margins(x=0.25)
    axes.set_title(f"certified width against time, n = {n}", fontsize="medium")


def _shares(axes: Axes, rows: Sequence[Row]) -> None:
    for i, name in enumerate(("norm", "spectral", "second", "third", "convex")):
        place = np.arange(len(rows)) + (i - 2) * 0.16
        axes.barh(
            place, [100 * row[name] for row in rows], 0.15, color=f"C{i}", label=name
        )
    axes.set_yticks(
        np.arange(len(rows)),
        [f"{row['family']}, {row['n']}" for row in rows],
        fontsize="small",
    )
    axes.set(xlim=(0, 100), xlabel="% of the best objective")
    axes.set_title("uniform weights, family and size", fontsize="medium")
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.legend(fontsize="small", loc="lower right")


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
