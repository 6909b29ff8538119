"""The arguments of bounds read as spaces, and their values returned in the units and the dtype of these."""

from __future__ import annotations

from typing import Any

from gwtools import _array, _check
from gwtools._array import Array
from gwtools.problems import Prepared
from gwtools.spaces import Space, as_space
from gwtools.transport.local_distributions import Centred, centred


def read_pair(x: Any, y: Any) -> tuple[Space, Space]:
    """Read two arguments as spaces of one library, dtype and device."""
    x, y = as_space(x, "x"), as_space(y, "y")
    _check.same_kind(x.weights, y.weights, "x", "y")
    return x, y


def refuse_gradients(x: Space, y: Space, name: str) -> None:
    """Refuse spaces within ``jax.grad``, which would take a value computed in NumPy for a constant."""
    for space, side in ((x, "x"), (y, "y")):
        _check.untransformed((space.data, space.weights), side, name)


def centred_pair(ready: Prepared) -> tuple[Centred, Centred]:
    """Split two prepared spaces into their parts, in NumPy and float64."""
    return centred(ready.x), centred(ready.y)


def in_given_units(value: Array, unit: float, p: float, like: Array) -> Array:
    """Undo the unit of prepared spaces, in two factors since unit^p alone may overflow, and return to their dtype."""
    half = unit ** (p / 2)
    return _array.namespace(like).astype(value * half * half, like.dtype, copy=False)
