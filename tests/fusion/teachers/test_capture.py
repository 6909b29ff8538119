"""Captured rows against the plain forward pass, in any order, at any interruption."""

import copy
import json
import math
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.teachers.capture import _rows, capture, teacher_rows
from fusion.teachers.store import TeacherStore
from fusion.text.conversations import Example, encode
from fusion.text.rows import ExamplesWarning
from tests.fusion import killed_capture, tiny

EXAMPLES = tiny.sums(12) + tiny.sums(5, seed=1, chat=True)


def said(teacher, example):
    """Full rows of float64 logits that predict a completion, and its tokens.

    They are of one forward pass, without batch or store.
    """
    model, tokenizer = teacher
    code = encode(example, tokenizer)
    ids = torch.from_numpy(code.input_ids)
    with torch.inference_mode():
        logits = model(ids[None]).logits[0].double()  # (T, V)
    # The row before a token predicts it.
    before = np.flatnonzero(code.completion_mask) - 1
    rows = logits.numpy()[before]  # (n, V)
    return rows, code.input_ids[code.completion_mask]


def close(found, wanted, tolerance=1e-3):
    """The default tolerance is that of float16."""
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


def agree(store, teacher, examples, k):
    """What a store holds of examples is made of the full rows of a teacher."""
    _, tokenizer = teacher
    for example in examples:
        rows, targets = said(teacher, example)  # (n, V) and (n,)
        found = store[example.key]
        order = np.argsort(-rows, axis=1)[:, :k]
        values = found.values + found.shift[:, None]  # as the model gave them
        close(found.shift, rows.max(axis=1), tolerance=1e-5)
        close(values, np.take_along_axis(rows, order, axis=1))
        # Ids may differ from the order where logits are equal.
        ids = found.ids.astype(int)
        close(np.take_along_axis(rows, ids, axis=1), values)
        logsumexp = np.log(np.exp(rows).sum(axis=1))
        close(found.logsumexp + found.shift, logsumexp, tolerance=1e-5)
        close(found.mean + found.shift, rows.mean(axis=1), tolerance=1e-5)
        close(found.std, rows.std(axis=1))
        target_logits = rows[np.arange(len(rows)), targets]
        close(found.nll, logsumexp - target_logits)
        code = encode(example, tokenizer)
        assert found.ends.tolist() == code.ends.tolist()


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("sizes", [(1, 100), (4, 5), (8, 3)], ids=str)
def test_rows_are_those_of_a_plain_forward_pass(tmp_path, request, name, sizes):
    teacher = request.getfixturevalue(name)
    batch_size, shard_size = sizes
    capture(
        *teacher,
        EXAMPLES,
        tmp_path,
        k=7,
        batch_size=batch_size,
        shard_size=shard_size,
        progress=False,
    )
    store = TeacherStore(tmp_path)
    assert len(store) == len(EXAMPLES)
    files = list(tmp_path.glob("*.safetensors"))
    assert len(files) == math.ceil(len(EXAMPLES) / shard_size)
    agree(store, teacher, EXAMPLES, k=7)


def test_models_without_a_head_of_their_own_are_asked_for_all(tmp_path, llama):
    class Plain(torch.nn.Module):
        config, dtype, device = llama[0].config, llama[0].dtype, llama[0].device

        def forward(self, input_ids, attention_mask, use_cache):
            return llama[0](
                input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache
            )

        def get_output_embeddings(self):
            return None

        def state_dict(self):
            return llama[0].state_dict()

    capture(Plain(), llama[1], EXAMPLES, tmp_path, k=3, progress=False)
    agree(TeacherStore(tmp_path), llama, EXAMPLES, k=3)


def test_a_shuffled_data_set_still_meets_the_right_rows(tmp_path, llama):
    order = np.random.default_rng(0).permutation(len(EXAMPLES))
    shuffled = [EXAMPLES[i] for i in order]
    capture(
        *llama,
        [*shuffled, *shuffled[:4]],
        tmp_path,
        k=5,
        batch_size=4,
        shard_size=4,
        progress=False,
    )
    store = TeacherStore(tmp_path)
    assert len(store) == len(EXAMPLES)
    agree(store, llama, EXAMPLES, k=5)
    # Other examples of as many tokens have other rows: agreement says something.
    first, *others = EXAMPLES
    tops = store[first.key].shift
    for example in others:
        rows, _ = said(llama, example)
        wrong = rows.max(axis=1)
        if len(wrong) == len(tops):
            assert not np.allclose(tops, wrong, atol=1e-3)


