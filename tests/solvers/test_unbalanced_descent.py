"""Theorem 18: descents over shapes never rise and end where no shape promises less."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr

import gwtools as gw
from gwtools.solvers.unbalanced_descent import UnbalancedDescent
from gwtools.unbalanced_problems import UnbalancedProblem
from tests import checkers, free_plans, unbalanced_plans


def problem_of(seed, marginals):
    C, a, D, b, rng = free_plans.drawn(seed)
    problem = UnbalancedProblem(gw.DenseSpace(C, a), gw.DenseSpace(D, b), marginals)
    return problem, C, a, D, b, rng


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rho=st.sampled_from([1e-3, 0.1, (1.0, 3.0), 1e6]),
    softness=st.sampled_from([0.0, 0.2]),
)
def test_theorem_18_unbalanced_descent(seed, rho, softness):
    """No step rises, and no probability promises less than the gap."""
    marginals = gw.Unbalanced(rho)
    problem, C, a, D, b, rng = problem_of(seed, marginals)
    start = gw.DensePlan(
        rng.dirichlet(np.full(len(a) * len(b), 0.5)).reshape(len(a), len(b))
    )
    descent = UnbalancedDescent(first=start, softness=softness)
    outcome = descent.run(problem)
    steps = [step.objective for step in outcome.history]
    assert all(np.diff(steps) <= 1e-15 * sum(marginals.prices))
    plan = np.asarray(outcome.plan)
    found = unbalanced_plans.objective(C, a, D, b, plan, marginals)
    float_error = 1e-9 * max(1.0, 1e-5 * sum(marginals.prices))
    if softness == 0.0:
        first = unbalanced_plans.objective(C, a, D, b, start.dense(), marginals)
        assert found <= first + float_error
    assert found <= sum(marginals.prices) + float_error
    # Linearised at the shape, L is no lower at other shapes.
    shape = plan / plan.sum()
    slope = checkers.gradient(C, D, shape)

    def linearised(other):
        p, q = other.sum(1), other.sum(0)
        penalties = marginals.prices[0] * rel_entr(p, a).sum()
        penalties += marginals.prices[1] * rel_entr(q, b).sum()
        return float((slope * other).sum()) + 2 * penalties

    least = linearised(shape)
    for _ in range(5):
        other = rng.dirichlet(np.full(plan.size, 0.5)).reshape(plan.shape)
        for share in (1.0, 1e-3):
            mixed = (1 - share) * shape + share * other
            assert linearised(mixed) >= least - 1e-7 - float_error


def test_a_start_of_any_mass_is_taken_by_its_shape():
    problem, *_, rng = problem_of(1, gw.Unbalanced(0.2))
    matrix = rng.random(problem.shape)
    plans = [
        UnbalancedDescent(first=gw.DensePlan(mass * matrix)).run(problem).plan.dense()
        for mass in (1e-3, 5.0)
    ]
    assert np.allclose(*plans, atol=1e-9)


def test_iterations_run_out():
    problem, *_ = problem_of(2, gw.Unbalanced(0.2))
    product = gw.DensePlan(np.outer(problem.x.weights, problem.y.weights))
    outcome = UnbalancedDescent(first=product, max_iterations=1).run(problem)
    assert outcome.status is gw.Status.MAX_ITERATIONS
    assert outcome.iterations == 1
