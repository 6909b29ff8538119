"""Command line: the certified Gromov-Wasserstein distance between two files.

Example: ``python -m gwtools X.csv Y.npy --solver sinkhorn --matching``
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import gwtools as gw
from gwtools._check import unreadable
from gwtools.certify import EFFORTS
from gwtools.files import formats
from gwtools.solvers.base import Callback

# Texts of --help.
_DESCRIPTION = (
    "Command line: the certified Gromov-Wasserstein distance between two files of "
    "points, of distances or of edges."
)
_SOLVERS: dict[str, Callable[[], gw.Solver | str]] = {
    "auto": lambda: "auto",
    "multi-start": gw.MultiStart,
    "branch-and-bound": gw.BranchAndBound,
    "conditional-gradient": gw.ConditionalGradient,
    "sinkhorn": gw.Sinkhorn,
    "sorted": gw.Sorted,
}
_HOLDS = ("points", "distances", "edges")
_YES_OR_NO = {"yes": True, "no": False, None: None}
_DELAY = 0.5  # seconds before progress is shown
# A backslash at the end of a line joins it to the next.
_NOTES = """
files:
  .csv .tsv .txt .dat   numbers between ; tabs , or spaces; decimal commas, quotes, # \
comments, names of columns and of rows
  .npy .npz             one array of numbers; integers and booleans are read as \
numbers, exactly
  .edges .edgelist      two names of nodes a line, and a length or none (then 1); a \
space has the lengths of shortest paths
  .graphml              the same, with edge lengths in an attribute; needs networkx: \
pip install "gwfusion[graphs]"
  Any of these may end in .gz. What could be read in two ways is refused with the \
option that decides it.

units:
  distance is in the units of the files' distances, objective and certificate in their \
squares. Weights are uniform by
  default, and sum to 1. A file without --distances holds points, one a row, with \
Euclidean distances between them.

