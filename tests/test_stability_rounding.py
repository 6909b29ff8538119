"""Theorem 6 in floating point: bounds of spaces anywhere in the range of float64, against rational arithmetic, no tolerance."""

import math
from decimal import Context, Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from gwtools import stability
from gwtools.bounds.float_error import gamma

SEEDS = st.integers(0, 2**32 - 1)
SCALES = st.sampled_from([1e-170, 1.0, 1e150])
POWERS = st.sampled_from([1, 2])
KINDS = st.sampled_from(["dense", "euclidean", "sqeuclidean", "gram"])
TIGHT = 1 + Fraction(1, 10**12)
WIDE = Context(prec=250, Emin=-99999, Emax=99999)


def drawn(kind, data, a):
    if kind == "dense":
        return gw.DenseSpace(data, a)
    return (
        gw.GramSpace(data, a) if kind == "gram" else gw.PointCloud(data, a, metric=kind)
    )


def instance(kind, seed, scale, most=6):
    """Stored values, the same values moved by anything from rounding to their own size, and weights."""
    rng = np.random.default_rng(seed)
    n, d = rng.integers(1, most + 1), rng.integers(1, 4)
    shape = {"dense": (n, n), "gram": (d, n)}.get(kind, (n, d))
    unit = scale if kind in ("dense", "euclidean") else scale**0.5
    data = rng.standard_normal(shape) * unit
    moved = data + rng.choice([1e-15, 1e-8, 1.0]) * unit * rng.standard_normal(shape)
    if kind == "dense":
        data, moved = (data + data.T) / 2, (moved + moved.T) / 2
    return data, moved, rng.dirichlet(np.ones(n))


def rational(values):
    return [Fraction(float(v)) for v in values]


def exact_weights(space):
    a = rational(space.weights)
    return [v / sum(a) for v in a]


def decimal(value):
    return Decimal(value.numerator) / Decimal(value.denominator)


def entries(kind, data):
    """C of the stored values: rational but for Euclidean distances, which have 250 digits."""
    vectors = [rational(row) for row in (data.T if kind == "gram" else data)]
    if kind == "dense":
        return vectors
    if kind == "gram":
        return [
            [sum(s * t for s, t in zip(v, w, strict=True)) for w in vectors]
            for v in vectors
        ]
    squares = [
        [sum((s - t) ** 2 for s, t in zip(v, w, strict=True)) for w in vectors]
        for v in vectors
    ]
    return (
        squares
        if kind == "sqeuclidean"
        else [[Fraction(decimal(v).sqrt()) for v in row] for row in squares]
    )


def power_of_norm(C, D, a, p):
    n = range(len(a))
    return sum(a[i] * a[k] * abs(C[i][k] - D[i][k]) ** p for i in n for k in n)


def entries_radius(*spaces):
    """The radius of computed entries and their own error, which is up to as much."""
    return sum(2.01 * gamma(s.float_operations) * s.largest() for s in spaces)


def lies_just_above(found, power, p, radius=0.0):
    """Whether found^p is at least a power, and found no more than a share of 1e-12 and a radius above its root."""
    return (
        Fraction(found) ** p >= power
        and max(Fraction(found) - Fraction(radius), 0) ** p <= power * TIGHT**p
    )


@given(SEEDS, SCALES, POWERS, KINDS)
def test_perturbation_is_rounded_up(seed, scale, p, kind):
    data, moved, a = instance(kind, seed, scale)
    x, x2 = drawn(kind, data, a), drawn(kind, moved, a)
    with localcontext(WIDE):
        power = power_of_norm(
            entries(kind, data), entries(kind, moved), exact_weights(x), p
        )
    assert lies_just_above(
        stability.perturbation(x, x2, p), power, p, entries_radius(x, x2)
    )


