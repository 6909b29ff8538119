"""Bounds alone as features: nearest neighbours by a bound, beside those by solving.

Shapes of eight kinds, graphs of four kinds and handwritten digits, each space with the
label of its kind. The matrix of all pairs is that of the roots of a bound, or of
distances that conditional gradient finds, and a space is given the label of its nearest
neighbour among the others.

    python -m simulations.bounds_as_features --out DIR [--quick] [--seed S]

writes trials.csv (one row a data set and a matrix, as soon as it is finished: an
interrupted run resumes), meta.json and bounds_as_features.md.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

import gwtools as gw
from simulations import _report as report
from simulations import all_pairs
from simulations._report import Row

Numbers = npt.NDArray[Any]
Spaces = Sequence[Any]

OF_A_KIND, QUICK_OF_A_KIND = 8, 2  # spaces
DIGITS = 5  # kinds of digits: 0, 1, …
UNITS = {
    "accuracy": "share of the spaces whose nearest neighbour has their label",
    "seconds": "of the process on a CPU, from spaces to the matrix of all pairs",
}
NOTES = """\
- accuracy: the share of the spaces whose nearest neighbour among the others, by this \
matrix, has their label; chance: that of a neighbour drawn at random.
- norm, row_means, second: `gw.batch.*` of all pairs at once, the roots of lower \
bounds of GW_2²; solved: `gw.pairwise` with `ConditionalGradient()`.
- seconds: of a CPU, from spaces to the matrix; each matrix from new spaces."""


def data_set(name: str, of_a_kind: int, seed: int) -> tuple[list[Any], Numbers]:
    """Return spaces, and the number of the kind of each."""
    rng = np.random.default_rng(seed)
    if name == "shapes":
        found = [all_pairs.shapes(kind, of_a_kind, rng) for kind in range(8)]
        spaces = [space for of_kind in found for space in of_kind]
        return spaces, np.repeat(np.arange(8), of_a_kind)
    if name == "graphs":
        spaces = all_pairs.graphs(4 * of_a_kind, seed)
        return spaces, np.arange(len(spaces)) % 4
    target = load_digits().target
    chosen = [
        rng.permutation(np.flatnonzero(target == digit))[:of_a_kind]
        for digit in range(DIGITS)
    ]
    images = np.concatenate(chosen)
    return all_pairs.digits(images.tolist()), target[images]


DATA_SETS = ("shapes", "graphs", "digits")


def by_bound(bound: Callable[[Spaces, Spaces], Any], spaces: Spaces) -> Numbers:
    """Return the roots of a bound of all pairs."""
    count = len(spaces)
    rows, cols = np.triu_indices(count, k=1)
    values = bound([spaces[i] for i in rows], [spaces[j] for j in cols])
    matrix = np.zeros((count, count))
    matrix[rows, cols] = np.sqrt(values)
    return matrix + matrix.T


def by_solving(spaces: Spaces) -> Numbers:
    """Return the distances of plans that conditional gradient finds."""
    solver = gw.ConditionalGradient()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gw.ConvergenceWarning)
        return np.asarray(gw.pairwise(spaces, solver=solver, progress=False).distances)


MATRICES: dict[str, Callable[[Spaces], Numbers]] = {
    "norm": lambda spaces: by_bound(gw.batch.norm, spaces),
    "row_means": lambda spaces: by_bound(gw.batch.row_means, spaces),
    "second": lambda spaces: by_bound(gw.batch.second, spaces),
    "solved": by_solving,
}


def accuracy(matrix: Numbers, labels: Numbers) -> float:
    """Return the share of spaces whose nearest other one has their label."""
    others = matrix + np.diag(np.full(len(matrix), np.inf))
    return float((labels[others.argmin(axis=1)] == labels).mean())


def chance(labels: Numbers) -> float:
    """Return the expected accuracy of a neighbour drawn at random."""
    _, counts = np.unique(labels, return_counts=True)
    total = len(labels)
    return float((counts * (counts - 1)).sum() / (total * (total - 1)))


def measure(name: str, matrix: str, of_a_kind: int, seed: int) -> Row:
    """Compute one matrix of new spaces, and judge it."""
    spaces, labels = data_set(name, of_a_kind, seed)
    start = time.process_time()
    distances = MATRICES[matrix](spaces)
    seconds = time.process_time() - start
    return {
        "set": name,
        "matrix": matrix,
        "spaces": len(spaces),
        "pairs": len(spaces) * (len(spaces) - 1) // 2,
        "accuracy": accuracy(distances, labels),
        "chance": chance(labels),
        "seconds": seconds,
    }


def run(folder: Path, of_a_kind: int, seed: int) -> None:
    """Measure what the folder does not hold yet."""
    facts = {"seed": seed, "of a kind": of_a_kind, "units": UNITS, **report.versions()}
    report.claim(folder, facts)
    path = folder / "trials.csv"
    known = {(row["set"], row["matrix"]) for row in report.resume_rows(path)}
    # The first calls load libraries, which no time should include.
    for matrix in MATRICES:
        measure("shapes", matrix, 1, seed)
    for name in DATA_SETS:
        for matrix in MATRICES:
            if (name, matrix) not in known:
                report.append_row(path, measure(name, matrix, of_a_kind, seed))


def publish(folder: Path) -> None:
    """Write the table, and print it."""
    rows = report.read_rows(folder / "trials.csv")
    cells = [[_shown(value) for value in row.values()] for row in rows]
    table = report.markdown_table(list(rows[0]), cells)
    text = "\n\n".join(["# Bounds as features", table, NOTES])
    path = folder / "bounds_as_features.md"
    path.write_text(f"{text}\n", encoding="utf-8")
    print(text)


def _shown(value: Any) -> Any:
    return f"{value:.3g}" if isinstance(value, float) else value


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not finished, and publish all of it."""
    arguments = report.command_line(__doc__).parse_args(argv)
    folder = report.results_folder(arguments)
    count = QUICK_OF_A_KIND if arguments.quick else OF_A_KIND
    return report.run_and_publish(
        folder, lambda: run(folder, count, arguments.seed), publish
    )


if __name__ == "__main__":
    sys.exit(main())
