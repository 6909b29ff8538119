"""Sums of squares over pairs of atoms, of plans of any marginals."""

import numpy as np
import pytest

import gwtools as gw
from gwtools.distortions import sum_of_squares
from tests import checkers, free_plans


@pytest.mark.parametrize("mass", [1.0, 0.3])
def test_sums_of_squares_of_plans_of_any_mass(mass):
    C, a, D, b, rng = free_plans.drawn(0, metric=False, zero_diagonal=False)
    masses = rng.dirichlet(np.ones(6)) * mass
    rows, cols = rng.integers(len(a), size=6), rng.integers(len(b), size=6)
    plan = gw.SparsePlan(rows, cols, masses, (len(a), len(b)))
    found = sum_of_squares(gw.DenseSpace(C, a), gw.DenseSpace(D, b), plan)
    expected = checkers.objective(C, D, np.asarray(plan))
    assert float(found) == pytest.approx(expected, rel=1e-13)
