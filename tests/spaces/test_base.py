"""What every space can do: rows, means, moments, restrictions, copies and scales."""

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import assume, given
from hypothesis import strategies as st

import gwtools as gw
from tests import checkers
from tests.strategies import KINDS, spaces


def close(found, expected, scale=1.0):
    return np.abs(np.asarray(found) - expected).max() <= 1e-12 * max(1e-300, scale)


def largest(drawn, p=1):
    return np.abs(drawn.matrix).max() ** p


@given(spaces(null=True))
def test_dense_is_the_matrix(drawn):
    scale = 10 * max(1.0, largest(drawn)) * 1e-3
    assert close(drawn.space().dense(), drawn.matrix, scale)


@given(spaces(), st.data())
def test_rows_are_rows_of_the_matrix(drawn, data):
    start = data.draw(st.integers(0, drawn.size - 1))
    stop = data.draw(st.integers(start + 1, drawn.size))
    rows = drawn.space().rows(start, stop)
    assert close(rows, drawn.matrix[start:stop], largest(drawn))


@given(spaces(null=True))
def test_means(drawn):
    space = drawn.space()
    mean, alpha, _ = checkers.parts(drawn.matrix, drawn.weights)
    assert close(space.row_means, drawn.matrix @ drawn.weights, largest(drawn))
    assert close(space.mean, mean, largest(drawn))
    assert close(space.deviations, alpha, largest(drawn))


@given(spaces(null=True), st.sampled_from([1.0, 1.5, 2.0, 3.0]))
def test_power_means(drawn, p):
    expected = np.abs(drawn.matrix) ** p @ drawn.weights
    assert close(drawn.space().power_means(p), expected, 10 * largest(drawn, p))


@given(spaces())
def test_largest_bounds_every_entry(drawn):
    bound = drawn.space().largest()
    assert largest(drawn) <= bound * (1 + 1e-14)
    assert bound <= 4 * largest(drawn) + 1e-12 or drawn.kind == "gram"
    if drawn.kind == "dense":
        assert bound == largest(drawn)


@given(spaces(null=True), st.data())
def test_restrict(drawn, data):
    atoms = st.integers(0, drawn.size - 1)
    drawn_atoms = data.draw(st.sets(atoms, min_size=1))
    index = np.array(sorted(drawn_atoms))
    space = drawn.space()
    restricted = space.restrict(index)
    assert type(restricted) is type(space)
    weights = np.asarray(space.weights)
    assert np.array_equal(restricted.weights, weights[index])
    block = drawn.matrix[np.ix_(index, index)]
    assert close(restricted.dense(), block, largest(drawn))


@given(spaces(), st.sampled_from([4.0**-7, 1.0, 16.0, 4.0**30]))
def test_scaling_by_powers_of_four_is_exact(drawn, factor):
    space = drawn.space()
    scaled = space.scaled(factor)
    assert type(scaled) is type(space)
    assert np.array_equal(scaled.dense(), factor * np.asarray(space.dense()))
    assert scaled.weights is space.weights


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_agree_with_one_block(kind, monkeypatch, rng):
    data = rng.standard_normal((9, 2))
    space = space_of(kind, data)
    whole = numbers_by_rows(space)
    # Two rows of nine entries a block.
    monkeypatch.setattr("gwtools.spaces.base.BLOCK_ENTRIES", 20)
    again = space.restrict(np.arange(9))
    assert list(again.blocks()) == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 9)]
    parts = numbers_by_rows(again)
    for expected, found in zip(whole, parts, strict=True):
        scale = np.abs(expected).max()
        assert np.abs(expected - found).max() <= 1e-14 * scale


def space_of(kind, data):
    """A space of points (n, d), by their distances or their inner products."""
    if kind == "dense":
        return gw.DenseSpace(checkers.euclidean(data))
    if kind == "gram":
        return gw.GramSpace(data.T)
    return gw.PointCloud(data, metric=kind)


def numbers_by_rows(space):
    """What is computed from blocks of rows."""
    return [
        np.asarray(space.dense()),
        np.asarray(space.row_means),
        np.asarray(space.residual().dense()),
        np.asarray(space.power_means(1.0)),
    ]


@given(spaces(null=True))
def test_weights_off_by_rounding_are_normalised(drawn):
    """To 1, up to one rounding of each quotient and of each addition of two sums."""
    assume(drawn.size > 1)
    off = gw.DenseSpace(drawn.matrix, drawn.weights * (1 + 1e-9))
    assert abs(float(off.weights.sum()) - 1) <= drawn.size * 2.0**-52
    assert np.abs(off.weights - drawn.weights).max() <= 1e-15


