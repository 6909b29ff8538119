"""The lower bounds of :mod:`gwtools.bounds` for many pairs of spaces at once, one function a theorem.

Each takes two lists of B spaces of any sizes, of one array library, dtype and device,
and returns the B values as an array of shape (B,), in units of C to the power p: plain
and differentiable. Spaces are grouped by size and padded with atoms that carry no
weight. Values must be within the range in which squares keep their digits; only
:func:`gwtools.solve` changes units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gwtools import _array, _check
from gwtools._array import Array
from gwtools._stacks import in_order
from gwtools.batch import gather, threads
from gwtools.batch.gather import Fields, Pairs
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

_FEW = 12  # pairs whose n² entries are sorted together, as they fit the cache of a CPU


def row_means(xs: Sequence[Any], ys: Sequence[Any], p: float = 2.0) -> Array:
    """Return W_p^p between weighted row means for each pair, at most GW_p^p (theorem 1).

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
    pairs = _pairs(xs, ys)
    fields = gather.read_fields(pairs, lambda s: (s.row_means, s.weights))
    return _each_group(
        pairs, fields, lambda x, y: wasserstein(x[0], x[1], y[0], y[1], p)
    )


def first(xs: Sequence[Any], ys: Sequence[Any], p: float = 2.0) -> Array:
    """Return W_p^p between p-eccentricities for each pair, at most GW_p^p (theorem 1).

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
    pairs = _pairs(xs, ys)
    # Other powers than squares are taken entry by entry.
    fields = gather.read_fields(
        pairs, lambda s: (eccentricities(s, p), s.weights), dense=p != 2
    )
    return _each_group(
        pairs, fields, lambda x, y: wasserstein(x[0], x[1], y[0], y[1], p)
    )


def norm(xs: Sequence[Any], ys: Sequence[Any]) -> Array:
    """Return (m_C − m_D)² + 2 W_2²(α, β) + (‖R‖ − ‖S‖)² for each pair, at most GW_2² (theorem 3).

    Parameters
    ----------
    xs, ys : sequences of B spaces or square arrays
        Spaces of any sizes.

    Returns
    -------
    array of shape (B,)
        In squared units of C.

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
    pairs = _pairs(xs, ys)
    fields = gather.read_fields(pairs, moments)
    return _each_group(pairs, fields, lambda x, y: norm_bound(Moments(*x), Moments(*y)))


def spectral(xs: Sequence[Any], ys: Sequence[Any]) -> Array:
    """Return the bound of sorted residual spectra for each pair, at most GW_2² (theorem 4).

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
    with threads.Background[Array](pairs.left[0].weights) as background:

        def read(s: Space) -> Moments:
            residual = s.residual()
            background.add_eigenvalues(gather.finite(residual.compact()))
            return moments(s, residual)

        fields = gather.read_fields(pairs, read)
        fields.add(background.finish())

    def bound(x: list[Array], y: list[Array]) -> Array:
        return spectral_bound(Moments(*x[:-1]), Moments(*y[:-1]), x[-1], y[-1])

    return _each_group(pairs, fields, bound)


def second(xs: Sequence[Any], ys: Sequence[Any], p: float = 2.0) -> Array:
    """Return W_p^p between all values of C and all values of D for each pair, at most GW_p^p (theorem 7).

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
    values, positions = [], []
    for group in gather.groups(pairs):
        few = _FEW if _array.on_cpu(pairs.left[0].weights) else len(group)
        fields = gather.read_fields(pairs.at(group), _entries, dense=True)
        for start in range(0, len(group), few):
            x, y = fields.at(np.arange(start, min(start + few, len(group))))
            values.append(wasserstein_of_entries(Entries(*x), Entries(*y), p))
        positions += group.tolist()
    return in_order(values, positions)


def _entries(s: Space) -> Entries:
    """Read all values of each matrix of a stack."""
    matrix, weights = s.dense(), s.weights
    xp, count = _array.namespace(matrix), weights.shape[0]
    return Entries(
        xp.reshape(matrix, (count, -1)), weights, xp.full_like(weights[:, 0], s.size)
    )


def _pairs(xs: Sequence[Any], ys: Sequence[Any]) -> Pairs:
    pairs = gather.pairs(xs, ys)
    _check.not_empty(pairs.left)
    return pairs


def _each_group(
    pairs: Pairs, fields: Fields, bound: Callable[[list[Array], list[Array]], Array]
) -> Array:
    """Bound pairs of like size together."""
    values, positions = [], []
    for group in gather.groups(pairs, lists=True):
        values.append(bound(*fields.at(group)))
        positions += group.tolist()
    return in_order(values, positions)
