"""Base classes of solvers, and the loop that runs the iterative ones."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np

from gwtools import _array, _check
from gwtools._array import Array
from gwtools._stacks import Numbers, is_stack, larger
from gwtools.branch_proofs import BranchProof
from gwtools.certify import ProvedInterval
from gwtools.history import Step, now, with_gap
from gwtools.plans import Plan
from gwtools.preparation import Prepared
from gwtools.problems import GWProblem, Quadratic
from gwtools.results import Status
from gwtools.solvers.starts import product_plan
from gwtools.spaces import Space
from gwtools.start_records import Starts


@dataclass(frozen=True)
class Progress:
    """What a callback receives after every step.

    Attributes
    ----------
    iteration : int
        The number of the step, from 1.
    objective : float
        The objective of the plan, in squared units of C.
    frank_wolfe_gap : float or None
        The Frank-Wolfe gap where it was computed, in squared units of C.
    lower : float or None
        What no objective is below, in squared units of C, as far as branch and bound
        has found, not yet rounded outward; None from all other solvers.

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> steps = []
    >>> x, y, solver = 1 - np.eye(2), 1 - np.eye(4), gw.ConditionalGradient()
    >>> result = gw.solve(x, y, solver, callback=steps.append)
    >>> steps[-1].iteration == result.iterations, steps[-1].objective
    (True, 0.25)

    A callback that returns True ends the solver.

    >>> gw.solve(
    ...     1 - np.eye(2), 1 - np.eye(4), callback=lambda step: step.objective < 0.3
    ... ).status.name
    'STOPPED'
    """

    iteration: int
    objective: float
    frank_wolfe_gap: float | None
    lower: float | None = None


Callback = Callable[[Progress], Any]


@dataclass(frozen=True, eq=False)
class Outcome:
    """A solver's answer: a coupling, why it stopped, and its own value if it has one.

    ``estimate`` is that value, a closed-form lower bound; None where it is the
    objective. ``potentials`` solve the dual of the linear program at a stationary
    plan, which is then outside any gradient graph. ``history`` are the steps of an
    iterative solver, and ``started`` is when it started, by the clock of these.
    ``proved`` is a lower bound that the solver proved, and ``branches`` the proof where
    it was kept.
    """

    plan: Plan
    status: Status
    iterations: int = 0
    frank_wolfe_gap: float | None = None  # in squared units of C
    estimate: Array | None = None  # in units of C to the power ``power``
    power: float = 2.0
    potentials: tuple[Array, Array] | None = None  # (n,) and (m,), squared units of C
    history: tuple[Step, ...] = ()
    started: float = 0.0  # in seconds
    starts: Starts | None = None
    proved: ProvedInterval | None = None  # in squared units of the problem's C
    branches: BranchProof | None = None


@dataclass(frozen=True, eq=False)
class Solver(ABC):
    """A way to answer a :class:`GWProblem`.

    Immutable, so that one solver serves many problems.

    Examples
    --------
    One call for all of them: what a solver finds is judged by the same certificate.

    >>> import numpy as np, gwtools as gw
    >>> x = gw.PointCloud(
    ...     np.array([[0.0], [1.0], [3.0]]), weights=np.array([0.5, 0.25, 0.25])
    ... )
    >>> y = gw.PointCloud(np.array([[0.0, 0.0], [0.0, 1.0], [2.0, 0.0]]))
    >>> for solver in (gw.ConditionalGradient(), gw.Sinkhorn(), gw.Sorted()):
    ...     print(solver, gw.solve(x, y, solver).certificate)
    ConditionalGradient() [0.215718, 0.737702] (bracket, lower bound by norm)
    Sinkhorn() [0.215718, 0.737702] (bracket, lower bound by norm)
    Sorted() [0.215718, 0.790162] (bracket, lower bound by norm)
    """

    # Whether it minimises fused objectives too.
    carries_features: ClassVar[bool] = False
    # And objectives of directed spaces and of other losses than squares.
    carries_losses: ClassVar[bool] = False

    @abstractmethod
    def run(self, problem: GWProblem, callback: Callback | None = None) -> Outcome:
        """Answer the problem.

        Parameters
        ----------
        problem : GWProblem
            The problem.
        callback : callable, optional
            Called after every step; it stops the solver by returning True.

        Returns
        -------
        Outcome
            The coupling, and why the solver stopped.
        """

    def in_units(self, unit: float) -> Self:
        """Return the solver for spaces whose C is divided by ``unit``.

        Settings with units change with it.

        Parameters
        ----------
        unit : float
            What C was divided by.

        Returns
        -------
        Solver
            By default the solver itself, without settings in units of C.
        """
        return self

    def on_atoms(self, prepared: Prepared, shape: tuple[int, int]) -> Self:
        """Return the solver for the atoms that carry weight.

        Parameters
        ----------
        prepared : Prepared
            The spaces without the other atoms, and the positions of those kept.
        shape : pair of int
            Numbers of atoms of both spaces before any were dropped: settings such as a
            starting plan still have this shape.

        Returns
        -------
        Solver
            By default the solver itself, without settings for single atoms.
        """
        return self

    def accepted_gap(self, problem: GWProblem) -> float:
        """Return the decrease of the objective that the solver neglects.

        A certificate of this width counts as closed.

        Parameters
        ----------
        problem : GWProblem
            The problem that was answered.

        Returns
        -------
        float
            In squared units of C; by default 0.
        """
        return 0.0

    def numbers_held(self, x: Space, y: Space) -> float:
        """Estimate from above how many numbers are held at once between two spaces.

        Residuals R and S included, where they are formed.

        Parameters
        ----------
        x, y : Space
            The spaces of a problem.

        Returns
        -------
        float
            A number of array entries; by default 0, for few.
        """
        return 0.0

    def entropy_weight(self, problem: GWProblem) -> float | None:
        """Return the ε of the entropy ε KL(π | a ⊗ b) that is part of the problem.

        Parameters
        ----------
        problem : GWProblem
            The problem that was answered.

        Returns
        -------
        float or None
            In squared units of C; by default None, for the plain problem.
        """
        return None

    def __str__(self) -> str:
        """Name the solver and the settings that differ from their defaults."""
        changed = []
        for setting in fields(self):
            value = getattr(self, setting.name)
            # Values of another type, such as plans, may not compare to the default.
            same_type = type(value) is type(setting.default)
            if same_type and value == setting.default:
                continue
            short = isinstance(value, str | int | float)
            shown = repr(value) if short else "…"
            changed.append(f"{setting.name}={shown}")
        return f"{type(self).__name__}({', '.join(changed)})"


class _State(Protocol):
    """The iterate of a solver; it has a status once its criterion is met."""

    @property
    def plan(self) -> Plan: ...
    # F(π) − F(a ⊗ b), in squared units of C
    @property
    def relative_objective(self) -> float: ...
    @property
    def status(self) -> Status | None: ...
    @property
    def frank_wolfe_gap(self) -> float | None: ...
    # that of the plan which the last step started from
    @property
    def gap_before(self) -> float | None: ...
    # of the kernel that the next step scales, None of linear programs
    @property
    def epsilon(self) -> float | None: ...


S = TypeVar("S", bound=_State)
# Values that leave the range end the iterations with a status of their own: NumPy need
# not warn of them.
QUIET = partial(np.errstate, over="ignore", invalid="ignore")


@dataclass(frozen=True, eq=False)
class IterativeSolver(Solver, Generic[S]):
    """A solver that repeats a step until its own criterion is met.

    Parameters
    ----------
    tolerance : float
        Relative to 4‖α‖‖β‖ + 2‖R‖‖S‖, a bound on how far any coupling's objective is
        from the product coupling's (theorem 2); changes below the float error of the
        dtype are always tolerated.
    max_iterations : int
        Steps at most.
    """

    tolerance: float = 1e-9
    max_iterations: int = 1000

    def negligible(self, problem: Quadratic) -> Numbers:
        """Return the change of the objective that counts as none.

        In squared units of C; one number for each problem of a stack.
        """
        accepted = self.tolerance * problem.variation  # (…)
        return larger(accepted, problem.float_error)

    def accepted_gap(self, problem: GWProblem) -> float:
        """Return the decrease that the tolerance neglects, in squared units of C."""
        variation = problem.detached().variation
        return float(self.tolerance * variation)

    def first_plan(self, problem: GWProblem) -> Plan:
        """Return the answer where all couplings are equally good and no step is taken.

        The product coupling, or the one that was given to start from.
        """
        return product_plan(problem)

    @abstractmethod
    def start(self, problem: GWProblem) -> S:
        """Return the first state.

        Parameters
        ----------
        problem : GWProblem
            The problem, outside any gradient graph.

        Returns
        -------
        S
            Its status is set where no step is needed.
        """

    @abstractmethod
    def potentials(self, problem: GWProblem, state: S) -> tuple[Array, Array]:
        """Return potentials of the linear program at the last plan.

        Its costs are the linearisation of the objective there.

        Parameters
        ----------
        problem : GWProblem
            The problem, outside any gradient graph.
        state : S
            The last state.

        Returns
        -------
        pair of arrays of shape (n,) and (m,)
            In squared units of C.
        """

    @abstractmethod
    def step(self, problem: GWProblem, state: S) -> S:
        """Return the next state.

        Parameters
        ----------
        problem : GWProblem
            The problem, outside any gradient graph.
        state : S
            The current state.

        Returns
        -------
        S
            Its status is set where the criterion is met.
        """

    def run(self, problem: GWProblem, callback: Callback | None = None) -> Outcome:
        """Repeat steps until the criterion is met.

        Before that the callback may end the solver by returning True, a value may not
        be finite, or the steps may run out.

        Parameters
        ----------
        problem : GWProblem
            The problem.
        callback : callable, optional
            Called with a :class:`gwtools.Progress` after every step.

        Returns
        -------
        Outcome
            The last finite plan, and why the solver stopped.

        Raises
        ------
        TypeError
            If the problem is no :class:`GWProblem`.
        """
        _check.instance(problem, "problem", GWProblem, "pass gwtools.GWProblem(x, y)")
        return self._repeated(problem.detached(), callback)

    def _repeated(self, problem: Any, callback: Callback | None = None) -> Outcome:
        """Repeat steps as :meth:`run`, for any problem outside any gradient graph."""
        started = now()
        if problem.variation <= problem.float_error:
            return self._without_steps(problem)
        # A start may already be stationary.
        with QUIET():
            state = self.start(problem)
        status = state.status
        iteration = 0
        steps: list[Step] = []
        while status is None:  # for max_iterations steps at most
            iteration += 1
            with QUIET():
                following = self.step(problem, state)
            if not math.isfinite(following.relative_objective):
                # The last finite state is the answer.
                status = Status.NON_FINITE
                break
            seconds = now() - started
            step = _step(problem, iteration, following, state.epsilon, seconds)
            with_gap(steps, following.gap_before)
            steps.append(step)
            state = following
            stopped = False
            if callback is not None:
                progress = Progress(iteration, step.objective, step.frank_wolfe_gap)
                stopped = is_true(callback(progress))
            status = self._status_after(state, iteration, stopped)
        return Outcome(
            state.plan,
            status,
            iteration,
            state.frank_wolfe_gap,
            potentials=self.potentials(problem, state),
            history=tuple(steps),
            started=started,
        )

    def _without_steps(self, problem: GWProblem) -> Outcome:
        """Return the answer where the objective varies by no more than its float error.

        No coupling's objective is farther from the product coupling's (theorem 2).
        """
        a = problem.x.weights
        b = problem.y.weights
        xp = _array.namespace(a)
        zeros = (xp.zeros_like(a), xp.zeros_like(b))
        plan = self.first_plan(problem)
        # No linearisation promises a larger decrease, at any coupling (theorem 8 b).
        gap = 4 * problem.variation
        return Outcome(plan, Status.GLOBAL, 0, gap, potentials=zeros)

    def _status_after(
        self,
        state: S,
        iteration: int,
        stopped: bool,
    ) -> Status | None:
        """Return why the solver stops after a step; None where it goes on."""
        status = state.status
        # A criterion that is met at the step where the callback stops still counts.
        met = status is not None and status.success
        if stopped and not met:
            return Status.STOPPED
        if status is None and iteration >= self.max_iterations:
            return Status.MAX_ITERATIONS
        return status


def gap_above(lower: Numbers, value: Numbers) -> Numbers:
    """Return how far a value may lie above the least one, at least 0.

    Parameters
    ----------
    lower : float or array of shape (…)
        A lower bound of the least value.
    value : float or array of shape (…)
        The value.

    Returns
    -------
    float or array of shape (…)
        Infinite where either is not a number.
    """
    gap = value - lower
    if is_stack(gap):
        xp = _array.namespace(gap)
        positive = xp.clip(gap, min=0.0)
        missing = xp.isnan(gap)
        return xp.where(missing, math.inf, positive)
    if math.isnan(gap):
        return math.inf
    return max(0.0, gap)


def is_true(answer: Any) -> bool:
    """Tell whether a callback returned True, as a Python or a NumPy truth value.

    Nothing else stops a solver: callbacks may return what their last call returned.
    """
    return isinstance(answer, bool | np.bool_) and bool(answer)


def _step(
    problem: GWProblem,
    iteration: int,
    state: _State,
    epsilon: float | None,
    seconds: float,
) -> Step:
    """Return what a step led to."""
    # The sum may fall below 0 by float error.
    objective = problem.product_objective + state.relative_objective
    objective = max(problem.floor, objective)
    return Step(iteration, objective, state.frank_wolfe_gap, epsilon, seconds)
