"""Certificates held against rational arithmetic, without any tolerance.

Nothing here knows gwtools: spaces, plans and certificates are read by their attributes
alone. Stored floats are integers times a power of two, so that all sums are of
integers; numbers become fractions only where they are compared. Entries that are roots
(Euclidean distances) are enclosed, and so are the objectives made of them; a statement
counts as violated only where every number within the enclosures violates it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

import gwtools as gw
from tests.exact_couplings import Pair
from tests.exact_search import best
from tests.exact_spaces import Enclosure, exact

# What rounding may account for, in units of the squared largest difference,
WIDTH = Fraction(1, 10**8)
# of that difference times the largest value, where values are computed,
SHARE = Fraction(1, 10**10)
# and in the last numbers before zero.
LEAST = Fraction(1, 10**320)


def violations(
    certificate: Any,
    x: Any,
    y: Any,
    plan: Any = None,
    objective: Any = None,
    *,
    allowed: float = 0.0,
    hints: Sequence[Any] = (),
    rounds: int = 0,
) -> list[str]:
    """Return what a certificate says that is false in exact arithmetic.

    Parameters
    ----------
    certificate : gwtools.Certificate
        With ``lower``, ``upper``, ``kind``, ``bounds``, ``a_priori``, ``tolerance`` and
        ``rounding``.
    x, y : gwtools.Space
        The spaces it speaks of.
    plan : Plan or array, optional
        The plan that was certified.
    objective : number, optional
        What a solver says of its plan; it has to lie between ``lower`` and ``upper``.
    allowed : float
        A tolerance that was asked for, in squared units of C.
    hints : sequence of plans
        Couplings that may have a small objective, as the permutation that made a copy.
    rounds : int
        Exact steps of descent towards a smaller objective.

    Returns
    -------
    list of str
        Sentences that begin with the sort of violation and a colon.
    """
    broken = _malformed(certificate, objective)
    if broken:
        # Nothing else can be examined.
        return broken
    pair = Pair(exact(x), exact(y))
    plans = [*hints] if plan is None else [*hints, plan]
    if plan is None and "branch_and_bound" in certificate.bounds:
        # The upper end may be that of a tree's coupling: a coupling like any other.
        plans.append(_of_a_tree(x, y))
    value = best(pair, plans, rounds)
    broken += _bounds_above(certificate, value)
    broken += _upper_below(certificate, pair, plan, value)
    broken += _a_priori_exceeded(certificate, value)
    if certificate.lower > certificate.upper:
        ends = f"lower {certificate.lower!r} is above upper {certificate.upper!r}"
        broken.append(f"crossed: {ends}")
    if objective is not None:
        broken += _objective_outside(certificate, float(objective))
    return broken + _misjudged(certificate, pair, value, allowed)


def _of_a_tree(x: Any, y: Any) -> Any:
    """Return the best coupling that a branch and bound finds, in float64."""
    x, y = (
        gw.spaces.converted(space, lambda array: np.asarray(array, np.float64))
        for space in (x, y)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gw.ConvergenceWarning)
        return gw.solve(x, y, gw.BranchAndBound(max_nodes=3000)).plan


def _malformed(certificate: Any, objective: Any) -> list[str]:
    """Return what is wrong with the numbers of a certificate by themselves."""
    numbers = {
        "lower": certificate.lower,
        "upper": certificate.upper,
        **certificate.bounds,
    }
    optional = {
        "a_priori": certificate.a_priori,
        "tolerance": certificate.tolerance,
        "rounding": certificate.rounding,
        "objective": objective,
    }
    for name, value in optional.items():
        if value is not None:
            numbers[name] = float(value)
    broken = []
    for name, value in numbers.items():
        if not math.isfinite(value):
            broken.append(f"not finite: {name} is {value!r}")
    if broken:
        return broken
    lower = certificate.lower
    largest = max(certificate.bounds.values())
    if lower != largest:
        return [f"lower: {lower!r} is not the largest bound {largest!r}"]
    if lower < 0:
        return [f"negative: lower is {lower!r}"]
    return []


def _bounds_above(certificate: Any, best: Enclosure) -> list[str]:
    """Return the lower bounds that are above the objective of a coupling."""
    broken = []
    for name, bound in certificate.bounds.items():
        if Fraction(bound) > best.high:
            excess = _excess(Fraction(bound), best.high)
            broken.append(
                f"bound: {name} {bound!r} is above a coupling's objective, by {excess}"
            )
    return broken


def _upper_below(certificate: Any, pair: Pair, plan: Any, best: Enclosure) -> list[str]:
    """Return whether the upper end is below the objective of its coupling."""
    upper = Fraction(certificate.upper)
    if plan is None:
        least = best.low
        if least > upper:
            # A sort breaks ties in some way.
            sorting = [pair.objective(coupling).low for coupling in pair.corners()]
            least = min(sorting, default=least)
    else:
        least = pair.objective(pair.nearest(plan)).low
        along = pair.bijection(plan)
        if along is not None:
            least = min(least, pair.objective(along).low)
    if least <= upper:
        return []
    excess = _excess(least, upper)
    return [
        f"upper: {certificate.upper!r} is below its coupling's objective, by {excess}"
    ]


def _a_priori_exceeded(certificate: Any, best: Enclosure) -> list[str]:
    """Return whether an objective is further above the norm bound than promised."""
    if certificate.a_priori is None or "norm" not in certificate.bounds:
        return []
    reach = Fraction(certificate.bounds["norm"]) + Fraction(certificate.a_priori)
    if best.low <= reach:
        return []
    excess = _excess(best.low, reach)
    return [f"a_priori: {certificate.a_priori!r} is too small, by {excess}"]


def _objective_outside(certificate: Any, objective: float) -> list[str]:
    """Return whether a solver's objective is outside the interval."""
    broken = []
    if objective < certificate.lower:
        broken.append(f"objective below: {objective!r}, lower {certificate.lower!r}")
    if objective > certificate.upper:
        broken.append(f"objective above: {objective!r}, upper {certificate.upper!r}")
    return broken


