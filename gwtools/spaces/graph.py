"""Graphs with shortest-path distances, computed row by row from the edges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field
from functools import cached_property
from typing import Any, Self, final

import numpy as np
import scipy.sparse
from scipy.sparse import csgraph

from gwtools import _array, _check, _check_graphs, _check_spaces
from gwtools._array import Array, NumpyArray
from gwtools.spaces import base
from gwtools.spaces.base import Space, copy_unchecked


class _DefaultName(str):
    """The name of an edge attribute where the caller gives none: edges may lack it."""


_WEIGHT = _DefaultName("weight")


@dataclass(frozen=True, eq=False)
class _Paths:
    """Shortest paths of one graph, shared by all spaces over some of its nodes.

    A matrix that one of them has stored serves the others.
    """

    adjacency: scipy.sparse.csr_array
    directed: bool = False

    @cached_property
    def matrix(self) -> NumpyArray:
        """Lengths between all pairs of nodes."""
        lengths = csgraph.dijkstra(self.adjacency, directed=self.directed)
        return np.asarray(lengths)

    def rows(self, sources: NumpyArray) -> NumpyArray:
        """Return lengths from some nodes to all, from the matrix if it is stored.

        A matrix that is no larger than a block of rows is stored first.
        """
        is_stored = "matrix" in self.__dict__
        n = self.adjacency.shape[0]
        if is_stored or n**2 <= base.BLOCK_ENTRIES:
            return np.asarray(self.matrix[sources])
        lengths = csgraph.dijkstra(
            self.adjacency, directed=self.directed, indices=sources
        )
        return np.asarray(lengths)


@final
@dataclass(frozen=True, eq=False, repr=False)
class GraphSpace(Space):
    """A space of nodes with the shortest-path lengths between them.

    Parameters
    ----------
    adjacency : scipy.sparse matrix or array of shape (n, n), or networkx.Graph
        Edge lengths, non-negative, of any real dtype, and symmetric unless
        ``directed``; stored zeros are edges of length zero. Of parallel edges of a
        networkx graph the shortest counts.
    weights : numpy array of shape (n,), optional
        Probability weights of dtype float64, in the order of the nodes; uniform by
        default.
    weight : str or None, keyword only
        Attribute of a networkx graph's edges that is their length. With None every
        edge, of a sparse matrix too, has length 1. By default "weight" where edges have
        it, else length 1.
    features : array of shape (n, d), optional, keyword only
        A feature vector of each atom, for :func:`gwtools.solve`, ``solve_batch`` and
        ``barycenter`` with ``alpha``; nothing else reads it.
    directed : bool, keyword only
        Whether edges have directions: C_ik is then the length of the shortest path from
        i to k along them. Entry (i, k) of a sparse matrix is the edge from i to k. What
        takes such spaces: see :class:`gwtools.DenseSpace`.

    Attributes
    ----------
    nodes : tuple
        The atoms: the nodes of a networkx graph in its order, else 0 to n − 1.

    Raises
    ------
    TypeError
        If adjacency is neither sparse nor a networkx graph, an edge length is no real
        number, weights are no float64 NumPy array, ``weight`` is no name, or
        ``directed`` is not True or False.
    ValueError
        If the graph is empty, not connected (along its directions where it is
        ``directed``), or has directions without ``directed`` or none with it, an edge
        length is negative or not finite, some edges lack the attribute that others have
        or that was asked for, or the weights are negative, do not sum to 1 or do not
        match.

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

    Attributes of nodes as features. Women of Natchez and the parties they went to, with
    all parties and without the last four: by paths alone some women are matched to
    parties; with features no more mass is than must be, as women are 18 of 32 nodes
    there and 18 of 28 here.

    >>> import numpy as np
    >>> def space(graph):
    ...     is_party = [3.0 * graph.nodes[node]["bipartite"] for node in graph]
    ...     return gw.GraphSpace(graph, features=np.array(is_party)[:, None])
    >>> women = nx.davis_southern_women_graph()
    >>> x, y = space(women), space(women.subgraph(list(women)[:-4]))
    >>> mixed = x.features != y.features.T
    >>> for alpha in (1.0, 0.5):
    ...     result = gw.solve(x, y, gw.ConditionalGradient(), alpha=alpha)
    ...     print(round(float(result.plan.dense()[mixed].sum()), 2))
    0.18
    0.08

    On a one-way circuit the way back is the long one.

    >>> circuit = nx.DiGraph([("a", "b"), ("b", "c"), ("c", "a")])
    >>> gw.GraphSpace(circuit, directed=True).dense()[0]
    array([0., 1., 2.])
    """

    adjacency: Any
    weights: Array = None
    weight: InitVar[str | None] = field(default=_WEIGHT, kw_only=True)
    features: Array = field(default=None, kw_only=True)
    directed: bool = field(default=False, kw_only=True)
    nodes: tuple[Any, ...] = field(init=False)
    _index: NumpyArray = field(init=False)
    _paths: _Paths = field(init=False)

    def __post_init__(self, weight: str | None) -> None:
        _check.flag(self.directed, "directed")
        _check_graphs.graph(self.adjacency, self.directed)
        edges, nodes = _edges(self.adjacency, weight, self.directed)
        _check_graphs.edge_lengths(edges, self.directed)
        count, labels = csgraph.connected_components(
            edges, directed=self.directed, connection="strong"
        )
        _check_graphs.connected(count, labels, nodes)
        n = len(nodes)
        weights = _check_spaces.weights(self.weights, edges.data, n)
        fields = {
            "adjacency": edges,
            "weights": weights,
            "features": _check_spaces.features(self.features, weights),
            "nodes": nodes,
            "_index": np.arange(n),
            "_paths": _Paths(edges, self.directed),
        }
        # The dataclass is frozen: its fields are set past it, here alone.
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def names(self) -> tuple[Any, ...]:
        """The nodes."""
        return self.nodes

    @property
    def data(self) -> Array:
        """The stored edge lengths, each edge once from either end it starts from."""
        return self.adjacency.data

    @property
    def sign(self) -> int:
        """0: shortest paths need not be of negative type."""
        return 0

    @property
    def float_operations(self) -> int:
        """A sum of fewer edges than the graph has nodes; 0 where sums are exact."""
        if self._sums_are_exact:
            return 0
        # Not the number of atoms: paths may pass through any node.
        return int(self.adjacency.shape[0])

    @cached_property
    def _sums_are_exact(self) -> bool:
        """Whether lengths of paths are computed without rounding.

        They are where all edges are whole multiples, up to the 2²⁰-fold, of one power
        of two.
        """
        lengths = self.adjacency.data
        largest = float(lengths.max(initial=0.0))
        if largest == 0.0:
            return True
        exponent = math.frexp(largest)[1]
        # Edges are at most 2²⁰ units long, and paths of up to 2³³ edges at most 2⁵³
        # units: whole numbers up to there are floats.
        unit = 2.0 ** (exponent - 20)
        # Of subnormal lengths the unit may be 0.
        return unit > 0.0 and bool(np.all(lengths % unit == 0))

    def rows(self, start: int, stop: int) -> Array:
        """Return rows ``start`` to ``stop`` of C, (stop − start, n), in units of C."""
        sources = self._index[start:stop]
        lengths = self._paths.rows(sources)  # to all nodes of the graph
        if self._has_all_nodes:
            return lengths
        return lengths[:, self._index]

    def rows_at(self, index: Array, start: int, stop: int) -> Array:
        """Return C between the atoms ``index[start:stop]`` and ``index``.

        No restricted space is made, which would name all its nodes for every block.
        """
        nodes = self._index[index]
        lengths = self._paths.rows(nodes[start:stop])
        return lengths[:, nodes]

    @cached_property
    def _has_all_nodes(self) -> bool:
        """Whether the atoms are all nodes in their order: rows then need no copy."""
        n_nodes = self.adjacency.shape[0]
        return bool(np.array_equal(self._index, np.arange(n_nodes)))

    def dense(self) -> Array:
        """Return the (n, n) matrix C, which is kept from then on."""
        matrix = self._paths.matrix
        if self._has_all_nodes:
            return matrix
        pairs = np.ix_(self._index, self._index)
        return matrix[pairs]

    def largest(self) -> float:
        """Return an upper bound of the largest distance, in units of C."""
        if self.directed:
            return float(self.dense().max())
        # Any two nodes are joined by a path through the first.
        farthest = self.rows(0, 1).max()
        return 2.0 * float(farthest)

    def with_data(self, data: Array, weights: Array) -> Self:
        """Return the space over other lengths and weights, which are not checked."""
        old = self.adjacency
        if data is old.data:
            # The same graph: its stored paths are kept.
            return copy_unchecked(self, weights=weights)
        edges = scipy.sparse.csr_array((data, old.indices, old.indptr), shape=old.shape)
        paths = _Paths(edges, self.directed)
        return copy_unchecked(self, adjacency=edges, weights=weights, _paths=paths)

    def restrict(self, index: Array) -> Self:
        """Return the space over the atoms ``index``, which keep their weights.

        Paths may still pass through every node of the graph.
        """
        nodes = tuple([self.nodes[i] for i in index])
        position = self._index[index]
        weights = self.weights[index]
        space = copy_unchecked(self, weights=weights, nodes=nodes, _index=position)
        return base.with_features_at(space, self.features, index)

    def scaled(self, factor: float) -> Self:
        """Return the space whose matrix is ``factor`` · C."""
        if factor == 1.0:
            return self
        return self.with_data(_array.scaled(self.data, factor), self.weights)


def _edges(
    graph: Any, weight: str | None, directed: bool
) -> tuple[scipy.sparse.csr_array, tuple[Any, ...]]:
    """Return the edge lengths of a graph in float64, and its nodes."""
    is_given = not isinstance(weight, _DefaultName)
    _check_graphs.attribute_name(weight, is_given, graph)
    if scipy.sparse.issparse(graph):
        nodes = tuple(range(graph.shape[0]))
        return _edges_of_matrix(graph, weight), nodes
    nodes = tuple(graph)
    stored = [1] * graph.number_of_edges()
    if weight is not None:
        stored = [value for _, _, value in graph.edges(data=weight)]
    lengths = _check_graphs.attribute_values(stored, weight, is_given)
    return _edges_of_networkx(graph, lengths, nodes, directed), nodes


def _edges_of_matrix(graph: Any, weight: str | None) -> scipy.sparse.csr_array:
    """Return a sparse matrix of edge lengths in float64; of ones if weight is None."""
    matrix = scipy.sparse.csr_array(graph).astype(np.float64)
    matrix.sum_duplicates()
    if weight is None:
        matrix.data[:] = 1.0
    return matrix


def _edges_of_networkx(
    graph: Any, lengths: Sequence[float], nodes: Sequence[Any], directed: bool
) -> scipy.sparse.csr_array:
    """Return the matrix of edge lengths; of parallel edges the shortest counts."""
    position = {node: i for i, node in enumerate(nodes)}
    shortest: dict[tuple[int, int], float] = {}
    for edge, length in zip(graph.edges, lengths, strict=True):
        # An edge of a multigraph is its two nodes and a key.
        i = position[edge[0]]
        j = position[edge[1]]
        for pair in ((i, j),) if directed else ((i, j), (j, i)):
            known = shortest.get(pair, np.inf)
            shortest[pair] = min(length, known)
    pairs = np.array(list(shortest), dtype=np.int32).reshape(-1, 2)
    rows, cols = pairs.T
    values = np.array(list(shortest.values()), dtype=np.float64)
    n = len(nodes)
    # Made from coordinates, not from a matrix of zeros, so that edges of length 0 stay.
    return scipy.sparse.csr_array((values, (rows, cols)), shape=(n, n))
