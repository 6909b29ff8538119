"""A store gives back what was written, or refuses what is damaged, by its name."""

import contextlib
import hashlib
import json
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.teachers import manifests, shards
from fusion.teachers.capture import capture
from fusion.teachers.manifests import Origin, Shard
from fusion.teachers.shards import Record, TeacherRows
from fusion.teachers.store import StoreWriter, TeacherStore, data_fingerprint
from fusion.text.conversations import Example, Message
from tests.fusion import tiny

EXAMPLES = tiny.sums(20)


ORIGIN = Origin(
    "m",
    "t",
    "c",
    vocabulary=50,
    k=3,
    dtype="float32",
    logits=True,
    data="d",
    examples=1,
    shard_size=1,
)


def digest(number):
    return hashlib.sha256(str(number).encode()).hexdigest()


def rows(rng, n, k, logits=True):
    statistics = rng.standard_normal((2, n)).astype(np.float32)
    values = -np.sort(rng.random((n, k)).astype(np.float16))
    if logits:
        values[:, 0] = 0.0
    return TeacherRows(
        values=values,
        ids=rng.integers(0, 2**31, (n, k), dtype=np.int32),
        logsumexp=rng.standard_normal(n).astype(np.float32),
        mean=statistics[0] if logits else None,
        std=statistics[1].astype(np.float16) if logits else None,
        nll=rng.random(n).astype(np.float16),
        ends=rng.integers(0, 300, n).cumsum(dtype=np.int32),
        shift=rng.standard_normal(n).astype(np.float32),
        start=-int(rng.integers(0, 9)),
    )


def write(path, origin, records):
    """Fill a store with as many shards as the origin needs."""
    keys = [record.key for record in records]
    origin = replace(origin, examples=len(records), data=data_fingerprint(keys))
    writer = StoreWriter(path, origin)
    for index in range(origin.shards):
        first = index * origin.shard_size
        last = first + origin.shard_size
        writer.write(index, records[first:last])
    return origin


@settings(max_examples=60)  # each writes files to the disk
@given(
    st.integers(0, 2**32),
    st.lists(st.integers(1, 5), min_size=1, max_size=5),
    st.integers(1, 3),
    st.booleans(),
    st.integers(1, 3),
)
def test_what_is_written_is_read(
    tmp_path_factory, seed, lengths, shard_size, logits, k
):
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("store")
    records = []
    for i, n in enumerate(lengths):
        record = Record(digest(i), digest(-i), rows(rng, n, k, logits))
        records.append(record)
    origin = replace(ORIGIN, shard_size=shard_size, logits=logits, k=k)
    origin = write(path, origin, records)
    # Loaders of other processes get a copy of the store.
    store = pickle.loads(pickle.dumps(TeacherStore(path)))
    assert store.manifest == origin
    assert (len(store), store.tokens) == (len(lengths), sum(lengths))
    for record in records:
        assert record.key in store
        for name, wanted in vars(record.rows).items():
            found = getattr(store[record.key], name)
            assert (found is None) == (wanted is None)
            if name in ("start", "format"):
                assert found == wanted
            elif wanted is not None:
                assert found.dtype == wanted.dtype
                np.testing.assert_array_equal(found, wanted)
    assert digest("other") not in store
    with pytest.raises(KeyError, match="must hold the example"):
        store[digest("other")]
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def captured(tmp_path_factory, llama):
    """A store of four shards, and others that differ from it in one thing each."""
    folder = tmp_path_factory.mktemp("captured")
    settings = {"k": 4, "shard_size": 5, "progress": False}
    capture(*llama, EXAMPLES, folder / "store", **settings)
    capture(*llama, EXAMPLES[::-1], folder / "reversed", **settings)
    capture(*llama, EXAMPLES, folder / "deeper", **{**settings, "k": 5})
    return folder


@pytest.fixture
def copy(tmp_path, captured):
    """A copy of the store, to be damaged."""
    shutil.copytree(captured / "store", tmp_path / "copy")
    return tmp_path / "copy"


def test_verified_stores_open(copy):
    assert len(TeacherStore(copy)) == len(EXAMPLES)


def shard(path, index=1):
    return path / manifests.shard_name(index)


def flip(file, place):
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def rewrite(path, origin=(), lines=lambda lines: lines):
    """Change the manifest and make its own checksum right again."""
    found, listed = manifests.read_manifest(path / "manifest-0.json")
    manifests.write_manifest(path, replace(found, **dict(origin)), lines(listed), 0)


def install(path, content, index=1, **changes):
    """Put other bytes in the place of a shard, and its checksum into the manifest."""
    shard(path, index).write_bytes(content)
    known = {"sha256": hashlib.sha256(content).hexdigest(), **changes}
    rewrite(
        path,
        lines=lambda lines: [
            line._replace(**known) if line.number == index else line for line in lines
        ],
    )


