"""Many problems by Sinkhorn's scaling at once: :class:`gwtools.Sinkhorn` step for step, each problem at its own pace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gwtools import _array
from gwtools._array import Array
from gwtools.batch.gather import at, gathered, in_order, padded, split, taken, together
from gwtools.batch.scaling import Kernel, chosen_rows, sinkhorn
from gwtools.batch.stacks import dot
from gwtools.linear import rounded
from gwtools.results import Status
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

    def is_blind(self, tolerance: float) -> Array:
        """Tell where the linearisation at the product coupling promises less than ``tolerance`` of its objective."""
        xp = _array.namespace(self.a)
        spreads = dot(self.a, self.alpha**2) * dot(self.b, self.beta**2)
        return 4 * xp.sqrt(spreads) <= tolerance * self.product_objective


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
        state = _where(xp.isfinite(following.objective), following, state)
        code = xp.where(xp.isfinite(following.objective), code, xp.full_like(code, 2))
    back = np.argsort(order)
    return Found(in_order(parts, order), [status[i] for i in back], [iterations[i] for i in back])


def _where(mask: Array, first: State, second: State) -> State:
    """Return the first states where the mask (B,) holds, and the second elsewhere."""
    return State(*(chosen_rows(mask, f, s) for f, s in zip(first, second, strict=True)))


def _start(problem: Problems, solver: Sinkhorn) -> State:
    plan = problem.product
    cross, scale = problem.cross(plan), problem.product_objective
    xp, final = _array.namespace(plan), _final(problem, solver)
    epsilon = xp.maximum(scale / 8, final) if solver.proximal else final
    infinite = xp.full_like(scale, float("inf"))
    u, v = xp.zeros_like(problem.a), xp.zeros_like(problem.b)
    return State(plan, cross, problem.value(plan, cross), xp.zeros_like(plan), epsilon, u, v, infinite)


def _final(problem: Problems, solver: Sinkhorn) -> Array:
    scale = problem.product_objective
    return 1e-3 * scale if solver.epsilon is None else _array.namespace(scale).full_like(scale, solver.epsilon)


def _step(problem: Problems, state: State, solver: Sinkhorn) -> tuple[State, Array]:
    """Scale the kernels of the current linearisations, round them to couplings and judge the changes."""
    xp, final, epsilon = _array.namespace(problem.a), _final(problem, solver), state.epsilon
    annealing = epsilon > final  # never at a fixed ε
    exponent = state.exponent - (problem.linear_cost - 4 * state.cross) / epsilon[:, None, None]
    exponent = xp.where(problem.here, exponent, xp.full_like(exponent, _NOWHERE))
    tolerance = xp.where(annealing, xp.full_like(epsilon, 1e-3), xp.full_like(epsilon, 1e-5))
    scaling = sinkhorn(Kernel(exponent, problem.a, problem.b, tolerance), state.u, state.v)
    unfinished = (scaling.error > 10 * tolerance) & (scaling.error < state.error / 2)
    sharp = ~unfinished & annealing & (scaling.error > 100 * tolerance)
    plan = rounded(scaling.plan, problem.a, problem.b)
    cross = problem.cross(plan)
    # Kernels restart from the product coupling at every ε; the scalings carry over in units of the cost.
    cooler = xp.where(annealing, xp.maximum(solver.cooling * epsilon, final), epsilon)
    u, v = (w * (epsilon / cooler)[:, None] for w in (scaling.u, scaling.v))
    following = state.exponent
    if solver.proximal:
        # The next kernel is relative to this plan, and needs about the same scalings again.
        relative = exponent + scaling.u[:, :, None] + scaling.v[:, None, :]
        following = chosen_rows(annealing, state.exponent, relative)
    infinite = xp.full_like(epsilon, float("inf"))
    new = State(plan, cross, problem.value(plan, cross), following, cooler, u, v, infinite)
    new, code = _settled(problem, state, new, ~(annealing | unfinished), solver)
    new = _where(unfinished, state._replace(u=scaling.u, v=scaling.v, error=scaling.error), new)
    return _where(sharp, state._replace(epsilon=final, error=infinite), new), code


def _settled(problem: Problems, old: State, new: State, settling: Array, solver: Sinkhorn) -> tuple[State, Array]:
    """Shorten the steps that climb, and tell where the iteration has come to rest."""
    xp, before = _array.namespace(old.cross), _merit(problem, old, solver)
    climbing, others = split(settling & (_merit(problem, new, solver) > before))
    if climbing:
        short = _shortened(at(problem, climbing), at(old, climbing), at(new, climbing), solver)
        order = [*others, *climbing]
        new = together([at(new, others), short], order) if others else short
    after = _merit(problem, new, solver)
    new = _where(settling & (after > before), old, new)
    resting = settling & (before - after <= solver.tolerance * problem.product_objective)
    return new, xp.astype(resting, before.dtype)


def _shortened(problem: Problems, old: State, target: State, solver: Sinkhorn) -> State:
    """Halve climbing steps towards the old plans until they no longer climb, seven times at most."""
    xp, new, step = _array.namespace(old.cross), target, 1.0
    before = _merit(problem, old, solver)
    while step > 1e-2:
        climbing = _merit(problem, new, solver) > before
        if not split(climbing)[0]:
            break
        step /= 2
        plan, cross = ((1 - step) * f + step * t for f, t in ((old.plan, target.plan), (old.cross, target.cross)))
        shorter = new._replace(plan=plan, cross=cross, objective=problem.value(plan, cross))
        if solver.proximal:
            smallest = xp.finfo(plan.dtype).smallest_normal
            shorter = shorter._replace(exponent=xp.log(xp.clip(plan, min=smallest)))
        new = _where(climbing, shorter, new)
    return new


def _merit(problem: Problems, state: State, solver: Sinkhorn) -> Array:
    """The objectives, plus ε KL(π | a ⊗ b) where the entropy is part of the problem."""
    if solver.proximal:
        return state.objective
    xp, plan = _array.namespace(state.plan), state.plan
    positive, ones = plan > 0, xp.ones_like(plan)
    ratio = xp.where(positive, plan / xp.where(positive, problem.product, ones), ones)
    return state.objective + state.epsilon * xp.sum(plan * xp.log(ratio), axis=(1, 2))
