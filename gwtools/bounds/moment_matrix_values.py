"""The semidefinite bound, ``bounds.semidefinite`` (THEORY.md, theorem 16)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gwtools import _array, _check
from gwtools._array import Array
from gwtools.bounds.arguments import (
    centred_pair,
    in_given_units,
    read_pair,
    refuse_jax_gradients,
)
from gwtools.bounds.float_error import weight_terms
from gwtools.bounds.memory import require_memory
from gwtools.bounds.moment_matrix import best_multipliers
from gwtools.bounds.nested_programs import NestedProgram, solve
from gwtools.history import now
from gwtools.preparation import prepare

# Pairs n m for which a step takes about a third of a second, on one core and on a GPU.
_PAIRS_ON_CPU = 35**2
_PAIRS_ON_DEVICE = 64**2
HELD_BY_MOMENTS = 20.0  # numbers at once for each entry of the moment matrix


def semidefinite(
    x: Any,
    y: Any,
    iterations: int = 1000,
    time_limit: float | None = None,
) -> Array:
    """Return the semidefinite bound, at most GW_2².

    The moment matrix of a coupling is relaxed to all that are entrywise non-negative,
    positive semidefinite and have the marginals of one (theorem 16). With steps enough
    it is at least :func:`reformulation`; of all bounds here it costs the most.

    Parameters
    ----------
    x, y : Space or square array
        Spaces of n and m atoms.
    iterations : int
        Steps of the search at most; it stops before where 300 of them gain nothing. A
        step decomposes a matrix of (n − 1)(m − 1) + 1 rows: 0.01 seconds at n = m = 20,
        0.1 at 30.
    time_limit : float, optional
        Seconds after which the search stops, at the end of a step.

    Returns
    -------
    0-d array
        In squared units of C; a bound whenever the search stops, and never below
        ``third(x, y, residual=True)`` up to float error. The search runs on the arrays'
        own device, in single precision; its value is computed in NumPy and float64 on
        the CPU. Gradients do not pass.

    Raises
    ------
    TypeError
        If x or y is neither a space nor an array of floating-point numbers, or they
        differ in array library, dtype or device, or are within ``jax.grad`` or
        ``torch.func.grad``.
    ValueError
        If an array is empty, not square, not symmetric or not finite, values of C are
        so large that squared differences are no numbers of the dtype, ``iterations`` is
        no integer of at least 0, ``time_limit`` no finite number above 0, or the spaces
        have more than 35² pairs of atoms (64² on a GPU) and there is no ``time_limit``.
    MemoryError
        If what the bound holds does not fit, before it is asked for.

    References
    ----------
    Chen, Nguyen, Koh and Soh, Semidefinite Relaxations of the Gromov-Wasserstein
    Distance, 2024, arXiv:2312.14572.

    Examples
    --------
    Where the relaxation is tight the bound is the distance itself.

    >>> import numpy as np, gwtools as gw
    >>> points = np.random.default_rng(0).standard_normal((2, 6, 2))
    >>> x, y = gw.PointCloud(points[0]), gw.PointCloud(points[1])
    >>> values = gw.bounds.third(x, y), gw.bounds.semidefinite(x, y)
    >>> [round(float(value), 4) for value in values]
    [0.1422, 0.198]
    >>> round(float(gw.solve(x, y).objective), 4)
    0.198
    """
    x, y = read_pair(x, y)
    _check.integer(iterations, "iterations", least=0)
    if time_limit is not None:
        _check.number(time_limit, "time_limit", above=0.0)
    refuse_jax_gradients(x, y, "bounds.semidefinite")
    most = _PAIRS_ON_CPU if _array.on_cpu(x.weights) else _PAIRS_ON_DEVICE
    _check.few_pairs((x.size, y.size), most, time_limit)
    entries = float(x.size * y.size) ** 2
    require_memory(x, y, "semidefinite", HELD_BY_MOMENTS * entries)
    deadline = math.inf if time_limit is None else now() + time_limit
    # Computed in the units of a problem, which keep squares within the range of floats.
    ready = prepare(x, y)
    left, right = centred_pair(ready)
    omega = max(weight_terms(left.weights), weight_terms(right.weights))
    weights = ready.x.weights
    multipliers = best_multipliers(
        left,
        right,
        omega,
        int(iterations),
        deadline=deadline,
        like=None if _array.on_cpu(weights) else weights,
    )
    nested = solve(NestedProgram(left, right, omega, multipliers))
    offset = (left.mean - right.mean) ** 2
    bound = np.asarray(max(offset + nested.value, 0.0))
    in_units = _array.from_numpy(bound, weights)
    return in_given_units(in_units, ready.unit, 2.0, x.weights)
