"""Linear transport: one sort on the line, exact linear programs, and Sinkhorn's scaling in the log domain."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse

from gwtools import _array
from gwtools._array import Array, NumpyArray
from gwtools.plans import DensePlan, SparsePlan

_DENSE_PROGRAM = 300**2
_ARCS_PER_ATOM = 8
_ROUNDING = 1e-14
_SLIVER = 2.0**-45
_SMALL_SYSTEM = 128  # unknowns: one factorisation is cheaper than the inner iterations


class Line(NamedTuple):
    """The comonotone coupling of two weighted lists of numbers: indices into each list, and the mass of each atom."""

    first: Array
    second: Array
    mass: Array


def comonotone(x: Array, a: Array, y: Array, b: Array) -> Line:
    """Couple two weighted lists of numbers in sorted order, by the north-west corner rule.

    Parameters
    ----------
    x, a : arrays of shape (n,)
        Values and weights.
    y, b : arrays of shape (m,)
        Values and weights.

    Returns
    -------
    Line
        At most n + m atoms; exactly n where n = m and all weights are equal.
    """
    xp = _array.namespace(x, a, y, b)
    order_x, order_y = xp.argsort(x), xp.argsort(y)
    mass_x, mass_y = xp.take(a, order_x), xp.take(b, order_y)
    if x.shape == y.shape and bool(xp.all(mass_x == mass_y)):
        return Line(order_x, order_y, mass_x)
    ends_x, ends_y = xp.cumulative_sum(mass_x), xp.cumulative_sum(mass_y)
    # Both lists end at the same total, so that no sliver of mass is left over by rounding.
    ends_x, ends_y = ends_x / ends_x[-1], ends_y / ends_y[-1]
    ends = xp.sort(xp.concat([ends_x, ends_y]))
    starts = xp.concat([xp.zeros_like(ends[:1]), ends[:-1]])
    middles = (starts + ends) / 2
    first = xp.clip(xp.searchsorted(ends_x, middles), max=x.shape[0] - 1)
    second = xp.clip(xp.searchsorted(ends_y, middles), max=y.shape[0] - 1)
    return Line(xp.take(order_x, first), xp.take(order_y, second), ends - starts)


def line(x: Array, a: Array, y: Array, b: Array, p: float) -> Array:
    """Return W_p^p between two weighted lists of numbers, in units of x to the power p.

    Parameters
    ----------
    x, a : arrays of shape (n,)
        Values and weights.
    y, b : arrays of shape (m,)
        Values and weights.
    p : float
        Power of the cost, at least 1.

    Notes
    -----
    Differentiable in the values; at ties any order gives the same value and a valid subgradient.
    """
    xp = _array.namespace(x, y)
    if balanced(a, b):  # the values alone need sorting, not their places
        apart = xp.sort(x, stable=False) - xp.sort(y, stable=False)
        return a[0] * (xp.vecdot(apart, apart) if p == 2 else xp.sum(xp.abs(apart) ** p))
    return total(comonotone(x, a, y, b), x, y, p)


def total(pairs: Line, x: Array, y: Array, p: float) -> Array:
    """Return Σ mass · |x − y|^p over the atoms of a coupling."""
    xp = _array.namespace(x, y)
    apart = xp.abs(xp.take(x, pairs.first) - xp.take(y, pairs.second))
    return xp.vecdot(pairs.mass, apart if p == 1 else apart**p)


def balanced(a: Array, b: Array) -> bool:
    """Tell whether all weights of both lists are one and the same number, so that values pair off."""
    xp = _array.namespace(a, b)
    return a.shape == b.shape and bool(xp.all(a == a[0])) and bool(xp.all(b == a[0]))


def sorting_plan(x: Array, a: Array, y: Array, b: Array) -> SparsePlan:
    """Return the comonotone coupling of two weighted lists of numbers as a plan of shape (n, m)."""
    pairs = comonotone(x, a, y, b)
    kept = _array.namespace(pairs.mass).nonzero(
        pairs.mass > _SLIVER * _array.number(_array.namespace(pairs.mass).max(pairs.mass))
    )[0]
    take = _array.namespace(pairs.mass).take
    return SparsePlan(
        take(pairs.first, kept), take(pairs.second, kept), take(pairs.mass, kept), (x.shape[0], y.shape[0])
    )


@dataclass(frozen=True, eq=False)
class Program:
    """A solved linear program: the vertex, its potentials and a value that no coupling can go below."""

    plan: SparsePlan
    potentials: tuple[NumpyArray, NumpyArray]
    lower: float


def exact(
    cost: NumpyArray,
    a: NumpyArray,
    b: NumpyArray,
    start: SparsePlan | None = None,
    potentials: tuple[NumpyArray, NumpyArray] | None = None,
) -> Program:
    """Minimise Σ cost_ij π_ij over couplings of a and b exactly, with POT's network simplex on the CPU.

    Large programs are solved on few arcs at a time: those that the potentials price lowest and those of a feasible plan. Arcs
    that violate dual feasibility join until none is left, so the answer is optimal for the whole matrix.

    Parameters
    ----------
    cost : numpy array of shape (n, m)
        Costs, of any sign; float64.
    a, b : numpy arrays of shape (n,) and (m,)
        Positive weights with equal sums.
    start : SparsePlan, optional
        A coupling whose arcs are kept, so that every partial program is feasible.
    potentials : pair of arrays, optional
        Potentials of a similar program.

    Returns
    -------
    Program
        A vertex with at most n + m − 1 atoms. ``lower`` is proved by the potentials alone, whatever the simplex did.

    Raises
    ------
    RuntimeError
        If POT returns a plan that is no coupling.
    """
    n, m = cost.shape
    if n == 1 or m == 1:
        rows, cols = np.divmod(np.arange(n * m), m)
        plan = SparsePlan(rows, cols, (a if m == 1 else b).astype(float), (n, m))
        u, v = (cost[:, 0], np.zeros(1)) if m == 1 else (np.zeros(1), cost[0])
        return Program(plan, (u, v), float(plan.inner(cost)))
    # POT takes negative costs for infeasible ones and has absolute tolerances: shift to >= 0 and scale to 1.
    shift = float(cost.min())
    unit = max(float(cost.max()) - shift, np.finfo(float).tiny)
    scaled = (cost - shift) / unit
    b = b * (a.sum() / b.sum())
    if n * m <= _DENSE_PROGRAM or start is None:
        plan, u, v = _simplex(scaled, a, b)
        slack = min(0.0, float((scaled - u[:, None] - v).min()))
    else:
        u, v = (np.zeros(n), np.zeros(m)) if potentials is None else potentials
        plan, u, v, slack = _priced_simplex(scaled, a, b, start, ((u - shift) / unit, v / unit))
    lower = (float(a @ u + b @ v) + slack) * unit + shift
    return Program(plan, (u * unit + shift, v * unit), lower)


def _simplex(
    cost: NumpyArray | scipy.sparse.coo_array, a: NumpyArray, b: NumpyArray
) -> tuple[SparsePlan, NumpyArray, NumpyArray]:
    """Run POT's network simplex on non-negative costs and check that what it returns is a coupling."""
    import ot  # imported here because POT loads every array library that is installed

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the check below replaces POT's warnings
        flow, log = ot.lp.emd(a, b, cost, numItermax=10**9, log=True, center_dual=False, check_marginals=False)
    rows, cols = (index.astype(np.int64) for index in flow.nonzero())
    mass = np.asarray(
        flow.tocsr()[rows, cols] if scipy.sparse.issparse(flow) else flow[rows, cols], dtype=float
    ).ravel()
    kept = mass > _SLIVER * max(a.max(), b.max())
    plan = SparsePlan(rows[kept], cols[kept], mass[kept], cost.shape)
    error = max(float(np.abs(found - wanted).max()) for found, wanted in zip(plan.marginals(), (a, b), strict=True))
    if not error <= 1e-10:
        raise RuntimeError(
            f"the network simplex returned a plan that misses its marginals by {error:.3g}: "
            f"{log['warning'] or 'no reason given'}"
        )
    return plan, log["u"], log["v"]


