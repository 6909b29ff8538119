"""Array in, same array out: library, dtype and device are kept.

Every library gives the numbers of NumPy.
"""

import numpy as np
import pytest

import gwtools as gw
from gwtools import _array, _check_spaces, _stacks
from gwtools.marginals import rounded_matrix
from gwtools.transport.newton import schur_solve
from tests import checkers
from tests.libraries import EAGER, Library, to_numpy, tried
from tests.strategies import KINDS, Drawn

SOLVERS = [
    gw.ConditionalGradient(),
    gw.Sinkhorn(),
    gw.Sinkhorn(proximal=False),
    gw.Sorted(),
    gw.Sorted(kind="spectral"),
]
NUMPY = Library("numpy", "float64")


def drawn_pair(kind, dtype, null=False):
    """A fixed generic instance whose values the dtype holds exactly."""
    rng = np.random.default_rng(7)
    pair = []
    for n in (4, 5):
        data = rng.standard_normal((n, 2)).astype(dtype).astype(float)
        weights = np.array([1.0, 2.0, 1.0, 3.0, 1.0][:n]) / 8
        weights[0] += 1 - weights.sum()
        if null:
            weights[1], weights[0] = 0.0, weights[0] + weights[1]
        data = {
            "gram": data.T.copy(),
            "dense": checkers.euclidean(data).astype(dtype).astype(float),
        }.get(kind, data)
        pair.append(Drawn(kind, data, weights))
    return pair


def agree(found, expected, library, scale=1.0):
    assert np.abs(to_numpy(found) - to_numpy(expected)).max() <= library.rtol * scale


def stopping(solver, dtype="float64"):
    """What an iteration that may stop a step earlier or later leaves open.

    As a share of the product's objective.

    At a fixed ε also the mass that no kernel puts in place: twice the rounding of
    exponents, which are about 1000 long.
    """
    if not isinstance(solver, gw.Sinkhorn):
        return 0.0
    return (
        solver.tolerance
        if solver.proximal
        else max(solver.tolerance, 2000 * float(np.finfo(dtype).eps))
    )


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
@pytest.mark.parametrize(
    ("library", "kind"), tried(KINDS, ["euclidean"]), indirect=["library"]
)
def test_solve_keeps_library_and_dtype_and_agrees_with_numpy(library, kind, solver):
    pair = drawn_pair(kind, library.dtype)
    result = gw.solve(*(s.space(library.array) for s in pair), solver)
    expected = gw.solve(*(s.space() for s in pair), solver)
    arrays = (
        result.objective,
        result.distance,
        result.estimate,
        result.plan.dense(),
        *result.plan.marginals(),
    )
    assert all(library.owns(array) for array in arrays)
    assert (
        result.objective.shape == result.distance.shape == result.estimate.shape == ()
    )
    scale = gw.GWProblem(*(s.space() for s in pair)).product_objective
    rtol = max(library.rtol, stopping(solver, library.dtype)) * scale
    assert float(result.objective) == pytest.approx(float(expected.objective), abs=rtol)
    assert float(result.estimate) == pytest.approx(float(expected.estimate), abs=rtol)
    error = 1e-12 if library.dtype == "float64" else 1e-6
    assert (
        checkers.coupling_error(
            to_numpy(result.plan.dense()), pair[0].weights, pair[1].weights
        )
        <= error
    )


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_keep_library_and_dtype_and_agree_with_numpy(library, kind):
    pair = drawn_pair(kind, library.dtype, null=True)
    scale = max(np.abs(s.matrix).max() ** 2 for s in pair)
    for name, check in checkers.BOUNDS.items():
        value = getattr(gw.bounds, name)(*(s.space(library.array) for s in pair))
        assert library.owns(value)
        assert value.shape == ()
        agree(
            value,
            check(pair[0].matrix, pair[0].weights, pair[1].matrix, pair[1].weights),
            library,
            scale,
        )


