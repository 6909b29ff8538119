"""Certificates at the ends of the range of floats and far from the origin.

Also where weights or atoms count for nothing.
"""

from fractions import Fraction

import numpy as np
import pytest

import gwtools as gw
from tests import checkers, oracle

EFFORTS = ("linear", "quadratic", "cubic")
TWO = np.array([[0.0, 1.0], [1.0, 0.0]])
HALF = np.full(2, 0.5)
DIAGONAL = gw.SparsePlan(np.arange(3), np.arange(3), np.full(3, 1 / 3), (3, 3))


def certificate_of(call, x, y, plan, effort="linear"):
    """A certificate, its plan and the objective that comes with it.

    From one problem or from a batch of one.
    """
    if call == "certify":
        return gw.certify(x, y, plan, effort), plan, None
    solve = (
        gw.solve
        if call == "solve"
        else lambda *args, **options: gw.solve_batch(
            *[[a] for a in args[:2]], *args[2:], **options
        )[0]
    )
    result = solve(x, y, gw.Sorted(), effort=effort)
    return result.certificate, result.plan, float(result.objective)


def check(call, x, y, plan, effort="linear", closed=None):
    certificate, plan, objective = certificate_of(call, x, y, plan, effort)
    assert (
        oracle.violations(
            certificate, x, y, plan, objective, allowed=certificate.tolerance
        )
        == []
    )
    if closed is not None:
        assert (certificate.kind is gw.Kind.GLOBAL) == closed
    return certificate


@pytest.mark.parametrize("call", ["certify", "solve", "batch"])
@pytest.mark.parametrize(
    ("large", "small", "dtype"),
    [(1e100, 1e-100, "float64"), (1.0, 1e-161, "float64"), (1e18, 1e-30, "float32")],
)
def test_squares_that_underflow_raise_the_upper_end(call, large, small, dtype):
    C = np.array([[0.0, large, 0.0], [large, 0.0, 0.0], [0.0, 0.0, 0.0]]).astype(dtype)
    D = C.copy()
    D[2, 2] = small
    plan = gw.SparsePlan(
        DIAGONAL.rows, DIAGONAL.cols, DIAGONAL.mass.astype(dtype), (3, 3)
    )
    certificate = check(call, gw.DenseSpace(C), gw.DenseSpace(D), plan)
    assert certificate.upper >= float(Fraction(float(D[2, 2])) ** 2 / 9) > -1


@pytest.mark.parametrize("call", ["certify", "batch"])
def test_masses_that_underflow_with_squares_raise_the_upper_end(call):
    n = 1000
    C = np.zeros((n, n))
    C[0, 1] = C[1, 0] = 1.0
    D = np.where(C == 0, 4.4e-161, C)
    plan = gw.SparsePlan(np.arange(n), np.arange(n), np.full(n, 1 / n), (n, n))
    certificate = certificate_of(call, gw.DenseSpace(C), gw.DenseSpace(D), plan)[0]
    assert Fraction(certificate.upper) >= Fraction(4.4e-161) ** 2 * Fraction(
        n * n - 2, n * n
    )


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("call", ["certify", "solve", "batch"])
@pytest.mark.parametrize("unit", [1e-310, 5e-324, 1e-200, 1e-161, 1e152])
def test_values_at_the_ends_of_the_range_are_certified(call, unit, effort):
    x, y = gw.DenseSpace(unit * TWO), gw.DenseSpace(3 * unit * TWO)
    certificate = check(call, x, y, np.eye(2) / 2, effort)
    assert certificate.upper <= max(2.1 * unit * unit, 1e-323)
    if call == "solve":
        assert float(gw.solve(x, y).distance) == pytest.approx(
            2**0.5 * unit, rel=1e-10, abs=5e-324
        )


@pytest.mark.parametrize("call", ["solve", "batch"])
def test_subnormal_values_of_float32_are_certified(call):
    C = np.float32(1e-44) * TWO.astype(np.float32)
    check(call, gw.DenseSpace(C), gw.DenseSpace(3 * C), None)


