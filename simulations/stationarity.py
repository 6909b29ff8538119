"""What a solver's success means: whether plans said to be stationary are.

The pairs are those on which solvers get stuck.

Every plan is judged by quantities that share no code with the solvers: the Frank-Wolfe
gap of the objective from the dense gradient and one exact linear program; where the
plan is a permutation, the best gain of exchanging the images of two atoms; where it is
the product coupling, the gain of the step along eigenvectors that theorem 8 (d)
describes. All are multiples of the tolerance times 4 |α||β| + 2 |R||S|, the most that
any plan can gain on the product coupling (theorem 3, iv).

    python -m simulations.stationarity --out DIR [--quick] [--seed S] [--seeds K]

writes trials.csv (one row a pair and solver, as soon as it is finished: an interrupted
run resumes), summary.csv, meta.json and stationarity.md.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import ot
from tqdm import tqdm

import gwtools as gw
from simulations import _report as report
from simulations import hard_families
from simulations._report import Row

Numbers = npt.NDArray[Any]

FIRST_SEED, SEEDS, QUICK_SEEDS = 100, 12, 1
SOLVERS: dict[str, gw.Solver] = {
    "ConditionalGradient": gw.ConditionalGradient(),
    "Sinkhorn": gw.Sinkhorn(),
}
# Mass by which a plan may differ from the product coupling or a permutation and still
# be taken for it.
NEAR = 1e-6
# Share of the tolerance by which a gap computed in another order may differ from the
# solver's own.
ROUNDING = 1e-3
UNITS = {
    "objective, best, product, scale": "GW_2^2, squared units of C",
    "over_best": "objective / best; empty where best is 0",
    "excess": "(objective - best) / product",
    "gap, swap, saddle": "decrease promised or made, "
    "over tolerance * (4 |alpha||beta| + 2 |R||S|); empty: does not apply",
    "seconds": "of the processor in gwtools.solve, its certificate included",
}
NOTES = """\
- gap: the Frank-Wolfe gap of the plan, computed apart from the solvers; swap: \
the best gain of exchanging the images of two
  atoms, where the plan is a permutation; saddle: the gain of the step along \
eigenvectors, where the plan is the product
  coupling. All are the worst over the seeds, \
over tolerance · (4‖α‖‖β‖ + 2‖R‖‖S‖): above 1 the plan is not
  stationary to the solver's tolerance (swaps are no small steps: \
a plan may be stationary and a swap still gain).
- success, and the gap of these alone; over best: the mean of objective / best, \
where best is not 0; excess: the mean of
  (objective - best) / (objective of the product coupling), everywhere; \
