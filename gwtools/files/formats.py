"""Spaces from files and plans into files: which format a file has by its name, and what its numbers mean.

Numbers become float64, exactly: integers and booleans of ``.npy`` too, since a file has
no other way to say that they are meant as numbers. A table or array that looks like a
matrix of all pairs is not taken for points unless that is said.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from gwtools import _check_spaces
from gwtools._array import NumpyArray
from gwtools._check import of_file, unreadable
from gwtools.files.graphs import first_sentence, read_edges, read_graphml
from gwtools.files.tables import Hints, Table, read_table
from gwtools.plans import Plan
from gwtools.spaces import DenseSpace, PointCloud, Space

TABLES = (".csv", ".tsv", ".txt", ".dat")
ARRAYS = (".npy", ".npz")
GRAPHS = (".edges", ".edgelist", ".graphml")
_BYTE_ORDER_MARKS = (  # those of UTF-32 start like those of UTF-16
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True, eq=False)
class Named:
    """A space, and what its atoms are called: nodes, the names of rows, or positions from 0."""

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
        numbers look like a matrix of all pairs.
    metric : {"euclidean", "sqeuclidean"}
        Between points.
    header, index : bool, optional
        Whether the first line and the first column of a table are names; found out by
        default, see :mod:`gwtools.files.tables`.
    length : str, optional
        Attribute of GraphML's edges that is their length, or "none"; see
        :func:`gwtools.files.graphs.read_graphml`.

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
    meaning, data, suffix = meaning_of(path, holds), _bytes(path), _suffix(path)
    if meaning == "edges":
        space = (
            read_graphml(data, str(path), length)
            if suffix == ".graphml"
            else read_edges(_text(data, path), str(path), header)
        )
        return Named(space, space.nodes)
    table = _table(path, data, Hints(header, index, square=meaning == "distances"))
    if meaning == "distances":
        return _named(_dense(table.values, path), table)
    if holds is None and _looks_like_pairs(table.values):
        n, remedy = (
            len(table.values),
            "pass --distances if it is one, or --points if these are coordinates",
        )
        received = (
            f"its {n} rows are a symmetric matrix, as distances between {n} atoms are"
        )
        raise unreadable(
            str(path), "say whether it holds points or distances", received, remedy
        )
    return _named(PointCloud(table.values, metric=metric), table)


def meaning_of(path: Path, holds: str | None = None) -> str:
    """Return what a file is read as, "points", "distances" or "edges", from its name and what is said of it alone."""
    suffix = _suffix(path)
    if suffix not in TABLES + ARRAYS + GRAPHS:
        ends = ", ".join(TABLES + ARRAYS + GRAPHS)
        received = f"ends in {suffix!r}" if suffix else "has no such ending"
        raise unreadable(
            str(path),
            f"end in {ends}, or one of these and .gz",
            received,
            "save it in one of these formats",
        )
    if suffix in GRAPHS and holds in ("points", "distances"):
        received, remedy = (
            f"--{holds} is given",
            f"say --x-holds {holds} or --y-holds {holds} of the other file alone",
        )
        raise unreadable(str(path), "be read as a graph, by its name", received, remedy)
    if suffix in ARRAYS and holds == "edges":
        remedy = (
            "write the edges as text, two names of nodes and a length on every line"
        )
        raise unreadable(
            str(path),
            "hold points or distances, by its name",
            "--edges is given",
            remedy,
        )
    return "edges" if suffix in GRAPHS else holds or "points"


def is_text(path: Path) -> bool:
    """Tell whether a file may have a first line of names."""
    return _suffix(path) in (*TABLES, ".edges", ".edgelist")


def is_graphml(path: Path) -> bool:
    """Tell whether the edges of a file may have attributes."""
    return _suffix(path) == ".graphml"


def is_table(path: Path, meaning: str) -> bool:
    """Tell whether a file, read as ``meaning``, may have a first column of names."""
    return _suffix(path) in TABLES and meaning != "edges"


def read_weights(path: Path, named: Named) -> Space:
    """Return the space with the weights of a file: one column, and by the names of the atoms where both have names.

    Raises
    ------
    ValueError
        If the file cannot be read, has other names or another number of rows than the
        space, or its numbers are no weights.
    """
    size = named.space.size
    if _suffix(path) not in TABLES + ARRAYS:
        meaning_of(path)
        raise unreadable(
            str(path),
            "hold a column of weights",
            "is a graph by its name",
            "pass a table or an array",
        )
    table = _table(path, _bytes(path), Hints(size=size, columns=1))
    n, columns = table.values.shape
    if columns != 1:
        received = f"has {columns} columns"
        raise unreadable(
            str(path),
            "hold one column of weights",
            received,
            "write one weight on every line",
        )
    values = table.values[:, 0]
    if table.names is not None and not isinstance(named.names, range) and n == size:
        values = values[_order(table.names, [str(name) for name in named.names], path)]
    with of_file(str(path)):
        weights = _check_spaces.weights(values, np.empty(0), size)
    return named.space.with_data(named.space.data, weights)


def _order(found: list[str], wanted: list[str], path: Path) -> list[int]:
    """Return where each wanted name is found; names that repeat must be in the same order."""
    if found == wanted:
        return list(range(len(found)))
    place = {name: i for i, name in enumerate(found)}
    other = next((name for name in wanted if name not in place), None)
    if other is not None:
        received, remedy = (
            f"has none for {other!r}",
            "use the names of the atoms, or remove the names",
        )
        raise unreadable(
            str(path), "hold a weight for every atom by its name", received, remedy
        )
    if len(place) < len(found):
        received, remedy = (
            "names repeat in another order",
            "bring the lines into the order of the atoms",
        )
        raise unreadable(
            str(path), "hold weights that can be told apart", received, remedy
        )
    return [place[name] for name in wanted]


def _named(space: Space, table: Table) -> Named:
    return Named(space, range(space.size) if table.names is None else table.names)


def _dense(values: NumpyArray, path: Path) -> DenseSpace:
    n, m = values.shape
    if n != m:
        received = f"has {n} rows of {m} numbers"
        remedy = "leave --distances out if these are points"
        if m == 1:
            remedy += ", or save scipy.spatial.distance.squareform of a condensed list"
        raise unreadable(
            str(path), "hold a square matrix of distances", received, remedy
        )
    with of_file(str(path)):
        return DenseSpace(values)


def _looks_like_pairs(values: NumpyArray) -> bool:
    """Tell whether numbers are square and symmetric up to what rounding of a text leaves, with more than one atom."""
    n, m = values.shape
    return n == m > 1 and bool(
        np.abs(values - values.T).max() <= 1e-6 * np.abs(values).max()
    )


def _suffix(path: Path) -> str:
    """Return the ending that says the format, in lower case, without that of a compression."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return next(
        iter(suffixes[::-1][1:] if suffixes[-1:] == [".gz"] else suffixes[::-1]), ""
    )


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        received = f"it cannot ({error.strerror or error})"
        raise unreadable(
            str(path),
            "be a file that can be read",
            received,
            "check the name and its rights",
        ) from error
    if path.suffix.lower() != ".gz" and not data.startswith(b"\x1f\x8b"):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(
            str(path),
            "be compressed by gzip",
            f"is not, or not whole ({error})",
            "compress it again",
        ) from error


