"""Certificates of every effort: which bounds they hold, that float error never makes one false, and what they close."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gwtools as gw
from gwtools.bounds import certified, float_error, transport_error
from gwtools.certify import enclosed
from gwtools.preparation import prepare
from gwtools.problems import GWProblem
from tests import checkers
from tests.bounds.test_distributions import slack
from tests.strategies import (
    CONDITIONALLY_NEGATIVE,
    Drawn,
    additive_pairs,
    coupled,
    couplings,
    known,
    one_points,
    orders,
    pairs,
    scaled_copies,
    simplices,
    spaces,
)
from tests.whole.test_theorems import lattice_pairs

VALUES = {
    "row_means": gw.bounds.row_means,
    "first": gw.bounds.first,
    "norm": gw.bounds.norm,
    "second": gw.bounds.second,
    "third": gw.bounds.third,
    "residual_third": lambda x, y: gw.bounds.third(x, y, residual=True),
    "spectral": gw.bounds.spectral,
    "convex": gw.bounds.convex,
    "rank_one": gw.bounds.rank_one,
}
QUADRATIC = {"row_means", "norm", "first", "second"}
EFFORTS = ("linear", "quadratic", "cubic")


@given(pairs(null=True))
def test_certified_bounds_are_the_values_rounded_down(pair):
    x, y = pair
    cheap = gw.certify(x.space(), y.space(), effort="quadratic").bounds
    certificate = gw.certify(x.space(), y.space(), effort="cubic")
    one_row = (
        {"rank_one"}
        if all(s.kind == "gram" and len(s.data) == 1 for s in pair)
        else set()
    )
    assert set(certificate.bounds) == (set(VALUES) - {"rank_one"}) | one_row
    assert set(cheap) - {"spectral"} == QUADRATIC | one_row
    for name, found in [*cheap.items(), *certificate.bounds.items()]:
        value = float(VALUES[name](x.space(), y.space()))
        # Eccentricities of low-rank forms lose half of their digits to cancellation;
        # certificates sum them over rows.
        loose = 1e6 if name == "first" else 1e3
        assert value - loose * slack(x, y) <= found <= value + loose * slack(x, y), name
    assert (
        certificate.lower
        == max(certificate.bounds.values())
        == certificate.bounds[certificate.bound]
    )


@given(coupled(null=True))
def test_more_effort_never_loosens(instance):
    x, y, plan = instance
    for given_plan in (None, plan):
        found = [
            gw.certify(x.space(), y.space(), given_plan, effort) for effort in EFFORTS
        ]
        for less, more in pairwise(found):
            assert more.lower >= less.lower - slack(x, y)
            assert more.upper <= less.upper
        assert max(c.lower for c in found) <= min(c.upper for c in found)


@given(coupled(null=True))
def test_no_bound_is_above_a_coupling(instance):
    x, y, plan = instance
    certificate = gw.certify(x.space(), y.space(), plan, "cubic")
    reached = checkers.objective(x.matrix, y.matrix, plan)
    assert certificate.lower <= reached + 1e-3 * slack(x, y)
    assert reached <= certificate.upper <= reached + 1e3 * slack(x, y)


@given(lattice_pairs(), st.data())
def test_theorem_13_every_bound_is_below_exact_arithmetic(instance, data):
    """Against rational arithmetic, with no tolerance at all."""
    C, a, D, b = instance
    plan = np.zeros((len(a), len(b)))
    order_a, order_b = (data.draw(orders(len(w))) for w in (a, b))
    for i, j, mass in checkers.walk(np.argsort(order_a), a, np.argsort(order_b), b):
        plan[i, j] += mass
    exact = checkers.exact_objective(C, D, plan)
    certificate = gw.certify(gw.DenseSpace(C, a), gw.DenseSpace(D, b), plan, "cubic")
    for name, lower in certificate.bounds.items():
        assert Fraction(lower) <= exact, name
    assert exact <= Fraction(certificate.upper)


@pytest.mark.parametrize("effort", EFFORTS)
@given(data=st.data())
def test_closed_gaps_are_global(effort, data):
    """Additive spaces and one-point spaces are closed by linear effort, scaled copies by SLB."""
    families = [additive_pairs(), one_points()] + (
        [scaled_copies()] if effort != "linear" else []
    )
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
    for effort in EFFORTS:
        certificate = gw.certify(known.x.space(), known.y.space(), effort=effort)
        rounded = 1e-3 * slack(known.x, known.y)
        assert certificate.lower - rounded <= known.value <= certificate.upper + rounded


@pytest.mark.filterwarnings("ignore::gwtools.ConvergenceWarning")
@pytest.mark.parametrize("seed", range(3))
def test_theorem_11_convex_is_global(seed):
    """A kernel against distances: recognised by the kinds of spaces, and by spectra where only matrices are known."""
    rng = np.random.default_rng(seed)
    kernel, cloud = (
        gw.GramSpace(rng.standard_normal((3, 8))),
        gw.PointCloud(rng.standard_normal((7, 2))),
    )
    plan = gw.solve(kernel, cloud).plan
    for x, y, effort in (
        (kernel, cloud, "quadratic"),
        (kernel, cloud, "cubic"),
        (gw.DenseSpace(kernel.dense()), gw.DenseSpace(cloud.dense()), "cubic"),
    ):
        certificate = gw.certify(x, y, plan, effort)
        assert certificate.kind is gw.Kind.GLOBAL
        assert certificate.bound == "convexity"
        gap = checkers.frank_wolfe_gap(
            x.dense(), x.weights, y.dense(), y.weights, plan.dense()
        )
        assert certificate.lower == pytest.approx(
            float(gw.GWProblem(x, y).objective(plan)) - gap, rel=1e-9
        )
        swapped = gw.certify(y, x, plan.dense().T, effort)
        assert swapped.lower == pytest.approx(certificate.lower, rel=1e-9)
    assert (
        "convexity" not in gw.certify(kernel, kernel, np.eye(8) / 8, "quadratic").bounds
    )
    assert "convexity" not in gw.certify(kernel, cloud, plan, "linear").bounds
    assert gw.certify(kernel, cloud, effort="cubic").kind is gw.Kind.LOWER


@given(coupled(null=True), st.data())
def test_theorem_11_almost_convex(instance, data):
    """The tangent less 8 τ (min(n, m) − 1) is below every coupling, convex or not."""
    x, y, plan = instance
    certificate = gw.certify(x.space(), y.space(), plan, "cubic")
    other = data.draw(couplings(x.weights, y.weights))
    assert certificate.bounds["convexity"] <= checkers.objective(
        x.matrix, y.matrix, other
    )
    lam, mu = (checkers.spectrum(s.matrix, s.weights) for s in (x, y))
    curvature = max(0.0, float(np.outer(lam, mu).max()))
    gap = checkers.frank_wolfe_gap(x.matrix, x.weights, y.matrix, y.weights, plan)
    reached = checkers.objective(x.matrix, y.matrix, plan)
    sizes = [int((s.weights > 0).sum()) for s in (x, y)]
    expected = max(0.0, reached - gap - 8 * curvature * min(sizes))
    assert certificate.bounds["convexity"] == pytest.approx(
        expected, rel=1e-6, abs=1e4 * slack(x, y)
    )


@given(st.sampled_from(["gram", *CONDITIONALLY_NEGATIVE]), st.data())
def test_theorem_11_convexity_is_below_other_couplings(kind, data):
    kinds = CONDITIONALLY_NEGATIVE if kind == "gram" else ("gram",)
    x, y = data.draw(spaces(kinds=(kind,))), data.draw(spaces(kinds=kinds))
    plan, other = (data.draw(couplings(x.weights, y.weights)) for _ in range(2))
    certificate = gw.certify(x.space(), y.space(), plan, "quadratic")
    assert certificate.bounds["convexity"] <= checkers.objective(
        x.matrix, y.matrix, other
    )


@given(
    spaces(generic=True, least=2),
    st.sampled_from([1e-15, 1e-12, 1e-9]),
    st.integers(0, 2**32 - 1),
)
def test_theorem_13_near_equal(x, size, seed):
    """Where the distance is as small as rounding, no bound is above the objective of the identity."""
    noise = np.random.default_rng(seed).standard_normal(x.data.shape) * size
    y = Drawn(
        x.kind,
        x.data + ((noise + noise.T) / 2 if x.kind == "dense" else noise),
        x.weights,
    )
    certificate = gw.certify(x.space(), y.space(), np.diag(x.weights), "cubic")
    if x.kind == "dense":
        exact = (
            checkers.exact_objective(x.data, y.data, np.diag(x.weights))
            / sum(map(Fraction, x.weights)) ** 2
        )
        assert Fraction(certificate.lower) <= exact <= Fraction(certificate.upper)
    reached = checkers.objective(x.matrix, y.matrix, np.diag(x.weights))
    assert certificate.lower <= reached * (1 + 1e-12) + (
        0 if x.kind == "dense" else 1e-30 * np.abs(x.matrix).max() ** 2
    )


@pytest.mark.parametrize("size", [1e-12, 1e-9, 1e-6])
def test_theorem_13_near_equal_stays_sharp(size, rng):
    """Roots are shrunk, not values: a distance of 1e-12 is still certified, in value 1e-24."""
    C = checkers.euclidean(rng.standard_normal((12, 3)))
    D, order = C * (1 + size), np.arange(12)
    plan = gw.SparsePlan(order, order, np.full(12, 1 / 12), (12, 12))
    certificate = gw.certify(C, D, plan, "quadratic")
    exact = float(checkers.exact_objective(C, D, np.eye(12) / 12))
    assert 0.999 * exact <= certificate.bounds["second"] <= exact
    assert certificate.bounds["row_means"] >= (0.9 if size > 1e-12 else 0.3) * float(
        (((D - C).mean(1)) ** 2).mean()
    )
    assert certificate.upper <= exact * (1 + 1e-6) + 1e-26


@pytest.mark.parametrize("far", [0.0, 1e6])
@given(st.integers(0, 2**32 - 1))
def test_theorem_13_radii_hold(far, seed):
    """Means, deviations and norms of matrices and of low-rank forms against rational arithmetic."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 9))
    points, a = (
        rng.standard_normal((n, 2)) + far * rng.standard_normal(2),
        rng.uniform(0, 1, n) ** 3 + 1e-6,
    )
    a = None if rng.uniform() < 0.3 else a / a.sum()
    wide = [[Fraction(float(v)) for v in row] for row in points]
    squared = [
        [sum((u - v) ** 2 for u, v in zip(p, q, strict=True)) for q in wide]
        for p in wide
    ]
    inner = [
        [sum(u * v for u, v in zip(p, q, strict=True)) for q in wide] for p in wide
    ]
    dense = points @ points.T
    dense = (dense + dense.T) / 2
    for space, matrix in (
        (gw.PointCloud(points, a, metric="sqeuclidean"), squared),
        (gw.GramSpace(np.ascontiguousarray(points.T), a), inner),
        (gw.DenseSpace(dense, a), dense),
    ):
        check_radii(space, matrix)


