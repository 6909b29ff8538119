"""Stability under a perturbation of C over the same atoms (theorem 6 a)."""

from __future__ import annotations

from typing import Any

from gwtools import _array, _check, _check_spaces
from gwtools._array import Array
from gwtools.bounds.float_error import gamma, radii
from gwtools.preparation import restrict_to_support
from gwtools.spaces import Space
from gwtools.stability.norms import (
    joined_norm,
    norm_above,
    radius_of_entries,
    terms_of_sums,
)
from gwtools.stability.units import (
    EXPONENT_OF_ZERO,
    in_float64,
    in_safe_units,
    near_one,
    rounded_up,
    times_power_of_two,
)

_UNDERFLOW = 2.0**-1074  # what a product loses at most where it underflows


def perturbation(
    x: Any,
    x2: Any,
    p: float = 2.0,
) -> float:
    """Return ‖C − C′‖_p, at least |GW_p(C, D) − GW_p(C′, D)| (theorem 6 a).

    The norm is (Σ a_i a_k |C_ik − C′_ik|^p)^(1/p).

    Parameters
    ----------
    x, x2 : Space or square array
        Spaces over the same n atoms in the same order, with equal weights.
    p : float
        Power of the distance, at least 1.

    Returns
    -------
    float
        In units of C, rounded up: for stored matrices by a few n units in the last
        place, so that equal ones give 0; else also by the float errors of the entries
        of C. O(n²) time, O(n) memory.

    Raises
    ------
    TypeError
        If the spaces differ in array library or device.
    ValueError
        If they differ in size or weights, p is below 1, or values of C or the bound are
        beyond the range of float64.

    Examples
    --------
    All distances a quarter longer: the distance between the two spaces is just what the
    bound allows.

    >>> import numpy as np, gwtools as gw
    >>> C = np.array([[0.0, 1.0, 3.0], [1.0, 0.0, 2.0], [3.0, 2.0, 0.0]])
    >>> a = np.array([0.5, 0.25, 0.25])
    >>> x = gw.DenseSpace(C, a)
    >>> longer = gw.DenseSpace(1.25 * C, a)
    >>> round(gw.stability.perturbation(x, longer), 4)
    0.433
    >>> round(float(gw.solve(x, longer).distance), 4)
    0.433
    """
    x, x2 = _over_same_atoms(x, x2)
    _check.number(p, "p", least=1.0)
    (x, x2), exponent = in_safe_units(x, x2)
    norms = [_norm_of_rows(x, x2, start, stop, p) for start, stop in x.blocks()]
    norm = joined_norm(norms, p)
    bound = norm + radius_of_entries(x) + radius_of_entries(x2)
    return rounded_up(bound, 8, exponent)


def row_means_perturbation(
    x: Any,
    x2: Any,
    p: float = 2.0,
) -> float:
    """Bound how far the root of ``bounds.row_means`` moves (theorem 6 a).

    It moves by at most (Σ a_i |f_C(i) − f_C′(i)|^p)^(1/p), where f_C are the row means.

    Parameters
    ----------
    x, x2 : Space or square array
        Spaces over the same n atoms in the same order, with equal weights.
    p : float
        Power of the bound, at least 1.

    Returns
    -------
    float
        In units of C, rounded up; up to float error never above :func:`perturbation`,
        and the cost is that of the row means.

    Raises
    ------
    TypeError, ValueError
        As :func:`perturbation`.

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> C = np.array([[0.0, 1.0, 3.0], [1.0, 0.0, 2.0], [3.0, 2.0, 0.0]])
    >>> a = np.array([0.5, 0.25, 0.25])
    >>> x = gw.DenseSpace(C, a)
    >>> longer = gw.DenseSpace(1.25 * C, a)
    >>> round(gw.stability.row_means_perturbation(x, longer), 4)
    0.3307
    >>> round(gw.stability.perturbation(x, longer), 4)
    0.433
    """
    x, x2 = _over_same_atoms(x, x2)
    _check.number(p, "p", least=1.0)
    (x, x2), exponent = in_safe_units(x, x2)
    if x.low_rank is not None and x2.low_rank is not None:
        xp = _array.namespace(x.weights)
        moved = xp.abs(x.row_means - x2.row_means)  # (n,)
        error = radii(x).row_means + radii(x2).row_means
    else:
        # Means of C − C′, not differences of means: equal rows then give 0 exactly.
        blocks = [_row_means_moved(x, x2, start, stop) for start, stop in x.blocks()]
        moved = _array.joined(blocks)
        error = radius_of_entries(x) + radius_of_entries(x2)
    terms = terms_of_sums(x.size)
    norm = norm_above(moved, p, terms, rows=x.weights)
    return rounded_up(norm + error, 8, exponent)


def _over_same_atoms(x: Any, x2: Any) -> tuple[Space, Space]:
    """Return both spaces in float64, over the atoms of positive weight."""
    x = in_float64(x)
    x2 = in_float64(x2, "x2")
    _check.same_library(x.weights, x2.weights, "x", "x2")
    _check_spaces.same_weights(x.weights, x2.weights, "x2", "x")
    x, atoms = restrict_to_support(x)
    if atoms is not None:
        x2 = x2.restrict(atoms)
    # Both lists of weights are equal up to float error; the bound is for those of x.
    return x, x2.with_data(x2.data, x.weights)


def _norm_of_rows(
    x: Space,
    x2: Space,
    start: int,
    stop: int,
    p: float,
) -> float:
    """Bound the part of ‖C − C′‖_p that lies in some rows."""
    a = x.weights
    xp = _array.namespace(a)
    moved = xp.abs(x.rows(start, stop) - x2.rows(start, stop))  # (stop − start, n)
    return norm_above(
        moved,
        p,
        terms_of_sums(x.size),
        rows=a[start:stop],
        columns=a,
    )


def _row_means_moved(
    x: Space,
    x2: Space,
    start: int,
    stop: int,
) -> Array:
    """Bound |f_C(i) − f_C′(i)| for some rows i, by Σ_k a_k (C_ik − C′_ik)."""
    a = x.weights
    xp = _array.namespace(a)
    differences = x.rows(start, stop) - x2.rows(start, stop)  # (stop − start, n)
    differences, exponent = near_one(differences)
    if exponent == EXPONENT_OF_ZERO:
        return xp.zeros_like(differences[:, 0])
    means = xp.abs(differences @ a)
    # Sums may cancel: their float error is relative to the means of |C_ik − C′_ik|.
    sizes = xp.abs(differences) @ a
    error = gamma(terms_of_sums(x.size)) * sizes
    lost = x.size * _UNDERFLOW
    return times_power_of_two(means + error + lost, exponent)
