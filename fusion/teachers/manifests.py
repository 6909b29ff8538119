"""Manifests of a teacher store: what all rows have in common, and where they are.

A manifest is JSON. It holds a checksum, appears under its name only when it is whole,
and is the same bytes whenever it says the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

# Version of the layout that is written. Format 1 is read as well: it had raw logits and
# their mean in float16, and every example started at byte 0.
FORMAT = 2
_READ = (1, FORMAT)


@dataclass(frozen=True)
class Origin:
    """What all rows of a store have in common.

    Attributes
    ----------
    model, tokenizer, template : str
        Fingerprints (sha256) of the teacher; empty where unknown.
    vocabulary : int
        How many ids the top k and the statistics were taken over: those of the
        tokenizer, without the columns that a model's head is padded with; 0 where
        unknown.
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
    """A shard, as a manifest lists it."""

    number: int
    examples: int
    tokens: int
    sha256: str  # of the file


def shard_name(index: int) -> str:
    """File name of a shard."""
    return f"shard-{index:05d}.safetensors"


def manifest_name(rank: int) -> str:
    """File name of the manifest that one writer keeps."""
    return f"manifest-{rank}.json"


def partial_name(rank: int) -> str:
    """File name that a writer uses before a file is whole."""
    return f".partial-{rank}"


def write_atomically(path: Path, content: bytes, temporary: str) -> None:
    """Write a file that is there whole or not at all, whatever happens in between.

    Until it is whole it lies in the same folder under the name ``temporary``, which no
    other process may use there.
    """
    partial = path.parent / temporary
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
    write_atomically(file, text.encode(), partial_name(rank))


def read_manifest(file: Path) -> tuple[Origin, list[Shard]]:
    """Read a manifest, or refuse it."""
    try:
        content = json.loads(file.read_bytes())
        checksum = content.pop("sha256")
        # The format comes first: other versions may count the checksum otherwise.
        version = content["origin"]["format"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise broken(file, error) from error
    if version not in _READ:
        raise ValueError(
            f"{file} must have format 1 or {FORMAT}, but has {version!r}: "
            "read it with the version of gwfusion that wrote it, or capture again."
        )
    try:
        if checksum != _sha256(content):
            raise ValueError("its checksum is another")
        origin = Origin(**content["origin"])
        shards = [Shard(**line) for line in content["shards"]]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise broken(file, error) from error
    return origin, shards


def differing(origin: Origin, other: Origin) -> str | None:
    """Name of the first field in which two origins differ."""
    for field in fields(Origin):
        ours = getattr(origin, field.name)
        theirs = getattr(other, field.name)
        if ours != theirs:
            return field.name
    return None


def _sha256(content: Mapping[str, Any]) -> str:
    """The sha256 of JSON that is the same for every order of the keys."""
    text = json.dumps(
        content,
        sort_keys=True,
        separators=(",", ":"),
    )
    digest = hashlib.sha256(text.encode())
    return digest.hexdigest()


def broken(file: Path, error: Exception) -> ValueError:
    """Say what is wrong with a file, and what to do."""
    if isinstance(error, FileNotFoundError):
        return ValueError(
            f"{file} must be as it was written, but is missing: capture again."
        )
    # What this package says is a part of a sentence; errors of libraries need a type.
    reason = f"{type(error).__name__}: {error}"
    if isinstance(error, ValueError):
        reason = str(error)
    return ValueError(
        f"{file} must be as it was written, but {reason}: delete it and capture again."
    )
