"""Captured rows against the plain forward pass, in any order, at any interruption."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion.teachers.capture import capture
from fusion.teachers.store import TeacherStore
from fusion.text.conversations import encode
from tests.fusion import tiny

ROOT = Path(__file__).parents[3]


EXAMPLES = tiny.sums(12) + tiny.sums(5, seed=1, chat=True)


def said(teacher, example):
    """Full rows of float64 logits that predict a completion, and its tokens.

    They are of one forward pass, without batch or store.
    """
    model, tokenizer = teacher
    code = encode(example, tokenizer)
    with torch.inference_mode():
        logits = model(torch.from_numpy(code.input_ids)[None]).logits[0].double()
    rows = logits.numpy()[np.flatnonzero(code.completion_mask) - 1]
    return rows, code.input_ids[code.completion_mask]


def agree(store, teacher, examples, k):
    for example in examples:
        rows, found = said(teacher, example)[0], store[example.key]
        order = np.argsort(-rows, axis=1)[:, :k]
        logsumexp = np.log(np.exp(rows).sum(axis=1))
        targets = said(teacher, example)[1]
        np.testing.assert_allclose(
            found.values, np.take_along_axis(rows, order, axis=1), rtol=1e-3, atol=1e-3
        )
        np.testing.assert_allclose(
            np.take_along_axis(rows, found.ids.astype(int), 1),
            found.values,
            rtol=1e-3,
            atol=1e-3,
        )
        np.testing.assert_allclose(found.logsumexp, logsumexp, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.mean, rows.mean(axis=1), rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(found.std, rows.std(axis=1), rtol=1e-3, atol=1e-3)
        nll = logsumexp - rows[np.arange(len(rows)), targets]
        np.testing.assert_allclose(found.nll, nll, rtol=1e-3, atol=1e-3)
        assert found.ends.tolist() == encode(example, teacher[1]).ends.tolist()


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("sizes", [(1, 100), (4, 5), (8, 3)], ids=str)
def test_rows_are_those_of_a_plain_forward_pass(tmp_path, request, name, sizes):
    teacher = request.getfixturevalue(name)
    capture(
        *teacher,
        EXAMPLES,
        tmp_path,
        k=7,
        batch_size=sizes[0],
        shard_size=sizes[1],
        progress=False,
    )
    store = TeacherStore(tmp_path)
    assert len(store) == len(EXAMPLES)
    assert len(list(tmp_path.glob("*.safetensors"))) == math.ceil(
        len(EXAMPLES) / sizes[1]
    )
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
    wrong = [said(llama, example)[0].max(axis=1) for example in EXAMPLES]
    assert not any(
        np.allclose(store[EXAMPLES[0].key].values[:, 0], w, atol=1e-3)
        for w in wrong[1:]
        if len(w) == len(wrong[0])
    )


def test_ranks_together_make_the_store_of_one(tmp_path, llama):
    settings = {"k": 4, "batch_size": 2, "shard_size": 3, "progress": False}
    capture(*llama, EXAMPLES, tmp_path / "one", **settings)
    capture(*llama, EXAMPLES, tmp_path / "two", rank=1, world=2, **settings)
    with pytest.raises(ValueError, match=r"must list shard-00000\.safetensors once"):
        TeacherStore(tmp_path / "two")
    capture(*llama, EXAMPLES, tmp_path / "two", rank=0, world=2, **settings)
    TeacherStore(tmp_path / "two")
    for file in (tmp_path / "one").glob("*.safetensors"):
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


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


def test_a_killed_run_ends_with_the_same_bytes(tmp_path):
    command = [sys.executable, "-m", "tests.fusion.killed_capture", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    kills = json.loads(done.stdout)
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
