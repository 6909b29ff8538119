"""The search for multipliers of theorem 16: its projections, and where it ends."""

import itertools
import math

import array_api_strict
import numpy as np
import pytest
import torch

import gwtools as gw
from gwtools.bounds import level_one, moment_matrix
from gwtools.bounds.moment_matrix import Search, basis_of
from gwtools.bounds.nested_programs import NestedProgram, solve
from gwtools.history import now
from gwtools.transport.local_distributions import centred
from tests.bounds.formulas import matrix, some_weights


def centred_spaces(rng, n, m, equal=False):
    sizes = (n, m)
    weights = [None if equal else some_weights(rng, size) for size in sizes]
    spaces = [
        gw.DenseSpace(matrix(rng, size, 1.0, 0.0), given)
        for size, given in zip(sizes, weights, strict=True)
    ]
    return [centred(space) for space in spaces]


def value(x, y, multipliers):
    return solve(NestedProgram(x, y, 8.0, multipliers)).lower


def least_objective(x, y):
    """The least objective of all bijections, without (m_C − m_D)²."""
    n = len(x.weights)
    best = math.inf
    for order in itertools.permutations(range(n)):
        mean_square = np.mean((x.matrix - y.matrix[np.ix_(order, order)]) ** 2)
        best = min(best, float(mean_square))
    return best - (x.mean - y.mean) ** 2


def columns(basis):
    """K as a matrix (n m, size)."""
    n, m = basis.q.shape
    products = np.einsum("ip,jq->ijpq", basis.E, basis.F).reshape(n * m, -1)
    return np.column_stack([basis.q.ravel(), products])


@pytest.mark.parametrize(
    "root", [[1.0], [0.6, 0.8], [0.0, 0.6, 0.8], [1e-200, 1.0, 1e-9, 0.0]]
)
def test_vectors_are_completed_to_orthonormal_bases(root):
    root = np.array(root)
    basis = moment_matrix.completed(root)
    assert np.array_equal(basis[:, 0], root)
    assert basis.T @ basis == pytest.approx(np.eye(len(root)), abs=1e-8)


def test_couplings_lie_in_the_basis(rng):
    a = some_weights(rng, 3)
    b = some_weights(rng, 4)
    basis = basis_of(a, b)
    K = columns(basis)
    assert basis.size == K.shape[1] == 7
    gram = K.T @ K
    assert gram == pytest.approx(np.eye(7), abs=1e-13)
    plan = gw.round_plan(rng.random((3, 4)), a, b)
    for coupling in (np.outer(a, b), plan):
        Q = (coupling / basis.q).ravel()
        projected = K @ (K.T @ Q)
        assert projected == pytest.approx(Q, abs=1e-13)


@pytest.mark.parametrize("shape", [(2, 2), (3, 5), (5, 2)])
def test_coordinates_are_those_of_the_basis(rng, shape):
    n, m = shape
    basis = basis_of(some_weights(rng, n), some_weights(rng, m))
    K = columns(basis)
    y = matrix(rng, n * m, 1.0, 0.0)
    r = basis.coordinates(y.reshape(n, m, n, m))
    assert r == pytest.approx(K.T @ y @ K, abs=1e-13)
    whole = basis.expanded(r)
    assert whole.reshape(n * m, n * m) == pytest.approx(K @ r @ K.T, abs=1e-13)


@pytest.mark.parametrize("values", [[-3, -2, -1, 4], [-3, 1, 2, 4], [1, 2], [-1, -2]])
def test_positive_parts(rng, values):
    U = np.linalg.qr(rng.standard_normal((len(values), len(values))))[0]
    values = np.array(values, dtype=float)
    r = (U * values) @ U.T
    wanted = (U * np.maximum(values, 0)) @ U.T
    assert moment_matrix.positive_part(r) == pytest.approx(wanted, abs=1e-13)
    found = moment_matrix.positive_part(torch.asarray(r))
    assert found.numpy() == pytest.approx(wanted, abs=1e-13)


@pytest.mark.parametrize("level", [0.0, -7.0, 3.0, 1e6])
def test_the_nearest_point_of_mass_one(rng, level):
    wanted = rng.standard_normal(50)
    mass = rng.random(50)
    level, found = moment_matrix.on_simplex(wanted, mass, level)
    assert mass @ found == pytest.approx(1, abs=1e-4)
    # Its difference from the wanted one is a multiple of the mass where it is positive.
    assert found == pytest.approx(np.maximum(wanted - level * mass, 0))


def test_iterates_stay_in_their_sets(rng):
    x, y = centred_spaces(rng, 4, 3)
    search = Search(x, y)
    for _ in range(60):
        search.step()
    assert search._y.min() >= 0
    assert float((search._y * search._mass).sum()) == pytest.approx(1, abs=1e-4)
    dual = search._dual.reshape(12, 12)
    assert dual == pytest.approx(dual.T, abs=1e-4)


