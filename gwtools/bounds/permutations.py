"""The spectral bound over permutations, where diagonals meet diagonals alone.

THEORY.md, "Permutations".
"""

from __future__ import annotations

from typing import Any, NamedTuple

from scipy.optimize import linear_sum_assignment

from gwtools import _array, _check_spaces
from gwtools._array import Array
from gwtools.bounds.arguments import read_pair
from gwtools.bounds.memory import require_memory


class _Split(NamedTuple):
    """C = m + u1ᵀ + 1uᵀ + R, and for its diagonal a list of numbers of its own.

    R has no row sums. With ``apart``, all this is of the entries beside the diagonal,
    the diagonal of R is 0, and ``diagonal`` is that of C; else it is 0.
    """

    mean: Array  # m
    deviations: Array  # u, (n,)
    diagonal: Array  # (n,)
    residual: Array  # R, (n, n)


def permutation_spectral(x: Any, y: Any) -> Array:
    """Return a lower bound over PERMUTATIONS alone, not over couplings.

    No bijection of the atoms has an objective below this, but couplings may: it is no
    bound of GW_2², and :func:`gwtools.certify` never uses it. Use it for quadratic
    assignment, Σ (C_ik − D_σ(i)σ(k))² / n².

    Parameters
    ----------
    x, y : Space or square array
        Spaces of n atoms each, all of weight 1/n.

    Returns
    -------
    0-d array
        In squared units of C; never below :func:`spectral`. O(n³).

    Raises
    ------
    TypeError
        If x or y is neither a space nor an array of floating-point numbers, or they
        differ in array library, dtype or device.
    ValueError
        If an array is empty, not square, not symmetric or not finite, or the spaces
        differ in their numbers of atoms, or weights are not all equal.
    MemoryError
        If what the bound holds does not fit, before it is asked for.

    Notes
    -----
    The projection bound of Hadley, Rendl and Wolkowicz [1]_, with a shift of the
    diagonals: a bijection takes the diagonal of C to that of D, so that both are a cost
    of single atoms, as are the row means of all other entries. One linear assignment
    bounds these, and what is left, with neither diagonal nor row sums, is bounded by
    its eigenvalues. The same without the shift is sometimes larger: the larger one is
    returned.

    References
    ----------
    .. [1] S. W. Hadley, F. Rendl and H. Wolkowicz, A new lower bound via projection for
       the quadratic assignment problem, Mathematics of Operations Research 17 (1992).
       https://doi.org/10.1287/moor.17.3.727

    Examples
    --------
    C = I has its ones where D = 1 − I has none: both bijections have the objective 1,
    the product coupling has 1/2.

    >>> import numpy as np, gwtools as gw
    >>> C, D = np.eye(2), 1 - np.eye(2)
    >>> product = gw.GWProblem(gw.as_space(C), gw.as_space(D)).product_objective
    >>> round(float(gw.bounds.permutation_spectral(C, D)), 12), round(product, 12)
    (1.0, 0.5)
    """
    x, y = read_pair(x, y)
    _check_spaces.permutable(x, y)
    n = x.size
    require_memory(x, y, "permutation_spectral", 16.0 * n * n)
    C = x.dense()
    D = y.dense()
    # 1. The projection bound as it is.
    plain = _bound(_split(C), _split(D), n * n, 2 * n, n)
    # 2. The same with the diagonals taken off.
    beside = n * (n - 1)
    weight = max(2 * (n - 2), 0)
    shifted = _bound(_split_apart(C), _split_apart(D), beside, weight, n)
    xp = _array.namespace(plain)
    return xp.maximum(plain, shifted)


def _split(C: Array) -> _Split:
    """Split a matrix (n, n) into its mean, row means and what is left (theorem 2)."""
    xp = _array.namespace(C)
    row_means = xp.mean(C, axis=1)
    mean = xp.mean(row_means)
    deviations = row_means - mean
    residual = C - mean - deviations[:, None] - deviations[None, :]
    return _Split(mean, deviations, xp.zeros_like(row_means), residual)


def _split_apart(C: Array) -> _Split:
    """Split the entries beside the diagonal in this way, and the diagonal off."""
    xp = _array.namespace(C)
    n = C.shape[0]
    device = _array.device(C)
    beside = 1 - xp.eye(n, dtype=C.dtype, device=device)  # 0 on the diagonal
    diagonal = xp.linalg.diagonal(C)
    row_sums = xp.sum(C * beside, axis=1)
    # A single pair of atoms has one entry beside the diagonal: it is the mean.
    mean = xp.mean(row_sums) / max(n - 1, 1)
    deviations = (row_sums - (n - 1) * mean) / max(n - 2, 1)
    residual = C - mean - deviations[:, None] - deviations[None, :]
    return _Split(mean, deviations, diagonal, residual * beside)


def _bound(x: _Split, y: _Split, pairs: int, weight: float, n: int) -> Array:
    """Bound Σ (C_ik − D_σ(i)σ(k))² / n² over bijections σ, part by part.

    That sum is ``pairs`` (m_C − m_D)² + Σ_i (c_i − d_σ(i))² + ``weight`` Σ_i (u_i −
    v_σ(i))² + Σ_ik (R_ik − S_σ(i)σ(k))².
    """
    of_means = pairs * (x.mean - y.mean) ** 2
    of_atoms = _least_assignment(x, y, weight)
    of_residuals = _between_spectra(x.residual, y.residual)
    # Factor by factor, as the square of n may be no number in half precision.
    return (of_means + of_atoms + of_residuals) / n / n


def _least_assignment(x: _Split, y: _Split, weight: float) -> Array:
    """Return the least Σ_i (c_i − d_σ(i))² + weight (u_i − v_σ(i))² over bijections."""
    between_diagonals = x.diagonal[:, None] - y.diagonal[None, :]  # (n, n)
    between_deviations = x.deviations[:, None] - y.deviations[None, :]
    costs = between_diagonals**2 + weight * between_deviations**2
    # The assignment has no gradient, and needs none: a minimum has that of its costs.
    _, images = linear_sum_assignment(_array.to_numpy(costs))
    positions = _array.from_numpy(images, x.deviations)
    xp = _array.namespace(costs)
    chosen = xp.take_along_axis(costs, positions[:, None], axis=1)
    return xp.sum(chosen)


def _between_spectra(R: Array, S: Array) -> Array:
    """Bound Σ_ik (R_ik − S_σ(i)σ(k))² by the spectra, sorted alike.

    Bijections are orthogonal, keep the direction of ones, and keep its complement.
    """
    n = R.shape[0]
    if n == 1:
        return R[0, 0] * 0
    V = _complement_of_ones(R)  # (n, n − 1)
    lam = _array.eigenvalues(V.T @ R @ V)
    mu = _array.eigenvalues(V.T @ S @ V)
    xp = _array.namespace(lam)
    return xp.sum((lam - mu) ** 2)


def _complement_of_ones(like: Array) -> Array:
    """Return an orthonormal basis (n, n − 1) of the vectors without sum."""
    xp = _array.namespace(like)
    device = _array.device(like)
    n = like.shape[0]
    first_row = xp.full((1, n - 1), -(n**-0.5), dtype=like.dtype, device=device)
    identity = xp.eye(n - 1, dtype=like.dtype, device=device)
    others = identity - 1 / (n + n**0.5)
    return xp.concat([first_row, others], axis=0)
