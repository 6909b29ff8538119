"""Searches in every library, in single precision, and between hostile values."""

import gc

import numpy as np
import pytest

import gwtools as gw
from gwtools.solvers import multi_start
from gwtools.solvers.base import Outcome
from tests import checkers
from tests.libraries import EAGER, to_numpy
from tests.solvers.test_multi_start import clouds


@pytest.mark.parametrize("library", EAGER, ids=str)
def test_libraries(library):
    x, y = clouds(6, 8, seed=2, array=library.array)
    result = gw.solve(x, y, gw.MultiStart(starts=11))
    for value in (result.objective, result.distance, result.plan.dense()):
        assert library.owns(value)
    expected = gw.solve(*clouds(6, 8, seed=2), gw.MultiStart(starts=11))
    difference = abs(float(result.objective) - float(expected.objective))
    assert difference <= library.rtol * float(expected.objective)
    # Which sign an eigenvector has is for each library to say.
    kinds, others = (
        [start.name.rstrip("+-") for start in found.starts[:3]]
        for found in (result, expected)
    )
    assert kinds == others
    narrow = [to_numpy(space.weights) for space in (x, y)]
    plan = to_numpy(result.plan.dense())
    most = 1e-12 if library.dtype == "float64" else 1e-6
    assert checkers.coupling_error(plan, *narrow) <= most


def test_nearly_equal_weights_in_single_precision():
    """Weights that are each equal to the next are no weights of a copy."""
    n = 64
    step = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    C = np.minimum(step, n - step).astype(np.float32)
    rng = np.random.default_rng(0)
    weights = rng.permutation(np.linspace(1, 1 + n * 1e-4, n))
    a = (weights / weights.sum()).astype(np.float32)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(n)
        copy = np.ascontiguousarray(C[np.ix_(order, order)])
        x, y = gw.DenseSpace(C, a), gw.DenseSpace(copy, a[order])
        result = gw.solve(x, y, gw.MultiStart(starts=3))
        assert checkers.coupling_error(result.plan.dense(), a, a[order]) <= 1e-6


HOSTILE = {
    "zeros": np.zeros((6, 6)),
    "ones": np.ones((5, 5)),
    "one": np.full((1, 1), 2.0),
    "two": 1 - np.eye(2),
    "simplex": 1 - np.eye(8),
    "identity": np.eye(7),
    "huge": 1e150 * np.abs(np.subtract.outer(np.arange(6), np.arange(6))),
    "tiny": 1e-160 * np.abs(np.subtract.outer(np.arange(5), np.arange(5))),
    "subnormal": 1e-310 * (1 - np.eye(4)),
    "mixed": np.diag([1e-100, 1.0, 1e100, 0.0]) + 1e50 * (1 - np.eye(4)),
    "offset": 1e8 + np.abs(np.subtract.outer(np.arange(6), np.arange(6))) ** 1.5,
}


@pytest.mark.parametrize("first", HOSTILE)
@pytest.mark.parametrize("unequal", [True, False])
def test_hostile_values_end(first, unequal):
    rng = np.random.default_rng(0)
    for second in HOSTILE:
        spaces = []
        for name in (first, second):
            n = len(HOSTILE[name])
            a = rng.dirichlet(np.ones(n)) if unequal else np.full(n, 1 / n)
            spaces.append(gw.DenseSpace(HOSTILE[name], a))
        result = gw.solve(*spaces, gw.MultiStart())
        assert len(result.starts) <= multi_start._MOST_STARTS
        plan = result.plan.dense()
        weights = [space.weights for space in spaces]
        assert checkers.coupling_error(plan, *weights) <= 1e-12
        assert np.isfinite(float(result.objective))
        assert all(np.isfinite(start.objective) for start in result.starts)
        assert float(result.objective) <= float(
            gw.solve(*spaces, gw.ConditionalGradient()).objective
        )


def test_only_the_best_plan_is_kept():
    rng = np.random.default_rng(0)
    x, y = (gw.PointCloud(rng.standard_normal((12, 2))) for _ in range(2))
    alive = []

    def count(progress):
        gc.collect()  # states may refer to themselves
        kept = [item for item in gc.get_objects() if type(item) is Outcome]
        alive.append(len(kept))

    gc.freeze()  # what other tests have left need not be searched
    try:
        result = gw.solve(x, y, gw.MultiStart(starts=12), callback=count)
    finally:
        gc.unfreeze()
    assert len(result.starts) == 12
    # The best, the one before, and annealing's: not those of eleven other starts.
    assert 1 <= max(alive) <= 4
