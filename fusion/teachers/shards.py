"""Shards of a teacher store: safetensors files of the rows of consecutive examples.

A shard of e examples with n tokens holds, in format 2, the tensors

- keys (e, 16) and texts (e, 8), uint8: beginnings of the sha256 of each example's
  content and of the text that the teacher read;
- counts (e,) int32, the tokens of each, and starts (e,) int16, the byte of the
  completion at which the first of them starts;
- lengths (n,) uint16, in bytes; ids (n, k) int32; nll (n,) float16;
- shift (n,) float32, the largest logit of a row; and relative to it values (n, k)
  float16 without the first, which is 0, logsumexp (n,) float32 and mean (n,) float32;
  std (n,) float16.

Rows of log-probabilities have shift 0, all k values, and neither mean nor std. Format 1
had raw values, logsumexp and mean, the last in float16, and neither shift nor starts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fusion.teachers.manifests import FORMAT, Origin, Shard, broken, shard_name

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
    "lengths": "U16",  # in bytes; where tokens end would need more bits
}
# Statistics of full rows of logits, by format, and what format 2 holds beside them: the
# logit to which the numbers of a row are relative.
_STATISTICS = {
    1: {"mean": "F16", "std": "F16"},
    2: {"mean": "F32", "std": "F16"},
}
_SHIFT = {"shift": "F32"}
_NUMPY = {
    "F16": np.float16,
    "F32": np.float32,
    "I16": np.int16,
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
        The k largest logits that predict each token, descending, less the shift, so
        that the first is 0; log-probabilities where only those are known. float32 from
        stores of format 1, whose differences float16 would round once more.
    ids : (n, k) int32 array
        Their tokens in the teacher's vocabulary; -1 where unknown.
    logsumexp : (n,) float32 array
        Over the full row, less the shift; 0 for log-probabilities.
    mean : (n,) float32 array or None
        Over the full row of logits, less the shift; None where only log-probabilities
        are known.
    std : (n,) float16 array or None
        Over the full row of logits; None likewise.
    nll : (n,) float16 array
        Negative log-likelihood of the token itself, in nats.
    ends : (n,) int32 array
        Byte of the UTF-8 completion at which each token ends.
    shift : (n,) float32 array
        The largest logit of each row, which no probability depends on: raw logits are
        ``values + shift``. 0 for log-probabilities.
    start : int
        Byte of the completion at which the first token starts: below 0 if it begins
        with the end of the prompt, above where the teacher's chat template strips white
        space in front of the completion.
    format : int
        Layout of the store that they were read from.
    """

    values: NDArray[np.float16] | NDArray[np.float32]
    ids: NDArray[np.int32]
    logsumexp: NDArray[np.float32]
    mean: NDArray[np.float32] | None
    std: NDArray[np.float16] | None
    nll: NDArray[np.float16]
    ends: NDArray[np.int32]
    shift: NDArray[np.float32]
    start: int = 0
    format: int = FORMAT


class Record(NamedTuple):
    """One example of a shard."""

    key: str
    digest: str  # sha256 of the text that the teacher read
    rows: TeacherRows


class Contents(NamedTuple):
    """Which examples a shard holds, in the order of their rows."""

    keys: NDArray[np.uint8]  # (examples, KEY_BYTES)
    texts: NDArray[np.uint8]  # (examples, TEXT_BYTES), digests of what was read
    counts: NDArray[np.int32]  # (examples,), in tokens
    starts: NDArray[np.int16]  # (examples,), in bytes from where completions start


def pack(
    origin: Origin,
    index: int,
    records: Sequence[Record],
) -> tuple[Shard, bytes]:
    """Make the bytes of the shard with number ``index`` and its line in the manifest.

    The first value of each row of logits is left out, as it is 0.

    Raises
    ------
    ValueError
        If a number is not finite, also because it is too large for its type; or if
        logits are not relative to their largest.
    """
    # 1. What there is one of for each example.
    keys = [record.key for record in records]
    digests = [record.digest for record in records]
    rows = [record.rows for record in records]
    counts = []  # in tokens
    lengths = []  # of each example's tokens, in bytes, (n_i,)
    for row in rows:
        counts.append(len(row.ends))
        # The first is counted from the completion's first byte on, wherever it starts.
        lengths.append(np.diff(row.ends, prepend=0))
    tensors: dict[str, NDArray[Any]] = {
        "keys": _bytes(keys, KEY_BYTES),
        "texts": _bytes(digests, TEXT_BYTES),
        "counts": np.array(counts, dtype=np.int32),
        "starts": _starts(rows),
    }
    # 2. What there is one of for each token: that of all examples is joined.
    tensors["lengths"] = _lengths(lengths)
    for name, dtype in _token_dtypes(origin).items():
        if name == "lengths":
            continue
        column = _joined(rows, name, dtype, index)
        if name == "values" and _left_out(origin):
            _check_relative(rows, column, index)
            # Safetensors would write the memory of a view as if it were contiguous.
            column = np.ascontiguousarray(column[:, 1:])
        tensors[name] = column
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
            counts = tensors.get_tensor("counts")
            starts = np.zeros(len(counts), dtype=np.int16)
            if origin.format > 1:
                starts = tensors.get_tensor("starts")
            found = Contents(
                keys=tensors.get_tensor("keys"),
                texts=tensors.get_tensor("texts"),
                counts=counts,
                starts=starts,
            )
        # Counts say which rows belong to which example.
        tokens = found.counts.sum()
        negative = found.counts < 0
        if negative.any() or tokens != shard.tokens:
            raise ValueError(f"its examples have {tokens} tokens, not {shard.tokens}")
    except (OSError, SafetensorError, ValueError) as error:
        raise broken(file, error) from error
    return found


