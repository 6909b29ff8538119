"""The entry point ``pairwise``: lists of spaces in, a matrix of distances out."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from gwtools import _array, _check, _check_lists, _check_pairs
from gwtools._array import Array, NumpyArray
from gwtools.certify import EFFORTS
from gwtools.pair_batches import (
    PAIR,
    Batch,
    Task,
    batches,
    given_solver,
    run,
    solved,
    with_progress,
)
from gwtools.pair_stores import PairStore, digest
from gwtools.results import ConvergenceWarning, Status
from gwtools.solvers import Solver
from gwtools.spaces import Space
from gwtools.spaces.lists import read_spaces, require_one_kind, require_plain


@dataclass(frozen=True, eq=False)
class PairwiseResult:
    """Distances of all pairs of two lists of spaces, each with what is proved of it.

    Attributes
    ----------
    distances : array of shape (N, M)
        GW_2 of the plan that was found for each pair, in units of C; of the library,
        dtype and device of the spaces. A distance is at least the true one.
    lower, upper : NumPy arrays of shape (N, M)
        A proved interval for the true distance, in units of C, rounded outward: it
        holds ``distances`` too.
    status : NumPy array of shape (N, M)
        The :class:`gwtools.Status` of each pair.
    solver : str
        What solved them.

    Examples
    --------
    The matrix is what scikit-learn calls precomputed, and SciPy clusters by it: two
    triangles and two paths.

    >>> import networkx as nx, gwtools as gw
    >>> from scipy.cluster.hierarchy import fcluster, linkage
    >>> from scipy.spatial.distance import squareform
    >>> graphs = [
    ...     nx.cycle_graph(3),
    ...     nx.path_graph(6),
    ...     nx.cycle_graph(3),
    ...     nx.path_graph(7),
    ... ]
    >>> result = gw.pairwise([gw.GraphSpace(graph) for graph in graphs])
    >>> result.distances.round(2)
    array([[0.  , 1.72, 0.  , 2.15],
           [1.72, 0.  , 1.72, 0.71],
           [0.  , 1.72, 0.  , 2.15],
           [2.15, 0.71, 2.15, 0.  ]])
    >>> fcluster(linkage(squareform(result.distances)), t=2, criterion="maxclust")
    array([1, 2, 1, 2], dtype=int32)
    """

    distances: Array
    lower: NumpyArray
    upper: NumpyArray
    status: NumpyArray
    solver: str

    def __repr__(self) -> str:
        """Return the shape, and how many of the distances have which status."""
        n, m = self.lower.shape
        counts = Counter(status.name for status in self.status.ravel())
        told = ", ".join(f"{count} {name}" for name, count in counts.most_common())
        return f"PairwiseResult({n} x {m} distances by {self.solver}: {told})"


def pairwise(
    spaces: Sequence[Any],
    others: Sequence[Any] | None = None,
    *,
    solver: Solver | str | None = None,
    effort: str = "linear",
    n_jobs: int | None = None,
    store: str | PathLike[str] | None = None,
    progress: bool | None = None,
) -> PairwiseResult:
    """Compute the distances between all spaces of a list, or of two lists.

    Pairs are cut into batches of like sizes that depend on the spaces alone: numbers
    are the same for any number of workers and after any interruption, as long as each
    worker computes a pair with as many threads.

    Parameters
    ----------
    spaces : sequence of N spaces or square arrays
        Spaces of any sizes, all of one array library, dtype and device.
    others : sequence of M spaces or square arrays, optional
        What they are compared with; by default ``spaces`` among each other: each pair
        is solved once, and a space has the distance 0 to itself.
    solver : Solver or "auto", optional
        As of :func:`gwtools.solve`, where "auto" is the default;
        :class:`gwtools.Sorted` and :class:`gwtools.Sinkhorn` solve batches together
        (:func:`gwtools.solve_batch`).
    effort : {"linear", "quadratic", "cubic", "quartic"}
        What the interval of each pair may cost.
    n_jobs : int, optional
        Workers, as joblib counts them (extra ``distributed``): -1 for one a processor.
        By default one, or what ``joblib.parallel_config`` says, which may name Dask or
        Ray.
    store : str or path, optional
        A folder where finished batches are kept, of at most 32 pairs each: with the
        same folder an interrupted or killed run goes on behind them.
    progress : bool, optional
        Whether a bar is shown on stderr; by default on terminals, where tqdm is
        installed.

    Returns
    -------
    PairwiseResult
        Distances, intervals and statuses. Distances carry no gradient:
        :func:`gwtools.solve_batch` has it.

    Raises
    ------
    TypeError, ValueError
        On bad input, before any work; where ``store`` holds parts of another matrix.
    MemoryError
        If what a pair needs does not fit.
    ImportError
        If several workers are asked for and joblib is not installed.

    Warns
    -----
    ConvergenceWarning
        Once, with the number of pairs whose criterion is not met.

    Examples
    --------
    Two lists: which reference is each graph nearest to?

    >>> import networkx as nx, gwtools as gw
    >>> references = [gw.GraphSpace(nx.cycle_graph(8)), gw.GraphSpace(nx.path_graph(8))]
    >>> graphs = [gw.GraphSpace(nx.cycle_graph(7)), gw.GraphSpace(nx.path_graph(9))]
    >>> result = gw.pairwise(graphs, references)
    >>> result.distances.argmin(axis=1)
    array([0, 1])

    What is proved of these distances:

    >>> bool((result.upper[0, 0] < result.lower[0, 1]))
    True
    """
    # 1. The arguments.
    xs, ys = _read(spaces, others)
    chosen = given_solver(solver)
    _check.choice(effort, "effort", EFFORTS)
    _check_pairs.workers(n_jobs)
    _check_pairs.joblib(n_jobs)
    _check_pairs.shown(progress)
    folder = None if store is None else _check_pairs.folder(store)
    # 2. The pairs, of one list each once.
    if others is None:
        rows, cols = np.triu_indices(len(xs), k=1)
    else:
        rows, cols = np.divmod(np.arange(len(xs) * len(ys)), len(ys))
    sizes_x = np.array([x.size for x in xs])
    sizes_y = np.array([y.size for y in ys])
    planned = batches(sizes_x[rows], sizes_y[cols])
    # 3. What is known of each.
    kept = None
    if folder is not None:
        work = {
            "spaces": digest(xs),
            "others": None if others is None else digest(ys),
            "solver": "auto" if chosen is None else str(chosen),
            "effort": effort,
        }
        kept = PairStore(folder, work)
    found = np.zeros(rows.size, dtype=PAIR)
    missing = _fill(found, planned, kept)
    tasks = (
        Task(
            batch,
            [xs[i] for i in rows[batch.positions]],
            [ys[j] for j in cols[batch.positions]],
            chosen,
            effort,
        )
        for batch in missing
    )
    results = run(solved, tasks, n_jobs)
    for batch, values in with_progress(
        results, len(missing), "pairwise", "batch", progress
    ):
        if kept is not None:
            kept.keep(batch, values)
        found[batch.positions] = values
    # 4. The matrices.
    result = _matrices(found, rows, cols, xs, ys, others is None, chosen)
    _warn(found)
    return result


def _read(
    spaces: Sequence[Any], others: Sequence[Any] | None
) -> tuple[list[Space], list[Space]]:
    """Read the lists to compare, of which the second may be the first."""
    xs = read_spaces(spaces, "spaces")
    _check_lists.not_empty(xs, "spaces")
    lists = {"spaces": xs}
    if others is not None:
        lists["others"] = read_spaces(others, "others")
        _check_lists.not_empty(lists["others"], "others")
    require_one_kind(lists)
    require_plain(lists, "pairwise")
    return xs, lists.get("others", xs)


def _fill(
    found: NumpyArray,
    planned: Sequence[Batch],
    store: PairStore | None,
) -> list[Batch]:
    """Put in what is finished, and return the batches that are missing."""
    finished = {} if store is None else store.finished(planned)
    missing = []
    for batch in planned:
        if batch.number in finished:
            found[batch.positions] = finished[batch.number]
        else:
            missing.append(batch)
    return missing


def _matrices(
    found: NumpyArray,
    rows: NumpyArray,
    cols: NumpyArray,
    xs: Sequence[Space],
    ys: Sequence[Space],
    symmetric: bool,
    solver: Solver | None,
) -> PairwiseResult:
    """Return what is known of the pairs as matrices of shape (N, M)."""
    shape = (len(xs), len(ys))
    # A space has the distance 0 to itself, which is proved.
    numbers = {name: np.zeros(shape) for name in ("distance", "lower", "upper")}
    status = np.full(shape, Status.GLOBAL, dtype=object)
    named = {name: Status[name] for name in set(found["status"])}
    statuses = np.array([named[name] for name in found["status"]], dtype=object)
    for matrix, values in (
        *((matrix, found[name]) for name, matrix in numbers.items()),
        (status, statuses),
    ):
        matrix[rows, cols] = values
        if symmetric:
            matrix[cols, rows] = values
    like = _array.detached(xs[0].weights)
    return PairwiseResult(
        distances=_array.from_numpy(numbers["distance"], like),
        lower=numbers["lower"],
        upper=numbers["upper"],
        status=status,
        solver="auto" if solver is None else str(solver),
    )


def _warn(found: NumpyArray) -> None:
    """Warn once where criteria are not met."""
    missed = [name for name in found["status"] if Status[name].failure]
    if missed:
        text = f"{len(missed)} of {found.size} pairs: {Status[missed[0]].value}"
        # Level 3 is the line that calls pairwise.
        warnings.warn(text, ConvergenceWarning, stacklevel=3)
