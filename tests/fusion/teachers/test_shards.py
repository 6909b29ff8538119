"""The files of a store: the same bytes for the same rows, and nothing written that cannot be read."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.teachers import shards
from fusion.teachers.shards import Record
from tests.fusion.teachers.test_store import ORIGIN, digest, rows, write


@given(st.integers(0, 2**32))
def test_shards_are_the_same_bytes_whenever_they_say_the_same(seed):
    made = [
        shards.pack(
            ORIGIN,
            0,
            [Record(digest(0), digest(1), rows(np.random.default_rng(seed), 2, 3))],
        )
        for _ in "ab"
    ]
    assert made[0] == made[1]


@pytest.mark.parametrize("name", ["values", "logsumexp", "mean", "std", "nll"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_refuses_to_write_what_is_no_number(tmp_path, name, bad):
    good = rows(np.random.default_rng(0), 2, 3)
    damaged = getattr(good, name).copy()
    damaged[1] = bad
    with pytest.raises(ValueError, match=f"finite {name} that fit"):
        write(
            tmp_path,
            ORIGIN,
            [Record(digest(0), digest(1), replace(good, **{name: damaged}))],
        )


def test_refuses_to_write_what_overflows(tmp_path):
    good = rows(np.random.default_rng(0), 2, 3)
    large = replace(good, values=np.full((2, 3), 1e6, dtype=np.float32))
    with pytest.raises(ValueError, match="finite values that fit into float16"):
        write(tmp_path, ORIGIN, [Record(digest(0), digest(1), large)])


@pytest.mark.parametrize("ends", [[2, 1], [1, 70000]], ids=str)
def test_refuses_to_write_tokens_of_no_length(tmp_path, ends):
    odd = replace(
        rows(np.random.default_rng(0), 2, 3), ends=np.array(ends, dtype=np.int32)
    )
    with pytest.raises(ValueError, match="bytes long, but one is"):
        write(tmp_path, ORIGIN, [Record(digest(0), digest(1), odd)])
