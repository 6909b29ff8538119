"""Rejects graphs of unexpected directions, not connected or with invalid lengths."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import scipy.sparse

from gwtools import _check, _words
from gwtools._array import NumpyArray


def graph(value: Any, directed: bool) -> None:
    """Require a sparse matrix or a networkx graph, of directions only if asked for."""
    if scipy.sparse.issparse(value):
        _sparse(value)
    elif _words.is_networkx(value):
        _networkx(value, directed)
    else:
        kind = type(value).__name__
        raise TypeError(
            "adjacency must be a scipy.sparse matrix or a networkx graph, "
            f"but is of type {kind}: "
            "convert it first, for example with scipy.sparse.csr_array(adjacency)."
        )


def _sparse(matrix: Any) -> None:
    """Require a square sparse matrix of real numbers."""
    shape = tuple(matrix.shape)
    # A sparse array may have one axis.
    is_square = len(shape) == 2 and shape[0] == shape[1]
    if not is_square or shape[0] == 0:
        raise ValueError(
            "adjacency must be a square matrix with one row for each node, "
            f"but has shape {shape}: "
            "pass the edge lengths of all pairs of at least one node."
        )
    # Truth values, integers of both kinds and floating-point numbers.
    if matrix.dtype.kind not in "biuf":
        raise TypeError(
            f"adjacency must hold real numbers, but has dtype {matrix.dtype}: "
            "convert it first."
        )


def _networkx(graph: Any, directed: bool) -> None:
    """Require a graph with nodes, of the directions that were asked for."""
    if len(graph) == 0:
        raise ValueError(
            "adjacency must have at least one node, but the graph is empty: "
            "add its nodes first."
        )
    if graph.is_directed() and not directed:
        raise ValueError(
            "adjacency must be an undirected graph, but its edges have directions: "
            "pass graph.to_undirected(), or directed=True for paths along them."
        )
    if directed and not graph.is_directed():
        raise ValueError(
            "adjacency must have directions where directed=True, but its edges have "
            "none: pass graph.to_directed(), or leave directed out."
        )


def attribute_name(name: Any, is_given: bool, adjacency: Any) -> None:
    """Require the name of an attribute of a networkx graph's edges, or None."""
    if name is None:
        return
    if not isinstance(name, str):
        received = _words.shown(name)
        raise TypeError(
            f"weight must be the name of an edge attribute or None, but is {received}: "
            "pass weights, in the plural, for the weights of the nodes."
        )
    if is_given and scipy.sparse.issparse(adjacency):
        raise ValueError(
            "weight must be left out or None for a sparse matrix, whose entries are "
            f"lengths, but is {name!r}: name attributes of a networkx graph alone."
        )


def attribute_values(
    values: list[Any], name: str | None, is_given: bool
) -> list[float]:
    """Return the lengths of edges, which are ones where no edge has the attribute.

    All edges must have an attribute that was asked for, or that some of them have. The
    warning points to the user's line, five calls up.
    """
    attribute = repr(str(name))
    count = len(values)
    missing = sum([value is None for value in values])
    if missing and (is_given or missing < count):
        raise ValueError(
            f"adjacency must have the attribute {attribute} on every edge, "
            f"but {missing} of {count} edges lack it: "
            "set it there, or pass weight=None for edges of length 1."
        )
    if missing:
        return [1.0] * count
    for value in values:
        if not isinstance(value, Real):
            received = _words.shown(value)
            raise TypeError(
                f"adjacency must have real numbers as the attribute {attribute} of its "
                f"edges, but one is {received}: convert it first."
            )
    lengths = [_check.as_float(value) for value in values]
    # Equal strengths are equal lengths but for one factor, which changes no coupling.
    if not is_given and len(set(values)) > 1:
        least = min(lengths)
        most = max(lengths)
        warnings.warn(
            f"adjacency has the edge attribute 'weight', from {least:.3g} to "
            f"{most:.3g}, which is read as the length of an edge: where it says how "
            "strong an edge is, pass weight=None for edges of length 1, or "
            "weight='length' after storing 1 / weight there; weight='weight' says "
            "that lengths are meant.",
            stacklevel=5,
        )
    return lengths


def edge_lengths(adjacency: scipy.sparse.csr_array, directed: bool) -> None:
    """Require finite edge lengths ≥ 0, the same both ways unless they are directed."""
    lengths = adjacency.data
    _check.finite(lengths, "adjacency")
    if (lengths < 0).any():
        least = lengths.min()
        raise ValueError(
            "adjacency must hold non-negative edge lengths, "
            f"but the smallest is {least:.3g}: "
            "turn similarities into lengths first, for example by -log or 1 / weight."
        )
    if directed:
        return
    ones = np.ones_like(lengths)
    stored = (ones, adjacency.indices, adjacency.indptr)
    # Ones at the stored entries: an edge of length 0 differs from no edge there.
    present = scipy.sparse.csr_array(stored, adjacency.shape)
    skew = _skew(adjacency)
    missing = _skew(present)
    largest = lengths.max(initial=0.0)
    if missing or skew > 128 * np.finfo(float).eps * largest:
        raise ValueError(
            "adjacency must be symmetric, "
            "but some edge has another length the other way or is missing there: "
            "pass adjacency.maximum(adjacency.T), or directed=True for edges of one "
            "direction."
        )


def _skew(matrix: scipy.sparse.csr_array) -> float:
    """Return max |M_ik − M_ki|."""
    return float(abs(matrix - matrix.T).max())


def connected(count: int, labels: NumpyArray, nodes: Sequence[Any]) -> None:
    """Require that every node can be reached from every other."""
    if count == 1:
        return
    sizes = np.bincount(labels)
    # Five at most, the largest first.
    shown = np.argsort(-sizes, kind="stable")[:5]
    named = []
    for component in shown:
        first = int(np.argmax(labels == component))
        named.append(f"{sizes[component]} nodes, one is {nodes[first]!r}")
    if count > len(shown):
        named.append("…")
    components = "; ".join(named)
    raise ValueError(
        f"adjacency must connect all nodes, but has {count} components ({components}): "
        "pass the largest one alone, or add the edges that are missing."
    )
