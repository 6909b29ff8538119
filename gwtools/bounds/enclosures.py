"""Enclosures: moments of one or of many spaces with their float errors (theorem 13)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from gwtools import _array
from gwtools._array import Array
from gwtools._stacks import Numbers, larger
from gwtools.bounds import float_error, outward
from gwtools.bounds.float_error import Bound, Extent, Radii
from gwtools.bounds.moments import Moments, moments
from gwtools.bounds.transport_error import transport_on_line
from gwtools.spaces import Space
from gwtools.transport.quantile_cells import SortingCoupling


class Enclosure(NamedTuple):
    """The moments of a space in float64, and what is known of their float errors.

    Of a stack of B spaces, all but the moments are NumPy arrays of shape (B,).
    """

    moments: Moments  # a, f, α, m and ‖R‖²
    radii: Radii  # of the parts
    extent: Extent  # how large the parts are
    operations: Numbers  # float operations behind an entry of C


def enclosure(space: Space) -> Enclosure:
    """Enclose the parts that a prepared space computes by itself."""
    radii = float_error.radii(space)
    extent = float_error.extent(space, radii)
    return Enclosure(
        moments(space),
        radii,
        extent,
        space.float_operations,
    )


@dataclass(frozen=True, eq=False)
class EnclosedPair:
    """The enclosures of two spaces, and bounds of GW_2² from them.

    Numbers, or arrays (B,) of stacks.
    """

    x: Enclosure  # of C
    y: Enclosure  # of D

    @cached_property
    def mean_gap(self) -> Numbers:
        """|m_C − m_D|, as computed."""
        # In Python or NumPy, like the radii.
        mean_x = on_cpu(self.x.moments.mean)
        mean_y = on_cpu(self.y.moments.mean)
        return abs(mean_x - mean_y)

    @cached_property
    def largest(self) -> Numbers:
        """Ω ≥ max |C_ik − D_jl|."""
        return float_error.max_difference(
            self.mean_gap,
            self.x.radii,
            self.y.radii,
            self.x.extent,
            self.y.extent,
        )

    def additive_transport(self, coupling: SortingCoupling | None = None) -> Bound:
        """Enclose W_2²(α, β).

        ``coupling`` is a sorting coupling of the deviations, if one is known.
        """
        x = self.x.moments
        y = self.y.moments
        # One ω for both lists of weights (theorem 13 b).
        omega = larger(self.x.radii.weights, self.y.radii.weights)
        return transport_on_line(
            x.deviations,
            x.weights,
            y.deviations,
            y.weights,
            terms=omega,
            coupling=coupling,
        )

    def row_means_and_norm(self, transport: Bound) -> tuple[Bound, Bound, Numbers]:
        """Return theorems 1 and 3, and how far GW_2² can lie above the latter.

        ``transport`` is what :meth:`additive_transport` returns.
        """
        square_x = on_cpu(self.x.moments.residual_norm_squared)
        square_y = on_cpu(self.y.moments.residual_norm_squared)
        norms = square_x**0.5, square_y**0.5  # ‖R‖ and ‖S‖
        return outward.additive_bounds(
            self.mean_gap,
            transport,
            norms,
            self.x.radii,
            self.y.radii,
        )

    def float_error_above(self, lower: Numbers) -> Numbers:
        """Return the width that float errors of the values of C and D account for.

        An interval that is no wider above ``lower`` counts as a point (theorem 13 h).
        """
        operations = larger(self.x.operations, self.y.operations)
        return outward.interval_width(
            lower,
            self.largest,
            operations,
            self.x.radii,
            self.y.radii,
        )

    def missed_mass(
        self,
        row_sums: Array,
        col_sums: Array,
        terms: Numbers,
    ) -> Numbers:
        """Bound the mass between a plan and the nearest coupling (theorem 13 g).

        The marginals ``row_sums`` (…, n) and ``col_sums`` (…, m) of the plan are sums
        of at most ``terms`` masses each.
        """
        # ‖π1 − a‖₁ and ‖πᵀ1 − b‖₁.
        missed_x = _total_difference(row_sums, self.x.moments.weights)
        missed_y = _total_difference(col_sums, self.y.moments.weights)
        return outward.missed_mass(
            missed_x,
            missed_y,
            terms,
            self.x.radii,
            self.y.radii,
        )

    def squares_upper(
        self,
        value: Numbers,
        plan_atoms: Numbers,
        missed: Numbers,
    ) -> Numbers:
        """Round up an objective that was summed over pairs of a plan's atoms.

        It holds for the nearest coupling too, which is a mass ``missed`` away (theorem
        13 g).
        """
        return outward.squares_upper(
            value,
            plan_atoms,
            missed,
            self.largest,
            self.x.radii,
            self.y.radii,
        )

    def parts_upper(
        self,
        value: Numbers,
        terms: Numbers,
        missed: Numbers,
    ) -> Numbers:
        """Round up an objective that was computed from m, α and R.

        It holds for the nearest coupling too, which is a mass ``missed`` away (theorem
        13 g).
        """
        return outward.parts_upper(
            value,
            terms,
            missed,
            self.mean_gap,
            self.largest,
            self.x.radii,
            self.y.radii,
            self.x.extent,
            self.y.extent,
        )


def _total_difference(sums: Array, weights: Array) -> Numbers:
    """Return Σ |sums_i − a_i| over the atoms."""
    xp = _array.namespace(sums)
    differences = abs(sums - weights)  # (…, n)
    return on_cpu(xp.sum(differences, axis=-1))


def on_cpu(values: Array) -> Any:
    """Return one number as a float, and those of a stack as a NumPy array."""
    # One number leaves its library and device, to be computed with in Python alone.
    return _array.number(values) if values.ndim == 0 else _array.to_numpy(values)
