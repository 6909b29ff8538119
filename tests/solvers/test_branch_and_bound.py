"""Branch and bound: global optima with proofs, whatever ends the search.

500 instances against all bijections, in half a minute:
``python -m tests.solvers.test_branch_and_bound``.
"""

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gwtools as gw
from gwtools._compiled import node_programs
from gwtools.bounds.branching import Search
from tests import checkers
from tests.libraries import LIBRARIES
from tests.strategies import Drawn, weights


def cloud(points, weights=None):
    points = np.array(points, dtype=float)
    points = points[:, None] if points.ndim == 1 else points
    return gw.PointCloud(points, weights, metric="sqeuclidean")


def random_pair(seed, n, m, d=2, other=2, kind="sqeuclidean"):
    rng = np.random.default_rng(seed)
    return [
        Drawn(
            kind,
            rng.standard_normal((k, size) if kind == "gram" else (size, k)),
            rng.dirichlet(np.full(size, 2.0)),
        )
        for size, k in ((n, d), (m, other))
    ]


def check(result, x, y, **settings):
    """Hold a result against its own plan, and its lower end against another solver's.

    ``x`` and ``y`` are as drawn.
    """
    checkers.check_result(result, x.matrix, x.weights, y.matrix, y.weights, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gw.ConvergenceWarning)
        other = gw.solve(x.space(), y.space(), gw.MultiStart(starts=8))
    assert result.certificate.lower <= other.certificate.upper


def test_points_on_a_line_where_sorting_fails():
    x = cloud([-1, -0.02, -0.01, 0, 0.01, 0.02, 1])
    y = cloud([-1, -0.99, 0.01, 0.02, 0.03, 0.04, 0.05])
    result = gw.solve(x, y, gw.BranchAndBound())
    assert float(result.objective) == pytest.approx(0.6547836947, abs=5e-11)
    assert result.status is gw.Status.GLOBAL
    certificate = result.certificate
    assert certificate.kind is gw.Kind.GLOBAL
    assert certificate.bound == "branch_and_bound"
    assert certificate.gap <= certificate.tolerance
    accepted = 1e-6 * float(result.objective)
    assert certificate.tolerance == pytest.approx(accepted, rel=1e-9)
    assert "global to 7e-07" in str(certificate)


# Bijections between equal weights: the objective is concave, so that one of them is
# optimal.


def small_pair(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 9))
    kind = str(rng.choice(["sqeuclidean", "gram"]))
    dimensions = rng.integers(1, 3, 2)
    drawn = []
    for d in dimensions:
        points = rng.standard_normal((n, d))
        if seed % 5 == 0:
            points = np.round(2 * points) / 2
        points = points.T.copy() if kind == "gram" else points
        drawn.append(Drawn(kind, points, np.full(n, 1 / n)))
    return drawn


def against_bijections(seed):
    """How far the objective is from the best bijection's, of the squared values."""
    x, y = small_pair(seed)
    best = checkers.best_permutation(x.matrix, y.matrix)
    result = gw.solve(x.space(), y.space(), gw.BranchAndBound())
    # No wider than rounding.
    assert result.certificate.lower <= best * (1 + 1e-14)
    assert result.status is gw.Status.GLOBAL
    scale = max(np.abs(x.matrix).max(), np.abs(y.matrix).max()) ** 2
    return abs(float(result.objective) - best) / max(best, 1e-6 * scale)


@pytest.mark.parametrize("seed", range(10))
def test_against_all_bijections(seed):
    assert against_bijections(seed) <= 1e-9


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 2**20),
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(1, 2),
    st.sampled_from(("sqeuclidean", "gram")),
    st.data(),
)
def test_theorem_17_intervals_hold_for_any_weights_and_sizes(seed, n, m, d, kind, data):
    rng = np.random.default_rng(seed)
    drawn = []
    for size, k in ((n, d), (m, 2)):
        points = rng.standard_normal((size, k))
        if seed % 3 == 0:
            points = np.round(points)  # duplicates
        points = points.T.copy() if kind == "gram" else points
        drawn.append(Drawn(kind, points, data.draw(weights(size, null=True))))
    x, y = drawn
    result = gw.solve(x.space(), y.space(), gw.BranchAndBound())
    check(result, x, y)
    assert result.status is gw.Status.GLOBAL


