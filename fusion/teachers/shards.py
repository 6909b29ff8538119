"""The files of a teacher store: what is in a shard, what its manifest says, and how both are written and read.

A shard is a safetensors file of consecutive examples; a manifest is JSON. Both hold
checksums, appear under their names only when they are whole, and are the same bytes
whenever they say the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

FORMAT = 1
KEY_BYTES, TEXT_BYTES = 16, 8
_TOKEN_DTYPES = {
    "values": "F16",
    "ids": "I32",
    "logsumexp": "F32",
    "nll": "F16",
    "lengths": "U16",
}
_STATISTICS = {"mean": "F16", "std": "F16"}
_EXAMPLE_DTYPES = {"keys": "U8", "texts": "U8", "counts": "I32"}
_NUMPY = {
    "F16": np.float16,
    "F32": np.float32,
    "I32": np.int32,
    "U16": np.uint16,
    "U8": np.uint8,
}


@dataclass(frozen=True, eq=False)
class TeacherRows:
    """What a teacher says at the n completion tokens of one example.

    Attributes
    ----------
    values : (n, k) float16 array
        The k largest logits that predict each token, descending; log-probabilities
        where only those are known.
    ids : (n, k) int32 array
        Their tokens in the teacher's vocabulary; -1 where unknown.
    logsumexp : (n,) float32 array
        Over the full row; 0 for log-probabilities.
    mean, std : (n,) float16 array or None
        Over the full row of logits; None where only log-probabilities are known.
    nll : (n,) float16 array
        Negative log-likelihood of the token itself, in nats.
    ends : (n,) int32 array
        Byte of the UTF-8 completion at which each token ends.
    """

    values: NDArray[np.float16]
    ids: NDArray[np.int32]
    logsumexp: NDArray[np.float32]
    mean: NDArray[np.float16] | None
    std: NDArray[np.float16] | None
    nll: NDArray[np.float16]
    ends: NDArray[np.int32]


class Record(NamedTuple):
    """One example of a shard: its key, the sha256 of the text that the teacher read, and the rows."""

    key: str
    digest: str
    rows: TeacherRows


@dataclass(frozen=True)
class Origin:
    """What all rows of a store have in common.

    Attributes
    ----------
    model, tokenizer, template : str
        Fingerprints (sha256) of the teacher; empty where unknown.
    vocabulary : int
        Length of the rows that the top k were taken from.
    k : int
    dtype : str
        What the teacher computed in.
    logits : bool
        False if only log-probabilities are known: standardisations that need more are
        refused.
    data : str
        The sha256 of the examples' keys in their order.
    examples : int
        How many there are.
    shard_size : int
        Examples a shard; the last may have fewer.
    max_length : int or None
        Where texts were cut, in tokens.
    format : int
    """

    model: str
    tokenizer: str
    template: str
    vocabulary: int
    k: int
    dtype: str
    logits: bool
    data: str
    examples: int
    shard_size: int
    max_length: int | None = None
    format: int = FORMAT

    @property
    def digest(self) -> str:
        """The sha256 that every shard of the store carries."""
        return _sha256(asdict(self))

    @property
    def shards(self) -> int:
        """How many shards make the store complete."""
        return -(-self.examples // self.shard_size)


class Shard(NamedTuple):
    """A line of the manifest."""

    number: int
    examples: int
    tokens: int
    sha256: str


def shard_name(index: int) -> str:
    """File name of a shard."""
    return f"shard-{index:05d}.safetensors"


def manifest_name(rank: int) -> str:
    """File name of the manifest that one writer keeps."""
    return f"manifest-{rank}.json"


def write_atomically(path: Path, content: bytes, rank: int) -> None:
    """Write a file that is there whole or not at all, whatever happens in between."""
    partial = path.parent / partial_name(rank)
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def partial_name(rank: int) -> str:
    """File name that a writer uses before a file is whole."""
    return f".partial-{rank}"


def write_manifest(
    path: Path, origin: Origin, shards: Sequence[Shard], rank: int
) -> None:
    """Write what one writer has finished."""
    content = {
        "origin": asdict(origin),
        "shards": [shard._asdict() for shard in sorted(shards)],
    }
    text = json.dumps({**content, "sha256": _sha256(content)}, indent=1)
    write_atomically(path / manifest_name(rank), text.encode() + b"\n", rank)


def read_manifest(file: Path) -> tuple[Origin, list[Shard]]:
    """Read a manifest, or refuse it."""
    try:
        content = json.loads(file.read_bytes())
        found = content.pop("sha256")
        if content["origin"]["format"] != FORMAT:
            raise ValueError(
                f"its format is {content['origin']['format']}, not {FORMAT}"
            )
        if found != _sha256(content):
            raise ValueError("its checksum is another")
        return Origin(**content["origin"]), [
            Shard(**shard) for shard in content["shards"]
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _broken(file, error) from error


def pack(origin: Origin, index: int, records: Sequence[Record]) -> tuple[Shard, bytes]:
    """Make the bytes of a shard and its line in the manifest.

    Raises
    ------
    ValueError
        If a number is not finite, also because it is too large for its type.
    """
    tokens = _TOKEN_DTYPES | (_STATISTICS if origin.logits else {})
    rows = [record.rows for record in records]
    tensors: dict[str, NDArray[Any]] = {
        "keys": _bytes([record.key for record in records], KEY_BYTES),
        "texts": _bytes([record.digest for record in records], TEXT_BYTES),
        "counts": np.array([len(row.ends) for row in rows], dtype=np.int32),
        "lengths": _lengths([row.ends for row in rows]),
    }
    for name in tokens.keys() - tensors.keys():
        with np.errstate(over="ignore"):  # what overflows is refused below
            tensors[name] = np.concatenate([getattr(row, name) for row in rows]).astype(
                _NUMPY[tokens[name]]
            )
        if not np.isfinite(tensors[name]).all():
            raise ValueError(
                f"teacher must give finite {name} that fit into {tensors[name].dtype}, but does not in shard {index}: "
                "check the model's dtype and weights."
            )
    # One entry only: the order of several is not the same from run to run.
    content = save(tensors, metadata={"shard": f"{origin.digest}/{index}"})
    return Shard(
        index,
        len(records),
        len(tensors["lengths"]),
        hashlib.sha256(content).hexdigest(),
    ), content


def open_shard(
    path: Path, origin: Origin, shard: Shard
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int32]]:
    """Verify a shard in full and return its keys, text digests and token counts, or refuse it."""
    file = path / shard_name(shard.number)
    try:
        with file.open("rb") as content:
            if hashlib.file_digest(content, "sha256").hexdigest() != shard.sha256:
                raise ValueError("its checksum is not the manifest's")
        with safe_open(file, framework="numpy") as tensors:
            _check_schema(tensors, origin, shard)
            keys, texts, counts = (tensors.get_tensor(name) for name in _EXAMPLE_DTYPES)
        if (counts < 0).any() or counts.sum() != shard.tokens:
            raise ValueError(
                f"its examples have {counts.sum()} tokens, not {shard.tokens}"
            )
        return keys, texts, counts
    except (OSError, SafetensorError, ValueError) as error:
        raise _broken(file, error) from error


def read_rows(
    path: Path, origin: Origin, index: int, first: int, last: int
) -> TeacherRows:
    """Read the rows of one example from a verified shard."""
    with safe_open(path / shard_name(index), framework="numpy") as tensors:
        names = [*_TOKEN_DTYPES, *(_STATISTICS if origin.logits else [])]
        found: dict[str, Any] = {
            name: tensors.get_slice(name)[first:last] for name in names
        }
    ends = np.cumsum(found.pop("lengths"), dtype=np.int32)
    return TeacherRows(**{"mean": None, "std": None, "ends": ends, **found})


def _check_schema(tensors: Any, origin: Origin, shard: Shard) -> None:
    if (tensors.metadata() or {}).get("shard") != f"{origin.digest}/{shard.number}":
        raise ValueError("it belongs to another store or place")
    wanted = {
        name: (dtype, [shard.examples]) for name, dtype in _EXAMPLE_DTYPES.items()
    }
    wanted |= {
        "keys": ("U8", [shard.examples, KEY_BYTES]),
        "texts": ("U8", [shard.examples, TEXT_BYTES]),
    }
    tokens = _TOKEN_DTYPES | (_STATISTICS if origin.logits else {})
    wanted |= {
        name: (
            dtype,
            [shard.tokens, origin.k] if name in ("values", "ids") else [shard.tokens],
        )
        for name, dtype in tokens.items()
    }
    slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118 (not a dict)
    found = {
        name: (part.get_dtype(), list(part.get_shape()))
        for name, part in slices.items()
    }
    if found != wanted:
        odd = min(
            name
            for name in found.keys() | wanted.keys()
            if found.get(name) != wanted.get(name)
        )
        raise ValueError(f"{odd} is {found.get(odd)}, not {wanted.get(odd)}")


def differing(origin: Origin, other: Origin) -> str | None:
    """Name of the first field in which two origins differ."""
    return next(
        (
            f.name
            for f in fields(Origin)
            if getattr(origin, f.name) != getattr(other, f.name)
        ),
        None,
    )


def _lengths(ends: Sequence[NDArray[np.int32]]) -> NDArray[np.uint16]:
    lengths = np.concatenate([np.diff(each, prepend=0) for each in ends])
    if lengths.min() < 0 or lengths.max() >= 2**16:
        raise ValueError(
            f"tokens must be 0 to 65535 bytes long, but one is {lengths.min() if lengths.min() < 0 else lengths.max()}: "
            "repair the tokenizer or drop that example."
        )
    return lengths.astype(np.uint16)


def _bytes(digests: Sequence[str], length: int) -> NDArray[np.uint8]:
    return np.frombuffer(
        b"".join(bytes.fromhex(d)[:length] for d in digests), dtype=np.uint8
    ).reshape(-1, length)


def _sha256(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(
        json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()


def _broken(file: Path, error: Exception) -> ValueError:
    if isinstance(error, FileNotFoundError):
        return ValueError(
            f"{file} must be as it was written, but is missing: capture again."
        )
    reason = (
        str(error)
        if isinstance(error, ValueError)
        else f"{type(error).__name__}: {error}"
    )
    return ValueError(
        f"{file} must be as it was written, but {reason}: delete it and capture again."
    )
