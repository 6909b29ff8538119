"""Files of a store: the same bytes for the same rows, and nothing that is no number."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.teachers import shards
from fusion.teachers.shards import Record
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


@pytest.mark.parametrize("name", ["values", "logsumexp", "mean", "std", "nll"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_refuses_to_write_what_is_no_number(tmp_path, name, bad):
    good = rows(np.random.default_rng(0), 2, 3)
    damaged = getattr(good, name).copy()
    damaged[1] = bad
    refused(tmp_path, f"finite {name} that fit", **{name: damaged})


def test_refuses_to_write_what_overflows(tmp_path):
    # The largest number of float16 is 65504.
    large = np.full((2, 3), 1e6, dtype=np.float32)
    refused(tmp_path, "finite values that fit into float16", values=large)


@pytest.mark.parametrize("ends", [[2, 1], [1, 70000]], ids=str)
def test_refuses_to_write_tokens_of_no_length(tmp_path, ends):
    odd = np.array(ends, dtype=np.int32)
    refused(tmp_path, "bytes long, but one is", ends=odd)
