"""Vertices: linear programs over couplings at a gradient, and their solutions.

Programs are solved in NumPy on the CPU; vertices go back to the spaces' library.
"""

from __future__ import annotations

import numpy as np

from gwtools import _array, _compiled
from gwtools._array import Array, NumpyArray
from gwtools.lifted_problems import are_too_many
from gwtools.plans import Plan, SparsePlan, changed
from gwtools.problems import Quadratic
from gwtools.solvers.single_precision import SingleProblem
from gwtools.transport.lifted import LiftedCosts, lifted_program, priced_plan
from gwtools.transport.lifted_pivots import continued_program
from gwtools.transport.programs import Program, exact

# Between coordinates a program of many atoms may leave a share of what it gains over
# its start, or of a gap that is negligible; one of few atoms less of such a gap.
_LEFT = 0.3
_PART = 0.5
_LITTLE = 0.1
_FEW_ENTRIES = 4000**2  # n m up to which atoms are few: steps are as between matrices


def linear_program(
    problem: Quadratic,
    gradient: Array,
    start: SparsePlan | None,
    potentials: tuple[NumpyArray, NumpyArray] | None = None,
    negligible: float = 0.0,
) -> Program:
    """Solve a linear program over couplings, on the CPU; see :func:`exact`.

    Parameters
    ----------
    problem : Quadratic
        Its weights are the marginals.
    gradient : array of shape (n, m)
        The costs.
    start : SparsePlan or None
        A vertex near the solution.
    potentials : pair of arrays or None
        Potentials near those of the solution.
    negligible : float
        A Frank-Wolfe gap that counts as none, in squared units of C: programs between
        coordinates leave a small part of it.

    Notes
    -----
    Costs between coordinates are solved on few arcs. Between few atoms to the end, so
    that the steps are those by matrices; between many, early programs leave a part of
    what they gain over ``start``. Between too many the start itself is returned, and
    ``lower`` tells how far it is from a solution.
    """
    if isinstance(gradient, LiftedCosts):
        return _lifted(problem, gradient, start, potentials, negligible)
    # Whatever the spaces are in, reduced costs are in float64, and so are costs but in
    # steps in single precision.
    is_single = isinstance(problem, SingleProblem)
    cost = gradient if is_single else _contiguous(gradient)  # (n, m)
    a = _contiguous(problem.x.weights)
    b = _contiguous(problem.y.weights)
    if start is not None:
        start = _in_numpy(start)
    return exact(cost, a, b, start, potentials)


def _in_numpy(plan: SparsePlan) -> SparsePlan:
    """Bring a plan to NumPy, on the CPU; one that is there is not copied."""
    mass = _array.to_numpy(plan.mass)
    if mass is plan.mass:
        return plan
    rows = _array.to_numpy(plan.rows)
    cols = _array.to_numpy(plan.cols)
    return changed(plan, rows=rows, cols=cols, mass=mass)


def _lifted(
    problem: Quadratic,
    gradient: LiftedCosts,
    start: SparsePlan | None,
    potentials: tuple[NumpyArray, NumpyArray] | None,
    negligible: float,
) -> Program:
    """Solve a program between coordinates in the way that suits its size."""
    a = problem.x.weights
    b = problem.y.weights
    shape = gradient.shape
    if start is not None and are_too_many(shape):
        return priced_plan(gradient, a, b, start, potentials)
    are_few = shape[0] * shape[1] <= _FEW_ENTRIES
    share = 0.0 if are_few else _LEFT
    # Below what is negligible, so that gaps show whether plans are stationary.
    least = (_LITTLE if are_few else _PART) * negligible
    if start is not None and _compiled.available():
        program = continued_program(
            gradient, a, b, start, potentials, share=share, least=least
        )
        if program is not None:
            return program
    return lifted_program(gradient, a, b, start, potentials, share=share, least=least)


def vertex_like(plan: SparsePlan, like: Array) -> SparsePlan:
    """Bring a program's vertex to the library, dtype and device of ``like``.

    One that is there is not copied.
    """
    mass = _array.from_numpy(plan.mass, like)
    if mass is plan.mass:
        return plan
    rows = _array.from_numpy(plan.rows, like)
    cols = _array.from_numpy(plan.cols, like)
    return changed(plan, rows=rows, cols=cols, mass=mass)


def has_same_atoms(plan: Plan, vertex: SparsePlan) -> bool:
    """Tell whether a plan is sparse and puts mass on the same pairs as a vertex."""
    if not isinstance(plan, SparsePlan):
        return False
    if plan.mass.shape != vertex.mass.shape:
        return False
    # Their order is the simplex's, which may differ from the plan's.
    positions = _sorted_positions(plan)
    return np.array_equal(positions, _sorted_positions(vertex))


def _sorted_positions(plan: SparsePlan) -> NumpyArray:
    """Return the positions of the atoms in the matrix read row by row, ascending."""
    _, m = plan.shape
    positions = plan.rows * m + plan.cols
    return np.sort(_array.to_numpy(positions))


def _contiguous(array: Array) -> NumpyArray:
    """Bring an array to the CPU in float64, row by row."""
    values = _array.to_numpy(array)
    # POT's simplex reads the costs by pointer, in this layout.
    return np.ascontiguousarray(values, dtype=np.float64)
