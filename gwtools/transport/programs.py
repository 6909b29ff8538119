"""Linear transport: one sort on the line, and exact linear programs with their proved values."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse

from gwtools import _array
from gwtools._array import Array, NumpyArray
from gwtools.plans import SparsePlan, changed, unchecked

_DENSE_PROGRAM = 300**2
_ARCS_PER_ATOM = 8
_ROUNDING = 1e-14
_MISSED = 1e-12  # marginals that are missed by more are set right
SLIVER = 2.0**-45  # share of the largest mass below which an atom is rounding


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
    # Differences of long sums are the masses: in single precision they would miss the weights of 100,000 atoms.
    ends_x, ends_y = (xp.cumulative_sum(_array.for_long_sums(mass)) for mass in (mass_x, mass_y))
    # Both lists end at the same total, so that no sliver of mass is left over by rounding.
    ends_x, ends_y = ends_x / ends_x[-1], ends_y / ends_y[-1]
    ends = xp.sort(xp.concat([ends_x, ends_y]))
    starts = xp.concat([xp.zeros_like(ends[:1]), ends[:-1]])
    middles = (starts + ends) / 2
    first = xp.clip(xp.searchsorted(ends_x, middles), max=x.shape[0] - 1)
    second = xp.clip(xp.searchsorted(ends_y, middles), max=y.shape[0] - 1)
    return Line(xp.take(order_x, first), xp.take(order_y, second), xp.astype(ends - starts, a.dtype, copy=False))


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
        pairs.mass > SLIVER * _array.number(_array.namespace(pairs.mass).max(pairs.mass))
    )[0]
    take = _array.namespace(pairs.mass).take
    rows, cols, mass = (take(values, kept) for values in (pairs.first, pairs.second, pairs.mass))
    return unchecked(SparsePlan, rows=rows, cols=cols, mass=mass, size=(x.shape[0], y.shape[0]))


@dataclass(frozen=True, eq=False)
class Program:
    """A solved linear program: the vertex, its potentials and, up to float64 rounding, a value that no coupling can go below.

    :func:`gwtools.bounds.float_error.dual_value` is the proved one.
    """

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
    that violate dual feasibility join until none is left but for rounding, so the answer is optimal for the whole matrix.

    Parameters
    ----------
    cost : numpy array of shape (n, m)
        Costs, of any sign; float64.
    a, b : numpy arrays of shape (n,) and (m,)
        Positive weights of sum 1.
    start : SparsePlan, optional
        A coupling whose arcs are kept, so that every partial program is feasible.
    potentials : pair of arrays, optional
        Potentials of a similar program.

    Returns
    -------
    Program
        A vertex with at most n + m − 1 atoms; where POT misses the marginals by more than 1e-12, its plan rounded to them.
        ``lower`` follows from the potentials alone, whatever the simplex did, up to float64 rounding.

    Raises
    ------
    RuntimeError
        If POT returns a plan that is far from a coupling.
    """
    n, m = cost.shape
    if n == 1 or m == 1:
        rows, cols = np.divmod(np.arange(n * m), m)
        plan = unchecked(SparsePlan, rows=rows, cols=cols, mass=(a if m == 1 else b).astype(float), size=(n, m))
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

    # A limit for the case that rounding makes pivots cycle.
    pivots = max(10**6, 100 * int(cost.size))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the check below replaces POT's warnings
        flow, log = ot.lp.emd(a, b, cost, numItermax=pivots, log=True, center_dual=False, check_marginals=False)
    whole = scipy.sparse.coo_array(flow)
    whole.sum_duplicates()
    rows, cols = (index.astype(np.int64) for index in whole.coords)
    mass = whole.data.astype(float)
    kept = mass > SLIVER * max(a.max(), b.max())
    plan = unchecked(SparsePlan, rows=rows[kept], cols=cols[kept], mass=mass[kept], size=cost.shape)
    error = max(float(np.abs(found - wanted).max()) for found, wanted in zip(plan.marginals(), (a, b), strict=True))
    if not error <= 1e-3:
        raise RuntimeError(
            f"the network simplex returned a plan that misses its marginals by {error:.3g}: "
            f"{log['warning'] or 'no reason given'}"
        )
    return plan if error <= _MISSED else _repaired(plan, a, b), log["u"], log["v"]


def _repaired(plan: SparsePlan, a: NumpyArray, b: NumpyArray) -> SparsePlan:
    """Round a sparse plan to the marginals a and b as :func:`gwtools.plans.rounded` does, but that the rest is sparse."""
    rows, cols, mass = plan.rows, plan.cols, plan.mass
    # 1-2. Scale down the rows, then the columns, that carry too much mass.
    mass = mass * (a / np.maximum(plan.marginals()[0], a))[rows]
    columns = np.bincount(cols, weights=mass, minlength=len(b))
    mass = mass * (b / np.maximum(columns, b))[cols]
    # 3. Couple what is missing in the order of the atoms.
    missing_a = np.maximum(a - np.bincount(rows, weights=mass, minlength=len(a)), 0.0)
    missing_b = np.maximum(b - np.bincount(cols, weights=mass, minlength=len(b)), 0.0)
    total = missing_a.sum()
    if not (total > 0.0 and missing_b.sum() > 0.0):
        return changed(plan, mass=mass)
    rest = comonotone(np.arange(len(a)), missing_a / total, np.arange(len(b)), missing_b / missing_b.sum())
    rows, cols = np.concatenate([rows, rest.first]), np.concatenate([cols, rest.second])
    whole = scipy.sparse.csr_array((np.concatenate([mass, total * rest.mass]), (rows, cols)), shape=plan.size)
    rows, cols = (index.astype(np.int64) for index in whole.nonzero())
    return changed(plan, rows=rows, cols=cols, mass=whole.data[whole.data != 0])


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
    rows, cols = np.arange(n), np.arange(m)
    # A start made in a narrower dtype may be no coupling of these weights: some coupling's arcs make the program feasible.
    chain = comonotone(rows, a, cols, b)
    arcs[chain.first, chain.second] = True
    # Every round but the last adds an arc, so that there are at most n m of them.
    while True:
        inside = np.nonzero(arcs)
        plan, u, v = _simplex(scipy.sparse.coo_array((cost[inside], inside), shape=(n, m)), a, b)
        np.subtract(cost, v, out=reduced)
        reduced -= u[:, None]
        # Reduced costs of arcs that the simplex was given may be slightly negative by its rounding. Others that are no worse
        # cannot improve the plan, and end the rounds. The proved value counts the least of all.
        rounding = max(-float(reduced[inside].min()), _ROUNDING * float(max(np.abs(u).max(), np.abs(v).max())), 0.0)
        worst = float(reduced.min())
        reduced[inside] = np.inf
        if float(reduced.min()) >= -rounding:
            return plan, u, v, min(worst, 0.0)
        share = np.count_nonzero(reduced < 0.0) / (n * m)
        violated = reduced <= min(_quantile(reduced, min(share, chosen)), 0.0)
        best_of_rows, best_of_columns = reduced.argmin(axis=1), reduced.argmin(axis=0)
        arcs |= violated
        arcs[rows, best_of_rows] = True
        arcs[best_of_columns, cols] = True


def _quantile(values: NumpyArray, share: float) -> float:
    """Estimate a quantile from a strided sample: pricing needs no exact rank."""
    sample = values.ravel()[:: max(1, values.size // 65_536)]
    rank = min(sample.size - 1, int(share * sample.size))
    return float(np.partition(sample, rank)[rank])
