"""Transport whose marginals have a price: against duality, SciPy's descent and POT."""

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr

from gwtools.transport.penalised import (
    dual_value,
    log_ratios,
    penalised,
    penalised_value,
    relative_entropy,
    soft_least,
)


def drawn(seed):
    rng = np.random.default_rng(seed)
    n, m = rng.choice(np.arange(2, 9), 2, replace=False)
    costs = rng.standard_normal((n, m))
    return costs, rng.dirichlet(np.full(n, 2.0)), rng.dirichlet(np.full(m, 2.0)), rng


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    first=st.sampled_from([1e-3, 0.1, 1.0, 1e3]),
    ratio=st.sampled_from([1.0, 5.0]),
)
def test_duality_closes_the_gap(seed, first, ratio):
    """No plan is below the dual value, which the solution attains."""
    costs, a, b, rng = drawn(seed)
    prices = (first, ratio * first)
    solved = penalised(costs, a, b, prices)
    assert solved.plan.sum() == pytest.approx(1, abs=1e-14)
    assert solved.plan.min() >= 0
    p, q = solved.plan.sum(1), solved.plan.sum(0)
    value = float((costs * solved.plan).sum())
    value += prices[0] * rel_entr(p, a).sum() + prices[1] * rel_entr(q, b).sum()
    assert value - solved.lower <= 1e-8
    assert solved.lower <= value + 1e-12
    for _ in range(5):
        other = rng.dirichlet(np.full(costs.size, 0.3)).reshape(costs.shape)
        assert penalised_value(costs, a, b, prices, other) >= solved.lower
        assert dual_value(costs, a, b, prices, other) <= value + 1e-10


def test_the_plan_is_that_of_transport_with_free_mass():
    """POT's multiplicative updates, whose plan of any mass is divided by it."""
    costs, a, b, _ = drawn(3)
    prices = (0.3, 0.7)
    other = ot.unbalanced.mm_unbalanced(
        a, b, costs - costs.min(), prices, div="kl", numItermax=20_000, stopThr=1e-14
    )
    solved = penalised(costs, a, b, prices)
    assert np.allclose(solved.plan, other / other.sum(), atol=1e-6)


def test_prices_that_are_high_leave_the_coupling_of_least_cost():
    costs, a, b, _ = drawn(4)
    solved = penalised(costs, a, b, (1e6, 1e6))
    assert np.allclose(solved.plan.sum(1), a, atol=1e-5)
    assert (costs * solved.plan).sum() == pytest.approx(ot.emd2(a, b, costs), abs=1e-4)


def test_entropies_keep_their_digits_near_the_weights():
    a = np.array([0.25, 0.75])
    off = np.array([1e-9, -1e-9])
    exact = 0.5 * (1e-18 / 0.25 + 1e-18 / 0.75)
    assert relative_entropy(a + off, a) == pytest.approx(exact, rel=1e-6)
    assert relative_entropy(np.array([0.0, 1.0]), a) == pytest.approx(np.log(4 / 3))
    assert log_ratios(np.array([1e-30, 0.75]), a)[0] == pytest.approx(
        np.log(1e-30) - np.log(0.25)
    )


def test_the_soft_minimum_is_the_least_of_a_linear_function_and_a_divergence():
    _, a, _, rng = drawn(5)
    f = rng.standard_normal(len(a))
    p = a * np.exp(-f / 0.4)
    p /= p.sum()
    expected = float(f @ p) + 0.4 * rel_entr(p, a).sum()
    assert soft_least(f, a, 0.4) == pytest.approx(expected, rel=1e-12)
    assert soft_least(f, a, 1e9) == pytest.approx(float(f @ a), abs=1e-8)


def test_no_row_and_no_column_is_emptied():
    """The slope of x log x at 0 has no end, so that far atoms keep a little mass."""
    costs, a, b, _ = drawn(6)
    costs[0] += 30.0
    costs[:, 1] += 30.0
    plan = penalised(costs, a, b, (0.5, 0.5)).plan
    assert plan.sum(1).min() > 0
    assert plan.sum(0).min() > 0
    assert plan.sum(1)[0] < 1e-9
