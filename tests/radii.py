"""Radii without a space behind them: generic numbers.

No term of a formula vanishes or drowns in them.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from gwtools.bounds.enclosures import EnclosedPair, Enclosure
from gwtools.bounds.float_error import Extent, Radii
from gwtools.bounds.moments import moments
from gwtools.problems import GWProblem
from gwtools.spaces import Space


def some_radii(seed: int, size: int) -> Radii:
    rng = np.random.default_rng(seed)
    weights, norm_terms = rng.uniform(3, 9), rng.uniform(20, 60)
    row_means, entries, mean, deviations, residual = rng.uniform(1e-3, 3e-3, 5)
    largest, computed = rng.uniform(1, 2, 2)
    return Radii(
        size,
        weights,
        largest,
        computed,
        entries,
        row_means,
        mean,
        deviations,
        residual,
        norm_terms,
    )


def some_extent(seed: int) -> Extent:
    return Extent(*np.random.default_rng(seed).uniform(0.5, 1.5, 3))


def enclosed(
    x: Space, y: Space, of_x: Radii, of_y: Radii, size_x: Extent, size_y: Extent
) -> Any:
    """The problem of two spaces, and their moments.

    Radii and sizes of parts are given.
    """
    left = Enclosure(moments(x), of_x, size_x, x.float_operations)
    return GWProblem(x, y), EnclosedPair(
        left, Enclosure(moments(y), of_y, size_y, y.float_operations)
    )


def stacked(values: Any) -> Any:
    """Make one argument of arrays from those of several calls."""
    first = values[0]
    if isinstance(first, Radii | Extent):
        return type(first)(
            *(
                np.array([getattr(v, field.name) for v in values])
                for field in fields(first)
            )
        )
    if isinstance(first, tuple):
        parts = [stacked(part) for part in zip(*values, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)
    return np.array(values)


def numbers(found: Any, place: int | None = None) -> list[float]:
    """Lay all numbers of a result end to end, or those of one problem of many."""
    if isinstance(found, Radii | Extent):
        return numbers(
            tuple(getattr(found, field.name) for field in fields(found)), place
        )
    if isinstance(found, tuple):
        return [number for part in found for number in numbers(part, place)]
    return [float(found if place is None or np.ndim(found) == 0 else found[place])]
