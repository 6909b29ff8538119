"""Matchings and isometries: plans whose objective has no float error of their masses.

A matching pairs atoms of equal weights. With the stored weights as its masses it is a
coupling of the exactly normalised weights; where the pairs have equal values, too, it
is an isometry, and its objective is exactly 0.
"""

from __future__ import annotations

from dataclasses import replace

from gwtools import _array
from gwtools._array import Array
from gwtools.plans import Plan, SparsePlan
from gwtools.spaces import GramSpace, PointCloud, Space


def matching_of(
    plan: Plan,
    x: Space,
    y: Space,
) -> SparsePlan | None:
    """Return the matching that a plan is up to the float error of its masses, if any.

    Its masses are the stored weights.
    """
    if x.size != y.size or not isinstance(plan, SparsePlan):
        return None
    if plan.mass.shape[0] != x.size:
        return None
    xp = _array.namespace(plan.mass)
    atoms = xp.arange(x.size, device=_array.device(plan.rows))
    if not _is_permutation(plan.rows, atoms):
        return None
    if not _is_permutation(plan.cols, atoms):
        return None
    mass = xp.take(x.weights, plan.rows)
    other_mass = xp.take(y.weights, plan.cols)
    if not _all_equal(mass, other_mass):
        return None
    return replace(plan, mass=mass)


def has_same_masses(plan: Plan, matching: SparsePlan) -> bool:
    """Tell whether a plan's masses are the stored weights, without float error."""
    return _all_equal(plan.masses, matching.mass)


def is_isometry(
    x: Space,
    y: Space,
    matching: SparsePlan,
    value: float,
) -> bool:
    """Tell whether a matching surely pairs equal values: its objective is exactly 0.

    ``value`` is the objective as computed.
    """
    if x.float_operations == 0 and y.float_operations == 0:
        # Equal stored entries have the objective 0 as computed: there is nothing to
        # compare where it is not.
        return value == 0.0 and _pairs_equal_rows(x, y, matching)
    # Entries that are computed have float errors, so the stored values are compared,
    # where equal ones are certain to mean equal entries.
    if type(x) is not type(y) or not isinstance(x, PointCloud | GramSpace):
        return False
    if x.kind != y.kind:
        return False
    first = x.restrict(matching.rows)
    second = y.restrict(matching.cols)
    return _all_equal(first.data, second.data)


def _is_permutation(index: Array, atoms: Array) -> bool:
    xp = _array.namespace(index)
    return _all_equal(xp.sort(index), atoms)


def _pairs_equal_rows(
    x: Space,
    y: Space,
    matching: SparsePlan,
) -> bool:
    # By blocks, as the whole matrices may not fit beside the stored ones.
    for start, stop in x.blocks():
        first = x.rows_at(matching.rows, start, stop)
        second = y.rows_at(matching.cols, start, stop)
        if not _all_equal(first, second):
            return False
    return True


def _all_equal(first: Array, second: Array) -> bool:
    # Points of other dimensions differ, even where they could be broadcast.
    if first.shape != second.shape:
        return False
    xp = _array.namespace(first)
    return bool(xp.all(first == second))
