"""Saved results: one archive of NumPy without pickles, written whole or not at all.

The entry "result.json" holds the format's version and all fields of the result, in
JSON. A text, a truth value, an integer, a finite number and null stand for themselves.
Everything else is an object of one key, which says what it is: an array by the name of
its entry, a member of an enumeration by its name, a record by its fields.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast
from uuid import uuid4

import numpy as np

from gwtools import _array, _check_saved
from gwtools._array import Array, NumpyArray
from gwtools._check import unreadable
from gwtools.branch_proofs import BranchProof
from gwtools.history import Step
from gwtools.plans import DensePlan, SparsePlan
from gwtools.proofs import Proof
from gwtools.start_records import Start, Starts

_ENTRY = "result.json"
_FORMAT = "version of gwtools' results"
_VERSION = 1

# Classes that a field may hold: enumerations, records that may have arrays and records
# of Python's numbers. A field of another class needs its class here, or registered.
_ENUMERATIONS: dict[str, type[Enum]] = {}
_OF_ARRAYS: dict[str, type[Any]] = {
    "BranchProof": BranchProof,
    "DensePlan": DensePlan,
    "Proof": Proof,
    "SparsePlan": SparsePlan,
}
_OF_NUMBERS: dict[str, type[Any]] = {
    "Start": Start,
    "Starts": Starts,
    "Step": Step,
}

# What NumPy and zipfile raise for files that are cut off or are no archives, and what a
# wrong content leads to.
_FAULTS = (
    AttributeError,
    EOFError,
    KeyError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)

R = TypeVar("R")
Json = Any


def register(*kinds: type[Any]) -> None:
    """Let fields hold further classes: enumerations, or records that may have arrays.

    For classes of modules that save by this one.
    """
    for kind in kinds:
        known = _ENUMERATIONS if issubclass(kind, Enum) else _OF_ARRAYS
        known[kind.__name__] = kind


def write(path: Any, result: Any) -> None:
    """Write a result, or a certificate alone, to a file.

    Parameters
    ----------
    path : str or path
        The file.
    result : GWResult
        A dataclass whose fields are of the classes above.

    Raises
    ------
    TypeError
        If the path is no path, or a name of an atom is nothing that JSON holds.
    ValueError
        If the file cannot be written, or is a directory.
    """
    target = _check_saved.path(path)
    names = getattr(result, "names", None)
    if names is not None:
        _check_saved.names(names)
    arrays: dict[str, NumpyArray] = {}
    encoded = {}
    # Not by ``getattr``: a fused objective has no distance to read.
    values = vars(result)
    for field in fields(result):
        value = values[field.name]
        encoded[field.name] = _encoded(value, field.name, arrays)
    kind = type(result).__name__
    document = {_FORMAT: _VERSION, "class": kind, "fields": encoded}
    text = json.dumps(document, allow_nan=False)
    arrays[_ENTRY] = np.frombuffer(text.encode(), dtype=np.uint8)
    with replacing(target) as file:
        np.savez(file, **cast(Any, arrays))


def read(path: Any, kind: type[R], like: Any = None) -> R:
    """Read a result from a file.

    Parameters
    ----------
    path : str or path
        The file.
    kind : class
        The dataclass of the result. Fields that the file lacks get their defaults, and
        those that the class lacks are left out.
    like : array or None
        An array whose library, dtype and device all arrays get; None for NumPy's, as
        they were saved.

    Returns
    -------
    kind
        The result.

    Raises
    ------
    TypeError
        If the path is none, or ``like`` no array of floating-point numbers.
    ValueError
        If the file cannot be read, is no saved result, or is of a newer version.
    """
    source = _check_saved.path(path)
    _check_saved.like(like)
    arrays = _arrays_of(source)
    with _refusing(source):
        document = json.loads(arrays[_ENTRY].tobytes())
        version = int(document[_FORMAT])
        saved = dict(document["fields"])
        held = str(document.get("class", "GWResult"))
    if held != kind.__name__:
        raise unreadable(
            str(source),
            f"hold a {kind.__name__}",
            f"holds a {held}",
            f"read it by gwtools.{held}.load",
        )
    if version > _VERSION:
        raise unreadable(
            str(source),
            f"be saved in version {_VERSION} of its format, or in one before",
            f"is in version {version}",
            "read it by a newer gwtools",
        )
    with _refusing(source):
        values = {}
        for field in fields(cast(Any, kind)):
            if field.name in saved:
                values[field.name] = _decoded(saved[field.name], arrays, like)
        return kind(**values)


def _encoded(value: Any, name: str, arrays: dict[str, NumpyArray]) -> Json:
    """Return a value as JSON; its arrays are added under names that begin with its."""
    if _array.is_array(value):
        arrays[name] = _array.to_numpy(value)
        # NumPy's scalars are saved as arrays without axes.
        tag = "scalar" if isinstance(value, np.generic) else "array"
        return {tag: name}
    kind = type(value).__name__
    if kind in _OF_ARRAYS:
        encoded = {}
        for key, part in _parts(value).items():
            # Numbers of a record are Python's, also where they were computed in NumPy.
            part = part.item() if isinstance(part, np.generic) else part
            encoded[key] = _encoded(part, f"{name}.{key}", arrays)
        return {kind: encoded}
    if isinstance(value, dict):
        items = value.items()
        return {"dict": {k: _encoded(v, f"{name}.{k}", arrays) for k, v in items}}
    if isinstance(value, tuple) and kind not in _OF_NUMBERS:
        entries = enumerate(value)
        return {"tuple": [_encoded(v, f"{name}.{i}", arrays) for i, v in entries]}
    return _plain(value)


def _plain(value: Any) -> Json:
    """Return a value without arrays as JSON."""
    if isinstance(value, np.generic):
        value = value.item()
    kind = type(value).__name__
    if kind in _ENUMERATIONS:
        return {kind: value.name}
    if kind in _OF_NUMBERS:
        return {kind: {k: _plain(v) for k, v in _parts(value).items()}}
    if isinstance(value, range):
        return {"range": [value.start, value.stop, value.step]}
    if isinstance(value, tuple | list):
        return {kind: [_plain(entry) for entry in value]}
    if isinstance(value, dict):
        return {"dict": {key: _plain(entry) for key, entry in value.items()}}
    # JSON has no word for these.
    if isinstance(value, float) and not np.isfinite(value):
        return {"float": repr(value)}
    return value


def _parts(record: Any) -> dict[str, Any]:
    """Return the fields of a dataclass or a named tuple by their names."""
    if isinstance(record, tuple):
        named = cast(Any, record)
        return dict(named._asdict())
    return {field.name: getattr(record, field.name) for field in fields(record)}


def _decoded(value: Json, arrays: dict[str, NumpyArray], like: Any) -> Any:
    """Return the value that JSON and arrays stand for."""
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "array":
        return _like(arrays[content], like)
    if kind == "scalar":
        return _like(arrays[content], like)[()]
    if kind == "float":
        return float(content)
    if kind == "range":
        return range(*content)
    if kind in _ENUMERATIONS:
        return _ENUMERATIONS[kind][content]
    if kind in ("tuple", "list"):
        entries = [_decoded(entry, arrays, like) for entry in content]
        return tuple(entries) if kind == "tuple" else entries
    if kind == "Proof":
        return _proof(content, arrays, like)
    parts = {name: _decoded(entry, arrays, like) for name, entry in content.items()}
    if kind == "dict":
        return parts
    return (_OF_ARRAYS | _OF_NUMBERS)[kind](**parts)


def _proof(content: dict[str, Json], arrays: dict[str, NumpyArray], like: Any) -> Proof:
    """Return a proof: its plan alone is the reader's, all else is read as NumPy's."""
    parts = {}
    for name, entry in content.items():
        parts[name] = _decoded(entry, arrays, like if name == "plan" else None)
    return Proof(**parts)


def _like(values: NumpyArray, like: Any) -> Array:
    """Return an array in the library and dtype that are asked for."""
    return values if like is None else _array.from_numpy(values, like)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Refuse a file whose content causes an error."""
    try:
        yield
    except _FAULTS as error:
        raise unreadable(
            str(path),
            "be a result that GWResult.save has written",
            "is not, or not whole",
            "choose another file",
        ) from error


def _arrays_of(path: Path) -> dict[str, NumpyArray]:
    """Read all arrays of an archive."""
    try:
        file = path.open("rb")
    except OSError as error:
        reason = error.strerror or error
        raise unreadable(
            str(path),
            "be a file that can be read",
            f"it cannot ({reason})",
            "check the name and its rights",
        ) from error
    with _refusing(path), file, np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a new file beside another one, whose place it takes once it is whole.

    Parameters
    ----------
    path : Path
        The file that is there as a whole afterwards, or as it was before.

    Raises
    ------
    ValueError
        If it cannot be written.
    """
    beside = path.with_name(f".{uuid4().hex}.tmp")
    try:
        with beside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise unreadable(
            str(path),
            "be a file that can be written",
            f"it cannot ({reason})",
            "choose another name or make the folder first",
        ) from error
    finally:
        # Nothing is left of it where it took its place.
        beside.unlink(missing_ok=True)
