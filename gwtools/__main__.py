"""Command line: the certified Gromov-Wasserstein distance between two files of points, of distances or of edges.

Example: ``python -m gwtools X.csv Y.npy --solver sinkhorn --matching``
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import gwtools as gw
from gwtools._check import unreadable
from gwtools.certify import EFFORTS
from gwtools.files import formats
from gwtools.solvers.base import Callback

_SOLVERS = {
    "conditional-gradient": gw.ConditionalGradient,
    "sinkhorn": gw.Sinkhorn,
    "sorted": gw.Sorted,
}
_HOLDS = ("points", "distances", "edges")
_YES_OR_NO = {"yes": True, "no": False, None: None}
_DELAY = 0.5  # seconds before progress is shown
_NOTES = """
files:
  .csv .tsv .txt .dat   numbers between ; tabs , or spaces; decimal commas, quotes, # comments, names of columns and of rows
  .npy .npz             one array of numbers; integers and booleans are read as numbers, exactly
  .edges .edgelist      two names of nodes a line, and a length or none (then 1); a space has the lengths of shortest paths
  .graphml              the same, with edge lengths in an attribute; needs networkx: pip install "gwfusion[graphs]"
  Any of these may end in .gz. What could be read in two ways is refused with the option that decides it.

units:
  distance is in the units of the files' distances, objective and certificate in their squares. Weights are uniform by
  default, and sum to 1. A file without --distances holds points, one a row, with Euclidean distances between them.

