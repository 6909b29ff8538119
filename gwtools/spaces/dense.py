"""Spaces given by a matrix, and square arrays read as such."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self, final

from gwtools import _array, _check, _check_spaces
from gwtools._array import Array
from gwtools.spaces.base import (
    Space,
    copy_unchecked,
    row_blocks,
    with_features_at,
)


@final
@dataclass(frozen=True, eq=False, repr=False)
class DenseSpace(Space):
    """A space given by its matrix: distances, a kernel, a graph's adjacency.

    Parameters
    ----------
    distances : array of shape (n, n) or (n, n, c)
        Matrix C of finite floating-point numbers, symmetric unless ``directed``; it
        need not be a metric. With a third axis each C_ik is a vector of c edge
        features, such as kinds of bonds, and the objective a sum of squared lengths
        |C_ik − D_jl|²: a feature that is to count w times as much is multiplied by the
        root of w. :func:`gwtools.solve` and :func:`gwtools.certify` take such spaces,
        with the solvers named below, and nothing else does.
    weights : array of shape (n,), optional
        Probability weights; uniform by default.
    features : array of shape (n, d), optional, keyword only
        A feature vector of each atom, for :func:`gwtools.solve`, ``solve_batch`` and
        ``barycenter`` with ``alpha``; nothing else reads it.
    directed : bool, keyword only
        Whether C_ik, from i to k, may differ from C_ki: travel times in a city with
        one-way streets, or flows. :func:`gwtools.solve` and :func:`gwtools.certify`
        take such spaces, with :class:`gwtools.ConditionalGradient`,
        :class:`gwtools.MultiStart` and :class:`gwtools.Sinkhorn`, and so do the bounds
        that hold for them: ``row_means``, ``first``, ``second`` and ``third``.

    Raises
    ------
    TypeError
        If an argument is no array of an array-API library, does not hold floating-point
        numbers, ``directed`` is not True or False, or weights and distances differ in
        library, dtype or device.
    ValueError
        If the matrix is empty, not square, not finite or, unless ``directed``, not
        symmetric, or the weights are negative, do not sum to 1 or do not match; and by
        what needs one number for each pair, where there are edge features.

    Examples
    --------
    Hours between three towns, weighted by their inhabitants, and how far each town is
    from an inhabitant on average.

    >>> import numpy as np, gwtools as gw
    >>> hours = np.array([[0.0, 1.0, 3.0], [1.0, 0.0, 2.0], [3.0, 2.0, 0.0]])
    >>> towns = gw.DenseSpace(hours, weights=np.array([0.5, 0.25, 0.25]))
    >>> towns.row_means
    array([1., 1., 2.])

    Uphill takes longer than downhill.

    >>> hours[0, 1:] += 1
    >>> gw.DenseSpace(hours, directed=True).row_means.round(2)
    array([2.  , 1.  , 1.67])

    Two attributes of the edges of a graph, and the graph with its nodes in another
    order.

    >>> import networkx as nx
    >>> ring = nx.cycle_graph(5)
    >>> for number, (_, _, edge) in enumerate(ring.edges(data=True)):
    ...     edge.update(length=1.0 + number, kind=float(number % 2))
    >>> def space(order):
    ...     names = ("length", "kind")
    ...     of_edges = [nx.to_numpy_array(ring, order, weight=name) for name in names]
    ...     return gw.DenseSpace(np.stack(of_edges, axis=-1))
    >>> x, y = space([0, 1, 2, 3, 4]), space([2, 0, 4, 1, 3])
    >>> x
    DenseSpace(size=5, numpy float64, edge_features=2)
    >>> result = gw.solve(x, y)
    >>> float(result.objective), [pair[1] for pair in result.matching()]
    (0.0, [1, 3, 0, 4, 2])
    """

    distances: Array
    weights: Array = None
    features: Array = field(default=None, kw_only=True)
    directed: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        self._accept("distances")

    def _accept(self, name: str) -> None:
        """Check the matrix, called ``name`` in errors, and the weights."""
        _check.flag(self.directed, "directed")
        axes = 2 if name != "distances" else _check_spaces.matrix_axes(self.distances)
        matrix = _check.floating(self.distances, name, axes, "distances")
        # The dataclass is frozen: its fields are set past it, here alone. The matrix is
        # set before the other checks, which read its cached extremes and skew.
        object.__setattr__(self, "distances", matrix)
        largest = self.largest()
        _check.finite_largest(largest, name)
        _check_spaces.square(matrix, name)
        if not self.directed:
            _check_spaces.symmetric(self.skew, largest, _array.epsilon(matrix), name)
        n = matrix.shape[0]
        weights = _check_spaces.weights(self.weights, matrix, n)
        object.__setattr__(self, "weights", weights)
        features = _check_spaces.features(self.features, weights)
        object.__setattr__(self, "features", features)
        # Steps along the gradients, too, must leave the matrix symmetric.
        if _array.tracked(matrix) and not self.directed:
            object.__setattr__(self, "distances", _array.symmetric(matrix))

    @property
    def data(self) -> Array:
        """The matrix C."""
        return self.distances

    @property
    def sign(self) -> int:
        """0: the sign of R is not known before its spectrum is computed."""
        return 0

    @property
    def float_operations(self) -> int:
        """0: the entries are the stored values."""
        return 0

    @property
    def edge_features(self) -> int | None:
        """The number c of entries of each C_ik, None where these are numbers."""
        # Stacks of matrices have stacks of weights.
        has_vectors = self.distances.ndim - self.weights.ndim == 2
        return int(self.distances.shape[-1]) if has_vectors else None

    def rows(self, start: int, stop: int) -> Array:
        """Return rows ``start`` to ``stop`` of C, (stop − start, n), in units of C."""
        _check_spaces.of_numbers(self.edge_features, "space")
        return self.distances[..., start:stop, :]

    def dense(self) -> Array:
        """Return the (n, n) matrix C."""
        _check_spaces.of_numbers(self.edge_features, "space")
        return self.distances

    def values(self) -> Array:
        """Return all C_ik, of shape (n, n), or (n, n, c) where they are vectors."""
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
        xp = _array.namespace(self.distances)
        values = _array.detached(self.distances)
        low = float(xp.min(values))
        high = float(xp.max(values))
        return low, high

    @cached_property
    def skew(self) -> float:
        """The largest |C_ik − C_ki|, in units of C.

        Stored matrices are symmetric only up to float error (theorem 14).
        """
        xp = _array.namespace(self.distances)
        matrix = _array.detached(self.distances)
        n = int(matrix.shape[0])
        largest = []
        # By blocks of rows, so that no second matrix is made; differences have no name,
        # so that one block is freed before the next is made.
        for start, stop in row_blocks(n):
            rows = matrix[start:stop, ...]
            columns = matrix[:, start:stop, ...]
            # C_ik − C_ki and C_ki − C_ik are both among the differences of all blocks:
            # their maximum is that of the absolute values.
            largest.append(float(xp.max(rows - _array.exchanged_axes(columns))))
        return max(largest)

    def with_data(self, data: Array, weights: Array) -> Self:
        """Return the space over another matrix and weights, which are not checked."""
        return copy_unchecked(self, distances=data, weights=weights)

    def restrict(self, index: Array) -> Self:
        """Return the space over the atoms ``index``, which keep their weights."""
        xp = _array.namespace(self.distances)
        rows = xp.take(self.distances, index, axis=0)  # (k, n)
        block = xp.take(rows, index, axis=1)
        weights = xp.take(self.weights, index)
        space = self.with_data(block, weights)
        return with_features_at(space, self.features, index)

    def rows_at(self, index: Array, start: int, stop: int) -> Array:
        """Return C between the atoms ``index[start:stop]`` and ``index``.

        Only these rows are copied, not the matrix between all atoms of the index.
        """
        xp = _array.namespace(self.distances)
        rows = xp.take(self.distances, index[start:stop], axis=0)
        return xp.take(rows, index, axis=1)

    @property
    def numbers_copied(self) -> float:
        """About how many numbers copies of the matrix hold: n² each.

        Solvers and certificates make them before they start.
        """
        n_squared = 1.0 * self.size**2 * (self.edge_features or 1)
        is_converted = _array.epsilon(self.weights) > 1e-10
        if is_converted or not _array.all_positive(self.weights):
            # To float64, or without the atoms of weight 0; and then to other units.
            return 2.0 * n_squared
        low, high = self.extremes()
        # Entries that are all on one side of 0 are shifted, and those far from 1 are
        # brought to other units.
        keeps_offset = low <= 0.0 <= high
        keeps_units = 1e-60 < self.largest() < 1e60
        if keeps_offset and keeps_units:
            return 0.0
        return n_squared

    def scaled(self, factor: float) -> Self:
        """Return the space whose matrix is ``factor`` · C."""
        if factor == 1.0:
            return self
        return self.with_data(_array.scaled(self.distances, factor), self.weights)

    def shifted(self, constant: float) -> Self:
        """Return the space whose matrix is C − constant.

        Parameters
        ----------
        constant : float
            The number that is subtracted from every entry, in units of C.

        Returns
        -------
        DenseSpace
            Of the same weights.
        """
        return self.with_data(self.distances - constant, self.weights)


def as_space(value: Any, name: str = "space") -> Space:
    """Return a space as it is, and a square array as a :class:`DenseSpace`.

    Atoms of an array have uniform weights.

    Parameters
    ----------
    value : Space or square array of shape (n, n)
        The space, or its matrix C of finite floating-point numbers.
    name : str
        Name of the value in errors.

    Returns
    -------
    Space
        The space itself, or one that holds the array without copying it.

    Raises
    ------
    TypeError
        If the value is neither a space nor an array: the error says how a list, a
        table, a sparse matrix or a graph is converted. If an array does not hold
        floating-point numbers.
    ValueError
        If an array is empty, not square, not symmetric or not finite.

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


def without_directions(space: Space) -> Space:
    """Return a directed matrix that is symmetric as a space without directions.

    What is known of these holds for it. Others are returned as they are, and so are
    matrices in a gradient graph: changes of theirs may have directions.
    """
    if not isinstance(space, DenseSpace) or not space.directed:
        return space
    if _array.tracked(space.distances) or space.skew > 0.0:
        return space
    plain = dense_space(space.distances, space.weights)
    return copy_unchecked(plain, features=space.features)


def undirected_space(value: Any, name: str) -> Space:
    """Return a space as :func:`as_space`, and refuse a directed one."""
    space = as_space(value, name)
    _check_spaces.of_numbers(space.edge_features, name)
    _check_spaces.undirected(space.directed, name)
    return space


def dense_space(
    distances: Array,
    weights: Array,
    features: Array = None,
) -> DenseSpace:
    """Return the space of a matrix, weights and features without checking them."""
    # Without __init__, which checks both.
    uninitialised = object.__new__(DenseSpace)
    return copy_unchecked(
        uninitialised,
        distances=distances,
        weights=weights,
        features=features,
    )
