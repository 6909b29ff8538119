"""Sinkhorn's algorithm in the log domain, with Newton steps: scaling of one kernel, or of a stack, to its marginals.

Every kernel of a stack keeps its own tolerance, Newton steps and line search, and
leaves the stack when it is done. Atoms that pad a stack have weight 0; exponents there
are so low that their exponentials are 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from gwtools import _array
from gwtools._array import Array
from gwtools._stacks import (
    Mask,
    Numbers,
    at_atoms,
    chosen,
    dot,
    expanded,
    filled,
    from_left,
    is_finite,
    is_stack,
    larger,
    numbers,
    opposite,
    repeated,
    replaced,
    some,
)

_SMALL_SYSTEM = 128  # unknowns: one factorisation is cheaper than the inner iterations
_SLACK = (
    1.0  # an entry may grow by, in its logarithm, beyond what its marginals can hold
)
_TRIES = 10  # lengths of a Newton step, each half of the one before
_REACH = 30.0  # scalings may move by, in total, until entries that were left out may count again


class Scaling(NamedTuple):
    """Log-domain scalings of a kernel, the plan they make, its marginals and its total marginal error.

    Shapes (…, n), (…, m), (…, n, m), (…, n), (…, m) and (…).
    """

    u: Array
    v: Array
    plan: Array
    row_sums: Array
    col_sums: Array
    error: Numbers


class _Kernel(NamedTuple):
    """Exponents (…, n, m), marginals (…, n) and (…, m), their logarithms, 0 at padding, and tolerances (…)."""

    exponent: Array
    a: Array
    b: Array
    log_a: Array
    log_b: Array
    tolerance: Numbers


def sinkhorn(
    log_kernel: Array,
    a: Array,
    b: Array,
    u: Array,
    v: Array,
    tolerance: Numbers,
    max_newton: int = 30,
) -> Scaling:
    """Scale exp(log_kernel) to the marginals a and b, in the log domain.

    A few of Sinkhorn's sweeps, then Newton steps on the concave dual: sweeps alone need
    a number of steps that grows as the kernel sharpens, Newton steps hardly any more.
    The systems of one large problem are solved by conjugate gradients.

    Parameters
    ----------
    log_kernel : array of shape (…, n, m)
        Any finite values.
    a, b : arrays of shape (…, n) and (…, m)
        Positive weights with equal sums; in a stack, 0 at padding.
    u, v : arrays of shape (…, n) and (…, m)
        Scalings to start from; in a stack, 0 at padding.
    tolerance : float or array of shape (…)
        Total marginal error at which to stop; below :func:`attainable` steps are in
        vain.
    max_newton : int
        Newton steps at most.

    Returns
    -------
    Scaling
        Finite for every finite kernel; its plan has the marginals up to ``error`` only:
        see :func:`gwtools.plans.round_plan`. Scalings and masses are 0 at padding.
    """
    xp = _array.namespace(log_kernel)
    log_a, log_b = xp.log(at_atoms(a, a, 1.0)), xp.log(at_atoms(b, b, 1.0))
    kernel = _Kernel(log_kernel, a, b, log_a, log_b, tolerance)
    v = at_atoms(
        b, log_b - _array.logsumexp(log_kernel + u[..., :, None], axis=-2), 0.0
    )
    u = at_atoms(
        a, log_a - _array.logsumexp(log_kernel + v[..., None, :], axis=-1), 0.0
    )
    state = _scaled(kernel, u, v)
    steps, whole = 0, is_stack(tolerance)
    # Every turn counts at least one step; a turn with the whole kernel is the last one.
    while steps < max_newton and some(state.error > tolerance):
        # Entries that hold no mass to speak of are left out until the scalings have
        # moved.
        part = kernel if whole else _without_empty_entries(kernel, state.plan)
        whole = whole or part is kernel
        start = state if whole else _scaled(part, state.u, state.v)
        if steps == 0:
            start = replaced(start.error > tolerance, start, _sweep, part)
        following, taken = _ascend(part, start, max_newton - steps)
        steps += max(1, taken)
        if not whole:
            following = _scaled(kernel, following.u, following.v)
            whole = following.error > max(tolerance, state.error / 2)
        state = chosen(following.error < state.error, following, state)
    return state


def attainable(log_kernel: Array) -> Numbers:
    """Estimate the marginal error that float errors of the exponents cause: these are relative to the largest exponent."""
    xp = _array.namespace(log_kernel)
    return (
        2
        * _array.epsilon(log_kernel)
        * numbers(xp.max(xp.abs(log_kernel), axis=(-2, -1)))
    )


def _without_empty_entries(kernel: _Kernel, plan: Array) -> _Kernel:
    """Drop the entries without mass where few are left; else return the kernel itself."""
    exponent = _array.without_small_masses(
        kernel.exponent, plan, 1e-9 * kernel.tolerance
    )
    return kernel if exponent is kernel.exponent else kernel._replace(exponent=exponent)


class _Ascent(NamedTuple):
    """A kernel, the current scalings of Newton's iteration, and the best ones so far."""

    kernel: _Kernel
    state: Scaling
    best: Scaling