@given(SEEDS, SCALES, POWERS, KINDS)
def test_row_means_perturbation_is_rounded_up(seed, scale, p, kind):
    data, moved, a = instance(kind, seed, scale)
    x, x2 = drawn(kind, data, a), drawn(kind, moved, a)
    a, n = exact_weights(x), range(len(a))
    with localcontext(WIDE):
        C, D = entries(kind, data), entries(kind, moved)
        power = sum(
            a[i] * abs(sum(a[k] * (C[i][k] - D[i][k]) for k in n)) ** p for i in n
        )
        whole = (
            math.ldexp(
                float(power_of_norm(C, D, a, 1) * Fraction(2) ** 600 / Fraction(scale)),
                -600,
            )
            * scale
        )
    largest = max(
        float(max(abs(v) for row in M for v in row) / Fraction(scale)) * scale
        for M in (C, D)
    )
    radius = 1e-12 * whole + (0.0 if kind == "dense" else 1e-12 * largest)
    assert lies_just_above(stability.row_means_perturbation(x, x2, p), power, p, radius)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 7.0])
@pytest.mark.parametrize("value", [5e-324, 1e-310, 1e-170, 1.0, 1e150, 1e200, 1.7e308])
def test_a_single_entry_is_seen_whatever_its_size(value, p):
    for bound in (stability.perturbation, stability.row_means_perturbation):
        found = bound(np.zeros((1, 1)), np.full((1, 1), value * (1 - 1e-13)), p)
        assert value * (1 - 1e-13) <= found <= value + 1e-321


@pytest.mark.parametrize("value", [5e-324, 1e-170, 1.0, 1.7e308])
@given(SEEDS, POWERS)
def test_equal_matrices_have_no_distance(value, seed, p):
    rng = np.random.default_rng(seed)
    C = rng.integers(-1, 2, (4, 4)) * value
    C = np.triu(C) + np.triu(C, 1).T
    a = rng.dirichlet(np.ones(4))
    for bound in (stability.perturbation, stability.row_means_perturbation):
        assert bound(gw.DenseSpace(C, a), gw.DenseSpace(C.copy(), a), p) == 0.0


@pytest.mark.parametrize("scale", [1e-170, 1.0, 1e150, 1.7e307])
def test_equal_atoms_that_are_sent_whole_cost_nothing(scale, rng):
    C = rng.standard_normal((5, 5))
    assert stability.subsampling((C + C.T) * scale, np.array([2, 0, 4, 1, 3])) == 0.0


def test_atoms_without_weight_do_not_count():
    C, a = np.array([[1.0, 1e300], [1e300, 1e308]]), np.array([1.0, 0.0])
    assert (
        stability.perturbation(gw.DenseSpace(C, a), gw.DenseSpace(np.eye(2), a)) == 0.0
    )
    assert 2.0**-25 <= stability.rounding(gw.DenseSpace(C, a), "float32") <= 2.0**-23


def stored_formula(kind, data, a, relative, absolute):
    """The right side of theorem 6 d with 250 digits."""
    vectors = [rational(row) for row in (data.T if kind == "gram" else data)]
    u, eta = Decimal(relative), Decimal(absolute)
    if kind == "dense":
        n = range(len(a))
        return (
            u
            * decimal(
                sum(a[i] * a[k] * vectors[i][k] ** 2 for i in n for k in n)
            ).sqrt()
            + eta
        )
    lengths = [decimal(sum(v**2 for v in vector)).sqrt() for vector in vectors]
    e = [u * length + eta * Decimal(len(vectors[0])).sqrt() for length in lengths]
    a = [decimal(v) for v in a]
    mean, square = (sum(w * v**k for w, v in zip(a, e, strict=True)) for k in (1, 2))
    if kind == "gram":
        return (
            2
            * square.sqrt()
            * sum(w * v**2 for w, v in zip(a, lengths, strict=True)).sqrt()
            + square
        )
    if kind == "euclidean":
        return (2 * square + 2 * mean**2).sqrt()
    C = entries("sqeuclidean", data)
    spread = sum(
        decimal(c) * v * w
        for row, v in zip(C, a, strict=True)
        for c, w in zip(row, a, strict=True)
    )
    return 4 * max(e) * (spread.sqrt() + max(e))


