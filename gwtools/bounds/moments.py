"""Lower bounds from row means, eccentricities, norms and spectra (theorems 1, 3, 4 and 12 f)."""

from __future__ import annotations

from typing import Any, NamedTuple

from gwtools import _array, _check, _check_spaces
from gwtools._array import Array
from gwtools.bounds.arguments import read_pair
from gwtools.bounds.memory import require_memory
from gwtools.spaces import GramSpace, Space
from gwtools.spaces.double_centering import Residual
from gwtools.transport.one_dimensional import cost, wasserstein
from gwtools.transport.quantile_cells import SortingCoupling


class Moments(NamedTuple):
    """What theorems 1 and 3 need of a space, or of a stack of B spaces that is padded with atoms of weight 0.

    Weights a, row means f_C and deviations α, shape (…, n); the mean m_C and the
    squared norm ‖R‖², shape (…).
    """

    weights: Array
    row_means: Array
    deviations: Array
    mean: Array
    residual_norm_squared: Array


def moments(space: Space, residual: Residual | None = None) -> Moments:
    """Return the moments of a space or of a stack of spaces; a ``residual`` that is at hand is not made again."""
    norm_squared = (
        space.residual_norm_squared() if residual is None else residual.norm_squared()
    )
    return Moments(
        space.weights, space.row_means, space.deviations, space.mean, norm_squared
    )


def row_means(x: Any, y: Any, p: float = 2.0) -> Array:
    """Return W_p^p between the weighted row means of C and D, at most GW_p^p (theorem 1).

    Parameters
    ----------
    x, y : Space or square array
        Spaces of n and m atoms.
    p : float
        Power of the distance, at least 1. With p = 1 and uniform weights this is the
        "approximate GW" of InfiGFusion.

    Returns
    -------
    0-d array
        In units of C to the power p. O(n log n) after one pass over the pairs.

    Examples
    --------
    Distances and twice the same ones: the bound is GW_1 itself, as the identity attains
    it.

    >>> import numpy as np, gwtools as gw
    >>> C, a = (
    ...     np.array([[0.0, 1.0, 3.0], [1.0, 0.0, 2.0], [3.0, 2.0, 0.0]]),
    ...     np.array([0.5, 0.25, 0.25]),
    ... )
    >>> float(gw.bounds.row_means(gw.DenseSpace(C, a), gw.DenseSpace(2 * C, a), p=1))
    1.25
    """
    x, y = read_pair(x, y)
    _check.number(p, "p", least=1.0)
    return wasserstein(x.row_means, x.weights, y.row_means, y.weights, p)


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

    Examples
    --------
    The first and the third lower bound by Mémoli's names, and the objective of a plan.

    >>> import numpy as np, gwtools as gw
    >>> x = gw.PointCloud(
    ...     np.array([[0.0], [1.0], [3.0]]), weights=np.array([0.5, 0.25, 0.25])
    ... )
    >>> y = gw.PointCloud(np.array([[0.0, 0.0], [0.0, 1.0], [2.0, 0.0]]))
    >>> values = gw.bounds.flb(x, y), gw.bounds.tlb(x, y), gw.solve(x, y).objective
    >>> [round(float(value), 4) for value in values]
    [0.1133, 0.4779, 0.7377]
    """
    x, y = read_pair(x, y)
    _check.number(p, "p", least=1.0)
    return wasserstein(
        eccentricities(x, p), x.weights, eccentricities(y, p), y.weights, p
    )


def eccentricities(space: Space, p: float) -> Array:
    """Return (Σ_k a_k |C_ik|^p)^(1/p) for every atom, shape (…, n), in units of C."""
    sums = space.power_means(p)
    return sums if p == 1 else _array.root(sums, p)


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

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> x = gw.PointCloud(
    ...     np.array([[0.0], [1.0], [3.0]]), weights=np.array([0.5, 0.25, 0.25])
    ... )
    >>> y = gw.PointCloud(np.array([[0.0, 0.0], [0.0, 1.0], [2.0, 0.0]]))
    >>> values = (
    ...     gw.bounds.norm(x, y),
    ...     gw.bounds.spectral(x, y),
    ...     gw.solve(x, y).objective,
    ... )
    >>> [round(float(value), 4) for value in values]
    [0.2157, 0.2315, 0.7377]
    """
    x, y = read_pair(x, y)
    return norm_bound(moments(x), moments(y))


def norm_bound(
    x: Moments, y: Moments, coupling: SortingCoupling | None = None
) -> Array:
    """Theorem 3, shape (…); ``coupling`` is a sorting coupling of the deviations, if one is known."""
    gap = _array.root(x.residual_norm_squared) - _array.root(y.residual_norm_squared)
    return _additive_part(x, y, coupling) + gap**2


