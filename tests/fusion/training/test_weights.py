"""The scale of likelihoods: by hand, and between a good teacher and a bad one."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fusion.teachers.capture import capture
from fusion.teachers.store import TeacherStore
from fusion.text.conversations import encode
from fusion.training.batches import Collator
from fusion.training.weights import likelihood_scale, mean_weights, sampled
from tests.fusion import tiny


def store(**nll):
    """A store of completions of ten bytes with these NLLs per byte, by key."""
    rows = {}
    for key, value in nll.items():
        rows[key] = SimpleNamespace(nll=np.array([10.0 * value]), ends=np.array([10]))
    return rows


def scale(*stores):
    keys = sorted({key for each in stores for key in each})
    return likelihood_scale(dict(enumerate(stores)), keys)


def test_it_is_the_median_difference_of_best_and_worst():
    first = store(a=1.0, b=1.0, c=1.0, d=9.0)
    second = store(a=1.2, b=0.6, c=1.4, e=3.0)
    assert scale(first, second) == pytest.approx(0.4)
    # Of three teachers the one in the middle has no say; an outlier moves nothing.
    third = store(a=1.1, b=0.8, c=99.0)
    assert scale(first, second, third) == pytest.approx(0.4)


def test_where_nothing_tells_teachers_apart_any_scale_will_do():
    same = store(a=1.0, b=2.0)
    assert scale() == scale(same) == scale(same, same) == 1.0
    assert scale(same, store(c=5.0)) == 1.0
    # Equal teachers of most examples do not make it 0.
    assert scale(same, store(a=1.5, b=2.0)) == pytest.approx(0.5)


def test_rounding_is_not_told_apart():
    first, second = store(a=1.0), store(a=1.00001)
    found = scale(first, second)
    assert found == 0.001
    stores = {"x": first, "y": second}
    collator = Collator(stores, 0, weighting="ce", ce_temperature=found)
    assert mean_weights(collator, ["a"])["x"] == pytest.approx(0.5, abs=0.01)


def test_a_typical_difference_weighs_e_times_as_much():
    stores = {"good": store(a=1.0, b=1.0), "bad": store(a=1.3, c=1.0)}
    found = likelihood_scale(stores, ["a", "b", "c"])
    collator = Collator(stores, 0, weighting="ce", ce_temperature=found)
    weights = collator.weights_of("a")
    assert weights["good"] / weights["bad"] == pytest.approx(math.e)
    means = mean_weights(collator, ["a", "b", "c", "d"])
    share = math.e / (1 + math.e)
    assert means == pytest.approx({"good": (share + 1) / 4, "bad": (2 - share) / 4})


def test_keys_are_sampled_at_equal_distances():
    assert sampled("abc", 3) == ["a", "b", "c"]
    assert sampled("abcdefg", 3) == ["a", "c", "e"]


def test_the_better_of_two_teachers_weighs_more(tmp_path, llama):
    """Both have learnt the examples, one of them twice as long."""
    examples = tiny.sums(12)
    bad, tokenizer = tiny.llama(seed=3)
    good, _ = tiny.llama(seed=3)
    learn(bad, tokenizer, examples, passes=2)
    learn(good, tokenizer, examples, passes=4)
    stores = {}
    for name, model in (("bad", bad), ("good", good)):
        capture(model, tokenizer, examples, tmp_path / name, k=4, progress=False)
        stores[name] = TeacherStore(tmp_path / name)
    keys = [example.key for example in examples]
    found = likelihood_scale(stores, keys)
    means = {}
    for temperature in (found, 1.0):
        collator = Collator(stores, 0, k=4, weighting="ce", ce_temperature=temperature)
        means[temperature] = mean_weights(collator, keys)["good"]
    assert means[found] == pytest.approx(math.e / (1 + math.e), abs=0.05)
    # A nat a byte tells them apart less.
    assert means[1.0] < 0.65


def learn(model, tokenizer, examples, passes):
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(passes):
        for example in examples:
            ids = torch.from_numpy(encode(example, tokenizer).input_ids)[None]
            model(ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
