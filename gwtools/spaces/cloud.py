"""Point clouds: Euclidean distances, made row by row, or their squares, in a low-rank form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Self, final

from gwtools import _array, _check, _check_spaces
from gwtools._array import Array
from gwtools.spaces.base import Space, copy_unchecked
from gwtools.spaces.double_centering import LowRankForm, column_blocks


@final
@dataclass(frozen=True, eq=False, repr=False)
class PointCloud(Space):
    """A space of points with the Euclidean or the squared Euclidean distance between them.

    Parameters
    ----------
    points : array of shape (n, d)
        Coordinates, finite floating-point numbers.
    weights : array of shape (n,), optional
        Probability weights; uniform by default.
    metric : {"euclidean", "sqeuclidean"}
        C_ik = |x_i − x_k| in units of the coordinates, or its square. The squared
        distance has rank d + 2: no solver or bound forms its matrix.

    Raises
    ------
    TypeError
        If an argument is no array of an array-API library, does not hold floating-point
        numbers, or weights and points differ in library, dtype or device.
    ValueError
        If the points are empty, not of shape (n, d) or not finite, the weights are
        negative, do not sum to 1 or do not match, or the metric is unknown.

    Examples
    --------
    >>> import numpy as np, gwtools as gw
    >>> points, weights = np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([0.25, 0.75])
    >>> gw.PointCloud(points, weights).dense()
    array([[0., 5.],
           [5., 0.]])
    >>> gw.PointCloud(points, weights, metric="sqeuclidean").dense()
    array([[ 0., 25.],
           [25.,  0.]])
    """

    points: Array
    weights: Array = None
    metric: str = "euclidean"

    def __post_init__(self) -> None:
        if isinstance(self.weights, str):
            _check.keyword(self.weights, "weights", "metric")
        object.__setattr__(self, "points", _check.array(self.points, "points", 2))
        _check.choice(self.metric, "metric", ("euclidean", "sqeuclidean"))
        object.__setattr__(
            self,
            "weights",
            _check_spaces.weights(self.weights, self.points, self.points.shape[0]),
        )

    @property
    def data(self) -> Array:
        """The coordinates."""
        return self.points

    @property
    def kind(self) -> str:
        """The distance between the points."""
        return self.metric

    @property
    def sign(self) -> int:
        """−1: both distances are of negative type (Schoenberg), so R is negative semidefinite."""
        return -1

    @property
    def float_operations(self) -> int:
        """A difference, a square and a sum of d terms, a root or a square."""
        return int(self.points.shape[-1]) + 4

    @cached_property
    def _centre(self) -> Array:
        """The weighted mean less the first point: its float error is relative to the cloud's width, wherever that is."""
        blocks = column_blocks(*self.points.shape[-2:])
        return sum(
            _array.times(self._about_first(i, j), self.weights[..., i:j])
            for i, j in blocks
        )

    def _about_first(self, start: int, stop: int) -> Array:
        return (
            _array.columns(self.points[..., start:stop, :])
            - self.points[..., 0, :][..., None]
        )

    def _centred(self, start: int, stop: int) -> Array:
        """Points about their weighted mean, one a column, shape (d, stop − start)."""
        return self._about_first(start, stop) - self._centre[..., None]

    @cached_property
    def low_rank(self) -> LowRankForm | None:
        """The form with G = √2 x and α = |x|² less its mean, x centred, for squared distances."""
        if self.metric == "euclidean":
            return None
        xp, (n, d) = _array.namespace(self.points), self.points.shape[-2:]
        blocks = [
            xp.sum(self._centred(i, j) ** 2, axis=-2) for i, j in column_blocks(n, d)
        ]
        squares = _array.joined(blocks, axis=-1)
        spread = _array.dot(self.weights, squares)

        def columns(i: int, j: int) -> Array:
            return 2.0**0.5 * self._centred(i, j)

        return LowRankForm(
            self.weights, 2 * spread, squares - spread[..., None], -1, d, columns
        )

    def rows(self, start: int, stop: int) -> Array:
        """Return rows ``start`` to ``stop`` of C, shape (stop − start, n), in units of C."""
        distances = _array.pairwise_distances(self.points[start:stop, :], self.points)
        return distances if self.metric == "euclidean" else distances**2

    def largest(self) -> float:
        """Return an upper bound of the diameter, or of its square: the diagonal of the box around the points.

        Not 0 where the diagonal is not, even if its square underflows.
        """
        diagonal = self._diagonal
        if self.metric == "euclidean" or diagonal == 0.0:
            return diagonal
        return math.nextafter(diagonal * diagonal, math.inf)

    @cached_property
    def _diagonal(self) -> float:
        xp, coordinates = _array.namespace(self.points), range(self.points.shape[1])
        points = _array.detached(self.points)
        sides = [
            float(xp.max(points[:, k])) - float(xp.min(points[:, k]))
            for k in coordinates
        ]
        return math.hypot(*sides) * (1 + 1e-15)

    def with_data(self, data: Array, weights: Array) -> Self:
        """Return the space over other points and weights, without checking them again."""
        return copy_unchecked(self, points=data, weights=weights)

    def restrict(self, index: Array) -> Self:
        """Return the space over the atoms ``index``, with the same weights for them."""
        xp = _array.namespace(self.points)
        return self.with_data(
            xp.take(self.points, index, axis=0), xp.take(self.weights, index)
        )

    def scaled(self, factor: float) -> Self:
        """Return the space whose matrix is ``factor`` · C."""
        points = _array.scaled(
            self.points, factor if self.metric == "euclidean" else factor**0.5
        )
        return self.with_data(points, self.weights)
