"""Intervals: what closes them, and that every end is given back outward."""

import dataclasses
import math
import sys

import numpy as np
import pytest
from hypothesis import given

import gwtools as gw
from gwtools.bounds import outward
from gwtools.certify import (
    CertifiedObjective,
    ProvedInterval,
    closed_up_to,
    enclosed,
    with_proved,
    with_upper,
)
from gwtools.certify.intervals import finite_or_zero, in_given_units
from tests import checkers
from tests.solvers.test_conditional_gradient import scale
from tests.strategies import pairs

TOLERANCES = [
    # gap, rounding and asked; closed and tolerance
    ((0.3, 0.5, 0.1), (True, 0.5)),
    ((0.5, 0.5, 0.9), (True, 0.5)),  # what rounding accounts for needs no asking
    ((0.7, 0.5, 0.6), (False, 0.6)),
    ((0.7, 0.5, 0.7), (True, 0.7)),
    ((0.7, 0.5, 0.9), (True, 0.9)),
    ((0.7, 0.5, 0.1), (False, 0.5)),
    ((0.0, 0.0, 0.0), (True, 0.0)),
]


@pytest.mark.parametrize(("given", "found"), TOLERANCES)
def test_intervals_are_judged_by_rounding_and_then_by_what_was_asked(given, found):
    assert closed_up_to(*given) == found


OLD = gw.Certificate(
    lower=1.0,
    upper=2.0,
    kind=gw.Kind.GLOBAL,
    bound="norm",
    bounds={"norm": 1.0},
    a_priori=7.0,
    tolerance=1.1,
    rounding=0.1,
)


@pytest.mark.parametrize("asked", [0.0, 1.2, 1.5])
def test_certificates_that_hold_an_objective_are_kept(asked):
    assert with_upper(OLD, 2.0, asked) is OLD


@pytest.mark.parametrize("asked", [0.0, 1.2, 1.5])
def test_certificates_are_widened_to_an_objective(asked):
    new = with_upper(OLD, 2.5, asked)
    assert new.lower == OLD.lower
    assert new.upper == 2.5
    assert new.rounding == OLD.rounding
    assert new.a_priori == OLD.a_priori
    assert new.tolerance == max(asked, 0.1)
    closed = asked == 1.5
    assert new.kind is (gw.Kind.GLOBAL if closed else gw.Kind.BRACKET)


@pytest.mark.parametrize(
    ("lower", "found"),
    [
        (0.7, 0.7),
        (5e-324, 5e-324),
        (0.0, 0.0),
        (-0.7, 0.0),
        (-math.inf, 0.0),
        (math.inf, 0.0),
        (math.nan, 0.0),
    ],
)
def test_bounds_that_are_none_count_as_zero(lower, found):
    assert finite_or_zero(lower) == found


@pytest.mark.parametrize("unit", [1.0, 4.0**-30, 4.0**250])
@pytest.mark.parametrize("value", [0.7, 1.3, 1.0])
def test_units_are_given_back_outward(value, unit):
    product = value * unit * unit  # exact, as the unit is a power of two
    below = in_given_units(value, unit, -math.inf)
    above = in_given_units(value, unit, math.inf)
    assert below == math.nextafter(product, 0.0)
    assert above == math.nextafter(product, math.inf)


@pytest.mark.parametrize(
    ("value", "unit", "below", "above"),
    [
        (1e-300, 4.0**-100, 0.0, 5e-324),
        (1e300, 4.0**100, sys.float_info.max, math.inf),
        (0.0, 4.0, 0.0, 0.0),
        (-1e-300, 4.0**-100, -5e-324, 0.0),
        (-1e300, 4.0**100, -math.inf, -sys.float_info.max),
    ],
)
def test_units_that_leave_the_range(value, unit, below, above):
    assert in_given_units(value, unit, -math.inf) == below
    assert in_given_units(value, unit, math.inf) == above


def test_asked_tolerances_close_and_are_said(rng):
    C = checkers.euclidean(rng.standard_normal((5, 2)))
    D = C + 1e-5 * checkers.euclidean(rng.standard_normal((5, 2)))
    plan = np.eye(5) / 5
    plain = gw.certify(C, D, plan)
    assert plain.kind is gw.Kind.BRACKET
    assert plain.tolerance == plain.rounding
    assert "global" not in str(plain)
    asked = gw.certify(C, D, plan, tolerance=1e-6)
    assert asked.kind is gw.Kind.GLOBAL
    assert asked.tolerance == 1e-6
    assert "(global to 1e-06, lower bound by" in str(asked)
    # What is closed by float error alone does not name a tolerance.
    assert "global to" not in str(gw.certify(C, C, plan, tolerance=1e-6))
    assert gw.certify(C, D, plan, tolerance=1e-30).kind is gw.Kind.BRACKET


def test_tolerances_below_zero_are_refused():
    one = np.ones((1, 1))
    message = "tolerance must be a finite number at least 0"
    with pytest.raises(ValueError, match=message):
        gw.certify(one, one, tolerance=-1e-9)
    assert gw.certify(one, one, one, tolerance=0.0).kind is gw.Kind.GLOBAL


