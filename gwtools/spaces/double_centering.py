"""Double centering: the residual R of C without its mean and row means, dense or of low rank (THEORY.md, theorem 2)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import final

from gwtools import _array
from gwtools._array import Array

_BLOCK_ENTRIES = 2**17


@dataclass(frozen=True, eq=False)
class LowRankForm:
    """The form C = m + α1ᵀ + 1αᵀ + sign · G Gᵀ with G (n, t) and Gᵀ a = 0, of squared distances and of inner products.

    ``columns(i, j)`` makes columns i to j of Gᵀ; G itself is stored only if it is asked
    for.
    """

    weights: Array
    mean: Array
    deviations: Array
    sign: int
    rank: int
    columns: Callable[[int, int], Array]

    @property
    def saves_work(self) -> bool:
        """Whether G has no more columns than rows, so that products with it are cheaper than with R."""
        return self.rank <= int(self.weights.shape[-1])

    @property
    def additive(self) -> Array:
        """The vector u = α + m/2 of C = u1ᵀ + 1uᵀ + sign · G Gᵀ, shape (n,)."""
        return self.deviations + self.mean[..., None] / 2

    def largest(self) -> float:
        """Return a bound of max |R_ik|: the largest squared norm of a row of G, in units of C."""
        xp, n = _array.namespace(self.weights), int(self.weights.shape[-1])
        blocks = column_blocks(n, self.rank)
        return 1.01 * max(
            float(xp.max(xp.sum(self.columns(i, j) ** 2, axis=0))) for i, j in blocks
        )

    @cached_property
    def factor(self) -> Array:
        """The matrix G, shape (n, t)."""
        parts = [
            self.columns(i, j)
            for i, j in column_blocks(int(self.weights.shape[-1]), self.rank)
        ]
        return _array.transposed(_array.joined(parts, axis=-1))

    @cached_property
    def covariance(self) -> Array:
        """The matrix Gᵀ diag(a) G, shape (t, t), whose eigenvalues are those of diag(√a) R diag(√a) but for sign and zeros."""
        total: Array = 0
        for i, j in column_blocks(int(self.weights.shape[-1]), self.rank):
            part = self.columns(i, j)
            total = total + (part * self.weights[..., None, i:j]) @ _array.transposed(
                part
            )
        return total


def column_blocks(size: int, height: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of columns that stay in the processor's cache together."""
    step = max(1, _BLOCK_ENTRIES // height)
    for start in range(0, size, step):
        yield start, min(start + step, size)


@dataclass(frozen=True, eq=False)
class Residual(ABC):
    """The matrix R = C − m − α1ᵀ − 1αᵀ with its weights a, so that R a = 0."""

    weights: Array

    @property
    @abstractmethod
    def sign(self) -> int:
        """1 where R is known to be positive semidefinite, −1 where negative, 0 where nothing is known."""

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
        """Return diag(√a) R diag(√a), or a smaller symmetric matrix (k, k) with the same eigenvalues but for zeros."""

    def spectrum(self) -> Array:
        """Return the eigenvalues of diag(√a) R diag(√a) in ascending order; those left out are zero."""
        return _array.eigenvalues(self.compact())

    @abstractmethod
    def modes(self) -> tuple[Array, Array]:
        """Return eigenvalues λ (k,) in ascending order and the vectors √a ∘ u (n, k) of their unit eigenvectors u."""


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
        take = _array.namespace(self.matrix).take
        return take(take(self.matrix, index, axis=0), index, axis=1)

    def norm_squared(self) -> Array:
        """Return ‖R‖² = Σ a_i a_k R_ik², in squared units of C."""
        return self._norm_squared

    @cached_property
    def _norm_squared(self) -> Array:
        return _array.dot(self.weights, _array.times(self.matrix**2, self.weights))

    def compact(self) -> Array:
        """Return diag(√a) R diag(√a), shape (n, n)."""
        root = _array.root(self.weights)
        compact = root[..., :, None] * self.matrix
        compact *= root[..., None, :]
        return compact

    def modes(self) -> tuple[Array, Array]:
        """Return all n eigenvalues and their weighted eigenvectors (n, n)."""
        values, vectors = _array.namespace(self.matrix).linalg.eigh(self.compact())
        return values, _array.root(self.weights)[:, None] * vectors


@final
@dataclass(frozen=True, eq=False)
class LowRankResidual(Residual):
    """A residual R = sign · G Gᵀ of a space of inner products, with G of shape (n, t) and Gᵀ a = 0."""

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
        return self.sign * (self.factor @ (self.factor.T @ values))

    def dense(self) -> Array:
        """Return the (n, n) matrix R."""
        return self.sign * (self.factor @ _array.transposed(self.factor))

    def block(self, index: Array) -> Array:
        """Return R at the rows and columns ``index`` (k,), shape (k, k)."""
        factor = _array.namespace(self.factor).take(self.factor, index, axis=0)
        return self.sign * (factor @ factor.T)

    def norm_squared(self) -> Array:
        """Return ‖R‖² = Σ a_i a_k R_ik² = ‖Gᵀ diag(a) G‖², in squared units of C."""
        return _array.namespace(self.weights).sum(
            self.form.covariance**2, axis=(-2, -1)
        )

    def compact(self) -> Array:
        """Return sign · Gᵀ diag(a) G, shape (t, t)."""
        return self.sign * self.form.covariance

    def modes(self) -> tuple[Array, Array]:
        """Return the t eigenvalues that can be non-zero and their weighted eigenvectors (n, t); zero ones have none."""
        xp = _array.namespace(self.factor)
        values, vectors = xp.linalg.eigh(self.form.covariance)
        lengths = xp.sqrt(xp.clip(values, min=xp.finfo(values.dtype).smallest_normal))
        modes = self.weights[:, None] * (self.factor @ vectors) / lengths[None, :]
        if self.sign > 0:
            return values, modes
        return -xp.flip(values), xp.flip(modes, axis=1)
