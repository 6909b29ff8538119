"""Files of a store: the same bytes for the same rows, and nothing that is no number."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from fusion.teachers import manifests, shards
from fusion.teachers.report import report
from fusion.teachers.shards import Record
from fusion.teachers.store import StoreWriter, TeacherStore
from fusion.text.conversations import Example
from tests.fusion.teachers.test_store import ORIGIN, digest, rows, write


def packed(seed):
    """A shard of two tokens with three logits each, made anew."""
    rng = np.random.default_rng(seed)
    record = Record(digest(0), digest(1), rows(rng, 2, 3))
    return shards.pack(ORIGIN, 0, [record])


def refused(path, match, **changed):
    """Nothing is written of rows of which some arrays are changed."""
    rng = np.random.default_rng(0)
    damaged = replace(rows(rng, 2, 3), **changed)
    record = Record(digest(0), digest(1), damaged)
    with pytest.raises(ValueError, match=match):
        write(path, ORIGIN, [record])


@given(st.integers(0, 2**32))
def test_shards_are_the_same_bytes_whenever_they_say_the_same(seed):
    assert packed(seed) == packed(seed)


@pytest.mark.parametrize("name", ["values", "logsumexp", "mean", "std", "nll", "shift"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_refuses_to_write_what_is_no_number(tmp_path, name, bad):
    good = rows(np.random.default_rng(0), 2, 3)
    damaged = getattr(good, name).copy()
    damaged[1, ...] = bad
    if name == "values":
        damaged[:, 0] = 0.0
    refused(tmp_path, f"finite {name} that fit", **{name: damaged})


def test_refuses_to_write_what_overflows(tmp_path):
    # The largest number of float16 is 65504.
    large = np.full((2, 3), -1e6, dtype=np.float32)
    large[:, 0] = 0.0
    refused(tmp_path, "finite values that fit into float16", values=large)


@pytest.mark.parametrize("ends", [[2, 1], [1, 70000]], ids=str)
def test_refuses_to_write_tokens_of_no_length(tmp_path, ends):
    odd = np.array(ends, dtype=np.int32)
    refused(tmp_path, "bytes long, but one is", ends=odd)


@pytest.mark.parametrize("start", [2**15, -(2**15)])
def test_refuses_to_write_starts_that_are_none(tmp_path, start):
    refused(tmp_path, f"but one starts at {start}", start=start)


@pytest.mark.parametrize(
    "changed", [{"format": 1}, {"values": np.ones((2, 3), dtype=np.float16)}], ids=str
)
def test_refuses_to_write_logits_that_are_not_relative(tmp_path, changed):
    refused(tmp_path, "less the largest of their row", **changed)


EXAMPLES = [Example("a", "wxyz"), Example("b", "vw")]
COUNTS = [4, 2]  # tokens, of a byte each


def raw_logits(shift):
    """Logits (6, 20), and the target of each row: the likeliest, but for the second."""
    rng = np.random.default_rng(0)
    logits = 2 * rng.standard_normal((6, 20)) + shift
    targets = logits.argmax(axis=1)
    targets[1] = logits[1].argmin()
    return logits, targets


def logsumexps(logits):
    largest = logits.max(axis=1)
    return largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))


def write_format_1(path, logits, targets, *, known=True):
    """Lay the bytes of a store out as the first version did, with k = 5 and one shard.

    Returned are the tensors; without ``known`` logits there are log-probabilities.
    """
    logsumexp = logsumexps(logits)
    told = logits if known else logits - logsumexp[:, None]
    ids = np.argsort(-told, axis=1)[:, :5]
    target = np.take_along_axis(logits, targets[:, None], axis=1)[:, 0]
    keys = b"".join(bytes.fromhex(example.key)[:16] for example in EXAMPLES)
    tensors = {
        "keys": np.frombuffer(keys, dtype=np.uint8).reshape(2, 16),
        "texts": np.zeros((2, 8), dtype=np.uint8),
        "counts": np.array(COUNTS, dtype=np.int32),
        "lengths": np.ones(6, dtype=np.uint16),
        "values": np.take_along_axis(told, ids, axis=1).astype(np.float16),
        "ids": ids.astype(np.int32),
        "logsumexp": (logsumexp if known else 0 * logsumexp).astype(np.float32),
        "nll": (logsumexp - target).astype(np.float16),
    }
    if known:
        tensors["mean"] = logits.mean(axis=1).astype(np.float16)
        tensors["std"] = logits.std(axis=1).astype(np.float16)
    origin = replace(
        ORIGIN, k=5, logits=known, examples=2, shard_size=2, data="d", format=1
    )
    content = save(tensors, metadata={"shard": f"{origin.digest}/0"})
    checksum = hashlib.sha256(content).hexdigest()
    path.mkdir()
    (path / "shard-00000.safetensors").write_bytes(content)
    line = manifests.Shard(0, examples=2, tokens=6, sha256=checksum)
    manifests.write_manifest(path, origin, [line], 0)
    return tensors


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("shift", [0.0, -40.0, 300.0])
def test_format_1_is_read_as_it_was_written(tmp_path, shift, known):
    logits, targets = raw_logits(shift)
    tensors = write_format_1(tmp_path / "store", logits, targets, known=known)
    store = TeacherStore(tmp_path / "store")
    first = 0
    for example, count in zip(EXAMPLES, COUNTS, strict=True):
        found = store[example.key]
        here = slice(first, first + count)
        first += count
        assert found.ends.tolist() == list(range(1, count + 1))
        assert (found.start, found.format) == (0, 1)
        np.testing.assert_array_equal(found.ids, tensors["ids"][here])
        np.testing.assert_array_equal(found.nll, tensors["nll"][here])
        # The numbers of the file, to the rounding of float32.
        for name in ("values", "logsumexp", "mean"):
            if name not in tensors:
                assert getattr(found, name) is None
                continue
            added = found.shift[:, None] if name == "values" else found.shift
            again = getattr(found, name) + added
            np.testing.assert_allclose(again, tensors[name][here], rtol=1e-6, atol=1e-6)
        if known:
            assert not found.values[:, 0].any()
            np.testing.assert_array_equal(found.std, tensors["std"][here])
        # The same probabilities as in format 2, to what float16 keeps of raw logits.
        whole = logits[here]
        wanted = -np.sort(-whole, axis=1)[:, :5] - logsumexps(whole)[:, None]
        logprobs = found.values - found.logsumexp[:, None]
        tolerance = 2.0**-11 * (abs(shift) + 16)
        np.testing.assert_allclose(logprobs, wanted, rtol=0, atol=tolerance)
    # Five of six tokens are the likeliest, whatever the rounding of the logits.
    (line,) = report({"old": store}, EXAMPLES).knowledge
    assert line.hits == pytest.approx(5 / 6)


def test_format_1_is_not_gone_on_with(tmp_path):
    write_format_1(tmp_path / "store", *raw_logits(0.0))
    begun = TeacherStore(tmp_path / "store").manifest
    with pytest.raises(ValueError, match="is of format 1, which is read"):
        StoreWriter(tmp_path / "store", replace(begun, format=2))
