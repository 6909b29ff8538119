"""Examples are read as they are written, and keyed by content.

They are cut and wrapped so that the answer stays whole.
"""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fusion.text.conversations import Example, Message, encode, read_examples, render
from tests.fusion.tiny import (
    digits_tokenizer,
    fallback_tokenizer,
    sums,
    whole_tokenizer,
)

CHATTING = [digits_tokenizer, whole_tokenizer]


rows = [
    {"prompt": "a", "completion": "b", "domain": "x", "other": 1},
    {
        "prompt": [{"role": "user", "content": "a"}],
        "completion": [{"role": "assistant", "content": "b"}],
    },
    {
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
        ]
    },
]


CHAT = Example((Message("user", "a"),), "b")


def test_rows_become_examples():
    assert read_examples(rows) == [Example("a", "b", "x"), CHAT, CHAT]


def test_files_data_sets_and_rows_agree(tmp_path):
    datasets = pytest.importorskip("datasets")
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps(row) + "\n" for row in rows[1:2]), encoding="utf-8"
    )
    assert (
        read_examples(path)
        == read_examples(datasets.Dataset.from_list(rows[1:2]))
        == [CHAT]
    )


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "a"},
        {"prompt": "a", "completion": ""},
        {"prompt": "", "completion": "b"},
        {"prompt": "a", "completion": "\ud800"},
        {"prompt": "a", "completion": [{"role": "assistant", "content": "b"}]},
        {
            "prompt": [{"role": "user", "content": "a"}],
            "completion": [{"role": "user", "content": "b"}],
        },
        {"messages": [{"role": "user", "content": "a"}]},
        {"messages": [{"role": "assistant", "content": "a"}]},
        {"messages": []},
        {
            "messages": [
                {"role": "user", "content": [{"type": "image"}]},
                {"role": "assistant", "content": "b"},
            ]
        },
        ["a", "b"],
    ],
    ids=str,
)
def test_refuses_other_rows_by_number(row):
    with pytest.raises(ValueError, match=r"^Row 2 must have .*: repair or drop it\.$"):
        read_examples([rows[0], row])


def test_refuses_files_that_are_no_jsonl(tmp_path):
    (tmp_path / "x.jsonl").write_text(
        '{"prompt": "a", "completion": "b"}\n{', encoding="utf-8"
    )
    with pytest.raises(ValueError, match="line 2"):
        read_examples(tmp_path / "x.jsonl")


def test_keys_are_of_the_content_alone():
    assert Example("a", "b", "x").key == Example("a", "b", "y").key
    different = [
        Example("a", "b"),
        Example("ab", "b"),
        Example("a", "bb"),
        CHAT,
        Example((Message("system", "a"),), "b"),
    ]
    assert len({example.key for example in different}) == len(different)
    assert CHAT.key == hashlib.sha256(b'[["user","a"],["assistant","b"]]').hexdigest()


@pytest.mark.parametrize("make", CHATTING)
def test_templates_wrap_the_answer_as_it_is(make):
    tokenizer = make()
    example = Example((Message("user", "2 + 2 = ?"),), "  4 \n")
    head, tail = render(example, tokenizer)
    turns = [{"role": "user", "content": "2 + 2 = ?"}]
    assert head == tokenizer.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=True
    )
    code = encode(example, tokenizer)
    prompt = tokenizer(head, add_special_tokens=False)["input_ids"]
    assert code.input_ids[: len(prompt)].tolist() == prompt
    assert (
        tokenizer.decode(code.input_ids[code.completion_mask][:-1])
        == example.completion
    )
    assert code.input_ids[-1] == tokenizer.convert_tokens_to_ids(
        "<|end|>" if "<|end|>" in tail else tokenizer.eos_token
    )
    assert code.positions.tolist() == list(
        range(len(prompt) - 1, len(code.input_ids) - 1)
    )


def test_plain_prompts_get_the_start_token():
    tokenizer = digits_tokenizer()
    assert encode(Example("a", "b"), tokenizer).input_ids[0] == tokenizer.bos_token_id


def test_refuses_conversations_without_a_template():
    with pytest.raises(ValueError, match="must have a chat template"):
        encode(CHAT, fallback_tokenizer())


@pytest.mark.parametrize(
    "content",
    ["nothing", "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}"],
)
def test_refuses_templates_that_lose_or_double_the_answer(content):
    tokenizer = digits_tokenizer()
    kept, tokenizer.chat_template = tokenizer.chat_template, content
    try:
        with pytest.raises(ValueError, match="exactly once"):
            encode(CHAT, tokenizer)
    finally:
        tokenizer.chat_template = kept


@given(st.integers(0, 1000), st.integers(0, 40))
def test_cutting_drops_the_end_of_the_completion_only(seed, room):
    tokenizer, example = digits_tokenizer(), sums(1, seed)[0]
    code = encode(example, tokenizer)
    prompt = int((~code.completion_mask).sum())
    cut = encode(example, tokenizer, prompt + 1 + room)
    n = len(cut.ends)
    assert len(cut.input_ids) == min(len(code.input_ids), prompt + 1 + room)
    assert cut.input_ids.tolist() == code.input_ids[: len(cut.input_ids)].tolist()
    assert cut.ends.tolist() == code.ends[:n].tolist()
    assert n == cut.completion_mask.sum()


def test_every_marked_token_has_an_end_where_the_completion_gives_none():
    words = Tokenizer(models.WordLevel({"</s>": 0, "two": 1}, unk_token="</s>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>")
    code = encode(Example("two", " "), tokenizer)
    assert code.input_ids.tolist() == [1, 0]
    assert code.completion_mask.tolist() == [False, True]
    assert code.ends.tolist() == [0]
    assert code.ends.dtype == np.int32
    # As after tokens, the end token ends where they do, not at dropped characters.
    assert encode(Example("two", "two "), tokenizer).ends.tolist() == [3, 3]


def test_refuses_prompts_that_leave_no_room():
    with pytest.raises(ValueError, match="must be shorter than max_length = 3"):
        encode(sums(1)[0], digits_tokenizer(), 3)


def test_digests_tell_texts_apart():
    plain, chat = sums(1)[0], sums(1, chat=True)[0]
    made = [encode(e, make()).digest for e in (plain, chat) for make in CHATTING]
    assert len(set(made)) == 4
