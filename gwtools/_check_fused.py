"""Rejects features that fit no problem, and what cannot carry them."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from gwtools import _array, _check, _words


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
