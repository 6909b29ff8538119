"""Whether quantised spaces prove anything of large clouds: a negative result.

Two ways to prove a lower bound between n points from k cells, the means of C between
them. First the triangle inequality (theorem 6 b): the distance of the quantised spaces,
less those of both spaces to their quantised ones. Second the multipliers of the
quantised problem (theorem 15), each atom with those of its cell, priced on the atoms;
any multipliers prove a bound, and mixtures with those of the residual third bound are
tried, too. Both beside the bounds of ``certify`` between all atoms, on the clouds of
the Gromov-Wasserstein table and on such a cloud against points along a curve.

    python -m simulations.quantised_bounds --out DIR [--quick] [--seed S]

writes cells.csv and multipliers.csv (a row as soon as it is finished: an interrupted
run resumes), meta.json and quantised_bounds.md.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import gwtools as gw
from gwtools.bounds import Multipliers
from gwtools.solvers.coarsening import Quantised, quantised
from simulations import _report as report
from simulations._report import Row
from simulations.gw_table import clouds

Numbers = npt.NDArray[Any]

PAIRS = ("table", "curve")
SIZES, QUICK_SIZES = (500, 1000, 2000, 3000), (60,)
CELLS, QUICK_CELLS = (40, 150), (6,)
SOLVED = 2000  # points up to which a plan is looked for
ATOMS, QUICK_ATOMS = 48, 8  # of the problem whose multipliers are priced
FRACTIONS = (6, 3, 2)  # atoms of a cell
SHARES = (0.0, 0.1, 0.25, 0.5, 1.0)  # of the cells' multipliers in a mixture
UNITS = {
    "objective": "GW_2^2 of a plan, squared units of C; all bounds are in its units",
    "error_x, error_y": "proved distances of the spaces to their quantised ones",
    "seconds": "of the process on a CPU",
}
NOTES = """\
- triangle: (√L − error_x − error_y)², with L the lower end of effort "cubic" between \
the k cells and k cells; error: the root of the objective of the
  plan from atoms to cells. Below 0 it proves nothing.
