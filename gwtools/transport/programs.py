"""Optimal transport as a linear program, solved exactly by POT's network simplex, with dual potentials as proof."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from gwtools._array import NumpyArray
from gwtools.plans import SparsePlan, changed, make_unchecked
from gwtools.transport.one_dimensional import SLIVER, comonotone

_DENSE_PROGRAM = 300**2  # entries: larger programs are priced, on few arcs at a time
_ARCS_PER_ATOM = 8
_FLOAT_ERROR = 1e-14  # of reduced costs, relative to the potentials
_MISSED = 1e-12  # plans whose marginals are off by more are rounded onto them


@dataclass(frozen=True, eq=False)
class Program:
    """A solved linear program: the vertex, its potentials and, up to float error, a value that no coupling can go below.

    :func:`gwtools.bounds.transport_error.dual_value` is the proved one.
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

    Large programs are solved on few arcs at a time: those that the potentials price
    lowest and those of a feasible plan. Arcs that violate dual feasibility join until
    none is left up to float error, so the answer is optimal for the whole matrix.

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
        rows, cols = np.divmod(np.arange(n * m), m)
        plan = make_unchecked(
            SparsePlan,
            rows=rows,
            cols=cols,
            mass=(a if m == 1 else b).astype(float),
            size=(n, m),
        )
        u, v = (cost[:, 0], np.zeros(1)) if m == 1 else (np.zeros(1), cost[0])
        return Program(plan, (u, v), float(plan.inner(cost)))
    # POT takes negative costs for infeasible ones and has absolute tolerances: shift to
    # >= 0 and scale to 1.
    shift = float(cost.min())
    unit = max(float(cost.max()) - shift, np.finfo(float).tiny)
    scaled = (cost - shift) / unit
    b = b * (a.sum() / b.sum())
    if n * m <= _DENSE_PROGRAM or start is None:
        plan, u, v = _simplex(scaled, a, b)
        slack = min(0.0, float((scaled - u[:, None] - v).min()))
    else:
        u, v = (np.zeros(n), np.zeros(m)) if potentials is None else potentials
        plan, u, v, slack = _priced_simplex(
            scaled, a, b, start, ((u - shift) / unit, v / unit)
        )
    lower = (float(a @ u + b @ v) + slack) * unit + shift
    return Program(plan, (u * unit + shift, v * unit), lower)


def _simplex(
    cost: NumpyArray | scipy.sparse.coo_array, a: NumpyArray, b: NumpyArray
) -> tuple[SparsePlan, NumpyArray, NumpyArray]:
    """Run POT's network simplex on non-negative costs and check that what it returns is a coupling."""
    import ot  # imported here because POT loads every array library that is installed

    # A limit for the case that float errors make pivots cycle.
    pivots = max(10**6, 100 * int(cost.size))
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # the check below replaces POT's warnings
        flow, log = ot.lp.emd(
            a,
            b,
            cost,
            numItermax=pivots,
            log=True,
            center_dual=False,
            check_marginals=False,
        )
    entries = scipy.sparse.coo_array(flow)
    entries.sum_duplicates()
    rows, cols = (index.astype(np.int64) for index in entries.coords)
    mass = entries.data.astype(float)
    kept = mass > SLIVER * max(a.max(), b.max())
    plan = make_unchecked(
        SparsePlan, rows=rows[kept], cols=cols[kept], mass=mass[kept], size=cost.shape
    )
    error = max(
        float(np.abs(sums - weights).max())
        for sums, weights in zip(plan.marginals(), (a, b), strict=True)
    )
    if not error <= 1e-3:
        raise RuntimeError(
            f"the network simplex returned a plan that misses its marginals by {error:.3g}: "
            f"{log['warning'] or 'no reason given'}"
        )
    return plan if error <= _MISSED else _repaired(plan, a, b), log["u"], log["v"]


def _repaired(plan: SparsePlan, a: NumpyArray, b: NumpyArray) -> SparsePlan:
    """Round a sparse plan onto the marginals a and b as :func:`gwtools.plans.round_plan` does, but that the rest is sparse."""
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
    rest = comonotone(
        np.arange(len(a)),
        missing_a / total,
        np.arange(len(b)),
        missing_b / missing_b.sum(),
    )
    rows, cols = np.concatenate([rows, rest.rows]), np.concatenate([cols, rest.cols])
    entries = scipy.sparse.csr_array(
        (np.concatenate([mass, total * rest.mass]), (rows, cols)), shape=plan.size
    )
    rows, cols = (index.astype(np.int64) for index in entries.nonzero())
    return changed(plan, rows=rows, cols=cols, mass=entries.data[entries.data != 0])


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
    # A start made in a narrower dtype may be no coupling of these weights: some
    # coupling's arcs make the program feasible.
    chain = comonotone(rows, a, cols, b)
    arcs[chain.rows, chain.cols] = True
    # Every pass but the last adds an arc, so that there are at most n m of them.
    while True:
        inside = np.nonzero(arcs)
        plan, u, v = _simplex(
            scipy.sparse.coo_array((cost[inside], inside), shape=(n, m)), a, b
        )
        np.subtract(cost, v, out=reduced)
        reduced -= u[:, None]
        # Reduced costs of arcs that the simplex was given may be slightly negative by
        # float error. Others that are no worse cannot improve the plan, and end the
        # passes. The proved value counts the least of all.
        float_error = max(
            -float(reduced[inside].min()),
            _FLOAT_ERROR * float(max(np.abs(u).max(), np.abs(v).max())),
            0.0,
        )
        worst = float(reduced.min())
        reduced[inside] = np.inf
        if float(reduced.min()) >= -float_error:
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
