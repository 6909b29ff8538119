"""Gram spaces: inner products C = FᵀF, given by the factor F."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self, final

from gwtools import _array, _check, _check_spaces
from gwtools._array import Array
from gwtools.spaces.base import Space, copy_unchecked, with_features_at
from gwtools.spaces.double_centering import LowRankForm


@final
@dataclass(frozen=True, eq=False, repr=False)
class GramSpace(Space):
    """A space of inner products C = FᵀF, given by its factor F.

    A kernel with explicit features is such a space, and so is a graph on logits.

    Parameters
    ----------
    factor : array of shape (t, n)
        F, one column for each atom; finite floating-point numbers, in the root of the
        units of C.
    weights : array of shape (n,), optional
        Probability weights; uniform by default. They also say which axis the atoms are
        on, see Warns.
    features : array of shape (n, d), optional, keyword only
        A feature vector of each atom, for :func:`gwtools.solve`, ``solve_batch`` and
        ``barycenter`` with ``alpha``; nothing else reads it.

    Raises
    ------
    TypeError
        If an argument is no array of an array-API library, does not hold floating-point
        numbers, or weights and factor differ in library, dtype or device.
    ValueError
        If the factor is empty, not of shape (t, n) or not finite, or the weights are
        negative, do not sum to 1 or do not match.

    Warns
    -----
    UserWarning
        If the factor has more rows than columns and no weights are given: features are
        often stored as (n, t), one row for each atom, which is the transpose. Weights,
        one for each column, leave no doubt; those that are uniform give the same space
        as none.

    Examples
    --------
    Four atoms with two features each, stored as rows; and two ranks of logits at three
    positions.

    >>> import numpy as np, gwtools as gw
    >>> features = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [2.0, 1.0]])
    >>> gw.GramSpace(features.T)
    GramSpace(size=4, numpy float64)
    >>> gw.GramSpace(
    ...     np.array([[3.0, 1.0], [2.0, 0.0], [4.0, 1.0]]), weights=np.full(2, 1 / 2)
    ... )
    GramSpace(size=2, numpy float64)
    """

    factor: Array
    weights: Array = None
    features: Array = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        factor = _check.array(self.factor, "factor", 2)
        _check_spaces.columns_are_atoms(factor, self.weights)
        n = factor.shape[1]
        weights = _check_spaces.weights(self.weights, factor, n)
        # The dataclass is frozen: its fields are set past it, here alone.
        object.__setattr__(self, "factor", factor)
        object.__setattr__(self, "weights", weights)
        features = _check_spaces.features(self.features, weights)
        object.__setattr__(self, "features", features)

    @property
    def data(self) -> Array:
        """The factor F."""
        return self.factor

    @property
    def sign(self) -> int:
        """1: centred inner products are positive semidefinite."""
        return 1

    @property
    def float_operations(self) -> int:
        """A sum of t products."""
        t = self.factor.shape[-2]
        return int(t)

    @cached_property
    def low_rank(self) -> LowRankForm | None:
        """The form with Gᵀ the centred columns of F."""
        a = self.weights
        # 1. Centre the columns: F = F̄ + μ1ᵀ.
        mean_column = _array.times(self.factor, a)  # μ, (t,)
        centred = self.factor - mean_column[..., None]  # F̄ = Gᵀ, (t, n)
        # 2. C = F̄ᵀF̄ + 1(F̄ᵀμ)ᵀ + (F̄ᵀμ)1ᵀ + |μ|²: the products with μ are α.
        products = _array.times(_array.transposed(centred), mean_column)  # (n,)
        # 3. The float error of μ leaves the products a mean, which is moved into m.
        offset = _array.dot(a, products)
        square = _array.dot(mean_column, mean_column)

        def columns(start: int, stop: int) -> Array:
            return centred[..., start:stop]

        return LowRankForm(
            a,
            mean=square + 2 * offset,
            deviations=products - offset[..., None],
            sign=1,
            rank=self.factor.shape[-2],
            columns=columns,
        )

    def rows(self, start: int, stop: int) -> Array:
        """Return rows ``start`` to ``stop`` of C, (stop − start, n), in units of C."""
        atoms = self.factor[..., start:stop]
        return _array.transposed(atoms) @ self.factor

    def _square_means(self, form: LowRankForm) -> Array:
        """Return Σ_k a_k C_ik² for every atom, shape (n,).

        With the columns f of F as given it is f_iᵀ (F diag(a) Fᵀ) f_i, in which nothing
        cancels: a column of zeros has 0, whose root would be far from it otherwise.
        """
        xp = _array.namespace(self.factor)
        weighted = self.factor * self.weights[..., None, :]
        moments = weighted @ _array.transposed(self.factor)  # (t, t)
        means = xp.sum((moments @ self.factor) * self.factor, axis=-2)
        # Means of squares, which float errors may bring below 0.
        return xp.clip(means, min=0.0)

    def largest(self) -> float:
        """Return an upper bound of max |C_ik|: the largest squared norm of a column.

        It is not 0 where the squares underflow.
        """
        return self._largest

    @cached_property
    def _largest(self) -> float:
        xp = _array.namespace(self.factor)
        factor = _array.detached(self.factor)
        t = factor.shape[0]
        # The unit is that of the entries: their squares may leave the range of floats.
        largest_entry = float(xp.max(xp.abs(factor)))
        unit = _array.power_of_four(largest_entry)
        scaled = _array.scaled(factor, 1 / unit)
        squared_norms = xp.sum(scaled**2, axis=0)  # (n,), in squared units
        bound = float(xp.max(squared_norms))
        # A sum of t squares has a relative float error of at most t + 1 roundings.
        bound *= 1 + 2 * t * _array.epsilon(factor)
        if not bound:
            return 0.0
        return math.nextafter(unit * bound * unit, math.inf)

    def extremes(self) -> tuple[float, float]:
        """Return bounds of the least and the largest inner product, in units of C."""
        # Cauchy-Schwarz: |⟨x, y⟩| is at most the larger of |x|² and |y|².
        largest = self.largest()
        return -largest, largest

    def with_data(self, data: Array, weights: Array) -> Self:
        """Return the space over another factor and weights, which are not checked."""
        return copy_unchecked(self, factor=data, weights=weights)

    def restrict(self, index: Array) -> Self:
        """Return the space over the atoms ``index``, which keep their weights."""
        xp = _array.namespace(self.factor)
        columns = xp.take(self.factor, index, axis=1)
        weights = xp.take(self.weights, index)
        space = self.with_data(columns, weights)
        return with_features_at(space, self.features, index)

    def scaled(self, factor: float) -> Self:
        """Return the space whose matrix is ``factor`` · C."""
        # F is in the root of the units of C.
        root = factor**0.5
        return self.with_data(_array.scaled(self.factor, root), self.weights)
