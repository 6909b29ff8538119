"""Entropic and proximal solvers by Sinkhorn's scaling in the log domain."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Self, cast, final

from gwtools import _array, _check
from gwtools._array import Array
from gwtools.plans import DensePlan, Plan, mixture, nearest_coupling
from gwtools.problems import GWProblem
from gwtools.results import Status
from gwtools.solvers.base import Callback, IterativeSolver, Outcome, Progress, State, gap_above
from gwtools.solvers.conditional_gradient import ConditionalGradient, linear_program
from gwtools.solvers.starts import is_blind, off_saddle, product_plan
from gwtools.spaces import Space
from gwtools.transport.one_dimensional import sorting_plan
from gwtools.transport.sinkhorn import Scaling, attainable, sinkhorn

MOST_PROGRAM_ENTRIES = 10**7  # larger linear programs are not solved to finish or to judge a plan
MOST_MISSED = 1e-3  # mass that rounding may leave out of place where a plan still counts as stationary at a fixed ε
ENOUGH_STEPS = 10  # proximal steps, from which linear programs go on: they come to rest sooner


@dataclass(frozen=True, eq=False)
class _State(State):
    """A rounded plan with its ``cross`` matrix, and what the next kernel starts from: exponent, ε and scalings.

    ``settled`` counts the kernels scaled since ε has fallen, from when on the exponent is that of the last plan; at a fixed ε,
    where it is at least 1, the exponent stays 0. ``error`` is the mass out of place in the last scaled kernel, which the next
    step takes up where it is unfinished.
    """

    cross: Array = None
    exponent: Array = None
    epsilon: float = 0.0
    u: Array = None
    v: Array = None
    settled: int = 0
    error: float = math.inf


@final
@dataclass(frozen=True, eq=False)
class Sinkhorn(IterativeSolver[_State]):
    """Minimise Σ (C_ik − D_jl)² π_ij π_kl, plain or plus ε KL(π | a ⊗ b), by scaling kernels.

    Parameters
    ----------
    tolerance : float
        Stop when the Frank-Wolfe gap is at most this share of 4‖α‖‖β‖ + 2‖R‖‖S‖, a bound on how far any coupling's objective is
        from the product coupling's (theorem 2): the gap of the objective, or at a fixed ε that of the objective plus ε KL
        (theorem 8 h). Below 1e-5, kernels are scaled to it as well: so that the potentials, which are the gradients in the
        weights, are as exact.
    max_iterations : int
        Kernels scaled, and linear programs solved, at most.
    epsilon : float, optional
        Weight ε of the entropy, in squared units of C; by default 1/1000 of 4‖α‖‖β‖ + 2‖R‖‖S‖, in whatever units C and D are.
    proximal : bool
        True: the entropy is only a means. It is annealed down to ε from an eighth of 4‖α‖‖β‖ + 2‖R‖‖S‖, then steps are
        proximal, argmin ⟨∇F(π_k), π⟩ + ε KL(π | π_k), until they no longer lower the objective. On the CPU
        :class:`gwtools.ConditionalGradient` goes on from there, after ten of them at the latest, which also leaves saddles of
        exchangeable atoms; on other devices, and above 10⁷ entries, potentials prove the gap by a c-transform, or, up to
        10⁷ entries, one linear program.
        False: entropic Gromov-Wasserstein at the fixed ε.
    cooling : float
        Factor between the ε of two annealing steps, between 0 and 1. Slower cooling, towards 1, takes longer and mostly ends in
        a lower objective.

    Notes
    -----
    Every plan is rounded to the exact marginals, so that its objective is a true upper bound. Steps decrease the objective
    where it is concave over couplings, or where ε is above its smoothness relative to the entropy; elsewhere a step is
    shortened until it does not climb, but for the steps while ε falls. Where row means are constant, the product coupling is a
    saddle that no iteration leaves by itself: it then starts from a coupling off it (theorem 8), at a fixed ε only
    where that descends.

    Exponents of kernels are rounded where they are long, as they are for a small ε: twice the spacing of 1.0 times the longest
    is a share of the mass that cannot be put in place, and a gap of as much of 4‖α‖‖β‖ + 2‖R‖‖S‖ is then tolerated at a fixed
    ε (about 2e-4 in float32 at the default ε).
    """

    tolerance: float = 1e-5
    max_iterations: int = 1000
    epsilon: float | None = None
    proximal: bool = True
    cooling: float = 0.7

    def __post_init__(self) -> None:
        _check.number(self.tolerance, "tolerance", least=0.0)
        _check.integer(self.max_iterations, "max_iterations", least=1)
        if self.epsilon is not None:
            _check.number(self.epsilon, "epsilon", above=0.0)
        _check.flag(self.proximal, "proximal")
        _check.number(self.cooling, "cooling", above=0.0, below=1.0)

    @property
    def scaling_tolerance(self) -> float:
        """Marginal error at which a kernel counts as scaled; while ε falls too, as later kernels hardly move misplaced mass."""
        return max(1e-11, min(self.tolerance, 1e-5))

    @property
    def proving_tolerance(self) -> float:
        """Marginal error of kernels whose scalings prove a gap: a unit of misplaced mass costs up to the largest |∇F_ij|."""
        return max(1e-11, 1e-4 * self.scaling_tolerance)

    def in_units(self, unit: float) -> Self:
        """Return the solver with ε divided by ``unit`` squared."""
        return self if self.epsilon is None else replace(self, epsilon=self.epsilon / unit / unit)

    def numbers_held(self, x: Space, y: Space) -> float:
        """Return what kernels, plans and their logarithms need beside R and S: eighteen n × m arrays."""
        exchanges = ConditionalGradient().numbers_held(x, y) if self.proximal else 0.0
        return max(x.numbers_held + y.numbers_held + 18.0 * x.size * y.size, exchanges)

    def entropy_weight(self, problem: GWProblem) -> float | None:
        """Return the fixed ε; None where the entropy is only a means."""
        return None if self.proximal else self._final(problem.detached())

    def run(self, problem: GWProblem, callback: Callback | None = None) -> Outcome:
        """Scale kernels until their plans come to rest; a proximal solver then goes on to a stationary plan."""
        _check.instance(problem, "problem", GWProblem, "pass gwtools.GWProblem(x, y)")
        if self.epsilon is not None:
            _check.representable(self.epsilon, "epsilon", problem.x.weights)
        outcome = super().run(problem, callback)
        return self.finished(problem, outcome, callback) if self.proximal else outcome

    def finished(self, problem: GWProblem, outcome: Outcome, callback: Callback | None = None) -> Outcome:
        """Go on by conditional gradient from where proximal steps came to rest, or judge the plan by a linear program."""
        at_rest = outcome.status in (Status.STATIONARY, Status.NOT_STATIONARY, Status.SCALING_UNFINISHED)
        left = self.max_iterations - outcome.iterations
        if at_rest and self.ends_by_programs(problem) and left > 0:
            follower = ConditionalGradient(tolerance=self.tolerance, max_iterations=left, init=outcome.plan)
            further = follower.run(problem, _counted_from(outcome.iterations, callback))
            return replace(further, iterations=outcome.iterations + further.iterations)
        if _is_small(problem) and outcome.status in (
            Status.NOT_STATIONARY,
            Status.SCALING_UNFINISHED,
            Status.MAX_ITERATIONS,
        ):
            return self._judged(problem.detached(), outcome)
        return outcome

    def ends_by_programs(self, problem: GWProblem) -> bool:
        """Tell whether a plan at rest is handed to conditional gradient: on the CPU, where programs are not too large."""
        return self.proximal and _is_small(problem) and _array.on_cpu(problem.x.weights)

    def _judged(self, problem: GWProblem, outcome: Outcome) -> Outcome:
        """Solve the linear program at the plan, whose value may be better than what potentials prove."""
        x, y, gradient = problem.x, problem.y, problem.linearize(outcome.plan)
        start = sorting_plan(x.row_means, x.weights, y.row_means, y.weights)
        gap = gap_above(linear_program(problem, gradient, start).lower, float(outcome.plan.inner(gradient)))
        status = Status.STATIONARY if gap <= self.negligible(problem) else outcome.status
        return replace(outcome, status=status, frank_wolfe_gap=gap)

    def start(self, problem: GWProblem) -> _State:
        """Return the product coupling, or a coupling off the saddle that it can be, with flat scalings."""
        final = self._final(problem)
        return self._start(
            problem, max(problem.variation / 8, final) if self.proximal else final, int(not self.proximal)
        )

    def _start(self, problem: GWProblem, epsilon: float, settled: int) -> _State:
        product, negligible = product_plan(problem), self.negligible(problem)
        if not is_blind(problem, negligible):
            return replace(_unscaled(problem, product, epsilon), settled=settled)
        plan = off_saddle(problem, negligible, 0.0 if self.proximal else epsilon)
        state = replace(_unscaled(problem, product if plan is None else plan, epsilon), settled=settled)
        if plan is not None:
            return state
        status = Status.STATIONARY if self.proximal else Status.FIXED_POINT
        return replace(state, status=status, frank_wolfe_gap=problem.slope_range)

    def _final(self, problem: GWProblem) -> float:
        return 1e-3 * problem.variation if self.epsilon is None else self.epsilon

    def potentials(self, problem: GWProblem, state: _State) -> tuple[Array, Array]:
        """Return ε u and ε v, as ε (u_i + v_j) = ∇F_ij where a fixed point has mass; less ε log a and ε log b at a fixed ε."""
        if self.proximal:
            return state.epsilon * state.u, state.epsilon * state.v
        log, a, b = _array.namespace(state.u).log, problem.x.weights, problem.y.weights
        return state.epsilon * (state.u - log(a)), state.epsilon * (state.v - log(b))

    def step(self, problem: GWProblem, state: _State) -> _State:
        """Scale the kernel of the current linearisation, round it to a coupling and judge the change."""
        a, b = problem.x.weights, problem.y.weights
        epsilon, final = state.epsilon, self._final(problem)
        if self.proximal and state.settled and state.departure > problem.rounding:
            state = self._start(problem, final, state.settled)  # annealing led above the product coupling
            epsilon = final
        gradient = problem.gradient(state.cross)
        exponent = state.exponent - gradient / epsilon
        proves = state.settled and not self.ends_by_programs(problem)
        tolerance = self.proving_tolerance if proves else self.scaling_tolerance
        scaling, least = sinkhorn(exponent, a, b, state.u, state.v, tolerance), attainable(exponent)
        unfinished = scaling.error > 10 * max(tolerance, least)
        if not self.proximal:
            gap = _entropic_gap(problem, state, gradient, scaling)
            state = replace(state, frank_wolfe_gap=gap)
            if gap <= max(self.negligible(problem), 4 * _array.epsilon(a) * epsilon):
                return replace(state, u=scaling.u, v=scaling.v, status=Status.FIXED_POINT)
        if unfinished and scaling.error < state.error / 2:
            return replace(state, u=scaling.u, v=scaling.v, error=scaling.error)
        plan = nearest_coupling(scaling.plan, a, b)
        cross = problem.cross(plan)
        # Kernels restart from the product coupling while ε falls and are relative to the last plan from then on; the scalings
        # carry over in units of the cost.
        cooler, settled = max(self.cooling * epsilon, final), state.settled + (epsilon == final)
        relative = self.proximal and settled > 0
        following = exponent + scaling.u[:, None] + scaling.v[None, :] if relative else state.exponent
        u, v = (scaling.u * (epsilon / cooler), scaling.v * (epsilon / cooler))
        new = _State(plan, problem.departure(plan, cross), None, None, cross, following, cooler, u, v, settled)
        # Mass that rounding leaves out of place is spread over all atoms.
        allowed = max(self.negligible(problem), min(least, MOST_MISSED) * problem.variation)
        return self._settle(problem, state, new, unfinished, allowed) if state.settled else new

    def _settle(self, problem: GWProblem, old: _State, new: _State, unfinished: bool, allowed: float) -> _State:
        """Shorten a step that climbs, and tell whether the iteration has come to rest."""
        before, after, step = self._merit(problem, old), self._merit(problem, new), 1.0
        target, slope = new, 0.0 if after <= before else self._slope(problem, old, new.plan)
        # Each turn makes the step less than half as long: the parabola's slope is negative and it climbs in the end.
        while after > before and slope < 0.0 and step > 1e-6:
            # Least value of the parabola through both ends with the slope of the first: exact for the objective itself.
            step *= slope / (2 * (slope - (after - before) / step))
            plan = mixture((old.plan, target.plan), (1 - step, step))
            cross = (1 - step) * old.cross + step * target.cross
            new = replace(new, plan=plan, departure=problem.departure(plan, cross), cross=cross)
            after = self._merit(problem, new)
        if (
            not self.proximal
            and before - after <= self.negligible(problem)
            and cast(float, old.frank_wolfe_gap) <= allowed
        ):
            return replace(old, u=new.u, v=new.v, status=Status.FIXED_POINT)
        if after > before:
            # The plan stays, and so do the scalings of its own kernel, which are potentials of its linearisation.
            return self._resting(problem, replace(old, u=new.u, v=new.v), unfinished, moves=False)
        if step < 1.0 and self.proximal:
            xp = _array.namespace(new.cross)
            smallest = xp.finfo(new.cross.dtype).smallest_normal
            new = replace(new, exponent=xp.log(xp.clip(new.plan.dense(), min=smallest)))
        enough = new.settled > ENOUGH_STEPS and self.ends_by_programs(problem)
        if not self.proximal or (before - after > self.negligible(problem) and not enough):
            return new
        return self._resting(problem, new, unfinished, moves=before - after > problem.rounding)

    def _resting(self, problem: GWProblem, state: _State, unfinished: bool, moves: bool) -> _State:
        """Return a state at which steps gain less than the tolerance, with its status; none where it ``moves`` and goes on."""
        missed = Status.SCALING_UNFINISHED if unfinished else Status.NOT_STATIONARY
        if not self.proximal or self.ends_by_programs(problem):
            return replace(state, status=missed)
        gap = _proved_gap(problem, state)
        status = Status.STATIONARY if gap <= self.negligible(problem) else (None if moves else missed)
        return replace(state, frank_wolfe_gap=gap, status=status)

    def _slope(self, problem: GWProblem, state: _State, target: Plan) -> float:
        """Derivative of the merit at a state towards another plan."""
        gradient = problem.gradient(state.cross)
        if not self.proximal:
            gradient = gradient + state.epsilon * _log_ratio(problem, state.plan)
        return float(target.inner(gradient) - state.plan.inner(gradient))

    def _merit(self, problem: GWProblem, state: _State) -> float:
        """F(π) − F(a ⊗ b), plus ε KL(π | a ⊗ b) where the entropy is part of the problem."""
        if self.proximal:
            return state.departure
        return state.departure + state.epsilon * float(state.plan.inner(_log_ratio(problem, state.plan)))


def _is_small(problem: GWProblem) -> bool:
    return problem.shape[0] * problem.shape[1] <= MOST_PROGRAM_ENTRIES


def _unscaled(problem: GWProblem, plan: DensePlan, epsilon: float) -> _State:
    """Return the state at a plan whose kernel is relative to the product coupling and not scaled yet."""
    cross = problem.cross(plan)
    zeros = _array.namespace(cross).zeros_like(cross)
    return _State(plan, problem.departure(plan, cross), None, None, cross, zeros, epsilon, zeros[:, 0], zeros[0, :])


def _entropic_gap(problem: GWProblem, state: _State, gradient: Array, scaling: Scaling) -> float:
    """Return how much ⟨∇F(π), ·⟩ + ε KL(· | a ⊗ b) can at most fall from π to another coupling (theorem 8 h).

    Its minimum is at least the dual value ε (⟨a, u − log a⟩ + ⟨b, v − log b⟩ + 1 − Σ_ij exp(u_i + v_j − ∇F_ij / ε)) of any
    scalings u and v.
    """
    xp, a, b = _array.namespace(gradient), problem.x.weights, problem.y.weights
    value = float(state.plan.inner(gradient + state.epsilon * _log_ratio(problem, state.plan)))
    dual = float(a @ (scaling.u - xp.log(a)) + b @ (scaling.v - xp.log(b))) + 1.0 - float(xp.sum(scaling.plan))
    return gap_above(state.epsilon * dual, value)


def _proved_gap(problem: GWProblem, state: _State) -> float:
    """Return an upper bound of the Frank-Wolfe gap of F: potentials after c-transforms are dual feasible (theorem 8 h)."""
    xp, gradient = _array.namespace(state.v), problem.gradient(state.cross)
    second = state.epsilon * state.v
    first = xp.min(gradient - second[None, :], axis=1)
    second = xp.min(gradient - first[:, None], axis=0)
    lower = float(problem.x.weights @ first + problem.y.weights @ second)
    return gap_above(lower, float(state.plan.inner(gradient)))


def _counted_from(iterations: int, callback: Callback | None) -> Callback | None:
    """Count the steps of a solver that goes on for another one."""
    if callback is None:
        return None

    def counted(progress: Progress) -> Any:
        return callback(replace(progress, iteration=iterations + progress.iteration))

    return counted


def _log_ratio(problem: GWProblem, plan: Plan) -> Array:
    """Return log(π / a ⊗ b), with the smallest normal number in place of masses below it."""
    xp, matrix = _array.namespace(problem.x.weights), plan.dense()
    # The product of two small weights may have no number.
    masses = xp.log(xp.clip(matrix, min=xp.finfo(matrix.dtype).smallest_normal))
    return masses - xp.log(problem.x.weights)[:, None] - xp.log(problem.y.weights)[None, :]
