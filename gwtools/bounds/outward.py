"""Bounds and objectives rounded outward by the radii of the parts (theorem 13 d, g, h).

Formulas of numbers, or of arrays of shape (B,): the same ones serve one certificate and
a batch of them.
"""

from __future__ import annotations

from gwtools._stacks import Numbers
from gwtools.bounds import float_error
from gwtools.bounds.float_error import (
    Bound,
    Extent,
    Radii,
    gamma,
    length,
    rounded_down,
    rounded_up,
)


def additive_parts(
    mean_gap: Numbers,
    transport: Bound,
    radii_x: Radii,
    radii_y: Radii,
) -> tuple[Bound, Bound]:
    """Enclose (m_C − m_D)² and W_2²(α, β) by what is computed of them."""
    mean_radius = radii_x.mean + radii_y.mean
    means = length(mean_gap, mean_radius)
    # W_2 moves by at most the radii of the values (Lemma A).
    deviation_radius = radii_x.deviations + radii_y.deviations
    deviations = transport.root().widened(deviation_radius)
    return means.squared(), deviations.squared()


def additive_bounds(
    mean_gap: Numbers,
    transport: Bound,
    norms: tuple[Numbers, Numbers],
    radii_x: Radii,
    radii_y: Radii,
) -> tuple[Bound, Bound, Numbers]:
    """Round theorems 1 and 3 outward, and bound how far GW_2² lies above the latter.

    By theorem 3 (ii) and 13 (d).

    Parameters
    ----------
    mean_gap : number or array
        |m_C − m_D| as computed.
    transport : Bound
        W_2² of the computed deviations.
    norms : pair
        ‖R‖ and ‖S‖ as computed.
    radii_x, radii_y : Radii
        Of the spaces' parts.

    Returns
    -------
    tuple
        Theorem 1, theorem 3, and the distance of GW_2² from the lower end of theorem 3.
    """
    norm_x, norm_y = norms
    # 1. The terms of both bounds.
    mean_part, deviation_part = additive_parts(mean_gap, transport, radii_x, radii_y)
    radius_x = radii_x.norm(norm_x)
    radius_y = radii_y.norm(norm_y)
    norm_gap = abs(norm_x - norm_y)
    norm_part = length(norm_gap, radius_x + radius_y).squared()
    # 2. Theorem 1: (m_C − m_D)² + W_2²(α, β).
    row_means = Bound(
        mean_part.value + deviation_part.value,
        rounded_down(mean_part.lower + deviation_part.lower),
        rounded_up(mean_part.upper + deviation_part.upper),
    )
    # 3. Theorem 3: (m_C − m_D)² + 2 W_2²(α, β) + (‖R‖ − ‖S‖)².
    norm = Bound(
        mean_part.value + 2 * deviation_part.value + norm_part.value,
        rounded_down(mean_part.lower + 2 * deviation_part.lower + norm_part.lower),
        rounded_up(mean_part.upper + 2 * deviation_part.upper + norm_part.upper),
    )
    # 4. GW_2² is at most 4 ‖R‖ ‖S‖ above the exact value of theorem 3.
    above = 4 * (norm_x + radius_x) * (norm_y + radius_y)
    width = norm.upper - norm.lower
    a_priori = rounded_up(above + width)
    return row_means, norm, a_priori


def product_upper(value: Numbers, radii_x: Radii, radii_y: Radii) -> Numbers:
    """Round the computed objective of the product coupling up (theorems 2 and 13 g)."""
    atoms = radii_x.size + radii_y.size
    # 1. All terms are squares, so that the float error of their sum is relative.
    terms = (
        2 * (atoms + radii_x.weights + radii_y.weights)
        + radii_x.norm_terms
        + radii_y.norm_terms
        + 40
    )
    underflow = atoms * float_error.UNDERFLOW
    root = (value * (1 + gamma(terms)) + underflow) ** 0.5
    # 2. The root moves with the parts (theorem 6 a).
    root = root + radii_x.root_radius() + radii_y.root_radius()
    return rounded_up(root**2)


def squares_upper(
    value: Numbers,
    plan_atoms: Numbers,
    missed: Numbers,
    largest: Numbers,
    radii_x: Radii,
    radii_y: Radii,
) -> Numbers:
    """Round an objective up that was summed over pairs of a plan's atoms.

    It is an upper bound for the plan and for the nearest coupling (theorem 13 g).

    Parameters
    ----------
    value : number or array
        Σ (C_ik − D_jl)² π_ij π_kl as computed.
    plan_atoms : number or array
        How many atoms the plan has.
    missed : number or array
        The mass that is moved to reach the nearest coupling.
    largest : number or array
        Ω ≥ max |C_ik − D_jl|.
    radii_x, radii_y : Radii
        Of the spaces' parts.
    """
    # 1. A sum of squares, whose float error is relative.
    square = largest**2
    terms = 2 * (plan_atoms + radii_x.weights + radii_y.weights) + 20
    underflow = plan_atoms * float_error.UNDERFLOW * (1 + square)
    root = (value * (1 + gamma(terms)) + underflow) ** 0.5
    # 2. The root moves with the entries (theorem 6 a), times the mass of the plan.
    entries = radii_x.entries + radii_y.entries
    root = root + 1.01 * (1 + missed) * entries
    # 3. The way to the nearest coupling.
    moved = square * missed * (2 + missed)
    return rounded_up(root**2 + moved)


