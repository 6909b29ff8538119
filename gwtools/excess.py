"""Excess: how far a coupling can lie above the minimum, in numbers and in words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from fractions import Fraction

# Two digits, never rounded down: what is said must be true.
_TWO_DIGITS = Context(prec=2, rounding=ROUND_CEILING)
# Larger multiples of the minimum are not worth a sentence, and two digits of them may
# be no number.
_LARGEST_SAID = 1e300


@dataclass(frozen=True)
class Excess:
    """How far a coupling can at most lie above the minimum, as shares of the minimum.

    ``str`` gives a sentence, in per cent up to twice the minimum: "objective at most 12
    % above the minimum, distance at most 5.9 %"; "no bound" where nothing is proved.

    Attributes
    ----------
    objective : float
        ``upper / lower − 1`` of a certificate, rounded up; 0 where both ends are equal,
        infinite where ``lower`` alone is 0.
    distance : float
        The same of their roots: how far the distance can lie above GW_2.
    closed : str
        Up to what a closed interval is closed, as "rounding" or "1e-06"; empty where
        the interval is not closed.

    Examples
    --------
    More work proves more.

    >>> import numpy as np, gwtools as gw
    >>> x = gw.PointCloud(
    ...     np.array([[0.0], [1.0], [3.0]]), weights=np.array([0.5, 0.25, 0.25])
    ... )
    >>> y = gw.PointCloud(np.array([[0.0, 0.0], [0.0, 1.0], [2.0, 0.0]]))
    >>> result = gw.solve(x, y)
    >>> print(result.certificate.excess)
    objective at most 3.5 times the minimum, distance at most 1.9 times
    >>> excess = gw.certify(x, y, result.plan, "cubic").excess
    >>> print(excess)
    objective at most 29 % above the minimum, distance at most 14 %
    >>> round(excess.objective, 4), round(excess.distance, 4)
    (0.2821, 0.1323)
    """

    objective: float
    distance: float
    closed: str = ""

    def __str__(self) -> str:
        """Say it in a sentence, rounded up."""
        if self.objective == 0.0:
            return "the minimum"
        if self.closed:
            return f"the minimum, up to {self.closed}"
        if self.objective > _LARGEST_SAID:
            return "no bound"
        if self.objective > 1.0:
            objective = _as_multiple(self.objective)
            distance = _as_multiple(self.distance)
        else:
            objective = f"{_as_percentage(self.objective)} above"
            distance = _as_percentage(self.distance)
        return f"objective at most {objective} the minimum, distance at most {distance}"


def excess_of_interval(lower: float, upper: float, closed: str = "") -> Excess:
    """Return the excess that an interval of the least objective leaves.

    Parameters
    ----------
    lower, upper : float
        The ends, at least 0.
    closed : str
        Up to what the interval is closed, if it is.

    Returns
    -------
    Excess
        Rounded up.
    """
    if upper <= lower:
        return Excess(0.0, 0.0, closed)
    if lower <= 0.0 or math.isinf(upper):
        return Excess(math.inf, math.inf, closed)
    exact = Fraction(upper) / Fraction(lower) - 1
    objective = _rounded_up(exact)
    distance = _excess_of_root(exact)
    return Excess(objective, distance, closed)


def _rounded_up(exact: Fraction) -> float:
    """Return the least float that is not below a positive number."""
    try:
        nearest = float(exact)
    except OverflowError:
        return math.inf
    return nearest if nearest >= exact else math.nextafter(nearest, math.inf)


def _excess_of_root(exact: Fraction) -> float:
    """Return a float not below √(1 + e) − 1, for a number e above 0."""
    e = _rounded_up(exact)
    if math.isinf(e):
        return math.inf
    # The form without cancellation; its float error is a few units in the last place.
    excess = e / (1.0 + math.sqrt(1.0 + e))
    while (1 + Fraction(excess)) ** 2 < 1 + exact:
        excess = math.nextafter(excess, math.inf)
    return excess


def _as_percentage(excess: float) -> str:
    """Write an excess in per cent, with two digits, rounded up."""
    percentage = _TWO_DIGITS.multiply(Decimal(excess), 100)
    return f"{float(percentage):g} %"


def _as_multiple(excess: float) -> str:
    """Write an excess as a multiple of the minimum, with two digits, rounded up."""
    multiple = _TWO_DIGITS.add(Decimal(excess), 1)
    return f"{float(multiple):g} times"
