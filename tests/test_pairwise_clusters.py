"""Matrices of distances on local clusters of Dask and Ray: those of one process."""

import networkx as nx
import pytest

import gwtools as gw
from simulations.all_pairs import PACKAGES, backend

pytest.importorskip("joblib")


@pytest.mark.filterwarnings("ignore")  # those of the clusters
@pytest.mark.parametrize("name", ["dask", "ray"])
def test_a_cluster_changes_no_digit(name):
    pytest.importorskip(PACKAGES[name])
    graphs = [nx.cycle_graph(5), nx.path_graph(7), nx.star_graph(4), nx.path_graph(3)]
    spaces = [gw.GraphSpace(graph) for graph in graphs]
    alone = gw.pairwise(spaces)
    with backend(name):
        found = gw.pairwise(spaces)
    for part in ("distances", "lower", "upper"):
        assert getattr(found, part).tobytes() == getattr(alone, part).tobytes()
