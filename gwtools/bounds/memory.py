"""The memory that bounds and certificates need: about how many numbers each holds, refused where they do not fit."""

from __future__ import annotations

from typing import Any

from gwtools import _array, _memory
from gwtools.plans import Plan, SparsePlan
from gwtools.spaces import Space, numbers_at_atoms, numbers_in_blocks

# Numbers held at once by bounds that sort or couple all pairs, for each of the n² + m²
# pairs.
HELD_BY_PAIRS = 15.0


def require_memory(x: Space, y: Space, name: str, numbers: float | None = None) -> None:
    """Refuse spaces of too many pairs, before anything is computed of them."""
    numbers = HELD_BY_PAIRS * (x.size**2 + y.size**2) if numbers is None else numbers
    _memory.require(numbers, (x.size, y.size), f"gwtools.bounds.{name}", x.weights)


def require_memory_of_certificate(
    x: Space, y: Space, plan: Any, effort: str, limit: float | None
) -> None:
    """Refuse a certificate that holds more than fits, before anything is computed of the spaces and the plan."""
    if limit is None and _memory.atoms_surely_fit(x.size, y.size):
        return
    numbers = max(numbers_held(x, y, effort), numbers_held_by(plan, x, y))
    _memory.require(numbers, (x.size, y.size), f"effort={effort!r}", x.weights, limit)


def numbers_held(x: Space, y: Space, effort: str) -> float:
    """Estimate from above how many numbers a certificate holds at once, beside the spaces and a plan."""
    return 0.0 if effort == "linear" else HELD_BY_PAIRS * (x.size**2 + y.size**2)


def numbers_held_by(plan: Any, x: Space, y: Space) -> float:
    """Return about how many numbers a linear certificate of a plan holds: those of R, S and n × m arrays if it is dense."""
    if plan is None:
        return numbers_in_blocks(x, y)
    if not _is_dense(plan, x.size + y.size):
        return numbers_at_atoms(x, y)
    return (
        x.numbers_copied
        + y.numbers_copied
        + x.numbers_held
        + y.numbers_held
        + 6.0 * x.size * y.size
    )


def _is_dense(plan: Any, most: int) -> bool:
    """Tell whether a plan has at least ``most`` positive masses in a matrix; with fewer it is read as a list of atoms."""
    if isinstance(plan, SparsePlan) or not (
        isinstance(plan, Plan) or _array.is_array(plan)
    ):
        return False
    matrix = plan.dense() if isinstance(plan, Plan) else plan
    return int(_array.namespace(matrix).count_nonzero(matrix)) >= most
