"""Graphs in files: lists of edges, and GraphML, whose nodes keep their names."""

from __future__ import annotations

import io
from importlib.util import find_spec
from typing import Any
from xml.etree import ElementTree

import numpy as np
import scipy.sparse
from scipy.sparse import csgraph

from gwtools import _check_graphs
from gwtools._check import of_file, unreadable
from gwtools.files.records import is_corner, kind, list_records
from gwtools.spaces import GraphSpace
from gwtools.spaces.base import copy_unchecked

Record = tuple[int, list[str]]

# Titles of the two columns of nodes, as pandas, Gephi and SNAP write them.
_ENDS = {
    *(
        ("source", "target"),
        ("from", "to"),
        ("src", "dst"),
        ("src", "dest"),
        ("fromnodeid", "tonodeid"),
    ),
    *(
        ("node1", "node2"),
        ("node_1", "node_2"),
        ("node 1", "node 2"),
        ("node_a", "node_b"),
    ),
}
_SOUND_LIKE_LENGTHS = {"weight", "length", "distance", "dist", "len", "cost"}


def read_edges(text: str, name: str, header: bool | None = None) -> GraphSpace:
    r"""Read a list of edges: two names of nodes a line, and a length where lines have a third cell; without it the length is 1.

    Nodes are in the order of their first mention. A first line is a header where its
    third cell is a word, or its two cells are such as ``source,target``, and no other
    line has one of these nodes; ``header`` says it otherwise. A first column under an
    empty name, as pandas writes, is left out. An edge may be listed both ways with the
    same length.

    Raises
    ------
    ValueError
        If lines have other cells than these, a length is negative, missing or no
        number, an edge has two lengths, or the graph is not connected.

    Examples
    --------
    >>> read_edges("here,there,km\nRome,Bari,430\n", "roads.csv").nodes
    ('Rome', 'Bari')
    """
    records = _without_index(list_records(text, name))
    if records and _has_header(records, header):
        records = records[1:]
    if not records:
        raise unreadable(
            name,
            "hold edges",
            "is empty",
            "write two names of nodes, and a length if you like, on every line",
        )
    nodes: dict[str, int] = {}
    lengths: dict[tuple[int, int], float] = {}
    for line, cells in records:
        place = f"{name}, line {line}"
        _require_ends(cells, len(records[0][1]), place)
        length = _length(cells[2], f"{place}, column 3") if len(cells) == 3 else 1.0
        i, j = (nodes.setdefault(cell, len(nodes)) for cell in cells[:2])
        if lengths.setdefault((i, j), length) != length:
            received = f"has {length:g} after {lengths[i, j]:g}"
            remedy = "keep one of them, for lengths are the same both ways"
            raise unreadable(
                place,
                f"give the edge of {cells[0]!r} and {cells[1]!r} one length",
                received,
                remedy,
            )
        lengths[j, i] = length
    return _space(nodes, lengths, name)


def _space(
    nodes: dict[str, int], lengths: dict[tuple[int, int], float], name: str
) -> GraphSpace:
    rows, cols = np.array(list(lengths)).T
    edges = scipy.sparse.csr_array(
        (np.array(list(lengths.values())), (rows, cols)), shape=(len(nodes), len(nodes))
    )
    names = tuple(nodes)
    with of_file(name):
        count, labels = csgraph.connected_components(edges, directed=False)
        _check_graphs.connected(
            count, labels, names
        )  # first, for GraphSpace knows positions alone
        return copy_unchecked(GraphSpace(edges), nodes=names)


def _without_index(records: list[Record]) -> list[Record]:
    if records and is_corner(records[0][1][0]) and len(records[0][1]) > 2:
        return [(line, cells[1:]) for line, cells in records]
    return records


def _has_header(records: list[Record], header: bool | None) -> bool:
    if header is not None:
        return header
    first = records[0][1]
    ends = tuple(cell.casefold() for cell in first)
    like_titles = kind(first[2]) == "word" if len(first) == 3 else ends in _ENDS
    return like_titles and not any(
        set(first[:2]) & set(cells[:2]) for _, cells in records[1:]
    )


