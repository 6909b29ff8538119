"""Double centering: the residual R of C without its mean and row means (theorem 2).

R is held as a matrix or, where C is of low rank, by a factor (THEORY.md, theorem 2).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import final

from gwtools import _array
from gwtools._array import Array

_BLOCK_ENTRIES = 2**17  # a block of a megabyte in float64


@dataclass(frozen=True, eq=False)
class LowRankForm:
    """The form C = m + α1ᵀ + 1αᵀ + sign · G Gᵀ with a factor G (n, t), Gᵀ a = 0.

    Squared distances and inner products have it. ``columns(i, j)`` makes columns i to j
    of Gᵀ; G itself is stored only if it is asked for.
    """

    weights: Array
    mean: Array
    deviations: Array
    sign: int
    rank: int
    columns: Callable[[int, int], Array]

    @property
    def size(self) -> int:
        """Number of atoms n."""
        return int(self.weights.shape[-1])

    @property
    def saves_work(self) -> bool:
        """Whether t ≤ n, so that products with G are cheaper than with R."""
        return self.rank <= self.size

    @property
    def additive(self) -> Array:
        """The vector u = α + m/2 of C = u1ᵀ + 1uᵀ + sign · G Gᵀ, shape (n,)."""
        half_mean = self.mean[..., None] / 2
        return self.deviations + half_mean

    def blocks(self) -> Iterator[Array]:
        """Yield blocks of columns of Gᵀ, each small enough for the cache."""
        for start, stop in column_blocks(self.size, self.rank):
            yield self.columns(start, stop)

    def largest(self) -> float:
        """Return a bound of max |R_ik|, in units of C."""
        xp = _array.namespace(self.weights)
        largest = []
        for block in self.blocks():
            squared_norms = xp.sum(block**2, axis=0)
            largest.append(float(xp.max(squared_norms)))
        # Cauchy-Schwarz: |R_ik| is at most the largest squared norm of a row of G. One
        # percent is more than the float error of the sums.
        return 1.01 * max(largest)

    @cached_property
    def factor(self) -> Array:
        """The matrix G, shape (n, t)."""
        blocks = list(self.blocks())
        return _array.transposed(_array.joined(blocks, axis=-1))

    @cached_property
    def covariance(self) -> Array:
        """The matrix Gᵀ diag(a) G, shape (t, t).

        Its eigenvalues are, up to the sign of R and up to zeros, those of
        diag(√a) R diag(√a).
        """
        total: Array = 0
        for start, stop in column_blocks(self.size, self.rank):
            block = self.columns(start, stop)  # (t, stop − start)
            weighted = block * self.weights[..., None, start:stop]
            total = total + weighted @ _array.transposed(block)
        return total


def column_blocks(size: int, height: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of columns that stay in the processor's cache together."""
    step = max(1, _BLOCK_ENTRIES // height)
    for start in range(0, size, step):
        stop = min(start + step, size)
        yield start, stop


@dataclass(frozen=True, eq=False)
class Residual(ABC):
    """The matrix R = C − m − α1ᵀ − 1αᵀ with its weights a, so that R a = 0."""

    weights: Array

    @property
    @abstractmethod
    def sign(self) -> int:
        """1 where R is known to be positive semidefinite, −1 where negative, else 0."""

    @abstractmethod
    def apply(self, values: Array) -> Array:
        """Return R @ values for values of shape (n, k)."""

    @abstractmethod
    def dense(self) -> Array:
        """Return the (n, n) matrix R."""

    @abstractmethod
    def block(self, index: Array) -> Array:
        """Return R at the rows and columns ``index`` (k,), shape (k, k)."""

    @abstractmethod
    def norm_squared(self) -> Array:
        """Return ‖R‖² = Σ a_i a_k R_ik², in squared units of C."""

    @abstractmethod
    def compact(self) -> Array:
        """Return diag(√a) R diag(√a), or a smaller matrix with its non-zero spectrum.

        The result is symmetric, of shape (k, k).
        """

    def spectrum(self) -> Array:
        """Return eigenvalues of diag(√a) R diag(√a), ascending: all but some zeros."""
        return _array.eigenvalues(self.compact())

    @abstractmethod
    def modes(self) -> tuple[Array, Array]:
        """Return the spectrum λ (k,), ascending, and weighted eigenvectors (n, k).

        They are √a ∘ u for the unit eigenvectors u of diag(√a) R diag(√a), directions
        in which masses are moved.
        """


@final
@dataclass(frozen=True, eq=False)
class DenseResidual(Residual):
    """A residual stored as its (n, n) matrix."""

    matrix: Array
    definite_sign: int = 0

    @property
    def sign(self) -> int:
        """The sign that the kind of space implies."""
        return self.definite_sign

    def apply(self, values: Array) -> Array:
        """Return R @ values for values of shape (n, k)."""
        return self.matrix @ values

    def dense(self) -> Array:
        """Return the (n, n) matrix R."""
        return self.matrix

    def block(self, index: Array) -> Array:
        """Return R at the rows and columns ``index`` (k,), shape (k, k)."""
        xp = _array.namespace(self.matrix)
        rows = xp.take(self.matrix, index, axis=0)
        return xp.take(rows, index, axis=1)

    def norm_squared(self) -> Array:
        """Return ‖R‖² = Σ a_i a_k R_ik², in squared units of C."""
        return self._norm_squared

    @cached_property
    def _norm_squared(self) -> Array:
        row_means = _array.times(self.matrix**2, self.weights)
        return _array.dot(self.weights, row_means)

    def compact(self) -> Array:
        """Return diag(√a) R diag(√a), shape (n, n)."""
        root = _array.root(self.weights)  # √a
        compact = root[..., :, None] * self.matrix
        # In place: a second matrix would double the memory at the peak.
        compact *= root[..., None, :]
        return compact

    def modes(self) -> tuple[Array, Array]:
        """Return all n eigenvalues and their weighted eigenvectors (n, n)."""
        xp = _array.namespace(self.matrix)
        values, vectors = xp.linalg.eigh(self.compact())
        root = _array.root(self.weights)  # √a
        return values, root[:, None] * vectors


@final
@dataclass(frozen=True, eq=False)
class LowRankResidual(Residual):
    """A residual R = sign · G Gᵀ, with G of shape (n, t) and Gᵀ a = 0."""

    form: LowRankForm

    @property
    def sign(self) -> int:
        """The sign of the product: 1 for inner products, −1 for squared distances."""
        return self.form.sign

    @property
    def factor(self) -> Array:
        """The matrix G, shape (n, t)."""
        return self.form.factor

    def apply(self, values: Array) -> Array:
        """Return R @ values for values of shape (n, k)."""
        products = self.factor.T @ values  # (t, k)
        return self.sign * (self.factor @ products)

    def dense(self) -> Array:
        """Return the (n, n) matrix R."""
        factor = self.factor
        return self.sign * (factor @ _array.transposed(factor))

    def block(self, index: Array) -> Array:
        """Return R at the rows and columns ``index`` (k,), shape (k, k)."""
        xp = _array.namespace(self.factor)
        rows = xp.take(self.factor, index, axis=0)
        return self.sign * (rows @ rows.T)

    def norm_squared(self) -> Array:
        """Return ‖R‖² = Σ a_i a_k R_ik² = ‖Gᵀ diag(a) G‖², in squared units of C."""
        xp = _array.namespace(self.weights)
        squares = self.form.covariance**2
        return xp.sum(squares, axis=(-2, -1))

    def compact(self) -> Array:
        """Return sign · Gᵀ diag(a) G, shape (t, t)."""
        return self.sign * self.form.covariance

    def modes(self) -> tuple[Array, Array]:
        """Return the t eigenvalues that can be non-zero and weighted vectors (n, t).

        The vectors of eigenvalues that are zero are not defined.
        """
        xp = _array.namespace(self.factor)
        # With v a unit eigenvector of Gᵀ diag(a) G for λ > 0, √a ∘ G v has the norm √λ
        # and is an eigenvector of diag(√a) G Gᵀ diag(√a).
        values, vectors = xp.linalg.eigh(self.form.covariance)
        least = xp.finfo(values.dtype).smallest_normal
        norms = xp.sqrt(xp.clip(values, min=least))
        products = self.factor @ vectors  # G v, (n, t)
        # √a ∘ u for u = √a ∘ G v / √λ: both roots of a make a.
        modes = self.weights[:, None] * products / norms[None, :]
        if self.sign > 0:
            return values, modes
        # The eigenvalues of −G Gᵀ, in ascending order again.
        return -xp.flip(values), xp.flip(modes, axis=1)
