"""Bounds of many pairs at once are those of single pairs."""

import numpy as np
import pytest

import gwtools as gw
from tests import checkers
from tests.batch.test_solve import made, problems
from tests.strategies import KINDS

POWERS = ["row_means", "first", "second"]


@pytest.mark.parametrize(
    ("name", "settings"), [(name, {"p": p}) for name in POWERS for p in (1.0, 2.0, 3.0)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_bounds_of_any_power_are_those_of_single_pairs(kind, name, settings):
    check_bound(kind, name, settings)


@pytest.mark.parametrize("name", ["norm", "spectral"])
@pytest.mark.parametrize("kind", KINDS)
def test_bounds_of_power_two_are_those_of_single_pairs(kind, name):
    check_bound(kind, name, {})


def check_bound(kind, name, settings):
    xs, ys = problems(kind)
    values = getattr(gw.batch, name)(made(xs), made(ys), **settings)
    expected = [
        float(getattr(gw.bounds, name)(x.space(), y.space(), **settings))
        for x, y in zip(xs, ys, strict=True)
    ]
    np.testing.assert_allclose(values, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("shift", [-9.0, 9.0])
@pytest.mark.parametrize("null", [False, True])
@pytest.mark.parametrize("name", POWERS)
def test_equal_weights_need_no_atom_of_the_padding(name, null, shift):
    """Values on one side of zero, so that padding would stand at an end.

    And equal weights of all atoms but one.
    """
    rng = np.random.default_rng(8)
    sides = [[], []]
    for sizes in ((3, 7), (8, 5), (2, 4), (12, 12), (6, 8)):
        for side, n in zip(sides, sizes, strict=True):
            weights = np.ones(n)
            weights[0] = not null
            side.append(
                gw.DenseSpace(
                    checkers.euclidean(rng.standard_normal((n, 2))) + shift,
                    weights / weights.sum(),
                )
            )
    for p in (1.0, 2.0, 3.5):
        expected = [
            float(getattr(gw.bounds, name)(x, y, p))
            for x, y in zip(*sides, strict=True)
        ]
        assert getattr(gw.batch, name)(*sides, p).tolist() == pytest.approx(
            expected, rel=1e-10, abs=1e-10
        )
