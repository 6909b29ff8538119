"""Starting plans: product and sorting coupling, and a descent off a saddle (theorem 8).

The product coupling is a saddle, or a minimum, where row means are constant.
"""

from __future__ import annotations

import numpy as np

from gwtools import _array
from gwtools._array import Array
from gwtools._stacks import Mask, Numbers
from gwtools.channel_problems import ChannelProblem
from gwtools.marginals import rounded_plan
from gwtools.plans import DensePlan, SparsePlan, make_unchecked
from gwtools.problems import GWProblem, Quadratic
from gwtools.solvers.channel_directions import steepest_direction
from gwtools.transport.one_dimensional import sorting_plan

_TIED = 1e-6  # eigenvalues that differ by at most this share count as one


def product_plan(problem: Quadratic) -> DensePlan:
    """Return the product coupling a ⊗ b."""
    a = problem.x.weights
    b = problem.y.weights
    matrix = a[..., :, None] * b[..., None, :]  # (…, n, m)
    return make_unchecked(DensePlan, matrix=matrix)


def sorting_coupling(problem: Quadratic) -> SparsePlan:
    """Return the sorting coupling of the row means.

    It solves the linear program at the product coupling (theorem 8 c).
    """
    f, g = problem.row_means
    return sorting_plan(f, problem.x.weights, g, problem.y.weights)


def couplings_of_one_row(problem: GWProblem) -> tuple[SparsePlan, SparsePlan]:
    """Return two couplings of C = h hᵀ and D = k kᵀ, of which one is optimal.

    They sort h and k alike, and against each other (theorem 12 f): the objective is
    concave in Z = E_π hk, so that its minimum is at an end of the range of Z, and
    sorting couplings attain both ends.
    """
    h = problem.x.data[0, :]  # (n,)
    k = problem.y.data[0, :]  # (m,)
    a = problem.x.weights
    b = problem.y.weights
    alike = sorting_plan(h, a, k, b)
    against = sorting_plan(h, a, -k, b)
    return alike, against


def is_stationary_at_product(problem: Quadratic, negligible: Numbers) -> Mask:
    """Tell whether the product coupling is stationary, up to ``negligible``.

    It is where its linearisation promises no decrease of the objective above that, in
    squared units of C (theorem 8 c).
    """
    return problem.slope_range <= negligible


def off_saddle(
    problem: GWProblem,
    negligible: float,
    epsilon: float = 0.0,
) -> DensePlan | None:
    """Leave the product coupling along the eigenvectors that descend most.

    The step ends where the first mass reaches 0. Along modes of eigenvalues λ and μ,
    F + ε KL(π | a ⊗ b) has the second derivative ε − 4 λ μ at the product coupling
    (theorem 8 d and f).

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
    a = problem.x.weights
    b = problem.y.weights
    threshold = max(negligible, epsilon / 4)
    if isinstance(problem, ChannelProblem):
        direction = steepest_direction(problem, threshold)
    else:
        direction = _along_modes(problem, threshold)
    if direction is None:
        return None
    # The longest step along it that keeps all masses from falling below 0.
    xp = _array.namespace(direction)
    product = product_plan(problem).matrix
    # The product of two small weights may underflow to 0: such entries stay as they
    # are.
    direction = xp.where(product > 0, direction, xp.zeros_like(direction))
    step = _longest_step(product, direction)
    # Float errors may leave masses a little below 0 and marginals a little off.
    matrix = xp.clip(product + step * direction, min=0.0)
    return rounded_plan(matrix, a, b)


def _along_modes(problem: GWProblem, threshold: float) -> Array | None:
    """Return the direction (n, m) of the modes of the largest λ μ above a threshold.

    None where there are none. It leaves the marginals alone.
    """
    a = problem.x.weights
    b = problem.y.weights
    values_x, modes_x = problem.left.modes()  # columns √a ∘ u, (n, number of modes)
    values_y, modes_y = problem.right.modes()
    # 1. The largest λ μ > 0, which is that of the first or of the last eigenvalues, as
    # both lists are ascending.
    of_first = problem.share * float(values_x[0] * values_y[0])
    of_last = problem.share * float(values_x[-1] * values_y[-1])
    end = 0
    descent = of_first  # λ μ, in squared units of C
    if of_last > of_first:
        end = -1
        descent = of_last
    # Written so that eigenvalues that are no numbers promise no descent.
    if not descent > threshold:
        return None
    # 2. The direction Δ = diag(√a) u vᵀ diag(√b), which leaves the marginals alone.
    mode_x = _generic_mode(values_x, modes_x, end)
    mode_y = _generic_mode(values_y, modes_y, end)
    mode_x = _centred(mode_x, a)
    mode_y = _centred(mode_y, b)
    return mode_x[:, None] * mode_y[None, :]  # (n, m)


def _longest_step(masses: Array, direction: Array) -> float:
    """Return how far along a direction (n, m) no mass falls below 0."""
    xp = _array.namespace(masses)
    ones = xp.ones_like(masses)
    divisor = xp.where(masses > 0, masses, ones)
    # The share of its mass that an entry loses in a step of length 1.
    losses = -direction / divisor
    largest = float(xp.max(losses))
    return 1.0 / largest


def _centred(mode: Array, weights: Array) -> Array:
    """Take the float error of an eigenvector off its sum, which is 0 exactly."""
    xp = _array.namespace(mode)
    return mode - weights * xp.sum(mode)


def _generic_mode(
    values: Array,
    modes: Array,
    end: int,
) -> Array:
    """Return a mode (n,) of the first or last eigenvalue, random where that repeats.

    Symmetric spaces have repeated eigenvalues, and modes that respect some of their
    symmetries may end at another saddle.
    """
    eigenvalues = _array.to_numpy(values)
    extreme = eigenvalues[end]
    distances = np.abs(eigenvalues - extreme)
    is_tied = distances <= _TIED * np.abs(extreme)
    tied = np.nonzero(is_tied)[0]
    # A seed of its own, so that solvers return the same plan every time.
    rng = np.random.default_rng(0)
    coefficients = rng.standard_normal(len(tied))
    coefficients = coefficients / np.linalg.norm(coefficients)
    xp = _array.namespace(modes)
    columns = _array.from_numpy(tied, modes)
    basis = xp.take(modes, columns, axis=1)  # (n, number of tied eigenvalues)
    return basis @ _array.from_numpy(coefficients, modes)
