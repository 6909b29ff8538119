"""Float errors of the parts of a space, as radii in float64 (theorem 13 a, c, e).

THEORY.md proves each formula. All radii are in units of prepared spaces. Functions of
radii are arithmetic alone, on numbers as on arrays of shape (B,): the same formulas
serve one certificate and a batch of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gwtools import _array
from gwtools._array import Array, NumpyArray
from gwtools._stacks import Numbers
from gwtools.spaces import DenseSpace, Space

# u, the unit of rounding of float64.
UNIT = 2.0**-53
# More than underflow can cost an operation on values below 2^200 ...
UNDERFLOW = 2.0**-900
# ... and what that is to a root: |√(x + η) − √x| ≤ √η.
UNDERFLOW_OF_ROOTS = 2.0**-450


def gamma(terms: Numbers) -> Numbers:
    """Return γ_k = k u / (1 − k u), enlarged by one per cent.

    The one per cent pays for the float error of the radius itself.
    """
    return 1.01 * terms * UNIT / (1 - terms * UNIT)


def lower_end(value: Numbers, radius: Numbers) -> Numbers:
    """Return max(value − radius, 0), the lower end of a quantity ≥ 0."""
    difference = value - radius
    # Arithmetic instead of max: the same for numbers and for arrays.
    return (difference + abs(difference)) / 2


def rounded_down(value: Numbers) -> Numbers:
    """Round down a value made of products and of at most nine sums of terms ≥ 0."""
    return value * (1 - gamma(20))


def rounded_up(value: Numbers) -> Numbers:
    """Round up a value made of products and of at most nine sums of terms ≥ 0."""
    return value * (1 + gamma(20))


class Bound(NamedTuple):
    """A quantity as computed, and proved bounds of its exact value."""

    value: Numbers
    lower: Numbers
    upper: Numbers = math.inf

    def widened(self, radius: Numbers) -> Bound:
        """Widen the interval of a length ≥ 0 by a radius on both sides."""
        lower = lower_end(self.lower, radius)
        upper = self.upper + radius
        return Bound(self.value, lower, upper)

    def squared(self) -> Bound:
        """Square a length ≥ 0.

        The float error of the square is left to :func:`rounded_down` and
        :func:`rounded_up`.
        """
        return Bound(
            self.value**2,
            self.lower**2,
            self.upper**2,
        )

    def root(self) -> Bound:
        """Return the root of a quantity ≥ 0; its float error is left to them too."""
        return Bound(
            self.value**0.5,
            self.lower**0.5,
            self.upper**0.5,
        )


def length(value: Numbers, radius: Numbers) -> Bound:
    """Enclose a length ≥ 0 that is known up to a radius."""
    point = Bound(value, value, value)  # value ≥ 0 already
    return point.widened(radius)


@dataclass(frozen=True)
class Radii:
    """Radii of a space's computed parts (theorem 13 a, c, e)."""

    size: Numbers  # n
    weights: Numbers  # ω: stored weights are the exactly normalised ones times 1 + θ_ω
    largest: Numbers  # Λ ≥ max |C_ik|
    largest_computed: Numbers  # Λ where entries are computed, 0 where they are stored
    entries: Numbers  # of the entries of C
    row_means: Numbers  # δ_f, of each row mean
    mean: Numbers  # δ_m
    deviations: Numbers  # δ_α, of each α_i
    # δ_E: of R in its weighted norm, or of its covariance in the Frobenius norm.
    residual: Numbers
    norm_terms: Numbers  # 2 h, the index of γ in δ_R, the radius of ‖R‖

    def norm(self, value: Numbers) -> Numbers:
        """Return δ_R, the radius of the computed ‖R‖."""
        sum_error = gamma(self.norm_terms) * value
        return sum_error + self.residual + UNDERFLOW_OF_ROOTS

    def root_radius(self, spectrum: float = 0.0) -> Numbers:
        """Return the radius of the vector (m, √2 α, R).

        By theorem 6 (a) the root of an objective, or of a bound, is off by no more.
        ``spectrum`` is added to the radius of R where its eigenvalues take its place.
        """
        deviations = 2**0.5 * self.deviations
        residual = self.residual + spectrum
        additive = np.hypot(self.mean, deviations)
        return 1.01 * np.hypot(additive, residual)


@dataclass(frozen=True)
class Extent:
    """Bounds of the parts of C about its mean: of the computed and the exact ones."""

    deviation: Numbers  # ≥ max |α_i|
    residual: Numbers  # ≥ max |R_ik|
    spread: Numbers  # ≥ max |C_ik − m_C|


