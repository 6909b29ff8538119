"""Spaces brought together: none spoils another, and few matrices are made at a time."""

import tracemalloc

import numpy as np
import pytest

import gwtools as gw
from tests import checkers
from tests.batch.test_solve import agree


def test_a_large_matrix_spoils_no_other():
    far = np.zeros((4, 4))
    far[:2, 2:] = far[2:, :2] = 1.6e153
    near, weights = (
        checkers.euclidean(np.random.default_rng(5).standard_normal((4, 2))),
        np.array([9.0, 9.0, 1.0, 1.0]),
    )
    xs = [gw.DenseSpace(m, weights / 20) for m in (far, near)]
    solver = gw.Sorted(kind="spectral")
    found = gw.solve_batch(xs, xs[::-1], solver)
    alone = [gw.solve(x, y, solver) for x, y in zip(xs, xs[::-1], strict=True)]
    assert [float(r.distance) for r in found] == pytest.approx(
        [float(r.distance) for r in alone]
    )
    found = gw.solve_batch(xs, xs, solver)[1]
    agree(found, gw.solve(xs[1], xs[1], solver))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_matrices_are_made_for_few_problems_at_a_time(dtype):
    """All matrices of one side are 32 MB in float64."""
    rng = np.random.default_rng(4)
    xs, ys = (
        [gw.PointCloud(rng.standard_normal((200, 2)).astype(dtype)) for _ in range(100)]
        for _ in range(2)
    )
    tracemalloc.start()
    found = gw.solve_batch(xs, ys, gw.Sorted())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 100
    assert peak < 12e6


def test_spectra_of_few_atoms_with_weight_in_float32():
    """Torch's own eigenvalues of one in ten of these matrices are NaN."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)

    def drawn():
        points, weights = rng.standard_normal((64, 2)), np.zeros(64)
        weights[rng.choice(64, 6, replace=False)] = rng.dirichlet(np.ones(6))
        return gw.PointCloud(
            *(torch.asarray(v, dtype=torch.float32) for v in (points, weights)),
            metric="sqeuclidean",
        )

    xs, ys = ([drawn() for _ in range(60)] for _ in range(2))
    solver = gw.Sorted(kind="spectral")
    found = [float(r.estimate) for r in gw.solve_batch(xs, ys, solver)]
    assert found == pytest.approx(
        [float(gw.solve(x, y, solver).estimate) for x, y in zip(xs, ys, strict=True)],
        rel=1e-3,
    )