def test_ranks_together_make_the_store_of_one(tmp_path, llama):
    settings = {"k": 4, "batch_size": 2, "shard_size": 3, "progress": False}
    capture(*llama, EXAMPLES, tmp_path / "one", **settings)
    capture(*llama, EXAMPLES, tmp_path / "two", rank=1, world=2, **settings)
    with pytest.raises(ValueError, match=r"must list shard-00000\.safetensors once"):
        TeacherStore(tmp_path / "two")
    capture(*llama, EXAMPLES, tmp_path / "two", rank=0, world=2, **settings)
    TeacherStore(tmp_path / "two")
    for file in (tmp_path / "one").glob("*.safetensors"):
        same = tmp_path / "two" / file.name
        assert file.read_bytes() == same.read_bytes()


def test_a_run_goes_on_only_with_what_it_began_with(tmp_path, llama, gpt2):
    capture(*llama, EXAMPLES, tmp_path, k=3, shard_size=8, progress=False)
    for file in tmp_path.glob("shard*"):
        os.utime(file, ns=(0, 0))
    capture(*llama, EXAMPLES, tmp_path, k=3, shard_size=8, progress=False)
    assert {file.stat().st_mtime_ns for file in tmp_path.glob("shard*")} == {0}
    for teacher, examples, k in [
        (gpt2, EXAMPLES, 3),
        (llama, EXAMPLES[1:], 3),
        (llama, EXAMPLES, 4),
    ]:
        with pytest.raises(ValueError, match="must be gone on with as it was begun"):
            capture(*teacher, examples, tmp_path, k=k, shard_size=8, progress=False)
    other = (tiny.llama(seed=5)[0], llama[1])
    with pytest.raises(ValueError, match="but model was"):
        capture(*other, EXAMPLES, tmp_path, k=3, shard_size=8, progress=False)


def test_a_killed_run_ends_with_the_same_bytes(forkserver, tmp_path):
    folder = str(tmp_path)
    process = forkserver.Process(target=killed_capture.kill_and_resume, args=(folder,))
    process.start()
    process.join()
    assert process.exitcode == 0
    kills = json.loads((tmp_path / "kills.json").read_text())
    assert kills["events"] == ["forward", "rename", "write"]
    assert kills["interrupted"] == [[True, True, False]] * 5
    assert kills["same"] == [True] * 5


def test_ten_logits_cost_at_most_80_bytes_a_token(tmp_path, llama):
    capture(*llama, tiny.sums(100), tmp_path, k=10, shard_size=50, progress=False)
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert size / TeacherStore(tmp_path).tokens <= 80


@pytest.mark.parametrize(
    "wrong",
    [
        {"k": 0},
        {"k": 10**6},
        {"batch_size": 0},
        {"shard_size": 0},
        {"rank": 2, "world": 2},
        {"max_length": 4},
        {"max_length": 0},
        {"max_length": "many"},
        {"examples": []},
    ],
    ids=str,
)
def test_refuses_before_it_asks(tmp_path, llama, wrong):
    with pytest.raises(ValueError, match=r" must .*, but .*: "):
        capture(
            *llama,
            wrong.pop("examples", EXAMPLES),
            tmp_path / "store",
            progress=False,
            **wrong,
        )
    assert not list(tmp_path.glob("store/shard*"))


def test_refuses_teachers_that_give_no_numbers(tmp_path):
    model, tokenizer = tiny.llama()
    model.lm_head.weight.data[3] = math.nan
    with pytest.raises(ValueError, match=r"finite"):
        capture(model, tokenizer, EXAMPLES, tmp_path, progress=False)


def test_leaves_the_model_as_it_was(tmp_path):
    model, tokenizer = tiny.llama()
    model.train()
    capture(model, tokenizer, EXAMPLES, tmp_path, progress=False)
    assert model.training
    assert model(torch.tensor([[3, 4, 5]])).logits.shape == (1, 3, len(tokenizer))


class Code:
    """Three tokens that follow a prompt of one."""

    input_ids = np.array([0, 3, 1, 2])
    completion_mask = np.array([False, True, True, True])
    ends = np.array([1, 2, 3], dtype=np.int32)


