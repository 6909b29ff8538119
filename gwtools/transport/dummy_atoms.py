"""Transport programs with an atom more on each side, for the mass that stays."""

from __future__ import annotations

import numpy as np

from gwtools._array import NumpyArray
from gwtools.plans import SparsePlan, changed


def with_dummies(
    costs: NumpyArray,
    a: NumpyArray,
    b: NumpyArray,
    spare: float,
    total: float,
    corner: float = 0.0,
) -> tuple[NumpyArray, NumpyArray, NumpyArray]:
    """Return costs and weights of a transport program with a dummy on each side.

    The dummies take what is not moved from the atoms of the other side at no cost.

    Parameters
    ----------
    costs : array of shape (n, m)
        Costs between the atoms.
    a, b : arrays of shape (n,) and (m,)
        Their weights, each of sum 1.
    spare : float
        What either dummy has.
    total : float
        1 + ``spare``, by which all weights are divided: those of a program have the sum
        1.
    corner : float
        The cost between both dummies.
    """
    n, m = costs.shape
    extended = np.zeros((n + 1, m + 1))
    extended[:n, :m] = costs
    extended[n, m] = corner
    rows = np.append(a, spare) / total
    cols = np.append(b, spare) / total
    return extended, rows, cols


def without_dummies(plan: SparsePlan, total: float) -> SparsePlan:
    """Return the arcs between atoms, in units of their mass."""
    n = plan.size[0] - 1
    m = plan.size[1] - 1
    kept: NumpyArray = (plan.rows < n) & (plan.cols < m)
    return changed(
        plan,
        rows=plan.rows[kept],
        cols=plan.cols[kept],
        mass=total * plan.mass[kept],
        size=(n, m),
    )
