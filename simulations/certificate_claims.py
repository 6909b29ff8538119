"""What certificates are held to: shares of the best objective in given seconds.

The lower end of ``gwtools.certify(..., budget=)`` as a share of the least objective
that three searches found (``reference/bounds_best.csv``), family by family; what the
effort "quartic" takes; and branch and bound in few coordinates, to 1e-6.

    python -m simulations.certificate_claims --out DIR [--quick] [--groups NAME ...]

writes trials.csv (one row an instance, as soon as it is finished: an interrupted run
resumes), summary.csv, meta.json and certificate_claims.md. On one core, with the extra
``fast``; budgets are wall clock, so that the machine should be idle. The groups, and
about how long they take, are: {groups}.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

import gwtools as gw
from gwtools import _compiled
from simulations import _report as report
from simulations import bounds_reference
from simulations._report import Row

SEEDS = 5
GLOBAL_TO = 1e-6
# Families, and the least mean share between uniform and between random weights.
AT_60 = {
    "euclidean_2": (0.92, 0.92),
    "euclidean_3": (0.82, 0.84),
    "squared_2": (1 - GLOBAL_TO, 1 - GLOBAL_TO),
    "squared_3": (0.70, 0.70),
    "mixed_2_3": (0.74, 0.80),
    "rbf": (0.65, 0.57),
    "cube_sphere": (0.76, 0.80),
    "block_model": (0.50, 0.58),
    "erdos_renyi": (0.28, 0.36),
    "adjacency": (0.24, 0.38),
    "coactivation": (0.55, 0.60),
}
METRIC = ("euclidean_2", "euclidean_3", "squared_2", "squared_3", "mixed_2_3")
METRIC = (*METRIC, "cube_sphere")
GRAPHS = ("block_model", "erdos_renyi", "adjacency", "coactivation")
MINUTES = {
    "sixty": 20,
    "graphs": 8,
    "small": 80,
    "thirty": 25,
    "table": 15,
    "quartic": 10,
    "large": 10,
    "trees": 20,
}
TITLES = {
    "sixty": "60 atoms in five seconds",
    "graphs": "Social graphs",
    "small": "14 and 20 atoms in a minute",
    "thirty": "30 atoms in five minutes",
    "table": "Clouds of the published simulation",
    "quartic": "60 atoms at quartic effort, without a budget",
    "large": "500 atoms at quartic effort, 3000 at quadratic",
    "trees": "Branch and bound",
}


class Case(NamedTuple):
    """An instance, the seconds that it may take and the least share that is claimed.

    ``budget`` is 0 for the effort "quartic" without one.
    """

    group: str
    family: str
    n: int
    weights: str
    seed: int
    budget: float
    least: float

    @property
    def key(self) -> tuple[Any, ...]:
        """What identifies its row."""
        return self.group, self.family, self.n, self.weights, self.seed, self.budget


def cases(groups: Sequence[str], quick: bool) -> Iterator[Case]:
    """Yield the cases of the groups."""
    if quick:
        for family in ("euclidean_2", "squared_2"):
            yield Case("small", family, 14, "uniform", 0, 0.5, 0.9)
        return
    every = [*_of_sixty(), *_of_small(), *_of_others()]
    yield from (case for case in every if case.group in groups)


def _of_sixty() -> Iterator[Case]:
    for family, shares in AT_60.items():
        for weights, least in zip(("uniform", "random"), shares, strict=True):
            for seed in range(SEEDS):
                yield Case("sixty", family, 60, weights, seed, 5.0, least)
                if seed == 0:
                    yield Case("quartic", family, 60, weights, seed, 0.0, 0.0)


def _of_small() -> Iterator[Case]:
    for n in (14, 20):
        for weights in ("uniform", "random"):
            for family in METRIC:
                yield Case("small", family, n, weights, 0, 60.0, 1 / 1.001)
            for family in GRAPHS:
                yield Case("small", family, n, weights, 0, 60.0, 1 / 1.06)
    for family in ("euclidean_2", "euclidean_3"):
        for weights in ("uniform", "random"):
            yield Case("thirty", family, 30, weights, 0, 300.0, 0.98)


def _of_others() -> Iterator[Case]:
    for seed in range(bounds_reference.CLASSIC_SEEDS):
        yield Case("graphs", "karate_club", 34, "uniform", seed, 3.0, 0.91)
        yield Case("graphs", "karate_club", 34, "uniform", seed, 180.0, 0.95)
        yield Case("graphs", "les_miserables", 77, "uniform", seed, 30.0, 0.93)
    table = bounds_reference.TABLE
    for seed in range(SEEDS):
        yield Case("table", table, 50, "uniform", seed, 30.0, 0.80)
        yield Case("table", table, 100, "uniform", seed, 90.0, 0.65)
    for n in (500, 3000):
        yield Case("large", table, n, "uniform", 0, 0.0, 0.0)
        yield Case("large", "squared_2", n, "uniform", 0, 0.0, 0.0)
    # Seconds of branch and bound.
    for seed in range(3):
        yield Case("trees", "plane", 100, "uniform", seed, 6.0, 1 - GLOBAL_TO)
        yield Case("trees", "plane", 200, "uniform", seed, 20.0, 1 - GLOBAL_TO)
        yield Case("trees", "plane_space", 50, "uniform", seed, 90.0, 1 - GLOBAL_TO)
        yield Case("trees", "line", 2000, "uniform", seed, 20.0, 1 - GLOBAL_TO)
    yield Case("trees", "plane", 500, "uniform", 0, 180.0, 1 - GLOBAL_TO)


# Dimensions of two clouds of N(0, I) with squared distances.
TREES = {"plane": (2, 2), "plane_space": (2, 3), "line": (1, 1)}


def draw(case: Case) -> tuple[gw.Space, gw.Space]:
    """Draw the two spaces of a case."""
    if case.family in TREES:
        rng = np.random.default_rng(case.seed)
        x, y = (
            gw.PointCloud(rng.standard_normal((case.n, d)), metric="sqeuclidean")
            for d in TREES[case.family]
        )
        return x, y
    if case.family == bounds_reference.TABLE:
        return bounds_reference.table_clouds(0, case.n, case.seed)
    families = {family.name: family for family in bounds_reference.FAMILIES}
    return families[case.family].draw(case.n, case.weights, case.seed)


def measure(case: Case) -> Row:
    """Certify one instance."""
    x, y = draw(case)
    row: Row = dict(zip(Case._fields, case, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gw.ConvergenceWarning)
        if case.group == "trees":
            return row | _tree(x, y, case)
        if case.group == "large":
            return row | _large(x, y)
        plan = gw.solve(x, y).plan
    start = time.perf_counter()
    budget = case.budget or None
    certificate = gw.certify(x, y, plan, effort="quartic", budget=budget)
    seconds = time.perf_counter() - start
    known = bounds_reference.known().get((*case.key[1:5],), certificate.upper)
    objective = min(known, certificate.upper)
    return row | _judged(certificate, objective, seconds)


def _judged(certificate: gw.Certificate, objective: float, seconds: float) -> Row:
    return {
        "seconds": seconds,
        "lower": certificate.lower,
        "objective": objective,
        "share": certificate.lower / objective,
        "bound": certificate.bound,
    }


def _tree(x: gw.Space, y: gw.Space, case: Case) -> Row:
    """Solve by branch and bound, within the time."""
    start = time.perf_counter()
    solver = gw.BranchAndBound(tolerance=GLOBAL_TO, time_limit=case.budget)
    result = gw.solve(x, y, solver)
    seconds = time.perf_counter() - start
    certificate = result.certificate
    # An interval that is closed is as good as asked for.
    closed = certificate.kind is gw.Kind.GLOBAL
    row = _judged(certificate, float(result.objective), seconds)
    return row | {"share": max(row["share"], case.least) if closed else row["share"]}


def _large(x: gw.Space, y: gw.Space) -> Row:
    """Certify by what is affordable at the size, against a single solver."""
    result = gw.solve(x, y, gw.ConditionalGradient())
    # Of 3000 atoms cubic bounds take over 20 minutes.
    effort = "quartic" if x.size <= 500 else "quadratic"
    start = time.perf_counter()
    certificate = gw.certify(x, y, result.plan, effort=effort)
    seconds = time.perf_counter() - start
    return _judged(certificate, certificate.upper, seconds)


def run(folder: Path, wanted: Sequence[Case]) -> None:
    """Measure the cases that the folder does not hold yet."""
    path = folder / "trials.csv"
    names = ("group", "family", "n", "weights", "seed", "budget")
    done = {tuple(row[name] for name in names) for row in report.resume_rows(path)}
    pending = [case for case in wanted if case.key not in done]
    facts = {"versions": report.versions(), "fast": _compiled.available()}
    report.claim(folder, facts if pending else {})
    if pending:
        # What is loaded and compiled first is not timed.
        measure(Case("small", "squared_2", 10, "random", 0, 0.5, 0.0))
        measure(Case("small", "euclidean_3", 10, "random", 0, 0.5, 0.0))
    with tqdm(pending, unit="case", disable=not pending) as progress:
        for case in progress:
            progress.set_description(f"{case.group} {case.family} {case.n}")
            report.append_row(path, measure(case))


def summarise(trials: Sequence[Row]) -> list[Row]:
    """Return one row for each family, size, kind of weights and budget of a group."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in trials:
        key = (row["group"], row["family"], row["n"], row["weights"], row["budget"])
        groups.setdefault(key, []).append(row)
    summary = []
    for (group, family, n, weights, budget), rows in groups.items():
        share = mean(row["share"] for row in rows)
        least = rows[0]["least"]
        summary.append(
            {
                "group": group,
                "family": family,
                "n": n,
                "weights": weights,
                "seeds": len(rows),
                "budget": budget,
                "seconds": median(row["seconds"] for row in rows),
                "share": share,
                "least share": min(row["share"] for row in rows),
                "asked": least,
                "met": int(share >= least),
                "bound": "/".join(sorted({row["bound"] for row in rows})),
            }
        )
    return summary


