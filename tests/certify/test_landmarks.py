"""Landmarks: intervals hold for distances that are known, and are rounded outward."""

import math
from decimal import Context, Decimal, localcontext
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from tests.strategies import couplings, spaces

EXACT = Context(prec=1200)
SQUARES = st.floats(0, 1e308) | st.sampled_from([0.0, 5e-324, 1.0, 2.0])


def certificate(lower, upper):
    return gw.Certificate(*sorted((lower, upper)), gw.Kind.BRACKET, "norm")


def root(square):
    return EXACT.sqrt(Decimal(square))


@given(st.lists(st.tuples(SQUARES, SQUARES, SQUARES, SQUARES), min_size=1, max_size=3))
def test_ends_are_rounded_outward_and_hardly_more(ends):
    of_x = [certificate(*four[:2]) for four in ends]
    of_y = [certificate(*four[2:]) for four in ends]
    lower, upper = gw.landmark_interval(of_x, of_y)
    differences = [Decimal(0)]
    sums = []
    with localcontext(EXACT):
        for x, y in zip(of_x, of_y, strict=True):
            low_x, high_x = root(x.lower), root(x.upper)
            low_y, high_y = root(y.lower), root(y.upper)
            differences += [low_x - high_y, low_y - high_x]
            sums.append(high_x + high_y)
        exact_lower, exact_upper = max(differences), min(sums)
        assert Decimal(lower) <= exact_lower
        assert Decimal(upper) >= exact_upper
        # Four roundings and as many steps outward.
        assert exact_lower - Decimal(lower) <= Decimal(2) ** -50 * max(sums)
        assert Decimal(upper) - exact_upper <= Decimal(2) ** -50 * max(sums)


@given(
    spaces(least=2),
    st.tuples(*[st.sampled_from([0.0, 0.25, 1.0, 1.5, 4.0])] * 3),
    st.booleans(),
)
def test_distances_that_are_known_are_within(drawn, factors, is_reordered):
    # Between s C and t C the distance is |s − t| ‖C‖ (theorem 7 v).
    C, a = drawn.matrix, drawn.weights
    order = np.arange(len(a))[::-1] if is_reordered else np.arange(len(a))
    x, y, landmark = (
        gw.DenseSpace(s * C[np.ix_(o, o)], a[o].copy())
        for s, o in zip(factors, (order, order[::-1], np.arange(len(a))), strict=True)
    )
    certificates = []
    for space, o in ((x, order), (y, order[::-1])):
        plan = np.zeros((len(a), len(a)))
        plan[np.arange(len(a)), o] = a[o]
        certificates.append(gw.certify(space, landmark, plan, "quadratic"))
    lower, upper = gw.landmark_interval(*([c] for c in certificates))
    norm = math.sqrt(a @ C**2 @ a)
    known = abs(factors[0] - factors[1]) * norm
    slack = 1e-13 * (1 + max(factors)) * norm
    assert lower <= known + slack
    assert upper >= known - slack
    # On a ray both ends can be reached: x and y on one side of the landmark, or not.
    s, t, u = factors
    if (s - u) * (t - u) > 0:
        assert lower == pytest.approx(known, rel=1e-6, abs=1e-6 * (1 + norm))
    else:
        assert upper == pytest.approx(known, rel=1e-6, abs=1e-6 * (1 + norm))


@given(st.data())
def test_intervals_of_any_plans_meet_those_of_the_pair_itself(data):
    x, y, *landmarks = (data.draw(spaces(most=4)) for _ in range(4))

    def certified(first, second):
        plan = data.draw(couplings(first.weights, second.weights))
        return gw.certify(first.space(), second.space(), plan)

    of_x, of_y = ([certified(s, landmark) for landmark in landmarks] for s in (x, y))
    lower, upper = gw.landmark_interval(of_x, of_y)
    direct = certified(x, y)
    assert lower <= math.sqrt(direct.upper) * (1 + 1e-15)
    assert upper >= math.sqrt(direct.lower) * (1 - 1e-15)
    assert 0 <= lower <= upper
    # Each landmark only narrows it, and the order of the spaces does not matter.
    fewer = gw.landmark_interval(of_x[:1], of_y[:1])
    assert fewer.lower <= lower
    assert fewer.upper >= upper
    assert gw.landmark_interval(of_y, of_x) == (lower, upper)


@pytest.mark.parametrize(
    "bound",
    [
        gw.bounds.row_means,
        gw.bounds.first,
        gw.bounds.norm,
        gw.bounds.spectral,
        gw.bounds.second,
        gw.bounds.third,
        partial(gw.bounds.third, residual=True),
    ],
    ids=lambda bound: getattr(bound, "__name__", "residual third"),
)
@settings(max_examples=15)
@given(st.lists(spaces(most=4), min_size=3, max_size=3))
def test_bounds_that_are_distances_prove_what_landmarks_do(bound, drawn):
    """A landmark proves no more of a pair than such a bound of the pair itself."""
    x, y, landmark = (each.space() for each in drawn)
    near, far = float(bound(y, landmark)), float(bound(x, landmark))
    scale = max(float(np.abs(each.matrix).max()) for each in drawn)
    # The root of a bound that is 0 but for its float error.
    slack = 1e-7 * scale
    difference = abs(math.sqrt(max(far, 0.0)) - math.sqrt(max(near, 0.0)))
    assert difference <= math.sqrt(max(float(bound(x, y)), 0.0)) + slack
