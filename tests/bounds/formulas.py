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
    """A function gives what a formula does, for each call and for all calls stacked."""
    expected = [numbers(formula(*arguments)) for arguments in calls]
    for arguments, wanted in zip(calls, expected, strict=True):
        found = numbers(function(*arguments))
        assert found == pytest.approx(wanted, rel=1e-13, abs=0)
    together = function(*stacked(calls))
    for place, wanted in enumerate(expected):
        found = numbers(together, place)
        assert found == pytest.approx(wanted, rel=1e-13, abs=0)


def with_radii(values, sizes):
    """Add some radii of two spaces of these sizes to the arguments of each call."""
    n, m = sizes
    calls = []
    for seed, arguments in enumerate(values):
        radii_x = some_radii(seed, n)
        radii_y = some_radii(seed + 9, m)
        calls.append((*arguments, radii_x, radii_y))
    return calls


def floored(value):
    return value * (1 - gamma(20))


def raised(value):
    return value * (1 + gamma(20))


def whole(radii, spectrum=0.0):
    """The radius of the root of an objective (theorem 6 a)."""
    residual = radii.residual + spectrum
    square = radii.mean**2 + 2 * radii.deviations**2 + residual**2
    return 1.01 * math.sqrt(square)


def rooted(value, radius):
    """A radius off the root of a value that is rounded down before and after."""
    root = math.sqrt(floored(max(value, 0.0)))
    least = max(root - radius, 0.0)
    return floored(least**2)


def close(found, value, lower):
    assert found.value == pytest.approx(value, rel=1e-12, abs=0)
    assert found.lower == pytest.approx(lower, rel=1e-12, abs=0)
    assert found.upper == math.inf


def row_transport_error(x, y):
    top = 0.0
    for side in (x, y):
        entry = np.abs(side.parts.matrix).max()
        residual = np.abs(side.parts.residual).max()
        top += float(max(entry, residual))
    atoms = x.radii.size + y.radii.size
    index = 6 * atoms + x.radii.weights + y.radii.weights + 40
    return 16 * gamma(index) * top**2


def matrix(rng, size, scale, shift):
    base = scale * rng.standard_normal((size, size))
    return (base + base.T) / 2 + shift


def some_weights(rng, size):
    return rng.dirichlet(np.full(size, 5.0))


def pair(name):
    """Two spaces far apart, so that no bound is 0 for all of the rounding."""
    rng = np.random.default_rng(11)
    if name == "swapped":
        return pair("dense")[::-1]
    if name == "dense":
        x = gw.DenseSpace(matrix(rng, 6, 1.0, 0.3), some_weights(rng, 6))
        y = gw.DenseSpace(matrix(rng, 9, 1.7, 4.0), some_weights(rng, 9))
    elif name == "uniform":
        x = gw.DenseSpace(matrix(rng, 6, 1.0, 5.3))
        y = gw.DenseSpace(matrix(rng, 6, 1.9, 0.0))
    else:
        factor = 2 * rng.standard_normal((3, 8))
        x = gw.GramSpace(factor, some_weights(rng, 8))
        points = rng.standard_normal((7, 2)) * 2
        weights = some_weights(rng, 7)
        y = gw.PointCloud(points, weights, metric="sqeuclidean")
    return [x, y]


def sides(name):
    """The parts of both spaces of a pair, with radii that are large."""
    x, y = pair(name)
    return [
        EnclosedParts(centred(x), some_radii(3, x.size)),
        EnclosedParts(centred(y), some_radii(8, y.size)),
    ]


def artificial_modes(x, y):
    """Modes with large errors."""
    lam, U = projected_quadratic.spectrum(x.parts)
    mu, V = projected_quadratic.spectrum(y.parts)
    return Modes(lam, U, 0.0031, 0.0023), Modes(mu, V, 0.0017, 0.0041)
