"""Theorem 12 (f): Gram spaces of one row are solved by sorting a list of numbers.

The other list is sorted alike or against it.
"""

import doctest
import warnings
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from gwtools.bounds import certified, float_error
from gwtools.preparation import prepare
from tests import checkers
from tests.strategies import Drawn, couplings, spaces, vertex
from tests.test_check import refused

SEEDS = st.integers(0, 2**32 - 1)


def lists(seed, uniform=False, most=8):
    """Two lists of numbers with weights, on a lattice or not, near 0 or far from it."""
    rng = np.random.default_rng(seed)
    n, m = rng.integers(1, most + 1, 2)
    found = []
    for size in (n, n if uniform else m):
        values = (
            rng.standard_normal(size)
            if rng.random() < 0.7
            else rng.integers(-3, 4, size) / 2
        )
        values = values * rng.uniform(0.5, 2) + rng.choice([0.0, 0.0, -1.0, 3.0, 1e3])
        found += [
            values,
            np.full(size, 1 / size) if uniform else rng.dirichlet(np.ones(size)),
        ]
    return found


def gram(h, a):
    return gw.GramSpace(h[None, :].copy(), a)


def scale(h, a, k, b):
    return float((a @ h**2) ** 2 + (b @ k**2) ** 2)


def closed_form(h, a, k, b):
    """‖C‖² + ‖D‖² − 2 max(Z₊², Z₋²), in rational arithmetic.

    Weights are normalised exactly.
    """
    h, a, k, b = ([Fraction(float(v)) for v in values] for values in (h, a, k, b))
    a, b = ([v / sum(w) for v in w] for w in (a, b))
    p, q = (
        sum(w * v**2 for w, v in zip(*pair, strict=True)) for pair in ((a, h), (b, k))
    )
    extremes = []
    for sign in (1, -1):
        atoms = checkers.walk([float(v) for v in h], a, [sign * float(v) for v in k], b)
        extremes.append(sum(mass * h[i] * k[j] for i, j, mass in atoms))
    return p**2 + q**2 - 2 * max(z**2 for z in extremes)


@given(SEEDS)
def test_theorem_12_rank_one(seed):
    h, a, k, b = lists(seed)
    found = float(gw.bounds.rank_one(gram(h, a), gram(k, b)))
    assert found == pytest.approx(
        float(closed_form(h, a, k, b)), rel=0, abs=1e-13 * scale(h, a, k, b)
    )
    assert found == pytest.approx(
        float(gw.bounds.rank_one(gram(k, b), gram(-h, a))),
        rel=0,
        abs=1e-13 * scale(h, a, k, b),
    )


@pytest.mark.parametrize("seed", range(20))
def test_theorem_12_rank_one_is_the_best_permutation(seed):
    rng = np.random.default_rng(seed)
    h, k = rng.standard_normal((2, 5)) + rng.choice([0.0, 1.0], (2, 1))
    best = checkers.best_permutation(np.outer(h, h), np.outer(k, k))
    a = np.full(5, 0.2)
    assert float(gw.bounds.rank_one(gram(h, a), gram(k, a))) == pytest.approx(
        best, rel=1e-12
    )


@given(SEEDS, st.data())
def test_theorem_12_rank_one_is_below_every_coupling_and_attained(seed, data):
    h, a, k, b = lists(seed)
    C, D = np.outer(h, h), np.outer(k, k)
    found, slack = (
        float(gw.bounds.rank_one(gram(h, a), gram(k, b))),
        1e-12 * scale(h, a, k, b),
    )
    monotone = [vertex(a, b, np.argsort(h), np.argsort(sign * k)) for sign in (1, -1)]
    # Segments between the two, the product coupling and others.
    family = [*monotone, np.outer(a, b), data.draw(couplings(a, b))]
    for share in np.linspace(0, 1, 5):
        for one, other in pairwise(family):
            assert (
                found
                <= checkers.objective(C, D, (1 - share) * one + share * other) + slack
            )
    assert found >= min(checkers.objective(C, D, plan) for plan in monotone) - slack


@given(SEEDS, st.booleans(), st.sampled_from([1e-60, 1.0, 1e60]))
def test_theorem_12_rank_one_is_rounded_down(seed, uniform, unit):
    h, a, k, b = lists(seed, uniform)
    if seed % 3 == 0:
        k, b = h[::-1] * (1 + 1e-9), a[::-1].copy()  # nearly equal spaces
    x, y = gram(h * unit, a), gram(k * unit, b)
    ready = prepare(x, y)
    bound = certified.rank_one(
        ready.x, ready.y, *(float_error.radii(s) for s in (ready.x, ready.y))
    )
    exact = (
        closed_form(h * unit, x.weights, k * unit, y.weights)
        / Fraction(ready.unit) ** 2
    )
    assert Fraction(bound.lower) <= exact
    size = scale(h * unit, a, k * unit, b) / ready.unit / ready.unit
    assert 0 <= exact - Fraction(bound.lower) <= 1e-11 * size
    assert float(exact) == pytest.approx(bound.value, rel=0, abs=1e-12 * size)


def test_theorem_12_rank_one_stays_sharp_near_equality(rng):
    """Most of a distance of 1e-18 is proved.

    Copies that differ by a share of 1e-9 are 1e-18 apart in the objective.
    """
    h = rng.standard_normal(50)
    x, y = gram(h, np.full(50, 0.02)), gram(h * (1 + 1e-9), np.full(50, 0.02))
    bound = certified.rank_one(x, y, float_error.radii(x), float_error.radii(y))
    assert 0.999 * bound.value <= bound.lower <= bound.value


