"""Lists of spaces: read from what is passed, all of one array library and dtype."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gwtools import _array, _check, _check_fused, _check_spaces
from gwtools._array import Array
from gwtools.spaces.base import Space
from gwtools.spaces.dense import as_space


def read_spaces(values: Sequence[Any], name: str) -> list[Space]:
    """Read a list of spaces, or of square arrays and spaces.

    Parameters
    ----------
    values : sequence of Space or square arrays
        The list; a stack of matrices (S, n, n) is one.
    name : str
        Name of the list in errors.

    Returns
    -------
    list of Space
        In the order of the list.
    """
    _check.listed(values, name)
    # Lists may be long: each type that occurs is asked for, and no space by itself.
    for kind in set(map(type, values)):
        if not issubclass(kind, Space):
            return _undirected(_as_spaces(values, name), name)
    return _undirected(list(values), name)


def _undirected(spaces: list[Space], name: str) -> list[Space]:
    """Refuse directed spaces and edge features, which no function of many carries."""
    for i, space in enumerate(spaces):
        if space.edge_features is not None:
            _check_spaces.of_numbers(space.edge_features, f"{name}[{i}]")
        if space.directed:
            _check_spaces.undirected(space.directed, f"{name}[{i}]")
    return spaces


def _as_spaces(values: Sequence[Any], name: str) -> list[Space]:
    """Read square arrays as spaces."""
    spaces = []
    for i, value in enumerate(values):
        space = as_space(value, f"{name}[{i}]")
        spaces.append(space)
    return spaces


def require_one_kind(lists: Mapping[str, Sequence[Space]]) -> None:
    """Refuse spaces of another library, dtype or device than that of the first one.

    Parameters
    ----------
    lists : mapping of str to sequence of Space
        Lists of spaces by their names in errors.
    """
    # The first array of each kind stands for all of its kind, as lists may be long.
    first_of_kind: dict[Any, tuple[str, Array]] = {}
    for name, spaces in lists.items():
        for i, space in enumerate(spaces):
            kind = _array.kind(space.weights)
            if kind not in first_of_kind:
                first_of_kind[kind] = (f"{name}[{i}]", space.weights)
    if not first_of_kind:
        return
    expected_name, expected = next(iter(first_of_kind.values()))
    for name, weights in first_of_kind.values():
        _check.same_kind(weights, expected, name, expected_name)


def require_plain(lists: Mapping[str, Sequence[Space]], function: str) -> None:
    """Refuse spaces with features, for a function that does not know them.

    Parameters
    ----------
    lists : mapping of str to sequence of Space
        Lists of spaces by their names in errors.
    function : str
        Name of the function.
    """
    for name, spaces in lists.items():
        for i, space in enumerate(spaces):
            _check_fused.without_features(space, f"{name}[{i}]", function)
