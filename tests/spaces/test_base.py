"""What every space can do, whichever way C is stored: rows, means, moments, parts, copies and scales."""

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
    assert close(
        drawn.space().dense(), drawn.matrix, 10 * max(1.0, largest(drawn)) * 1e-3
    )


@given(spaces(), st.data())
def test_rows_are_rows_of_the_matrix(drawn, data):
    start = data.draw(st.integers(0, drawn.size - 1))
    stop = data.draw(st.integers(start + 1, drawn.size))
    assert close(
        drawn.space().rows(start, stop), drawn.matrix[start:stop], largest(drawn)
    )


@given(spaces(null=True))
def test_means(drawn):
    space, (mean, alpha, _) = drawn.space(), checkers.parts(drawn.matrix, drawn.weights)
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
    index = np.array(
        sorted(data.draw(st.sets(st.integers(0, drawn.size - 1), min_size=1)))
    )
    space = drawn.space()
    restricted = space.restrict(index)
    assert type(restricted) is type(space)
    assert np.array_equal(restricted.weights, np.asarray(space.weights)[index])
    assert close(restricted.dense(), drawn.matrix[np.ix_(index, index)], largest(drawn))


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
    space = {
        "dense": lambda: gw.DenseSpace(checkers.euclidean(data)),
        "gram": lambda: gw.GramSpace(data.T),
    }.get(kind, lambda: gw.PointCloud(data, metric=kind))()
    whole = [
        np.asarray(v)
        for v in (
            space.dense(),
            space.row_means,
            space.residual().dense(),
            space.power_means(1.0),
        )
    ]
    monkeypatch.setattr("gwtools.spaces.base.BLOCK_ENTRIES", 20)
    again = space.restrict(np.arange(9))
    assert list(again.blocks()) == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 9)]
    parts = [
        again.dense(),
        again.row_means,
        again.residual().dense(),
        again.power_means(1.0),
    ]
    for expected, found in zip(whole, parts, strict=True):
        assert np.abs(expected - found).max() <= 1e-14 * np.abs(expected).max()


@given(spaces(null=True))
def test_weights_off_by_rounding_are_normalised(drawn):
    """To 1, up to one rounding of each quotient and one of each of the two sums' additions."""
    assume(drawn.size > 1)
    off = gw.DenseSpace(drawn.matrix, drawn.weights * (1 + 1e-9))
    assert abs(float(off.weights.sum()) - 1) <= drawn.size * 2.0**-52
    assert np.abs(off.weights - drawn.weights).max() <= 1e-15


def test_repr_names_kind_size_and_library():
    assert repr(gw.PointCloud(np.zeros((3, 2)))) == "PointCloud(size=3, numpy float64)"
    assert (
        repr(gw.DenseSpace(np.zeros((3, 3), dtype=np.float32)))
        == "DenseSpace(size=3, numpy float32)"
    )
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
    here, there = (
        tuple(
            value.astype(np.dtype(dtype).newbyteorder(order))
            for value in (data, 2 * data, a, np.outer(a, a))
        )
        for order in "<>"
    )
    pairs = [
        (BYTES[kind](values[0], values[2]), BYTES[kind](values[1], values[2]))
        for values in (here, there)
    ]
    for solver in (gw.ConditionalGradient(), gw.Sinkhorn(), gw.Sorted()):
        one, other = (gw.solve(*pair, solver) for pair in pairs)
        assert one.as_dict() == other.as_dict()
        assert np.asarray(other.plan).dtype.isnative
        assert np.array_equal(np.asarray(one.plan), np.asarray(other.plan))
        (batched,) = gw.solve_batch(*([space] for space in pairs[1]), solver)
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
        assert gw.solve(*pairs[1], gw.ConditionalGradient(init=there[3])).status.success


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
    """As processes send them to one another: forms of low rank are kept beside the fields, and are functions."""
    x, y = USED[name], USED["euclidean"]
    wanted = gw.solve(x, y).objective
    problem = gw.GWProblem(x, y)
    plan = gw.DensePlan(np.outer(x.weights, y.weights))
    value = problem.objective(plan)
    assert gw.solve(copied(x), y).objective == wanted
    assert copied(problem).objective(plan) == value
