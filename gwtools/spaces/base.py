"""Base class of spaces: a matrix C over n atoms with probability weights a.

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
    """A matrix C (n, n) over n atoms with probability weights a (n,).

    It is symmetric unless the space is ``directed``. Subclasses define how rows of C
    are made. Means, moments and the residual are computed from blocks of rows, or from
    the low-rank form where there is one. R is the residual of a symmetric C without its
    mean and row means, see ``residual_rows``. A stack of B
    spaces of one kind and size is a space, too: its stored values and its weights
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
    features: Array = None  # (n, d), of fused objectives alone
    directed: bool = False  # whether C_ik and C_ki may differ

    @property
    def edge_features(self) -> int | None:
        """The number of entries of each C_ik where it is a vector, else None."""
        return None

    @property
    @abstractmethod
    def data(self) -> Array:
        """The stored values that define C."""

    @abstractmethod
    def rows(self, start: int, stop: int) -> Array:
        """Return a block of rows of C.

        Parameters
        ----------
        start, stop : int
            The first row, and the one after the last.

        Returns
        -------
        array of shape (stop − start, n)
            In units of C.
        """

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
        """Return bounds of all entries of C.

        Returns
        -------
        (float, float)
            A number that no entry is below and one that none is above, in units of C.
            Entries are taken to be ≥ 0 unless a subclass overrides this.
        """
        return 0.0, self.largest()

    @abstractmethod
    def with_data(self, data: Array, weights: Array) -> Self:
        """Return a space of the same kind with other values, which are not checked.

        Parameters
        ----------
        data : array
            Stored values, as ``data`` of this space.
        weights : array of shape (n,)
            Probability weights.

        Returns
        -------
        Space
            Of this space's class.
        """

    @abstractmethod
    def restrict(self, index: Array) -> Self:
        """Return the space over some of the atoms.

        Parameters
        ----------
        index : integer array of shape (k,)
            Positions of the atoms, in any order; an atom may repeat.

        Returns
        -------
        Space
            Of this space's class. Atoms keep their weights, whatever their sum is then.
        """

    def rows_at(self, index: Array, start: int, stop: int) -> Array:
        """Return a block of rows of C between some of the atoms.

        Parameters
        ----------
        index : integer array of shape (k,)
            Positions of the atoms.
        start, stop : int
            The first row, and the one after the last, as positions in ``index``.

        Returns
        -------
        array of shape (stop − start, k)
            C between the atoms ``index[start:stop]`` and ``index``, in units of C.
        """
        return self.restrict(index).rows(start, stop)

    @abstractmethod
    def scaled(self, factor: float) -> Self:
        """Return the space whose matrix is ``factor`` · C.

        Parameters
        ----------
        factor : float
            A power of four: every digit of C is kept, as both the factor and its root
            are powers of two.

        Returns
        -------
        Space
            Of this space's class.
        """

    @property
    def float_operations(self) -> int:
        """Number ρ of rounded operations behind an entry of C, 0 for stored entries.

        The float error of an entry is at most γ_ρ max |C_ik|, but for underflow.
        """
        # More than the additions along a path of n nodes. Other kinds override this.
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
        return 2.0 * self.size**2  # C and R

    @property
    def numbers_copied(self) -> float:
        """About how many numbers copies of C hold, made for another dtype or unit.

        0 for spaces that do not store C: copies of points and factors are small.
        """
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
        """Name the kind, the size, the array library and what values are."""
        name = type(self).__name__
        library = _array.library(self.weights)
        dtype = self.weights.dtype
        directions = ", directed" if self.directed else ""
        count = self.edge_features
        vectors = "" if count is None else f", edge_features={count}"
        return f"{name}(size={self.size}, {library} {dtype}{vectors}{directions})"

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Return ranges of rows that hold about two million entries each.

        Returns
        -------
        iterator of (int, int)
            The first row, and the one after the last.
        """
        return row_blocks(self.size)

    def dense(self) -> Array:
        """Return the matrix C.

        Returns
        -------
        array of shape (n, n)
            In units of C.
        """
        return self._joined_rows(self.rows)

    def values(self) -> Array:
        """Return all values C_ik, numbers or vectors.

        Returns
        -------
        array of shape (n, n) or (n, n, c)
            In units of C.
        """
        return self.dense()

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
        """Return the weighted mean of |C_ik|^p over each row of C.

        Parameters
        ----------
        p : float
            A positive power.

        Returns
        -------
        array of shape (n,)
            Σ_k a_k |C_ik|^p, in units of C to the power p.
        """
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
        # C_ik = u_i + u_k ± g_iᵀg_k with u = α + m/2 and Σ_k a_k g_k = 0. Of its
        # square, the mean over k of u_i g_iᵀg_k vanishes, and
        # Σ_k a_k (g_iᵀg_k)² = g_iᵀ (Gᵀ diag(a) G) g_i.
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
        """Return the weighted mean of the squared entries of C.

        Returns
        -------
        array of shape ()
            ‖C‖² = Σ a_i a_k C_ik², in squared units of C.
        """
        # Theorem 2: ‖C‖² = m_C² + 2‖α‖² + ‖R‖².
        variance = _array.dot(self.weights, self.deviations**2)
        return self.mean**2 + 2 * variance + self.residual_norm_squared()

    def residual_rows(self, start: int, stop: int) -> Array:
        """Return a block of rows of the residual R = C − m − α1ᵀ − 1αᵀ.

        Parameters
        ----------
        start, stop : int
            The first row, and the one after the last.

        Returns
        -------
        array of shape (stop − start, n)
            In units of C.
        """
        alpha = self.deviations
        of_rows = alpha[..., start:stop, None]
        of_columns = (alpha + self.mean[..., None])[..., None, :]
        residual = self.rows(start, stop) - of_rows
        # In place: a block of R needs no more memory than one of C.
        residual -= of_columns
        return residual

    def residual_norm_squared(self) -> Array:
        """Return the weighted mean of the squared entries of R, without storing R.

        Returns
        -------
        array of shape ()
            ‖R‖² = Σ a_i a_k R_ik², in squared units of C.
        """
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

        Returns
        -------
        Residual
            A factor of n t numbers where C has a low-rank form of rank t ≤ n, else the
            matrix of n².
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
    """Estimate how many numbers are held while rows of C and D are read in blocks."""
    if x.saves_work and y.saves_work:
        return 0.0
    # The rows are those at the atoms of a sparse plan, of which there are about n + m.
    block = min((x.size + y.size) ** 2, BLOCK_ENTRIES)
    # One block of C and one of D, and arithmetic on them.
    return 5.0 * block + x.numbers_copied + y.numbers_copied


def numbers_at_atoms(x: Space, y: Space) -> float:
    """Estimate how many numbers are held by the objective of a sparse plan.

    Two low-rank forms, one of them of higher rank than it has atoms, are made into
    matrices; otherwise rows are read in blocks.
    """
    both_have_forms = x.low_rank is not None and y.low_rank is not None
    both_save_work = x.saves_work and y.saves_work
    if both_have_forms and not both_save_work:
        # C, D, R and S; and about six n × m arrays, of the plan and its products.
        matrices = 2.0 * (x.size**2 + y.size**2)
        return matrices + 6.0 * x.size * y.size
    return numbers_in_blocks(x, y)


def copy_unchecked(space: S, **changed: Array) -> S:
    """Copy a space with some other fields, which are not checked.

    They must be computed from fields that were checked.
    """
    copy = object.__new__(type(space))
    for field in fields(cast(Any, space)):
        name = field.name
        # Not changed.get, as a space that has not been initialised has no fields yet.
        value = changed[name] if name in changed else getattr(space, name)
        object.__setattr__(copy, name, value)
    return copy


def with_features_at(space: S, features: Array, index: Array) -> S:
    """Return a restricted space with its part of features (n, d), if there are any."""
    if features is None:
        return space
    xp = _array.namespace(features)
    return copy_unchecked(space, features=xp.take(features, index, axis=0))


def converted(space: Space, convert: Callable[[Array], Array]) -> Space:
    """Convert a space to a wider dtype, in which its weights sum to 1 again."""
    weights = convert(space.weights)
    if weights.dtype == space.weights.dtype:
        return space
    data = convert(space.data)
    return space.with_data(data, _array.normalised(weights))


def detached(space: Space) -> Space:
    """Return the space outside any gradient graph."""
    if space.features is not None and _array.tracked(space.features):
        space = copy_unchecked(space, features=_array.detached(space.features))
    is_tracked = _array.tracked(space.data) or _array.tracked(space.weights)
    if not is_tracked:
        return space
    data = _array.detached(space.data)
    weights = _array.detached(space.weights)
    return space.with_data(data, weights)
