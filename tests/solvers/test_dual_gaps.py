"""Gaps that potentials prove."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from gwtools.problems import GWProblem
from gwtools.solvers.dual_gaps import gap_of_objective, gap_with_entropy
from gwtools.solvers.entropic_state import unscaled
from gwtools.transport.sinkhorn import sinkhorn
from tests import checkers
from tests.solvers.test_base import arguments
from tests.strategies import coupled


@given(coupled(), st.integers(0, 10**6))
def test_theorem_8_gaps_from_potentials(instance, seed):
    """Any potentials prove gaps that are no smaller than the true ones."""
    x, y, plan = instance
    problem = GWProblem(x.space(), y.space())
    rng = np.random.default_rng(seed)
    dense = gw.DensePlan(plan)
    state = unscaled(problem, dense, 1.0, 1.0, proximal=False)
    size = max(np.abs(s.matrix).max() ** 2 for s in (x, y))
    state = state._replace(v=size * rng.standard_normal(y.size))
    true = checkers.frank_wolfe_gap(*arguments(x, y), plan)
    assert gap_of_objective(problem, state) >= true - 1e-11 * size
    # With entropy: the value at another coupling is no lower than the dual value.
    state = state._replace(epsilon=size + 1e-300)
    gradient = problem.gradient(state.cross)
    kernel = -gradient / state.epsilon
    scaling = sinkhorn(
        kernel,
        x.weights,
        y.weights,
        rng.standard_normal(x.size),
        rng.standard_normal(y.size),
        1.0,
    )
    gap = gap_with_entropy(problem, state, gradient, scaling)
    product = np.outer(x.weights, y.weights)

    def value(coupling):
        inside = np.where(coupling > 0, coupling, 1.0)
        return float(
            (coupling * gradient).sum()
            + state.epsilon * (coupling * np.log(inside / product)).sum()
        )

    assert gap >= value(plan) - value(product) - 1e-11 * size
