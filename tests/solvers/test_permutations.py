"""Branch and bound over bijections: the best of all, as listing them shows."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings

from gwtools.solvers.permutations import MOST_ATOMS, best_permutation, enumerated
from tests.rational import fraction, rational
from tests.strategies import pairs


def symmetric(values):
    return np.triu(values) + np.triu(values, 1).T


def value(C, D, images):
    return float(((C - D[np.ix_(images, images)]) ** 2).sum())


def listed(C, D):
    """The least sum over all bijections, and the first that attains it."""
    orders = list(itertools.permutations(range(len(C))))
    values = [value(C, D, order) for order in orders]
    least = min(values)
    return least, orders[values.index(least)]


def check(C, D):
    least, _ = listed(C, D)
    images = best_permutation(C, D)
    assert sorted(images) == list(range(len(C)))
    scale = len(C) ** 2 * max(np.abs(C).max(), np.abs(D).max()) ** 2
    assert value(C, D, images) <= least + 1e-12 * scale


@settings(max_examples=60)
@given(pairs(most=6))
def test_against_a_list_of_all(pair):
    x, y = sorted(pair, key=lambda space: space.size)
    order = np.arange(x.size)
    check(symmetric(x.matrix), symmetric(y.take(order).matrix))


RNG = np.random.default_rng(1)
VALUES = {
    "normal": lambda n: RNG.standard_normal((n, n)),
    "tied": lambda n: RNG.integers(0, 3, (n, n)).astype(float),
    "binary": lambda n: RNG.integers(0, 2, (n, n)).astype(float),
    "negative": lambda n: -RNG.random((n, n)) - 1,
    "huge": lambda n: 1e150 * RNG.random((n, n)),
    "small": lambda n: 1e-150 * RNG.random((n, n)),
    "mixed": lambda n: 10.0 ** RNG.choice([-40, 0, 40], (n, n)),
    "zeros": lambda n: np.zeros((n, n)),
}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("n", range(1, 7))
def test_values_of_all_sizes(name, n):
    check(symmetric(VALUES[name](n)), symmetric(VALUES[name](n)))


@pytest.mark.parametrize("seed", range(5))
def test_the_first_of_the_best_in_lexicographic_order(seed):
    rng = np.random.default_rng(seed)
    C, D = (symmetric(rng.integers(0, 2, (5, 5)).astype(float)) for _ in range(2))
    assert tuple(best_permutation(C, D)) == listed(C, D)[1]
    # All bijections are equally good.
    assert best_permutation(1 - np.eye(5), np.ones((5, 5))).tolist() == list(range(5))


@pytest.mark.parametrize("seed", range(10))
def test_an_incumbent(seed):
    rng = np.random.default_rng(seed)
    C, D = (symmetric(rng.standard_normal((6, 6))) for _ in range(2))
    least, images = listed(C, D)
    for incumbent in (least, 1.5 * least, math.inf):
        assert tuple(best_permutation(C, D, incumbent)) == images
    assert best_permutation(C, D, 0.999 * least) is None
    assert best_permutation(C, D, 0.0) is None


@pytest.mark.parametrize(
    ("n", "incumbent"),
    [(8, 0.0), (8, 1.0), (8, math.inf), (MOST_ATOMS, 1.0)],
)
def test_a_planted_copy(n, incumbent):
    rng = np.random.default_rng(n)
    C = symmetric(rng.standard_normal((n, n)))
    order = rng.permutation(n)
    images = best_permutation(C, C[np.ix_(order, order)], incumbent)
    assert np.array_equal(order[images], np.arange(n))


def test_bounds_do_not_exclude_the_best_of_nine():
    """Hardly anything is excluded where the values say little; swaps gain nothing."""
    rng = np.random.default_rng(0)
    C, D = (symmetric(rng.integers(0, 2, (8, 8)).astype(float)) for _ in range(2))
    images = best_permutation(C, D)
    found = value(C, D, images)
    for i, j in itertools.combinations(range(8), 2):
        swapped = images.copy()
        swapped[[i, j]] = swapped[[j, i]]
        assert value(C, D, swapped) >= found
    for _ in range(2000):
        assert value(C, D, rng.permutation(8)) >= found


def exact_sum(C, D, images):
    """The sum over a bijection in rational arithmetic."""
    differences = rational(C) - rational(D[np.ix_(images, images)])
    return (differences**2).sum()


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("share", [math.inf, 1.0, 0.5, 1.5])
def test_what_is_proved_is_below_every_bijection(seed, share):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 5))
    C, D = (symmetric(rng.standard_normal((n, n)) * 10.0**seed) for _ in "CD")
    sums = [exact_sum(C, D, order) for order in itertools.permutations(range(n))]
    least = float(min(sums))
    found = enumerated(C, D, share * least)
    assert fraction(found.lower) <= min(sums)
    # An incumbent below all sums is what is proved then.
    assert found.lower >= min(share, 1.0) * least * (1 - 1e-13)
