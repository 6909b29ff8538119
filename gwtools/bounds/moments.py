"""Lower bounds from row means, eccentricities, norms and spectra (theorems 1, 3, 4 and 12 f)."""

from __future__ import annotations

from typing import Any

from gwtools import _array, _check, _check_spaces
from gwtools._array import Array
from gwtools.bounds.arguments import read_pair
from gwtools.bounds.memory import require_memory
from gwtools.spaces import GramSpace, Space
from gwtools.transport.one_dimensional import line


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
    x, y = read_pair(x, y)
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
    x, y = read_pair(x, y)
    _check.number(p, "p", least=1.0)
    sizes = (s.power_means(p) for s in (x, y))
    ecc_x, ecc_y = sizes if p == 1 else (_array.root(size, p) for size in sizes)
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
    x, y = read_pair(x, y)
    gap = _array.root(x.residual_norm_squared()) - _array.root(y.residual_norm_squared())
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
    x, y = read_pair(x, y)
    require_memory(x, y, "spectral", 2 * (x.numbers_held + y.numbers_held))
    return _additive_part(x, y) + matched(x.residual().spectrum(), y.residual().spectrum())


def matched(values_x: Array, values_y: Array) -> Array:
    """Return Σ (λ⁺ − μ⁺)² + Σ (λ⁻ − μ⁻)² of two ascending spectra, positive and negative parts matched by rank."""
    xp = _array.namespace(values_x, values_y)
    length = max(values_x.shape[0], values_y.shape[0])
    positive = _padded(xp.clip(values_x, min=0.0), length, 1) - _padded(xp.clip(values_y, min=0.0), length, 1)
    negative = _padded(xp.clip(values_x, max=0.0), length, -1) - _padded(xp.clip(values_y, max=0.0), length, -1)
    return xp.sum(positive**2) + xp.sum(negative**2)


def rank_one(x: Any, y: Any) -> Array:
    """Return GW_2² itself between inner products of numbers, C = h hᵀ and D = k kᵀ (theorem 12 f).

    Parameters
    ----------
    x, y : GramSpace
        Spaces of n and m atoms, each with a factor of one row: h of shape (1, n) and k of shape (1, m).

    Returns
    -------
    0-d array
        ‖C‖² + ‖D‖² − 2 max(Z₊², Z₋²) in squared units of C, Z₊ and Z₋ the largest and the least Σ π_ij h_i k_j over couplings.
        O(n log n).

    Raises
    ------
    ValueError
        If a space is no GramSpace with a factor of one row.

    Notes
    -----
    Attained by the coupling that sorts h and k alike, or h up and k down. Computed as (p − q)²/2 + W (p + q − W/2) with
    p = Σ a_i h_i², q = Σ b_j k_j² and W the lesser of W_2²(h, k) and W_2²(h, −k): no digits cancel where spaces nearly agree.

    Examples
    --------
    Numbers, and twice the same ones with the other sign and in another order: C and 4 C, of distance 3 ‖C‖ with ‖C‖ = 14/3.

    >>> import numpy as np, gwtools as gw
    >>> x, y = gw.GramSpace(np.array([[1.0, 2.0, 3.0]])), gw.GramSpace(np.array([[-4.0, -6.0, -2.0]]))
    >>> round(float(gw.bounds.rank_one(x, y)), 10)
    196.0
    """
    x, y = read_pair(x, y)
    (h, k), (a, b) = (only_row(x, "x"), only_row(y, "y")), (x.weights, y.weights)
    sorted_alike, sorted_against = line(h, a, k, b, 2.0), line(h, a, -k, b, 2.0)
    least = sorted_alike if bool(sorted_alike <= sorted_against) else sorted_against
    p, q = a @ h**2, b @ k**2
    return (p - q) ** 2 / 2 + least * (p + q - least / 2)


def only_row(space: Space, name: str) -> Array:
    """Return the numbers h (n,) of a space C = h hᵀ."""
    _check_spaces.one_row(int(space.factor.shape[0]) if isinstance(space, GramSpace) else None, space, name)
    return space.data[0, :]


def has_one_row(space: Space) -> bool:
    """Tell whether a space is given as C = h hᵀ."""
    return isinstance(space, GramSpace) and int(space.factor.shape[0]) == 1


def _additive_part(x: Space, y: Space) -> Array:
    """(m_C − m_D)² + 2 W_2²(α, β): what the additive parts alone cost."""
    return (x.mean - y.mean) ** 2 + 2 * line(x.deviations, x.weights, y.deviations, y.weights, 2.0)


def _padded(ascending: Array, length: int, sign: int) -> Array:
    """Pad sorted eigenvalues of one sign with zeros on the side where they are small."""
    xp = _array.namespace(ascending)
    zeros = xp.zeros(length - ascending.shape[0], dtype=ascending.dtype, device=_array.device(ascending))
    return xp.concat([zeros, ascending] if sign > 0 else [ascending, zeros])