def _text(data: bytes, path: Path) -> str:
    """Decode by the byte-order mark, else as UTF-8, and as Latin-1 what is none."""
    mark, encoding = next(
        ((m, e) for m, e in _BYTE_ORDER_MARKS if data.startswith(m)), (b"", "utf-8")
    )
    try:
        text = data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        if mark:
            received = f"byte {error.start + len(mark)} is none of its own"
            raise unreadable(
                str(path),
                f"be {encoding} text, as its mark says",
                received,
                "save it again as UTF-8",
            ) from error
        text = data.decode("latin-1")
    if "\0" in text:
        received = "holds null characters"
        raise unreadable(
            str(path),
            "hold text",
            received,
            "save it as UTF-8 text, or give it the ending of its format",
        )
    return text


def _table(path: Path, data: bytes, hints: Hints) -> Table:
    """Read a file of numbers: an array, or a table in a text."""
    if _suffix(path) in TABLES:
        return read_table(_text(data, path), str(path), hints)
    return Table(_numbers(_array(data, path), path), None)


def _array(data: bytes, path: Path) -> NumpyArray:
    try:
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        if len(loaded.files) == 1:
            return np.asarray(loaded[loaded.files[0]])
    except (
        ValueError,
        EOFError,
        OSError,
        KeyError,
        zlib.error,
        zipfile.BadZipFile,
    ) as error:
        received = f"it cannot be read as one ({first_sentence(error)})"
        remedy = "save it with numpy.save as an array of numbers"
        raise unreadable(str(path), "hold a NumPy array", received, remedy) from error
    received = f"holds {len(loaded.files)} ({', '.join(loaded.files[:5])})"
    raise unreadable(
        str(path),
        "hold one array",
        received,
        "save the one that is meant with numpy.save",
    )


