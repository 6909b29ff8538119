"""Soft paths: proximal steps from a shape, each of which moves little of its mass.

π is followed by the least ⟨∇F(π), ·⟩ + 2ρ₁ KL(·1 | a) + 2ρ₂ KL(·ᵀ1 | b) + ε KL(· | π).
Where linear programs jump to one of many stationary shapes, a path decides late.
"""

from __future__ import annotations

import numpy as np

from gwtools import _array
from gwtools._array import NumpyArray
from gwtools.solvers.unbalanced_shapes import Shapes

_STEPS = 50
_SCALINGS = 3  # of rows and columns in each step, which the next one goes on with
_LEAST = -300.0  # of the logarithms of masses
# Share of the product plan in the first shape, so that no pair is excluded.
_MIXED = 0.1


def soft_path(
    shapes: Shapes,
    shape: NumpyArray,
    softness: float,
    seed: int | None = None,
) -> NumpyArray:
    """Return the shape that 50 proximal steps lead to.

    Parameters
    ----------
    shapes : Shapes
        L.
    shape : array of shape (n, m)
        Where the path begins, up to a share of the product plan.
    softness : float
        ε as a share of the range of the gradient where the path begins.
    seed : int or None
        Where given, all masses are first multiplied by random numbers of this seed.
    """
    product = shapes.a[:, None] * shapes.b[None, :]
    shape = (1 - _MIXED) * shape + _MIXED * product / product.sum()
    if seed is not None:
        # Beside 0, so that all logarithms are finite.
        rng = np.random.default_rng(seed)
        shape = shape * (rng.exponential(size=shape.shape) + _MIXED)
        shape = shape / shape.sum()
    epsilon = softness * float(np.ptp(shapes.gradient(shape)))
    if not epsilon > 0.0:
        return shape
    logarithms = np.log(shape)
    for _ in range(_STEPS):
        gradient = shapes.gradient(np.exp(logarithms))
        logarithms = _scaled(shapes, logarithms - gradient / epsilon, epsilon)
    return np.exp(logarithms)


def _scaled(shapes: Shapes, kernel: NumpyArray, epsilon: float) -> NumpyArray:
    """Scale the rows and columns of a kernel towards the weights; all in logarithms.

    As in unbalanced transport (Chizat et al. 2018): with the price r the power r / (r +
    ε) of what is missing.
    """
    first, second = (price / (price + epsilon) for price in shapes.prices)
    log_a = np.log(shapes.a)
    log_b = np.log(shapes.b)
    u = np.zeros_like(log_a)
    v = np.zeros_like(log_b)
    for _ in range(_SCALINGS):
        u = first * (log_a - _array.logsumexp(kernel + v[None, :], axis=1))
        v = second * (log_b - _array.logsumexp(kernel + u[:, None], axis=0))
    scaled = kernel + u[:, None] + v[None, :]
    total = float(_array.logsumexp(scaled.reshape(-1), axis=0))
    # Mass that is as good as gone can come back.
    result: NumpyArray = np.maximum(scaled - total, _LEAST)
    return result
