"""Search from many starts: conditional gradient from each start of a portfolio."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, cast, final

import numpy as np

from gwtools import _check
from gwtools.bounds.moments import moments, norm_bound
from gwtools.channel_problems import ChannelProblem
from gwtools.history import now
from gwtools.problems import GWProblem
from gwtools.results import Status
from gwtools.solvers.base import Callback, Outcome, Progress, Solver, is_true
from gwtools.solvers.channel_portfolio import parts_of
from gwtools.solvers.conditional_gradient import ConditionalGradient
from gwtools.solvers.portfolio import (
    ENDLESS,
    MEDIUM,
    SMALL,
    Candidate,
    Search,
    is_left_out,
    left_out,
)
from gwtools.solvers.refinement import counted_from
from gwtools.spaces import Space
from gwtools.start_records import Start, Starts

_MOST_STARTS = 64
# Starts in a row that gained nothing, after which the search ends: usually, where
# independent starts agree, and between larger spaces.
_PATIENCE = 20
_PATIENCE_AGREEING = 10
_PATIENCE_LARGE = 5
_PATIENT = 150  # atoms of the larger space
_AGREEING = 5  # independent starts that ended at the best objective
_COARSE_STARTS = 8
_MOST_STEPS = 300  # of all starts together: no restart or random vertex follows
# A start is given up when it is above the best objective and has taken more steps than
# these, unless the last few lower it so fast that a few more may bring it there.
_FEWEST_STEPS = 8
_LAST_STEPS = 4
_FURTHER_STEPS = 20
# Between large spaces it is given up after this share of the first start's steps.
_SHARE_OF_STEPS = 0.5


@dataclass(eq=False)
class _Heard:
    """A callback, and whether it has asked to stop.

    A start that meets its criterion at the step of the stop reports that instead.

    Parameters
    ----------
    callback : callable
        What the caller of the search gave.
    """

    callback: Callback
    stopped: bool = False

    def __call__(self, progress: Progress) -> Any:
        """Pass the answer on."""
        answer = self.callback(progress)
        self.stopped = self.stopped or is_true(answer)
        return answer


@dataclass(eq=False)
class _Limit:
    """A callback that gives up a start which does not come near the best.

    Parameters
    ----------
    callback : callable or None
        What the caller of the search gave.
    least : float
        The best objective, in squared units of C.
    most : float
        Steps after which a start that is above it is given up in any case.
    objectives : list of float
        Those of the steps so far, in squared units of C.
    has_given_up : bool
        Whether this ended the start.
    """

    callback: Callback | None
    least: float
    most: float
    objectives: list[float] = field(default_factory=list)
    has_given_up: bool = False

    def __call__(self, progress: Progress) -> Any:
        """Tell whether to stop after a step."""
        self.objectives.append(progress.objective)
        stopped = None
        if self.callback is not None:
            stopped = self.callback(progress)
        if progress.objective > self.least and self._is_hopeless():
            self.has_given_up = True
            return True
        return stopped

    def _is_hopeless(self) -> bool:
        """Tell whether the steps so far are too many for what they gained."""
        number = len(self.objectives)
        if number > self.most:
            return True
        if number <= _FEWEST_STEPS:
            return False
        last = self.objectives[-1]
        decrease = self.objectives[-1 - _LAST_STEPS] - last
        further = decrease * _FURTHER_STEPS / _LAST_STEPS
        return last - further > self.least


class _Made(NamedTuple):
    """What is kept of a start that was made; its plan is not, unless it is the best."""

    name: str
    independent: bool
    objective: float  # in squared units of C; infinite where it is no number
    iterations: int
    seconds: float


@dataclass(eq=False)
class _Ledger:
    """The starts made so far.

    Parameters
    ----------
    negligible : float
        Objectives that differ by no more count as equal, in squared units of C.
    float_error : float
        A later start replaces the best where it is lower by more, in squared units of
        C.
    made : list of _Made
        The starts.
    best : int
        The place of the best of them.
    outcome : Outcome or None
        Where the best of them led to.
    last_gain : int
        How many had been made when the best objective last fell by more than is
        negligible.
    planned : int
        How many of them are no restarts or random vertices.
    """

    negligible: float
    float_error: float
    made: list[_Made] = field(default_factory=list)
    best: int = 0
    outcome: Outcome | None = None
    last_gain: int = 0
    planned: int = 0

    @property
    def least(self) -> float:
        """The best objective, in squared units of C; infinite before the first."""
        return self.made[self.best].objective if self.made else math.inf

    @property
    def steps(self) -> int:
        """Steps of all starts together."""
        return sum(made.iterations for made in self.made)

    def add(self, made: _Made, outcome: Outcome) -> None:
        """Enter a start."""
        before = self.least
        self.made.append(made)
        is_lower = made.objective < before - self.float_error
        if is_lower or self.outcome is None:
            self.best = len(self.made) - 1
            self.outcome = outcome
        if made.objective < before - self.negligible:
            self.last_gain = len(self.made)

    def reached(self, made: _Made) -> bool:
        """Tell whether a start ended at the best objective."""
        return made.objective <= self.least + self.negligible

    @property
    def agree(self) -> bool:
        """Whether enough independent starts ended at the best objective."""
        count = 0
        for made in self.made:
            count += made.independent and self.reached(made)
        return count >= _AGREEING

    def starts(self, missing: str) -> Starts:
        """Return the records that a result holds."""
        records = []
        for place, made in enumerate(self.made):
            record = Start(
                name=made.name,
                objective=made.objective,
                iterations=made.iterations,
                seconds=made.seconds,
                reached=self.reached(made),
                won=place == self.best,
                independent=made.independent,
            )
            records.append(record)
        return Starts(tuple(records), missing)


@final
@dataclass(frozen=True, eq=False)
class MultiStart(Solver):
    """Search for the best stationary plan by conditional gradient from many starts.

    The objective mostly has many stationary plans. A single start finds one of them;
    that several unrelated starts end at the same objective is a sign, no proof, that no
    better one is left.

    Parameters
    ----------
    starts : int, optional
        Starts to make, at most; the number that a result printed reproduces it. By
        default the search ends by itself: after the planned starts below it goes on
        until 20 in a row gained nothing (10 where five planned or random starts agree,
        5 above 150 atoms). Before each of these, 64 starts or 300 steps of all end it.
    budget : float, optional
        Seconds after which no further start is made. The clock is looked at between
        starts, so that the result depends on the machine; ``result.starts`` tells how
        many were made, and that number as ``starts`` gives the same result anywhere. A
        start in progress is finished, with all it begins with. With a budget no number
        of starts without gain ends the search.
    seed : int
        Of random starts.
    tolerance : float
        That of :class:`gwtools.ConditionalGradient`, which goes on from every start.
        The search ends where the objective is within it, as that share, of a lower
        bound.
    max_iterations : int
        Linear programs at most, from each start, those of coarse problems included.

    Raises
    ------
    ValueError
        If ``starts`` or ``max_iterations`` is no integer of at least 1, ``seed`` no
        integer of at least 0, or ``budget`` or ``tolerance`` no finite number of at
        least 0.

    Notes
    -----
    The starts, in this order. The larger space decides up to which size they are made;
    ``result.starts`` names those that would be made between fewer atoms:

    ==================  ================================================  ===========
    start               coupling                                          atoms up to
    ==================  ================================================  ===========
    product coupling    that of :class:`gwtools.ConditionalGradient`      any
    exact copy          the bijection that keeps all values, if there is  2500
                        one
    all permutations    the best bijection between equal weights          9
    coarse to fine      the best vertex at the plan of two quantised      any, from 250
                        spaces, searched by eight starts                  in both
    linear transport    that of least ⟨M, π⟩, where features M are given  any
    third bound         that of the third bound's program, of residuals;  2500
                        500 between unequal weights
    eigenvectors        the best of all signs of three leading            500
                        eigenvectors
    first bound         that which sorts the eccentricities               500
    second bound        the (i, j) marginal of the coupling of pairs      500
    annealing           that of :class:`gwtools.Sinkhorn`                 500
    restart             the best plan, some atoms exchanged, five times,  500
                        then a vertex for random costs
    ==================  ================================================  ===========

    Where kinds of spaces make the objective concave, all permutations prove the best
    one optimal, as the bound ``permutations`` of the certificate.

    As soon as five of them agree the remaining planned ones are skipped. A start is
    given up, and its objective the last one, where after more than eight steps twenty
    further ones at the pace of the last four would not bring it below the best; above
    500 atoms also after half of the first start's steps. ``result.iterations`` and
    ``result.history`` are those of the start that won; callbacks count the steps of
    all.
    Starts are made one after the other, so that the result does not depend on the
    number of threads. Those but the last do not depend on the order of the atoms, but
    for ties. What is computed in NumPy on the CPU: the linear programs, and the starts
    but for annealing, eigenvectors and eccentricities; the products with C and D stay
    in the library and on the device of the spaces.

    With gradients the envelope theorem holds at the plan that was found, which may
    change from one call to the next; loops had better start from their last plan,
    ``ConditionalGradient(init=result.plan)``.

    Examples
    --------
    Two shapes that a single start does not match.

    >>> import numpy as np, gwtools as gw
    >>> points = np.array([[0, 0], [1, 0], [3, 0], [3, 2], [3, 5], [0, 4], [1, 1.5]])
    >>> x = gw.PointCloud(points, weights=np.array([2, 1, 1, 2, 1, 1, 2]) / 10)
    >>> y = gw.PointCloud(points[:5] @ np.array([[0.0, 1.0], [-1.0, 0.5]]))
    >>> single = gw.solve(x, y, gw.ConditionalGradient())
    >>> result = gw.solve(x, y, gw.MultiStart())
    >>> bool(result.objective <= single.objective)
    True
    >>> again = gw.solve(x, y, gw.MultiStart(starts=len(result.starts)))
    >>> bool(again.objective == result.objective)
    True
    """

    carries_features: ClassVar[bool] = True
    carries_losses: ClassVar[bool] = True

    starts: int | None = None
    budget: float | None = None
    seed: int = 0
    tolerance: float = 1e-9
    max_iterations: int = 1000

    def __post_init__(self) -> None:
        if self.starts is not None:
            _check.integer(self.starts, "starts", least=1)
        if self.budget is not None:
            _check.number(self.budget, "budget", least=0.0)
        _check.integer(self.seed, "seed", least=0)
        _check.number(self.tolerance, "tolerance", least=0.0)
        _check.integer(self.max_iterations, "max_iterations", least=1)

    @property
    def descent(self) -> ConditionalGradient:
        """The solver that goes on from every start."""
        return ConditionalGradient(
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
        )

    def accepted_gap(self, problem: GWProblem) -> float:
        """Return the decrease that the tolerance neglects, in squared units of C."""
        return self.descent.accepted_gap(problem)

    def numbers_held(self, x: Space, y: Space) -> float:
        """Estimate from above how many numbers are held at once, R and S included."""
        held = self.descent.numbers_held(x, y)
        atoms = max(x.size, y.size)
        if self.starts == 1 or atoms > MEDIUM:
            return held
        # The parts of both spaces that the other starts read, and annealing.
        parts = 6.0 * (x.size**2 + y.size**2)
        annealing = 18.0 * x.size * y.size if atoms <= SMALL else 0.0
        return held + parts + annealing

    def run(self, problem: GWProblem, callback: Callback | None = None) -> Outcome:
        """Make starts until the search ends.

        Parameters
        ----------
        problem : GWProblem
            The problem to answer.
        callback : callable or None
            Called with :class:`gwtools.Progress` after each step of each start, which
            are counted together; True ends the search with the best plan so far.

        Returns
        -------
        Outcome
            That of the best start, with the records of all.

        Raises
        ------
        TypeError
            If ``problem`` is no :class:`gwtools.GWProblem`.
        """
        _check.instance(problem, "problem", GWProblem, "pass gwtools.GWProblem(x, y)")
        problem = problem.detached()
        search = Search(
            problem,
            np.random.default_rng(self.seed),
            coarse_solver=replace(self, starts=_COARSE_STARTS, budget=None),
        )
        negligible = max(self.accepted_gap(problem), problem.float_error)
        ledger = _Ledger(negligible, problem.float_error)
        heard = None if callback is None else _Heard(callback)
        began = now()
        lower = -math.inf
        stopped = False
        for candidate in self._candidates(search, ledger):
            outcome = self._descended(search, ledger, candidate, heard)
            objective = float(problem.objective(outcome.plan))
            if not math.isfinite(objective):
                objective = math.inf
            seconds = now() - began - sum(made.seconds for made in ledger.made)
            made = _Made(
                candidate.name,
                candidate.independent,
                objective,
                outcome.iterations,
                seconds,
            )
            ledger.add(made, outcome)
            best = cast(Outcome, ledger.outcome)
            search.best = best.plan
            search.least = ledger.least
            if candidate.optimal:
                break
            if len(ledger.made) == self.starts:
                break
            if self.budget is not None and now() - began >= self.budget:
                break
            # No start can gain anything where the interval is closed.
            if math.isinf(lower):
                lower = _lower_bound(problem)
            if ledger.least - lower <= negligible:
                break
            stopped = heard is not None and heard.stopped
            if stopped:
                break
        if stopped or outcome.status is Status.STOPPED:
            best = replace(best, status=Status.STOPPED)
        records = ledger.starts(left_out(search, parts_of(problem)))
        return replace(best, starts=records, proved=search.proved)

    def _candidates(self, search: Search, ledger: _Ledger) -> Iterator[Candidate]:
        """Yield the planned starts, then random and perturbed ones."""
        ends_by_itself = self.starts is None and self.budget is None
        # Also where a number of starts is given, which makes them the same ones.
        for part in parts_of(search.problem):
            if is_left_out(search, part):
                continue
            for candidate in part.starts(search):
                yield candidate
                ledger.planned = len(ledger.made)
                if ledger.agree:
                    break
            if ledger.agree:
                break
        if is_left_out(search, ENDLESS):
            return
        for candidate in ENDLESS.starts(search):
            if ends_by_itself and _is_enough(search, ledger):
                return
            yield candidate

    def _descended(
        self,
        search: Search,
        ledger: _Ledger,
        candidate: Candidate,
        callback: Callback | None,
    ) -> Outcome:
        """Go on from a start by conditional gradient."""
        solver = self.descent
        if candidate.plan is not None:
            solver = replace(solver, init=candidate.plan)
        # The callback is told the number of all steps.
        counted = counted_from(ledger.steps, callback)
        if not ledger.made:
            return solver.run(search.problem, counted)
        most = math.inf
        if search.atoms > SMALL:
            most = _SHARE_OF_STEPS * ledger.made[0].iterations
        limit = _Limit(counted, ledger.least, most)
        outcome = solver.run(search.problem, limit)
        if limit.has_given_up:
            return replace(outcome, status=Status.MAX_ITERATIONS)
        return outcome


def _lower_bound(problem: GWProblem) -> float:
    """Return the bound of theorem 3, at least 0, in squared units of C.

    Of a fused objective that share of it, and the least of the linear term.
    """
    if isinstance(problem, ChannelProblem):
        return problem.floor
    x = moments(problem.x, problem.left)
    y = moments(problem.y, problem.right)
    lower = max(0.0, float(norm_bound(x, y)))
    return problem.share * lower + problem.floor


def _is_enough(search: Search, ledger: _Ledger) -> bool:
    """Tell whether a search that ends by itself does so now."""
    number = len(ledger.made)
    patience = _PATIENCE_AGREEING if ledger.agree else _PATIENCE
    if search.atoms > _PATIENT:
        patience = _PATIENCE_LARGE
    if ledger.steps >= _MOST_STEPS:
        return True
    without_gain = number - max(ledger.last_gain, ledger.planned)
    return number >= _MOST_STARTS or without_gain >= patience
