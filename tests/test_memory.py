"""Memory: estimates hold what is used, and what does not fit is refused in advance."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp

import gwtools as gw
from gwtools import _memory
from gwtools.bounds.memory import numbers_held, numbers_held_by
from gwtools.certify import EFFORTS
from tests.test_check import refused

SOLVERS = (
    gw.ConditionalGradient(tolerance=1e-4),
    gw.ConditionalGradient(exchange=False, max_iterations=5),
    gw.Sinkhorn(tolerance=1e-3),
    gw.Sinkhorn(proximal=False, max_iterations=3),
    gw.Sorted(),
    gw.Sorted(kind="spectral"),
)
SHAPES = ((600, 200), (400, 400))


def space(kind, n, seed=0):
    rng = np.random.default_rng(seed)
    points, weights = rng.random((n, 3)), rng.uniform(1, 2, n)
    weights /= weights.sum()
    if kind == "dense":
        return gw.DenseSpace(np.linalg.norm(points[:, None] - points, axis=2), weights)
    return gw.PointCloud(points, weights, metric=kind)


def held(call):
    """Numbers that are held at once, at most, while something is computed."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        call()
        return (tracemalloc.get_traced_memory()[1] - before) / _memory.NUMBER
    finally:
        tracemalloc.stop()


@pytest.mark.filterwarnings("ignore::gwtools.ConvergenceWarning")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["dense", "euclidean", "sqeuclidean"])
@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_solvers_hold_what_they_say(solver, kind, shape):
    x, y = (space(kind, n, seed) for seed, n in enumerate(shape))
    gw.solve(
        space(kind, 9), space(kind, 8), solver
    )  # what is imported at the first call is not counted
    used, said = held(lambda: gw.solve(x, y, solver)), solver.numbers_held(x, y)
    assert used <= max(said, 100 * sum(shape))
    assert said <= max(5 * used, 100 * sum(shape))


@pytest.mark.parametrize("shape", [(400, 150), (150, 400), (250, 250)], ids=str)
@pytest.mark.parametrize("effort", ["quadratic", "cubic"])
def test_certificates_hold_what_they_say(effort, shape):
    x, y = (space("euclidean", n) for n in shape)
    plan = gw.solve(x, y, gw.Sorted()).plan
    used, said = (
        held(lambda: gw.certify(x, y, plan, effort)),
        numbers_held(x, y, effort),
    )
    assert used <= said <= 5 * used


def test_sorting_of_low_rank_spaces_holds_a_multiple_of_their_atoms():
    n, m = 60_000, 50_000
    rng = np.random.default_rng(0)
    clouds = [gw.PointCloud(rng.random((k, 3)), metric="sqeuclidean") for k in (n, m)]
    grams = [gw.GramSpace(rng.standard_normal((4, k))) for k in (n, m)]
    for x, y in (clouds, grams, (clouds[0], grams[1])):
        for kind in ("row_means", "norm", "spectral"):
            assert held(
                lambda x=x, y=y, kind=kind: gw.solve(x, y, gw.Sorted(kind=kind))
            ) < 50 * (n + m)
        assert held(
            lambda x=x, y=y: gw.solve(x, y, gw.Sorted(), memory_limit=1e6)
        ) < 50 * (n + m)


@pytest.mark.parametrize("shape", [(500, 400), (600, 100)], ids=str)
def test_spectra_hold_what_they_say_where_blocks_hold_less(monkeypatch, shape):
    monkeypatch.setattr("gwtools.spaces.base.BLOCK_ENTRIES", 2**14)
    x, y = (space("euclidean", n) for n in shape)
    solver = gw.Sorted(kind="spectral")
    used, said = held(lambda: gw.solve(x, y, solver)), solver.numbers_held(x, y)
    assert used <= said <= 5 * used


@pytest.mark.parametrize("kind", ["dense", "euclidean", "sqeuclidean"])
def test_what_is_computed_without_asking_needs_little(kind):
    n = max(k for k in range(1, 5000) if _memory.atoms_surely_fit(k, k))
    x = space(kind, n)
    numbers = [solver.numbers_held(x, x) for solver in SOLVERS] + [
        numbers_held(x, x, effort) for effort in EFFORTS
    ]
    assert n > 100
    assert _memory.NUMBER * max(numbers) < _memory._WORTH_ASKING


N, M = 20_000, 15_000
LARGE = {
    "solve": lambda x, y: gw.solve(x, y, memory_limit=1e9),
    "solve by Sinkhorn": lambda x, y: gw.solve(x, y, gw.Sinkhorn(), memory_limit=1e9),
    "solve by spectra": lambda x, y: gw.solve(
        x, y, gw.Sorted(kind="spectral"), memory_limit=1e9
    ),
    "solve with effort": lambda x, y: gw.solve(
        x, y, gw.Sorted(), effort="quadratic", memory_limit=1e9
    ),
    "certify": lambda x, y: gw.certify(x, y, effort="cubic", memory_limit=1e9),
    "solve_batch": lambda x, y: gw.solve_batch([x], [y], memory_limit=1e9),
    "second": gw.bounds.second,
    "third": gw.bounds.third,
    "convex": gw.bounds.convex,
    "spectral": gw.bounds.spectral,
}


