"""Theorem 6: every error bound against the move it bounds, and against moves that nearly reach it."""

import math
import warnings
from dataclasses import dataclass, replace

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
from array_api_compat import array_namespace
from hypothesis import assume, given
from hypothesis import strategies as st

import gwtools as gw
from gwtools import stability
from tests import checkers
from tests.strategies import KINDS, Drawn, orders, pairs, spaces, weights

SEEDS = st.integers(0, 2**32 - 1)
ROUNDING = 1 + 1e-9


def norm(E, a, p=2.0):
    return float((a @ (np.abs(E) ** p @ a)) ** (1 / p))


def largest(*drawn):
    return max(np.abs(s.matrix).max() for s in drawn)


def holds(found, moved, *drawn):
    """Whether a bound is at least the move, up to the rounding of matrices of this size."""
    return moved <= found * ROUNDING + 1e-14 * largest(*drawn)


def certificate_of(x, y):
    """An interval of GW_2."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gw.ConvergenceWarning)  # any coupling will do
        plan = gw.solve(
            x.space(), y.space(), gw.ConditionalGradient(max_iterations=20)
        ).plan
    certificate = gw.certify(x.space(), y.space(), plan)
    return certificate.lower**0.5, certificate.upper**0.5


def moves_no_more(found, x, x2, y):
    """Whether certified intervals admit |GW(x, y) − GW(x2, y)| ≤ found, and GW(x, x2) ≤ found."""
    (low, high), (low2, high2) = certificate_of(x, y), certificate_of(x2, y)
    slack = 1e-6 * largest(x, x2, y)
    apart = gw.certify(x.space(), x2.space(), np.diag(x.weights))
    return max(low - high2, low2 - high, apart.lower**0.5) <= found + slack


def noisy(x, seed, size):
    noise = size * np.random.default_rng(seed).standard_normal(x.data.shape)
    return replace(x, data=x.data + (noise + noise.T) / 2)


@given(
    spaces(kinds=("dense",), null=True), SEEDS, st.sampled_from([1.0, 1.5, 2.0, 3.0])
)
def test_perturbation_is_the_norm(x, seed, p):
    x2 = noisy(x, seed, 0.1)
    found = stability.perturbation(x.space(), x2.space(), p)
    assert found == pytest.approx(norm(x.data - x2.data, x.weights, p), rel=1e-12)
    rows = np.abs((x.data - x2.data) @ x.weights)
    expected = float((x.weights @ rows**p) ** (1 / p))
    assert stability.row_means_perturbation(x.space(), x2.space(), p) == pytest.approx(
        expected, rel=1e-9, abs=1e-14
    )
    assert expected <= found * ROUNDING


@given(pairs(kinds=("dense",)), SEEDS, st.sampled_from([1e-2, 0.3, 2.0]))
def test_perturbation_bounds_the_move(pair, seed, size):
    x, y = pair
    x2 = noisy(x, seed, size)
    assert moves_no_more(stability.perturbation(x.space(), x2.space()), x, x2, y)


@given(spaces(kinds=("dense",)), st.sampled_from([-3.0, 0.5]))
def test_perturbation_is_reached_by_a_constant(x, constant):
    """C + c is at distance |c| from C, which the means alone prove."""
    found = stability.perturbation(
        x.space(), gw.DenseSpace(x.data + constant, x.weights)
    )
    lower = gw.certify(x.space(), gw.DenseSpace(x.data + constant, x.weights)).lower
    assert found == pytest.approx(abs(constant))
    assert lower**0.5 == pytest.approx(found, rel=1e-6)


@given(pairs(kinds=("dense",)), SEEDS, st.sampled_from([1.0, 2.0, 3.0]))
def test_row_means_perturbation_bounds_the_estimate(pair, seed, p):
    x, y = pair
    x2 = noisy(x, seed, 0.5)
    roots = [
        float(gw.bounds.row_means(s.space(), y.space(), p=p)) ** (1 / p)
        for s in (x, x2)
    ]
    found = stability.row_means_perturbation(x.space(), x2.space(), p)
    assert abs(roots[0] - roots[1]) <= found * ROUNDING + 1e-5 * largest(x, x2, y) * (
        min(roots) < 1e-3
    )


@given(spaces(kinds=KINDS), SEEDS)
def test_perturbation_of_every_kind_is_that_of_its_matrix(x, seed):
    x2 = replace(
        x,
        data=x.data
        + 0.1 * np.abs(np.random.default_rng(seed).standard_normal(x.data.shape)),
    )
    assume(x.kind != "dense")
    found = stability.perturbation(x.space(), x2.space())
    assert found == pytest.approx(
        norm(x.matrix - x2.matrix, x.weights), rel=1e-9, abs=1e-12 * largest(x, x2)
    )


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
    x, x2 = (Drawn(kind, d, np.full(n, 1 / n)) for d in (data, moved))
    found = stability.quantization(x.space(), STEP)
    moved = norm(x.matrix - x2.matrix, x.weights)
    assert share * found <= moved * ROUNDING
    assert moved <= found * ROUNDING


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_rounding_is_nearly_reached(kind, dtype):
    """Values halfway between two numbers of the format, just above a power of two."""
    u = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-24}[dtype]
    data = {"dense": np.ones((2, 2)), "gram": np.ones((4, 2))}.get(
        kind, np.array([[-1.0], [1.0]])
    )
    x, x2 = (Drawn(kind, data * f, np.full(2, 0.5)) for f in (1 + u, 1.0))
    found = stability.rounding(x.space(), dtype)
    share = 0.7 if kind == "euclidean" else 0.69 if kind == "sqeuclidean" else 0.99
    assert share * found <= norm(x.matrix - x2.matrix, x.weights) <= found * ROUNDING


def test_rounding_of_a_single_far_point_is_nearly_reached():
    """Its move is along every line to the others, which stay at the origin; it has little weight."""
    u, a = 2.0**-11, np.array([0.01, 0.99])
    x, x2 = (Drawn("euclidean", np.array([[f], [0.0]]), a) for f in (1 + u, 1.0))
    found = stability.rounding(x.space(), "float16")
    assert 0.98 * found <= norm(x.matrix - x2.matrix, a) <= found * ROUNDING


@given(spaces(kinds=("euclidean",)), st.sampled_from([0.1, 3.0]))
def test_quantization_moves_two_points_by_half_a_diagonal_each(x, step):
    assert stability.quantization(x.space(), step) == pytest.approx(
        step * math.sqrt(x.data.shape[1])
    )


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

    def moved(change):
        other = lengths.copy()
        other.data = change(lengths.data)
        return gw.GraphSpace(other + other.T)

    x = moved(np.array)
    quantized, rounded = (
        moved(lambda v: np.ceil(v / step) * step),
        moved(lambda v: v.astype(np.float16)),
    )
    assert (
        norm(x.dense() - quantized.dense(), x.weights)
        <= stability.quantization(x, 2 * step) * ROUNDING
    )
    assert (
        norm(x.dense() - rounded.dense(), x.weights)
        <= stability.rounding(x, "float16") * ROUNDING
    )


@pytest.mark.parametrize("n", [2, 10])
def test_quantization_of_a_path_graph_is_nearly_reached(n):
    """The ends of a path, which hold all the weight, move apart by every edge's half step."""
    path = sp.diags_array([np.ones(n - 1), np.ones(n - 1)], offsets=[-1, 1])
    a = np.array([0.5, *np.zeros(n - 2), 0.5])
    x, x2 = gw.GraphSpace(path.tocsr(), a), gw.GraphSpace((path * 1.125).tocsr(), a)
    found = stability.quantization(x, 0.25)
    assert 0.7 * found <= norm(x.dense() - x2.dense(), a) <= found


