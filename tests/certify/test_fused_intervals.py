"""Intervals of fused objectives, held against rational arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from tests import checkers
from tests.fused_problems import fused_problems

EFFORTS = ("linear", "quadratic", "cubic")


def dyadic(counts):
    """Weights whose sums and differences are exact: multiples of a power of two."""
    rest = 2 ** int(np.ceil(np.log2(sum(counts) + 1))) - sum(counts)
    counts = np.array([*counts, rest], dtype=float)
    return counts / counts.sum()


def exact_value(C, D, features, alpha, plan):
    """The fused objective of the stored values, in rational arithmetic."""
    share = Fraction(alpha)
    linear = sum(
        Fraction(float(features[i, j])) * Fraction(float(plan[i, j]))
        for i, j in np.argwhere(plan > 0)
    )
    return share * checkers.exact_objective(C, D, plan) + (1 - share) * linear


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.integers(0, 2**20 - 1),
    st.sampled_from([0.0, 0.1, 1 / 3, 0.9]),
    st.sampled_from([0.0, 1.0, 1e6]),
)
def test_no_float_error_makes_an_interval_false(first, second, seed, alpha, offset):
    """Couplings of these weights are exact, and so are their objectives here."""
    rng = np.random.default_rng(seed)
    a, b = dyadic(first), dyadic(second)
    C, D = (rng.random((len(w), len(w))) for w in (a, b))
    C, D = C + C.T, D + D.T
    features = rng.standard_normal((len(a), len(b))) + offset
    x, y = gw.DenseSpace(C, a), gw.DenseSpace(D, b)
    result = gw.solve(
        x, y, gw.ConditionalGradient(exchange=False), features=features, alpha=alpha
    )
    program = gw.solve(x, y, features=features, alpha=0.0).plan
    certificate = gw.certify(
        x, y, program, features=features, alpha=alpha, effort="quadratic"
    )
    value = exact_value(C, D, features, alpha, program.dense())
    assert Fraction(certificate.lower) <= value <= Fraction(certificate.upper)
    reached = result.plan.dense()
    if np.array_equal(reached.sum(0), b) and np.array_equal(reached.sum(1), a):
        other = exact_value(C, D, features, alpha, reached)
        assert Fraction(result.certificate.lower) <= other
    if alpha == 0.0:
        assert certificate.kind is gw.Kind.GLOBAL


@given(fused_problems(shares=(0.1, 0.5, 0.9), null=True))
def test_the_bound_is_at_least_the_sum_of_both_bounds(known):
    x, y = known.spaces
    kept = np.ix_(known.x.weights > 0, known.y.weights > 0)
    a, b = (s.weights[s.weights > 0] for s in (known.x, known.y))
    least = checkers.linear_program(known.features[kept], a, b)
    plain = gw.certify(x, y, effort="cubic")
    fused = gw.certify(x, y, effort="cubic", **known.given)
    slack = max(1e-9 * known.scale, 1e-200)
    for name, lower in plain.bounds.items():
        expected = known.alpha * lower + (1 - known.alpha) * least
        assert fused.bounds[f"{name} + transport"] == pytest.approx(expected, abs=slack)
    assert fused.lower >= known.alpha * plain.lower + (1 - known.alpha) * least - slack


@given(fused_problems(shares=(0.0, 0.5)), st.floats(1e-6, 9e-4))
def test_mass_that_a_plan_misses_is_charged(known, missed):
    """The upper end holds for a coupling near the plan, which may cost more."""
    spoiled = known.plan * (1 - missed)
    upper = gw.certify(*known.spaces, spoiled, **known.given).upper
    # What is missing added to all pairs, or to the plan's where these match atoms.
    nearest = gw.round_plan(spoiled, known.x.weights, known.y.weights).dense()
    reached = min(known.objective(nearest), known.objective(known.plan))
    assert upper >= reached - 1e-12 * known.scale
    assert upper >= known.objective(spoiled) - 1e-12 * known.scale


@pytest.mark.parametrize("effort", EFFORTS)
def test_a_coarse_machine_proves_nothing_false(effort, coarse):
    """As a machine of six digits would round."""
    rng = np.random.default_rng(5)
    x, y = gw.PointCloud(rng.random((4, 2))), gw.PointCloud(rng.random((5, 2)))
    features = rng.random((4, 5))
    certificate = gw.certify(x, y, effort=effort, features=features, alpha=0.5)
    best = gw.solve(x, y, features=features, alpha=0.5)
    assert certificate.lower <= float(best.objective) - 1e-6
    linear = gw.certify(x, y, features=features, alpha=0.0)
    least = checkers.linear_program(features, np.full(4, 0.25), np.full(5, 0.2))
    assert least - 1e-3 <= linear.lower <= least - 1e-6
    assert least + 1e-6 <= linear.upper


@given(fused_problems(shares=(0.5,)))
@settings(max_examples=30)
def test_quartic_effort_adds_its_bounds(known):
    linear = gw.certify(*known.spaces, **known.given)
    more = gw.certify(*known.spaces, effort="quartic", budget=0.01, **known.given)
    assert more.lower >= linear.lower
    assert set(linear.bounds) <= set(more.bounds)


@given(fused_problems(shares=(0.1, 0.5, 0.9), null=True))
def test_joint_bounds_are_at_least_sums(known):
    """And no coupling is below them."""
    certificate = gw.certify(*known.spaces, known.plan, "cubic", **known.given)
    slack = max(1e-9 * known.scale, 1e-200)
    for name in ("third", "residual_third"):
        joint = certificate.bounds[f"joint {name}"]
        assert joint >= certificate.bounds[f"{name} + transport"] - slack
    reached = known.objective(known.plan)
    for lower in certificate.bounds.values():
        assert lower <= reached + 1e-13 * known.scale


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_convex_problems_are_closed_by_the_tangent(alpha):
    """Inner products against distances: F is convex over couplings."""
    rng = np.random.default_rng(2)
    x = gw.GramSpace(rng.standard_normal((2, 6)))
    y = gw.PointCloud(rng.standard_normal((5, 2)), dyadic([1, 2, 3, 4]))
    given = {"features": rng.random((6, 5)), "alpha": alpha}
    plan = gw.solve(x, y, gw.ConditionalGradient(tolerance=1e-12), **given).plan
    certificate = gw.certify(x, y, plan, "quadratic", **given)
    assert certificate.bound == "joint convexity"
    assert certificate.gap <= 1e-8 * certificate.upper
