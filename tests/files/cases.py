"""Files as people have them, and what they mean: the form of every case of a file."""

import io
import re
from dataclasses import dataclass, field
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp

import gwtools as gw
from gwtools.files.formats import read_space
from tests.test_check import refused


@dataclass(frozen=True)
class Read:
    """What a file means: points or a matrix, and the names of its rows."""

    values: list
    names: tuple | None = None


@dataclass(frozen=True)
class Graph:
    """What a file means: lengths of edges by name, in an order of nodes."""

    edges: dict
    nodes: tuple


@dataclass(frozen=True)
class Refused:
    """What the sentence about a file says, behind its name."""

    where: str
    words: str


@dataclass(frozen=True)
class Case:
    """A file: its name and content, what it means, and the options that are given."""

    name: str
    content: str | bytes
    meant: Read | Graph | Refused
    said: dict = field(default_factory=dict)


POINTS = [[1.5, -2.0], [3.0, 0.25]]
PLAIN = Read(POINTS)
NAMED = Read(POINTS, ("anna", "bjørn"))
MATRIX = [[0.0, 1.5, 2.0], [1.5, 0.0, 1.0], [2.0, 1.0, 0.0]]
DISTANCES = {"holds": "distances"}
WITH_EDGES = {"holds": "edges"}


def array(value, saved=np.save):
    buffer = io.BytesIO()
    saved(buffer, value)
    return buffer.getvalue()


def graphml(edges, kind=nx.Graph, **data):
    graph = kind()
    graph.add_weighted_edges_from(edges, **data)
    buffer = io.BytesIO()
    nx.write_graphml(graph, buffer)
    return buffer.getvalue()


def read(case, folder):
    """Write the file of a case, and read it."""
    content = case.content
    path = Path(folder) / case.name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    options = dict(case.said)
    holds = options.pop("holds", None)
    return read_space(path, holds, **options)


def check(case, folder):
    """Check that a file is read as it was meant, or refused."""
    if isinstance(case.meant, Refused):
        check_refusal(case, folder)
        return
    named = read(case, folder)
    if isinstance(case.meant, Graph):
        check_graph(named, case.meant)
    else:
        distances = case.said.get("holds") == "distances"
        check_numbers(named, case.meant, gw.DenseSpace if distances else gw.PointCloud)


def check_numbers(named, meant, kind):
    """Check numbers and names."""
    assert type(named.space) is kind
    assert named.space.data.dtype == np.float64
    assert named.space.data.dtype.isnative
    np.testing.assert_array_equal(named.space.data, np.array(meant.values))
    positions = range(len(meant.values))
    assert list(named.names) == list(meant.names or positions)


def check_graph(named, meant):
    """Check edges, nodes and lengths; edges are kept both ways."""
    assert type(named.space) is gw.GraphSpace
    assert named.names == named.space.nodes == meant.nodes
    found = sp.coo_array(named.space.adjacency)
    lengths = {}
    for i, j, length in zip(found.row, found.col, found.data.tolist(), strict=True):
        lengths[named.names[i], named.names[j]] = length
    there_and_back = {(two, one): length for (one, two), length in meant.edges.items()}
    assert lengths == meant.edges | there_and_back


def check_refusal(case, folder):
    """Check that one sentence names the file, the line, and what is wrong."""
    place = str(folder / case.name)
    if case.meant.where:
        place += f", {case.meant.where}"
    refused(lambda: read(case, folder), ValueError, place, case.meant.words)
    with pytest.raises(ValueError, match=re.escape(place)) as caught:
        read(case, folder)
    assert "\n" not in str(caught.value)
