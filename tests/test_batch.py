"""Many problems at once: every result is that of the single call."""

import tracemalloc

import numpy as np
import pytest

import gwtools as gw
from tests import checkers
from tests.libraries import Library, to_numpy, tried
from tests.strategies import KINDS, Drawn

SORTED = [gw.Sorted(), gw.Sorted(p=3.0), gw.Sorted(kind="norm"), gw.Sorted(kind="spectral")]
SCALED = [gw.Sinkhorn(), gw.Sinkhorn(epsilon=2.0, proximal=False), gw.Sinkhorn(max_iterations=3)]
POWERS = ["row_means", "first", "second"]


def problems(kind="euclidean", dtype="float64", seed=3):
    """Pairs of unequal and equal sizes, uniform, unequal and null weights, ties and copies."""
    rng = np.random.default_rng(seed)
    drawn = []
    for n, style in ((4, "uniform"), (4, "uniform"), (9, "unequal"), (17, "null"), (12, "uniform"), (1, "uniform")):
        points = rng.standard_normal((n, 2)).astype(dtype).astype(float)
        weights = np.ones(n) if style == "uniform" else rng.integers(1, 5, n).astype(float)
        if style == "null":
            weights[::3] = 0.0
        data = {"gram": points.T.copy(), "dense": checkers.euclidean(points).astype(dtype).astype(float)}.get(
            kind, points
        )
        drawn.append(Drawn(kind, data, weights / weights.sum()))
    order = [(0, 1), (2, 3), (3, 4), (4, 4), (5, 2), (3, 3), (0, 2), (1, 5)]
    return [drawn[i] for i, _ in order], [drawn[j] for _, j in order]


def made(side, array=np.asarray):
    return [s.space(array) for s in side]


def matrices(*found):
    """The exact matrices of stored points or factors."""
    wide = [to_numpy(s.data) for s in found]
    return [
        checkers.euclidean(v) if isinstance(s, gw.PointCloud) else v.T @ v for s, v in zip(found, wide, strict=True)
    ]


def agree(found, expected, tolerance=1e-10):
    # A root of the rounding of zero is of no use to compare.
    values = [(r.objective, r.distance**2, r.estimate) for r in (found, expected)]
    for mine, other in zip(*values, strict=True):
        assert float(mine) == pytest.approx(float(other), rel=tolerance, abs=tolerance)
    assert (found.status, found.iterations, found.solver) == (expected.status, expected.iterations, expected.solver)
    assert found.plan.shape == expected.plan.shape
    assert np.abs(to_numpy(found.plan.dense()) - to_numpy(expected.plan.dense())).max() <= tolerance
    mine, other = found.certificate, expected.certificate
    assert mine.lower == pytest.approx(other.lower, rel=1e-8, abs=1e-8)
    assert mine.upper == pytest.approx(other.upper, rel=1e-8, abs=1e-8)
    assert mine.a_priori == pytest.approx(other.a_priori, rel=1e-8, abs=1e-8)
    assert set(mine.bounds) == set(other.bounds)
    assert mine.kind is other.kind