examples:
  python -m gwtools X.csv Y.npy
  python -m gwtools X.csv Y.csv --distances --weights-x A.txt --effort cubic --json
  python -m gwtools roads.graphml rails.edges --matching-out pairs.csv --plan plan.npz
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Read two files, solve, and print the result; return 0, or 2 on bad input."""
    options = _parser().parse_args(arguments)
    try:
        result = _result(options)
        if options.plan is not None:
            formats.write_plan(options.plan, result.plan, result.names)
        if options.matching_out is not None:
            formats.write_rows(
                options.matching_out, ("x", "y", "share"), result.matching()
            )
    except (OSError, TypeError, ValueError, MemoryError) as error:
        sentence = (
            str(error)
            or "the work must fit into memory, but does not: take fewer atoms."
        )
        print(f"gwtools: {sentence}", file=sys.stderr)
        return 2
    if not result.status.success:
        print(f"gwtools: {result.status.value}", file=sys.stderr)
    matching = result.matching() if options.matching else None
    if options.json:
        print(
            json.dumps(
                result.as_dict() | ({} if matching is None else {"matching": matching}),
                indent=2,
            )
        )
    else:
        print(result)
        for x, y, share in matching or ():
            print(f"  {x} -> {y}  {share:.4g}")
    return 0


def _result(options: argparse.Namespace) -> gw.GWResult:
    """Check what can be checked before any work, read the files and solve."""
    inputs = [
        path
        for path in (options.x, options.y, options.weights_x, options.weights_y)
        if path is not None
    ]
    if options.plan is not None:
        formats.require_writable(options.plan, (".npy", ".npz", ".csv"), inputs)
        inputs.append(options.plan)
    if options.matching_out is not None:
        formats.require_writable(options.matching_out, (".csv",), inputs)
    holds = [side or options.holds for side in (options.x_holds, options.y_holds)]
    meanings = [
        formats.meaning_of(path, side)
        for path, side in zip((options.x, options.y), holds, strict=True)
    ]
    _require_files_for_options(options, meanings)
    x, y = (
        _read(path, side, weights, options)
        for path, side, weights in zip(
            (options.x, options.y),
            holds,
            (options.weights_x, options.weights_y),
            strict=True,
        )
    )
    with warnings.catch_warnings(), _progress() as callback:
        warnings.simplefilter("ignore", gw.ConvergenceWarning)
        result = gw.solve(
            x.space,
            y.space,
            _SOLVERS[options.solver](),
            effort=options.effort,
            callback=callback,
        )
    return replace(result, names=(x.names, y.names))


def _require_files_for_options(
    options: argparse.Namespace, meanings: Sequence[str]
) -> None:
    """Require a file of the kind that an option speaks of; ``meanings`` are what the two files are read as."""
    paths = options.x, options.y
    if options.metric is not None and "points" not in meanings:
        received = f"these hold {' and '.join(dict.fromkeys(meanings))}"
        raise unreadable(
            "--metric", "go with a file of points", received, "leave it out"
        )
    for name, value, kind, are_such in (
        (
            "--index-column",
            options.index_column,
            "a table of text",
            map(formats.is_table, paths, meanings),
        ),
        ("--header", options.header, "a file of text", map(formats.is_text, paths)),
        (
            "--edge-length",
            options.edge_length,
            "a file of GraphML",
            map(formats.is_graphml, paths),
        ),
    ):
        if value is not None and not any(are_such):
            raise unreadable(
                name, f"go with {kind}", "neither file is one", "leave it out"
            )


def _read(
    path: Path, holds: str | None, weights: Path | None, options: argparse.Namespace
) -> formats.Named:
    header, index = _YES_OR_NO[options.header], _YES_OR_NO[options.index_column]
    metric, length = options.metric or "euclidean", options.edge_length
    named = formats.read_space(
        path, holds, metric=metric, header=header, index=index, length=length
    )
    return (
        named
        if weights is None
        else replace(named, space=formats.read_weights(weights, named))
    )


@contextmanager
def _progress() -> Iterator[Callback | None]:
    """Show steps and objective where a person watches and tqdm is installed; the bar is gone at the end."""
    if not sys.stderr.isatty() or find_spec("tqdm") is None:
        yield None
        return
    from tqdm import tqdm

    with tqdm(unit=" steps", leave=False, delay=_DELAY, file=sys.stderr) as bar:

        def show(progress: gw.Progress) -> None:
            bar.set_postfix_str(f"objective {progress.objective:.6g}", refresh=False)
            bar.update()

        yield show


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gwtools",
        description=__doc__.splitlines()[0] if __doc__ else None,
        epilog=_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "x",
        type=Path,
        help="the first file: points, one a row, a matrix of distances, or a graph",
    )
    parser.add_argument(
        "y", type=Path, help="the second file; its points may have another dimension"
    )
    meaning = parser.add_mutually_exclusive_group()
    meanings = {
        "points": "both files hold points, even if they look like distances",
        "distances": "both files hold square symmetric matrices, not points",
        "edges": "both files hold lists of edges",
    }
    for name, text in meanings.items():
        meaning.add_argument(
            f"--{name}", dest="holds", action="store_const", const=name, help=text
        )
    for side in "xy":
        parser.add_argument(
            f"--{side}-holds", choices=_HOLDS, help=f"the same of the file {side} alone"
        )
    parser.add_argument(
        "--metric",
        choices=("euclidean", "sqeuclidean"),
        help="between points (default: euclidean)",
    )
    for side in "xy":
        text = f"a column of weights of the atoms of {side} (default: uniform)"
        parser.add_argument(f"--weights-{side}", type=Path, metavar="FILE", help=text)
    text = "whether the first line holds names (default: found out, or asked)"
    parser.add_argument("--header", choices=("yes", "no"), help=text)
    text = (
        "whether the first column of tables holds names (default: found out, or asked)"
    )
    parser.add_argument("--index-column", choices=("yes", "no"), help=text)
    text = "attribute of GraphML's edges that is their length, or none (default: weight if all have the same)"
    parser.add_argument("--edge-length", metavar="NAME", help=text)
    text = "(default: conditional-gradient)"
    parser.add_argument(
        "--solver", choices=tuple(_SOLVERS), default="conditional-gradient", help=text
    )
    text = "what the certificate may spend (default: linear)"
    parser.add_argument("--effort", choices=EFFORTS, default="linear", help=text)
    text = "write the plan: .npy its matrix, .npz a sparse matrix, .csv lines x,y,mass; an old file is replaced"
    parser.add_argument("--plan", type=Path, metavar="OUT", help=text)
    text = "print for every atom of x the atom of y that gets most of its mass, and its share"
    parser.add_argument("--matching", action="store_true", help=text)
    text = "write the same as .csv lines x,y,share; an old file is replaced"
    parser.add_argument("--matching-out", type=Path, metavar="OUT", help=text)
    parser.add_argument(
        "--json", action="store_true", help="print JSON instead of text"
    )
    parser.add_argument(
        "--version", action="version", version=f"gwfusion {gw.__version__}"
    )
    return parser


def _command() -> int:
    """Run as a program: a reader that goes away and Ctrl-C end it without a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(
                errors="backslashreplace"
            )  # of terminals that cannot show a name
    try:
        try:
            return main()
        finally:  # of --help, too, which exits
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # for the interpreter's own flush at its end
        return 1
    except KeyboardInterrupt:
        print("gwtools: stopped by Ctrl-C.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(_command())