@pytest.mark.parametrize("name", LARGE)
def test_what_cannot_fit_is_refused_before_it_is_asked_for(monkeypatch, name):
    monkeypatch.setattr(_memory, "_of_the_machine", lambda: 1e9)
    rng = np.random.default_rng(0)
    x, y = gw.PointCloud(rng.random((N, 2))), gw.PointCloud(rng.random((M, 2)))

    def call():
        refused(
            lambda: LARGE[name](x, y),
            MemoryError,
            "20000 × 15000",
            " GB at once, of which 1 GB may",
            "Sorted()",
        )

    assert held(call) < 10 * N


def test_the_remedy_fits():
    x, y = (gw.PointCloud(np.random.default_rng(0).random((n, 2))) for n in (900, 700))
    with pytest.raises(MemoryError, match="subsamples of at most") as caught:
        gw.solve(x, y, memory_limit=2e7)
    n, m = (
        int(word)
        for word in str(caught.value)
        .split("at most ")[1]
        .split(" atoms")[0]
        .split(" and ")
    )
    fewer = (gw.PointCloud(s.points[:k]) for s, k in ((x, n), (y, m)))
    assert held(lambda: gw.solve(*fewer, memory_limit=2e7)) < 2e7 / _memory.NUMBER
    assert n > 100
    assert gw.solve(x, y, memory_limit=1e9).status.success


def test_the_problem_of_a_batch_is_named():
    small, large = (
        gw.PointCloud(np.zeros((3, 2))),
        gw.PointCloud(np.random.default_rng(0).random((600, 2))),
    )
    call = {"solver": gw.Sinkhorn(), "memory_limit": 1e6}
    refused(
        lambda: gw.solve_batch([small, large], [small, large], **call),
        MemoryError,
        "xs[1] and ys[1] must",
    )


@pytest.mark.parametrize("limit", [0, -1.0, float("nan"), "4 GB", True])
def test_bad_limits(limit):
    x = np.zeros((3, 3))
    for call in (gw.solve, gw.certify):
        refused(
            lambda call=call: call(x, x, memory_limit=limit),
            ValueError,
            "memory_limit must",
        )
    refused(
        lambda: gw.solve_batch([x], [x], memory_limit=limit),
        ValueError,
        "memory_limit must",
    )


LIMITED = {
    "proc/meminfo": "MemTotal: 999 kB\nMemAvailable: 64 kB\nOdd line\n",
    "proc/self/cgroup": "3:cpu:/else\n2:memory:/one\n0::/job/part\n",
    "sys/fs/cgroup/memory.max": "max\n",
    "sys/fs/cgroup/memory.current": "1\n",
}
GROUPS = {
    "none": ({}, 64 * 1024),
    "second version": (
        {
            "sys/fs/cgroup/job/memory.max": "30000\n",
            "sys/fs/cgroup/job/memory.current": "9000\n",
            "sys/fs/cgroup/job/memory.stat": "anon 5\ninactive_file 500\n",
        },
        21_500,
    ),
    "inner group": (
        {
            "sys/fs/cgroup/job/part/memory.max": "700\n",
            "sys/fs/cgroup/job/part/memory.current": "900\n",
        },
        -200,
    ),
    "first version": (
        {
            "sys/fs/cgroup/memory/one/memory.limit_in_bytes": "4000\n",
            "sys/fs/cgroup/memory/one/memory.usage_in_bytes": "1000\n",
        },
        3000,
    ),
}


@pytest.mark.parametrize("name", GROUPS)
def test_free_memory_is_the_least_of_machine_and_groups(monkeypatch, tmp_path, name):
    files, expected = GROUPS[name]
    for path, text in (LIMITED | files).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.setattr(_memory, "_ROOT", tmp_path)
    assert _memory.free(np.zeros(1)) == expected


def test_systems_that_say_nothing_have_no_limit(monkeypatch, tmp_path):
    monkeypatch.setattr(_memory, "_ROOT", tmp_path)
    assert _memory.free(np.zeros(1)) > 1e300


def test_the_limit_of_the_process_counts(monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (10**15, 10**15))
    used = 10**15 - _memory._of_the_process()
    assert 10**6 < used < 10**14


