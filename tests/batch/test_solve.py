"""Many problems at once: every result is that of the single call."""

import numpy as np
import pytest

import gwtools as gw
from tests import checkers
from tests.libraries import to_numpy, tried
from tests.strategies import Drawn


def problems(kind="euclidean", dtype="float64", seed=3):
    """Pairs of all sizes, of uniform, unequal and null weights, ties and copies."""
    rng = np.random.default_rng(seed)
    drawn = []
    for n, style in (
        (4, "uniform"),
        (4, "uniform"),
        (9, "unequal"),
        (17, "null"),
        (12, "uniform"),
        (1, "uniform"),
    ):
        points = rng.standard_normal((n, 2)).astype(dtype).astype(float)
        weights = (
            np.ones(n) if style == "uniform" else rng.integers(1, 5, n).astype(float)
        )
        if style == "null":
            weights[::3] = 0.0
        data = {
            "gram": points.T.copy(),
            "dense": checkers.euclidean(points).astype(dtype).astype(float),
        }.get(kind, points)
        drawn.append(Drawn(kind, data, weights / weights.sum()))
    order = [(0, 1), (2, 3), (3, 4), (4, 4), (5, 2), (3, 3), (0, 2), (1, 5)]
    return [drawn[i] for i, _ in order], [drawn[j] for _, j in order]


def made(side, array=np.asarray):
    return [s.space(array) for s in side]


def matrices(*found):
    """The exact matrices of stored points or factors."""
    wide = [to_numpy(s.data) for s in found]
    return [
        checkers.euclidean(v) if isinstance(s, gw.PointCloud) else v.T @ v
        for s, v in zip(found, wide, strict=True)
    ]


def agree(found, expected, tolerance=1e-10):
    # A root of the rounding of zero is of no use to compare.
    values = [(r.objective, r.distance**2, r.estimate) for r in (found, expected)]
    for mine, other in zip(*values, strict=True):
        assert float(mine) == pytest.approx(float(other), rel=tolerance, abs=tolerance)
    assert (found.status, found.iterations, found.solver) == (
        expected.status,
        expected.iterations,
        expected.solver,
    )
    assert found.plan.shape == expected.plan.shape
    assert (
        np.abs(to_numpy(found.plan.dense()) - to_numpy(expected.plan.dense())).max()
        <= tolerance
    )
    mine, other = found.certificate, expected.certificate
    assert mine.lower == pytest.approx(other.lower, rel=1e-8, abs=1e-8)
    assert mine.upper == pytest.approx(other.upper, rel=1e-8, abs=1e-8)
    assert mine.a_priori == pytest.approx(other.a_priori, rel=1e-8, abs=1e-8)
    assert set(mine.bounds) == set(other.bounds)
    assert mine.kind is other.kind


@pytest.mark.parametrize("solver", [gw.ConditionalGradient()], ids=str)
def test_other_solvers_run_problem_by_problem(solver):
    xs, ys = problems()
    for found, x, y in zip(
        gw.solve_batch(made(xs), made(ys), solver), xs, ys, strict=True
    ):
        agree(found, gw.solve(x.space(), y.space(), solver))


@pytest.mark.parametrize(
    ("library", "kind"), tried(["dense", "gram"], ["dense"]), indirect=["library"]
)
def test_libraries_and_dtypes_are_kept(library, kind):
    xs, ys = (
        side[: 1 if library.name == "jax" else 2]
        for side in problems(kind, library.dtype)
    )
    solver = gw.Sorted(kind="norm")
    results = gw.solve_batch(made(xs, library.array), made(ys, library.array), solver)
    for found, expected in zip(
        results, gw.solve_batch(made(xs), made(ys), solver), strict=True
    ):
        assert all(
            library.owns(v)
            for v in (
                found.objective,
                found.distance,
                found.estimate,
                found.plan.dense(),
            )
        )
        assert found.objective.shape == ()
        scale = expected.certificate.a_priori + float(expected.objective) + 1.0
        for name in ("objective", "estimate"):
            assert (
                abs(float(getattr(found, name)) - float(getattr(expected, name)))
                <= library.rtol * scale
            )
        assert found.certificate.lower == pytest.approx(
            expected.certificate.lower, abs=library.rtol * scale
        )
    for name in ("row_means", "second"):
        values = getattr(gw.batch, name)(
            made(xs, library.array), made(ys, library.array)
        )
        assert library.owns(values)
        assert values.shape == (len(xs),)