def unpack(path, index=1):
    """The records of a shard."""
    store = TeacherStore(path)
    origin = store.manifest
    first = index * origin.shard_size
    last = first + origin.shard_size
    records = []
    for example in EXAMPLES[first:last]:
        record = Record(example.key, digest(0), store[example.key])
        records.append(record)
    return origin, records


def repack(path, change, index=1, **changed):
    """Write a shard anew from changed records, with every checksum right."""
    origin, records = unpack(path, index)
    other = replace(origin, **changed)
    line, content = shards.pack(other, index, change(records))
    # Bytes of the shard carry the store's own mark, as those of a careful forger would.
    content = content.replace(other.digest.encode(), origin.digest.encode())
    install(path, content, index, tokens=line.tokens)


def cut(records):
    """Records of the two largest logits alone."""
    found = []
    for record in records:
        values = record.rows.values[:, :2]
        ids = record.rows.ids[:, :2]
        rows = replace(record.rows, values=values, ids=ids)
        found.append(record._replace(rows=rows))
    return found


CORRUPTIONS = {
    "cut by a byte": lambda p, o: shard(p).write_bytes(shard(p).read_bytes()[:-1]),
    "empty": lambda p, o: shard(p).write_bytes(b""),
    "zeros": lambda p, o: shard(p).write_bytes(bytes(shard(p).stat().st_size)),
    "longer": lambda p, o: shard(p).write_bytes(shard(p).read_bytes() + b"\0"),
    "last bit": lambda p, o: flip(shard(p), -1),
    "middle bit": lambda p, o: flip(shard(p), shard(p).stat().st_size // 2),
    "header bit": lambda p, o: flip(shard(p), 20),
    "gone": lambda p, o: shard(p).unlink(),
    "all gone": lambda p, o: [file.unlink() for file in p.glob("shard*")],
    "swapped": lambda p, o: (
        shard(p, 0).rename(shard(p, 9))
        and shard(p).rename(shard(p, 0))
        and shard(p, 9).rename(shard(p))
    ),
    "of another k": lambda p, o: shutil.copy(shard(o / "deeper"), shard(p)),
    "of another k, listed": lambda p, o: install(p, shard(o / "deeper").read_bytes()),
    "of another order, listed": lambda p, o: install(
        p, shard(o / "reversed").read_bytes()
    ),
    "of another place, listed": lambda p, o: install(p, shard(p, 0).read_bytes()),
    "extra": lambda p, o: shutil.copy(shard(p), shard(p, 4)),
    "twice in manifests": lambda p, o: shutil.copy(
        p / "manifest-0.json", p / "manifest-1.json"
    ),
    "foreign manifest": lambda p, o: shutil.copy(
        o / "deeper" / "manifest-0.json", p / "manifest-1.json"
    ),
    "replaced manifest": lambda p, o: shutil.copy(
        o / "deeper" / "manifest-0.json", p / "manifest-0.json"
    ),
    "no manifest": lambda p, o: (p / "manifest-0.json").unlink(),
    "cut manifest": lambda p, o: (p / "manifest-0.json").write_bytes(
        (p / "manifest-0.json").read_bytes()[:-9]
    ),
    "manifest bit": lambda p, o: flip(p / "manifest-0.json", 60),
    "manifest of nothing": lambda p, o: (p / "manifest-0.json").write_text("[]"),
    "other tokenizer": lambda p, o: rewrite(p, {"tokenizer": digest(0)}),
    "other template": lambda p, o: rewrite(p, {"template": digest(0)}),
    "other k": lambda p, o: rewrite(p, {"k": 3}),
    "newer format": lambda p, o: rewrite(p, {"format": 3}),
    "fewer listed": lambda p, o: rewrite(p, lines=lambda lines: lines[:-1]),
    "none listed": lambda p, o: rewrite(p, lines=lambda lines: []),
    "fewer promised": lambda p, o: rewrite(
        p, {"examples": 15}, lambda lines: lines[:-1]
    ),
    "listed with other examples": lambda p, o: rewrite(
        p, lines=lambda ls: [line._replace(examples=line.examples + 1) for line in ls]
    ),
    "columns cut": lambda p, o: repack(p, cut),
    "columns gone": lambda p, o: repack(p, lambda records: records, logits=False),
    "same examples": lambda p, o: repack(p, lambda records: [*records[1:], records[1]]),
    "same examples as another": lambda p, o: repack(p, lambda records: unpack(p, 0)[1]),
    "fewer examples": lambda p, o: repack(p, lambda records: records[1:]),
    "fewer tokens than counted": lambda p, o: rewrite(
        p, lines=lambda ls: [line._replace(tokens=line.tokens - 1) for line in ls]
    ),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_refuses_what_is_corrupt(copy, captured, name):
    CORRUPTIONS[name](copy, captured)
    with pytest.raises(ValueError, match=r" must .* but .*: ") as refused:
        TeacherStore(copy)
    assert str(copy) in str(refused.value)
    assert "\n" not in str(refused.value)


@given(place=st.integers(0, 10**9), bit=st.integers(0, 7))
def test_no_flipped_bit_is_read(captured, tmp_path_factory, place, bit):
    path = tmp_path_factory.mktemp("flipped") / "store"
    shutil.copytree(captured / "store", path)
    files = sorted(path.iterdir())
    file = files[place % len(files)]
    content = bytearray(file.read_bytes())
    content[place % len(content)] ^= 1 << bit
    file.write_bytes(content)
    with contextlib.suppress(ValueError):
        store = TeacherStore(path)  # the manifest's layout is no part of what it says
        assert file.name == "manifest-0.json"
        assert store.manifest == TeacherStore(captured / "store").manifest
    shutil.rmtree(path)


def test_what_was_deleted_is_captured_again(copy, captured, llama):
    flip(shard(copy), -1)
    with pytest.raises(ValueError, match="delete it and capture again"):
        capture(*llama, EXAMPLES, copy, k=4, shard_size=5, progress=False)
    shard(copy).unlink()
    capture(*llama, EXAMPLES, copy, k=4, shard_size=5, progress=False)
    for file in (captured / "store").iterdir():
        assert file.read_bytes() == (copy / file.name).read_bytes()


def test_an_edited_manifest_is_blamed_itself(copy):
    file = copy / "manifest-0.json"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('"k": 4', '"k": 3'), encoding="utf-8")
    match = (
        r"manifest-0\.json must be as it was written, but "
        r"its checksum is another"
    )
    with pytest.raises(ValueError, match=match):
        TeacherStore(copy)


def test_a_writer_does_not_build_on_damage(copy):
    flip(shard(copy), -1)
    with pytest.raises(ValueError, match=r"shard-00001.*checksum"):
        StoreWriter(copy, manifests.read_manifest(copy / "manifest-0.json")[0])


def test_manifests_say_where_the_rows_are_from(copy, llama):
    origin, listed = manifests.read_manifest(copy / "manifest-0.json")
    assert (origin.k, origin.dtype, origin.vocabulary) == (4, "float32", len(llama[1]))
    assert [line.number for line in listed] == [0, 1, 2, 3]
    for line in listed:
        assert isinstance(line, Shard)
        content = shard(copy, line.number).read_bytes()
        assert line.sha256 == hashlib.sha256(content).hexdigest()
    manifest = json.loads((copy / "manifest-0.json").read_text())
    keys = [example.key for example in EXAMPLES]
    assert manifest["origin"]["data"] == data_fingerprint(keys)


def test_checks_pass_where_all_is_as_it_was(copy, llama):
    TeacherStore(copy).check(
        tokenizer=llama[1],
        k=4,
        examples=[*EXAMPLES, *tiny.sums(3, seed=9)],
        logits=True,
    )


def test_refuses_other_tokenizers(copy, gpt2):
    with pytest.raises(ValueError, match="captured with the tokenizer"):
        TeacherStore(copy).check(tokenizer=gpt2[1])


def test_refuses_other_templates(copy, llama):
    tokenizer = pickle.loads(pickle.dumps(llama[1]))
    TeacherStore(copy).check(tokenizer=tokenizer)
    tokenizer.chat_template += " "
    with pytest.raises(ValueError, match="captured with the template"):
        TeacherStore(copy).check(tokenizer=tokenizer)


def test_refuses_more_logits_than_there_are(copy):
    with pytest.raises(ValueError, match="must hold k = 5 logits a token, but holds 4"):
        TeacherStore(copy).check(k=5)


def test_refuses_other_texts(copy, llama):
    origin, _ = unpack(copy)
    repack(
        copy,
        lambda records: [r._replace(digest=digest("another text")) for r in records],
    )
    store = TeacherStore(copy)
    assert store.manifest == origin
    # One that no template renders is not stored.
    odd = Example((Message("user", "a"),), " ")
    store.check(tokenizer=llama[1], examples=[odd, *EXAMPLES[:5]])
    with pytest.raises(ValueError, match=f"the text of {EXAMPLES[5].key}"):
        store.check(tokenizer=llama[1], examples=EXAMPLES)


def test_padding_and_truncation_are_no_part_of_a_tokenizer(copy, llama):
    tokenizer = pickle.loads(pickle.dumps(llama[1]))
    tokenizer(["a", "b c d e"], padding=True, truncation=True, max_length=3)
    TeacherStore(copy).check(tokenizer=tokenizer)
