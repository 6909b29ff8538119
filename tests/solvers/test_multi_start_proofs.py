"""What a search proves: all bijections, where kinds of spaces make F concave."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from tests.checkers import best_permutation
from tests.rational import fraction, rational
from tests.strategies import Drawn


def drawn(kind, seed, n, d=2):
    points = np.random.default_rng(seed).standard_normal((n, d))
    points = points.T.copy() if kind == "gram" else points
    return Drawn(kind, points, np.full(n, 1 / n))


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 2**20),
    st.integers(2, 6),
    st.sampled_from(
        [
            ("euclidean", "euclidean"),
            ("euclidean", "sqeuclidean"),
            ("sqeuclidean", "sqeuclidean"),
            ("gram", "gram"),
        ]
    ),
)
def test_all_bijections_prove_the_best_of_them(seed, n, kinds):
    x, y = (drawn(kind, seed + k, n) for k, kind in enumerate(kinds))
    result = gw.solve(x.space(), y.space(), gw.MultiStart())
    best = best_permutation(x.matrix, y.matrix)
    bounds = result.certificate.bounds
    # It is not asked for where theorem 3, or Gram spaces of one row, closed it before.
    if "permutations" not in bounds:
        assert result.certificate.kind is gw.Kind.GLOBAL
        return
    assert bounds["permutations"] <= best * (1 + 1e-14)
    assert bounds["permutations"] >= best * (1 - 1e-9) - 1e-12
    assert result.certificate.kind is gw.Kind.GLOBAL
    assert result.status is gw.Status.GLOBAL


@pytest.mark.parametrize("kind", ["sqeuclidean", "gram"])
@pytest.mark.parametrize("seed", range(6))
def test_the_proof_is_below_every_bijection_in_rational_arithmetic(kind, seed):
    n = 4
    x, y = (drawn(kind, 10 * seed + k, n) for k in range(2))
    result = gw.solve(x.space(), y.space(), gw.MultiStart())
    matrices = []
    for space in (x, y):
        data = rational(space.data)
        if kind == "gram":
            matrices.append(data.T @ data)
        else:
            squares = (data[:, None, :] - data[None, :, :]) ** 2
            matrices.append(squares.sum(axis=2))
    C, D = matrices
    sums = [
        ((C - D[np.ix_(order, order)]) ** 2).sum()
        for order in itertools.permutations(range(n))
    ]
    assert fraction(result.certificate.bounds["permutations"]) <= min(sums) / n**2


def test_nothing_is_proved_where_couplings_may_beat_bijections():
    rng = np.random.default_rng(0)
    n = 5
    # Matrices of no kind, and unequal weights.
    C, D = (m + m.T for m in rng.standard_normal((2, n, n)))
    x, y = (drawn("sqeuclidean", seed, n) for seed in range(2))
    a = np.full(n, 1 / n)
    a[0] += 1e-16
    assert a[0] != a[1]
    uneven = gw.PointCloud(x.data, a, metric="sqeuclidean")
    for pair in ((C, D), (uneven, y.space()), (1 * np.eye(2), 1 - np.eye(2))):
        result = gw.solve(*pair, gw.MultiStart())
        assert "permutations" not in result.certificate.bounds


def test_nothing_is_proved_before_all_bijections_were_tried():
    x, y = (drawn("euclidean", seed, 6) for seed in range(2))
    one = gw.solve(x.space(), y.space(), gw.MultiStart(starts=1))
    assert "permutations" not in one.certificate.bounds


def test_single_precision_is_not_proved():
    x, y = (drawn("euclidean", seed, 5) for seed in range(2))
    spaces = [
        gw.PointCloud(d.data.astype(np.float32), metric="euclidean") for d in (x, y)
    ]
    result = gw.solve(*spaces, gw.MultiStart())
    assert "permutations" not in result.certificate.bounds
