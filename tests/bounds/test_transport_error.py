"""Optimal transport is rounded outward as theorem 13 (b) and (f) say, term by term."""

from fractions import Fraction

import numpy as np
import pytest

from gwtools.bounds import float_error, transport_error
from gwtools.bounds.float_error import Bound, gamma
from gwtools.transport import one_dimensional
from tests.bounds.formulas import SIZES, agree
from tests.radii import numbers

UNDERFLOW = 2.0**-22  # at the unit of the fixture ``coarse``


def transported(value, p, ends_x, ends_y, terms, matched):
    """Theorem 13 (b)."""
    low_x, high_x, n = ends_x
    low_y, high_y, m = ends_y
    largest = max(high_x - low_y, high_y - low_x)
    loss = gamma(3 * (n + m) + terms + 6) * value
    loss += (n + m) * UNDERFLOW * (1 + largest**p)
    if not matched:
        moved = gamma(2 * n + 3 + terms) * (high_x - low_x)
        moved += gamma(2 * m + 3 + terms) * (high_y - low_y)
        loss += p * largest ** (p - 1) * moved * (1 + gamma(8))
    return Bound(value, max(value - loss, 0.0), value + loss)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("p", [1.0, 2.0])
def test_transports_on_the_line(coarse, sizes, p):
    n, m = sizes
    calls = [
        (0.7, p, (-0.3, 1.1, n), (0.2, 0.9, m), 4.7, False),
        (1.3, p, (0.3, 1.7, n), (0.9, 2.6, m), 5.3, True),
        (0.9, p, (0.3, 1.4, n), (-1.9, 2.6, m), 7.1, False),
    ]
    agree(transport_error.transport_bound, transported, calls)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("p", [1.0, 2.0])
def test_transports_that_are_all_float_error_are_not_below_zero(coarse, sizes, p):
    n, m = sizes
    ends_x = (-0.3, 1.1, n)
    ends_y = (0.2, 0.9, m)
    found = transport_error.transport_bound(1e-9, p, ends_x, ends_y, 4.7, False)
    assert (found.value, found.lower) == (1e-9, 0.0)


def ends(values):
    return float(min(values)), float(max(values)), len(values)


WEIGHTS = {
    "uniform": np.full(4, 0.25),
    "unequal": np.array([0.1, 0.2, 0.3, 0.4]),
    "other": np.array([0.2, 0.1, 0.3, 0.4]),
    "longer": np.array([0.1, 0.2, 0.3, 0.3, 0.1]),
}


@pytest.mark.parametrize("p", [1.0, 2.0])
@pytest.mark.parametrize(
    ("first", "second", "same_factors", "matched"),
    [
        ("uniform", "uniform", None, True),
        # One number for all of them: any atoms pair off.
        ("uniform", "uniform", False, True),
        ("uniform", "other", None, False),
        ("unequal", "unequal", None, True),
        ("unequal", "unequal", True, True),
        # Products that agree by chance.
        ("unequal", "unequal", False, False),
        ("unequal", "other", None, False),
        ("unequal", "other", True, False),
        ("unequal", "longer", None, False),
        ("unequal", "longer", True, False),
    ],
)
def test_atoms_of_equal_weights_are_matched(
    coarse, first, second, same_factors, matched, p
):
    x = np.array([0.7, -1.3, 0.2, 1.9])
    y = np.array([0.9, -1.1, 0.3, 2.7, 0.31])
    a = WEIGHTS[first]
    b = WEIGHTS[second]
    y = y[: len(b)]
    value = float(one_dimensional.wasserstein(x, a, y, b, p))
    wanted = transported(value, p, ends(x), ends(y), 4.7, matched)
    found = transport_error.transport_on_line(x, a, y, b, p, 4.7, same_factors)
    assert numbers(found) == pytest.approx(numbers(wanted), rel=1e-13)


