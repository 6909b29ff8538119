"""Layouts: places in the plane where the atoms of a space are drawn."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from gwtools import _array
from gwtools._array import NumpyArray
from gwtools.spaces.base import Space
from gwtools.spaces.cloud import PointCloud


def positions(space: Space) -> NumpyArray:
    """Return coordinates (n, 2) in which a space is drawn.

    Parameters
    ----------
    space : Space
        A space of n atoms, outside any gradient graph.

    Returns
    -------
    array of shape (n, 2)
        Of clouds in the plane the points, of others their first two principal
        coordinates, and of all other spaces those of classical scaling of C.
    """
    weights = in_float64(space.weights)
    if isinstance(space, PointCloud):
        points = in_float64(space.points)
        if points.shape[1] == 2:
            return points
        centred = points - weights @ points
        return _first_two(centred)
    # Classical scaling: the doubly centred −C²/2 are products of coordinates.
    squares = in_float64(space.dense()) ** 2
    squares = (squares + squares.T) / 2
    squares -= weights @ squares
    squares -= (squares @ weights)[:, None]
    values, vectors = np.linalg.eigh(-squares / 2)
    return _first_two(vectors * np.sqrt(np.clip(values, 0.0, None)))


def _first_two(points: NumpyArray) -> NumpyArray:
    """Return the first two principal coordinates of centred points, (n, 2)."""
    left, sizes, _ = np.linalg.svd(points, full_matrices=False)
    found = np.zeros((len(points), 2))
    kept = min(2, len(sizes))
    found[:, :kept] = left[:, :kept] * sizes[:kept]
    return found


def in_square(points: NumpyArray) -> NumpyArray:
    """Scale and move points into the square of side 1 about (½, ½)."""
    low, high = points.min(axis=0), points.max(axis=0)
    side = float((high - low).max()) or 1.0
    return cast(NumpyArray, (points - (low + high) / 2) / side + 0.5)


def in_float64(array: Any) -> NumpyArray:
    """Return an array of any library in NumPy, as float64."""
    return np.asarray(_array.to_numpy(_array.detached(array)), dtype=np.float64)