@pytest.mark.parametrize("kind", KINDS)
def test_spaces_keep_library_and_dtype(library, kind):
    for drawn in drawn_pair(kind, library.dtype):
        space = drawn.space(library.array)
        scale = np.abs(drawn.matrix).max()
        for found in (
            space.weights,
            space.row_means,
            space.mean,
            space.deviations,
            space.power_means(1.0),
        ):
            assert library.owns(found)
        assert library.owns(space.residual().dense())
        assert library.owns(space.residual().spectrum())
        agree(space.dense(), drawn.matrix, library, scale)
        agree(space.row_means, drawn.matrix @ drawn.weights, library, scale)
        agree(
            space.second_moment(),
            drawn.weights @ drawn.matrix**2 @ drawn.weights,
            library,
            scale**2,
        )


def test_uniform_weights_are_of_the_library(library):
    space = gw.DenseSpace(library.array(np.eye(3)))
    assert library.owns(space.weights)
    agree(space.weights, np.full(3, 1 / 3), library)


@pytest.mark.parametrize("kind", KINDS)
def test_certificates_agree_with_numpy(library, kind):
    pair = drawn_pair(kind, library.dtype)
    plan = np.outer(pair[0].weights, pair[1].weights)
    found = gw.certify(*(s.space(library.array) for s in pair), library.array(plan))
    expected = gw.certify(*(s.space() for s in pair), plan)
    assert isinstance(found.lower, float)
    assert isinstance(found.upper, float)
    assert found.bound == expected.bound
    assert found.lower == pytest.approx(
        expected.lower, rel=1e-6 if library.dtype == "float32" else 1e-9
    )
    assert found.upper == pytest.approx(
        expected.upper, rel=1e-5 if library.dtype == "float32" else 1e-9
    )
    assert (
        found.lower
        <= checkers.objective(pair[0].matrix, pair[1].matrix, plan)
        <= found.upper
    )


@pytest.mark.parametrize("library", EAGER, indirect=True, ids=str)
@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_null_atoms(library, solver):
    pair = drawn_pair("euclidean", library.dtype, null=True)
    plan = to_numpy(
        gw.solve(*(s.space(library.array) for s in pair), solver).plan.dense()
    )
    assert plan.shape == (4, 5)
    assert not plan[1].any()
    assert not plan[:, 1].any()
    assert checkers.coupling_error(plan, pair[0].weights, pair[1].weights) <= 1e-6


def test_start_from_a_plan(library):
    pair = drawn_pair("euclidean", library.dtype)
    start = np.outer(pair[0].weights, pair[1].weights)
    start[:2, :2] += 1e-2 * np.array([[1, -1], [-1, 1]])
    spaces = [s.space(library.array) for s in pair]
    found = gw.solve(
        *spaces, gw.ConditionalGradient(init=gw.DensePlan(library.array(start)))
    )
    expected = gw.solve(
        *(s.space() for s in pair), gw.ConditionalGradient(init=gw.DensePlan(start))
    )
    agree(found.objective, expected.objective, library, 10.0)


@pytest.mark.parametrize("library", EAGER, indirect=True, ids=str)
@pytest.mark.parametrize("solver", SOLVERS[:3], ids=str)
def test_saddles(library, solver):
    """Constant row means are where the libraries' own kernels take part.

    Eigenvectors, and sorts with ties.
    """
    result = gw.solve(
        library.array(1 - np.eye(2)), library.array(1 - np.eye(4)), solver
    )
    assert library.owns(result.plan.dense())
    # Entropic iterations may rest elsewhere, but not at the product coupling, whose
    # objective is 1/2.
    assert float(result.objective) == pytest.approx(
        0.25, abs=1e-3 if getattr(solver, "proximal", True) else 0.2
    )


