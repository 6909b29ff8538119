"""Other libraries on one pair: starts, plans and objectives."""

import numpy as np
import pytest

from simulations import search_families, search_peers
from tests import checkers

PAIR = search_families.draw("star of 75 against 45 of it", 200)


def value(plan):
    return search_peers.objective(PAIR, plan)


def test_objective_is_the_definition(rng):
    a, b = search_families.weights(PAIR)
    plan = search_peers.random_coupling(rng, a, b)
    assert plan.sum() == pytest.approx(1, abs=1e-12)
    assert value(plan) == pytest.approx(checkers.objective(PAIR.C, PAIR.D, plan))


def test_best_of_starts_is_the_least_of_them():
    few, more = (search_peers.pot_best_of(PAIR, k, 0)() for k in (2, 6))
    assert value(more) <= value(few)
    assert np.array_equal(few, search_peers.pot_best_of(PAIR, 2, 0)())


def test_tuned_plan_is_no_worse_than_the_product_and_refines():
    plan = search_peers.tuned(PAIR, 0, quick=True)()
    product = np.outer(*search_families.weights(PAIR))
    assert value(plan) < value(product)
    refined = search_peers.pot(PAIR, plan)()
    assert value(refined) <= value(plan)


def test_ott_finds_a_coupling():
    pytest.importorskip("ott")
    plan = search_peers.ott(PAIR)()
    a, _ = search_families.weights(PAIR)
    assert np.abs(plan.sum(axis=1) - a).sum() <= 1e-2
