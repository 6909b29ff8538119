"""The files of a teacher store: shards of rows and their manifests.

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
# Keys of examples and digests of texts are sha256, cut: with 16 bytes no two examples
# will ever share a key, and 8 tell whether the text of a known example has changed.
KEY_BYTES = 16
TEXT_BYTES = 8

# Tensors with one row for each token, and their types in safetensors' names.
_TOKEN_DTYPES = {
    "values": "F16",
    "ids": "I32",
    "logsumexp": "F32",
    "nll": "F16",
    "lengths": "U16",  # in bytes: shorter than where tokens end
}
_STATISTICS = {"mean": "F16", "std": "F16"}  # of the full row of logits
_NUMPY = {
    "F16": np.float16,
    "F32": np.float32,
    "I32": np.int32,
    "U16": np.uint16,
    "U8": np.uint8,
}

# Type and shape of tensors by name.
_Schema = dict[str, tuple[str, list[int]]]


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
    """One example of a shard."""

    key: str
    digest: str  # sha256 of the text that the teacher read
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
        Logits a token.
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
        Version of the files' layout.
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
        # The quotient rounded up: the last shard may have fewer examples.
        return -(-self.examples // self.shard_size)


class Shard(NamedTuple):
    """A line of the manifest."""

    number: int
    examples: int
    tokens: int
    sha256: str  # of the file


class Contents(NamedTuple):
    """Which examples a shard holds, in the order of their rows."""

    keys: NDArray[np.uint8]  # (examples, KEY_BYTES)
    texts: NDArray[np.uint8]  # (examples, TEXT_BYTES), digests of what was read
    counts: NDArray[np.int32]  # (examples,), in tokens


def shard_name(index: int) -> str:
    """File name of a shard."""
    return f"shard-{index:05d}.safetensors"


def manifest_name(rank: int) -> str:
    """File name of the manifest that one writer keeps."""
    return f"manifest-{rank}.json"


def partial_name(rank: int) -> str:
    """File name that a writer uses before a file is whole."""
    return f".partial-{rank}"


def write_atomically(path: Path, content: bytes, rank: int) -> None:
    """Write a file that is there whole or not at all, whatever happens in between."""
    partial = path.parent / partial_name(rank)
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        # Without this a power cut after the renaming could leave an empty file.
        os.fsync(file.fileno())
    partial.replace(path)


def write_manifest(
    path: Path,
    origin: Origin,
    shards: Sequence[Shard],
    rank: int,
) -> None:
    """Write what one writer has finished."""
    # Sorted, so that the bytes do not depend on the order in which shards were made.
    lines = []
    for shard in sorted(shards):
        lines.append(shard._asdict())
    content: dict[str, Any] = {
        "origin": asdict(origin),
        "shards": lines,
    }
    # The checksum is that of all other entries.
    content["sha256"] = _sha256(content)
    text = json.dumps(content, indent=1) + "\n"
    file = path / manifest_name(rank)
    write_atomically(file, text.encode(), rank)


def read_manifest(file: Path) -> tuple[Origin, list[Shard]]:
    """Read a manifest, or refuse it."""
    try:
        content = json.loads(file.read_bytes())
        checksum = content.pop("sha256")
        # The format comes first: other versions may count the checksum otherwise.
        version = content["origin"]["format"]
        if version != FORMAT:
            raise ValueError(f"its format is {version}, not {FORMAT}")
        if checksum != _sha256(content):
            raise ValueError("its checksum is another")
        origin = Origin(**content["origin"])
        shards = [Shard(**line) for line in content["shards"]]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _broken(file, error) from error
    return origin, shards


def differing(origin: Origin, other: Origin) -> str | None:
    """Name of the first field in which two origins differ."""
    for field in fields(Origin):
        ours = getattr(origin, field.name)
        theirs = getattr(other, field.name)
        if ours != theirs:
            return field.name
    return None


def pack(
    origin: Origin,
    index: int,
    records: Sequence[Record],
) -> tuple[Shard, bytes]:
    """Make the bytes of the shard with number ``index`` and its line in the manifest.

    Raises
    ------
    ValueError
        If a number is not finite, also because it is too large for its type.
    """
    # 1. What there is one of for each example.
    keys = [record.key for record in records]
    digests = [record.digest for record in records]
    rows = [record.rows for record in records]
    counts = []  # in tokens
    lengths = []  # of each example's tokens, in bytes, (n_i,)
    for row in rows:
        counts.append(len(row.ends))
        # The first token of each example starts at byte 0.
        lengths.append(np.diff(row.ends, prepend=0))
    tensors: dict[str, NDArray[Any]] = {
        "keys": _bytes(keys, KEY_BYTES),
        "texts": _bytes(digests, TEXT_BYTES),
        "counts": np.array(counts, dtype=np.int32),
    }
    # 2. What there is one of for each token: that of all examples is joined.
    tensors["lengths"] = _lengths(lengths)
    for name, dtype in _token_dtypes(origin).items():
        if name == "lengths":
            continue
        tensors[name] = _joined(rows, name, dtype, index)
    # 3. The file. One entry only: the order of several is not the same from run to run.
    metadata = {"shard": _place(origin, index)}
    content = save(tensors, metadata=metadata)
    checksum = hashlib.sha256(content)
    shard = Shard(
        number=index,
        examples=len(records),
        tokens=sum(counts),
        sha256=checksum.hexdigest(),
    )
    return shard, content


def open_shard(path: Path, origin: Origin, shard: Shard) -> Contents:
    """Verify a shard in full and say which examples it holds, or refuse it.

    Raises
    ------
    ValueError
        If the file is missing, altered, or not this shard.
    """
    file = path / shard_name(shard.number)
    try:
        # The checksum comes first: a damaged header must not be parsed.
        with file.open("rb") as content:
            checksum = hashlib.file_digest(content, "sha256")
        if checksum.hexdigest() != shard.sha256:
            raise ValueError("its checksum is not the manifest's")
        with safe_open(file, framework="numpy") as tensors:
            _check_schema(tensors, origin, shard)
            found = Contents(
                keys=tensors.get_tensor("keys"),
                texts=tensors.get_tensor("texts"),
                counts=tensors.get_tensor("counts"),
            )
        # Counts say which rows belong to which example.
        tokens = found.counts.sum()
        negative = found.counts < 0
        if negative.any() or tokens != shard.tokens:
            raise ValueError(f"its examples have {tokens} tokens, not {shard.tokens}")
    except (OSError, SafetensorError, ValueError) as error:
        raise _broken(file, error) from error
    return found


def read_rows(
    path: Path,
    origin: Origin,
    index: int,
    first: int,
    last: int,
) -> TeacherRows:
    """Read the rows ``first`` to ``last`` − 1 of a verified shard: one example's."""
    found: dict[str, Any] = {}
    file = path / shard_name(index)
    with safe_open(file, framework="numpy") as tensors:
        for name in _token_dtypes(origin):
            # A slice reads these rows alone from the disk.
            column = tensors.get_slice(name)
            found[name] = column[first:last]
    lengths = found["lengths"]  # (n,), in bytes
    return TeacherRows(
        values=found["values"],
        ids=found["ids"],
        logsumexp=found["logsumexp"],
        mean=found.get("mean"),
        std=found.get("std"),
        nll=found["nll"],
        ends=np.cumsum(lengths, dtype=np.int32),
    )


