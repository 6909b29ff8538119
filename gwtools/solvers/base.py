"""Base classes of solvers, and the loop that runs the iterative ones."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np

from gwtools import _array, _check
from gwtools._array import Array
from gwtools._stacks import Numbers, is_stack, larger
from gwtools.plans import Plan
from gwtools.problems import GWProblem, Prepared, Quadratic
from gwtools.results import Status
from gwtools.solvers.starts import product_plan
from gwtools.spaces import Space


@dataclass(frozen=True)
class Progress:
    """What a callback receives after every step: its number, the plan's objective and, where computed, the Frank-Wolfe gap.

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> steps = []
    >>> result = gw.solve(1 - np.eye(2), 1 - np.eye(4), callback=steps.append)
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


Callback = Callable[[Progress], Any]


@dataclass(frozen=True, eq=False)
class Outcome:
    """A solver's answer: a coupling, why it stopped, and its own value if that is not the objective.

    ``estimate`` is in units of C to the power ``power``. ``potentials`` are those of
    the linearisation at a stationary plan, which is then outside any gradient graph.
    """

    plan: Plan
    status: Status
    iterations: int = 0
    frank_wolfe_gap: float | None = None
    estimate: Array | None = None
    power: float = 2.0
    potentials: tuple[Array, Array] | None = None


@dataclass(frozen=True, eq=False)
class Solver(ABC):
    """A way to answer a :class:`GWProblem`; immutable, so that one solver serves many problems.

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

    @abstractmethod
    def run(self, problem: GWProblem, callback: Callback | None = None) -> Outcome:
        """Answer the problem; ``callback`` is called after every step and stops the solver by returning True."""

    def in_units(self, unit: float) -> Self:
        """Return the solver for spaces whose C is divided by ``unit``; settings with units change with it."""
        return self

    def on_atoms(self, prepared: Prepared, shape: tuple[int, int]) -> Self:
        """Return the solver for the atoms that carry weight among those of spaces of sizes ``shape``."""
        return self

    def accepted_gap(self, problem: GWProblem) -> float:
        """Return how far above the minimum the solver may stop, in squared units of C; by default nowhere."""
        return 0.0

    def numbers_held(self, x: Space, y: Space) -> float:
        """Estimate from above how many numbers are held at once between two spaces; by default few."""
        return 0.0

    def entropy_weight(self, problem: GWProblem) -> float | None:
        """Return ε where the solver minimises the objective plus ε KL(π | a ⊗ b), in squared units of C; by default None."""
        return None

    def __str__(self) -> str:
        """Name the solver and the settings that differ from their defaults."""
        changed = [
            f"{f.name}={value!r}"
            if isinstance(value := getattr(self, f.name), str | int | float)
            else f"{f.name}=…"
            for f in fields(self)
            if type(getattr(self, f.name)) is not type(f.default)
            or getattr(self, f.name) != f.default
        ]
        return f"{type(self).__name__}({', '.join(changed)})"


class _State(Protocol):
    """The iterate of a solver: a coupling, F(π) − F(a ⊗ b), and a status once its criterion is met."""

    @property
    def plan(self) -> Plan: ...
    @property
    def relative_objective(self) -> float: ...
    @property
    def status(self) -> Status | None: ...
    @property
    def frank_wolfe_gap(self) -> float | None: ...


S = TypeVar("S", bound=_State)
# Values that leave the range end the iterations with a status of their own.
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
        """Return the change of the objective that counts as none, in squared units of C."""
        return larger(self.tolerance * problem.variation, problem.float_error)

    def accepted_gap(self, problem: GWProblem) -> float:
        """Return the decrease that the tolerance neglects, in squared units of C."""
        return float(self.tolerance * problem.detached().variation)

    def first_plan(self, problem: GWProblem) -> Plan:
        """Return the coupling that is the answer where every coupling is: the product coupling, or the one given."""
        return product_plan(problem)

    @abstractmethod
    def start(self, problem: GWProblem) -> S:
        """Return the first state."""

    @abstractmethod
    def potentials(self, problem: GWProblem, state: S) -> tuple[Array, Array]:
        """Return potentials (n,) and (m,) of the linear program with the linearisation at the last plan as its costs."""

    @abstractmethod
    def step(self, problem: GWProblem, state: S) -> S:
        """Return the next state, with its status set where the criterion is met."""

    def run(self, problem: GWProblem, callback: Callback | None = None) -> Outcome:
        """Repeat steps until the criterion is met, the callback returns True, a value is not finite or steps run out."""
        _check.instance(problem, "problem", GWProblem, "pass gwtools.GWProblem(x, y)")
        problem = problem.detached()
        if problem.variation <= problem.float_error:
            # No coupling's objective is farther from the product coupling's than the
            # float error.
            zeros = (
                _array.namespace(w).zeros_like(w)
                for w in (problem.x.weights, problem.y.weights)
            )
            gap = (
                2 * problem.variation
            )  # no less than what the linearisation promises anywhere
            return Outcome(
                self.first_plan(problem), Status.GLOBAL, 0, gap, potentials=tuple(zeros)
            )
        with QUIET():
            state = self.start(problem)
        status, iteration = state.status, 0
        while status is None:  # for max_iterations steps at most
            iteration += 1
            with QUIET():
                following = self.step(problem, state)
            if not math.isfinite(following.relative_objective):
                status = Status.NON_FINITE
                break
            state = following
            stop = callback is not None and _is_true(
                callback(_progress(problem, iteration, state))
            )
            status = state.status
            if stop and not (status is not None and status.success):
                status = Status.STOPPED
            elif status is None and iteration >= self.max_iterations:
                status = Status.MAX_ITERATIONS
        potentials = self.potentials(problem, state)
        return Outcome(
            state.plan, status, iteration, state.frank_wolfe_gap, potentials=potentials
        )


def gap_above(lower: Numbers, value: Numbers) -> Numbers:
    """Return how far a value may lie above the least one, at least 0; infinite where either is not a number."""
    gap = value - lower
    if is_stack(gap):
        xp = _array.namespace(gap)
        return xp.where(xp.isnan(gap), math.inf, xp.clip(gap, min=0.0))
    return math.inf if math.isnan(gap) else max(0.0, gap)


def _is_true(answer: Any) -> bool:
    """Tell whether a callback returned True, as a Python or a NumPy truth value: nothing else stops a solver."""
    return isinstance(answer, bool | np.bool_) and bool(answer)


def _progress(problem: GWProblem, iteration: int, state: _State) -> Progress:
    return Progress(
        iteration,
        max(0.0, problem.product_objective + state.relative_objective),
        state.frank_wolfe_gap,
    )