@settings(max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(-4000, 4000),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_nothing_but_the_shift_hangs_on_what_is_added_to_a_row(seed, shift, dtype):
    generator = torch.Generator().manual_seed(seed)
    # Multiples of 1/64 below 2^17: sums with the shift are exact in float32.
    logits = torch.randint(-2048, 2048, (3, 50), generator=generator) / 64
    logits = logits.to(dtype)
    found = _rows(logits + shift, Code, 10)
    wanted = _rows(logits, Code, 10)
    for name in ("values", "ids", "logsumexp", "mean", "std", "nll", "ends"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    np.testing.assert_array_equal(found.shift, wanted.shift + shift)
    # And what is stored is right: float16 has 11 digits, of numbers below 64.
    top = logits.log_softmax(1).topk(10).values
    close(found.values - found.logsumexp[:, None], top, tolerance=2.0**-6)
    centred = (logits - logits.mean(1, keepdim=True)).topk(10).values
    close(found.values - found.mean[:, None], centred, tolerance=2.0**-6)


def padded(teacher, columns=13):
    """The teacher with further columns of logits, which are larger than all others."""
    model, tokenizer = teacher
    model = copy.deepcopy(model)
    model.resize_token_embeddings(len(tokenizer) + columns, mean_resizing=False)
    weight = model.get_output_embeddings().weight.data
    weight[len(tokenizer) :] = 5 * weight[:columns]
    return model, tokenizer


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_columns_of_no_token_are_not_read(tmp_path, request, name):
    teacher = request.getfixturevalue(name)
    model, tokenizer = padded(teacher)
    ids = torch.tensor([[3, 4, 5]])
    assert model(ids).logits.argmax(-1).max() >= len(tokenizer)
    capture(model, tokenizer, EXAMPLES, tmp_path, k=7, progress=False)
    store = TeacherStore(tmp_path)
    assert store.manifest.vocabulary == len(tokenizer)
    agree(store, teacher, EXAMPLES, k=7)
    with pytest.raises(ValueError, match="k must be an integer at least 1 and at most"):
        capture(model, tokenizer, EXAMPLES, tmp_path, k=len(tokenizer) + 1)


def test_rows_start_where_the_first_token_does(llama):
    code = replace(encode(EXAMPLES[0], llama[1]), start=-3)
    (found,) = teacher_rows(llama[0], [code], 3)
    assert found.start == -3


def test_base_models_take_a_template(tmp_path, llama):
    model, tokenizer = llama
    template = tokenizer.chat_template
    base = copy.deepcopy(tokenizer)
    base.chat_template = None
    settings = {"k": 3, "progress": False}
    with pytest.raises(ValueError, match="must have a chat template"):
        capture(model, base, EXAMPLES, tmp_path / "none", **settings)
    capture(model, base, EXAMPLES, tmp_path / "base", template=template, **settings)
    assert base.chat_template is None
    capture(model, tokenizer, EXAMPLES, tmp_path / "chat", **settings)
    for file in (tmp_path / "chat").iterdir():
        assert file.read_bytes() == (tmp_path / "base" / file.name).read_bytes()
    TeacherStore(tmp_path / "base").check(tokenizer=tokenizer)
    settings["template"] = template + " "
    with pytest.raises(ValueError, match="but template was"):
        capture(model, base, EXAMPLES, tmp_path / "base", **settings)


def test_tokens_without_an_embedding_are_refused_where_they_occur(tmp_path, llama):
    model, tokenizer = llama
    grown = copy.deepcopy(tokenizer)
    grown.add_tokens(["<think>"])
    capture(model, grown, EXAMPLES, tmp_path / "unused", k=3, progress=False)
    store = TeacherStore(tmp_path / "unused")
    assert store.manifest.vocabulary == len(tokenizer)
    agree(store, llama, EXAMPLES, k=3)
    used = [*EXAMPLES, Example("two plus two?", "<think> four", row=42)]
    match = f"must be among the {len(tokenizer)} .* but '<think>' in row 42 has the id"
    with pytest.raises(ValueError, match=match):
        capture(model, grown, used, tmp_path / "used", k=3, progress=False)
    assert not (tmp_path / "used").exists()
    with pytest.warns(ExamplesWarning, match=match):
        capture(
            model,
            grown,
            used,
            tmp_path / "used",
            k=3,
            on_bad_rows="drop",
            progress=False,
        )
    assert len(TeacherStore(tmp_path / "used")) == len(EXAMPLES)


def test_a_teacher_is_asked_no_further_than_its_context(tmp_path):
    for name, (model, tokenizer) in (("a", tiny.llama()), ("b", tiny.gpt2())):
        context = model.config.max_position_embeddings
        example = Example("sum ", "number" + " number" * context, row=4)
        with pytest.warns(ExamplesWarning, match=f"= {context} tokens: row 4"):
            capture(model, tokenizer, [example], tmp_path / name, progress=False)
        store = TeacherStore(tmp_path / name)
        assert store.tokens == context - 1 - encode(example, tokenizer).positions[0]
        assert store.manifest.max_length == context


def test_examples_that_cannot_be_asked_are_left_out_on_request(tmp_path, llama):
    long = Example("sum " * 2000, "7", row=9)
    examples = [*EXAMPLES[:3], long]
    with pytest.raises(ValueError, match="1 of 4 are not"):
        capture(*llama, examples, tmp_path / "a", progress=False)
    assert not (tmp_path / "a").exists()
    with pytest.warns(ExamplesWarning, match=r"1 of 4 .*\n.* row 9"):
        capture(*llama, examples, tmp_path / "a", on_bad_rows="drop", progress=False)
    store = TeacherStore(tmp_path / "a")
    assert [example.key in store for example in examples] == [True] * 3 + [False]