def radii(space: Space) -> Radii:
    """Return the radii of the parts that a space computes by itself.

    Where it has a low-rank form, of rank t, they are computed from that.
    """
    form = space.low_rank
    if form is None:
        return matrix_radii(space)
    largest = _with_underflow(space.largest())
    omega = weight_terms(space.weights)
    # One radius, 9 γ Λ, holds for row means, mean and deviations (theorem 13 e).
    rank = form.rank
    terms = space.size + omega + 2 * rank + 24
    radius = 9 * gamma(terms) * largest
    if form.saves_work:
        # The norm of R is that of a covariance (t, t).
        residual = 5 * gamma(terms) * largest
        norm_terms = 2 * rank**2 + 8
    else:
        # R is made as a matrix: two deviations, a mean, and three entries' own errors.
        residual = 6 * radius
        norm_terms = 4 * terms
    entries = gamma(space.float_operations) * largest + UNDERFLOW_OF_ROOTS
    return Radii(
        size=space.size,
        weights=omega,
        largest=largest,
        largest_computed=largest,
        entries=entries,
        row_means=radius,
        mean=radius,
        deviations=radius,
        residual=residual,
        norm_terms=norm_terms,
    )


def matrix_radii(space: Space) -> Radii:
    """Return the radii of parts that are summed over the entries of C."""
    # Only stored entries can differ from their transposes.
    skew = space.skew if isinstance(space, DenseSpace) else 0.0
    omega = weight_terms(space.weights)
    return dense_radii(
        space.size,
        omega,
        space.float_operations,
        space.largest(),
        skew,
    )


def dense_radii(
    size: Numbers,
    omega: Numbers,
    float_operations: Numbers,
    largest: Numbers,
    skew: Numbers,
) -> Radii:
    """Return the radii of parts that are summed over n × n entries.

    Parameters
    ----------
    size : number or array of shape (B,)
        Number of atoms n.
    omega : number or array of shape (B,)
        ω of the weights, see :func:`weight_terms`.
    float_operations : number or array of shape (B,)
        How many float operations compute an entry: 0 where it is stored.
    largest : number or array of shape (B,)
        Λ ≥ max |C_ik|.
    skew : number or array of shape (B,)
        The largest |C_ik − C_ki|: a stored matrix is off its symmetric part by half of
        it (theorem 14).
    """
    largest = _with_underflow(largest)
    half_skew = 0.51 * skew
    # 1. Entries: by their own float operations; the symmetric part is rounded once.
    computed = float_operations > 0
    own_error = gamma(float_operations) * largest
    underflow = UNDERFLOW_OF_ROOTS * computed
    symmetrised = gamma(1) * largest * (skew > 0)
    entries = own_error + underflow + half_skew + symmetrised
    # 2. Sums over the entries: δ_f, δ_m and δ_α of 13 (a). The operations of an entry,
    #    and one more, count in each index.
    operations = float_operations + 1
    terms = size + omega + operations
    row_means = gamma(terms + 3) * largest + half_skew
    mean = gamma(2 * terms + 4) * largest + half_skew
    deviations = gamma(3 * terms + 6) * largest + half_skew
    # 3. R: δ_E of 13 (c), two deviations, a mean, the subtractions and an entry.
    subtractions = 7 * gamma(3 + operations) * largest
    residual = 2 * deviations + mean + subtractions + half_skew
    # 4. ‖R‖: h = 2 n + 2 ω + 2 of 13 (c).
    norm_terms = 2 * (2 * size + 2 * omega + 2)
    return Radii(
        size=size,
        weights=omega,
        largest=largest,
        largest_computed=largest * computed,
        entries=entries,
        row_means=row_means,
        mean=mean,
        deviations=deviations,
        residual=residual,
        norm_terms=norm_terms,
    )


def _with_underflow(largest: Numbers) -> Numbers:
    """Enlarge Λ so that its radii pay for underflow as well."""
    # Where all values are 0, there is no float error.
    return largest + UNDERFLOW * (largest > 0)


def weight_terms(weights: Array) -> Numbers:
    """Return ω: how far stored weights (…, n) are from the exactly normalised ones.

    In units of u = 2⁻⁵³. Weights a are s = Σ a times the normalised ones, so it is
    |s − 1|. The 4 are one operation for s, two where weights of a narrower dtype were
    converted and divided by their sum, and a spare one. Sums of stacks are n operations
    more.
    """
    if weights.ndim == 1:
        total = _array.exact_sum(weights)
        return abs(total - 1) / UNIT + 4
    n = weights.shape[-1]
    xp = _array.namespace(weights)
    totals = xp.sum(weights, axis=-1)  # (B,)
    totals = _array.to_numpy(totals)
    return np.abs(totals - 1) / UNIT + n + 4


