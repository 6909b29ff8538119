"""Optimal transport as a linear program, solved exactly by a network simplex.

POT's, or a compiled one where a program starts near its solution. The dual potentials
prove the value, whatever the simplex did.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from gwtools import _compiled
from gwtools._array import NumpyArray
from gwtools._compiled.marginals import missed
from gwtools.plans import SparsePlan, changed, make_unchecked
from gwtools.transport.one_dimensional import SLIVER, comonotone
from gwtools.transport.simplex import minimised

# Entries: larger programs with a start are priced, on few arcs at a time.
_DENSE_PROGRAM = 300**2
_COMPILED_PROGRAM = 45**2  # entries above which compiled pivots go on from a start
_ARCS_PER_ATOM = 8
_FLOAT_ERROR = 1e-14  # of reduced costs, relative to the potentials
_MISSED = 1e-12  # plans whose marginals are off by more are rounded onto them


@dataclass(frozen=True, eq=False)
class Program:
    """A solved linear program: a vertex, its dual potentials and a lower value.

    No coupling costs less than ``lower``, up to float error;
    :func:`gwtools.bounds.transport_error.dual_value` is the proved value.
    """

    plan: SparsePlan
    potentials: tuple[NumpyArray, NumpyArray]  # u (n,) and v (m,), in units of the cost
    lower: float


def exact(
    cost: NumpyArray,
    a: NumpyArray,
    b: NumpyArray,
    start: SparsePlan | None = None,
    potentials: tuple[NumpyArray, NumpyArray] | None = None,
) -> Program:
    """Minimise Σ cost_ij π_ij over couplings of a and b exactly, on the CPU.

    With numba, the extra ``fast``, compiled pivots go on from a ``start``. Without it
    POT's simplex solves large programs with a start on few arcs at a time: those that
    the potentials price lowest and those of the start. Arcs that violate dual
    feasibility join until none is left up to float error, so the answer is optimal for
    the whole matrix.

    Parameters
    ----------
    cost : numpy array of shape (n, m)
        Costs, of any sign; float64, or float32, of which compiled pivots read half the
        memory.
    a, b : numpy arrays of shape (n,) and (m,)
        Positive weights of sum 1.
    start : SparsePlan, optional
        A coupling whose arcs are kept, so that every partial program is feasible.
    potentials : pair of arrays, optional
        Potentials of a similar program.

    Returns
    -------
    Program
        A vertex with at most n + m − 1 atoms; where POT misses the marginals by more
        than 1e-12, its plan rounded onto them. ``lower`` follows from the potentials
        alone, whatever the simplex did, up to float error.

    Raises
    ------
    RuntimeError
        If POT returns a plan that is far from a coupling.
    """
    n, m = cost.shape
    if n == 1 or m == 1:
        return _only_coupling(cost, a, b)
    if start is not None and n * m > _COMPILED_PROGRAM and _compiled.available():
        program = _by_pivots(cost, a, b, start, potentials)
        if program is not None:
            return program
    cost = cost.astype(np.float64, copy=False)
    # POT takes negative costs for infeasible ones and has absolute tolerances: shift to
    # >= 0 and scale to 1.
    shift = float(cost.min())
    spread = float(cost.max()) - shift
    unit = max(spread, np.finfo(float).tiny)
    scaled = (cost - shift) / unit
    # It also needs both sums to be equal, and not only up to float error.
    ratio = a.sum() / b.sum()
    b = b * ratio
    if n * m <= _DENSE_PROGRAM or start is None:
        plan, u, v = _simplex(scaled, a, b)
        reduced = scaled - u[:, None] - v
        slack = min(0.0, float(reduced.min()))
    else:
        first_u = np.zeros(n) if potentials is None else potentials[0]
        first_u = (first_u - shift) / unit
        plan, u, v, slack = _priced_simplex(scaled, a, b, start, first_u)
    # Lowered by the largest violation the potentials are feasible, and their value is
    # below the cost of every coupling, whose mass is 1.
    dual_value = float(a @ u + b @ v) + slack
    lower = dual_value * unit + shift
    unscaled = (u * unit + shift, v * unit)
    return Program(plan, unscaled, lower)


def exact_on_arcs(
    costs: NumpyArray,
    arcs: tuple[NumpyArray, NumpyArray],
    a: NumpyArray,
    b: NumpyArray,
) -> tuple[SparsePlan, NumpyArray, NumpyArray]:
    """Minimise Σ cost_k π_k over couplings of a and b on k arcs alone.

    Parameters
    ----------
    costs : numpy array of shape (k,)
        Costs of the arcs, of any sign; float64.
    arcs : pair of integer arrays of shape (k,)
        Their rows and columns, among which a coupling has all its mass.
    a, b : numpy arrays of shape (n,) and (m,)
        Positive weights of equal sum.

    Returns
    -------
    (SparsePlan, array of shape (n,), array of shape (m,))
        A vertex and its potentials, in units of the costs.
    """
    # POT takes costs >= 0 and has absolute tolerances.
    shift = float(costs.min())
    unit = max(float(costs.max()) - shift, np.finfo(float).tiny)
    scaled = (costs - shift) / unit
    shape = (len(a), len(b))
    plan, u, v = _simplex(scipy.sparse.coo_array((scaled, arcs), shape=shape), a, b)
    return plan, u * unit + shift, v * unit


def _by_pivots(
    cost: NumpyArray,
    a: NumpyArray,
    b: NumpyArray,
    start: SparsePlan,
    potentials: tuple[NumpyArray, NumpyArray] | None,
) -> Program | None:
    """Solve a program by compiled pivots; None where they come to no end."""
    b = b * (a.sum() / b.sum())
    found = minimised(cost, a, b, start, potentials)
    if found is None:
        return None
    plan, u, v, lower = found
    error, _, _ = missed(plan.rows, plan.cols, plan.mass, a, b)
    if error > _MISSED:
        plan = repaired(plan, a, b)
    return Program(plan, (u, v), lower)


def _only_coupling(
    cost: NumpyArray,
    a: NumpyArray,
    b: NumpyArray,
) -> Program:
    """Return the one coupling of an atom with any number of atoms."""
    n, m = cost.shape
    if m == 1:
        mass = a
        u = cost[:, 0]
        v = np.zeros(1)
    else:
        mass = b
        u = np.zeros(1)
        v = cost[0]
    rows, cols = np.divmod(np.arange(n * m), m)
    plan = make_unchecked(
        SparsePlan,
        rows=rows,
        cols=cols,
        mass=mass.astype(float),
        size=(n, m),
    )
    value = float(plan.inner(cost))
    return Program(plan, (u, v), value)


def _simplex(
    cost: NumpyArray | scipy.sparse.coo_array,
    a: NumpyArray,
    b: NumpyArray,
) -> tuple[SparsePlan, NumpyArray, NumpyArray]:
    """Run POT's network simplex on costs >= 0; return a checked plan and potentials."""
    import ot  # imported here because POT loads every array library that is installed

    # A limit for the case that float errors make pivots cycle.
    pivots = max(10**6, 100 * int(cost.size))
    with warnings.catch_warnings():
        # The check of marginals below replaces POT's warnings.
        warnings.simplefilter("ignore", UserWarning)
        flow, log = ot.lp.emd(
            a,
            b,
            cost,
            numItermax=pivots,
            log=True,
            center_dual=False,
            check_marginals=False,
        )
    least_mass = SLIVER * max(a.max(), b.max())
    plan = _read_flow(flow, cost.shape, least_mass)
    of_rows, of_cols = plan.marginals()
    missed_a = float(np.abs(of_rows - a).max())
    missed_b = float(np.abs(of_cols - b).max())
    error = max(missed_a, missed_b)
    # An infeasible program is answered with a plan of zeros; `not <=` refuses NaN too.
    if not error <= 1e-3:
        reason = log["warning"] or "no reason given"
        raise RuntimeError(
            "the network simplex returned a plan that misses its marginals by "
            f"{error:.3g}: {reason}"
        )
    if error > _MISSED:
        plan = repaired(plan, a, b)
    return plan, log["u"], log["v"]


