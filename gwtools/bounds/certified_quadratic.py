"""Certified lower bounds of GW_2² from convex quadratics below it (theorems 10 and 11).

Each function returns the value as computed and a number that is proved to be at most
GW_2², by the potentials of one linear program (theorem 13 f).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gwtools._array import NumpyArray
from gwtools.bounds import float_error, projected_quadratic
from gwtools.bounds.certified import (
    AffineMinorant,
    EnclosedParts,
    Modes,
    linear_program,
    lower_by_root,
    row_transport_error,
)
from gwtools.bounds.float_error import Bound, gamma
from gwtools.bounds.projected_quadratic import Minorants, Point


def convex(
    x: EnclosedParts,
    y: EnclosedParts,
    modes_x: Modes,
    modes_y: Modes,
) -> Bound:
    """Theorem 10: the best point of the ascent, proved."""
    # 1. Search for the point. How well that went has no say in the proof.
    eigenpairs_x = modes_x.values, modes_x.vectors
    eigenpairs_y = modes_y.values, modes_y.vectors
    minorants = projected_quadratic.minorants(
        x.parts,
        y.parts,
        eigenpairs_x,
        eigenpairs_y,
    )
    point, value = projected_quadratic.maximise(minorants)
    # 2. Prove it, for the stored parts.
    mean_gap = x.parts.mean - y.parts.mean
    offset = mean_gap**2
    proved = _proved_point(
        minorants,
        point,
        x,
        y,
        modes_x,
        modes_y,
    )
    proved = offset * (1 - gamma(8)) + proved
    # 3. Pass to the exact parts.
    radius = _root_radius(x, y, modes_x, modes_y)
    lower = lower_by_root(proved, radius)
    return Bound(offset + value, lower)


def _root_radius(
    x: EnclosedParts,
    y: EnclosedParts,
    modes_x: Modes,
    modes_y: Modes,
) -> float:
    """Return the radius of the root of the objective, for the stored parts."""
    # The convex function reads the parts, R by its modes; both third bounds may read
    # the entries instead. The larger radius holds for any mixture of these functions.
    parts_x = x.radii.root_radius(modes_x.error)
    parts_y = y.radii.root_radius(modes_y.error)
    entries = x.radii.entries + y.radii.entries
    return float(max(parts_x + parts_y, entries))


def _proved_point(
    minorants: Minorants,
    point: Point,
    x: EnclosedParts,
    y: EnclosedParts,
    modes_x: Modes,
    modes_y: Modes,
) -> float:
    """Return the bound of a point, less what float errors may have added to it.

    By theorem 13 (f) with theorem 10 (i).
    """
    # 1. A slack d that is surely not above the exact −2 λ μ − s − t, s and t the duals
    #    of the spectra λ and μ.
    lowered, excess = _lowered_slack(minorants, point)
    # 2. The slope W of theorem 10 (i), and the linear program that it is the cost of.
    slope = lowered.slope(minorants)
    if not np.isfinite(slope).all():  # tiny weights may leave the range
        return -np.inf
    costs_error = _slope_error(minorants, lowered, x, y)
    proved = linear_program(slope, x, y, costs_error).lower
    # 3. Eigenvectors U and V are orthonormal up to float error only, so that q = Uᵀ Q V
    #    of a contraction Q is off by as much.
    off_x = modes_x.vectors_error
    off_y = modes_y.vectors_error
    off = off_x + off_y + off_x * off_y
    weighted_norm = np.linalg.norm(lowered.d * lowered.q)
    tilted = 2 * lowered.theta[0] * float(weighted_norm) * off
    # 4. The sums of the constant.
    entries = slope.size
    squares = np.sum(point.d * point.q**2)  # d is not lowered: the larger size
    sums = minorants.norms + abs(point.duals)
    sums = sums + float(squares) + abs(proved)
    sum_error = gamma(entries + 20) * sums
    constant = lowered.constant(minorants)
    # The duals have the weight θ_0 ≤ 1: their fall costs no more than the excess. One
    # per cent pays for the float error of what step 3 takes off.
    return float(constant + proved - excess - 1.01 * tilted - sum_error)


def _lowered_slack(
    minorants: Minorants,
    point: Point,
) -> tuple[Point, float]:
    """Lower the slack d by a margin for its float error, where it is larger than that.

    Where it is not, its dual s_i falls instead: the sum of all falls is returned too.
    """
    sizes_x = np.abs(minorants.lam)
    sizes_y = np.abs(minorants.mu)
    # A space of one atom has no eigenvalues: 0 then.
    largest_x = sizes_x.max(initial=0.0)
    largest_y = sizes_y.max(initial=0.0)
    largest = float(largest_x * largest_y)
    margin = 64 * float_error.UNIT * largest
    slack = np.maximum(point.d - margin, 0.0)
    missing = np.maximum(margin - point.d, 0.0)
    # The fall of s_i raises the slack of all of row i: by the most that is missing.
    falls = missing.max(axis=1, initial=0.0)  # (n − 1,)
    excess = float(falls.sum())
    return point._replace(d=slack), excess


def _slope_error(
    minorants: Minorants,
    point: Point,
    x: EnclosedParts,
    y: EnclosedParts,
) -> NumpyArray:
    """Bound how far the computed slope of a point is above the exact one, (n, m)."""
    theta = point.theta
    # 1. The same expressions as in the slope, with absolute values.
    size_of_U = np.abs(minorants.U)
    size_of_V = np.abs(minorants.V)
    weighted = point.d * np.abs(point.q)
    curved = size_of_U @ weighted @ size_of_V.T
    factor = 2 * theta[0] / minorants.root
    curved = factor * curved
    sizes = np.abs(minorants.costs)
    linear = np.tensordot(theta, sizes, 1)
    # 2. Their float errors, and those of the transports between rows in the costs.
    n, m = curved.shape
    terms = n + m + x.radii.weights + y.radii.weights + 16
    curved_error = gamma(terms) * curved
    linear_error = gamma(12) * linear
    error: NumpyArray = curved_error + linear_error + row_transport_error(x, y)
    return error


def convexity(
    x: EnclosedParts,
    y: EnclosedParts,
    plan: NumpyArray,
    largest_eigenvalue_product: float,
) -> Bound:
    """Theorem 11: the tangent of the objective at a plan π.

    It is below a convex objective, and below any other less 2 τ (1 + κ)² min(n, m).

    Parameters
    ----------
    x, y : EnclosedParts
        The spaces.
    plan : numpy array of shape (n, m)
        π; it need not have the marginals exactly.
    largest_eigenvalue_product : float
        τ ≥ max λ_i μ_j of the stored residuals' spectra.
    """
    tangent = tangent_at(x, y, plan, largest_eigenvalue_product)
    costs = tangent.costs
    # Its least value, less the float errors of the costs and of the sums.
    program = linear_program(costs, x, y, tangent.costs_error)
    sums = tangent.sums + abs(program.lower)
    sums = sums + 2 * tangent.size
    sum_error = gamma(tangent.terms) * sums
    constant = tangent.constant
    curvature = tangent.curvature
    proved = constant + program.lower - curvature - sum_error
    # Pass to the exact parts.
    lower = lower_by_root(proved, tangent.radius)
    value = constant + program.value - curvature
    return Bound(value, lower)


class Tangent(NamedTuple):
    """The tangent of F at a plan, and what F may be below it."""

    constant: float  # (m_C − m_D)² + ‖R‖² + ‖S‖² + 2 ⟨π, R π S⟩
    costs: NumpyArray  # (n, m)
    costs_error: NumpyArray  # (n, m)
    curvature: float
    sums: float  # the sum of the sizes of the constant's terms
    size: float  # ≥ every entry of R π S
    terms: float  # γ_terms is the float error of these sums
    radius: float  # of the root, in units of C

    def minorant(self) -> AffineMinorant:
        """Return it as proved, less the float errors of its constant."""
        sum_error = gamma(self.terms) * (self.sums + 2 * self.size)
        offset = self.constant - self.curvature - sum_error
        return AffineMinorant(offset, self.costs, self.costs_error, self.radius)


def tangent_at(
    x: EnclosedParts,
    y: EnclosedParts,
    plan: NumpyArray,
    largest_eigenvalue_product: float,
) -> Tangent:
    """Return the tangent of :func:`convexity`, before its linear program."""
    # 1. The tangent: (m_C − m_D)² + ‖R‖² + ‖S‖² + 2 ⟨π, R π S⟩ + ⟨costs, σ⟩.
    R = x.parts.residual
    S = y.parts.residual
    cross = R @ plan @ S  # (n, m)
    alpha = x.parts.deviations  # (n,)
    beta = y.parts.deviations  # (m,)
    gaps = alpha[:, None] - beta
    costs = 2 * gaps**2 - 4 * cross
    mean_gap = x.parts.mean - y.parts.mean
    norms = _squared_norm(x) + _squared_norm(y)
    constant = mean_gap**2 + norms
    #    Summed row by row: n + m float operations behind the sum instead of n m.
    row_sums = (plan * cross).sum(axis=1)
    cross_term = float(row_sums.sum())  # ⟨π, R π S⟩
    # 2. How far the objective may bend below it.
    curvature = _curvature(
        plan,
        x,
        y,
        largest_eigenvalue_product,
    )
    # 3. The float errors of the costs.
    n, m = plan.shape
    omegas = x.radii.weights + y.radii.weights
    terms = 2 * (n + m) + 2 * omegas + 20
    largest_x = np.abs(R).max()
    largest_y = np.abs(S).max()
    largest = float(largest_x * largest_y)
    size = largest * float(plan.sum())  # ≥ every entry of R π S
    cross_error = 8 * gamma(terms) * size
    costs_error = gamma(8) * np.abs(costs) + cross_error
    radius_x = x.radii.root_radius()
    radius_y = y.radii.root_radius()
    return Tangent(
        constant=float(constant + 2 * cross_term),
        costs=costs,
        costs_error=costs_error,
        curvature=float(curvature),
        sums=float(constant + abs(cross_term)),
        size=size,
        terms=float(terms),
        radius=float(radius_x + radius_y),
    )


def _squared_norm(side: EnclosedParts) -> float:
    """Return ‖R‖² = Σ a_i a_k R_ik²."""
    a = side.parts.weights
    squares = side.parts.residual**2
    return float(a @ (squares @ a))


def _curvature(
    plan: NumpyArray,
    x: EnclosedParts,
    y: EnclosedParts,
    largest_eigenvalue_product: float,
) -> float:
    """Return 2 τ (1 + κ)² min(n, m), rounded up; κ = 1 where the plan is a coupling."""
    # A plan that misses its marginals is no contraction: its excess widens the distance
    # to the couplings.
    rows = plan.sum(axis=1)
    cols = plan.sum(axis=0)
    with np.errstate(over="ignore"):  # of tiny weights: the bound is none then
        ratios_x = rows / x.parts.weights
        ratios_y = cols / y.parts.weights
        largest_x = ratios_x.max()
        largest_y = ratios_y.max()
        square = float(largest_x * largest_y)  # κ²
    widest: float = square**0.5
    n, m = plan.shape
    terms = n + m + x.radii.weights + y.radii.weights + 20
    enlarged: float = 1 + gamma(terms)
    squared_distance = (1 + widest) ** 2
    rank: int = min(n, m)  # of the difference of two plans, at most
    return 2 * largest_eigenvalue_product * squared_distance * rank * enlarged


def eigenvalue_product_of_kinds(
    x: EnclosedParts,
    y: EnclosedParts,
    sign_x: int,
    sign_y: int,
) -> float:
    """Return τ ≥ max λ_i μ_j of stored residuals, from the kinds of the spaces alone.

    Where kinds make R positive and S negative semidefinite, or the other way round, all
    products of the exact eigenvalues are ≤ 0, and those of the stored residuals exceed
    that by float error only (theorem 13 f). Other kinds tell nothing: infinity.

    Parameters
    ----------
    x, y : EnclosedParts
        The spaces.
    sign_x, sign_y : int
        1 where R is positive semidefinite, −1 where it is negative, 0 if unknown.
    """
    if sign_x * sign_y >= 0:
        return float(np.inf)
    # Exact products are ≤ 0: stored ones exceed 0 by the radii of their factors only.
    radius_x = x.radii.residual
    radius_y = y.radii.residual
    norm_x = _squared_norm(x) ** 0.5
    norm_y = _squared_norm(y) ** 0.5
    norm_x = norm_x + float_error.UNDERFLOW_OF_ROOTS
    norm_y = norm_y + float_error.UNDERFLOW_OF_ROOTS
    product = radius_x * (norm_y + radius_y) + radius_y * norm_x
    return 1.01 * float(product)


def largest_eigenvalue_product(
    modes_x: Modes,
    modes_y: Modes,
) -> float:
    """Return τ ≥ max λ_i μ_j from computed spectra and their errors."""
    low_x, high_x = _spectrum_ends(modes_x)
    low_y, high_y = _spectrum_ends(modes_y)
    lowest = low_x * low_y
    highest = high_x * high_y
    largest = max(lowest, highest, 0.0)
    return float((1 + gamma(8)) * largest)


def _spectrum_ends(modes: Modes) -> tuple[float, float]:
    """Return an interval that holds 0 and all exact eigenvalues."""
    low = modes.values.min(initial=0.0)
    high = modes.values.max(initial=0.0)
    lower = float(low) - modes.error
    upper = float(high) + modes.error
    return lower, upper
