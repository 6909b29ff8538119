"""The Gromov-Wasserstein simulation of InfiGFusion, beside the published table.

The table adds what the published one lacks.

n points from N(0, I) against n from N(1, I) in three dimensions, Euclidean distances,
squared loss. Exact is conditional gradient from the product coupling; Sinkhorn is the
proximal solver, which never sees Exact's plan; Approx is the sorting-based estimate
with p = 1; Best found is what ``solve`` does by default.

    python -m simulations.gw_table --out DIR [--quick] [--seed S] [--sizes N ...]
        [--trials T]

writes trials.csv (one row a trial, as soon as it is finished: an interrupted run
resumes), summary.csv, meta.json, gw_table.md and gw_table.png.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.spatial.distance import cdist
from tqdm import tqdm

import gwtools as gw
from simulations import _report as report
from simulations._report import Row

Numbers = npt.NDArray[Any]

PUBLISHED = Path(__file__).parent / "reference" / "gw_simulation_table.csv"
DIMENSION = 3
SIZES = (50, 100, 200, 500, 1000, 1500, 2000, 2500, 3000)
TRIALS = 5
QUICK_SIZES, QUICK_TRIALS = (50, 100, 200, 500), 3
WARM = 60  # points of the run before the measured ones: more than compiled programs ask
SOLVERS: dict[str, gw.Solver] = {
    "exact": gw.ConditionalGradient(init="product"),
    "sinkhorn": gw.Sinkhorn(),
    "approx": gw.Sorted(kind="row_means", p=1),
}
BEST = "best"  # the default of solve
UNITS = {
    "exact, sinkhorn, best": "GW_2^2, squared units of the distances",
    "approx": "W_1 of the row means, units of the distances",
    "lower, upper, approx_squared": "squared units of the distances",
    "time": "seconds of the processor in gwtools.solve, its certificate included, "
    "the distance matrices excluded",
    "std": "standard deviation over the trials (divisor trials - 1)",
}
NOTES = f"""\
Points in {DIMENSION} dimensions, Euclidean distances; the published page does not \
state its dimension, loss and units.

- Exact, Sinkhorn, Best found and the interval are GW_2^2, in squared units of the \
distances. Approx is in units of the distances:
  its RE, formed as published, depends on the unit of length (gwtools/THEORY.md, \
theorem 9). Approx^2 is in the unit of
  Exact, and a lower bound of GW_2^2 (theorem 1).
- RE of Sinkhorn is the mean of (Sinkhorn - Exact) / Exact with its sign, \
RE of Approx that of |Approx - Exact| / Exact.
- Our ± is the standard deviation over the trials. The published ± is not \
explained; that of Exact is about our standard
  deviation over the root of the number of trials, so probably a standard error.
