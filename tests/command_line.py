"""The command line in tests: its inputs, and what it prints and refuses."""

import json

import networkx as nx
import numpy as np

from gwtools.__main__ import main


def draw_points(rng):
    """Points of two spaces that differ in size and dimension."""
    return rng.standard_normal((6, 2)), rng.standard_normal((5, 3))


def save_points(folder, points):
    """The same points as text and as arrays."""
    paths = {}
    for name, values in zip("xy", points, strict=True):
        np.savetxt(folder / f"{name}.csv", values, delimiter=",", fmt="%.17g")
        np.save(folder / f"{name}.npy", values)
        for suffix in ("csv", "npy"):
            paths[f"{name}.{suffix}"] = str(folder / f"{name}.{suffix}")
    return paths


def save_graphs(folder):
    """One path whose edges tell its nodes apart, as a list of edges and as GraphML.

    The two files differ in the order of the nodes.
    """
    edges = folder / "g.edges"
    graphml = folder / "h.graphml"
    edges.write_text("a,b,1\nb,c,2\nc,Ø d,4\n", encoding="utf-8")
    graph = nx.Graph()
    graph.add_weighted_edges_from([("Ø d", "c", 4.0), ("a", "b", 1.0), ("c", "b", 2.0)])
    nx.write_graphml(graph, graphml)
    return str(edges), str(graphml)


def save(path, values):
    np.save(path, values)
    return str(path)


def printed(capsys, *arguments):
    """The JSON that is printed of arguments that are solved."""
    assert main([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return json.loads(captured.out)


def refusal(capsys, *arguments):
    """What is said of arguments that are refused, in one line on stderr."""
    assert main(list(map(str, arguments))) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("gwtools: ")
