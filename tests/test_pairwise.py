"""Matrices of distances: those of single calls, for any workers and interruptions."""

import importlib
import signal
import subprocess
import sys
import warnings

import networkx as nx
import numpy as np
import pytest

import gwtools as gw
from gwtools import pair_batches
from tests.libraries import LIBRARIES, to_numpy

# The function of that name hides the module as an attribute.
pairwise_module = importlib.import_module("gwtools.pairwise")


def graphs(seed=0, count=6):
    """Graphs of real kinds, of unequal sizes, one of them twice."""
    rng = np.random.default_rng(seed)
    drawn = [
        nx.cycle_graph(5),
        nx.path_graph(7),
        nx.star_graph(4),
        nx.gnp_random_graph(9, 0.7, seed=3),
        nx.cycle_graph(5),
        nx.path_graph(1),
    ][:count]
    found = []
    for graph in drawn:
        weights = rng.integers(1, 4, graph.number_of_nodes()).astype(float)
        found.append(gw.GraphSpace(graph, weights / weights.sum()))
    return found


def same(found, expected):
    """Bit for bit."""
    assert found.distances.tobytes() == expected.distances.tobytes()
    assert found.lower.tobytes() == expected.lower.tobytes()
    assert found.upper.tobytes() == expected.upper.tobytes()
    assert found.status.tolist() == expected.status.tolist()


@pytest.mark.parametrize("solver", [None, "auto", gw.Sorted(), gw.Sinkhorn()], ids=str)
def test_entries_are_those_of_single_calls(solver):
    spaces = graphs()
    result = gw.pairwise(spaces, solver=solver)
    assert np.array_equal(result.distances, result.distances.T)
    assert np.array_equal(result.status, result.status.T)
    assert np.all(result.lower <= result.distances)
    assert np.all(result.distances <= result.upper)
    for i, x in enumerate(spaces):
        assert result.distances[i, i] == result.lower[i, i] == result.upper[i, i] == 0
        assert result.status[i, i] is gw.Status.GLOBAL
        for j, y in enumerate(spaces[:i]):
            alone = gw.solve(y, x, solver)
            assert result.distances[i, j] == pytest.approx(
                float(alone.distance), rel=1e-9, abs=1e-9
            )
            assert result.lower[i, j] ** 2 == pytest.approx(
                alone.certificate.lower, abs=1e-9
            )


def test_two_lists_are_compared_in_their_order():
    spaces = graphs()
    result = gw.pairwise(spaces[:2], spaces)
    assert result.distances.shape == (2, 6)
    # A space in both lists is solved as any pair is.
    assert result.distances[0, 0] == pytest.approx(0, abs=1e-7)
    among = gw.pairwise(spaces)
    assert result.distances == pytest.approx(among.distances[:2], abs=1e-7)


def test_one_space_and_one_atom():
    (alone,) = gw.pairwise(graphs(count=1)).distances
    assert alone.tolist() == [0.0]
    point, path = gw.as_space(np.zeros((1, 1))), gw.as_space(1 - np.eye(2))
    result = gw.pairwise([point], [path])
    assert result.distances == pytest.approx(np.sqrt([[0.5]]))


@pytest.mark.parametrize("library", LIBRARIES, ids=str)
def test_distances_are_of_the_library_of_the_spaces(library):
    matrices = [1 - np.eye(2), 2 * (1 - np.eye(3)), 1 - np.eye(4)]
    with library.active():
        result = gw.pairwise([library.array(m) for m in matrices], solver=gw.Sorted())
        assert library.owns(result.distances)
        found = to_numpy(result.distances)
    expected = gw.pairwise(matrices, solver=gw.Sorted())
    assert found == pytest.approx(expected.distances, rel=library.rtol)
    assert result.lower.dtype == result.upper.dtype == np.float64
    assert np.all(result.lower <= found)
    assert np.all(found <= result.upper)