def test_certified_interval_of_a_copy_is_closed():
    (space, *_), _ = problems("dense")
    (found,) = gw.solve_batch([space.space()], [space.space()], gw.Sorted())
    assert float(found.objective) == 0.0
    assert found.certificate.kind is gw.Kind.GLOBAL


@pytest.mark.parametrize(
    "solver", [gw.Sorted(), gw.Sinkhorn(), gw.ConditionalGradient()], ids=str
)
def test_values_out_of_range_are_refused_by_their_place(solver):
    near = checkers.euclidean(np.random.default_rng(5).standard_normal((4, 2)))
    with pytest.raises(
        ValueError, match=r"xs\[1\] and ys\[1\]: values of C must be at most"
    ):
        gw.solve_batch([near, 1e300 * near], [near, near], solver)


@pytest.mark.parametrize("far", [1e300, 1e-300, 1.0, 1e12])
def test_values_of_null_atoms_change_nothing(far):
    rng = np.random.default_rng(6)
    near, weights = (
        checkers.euclidean(rng.standard_normal((4, 2))),
        np.array([0.0, 0.5, 0.25, 0.25]),
    )
    other = near.copy()
    other[0, :] = other[:, 0] = far
    clouds = [gw.DenseSpace(m, weights) for m in (near, other)]
    partner = gw.DenseSpace(checkers.euclidean(rng.standard_normal((3, 2))))
    for solver in (gw.Sorted(), gw.Sorted(kind="spectral"), gw.Sinkhorn(epsilon=0.3)):
        expected, found = gw.solve_batch(clouds, [partner, partner], solver)
        assert (found.certificate.lower, found.certificate.upper) == (
            expected.certificate.lower,
            expected.certificate.upper,
        )
        assert float(found.objective) == float(expected.objective)


def test_raw_matrices_and_empty_lists():
    (found,) = gw.solve_batch([1 - np.eye(2)], [1 - np.eye(4)], gw.Sorted())
    assert float(found.objective) == pytest.approx(0.25)
    assert gw.solve_batch([], [], gw.Sorted()) == []
    with pytest.raises(ValueError, match="at least one"):
        gw.batch.row_means([], [])


def test_bad_input_is_refused_before_any_work():
    with pytest.raises(ValueError, match="xs must have as many spaces as ys"):
        gw.solve_batch([np.eye(2)], [])
    with pytest.raises(TypeError, match="dtype"):
        gw.solve_batch([np.eye(2)], [np.eye(2, dtype=np.float32)])
    with pytest.raises(TypeError, match=r"ys\[0\]"):
        gw.solve_batch([np.eye(2)], ["two"])
    with pytest.raises(ValueError, match=r"^ys\[1\] must be symmetric"):
        gw.solve_batch([np.eye(2)] * 2, [np.eye(2), np.triu(np.ones((2, 2)))])
    with pytest.raises(
        TypeError, match=r"^xs\[1\] must have the same array dtype as xs\[0\]"
    ):
        gw.solve_batch([np.eye(2), np.eye(2, dtype=np.float32)], [np.eye(2)] * 2)
    with pytest.raises(ValueError, match=r"^y must be a square matrix"):
        gw.solve(np.eye(2), np.ones((2, 3)))
    with pytest.raises(ValueError, match="effort"):
        gw.solve_batch([np.eye(2)], [np.eye(2)], effort="endless")
    with pytest.raises(TypeError, match="solver"):
        gw.solve_batch([np.eye(2)], [np.eye(2)], "sorted")


def test_problems_that_do_not_converge_warn_once_or_throw():
    xs, ys = problems("dense")
    solver = gw.Sinkhorn(max_iterations=1)
    with pytest.warns(gw.ConvergenceWarning, match="of 8 problems") as caught:
        gw.solve_batch(made(xs), made(ys), solver)
    assert len(caught) == 1
    with pytest.raises(gw.ConvergenceError):
        gw.solve_batch(made(xs), made(ys), solver, throw=True)
