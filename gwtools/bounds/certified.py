"""Certified lower bounds of GW_2² from moments, spectra and transport between values.

Each function returns the value as computed and a number that is proved to be at most
GW_2². Sources are the theorems of THEORY.md that the names of :mod:`gwtools.bounds`
cite; the float errors of each are theorem 13.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gwtools import _array
from gwtools._array import NumpyArray
from gwtools.bounds import float_error, outward, projected_quadratic
from gwtools.bounds.distributions import third_costs
from gwtools.bounds.enclosures import EnclosedPair
from gwtools.bounds.float_error import (
    Bound,
    Radii,
    gamma,
    lower_end,
    rounded_down,
)
from gwtools.bounds.moments import has_one_row, only_row, squared_distance_of_spectra
from gwtools.bounds.transport_error import dual_value, transport_on_line
from gwtools.spaces import Space
from gwtools.transport.local_distributions import Centred, centred
from gwtools.transport.programs import exact


class EnclosedParts(NamedTuple):
    """A space in NumPy with the radii of its parts."""

    parts: Centred  # in units of the prepared spaces, like all that follows
    radii: Radii


class Modes(NamedTuple):
    """Eigenpairs of diag(√a) R diag(√a), without its null vector √a, and their errors.

    Both errors are distances in the Frobenius norm; U′ has exactly orthonormal columns.
    """

    values: NumpyArray  # λ, (n − 1,)
    vectors: NumpyArray  # U, (n, n − 1)
    error: float  # of diag(√a) R diag(√a) from U′ diag(λ) U′ᵀ
    vectors_error: float  # of U from the exactly orthonormal U′


class AffineMinorant(NamedTuple):
    """offset + ⟨costs, σ⟩, which F of the stored parts is below at no coupling σ.

    Costs may be too large by ``costs_error``. The root of F of the exact parts is at
    most ``radius`` from that of the stored ones, at every coupling (theorem 6 a).
    """

    offset: float  # in squared units of C
    costs: NumpyArray  # (n, m)
    costs_error: NumpyArray  # (n, m)
    radius: float  # in units of C


class LinearBounds(NamedTuple):
    """Bounds that need only sorts and one pass over the pairs."""

    bounds: dict[str, Bound]
    a_priori: float  # GW_2² is at most this far above the lower end of "norm"


def linear(
    x: Space,
    y: Space,
    pair: EnclosedPair,
) -> LinearBounds:
    """Return theorems 1 and 3, and 4 and 12 (f) where these cost no more.

    That is where both spectra are those of small covariances, and between Gram spaces
    of one row.
    """
    radii_x = pair.x.radii
    radii_y = pair.y.radii
    # Sorts, and one pass over the pairs of atoms of each space.
    transport = pair.additive_transport()
    row_means, norm, a_priori = pair.row_means_and_norm(transport)
    bounds = {
        "row_means": row_means,
        "norm": norm,
    }
    if x.saves_work and y.saves_work:
        additive = _additive_bound(pair.mean_gap, transport, radii_x, radii_y)
        spectral = _small_spectra(x, y, additive, radii_x, radii_y)
        bounds["spectral"] = spectral
    if has_one_row(x) and has_one_row(y):
        bounds["rank_one"] = rank_one(x, y, radii_x, radii_y)
    return LinearBounds(bounds, a_priori)


def _additive_bound(
    mean_gap: float,
    transport: Bound,
    radii_x: Radii,
    radii_y: Radii,
) -> Bound:
    """Return (m_C − m_D)² + 2 W_2²(α, β), not yet rounded down."""
    mean_part, deviation_part = outward.additive_parts(
        mean_gap,
        transport,
        radii_x,
        radii_y,
    )
    value = mean_part.value + 2 * deviation_part.value
    lower = mean_part.lower + 2 * deviation_part.lower
    return Bound(value, lower)


def _small_spectra(
    x: Space,
    y: Space,
    additive: Bound,
    radii_x: Radii,
    radii_y: Radii,
) -> Bound:
    """Theorem 4 from the covariances of low-rank forms."""
    lam, radius_x = _covariance_spectrum(x, radii_x)
    mu, radius_y = _covariance_spectrum(y, radii_y)
    return _spectral_bound(additive, lam, mu, radius_x + radius_y)


def _covariance_spectrum(
    space: Space,
    radii: Radii,
) -> tuple[NumpyArray, float]:
    """Return the non-zero spectrum of R = ±G Gᵀ, (t,), and the radius of all of it."""
    form: Any = space.low_rank
    covariance = _array.to_numpy(form.covariance)  # Gᵀ diag(a) G, (t, t)
    # eigh reads one triangle alone.
    covariance = (covariance + covariance.T) / 2
    values, vectors = np.linalg.eigh(covariance)
    # Its norm is ‖R‖. The radius of ‖R‖ also bounds how far the computed R is from the
    # exact one in the Frobenius norm, and with it all eigenvalues (theorem 13 e).
    norm = float(np.linalg.norm(covariance))
    error, _ = float_error.eigenpair_error(covariance, values, vectors)
    radius = radii.norm(norm) + error
    return form.sign * values, radius


def _spectral_bound(
    additive: Bound,
    lam: NumpyArray,
    mu: NumpyArray,
    radius: float,
) -> Bound:
    """Add the squared distance of two spectra, together known up to a radius."""
    square = float(squared_distance_of_spectra(lam, mu))
    root = square**0.5
    # The float error of the distance itself (theorem 13 d).
    count = len(lam) + len(mu)
    terms = 4 * count + 6
    radius = radius + gamma(terms) * root
    radius = radius + float_error.UNDERFLOW_OF_ROOTS
    least = lower_end(root, radius)
    value = additive.value + root**2
    lower = additive.lower + least**2
    return Bound(value, rounded_down(lower))


def rank_one(
    x: Space,
    y: Space,
    radii_x: Radii,
    radii_y: Radii,
) -> Bound:
    """Theorem 12 (f): GW_2² itself of two Gram spaces C = h hᵀ and D = k kᵀ."""
    a = x.weights
    b = y.weights
    h = only_row(x, "x")  # (n,), with C = h hᵀ
    k = only_row(y, "y")  # (m,), with D = k kᵀ
    # 1. W, the lesser of W_2² between h and k and between h and −k.
    terms = max(radii_x.weights, radii_y.weights)
    alike = transport_on_line(h, a, k, b, terms=terms)
    against = transport_on_line(h, a, -k, b, terms=terms)
    computed = min(alike.value, against.value)
    least = min(alike.lower, against.lower)
    # 2. Second moments, of relative error γ, and what underflow may take from them.
    p = float(a @ h**2)
    q = float(b @ k**2)
    p_terms = radii_x.size + radii_x.weights + 8
    q_terms = radii_y.size + radii_y.weights + 8
    p_error = gamma(p_terms) * p
    q_error = gamma(q_terms) * q
    underflow = (x.size + y.size) * float_error.UNDERFLOW
    off = p_error + q_error + underflow
    # 3. GW_2² = p² + q² − 2 Z², Z = (p + q − W)/2 the largest |Σ π_ij h_i k_j|.
    #    That is (p − q)²/2 + W (p + q − W/2), of which both terms grow with the gap,
    #    with the sum of the moments and, up to that sum, with W.
    difference = p - q
    gap = lower_end(abs(difference), off)
    total = lower_end(p + q, off)
    rest = lower_end(total, least / 2)
    proved = gap**2 / 2 + least * rest
    lower = rounded_down(lower_end(proved, float_error.UNDERFLOW))
    value = difference**2 / 2 + computed * (p + q - computed / 2)
    return Bound(value, lower)


def enclosed_parts(space: Space) -> EnclosedParts:
    """Read a prepared space into NumPy, O(n²), with the radii of its parts.

    These are the radii of parts that are summed over the matrix C.
    """
    parts = centred(space)
    radii = float_error.matrix_radii(space)
    return EnclosedParts(parts, radii)


def first(x: EnclosedParts, y: EnclosedParts) -> Bound:
    """Theorem 1 for the eccentricities (Σ_k a_k C_ik²)^(1/2)."""
    values_x, radius_x = _eccentricities(x)
    values_y, radius_y = _eccentricities(y)
    transport = _transport(values_x, values_y, x, y)
    return _lowered(transport, radius_x + radius_y)


def _eccentricities(side: EnclosedParts) -> tuple[NumpyArray, float]:
    """Return the eccentricities of a space, (n,), and their radius (theorem 13 d)."""
    parts = side.parts
    radii = side.radii
    means = parts.matrix**2 @ parts.weights  # (n,), in squared units of C
    values = np.sqrt(means)
    terms = radii.size + radii.weights + 5
    sum_error = gamma(terms) * float(values.max())
    radius = sum_error + radii.entries + float_error.UNDERFLOW_OF_ROOTS
    return values, radius


def _transport(
    values_x: NumpyArray,
    values_y: NumpyArray,
    x: EnclosedParts,
    y: EnclosedParts,
) -> Bound:
    """Enclose W_2² between numbers at the atoms of two spaces."""
    return transport_on_line(
        values_x,
        x.parts.weights,
        values_y,
        y.parts.weights,
        terms=_larger_omega(x, y),
    )


def _larger_omega(x: EnclosedParts, y: EnclosedParts) -> float:
    """Return ω of the weights that are further from exactly normalised ones."""
    # ω counts roundings: weights are 1 + γ_ω times the exactly normalised ones.
    omega_x = x.radii.weights
    omega_y = y.radii.weights
    return float(max(omega_x, omega_y))


def _lowered(transport: Bound, radius: float) -> Bound:
    """Lower W_2² between values that are together known up to a radius (Lemma A)."""
    distance = transport.root().widened(radius)
    square = distance.squared()
    return Bound(transport.value, rounded_down(square.lower))


def second(x: EnclosedParts, y: EnclosedParts) -> Bound:
    """Theorem 7 for all pairwise values; the entries of stored matrices are exact."""
    values_x, weights_x = _pairs(x.parts)
    values_y, weights_y = _pairs(y.parts)
    # Each weight a_i a_k is one product of two weights.
    terms = 2 * _larger_omega(x, y) + 1
    # Of equal weights the products are equal too, so that values may pair off exactly.
    same_weights = np.array_equal(x.parts.weights, y.parts.weights)
    transport = transport_on_line(
        values_x,
        weights_x,
        values_y,
        weights_y,
        terms=terms,
        same_factors=same_weights,
    )
    radius = x.radii.entries + y.radii.entries
    return _lowered(transport, radius)


def _pairs(parts: Centred) -> tuple[NumpyArray, NumpyArray]:
    """Return all values of C and their weights a_i a_k, each of shape (n²,)."""
    products = np.outer(parts.weights, parts.weights)  # (n, n)
    return parts.matrix.ravel(), products.ravel()


def third(
    x: EnclosedParts,
    y: EnclosedParts,
    residual: bool,
) -> Bound:
    """Theorem 7 for coupled rows of C and D, or of R and S.

    Proved by the potentials of the linear program.
    """
    minorant = of_rows(x, y, residual)
    program = linear_program(minorant.costs, x, y, minorant.costs_error)
    proved = minorant.offset + max(program.lower, 0.0)
    lower = lower_by_root(proved, minorant.radius)
    return Bound(minorant.offset + program.value, lower)


def of_rows(
    x: EnclosedParts,
    y: EnclosedParts,
    residual: bool,
) -> AffineMinorant:
    """Return theorem 7 before its linear program: what transports of rows prove."""
    offset, costs = third_costs(
        x.parts,
        y.parts,
        residual=residual,
    )
    # Float errors of the transports between rows, and of the sum with the additive
    # costs.
    costs_error = row_transport_error(x, y) + gamma(8) * costs
    # R and S are computed parts; C and D are read as they are.
    radius_x = x.radii.root_radius() if residual else x.radii.entries
    radius_y = y.radii.root_radius() if residual else y.radii.entries
    return AffineMinorant(offset, costs, costs_error, float(radius_x + radius_y))


def lower_by_root(value: float, radius: float) -> float:
    """Lower the root of a bound by a radius and square it.

    The few float errors since the proof of the bound are paid for as well.
    """
    value = max(float(value), 0.0)
    root = rounded_down(value) ** 0.5
    least = lower_end(root, radius)
    return float(rounded_down(least**2))


def row_transport_error(x: EnclosedParts, y: EnclosedParts) -> float:
    """Bound how far a computed W_2² between two rows may be above the exact one.

    Rows of C and D, or of R and S (theorem 13 f): squares and products of values up to
    ``top``, between quantiles at levels that are off by a few (n + m) u.
    """
    top = _largest_value(x.parts) + _largest_value(y.parts)
    atoms = x.radii.size + y.radii.size
    terms = 6 * atoms + x.radii.weights + y.radii.weights + 40
    return float(16 * gamma(terms) * top**2)


def _largest_value(parts: Centred) -> float:
    entries = np.abs(parts.matrix)
    residuals = np.abs(parts.residual)
    return max(float(entries.max()), float(residuals.max()))


def linear_program(
    costs: NumpyArray,
    x: EnclosedParts,
    y: EnclosedParts,
    costs_error: NumpyArray,
) -> Bound:
    """Return min Σ costs_ij π_ij over couplings, as computed and as proved.

    ``costs`` (n, m) may be too large by ``costs_error`` (n, m).
    """
    a = x.parts.weights
    b = y.parts.weights
    program = exact(costs, a, b)
    # The solver's own lower value may be too high by float error. The proof takes
    # nothing but one of its potentials.
    potential = program.potentials[1]  # (m,)
    omega = _larger_omega(x, y)
    proved = dual_value(
        costs,
        potential,
        a,
        b,
        omega,
        costs_error,
    )
    return Bound(program.lower, proved)


def modes(side: EnclosedParts) -> Modes:
    """Return the eigenpairs of diag(√a) R diag(√a) that the convex bound uses."""
    parts = side.parts
    root = np.sqrt(parts.weights)
    matrix = root[:, None] * parts.residual * root  # (n, n)
    values, vectors = projected_quadratic.spectrum(parts)
    error, vectors_error = float_error.eigenpair_error(matrix, values, vectors)
    # The float error of this matrix, for the stored R (theorem 13 e).
    terms = 2 * side.radii.weights + 8
    norm = float(np.linalg.norm(matrix))
    stored_error = gamma(terms) * norm
    return Modes(values, vectors, error + stored_error, vectors_error)


def spectral(
    x: EnclosedParts,
    y: EnclosedParts,
    modes_x: Modes,
    modes_y: Modes,
) -> Bound:
    """Theorem 4 from all eigenvalues of both residuals."""
    alpha = x.parts.deviations  # (n,)
    beta = y.parts.deviations  # (m,)
    transport = _transport(alpha, beta, x, y)
    mean_gap = abs(x.parts.mean - y.parts.mean)
    additive = _additive_bound(mean_gap, transport, x.radii, y.radii)
    # Each spectrum is off by its own error and by that of the stored R.
    radius = x.radii.residual + modes_x.error
    radius = radius + y.radii.residual + modes_y.error
    return _spectral_bound(
        additive,
        modes_x.values,
        modes_y.values,
        radius,
    )
