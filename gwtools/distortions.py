"""Distortions: F(π) of a sparse plan, summed over pairs of its atoms."""

from __future__ import annotations

from collections.abc import Callable

from gwtools import _array
from gwtools._array import Array
from gwtools.plans import SparsePlan
from gwtools.spaces import Space, row_blocks
from gwtools.spaces.double_centering import LowRankResidual


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


def from_factors(
    constant: Array,
    spaces: tuple[Space, Space],
    plan: SparsePlan,
    residuals: tuple[LowRankResidual, LowRankResidual],
) -> Array:
    """Return F(π) of a sparse plan, by ⟨π, R π S⟩ = ± ‖Gᵀ π H‖² (theorem 12).

    Parameters
    ----------
    constant : array of shape ()
        (m_C − m_D)² + ‖R‖² + ‖S‖², in squared units of C.
    spaces : pair of Space
        Both of low rank.
    plan : SparsePlan
        The plan π of shape (n, m).
    residuals : pair of LowRankResidual
        R and S.

    Returns
    -------
    array of shape ()
        In squared units of C.
    """
    x, y = spaces
    left, right = residuals
    mass = plan.mass
    xp = _array.namespace(mass)
    # α and β, G and H at the atoms of the plan.
    alpha = xp.take(x.deviations, plan.rows)
    beta = xp.take(y.deviations, plan.cols)
    left_rows = xp.take(left.factor, plan.rows, axis=0)  # (k, d)
    right_rows = xp.take(right.factor, plan.cols, axis=0)  # (k, d')
    core = (left_rows * mass[:, None]).T @ right_rows  # Gᵀ π H, (d, d')
    cross = left.sign * right.sign * xp.sum(core**2)
    spread = mass @ (alpha - beta) ** 2  # E_π(α − β)²
    objective = constant + 2 * spread - 2 * cross
    # A sum of squares, which float errors alone can bring below 0.
    return xp.clip(objective, min=0.0)


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
