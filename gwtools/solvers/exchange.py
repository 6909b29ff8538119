"""Exchanges: two atoms of a sparse coupling trade their places in y, which can lower the objective where no slope does."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gwtools import _array
from gwtools._array import Array
from gwtools.linear import SLIVER
from gwtools.plans import SparsePlan
from gwtools.problems import GWProblem

_BLOCK_ENTRIES = 2**20


class Exchange(NamedTuple):
    """Two atoms of a sparse coupling, by their places in it, and what their exchange adds to the objective."""

    change: float
    first: int
    second: int


def exchanged(problem: GWProblem, plan: SparsePlan, cross: Array, negligible: float) -> tuple[SparsePlan, Array]:
    """Make the best exchange of two atoms over and over, until none lowers the objective by more than ``negligible``.

    Between permutations an exchange swaps two images. Each lowers the objective by a fixed amount at least, so they end.

    Parameters
    ----------
    problem : GWProblem
        Spaces of n and m atoms.
    plan : SparsePlan
        A coupling.
    cross : array of shape (n, m)
        Its ``cross`` matrix R π S.
    negligible : float
        Above 0, in squared units of C.

    Returns
    -------
    tuple of SparsePlan and array of shape (n, m)
        The coupling, the same object where no exchange lowers the objective, and its ``cross`` matrix.
    """
    for _ in range(plan.shape[0] + plan.shape[1]):
        best = best_exchange(problem, plan, problem.gradient(cross))
        if not best.change < -negligible:
            break
        plan, cross = _with_exchange(problem, plan, cross, best)
    return plan, cross


def best_exchange(problem: GWProblem, plan: SparsePlan, gradient: Array) -> Exchange:
    """Return the exchange that lowers the objective most, or raises it least.

    Atoms (i, k) and (j, l) of masses s and t send τ = min(s, t) to (i, l) and (j, k) instead. Along
    Δ = τ (e_i − e_j)(e_l − e_k)ᵀ the objective changes by ⟨∇F, Δ⟩ − 2 ⟨Δ, R Δ S⟩ (theorem 8 b), which is
    τ (g_il + g_jk − g_ik − g_jl) − 2 τ² (R_ii − 2 R_ij + R_jj)(S_kk − 2 S_kl + S_ll).
    """
    xp = _array.namespace(gradient)
    slopes = xp.take(
        xp.take(gradient, plan.rows, axis=0), plan.cols, axis=1
    )  # (K, K): g at row i of one, column l of the other
    left, right = problem.left.block(plan.rows), problem.right.block(plan.cols)
    own_slope, own_left, own_right = (xp.linalg.diagonal(matrix) for matrix in (slopes, left, right))
    count, best = plan.mass.shape[0], Exchange(float("inf"), 0, 0)
    step = max(1, _BLOCK_ENTRIES // count)
    for start in range(0, count, step):
        few = slice(start, min(start + step, count))
        moved = xp.minimum(plan.mass[few][:, None], plan.mass[None, :])
        slope = slopes[few, :] + slopes[:, few].T - own_slope[few][:, None] - own_slope[None, :]
        bend = own_left[few][:, None] + own_left[None, :] - 2 * left[few, :]
        bend = bend * (own_right[few][:, None] + own_right[None, :] - 2 * right[few, :])
        change = moved * (slope - 2 * moved * bend)
        place = int(xp.argmin(change))
        first, second = divmod(place, count)
        best = min(best, Exchange(float(change[first, second]), start + first, second))
    return best


def _with_exchange(problem: GWProblem, plan: SparsePlan, cross: Array, exchange: Exchange) -> tuple[SparsePlan, Array]:
    """Return the coupling after two atoms have traded the mass that the lighter one has, and its ``cross`` matrix."""
    rows, cols, mass = (_array.to_numpy(part).copy() for part in (plan.rows, plan.cols, plan.mass))
    first, second = exchange.first, exchange.second
    (i, j), (k, m) = rows[[first, second]].tolist(), cols[[first, second]].tolist()
    moved, least = float(min(mass[first], mass[second])), SLIVER * mass.max()
    # R (π + Δ) S for Δ = moved (e_i − e_j)(e_m − e_k)ᵀ.
    change = problem.left.row_difference(i, j)[:, None] * problem.right.row_difference(m, k)[None, :]
    cross = cross + moved * change
    mass[[first, second]] -= moved
    for row, col in ((i, m), (j, k)):
        known = np.flatnonzero((rows == row) & (cols == col))
        if known.size:
            mass[known[0]] += moved
        else:
            rows, cols, mass = np.append(rows, row), np.append(cols, col), np.append(mass, moved)
    kept = mass > least  # the lighter atom is used up
    rows, cols, mass = rows[kept], cols[kept], mass[kept]
    parts = _array.from_numpy(rows, plan.rows), _array.from_numpy(cols, plan.cols), _array.from_numpy(mass, plan.mass)
    return SparsePlan(*parts, plan.size), cross
