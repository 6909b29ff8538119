"""Glued plans: couplings with a third space joined to a coupling, for a start.

THEORY.md, "Landmarks".
"""

from __future__ import annotations

from typing import Any

import array_api_compat as compat
import numpy as np
import scipy.sparse

from gwtools import _array, _check, _check_landmarks
from gwtools._array import Array
from gwtools.plans import DensePlan, Plan, SparsePlan, as_plan, make_unchecked


def glued_plan(plan_x: Any, plan_y: Any) -> Plan:
    """Join couplings of x and of y with a landmark to a coupling of x and y.

    Each atom of x sends its mass to the landmark, and from there on as the coupling of
    y has it: a start for :class:`gwtools.ConditionalGradient` where both spaces were
    compared with a third one, and a plan that is as good as these comparisons.

    Parameters
    ----------
    plan_x : Plan or array of shape (n, r)
        A coupling P of x and the landmark, of r atoms.
    plan_y : Plan or array of shape (m, r)
        A coupling Q of y and the same landmark; of the array library, dtype and device
        of the other.

    Returns
    -------
    Plan
        The coupling Σ_k P_ik Q_jk / c_k of shape (n, m), with c_k the mass of the
        landmark's atom k: sparse where both are sparse plans of NumPy arrays, else
        dense. The root of its objective is at most the sum of those of P and Q.

    Raises
    ------
    TypeError
        If an argument is neither a plan nor an array of floating-point numbers, or they
        differ in array library, dtype or device.
    ValueError
        If they differ in their numbers of columns, or in the sums of these by more than
        a thousandth of the mass, or a mass is negative, NaN or infinite.

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> x, y = (gw.PointCloud(np.array(p)[:, None]) for p in ([0.0, 2.0], [5.0, 8.0]))
    >>> landmark = gw.PointCloud(np.array([[0.0], [3.0]]), weights=np.array([0.5, 0.5]))
    >>> plans = [gw.solve(space, landmark).plan for space in (x, y)]
    >>> start = gw.glued_plan(*plans)
    >>> result = gw.solve(x, y, gw.ConditionalGradient(init=start))
    >>> round(float(result.distance), 4), result.iterations
    (0.7071, 1)
    """
    P = _as_coupling(plan_x, "plan_x")
    Q = _as_coupling(plan_y, "plan_y")
    _check.same_kind(P.masses, Q.masses, "plan_x", "plan_y")
    _, columns = P.marginals()  # (r,)
    _, columns_y = Q.marginals()
    _check_landmarks.one_landmark(columns, columns_y)
    shares = _inverses(columns)  # 1 / c_k
    if _is_sparse(P) and _is_sparse(Q):
        return _glued_in_scipy(P, Q, shares)
    matrix = (P.dense() * shares[None, :]) @ Q.transpose().dense()
    return make_unchecked(DensePlan, matrix=matrix)


def _as_coupling(plan: Any, name: str) -> Plan:
    """Read a coupling of any shape."""
    if not isinstance(plan, Plan):
        plan = _check.floating(plan, name, 2)
    return as_plan(plan, tuple(plan.shape), name)


def _inverses(masses: Array) -> Array:
    """Return 1 / c for masses above 0, and 0 for others."""
    xp = _array.namespace(masses)
    positive = masses > 0
    divisor = xp.where(positive, masses, xp.ones_like(masses))
    return xp.where(positive, 1 / divisor, xp.zeros_like(masses))


def _is_sparse(plan: Plan) -> bool:
    return isinstance(plan, SparsePlan) and compat.is_numpy_array(plan.masses)


def _glued_in_scipy(P: Plan, Q: Plan, shares: Array) -> SparsePlan:
    """Return the glued coupling of two sparse plans of NumPy arrays."""
    of_x = P.sparse().tocsr()
    of_y = Q.sparse().tocsr()
    total = (of_x @ scipy.sparse.diags_array(shares) @ of_y.T).tocoo()
    rows, cols = total.coords
    return make_unchecked(
        SparsePlan,
        # SciPy's positions are as narrow as the shape allows.
        rows=rows.astype(np.int64),
        cols=cols.astype(np.int64),
        mass=total.data.astype(P.masses.dtype, copy=False),
        size=total.shape,
    )