@given(SEEDS, SCALES, KINDS, st.sampled_from([None, 1e-9, 1.0, 1e3]))
def test_stored_values_are_rounded_up(seed, scale, kind, step):
    """Theorem 6 d with and without an absolute part."""
    data, _, a = instance(kind, seed, scale)
    x = drawn(kind, data, a)
    with localcontext(WIDE):
        if step is None:
            found = stability.rounding(x, "float32")
            expected = stored_formula(kind, data, exact_weights(x), 2.0**-24, 2.0**-150)
        else:
            step *= scale if kind in ("dense", "euclidean") else scale**0.5
            found = stability.quantization(x, step)
            expected = stored_formula(kind, data, exact_weights(x), 0.0, step / 2)
        assert lies_just_above(found, Fraction(expected), 1)


@given(SEEDS, SCALES)
def test_lengths_of_graphs_are_rounded_up(seed, scale):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 7))
    lengths = np.triu(
        rng.uniform(0.5, 1.0, (n, n)) * (rng.random((n, n)) < 0.5), 1
    ) + np.diag(np.ones(n - 1), 1)
    x = gw.GraphSpace(
        sp.csr_array((lengths + lengths.T) * scale), rng.dirichlet(np.ones(n))
    )
    edges, nodes = x.adjacency.toarray(), range(n)
    C = [[Fraction(float(v)) if v else Fraction(0 if i == k else 10**9) * Fraction(scale) for k, v in enumerate(row)]
         for i, row in enumerate(edges)]  # fmt: skip
    for k in nodes:
        C = [[min(C[i][j], C[i][k] + C[k][j]) for j in nodes] for i in nodes]
    a = exact_weights(x)
    with localcontext(WIDE):
        size = decimal(
            sum(a[i] * a[k] * C[i][k] ** 2 for i in nodes for k in nodes)
        ).sqrt()
        expected = Fraction(Decimal(2.0**-24) * size + (n - 1) * Decimal(2.0**-150))
    assert lies_just_above(stability.rounding(x, "float32"), expected, 1)


@given(SEEDS, SCALES, st.integers(1, 4))
def test_truncation_is_rounded_up(seed, scale, k):
    factor, _, a = instance("gram", seed, scale)
    x = gw.GramSpace(factor, a)
    found = stability.truncation(x, k)
    least = np.sort(factor, axis=1)[:, ::-1][:, min(k, x.size) - 1]
    kept = np.where(factor >= least[:, None], factor, 0.0)
    power = power_of_norm(
        entries("gram", factor), entries("gram", kept), exact_weights(x), 2
    )
    assert Fraction(found) ** 2 >= power
    root = np.sqrt(a)
    whole, part = factor / scale**0.5 * root, kept / scale**0.5 * root
    formula = (np.linalg.norm(whole, 2) + np.linalg.norm(part, 2)) * np.linalg.norm(
        whole - part
    )
    assert found / scale <= formula * (1 + 1e-12)


@pytest.mark.parametrize("scale", [1e-170, 1.0, 1e150, 2.0**1023])
@pytest.mark.parametrize(("n", "m"), [(4, 2), (6, 3), (6, 1), (5, 3)])
def test_subsampling_is_rounded_up(n, m, scale):
    found = stability.subsampling(scale * (1 - np.eye(n)), np.arange(m))
    power = (Fraction(1, m) - Fraction(1, n)) * Fraction(scale) ** 2
    assert Fraction(found) ** 2 >= power
    if n % m == 0:
        assert lies_just_above(found, power, 2)