@pytest.mark.parametrize("factor", [1e15, 1e-15])
@pytest.mark.parametrize("name", ["torch", "array_api_strict"])
def test_extreme_units_in_float32(name, factor):
    library = Library(name, "float32")
    pair = drawn_pair("euclidean", "float32")
    here = gw.solve(*(s.space(library.array) for s in pair))
    there = gw.solve(*(s.scaled(factor).space(library.array) for s in pair))
    assert float(there.distance) / factor == pytest.approx(
        float(here.distance), rel=1e-4
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("solver", SOLVERS, ids=str)
def test_half_precision_is_computed_in_float32(dtype, solver):
    torch = pytest.importorskip("torch")
    pair = drawn_pair("euclidean", "float32")
    points = [torch.asarray(s.data).to(getattr(torch, dtype)) for s in pair]
    result = gw.solve(*(gw.PointCloud(p) for p in points), solver)
    expected = gw.solve(*(gw.PointCloud(p.to(torch.float32)) for p in points), solver)
    for found in (
        result.objective,
        result.distance,
        result.estimate,
        result.plan.dense(),
    ):
        assert found.dtype == torch.float32
    assert float(result.objective) == pytest.approx(float(expected.objective), rel=1e-2)
    for marginal, n in zip(result.plan.marginals(), (4, 5), strict=True):
        assert float(abs(marginal - 1 / n).max()) <= 1e-6
    assert result.certificate.lower <= result.certificate.upper


ORDERS = {
    "read-only": lambda v: np.frombuffer(v.tobytes()).reshape(v.shape),
    "Fortran order": np.asfortranarray,
    "strided": lambda v: np.repeat(v, 2, axis=0)[::2],
    "reversed": lambda v: np.ascontiguousarray(v[::-1])[::-1],
    "other byte order": lambda v: v.astype(v.dtype.newbyteorder()),
}


@pytest.mark.parametrize("solver", SOLVERS, ids=str)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", KINDS)
def test_memory_layout_does_not_matter(kind, order, solver):
    pair = drawn_pair(kind, "float64")
    usual = gw.solve(*(s.space() for s in pair), solver)
    found = gw.solve(*(s.space(ORDERS[order]) for s in pair), solver)
    assert float(found.objective) == pytest.approx(
        float(usual.objective), rel=max(1e-9, 10 * stopping(solver))
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", checkers.BOUNDS)
def test_gradients_of_bounds_are_those_of_finite_differences(name, kind):
    torch = pytest.importorskip("torch")
    x, y = drawn_pair(kind, "float64")

    def bound(upper, weights):
        data = upper + upper.T if kind == "dense" else upper
        other = y.space(torch.asarray)
        make = {"dense": gw.DenseSpace, "gram": gw.GramSpace}.get(
            kind, lambda d, w: gw.PointCloud(d, w, metric=kind)
        )
        return getattr(gw.bounds, name)(make(data, weights), other)

    start = torch.asarray(x.data / 2 if kind == "dense" else x.data).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v: bound(v, torch.asarray(x.weights)), (start,), atol=1e-6
    )


@pytest.mark.parametrize("name", checkers.BOUNDS)
def test_gradients_at_coinciding_spaces_are_finite(name):
    """Roots and distances have no derivative at zero; zero is taken."""
    torch = pytest.importorskip("torch")
    points = torch.asarray(
        [[0.0, 0.0], [0.0, 0.0], [1.0, 2.0]], dtype=torch.float64, requires_grad=True
    )
    value = getattr(gw.bounds, name)(
        gw.PointCloud(points), gw.PointCloud(points.detach())
    )
    value.backward()
    assert bool(torch.all(torch.isfinite(points.grad)))


@pytest.mark.parametrize("name", ["row_means", "norm"])
def test_jax_differentiates_bounds(name):
    """By jax.grad outside of jit, as sizes and ties are read."""
    jax = pytest.importorskip("jax")
    library = Library("jax", "float64")
    x, y = drawn_pair("euclidean", "float64")
    with library.active():
        other = y.space(library.array)

        def bound(points):
            return getattr(gw.bounds, name)(gw.PointCloud(points), other)

        found = to_numpy(jax.grad(bound)(library.array(x.data)))
    torch = pytest.importorskip("torch")
    points = torch.asarray(x.data).requires_grad_()
    getattr(gw.bounds, name)(gw.PointCloud(points), y.space(torch.asarray)).backward()
    np.testing.assert_allclose(found, points.grad.numpy(), atol=1e-10)


def meta(shape, dtype="float64"):
    torch = pytest.importorskip("torch")
    return torch.empty(shape, dtype=getattr(torch, dtype), device="meta")


MADE = {
    "weights": lambda: _check_spaces.weights(None, meta((3, 2)), 3),
    "scatter_sum": lambda: _array.scatter_sum(meta((4,), "int64"), meta((4,)), 3),
    "from_numpy": lambda: _array.from_numpy(np.ones(3), meta((2,), "float32")),
    "pairwise_distances": lambda: _array.pairwise_distances(meta((3, 2)), meta((4, 2))),
    "root": lambda: _array.root(meta((3,)), 3.0),
    "logsumexp": lambda: _array.logsumexp(meta((3, 4)), axis=1),
    "rounded": lambda: rounded_matrix(meta((2, 3, 4)), meta((2, 3)), meta((2, 4))),
    "schur_solve": lambda: schur_solve(
        meta((2, 3, 4)), meta((2, 3)), meta((2, 4)), meta((2, 4))
    ),
    "padded": lambda: _array.padded(meta((2, 3, 3)), 5, 2),
    "taken": lambda: _stacks.taken(meta((4, 2)), [0, 3]),
    "at_atoms": lambda: _stacks.at_atoms(meta((2, 3)), meta((2, 3)), 1.0),
    "chosen": lambda: _stacks.chosen(meta((3,)) > 0, meta((3, 2)), 1.0),
}


@pytest.mark.parametrize("name", MADE)
def test_arrays_are_made_on_the_device_of_their_neighbours(name):
    """The meta device has no values: an array of the CPU beside it fails or shows."""
    found = MADE[name]()
    assert found.device.type == "meta"
    assert str(found.dtype) == (
        "torch.float32" if name == "from_numpy" else "torch.float64"
    )


@pytest.mark.parametrize("name", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [2, 3, 7, 48, 49, 103, 300])
def test_uniform_weights_passed_or_left_out_are_the_same(n, dtype, name):
    """The float sum of n times 1/n may miss 1.

    Dividing by it would give other weights than those for None.
    """
    xp = np if name == "numpy" else pytest.importorskip("torch")
    rng = np.random.default_rng(n)
    C, D = (
        xp.asarray(checkers.euclidean(rng.standard_normal((n, 3))).astype(dtype))
        for _ in range(2)
    )
    # A search of hundreds of atoms takes long and reads the weights as one start does.
    solver = "auto" if n < 100 else gw.ConditionalGradient()
    expected = gw.solve(C, D, solver)
    for uniform in (xp.full((n,), 1 / n, dtype=C.dtype), xp.ones(n, dtype=C.dtype) / n):
        x, y = (gw.DenseSpace(matrix, uniform) for matrix in (C, D))
        found = gw.solve(x, y, solver)
        assert found.as_dict() == expected.as_dict()
        assert found.certificate == expected.certificate
        assert bool(xp.all(found.plan.dense() == expected.plan.dense()))


def test_equal_weights_keep_their_gradient_graph():
    torch = pytest.importorskip("torch")
    eye = torch.eye(49, dtype=torch.float64)
    weights = torch.full(
        (49,), (1 + 1e-10) / 49, dtype=torch.float64, requires_grad=True
    )
    gw.DenseSpace(1 - eye, weights).weights[3].backward()
    # The derivative of a_3 / Σ a.
    assert torch.allclose(weights.grad, eye[3] - 1 / 49)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["row_means", "first", "norm", "spectral", "second"])
def test_bounds_in_half_precision(name, dtype):
    """PyTorch has no distances, and no library eigenvalues, of such arrays."""
    torch = pytest.importorskip("torch")
    points = [
        torch.as_tensor(np.random.default_rng(n).standard_normal((n, 2))).to(
            getattr(torch, dtype)
        )
        for n in (5, 6)
    ]
    x = points[0].clone().requires_grad_()
    bound = getattr(gw.bounds, name)
    found = bound(gw.PointCloud(x), gw.PointCloud(points[1]))
    found.backward()
    wanted = bound(*(gw.PointCloud(p.double()) for p in points))
    assert found.dtype == x.grad.dtype == points[0].dtype
    assert float(found.detach()) == pytest.approx(float(wanted), rel=0.2)
    assert bool(torch.isfinite(x.grad).all())
