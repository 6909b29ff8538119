"""Lower bounds of many pairs of spaces at once, one function a theorem.

Those of :mod:`gwtools.bounds`. Each function takes two lists of B spaces of any sizes,
of one array library, dtype and device, and returns the B values as an array of shape
(B,), in units of C to the power p: plain and differentiable. Spaces are grouped by size
and padded with atoms that carry no weight. Values must be within the range in which
squares keep their digits; only :func:`gwtools.solve` changes units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gwtools import _array, _check
from gwtools._array import Array
from gwtools._stacks import in_order
from gwtools.batch import gather, threads
from gwtools.batch.fields import Fields, Read, read_fields
from gwtools.batch.gather import Pairs
from gwtools.bounds.moments import (
    Moments,
    eccentricities,
    moments,
    norm_bound,
    spectral_bound,
)
from gwtools.spaces import Space
from gwtools.transport.one_dimensional import (
    Entries,
    wasserstein,
    wasserstein_of_entries,
)

# Pairs whose n² entries are sorted together on a CPU, as they fit its cache.
_FEW_PAIRS = 12


def row_means(
    xs: Sequence[Any],
    ys: Sequence[Any],
    p: float = 2.0,
) -> Array:
    """Return W_p^p between weighted row means for each pair of spaces.

    At most GW_p^p (theorem 1).

    Parameters
    ----------
    xs, ys : sequences of B spaces or square arrays
        Spaces of any sizes.
    p : float
        Power of the distance, at least 1.

    Returns
    -------
    array of shape (B,)
        In units of C to the power p.

    Raises
    ------
    TypeError, ValueError
        On bad input: also where the lists are empty or differ in length, or where
        spaces differ in array library, dtype or device.

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> weighted = gw.DenseSpace(1 - np.eye(3), weights=np.array([0.5, 0.25, 0.25]))
    >>> xs, ys = [weighted, 1 - np.eye(2)], [1 - np.eye(4), 1 - np.eye(5)]
    >>> gw.batch.row_means(xs, ys, p=1).round(4)
    array([0.125, 0.3  ])
    >>> [round(float(gw.bounds.row_means(x, y, p=1)), 4) for x, y in zip(xs, ys)]
    [0.125, 0.3]
    """
    _check.number(p, "p", least=1.0)
    return _transports(xs, ys, _row_means_and_weights, p)


def first(
    xs: Sequence[Any],
    ys: Sequence[Any],
    p: float = 2.0,
) -> Array:
    """Return W_p^p between p-eccentricities for each pair of spaces.

    At most GW_p^p (theorem 1).

    Parameters
    ----------
    xs, ys : sequences of B spaces or square arrays
        Spaces of any sizes.
    p : float
        Power of the distance, at least 1.

    Returns
    -------
    array of shape (B,)
        In units of C to the power p.

    Raises
    ------
    TypeError, ValueError
        On bad input: also where the lists are empty or differ in length, or where
        spaces differ in array library, dtype or device.

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> weighted = gw.DenseSpace(1 - np.eye(3), weights=np.array([0.5, 0.25, 0.25]))
    >>> xs, ys = [weighted, 1 - np.eye(2)], [1 - np.eye(4), 1 - np.eye(5)]
    >>> gw.batch.first(xs, ys).round(4)
    array([0.0126, 0.0351])
    >>> [round(float(gw.bounds.first(x, y)), 4) for x, y in zip(xs, ys)]
    [0.0126, 0.0351]
    """
    _check.number(p, "p", least=1.0)

    def eccentricities_and_weights(stack: Space) -> tuple[Array, Array]:
        return eccentricities(stack, p), stack.weights

    # Squares have a low-rank form; other powers are taken entry by entry.
    return _transports(xs, ys, eccentricities_and_weights, p, dense=p != 2)


def norm(xs: Sequence[Any], ys: Sequence[Any]) -> Array:
    """Return (m_C − m_D)² + 2 W_2²(α, β) + (‖R‖ − ‖S‖)² for each pair of spaces.

    At most GW_2² (theorem 3).

    Parameters
    ----------
    xs, ys : sequences of B spaces or square arrays
        Spaces of any sizes.

    Returns
    -------
    array of shape (B,)
        In squared units of C.

    Raises
    ------
    TypeError, ValueError
        On bad input: also where the lists are empty or differ in length, or where
        spaces differ in array library, dtype or device.

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> weighted = gw.DenseSpace(1 - np.eye(3), weights=np.array([0.5, 0.25, 0.25]))
    >>> xs, ys = [weighted, 1 - np.eye(2)], [1 - np.eye(4), 1 - np.eye(5)]
    >>> gw.batch.norm(xs, ys).round(4)
    array([0.0472, 0.1   ])
    >>> [round(float(gw.bounds.norm(x, y)), 4) for x, y in zip(xs, ys)]
    [0.0472, 0.1]
    """

    def bound(x: list[Array], y: list[Array]) -> Array:
        return norm_bound(Moments(*x), Moments(*y))

    pairs = _pairs(xs, ys)
    fields = read_fields(pairs, moments)
    return _by_groups(pairs, fields, bound)


def spectral(xs: Sequence[Any], ys: Sequence[Any]) -> Array:
    """Return the bound of sorted residual spectra for each pair of spaces.

    At most GW_2² (theorem 4).

    Parameters
    ----------
    xs, ys : sequences of B spaces or square arrays
        Spaces of any sizes.

    Returns
    -------
    array of shape (B,)
        In squared units of C. The eigenvalues of n × n matrices take most of the time,
        together or one by one; many of them are computed on threads in NumPy, as in
        :func:`gwtools.solve_batch`.

    Raises
    ------
    TypeError, ValueError
        On bad input: also where the lists are empty or differ in length, or where
        spaces differ in array library, dtype or device.

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> weighted = gw.DenseSpace(1 - np.eye(3), weights=np.array([0.5, 0.25, 0.25]))
    >>> xs, ys = [weighted, 1 - np.eye(2)], [1 - np.eye(4), 1 - np.eye(5)]
    >>> gw.batch.spectral(xs, ys).round(4)
    array([0.125, 0.3  ])
    >>> [round(float(gw.bounds.spectral(x, y)), 4) for x, y in zip(xs, ys)]
    [0.125, 0.3]
    """
    pairs = _pairs(xs, ys)
    with threads.Background[Array](pairs.like) as background:

        def read(stack: Space) -> Moments:
            residual = stack.residual()
            # (g, k, k), of the same non-zero eigenvalues as diag(√a) R diag(√a).
            matrices = gather.finite(residual.compact())
            background.add_eigenvalues(matrices)
            return moments(stack, residual)

        fields = read_fields(pairs, read)
        spectra = background.finish()  # of each stack, (g, k)
        fields.add(spectra)

    def bound(x: list[Array], y: list[Array]) -> Array:
        *moments_x, spectrum_x = x
        *moments_y, spectrum_y = y
        return spectral_bound(
            Moments(*moments_x),
            Moments(*moments_y),
            spectrum_x,
            spectrum_y,
        )

    return _by_groups(pairs, fields, bound)


def second(
    xs: Sequence[Any],
    ys: Sequence[Any],
    p: float = 2.0,
) -> Array:
    """Return W_p^p between all values of C and all values of D for each pair.

    At most GW_p^p (theorem 7).

    Parameters
    ----------
    xs, ys : sequences of B spaces or square arrays
        Spaces of any sizes.
    p : float
        Power of the distance, at least 1.

    Returns
    -------
    array of shape (B,)
        In units of C to the power p.

    Raises
    ------
    TypeError, ValueError
        On bad input: also where the lists are empty or differ in length, or where
        spaces differ in array library, dtype or device.

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> weighted = gw.DenseSpace(1 - np.eye(3), weights=np.array([0.5, 0.25, 0.25]))
    >>> xs, ys = [weighted, 1 - np.eye(2)], [1 - np.eye(4), 1 - np.eye(5)]
    >>> gw.batch.second(xs, ys).round(4)
    array([0.125, 0.3  ])
    >>> [round(float(gw.bounds.second(x, y)), 4) for x, y in zip(xs, ys)]
    [0.125, 0.3]
    """
    _check.number(p, "p", least=1.0)
    pairs = _pairs(xs, ys)
    # On other devices a group is sorted by one call.
    is_on_cpu = _array.on_cpu(pairs.like)
    values: list[Array] = []
    positions: list[int] = []
    for group in gather.groups(pairs):
        count = len(group)
        members = pairs.at(group)
        fields = read_fields(members, _entries, dense=True)
        step = _FEW_PAIRS if is_on_cpu else count
        for start in range(0, count, step):
            stop = min(start + step, count)
            few = np.arange(start, stop)
            x, y = fields.at(few)
            # W_p^p of each of these few pairs.
            transport = wasserstein_of_entries(Entries(*x), Entries(*y), p)
            values.append(transport)
        positions.extend(group.tolist())
    return in_order(values, positions)


def _entries(stack: Space) -> Entries:
    """Read all values of each matrix of a stack, with the weights of its atoms."""
    weights = stack.weights  # (g, n)
    matrices = stack.dense()  # (g, n, n)
    xp = _array.namespace(matrices)
    values = xp.reshape(matrices, (weights.shape[0], -1))  # (g, n²)
    sizes = xp.full_like(weights[:, 0], stack.size)  # (g,)
    return Entries(values, weights, sizes)


def _row_means_and_weights(stack: Space) -> tuple[Array, Array]:
    return stack.row_means, stack.weights


def _pairs(xs: Sequence[Any], ys: Sequence[Any]) -> Pairs:
    """Read two lists of spaces, of at least one pair."""
    pairs = gather.pairs(xs, ys)
    _check.not_empty(pairs.left)
    return pairs


def _transports(
    xs: Sequence[Any],
    ys: Sequence[Any],
    read: Read,
    p: float,
    dense: bool = False,
) -> Array:
    """Return W_p^p between numbers of the atoms of both spaces of each pair, (B,).

    ``read`` returns these numbers and the weights of a stack, each (g, n).
    """

    def transport(x: list[Array], y: list[Array]) -> Array:
        values_x, a = x
        values_y, b = y
        return wasserstein(values_x, a, values_y, b, p)  # W_p^p, (b,)

    pairs = _pairs(xs, ys)
    fields = read_fields(pairs, read, dense=dense)
    return _by_groups(pairs, fields, transport)


def _by_groups(
    pairs: Pairs,
    fields: Fields,
    bound: Callable[[list[Array], list[Array]], Array],
) -> Array:
    """Return the bounds (B,) of all pairs, those of similar sizes by one call."""
    values: list[Array] = []
    positions: list[int] = []
    for group in gather.groups(pairs, lists=True):
        x, y = fields.at(group)  # padded with atoms of weight 0
        values.append(bound(x, y))
        positions.extend(group.tolist())
    return in_order(values, positions)
