"""Local search by 2-exchanges: two atoms of a sparse coupling swap their partners in y, also uphill of the linearisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import scipy.sparse

from gwtools import _array
from gwtools._array import Array, NumpyArray
from gwtools.plans import SparsePlan, changed
from gwtools.problems import GWProblem
from gwtools.transport.one_dimensional import SLIVER

MOST_ATOMS = 3000  # all pairs of them are looked at


class Exchange(NamedTuple):
    """Two atoms of a sparse coupling, by their positions in its list, and the change of the objective by their exchange."""

    change: float
    first: int
    second: int


@dataclass(frozen=True, eq=False)
class Atoms:
    """The K atoms (i_s, k_s) of a sparse coupling, on the CPU in float64, and what their exchanges change.

    ``rows`` and ``cols`` are i and k, ``mass`` the masses, shape (K,); ``slopes`` (K,
    K) has the gradient of F at row i_s and column k_t, ``left`` R at i_s and i_t,
    ``right`` S at k_s and k_t.
    """

    rows: NumpyArray
    cols: NumpyArray
    mass: NumpyArray
    slopes: NumpyArray
    left: NumpyArray
    right: NumpyArray

    @classmethod
    def of(cls, problem: GWProblem, plan: SparsePlan, gradient: Array) -> Self:
        """Read the atoms of a coupling at which the objective has the ``gradient`` (n, m)."""
        rows, cols, mass = (
            _array.to_numpy(part) for part in (plan.rows, plan.cols, plan.mass)
        )
        take = _array.namespace(gradient).take
        parts = (
            take(take(gradient, plan.rows, axis=0), plan.cols, axis=1),
            problem.left.block(plan.rows),
            problem.right.block(plan.cols),
        )
        slopes, left, right = (
            _array.to_numpy(part).astype(np.float64, copy=False) for part in parts
        )
        return cls(rows, cols, mass.astype(np.float64, copy=False), slopes, left, right)

    def best(self) -> Exchange:
        """Return the exchange that lowers the objective most, or raises it least.

        Atoms (i, k) and (j, l) of masses s and t send τ = min(s, t) to (i, l) and (j,
        k) instead. Along Δ = τ (e_i − e_j)(e_l − e_k)ᵀ the objective changes by ⟨∇F, Δ⟩
        − 2 ⟨Δ, R Δ S⟩ (theorem 8 b, g), which is τ (g_il + g_jk − g_ik − g_jl) − 2 τ²
        (R_ii − 2 R_ij + R_jj)(S_kk − 2 S_kl + S_ll).
        """
        own_slope, own_left, own_right = (
            self.slopes.diagonal(),
            self.left.diagonal(),
            self.right.diagonal(),
        )
        moved = np.minimum(self.mass[:, None], self.mass)
        slope = self.slopes + self.slopes.T - own_slope[:, None] - own_slope
        curvature = (own_left[:, None] + own_left - 2 * self.left) * (
            own_right[:, None] + own_right - 2 * self.right
        )
        change = moved * (slope - 2 * moved * curvature)
        first, second = divmod(int(change.argmin()), len(self.mass))
        return Exchange(float(change[first, second]), first, second)

    def after(self, exchange: Exchange) -> Self:
        """Return the atoms after an exchange; the heavier of two unequal atoms keeps what the lighter one has not."""
        s, t = sorted(
            (exchange.first, exchange.second), key=lambda atom: -self.mass[atom]
        )
        moved = self.mass[t]
        # ∇F changes by −4 R Δ S.
        along_rows, along_cols = (
            self.left[:, s] - self.left[:, t],
            self.right[t, :] - self.right[s, :],
        )
        slopes = self.slopes - 4 * moved * along_rows[:, None] * along_cols[None, :]
        # Atom s keeps its position (i, k) with the mass that is left, t moves to (j,
        # k), and a new atom is at (i, l).
        sources_x, sources_y = (
            np.append(np.arange(len(self.mass)), s),
            np.append(np.arange(len(self.mass)), t),
        )
        sources_y[t] = s
        mass = np.append(self.mass, moved)
        mass[s] -= moved
        kept = np.nonzero(mass > SLIVER * mass.max())[0]
        x, y = sources_x[kept], sources_y[kept]
        return type(self)(
            self.rows[x],
            self.cols[y],
            mass[kept],
            slopes[x][:, y],
            self.left[x][:, x],
            self.right[y][:, y],
        )

    def plan(self, like: SparsePlan) -> SparsePlan:
        """Return the coupling, with one atom for each position, in the array library, dtype and shape of another one."""
        total = scipy.sparse.csr_array(
            (self.mass, (self.rows, self.cols)), shape=like.size
        ).tocoo()
        rows, cols = (
            _array.from_numpy(index.astype(np.int64), like.rows)
            for index in total.coords
        )
        return changed(
            like, rows=rows, cols=cols, mass=_array.from_numpy(total.data, like.mass)
        )


def exchanged(
    problem: GWProblem, plan: SparsePlan, cross: Array, negligible: float
) -> SparsePlan:
    """Make the best exchange of two atoms until none lowers the objective by more than ``negligible``, or n + m times.

    Between permutations an exchange swaps two images (theorem 8 g).

    Parameters
    ----------
    problem : GWProblem
        Spaces of n and m atoms.
    plan : SparsePlan
        A coupling; one of more than 3000 atoms is left as it is.
    cross : array of shape (n, m)
        Its ``cross`` matrix R π S.
    negligible : float
        Above 0, in squared units of C.

    Returns
    -------
    SparsePlan
        The coupling, the same object where no exchange lowers the objective by more
        than that.
    """
    if plan.mass.shape[0] > MOST_ATOMS:
        return plan
    atoms, moved = Atoms.of(problem, plan, problem.gradient(cross)), False
    for _ in range(plan.shape[0] + plan.shape[1]):
        best = atoms.best()
        if not best.change < -negligible:
            break
        atoms, moved = atoms.after(best), True
    return atoms.plan(plan) if moved else plan
