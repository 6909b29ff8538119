"""Base class of spaces: a symmetric matrix C over n atoms with probability weights a, read in rows or in a low-rank form."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import cached_property
from typing import Any, Self, TypeVar, cast

from gwtools import _array
from gwtools._array import Array
from gwtools.spaces.double_centering import (
    DenseResidual,
    LowRankForm,
    LowRankResidual,
    Residual,
)

BLOCK_ENTRIES = 2**21
S = TypeVar("S", bound="Space")


class Space(ABC):
    """A symmetric matrix C (n, n) over n atoms with probability weights a (n,).

    Subclasses say how rows of C are made; means, moments and the residual follow from
    that, in blocks of rows, or from the low-rank form where there is one. All of it is
    written for a leading axis, too: a stack of B spaces of one kind and size is a space
    over stacked values and weights (B, n), whose numbers are arrays (B,).

    Examples
    --------
    Whatever a space is made of, all of them answer the same questions.

    >>> import numpy as np, gwtools as gw
    >>> x = gw.PointCloud(
    ...     np.array([[0.0], [1.0], [3.0]]), weights=np.array([0.5, 0.25, 0.25])
    ... )
    >>> isinstance(x, gw.Space), x.size
    (True, 3)
    >>> x.row_means
    array([1., 1., 2.])
    >>> float(x.mean)
    1.25
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
    def kind(self) -> str:
        """What the stored values mean: spaces of one kind and equal values are equal."""
        return type(self).__name__

    @property
    @abstractmethod
    def sign(self) -> int:
        """1 where the kind of space makes R positive semidefinite, −1 where negative, 0 where it says nothing."""

    @abstractmethod
    def largest(self) -> float:
        """Return an upper bound of max |C_ik|, in units of C."""

    def extremes(self) -> tuple[float, float]:
        """Return bounds of the least and of the largest entry of C, in units of C: here of entries ≥ 0."""
        return 0.0, self.largest()

    @abstractmethod
    def with_data(self, data: Array, weights: Array) -> Self:
        """Return the space of the same kind over other stored values and weights, without checking them again."""

    @abstractmethod
    def restrict(self, index: Array) -> Self:
        """Return the space over the atoms ``index``, with the same weights for them."""

    def rows_at(self, index: Array, start: int, stop: int) -> Array:
        """Return C between the atoms ``index[start:stop]`` and ``index``, shape (stop − start, k), in units of C."""
        return self.restrict(index).rows(start, stop)

    @abstractmethod
    def scaled(self, factor: float) -> Self:
        """Return the space whose matrix is ``factor`` · C, for a power of four that keeps every digit."""

    @property
    def float_operations(self) -> int:
        """Bound of the float error of an entry of C, in units of u max |C_ik|: a shortest path sums at most n edges."""
        return self.size

    @cached_property
    def low_rank(self) -> LowRankForm | None:
        """The low-rank form of C, or None where it has none."""
        return None

    @property
    def saves_work(self) -> bool:
        """Whether C has a form of rank at most n, so that no n × n array is made."""
        return (form := self.low_rank) is not None and form.saves_work

    @property
    def numbers_held(self) -> float:
        """About how many numbers are held at once where R is made: two matrices."""
        return 0.0 if self.saves_work else 2.0 * self.size**2

    @property
    def numbers_copied(self) -> float:
        """About how many numbers are held at once where the stored values are converted or brought to other units."""
        return 0.0

    @cached_property
    def size(self) -> int:
        """Number of atoms n."""
        return int(self.weights.shape[-1])

    @property
    def names(self) -> Sequence[Any]:
        """What the atoms are called: here their positions from 0."""
        return range(self.size)

    @cached_property
    def equal_weights(self) -> bool:
        """Whether all weights are the same number."""
        return _array.all_equal(self.weights)

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields alone for copies and pickles, without cached properties."""
        return fields_alone(self)

    def __repr__(self) -> str:
        """Name the kind, the size and the array library."""
        return f"{type(self).__name__}(size={self.size}, {_array.library(self.weights)} {self.weights.dtype})"

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Return ranges of rows that hold about two million entries each."""
        return row_blocks(self.size)

    def dense(self) -> Array:
        """Return the (n, n) matrix C."""
        return _array.joined([self.rows(i, j) for i, j in self.blocks()], axis=-2)

    @cached_property
    def row_means(self) -> Array:
        """f_C = C a, shape (n,), in units of C."""
        if (form := self.low_rank) is not None:
            return form.deviations + form.mean[..., None]
        return self._averaged_rows(self.rows)

    def _averaged_rows(self, rows: Callable[[int, int], Array]) -> Array:
        """Return Σ_k a_k M_ik for every row of a matrix that is made block by block, shape (n,)."""
        return _array.joined(
            [_array.times(rows(i, j), self.weights) for i, j in self.blocks()], axis=-1
        )

    @cached_property
    def mean(self) -> Array:
        """m_C = aᵀ C a, in units of C."""
        if (form := self.low_rank) is not None:
            return form.mean
        return _array.dot(self.weights, self.row_means)

    @cached_property
    def deviations(self) -> Array:
        """α = f_C − m_C, shape (n,), in units of C."""
        if (form := self.low_rank) is not None:
            return form.deviations
        return self.row_means - self.mean[..., None]

    def power_means(self, p: float) -> Array:
        """Return Σ_k a_k |C_ik|^p for every atom, shape (n,), in units of C to the power p."""
        xp = _array.namespace(self.weights)
        if p == 2 and (form := self.low_rank) is not None and form.saves_work:
            u, g, a = form.additive, form.factor, self.weights
            mean, mean_square = (
                _array.dot(a, u)[..., None],
                _array.dot(a, u**2)[..., None],
            )
            spread = xp.sum((g @ form.covariance) * g, axis=-1)
            cross = _array.times(g, _array.times(_array.transposed(g), a * u))
            return xp.clip(
                u**2 + 2 * u * mean + mean_square + 2 * form.sign * cross + spread,
                min=0.0,
            )
        return self._averaged_rows(lambda i, j: xp.abs(self.rows(i, j)) ** p)

    def second_moment(self) -> Array:
        """Return ‖C‖² = Σ a_i a_k C_ik² = m_C² + 2‖α‖² + ‖R‖² (theorem 2), in squared units of C."""
        return (
            self.mean**2
            + 2 * _array.dot(self.weights, self.deviations**2)
            + self.residual_norm_squared()
        )

    def residual_rows(self, start: int, stop: int) -> Array:
        """Return rows of R = C − m − α1ᵀ − 1αᵀ, shape (stop − start, n), in units of C."""
        alpha = self.deviations
        residual = self.rows(start, stop) - alpha[..., start:stop, None]
        residual -= (alpha + self.mean[..., None])[..., None, :]
        return residual

    def residual_norm_squared(self) -> Array:
        """Return ‖R‖² = Σ a_i a_k R_ik² without storing R, in squared units of C."""
        return self._residual_norm_squared

    @cached_property
    def _residual_norm_squared(self) -> Array:
        if (form := self.low_rank) is not None and form.saves_work:
            return LowRankResidual(self.weights, form).norm_squared()
        return _array.dot(
            self.weights,
            self._averaged_rows(lambda i, j: self.residual_rows(i, j) ** 2),
        )

    def residual(self) -> Residual:
        """Return R in the cheapest form that applies it: n t numbers where C has rank t, else n²."""
        if (form := self.low_rank) is not None:
            low_rank = LowRankResidual(self.weights, form)
            return (
                low_rank
                if form.saves_work
                else DenseResidual(self.weights, low_rank.dense(), form.sign)
            )
        matrix = _array.joined(
            [self.residual_rows(i, j) for i, j in self.blocks()], axis=-2
        )
        return DenseResidual(self.weights, matrix, self.sign)


