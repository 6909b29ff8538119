"""Error analysis in float64: radii of computed quantities, and bounds rounded up or down by them (THEORY.md, theorem 13).

All radii are in units of prepared spaces. Functions of radii are arithmetic alone, on
numbers as on arrays of shape (B,): the same formulas serve one certificate and a batch
of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gwtools import _array
from gwtools._array import Array, NumpyArray
from gwtools.spaces import DenseSpace, Space
from gwtools.transport.one_dimensional import (
    SortingCoupling,
    comonotone,
    cost,
    equal_weights,
    pairs_off,
    wasserstein,
)

UNIT = 2.0**-53
UNDERFLOW = 2.0**-900  # more than underflow can cost an operation on values below 2^200
UNDERFLOW_OF_ROOTS = 2.0**-450  # and what that is to a root


def gamma(terms: Any) -> Any:
    """γ_k = k u / (1 − k u), enlarged by one per cent for the float error of the radius itself."""
    return 1.01 * terms * UNIT / (1 - terms * UNIT)


def lower_end(value: Any, radius: Any) -> Any:
    """Return max(value − radius, 0), the lower end of the interval of a quantity ≥ 0."""
    left = value - radius
    return (left + abs(left)) / 2


def floor(value: Any) -> Any:
    """Round down a value made of products and of at most nine sums of terms ≥ 0."""
    return value * (1 - gamma(20))


def ceiling(value: Any) -> Any:
    """Round up a value made of products and of at most nine sums of terms ≥ 0."""
    return value * (1 + gamma(20))


class Bound(NamedTuple):
    """A quantity as computed, and proved bounds of its exact value."""

    value: Any
    lower: Any
    upper: Any = math.inf

    def around(self, radius: Any) -> Bound:
        """Widen the interval of a length ≥ 0 by a radius on both sides."""
        return Bound(self.value, lower_end(self.lower, radius), self.upper + radius)

    def squared(self) -> Bound:
        """Square a length ≥ 0; the float error of the square is left to :func:`floor` and :func:`ceiling`."""
        return Bound(self.value**2, self.lower**2, self.upper**2)

    def root(self) -> Bound:
        """Return the root, with the same note on float error."""
        return Bound(self.value**0.5, self.lower**0.5, self.upper**0.5)


def length(value: Any, radius: Any) -> Bound:
    """Enclose a length ≥ 0 that is known up to a radius."""
    return Bound(value, value, value).around(radius)


@dataclass(frozen=True)
class Radii:
    """Radii of a space's computed parts (theorem 13 a, c, e)."""

    size: Any  # n
    weights: Any  # ω: stored weights are the exactly normalised ones times 1 + θ_ω
    largest: Any  # Λ ≥ max |C_ik|
    computed: (
        Any  # Λ where entries are computed from other values, 0 where they are stored
    )
    entries: Any  # of the entries of C
    row_means: Any  # δ_f, of each row mean
    mean: Any  # δ_m
    deviations: Any  # δ_α, of each α_i
    residual: (
        Any  # of R in its weighted norm, or of its covariance in the Frobenius norm
    )
    norm_terms: Any  # further relative index of the computed ‖R‖

    def norm(self, value: Any) -> Any:
        """δ_R, the radius of the computed ‖R‖."""
        return gamma(self.norm_terms) * value + self.residual + UNDERFLOW_OF_ROOTS

    def root_radius(self, spectrum: float = 0.0) -> Any:
        """The radius of the vector (m, √2 α, R), hence of the root of an objective or of a bound (theorem 6 a)."""
        return 1.01 * np.hypot(
            np.hypot(self.mean, 2**0.5 * self.deviations), self.residual + spectrum
        )


@dataclass(frozen=True)
class Extent:
    """Bounds of the parts of C about its mean: of the computed ones and of the exact ones."""

    deviation: Any  # ≥ max |α_i|
    residual: Any  # ≥ max |R_ik|
    spread: Any  # ≥ max |C_ik − m_C|