@dataclass(frozen=True, eq=False, repr=False)
class Similarity(gw.Space):
    """Of a kind that gwtools does not know: C = height · exp(−|x_i − x_k|²), which no factor on the points scales."""

    points: np.ndarray
    weights: np.ndarray
    height: float = 1.0

    data = property(lambda self: self.points)
    sign = 1

    def rows(self, start, stop):
        apart = self.points[start:stop, None, :] - self.points[None, :, :]
        return self.height * np.exp(-(apart**2).sum(axis=2))

    def largest(self):
        return self.height

    def with_data(self, data, weights):
        return replace(self, points=data, weights=weights)

    def restrict(self, index):
        return replace(self, points=self.points[index], weights=self.weights[index])

    def scaled(self, factor):
        return replace(self, height=factor * self.height)


@pytest.mark.parametrize("height", [1e-170, 1.0, 4.0**300])
def test_spaces_of_other_kinds_are_moved_by_their_matrices(height, rng):
    weights = rng.dirichlet(np.full(5, 3.0))
    x, x2 = (Similarity(rng.standard_normal((5, 2)), weights, height) for _ in range(2))
    exact = norm((x.dense() - x2.dense()) / height, weights)
    found = gw.stability.perturbation(x, x2) / height
    assert exact <= found <= exact * (1 + 1e-12)
    assert gw.stability.sampling(x, 100) > 0


