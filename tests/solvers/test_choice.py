"""The choice of a solver: every line of the table that ``solve`` has."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import gwtools as gw
from gwtools.solvers.choice import Choice, chosen_solver
from gwtools.solvers.portfolio import SMALL
from tests.libraries import EAGER, to_numpy
from tests.solvers.test_multi_start import same
from tests.test_check import refused

RNG = np.random.default_rng(0)
POINTS = RNG.standard_normal((40, 3))
ONE_START = "auto: ConditionalGradient(), "
SEARCH = "auto: MultiStart()"


def weights(n, seed=0):
    return np.random.default_rng(seed).dirichlet(np.full(n, 3.0))


def cloud(n, metric="euclidean", seed=0):
    points = np.random.default_rng(seed).standard_normal((n, 2))
    return gw.PointCloud(points, weights(n, seed), metric=metric)


def gram(n, rows, seed=0):
    factor = np.random.default_rng(seed).standard_normal((rows, n))
    return gw.GramSpace(factor, weights(n, seed))


def kernel(n, seed=0):
    points = np.random.default_rng(seed).standard_normal((n, 2))
    C = np.exp(-cdist(points, points, "sqeuclidean"))
    return gw.DenseSpace(C, weights(n, seed))


def distances(n, seed=0):
    return gw.DenseSpace(cloud(n, seed=seed).dense(), weights(n, seed))


def additive(n, seed=0):
    u = np.random.default_rng(seed).standard_normal(n)
    return gw.DenseSpace(u[:, None] + u, weights(n, seed))


def simplex(n):
    return gw.as_space(1 - np.eye(n))


CASES = {
    "one atom": (cloud(1), cloud(7), "as one atom leaves one coupling"),
    "against one atom": (cloud(6), cloud(1), "as one atom leaves one coupling"),
    "one atom of weight": (
        gw.DenseSpace(np.eye(3), np.array([0.0, 1.0, 0.0])),
        cloud(5),
        "as one atom leaves one coupling",
    ),
    "one row": (
        gram(6, 1),
        gram(8, 1, 1),
        "as one of two sorts is optimal (theorem 12)",
    ),
    "additive": (
        additive(6),
        cloud(8),
        "as one sort is optimal: a space is additive",
    ),
    "constant": (
        cloud(6),
        gw.as_space(np.full((5, 5), 3.0)),
        "as one sort is optimal: a space is additive",
    ),
    "inner products against squares": (
        gram(6, 2),
        cloud(8, "sqeuclidean"),
        "as the objective is convex over couplings",
    ),
    "kernel against distances": (
        kernel(9),
        distances(7, 1),
        "as the objective is convex over couplings",
    ),
    "distances against a kernel": (
        cloud(9),
        gram(12, 3),
        "as the objective is convex over couplings",
    ),
    "nine atoms": (gw.PointCloud(POINTS[:9]), gw.PointCloud(POINTS[9:18]), None),
    "constant row means": (simplex(6), simplex(7), None),
    "squared distances": (cloud(12, "sqeuclidean"), cloud(9, "sqeuclidean", 1), None),
    "inner products": (gram(12, 2), gram(9, 3, 1), None),
    "distances": (cloud(11), cloud(10, seed=1), None),
    "one row of one": (gram(6, 1), gram(8, 2, 1), None),
    "indefinite": (
        gw.DenseSpace(np.diag([1.0, -1.0, 2.0]), weights(3)),
        distances(8),
        None,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_table(case):
    x, y, reason = CASES[case]
    result = gw.solve(x, y)
    assert result.solver == (SEARCH if reason is None else ONE_START + reason)
    assert (result.starts is None) == (reason is not None)
    # The same in the other order, and as a word.
    assert gw.solve(y, x).solver == result.solver
    same(gw.solve(x, y, "auto"), result)
    given = gw.MultiStart() if reason is None else gw.ConditionalGradient()
    same(gw.solve(x, y, given), result)
    assert f"by {result.solver}" in str(result)


@pytest.mark.parametrize(
    "case", ["one row", "additive", "kernel against distances", "one atom"]
)
def test_one_start_is_enough(case):
    """Where auto makes one start, a search finds nothing better."""
    x, y, _ = CASES[case]
    single = float(gw.solve(x, y).objective)
    search = float(gw.solve(x, y, gw.MultiStart(starts=20)).objective)
    assert single <= search * (1 + 1e-7) + 1e-12


def test_squared_distances_try_flips():
    x, y, _ = CASES["squared distances"]
    names = [start.name for start in gw.solve(x, y).starts]
    assert sum(name.startswith("eigenvectors") for name in names) == 3
    x, y, _ = CASES["nine atoms"]
    assert gw.solve(x, y).starts[-1].name == "all permutations"


def test_large_sizes_say_what_is_left_out():
    rng = np.random.default_rng(0)
    x, y = (gw.PointCloud(rng.standard_normal((n, 2))) for n in (510, 505))
    result = gw.solve(x, y)
    assert result.solver == SEARCH
    assert "left out at this size" in str(result)
    assert len(result.starts) <= 4


def test_large_convex_problems_are_known_by_their_kinds(monkeypatch):
    x, y, _ = CASES["kernel against distances"]
    problem = gw.GWProblem(x, y)
    assert chosen_solver(problem, False).reason.endswith("convex over couplings")
    monkeypatch.setattr("gwtools.solvers.choice.SMALL", 9)
    assert chosen_solver(problem, False).reason.endswith("convex over couplings")
    monkeypatch.setattr("gwtools.solvers.choice.SMALL", 8)
    # Eigenvalues of matrices take as long as a start; factors have few.
    assert str(chosen_solver(problem, False)) == SEARCH
    x, y, _ = CASES["inner products against squares"]
    problem = gw.GWProblem(x, y)
    assert chosen_solver(problem, False).reason.endswith("convex over couplings")
    assert SMALL == 500  # atoms of the larger space


def test_convex_by_opposite_eigenvalues_of_factors():
    """Gram spaces and squared clouds of a plane against each other."""
    x, y = gram(30, 2), cloud(20, "sqeuclidean")
    problem = gw.GWProblem(x, y)
    assert chosen_solver(problem, False).solver.__class__ is gw.ConditionalGradient
    both = gw.GWProblem(x, gram(20, 2, 1))
    assert chosen_solver(both, False).solver.__class__ is gw.MultiStart


def test_choices_are_named():
    assert str(Choice(gw.MultiStart(starts=3))) == "auto: MultiStart(starts=3)"
    assert str(Choice(gw.Sorted(), "as it is")).endswith(", as it is")


@pytest.mark.parametrize("word", ["Auto", "multistart", "sinkhorn", ""])
def test_other_words_are_refused(word):
    x, y, _ = CASES["distances"]
    words = ("solver", '"auto"', repr(word), "gwtools.ConditionalGradient()")
    refused(lambda: gw.solve(x, y, word), TypeError, *words)


def test_classes_are_refused():
    x, y, _ = CASES["distances"]
    for wrong in (gw.MultiStart, 3, ("auto",)):
        refused(lambda wrong=wrong: gw.solve(x, y, wrong), TypeError, "solver", "auto")


# --------------------------------------------------------------------------------
# gradients


def tracked(values):
    torch = pytest.importorskip("torch")
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("which", ["points", "weights", "matrix"])
def test_with_gradients_there_is_one_start(which):
    torch = pytest.importorskip("torch")

    def made():
        points, a = torch.tensor(POINTS[:7]), torch.tensor(weights(7))
        if which == "points":
            points.requires_grad_(True)
        if which == "weights":
            a.requires_grad_(True)
        y = torch.tensor(cdist(POINTS[7:16], POINTS[7:16]))
        if which == "matrix":
            y.requires_grad_(True)
        leaf = {"points": points, "weights": a, "matrix": y}[which]
        return leaf, gw.PointCloud(points, a), gw.DenseSpace(y)

    leaf, x, y = made()
    result = gw.solve(x, y)
    assert result.solver == ONE_START + "one start where gradients are asked for"
    assert result.starts is None
    result.objective.backward()
    other, *spaces = made()
    expected = gw.solve(*spaces, gw.ConditionalGradient())
    expected.objective.backward()
    assert torch.equal(leaf.grad, other.grad)
    assert torch.equal(result.plan.dense(), expected.plan.dense())
    # Without gradients, a search.
    detached = [
        space.with_data(space.data.detach(), space.weights.detach()) for space in (x, y)
    ]
    assert gw.solve(*detached).solver == SEARCH


@pytest.mark.parametrize("solver", [None, gw.MultiStart(starts=8)], ids=str)
def test_gradients_are_finite_differences(solver):
    torch = pytest.importorskip("torch")
    y = gw.PointCloud(torch.tensor(POINTS[10:18]), torch.tensor(weights(8)))
    a = torch.tensor(weights(6, 1))
    points = torch.tensor(POINTS[:6], requires_grad=True)

    def objective(values):
        return gw.solve(gw.PointCloud(values, a), y, solver).objective

    (gradient,) = torch.autograd.grad(objective(points), points)
    step = 1e-5
    direction = torch.tensor(np.random.default_rng(3).standard_normal((6, 3)))
    with torch.no_grad():
        ahead = objective((points + step * direction).requires_grad_(True))
        behind = objective((points - step * direction).requires_grad_(True))
    expected = float(ahead - behind) / (2 * step)
    found = float((gradient * direction).sum())
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("library", EAGER, ids=str)
def test_libraries(library):
    x, y = (
        gw.PointCloud(library.array(POINTS[part]), library.array(weights(size)))
        for part, size in ((slice(0, 6), 6), (slice(6, 13), 7))
    )
    result = gw.solve(x, y)
    assert result.solver == SEARCH
    assert library.owns(result.objective)
    kernel_x = gw.GramSpace(library.array(POINTS[:6].T), library.array(weights(6)))
    convex = gw.solve(kernel_x, y)
    assert convex.solver.startswith(ONE_START)
    assert np.isfinite(to_numpy(convex.objective))


# --------------------------------------------------------------------------------
# memory


def test_memory_is_that_of_the_solver_that_is_chosen():
    x, y = cloud(2400, "sqeuclidean"), cloud(1, "sqeuclidean")
    single, search = bytes_held(x, y)
    assert search > 1.5 * single
    between = (single + search) / 2
    gw.solve(x, y, gw.ConditionalGradient(), memory_limit=between)
    result = gw.solve(x, y, memory_limit=between)
    assert result.solver == ONE_START + "as one atom leaves one coupling"


def bytes_held(x, y):
    """What one start holds, and what a search does."""
    solvers = (gw.ConditionalGradient(), gw.MultiStart())
    return [8 * solver.numbers_held(x, y) for solver in solvers]


def test_one_start_is_made_where_a_search_does_not_fit():
    x, y = cloud(40), cloud(30, seed=1)
    single, search = bytes_held(x, y)
    between = (single + search) / 2
    result = gw.solve(x, y, memory_limit=between)
    assert result.solver == ONE_START + "one start, as a search does not fit memory"
    assert result.starts is None
    same(result, gw.solve(x, y, gw.ConditionalGradient()))
    # Who asks for a search is told.
    with pytest.raises(MemoryError, match=r"small enough for MultiStart\(\)"):
        gw.solve(x, y, gw.MultiStart(), memory_limit=between)
    assert gw.solve(x, y, memory_limit=1.01 * search).solver == SEARCH
    with pytest.raises(MemoryError, match=r"small enough for ConditionalGradient\(\)"):
        gw.solve(x, y, memory_limit=single / 2)


def test_what_is_free_decides_without_a_limit(monkeypatch):
    x, y = cloud(40), cloud(30, seed=1)
    single, search = bytes_held(x, y)
    monkeypatch.setattr("gwtools._memory.free", lambda _: (single + search) / 2)
    # Between so few atoms it is not asked.
    assert gw.solve(x, y).solver == SEARCH
    monkeypatch.setattr("gwtools._memory._WORTH_ASKING", 1)
    assert gw.solve(x, y).solver.endswith("as a search does not fit memory")
    monkeypatch.setattr("gwtools._memory.free", lambda _: 2 * search)
    assert gw.solve(x, y).solver == SEARCH
