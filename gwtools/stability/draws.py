"""Stability under subsampling: chosen atoms, and independent draws (theorem 6 f)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gwtools import _array, _check, _check_spaces
from gwtools._array import Array
from gwtools.certify import coupling_distance
from gwtools.plans import SparsePlan
from gwtools.preparation import restrict_to_support
from gwtools.spaces import Space, undirected_space
from gwtools.stability.norms import radius_of_entries, terms_of_root
from gwtools.stability.units import in_float64, in_safe_units, near_one, rounded_up
from gwtools.transport.programs import exact


def subsampling(
    x: Any,
    index: Array,
    weights: Array = None,
) -> float:
    """Bound the move of GW_2 when a space is replaced by some of its atoms.

    The bound is the cost of a coupling of the two spaces (theorem 6 f 0).

    Parameters
    ----------
    x : Space or square array
        A space of n atoms.
    index : integer array of shape (m,)
        The atoms kept, as drawn: they may repeat. Of the array library and on the
        device of the space.
    weights : array of shape (m,), optional
        Their new probability weights; uniform by default.

    Returns
    -------
    float
        The root of the objective of a coupling that sends each atom to atoms whose rows
        of C are near its own, in units of C, rounded up; it includes what the computed
        coupling may miss of its marginals. O(n² m) and one linear program.

    Raises
    ------
    TypeError, ValueError
        If the index holds anything but positions of the n atoms, the weights are not
        those of a space of m atoms, or values of C or the bound are beyond the range of
        float64.

    Examples
    --------
    Two pairs of near points, and one point kept of each.

    >>> import numpy as np, gwtools as gw
    >>> points = np.array([[0.0], [0.1], [3.0], [3.1]])
    >>> x = gw.PointCloud(points, weights=np.array([0.3, 0.2, 0.25, 0.25]))
    >>> kept = np.array([0, 2])
    >>> bound = gw.stability.subsampling(x, kept, weights=np.array([0.5, 0.5]))
    >>> round(bound, 4)
    0.0704
    >>> round(float(gw.solve(x, gw.PointCloud(points[kept])).distance), 4)
    0.0704
    """
    whole = undirected_space(x, "x")
    _check.indices(index, "index", whole.size)
    _check.same_library(index, whole.weights, "index", "the space")
    part = whole.restrict(index)
    # Uniform by default.
    new_weights = _check_spaces.weights(weights, whole.weights, part.size)
    part = part.with_data(part.data, new_weights)
    part = in_float64(part)
    whole = in_float64(whole)
    (whole, part), exponent = in_safe_units(whole, part, entries_are_squared=True)
    a = whole.weights
    # 1. Rows of C in units in which no square over- or underflows.
    rows, _ = near_one(whole.dense())  # (n, n)
    chosen = _taken(rows, index)  # (m, n)
    # 2. Distances of rows, between atoms of positive weight.
    whole, atoms = restrict_to_support(whole)
    part, kept = restrict_to_support(part)
    rows = _taken(rows, atoms)
    chosen = _taken(chosen, kept)
    costs = _squared_distances(rows, chosen, a)
    # 3. A coupling of near rows. Whatever it is, it bounds the distance (theorem 6 b).
    coupling = _optimal_coupling(costs, whole.weights, part.weights)
    # 4. Its objective, for the nearest coupling of the exact weights (theorem 13 g).
    distance = coupling_distance(whole, part, coupling)
    return rounded_up(distance, 8, exponent)


def _taken(rows: Array, index: Array | None) -> Array:
    """Return some rows of a matrix, or all of them."""
    if index is None:
        return rows
    return _array.namespace(rows).take(rows, index, axis=0)


def _squared_distances(
    first: Array,
    second: Array,
    a: Array,
) -> Array:
    """Return Σ_k a_k (first_ik − second_jk)² for all pairs of rows i, j."""
    # The square multiplied out: no array of all differences (n, m, n) is made.
    norms_first = first**2 @ a  # (n,)
    norms_second = second**2 @ a  # (m,)
    squares = norms_first[:, None] + norms_second[None, :]
    weighted = first * a[None, :]
    return squares - 2 * weighted @ second.T


def _optimal_coupling(
    costs: Array,
    a: Array,
    b: Array,
) -> SparsePlan:
    """Return a vertex of least cost, in arrays like the weights."""
    solution = exact(
        _array.to_numpy(costs),
        _array.to_numpy(a),
        _array.to_numpy(b),
    )
    vertex = solution.plan
    rows = _array.from_numpy(vertex.rows, a)
    cols = _array.from_numpy(vertex.cols, a)
    mass = _array.from_numpy(vertex.mass, a)
    return SparsePlan(rows, cols, mass, vertex.size)


def sampling(
    x: Any,
    draws: int,
    failure: float = 0.05,
    p: float = 2.0,
) -> float:
    """Bound the move of GW_p, with high probability, when atoms are drawn.

    A space is replaced by independent draws of its atoms (theorem 6 f 3).

    Parameters
    ----------
    x : Space or square array
        A space of n atoms, from which atoms are drawn by their weights; the drawn space
        is uniform over the draws.
    draws : int
        Number of draws.
    failure : float
        The bound holds with probability at least 1 − failure.
    p : float
        Power of the distance, at least 1.

    Returns
    -------
    float
        In units of C, rounded up; a statement before drawing, useful where draws are
        many times n. After drawing, :func:`subsampling` is sharper, and certain.

    Raises
    ------
    ValueError
        If ``draws`` is below 1, ``failure`` not between 0 and 1 or p below 1, or values
        of C are beyond the range of float64.

    Examples
    --------
    Four times as many draws halve what may be missed, as long as they are many.

    >>> import numpy as np, gwtools as gw
    >>> points = np.array([[0.0], [1.0], [3.0]])
    >>> x = gw.PointCloud(points, weights=np.array([0.5, 0.25, 0.25]))
    >>> round(gw.stability.sampling(x, draws=10_000, p=1.0), 4)
    0.1147
    >>> round(gw.stability.sampling(x, draws=40_000, p=1.0), 4)
    0.0576
    """
    x = in_float64(x)
    (x,), exponent = in_safe_units(x)
    _check_draws(draws, failure)
    _check.number(p, "p", least=1.0)
    # 1. δ, the mass in the wrong place: its expectation, and its tail by McDiarmid.
    weights = _array.to_numpy(x.weights)
    atoms = int(np.count_nonzero(weights))
    expected = 0.5 * math.sqrt((atoms - 1) / draws)
    tail = math.sqrt(-math.log(failure) / (2 * draws))
    misplaced = min(expected + tail, 1.0)
    # 2. The share of pairs that are not both in place.
    share = misplaced * (2 - misplaced)
    bound = _oscillation(x) * math.pow(share, 1.0 / p)
    terms = 32 + terms_of_root(share, p)
    return rounded_up(bound, terms, exponent)


def row_means_sampling(
    x: Any,
    draws: int,
    failure: float = 0.05,
) -> float:
    """Bound the move of ``bounds.row_means(p=1)``, with high probability, under draws.

    A space is replaced by independent draws of its atoms (theorem 6 f 4).

    Parameters
    ----------
    x : Space or square array
        A space of n atoms, from which atoms are drawn by their weights; the drawn space
        is uniform over the draws.
    draws : int
        Number of draws.
    failure : float
        The bound holds with probability at least 1 − failure.

    Returns
    -------
    float
        In units of C, rounded up, of order draws^(−1/2) whatever n is.

    Raises
    ------
    ValueError
        If ``draws`` is below 1 or ``failure`` not between 0 and 1, or values of C are
        beyond the range of float64.

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> points = np.array([[0.0], [1.0], [3.0]])
    >>> x = gw.PointCloud(points, weights=np.array([0.5, 0.25, 0.25]))
    >>> round(gw.stability.row_means_sampling(x, draws=10_000), 4)
    0.1037
    >>> round(gw.stability.row_means_sampling(x, draws=40_000), 4)
    0.0518
    """
    x = in_float64(x)
    (x,), exponent = in_safe_units(x)
    _check_draws(draws, failure)
    # W_1 between row means of the drawn space and of x, as a share of max C − min C.
    # 1. Its expectation: 1/(2√N) + 1/N for means over N drawn columns, and 1/(2√N) for
    #    the rows that are drawn (theorem 6 f).
    expected = 1 / math.sqrt(draws) + 1 / draws
    # 2. Its tail by McDiarmid, as one draw moves it by at most 2/draws.
    tail = math.sqrt(-2 * math.log(failure) / draws)
    share = min(expected + tail, 1.0)
    bound = _oscillation(x) * share
    return rounded_up(bound, 32, exponent)


def _check_draws(draws: int, failure: float) -> None:
    _check.integer(draws, "draws", least=1)
    _check.number(failure, "failure", above=0.0, below=1.0)


def _oscillation(x: Space) -> float:
    """Bound max C − min C over the atoms of positive weight, in units of C."""
    xp = _array.namespace(x.weights)
    x, _ = restrict_to_support(x)
    highest = []
    lowest = []
    for start, stop in x.blocks():
        rows = x.rows(start, stop)
        highest.append(float(xp.max(rows)))
        lowest.append(float(xp.min(rows)))
    width = max(highest) - min(lowest)
    return rounded_up(width + 2 * radius_of_entries(x), 4)