def extent(space: Space, errors: Radii) -> Extent:
    """Return how large the parts of C are, from its low-rank form if it has one."""
    xp = _array.namespace(space.weights)
    deviations = xp.abs(space.deviations)
    deviation = float(xp.max(deviations))
    form = space.low_rank
    if form is not None:
        residual = form.largest()
        return low_rank_extent(deviation, residual, errors)
    mean = float(space.mean)
    low, high = space.extremes()
    spread = max(high - mean, mean - low)
    return dense_extent(deviation, spread, errors)


def low_rank_extent(
    deviation: Numbers,
    residual: Numbers,
    errors: Radii,
) -> Extent:
    """Return how large the parts of C = m + α_i + α_k ± ⟨g_i, g_k⟩ are.

    ``deviation`` is the computed max |α_i|, ``residual`` the computed max |g_i|², which
    is at least max |R_ik|.
    """
    # 1 % and the radius make a bound of the exact part and of the computed one.
    deviation = 1.01 * deviation + errors.deviations
    residual = 1.01 * residual + errors.residual
    spread = 2 * deviation + residual + errors.mean
    return Extent(deviation, residual, spread)


def dense_extent(
    deviation: Numbers,
    spread: Numbers,
    errors: Radii,
) -> Extent:
    """Return how large the parts of a matrix C are.

    ``deviation`` is the computed max |α_i|, ``spread`` the computed max |C_ik − m_C|.
    """
    deviation = 1.01 * deviation + errors.deviations
    spread = 1.01 * spread + errors.mean
    # R_ik = (C_ik − m_C) − α_i − α_k.
    residual = spread + 2 * deviation + errors.residual
    return Extent(deviation, residual, spread)


def extremes(
    values: NumpyArray, weights: NumpyArray
) -> tuple[Numbers, Numbers, Numbers]:
    """Return the least and the largest value of atoms with mass, and their number.

    Each of shape (…): atoms of weight 0 are the padding of a stack.
    """
    if values.ndim == 1:  # without padding
        low = float(values.min())
        high = float(values.max())
        return low, high, len(values)
    has_mass = weights > 0
    low = values.min(axis=-1, initial=np.inf, where=has_mass)
    high = values.max(axis=-1, initial=-np.inf, where=has_mass)
    number = np.count_nonzero(weights, axis=-1)
    return low, high, number


def max_difference(
    mean_gap: Numbers,
    radii_x: Radii,
    radii_y: Radii,
    extent_x: Extent,
    extent_y: Extent,
) -> Numbers:
    """Return Ω, a bound of max |C_ik − D_jl|, from |m_C − m_D| as computed.

    No constant that is added to both stored matrices changes it.
    """
    means = 1.01 * mean_gap + radii_x.mean + radii_y.mean
    return means + extent_x.spread + extent_y.spread


def eigenpair_error(
    matrix: NumpyArray,
    values: NumpyArray,
    vectors: NumpyArray,
) -> tuple[float, float]:
    """Bound the errors of computed eigenpairs, whatever the eigensolver did.

    By theorem 13 (e), with U of exactly orthonormal columns near ``vectors``.

    Parameters
    ----------
    matrix : numpy array of shape (n, n)
        Symmetric.
    values, vectors : numpy arrays of shape (k,) and (n, k)
        Some or all of its eigenpairs, as computed.

    Returns
    -------
    error : float
        ‖matrix − U diag(values) Uᵀ‖_F at most. The list of all eigenvalues is off from
        ``values`` and zeros by no more in the Euclidean norm.
    off : float
        ‖U − vectors‖_F at most.
    """
    n, k = vectors.shape
    if k == 0:
        # U is empty, and all of the matrix is left.
        left = _frobenius(matrix) * (1 + gamma(matrix.size))
        return left + n * UNDERFLOW_OF_ROOTS, 0.0
    # 1. How far the vectors V are from exactly orthonormal ones: at most ‖VᵀV − I‖_F.
    gram = vectors.T @ vectors  # (k, k)
    gram_error = 2 * k * gamma(n + 1)
    off = 1.01 * _frobenius(gram - np.eye(k)) + gram_error
    if off >= 1:  # nothing need be near the vectors then: a radius above all values
        return 2.0**500, off
    # 2. What the eigenpairs leave of the matrix, as computed, and the float error of
    #    the product.
    product = (vectors * values) @ vectors.T
    left = 1.01 * _frobenius(matrix - product) + n * UNDERFLOW_OF_ROOTS
    sizes = np.abs(values)
    total = float(sizes.sum())
    product_error = gamma(k + 4) * (2 * total + _frobenius(matrix))
    # 3. Exactly orthonormal vectors in the place of the computed ones.
    largest = float(sizes.max())
    tilted = largest * off * (2 + off)
    return left + product_error + tilted, off


def _frobenius(matrix: NumpyArray) -> float:
    return float(np.linalg.norm(matrix))