def check_radii(space, matrix):
    radii = float_error.radii(space)
    m, alpha, residual = exact_parts_of(matrix, space.weights)
    assert abs(Fraction(float(space.mean)) - m) <= Fraction(radii.mean)
    for found, exact in zip(space.deviations, alpha, strict=True):
        assert abs(Fraction(float(found)) - exact) <= Fraction(radii.deviations)
    for found, exact in zip(space.row_means, alpha, strict=True):
        assert abs(Fraction(float(found)) - exact - m) <= Fraction(radii.row_means)
    norm = float(space.residual_norm_squared()) ** 0.5
    radius = Fraction(radii.norm(norm)) * Fraction(101, 100)
    assert (
        max(Fraction(norm) - radius, Fraction(0)) ** 2
        <= residual
        <= (Fraction(norm) + radius) ** 2
    )
    assert radii.largest >= 0.999999 * max(abs(float(v)) for row in matrix for v in row)
    assert radii.mean >= 2.0**-52 * radii.largest
    assert radii.deviations <= 1e-12 * radii.largest


def exact_parts_of(matrix, weights):
    total = sum(map(Fraction, map(float, weights)))
    a = [Fraction(float(w)) / total for w in weights]
    C = [
        [Fraction(v) if isinstance(v, Fraction) else Fraction(float(v)) for v in row]
        for row in matrix
    ]
    f = [sum((c * w for c, w in zip(row, a, strict=True)), Fraction(0)) for row in C]
    m = sum((v * w for v, w in zip(f, a, strict=True)), Fraction(0))
    pairs = ((i, k) for i in range(len(a)) for k in range(len(a)))
    return (
        m,
        [v - m for v in f],
        sum(
            (a[i] * a[k] * (C[i][k] - f[i] - f[k] + m) ** 2 for i, k in pairs),
            Fraction(0),
        ),
    )


