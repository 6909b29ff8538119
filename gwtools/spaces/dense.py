"""Spaces given by a matrix, and square arrays read as such."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self, final

from gwtools import _array, _check, _check_spaces
from gwtools._array import Array
from gwtools.spaces.base import Space, copy_unchecked, row_blocks


@final
@dataclass(frozen=True, eq=False, repr=False)
class DenseSpace(Space):
    """A space given by its symmetric matrix: distances, a kernel, a graph's adjacency.

    Parameters
    ----------
    distances : array of shape (n, n)
        Symmetric matrix C of finite floating-point numbers; it need not be a metric.
    weights : array of shape (n,), optional
        Probability weights; uniform by default.

    Raises
    ------
    TypeError
        If an argument is no array of an array-API library, does not hold floating-point
        numbers, or weights and distances differ in library, dtype or device.
    ValueError
        If the matrix is empty, not square, not symmetric or not finite, or the weights
        are negative, do not sum to 1 or do not match.

    Examples
    --------
    Hours between three towns, weighted by their inhabitants, and how far each town is
    from an inhabitant on average.

    >>> import numpy as np, gwtools as gw
    >>> hours = np.array([[0.0, 1.0, 3.0], [1.0, 0.0, 2.0], [3.0, 2.0, 0.0]])
    >>> towns = gw.DenseSpace(hours, weights=np.array([0.5, 0.25, 0.25]))
    >>> towns.row_means
    array([1., 1., 2.])
    """

    distances: Array
    weights: Array = None

    def __post_init__(self) -> None:
        self._accept("distances")

    def _accept(self, name: str) -> None:
        """Check the fields, and bring them to their forms; errors call the matrix ``name``."""
        object.__setattr__(
            self, "distances", _check.floating(self.distances, name, 2, "distances")
        )
        _check.finite_largest(self.largest(), name)
        _check_spaces.square(self.distances, name)
        _check_spaces.symmetric(
            self.skew, self.largest(), _array.epsilon(self.distances), name
        )
        object.__setattr__(
            self,
            "weights",
            _check_spaces.weights(
                self.weights, self.distances, self.distances.shape[0]
            ),
        )
        if _array.tracked(self.distances):
            object.__setattr__(self, "distances", _array.symmetric(self.distances))

    @property
    def data(self) -> Array:
        """The matrix C."""
        return self.distances

    @property
    def sign(self) -> int:
        """0: a matrix says nothing of the sign of its residual before its spectrum is computed."""
        return 0

    @property
    def float_operations(self) -> int:
        """0: the entries are the stored values."""
        return 0

    def rows(self, start: int, stop: int) -> Array:
        """Return rows ``start`` to ``stop`` of C, shape (stop − start, n), in units of C."""
        return self.distances[..., start:stop, :]

    def dense(self) -> Array:
        """Return the (n, n) matrix C."""
        return self.distances

    def largest(self) -> float:
        """Return max |C_ik|, in units of C."""
        low, high = self.extremes()
        return max(high, -low)

    def extremes(self) -> tuple[float, float]:
        """Return min C_ik and max C_ik, in units of C."""
        return self._extremes

    @cached_property
    def _extremes(self) -> tuple[float, float]:
        xp, values = _array.namespace(self.distances), _array.detached(self.distances)
        return float(xp.min(values)), float(xp.max(values))

    @cached_property
    def skew(self) -> float:
        """Largest |C_ik − C_ki|, in units of C: stored matrices are symmetric up to float error only (theorem 14)."""
        xp, matrix = _array.namespace(self.distances), _array.detached(self.distances)
        n = int(matrix.shape[0])
        # By blocks of rows, so that no second matrix is made; each difference comes
        # with both signs.
        return max(
            float(xp.max(matrix[i:j, :] - matrix[:, i:j].T)) for i, j in row_blocks(n)
        )

    def with_data(self, data: Array, weights: Array) -> Self:
        """Return the space over another matrix and weights, without checking them again."""
        return copy_unchecked(self, distances=data, weights=weights)

    def restrict(self, index: Array) -> Self:
        """Return the space over the atoms ``index``, with the same weights for them."""
        xp = _array.namespace(self.distances)
        block = xp.take(xp.take(self.distances, index, axis=0), index, axis=1)
        return self.with_data(block, xp.take(self.weights, index))

    def rows_at(self, index: Array, start: int, stop: int) -> Array:
        """Return C between the atoms ``index[start:stop]`` and ``index``, without the matrix between all of them."""
        xp = _array.namespace(self.distances)
        return xp.take(
            xp.take(self.distances, index[start:stop], axis=0), index, axis=1
        )

    @property
    def numbers_copied(self) -> float:
        """A matrix without an offset or in other units; two where atoms of weight 0 are left out, or entries are converted."""
        if _array.epsilon(self.weights) > 1e-10 or not _array.all_positive(
            self.weights
        ):
            return 2.0 * self.size**2
        low, high = self.extremes()
        as_stored = low <= 0.0 <= high and 1e-60 < self.largest() < 1e60
        return 0.0 if as_stored else 1.0 * self.size**2

    def scaled(self, factor: float) -> Self:
        """Return the space whose matrix is ``factor`` · C."""
        return (
            self
            if factor == 1.0
            else self.with_data(_array.scaled(self.distances, factor), self.weights)
        )

    def shifted(self, constant: float) -> Self:
        """Return the space whose matrix is C − constant."""
        return self.with_data(self.distances - constant, self.weights)


def as_space(value: Any, name: str = "space") -> Space:
    """Return a space as it is and a raw square array as a :class:`DenseSpace` with uniform weights.

    Parameters
    ----------
    value : Space or square array of shape (n, n)
        What is read: nothing else is converted.
    name : str
        What errors call it.

    Raises
    ------
    TypeError
        If the value is neither: a list, a table, a sparse matrix, a graph. The sentence
        says how one of that type is converted.
    TypeError, ValueError
        As :class:`DenseSpace`, of which the matrix is called ``name``.

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> gw.as_space(1 - np.eye(3))
    DenseSpace(size=3, numpy float64)
    """
    if isinstance(value, Space):
        return value
    _check_spaces.space(value, name)
    space = dense_space(value, None)
    space._accept(name)
    return space


def dense_space(distances: Array, weights: Array) -> DenseSpace:
    """Return the space of a matrix and weights without checking them."""
    return copy_unchecked(
        object.__new__(DenseSpace), distances=distances, weights=weights
    )
