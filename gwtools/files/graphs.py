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
from gwtools.files.contents import first_sentence
from gwtools.files.records import Record, is_corner, kind, list_records
from gwtools.spaces import GraphSpace
from gwtools.spaces.base import copy_unchecked

# Titles of the two columns of nodes, as pandas, Gephi and SNAP write them.
_ENDS = {
    ("source", "target"),
    ("from", "to"),
    ("src", "dst"),
    ("src", "dest"),
    ("fromnodeid", "tonodeid"),
    ("node1", "node2"),
    ("node_1", "node_2"),
    ("node 1", "node 2"),
    ("node_a", "node_b"),
}
_SOUND_LIKE_LENGTHS = {"weight", "length", "distance", "dist", "len", "cost"}


def read_edges(text: str, name: str, header: bool | None = None) -> GraphSpace:
    r"""Read a list of edges: two names of nodes a line, and a length in a third cell.

    Without a third cell the length is 1. Nodes are in the order of their first mention.
    A first line is a header where its third cell is a word, or its two cells are such
    as ``source,target``, and no other line has one of these nodes. A first column under
    an empty name, as pandas writes, is left out. An edge may be listed both ways with
    the same length.

    Parameters
    ----------
    text : str
        Content of the file.
    name : str
        What errors call the file.
    header : bool, optional
        Whether the first line is a header; found out by default.

    Returns
    -------
    GraphSpace
        The graph, with the names of its nodes.

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
    # 1. Lines of edges.
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

    # 2. Nodes and lengths. Lengths are given to all edges or to none.
    width = len(records[0][1])
    nodes: dict[str, int] = {}  # positions, in the order of the first mention
    lengths: dict[tuple[int, int], float] = {}  # of every edge both ways
    for line, cells in records:
        place = f"{name}, line {line}"
        _require_ends(cells, width, place)
        length = 1.0
        if len(cells) == 3:
            length = _length(cells[2], f"{place}, column 3")
        # A name that is new gets the next position.
        i = nodes.setdefault(cells[0], len(nodes))
        j = nodes.setdefault(cells[1], len(nodes))
        # An edge may be listed again, or the other way, but not with another length.
        # Both ways are stored, so that either finds it.
        known = lengths.setdefault((i, j), length)
        if known != length:
            raise unreadable(
                place,
                f"give the edge of {cells[0]!r} and {cells[1]!r} one length",
                f"has {length:g} after {known:g}",
                "keep one of them, for lengths are the same both ways",
            )
        lengths[j, i] = length
    return _space(nodes, lengths, name)


def _without_index(records: list[Record]) -> list[Record]:
    """Leave a first column out that is an index by its title."""
    if not records:
        return records
    head = records[0][1]
    # Two cells are the ends of an edge, even under an empty title.
    if len(head) > 2 and is_corner(head[0]):
        return [(line, cells[1:]) for line, cells in records]
    return records


def _has_header(records: list[Record], header: bool | None) -> bool:
    """Tell whether the first line holds titles."""
    if header is not None:
        return header
    head = records[0][1]
    # Without a length, only well-known titles can be told from names of nodes.
    ends = tuple(map(str.casefold, head))
    like_titles = kind(head[2]) == "word" if len(head) == 3 else ends in _ENDS
    if not like_titles:
        return False
    # A node of another edge is no title: the length beside it is then a mistake.
    nodes: set[str] = set()
    for _, cells in records[1:]:
        nodes.update(cells[:2])
    return nodes.isdisjoint(head[:2])


def _require_ends(cells: list[str], width: int, place: str) -> None:
    """Require two names of nodes, in a line of as many cells as the first."""
    count = len(cells)
    if count not in (2, 3):
        raise unreadable(
            place,
            "hold two names of nodes and at most a length",
            f"has {count} cells",
            "write names that hold spaces in quotation marks, or the edges with "
            "networkx.write_weighted_edgelist",
        )
    if count != width:
        raise unreadable(
            place,
            f"have {width} cells, as the lines before it",
            f"has {count}",
            "give a length to all edges or to none",
        )
    ends = cells[:2]
    if "" in ends:
        column = ends.index("") + 1
        raise unreadable(
            f"{place}, column {column}",
            "name a node",
            "is empty",
            "name both ends or remove that line",
        )


def _length(cell: str, place: str) -> float:
    """Return the length that a cell holds, with a decimal point."""
    # A comma may be that of decimals or of thousands.
    if kind(cell) != "number" or "," in cell or float(cell) < 0:
        received = "is empty" if cell == "" else f"is {cell!r}"
        raise unreadable(
            place,
            "hold a length, finite and not negative",
            received,
            "correct that line or remove it",
        )
    return float(cell)


def _space(
    nodes: dict[str, int], lengths: dict[tuple[int, int], float], name: str
) -> GraphSpace:
    """Return the graph of edges that are listed both ways."""
    n = len(nodes)
    ends = np.array(list(lengths))  # (edges, 2)
    rows, cols = ends.T  # every edge both ways
    values = np.array(list(lengths.values()))  # (edges,)
    edges = scipy.sparse.csr_array((values, (rows, cols)), shape=(n, n))
    names = tuple(nodes)  # in the order of their positions
    with of_file(name):
        # Here and not in GraphSpace alone, which knows nodes by their positions only.
        count, labels = csgraph.connected_components(edges, directed=False)
        _check_graphs.connected(count, labels, names)
        space = GraphSpace(edges)
        return copy_unchecked(space, nodes=names)


def read_graphml(data: bytes, name: str, length: str | None = None) -> GraphSpace:
    """Read an undirected graph from GraphML, by networkx.

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

    Returns
    -------
    GraphSpace
        The graph, with the names of its nodes.

    Raises
    ------
    ValueError
        If networkx is missing, the file is no GraphML, it is not said which attribute
        is the length, or the graph is directed, empty or not connected, lacks lengths
        on some edges only, or has lengths that are negative or no numbers.
    """
    graph = _read_with_networkx(data, name)
    _require_one_graph(data, name)
    if graph.is_directed():
        raise unreadable(
            name,
            "hold an undirected graph",
            "its edges have directions",
            'write edgedefault="undirected" into it if every edge goes both ways',
        )
    # What is said goes before what the attributes show.
    attribute: str | None
    if length == "none":
        attribute = None
    elif length:
        attribute = length
    else:
        attribute = _known_length(graph, name)
    with of_file(name):
        return GraphSpace(graph, weight=attribute)


def _read_with_networkx(data: bytes, name: str) -> Any:
    """Return the first graph of GraphML, as networkx reads it."""
    if find_spec("networkx") is None:
        raise unreadable(
            name,
            "be read by networkx",
            "networkx is not installed",
            'install it with pip install "gwfusion[graphs]", or write the graph as a '
            "list of edges",
        )
    import networkx as nx

    # Of other XML, and of GraphML that is wrong, networkx raises any of these.
    failures = (
        SyntaxError,
        ValueError,
        KeyError,
        AttributeError,
        nx.NetworkXException,
    )
    try:
        return nx.read_graphml(io.BytesIO(data))
    except failures as error:
        received = f"does not ({first_sentence(error)})"
        raise unreadable(
            name,
            "hold one graph as GraphML",
            received,
            "write it with networkx.write_graphml",
        ) from error


def _require_one_graph(data: bytes, name: str) -> None:
    """Require one graph in GraphML, of which networkx reads the first alone."""
    root = ElementTree.fromstring(data)
    # Tags start with the namespace in braces, where there is one.
    tags = [element.tag.rpartition("}")[2] for element in root]
    count = tags.count("graph")
    if count != 1:
        raise unreadable(
            name,
            "hold one graph",
            f"holds {count}",
            "write the one that is meant into a file of its own",
        )


def _known_length(graph: Any, name: str) -> str | None:
    """Return the attribute that is the length of edges, None for edges of length 1.

    It is refused where there is a choice: a larger weight may mean a longer edge or a
    stronger one.
    """
    weights: list[Any] = []
    others: list[str] = []  # other attributes of any edge that may be lengths
    for _, _, data in graph.edges(data=True):
        if "weight" in data:
            weights.append(data["weight"])
        for key in data:
            if key != "weight" and key.casefold() in _SOUND_LIKE_LENGTHS:
                others.append(key)
    distinct = set(weights)
    if len(distinct) > 1 or (others and not weights):
        attribute = "weight" if weights else others[0]
        raise unreadable(
            name,
            "say what is the length of an edge",
            f"its attribute {attribute!r} may be that, or a strength",
            f"pass --edge-length {attribute} if it is the length, or --edge-length "
            "none for edges of length 1",
        )
    return "weight" if weights else None
