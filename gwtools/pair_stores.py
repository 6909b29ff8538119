"""Finished batches of a matrix of distances, kept in a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import issparse

from gwtools import _array, _check_pairs
from gwtools._array import NumpyArray
from gwtools.pair_batches import PAIR, Batch
from gwtools.saved_results import replacing
from gwtools.spaces import Space, fields_alone

_FORMAT = 1
_MANIFEST = "manifest.json"


def digest(spaces: Iterable[Space]) -> str:
    """Return a checksum of all that defines spaces, in their order."""
    found = hashlib.sha256()
    for space in spaces:
        found.update(type(space).__name__.encode())
        for value in fields_alone(space).values():
            for part in _parts(value):
                found.update(part)
    return found.hexdigest()


def _parts(value: Any) -> Iterator[bytes]:
    """Yield the bytes of what a space stores: arrays, sparse matrices and words."""
    if issparse(value):
        compressed = value.tocsr()
        for array in (compressed.data, compressed.indices, compressed.indptr):
            yield from _parts(array)
    elif _array.is_array(value):
        values = np.ascontiguousarray(_array.to_numpy(_array.detached(value)))
        yield repr((values.dtype.str, values.shape)).encode()
        yield values.tobytes()
    elif isinstance(value, str):
        yield value.encode()


class PairStore:
    """A folder with a file of each finished batch, and what they are of.

    Files are there whole or not at all, so that whatever an interruption leaves is
    gone on with.

    Parameters
    ----------
    folder : Path
        The folder, which is made.
    work : dict
        What the numbers depend on, as JSON gives it back.

    Raises
    ------
    ValueError
        If the folder holds batches of other work.
    """

    def __init__(self, folder: Path, work: dict[str, Any]) -> None:
        self.folder = folder
        asked = {"format": _FORMAT, **work}
        manifest = folder / _MANIFEST
        if manifest.exists():
            _check_pairs.same_work(_json(manifest), asked, folder)
            return
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(manifest) as file:
            file.write(json.dumps(asked, indent=1).encode())

    def finished(self, batches: Sequence[Batch]) -> dict[int, NumpyArray]:
        """Return what is known of the pairs of each finished batch, by its number."""
        found = {}
        for batch in batches:
            path = self._path(batch)
            if path.exists():
                found[batch.number] = np.load(path, allow_pickle=False)
        return found

    def keep(self, batch: Batch, rows: NumpyArray) -> None:
        """Write what is known of the pairs of a batch."""
        with replacing(self._path(batch)) as file:
            np.save(file, rows.astype(PAIR), allow_pickle=False)

    def _path(self, batch: Batch) -> Path:
        return self.folder / f"batch-{batch.number:06d}.npy"


def _json(path: Path) -> Any:
    """Read a file of JSON; None where it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
