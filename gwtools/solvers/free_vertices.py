"""Vertices of plans with free marginals: their linear programs, solved exactly."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gwtools import _array
from gwtools._array import Array, NumpyArray
from gwtools.free_marginals import Partial
from gwtools.free_problems import FreeProblem
from gwtools.plans import Plan, SparsePlan, changed, make_unchecked
from gwtools.solvers.vertices import vertex_like
from gwtools.transport.dummy_atoms import with_dummies, without_dummies
from gwtools.transport.programs import Program, exact
from gwtools.unbalanced_problems import UnbalancedProblem


class Vertex(NamedTuple):
    """A vertex that solves a linear program, and a number that no plan costs less than.

    ``program`` is the transport program of a partial plan, with its dummy atoms.
    """

    plan: SparsePlan
    lower: float
    program: Program | None = None


def steepest_vertex(
    problem: FreeProblem,
    costs: Array,
    previous: Program | None = None,
) -> Vertex:
    """Minimise ⟨costs, π⟩ over the plans of a problem.

    Semi-relaxed: each atom of x sends all its mass where its cost is least, to the
    first of equal ones. Partial, and unbalanced with total variation: by one transport
    program.

    Parameters
    ----------
    problem : FreeProblem
        The problem.
    costs : array of shape (n, m)
        Costs of any sign.
    previous : Program or None
        The program of a similar vertex, from which this one is solved.
    """
    if isinstance(problem.marginals, Partial):
        return _partial(problem, costs, previous)
    if isinstance(problem, UnbalancedProblem):
        return _any_part(problem, costs, previous)
    a = problem.x.weights
    xp = _array.namespace(costs)
    rows = xp.arange(a.shape[0], device=_array.device(a))
    cols = xp.argmin(costs, axis=1)
    plan = make_unchecked(SparsePlan, rows=rows, cols=cols, mass=a, size=problem.shape)
    least = xp.min(costs, axis=1)  # (n,)
    return Vertex(plan, _array.number(xp.vecdot(a, least)))


def _partial(
    problem: FreeProblem,
    costs: Array,
    previous: Program | None,
) -> Vertex:
    """Solve the program over partial plans, with one dummy atom on each side.

    The dummies take what is not moved, 1 − s, from the atoms of the other side at no
    cost. Between them a mass would cost more than any detour saves, so that the atoms
    themselves move s.
    """
    mass = problem.mass
    matrix = _array.to_numpy(costs).astype(np.float64)
    a, b = _weights(problem)
    # 1. Costs from 0 up: as s is fixed, a constant changes no plan.
    shift = float(matrix.min())
    shifted = matrix - shift
    # 2. A mass between the dummies frees as much on either side, whose cost is ≥ 0.
    corner = 2 * float(shifted.max()) + np.finfo(float).tiny
    # 3. Weights of sum 1, for which the program's lower value holds.
    total = 2 - mass
    extended = with_dummies(shifted, a, b, 1 - mass, total, corner)
    program = _solved(*extended, previous)
    plan = vertex_like(without_dummies(program.plan, total), costs)
    return Vertex(plan, total * program.lower + shift * mass, program)


def _any_part(
    problem: UnbalancedProblem,
    costs: Array,
    previous: Program | None,
) -> Vertex:
    """Solve the program over all plans that are nowhere above the weights.

    One dummy atom on each side takes what is not moved, at no cost, and the dummies
    exchange what is.
    """
    a, b = _weights(problem)
    matrix = _array.to_numpy(costs).astype(np.float64)
    program = _solved(*with_dummies(matrix, a, b, 1.0, 2.0), previous)
    plan = without_dummies(program.plan, 2.0)
    if len(plan.mass) == 0:
        plan = _without_mass(plan)
    return Vertex(vertex_like(plan, costs), 2 * program.lower, program)


def _without_mass(plan: SparsePlan) -> SparsePlan:
    """Return the plan that moves nothing, as a list of one pair."""
    first = np.zeros(1, dtype=plan.rows.dtype)
    return changed(plan, rows=first, cols=first, mass=np.zeros(1))


def first_vertex(problem: FreeProblem, costs: Array) -> SparsePlan:
    """Return the plan of least ⟨costs, π⟩ to start from.

    Of unbalanced plans the best coupling: costs of distances, none of which is below 0,
    are least for no plan at all.
    """
    if not isinstance(problem, UnbalancedProblem):
        return steepest_vertex(problem, costs).plan
    matrix = _array.to_numpy(costs).astype(np.float64)
    return vertex_like(_solved(matrix, *_weights(problem), None).plan, costs)


def cheapest_part(plan: Plan, costs: Array, mass: float) -> SparsePlan:
    """Return the part π′ ≤ π of a plan π, of the given mass, of least ⟨costs, π′⟩.

    Parameters
    ----------
    plan : Plan
        A plan π of at least that mass.
    costs : array of shape (n, m)
        Costs of any sign.
    mass : float
        What is kept.
    """
    whole = plan.sparse()
    of_pairs = _array.to_numpy(costs)[whole.row, whole.col]
    order = np.argsort(of_pairs, kind="stable")
    moved = whole.data[order].astype(np.float64)
    # The cheapest pairs are kept whole, the last of them in part.
    before = np.cumsum(moved) - moved
    taken = np.clip(mass - before, 0.0, moved)
    kept = taken > 0
    part = make_unchecked(
        SparsePlan,
        rows=whole.row[order][kept].astype(np.int64),
        cols=whole.col[order][kept].astype(np.int64),
        mass=taken[kept],
        size=plan.shape,
    )
    return vertex_like(part, costs)


def _weights(problem: FreeProblem) -> tuple[NumpyArray, NumpyArray]:
    """Return both weights in float64, each of sum 1."""
    a = _array.to_numpy(problem.x.weights).astype(np.float64)
    b = _array.to_numpy(problem.y.weights).astype(np.float64)
    return a / a.sum(), b / b.sum()


def _solved(
    costs: NumpyArray,
    rows: NumpyArray,
    cols: NumpyArray,
    previous: Program | None,
) -> Program:
    """Solve a transport program, from a similar one where there is one."""
    if previous is None:
        return exact(costs, rows, cols)
    return exact(costs, rows, cols, previous.plan, previous.potentials)
