"""Words of error messages: what was received and what to pass instead, by its type."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from numbers import Real
from typing import Any

import scipy.sparse

from gwtools import _array
from gwtools._array import Array

_SHORT = reprlib.Repr()
_SHORT.maxstring = 60
_SHORT.maxother = 60

# Remedies by an argument's name and the number of axes that it has.
_AXES = {
    ("points", 1): "pass points[:, None] for one coordinate of each atom",
    ("factor", 1): "pass factor[None, :] for one number of each atom",
    ("distances", 1): (
        "pass the values of all pairs, or gwtools.PointCloud(points[:, None]) for one "
        "coordinate of each atom"
    ),
    ("weights", 2): "pass weights.reshape(-1) if it holds one number for each atom",
}

# Arguments that may be plans: their sparse matrices have a class of their own.
_PLANS = ("plan", "init", "plan_x", "plan_y")


def shown(value: Any) -> str:
    """Write a number or a name, or say of which type a value is."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if value is None or isinstance(value, str | Real):
        return _SHORT.repr(value)
    return f"of type {type(value).__name__}"


def distinguishable(value: float, limit: float, digits: int = 3) -> tuple[str, str]:
    """Write a number and the limit that it misses, with enough digits to differ.

    They have ``digits`` digits, or as many more as are needed.
    """
    for count in range(digits, 17):
        value_text = f"{value:.{count}g}"
        limit_text = f"{limit:.{count}g}"
        if float(value_text) != float(limit_text):
            return value_text, limit_text
    # Not all floats differ in 16 digits, but all in the digits of repr.
    return repr(value), repr(limit)


def to_array(value: Any, name: str) -> str:
    """Say how a value that is no array becomes one."""
    if isinstance(value, str):
        return (
            "read the numbers from their file first, for example with numpy.load or "
            "numpy.loadtxt"
        )
    if scipy.sparse.issparse(value) and name in _PLANS:
        return (
            f"pass gwtools.SparsePlan(c.row, c.col, c.data, c.shape) of c = "
            f"{name}.tocoo(), or {name}.toarray()"
        )
    if scipy.sparse.issparse(value):
        return f"pass {name}.toarray()"
    if is_networkx(value):
        return (
            f"pass networkx.to_numpy_array({name}), or gwtools.GraphSpace({name}) as "
            "the space of shortest paths"
        )
    if hasattr(value, "to_numpy"):
        table = _table_to_numpy(value, name)
        return f"pass {table}"
    if isinstance(value, Mapping):
        return (
            f"pass numpy.asarray(list({name}.values()), dtype=float) if its values are "
            "in the order of the atoms"
        )
    # A result has a plan.
    if hasattr(value, "plan"):
        return f"pass {name}.plan if that is the coupling meant"
    if value is None or isinstance(value, type):
        return (
            "pass an array, for example one made with numpy.asarray(rows, dtype=float)"
        )
    return f"convert it first, for example with numpy.asarray({name}, dtype=float)"


def to_space(value: Any, name: str) -> str:
    """Say how a value that is neither a space nor an array becomes one."""
    if isinstance(value, str) or value is None or isinstance(value, type):
        return (
            "pass gwtools.DenseSpace, PointCloud, GramSpace, GraphSpace or a matrix of "
            "distances"
        )
    if scipy.sparse.issparse(value):
        return (
            f"pass gwtools.GraphSpace({name}) for lengths of edges, or "
            f"{name}.toarray() for a matrix of values"
        )
    if is_networkx(value):
        return f"pass gwtools.GraphSpace({name})"
    if isinstance(value, list | tuple) and any(map(_is_space, value)):
        return (
            "pass one space, or call gwtools.solve_batch, which takes lists of spaces"
        )
    if hasattr(value, "to_numpy"):
        table = _table_to_numpy(value, name)
        return (
            f"pass {table} for a matrix of distances, or gwtools.PointCloud of it for "
            "one row of coordinates an atom"
        )
    return (
        f"pass numpy.asarray({name}, dtype=float) for a matrix of distances, or "
        "gwtools.DenseSpace, PointCloud, GramSpace or GraphSpace"
    )


def _is_space(value: Any) -> bool:
    """Tell whether a value is a space, by what all spaces have."""
    return hasattr(value, "weights")


def to_floating(array: Array, name: str) -> str:
    """Say how an array of another dtype becomes one of floating-point numbers."""
    if "complex" in str(array.dtype):
        return f"pass its real part, {name}.real, if that is what you mean"
    conversion = to_double(array, name)
    return (
        f"convert it yourself, for example with {conversion}, so that nothing is "
        "truncated"
    )


def to_double(array: Array, name: str) -> str:
    """Write the conversion to float64 of an array's library."""
    if _array.library(array) == "torch":
        return f"{name}.double()"
    return f"{name}.astype(float)"


def to_axes(ndim: int, name: str) -> str:
    """Say what to pass for an argument instead of an array of ``ndim`` axes."""
    return _AXES.get((name, ndim), "pass one row or entry for each atom of the space")


def is_networkx(value: Any) -> bool:
    """Tell whether ``value`` is a networkx graph, without importing networkx."""
    if not hasattr(value, "edges"):
        return False
    # A class derived from one of networkx may be defined elsewhere.
    bases = type(value).__mro__
    return any(map(_is_defined_in_networkx, bases))


def _is_defined_in_networkx(kind: type) -> bool:
    return kind.__module__.startswith("networkx.")


def _table_to_numpy(value: Any, name: str) -> str:
    """Write the conversion of a table or of a labelled array to NumPy."""
    library, _, _ = type(value).__module__.partition(".")
    # Of the libraries with this method, pandas alone has one that takes a dtype.
    if library == "pandas":
        return f"{name}.to_numpy(dtype=float)"
    return f"numpy.asarray({name}.to_numpy(), dtype=float)"
