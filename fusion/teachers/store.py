"""Store of a teacher's top-k logits: a folder that is filled once and read by text.

An interrupted capture goes on where it stopped, and what is read was verified first.
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

from fusion.fingerprints import template_fingerprint, tokenizer_fingerprint
from fusion.teachers import manifests, shards
from fusion.teachers.manifests import Origin, Shard
from fusion.teachers.shards import KEY_BYTES, TEXT_BYTES, Record, TeacherRows
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

    Logits are kept in float16, relative to the largest of their row, which is kept in
    float32: a value that is v below the largest is off by at most v / 2048, whatever
    number is added to the row. Of logits with a standard deviation of 3 among 32,768
    the ten largest and their log-probabilities are off by 0.002 at most, ULD and GLD by
    1e-4 of their value; ``python -m simulations.store_precision`` has a table of bits
    against errors. Stores of format 1, which kept raw logits, are read as well.

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
        # By key, cut to KEY_BYTES: the shard, its first row, the row after the last,
        # and the byte of the completion at which the first token starts.
        self._positions: dict[bytes, tuple[int, int, int, int]] = {}
        # By key: the digest of the text that the teacher read, cut to TEXT_BYTES.
        self._texts: dict[bytes, bytes] = {}
        for shard in listed:
            self._add(shard)

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self._positions)

    def __contains__(self, key: str) -> bool:
        """Tell whether the teacher has seen the example of this key."""
        return _short(key) in self._positions

    # Keys are kept in part, so the store cannot list them; without this line, Python
    # would iterate by store[0], store[1], …
    __iter__ = None

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
                f"{self.path} must hold the example {key}, but does not: "
                "capture it, or test `key in store`."
            )
        # Files are opened for each reading, so that a store can be sent to processes.
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
            that is stored; not asked without a tokenizer.
        logits : bool
            Whether more than log-probabilities is needed.

        Raises
        ------
        ValueError
            If one of these is not so.
        """
        if k is not None and k > self.manifest.k:
            raise ValueError(
                f"{self.path} must hold k = {k} logits a token, "
                f"but holds {self.manifest.k}: capture again."
            )
        if logits and not self.manifest.logits:
            raise ValueError(
                f"{self.path} must hold logits, but holds log-probabilities only: "
                "set standardize to logprob or softmax, or capture from the model "
                "itself."
            )
        if tokenizer is not None:
            self._check_fingerprint(
                "tokenizer",
                self.manifest.tokenizer,
                tokenizer_fingerprint(tokenizer),
            )
            self._check_fingerprint(
                "template",
                self.manifest.template,
                template_fingerprint(tokenizer),
            )
            self._check_texts(tokenizer, examples)

    def _check_fingerprint(self, name: str, found: str, wanted: str) -> None:
        """Require that the tokenizer or template of the capture is the one in use."""
        if found != wanted:
            # Empty for what a server said: its tokenizer and template are unknown.
            known = found[:12] or "an unknown one"
            raise ValueError(
                f"{self.path} must be captured with the {name} {wanted[:12]}, but was "
                f"with {known}: capture again, or pass the tokenizer of that time."
            )

    def _check_texts(
        self,
        tokenizer: PreTrainedTokenizerBase,
        examples: Iterable[Example],
    ) -> None:
        """Require that the teacher has read what a tokenizer makes of examples."""
        for example in examples:
            # Examples that are not stored are no fault, also where they cannot be.
            key = _short(example.key)
            if key not in self._texts:
                continue
            code = encode(example, tokenizer, self.manifest.max_length)
            digest = bytes.fromhex(code.digest)
            if self._texts[key] != digest[:TEXT_BYTES]:
                raise ValueError(
                    f"{self.path} must hold what the teacher says to the text of "
                    f"{example.key}, but it read another one: capture again."
                )

    def _add(self, shard: Shard) -> None:
        """Verify a shard and note where the rows of its examples are."""
        contents = shards.open_shard(self.path, self.manifest, shard)
        name = manifests.shard_name(shard.number)
        first = 0  # row of the shard
        for i, count in enumerate(contents.counts.tolist()):
            key = contents.keys[i].tobytes()
            text = contents.texts[i].tobytes()
            if key in self._positions:
                other, *_ = self._positions[key]
                raise ValueError(
                    f"{self.path / name} must hold examples of its own, "
                    f"but one is also in {manifests.shard_name(other)}: "
                    "delete one of them and capture again."
                )
            # Examples lie one after the other.
            last = first + count
            start = int(contents.starts[i])
            self._positions[key] = (shard.number, first, last, start)
            self._texts[key] = text
            first = last


