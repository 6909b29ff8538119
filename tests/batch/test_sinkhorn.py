"""Many problems by Sinkhorn's scaling: each at its own pace, in every library."""

import numpy as np
import pytest

import gwtools as gw
from tests import checkers
from tests.batch.test_solve import agree, made, problems
from tests.libraries import Library, to_numpy
from tests.strategies import KINDS

SCALED = [
    gw.Sinkhorn(),
    gw.Sinkhorn(epsilon=2.0, proximal=False),
    gw.Sinkhorn(max_iterations=3),
]


@pytest.mark.filterwarnings("ignore::gwtools.ConvergenceWarning")
@pytest.mark.parametrize("solver", SCALED, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_scaled_problems_stop_by_themselves_where_the_single_solve_stops(kind, solver):
    xs, ys = problems(kind)
    for found, x, y in zip(
        gw.solve_batch(made(xs), made(ys), solver), xs, ys, strict=True
    ):
        agree(found, gw.solve(x.space(), y.space(), solver), 1e-8)
        checkers.check_result(found, x.matrix, x.weights, y.matrix, y.weights)


def test_problems_that_descend_late_keep_their_own_pace():
    """Sizes of one group, whose steps differ in number.

    Their kernels need shortened Newton steps.
    """
    rng = np.random.default_rng(8)
    sizes = rng.integers(9, 17, (12, 2))
    sides = [
        [gw.PointCloud(rng.standard_normal((n, 3))) for n in column]
        for column in sizes.T
    ]
    results = gw.solve_batch(*sides, gw.Sinkhorn())
    assert len({r.iterations for r in results}) > 1
    for found, x, y in zip(results, *sides, strict=True):
        agree(found, gw.solve(x, y, gw.Sinkhorn()), 1e-8)


def test_sharp_kernels_of_padded_problems_are_scaled_to_the_end():
    """Atoms of little weight, beside a larger problem.

    Their mass moves between parts that hardly touch.
    """
    points = np.array([[0.126, -0.132], [0.640, 0.105], [-0.536, 0.362]])
    few = gw.PointCloud(points[:2], weights=np.array([5e4, 1.0]) / 50001)
    many = gw.PointCloud(points, weights=np.array([1.0, 5e4, 1.0]) / 50002)
    other = gw.PointCloud(np.random.default_rng(4).standard_normal((8, 2)))
    for x, y in ((few, many), (many, few)):
        found, _ = gw.solve_batch([x, other], [y, other], gw.Sinkhorn())
        agree(found, gw.solve(x, y, gw.Sinkhorn()), 1e-8)


def test_problems_blind_at_the_product_coupling_leave_it():
    """Constant row means beside a problem that has none."""
    xs = [1 - np.eye(2), checkers.euclidean(np.arange(6.0).reshape(3, 2) ** 2)]
    for found, x in zip(
        gw.solve_batch(xs, [1 - np.eye(4)] * 2, gw.Sinkhorn()), xs, strict=True
    ):
        agree(found, gw.solve(x, 1 - np.eye(4), gw.Sinkhorn()), 1e-8)
    assert float(
        gw.solve_batch(xs, [1 - np.eye(4)] * 2, gw.Sinkhorn())[0].objective
    ) == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("name", ["torch", "array_api_strict"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_scaled_problems_in_other_libraries(name, dtype):
    library, (xs, ys) = (
        Library(name, dtype),
        (side[::6] for side in problems("euclidean", dtype)),
    )
    results = gw.solve_batch(
        made(xs, library.array), made(ys, library.array), gw.Sinkhorn()
    )
    for found, x, y in zip(results, xs, ys, strict=True):
        assert all(
            library.owns(v)
            for v in (found.objective, found.distance, found.plan.dense())
        )
        expected = gw.solve(x.space(), y.space(), gw.Sinkhorn())
        scale = gw.GWProblem(x.space(), y.space()).product_objective
        assert (
            abs(float(found.objective) - float(expected.objective))
            <= max(library.rtol, 1e-8) * scale
        )
        plan = to_numpy(found.plan.dense())
        assert checkers.coupling_error(plan, x.weights, y.weights) <= (
            1e-12 if dtype == "float64" else 1e-6
        )
        assert (
            found.certificate.lower
            <= checkers.objective(x.matrix, y.matrix, plan) + library.rtol * scale
        )
        assert (
            found.certificate.upper
            >= checkers.objective(x.matrix, y.matrix, plan) - library.rtol * scale
        )
