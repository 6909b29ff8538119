"""Graphs with shortest-path distances, computed row by row from the edges."""

from __future__ import annotations

import math
from dataclasses import InitVar, dataclass, field
from functools import cached_property
from typing import Any, Self, final

import numpy as np
import scipy.sparse
from scipy.sparse import csgraph

from gwtools import _array, _check_graphs, _check_spaces
from gwtools._array import Array, NumpyArray
from gwtools.spaces import base
from gwtools.spaces.base import Space, copy_unchecked


class _Default(str):
    """The default name of an attribute: edges need not have it."""


_WEIGHT = _Default("weight")


@dataclass(frozen=True, eq=False)
class _Paths:
    """Shortest paths of one graph, shared by the spaces over its nodes, so that a stored matrix serves all of them."""

    adjacency: scipy.sparse.csr_array

    @cached_property
    def matrix(self) -> NumpyArray:
        """Lengths between all pairs of nodes."""
        return np.asarray(csgraph.dijkstra(self.adjacency, directed=False))

    def rows(self, sources: NumpyArray) -> NumpyArray:
        """Return lengths from some nodes to all: looked up where the matrix is stored or small, else computed."""
        if (
            "matrix" in self.__dict__
            or self.adjacency.shape[0] ** 2 <= base.BLOCK_ENTRIES
        ):
            return np.asarray(self.matrix[sources])
        return np.asarray(
            csgraph.dijkstra(self.adjacency, directed=False, indices=sources)
        )


