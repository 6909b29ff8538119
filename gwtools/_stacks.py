"""Stacks of problems: the same functions compute on one problem and on many.

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
    if not is_stack(like):
        return float(value)
    xp = _array.namespace(like)
    return xp.full_like(like, value)


def expanded(numbers: Numbers, axes: int) -> Numbers:
    """Append axes to numbers of a stack, to compute with its vectors or matrices."""
    if not is_stack(numbers):
        return numbers
    new_axes = [None] * axes
    return numbers[(..., *new_axes)]  # (B, 1, …)


def larger(first: Any, second: Numbers) -> Any:
    """Return the larger ones of numbers, or of arrays and numbers."""
    if not is_stack(first):
        return max(first, second)
    xp = _array.namespace(first)
    if is_stack(second):
        return xp.maximum(first, second)
    # Not every library compares an array with a number by ``maximum``.
    return xp.clip(first, min=second)


def is_finite(numbers: Numbers) -> Mask:
    """Tell which numbers are finite."""
    if not is_stack(numbers):
        return math.isfinite(numbers)
    xp = _array.namespace(numbers)
    return xp.isfinite(numbers)


def some(mask: Mask) -> bool:
    """Tell whether a mask holds for any problem."""
    if not is_stack(mask):
        return bool(mask)
    xp = _array.namespace(mask)
    return bool(xp.any(mask))


def opposite(mask: Mask) -> Mask:
    """Return the mask of all other problems."""
    return ~mask if is_stack(mask) else not mask


def from_left(vector: Array, matrix: Array) -> Array:
    """Return products of vectors (…, n) with matrices (…, n, m), compressed or not."""
    if vector.ndim == 1:
        return vector @ matrix
    products = vector[..., None, :] @ matrix  # (…, 1, m)
    return products[..., 0, :]


def dot(first: Array, second: Array) -> Numbers:
    """Return the inner product of two vectors (…, n)."""
    if first.ndim == 1:
        return float(first @ second)
    # Numbers of a stack stay on their device.
    xp = _array.namespace(first)
    return xp.vecdot(first, second)


def at_atoms(
    weights: Array,
    values: Array,
    otherwise: float,
) -> Array:
    """Return values (…, n) of atoms, and a constant at the padding of a stack.

    Atoms of weight 0 are its padding.
    """
    if weights.ndim == 1:
        return values
    xp = _array.namespace(values)
    return xp.where(weights > 0, values, otherwise)


def at_pairs(
    a: Array,
    b: Array,
    values: Array,
    otherwise: float,
) -> Array:
    """Return values (…, n, m) of pairs of atoms, and a constant at the padding.

    Atoms of weight 0 are the padding of a stack.
    """
    if a.ndim == 1:
        return values
    in_x = (a > 0)[..., :, None]  # (…, n, 1)
    in_y = (b > 0)[..., None, :]  # (…, 1, m)
    xp = _array.namespace(values)
    return xp.where(in_x & in_y, values, otherwise)


def chosen(
    mask: Mask,
    first: T,
    second: T,
) -> T:
    """Return the problems of ``first`` where a mask holds, else those of ``second``.

    Both are numbers, arrays or named tuples of these.
    """
    if not is_stack(mask):
        return first if mask else second
    if not isinstance(first, tuple):
        # One of them may be the same number for all problems.
        array = cast(Array, first if hasattr(first, "ndim") else second)
        condition = expanded(mask, array.ndim - 1)  # (B, 1, …)
        xp = _array.namespace(mask)
        return cast(T, xp.where(condition, first, second))
    # Where all problems come from one side, nothing is copied.
    here, others = split(mask)
    if not here:
        return second
    if not others:
        return first
    parts = []
    for part, other_part in zip(first, cast(Any, second), strict=True):
        parts.append(chosen(mask, part, other_part))
    return cast(T, type(first)(*parts))


def replaced(mask: Mask, values: T, function: Callable[..., T], *others: Any) -> T:
    """Return ``function(values, *others)`` of the problems where a mask holds.

    Of all other problems, return the values.
    """
    if not is_stack(mask):
        return function(values, *others) if mask else values
    here, rest = split(mask)
    if not here:
        return values
    if not rest:
        return function(values, *others)
    values_here = at(values, here)
    others_here = [at(other, here) for other in others]
    changed = function(values_here, *others_here)
    unchanged = at(values, rest)
    return together([changed, unchanged], [*here, *rest])


def repeated(
    step: Callable[[T], T],
    is_done: Callable[[T], Mask],
    values: T,
    result: Callable[[T], R],
    most: int,
) -> tuple[R, list[int]]:
    """Repeat a step until it is done; problems of a stack that are done leave it.

    Parameters
    ----------
    step : callable
        Returns the next values.
    is_done : callable
        Tells from the values which problems are done.
    values : array, named tuple or dataclass
        What the first step starts from.
    result : callable
        Returns what to keep of the last values of problems.
    most : int
        How many steps each problem may take.

    Returns
    -------
    (R, list of int)
        The result of what the last step of each problem left, and how many steps each
        took.
    """
    done = is_done(values)
    if is_stack(done):
        return _repeated_in_stack(step, is_done, values, done, result, most)
    steps = 0
    while not done and steps < most:
        values = step(values)
        steps += 1
        done = is_done(values)
    return result(values), [steps]


def _repeated_in_stack(
    step: Callable[[T], T],
    is_done: Callable[[T], Mask],
    values: T,
    done: Mask,
    result: Callable[[T], R],
    most: int,
) -> tuple[R, list[int]]:
    """Repeat a step for a stack of problems, as :func:`repeated`."""
    running = list(range(done.shape[0]))  # positions of the problems in the stack
    results: list[R] = []
    steps_of_problem: dict[int, int] = {}  # in the order in which problems leave
    for steps in range(most + 1):
        leaving, going = split(done | (steps == most))
        # 1. Problems that are done leave: the others cost them nothing.
        if leaving:
            results.append(at(result(values), leaving))
            for i in leaving:
                steps_of_problem[running[i]] = steps
            if not going:
                break
            running = [running[i] for i in going]
            values = at(values, going)
        # 2. The others take a step.
        values = step(values)
        done = is_done(values)
    # 3. Results and steps, joined as problems left, get the order of the problems.
    positions = list(steps_of_problem)
    steps_in_order = [steps_of_problem[i] for i in sorted(positions)]
    return together(results, positions), steps_in_order


def split(mask: Array) -> tuple[list[int], list[int]]:
    """Return the positions where a mask (B,) holds, and the others.

    The mask crosses to the CPU once.
    """
    here = _array.to_numpy(mask)
    holds = np.nonzero(here)[0]
    fails = np.nonzero(~here)[0]
    return holds.tolist(), fails.tolist()


def taken(values: Array, positions: Sequence[int]) -> Array:
    """Return the problems at the given positions of a (B, …) array."""
    index = np.asarray(positions, dtype=np.int64)
    index = _array.from_numpy(index, values)
    xp = _array.namespace(values)
    return xp.take(values, index, axis=0)


def at(values: T, positions: Sequence[int]) -> T:
    """Return the problems at the given positions of (B, …) arrays.

    ``values`` is an array, or a named tuple or a dataclass of such values.
    """
    if isinstance(values, tuple):
        parts = [at(part, positions) for part in values]
        return cast(T, type(values)(*parts))
    if is_dataclass(values) and not isinstance(values, type):
        # From its fields alone: what it has cached is of all problems.
        parts = []
        for field in fields(values):
            part = getattr(values, field.name)
            parts.append(at(part, positions))
        return cast(T, type(values)(*parts))
    return cast(T, taken(values, positions))


def together(parts: Sequence[T], positions: Sequence[int]) -> T:
    """Join arrays, or named tuples of them, in the order of the problems.

    The problems of all parts, one after the other, stand at the given positions.
    """
    if not isinstance(parts[0], tuple):
        return cast(T, in_order(parts, positions))
    named_tuples = cast(Sequence[Sequence[Array]], parts)
    joined = []
    for parts_of_field in zip(*named_tuples, strict=True):
        joined.append(together(parts_of_field, positions))
    return cast(T, type(parts[0])(*joined))


def in_order(parts: Sequence[Array], positions: Sequence[int]) -> Array:
    """Join parts of a (B, …) array in the order of the problems.

    The problems of all parts, one after the other, stand at the given positions.
    """
    joined = parts[0]
    if len(parts) > 1:
        xp = _array.namespace(joined)
        joined = xp.concat(list(parts))
    # Mostly they are in order already: nothing is copied.
    places = range(len(positions))
    if list(positions) == list(places):
        return joined
    order = sorted(places, key=positions.__getitem__)
    return taken(joined, order)
