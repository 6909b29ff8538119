"""Transport between points by compiled pivots that go on from a plan and potentials.

For programs of many points, whose solutions are near the start: nearest neighbours
price all pairs between rounds of pivots (theorem 12 h).
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from gwtools._array import NumpyArray
from gwtools._compiled.network_simplex import (
    Arcs,
    empty_tree,
    pivoted_on_arcs,
    plant,
)
from gwtools.plans import SparsePlan
from gwtools.transport.lifted import (
    MOST_ROUNDS,
    LiftedCosts,
    Priced,
    coarse_prices,
    gain,
)
from gwtools.transport.programs import Program, exact_on_arcs
from gwtools.transport.simplex import Units, plan_of, started

_FLOAT_ERROR = 1e-14  # of reduced costs, relative to the largest terms
_PIVOTS_PER_POINT = 1000  # far above what programs take


def continued_program(
    costs: LiftedCosts,
    a: NumpyArray,
    b: NumpyArray,
    start: SparsePlan,
    potentials: tuple[NumpyArray, NumpyArray] | None = None,
    share: float = 0.0,
    least: float = 0.0,
) -> Program | None:
    """Minimise −Σ ⟨u_i, v_j⟩ π_ij over couplings of a and b, from a coupling near it.

    Arcs that violate dual feasibility join until none is left, up to float error; the
    tree of the last pivots stays.

    Parameters
    ----------
    costs : LiftedCosts
        The costs.
    a, b : arrays of shape (n,) and (m,)
        Positive weights of sum 1.
    start : SparsePlan
        A coupling.
    potentials : pair of arrays, optional
        Potentials of a similar program; by default those of a program of few cells.
    share : float
        The part of what the program gains over ``start`` that may be left.
    least : float
        What may be left in any case, as it counts as float error.

    Returns
    -------
    Program or None
        As :func:`gwtools.transport.lifted.lifted_program` returns it; None where pivots
        or rounds came to no end.
    """
    b = b * (a.sum() / b.sum())
    n, m = costs.shape
    costs = costs.balanced()
    g = coarse_prices(costs, a, b) if potentials is None else potentials[1]
    first = Priced.of(costs, a, b, g)
    # 1. A tree of the start's arcs; costs are those less the first potentials.
    units = Units.of(a, b)
    start = forest(costs, a, b, start)
    rows, cols, masses = started(units, start)
    arcs = _arcs(costs, first, [(rows, cols), *first.arcs()])
    tree = empty_tree(n, m, np.zeros(n))
    plant(tree, n, rows, cols, arcs.costs[: len(rows)], masses)
    for _ in range(MOST_ROUNDS):
        # 2. Solve on these arcs.
        size = costs.size + max(np.abs(first.f).max(), np.abs(first.g).max())
        allowed = _FLOAT_ERROR * (size + float(np.abs(tree.potentials).max()))
        most = _PIVOTS_PER_POINT * (n + m)
        if pivoted_on_arcs(tree, arcs, n, allowed, most) == most:
            return None
        f = first.f + tree.potentials[:n]
        g = first.g + tree.potentials[n:-1]
        # 3. Price all pairs.
        plan = plan_of(tree, units)
        priced = Priced.of(costs, a, b, g)
        value = float(plan.mass @ costs.at(plan.rows, plan.cols))
        # A margin for another order of the same sums.
        violated = priced.violated(costs, f, g, 4 * allowed)
        left = value - priced.lower
        if not violated or left <= max(least, share * gain(costs, start, priced.lower)):
            return Program(plan, (priced.f, priced.g), priced.lower)
        # 4. The arcs that violate dual feasibility join.
        joining = _arcs(costs, first, violated)
        arcs = Arcs(*map(np.concatenate, zip(arcs, joining, strict=True)))
    return None


def _arcs(
    costs: LiftedCosts,
    first: Priced,
    pairs: list[tuple[NumpyArray, NumpyArray]],
) -> Arcs:
    """Return arcs of lists of rows and columns, with costs less first potentials."""
    rows = np.concatenate([rows for rows, _ in pairs])
    cols = np.concatenate([cols for _, cols in pairs])
    reduced = costs.at(rows, cols) - first.f[rows] - first.g[cols]
    return Arcs(rows.astype(np.int32), cols.astype(np.int32), reduced)


def forest(
    costs: LiftedCosts,
    a: NumpyArray,
    b: NumpyArray,
    plan: SparsePlan,
) -> SparsePlan:
    """Return a coupling on some arcs of a plan that close no cycle; it costs no more.

    A forest has as many arcs as nodes less components; plans of no more have no cycle.
    """
    n, m = plan.size
    nodes = n + m
    links = coo_array((plan.mass, (plan.rows, n + plan.cols)), shape=(nodes, nodes))
    components, _ = connected_components(links, directed=False)
    if len(plan.mass) <= nodes - components:
        return plan
    arcs = (plan.rows, plan.cols)
    vertex, _, _ = exact_on_arcs(costs.at(*arcs), arcs, a, b)
    return vertex
