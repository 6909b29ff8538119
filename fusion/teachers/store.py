"""Teachers' rows on disk: a folder of checked shards that is filled once, resumably, and read by content.

Rows belong to the text of an example (:attr:`fusion.text.conversations.Example.key`),
never to a place in a data set. Nothing of a store that is damaged, incomplete or not
what its manifest says is ever read: it is named and refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import final

from transformers import PreTrainedTokenizerBase

from fusion.models import template_fingerprint, tokenizer_fingerprint
from fusion.teachers import shards
from fusion.teachers.shards import (
    KEY_BYTES,
    TEXT_BYTES,
    Origin,
    Record,
    Shard,
    TeacherRows,
)
from fusion.text.conversations import Example, encode

__all__ = [
    "Origin",
    "Record",
    "StoreWriter",
    "TeacherRows",
    "TeacherStore",
    "data_fingerprint",
]


@final
class TeacherStore:
    """What one teacher says about a set of examples.

    Parameters
    ----------
    path : path
        Folder that :func:`fusion.teachers.capture.capture` filled. Every shard is
        verified against its checksum once, here.

    Attributes
    ----------
    manifest : Origin
        Fingerprints of the teacher, k, dtype, and whether logits are known or
        log-probabilities only.
    tokens : int
        Rows in all.

    Raises
    ------
    ValueError
        If a manifest or shard is truncated, altered, foreign, missing or there twice.

    Examples
    --------
    A teacher as small as can be, with random weights and five words, is asked once; the
    store then says what it said.

    >>> import fusion, torch
    >>> from fusion.teachers.capture import capture
    >>> from tokenizers import Tokenizer, models, pre_tokenizers
    >>> from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
    >>> words = Tokenizer(
    ...     models.WordLevel(
    ...         {"</s>": 0, "two": 1, "plus": 2, "is": 3, "four": 4}, unk_token="</s>"
    ...     )
    ... )
    >>> words.pre_tokenizer = pre_tokenizers.Whitespace()
    >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>")
    >>> _ = torch.manual_seed(0)
    >>> teacher = GPT2LMHeadModel(
    ...     GPT2Config(
    ...         vocab_size=5,
    ...         n_embd=8,
    ...         n_layer=1,
    ...         n_head=1,
    ...         bos_token_id=0,
    ...         eos_token_id=0,
    ...     )
    ... )
    >>> example = fusion.Example("two plus two is", "four")
    >>> capture(teacher, tokenizer, [example], "store", k=3, progress=False)
    >>> store = fusion.TeacherStore("store")
    >>> len(store), store.tokens, example.key in store, store[example.key].values.shape
    (1, 2, True, (2, 3))
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifest, listed = _read_manifests(self.path)
        _check_complete(self.path, self.manifest, listed)
        self.tokens = sum(shard.tokens for shard in listed)
        self._positions: dict[bytes, tuple[int, int, int]] = {}
        self._texts: dict[bytes, bytes] = {}
        for shard in listed:
            self._add(shard)

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self._positions)

    def __contains__(self, key: str) -> bool:
        """Tell whether the teacher has seen the example of this key."""
        return _short(key) in self._positions

    __iter__ = None  # keys are kept in part only

    def __getitem__(self, key: str) -> TeacherRows:
        """Return the rows of the example whose ``Example.key`` this is.

        Raises
        ------
        KeyError
            If the teacher has not seen it.
        """
        position = self._positions.get(_short(key))
        if position is None:
            raise KeyError(
                f"{self.path} must hold the example {key}, but does not: capture it, or test `key in store`."
            )
        return shards.read_rows(self.path, self.manifest, *position)

    def check(
        self,
        tokenizer: PreTrainedTokenizerBase | None = None,
        k: int | None = None,
        examples: Iterable[Example] = (),
        logits: bool = False,
    ) -> None:
        """Require that the rows are what is about to be used; nothing is returned.

        Parameters
        ----------
        tokenizer : PreTrainedTokenizerBase, optional
            The teacher's: its vocabulary and chat template must be those of the
            capture.
        k : int, optional
            The rows must hold at least so many entries.
        examples : iterable of Example, optional
            The teacher must have read the text that ``tokenizer`` makes of each one
            that is stored.
        logits : bool
            Whether more than log-probabilities is needed.

        Raises
        ------
        ValueError
            If one of these is not so.
        """
        if k is not None and k > self.manifest.k:
            raise ValueError(
                f"{self.path} must hold k = {k} logits a token, but holds {self.manifest.k}: capture again."
            )
        if logits and not self.manifest.logits:
            raise ValueError(
                f"{self.path} must hold logits, but holds log-probabilities only: use the standardisation `logprob` or "
                "`softmax`, or capture from the model itself."
            )
        if tokenizer is not None:
            self._check_tokenizer(tokenizer, examples)

    def _check_tokenizer(
        self, tokenizer: PreTrainedTokenizerBase, examples: Iterable[Example]
    ) -> None:
        for name, fingerprint in (
            ("tokenizer", tokenizer_fingerprint),
            ("template", template_fingerprint),
        ):
            found, wanted = getattr(self.manifest, name), fingerprint(tokenizer)
            if found != wanted:
                raise ValueError(
                    f"{self.path} must be captured with the {name} {wanted[:12]}, but was with "
                    f"{found[:12] or 'an unknown one'}: capture again, or pass the tokenizer of that time."
                )
        for example in examples:
            text = bytes.fromhex(
                encode(example, tokenizer, self.manifest.max_length).digest
            )[:TEXT_BYTES]
            if self._texts.get(_short(example.key), text) != text:
                raise ValueError(
                    f"{self.path} must hold what the teacher says to the text of {example.key}, but it read another one: "
                    "capture again."
                )

    def _add(self, shard: Shard) -> None:
        keys, texts, counts = shards.open_shard(self.path, self.manifest, shard)
        first = 0
        for key, text, count in zip(keys, texts, counts.tolist(), strict=True):
            if key.tobytes() in self._positions:
                raise ValueError(
                    f"{self.path / shards.shard_name(shard.number)} must hold examples of its own, but one is also in "
                    f"{shards.shard_name(self._positions[key.tobytes()][0])}: delete one of them and capture again."
                )
            self._positions[key.tobytes()] = (shard.number, first, first + count)
            self._texts[key.tobytes()] = text.tobytes()
            first += count


