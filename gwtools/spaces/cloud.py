"""Point clouds: Euclidean distances by rows, or their squares in a low-rank form."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self, final

from gwtools import _array, _check, _check_spaces
from gwtools._array import Array
from gwtools.spaces.base import Space, copy_unchecked, with_features_at
from gwtools.spaces.double_centering import LowRankForm, column_blocks


@final
@dataclass(frozen=True, eq=False, repr=False)
class PointCloud(Space):
    """A space of points with the Euclidean distance between them, or with its square.

    Parameters
    ----------
    points : array of shape (n, d)
        Coordinates, finite floating-point numbers.
    weights : array of shape (n,), optional
        Probability weights; uniform by default.
    metric : {"euclidean", "sqeuclidean"}
        C_ik = |x_i − x_k| in units of the coordinates, or its square. The squared
        distance has rank d + 2: no solver or bound forms its matrix.
    features : array of shape (n, d), optional, keyword only
        A feature vector of each atom, for :func:`gwtools.solve`, ``solve_batch`` and
        ``barycenter`` with ``alpha``; nothing else reads it.

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
    features: Array = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.weights, str):
            # A metric given by its place is where the weights are expected.
            _check.refuse_word(self.weights, "weights", "metric")
        points = _check.array(self.points, "points", 2)
        _check.choice(self.metric, "metric", ("euclidean", "sqeuclidean"))
        n = points.shape[0]
        weights = _check_spaces.weights(self.weights, points, n)
        # The dataclass is frozen: its fields are set past it, here alone.
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "weights", weights)
        features = _check_spaces.features(self.features, weights)
        object.__setattr__(self, "features", features)

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
        """−1: R is negative semidefinite, as distances of negative type make it.

        Both distances are of negative type by Schoenberg's theorem.
        """
        return -1

    @property
    def float_operations(self) -> int:
        """A difference, a square and a sum of d terms, a root or a square."""
        dimension = int(self.points.shape[-1])
        return dimension + 4

    @cached_property
    def low_rank(self) -> LowRankForm | None:
        """The form of squared distances: Gᵀ is √2 times the centred points.

        |x_i − x_k|² = |x_i|² + |x_k|² − 2⟨x_i, x_k⟩, so α is |x|² less its mean.
        """
        if self.metric == "euclidean":
            return None
        xp = _array.namespace(self.points)
        n, dimension = self.points.shape[-2:]
        blocks = []
        # By blocks of points: each is still in the cache when it is squared.
        for start, stop in column_blocks(n, dimension):
            centred = self._centred(start, stop)  # (d, stop − start)
            blocks.append(xp.sum(centred**2, axis=-2))
        squared_norms = _array.joined(blocks, axis=-1)  # |x_i|², (n,)
        variance = _array.dot(self.weights, squared_norms)

        def columns(start: int, stop: int) -> Array:
            # Made again wherever it is asked for: n d numbers are not stored twice.
            return 2.0**0.5 * self._centred(start, stop)

        return LowRankForm(
            self.weights,
            mean=2 * variance,
            deviations=squared_norms - variance[..., None],
            sign=-1,
            rank=dimension,
            columns=columns,
        )

    def _centred(self, start: int, stop: int) -> Array:
        """Return points less their weighted mean, one a column: (d, stop − start)."""
        return self._from_first(start, stop) - self._mean_from_first[..., None]

    @cached_property
    def _mean_from_first(self) -> Array:
        """The weighted mean less the first point, shape (d,).

        Its float error is relative to the width of the cloud, not to the distance of
        the cloud from the origin.
        """
        n, dimension = self.points.shape[-2:]
        mean: Array = 0
        for start, stop in column_blocks(n, dimension):
            points = self._from_first(start, stop)  # (d, stop − start)
            weights = self.weights[..., start:stop]
            mean = mean + _array.times(points, weights)
        return mean

    def _from_first(self, start: int, stop: int) -> Array:
        """Return points less the first point, one a column: (d, stop − start)."""
        columns = _array.columns(self.points[..., start:stop, :])
        first = self.points[..., 0, :]
        return columns - first[..., None]

    def rows(self, start: int, stop: int) -> Array:
        """Return rows ``start`` to ``stop`` of C, (stop − start, n), in units of C."""
        points = self.points[start:stop, :]  # (stop − start, d)
        distances = _array.pairwise_distances(points, self.points)
        if self.metric == "euclidean":
            return distances
        return distances**2

    def largest(self) -> float:
        """Return an upper bound of max C_ik, in units of C.

        It is the diagonal of the box around the points, or its square, which is not 0
        where only the square underflows.
        """
        diagonal = self._diagonal
        if self.metric == "euclidean" or diagonal == 0.0:
            return diagonal
        return math.nextafter(diagonal * diagonal, math.inf)

    @cached_property
    def _diagonal(self) -> float:
        """A bound of the diagonal of the box, in units of the coordinates."""
        xp = _array.namespace(self.points)
        points = _array.detached(self.points)
        sides = []  # of the box around the points
        for k in range(points.shape[1]):
            coordinate = points[:, k]
            highest = float(xp.max(coordinate))
            lowest = float(xp.min(coordinate))
            sides.append(highest - lowest)
        # Each difference and the root of the sum of squares are rounded.
        return math.hypot(*sides) * (1 + 1e-15)

    def with_data(self, data: Array, weights: Array) -> Self:
        """Return the space over other points and weights, which are not checked."""
        return copy_unchecked(self, points=data, weights=weights)

    def restrict(self, index: Array) -> Self:
        """Return the space over the atoms ``index``, which keep their weights."""
        xp = _array.namespace(self.points)
        points = xp.take(self.points, index, axis=0)
        weights = xp.take(self.weights, index)
        space = self.with_data(points, weights)
        return with_features_at(space, self.features, index)

    def scaled(self, factor: float) -> Self:
        """Return the space whose matrix is ``factor`` · C."""
        # Coordinates are in units of C, or in their root.
        stretch = factor if self.metric == "euclidean" else factor**0.5
        return self.with_data(_array.scaled(self.points, stretch), self.weights)
