"""Starting plans: the product coupling, and a descent from it where it is a saddle, as row means are constant (theorem 8)."""

from __future__ import annotations

import numpy as np

from gwtools import _array
from gwtools._array import Array
from gwtools._stacks import Mask, Numbers
from gwtools.marginals import rounded_plan
from gwtools.plans import DensePlan, make_unchecked
from gwtools.problems import GWProblem, Quadratic

_TIED = 1e-6  # eigenvalues that differ by at most this share count as one


def product_plan(problem: Quadratic) -> DensePlan:
    """Return the product coupling a ⊗ b."""
    a, b = problem.x.weights, problem.y.weights
    return make_unchecked(DensePlan, matrix=a[..., :, None] * b[..., None, :])


def is_stationary_at_product(problem: Quadratic, negligible: Numbers) -> Mask:
    """Tell whether the linearisation at the product coupling promises no decrease above ``negligible``."""
    return problem.slope_range <= negligible


def off_saddle(
    problem: GWProblem, negligible: float, epsilon: float = 0.0
) -> DensePlan | None:
    """Go from the product coupling as far as masses stay positive along modes that descend most.

    Along modes of eigenvalues λ and μ, F + ε KL(π | a ⊗ b) has the second derivative ε
    − 4 λ μ at the product coupling.

    Parameters
    ----------
    problem : GWProblem
        One at whose product coupling the linearisation promises no decrease.
    negligible : float
        Products λ μ up to this count as none, in squared units of C.
    epsilon : float
        Weight of the entropy, in squared units of C.

    Returns
    -------
    DensePlan or None
        None where λ μ is at most ``negligible`` and ε/4 for all pairs. Without entropy,
        and with all λ μ <= 0, the objective is then convex over couplings and the
        product coupling its minimum.
    """
    (values_x, modes_x), (values_y, modes_y) = (
        problem.left.modes(),
        problem.right.modes(),
    )
    descent, end = max((float(values_x[k] * values_y[k]), k) for k in (0, -1))
    if not descent > max(negligible, epsilon / 4):
        return None
    xp, product = _array.namespace(modes_x), product_plan(problem).matrix
    along = _generic(values_x, modes_x, end), _generic(values_y, modes_y, end)
    # Modes have mean 0, up to the float error of eigenvectors.
    first, second = (
        mode - w * xp.sum(mode)
        for mode, w in zip(along, (problem.x.weights, problem.y.weights), strict=True)
    )
    direction = first[:, None] * second[None, :]
    # Two small weights may have no product: such entries stay as they are.
    direction = xp.where(product > 0, direction, xp.zeros_like(direction))
    reach = 1.0 / float(
        xp.max(-direction / xp.where(product > 0, product, xp.ones_like(product)))
    )
    return rounded_plan(
        xp.clip(product + reach * direction, min=0.0),
        problem.x.weights,
        problem.y.weights,
    )


def _generic(values: Array, modes: Array, end: int) -> Array:
    """Return a mode (n,) of the first or last eigenvalue, in no special position where that has several.

    Symmetric spaces have such eigenvalues, and modes that respect some of their
    symmetries may end at another saddle.
    """
    eigenvalues = _array.to_numpy(values)
    tied = np.nonzero(
        np.abs(eigenvalues - eigenvalues[end]) <= _TIED * np.abs(eigenvalues[end])
    )[0]
    share = np.random.default_rng(0).standard_normal(len(tied))
    few = _array.namespace(modes).take(modes, _array.from_numpy(tied, modes), axis=1)
    return few @ _array.from_numpy(share / np.linalg.norm(share), modes)
