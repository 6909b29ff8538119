"""The certified value of theorem 16: a nested program less a positive tensor.

Notation of the theorem: ā_i are the exactly normalised weights, r_i and s_j the
computed roots of the stored ones, Q_ij = π_ij / (r_i s_j) of a coupling π, and Ξ_ijkl =
r_i s_j tensor_ijkl r_k s_l, so that Σ tensor π π = ⟨Q, Ξ Q⟩ without any rounding.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from gwtools._array import NumpyArray
from gwtools.bounds import float_error
from gwtools.bounds.certified import EnclosedParts, lower_by_root
from gwtools.bounds.float_error import Bound, gamma
from gwtools.bounds.moment_matrix import LARGEST, completed
from gwtools.bounds.nested_programs import (
    Multipliers,
    NestedBound,
    NestedProgram,
    in_range,
    solve,
)

# Tinier weights leave no room between their products and underflow.
_TINY = float_error.UNDERFLOW_OF_ROOTS


class NearBasis(NamedTuple):
    """A square matrix of nearly orthonormal columns, the first of them a vector."""

    vectors: NumpyArray  # U, (n, n); the first column is r as stored
    off: float  # ≥ ‖UᵀU − I‖
    missed: float  # ≥ ‖Σ_i u_ip ā_i / r_i‖ over the columns p ≥ 1


def proved(x: EnclosedParts, y: EnclosedParts, multipliers: Multipliers) -> Bound:
    """Theorem 16: the value that multipliers prove, whatever they are."""
    bound, _ = semidefinite(x, y, multipliers)
    return bound


def semidefinite(
    x: EnclosedParts,
    y: EnclosedParts,
    multipliers: Multipliers,
    deadline: float = math.inf,
) -> tuple[Bound, NestedBound | None]:
    """Theorem 16 for any multipliers, proved by the potentials of all programs.

    Parameters
    ----------
    x, y : EnclosedParts
        The spaces.
    multipliers : Multipliers
        Its tensor, if it has one, need not be positive: how far it is from that is
        taken off.

    deadline : float
        When to solve no more inner programs, by the clock of
        :func:`gwtools.history.now`.

    Returns
    -------
    Bound
        The value, and what is proved.
    NestedBound or None
        The programs' potentials and plans, with which the proof can be repeated; None
        where tiny weights take the multipliers out of the range of floats.
    """
    a = x.parts.weights
    b = y.parts.weights
    omega = float(max(x.radii.weights, y.radii.weights))
    if not in_range(multipliers, LARGEST):  # of tiny weights
        return Bound(0.0, 0.0), None
    # 1. What the tensor may take from Σ c π π.
    fall = 0.0
    if multipliers.tensor is not None:
        fall = tensor_fall(multipliers.tensor, a, b, omega)
    if fall == math.inf:
        return Bound(0.0, 0.0), None
    # 2. What the nested program proves of the rest.
    program = NestedProgram(x.parts, y.parts, omega, multipliers)
    nested = solve(program, deadline=deadline)
    # 3. Their sum, for the stored parts.
    mean_gap = x.parts.mean - y.parts.mean
    offset = mean_gap**2
    sizes = offset + abs(nested.lower) + fall
    lowered = offset + nested.lower - fall - gamma(10) * sizes
    # 4. Pass to the exact parts.
    radius = x.radii.root_radius() + y.radii.root_radius()
    lower = lower_by_root(lowered, radius)
    return Bound(offset + nested.value - fall, lower), nested


def tensor_fall(
    tensor: NumpyArray,
    a: NumpyArray,
    b: NumpyArray,
    omega: float,
) -> float:
    """Return a number that −Σ tensor_ijkl π_ij π_kl exceeds for no coupling π.

    It is at least 0, and infinite where nothing is proved.

    Parameters
    ----------
    tensor : numpy array of shape (n, m, n, m)
        Any numbers below 2^450.
    a, b : numpy arrays of shape (n,) and (m,)
        Stored weights.
    omega : float
        ω, the larger one of both weights.
    """
    n = len(a)
    m = len(b)
    r = np.sqrt(a)
    s = np.sqrt(b)
    product = np.outer(r, s)
    if product.min() < _TINY:
        return math.inf
    # 1. Ξ, and its norm with all float errors.
    xi = tensor * product[:, :, None, None]
    xi *= product
    norm = float(np.linalg.norm(xi))
    norm = 1.01 * norm * (1 + gamma(n * m)) + n * m * float_error.UNDERFLOW
    # 2. Bases of both sides, and how far their products are from orthonormal.
    side_x = near_basis(r, omega)
    side_y = near_basis(s, omega)
    if max(side_x.off, side_y.off) > 0.5:
        return math.inf
    off = side_x.off + side_y.off + side_x.off * side_y.off
    # 3. ‖Q‖ ≤ √min(n, m), and how far Q is from B Bᵀ Q, B the products kept.
    rank = min(n, m)
    largest = math.sqrt(rank * (1 + gamma(4 * omega + 24)))
    missed = side_x.missed + side_y.missed
    outside = off * largest + (1 + off) * missed
    crossed = norm * (2 * (1 + off) * largest * outside + outside**2)
    # 4. The least eigenvalue of Bᵀ Ξ B, by eigenpairs whose errors are bounded.
    least = _least_eigenvalue(xi, norm, side_x, side_y)
    below = max(0.0, -least) * (1 + off) * largest**2
    return float((crossed + below) * (1 + gamma(40)))


def near_basis(root: NumpyArray, omega: float) -> NearBasis:
    """Complete a vector r of roots of weights to a nearly orthonormal basis."""
    vectors = completed(root)
    n = len(root)
    gram = vectors.T @ vectors
    gram_error = 2 * n * gamma(n + 1)
    off = 1.01 * float(np.linalg.norm(gram - np.eye(n))) + gram_error
    # ā_i / r_i is r_i up to a factor and float error, and rᵀ u_p an entry of UᵀU.
    missed = off + (1 + off) * gamma(omega + 8)
    return NearBasis(vectors, off, missed)


def _least_eigenvalue(
    xi: NumpyArray,
    norm: float,
    side_x: NearBasis,
    side_y: NearBasis,
) -> float:
    """Return a number ≤ all eigenvalues of Bᵀ Ξ B, its symmetric part."""
    n = len(side_x.vectors)
    m = len(side_y.vectors)
    # 1. As computed. Four products, the entries of Ξ and the symmetric part: each sum
    #    is off by γ times the same sum of absolute values, and the norms of |U| and |V|
    #    are at most their Frobenius norms.
    whole = in_bases(xi, side_x.vectors, side_y.vectors)
    kept = kept_products(n, m)
    matrix = whole.reshape(n * m, n * m)[np.ix_(kept, kept)]
    matrix = (matrix + matrix.T) / 2
    squares = n * (1 + side_x.off) * m * (1 + side_y.off)
    product_error = gamma(2 * n + 2 * m + 16) * squares * norm
    # 2. Its eigenpairs.
    values, vectors = np.linalg.eigh(matrix)
    error, _ = float_error.eigenpair_error(matrix, values, vectors)
    return float(values.min() - error - product_error)


def in_bases(tensor: NumpyArray, U: NumpyArray, V: NumpyArray) -> NumpyArray:
    """Return (U ⊗ V)ᵀ tensor (U ⊗ V), shape (n, m, n, m)."""
    n, m, _, _ = tensor.shape
    of_l = tensor @ V
    of_kl = U.T @ of_l
    flat = of_kl.reshape(n, m, n * m)
    of_jkl = V.T @ flat
    of_all = U.T @ of_jkl.reshape(n, m * n * m)
    return np.asarray(of_all.reshape(n, m, n, m))


def kept_products(n: int, m: int) -> NumpyArray:
    """Return the places p m + q of the products that span V: both 0, or neither."""
    places = np.arange(n * m).reshape(n, m)
    return np.concatenate([places[0, :1], places[1:, 1:].ravel()])
