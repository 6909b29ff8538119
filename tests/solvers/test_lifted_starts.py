"""Conditional gradient between coordinates: the answers of the plain problem."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from gwtools import _array, lifted_problems
from gwtools.plans import SparsePlan
from gwtools.solvers import vertices
from gwtools.spaces import Space
from gwtools.spaces.double_centering import LowRankResidual
from gwtools.transport import lifted
from tests import checkers
from tests.libraries import EAGER, to_numpy
from tests.strategies import couplings, spaces

KINDS = ("sqeuclidean", "gram")
ONE = gw.ConditionalGradient()


@pytest.fixture(autouse=True)
def between_coordinates(monkeypatch):
    """Take small spaces for large ones, and solve all programs on few arcs."""
    monkeypatch.setattr(lifted_problems, "LEAST_ENTRIES", 0)
    monkeypatch.setattr(lifted, "DENSE_ENTRIES", 0)
    monkeypatch.setattr(lifted, "_CELL", 4)


@pytest.fixture
def as_of_many(monkeypatch):
    """End early programs where a part of what they gain is left."""
    monkeypatch.setattr(vertices, "_FEW_ENTRIES", 0)


def plain(x, y, solver=ONE, **options):
    """The answer by matrices."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lifted_problems, "LEAST_ENTRIES", np.inf)
        return gw.solve(x, y, solver, **options)


@pytest.fixture
def no_matrices(monkeypatch):
    """Refuse arrays of all pairs of atoms."""

    def refuse(*_, **__):
        raise AssertionError("an array of all pairs of atoms")

    monkeypatch.setattr(SparsePlan, "dense", refuse)
    monkeypatch.setattr(Space, "dense", refuse)
    monkeypatch.setattr(gw.GWProblem, "gradient", refuse)
    monkeypatch.setattr(LowRankResidual, "dense", refuse)


def cloud(n, d=2, seed=0, a=None, array=np.asarray):
    points = np.random.default_rng(seed).standard_normal((n, d)) * [3, 2, 1][:d]
    weights = None if a is None else array(a)
    return gw.PointCloud(array(points), weights, metric="sqeuclidean")


def gram(n, t=2, seed=0, a=None, array=np.asarray):
    factor = np.random.default_rng(seed).gamma(2.0, 1.0, (t, n))
    weights = np.full(n, 1 / n) if a is None else a
    return gw.GramSpace(array(factor), array(weights))


def dirichlet(n, seed=0):
    return np.random.default_rng(seed).dirichlet(np.full(n, 2.0))


@settings(max_examples=40)
@given(st.tuples(*[spaces(kinds=KINDS, least=4, most=9, generic=True)] * 2))
def test_answers_are_those_of_the_plain_problem(pair):
    x, y = pair
    found, wanted = gw.solve(x.space(), y.space(), ONE), plain(x.space(), y.space())
    scale = max(np.abs(s.matrix).max() ** 2 for s in pair)
    checkers.check_result(found, x.matrix, x.weights, y.matrix, y.weights)
    assert abs(float(found.objective) - float(wanted.objective)) <= 1e-8 * scale


@settings(max_examples=25)
@given(st.tuples(*[spaces(kinds=KINDS, least=4, most=7)] * 2), st.data())
def test_ends_are_stationary_and_not_above_their_starts(pair, data):
    """Also among equal points and from any coupling."""
    x, y = pair
    start = data.draw(couplings(x.weights, y.weights))
    solver = gw.ConditionalGradient(init=gw.DensePlan(start))
    found = gw.solve(x.space(), y.space(), solver)
    scale = max(1e-300, *(np.abs(s.matrix).max() ** 2 for s in pair))
    arguments = x.matrix, x.weights, y.matrix, y.weights
    checkers.check_result(found, *arguments)
    before = checkers.objective(x.matrix, y.matrix, start)
    assert float(found.objective) <= before + 1e-11 * scale
    gap = checkers.frank_wolfe_gap(*arguments, found.plan.dense())
    assert found.status.success
    assert gap <= 1e-7 * scale
    assert gap <= found.frank_wolfe_gap + 1e-9 * scale


