"""Entropic and proximal Gromov-Wasserstein solvers: Sinkhorn's algorithm in the log domain."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self, cast, final

from gwtools import _array, _check
from gwtools._array import Array
from gwtools._stacks import (
    Mask,
    Numbers,
    at_atoms,
    at_pairs,
    chosen,
    dot,
    expanded,
    filled,
    larger,
    numbers,
    opposite,
    replaced,
    some,
)
from gwtools.plans import DensePlan, make_unchecked, rounded_plan
from gwtools.problems import GWProblem, Quadratic
from gwtools.results import Status
from gwtools.solvers.base import Callback, IterativeSolver, Outcome, Progress, gap_above
from gwtools.solvers.conditional_gradient import ConditionalGradient, linear_program
from gwtools.solvers.starts import is_stationary_at_product, off_saddle, product_plan
from gwtools.spaces import Space
from gwtools.transport.one_dimensional import sorting_plan
from gwtools.transport.scaling import Scaling
from gwtools.transport.sinkhorn import attainable, sinkhorn

MOST_PROGRAM_ENTRIES = (
    10**7
)  # larger linear programs are not solved to finish or to judge a plan
MOST_MISSED = 1e-3  # marginal error by float error up to which a plan still counts as stationary at a fixed ε
ENOUGH_STEPS = (
    10  # proximal steps, from which linear programs go on: they come to rest sooner
)


# Exponents of padding: their exponentials are zero in float32 as well, and sums with
# other exponents stay finite.
_NOWHERE = -1e30
# Why problems stop, by their positions: those of a stack are numbers of its arrays. At
# 0 they go on.
STATUSES = (
    None,
    Status.NON_FINITE,
    Status.FIXED_POINT,
    Status.STATIONARY,
    Status.NOT_STATIONARY,
    Status.SCALING_UNFINISHED,
)
_FIXED_POINT, _STATIONARY, _NOT_STATIONARY, _UNFINISHED = 2.0, 3.0, 4.0, 5.0


class State(NamedTuple):
    """Couplings (…, n, m) of one problem or a stack, and what the next kernels start from: exponents, ε and scalings.

    ``cross`` is R π S, ``entropy`` KL(π | a ⊗ b) where it is part of the problem and 0
    elsewhere, ``gap`` NaN where it was not computed. ``kernels_at_final`` counts the
    kernels scaled since ε has fallen, from when on the exponent is that of the last
    plan; at a fixed ε, where it is at least 1, the exponent stays 0. ``error`` is the
    marginal error of the last scaled kernel, which the next step takes up where it is
    unfinished. ``code`` is the position of the status among ``STATUSES``.
    """

    matrix: Array
    cross: Array
    relative_objective: Numbers
    entropy: Numbers
    gap: Numbers
    exponent: Array
    epsilon: Numbers
    u: Array
    v: Array
    kernels_at_final: Numbers
    error: Numbers
    code: Numbers

    @property
    def plan(self) -> DensePlan:
        """The couplings."""
        return _plan(self.matrix)

    @property
    def merit(self) -> Numbers:
        """F(π) − F(a ⊗ b), plus ε KL(π | a ⊗ b) where the entropy is part of the problem."""
        return self.relative_objective + self.epsilon * self.entropy

    @property
    def status(self) -> Status | None:
        """Why one problem stops; None where it goes on."""
        return STATUSES[int(self.code)]

    @property
    def frank_wolfe_gap(self) -> float | None:
        """The gap of one problem, where it was computed."""
        return None if math.isnan(self.gap) else float(self.gap)


@final
@dataclass(frozen=True, eq=False)
class Sinkhorn(IterativeSolver[State]):
    """Minimise Σ (C_ik − D_jl)² π_ij π_kl, plain or plus ε KL(π | a ⊗ b), by scaling kernels.

    Parameters
    ----------
    tolerance : float
        Stop when the Frank-Wolfe gap is at most this share of 4‖α‖‖β‖ + 2‖R‖‖S‖, a
        bound on how far any coupling's objective is from the product coupling's
        (theorem 2): the gap of the objective, or at a fixed ε that of the objective
        plus ε KL (theorem 8 h). Below 1e-5, kernels are scaled to it as well: so that
        the potentials, which are the gradients in the weights, are as exact.
    max_iterations : int
        Kernels scaled, and linear programs solved, at most.
    epsilon : float, optional
        Weight ε of the entropy, in squared units of C; by default 1/1000 of 4‖α‖‖β‖ +
        2‖R‖‖S‖, in whatever units C and D are.
    proximal : bool
        True: the entropy is only a means. It is annealed down to ε from an eighth of
        4‖α‖‖β‖ + 2‖R‖‖S‖, then steps are proximal, argmin ⟨∇F(π_k), π⟩ + ε KL(π | π_k),
        until they no longer lower the objective. On the CPU
        :class:`gwtools.ConditionalGradient` goes on from there, after ten of them at the latest, which also leaves saddles of
        exchangeable atoms; on other devices, and above 10⁷ entries, potentials prove
        the gap by a c-transform, or, up to 10⁷ entries, one linear program. False:
        entropic Gromov-Wasserstein at the fixed ε.
    cooling : float
        Factor between the ε of two annealing steps, between 0 and 1. Slower cooling,
        towards 1, takes longer and mostly ends in a lower objective.

    Notes
    -----
    Every plan is rounded onto the exact marginals, so that its objective is a true
    upper bound. Steps decrease the objective where it is concave over couplings, or
    where ε is above its smoothness relative to the entropy; elsewhere a step is
    shortened until it does not climb, but for the steps while ε falls. Where row means
    are constant, the product coupling is a saddle that no iteration leaves by itself:
    it then starts from a coupling off it (theorem 8), at a fixed ε only where that
    descends.

    Exponents of kernels have float errors where they are long, as they are for a small
    ε: twice the spacing of 1.0 times the longest is a marginal error that no scaling
    goes below, and a gap of as much of 4‖α‖‖β‖ + 2‖R‖‖S‖ is then tolerated at a fixed ε
    (about 2e-4 in float32 at the default ε).

    Examples
    --------
    By default a way to an unregularised plan; at a fixed ε the plan is blurred, and the
    entropy is reported apart.

    >>> import numpy as np, gwtools as gw
    >>> x = gw.PointCloud(
    ...     np.array([[0.0], [1.0], [3.0]]), weights=np.array([0.5, 0.25, 0.25])
    ... )
    >>> y = gw.PointCloud(np.array([[0.0, 0.0], [0.0, 1.0], [2.0, 0.0]]))
    >>> plain, entropic = (
    ...     gw.solve(x, y, gw.Sinkhorn()),
    ...     gw.solve(x, y, gw.Sinkhorn(epsilon=1.0, proximal=False)),
    ... )
    >>> entropic.plan.dense().round(2)
    array([[0.23, 0.27, 0.  ],
           [0.1 , 0.07, 0.08],
           [0.  , 0.  , 0.25]])
    >>> [
    ...     round(float(value), 2)
    ...     for value in (plain.objective, entropic.objective, entropic.regularized)
    ... ]
    [0.74, 0.82, 1.29]
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
        return (
            self
            if self.epsilon is None
            else replace(self, epsilon=self.epsilon / unit / unit)
        )

    def numbers_held(self, x: Space, y: Space) -> float:
        """Return what kernels, plans and their logarithms need beside R and S: eighteen n × m arrays."""
        exchanges = ConditionalGradient().numbers_held(x, y) if self.proximal else 0.0
        return max(x.numbers_held + y.numbers_held + 18.0 * x.size * y.size, exchanges)

    def entropy_weight(self, problem: GWProblem) -> float | None:
        """Return the fixed ε; None where the entropy is only a means."""
        return (
            None
            if self.proximal
            else cast(float, self.final_epsilon(problem.detached()))
        )

    def run(self, problem: GWProblem, callback: Callback | None = None) -> Outcome:
        """Scale kernels until their plans come to rest; a proximal solver then goes on to a stationary plan."""
        _check.instance(problem, "problem", GWProblem, "pass gwtools.GWProblem(x, y)")
        if self.epsilon is not None:
            _check.representable(self.epsilon, "epsilon", problem.x.weights)
        outcome = super().run(problem, callback)
        return self.finished(problem, outcome, callback) if self.proximal else outcome

    def finished(
        self, problem: GWProblem, outcome: Outcome, callback: Callback | None = None
    ) -> Outcome:
        """Go on by conditional gradient from where proximal steps came to rest, or judge the plan by a linear program."""
        at_rest = outcome.status in (
            Status.STATIONARY,
            Status.NOT_STATIONARY,
            Status.SCALING_UNFINISHED,
        )
        left = self.max_iterations - outcome.iterations
        if at_rest and self.ends_by_programs(problem) and left > 0:
            follower = ConditionalGradient(
                tolerance=self.tolerance, max_iterations=left, init=outcome.plan
            )
            further = follower.run(problem, _counted_from(outcome.iterations, callback))
            return replace(further, iterations=outcome.iterations + further.iterations)
        if _allows_programs(problem) and outcome.status in (
            Status.NOT_STATIONARY,
            Status.SCALING_UNFINISHED,
            Status.MAX_ITERATIONS,
        ):
            return self._judged(problem.detached(), outcome)
        return outcome

    def ends_by_programs(self, problem: Quadratic) -> bool:
        """Tell whether a plan at rest is handed to conditional gradient: on the CPU, where programs are not too large."""
        return (
            self.proximal
            and _allows_programs(problem)
            and _array.on_cpu(problem.x.weights)
        )

    def _judged(self, problem: GWProblem, outcome: Outcome) -> Outcome:
        """Solve the linear program at the plan, whose value may be better than what potentials prove."""
        x, y, gradient = problem.x, problem.y, problem.linearize(outcome.plan)
        start = sorting_plan(x.row_means, x.weights, y.row_means, y.weights)
        gap = gap_above(
            linear_program(problem, gradient, start).lower,
            float(outcome.plan.inner(gradient)),
        )
        status = (
            Status.STATIONARY if gap <= self.negligible(problem) else outcome.status
        )
        return replace(outcome, status=status, frank_wolfe_gap=gap)

    def start(self, problem: Quadratic) -> State:
        """Return the product coupling, or a coupling off the saddle that it can be, with flat scalings."""
        final = self.final_epsilon(problem)
        if not self.proximal:
            return self._start(problem, final, filled(final, 1.0))
        return self._start(
            problem, larger(problem.variation / 8, final), filled(final, 0.0)
        )

    def _start(
        self, problem: Quadratic, epsilon: Numbers, kernels_at_final: Numbers
    ) -> State:
        """Return the unscaled state at the first plan; all problems of a stack have a slope at the product coupling."""
        product, negligible = product_plan(problem), self.negligible(problem)
        if not isinstance(problem, GWProblem) or not is_stationary_at_product(
            problem, negligible
        ):
            return self._unscaled(problem, product, epsilon, kernels_at_final)
        plan = off_saddle(problem, negligible, 0.0 if self.proximal else epsilon)
        if plan is not None:
            return self._unscaled(problem, plan, epsilon, kernels_at_final)
        state = self._unscaled(problem, product, epsilon, kernels_at_final)
        return state._replace(
            code=_STATIONARY if self.proximal else _FIXED_POINT, gap=problem.slope_range
        )

    def _unscaled(
        self,
        problem: Quadratic,
        plan: DensePlan,
        epsilon: Numbers,
        kernels_at_final: Numbers,
    ) -> State:
        """Return the state at a plan whose kernel is relative to the product coupling and not scaled yet."""
        cross, zeros = problem.cross(plan), _array.namespace(plan.matrix).zeros_like
        exponent, u, v = (
            zeros(plan.matrix),
            zeros(problem.x.weights),
            zeros(problem.y.weights),
        )
        relative_objective, entropy = (
            problem.relative_objective(plan, cross),
            self._entropy(problem, plan, epsilon),
        )
        gap, error, code = (
            filled(epsilon, value) for value in (math.nan, math.inf, 0.0)
        )
        values = plan.matrix, cross, relative_objective, entropy, gap
        return State(*values, exponent, epsilon, u, v, kernels_at_final, error, code)

    def _entropy(self, problem: Quadratic, plan: DensePlan, like: Numbers) -> Numbers:
        """Return KL(π | a ⊗ b) where it is part of the problem, else 0."""
        return (
            filled(like, 0.0)
            if self.proximal
            else numbers(plan.inner(_log_ratio(problem, plan.matrix)))
        )

    def final_epsilon(self, problem: Quadratic) -> Numbers:
        """Return the ε at which annealing ends, or the fixed one, in squared units of C."""
        return (
            1e-3 * problem.variation
            if self.epsilon is None
            else filled(problem.variation, self.epsilon)
        )

    def potentials(self, problem: GWProblem, state: State) -> tuple[Array, Array]:
        """Return ε u and ε v, as ε (u_i + v_j) = ∇F_ij where a fixed point has mass; less ε log a and ε log b at a fixed ε."""
        if self.proximal:
            return state.epsilon * state.u, state.epsilon * state.v
        log_a, log_b = problem.log_weights
        return state.epsilon * (state.u - log_a), state.epsilon * (state.v - log_b)

    def step(self, problem: Quadratic, state: State) -> State:
        """Scale the kernel of the current linearisation, round it onto the marginals and test for convergence."""
        a, b = problem.x.weights, problem.y.weights
        if self.proximal:
            # Annealing may have led above the product coupling.
            uphill = (state.kernels_at_final > 0) & (
                state.relative_objective > problem.float_error
            )
            state = replaced(uphill, state, self._restarted, problem)
        gradient = problem.gradient(state.cross)
        exponent = at_pairs(
            a, b, state.exponent - gradient / expanded(state.epsilon, 2), 0.0
        )
        least = attainable(exponent)
        tolerance = larger(self._kernel_tolerance(problem, state), least)
        scaling = sinkhorn(
            at_pairs(a, b, exponent, _NOWHERE), a, b, state.u, state.v, tolerance
        )
        missed = scaling.error > 10 * tolerance
        unfinished = missed & (scaling.error < state.error / 2)
        if not self.proximal:
            state = state._replace(gap=_entropic_gap(problem, state, gradient, scaling))
        following = self._moved(problem, state, scaling, exponent)
        settling = (state.kernels_at_final > 0) & opposite(unfinished)
        if some(settling):
            # The marginal error that float errors leave is spread over all atoms.
            missing = chosen(least < MOST_MISSED, least, filled(least, MOST_MISSED))
            allowed = larger(self.negligible(problem), missing * problem.variation)
            failure = chosen(
                missed, filled(least, _UNFINISHED), filled(least, _NOT_STATIONARY)
            )
            following = self._assessed(
                problem, state, following, settling, failure, allowed
            )
        taken_up = state._replace(u=scaling.u, v=scaling.v, error=scaling.error)
        following = chosen(unfinished, taken_up, following)
        if self.proximal:
            return following
        met = state.gap <= larger(
            self.negligible(problem), 4 * _array.epsilon(a) * state.epsilon
        )
        at_rest = state._replace(
            u=scaling.u, v=scaling.v, code=filled(state.code, _FIXED_POINT)
        )
        return chosen(met, at_rest, following)

    def _restarted(self, state: State, problem: Quadratic) -> State:
        return self._start(problem, self.final_epsilon(problem), state.kernels_at_final)

    def _kernel_tolerance(self, problem: Quadratic, state: State) -> Numbers:
        """Return the marginal error of the next kernel: small once its scalings are to prove a gap."""
        usual = filled(state.epsilon, self.scaling_tolerance)
        if self.ends_by_programs(problem):
            return usual
        return chosen(
            state.kernels_at_final > 0,
            filled(state.epsilon, self.proving_tolerance),
            usual,
        )

    def _moved(
        self, problem: Quadratic, state: State, scaling: Scaling, exponent: Array
    ) -> State:
        """Return the state at a scaled kernel, rounded onto the marginals."""
        epsilon, final = state.epsilon, self.final_epsilon(problem)
        plan = rounded_plan(scaling.plan, problem.x.weights, problem.y.weights)
        cooler = larger(self.cooling * epsilon, final)
        kernels_at_final = chosen(
            epsilon == final, state.kernels_at_final + 1.0, state.kernels_at_final
        )
        # Kernels restart from the product coupling while ε falls and are relative to
        # the last plan from then on; the scalings carry over in units of the cost.
        relative = state.exponent
        if self.proximal:
            at_plan = exponent + scaling.u[..., :, None] + scaling.v[..., None, :]
            relative = chosen(kernels_at_final > 0, at_plan, relative)
        carried = expanded(epsilon / cooler, 1)
        new = self._unscaled(problem, plan, cooler, kernels_at_final)
        return new._replace(
            exponent=relative, u=scaling.u * carried, v=scaling.v * carried
        )

    def _assessed(
        self,
        problem: Quadratic,
        old: State,
        new: State,
        settling: Mask,
        failure: Numbers,
        allowed: Numbers,
    ) -> State:
        """Shorten steps that climb, and tell where the iteration has come to rest: at ``failure``, but for gaps allowed."""
        climbing = settling & (new.merit > old.merit)
        new = replaced(climbing, new, self._shortened, problem, old)
        gain = old.merit - new.merit
        stuck = settling & (gain < 0.0)
        # Where a plan stays, so do the scalings of its own kernel, which are potentials
        # of its linearisation.
        staying = old._replace(u=new.u, v=new.v)
        if self.proximal:
            return self._resting(
                problem, chosen(stuck, staying, new), settling, failure, gain
            )
        met = settling & (gain <= self.negligible(problem)) & (old.gap <= allowed)
        code = chosen(met, filled(gain, _FIXED_POINT), failure)
        return chosen(stuck | met, staying._replace(code=code), new)

    def _resting(
        self,
        problem: Quadratic,
        state: State,
        settling: Mask,
        failure: Numbers,
        gain: Numbers,
    ) -> State:
        """Return proximal states, with a status where steps gain less than the tolerance."""
        negligible = self.negligible(problem)
        still = settling & (gain <= negligible)
        if self.ends_by_programs(problem):
            still = still | (settling & (state.kernels_at_final > ENOUGH_STEPS))
            return state._replace(code=chosen(still, failure, state.code))
        if not some(still):
            return state
        gap = _proved_gap(problem, state)
        met = gap <= negligible
        # A step that gains more than floating point does to the objective may lead to a
        # gap that is small enough.
        ended = still & (met | (gain <= problem.float_error))
        code = chosen(met, filled(gap, _STATIONARY), failure)
        return state._replace(
            gap=chosen(still, gap, state.gap), code=chosen(ended, code, state.code)
        )

    def _shortened(self, target: State, problem: Quadratic, old: State) -> State:
        """Shorten climbing steps from old states towards others by parabolas, until they no longer climb."""
        new, slope = target, self._slope(problem, old, target)
        step = filled(slope, 1.0)
        # Each turn makes the step less than half as long: the parabola's slope is
        # negative and it climbs in the end.
        while some(climbing := (new.merit > old.merit) & (slope < 0.0) & (step > 1e-6)):
            # Least value of the parabola through both ends with the slope of the first:
            # exact for the objective itself.
            difference = slope - (new.merit - old.merit) / step
            share = slope / chosen(climbing, 2 * difference, filled(slope, 1.0))
            step = chosen(climbing, step * share, step)
            new = chosen(climbing, self._between(problem, old, target, step), new)
        return new

    def _between(
        self, problem: Quadratic, old: State, target: State, step: Numbers
    ) -> State:
        """Return the state at a share of the way from one coupling to another."""
        part = expanded(step, 2)
        plan = _plan((1 - part) * old.matrix + part * target.matrix)
        cross = (1 - part) * old.cross + part * target.cross
        return target._replace(
            matrix=plan.matrix,
            cross=cross,
            relative_objective=problem.relative_objective(plan, cross),
            entropy=self._entropy(problem, plan, step),
            exponent=_log(plan.matrix) if self.proximal else target.exponent,
        )

    def _slope(self, problem: Quadratic, state: State, target: State) -> Numbers:
        """Return the derivative of the merit at a state towards another plan."""
        gradient = problem.gradient(state.cross)
        if not self.proximal:
            gradient = gradient + expanded(state.epsilon, 2) * _log_ratio(
                problem, state.matrix
            )
        return numbers(target.plan.inner(gradient)) - numbers(
            state.plan.inner(gradient)
        )


