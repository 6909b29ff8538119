"""Marginals of plans: how far they are from given weights, and rounding onto these.

Matrices of masses, or stacks of them, are rounded to couplings by algorithm 2 of
Altschuler, Weed and Rigollet (2017, arXiv:1705.09634).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gwtools import _array, _check, _check_spaces
from gwtools._array import Array
from gwtools.plans import DensePlan, Plan, as_plan, make_unchecked


def marginal_error(
    plan: Plan,
    a: Array,
    b: Array,
) -> float:
    """Return Σ |π 1 − a| + Σ |πᵀ 1 − b|, the mass that is out of place."""
    rows, cols = plan.marginals()
    return _distance(rows, a) + _distance(cols, b)


def _distance(sums: Array, weights: Array) -> float:
    """Return Σ |sums − weights| of two lists of masses."""
    xp = _array.namespace(weights)
    errors = xp.abs(sums - weights)
    return _array.number(xp.sum(errors))


def has_marginals(
    plan: Plan,
    a: Array,
    b: Array,
) -> bool:
    """Tell whether a plan has the marginals a and b up to float error."""
    float_error = max(4 * _array.epsilon(a), 1e-13)
    return marginal_error(plan, a, b) <= float_error


def round_plan(
    matrix: Any,
    a: Array,
    b: Array,
) -> Plan:
    """Round a matrix of masses onto given marginals.

    A coupling near the matrix (Altschuler, Weed and Rigollet 2017, algorithm 2), for
    plans of other libraries and of iterations that were stopped early, whose marginals
    are off.

    Parameters
    ----------
    matrix : Plan or array of shape (n, m)
        Finite, non-negative masses of any total; rows and columns may be empty.
    a, b : arrays of shape (n,) and (m,)
        Weights of the array library, dtype and device of the matrix, each of sum 1;
        None for uniform ones.

    Returns
    -------
    Plan
        A coupling π′ with the marginals a and b up to float error and Σ |π′ − π| ≤ 2
        (‖π1 − a‖₁ + ‖πᵀ1 − b‖₁); the given plan itself where its marginals are right
        already. Of the library, dtype and device of the matrix. O(n m).

    Raises
    ------
    TypeError
        If the matrix is neither a plan nor an array of floating-point numbers, or the
        weights differ from it in library, dtype or device.
    ValueError
        If the shapes do not match, a mass is negative, NaN or infinite, or the weights
        are no probabilities.

    References
    ----------
    Altschuler, Weed and Rigollet, Near-linear time approximation algorithms for optimal
    transport via Sinkhorn iteration, NeurIPS 2017, arXiv:1705.09634.

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> a, b = np.array([0.5, 0.5]), np.array([0.25, 0.75])
    >>> plan = gw.round_plan(np.array([[0.2, 0.3], [0.0, 0.49]]), a, b)
    >>> np.asarray(plan).round(4)
    array([[0.2152, 0.2848],
           [0.0348, 0.4652]])
    """
    if isinstance(matrix, Plan):
        masses = matrix.masses
    else:
        matrix = _check.array(matrix, "matrix", 2)
        masses = matrix
    n, m = matrix.shape
    a = _check_spaces.weights(a, masses, n, "a")
    b = _check_spaces.weights(b, masses, m, "b")
    plan = as_plan(matrix, (n, m), "matrix")
    # Sums that overflow are too large anyhow, and are scaled down like others.
    with np.errstate(over="ignore"):
        if has_marginals(plan, a, b):
            return plan
        # Half precision has too few digits for sums of masses.
        wide = _array.at_least_single(plan.dense())
        wide_a = _array.at_least_single(a)
        wide_b = _array.at_least_single(b)
        coupling = rounded_matrix(wide, wide_a, wide_b)
    xp = _array.namespace(masses)
    coupling = xp.astype(coupling, masses.dtype, copy=False)
    return make_unchecked(DensePlan, matrix=coupling)


def rounded_plan(
    matrix: Array,
    a: Array,
    b: Array,
) -> DensePlan:
    """Round a non-negative matrix onto the marginals a and b, as a plan."""
    coupling = rounded_matrix(matrix, a, b)
    return make_unchecked(DensePlan, matrix=coupling)


def rounded_matrix(
    matrix: Array,
    a: Array,
    b: Array,
) -> Array:
    """Round a non-negative matrix, or a stack, onto the marginals a and b.

    Algorithm 2 of Altschuler, Weed and Rigollet (2017): at most twice the mass that is
    out of place moves (their lemma 7).

    Parameters
    ----------
    matrix : array of shape (…, n, m)
        Finite, non-negative masses.
    a, b : arrays of shape (…, n) and (…, m)
        Weights.

    Returns
    -------
    array of shape (…, n, m)
        The coupling.
    """
    xp = _array.namespace(matrix)
    tiny = xp.finfo(matrix.dtype).smallest_normal
    # 1. Scale down the rows that carry too much mass.
    row_sums = xp.sum(matrix, axis=-1)
    row_sums = xp.clip(row_sums, min=tiny)
    row_factors = xp.clip(a / row_sums, max=1.0)
    matrix = matrix * row_factors[..., :, None]
    # 2. Scale down the columns that then carry too much.
    col_sums = xp.sum(matrix, axis=-2)
    col_sums = xp.clip(col_sums, min=tiny)
    col_factors = xp.clip(b / col_sums, max=1.0)
    matrix = matrix * col_factors[..., None, :]
    # 3. Spread the missing mass as a product.
    row_sums = xp.sum(matrix, axis=-1)
    col_sums = xp.sum(matrix, axis=-2)
    missing_a = xp.clip(a - row_sums, min=0.0)  # (…, n)
    missing_b = xp.clip(b - col_sums, min=0.0)  # (…, m)
    total_a = xp.sum(missing_a, axis=-1)  # (…,)
    total_b = xp.sum(missing_b, axis=-1)
    # The totals are equal up to float error.
    missing = (total_a + total_b) / 2
    missing = xp.clip(missing, min=tiny)
    shares = missing_b / missing[..., None]
    return matrix + missing_a[..., :, None] * shares[..., None, :]