def test_tolerance_counts_the_roundings_of_entries(rng):
    nine_rows = gw.GramSpace(rng.standard_normal((9, 3)), np.full(3, 1 / 3))
    two_rows = gw.GramSpace(rng.standard_normal((2, 4)))
    for pair in ((nine_rows, two_rows), (two_rows, nine_rows)):
        found = gw.certify(*pair)
        whole = enclosed(gw.GWProblem(*pair))
        wanted = outward.interval_width(
            found.lower,
            whole.largest,
            9,
            whole.x.radii,
            whole.y.radii,
        )
        assert found.rounding == pytest.approx(wanted, rel=1e-15)


@pytest.mark.parametrize("tolerance", [1e-6, 0.42, 0.951, 9.5e-7, 1.0, 7.3e11])
def test_a_tolerance_is_never_said_to_be_smaller(tolerance):
    found = gw.Certificate(0.0, tolerance, gw.Kind.GLOBAL, "norm", tolerance=tolerance)
    _, _, words = str(found).partition("global to ")
    said = float(words.partition(",")[0])
    assert tolerance <= said <= 2 * tolerance


@given(pairs(null=True))
def test_rounding_is_small_and_grows_with_the_unit(pair):
    x, y = (s.space() for s in pair)
    found = gw.certify(x, y).rounding
    assert 0 <= found <= 1e-9 * scale(*pair)
    wide = gw.certify(x.scaled(16.0), y.scaled(16.0))
    assert wide.rounding == pytest.approx(256 * found, rel=1e-15, abs=0)


def test_str_says_interval_kind_and_theorem():
    text = str(gw.certify(np.array([[1.5]]), np.array([[0.5]])))
    assert text == "[1, 1] (global, lower bound by row_means)"


# Lower bounds of solvers.

OPEN = dataclasses.replace(OLD, kind=gw.Kind.BRACKET, tolerance=0.1)
PROOF = CertifiedObjective(OPEN, 1.75, 1.75**0.5)


def test_no_proof_changes_nothing():
    assert with_proved(PROOF, None, 4.0, 0.3) == (PROOF, 0.3)


@pytest.mark.parametrize("unit", [1.0, 4.0])
def test_a_better_bound_of_a_solver_is_the_lower_end(unit):
    proved = ProvedInterval(1.5 / unit**2, "search", 0.25 / unit**2)
    (certificate, objective, distance), accepted = with_proved(PROOF, proved, unit, 0.0)
    low = math.nextafter(1.5, 0.0)
    assert certificate.lower == low
    assert certificate.bounds == {"norm": 1.0, "search": low}
    assert certificate.bound == "search"
    assert certificate.upper == 2.0
    assert certificate.rounding == OPEN.rounding
    assert certificate.kind is gw.Kind.BRACKET
    assert accepted == pytest.approx(0.25, rel=1e-15)
    assert accepted >= 0.25
    assert certificate.tolerance == accepted
    assert (objective, distance) == PROOF[1:]


@pytest.mark.parametrize(
    ("lower", "asked", "mine", "kind"),
    [
        (1.5, 0.4, 0.0, gw.Kind.BRACKET),
        (1.5, 0.51, 0.0, gw.Kind.GLOBAL),
        (1.5, 0.0, 0.51, gw.Kind.GLOBAL),
        (1.95, 0.0, 0.0, gw.Kind.GLOBAL),  # the rounding closes it
    ],
)
def test_what_the_solver_or_the_caller_asked_for_closes(lower, asked, mine, kind):
    proved = ProvedInterval(lower, "search", asked)
    found, accepted = with_proved(PROOF, proved, 1.0, mine)
    assert found.certificate.kind is kind
    assert accepted == pytest.approx(max(asked, mine), rel=1e-15)


def test_a_worse_or_missing_bound_is_listed_alone():
    for lower, listed in ((0.5, math.nextafter(0.5, 0.0)), (math.nan, 0.0)):
        proved = ProvedInterval(lower, "search")
        (certificate, _, _), _ = with_proved(PROOF, proved, 1.0, 0.0)
        assert certificate.lower == 1.0
        assert certificate.bound == "norm"
        assert certificate.bounds == {"norm": 1.0, "search": listed}


@pytest.mark.parametrize(
    ("upper", "found"), [(3.0, 2.0), (1.9, math.nextafter(1.9, 2.0)), (1.2, 1.75)]
)
def test_a_better_upper_end_is_taken_that_holds_the_objective(upper, found):
    proved = ProvedInterval(1.0, "search", 0.0, upper)
    (certificate, objective, _), _ = with_proved(PROOF, proved, 1.0, 0.0)
    assert certificate.upper == found
    assert objective == 1.75


def test_an_objective_below_the_new_lower_end_is_raised_to_it():
    proved = ProvedInterval(1.9, "search")
    (certificate, objective, distance), _ = with_proved(PROOF, proved, 1.0, 0.0)
    assert objective == certificate.lower > 1.75
    assert distance == pytest.approx(objective**0.5, rel=1e-15)
