"""Spaces given by their matrix, and raw arrays read as such."""

import numpy as np
from hypothesis import given

import gwtools as gw
from tests.strategies import spaces


@given(spaces(kinds=("dense",)))
def test_a_matrix_has_no_known_sign(drawn):
    assert drawn.space().sign == 0


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
    drawn.data.setflags(write=False)
    drawn.weights.setflags(write=False)
    x = drawn.space()
    y = drawn.space()
    result = gw.solve(x, y, gw.Sorted())
    assert np.isfinite(result.objective)


@given(spaces(kinds=("dense",)))
def test_asymmetry_of_rounding_size_is_accepted(drawn):
    noisy = drawn.matrix.copy()
    noisy[0, -1] *= 1 + 4e-16
    assert gw.DenseSpace(noisy).size == drawn.size


def test_a_file_that_is_mapped_into_memory_is_an_array(tmp_path):
    values = 1 - np.eye(3)
    np.save(tmp_path / "x.npy", values)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    found = gw.solve(mapped, mapped)
    expected = gw.solve(values, values)
    assert found.as_dict() == expected.as_dict()
