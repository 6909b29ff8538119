"""Weighted spaces: a symmetric matrix C over n atoms with probability weights a, stored in whatever form is cheapest."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Self, TypeVar, cast, final

from gwtools import _array, _check
from gwtools._array import Array
from gwtools.residuals import DenseResidual, LowRankForm, LowRankResidual, Residual, column_blocks

_BLOCK_ENTRIES = 2**21
S = TypeVar("S", bound="Space")


class Space(ABC):
    """A symmetric matrix C (n, n) over n atoms with probability weights a (n,).

    Subclasses say how rows of C are made; means, moments and the residual follow from that, in blocks of rows, or from
    the low-rank form where there is one.
    """

    weights: Array

    @property
    @abstractmethod
    def data(self) -> Array:
        """The stored values that define C."""

    @abstractmethod
    def rows(self, start: int, stop: int) -> Array:
        """Return rows ``start`` to ``stop`` of C, shape (stop − start, n), in units of C."""

    @property
    @abstractmethod
    def sign(self) -> int:
        """1 where the kind of space makes R positive semidefinite, −1 where negative, 0 where it says nothing."""

    @abstractmethod
    def largest(self) -> float:
        """Return an upper bound of max |C_ik|, in units of C."""

    @abstractmethod
    def with_data(self, data: Array, weights: Array) -> Self:
        """Return the space of the same kind over other stored values and weights, without checking them again."""

    @abstractmethod
    def restrict(self, index: Array) -> Self:
        """Return the space over the atoms ``index``, with the same weights for them."""

    @abstractmethod
    def scaled(self, factor: float) -> Self:
        """Return the space whose matrix is ``factor`` · C, for a power of four that keeps every digit."""

    @property
    def roundings(self) -> int:
        """How many roundings lie behind an entry of C, as a multiple of max |C_ik|: at most n in a shortest path."""
        return self.size

    @cached_property
    def low_rank(self) -> LowRankForm | None:
        """The low-rank form of C, or None where it has none."""
        return None

    @property
    def size(self) -> int:
        """Number of atoms n."""
        return int(self.weights.shape[0])

    def __repr__(self) -> str:
        """Name the kind, the size and the array library."""
        return f"{type(self).__name__}(size={self.size}, {_array.library(self.weights)} {self.weights.dtype})"

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Yield ranges of rows that hold about two million entries each."""
        step = max(1, _BLOCK_ENTRIES // self.size)
        for start in range(0, self.size, step):
            yield start, min(start + step, self.size)

    def dense(self) -> Array:
        """Return the (n, n) matrix C."""
        return _array.namespace(self.weights).concat([self.rows(i, j) for i, j in self.blocks()])

    @cached_property
    def row_means(self) -> Array:
        """f_C = C a, shape (n,), in units of C."""
        if (form := self.low_rank) is not None:
            return form.deviations + form.mean
        return _array.namespace(self.weights).concat([self.rows(i, j) @ self.weights for i, j in self.blocks()])

    @cached_property
    def mean(self) -> Array:
        """m_C = aᵀ C a, in units of C."""
        if (form := self.low_rank) is not None:
            return form.mean
        return self.weights @ self.row_means

    @cached_property
    def deviations(self) -> Array:
        """α = f_C − m_C, shape (n,), in units of C."""
        if (form := self.low_rank) is not None:
            return form.deviations
        return self.row_means - self.mean

    def power_means(self, p: float) -> Array:
        """Return Σ_k a_k |C_ik|^p for every atom, shape (n,), in units of C to the power p."""
        xp = _array.namespace(self.weights)
        if p == 2 and (form := self.low_rank) is not None and form.saves_work:
            u, g, a = form.additive, form.factor, self.weights
            spread = xp.sum((g @ (g.T @ (a[:, None] * g))) * g, axis=1)
            cross = g @ (g.T @ (a * u))
            return xp.clip(u**2 + 2 * u * (a @ u) + a @ u**2 + 2 * form.sign * cross + spread, min=0.0)
        return xp.concat([xp.abs(self.rows(i, j)) ** p @ self.weights for i, j in self.blocks()])

    def second_moment(self) -> Array:
        """Return ‖C‖² = Σ a_i a_k C_ik² = m_C² + 2‖α‖² + ‖R‖² (theorem 2), in squared units of C."""
        return self.mean**2 + 2 * (self.weights @ self.deviations**2) + self.residual_norm_squared()

    def residual_rows(self, start: int, stop: int) -> Array:
        """Return rows of R = C − m − α1ᵀ − 1αᵀ, shape (stop − start, n), in units of C."""
        alpha = self.deviations
        return self.rows(start, stop) - alpha[start:stop, None] - (alpha + self.mean)[None, :]

    def residual_norm_squared(self) -> Array:
        """Return ‖R‖² = Σ a_i a_k R_ik² without storing R, in squared units of C."""
        if (form := self.low_rank) is not None and form.saves_work:
            return LowRankResidual(self.weights, form).norm_squared()
        xp, a = _array.namespace(self.weights), self.weights
        return xp.sum(xp.stack([a[i:j] @ (self.residual_rows(i, j) ** 2 @ a) for i, j in self.blocks()]))

    def residual(self) -> Residual:
        """Return R in the cheapest form that applies it: n t numbers where C has rank t, else n²."""
        if (form := self.low_rank) is not None:
            low_rank = LowRankResidual(self.weights, form)
            return low_rank if form.saves_work else DenseResidual(self.weights, low_rank.dense(), form.sign)
        matrix = _array.namespace(self.weights).concat([self.residual_rows(i, j) for i, j in self.blocks()])
        return DenseResidual(self.weights, matrix, self.sign)


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
        If an argument is no array of an array-API library, does not hold floating-point numbers, or weights and
        distances differ in library, dtype or device.
    ValueError
        If the matrix is empty, not square, not symmetric or not finite, or the weights are negative, do not sum to 1 or
        do not match.
    """

    distances: Array
    weights: Array = None

    def __post_init__(self) -> None:
        _check.array(self.distances, "distances", 2)
        _check.symmetric(self.distances, "distances")
        object.__setattr__(self, "weights", _check.weights(self.weights, self.distances, self.distances.shape[0]))

    @property
    def data(self) -> Array:
        """The matrix C."""
        return self.distances

    @property
    def sign(self) -> int:
        """0: a matrix says nothing of the sign of its residual before its spectrum is computed."""
        return 0

    @property
    def roundings(self) -> int:
        """0: the entries are the stored values."""
        return 0

    def rows(self, start: int, stop: int) -> Array:
        """Return rows ``start`` to ``stop`` of C, shape (stop − start, n), in units of C."""
        return self.distances[start:stop, :]

    def dense(self) -> Array:
        """Return the (n, n) matrix C."""
        return self.distances

    def largest(self) -> float:
        """Return max |C_ik|, in units of C."""
        xp, values = _array.namespace(self.distances), _array.detached(self.distances)
        return max(float(xp.max(values)), -float(xp.min(values)))

    def with_data(self, data: Array, weights: Array) -> Self:
        """Return the space over another matrix and weights, without checking them again."""
        return _unchecked(self, distances=data, weights=weights)

    def restrict(self, index: Array) -> Self:
        """Return the space over the atoms ``index``, with the same weights for them."""
        xp = _array.namespace(self.distances)
        block = xp.take(xp.take(self.distances, index, axis=0), index, axis=1)
        return self.with_data(block, xp.take(self.weights, index))

    def scaled(self, factor: float) -> Self:
        """Return the space whose matrix is ``factor`` · C."""
        return self.with_data(self.distances * factor, self.weights)


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
        C_ik = |x_i − x_k| in units of the coordinates, or its square. The squared distance has rank d + 2: no solver or
        bound forms its matrix.

    Raises
    ------
    TypeError
        If an argument is no array of an array-API library, does not hold floating-point numbers, or weights and points
        differ in library, dtype or device.
    ValueError
        If the points are empty, not of shape (n, d) or not finite, the weights are negative, do not sum to 1 or do not
        match, or the metric is unknown.
    """

    points: Array
    weights: Array = None
    metric: str = "euclidean"

    def __post_init__(self) -> None:
        _check.array(self.points, "points", 2)
        _check.choice(self.metric, "metric", ("euclidean", "sqeuclidean"))
        object.__setattr__(self, "weights", _check.weights(self.weights, self.points, self.points.shape[0]))

    @property
    def data(self) -> Array:
        """The coordinates."""
        return self.points

    @property
    def sign(self) -> int:
        """−1: both distances are of negative type (Schoenberg), so R is negative semidefinite."""
        return -1

    @property
    def roundings(self) -> int:
        """A difference, a square and a sum of d terms, a root or a square."""
        return int(self.points.shape[1]) + 4

    @cached_property
    def _centre(self) -> Array:
        """The weighted mean less the first point: its rounding is that of the cloud's width, however far it is from 0."""
        return sum(self._about_first(i, j) @ self.weights[i:j] for i, j in column_blocks(*self.points.shape))

    def _about_first(self, start: int, stop: int) -> Array:
        return _array.columns(self.points[start:stop, :]) - self.points[0, :][:, None]

    def _centred(self, start: int, stop: int) -> Array:
        """Points about their weighted mean, one a column, shape (d, stop − start)."""
        return self._about_first(start, stop) - self._centre[:, None]

    @cached_property
    def low_rank(self) -> LowRankForm | None:
        """The form with G = √2 x and α = |x|² less its mean, x centred, for squared distances."""
        if self.metric == "euclidean":
            return None
        xp, (n, d) = _array.namespace(self.points), self.points.shape
        squares = xp.concat([xp.sum(self._centred(i, j) ** 2, axis=0) for i, j in column_blocks(n, d)])
        spread = self.weights @ squares

        def columns(i: int, j: int) -> Array:
            return 2.0**0.5 * self._centred(i, j)

        return LowRankForm(self.weights, 2 * spread, squares - spread, -1, d, columns)

    def rows(self, start: int, stop: int) -> Array:
        """Return rows ``start`` to ``stop`` of C, shape (stop − start, n), in units of C."""
        distances = _array.pairwise_distances(self.points[start:stop, :], self.points)
        return distances if self.metric == "euclidean" else distances**2

    def largest(self) -> float:
        """Return an upper bound of the diameter, or of its square: the diagonal of the box around the points."""
        return self._diagonal if self.metric == "euclidean" else self._diagonal**2

    @cached_property
    def _diagonal(self) -> float:
        xp, coordinates = _array.namespace(self.points), range(self.points.shape[1])
        points = _array.detached(self.points)
        sides = [float(xp.max(points[:, k])) - float(xp.min(points[:, k])) for k in coordinates]
        return math.hypot(*sides) * (1 + 1e-15)

    def with_data(self, data: Array, weights: Array) -> Self:
        """Return the space over other points and weights, without checking them again."""
        return _unchecked(self, points=data, weights=weights)

    def restrict(self, index: Array) -> Self:
        """Return the space over the atoms ``index``, with the same weights for them."""
        xp = _array.namespace(self.points)
        return self.with_data(xp.take(self.points, index, axis=0), xp.take(self.weights, index))

    def scaled(self, factor: float) -> Self:
        """Return the space whose matrix is ``factor`` · C."""
        return self.with_data(self.points * (factor if self.metric == "euclidean" else factor**0.5), self.weights)


@final
@dataclass(frozen=True, eq=False, repr=False)
class GramSpace(Space):
    """A space of inner products C = FᵀF, given by its factor: a kernel with explicit features, a graph on logits.

    Parameters
    ----------
    factor : array of shape (t, n)
        F, one column for each atom; finite floating-point numbers, in the root of the units of C.
    weights : array of shape (n,), optional
        Probability weights; uniform by default.

    Raises
    ------
    TypeError
        If an argument is no array of an array-API library, does not hold floating-point numbers, or weights and factor
        differ in library, dtype or device.
    ValueError
        If the factor is empty, not of shape (t, n) or not finite, or the weights are negative, do not sum to 1 or do
        not match.
    """

    factor: Array
    weights: Array = None

    def __post_init__(self) -> None:
        _check.array(self.factor, "factor", 2)
        object.__setattr__(self, "weights", _check.weights(self.weights, self.factor, self.factor.shape[1]))

    @property
    def data(self) -> Array:
        """The factor F."""
        return self.factor

    @property
    def sign(self) -> int:
        """1: centred inner products are positive semidefinite."""
        return 1

    @property
    def roundings(self) -> int:
        """A sum of t products."""
        return int(self.factor.shape[0])

    @cached_property
    def low_rank(self) -> LowRankForm | None:
        """The form with G the centred columns and α their products with the mean column."""
        mean = self.factor @ self.weights
        centred = self.factor - mean[:, None]
        shift = mean @ centred
        offset = self.weights @ shift
        # The mean column is exact up to rounding only: so are its products with the centred ones centred again.
        return LowRankForm(
            self.weights,
            mean @ mean + 2 * offset,
            shift - offset,
            1,
            self.factor.shape[0],
            lambda i, j: centred[:, i:j],
        )

    def rows(self, start: int, stop: int) -> Array:
        """Return rows ``start`` to ``stop`` of C, shape (stop − start, n), in units of C."""
        return self.factor[:, start:stop].T @ self.factor

    def largest(self) -> float:
        """Return an upper bound of max |C_ik|: the largest squared norm of a column."""
        xp = _array.namespace(self.factor)
        return float(xp.max(xp.sum(_array.detached(self.factor) ** 2, axis=0)))

    def with_data(self, data: Array, weights: Array) -> Self:
        """Return the space over another factor and weights, without checking them again."""
        return _unchecked(self, factor=data, weights=weights)

    def restrict(self, index: Array) -> Self:
        """Return the space over the atoms ``index``, with the same weights for them."""
        xp = _array.namespace(self.factor)
        return self.with_data(xp.take(self.factor, index, axis=1), xp.take(self.weights, index))

    def scaled(self, factor: float) -> Self:
        """Return the space whose matrix is ``factor`` · C."""
        return self.with_data(self.factor * factor**0.5, self.weights)


def _unchecked(space: S, **changed: Array) -> S:
    """Copy a space with other fields and without the checks: for values derived from checked ones."""
    copy = object.__new__(type(space))
    for field in fields(cast(Any, space)):
        object.__setattr__(copy, field.name, changed.get(field.name, getattr(space, field.name)))
    return copy


def converted(space: Space, convert: Callable[[Array], Array]) -> Space:
    """Convert a space's arrays to a wider dtype, in which the weights are made to sum to 1 again."""
    weights = convert(space.weights)
    if weights.dtype == space.weights.dtype:
        return space
    return space.with_data(convert(space.data), weights / _array.namespace(weights).sum(weights))


def as_space(value: Any, name: str = "space") -> Space:
    """Return a space as it is and a raw square array as a :class:`DenseSpace` with uniform weights.

    Raises
    ------
    TypeError, ValueError
        As :class:`DenseSpace`, with ``name`` said where the value is no array at all.
    """
    if isinstance(value, Space):
        return value
    if not _array.is_array(value):
        raise TypeError(
            f"{name} must be a gwtools space or a square array, but is of type {type(value).__name__}: "
            "pass gwtools.DenseSpace, PointCloud, GramSpace, GraphSpace or a matrix of distances."
        )
    return DenseSpace(value)