def _ascend(kernel: _Kernel, start: Scaling, most: int) -> tuple[Scaling, int]:
    """Take Newton steps until the marginals are met or steps run out, of a compressed kernel until scalings have moved far."""

    def is_done(ascent: _Ascent) -> Mask:
        met = ascent.best.error <= ascent.kernel.tolerance
        return met or _distance(start, ascent.state) > _REACH if is_compressed else met

    is_compressed = _array.is_compressed(kernel.exponent)
    best, steps = repeated(
        _newton_or_sweep,
        is_done,
        _Ascent(kernel, start, start),
        lambda ascent: ascent.best,
        most,
    )
    return best, max(steps)


def _distance(first: Scaling, second: Scaling) -> float:
    """Return the distance between two scalings of one kernel."""
    xp = _array.namespace(first.u)
    return float(xp.max(xp.abs(second.u - first.u))) + float(
        xp.max(xp.abs(second.v - first.v))
    )


def _newton_or_sweep(ascent: _Ascent) -> _Ascent:
    """Take one Newton step, or sweeps where no step is found."""
    kernel, state, best = ascent
    following, moved = _newton(kernel, state)
    state = replaced(opposite(moved), following, _sweep, kernel)
    # The dual grows at every step; the error need not fall.
    return _Ascent(kernel, state, chosen(state.error < best.error, state, best))


def _scaled(kernel: _Kernel, u: Array, v: Array) -> Scaling:
    """Return scalings with their plan."""
    xp, a, b = _array.namespace(u), kernel.a, kernel.b
    plan = _array.scaled_exp(kernel.exponent, u, v)
    if a.ndim == 1:  # products also sum compressed plans, and are faster for large ones
        rows, cols = plan @ xp.ones_like(b), xp.ones_like(a) @ plan
    else:
        rows, cols = xp.sum(plan, axis=-1), xp.sum(plan, axis=-2)
    missed = xp.sum(xp.abs(rows - a), axis=-1) + xp.sum(xp.abs(cols - b), axis=-1)
    return Scaling(u, v, plan, rows, cols, numbers(missed))


def _sweep(state: Scaling, kernel: _Kernel, sweeps: int = 10) -> Scaling:
    """Sweep over rows and columns by plain products with the current plan, whose scalings stay near one."""
    xp, a, b = _array.namespace(state.u), kernel.a, kernel.b
    x, tiny = xp.ones_like(a), xp.finfo(a.dtype).smallest_normal
    for _ in range(sweeps):
        y = at_atoms(b, b / xp.clip(from_left(x, state.plan), min=tiny), 1.0)
        x = at_atoms(a, a / xp.clip(_array.times(state.plan, y), min=tiny), 1.0)
    u = state.u + xp.log(xp.clip(x, min=tiny))
    v = state.v + xp.log(xp.clip(y, min=tiny))
    finite = is_finite(_largest(u) + _largest(v))
    return _scaled(kernel, chosen(finite, u, state.u), chosen(finite, v, state.v))


def _largest(vector: Array) -> Numbers:
    """Return the largest |entry| of a vector (…, n), NaN where an entry is."""
    xp = _array.namespace(vector)
    return numbers(xp.max(xp.abs(vector), axis=-1))


class _NewtonStep(NamedTuple):
    """A direction of the scalings, the slope of the dual along it, the length to try first, and whether all are finite."""

    du: Array
    dv: Array
    slope: Numbers
    length: Numbers
    finite: Mask


def _newton(kernel: _Kernel, state: Scaling) -> _LineSearch:
    """Take one Newton step on the dual a·u + b·v − Σ plan, shortened until the dual grows, and tell where that succeeded."""
    xp, a, b, plan = _array.namespace(state.u), kernel.a, kernel.b, state.plan
    # Rows that lost all mass are given a little curvature: their scalings grow step by
    # step instead of overflowing.
    tiny = expanded(1e-12 * numbers(xp.max(b, axis=-1)), 1)
    rows, cols = larger(state.row_sums, tiny), larger(state.col_sums, tiny)
    more_rows, more_cols = a - rows, b - cols
    right = at_atoms(b, more_cols - from_left(more_rows / rows, plan), 0.0)
    if plan.ndim == 3 or max(plan.shape) <= _SMALL_SYSTEM:
        dv = schur_solve(plan, rows, cols, right)
    else:
        dv = _solved_by_gradients(plan, rows, cols, right)
    du = at_atoms(a, (more_rows - _array.times(plan, dv)) / rows, 0.0)
    slope = dot(more_rows, du) + dot(more_cols, dv)
    reach = larger(_largest(du), _largest(dv))
    finite = is_finite(slope + reach)
    du, dv = (
        chosen(finite, du, xp.zeros_like(du)),
        chosen(finite, dv, xp.zeros_like(dv)),
    )
    length = _first_length(kernel, state, du, dv, reach)
    return _line_search(kernel, state, _NewtonStep(du, dv, slope, length, finite))


