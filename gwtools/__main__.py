"""The certified distance between two files of points or of distances.

Example: ``python -m gwtools X.csv Y.npy --solver sinkhorn --json``
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import gwtools as gw
from gwtools._array import NumpyArray
from gwtools.certify import EFFORTS

_SOLVERS = {"conditional-gradient": gw.ConditionalGradient, "sinkhorn": gw.Sinkhorn, "sorted": gw.Sorted}


def main(arguments: Sequence[str] | None = None) -> int:
    """Read two files, solve, and print the result; return 0, or 2 on bad input."""
    options = _parser().parse_args(arguments)
    try:
        x, y = (_space(_read(path), options) for path in (options.x, options.y))
        result = gw.solve(x, y, _SOLVERS[options.solver](), effort=options.effort)
    except (OSError, TypeError, ValueError) as error:
        print(f"gwtools: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result.as_dict(), indent=2) if options.json else result)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gwtools", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("x", type=Path, help="points, one a row, or with --distances a square matrix; .csv or .npy")
    parser.add_argument("y", type=Path, help="the second file; its points may have another dimension")
    parser.add_argument("--distances", action="store_true", help="the files hold square matrices, not points")
    parser.add_argument("--metric", choices=("euclidean", "sqeuclidean"), default="euclidean", help="between points")
    parser.add_argument("--solver", choices=tuple(_SOLVERS), default="conditional-gradient")
    parser.add_argument("--effort", choices=EFFORTS, default="linear", help="what the certificate may spend")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    return parser


def _read(path: Path) -> NumpyArray:
    """Read a .npy array, or comma-separated numbers with at most one line of column names above them."""
    if path.suffix == ".npy":
        try:
            return np.asarray(np.load(path, allow_pickle=False))
        except ValueError as error:
            raise ValueError(f"{path} must hold a NumPy array, but {error}: save it with numpy.save.") from error
    if path.suffix != ".csv":
        raise ValueError(f"{path} must end in .csv or .npy, but ends in {path.suffix!r}: convert the file first.")
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    lines = lines if lines and _numeric(lines[0]) else lines[1:]
    if not lines:
        raise ValueError(f"{path} must hold numbers, but is empty: write one row for each atom.")
    try:
        return np.loadtxt(lines, delimiter=",", ndmin=2)
    except ValueError as error:
        raise ValueError(f"{path} must hold comma-separated numbers, but {error}: fix that line.") from error


def _numeric(line: str) -> bool:
    try:
        [float(cell) for cell in line.split(",")]
    except ValueError:
        return False
    return True


def _space(values: NumpyArray, options: argparse.Namespace) -> gw.Space:
    return gw.DenseSpace(values) if options.distances else gw.PointCloud(values, metric=options.metric)


if __name__ == "__main__":
    sys.exit(main())
