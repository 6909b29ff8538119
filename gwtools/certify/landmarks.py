"""Landmarks: two distances to a third space prove an interval of the distance between.

THEORY.md, "Landmarks".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from gwtools import _check_landmarks
from gwtools.results import Certificate


class DistanceInterval(NamedTuple):
    """A proved interval for a distance GW_2, in units of C."""

    lower: float
    upper: float


def landmark_interval(
    certificates_x: Sequence[Certificate],
    certificates_y: Sequence[Certificate],
) -> DistanceInterval:
    """Prove an interval for GW_2 between x and y from their distances to landmarks.

    Parameters
    ----------
    certificates_x : sequence of K Certificate
        Those of x and each of K spaces, the landmarks.
    certificates_y : sequence of K Certificate
        Those of y and the same landmarks, in the same order. A landmark must have the
        same stored values and weights in both.

    Returns
    -------
    DistanceInterval
        The pair (lower, upper), of the *distance*, in units of C, rounded outward;
        certificates are of its square. With L and U the roots of their ends, ``lower``
        is the largest of L_xr − U_yr, L_yr − U_xr and 0 over all landmarks r, and
        ``upper`` the least U_xr + U_yr, which :func:`gwtools.glued_plan` attains or
        undercuts. O(K).

    Raises
    ------
    TypeError
        If an argument is no list, or holds anything but certificates.
    ValueError
        If the lists are empty, or of unequal lengths.

    Examples
    --------
    Both simplices are close to a third one, and so to each other; nothing is solved
    between them.

    >>> import numpy as np, gwtools as gw
    >>> x, y, landmark = (gw.DenseSpace(s * (1 - np.eye(3))) for s in (1.0, 1.5, 1.25))
    >>> of_x, of_y = (gw.solve(space, landmark).certificate for space in (x, y))
    >>> lower, upper = gw.landmark_interval([of_x], [of_y])
    >>> round(float(gw.solve(x, y).distance), 4), round(upper, 4)
    (0.4082, 0.4082)

    Where one is near the landmark and the other far, they are far from each other.

    >>> near, far = (gw.DenseSpace(s * (1 - np.eye(3))) for s in (1.25, 9.0))
    >>> of_near, of_far = (gw.solve(s, landmark).certificate for s in (near, far))
    >>> lower, upper = gw.landmark_interval([of_near], [of_far])
    >>> round(lower, 4), round(upper, 4)
    (6.3278, 6.3278)
    """
    _check_landmarks.certificates(certificates_x, "certificates_x", Certificate)
    _check_landmarks.certificates(certificates_y, "certificates_y", Certificate)
    _check_landmarks.paired(certificates_x, certificates_y)
    lower = 0.0
    upper = math.inf
    for of_x, of_y in zip(certificates_x, certificates_y, strict=True):
        x_from_y = _difference(of_x.lower, of_y.upper)
        y_from_x = _difference(of_y.lower, of_x.upper)
        lower = max(lower, x_from_y, y_from_x)
        upper = min(upper, _sum(of_x.upper, of_y.upper))
    return DistanceInterval(lower, upper)


def _difference(lower: float, upper: float) -> float:
    """Return √lower − √upper, rounded down."""
    low = outward_root(lower, -math.inf)
    high = outward_root(upper, math.inf)
    if math.isinf(high):
        return -math.inf
    return math.nextafter(low - high, -math.inf)


def _sum(first: float, second: float) -> float:
    """Return √first + √second, rounded up."""
    total = outward_root(first, math.inf) + outward_root(second, math.inf)
    # Zeros are exact, and so is their sum.
    return math.nextafter(total, math.inf) if total > 0.0 else 0.0


def outward_root(square: float, towards: float) -> float:
    """Return the root of a number of at least 0, rounded in a direction.

    Roots are rounded to the nearest float; that of 0 is exact.

    Parameters
    ----------
    square : float
        In squared units of C.
    towards : float
        Infinity to round up, minus infinity to round down.

    Returns
    -------
    float
        In units of C.
    """
    if square <= 0.0:
        return 0.0
    root = math.sqrt(square)
    return root if math.isinf(root) else math.nextafter(root, towards)
