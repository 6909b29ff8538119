"""Gram spaces: inner products C = FᵀF, given by the factor F."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Self, final

from gwtools import _array, _check, _check_spaces
from gwtools._array import Array
from gwtools.spaces.base import Space, copy_unchecked
from gwtools.spaces.double_centering import LowRankForm


@final
@dataclass(frozen=True, eq=False, repr=False)
class GramSpace(Space):
    """A space of inner products C = FᵀF, given by its factor: a kernel with explicit features, a graph on logits.

    Parameters
    ----------
    factor : array of shape (t, n)
        F, one column for each atom; finite floating-point numbers, in the root of the
        units of C.
    weights : array of shape (n,), optional
        Probability weights; uniform by default. They also say which axis the atoms are
        on, see Warns.

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

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", _check.array(self.factor, "factor", 2))
        _check_spaces.columns_are_atoms(self.factor, self.weights)
        object.__setattr__(
            self,
            "weights",
            _check_spaces.weights(self.weights, self.factor, self.factor.shape[1]),
        )

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
        return int(self.factor.shape[-2])

    @cached_property
    def low_rank(self) -> LowRankForm | None:
        """The form with G the centred columns and α their products with the mean column."""
        mean = _array.times(self.factor, self.weights)
        centred = self.factor - mean[..., None]
        shift = _array.times(_array.transposed(centred), mean)
        # The mean column has a float error: its products with the centred columns are
        # centred again.
        offset = _array.dot(self.weights, shift)
        return LowRankForm(
            self.weights,
            mean=_array.dot(mean, mean) + 2 * offset,
            deviations=shift - offset[..., None],
            sign=1,
            rank=self.factor.shape[-2],
            columns=lambda i, j: centred[..., i:j],
        )

    def rows(self, start: int, stop: int) -> Array:
        """Return rows ``start`` to ``stop`` of C, shape (stop − start, n), in units of C."""
        return _array.transposed(self.factor[..., start:stop]) @ self.factor

    def largest(self) -> float:
        """Return an upper bound of max |C_ik|: the largest squared norm of a column; not 0 where squares underflow."""
        return self._largest

    @cached_property
    def _largest(self) -> float:
        xp, factor = _array.namespace(self.factor), _array.detached(self.factor)
        top = float(xp.max(xp.abs(factor)))
        unit = _array.power_of_four(
            top
        )  # of the factor, not of its squares, which may leave the range
        squares = float(xp.max(xp.sum(_array.scaled(factor, 1 / unit) ** 2, axis=0)))
        squares *= 1 + 2 * factor.shape[0] * _array.epsilon(factor)
        return math.nextafter(unit * squares * unit, math.inf) if squares else 0.0

    def extremes(self) -> tuple[float, float]:
        """Return bounds of the least and of the largest inner product, in units of C."""
        return -self.largest(), self.largest()

    def with_data(self, data: Array, weights: Array) -> Self:
        """Return the space over another factor and weights, without checking them again."""
        return copy_unchecked(self, factor=data, weights=weights)

    def restrict(self, index: Array) -> Self:
        """Return the space over the atoms ``index``, with the same weights for them."""
        xp = _array.namespace(self.factor)
        return self.with_data(
            xp.take(self.factor, index, axis=1), xp.take(self.weights, index)
        )

    def scaled(self, factor: float) -> Self:
        """Return the space whose matrix is ``factor`` · C."""
        return self.with_data(_array.scaled(self.factor, factor**0.5), self.weights)