def test_workers_change_no_digit():
    pytest.importorskip("joblib")
    spaces = graphs()
    same(gw.pairwise(spaces, n_jobs=2), gw.pairwise(spaces))


def small_batches(monkeypatch):
    monkeypatch.setattr(pair_batches, "_MOST_PAIRS", 2)


@pytest.mark.parametrize("stopped_after", [0, 1, 4])
def test_an_interrupted_matrix_is_gone_on_with(monkeypatch, tmp_path, stopped_after):
    small_batches(monkeypatch)
    spaces = graphs()
    whole = gw.pairwise(spaces)
    solved = pairwise_module.solved
    calls = []

    def interrupted(task):
        if len(calls) == stopped_after:
            raise KeyboardInterrupt
        calls.append(task.batch.number)
        return solved(task)

    store = tmp_path / "store"
    monkeypatch.setattr(pairwise_module, "solved", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gw.pairwise(spaces, store=store)

    def gone_on(task):
        assert task.batch.number not in calls
        return solved(task)

    monkeypatch.setattr(pairwise_module, "solved", gone_on)
    same(gw.pairwise(spaces, store=store), whole)
    # Nothing is left to be done, whoever asks.
    monkeypatch.setattr(pairwise_module, "solved", None)
    same(gw.pairwise(spaces, store=str(store)), whole)


KILLED = """
import os, signal, sys
import gwtools as gw
from gwtools import pair_batches
from gwtools.pair_stores import PairStore
from tests import test_pairwise
pair_batches._MOST_PAIRS = 2
keep, kept = PairStore.keep, []
def killed(self, batch, rows):
    keep(self, batch, rows)
    kept.append(batch)
    if len(kept) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
PairStore.keep = killed
gw.pairwise(test_pairwise.graphs(), store=sys.argv[1])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no SIGKILL")
def test_a_killed_matrix_is_gone_on_with(monkeypatch, tmp_path):
    store = tmp_path / "store"
    done = subprocess.run([sys.executable, "-c", KILLED, str(store)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(store.glob("batch-*.npy"))) == 3
    small_batches(monkeypatch)
    same(gw.pairwise(graphs(), store=store), gw.pairwise(graphs()))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"solver": gw.Sorted()}, "solver"),
        ({"effort": "quadratic"}, "effort"),
        ({"spaces": graphs(seed=1)}, "spaces"),
        ({"others": graphs()}, "others"),
    ],
    ids=["solver", "effort", "spaces", "others"],
)
def test_a_folder_of_another_matrix_is_refused(tmp_path, changed, named):
    asked = {"spaces": graphs()}
    gw.pairwise(**asked, store=tmp_path)
    with pytest.raises(ValueError, match=f"differs in {named}: choose"):
        gw.pairwise(**(asked | changed), store=tmp_path)


def test_edges_and_metrics_are_part_of_a_matrix(tmp_path):
    path = gw.GraphSpace(nx.path_graph(4))
    star = gw.GraphSpace(nx.star_graph(3))
    assert path.data.tolist() == star.data.tolist()
    points = np.arange(8.0).reshape(4, 2)
    for number, (one, other) in enumerate(
        [
            (path, star),
            (gw.PointCloud(points), gw.PointCloud(points, metric="sqeuclidean")),
        ]
    ):
        store = tmp_path / str(number)
        gw.pairwise([one], [path], store=store)
        with pytest.raises(ValueError, match="differs in spaces"):
            gw.pairwise([other], [path], store=store)


def test_missed_criteria_are_told_once():
    spaces = graphs()
    solver = gw.ConditionalGradient(max_iterations=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = gw.pairwise(spaces, solver=solver)
    missed = sum(status.failure for status in result.status.ravel()) // 2
    assert missed > 1
    (told,) = caught
    assert told.filename == __file__
    assert str(told.message).startswith(f"{missed} of 15 pairs: ")
    assert "15 x" not in repr(result)
    assert repr(result).startswith("PairwiseResult(6 x 6 distances by Conditional")