PAIRS = {
    "clouds": (cloud(90), cloud(75, 3, 1)),
    "weighted clouds": (
        cloud(70, 2, 2, dirichlet(70)),
        cloud(90, 2, 3, dirichlet(90, 1)),
    ),
    "clouds of one size": (cloud(80, 3, 4), cloud(80, 2, 5)),
    "Gram spaces": (gram(80, 2), gram(70, 3, 1, dirichlet(70))),
    "Gram space and cloud": (gram(66, 2), cloud(70, 2, 1, dirichlet(70))),
}


@pytest.mark.usefixtures("no_matrices")
@pytest.mark.parametrize("case", PAIRS)
def test_no_array_of_all_pairs_is_made(case, monkeypatch):
    x, y = PAIRS[case]
    found = gw.solve(x, y, ONE)
    assert isinstance(found.plan, SparsePlan)
    monkeypatch.undo()
    wanted = plain(x, y)
    assert float(found.objective) == pytest.approx(float(wanted.objective), rel=1e-9)
    assert found.certificate.lower == wanted.certificate.lower
    assert float(found.objective) == pytest.approx(
        float(plain(x, y, gw.ConditionalGradient(init=found.plan)).objective), rel=1e-9
    )


@pytest.mark.usefixtures("as_of_many")
@pytest.mark.parametrize("case", ["clouds", "Gram space and cloud"])
def test_early_ends_of_programs_lead_to_stationary_plans(case):
    x, y = PAIRS[case]
    found = gw.solve(x, y, ONE)
    assert found.status.success
    assert found.frank_wolfe_gap <= 1e-9 * gw.GWProblem(x, y).variation
    wanted = plain(x, y)
    assert float(found.objective) <= 1.001 * float(wanted.objective)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("kind", ["unlike", "alike"])
def test_steps_between_few_atoms_are_those_by_matrices(kind, size):
    """Where programs end early, steps lead to other couplings."""
    rng = np.random.default_rng(size)
    points = rng.standard_normal((2, 120, size))
    if kind == "unlike":
        points[0] *= [3, 2, 1][:size]
    x, y = (gw.PointCloud(p, metric="sqeuclidean") for p in points)
    found, wanted = gw.solve(x, y, ONE), plain(x, y)
    assert found.iterations == wanted.iterations
    assert np.array_equal(found.plan.dense(), wanted.plan.dense())


@pytest.mark.parametrize("far", [1e4, 1e8, 1e12])
def test_outliers_on_either_side_leave_answers_stationary(far, rng, monkeypatch):
    """What differs between all other atoms is then below the tolerance."""
    monkeypatch.setattr(lifted, "DENSE_ENTRIES", 12**2)
    points = rng.standard_normal((2, 36, 3))
    points[0, :2, 0] = far, -far
    points[1, 7, 1] = far
    x, y = (gw.PointCloud(p, metric="sqeuclidean") for p in points)
    found = gw.solve(x, y, ONE)
    checkers.check_result(found, x.dense(), x.weights, y.dense(), y.weights)
    assert found.status.success
    assert found.iterations <= 20


@pytest.mark.parametrize("library", EAGER, ids=str)
def test_plans_are_of_the_library_and_dtype_of_the_spaces(library):
    a = dirichlet(40)
    x, y = cloud(40, 2, 0, a, library.array), gram(35, 2, 1, None, library.array)
    found = gw.solve(x, y, ONE)
    wanted = gw.solve(cloud(40, 2, 0, a), gram(35, 2, 1), ONE)
    assert library.owns(found.plan.mass)
    assert library.owns(found.objective)
    assert all(library.owns(values) for values in found.potentials)
    assert float(found.objective) == pytest.approx(
        float(wanted.objective), rel=library.rtol
    )
    again = gw.solve(x, y, gw.ConditionalGradient(init=found.plan))
    assert float(again.objective) <= float(found.objective) * (1 + library.rtol)
    tolerance = 1e-12 if library.dtype == "float64" else 1e-6
    plan = to_numpy(found.plan.dense())
    assert checkers.coupling_error(plan, a, np.full(35, 1 / 35)) <= tolerance


