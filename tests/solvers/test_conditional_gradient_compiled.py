"""Conditional gradient with compiled programs and exchanges, and without numba."""

import numpy as np
import pytest

import gwtools as gw
from gwtools import _compiled
from gwtools._compiled import compilation
from tests import checkers


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.skipif(
    not compilation.available(), reason="numba, the extra fast, is not installed"
)
def test_without_numba_the_objective_is_the_same(monkeypatch, rng, weighted):
    # Above 300 atoms programs are compiled. No two vertices of these cost the same.
    spaces = []
    for n in (310, 320):
        points = rng.standard_normal((n, 3))
        weights = rng.uniform(0.5, 1.5, n) if weighted else np.ones(n)
        spaces.append(gw.PointCloud(points, weights / weights.sum()))
    solver = gw.ConditionalGradient()
    with_numba = gw.solve(*spaces, solver)
    monkeypatch.setattr(_compiled, "available", lambda: False)
    without = gw.solve(*spaces, solver)
    assert float(without.objective) == pytest.approx(
        float(with_numba.objective), rel=1e-7
    )
    for result in (with_numba, without):
        plan = result.plan.dense()
        weights = (space.weights for space in spaces)
        assert checkers.coupling_error(plan, *weights) <= 1e-12
