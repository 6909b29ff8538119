"""Intervals of directed spaces and of other losses hold for every coupling."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from tests import channel_problems, checkers

KINDS = [("square", True), ("kl", True), ("kl", False), ("absolute", True)]


def row_costs(C, a, D, b, loss):
    """Least mean loss between rows, each by walking through both in order."""
    costs = np.zeros((len(C), len(D)))
    for i, j in itertools.product(range(len(C)), range(len(D))):
        costs[i, j] = sum(
            mass * channel_problems.LOSSES[loss](C[i, k], D[j, other])
            for k, other, mass in checkers.walk(C[i], a, D[j], b)
        )
    return costs


@pytest.mark.parametrize(("loss", "directed"), KINDS)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_bounds_are_those_of_rows_and_of_their_means(loss, directed, seed):
    C, a, D, b, rng = channel_problems.drawn(seed, loss, directed)
    x, y = channel_problems.spaces(C, a, D, b, directed)
    plan = channel_problems.random_plan(a, b, rng)
    found = gw.certify(x, y, plan, effort="cubic", loss=loss)
    objective = channel_problems.objective(C, D, np.asarray(plan), loss)
    size = max(1.0, objective)
    assert objective <= found.upper <= objective + 1e-11 * size
    # 1. Rows and columns.
    costs = row_costs(C, a, D, b, loss) + row_costs(C.T, a, D.T, b, loss)
    third = checkers.linear_program(costs / 2, a, b)
    assert found.bounds["third"] == pytest.approx(third, abs=1e-10 * size)
    assert found.bounds["third"] <= third + 1e-15 * size
    # 2. Their means.
    f, g = (C @ a, C.T @ a), (D @ b, D.T @ b)
    if loss == "square":
        gap = a @ C @ a - b @ D @ b
        costs = sum((p[:, None] - q - gap) ** 2 for p, q in zip(f, g, strict=True))
        means = gap**2 + checkers.linear_program(costs, a, b)
    else:
        losses = [
            channel_problems.LOSSES[loss](p[:, None], q)
            for p, q in zip(f, g, strict=True)
        ]
        means = checkers.linear_program(sum(losses) / 2, a, b)
    assert found.bounds["row_means"] == pytest.approx(means, abs=1e-10 * size)
    assert found.lower == max(found.bounds.values()) <= found.upper


@pytest.mark.parametrize("loss", ["square", "kl", "absolute"])
def test_no_bijection_is_below_the_interval(loss):
    for seed in range(2):
        rng = np.random.default_rng(seed)
        C, D = rng.random((4, 4)) + 0.1, rng.random((4, 4)) + 0.1
        x, y = (gw.DenseSpace(matrix, directed=True) for matrix in (C, D))
        best = channel_problems.best_permutation(C, D, loss)
        result = gw.solve(x, y, loss=loss, effort="cubic")
        assert result.certificate.lower <= best
        assert result.certificate.lower <= float(result.objective)
        assert float(result.objective) <= result.certificate.upper


def test_what_a_plan_misses_of_its_weights_is_charged():
    C, a, D, b, rng = channel_problems.drawn(1)
    x, y = channel_problems.spaces(C, a, D, b)
    plan = np.asarray(channel_problems.random_plan(a, b, rng))
    off = plan.copy()
    off[np.unravel_index(plan.argmax(), plan.shape)] -= 1e-4
    charged = gw.certify(x, y, off).upper
    largest = channel_problems.quadruples(C, D).max()
    # Both marginals miss 1e-4, which may be moved to the worst pairs of atoms.
    assert charged >= channel_problems.objective(C, D, off) + 2e-4 * largest
    assert charged <= channel_problems.objective(C, D, off) + 1e-3 * largest


def test_without_a_plan_it_is_that_of_the_product_coupling():
    C, a, D, b, _ = channel_problems.drawn(2)
    x, y = channel_problems.spaces(C, a, D, b)
    found = gw.certify(x, y)
    product = channel_problems.objective(C, D, np.outer(a, b))
    assert product <= found.upper <= product * (1 + 1e-10)
    assert found.kind is gw.Kind.LOWER


@pytest.mark.parametrize("unit", [1e-150, 1e-3, 1e140])
def test_units_change_nothing_but_units(unit):
    C, a, D, b, rng = channel_problems.drawn(3)
    plan = channel_problems.random_plan(a, b, rng)
    here = gw.certify(*channel_problems.spaces(C, a, D, b), plan, effort="cubic")
    there = gw.certify(
        *channel_problems.spaces(unit * C, a, unit * D, b), plan, effort="cubic"
    )
    for name in here.bounds:
        expected = here.bounds[name] * unit * unit
        assert there.bounds[name] == pytest.approx(expected, rel=1e-9, abs=1e-320)
    assert there.upper == pytest.approx(here.upper * unit * unit, rel=1e-9)


def test_paths_with_rounded_sums_are_widened_by_their_float_error():
    import scipy.sparse as sp

    lengths = np.array([[0, 0.1, 0], [0, 0, 0.7], [0.3, 0, 0]])
    x = gw.GraphSpace(sp.csr_array(lengths), directed=True)
    assert x.float_operations > 0
    result = gw.solve(x, x)
    assert float(result.objective) == 0.0
    # The exact sums differ from the rounded ones, so that the upper end is above 0.
    assert 0 < result.certificate.upper < 1e-12
    assert result.certificate.kind is gw.Kind.GLOBAL


@pytest.mark.parametrize("features", [False, True])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("effort", ["linear", "quadratic"])
@pytest.mark.parametrize("kind", ["directed", "kl", "absolute", "edges"])
def test_against_one_point_intervals_are_closed(kind, effort, turned, features, rng):
    C = rng.random((5, 5, 2) if kind == "edges" else (5, 5))
    D = np.full((1, 1, 2) if kind == "edges" else (1, 1), 0.3)
    a = rng.dirichlet(np.ones(5))
    x = gw.DenseSpace(C, weights=a, directed=True)
    y = gw.DenseSpace(D, directed=True)
    loss = kind if kind in channel_problems.LOSSES else "square"
    plan = a[:, None]
    costs = rng.random((5, 1))
    if turned:
        x, y, plan, costs = y, x, plan.T, costs.T
    options = {"features": costs, "alpha": 0.4} if features else {}
    found = gw.certify(x, y, plan, effort=effort, loss=loss, **options)
    assert found.kind is gw.Kind.GLOBAL
    assert found.upper - found.lower <= found.rounding <= 1e-10
