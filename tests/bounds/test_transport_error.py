"""Optimal transport is rounded outward as theorem 13 (b) and (f) say, term by term."""

from fractions import Fraction

import numpy as np
import pytest

from gwtools.bounds import float_error, transport_error
from gwtools.bounds.float_error import Bound, gamma
from gwtools.transport import one_dimensional
from tests.bounds.formulas import SIZES, agree
from tests.radii import numbers


def transported(value, p, x, y, terms, matched):
    (low_x, high_x, n), (low_y, high_y, m) = x, y
    apart = max(high_x - low_y, high_y - low_x)
    moved = gamma(2 * n + 3 + terms) * (high_x - low_x) + gamma(2 * m + 3 + terms) * (
        high_y - low_y
    )
    loss = gamma(3 * (n + m) + terms + 6) * value + (n + m) * 2.0**-22 * (1 + apart**p)
    if not matched:
        loss += p * apart ** (p - 1) * moved * (1 + gamma(8))
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
    nothing = transport_error.transport_bound(
        1e-9, p, (-0.3, 1.1, n), (0.2, 0.9, m), 4.7, False
    )
    assert (nothing.value, nothing.lower) == (1e-9, 0.0)


def ends(values):
    return float(min(values)), float(max(values)), len(values)


@pytest.mark.parametrize("p", [1.0, 2.0])
@pytest.mark.parametrize(
    ("first", "second", "same_factors", "matched"),
    [
        ("uniform", "uniform", None, True),
        (
            "uniform",
            "uniform",
            False,
            True,
        ),  # one number for all of them: any atoms pair off
        ("uniform", "other", None, False),
        ("unequal", "unequal", None, True),
        ("unequal", "unequal", True, True),
        ("unequal", "unequal", False, False),  # products that agree by chance
        ("unequal", "other", None, False),
        ("unequal", "other", True, False),
        ("unequal", "longer", None, False),
        ("unequal", "longer", True, False),
    ],
)
def test_atoms_of_equal_weights_are_matched(
    coarse, first, second, same_factors, matched, p
):
    weights = {
        "uniform": np.full(4, 0.25),
        "unequal": np.array([0.1, 0.2, 0.3, 0.4]),
        "other": np.array([0.2, 0.1, 0.3, 0.4]),
        "longer": np.array([0.1, 0.2, 0.3, 0.3, 0.1]),
    }
    x, y = np.array([0.7, -1.3, 0.2, 1.9]), np.array([0.9, -1.1, 0.3, 2.7, 0.31])
    a, b = weights[first], weights[second]
    y = y[: len(b)]
    value = float(one_dimensional.wasserstein(x, a, y, b, p))
    wanted = transported(value, p, ends(x), ends(y), 4.7, matched)
    found = transport_error.transport_on_line(x, a, y, b, p, 4.7, same_factors)
    assert numbers(found) == pytest.approx(numbers(wanted), rel=1e-13)


def test_products_are_matched_between_the_same_atoms_only(coarse):
    x, a = np.array([0.7, -1.3, 0.2]), np.array([0.2, 0.3, 0.5])
    order = np.array([2, 0, 1])
    y, b = x[order] + 0.7, a[order]
    for same_factors, matched in ((None, True), (True, False), (False, False)):
        found = transport_error.transport_on_line(x, a, y, b, same_factors=same_factors)
        wanted = transported(
            float(one_dimensional.wasserstein(x, a, y, b, 2.0)),
            2.0,
            ends(x),
            ends(y),
            0.0,
            matched,
        )
        assert numbers(found) == pytest.approx(numbers(wanted), rel=1e-13)


@pytest.mark.parametrize("sizes", [(5, 7), (7, 5), (1, 300), (400, 2)])
@pytest.mark.parametrize("below", [None, 0.3, "each"])
def test_values_of_potentials(coarse, rng, sizes, below):
    n, m = sizes
    costs, potential = 3 * rng.standard_normal(sizes), rng.standard_normal(m)
    a, b = rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m))
    below = rng.uniform(0, 1, sizes) if below == "each" else below
    lowered = costs - (0.0 if below is None else below)
    top = max(abs(v) for v in potential.tolist())
    dual = []
    for row in lowered.tolist():
        least = min(
            cost - price for cost, price in zip(row, potential.tolist(), strict=True)
        )
        dual.append(least - 6 * 2.0**-20 * (max(abs(cost) for cost in row) + top))
    reach = max(abs(v) for v in dual) + top
    wanted = sum(w * v for w, v in zip([*a, *b], [*dual, *potential], strict=True))
    wanted -= 2 * gamma(max(n, m) + 4.7 + 4) * reach + (n + m) * 2.0**-22
    arguments = (
        (costs, potential, a, b, 4.7)
        if below is None
        else (costs, potential, a, b, 4.7, below)
    )
    assert transport_error.dual_value(*arguments) == pytest.approx(wanted, rel=1e-11)


@pytest.mark.parametrize("size_of_costs", [1e-3, 1.0, 1e8])
@pytest.mark.parametrize("size_of_potentials", [1e-3, 1.0, 1e8])
@pytest.mark.parametrize("below", [0.0, 1e-3])
def test_values_of_potentials_are_below_exact_ones(
    size_of_costs, size_of_potentials, below
):
    """For the potentials that the second ones leave to the first space, and weights divided by their exact sums."""
    rng = np.random.default_rng(7)
    for _ in range(20):
        n, m = (int(v) for v in rng.integers(1, 8, 2))
        costs = size_of_costs * rng.standard_normal((n, m))
        potential = size_of_potentials * rng.standard_normal(m)
        a, b = ((1 + 2.0**-50) * rng.dirichlet(np.ones(k)) for k in (n, m))
        terms = max(float_error.weight_terms(w) for w in (a, b))
        found = transport_error.dual_value(costs, potential, a, b, terms, below)
        prices = [Fraction(v) for v in potential.tolist()]
        dual = [
            min(
                Fraction(cost) - Fraction(below) - price
                for cost, price in zip(row, prices, strict=True)
            )
            for row in costs.tolist()
        ]
        exact = Fraction(0)
        for weights, values in ((a, dual), (b, prices)):
            wide = [Fraction(w) for w in weights.tolist()]
            exact += sum(
                (w * v for w, v in zip(wide, values, strict=True)), Fraction(0)
            ) / sum(wide, Fraction(0))
        assert Fraction(found) <= exact
        assert float(exact) - found <= 200 * (terms + 20) * 2.0**-53 * (
            size_of_costs + size_of_potentials
        )
