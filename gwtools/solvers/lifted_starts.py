"""Starts of conditional gradient between coordinates, and its plans as they are given.

Theorem 12 (g); no (n, m) array is made.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np

from gwtools import _array
from gwtools._array import Array, NumpyArray
from gwtools.bounds.moments import has_one_row
from gwtools.lifted_problems import Coordinates, LiftedProblem, are_too_many
from gwtools.plans import Plan, SparsePlan
from gwtools.solvers.base import IterativeSolver, Outcome
from gwtools.solvers.lifted_cells import Cells
from gwtools.solvers.lifted_sweeps import swept
from gwtools.solvers.starts import (
    couplings_of_one_row,
    is_stationary_at_product,
    sorting_coupling,
)
from gwtools.solvers.vertices import vertex_like
from gwtools.transport.one_dimensional import sorting_plan

LARGE = 20_000  # atoms of the larger space from which cells come first
_FEW = 4000  # cells of the larger space, fewer of which programs couple at once
_TOLERANCE = 1e-6  # of descents between cells


def lifted_start(problem: LiftedProblem, solver: IterativeSolver[Any]) -> SparsePlan:
    """Return where the product coupling leads, between large spaces through cells.

    Parameters
    ----------
    problem : LiftedProblem
        The problem.
    solver : IterativeSolver
        Solves the problem of the cells.

    Returns
    -------
    SparsePlan
        The better of two sorting couplings between Gram spaces of one row, else the
        sorting coupling of the row means, or where the product coupling is stationary
        that of the leading eigenvectors. Between large spaces the coupling of the atoms
        of coupled cells.
    """
    if max(problem.shape) >= LARGE:
        return _from_cells(problem, solver)
    whole = problem.whole
    if not problem.is_coarse and has_one_row(whole.x) and has_one_row(whole.y):
        plans = couplings_of_one_row(whole)
        return min(
            plans,
            key=lambda plan: problem.relative_objective(plan, problem.cross(plan)),
        )
    if not is_stationary_at_product(problem, solver.negligible(problem)):
        return sorting_coupling(problem)
    of_x = _leading(problem.x)
    of_y = _leading(problem.y)
    return sorting_plan(of_x, problem.x.weights, of_y, problem.y.weights)


def _from_cells(problem: LiftedProblem, solver: IterativeSolver[Any]) -> SparsePlan:
    """Descend between few cells, and by sweeps between ever more up to all atoms."""
    # 1. Cells of atoms, cells of cells, and so on.
    levels = [Cells.of(problem)]
    while max(levels[-1].coarse.shape) >= _FEW:
        levels.append(Cells.of(levels[-1].coarse))
    # 2. A stationary coupling of the few.
    tolerance = max(solver.tolerance, _TOLERANCE)
    outcome = replace(solver, tolerance=tolerance)._repeated(levels[-1].coarse)
    plan = cast(SparsePlan, outcome.plan)
    # 3. Back to the atoms.
    for cells in reversed(levels):
        plan = swept(cells.fine, cells.extended(plan))
    return plan


def _leading(atoms: Coordinates) -> NumpyArray:
    """Return the coordinates (n,) of atoms along their first principal axis."""
    weighted = atoms.weights[:, None] * atoms.factor
    _, vectors = np.linalg.eigh(atoms.factor.T @ weighted)
    coordinates: NumpyArray = atoms.factor @ vectors[:, -1]
    return coordinates


def lifted_given(problem: LiftedProblem, given: Plan) -> Plan:
    """Return a given coupling to start from; lowered where no program is solved."""
    plan = problem.coupling(given)
    if isinstance(plan, SparsePlan) and are_too_many(problem.shape):
        return swept(problem, plan)
    return plan


def lifted_outcome(outcome: Outcome, problem: LiftedProblem, like: Array) -> Outcome:
    """Return an outcome in the library, dtype and device of the spaces."""
    plan = outcome.plan
    if isinstance(plan, SparsePlan):
        plan = vertex_like(problem.rounded(plan), like)
    potentials = outcome.potentials
    if potentials is not None:
        f, g = potentials
        potentials = (_array.from_numpy(f, like), _array.from_numpy(g, like))
    return replace(outcome, plan=plan, potentials=potentials)