- Exact is conditional gradient from the product coupling, a stationary point; \
Best found is `gwtools.solve(x, y)`.
- The interval is proved, of the best plan of Exact, Sinkhorn and Best found: \
no coupling is below its lower end, \
and some coupling attains its upper end.
- Times are seconds of the processor a solve, certificate included."""
READINGS = """\
z is (ours - published) / root of (deviation^2 + published ±^2). \
"sd" takes our standard deviation as the deviation;
"se", the stricter reading, our standard error, as the published ± probably is one."""


def clouds(seed: int, n: int, trial: int) -> tuple[Numbers, Numbers]:
    """Draw n points from N(0, I) and n from N(1, I).

    They depend on nothing but the arguments.
    """
    rng = np.random.default_rng(np.random.SeedSequence((seed, n, trial)))
    return rng.standard_normal((n, DIMENSION)), 1 + rng.standard_normal((n, DIMENSION))


def measure(seed: int, n: int, trial: int) -> Row:
    """Solve one instance with the three solvers, and by default."""
    matrices = [cdist(points, points) for points in clouds(seed, n, trial)]
    results: dict[str, gw.GWResult] = {}
    seconds: dict[str, float] = {}
    solvers: dict[str, gw.Solver | None] = {**SOLVERS, BEST: None}
    for name, solver in solvers.items():
        # A space keeps what was computed from it, so each solver gets new ones.
        x, y = (gw.DenseSpace(matrix) for matrix in matrices)
        start = time.process_time()  # other work of the machine does not count
        results[name] = gw.solve(x, y, solver)
        seconds[f"time_{name}_s"] = time.process_time() - start
    exact, sinkhorn, approx, best = results.values()
    certificates = [result.certificate for result in (exact, sinkhorn, best)]
    return {
        "n": n,
        "trial": trial,
        "exact": float(exact.objective),
        "sinkhorn": float(sinkhorn.objective),
        "approx": float(approx.estimate),
        "best": float(best.objective),
        "lower": max(certificate.lower for certificate in certificates),
        "upper": min(certificate.upper for certificate in certificates),
        **seconds,
        "exact_status": exact.status.name,
        "sinkhorn_status": sinkhorn.status.name,
        "best_status": best.status.name,
    }


def run(folder: Path, sizes: Sequence[int], trials: int, seed: int) -> None:
    """Measure the trials that the folder does not hold yet."""
    done = {
        (row["n"], row["trial"]) for row in report.resume_rows(folder / "trials.csv")
    }
    pending = [
        (n, trial) for n in sizes for trial in range(trials) if (n, trial) not in done
    ]
    facts: dict[str, Any] = {
        "seed": seed,
        "dimension": DIMENSION,
        "solvers": {k: repr(v) for k, v in SOLVERS.items()} | {BEST: "by default"},
        "units": UNITS,
    }
    # Finished results may be summarised under other versions, but never be mixed with
    # new ones.
    report.claim(folder, facts | {"versions": report.versions()} if pending else facts)
    if done:
        print(
            f"{len(done)} trials are in {folder} already; "
            "delete that folder to run them again."
        )
    if pending:
        # The first solve loads libraries and compiles, which no time should include.
        measure(seed, min(WARM, max(n for n, _ in pending)), 0)
    with tqdm(pending, unit="trial", disable=not pending) as progress:
        for n, trial in progress:
            progress.set_description(f"n = {n}")
            report.append_row(folder / "trials.csv", measure(seed, n, trial))


def summarise(trials: Sequence[Row]) -> list[Row]:
    """Return one row a size.

    A row holds the published columns in their order, what they lack, then the published
    figures.
    """
    published = {row["n"]: row for row in report.read_rows(PUBLISHED)}
    names = [name for name in next(iter(published.values())) if name != "n"]
    rows = []
    for n in sorted({row["n"] for row in trials}):
        row = _summary([trial for trial in trials if trial["n"] == n])
        figures = published.get(n, {})
        rows.append(
            {"n": n, **{name: row[name] for name in names}}
            | row
            | {f"published_{name}": figures.get(name, float("nan")) for name in names}
            | _deviations(row, figures)
        )
    return rows


def _summary(trials: Sequence[Row]) -> Row:
    """Summarise the trials of one size.

    Relative errors are means over trials, not ratios of means.
    """
    column = {name: np.array([trial[name] for trial in trials]) for name in trials[0]}
    exact, sinkhorn, approx = column["exact"], column["sinkhorn"], column["approx"]
    row: Row = {}
    for name, values in {
        "exact": exact,
        "sinkhorn": sinkhorn,
        "approx": approx,
    }.items():
        row |= {f"{name}_mean": np.mean(values), f"{name}_std": _std(values)}
    row |= {
        "sinkhorn_re": np.mean((sinkhorn - exact) / exact),
        "approx_re": np.mean(np.abs(approx - exact) / exact),
    }
    row |= {f"time_{name}_s": np.mean(column[f"time_{name}_s"]) for name in SOLVERS}
    return row | {
        "best_mean": np.mean(column[BEST]),
        "best_std": _std(column[BEST]),
        "time_best_s": np.mean(column["time_best_s"]),
        "lower_mean": np.mean(column["lower"]),
        "upper_mean": np.mean(column["upper"]),
        "approx_squared_mean": np.mean(approx**2),
        "approx_squared_std": _std(approx**2),
        "approx_squared_re": np.mean(np.abs(approx**2 - exact) / exact),
        "trials": len(trials),
        "sinkhorn_above": int(
            np.sum(sinkhorn > exact * (1 + 1e-9))
        ),  # not by rounding alone
    }


def _std(values: Numbers) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def _deviations(ours: Row, published: Row) -> Row:
    """Return by how many combined deviations our means differ from the published ones.

    Their ± is read in two ways.
    """
    row = {}
    for name in ("exact", "approx"):
        difference = ours[f"{name}_mean"] - published.get(f"{name}_mean", float("nan"))
        spread, theirs = ours[f"{name}_std"], published.get(f"{name}_std", float("nan"))
        row[f"{name}_z_sd"] = difference / np.hypot(spread, theirs)
        row[f"{name}_z_se"] = difference / np.hypot(
            spread / np.sqrt(ours["trials"]), theirs
        )
    return row


def table(summary: Sequence[Row]) -> str:
    """Lay out the table: our figures, then what the published table lacks.

    Each row ends in the published figures of its size.
    """
    header = [
        "n",
        "Exact",
        "Sinkhorn",
        "Approx",
        "Best found",
        "RE Sinkhorn",
        "RE Approx",
        "s Exact",
        "s Sinkhorn",
        "s Approx",
        "s Best found",
    ]
    header += [
        "certified interval",
        "Approx^2",
        "published Exact",
        "published Approx",
        "published RE Approx",
    ]
    rows = [
        [
            row["n"],
            *(_pm(row, name) for name in (*SOLVERS, BEST)),
            f"{row['sinkhorn_re']:+.4%}",
            f"{row['approx_re']:.4f}",
            *(f"{row[f'time_{name}_s']:.4f}" for name in (*SOLVERS, BEST)),
            f"[{row['lower_mean']:.4f}, {row['upper_mean']:.4f}]",
            _pm(row, "approx_squared"),
            _pm(row, "published_exact"),
            _pm(row, "published_approx"),
            f"{row['published_approx_re']:.4f}",
        ]
        for row in summary
    ]
    return report.markdown_table(header, rows)


def _pm(row: Row, name: str) -> str:
    return f"{row[f'{name}_mean']:.4f} ± {row[f'{name}_std']:.4f}"


def checks(summary: Sequence[Row]) -> str:
    """Lay out the comparison with the published means.

    It also tells on how many trials Sinkhorn was above Exact.
    """
    z = ["exact_z_sd", "exact_z_se", "approx_z_sd", "approx_z_se"]
    header = [
        "n",
        *(name.replace("_z_", " z ").capitalize() for name in z),
        "RE Sinkhorn",
        "Sinkhorn above Exact",
    ]
    rows = [
        [
            row["n"],
            *(f"{row[name]:+.2f}" for name in z),
            f"{row['sinkhorn_re']:+.4%}",
            f"{row['sinkhorn_above']} of {row['trials']}",
        ]
        for row in summary
    ]
    return report.markdown_table(header, rows)


def draw(summary: Sequence[Row], path: Path) -> None:
    """Draw values with error bars, and times, against n.

    Filled is ours, hollow is published. The approximation is squared, so that all
    values have one unit; of the published one only the mean is known.
    """
    column = {name: np.array([row[name] for row in summary]) for name in summary[0]}
    column["published_approx_squared_mean"] = column["published_approx_mean"] ** 2
    with report.figure_style():
        figure = Figure(figsize=(9, 4.4))
        values, times = figure.subplots(1, 2)
        lower, upper = column["lower_mean"], column["upper_mean"]
        interval = values.fill_between(column["n"], lower, upper, fc="0.9", ec="0.5")
        interval.set_label("certified interval")
        for i, name in enumerate(SOLVERS):
            shown = "approx_squared" if name == "approx" else name
            for whose in ("", "published_"):
                seconds = column[f"{whose}time_{name}_s"]
                _curve(times, column["n"], seconds, None, i, whose)
                # The error bars of a square would reach below 0.
                std = None if shown != name else column[f"{whose}{name}_std"]
                mean = column[f"{whose}{shown}_mean"]
                _curve(values, column["n"], mean, std, i, whose)
        _best_curves(values, times, column)
        values.set_title(
            "mean ± standard deviation; Approx$^2$: mean", fontsize="medium"
        )
        values.set_ylabel("GW$_2^2$, squared units of the distances")
        times.set_title("published: on another machine", fontsize="medium")
        times.set_ylabel("seconds a solve")
        handles = values.get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=4)
        for axes in (values, times):
            axes.set(xscale="log", yscale="log", xlabel="points n")
            axes.set_xticks(
                column["n"],
                [str(n) for n in column["n"]],
                fontsize="small",
                rotation=60,
            )
            axes.minorticks_off()
        figure.savefig(path)


def _best_curves(values: Axes, times: Axes, column: Row) -> None:
    """Draw what the default finds, where that is recorded; published it is not."""
    if "best_mean" not in column:
        return
    i, n = len(SOLVERS), column["n"]
    _curve(values, n, column["best_mean"], column["best_std"], i, "")
    _curve(times, n, column["time_best_s"], None, i, "")


def _curve(
    axes: Axes, n: Numbers, mean: Numbers, std: Numbers | None, i: int, whose: str
) -> None:
    """Draw one solver.

    The sizes are moved apart a little, as published Exact and Sinkhorn are equal to
    every digit.
    """
    names = ["Exact", "Sinkhorn", "Approx$^2$", "Best found"]
    label = f"{whose.rstrip('_')} {names[i]}".strip()
    style: dict[str, Any] = {"ls": ":", "mfc": "white"} if whose else {"ls": "-"}
    axes.errorbar(
        n * (1 + 0.04 * i),
        mean,
        std,
        color=f"C{i}",
        marker="os^D"[i],
        ms=4,
        lw=1,
        label=label,
        **style,
    )


def publish(folder: Path) -> None:
    """Write the summary, the Markdown and the figure, and print the tables.

    All trials in the folder count.
    """
    summary = summarise(report.resume_rows(folder / "trials.csv"))
    report.write_rows(folder / "summary.csv", summary)
    text = "\n\n".join(
        [
            table(summary),
            NOTES,
            "## Against the published means",
            checks(summary),
            READINGS,
        ]
    )
    (folder / "gw_table.md").write_text(
        f"# The Gromov-Wasserstein simulation\n\n{text}\n"
    )
    draw(summary, folder / "gw_table.png")
    print(text, f"Written to {folder}.", sep="\n\n")


def main(argv: Sequence[str] | None = None) -> int:
    return report.Grid(
        run, publish, SIZES, QUICK_SIZES, (TRIALS, QUICK_TRIALS), "trials"
    ).main(__doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
