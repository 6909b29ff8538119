"""Other programs that bound or solve Gromov-Wasserstein globally, on equal instances.

gwsdp (github.com/tbng/gwsdp; Chen, Nguyen, Koh and Soh 2024, arXiv:2312.14572): a
semidefinite relaxation, here by SCS, beside ``bounds.semidefinite``. Global-GW
(github.com/thaning0/Global-Gromov-Wasserstein, a Python port of Ryner, Kronqvist and
Karlsson 2023, arXiv:2307.09057): cutting planes between squared-Euclidean clouds of one
size and equal weights, beside ``BranchAndBound``.

    python -m simulations.global_rivals --out DIR [--quick] [--seed S] [--seeds K]
        [--python PATH] [--methods NAME ...]

Both rivals run in processes of their own, of the interpreter ``--python``: that which
can import ``gwsdp`` or ``ggw`` (set PYTHONPATH to their folders). Where it cannot, a
sentence says so and they are skipped. One row an instance and method is appended to
trials.csv as soon as it is finished: an interrupted run resumes. Then summary.csv,
meta.json and global_rivals.md are written.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

import gwtools as gw
from simulations import _report as report
from simulations._report import Row
from simulations.families import FAMILIES, Family

SEEDS, QUICK_SEEDS = 3, 1
TIME_LIMIT, QUICK_TIME_LIMIT = 300.0, 20.0  # seconds an instance and method
TOLERANCE = 1e-6  # of Global-GW and BranchAndBound, as a share of the objective
SCS_TOLERANCE, SCS_ITERATIONS = 1e-5, 10_000  # the defaults of gwsdp
KEY = ("method", "family", "n", "weights", "seed")
# Families, sizes and weights on which each pair of programs runs.
RELAXED = ("euclidean_3", "mixed_2_3", "rbf", "erdos_renyi")
RELAXED_SIZES, QUICK_RELAXED_SIZES = (6, 8, 10, 12), (4,)
CLOUDS = {"squared_2": (20, 60, 100, 200), "squared_2_3": (20, 30, 50)}
QUICK_CLOUDS = {"squared_2": (6,), "squared_2_3": (5,)}
UNITS = {
    "objective": "GW_2^2 of the best plan known beside the method, squared units of C",
    "gap": "(objective - lower) / objective; negative where lower is above it",
    "seconds": "of the processor, of the solver alone; loading of libraries excluded",
}
# Each reads an archive of arrays, and prints what it found and the seconds it took.
GWSDP = f"""\
import sys, time, numpy as np
from gwsdp import solve_gw_sdp
data = np.load(sys.argv[1])
C, D, a, b = (data[name] for name in "CDab")
solve_gw_sdp(C[:2, :2], D[:2, :2], a[:2] / a[:2].sum(), b[:2] / b[:2].sum(), "scs")
start = time.process_time()
_, _, value = solve_gw_sdp(
    C, D, a, b, solver="scs", max_iters={SCS_ITERATIONS}, tol={SCS_TOLERANCE}
)
print("lower", value)
print("seconds", time.process_time() - start)
"""
GLOBAL_GW = """\
import sys, time, numpy as np
from ggw import gw_global, gw_obj
data = np.load(sys.argv[1])
x, y, gap = data["x"], data["y"], float(data["gap"])
n = len(x)
start = time.process_time()
plan, log = gw_global(x, y, epsilon=n**2 * gap, IterMax=10**6, log=True)
print("seconds", time.process_time() - start)
C, D = (((z[:, None] - z[None]) ** 2).sum(2) for z in (x, y))
# Its objective is that of permutation matrices, n^2 GW_2^2; its bounds lack a constant.
print("objective", gw_obj(C, D, plan) / n**2)
print("gap", log["gap_cache"][-1] / n**2)
"""
NOTES = f"""\
- gap: (objective - lower) / objective, objective being the least of `solve(x, y)`, \
50 starts and what the methods find. A
  negative gap is of a value above an objective, which no lower bound can be.
- finished: instances that ended within {TIME_LIMIT:.0f} seconds of the clock; gaps \
and times are of these. false: of
  these, lower ends above the objective by more than a millionth of it.
- gwsdp: SCS to {SCS_TOLERANCE:g}, {SCS_ITERATIONS} iterations; its value is that of \
the solver and no proof. Beside
  it `gwtools.bounds.semidefinite`.
