"""Formulas of theorem 13 in plain numbers, and spaces far apart to try them on."""

import math

import numpy as np
import pytest

import gwtools as gw
from gwtools.bounds import projected_quadratic
from gwtools.bounds.certified import EnclosedParts, Modes
from gwtools.bounds.float_error import gamma
from gwtools.transport.local_distributions import centred
from tests.radii import numbers, some_radii, stacked

SIZES = ((5, 7), (2000, 3), (4, 1500))  # n and m
NAMES = ["dense", "swapped", "uniform", "low rank"]  # of pairs of spaces
ROOT = 2.0**-14  # what underflow is to a root, at the unit of the fixture ``coarse``


def agree(function, formula, calls):
    """The function gives what the formula does, call by call and for all calls at once."""
    expected = [numbers(formula(*arguments)) for arguments in calls]
    for arguments, wanted in zip(calls, expected, strict=True):
        assert numbers(function(*arguments)) == pytest.approx(wanted, rel=1e-13, abs=0)
    together = function(*stacked(calls))
    for place, wanted in enumerate(expected):
        assert numbers(together, place) == pytest.approx(wanted, rel=1e-13, abs=0)


def floored(value):
    return value * (1 - gamma(20))


def whole(radii, spectrum=0.0):
    return 1.01 * math.sqrt(
        radii.mean**2 + 2 * radii.deviations**2 + (radii.residual + spectrum) ** 2
    )


def rooted(value, radius):
    """A radius off the root of a value that is rounded down before and after."""
    return floored(max(math.sqrt(floored(max(value, 0.0))) - radius, 0.0) ** 2)


def close(found, value, lower):
    assert found.value == pytest.approx(value, rel=1e-12, abs=0)
    assert found.lower == pytest.approx(lower, rel=1e-12, abs=0)
    assert found.upper == math.inf


def row_transport_error(x, y):
    top = sum(
        max(float(np.abs(s.parts.matrix).max()), float(np.abs(s.parts.residual).max()))
        for s in (x, y)
    )
    return (
        16
        * gamma(
            6 * (x.radii.size + y.radii.size) + x.radii.weights + y.radii.weights + 40
        )
        * top**2
    )


def matrix(rng, size, scale, shift):
    base = scale * rng.standard_normal((size, size))
    return (base + base.T) / 2 + shift


def pair(name):
    """Two spaces far apart, so that no bound is 0 for all of the rounding."""
    rng = np.random.default_rng(11)
    if name == "dense":
        spaces = [
            gw.DenseSpace(matrix(rng, 6, 1.0, 0.3), rng.dirichlet(np.full(6, 5.0))),
            gw.DenseSpace(matrix(rng, 9, 1.7, 4.0), rng.dirichlet(np.full(9, 5.0))),
        ]
    elif name == "swapped":
        spaces = pair("dense")[::-1]
    elif name == "uniform":
        spaces = [
            gw.DenseSpace(matrix(rng, 6, 1.0, 5.3)),
            gw.DenseSpace(matrix(rng, 6, 1.9, 0.0)),
        ]
    else:
        spaces = [
            gw.GramSpace(
                2 * rng.standard_normal((3, 8)), rng.dirichlet(np.full(8, 5.0))
            ),
            gw.PointCloud(
                rng.standard_normal((7, 2)) * 2,
                rng.dirichlet(np.full(7, 5.0)),
                metric="sqeuclidean",
            ),
        ]
    return spaces


def sides(name):
    return [
        EnclosedParts(centred(space), some_radii(seed, space.size))
        for seed, space in zip((3, 8), pair(name), strict=True)
    ]


def artificial_modes(x, y):
    """Modes with large errors."""
    (lam, U), (mu, V) = (projected_quadratic.spectrum(s.parts) for s in (x, y))
    return Modes(lam, U, 0.0031, 0.0023), Modes(mu, V, 0.0017, 0.0041)