def test_repr_names_kind_size_and_library():
    assert repr(gw.PointCloud(np.zeros((3, 2)))) == "PointCloud(size=3, numpy float64)"
    narrow = gw.DenseSpace(np.zeros((3, 3), dtype=np.float32))
    assert repr(narrow) == "DenseSpace(size=3, numpy float32)"
    assert repr(gw.GramSpace(np.zeros((2, 3)))) == "GramSpace(size=3, numpy float64)"


@pytest.mark.parametrize("name", ["weights", "distances"])
def test_spaces_are_frozen(name):
    with pytest.raises(AttributeError):
        setattr(gw.DenseSpace(np.zeros((2, 2))), name, np.zeros(2))


BYTES = {
    "dense": lambda data, a: gw.DenseSpace(data, a),
    "cloud": lambda data, a: gw.PointCloud(data, a),
    "gram": lambda data, a: gw.GramSpace(data, a),
    "raw": lambda data, a: data,
}


@pytest.mark.parametrize("kind", BYTES)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_arrays_of_the_other_byte_order_give_the_same_numbers_in_the_native_one(
    kind, dtype, rng
):
    a = np.array([0.5, 0.25, 0.125, 0.125])
    data = checkers.euclidean(rng.integers(0, 5, (4, 2)).astype(float)) ** 2
    values = (data, 2 * data, a, np.outer(a, a))
    here = in_order(values, dtype, "<")
    there = in_order(values, dtype, ">")
    make = BYTES[kind]
    pairs = []
    for C, D, weights, _ in (here, there):
        pairs.append((make(C, weights), make(D, weights)))
    for solver in (gw.ConditionalGradient(), gw.Sinkhorn(), gw.Sorted()):
        one = gw.solve(*pairs[0], solver)
        other = gw.solve(*pairs[1], solver)
        assert one.as_dict() == other.as_dict()
        assert np.asarray(other.plan).dtype.isnative
        assert np.array_equal(np.asarray(one.plan), np.asarray(other.plan))
        x, y = pairs[1]
        (batched,) = gw.solve_batch([x], [y], solver)
        assert np.asarray(batched.plan).dtype.isnative
        assert float(batched.objective) == pytest.approx(float(one.objective), rel=1e-5)
    mixed = gw.certify(pairs[0][0], pairs[1][1])
    assert mixed == gw.certify(*pairs[0])
    for bound in (
        gw.bounds.row_means,
        gw.bounds.first,
        gw.bounds.norm,
        gw.bounds.spectral,
        gw.bounds.second,
    ):
        found = bound(*pairs[1])
        assert found.dtype == np.dtype(dtype)
        assert float(found) == float(bound(*pairs[0]))
    if kind != "raw":
        plans = [gw.DensePlan(values[3]) for values in (here, there)]
        certificates = [gw.certify(*pairs[1], plan) for plan in (*plans, there[3])]
        assert certificates[0] == certificates[1] == certificates[2]
        started = gw.solve(*pairs[1], gw.ConditionalGradient(init=there[3]))
        assert started.status.success


def in_order(values, dtype, order):
    """Arrays of a dtype in an order of their bytes."""
    ordered = np.dtype(dtype).newbyteorder(order)
    return [value.astype(ordered) for value in values]


USED = {
    "dense": gw.DenseSpace(1 - np.eye(4)),
    "euclidean": gw.PointCloud(np.arange(8.0).reshape(4, 2)),
    "sqeuclidean": gw.PointCloud(np.arange(8.0).reshape(4, 2), metric="sqeuclidean"),
    "gram": gw.GramSpace(np.arange(8.0).reshape(2, 4)),
    "graph": gw.GraphSpace(
        sp.diags_array([np.ones(3), np.ones(3)], offsets=[-1, 1]).tocsr()
    ),
}


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))],
)
@pytest.mark.parametrize("name", USED)
def test_spaces_and_problems_that_were_used_are_copied_and_pickled(name, copied):
    """As processes send them to one another.

    Forms of low rank are kept beside the fields, and hold functions, which cannot be.
    """
    x, y = USED[name], USED["euclidean"]
    wanted = gw.solve(x, y).objective
    problem = gw.GWProblem(x, y)
    plan = gw.DensePlan(np.outer(x.weights, y.weights))
    value = problem.objective(plan)
    assert gw.solve(copied(x), y).objective == wanted
    assert copied(problem).objective(plan) == value
