"""The doubly centred residual R of a space: what is left of C when its additive part is taken away (THEORY.md, theorem 2)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

from gwtools import _array
from gwtools._array import Array


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
    def norm_squared(self) -> Array:
        """Return ‖R‖² = Σ a_i a_k R_ik², in squared units of C."""

    @abstractmethod
    def spectrum(self) -> Array:
        """Return the eigenvalues of diag(√a) R diag(√a) in ascending order; those left out are zero."""

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
        """What the space told of it."""
        return self.definite_sign

    def apply(self, values: Array) -> Array:
        """Return R @ values for values of shape (n, k)."""
        return self.matrix @ values

    def dense(self) -> Array:
        """Return the (n, n) matrix R."""
        return self.matrix

    def norm_squared(self) -> Array:
        """Return ‖R‖² = Σ a_i a_k R_ik², in squared units of C."""
        return self.weights @ (self.matrix**2 @ self.weights)

    def spectrum(self) -> Array:
        """Return the n eigenvalues of diag(√a) R diag(√a) in ascending order."""
        xp = _array.namespace(self.matrix)
        root = xp.sqrt(self.weights)
        return xp.linalg.eigvalsh(root[:, None] * self.matrix * root[None, :])

    def modes(self) -> tuple[Array, Array]:
        """Return all n eigenvalues and their weighted eigenvectors (n, n)."""
        xp = _array.namespace(self.matrix)
        root = xp.sqrt(self.weights)
        values, vectors = xp.linalg.eigh(root[:, None] * self.matrix * root[None, :])
        return values, root[:, None] * vectors


@final
@dataclass(frozen=True, eq=False)
class LowRankResidual(Residual):
    """A residual R = sign · G Gᵀ of a space of inner products, with G of shape (n, t) and Gᵀ a = 0."""

    factor: Array
    definite_sign: int

    @property
    def sign(self) -> int:
        """The sign of the product: 1 for inner products, −1 for squared distances."""
        return self.definite_sign

    def apply(self, values: Array) -> Array:
        """Return R @ values for values of shape (n, k)."""
        return self.definite_sign * (self.factor @ (self.factor.T @ values))

    def dense(self) -> Array:
        """Return the (n, n) matrix R."""
        return self.definite_sign * (self.factor @ self.factor.T)

    def _covariance(self) -> Array:
        return self.factor.T @ (self.weights[:, None] * self.factor)

    def norm_squared(self) -> Array:
        """Return ‖R‖² = Σ a_i a_k R_ik² = ‖Gᵀ diag(a) G‖², in squared units of C."""
        return _array.namespace(self.factor).sum(self._covariance() ** 2)

    def spectrum(self) -> Array:
        """Return the t eigenvalues that can be non-zero, in ascending order."""
        values = self.definite_sign * _array.namespace(self.factor).linalg.eigvalsh(self._covariance())
        return values if self.definite_sign > 0 else _array.namespace(values).flip(values)

    def modes(self) -> tuple[Array, Array]:
        """Return the t eigenvalues that can be non-zero and their weighted eigenvectors (n, t); zero ones have none."""
        xp = _array.namespace(self.factor)
        values, vectors = xp.linalg.eigh(self._covariance())
        lengths = xp.sqrt(xp.clip(values, min=xp.finfo(values.dtype).smallest_normal))
        modes = self.weights[:, None] * (self.factor @ vectors) / lengths[None, :]
        if self.definite_sign > 0:
            return values, modes
        return -xp.flip(values), xp.flip(modes, axis=1)