- multipliers: those of k cells on their atoms, mixed with the ones of the residual \
third bound at the best of the shares 0, 0.1, 0.25, 0.5 and 1;
  full: multipliers of all atoms; seconds: of pricing once, n² m² numbers."""


def pair(name: str, n: int, seed: int) -> tuple[gw.PointCloud, gw.PointCloud]:
    """Draw a cloud, and another one or n points along a curve in three dimensions."""
    points, others = clouds(seed, n, 0)
    if name == "curve":
        t = np.linspace(0.0, 4 * np.pi, n)
        curve = np.stack([2 * np.cos(t), 2 * np.sin(t), 0.4 * t], axis=1)
        others = curve + 0.05 * (others - 1.0)
    return gw.PointCloud(points), gw.PointCloud(others)


def cells_of(space: gw.Space, k: int) -> Quantised:
    """Quantise a space into at most k cells."""
    return quantised(space, space.residual(), k)


def error(space: gw.Space, coarse: Quantised) -> float:
    """Return a proved distance of a space to its quantised one."""
    n = space.size
    plan = gw.SparsePlan(
        np.arange(n), coarse.cells, space.weights, (n, coarse.space.size)
    )
    return math.sqrt(gw.certify(space, coarse.space, plan).upper)


def triangle(x: gw.Space, y: gw.Space, k: int) -> Row:
    """Bound GW_2² by the quantised spaces and the distances to them."""
    start = time.process_time()
    coarse_x, coarse_y = cells_of(x, k), cells_of(y, k)
    between = gw.certify(coarse_x.space, coarse_y.space, effort="cubic").lower
    error_x, error_y = error(x, coarse_x), error(y, coarse_y)
    root = max(math.sqrt(between) - error_x - error_y, 0.0)
    return {
        "cells": k,
        "between": between,
        "error_x": error_x,
        "error_y": error_y,
        "triangle": root**2,
        "seconds": time.process_time() - start,
    }


def cells_rows(name: str, n: int, cells: Sequence[int], seed: int) -> list[Row]:
    """Compare the bounds of one pair of large clouds, a row a number of cells."""
    x, y = pair(name, n, seed)
    objective: float | str = ""
    if n <= SOLVED:
        objective = float(gw.solve(x, y, gw.ConditionalGradient()).objective)
    known = {"pair": name, "n": n, "objective": objective}
    for effort in ("linear", "quadratic"):
        known[effort] = gw.certify(x, y, effort=effort).lower
    return [known | triangle(x, y, k) for k in cells]


def on_atoms(found: Multipliers, x: Quantised, y: Quantised) -> Multipliers:
    """Give each atom the multipliers of its cell."""
    e, f = x.cells, y.cells
    return Multipliers(
        found.first[np.ix_(f, e, f)],
        found.second[np.ix_(e, e, f)],
        found.potentials[np.ix_(e, f, f)],
    )


def of_third(x: gw.Space, y: gw.Space) -> Multipliers:
    """Return the multipliers whose bound is the residual third one (theorem 15 b).

    Without potentials: those that the inner programs have at h moved outside.
    """
    h = (np.asarray(x.deviations)[:, None] - np.asarray(y.deviations)) ** 2  # (n, m)
    n, m = h.shape
    first = np.broadcast_to(h, (m, n, m)).copy()
    S = np.asarray(y.residual().dense())
    potentials = np.broadcast_to(S**2, (n, m, m)).copy()
    return Multipliers(first, np.zeros((n, n, m)), potentials)


def mixture(share: float, found: Multipliers, others: Multipliers) -> Multipliers:
    """Return share times the one and 1 − share times the other multipliers."""
    pairs = zip(found[:3], others[:3], strict=True)
    return Multipliers(*(share * left + (1 - share) * right for left, right in pairs))


def multipliers_row(name: str, n: int, k: int, seed: int) -> Row:
    """Price the multipliers of k cells on n atoms, beside other bounds."""
    x, y = pair(name, n, seed)
    coarse_x, coarse_y = cells_of(x, k), cells_of(y, k)
    found = gw.bounds.find_multipliers(coarse_x.space, coarse_y.space)
    fine, third = on_atoms(found, coarse_x, coarse_y), of_third(x, y)
    start = time.process_time()
    values = [
        float(gw.bounds.reformulation(x, y, multipliers=mixture(share, fine, third)))
        for share in SHARES
    ]
    seconds = (time.process_time() - start) / len(SHARES)
    return {
        "pair": name,
        "n": n,
        "cells": k,
        "objective": float(gw.solve(x, y).objective),
        "third": float(gw.bounds.third(x, y, residual=True)),
        "cells_alone": values[-1],
        "best_mixture": max(values),
        "cubic": gw.certify(x, y, effort="cubic").lower,
        "full": float(gw.bounds.reformulation(x, y)),
        "seconds": seconds,
    }


def run(folder: Path, quick: bool, seed: int) -> None:
    """Compute what the folder does not hold yet."""
    report.claim(folder, {"seed": seed, "units": UNITS, **report.versions()})
    path = folder / "multipliers.csv"
    n = QUICK_ATOMS if quick else ATOMS
    asked = [(name, n // fraction) for name in PAIRS for fraction in FRACTIONS]
    for name, k in asked[len(report.resume_rows(path)) :]:
        report.append_row(path, multipliers_row(name, n, k, seed))
    path = folder / "cells.csv"
    cells = QUICK_CELLS if quick else CELLS
    done = {(row["pair"], row["n"]) for row in report.resume_rows(path)}
    for n in QUICK_SIZES if quick else SIZES:
        for name in PAIRS:
            if (name, n) not in done:
                for row in cells_rows(name, n, cells, seed):
                    report.append_row(path, row)


def verdict(cells: Sequence[Row], multipliers: Sequence[Row]) -> str:
    """Count where quantised spaces prove more than the bounds between all atoms."""
    better = sum(row["triangle"] > row["linear"] for row in cells)
    priced = sum(row["best_mixture"] > row["cubic"] for row in multipliers)
    return (
        f"The triangle inequality proves more than effort linear in {better} of "
        f"{len(cells)} cases, and multipliers of cells more than effort cubic in "
        f"{priced} of {len(multipliers)}."
    )


def publish(folder: Path) -> None:
    """Write the tables, and print them."""
    cells = report.read_rows(folder / "cells.csv")
    multipliers = report.read_rows(folder / "multipliers.csv")
    parts = ["# Bounds by quantised spaces", verdict(cells, multipliers)]
    titles = {"Triangle inequality": cells, "Multipliers of cells": multipliers}
    for title, rows in titles.items():
        shown = [[_shown(value) for value in row.values()] for row in rows]
        parts += [f"## {title}", report.markdown_table(list(rows[0]), shown)]
    text = "\n\n".join([*parts, NOTES])
    path = folder / "quantised_bounds.md"
    path.write_text(f"{text}\n", encoding="utf-8")
    print(text)


def _shown(value: Any) -> Any:
    return f"{value:.3g}" if isinstance(value, float) else value


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not finished, and publish all of it."""
    arguments = report.command_line(__doc__).parse_args(argv)
    folder = report.results_folder(arguments)
    return report.run_and_publish(
        folder, lambda: run(folder, arguments.quick, arguments.seed), publish
    )


if __name__ == "__main__":
    sys.exit(main())
