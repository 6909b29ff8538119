"""Spaces from files and plans into files, in the format that a file's name says.

A table or array that looks like a matrix of distances is not taken for points unless
that is said.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from gwtools import _check_spaces
from gwtools._array import NumpyArray
from gwtools._check import of_file, unreadable
from gwtools.files.arrays import read_array
from gwtools.files.contents import decode, read_bytes
from gwtools.files.graphs import read_edges, read_graphml
from gwtools.files.labels import Hints, is_counting
from gwtools.files.names import order_by_names
from gwtools.files.tables import Table, read_table
from gwtools.plans import Plan
from gwtools.spaces import DenseSpace, GraphSpace, PointCloud, Space

# Endings of the formats, in lower case; any of them may have .gz behind.
TABLES = (".csv", ".tsv", ".txt", ".dat")
ARRAYS = (".npy", ".npz")
GRAPHS = (".edges", ".edgelist", ".graphml")


@dataclass(frozen=True, eq=False)
class Named:
    """A space, and what its atoms are called.

    ``names`` are its nodes, the names of the rows, or positions from 0.
    """

    space: Space
    names: Sequence[Any]


def read_space(
    path: Path,
    holds: str | None = None,
    *,
    metric: str = "euclidean",
    header: bool | None = None,
    index: bool | None = None,
    length: str | None = None,
    side: str | None = None,
) -> Named:
    r"""Read a file into a space with uniform weights.

    Parameters
    ----------
    path : Path
        A table (``.csv``, ``.tsv``, ``.txt``, ``.dat``), an array (``.npy``, or
        ``.npz`` of one array), a list of edges (``.edges``, ``.edgelist``) or
        ``.graphml``; any of them compressed, with ``.gz`` behind.
    holds : {"points", "distances", "edges"}, optional
        What a table or an array means: points, one a row, unless it is said or the
        numbers look like a matrix of distances.
    metric : {"euclidean", "sqeuclidean"}
        Between points.
    header, index : bool, optional
        Whether the first line and the first column of a table are names; found out by
        default, see :mod:`gwtools.files.labels`.
    length : str, optional
        Attribute of GraphML's edges that is their length, or "none"; see
        :func:`gwtools.files.graphs.read_graphml`.
    side : {"x", "y"}, optional
        For errors, which file ``holds`` is said of alone; None where of both.

    Returns
    -------
    Named
        The space, and what its atoms are called.

    Raises
    ------
    ValueError
        If the file cannot be read, or only by guessing; in one sentence that names the
        file and, where there is one, the line.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = pathlib.Path(folder.name, "points.csv")
    >>> _ = path.write_text("who;height\nanna;1,75\nben;1,5\n")
    >>> named = read_space(path)
    >>> named.space.points.tolist(), list(named.names)
    ([[1.75], [1.5]], ['anna', 'ben'])
    >>> folder.cleanup()
    """
    meaning = meaning_of(path, holds, side)
    data = read_bytes(path)
    # 1. Graphs, whose nodes have names.
    if meaning == "edges":
        graph = _graph(data, path, header, length)
        return Named(graph, graph.nodes)

    # 2. Numbers, whose rows may have names.
    hints = Hints(header, index, holds=holds)
    table = _table(data, path, hints)
    if meaning == "distances":
        dense = _dense(table.values, path, side)
        return _named(dense, table)
    # Taken for points, distances would give a result that looks sound and is wrong.
    if holds is None:
        _require_no_distances(table.values, path)
    cloud = PointCloud(table.values, metric=metric)
    return _named(cloud, table)


def meaning_of(
    path: Path,
    holds: str | None = None,
    side: str | None = None,
) -> str:
    """Return what a file is read as, from its name and what is said of it alone.

    Parameters
    ----------
    path : Path
        The file, which need not exist.
    holds : {"points", "distances", "edges"}, optional
        What is said of it.
    side : {"x", "y"}, optional
        For errors, which file ``holds`` is said of alone; None where of both.

    Returns
    -------
    {"points", "distances", "edges"}
        Points unless its name or ``holds`` says otherwise.

    Raises
    ------
    ValueError
        If its ending is that of no format, or of one that cannot hold this.
    """
    suffix = _suffix(path)
    known = TABLES + ARRAYS + GRAPHS
    if suffix not in known:
        ends = ", ".join(known)
        received = f"ends in {suffix!r}" if suffix else "has no such ending"
        raise unreadable(
            str(path),
            f"end in {ends}, or one of these and .gz",
            received,
            "save it in one of these formats",
        )
    option = f"--{side}-holds {holds}" if side else f"--{holds}"
    if suffix in GRAPHS and holds in ("points", "distances"):
        if side:
            # To leave the option out is not enough where another speaks of both files.
            remedy = f"say --{side}-holds edges instead"
        else:
            remedy = (
                f"say --x-holds {holds} or --y-holds {holds} of the other file alone"
            )
        raise unreadable(
            str(path),
            "be read as a graph, by its name",
            f"{option} is given",
            remedy,
        )
    if suffix in ARRAYS and holds == "edges":
        raise unreadable(
            str(path),
            "hold points or distances, by its name",
            f"{option} is given",
            "write the edges as text, two names of nodes and a length on every line",
        )
    if suffix in GRAPHS:
        return "edges"
    return holds or "points"


def is_text(path: Path) -> bool:
    """Tell whether a file may have a first line of names."""
    return _suffix(path) in (*TABLES, ".edges", ".edgelist")


def is_graphml(path: Path) -> bool:
    """Tell whether the edges of a file may have attributes."""
    return _suffix(path) == ".graphml"


def is_table(path: Path, meaning: str) -> bool:
    """Tell whether a file, read as ``meaning``, may have a first column of names."""
    return _suffix(path) in TABLES and meaning != "edges"


def _suffix(path: Path) -> str:
    """Return the ending that says the format, in lower case and without ``.gz``."""
    # Names may have points in them: the last ending counts.
    suffixes = list(map(str.lower, path.suffixes))
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _graph(
    data: bytes,
    path: Path,
    header: bool | None,
    length: str | None,
) -> GraphSpace:
    """Read the content of a file as a graph."""
    if is_graphml(path):
        return read_graphml(data, str(path), length)
    text = decode(data, path)
    return read_edges(text, str(path), header)


def _table(data: bytes, path: Path, hints: Hints) -> Table:
    """Read the content of a file as numbers: of an array, or of a table in a text."""
    if _suffix(path) in TABLES:
        text = decode(data, path)
        return read_table(text, str(path), hints)
    values = read_array(data, path)
    return Table(values, None)


def _named(space: Space, table: Table) -> Named:
    """Return a space with the names of the rows, or positions where there are none."""
    names = table.names
    # Names that count from 0 in order are positions, which are numbers in results.
    if names is None or is_counting(names):
        return Named(space, range(space.size))
    return Named(space, names)


def _dense(values: NumpyArray, path: Path, side: str | None) -> DenseSpace:
    """Return the space of a matrix of distances; ``side`` is that of `meaning_of`."""
    n, m = values.shape
    if n != m:
        remedy = "leave --distances out if these are points"
        if side:
            remedy = f"say --{side}-holds points if these are points"
        # SciPy's pdist gives the distances above the diagonal in one row.
        if m == 1:
            remedy += ", or save scipy.spatial.distance.squareform of a condensed list"
        raise unreadable(
            str(path),
            "hold a square matrix of distances",
            f"has {n} rows of {m} numbers",
            remedy,
        )
    # Other requirements are those of the space, which does not know the file.
    with of_file(str(path)):
        return DenseSpace(values)


def _require_no_distances(values: NumpyArray, path: Path) -> None:
    """Require points that do not look like a matrix of distances."""
    if not _looks_like_distances(values):
        return
    n = len(values)
    raise unreadable(
        str(path),
        "say whether it holds points or distances",
        f"its {n} rows are a symmetric matrix, as distances between {n} atoms are",
        "pass --distances if it is one, or --points if these are coordinates",
    )


def _looks_like_distances(values: NumpyArray) -> bool:
    """Tell whether numbers are a symmetric matrix between several atoms.

    Its diagonal may be any, as that of similarities is.
    """
    n, m = values.shape
    # A single number is a point rather than a matrix of one atom.
    if n != m or n < 2:
        return False
    # Numbers may have been rounded when they were written as text.
    asymmetry = np.abs(values - values.T).max()
    scale = np.abs(values).max()
    return bool(asymmetry <= 1e-6 * scale)


def read_weights(path: Path, named: Named) -> Space:
    """Return the space with the weights of a file.

    Each atom gets the weight beside its name, see :mod:`gwtools.files.names`. Without
    names weights go by the order of the lines.

    Parameters
    ----------
    path : Path
        A table or an array of one column.
    named : Named
        The space, and what its atoms are called.

    Returns
    -------
    Space
        The same space with these weights.

    Raises
    ------
    ValueError
        If the file cannot be read, has other names than the atoms or another number of
        rows, or its numbers are no weights.
    """
    size = named.space.size
    if _suffix(path) not in TABLES + ARRAYS:
        meaning_of(path)  # another ending is no graph either
        raise unreadable(
            str(path),
            "hold a column of weights",
            "is a graph by its name",
            "pass a table or an array",
        )
    data = read_bytes(path)
    # The sizes tell a title or a column of names from the weights.
    hints = Hints(size=size, columns=1, options=False)
    table = _table(data, path, hints)
    n, columns = table.values.shape
    if columns != 1:
        raise unreadable(
            str(path),
            "hold one column of weights",
            f"has {columns} columns",
            "write one weight on every line",
        )
    values = table.values[:, 0]  # (n,)
    # Another number of rows is refused below, whatever their names are.
    if table.names is not None and n == size:
        order = order_by_names(table.names, named.names, str(path))
        values = values[order]
    with of_file(str(path)):
        dtype_of_space = np.empty(0)  # float64 of NumPy, as all spaces from files
        weights = _check_spaces.weights(values, dtype_of_space, size)
    return named.space.with_data(named.space.data, weights)


def require_writable(
    path: Path,
    endings: Iterable[str],
    inputs: Iterable[Path],
) -> None:
    """Require, before any work, a file that can be written.

    Parameters
    ----------
    path : Path
        The file; what it holds stays as it is.
    endings : iterable of str
        Those of the formats that can be written.
    inputs : iterable of Path
        Files that must not be replaced.

    Raises
    ------
    ValueError
        If the file cannot be written, has another ending, or is one of the inputs.
    """
    endings = tuple(endings)  # an iterator could be read once only
    if path.suffix.lower() not in endings:
        ends = " or ".join(endings)
        raise unreadable(
            str(path),
            f"end in {ends}",
            f"ends in {path.suffix!r}",
            "choose one of these formats by the ending",
        )
    # Two names may lead to one file.
    target = path.resolve()
    for other in inputs:
        if other.resolve() == target:
            raise unreadable(
                str(path),
                "be another file than those given",
                "is one of them",
                "choose another name",
            )
    # Opening tells more surely than rights do. A file that it creates is removed, for
    # the work may still fail.
    existed = path.exists()
    try:
        path.open("ab").close()  # changes nothing in a file that exists
    except OSError as error:
        reason = error.strerror or error
        raise unreadable(
            str(path),
            "be a file that can be written",
            f"it cannot ({reason})",
            "choose another name or make the folder first",
        ) from error
    if not existed:
        path.unlink()


def write_plan(
    path: Path,
    plan: Plan,
    names: tuple[Sequence[Any], Sequence[Any]],
) -> None:
    """Write a plan.

    Parameters
    ----------
    path : Path
        ``.npy`` for its matrix (n, m), ``.npz`` for a sparse matrix of SciPy, ``.csv``
        for a line ``x,y,mass`` of every mass.
    plan : Plan
        The plan.
    names : (sequence, sequence)
        What the atoms of x and y are called.
    """
    suffix = path.suffix.lower()
    if suffix == ".csv":
        _write_masses(path, plan, names)
        return
    with path.open("wb") as file:
        if suffix == ".npy":
            np.save(file, plan.dense())
        else:
            scipy.sparse.save_npz(file, plan.sparse().tocsr())


def _write_masses(
    path: Path,
    plan: Plan,
    names: tuple[Sequence[Any], Sequence[Any]],
) -> None:
    """Write a line for every mass, in the order of x and then of y."""
    sparse = plan.sparse().tocsr()
    sparse.sort_indices()  # which CSR matrices need not be
    found = sparse.tocoo()
    rows = found.row.tolist()
    cols = found.col.tolist()
    masses = found.data.tolist()
    x, y = names
    # A generator, for the list of lines would take many times the memory of the plan.
    lines = ((x[i], y[j], mass) for i, j, mass in zip(rows, cols, masses, strict=True))
    write_rows(path, ("x", "y", "mass"), lines)


def write_rows(
    path: Path,
    titles: Sequence[str],
    rows: Iterable[Sequence[Any]],
) -> None:
    """Write a table of text, with all the digits of its numbers.

    Parameters
    ----------
    path : Path
        The file, which is replaced.
    titles : sequence of str
        The first line.
    rows : iterable of sequences
        Cells of the other lines.
    """
    # Ends of lines, those within names too, are written as they are on every system.
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(titles)
        writer.writerows(rows)