@pytest.mark.parametrize("block", range(10))
def test_the_solver_returns_the_optimum(block):
    """Two hundred instances with unequal weights, with and without offsets."""
    for seed in range(20 * block, 20 * block + 20):
        h, a, k, b = lists(seed, uniform=seed % 5 == 0, most=40)
        result = gw.solve(gram(h, a), gram(k, b))
        best = float(closed_form(h, a, k, b))
        assert abs(float(result.objective) - best) <= 1e-12 * scale(h, a, k, b)
        assert result.status in (gw.Status.STATIONARY, gw.Status.GLOBAL)


def test_a_given_start_is_kept(rng):
    h, k = rng.standard_normal((2, 6))
    plan = np.eye(6) / 6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gw.ConvergenceWarning)
        solver = gw.ConditionalGradient(init=plan, max_iterations=1, exchange=False)
        result = gw.solve(
            gram(h, np.full(6, 1 / 6)), gram(k, np.full(6, 1 / 6)), solver
        )
    assert (
        float(result.objective)
        <= checkers.objective(np.outer(h, h), np.outer(k, k), plan) + 1e-12
    )


@given(SEEDS)
def test_theorem_12_one_number_decides(seed):
    """Squared distances of two points of equal mass against any points of a line.

    α = 0, so that Z alone is left.
    """
    rng = np.random.default_rng(seed)
    signs, y = (
        np.array([1.0, 1.0, -1.0, -1.0]) * rng.uniform(0.5, 2),
        rng.standard_normal(4),
    )
    C, D = ((v[:, None] - v) ** 2 for v in (signs, y))
    a, y = np.full(4, 0.25), y - y.mean()
    top = np.sort(signs) @ np.sort(y) / 4
    product = checkers.objective(C, D, np.outer(a, a))
    assert checkers.best_permutation(C, D) == pytest.approx(
        product - 8 * top**2, rel=1e-9, abs=1e-12
    )


def test_theorem_12_opposite_signs_have_the_least_square():
    """C = hhᵀ and D = 1 − kkᵀ: F = const + 2 Z², least at the Z nearest to 0.

    No sorting need attain it.
    """
    h, k, a = np.array([1.0, 2.0, 4.0]), np.array([1.0, -1.0, 0.5]), np.full(3, 1 / 3)
    C, D = np.outer(h, h), 1 - np.outer(k, k)
    plans = [
        np.eye(3)[list(order)] / 3
        for order in ((0, 1, 2), (1, 0, 2), (2, 1, 0), (0, 2, 1))
    ]
    constants = [
        checkers.objective(C, D, plan) - 2 * float(h @ plan @ k) ** 2 for plan in plans
    ]
    assert constants == pytest.approx([constants[0]] * 4)
    assert gw.solve(
        gw.DenseSpace(C, a), gw.DenseSpace(D, a)
    ).objective == pytest.approx(constants[0], abs=1e-6)


def test_rank_one_is_differentiable():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    h, k = (
        torch.tensor(rng.standard_normal((1, n)) + 0.3, requires_grad=True)
        for n in (5, 7)
    )
    moved = [torch.zeros(n, dtype=torch.float64, requires_grad=True) for n in (5, 7)]
    weights = [torch.tensor(rng.dirichlet(np.full(n, 5.0))) for n in (5, 7)]

    def value(h, k, *moves):
        a, b = (w + move - move.mean() for w, move in zip(weights, moves, strict=True))
        return gw.bounds.rank_one(gw.GramSpace(h, a), gw.GramSpace(k, b))

    assert torch.autograd.gradcheck(value, (h, k, *moved), atol=1e-6, rtol=1e-6)


def test_libraries_and_dtypes_come_back(library, rng):
    h, k = rng.standard_normal((1, 9)), rng.standard_normal((1, 7)) + 1
    found = gw.bounds.rank_one(
        gw.GramSpace(library.array(h)), gw.GramSpace(library.array(k))
    )
    assert library.owns(found)
    expected = float(gw.bounds.rank_one(gw.GramSpace(h), gw.GramSpace(k)))
    assert float(found) == pytest.approx(expected, rel=library.rtol)
    result = gw.solve(gw.GramSpace(library.array(h)), gw.GramSpace(library.array(k)))
    assert float(result.objective) == pytest.approx(expected, rel=10 * library.rtol)


@given(spaces(kinds=("dense", "sqeuclidean")))
def test_other_spaces_are_refused(x: Drawn):
    one_row = gw.GramSpace(np.ones((1, 2)))
    refused(
        lambda: gw.bounds.rank_one(x.space(), one_row),
        ValueError,
        "x must be a gwtools.GramSpace",
        "one row",
    )
    refused(
        lambda: gw.bounds.rank_one(one_row, gw.GramSpace(np.ones((2, 3)))),
        ValueError,
        "y must be",
        "of 2 rows",
    )


def test_the_example_runs():
    finder = doctest.DocTestFinder(recurse=False)
    for test in finder.find(gw.bounds.rank_one, "rank_one", globs={}):
        assert test.examples
        assert doctest.DocTestRunner().run(test).failed == 0