@pytest.mark.parametrize("solver", SORTED, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_each_result_is_that_of_the_single_solve(kind, solver):
    xs, ys = problems(kind)
    for found, x, y in zip(gw.solve_batch(made(xs), made(ys), solver), xs, ys, strict=True):
        agree(found, gw.solve(x.space(), y.space(), solver))
        checkers.check_result(found, x.matrix, x.weights, y.matrix, y.weights)


@pytest.mark.filterwarnings("ignore::gwtools.ConvergenceWarning")
@pytest.mark.parametrize("solver", SCALED, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_scaled_problems_stop_by_themselves_where_the_single_solve_stops(kind, solver):
    xs, ys = problems(kind)
    for found, x, y in zip(gw.solve_batch(made(xs), made(ys), solver), xs, ys, strict=True):
        agree(found, gw.solve(x.space(), y.space(), solver), 1e-8)
        checkers.check_result(found, x.matrix, x.weights, y.matrix, y.weights)


def test_problems_that_descend_late_keep_their_own_pace():
    """Sizes of one bucket, whose steps differ in number, with kernels that need shortened Newton steps."""
    rng = np.random.default_rng(8)
    sizes = rng.integers(9, 17, (12, 2))
    sides = [[gw.PointCloud(rng.standard_normal((n, 3))) for n in column] for column in sizes.T]
    results = gw.solve_batch(*sides, gw.Sinkhorn())
    assert len({r.iterations for r in results}) > 1
    for found, x, y in zip(results, *sides, strict=True):
        agree(found, gw.solve(x, y, gw.Sinkhorn()), 1e-8)


def test_sharp_kernels_of_padded_problems_are_scaled_to_the_end():
    """Atoms of little weight, whose mass moves between parts that hardly touch, beside a larger problem."""
    points = np.array([[0.126, -0.132], [0.640, 0.105], [-0.536, 0.362]])
    few = gw.PointCloud(points[:2], weights=np.array([5e4, 1.0]) / 50001)
    many = gw.PointCloud(points, weights=np.array([1.0, 5e4, 1.0]) / 50002)
    other = gw.PointCloud(np.random.default_rng(4).standard_normal((8, 2)))
    for x, y in ((few, many), (many, few)):
        found, _ = gw.solve_batch([x, other], [y, other], gw.Sinkhorn())
        agree(found, gw.solve(x, y, gw.Sinkhorn()), 1e-8)


def test_problems_blind_at_the_product_coupling_leave_it():
    """Constant row means beside a problem that has none."""
    xs = [1 - np.eye(2), checkers.euclidean(np.arange(6.0).reshape(3, 2) ** 2)]
    for found, x in zip(gw.solve_batch(xs, [1 - np.eye(4)] * 2, gw.Sinkhorn()), xs, strict=True):
        agree(found, gw.solve(x, 1 - np.eye(4), gw.Sinkhorn()), 1e-8)
    assert float(gw.solve_batch(xs, [1 - np.eye(4)] * 2, gw.Sinkhorn())[0].objective) == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("name", ["torch", "array_api_strict"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_scaled_problems_in_other_libraries(name, dtype):
    library, (xs, ys) = Library(name, dtype), (side[::6] for side in problems("euclidean", dtype))
    results = gw.solve_batch(made(xs, library.array), made(ys, library.array), gw.Sinkhorn())
    for found, x, y in zip(results, xs, ys, strict=True):
        assert all(library.owns(v) for v in (found.objective, found.distance, found.plan.dense()))
        expected = gw.solve(x.space(), y.space(), gw.Sinkhorn())
        scale = gw.GWProblem(x.space(), y.space()).product_objective
        assert abs(float(found.objective) - float(expected.objective)) <= max(library.rtol, 1e-8) * scale
        plan = to_numpy(found.plan.dense())
        assert checkers.coupling_error(plan, x.weights, y.weights) <= (1e-12 if dtype == "float64" else 1e-6)
        assert found.certificate.lower <= checkers.objective(x.matrix, y.matrix, plan) + library.rtol * scale
        assert found.certificate.upper >= checkers.objective(x.matrix, y.matrix, plan) - library.rtol * scale


@pytest.mark.parametrize("solver", [gw.ConditionalGradient()], ids=str)
def test_other_solvers_run_problem_by_problem(solver):
    xs, ys = problems()
    for found, x, y in zip(gw.solve_batch(made(xs), made(ys), solver), xs, ys, strict=True):
        agree(found, gw.solve(x.space(), y.space(), solver))


@pytest.mark.parametrize(("library", "kind"), tried(["dense", "gram"], ["dense"]), indirect=["library"])
def test_libraries_and_dtypes_are_kept(library, kind):
    xs, ys = (side[: 1 if library.name == "jax" else 2] for side in problems(kind, library.dtype))
    solver = gw.Sorted(kind="norm")
    results = gw.solve_batch(made(xs, library.array), made(ys, library.array), solver)
    for found, expected in zip(results, gw.solve_batch(made(xs), made(ys), solver), strict=True):
        assert all(library.owns(v) for v in (found.objective, found.distance, found.estimate, found.plan.dense()))
        assert found.objective.shape == ()
        scale = expected.certificate.a_priori + float(expected.objective) + 1.0
        for name in ("objective", "estimate"):
            assert abs(float(getattr(found, name)) - float(getattr(expected, name))) <= library.rtol * scale
        assert found.certificate.lower == pytest.approx(expected.certificate.lower, abs=library.rtol * scale)
    for name in ("row_means", "second"):
        values = getattr(gw.batch, name)(made(xs, library.array), made(ys, library.array))
        assert library.owns(values)
        assert values.shape == (len(xs),)


@pytest.mark.parametrize("kind", ["euclidean", "gram"])
def test_certificates_hold_for_the_stored_values_of_float32(kind):
    torch = pytest.importorskip("torch")
    xs, ys = problems(kind, "float32")
    xs, ys = ([s.space(lambda v: torch.asarray(v, dtype=torch.float32)) for s in side] for side in (xs, ys))
    for found, x, y in zip(gw.solve_batch(xs, ys, gw.Sorted()), xs, ys, strict=True):
        expected = gw.certify(x, y, found.plan)
        assert found.certificate.lower == pytest.approx(expected.lower, rel=1e-8, abs=1e-10)
        # A solver's objective is rounded up to float32.
        assert found.certificate.upper <= expected.upper * (1 + 2.0**-22)
        assert found.certificate.upper >= checkers.objective(*matrices(x, y), to_numpy(found.plan.dense()))


@pytest.mark.parametrize(("name", "settings"), [(name, {"p": p}) for name in POWERS for p in (1.0, 2.0, 3.0)])
@pytest.mark.parametrize("kind", KINDS)
def test_bounds_of_any_power_are_those_of_single_pairs(kind, name, settings):
    check_bound(kind, name, settings)


@pytest.mark.parametrize("name", ["norm", "spectral"])
@pytest.mark.parametrize("kind", KINDS)
def test_bounds_of_power_two_are_those_of_single_pairs(kind, name):
    check_bound(kind, name, {})


def check_bound(kind, name, settings):
    xs, ys = problems(kind)
    values = getattr(gw.batch, name)(made(xs), made(ys), **settings)
    expected = [float(getattr(gw.bounds, name)(x.space(), y.space(), **settings)) for x, y in zip(xs, ys, strict=True)]
    np.testing.assert_allclose(values, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("shift", [-9.0, 9.0])
@pytest.mark.parametrize("null", [False, True])
@pytest.mark.parametrize("name", POWERS)
def test_equal_weights_need_no_atom_of_the_padding(name, null, shift):
    """Values on one side of zero, so that padding would stand at an end; and equal weights of all atoms but one."""
    rng = np.random.default_rng(8)
    sides = [[], []]
    for sizes in ((3, 7), (8, 5), (2, 4), (12, 12), (6, 8)):
        for side, n in zip(sides, sizes, strict=True):
            weights = np.ones(n)
            weights[0] = not null
            side.append(gw.DenseSpace(checkers.euclidean(rng.standard_normal((n, 2))) + shift, weights / weights.sum()))
    for p in (1.0, 2.0, 3.5):
        expected = [float(getattr(gw.bounds, name)(x, y, p)) for x, y in zip(*sides, strict=True)]
        assert getattr(gw.batch, name)(*sides, p).tolist() == pytest.approx(expected, rel=1e-10, abs=1e-10)


def test_certified_interval_of_a_copy_is_closed():
    (space, *_), _ = problems("dense")
    (found,) = gw.solve_batch([space.space()], [space.space()], gw.Sorted())
    assert float(found.objective) == 0.0
    assert found.certificate.kind is gw.Kind.GLOBAL


@pytest.mark.parametrize("solver", [gw.Sorted(), gw.Sorted(kind="spectral")], ids=str)
@pytest.mark.parametrize("factor", [1e152, 1e150, 1e-150, 1e-300])
def test_extreme_units_are_solved_by_themselves(factor, solver):
    xs, ys = problems("dense")
    xs[1] = xs[1].scaled(factor)
    ys[1] = ys[1].scaled(factor)
    together = gw.solve_batch(made(xs), made(ys), solver)
    alone = [gw.solve(x.space(), y.space(), solver) for x, y in zip(xs, ys, strict=True)]
    for found, expected in zip(together, alone, strict=True):
        assert float(found.distance) == pytest.approx(float(expected.distance), rel=1e-10, abs=1e-200)
        assert found.certificate.lower == pytest.approx(expected.certificate.lower, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("solver", [gw.Sorted(), gw.Sinkhorn(), gw.ConditionalGradient()], ids=str)
def test_values_out_of_range_are_refused_by_their_place(solver):
    near = checkers.euclidean(np.random.default_rng(5).standard_normal((4, 2)))
    with pytest.raises(ValueError, match=r"xs\[1\] and ys\[1\]: values of C must be at most"):
        gw.solve_batch([near, 1e300 * near], [near, near], solver)


@pytest.mark.parametrize("far", [1e300, 1e-300, 1.0, 1e12])
def test_values_of_null_atoms_change_nothing(far):
    rng = np.random.default_rng(6)
    near, weights = checkers.euclidean(rng.standard_normal((4, 2))), np.array([0.0, 0.5, 0.25, 0.25])
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


def test_a_large_matrix_spoils_no_other():
    far = np.zeros((4, 4))
    far[:2, 2:] = far[2:, :2] = 1.6e153
    near, weights = checkers.euclidean(np.random.default_rng(5).standard_normal((4, 2))), np.array([9.0, 9.0, 1.0, 1.0])
    xs = [gw.DenseSpace(m, weights / 20) for m in (far, near)]
    solver = gw.Sorted(kind="spectral")
    found = gw.solve_batch(xs, xs[::-1], solver)
    alone = [gw.solve(x, y, solver) for x, y in zip(xs, xs[::-1], strict=True)]
    assert [float(r.distance) for r in found] == pytest.approx([float(r.distance) for r in alone])
    found = gw.solve_batch(xs, xs, solver)[1]
    agree(found, gw.solve(xs[1], xs[1], solver))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_matrices_are_made_for_few_problems_at_a_time(dtype):
    """All matrices of one side are 32 MB in float64."""
    rng = np.random.default_rng(4)
    xs, ys = ([gw.PointCloud(rng.standard_normal((200, 2)).astype(dtype)) for _ in range(100)] for _ in range(2))
    tracemalloc.start()
    found = gw.solve_batch(xs, ys, gw.Sorted())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 100
    assert peak < 12e6


def test_spectra_of_few_atoms_with_weight_in_float32():
    """Torch's own eigenvalues of one in ten of these matrices are NaN."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)

    def drawn():
        points, weights = rng.standard_normal((64, 2)), np.zeros(64)
        weights[rng.choice(64, 6, replace=False)] = rng.dirichlet(np.ones(6))
        return gw.PointCloud(*(torch.asarray(v, dtype=torch.float32) for v in (points, weights)), metric="sqeuclidean")

    xs, ys = ([drawn() for _ in range(60)] for _ in range(2))
    solver = gw.Sorted(kind="spectral")
    found = [float(r.estimate) for r in gw.solve_batch(xs, ys, solver)]
    assert found == pytest.approx(
        [float(gw.solve(x, y, solver).estimate) for x, y in zip(xs, ys, strict=True)], rel=1e-3
    )


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
    with pytest.raises(TypeError, match=r"^xs\[1\] must have the same array dtype as xs\[0\]"):
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
