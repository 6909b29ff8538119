"""Graphs in files: edges, nodes and lengths are those that were meant."""

import pytest
import scipy.sparse as sp

import gwtools as gw
from tests.files.test_formats import CASES, Graph, read
from tests.test_check import refused


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if isinstance(case.meant, Graph)]
)
def test_edges_and_nodes_are_those_that_were_meant(name, tmp_path):
    case, named = CASES[name], read(CASES[name], tmp_path)
    assert type(named.space) is gw.GraphSpace
    assert named.names == named.space.nodes == case.meant.nodes
    found = sp.coo_array(named.space.adjacency)
    names = [
        (named.names[i], named.names[j])
        for i, j in zip(found.row, found.col, strict=True)
    ]
    lengths = case.meant.edges | {
        (two, one): length for (one, two), length in case.meant.edges.items()
    }
    assert dict(zip(names, found.data.tolist(), strict=True)) == lengths


def test_without_networkx_graphml_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("gwtools.files.graphs.find_spec", lambda name: None)
    refused(
        lambda: read(CASES["graphml"], tmp_path),
        ValueError,
        "g.graphml",
        "gwfusion[graphs]",
    )
