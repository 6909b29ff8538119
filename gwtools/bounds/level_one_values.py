"""The bound of the level-one reformulation, and its gradients (theorem 15)."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from gwtools import _array, _check, _check_plans
from gwtools._array import Array, NumpyArray
from gwtools.bounds.arguments import centred_pair, in_given_units, read_pair
from gwtools.bounds.distributions import third_costs
from gwtools.bounds.level_one import (
    best_multipliers,
    bound_of,
    residual_third_multipliers,
)
from gwtools.bounds.memory import require_memory
from gwtools.bounds.nested_programs import Multipliers, NestedBound, in_range
from gwtools.history import now
from gwtools.preparation import Prepared, prepare
from gwtools.spaces import Space, detached
from gwtools.transport.local_distributions import Centred
from gwtools.transport.programs import exact

# Numbers of float64 that are held for each of n² m² entries: the iterate in single
# precision, and blocks of it.
_HELD_BY_ENTRIES = 0.55
_HELD_BY_TRIPLES = 24.0  # for each of n m (n + m) multipliers
_MOST_ITERATIONS = 300


def numbers_held(n: int, m: int) -> float:
    """Estimate from above how many numbers the search for multipliers holds."""
    entries = float(n * m) ** 2
    triples = float(n * m) * (n + m)
    return _HELD_BY_ENTRIES * entries + _HELD_BY_TRIPLES * triples


def find_multipliers(
    x: Any,
    y: Any,
    iterations: int = _MOST_ITERATIONS,
    time_limit: float | None = None,
) -> Multipliers:
    """Search for multipliers with which :func:`reformulation` is large.

    Parameters
    ----------
    x, y : Space or square array
        Spaces of n and m atoms.
    iterations : int
        Most steps of the Douglas-Rachford splitting.
    time_limit : float, optional
        Seconds after which it stops; by default it does not look at the clock.

    Returns
    -------
    Multipliers
        NumPy arrays in squared units of C, over the atoms that have mass: G¹ (m, n, m),
        G² (n, n, m) and potentials of the inner programs (n, m, m). Those of the best
        of all checkpoints, the first of which is after 50 steps.

    Raises
    ------
    TypeError
        If x or y is neither a space nor an array of floating-point numbers, or they
        differ in array library, dtype or device.
    ValueError
        If an array is empty, not square, not symmetric or not finite, there is no step
        to take, or the time limit is no number above 0.
    MemoryError
        If what the search holds does not fit, before it is asked for.

    Examples
    --------
    Multipliers of one pair of spaces prove a bound for spaces near to them too.

    >>> import numpy as np, gwtools as gw
    >>> points = np.array([[0.0], [1.0], [3.0], [4.5]])
    >>> x = gw.PointCloud(points, weights=np.array([0.4, 0.2, 0.2, 0.2]))
    >>> y = gw.PointCloud(np.array([[0.0, 0.0], [0.0, 1.0], [2.0, 0.0]]))
    >>> found = gw.bounds.find_multipliers(x, y)
    >>> near = gw.PointCloud(1.01 * points, weights=x.weights)
    >>> bound = gw.bounds.reformulation(near, y, multipliers=found)
    >>> float(bound) <= float(gw.solve(near, y).objective)
    True
    """
    x, y = read_pair(x, y)
    ready, parts = _prepared(x, y, iterations, time_limit)
    found = _search(ready, parts, iterations, time_limit)
    factor = ready.unit
    return Multipliers(*(factor * array * factor for array in found[:3]))


def reformulation(
    x: Any,
    y: Any,
    iterations: int = _MOST_ITERATIONS,
    time_limit: float | None = None,
    multipliers: Multipliers | None = None,
) -> Array:
    """Return the bound of the level-one reformulation, at most GW_2² (theorem 15).

    Multipliers move costs between pairs of pairs, without changing the objective of any
    coupling, until transport within transport is as dear as they can make it.

    Parameters
    ----------
    x, y : Space or square array
        Spaces of n and m atoms.
    iterations : int
        Most steps of the search for multipliers.
    time_limit : float, optional
        Seconds after which the search stops; by default it does not look at the clock,
        and values are the same bit for bit on one machine.
    multipliers : Multipliers, optional
        Those to use, without a search, as :func:`find_multipliers` returns them.

    Returns
    -------
    0-d array
        In squared units of C. With multipliers from its own search it is never below
        ``third(x, y, residual=True)``, up to float error; given ones may prove less.

    Raises
    ------
    TypeError
        If x or y is neither a space nor an array of floating-point numbers, or they
        differ in array library, dtype or device, or the multipliers are no NumPy arrays
        of floating-point numbers.
    ValueError
        If an array is empty, not square, not symmetric or not finite, the multipliers
        are not finite or of other shapes, there is no step to take, or the time limit
        is no number above 0.
    MemoryError
        If what the search holds does not fit, before it is asked for.

    Notes
    -----
    The search holds n² m² numbers of single precision, and each step passes over them
    once: 0.01 s for n = m = 60 with the extra ``fast``, about 0.1 s without. It runs on
    the CPU, or on the device of the spaces if that is another one. The value itself is
    computed in float64 on the CPU.

    PyTorch and ``jax.grad`` differentiate the value with the multipliers held, which is
    the gradient of a bound too: with respect to all of the data, and to weights along
    changes that keep their mass.

    References
    ----------
    W. P. Adams and T. A. Johnson, "Improved linear programming-based lower bounds for
    the quadratic assignment problem", 1994.

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> x = gw.PointCloud(
    ...     np.array([[0.0], [1.0], [3.0]]), weights=np.array([0.5, 0.25, 0.25])
    ... )
    >>> y = gw.PointCloud(np.array([[0.0, 0.0], [0.0, 1.0], [2.0, 0.0]]))
    >>> values = (
    ...     gw.bounds.third(x, y, residual=True),
    ...     gw.bounds.reformulation(x, y),
    ...     gw.solve(x, y).objective,
    ... )
    >>> [round(float(value), 3) for value in values]
    [0.575, 0.738, 0.738]
    """
    x, y = read_pair(x, y)
    ready, parts = _prepared(x, y, iterations, time_limit, searches=multipliers is None)
    if multipliers is None:
        used = _search(ready, parts, iterations, time_limit)
    else:
        used = _given(multipliers, ready)
    omega = 0.0  # no outward rounding: the plain value
    bound = bound_of(*parts, omega, used)
    if multipliers is None:
        _, costs = third_costs(*parts, residual=True)
        third = exact(costs, parts[0].weights, parts[1].weights).lower
        if not bound.value >= third:
            used = residual_third_multipliers(*parts)
            bound = bound_of(*parts, omega, used)
    value = _with_gradient(ready, parts, used, bound)
    return in_given_units(value, ready.unit, 2.0, x.weights)


def _prepared(
    x: Space,
    y: Space,
    iterations: int,
    time_limit: float | None,
    searches: bool = True,
) -> tuple[Prepared, tuple[Centred, Centred]]:
    """Check the settings, and split both spaces into their parts."""
    _check.integer(iterations, "iterations", least=1)
    if time_limit is not None:
        _check.number(time_limit, "time_limit", above=0.0)
    held = numbers_held(x.size, y.size) if searches else 0.0
    require_memory(x, y, "reformulation", held)
    ready = prepare(x, y)
    still = Prepared(detached(ready.x), detached(ready.y), ready.unit, ready.atoms)
    return ready, centred_pair(still)


def _search(
    ready: Prepared,
    parts: tuple[Centred, Centred],
    iterations: int,
    time_limit: float | None,
) -> Multipliers:
    """Search on the device of the spaces, or compiled where that is the CPU."""
    weights = _array.detached(ready.x.weights)
    like = None if _array.on_cpu(weights) else weights
    deadline = math.inf if time_limit is None else now() + time_limit
    return best_multipliers(*parts, 0.0, iterations, deadline, like=like)


def _given(multipliers: Multipliers, ready: Prepared) -> Multipliers:
    """Check multipliers, and divide them by the unit of the prepared spaces."""
    advice = "pass what gwtools.bounds.find_multipliers returns"
    _check.instance(multipliers, "multipliers", Multipliers, advice)
    n = ready.x.size
    m = ready.y.size
    shapes = ((m, n, m), (n, n, m), (n, m, m))
    scaled = []
    for array, shape in zip(multipliers[:3], shapes, strict=True):
        _check_plans.multipliers(array, shape)
        with np.errstate(over="ignore"):
            wide = np.asarray(array, np.float64) / ready.unit / ready.unit
        scaled.append(wide)
    used = Multipliers(*scaled)
    _check_plans.finite_multipliers(in_range(used))
    return used


class _Support(NamedTuple):
    """The masses σ_ij τ_kl of a nested program's plans, each of shape (K,)."""

    i: NumpyArray
    j: NumpyArray
    k: NumpyArray
    ell: NumpyArray
    mass: NumpyArray


