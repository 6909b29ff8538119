"""Sweeps between coordinates: programs in blocks of atoms, at the gradient of the plan.

Each sweep takes time in proportion to the atoms, and no sweep raises a concave
objective (theorem 12 i).
"""

from __future__ import annotations

import numpy as np

from gwtools import _compiled
from gwtools._array import NumpyArray
from gwtools.lifted_problems import LiftedProblem
from gwtools.plans import SparsePlan
from gwtools.transport.blocks import lowered_by_columns, lowered_by_rows
from gwtools.transport.lifted import LiftedCosts, cells_of

_BLOCK = 1024  # atoms of a block at most
_COLD_BLOCK = 256  # where no compiled pivots go on from the plan of a block
_MOST_SWEEPS = 24
_LEAST_GAIN = 5e-4  # of the objective, which a sweep must lower for another one


def swept(problem: LiftedProblem, plan: SparsePlan) -> SparsePlan:
    """Lower a concave objective by sweeps, until two in a row hardly lower it.

    Parameters
    ----------
    problem : LiftedProblem
        The problem.
    plan : SparsePlan
        A coupling.

    Returns
    -------
    SparsePlan
        A coupling whose objective is no higher; where the objective is not concave, as
        programs in blocks are then no steps, the coupling itself.
    """
    if problem.sign < 0:
        return plan
    value = _objective(problem, plan)
    idle = 0
    for sweep in range(_MOST_SWEEPS):
        gradient = problem.gradient(problem.cross(plan))
        lowered = problem.without_slivers(swept_once(gradient, plan, sweep))
        before = value
        value = _objective(problem, lowered)
        # Only float error can raise it.
        if value < before:
            plan = lowered
        idle = idle + 1 if before - value <= _LEAST_GAIN * before else 0
        # One by rows and one by columns.
        if idle == 2:
            break
    return plan


def swept_once(costs: LiftedCosts, plan: SparsePlan, sweep: int) -> SparsePlan:
    """Couple all atoms anew in blocks of rows, or of columns in every other sweep."""
    costs = costs.balanced()
    largest = max(costs.shape)
    if sweep % 2 == 0:
        return lowered_by_rows(costs, plan, _blocks(costs.u, largest, sweep))
    return lowered_by_columns(costs, plan, _blocks(costs.v, largest, sweep))


def _blocks(points: NumpyArray, largest: int, sweep: int) -> NumpyArray:
    """Number boxes (n,) of near points, along other axes in each sweep.

    So that the points on both sides of a border meet in the next one. Boxes of the
    smaller of two clouds hold fewer points, as each of these has many partners.

    Parameters
    ----------
    points : array of shape (n, q)
        The points.
    largest : int
        The number of points of the larger cloud.
    sweep : int
        The number of the sweep.
    """
    block = _BLOCK if _compiled.available() else min(_BLOCK, _COLD_BLOCK)
    most = max(2, block * len(points) // largest)
    axes = np.random.default_rng(sweep).standard_normal((points.shape[1],) * 2)
    rotation, _ = np.linalg.qr(axes)
    return cells_of(points @ rotation, most)


def _objective(problem: LiftedProblem, plan: SparsePlan) -> float:
    """Return F(π), in squared units of C."""
    relative = problem.relative_objective(plan, problem.cross(plan))
    return problem.product_objective + float(relative)