def radii(space: Space) -> Radii:
    """Return the radii of the parts that a space computes by itself: from its low-rank form if that saves work."""
    form = space.low_rank
    if form is None:
        return matrix_radii(space)
    largest, omega = _with_underflow(space.largest()), weight_terms(space.weights)
    terms = space.size + omega + 2 * form.rank + 24
    radius = 9 * gamma(terms) * largest
    return Radii(
        size=space.size,
        weights=omega,
        largest=largest,
        computed=largest,
        entries=gamma(space.float_operations) * largest + UNDERFLOW_OF_ROOTS,
        row_means=radius,
        mean=radius,
        deviations=radius,
        residual=5 * gamma(terms) * largest if form.saves_work else 6 * radius,
        norm_terms=2 * form.rank**2 + 8 if form.saves_work else 4 * terms,
    )


def matrix_radii(space: Space) -> Radii:
    """Return the radii of parts that are summed over the entries of C."""
    skew = space.skew if isinstance(space, DenseSpace) else 0.0
    return dense_radii(
        space.size,
        weight_terms(space.weights),
        space.float_operations,
        space.largest(),
        skew,
    )


def dense_radii(
    size: Any, omega: Any, float_operations: Any, largest: Any, skew: Any
) -> Radii:
    """Return the radii of parts that are summed over n × n entries up to Λ, each computed by so many float operations.

    ``skew`` is the largest |C_ik − C_ki|: a stored matrix is off its symmetric part by
    half of it (theorem 14).
    """
    largest, half, operations = (
        _with_underflow(largest),
        0.51 * skew,
        float_operations + 1,
    )
    terms = size + omega + operations
    row_means, mean, deviations = (
        gamma(k) * largest + half for k in (terms + 3, 2 * terms + 4, 3 * terms + 6)
    )
    return Radii(
        size=size,
        weights=omega,
        largest=largest,
        computed=largest * (float_operations > 0),
        entries=gamma(float_operations) * largest
        + UNDERFLOW_OF_ROOTS * (float_operations > 0)
        + half
        + gamma(1) * largest * (skew > 0),
        row_means=row_means,
        mean=mean,
        deviations=deviations,
        residual=2 * deviations + mean + 7 * gamma(3 + operations) * largest + half,
        norm_terms=2 * (2 * size + 2 * omega + 2),
    )


def _with_underflow(largest: Any) -> Any:
    """Add to Λ what makes its radii pay for underflow; where all values are 0, there is no float error."""
    return largest + UNDERFLOW * (largest > 0)


def weight_terms(weights: Array) -> Any:
    """ω: how far stored weights (…, n) are from the exactly normalised ones, in units of u = 2⁻⁵³.

    Weights a are s = Σ a times the normalised ones, so it is |s − 1|. The 4 are one
    operation for s, two where weights of a narrower dtype were converted and divided by
    their sum, and a spare one. Sums of stacks are n operations more.
    """
    if weights.ndim == 1:
        return abs(_array.exact_sum(weights) - 1) / UNIT + 4
    sums = _array.to_numpy(_array.namespace(weights).sum(weights, axis=-1))
    return np.abs(sums - 1) / UNIT + weights.shape[-1] + 4


def extent(space: Space, of: Radii) -> Extent:
    """Return how large the parts of C are, from its low-rank form or from the ends of its values."""
    xp, mean = _array.namespace(space.weights), float(space.mean)
    deviation = float(xp.max(xp.abs(space.deviations)))
    if (form := space.low_rank) is not None:
        return low_rank_extent(deviation, form.largest(), of)
    low, high = space.extremes()
    return dense_extent(deviation, max(high - mean, mean - low), of)


def low_rank_extent(deviation: Any, residual: Any, of: Radii) -> Extent:
    """Return the sizes of parts from the largest |α_i| and the largest |g_i|² ≥ |R_ik|, of C = m + α_i + α_k ± ⟨g_i, g_k⟩."""
    deviation, residual = (
        1.01 * deviation + of.deviations,
        1.01 * residual + of.residual,
    )
    return Extent(deviation, residual, 2 * deviation + residual + of.mean)


