"""Rejects what no file of a saved result can be or hold: paths, names, arrays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gwtools import _array, _words
from gwtools._check import unreadable

# What JSON gives back as it was; tuples of these too.
_PLAIN = (str, int, float, bool, type(None))


def path(value: Any) -> Path:
    """Require the name of a file; what is there already must be a file."""
    if not isinstance(value, str | os.PathLike):
        received = _words.shown(value)
        raise TypeError(
            f"path must be the name of a file, but is {received}: "
            "pass a str or a pathlib.Path."
        )
    # A link stays, and leads to the new file.
    found = Path(value).resolve()
    if found.exists() and not found.is_file():
        what = "is a folder" if found.is_dir() else "is none"
        raise unreadable(str(value), "be a file", what, "choose the name of a file")
    return found


def names(value: Any) -> None:
    """Require names of atoms that JSON gives back as they were."""
    for side, of_side in zip("xy", value, strict=True):
        if isinstance(of_side, range):
            continue
        if not isinstance(of_side, list | tuple):
            received = _words.shown(of_side)
            raise TypeError(
                f"names of the atoms of {side} must be a list or a tuple, but are "
                f"{received}: replace them with dataclasses.replace(result, names=…)."
            )
        for name in of_side:
            if not _is_plain(name):
                received = _words.shown(name)
                raise TypeError(
                    f"names of the atoms of {side} must be texts, Python's numbers or "
                    f"tuples of these to be saved, but one is of type "
                    f"{type(name).__name__} ({received}): replace them with "
                    "dataclasses.replace(result, names=…)."
                )


def _is_plain(name: Any) -> bool:
    """Tell whether a name is of a type that JSON knows, and of no type derived."""
    if type(name) is tuple:
        return all(map(_is_plain, name))
    return type(name) in _PLAIN


def like(value: Any) -> None:
    """Require an array of floating-point numbers, or None."""
    if value is None:
        return
    is_array = _array.is_array(value)
    if is_array and _array.is_floating(value):
        return
    received = f"has dtype {value.dtype}" if is_array else f"is {_words.shown(value)}"
    raise TypeError(
        f"like must be an array of floating-point numbers, but {received}: "
        "pass an array of the library, dtype and device that the result shall have."
    )
