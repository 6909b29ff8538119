"""Rejects features that fit no problem, and what cannot carry them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from gwtools import _array, _check, _words

METRICS = ("sqeuclidean", "euclidean")


def listed(values: Any, count: int) -> None:
    """Require one matrix of costs for each of ``count`` pairs, in a list or a stack."""
    is_stack = _array.is_array(values) and values.ndim == 3
    is_list = isinstance(values, Sequence)
    if not (is_stack or is_list):
        raise TypeError(
            "features must be a list of matrices, one for each pair, or the word for a "
            f"distance between features of spaces, but is {_words.shown(values)}: "
            "pass [features] for a single pair."
        )
    if len(values) != count:
        raise ValueError(
            f"features must hold one matrix for each of the {count} pairs, "
            f"but hold {len(values)}: pass one for every pair."
        )


def features(value: Any, alpha: Any, x: Any, y: Any) -> Any:
    """Require costs (n, m) between the atoms of two spaces with a share, or neither.

    Return the share, as a float unless it is an array; None where there is none.
    """
    if value is None and alpha is None:
        return None
    if value is None:
        raise TypeError(
            "features must be a matrix of costs between the atoms where alpha is "
            f"given, but is None and alpha is {_words.shown(alpha)}: pass features, or "
            "leave alpha out."
        )
    if alpha is None:
        raise TypeError(
            "alpha must be a number from 0 to 1 where features are given, but is None: "
            "pass alpha=0.5 for the mean of both terms, 1 for structure alone."
        )
    like = x.weights
    _check.array(value, "features", 2)
    _check.same_kind(value, like, "features", "the spaces")
    expected = (x.size, y.size)
    received = tuple(value.shape)
    if received != expected:
        raise ValueError(
            f"features must have shape {expected}, one row for each atom of x and one "
            f"column for each of y, but have {received}: transpose them or pass the "
            "spaces in their order."
        )
    return share(alpha, like)


def of_spaces(metric: str | None, alpha: Any, x: Any, y: Any) -> bool:
    """Require features on both spaces, of one length, or on neither.

    Tell whether they are there. ``metric`` is what was passed for the costs.
    """
    if metric is not None:
        _check.choice(metric, "features", METRICS)
    have = (x.features is not None, y.features is not None)
    if not any(have):
        if metric is None:
            return False
        raise ValueError(
            f"features={metric!r} must be of spaces that have features, but neither "
            "has: pass features= to both spaces, or costs (n, m) here."
        )
    if not all(have):
        with_them, without = ("x", "y") if have[0] else ("y", "x")
        raise ValueError(
            f"features must be those of both spaces, but {with_them} alone has some: "
            f"pass features= to {without} too, or to neither."
        )
    if alpha is None:
        raise TypeError(
            "alpha must be a number from 0 to 1 where spaces have features, but is "
            "None: pass alpha=0.5 for the mean of both terms, 1 for the spaces alone."
        )
    lengths = (x.features.shape[1], y.features.shape[1])
    if lengths[0] != lengths[1]:
        raise ValueError(
            "features must have one length d in both spaces, but have "
            f"{lengths[0]} and {lengths[1]}: pass costs (n, m) between the atoms."
        )
    return True


def given_once(x: Any, y: Any) -> None:
    """Refuse a matrix of costs beside features of the spaces."""
    if x.features is not None or y.features is not None:
        raise ValueError(
            "features must be given once, but are both those of the spaces and a "
            "matrix of costs: leave one of them out."
        )


def without_features(space: Any, name: str, function: str) -> None:
    """Refuse features for a function of many spaces."""
    if space.features is not None:
        raise ValueError(
            f"{name} must be a space without features for gwtools.{function}, but "
            "has some: call gwtools.solve with alpha for each pair."
        )


def of_list(spaces: Mapping[str, Any], alpha: Any) -> bool:
    """Require features of one length d on all spaces of a list, or on none.

    Tell whether they are there. ``spaces`` are named as in errors.
    """
    first, *others = spaces
    like = spaces[first].features
    for name in others:
        _alike(spaces[name].features, like, name, first)
    if like is None and alpha is not None:
        raise ValueError(
            f"alpha must be left out where spaces have no features, but is "
            f"{_words.shown(alpha)}: make them with features=, one row for each atom."
        )
    if like is not None and alpha is None:
        raise TypeError(
            "alpha must be a number from 0 to 1 where spaces have features, but is "
            "None: pass alpha=0.5 for the mean of both terms, 1 for the spaces alone."
        )
    return like is not None


def _alike(features: Any, like: Any, name: str, first: str) -> None:
    """Require features of one length on two spaces of a list, or on neither."""
    if features is None and like is not None:
        raise ValueError(
            f"{name} must have features as {first} has, but has none: "
            "make it with features=, one row for each atom."
        )
    if features is not None and like is None:
        raise ValueError(
            f"{name} must have no features, as {first} has none, but has some: "
            "make all spaces with features=, or none."
        )
    if features is not None and features.shape[1] != like.shape[1]:
        raise ValueError(
            f"{name} must have features of the length d of those of {first}, "
            f"{like.shape[1]}, but they are of length {features.shape[1]}: "
            "pass the same quantities for all atoms."
        )


def in_range(largest: float, most: float, like: Any) -> None:
    """Require features whose squared distances are numbers of the dtype."""
    # Not largest > most: NaN must be refused as well.
    if not largest <= most:
        received, limit = _words.distinguishable(largest, most)
        raise ValueError(
            f"features must differ by at most {limit}, the range in which squared "
            f"distances are numbers of {like.dtype}, but differ by up to {received}: "
            "divide features and matrices of all spaces by one number."
        )


def share(value: Any, like: Any) -> Any:
    """Require a number from 0 to 1, as one of Python or as an array without axes."""
    received = _words.shown(value)
    number = math.nan
    is_real = isinstance(value, Real)
    if is_real and not isinstance(value, bool):
        number = _check.as_float(value)
    elif not is_real and _array.is_array(value) and value.ndim == 0:
        _check.same_kind(value, like, "alpha", "the spaces")
        number = _array.number(value)
        received = repr(number)
    if not 0.0 <= number <= 1.0:
        raise ValueError(
            f"alpha must be a number from 0 to 1, but is {received}: "
            "pass 0 for the features alone, 1 for the spaces alone."
        )
    return number if is_real else value


def carried(carries: bool, name: str) -> None:
    """Refuse features for a solver that cannot carry them."""
    if not carries:
        raise ValueError(
            f"features must be left out with {name}, but are given: pass "
            "gwtools.ConditionalGradient(), MultiStart() or Sinkhorn(), which carry "
            "them."
        )


def without_proof(keep_proof: bool) -> None:
    """Refuse to keep a proof of a fused objective."""
    if keep_proof:
        raise ValueError(
            "keep_proof must be False where features are given, but is True: "
            "leave it out, as proofs are kept for the plain problem alone."
        )


def is_distance(alpha: float | None) -> None:
    """Refuse the distance of a fused objective."""
    if alpha is not None and alpha < 1.0:
        raise ValueError(
            "distance must be that of the spaces alone, but the objective is fused "
            f"with alpha={alpha:g} and its root is no distance between them: "
            "read result.objective."
        )
