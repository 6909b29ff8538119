"""Memory of bounds and certificates: how many numbers each of them holds at once."""

from __future__ import annotations

from typing import Any

from gwtools import _array, _memory
from gwtools.plans import Plan, SparsePlan
from gwtools.spaces import Space, numbers_at_atoms, numbers_in_blocks

# Numbers held at once by bounds that sort or couple all pairs, for each of the n² + m²
# pairs.
HELD_BY_PAIRS = 15.0


def require_memory(
    x: Space,
    y: Space,
    name: str,
    numbers: float | None = None,
) -> None:
    """Refuse spaces of too many pairs, before anything is computed of them."""
    if numbers is None:
        # By default the bound is one of those that sort or couple all pairs.
        numbers = _numbers_for_pairs(x, y)
    _memory.require(
        numbers,
        (x.size, y.size),
        f"gwtools.bounds.{name}",
        x.weights,
    )


def require_memory_of_certificate(
    x: Space,
    y: Space,
    plan: Any,
    effort: str,
    limit: float | None,
) -> None:
    """Refuse a certificate that holds more than fits.

    It is refused before anything is computed of the spaces and the plan.
    """
    # The estimates below cost more time than a certificate of few atoms.
    if limit is None and _memory.atoms_surely_fit(x.size, y.size):
        return
    for_bounds = numbers_held(x, y, effort)
    for_plan = numbers_held_by(plan, x, y)
    numbers = max(for_bounds, for_plan)
    _memory.require(
        numbers,
        (x.size, y.size),
        f"effort={effort!r}",
        x.weights,
        limit,
    )


def numbers_held(x: Space, y: Space, effort: str) -> float:
    """Estimate from above how many numbers a certificate holds at once.

    Those of the spaces and of a plan are not counted.
    """
    if effort == "linear":
        return 0.0
    return _numbers_for_pairs(x, y)


def _numbers_for_pairs(x: Space, y: Space) -> float:
    pairs = x.size**2 + y.size**2
    return HELD_BY_PAIRS * pairs


def numbers_held_by(plan: Any, x: Space, y: Space) -> float:
    """Return about how many numbers the objective of a plan holds in a certificate."""
    if plan is None:
        # One pass over the rows of both spaces.
        return numbers_in_blocks(x, y)
    if not _is_dense(plan, x.size + y.size):
        return numbers_at_atoms(x, y)
    # R and S, and about six n × m arrays of the plan and of its products with them.
    copies = x.numbers_copied + y.numbers_copied
    return copies + x.numbers_held + y.numbers_held + 6.0 * x.size * y.size


def _is_dense(plan: Any, fewest: int) -> bool:
    """Tell whether a plan is a matrix of at least ``fewest`` positive masses.

    With fewer of them it is read as a list of atoms.
    """
    if isinstance(plan, SparsePlan):
        return False
    if isinstance(plan, Plan):
        matrix = plan.dense()
    elif _array.is_array(plan):
        matrix = plan
    else:
        return False
    xp = _array.namespace(matrix)
    masses = xp.count_nonzero(matrix)
    return int(masses) >= fewest
