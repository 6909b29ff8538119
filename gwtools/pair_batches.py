"""Many pairs of spaces, solved in batches of a fixed order by one worker or several."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from gwtools import _array, _check, _check_pairs
from gwtools._array import NumpyArray
from gwtools.batch import solve_batch
from gwtools.certify.landmarks import outward_root
from gwtools.results import ConvergenceWarning, GWResult
from gwtools.solve import solve
from gwtools.solvers import Solver
from gwtools.spaces import Space, detached

# What is known of a pair: distance and interval in units of C, and the status' name.
PAIR = np.dtype(
    [("distance", "f8"), ("lower", "f8"), ("upper", "f8"), ("status", "U24")]
)
# Pairs a batch at most: what an interruption can cost.
_MOST_PAIRS = 32
# Entries n · m that the plans of a batch have together, unless it is of one pair.
_MOST_ENTRIES = 2**18


class Batch(NamedTuple):
    """Pairs of spaces that are solved together.

    Parameters
    ----------
    number : int
        Its place among all batches.
    positions : array of int, shape (B,)
        The places of its pairs among all pairs.
    """

    number: int
    positions: NumpyArray


class Task(NamedTuple):
    """A batch with all that a worker needs."""

    batch: Batch
    xs: Sequence[Space]
    ys: Sequence[Space]
    solver: Solver | None
    effort: str


def batches(sizes_x: NumpyArray, sizes_y: NumpyArray) -> list[Batch]:
    """Cut pairs into batches of like sizes, large ones first.

    Batches depend on the sizes alone, so that whoever solves them, in whatever order
    and after whatever interruption, computes the same numbers.

    Parameters
    ----------
    sizes_x, sizes_y : arrays of int, shape (P,)
        Numbers of atoms of both spaces of each pair.
    """
    entries = sizes_x.astype(np.int64) * sizes_y
    order = np.argsort(-entries, kind="stable")
    found: list[Batch] = []
    start = 0
    while start < order.size:
        # The first pair of a batch is its largest.
        fitting = _MOST_ENTRIES // int(entries[order[start]])
        stop = start + min(max(fitting, 1), _MOST_PAIRS)
        found.append(Batch(len(found), order[start:stop]))
        start = stop
    return found


def given_solver(solver: Any) -> Solver | None:
    """Return the solver of all pairs; None for "auto".

    Raises
    ------
    TypeError
        If it is no solver, or starts from the coupling of one pair.
    """
    if solver is None or (isinstance(solver, str) and solver == "auto"):
        return None
    advice = 'pass "auto" or an instance such as gwtools.ConditionalGradient()'
    _check.instance(solver, "solver", Solver, advice)
    for setting in fields(solver):
        if setting.name == "init":
            _check_pairs.start(solver.init)
    found: Solver = solver
    return found


def solved(task: Task) -> tuple[Batch, NumpyArray]:
    """Solve the pairs of a batch.

    Returns
    -------
    (Batch, structured array of shape (B,))
        What is known of each pair, of dtype `PAIR`.
    """
    xs = list(map(detached, task.xs))
    ys = list(map(detached, task.ys))
    # Who asked for all pairs is told once how many criteria are not met.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if task.solver is None:
            results = [
                solve(x, y, effort=task.effort) for x, y in zip(xs, ys, strict=True)
            ]
        else:
            results = solve_batch(xs, ys, task.solver, effort=task.effort)
    return task.batch, np.array([_row(result) for result in results], dtype=PAIR)


def _row(result: GWResult) -> tuple[float, float, float, str]:
    """Return what is kept of a result."""
    certificate = result.certificate
    distance = _array.number(result.distance)
    lower = outward_root(certificate.lower, -np.inf)
    upper = outward_root(certificate.upper, np.inf)
    # The distance of a plan is within its interval, as is its square.
    return distance, min(lower, distance), max(upper, distance), result.status.name


def run(
    function: Callable[[Any], Any],
    tasks: Iterable[Any],
    n_jobs: int | None,
) -> Iterator[Any]:
    """Yield what a function returns of each task, in whatever order.

    Parameters
    ----------
    function : callable
        Of a module, so that workers can import it.
    tasks : iterable
        What it is called with.
    n_jobs : int or None
        Workers, as joblib counts them; None for one, or as many as
        ``joblib.parallel_config`` says.
    """
    if find_spec("joblib") is None:
        yield from map(function, tasks)
        return
    import joblib

    try:
        parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")
    except ValueError:  # some backends return all at once
        parallel = joblib.Parallel(n_jobs=n_jobs)
    yield from parallel(joblib.delayed(function)(task) for task in tasks)


def with_progress(
    found: Iterable[Any],
    total: int,
    words: str,
    unit: str,
    progress: bool | None,
) -> Iterator[Any]:
    """Pass results on, with a bar on stderr.

    Parameters
    ----------
    found : iterable
        The results.
    total : int
        How many there will be.
    words, unit : str
        What is done, and what is counted.
    progress : bool or None
        Whether the bar is shown; None shows it on terminals where tqdm is installed.
    """
    if progress is None:
        progress = sys.stderr.isatty() and find_spec("tqdm") is not None
    if not progress:
        yield from found
        return
    from tqdm.auto import tqdm

    yield from tqdm(found, total=total, desc=words, unit=unit)