def _priced_simplex(
    cost: NumpyArray,
    a: NumpyArray,
    b: NumpyArray,
    start: SparsePlan,
    potentials: tuple[NumpyArray, NumpyArray],
) -> tuple[SparsePlan, NumpyArray, NumpyArray, float]:
    """Solve a large program on growing sets of arcs; return the vertex, its potentials and the last violation (<= 0)."""
    n, m = cost.shape
    # Tighten the potentials: every atom gets an arc of reduced cost zero.
    v = (cost - potentials[0][:, None]).min(axis=0)
    reduced = cost - v
    u = reduced.min(axis=1)
    reduced -= u[:, None]
    chosen = _ARCS_PER_ATOM * (n + m) / (n * m)
    arcs = reduced <= _quantile(reduced, chosen)
    arcs[start.rows, start.cols] = True
    while True:
        rows, cols = np.nonzero(arcs)
        plan, u, v = _simplex(scipy.sparse.coo_array((cost[rows, cols], (rows, cols)), shape=(n, m)), a, b)
        np.subtract(cost, v, out=reduced)
        reduced -= u[:, None]
        violated = reduced < 0
        violated &= ~arcs
        share = np.count_nonzero(violated) / (n * m)
        # Arcs already chosen violate by rounding at most: a violation of that size among the others ends the rounds too.
        worst = float(reduced.min())
        if share == 0.0 or worst >= -_ROUNDING * max(float(np.abs(u).max()), float(np.abs(v).max())):
            return plan, u, v, min(worst, 0.0)
        atoms = np.arange(n), np.arange(m)
        arcs[atoms[0], reduced.argmin(axis=1)] = True
        arcs[reduced.argmin(axis=0), atoms[1]] = True
        arcs |= violated & (reduced <= _quantile(reduced, min(share, chosen)))