examples:
  python -m gwtools X.csv Y.npy
  python -m gwtools X.csv Y.csv --distances --weights-x A.txt --effort cubic --json
  python -m gwtools roads.graphml rails.edges --matching-out pairs.csv --plan plan.npz
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Read two files, solve, and print the result.

    Parameters
    ----------
    arguments : sequence of str, optional
        Arguments of the command line; those of the process by default.

    Returns
    -------
    int
        0, or 2 on bad input.
    """
    options = _parser().parse_args(arguments)
    try:
        result = _result(options)
        if options.plan is not None:
            formats.write_plan(options.plan, result.plan, result.names)
        if options.matching_out is not None:
            titles = ("x", "y", "share")
            formats.write_rows(options.matching_out, titles, result.matching())
    except (OSError, TypeError, ValueError, MemoryError) as error:
        # Python's own MemoryError says nothing.
        sentence = str(error)
        if not sentence:
            sentence = "the work must fit into memory, but does not: take fewer atoms."
        print(f"gwtools: {sentence}", file=sys.stderr)
        return 2
    # A result that has not converged is a result, with a certificate that holds.
    if not result.status.success:
        print(f"gwtools: {result.status.value}", file=sys.stderr)
    _print(result, options)
    return 0


def _print(result: gw.GWResult, options: argparse.Namespace) -> None:
    """Print a result, with its matching where that is asked for."""
    matching = result.matching() if options.matching else None
    if options.json:
        told = result.as_dict()
        if matching is not None:
            told = told | {"matching": matching}
        print(json.dumps(told, indent=2))
        return
    print(result)
    if matching is not None:
        for x, y, share in matching:
            print(f"  {x} -> {y}  {share:.4g}")


def _result(options: argparse.Namespace) -> gw.GWResult:
    """Check what can be checked before any work, read the files and solve."""
    # 1. Files that are written, none of which may be one that is read.
    inputs = [options.x, options.y]
    for weights in (options.weights_x, options.weights_y):
        if weights is not None:
            inputs.append(weights)
    if options.plan is not None:
        formats.require_writable(options.plan, (".npy", ".npz", ".csv"), inputs)
        inputs.append(options.plan)  # the matching must not replace the plan
    if options.matching_out is not None:
        formats.require_writable(options.matching_out, (".csv",), inputs)

    # 2. What the files are read as: what is said of one file goes before what is said
    # of both.
    x_holds = options.x_holds or options.holds
    y_holds = options.y_holds or options.holds
    x_side = "x" if options.x_holds else None
    y_side = "y" if options.y_holds else None
    x_meaning = formats.meaning_of(options.x, x_holds, x_side)
    y_meaning = formats.meaning_of(options.y, y_holds, y_side)
    _require_files_for_options(options, x_meaning, y_meaning)

    # 3. The work.
    x = _read(options.x, x_holds, x_side, options.weights_x, options)
    y = _read(options.y, y_holds, y_side, options.weights_y, options)
    solver = _SOLVERS[options.solver]()
    with warnings.catch_warnings(), _progress() as callback:
        # The status says the same in one line.
        warnings.simplefilter("ignore", gw.ConvergenceWarning)
        result = gw.solve(
            x.space,
            y.space,
            solver,
            effort=options.effort,
            callback=callback,
        )
    return replace(result, names=(x.names, y.names))


def _require_files_for_options(
    options: argparse.Namespace,
    x_meaning: str,
    y_meaning: str,
) -> None:
    """Require, for every option about files of one kind, such a file."""
    # An option that changes nothing would be taken for one that did.
    x = options.x
    y = options.y
    meanings = (x_meaning, y_meaning)
    if options.metric is not None and "points" not in meanings:
        held = " and ".join(dict.fromkeys(meanings))  # each once
        raise unreadable(
            "--metric",
            "go with a file of points",
            f"these hold {held}",
            "leave it out",
        )
    # One such file is enough: the option then speaks of it alone.
    if options.index_column is not None:
        tables = formats.is_table(x, x_meaning) or formats.is_table(y, y_meaning)
        _require_such_a_file("--index-column", "a table of text", tables)
    if options.header is not None:
        texts = formats.is_text(x) or formats.is_text(y)
        _require_such_a_file("--header", "a file of text", texts)
    if options.edge_length is not None:
        graphs = formats.is_graphml(x) or formats.is_graphml(y)
        _require_such_a_file("--edge-length", "a file of GraphML", graphs)


def _require_such_a_file(option: str, kind: str, found: bool) -> None:
    """Require that a file of the kind that an option speaks of is among the two."""
    if not found:
        raise unreadable(
            option,
            f"go with {kind}",
            "neither file is one",
            "leave it out",
        )


def _read(
    path: Path,
    holds: str | None,
    side: str | None,
    weights: Path | None,
    options: argparse.Namespace,
) -> formats.Named:
    """Read a file, and its weights from another where there is one."""
    named = formats.read_space(
        path,
        holds,
        # The default is filled in here, since only a metric that is said is refused.
        metric=options.metric or "euclidean",
        header=_YES_OR_NO[options.header],
        index=_YES_OR_NO[options.index_column],
        length=options.edge_length,
        side=side,
    )
    # Weights may go by the names of the atoms, so that the space is read first.
    if weights is None:
        return named
    space = formats.read_weights(weights, named)
    return replace(named, space=space)


@contextmanager
def _progress() -> Iterator[Callback | None]:
    """Show steps and objective on a terminal, where tqdm is installed.

    The bar is gone at the end.
    """
    # Progress in a file or a pipe would be read as an error.
    if not sys.stderr.isatty() or find_spec("tqdm") is None:
        yield None
        return
    from tqdm import tqdm

    # Runs that are over before the delay show nothing.
    with tqdm(unit=" steps", leave=False, delay=_DELAY, file=sys.stderr) as bar:

        def show(progress: gw.Progress) -> None:
            # Drawn by the update, not twice.
            bar.set_postfix_str(f"objective {progress.objective:.6g}", refresh=False)
            bar.update()

        yield show


def _parser() -> argparse.ArgumentParser:
    """Return the parser; options are in the order in which ``--help`` shows them."""
    parser = argparse.ArgumentParser(
        prog="python -m gwtools",
        description=_DESCRIPTION,
        epilog=_NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_files(parser)
    _add_options_of_reading(parser)
    _add_options_of_solving(parser)
    _add_options_of_output(parser)
    return parser


def _add_files(parser: argparse.ArgumentParser) -> None:
    """Add the two files, and what they hold."""
    parser.add_argument(
        "x",
        type=Path,
        help="the first file: points, one a row, a matrix of distances, or a graph",
    )
    parser.add_argument(
        "y",
        type=Path,
        help="the second file; its points may have another dimension",
    )
    # One of these at most is said of both files.
    meaning = parser.add_mutually_exclusive_group()
    meanings = {
        "points": "both files hold points, even if they look like distances",
        "distances": "both files hold square symmetric matrices, not points",
        "edges": "both files hold lists of edges",
    }
    for name, text in meanings.items():
        meaning.add_argument(
            f"--{name}",
            dest="holds",
            action="store_const",
            const=name,
            help=text,
        )
    # What is said of one file goes before these.
    for side in "xy":
        parser.add_argument(
            f"--{side}-holds",
            choices=_HOLDS,
            help=f"the same of the file {side} alone",
        )


def _add_options_of_reading(parser: argparse.ArgumentParser) -> None:
    """Add what decides how the files become spaces."""
    parser.add_argument(
        "--metric",
        choices=("euclidean", "sqeuclidean"),
        help="between points (default: euclidean)",
    )
    for side in "xy":
        parser.add_argument(
            f"--weights-{side}",
            type=Path,
            metavar="FILE",
            help=f"a column of weights of the atoms of {side} (default: uniform)",
        )
    # None by default, which leaves it to the file.
    parser.add_argument(
        "--header",
        choices=("yes", "no"),
        help="whether the first line holds names (default: found out, or asked)",
    )
    parser.add_argument(
        "--index-column",
        choices=("yes", "no"),
        help="whether the first column of tables holds names (default: found out, "
        "or asked)",
    )
    parser.add_argument(
        "--edge-length",
        metavar="NAME",
        help="attribute of GraphML's edges that is their length, or none (default: "
        "weight if all have the same)",
    )


def _add_options_of_solving(parser: argparse.ArgumentParser) -> None:
    """Add the solver and the effort of the certificate."""
    parser.add_argument(
        "--solver",
        choices=tuple(_SOLVERS),
        default="auto",
        help="what looks for the plan (default: auto, a search from several starts "
        "where that can find more)",
    )
    parser.add_argument(
        "--effort",
        choices=EFFORTS,
        default="linear",
        help="what the certificate may spend (default: linear)",
    )


def _add_options_of_output(parser: argparse.ArgumentParser) -> None:
    """Add what is printed and written."""
    parser.add_argument(
        "--plan",
        type=Path,
        metavar="OUT",
        help="write the plan: .npy its matrix, .npz a sparse matrix, .csv lines "
        "x,y,mass; an old file is replaced",
    )
    parser.add_argument(
        "--matching",
        action="store_true",
        help="print for every atom of x the atom of y that gets most of its mass, and "
        "its share",
    )
    parser.add_argument(
        "--matching-out",
        type=Path,
        metavar="OUT",
        help="write the same as .csv lines x,y,share; an old file is replaced",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print JSON instead of text",
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"gwfusion {gw.__version__}",
    )


def _command() -> int:
    """Run as a program, which ends without a traceback on Ctrl-C and broken pipes."""
    # Terminals that cannot show a name show its escaped characters.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        return _main_and_flush()
    except BrokenPipeError:
        # The interpreter flushes again at its end, which must not fail.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("gwtools: stopped by Ctrl-C.", file=sys.stderr)
        return 130  # as shells report an interrupt


def _main_and_flush() -> int:
    """Flush within the program, so that a reader that is gone is noticed there."""
    try:
        return main()
    finally:  # of --help, too, which exits
        if sys.stdout is not None:  # as in programs without a console on Windows
            sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(_command())
