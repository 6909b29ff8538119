"""Sorted: the closed forms as estimates, with the sorting coupling as the plan."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from tests import checkers
from tests.solvers.test_conditional_gradient import arguments, scale
from tests.strategies import couplings, orders, pairs

KINDS = {
    "row_means": (checkers.row_means, 1.0),
    "norm": (checkers.norm_bound, 2.0),
    "spectral": (checkers.spectral, 2.0),
}


@pytest.mark.parametrize("kind", KINDS)
@given(pair=pairs(null=True))
def test_estimate_is_the_closed_form_and_the_result_holds(kind, pair):
    x, y = pair
    result = gw.solve(x.space(), y.space(), gw.Sorted(kind=kind))
    expected = KINDS[kind][0](*arguments(x, y), *([1.0] if kind == "row_means" else []))
    unit = scale(x, y) ** (KINDS[kind][1] / 2)
    assert float(result.estimate) == pytest.approx(
        expected, rel=1e-10, abs=1e-12 * unit
    )
    checkers.check_result(result, *arguments(x, y))
    assert result.status is gw.Status.CLOSED_FORM
    assert result.iterations == 0
    assert result.frank_wolfe_gap is None


@given(pairs(null=True), st.sampled_from([1.0, 1.5, 2.0, 3.0]), st.data())
def test_estimate_of_power_p_is_below_every_coupling(pair, p, data):
    x, y = pair
    plan = data.draw(couplings(x.weights, y.weights))
    estimate = float(gw.solve(x.space(), y.space(), gw.Sorted(p=p)).estimate)
    assert estimate <= checkers.objective(x.matrix, y.matrix, plan, p) + 1e-12 * scale(
        x, y
    ) ** (p / 2)


@given(pairs(generic=True))
def test_plan_is_comonotone_in_the_row_means(pair):
    x, y = pair
    plan = gw.solve(x.space(), y.space(), gw.Sorted()).plan.dense()
    cost = (x.matrix @ x.weights)[:, None] - (y.matrix @ y.weights)[None, :]
    expected = checkers.line(
        x.matrix @ x.weights, x.weights, y.matrix @ y.weights, y.weights, 2
    )
    assert float((plan * cost**2).sum()) == pytest.approx(
        expected, rel=1e-9, abs=1e-12 * scale(x, y)
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factor", [2.0**490, 2.0**-490, 1e150, 1e-150])
@given(pair=pairs(generic=True))
def test_estimate_scales_with_its_own_power(kind, factor, pair):
    x, y = pair
    here, there = (
        float(gw.solve(s.space(), t.space(), gw.Sorted(kind=kind)).estimate)
        for s, t in ((x, y), (x.scaled(factor), y.scaled(factor)))
    )
    back = there / factor if KINDS[kind][1] == 1.0 else there / factor / factor
    assert back == pytest.approx(
        here, rel=1e-9, abs=1e-12 * scale(x, y) ** (KINDS[kind][1] / 2)
    )


@given(pairs(generic=True), st.data())
def test_estimate_does_not_depend_on_labels_or_on_the_order_of_the_spaces(pair, data):
    x, y = pair
    order = np.array(data.draw(orders(x.size)))
    found = [
        float(gw.solve(s.space(), t.space(), gw.Sorted()).estimate)
        for s, t in ((x, y), (x.take(order), y), (y, x))
    ]
    assert np.ptp(found) <= 1e-12 * scale(x, y) ** 0.5
