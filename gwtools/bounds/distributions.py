"""Lower bounds from the distributions of all values, and of values in rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from gwtools import _array, _check
from gwtools._array import Array, NumpyArray
from gwtools.bounds.arguments import (
    centred_pair,
    in_given_units,
    read_pair,
    refuse_jax_gradients,
)
from gwtools.bounds.memory import require_memory
from gwtools.preparation import prepare, restrict_to_support
from gwtools.spaces import Space, converted
from gwtools.transport.local_distributions import Centred, transports
from gwtools.transport.one_dimensional import wasserstein
from gwtools.transport.programs import exact


def second(
    x: Any,
    y: Any,
    p: float = 2.0,
) -> Array:
    """Return W_p^p between all values of C and of D, Mémoli's second lower bound.

    Parameters
    ----------
    x, y : Space or square array
        Spaces of n and m atoms.
    p : float
        Power of the distance, at least 1.

    Returns
    -------
    0-d array
        In units of C to the power p; at most :func:`third` (theorem 7). O(n² log n)
        time and O(n²) memory.

    Raises
    ------
    TypeError
        If x or y is neither a space nor an array of floating-point numbers, or they
        differ in array library, dtype or device.
    ValueError
        If an array is empty, not square, not symmetric or not finite, or p is no finite
        number of at least 1.
    MemoryError
        If what the bound holds does not fit, before it is asked for.

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> x = gw.PointCloud(
    ...     np.array([[0.0], [1.0], [3.0]]), weights=np.array([0.5, 0.25, 0.25])
    ... )
    >>> y = gw.PointCloud(np.array([[0.0, 0.0], [0.0, 1.0], [2.0, 0.0]]))
    >>> values = gw.bounds.slb(x, y), gw.bounds.tlb(x, y), gw.solve(x, y).objective
    >>> [round(float(value), 4) for value in values]
    [0.2686, 0.4779, 0.7377]
    """
    x, y = read_pair(x, y, directed=True)
    _check.number(p, "p", least=1.0)
    require_memory(x, y, "second")
    C, weights_C = _values(x)  # (n²,)
    D, weights_D = _values(y)
    value = wasserstein(C, weights_C, D, weights_D, p)
    xp = _array.namespace(C)
    return xp.astype(value, x.weights.dtype, copy=False)


def _values(space: Space) -> tuple[Array, Array]:
    """Return all values of C and their weights a_i a_k, each of shape (n²,).

    Half precision becomes single precision, as sums of n² weights are made of them.
    """
    # Atoms of weight zero would be n values each, to be sorted for nothing.
    kept, _ = restrict_to_support(space)
    wide = converted(kept, _array.at_least_single)
    xp = _array.namespace(wide.weights)
    a = wide.weights
    values = xp.reshape(wide.dense(), (-1,))
    products = a[:, None] * a[None, :]  # (n, n)
    return values, xp.reshape(products, (-1,))


def third(
    x: Any,
    y: Any,
    p: float = 2.0,
    residual: bool = False,
) -> Array:
    """Return the least mean W_p^p between coupled rows, Mémoli's third lower bound.

    Parameters
    ----------
    x, y : Space or square array
        Spaces of n and m atoms.
    p : float
        Power of the distance, at least 1.
    residual : bool
        Split off means and row means and transport rows of R and S: (m_C − m_D)² + min
        E[2 (α_i − β_j)² + W_2²(R_i, S_j)], never below :func:`norm`; for p = 2 only.
        Neither version dominates the other.

    Returns
    -------
    0-d array
        In units of C to the power p (theorem 7). Computed in NumPy and float64 on the
        CPU; gradients do not pass. O(n m min(n, m)) for the costs, whose transports are
        exact and weighted, and one linear program solved to a proved value.

    Raises
    ------
    TypeError
        If x or y is neither a space nor an array of floating-point numbers, or they
        differ in array library, dtype or device, or are within ``jax.grad`` or
        ``torch.func.grad``. If ``residual`` is not True or False.
    ValueError
        If an array is empty, not square, not symmetric or not finite, values of C are
        so large that squared differences are no numbers of the dtype, p is no finite
        number of at least 1, or ``residual`` is asked for with another p than 2.
    MemoryError
        If what the bound holds does not fit, before it is asked for.

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> x = gw.PointCloud(
    ...     np.array([[0.0], [1.0], [3.0]]), weights=np.array([0.5, 0.25, 0.25])
    ... )
    >>> y = gw.PointCloud(np.array([[0.0, 0.0], [0.0, 1.0], [2.0, 0.0]]))
    >>> values = (
    ...     gw.bounds.third(x, y),
    ...     gw.bounds.third(x, y, residual=True),
    ...     gw.solve(x, y).objective,
    ... )
    >>> [round(float(value), 4) for value in values]
    [0.4779, 0.5754, 0.7377]
    """
    x, y = read_pair(x, y, directed=residual is False)
    _check.number(p, "p", least=1.0)
    _check.flag(residual, "residual")
    if residual:
        _check.choice(p, "p", (2,))
    refuse_jax_gradients(x, y, "bounds.third")
    require_memory(x, y, "third")
    # Computed in the units of a problem, which keep powers within the range of floats.
    ready = prepare(x, y)
    left, right = centred_pair(ready)
    offset, costs = third_costs(left, right, p, residual)
    # The value of the potentials: a plan that is not quite optimal costs too much.
    program = exact(costs, left.weights, right.weights)
    bound = np.asarray(max(offset + program.lower, 0.0))
    in_units = _array.from_numpy(bound, ready.x.weights)
    return in_given_units(in_units, ready.unit, p, x.weights)


def third_costs(
    x: Centred,
    y: Centred,
    p: float = 2.0,
    residual: bool = False,
) -> tuple[float, NumpyArray]:
    """Return a constant and the (n, m) costs of a linear program for theorem 7.

    The constant plus the least cost of a coupling is at most GW_p^p.
    """
    if not residual:
        # W_p^p(C_i, D_j), in units of C to the power p.
        costs = transports(x.matrix, x.weights, y.matrix, y.weights, p)
        return 0.0, costs
    # Theorem 2 splits the objective, and only its last part is bounded by rows.
    constant = (x.mean - y.mean) ** 2
    additive = additive_costs(x, y)
    rows = transports(x.residual, x.weights, y.residual, y.weights)
    return constant, additive + rows


def additive_costs(x: Centred, y: Centred) -> NumpyArray:
    """Return 2 (α_i − β_j)², shape (n, m), in squared units of C."""
    difference = x.deviations[:, None] - y.deviations
    return np.asarray(2 * difference**2)