def _allows_programs(problem: Quadratic) -> bool:
    return problem.shape[0] * problem.shape[1] <= MOST_PROGRAM_ENTRIES


def _plan(matrix: Array) -> DensePlan:
    """Return a matrix (…, n, m) that is a coupling as a plan."""
    return make_unchecked(DensePlan, matrix=matrix)


def _entropic_gap(
    problem: Quadratic, state: State, gradient: Array, scaling: Scaling
) -> Numbers:
    """Return how much ⟨∇F(π), ·⟩ + ε KL(· | a ⊗ b) can at most fall from π to another coupling (theorem 8 h).

    Its minimum is at least the dual value ε (⟨a, u − log a⟩ + ⟨b, v − log b⟩ + 1 − Σ_ij
    exp(u_i + v_j − ∇F_ij / ε)) of any scalings u and v.
    """
    xp, (log_a, log_b) = _array.namespace(gradient), problem.log_weights
    value = numbers(state.plan.inner(gradient)) + state.epsilon * state.entropy
    dual = dot(problem.x.weights, scaling.u - log_a) + dot(
        problem.y.weights, scaling.v - log_b
    )
    dual = dual + 1.0 - numbers(xp.sum(scaling.row_sums, axis=-1))
    return gap_above(state.epsilon * dual, value)


