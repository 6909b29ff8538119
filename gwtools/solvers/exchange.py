"""Local search by 2-exchanges: two atoms of a coupling swap their partners in y.

An exchange can lower the objective where the linearisation promises nothing (theorem
8 g).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from gwtools import _array, _compiled
from gwtools._array import Array, NumpyArray
from gwtools._compiled.exchanges import made_exchanges, pairs
from gwtools.channel_problems import FormBlock, blocks
from gwtools.plans import SparsePlan, listed_sums
from gwtools.problems import GWProblem
from gwtools.solvers.vertices import vertex_like
from gwtools.transport.one_dimensional import SLIVER

MOST_ATOMS = 3000  # K: arrays over all pairs of them are held
_COMPILED_ATOMS = 45  # K above which compiled passes pay
_SPARE = 32  # atoms that there is room for beside those of a coupling


class Exchange(NamedTuple):
    """An exchange of two atoms of a sparse coupling.

    Parameters
    ----------
    change : float
        The change of the objective, in squared units of C.
    first, second : int
        Positions of the atoms in the coupling's list.
    """

    change: float
    first: int
    second: int


@dataclass(frozen=True, eq=False)
class Atoms:
    """The K atoms (i_s, k_s) of a sparse coupling, and what their exchanges change.

    On the CPU, in float64.

    Parameters
    ----------
    rows, cols : integer arrays of shape (K,)
        The positions i and k.
    mass : array of shape (K,)
        The masses.
    slopes : array of shape (K, K)
        The gradient of F at row i_s and column k_t, in squared units of C.
    forms : tuple of FormBlock
        R at i_s and i_t, and S at k_s and k_t, for each bilinear form.
    """

    rows: NumpyArray
    cols: NumpyArray
    mass: NumpyArray
    slopes: NumpyArray
    forms: tuple[FormBlock, ...]

    @classmethod
    def of(
        cls,
        problem: GWProblem,
        plan: SparsePlan,
        gradient: Array,
    ) -> Self:
        """Return the atoms of a coupling.

        Parameters
        ----------
        problem : GWProblem
            The problem whose objective is meant.
        plan : SparsePlan
            The coupling.
        gradient : array of shape (n, m)
            The gradient of F at the coupling.
        """
        slopes = problem.block(gradient, plan.rows, plan.cols)
        forms = []
        for left, right, sign in blocks(problem, plan):
            # That share of R π S, and with it of the curvature.
            shared = left if problem.linear is None else problem.share * left
            forms.append(FormBlock(_double(shared), _double(right), sign))
        return cls(
            rows=_array.to_numpy(plan.rows),
            cols=_array.to_numpy(plan.cols),
            mass=_double(plan.mass),
            slopes=_double(slopes),
            forms=tuple(forms),
        )

    def best(self) -> Exchange:
        """Return the exchange that lowers the objective most, or raises it least.

        Atoms s at (i, k) and t at (j, l) send τ, the lesser of their masses, to (i, l)
        and (j, k) instead. Along Δ = τ (e_i − e_j)(e_l − e_k)ᵀ the objective changes by
        ⟨∇F, Δ⟩ − 2 ⟨Δ, R Δ S⟩ (theorem 8 b, g), which is τ (g_il + g_jk − g_ik − g_jl)
        − 2 τ² (R_ii − 2 R_ij + R_jj)(S_kk − 2 S_kl + S_ll).
        """
        moved = np.minimum(self.mass[:, None], self.mass)  # τ
        own_slope = self.slopes.diagonal()
        slope = self.slopes + self.slopes.T - own_slope[:, None] - own_slope
        # Antisymmetric R have R_ii − R_ij − R_ji + R_jj = 0.
        products = [
            _squared_lengths(form.left) * _squared_lengths(form.right)
            for form in self.forms
            if form.sign > 0
        ]
        curvature = _array.total(products)
        change = moved * (slope - 2 * moved * curvature)
        count = len(self.mass)
        first, second = divmod(int(change.argmin()), count)
        return Exchange(float(change[first, second]), first, second)

    def after(self, exchange: Exchange) -> Self:
        """Return the atoms after an exchange.

        The heavier of two unequal atoms keeps the mass that the lighter one lacks.
        """
        # 1. Atom s is the heavier one, so that τ is the mass of t.
        s = exchange.first
        t = exchange.second
        if self.mass[t] > self.mass[s]:
            s, t = t, s
        moved = self.mass[t]
        # 2. ∇F changes by −4 R Δ S.
        slopes = self.slopes
        for left, right, sign in self.forms:
            along_rows = left[:, s] - left[:, t]
            # Columns of S, which are its rows up to the sign.
            along_cols = sign * (right[t, :] - right[s, :])
            slopes = slopes - 4 * moved * along_rows[:, None] * along_cols[None, :]
        # 3. With s at (i, k) and t at (j, l): t moves to (j, k), and s to (i, l). Where
        # mass of s is left, s stays with it, and a new atom is at (i, l). The sources
        # are the old atoms whose rows and columns these have.
        x = np.arange(len(self.mass))
        y = x.copy()
        y[t] = s
        mass = self.mass.copy()
        rest = mass[s] - moved
        if rest > SLIVER * mass.max():
            mass[s] = rest
            x = np.append(x, s)
            y = np.append(y, t)
            mass = np.append(mass, moved)
        else:
            mass[s] = moved
            y[s] = t
        return type(self)(
            rows=self.rows[x],
            cols=self.cols[y],
            mass=mass,
            slopes=slopes[x][:, y],
            forms=tuple(
                FormBlock(left[x][:, x], right[y][:, y], sign)
                for left, right, sign in self.forms
            ),
        )

    def plan(self, like: SparsePlan) -> SparsePlan:
        """Return the coupling, with one atom for each position.

        It has the array library, dtype and shape of the plan ``like``.
        """
        return _plan_of(self.rows, self.cols, self.mass, like)


def _with_room(values: NumpyArray) -> NumpyArray:
    """Copy values (K,) to the beginning of a longer array."""
    longer = np.zeros(len(values) + _SPARE, dtype=values.dtype)
    longer[: len(values)] = values
    return longer


def _plan_of(
    rows: NumpyArray,
    cols: NumpyArray,
    mass: NumpyArray,
    like: SparsePlan,
) -> SparsePlan:
    """Return a plan of atoms, with one for each position, as :meth:`Atoms.plan`."""
    return vertex_like(listed_sums(rows, cols, mass, like.size), like.mass)


def _double(values: Array) -> NumpyArray:
    """Bring an array to the CPU, in float64."""
    return _array.to_numpy(values).astype(np.float64, copy=False)


def _squared_lengths(form: NumpyArray) -> NumpyArray:
    """Return R_ss − 2 R_st + R_tt of a matrix R over pairs of atoms, shape (K, K)."""
    own = form.diagonal()
    lengths: NumpyArray = own[:, None] + own - 2 * form
    return lengths


class Exchanged(NamedTuple):
    """A coupling after exchanges.

    Parameters
    ----------
    plan : SparsePlan
        The coupling.
    is_last : bool
        Whether no exchange of two of its atoms is known to be left: not where these
        were merged at one position after the last exchange, or no more were made.
    """

    plan: SparsePlan
    is_last: bool


def exchanged(
    problem: GWProblem,
    plan: SparsePlan,
    cross: Array,
    negligible: float,
) -> Exchanged:
    """Make the best exchange of two atoms as long as one lowers the objective.

    By more than ``negligible``, and n + m times at most. Between permutations an
    exchange swaps two images (theorem 8 g).

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
    Exchanged
        The coupling, the same object where no exchange lowers the objective by more
        than that.
    """
    if plan.mass.shape[0] > MOST_ATOMS:
        return Exchanged(plan, is_last=True)
    gradient = problem.gradient(cross)
    is_large = plan.mass.shape[0] > _COMPILED_ATOMS
    # Compiled passes read whole matrices, and of one form: those of the plain problem.
    has_matrices = type(problem) is GWProblem
    if is_large and has_matrices and _compiled.available():
        return _exchanged_in_matrices(problem, plan, gradient, negligible)
    atoms = Atoms.of(problem, plan, gradient)
    made = 0
    most = sum(plan.shape)
    while made < most:
        best = atoms.best()
        # Written so that changes that are no numbers end the search.
        if not best.change < -negligible:
            break
        atoms = atoms.after(best)
        made += 1
    if made == 0:
        return Exchanged(plan, is_last=True)
    found = atoms.plan(plan)
    are_merged = found.mass.shape[0] < len(atoms.mass)
    return Exchanged(found, is_last=made < most and not are_merged)


def _exchanged_in_matrices(
    problem: GWProblem,
    plan: SparsePlan,
    gradient: Array,
    negligible: float,
) -> Exchanged:
    """Make exchanges as :func:`exchanged`, by compiled passes over whole matrices.

    Exchanges are chosen and made as by :class:`Atoms`, whose steps these are.
    """
    # (n, m), overwritten; a copy only of arrays that may not be.
    gradient = np.require(_double(gradient), requirements=["C", "W"])
    left = _double(problem.left.dense())
    if problem.linear is not None:
        left = problem.share * left
    right = _double(problem.right.dense())
    atoms = (_array.to_numpy(plan.rows), _array.to_numpy(plan.cols), _double(plan.mass))
    count = len(plan.mass)
    made = 0
    most = sum(plan.shape)
    while True:
        # Room for some atoms more, as the rest of a heavier one is an atom of its own.
        rows, cols, mass = (_with_room(values[:count]) for values in atoms)
        of_pairs = _pairs(gradient, left, right, rows[:count], cols[:count])
        atoms = (rows, cols, mass)
        more, count = made_exchanges(
            (gradient, left, right),
            atoms,
            count,
            of_pairs,
            negligible,
            SLIVER,
            most - made,
        )
        made += more
        if count < len(rows) or made == most:
            break
    if made == 0:
        return Exchanged(plan, is_last=True)
    found = _plan_of(rows[:count], cols[:count], mass[:count], plan)
    are_merged = found.mass.shape[0] < count
    return Exchanged(found, is_last=made < most and not are_merged)


def _pairs(
    gradient: NumpyArray,
    left: NumpyArray,
    right: NumpyArray,
    rows: NumpyArray,
    cols: NumpyArray,
) -> tuple[NumpyArray, NumpyArray]:
    """Return the slopes and curvatures of all exchanges, with room for some atoms."""
    room = len(rows) + _SPARE
    slopes = np.empty((room, room))
    curvatures = np.empty((room, room))
    pairs(slopes, curvatures, gradient, left, right, rows, cols)
    return slopes, curvatures
