"""The semidefinite bound as a user calls it."""

import array_api_strict
import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings

import gwtools as gw
from gwtools import _memory
from gwtools.bounds import moment_matrix_values
from tests import checkers
from tests.bounds.test_every_bound import slack
from tests.strategies import coupled, known


@given(coupled(most=4, null=True))
@settings(max_examples=20)
def test_theorem_16_is_below_every_coupling(instance):
    x, y, plan = instance
    bound = float(gw.bounds.semidefinite(x.space(), y.space(), iterations=50))
    objective = checkers.objective(x.matrix, y.matrix, plan)
    assert bound <= objective + 10 * slack(x, y)
    third = float(gw.bounds.third(x.space(), y.space(), residual=True))
    assert bound >= third * (1 - 1e-9) - 10 * slack(x, y)


@given(known())
@settings(max_examples=10)
def test_theorem_16_is_below_known_answers(known):
    bound = gw.bounds.semidefinite(known.x.space(), known.y.space(), iterations=50)
    assert float(bound) <= known.value + 10 * slack(known.x, known.y)


def clouds(rng, n, m, weighted):
    def cloud(size, dimension):
        weights = rng.dirichlet(np.ones(size)) if weighted else None
        return gw.PointCloud(rng.standard_normal((size, dimension)), weights)

    return cloud(n, 2), cloud(m, 3)


@pytest.mark.parametrize(("n", "m", "weighted"), [(7, 7, False), (5, 7, True)])
def test_it_nearly_meets_the_objective_of_clouds(rng, n, m, weighted):
    x, y = clouds(rng, n, m, weighted)
    objective = float(gw.solve(x, y, gw.MultiStart(starts=40, seed=0)).objective)
    bound = float(gw.bounds.semidefinite(x, y, iterations=400))
    assert 0.985 * objective <= bound <= objective * (1 + 1e-9)
    assert bound > 1.1 * float(gw.bounds.third(x, y))


def test_regular_spaces():
    # A cycle against a complete graph of edges of length 1: constant row means.
    x = gw.GraphSpace(nx.cycle_graph(6))
    y = gw.DenseSpace(1.0 - np.eye(5))
    objective = float(gw.solve(x, y, gw.MultiStart(starts=20, seed=0)).objective)
    bound = float(gw.bounds.semidefinite(x, y, iterations=200))
    assert 0.9 * objective <= bound <= objective * (1 + 1e-9)


def test_copies_have_the_bound_zero(rng):
    x, _ = clouds(rng, 6, 2, True)
    order = rng.permutation(6)
    y = gw.PointCloud(x.data[order], x.weights[order])
    assert 0 <= float(gw.bounds.semidefinite(x, y, iterations=100)) <= 1e-12


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 3), (4, 1)])
def test_one_atom(rng, n, m):
    x, y = clouds(rng, n, m, True)
    product = np.outer(x.weights, y.weights)
    objective = checkers.objective(x.dense(), y.dense(), product)
    bound = float(gw.bounds.semidefinite(x, y))
    assert bound == pytest.approx(objective, rel=1e-12, abs=1e-14)


def test_two_atoms():
    x = gw.DenseSpace(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([0.3, 0.7]))
    y = gw.DenseSpace(np.array([[0.0, 2.0], [2.0, 0.0]]), np.array([0.6, 0.4]))
    grid = np.linspace(0, 0.3, 2001)
    plans = [np.array([[t, 0.3 - t], [0.6 - t, 0.1 + t]]) for t in grid]
    best = min(checkers.objective(x.dense(), y.dense(), plan) for plan in plans)
    bound = float(gw.bounds.semidefinite(x, y))
    assert 0.999 * best <= bound <= best * (1 + 1e-6)


def test_scales(rng):
    x, y = clouds(rng, 4, 5, True)
    value = float(gw.bounds.semidefinite(x, y, iterations=100))
    for power in (100, -100):
        scale = 2.0**power
        large = [gw.PointCloud(s.data * scale, s.weights) for s in (x, y)]
        bound = float(gw.bounds.semidefinite(*large, iterations=100))
        assert bound == pytest.approx(value * scale**2, rel=1e-6)


@pytest.mark.parametrize("module", [array_api_strict, torch])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_array_in_array_out(rng, module, dtype):
    x, y = clouds(rng, 4, 3, True)
    expected = float(gw.bounds.semidefinite(x, y, iterations=100))
    dtype = getattr(module, dtype)
    given = []
    for space in (x, y):
        data = module.asarray(space.data, dtype=dtype)
        weights = module.asarray(space.weights, dtype=dtype)
        given.append(gw.PointCloud(data, weights))
    bound = gw.bounds.semidefinite(*given, iterations=100)
    assert bound.dtype == dtype
    assert bound.shape == ()
    assert type(bound) is type(given[0].data)
    assert float(bound) == pytest.approx(expected, rel=1e-3)


def test_large_spaces_need_a_time_limit(rng):
    x, y = clouds(rng, 36, 35, False)
    with pytest.raises(ValueError, match=r"at most 1225 pairs .* 36 × 35 .* pass"):
        gw.bounds.semidefinite(x, y)


def test_a_time_limit_is_kept(rng, monkeypatch):
    # A clock that runs a second with each look at it.
    ticks = iter(range(10**6))
    monkeypatch.setattr(moment_matrix_values, "now", lambda: float(next(ticks)))
    monkeypatch.setattr("gwtools.bounds.moment_matrix.now", lambda: float(next(ticks)))
    x, y = clouds(rng, 5, 4, True)
    few = float(gw.bounds.semidefinite(x, y, time_limit=30.0))
    monkeypatch.setattr(moment_matrix_values, "_PAIRS_ON_CPU", 10)
    assert float(gw.bounds.semidefinite(x, y, time_limit=30.0)) == few
    assert next(ticks) < 100


def test_memory_is_asked_first(rng, monkeypatch):
    monkeypatch.setattr(_memory, "_of_the_machine", lambda: 1e9)
    x, y = clouds(rng, 90, 100, False)
    with pytest.raises(MemoryError, match="semidefinite"):
        gw.bounds.semidefinite(x, y, time_limit=1.0)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"iterations": -1}, ValueError, "iterations"),
        ({"iterations": 1.5}, ValueError, "iterations"),
        ({"time_limit": 0.0}, ValueError, "time_limit"),
        ({"time_limit": float("inf")}, ValueError, "time_limit"),
    ],
)
def test_options_are_checked(rng, options, error, words):
    x, y = clouds(rng, 3, 3, False)
    with pytest.raises(error, match=words):
        gw.bounds.semidefinite(x, y, **options)
