"""Global optima of clouds and Gram spaces of few dimensions, by branch and bound."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any, Self, final

import numpy as np

from gwtools import _array, _check, _check_fused, _check_spaces
from gwtools.bounds.branching import LEAST_SHARE, Search, kept_proof
from gwtools.bounds.node_bounds import coordinates, few_coordinates_decide
from gwtools.certify import ProvedInterval
from gwtools.history import Step, now
from gwtools.plans import SparsePlan, changed
from gwtools.problems import GWProblem
from gwtools.results import Status
from gwtools.solvers import portfolio
from gwtools.solvers.base import Callback, Outcome, Progress, Solver, is_true
from gwtools.solvers.conditional_gradient import ConditionalGradient
from gwtools.solvers.starts import product_plan
from gwtools.solvers.vertices import vertex_like
from gwtools.spaces import PointCloud, Space

MOST_COORDINATES = 6  # d d', the entries of Z


@final
@dataclass(frozen=True, eq=False)
class BranchAndBound(Solver):
    """Find the best coupling and prove that no other is better, in few dimensions.

    Between point clouds with squared distances, or two Gram spaces, whose dimensions d
    and d' have a product of at most 6. The problem then depends on d d' + 1 numbers
    alone, however many atoms there are (theorem 17).

    Parameters
    ----------
    tolerance : float
        Stop when both ends of the interval differ by at most this share of the
        objective, or of 1e-4 (4‖α‖‖β‖ + 2‖R‖‖S‖) where that is larger.
    max_nodes : int
        Boxes to search at most.
    time_limit : float, optional
        Seconds after which no further linear program is solved; by default none. What
        was proved until then depends on the machine.
    keep_proof : bool
        Whether to keep the cuts and the tree: ``result.certificate.verify(x, y)`` then
        proves the interval again. The outcome of :meth:`run` has them as ``branches``,
        for :func:`gwtools.branch_proofs.check_branches`.
    progress : bool
        Show nodes and both ends of the interval on the terminal, where tqdm is
        installed.

    Raises
    ------
    TypeError
        If ``keep_proof`` or ``progress`` is not True or False.
    ValueError
        If ``tolerance`` or ``time_limit`` is no finite number of at least 0, or
        ``max_nodes`` no integer of at least 1.

    Notes
    -----
    In the coordinates w = Σ π_ij α_i β_j and Z = Gᵀ π H the objective is a constant
    less 4 (w + ½ ‖Z‖²) (theorem 12). Every linear program over couplings, at any slope
    B, gives a cut w + ⟨B, Z⟩ ≤ h(B) that all couplings obey, and a coupling. A box of Z
    is bounded by the cuts and by chords in the place of squares; the box of the worst
    bound is searched first, and split where its chord is farthest from the square. The
    search starts from exact copies, all signs of principal axes and random slopes.

    Where it ends by itself, ``status`` is GLOBAL and ``certificate.tolerance`` the
    width that was asked for. Stopped by a callback or by an interrupt (Ctrl-C) it is
    STOPPED; out of time or of nodes, MAX_ITERATIONS. The interval of the certificate is
    proved in any case. ``result.iterations`` are the nodes, and callbacks are called
    after each; ``lower`` of what they are told, and of ``result.history``, is the lower
    end so far.

    In single precision the masses of the plan and the objective are rounded: where that
    leaves the interval wider than was asked for, ``status`` is STATIONARY. Of half
    precision nothing is proved but by the bounds of ``effort``, as it is converted.

    Two clouds in the plane take about a second at 100 atoms and a minute at 500, with
    the extra ``fast``. Symmetric shapes (rings, regular polygons, grids), and copies
    with little noise, have many couplings that are nearly as good as the best, which
    hardly any box excludes: there the interval may stay open. Points in a plane of a
    space count as two dimensions.

    The cuts are those of Ryner, Kronqvist and Karlsson 2023, arXiv:2307.09057, who
    minimise over their vertices where this splits boxes.

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> x = gw.PointCloud(
    ...     np.array([[-1.0], [-0.02], [-0.01], [0.0], [0.01], [0.02], [1.0]]),
    ...     metric="sqeuclidean",
    ... )
    >>> y = gw.PointCloud(
    ...     np.array([[-1.0], [-0.99], [0.01], [0.02], [0.03], [0.04], [0.05]]),
    ...     metric="sqeuclidean",
    ... )
    >>> result = gw.solve(x, y, gw.BranchAndBound())
    >>> round(float(result.objective), 6), result.status.name
    (0.654784, 'GLOBAL')
    >>> print(result.certificate)
    [0.654783, 0.654784] (global to 7e-07, lower bound by branch_and_bound)
    """

    tolerance: float = 1e-6
    max_nodes: int = 100_000
    time_limit: float | None = None
    keep_proof: bool = False
    progress: bool = False
    # What C was divided by: for the ends that progress shows.
    _unit: float = field(default=1.0, init=False)

    def __post_init__(self) -> None:
        _check.number(self.tolerance, "tolerance", least=0.0)
        _check.integer(self.max_nodes, "max_nodes", least=1)
        if self.time_limit is not None:
            _check.number(self.time_limit, "time_limit", least=0.0)
        _check.flag(self.keep_proof, "keep_proof")
        _check.flag(self.progress, "progress")

    def in_units(self, unit: float) -> Self:
        """Return the solver for spaces whose C is divided by ``unit``."""
        solver = copy.copy(self)
        # The dataclass is frozen: its fields are set past it.
        object.__setattr__(solver, "_unit", unit)
        return solver

    def numbers_held(self, x: Space, y: Space) -> float:
        """Estimate from above how many numbers are held at once."""
        entries = float(x.size * y.size)
        of_descent = ConditionalGradient().numbers_held(x, y)
        of_programs = max(of_descent, 8 * entries)
        # Costs, and the potentials of some thousand cuts.
        return of_programs + 6 * entries + 5000.0 * (x.size + y.size)

    def run(self, problem: GWProblem, callback: Callback | None = None) -> Outcome:
        """Search until the interval is closed.

        Parameters
        ----------
        problem : GWProblem
            The problem to answer.
        callback : callable or None
            Called with :class:`gwtools.Progress` after each node; True ends the search.

        Returns
        -------
        Outcome
            The best coupling, and the lower bound that was proved.

        Raises
        ------
        TypeError
            If ``problem`` is no :class:`gwtools.GWProblem`, or its spaces are neither
            two clouds with squared distances nor two Gram spaces.
        ValueError
            If the product of their dimensions is above 6.
        """
        _check.instance(problem, "problem", GWProblem, "pass gwtools.GWProblem(x, y)")
        _check_fused.carried(problem.linear is None, str(self))
        problem = problem.detached()
        _refuse_other_kinds(problem.x, problem.y)
        started = now()
        pair = coordinates(problem.x, problem.y)
        _check_spaces.few_dimensions(pair.number, MOST_COORDINATES)

        def is_over() -> bool:
            limit = self.time_limit
            return limit is not None and now() - started >= limit

        least = LEAST_SHARE * float(problem.variation)
        search = Search(pair, least, self.tolerance, is_over)
        steps: list[Step] = []
        status = self._searched(problem, search, steps, callback, started)
        # Whatever was searched proves a lower bound.
        lower = pair.lower(search.bound())
        outcome = _at_best(problem, search, status)
        upper = math.inf
        if isinstance(outcome.plan, SparsePlan):
            upper = pair.upper(_in_numpy(outcome.plan))
        proved = ProvedInterval(lower, "branch_and_bound", search.accepted, upper)
        return replace(
            outcome,
            iterations=search.nodes,
            history=tuple(steps),
            started=started,
            proved=proved,
            branches=kept_proof(search) if self.keep_proof else None,
        )

    def _searched(
        self,
        problem: GWProblem,
        search: Search,
        steps: list[Step],
        callback: Callback | None,
        started: float,
    ) -> Status:
        """Search, and return why the search ended; STATIONARY where it is closed."""
        try:
            with self._bar() as show:
                _start(problem, search)
                search.begin()
                while not search.is_closed:
                    if search.is_over() or search.nodes >= self.max_nodes:
                        return Status.MAX_ITERATIONS
                    search.step()
                    show(search)
                    seconds = now() - started
                    lower, objective = search.ends
                    step = Step(search.nodes, objective, None, None, seconds, lower)
                    steps.append(step)
                    if callback is None:
                        continue
                    told = Progress(search.nodes, objective, None, lower)
                    if is_true(callback(told)) and not search.is_closed:
                        return Status.STOPPED
        except KeyboardInterrupt:
            # What was proved so far holds, and is returned.
            return Status.STOPPED
        return Status.STATIONARY

    @contextmanager
    def _bar(self) -> Iterator[Any]:
        """Yield what shows nodes and both ends, if asked to and tqdm is installed."""
        if not self.progress or find_spec("tqdm") is None:
            yield lambda search: None
            return
        from tqdm import tqdm

        with tqdm(unit=" nodes", file=sys.stderr) as bar:

            def show(search: Search) -> None:
                lower, upper = (end * self._unit * self._unit for end in search.ends)
                text = f"[{lower:.6g}, {upper:.6g}]"
                bar.set_postfix_str(text, refresh=False)
                bar.update()

            yield show


def _refuse_other_kinds(x: Space, y: Space) -> None:
    """Refuse spaces between which more than few coordinates decide."""
    few = few_coordinates_decide(x, y)
    _check_spaces.few_coordinates_decide(few, _kind(x), _kind(y))


def _kind(space: Space) -> str:
    """Write the kind of a space in words of an error message."""
    name = type(space).__name__
    if isinstance(space, PointCloud):
        return f"{name} with metric={space.metric!r}"
    return name


def _start(problem: GWProblem, search: Search) -> None:
    """Raise the gain from all starts, unless one leaves nothing to find."""
    parts = portfolio.Search(problem, np.random.default_rng(0), ConditionalGradient())
    for candidate in portfolio.exact_copies(parts):
        if isinstance(candidate.plan, SparsePlan):
            search.enter(_in_numpy(candidate.plan))
    for slope in search.starts():
        if search.is_over():
            return
        if search.plan is not None and search.is_zero:
            return
        search.ascend(slope)


def _in_numpy(plan: SparsePlan) -> SparsePlan:
    return changed(
        plan,
        rows=_array.to_numpy(plan.rows),
        cols=_array.to_numpy(plan.cols),
        mass=_array.to_numpy(plan.mass).astype(np.float64),
    )


def _at_best(problem: GWProblem, search: Search, status: Status) -> Outcome:
    """Return the best coupling, with potentials and its Frank-Wolfe gap.

    Conditional gradient goes on from it: by one program, where it is a vertex at rest.
    """
    if search.plan is None:
        return Outcome(product_plan(problem), status)
    plan = vertex_like(search.plan, problem.x.weights)
    if status is Status.STOPPED:
        return Outcome(plan, status)
    outcome = ConditionalGradient(init=plan).run(problem)
    if float(problem.objective(outcome.plan)) > float(problem.objective(plan)):
        return Outcome(plan, status)
    return replace(outcome, status=status)