@pytest.mark.parametrize(
    ("same_factors", "matched"),
    [
        (None, True),
        (True, False),
        (False, False),
    ],
)
def test_products_are_matched_between_the_same_atoms_only(
    coarse, same_factors, matched
):
    x = np.array([0.7, -1.3, 0.2])
    a = np.array([0.2, 0.3, 0.5])
    order = np.array([2, 0, 1])
    y = x[order] + 0.7
    b = a[order]
    value = float(one_dimensional.wasserstein(x, a, y, b, 2.0))
    wanted = transported(value, 2.0, ends(x), ends(y), 0.0, matched)
    found = transport_error.transport_on_line(x, a, y, b, same_factors=same_factors)
    assert numbers(found) == pytest.approx(numbers(wanted), rel=1e-13)


def dual_value(costs, potential, a, b, omega):
    """Theorem 13 (f), entry by entry."""
    n, m = costs.shape
    prices = potential.tolist()
    top = max(abs(price) for price in prices)
    dual = []
    for row in costs.tolist():
        left = [cost - price for cost, price in zip(row, prices, strict=True)]
        size = max(abs(cost) for cost in row) + top
        dual.append(min(left) - 6 * 2.0**-20 * size)
    reach = max(abs(v) for v in dual) + top
    value = float(a @ np.array(dual)) + float(b @ potential)
    loss = 2 * gamma(max(n, m) + omega + 4) * reach + (n + m) * UNDERFLOW
    return value - loss


@pytest.mark.parametrize("sizes", [(5, 7), (7, 5), (1, 300), (400, 2)])
@pytest.mark.parametrize("below", [None, 0.3, "each"])
def test_values_of_potentials(coarse, rng, sizes, below):
    n, m = sizes
    costs = 3 * rng.standard_normal(sizes)
    potential = rng.standard_normal(m)
    a = rng.dirichlet(np.ones(n))
    b = rng.dirichlet(np.ones(m))
    arguments = [costs, potential, a, b, 4.7]
    lowered = costs
    if below is not None:
        off = rng.uniform(0, 1, sizes) if below == "each" else below
        arguments.append(off)
        lowered = costs - off
    found = transport_error.dual_value(*arguments)
    wanted = dual_value(lowered, potential, a, b, 4.7)
    assert found == pytest.approx(wanted, rel=1e-11)


def weighted_mean(weights, values):
    """Σ a_i v_i / Σ a_i in rational numbers."""
    total = Fraction(0)
    mass = Fraction(0)
    for weight, value in zip(weights.tolist(), values, strict=True):
        total += Fraction(weight) * value
        mass += Fraction(weight)
    return total / mass


def exact_dual_value(costs, potential, a, b, below):
    """The value of ψ and of min_j (w_ij − ψ_j), for exactly normalised weights."""
    prices = [Fraction(price) for price in potential.tolist()]
    dual = []
    for row in costs.tolist():
        lowered = [Fraction(cost) - Fraction(below) for cost in row]
        left = [cost - price for cost, price in zip(lowered, prices, strict=True)]
        dual.append(min(left))
    return weighted_mean(a, dual) + weighted_mean(b, prices)


@pytest.mark.parametrize("size_of_costs", [1e-3, 1.0, 1e8])
@pytest.mark.parametrize("size_of_potentials", [1e-3, 1.0, 1e8])
@pytest.mark.parametrize("below", [0.0, 1e-3])
def test_values_of_potentials_are_below_exact_ones(
    size_of_costs, size_of_potentials, below
):
    rng = np.random.default_rng(7)
    for _ in range(20):
        n, m = (int(size) for size in rng.integers(1, 8, 2))
        costs = size_of_costs * rng.standard_normal((n, m))
        potential = size_of_potentials * rng.standard_normal(m)
        # Weights that miss the sum 1.
        a = (1 + 2.0**-50) * rng.dirichlet(np.ones(n))
        b = (1 + 2.0**-50) * rng.dirichlet(np.ones(m))
        omega = max(float_error.weight_terms(a), float_error.weight_terms(b))
        found = transport_error.dual_value(costs, potential, a, b, omega, below)
        exact = exact_dual_value(costs, potential, a, b, below)
        assert Fraction(found) <= exact
        # Not far below either.
        size = size_of_costs + size_of_potentials
        assert float(exact) - found <= 200 * (omega + 20) * 2.0**-53 * size
