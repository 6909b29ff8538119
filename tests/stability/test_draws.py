"""Theorem 6 f: atoms that are chosen, or drawn, against what they move."""

import math
from dataclasses import replace

import numpy as np
import pytest
from array_api_compat import array_namespace
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from gwtools import stability
from tests import checkers
from tests.stability.moves import ROUNDING, SEEDS, largest
from tests.strategies import orders, spaces, weights


@given(spaces(), st.data())
def test_subsampling_bounds_the_distance(x, data):
    positions = st.lists(st.integers(0, x.size - 1), min_size=1, max_size=6)
    index = np.array(data.draw(positions))
    b = data.draw(weights(len(index)))
    y = replace(x.take(index), weights=b)
    found = stability.subsampling(x.space(), index, b)
    slack = 1e-6 * largest(x)
    lower = gw.certify(x.space(), y.space()).lower
    assert lower**0.5 <= found * ROUNDING + slack
    product = np.outer(x.weights, b)
    cost = checkers.objective(x.matrix, y.matrix, product)
    assert found <= 2 * cost**0.5 + slack


@given(spaces(generic=True, kinds=("dense", "euclidean")), st.data())
def test_subsampling_of_all_atoms_costs_nothing(x, data):
    order = np.array(data.draw(orders(x.size)))
    found = stability.subsampling(x.space(), order, x.weights[order])
    assert found <= 1e-6 * largest(x)


@pytest.mark.parametrize("scale", [1e-170, 1.0, 1e150, 1.7e307])
def test_equal_atoms_that_are_sent_whole_cost_nothing(scale, rng):
    C = rng.standard_normal((5, 5))
    order = np.array([2, 0, 4, 1, 3])
    assert stability.subsampling((C + C.T) * scale, order) == 0.0


@pytest.mark.parametrize(("n", "m"), [(4, 2), (6, 3), (6, 1)])
def test_subsampling_of_a_simplex_is_exact(n, m):
    found = stability.subsampling(1 - np.eye(n), np.arange(m))
    assert found == pytest.approx(math.sqrt(1 / m - 1 / n))


def total_variation(found, p):
    """The misplaced mass behind this bound of a space of oscillation 1."""
    return 1 - math.sqrt(1 - found**p)


@pytest.mark.parametrize("p", [1.0, 2.0])
@pytest.mark.parametrize(
    ("atoms", "draws", "failure", "least"),
    [
        (200, 2000, 0.5, 0.7),  # the expectation is most of it
        (2, 400, 0.001, 0.6),  # the tail is
    ],
)
def test_sampling(atoms, draws, failure, least, p, rng):
    """The quantile of the total variation is below the bound, above most of it."""
    a = np.full(atoms, 1 / atoms)
    simplex = gw.DenseSpace(1 - np.eye(atoms))
    found = total_variation(stability.sampling(simplex, draws, failure, p), p)
    size = 50_000 if atoms == 2 else 2000
    drawn = rng.multinomial(draws, a, size=size) / draws
    variations = np.abs(drawn - a).sum(1) / 2
    quantile = np.quantile(variations, 1 - failure)
    assert least * found <= quantile <= found


@given(SEEDS, st.integers(1, 30), st.sampled_from([1.0, 2.0]))
def test_sampling_bounds_the_distance(seed, draws, p):
    """With failure far below one in 200 no drawn space is farther away.

    The interval is that of the cheap certificate for p = 2.
    """
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((4, 2))
    a = rng.dirichlet(np.ones(4))
    found = stability.sampling(gw.PointCloud(points, a), draws, 1e-9, p)
    b = rng.multinomial(draws, a) / draws
    x = gw.PointCloud(points, a)
    y = gw.PointCloud(points, b)
    first = float(gw.bounds.first(x, y, p=1.0))
    root = gw.certify(x, y).lower ** 0.5
    apart = first if p == 1 else root
    assert apart <= found
    assert found <= checkers.euclidean(points).max() * ROUNDING


def test_sampling_grows_with_the_oscillation_of_atoms_with_weight():
    C = np.array([[0.0, 3.0, 0.0], [3.0, 1.0, 50.0], [0.0, 50.0, 0.0]])
    x = gw.DenseSpace(C, np.array([0.5, 0.5, 0.0]))
    y = gw.DenseSpace(1 - np.eye(2))
    for bound in (stability.sampling, stability.row_means_sampling):
        assert bound(x, 100) == pytest.approx(3 * bound(y, 100))


@given(spaces(kinds=("dense",)), st.sampled_from([-7.0, 3.0]))
def test_sampling_does_not_see_a_constant(x, constant):
    shifted = gw.DenseSpace(x.data + constant, x.weights)
    for bound in (stability.sampling, stability.row_means_sampling):
        found = bound(shifted, 1000)
        assert found == pytest.approx(bound(x.space(), 1000), rel=1e-9, abs=1e-12)


def test_row_means_sampling_has_a_mean_and_a_tail():
    """Hardly any tail where failure is allowed: what is left bounds the mean."""
    found = stability.row_means_sampling(1 - np.eye(2), 400, 1 - 1e-12)
    assert found == pytest.approx(1 / 20 + 1 / 400, rel=1e-4)
    assert 1.0 <= stability.row_means_sampling(1 - np.eye(2), 3, 1e-9) <= ROUNDING


def test_row_means_sampling(rng):
    """Draws from two far clusters: most of the bound is reached by its quantile."""
    points = np.concatenate([np.zeros(5), np.ones(5)])
    products = np.outer(points, points)
    C = np.abs(points[:, None] - points) * products + products
    x = gw.DenseSpace(C)
    y = gw.DenseSpace(np.zeros((1, 1)))
    draws = 200
    failure = 0.01
    centre = float(gw.bounds.row_means(x, y, p=1))
    moves = []
    for _ in range(2000):
        index = rng.integers(0, 10, draws)
        part = C[np.ix_(index, index)]
        mean = abs(part.mean(1)).mean()
        moves.append(abs(mean - centre))
    found = stability.row_means_sampling(x, draws, failure)
    quantile = np.quantile(moves, 1 - failure)
    assert 0.3 * found <= quantile <= found


def with_too_many_weights():
    return stability.subsampling(np.eye(2), np.array([0]), np.ones(2) / 2)


def without_draws():
    return stability.sampling(np.eye(2), 0)


def with_sure_failure():
    return stability.sampling(np.eye(2), 5, 1.0)


def without_failure():
    return stability.row_means_sampling(np.eye(2), 5, 0.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (with_too_many_weights, "one entry for each of"),
        (without_draws, "draws must be"),
        (with_sure_failure, "failure must be"),
        (without_failure, r"failure must be .*, but is 0\.0"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_other_libraries(library, rng):
    points = rng.standard_normal((6, 2))
    index = [0, 2, 3]
    x = gw.PointCloud(library.array(points))
    reference = gw.PointCloud(points)
    found = stability.sampling(x, 100)
    expected = stability.sampling(reference, 100)
    assert found == pytest.approx(expected, rel=library.rtol)
    chosen = array_namespace(x.points).asarray(index)
    found = stability.subsampling(x, chosen)
    expected = stability.subsampling(reference, np.array(index))
    assert found == pytest.approx(expected, rel=library.rtol)
