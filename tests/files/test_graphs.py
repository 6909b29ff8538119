"""Graphs in files: edges, nodes and lengths are those that were meant."""

import gzip

import networkx as nx
import pytest

from tests.files.cases import (
    WITH_EDGES,
    Case,
    Graph,
    Refused,
    check,
    graphml,
    read,
)
from tests.test_check import refused

EDGES = {("a", "b"): 1.5, ("b", "c"): 2.0}
GRAPH = Graph(EDGES, ("a", "b", "c"))
UNIT = Graph(dict.fromkeys(EDGES, 1.0), ("a", "b", "c"))
TRIPLES = [("a", "b", 1.5), ("b", "c", 2.0)]
CASES = {
    "edges": Case("g.edges", "a b 1.5\nb c 2\n", GRAPH),
    "edges without lengths": Case("g.edgelist", "# of ours\na b\nb c\n", UNIT),
    "edges under titles": Case("g.edges", "Source,Target\na,b\nb,c\n", UNIT),
    "edges with lengths under titles": Case(
        "g.edges", "here,there,km\na,b,1.5\nb,c,2\n", GRAPH
    ),
    "edges of pandas": Case(
        "g.csv", ",source,target,weight\n0,a,b,1.5\n1,b,c,2.0\n", GRAPH, WITH_EDGES
    ),
    "edges listed both ways": Case(
        "g.edges.gz", gzip.compress(b"a\tb\t1.5\nb\tc\t2\nb\ta\t1.5\n"), GRAPH
    ),
    "edges between names with spaces": Case(
        "g.edges",
        "New York,Rome,7\nRome,NA,0\n",
        Graph(
            {("New York", "Rome"): 7.0, ("Rome", "NA"): 0.0}, ("New York", "Rome", "NA")
        ),
    ),
    "edges with a loop": Case(
        "g.edges", "1 2\n2 2\n", Graph({("1", "2"): 1.0, ("2", "2"): 1.0}, ("1", "2"))
    ),
    "edges of two lengths": Case(
        "g.edges", "a b 1.5\nb a 2\n", Refused("line 2", "2 after 1.5")
    ),
    "edges of negative length": Case(
        "g.edges", "a b 1.5\nb c -2\n", Refused("line 2, column 3", "'-2'")
    ),
    "edges with a gap": Case(
        "g.edges", "a,b,1.5\nb,c,\n", Refused("line 2, column 3", "is empty")
    ),
    "edges with a mistake first": Case(
        "g.edges", "a,b,l.5\nb,c,2\n", Refused("line 1, column 3", "'l.5'")
    ),
    "edges to nowhere": Case(
        "g.edges", "a,b\nb,\nc,b\n", Refused("line 2, column 2", "is empty")
    ),
    "edges with some lengths": Case(
        "g.edges", "a b 1.5\nb c\n", Refused("line 2", "3 cells")
    ),
    "edges as networkx.write_edgelist": Case(
        "g.edgelist", "a b {'weight': 1}\n", Refused("line 1", "write_weighted")
    ),
    "edges in two parts": Case("g.edges", "a b\nc d\n", Refused("", "one is 'c'")),
    "no edges": Case("g.edges", "source target\n", Refused("", "is empty")),
    "graphml": Case("g.graphml", graphml(TRIPLES), GRAPH, {"length": "weight"}),
    "graphml.gz": Case(
        "g.graphml.gz", gzip.compress(graphml(TRIPLES)), GRAPH, {"length": "weight"}
    ),
    "graphml of one weight": Case(
        "g.graphml", graphml([(*e, 1.0) for e in EDGES]), UNIT
    ),
    "graphml of strengths or lengths": Case(
        "g.graphml", graphml(TRIPLES), Refused("", "--edge-length weight")
    ),
    "graphml of strengths": Case(
        "g.graphml", graphml(TRIPLES), UNIT, {"length": "none"}
    ),
    "graphml by another attribute": Case(
        "g.graphml", graphml(TRIPLES, weight="km"), GRAPH, {"length": "km"}
    ),
    "graphml without the attribute": Case(
        "g.graphml", graphml([("a", "b", 2.0)]), Refused("", "'km'"), {"length": "km"}
    ),
    "graphml without lengths": Case(
        "g.graphml", graphml([("a", "b", "x"), ("b", "c", "y")], weight="colour"), UNIT
    ),
    "graphml with directions": Case(
        "g.graphml",
        graphml([("a", "b", 1.0), ("b", "c", 2.0)], nx.DiGraph),
        Refused("", 'edgedefault="undirected"'),
    ),
    "graphml with other lengths": Case(
        "g.graphml",
        graphml([("a", "b", 2.0)], weight="length"),
        Refused("", "--edge-length length"),
    ),
    "graphml with lengths as text": Case(
        "g.graphml", graphml([("a", "b", "2")]), Refused("", "real numbers")
    ),
    "graphml with a Weight": Case(
        "g.graphml",
        graphml(TRIPLES, weight="Weight"),
        Refused("", "--edge-length Weight"),
    ),
    "graphml of two graphs": Case(
        "g.graphml",
        graphml([("a", "b", 1.0)]).replace(
            b"</graphml>", b'<graph edgedefault="undirected"/></graphml>'
        ),
        Refused("", "holds 2"),
    ),
    "graphml cut short": Case(
        "g.graphml", graphml([("a", "b", 1.0)])[:-20], Refused("", "GraphML")
    ),
    "graphml of no graph": Case("g.graphml", "<html></html>", Refused("", "GraphML")),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_read_is_what_was_meant(name, tmp_path):
    check(CASES[name], tmp_path)


def test_without_networkx_graphml_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("gwtools.files.graphs.find_spec", lambda name: None)
    refused(
        lambda: read(CASES["graphml"], tmp_path),
        ValueError,
        "g.graphml",
        "gwfusion[graphs]",
    )
