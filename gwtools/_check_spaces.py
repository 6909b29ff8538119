"""Rejects invalid spaces: asymmetric matrices, weights that are no probabilities."""

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
        received = _words.shown(value)
        remedy = _words.to_space(value, name)
        raise TypeError(
            f"{name} must be a gwtools space or a square array, but is {received}: "
            f"{remedy}."
        )


def readable(arrays: Sequence[Any], name: str) -> None:
    """Require spaces outside of ``torch.func.grad``, whose numbers can be read."""
    for array in arrays:
        if _array.is_array(array) and _array.is_wrapped(array):
            raise TypeError(
                f"{name} must be outside of torch.func.grad for solvers and "
                "certificates, but is within it: "
                "call .backward() or torch.autograd.grad, or use gwtools.bounds, which "
                "torch.func.grad passes."
            )


def square(matrix: Array, name: str) -> None:
    """Require as many columns as rows."""
    n, m = matrix.shape[:2]
    if n != m:
        shape = tuple(int(axis) for axis in matrix.shape)
        raise ValueError(
            f"{name} must be a square matrix, but has shape {shape}: "
            "pass the values of all pairs, or gwtools.PointCloud for coordinates."
        )


def symmetric(skew: float, largest: float, epsilon: float, name: str) -> None:
    """Require a matrix that is symmetric up to float error (THEORY.md, theorem 14).

    ``skew`` and ``largest`` are its max |C_ik − C_ki| and max |C_ik|, ``epsilon`` the
    spacing of 1.0 in its dtype.
    """
    if skew > 128 * epsilon * largest:
        raise ValueError(
            f"{name} must be symmetric, "
            f"but differs from its transpose by up to {skew:.3g}: "
            "pass (C + C.T) / 2, or gwtools.DenseSpace(C, directed=True) for values "
            "that have a direction, if that is what you mean."
        )


def matrix_axes(value: Any) -> int:
    """Return how many axes a matrix of numbers or of vectors has, of which it is one.

    Three for vectors; two else, also where it is no array.
    """
    return 3 if getattr(value, "ndim", 2) == 3 else 2


def of_numbers(edge_features: int | None, name: str) -> None:
    """Refuse a space whose values are vectors where C_ik must be a number."""
    if edge_features is not None:
        raise ValueError(
            f"{name} must have one number for each pair of atoms here, but has "
            f"{edge_features} edge features: call gwtools.solve or gwtools.certify, "
            f"which take it, or pass gwtools.DenseSpace({name}.distances[:, :, 0])."
        )


def undirected(directed: bool, name: str) -> None:
    """Refuse a directed space where C must be symmetric."""
    if directed:
        raise ValueError(
            f"{name} must be a space without directions here, but is directed: call "
            "gwtools.solve or gwtools.certify, which take it, or pass "
            f"gwtools.DenseSpace((C + C.T) / 2) with C = {name}.dense()."
        )


def in_range(largest: float, most: float, like: Array) -> None:
    """Require values of C whose squared differences are numbers of the dtype."""
    # Not largest > most: NaN must be refused as well.
    if not largest <= most:
        received, limit = _words.distinguishable(largest, most)
        raise ValueError(
            f"values of C must be at most {limit} in absolute value, the range in "
            f"which squared differences are numbers of {like.dtype}, "
            f"but reach {received}: divide both spaces by one number."
        )


def one_row(
    rows: int | None,
    space: object,
    name: str,
    remedy: str = "use gwtools.bounds.spectral, which takes any space",
) -> None:
    """Require a factor of one row; ``rows`` is None where the space has no factor."""
    if rows != 1:
        received = f"is {space!r}" if rows is None else f"has a factor of {rows} rows"
        raise ValueError(
            f"{name} must be a gwtools.GramSpace with a factor of one row, "
            f"but {received}: {remedy}."
        )


def permutable(x: Any, y: Any) -> None:
    """Require two spaces between which bijections are couplings."""
    if x.size != y.size:
        raise ValueError(
            f"x and y must have equally many atoms, but have {x.size} and {y.size}: "
            "use gwtools.bounds.spectral, which bounds couplings of any weights."
        )
    for space, name in ((x, "x"), (y, "y")):
        a = _array.detached(space.weights)
        xp = _array.namespace(a)
        least = float(xp.min(a))
        largest = float(xp.max(a))
        if largest - least > 128 * _array.epsilon(a) * largest:
            raise ValueError(
                f"{name} must have equal weights, but they are between {least:.3g} and "
                f"{largest:.3g}: use gwtools.bounds.spectral, which bounds couplings "
                "of any weights."
            )


def weights(value: Any, data: Array, size: int, name: str = "weights") -> Array:
    """Return probability weights (size,) that match an array ``data``.

    For None they are uniform. Others are checked and divided by their sum; equal ones
    become those for None, whatever their computed sum is.
    """
    xp = _array.namespace(data)
    if value is None:
        return _uniform(data, size)
    if _array.is_array(value):
        # Before the checks of entries: a tensor on another device may have none.
        _check.same_library(value, data, name, "the space's values")
    value = _check.array(value, name, 1)
    _check.same_kind(value, data, name, "the space's values")
    count = value.shape[0]
    if count != size:
        raise ValueError(
            f"{name} must have one entry for each of the {size} atoms, "
            f"but has {count}: pass an array of shape ({size},)."
        )
    if bool(xp.any(value < 0)):
        least = float(xp.min(value))
        raise ValueError(
            f"{name} must be non-negative, but the smallest is {least:.3g}: "
            "clip or remove those atoms."
        )
    # Half precision has too few digits for the sum of many weights.
    wide = _array.at_least_single(value)
    total = _array.exact_sum(wide)
    _total(total, _array.epsilon(value), name)
    # Uniform weights given and left out are then the same to the last digit. Weights
    # in a gradient graph must stay in it.
    if not _array.tracked(value) and _array.all_equal(value):
        return _uniform(data, size)
    if total == 1.0:
        return value
    return xp.astype(_array.normalised(wide), value.dtype)


