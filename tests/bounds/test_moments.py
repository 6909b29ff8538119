"""Theorems 1, 3 and 4: bounds from row means, eccentricities, norms and spectra."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from tests import checkers
from tests.bounds.test_every_bound import arguments, slack, sorting, value
from tests.strategies import (
    coupled,
    pairs,
)

POWERS = st.sampled_from([1.0, 1.5, 2.0, 3.0])


@given(coupled(null=True), POWERS)
def test_theorem_1_row_means(instance, p):
    x, y, plan = instance
    bound = value("row_means", x, y, p=p)
    assert bound == pytest.approx(
        checkers.row_means(*arguments(x, y), p), rel=1e-10, abs=slack(x, y, p=p)
    )
    assert bound <= checkers.objective(x.matrix, y.matrix, plan, p) + slack(x, y, p=p)


@given(coupled(null=True), POWERS)
def test_theorem_1_first(instance, p):
    x, y, plan = instance
    bound = value("first", x, y, p=p)
    assert bound == pytest.approx(
        checkers.first(*arguments(x, y), p), rel=1e-9, abs=slack(x, y, p=p)
    )
    assert bound <= checkers.objective(x.matrix, y.matrix, plan, p) + slack(x, y, p=p)


@given(st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_theorem_1_is_the_published_estimate(n, seed):
    C, D = (
        np.abs(m + m.T) for m in np.random.default_rng(seed).standard_normal((2, n, n))
    )
    published = np.abs(np.sort(C.mean(1)) - np.sort(D.mean(1))).mean()
    assert float(gw.bounds.row_means(C, D, p=1)) == pytest.approx(published, rel=1e-13)


def test_theorem_1_neither_version_dominates():
    pair = gw.DenseSpace(np.array([[0.0, 1.0], [1.0, 0.0]]))
    for c, better in ((0.5, "first"), (0.5**0.5, "row_means")):
        point = gw.DenseSpace(np.array([[c]]))
        values = {
            name: float(getattr(gw.bounds, name)(point, pair))
            for name in ("first", "row_means")
        }
        assert max(values, key=values.get) == better
        assert min(values.values()) <= 1e-30


@given(pairs(null=True))
def test_theorem_3_norm(pair):
    x, y = pair
    bound = value("norm", x, y)
    assert value("row_means", x, y) <= bound + slack(x, y)
    assert bound <= value("spectral", x, y) + slack(x, y)


@given(coupled(null=True))
def test_theorem_4_spectral(instance):
    x, y, plan = instance
    (_, _, R), (_, _, S) = (checkers.parts(s.matrix, s.weights) for s in (x, y))
    trace = float(np.trace(R @ plan @ S @ plan.T))
    values = [checkers.spectrum(s.matrix, s.weights) for s in (x, y)]
    up, down = (
        [np.sort(np.maximum(sign * v, 0))[::-1] for v in values] for sign in (1, -1)
    )
    k = min(x.size, y.size)
    matched = up[0][:k] @ up[1][:k] + down[0][:k] @ down[1][:k]
    mixed = up[0][:k] @ down[1][:k] + down[0][:k] @ up[1][:k]
    assert -mixed - slack(x, y) <= trace <= matched + slack(x, y)
    bound = value("spectral", x, y)
    assert bound <= checkers.objective(x.matrix, y.matrix, plan) + slack(x, y)
    assert checkers.objective(x.matrix, y.matrix, sorting(x, y)) <= bound + 2 * (
        matched + mixed
    ) + slack(x, y)


@given(pairs(kinds=("sqeuclidean", "gram"), null=True))
def test_theorem_4_structured(pair):
    x, y = pair
    dense = [gw.DenseSpace(s.matrix, s.weights) for s in (x, y)]
    assert value("spectral", x, y) == pytest.approx(
        float(gw.bounds.spectral(*dense)), rel=1e-9, abs=10 * slack(x, y)
    )
