"""Certificates of every effort: which bounds they hold, and what they close."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from gwtools.certify import EFFORTS
from gwtools.preparation import prepare
from tests import checkers
from tests.bounds.test_distributions import slack
from tests.strategies import (
    CONDITIONALLY_NEGATIVE,
    additive_pairs,
    coupled,
    couplings,
    known,
    one_points,
    pairs,
    scaled_copies,
    simplices,
    spaces,
)


def residual_third(x, y):
    return gw.bounds.third(x, y, residual=True)


VALUES = {
    "row_means": gw.bounds.row_means,
    "first": gw.bounds.first,
    "norm": gw.bounds.norm,
    "second": gw.bounds.second,
    "third": gw.bounds.third,
    "residual_third": residual_third,
    "spectral": gw.bounds.spectral,
    "convex": gw.bounds.convex,
    "rank_one": gw.bounds.rank_one,
}
QUADRATIC = {"row_means", "norm", "first", "second"}


def has_one_row(drawn):
    return drawn.kind == "gram" and len(drawn.data) == 1


@given(pairs(null=True))
def test_certified_bounds_are_the_values_rounded_down(pair):
    x, y = pair
    cheap = gw.certify(x.space(), y.space(), effort="quadratic")
    certificate = gw.certify(x.space(), y.space(), effort="cubic")
    one_row = {"rank_one"} if has_one_row(x) and has_one_row(y) else set()
    assert set(cheap.bounds) - {"spectral"} == QUADRATIC | one_row
    assert set(certificate.bounds) == (set(VALUES) - {"rank_one"}) | one_row
    # Eccentricities alone see a constant that is added to both matrices, and
    # certificates take off one that they share.
    ready = prepare(x.space(), y.space())
    for name, found in [*cheap.bounds.items(), *certificate.bounds.items()]:
        if name == "first":
            value = float(gw.bounds.first(ready.x, ready.y)) * ready.unit**2
            # Those of low-rank forms lose half of their digits to cancellation;
            # certificates sum them over rows.
            loose = 1e6
        else:
            value = float(VALUES[name](x.space(), y.space()))
            loose = 1e3
        assert abs(found - value) <= loose * slack(x, y), name
    assert certificate.lower == max(certificate.bounds.values())
    assert certificate.lower == certificate.bounds[certificate.bound]


@settings(max_examples=60)
@given(coupled(null=True))
def test_more_effort_never_loosens(instance):
    x, y, plan = instance
    for given_plan in (None, plan):
        found = []
        for effort in EFFORTS:
            found.append(gw.certify(x.space(), y.space(), given_plan, effort))
        for less, more in pairwise(found):
            assert more.lower >= less.lower - slack(x, y)
            assert more.upper <= less.upper
        lowers = [certificate.lower for certificate in found]
        uppers = [certificate.upper for certificate in found]
        assert max(lowers) <= min(uppers)


@given(coupled(null=True))
def test_no_bound_is_above_a_coupling(instance):
    x, y, plan = instance
    certificate = gw.certify(x.space(), y.space(), plan, "cubic")
    reached = checkers.objective(x.matrix, y.matrix, plan)
    assert certificate.lower <= reached + 1e-3 * slack(x, y)
    assert reached <= certificate.upper <= reached + 1e3 * slack(x, y)


@pytest.mark.parametrize("effort", EFFORTS)
@given(data=st.data())
def test_closed_gaps_are_global(effort, data):
    """Linear effort closes additive and one-point spaces, SLB scaled copies."""
    families = [additive_pairs(), one_points()]
    if effort != "linear":
        families.append(scaled_copies())
    known = data.draw(st.one_of(families))
    certificate = gw.certify(known.x.space(), known.y.space(), known.plan, effort)
    rounded = 100 * slack(known.x, known.y)
    assert certificate.kind is gw.Kind.GLOBAL
    assert certificate.lower == pytest.approx(known.value, rel=1e-9, abs=rounded)
    assert certificate.upper == pytest.approx(known.value, rel=1e-9, abs=rounded)


@given(simplices(uniform=True))
def test_uniform_simplices_are_global(known):
    certificate = gw.certify(known.x.space(), known.y.space(), known.plan, "cubic")
    assert certificate.kind is gw.Kind.GLOBAL
    assert certificate.lower == pytest.approx(known.value, abs=1e-10)


@given(known())
def test_known_answers_lie_inside_at_every_effort(known):
    rounded = 1e-3 * slack(known.x, known.y)
    for effort in EFFORTS:
        certificate = gw.certify(known.x.space(), known.y.space(), effort=effort)
        assert certificate.lower - rounded <= known.value
        assert known.value <= certificate.upper + rounded


def kernel_and_cloud(seed):
    rng = np.random.default_rng(seed)
    kernel = gw.GramSpace(rng.standard_normal((3, 8)))
    return kernel, gw.PointCloud(rng.standard_normal((7, 2)))


@pytest.mark.filterwarnings("ignore::gwtools.ConvergenceWarning")
@pytest.mark.parametrize("effort", ["quadratic", "cubic", "cubic of matrices"])
@pytest.mark.parametrize("seed", range(3))
def test_theorem_11_convex_is_global(seed, effort):
    """A kernel against distances.

    It is recognised by the kinds of spaces, and by spectra where only matrices are
    known.
    """
    x, y = kernel_and_cloud(seed)
    plan = gw.solve(x, y).plan
    if effort == "cubic of matrices":
        effort = "cubic"
        x = gw.DenseSpace(x.dense())
        y = gw.DenseSpace(y.dense())
    certificate = gw.certify(x, y, plan, effort)
    assert certificate.kind is gw.Kind.GLOBAL
    assert certificate.bound == "convexity"
    matrix = plan.dense()
    C = x.dense()
    D = y.dense()
    gap = checkers.frank_wolfe_gap(C, x.weights, D, y.weights, matrix)
    tangent = float(gw.GWProblem(x, y).objective(plan)) - gap
    assert certificate.lower == pytest.approx(tangent, rel=1e-9)
    swapped = gw.certify(y, x, matrix.T, effort)
    assert swapped.lower == pytest.approx(certificate.lower, rel=1e-9)


@pytest.mark.filterwarnings("ignore::gwtools.ConvergenceWarning")
@pytest.mark.parametrize("seed", range(3))
def test_theorem_11_needs_signs_an_effort_and_a_plan(seed):
    kernel, cloud = kernel_and_cloud(seed)
    plan = gw.solve(kernel, cloud).plan
    of_one_sign = gw.certify(kernel, kernel, np.eye(8) / 8, "quadratic")
    assert "convexity" not in of_one_sign.bounds
    cheap = gw.certify(kernel, cloud, plan, "linear")
    assert "convexity" not in cheap.bounds
    assert gw.certify(kernel, cloud, effort="cubic").kind is gw.Kind.LOWER


@given(coupled(null=True), st.data())
def test_theorem_11_almost_convex(instance, data):
    """The tangent less 8 τ (min(n, m) − 1) is below every coupling, convex or not."""
    x, y, plan = instance
    C = x.matrix
    D = y.matrix
    found = gw.certify(x.space(), y.space(), plan, "cubic").bounds["convexity"]
    other = data.draw(couplings(x.weights, y.weights))
    assert found <= checkers.objective(C, D, other)
    # Neither is it far below the tangent less that.
    spectrum = checkers.spectrum(C, x.weights)
    spectrum2 = checkers.spectrum(D, y.weights)
    curvature = max(0.0, float(np.outer(spectrum, spectrum2).max()))
    gap = checkers.frank_wolfe_gap(C, x.weights, D, y.weights, plan)
    tangent = checkers.objective(C, D, plan) - gap
    n = int((x.weights > 0).sum())
    m = int((y.weights > 0).sum())
    expected = max(0.0, tangent - 8 * curvature * min(n, m))
    assert found == pytest.approx(expected, rel=1e-6, abs=1e4 * slack(x, y))


@given(st.sampled_from(["gram", *CONDITIONALLY_NEGATIVE]), st.data())
def test_theorem_11_convexity_is_below_other_couplings(kind, data):
    kinds = CONDITIONALLY_NEGATIVE if kind == "gram" else ("gram",)
    x = data.draw(spaces(kinds=(kind,)))
    y = data.draw(spaces(kinds=kinds))
    plan = data.draw(couplings(x.weights, y.weights))
    other = data.draw(couplings(x.weights, y.weights))
    certificate = gw.certify(x.space(), y.space(), plan, "quadratic")
    reached = checkers.objective(x.matrix, y.matrix, other)
    assert certificate.bounds["convexity"] <= reached


def test_graphs_are_certified_at_every_effort():
    networkx = pytest.importorskip("networkx")
    x = gw.GraphSpace(networkx.path_graph(5))
    y = gw.GraphSpace(networkx.star_graph(5))
    result = gw.solve(x, y)
    for effort in EFFORTS:
        certificate = gw.certify(x, y, result.plan, effort)
        assert 0 < certificate.lower <= float(result.objective) <= certificate.upper


def test_unknown_efforts_are_refused():
    one = np.ones((1, 1))
    message = "effort must be one of 'linear', 'quadratic', 'cubic', 'quartic'"
    with pytest.raises(ValueError, match=message):
        gw.certify(one, one, effort="sextic")
