"""Excess of a coupling over the minimum: against rational arithmetic, and in words."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from gwtools.excess import excess_of_interval

POSITIVE = st.floats(5e-324, 1.7e308)


def certificate(lower, upper, kind=gw.Kind.BRACKET, tolerance=0.0, rounding=0.0):
    return gw.Certificate(
        lower, upper, kind, "norm", tolerance=tolerance, rounding=rounding
    )


def said(lower, upper, **rest):
    return str(certificate(lower, upper, **rest).excess)


@given(lower=POSITIVE, share=st.floats(0, 1e3) | st.floats(0, 1e-12))
def test_the_excess_is_rounded_up_and_hardly_more_than_the_exact_one(lower, share):
    upper = lower * (1 + share)
    excess = certificate(lower, upper).excess
    if math.isinf(upper):
        assert (excess.objective, excess.distance) == (math.inf, math.inf)
        return
    exact = Fraction(upper) / Fraction(lower) - 1
    assert exact <= Fraction(excess.objective) <= exact * (1 + Fraction(2) ** -51)
    # (1 + d)² − 1 = e, so that d is known up to few roundings.
    d = Fraction(excess.distance)
    reached = (1 + d) ** 2 - 1
    assert exact <= reached <= exact * (1 + Fraction(2) ** -48)


@given(lower=POSITIVE, upper=POSITIVE)
def test_what_is_said_is_true(lower, upper):
    lower, upper = sorted((lower, upper))
    sentence = said(lower, upper)
    if sentence in ("the minimum", "no bound"):
        return
    objective, distance = sentence.split(", distance at most ")
    objective = objective.removeprefix("objective at most ")
    ratio = Fraction(upper) / Fraction(lower)
    for text, power in ((objective, 1), (distance, 2)):
        number, unit = text.split()[:2]
        shown = Fraction(number)
        multiple = 1 + shown / 100 if unit == "%" else shown
        assert multiple**power >= ratio
        assert unit == ("%" if ratio <= 2 else "times")


@pytest.mark.parametrize(
    ("lower", "upper", "sentence"),
    [
        (1.0, 1.12, "objective at most 13 % above the minimum, distance at most 5.9 %"),
        (1.0, 1.125, "objective at most 13 % above the minimum, distance at most 6.1"),
        (4.0, 5.0, "objective at most 25 % above the minimum, distance at most 12 %"),
        (1.0, 2.0, "objective at most 100 % above the minimum, distance at most 42 %"),
        (1.0, 4.0, "objective at most 4 times the minimum, distance at most 2 times"),
        (1.0, 1e9, "objective at most 1e+09 times the minimum, distance at most 32000"),
        (0.0, 1.0, "no bound"),
        (0.0, math.inf, "no bound"),
        (1.0, math.inf, "no bound"),
        (5e-324, 1e308, "no bound"),
        (0.0094, 1.648e306, "no bound"),
        (0.0, 0.0, "the minimum"),
        (2.0, 2.0, "the minimum"),
    ],
)
def test_sentences(lower, upper, sentence):
    assert said(lower, upper).startswith(sentence)


def test_closed_intervals_say_up_to_what():
    closed = {"kind": gw.Kind.GLOBAL}
    by_rounding = said(1.0, 1.5, tolerance=1.0, rounding=1.0, **closed)
    assert by_rounding == "the minimum, up to rounding"
    asked = said(0.0, 1e-7, tolerance=1e-6, rounding=1e-15, **closed)
    assert asked == "the minimum, up to 1e-06"
    assert said(3.0, 3.0, tolerance=1e-6, **closed) == "the minimum"


def test_numbers_are_there_whatever_the_sentence_says():
    closed = excess_of_interval(4.0, 9.0, "rounding")
    assert (closed.objective, closed.distance) == (1.25, 0.5)
    unknown = excess_of_interval(0.0, 1.0)
    assert (unknown.objective, unknown.distance) == (math.inf, math.inf)


def test_results_show_it():
    # A segment against a tetrahedron is far from closed, a copy is the minimum.
    far = gw.solve(1 - np.eye(2), 1 - np.eye(4))
    excess = far.certificate.excess
    assert f"excess       {excess}" in str(far)
    told = json.loads(json.dumps(far.as_dict()))
    assert told["objective_excess"] == excess.objective
    assert told["distance_excess"] == excess.distance
    copy = gw.solve(1 - np.eye(3), 1 - np.eye(3))
    assert str(copy.certificate.excess) == "the minimum"
    # Without a bound the numbers are infinite, and JSON has none.
    unknown = gw.GWResult(
        **(vars(far) | {"certificate": certificate(0.0, far.certificate.upper)})
    )
    assert unknown.as_dict()["objective_excess"] is None
    assert "excess       no bound" in str(unknown)
