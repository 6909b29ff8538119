"""Rejects marginals that are none, and what free marginals cannot be joined with."""

from __future__ import annotations

from typing import Any

from gwtools import _array, _check, _words
from gwtools._array import Array
from gwtools._check_plans import MOST_MISSED

BALANCED = "balanced"
SEMI_RELAXED = "semi_relaxed"


def marginals(value: Any, partial: type) -> None:
    """Require one of the words for marginals, or a partial mass."""
    remedy = "pass one of these"
    if isinstance(value, partial):
        return
    if isinstance(value, str):
        if value in (BALANCED, SEMI_RELAXED):
            return
        kind: type[Exception] = ValueError
    else:
        kind = TypeError
    if isinstance(value, type):
        remedy = "pass an instance such as gwtools.Partial(0.9)"
    elif not isinstance(value, str) and value is not None:
        remedy = "pass gwtools.Partial(mass) for a number that is the mass moved"
    raise kind(
        f"marginals must be {BALANCED!r}, {SEMI_RELAXED!r} or a gwtools.Partial, "
        f"but is {_words.shown(value)}: {remedy}."
    )


def mass(value: Any) -> float:
    """Require a mass above 0 and at most 1, and return it as a float."""
    _check.number(value, "mass", above=0.0, most=1.0)
    return float(value)


def carried(carries: bool, solver: str, shown: str) -> None:
    """Refuse free marginals for a solver that answers the balanced problem alone."""
    if not carries:
        raise ValueError(
            f"solver must be a gwtools.ConditionalGradient with marginals={shown}, "
            f"but is {solver}: pass that, or leave the solver out for a few starts."
        )


def without_features(given: bool, shown: str) -> None:
    """Refuse features and free marginals in one problem."""
    if given:
        raise ValueError(
            "features must be left out where a marginal is free, but were given with "
            f"marginals={shown}: leave one of both out."
        )


def without_gradients(tracked: bool, name: str) -> None:
    """Refuse weights in a gradient graph, of which a partial plan gives no gradient."""
    if tracked:
        raise TypeError(
            f"{name} must have weights outside any gradient graph with "
            "gwtools.Partial, but they are in one: detach them first, gradients are "
            "those of the values alone."
        )


def start_below(sums: Array, weights: Array, side: str) -> None:
    """Require that a start's marginal is nowhere above the weights, but for a little.

    In total by no more than what couplings may miss.
    """
    xp = _array.namespace(weights)
    above = _array.number(xp.sum(xp.clip(sums - weights, min=0.0)))
    # Not above > most: NaN must be refused as well.
    if not above <= MOST_MISSED:
        above_text, most = _words.distinguishable(above, MOST_MISSED)
        raise ValueError(
            f"init must send no atom of {side} more than its weight up to {most} in "
            f"total, but exceeds the weights by {above_text}: scale its rows and "
            "columns down first."
        )


def start_mass(received: float, expected: float) -> None:
    """Require that a start moves the mass that is asked for."""
    if not abs(received - expected) <= MOST_MISSED:
        received_text, expected_text = _words.distinguishable(received, expected)
        raise ValueError(
            f"init must have the mass {expected_text} of gwtools.Partial up to "
            f"{MOST_MISSED:g}, but has {received_text}: "
            "multiply a coupling by the mass."
        )


def start_rows(sums: Array, weights: Array) -> None:
    """Require that a start has the weights of x as its row sums, up to a little."""
    xp = _array.namespace(weights)
    missed = _array.number(xp.sum(xp.abs(sums - weights)))
    if not missed <= MOST_MISSED:
        missed_text, most = _words.distinguishable(missed, MOST_MISSED)
        raise ValueError(
            f"init must have the weights of x as its row sums up to {most} in total, "
            f"but misses them by {missed_text}: scale its rows first."
        )


def is_distance(has_free_marginals: bool) -> None:
    """Refuse the distance of plans with free marginals."""
    if has_free_marginals:
        raise ValueError(
            "distance must be that of couplings of both weights, but a marginal is "
            "free and the root of the objective is no distance between the spaces: "
            "read result.objective."
        )