def parts_upper(
    value: Numbers,
    plan_terms: Numbers,
    missed: Numbers,
    mean_gap: Numbers,
    largest: Numbers,
    radii_x: Radii,
    radii_y: Radii,
    extent_x: Extent,
    extent_y: Extent,
) -> Numbers:
    """Round an objective up that was computed from m, α and R.

    It is an upper bound for the plan and for the nearest coupling (theorem 13 g).

    Parameters
    ----------
    value : number or array
        (m_C − m_D)² + 2 Σ (α_i − β_j)² π_ij + ‖R‖² + ‖S‖² − 2 ⟨π, R π S⟩ as computed.
    plan_terms : number or array
        How many terms the sums over the plan have, beyond n + m.
    missed : number or array
        The mass that is moved to reach the nearest coupling.
    mean_gap, largest : number or array
        |m_C − m_D| as computed, and a bound Ω of max |C_ik − D_jl|.
    radii_x, radii_y : Radii
        Of the spaces' parts.
    extent_x, extent_y : Extent
        Sizes of the spaces' parts.
    """
    # 1. Bounds of the terms: of 2 (α − β)², of 2 R S, and W of all of them together.
    residual_x = extent_x.residual
    residual_y = extent_y.residual
    additive = 2 * (extent_x.deviation + extent_y.deviation) ** 2
    product = 2 * residual_x * residual_y
    total = mean_gap**2 + additive + residual_x**2 + residual_y**2 + product
    # 2. The float error of their sum; ⟨π, R π S⟩ has both signs, so it is absolute.
    atoms = radii_x.size + radii_y.size
    terms = (
        4 * atoms
        + plan_terms
        + 2 * (radii_x.weights + radii_y.weights)
        + radii_x.norm_terms
        + radii_y.norm_terms
        + 60
    )
    evaluation_error = gamma(terms) * total * (1 + missed) ** 2
    underflow = atoms * float_error.UNDERFLOW * (1 + total)
    evaluated = value + evaluation_error + underflow
    # 3. The plan π and the nearest coupling differ by e = missed, and π ⊗ π by
    #    e (2 + e). Times the largest 2 (α − β)² and 2 R S, that is the way to the
    #    coupling; times Ω², the way back. The result holds for both objectives.
    change = additive + product + largest**2
    moved = change * missed * (2 + missed)
    # 4. The root moves with the parts (theorem 6 a).
    root = (evaluated + moved) ** 0.5
    root = root + radii_x.root_radius() + radii_y.root_radius()
    return rounded_up(root**2)


def missed_mass(
    rows: Numbers,
    cols: Numbers,
    sum_terms: Numbers,
    radii_x: Radii,
    radii_y: Radii,
) -> Numbers:
    """Bound the mass that separates a plan from the nearest coupling (theorem 13 g).

    A coupling of the exactly normalised weights. ``rows`` is Σ |π1 − a| and ``cols``
    Σ |πᵀ1 − b| as computed, ``sum_terms`` the largest number of masses in a sum.
    """
    atoms = radii_x.size + radii_y.size
    terms = atoms + sum_terms + radii_x.weights + radii_y.weights
    # Rounding onto the marginals a and b scales down rows r, then columns c, which
    # removes at most ρ = Σ (r − a)₊ + Σ (c − b)₊, and adds 1 − Σ π + ρ: rows + 2 cols.
    moved = rows + 2 * cols
    return 1.01 * moved + 3 * gamma(terms)


def interval_width(
    lower: Numbers,
    largest: Numbers,
    float_operations: Numbers,
    radii_x: Radii,
    radii_y: Radii,
) -> Numbers:
    """Return the width that float errors account for above a lower bound.

    By theorem 13 (h): values that are off by δ = 256 (n + m + r + 64) u (Ω + Λ) move
    the root of an objective by as much. An interval that is no wider cannot be told
    from a point.

    Parameters
    ----------
    lower : number or array
        A lower bound of GW_2².
    largest : number or array
        Ω ≥ max |C_ik − D_jl|; Λ adds the largest values of spaces whose entries are
        computed.
    float_operations : number or array
        r, the larger number of float operations behind an entry.
    radii_x, radii_y : Radii
        Of the spaces' parts.
    """
    atoms = radii_x.size + radii_y.size
    operations = atoms + float_operations + 64
    values = largest + radii_x.largest_computed + radii_y.largest_computed
    off = 256 * operations * float_error.UNIT * values
    # (√lower + δ)² − lower: an interval that is no wider counts as a point.
    return off * (2 * lower**0.5 + off)