def _percent(share: float) -> str:
    """Write a share; near one, with the digits that tell it from one."""
    return f"{share:.4%}" if share > 0.999 else f"{share:.1%}"


def publish(folder: Path) -> None:
    """Write the summary and the Markdown, and print them."""
    summary = summarise(report.resume_rows(folder / "trials.csv"))
    report.write_rows(folder / "summary.csv", summary)
    missed = sum(not row["met"] for row in summary)
    parts = [
        "# What certificates are held to",
        "Shares are lower end / least objective known, means over the seeds; seconds "
        "are medians, wall clock; a budget of 0 is the effort alone.",
        f"Missed: {missed} of {len(summary)}.",
    ]
    header = ["family", "n", "weights", "seeds", "budget", "seconds", "share", "least"]
    header += ["asked", "bound", "met"]
    for group in MINUTES:
        rows = [
            [
                *(row[name] for name in header[:5]),
                f"{row['seconds']:.3g}",
                f"{row['share']:.4%}"
                if row["share"] > 0.999
                else f"{row['share']:.1%}",
                f"{row['least share']:.1%}",
                f"{row['asked']:.1%}" if row["asked"] else "",
                row["bound"],
                "yes" if row["met"] else "no",
            ]
            for row in summary
            if row["group"] == group
        ]
        if rows:
            parts += [f"## {TITLES[group]}", report.markdown_table(header, rows)]
    text = "\n\n".join(parts)
    (folder / "certificate_claims.md").write_text(text + "\n")
    print(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the groups that are asked for, and publish all that the folder holds."""
    listed = ", ".join(f"{name} ({minutes} min)" for name, minutes in MINUTES.items())
    parser = report.command_line((__doc__ or "").format(groups=listed))
    parser.add_argument("--groups", nargs="+", choices=[*MINUTES], default=[*MINUTES])
    arguments = parser.parse_args(argv)
    folder = report.results_folder(arguments)
    wanted = list(cases(arguments.groups, arguments.quick))
    return report.run_and_publish(folder, lambda: run(folder, wanted), publish)


if __name__ == "__main__":
    sys.exit(main())
