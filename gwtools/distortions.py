"""Distortions: F(π) of a sparse plan, summed over pairs of its atoms."""

from __future__ import annotations

from collections.abc import Callable

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
    return _summed(plan, lambda start, stop: _distortions(x, y, plan, start, stop))


def sum_of_losses(
    x: Space,
    y: Space,
    plan: SparsePlan,
    loss: Callable[[Array, Array], Array],
) -> Array:
    """Return Σ L(C_ik, D_jl) π_ij π_kl over pairs of atoms of a sparse plan.

    Parameters
    ----------
    x, y : Space
        The spaces, which may be directed.
    plan : SparsePlan
        The plan π of shape (n, m), of any marginals.
    loss : callable
        L, from entries of C and of D.

    Returns
    -------
    array of shape ()
        In the units of the loss.
    """

    def losses(start: int, stop: int) -> Array:
        values_x = x.rows_at(plan.rows, start, stop)
        values_y = y.rows_at(plan.cols, start, stop)
        return loss(values_x, values_y) @ plan.mass

    return _summed(plan, losses)


def _summed(plan: SparsePlan, sums: Callable[[int, int], Array]) -> Array:
    """Return the sum over the atoms of a plan of mass times what ``sums`` returns."""
    mass = plan.mass
    count = int(mass.shape[0])
    parts = []
    for start, stop in row_blocks(count):
        part = mass[start:stop] @ sums(start, stop)
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
