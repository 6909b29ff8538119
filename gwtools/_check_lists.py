"""Rejects what no barycenter or embedding of many spaces can be made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

from gwtools import _array, _check, _words
from gwtools._array import Array


def not_empty(spaces: Sequence[Any], name: str) -> None:
    """Require at least one space."""
    if not spaces:
        raise ValueError(
            f"{name} must hold at least one space, but is empty: "
            "no array library and no number of atoms is known then."
        )


def shares(values: Any, count: int, name: str = "weights") -> tuple[float, ...]:
    """Return the shares of ``count`` spaces in their mean; equal ones for None.

    They must be finite, non-negative and of sum 1, by which they are divided.
    """
    if values is None:
        return (1.0 / count,) * count
    numbers = _numbers(values, name)
    if len(numbers) != count:
        raise ValueError(
            f"{name} must have one entry for each of the {count} spaces, "
            f"but has {len(numbers)}: pass one share for every space."
        )
    least = min(numbers)
    # Not least < 0: NaN must be refused as well.
    if not (least >= 0.0 and math.isfinite(max(numbers))):
        raise ValueError(
            f"{name} must be finite and non-negative, but the smallest is {least:.3g} "
            f"and the largest {max(numbers):.3g}: leave such spaces out."
        )
    total = math.fsum(numbers)
    if not abs(total - 1.0) <= 1e-6:
        received, _ = _words.distinguishable(total, 1.0, 6)
        raise ValueError(
            f"{name} must sum to 1, but sum to {received}: "
            "divide them by their sum if that is what you mean."
        )
    return tuple(number / total for number in numbers)


def _numbers(values: Any, name: str) -> list[float]:
    """Read a list of numbers, or an array of one axis."""
    if _array.is_array(values) and values.ndim == 1:
        return [float(number) for number in _array.to_numpy(values)]
    is_list = isinstance(values, Sequence) and not isinstance(values, str | bytes)
    if not is_list or not all(isinstance(number, Real) for number in values):
        received = _words.shown(values)
        raise TypeError(
            f"{name} must be a list of numbers, one for each space, "
            f"but is {received}: pass numbers such as [0.5, 0.5]."
        )
    return [_check.as_float(number) for number in values]


def positive_weights(weights: Array, name: str) -> None:
    """Require weights above 0: values of atoms without mass are not determined."""
    if not _array.all_positive(weights):
        raise ValueError(
            f"{name} must be greater than 0, but some are 0: "
            "leave those atoms out, as nothing determines their distances."
        )


def one_size(size: int | None, count: int, name: str) -> None:
    """Require that a number of atoms is that of another argument, called ``name``."""
    if size is not None and size != count:
        raise ValueError(
            f"size must be the number of atoms of {name}, "
            f"but they are {size} and {count}: leave size out."
        )


def takes_matrices(solver: Any, kind: type) -> None:
    """Refuse a solver, of class ``kind``, for clouds and Gram spaces alone."""
    if isinstance(solver, kind):
        raise TypeError(
            "solver must be one for matrices, as a barycenter is one, "
            f"but is {solver}: pass gwtools.MultiStart()."
        )
