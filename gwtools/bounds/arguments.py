"""Arguments of bounds read as spaces, and their values returned in the given units."""

from __future__ import annotations

from typing import Any

from gwtools import _array, _check, _check_spaces
from gwtools._array import Array
from gwtools.preparation import Prepared
from gwtools.spaces import Space, as_space, undirected_space
from gwtools.transport.local_distributions import Centred, centred


def read_pair(x: Any, y: Any, directed: bool = False) -> tuple[Space, Space]:
    """Read two arguments as spaces of one library, dtype and device.

    ``directed`` tells whether the bound holds for directed spaces, too.
    """
    read = as_space if directed else undirected_space
    space_x = read(x, "x")
    space_y = read(y, "y")
    _check_spaces.of_numbers(space_x.edge_features, "x")
    _check_spaces.of_numbers(space_y.edge_features, "y")
    _check.same_kind(
        space_x.weights,
        space_y.weights,
        "x",
        "y",
    )
    return space_x, space_y


def refuse_jax_gradients(x: Space, y: Space, name: str) -> None:
    """Refuse spaces within ``jax.grad``.

    It would take a value that is computed in NumPy for a constant.
    """
    # Both the values and the weights may be what is differentiated.
    _check.untransformed((x.data, x.weights), "x", name)
    _check.untransformed((y.data, y.weights), "y", name)


def centred_pair(ready: Prepared) -> tuple[Centred, Centred]:
    """Split two prepared spaces into their parts, in NumPy and float64."""
    parts_x = centred(ready.x)
    parts_y = centred(ready.y)
    return parts_x, parts_y


def in_given_units(
    value: Array,
    unit: float,
    p: float,
    like: Array,
) -> Array:
    """Undo the unit of prepared spaces, and return to the dtype of an array."""
    # In two factors: unit^p alone may overflow where the value is tiny.
    half = unit ** (p / 2)
    xp = _array.namespace(like)
    given = value * half * half  # in units of C to the power p
    # Values are computed in float64 where the arguments may have been narrower.
    return xp.astype(given, like.dtype, copy=False)
