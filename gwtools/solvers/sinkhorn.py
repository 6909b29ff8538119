"""Entropic and proximal solvers by Sinkhorn's scaling in the log domain."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self, final

from gwtools import _array, _check
from gwtools._array import Array
from gwtools.plans import DensePlan, Plan, mix
from gwtools.problems import GWProblem
from gwtools.results import Status
from gwtools.scaling import round_to, sinkhorn
from gwtools.solvers.base import IterativeSolver, State
from gwtools.solvers.saddle import is_blind, off_saddle, product_plan


@dataclass(frozen=True, eq=False)
class _State(State):
    """A rounded plan with its ``cross`` matrix, and what the next kernel starts from: exponent, ε and scalings.

    ``annealed`` tells that ε has fallen and the exponent is that of the last plan; ``error`` is that of an unfinished scaling,
    which the next step takes up.
    """

    cross: Array = None
    exponent: Array = None
    epsilon: float = 0.0
    u: Array = None
    v: Array = None
    annealed: bool = False
    error: float = math.inf


@final
@dataclass(frozen=True, eq=False)
class Sinkhorn(IterativeSolver[_State]):
    """Minimise Σ (C_ik − D_jl)² π_ij π_kl, plain or plus ε KL(π | a ⊗ b), by scaling kernels.

    Parameters
    ----------
    tolerance : float
        Stop when a step changes the objective by at most this share of the product coupling's objective. Below 1e-5, kernels
        are scaled to it as well: so that the potentials, which are the gradients in the weights, are as exact.
    max_iterations : int
        Kernels scaled at most.
    epsilon : float, optional
        Weight ε of the entropy, in squared units of C; by default 1/1000 of the product coupling's objective.
    proximal : bool
        True: the entropy is only a means. It is annealed down to ε from an eighth of the product coupling's objective, then
        steps are proximal, argmin ⟨∇F(π_k), π⟩ + ε KL(π | π_k), and the limit is stationary for the plain
        problem.
        False: entropic Gromov-Wasserstein at the fixed ε.
    cooling : float
        Factor between the ε of two annealing steps, between 0 and 1. Slower cooling, towards 1, takes longer and mostly ends in
        a lower objective.

    Notes
    -----
    Every plan is rounded to the exact marginals, so that its objective is a true upper bound. Steps decrease the objective
    where it is concave over couplings, or where ε is above its smoothness relative to the entropy; elsewhere a proximal step
    is halved towards the last plan until it does. Where row means are constant, the product coupling is a saddle
    that no iteration leaves by itself: it then starts from a coupling beside it (theorem 8).
    """

    tolerance: float = 1e-5
    max_iterations: int = 200
    epsilon: float | None = None
    proximal: bool = True
    cooling: float = 0.7

    def __post_init__(self) -> None:
        _check.number(self.tolerance, "tolerance", least=0.0)
        _check.integer(self.max_iterations, "max_iterations", least=1)
        if self.epsilon is not None:
            _check.number(self.epsilon, "epsilon", above=0.0)
        _check.number(self.cooling, "cooling", above=0.0, below=1.0)

    @property
    def scaling_tolerance(self) -> float:
        """Mass out of place in a scaled kernel at most; while ε falls as well, as mass left behind hardly moves later on."""
        return max(1e-11, min(self.tolerance, 1e-5))

    def in_units(self, unit: float) -> Self:
        """Return the solver with ε divided by ``unit`` squared."""
        return self if self.epsilon is None else replace(self, epsilon=self.epsilon / unit / unit)

    def start(self, problem: GWProblem) -> _State:
        """Return the product coupling, or a coupling off the saddle that it can be, with flat scalings."""
        scale, final = problem.product_objective, self._final(problem)
        return self._start(problem, max(scale / 8, final) if self.proximal else final, not self.proximal)

    def _start(self, problem: GWProblem, epsilon: float, annealed: bool) -> _State:
        plan: DensePlan | None = product_plan(problem)
        if is_blind(problem, self.negligible(problem)):
            plan = off_saddle(problem, self.negligible(problem))
        status = Status.STATIONARY if plan is None or problem.product_objective == 0.0 else None
        return replace(_unscaled(problem, plan or product_plan(problem), epsilon), status=status, annealed=annealed)

    def _final(self, problem: GWProblem) -> float:
        return 1e-3 * problem.product_objective if self.epsilon is None else self.epsilon

    def potentials(self, problem: GWProblem, state: _State) -> tuple[Array, Array]:
        """Return ε times the scalings, potentials at a fixed point; those of the weights are the entropy's at a fixed ε."""
        if self.proximal:
            return state.epsilon * state.u, state.epsilon * state.v
        log, a, b = _array.namespace(state.u).log, problem.x.weights, problem.y.weights
        return state.epsilon * (state.u - log(a)), state.epsilon * (state.v - log(b))

    def step(self, problem: GWProblem, state: _State) -> _State:
        """Scale the kernel of the current linearisation, round it to a coupling and judge the change."""
        a, b = problem.x.weights, problem.y.weights
        epsilon, final = state.epsilon, self._final(problem)
        if self.proximal and state.annealed and state.objective > problem.product_objective:
            state = self._start(problem, final, annealed=True)  # annealing led uphill
        exponent = state.exponent - problem.gradient(state.cross) / epsilon
        tolerance = self.scaling_tolerance
        scaling = sinkhorn(exponent, a, b, state.u, state.v, tolerance)
        if scaling.error > 10 * tolerance and scaling.error < state.error / 2:
            return replace(state, u=scaling.u, v=scaling.v, error=scaling.error)
        plan = round_to(scaling.plan, a, b)
        cross = problem.cross(plan)
        objective = float(problem.value(plan, cross))
        # Kernels restart from the product coupling while ε falls and are relative to the last plan from then on; the scalings
        # carry over in units of the cost.
        cooler, annealed = max(self.cooling * epsilon, final), state.annealed or epsilon == final
        relative = self.proximal and annealed
        following = exponent + scaling.u[:, None] + scaling.v[None, :] if relative else state.exponent
        u, v = (scaling.u * (epsilon / cooler), scaling.v * (epsilon / cooler))
        new = _State(plan, objective, None, None, cross, following, cooler, u, v, annealed)
        return self._settle(problem, state, new) if state.annealed else new

    def _settle(self, problem: GWProblem, old: _State, new: _State) -> _State:
        """Shorten a step that climbs, and tell whether the iteration has come to rest."""
        before, after, step = self._merit(problem, old), self._merit(problem, new), 1.0
        target, slope = new, 0.0 if after <= before else self._slope(problem, old, new.plan)
        while after > before and slope < 0.0 and step > 1e-6:
            # Least value of the parabola through both ends with the slope of the first: exact for the objective itself.
            step *= slope / (2 * (slope - (after - before) / step))
            plan, cross = mix(old.plan, target.plan, step), (1 - step) * old.cross + step * target.cross
            new = replace(new, plan=plan, objective=float(problem.value(plan, cross)), cross=cross)
            after = self._merit(problem, new)
        if after > before:
            # The plan stays, and so do the scalings of its own kernel, which are potentials of its linearisation.
            return replace(old, u=new.u, v=new.v, status=Status.FIXED_POINT)
        if step < 1.0 and self.proximal:
            xp = _array.namespace(new.cross)
            smallest = xp.finfo(new.cross.dtype).smallest_normal
            new = replace(new, exponent=xp.log(xp.clip(new.plan.dense(), min=smallest)))
        return replace(new, status=Status.FIXED_POINT) if before - after <= self.negligible(problem) else new

    def _slope(self, problem: GWProblem, state: _State, target: Plan) -> float:
        """Derivative of the merit at a state towards another plan."""
        gradient = problem.gradient(state.cross)
        if not self.proximal:
            gradient = gradient + state.epsilon * _log_ratio(problem, state.plan)
        return float(target.inner(gradient) - state.plan.inner(gradient))

    def _merit(self, problem: GWProblem, state: _State) -> float:
        """The objective, plus ε KL(π | a ⊗ b) where the entropy is part of the problem."""
        if self.proximal:
            return state.objective
        return state.objective + state.epsilon * float(state.plan.inner(_log_ratio(problem, state.plan)))


def _unscaled(problem: GWProblem, plan: DensePlan, epsilon: float) -> _State:
    """Return the state at a plan whose kernel is relative to the product coupling and not scaled yet."""
    cross = problem.cross(plan)
    zeros = _array.namespace(cross).zeros_like(cross)
    return _State(plan, float(problem.value(plan, cross)), None, None, cross, zeros, epsilon, zeros[:, 0], zeros[0, :])


def _log_ratio(problem: GWProblem, plan: Plan) -> Array:
    """Return log(π / a ⊗ b), with the smallest number in place of zero masses."""
    xp, matrix = _array.namespace(problem.x.weights), plan.dense()
    ratio = matrix / (problem.x.weights[:, None] * problem.y.weights[None, :])
    return xp.log(xp.clip(ratio, min=xp.finfo(matrix.dtype).smallest_normal))
