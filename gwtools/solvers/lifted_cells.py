"""Coarse to fine between coordinates: problems of cells, and their plans on all atoms.

The problem of the means of α and G over cells is that of the couplings that treat the
atoms of a cell alike (theorem 12 h).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from gwtools._array import NumpyArray
from gwtools.lifted_problems import Coordinates, LiftedProblem
from gwtools.plans import SparsePlan, make_unchecked
from gwtools.transport.lifted import cell_means, cells_of
from gwtools.transport.one_dimensional import comonotone
from gwtools.transport.simplex import Units

_POINTS = 12  # atoms of a cell at most


@dataclass(frozen=True, eq=False)
class Cells:
    """A partition of the atoms of both spaces, and the problem of its cells.

    Parameters
    ----------
    fine : LiftedProblem
        The problem of the atoms.
    of_x, of_y : integer arrays of shape (n,) and (m,)
        The cells of the atoms.
    coarse : LiftedProblem
        The problem of the cells.
    """

    fine: LiftedProblem
    of_x: NumpyArray
    of_y: NumpyArray
    coarse: LiftedProblem

    @classmethod
    def of(cls, problem: LiftedProblem) -> Self:
        """Partition both spaces into boxes of atoms whose rows of C are near.

        A space of far fewer atoms than the other is not divided: its atoms are cells.
        """
        n, m = problem.shape
        of_x = np.arange(n)
        of_y = np.arange(m)
        if _POINTS * n > m:
            of_x = cells_of(_profiles(problem.x), _POINTS)
        if _POINTS * m > n:
            of_y = cells_of(_profiles(problem.y), _POINTS)
        x = _means(problem.x, of_x)
        y = _means(problem.y, of_y)
        return cls(problem, of_x, of_y, LiftedProblem(x, y, problem.whole))

    def extended(self, plan: SparsePlan) -> SparsePlan:
        """Couple the atoms of coupled cells, in the order of α.

        Parameters
        ----------
        plan : SparsePlan
            A coupling of the cells.

        Returns
        -------
        SparsePlan
            A coupling of the atoms, whose masses between cells are those of the plan.
        """
        # 1. The atoms of each cell are divided among its arcs. Sums of whole numbers
        # have no float error, by which an atom could lose slivers to other arcs.
        units = self.fine.units.fitted(plan.mass)
        plan = self.coarse.without_slivers(plan)
        arcs_x, atoms_x, mass_x = _pieces(
            plan.rows, plan.cols, plan.mass, self.of_x, self.fine.x, units
        )
        arcs_y, atoms_y, mass_y = _pieces(
            plan.cols, plan.rows, plan.mass, self.of_y, self.fine.y, units
        )
        # 2. Pieces of one arc are coupled in the order of α.
        coupling = comonotone(arcs_x, mass_x, arcs_y, mass_y)
        extended = make_unchecked(
            SparsePlan,
            rows=atoms_x[coupling.rows],
            cols=atoms_y[coupling.cols],
            mass=coupling.mass / coupling.mass.sum(),
            size=self.fine.shape,
        )
        return self.fine.without_slivers(extended)


def _profiles(atoms: Coordinates) -> NumpyArray:
    """Return points (n, d + 1) whose distances are those of rows of C.

    The mean square of C_i· − C_k· over the weights is (α_i − α_k)² + |V½ (g_i − g_k)|²
    with V = Gᵀ diag(a) G.
    """
    covariance = atoms.factor.T @ (atoms.weights[:, None] * atoms.factor)
    values, vectors = np.linalg.eigh(covariance)
    axes = vectors * np.sqrt(np.maximum(values, 0.0))
    return np.column_stack([atoms.deviations, atoms.factor @ axes])


def _means(atoms: Coordinates, cells: NumpyArray) -> Coordinates:
    """Return the cells of a space by the means of their atoms."""
    coordinates = np.column_stack([atoms.deviations, atoms.factor])
    means, weights = cell_means(coordinates, atoms.weights, cells)
    return Coordinates(weights, means[:, 0], means[:, 1:])


def _pieces(
    own: NumpyArray,
    other: NumpyArray,
    mass: NumpyArray,
    cells: NumpyArray,
    atoms: Coordinates,
    units: Units,
) -> tuple[NumpyArray, NumpyArray, NumpyArray]:
    """Divide the atoms of cells among the arcs of these.

    Parameters
    ----------
    own, other : integer arrays of shape (k,)
        The cells of the arcs on this side, and on the other one.
    mass : array of shape (k,)
        Their masses.
    cells : integer array of shape (n,)
        The cells of the atoms.
    atoms : Coordinates
        The atoms.
    units : Units
        The units of their masses.

    Returns
    -------
    tuple of arrays
        The arc, the atom and the mass, in units, of each piece; sorted by arc, and by α
        within each.
    """
    # Arcs and atoms in the order of their cells. The arcs of a cell carry the mass of
    # its atoms, so that the coupling of both lists in order pairs arcs with atoms of
    # their own cell alone.
    by_arc = np.lexsort((other, own))
    by_atom = np.lexsort((atoms.deviations, cells))
    divided = comonotone(
        np.arange(len(mass)),
        units.counted(mass[by_arc]),
        np.arange(len(cells)),
        units.counted(atoms.weights[by_atom]),
    )
    arcs = by_arc[divided.rows]
    pieces = by_atom[divided.cols]
    weights = np.minimum(mass[arcs], atoms.weights[pieces])
    kept, masses = units.settled(divided.mass / divided.mass.sum(), weights)
    arcs = arcs[kept]
    pieces = pieces[kept]
    order = np.lexsort((atoms.deviations[pieces], arcs))
    return arcs[order], pieces[order], units.counted(masses[order])
