"""Nearest spaces: those of the whole matrix, and certified ones surely."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from tests.libraries import EAGER, to_numpy


def shapes(seed, count, spread=0.05):
    """Clouds around a few shapes, of unequal sizes and weights."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        n = int(rng.integers(4, 9))
        scale = (1.0, 3.0, 8.0)[i % 3]
        points = scale * rng.standard_normal((n, 2)) * [1.0, 0.1 + 0.4 * (i % 2)]
        points += spread * rng.standard_normal((n, 2))
        weights = rng.integers(1, 4, n).astype(float)
        found.append(gw.PointCloud(points, weights / weights.sum()))
    return found


def exact(x, y):
    """A proved interval of a distance between small spaces, nearly closed."""
    certificate = gw.solve(x, y, gw.BranchAndBound(tolerance=1e-4)).certificate
    return np.sqrt(certificate.lower), np.sqrt(certificate.upper)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 3))
def test_neighbours_are_those_of_the_whole_matrix(seed, k):
    queries, spaces = shapes(seed, 2), shapes(seed + 1, 6)
    found = gw.nearest(queries, spaces, k)
    whole = gw.pairwise(queries, spaces)
    for q in range(2):
        # Each is found at most as far as single solves say.
        for place, i in enumerate(found.indices[q]):
            assert found.distances[q, place] <= whole.distances[q, i] + 1e-9
        # The k-th is no farther than the k-th of all.
        expected = np.sort(whole.distances[q])[k - 1]
        assert found.distances[q, -1] <= expected + 1e-9
        assert np.all(np.diff(found.distances[q]) >= 0)
    assert np.all(found.lower <= found.distances)
    assert np.all(found.distances <= found.upper)
    assert found.indices.shape == found.certified.shape == (2, k)
    assert k * 2 <= found.solved <= found.pairs == 12


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_certified_neighbours_are_nearest_by_exact_distances(seed):
    rng = np.random.default_rng(seed)
    drawn = [rng.uniform(0.5, 3.0) * rng.standard_normal((4, 1)) for _ in range(5)]
    query, *spaces = (gw.PointCloud(points, metric="sqeuclidean") for points in drawn)
    k = 2
    found = gw.nearest([query], spaces, k)
    intervals = [exact(query, space) for space in spaces]
    for i, certified in zip(found.indices[0], found.certified[0], strict=True):
        surely_nearer = sum(upper < intervals[i][0] for _, upper in intervals)
        assert not certified or surely_nearer < k


def test_a_copy_is_certified_and_what_is_far_is_not_solved():
    spaces = [gw.GraphSpace(nx.cycle_graph(n)) for n in (4, 6, 40, 50, 60)]
    found = gw.nearest([gw.GraphSpace(nx.cycle_graph(6))], spaces)
    assert found.indices.tolist() == [[1]]
    assert found.certified.all()
    assert found.distances[0, 0] == pytest.approx(0, abs=1e-7)
    assert found.solved < found.pairs == 5
    assert repr(found) == (
        "NearestResult(1 nearest of 1 queries: 100% certified, "
        f"{found.solved} of 5 pairs solved)"
    )


def test_equally_near_spaces_are_all_certified_or_none():
    """Of three copies two are asked for: none is nearer than another."""
    copies = [gw.GraphSpace(nx.path_graph(5))] * 3
    found = gw.nearest(copies[:1], [*copies, gw.GraphSpace(nx.star_graph(9))], k=2)
    assert found.certified.all()
    everything = gw.nearest(copies[:1], copies, k=3)
    assert everything.certified.all()


@pytest.mark.parametrize("library", EAGER, ids=str)
def test_distances_are_of_the_library_of_the_spaces(library):
    matrices = [1 - np.eye(2), 2 * (1 - np.eye(3)), 1 - np.eye(4)]
    arrays = [library.array(matrix) for matrix in matrices]
    found = gw.nearest(arrays[:1], arrays, k=2)
    assert library.owns(found.distances)
    expected = gw.nearest(matrices[:1], matrices, k=2)
    assert to_numpy(found.distances) == pytest.approx(
        expected.distances, rel=library.rtol, abs=1e-3
    )
    assert found.indices.tolist() == expected.indices.tolist()


def test_workers_change_no_digit():
    pytest.importorskip("joblib")
    queries, spaces = shapes(0, 3), shapes(1, 6)
    one, two = (gw.nearest(queries, spaces, 2, n_jobs=n) for n in (1, 2))
    assert one.distances.tobytes() == two.distances.tobytes()
    assert one.indices.tolist() == two.indices.tolist()
    assert one.solved == two.solved


def test_missed_criteria_are_told_once():
    queries, spaces = shapes(0, 2), shapes(1, 4)
    solver = gw.ConditionalGradient(max_iterations=1)
    with pytest.warns(gw.ConvergenceWarning, match="solved pairs missed") as caught:
        gw.nearest(queries, spaces, 4, solver=solver)
    (told,) = caught
    assert told.filename == __file__
