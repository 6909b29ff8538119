"""Weights matched to the atoms that the names beside them mean, in any order.

Atoms without names of their own are called by their positions from 0. Other names
beside weights say nothing of such atoms, and names 0, 1, …, n − 1 in this order nothing
of atoms that are not called so: they number the lines, as pandas does. The weights are
then in the order of the atoms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gwtools._check import unreadable
from gwtools.files.labels import is_counting


def order_by_names(found: list[str], atoms: Sequence[Any], name: str) -> list[int]:
    """Return which line has the weight of each atom.

    Parameters
    ----------
    found : list of str
        Names beside the weights, as many as atoms.
    atoms : sequence
        What the atoms are called; a range where that is their positions.
    name : str
        What errors call the file of weights.

    Returns
    -------
    list of int
        Position of the line of each atom, from 0.

    Raises
    ------
    ValueError
        If the names are those of other atoms, or repeat in another order than that of
        the atoms.

    Examples
    --------
    >>> order_by_names(["0", "1", "2"], ["2", "0", "1"], "weights.csv")
    [2, 0, 1]
    >>> order_by_names(["0", "1", "2"], ["a", "b", "c"], "weights.csv")
    [0, 1, 2]
    """
    wanted = list(map(str, atoms))
    in_order = list(range(len(found)))
    # 1. Names that are those of the atoms in the same order, which may repeat.
    if found == wanted:
        return in_order

    # 2. Names that are not meant as those of the atoms. The same names in another order
    # always are, for 0, 1, …, n − 1 may be nodes that a graph mentions otherwise.
    has_own_names = not isinstance(atoms, range)
    numbers_lines = not has_own_names or is_counting(found)
    if numbers_lines and set(found) != set(wanted):
        return in_order

    # 3. Names of the atoms in another order, and mistakes.
    _require_same_names(found, wanted, name)
    place = {label: i for i, label in enumerate(found)}
    return [place[label] for label in wanted]


def _require_same_names(found: list[str], wanted: list[str], name: str) -> None:
    """Require the same names in both lists, none of them twice."""
    lines = set(found)
    for label in wanted:
        if label not in lines:
            raise unreadable(
                name,
                "hold a weight for every atom by its name",
                f"has none for {label!r}",
                "use the names of the atoms, or remove the names",
            )
    # Where atoms share a name, every atom may have a weight and a weight still no atom.
    atoms = set(wanted)
    for label in found:
        if label not in atoms:
            raise unreadable(
                name,
                "hold weights of the atoms alone",
                f"no atom is called {label!r}",
                "use the names of the atoms, or remove the names",
            )
    # Both lists hold the same names and are as long: one repeats names if both do.
    if len(lines) < len(found):
        raise unreadable(
            name,
            "hold weights that can be told apart",
            "names repeat, and not in the order of the atoms",
            "write the names as the atoms have them, in their order",
        )
