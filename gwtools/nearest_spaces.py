"""The entry point ``nearest``: the spaces that are nearest to each of some queries."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gwtools import _array, _check, _check_lists, _check_pairs
from gwtools._array import Array, NumpyArray
from gwtools.certify import EFFORTS
from gwtools.pair_batches import Batch, Task, given_solver, run, solved, with_progress
from gwtools.results import ConvergenceWarning, Status
from gwtools.solvers import Solver, Sorted
from gwtools.spaces import Space, detached
from gwtools.spaces.lists import read_spaces, require_one_kind, require_plain

# Spaces that are solved before it is asked again which are left: few, as each may show
# that others need not be solved.
_SOLVED_TOGETHER = 4
# What a bound may cost that can spare a solution.
_BEFORE_SOLVING = "cubic"


@dataclass(frozen=True, eq=False)
class NearestResult:
    """The k spaces that are nearest to each query, and which of them surely are.

    Attributes
    ----------
    indices : NumPy array of shape (Q, k)
        Positions of the spaces, the nearest first.
    distances : array of shape (Q, k)
        GW_2 of the plan that was found for each, in units of C; of the library, dtype
        and device of the spaces.
    lower, upper : NumPy arrays of shape (Q, k)
        A proved interval for each true distance, in units of C.
    certified : NumPy array of bool, shape (Q, k)
        Whether it is proved that fewer than k spaces are nearer than this one. Else it
        is undecided: a better plan to another space may exist.
    solved : int
        Pairs that the solver was run on; for all others bounds showed that they are no
        nearer than the k that were found.
    pairs : int
        All pairs of a query and a space.

    Examples
    --------
    A copy of the query is surely nearest, as nothing can be nearer than 0, and bounds
    show that the star is farther than the ring.

    >>> import networkx as nx, gwtools as gw
    >>> graphs = [nx.cycle_graph(7), nx.path_graph(6), nx.star_graph(5)]
    >>> result = gw.nearest(
    ...     [gw.GraphSpace(graphs[1])], [gw.GraphSpace(graph) for graph in graphs], k=2
    ... )
    >>> result.indices, result.certified
    (array([[1, 0]]), array([[ True,  True]]))
    >>> result
    NearestResult(2 nearest of 1 queries: 100% certified, 3 of 3 pairs solved)
    """

    indices: NumpyArray
    distances: Array
    lower: NumpyArray
    upper: NumpyArray
    certified: NumpyArray
    solved: int
    pairs: int

    def __repr__(self) -> str:
        """Return the shape, and what share was solved and is certified."""
        queries, k = self.indices.shape
        return (
            f"NearestResult({k} nearest of {queries} queries: "
            f"{self.certified.mean():.0%} certified, "
            f"{self.solved} of {self.pairs} pairs solved)"
        )


class _Search(NamedTuple):
    """One query with all that a worker needs."""

    number: int
    query: Space
    spaces: Sequence[Space]
    k: int
    solver: Solver | None
    effort: str


class _Found(NamedTuple):
    """The nearest spaces of one query, arrays of shape (k,)."""

    number: int
    indices: NumpyArray
    distances: NumpyArray
    lower: NumpyArray
    upper: NumpyArray
    certified: NumpyArray
    solved: int
    missed: int  # pairs whose solver's criterion was not met


class _Known(NamedTuple):
    """What is known of the distances of one query to N spaces, arrays of shape (N,)."""

    distances: NumpyArray
    lower: NumpyArray
    upper: NumpyArray

    @classmethod
    def of(cls, rows: NumpyArray) -> _Known:
        """Begin with what is known of each space."""
        return cls(rows["distance"].copy(), rows["lower"].copy(), rows["upper"].copy())

    def update(self, chosen: NumpyArray, rows: NumpyArray) -> None:
        """Join what else is known of some spaces: all plans and bounds are valid."""
        for mine, found, better in (
            (self.distances, rows["distance"], np.minimum),
            (self.lower, rows["lower"], np.maximum),
            (self.upper, rows["upper"], np.minimum),
        ):
            mine[chosen] = better(mine[chosen], found)


def nearest(
    queries: Sequence[Any],
    spaces: Sequence[Any],
    k: int = 1,
    *,
    solver: Solver | str | None = None,
    effort: str = "linear",
    n_jobs: int | None = None,
    progress: bool | None = None,
) -> NearestResult:
    """Find the k spaces nearest to each query, and prove which of them are.

    Each pair gets an interval first, from the sorting bound and the plan that sorts row
    means. Then spaces are solved in the order of their lower ends, each after the
    bounds up to cubic effort have not shown that it need not be, until those left
    cannot be nearer than the k found.

    Parameters
    ----------
    queries : sequence of Q spaces or square arrays
        What neighbours are looked for of.
    spaces : sequence of N spaces or square arrays
        Among what; all of one array library, dtype and device.
    k : int
        Neighbours of each query.
    solver : Solver or "auto", optional
        As of :func:`gwtools.solve`, where "auto" is the default.
    effort : {"linear", "quadratic", "cubic", "quartic"}
        What the certificate of each pair that is solved may spend: more certifies more
        neighbours.
    n_jobs : int, optional
        Workers, as of :func:`gwtools.pairwise`; each takes a query at a time.
    progress : bool, optional
        Whether a bar is shown on stderr, as of :func:`gwtools.pairwise`.

    Returns
    -------
    NearestResult
        The neighbours, their distances and intervals, and which are certified.

    Raises
    ------
    TypeError, ValueError
        On bad input, before any work; so where k is larger than N.
    MemoryError
        If what a pair needs does not fit.
    ImportError
        If several workers are asked for and joblib is not installed.

    Warns
    -----
    ConvergenceWarning
        Once, with the number of solved pairs whose criterion is not met.

    Notes
    -----
    A plan proves that a space is at most so far, no plan that it is farther: so the
    order is certified by lower ends alone. With U_i the upper end of space i and L_j
    the lower end of space j, at most the spaces j with L_j < U_i can be nearer than i;
    where these are fewer than k, beside i, it is among the k nearest.

    Examples
    --------
    Which of eight molecules' skeletons, here paths, rings and stars, is most like a
    ring of nine atoms?

    >>> import networkx as nx, gwtools as gw
    >>> graphs = [nx.path_graph(9), nx.cycle_graph(8), nx.star_graph(8)]
    >>> graphs += [nx.path_graph(7), nx.cycle_graph(12), nx.star_graph(6)]
    >>> result = gw.nearest(
    ...     [gw.GraphSpace(nx.cycle_graph(9))],
    ...     [gw.GraphSpace(graph) for graph in graphs],
    ...     k=2,
    ... )
    >>> result.indices
    array([[1, 4]])
    """
    # 1. The arguments.
    asked = read_spaces(queries, "queries")
    known = read_spaces(spaces, "spaces")
    _check_lists.not_empty(asked, "queries")
    _check_lists.not_empty(known, "spaces")
    lists = {"queries": asked, "spaces": known}
    require_one_kind(lists)
    require_plain(lists, "nearest")
    _check.integer(k, "k", least=1)
    _check_pairs.neighbours(k, len(known))
    chosen = given_solver(solver)
    _check.choice(effort, "effort", EFFORTS)
    _check_pairs.workers(n_jobs)
    _check_pairs.joblib(n_jobs)
    _check_pairs.shown(progress)
    # 2. Each query by itself.
    of_workers = list(map(detached, known))
    tasks = (
        _Search(number, detached(query), of_workers, k, chosen, effort)
        for number, query in enumerate(asked)
    )
    results = run(_search, tasks, n_jobs)
    found: list[_Found] = list(
        with_progress(results, len(asked), "nearest", "query", progress)
    )
    found.sort(key=lambda of_query: of_query.number)
    # 3. The queries' rows.
    missed = sum(of_query.missed for of_query in found)
    ran = sum(of_query.solved for of_query in found)
    if missed:
        text = f"{missed} of {ran} solved pairs missed their solver's criterion."
        # The warning is shown at the line that called ``nearest``.
        warnings.warn(text, ConvergenceWarning, stacklevel=2)
    like = _array.detached(known[0].weights)
    distances = np.stack([of_query.distances for of_query in found])
    return NearestResult(
        indices=np.stack([of_query.indices for of_query in found]),
        distances=_array.from_numpy(distances, like),
        lower=np.stack([of_query.lower for of_query in found]),
        upper=np.stack([of_query.upper for of_query in found]),
        certified=np.stack([of_query.certified for of_query in found]),
        solved=ran,
        pairs=len(asked) * len(known),
    )


def _search(task: _Search) -> _Found:
    """Find the nearest spaces of one query."""
    count = len(task.spaces)
    # 1. An interval for each space, without running the solver.
    known = _Known.of(_rows(task, np.arange(count), Sorted(), "linear"))
    is_bounded = np.zeros(count, dtype=bool)
    is_solved = np.zeros(count, dtype=bool)
    missed = 0
    # 2. Those that may be among the k nearest are solved, by rising lower ends.
    while True:
        order = np.argsort(known.distances, kind="stable")
        best = order[: task.k]
        farthest = known.distances[best[-1]]
        # All that are returned are solved; others, where they may be nearer.
        needed = known.lower < farthest
        needed[best] = True
        left = np.flatnonzero(needed & ~is_solved)
        if left.size == 0:
            break
        chosen = left[np.argsort(known.lower[left], kind="stable")][:_SOLVED_TOGETHER]
        # A better bound costs less than a solution, and may show that none is needed.
        unbounded = chosen[~is_bounded[chosen]]
        if unbounded.size:
            known.update(unbounded, _rows(task, unbounded, Sorted(), _BEFORE_SOLVING))
            is_bounded[unbounded] = True
            continue
        rows = _rows(task, chosen, task.solver, task.effort)
        known.update(chosen, rows)
        is_solved[chosen] = True
        missed += sum(Status[name].failure for name in rows["status"])
    # 3. How many spaces may be nearer than each of the k, beside itself.
    certified = np.empty(task.k, dtype=bool)
    for place, i in enumerate(best):
        may_be_nearer = known.lower < known.upper[i]
        may_be_nearer[i] = False
        certified[place] = np.count_nonzero(may_be_nearer) < task.k
    return _Found(
        task.number,
        best,
        known.distances[best],
        known.lower[best],
        known.upper[best],
        certified,
        int(np.count_nonzero(is_solved)),
        missed,
    )


def _rows(
    task: _Search, chosen: NumpyArray, solver: Solver | None, effort: str
) -> NumpyArray:
    """Return what a solver finds between the query and some spaces."""
    others = [task.spaces[i] for i in chosen]
    batch = Batch(0, chosen)
    queries = [task.query] * len(others)
    _, rows = solved(Task(batch, queries, others, solver, effort))
    return rows
