"""Log-domain Sinkhorn for many kernels at once: the sweeps and Newton steps of :func:`gwtools.transport.sinkhorn.sinkhorn`.

Every problem keeps its own tolerance, Newton steps and line search; those that are done leave the batch. The only crossings to
the CPU ask which problems go on, a few for each Newton step, however many problems. Newton systems of small problems are
solved directly: one call instead of many inner iterations.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

from gwtools import _array
from gwtools._array import Array
from gwtools.batch.gather import at, in_order, split, taken, together
from gwtools.batch.stacks import dot
from gwtools.transport.sinkhorn import room, schur_solve

_TRIES = 10
T = TypeVar("T", bound=tuple[Any, ...])


class Kernel(NamedTuple):
    """Exponents (B, N, M), very low at padding, marginals (B, N) and (B, M), and tolerances (B,)."""

    exponent: Array
    a: Array
    b: Array
    tolerance: Array

    @property
    def attainable(self) -> Array:
        """Mass that may stay out of place, shape (B,): see :func:`gwtools.transport.sinkhorn.attainable`."""
        xp = _array.namespace(self.a)
        here = (self.a > 0)[:, :, None] & (self.b > 0)[:, None, :]
        exponents = xp.where(here, xp.abs(self.exponent), xp.zeros_like(self.exponent))
        return 2 * _array.epsilon(self.a) * xp.max(exponents, axis=(1, 2))


class Scalings(NamedTuple):
    """Log-domain scalings (B, N) and (B, M), the plans they make (B, N, M) and their total marginal errors (B,)."""

    u: Array
    v: Array
    plan: Array
    error: Array


def times(matrix: Array, vector: Array) -> Array:
    """Return the products of the matrices (B, N, M) with the vectors (B, M)."""
    return (matrix @ vector[:, :, None])[:, :, 0]


def from_left(vector: Array, matrix: Array) -> Array:
    """Return the products of the vectors (B, N) with the matrices (B, N, M)."""
    return (vector[:, None, :] @ matrix)[:, 0, :]


def kept(mask: Array, values: Array, otherwise: float) -> Array:
    """Return values where the mask holds, and a constant elsewhere."""
    return _array.namespace(values).where(mask, values, otherwise)


def sinkhorn(kernel: Kernel, u: Array, v: Array, max_newton: int = 30) -> Scalings:
    """Scale every exp(exponent) to its marginals; see :func:`gwtools.transport.sinkhorn.sinkhorn`.

    Parameters
    ----------
    kernel : Kernel
        Exponents, marginals and tolerances of B problems.
    u, v : arrays of shape (B, N) and (B, M)
        Scalings to start from, zero at padding.
    max_newton : int
        Newton steps at most.

    Returns
    -------
    Scalings
        Scalings are zero, and masses are zero, at padding.
    """
    xp, here_a, here_b = _array.namespace(u), kernel.a > 0, kernel.b > 0
    log_a, log_b = (xp.log(kept(here, w, 1.0)) for here, w in ((here_a, kernel.a), (here_b, kernel.b)))
    v = kept(here_b, log_b - _array.logsumexp(kernel.exponent + u[:, :, None], axis=1), 0.0)
    u = kept(here_a, log_a - _array.logsumexp(kernel.exponent + v[:, None, :], axis=2), 0.0)
    first = _scaled(kernel, u, v)
    state = _sweep(kernel, first)
    kernel = kernel._replace(tolerance=xp.maximum(kernel.tolerance, kernel.attainable))
    best = chosen((first.error <= kernel.tolerance) | (first.error <= state.error), first, state)
    places, parts = list(range(u.shape[0])), []
    order: list[int] = []
    for _ in range(max_newton):
        going, done = split(best.error > kernel.tolerance)
        if done:
            parts.append(at(best, done))
            order.extend(places[i] for i in done)
            places = [places[i] for i in going]
            kernel, state, best = at(kernel, going), at(state, going), at(best, going)
        if not going:
            break
        state = _advanced(kernel, state)
        # The dual grows at every step; the error need not fall.
        best = chosen(state.error < best.error, state, best)
    if places:
        parts.append(best)
        order.extend(places)
    return together(parts, order)


def chosen(mask: Array, first: T, second: T) -> T:
    """Return the problems of the first named tuple of (B, …) arrays where the mask (B,) holds, else those of the second."""
    here, elsewhere = split(mask)
    if not elsewhere or not here:
        return first if here else second
    return type(first)(*(chosen_rows(mask, f, s) for f, s in zip(first, second, strict=True)))


def chosen_rows(mask: Array, first: Array, second: Array) -> Array:
    """Return the problems of the first (B, …) array where the mask (B,) holds, and those of the second elsewhere."""
    xp = _array.namespace(first)
    return xp.where(xp.reshape(mask, (-1, *([1] * (first.ndim - 1)))), first, second)


def _advanced(kernel: Kernel, state: Scalings) -> Scalings:
    """Take one Newton step each, and sweeps where no step is found."""
    following, moved = _newton(kernel, state)
    going, stuck = split(moved)
    if not stuck:
        return following
    swept = _sweep(at(kernel, stuck), at(state, stuck))
    return together([at(following, going), swept], [*going, *stuck])


def _scaled(kernel: Kernel, u: Array, v: Array) -> Scalings:
    xp = _array.namespace(u)
    plan = _array.scaled_exp(kernel.exponent, u, v)
    missed = [xp.sum(xp.abs(xp.sum(plan, axis=3 - k) - w), axis=1) for k, w in ((1, kernel.a), (2, kernel.b))]
    return Scalings(u, v, plan, missed[0] + missed[1])


def _sweep(kernel: Kernel, state: Scalings, sweeps: int = 10) -> Scalings:
    """Sweep over rows and columns by plain products with the current plans, whose scalings stay near one."""
    xp, a, b = _array.namespace(state.u), kernel.a, kernel.b
    x, tiny = xp.ones_like(a), xp.finfo(a.dtype).smallest_normal
    for _ in range(sweeps):
        y = kept(b > 0, b / xp.clip(from_left(x, state.plan), min=tiny), 1.0)
        x = kept(a > 0, a / xp.clip(times(state.plan, y), min=tiny), 1.0)
    u, v = state.u + xp.log(xp.clip(x, min=tiny)), state.v + xp.log(xp.clip(y, min=tiny))
    finite = (xp.all(xp.isfinite(u), axis=1) & xp.all(xp.isfinite(v), axis=1))[:, None]
    return _scaled(kernel, xp.where(finite, u, state.u), xp.where(finite, v, state.v))


def _newton(kernel: Kernel, state: Scalings) -> tuple[Scalings, Array]:
    """Take a Newton step on each dual a·u + b·v − Σ plan, shortened until it grows; and tell where that succeeded."""
    xp, a, b, plan = _array.namespace(state.u), kernel.a, kernel.b, state.plan
    # Rows that lost all mass are given a little curvature: their scalings grow step by step instead of overflowing.
    tiny = 1e-12 * xp.max(b, axis=1, keepdims=True)
    rows, cols = xp.maximum(xp.sum(plan, axis=2), tiny), xp.maximum(xp.sum(plan, axis=1), tiny)
    right = kept(b > 0, b - cols - from_left((a - rows) / rows, plan), 0.0)
    dv = schur_solve(plan, rows, cols, right)
    du = kept(a > 0, (a - rows - times(plan, dv)) / rows, 0.0)
    slope = dot(kept(a > 0, a - rows, 0.0), du) + dot(kept(b > 0, b - cols, 0.0), dv)
    reach = xp.maximum(xp.max(xp.abs(du), axis=1), xp.max(xp.abs(dv), axis=1))
    finite = xp.isfinite(slope) & xp.isfinite(reach)
    du, dv = (kept(finite[:, None], d, 0.0) for d in (du, dv))
    # Padding bounds no step.
    exponent = kernel.exponent + state.u[:, :, None] + state.v[:, None, :]
    step = room(exponent, kept(a > 0, a, 1.0), kept(b > 0, b, 1.0), du, dv)
    return _searched(kernel, state, _Step(du, dv, slope, kept(finite, step, 1.0), finite), _TRIES)


class _Step(NamedTuple):
    """Directions, their slopes and the lengths to try first."""

    du: Array
    dv: Array
    slope: Array
    length: Array
    finite: Array


def _searched(kernel: Kernel, state: Scalings, step: _Step, tries: int) -> tuple[Scalings, Array]:
    """Halve steps until the dual grows; where it never does, the state stays."""
    xp, length = _array.namespace(state.u), step.length
    following = _scaled(kernel, state.u + length[:, None] * step.du, state.v + length[:, None] * step.dv)
    linear_part = length * (dot(kernel.a, step.du) + dot(kernel.b, step.dv))
    grown = xp.sum(following.plan, axis=(1, 2)) - xp.sum(state.plan, axis=(1, 2))
    moved = step.finite & (linear_part - grown >= 1e-4 * length * step.slope - 1e-14)
    done, short = split(moved | ~step.finite)
    here = chosen(moved, following, state)
    if not short or tries == 1:
        return here, moved
    rest = at(step._replace(length=length / 2), short)
    later, later_moved = _searched(at(kernel, short), at(state, short), rest, tries - 1)
    order = [*done, *short]
    return together([at(here, done), later], order), in_order([taken(moved, done), later_moved], order)