@final
@dataclass(frozen=True, eq=False, repr=False)
class GraphSpace(Space):
    """A space of nodes with the shortest-path lengths between them.

    Parameters
    ----------
    adjacency : scipy.sparse matrix or array of shape (n, n), or networkx.Graph
        Edge lengths, non-negative and symmetric, of any real dtype; stored zeros are
        edges of length zero. Of parallel edges of a networkx graph the shortest counts.
    weights : numpy array of shape (n,), optional
        Probability weights of dtype float64, in the order of the nodes; uniform by
        default.
    weight : str or None, keyword only
        Attribute of a networkx graph's edges that is their length; None where every
        edge, of a sparse matrix too, has length
        1. By default "weight" where edges have it, else length 1.

    Attributes
    ----------
    nodes : tuple
        The atoms: the nodes of a networkx graph in its order, else 0 to n − 1.

    Raises
    ------
    TypeError
        If adjacency is neither sparse nor a networkx graph, an edge length is no real
        number, weights are no float64 NumPy array, or ``weight`` is no name.
    ValueError
        If the graph is empty, directed or not connected, an edge length is negative or
        not finite, some edges lack the attribute that others have or that was asked
        for, or the weights are negative, do not sum to 1 or do not match.

    Warns
    -----
    UserWarning
        If the edges of a networkx graph have unlike attributes "weight" and ``weight``
        is not given: many graphs store how strong an edge is there, which is the
        contrary of a length.

    Notes
    -----
    Lengths are float64 and computed by Dijkstra's algorithm from blocks of nodes
    whenever rows are asked for; they are kept where ``dense`` is called or the matrix
    holds no more than one block. A restricted space keeps the paths of the whole graph.

    Examples
    --------
    Friends who meet twice as often are half as far apart: strengths become lengths by
    their inverse.

    >>> import networkx as nx, gwtools as gw
    >>> graph = nx.Graph()
    >>> graph.add_weighted_edges_from([("a", "b", 2), ("b", "c", 4)])
    >>> for _, _, edge in graph.edges(data=True):
    ...     edge["length"] = 1 / edge["weight"]
    >>> gw.GraphSpace(graph, weight="length").dense()[0]
    array([0.  , 0.5 , 0.75])
    >>> gw.GraphSpace(graph, weight=None).dense()[0]
    array([0., 1., 2.])
    """

    adjacency: Any
    weights: Array = None
    weight: InitVar[str | None] = field(default=_WEIGHT, kw_only=True)
    nodes: tuple[Any, ...] = field(init=False)
    _index: NumpyArray = field(init=False)
    _paths: _Paths = field(init=False)

    def __post_init__(self, weight: str | None) -> None:
        _check_graphs.graph(self.adjacency)
        edges, nodes = _edges(self.adjacency, weight)
        _check_graphs.edge_lengths(edges)
        count, labels = csgraph.connected_components(edges, directed=False)
        _check_graphs.connected(count, labels, nodes)
        index = np.arange(len(nodes))
        weights = _check_spaces.weights(self.weights, np.empty(0), len(nodes))
        fields = {
            "adjacency": edges,
            "weights": weights,
            "nodes": nodes,
            "_index": index,
            "_paths": _Paths(edges),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def names(self) -> tuple[Any, ...]:
        """The nodes."""
        return self.nodes

    @property
    def data(self) -> Array:
        """The stored edge lengths, each edge once from either end."""
        return self.adjacency.data

    @property
    def sign(self) -> int:
        """0: shortest paths need not be of negative type."""
        return 0

    @property
    def float_operations(self) -> int:
        """A sum of at most as many edges as the graph has nodes, whichever of them are atoms; 0 where all sums are exact."""
        return 0 if self._sums_are_exact else int(self.adjacency.shape[0])

    @cached_property
    def _sums_are_exact(self) -> bool:
        """Whether all lengths are whole multiples of one power of two, few enough that every path's length is a float."""
        lengths = self.adjacency.data
        largest = float(lengths.max(initial=0.0))
        if largest == 0.0:
            return True
        unit = 2.0 ** (
            math.frexp(largest)[1] - 20
        )  # 2²⁰ units an edge, so that 2³³ edges are no more than 2⁵³
        return unit > 0.0 and bool(np.all(lengths % unit == 0))

    def rows(self, start: int, stop: int) -> Array:
        """Return rows ``start`` to ``stop`` of C, shape (stop − start, n), in units of the edge lengths."""
        lengths = self._paths.rows(self._index[start:stop])
        return lengths if self._has_all_nodes else lengths[:, self._index]

    def rows_at(self, index: Array, start: int, stop: int) -> Array:
        """Return C between the atoms ``index[start:stop]`` and ``index``, without naming their nodes."""
        columns = self._index[index]
        return self._paths.rows(columns[start:stop])[:, columns]

    @cached_property
    def _has_all_nodes(self) -> bool:
        """Whether the atoms are all the nodes in their order, so that no columns need be picked."""
        return bool(np.array_equal(self._index, np.arange(self.adjacency.shape[0])))

    def dense(self) -> Array:
        """Return the (n, n) matrix C, which is kept from then on."""
        matrix = self._paths.matrix
        return (
            matrix if self._has_all_nodes else matrix[np.ix_(self._index, self._index)]
        )

    def largest(self) -> float:
        """Return an upper bound of the diameter: twice the length to the node farthest from the first."""
        return 2.0 * float(self.rows(0, 1).max())

    def with_data(self, data: Array, weights: Array) -> Self:
        """Return the space over other edge lengths and weights, without checking them again."""
        old = self.adjacency
        if data is old.data:
            return copy_unchecked(self, weights=weights)
        edges = scipy.sparse.csr_array((data, old.indices, old.indptr), shape=old.shape)
        return copy_unchecked(
            self, adjacency=edges, weights=weights, _paths=_Paths(edges)
        )

    def restrict(self, index: Array) -> Self:
        """Return the space over the atoms ``index``, with the same weights; paths still use every node of the graph."""
        nodes = tuple(self.nodes[i] for i in index)
        return copy_unchecked(
            self, weights=self.weights[index], nodes=nodes, _index=self._index[index]
        )

    def scaled(self, factor: float) -> Self:
        """Return the space whose matrix is ``factor`` · C."""
        return (
            self
            if factor == 1.0
            else self.with_data(_array.scaled(self.data, factor), self.weights)
        )


def _edges(
    graph: Any, weight: str | None
) -> tuple[scipy.sparse.csr_array, tuple[Any, ...]]:
    """Return the edge lengths of a sparse matrix or a networkx graph in float64, and its nodes."""
    is_given = not isinstance(weight, _Default)
    _check_graphs.attribute_name(weight, is_given, graph)
    if scipy.sparse.issparse(graph):
        matrix = scipy.sparse.csr_array(graph).astype(np.float64)
        matrix.sum_duplicates()
        if weight is None:
            matrix.data[:] = 1.0
        return matrix, tuple(range(graph.shape[0]))
    nodes = tuple(graph)
    position = {node: i for i, node in enumerate(nodes)}
    stored = (
        [1] * graph.number_of_edges()
        if weight is None
        else [e[2] for e in graph.edges(data=weight)]
    )
    read = _check_graphs.attribute_values(stored, weight, is_given)
    lengths: dict[tuple[int, int], float] = {}
    for (one, other, *_), length in zip(graph.edges, read, strict=True):
        for pair in (
            (position[one], position[other]),
            (position[other], position[one]),
        ):
            lengths[pair] = min(length, lengths.get(pair, np.inf))
    rows, cols = np.array(list(lengths), dtype=np.int32).reshape(-1, 2).T
    values = np.array(list(lengths.values()), dtype=np.float64)
    return scipy.sparse.csr_array(
        (values, (rows, cols)), shape=(len(nodes), len(nodes))
    ), nodes
