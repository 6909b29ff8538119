"""Base class of spaces: a symmetric matrix C over n atoms with probability weights a.

C is read by rows or through a low-rank form.
"""

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

BLOCK_ENTRIES = 2**21  # a block of rows: 16 megabytes in float64
S = TypeVar("S", bound="Space")


class Space(ABC):
    """A symmetric matrix C (n, n) over n atoms with probability weights a (n,).

    Subclasses define how rows of C are made. Means, moments and the residual are
    computed from blocks of rows, or from the low-rank form where there is one. A stack
    of B spaces of one kind and size is a space, too: its stored values and its weights
    (B, n) have a leading axis, and so have its means and moments, of shape (B,).

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
        """Return rows ``start`` to ``stop`` of C, (stop − start, n), in units of C."""

    @property
    def kind(self) -> str:
        """The meaning of the stored values.

        Spaces of one kind with equal stored values have the same C.
        """
        return type(self).__name__

    @property
    @abstractmethod
    def sign(self) -> int:
        """1 where the kind makes R positive semidefinite, −1 where negative, else 0."""

    @abstractmethod
    def largest(self) -> float:
        """Return an upper bound of max |C_ik|, in units of C."""

    def extremes(self) -> tuple[float, float]:
        """Return bounds of the least and of the largest entry of C, in units of C.

        They are those of entries ≥ 0 unless a subclass knows better.
        """
        return 0.0, self.largest()

    @abstractmethod
    def with_data(self, data: Array, weights: Array) -> Self:
        """Return a space of the same kind with other values, which are not checked."""

    @abstractmethod
    def restrict(self, index: Array) -> Self:
        """Return the space over the atoms ``index``, which keep their weights."""

    def rows_at(self, index: Array, start: int, stop: int) -> Array:
        """Return C between the atoms ``index[start:stop]`` and ``index`` (k,).

        The shape is (stop − start, k), in units of C.
        """
        return self.restrict(index).rows(start, stop)

    @abstractmethod
    def scaled(self, factor: float) -> Self:
        """Return the space whose matrix is ``factor`` · C, for a power of four.

        Every digit is kept, as both the factor and its root are powers of two.
        """

    @property
    def float_operations(self) -> int:
        """A bound of the float error of an entry of C, in units of u max |C_ik|."""
        # At most n additions, as of a shortest path; kinds with others override this.
        return self.size

    @cached_property
    def low_rank(self) -> LowRankForm | None:
        """The low-rank form of C, or None where it has none."""
        return None

    @property
    def saves_work(self) -> bool:
        """Whether C has a form of rank at most n, so that no n × n array is made."""
        form = self.low_rank
        return form is not None and form.saves_work

    @property
    def numbers_held(self) -> float:
        """About how many numbers are held at once while R is made."""
        if self.saves_work:
            return 0.0
        # C and R.
        return 2.0 * self.size**2

    @property
    def numbers_copied(self) -> float:
        """About how many numbers copies hold, converted or in other units."""
        return 0.0

    @cached_property
    def size(self) -> int:
        """Number of atoms n."""
        return int(self.weights.shape[-1])

    @property
    def names(self) -> Sequence[Any]:
        """The names of the atoms: their positions from 0 unless they have others."""
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
        name = type(self).__name__
        library = _array.library(self.weights)
        dtype = self.weights.dtype
        return f"{name}(size={self.size}, {library} {dtype})"

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Return ranges of rows that hold about two million entries each."""
        return row_blocks(self.size)

    def dense(self) -> Array:
        """Return the (n, n) matrix C."""
        return self._joined_rows(self.rows)

    def _joined_rows(self, rows: Callable[[int, int], Array]) -> Array:
        """Return the matrix (n, n) that is made block by block."""
        blocks = [rows(start, stop) for start, stop in self.blocks()]
        return _array.joined(blocks, axis=-2)

    def _averaged_rows(self, rows: Callable[[int, int], Array]) -> Array:
        """Return M a, shape (n,), for a matrix M that is made block by block."""
        means = []
        for start, stop in self.blocks():
            # No name for the block: it is freed before the next one is made.
            means.append(_array.times(rows(start, stop), self.weights))
        return _array.joined(means, axis=-1)

    @cached_property
    def row_means(self) -> Array:
        """f_C = C a, shape (n,), in units of C."""
        form = self.low_rank
        if form is not None:
            return form.deviations + form.mean[..., None]
        return self._averaged_rows(self.rows)

    @cached_property
    def mean(self) -> Array:
        """m_C = aᵀ C a, in units of C."""
        form = self.low_rank
        if form is not None:
            return form.mean
        return _array.dot(self.weights, self.row_means)

    @cached_property
    def deviations(self) -> Array:
        """α = f_C − m_C, shape (n,), in units of C."""
        form = self.low_rank
        if form is not None:
            return form.deviations
        return self.row_means - self.mean[..., None]

    def power_means(self, p: float) -> Array:
        """Return Σ_k a_k |C_ik|^p, shape (n,), in units of C to the power p."""
        # Other powers than squares do not follow from the low-rank form.
        form = self.low_rank if p == 2 else None
        if form is not None and form.saves_work:
            return self._square_means(form)
        xp = _array.namespace(self.weights)

        def powers(start: int, stop: int) -> Array:
            return xp.abs(self.rows(start, stop)) ** p

        return self._averaged_rows(powers)

    def _square_means(self, form: LowRankForm) -> Array:
        """Return Σ_k a_k C_ik² for every atom, shape (n,), from the low-rank form."""
        # C_ik = u_i + u_k ± g_iᵀg_k with Σ_k a_k g_k = 0: of the products, those of u_i
        # and g_iᵀg_k vanish, and Σ_k a_k (g_iᵀg_k)² = g_iᵀ (Gᵀ diag(a) G) g_i.
        xp = _array.namespace(self.weights)
        a = self.weights
        u = form.additive
        g = form.factor  # G, (n, t)
        mean = _array.dot(a, u)[..., None]
        mean_square = _array.dot(a, u**2)[..., None]
        residual_squares = xp.sum((g @ form.covariance) * g, axis=-1)  # (n,)
        moments = _array.times(_array.transposed(g), a * u)  # Σ a_k u_k g_k, (t,)
        cross = _array.times(g, moments)
        additive_squares = u**2 + 2 * u * mean + mean_square
        square_means = additive_squares + 2 * form.sign * cross + residual_squares
        # Means of squares, which the float error of differences may bring below 0.
        return xp.clip(square_means, min=0.0)

    def second_moment(self) -> Array:
        """Return ‖C‖² = Σ a_i a_k C_ik², in squared units of C."""
        # Theorem 2: ‖C‖² = m_C² + 2‖α‖² + ‖R‖².
        variance = _array.dot(self.weights, self.deviations**2)
        return self.mean**2 + 2 * variance + self.residual_norm_squared()

    def residual_rows(self, start: int, stop: int) -> Array:
        """Return rows of R = C − m − α1ᵀ − 1αᵀ, (stop − start, n), in units of C."""
        alpha = self.deviations
        of_rows = alpha[..., start:stop, None]
        of_columns = (alpha + self.mean[..., None])[..., None, :]
        residual = self.rows(start, stop) - of_rows
        # In place: a block of R needs no more memory than one of C.
        residual -= of_columns
        return residual

    def residual_norm_squared(self) -> Array:
        """Return ‖R‖² = Σ a_i a_k R_ik² without storing R, in squared units of C."""
        return self._residual_norm_squared

    @cached_property
    def _residual_norm_squared(self) -> Array:
        form = self.low_rank
        if form is not None and form.saves_work:
            return LowRankResidual(self.weights, form).norm_squared()

        def squares(start: int, stop: int) -> Array:
            return self.residual_rows(start, stop) ** 2

        return _array.dot(self.weights, self._averaged_rows(squares))

    def residual(self) -> Residual:
        """Return R in the form in which products with it cost least.

        It holds n t numbers where C has the rank t, else n².
        """
        form = self.low_rank
        if form is None:
            matrix = self._joined_rows(self.residual_rows)
            return DenseResidual(self.weights, matrix, self.sign)
        low_rank = LowRankResidual(self.weights, form)
        if form.saves_work:
            return low_rank
        return DenseResidual(self.weights, low_rank.dense(), form.sign)