- Global-GW: centred clouds of one size, equal weights, until its gap is \
{TOLERANCE:g} of the objective. Beside it
  `gwtools.BranchAndBound(tolerance={TOLERANCE:g})`."""


class Outcome(NamedTuple):
    """What a method ends with, in squared units of C; seconds of the processor.

    ``lower`` or ``gap`` is None where it says nothing about it.
    """

    seconds: float
    lower: float | None = None
    objective: float | None = None
    gap: float | None = None


def _squared_2_3(rng: np.random.Generator, n: int) -> tuple[gw.Space, gw.Space]:
    x, y = (
        gw.PointCloud(rng.standard_normal((n, d)), metric="sqeuclidean") for d in (2, 3)
    )
    return x, y


SQUARED_2_3 = Family(
    "squared_2_3", "N(0, I_2) against N(0, I_3), squared distances", _squared_2_3
)
BY_NAME = {family.name: family for family in (*FAMILIES, SQUARED_2_3)}


@dataclass(frozen=True)
class Case:
    """One method on one instance."""

    method: str
    family: str
    n: int
    weights: str
    seed: int

    @property
    def key(self) -> tuple[Any, ...]:
        """What identifies its row."""
        return self.method, self.family, self.n, self.weights, self.seed

    def draw(self) -> tuple[gw.Space, gw.Space]:
        """Draw the spaces; they depend on nothing but the names."""
        return BY_NAME[self.family].draw(self.n, self.weights, self.seed)


def cases(quick: bool, seeds: int, first: int) -> Iterator[Case]:
    """Yield all instances with their methods: small ones first."""
    chosen = range(first, first + seeds)
    for n in QUICK_RELAXED_SIZES if quick else RELAXED_SIZES:
        for family in RELAXED:
            for weights in ("uniform", "random"):
                for seed in chosen:
                    for method in ("gwsdp", "semidefinite"):
                        yield Case(method, family, n, weights, seed)
    for family, sizes in (QUICK_CLOUDS if quick else CLOUDS).items():
        for n in sizes:
            for seed in chosen:
                for method in ("Global-GW", "BranchAndBound"):
                    yield Case(method, family, n, "uniform", seed)


def _run_rival(
    code: str, arrays: dict[str, Any], python: str, limit: float
) -> Outcome | None:
    """Run a rival in a process of its own; return None where the time is over."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "instance.npz"
        np.savez(path, **arrays)
        command = [python, "-W", "ignore", "-c", code, str(path)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=True, timeout=limit
            )
        except subprocess.TimeoutExpired:
            return None
    words = [line.split() for line in done.stdout.splitlines()]
    found = {word[0]: float(word[1]) for word in words if word[0] in Outcome._fields}
    return Outcome(**found)


def gwsdp(
    x: gw.Space, y: gw.Space, best: float, python: str, limit: float
) -> Outcome | None:
    """Run the semidefinite relaxation of gwsdp."""
    arrays = {"C": x.dense(), "D": y.dense(), "a": x.weights, "b": y.weights}
    return _run_rival(GWSDP, arrays, python, limit)


def global_gw(
    x: gw.Space, y: gw.Space, best: float, python: str, limit: float
) -> Outcome | None:
    """Run the cutting planes of Global-GW."""
    points = [np.asarray(space.data) for space in (x, y)]
    first, second = (cloud - cloud.mean(axis=0) for cloud in points)
    arrays = {"x": first, "y": second, "gap": TOLERANCE * best}
    return _run_rival(GLOBAL_GW, arrays, python, limit)


def semidefinite(
    x: gw.Space, y: gw.Space, best: float, python: str, limit: float
) -> Outcome:
    """Compute our bound by the moment matrix."""
    start = time.process_time()
    lower = float(gw.bounds.semidefinite(x, y))
    return Outcome(time.process_time() - start, lower=lower)


def branch_and_bound(
    x: gw.Space, y: gw.Space, best: float, python: str, limit: float
) -> Outcome | None:
    """Run our branch and bound."""
    start = time.process_time()
    result = gw.solve(x, y, gw.BranchAndBound(tolerance=TOLERANCE, time_limit=limit))
    seconds = time.process_time() - start
    if result.status is not gw.Status.GLOBAL:
        return None
    lower, upper = result.certificate.lower, result.certificate.upper
    return Outcome(seconds, lower=lower, objective=upper)


METHODS: dict[str, Callable[..., Outcome | None]] = {
    "gwsdp": gwsdp,
    "semidefinite": semidefinite,
    "Global-GW": global_gw,
    "BranchAndBound": branch_and_bound,
}
MODULES = {"gwsdp": "gwsdp", "Global-GW": "ggw"}


