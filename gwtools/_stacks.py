"""Stacks of problems: helpers that compute alike on arrays of one problem and on arrays with a leading axis of problems.

Of one problem, arrays have the shapes (n,) and (n, m), numbers are floats and truth
values are bools. Of a stack of B problems, arrays have one more axis in front, and
numbers and truth values are arrays (B,). Problems leave a stack when they are done:
which ones these are is all that crosses to the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np

from gwtools import _array
from gwtools._array import Array

Numbers: TypeAlias = Any  # a float, or an array (B,)
Mask: TypeAlias = Any  # a bool, or an array (B,)
T = TypeVar("T")
R = TypeVar("R")


def is_stack(numbers: Numbers | Mask) -> bool:
    """Tell whether numbers or truth values are those of a stack."""
    return getattr(numbers, "ndim", 0) > 0


def numbers(values: Array) -> Numbers:
    """Read a 0-d array as a float; keep an array (B,) on its device."""
    return values if values.ndim else float(values)


def filled(like: Numbers, value: float) -> Numbers:
    """Return the same number for every problem."""
    return (
        _array.namespace(like).full_like(like, value)
        if is_stack(like)
        else float(value)
    )


def expanded(numbers: Numbers, axes: int) -> Numbers:
    """Give numbers of a stack so many axes more, to compute with vectors or matrices."""
    return numbers[(..., *[None] * axes)] if is_stack(numbers) else numbers


def larger(first: Any, second: Numbers) -> Any:
    """Return the larger ones of numbers, or of arrays and numbers."""
    if not is_stack(first):
        return max(first, second)
    xp = _array.namespace(first)
    return xp.maximum(first, second) if is_stack(second) else xp.clip(first, min=second)


def is_finite(numbers: Numbers) -> Mask:
    """Tell which numbers are finite."""
    return (
        _array.namespace(numbers).isfinite(numbers)
        if is_stack(numbers)
        else math.isfinite(numbers)
    )


def some(mask: Mask) -> bool:
    """Tell whether a mask holds for any problem."""
    return bool(_array.namespace(mask).any(mask)) if is_stack(mask) else bool(mask)


def opposite(mask: Mask) -> Mask:
    """Return the mask of all other problems."""
    return ~mask if is_stack(mask) else not mask


def from_left(vector: Array, matrix: Array) -> Array:
    """Return the product of a vector (…, n) with a matrix (…, n, m), compressed or not."""
    return (
        vector @ matrix
        if vector.ndim == 1
        else (vector[..., None, :] @ matrix)[..., 0, :]
    )


def dot(first: Array, second: Array) -> Numbers:
    """Return the inner product of two vectors (…, n)."""
    return (
        float(first @ second)
        if first.ndim == 1
        else _array.namespace(first).vecdot(first, second)
    )


def at_atoms(weights: Array, values: Array, otherwise: float) -> Array:
    """Return values (…, n) of atoms, and a constant at the padding of a stack, whose weights are 0."""
    return (
        values
        if weights.ndim == 1
        else _array.namespace(values).where(weights > 0, values, otherwise)
    )


def at_pairs(a: Array, b: Array, values: Array, otherwise: float) -> Array:
    """Return values (…, n, m) of pairs of atoms, and a constant at the padding of a stack, whose weights are 0."""
    if a.ndim == 1:
        return values
    here = (a > 0)[..., :, None] & (b > 0)[..., None, :]
    return _array.namespace(values).where(here, values, otherwise)


def chosen(mask: Mask, first: T, second: T) -> T:
    """Return the problems of ``first`` where a mask holds, those of ``second`` elsewhere: numbers, arrays or named tuples."""
    if not is_stack(mask):
        return first if mask else second
    if not isinstance(first, tuple):
        values = cast(Array, first if hasattr(first, "ndim") else second)
        return cast(
            T,
            _array.namespace(mask).where(
                expanded(mask, values.ndim - 1), first, second
            ),
        )
    here, others = split(mask)
    if not here or not others:
        return first if here else second
    pairs = zip(first, cast(Any, second), strict=True)
    return cast(T, type(first)(*(chosen(mask, one, other) for one, other in pairs)))


def replaced(mask: Mask, values: T, function: Callable[..., T], *others: Any) -> T:
    """Return ``values``, but ``function(values, *others)`` of the problems where a mask holds."""
    if not is_stack(mask):
        return function(values, *others) if mask else values
    here, rest = split(mask)
    if not here:
        return values
    if not rest:
        return function(values, *others)
    changed = function(at(values, here), *(at(other, here) for other in others))
    return together([changed, at(values, rest)], [*here, *rest])


def repeated(
    step: Callable[[T], T],
    is_done: Callable[[T], Mask],
    values: T,
    result: Callable[[T], R],
    most: int,
) -> tuple[R, list[int]]:
    """Repeat a step until it is done, at most ``most`` times; problems of a stack that are done leave it.

    Returns
    -------
    (R, list of int)
        The result of what the last step of each problem left, and how many steps each
        took.
    """
    parts: list[R] = []
    left: list[tuple[int, int]] = []  # positions of problems that left, and their steps
    running: list[int] | None = None
    for steps in range(most + 1):
        done = is_done(values)
        if is_stack(done):
            leaving, going = split(done | (steps == most))
            running = running or [*range(len(leaving) + len(going))]
            if leaving:
                parts.append(at(result(values), leaving))
                left += [(running[i], steps) for i in leaving]
                if not going:
                    break
                running, values = [running[i] for i in going], at(values, going)
        elif done or steps == most:
            return result(values), [steps]
        values = step(values)
    return together(parts, [position for position, _ in left]), [
        steps for _, steps in sorted(left)
    ]


def split(mask: Array) -> tuple[list[int], list[int]]:
    """Return the positions where a mask (B,) holds, and the others: one crossing to the CPU for all problems."""
    here = _array.to_numpy(mask)
    return np.nonzero(here)[0].tolist(), np.nonzero(~here)[0].tolist()


def taken(values: Array, positions: Sequence[int]) -> Array:
    """Return the problems at the given positions of a (B, …) array."""
    index = _array.from_numpy(np.asarray(positions, dtype=np.int64), values)
    return _array.namespace(values).take(values, index, axis=0)


def at(values: T, positions: Sequence[int]) -> T:
    """Return the problems at the given positions of (B, …) arrays, and of named tuples or dataclasses of them."""
    if isinstance(values, tuple):
        return cast(T, type(values)(*[at(part, positions) for part in values]))
    if is_dataclass(values) and not isinstance(values, type):
        return cast(
            T,
            type(values)(
                *[
                    at(getattr(values, field.name), positions)
                    for field in fields(values)
                ]
            ),
        )
    return cast(T, taken(values, positions))


def together(parts: Sequence[T], positions: Sequence[int]) -> T:
    """Join arrays, or named tuples of them, whose problems stand at the given positions, in the order of the problems."""
    if not isinstance(parts[0], tuple):
        return cast(T, in_order(parts, positions))
    pairs = zip(*cast(Sequence[Sequence[Array]], parts), strict=True)
    return cast(T, type(parts[0])(*(together(part, positions) for part in pairs)))


def in_order(parts: Sequence[Array], positions: Sequence[int]) -> Array:
    """Join parts of a (B, …) array, whose problems stand at the given positions, in the order of the problems."""
    joined = (
        parts[0] if len(parts) == 1 else _array.namespace(parts[0]).concat(list(parts))
    )
    if list(positions) == list(range(len(positions))):
        return joined
    return taken(joined, sorted(range(len(positions)), key=positions.__getitem__))
