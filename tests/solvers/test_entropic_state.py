"""States of the Sinkhorn solver."""

import numpy as np
import pytest
from hypothesis import given
from scipy.special import rel_entr

import gwtools as gw
from gwtools.problems import GWProblem
from gwtools.solvers import entropic_state
from tests import checkers
from tests.strategies import coupled


@pytest.mark.parametrize("proximal", [True, False])
@given(instance=coupled())
def test_the_merit_is_the_objective_with_the_entropy(proximal, instance):
    x, y, plan = instance
    problem = GWProblem(x.space(), y.space())
    dense = gw.DensePlan(plan)
    state = entropic_state.unscaled(problem, dense, 0.5, 1.0, proximal)
    product = np.outer(x.weights, y.weights)
    objective = checkers.objective(x.matrix, y.matrix, plan)
    expected = objective - checkers.objective(x.matrix, y.matrix, product)
    if not proximal:
        expected += 0.5 * rel_entr(plan, product).sum()
    size = 1 + max(np.abs(s.matrix).max() ** 2 for s in (x, y))
    assert state.merit == pytest.approx(expected, abs=1e-11 * size)
    assert state.status is None
    assert state.frank_wolfe_gap is None


def test_a_code_is_the_position_of_its_status():
    x = gw.as_space(1 - np.eye(3))
    problem = GWProblem(x, x)
    plan = gw.DensePlan(np.full((3, 3), 1 / 9))
    state = entropic_state.unscaled(problem, plan, 1.0, 0.0, proximal=True)
    for code, status in enumerate(entropic_state.STATUSES):
        assert state._replace(code=float(code)).status is status


@pytest.mark.parametrize("missed", [True, False])
@pytest.mark.parametrize("error", [1e-9, 1.0])
def test_float_errors_excuse_a_thousandth_of_the_mass_at_most(missed, error):
    rest = entropic_state.Rest(True, missed, error)
    assert rest.misplaced == min(error, 1e-3)
    status = entropic_state.STATUSES[int(rest.failure)]
    expected = gw.Status.SCALING_UNFINISHED if missed else gw.Status.NOT_STATIONARY
    assert status is expected


def test_masses_without_a_logarithm_have_the_least_one():
    least = np.finfo(float).smallest_normal
    found = entropic_state.log_masses(np.array([[0.0, 1.0]]))
    assert np.array_equal(found, [[np.log(least), 0.0]])