def _read_flow(
    flow: NumpyArray | scipy.sparse.coo_array,
    size: tuple[int, int],
    least_mass: float,
) -> SparsePlan:
    """Return the arcs of a flow as a plan, without those that are float error."""
    entries = scipy.sparse.coo_array(flow)
    entries.sum_duplicates()
    rows, cols = entries.coords
    mass = entries.data.astype(float)
    kept = mass > least_mass
    return make_unchecked(
        SparsePlan,
        rows=rows.astype(np.int64)[kept],
        cols=cols.astype(np.int64)[kept],
        mass=mass[kept],
        size=size,
    )


def repaired(
    plan: SparsePlan,
    a: NumpyArray,
    b: NumpyArray,
) -> SparsePlan:
    """Round a sparse plan onto the marginals a and b; it stays sparse.

    As :func:`gwtools.round_plan` does, but that what is missing is coupled in the
    order of the atoms instead of all with all.
    """
    rows = plan.rows
    cols = plan.cols
    mass = plan.mass
    # 1. Scale down the rows that carry too much mass.
    of_rows, _ = plan.marginals()
    factors = a / np.maximum(of_rows, a)
    mass = mass * factors[rows]
    # 2. Then the columns.
    of_cols = np.bincount(cols, weights=mass, minlength=len(b))
    factors = b / np.maximum(of_cols, b)
    mass = mass * factors[cols]
    # 3. Couple what is missing in the order of the atoms.
    of_rows = np.bincount(rows, weights=mass, minlength=len(a))
    of_cols = np.bincount(cols, weights=mass, minlength=len(b))
    missing_a = np.maximum(a - of_rows, 0.0)
    missing_b = np.maximum(b - of_cols, 0.0)
    total_a = missing_a.sum()
    total_b = missing_b.sum()
    if not (total_a > 0.0 and total_b > 0.0):
        return changed(plan, mass=mass)
    rest = comonotone(
        np.arange(len(a)),
        missing_a / total_a,
        np.arange(len(b)),
        missing_b / total_b,
    )
    # 4. Sum both parts where they share an arc.
    rows = np.concatenate([rows, rest.rows])
    cols = np.concatenate([cols, rest.cols])
    mass = np.concatenate([mass, total_a * rest.mass])
    arcs = (rows, cols)
    entries = scipy.sparse.csr_array((mass, arcs), shape=plan.size)
    rows, cols = entries.nonzero()
    return changed(
        plan,
        rows=rows.astype(np.int64),
        cols=cols.astype(np.int64),
        mass=entries.data[entries.data != 0],
    )