SHAPES = {
    "ring": [(np.cos(t), np.sin(t)) for t in 2 * np.pi * np.arange(7) / 7],
    "square": list(itertools.product(range(3), range(3))),
    "triangle": [(0, 0), (1, 0), (0.5, 0.75**0.5)],
}


@pytest.mark.parametrize("x", SHAPES)
@pytest.mark.parametrize("y", SHAPES)
def test_symmetric_shapes_have_an_interval_that_holds(x, y):
    x, y = (cloud(SHAPES[name]) for name in (x, y))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gw.ConvergenceWarning)
        result = gw.solve(x, y, gw.BranchAndBound(max_nodes=100))
    other = gw.solve(x, y)
    assert result.certificate.lower <= other.certificate.upper
    assert float(result.objective) <= float(other.objective) + 1e-9


@pytest.mark.parametrize("noise", [0.0, 1e-6, 1e-3, 0.02])
def test_copies_with_noise_have_an_interval_that_holds(noise):
    rng = np.random.default_rng(0)
    points = rng.standard_normal((12, 2))
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    order = rng.permutation(12)
    moved = points[order] @ turn + noise * rng.standard_normal((12, 2))
    x, y = cloud(points), cloud(moved)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gw.ConvergenceWarning)
        result = gw.solve(x, y, gw.BranchAndBound(max_nodes=200))
    images = np.argsort(order)
    copied = gw.SparsePlan(np.arange(12), images, np.full(12, 1 / 12), (12, 12))
    objective = float(gw.GWProblem(x, y).objective(copied))
    assert result.certificate.lower <= objective * (1 + 1e-12) + 1e-13
    assert float(result.objective) <= objective * (1 + 1e-6) + 1e-9
    if noise == 0.0:
        assert result.iterations == 0
        assert result.status is gw.Status.GLOBAL


def test_copies_end_at_once_where_all_directions_are_alike():
    ring = np.array(SHAPES["ring"])
    order = np.random.default_rng(1).permutation(7)
    result = gw.solve(cloud(ring), cloud(ring[order]), gw.BranchAndBound())
    assert result.iterations == 0
    assert float(result.objective) <= 1e-12
    assert result.certificate.kind is gw.Kind.GLOBAL


@pytest.mark.parametrize("scale", [1e-75, 1e-30, 1e30, 1e75])
@pytest.mark.parametrize("kind", ["sqeuclidean", "gram"])
def test_any_units(scale, kind):
    x, y = random_pair(0, 5, 6, kind=kind)
    one = gw.solve(x.space(), y.space(), gw.BranchAndBound())
    moved = [Drawn(d.kind, d.data * scale, d.weights).space() for d in (x, y)]
    result = gw.solve(*moved, gw.BranchAndBound())
    factor = scale**2
    for end in ("lower", "upper"):
        wanted = getattr(one.certificate, end) * factor * factor
        assert getattr(result.certificate, end) == pytest.approx(wanted, rel=1e-5)
    assert result.status is gw.Status.GLOBAL


def test_float32_has_an_interval_that_holds():
    x, y = random_pair(1, 6, 5)
    x, y = (
        Drawn(d.kind, d.data.astype(np.float32), d.weights.astype(np.float32))
        for d in (x, y)
    )
    result = gw.solve(x.space(), y.space(), gw.BranchAndBound())
    assert result.objective.dtype == np.float32
    wide = gw.solve(
        *(
            gw.PointCloud(
                d.data.astype(float),
                d.weights.astype(float) / d.weights.astype(float).sum(),
                metric="sqeuclidean",
            )
            for d in (x, y)
        ),
        gw.BranchAndBound(tolerance=1e-9),
    )
    assert result.certificate.lower <= wide.certificate.upper
    assert result.certificate.lower >= wide.certificate.lower * (1 - 2e-6)


def test_half_precision_has_no_bound_of_other_weights():
    x, y = random_pair(2, 5, 4)
    x, y = (
        gw.PointCloud(
            d.data.astype(np.float16), d.weights.astype(np.float16), "sqeuclidean"
        )
        for d in (x, y)
    )
    result = gw.solve(x, y, gw.BranchAndBound())
    assert "branch_and_bound" not in result.certificate.bounds


