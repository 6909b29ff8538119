"""Rejects plans that are no couplings: wrong shapes, positions, signs or marginals."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any

from gwtools import _array, _check, _words
from gwtools._array import Array

MOST_MISSED = (
    1e-3  # mass by which a given plan's marginal may differ from the weights, in total
)


def atoms_of_plan(rows: Any, cols: Any, mass: Any, size: Any) -> None:
    """Require a list of masses with their positions in a matrix of shape ``size``."""
    if (
        not isinstance(size, tuple)
        or len(size) != 2
        or not all(isinstance(n, Integral) and int(n) > 0 for n in size)
    ):
        received = repr(size) if isinstance(size, tuple) else _words.shown(size)
        raise TypeError(
            f"size must be a tuple (n, m) of positive integers, but is {received}: pass the plan's shape."
        )
    _check.floating(mass, "mass", 1)
    for value, name, most in ((rows, "rows", size[0]), (cols, "cols", size[1])):
        _check.indices(value, name, most)
        _check.same_library(value, mass, name, "mass")
        if value.shape != mass.shape:
            raise ValueError(
                f"{name} must have one entry for each of the {mass.shape[0]} masses, but has {value.shape[0]}: "
                "pass rows, cols and mass of one length."
            )


def coupling_shape(
    shape: tuple[int, ...], expected: tuple[int, int], name: str = "plan"
) -> None:
    """Require a plan between spaces of the given sizes."""
    if tuple(shape) != expected:
        raise ValueError(
            f"{name} must have shape {expected}, one row for each atom of x and one column for each of y, "
            f"but has {tuple(shape)}: transpose it or pass the spaces in the plan's order."
        )


def marginal(
    sums: Array,
    weights: Array,
    side: str,
    epsilon: float | None = None,
    name: str = "plan",
) -> None:
    """Require that a given plan's marginal ``sums`` are the weights, up to a thousandth of the mass or the dtype's resolution.

    ``epsilon`` is that of the stored weights where they were converted since.
    """
    xp = _array.namespace(weights)
    error = _array.number(xp.sum(xp.abs(sums - weights)))
    most = max(
        MOST_MISSED, math.sqrt(_array.epsilon(weights) if epsilon is None else epsilon)
    )
    if not error <= most:
        missed, limit = _words.distinguishable(error, most)
        raise ValueError(
            f"{name} must have the weights of {side} as its marginal up to {limit} in total, but misses them by {missed}: "
            "pass a coupling of the two spaces' weights, as gwtools.round_plan gives one."
        )


def non_negative(mass: Array, name: str) -> None:
    """Require that a plan carries no negative mass."""
    xp = _array.namespace(mass)
    if bool(xp.any(mass < 0)):
        raise ValueError(
            f"{name} must be non-negative, but its smallest entry is {float(xp.min(mass)):.3g}: clip and rescale it."
        )
