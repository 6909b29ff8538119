"""Linear embedding: what vectors and their distances are, and where they are exact."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from tests import checkers
from tests.libraries import EAGER, to_numpy
from tests.strategies import orders, permuted_copies, spaces
from tests.test_check import refused

QUICK = gw.ConditionalGradient()


@settings(max_examples=60)
@given(st.data())
def test_a_vector_is_as_long_as_its_plan_is_far_but_for_what_atoms_spread(data):
    """F(π) = ‖vector‖² + ‖C‖² − ‖B‖², so that no vector is longer than its distance."""
    x, y = data.draw(spaces(most=5)), data.draw(spaces(most=5, null=True))
    vector = gw.LinearEmbedding(x.space(), QUICK).transform([y.space()])[0]
    plan = np.asarray(gw.solve(x.space(), y.space(), QUICK).plan)
    a = x.weights
    B = plan @ y.matrix @ plan.T / np.outer(a, a)
    wanted = np.sqrt(np.outer(a, a)) * (B - x.matrix)
    scale = max(np.abs(x.matrix).max(), np.abs(y.matrix).max())
    assert vector == pytest.approx(wanted.ravel(), abs=1e-12 * scale)
    spread = y.weights @ y.matrix**2 @ y.weights - a @ B**2 @ a
    found = checkers.objective(x.matrix, y.matrix, plan)
    assert vector @ vector + spread == pytest.approx(found, abs=1e-12 * scale**2)
    assert spread >= -1e-12 * scale**2


@settings(max_examples=25)
@given(st.data())
def test_the_reference_and_its_isometric_copies_are_at_zero(data):
    known = data.draw(permuted_copies(generic=True))
    embedding = gw.LinearEmbedding(known.x.space())
    vectors = embedding.transform([known.x.space(), known.y.space()])
    scale = np.abs(known.x.matrix).max()
    assert np.linalg.norm(vectors, axis=1).max() <= 1e-6 * scale
    assert embedding.distances([known.x.space(), known.y.space()]).max() <= 1e-6 * scale


@settings(max_examples=25)
@given(st.data())
def test_where_the_plan_is_a_map_the_length_is_gw(data):
    """Equal weights between equally many atoms: the best plan found is a bijection."""
    n = data.draw(st.integers(2, 6))
    seed = data.draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    x, y, z = (gw.PointCloud(rng.standard_normal((n, 2))) for _ in range(3))
    embedding = gw.LinearEmbedding(x)
    vectors = embedding.transform([y, z])
    for vector, space in zip(vectors, (y, z), strict=True):
        result = gw.solve(x, space)
        assert (np.asarray(result.plan) > 1e-12).sum() == n
        assert np.linalg.norm(vector) == pytest.approx(float(result.distance))
    # Both plans are maps: glued, they are a coupling of this distance.
    linear = embedding.distances([y, z])[0, 1]
    least = gw.certify(y, z).lower
    assert linear >= math.sqrt(least) * (1 - 1e-9)
    plans = [gw.solve(space, x).plan for space in (y, z)]
    glued = gw.GWProblem(y, z).objective(gw.glued_plan(*plans))
    assert linear == pytest.approx(math.sqrt(float(glued)), rel=1e-6, abs=1e-9)


def test_atoms_may_be_merged_by_a_map():
    """A reference of six atoms onto three: two of the six to each."""
    points = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 9.0]])
    twice = gw.PointCloud(np.concatenate([points, points]) + 0.01 * np.eye(6)[:, :2])
    merged = gw.PointCloud(points)
    result = gw.solve(twice, merged)
    vector = gw.LinearEmbedding(twice).transform([merged])[0]
    assert np.linalg.norm(vector) == pytest.approx(float(result.distance))
    assert float(result.distance) > 0


@settings(max_examples=20)
@given(st.data())
def test_distances_are_those_of_the_vectors(data):
    x = data.draw(spaces(most=4))
    others = [data.draw(spaces(most=4)).space() for _ in range(3)]
    embedding = gw.LinearEmbedding(x.space(), QUICK)
    vectors = embedding.transform(others)
    found = embedding.distances(others)
    wanted = np.linalg.norm(vectors[:, None] - vectors[None, :], axis=-1)
    assert found == pytest.approx(wanted, abs=1e-12 * (1 + np.abs(vectors).max()))
    order = data.draw(orders(3))
    assert embedding.distances([others[i] for i in order]) == pytest.approx(
        found[np.ix_(order, order)], abs=1e-12 * (1 + np.abs(vectors).max())
    )


@pytest.mark.parametrize("library", EAGER, ids=str)
def test_arrays_keep_their_library_and_dtype(library):
    rng = np.random.default_rng(2)
    points = [rng.standard_normal((n, 2)) for n in (4, 3, 5)]
    weights = np.array([0.5, 0.25, 0.125, 0.125])

    def embedded(array):
        reference = gw.PointCloud(array(points[0]), array(weights))
        others = [gw.PointCloud(array(each)) for each in points[1:]]
        embedding = gw.LinearEmbedding(reference, QUICK)
        return embedding.transform(others), embedding.distances(others)

    for found, wanted in zip(
        embedded(library.array), embedded(np.asarray), strict=True
    ):
        assert library.owns(found)
        assert to_numpy(found) == pytest.approx(wanted, abs=10 * library.rtol)


def test_atoms_without_weight_and_half_precision():
    C = np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 2.5], [2.0, 2.5, 0.0]])
    a = np.array([0.5, 0.0, 0.5])
    embedding = gw.LinearEmbedding(gw.DenseSpace(C, a))
    assert embedding.transform([gw.DenseSpace(C, a)]) == pytest.approx(np.zeros((1, 4)))
    narrow = gw.LinearEmbedding(C.astype(np.float16)).transform([C.astype(np.float16)])
    assert narrow.dtype == np.float32
    assert np.abs(narrow).max() <= 1e-3


@pytest.mark.parametrize("unit", [1e-200, 1e150])
def test_units_scale_the_distances(unit):
    rng = np.random.default_rng(3)
    matrices = [checkers.euclidean(rng.standard_normal((n, 2))) for n in (4, 3, 5)]

    def distances(unit):
        scaled = [unit * matrix for matrix in matrices]
        return gw.LinearEmbedding(scaled[0], QUICK).distances(scaled) / unit

    assert distances(unit) == pytest.approx(distances(1.0))


def test_a_tensor_within_a_gradient_graph_is_embedded_outside_of_it():
    torch = pytest.importorskip("torch")
    points = torch.asarray(np.eye(3)).requires_grad_()
    embedding = gw.LinearEmbedding(gw.PointCloud(points), QUICK)
    assert not embedding.transform([gw.PointCloud(points)]).requires_grad


def test_what_is_no_reference_or_no_list_is_refused():
    C = 1 - np.eye(3)
    embedding = gw.LinearEmbedding(C)
    refused(lambda: gw.LinearEmbedding([[0.0]]), TypeError, "reference", "asarray")
    refused(lambda: gw.LinearEmbedding(C, "auto"), TypeError, "solver", "'auto'")
    refused(lambda: embedding.transform([]), ValueError, "spaces", "empty")
    refused(lambda: embedding.transform(C), TypeError, "spaces", "[spaces]")
    refused(
        lambda: embedding.distances([C, C.astype(np.float32)]),
        TypeError,
        "spaces[1]",
        "float32",
    )