seconds: the median.
- best is the least objective known, from `simulations/reference/hard_pairs.csv`. \
Weights are uniform."""


def scale(C: Numbers, D: Numbers) -> float:
    """Return 4 |α||β| + 2 |R||S|, in squared units of C.

    It is the most that a plan gains on the product coupling.
    """
    (row_x, rest_x), (row_y, rest_y) = _norms(C), _norms(D)
    return 4 * row_x * row_y + 2 * rest_x * rest_y


def _norms(C: Numbers) -> tuple[float, float]:
    """Norms of the centred row means and of the doubly centred matrix.

    Weights are uniform.
    """
    rows = C.mean(axis=1) - C.mean()
    rest = C - C.mean() - rows[:, None] - rows[None, :]
    return float(np.sqrt(np.mean(rows**2))), float(np.sqrt(np.mean(rest**2)))


def gradient(C: Numbers, D: Numbers, plan: Numbers) -> Numbers:
    """Return 2 L(π) of theorem 8 (b), shape (n, m), under uniform weights."""
    squares = np.mean(C**2, axis=1)[:, None] + np.mean(D**2, axis=1)[None, :]
    return 2 * squares - 4 * C @ plan @ D


def frank_wolfe_gap(C: Numbers, D: Numbers, plan: Numbers) -> float:
    """Return what the linearisation at the plan still promises, rounded up.

    The program's dual is its lower end.
    """
    cost = gradient(C, D, plan)
    least = cost.min()
    unit = np.ptp(cost) or 1.0  # the simplex has absolute tolerances
    scaled = (cost - least) / unit
    a, b = (np.full(k, 1 / k) for k in cost.shape)
    _, log = ot.lp.emd(a, b, scaled, numItermax=10**8, log=True, center_dual=False)
    u, v = log["u"], log["v"]
    lower = a @ u + b @ v + min(0.0, (scaled - u[:, None] - v).min())
    return float(max(0.0, np.vdot(scaled, plan) - lower) * unit)


def images(plan: Numbers) -> Numbers | None:
    """Return the permutation that a plan is, as the image of every atom of C.

    None where it is none.
    """
    n, m = plan.shape
    image = plan.argmax(axis=1)
    if (
        n != m
        or len(set(image.tolist())) < n
        or 1 - plan[np.arange(n), image].sum() > NEAR
    ):
        return None
    return image


def swap_gain(C: Numbers, D: Numbers, image: Numbers) -> float:
    """Return the largest decrease by exchanging the images of two atoms.

    It is below 0 where every exchange climbs.

    With B = D over the images, F = const − 2/n² Σ C_ik B_ik, and an exchange of i and j
    changes the rows and columns i and j of B alone. O(n³) for all pairs, in one product
    C B.
    """
    n = len(C)
    B = D[np.ix_(image, image)]
    product = C @ B
    own, c, b = np.diag(product), np.diag(C), np.diag(B)
    # Σ_k (C_ik − C_jk)(B_jk − B_ik) over all k, less the terms k = i and k = j, which
    # the diagonals replace.
    gain = product + product.T - own[:, None] - own[None, :]
    gain -= (c[:, None] - C) * (B - b[:, None]) + (C - c[None, :]) * (b[None, :] - B)
    gain += 0.5 * (c[:, None] - c[None, :]) * (b[None, :] - b[:, None])
    np.fill_diagonal(gain, -np.inf)
    return float(4 / n**2 * gain.max())


def saddle_gain(C: Numbers, D: Numbers) -> float:
    """Return the largest decrease by a step from the product coupling.

    The step is along the extreme eigenvectors (theorem 8 d).
    """
    n, m = len(C), len(D)
    product = np.full((n, m), 1 / (n * m))
    slope = gradient(C, D, product)
    gains = [0.0]
    for end in (0, -1):
        u, v = (_mode(matrix, end) for matrix in (C, D))
        for direction in (np.outer(u, v), -np.outer(u, v)):
            if direction.min() < 0.0:
                step = direction * (1 / (n * m) / -direction.min())
                gains.append(
                    float(2 * np.vdot(step, C @ step @ D) - np.vdot(slope, step))
                )
    return max(gains)


def _mode(C: Numbers, end: int) -> Numbers:
    """The eigenvector at one end of the spectrum of the doubly centred matrix.

    It is of zero sum, as every other one is.
    """
    rows = C.mean(axis=1) - C.mean()
    vector = np.linalg.eigh(C - C.mean() - rows[:, None] - rows[None, :])[1][:, end]
    return vector - vector.mean()


def judge(C: Numbers, D: Numbers, plan: Numbers, tolerated: float) -> Row:
    """Return gap, swap and saddle of a plan as multiples of the tolerated decrease.

    Empty where one does not apply.
    """
    image = images(plan)
    at_product = np.abs(plan - 1 / plan.size).sum() <= NEAR
    return {
        "gap": frank_wolfe_gap(C, D, plan) / tolerated,
        "swap": "" if image is None else max(0.0, swap_gain(C, D, image)) / tolerated,
        "saddle": saddle_gain(C, D) / tolerated if at_product else "",
    }


def measure(known: Row, name: str) -> Row:
    """Solve one pair by one solver and judge the plan."""
    C, D = hard_families.draw(known["family"], known["seed"])[:2]
    solver = SOLVERS[name]
    start = time.process_time()  # other work of the machine does not count
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gw.ConvergenceWarning)  # the status is recorded
        result = gw.solve(C, D, solver)
    seconds = time.process_time() - start
    objective, best, size = float(result.objective), known["best"], scale(C, D)
    row: Row = {"family": known["family"], "seed": known["seed"], "solver": name}
    row |= {
        "status": result.status.name,
        "success": int(result.status.success),
        "objective": objective,
    }
    row |= {
        "best": best,
        "product": known["product"],
        "over_best": objective / best if best > 0 else "",
    }
    row |= {"excess": (objective - best) / known["product"], "scale": size}
    row |= judge(C, D, result.plan.dense(), solver.tolerance * size)
    return row | {"iterations": result.iterations, "seconds": seconds}


def known_pairs(first: int, count: int) -> list[Row]:
    """Return the rows of the reference with so many seeds from the first."""
    return [
        row
        for row in report.read_rows(hard_families.REFERENCE)
        if first <= row["seed"] < first + count
    ]


def run(folder: Path, first: int, count: int) -> None:
    """Measure the pairs and solvers that the folder does not hold yet."""
    path = folder / "trials.csv"
    done = {
        (row["family"], row["seed"], row["solver"]) for row in report.resume_rows(path)
    }
    known = known_pairs(first, count)
    pending = [
        (row, name)
        for row in known
        for name in SOLVERS
        if (row["family"], row["seed"], name) not in done
    ]
    facts: dict[str, Any] = {
        "seed": first,
        "solvers": {k: repr(v) for k, v in SOLVERS.items()},
        "units": UNITS,
    }
    # Finished results may be summarised under other versions, but never be mixed with
    # new ones.
    report.claim(folder, facts | {"versions": report.versions()} if pending else facts)
    if done:
        print(
            f"{len(done)} solves are in {folder} already; "
            "delete that folder to run them again."
        )
    for name in SOLVERS if pending else ():
        measure(
            known[0], name
        )  # the first solve loads libraries, which no time should include
    with tqdm(pending, unit="solve", disable=not pending) as progress:
        for row, name in progress:
            progress.set_description(f"{row['family']} {row['seed']} {name}")
            report.append_row(path, measure(row, name))


def summarise(trials: Sequence[Row]) -> list[Row]:
    """Return one row for each family and solver."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for trial in trials:
        groups.setdefault((trial["family"], trial["solver"]), []).append(trial)
    return [
        {
            "family": family,
            "solver": solver,
            "seeds": len(group),
            "success": np.mean([row["success"] for row in group]),
            "gap": _over(max, group, "gap"),
            "gap_of_successes": _over(
                max, [row for row in group if row["success"]], "gap"
            ),
            "swap": _over(max, group, "swap"),
            "saddle": _over(max, group, "saddle"),
            "over_best": _over(np.mean, group, "over_best"),
            "excess": _over(np.mean, group, "excess"),
            "seconds": _over(np.median, group, "seconds"),
        }
        for (family, solver), group in groups.items()
    ]