# JAX compiles for many seconds; what the search reads of its arrays is tested in
# tests/bounds/test_node_bounds.py.
@pytest.mark.parametrize(
    "library", [library for library in LIBRARIES if library.name != "jax"], ids=str
)
def test_every_library(library):
    x, y = random_pair(3, 5, 6)
    wanted = gw.solve(x.space(), y.space(), gw.BranchAndBound())
    with library.active():
        spaces = [d.space(library.array) for d in (x, y)]
        result = gw.solve(*spaces, gw.BranchAndBound())
        assert library.owns(result.objective)
        assert library.owns(result.plan.masses)
        found = float(result.objective)
    assert found == pytest.approx(float(wanted.objective), rel=10 * library.rtol)
    assert result.certificate.bound == "branch_and_bound"


# What ends a search early.


def open_pair():
    """Two clouds that take some hundred nodes."""
    return random_pair(4, 12, 12)


def test_without_time_the_interval_still_holds():
    x, y = open_pair()
    with pytest.warns(gw.ConvergenceWarning):
        result = gw.solve(x.space(), y.space(), gw.BranchAndBound(time_limit=0.0))
    check(result, x, y)
    assert result.status is gw.Status.MAX_ITERATIONS
    assert result.iterations == 0


def test_without_nodes_the_interval_still_holds():
    x, y = open_pair()
    lower = []
    for nodes in (1, 8, 40):
        with pytest.warns(gw.ConvergenceWarning):
            result = gw.solve(x.space(), y.space(), gw.BranchAndBound(max_nodes=nodes))
        check(result, x, y)
        assert result.iterations == nodes == len(result.history)
        lower.append(result.certificate.bounds["branch_and_bound"])
    assert lower == sorted(lower)


def test_a_callback_stops_it():
    x, y = open_pair()
    told = []

    def callback(progress):
        told.append(progress)
        return len(told) == 5

    result = gw.solve(x.space(), y.space(), gw.BranchAndBound(), callback=callback)
    check(result, x, y)
    assert result.status is gw.Status.STOPPED
    assert [progress.iteration for progress in told] == [1, 2, 3, 4, 5]
    assert told[-1].objective == pytest.approx(float(result.objective), rel=1e-9)


@pytest.mark.parametrize("unit", [1.0, 1e-60])
def test_the_lower_end_rises_to_the_one_that_is_proved(unit):
    rng = np.random.default_rng(2)
    x, y = (
        gw.PointCloud(unit * rng.standard_normal((n, 2)), metric="sqeuclidean")
        for n in (9, 12)
    )
    told = []
    result = gw.solve(x, y, gw.BranchAndBound(), callback=told.append)
    assert result.status is gw.Status.GLOBAL
    lower = [step.lower for step in result.history]
    assert [progress.lower for progress in told] == lower
    assert {type(value) for value in lower} == {float}
    assert lower == sorted(lower)
    certificate = result.certificate
    proved = certificate.bounds["branch_and_bound"]
    assert 0 <= lower[0] < lower[-1]
    assert lower[-1] == pytest.approx(proved, abs=certificate.tolerance)
    assert all(step.lower <= step.objective for step in result.history)


@pytest.mark.parametrize("at", [1, 2, 30, 60])
def test_an_interrupt_anywhere_leaves_an_interval_that_holds(at, monkeypatch):
    x, y = open_pair()
    original = Search._program
    count = itertools.count(1)

    def interrupted(self, slope):
        if next(count) == at:
            raise KeyboardInterrupt
        return original(self, slope)

    monkeypatch.setattr(Search, "_program", interrupted)
    result = gw.solve(x.space(), y.space(), gw.BranchAndBound())
    check(result, x, y)
    assert result.status is gw.Status.STOPPED
    # Before any coupling is found no width counts as closed.
    assert result.certificate.kind is gw.Kind.BRACKET
    assert result.certificate.tolerance <= 1.1e-6 * result.certificate.upper


def test_an_interrupt_within_a_split_leaves_the_parent(monkeypatch):
    x, y = open_pair()
    original = Search._tighten
    count = itertools.count(1)

    def interrupted(self, node, target):
        if next(count) == 50:
            raise KeyboardInterrupt
        return original(self, node, target)

    monkeypatch.setattr(Search, "_tighten", interrupted)
    result = gw.solve(x.space(), y.space(), gw.BranchAndBound())
    check(result, x, y)
    assert result.status is gw.Status.STOPPED


