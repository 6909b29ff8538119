"""Lower bounds of Gromov-Wasserstein distances, one function a theorem of THEORY.md.

Each returns the plain, differentiable value in the arrays' own dtype, in units of C to the power p; :func:`gwtools.certify`
takes the best of them and rounds it down.
"""

from __future__ import annotations

from typing import Any

from gwtools import _array, _check
from gwtools._array import Array
from gwtools.linear import line
from gwtools.spaces import Space, as_space


def _spaces(x: Any, y: Any) -> tuple[Space, Space]:
    x, y = as_space(x, "x"), as_space(y, "y")
    _check.same_kind(x.weights, y.weights, "x", "y")
    return x, y


def row_means(x: Any, y: Any, p: float = 2.0) -> Array:
    """Return W_p^p between the weighted row means of C and D, at most GW_p^p (theorem 1).

    Parameters
    ----------
    x, y : Space or square array
        Spaces of n and m atoms.
    p : float
        Power of the distance, at least 1. With p = 1 and uniform weights this is the "approximate GW" of InfiGFusion.

    Returns
    -------
    0-d array
        In units of C to the power p. O(n log n) after one pass over the pairs.
    """
    x, y = _spaces(x, y)
    _check.number(p, "p", least=1.0)
    return line(x.row_means, x.weights, y.row_means, y.weights, p)


def first(x: Any, y: Any, p: float = 2.0) -> Array:
    """Return W_p^p between the p-eccentricities, Mémoli's first lower bound (theorem 1).

    Parameters
    ----------
    x, y : Space or square array
        Spaces of n and m atoms.
    p : float
        Power of the distance, at least 1.

    Returns
    -------
    0-d array
        In units of C to the power p; at most GW_p^p.
    """
    x, y = _spaces(x, y)
    _check.number(p, "p", least=1.0)
    sizes = (s.power_means(p) for s in (x, y))
    ecc_x, ecc_y = sizes if p == 1 else (_root(size, p) for size in sizes)
    return line(ecc_x, x.weights, ecc_y, y.weights, p)


def norm(x: Any, y: Any) -> Array:
    """Return (m_C − m_D)² + 2 W_2²(α, β) + (‖R‖ − ‖S‖)², at most GW_2² (theorem 3).

    Parameters
    ----------
    x, y : Space or square array
        Spaces of n and m atoms.

    Returns
    -------
    0-d array
        In squared units of C; never below the square of theorem 1's bound.
    """
    x, y = _spaces(x, y)
    gap = _root(x.residual_norm_squared(), 2.0) - _root(y.residual_norm_squared(), 2.0)
    return _additive_part(x, y) + gap**2


def spectral(x: Any, y: Any) -> Array:
    """Return the bound of sorted residual spectra, at most GW_2² and never below :func:`norm` (theorem 4).

    Parameters
    ----------
    x, y : Space or square array
        Spaces of n and m atoms.

    Returns
    -------
    0-d array
        In squared units of C. O(n d²) for point clouds with squared distances and Gram spaces, else O(n³).
    """
    x, y = _spaces(x, y)
    xp = _array.namespace(x.weights)
    values_x, values_y = x.residual().spectrum(), y.residual().spectrum()
    length = max(values_x.shape[0], values_y.shape[0])
    positive = _padded(xp.clip(values_x, min=0.0), length, 1) - _padded(xp.clip(values_y, min=0.0), length, 1)
    negative = _padded(xp.clip(values_x, max=0.0), length, -1) - _padded(xp.clip(values_y, max=0.0), length, -1)
    return _additive_part(x, y) + xp.sum(positive**2) + xp.sum(negative**2)


def _additive_part(x: Space, y: Space) -> Array:
    """(m_C − m_D)² + 2 W_2²(α, β): what the additive parts alone cost."""
    return (x.mean - y.mean) ** 2 + 2 * line(x.deviations, x.weights, y.deviations, y.weights, 2.0)


def _padded(ascending: Array, length: int, sign: int) -> Array:
    """Pad sorted eigenvalues of one sign with zeros on the side where they are small."""
    xp = _array.namespace(ascending)
    zeros = xp.zeros(length - ascending.shape[0], dtype=ascending.dtype, device=_array.device(ascending))
    return xp.concat([zeros, ascending] if sign > 0 else [ascending, zeros])


def _root(value: Array, p: float) -> Array:
    """The p-th root, with a zero subgradient at zero."""
    xp = _array.namespace(value)
    positive = value > 0
    root = xp.where(positive, value, xp.ones_like(value)) ** (1.0 / p)
    return xp.where(positive, root, xp.zeros_like(value))
