"""Batches: examples meet their own rows, aligned, and weights sum to one."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.teachers.store import TeacherRows
from fusion.text.align import align
from fusion.text.conversations import encode
from fusion.training import batches
from fusion.training.batches import Collator, EncodedExamples, nats_per_byte, padded
from tests.fusion import tiny

K = 4
EXAMPLES = tiny.sums(12)


def told(example, seed, shift=0.0):
    """Made-up rows of a teacher that tokenizes into whole numbers."""
    ends = encode(example, tiny.whole_tokenizer()).ends
    rng = np.random.default_rng([seed, *example.key.encode()[:4]])
    n = len(ends)
    values = -np.sort(rng.random(size=(n, K + 2)), axis=1).astype(np.float16)
    return TeacherRows(
        values=values - values[:, :1],
        ids=rng.integers(0, 700, (n, K + 2)).astype(np.int32),
        logsumexp=rng.normal(size=n).astype(np.float32),
        mean=rng.normal(size=n).astype(np.float32),
        std=rng.uniform(1, 2, n).astype(np.float16),
        nll=(rng.uniform(0, 3, n) + shift).astype(np.float16),
        ends=ends,
        shift=rng.normal(size=n).astype(np.float32),
    )


STORES = {
    "all": {e.key: told(e, 1) for e in EXAMPLES},
    "some": {e.key: told(e, 2, shift=2.0) for e in EXAMPLES[::3]},
    "none": {},
}
FEATURES = EncodedExamples(EXAMPLES, tiny.digits_tokenizer(), 512)

batches_ = st.lists(
    st.sampled_from(range(len(EXAMPLES))), min_size=1, max_size=5, unique=True
)


def collated(places, **settings):
    return Collator(STORES, padding=0, k=K, **settings)([FEATURES[i] for i in places])


@given(batches_)
def test_every_example_meets_its_own_rows(places):
    batch = collated(places)
    assert set(batch["teachers"]) == {"all"} | (
        {"some"} if any(i % 3 == 0 for i in places) else set()
    )
    for name, teacher in batch["teachers"].items():
        for b, i in enumerate(places):
            rows = STORES[name].get(EXAMPLES[i].key)
            n = 0 if rows is None else len(rows.ends)
            assert teacher["mask"][b].tolist() == [True] * n + [False] * (
                teacher["mask"].shape[1] - n
            )
            if rows is None:
                assert not teacher["pairs"][b].any()
                continue
            # Raw logits, in float32.
            values = rows.values[:, :K].astype(np.float32) + rows.shift[:, None]
            assert np.array_equal(teacher["values"][b, :n], values)
            assert np.array_equal(teacher["ids"][b, :n], rows.ids[:, :K])
            for statistic in ("logsumexp", "mean"):
                raw = getattr(rows, statistic) + rows.shift
                assert np.array_equal(teacher[statistic][b, :n], raw)
            std = rows.std.astype(np.float32)
            assert np.array_equal(teacher["std"][b, :n], std)


@settings(max_examples=80)  # each collates whole batches
@given(batches_, st.sampled_from(["bytes", "positional"]))
def test_pairs_are_those_of_the_alignment(places, how):
    batch = collated(places, how=how)
    teacher = batch["teachers"]["all"]
    for b, i in enumerate(places):
        code = FEATURES[i]["encoded"]
        ends = STORES["all"][EXAMPLES[i].key].ends
        ours, theirs = align(code.ends, ends, how, student_start=code.start)
        pairs = teacher["pairs"][b]
        assert int(pairs.sum()) == len(ours)
        # Rows of logits count from `first`, and row t predicts token t + 1.
        assert (
            teacher["student_index"][b][pairs] + batch["first"]
        ).tolist() == code.positions[ours].tolist()
        assert teacher["teacher_index"][b][pairs].tolist() == theirs.tolist()


@given(batches_)
def test_tokens_are_padded_and_labels_are_the_completion(places):
    batch = collated(places)
    for b, i in enumerate(places):
        code = FEATURES[i]["encoded"]
        n = len(code.input_ids)
        assert batch["input_ids"][b, :n].tolist() == code.input_ids.tolist()
        assert batch["attention_mask"][b].tolist() == [1] * n + [0] * (
            batch["input_ids"].shape[1] - n
        )
        assert (
            batch["labels"][b].ne(-100).nonzero()[:, 0].tolist()
            == np.flatnonzero(code.completion_mask).tolist()
        )
    labelled = batch["labels"].ne(-100).any(dim=0).nonzero()[0]
    assert batch["first"] == int(labelled) - 1


@given(batches_, st.sampled_from(["uniform", "static", "ce"]))
def test_weights_of_an_example_sum_to_one_over_the_teachers_that_know_it(
    places, weighting
):
    batch = collated(
        places,
        weighting=weighting,
        static_weights={"all": 1.0, "some": 3.0, "none": 5.0},
    )
    total = sum(teacher["weights"] for teacher in batch["teachers"].values())
    assert torch.allclose(total, torch.ones(len(places)))
    for name, teacher in batch["teachers"].items():
        known = torch.tensor([EXAMPLES[i].key in STORES[name] for i in places])
        assert torch.equal(teacher["weights"] > 0, known)


def test_tokens_that_begin_before_the_completion_pair_where_they_start():
    feature = FEATURES[0]
    rows = STORES["all"][EXAMPLES[0].key]
    for ours, theirs in ((0, 0), (-2, 0), (0, -3), (-3, -3)):
        code = dataclasses.replace(feature["encoded"], start=ours)
        store = {feature["key"]: dataclasses.replace(rows, start=theirs)}
        features = [{"key": feature["key"], "encoded": code}]
        teacher = Collator({"a": store}, padding=0, k=K)(features)["teachers"]["a"]
        # The first tokens of both pair where they start together.
        paired = 0 in teacher["teacher_index"][teacher["pairs"]]
        assert paired == (ours == theirs)


def test_weights_by_hand():
    first = {
        "weighting": "static",
        "static_weights": {"all": 1.0, "some": 3.0, "none": 5.0},
    }
    assert [
        t["weights"].tolist() for t in collated([0, 1], **first)["teachers"].values()
    ] == [[0.25, 1.0], [0.75, 0.0]]
    assert collated([0])["teachers"]["some"]["weights"].tolist() == [0.5]
    key = EXAMPLES[0].key
    ours, theirs = (
        np.exp(-nats_per_byte(STORES[name][key]) / 0.5) for name in ("all", "some")
    )
    batch = collated([0], weighting="ce", ce_temperature=0.5)
    assert batch["teachers"]["all"]["weights"].item() == pytest.approx(
        ours / (ours + theirs)
    )
    assert ours > theirs


def test_log_probabilities_alone_have_no_moments():
    rows = dataclasses.replace(STORES["all"][EXAMPLES[0].key], mean=None, std=None)
    batch = Collator({"server": {EXAMPLES[0].key: rows}}, padding=0, k=K)(
        [FEATURES[0], FEATURES[1]]
    )
    assert "mean" not in batch["teachers"]["server"]
    assert "logsumexp" in batch["teachers"]["server"]


@pytest.mark.parametrize("stores", [STORES, {}])
def test_empty_batches_are_refused(stores):
    with pytest.raises(ValueError, match="at least one example") as caught:
        Collator(stores, padding=0, k=K)([])
    assert "\n" not in str(caught.value)


def cut(rows, k):
    return dataclasses.replace(rows, values=rows.values[:, :k], ids=rows.ids[:, :k])


# Widths of the rows of the first examples; None where the teacher has not seen one.
@pytest.mark.parametrize(
    ("widths", "k"),
    [
        ((K, K, K), K + 1),
        ((K, None, K), K + 1),
        ((1, None, 1), K),
        ((K, K + 2, None), K + 1),
    ],
)
def test_stores_of_fewer_logits_are_refused_in_any_order(widths, k):
    narrow = {
        e.key: cut(told(e, 3), width)
        for e, width in zip(EXAMPLES, widths, strict=False)
        if width is not None
    }
    collator = Collator({"narrow": narrow}, padding=0, k=k)
    sentences = set()
    for places in itertools.permutations(range(len(widths))):
        with pytest.raises(ValueError, match="k must be at most") as caught:
            collator([FEATURES[i] for i in places])
        sentences.add(str(caught.value))
    least = min(width for width in widths if width is not None)
    assert sentences == {
        "k must be at most that of the store of narrow, "
        f"but is {k} where it holds {least}: lower k, or capture again."
    }


def test_all_logits_of_a_store_may_be_used():
    narrow = {EXAMPLES[0].key: cut(told(EXAMPLES[0], 3), K)}
    batch = Collator({"narrow": narrow}, padding=0, k=K)([FEATURES[0], FEATURES[1]])
    assert batch["teachers"]["narrow"]["values"].shape[-1] == K


@given(st.lists(st.integers(0, 4), min_size=1, max_size=5))
def test_padding_keeps_what_is_there(lengths):
    rows = [np.arange(1, n + 1) for n in lengths]
    found = padded(rows, -1)
    assert found.shape == (len(lengths), max(1, *lengths))
    for row, told_row in zip(found.tolist(), rows, strict=True):
        assert row == told_row.tolist() + [-1] * (found.shape[1] - len(told_row))


def test_examples_are_tokenized_once_while_there_is_room(monkeypatch):
    """The second epoch reads the same; what does not fit is tokenized again."""
    tokenizer = tiny.digits_tokenizer()
    lengths = EncodedExamples(EXAMPLES[:3], tokenizer, 512).lengths()
    encoded = []

    def counted(example, *settings):
        encoded.append(example)
        return encode(example, *settings)

    monkeypatch.setattr(batches, "encode", counted)
    # Room for the first two, and for all but a token of the third.
    monkeypatch.setattr(batches, "_KEPT_TOKENS", sum(lengths) - 1)
    data = EncodedExamples(EXAMPLES[:3], tokenizer, 512)
    epochs = [[data[place] for place in range(3)] for _ in range(2)]
    assert encoded == [*EXAMPLES[:3], EXAMPLES[2]]
    for first, second in zip(*epochs, strict=True):
        assert first["key"] == second["key"]
        assert (first["encoded"].input_ids == second["encoded"].input_ids).all()