def measure(case: Case, python: str, limit: float) -> Row:
    """Run one method on one instance."""
    x, y = case.draw()
    searches = (None, gw.MultiStart(starts=50, seed=1))
    best = min(float(gw.solve(x, y, solver).objective) for solver in searches)
    x, y = case.draw()  # a space keeps what was computed from it
    outcome = METHODS[case.method](x, y, best, python, limit)
    row: Row = dict(zip(KEY, case.key, strict=True))
    row |= {"finished": int(outcome is not None), "best": best}
    row |= dict.fromkeys(("objective", "gap", "false", "seconds"), "")
    if outcome is None:
        return row
    objective = min(best, outcome.objective or best)
    gap = outcome.gap
    if outcome.lower is not None:
        gap = objective - outcome.lower
    assert gap is not None
    share = gap / objective
    row |= {"objective": objective, "gap": share, "seconds": outcome.seconds}
    return row | {"false": int(share < -TOLERANCE)}


def missing(python: str) -> list[str]:
    """Return the rivals that the interpreter cannot import, and say so."""
    names = []
    for method, module in MODULES.items():
        done = subprocess.run(
            [python, "-W", "ignore", "-c", f"import {module}"],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            print(f"{method} is skipped: {python} cannot import {module}.")
            names.append(method)
    return names


def run(
    folder: Path, wanted: Sequence[Case], seed: int, python: str, limit: float
) -> None:
    """Measure the cases that the folder does not hold yet."""
    path = folder / "trials.csv"
    skipped = missing(python)
    done = {tuple(row[name] for name in KEY) for row in report.resume_rows(path)}
    pending = [
        case for case in wanted if case.method not in skipped and case.key not in done
    ]
    facts: dict[str, Any] = {"seed": seed, "time_limit": limit, "units": UNITS}
    report.claim(folder, facts | {"versions": report.versions()} if pending else facts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of starts that do not converge
        with tqdm(pending, unit="run", disable=not pending) as progress:
            for case in progress:
                progress.set_description(f"{case.method} {case.family} {case.n}")
                report.append_row(path, measure(case, python, limit))


def summarise(trials: Sequence[Row]) -> list[Row]:
    """Return one row for each family, size, weights and method."""
    names = ("family", "n", "weights", "method")
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in trials:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    order = [*RELAXED, *CLOUDS]
    summary = []
    for key in sorted(groups, key=lambda key: (order.index(key[0]), *key[1:])):
        finished = [row for row in groups[key] if row["finished"]]
        line: Row = dict(zip(names, key, strict=True))
        line |= {"instances": len(groups[key]), "finished": len(finished)}
        line["false"] = sum(row["false"] for row in finished)
        gaps = [row["gap"] for row in finished]
        line["gap"] = float(np.mean(gaps)) if gaps else ""
        line["largest_gap"] = max(gaps, default="")
        seconds = [row["seconds"] for row in finished]
        line["seconds"] = median(seconds) if seconds else ""
        summary.append(line)
    return summary


def table(summary: Sequence[Row]) -> str:
    """Lay out the gaps and times."""
    header = ["family", "n", "weights", "method", "finished", "false", "mean gap"]
    header += ["largest gap", "seconds of the processor (median)"]
    forms = {"gap": ".2e", "largest_gap": ".2e", "seconds": ".3g"}
    lines = []
    for row in summary:
        cells = [row[name] for name in ("family", "n", "weights", "method")]
        cells += [f"{row['finished']} of {row['instances']}", row["false"]]
        for name, form in forms.items():
            cells.append("" if row[name] == "" else format(row[name], form))
        lines.append(cells)
    return report.markdown_table(header, lines)


def publish(folder: Path) -> None:
    """Write the summary and the Markdown, and print the table."""
    trials = report.resume_rows(folder / "trials.csv")
    if not trials:
        print("Nothing was run.")
        return
    summary = summarise(trials)
    report.write_rows(folder / "summary.csv", summary)
    absent = [name for name in METHODS if name not in {t["method"] for t in trials}]
    skipped = "".join(f"\n- {name} was not run." for name in absent)
    text = "\n\n".join([NOTES + skipped, table(summary)])
    (folder / "global_rivals.md").write_text(f"# Global programs\n\n{text}\n")
    print(text, f"Written to {folder}.", sep="\n\n")


def main(argv: Sequence[str] | None = None) -> int:
    parser = report.command_line(__doc__)
    parser.add_argument("--seeds", type=int, help="seeds an instance")
    parser.add_argument("--python", default=sys.executable, help="of the rivals")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=[*METHODS])
    arguments = parser.parse_args(argv)
    quick = arguments.quick
    count = arguments.seeds or (QUICK_SEEDS if quick else SEEDS)
    limit = QUICK_TIME_LIMIT if quick else TIME_LIMIT
    folder = report.results_folder(arguments)
    wanted = [
        case
        for case in cases(quick, count, arguments.seed)
        if case.method in arguments.methods
    ]
    work = partial(run, folder, wanted, arguments.seed, arguments.python, limit)
    return report.run_and_publish(folder, work, publish)


if __name__ == "__main__":
    sys.exit(main())
