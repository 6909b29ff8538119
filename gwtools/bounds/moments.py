"""Lower bounds from row means, eccentricities, norms and spectra of residuals.

Theorems 1, 3, 4 and 12 (f) of THEORY.md.
"""

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
    """What theorems 1 and 3 need of a space, or of a stack of B padded spaces.

    Atoms of weight 0 pad a stack, whose arrays have a leading axis.
    """

    weights: Array  # a, (…, n)
    row_means: Array  # f_C = C a, (…, n)
    deviations: Array  # α = f_C − m_C, (…, n)
    mean: Array  # m_C, (…)
    residual_norm_squared: Array  # ‖R‖², (…), in squared units of C


def moments(space: Space, residual: Residual | None = None) -> Moments:
    """Return the moments of a space or of a stack of spaces.

    Pass a ``residual`` that is at hand, so that it is not computed again.
    """
    norm_squared = (
        space.residual_norm_squared() if residual is None else residual.norm_squared()
    )
    return Moments(
        space.weights,
        space.row_means,
        space.deviations,
        space.mean,
        norm_squared,
    )


def row_means(
    x: Any,
    y: Any,
    p: float = 2.0,
) -> Array:
    """Return W_p^p between the row means of C and D, at most GW_p^p (theorem 1).

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

    Raises
    ------
    TypeError
        If x or y is neither a space nor an array of floating-point numbers, or they
        differ in array library, dtype or device.
    ValueError
        If an array is empty, not square, not symmetric or not finite, or p is no finite
        number of at least 1.

    Examples
    --------
    Distances and twice the same ones: the bound is GW_1 itself, as the identity attains
    it.

    >>> import numpy as np, gwtools as gw
    >>> C = np.array([[0.0, 1.0, 3.0], [1.0, 0.0, 2.0], [3.0, 2.0, 0.0]])
    >>> a = np.array([0.5, 0.25, 0.25])
    >>> float(gw.bounds.row_means(gw.DenseSpace(C, a), gw.DenseSpace(2 * C, a), p=1))
    1.25
    """
    x, y = read_pair(x, y, directed=True)
    _check.number(p, "p", least=1.0)
    return wasserstein(x.row_means, x.weights, y.row_means, y.weights, p)


def first(
    x: Any,
    y: Any,
    p: float = 2.0,
) -> Array:
    """Return W_p^p between p-eccentricities, Mémoli's first lower bound (theorem 1).

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

    Raises
    ------
    TypeError
        If x or y is neither a space nor an array of floating-point numbers, or they
        differ in array library, dtype or device.
    ValueError
        If an array is empty, not square, not symmetric or not finite, or p is no finite
        number of at least 1.

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
    x, y = read_pair(x, y, directed=True)
    _check.number(p, "p", least=1.0)
    s_C = eccentricities(x, p)  # (n,)
    s_D = eccentricities(y, p)
    return wasserstein(s_C, x.weights, s_D, y.weights, p)


def eccentricities(space: Space, p: float) -> Array:
    """Return (Σ_k a_k |C_ik|^p)^(1/p) for every atom, shape (…, n), in units of C."""
    sums = space.power_means(p)
    # The root is left out where it is the identity: its gradient at zero is none.
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

    Raises
    ------
    TypeError
        If x or y is neither a space nor an array of floating-point numbers, or they
        differ in array library, dtype or device.
    ValueError
        If an array is empty, not square, not symmetric or not finite.

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
    moments_x = moments(x)
    moments_y = moments(y)
    return norm_bound(moments_x, moments_y)


def norm_bound(
    x: Moments,
    y: Moments,
    coupling: SortingCoupling | None = None,
) -> Array:
    """Return the bound of theorem 3, shape (…).

    ``coupling`` is a sorting coupling of the deviations, if one is known.
    """
    norm_R = _array.root(x.residual_norm_squared)
    norm_S = _array.root(y.residual_norm_squared)
    gap = norm_R - norm_S
    return _additive_part(x, y, coupling) + gap**2


def spectral(x: Any, y: Any) -> Array:
    """Return the bound of sorted residual spectra, at most GW_2² (theorem 4).

    Never below :func:`norm`.

    Parameters
    ----------
    x, y : Space or square array
        Spaces of n and m atoms.

    Returns
    -------
    0-d array
        In squared units of C. O(n d²) for point clouds with squared distances and Gram
        spaces, else O(n³).

    Raises
    ------
    TypeError
        If x or y is neither a space nor an array of floating-point numbers, or they
        differ in array library, dtype or device.
    ValueError
        If an array is empty, not square, not symmetric or not finite.
    MemoryError
        If what the bound holds does not fit, before it is asked for.

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
    held = 2 * (x.numbers_held + y.numbers_held)
    require_memory(x, y, "spectral", held)
    # Each residual gives its norm and its spectrum.
    R = x.residual()
    S = y.residual()
    moments_x = moments(x, R)
    moments_y = moments(y, S)
    return spectral_bound(moments_x, moments_y, R.spectrum(), S.spectrum())