@given(pairs(), st.sampled_from([1.0, 2.0]))
def test_theorem_13_line_is_rounded_down(pair, p):
    """Against rational arithmetic with exactly normalised weights."""
    x, y = pair
    values = [s.matrix[0] for s in pair]
    (exact_x, exact_a), (exact_y, exact_b) = (
        (
            [Fraction(float(v)) for v in v],
            [Fraction(float(w)) / sum(map(Fraction, s.weights)) for w in s.weights],
        )
        for v, s in zip(values, pair, strict=True)
    )
    exact = sum(
        (
            m * abs(exact_x[i] - exact_y[j]) ** int(p)
            for i, j, m in checkers.walk(exact_x, exact_a, exact_y, exact_b)
        ),
        Fraction(0),
    )
    terms = max(float_error.weight_terms(s.weights) for s in pair)
    value, lower, upper = transport_error.transport_on_line(
        values[0], x.weights, values[1], y.weights, p, terms
    )
    assert Fraction(lower) <= exact <= Fraction(upper)
    assert upper - lower <= 2e-12 * np.ptp(np.concatenate(values)) ** p + 1e-250
    assert lower <= value <= upper


@given(st.integers(1, 8), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1e-9, 1e-3]))
def test_theorem_13_eigenvalues_need_no_trust(n, seed, error):
    """Wrong eigenpairs are paid for by their own residual."""
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((n, n))
    matrix = matrix + matrix.T
    values, vectors = np.linalg.eigh(matrix)
    wrong = (
        values + error * rng.standard_normal(n),
        vectors + error * rng.standard_normal((n, n)),
    )
    radius, off = float_error.eigenvalue_error(matrix, *wrong)
    assert np.linalg.norm(np.sort(wrong[0]) - values) <= radius + 1e-13
    assert np.linalg.norm(wrong[1].T @ wrong[1] - np.eye(n)) <= off
    assert radius <= 1e-12 + 100 * n**2 * error


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_theorem_13_any_potential_bounds_a_linear_program(n, m, seed):
    rng = np.random.default_rng(seed)
    costs, a, b = (
        rng.standard_normal((n, m)),
        rng.dirichlet(np.ones(n)),
        rng.dirichlet(np.ones(m)),
    )
    best = checkers.linear_program(costs, a, b)
    assert (
        transport_error.dual_value(costs, rng.standard_normal(m), a, b, 2)
        <= best + 1e-12
    )
    tight = gw.transport.programs.exact(costs, a, b).potentials[1]
    assert (
        best - 1e-12 - 0.5
        <= transport_error.dual_value(costs, tight, a, b, 2, 0.5)
        <= best - 0.5 + 1e-12
    )
    assert (
        best - 1e-12 <= transport_error.dual_value(costs, tight, a, b, 2) < best + 1e-12
    )


