"""Theorem 18: the bound by minima over rows, below every plan of the marginals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

import gwtools as gw
from gwtools.bounds.row_minima import RowCosts, RowsSide
from tests import checkers, free_plans


def side(C, a):
    return RowsSide(C, a, 4.0, 0.0)


def least_of_rows(values, a, mass):
    """Min Σ w_k v_k over 0 ≤ w ≤ a of a given sum, by HiGHS."""
    bounds = list(zip(np.zeros(len(a)), a, strict=True))
    sums = np.ones((1, len(a)))
    return linprog(values, A_eq=sums, b_eq=[mass], bounds=bounds).fun


@pytest.mark.parametrize("mass", [1.0, 0.75, 0.1])
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6), metric=st.booleans())
def test_theorem_22_row_minima(mass, seed, metric):
    """Its value is that of the formula, and no plan is below it."""
    C, a, D, b, rng = free_plans.drawn(seed, metric, False, 3, 6)
    bound = RowCosts.of(side(C, a), side(D, b), mass).least()
    costs = np.empty((len(a), len(b)))
    for i, j in np.ndindex(*costs.shape):
        nearest = ((C[i][:, None] - D[j][None, :]) ** 2).min(axis=1)
        costs[i, j] = least_of_rows(nearest, a, mass)
    expected = least_of_rows(costs.min(axis=1), a, mass)
    assert bound.value == pytest.approx(expected, abs=1e-9)
    assert bound.lower <= bound.value
    assert bound.value - bound.lower <= 1e-10
    marginals = "semi_relaxed" if mass == 1.0 else gw.Partial(mass)
    for _ in range(5):
        plan = free_plans.random_plan(a, b, marginals, rng)
        assert bound.lower <= checkers.objective(C, D, plan)


def test_the_bound_is_sharp_for_one_atom():
    """C = [c] is sent to the nearest value of the diagonal of D."""
    C, D = np.array([[2.0]]), np.array([[0.0, 5.0], [5.0, 1.0]])
    x = gw.DenseSpace(C)
    result = gw.solve(x, gw.DenseSpace(D), marginals="semi_relaxed", effort="cubic")
    assert float(result.objective) == 1.0
    # All values of a row of D count for the bound: 2 is at 1 from 1.
    assert result.certificate.lower == pytest.approx(1.0)
    assert result.certificate.kind is gw.Kind.GLOBAL


def test_computed_entries_lower_the_bound_by_their_radius():
    C, a, D, b, _ = free_plans.drawn(1, False)
    exact = RowCosts.of(RowsSide(C, a, 4.0, 0.0), side(D, b), 1.0).least()
    loose = RowCosts.of(RowsSide(C, a, 4.0, 1e-3), side(D, b), 1.0).least()
    root = max(exact.lower**0.5 - 1e-3, 0.0)
    assert loose.lower == pytest.approx(root**2, rel=1e-9)
