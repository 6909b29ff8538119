"""Marginals: how far a plan is from given ones, and the coupling that is near."""

import numpy as np
import ot
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from gwtools.marginals import rounded_plan
from tests import checkers
from tests.libraries import to_numpy, tried
from tests.strategies import weights
from tests.test_plans import FORMS, masses
from tests.transport.test_programs import small_programs


@st.composite
def off_marginals(draw):
    """Weights, some of them 0, and masses with other marginals.

    A coupling times factors, or any masses, with empty rows and columns.
    """
    a, b = (draw(weights(draw(st.integers(1, 7)), null=True)) for _ in range(2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.sampled_from([0.0, 1e-12, 1e-8, 1e-3, 1.0, 1e6]))
    matrix = (
        np.outer(a, b)
        if draw(st.booleans())
        else rng.uniform(0, 1, (len(a), len(b))) ** 4
    )
    matrix = matrix * np.abs(1 + size * rng.standard_normal(matrix.shape))
    for axis in (0, 1):
        matrix[
            (slice(None),) * axis
            + (
                rng.uniform(size=matrix.shape[axis])
                < draw(st.sampled_from([0, 0, 0.5])),
            )
        ] = 0
    return matrix, a, b


@given(off_marginals())
def test_rounding_onto_couplings_altschuler_weed_rigollet_2017_lemma_7(drawn):
    matrix, a, b = drawn
    found = gw.round_plan(matrix, a, b).dense()
    missed = np.abs(matrix.sum(1) - a).sum() + np.abs(matrix.sum(0) - b).sum()
    assert found.min() >= 0
    assert checkers.coupling_error(found, a, b) <= 1e-13
    assert np.abs(found - matrix).sum() <= 2 * missed * (1 + 1e-12) + 1e-13


@given(masses(null=True))
def test_rounding_leaves_couplings_as_they_are(matrix):
    a, b = matrix.sum(1), matrix.sum(0)
    for form in FORMS.values():
        plan = form(matrix)
        assert gw.round_plan(plan, a / a.sum(), b / b.sum()) is plan


@pytest.mark.parametrize(("library", "form"), tried(["dense", "sparse"], ["dense"]))
def test_rounding_in_every_library(library, form):
    a, b = np.array([0.5, 0.25, 0.25]), np.array([0.375, 0.625])
    matrix = np.array([[0.25, 0.25], [0.0, 0.0], [0.125, 0.5]])
    with library.active():
        given_matrix, *sides = (library.array(values) for values in (matrix, a, b))
        plan = gw.round_plan(
            gw.DensePlan(given_matrix) if form == "sparse" else given_matrix, *sides
        )
        assert library.owns(plan.dense())
        assert checkers.coupling_error(to_numpy(plan.dense()), a, b) <= (
            1e-15 if library.dtype == "float64" else 1e-6
        )
        assert np.allclose(
            to_numpy(plan.dense()), gw.round_plan(matrix, a, b).dense(), atol=1e-6
        )


@pytest.mark.parametrize("largest", [1e308, 5e-324])
def test_rounding_of_masses_at_the_ends_of_the_range(largest):
    a, b = np.array([0.75, 0.25]), np.array([0.5, 0.125, 0.375])
    found = gw.round_plan(np.full((2, 3), largest), a, b)
    assert checkers.coupling_error(found.dense(), a, b) <= 1e-15


def test_rounding_of_half_precision_keeps_it():
    found = gw.round_plan(
        np.full((2, 2), 0.5, dtype=np.float16), np.full(2, 0.5, dtype=np.float16), None
    ).dense()
    assert found.dtype == np.float16
    assert found.tolist() == [[0.25, 0.25], [0.25, 0.25]]


@pytest.fixture(scope="module")
def stopped():
    """Two clouds, and a plan of POT's Sinkhorn iterations that misses the weights."""
    rng = np.random.default_rng(5)
    x, y = (
        gw.PointCloud(rng.standard_normal((n, 2)), rng.dirichlet(np.full(n, 5.0)))
        for n in (9, 7)
    )
    plan = ot.gromov.entropic_gromov_wasserstein(
        x.dense(), y.dense(), x.weights, y.weights, epsilon=0.5, max_iter=20
    )
    # One step short of the marginals.
    plan = plan * (1 + 1e-6 * rng.standard_normal(plan.shape))
    missed = checkers.coupling_error(plan, x.weights, y.weights)
    assert 1e-8 < missed < 1e-5
    return x, y, plan


def test_plans_of_other_libraries_start_a_solver(stopped):
    x, y, plan = stopped
    result = gw.solve(x, y, gw.ConditionalGradient(init=plan))
    assert (
        checkers.coupling_error(np.asarray(result.plan), x.weights, y.weights) <= 1e-12
    )
    assert float(result.objective) <= checkers.objective(x.dense(), y.dense(), plan) * (
        1 + 1e-5
    )


@pytest.mark.parametrize("effort", ["linear", "quadratic", "cubic"])
def test_certificates_charge_what_a_plan_misses(stopped, effort):
    """``upper`` is at least the objective of a coupling of the exact weights."""
    x, y, plan = stopped
    certificate = gw.certify(x, y, plan, effort)
    rounded = gw.round_plan(plan, x.weights, y.weights)
    cost = checkers.objective(x.dense(), y.dense(), np.asarray(rounded))
    assert certificate.lower <= cost <= certificate.upper
    assert certificate.upper >= checkers.objective(x.dense(), y.dense(), plan)
    assert gw.certify(x, y, rounded, effort).upper < certificate.upper
    assert certificate.kind is gw.Kind.BRACKET


@pytest.mark.parametrize("effort", ["linear", "quadratic", "cubic"])
@given(seed=st.integers(0, 2**32 - 1), size=st.floats(1e-9, 0.9e-3))
def test_certificates_of_plans_that_undercut_every_coupling(effort, seed, size):
    """Mass left out makes the objective smaller than that of any coupling."""
    rng = np.random.default_rng(seed)
    x, y = (
        gw.PointCloud(rng.standard_normal((4, 2))),
        gw.PointCloud(rng.standard_normal((5, 3))),
    )
    if seed % 2:
        x, y = gw.PointCloud(x.points, metric="sqeuclidean"), gw.GramSpace(y.points.T)
    best = gw.solve(x, y)
    plan = np.asarray(best.plan) * (1 - size)
    certificate = gw.certify(x, y, plan, effort)
    assert certificate.lower <= float(best.objective) <= certificate.upper


@pytest.mark.parametrize("entry", ["init", "certify"])
def test_plans_that_miss_more_than_a_thousandth_are_refused(entry):
    x, plan = (
        gw.DenseSpace(1 - np.eye(4)),
        np.diag([0.25, 0.25, 0.25, 0.25 - 0.0010004]),
    )
    with pytest.raises(
        ValueError, match=r"up to 0\.001 in total, but misses them by 0\.0010004: pass"
    ):
        gw.certify(x, x, plan) if entry == "certify" else gw.solve(
            x, x, gw.ConditionalGradient(init=plan)
        )


@given(
    small_programs(), st.sampled_from([0.0, 1e-9, 0.3, 3.0]), st.integers(0, 2**32 - 1)
)
def test_rounding_gives_a_coupling_that_is_near(program, size, seed):
    """The distance is at most twice the marginal error (lemma 7 of the paper)."""
    _, a, b = program
    noise = 1 + size * np.random.default_rng(seed).uniform(
        -0.9, 1, (len(a), len(b))
    ).clip(-1 / max(size, 1))
    matrix = np.maximum(np.outer(a, b) * noise, 0)
    found = rounded_plan(matrix, a, b).dense()
    assert checkers.coupling_error(found, a, b) <= 1e-15
    error = np.abs(matrix.sum(1) - a).sum() + np.abs(matrix.sum(0) - b).sum()
    assert np.abs(found - matrix).sum() <= 2 * error + 1e-14


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rounding_of_nothing_is_the_product(dtype):
    a, b = (
        np.array([0.25, 0.75], dtype=dtype),
        np.array([0.5, 0.125, 0.375], dtype=dtype),
    )
    assert np.array_equal(
        rounded_plan(np.zeros((2, 3), dtype=dtype), a, b).dense(), np.outer(a, b)
    )