def test_a_stationary_product_coupling_is_left_along_leading_axes():
    """Points on circles have constant row means: no sort of these descends."""
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    x, y = (gw.PointCloud(r * circle, metric="sqeuclidean") for r in (1.0, 2.0))
    problem = gw.GWProblem(x, y)
    found = gw.solve(x, y, ONE)
    assert float(found.objective) <= float(plain(x, y).objective) * (1 + 1e-9)
    assert float(found.objective) < 0.9 * problem.product_objective


def test_numbers_are_coupled_by_the_better_of_two_sorts(rng):
    h, k = rng.standard_normal((1, 6)), rng.standard_normal((1, 6)) - 0.3
    x, y = (gw.GramSpace(f, np.full(6, 1 / 6)) for f in (h, k))
    best = min(
        np.mean((x.dense() - y.dense()[np.ix_(order, order)]) ** 2)
        for order in map(list, permutations(range(6)))
    )
    assert float(gw.solve(x, y, ONE).objective) == pytest.approx(best, rel=1e-9)


def test_equal_values_leave_nothing_to_do():
    points = np.ones((9, 2))
    x = gw.PointCloud(points, metric="sqeuclidean")
    found = gw.solve(x, cloud(7), ONE)
    assert found.status is gw.Status.GLOBAL
    assert float(found.objective) == pytest.approx(float(cloud(7).second_moment()))


def test_convex_problems_end_at_their_minimum():
    x, y = gram(30, 2), cloud(25, 2, 1, dirichlet(25))
    found, wanted = gw.solve(x, y, ONE), plain(x, y)
    assert float(found.objective) == pytest.approx(float(wanted.objective), rel=1e-8)
    certificate = gw.certify(x, y, found.plan, effort="cubic", tolerance=1e-5)
    assert certificate.kind is gw.Kind.GLOBAL


def test_searches_start_from_few_cells():
    x, y = cloud(260, 2), cloud(300, 3, 1)
    solver = gw.MultiStart(starts=2)
    found = gw.solve(x, y, solver)
    assert [start.name for start in found.starts] == [
        "product coupling",
        "coarse to fine",
    ]
    wanted = plain(x, y, solver)
    assert float(found.objective) <= 1.02 * float(wanted.objective)


@pytest.mark.usefixtures("no_matrices")
def test_atoms_without_weight_get_feasible_potentials(monkeypatch):
    a, b = dirichlet(80), dirichlet(70, 1)
    a[[3, 50]] = b[[0, 9, 60]] = 0.0
    x, y = cloud(80, 2, 0, a / a.sum()), cloud(70, 2, 1, b / b.sum())
    found = gw.solve(x, y, ONE)
    f, g = found.potentials
    monkeypatch.undo()
    reduced = gw.GWProblem(x, y).linearize(found.plan) - f[:, None] - g
    assert reduced.min() >= -1e-9
    # As large as can be: g without weight at all rows, f without weight at the others.
    assert np.abs(reduced[:, b == 0].min(axis=0)).max() <= 1e-9
    assert np.abs(reduced[a == 0][:, b > 0].min(axis=1)).max() <= 1e-9


def test_gradients_in_the_weights_are_those_of_the_plain_problem():
    torch = pytest.importorskip("torch")
    gradients = []
    for solve in (gw.solve, plain):
        a = torch.tensor(dirichlet(30), requires_grad=True)
        b = torch.tensor(dirichlet(20, 1), requires_grad=True)
        x = gw.PointCloud(_array.from_numpy(cloud(30).points, a), a, "sqeuclidean")
        y = gw.PointCloud(
            _array.from_numpy(cloud(20, 2, 1).points, b), b, "sqeuclidean"
        )
        solve(x, y, ONE).objective.backward()
        gradients.append((a.grad - a.grad.mean(), b.grad - b.grad.mean()))
    for found, wanted in zip(*gradients, strict=True):
        assert torch.allclose(found, wanted, rtol=1e-6, atol=1e-6)


def test_memory_grows_with_the_atoms_alone():
    x, y = (gw.PointCloud(np.zeros((n, 3)), metric="sqeuclidean") for n in (10, 20))
    once = ONE.numbers_held(x, y)
    x, y = (
        gw.PointCloud(np.zeros((n, 3)), metric="sqeuclidean") for n in (10**5, 10**5)
    )
    many = ONE.numbers_held(x, y)
    assert once < many < 2**31 / 8