@pytest.mark.parametrize(
    "space",
    [
        gw.PointCloud(np.array([[0.0], [1e200]]), metric="sqeuclidean"),
        gw.GramSpace(np.array([[0.0, 1e200]])),
        gw.PointCloud(np.array([[0.0], [1e200]])),
        gw.PointCloud(np.array([[-1e308], [1e308]])),
        gw.DenseSpace(1.7e308 * TWO),
        gw.DenseSpace(np.float32(1e38) * TWO.astype(np.float32)),
    ],
    ids=["squares", "products", "distances", "diameter", "matrix", "float32"],
)
def test_values_whose_squared_differences_are_no_numbers_are_refused(space):
    other = gw.DenseSpace(np.zeros((1, 1), space.weights.dtype))
    calls = [
        lambda x, y: gw.solve(x, y),
        lambda x, y: gw.solve_batch([x], [y], gw.Sorted()),
    ]
    if space.weights.dtype == np.float64:
        calls += [gw.certify, lambda x, y: gw.certify(x, y, effort="cubic")]
    for call in calls:
        for pair in ((space, other), (other, space)):
            with pytest.raises(
                ValueError,
                match=r"values of C must be at most .*, "
                r"the range in which .*, but reach .*: divide",
            ):
                call(*pair)


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("far", [1e300, 1e12, 1e-200, 0.0])
@pytest.mark.parametrize("form", ["dense", "sparse", "none", "spread"])
def test_atoms_without_weight_have_no_say(far, form, effort):
    """Whatever their values: not in the range, not in the radii, not in the plan."""
    C = np.array([[0.0, 1.0, far], [1.0, 0.0, far], [far, far, 0.0]])
    x, y = gw.DenseSpace(C, np.array([0.5, 0.5, 0.0])), gw.DenseSpace(1.5 * TWO)
    matrix = np.array([[0.5, 0.0], [0.0, 0.5], [0.0, 0.0]])
    plan = {
        "dense": matrix,
        "sparse": gw.SparsePlan(
            np.array([0, 1, 2]), np.array([0, 1, 1]), np.array([0.5, 0.5, 0.0]), (3, 2)
        ),
        "none": None,
        "spread": matrix
        + np.array([[0, 0], [0, 0], [1e-12, 1e-12]]),  # mass where there is no weight
    }[form]
    certificate = check("certify", x, y, plan, effort)
    alone = gw.certify(
        TWO, 1.5 * TWO, None if form == "none" else np.eye(2) / 2, effort
    )
    assert certificate.lower == alone.lower
    assert certificate.upper == pytest.approx(
        alone.upper, rel=0, abs=1e-10 if form == "spread" else 0
    )


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("weight", [1e-300, 1e-310, 1e-320, 5e-324])
def test_weights_at_the_end_of_the_range_are_certified(weight, effort):
    rng = np.random.default_rng(0)
    matrices = [rng.standard_normal((3, 3)) for _ in range(2)]
    x, y = (
        gw.DenseSpace(m + m.T, np.array([*w, weight]))
        for m, w in zip(matrices, ((0.5, 0.5), (0.25, 0.75)), strict=True)
    )
    check("certify", x, y, np.outer(x.weights, y.weights), effort)
    for solver in (gw.ConditionalGradient(), gw.Sinkhorn(), gw.Sorted()):
        result = gw.solve(x, y, solver, effort=effort)
        assert (
            oracle.violations(
                result.certificate,
                x,
                y,
                result.plan,
                result.objective,
                allowed=result.certificate.tolerance,
            )
            == []
        )


@pytest.mark.parametrize("shift", [0.0, 2.0**20, 2.0**24, 2.0**27, -(2.0**27)])
@pytest.mark.parametrize("form", ["identity", "product", "mixture", "none"])
def test_a_constant_added_to_both_matrices_changes_nothing(shift, form):
    """Of values that stay exact: neither kind, ends nor what rounding accounts for."""
    rng, n = np.random.default_rng(0), 30
    A, B = (
        np.triu(m) + np.triu(m, 1).T
        for m in rng.integers(-(2**20), 2**20, (2, n, n)) * 2.0**-20
    )
    assert np.array_equal(A + shift - shift, A)
    product = np.full((n, n), n**-2.0)
    plan = {
        "identity": np.eye(n) / n,
        "product": product,
        "mixture": (np.eye(n) / n + product) / 2,
        "none": None,
    }[form]
    plain, moved = (gw.certify(A + s, B + s, plan, "quadratic") for s in (0.0, shift))
    assert (
        plain.kind
        is moved.kind
        is (gw.Kind.LOWER if form == "none" else gw.Kind.BRACKET)
    )
    for name in ("lower", "upper", "a_priori", "rounding"):
        assert getattr(moved, name) == pytest.approx(getattr(plain, name), rel=1e-9)
    solved = [gw.solve(A + s, B + s) for s in (0.0, shift)]
    assert float(solved[1].objective) == pytest.approx(
        float(solved[0].objective), rel=1e-9
    )