def fields_alone(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass by their names, without cached properties."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


def row_blocks(size: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of rows of a square matrix, of about two million entries each."""
    step = max(1, BLOCK_ENTRIES // size)
    for start in range(0, size, step):
        stop = min(start + step, size)
        yield start, stop


def numbers_in_blocks(x: Space, y: Space) -> float:
    """Estimate how many numbers are held while blocks of rows are read."""
    if x.saves_work and y.saves_work:
        return 0.0
    block = min((x.size + y.size) ** 2, BLOCK_ENTRIES)
    # Rows of C and of D, picked at the atoms of a plan, and arithmetic on them.
    in_blocks = 5.0 * block
    return in_blocks + x.numbers_copied + y.numbers_copied


def numbers_at_atoms(x: Space, y: Space) -> float:
    """Estimate how many numbers are held by the objective of a sparse plan.

    Two low-rank forms, one of them of higher rank than it has atoms, are made into
    matrices; otherwise rows are read in blocks.
    """
    both_have_forms = x.low_rank is not None and y.low_rank is not None
    both_save_work = x.saves_work and y.saves_work
    if both_have_forms and not both_save_work:
        matrices = 2.0 * (x.size**2 + y.size**2)
        return matrices + 6.0 * x.size * y.size
    return numbers_in_blocks(x, y)


def copy_unchecked(space: S, **changed: Array) -> S:
    """Copy a space with some other fields, which are not checked.

    They must come from fields that were.
    """
    copy = object.__new__(type(space))
    for field in fields(cast(Any, space)):
        name = field.name
        # Not changed.get(name, …): a blank space has no fields to fall back on.
        value = changed[name] if name in changed else getattr(space, name)
        object.__setattr__(copy, name, value)
    return copy


def converted(space: Space, convert: Callable[[Array], Array]) -> Space:
    """Convert a space to a wider dtype, in which its weights sum to 1 again."""
    weights = convert(space.weights)
    if weights.dtype == space.weights.dtype:
        return space
    data = convert(space.data)
    return space.with_data(data, _array.normalised(weights))