def _support(bound: NestedBound) -> _Support:
    """List where the plans of a nested program have mass."""
    lists: list[list[NumpyArray]] = []
    outer = bound.outer.plan
    coupled = zip(outer.rows.tolist(), outer.cols.tolist(), outer.mass, strict=True)
    for i, j, mass in coupled:
        inner = bound.inner[i, j].plan
        count = len(inner.rows)
        masses = mass * inner.mass
        lists.append(
            [np.full(count, i), np.full(count, j), inner.rows, inner.cols, masses]
        )
    return _Support(*(np.concatenate(column) for column in zip(*lists, strict=True)))


def _with_gradient(
    ready: Prepared,
    parts: tuple[Centred, Centred],
    multipliers: Multipliers,
    bound: NestedBound,
) -> Array:
    """Return the value as an array of the spaces' library, with its gradient.

    By the envelope theorem the plans of all programs are held.
    """
    x = ready.x
    y = ready.y
    offset = (parts[0].mean - parts[1].mean) ** 2
    number = max(offset + bound.value, 0.0)
    plain = _array.from_numpy(np.asarray(number), _array.detached(x.weights))
    arrays = (x.data, x.weights, y.data, y.weights)
    if not any(_array.tracked(array) for array in arrays):
        return plain
    # 1. The costs in the plans' support, where they depend on the data.
    support = _support(bound)
    xp = _array.namespace(x.weights)
    place = _array.device(x.weights)
    i, j, k, ell = (xp.asarray(index, device=place) for index in support[:4])
    R = xp.reshape(x.residual().dense(), (-1,))
    S = xp.reshape(y.residual().dense(), (-1,))
    of_x = xp.take(R, i * x.size + k, axis=0)
    of_y = xp.take(S, j * y.size + ell, axis=0)
    alpha = x.deviations
    beta = y.deviations
    outer = xp.take(alpha, i, axis=0) - xp.take(beta, j, axis=0)
    inner = xp.take(alpha, k, axis=0) - xp.take(beta, ell, axis=0)
    squares = (of_x - of_y) ** 2 + outer**2 + inner**2
    like = _array.detached(x.weights)
    mass = _array.from_numpy(support.mass, like)
    value = (x.mean - y.mean) ** 2 + xp.sum(mass * squares)
    # 2. The weights, which are the right-hand sides of all programs.
    f, g = _weight_slopes(multipliers, bound)
    change_a = x.weights - _array.detached(x.weights)
    change_b = y.weights - _array.detached(y.weights)
    value = value + change_a @ _array.from_numpy(f, like)
    value = value + change_b @ _array.from_numpy(g, like)
    return _array.with_value(value, number)


def _weight_slopes(
    multipliers: Multipliers,
    bound: NestedBound,
) -> tuple[NumpyArray, NumpyArray]:
    """Return the slopes of the value in the weights a and b, with all costs held."""
    plan = bound.outer.plan
    f, g = (potential.copy() for potential in bound.outer.potentials)
    coupled = zip(plan.rows.tolist(), plan.cols.tolist(), plan.mass, strict=True)
    for i, j, mass in coupled:
        u, v = bound.inner[i, j].potentials
        f += mass * u
        g += mass * v
    # e_kl = Σ_j b_j G¹_jkl + Σ_i a_i G²_ikl, a part of the outer costs.
    sigma = plan.dense()
    f += np.tensordot(multipliers.second, sigma, axes=([1, 2], [0, 1]))
    g += np.tensordot(multipliers.first, sigma, axes=([1, 2], [0, 1]))
    return f, g