def dense_extent(deviation: Any, spread: Any, of: Radii) -> Extent:
    """Return the sizes of parts from the largest |α_i| and the largest |C_ik − m_C|; R is C − m_C less α_i and α_k."""
    deviation, spread = 1.01 * deviation + of.deviations, 1.01 * spread + of.mean
    return Extent(deviation, spread + 2 * deviation + of.residual, spread)


def max_difference(
    mean_gap: Any, x: Radii, y: Radii, extent_x: Extent, extent_y: Extent
) -> Any:
    """Ω: a bound of max |C_ik − D_jl|, from |m_C − m_D|, that no constant added to both stored matrices changes."""
    return 1.01 * mean_gap + x.mean + y.mean + extent_x.spread + extent_y.spread


def transport_on_line(
    x: Array,
    a: Array,
    y: Array,
    b: Array,
    p: float = 2.0,
    terms: Any = 0.0,
    products_of: bool | None = None,
    coupling: SortingCoupling | None = None,
) -> Bound:
    """Return W_p^p between stored values as computed and rounded outward, for exactly normalised weights (theorem 13 b).

    Parameters
    ----------
    x, a : arrays of shape (…, N)
        Values and weights; in a stack, atoms of weight zero are padding.
    y, b : arrays of shape (…, M)
        Values and weights.
    p : float
        1 or 2.
    terms : number or array of shape (…)
        Float operations behind each weight.
    products_of : bool, optional
        Where the weights of one pair are computed products of others: whether these are
        the same for x and for y. Products that agree may be of unequal numbers: only
        those of the same atoms are surely equal then.
    coupling : SortingCoupling, optional
        The comonotone coupling, if it is known.
    """
    # In NumPy, whose cumulative sums of weights never decrease.
    x, a, y, b = map(_array.to_numpy, (x, a, y, b))
    matched = equal_weights(a, b)
    if coupling is None and bool(np.all(matched)):
        value = wasserstein(x, a, y, b, p)
    else:
        pairs = (
            comonotone(x, a, y, b)
            if coupling is None
            else SortingCoupling(*map(_array.to_numpy, coupling))
        )
        value, pairing = cost(pairs, x, y, p), pairs_off(pairs, a, b)
        if products_of is not None:
            pairing &= products_of and np.array_equal(pairs.rows, pairs.cols)
        matched = matched | pairing
    value = float(value) if x.ndim == 1 else value
    return transport_bound(value, p, ends(x, a), ends(y, b), terms, matched)


def ends(values: NumpyArray, weights: NumpyArray) -> tuple[Any, Any, Any]:
    """Return the least and the largest value of the atoms that carry weight, and their number, shape (…)."""
    if values.ndim == 1:  # without padding
        return float(values.min()), float(values.max()), len(values)
    low = values.min(axis=-1, initial=np.inf, where=weights > 0)
    high = values.max(axis=-1, initial=-np.inf, where=weights > 0)
    return low, high, np.count_nonzero(weights, axis=-1)


def transport_bound(
    value: Any, p: float, x: Any, y: Any, terms: Any, matched: Any
) -> Bound:
    """Round a computed W_p^p outward.

    ``x`` and ``y`` are the least value, the largest one and the number of each list.
    Where atoms are ``matched``, each with one of the same weight, the ends of quantile
    cells are exact.
    """
    (low_x, high_x, n), (low_y, high_y, m) = x, y
    up, down = high_x - low_y, high_y - low_x
    largest_difference = (up + down + abs(up - down)) / 2  # the larger one
    shifted = gamma(2 * n + 3 + terms) * (high_x - low_x) + gamma(2 * m + 3 + terms) * (
        high_y - low_y
    )
    moved = p * largest_difference ** (p - 1) * shifted * (1 + gamma(8)) * (1 - matched)
    loss = (
        gamma(3 * (n + m) + terms + 6) * value
        + (n + m) * UNDERFLOW * (1 + largest_difference**p)
        + moved
    )
    return Bound(value, lower_end(value, loss), value + loss)