def _first_length(
    kernel: _Kernel, state: Scaling, du: Array, dv: Array, reach: Numbers
) -> Numbers:
    """Return how much of a direction, 1 at most, scalings may go until an entry outgrows its marginals.

    Where parts of a sharp plan hardly touch, mass moves between them once the entries
    that join them have grown by hundreds of orders of magnitude: the dual is linear
    until then.
    """
    if _array.is_compressed(kernel.exponent):
        return min(1.0, 20.0 / max(reach, 1e-300))
    if not some(2 * reach > _SLACK):
        return filled(reach, 1.0)
    xp = _array.namespace(du)
    exponent = kernel.exponent + state.u[..., :, None] + state.v[..., None, :]
    most = xp.minimum(
        (kernel.log_a + _SLACK)[..., :, None], (kernel.log_b + _SLACK)[..., None, :]
    )
    speed = (du[..., :, None] + dv[..., None, :]) / xp.clip(most - exponent, min=_SLACK)
    return numbers(1.0 / xp.clip(xp.max(speed, axis=(-2, -1)), min=1.0))


class _LineSearch(NamedTuple):
    """Scalings after a line search, and whether they moved."""

    scaling: Scaling
    moved: Mask


def _line_search(
    kernel: _Kernel, state: Scaling, step: _NewtonStep, tries: int = _TRIES
) -> _LineSearch:
    """Halve a step until the dual grows; where it never does, the state stays."""
    length = expanded(step.length, 1)
    following = _scaled(kernel, state.u + length * step.du, state.v + length * step.dv)
    linear_part = step.length * (dot(kernel.a, step.du) + dot(kernel.b, step.dv))
    grown = _mass(following) - _mass(state)
    moved = step.finite & (
        linear_part - grown >= 1e-4 * step.length * step.slope - 1e-14
    )
    result = _LineSearch(chosen(moved, following, state), moved)
    if tries == 1:
        return result

    def halved(
        _: _LineSearch, kernel: _Kernel, state: Scaling, step: _NewtonStep
    ) -> _LineSearch:
        return _line_search(
            kernel, state, step._replace(length=step.length / 2), tries - 1
        )

    return replaced(step.finite & opposite(moved), result, halved, kernel, state, step)


def _mass(scaling: Scaling) -> Numbers:
    """Return the total mass of a plan."""
    return numbers(_array.namespace(scaling.row_sums).sum(scaling.row_sums, axis=-1))


def schur_solve(plan: Array, rows: Array, cols: Array, right: Array) -> Array:
    """Solve with the Schur complement of the Hessian [diag(rows) plan; planᵀ diag(cols)] in the second scaling.

    Takes one system or a stack of them. Scaled by √cols it is 1 − KᵀK with a
    contraction K. Scalings that are constant, or constant on blocks that hardly
    exchange mass, are its null vectors: a small multiple of 1 bounds the solution.
    """
    xp, root = _array.namespace(plan), _array.namespace(plan).sqrt(cols)
    contraction = plan * (1 / xp.sqrt(rows))[..., :, None] * (1 / root)[..., None, :]
    ones = xp.eye(plan.shape[-1], dtype=plan.dtype, device=_array.device(plan))
    matrix = (1 + _array.epsilon(plan) ** 0.5 / 16) * ones - xp.matrix_transpose(
        contraction
    ) @ contraction
    return xp.linalg.solve(matrix, (right / root)[..., None])[..., 0] / root


def _solved_by_gradients(plan: Array, rows: Array, cols: Array, right: Array) -> Array:
    """Solve the same system of one large problem to two digits."""
    # A sharp plan has few entries that a direction of two digits can feel.
    core = _array.without_small(plan, 1e-4)
    back = _array.columns(core)
    return _conjugate_gradient(
        lambda p: cols * p - back @ ((core @ p) / rows), right, cols
    )


def _conjugate_gradient(
    operator: Callable[[Array], Array], right: Array, diagonal: Array, steps: int = 200
) -> Array:
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
        curvature, flat = (
            float(direction @ image),
            float(direction @ (diagonal * direction)) * _array.epsilon(right),
        )
        if not curvature > flat:
            # Parts of the plan hardly touch: moving mass between them costs nothing
            # yet, so the step goes there alone, and far.
            return (
                direction / math.sqrt(_array.epsilon(right)) if flat > 0.0 else solution
            )
        solution = solution + (size / curvature) * direction
        residual = residual - (size / curvature) * image
        preconditioned = residual / diagonal
        size, previous = float(residual @ preconditioned), size
        direction = preconditioned + (size / previous) * direction
    return solution