@pytest.mark.parametrize(
    ("name", "argument"), [("quantization", 0.5), ("rounding", "float16")]
)
def test_stored_values_of_other_kinds_are_refused(name, argument, rng):
    x = Similarity(rng.standard_normal((5, 2)), np.full(5, 0.2))
    with pytest.raises(
        TypeError,
        match=r"x must be of a kind .*, but is of type Similarity: pass gwtools.DenseSpace",
    ):
        getattr(gw.stability, name)(x, argument)


@given(SEEDS, st.integers(1, 6), st.integers(1, 6), st.integers(1, 6), weights(6))
def test_truncation(seed, t, n, k, a):
    factor = np.random.default_rng(seed).standard_normal((t, n))
    a = a[:n] / a[:n].sum()
    least = np.sort(factor, axis=1)[:, ::-1][:, min(k, n) - 1]
    x = Drawn("gram", factor, a)
    x2 = replace(x, data=np.where(factor >= least[:, None], factor, 0.0))
    found = stability.truncation(x.space(), k)
    root = np.sqrt(a)
    whole, kept = factor * root, x2.data * root
    expected = (np.linalg.norm(whole, 2) + np.linalg.norm(kept, 2)) * np.linalg.norm(
        whole - kept
    )
    assert found == pytest.approx(expected, rel=1e-7, abs=1e-12)
    assert holds(found, norm(x.matrix - x2.matrix, a), x, x2)
    assert moves_no_more(found, x, x2, x)


def test_truncation_of_a_small_tail_is_nearly_reached():
    """One row [1, t]: the move is t √(2 + t²) / 2, the bound t (√(1 + t²) + 1) / 2."""
    t = 1e-3
    x = gw.GramSpace(np.array([[1.0, t]]))
    moved = norm(x.dense() - np.diag([1.0, 0.0]), x.weights)
    assert (
        0.7 * stability.truncation(x, 1)
        <= moved
        == pytest.approx(t * math.sqrt(2 + t**2) / 2)
    )


def test_truncation_keeps_the_first_of_equal_values():
    x = gw.GramSpace(np.ones((1, 3)), np.array([0.5, 0.3, 0.2]))
    assert stability.truncation(x, 1) == pytest.approx(
        (1 + math.sqrt(0.5)) * math.sqrt(0.5)
    )
    assert stability.truncation(x, 3) == 0.0


