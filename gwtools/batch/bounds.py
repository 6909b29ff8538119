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
from gwtools.batch import gather, lines
from gwtools.batch.gather import Profile
from gwtools.batch.lines import Atoms, Entries
from gwtools.batch.stacks import Stack, finite


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
    return _line(xs, ys, lambda s: (s.row_means, s.weights), p)


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

    def read(s: Stack) -> tuple[Array, Array]:
        size = s.power_means(p)
        return size if p == 1 else _array.root(size, p), s.weights

    return _line(xs, ys, read, p)


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
    return _grouped(xs, ys, gather.profile, lambda x, y: norm_of(Profile(*x), Profile(*y)))


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

    def bound(x: list[Array], y: list[Array]) -> Array:
        return spectral_of(Profile(*x[:-1]), Profile(*y[:-1]), x[-1], y[-1])

    return _grouped(xs, ys, lambda s: (*gather.profile(s), finite(s.compact)), bound, spectra=True)


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
    return _grouped(xs, ys, _entries, lambda x, y: lines.line_of_entries(Entries(*x), Entries(*y), p), large=True)


def norm_of(x: Profile, y: Profile, atoms: Atoms | None = None) -> Array:
    """Theorem 3 for many pairs, shape (B,); ``atoms`` are sorting couplings of their deviations, if they are known."""
    gap = _array.root(x.residual_norm_squared) - _array.root(y.residual_norm_squared)
    return _additive_part(x, y, atoms) + gap**2


def spectral_of(x: Profile, y: Profile, first: Array, second: Array, atoms: Atoms | None = None) -> Array:
    """Theorem 4 for many pairs with their spectra, shape (B,); ``atoms`` as in :func:`norm_of`."""
    xp = _array.namespace(first)
    size = max(first.shape[1], second.shape[1])
    # Zeros stand for the eigenvalues left out: sorted, both signs are matched by rank.
    values = [xp.sort(gather.padded(v, size), axis=1) for v in (first, second)]
    parts = [[xp.clip(v, **side) for v in values] for side in ({"min": 0.0}, {"max": 0.0})]
    return _additive_part(x, y, atoms) + sum(xp.sum((first - second) ** 2, axis=1) for first, second in parts)


def _additive_part(x: Profile, y: Profile, atoms: Atoms | None) -> Array:
    """(m_C − m_D)² + 2 W_2²(α, β), shape (B,)."""
    if atoms is None:
        spread = lines.line(x.deviations, x.weights, y.deviations, y.weights, 2.0)
    else:
        spread = lines.total(atoms, x.deviations, y.deviations, 2.0)
    return (x.mean - y.mean) ** 2 + 2 * spread


def _entries(s: Stack) -> Entries:
    """Read all values of each matrix."""
    xp, (count, size) = _array.namespace(s.matrix), s.shape
    return Entries(xp.reshape(s.matrix, (count, -1)), s.weights, xp.full_like(s.weights[:, 0], size))


def _grouped(
    xs: Sequence[Any],
    ys: Sequence[Any],
    read: Callable[[Stack], tuple[Array, ...]],
    bound: Callable[[list[Array], list[Array]], Array],
    **cost: bool,
) -> Array:
    """Bound what is read of each pair of spaces, group by group; ``cost`` as in :func:`gather.each_group`."""
    left, right = gather.spaces(xs, ys)
    _check.not_empty(left)
    return gather.each_group(left, right, read, bound, **cost)


def _line(xs: Sequence[Any], ys: Sequence[Any], read: Callable[[Stack], tuple[Array, Array]], p: float) -> Array:
    """Transport what is read of each pair of spaces: values and weights."""
    return _grouped(xs, ys, read, lambda x, y: lines.line(x[0], x[1], y[0], y[1], p))
