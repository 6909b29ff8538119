"""Arrays in files of NumPy, as float64 numbers that are exactly those of the file.

Integers and booleans become numbers too, since a file has no other way to say that they
are meant as numbers.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np

from gwtools._array import NumpyArray
from gwtools._check import unreadable
from gwtools.files.contents import first_sentence


def read_array(data: bytes, path: Path) -> NumpyArray:
    """Read an array of numbers.

    Parameters
    ----------
    data : bytes
        Content of a ``.npy`` file, or of a ``.npz`` file of one array.
    path : Path
        The file, for errors.

    Returns
    -------
    (n, d) array
        The numbers as float64; d = 1 for an array of one axis.

    Raises
    ------
    ValueError
        If there is not one array of finite real numbers, one or two axes and at least
        one number, or float64 cannot hold them.
    """
    array = _load(data, path)  # of any shape and dtype
    _require_real_numbers(array, path)
    # A finite float128 may become infinite here; _is_exact then refuses it.
    with np.errstate(over="ignore"):
        values = array.astype(np.float64)
    _require_finite(array, values, path)
    if not _is_exact(array, values):
        raise unreadable(
            str(path),
            "hold numbers that float64 can hold",
            f"has numbers of dtype {array.dtype} between those",
            "round it with .astype(float) before saving it",
        )
    if values.ndim == 1:
        values = values[:, None]  # (n, 1)
    return np.ascontiguousarray(values)


def _load(data: bytes, path: Path) -> NumpyArray:
    """Return the one array of a file, as it was saved."""
    # Of other files, and of those cut short, NumPy raises any of these.
    failures = (
        ValueError,
        EOFError,
        OSError,
        KeyError,
        zlib.error,
        zipfile.BadZipFile,
    )
    try:
        # A pickle could run code of whoever wrote the file.
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        names = loaded.files
        if len(names) == 1:
            return np.asarray(loaded[names[0]])
    except failures as error:
        received = f"it cannot be read as one ({first_sentence(error)})"
        raise unreadable(
            str(path),
            "hold a NumPy array",
            received,
            "save it with numpy.save as an array of numbers",
        ) from error
    listed = ", ".join(names[:5])
    raise unreadable(
        str(path),
        "hold one array",
        f"holds {len(names)} ({listed})",
        "save the one that is meant with numpy.save",
    )


def _require_real_numbers(array: NumpyArray, path: Path) -> None:
    """Require real numbers, of one or two axes and at least one."""
    # Booleans, integers without and with sign, and floating-point numbers.
    if array.dtype.kind not in "biuf":
        raise unreadable(
            str(path),
            "hold real numbers",
            f"has dtype {array.dtype}",
            "convert it with .astype(float) before saving it",
        )
    if array.ndim not in (1, 2) or array.size == 0:
        raise unreadable(
            str(path),
            "hold one row or number for each atom",
            f"has shape {array.shape}",
            "save an array of shape (n, d) or (n,)",
        )


def _require_finite(array: NumpyArray, values: NumpyArray, path: Path) -> None:
    """Require finite numbers in the file; ``values`` are these in float64."""
    bad = np.argwhere(~np.isfinite(values))  # (entries, axes)
    if bad.size == 0:
        return
    first = tuple(bad[0])
    # Finite in the file, and beyond the range of float64: _is_exact refuses that.
    if np.isfinite(array[first]):
        return
    entry = bad[0].tolist()
    raise unreadable(
        f"{path}, entry {entry}",
        "be finite",
        f"is {values[first]:g}",
        "remove that row or replace the value",
    )


def _is_exact(array: NumpyArray, values: NumpyArray) -> bool:
    """Tell whether float64 ``values`` are the numbers of ``array``."""
    kind = array.dtype.kind
    if kind in "iu" and array.dtype.itemsize == 8:
        # NumPy would compare in float64; Python's integers are exact.
        large = np.abs(values) >= 2.0**53
        rounded = map(int, values[large].tolist())
        wanted: list[int] = array[large].tolist()
        return list(rounded) == wanted
    if kind == "f":
        back = values.astype(array.dtype)
        return bool(np.all(back == array))
    return True