@given(spaces(), st.data())
def test_subsampling_bounds_the_distance(x, data):
    index = np.array(
        data.draw(st.lists(st.integers(0, x.size - 1), min_size=1, max_size=6))
    )
    b = data.draw(weights(len(index)))
    y = replace(x.take(index), weights=b)
    found = stability.subsampling(x.space(), index, b)
    assert gw.certify(
        x.space(), y.space()
    ).lower ** 0.5 <= found * ROUNDING + 1e-6 * largest(x)
    product = checkers.objective(x.matrix, y.matrix, np.outer(x.weights, b)) ** 0.5
    assert found <= 2 * product + 1e-6 * largest(x)


@given(spaces(generic=True, kinds=("dense", "euclidean")), st.data())
def test_subsampling_of_all_atoms_costs_nothing(x, data):
    order = np.array(data.draw(orders(x.size)))
    assert stability.subsampling(x.space(), order, x.weights[order]) <= 1e-6 * largest(
        x
    )


@pytest.mark.parametrize(("n", "m"), [(4, 2), (6, 3), (6, 1)])
def test_subsampling_of_a_simplex_is_exact(n, m):
    found = stability.subsampling(1 - np.eye(n), np.arange(m))
    assert found == pytest.approx(math.sqrt(1 / m - 1 / n))


def total_variation(found, p):
    """The share of mass in the wrong place that gave this bound of a space of oscillation 1."""
    return 1 - math.sqrt(1 - found**p)


@pytest.mark.parametrize("p", [1.0, 2.0])
@pytest.mark.parametrize(
    ("atoms", "draws", "failure", "least"),
    [(200, 2000, 0.5, 0.7), (2, 400, 0.001, 0.6)],
)
def test_sampling(atoms, draws, failure, least, p, rng):
    """The quantile of the total variation is below the bound, and above most of it: many atoms need one term, two the other."""
    a = np.full(atoms, 1 / atoms)
    found = total_variation(
        stability.sampling(gw.DenseSpace(1 - np.eye(atoms)), draws, failure, p), p
    )
    drawn = rng.multinomial(draws, a, size=50_000 if atoms == 2 else 2000) / draws
    quantile = np.quantile(np.abs(drawn - a).sum(1) / 2, 1 - failure)
    assert least * found <= quantile <= found


@given(SEEDS, st.integers(1, 30), st.sampled_from([1.0, 2.0]))
def test_sampling_bounds_the_distance(seed, draws, p):
    """With failure far below one in 200 no drawn space is farther away; the interval of the cheap certificate for p = 2."""
    rng = np.random.default_rng(seed)
    points, a = rng.standard_normal((4, 2)), rng.dirichlet(np.ones(4))
    found = stability.sampling(gw.PointCloud(points, a), draws, 1e-9, p)
    b = rng.multinomial(draws, a) / draws
    x, y = gw.PointCloud(points, a), gw.PointCloud(points, b)
    apart = (
        float(gw.bounds.first(x, y, p=1.0)) if p == 1 else gw.certify(x, y).lower ** 0.5
    )
    assert apart <= found
    assert found <= checkers.euclidean(points).max() * ROUNDING


def test_sampling_grows_with_the_oscillation_of_atoms_with_weight():
    C = np.array([[0.0, 3.0, 0.0], [3.0, 1.0, 50.0], [0.0, 50.0, 0.0]])
    x = gw.DenseSpace(C, np.array([0.5, 0.5, 0.0]))
    y = gw.DenseSpace(1 - np.eye(2))
    assert stability.sampling(x, 100) == pytest.approx(3 * stability.sampling(y, 100))
    assert stability.row_means_sampling(x, 100) == pytest.approx(
        3 * stability.row_means_sampling(y, 100)
    )


@given(spaces(kinds=("dense",)), st.sampled_from([-7.0, 3.0]))
def test_sampling_does_not_see_a_constant(x, constant):
    for bound in (stability.sampling, stability.row_means_sampling):
        found = bound(gw.DenseSpace(x.data + constant, x.weights), 1000)
        assert found == pytest.approx(bound(x.space(), 1000), rel=1e-9, abs=1e-12)


