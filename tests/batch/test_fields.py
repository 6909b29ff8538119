"""Quantities of many spaces: each pair has its own, padded with zeros, in any order."""

import numpy as np
import pytest

import gwtools as gw
from gwtools.batch import gather
from gwtools.batch.fields import Fields, read_fields
from tests.libraries import EAGER, to_numpy

SIZES = (3, 5, 3, 1, 5, 3)


def values_of(space):
    """A number and two lists of each space, of which one has another width."""
    return float(space.size), space.weights, np.arange(2.0 * space.size)


def read(stack):
    xp = stack.weights.__array_namespace__()
    weights, (count, size) = stack.weights, stack.weights.shape
    numbers = xp.full_like(weights[:, 0], float(size))
    twice = xp.stack([xp.arange(2.0 * size, dtype=weights.dtype)] * count)
    return numbers, weights, twice


def drawn(sizes, seed):
    rng = np.random.default_rng(seed)
    return [gw.DenseSpace(1 - np.eye(n), rng.dirichlet(np.ones(n))) for n in sizes]


def test_pairs_have_the_quantities_of_their_spaces_in_any_order():
    pairs = gather.pairs(drawn(SIZES, 0), drawn(SIZES[::-1], 1))
    fields = read_fields(pairs, read)
    for positions in ([0, 1, 2, 3, 4, 5], [3, 0], [4, 4, 2]):
        sides = fields.at(np.array(positions))
        for found, spaces in zip(sides, pairs[:2], strict=True):
            numbers, *lists = found
            expected = [values_of(spaces[i]) for i in positions]
            assert numbers.tolist() == [of_space[0] for of_space in expected]
            for place, rows in enumerate(lists, start=1):
                wanted = [of_space[place] for of_space in expected]
                assert rows.shape == (len(positions), max(map(len, wanted)))
                for row, values in zip(rows, wanted, strict=True):
                    assert row[: len(values)].tolist() == values.tolist()
                    assert not row[len(values) :].any()


def test_quantities_that_are_added_come_last():
    fields = Fields([[1, 2], [0, 3]], [(np.array([1.0, 2.0]),), (np.zeros(2),)])
    fields.add([np.array([[1.0, 1.5], [2.0, 2.5]]), np.array([[0.0], [3.0]])])
    left, right = fields.at(np.array([1, 0]))
    assert [values.tolist() for values in left] == [[1.0, 0.0], [[1.0, 1.5], [0, 0]]]
    assert [values.tolist() for values in right] == [[0.0, 2.0], [[3.0, 0], [2.0, 2.5]]]


@pytest.mark.parametrize("library", EAGER, ids=str)
def test_quantities_stay_in_their_library(library):
    spaces = [gw.as_space(library.array(1 - np.eye(n))) for n in (2, 4)]
    pairs = gather.pairs(spaces, spaces[::-1])
    fields = read_fields(pairs, lambda stack: (stack.weights, stack.mean))
    left, right = fields.at(np.array([0, 1]))
    assert all(library.owns(values) for values in (*left, *right))
    assert to_numpy(left[0]).tolist() == [[0.5, 0.5, 0.0, 0.0], [0.25] * 4]
    assert to_numpy(right[1]).tolist() == [0.75, 0.5]
