"""Potentials of plans, in the units and on all atoms of the spaces as given."""

from __future__ import annotations

import numpy as np

from gwtools import _array
from gwtools._array import Array
from gwtools.fused import Fused, problem_of
from gwtools.lifted_problems import LiftedProblem, are_lifted
from gwtools.losses import SQUARE, Loss
from gwtools.plans import Plan
from gwtools.preparation import Prepared, without_offset
from gwtools.problems import GWProblem
from gwtools.spaces import Space, converted, detached

Potentials = tuple[Array, Array]  # (n,) and (m,), in squared units of C


def of_given_spaces(
    x: Space,
    y: Space,
    ready: Prepared,
    plan: Plan,
    potentials: Potentials | None,
    fused: Fused | None = None,
    loss: Loss = SQUARE,
) -> Potentials | None:
    """Return potentials between prepared spaces as those between the given ones.

    Parameters
    ----------
    x, y : Space
        The given spaces, of n and m atoms.
    ready : Prepared
        The spaces of the potentials.
    plan : Plan
        The plan (n, m) at which they are potentials.
    potentials : pair of arrays or None
        In squared units of the prepared C, on its atoms.
    fused : Fused or None
        Features between the given spaces, and their share.
    loss : Loss
        Of the objective.

    Returns
    -------
    pair of arrays of shape (n,) and (m,), or None
        In squared units of C. Atoms without weight get c-transforms, see
        :func:`with_c_transforms`.
    """
    if potentials is None:
        return None
    kept_x, kept_y = ready.atoms
    f = _at_all_atoms(potentials[0], kept_x, x.size)
    g = _at_all_atoms(potentials[1], kept_y, y.size)
    if kept_x is not None or kept_y is not None:
        f, g = with_c_transforms(x, y, plan, (f, g), ready.unit, fused, loss)
    # Factor by factor: the square alone may overflow.
    return f * ready.unit * ready.unit, g * ready.unit * ready.unit


def _at_all_atoms(values: Array, kept: Array | None, size: int) -> Array:
    """Return values at the kept atoms as (size,) values, 0 at all others."""
    if kept is None:
        return values
    return _array.scatter_sum(kept, values, size)


def with_c_transforms(
    x: Space,
    y: Space,
    plan: Plan,
    potentials: Potentials,
    unit: float = 1.0,
    fused: Fused | None = None,
    loss: Loss = SQUARE,
) -> Potentials:
    """Give the atoms without weight the largest potentials that are feasible.

    Parameters
    ----------
    x, y : Space
        Spaces of n and m atoms, some of them without weight.
    plan : Plan
        The plan (n, m) at which the potentials are.
    potentials : pair of arrays of shape (n,) and (m,)
        In squared units of C / ``unit``; of any value at atoms without weight.
    unit : float
        What C is divided by.
    fused : Fused or None
        Features between the spaces as given, and their share.
    loss : Loss
        Of the objective.

    Returns
    -------
    pair of arrays of shape (n,) and (m,)
        The given potentials f and g at the atoms with weight. At the others f_i = min_j
        (cost_ij − g_j) over the atoms j of y with weight, and then g_j = min_i (cost_ij
        − f_i) over all atoms i of x: so f_i + g_j ≤ cost_ij in all their rows and
        columns, for the costs of the linearisation at the plan. 0 where values of C
        there are too large for the costs to be numbers.
    """
    f, g = potentials
    # Without what the spaces have cached, which may be n × n numbers.
    whole_x = _rescaled(x, unit)
    whole_y = _rescaled(y, unit)
    if loss.is_squared:
        whole_x, whole_y = without_offset(whole_x, whole_y)
    # Values at atoms without weight may be of any size.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        is_plain = fused is None and loss == SQUARE
        if is_plain and are_lifted(whole_x, whole_y):
            return _by_coordinates(GWProblem(whole_x, whole_y), plan, (f, g))
        problem = problem_of(whole_x, whole_y, _as_computed(fused, unit), loss)
        cost = problem.linearize(plan)  # (n, m)
        xp = _array.namespace(cost)
        a_positive = whole_x.weights > 0
        b_positive = whole_y.weights > 0
        g_counted = xp.where(b_positive, g, -xp.inf)
        of_rows = xp.min(cost - g_counted[None, :], axis=1)  # (n,)
        f = xp.where(a_positive, f, _finite(of_rows))
        of_columns = xp.min(cost - f[:, None], axis=0)  # (m,)
        g = xp.where(b_positive, g, _finite(of_columns))
    return f, g


def _by_coordinates(
    problem: GWProblem,
    plan: Plan,
    potentials: Potentials,
) -> Potentials:
    """Give the atoms without weight their potentials by nearest neighbours.

    As :func:`with_c_transforms`, for spaces whose costs are between coordinates.
    """
    lifted = LiftedProblem.of(problem)
    costs = lifted.gradient(lifted.cross(lifted.as_computed(plan)))
    f, g = (_array.to_numpy(values).astype(np.float64) for values in potentials)
    empty_x = np.nonzero(lifted.x.weights == 0)[0]
    present_y = np.nonzero(lifted.y.weights > 0)[0]
    empty_y = np.nonzero(lifted.y.weights == 0)[0]
    present_x = np.arange(len(f))
    f[empty_x] = costs.least(empty_x, present_y, g)
    g[empty_y] = costs.transposed.least(empty_y, present_x, f)
    like = problem.x.weights
    return _array.from_numpy(f, like), _array.from_numpy(g, like)


def _as_computed(fused: Fused | None, unit: float) -> Fused | None:
    """Return features as spaces are computed with, in other units."""
    if fused is None:
        return None
    return fused.detached().converted(_array.at_least_single).in_units(unit)


def _rescaled(space: Space, unit: float) -> Space:
    """Return a space outside any gradient graph, in other units."""
    space = converted(detached(space), _array.at_least_single)
    if unit == 1.0:
        return space.with_data(space.data, space.weights)
    return space.scaled(1 / unit)


def _finite(values: Array) -> Array:
    """Return values with 0 in place of those that are no numbers."""
    xp = _array.namespace(values)
    return xp.where(xp.isfinite(values), values, xp.zeros_like(values))
