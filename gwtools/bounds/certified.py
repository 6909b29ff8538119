"""Certified lower bounds of GW_2²: each returns the value as computed and a number that is proved to be at most GW_2².

Sources are the theorems of THEORY.md that the names of :mod:`gwtools.bounds` cite; the
float errors of each are theorem 13.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gwtools import _array
from gwtools._array import NumpyArray
from gwtools.bounds import float_error, projected_quadratic
from gwtools.bounds.distributions import third_costs
from gwtools.bounds.enclosures import EnclosedPair
from gwtools.bounds.float_error import (
    UNDERFLOW,
    UNDERFLOW_OF_ROOTS,
    Bound,
    Radii,
    floor,
    gamma,
    lower_end,
)
from gwtools.bounds.moments import has_one_row, only_row, squared_distance_of_spectra
from gwtools.spaces import Space
from gwtools.transport.local_distributions import Centred, centred
from gwtools.transport.programs import exact


class EnclosedParts(NamedTuple):
    """A space in NumPy with the radii of its parts."""

    parts: Centred
    radii: Radii


class Modes(NamedTuple):
    """Eigenpairs of diag(√a) R diag(√a) on the complement of its null vector √a, with their float errors.

    ``error`` is the distance of U diag(λ) Uᵀ from that matrix, ``off`` that of U from
    exactly orthonormal columns.
    """

    values: NumpyArray
    vectors: NumpyArray
    error: float
    off: float


class Linear(NamedTuple):
    """Bounds that need sorts and one pass over the pairs, and how far GW_2² can lie above the ``norm`` bound."""

    bounds: dict[str, Bound]
    a_priori: float


def linear(x: Space, y: Space, pair: EnclosedPair) -> Linear:
    """Return theorems 1 and 3, 4 where its spectra are small, and 12 f between Gram spaces of one row."""
    transport = pair.additive_transport()
    row_means, norm, a_priori = pair.row_means_and_norm(transport)
    bounds = {"row_means": row_means, "norm": norm}
    if x.saves_work and y.saves_work:
        additive = _additive_bound(pair.mean_gap, transport, pair.x.radii, pair.y.radii)
        bounds["spectral"] = _small_spectra(x, y, additive, pair.x.radii, pair.y.radii)
    if has_one_row(x) and has_one_row(y):
        bounds["rank_one"] = rank_one(x, y, pair.x.radii, pair.y.radii)
    return Linear(bounds, a_priori)


def _additive_bound(mean_gap: float, between: Bound, x: Radii, y: Radii) -> Bound:
    """(m_C − m_D)² + 2 W_2²(α, β)."""
    means, lines = float_error.additive_parts(mean_gap, between, x, y)
    return Bound(means.value + 2 * lines.value, means.lower + 2 * lines.lower)


def _plus_square(additive: Bound, root: float, radius: float) -> Bound:
    """Add the square of a length that is known up to a radius."""
    return Bound(
        additive.value + root**2,
        floor(additive.lower + lower_end(abs(root), radius) ** 2),
    )


def _small_spectra(
    x: Space, y: Space, additive: Bound, radii_x: Radii, radii_y: Radii
) -> Bound:
    """Theorem 4 from the covariances of low-rank forms."""
    spectra, radius = [], 0.0
    for space, radii in ((x, radii_x), (y, radii_y)):
        form: Any = space.low_rank
        covariance = _array.to_numpy(form.covariance)
        covariance = (covariance + covariance.T) / 2
        values, vectors = np.linalg.eigh(covariance)
        radius += (
            radii.norm(float(np.linalg.norm(covariance)))
            + float_error.eigenvalue_error(covariance, values, vectors)[0]
        )
        spectra.append(form.sign * values)
    return _spectral_bound(additive, spectra[0], spectra[1], radius)


def _spectral_bound(
    additive: Bound, lam: NumpyArray, mu: NumpyArray, radius: float
) -> Bound:
    root = float(squared_distance_of_spectra(np.sort(lam), np.sort(mu))) ** 0.5
    return _plus_square(
        additive,
        root,
        radius + gamma(4 * (len(lam) + len(mu)) + 6) * root + UNDERFLOW_OF_ROOTS,
    )


def rank_one(x: Space, y: Space, radii_x: Radii, radii_y: Radii) -> Bound:
    """Theorem 12 f: GW_2² itself of two Gram spaces of one row, from second moments and transport on the line."""
    h, k = only_row(x, "x"), only_row(y, "y")
    # 1. W_2² between h and k, and between h and −k, whichever is less.
    terms = max(radii_x.weights, radii_y.weights)
    lists = [
        float_error.transport_on_line(h, x.weights, sign * k, y.weights, terms=terms)
        for sign in (1, -1)
    ]
    value, lower = min(w.value for w in lists), min(w.lower for w in lists)
    # 2. Second moments, of relative error γ, and what underflow may take from them.
    p, q = float(x.weights @ h**2), float(y.weights @ k**2)
    off = sum(
        gamma(r.size + r.weights + 8) * moment
        for r, moment in ((radii_x, p), (radii_y, q))
    )
    off += (x.size + y.size) * UNDERFLOW
    # 3. Both terms grow with the gap, with the sum of the moments and, up to that sum,
    #    with W.
    gap, total = lower_end(abs(p - q), off), lower_end(p + q, off)
    proved = gap**2 / 2 + lower * lower_end(total, lower / 2)
    return Bound(
        (p - q) ** 2 / 2 + value * (p + q - value / 2),
        floor(lower_end(proved, UNDERFLOW)),
    )


def enclosed_parts(space: Space) -> EnclosedParts:
    """Read a prepared space into NumPy, O(n²), with the radii of parts that are summed over its matrix."""
    return EnclosedParts(centred(space), float_error.matrix_radii(space))


def first(x: EnclosedParts, y: EnclosedParts) -> Bound:
    """Theorem 1 for the eccentricities (Σ_k a_k C_ik²)^(1/2)."""
    sizes = [np.sqrt(s.parts.matrix**2 @ s.parts.weights) for s in (x, y)]
    terms = max(x.radii.weights, y.radii.weights)
    between = float_error.transport_on_line(
        sizes[0], x.parts.weights, sizes[1], y.parts.weights, terms=terms
    )
    off = 0.0
    for s, size in zip((x, y), sizes, strict=True):
        off += (
            gamma(s.radii.size + s.radii.weights + 5) * float(size.max())
            + s.radii.entries
            + UNDERFLOW_OF_ROOTS
        )
    return Bound(between.value, floor(between.root().around(off).squared().lower))


def second(x: EnclosedParts, y: EnclosedParts) -> Bound:
    """Theorem 7 for all pairwise values; the entries of stored matrices are exact."""
    lists = [
        (s.parts.matrix.ravel(), np.outer(s.parts.weights, s.parts.weights).ravel())
        for s in (x, y)
    ]
    terms = 2 * max(x.radii.weights, y.radii.weights) + 1
    same = np.array_equal(x.parts.weights, y.parts.weights)
    between = float_error.transport_on_line(
        *lists[0], *lists[1], terms=terms, products_of=same
    )
    return Bound(
        between.value,
        floor(between.root().around(x.radii.entries + y.radii.entries).squared().lower),
    )


def third(x: EnclosedParts, y: EnclosedParts, residual: bool) -> Bound:
    """Theorem 7 for coupled rows of C and D, or of R and S, from the potentials of the linear program."""
    offset, costs = third_costs(x.parts, y.parts, residual=residual)
    program = exact(costs, x.parts.weights, y.parts.weights)
    below = _transport_error(x, y) + gamma(8) * costs
    proved = _dual_value(costs, program.potentials[1], x, y, below)
    off = (
        x.radii.root_radius() + y.radii.root_radius()
        if residual
        else x.radii.entries + y.radii.entries
    )
    return Bound(offset + program.lower, _lower_by_root(offset + max(proved, 0.0), off))


def _lower_by_root(value: float, radius: float) -> float:
    """Lower the root of a bound by a radius and square it; the few float errors since the proof are paid for as well."""
    root = floor(max(float(value), 0.0)) ** 0.5
    return float(floor(lower_end(root, radius) ** 2))


def _transport_error(x: EnclosedParts, y: EnclosedParts) -> float:
    """How far a computed W_2² between two rows of C and D, or of R and S, may be above the exact one.

    Squares and products of values up to ``top`` under positions that are off by a few
    (n + m) u.
    """
    top = sum(
        max(float(np.abs(s.parts.matrix).max()), float(np.abs(s.parts.residual).max()))
        for s in (x, y)
    )
    terms = 6 * (x.radii.size + y.radii.size) + x.radii.weights + y.radii.weights + 40
    return float(16 * gamma(terms) * top**2)


def _dual_value(
    costs: NumpyArray,
    potential: NumpyArray,
    x: EnclosedParts,
    y: EnclosedParts,
    below: NumpyArray,
) -> float:
    terms = max(x.radii.weights, y.radii.weights)
    return float_error.dual_value(
        costs, potential, x.parts.weights, y.parts.weights, terms, below
    )


def modes(side: EnclosedParts) -> Modes:
    """Return the eigenpairs that the convex bound uses, with the distance of U diag(λ) Uᵀ from the exact matrix."""
    root = np.sqrt(side.parts.weights)
    values, vectors = projected_quadratic.spectrum(side.parts)
    matrix = root[:, None] * side.parts.residual * root
    error, off = float_error.eigenvalue_error(matrix, values, vectors)
    stored = gamma(2 * side.radii.weights + 8) * float(np.linalg.norm(matrix))
    return Modes(values, vectors, error + stored, off)


def spectral(
    x: EnclosedParts, y: EnclosedParts, modes_x: Modes, modes_y: Modes
) -> Bound:
    """Theorem 4 from all eigenvalues of both residuals."""
    (alpha, a), (beta, b) = ((s.parts.deviations, s.parts.weights) for s in (x, y))
    between = float_error.transport_on_line(
        alpha, a, beta, b, terms=max(x.radii.weights, y.radii.weights)
    )
    additive = _additive_bound(
        abs(x.parts.mean - y.parts.mean), between, x.radii, y.radii
    )
    radius = x.radii.residual + modes_x.error + y.radii.residual + modes_y.error
    return _spectral_bound(additive, modes_x.values, modes_y.values, radius)


def convex(x: EnclosedParts, y: EnclosedParts, modes_x: Modes, modes_y: Modes) -> Bound:
    """Theorem 10: the best point of the ascent, proved by the potentials of one linear program."""
    offset = (x.parts.mean - y.parts.mean) ** 2
    minorants = projected_quadratic.minorants(
        x.parts,
        y.parts,
        (modes_x.values, modes_x.vectors),
        (modes_y.values, modes_y.vectors),
    )
    point, value = projected_quadratic.maximise(minorants)
    proved = offset * (1 - gamma(8)) + _proved_point(
        minorants, point, x, y, modes_x, modes_y
    )
    return Bound(
        offset + value, _lower_by_root(proved, _root_radius(x, y, modes_x, modes_y))
    )


def _root_radius(
    x: EnclosedParts, y: EnclosedParts, modes_x: Modes, modes_y: Modes
) -> float:
    """The larger radius of the root of the objective: of its parts with these modes, or of the stored entries."""
    return float(
        max(
            x.radii.root_radius(modes_x.error) + y.radii.root_radius(modes_y.error),
            x.radii.entries + y.radii.entries,
        )
    )


def _proved_point(
    p: projected_quadratic.Minorants,
    point: projected_quadratic.Point,
    x: EnclosedParts,
    y: EnclosedParts,
    modes_x: Modes,
    modes_y: Modes,
) -> float:
    """Return the bound of a point, less what float errors may have added to it (theorem 13 f)."""
    theta, d, q = point.theta, point.d, point.q
    n, m = p.root.shape
    # 1. Slacks that are surely not above −2 λ μ − s − t.
    largest = float(np.abs(p.lam).max(initial=0.0) * np.abs(p.mu).max(initial=0.0))
    lowered = np.maximum(d - 64 * float_error.UNIT * largest, 0.0)
    point = point._replace(d=lowered)
    excess = float(
        np.maximum(64 * float_error.UNIT * largest - d, 0.0)
        .max(axis=1, initial=0.0)
        .sum()
    )
    # 2. The slope, and how much of it may be float error.
    slope = point.slope(p)
    if not np.isfinite(slope).all():  # tiny weights may leave the range
        return -np.inf
    curved = (2 * theta[0] / p.root) * (
        np.abs(p.U) @ (lowered * np.abs(q)) @ np.abs(p.V).T
    )
    terms = n + m + x.radii.weights + y.radii.weights + 16
    below = (
        gamma(terms) * curved
        + gamma(12) * np.tensordot(theta, np.abs(p.costs), 1)
        + _transport_error(x, y)
    )
    program = exact(slope, p.a, p.b)
    proved = _dual_value(slope, program.potentials[1], x, y, below)
    # 3. Eigenvectors that are orthonormal up to float error only, and the sums of the
    #    constant.
    tilted = (
        2
        * theta[0]
        * float(np.linalg.norm(lowered * q))
        * (modes_x.off + modes_y.off + modes_x.off * modes_y.off)
    )
    sums = p.norms + abs(point.duals) + float(np.sum(d * q**2)) + abs(proved)
    return float(
        point.constant(p) + proved - excess - 1.01 * tilted - gamma(n * m + 20) * sums
    )


def convexity(
    x: EnclosedParts,
    y: EnclosedParts,
    plan: NumpyArray,
    largest_eigenvalue_product: float,
) -> Bound:
    """Theorem 11: the tangent at a plan, below a convex objective, and below any other less 2 τ (1 + κ)² min(n, m).

    ``largest_eigenvalue_product`` is τ ≥ max λ_i μ_j of the stored residuals' spectra;
    κ = 1 where the plan has the marginals (13 f).
    """
    a, b, R, S = x.parts.weights, y.parts.weights, x.parts.residual, y.parts.residual
    cross = R @ plan @ S
    costs = 2 * (x.parts.deviations[:, None] - y.parts.deviations) ** 2 - 4 * cross
    norms = [float(w @ (residual**2 @ w)) for w, residual in ((a, R), (b, S))]
    constant = (x.parts.mean - y.parts.mean) ** 2 + sum(norms)
    between = float((plan * cross).sum(axis=1).sum())
    program = exact(costs, a, b)
    # A plan that misses its marginals is no contraction: its excess widens the distance
    # to the couplings.
    with np.errstate(over="ignore"):  # of tiny weights: the bound is none then
        widest = (
            float((plan.sum(axis=1) / a).max() * (plan.sum(axis=0) / b).max()) ** 0.5
        )
    enlarged = 1 + gamma(sum(plan.shape) + x.radii.weights + y.radii.weights + 20)
    curvature = (
        2 * largest_eigenvalue_product * (1 + widest) ** 2 * min(plan.shape) * enlarged
    )
    terms = 2 * sum(plan.shape) + 2 * (x.radii.weights + y.radii.weights) + 20
    size = float(np.abs(R).max() * np.abs(S).max()) * float(plan.sum())
    below = gamma(8) * np.abs(costs) + 8 * gamma(terms) * size
    proved = _dual_value(costs, program.potentials[1], x, y, below)
    sums = constant + abs(between) + abs(proved)
    lower = (
        constant + 2 * between + proved - curvature - gamma(terms) * (sums + 2 * size)
    )
    return Bound(
        constant + 2 * between + program.lower - curvature,
        _lower_by_root(lower, x.radii.root_radius() + y.radii.root_radius()),
    )


def eigenvalue_product_of_kinds(
    x: EnclosedParts, y: EnclosedParts, sign_x: int, sign_y: int
) -> float:
    """Return τ ≥ max λ_i μ_j where the kinds of the spaces imply residuals of opposite signs, else infinity."""
    if sign_x * sign_y >= 0:
        return float(np.inf)
    sizes = [
        float(s.parts.weights @ (s.parts.residual**2 @ s.parts.weights)) ** 0.5
        for s in (x, y)
    ]
    left, right = (size + UNDERFLOW_OF_ROOTS for size in sizes)
    return 1.01 * float(
        x.radii.residual * (right + y.radii.residual) + y.radii.residual * left
    )


def largest_eigenvalue_product(modes_x: Modes, modes_y: Modes) -> float:
    """Return τ ≥ max λ_i μ_j from computed spectra and their errors."""
    ends = [
        (
            float(m.values.min(initial=0.0)) - m.error,
            float(m.values.max(initial=0.0)) + m.error,
        )
        for m in (modes_x, modes_y)
    ]
    (low_x, high_x), (low_y, high_y) = ends
    return float((1 + gamma(8)) * max(low_x * low_y, high_x * high_y, 0.0))
