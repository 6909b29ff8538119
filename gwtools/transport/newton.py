"""Newton steps for the scalings of a kernel, with a line search on the concave dual.

The dual of entropic transport is a·u + b·v − Σ_ij exp(exponent_ij + u_i + v_j). Its
gradient is the marginal error, its Hessian minus the matrix H = [diag(r) P; Pᵀ diag(c)]
of the plan P with row sums r and column sums c.

References
----------
C. Brauer, C. Clason, D. Lorenz and B. Wirth, *A Sinkhorn-Newton method for entropic
optimal transport*, 2017, arXiv:1710.06635.
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
    larger,
    numbers,
    opposite,
    replaced,
    some,
)
from gwtools.transport.scaling import (
    Kernel,
    Scaling,
    largest_entry,
    log_plan,
    scaled,
)

# Unknowns of a system up to which one factorisation is cheaper than the iterations of
# conjugate gradients.
_SMALL_SYSTEM = 128
# How much the logarithm of an entry may grow beyond what its marginals can hold.
_SLACK = 1.0
# How far the scalings of a compressed kernel may move in one step: its missing entries
# cannot tell how far a step may go.
_FIRST_REACH = 20.0
_TRIES = 10  # lengths of a Newton step, each half of the one before
_SUFFICIENT = 1e-4  # share of the linear growth that the dual has to grow by (Armijo)
# Least sum of a row or column that the Hessian is given, as a share of the largest b.
_LEAST_CURVATURE = 1e-12
# Squared residual, relative to the first, of a system that is solved to two digits.
_TWO_DIGITS = 1e-4


class LineSearch(NamedTuple):
    """Scalings after a line search, and whether they moved."""

    scaling: Scaling
    moved: Mask  # (…)


class _Step(NamedTuple):
    """A direction of the scalings, and how much of it to try first."""

    du: Array  # (…, n)
    dv: Array  # (…, m)
    slope: Numbers  # (…), of the dual along the direction
    length: Numbers  # (…), at most 1
    finite: Mask  # (…)


def newton(kernel: Kernel, scaling: Scaling) -> LineSearch:
    """Take one Newton step on the dual, shortened until the dual grows."""
    xp = _array.namespace(scaling.u)
    a = kernel.a
    b = kernel.b
    plan = scaling.plan
    # Rows that lost all mass are given a little curvature: their scalings grow step by
    # step instead of overflowing.
    heaviest = numbers(xp.max(b, axis=-1))  # (…)
    least = expanded(_LEAST_CURVATURE * heaviest, 1)
    rows = larger(scaling.row_sums, least)  # (…, n)
    cols = larger(scaling.col_sums, least)  # (…, m)
    # 1. The gradient of the dual, but for rows and columns that lost all mass.
    missing_rows = a - rows  # (…, n)
    missing_cols = b - cols  # (…, m)
    # 2. H (du, dv) = gradient, solved for dv once du is eliminated, then for du.
    eliminated = from_left(missing_rows / rows, plan)  # (…, m)
    right = at_atoms(b, missing_cols - eliminated, 0.0)
    dv = _solved(plan, rows, cols, right)
    du = (missing_rows - _array.times(plan, dv)) / rows
    du = at_atoms(a, du, 0.0)
    # 3. How fast the dual grows along the direction, and how far the scalings move.
    slope = dot(missing_rows, du) + dot(missing_cols, dv)
    reach_u = largest_entry(du)
    reach_v = largest_entry(dv)
    reach = larger(reach_u, reach_v)
    # A system without a solution gives no step.
    finite = is_finite(slope + reach)
    du = chosen(finite, du, xp.zeros_like(du))
    dv = chosen(finite, dv, xp.zeros_like(dv))
    # 4. The line search.
    length = _first_length(kernel, scaling, du, dv, reach)
    step = _Step(du, dv, slope, length, finite)
    return _line_search(kernel, scaling, step)


def _first_length(
    kernel: Kernel,
    scaling: Scaling,
    du: Array,
    dv: Array,
    reach: Numbers,
) -> Numbers:
    """Return how much of a direction to try first: entries must not outgrow marginals.

    Where parts of a sharp plan hardly touch, mass moves between them once the entries
    that join them have grown by hundreds of orders of magnitude: the dual is linear
    until then.
    """
    if _array.is_compressed(kernel.exponent):
        length = _FIRST_REACH / max(reach, 1e-300)
        return min(1.0, length)
    # The logarithm of an entry grows by 2 · reach at most.
    if not some(2 * reach > _SLACK):
        return filled(reach, 1.0)
    xp = _array.namespace(du)
    room = _room(kernel, scaling)
    # Growth of each entry along the whole direction, as a share of its room.
    share = (du[..., :, None] + dv[..., None, :]) / room
    largest_share = xp.max(share, axis=(-2, -1))  # (…)
    length = 1.0 / xp.clip(largest_share, min=1.0)
    return numbers(length)


def _room(kernel: Kernel, scaling: Scaling) -> Array:
    """Return how much the logarithm of each entry (…, n, m) may grow."""
    xp = _array.namespace(scaling.u)
    log_entries = log_plan(kernel.exponent, scaling.u, scaling.v)
    # An entry is at most the mass of its row and of its column.
    most_in_row = kernel.log_a + _SLACK  # (…, n)
    most_in_col = kernel.log_b + _SLACK  # (…, m)
    most = xp.minimum(most_in_row[..., :, None], most_in_col[..., None, :])
    return xp.clip(most - log_entries, min=_SLACK)


def _line_search(
    kernel: Kernel,
    scaling: Scaling,
    step: _Step,
    tries: int = _TRIES,
) -> LineSearch:
    """Halve a step until the dual grows; where it never does, the scalings stay."""
    result = _tried(kernel, scaling, step)
    if tries == 1:
        return result

    def halved(
        _: LineSearch,
        kernel: Kernel,
        scaling: Scaling,
        step: _Step,
    ) -> LineSearch:
        shorter = step._replace(length=step.length / 2)
        return _line_search(kernel, scaling, shorter, tries - 1)

    failed = step.finite & opposite(result.moved)
    return replaced(failed, result, halved, kernel, scaling, step)


def _tried(kernel: Kernel, scaling: Scaling, step: _Step) -> LineSearch:
    """Take a step where the dual grows by enough of what its slope promises."""
    length = expanded(step.length, 1)
    u = scaling.u + length * step.du
    v = scaling.v + length * step.dv
    following = scaled(kernel, u, v)
    # The dual is a·u + b·v less the mass of the plan.
    linear_slope = dot(kernel.a, step.du) + dot(kernel.b, step.dv)
    linear_growth = step.length * linear_slope
    mass_growth = following.mass - scaling.mass
    growth = linear_growth - mass_growth
    # At its maximum the dual changes by float errors alone: 1e-14 of mass 1.
    promised = _SUFFICIENT * step.length * step.slope
    grows = growth >= promised - 1e-14
    moved = step.finite & grows
    result = chosen(moved, following, scaling)
    return LineSearch(result, moved)


def _solved(
    plan: Array,
    rows: Array,
    cols: Array,
    right: Array,
) -> Array:
    """Solve the system of the second scaling: at once where it is small or a stack."""
    if plan.ndim == 3 or max(plan.shape) <= _SMALL_SYSTEM:
        return schur_solve(plan, rows, cols, right)
    return _solved_by_gradients(plan, rows, cols, right)


def schur_solve(
    plan: Array,
    rows: Array,
    cols: Array,
    right: Array,
) -> Array:
    """Solve with the Schur complement diag(c) − Pᵀ diag(r)⁻¹ P of H.

    Takes one system or a stack of them. Scaled by √c it is 1 − KᵀK with a contraction
    K. Scalings that are constant, or constant on blocks that hardly exchange mass, are
    its null vectors: a small multiple of 1 bounds the solution.

    Parameters
    ----------
    plan : array of shape (…, n, m)
        The plan P.
    rows, cols : arrays of shape (…, n) and (…, m)
        Its row sums r and column sums c, all positive.
    right : array of shape (…, m)
        Right-hand side.

    Returns
    -------
    array of shape (…, m)
        The solution dv.
    """
    xp = _array.namespace(plan)
    root_cols = xp.sqrt(cols)
    row_factors = 1 / xp.sqrt(rows)
    col_factors = 1 / root_cols
    contraction = plan * row_factors[..., :, None] * col_factors[..., None, :]
    gram = xp.matrix_transpose(contraction) @ contraction  # (…, m, m)
    size = plan.shape[-1]
    device = _array.device(plan)
    identity = xp.eye(size, dtype=plan.dtype, device=device)
    shift = 1 + _array.epsilon(plan) ** 0.5 / 16
    matrix = shift * identity - gram
    scaled_right = right / root_cols
    solution = xp.linalg.solve(matrix, scaled_right[..., None])  # (…, m, 1)
    return solution[..., 0] / root_cols


def _solved_by_gradients(
    plan: Array,
    rows: Array,
    cols: Array,
    right: Array,
) -> Array:
    """Solve the same system of one large problem to two digits."""
    # A sharp plan has few entries that a direction of two digits can feel.
    core = _array.without_small(plan, 1e-4)
    core_columns = _array.columns(core)  # (m, n)

    def schur_complement(p: Array) -> Array:
        share = (core @ p) / rows
        return cols * p - core_columns @ share

    return _conjugate_gradient(schur_complement, right, cols)


def _conjugate_gradient(
    operator: Callable[[Array], Array],
    right: Array,
    diagonal: Array,
    steps: int = 200,
) -> Array:
    """Solve a positive semidefinite system to two digits, with a diagonal as its scale.

    The diagonal preconditions the system, whose null vectors are allowed.
    """
    xp = _array.namespace(right)
    solution = xp.zeros_like(right)
    residual = right
    preconditioned = residual / diagonal
    direction = preconditioned
    size = float(residual @ preconditioned)  # squared norm of the residual
    target = _TWO_DIGITS * size
    spacing = _array.epsilon(right)
    most = min(steps, right.shape[0])
    for _ in range(most):
        if not size > target:  # also where it is NaN
            break
        image = operator(direction)
        curvature = float(direction @ image)
        curvature_of_diagonal = float(direction @ (diagonal * direction))
        flat = curvature_of_diagonal * spacing
        if not curvature > flat:
            # Parts of the plan hardly touch: moving mass between them costs nothing
            # yet, so the step goes there alone, and far.
            if flat > 0.0:
                return direction / math.sqrt(spacing)
            return solution
        length = size / curvature
        solution = solution + length * direction
        residual = residual - length * image
        preconditioned = residual / diagonal
        previous_size = size
        size = float(residual @ preconditioned)
        direction = preconditioned + (size / previous_size) * direction
    return solution
