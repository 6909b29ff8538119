"""Theorem 6 a: moves of the values over the same atoms."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import gwtools as gw
from gwtools import stability
from tests.stability.moves import (
    ROUNDING,
    SEEDS,
    Similarity,
    largest,
    moves_no_more,
    norm,
)
from tests.strategies import KINDS, pairs, spaces


def noisy(x, seed, size):
    noise = size * np.random.default_rng(seed).standard_normal(x.data.shape)
    return replace(x, data=x.data + (noise + noise.T) / 2)


@given(
    spaces(kinds=("dense",), null=True),
    SEEDS,
    st.sampled_from([1.0, 1.5, 2.0, 3.0]),
)
def test_perturbation_is_the_norm(x, seed, p):
    x2 = noisy(x, seed, 0.1)
    found = stability.perturbation(x.space(), x2.space(), p)
    assert found == pytest.approx(norm(x.data - x2.data, x.weights, p), rel=1e-12)
    rows = np.abs((x.data - x2.data) @ x.weights)
    expected = float((x.weights @ rows**p) ** (1 / p))
    of_row_means = stability.row_means_perturbation(x.space(), x2.space(), p)
    assert of_row_means == pytest.approx(expected, rel=1e-9, abs=1e-14)
    assert expected <= found * ROUNDING


@given(pairs(kinds=("dense",)), SEEDS, st.sampled_from([1e-2, 0.3, 2.0]))
def test_perturbation_bounds_the_move(pair, seed, size):
    x, y = pair
    x2 = noisy(x, seed, size)
    found = stability.perturbation(x.space(), x2.space())
    assert moves_no_more(found, x, x2, y)


@given(spaces(kinds=("dense",)), st.sampled_from([-3.0, 0.5]))
def test_perturbation_is_reached_by_a_constant(x, constant):
    """C + c is at distance |c| from C, which the means alone prove."""
    shifted = gw.DenseSpace(x.data + constant, x.weights)
    found = stability.perturbation(x.space(), shifted)
    lower = gw.certify(x.space(), shifted).lower
    assert found == pytest.approx(abs(constant))
    assert lower**0.5 == pytest.approx(found, rel=1e-6)


@given(pairs(kinds=("dense",)), SEEDS, st.sampled_from([1.0, 2.0, 3.0]))
def test_row_means_perturbation_bounds_the_estimate(pair, seed, p):
    x, y = pair
    x2 = noisy(x, seed, 0.5)
    powers = [float(gw.bounds.row_means(s.space(), y.space(), p=p)) for s in (x, x2)]
    root, root2 = np.array(powers) ** (1 / p)
    found = stability.row_means_perturbation(x.space(), x2.space(), p)
    # Near 0 a root has half the digits of its power.
    slack = 1e-5 * largest(x, x2, y) if min(root, root2) < 1e-3 else 0.0
    assert abs(root - root2) <= found * ROUNDING + slack


@given(spaces(kinds=KINDS), SEEDS)
def test_perturbation_of_every_kind_is_that_of_its_matrix(x, seed):
    noise = np.random.default_rng(seed).standard_normal(x.data.shape)
    x2 = replace(x, data=x.data + 0.1 * np.abs(noise))
    assume(x.kind != "dense")
    found = stability.perturbation(x.space(), x2.space())
    expected = norm(x.matrix - x2.matrix, x.weights)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12 * largest(x, x2))


@pytest.mark.parametrize("height", [1e-170, 1.0, 4.0**300])
def test_spaces_of_other_kinds_are_moved_by_their_matrices(height, rng):
    weights = rng.dirichlet(np.full(5, 3.0))
    x = Similarity(rng.standard_normal((5, 2)), weights, height)
    x2 = Similarity(rng.standard_normal((5, 2)), weights, height)
    exact = norm((x.dense() - x2.dense()) / height, weights)
    found = stability.perturbation(x, x2) / height
    assert exact <= found <= exact * (1 + 1e-12)
    assert stability.sampling(x, 100) > 0


@pytest.mark.parametrize("value", [5e-324, 1e-170, 1.0, 1.7e308])
@given(SEEDS, st.sampled_from([1, 2]))
def test_equal_matrices_have_no_distance(value, seed, p):
    rng = np.random.default_rng(seed)
    C = rng.integers(-1, 2, (4, 4)) * value
    C = np.triu(C) + np.triu(C, 1).T
    a = rng.dirichlet(np.ones(4))
    x = gw.DenseSpace(C, a)
    copy = gw.DenseSpace(C.copy(), a)
    assert stability.perturbation(x, copy, p) == 0.0
    assert stability.row_means_perturbation(x, copy, p) == 0.0


def test_atoms_without_weight_do_not_count():
    a = np.array([1.0, 0.0])
    x = gw.DenseSpace(np.array([[1.0, 1e300], [1e300, 1e308]]), a)
    assert stability.perturbation(x, gw.DenseSpace(np.eye(2), a)) == 0.0
    assert 2.0**-25 <= stability.rounding(x, "float32") <= 2.0**-23


def of_other_size():
    return stability.perturbation(np.eye(2), np.eye(3))


def of_other_weights():
    y = gw.DenseSpace(np.eye(2), np.array([0.4, 0.6]))
    return stability.perturbation(np.eye(2), y)


def of_a_small_power():
    return stability.perturbation(np.eye(2), np.eye(2), 0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (of_other_size, "atoms of x, but they have 3 and 2"),
        (of_other_weights, "weights of x, but they differ by up to 0.1"),
        (of_a_small_power, "p must be"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_other_libraries(library, rng):
    points = rng.standard_normal((6, 2))
    x = gw.PointCloud(library.array(points))
    x2 = gw.PointCloud(x.points * 1.5)
    found = stability.perturbation(x, x2)
    expected = stability.perturbation(
        gw.PointCloud(points), gw.PointCloud(points * 1.5)
    )
    assert found == pytest.approx(expected, rel=library.rtol)
