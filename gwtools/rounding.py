"""Outward rounding: how far float64 can carry each quantity from its exact value (THEORY.md, theorem 13).

All radii are in units of prepared spaces, whose values neither over- nor underflow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gwtools import _array, linear
from gwtools._array import Array, NumpyArray
from gwtools.linear import balanced
from gwtools.spaces import DenseSpace, Space

UNIT = 2.0**-53


def gamma(terms: float) -> float:
    """γ_k = k u / (1 − k u), enlarged by one per cent for the rounding of the radius itself."""
    return 1.01 * terms * UNIT / (1 - terms * UNIT)


def shrunk(value: float, radius: float) -> float:
    """Return max(value − radius, 0): what is left of a quantity that is known up to its radius."""
    return max(value - radius, 0.0)


def floor(value: float) -> float:
    """Round down a value made of products and of at most nine sums of terms ≥ 0."""
    return value * (1 - gamma(20))


@dataclass(frozen=True)
class Radii:
    """Radii of a space's computed parts (theorem 13 a, c, e)."""

    size: int  # n
    weights: int  # ω: normalised weights are the exact ones times 1 + θ_ω
    largest: float  # Λ ≥ max |C_ik|
    entries: float  # of the entries of C
    row_means: float  # δ_f, of each row mean
    mean: float  # δ_m
    deviations: float  # δ_α, of each α_i
    residual: float  # of R in its weighted norm, or of its covariance in the Frobenius norm
    norm_terms: int  # further relative index of the computed ‖R‖

    def norm(self, value: float) -> float:
        """δ_R, the radius of the computed ‖R‖."""
        return gamma(self.norm_terms) * value + self.residual

    def whole(self, spectrum: float = 0.0) -> float:
        """How far the vector (m, √2 α, R), hence the root of an objective or a bound, may be off (theorem 6 a)."""
        squares = self.mean**2 + 2 * self.deviations**2 + (self.residual + spectrum) ** 2
        length: float = 1.01 * squares**0.5
        return length


def radii(space: Space) -> Radii:
    """Return the radii of the parts that a space computes by itself: from its low-rank form if that saves work."""
    form, largest = space.low_rank, space.largest()
    if form is None:
        return dense_radii(space, largest)
    omega = _weight_terms(space)
    terms = space.size + omega + 2 * form.rank + 24
    radius = 9 * gamma(terms) * largest
    return Radii(
        size=space.size,
        weights=omega,
        largest=largest,
        entries=gamma(space.roundings) * largest,
        row_means=radius,
        mean=radius,
        deviations=radius,
        residual=5 * gamma(terms) * largest if form.saves_work else 6 * radius,
        norm_terms=2 * form.rank**2 + 8 if form.saves_work else 4 * terms,
    )


def dense_radii(space: Space, largest: float) -> Radii:
    """Return the radii of parts that are summed over the entries of C."""
    omega, rounded = _weight_terms(space), space.roundings + 1
    # A stored matrix is off its symmetric part by half the largest |C_ik − C_ki| (theorem 14).
    terms, skew = space.size + omega + rounded, 0.51 * space.skew if isinstance(space, DenseSpace) else 0.0
    row_means, mean, deviations = (gamma(k) * largest + skew for k in (terms + 3, 2 * terms + 4, 3 * terms + 6))
    return Radii(
        size=space.size,
        weights=omega,
        largest=largest,
        entries=gamma(space.roundings) * largest + skew + (gamma(1) * largest if skew else 0.0),
        row_means=row_means,
        mean=mean,
        deviations=deviations + skew,
        residual=2 * deviations + mean + 7 * gamma(3 + rounded) * largest + 3 * skew,
        norm_terms=2 * (2 * space.size + 2 * omega + 2),
    )


def _weight_terms(space: Space) -> int:
    """ω of theorem 13: 1 for equal weights, else 2n − 1 and one more for weights that were normalised twice."""
    return 2 if space.equal_weights else 4 * space.size


def line(x: Array, a: Array, y: Array, b: Array, p: float = 2.0, terms: int = 0) -> tuple[float, float]:
    """Return W_p^p between stored values as computed, and rounded down for exactly normalised weights (theorem 13 b).

    ``terms`` counts the roundings behind each weight.
    """
    xp = _array.namespace(x, y)
    if balanced(a, b):
        value, matched = float(linear.line(x, a, y, b, p)), True
    else:
        pairs = linear.comonotone(x, a, y, b)
        value, matched = float(linear.total(pairs, x, y, p)), pairs.mass.shape[0] == x.shape[0]
        # Rounded weights that agree may have been unequal: only those of the same atoms are surely the same.
        if matched and terms:
            matched = bool(xp.all(pairs.first == pairs.second)) and bool(xp.all(a == b))
    lists = x.shape[0] + y.shape[0]
    lower = value - gamma(3 * lists + terms + 6) * value - lists * 2.0**-1000
    if matched:
        return value, max(lower, 0.0)
    (high_x, low_x), (high_y, low_y) = ((float(xp.max(v)), float(xp.min(v))) for v in (x, y))
    apart = max(high_x - low_y, high_y - low_x, 0.0)
    shift_x, shift_y = (gamma(2 * v.shape[0] + 3 + terms) for v in (x, y))
    shifted = shift_x * (high_x - low_x) + shift_y * (high_y - low_y)
    return value, max(lower - p * apart ** (p - 1) * shifted * (1 + gamma(8)), 0.0)


def eigenvalue_error(matrix: NumpyArray, values: NumpyArray, vectors: NumpyArray) -> tuple[float, float]:
    """Return how far ``matrix`` is from U diag(values) Uᵀ with exactly orthonormal U near ``vectors``, and |U − vectors|.

    Both in the Frobenius norm, whatever the eigensolver did (theorem 13 e); ``vectors`` may be some of the columns.
    """
    n, k = vectors.shape
    if k == 0:
        return float(np.linalg.norm(matrix)) * (1 + gamma(matrix.size)), 0.0
    off = 1.01 * float(np.linalg.norm(vectors.T @ vectors - np.eye(k))) + 2 * k * gamma(n + 1)
    largest, total = float(np.abs(values).max()), float(np.abs(values).sum())
    left = 1.01 * float(np.linalg.norm(matrix - (vectors * values) @ vectors.T))
    return left + gamma(k + 4) * (2 * total + float(np.linalg.norm(matrix))) + largest * off * (2 + off), off


def dual_value(
    costs: NumpyArray,
    potential: NumpyArray,
    a: NumpyArray,
    b: NumpyArray,
    weights: int,
    below: NumpyArray | float = 0.0,
) -> float:
    """Return a number that no coupling's Σ costs_ij π_ij is below, from any potential of the second space (theorem 13 f).

    ``below`` is what the costs may be too large by; ``weights`` is the larger ω.
    """
    costs = costs - below
    size = np.abs(costs).max(axis=1) + float(np.abs(potential).max())
    dual = (costs - potential).min(axis=1) - 6 * UNIT * size
    reach = float(np.abs(dual).max() + np.abs(potential).max())
    return float(a @ dual + b @ potential) - 2 * gamma(max(costs.shape) + weights + 4) * reach