@final
class StoreWriter:
    """Fills a store, or goes on where an earlier run was interrupted: whole shards, each written once.

    Parameters
    ----------
    path : path
        Folder, made if it is missing.
    origin : Origin
        What all rows have in common; that of a store that is already begun must be the
        same.
    rank : int
        Which of several writers this is. Each keeps a manifest of its own.

    Attributes
    ----------
    done : frozenset of int
        Shards that some writer finished before, verified here.

    Raises
    ------
    ValueError
        If the folder holds the beginning of another store, or a finished shard is
        damaged.
    """

    def __init__(self, path: str | Path, origin: Origin, rank: int = 0) -> None:
        self.path, self.origin, self._rank = Path(path), origin, rank
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / shards.partial_name(rank)).unlink(missing_ok=True)
        listed: list[Shard] = []
        if _manifests(self.path):
            begun, listed = _read_manifests(self.path)
            odd = shards.differing(begun, origin)
            if odd is not None:
                raise ValueError(
                    f"{path} must be gone on with as it was begun, but {odd} was {getattr(begun, odd)!r} and is "
                    f"{getattr(origin, odd)!r}: choose another folder, or delete this one."
                )
        own = self.path / shards.manifest_name(rank)
        before = shards.read_manifest(own)[1] if own.exists() else []
        self._own = [
            shard
            for shard in before
            if (self.path / shards.shard_name(shard.number)).exists()
        ]
        gone = set(before) - set(self._own)  # deleted since: made again
        kept = [shard for shard in listed if shard not in gone]
        for shard in kept:
            shards.open_shard(self.path, origin, shard)
        self.done = frozenset(shard.number for shard in kept)
        if gone or not before:
            shards.write_manifest(self.path, origin, self._own, rank)

    def write(self, index: int, records: Sequence[Record]) -> None:
        """Write the shard of this index, and only then say so in the manifest."""
        shard, content = shards.pack(self.origin, index, records)
        shards.write_atomically(
            self.path / shards.shard_name(index), content, self._rank
        )
        self._own.append(shard)
        shards.write_manifest(self.path, self.origin, self._own, self._rank)


def data_fingerprint(keys: Iterable[str]) -> str:
    """The sha256 of the keys of examples, in their order."""
    return hashlib.sha256("".join(keys).encode()).hexdigest()


def _short(key: str) -> bytes:
    return bytes.fromhex(key)[:KEY_BYTES]


def _manifests(path: Path) -> list[Path]:
    return sorted(path.glob("manifest-*.json"))


def _read_manifests(path: Path) -> tuple[Origin, list[Shard]]:
    """The common origin of all manifests of a folder, and all that they list."""
    files = _manifests(path)
    if not files:
        raise ValueError(
            f"{path} must be a teacher store, but holds no manifest: run `fusion capture` first."
        )
    origin, listed = shards.read_manifest(files[0])
    for file in files[1:]:
        other, more = shards.read_manifest(file)
        odd = shards.differing(origin, other)
        if odd is not None:
            raise ValueError(
                f"{file} must agree with {files[0].name}, but their {odd} is not the same: delete the one that is foreign."
            )
        listed += more
    return origin, sorted(listed)


def _check_complete(path: Path, origin: Origin, listed: Sequence[Shard]) -> None:
    """Require that each shard is listed once, is full, and has its file, and that there are no other shards."""
    for index, shard in enumerate(listed):
        if shard.number != index:
            fault = (
                "listed twice"
                if index and shard.number == listed[index - 1].number
                else "not listed"
            )
            name = shards.shard_name(shard.number if fault == "listed twice" else index)
            raise ValueError(
                f"{path} must list {name} once, but it is {fault}: run the capture again."
            )
    if (
        len(listed) != origin.shards
        or sum(shard.examples for shard in listed) != origin.examples
    ):
        raise ValueError(
            f"{path} must hold {origin.examples} examples, but has {sum(shard.examples for shard in listed)} in "
            f"{len(listed)} of {origin.shards} shards: run the same capture again, it goes on where it stopped."
        )
    names = {shards.shard_name(shard.number) for shard in listed}
    for file in sorted(path.glob("*.safetensors")):
        if file.name not in names:
            raise ValueError(
                f"{file} must be listed in a manifest, but is not: delete it."
            )
