"""Starts of conditional gradient between coordinates, and its plans as they are given.

Theorem 12 (g); no (n, m) array is made.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gwtools import _array
from gwtools._array import Array, NumpyArray
from gwtools.bounds.moments import has_one_row
from gwtools.lifted_problems import Coordinates, LiftedProblem
from gwtools.plans import SparsePlan
from gwtools.solvers.base import Outcome
from gwtools.solvers.starts import (
    couplings_of_one_row,
    is_stationary_at_product,
    sorting_coupling,
)
from gwtools.solvers.vertices import vertex_like
from gwtools.transport.one_dimensional import sorting_plan


def lifted_start(problem: LiftedProblem, negligible: float) -> SparsePlan:
    """Return the vertex that the product coupling leads to.

    Parameters
    ----------
    problem : LiftedProblem
        The problem.
    negligible : float
        Slopes up to this count as none, in squared units of C.

    Returns
    -------
    SparsePlan
        The better of two sorting couplings between Gram spaces of one row, else the
        sorting coupling of the row means, or where the product coupling is stationary
        that of the leading eigenvectors.
    """
    whole = problem.whole
    if has_one_row(whole.x) and has_one_row(whole.y):
        plans = couplings_of_one_row(whole)
        return min(plans, key=lambda plan: _relative(problem, plan))
    if not is_stationary_at_product(problem, negligible):
        return sorting_coupling(whole)
    of_x = _leading(problem.x)
    of_y = _leading(problem.y)
    return sorting_plan(of_x, problem.x.weights, of_y, problem.y.weights)


def _relative(problem: LiftedProblem, plan: SparsePlan) -> float:
    """Return F(π) − F(a ⊗ b), in squared units of C."""
    linear = problem.inner(plan, problem.bilinear_cost)
    return linear - 2 * problem.inner(plan, problem.cross(plan))


def _leading(atoms: Coordinates) -> NumpyArray:
    """Return the coordinates (n,) of atoms along their first principal axis."""
    weighted = atoms.weights[:, None] * atoms.factor
    _, vectors = np.linalg.eigh(atoms.factor.T @ weighted)
    coordinates: NumpyArray = atoms.factor @ vectors[:, -1]
    return coordinates


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
