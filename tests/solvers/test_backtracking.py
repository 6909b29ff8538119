"""Steps between couplings that are shortened until they do not climb."""

import numpy as np
import pytest

import gwtools as gw
from gwtools.problems import GWProblem
from gwtools.solvers.backtracking import shortened
from gwtools.solvers.entropic_state import unscaled
from tests.solvers.test_conditional_gradient import random_problem


def step_between(seed, proximal, epsilon=0.1):
    """A problem, a mixed coupling, and the better vertex of two."""
    drawn = random_problem("dense", 6, 6, seed)
    problem = GWProblem(*(gw.DenseSpace(s.matrix) for s in drawn))
    rng = np.random.default_rng(seed)
    vertices = [np.eye(6)[rng.permutation(6)] / 6 for _ in range(2)]
    plans = [0.5 * vertices[0] + 0.5 / 36, vertices[1]]
    return problem, *(
        unscaled(problem, gw.DensePlan(plan), epsilon, 1.0, proximal) for plan in plans
    )


@pytest.mark.parametrize("proximal", [True, False])
@pytest.mark.parametrize("seed", range(12))
def test_a_shortened_step_does_not_climb_where_one_descends(seed, proximal):
    problem, old, target = step_between(seed, proximal)
    found = shortened(target, problem, old, proximal)
    share = (found.matrix - old.matrix).sum(where=target.matrix > 0)
    whole = (target.matrix - old.matrix).sum(where=target.matrix > 0)
    if found.merit > old.merit:  # no step descends: the whole step is left as it is
        assert found is target
    else:
        assert 0 < share <= whole + 1e-12
    assert np.abs(found.matrix.sum(axis=1) - 1 / 6).max() <= 1e-15


@pytest.mark.parametrize("seed", [0, 2, 9, 10, 12, 14])
def test_the_parabola_of_the_objective_is_exact(seed):
    """One turn leads to the least value between both couplings, the second higher."""
    problem, old, target = step_between(seed, proximal=True)
    found = shortened(target, problem, old, proximal=True)
    assert target.merit > old.merit > found.merit
    for share in np.linspace(0, 1, 101):
        plan = (1 - share) * old.matrix + share * target.matrix
        state = unscaled(problem, gw.DensePlan(plan), 0.1, 1.0, proximal=True)
        assert found.merit <= state.merit + 1e-12