def additive_parts(
    mean_gap: Any, between: Bound, x: Radii, y: Radii
) -> tuple[Bound, Bound]:
    """Enclose (m_C − m_D)² and W_2²(α, β) by what is computed of them."""
    means = length(mean_gap, x.mean + y.mean).squared()
    return means, between.root().around(x.deviations + y.deviations).squared()


def additive_bounds(
    mean_gap: Any, between: Bound, norms: tuple[Any, Any], x: Radii, y: Radii
) -> tuple[Bound, Bound, Any]:
    """Round theorems 1 and 3 outward, and bound how far GW_2² lies above the lower end of the latter (theorems 3 ii and 13 d).

    Parameters
    ----------
    mean_gap : number or array
        |m_C − m_D| as computed.
    between : Bound
        W_2² of the computed deviations.
    norms : pair
        ‖R‖ and ‖S‖ as computed.
    x, y : Radii
        Of the spaces' parts.
    """
    means, lines = additive_parts(mean_gap, between, x, y)
    radii_of_norms = x.norm(norms[0]), y.norm(norms[1])
    residuals = length(
        abs(norms[0] - norms[1]), radii_of_norms[0] + radii_of_norms[1]
    ).squared()
    row_means = Bound(*(m + w for m, w in zip(means, lines, strict=True)))
    norm = Bound(
        *(m + 2 * w + r for m, w, r in zip(means, lines, residuals, strict=True))
    )
    above = 4 * (norms[0] + radii_of_norms[0]) * (norms[1] + radii_of_norms[1])
    norm = Bound(norm.value, floor(norm.lower), ceiling(norm.upper))
    a_priori = ceiling(above + (norm.upper - norm.lower))
    return (
        Bound(row_means.value, floor(row_means.lower), ceiling(row_means.upper)),
        norm,
        a_priori,
    )


def product_upper(value: Any, x: Radii, y: Radii) -> Any:
    """Round the computed objective of the product coupling up: a sum of squares of parts (theorems 2 and 13 g)."""
    terms = (
        2 * (x.size + y.size + x.weights + y.weights) + x.norm_terms + y.norm_terms + 40
    )
    underflow = (x.size + y.size) * UNDERFLOW
    return ceiling(
        (
            (value * (1 + gamma(terms)) + underflow) ** 0.5
            + x.root_radius()
            + y.root_radius()
        )
        ** 2
    )


def squares_upper(
    value: Any, atoms: Any, missed: Any, largest: Any, x: Radii, y: Radii
) -> Any:
    """Round Σ (C_ik − D_jl)² π_ij π_kl up, as summed over a plan's atoms, for it and for the nearest coupling (theorem 13 g).

    ``missed`` is the mass that is moved to reach it, ``largest`` ≥ max |C_ik − D_jl|.
    """
    terms = 2 * (atoms + x.weights + y.weights) + 20
    underflow = atoms * UNDERFLOW * (1 + largest**2)
    root = (value * (1 + gamma(terms)) + underflow) ** 0.5 + 1.01 * (1 + missed) * (
        x.entries + y.entries
    )
    return ceiling(root**2 + largest**2 * missed * (2 + missed))


def parts_upper(
    value: Any,
    sums: Any,
    missed: Any,
    mean_gap: Any,
    largest: Any,
    x: Radii,
    y: Radii,
    extent_x: Extent,
    extent_y: Extent,
) -> Any:
    """Round an objective up that was computed from m, α and R, for the plan and for the nearest coupling (theorem 13 g).

    Parameters
    ----------
    value : number or array
        (m_C − m_D)² + 2 Σ (α_i − β_j)² π_ij + ‖R‖² + ‖S‖² − 2 ⟨π, R π S⟩ as computed.
    sums : number or array
        How many terms the sums over the plan have, beyond n + m.
    missed : number or array
        The mass that is moved to reach the nearest coupling.
    mean_gap, largest : number or array
        |m_C − m_D| as computed, and a bound of max |C_ik − D_jl|.
    x, y : Radii
        Of the spaces' parts.
    extent_x, extent_y : Extent
        Sizes of the spaces' parts.
    """
    lines, product = (
        2 * (extent_x.deviation + extent_y.deviation) ** 2,
        2 * extent_x.residual * extent_y.residual,
    )
    square = mean_gap**2 + lines + extent_x.residual**2 + extent_y.residual**2 + product
    terms = (
        4 * (x.size + y.size)
        + sums
        + 2 * (x.weights + y.weights)
        + x.norm_terms
        + y.norm_terms
        + 60
    )
    evaluated = (
        value
        + gamma(terms) * square * (1 + missed) ** 2
        + (x.size + y.size) * UNDERFLOW * (1 + square)
    )
    # What depends on the plan moves by the first two on the way to the coupling, and
    # back to the plan by the last.
    moved = (lines + product + largest**2) * missed * (2 + missed)
    return ceiling(
        ((evaluated + moved) ** 0.5 + x.root_radius() + y.root_radius()) ** 2
    )


