"""The lower bounds of :mod:`gwtools.bounds` for many pairs of spaces at once, one function a theorem.

Each takes two lists of B spaces of any sizes, of one array library, dtype and device, and returns the B values as an array of
shape (B,), in units of C to the power p: plain and differentiable. Spaces are grouped by size and padded with atoms that carry
no weight. Values must be within the range in which squares keep their digits; only :func:`gwtools.solve` changes units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gwtools import _array, _check
from gwtools._array import Array
from gwtools.batch import gather
from gwtools.bounds.moments import Moments, eccentricities, moments, norm_bound, spectral_bound
from gwtools.spaces import Space
from gwtools.transport.one_dimensional import Entries, wasserstein, wasserstein_of_entries


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
    """
    _check.number(p, "p", least=1.0)
    return _each_pair(xs, ys, lambda s: (s.row_means, s.weights), lambda x, y: wasserstein(x[0], x[1], y[0], y[1], p))


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
    """
    _check.number(p, "p", least=1.0)
    return _each_pair(
        xs,
        ys,
        lambda s: (eccentricities(s, p), s.weights),
        lambda x, y: wasserstein(x[0], x[1], y[0], y[1], p),
        dense=p != 2,  # other powers than squares are taken entry by entry
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
    """
    return _each_pair(xs, ys, moments, lambda x, y: norm_bound(Moments(*x), Moments(*y)))


def spectral(xs: Sequence[Any], ys: Sequence[Any]) -> Array:
    """Return the bound of sorted residual spectra for each pair, at most GW_2² (theorem 4).

    Parameters
    ----------
    xs, ys : sequences of B spaces or square arrays
        Spaces of any sizes.

    Returns
    -------
    array of shape (B,)
        In squared units of C. The eigenvalues of n × n matrices take most of the time, together or one by one; many of
        them are computed on threads in NumPy, as in :func:`gwtools.solve_batch`.
    """

    def read(s: Space) -> tuple[Array, ...]:
        residual = s.residual()
        return (*moments(s, residual), gather.finite(residual.compact()))

    def bound(x: list[Array], y: list[Array]) -> Array:
        return spectral_bound(Moments(*x[:-1]), Moments(*y[:-1]), x[-1], y[-1])

    return _each_pair(xs, ys, read, bound, spectra=True)


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
    """
    _check.number(p, "p", least=1.0)

    def bound(x: list[Array], y: list[Array]) -> Array:
        return wasserstein_of_entries(Entries(*x), Entries(*y), p)

    return _each_pair(xs, ys, _entries, bound, dense=True, large=True)


def _entries(s: Space) -> Entries:
    """Read all values of each matrix of a stack."""
    matrix, weights = s.dense(), s.weights
    xp, count = _array.namespace(matrix), weights.shape[0]
    return Entries(xp.reshape(matrix, (count, -1)), weights, xp.full_like(weights[:, 0], s.size))


def _each_pair(
    xs: Sequence[Any],
    ys: Sequence[Any],
    read: Callable[[Space], tuple[Array, ...]],
    bound: Callable[[list[Array], list[Array]], Array],
    **how: bool,
) -> Array:
    """Bound what is read of each pair of spaces, group by group; ``how`` as in :func:`gather.each_group`."""
    left, right = gather.spaces(xs, ys)
    _check.not_empty(left)
    return gather.each_group(left, right, read, bound, **how)