def _proved_gap(problem: Quadratic, state: State) -> Numbers:
    """Return an upper bound of the Frank-Wolfe gap of F: potentials after c-transforms are dual feasible (theorem 8 h)."""
    a, b, gradient = problem.x.weights, problem.y.weights, problem.gradient(state.cross)
    xp, cost = _array.namespace(gradient), at_pairs(a, b, gradient, math.inf)
    second = expanded(state.epsilon, 1) * state.v
    first = at_atoms(a, xp.min(cost - second[..., None, :], axis=-1), 0.0)
    second = at_atoms(b, xp.min(cost - first[..., :, None], axis=-2), 0.0)
    lower = dot(a, first) + dot(b, second)
    return gap_above(lower, numbers(state.plan.inner(gradient)))


def _counted_from(iterations: int, callback: Callback | None) -> Callback | None:
    """Count the steps of a solver that goes on for another one."""
    if callback is None:
        return None

    def counted(progress: Progress) -> Any:
        return callback(replace(progress, iteration=iterations + progress.iteration))

    return counted


def _log(matrix: Array) -> Array:
    """Return logarithms of masses, with the smallest normal number in place of those below it."""
    xp = _array.namespace(matrix)
    return xp.log(xp.clip(matrix, min=xp.finfo(matrix.dtype).smallest_normal))


def _log_ratio(problem: Quadratic, matrix: Array) -> Array:
    """Return log(π / a ⊗ b), 0 at padding."""
    log_a, log_b = problem.log_weights
    # The product of two small weights may have no number.
    ratio = _log(matrix) - log_a[..., :, None] - log_b[..., None, :]
    return at_pairs(problem.x.weights, problem.y.weights, ratio, 0.0)
