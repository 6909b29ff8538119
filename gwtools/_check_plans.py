"""Rejects plans that are no couplings: wrong shapes, positions, signs or marginals.

Also potentials and multipliers that belong to other spaces.
"""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any

import numpy as np

from gwtools import _array, _check, _words
from gwtools._array import Array

# Mass by which a given plan's marginal may differ from the weights, in total.
MOST_MISSED = 1e-3


def atoms_of_plan(rows: Any, cols: Any, mass: Any, size: Any) -> None:
    """Require a list of masses with their positions in a matrix of shape ``size``."""
    _size(size)
    n, m = size
    _check.floating(mass, "mass", 1)
    _positions(rows, "rows", n, mass)
    _positions(cols, "cols", m, mass)


def _size(size: Any) -> None:
    """Require a shape of a matrix that is not empty."""
    is_pair = isinstance(size, tuple) and len(size) == 2
    if is_pair and _is_positive(size[0]) and _is_positive(size[1]):
        return
    received = repr(size) if isinstance(size, tuple) else _words.shown(size)
    raise TypeError(
        f"size must be a tuple (n, m) of positive integers, but is {received}: "
        "pass the plan's shape."
    )


def _is_positive(value: Any) -> bool:
    return isinstance(value, Integral) and int(value) > 0


def _positions(value: Any, name: str, size: int, mass: Array) -> None:
    """Require one position among ``size`` atoms for each mass."""
    _check.indices(value, name, size)
    _check.same_library(value, mass, name, "mass")
    if value.shape != mass.shape:
        count = mass.shape[0]
        received = value.shape[0]
        raise ValueError(
            f"{name} must have one entry for each of the {count} masses, "
            f"but has {received}: pass rows, cols and mass of one length."
        )


def coupling_shape(
    shape: tuple[int, ...], expected: tuple[int, int], name: str = "plan"
) -> None:
    """Require a plan between spaces of the given sizes."""
    received = tuple(shape)
    if received != expected:
        raise ValueError(
            f"{name} must have shape {expected}, one row for each atom of x and one "
            f"column for each of y, but has {received}: "
            "transpose it or pass the spaces in the plan's order."
        )


def start(value: Any, name: str) -> None:
    """Require two potentials, or a plan and its potentials, by their number alone."""
    if isinstance(value, tuple) and len(value) == 2:
        return
    is_tuple = isinstance(value, tuple)
    received = f"a tuple of {len(value)}" if is_tuple else _words.shown(value)
    raise TypeError(
        f"{name} must hold two potentials (f, g), or a plan and its potentials "
        f"(plan, (f, g)), but is {received}: "
        "pass one array for each space, of one potential an atom."
    )


def potentials_shape(potentials: Array, size: int, side: str, name: str) -> None:
    """Require one potential for each of the ``size`` atoms of a space."""
    received = potentials.shape[0]
    if received != size:
        raise ValueError(
            f"{name} must have one potential for each of the {size} atoms of {side}, "
            f"but has {received}: pass (f, g) in the order of the spaces."
        )


def multipliers(values: Any, shape: tuple[int, ...]) -> None:
    """Require a NumPy array of floating-point numbers, one for each triple of atoms."""
    remedy = "pass what gwtools.bounds.find_multipliers returns for these spaces"
    is_array = isinstance(values, np.ndarray)
    if not is_array or not np.issubdtype(values.dtype, np.floating):
        received = f"numbers of {values.dtype}" if is_array else _words.shown(values)
        raise TypeError(
            "multipliers must be NumPy arrays of floating-point numbers, but hold "
            f"{received}: {remedy}."
        )
    if values.shape != shape:
        raise ValueError(
            f"multipliers must have shape {shape} here, by the atoms that have mass, "
            f"but have {values.shape}: {remedy}."
        )


def finite_multipliers(are_finite: bool) -> None:
    """Refuse multipliers beyond the range of numbers."""
    if not are_finite:
        raise ValueError(
            "multipliers must be finite in the units of the spaces, but some are not: "
            "pass what gwtools.bounds.find_multipliers returns for these spaces."
        )


def finite_scalings(are_finite: bool, epsilon: float) -> None:
    """Require potentials whose quotients by ε are numbers."""
    if not are_finite:
        raise ValueError(
            "init must have potentials f and g such that f/epsilon and g/epsilon are "
            f"numbers, but they overflow at epsilon={epsilon:.3g}: "
            "pass potentials in squared units of C, as a result has them."
        )


def marginal(
    sums: Array,
    weights: Array,
    side: str,
    epsilon: float | None = None,
    name: str = "plan",
) -> None:
    """Require that a plan's marginal ``sums`` are the weights, up to a tolerance.

    It is the larger of ``MOST_MISSED`` and the root of ``epsilon``, the spacing of 1.0
    in the dtype of the weights before they were converted.
    """
    xp = _array.namespace(weights)
    missed_by_atom = xp.abs(sums - weights)
    error = _array.number(xp.sum(missed_by_atom))
    if epsilon is None:
        epsilon = _array.epsilon(weights)
    most = max(MOST_MISSED, math.sqrt(epsilon))
    # Not error > most: NaN must be refused as well.
    if not error <= most:
        missed, limit = _words.distinguishable(error, most)
        raise ValueError(
            f"{name} must have the weights of {side} as its marginal up to {limit} in "
            f"total, but misses them by {missed}: "
            "pass a coupling of the two spaces' weights, as gwtools.round_plan gives "
            "one."
        )


def non_negative(mass: Array, name: str) -> None:
    """Require that a plan carries no negative mass."""
    xp = _array.namespace(mass)
    if bool(xp.any(mass < 0)):
        least = float(xp.min(mass))
        raise ValueError(
            f"{name} must be non-negative, but its smallest entry is {least:.3g}: "
            "clip and rescale it."
        )