def _require_ends(cells: list[str], width: int, place: str) -> None:
    if len(cells) not in (2, 3):
        remedy = "write names that hold spaces in quotation marks, or the edges with networkx.write_weighted_edgelist"
        raise unreadable(
            place,
            "hold two names of nodes and at most a length",
            f"has {len(cells)} cells",
            remedy,
        )
    if len(cells) != width:
        remedy = "give a length to all edges or to none"
        raise unreadable(
            place,
            f"have {width} cells, as the lines before it",
            f"has {len(cells)}",
            remedy,
        )
    if "" in cells[:2]:
        remedy = "name both ends or remove that line"
        raise unreadable(
            f"{place}, column {cells.index('') + 1}", "name a node", "is empty", remedy
        )


def _length(cell: str, place: str) -> float:
    found = kind(cell)
    if found != "number" or "," in cell or float(cell) < 0:
        received = "is empty" if cell == "" else f"is {cell!r}"
        raise unreadable(
            place,
            "hold a length, finite and not negative",
            received,
            "correct that line or remove it",
        )
    return float(cell)


def read_graphml(data: bytes, name: str, length: str | None = None) -> GraphSpace:
    """Read GraphML with networkx: undirected, edges of the length that an attribute says.

    Parameters
    ----------
    data : bytes
        The file.
    name : str
        What errors call it.
    length : str, optional
        Attribute of the edges that is their length, or "none" for edges of length 1. By
        default "weight" where it is the same on all edges, and length 1 where no edge
        has it or another attribute that sounds like a length.

    Raises
    ------
    ValueError
        If networkx is missing, the file is no GraphML, it is not said which attribute
        is the length, or the graph is directed, empty or not connected, lacks lengths
        on some edges only, or has lengths that are negative or no numbers.
    """
    if find_spec("networkx") is None:
        remedy = 'install it with pip install "gwfusion[graphs]", or write the graph as a list of edges'
        raise unreadable(
            name, "be read by networkx", "networkx is not installed", remedy
        )
    import networkx as nx

    try:
        graph = nx.read_graphml(io.BytesIO(data))
    except (
        SyntaxError,
        ValueError,
        KeyError,
        AttributeError,
        nx.NetworkXException,
    ) as error:
        received = f"does not ({first_sentence(error)})"
        raise unreadable(
            name,
            "hold one graph as GraphML",
            received,
            "write it with networkx.write_graphml",
        ) from error
    _require_one_graph(data, name)
    if graph.is_directed():
        remedy = 'write edgedefault="undirected" into it if every edge goes both ways'
        raise unreadable(
            name, "hold an undirected graph", "its edges have directions", remedy
        )
    attribute = None if length == "none" else length or _known_length(graph, name)
    with of_file(name):
        return GraphSpace(graph, weight=attribute)


def _require_one_graph(data: bytes, name: str) -> None:
    """Require one graph in GraphML that networkx has read, which takes the first."""
    tags = [element.tag.rpartition("}")[2] for element in ElementTree.fromstring(data)]
    count = tags.count("graph")
    if count != 1:
        raise unreadable(
            name,
            "hold one graph",
            f"holds {count}",
            "write the one that is meant into a file of its own",
        )


def first_sentence(error: Exception) -> str:
    """Return the first sentence of another library's error, or its type where it says nothing."""
    return (
        str(error).partition("\n")[0].partition(". ")[0].rstrip(".")
        or type(error).__name__
    )


def _known_length(graph: Any, name: str) -> str | None:
    """Return the attribute that is the length of edges where there is no choice, or None for edges of length 1."""
    edges = [data for *_, data in graph.edges(data=True)]
    weights = [data["weight"] for data in edges if "weight" in data]
    others = [
        key
        for data in edges
        for key in data
        if key != "weight" and key.casefold() in _SOUND_LIKE_LENGTHS
    ]
    if len(set(weights)) > 1 or (others and not weights):
        attribute = "weight" if weights else others[0]
        requirement = "say what is the length of an edge"
        received = f"its attribute {attribute!r} may be that, or a strength"
        remedy = f"pass --edge-length {attribute} if it is the length, or --edge-length none for edges of length 1"
        raise unreadable(name, requirement, received, remedy)
    return "weight" if weights else None