# Kinds whose rows are read at the atoms of a plan, and forms of higher rank than they
# have atoms.
READ = {
    "dense": lambda n, rng: gw.DenseSpace(_distances(n, rng)),
    "single": lambda n, rng: gw.DenseSpace(_distances(n, rng).astype(np.float32)),
    "far off": lambda n, rng: gw.DenseSpace(1e3 + _distances(n, rng)),
    "without weight": lambda n, rng: gw.DenseSpace(
        _distances(n, rng), np.append(0.0, np.full(n - 1, 1 / (n - 1)))
    ),
    "graph": lambda n, rng: gw.GraphSpace(
        sp.diags_array([np.ones(n - 1), np.ones(n - 1)], offsets=[-1, 1]).tocsr()
    ),
    "tall factor": lambda n, rng: gw.GramSpace(
        rng.standard_normal((n + 1, n)), np.full(n, 1 / n)
    ),
    "many coordinates": lambda n, rng: gw.PointCloud(
        rng.random((n, n + 1)), metric="sqeuclidean"
    ),
    "low rank": lambda n, rng: gw.PointCloud(rng.random((n, 2)), metric="sqeuclidean"),
}


def _distances(n, rng):
    points = rng.random((n, 1))
    return abs(points - points.T)


@pytest.fixture
def small_blocks(monkeypatch):
    """Let spaces of hundreds of atoms need several blocks of rows."""
    monkeypatch.setattr("gwtools.spaces.base.BLOCK_ENTRIES", 2**19)


def _pair(kind, n=800, m=700):
    """Two spaces whose pairs of atoms are more than what one small block holds."""
    rng = np.random.default_rng(0)
    return READ[kind](n, rng), READ[kind](m, rng)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("given", ["none", "sorted", "sorted, as a matrix", "product"])
@pytest.mark.parametrize("kind", READ)
def test_certificates_of_any_kind_hold_what_they_say(kind, given):
    x, y = _pair(kind)
    plan = None if given == "none" else gw.solve(x, y, gw.Sorted()).plan
    if given == "sorted, as a matrix":
        plan = np.asarray(plan)
    elif given == "product":
        plan = np.outer(x.weights, y.weights)
    _holds_what_it_says(
        kind, lambda x, y: gw.certify(x, y, plan), numbers_held_by(plan, x, y)
    )


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kind", READ)
def test_closed_forms_of_any_kind_hold_what_they_say(kind):
    _holds_what_it_says(
        kind,
        lambda x, y: gw.solve(x, y, gw.Sorted()),
        gw.Sorted().numbers_held(*_pair(kind)),
    )


def _holds_what_it_says(kind, call, said):
    x, y = _pair(kind)
    if kind == "graph":
        x.dense(), y.dense()  # paths are kept
    used, few = held(lambda: call(x, y)), x.size * y.size / 2
    assert used <= max(said, few)
    assert said <= max(5 * used, few)


def test_sparse_plans_between_matrices_need_no_matrix_of_all_pairs_of_their_atoms():
    x, y = _pair("dense", 3000, 2800)
    plan = gw.solve(x, y, gw.Sorted()).plan
    assert held(lambda: gw.GWProblem(x, y).objective(plan)) < x.size * y.size


def test_dense_plans_of_large_spaces_are_refused_where_their_objective_does_not_fit():
    x, y = _pair("far off", 700, 600)
    plan = np.outer(x.weights, y.weights)
    refused(lambda: gw.certify(x, y, plan, memory_limit=1e6), MemoryError, "700 × 600")
    gw.certify(x, y, gw.solve(x, y, gw.Sorted()).plan, memory_limit=1e8)


BATCHED = {
    "low rank": lambda n, rng: gw.PointCloud(rng.random((n, 2)), metric="sqeuclidean"),
    "euclidean": lambda n, rng: gw.PointCloud(rng.random((n, 2))),
}


@pytest.mark.filterwarnings("ignore::gwtools.ConvergenceWarning")
@pytest.mark.parametrize("shape", [(2000, 20), (1300, 1200)], ids=str)
@pytest.mark.parametrize("kind", BATCHED)
@pytest.mark.parametrize(
    "solver",
    [gw.Sorted(), gw.Sinkhorn(epsilon=1.0, proximal=False, max_iterations=2)],
    ids=str,
)
def test_batches_hold_what_the_solver_says(solver, kind, shape):
    rng = np.random.default_rng(0)
    x, y = (BATCHED[kind](n, rng) for n in shape)
    small = BATCHED[kind](9, rng)
    gw.solve_batch([small], [small], solver)
    used = held(lambda: gw.solve_batch([x, small], [y, small], solver))
    assert used <= max(solver.numbers_held(x, y), 100 * sum(shape))


def test_large_problems_of_a_batch_are_those_of_solve_in_their_places():
    rng = np.random.default_rng(0)
    spaces = [
        gw.PointCloud(rng.random((n, 2)), metric="sqeuclidean")
        for n in (900, 7, 1000, 9)
    ]
    others = spaces[::-1]
    for solver in (gw.Sorted(), gw.Sorted(kind="norm")):
        for found, x, y in zip(
            gw.solve_batch(spaces, others, solver), spaces, others, strict=True
        ):
            wanted = gw.solve(x, y, solver)
            assert found.plan.shape == (x.size, y.size)
            assert found.objective == pytest.approx(float(wanted.objective), rel=1e-12)
            assert found.estimate == pytest.approx(float(wanted.estimate), rel=1e-12)
