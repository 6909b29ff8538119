"""All bijections between two small spaces, searched by branch and bound."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from gwtools._array import NumpyArray
from gwtools.bounds.float_error import UNDERFLOW, gamma

MOST_ATOMS = 9  # of each space: 9! = 362,880 bijections
_FLOAT_ERROR = 1e-12  # of sums of squares, relative


class Enumerated(NamedTuple):
    """What all bijections between two matrices told.

    Attributes
    ----------
    images : integer array of shape (n,) or None
        The images σ(i) of the first of the best bijections in lexicographic order; None
        where all are above what was known to be attained.
    lower : float
        No bijection has a smaller Σ_ik (C_ik − D_σ(i)σ(k))² of the matrices as given;
        rounded down.
    """

    images: NumpyArray | None
    lower: float


def best_permutation(
    C: NumpyArray,
    D: NumpyArray,
    incumbent: float = math.inf,
) -> NumpyArray | None:
    """Find the bijection of least Σ_ik (C_ik − D_σ(i)σ(k))², see :func:`enumerated`."""
    return enumerated(C, D, incumbent).images


def enumerated(
    C: NumpyArray,
    D: NumpyArray,
    incumbent: float = math.inf,
) -> Enumerated:
    """Find the bijection of least Σ_ik (C_ik − D_σ(i)σ(k))², with a proof.

    Level by level: before step t every list of images of the atoms 0 … t − 1 is kept
    that a lower bound does not exclude.

    Parameters
    ----------
    C, D : numpy arrays of shape (n, n)
        Symmetric matrices.
    incumbent : float
        A sum that is known to be attained.
    """
    n = len(C)
    most = incumbent * (1 + _FLOAT_ERROR)
    images = np.zeros((1, 0), dtype=np.int64)  # (B, t)
    sums = np.zeros(1)  # (B,): Σ over the atoms that have an image
    for t in range(n):
        # 1. Every list goes on by every atom that is not yet in it.
        lists, chosen = np.nonzero(_unused(images, n))
        own = (C[t, t] - D[chosen, chosen]) ** 2
        to_earlier = D[chosen[:, None], images[lists]]  # (B', t)
        added = own + 2 * np.sum((C[t, :t] - to_earlier) ** 2, axis=1)
        sums = sums[lists] + added
        images = np.concatenate([images[lists], chosen[:, None]], axis=1)
        # 2. Those are dropped whose bound is above what is known to be attained.
        bounds = sums + _least_to_come(C, D, images)
        kept = bounds <= most
        images = images[kept]
        sums = sums[kept]
        if len(images) == 0:
            return Enumerated(None, _rounded_down(most, n))
    place = int(sums.argmin())
    # Dropped lists had bounds above ``most``.
    least = min(float(sums[place]), most)
    return Enumerated(images[place], _rounded_down(least, n))


def _rounded_down(value: float, n: int) -> float:
    """Lower a computed sum of at most n² squares by its float error."""
    relative = gamma(2 * n * n + 16)
    return float(max(value * (1 - relative) - n * n * UNDERFLOW, 0.0))


def _unused(images: NumpyArray, n: int) -> NumpyArray:
    """Tell which atoms are in none of the lists (B, t), shape (B, n)."""
    unused = np.ones((len(images), n), dtype=bool)
    rows = np.arange(len(images))
    unused[rows[:, None], images] = False
    return unused


def _least_to_come(C: NumpyArray, D: NumpyArray, images: NumpyArray) -> NumpyArray:
    """Return what the atoms without an image add at least, shape (B,).

    Each of them goes to the atom that fits those with an image best, whether others go
    there too or not; squares among them are at least 0.
    """
    count, t = images.shape
    n = len(C)
    unused = _unused(images, n)
    total = np.zeros(count)
    for i in range(t, n):
        fit = np.zeros((count, n))
        for s in range(t):
            fit += (C[i, s] - D[:, images[:, s]].T) ** 2
        fit[~unused] = np.inf
        total += 2 * fit.min(axis=1)
    return total
