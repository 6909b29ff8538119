"""Theorem 6 over the whole range of float64: units change nothing but the unit."""

from fractions import Fraction

import numpy as np
import pytest

import gwtools as gw
from gwtools import stability
from tests.stability.rational import entries, lies_just_above, space_of


@pytest.mark.parametrize("scale", [1e-170, 1.0, 1e150, 2.0**1023])
@pytest.mark.parametrize(("n", "m"), [(4, 2), (6, 3), (6, 1), (5, 3)])
def test_subsampling_is_rounded_up(n, m, scale):
    found = stability.subsampling(scale * (1 - np.eye(n)), np.arange(m))
    power = (Fraction(1, m) - Fraction(1, n)) * Fraction(scale) ** 2
    assert Fraction(found) ** 2 >= power
    if n % m == 0:
        assert lies_just_above(found, power, 2)


def subsampled(x):
    return stability.subsampling(x, np.array([0, 0, 3]))


def sampled(x):
    return stability.sampling(x, 100)


@pytest.mark.parametrize("bound", [subsampled, sampled])
@pytest.mark.parametrize("exponent", [-170, -80, 0, 80, 140])
@pytest.mark.parametrize("kind", ["euclidean", "sqeuclidean", "gram"])
def test_sampling_and_subsampling_scale(kind, exponent, bound, rng):
    data = rng.standard_normal((5, 2))
    data = data.T.copy() if kind == "gram" else data
    power = 1 if kind == "euclidean" else 2
    unit = 2.0 ** (exponent * 3 // power)  # of the stored values
    x = space_of(kind, data, np.full(5, 0.2))
    y = space_of(kind, data * unit, np.full(5, 0.2))
    # In two steps, as the unit of C may exceed the range.
    root = unit ** (power / 2)
    assert bound(y) / root / root == pytest.approx(bound(x), rel=1e-12)


@pytest.mark.parametrize("kind", ["euclidean", "sqeuclidean", "gram"])
def test_few_draws_may_move_by_the_whole_oscillation(kind, rng):
    data = rng.standard_normal((5, 2))
    data = data.T.copy() if kind == "gram" else data
    x = space_of(kind, data, np.full(5, 0.2))
    squares = entries("gram" if kind == "gram" else "sqeuclidean", data)
    oscillation = np.ptp(np.array(squares, float))
    exact = oscillation**0.5 if kind == "euclidean" else oscillation
    assert stability.row_means_sampling(x, 3, 1e-9) >= exact


FAR = np.array([[0.0], [1e200]])
SQUARED = gw.PointCloud(FAR, metric="sqeuclidean")
GRAM = gw.GramSpace(FAR.T)


def squares_of_distances():
    return stability.perturbation(SQUARED, gw.DenseSpace(np.eye(2)))


def inner_products():
    return stability.perturbation(GRAM, gw.GramSpace(FAR.T / 2))


def row_means_of_inner_products():
    return stability.row_means_perturbation(GRAM, gw.GramSpace(FAR.T / 2))


def differences():
    most = np.full((1, 1), 1.7e308)
    return stability.perturbation(most, -most)


def squares_that_are_rounded():
    return stability.rounding(SQUARED, "float32")


def steps():
    near = gw.PointCloud(FAR * 1e-200, metric="sqeuclidean")
    return stability.quantization(near, 1e200)


def differences_of_points():
    cloud = gw.PointCloud(np.array([[-1.7e308], [1.7e308]]))
    return stability.rounding(cloud, "float32")


def truncated_products():
    return stability.truncation(GRAM, 1)


def chosen_products():
    return stability.subsampling(GRAM, np.array([0]))


def drawn_products():
    return stability.sampling(GRAM, 5)


def drawn_row_means():
    return stability.row_means_sampling(GRAM, 5)


@pytest.mark.parametrize(
    "call",
    [
        squares_of_distances,
        inner_products,
        row_means_of_inner_products,
        differences,
        squares_that_are_rounded,
        steps,
        differences_of_points,
        truncated_products,
        chosen_products,
        drawn_products,
        drawn_row_means,
    ],
)
def test_what_leaves_the_range_is_refused(call):
    message = r"must be within the range of float64, up to 1\.8e\+308, but exceeds it"
    with pytest.raises(ValueError, match=message):
        call()