def spectral_bound(
    x: Moments,
    y: Moments,
    spectrum_x: Array,
    spectrum_y: Array,
    coupling: SortingCoupling | None = None,
) -> Array:
    """Return the bound of theorem 4 from spectra (…, k) and (…, l), shape (…).

    ``coupling`` is a sorting coupling of the deviations, if one is known.
    """
    additive = _additive_part(x, y, coupling)
    return additive + squared_distance_of_spectra(spectrum_x, spectrum_y)


def squared_distance_of_spectra(spectrum_x: Array, spectrum_y: Array) -> Array:
    """Return Σ (λ⁺ − μ⁺)² + Σ (λ⁻ − μ⁻)² of two spectra, shape (…).

    Positive and negative parts are matched by rank (theorem 4).
    """
    xp = _array.namespace(spectrum_x, spectrum_y)
    # 1. Zeros complete the spectra: after sorting, equal ranks from either end match.
    number_x = spectrum_x.shape[-1]
    number_y = spectrum_y.shape[-1]
    length = max(number_x, number_y)
    lam = _array.padded(spectrum_x, length)
    mu = _array.padded(spectrum_y, length)
    lam = xp.sort(lam, axis=-1)
    mu = xp.sort(mu, axis=-1)
    # 2. The differences of both parts, (…, max(k, l)).
    positive = xp.clip(lam, min=0.0) - xp.clip(mu, min=0.0)
    negative = xp.clip(lam, max=0.0) - xp.clip(mu, max=0.0)
    positive_sum = xp.sum(positive**2, axis=-1)
    negative_sum = xp.sum(negative**2, axis=-1)
    return positive_sum + negative_sum


def rank_one(x: Any, y: Any) -> Array:
    """Return GW_2² itself between inner products of numbers, C = h hᵀ and D = k kᵀ.

    Theorem 12 (f).

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
    TypeError
        If x or y is neither a space nor an array of floating-point numbers, or they
        differ in array library, dtype or device.
    ValueError
        If x or y is no GramSpace with a factor of one row.

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
    >>> x = gw.GramSpace(np.array([[1.0, 2.0, 3.0]]))
    >>> y = gw.GramSpace(np.array([[-4.0, -6.0, -2.0]]))
    >>> round(float(gw.bounds.rank_one(x, y)), 10)
    196.0
    """
    x, y = read_pair(x, y)
    h = only_row(x, "x")
    k = only_row(y, "y")
    a = x.weights
    b = y.weights
    # One of the two couplings that sort h and k is optimal.
    sorted_alike = wasserstein(h, a, k, b, 2.0)
    sorted_against = wasserstein(h, a, -k, b, 2.0)
    alike_is_best = bool(sorted_alike <= sorted_against)
    W = sorted_alike if alike_is_best else sorted_against
    # ‖C‖ and ‖D‖, in squared units of h.
    p = a @ h**2
    q = b @ k**2
    # p² + q² − 2 Z² with Z = (p + q − W)/2, the largest |Σ π_ij h_i k_j|.
    return (p - q) ** 2 / 2 + W * (p + q - W / 2)


def only_row(space: Space, name: str) -> Array:
    """Return the numbers h (n,) of a space C = h hᵀ."""
    _check_spaces.one_row(number_of_rows(space), space, name)
    return space.data[0, :]  # of the factor F of C = FᵀF


def has_one_row(space: Space) -> bool:
    """Tell whether a space is given as C = h hᵀ."""
    return number_of_rows(space) == 1


def number_of_rows(space: Space) -> int | None:
    """Return the number of rows of the factor of a Gram space, None for others."""
    if not isinstance(space, GramSpace):
        return None
    return int(space.factor.shape[0])


def _additive_part(
    x: Moments,
    y: Moments,
    coupling: SortingCoupling | None,
) -> Array:
    """Return (m_C − m_D)² + 2 W_2²(α, β): what the additive parts alone cost."""
    between = _between_deviations(x, y, coupling)
    gap = x.mean - y.mean
    return gap**2 + 2 * between


def _between_deviations(
    x: Moments,
    y: Moments,
    coupling: SortingCoupling | None,
) -> Array:
    """Return W_2²(α, β), shape (…)."""
    alpha = x.deviations
    beta = y.deviations
    # A coupling that is known saves the sorts.
    if coupling is not None:
        return cost(coupling, alpha, beta, 2.0)
    return wasserstein(alpha, x.weights, beta, y.weights, 2.0)