@final
class StoreWriter:
    """Fills a store with whole shards, or goes on where an earlier run stopped.

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
        self.path = Path(path)
        self.origin = origin
        self._rank = rank
        self.path.mkdir(parents=True, exist_ok=True)
        # What an interrupted run of this writer left unfinished.
        partial = self.path / manifests.partial_name(rank)
        partial.unlink(missing_ok=True)

        # 1. What all writers have listed.
        listed = _begun(path, origin)
        # 2. What this writer has listed. Users delete shards to have them made again:
        # those without a file are struck from its manifest.
        own = self.path / manifests.manifest_name(rank)
        own_listed: list[Shard] = []
        if own.exists():
            _, own_listed = manifests.read_manifest(own)
        self._own: list[Shard] = []
        gone = set()
        for shard in own_listed:
            file = self.path / manifests.shard_name(shard.number)
            if file.exists():
                self._own.append(shard)
            else:
                gone.add(shard)
        # 3. All others must be whole, also those of other writers.
        done = []
        for shard in listed:
            if shard in gone:
                continue
            shards.open_shard(self.path, origin, shard)
            done.append(shard.number)
        self.done = frozenset(done)
        # 4. The own manifest, where it is missing or lists shards that are gone. Others
        #    then see at once which store this folder was begun for.
        if gone or not own_listed:
            manifests.write_manifest(self.path, origin, self._own, rank)

    def write(self, index: int, records: Sequence[Record]) -> None:
        """Write the shard of this index, and only then say so in the manifest."""
        shard, content = shards.pack(self.origin, index, records)
        file = self.path / manifests.shard_name(index)
        partial = manifests.partial_name(self._rank)
        manifests.write_atomically(file, content, partial)
        self._own.append(shard)
        # An interruption before this line leaves a file that is written again.
        manifests.write_manifest(self.path, self.origin, self._own, self._rank)


def data_fingerprint(keys: Iterable[str]) -> str:
    """The sha256 of the keys of examples, in their order."""
    joined = "".join(keys)
    digest = hashlib.sha256(joined.encode())
    return digest.hexdigest()


def _short(key: str) -> bytes:
    """The beginning of a key, as shards keep it."""
    whole = bytes.fromhex(key)
    return whole[:KEY_BYTES]


def _manifests(path: Path) -> list[Path]:
    """Files of all manifests of a folder."""
    return sorted(path.glob("manifest-*.json"))


def _read_manifests(path: Path) -> tuple[Origin, list[Shard]]:
    """The common origin of all manifests of a folder, and all that they list."""
    files = _manifests(path)
    if not files:
        raise ValueError(
            f"{path} must be a teacher store, but holds no manifest: "
            "run `fusion capture` first."
        )
    # Each writer keeps a manifest of its own; what they list are parts of one store.
    origin, listed = manifests.read_manifest(files[0])
    for file in files[1:]:
        other, more = manifests.read_manifest(file)
        odd = manifests.differing(origin, other)
        if odd is not None:
            raise ValueError(
                f"{file} must agree with {files[0].name}, but their {odd} is not the "
                "same: delete the one that is foreign."
            )
        listed += more
    return origin, sorted(listed)


def _begun(path: str | Path, origin: Origin) -> list[Shard]:
    """Shards that some writer has listed; none in a new folder.

    A folder that was begun for another origin is refused.
    """
    folder = Path(path)
    if not _manifests(folder):
        return []
    begun, listed = _read_manifests(folder)
    if begun.format != origin.format:
        raise ValueError(
            f"{path} must be gone on with as it was begun, but it is of format "
            f"{begun.format}, which is read and no longer written: if it is not "
            "complete, choose another folder, or delete this one."
        )
    odd = manifests.differing(begun, origin)
    if odd is not None:
        was = getattr(begun, odd)
        now = getattr(origin, odd)
        raise ValueError(
            f"{path} must be gone on with as it was begun, "
            f"but {odd} was {was!r} and is {now!r}: "
            "choose another folder, or delete this one."
        )
    return listed


def _check_complete(path: Path, origin: Origin, listed: Sequence[Shard]) -> None:
    """Require that all shards are listed, once each, and that no others are there."""
    _check_numbers(path, listed)
    # With these numbers only the last shards can be missing, or be of too few examples.
    examples = sum(shard.examples for shard in listed)
    if len(listed) != origin.shards or examples != origin.examples:
        raise ValueError(
            f"{path} must hold {origin.examples} examples, "
            f"but has {examples} in {len(listed)} of {origin.shards} shards: "
            "run the same capture again, it goes on where it stopped."
        )
    # Files that no manifest lists are of another store, or of an interrupted capture.
    names = {manifests.shard_name(shard.number) for shard in listed}
    for file in sorted(path.glob("*.safetensors")):
        if file.name not in names:
            raise ValueError(
                f"{file} must be listed in a manifest, but is not: delete it."
            )


def _check_numbers(path: Path, listed: Sequence[Shard]) -> None:
    """Require that sorted shards have the numbers 0, 1, … once each."""
    for index, shard in enumerate(listed):
        if shard.number == index:
            continue
        # Numbers ascend, and all before are right. So this one repeats the last, or is
        # larger than ``index``, which no shard has.
        fault = "not listed"
        odd = index
        if index > 0 and shard.number == index - 1:
            fault = "listed twice"
            odd = shard.number
        raise ValueError(
            f"{path} must list {manifests.shard_name(odd)} once, but it is {fault}: "
            "run the capture again."
        )
