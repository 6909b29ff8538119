"""Hard corners: ties, tiny weights, float errors, kernels that no scaling meets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

import gwtools as gw
from tests import checkers
from tests.solvers.test_base import QUIET, SOLVERS
from tests.strategies import pairs


@pytest.mark.parametrize("tolerance", [0.3, 0.1, 1e-3, 1e-9])
def test_a_vertex_that_is_no_better_is_not_gone_back_and_forth_to(tolerance):
    """Between a mixture and a vertex that is higher by less than a large tolerance."""
    x = gw.DenseSpace(np.array([[0.2, 0.75], [0.75, 0.4]]), np.array([8 / 9, 1 / 9]))
    y = gw.DenseSpace(np.array([[0.5, 0.3], [0.3, 0.3]]), np.array([1 / 9, 8 / 9]))
    best = gw.solve(x, y).plan
    for init in ("product", best):
        result = gw.solve(x, y, gw.ConditionalGradient(tolerance=tolerance, init=init))
        assert result.status is gw.Status.STATIONARY
        assert result.iterations <= 20
        if init is best:
            assert float(result.objective) <= float(gw.solve(x, y).objective) * (
                1 + 1e-12
            )


@QUIET
@given(pair=pairs(null=True), step=st.sampled_from([1e-3, 0.1, 1.0, 10.0]))
def test_never_ends_above_its_start_at_any_tolerance(pair, step):
    x, y = pair
    start = gw.solve(x.space(), y.space(), gw.ConditionalGradient(tolerance=0.1)).plan
    result = gw.solve(
        x.space(), y.space(), gw.ConditionalGradient(tolerance=step, init=start)
    )
    before, after = (
        checkers.objective(x.matrix, y.matrix, plan.dense())
        for plan in (start, result.plan)
    )
    assert after <= before + 1e-11 * max(np.abs(s.matrix).max() ** 2 for s in pair)


@QUIET
@pytest.mark.parametrize(
    ("dtype", "small"), [(np.float32, 1e-24), (np.float64, 1e-200), (np.float64, 1e-30)]
)
def test_weights_whose_products_have_no_number(dtype, small):
    """Two atoms of next to no weight change nothing that can be seen.

    No success is claimed of what is not a number.
    """
    rng = np.random.default_rng(2)
    points = [rng.standard_normal((n, 2)) for n in (7, 6)]
    spaces = [
        gw.PointCloud(p.astype(dtype), weights_with(len(p), small).astype(dtype))
        for p in points
    ]
    blind = [
        gw.DenseSpace((1 - np.eye(len(p))).astype(dtype), s.weights)
        for p, s in zip(points, spaces, strict=True)
    ]
    for x, y in (spaces, blind):
        for solver in (*SOLVERS, gw.Sinkhorn(proximal=False)):
            result = gw.solve(x, y, solver)
            assert np.isfinite(float(result.objective))
            error = 1e-12 if dtype is np.float64 else 1e-6
            assert (
                checkers.coupling_error(
                    result.plan.dense().astype(float), x.weights, y.weights
                )
                <= error
            )
            if result.status.success:
                assert result.frank_wolfe_gap <= 1e-3


def weights_with(n, small):
    weights = np.full(n, 1 / (n - 1))
    weights[0] = small
    return weights


@QUIET
@pytest.mark.parametrize("noise", [1e-15, 1e-13, 1e-11])
def test_what_plans_change_may_be_just_above_rounding(noise):
    rng = np.random.default_rng(0)
    for _ in range(5):
        g = rng.standard_normal((4, 4))
        for solver in SOLVERS:
            result = gw.solve(1 - np.eye(8), 1.7 + noise * (g + g.T), solver)
            assert (
                checkers.coupling_error(
                    result.plan.dense(), np.full(8, 1 / 8), np.full(4, 1 / 4)
                )
                <= 1e-12
            )


@QUIET
@pytest.mark.parametrize("share", [1e-6, 1e-20, 1e-30])
def test_no_success_is_claimed_of_kernels_that_no_scaling_meets(share):
    rng = np.random.default_rng(3)
    C, D = (cdist(p, p) for p in rng.standard_normal((2, 8, 2)))
    for dtype in (np.float32, np.float64):
        solver = gw.Sinkhorn(epsilon=share, proximal=False)
        result = gw.solve(C.astype(dtype), D.astype(dtype), solver)
        gap = checkers.frank_wolfe_gap(
            C,
            np.full(8, 1 / 8),
            D,
            np.full(8, 1 / 8),
            result.plan.dense().astype(float),
        )
        assert not result.status.success or gap <= 1e-2
    with pytest.raises(ValueError, match="epsilon must be at least"):
        gw.solve(C.astype(np.float32), D.astype(np.float32), gw.Sinkhorn(epsilon=1e-50))


def test_starts_that_miss_their_marginals_a_little_are_rounded():
    """As plans of other libraries do.

    A start within a gradient graph leaves no trace in the plan.
    """
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(4)
    C, D = (cdist(p, p) for p in rng.standard_normal((2, 9, 2)))
    start = np.full((9, 9), 1 / 81) * (1 + 1e-8 * rng.standard_normal((9, 9)))
    result = gw.solve(C, D, gw.ConditionalGradient(init=start, max_iterations=200))
    assert result.status.success
    assert (
        checkers.coupling_error(
            result.plan.dense(), np.full(9, 1 / 9), np.full(9, 1 / 9)
        )
        <= 1e-15
    )
    init = torch.full((9, 9), 1 / 81, dtype=torch.float64, requires_grad=True)
    result = gw.solve(
        torch.asarray(C), torch.asarray(D), gw.ConditionalGradient(init=init)
    )
    assert not result.objective.requires_grad
    assert not result.plan.masses.requires_grad


@QUIET
@pytest.mark.parametrize("proximal", [True, False])
def test_batches_whose_largest_space_has_no_slope(proximal):
    rng = np.random.default_rng(5)
    clouds = {n: cdist(*[rng.standard_normal((n, 2))] * 2) for n in (9, 11, 12)}
    solver = gw.Sinkhorn(proximal=proximal)
    xs, ys = (
        [clouds[11], 1 - np.eye(13), clouds[9]],
        [clouds[9], clouds[12], 1 - np.eye(14)],
    )
    for found, x, y in zip(gw.solve_batch(xs, ys, solver), xs, ys, strict=True):
        assert float(found.objective) == pytest.approx(
            float(gw.solve(x, y, solver).objective), abs=1e-8
        )
