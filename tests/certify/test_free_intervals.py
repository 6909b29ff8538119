"""Certificates of plans with free marginals, against rational arithmetic."""

from decimal import Decimal, getcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from gwtools.certify.free_intervals import free_interval
from tests import checkers, free_plans

KINDS = ["semi_relaxed", gw.Partial(0.6)]


def certificate_of(C, a, D, b, plan, marginals, effort="linear"):
    x, y = gw.DenseSpace(C, a), gw.DenseSpace(D, b)
    return free_interval(x, y, plan, marginals, effort, 0.0).certificate


@pytest.mark.parametrize("marginals", KINDS, ids=str)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), dense=st.booleans())
def test_theorem_22_upper_end(marginals, seed, dense):
    """It is above the plan's exact objective, and not much."""
    C, a, D, b, rng = free_plans.drawn(seed, least=3, most=6)
    if marginals == "semi_relaxed":
        b = np.full(len(b), 1 / len(b))
    matrix = free_plans.random_plan(a, b, marginals, rng)
    if not dense:
        # One atom of y for each of x.
        matrix = matrix * (matrix == matrix.max(axis=1, keepdims=True))
        if marginals == "semi_relaxed":
            matrix *= (a / matrix.sum(axis=1))[:, None]
        else:
            marginals = gw.Partial(float(matrix.sum()))
    plan = gw.DensePlan(matrix)
    certificate = certificate_of(C, a, D, b, plan, marginals)
    exact = checkers.exact_objective(C, D, matrix)
    assert Fraction(certificate.upper) >= exact
    assert certificate.upper <= float(exact) * (1 + 1e-9) + 1e-9
    assert certificate.lower == 0
    assert certificate.bound == "nonnegativity"


def test_matrices_of_many_masses_are_rounded_up_too():
    rng = np.random.default_rng(0)
    C, D = (checkers.euclidean(rng.standard_normal((k, 2))) for k in (12, 14))
    a, b = rng.dirichlet(np.ones(12)), np.full(14, 1 / 14)
    matrix = np.outer(a, b)
    certificate = certificate_of(C, a, D, b, gw.DensePlan(matrix), "semi_relaxed")
    exact = checkers.exact_objective(C, D, matrix)
    assert exact <= Fraction(certificate.upper) <= exact * (1 + Fraction(1, 10**9))


def test_what_a_plan_misses_widens_the_interval():
    C, a, D, _, _ = free_plans.drawn(2)
    b = np.full(len(D), 1 / len(D))
    matrix = np.outer(a, b)
    right = certificate_of(C, a, D, b, gw.DensePlan(matrix), "semi_relaxed")
    off = gw.DensePlan(matrix * (1 - 1e-6))
    widened = certificate_of(C, a, D, b, off, "semi_relaxed")
    # The nearest plan of the marginals is covered, which is 1e-6 away.
    assert widened.upper >= checkers.objective(C, D, matrix)
    assert widened.upper <= right.upper + 1e-4 * np.abs(C).max() ** 2


@pytest.mark.parametrize("penalty", ["kl", "tv"])
@pytest.mark.parametrize("rho", [1e-3, 1.0, 1e6])
def test_theorem_18_upper_end_of_unbalanced_plans(penalty, rho):
    """Above the exact objective with its penalties, in decimals of 60 digits."""
    marginals = gw.Unbalanced(rho, penalty)
    getcontext().prec = 60
    for seed in range(3):
        C, a, D, b, rng = free_plans.drawn(seed, least=3, most=6)
        x, y = gw.DenseSpace(C, a), gw.DenseSpace(D, b)
        matrix = rng.dirichlet(np.ones(len(a) * len(b))).reshape(len(a), len(b))
        matrix = (0.2 + 0.3 * seed) * matrix
        exact = decimal(checkers.exact_objective(C, D, matrix))
        for sums, weights in ((matrix, x.weights), (matrix.T, y.weights)):
            p = [sum(map(Fraction, row.tolist())) for row in sums]
            total = sum(map(Fraction, weights.tolist()))
            w = [Fraction(weight) / total for weight in weights.tolist()]
            if penalty == "tv":
                size = decimal(sum(abs(k - h) for k, h in zip(p, w, strict=True)))
            else:
                mass = decimal(sum(p))
                size = (
                    1
                    - mass**2
                    + 2
                    * mass
                    * sum(
                        decimal(k) * decimal(k / h).ln()
                        for k, h in zip(p, w, strict=True)
                    )
                )
            exact += Decimal(rho) * size
        plan = gw.DensePlan(matrix)
        interval = free_interval(x, y, plan, marginals, "linear", 0.0).certificate
        assert Decimal(interval.upper) >= exact
        assert interval.upper <= float(exact) * (1 + 1e-9) + 1e-9 * rho
        assert interval.lower == 0


def decimal(value):
    """A fraction in decimals."""
    return Decimal(value.numerator) / Decimal(value.denominator)


def test_against_one_point_the_interval_is_closed(rng):
    C = rng.random((5, 5))
    C = C + C.T
    x = gw.DenseSpace(C, weights=rng.dirichlet(np.ones(5)))
    point = gw.DenseSpace(np.array([[0.3]]))
    result = gw.solve(x, point, marginals="semi_relaxed", effort="linear")
    assert result.certificate.kind is gw.Kind.GLOBAL
    # All mass of the point may go to any one atom.
    result = gw.solve(point, x, marginals="semi_relaxed", effort="linear")
    assert result.certificate.lower <= min((C.diagonal() - 0.3) ** 2)


def test_only_cubic_efforts_compute_the_bound_by_minima():
    C, a, D, b, _ = free_plans.drawn(3)
    x, y = gw.DenseSpace(C, a), gw.DenseSpace(D, b)
    for effort in ("linear", "quadratic", "cubic", "quartic"):
        result = gw.solve(x, y, marginals=gw.Partial(0.9), effort=effort)
        has_bound = effort in ("cubic", "quartic")
        assert ("third" in result.certificate.bounds) is has_bound
        assert ("third" in result.certificate.seconds) is has_bound


def test_partial_plans_have_the_bound_of_the_better_side():
    """A single atom of x is far from all of y, whose rows alone tell less."""
    rng = np.random.default_rng(1)
    C, D = rng.random((6, 6)), 3 + rng.random((5, 5))
    C, D = C + C.T, D + D.T
    a, b = rng.dirichlet(np.ones(6)), rng.dirichlet(np.ones(5))
    plan = gw.DensePlan(0.8 * np.outer(a, b))
    values = [
        certificate_of(*first, *second, transposed, gw.Partial(0.8), "cubic").lower
        for first, second, transposed in (
            ((C, a), (D, b), plan),
            ((D, b), (C, a), gw.DensePlan(plan.dense().T.copy())),
        )
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-12)
    assert values[0] > 0
