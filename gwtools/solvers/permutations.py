"""All bijections between two small spaces, searched by branch and bound."""

from __future__ import annotations

import math

import numpy as np

from gwtools._array import NumpyArray

MOST_ATOMS = 9  # of each space: 9! = 362,880 bijections
_FLOAT_ERROR = 1e-12  # of sums of squares, relative


def best_permutation(
    C: NumpyArray,
    D: NumpyArray,
    incumbent: float = math.inf,
) -> NumpyArray | None:
    """Find the bijection of least Σ_ik (C_ik − D_σ(i)σ(k))².

    Level by level: before step t every list of images of the atoms 0 … t − 1 is kept
    that a lower bound does not exclude.

    Parameters
    ----------
    C, D : numpy arrays of shape (n, n)
        Symmetric matrices.
    incumbent : float
        A sum that is known to be attained.

    Returns
    -------
    integer array of shape (n,) or None
        The images σ(i) of the first of the best bijections in lexicographic order; None
        where all are above the incumbent.
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
            return None
    best: NumpyArray = images[int(sums.argmin())]
    return best


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
