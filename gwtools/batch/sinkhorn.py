"""Many problems by Sinkhorn's scaling at once: :class:`gwtools.Sinkhorn` step for step, each problem at its own pace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gwtools import _array
from gwtools._array import Array
from gwtools.batch.gather import at, gathered, in_order, padded, split, taken, together
from gwtools.batch.scaling import Kernel, Scalings, chosen, chosen_rows, sinkhorn
from gwtools.batch.stacks import dot
from gwtools.plans import rounded
from gwtools.results import Status
from gwtools.solvers import Sinkhorn
from gwtools.solvers.sinkhorn import ENOUGH_STEPS, MOST_MISSED
from gwtools.spaces import Space

# Exponents of padding: their exponentials are zero in float32 as well, and sums with other exponents stay finite.
_NOWHERE = -1e30


class Problems(NamedTuple):
    """B problems, written with residuals as in :class:`gwtools.GWProblem`, with one more axis in front; zero at padding.

    Weights a (B, N) and b (B, M), deviations α and β, residuals R (B, N, N) and S (B, M, M), means m_C and m_D (B,) and norms
    ‖R‖² and ‖S‖² (B,).
    """

    a: Array
    b: Array
    alpha: Array
    beta: Array
    left: Array
    right: Array
    left_mean: Array
    right_mean: Array
    left_norm_squared: Array
    right_norm_squared: Array

    @property
    def here(self) -> Array:
        """Where both atoms carry weight, shape (B, N, M)."""
        return (self.a > 0)[:, :, None] & (self.b > 0)[:, None, :]

    @property
    def product(self) -> Array:
        """The product couplings, shape (B, N, M)."""
        return self.a[:, :, None] * self.b[:, None, :]

    @property
    def bilinear_cost(self) -> Array:
        """The costs −4 α_i β_j, shape (B, N, M), in squared units of C."""
        return -4 * self.alpha[:, :, None] * self.beta[:, None, :]

    @property
    def _spreads(self) -> tuple[Array, Array]:
        """‖α‖² and ‖β‖², shape (B,), in squared units of C."""
        return dot(self.a, self.alpha**2), dot(self.b, self.beta**2)

    @property
    def slope_range(self) -> Array:
        """4‖α‖‖β‖, shape (B,), in squared units of C: see :attr:`gwtools.GWProblem.slope_range`."""
        first, second = self._spreads
        return 4 * _array.namespace(self.a).sqrt(first * second)

    @property
    def variation(self) -> Array:
        """4‖α‖‖β‖ + 2‖R‖‖S‖, shape (B,), in squared units of C: see :attr:`gwtools.GWProblem.variation`."""
        root = _array.namespace(self.a).sqrt
        return self.slope_range + 2 * root(self.left_norm_squared) * root(self.right_norm_squared)

    @property
    def rounding(self) -> Array:
        """How far rounding can carry what depends on the plan, shape (B,): see :attr:`gwtools.GWProblem.rounding`."""
        root, (first, second) = _array.namespace(self.a).sqrt, self._spreads
        apart = 2 * first + self.left_norm_squared, 2 * second + self.right_norm_squared
        whole = self.left_mean**2 + apart[0], self.right_mean**2 + apart[1]
        return 16 * _array.epsilon(self.a) * (root(whole[0]) * root(apart[1]) + root(whole[1]) * root(apart[0]))

    def cross(self, plan: Array) -> Array:
        """Return R π S, shape (B, N, M), in squared units of C."""
        return self.left @ (plan @ self.right)

    def departure(self, plan: Array, cross: Array) -> Array:
        """Return F(π) − F(a ⊗ b), shape (B,), in squared units of C."""
        return _array.namespace(cross).sum(plan * (self.bilinear_cost - 2 * cross), axis=(1, 2))

    def value(self, plan: Array, cross: Array) -> Array:
        """Return the objectives, shape (B,), in squared units of C."""
        xp = _array.namespace(cross)
        constant = (self.left_mean - self.right_mean) ** 2 + self.left_norm_squared + self.right_norm_squared
        spread = 2 * (self.alpha[:, :, None] - self.beta[:, None, :]) ** 2
        return xp.clip(constant + xp.sum(xp.vecdot(plan, spread - 2 * cross), axis=1), min=0.0)  # row by row

    def gradient(self, cross: Array) -> Array:
        """Return the gradients −4 α_i β_j − 4 (R π S)_ij, up to terms that are constant on couplings."""
        return self.bilinear_cost - 4 * cross

    def negligible(self, tolerance: float) -> Array:
        """Return the change of each objective that counts as none, shape (B,), in squared units of C."""
        return _array.namespace(self.a).maximum(tolerance * self.variation, self.rounding)

    def is_still(self, tolerance: float) -> Array:
        """Tell where no step from the product coupling starts by its slope: where it is a saddle, or no worse than any plan."""
        return (self.slope_range <= self.negligible(tolerance)) | (self.variation <= self.rounding)


def cut(problem: Problems, n: int, m: int) -> Problems:
    """Return problems without the padding behind n and m atoms."""
    sides = problem._replace(a=problem.a[:, :n], alpha=problem.alpha[:, :n], left=problem.left[:, :n, :n])
    return sides._replace(b=problem.b[:, :m], beta=problem.beta[:, :m], right=problem.right[:, :m, :m])


def problems(left: Sequence[Space], right: Sequence[Space], convert: Any = _array.at_least_single) -> Problems:
    """Bring B pairs of spaces together; gradients pass."""

    def read(size: int) -> Any:
        return lambda s: (s.weights, s.deviations, padded(s.residual, size), s.mean, s.residual_norm_squared)

    x, y = (gathered(side, read(max(s.size for s in side)), convert) for side in (left, right))
    return Problems(*(part for pair in zip(x, y, strict=True) for part in pair))


class State(NamedTuple):
    """As in :class:`gwtools.Sinkhorn`: plans, their cross matrices, F(π) − F(a ⊗ b), and what the next kernels start from."""

    plan: Array
    cross: Array
    departure: Array
    gap: Array
    exponent: Array
    epsilon: Array
    u: Array
    v: Array
    settled: Array
    error: Array


class Found(NamedTuple):
    """Couplings (B, N, M), Frank-Wolfe gaps (B,), NaN where none was computed, statuses and iterations."""

    plan: Array
    gap: Array
    status: list[Status]
    iterations: list[int]


# By their code while problems run; one that still runs when the loop ends has run out of iterations.
_STATUSES = (
    Status.MAX_ITERATIONS,
    Status.NON_FINITE,
    Status.FIXED_POINT,
    Status.STATIONARY,
    Status.NOT_STATIONARY,
    Status.SCALING_UNFINISHED,
)


def solve(problem: Problems, solver: Sinkhorn, by_programs: bool) -> Found:
    """Run the kernels of the solver on problems outside any gradient graph, each of which has a slope at the product coupling.

    ``by_programs`` tells that plans at rest are handed to conditional gradient, and need no proof of their gaps.
    """
    xp, parts = _array.namespace(problem.a), []
    order: list[int] = []
    status: list[Status] = []
    iterations: list[int] = []
    state, places = _start(problem, solver), list(range(problem.a.shape[0]))
    code = xp.zeros_like(problem.left_mean)
    for iteration in range(solver.max_iterations + 1):
        going, done = split(code == 0)
        last = iteration == solver.max_iterations
        leaving = [*done, *going] if last else done
        if leaving:
            parts.append((taken(state.plan, leaving), taken(state.gap, leaving)))
            order.extend(places[i] for i in leaving)
            codes = _array.to_numpy(code)[leaving].tolist()
            status.extend(_STATUSES[int(c)] for c in codes)
            iterations.extend([iteration] * len(leaving))
            places = [places[i] for i in going]
            problem, state = at(problem, going), at(state, going)
        if last or not going:
            break
        following, code = _step(problem, state, solver, by_programs)
        finite = xp.isfinite(following.departure)
        state = chosen(finite, following, state)
        code = xp.where(finite, code, xp.full_like(code, _STATUSES.index(Status.NON_FINITE)))
    back = np.argsort(order)
    plan, gap = (in_order(list(part), order) for part in zip(*parts, strict=True))
    return Found(plan, gap, [status[i] for i in back], [iterations[i] for i in back])


def _start(problem: Problems, solver: Sinkhorn) -> State:
    variation, final = problem.variation, final_epsilon(problem, solver)
    epsilon = _array.namespace(final).maximum(variation / 8, final) if solver.proximal else final
    return _at_product(problem, epsilon, _array.namespace(final).full_like(final, float(not solver.proximal)))


def _at_product(problem: Problems, epsilon: Array, settled: Array) -> State:
    """Return the states at the product couplings, whose kernels are not scaled yet."""
    xp, plan = _array.namespace(epsilon), problem.product
    cross, infinite, unknown = (
        problem.cross(plan),
        xp.full_like(epsilon, float("inf")),
        xp.full_like(epsilon, float("nan")),
    )
    u, v = xp.zeros_like(problem.a), xp.zeros_like(problem.b)
    departure = problem.departure(plan, cross)
    return State(plan, cross, departure, unknown, xp.zeros_like(plan), epsilon, u, v, settled, infinite)


def final_epsilon(problem: Problems, solver: Sinkhorn) -> Array:
    """Return the ε at which annealing ends, or the fixed one, shape (B,), in squared units of C."""
    variation = problem.variation
    if solver.epsilon is None:
        return 1e-3 * variation
    return _array.namespace(variation).full_like(variation, solver.epsilon)


def _step(problem: Problems, state: State, solver: Sinkhorn, by_programs: bool) -> tuple[State, Array]:
    """Scale the kernels of the current linearisations, round them to couplings and judge the changes."""
    xp, final = _array.namespace(problem.a), final_epsilon(problem, solver)
    if solver.proximal:
        uphill = (state.settled > 0) & (state.departure > problem.rounding)
        if split(uphill)[0]:
            state = chosen(uphill, _at_product(problem, final, state.settled), state)
    epsilon, gradient = state.epsilon, problem.gradient(state.cross)
    exponent = state.exponent - gradient / epsilon[:, None, None]
    exponent = xp.where(problem.here, exponent, xp.full_like(exponent, _NOWHERE))
    tolerance = xp.full_like(epsilon, solver.scaling_tolerance)
    if not by_programs:
        tolerance = xp.where(state.settled > 0, xp.full_like(epsilon, solver.proving_tolerance), tolerance)
    kernel = Kernel(exponent, problem.a, problem.b, tolerance)
    scaling = sinkhorn(kernel, state.u, state.v)
    missed = scaling.error > 10 * xp.maximum(tolerance, kernel.attainable)
    unfinished = missed & (scaling.error < state.error / 2)
    plan = rounded(scaling.plan, problem.a, problem.b)
    cross = problem.cross(plan)
    # Kernels restart from the product coupling while ε falls and are relative to the last plan from then on; the scalings
    # carry over in units of the cost.
    cooler, settled = (
        xp.maximum(solver.cooling * epsilon, final),
        state.settled + xp.astype(epsilon == final, final.dtype),
    )
    u, v = (w * (epsilon / cooler)[:, None] for w in (scaling.u, scaling.v))
    following = state.exponent
    if solver.proximal:
        relative = exponent + scaling.u[:, :, None] + scaling.v[:, None, :]
        following = chosen_rows(settled > 0, relative, state.exponent)
    infinite, unknown = xp.full_like(epsilon, float("inf")), xp.full_like(epsilon, float("nan"))
    new = State(plan, cross, problem.departure(plan, cross), unknown, following, cooler, u, v, settled, infinite)
    if not solver.proximal:
        state = state._replace(gap=_entropic_gap(problem, state, gradient, scaling))
    # Mass that rounding leaves out of place is spread over all atoms.
    missing = xp.clip(kernel.attainable, max=MOST_MISSED)
    allowed = xp.maximum(problem.negligible(solver.tolerance), missing * problem.variation)
    judged = _Judged((state.settled > 0) & ~unfinished, missed, allowed)
    new, code = _settled(problem, state, new, judged, solver, by_programs)
    new = chosen(unfinished, state._replace(u=scaling.u, v=scaling.v, error=scaling.error), new)
    if solver.proximal:
        return new, code
    met = state.gap <= xp.maximum(problem.negligible(solver.tolerance), 4 * _array.epsilon(epsilon) * epsilon)
    new = chosen(met, state._replace(u=scaling.u, v=scaling.v), new)
    return new, xp.where(met, xp.full_like(code, _STATUSES.index(Status.FIXED_POINT)), code)


class _Judged(NamedTuple):
    """Which problems are to be judged, whose kernels missed their marginals, and gaps allowed at rest, shape (B,)."""

    settling: Array
    missed: Array
    allowed: Array


def _settled(
    problem: Problems, old: State, new: State, judged: _Judged, solver: Sinkhorn, by_programs: bool
) -> tuple[State, Array]:
    """Shorten the steps that climb, and tell where the iteration has come to rest."""
    settling, missed, allowed = judged
    xp, before = _array.namespace(old.cross), _merit(problem, old, solver)
    climbing, others = split(settling & (_merit(problem, new, solver) > before))
    if climbing:
        short = _shortened(at(problem, climbing), at(old, climbing), at(new, climbing), solver)
        order = [*others, *climbing]
        new = together([at(new, others), short], order) if others else short
    after = _merit(problem, new, solver)
    stuck = settling & (after > before)
    still = before - after <= problem.negligible(solver.tolerance)
    met = settling & still & (old.gap <= allowed)
    # The plan stays, and so do the scalings of its own kernel, which are potentials of its linearisation.
    new = chosen(stuck | met, old._replace(u=new.u, v=new.v), new)
    resting = stuck | met
    if solver.proximal:
        resting = settling & (still | (new.settled > ENOUGH_STEPS) if by_programs else still)
    unfinished, stopped = (_STATUSES.index(s) for s in (Status.SCALING_UNFINISHED, Status.NOT_STATIONARY))
    code = xp.where(missed, xp.full_like(before, unfinished), xp.full_like(before, stopped))
    code = xp.where(met, xp.full_like(before, _STATUSES.index(Status.FIXED_POINT)), code)
    if solver.proximal and not by_programs:
        gap = _proved_gap(problem, new)
        met = gap <= problem.negligible(solver.tolerance)
        code = xp.where(met, xp.full_like(code, _STATUSES.index(Status.STATIONARY)), code)
        new = new._replace(gap=xp.where(resting, gap, new.gap))
        resting = resting & (met | (before - after <= problem.rounding))
    return new, xp.where(resting, code, xp.zeros_like(code))


def _entropic_gap(problem: Problems, state: State, gradient: Array, scaling: Scalings) -> Array:
    """Return how much ⟨∇F(π), ·⟩ + ε KL(· | a ⊗ b) can at most fall, shape (B,), by the dual value of any scalings."""
    xp, a, b, epsilon = _array.namespace(gradient), problem.a, problem.b, state.epsilon
    value = xp.sum(state.plan * (gradient + epsilon[:, None, None] * _log_ratio(problem, state.plan)), axis=(1, 2))
    log_a, log_b = (xp.log(xp.where(w > 0, w, xp.ones_like(w))) for w in (a, b))
    dual = dot(a, scaling.u - log_a) + dot(b, scaling.v - log_b) + 1.0 - xp.sum(scaling.plan, axis=(1, 2))
    return xp.clip(value - epsilon * dual, min=0.0)


def _proved_gap(problem: Problems, state: State) -> Array:
    """Return upper bounds of the Frank-Wolfe gaps of F, shape (B,), by c-transforms of the potentials."""
    xp, gradient = _array.namespace(state.v), problem.gradient(state.cross)
    far = xp.where(problem.here, gradient, xp.full_like(gradient, float("inf")))
    second = state.epsilon[:, None] * state.v
    first = xp.where(problem.a > 0, xp.min(far - second[:, None, :], axis=2), xp.zeros_like(problem.a))
    second = xp.where(problem.b > 0, xp.min(far - first[:, :, None], axis=1), xp.zeros_like(problem.b))
    lower = dot(problem.a, first) + dot(problem.b, second)
    return xp.clip(xp.sum(state.plan * gradient, axis=(1, 2)) - lower, min=0.0)


def _shortened(problem: Problems, old: State, target: State, solver: Sinkhorn) -> State:
    """Shorten climbing steps towards the old plans by parabolas until they no longer climb."""
    xp, new = _array.namespace(old.cross), target
    before, after = (_merit(problem, state, solver) for state in (old, target))
    slope, step = _slope(problem, old, target.plan, solver), xp.ones_like(before)
    # Each turn makes these steps less than half as long, as in :class:`gwtools.Sinkhorn`.
    while split(climbing := (after > before) & (slope < 0.0) & (step > 1e-6))[0]:
        bend = xp.where(climbing, 2 * (slope - (after - before) / step), xp.ones_like(step))
        step = xp.where(climbing, step * slope / bend, step)
        part = step[:, None, None]
        plan, cross = ((1 - part) * f + part * t for f, t in ((old.plan, target.plan), (old.cross, target.cross)))
        short = new._replace(plan=plan, cross=cross, departure=problem.departure(plan, cross))
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
    """F(π) − F(a ⊗ b), plus ε KL(π | a ⊗ b) where the entropy is part of the problem."""
    if solver.proximal:
        return state.departure
    entropy = _array.namespace(state.plan).sum(state.plan * _log_ratio(problem, state.plan), axis=(1, 2))
    return state.departure + state.epsilon * entropy


def _log_ratio(problem: Problems, plan: Array) -> Array:
    """Return log(π / a ⊗ b), with the smallest number in place of zero masses; zero at padding."""
    xp, zeros = _array.namespace(plan), _array.namespace(plan).zeros_like(plan)
    log_a, log_b = (xp.log(xp.where(w > 0, w, xp.ones_like(w))) for w in (problem.a, problem.b))
    masses = xp.log(xp.clip(plan, min=xp.finfo(plan.dtype).smallest_normal))
    return xp.where(problem.here, masses - log_a[:, :, None] - log_b[:, None, :], zeros)
