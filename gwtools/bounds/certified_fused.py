"""Certified lower bounds of fused objectives, by one linear program for both terms.

THEORY.md, "Fused objectives" (g).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from gwtools._array import NumpyArray
from gwtools.bounds.certified import AffineMinorant
from gwtools.bounds.float_error import UNDERFLOW, gamma

# 1 − s of the slope s below, a power of two so that both are exact.
_LEAST_LOSS = 2.0**-50
_LARGEST_LOSS = 2.0**-1


def joint(
    least: Callable[[NumpyArray, NumpyArray], float],
    minorant: AffineMinorant,
    features: NumpyArray,
    share: float,
    size: float,
) -> float:
    """Return a number that α F + (1 − α) ⟨M, ·⟩ is below at no plan.

    Parameters
    ----------
    least : function
        From costs (n, m), and by how much they may be too large, to a number that the
        linear program over the plans is not below.
    minorant : AffineMinorant
        What F is not below.
    features : numpy array of shape (n, m)
        M, taken as exact.
    share : float
        α.
    size : float
        About how large F is. It has no say in the proof.
    """
    # 1. Of the exact parts F ≥ (√f − r)₊² ≥ s f − s r² / (1 − s), for every s in (0, 1)
    #    where f is F of the stored ones: the second by (u + v)² ≤ u²/s + v²/(1 − s).
    loss = _loss(minorant.radius, size)
    slope = 1.0 - loss
    weight = share * slope
    # 2. The program with both costs.
    structure = weight * minorant.costs
    linear = (1.0 - share) * features
    sizes = np.abs(structure) + np.abs(linear)
    costs_error = weight * minorant.costs_error + gamma(8) * sizes
    proved = least(structure + linear, costs_error)
    # 3. The constant, and the float errors of this sum.
    constant = weight * minorant.offset
    fall = weight * minorant.radius**2 / loss
    total = constant - fall + proved
    size_of_sum = abs(constant) + fall + abs(proved)
    return float(total - gamma(20) * size_of_sum - UNDERFLOW)


def _loss(radius: float, size: float) -> float:
    """Return a power of two near r / √f, where both parts of the fall are alike."""
    if not (radius > 0.0 and size > 0.0):
        return _LEAST_LOSS
    exponent = math.floor(math.log2(radius) - math.log2(size) / 2)
    nearest = math.ldexp(1.0, min(max(exponent, -50), -1))
    return min(max(nearest, _LEAST_LOSS), _LARGEST_LOSS)