@given(pairs(generic=True, least=2), st.sampled_from([1e-150, 1e150]))
def test_theorem_13_scales(pair, factor):
    x, y = pair
    here, there = (
        gw.certify(s.space(), t.space(), effort="cubic")
        for s, t in ((x, y), (x.scaled(factor), y.scaled(factor)))
    )
    for name in QUADRATIC | {"third", "residual_third", "spectral"}:
        assert there.bounds[name] / factor / factor == pytest.approx(
            here.bounds[name], rel=1e-8, abs=100 * slack(x, y)
        )


@given(pairs(null=True), st.sampled_from([2.0**-20, 2.0**20]))
def test_theorem_13_radii_have_the_units_of_what_they_bound(pair, factor):
    """A power of two changes no digit: neither of a value nor of what rounding takes off it."""
    x, y = pair
    here = gw.certify(x.space(), y.space(), effort="quadratic").bounds
    there = gw.certify(
        x.scaled(factor).space(), y.scaled(factor).space(), effort="quadratic"
    ).bounds
    for name in QUADRATIC:
        assert there[name] / factor**2 == pytest.approx(here[name], rel=4e-16, abs=0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("effort", EFFORTS)
def test_narrow_torch_spaces_are_certified_as_the_values_they_store(dtype, effort):
    torch = pytest.importorskip("torch")
    points = [
        torch.randn((n, 3), generator=torch.Generator().manual_seed(n)).to(
            getattr(torch, dtype)
        )
        for n in (6, 8)
    ]
    matrices = [checkers.euclidean(p.double().numpy()) for p in points]
    weights = [np.full(len(p), 1 / len(p)) for p in points]
    certificate = gw.certify(*(gw.PointCloud(p) for p in points), effort=effort)
    wide = gw.certify(
        *(gw.DenseSpace(m, w) for m, w in zip(matrices, weights, strict=True)),
        effort=effort,
    )
    assert certificate.lower == pytest.approx(wide.lower, rel=1e-9)
    assert certificate.upper == pytest.approx(wide.upper, rel=1e-9)


@given(coupled(least=2))
def test_without_a_plan_the_cheap_couplings_compete(instance):
    x, y, _ = instance
    found = gw.certify(x.space(), y.space(), effort="quadratic").upper
    a, b = x.weights, y.weights
    f, g = x.matrix @ a, y.matrix @ b
    sizes = [s.matrix**2 @ s.weights for s in (x, y)]
    reached = [checkers.objective(x.matrix, y.matrix, np.outer(a, b))]
    if all(np.diff(np.sort(v)).min() > 1e-6 for v in (f, g, *sizes)):
        for first, second in ((f, g), (f, -g), sizes):
            plan = np.zeros((x.size, y.size))
            for i, j, mass in checkers.walk(first, a, second, b):
                plan[i, j] += mass
            reached.append(checkers.objective(x.matrix, y.matrix, plan))
        assert found == pytest.approx(min(reached), rel=1e-9, abs=100 * slack(x, y))
    assert found <= min(reached) * (1 + 1e-9) + 100 * slack(x, y)


def test_certified_copies_are_exactly_zero(rng):
    C = checkers.euclidean(rng.standard_normal((9, 2)))
    order = rng.permutation(9)
    plan = gw.SparsePlan(order, np.arange(9), np.full(9, 1 / 9), (9, 9))
    certificate = gw.certify(C, np.ascontiguousarray(C[np.ix_(order, order)]), plan)
    assert (certificate.lower, certificate.upper, certificate.kind) == (
        0.0,
        0.0,
        gw.Kind.GLOBAL,
    )


def test_graphs_are_certified_at_every_effort():
    networkx = pytest.importorskip("networkx")
    graphs = [
        gw.GraphSpace(networkx.path_graph(5)),
        gw.GraphSpace(networkx.star_graph(5)),
    ]
    result = gw.solve(*graphs)
    for effort in EFFORTS:
        certificate = gw.certify(*graphs, result.plan, effort)
        assert 0 < certificate.lower <= float(result.objective) <= certificate.upper


def test_low_rank_radii_follow_the_factor(rng):
    wide = gw.GramSpace(rng.standard_normal((9, 4)), np.full(4, 1 / 4))
    assert not wide.low_rank.saves_work
    check_radii(
        wide,
        [
            [
                sum(
                    Fraction(float(u)) * Fraction(float(v))
                    for u, v in zip(p, q, strict=True)
                )
                for q in wide.factor.T
            ]
            for p in wide.factor.T
        ],
    )
    ready = prepare(wide, wide)
    found = certified.linear(ready.x, ready.y, enclosed(GWProblem(ready.x, ready.y)))
    assert set(found.bounds) == {"row_means", "norm"}


def test_unknown_efforts_are_refused():
    with pytest.raises(
        ValueError, match="effort must be one of 'linear', 'quadratic', 'cubic'"
    ):
        gw.certify(np.ones((1, 1)), np.ones((1, 1)), effort="quartic")