def _quantile(values: NumpyArray, share: float) -> float:
    """Estimate a quantile from a strided sample: pricing needs no exact rank."""
    sample = values.ravel()[:: max(1, values.size // 65_536)]
    rank = min(sample.size - 1, int(share * sample.size))
    return float(np.partition(sample, rank)[rank])


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
        Finite for every finite kernel; its plan has the marginals up to ``error`` only: see :func:`round_to`.
    """
    xp = _array.namespace(log_kernel)
    v = xp.log(b) - _array.logsumexp(log_kernel + u[:, None], axis=0)
    u = xp.log(a) - _array.logsumexp(log_kernel + v[None, :], axis=1)
    state = _scaled(log_kernel, a, b, u, v)
    # Exponents are only as exact as the largest of them is long: no scaling meets the marginals better.
    tolerance = max(tolerance, 2 * _array.epsilon(a) * float(xp.max(xp.abs(log_kernel))))
    steps, dense = 0, False
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
    u, v = state.u + xp.log(x), state.v + xp.log(y)
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
    step, mass = min(1.0, 20.0 / max(reach, 1e-300)), float(xp.sum(rows))
    for _ in range(10):
        following = _scaled(log_kernel, a, b, state.u + step * du, state.v + step * dv)
        linear_part = step * float(a @ du + b @ dv)
        if linear_part - (float(xp.sum(following.plan @ xp.ones_like(b))) - mass) >= 1e-4 * step * slope - 1e-14:
            return following
        step /= 2
    return state


def schur_solve(plan: Array, rows: Array, cols: Array, right: Array) -> Array:
    """Solve with the Schur complement of the Hessian [diag(rows) plan; planᵀ diag(cols)] in the second scaling.

    Takes one system or a stack of them. Scaled by √cols it is 1 − KᵀK with a contraction K. Scalings that are constant, or
    constant on blocks that hardly exchange mass, are its null vectors: a small multiple of 1 bounds the solution.
    """
    xp, root = _array.namespace(plan), _array.namespace(plan).sqrt(cols)
    contraction = plan / (xp.sqrt(rows)[..., :, None] * root[..., None, :])
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


def round_to(matrix: Array, a: Array, b: Array) -> DensePlan:
    """Turn a non-negative matrix into a coupling of a and b that is near it."""
    return DensePlan(rounded(matrix, a, b))


def rounded(matrix: Array, a: Array, b: Array) -> Array:
    """Round a non-negative matrix, or a stack of them, to marginals a and b (Altschuler, Weed and Rigollet 2017, alg. 2)."""
    xp = _array.namespace(matrix)
    tiny = xp.finfo(matrix.dtype).smallest_normal
    # 1-2. Scale down the rows, then the columns, that carry too much mass.
    matrix = matrix * xp.clip(a / xp.clip(xp.sum(matrix, axis=-1), min=tiny), max=1.0)[..., :, None]
    matrix = matrix * xp.clip(b / xp.clip(xp.sum(matrix, axis=-2), min=tiny), max=1.0)[..., None, :]
    # 3. Spread the missing mass as a product.
    rows, cols = xp.clip(a - xp.sum(matrix, axis=-1), min=0.0), xp.clip(b - xp.sum(matrix, axis=-2), min=0.0)
    missing = xp.clip((xp.sum(rows, axis=-1) + xp.sum(cols, axis=-1)) / 2, min=tiny)
    return matrix + rows[..., :, None] * (cols / missing[..., None])[..., None, :]
