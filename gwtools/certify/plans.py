"""Plans made ready for a certificate: in float64, on the atoms of positive weight."""

from __future__ import annotations

from gwtools import _array
from gwtools._array import Array
from gwtools.plans import DensePlan, Plan, SparsePlan
from gwtools.preparation import Prepared


def widened(plan: Plan) -> Plan:
    """Convert a plan to float64, in NumPy where its library has none, as spaces are."""
    masses = _array.widen(_array.detached(plan.masses))
    if masses is plan.masses:
        return plan
    if not isinstance(plan, SparsePlan):
        return DensePlan(masses)
    rows = plan.rows
    cols = plan.cols
    # Positions are of one library with the masses, wherever these went.
    if _array.library(masses) != _array.library(plan.mass):
        rows = _array.to_numpy(rows)
        cols = _array.to_numpy(cols)
    return SparsePlan(rows, cols, masses, plan.size)


def restricted(plan: Plan, ready: Prepared) -> Plan:
    """Restrict a plan to the atoms of positive weight of two spaces.

    Mass on other atoms is dropped: the nearest coupling has none there. Matrices of few
    positive masses become lists, sums over which cancel less.
    """
    if isinstance(plan, SparsePlan):
        return _restricted_list(plan, ready)
    matrix = plan.dense()  # (n, m)
    xp = _array.namespace(matrix)
    for axis, kept in enumerate(ready.atoms):
        if kept is not None:
            matrix = xp.take(matrix, kept, axis=axis)
    n, m = matrix.shape
    # A vertex of the polytope of couplings has at most n + m − 1 positive masses.
    if int(xp.count_nonzero(matrix)) >= n + m:
        return plan if matrix is plan.dense() else DensePlan(matrix)
    rows, cols = xp.nonzero(matrix)
    # The standard of array libraries takes along one axis only.
    masses = xp.reshape(matrix, (-1,))  # (n m,)
    mass = xp.take(masses, rows * m + cols)
    shape = (ready.x.size, ready.y.size)
    return SparsePlan(rows, cols, mass, shape)


def _restricted_list(plan: SparsePlan, ready: Prepared) -> SparsePlan:
    """Restrict a list to its positive masses between atoms of positive weight."""
    xp = _array.namespace(plan.mass)
    present = plan.mass > 0
    rows = plan.rows
    cols = plan.cols
    kept_rows, kept_cols = ready.atoms
    if kept_rows is not None:
        rows, found = _positions(rows, kept_rows)
        present = present & found
    if kept_cols is not None:
        cols, found = _positions(cols, kept_cols)
        present = present & found
    all_kept = kept_rows is None and kept_cols is None
    # The same plan, so that what was evaluated of it need not be computed again.
    if bool(xp.all(present)) and all_kept:
        return plan
    (listed,) = xp.nonzero(present)
    return SparsePlan(
        xp.take(rows, listed),
        xp.take(cols, listed),
        xp.take(plan.mass, listed),
        (ready.x.size, ready.y.size),
    )


def _positions(index: Array, kept: Array) -> tuple[Array, Array]:
    """Return where atoms stand among the kept ones, and whether they are kept."""
    xp = _array.namespace(kept)
    last = kept.shape[0] - 1
    positions = xp.searchsorted(kept, index)
    # Atoms beyond the last kept one have no position; the comparison tells them.
    positions = xp.clip(positions, max=last)
    found = xp.take(kept, positions)
    return positions, found == index