def _misjudged(
    certificate: Any, pair: Pair, best: Enclosure, allowed: float
) -> list[str]:
    """Return what is false about the kind, the tolerance and the rounding."""
    closed = certificate.kind.value == "global"
    lower = Fraction(certificate.lower)
    width = Fraction(certificate.upper) - lower
    tolerance = Fraction(certificate.tolerance)
    rounding = certificate.rounding
    broken = []
    if closed != (width <= tolerance):
        broken.append(
            f"misjudged: {certificate.kind.value}, "
            f"width {float(width)!r}, tolerance {float(tolerance)!r}"
        )
    limit = _largest_rounding(pair)
    if rounding > limit:
        broken.append(f"rounding: {rounding!r}, allowed {_short(limit)}")
    most = max(rounding, allowed)
    if not rounding <= tolerance <= most:
        broken.append(f"tolerance: {float(tolerance)!r}, allowed {most!r}")
    gap = best.low - lower
    if closed and gap > tolerance:
        broken.append(
            f"open: a closed interval is {_short(gap)} wide up to the best coupling"
        )
    return broken


def _largest_rounding(pair: Pair) -> Fraction:
    """Return what rounding may account for in a certificate of two spaces."""
    largest = pair.largest()
    size = pair.size()
    limit = WIDTH * largest
    limit += SHARE * _root(largest * size)
    limit += SHARE**2 * size
    return limit + LEAST


def _root(value: Fraction) -> Fraction:
    """Return a fraction above the root of another one."""
    root = math.isqrt(value.numerator * value.denominator) + 1
    return Fraction(root, value.denominator)


def _excess(value: Fraction, limit: Fraction) -> str:
    """Say how far a number is above a limit, absolutely and relatively."""
    if not limit:
        return _short(value)
    excess = value - limit
    return f"{_short(excess)} ({_short(excess / limit)} of it)"


def _short(value: Fraction) -> str:
    """Write a fraction with a few digits, however small or large it is."""
    power = 0
    if value:
        # Of the first digit, from the numbers of binary digits.
        bits = value.numerator.bit_length() - value.denominator.bit_length()
        power = math.floor(bits * math.log10(2))
        if value < Fraction(10) ** power:
            power -= 1
        if value >= Fraction(10) ** (power + 1):
            power += 1
    return f"{float(value / Fraction(10) ** power):.3g}e{power:+d}"
