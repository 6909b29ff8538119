"""Plans of certificates: restricted, listed and widened without a change of a mass."""

import tracemalloc

import numpy as np
import pytest

import gwtools as gw
from gwtools import _array
from gwtools.certify.plans import restricted
from gwtools.preparation import prepare
from tests import checkers


def space_over(weights, rng):
    points = rng.standard_normal((len(weights), 2))
    return gw.DenseSpace(checkers.euclidean(points), np.array(weights))


def uniform(n, rng):
    return space_over(np.full(n, 1 / n), rng)


def test_lists_lose_masses_that_are_zero_and_those_of_null_atoms(rng):
    x = space_over([0.25, 0.0, 0.5, 0.25], rng)
    y = space_over([0.0, 0.5, 0.125, 0.375, 0.0], rng)
    ready = prepare(x, y)
    rows = np.array([0, 1, 2, 2, 3, 3, 3])
    cols = np.array([1, 2, 2, 0, 3, 4, 1])
    mass = np.array([0.25, 0.1, 0.125, 0.2, 0.375, 0.3, 0.0])
    whole = gw.SparsePlan(rows, cols, mass, (4, 5))
    plan = restricted(whole, ready)
    assert plan.rows.tolist() == [0, 1, 2]
    assert plan.cols.tolist() == [0, 1, 2]
    assert plan.mass.tolist() == [0.25, 0.125, 0.375]
    assert plan.shape == (3, 3)
    # A matrix says the same.
    again = restricted(gw.DensePlan(whole.dense()), ready)
    assert isinstance(again, gw.SparsePlan)
    assert np.array_equal(again.dense(), plan.dense())


def test_lists_that_need_nothing_are_kept(rng):
    ready = prepare(uniform(3, rng), uniform(3, rng))
    index = np.arange(3)
    mass = np.full(3, 1 / 3)
    plan = gw.SparsePlan(index, index, mass, (3, 3))
    assert restricted(plan, ready) is plan
    with_zero = gw.SparsePlan(
        np.append(index, 0),
        np.append(index, 1),
        np.append(mass, 0.0),
        (3, 3),
    )
    assert restricted(with_zero, ready).mass.shape == (3,)


@pytest.mark.parametrize(("count", "listed"), [(6, True), (7, False), (12, False)])
def test_matrices_of_few_atoms_are_listed(rng, count, listed):
    """Up to n + m − 1 masses, as vertices have."""
    ready = prepare(uniform(3, rng), uniform(4, rng))
    masses = np.zeros(12)
    masses[np.linspace(0, 11, count).astype(int)] = rng.uniform(0.1, 1, count)
    matrix = masses.reshape(3, 4)
    plan = gw.DensePlan(matrix)
    found = restricted(plan, ready)
    assert isinstance(found, gw.SparsePlan) == listed
    assert found is plan or listed
    assert np.array_equal(found.dense(), matrix)
    assert found.shape == (3, 4)
    assert found.masses.size == (count if listed else 12)


@pytest.mark.parametrize("swapped", [False, True])
def test_lists_follow_the_atoms_of_either_space(swapped):
    """Where one space alone has an atom without weight, and no mass lies on it."""
    x = gw.DenseSpace(np.ones((2, 2)))
    y = gw.DenseSpace(np.ones((3, 3)), np.array([0.0, 0.5, 0.5]))
    rows = np.arange(2)
    cols = np.arange(1, 3)
    mass = np.full(2, 0.5)
    if swapped:
        plan = gw.SparsePlan(cols, rows, mass, (3, 2))
        found = restricted(plan, prepare(y, x))
    else:
        plan = gw.SparsePlan(rows, cols, mass, (2, 3))
        found = restricted(plan, prepare(x, y))
    assert found.shape == (2, 2)
    assert found.rows.tolist() == [0, 1]
    assert found.cols.tolist() == [0, 1]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_plans_may_miss_a_thousandth_or_the_root_of_their_rounding(dtype):
    limit = max(1e-3, np.finfo(dtype).eps ** 0.5)
    space = gw.DenseSpace(np.zeros((4, 4), dtype))
    less = np.full((4, 4), 1 / 16, dtype)
    less[0] += np.asarray(0.9 * limit / 4, dtype)
    gw.certify(space, space, less)
    more = np.full((4, 4), 1 / 16, dtype)
    more[0] += np.asarray(1.1 * limit / 4, dtype)
    message = "plan must have the weights of x as its marginal"
    with pytest.raises(ValueError, match=message):
        gw.certify(space, space, more)


def test_sparse_plans_between_low_rank_spaces_take_no_matrix(rng):
    """Not even of their masses: 30,000 atoms would be seven gigabytes."""
    n = 30_000
    x = gw.PointCloud(rng.standard_normal((n, 2)), metric="sqeuclidean")
    y = gw.PointCloud(rng.standard_normal((n, 2)), metric="sqeuclidean")
    plan = gw.SparsePlan(np.arange(n), rng.permutation(n), np.full(n, 1 / n), (n, n))
    tracemalloc.start()
    found = gw.certify(x, y, plan)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60 * 8 * n
    assert found.lower < found.upper


def test_lists_of_any_library_are_widened_as_they_are(library, rng):
    """Places stay integers, and follow the masses to NumPy.

    They follow where the library has no float64.
    """
    points = rng.standard_normal((4, 2)).astype(library.dtype)
    order = np.array([2, 0, 3, 1])
    mass = np.full(4, 0.25)
    like = library.array(mass)

    def narrow(values):
        return np.asarray(values, library.dtype)

    def placed(index):
        return _array.from_numpy(index, like)

    def certified_in(make, places):
        plan = gw.SparsePlan(places(order), places(np.arange(4)), make(mass), (4, 4))
        x = gw.PointCloud(make(points))
        y = gw.PointCloud(make(1.5 * points))
        return gw.certify(x, y, plan)

    expected = certified_in(narrow, np.asarray)
    found = certified_in(library.array, placed)
    assert found.lower == pytest.approx(expected.lower, rel=1e-13)
    assert found.upper == pytest.approx(expected.upper, rel=1e-13)
    assert found.a_priori == pytest.approx(expected.a_priori, rel=1e-13)
