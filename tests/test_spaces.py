"""Spaces: rows, means, moments and residuals, whichever way C is stored."""

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
    assert close(drawn.space().dense(), drawn.matrix, 10 * max(1.0, largest(drawn)) * 1e-3)


@given(spaces(), st.data())
def test_rows_are_rows_of_the_matrix(drawn, data):
    start = data.draw(st.integers(0, drawn.size - 1))
    stop = data.draw(st.integers(start + 1, drawn.size))
    assert close(drawn.space().rows(start, stop), drawn.matrix[start:stop], largest(drawn))


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


@given(spaces(null=True))
def test_residual(drawn):
    space, (_, _, R) = drawn.space(), checkers.parts(drawn.matrix, drawn.weights)
    residual, size = space.residual(), checkers.norm(R, drawn.weights) ** 2
    assert close(residual.dense(), R, 10 * largest(drawn))
    assert close(space.residual_rows(0, drawn.size), R, 10 * largest(drawn))
    assert close(residual.dense() @ drawn.weights, 0, 10 * largest(drawn))
    values = np.random.default_rng(0).standard_normal((drawn.size, 3))
    assert close(residual.apply(values), R @ values, 100 * largest(drawn))
    for found in (residual.norm_squared(), space.residual_norm_squared()):
        assert close(found, size, 10 * largest(drawn, 2))
    second_moment = drawn.weights @ (drawn.matrix**2 @ drawn.weights)
    assert close(space.second_moment(), second_moment, 10 * largest(drawn, 2))


@given(spaces(null=True))
def test_spectrum(drawn):
    found = np.asarray(drawn.space().residual().spectrum())
    assert np.all(np.diff(found) >= 0)
    padded = np.sort(np.concatenate([found, np.zeros(max(0, drawn.size - len(found)))]))
    expected = checkers.spectrum(drawn.matrix, drawn.weights)
    expected = np.sort(np.concatenate([expected, np.zeros(len(padded) - len(expected))]))
    assert close(padded, expected, 10 * largest(drawn))


@given(spaces(kinds=KINDS[1:], null=True))
def test_sign_is_that_of_the_spectrum(drawn):
    space = drawn.space()
    assert space.sign == (1 if drawn.kind == "gram" else -1) == space.residual().sign
    assert (space.sign * checkers.spectrum(drawn.matrix, drawn.weights)).min() >= -1e-12 * largest(drawn)


@given(spaces(kinds=("dense",)))
def test_a_matrix_has_no_known_sign(drawn):
    assert drawn.space().sign == 0


@given(spaces())
def test_largest_bounds_every_entry(drawn):
    bound = drawn.space().largest()
    assert largest(drawn) <= bound * (1 + 1e-14)
    assert bound <= 4 * largest(drawn) + 1e-12 or drawn.kind == "gram"
    if drawn.kind == "dense":
        assert bound == largest(drawn)


@given(spaces(null=True), st.data())
def test_restrict(drawn, data):
    index = np.array(sorted(data.draw(st.sets(st.integers(0, drawn.size - 1), min_size=1))))
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
    whole = [np.asarray(v) for v in (space.dense(), space.row_means, space.residual().dense(), space.power_means(1.0))]
    monkeypatch.setattr("gwtools.spaces.base.BLOCK_ENTRIES", 20)
    again = space.restrict(np.arange(9))
    assert list(again.blocks()) == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 9)]
    parts = [again.dense(), again.row_means, again.residual().dense(), again.power_means(1.0)]
    for expected, found in zip(whole, parts, strict=True):
        assert np.abs(expected - found).max() <= 1e-14 * np.abs(expected).max()


@given(spaces(kinds=("euclidean", "sqeuclidean")), st.sampled_from([1e3, 1e6]))
def test_clouds_far_from_the_origin_keep_their_digits(drawn, far):
    """Centring loses nothing but what adding the offset itself has rounded away."""
    points = np.round(drawn.data * 2**10) / 2**10 + far * 2.0
    moved = gw.PointCloud(points, drawn.weights, metric=drawn.kind)
    home = gw.PointCloud(points - far * 2.0, drawn.weights, metric=drawn.kind)
    scale = max(1.0, largest(drawn))
    for name in ("row_means", "deviations", "mean"):
        assert np.abs(getattr(moved, name) - getattr(home, name)).max() <= 1e-12 * scale
    assert abs(float(moved.residual_norm_squared() - home.residual_norm_squared())) <= 1e-12 * scale**2


@given(spaces(kinds=("dense",)))
def test_as_space_passes_spaces_and_wraps_arrays(drawn):
    space = drawn.space()
    assert gw.as_space(space) is space
    wrapped = gw.as_space(drawn.matrix)
    assert isinstance(wrapped, gw.DenseSpace)
    assert wrapped.distances is drawn.matrix
    assert np.array_equal(wrapped.weights, np.full(drawn.size, 1 / drawn.size))


@given(spaces())
def test_read_only_arrays_are_accepted_and_nothing_is_written(drawn):
    for array in (drawn.data, drawn.weights):
        array.setflags(write=False)
    result = gw.solve(drawn.space(), drawn.space(), gw.Sorted())
    assert np.isfinite(result.objective)


