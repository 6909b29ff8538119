"""The random pairs: what they are made of."""

from dataclasses import replace

import numpy as np
import pytest

import gwtools as gw
from simulations import random_pairs
from simulations.random_spaces import KINDS
from simulations.watchdog import PAIRS

CASES = [random_pairs.case(0, index) for index in range(3000)]


def pair(kind, n, **changed):
    """A pair of one kind and size, with all else as plain as can be."""
    plain = random_pairs.Case(
        0, 0, (kind, kind), (n, n), ("uniform",) * 2, "other", "1", "float64", "Sorted"
    )
    return replace(plain, **changed)


def test_pairs_depend_on_seed_and_index_alone():
    for case in CASES[1:4]:
        assert case == random_pairs.case(0, case.index)
        for x, again in zip(
            random_pairs.build(case)[:2], random_pairs.build(case)[:2], strict=True
        ):
            assert np.array_equal(x.dense(), again.dense())
            assert np.array_equal(x.weights, again.weights)
    assert random_pairs.case(0, 1) != random_pairs.case(1, 1)


def test_everything_is_drawn_and_large_programs_are_enough():
    assert {kind for case in CASES for kind in case.kinds} == set(KINDS)
    assert {n for case in CASES for n in case.sizes} == {
        *random_pairs.SMALL_SIZES,
        *random_pairs.LARGE_SIZES,
    }
    for name, shares in {
        "relation": random_pairs.RELATIONS,
        "units": random_pairs.UNITS,
        "dtype": random_pairs.DTYPES,
        "solver": random_pairs.SOLVERS,
    }.items():
        assert {getattr(case, name) for case in CASES} == set(shares)
    large = sum(
        np.prod(random_pairs.case(0, index).sizes) > 90_000 for index in range(PAIRS)
    )
    assert 500 <= large <= 1000


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 2, 3, 8])
@pytest.mark.parametrize("weights", random_pairs.WEIGHTS)
def test_every_kind_exists_in_every_size_and_weight(kind, n, weights):
    for dtype, units in (("float64", "large"), ("float32", "small"), ("float64", "up")):
        x, y, _ = random_pairs.build(
            pair(kind, n, weights=(weights, "uniform"), dtype=dtype, units=units)
        )
        assert x.size == y.size == n
        assert x.weights.dtype == y.weights.dtype == dtype
        assert np.all(np.isfinite(x.dense()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weights", ["zeros", "duplicates"])
def test_a_copy_is_at_distance_zero(kind, weights):
    x, y, _ = random_pairs.build(pair(kind, 7, relation="copy", weights=(weights,) * 2))
    for first, second in (
        (x.dense(), y.dense()),
        (x.weights, y.weights),
    ):  # in another order, with other roundings
        np.testing.assert_allclose(
            np.sort(first, axis=None), np.sort(second, axis=None), atol=1e-12
        )
    assert float(gw.bounds.row_means(x, y, p=2.0)) <= 1e-12


@pytest.mark.parametrize("units", random_pairs.UNITS)
def test_sides_are_in_their_units(units):
    expected = np.asarray(random_pairs.UNITS[units])
    for kind in ("cloud", "squared cloud", "gram", "kernel", "tree"):
        plain, scaled = (
            random_pairs.build(pair(kind, 8, units=name))[:2] for name in ("1", units)
        )
        for factor, x, x2 in zip(expected, plain, scaled, strict=True):
            assert np.allclose(x2.dense() / factor, x.dense(), rtol=1e-9, atol=1e-9)