def read_rows(
    path: Path,
    origin: Origin,
    index: int,
    first: int,
    last: int,
    start: int = 0,
) -> TeacherRows:
    """Read the rows ``first`` to ``last`` − 1 of a verified shard: one example's.

    Its first token starts at the byte ``start`` of the completion.
    """
    found: dict[str, Any] = {}
    file = path / shard_name(index)
    with safe_open(file, framework="numpy") as tensors:
        for name in _token_dtypes(origin):
            # A slice reads these rows alone from the disk.
            column = tensors.get_slice(name)
            found[name] = column[first:last]
    if origin.format == 1:
        found |= _relative(found, origin)
    elif _left_out(origin):
        # The largest of each row, which is 0.
        found["values"] = np.pad(found["values"], ((0, 0), (1, 0)))
    lengths = found["lengths"]  # (n,), in bytes
    return TeacherRows(
        values=found["values"],
        ids=found["ids"],
        logsumexp=found["logsumexp"],
        mean=found.get("mean"),
        std=found.get("std"),
        nll=found["nll"],
        ends=np.cumsum(lengths, dtype=np.int32),
        shift=found["shift"],
        start=start,
        format=origin.format,
    )


def _relative(found: Mapping[str, NDArray[Any]], origin: Origin) -> dict[str, Any]:
    """Make the numbers of format 1, which are raw, relative to the largest logit."""
    raw = found["values"].astype(np.float32)  # (n, k)
    if not origin.logits:
        # Log-probabilities are what they are relative to.
        shift = np.zeros(len(raw), dtype=np.float32)
        return {"shift": shift}
    shift = raw[:, 0]  # (n,)
    mean = found["mean"].astype(np.float32)
    return {
        "values": raw - shift[:, None],
        "logsumexp": found["logsumexp"] - shift,
        "mean": mean - shift,
        "shift": shift,
    }


def _token_dtypes(origin: Origin) -> Mapping[str, str]:
    """Names and types of the tensors that have one row for each token."""
    found = dict(_TOKEN_DTYPES)
    if origin.format > 1:
        found |= _SHIFT
    if origin.logits:
        found |= _STATISTICS[origin.format]
    return found


def _left_out(origin: Origin) -> int:
    """How many of a row's largest values files leave out, since they are known."""
    return int(origin.logits and origin.format > 1)


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


def _check_relative(
    rows: Sequence[TeacherRows],
    values: NDArray[np.float16],  # (tokens, k)
    index: int,
) -> None:
    """Require that the largest logit of every row is 0, as files leave it out."""
    formats = {row.format for row in rows}
    if formats != {FORMAT} or values[:, 0].any():
        raise ValueError(
            f"teacher must give logits of format {FORMAT}, less the largest of their "
            f"row, but does not in shard {index}: subtract it, and keep it as shift."
        )


def _starts(rows: Sequence[TeacherRows]) -> NDArray[np.int16]:
    """Return the byte (examples,) at which the first token of each example starts."""
    starts = [row.start for row in rows]
    most = np.iinfo(np.int16).max
    for start in starts:
        if abs(start) > most:
            raise ValueError(
                f"first tokens must start at most {most} bytes from where their "
                f"completion starts, but one starts at {start}: "
                "repair the tokenizer or drop that example."
            )
    return np.array(starts, dtype=np.int16)


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
    stored = tensors.keys()  # of a handle, which is no mapping
    for name in stored:
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
    if origin.format > 1:
        schema["starts"] = ("I16", [shard.examples])
    # The k largest logits have an axis more.
    widths = {"values": origin.k - _left_out(origin), "ids": origin.k}
    for name, dtype in _token_dtypes(origin).items():
        shape = [shard.tokens]
        if name in widths:
            shape.append(widths[name])
        schema[name] = (dtype, shape)
    return schema
