"""Theorem 6 c to e: bounds against moves of stored values that nearly reach them."""

import math
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from gwtools import stability
from tests.stability.moves import (
    ROUNDING,
    SEEDS,
    Similarity,
    holds,
    moves_no_more,
    norm,
    truncated,
    truncation_formula,
)
from tests.strategies import KINDS, Drawn, spaces, weights


@given(spaces(null=True), st.sampled_from([0.01, 0.3, 1.0]))
def test_quantization(x, step):
    x2 = replace(x, data=step * np.round(x.data / step))
    found = stability.quantization(x.space(), step)
    assert holds(found, norm(x.matrix - x2.matrix, x.weights), x, x2)
    assert moves_no_more(found, x, x2, x)


@given(
    spaces(generic=True, null=True),
    st.sampled_from(["float16", "float32"]),
    st.sampled_from([1.0, 1e-6]),
)
def test_rounding(x, dtype, unit):
    x = replace(x, data=x.data * unit)
    x2 = replace(x, data=x.data.astype(dtype).astype(float))
    found = stability.rounding(x.space(), dtype)
    assert holds(found, norm(x.matrix - x2.matrix, x.weights), x, x2)
    assert moves_no_more(found, x, x2, x)


@given(spaces(generic=True))
def test_rounding_to_bfloat16(x):
    bits = x.data.astype(np.float32).view(np.uint32)
    nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    # To float32 first, which adds its own rounding.
    x2 = replace(x, data=nearest.view(np.float32).astype(float))
    found = stability.rounding(x.space(), "bfloat16")
    assert holds(found * (1 + 2.0**-15), norm(x.matrix - x2.matrix, x.weights), x, x2)


# Moves that reach their bound, or most of it: (kind, stored values, the same moved,
# share of the bound they reach).
FAR = np.array([[0.0], [100.0]])
STEP, HALF = 0.25, 0.125
APART = np.array([[-HALF], [HALF]])
CUBE = np.stack([np.zeros(16), np.full(16, 1.0)])
NEARLY_REACHED = [
    ("dense", np.zeros((3, 3)), np.full((3, 3), HALF), 1.0),
    ("euclidean", FAR, FAR + APART, 0.7),
    ("euclidean", CUBE, CUBE + APART, 0.7),
    ("sqeuclidean", FAR, FAR + APART, 0.99),
    ("sqeuclidean", CUBE, CUBE + APART, 0.9),
    ("gram", np.full((1, 1), 10.0), np.full((1, 1), 10 + HALF), 1.0),
    ("gram", np.full((16, 3), 0.25), np.full((16, 3), 0.25 + HALF), 1.0),
]


@pytest.mark.parametrize(("kind", "data", "moved", "share"), NEARLY_REACHED)
def test_quantization_is_nearly_reached(kind, data, moved, share):
    n = data.shape[1] if kind == "gram" else len(data)
    a = np.full(n, 1 / n)
    x = Drawn(kind, data, a)
    x2 = Drawn(kind, moved, a)
    found = stability.quantization(x.space(), STEP)
    distance = norm(x.matrix - x2.matrix, a)
    assert share * found <= distance * ROUNDING
    assert distance <= found * ROUNDING


ROUNDOFFS = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-24}
OPPOSITE = np.array([[-1.0], [1.0]])
# Stored values of every kind, and the share of the bound that their move reaches.
AROUND_ONE = {
    "dense": (np.ones((2, 2)), 0.99),
    "gram": (np.ones((4, 2)), 0.99),
    "euclidean": (OPPOSITE, 0.7),
    "sqeuclidean": (OPPOSITE, 0.69),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ROUNDOFFS)
def test_rounding_is_nearly_reached(kind, dtype):
    """Values halfway between two numbers of the format, just above a power of two."""
    u = ROUNDOFFS[dtype]
    data, share = AROUND_ONE[kind]
    a = np.full(2, 0.5)
    x = Drawn(kind, data * (1 + u), a)
    x2 = Drawn(kind, data, a)
    found = stability.rounding(x.space(), dtype)
    moved = norm(x.matrix - x2.matrix, a)
    assert share * found <= moved <= found * ROUNDING


def test_rounding_of_a_single_far_point_is_nearly_reached():
    """It moves along every line to the others, at the origin, and has little weight."""
    a = np.array([0.01, 0.99])
    data = np.array([[1.0], [0.0]])
    x = Drawn("euclidean", data * (1 + 2.0**-11), a)
    x2 = Drawn("euclidean", data, a)
    found = stability.rounding(x.space(), "float16")
    moved = norm(x.matrix - x2.matrix, a)
    assert 0.98 * found <= moved <= found * ROUNDING


@given(spaces(kinds=("euclidean",)), st.sampled_from([0.1, 3.0]))
def test_quantization_moves_two_points_by_half_a_diagonal_each(x, step):
    found = stability.quantization(x.space(), step)
    assert found == pytest.approx(step * math.sqrt(x.data.shape[1]))


def test_rounding_of_subnormal_values_is_absolute():
    tiny = 2.0**-25
    x = gw.DenseSpace(np.full((2, 2), tiny))
    assert np.float16(tiny) == 0.0
    assert tiny <= stability.rounding(x, np.float16) <= 1.001 * tiny


