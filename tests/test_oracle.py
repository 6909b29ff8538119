"""The rational oracle: what is known by hand, what is broken, and what it finds."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import gwtools as gw
from gwtools import Certificate, Kind
from simulations import proofs
from tests import oracle
from tests.checkers import best_permutation, exact_objective, objective
from tests.exact_couplings import Pair
from tests.exact_search import best
from tests.exact_spaces import exact, integers
from tests.instances import DTYPES, FAMILIES, KINDS, NAMES, instance

TWO = np.array([[0.0, 1.0], [1.0, 0.0]])


def read(x, y):
    return Pair(exact(x), exact(y))


def fractions(coupling, shape):
    return np.array(
        [Fraction(mass, coupling.total) for mass in coupling.masses]
    ).reshape(shape)


def marginals(coupling, shape):
    matrix = fractions(coupling, shape)
    assert min(coupling.masses) >= 0
    return list(matrix.sum(1)), list(matrix.sum(0))


def drawn(count, names=NAMES):
    """A few instances of each name."""
    for name in names:
        for seed in range(count):
            yield instance(name, seed)


@pytest.mark.parametrize(
    "values", [[0.1, -3.0, 2.0**-1074, 1e300], [0.0], [], [np.float32(0.1)]]
)
def test_integers_are_exact(values):
    numbers, exponent = integers(values)
    assert [Fraction(number) * Fraction(2) ** exponent for number in numbers] == [
        Fraction(float(v)) for v in values
    ]


def test_matrices_by_hand():
    data = np.array([[1.0, 2.0], [2.0 + 2.0**-51, 0.5]])
    half = Fraction(2) + Fraction(1, 2**52)
    found = exact(gw.DenseSpace(data)).matrix
    assert [[entry.low for entry in row] for row in found] == [
        [1, half],
        [half, Fraction(1, 2)],
    ]
    points = np.array([[0.0, 0.0], [3.0, 4.0], [1.0, 1.0]])
    squared = exact(gw.PointCloud(points, metric="sqeuclidean")).matrix
    assert (
        [entry.low for entry in squared[0]]
        == [entry.high for entry in squared[0]]
        == [0, 25, 2]
    )
    gram = exact(gw.GramSpace(points.T.copy())).matrix
    assert [entry.low for entry in gram[1]] == [0, 25, 7]
    root = exact(gw.PointCloud(points)).matrix[0]
    assert root[1] == (5, 5)
    assert root[2].low ** 2 < 2 < root[2].high ** 2
    assert root[2].high - root[2].low <= Fraction(2, 2**160)


@pytest.mark.parametrize("scale", [1e-310, 1e-150, 1.0, 1e150])
def test_roots_are_enclosed_at_every_scale(scale):
    points = np.array([[0.0], [1.0], [2.5]]) * scale
    points = np.hstack([points, points])
    for row in exact(gw.PointCloud(points)).matrix:
        for entry in row:
            assert entry.high - entry.low <= Fraction(entry.high) / 2**160


def test_weights_are_normalised_exactly_without_zeros():
    weights = np.array([0.25, 0.0, 0.75 + 2.0**-52])
    space = gw.DenseSpace(np.zeros((3, 3)), weights)
    found = exact(space)
    assert found.atoms == [0, 2]
    stored = [Fraction(float(w)) for w in space.weights]
    assert found.weights == [stored[0] / sum(stored), stored[2] / sum(stored)]
    assert sum(found.weights) == 1
    assert exact(gw.DenseSpace(np.zeros((3, 3)))).weights == [Fraction(1, 3)] * 3


def test_objectives_by_hand():
    pair = read(gw.DenseSpace(TWO), gw.DenseSpace(np.zeros((1, 1))))
    assert pair.objective(pair.product()) == (Fraction(1, 2), Fraction(1, 2))
    pair = read(gw.DenseSpace(TWO), gw.DenseSpace(2 * TWO))
    assert pair.objective(pair.along([1, 0])) == (Fraction(1, 2), Fraction(1, 2))
    assert pair.objective(pair.product()) == (Fraction(3, 2), Fraction(3, 2))
    assert pair.largest() == 4
    assert best(pair) == (Fraction(1, 2), Fraction(1, 2))


def test_objectives_are_the_checkers():
    for one in drawn(6, [name for name in NAMES if name.endswith("64")]):
        if one.x.weights.min() == 0 or one.y.weights.min() == 0:
            continue
        pair = read(one.x, one.y)
        if not all(isinstance(space, gw.DenseSpace) for space in (one.x, one.y)):
            continue
        coupling = pair.sorting(range(one.x.size), range(one.y.size))
        matrices = [
            (s.distances.astype(object) + s.distances.T.astype(object)) / 2
            for s in (one.x, one.y)
        ]
        if any(
            not np.array_equal(m.astype(float), s.distances)
            for m, s in zip(matrices, (one.x, one.y), strict=True)
        ):
            continue
        # Masses that are stored exactly: of powers of two.
        masses = np.array(
            [float(Fraction(mass, coupling.total)) for mass in coupling.masses]
        )
        if [Fraction(mass) for mass in masses] != [
            Fraction(mass, coupling.total) for mass in coupling.masses
        ]:
            continue
        expected = exact_objective(
            one.x.distances, one.y.distances, masses.reshape(one.x.size, one.y.size)
        )
        assert pair.objective(coupling) == (expected, expected)


@pytest.mark.parametrize(
    "kinds", [(first, second) for first in KINDS for second in KINDS]
)
def test_objectives_of_every_kind(kinds, rng):
    def space(kind, n):
        values = rng.standard_normal((n, 2))
        if kind == "dense":
            return gw.DenseSpace(values @ values.T)
        return (
            gw.GramSpace(values.T.copy())
            if kind == "gram"
            else gw.PointCloud(values, metric=kind)
        )

    x, y = space(kinds[0], 3), space(kinds[1], 4)
    pair = read(x, y)
    for coupling in (pair.product(), pair.sorting([2, 0, 1], [3, 1, 0, 2])):
        low, high = pair.objective(coupling)
        plan = fractions(coupling, (3, 4)).astype(float)
        assert abs(float(low) - objective(x.dense(), y.dense(), plan)) < 1e-13
        assert 0 <= high - low <= high / 2**150


def test_nearest_is_a_coupling_and_keeps_couplings():
    for one in drawn(15):
        if one.plan is None:
            continue
        pair = read(one.x, one.y)
        coupling = pair.nearest(one.plan)
        shape = (pair.x.size, pair.y.size)
        assert marginals(coupling, shape) == (pair.x.weights, pair.y.weights)
        plan = np.asarray(one.plan.dense(), dtype=float)[
            np.ix_(pair.x.atoms, pair.y.atoms)
        ]
        assert np.abs(fractions(coupling, shape).astype(float) - plan).sum() <= 1e-3
    pair = read(gw.DenseSpace(TWO), gw.DenseSpace(TWO))
    plan = np.array([[0.125, 0.375], [0.375, 0.125]])
    assert np.array_equal(fractions(pair.nearest(plan), (2, 2)).astype(float), plan)


def test_nearest_by_hand():
    pair = read(gw.DenseSpace(TWO), gw.DenseSpace(TWO))
    # The first row is cut to 1/2, then nothing; what is missing goes to the second row
    # and column.
    found = fractions(pair.nearest(np.array([[1.0, 0.0], [0.0, 0.25]])), (2, 2))
    assert found.tolist() == [[Fraction(1, 2), 0], [0, Fraction(1, 2)]]
    found = fractions(pair.nearest(np.zeros((2, 2))), (2, 2))
    assert found.tolist() == [[Fraction(1, 4)] * 2] * 2


def test_nearest_reads_sparse_plans_with_repeated_atoms():
    pair = read(gw.DenseSpace(TWO), gw.DenseSpace(TWO))
    rows, cols = np.array([0, 1, 1]), np.array([1, 0, 0])
    plan = gw.SparsePlan(rows, cols, np.array([0.5, 0.25, 0.25]), (2, 2))
    assert pair.nearest(plan) == pair.nearest(plan.dense())


def test_bijections_need_equal_weights():
    weights = np.array([0.25, 0.75])
    pair = read(gw.DenseSpace(TWO, weights), gw.DenseSpace(TWO, weights[::-1].copy()))
    assert fractions(
        pair.bijection(np.array([[0.0, 0.2], [0.7, 0.0]])), (2, 2)
    ).tolist() == [[0, 0.25], [0.75, 0]]
    assert pair.bijection(np.array([[0.2, 0.0], [0.0, 0.7]])) is None
    assert pair.bijection(np.array([[0.1, 0.1], [0.7, 0.0]])) is None


def test_sorting_is_the_corner_rule():
    for one in drawn(5):
        pair = read(one.x, one.y)
        coupling = pair.sorting(pair.x.row_means(), pair.y.row_means())
        assert marginals(coupling, (pair.x.size, pair.y.size)) == (
            pair.x.weights,
            pair.y.weights,
        )
        assert sum(mass > 0 for mass in coupling.masses) < pair.x.size + pair.y.size


def test_best_of_permutations_and_descent(rng):
    for _ in range(10):
        C, D = (m + m.T for m in rng.standard_normal((2, 4, 4)))
        pair = read(gw.DenseSpace(C), gw.DenseSpace(D))
        found = best(pair)
        assert float(found.high) <= best_permutation(C, D) * (1 + 1e-14)
        assert best(pair, rounds=4).high <= found.high


def certificate_of(seed=3, **options):
    rng = np.random.default_rng(seed)
    x, y = (
        gw.PointCloud(rng.standard_normal((4, 2)), metric="sqeuclidean")
        for _ in range(2)
    )
    plan = gw.solve(x, y, **options).plan
    return gw.certify(x, y, plan), x, y, plan


def sorts(certificate, x, y, plan, **options):
    options.setdefault("allowed", certificate.rounding)
    return {
        message.split(":")[0]
        for message in oracle.violations(certificate, x, y, plan, **options)
    }


def test_a_true_certificate_is_not_reported():
    certificate, x, y, plan = certificate_of()
    assert oracle.violations(certificate, x, y, plan, certificate.upper) == []


def test_broken_certificates_are_reported():
    certificate, x, y, plan = certificate_of()
    above = certificate.upper * (1 + 1e-12)
    raised = replace(
        certificate, bounds=certificate.bounds | {"norm": above}, lower=above
    )
    assert {"bound", "crossed"} <= sorts(raised, x, y, plan)
    assert sorts(replace(certificate, lower=certificate.lower / 2), x, y, plan) == {
        "lower"
    }
    pair = read(x, y)
    cut = np.nextafter(float(pair.objective(pair.nearest(plan)).low), 0)
    assert sorts(replace(certificate, upper=cut), x, y, plan) == {"upper"}
    assert sorts(replace(certificate, a_priori=0.0), x, y, plan) == {"a_priori"}
    assert sorts(replace(certificate, upper=np.inf), x, y, plan) == {"not finite"}
    assert sorts(replace(certificate, a_priori=np.nan), x, y, plan) == {"not finite"}
    assert sorts(certificate, x, y, plan, objective=np.nan) == {"not finite"}
    negative = replace(certificate, lower=-1e-300, bounds={"norm": -1e-300})
    assert "negative" in sorts(negative, x, y, plan)
    assert sorts(certificate, x, y, plan, objective=certificate.upper * 2) == {
        "objective above"
    }
    assert sorts(certificate, x, y, plan, objective=certificate.lower / 2) == {
        "objective below"
    }
    assert "open" in sorts(replace(certificate, kind=Kind.GLOBAL), x, y, plan)


def test_an_ulp_is_reported():
    x, y = gw.DenseSpace(TWO), gw.DenseSpace(2 * TWO)
    plan = np.eye(2) / 2
    right = Certificate(0.5, 0.5, Kind.GLOBAL, "norm", {"norm": 0.5}, 0.0)
    assert sorts(right, x, y, plan) == set()
    above, below = np.nextafter(0.5, 1), np.nextafter(0.5, 0)
    assert sorts(replace(right, lower=above, bounds={"norm": above}), x, y, plan) == {
        "bound",
        "crossed",
    }
    assert sorts(replace(right, upper=below), x, y, plan) == {"upper", "crossed"}
    lowered = replace(right, lower=below, bounds={"norm": below}, kind=Kind.BRACKET)
    assert sorts(lowered, x, y, plan) == {"a_priori"}


def test_kinds_follow_from_the_tolerance():
    x, y, plan = gw.DenseSpace(TWO), gw.DenseSpace(2 * TWO), np.eye(2) / 2
    closed = Certificate(
        0.5, 0.5, Kind.GLOBAL, "norm", {"norm": 0.5}, 0.0, tolerance=0.0
    )
    assert sorts(closed, x, y, plan) == set()
    assert sorts(replace(closed, kind=Kind.BRACKET), x, y, plan) == {"misjudged"}
    apart = replace(closed, lower=0.25, bounds={"norm": 0.25}, a_priori=0.25)
    assert sorts(apart, x, y, plan) == {"misjudged", "open"}
    assert sorts(replace(apart, tolerance=0.25), x, y, plan) == {"tolerance"}
    assert sorts(replace(apart, tolerance=0.25), x, y, plan, allowed=0.25) == set()
    assert sorts(replace(apart, tolerance=0.25, rounding=0.25), x, y, plan) == {
        "rounding"
    }
    assert sorts(replace(closed, tolerance=np.inf), x, y, plan) == {"not finite"}


def test_instances_depend_on_name_and_seed_alone():
    for name in NAMES:
        first, again = instance(name, 7), instance(name, 7)
        for side in "xy":
            for field in ("data", "weights"):
                one, other = (
                    np.asarray(getattr(getattr(i, side), field)) for i in (first, again)
                )
                assert one.dtype == name.split()[1]
                assert np.array_equal(one, other)
        assert (first.plan is None) == (again.plan is None)


def test_instances_are_of_all_sorts():
    seen = list(drawn(60, ["any float64", "any float32"]))
    assert {type(one.x).__name__ for one in seen} == {
        "DenseSpace",
        "GramSpace",
        "PointCloud",
    }
    assert {one.x.size for one in seen} == {1, 2, 3, 4, 5}
    assert {type(one.plan) for one in seen} == {type(None), gw.DensePlan, gw.SparsePlan}
    assert any(one.x.size != one.y.size for one in seen)
    assert any(one.x.weights.min() == 0 for one in seen)
    assert any(0 < one.x.weights.min() < 1e-30 for one in seen)
    assert any(one.hints for one in seen)


# As many of each family as take a second or two a call and dtype.
SEEDS = 10


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("call", proofs.CALLS)
def test_theorem_13_no_violation(call, dtype):
    found = []
    for index, family in enumerate(FAMILIES):
        effort = proofs.EFFORTS[(index + proofs.CALLS.index(call)) % 4]
        chunk = proofs.Chunk(
            index, call, f"{family} {dtype}", effort, tuple(range(SEEDS))
        )
        found += [
            (row["name"], row["seed"], effort, row["message"])
            for row in proofs.examine(chunk)[2]
        ]
    assert found == []