def fields_alone(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass by their names, without cached properties."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


def row_blocks(size: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of rows of a square matrix that hold about two million entries each."""
    step = max(1, BLOCK_ENTRIES // size)
    for start in range(0, size, step):
        yield start, min(start + step, size)


def numbers_in_blocks(x: Space, y: Space) -> float:
    """Estimate how many numbers are held where rows of two spaces are read in blocks, at the atoms of a plan as well."""
    if x.saves_work and y.saves_work:
        return 0.0
    return (
        5.0 * min((x.size + y.size) ** 2, BLOCK_ENTRIES)
        + x.numbers_copied
        + y.numbers_copied
    )


def numbers_at_atoms(x: Space, y: Space) -> float:
    """Estimate how many numbers the objective of a sparse plan holds: blocks of rows, few of two low-rank forms.

    Low-rank forms of which one has a higher rank than atoms are made into matrices.
    """
    forms = x.low_rank is not None and y.low_rank is not None
    if forms and not (x.saves_work and y.saves_work):
        return 2.0 * (x.size**2 + y.size**2) + 6.0 * x.size * y.size
    return numbers_in_blocks(x, y)


def copy_unchecked(space: S, **changed: Array) -> S:
    """Copy a space with other fields, derived from checked ones, without checking them."""
    copy = object.__new__(type(space))
    for field in fields(cast(Any, space)):
        value = (
            changed[field.name] if field.name in changed else getattr(space, field.name)
        )
        object.__setattr__(copy, field.name, value)
    return copy


def converted(space: Space, convert: Callable[[Array], Array]) -> Space:
    """Convert a space's arrays to a wider dtype, in which the weights are made to sum to 1 again."""
    weights = convert(space.weights)
    if weights.dtype == space.weights.dtype:
        return space
    return space.with_data(convert(space.data), _array.normalised(weights))