@pytest.mark.parametrize(
    "dtype", [np.float32, np.dtype("float32"), "float32", "torch.float32"], ids=repr
)
def test_a_dtype_is_known_by_its_name(dtype):
    assert stability.rounding(np.ones((2, 2)), dtype) == pytest.approx(2.0**-24)


@given(SEEDS, st.sampled_from([0.5, 0.01]))
def test_edge_lengths_add_up_along_paths(seed, step):
    graph = nx.gnm_random_graph(8, 12, seed=seed % 1000)
    nx.add_path(graph, range(8))
    rng = np.random.default_rng(seed)
    lengths = sp.triu(nx.to_scipy_sparse_array(graph, dtype=float), format="csr")
    lengths.data = rng.uniform(0.1, 3.0, lengths.nnz)

    def with_lengths(values):
        other = lengths.copy()
        other.data = values
        return gw.GraphSpace(other + other.T)

    x = with_lengths(lengths.data)
    quantized = with_lengths(np.ceil(lengths.data / step) * step)
    moved = norm(x.dense() - quantized.dense(), x.weights)
    assert moved <= stability.quantization(x, 2 * step) * ROUNDING
    rounded = with_lengths(lengths.data.astype(np.float16))
    moved = norm(x.dense() - rounded.dense(), x.weights)
    assert moved <= stability.rounding(x, "float16") * ROUNDING


@pytest.mark.parametrize("n", [2, 10])
def test_quantization_of_a_path_graph_is_nearly_reached(n):
    """The ends of a path, which hold all the weight, move by every edge's half step."""
    path = sp.diags_array([np.ones(n - 1), np.ones(n - 1)], offsets=[-1, 1])
    a = np.array([0.5, *np.zeros(n - 2), 0.5])
    x = gw.GraphSpace(path.tocsr(), a)
    x2 = gw.GraphSpace((path * 1.125).tocsr(), a)
    found = stability.quantization(x, 0.25)
    moved = norm(x.dense() - x2.dense(), a)
    assert 0.7 * found <= moved <= found


@pytest.mark.parametrize(
    ("name", "argument"), [("quantization", 0.5), ("rounding", "float16")]
)
def test_stored_values_of_other_kinds_are_refused(name, argument, rng):
    x = Similarity(rng.standard_normal((5, 2)), np.full(5, 0.2))
    bound = getattr(stability, name)
    message = (
        r"x must be of a kind .*, but is of type Similarity: pass gwtools.DenseSpace"
    )
    with pytest.raises(TypeError, match=message):
        bound(x, argument)


SIZES = st.integers(1, 6)


@given(SEEDS, SIZES, SIZES, SIZES, weights(6))
def test_truncation(seed, t, n, k, a):
    factor = np.random.default_rng(seed).standard_normal((t, n))
    a = a[:n] / a[:n].sum()
    x = Drawn("gram", factor, a)
    x2 = replace(x, data=truncated(factor, k))
    found = stability.truncation(x.space(), k)
    expected = truncation_formula(factor, x2.data, a)
    assert found == pytest.approx(expected, rel=1e-7, abs=1e-12)
    assert holds(found, norm(x.matrix - x2.matrix, a), x, x2)
    assert moves_no_more(found, x, x2, x)


def test_truncation_of_a_small_tail_is_nearly_reached():
    """One row [1, t]: the move is t √(2 + t²) / 2, the bound t (√(1 + t²) + 1) / 2."""
    t = 1e-3
    x = gw.GramSpace(np.array([[1.0, t]]))
    moved = norm(x.dense() - np.diag([1.0, 0.0]), x.weights)
    assert moved == pytest.approx(t * math.sqrt(2 + t**2) / 2)
    assert 0.7 * stability.truncation(x, 1) <= moved


def test_truncation_keeps_the_first_of_equal_values():
    x = gw.GramSpace(np.ones((1, 3)), np.array([0.5, 0.3, 0.2]))
    expected = (1 + math.sqrt(0.5)) * math.sqrt(0.5)
    assert stability.truncation(x, 1) == pytest.approx(expected)
    assert stability.truncation(x, 3) == 0.0


def with_a_step_of_zero():
    return stability.quantization(np.eye(2), 0.0)


def to_integers():
    return stability.rounding(np.eye(2), "int8")


def of_a_matrix():
    return stability.truncation(gw.DenseSpace(np.eye(2)), 1)


def to_nothing():
    return stability.truncation(gw.GramSpace(np.eye(2)), 0)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (with_a_step_of_zero, ValueError, "step must be"),
        (to_integers, ValueError, "dtype must be one of 'bfloat16'"),
        (of_a_matrix, TypeError, "pass the factor"),
        (to_nothing, ValueError, "k must be"),
    ],
)
def test_bad_input_is_refused(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_other_libraries(library, rng):
    points = rng.standard_normal((6, 2))
    x = gw.PointCloud(library.array(points))
    reference = gw.PointCloud(points)
    for bound, argument in (
        (stability.quantization, 0.1),
        (stability.rounding, "bfloat16"),
    ):
        expected = bound(reference, argument)
        assert bound(x, argument) == pytest.approx(expected, rel=library.rtol)
    found = stability.truncation(gw.GramSpace(x.points.T), 1)
    expected = stability.truncation(gw.GramSpace(points.T), 1)
    assert found == pytest.approx(expected, rel=library.rtol)
