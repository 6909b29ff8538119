"""Rejects marginals that are none, and what free marginals cannot be joined with."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from gwtools import _array, _check, _words
from gwtools._array import Array
from gwtools._check_plans import MOST_MISSED

BALANCED = "balanced"
SEMI_RELAXED = "semi_relaxed"
KL = "kl"
TV = "tv"
PENALTIES = (KL, TV)


def marginals(value: Any, partial: type, unbalanced: type) -> None:
    """Require a word for marginals, a partial mass or prices of unbalanced plans."""
    remedy = "pass one of these"
    if isinstance(value, partial | unbalanced):
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
    if isinstance(value, str) and value == "unbalanced":
        remedy = "pass gwtools.Unbalanced(rho) with the price rho of what is unmatched"
    raise kind(
        f"marginals must be {BALANCED!r}, {SEMI_RELAXED!r}, a gwtools.Partial or a "
        f"gwtools.Unbalanced, but is {_words.shown(value)}: {remedy}."
    )


def mass(value: Any) -> float:
    """Require a mass above 0 and at most 1, and return it as a float."""
    _check.number(value, "mass", above=0.0, most=1.0)
    return float(value)


def prices(value: Any, penalty: Any) -> tuple[float, float]:
    """Require one price above 0 or, for "kl", two, and return two floats."""
    _check.choice(penalty, "penalty", PENALTIES)
    remedy = "one above 0, or two, for the weights of x and of y"
    both = value if isinstance(value, tuple | list) else (value, value)
    if len(both) != 2:
        raise ValueError(
            f"rho must be one number or two, but has {len(both)}: pass {remedy}."
        )
    for number in both:
        _price(number)
    first, second = (float(number) for number in both)
    if penalty == TV and first != second:
        raise ValueError(
            f"rho must be one number with penalty={TV!r}, but is {_words.shown(value)}:"
            f" pass one, or penalty={KL!r} for two."
        )
    return first, second


def _price(value: Any) -> None:
    """Require a finite number above 0."""
    is_real = isinstance(value, Real) and not isinstance(value, bool)
    if is_real and _check.as_float(value) == math.inf:
        raise ValueError(
            "rho must be a finite number greater than 0, but is inf: pass "
            f"marginals={BALANCED!r}, where no mass is left out at any price."
        )
    _check.number(value, "rho", above=0.0)


def carried(carries: bool, solver: str, shown: str) -> None:
    """Refuse free marginals for a solver that answers the balanced problem alone."""
    if not carries:
        raise ValueError(
            f"solver must be a gwtools.ConditionalGradient with marginals={shown}, "
            f"but is {solver}: pass that, or leave the solver out for a few starts."
        )


def costs_of_masses(least: float, shown: str) -> None:
    """Require costs of at least 0 where plans above the weights are left out."""
    if least < 0.0:
        raise ValueError(
            f"features must be at least 0 with marginals={shown}, as more mass than "
            f"the weights could pay otherwise, but the least is {least:.3g}: pass "
            f"penalty={KL!r}, or costs from 0 on."
        )


def plan_is_given(is_given: bool, shown: str) -> None:
    """Require the plan of a certificate with free marginals."""
    if not is_given:
        raise ValueError(
            f"plan must be given with marginals={shown}, but is None: pass a plan, or "
            f"read gwtools.solve(x, y, marginals={shown}).certificate."
        )


def without_proof(keep_proof: bool, shown: str) -> None:
    """Refuse to keep a proof of a plan with free marginals."""
    if keep_proof:
        raise ValueError(
            f"keep_proof must be False with marginals={shown}, but is True: "
            "leave it out, as proofs are kept for couplings alone."
        )


def without_gradients(tracked: bool, name: str, shown: str) -> None:
    """Refuse weights in a gradient graph, of which these plans give no gradient."""
    if tracked:
        raise TypeError(
            f"{name} must have weights outside any gradient graph with gwtools.{shown},"
            " but they are in one: detach them first, gradients are those of the values"
            " alone."
        )


def marginal_below(sums: Array, weights: Array, side: str, name: str) -> None:
    """Require that a plan's marginal is nowhere above the weights, but for a little.

    In total by no more than what couplings may miss.
    """
    xp = _array.namespace(weights)
    above = _array.number(xp.sum(xp.clip(sums - weights, min=0.0)))
    # Not above > most: NaN must be refused as well.
    if not above <= MOST_MISSED:
        above_text, most = _words.distinguishable(above, MOST_MISSED)
        raise ValueError(
            f"{name} must send no atom of {side} more than its weight up to {most} in "
            f"total, but exceeds the weights by {above_text}: scale its rows and "
            "columns down first."
        )


def mass_at_weights(sums: Array, weights: Array, side: str, name: str) -> None:
    """Require that a plan sends next to nothing to atoms of weight 0."""
    xp = _array.namespace(weights)
    astray = _array.number(xp.sum(xp.where(weights > 0, 0.0 * sums, sums)))
    if not astray <= MOST_MISSED:
        raise ValueError(
            f"{name} must send no mass to atoms of {side} of weight 0, where "
            f"penalty={KL!r} has no end, but sends {astray:.3g}: "
            "set its entries there to 0."
        )


def moved_mass(received: float, expected: float, name: str) -> None:
    """Require that a plan moves the mass that is asked for."""
    if not abs(received - expected) <= MOST_MISSED:
        received_text, expected_text = _words.distinguishable(received, expected)
        raise ValueError(
            f"{name} must have the mass {expected_text} of gwtools.Partial up to "
            f"{MOST_MISSED:g}, but has {received_text}: "
            "multiply a coupling by the mass."
        )


def start_has_mass(moved: float) -> None:
    """Require that a start, which may have any mass, has some."""
    if not moved > 0.0:
        raise ValueError(
            f"init must have a mass above 0, but has {moved:g}: pass a coupling, or "
            "leave init out for the product plan."
        )


def row_sums(sums: Array, weights: Array, name: str) -> None:
    """Require that a plan has the weights of x as its row sums, up to a little."""
    xp = _array.namespace(weights)
    missed = _array.number(xp.sum(xp.abs(sums - weights)))
    if not missed <= MOST_MISSED:
        missed_text, most = _words.distinguishable(missed, MOST_MISSED)
        raise ValueError(
            f"{name} must have the weights of x as its row sums up to {most} in total, "
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
