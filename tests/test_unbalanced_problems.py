"""Theorem 18: the objective of unbalanced plans, and what its mass has to be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from gwtools.free_problems import FreeProblem
from gwtools.unbalanced_problems import (
    UnbalancedProblem,
    free_problem,
    least_of_mass,
)
from tests import checkers, free_plans, unbalanced_plans

KINDS = [gw.Unbalanced((0.2, 0.7)), gw.Unbalanced(0.3, "tv")]


@pytest.mark.parametrize("marginals", KINDS, ids=str)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6), mass=st.sampled_from([1e-3, 0.4, 1.0, 2.0]))
def test_theorem_18_unbalanced_objective(marginals, seed, mass):
    """Divergences of products of marginals are sums over pairs."""
    C, a, D, b, rng = free_plans.drawn(seed, zero_diagonal=False)
    problem = UnbalancedProblem(gw.DenseSpace(C, a), gw.DenseSpace(D, b), marginals)
    plan = mass * rng.dirichlet(np.full(len(a) * len(b), 0.3)).reshape(len(a), len(b))
    expected = unbalanced_plans.objective(C, a, D, b, plan, marginals)
    found = float(problem.objective(gw.DensePlan(plan)))
    assert found == pytest.approx(expected, rel=1e-11, abs=1e-14)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_theorem_18_mass_of_a_shape(seed):
    """s = exp(−L / 2(ρ₁ + ρ₂)) is best, and leaves (ρ₁ + ρ₂)(1 − s²)."""
    marginals = KINDS[0]
    C, a, D, b, rng = free_plans.drawn(seed)
    shape = rng.dirichlet(np.full(len(a) * len(b), 0.3)).reshape(len(a), len(b))
    (first, second), p, q = marginals.prices, shape.sum(1), shape.sum(0)
    value = checkers.objective(C, D, shape)
    value += 2 * first * float(p @ np.log(p / a)) + 2 * second * float(
        np.where(q > 0, q, 0) @ np.log(np.where(q > 0, q / b, 1))
    )
    total = first + second
    mass = np.exp(-value / (2 * total))
    least = unbalanced_plans.objective(C, a, D, b, mass * shape, marginals)
    assert least == pytest.approx(total * (1 - mass**2), rel=1e-9)
    for factor in (0.0, 0.9, 1.1):
        other = factor * mass * shape
        assert unbalanced_plans.objective(C, a, D, b, other, marginals) >= least


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), rho=st.sampled_from([1e-2, 1.0, 10.0]))
def test_theorem_18_total_variation_needs_no_mass_above_the_weights(seed, rho):
    """Scaled down to the weights, a plan is no worse, and pays for its mass alone."""
    marginals = gw.Unbalanced(rho, "tv")
    C, a, D, b, rng = free_plans.drawn(seed)
    plan = rng.dirichlet(np.full(len(a) * len(b), 0.3)).reshape(len(a), len(b))
    lower = plan * np.minimum(1, a / plan.sum(1))[:, None]
    lower = lower * np.minimum(1, b / np.maximum(lower.sum(0), 1e-300))[None, :]
    found = unbalanced_plans.objective(C, a, D, b, lower, marginals)
    assert found <= unbalanced_plans.objective(C, a, D, b, plan, marginals) + 1e-12
    paid = checkers.objective(C, D, lower) + 2 * rho * (1 - lower.sum())
    assert found == pytest.approx(paid, rel=1e-11)


@pytest.mark.parametrize("marginals", KINDS, ids=str)
def test_the_plan_without_mass_costs_the_prices(marginals):
    x = gw.as_space(1 - np.eye(3))
    problem = UnbalancedProblem(x, x, marginals)
    nothing = gw.DensePlan(np.zeros((3, 3)))
    assert float(problem.objective(nothing)) == pytest.approx(sum(marginals.prices))
    assert problem.price == pytest.approx(sum(marginals.prices))


def test_prices_change_with_the_units():
    x = gw.as_space(1 - np.eye(3))
    problem = free_problem(x, x, gw.Unbalanced((4.0, 8.0)), 2.0)
    assert problem.marginals == gw.Unbalanced((1.0, 2.0))
    assert type(free_problem(x, x, "semi_relaxed", 2.0)) is FreeProblem


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    mass=st.sampled_from([1e-3, 0.4, 1.0, 2.0]),
    shift=st.sampled_from([-2.0, 0.0, 0.5, 5.0]),
)
def test_theorem_18_no_mass_pays_less_than_the_least_cost_and_its_price(
    seed, mass, shift
):
    """min μ s + R (1 − s)², which is R where no mass is worth its cost."""
    C, a, D, b, rng = free_plans.drawn(seed, zero_diagonal=False)
    features = rng.random((len(a), len(b))) + shift
    prices = gw.Unbalanced((0.2, 0.7))
    x, y = gw.DenseSpace(C, a), gw.DenseSpace(D, b)
    problem = UnbalancedProblem(x, y, prices, features, 0.25)
    masses = np.linspace(0, 5, 5001)
    cost = 0.75 * features.min()
    expected = (cost * masses + 0.9 * (1 - masses) ** 2).min()
    assert least_of_mass(cost, 0.9) == pytest.approx(expected, abs=1e-6)
    assert problem.floor == pytest.approx(expected, abs=1e-6)
    plan = mass * rng.dirichlet(np.full(features.size, 0.3)).reshape(features.shape)
    value = unbalanced_plans.objective(C, a, D, b, plan, prices)
    value += 0.75 * ((features * plan).sum() - checkers.objective(C, D, plan))
    found = float(problem.objective(gw.DensePlan(plan)))
    assert found == pytest.approx(value, abs=1e-11 * (1 + abs(value)))
    assert problem.floor <= found
