"""Rejects invalid spaces: matrices that are not square and symmetric, weights that are no probabilities."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

from gwtools import _array, _check, _words
from gwtools._array import Array


def space(value: Any, name: str) -> None:
    """Require an array where a value is no space."""
    if not _array.is_array(value):
        raise TypeError(
            f"{name} must be a gwtools space or a square array, but is {_words.shown(value)}: {_words.to_space(value, name)}."
        )


def readable(arrays: Sequence[Any], name: str) -> None:
    """Require spaces outside of ``torch.func.grad``, for what reads their numbers on the way."""
    if any(_array.is_array(array) and _array.is_wrapped(array) for array in arrays):
        raise TypeError(
            f"{name} must be outside of torch.func.grad for solvers and certificates, but is within it: "
            "call .backward() or torch.autograd.grad, or use gwtools.bounds, which torch.func.grad passes."
        )


def square(matrix: Array, name: str) -> None:
    """Require as many columns as rows."""
    n, m = matrix.shape
    if n != m:
        raise ValueError(
            f"{name} must be a square matrix, but has shape {(n, m)}: pass the values of all pairs, "
            "or gwtools.PointCloud for coordinates."
        )


def symmetric(skew: float, largest: float, epsilon: float, name: str) -> None:
    """Require a matrix that is symmetric up to float error (THEORY.md, theorem 14).

    ``skew`` and ``largest`` are its max |C_ik − C_ki| and max |C_ik|, ``epsilon`` the
    spacing of 1.0 in its dtype.
    """
    if skew > 128 * epsilon * largest:
        raise ValueError(
            f"{name} must be symmetric, but differs from its transpose by up to {skew:.3g}: "
            "pass (C + C.T) / 2 if that is what you mean."
        )


def in_range(largest: float, most: float, like: Array) -> None:
    """Require values of C whose squared differences are numbers of the dtype."""
    if not largest <= most:
        received, limit = _words.distinguishable(largest, most)
        raise ValueError(
            f"values of C must be at most {limit} in absolute value, the range in which squared differences are numbers of "
            f"{like.dtype}, but reach {received}: divide both spaces by one number."
        )


def one_row(rows: int | None, space: object, name: str) -> None:
    """Require a factor of one row; ``rows`` is None where the space has no factor."""
    if rows != 1:
        received = f"is {space!r}" if rows is None else f"has a factor of {rows} rows"
        raise ValueError(
            f"{name} must be a gwtools.GramSpace with a factor of one row, but {received}: "
            "use gwtools.bounds.spectral, which takes any space."
        )


def weights(value: Any, data: Array, size: int, name: str = "weights") -> Array:
    """Return probability weights that match ``data``: uniform for None, else checked and divided by their sum.

    Equal weights are those for None, whatever their computed sum is; weights in a
    gradient graph are always divided.
    """
    xp = _array.namespace(data)
    if value is None:
        return _uniform(data, size)
    if _array.is_array(value):
        _check.same_library(value, data, name, "the space's values")
    value = _check.array(value, name, 1)
    _check.same_kind(value, data, name, "the space's values")
    if value.shape[0] != size:
        raise ValueError(
            f"{name} must have one entry for each of the {size} atoms, but has {value.shape[0]}: "
            f"pass an array of shape ({size},)."
        )
    if bool(xp.any(value < 0)):
        raise ValueError(
            f"{name} must be non-negative, but the smallest is {float(xp.min(value)):.3g}: clip or remove those atoms."
        )
    wide = _array.at_least_single(value)
    total = _array.exact_sum(wide)
    if total <= 0.0:
        raise ValueError(
            f"{name} must have positive mass, but sum to zero: give some atom a positive weight."
        )
    if abs(total - 1.0) > math.sqrt(_array.epsilon(value)):
        received, _ = _words.distinguishable(total, 1.0, 6)
        raise ValueError(
            f"{name} must sum to 1, but sum to {received}: divide them by their sum if that is what you mean."
        )
    if not _array.tracked(value) and _array.all_equal(value):
        return _uniform(data, size)
    return value if total == 1.0 else xp.astype(_array.normalised(wide), value.dtype)


def _uniform(data: Array, size: int) -> Array:
    return _array.namespace(data).full(
        (size,), 1.0 / size, dtype=data.dtype, device=_array.device(data)
    )


def columns_are_atoms(factor: Array, given: Any) -> None:
    """Warn of a factor with more rows than columns, unless weights say which are the atoms; refuse weights of the rows.

    Four calls below the user's line, so that the warning points there.
    """
    rows, columns = factor.shape
    if rows <= columns:
        return
    if given is None:
        warnings.warn(
            f"factor has {rows} rows and {columns} columns, and each column is an atom: pass factor.T where rows are the "
            "atoms, or weights, one for each column, to say that columns are.",
            stacklevel=4,
        )
    elif _array.is_array(given) and tuple(given.shape) == (rows,):
        raise ValueError(
            f"weights must have one entry for each of the {columns} columns of factor, but has one for each of the {rows} "
            "rows: pass factor.T where rows are the atoms."
        )


def stored_values(space: Any, kinds: tuple[type, ...], name: str) -> None:
    """Require a space of a kind whose matrix is known to depend on its stored values in one of a few ways."""
    if not isinstance(space, kinds):
        known = ", ".join(kind.__name__ for kind in kinds)
        raise TypeError(
            f"{name} must be of a kind whose C is known by its stored values ({known}), but is {_words.shown(space)}: "
            f"pass gwtools.DenseSpace({name}.dense(), {name}.weights), whose stored values are those of C."
        )


def same_weights(first: Array, second: Array, name: str, other: str) -> None:
    """Require one size and, up to float error, one list of weights."""
    if first.shape != second.shape:
        raise ValueError(
            f"{name} must have the atoms of {other}, but they have {second.shape[0]} and {first.shape[0]}: "
            "pass two spaces over the same atoms."
        )
    difference = _array.number(
        _array.namespace(first).max(_array.namespace(first).abs(first - second))
    )
    if difference > 128 * _array.epsilon(first):
        raise ValueError(
            f"{name} must have the weights of {other}, but they differ by up to {difference:.3g}: "
            "pass two spaces over the same atoms, with equal weights."
        )
