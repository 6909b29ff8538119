"""Gradients by ``jax.grad``: those of PyTorch, where PyTorch differentiates.

What cannot be differentiated is refused.
"""

import numpy as np
import pytest

import gwtools as gw
from tests.test_check import refused
from tests.whole.test_matrix_gradients import BOUNDS, VALUES

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")
jnp = jax.numpy


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


KINDS = ("dense", "euclidean", "sqeuclidean", "gram")


def drawn(kind, n, seed):
    rng = np.random.default_rng(seed)
    points, matrix, weights = (
        rng.standard_normal((n, 2)),
        rng.standard_normal((n, n)),
        rng.uniform(1, 2, n),
    )
    return {"dense": matrix + matrix.T, "gram": points.T.copy()}.get(
        kind, points
    ), weights / weights.sum()


def space(kind, data, weights):
    makers = {"dense": gw.DenseSpace, "gram": gw.GramSpace}
    return (
        makers[kind](data, weights)
        if kind in makers
        else gw.PointCloud(data, weights, metric=kind)
    )


# JAX compiles each operation for every new shape, which for batches takes longest.
BATCHES = "batch.norm", "batch.second", f"batch estimate {gw.Sorted()}"
NAMES = [n for n in VALUES if n in BATCHES or not n.startswith(("batch", "distance"))]
CASES = [(n, KINDS[i % 4]) for i, n in enumerate(NAMES)]
CASES += [
    (n, kind)
    for n in ("bounds.norm", f"objective {gw.ConditionalGradient()}")
    for kind in KINDS
]


@pytest.mark.parametrize(("name", "kind"), sorted(set(CASES)))
def test_gradients_are_those_of_pytorch(name, kind):
    (data, a), (other, b) = drawn(kind, 5, 1), drawn(kind, 6, 2)

    def value(convert, *inputs):
        return VALUES[name](
            space(kind, *inputs[:2]), space(kind, inputs[2], convert(b))
        )

    inputs = [torch.tensor(v, requires_grad=True) for v in (data, a, other)]
    value(torch.asarray, *inputs).backward()
    found = jax.grad(lambda *v: value(jnp.asarray, *v), argnums=(0, 1, 2))(
        *map(jnp.asarray, (data, a, other))
    )
    fixed = (
        "regularized" in name or "proximal=False" in name
    )  # potentials are as exact as kernels are scaled
    for ours, wanted in zip(found, inputs, strict=True):
        wanted = wanted.grad.numpy()
        np.testing.assert_allclose(
            ours, wanted, rtol=0, atol=(1e-6 if fixed else 1e-11) * abs(wanted).max()
        )


@pytest.mark.parametrize("name", BOUNDS)
def test_single_precision(name):
    with jax.enable_x64(False):
        (data, a), (other, b) = drawn("euclidean", 5, 1), drawn("euclidean", 6, 2)
        convert = [jnp.asarray(v, dtype=jnp.float32) for v in (data, a, other, b)]

        def value(points):
            return getattr(gw.bounds, name)(
                gw.PointCloud(points, convert[1]), gw.PointCloud(*convert[2:])
            )

        found = jax.grad(value)(convert[0])
        assert found.dtype == jnp.float32
        wide = [torch.asarray(np.asarray(v, dtype=np.float64)) for v in convert]
        wide[0].requires_grad_()
        getattr(gw.bounds, name)(
            gw.PointCloud(*wide[:2]), gw.PointCloud(*wide[2:])
        ).backward()
        wanted = wide[0].grad.numpy()
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5 * abs(wanted).max())


def test_values_are_those_outside_of_jax_grad():
    """By default within jax.grad one start is made."""
    C, D = (jnp.asarray(drawn("dense", n, n)[0]) for n in (5, 6))
    within = jax.value_and_grad(lambda m: gw.solve(m, D).objective)(C)[0]
    assert float(within) == float(gw.solve(C, D, gw.ConditionalGradient()).objective)


def test_results_within_jax_grad_are_whole():
    C, D = (jnp.asarray(drawn("dense", n, n)[0]) for n in (5, 6))
    solver = gw.ConditionalGradient()
    outside = gw.solve(C, D, solver, effort="cubic")
    kept = []

    def value(matrix):
        kept.append(gw.solve(matrix, D, solver, effort="cubic"))
        assert str(kept[0]) == str(outside)
        return kept[0].objective

    jax.grad(value)(C)
    assert kept[0].certificate == outside.certificate


@pytest.mark.parametrize(
    "transform", [jax.jit, jax.vmap, lambda f: jax.jit(jax.grad(f))]
)
@pytest.mark.parametrize(
    "call", [gw.bounds.norm, lambda x, y: gw.solve(x, y).objective]
)
def test_arrays_without_values_are_refused(transform, call):
    matrices = jnp.ones((3, 4, 4)) if transform is jax.vmap else jnp.ones((4, 4))
    refused(
        lambda: transform(lambda m: call(m, jnp.eye(3)))(matrices),
        TypeError,
        "x must hold numbers",
        "jax.jit",
    )


@pytest.mark.parametrize("name", ["third", "convex"])
def test_bounds_that_gradients_do_not_pass_are_refused(name):
    C, D = (jnp.asarray(drawn("dense", n, n)[0]) for n in (4, 5))
    bound = getattr(gw.bounds, name)
    refused(lambda: jax.grad(lambda m: bound(m, D))(C), TypeError, "x must", name)
    refused(lambda: jax.grad(lambda m: bound(D, m))(C), TypeError, "y must", name)
    assert (
        float(jax.grad(lambda m: bound(jax.lax.stop_gradient(m), D) + m[0, 0])(C)[0, 0])
        == 1.0
    )
