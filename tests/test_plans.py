"""Plans: a sparse and a dense coupling of the same masses say the same."""

import itertools
import re

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from gwtools import _array
from gwtools.plans import as_plan, listed_sums, mixture
from gwtools.preparation import embed
from tests import checkers
from tests.libraries import LIBRARIES
from tests.strategies import couplings, weights


@st.composite
def masses(draw, null=False):
    a, b = (draw(weights(draw(st.integers(1, 7)), null)) for _ in range(2))
    return draw(couplings(a, b))


def sparse(matrix, repeat=False):
    """The sparse plan of a matrix; ``repeat`` lists atoms twice at half their mass."""
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


@pytest.mark.parametrize("form", FORMS)
@given(masses(null=True))
def test_the_plan_from_y_to_x_is_of_the_same_kind(form, matrix):
    plan = FORMS[form](matrix)
    back = plan.transpose()
    assert type(back) is type(plan)
    assert back.shape == matrix.shape[::-1]
    assert np.array_equal(np.asarray(back), np.asarray(plan).T)
    assert np.array_equal(np.asarray(back.transpose()), np.asarray(plan))
    for ours, theirs in zip(back.marginals(), plan.marginals()[::-1], strict=True):
        assert np.abs(ours - theirs).max() <= 1e-15


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
            assert np.array_equal(np.asarray(plan.transpose()), matrix.T)


@pytest.mark.parametrize(
    ("library", "dtype"),
    [
        *itertools.product(LIBRARIES, ["uint8", "int16"]),
        # PyTorch and JAX have next to no functions of this one.
        *((library, "uint64") for library in (LIBRARIES[0], LIBRARIES[-1])),
    ],
    ids=str,
)
def test_positions_may_be_of_any_integers(library, dtype):
    """Libraries take entries by few kinds of integers."""
    with library.active():
        mass = library.array([0.25, 0.25, 0.5])
        xp = _array.namespace(mass)
        rows, cols = (
            xp.astype(library.array(index), getattr(xp, dtype))
            for index in ([0, 1, 1], [0, 0, 1])
        )
        plan = gw.SparsePlan(rows, cols, mass, (2, 2))
        matrix = np.array([[0.25, 0.0], [0.25, 0.5]])
        values = library.array([[1.0], [2.0]])
        for found, wanted in (
            (plan.dense(), matrix),
            (plan.marginals()[0], matrix.sum(1)),
            (plan.apply(values), matrix @ [[1.0], [2.0]]),
            (plan.inner(library.array(matrix)), np.sum(matrix**2)),
            (plan.transpose().marginals()[0], matrix.sum(0)),
        ):
            assert np.allclose(_array.to_numpy(found), wanted, rtol=1e-6)


@pytest.mark.parametrize("kind", [scipy.sparse.csr_array, scipy.sparse.coo_matrix])
def test_sparse_matrices_become_plans_as_the_error_says(kind):
    x, y = 1 - np.eye(2), 1 - np.eye(3)
    plan = kind(np.array([[1 / 3, 1 / 6, 0.0], [0.0, 1 / 6, 1 / 3]]))
    with pytest.raises(TypeError) as error:
        gw.certify(x, y, plan)
    code = re.search(r"pass gwtools\.(SparsePlan\(.*\)) of c = plan", str(error.value))
    read = eval(code[1], {"SparsePlan": gw.SparsePlan, "c": plan.tocoo()})
    assert np.array_equal(np.asarray(read), plan.toarray())
    assert gw.certify(x, y, read) == gw.certify(x, y, plan.toarray())


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


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.int64])
def test_positions_do_not_overflow(dtype):
    # 100 * 100 + 90 fits into no integer of 8 bits.
    rows = np.array([0, 100], dtype)
    cols = np.array([1, 90], dtype)
    plan = gw.SparsePlan(rows, cols, np.array([0.25, 0.75]), (101, 100))
    wanted = np.zeros((101, 100))
    wanted[0, 1] = 0.25
    wanted[100, 90] = 0.75
    np.testing.assert_array_equal(plan.dense(), wanted)
    matrix = np.arange(101 * 100.0).reshape(101, 100)
    assert plan.inner(matrix) == 0.25 * matrix[0, 1] + 0.75 * matrix[100, 90]
    np.testing.assert_array_equal(np.asarray(plan.sparse().todense()), wanted)


@pytest.mark.parametrize(("n", "m"), [(3, 5), (60, 71), (70, 70)])
def test_products_with_one_atom_a_row_are_those_of_the_matrix(n, m, rng):
    """In any order of the atoms; and no less where a row has none and another two."""
    values = rng.standard_normal((m, 4))
    cols, mass = rng.integers(0, m, n), rng.random(n)
    doubled = np.arange(n)
    doubled[-1] = 0
    for rows in (rng.permutation(n), doubled):
        plan = gw.SparsePlan(rows, cols, mass, (n, m))
        matrix = np.zeros((n, m))
        np.add.at(matrix, (rows, cols), mass)
        assert np.abs(plan.apply(values) - matrix @ values).max() <= 1e-14


@pytest.mark.parametrize("dtype", [np.int8, np.int64])
@given(masses(), st.integers(0, 999))
def test_masses_of_one_position_are_added(dtype, matrix, seed):
    rows, cols = (index.astype(dtype) for index in np.nonzero(matrix))
    order = np.random.default_rng(seed).permutation(2 * len(rows))
    rows, cols = np.tile(rows, 2)[order], np.tile(cols, 2)[order]
    plan = listed_sums(rows, cols, matrix[rows, cols] / 2, matrix.shape)
    assert np.array_equal(plan.dense(), matrix)
    assert np.array_equal(np.stack([plan.rows, plan.cols]), np.nonzero(matrix))
