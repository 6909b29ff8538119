"""The direction in which a sum of bilinear forms falls most from the product coupling.

Computed in NumPy on the CPU, by a Lanczos iteration.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from gwtools import _array
from gwtools._array import Array, NumpyArray
from gwtools.channel_problems import ChannelProblem


def steepest_direction(problem: ChannelProblem, threshold: float) -> Array | None:
    """Return a direction (n, m) along which F has the most negative second derivative.

    Along Δ = √(a bᵀ) ∘ E that is −4 ⟨E, M E⟩ for the symmetric map M: E ↦ √(a bᵀ) ∘ Σ
    R Δ Sᵀ over the forms.

    Parameters
    ----------
    problem : ChannelProblem
        Spaces of n and m atoms.
    threshold : float
        Above 0, in units of the loss.

    Returns
    -------
    array of shape (n, m) or None
        Of row and column sums 0; None where no eigenvalue of M is above the threshold.
    """
    a, b = (_numpy(space.weights) for space in (problem.x, problem.y))
    root = np.sqrt(np.outer(a, b))
    forms = [
        (_numpy(form.x.residual), _numpy(form.y.residual).T) for form in problem.forms
    ]

    def image(values: NumpyArray) -> NumpyArray:
        direction = root * values.reshape(root.shape)
        total = sum(left @ direction @ right for left, right in forms)
        return np.asarray(problem.share * root * total).ravel()

    size = root.size
    operator = LinearOperator((size, size), matvec=image, dtype=np.float64)
    # A seed of its own, so that solvers return the same plan every time; a random
    # start also gives a random mode of an eigenvalue that repeats.
    first = np.random.default_rng(0).standard_normal(size)
    try:
        values, vectors = eigsh(operator, k=1, which="LA", v0=first, tol=1e-6)
    except ArpackNoConvergence as error:
        values = error.eigenvalues
        vectors = error.eigenvectors
    # Written so that eigenvalues that are no numbers promise no descent.
    if len(values) == 0 or not values[0] > threshold:
        return None
    direction = root * vectors[:, 0].reshape(root.shape)
    # Float error of the row and column sums, which are 0 exactly.
    direction = direction - np.outer(direction.sum(axis=1), b)
    direction = direction - np.outer(a, direction.sum(axis=0))
    return _array.from_numpy(direction, problem.x.weights)


def _numpy(array: Array) -> NumpyArray:
    """Bring an array to the CPU, in float64."""
    return _array.to_numpy(array).astype(np.float64)