@given(spaces(null=True))
def test_weights_off_by_rounding_are_normalised(drawn):
    """To 1, up to one rounding of each quotient and one of each of the two sums' additions."""
    assume(drawn.size > 1)
    off = gw.DenseSpace(drawn.matrix, drawn.weights * (1 + 1e-9))
    assert abs(float(off.weights.sum()) - 1) <= drawn.size * 2.0**-52
    assert np.abs(off.weights - drawn.weights).max() <= 1e-15


@given(spaces(kinds=("dense",)))
def test_asymmetry_of_rounding_size_is_accepted(drawn):
    noisy = drawn.matrix.copy()
    noisy[0, -1] *= 1 + 4e-16
    assert gw.DenseSpace(noisy).size == drawn.size


def test_repr_names_kind_size_and_library():
    assert repr(gw.PointCloud(np.zeros((3, 2)))) == "PointCloud(size=3, numpy float64)"
    assert repr(gw.DenseSpace(np.zeros((3, 3), dtype=np.float32))) == "DenseSpace(size=3, numpy float32)"
    assert repr(gw.GramSpace(np.zeros((2, 3)))) == "GramSpace(size=3, numpy float64)"


@pytest.mark.parametrize("name", ["weights", "distances"])
def test_spaces_are_frozen(name):
    with pytest.raises(AttributeError):
        setattr(gw.DenseSpace(np.zeros((2, 2))), name, np.zeros(2))


def test_a_factor_that_looks_transposed_warns():
    features = np.arange(15.0).reshape(5, 3)
    with pytest.warns(UserWarning, match=r"5 rows and 3 columns, and each column is an atom: pass factor.T") as warned:
        gw.GramSpace(features)
    assert [entry.filename for entry in warned] == [__file__]
    with pytest.raises(ValueError, match=r"for each of the 3 columns of factor, .* 5 rows: pass factor.T"):
        gw.GramSpace(features, np.full(5, 1 / 5))


@pytest.mark.parametrize("shape", [(3, 5), (3, 3), (1, 1), (1, 2)])
def test_no_other_factor_warns(shape):
    assert gw.GramSpace(np.ones(shape)).size == shape[1]


def test_weights_say_that_columns_are_atoms(rng):
    tall = rng.standard_normal((5, 3))
    stated = gw.GramSpace(tall, np.full(3, 1 / 3))
    with pytest.warns(UserWarning, match="each column is an atom"):
        plain = gw.GramSpace(tall)
    assert np.array_equal(stated.weights, plain.weights)
    # Spaces that are made of others have no doubt about it.
    assert stated.restrict(np.array([0, 1])).size == 2
    assert float(gw.solve(stated, stated.scaled(4.0)).objective) > 0


BYTES = {
    "dense": lambda data, a: gw.DenseSpace(data, a),
    "cloud": lambda data, a: gw.PointCloud(data, a),
    "gram": lambda data, a: gw.GramSpace(data, a),
    "raw": lambda data, a: data,
}


@pytest.mark.parametrize("kind", BYTES)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_arrays_of_the_other_byte_order_give_the_same_numbers_in_the_native_one(kind, dtype, rng):
    a = np.array([0.5, 0.25, 0.125, 0.125])
    data = checkers.euclidean(rng.integers(0, 5, (4, 2)).astype(float)) ** 2
    here, there = (
        tuple(value.astype(np.dtype(dtype).newbyteorder(order)) for value in (data, 2 * data, a, np.outer(a, a)))
        for order in "<>"
    )
    pairs = [(BYTES[kind](values[0], values[2]), BYTES[kind](values[1], values[2])) for values in (here, there)]
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
    for bound in (gw.bounds.row_means, gw.bounds.first, gw.bounds.norm, gw.bounds.spectral, gw.bounds.second):
        found = bound(*pairs[1])
        assert found.dtype == np.dtype(dtype)
        assert float(found) == float(bound(*pairs[0]))
    if kind != "raw":
        plans = [gw.DensePlan(values[3]) for values in (here, there)]
        certificates = [gw.certify(*pairs[1], plan) for plan in (*plans, there[3])]
        assert certificates[0] == certificates[1] == certificates[2]
        assert gw.solve(*pairs[1], gw.ConditionalGradient(init=there[3])).status.success


def test_a_file_that_is_mapped_into_memory_is_an_array(tmp_path):
    values = 1 - np.eye(3)
    np.save(tmp_path / "x.npy", values)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert gw.solve(mapped, mapped).as_dict() == gw.solve(values, values).as_dict()


USED = {
    "dense": gw.DenseSpace(1 - np.eye(4)),
    "euclidean": gw.PointCloud(np.arange(8.0).reshape(4, 2)),
    "sqeuclidean": gw.PointCloud(np.arange(8.0).reshape(4, 2), metric="sqeuclidean"),
    "gram": gw.GramSpace(np.arange(8.0).reshape(2, 4)),
    "graph": gw.GraphSpace(sp.diags_array([np.ones(3), np.ones(3)], offsets=[-1, 1]).tocsr()),
}


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
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