@pytest.mark.parametrize("offset", [1.0, 1e3, 1e6])
def test_factors_far_from_the_origin_are_no_reason_to_close_an_interval(offset):
    rng = np.random.default_rng(0)
    points = offset + rng.standard_normal((50, 3))
    x = gw.GramSpace(np.ascontiguousarray(points.T))
    for plan in (np.full((50, 50), 1 / 2500), np.eye(50)[::-1] / 50):
        certificate = gw.certify(x, x, plan)
        assert certificate.kind is gw.Kind.BRACKET
        assert certificate.upper == pytest.approx(
            checkers.objective(x.dense(), x.dense(), plan), rel=1e-3
        )
    copy = gw.certify(x, x, np.eye(50) / 50)
    assert (copy.lower, copy.upper, copy.kind) == (0.0, 0.0, gw.Kind.GLOBAL)


def exact_moment(D, b):
    total = sum(map(Fraction, b.tolist()))
    weights = [Fraction(w) / total for w in b.tolist()]
    return sum(
        v * w * Fraction(float(d)) ** 2
        for row, v in zip(D, weights, strict=True)
        for d, w in zip(row, weights, strict=True)
    )


@pytest.mark.parametrize("n", [5, 20, 60, 90])
@pytest.mark.parametrize(
    "kind", ["signs", "equal signs", "graph", "squares", "products"]
)
def test_a_priori_reaches_the_distance_to_a_point(kind, n):
    """Where GW_2² is a second moment, which fractions tell."""
    networkx, rng = pytest.importorskip("networkx"), np.random.default_rng(n)
    b = rng.dirichlet(np.full(n, 5.0))
    if "signs" in kind:
        D = np.sign(rng.standard_normal((n, n)))
        y = gw.DenseSpace(
            np.triu(D) + np.triu(D, 1).T, None if kind == "equal signs" else b
        )
    elif kind == "graph":
        y = gw.GraphSpace(networkx.path_graph(n), b)
    elif kind == "products":
        y = gw.GramSpace(1e3 + rng.integers(0, 5, (2, n)).astype(float), b)
    else:
        y = gw.PointCloud(
            rng.integers(0, 100, (n, 3)).astype(float), b, metric="sqeuclidean"
        )
    exact = exact_moment(y.dense(), y.weights)  # of whole numbers, without rounding
    point = gw.DenseSpace(np.zeros((1, 1)))
    for certificate in (
        gw.certify(point, y),
        gw.certify(y, point),
        gw.solve_batch([point], [y], gw.Sorted())[0].certificate,
    ):
        assert (
            Fraction(certificate.bounds["norm"]) + Fraction(certificate.a_priori)
            >= exact
        )
        assert Fraction(certificate.lower) <= exact <= Fraction(certificate.upper)


@pytest.mark.parametrize("call", ["solve", "batch"])
@pytest.mark.parametrize(
    "solver",
    [gw.Sorted(), gw.ConditionalGradient(), gw.Sinkhorn(), gw.Sinkhorn(epsilon=0.3)],
    ids=str,
)
def test_objectives_of_float32_lie_in_their_intervals(call, solver):
    rng = np.random.default_rng(3)
    matrices = [
        rng.standard_normal((n, n)).astype(np.float32) for n in rng.integers(1, 6, 40)
    ]
    spaces = [gw.DenseSpace(m + m.T) for m in matrices]
    pairs = spaces[:20], spaces[20:]
    found = (
        gw.solve_batch(*pairs, solver)
        if call == "batch"
        else [gw.solve(x, y, solver) for x, y in zip(*pairs, strict=True)]
    )
    for result, x, y in zip(found, *pairs, strict=True):
        assert result.objective.dtype == np.float32
        certificate = result.certificate
        assert certificate.lower <= float(result.objective) <= certificate.upper
        assert (
            oracle.violations(
                certificate,
                x,
                y,
                result.plan,
                result.objective,
                allowed=certificate.tolerance,
            )
            == []
        )


@pytest.mark.parametrize("noise", [1e-4, 1e-6])
def test_missed_marginals_never_close_an_interval(noise):
    """A plan that misses its marginals more is no closer to a proof."""
    rng = np.random.default_rng(1)
    C = checkers.euclidean(rng.standard_normal((20, 2))).astype(np.float32)
    plan = (0.9 * np.eye(20) / 20 + 0.1 / 400).astype(np.float32)
    plan[0, 0] += noise
    found = gw.certify(C, C, plan)
    assert found.kind is gw.Kind.BRACKET
    assert found.tolerance == pytest.approx(
        gw.certify(C, C, np.eye(20, dtype=np.float32) / 20).tolerance, rel=1e-12
    )
    assert found.upper >= float(checkers.exact_objective(C, C, plan))
