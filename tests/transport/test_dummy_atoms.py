"""Dummy atoms take what is not moved, and cost nothing."""

import numpy as np
from scipy.optimize import linprog

from gwtools.transport.dummy_atoms import with_dummies, without_dummies
from gwtools.transport.programs import exact


def test_a_part_of_the_mass_is_moved_at_the_least_cost():
    rng = np.random.default_rng(0)
    a, b = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(5))
    costs = rng.standard_normal((4, 5))
    mass = 0.6
    program = with_dummies(costs, a, b, 1 - mass, 2 - mass, 10.0)
    plan = without_dummies(exact(*program).plan, 2 - mass)
    moved = np.zeros(plan.size)
    moved[plan.rows, plan.cols] = plan.mass
    assert abs(moved.sum() - mass) <= 1e-12
    assert (moved.sum(axis=1) <= a + 1e-12).all()
    assert (moved.sum(axis=0) <= b + 1e-12).all()
    sums = np.vstack([np.kron(np.eye(4), np.ones(5)), np.kron(np.ones(4), np.eye(5))])
    expected = linprog(
        costs.ravel(),
        A_ub=sums,
        b_ub=np.concatenate([a, b]),
        A_eq=np.ones((1, 20)),
        b_eq=[mass],
    )
    assert abs((costs * moved).sum() - expected.fun) <= 1e-10
