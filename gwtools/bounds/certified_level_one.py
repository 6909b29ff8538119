"""Certified lower bounds of GW_2² from nested transport programs (theorem 15)."""

from __future__ import annotations

import math

import numpy as np

from gwtools.bounds.certified import EnclosedParts, lower_by_root
from gwtools.bounds.float_error import Bound, gamma
from gwtools.bounds.level_one import bound_of
from gwtools.bounds.nested_programs import Multipliers, NestedBound, in_range


def reformulation(
    x: EnclosedParts,
    y: EnclosedParts,
    multipliers: Multipliers,
    deadline: float = math.inf,
) -> tuple[Bound, NestedBound | None]:
    """Theorem 15 for any multipliers, proved by the potentials of all programs.

    After ``deadline`` no further inner program is solved exactly.

    Parameters
    ----------
    x, y : EnclosedParts
        The spaces.
    multipliers : Multipliers
        Any, without a tensor.

    Returns
    -------
    Bound
        The value, and what is proved; minus infinity where tiny weights take the
        multipliers out of the range of floats.
    NestedBound or None
        The programs' potentials and plans, with which the proof can be repeated.
    """
    if not in_range(multipliers):
        return Bound(-np.inf, -np.inf), None
    omega = float(max(x.radii.weights, y.radii.weights))
    nested = bound_of(
        x.parts,
        y.parts,
        omega,
        multipliers,
        deadline=deadline,
    )
    mean_gap = x.parts.mean - y.parts.mean
    offset = mean_gap**2
    size = offset + abs(nested.lower)
    proved = offset * (1 - gamma(8)) + nested.lower
    # The sum of both has one more float error.
    proved = proved - gamma(2) * size
    # From the stored parts to the exact ones.
    radius = x.radii.root_radius() + y.radii.root_radius()
    lower = lower_by_root(proved, radius)
    return Bound(offset + nested.value, lower), nested