def _numbers(array: NumpyArray, path: Path) -> NumpyArray:
    """Return an array as float64 numbers of shape (n, d), each the same number as before."""
    if array.dtype.kind not in "biuf":
        received = f"has dtype {array.dtype}"
        raise unreadable(
            str(path),
            "hold real numbers",
            received,
            "convert it with .astype(float) before saving it",
        )
    if array.ndim not in (1, 2) or array.size == 0:
        received = f"has shape {array.shape}"
        raise unreadable(
            str(path),
            "hold one row or number for each atom",
            received,
            "save an array of shape (n, d) or (n,)",
        )
    with np.errstate(over="ignore"):
        values = array.astype(np.float64)
    bad = np.argwhere(~np.isfinite(values))
    if bad.size and not np.isfinite(array[tuple(bad[0])]):
        place, received = (
            f"{path}, entry {bad[0].tolist()}",
            f"is {values[tuple(bad[0])]:g}",
        )
        raise unreadable(
            place, "be finite", received, "remove that row or replace the value"
        )
    if not _is_exact(array, values):
        received = f"has numbers of dtype {array.dtype} between those"
        raise unreadable(
            str(path),
            "hold numbers that float64 can hold",
            received,
            "round it with .astype(float) before saving it",
        )
    return np.ascontiguousarray(values[:, None] if values.ndim == 1 else values)


def _is_exact(array: NumpyArray, values: NumpyArray) -> bool:
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        large = np.abs(values) >= 2.0**53
        return all(
            int(a) == int(v)
            for a, v in zip(array[large].tolist(), values[large].tolist(), strict=True)
        )
    return array.dtype.kind != "f" or bool(np.all(values.astype(array.dtype) == array))


def require_writable(
    path: Path, endings: Iterable[str], inputs: Iterable[Path]
) -> None:
    """Require, before any work, that a file can be written, has one of the endings, and is none of those that are read."""
    endings = tuple(endings)
    if path.suffix.lower() not in endings:
        remedy = "choose one of these formats by the ending"
        raise unreadable(
            str(path),
            f"end in {' or '.join(endings)}",
            f"ends in {path.suffix!r}",
            remedy,
        )
    if any(path.resolve() == other.resolve() for other in inputs):
        raise unreadable(
            str(path),
            "be another file than those given",
            "is one of them",
            "choose another name",
        )
    existed = path.exists()
    try:
        path.open("ab").close()
    except OSError as error:
        remedy = "choose another name or make the folder first"
        raise unreadable(
            str(path),
            "be a file that can be written",
            f"it cannot ({error.strerror or error})",
            remedy,
        ) from error
    if not existed:
        path.unlink()


def write_plan(
    path: Path, plan: Plan, names: tuple[Sequence[Any], Sequence[Any]]
) -> None:
    """Write a plan: ``.npy`` its matrix (n, m), ``.npz`` a sparse SciPy matrix, ``.csv`` a line ``x,y,mass`` for every mass."""
    suffix = path.suffix.lower()
    if suffix == ".csv":
        sparse = plan.sparse().tocsr()
        sparse.sort_indices()
        found = sparse.tocoo()
        x, y = names
        triples = zip(
            found.row.tolist(), found.col.tolist(), found.data.tolist(), strict=True
        )
        write_rows(
            path, ("x", "y", "mass"), ((x[i], y[j], mass) for i, j, mass in triples)
        )
        return
    with path.open("wb") as file:
        if suffix == ".npy":
            np.save(file, plan.dense())
        else:
            scipy.sparse.save_npz(file, plan.sparse().tocsr())


def write_rows(
    path: Path, titles: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Write lines of cells under their titles; numbers with all their digits."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(titles)
        writer.writerows(rows)
