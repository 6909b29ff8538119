"""Spaces as one stack of arrays, in their own form; padding atoms carry no weight."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

from gwtools import _array
from gwtools._array import Array

_CPU_ENTRIES, _DEVICE_ENTRIES = 2**16, 2**24


@dataclass(frozen=True, eq=False)
class Stack(ABC):
    """B spaces of N atoms as arrays; each quantity is that of :class:`gwtools.Space`, with one more axis in front.

    Padding atoms have weight zero, so that no mean, norm or transport sees them.
    """

    weights: Array

    @property
    @abstractmethod
    def matrix(self) -> Array:
        """C, shape (B, N, N), in units of C."""

    @property
    def shape(self) -> tuple[int, int]:
        """Number of spaces and of padded atoms (B, N)."""
        count, size = self.weights.shape
        return count, size

    @cached_property
    def row_means(self) -> Array:
        """f_C = C a, shape (B, N), in units of C."""
        return self.averaged(self.matrix)

    @cached_property
    def mean(self) -> Array:
        """m_C = aᵀ C a, shape (B,), in units of C."""
        return dot(self.weights, self.row_means)

    @cached_property
    def deviations(self) -> Array:
        """α = f_C − m_C, shape (B, N), in units of C."""
        return self.row_means - self.mean[:, None]

    @cached_property
    def residual(self) -> Array:
        """R = C − m − α1ᵀ − 1αᵀ, shape (B, N, N), in units of C; of no meaning at padding atoms."""
        alpha = self.deviations
        residual = self.matrix - alpha[:, :, None]
        residual -= (alpha + self.mean[:, None])[:, None, :]
        return residual

    @cached_property
    def residual_norm_squared(self) -> Array:
        """‖R‖² = Σ a_i a_k R_ik², shape (B,), in squared units of C."""
        return dot(self.weights, self.averaged(self.residual**2))

    @property
    def extremes(self) -> tuple[Array, Array]:
        """Least and largest C_ik, each of shape (B,), in units of C."""
        xp, axes = _array.namespace(self.matrix), (1, 2)
        return xp.min(self.matrix, axis=axes), xp.max(self.matrix, axis=axes)

    @property
    def skew(self) -> Array:
        """Largest |C_ik − C_ki|, shape (B,), in units of C."""
        # Each difference stands there with both signs.
        return _array.namespace(self.matrix).max(self.matrix - transposed(self.matrix), axis=(1, 2))

    def averaged(self, matrix: Array) -> Array:
        """Return the weighted means of the rows of a (B, N, N) array, shape (B, N)."""
        return (matrix @ self.weights[:, :, None])[:, :, 0]

    def power_means(self, p: float) -> Array:
        """Return Σ_k a_k |C_ik|^p, shape (B, N), in units of C to the power p."""
        return self.averaged(_array.namespace(self.matrix).abs(self.matrix) ** p)

    @property
    def compact(self) -> Array:
        """diag(√a) R diag(√a), or smaller symmetric matrices with the same eigenvalues but for zeros, shape (B, k, k)."""
        root = _array.root(self.weights)
        compact = root[:, :, None] * self.residual
        compact *= root[:, None, :]
        return compact


@final
@dataclass(frozen=True, eq=False)
class DenseStack(Stack):
    """Spaces given by their matrices (B, N, N); padding rows are zero."""

    matrix: Array = None


@dataclass(frozen=True, eq=False)
class LowRankStack(Stack):
    """Spaces C = m + α1ᵀ + 1αᵀ + sign · GᵀG with G (B, t, N) and G a = 0."""

    @property
    @abstractmethod
    def factor(self) -> Array:
        """G, shape (B, t, N)."""

    @property
    @abstractmethod
    def sign(self) -> int:
        """1 for inner products, −1 for squared distances."""

    @cached_property
    def matrix(self) -> Array:
        """C, shape (B, N, N), in units of C."""
        alpha = self.deviations
        return self.residual + alpha[:, :, None] + (alpha + self.mean[:, None])[:, None, :]

    @cached_property
    def residual(self) -> Array:
        """R = sign · GᵀG, shape (B, N, N), in units of C."""
        return self.sign * (transposed(self.factor) @ self.factor)

    @property
    def saves_work(self) -> bool:
        """Whether G has no more rows than columns, so that its covariance is the smaller matrix."""
        return bool(self.factor.shape[1] <= self.factor.shape[2])

    @cached_property
    def covariance(self) -> Array:
        """G diag(a) Gᵀ, shape (B, t, t), whose eigenvalues are those of diag(√a) R diag(√a) but for sign and zeros."""
        return (self.factor * self.weights[:, None, :]) @ transposed(self.factor)

    @cached_property
    def residual_norm_squared(self) -> Array:
        """‖R‖² = ‖G diag(a) Gᵀ‖², shape (B,), in squared units of C."""
        if not self.saves_work:
            return dot(self.weights, self.averaged(self.residual**2))
        return _array.namespace(self.weights).sum(self.covariance**2, axis=(1, 2))

    @property
    def compact(self) -> Array:
        """The covariance with its sign, or diag(√a) R diag(√a) where that is smaller."""
        return self.sign * self.covariance if self.saves_work else super().compact


@final
@dataclass(frozen=True, eq=False)
class GramStack(LowRankStack):
    """Spaces C = FᵀF given by their factors (B, t, N)."""

    factors: Array

    @property
    def sign(self) -> int:
        """1: inner products."""
        return 1

    @cached_property
    def _centre(self) -> Array:
        """The mean columns F a, shape (B, t)."""
        return (self.factors @ self.weights[:, :, None])[:, :, 0]

    @cached_property
    def factor(self) -> Array:
        """F less its mean column, shape (B, t, N)."""
        return self.factors - self._centre[:, :, None]

    @cached_property
    def row_means(self) -> Array:
        """f_C = Fᵀ(F a), shape (B, N), in units of C."""
        return (self._centre[:, None, :] @ self.factors)[:, 0, :]

    @cached_property
    def _shift(self) -> Array:
        return (self._centre[:, None, :] @ self.factor)[:, 0, :]

    @cached_property
    def _offset(self) -> Array:
        """The mean of the shifts: not quite 0, as the mean column is exact up to rounding only."""
        return dot(self.weights, self._shift)

    @cached_property
    def mean(self) -> Array:
        """m_C = |F a|², shape (B,), in units of C."""
        return dot(self._centre, self._centre) + 2 * self._offset

    @cached_property
    def deviations(self) -> Array:
        """α, the products of the mean column with the centred ones, shape (B, N), in units of C."""
        return self._shift - self._offset[:, None]


@final
@dataclass(frozen=True, eq=False)
class CloudStack(LowRankStack):
    """Clouds with squared distances given by their points (B, N, d)."""

    points: Array

    @property
    def sign(self) -> int:
        """−1: squared distances are of negative type."""
        return -1

    @cached_property
    def _centred(self) -> Array:
        about = self.points - self.points[:, :1, :]
        return about - self.weights[:, None, :] @ about

    @cached_property
    def _squares(self) -> Array:
        return dot(self._centred, self._centred)

    @cached_property
    def factor(self) -> Array:
        """√2 times the centred points, shape (B, d, N)."""
        return 2.0**0.5 * transposed(self._centred)

    @cached_property
    def mean(self) -> Array:
        """m_C, twice the mean square about the centre, shape (B,), in units of C."""
        return 2 * dot(self.weights, self._squares)

    @cached_property
    def deviations(self) -> Array:
        """α, the squares about the centre less their mean, shape (B, N), in units of C."""
        return self._squares - self.mean[:, None] / 2

    @cached_property
    def row_means(self) -> Array:
        """f_C = α + m, shape (B, N), in units of C."""
        return self.deviations + self.mean[:, None]


def finite(matrices: Array) -> Array:
    """Return matrices (B, k, k) with zeros for each that is not finite: it would spoil the eigenvalues of its stack."""
    xp = _array.namespace(matrices)
    usable = xp.all(xp.isfinite(matrices), axis=(1, 2), keepdims=True)
    return matrices if bool(xp.all(usable)) else xp.where(usable, matrices, xp.zeros_like(matrices))


def block_entries(like: Array, on_cpu: int = _CPU_ENTRIES) -> int:
    """Return how many entries arrays should have that are passed over several times: on a CPU, as its cache holds."""
    return on_cpu if _array.on_cpu(like) else _DEVICE_ENTRIES


def transposed(matrix: Array) -> Array:
    """Transpose the matrices of a (B, N, M) array."""
    return _array.namespace(matrix).permute_dims(matrix, (0, 2, 1))


def dot(first: Array, second: Array) -> Array:
    """Return the inner products of the rows of two (B, K) arrays, shape (B,)."""
    return _array.namespace(first, second).vecdot(first, second)


def objective(xs: Sequence[Array], ys: Sequence[Array], rows: Array, cols: Array, mass: Array) -> Array:
    """Return Σ (C_ik − D_jl)² π_ij π_kl of sparse couplings, shape (B,), as a sum of squares in which nothing cancels.

    Parameters
    ----------
    xs, ys : sequences of B arrays of shape (n, n) and (m, m)
        Matrices of any sizes.
    rows, cols, mass : arrays of shape (B, K)
        Atoms of the couplings; those without mass come last and name atom 0.
    """
    xp = _array.namespace(mass)
    if _array.library(mass) == "numpy":
        # NumPy's calls cost less than passes over more arrays.
        counts = xp.count_nonzero(mass, axis=1).tolist()
        problems = zip(xs, ys, rows, cols, mass, counts, strict=True)
        return xp.stack([_objective(x, y, i[:k], j[:k], m[:k]) for x, y, i, j, m, k in problems])
    apart = _submatrices(xs, rows) - _submatrices(ys, cols)
    return dot(mass, ((apart * apart) @ mass[:, :, None])[:, :, 0])


def _objective(x: Array, y: Array, rows: Array, cols: Array, mass: Array) -> Array:
    """Return one objective of :func:`objective`, in NumPy."""
    apart = x.take(rows, axis=1).take(rows, axis=0)
    apart -= y.take(cols, axis=1).take(cols, axis=0)
    apart *= apart
    return mass @ (apart @ mass)


def _submatrices(matrices: Sequence[Array], index: Array) -> Array:
    """Return C[index, index] for each matrix, shape (B, K, K), by whole rows: matrices are symmetric."""
    xp, (count, width), size = _array.namespace(index), index.shape, max(m.shape[0] for m in matrices)
    flat = xp.reshape(index + size * xp.arange(count, device=_array.device(index))[:, None], (-1,))
    rows = xp.take(xp.reshape(_array.stacked(matrices, size), (count * size, size)), flat, axis=0)
    rows = xp.permute_dims(xp.reshape(rows, (count, width, size)), (0, 2, 1))
    return xp.reshape(xp.take(xp.reshape(rows, (count * size, width)), flat, axis=0), (count, width, width))