def _over(
    statistic: Callable[[list[float]], Any], rows: Sequence[Row], name: str
) -> float:
    """A statistic of the rows to which a quantity applies; NaN where there are none."""
    values = [row[name] for row in rows if row[name] != ""]
    return float(statistic(values)) if values else float("nan")


def table(summary: Sequence[Row]) -> str:
    """Lay the families and solvers out."""
    header = [
        "family",
        "solver",
        "seeds",
        "success",
        "gap",
        "gap of successes",
        "swap",
        "saddle",
    ]
    header += ["over best", "excess", "seconds"]
    rows = [
        [
            *(row[name] for name in ("family", "solver", "seeds")),
            f"{row['success']:.0%}",
            *(
                _number(row[name], ".2g")
                for name in ("gap", "gap_of_successes", "swap", "saddle")
            ),
            *(_number(row[name], ".4g") for name in ("over_best", "excess")),
            f"{row['seconds']:.3f}",
        ]
        for row in summary
    ]
    return report.markdown_table(header, rows)


def _number(value: float, form: str) -> str:
    return "" if np.isnan(value) else f"{value:{form}}"


def checks(trials: Sequence[Row]) -> str:
    """Say in sentences how many successes are none, and what the solvers took.

    One line for each solver.
    """
    seeds = [row["seed"] for row in trials]
    lines = [
        f"- Pairs: {len(trials) // len(SOLVERS)}, "
        f"of seeds {min(seeds)} to {max(seeds)}."
    ]
    for solver in SOLVERS:
        rows = [row for row in trials if row["solver"] == solver]
        successes = [row for row in rows if row["success"]]
        above = {
            name: sum(row[name] != "" and row[name] > 1 + ROUNDING for row in successes)
            for name in ("gap", "swap", "saddle")
        }
        seconds = [row["seconds"] for row in rows]
        statuses = sorted({row["status"] for row in rows})
        counted = ", ".join(
            f"{sum(row['status'] == status for row in rows)} {status}"
            for status in statuses
        )
        lines.append(
            f"- {solver}: {len(successes)} of {len(rows)} successes ({counted}). "
            f"Successes above the tolerance: by the gap {above['gap']}, "
            f"by a swap {above['swap']}, at the saddle {above['saddle']}. "
            f"{sum(seconds):.1f} s in all, median {np.median(seconds):.3f} s."
        )
    return "\n".join(lines)


def publish(folder: Path) -> None:
    """Write the summary and the Markdown of all trials, and print the tables."""
    trials = report.resume_rows(folder / "trials.csv")
    summary = summarise(trials)
    report.write_rows(folder / "summary.csv", summary)
    text = "\n\n".join(
        [NOTES, "## Checks", checks(trials), "## Families", table(summary)]
    )
    (folder / "stationarity.md").write_text(
        f"# What a solver's success means\n\n{text}\n"
    )
    print(text, f"Written to {folder}.", sep="\n\n")


def main(argv: Sequence[str] | None = None) -> int:
    parser = report.command_line(__doc__)
    parser.set_defaults(seed=FIRST_SEED)
    parser.add_argument(
        "--seeds",
        type=int,
        help=f"seeds a family (default: {SEEDS}, quick {QUICK_SEEDS})",
    )
    arguments = parser.parse_args(argv)
    count = arguments.seeds or (QUICK_SEEDS if arguments.quick else SEEDS)
    if not FIRST_SEED <= arguments.seed <= arguments.seed + count <= FIRST_SEED + SEEDS:
        parser.error(
            f"the reference has seeds {FIRST_SEED} to {FIRST_SEED + SEEDS - 1}"
        )
    folder = report.results_folder(arguments)
    return report.run_and_publish(
        folder, partial(run, folder, arguments.seed, count), publish
    )


if __name__ == "__main__":
    sys.exit(main())