def test_row_means_sampling_has_a_mean_and_a_tail():
    """Hardly any tail where failure is allowed: what is left bounds the mean."""
    found = stability.row_means_sampling(1 - np.eye(2), 400, 1 - 1e-12)
    assert found == pytest.approx(1 / 20 + 1 / 400, rel=1e-4)
    assert 1.0 <= stability.row_means_sampling(1 - np.eye(2), 3, 1e-9) <= ROUNDING


def test_row_means_sampling(rng):
    """Draws from two far clusters: most of the bound is reached by its quantile."""
    points = np.concatenate([np.zeros(5), np.ones(5)])
    C = np.abs(points[:, None] - points) * np.outer(points, points) + np.outer(
        points, points
    )
    x, draws, failure = gw.DenseSpace(C), 200, 0.01
    y = gw.DenseSpace(np.zeros((1, 1)))
    centre = float(gw.bounds.row_means(x, y, p=1))
    moves = []
    for _ in range(2000):
        index = rng.integers(0, 10, draws)
        part = C[np.ix_(index, index)]
        moves.append(abs(abs(part.mean(1)).mean() - centre))
    found = stability.row_means_sampling(x, draws, failure)
    quantile = np.quantile(moves, 1 - failure)
    assert 0.3 * found <= quantile <= found


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: stability.perturbation(np.eye(2), np.eye(3)),
            ValueError,
            "atoms of x, but they have 3 and 2",
        ),
        (
            lambda: stability.perturbation(
                np.eye(2), gw.DenseSpace(np.eye(2), np.array([0.4, 0.6]))
            ),
            ValueError,
            "weights of x, but they differ by up to 0.1",
        ),
        (
            lambda: stability.perturbation(np.eye(2), np.eye(2), 0.5),
            ValueError,
            "p must be",
        ),
        (lambda: stability.quantization(np.eye(2), 0.0), ValueError, "step must be"),
        (
            lambda: stability.rounding(np.eye(2), "int8"),
            ValueError,
            "dtype must be one of 'bfloat16'",
        ),
        (
            lambda: stability.truncation(gw.DenseSpace(np.eye(2)), 1),
            TypeError,
            "pass the factor",
        ),
        (
            lambda: stability.truncation(gw.GramSpace(np.eye(2)), 0),
            ValueError,
            "k must be",
        ),
        (
            lambda: stability.subsampling(np.eye(2), np.array([0]), np.ones(2) / 2),
            ValueError,
            "one entry for each of",
        ),
        (lambda: stability.sampling(np.eye(2), 0), ValueError, "draws must be"),
        (lambda: stability.sampling(np.eye(2), 5, 1.0), ValueError, "failure must be"),
        (
            lambda: stability.row_means_sampling(np.eye(2), 5, 0.0),
            ValueError,
            r"failure must be .*, but is 0\.0",
        ),
    ],
)
def test_bad_input_is_refused(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_other_libraries(library, rng):
    points, index = rng.standard_normal((6, 2)), [0, 2, 3]
    x, reference = gw.PointCloud(library.array(points)), gw.PointCloud(points)
    moved, moved_reference = (gw.PointCloud(s.points * 1.5) for s in (x, reference))
    chosen = array_namespace(x.points).asarray(index)
    for found, expected in (
        (
            stability.perturbation(x, moved),
            stability.perturbation(reference, moved_reference),
        ),
        (stability.quantization(x, 0.1), stability.quantization(reference, 0.1)),
        (stability.rounding(x, "bfloat16"), stability.rounding(reference, "bfloat16")),
        (stability.sampling(x, 100), stability.sampling(reference, 100)),
        (
            stability.truncation(gw.GramSpace(x.points.T), 1),
            stability.truncation(gw.GramSpace(points.T), 1),
        ),
        (
            stability.subsampling(x, chosen),
            stability.subsampling(reference, np.array(index)),
        ),
    ):
        assert found == pytest.approx(expected, rel=library.rtol)
