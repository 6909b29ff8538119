"""Enclosures: the moments of a space, or of a stack of spaces, with the radii of their float errors (theorem 13)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from gwtools import _array
from gwtools._array import Array
from gwtools._stacks import larger
from gwtools.bounds import float_error
from gwtools.bounds.float_error import Bound, Extent, Radii
from gwtools.bounds.moments import Moments, moments
from gwtools.spaces import Space


class Enclosure(NamedTuple):
    """The moments of a space in float64, the radii of its parts, how large these are, and the float operations behind an entry.

    Of a stack of B spaces, all but the moments are NumPy arrays of shape (B,).
    """

    moments: Moments
    radii: Radii
    extent: Extent
    operations: Any


def enclosure(space: Space) -> Enclosure:
    """Enclose the parts that a prepared space computes by itself."""
    of = float_error.radii(space)
    return Enclosure(
        moments(space), of, float_error.extent(space, of), space.float_operations
    )


@dataclass(frozen=True, eq=False)
class EnclosedPair:
    """The enclosures of two spaces, and bounds of GW_2² from them: numbers, or arrays (B,) of stacks."""

    x: Enclosure
    y: Enclosure

    @cached_property
    def mean_gap(self) -> Any:
        """|m_C − m_D|, as computed."""
        return abs(on_cpu(self.x.moments.mean) - on_cpu(self.y.moments.mean))

    @cached_property
    def largest(self) -> Any:
        """Ω ≥ max |C_ik − D_jl|."""
        x, y = self.x, self.y
        return float_error.max_difference(
            self.mean_gap, x.radii, y.radii, x.extent, y.extent
        )

    def additive_transport(self, coupling: Any = None) -> Bound:
        """Enclose W_2²(α, β); ``coupling`` is a sorting coupling of the deviations, if one is known."""
        x, y = self.x.moments, self.y.moments
        terms = larger(self.x.radii.weights, self.y.radii.weights)
        return float_error.transport_on_line(
            x.deviations,
            x.weights,
            y.deviations,
            y.weights,
            terms=terms,
            coupling=coupling,
        )

    def row_means_and_norm(self, transport: Bound) -> tuple[Bound, Bound, Any]:
        """Return theorems 1 and 3, and how far GW_2² can lie above the latter; ``transport`` is :meth:`additive_transport`."""
        squares = (
            on_cpu(self.x.moments.residual_norm_squared),
            on_cpu(self.y.moments.residual_norm_squared),
        )
        norms = squares[0] ** 0.5, squares[1] ** 0.5
        return float_error.additive_bounds(
            self.mean_gap, transport, norms, self.x.radii, self.y.radii
        )

    def float_error_above(self, lower: Any) -> Any:
        """Return the width that float errors of the values account for above a lower bound (theorem 13 h)."""
        operations = larger(self.x.operations, self.y.operations)
        return float_error.interval_width(
            lower, self.largest, operations, self.x.radii, self.y.radii
        )

    def missed_mass(self, row_sums: Array, col_sums: Array, terms: Any) -> Any:
        """Bound the mass between a plan with these marginals, sums of at most so many terms, and the nearest coupling."""
        rows, cols = (
            on_cpu(
                _array.namespace(sums).sum(abs(sums - side.moments.weights), axis=-1)
            )
            for sums, side in ((row_sums, self.x), (col_sums, self.y))
        )
        return float_error.missed_mass(rows, cols, terms, self.x.radii, self.y.radii)

    def squares_upper(self, value: Any, atoms: Any, missed: Any) -> Any:
        """Round up an objective that was summed over pairs of a plan's atoms, for the nearest coupling (theorem 13 g)."""
        return float_error.squares_upper(
            value, atoms, missed, self.largest, self.x.radii, self.y.radii
        )

    def parts_upper(self, value: Any, terms: Any, missed: Any) -> Any:
        """Round up an objective that was computed from m, α and R, for the nearest coupling (theorem 13 g)."""
        x, y = self.x, self.y
        parts = x.radii, y.radii, x.extent, y.extent
        return float_error.parts_upper(
            value, terms, missed, self.mean_gap, self.largest, *parts
        )


def on_cpu(values: Array) -> Any:
    """Return one number as a float, and those of a stack as a NumPy array."""
    return _array.number(values) if values.ndim == 0 else _array.to_numpy(values)
