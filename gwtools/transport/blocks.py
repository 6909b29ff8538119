"""Transport in blocks: programs between few atoms, whose plans join to a better one.

Domain decomposition (Benamou 1994; Bonafini and Schmitzer 2021): theorem 12 (i).
"""

from __future__ import annotations

import numpy as np

from gwtools import _compiled
from gwtools._array import NumpyArray
from gwtools.plans import SparsePlan, make_unchecked
from gwtools.transport.lifted import LiftedCosts
from gwtools.transport.lifted_pivots import forest
from gwtools.transport.programs import exact

_MOST_PAIRS = 2**22  # of a block; where heavy atoms make it larger, it stays as it is


def lowered_by_rows(
    costs: LiftedCosts,
    plan: SparsePlan,
    blocks: NumpyArray,
) -> SparsePlan:
    """Couple the rows of each block anew with the columns that they have mass on.

    Parameters
    ----------
    costs : LiftedCosts
        The costs.
    plan : SparsePlan
        A coupling of the points.
    blocks : integer array of shape (n,)
        The block of each row, of few rows.

    Returns
    -------
    SparsePlan
        A coupling of the same marginals that costs no more: in each block the best one
        of the marginals that the plan has there.
    """
    of_atoms = blocks[plan.rows]
    order = np.argsort(of_atoms, kind="stable")
    rows = plan.rows[order]
    cols = plan.cols[order]
    mass = plan.mass[order]
    ends = np.nonzero(np.diff(of_atoms[order], append=-1))[0] + 1
    parts = []
    start = 0
    for stop in ends.tolist():
        part = slice(start, stop)
        parts.append(_coupled_anew(costs, rows[part], cols[part], mass[part]))
        start = stop
    rows, cols, mass = map(np.concatenate, zip(*parts, strict=True))
    return make_unchecked(SparsePlan, rows=rows, cols=cols, mass=mass, size=plan.size)


def lowered_by_columns(
    costs: LiftedCosts,
    plan: SparsePlan,
    blocks: NumpyArray,
) -> SparsePlan:
    """Couple the columns of each block anew, of which ``blocks`` (m,) are the numbers.

    As :func:`lowered_by_rows` does for rows.
    """
    turned = lowered_by_rows(costs.transposed, plan.transpose(), blocks)
    return turned.transpose()


def _coupled_anew(
    costs: LiftedCosts,
    rows: NumpyArray,
    cols: NumpyArray,
    mass: NumpyArray,
) -> tuple[NumpyArray, NumpyArray, NumpyArray]:
    """Return rows, columns and masses of the best coupling of a few atoms' marginals.

    Parameters
    ----------
    costs : LiftedCosts
        The costs.
    rows, cols, mass : arrays of shape (k,)
        The atoms.
    """
    own, row_of = np.unique(rows, return_inverse=True)
    other, col_of = np.unique(cols, return_inverse=True)
    is_only = len(own) == 1 or len(other) == 1
    if is_only or len(own) * len(other) > _MOST_PAIRS:
        return rows, cols, mass
    total = mass.sum()
    plan = make_unchecked(
        SparsePlan,
        rows=row_of,
        cols=col_of,
        mass=mass / total,
        size=(len(own), len(other)),
    )
    a, b = plan.marginals()
    among = LiftedCosts(costs.u[own], costs.v[other])
    # Compiled pivots go on from what the plan has there.
    start = forest(among, a, b, plan) if _compiled.available() else None
    best = exact(-(among.u @ among.v.T), a, b, start).plan
    return own[best.rows], other[best.cols], total * best.mass
