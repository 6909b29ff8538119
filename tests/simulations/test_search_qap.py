"""Quadratic assignment problems: symmetric, and solved as Gromov-Wasserstein."""

from itertools import permutations

import numpy as np
import pytest

import gwtools as gw
from simulations import search_qap
from simulations.search_qap import Assignment

INSTANCES = search_qap.instances()


@pytest.mark.parametrize("name", INSTANCES)
def test_instances_are_symmetric_and_the_same_again(name):
    problem, again = INSTANCES[name], search_qap.instances()[name]
    n = len(problem.flows)
    assert 12 <= n <= 30
    for matrix in (problem.flows, problem.distances):
        assert matrix.shape == (n, n)
        assert np.array_equal(matrix, matrix.T)
        assert not np.diag(matrix).any()
    assert np.array_equal(problem.flows, again.flows)
    assert np.array_equal(problem.distances, again.distances)


def test_cost_is_the_objective_up_to_what_no_coupling_changes(rng):
    problem = INSTANCES["like nug 3 x 4"]
    n = len(problem.flows)
    spaces = gw.DenseSpace(problem.flows), gw.DenseSpace(-problem.distances)
    gw_problem = gw.GWProblem(*spaces)
    rests = []
    for _ in range(3):
        places = rng.permutation(n)
        plan = np.zeros((n, n))
        plan[np.arange(n), places] = 1 / n
        value = float(gw_problem.objective(gw.DensePlan(plan)))
        rests.append(value - 2 / n**2 * problem.cost(places))
    assert rests == pytest.approx([rests[0]] * 3, rel=1e-12)


def test_both_ways_return_permutations_of_low_cost(rng):
    places = rng.random((5, 2))
    distances = np.abs(places[:, None] - places[None]).sum(axis=2)
    flows = rng.integers(1, 9, (5, 5)).astype(float)
    problem = Assignment(flows + flows.T, distances)
    costs = [problem.cost(np.array(p)) for p in permutations(range(5))]
    for way in (search_qap.by_search, search_qap.by_faq):
        found = way(problem)
        assert sorted(found.tolist()) == list(range(5))
        assert min(costs) * (1 - 1e-12) <= problem.cost(found)
        # The largest cost would be found under the other sign.
        assert problem.cost(found) <= np.quantile(costs, 0.25)


def test_faq_is_the_best_of_its_starts(monkeypatch):
    problem = INSTANCES["like had 12"]
    found, solve = [], search_qap.quadratic_assignment

    def recorded(*args, **options):
        found.append(solve(*args, **options))
        return found[-1]

    monkeypatch.setattr(search_qap, "quadratic_assignment", recorded)
    places = search_qap.by_faq(problem)
    assert len({result.fun for result in found}) > 1
    assert problem.cost(places) == min(result.fun for result in found)
