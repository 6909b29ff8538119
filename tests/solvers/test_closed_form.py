"""Sorted: the closed forms as estimates, with the sorting coupling as the plan."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from tests import checkers
from tests.bounds.test_moments_rank_one import SEEDS, gram, lists
from tests.bounds.test_moments_rank_one import scale as of_lists
from tests.solvers.test_conditional_gradient import arguments, scale
from tests.strategies import couplings, orders, pairs, vertex
from tests.test_check import refused

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


@given(SEEDS, st.sampled_from([1.0, 1e-70, 1e70]))
def test_theorem_12_sorted_solves_numbers_and_proves_it(seed, unit):
    h, a, k, b = lists(seed)
    near = seed % 5 == 0
    if near:
        k, b = -h[::-1] * (1 + 1e-9), a[::-1].copy()
    x, y = gram(h * unit, a), gram(k * unit, b)
    result = gw.solve(x, y, gw.Sorted("rank_one"))
    assert result.status is gw.Status.CLOSED_FORM
    slack = 1e-12 * of_lists(h, a, k, b)
    # Nearly equal spaces: upper ends from low-rank forms are not as sharp as lower.
    assert result.certificate.kind is gw.Kind.GLOBAL or near
    assert result.certificate.gap / unit**2 / unit**2 <= 100 * slack
    C, D = np.outer(h, h), np.outer(k, k)
    best = min(
        checkers.objective(C, D, vertex(a, b, np.argsort(h), np.argsort(sign * k)))
        for sign in (1, -1)
    )
    for value in (result.estimate, result.objective):
        assert float(value) / unit**2 / unit**2 == pytest.approx(
            best, rel=1e-9, abs=slack
        )
    plan = result.plan.dense()
    assert checkers.coupling_error(plan, a, b) <= 1e-12


def test_sorted_takes_the_better_of_both_ways_to_sort():
    # Both sums are positive, so that row means sort these alike; against is better.
    h, k = np.array([-3.0, 0.1, 3.0]), np.array([-2.95, -0.05, 3.05])
    x, y = gram(h, np.full(3, 1 / 3)), gram(k, np.full(3, 1 / 3))
    by_row_means = gw.solve(x, y, gw.Sorted())
    found = gw.solve(x, y, gw.Sorted("rank_one"))
    assert np.asarray(by_row_means.plan) == pytest.approx(np.eye(3) / 3)
    assert np.asarray(found.plan) == pytest.approx(np.eye(3)[::-1] / 3)
    assert float(found.objective) < 0.5 * float(by_row_means.objective)


def test_rank_one_in_batches_and_in_other_libraries():
    torch = pytest.importorskip("torch")
    h, a, k, b = lists(7)
    solver = gw.Sorted("rank_one")
    alone = gw.solve(gram(h, a), gram(k, b), solver)
    spaces = [gram(h, a), gram(k, b)]
    together = gw.solve_batch(spaces, spaces[::-1], solver)
    assert together[0].as_dict() == alone.as_dict()
    factor = torch.tensor(h[None, :], requires_grad=True)
    x = gw.GramSpace(factor, torch.tensor(a))
    y = gw.GramSpace(torch.tensor(k[None, :]), torch.tensor(b))
    result = gw.solve(x, y, solver)
    # Gradients of the estimate and of the objective of its plan are the same.
    of_estimate, of_objective = (
        torch.autograd.grad(value, factor, retain_graph=True)[0]
        for value in (result.estimate, result.objective)
    )
    torch.testing.assert_close(of_estimate, of_objective)
    found = float(result.objective.detach())
    assert found == pytest.approx(float(alone.objective))


def test_spaces_of_other_kinds_are_refused_by_rank_one():
    h = np.array([1.0, 2.0, 3.0])
    x, solver = gw.GramSpace(h[None, :]), gw.Sorted("rank_one")
    dense = gw.DenseSpace(np.outer(h, h))
    two_rows = gw.GramSpace(np.stack([h, h]))
    for pair, name, received in (
        ((dense, x), "x", "DenseSpace(size=3"),
        ((x, two_rows), "y", "a factor of 2 rows"),
    ):
        refused(
            lambda pair=pair: gw.solve(*pair, solver),
            ValueError,
            f"{name} must be a gwtools.GramSpace with a factor of one row",
            received,
            "gwtools.GramSpace(h[None, :])",
            'gwtools.Sorted("spectral")',
        )
    refused(
        lambda: gw.solve_batch([x], [dense], solver),
        ValueError,
        "xs[0] and ys[0]: y must be a gwtools.GramSpace",
    )