def missed_mass(rows: Any, cols: Any, sums: Any, x: Radii, y: Radii) -> Any:
    """Bound the mass that separates a plan from the nearest coupling of the exactly normalised weights (theorem 13 g).

    ``rows`` is Σ |π1 − a| and ``cols`` Σ |πᵀ1 − b| as computed, ``sums`` the largest
    number of masses in a sum.
    """
    terms = x.size + y.size + sums + x.weights + y.weights
    return 1.01 * (rows + 2 * cols) + 3 * gamma(terms)


def interval_width(
    lower: Any, largest: Any, float_operations: Any, x: Radii, y: Radii
) -> Any:
    """Return the width that float errors of the values account for above a lower bound (theorem 13 h).

    Values that are off by δ = 256 (n + m + r + 64) u (Ω + Λ) move the root of an
    objective by as much: ``largest`` Ω is at least max |C_ik − D_jl|, Λ adds the
    largest values of spaces whose entries are computed, and ``float_operations`` r is
    the larger number of them behind an entry.
    """
    off = (
        256
        * (x.size + y.size + float_operations + 64)
        * UNIT
        * (largest + x.computed + y.computed)
    )
    return off * (2 * lower**0.5 + off)


def eigenvalue_error(
    matrix: NumpyArray, values: NumpyArray, vectors: NumpyArray
) -> tuple[float, float]:
    """Return how far ``matrix`` is from U diag(values) Uᵀ with exactly orthonormal U near ``vectors``, and |U − vectors|.

    Both in the Frobenius norm, whatever the eigensolver did (theorem 13 e); ``vectors``
    may be some of the columns.
    """
    n, k = vectors.shape
    if k == 0:
        return float(np.linalg.norm(matrix)) * (
            1 + gamma(matrix.size)
        ) + n * UNDERFLOW_OF_ROOTS, 0.0
    off = 1.01 * float(np.linalg.norm(vectors.T @ vectors - np.eye(k))) + 2 * k * gamma(
        n + 1
    )
    if off >= 1:  # nothing need be near the vectors then: a radius above all values
        return 2.0**500, off
    largest, total = float(np.abs(values).max()), float(np.abs(values).sum())
    left = (
        1.01 * float(np.linalg.norm(matrix - (vectors * values) @ vectors.T))
        + n * UNDERFLOW_OF_ROOTS
    )
    return left + gamma(k + 4) * (
        2 * total + float(np.linalg.norm(matrix))
    ) + largest * off * (2 + off), off


def dual_value(
    costs: NumpyArray,
    potential: NumpyArray,
    a: NumpyArray,
    b: NumpyArray,
    weights: float,
    below: NumpyArray | float = 0.0,
) -> float:
    """Return a number that no coupling's Σ costs_ij π_ij is below, from any potential of the second space (theorem 13 f).

    ``below`` is by how much the costs may be too large; ``weights`` is the larger ω.
    """
    costs = costs - below
    size = np.abs(costs).max(axis=1) + float(np.abs(potential).max())
    dual = (costs - potential).min(axis=1) - 6 * UNIT * size
    reach = float(np.abs(dual).max() + np.abs(potential).max())
    sums = (
        2 * gamma(max(costs.shape) + weights + 4) * reach + sum(costs.shape) * UNDERFLOW
    )
    return float(a @ dual + b @ potential - sums)
