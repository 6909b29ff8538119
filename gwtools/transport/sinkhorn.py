"""Kernels scaled to marginals in the log domain."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from gwtools import _array
from gwtools._array import Array

_SMALL_SYSTEM = 128  # unknowns: one factorisation is cheaper than the inner iterations
_SLACK = 1.0  # an entry may grow by, in its logarithm, beyond what its marginals can hold


class Scaling(NamedTuple):
    """Log-domain scalings of a kernel, the plan they make and its total marginal error."""

    u: Array
    v: Array
    plan: Array
    error: float


def sinkhorn(
    log_kernel: Array, a: Array, b: Array, u: Array, v: Array, tolerance: float, max_newton: int = 30
) -> Scaling:
    """Scale exp(log_kernel) to the marginals a and b, in the log domain.

    A few of Sinkhorn's sweeps, then Newton steps on the concave dual with conjugate gradients inside: sweeps alone need a
    number of steps that grows as the kernel sharpens, Newton steps hardly any more.

    Parameters
    ----------
    log_kernel : array of shape (n, m)
        Any finite values.
    a, b : arrays of shape (n,) and (m,)
        Positive weights with equal sums.
    u, v : arrays of shape (n,) and (m,)
        Scalings to start from.
    tolerance : float
        Total marginal error at which to stop.
    max_newton : int
        Newton steps at most.

    Returns
    -------
    Scaling
        Finite for every finite kernel; its plan has the marginals up to ``error`` only: see :func:`gwtools.plans.rounded`.
    """
    xp = _array.namespace(log_kernel)
    v = xp.log(b) - _array.logsumexp(log_kernel + u[:, None], axis=0)
    u = xp.log(a) - _array.logsumexp(log_kernel + v[None, :], axis=1)
    state = _scaled(log_kernel, a, b, u, v)
    tolerance = max(tolerance, attainable(log_kernel))
    steps, dense = 0, False
    # Every turn counts at least one step.
    while state.error > tolerance and steps < max_newton:
        # Entries that hold no mass to speak of are left out until the scalings have moved.
        kernel = log_kernel if dense else _array.supported(log_kernel, state.plan, 1e-9 * tolerance)
        dense = dense or kernel is log_kernel
        start = state if dense else _scaled(kernel, a, b, state.u, state.v)
        start = _sweep(kernel, a, b, start) if steps == 0 else start
        found, taken = _ascend(kernel, a, b, start, tolerance, max_newton - steps, math.inf if dense else 30.0)
        steps += taken
        if not dense:
            found = _scaled(log_kernel, a, b, found.u, found.v)
            dense = found.error > max(tolerance, state.error / 2)
        state = min(state, found, key=lambda scaling: scaling.error)
    return state


def attainable(log_kernel: Array) -> float:
    """Return about the marginal error that rounding of the exponents causes: they are as exact as the largest is long."""
    xp = _array.namespace(log_kernel)
    return 2 * _array.epsilon(log_kernel) * float(xp.max(xp.abs(log_kernel)))


def _ascend(
    kernel: Array, a: Array, b: Array, start: Scaling, tolerance: float, most: int, reach: float
) -> tuple[Scaling, int]:
    """Take Newton steps until the marginals are met, scalings have moved by ``reach`` or steps run out; count them."""
    xp = _array.namespace(a)
    best = state = start
    steps, moved = 0, 0.0
    while best.error > tolerance and steps < most and moved <= reach:
        following = _newton(kernel, a, b, state)
        state = following if following is not state else _sweep(kernel, a, b, state)
        # The dual grows at every step; the error need not fall.
        best = min(best, state, key=lambda scaling: scaling.error)
        moved = float(xp.max(xp.abs(state.u - start.u))) + float(xp.max(xp.abs(state.v - start.v)))
        steps += 1
    return best, max(1, steps)


def _scaled(log_kernel: Array, a: Array, b: Array, u: Array, v: Array) -> Scaling:
    xp, plan = _array.namespace(a), _array.scaled_exp(log_kernel, u, v)
    rows, cols = _sums(plan, a, b)
    return Scaling(u, v, plan, float(xp.sum(xp.abs(rows - a)) + xp.sum(xp.abs(cols - b))))


def _sums(plan: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """Row and column sums of a plan of any storage."""
    xp = _array.namespace(a)
    return plan @ xp.ones_like(b), xp.ones_like(a) @ plan


def _sweep(log_kernel: Array, a: Array, b: Array, state: Scaling, sweeps: int = 10) -> Scaling:
    """Sweep over rows and columns by plain products with the current plan, whose scalings stay near one."""
    xp = _array.namespace(a)
    x, tiny = xp.ones_like(a), xp.finfo(a.dtype).smallest_normal
    for _ in range(sweeps):
        y = b / xp.clip(x @ state.plan, min=tiny)
        x = a / xp.clip(state.plan @ y, min=tiny)
    u, v = state.u + xp.log(xp.clip(x, min=tiny)), state.v + xp.log(xp.clip(y, min=tiny))
    finite = bool(xp.all(xp.isfinite(u))) and bool(xp.all(xp.isfinite(v)))
    return _scaled(log_kernel, a, b, u, v) if finite else state


def _newton(log_kernel: Array, a: Array, b: Array, state: Scaling) -> Scaling:
    """Take one Newton step on the dual a·u + b·v − Σ plan, shortened until the dual grows."""
    xp = _array.namespace(a)
    # Rows that lost all mass are given a little curvature: their scalings grow step by step instead of overflowing.
    plan, tiny = state.plan, 1e-12 * float(xp.max(b))
    rows, cols = (xp.clip(sums, min=tiny) for sums in _sums(plan, a, b))
    right = b - cols - ((a - rows) / rows) @ plan
    if max(plan.shape) <= _SMALL_SYSTEM:
        dv = schur_solve(plan, rows, cols, right)
    else:
        # A sharp plan has few entries that a direction of two digits can feel.
        core = _array.thin(plan, 1e-4)
        back = _array.columns(core)
        dv = _conjugate_gradient(lambda p: cols * p - back @ ((core @ p) / rows), right, cols)
    du = (a - rows - plan @ dv) / rows
    slope = float((a - rows) @ du + (b - cols) @ dv)
    reach = max(float(xp.max(xp.abs(du))), float(xp.max(xp.abs(dv))))
    if not (math.isfinite(slope) and math.isfinite(reach)):
        return state
    step, mass = 1.0, float(xp.sum(rows))
    if _array.is_compressed(log_kernel):
        step = min(1.0, 20.0 / max(reach, 1e-300))
    elif 2 * reach > _SLACK:
        step = float(room(log_kernel + state.u[:, None] + state.v[None, :], a, b, du, dv))
    for _ in range(10):
        following = _scaled(log_kernel, a, b, state.u + step * du, state.v + step * dv)
        linear_part = step * float(a @ du + b @ dv)
        if linear_part - (float(xp.sum(following.plan @ xp.ones_like(b))) - mass) >= 1e-4 * step * slope - 1e-14:
            return following
        step /= 2
    return state


def room(exponent: Array, a: Array, b: Array, du: Array, dv: Array) -> Array:
    """Return how much of a direction, 1 at most, scalings may go until an entry outgrows its marginals.

    Takes one problem or a stack. Where parts of a sharp plan hardly touch, mass moves between them once the entries that join
    them have grown by hundreds of orders of magnitude: the dual is linear until then.
    """
    xp = _array.namespace(a)
    most = xp.minimum((xp.log(a) + _SLACK)[..., :, None], (xp.log(b) + _SLACK)[..., None, :])
    speed = (du[..., :, None] + dv[..., None, :]) / xp.clip(most - exponent, min=_SLACK)
    return 1.0 / xp.clip(xp.max(speed, axis=(-2, -1)), min=1.0)


def schur_solve(plan: Array, rows: Array, cols: Array, right: Array) -> Array:
    """Solve with the Schur complement of the Hessian [diag(rows) plan; planᵀ diag(cols)] in the second scaling.

    Takes one system or a stack of them. Scaled by √cols it is 1 − KᵀK with a contraction K. Scalings that are constant, or
    constant on blocks that hardly exchange mass, are its null vectors: a small multiple of 1 bounds the solution.
    """
    xp, root = _array.namespace(plan), _array.namespace(plan).sqrt(cols)
    contraction = plan * (1 / xp.sqrt(rows))[..., :, None] * (1 / root)[..., None, :]
    ones = xp.eye(plan.shape[-1], dtype=plan.dtype, device=_array.device(plan))
    matrix = (1 + _array.epsilon(plan) ** 0.5 / 16) * ones - xp.matrix_transpose(contraction) @ contraction
    return xp.linalg.solve(matrix, (right / root)[..., None])[..., 0] / root


def _conjugate_gradient(operator: Callable[[Array], Array], right: Array, diagonal: Array, steps: int = 200) -> Array:
    """Solve a symmetric positive semidefinite system to two digits, with diagonal preconditioning."""
    xp = _array.namespace(right)
    solution, residual = xp.zeros_like(right), right
    preconditioned = residual / diagonal
    direction, size = preconditioned, float(residual @ preconditioned)
    target = 1e-4 * size
    for _ in range(min(steps, right.shape[0])):
        if not size > target:
            break
        image = operator(direction)
        curvature, flat = float(direction @ image), float(direction @ (diagonal * direction)) * _array.epsilon(right)
        if not curvature > flat:
            # Parts of the plan hardly touch: moving mass between them costs nothing yet, so the step goes there alone, and far.
            return direction / math.sqrt(_array.epsilon(right)) if flat > 0.0 else solution
        solution = solution + (size / curvature) * direction
        residual = residual - (size / curvature) * image
        preconditioned = residual / diagonal
        size, previous = float(residual @ preconditioned), size
        direction = preconditioned + (size / previous) * direction
    return solution