def features(value: Any, weights: Array) -> Array | None:
    """Return features (n, d) of the atoms that have these weights, or None."""
    if value is None:
        return None
    value = _check.array(value, "features", 2)
    _check.same_kind(value, weights, "features", "the space's values")
    count = value.shape[0]
    size = weights.shape[0]
    if count != size:
        raise ValueError(
            f"features must have one row for each of the {size} atoms, "
            f"but have {count}: pass an array of shape ({size}, d)."
        )
    return value


def _total(total: float, epsilon: float, name: str) -> None:
    """Require that weights sum to 1, up to half of the digits of their dtype.

    ``epsilon`` is the spacing of 1.0 in their dtype.
    """
    if total <= 0.0:
        raise ValueError(
            f"{name} must have positive mass, but sum to zero: "
            "give some atom a positive weight."
        )
    if abs(total - 1.0) > math.sqrt(epsilon):
        received, _ = _words.distinguishable(total, 1.0, 6)
        raise ValueError(
            f"{name} must sum to 1, but sum to {received}: "
            "divide them by their sum if that is what you mean."
        )


def _uniform(data: Array, size: int) -> Array:
    """Return equal weights in the library, dtype and device of an array."""
    xp = _array.namespace(data)
    device = _array.device(data)
    return xp.full((size,), 1.0 / size, dtype=data.dtype, device=device)


def columns_are_atoms(factor: Array, given: Any) -> None:
    """Warn of a factor with more rows than columns, unless its columns have weights.

    Weights of the rows are refused. The warning points to the user's line, four calls
    up.
    """
    rows, columns = factor.shape
    if rows <= columns:
        return
    # Features are often stored with one row for each atom, of which there are more.
    if given is None:
        warnings.warn(
            f"factor has {rows} rows and {columns} columns, and each column is an "
            "atom: pass factor.T where rows are the atoms, or weights, one for each "
            "column, to say that columns are.",
            stacklevel=4,
        )
    elif _array.is_array(given) and tuple(given.shape) == (rows,):
        raise ValueError(
            f"weights must have one entry for each of the {columns} columns of factor, "
            f"but has one for each of the {rows} rows: "
            "pass factor.T where rows are the atoms."
        )


def stored_values(space: Any, kinds: tuple[type, ...], name: str) -> None:
    """Require a kind of space of which C is a known function of the stored values.

    Bounds of how far C moves when these are rounded need it.
    """
    if not isinstance(space, kinds):
        names = [kind.__name__ for kind in kinds]
        known = ", ".join(names)
        received = _words.shown(space)
        raise TypeError(
            f"{name} must be of a kind whose C is known by its stored values "
            f"({known}), but is {received}: "
            f"pass gwtools.DenseSpace({name}.dense(), {name}.weights), whose stored "
            "values are those of C."
        )


def few_coordinates_decide(few: bool, x: str, y: str) -> None:
    """Require two spaces between which few coordinates decide, of kinds x and y.

    ``few`` is whether both are clouds with squared distances or both inner products.
    """
    if not few:
        raise TypeError(
            "x and y must both be gwtools.PointCloud with metric='sqeuclidean', or "
            f"both gwtools.GramSpace, for BranchAndBound, but are {x} and {y}: "
            "pass gwtools.MultiStart() for other spaces."
        )


def same_moments(x: str, y: str) -> None:
    """Require two clouds with squared distances, or two Gram spaces.

    ``x`` and ``y`` say what was received.
    """
    for kind, name in ((x, "x"), (y, "y")):
        if kind == "a cloud with metric='euclidean'":
            raise TypeError(
                f"{name} must have squared distances, which follow from moments, "
                f"but is {kind}: "
                f"pass gwtools.PointCloud({name}.points, {name}.weights, "
                "metric='sqeuclidean')."
            )
        if kind not in ("a cloud with metric='sqeuclidean'", "a Gram space"):
            raise TypeError(
                f"{name} must be a gwtools.PointCloud with metric='sqeuclidean' or a "
                f"gwtools.GramSpace, but is {kind}: pass its points, or for a matrix "
                "of distances call gwtools.solve."
            )
    if x != y:
        raise TypeError(
            f"y must be {x} like x, but is {y}: "
            "pass two spaces of one kind, whose values are comparable."
        )


def few_dimensions(number: int, most: int) -> None:
    """Require dimensions of two spaces whose product is at most so large."""
    if number > most:
        raise ValueError(
            f"the dimensions of x and y must have a product of at most {most} for "
            f"BranchAndBound, but it is {number}: "
            "pass gwtools.MultiStart(), or points on fewer principal axes."
        )


def same_weights(first: Array, second: Array, name: str, other: str) -> None:
    """Require one size and, up to float error, one list of weights."""
    if first.shape != second.shape:
        n_first = first.shape[0]
        n_second = second.shape[0]
        raise ValueError(
            f"{name} must have the atoms of {other}, "
            f"but they have {n_second} and {n_first}: "
            "pass two spaces over the same atoms."
        )
    xp = _array.namespace(first)
    differences = xp.abs(first - second)
    difference = _array.number(xp.max(differences))
    if difference > 128 * _array.epsilon(first):
        raise ValueError(
            f"{name} must have the weights of {other}, "
            f"but they differ by up to {difference:.3g}: "
            "pass two spaces over the same atoms, with equal weights."
        )
