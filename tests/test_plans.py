"""Plans: a sparse and a dense coupling of the same masses say the same."""

import numpy as np
import ot
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from gwtools import _array
from gwtools.plans import as_plan, embed, mixture, rounded_plan
from tests import checkers
from tests.libraries import LIBRARIES, to_numpy, tried
from tests.strategies import couplings, weights
from tests.transport.test_programs import small_programs


@st.composite
def masses(draw, null=False):
    a, b = (draw(weights(draw(st.integers(1, 7)), null)) for _ in range(2))
    return draw(couplings(a, b))


def sparse(matrix, repeat=False):
    """The sparse plan of a matrix; with ``repeat``, every atom is listed twice at half its mass."""
    rows, cols = np.nonzero(matrix)
    mass = matrix[rows, cols]
    if repeat:
        rows, cols, mass = np.tile(rows, 2), np.tile(cols, 2), np.tile(mass / 2, 2)
    return gw.SparsePlan(rows, cols, mass, matrix.shape)


FORMS = {
    "dense": gw.DensePlan,
    "sparse": sparse,
    "repeated": lambda matrix: sparse(matrix, repeat=True),
}


@pytest.mark.parametrize("form", FORMS)
@given(masses(null=True), st.integers(0, 2**32 - 1))
def test_every_form_says_the_same(form, matrix, seed):
    plan, rng = FORMS[form](matrix), np.random.default_rng(seed)
    n, m = matrix.shape
    cost, values = rng.standard_normal((n, m)), rng.standard_normal((m, 3))
    assert plan.shape == (n, m)
    assert np.abs(plan.dense() - matrix).max() <= 1e-16
    assert np.abs(plan.sparse().toarray() - matrix).max() <= 1e-16
    assert plan.sparse().nnz == np.count_nonzero(matrix)
    assert checkers.coupling_error(matrix, *plan.marginals()) <= 1e-15
    assert float(plan.inner(cost)) == pytest.approx(
        float((matrix * cost).sum()), abs=1e-14
    )
    assert np.abs(plan.apply(values) - matrix @ values).max() <= 1e-14
    assert plan.masses.sum() == pytest.approx(1, abs=1e-14)
    assert np.array_equal(np.asarray(plan), plan.dense())


@pytest.mark.parametrize("first", FORMS)
@pytest.mark.parametrize("second", FORMS)
@given(st.data(), st.floats(0, 1))
def test_a_mixture_is_the_convex_combination(first, second, data, step):
    a, b = (data.draw(weights(data.draw(st.integers(1, 6)))) for _ in range(2))
    matrices = [data.draw(couplings(a, b)) for _ in range(2)]
    mixed = mixture(
        (FORMS[first](matrices[0]), FORMS[second](matrices[1])), (1.0 - step, step)
    )
    expected = (1 - step) * matrices[0] + step * matrices[1]
    assert np.abs(mixed.dense() - expected).max() <= 1e-15
    assert isinstance(mixed, gw.DensePlan) == ("dense" in (first, second))


@pytest.mark.parametrize("form", FORMS)
@given(masses(), st.data())
def test_embed_places_masses_and_zeros(form, matrix, data):
    n, m = (size + data.draw(st.integers(0, 3)) for size in matrix.shape)
    rows, cols = (
        np.array(
            sorted(
                data.draw(
                    st.sets(st.integers(0, total - 1), min_size=size, max_size=size)
                )
            )
        )
        for total, size in zip((n, m), matrix.shape, strict=True)
    )
    found = embed(FORMS[form](matrix), rows, cols, (n, m))
    expected = np.zeros((n, m))
    expected[np.ix_(rows, cols)] = matrix
    assert found.shape == (n, m)
    assert np.abs(found.dense() - expected).max() <= 1e-16


@given(masses())
def test_as_plan(matrix):
    plan = gw.DensePlan(matrix)
    assert as_plan(plan, matrix.shape) is plan
    assert as_plan(matrix, matrix.shape).matrix is matrix


@pytest.mark.parametrize("library", LIBRARIES, ids=str)
def test_plans_are_read_as_numpy_arrays(library):
    with library.active():
        matrix = np.array([[0.25, 0.0], [0.25, 0.5]])
        rows, cols = (library.array(index) for index in np.nonzero(matrix))
        rows, cols = (index > 0 for index in (rows, cols))
        xp = _array.namespace(rows)
        rows, cols = (
            xp.astype(index, xp.int64 if library.dtype == "float64" else xp.int32)
            for index in (rows, cols)
        )
        sparse = gw.SparsePlan(rows, cols, library.array(matrix[matrix > 0]), (2, 2))
        for plan in (gw.DensePlan(library.array(matrix)), sparse):
            found = np.asarray(plan)
            assert type(found) is np.ndarray
            assert str(found.dtype) == library.dtype
            assert np.array_equal(found, matrix)
            assert np.asarray(plan, dtype=np.float16).dtype == np.float16


def test_plans_in_a_gradient_graph_are_read_as_numpy_arrays():
    torch = pytest.importorskip("torch")
    matrix = torch.full((2, 3), 1 / 6, dtype=torch.float64, requires_grad=True)
    assert np.array_equal(np.asarray(gw.DensePlan(matrix)), np.full((2, 3), 1 / 6))
    half = gw.DensePlan(torch.full((2, 3), 1 / 6, dtype=torch.bfloat16))
    assert np.asarray(half).dtype == np.float32


def test_a_copy_is_made_where_it_is_asked_for():
    matrix = np.full((2, 2), 1 / 4)
    assert np.shares_memory(np.asarray(gw.DensePlan(matrix)), matrix)
    assert np.array(gw.DensePlan(matrix), copy=False) is matrix
    assert not np.shares_memory(np.array(gw.DensePlan(matrix)), matrix)


@st.composite
def off_marginals(draw):
    """Weights, zeros among them, and masses: a coupling changed by any factors, or none, with empty rows and columns."""
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
    """Two clouds of unequal weights, and a plan of POT's Sinkhorn iterations that misses the weights."""
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
    """The interval holds GW_2² of the exact weights, whose couplings near the plan cost at most ``upper``."""
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
    """Mass left out makes an objective smaller than that of any coupling: the interval must not follow it."""
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
    """Altschuler, Weed and Rigollet 2017, lemma 7: the distance is at most twice the marginal error."""
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
