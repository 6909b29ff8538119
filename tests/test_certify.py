"""Certificates: an interval that holds, whatever plan it is given."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from gwtools.certify import rounding
from tests import checkers
from tests.solvers.test_conditional_gradient import arguments, scale
from tests.strategies import additive_pairs, coupled, couplings, known, one_points, pairs, permuted_copies
from tests.test_plans import FORMS


@pytest.mark.parametrize("form", FORMS)
@given(coupled(null=True))
def test_interval_holds_the_objective_of_its_plan(form, instance):
    x, y, plan = instance
    certificate = gw.certify(x.space(), y.space(), FORMS[form](plan))
    checkers.check_certificate(certificate, *arguments(x, y))
    found = checkers.objective(x.matrix, y.matrix, plan)
    assert certificate.lower <= found <= certificate.upper
    assert certificate.upper <= found + 1e-10 * scale(x, y)


@given(pairs(null=True))
def test_every_lower_bound_is_below_every_upper_one(pair):
    x, y = pair
    alone = gw.certify(x.space(), y.space())
    solved = gw.solve(x.space(), y.space(), gw.Sorted()).certificate
    assert max(alone.lower, solved.lower) <= min(alone.upper, solved.upper)
    assert alone.lower == solved.lower


@given(pairs(null=True))
def test_without_a_plan_the_upper_bound_is_the_product(pair):
    x, y = pair
    certificate = gw.certify(x.space(), y.space())
    product = checkers.objective(x.matrix, y.matrix, np.outer(x.weights, y.weights))
    checkers.check_certificate(certificate, *arguments(x, y))
    assert product <= certificate.upper <= product + 1e-10 * scale(x, y)
    assert certificate.kind in (gw.Kind.LOWER, gw.Kind.GLOBAL)


@pytest.mark.parametrize(
    "family", [one_points(), permuted_copies(), additive_pairs()], ids=["one point", "copy", "additive"]
)
@given(data=st.data())
def test_closed_gaps_are_global(family, data):
    known = data.draw(family)
    certificate = gw.certify(known.x.space(), known.y.space(), known.plan)
    assert certificate.kind is gw.Kind.GLOBAL
    assert certificate.lower <= known.value * (1 + 1e-15) + 1e-300
    assert known.value <= certificate.upper + 1e-13 * scale(known.x, known.y)
    assert certificate.gap <= 1e-9 * scale(known.x, known.y)


@given(coupled(least=2))
def test_open_gaps_are_brackets(instance):
    x, y, plan = instance
    certificate = gw.certify(x.space(), y.space(), plan)
    is_open = certificate.gap > 1e-6 * scale(x, y)
    if is_open:
        assert certificate.kind is gw.Kind.BRACKET


@given(known(), st.data())
def test_known_answers_lie_inside(known, data):
    plan = data.draw(couplings(known.x.weights, known.y.weights))
    certificate = gw.certify(known.x.space(), known.y.space(), plan)
    rounded = 1e-15 * scale(known.x, known.y)
    assert certificate.lower - rounded <= known.value <= certificate.upper + rounded


@given(coupled(kinds=("sqeuclidean", "gram"), least=3))
def test_low_rank_spaces_get_the_spectral_bound(instance):
    x, y, plan = instance
    bounds = gw.certify(x.space(), y.space(), plan).bounds
    assert set(bounds) == {"row_means", "norm", "spectral"}
    plain = float(gw.bounds.spectral(x.space(), y.space()))
    assert plain - 1e-9 * scale(x, y) <= bounds["spectral"] <= plain


@given(pairs(null=True))
def test_rounding_is_small_and_grows_with_the_unit(pair):
    x, y = (s.space() for s in pair)
    assert 0 <= rounding(x, y) <= 1e-10 * scale(*pair)
    assert rounding(x.scaled(16.0), y.scaled(16.0)) == 256 * rounding(x, y)


@given(coupled(null=True))
def test_float32_spaces_are_certified_as_the_values_they_store(instance):
    x, y, plan = instance
    narrow = [s.space(lambda v: v.astype(np.float32)) for s in (x, y)]
    certificate = gw.certify(*narrow, plan.astype(np.float32))
    wide = [stored(space, drawn) for space, drawn in zip(narrow, (x, y), strict=True)]
    checkers.check_certificate(certificate, *wide[0], *wide[1])
    exact_plan = np.outer(wide[0][1], wide[1][1])
    assert certificate.lower <= checkers.objective(wide[0][0], wide[1][0], exact_plan)


def stored(space, drawn):
    """Matrix and weights of the stored float32 values, in float64."""
    weights = space.weights.astype(float)
    wide = type(drawn)(drawn.kind, space.data.astype(float), weights / weights.sum())
    return wide.matrix, wide.weights


def test_str_says_interval_kind_and_theorem():
    text = str(gw.certify(np.array([[1.5]]), np.array([[0.5]])))
    assert text == "[1, 1] (global, lower bound by row_means)"


def test_a_plan_need_not_come_from_a_solver(rng):
    C, D = (checkers.euclidean(rng.standard_normal((n, 2))) for n in (4, 6))
    plan = np.outer(np.full(4, 0.25), np.full(6, 1 / 6))
    with_plan, without = gw.certify(C, D, plan), gw.certify(C, D)
    assert with_plan.kind is gw.Kind.BRACKET
    assert without.kind is gw.Kind.LOWER
    assert with_plan.upper == pytest.approx(without.upper, rel=1e-10)
