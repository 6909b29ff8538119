"""Every bound: its value by plain loops, below couplings, blind to labels.

Where the answer is known, bounds stay below it.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from tests import checkers
from tests.strategies import (
    Drawn,
    coupled,
    known,
    orders,
    pairs,
    permuted_copies,
)

NAMES = sorted(checkers.BOUNDS)


def slack(*drawn: Drawn, p: float = 2.0) -> float:
    """What rounding may do to a value of these spaces."""
    return 1e-12 * max(1e-300, max(np.abs(s.matrix).max() for s in drawn)) ** p


def arguments(x: Drawn, y: Drawn) -> tuple[np.ndarray, ...]:
    return x.matrix, x.weights, y.matrix, y.weights


def value(name: str, x: Drawn, y: Drawn, **options: float) -> float:
    return float(getattr(gw.bounds, name)(x.space(), y.space(), **options))


def sorting(x: Drawn, y: Drawn) -> np.ndarray:
    plan = np.zeros((x.size, y.size))
    for i, j, mass in checkers.walk(
        x.matrix @ x.weights, x.weights, y.matrix @ y.weights, y.weights
    ):
        plan[i, j] += mass
    return plan


@pytest.mark.parametrize("name", NAMES)
@given(pairs(null=True))
def test_values_are_those_of_the_checker(name, pair):
    x, y = pair
    expected = checkers.BOUNDS[name](*arguments(x, y))
    assert value(name, x, y) == pytest.approx(expected, rel=1e-10, abs=slack(x, y))


@pytest.mark.parametrize("name", NAMES)
@given(coupled(null=True))
def test_bounds_are_below_every_coupling(name, instance):
    x, y, plan = instance
    assert value(name, x, y) <= checkers.objective(x.matrix, y.matrix, plan) + slack(
        x, y
    )


@pytest.mark.parametrize("name", NAMES)
@given(known())
def test_bounds_are_below_known_answers(name, known):
    assert value(name, known.x, known.y) <= known.value + slack(known.x, known.y)


@given(known())
def test_known_answers_are_attained_by_their_couplings(known):
    assert (
        checkers.coupling_error(known.plan, known.x.weights, known.y.weights) <= 1e-15
    )
    found = checkers.objective(known.x.matrix, known.y.matrix, known.plan)
    assert found == pytest.approx(known.value, rel=1e-12, abs=slack(known.x, known.y))


@pytest.mark.parametrize("name", NAMES)
@given(pairs(null=True))
def test_bounds_are_symmetric_in_the_spaces(name, pair):
    x, y = pair
    assert value(name, x, y) == pytest.approx(
        value(name, y, x), rel=1e-12, abs=slack(x, y)
    )


@pytest.mark.parametrize("name", NAMES)
@given(pairs(null=True), st.data())
def test_bounds_do_not_depend_on_labels(name, pair, data):
    x, y = pair
    order = np.array(data.draw(orders(x.size)))
    assert value(name, x.take(order), y) == pytest.approx(
        value(name, x, y), rel=1e-12, abs=slack(x, y)
    )


@pytest.mark.parametrize("name", NAMES)
@given(permuted_copies())
def test_bounds_of_a_permuted_copy_are_zero(name, known):
    assert value(name, known.x, known.y) <= slack(known.x)


def test_bounds_of_memoli_go_by_their_names_too():
    assert (gw.bounds.flb, gw.bounds.slb, gw.bounds.tlb) == (
        gw.bounds.first,
        gw.bounds.second,
        gw.bounds.third,
    )