@pytest.mark.parametrize("module", [array_api_strict, torch])
def test_other_libraries_take_the_same_steps(rng, module):
    x, y = centred_spaces(rng, 4, 5)
    first = level_one.Search(x, y)
    alone = Search(x, y)
    alone.start_from(first)
    like = module.asarray(np.zeros(1, dtype=np.float32))
    first = level_one.Search(x, y, like)
    other = Search(x, y, like)
    other.start_from(first)
    for _ in range(55):  # the penalty changes once
        alone.step()
        other.step()
    tensor = other.multipliers().tensor
    scale = np.abs(tensor).max()
    assert tensor == pytest.approx(alone.multipliers().tensor, abs=2e-3 * scale)
    assert type(other._y) is type(like)


def test_multipliers_are_positive_semidefinite_on_couplings(rng):
    x, y = centred_spaces(rng, 3, 4)
    search = Search(x, y)
    for _ in range(20):
        search.step()
    tensor = search.multipliers().tensor
    basis = basis_of(x.weights, y.weights)
    K = columns(basis)
    xi = (tensor * basis.q[:, :, None, None] * basis.q).reshape(12, 12)
    assert xi == pytest.approx(xi.T, abs=1e-12 * np.abs(xi).max())
    values = np.linalg.eigvalsh(K.T @ xi @ K)
    assert values.min() >= -1e-12 * values.max()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e5])
def test_the_relaxation_of_clouds_is_tight(rng, scale):
    points = rng.standard_normal((2, 6, 2)) * scale
    x, y = (centred(gw.PointCloud(cloud)) for cloud in points)
    best = least_objective(x, y)  # distances: permutations are optimal
    found = value(x, y, moment_matrix.best_multipliers(x, y, 8.0, 300))
    assert 0.999 * best <= found <= best * (1 + 1e-9)


def test_a_start_from_theorem_15_is_ahead(rng):
    x, y = centred_spaces(rng, 6, 5)
    first = level_one.Search(x, y)
    for _ in range(100):
        first.step()
    ahead = Search(x, y)
    ahead.start_from(first)
    behind = Search(x, y)
    for search in (ahead, behind):
        for _ in range(5):
            search.step()
    assert value(x, y, ahead.multipliers()) > value(x, y, behind.multipliers())


def test_never_below_theorem_15(rng):
    x, y = centred_spaces(rng, 5, 4)
    first = level_one.Search(x, y)
    for _ in range(100):
        first.step()
    least = value(x, y, first.multipliers())
    # One step beyond it: the semidefinite search itself has proved nothing yet.
    found = moment_matrix.best_multipliers(x, y, 8.0, 100)
    assert value(x, y, found) >= least


def test_without_steps_it_is_the_residual_third_bound(rng):
    x, y = centred_spaces(rng, 4, 3)
    found = moment_matrix.best_multipliers(x, y, 8.0, 0)
    assert found.tensor is None
    third = level_one.residual_third_multipliers(x, y)
    assert value(x, y, found) == value(x, y, third)


def counted(monkeypatch):
    """A list that grows with each step of a search."""
    steps = []
    step = Search.step

    def recorded(self):
        steps.append(self)
        step(self)

    monkeypatch.setattr(Search, "step", recorded)
    return steps


def test_enough_is_enough(rng, monkeypatch):
    x, y = centred_spaces(rng, 4, 3)
    steps = counted(monkeypatch)
    moment_matrix.best_multipliers(x, y, 8.0, 1000, enough=-1e9)
    assert len(steps) == 100


def test_a_late_search_ends_after_a_step(rng, monkeypatch):
    x, y = centred_spaces(rng, 4, 3)
    steps = counted(monkeypatch)
    moment_matrix.best_multipliers(x, y, 8.0, 1000, deadline=now() - 1)
    assert len(steps) == 1


def test_a_search_that_gains_nothing_ends(monkeypatch):
    # Copies: the bound is 0 from the first value on.
    points = np.random.default_rng(0).standard_normal((4, 2))
    x = centred(gw.PointCloud(points))
    steps = counted(monkeypatch)
    moment_matrix.best_multipliers(x, x, 8.0, 5000)
    assert len(steps) < 3000


def test_an_interrupted_search_keeps_what_it_found(rng, monkeypatch):
    x, y = centred_spaces(rng, 5, 4)
    step = Search.step

    def interrupted(self):
        if self._steps == 110:
            raise KeyboardInterrupt
        step(self)

    monkeypatch.setattr(Search, "step", interrupted)
    found = moment_matrix.best_multipliers(x, y, 8.0, 1000)
    assert found.tensor is not None


@pytest.mark.parametrize(("n", "m"), [(1, 4), (3, 1), (1, 1)])
def test_one_atom_needs_no_search(rng, n, m):
    x, y = centred_spaces(rng, n, m)
    found = moment_matrix.best_multipliers(x, y, 8.0, 1000)
    product = np.outer(x.weights, y.weights)
    squares = (x.matrix[:, None, :, None] - y.matrix[:, None]) ** 2
    objective = float(np.einsum("ijkl,ij,kl", squares, product, product))
    offset = (x.mean - y.mean) ** 2
    assert offset + value(x, y, found) == pytest.approx(objective, rel=1e-12, abs=1e-12)
