"""Directed spaces, losses, free marginals and features of JAX: as those of NumPy.

With gradients by ``jax.grad``. Few and small, as JAX compiles for every shape.
"""

import numpy as np
import pytest

import gwtools as gw
from tests import channel_problems

jax = pytest.importorskip("jax")
jnp = jax.numpy

C, a, D, b, RNG = channel_problems.drawn(22, "kl", least=3, most=5)
C = C + 0.1
FEATURES = RNG.random((len(a), len(b)))
# Mixtures are lists in NumPy alone, and only these exchange atoms.
ONE = gw.ConditionalGradient(exchange=False)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def solved(array, features, **options):
    """The answer between spaces whose arrays a library makes."""
    directed = "marginals" not in options
    matrices = (C, D) if directed else (C + C.T, D + D.T)
    x, y = (
        gw.DenseSpace(array(matrix), array(weights), directed=directed)
        for matrix, weights in zip(matrices, (a, b), strict=True)
    )
    return gw.solve(x, y, ONE, features=features, alpha=0.25, **options)


CASES = [{"loss": "kl"}, {"marginals": "semi_relaxed"}]


@pytest.mark.parametrize("options", CASES, ids=str)
def test_jax_finds_what_numpy_does(options):
    expected = solved(np.asarray, FEATURES, **options)
    found = solved(jnp.asarray, jnp.asarray(FEATURES), **options)
    assert isinstance(found.objective, jax.Array)
    assert isinstance(found.plan.masses, jax.Array)
    assert float(found.objective) == pytest.approx(float(expected.objective), rel=1e-10)
    assert found.certificate.lower <= float(found.objective)
    there = np.asarray(found.plan.dense())
    assert np.abs(there - expected.plan.dense()).max() <= 1e-7


@pytest.mark.parametrize("options", CASES, ids=str)
def test_jax_differentiates_the_least_objective_in_features(options):
    """By the envelope theorem that is (1 − α) π."""
    plan = solved(np.asarray, FEATURES, **options).plan.dense()
    gradient = jax.grad(
        lambda features: solved(jnp.asarray, features, **options).objective
    )(jnp.asarray(FEATURES))
    assert np.abs(np.asarray(gradient) - 0.75 * plan).max() <= 1e-7
