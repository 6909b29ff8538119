"""Lower bounds of Gromov-Wasserstein distances, one function a theorem of THEORY.md.

Each returns the plain, differentiable value in the arrays' own dtype, in units of C to the power p; :func:`gwtools.certify`
takes the best of them and rounds it down.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gwtools import _array, _check, _check_spaces, _memory
from gwtools._array import Array
from gwtools.bounds import projected_quadratic as _convex
from gwtools.problems import Prepared, prepare, supported
from gwtools.spaces import GramSpace, Space, as_space, converted
from gwtools.transport.local_distributions import Centred, centred, transports
from gwtools.transport.programs import exact, line

# Numbers held at once by bounds that sort or couple all pairs, for each of the n² + m² pairs.
HELD_BY_PAIRS = 15.0


def _require_memory(x: Space, y: Space, name: str, numbers: float | None = None) -> None:
    """Refuse spaces of too many pairs, before anything is computed of them."""
    numbers = HELD_BY_PAIRS * (x.size**2 + y.size**2) if numbers is None else numbers
    _memory.require(numbers, (x.size, y.size), f"gwtools.bounds.{name}", x.weights)


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
    x, y = _spaces(x, y)
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
    x, y = _spaces(x, y)
    _require_memory(x, y, "spectral", 2 * (x.numbers_held + y.numbers_held))
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
    x, y = _spaces(x, y)
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


def second(x: Any, y: Any, p: float = 2.0) -> Array:
    """Return W_p^p between all values of C and all values of D, Mémoli's second lower bound (theorem 7).

    Parameters
    ----------
    x, y : Space or square array
        Spaces of n and m atoms.
    p : float
        Power of the distance, at least 1.

    Returns
    -------
    0-d array
        In units of C to the power p; at most :func:`third`. O(n² log n) time and O(n²) memory.
    """
    x, y = _spaces(x, y)
    _check.number(p, "p", least=1.0)
    _require_memory(x, y, "second")
    (C, a), (D, b) = (_pairs(converted(supported(s)[0], _array.at_least_single)) for s in (x, y))
    return _array.namespace(C).astype(line(C, a, D, b, p), x.weights.dtype, copy=False)


def _pairs(space: Space) -> tuple[Array, Array]:
    """Return all values of C and their weights a_i a_k, each of shape (n²,)."""
    xp, a = _array.namespace(space.weights), space.weights
    return xp.reshape(space.dense(), (-1,)), xp.reshape(a[:, None] * a[None, :], (-1,))


def third(x: Any, y: Any, p: float = 2.0, residual: bool = False) -> Array:
    """Return the least mean W_p^p between coupled rows of C and D, Mémoli's third lower bound (theorem 7).

    Parameters
    ----------
    x, y : Space or square array
        Spaces of n and m atoms.
    p : float
        Power of the distance, at least 1.
    residual : bool
        Split off means and row means and transport rows of R and S: (m_C − m_D)² + min E[2 (α_i − β_j)² + W_2²(R_i, S_j)],
        never below :func:`norm`; for p = 2 only. Neither version dominates the other.

    Returns
    -------
    0-d array
        In units of C to the power p. Computed in NumPy and float64 on the CPU; gradients do not pass. O(n m min(n, m)) for
        the costs, whose transports are exact and weighted, and one linear program solved to a proved value.

    Raises
    ------
    ValueError
        If ``residual`` is asked for with another p than 2.
    TypeError
        Within ``jax.grad``.
    """
    x, y = _spaces(x, y)
    _check.number(p, "p", least=1.0)
    _check.flag(residual, "residual")
    if residual:
        _check.choice(p, "p", (2,))
    _no_gradient(x, y, "bounds.third")
    _require_memory(x, y, "third")
    ready = prepare(x, y)
    left, right = _centred(ready)
    offset, costs = third_costs(left, right, p, residual)
    value = max(offset + exact(costs, left.weights, right.weights).lower, 0.0)
    return _rescaled(_array.from_numpy(np.asarray(value), ready.x.weights), ready.unit, p, x.weights)


def third_costs(x: Centred, y: Centred, p: float = 2.0, residual: bool = False) -> tuple[float, np.ndarray]:
    """Return a constant and the (n, m) costs of a linear program that together bound GW_p^p (theorem 7)."""
    if not residual:
        return 0.0, transports(x.matrix, x.weights, y.matrix, y.weights, p)
    rows = 2 * (x.deviations[:, None] - y.deviations) ** 2
    return (x.mean - y.mean) ** 2, rows + transports(x.residual, x.weights, y.residual, y.weights)


def convex(x: Any, y: Any, steps: int = 500, tolerance: float = 1e-3) -> Array:
    """Return the convex quadratic bound, mixed with both third bounds, at most GW_2² (theorem 10).

    Parameters
    ----------
    x, y : Space or square array
        Spaces of n and m atoms.
    steps : int
        Steps of the ascent at most; each costs a few n × m matrix products, and every tenth a linear program.
    tolerance : float
        Stop when fifty steps gained less than this share of the bound.

    Returns
    -------
    0-d array
        In squared units of C; a bound whenever the ascent stops, and never below :func:`third` of either kind. Computed in
        NumPy and float64 on the CPU; gradients do not pass.

    Raises
    ------
    TypeError
        Within ``jax.grad``.
    """
    x, y = _spaces(x, y)
    _check.integer(steps, "steps", least=0)
    _check.number(tolerance, "tolerance", least=0.0)
    _no_gradient(x, y, "bounds.convex")
    _require_memory(x, y, "convex")
    ready = prepare(x, y)
    left, right = _centred(ready)
    offset = (left.mean - right.mean) ** 2
    _, value = _convex.maximise(_convex.programme(left, right), steps=int(steps), tolerance=tolerance)
    value = max(offset + value, 0.0)
    return _rescaled(_array.from_numpy(np.asarray(value), ready.x.weights), ready.unit, 2.0, x.weights)


def _no_gradient(x: Space, y: Space, name: str) -> None:
    """Refuse spaces within ``jax.grad``, which would take a value computed in NumPy for a constant."""
    for space, side in ((x, "x"), (y, "y")):
        _check.untransformed((space.data, space.weights), side, name)


def _centred(ready: Prepared) -> tuple[Centred, Centred]:
    return centred(ready.x), centred(ready.y)


def _rescaled(value: Array, unit: float, p: float, like: Array) -> Array:
    """Undo the unit of prepared spaces, in two factors since unit^p alone may overflow, and return to their dtype."""
    half = unit ** (p / 2)
    return _array.namespace(like).astype(value * half * half, like.dtype, copy=False)


def _additive_part(x: Space, y: Space) -> Array:
    """(m_C − m_D)² + 2 W_2²(α, β): what the additive parts alone cost."""
    return (x.mean - y.mean) ** 2 + 2 * line(x.deviations, x.weights, y.deviations, y.weights, 2.0)


def _padded(ascending: Array, length: int, sign: int) -> Array:
    """Pad sorted eigenvalues of one sign with zeros on the side where they are small."""
    xp = _array.namespace(ascending)
    zeros = xp.zeros(length - ascending.shape[0], dtype=ascending.dtype, device=_array.device(ascending))
    return xp.concat([zeros, ascending] if sign > 0 else [ascending, zeros])