def _priced_simplex(
    cost: NumpyArray,
    a: NumpyArray,
    b: NumpyArray,
    start: SparsePlan,
    first_u: NumpyArray,
) -> tuple[SparsePlan, NumpyArray, NumpyArray, float]:
    """Solve a large program on growing sets of arcs.

    Returns the vertex, its potentials and the largest violation of dual feasibility, as
    a number <= 0.
    """
    n, m = cost.shape
    most = _ARCS_PER_ATOM * (n + m) / (n * m)  # share of the arcs that may join at once
    # 1. Tighten the potentials: every atom gets an arc of reduced cost zero.
    v = (cost - first_u[:, None]).min(axis=0)
    reduced = cost - v
    u = reduced.min(axis=1)
    reduced -= u[:, None]
    # 2. Take the arcs that they price lowest, and those of a feasible plan.
    arcs = reduced <= _quantile(reduced, most)
    arcs[start.rows, start.cols] = True
    # A start made in a narrower dtype may be no coupling of these weights: some
    # coupling's arcs make the program feasible.
    rows = np.arange(n)
    cols = np.arange(m)
    chain = comonotone(rows, a, cols, b)
    arcs[chain.rows, chain.cols] = True
    # Every pass but the last adds an arc, so that there are at most n m of them.
    while True:
        # 3. Solve on these arcs, and price all.
        inside = np.nonzero(arcs)
        costs = cost[inside]
        partial = scipy.sparse.coo_array((costs, inside), shape=(n, m))
        plan, u, v = _simplex(partial, a, b)
        np.subtract(cost, v, out=reduced)
        reduced -= u[:, None]
        # 4. Stop where the reduced costs of all other arcs are ≥ 0, up to the float
        #    error of those that the simplex was given: none of them improves the plan.
        #    The lower value counts the most negative of all.
        float_error = _largest_float_error(reduced[inside], u, v)
        worst = float(reduced.min())
        reduced[inside] = np.inf
        if float(reduced.min()) >= -float_error:
            return plan, u, v, min(worst, 0.0)
        # 5. Add the arcs that violate dual feasibility most, and each atom's best.
        number = np.count_nonzero(reduced < 0.0)
        share = number / (n * m)
        threshold = _quantile(reduced, min(share, most))
        violated = reduced <= min(threshold, 0.0)
        best_of_rows = reduced.argmin(axis=1)
        best_of_cols = reduced.argmin(axis=0)
        arcs |= violated
        arcs[rows, best_of_rows] = True
        arcs[best_of_cols, cols] = True


def _largest_float_error(
    reduced: NumpyArray,
    u: NumpyArray,
    v: NumpyArray,
) -> float:
    """Return how far float error may take the reduced costs of basic arcs below 0."""
    seen = -float(reduced.min())
    largest_u = np.abs(u).max()
    largest_v = np.abs(v).max()
    expected = _FLOAT_ERROR * float(max(largest_u, largest_v))
    return max(seen, expected, 0.0)


def _quantile(values: NumpyArray, share: float) -> float:
    """Estimate a quantile from a strided sample: pricing needs no exact rank."""
    stride = max(1, values.size // 65_536)
    sample = values.ravel()[::stride]
    rank = int(share * sample.size)
    rank = min(sample.size - 1, rank)
    ordered = np.partition(sample, rank)
    return float(ordered[rank])
