"""Rejects graphs that are directed, not connected or without valid edge lengths."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import scipy.sparse

from gwtools import _check, _words
from gwtools._array import NumpyArray


def graph(value: Any) -> None:
    """Require a sparse matrix or a networkx graph without directions."""
    if scipy.sparse.issparse(value):
        if value.ndim != 2 or value.shape[0] != value.shape[1] or value.shape[0] == 0:
            raise ValueError(
                f"adjacency must be a square matrix with one row for each node, but has shape {tuple(value.shape)}: "
                "pass the edge lengths of all pairs of at least one node."
            )
        if value.dtype.kind not in "biuf":
            raise TypeError(
                f"adjacency must hold real numbers, but has dtype {value.dtype}: convert it first."
            )
        return
    if not _words.is_networkx(value):
        raise TypeError(
            f"adjacency must be a scipy.sparse matrix or a networkx graph, but is of type {type(value).__name__}: "
            "convert it first, for example with scipy.sparse.csr_array(adjacency)."
        )
    if len(value) == 0:
        raise ValueError(
            "adjacency must have at least one node, but the graph is empty: add its nodes first."
        )
    if value.is_directed():
        raise ValueError(
            "adjacency must be an undirected graph, but its edges have directions: "
            "pass graph.to_undirected() if that is what you mean."
        )


def attribute_name(name: Any, is_given: bool, adjacency: Any) -> None:
    """Require the name of an attribute of a networkx graph's edges, or None."""
    if name is not None and not isinstance(name, str):
        raise TypeError(
            f"weight must be the name of an edge attribute or None, but is {_words.shown(name)}: "
            "pass weights, in the plural, for the weights of the nodes."
        )
    if is_given and name is not None and scipy.sparse.issparse(adjacency):
        raise ValueError(
            f"weight must be left out or None for a sparse matrix, whose entries are lengths, but is {name!r}: "
            "name attributes of a networkx graph alone."
        )


def attribute_values(
    values: list[Any], name: str | None, is_given: bool
) -> list[float]:
    """Return the lengths of edges; require the attribute of all of them, or of none where nobody has asked for it."""
    missing = sum(value is None for value in values)
    if missing and (is_given or missing < len(values)):
        raise ValueError(
            f"adjacency must have the attribute {str(name)!r} on every edge, but {missing} of {len(values)} edges lack it: "
            "set it there, or pass weight=None for edges of length 1."
        )
    if missing:
        return [1.0] * len(values)
    for value in values:
        if not isinstance(value, Real):
            raise TypeError(
                f"adjacency must have real numbers as the attribute {str(name)!r} of its edges, but one is "
                f"{_words.shown(value)}: convert it first."
            )
    lengths = [_check.as_float(value) for value in values]
    if not is_given and len(set(values)) > 1:
        warnings.warn(
            f"adjacency has the edge attribute 'weight', from {min(lengths):.3g} to {max(lengths):.3g}, which is read as the "
            "length of an edge: where it says how strong an edge is, pass weight=None for edges of length 1, or "
            "weight='length' after storing 1 / weight there; weight='weight' says that lengths are meant.",
            stacklevel=5,
        )
    return lengths


def edge_lengths(adjacency: scipy.sparse.csr_array) -> None:
    """Require finite and non-negative edge lengths, the same both ways up to float error."""
    lengths = adjacency.data
    _check.finite(lengths, "adjacency")
    if (lengths < 0).any():
        raise ValueError(
            f"adjacency must hold non-negative edge lengths, but the smallest is {lengths.min():.3g}: "
            "turn similarities into lengths first, for example by -log or 1 / weight."
        )
    present = scipy.sparse.csr_array(
        (np.ones_like(lengths), adjacency.indices, adjacency.indptr), adjacency.shape
    )
    skew, missing = (abs(matrix - matrix.T).max() for matrix in (adjacency, present))
    if missing or skew > 128 * np.finfo(float).eps * lengths.max(initial=0.0):
        raise ValueError(
            "adjacency must be symmetric, but some edge has another length the other way or is missing there: "
            "pass adjacency.maximum(adjacency.T) if that is what you mean."
        )


def connected(count: int, labels: NumpyArray, nodes: Sequence[Any]) -> None:
    """Require that every node can be reached from every other."""
    if count == 1:
        return
    sizes = np.bincount(labels)
    shown = np.argsort(-sizes, kind="stable")[:5]
    named = "; ".join(
        f"{sizes[c]} nodes, one is {nodes[int(np.argmax(labels == c))]!r}"
        for c in shown
    )
    raise ValueError(
        f"adjacency must connect all nodes, but has {count} components ({named}{'; …' if count > len(shown) else ''}): "
        "pass the largest one alone, or add the edges that are missing."
    )