def _token_dtypes(origin: Origin) -> Mapping[str, str]:
    """Names and types of the tensors that have one row for each token."""
    if origin.logits:
        return _TOKEN_DTYPES | _STATISTICS
    return _TOKEN_DTYPES


def _place(origin: Origin, index: int) -> str:
    """Name a shard's store and number, so that files cannot change places unseen."""
    return f"{origin.digest}/{index}"


def _joined(
    rows: Sequence[TeacherRows],
    name: str,
    dtype: str,
    index: int,
) -> NDArray[Any]:
    """Join one quantity of all examples' tokens; refuse numbers that are not finite."""
    parts = [getattr(row, name) for row in rows]
    # Numbers that overflow become infinite, which is refused below.
    with np.errstate(over="ignore"):
        joined = np.concatenate(parts)  # (tokens,) or (tokens, k)
        joined = joined.astype(_NUMPY[dtype])
    if not np.isfinite(joined).all():
        raise ValueError(
            f"teacher must give finite {name} that fit into {joined.dtype}, "
            f"but does not in shard {index}: check the model's dtype and weights."
        )
    return joined


def _lengths(parts: Sequence[NDArray[np.int32]]) -> NDArray[np.uint16]:
    """Join the lengths of all examples' tokens, in bytes."""
    lengths = np.concatenate(parts)  # (tokens,)
    shortest = lengths.min()
    longest = lengths.max()
    # Bounds of uint16, in which they are stored.
    if shortest < 0 or longest >= 2**16:
        odd = shortest if shortest < 0 else longest
        raise ValueError(
            f"tokens must be 0 to 65535 bytes long, but one is {odd}: "
            "repair the tokenizer or drop that example."
        )
    return lengths.astype(np.uint16)


