"""Theorem 7: the second and third lower bounds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from tests import checkers
from tests.strategies import Drawn, coupled, known, pairs, spaces

POWERS = st.sampled_from([1.0, 1.5, 2.0, 3.0])


BOTH = {"third": False, "residual_third": True}


def slack(*drawn: Drawn, p: float = 2.0) -> float:
    return 1e-12 * max(1e-300, max(np.abs(s.matrix).max() for s in drawn)) ** p


def row_costs(C, a, D, b, p):
    return np.array([[checkers.line(row, a, other, b, p) for other in D] for row in C])


def third(x: Drawn, y: Drawn, p: float, residual: bool) -> float:
    a, b, kept_x, kept_y = x.weights, y.weights, x.weights > 0, y.weights > 0
    if not residual:
        costs, constant = row_costs(x.matrix, a, y.matrix, b, p), 0.0
    else:
        (m_C, alpha, R), (m_D, beta, S) = (
            checkers.parts(s.matrix, s.weights) for s in (x, y)
        )
        costs = 2 * (alpha[:, None] - beta) ** 2 + row_costs(R, a, S, b, 2)
        constant = (m_C - m_D) ** 2
    return constant + checkers.linear_program(
        costs[np.ix_(kept_x, kept_y)], a[kept_x], b[kept_y]
    )


def second(x: Drawn, y: Drawn, p: float) -> float:
    lists = ((s.matrix.ravel(), np.outer(s.weights, s.weights).ravel()) for s in (x, y))
    (C, a), (D, b) = lists
    return checkers.line(C, a, D, b, p)


@given(pairs(null=True), POWERS)
def test_theorem_7_second(pair, p):
    x, y = pair
    expected = second(x, y, p)
    found = gw.bounds.second(x.space(), y.space(), p)
    assert float(found) == pytest.approx(expected, rel=1e-9, abs=10 * slack(x, y, p=p))
    assert float(gw.bounds.second(y.space(), x.space(), p)) == pytest.approx(
        expected, rel=1e-9, abs=10 * slack(x, y, p=p)
    )


@given(pairs(null=True, most=5), POWERS)
def test_theorem_7_third(pair, p):
    x, y = pair
    found = float(gw.bounds.third(x.space(), y.space(), p))
    assert found == pytest.approx(
        third(x, y, p, False), rel=1e-8, abs=100 * slack(x, y, p=p)
    )


@given(pairs(null=True, most=5))
def test_theorem_7_residual_third(pair):
    x, y = pair
    found = float(gw.bounds.third(x.space(), y.space(), residual=True))
    assert found == pytest.approx(third(x, y, 2, True), rel=1e-8, abs=100 * slack(x, y))


@given(coupled(null=True), POWERS)
def test_theorem_7_below_every_coupling(instance, p):
    x, y, plan = instance
    reached = checkers.objective(x.matrix, y.matrix, plan, p) + 10 * slack(x, y, p=p)
    spaces = x.space(), y.space()
    found = float(gw.bounds.second(*spaces, p)), float(gw.bounds.third(*spaces, p))
    assert found[0] <= found[1] + 10 * slack(x, y, p=p)
    assert found[1] <= reached
    for name in ("row_means", "first"):
        assert float(getattr(gw.bounds, name)(*spaces, p=p)) <= found[1] + 10 * slack(
            x, y, p=p
        )
    if p == 2:
        residual = float(gw.bounds.third(*spaces, residual=True))
        assert float(gw.bounds.norm(*spaces)) - 10 * slack(x, y) <= residual <= reached


@given(known())
def test_theorem_7_below_known_answers(known):
    x, y = known.x.space(), known.y.space()
    for value in (
        gw.bounds.second(x, y),
        gw.bounds.third(x, y),
        gw.bounds.third(x, y, residual=True),
    ):
        assert float(value) <= known.value + 10 * slack(known.x, known.y)


@given(spaces(), st.sampled_from([0.0, 0.5, 1.7, 1.0]), POWERS)
def test_theorem_7_scaled_copy(x, factor, p):
    C = gw.DenseSpace(x.matrix, x.weights)
    moment = abs(1 - factor) ** p * float(
        x.weights @ (np.abs(x.matrix) ** p @ x.weights)
    )
    for bound in (gw.bounds.second, gw.bounds.third):
        assert float(bound(C, C.scaled(factor), p)) == pytest.approx(
            moment, rel=1e-9, abs=10 * slack(x, p=p)
        )


def test_theorem_7_no_further_order():
    edge, path = np.zeros((3, 3)), np.zeros((3, 3))
    edge[0, 1] = edge[1, 0] = path[0, 1] = path[1, 0] = path[1, 2] = path[2, 1] = 1
    swap, other = np.eye(3)[::-1].copy(), np.array([[0.0, 0, 1], [0, 0, 0], [1, 0, 2]])
    found = [
        float(gw.bounds.third(*pair, residual=r))
        for pair in ((edge, path), (swap, other))
        for r in (False, True)
    ]
    assert found == pytest.approx([2 / 9, 14 / 81, 1 / 3, 13 / 27])
    path, star = np.diag(np.ones(3), 1), np.zeros((4, 4))
    star[0, 1:] = 1
    path, star = path + path.T, star + star.T
    assert float(gw.bounds.second(path, star)) == pytest.approx(0, abs=1e-15)
    assert float(gw.bounds.row_means(path, star)) == pytest.approx(1 / 32)


@pytest.mark.parametrize("factor", [1e150, 1e-150])
@given(pairs(generic=True, least=2, most=4))
def test_values_scale(factor, pair):
    x, y = pair
    for bound in (
        gw.bounds.second,
        gw.bounds.third,
        lambda x, y: gw.bounds.third(x, y, residual=True),
    ):
        here, there = (
            bound(x.space(), y.space()),
            bound(x.scaled(factor).space(), y.scaled(factor).space()),
        )
        assert float(there) / factor / factor == pytest.approx(
            float(here), rel=1e-9, abs=100 * slack(x, y)
        )


def test_libraries_and_dtypes_come_back(library, rng):
    points = rng.standard_normal((9, 2)), rng.standard_normal((7, 3))
    wide = [gw.PointCloud(p) for p in points]
    narrow = [gw.PointCloud(library.array(p)) for p in points]
    for options in ({}, {"p": 1.0}):
        found = gw.bounds.second(*narrow, **options)
        assert library.owns(found)
        assert float(found) == pytest.approx(
            float(gw.bounds.second(*wide, **options)), rel=library.rtol
        )
    for residual in BOTH.values():
        found = gw.bounds.third(*narrow, residual=residual)
        assert library.owns(found)
        assert float(found) == pytest.approx(
            float(gw.bounds.third(*wide, residual=residual)), rel=library.rtol
        )


def test_second_is_differentiable(rng):
    torch = pytest.importorskip("torch")
    first, second = (rng.standard_normal((n, 2)) for n in (5, 6))
    points = torch.tensor(first, requires_grad=True)
    gw.bounds.second(
        gw.PointCloud(points), gw.PointCloud(torch.tensor(second))
    ).backward()
    step = np.zeros_like(first)
    step[2, 1] = 1e-6
    ends = [
        float(gw.bounds.second(gw.PointCloud(first + s * step), gw.PointCloud(second)))
        for s in (1, -1)
    ]
    assert float(points.grad[2, 1]) == pytest.approx(
        (ends[0] - ends[1]) / 2e-6, rel=1e-5
    )


def test_arguments_are_checked():
    C = np.ones((2, 2))
    for bound in (gw.bounds.second, gw.bounds.third):
        with pytest.raises(ValueError, match=r"p must be a finite number at least 1,"):
            bound(C, C, p=0.5)
    with pytest.raises(ValueError, match="p must be one of 2, but is 1"):
        gw.bounds.third(C, C, p=1.0, residual=True)
