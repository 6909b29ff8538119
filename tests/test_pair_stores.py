"""Stores of batches: whole files alone, of one matrix, by what defines its spaces."""

import networkx as nx
import numpy as np
import pytest

import gwtools as gw
from gwtools.pair_batches import PAIR, batches
from gwtools.pair_stores import PairStore, digest

POINTS = np.arange(8.0).reshape(4, 2)
WEIGHTS = np.array([0.1, 0.2, 0.3, 0.4])
DIFFERENT = [
    gw.PointCloud(POINTS),
    gw.PointCloud(POINTS, WEIGHTS),
    gw.PointCloud(POINTS, metric="sqeuclidean"),
    gw.PointCloud(POINTS[::-1].copy()),
    gw.PointCloud(POINTS.reshape(2, 4)),
    gw.PointCloud(POINTS.astype(np.float32)),
    gw.DenseSpace(1 - np.eye(4)),
    gw.GramSpace(POINTS.T.copy()),
    gw.GraphSpace(nx.path_graph(4)),
    gw.GraphSpace(nx.star_graph(3)),
    gw.GraphSpace(nx.path_graph(4), WEIGHTS),
]


def test_spaces_that_differ_have_different_digests():
    found = [digest([space]) for space in DIFFERENT]
    assert len(set(found)) == len(DIFFERENT)
    assert found == [digest([space]) for space in DIFFERENT]
    assert digest(DIFFERENT) != digest(DIFFERENT[::-1])


def test_what_is_computed_of_a_space_is_no_part_of_it():
    space = gw.GraphSpace(nx.path_graph(4))
    before = digest([space])
    assert space.dense().shape == (4, 4)
    assert space.row_means.shape == (4,)
    assert digest([space]) == before


def test_batches_come_back_as_they_were_kept(tmp_path):
    first, second, third = batches(np.full(70, 4), np.full(70, 5))
    rows = np.zeros(first.positions.size, dtype=PAIR)
    rows["distance"] = np.pi
    rows["status"] = "STATIONARY"
    store = PairStore(tmp_path / "new" / "store", {"solver": "auto"})
    store.keep(first, rows)
    # What a killed process was writing counts for nothing.
    (store.folder / "batch-000001.partial").write_bytes(b"half")
    again = PairStore(tmp_path / "new" / "store", {"solver": "auto"})
    found = again.finished([first, second, third])
    assert list(found) == [first.number]
    assert found[0].tobytes() == rows.tobytes()


def test_folders_of_other_work_are_refused(tmp_path):
    PairStore(tmp_path, {"solver": "auto"})
    with pytest.raises(ValueError, match="differs in solver"):
        PairStore(tmp_path, {"solver": "Sorted()"})
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="differs in format, solver"):
        PairStore(tmp_path, {"solver": "auto"})