def _bytes(digests: Sequence[str], length: int) -> NDArray[np.uint8]:
    """Array (examples, length) of the beginnings of hexadecimal digests."""
    whole = bytearray()
    for digest in digests:
        content = bytes.fromhex(digest)
        whole += content[:length]
    flat = np.frombuffer(whole, dtype=np.uint8)
    return flat.reshape(-1, length)


def _check_schema(tensors: Any, origin: Origin, shard: Shard) -> None:
    """Require that a file is this shard, with tensors of the right types and shapes."""
    metadata = tensors.metadata() or {}
    place = _place(origin, shard.number)
    if metadata.get("shard") != place:
        raise ValueError("it belongs to another store or place")
    wanted = _schema(origin, shard)
    found: _Schema = {}
    for name in tensors.keys():  # noqa: SIM118 (not a dict)
        # Slices tell types and shapes without reading the numbers.
        column = tensors.get_slice(name)
        shape = list(column.get_shape())
        found[name] = (column.get_dtype(), shape)
    # Either may have tensors that the other lacks. The first by name is reported.
    names = found.keys() | wanted.keys()
    for name in sorted(names):
        actual = found.get(name)
        expected = wanted.get(name)
        if actual != expected:
            raise ValueError(f"{name} is {actual}, not {expected}")


def _schema(origin: Origin, shard: Shard) -> _Schema:
    """Type and shape of each tensor of a shard."""
    schema: _Schema = {
        "keys": ("U8", [shard.examples, KEY_BYTES]),
        "texts": ("U8", [shard.examples, TEXT_BYTES]),
        "counts": ("I32", [shard.examples]),
    }
    for name, dtype in _token_dtypes(origin).items():
        shape = [shard.tokens]
        # The k largest logits have an axis more.
        if name in ("values", "ids"):
            shape.append(origin.k)
        schema[name] = (dtype, shape)
    return schema


def _sha256(content: Mapping[str, Any]) -> str:
    """The sha256 of JSON that is the same for every order of the keys."""
    text = json.dumps(
        content,
        sort_keys=True,
        separators=(",", ":"),
    )
    digest = hashlib.sha256(text.encode())
    return digest.hexdigest()


def _broken(file: Path, error: Exception) -> ValueError:
    """Say what is wrong with a file, and what to do."""
    if isinstance(error, FileNotFoundError):
        return ValueError(
            f"{file} must be as it was written, but is missing: capture again."
        )
    # This module's own errors are sentences; those of libraries need their type.
    reason = f"{type(error).__name__}: {error}"
    if isinstance(error, ValueError):
        reason = str(error)
    return ValueError(
        f"{file} must be as it was written, but {reason}: delete it and capture again."
    )