def spectral(x: Any, y: Any) -> Array:
    """Return the bound of sorted residual spectra, at most GW_2² and never below :func:`norm` (theorem 4).

    Parameters
    ----------
    x, y : Space or square array
        Spaces of n and m atoms.

    Returns
    -------
    0-d array
        In squared units of C. O(n d²) for point clouds with squared distances and Gram
        spaces, else O(n³).

    Examples
    --------
    Two inner products of the same norm: only the spectrum tells a line from a square.

    >>> import numpy as np, gwtools as gw
    >>> line = gw.GramSpace(np.array([[1.0, -1.0, 1.0, -1.0]]))
    >>> square = gw.GramSpace(
    ...     2**0.25 * np.array([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]])
    ... )
    >>> [
    ...     round(float(bound(line, square)), 4)
    ...     for bound in (gw.bounds.norm, gw.bounds.spectral)
    ... ]
    [0.0, 0.5858]
    """
    x, y = read_pair(x, y)
    require_memory(x, y, "spectral", 2 * (x.numbers_held + y.numbers_held))
    left, right = x.residual(), y.residual()
    return spectral_bound(
        moments(x, left), moments(y, right), left.spectrum(), right.spectrum()
    )


def spectral_bound(
    x: Moments,
    y: Moments,
    spectrum_x: Array,
    spectrum_y: Array,
    coupling: SortingCoupling | None = None,
) -> Array:
    """Theorem 4 from spectra (…, k) and (…, l), shape (…); ``coupling`` as in :func:`norm_bound`."""
    return _additive_part(x, y, coupling) + squared_distance_of_spectra(
        spectrum_x, spectrum_y
    )


def squared_distance_of_spectra(spectrum_x: Array, spectrum_y: Array) -> Array:
    """Return Σ (λ⁺ − μ⁺)² + Σ (λ⁻ − μ⁻)² of two spectra, positive and negative parts matched by rank, shape (…)."""
    xp = _array.namespace(spectrum_x, spectrum_y)
    length = max(spectrum_x.shape[-1], spectrum_y.shape[-1])
    # Padding by zeros completes the spectra: after sorting, equal ranks from either end
    # are matched.
    lam, mu = (
        xp.sort(_array.padded(values, length), axis=-1)
        for values in (spectrum_x, spectrum_y)
    )
    positive = xp.clip(lam, min=0.0) - xp.clip(mu, min=0.0)
    negative = xp.clip(lam, max=0.0) - xp.clip(mu, max=0.0)
    return xp.sum(positive**2, axis=-1) + xp.sum(negative**2, axis=-1)


def rank_one(x: Any, y: Any) -> Array:
    """Return GW_2² itself between inner products of numbers, C = h hᵀ and D = k kᵀ (theorem 12 f).

    Parameters
    ----------
    x, y : GramSpace
        Spaces of n and m atoms, each with a factor of one row: h of shape (1, n) and k
        of shape (1, m).

    Returns
    -------
    0-d array
        ‖C‖² + ‖D‖² − 2 max(Z₊², Z₋²) in squared units of C, Z₊ and Z₋ the largest and
        the least Σ π_ij h_i k_j over couplings. O(n log n).

    Raises
    ------
    ValueError
        If a space is no GramSpace with a factor of one row.

    Notes
    -----
    Attained by the coupling that sorts h and k alike, or h up and k down. Computed as
    (p − q)²/2 + W (p + q − W/2) with p = Σ a_i h_i², q = Σ b_j k_j² and W the lesser of
    W_2²(h, k) and W_2²(h, −k): no digits cancel where spaces nearly agree.

    Examples
    --------
    Numbers, and twice the same ones with the other sign and in another order: C and 4
    C, of distance 3 ‖C‖ with ‖C‖ = 14/3.

    >>> import numpy as np, gwtools as gw
    >>> x, y = (
    ...     gw.GramSpace(np.array([[1.0, 2.0, 3.0]])),
    ...     gw.GramSpace(np.array([[-4.0, -6.0, -2.0]])),
    ... )
    >>> round(float(gw.bounds.rank_one(x, y)), 10)
    196.0
    """
    x, y = read_pair(x, y)
    (h, k), (a, b) = (only_row(x, "x"), only_row(y, "y")), (x.weights, y.weights)
    sorted_alike, sorted_against = (
        wasserstein(h, a, k, b, 2.0),
        wasserstein(h, a, -k, b, 2.0),
    )
    least = sorted_alike if bool(sorted_alike <= sorted_against) else sorted_against
    p, q = a @ h**2, b @ k**2
    return (p - q) ** 2 / 2 + least * (p + q - least / 2)


def only_row(space: Space, name: str) -> Array:
    """Return the numbers h (n,) of a space C = h hᵀ."""
    _check_spaces.one_row(
        int(space.factor.shape[0]) if isinstance(space, GramSpace) else None,
        space,
        name,
    )
    return space.data[0, :]


def has_one_row(space: Space) -> bool:
    """Tell whether a space is given as C = h hᵀ."""
    return isinstance(space, GramSpace) and int(space.factor.shape[0]) == 1


def _additive_part(x: Moments, y: Moments, coupling: SortingCoupling | None) -> Array:
    """(m_C − m_D)² + 2 W_2²(α, β): what the additive parts alone cost."""
    if coupling is None:
        spread = wasserstein(x.deviations, x.weights, y.deviations, y.weights, 2.0)
    else:
        spread = cost(coupling, x.deviations, y.deviations, 2.0)
    return (x.mean - y.mean) ** 2 + 2 * spread
