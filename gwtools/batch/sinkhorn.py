"""Many problems by Sinkhorn's scaling at once: :class:`gwtools.Sinkhorn` step for step, each problem at its own pace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gwtools import _array
from gwtools._array import Array
from gwtools.batch.gather import at, gathered, in_order, padded, split, taken, together
from gwtools.batch.scaling import Kernel, chosen, chosen_rows, sinkhorn
from gwtools.batch.stacks import dot
from gwtools.results import Status
from gwtools.scaling import rounded
from gwtools.solvers import Sinkhorn
from gwtools.spaces import Space

# Exponents of padding: their exponentials are zero in float32 as well, and sums with other exponents stay finite.
_NOWHERE = -1e30


class Problems(NamedTuple):
    """B problems, written with residuals as in :class:`gwtools.GWProblem`, with one more axis in front; zero at padding.

    Weights a (B, N) and b (B, M), deviations α and β, residuals R (B, N, N) and S (B, M, M), and the
    constant (m_C − m_D)² + ‖R‖² + ‖S‖² (B,).
    """

    a: Array
    b: Array
    alpha: Array
    beta: Array
    left: Array
    right: Array
    constant: Array

    @property
    def here(self) -> Array:
        """Where both atoms carry weight, shape (B, N, M)."""
        return (self.a > 0)[:, :, None] & (self.b > 0)[:, None, :]

    @property
    def product(self) -> Array:
        """The product couplings, shape (B, N, M)."""
        return self.a[:, :, None] * self.b[:, None, :]

    @property
    def product_objective(self) -> Array:
        """F(a ⊗ b), shape (B,), in squared units of C."""
        return self.constant + 2 * (dot(self.a, self.alpha**2) + dot(self.b, self.beta**2))

    @property
    def linear_cost(self) -> Array:
        """The costs 2 (α_i − β_j)², shape (B, N, M), in squared units of C."""
        return 2 * (self.alpha[:, :, None] - self.beta[:, None, :]) ** 2

    def cross(self, plan: Array) -> Array:
        """Return R π S, shape (B, N, M), in squared units of C."""
        return self.left @ (plan @ self.right)

    def value(self, plan: Array, cross: Array) -> Array:
        """Return the objectives, shape (B,), in squared units of C."""
        xp = _array.namespace(cross)
        return xp.clip(self.constant + xp.sum(plan * (self.linear_cost - 2 * cross), axis=(1, 2)), min=0.0)

    def gradient(self, cross: Array) -> Array:
        """Return the gradients 2 (α_i − β_j)² − 4 (R π S)_ij, up to terms that are constant on couplings."""
        return self.linear_cost - 4 * cross

    def negligible(self, tolerance: float) -> Array:
        """Return the change of each objective that counts as none, shape (B,), in squared units of C."""
        return max(tolerance, 16 * _array.epsilon(self.a)) * self.product_objective

    def is_blind(self, tolerance: float) -> Array:
        """Tell where the linearisation at the product coupling promises no decrease to speak of."""
        xp = _array.namespace(self.a)
        spreads = dot(self.a, self.alpha**2) * dot(self.b, self.beta**2)
        return 4 * xp.sqrt(spreads) <= self.negligible(tolerance)


def problems(left: Sequence[Space], right: Sequence[Space], convert: Any = _array.at_least_single) -> Problems:
    """Bring B pairs of spaces together; gradients pass."""

    def read(size: int) -> Any:
        return lambda s: (s.weights, s.deviations, s.mean, s.residual_norm_squared, padded(s.residual, size))

    (a, alpha, mean, norm, R), (b, beta, other, other_norm, S) = (
        gathered(side, read(max(s.size for s in side)), convert) for side in (left, right)
    )
    return Problems(a, b, alpha, beta, R, S, (mean - other) ** 2 + norm + other_norm)


class State(NamedTuple):
    """As in :class:`gwtools.Sinkhorn`: plans and their cross matrices, objectives, and what the next kernels start from."""

    plan: Array
    cross: Array
    objective: Array
    exponent: Array
    epsilon: Array
    u: Array
    v: Array
    annealed: Array
    error: Array


class Found(NamedTuple):
    """Couplings (B, N, M), statuses and iterations."""

    plan: Array
    status: list[Status]
    iterations: list[int]


# By their code while problems run; one that still runs when the loop ends has run out of iterations.
_STATUSES = (Status.MAX_ITERATIONS, Status.FIXED_POINT, Status.NON_FINITE)


def solve(problem: Problems, solver: Sinkhorn) -> Found:
    """Run the solver on problems outside any gradient graph, none of which is blind at the product coupling."""
    xp, parts = _array.namespace(problem.a), []
    order: list[int] = []
    status: list[Status] = []
    iterations: list[int] = []
    state, places = _start(problem, solver), list(range(problem.a.shape[0]))
    code = xp.zeros_like(problem.constant)
    for iteration in range(solver.max_iterations + 1):
        going, done = split(code == 0)
        last = iteration == solver.max_iterations
        leaving = [*done, *going] if last else done
        if leaving:
            parts.append(taken(state.plan, leaving))
            order.extend(places[i] for i in leaving)
            codes = _array.to_numpy(code)[leaving].tolist()
            status.extend(_STATUSES[int(c)] for c in codes)
            iterations.extend([iteration] * len(leaving))
            places = [places[i] for i in going]
            problem, state = at(problem, going), at(state, going)
        if last or not going:
            break
        following, code = _step(problem, state, solver)
        state = chosen(xp.isfinite(following.objective), following, state)
        code = xp.where(xp.isfinite(following.objective), code, xp.full_like(code, 2))
    back = np.argsort(order)
    return Found(in_order(parts, order), [status[i] for i in back], [iterations[i] for i in back])


def _start(problem: Problems, solver: Sinkhorn) -> State:
    scale, final = problem.product_objective, _final(problem, solver)
    epsilon = _array.namespace(scale).maximum(scale / 8, final) if solver.proximal else final
    return _at_product(problem, epsilon, not solver.proximal)


def _at_product(problem: Problems, epsilon: Array, annealed: bool) -> State:
    """Return the states at the product couplings, whose kernels are not scaled yet."""
    xp, plan = _array.namespace(epsilon), problem.product
    cross, infinite = problem.cross(plan), xp.full_like(epsilon, float("inf"))
    u, v, done = xp.zeros_like(problem.a), xp.zeros_like(problem.b), xp.full_like(epsilon, annealed, dtype=xp.bool)
    return State(plan, cross, problem.value(plan, cross), xp.zeros_like(plan), epsilon, u, v, done, infinite)


def _final(problem: Problems, solver: Sinkhorn) -> Array:
    scale = problem.product_objective
    return 1e-3 * scale if solver.epsilon is None else _array.namespace(scale).full_like(scale, solver.epsilon)


def _step(problem: Problems, state: State, solver: Sinkhorn) -> tuple[State, Array]:
    """Scale the kernels of the current linearisations, round them to couplings and judge the changes."""
    xp, final, epsilon = _array.namespace(problem.a), _final(problem, solver), state.epsilon
    if solver.proximal:
        uphill = state.annealed & (state.objective > problem.product_objective)
        if split(uphill)[0]:
            state = chosen(uphill, _at_product(problem, final, True), state)
    exponent = state.exponent - problem.gradient(state.cross) / epsilon[:, None, None]
    exponent = xp.where(problem.here, exponent, xp.full_like(exponent, _NOWHERE))
    tolerance = xp.full_like(epsilon, solver.scaling_tolerance)
    scaling = sinkhorn(Kernel(exponent, problem.a, problem.b, tolerance), state.u, state.v)
    unfinished = (scaling.error > 10 * tolerance) & (scaling.error < state.error / 2)
    plan = rounded(scaling.plan, problem.a, problem.b)
    cross = problem.cross(plan)
    # Kernels restart from the product coupling while ε falls and are relative to the last plan from then on; the scalings
    # carry over in units of the cost.
    cooler, annealed = xp.maximum(solver.cooling * epsilon, final), state.annealed | (epsilon == final)
    u, v = (w * (epsilon / cooler)[:, None] for w in (scaling.u, scaling.v))
    following = state.exponent
    if solver.proximal:
        relative = exponent + scaling.u[:, :, None] + scaling.v[:, None, :]
        following = chosen_rows(annealed, relative, state.exponent)
    infinite = xp.full_like(epsilon, float("inf"))
    new = State(plan, cross, problem.value(plan, cross), following, cooler, u, v, annealed, infinite)
    new, code = _settled(problem, state, new, state.annealed & ~unfinished, solver)
    return chosen(unfinished, state._replace(u=scaling.u, v=scaling.v, error=scaling.error), new), code


def _settled(problem: Problems, old: State, new: State, settling: Array, solver: Sinkhorn) -> tuple[State, Array]:
    """Shorten the steps that climb, and tell where the iteration has come to rest."""
    xp, before = _array.namespace(old.cross), _merit(problem, old, solver)
    climbing, others = split(settling & (_merit(problem, new, solver) > before))
    if climbing:
        short = _shortened(at(problem, climbing), at(old, climbing), at(new, climbing), solver)
        order = [*others, *climbing]
        new = together([at(new, others), short], order) if others else short
    after = _merit(problem, new, solver)
    new = chosen(settling & (after > before), old, new)
    resting = settling & (before - after <= problem.negligible(solver.tolerance))
    return new, xp.astype(resting, before.dtype)


def _shortened(problem: Problems, old: State, target: State, solver: Sinkhorn) -> State:
    """Shorten climbing steps towards the old plans by parabolas until they no longer climb."""
    xp, new = _array.namespace(old.cross), target
    before, after = (_merit(problem, state, solver) for state in (old, target))
    slope, step = _slope(problem, old, target.plan, solver), xp.ones_like(before)
    while split(climbing := (after > before) & (slope < 0.0) & (step > 1e-6))[0]:
        bend = xp.where(climbing, 2 * (slope - (after - before) / step), xp.ones_like(step))
        step = xp.where(climbing, step * slope / bend, step)
        part = step[:, None, None]
        plan, cross = ((1 - part) * f + part * t for f, t in ((old.plan, target.plan), (old.cross, target.cross)))
        short = new._replace(plan=plan, cross=cross, objective=problem.value(plan, cross))
        if solver.proximal:
            smallest = xp.finfo(plan.dtype).smallest_normal
            short = short._replace(exponent=xp.log(xp.clip(plan, min=smallest)))
        new = chosen(climbing, short, new)
        after = _merit(problem, new, solver)
    return new


def _slope(problem: Problems, state: State, target: Array, solver: Sinkhorn) -> Array:
    """Derivatives of the merits at states towards other plans, shape (B,)."""
    gradient = problem.gradient(state.cross)
    if not solver.proximal:
        gradient = gradient + state.epsilon[:, None, None] * _log_ratio(problem, state.plan)
    return _array.namespace(gradient).sum((target - state.plan) * gradient, axis=(1, 2))


def _merit(problem: Problems, state: State, solver: Sinkhorn) -> Array:
    """The objectives, plus ε KL(π | a ⊗ b) where the entropy is part of the problem."""
    if solver.proximal:
        return state.objective
    entropy = _array.namespace(state.plan).sum(state.plan * _log_ratio(problem, state.plan), axis=(1, 2))
    return state.objective + state.epsilon * entropy


def _log_ratio(problem: Problems, plan: Array) -> Array:
    """Return log(π / a ⊗ b), with the smallest number in place of zero masses; zero at padding."""
    xp, ones = _array.namespace(plan), _array.namespace(plan).ones_like(plan)
    ratio = xp.where(problem.here, plan / xp.where(problem.here, problem.product, ones), ones)
    return xp.log(xp.clip(ratio, min=xp.finfo(plan.dtype).smallest_normal))