def test_without_numba_the_interval_is_the_same(monkeypatch):
    x, y = random_pair(5, 6, 7)
    wanted = gw.solve(x.space(), y.space(), gw.BranchAndBound())
    monkeypatch.setattr(node_programs, "available", lambda: False)
    result = gw.solve(x.space(), y.space(), gw.BranchAndBound())
    assert float(result.objective) == pytest.approx(float(wanted.objective), rel=1e-9)
    assert result.status is gw.Status.GLOBAL


def test_the_same_call_gives_the_same_result():
    x, y = random_pair(6, 7, 8)
    one, other = (gw.solve(x.space(), y.space(), gw.BranchAndBound()) for _ in range(2))
    assert one.certificate == other.certificate
    assert one.iterations == other.iterations


def test_progress_shows_both_ends(capsys):
    x, y = random_pair(7, 6, 6)
    scaled = [Drawn(d.kind, d.data * 1e60, d.weights).space() for d in (x, y)]
    result = gw.solve(*scaled, gw.BranchAndBound(progress=True))
    shown = capsys.readouterr().err
    assert "nodes" in shown
    assert f"{float(result.objective):.6g}]" in shown


def test_one_atom_and_equal_points():
    for points in ([0.0], [1.0, 1.0, 1.0]):
        for other in ([2.0], [0.0, 1.0, 3.0], [5.0, 5.0]):
            result = gw.solve(cloud(points), cloud(other), gw.BranchAndBound())
            matrix = (np.subtract.outer(other, other)) ** 2
            assert float(result.objective) == pytest.approx((matrix**2).mean())
            assert result.status is gw.Status.GLOBAL


def test_gradients_pass_by_the_envelope():
    torch = pytest.importorskip("torch")
    x, y = random_pair(8, 5, 6)
    points = torch.tensor(x.data, requires_grad=True)
    space = gw.PointCloud(points, torch.tensor(x.weights), metric="sqeuclidean")
    result = gw.solve(space, y.space(torch.tensor), gw.BranchAndBound())
    result.objective.backward()
    step = 1e-5 * np.random.default_rng(0).standard_normal(x.data.shape)
    ends = [
        float(
            gw.solve(
                Drawn(x.kind, x.data + sign * step, x.weights).space(),
                y.space(),
                gw.BranchAndBound(),
            ).objective
        )
        for sign in (1, -1)
    ]
    slope = float((points.grad.numpy() * step).sum())
    assert (ends[0] - ends[1]) / 2 == pytest.approx(slope, rel=1e-4)


# What is refused.


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (gw.PointCloud(np.eye(3)), gw.PointCloud(np.eye(3))),
        (cloud(np.eye(3)), gw.GramSpace(np.eye(3))),
        (gw.as_space(1 - np.eye(3)), gw.as_space(1 - np.eye(3))),
    ],
)
def test_other_spaces_are_refused(x, y):
    with pytest.raises(TypeError, match=r"pass gwtools\.MultiStart\(\)"):
        gw.solve(x, y, gw.BranchAndBound())


def test_many_dimensions_are_refused():
    rng = np.random.default_rng(9)
    x, y = (cloud(rng.standard_normal((9, d))) for d in (3, 3))
    with pytest.raises(ValueError, match=r"product of at most 6 .* but it is 9"):
        gw.solve(x, y, gw.BranchAndBound())
    # What counts is the dimension of what they span.
    flat = cloud(rng.standard_normal((9, 1)) @ rng.standard_normal((1, 5)))
    result = gw.solve(x, flat, gw.BranchAndBound(tolerance=1e-3))
    assert result.status is gw.Status.GLOBAL


@pytest.mark.parametrize(
    ("error", "settings"),
    [
        (ValueError, {"tolerance": -1.0}),
        (ValueError, {"max_nodes": 0}),
        (ValueError, {"time_limit": float("nan")}),
        (TypeError, {"keep_proof": 1}),
        (TypeError, {"progress": "yes"}),
    ],
)
def test_settings_are_checked(error, settings):
    (name,) = settings
    with pytest.raises(error, match=name):
        gw.BranchAndBound(**settings)


def test_it_names_its_settings():
    assert str(gw.BranchAndBound()) == "BranchAndBound()"
    solver = gw.BranchAndBound(max_nodes=7, time_limit=1.0)
    assert str(solver) == "BranchAndBound(max_nodes=7, time_limit=1.0)"
    assert solver.in_units(4.0).max_nodes == 7


if __name__ == "__main__":
    print(max(against_bijections(seed) for seed in range(500)))