@pytest.mark.parametrize("exponent", [-170, -80, 0, 80, 140])
@pytest.mark.parametrize("kind", ["euclidean", "sqeuclidean", "gram"])
def test_sampling_and_subsampling_scale(kind, exponent, rng):
    data, index = rng.standard_normal((5, 2)), np.array([0, 0, 3])
    data = data.T.copy() if kind == "gram" else data
    power = 2 if kind != "euclidean" else 1
    unit = 2.0 ** (exponent * 3 // power)
    x, y = drawn(kind, data, np.full(5, 0.2)), drawn(kind, data * unit, np.full(5, 0.2))
    for bound in (
        lambda s: stability.subsampling(s, index),
        lambda s: stability.sampling(s, 100),
    ):
        assert bound(y) / unit ** (power / 2) / unit ** (power / 2) == pytest.approx(
            bound(x), rel=1e-12
        )
    exact = np.ptp(
        [
            float(v)
            for row in entries("sqeuclidean" if kind != "gram" else kind, data)
            for v in row
        ]
    )
    exact = exact**0.5 if kind == "euclidean" else exact
    assert stability.row_means_sampling(x, 3, 1e-9) >= exact


FAR = np.array([[0.0], [1e200]])


@pytest.mark.parametrize(
    "call",
    [
        lambda: stability.perturbation(
            gw.PointCloud(FAR, metric="sqeuclidean"), gw.DenseSpace(np.eye(2))
        ),
        lambda: stability.perturbation(gw.GramSpace(FAR.T), gw.GramSpace(FAR.T / 2)),
        lambda: stability.row_means_perturbation(
            gw.GramSpace(FAR.T), gw.GramSpace(FAR.T / 2)
        ),
        lambda: stability.perturbation(
            np.full((1, 1), 1.7e308), np.full((1, 1), -1.7e308)
        ),
        lambda: stability.rounding(gw.PointCloud(FAR, metric="sqeuclidean"), "float32"),
        lambda: stability.quantization(
            gw.PointCloud(FAR * 1e-200, metric="sqeuclidean"), 1e200
        ),
        lambda: stability.rounding(
            gw.PointCloud(np.array([[-1.7e308], [1.7e308]])), "float32"
        ),
        lambda: stability.truncation(gw.GramSpace(FAR.T), 1),
        lambda: stability.subsampling(gw.GramSpace(FAR.T), np.array([0])),
        lambda: stability.sampling(gw.GramSpace(FAR.T), 5),
        lambda: stability.row_means_sampling(gw.GramSpace(FAR.T), 5),
    ],
    ids=map(str, range(11)),
)
def test_what_leaves_the_range_is_refused(call):
    with pytest.raises(
        ValueError,
        match=r"must be within the range of float64, up to 1\.8e\+308, but exceeds it",
    ):
        call()


def test_squares_that_underflow_under_the_root_of_a_distance_are_paid():
    weights = np.array([0.5, 0.5, 1e-250])
    matrix = np.zeros((3, 3))
    matrix[0, 2] = matrix[2, 0] = matrix[1, 2] = matrix[2, 1] = 1.0
    cloud = gw.PointCloud(np.array([[0.0], [1e-170], [1e-170]]), weights)
    # Half of all pairs of the first two atoms are 1e-170 apart.
    assert (
        gw.stability.perturbation(gw.DenseSpace(matrix, weights), cloud, 1.0) >= 5e-171
    )


@pytest.mark.parametrize("seed", range(40))
def test_the_rounding_of_a_power_is_paid(seed):
    """A root of 1e-300 moves by hundreds of units in the last place with the rounding of 1/p."""
    mpmath = pytest.importorskip("mpmath")
    p = float(np.random.default_rng(seed).uniform(1, 2))
    weights = np.array([1.0, 1e-150])
    moved = np.zeros((2, 2))
    moved[1, 1] = 1.0
    x, x2 = gw.DenseSpace(np.zeros((2, 2)), weights), gw.DenseSpace(moved, weights)
    with mpmath.workdps(60):
        share = mpmath.mpf(1e-150) / (mpmath.mpf(1) + mpmath.mpf(1e-150))
        exact = share ** (2 / mpmath.mpf(p))
        found = gw.stability.perturbation(x, x2, p)
        assert exact <= found <= exact * (1 + 1e-12)
