"""Distortions: F(π) of a sparse plan, summed over pairs of its atoms."""

from __future__ import annotations

from gwtools import _array
from gwtools._array import Array
from gwtools.plans import SparsePlan
from gwtools.spaces import Space, row_blocks


def sum_of_squares(x: Space, y: Space, plan: SparsePlan) -> Array:
    """Return Σ (C_ik − D_jl)² π_ij π_kl over pairs of atoms of a sparse plan.

    Nothing cancels, and the plan may have any marginals.

    Parameters
    ----------
    x, y : Space
        The spaces.
    plan : SparsePlan
        The plan π of shape (n, m).

    Returns
    -------
    array of shape ()
        In squared units of C.
    """
    mass = plan.mass
    count = int(mass.shape[0])
    parts = []
    for start, stop in row_blocks(count):
        distortions = _distortions(x, y, plan, start, stop)
        part = mass[start:stop] @ distortions
        parts.append(part)
    return _array.total(parts)


def _distortions(
    x: Space,
    y: Space,
    plan: SparsePlan,
    start: int,
    stop: int,
) -> Array:
    """Return Σ_kl (C_ik − D_jl)² π_kl for a block of the atoms (i, j) of a plan."""
    # In one expression, in which NumPy writes the square over the first block.
    squares = (
        x.rows_at(plan.rows, start, stop) - y.rows_at(plan.cols, start, stop)
    ) ** 2
    return squares @ plan.mass
