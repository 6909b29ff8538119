"""Tokens are those of the whole text, and marked where the completion starts."""

import copy
import json

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fusion.text.conversations import Example, Message, encode, encode_prompt, render
from tests.fusion.text import kinds
from tests.fusion.text.kinds import starting
from tests.fusion.tiny import (
    digits_tokenizer,
    fallback_tokenizer,
    sums,
    whole_tokenizer,
)

CHATTING = [digits_tokenizer, whole_tokenizer]
CHAT = Example((Message("user", "a"),), "b")
parts = st.lists(
    st.sampled_from(
        ["a", "the", " Hello", " ", "\n", "東", "é", "<|end|>", "?", "\u0301"]
    ),
    min_size=1,
    max_size=5,
).map("".join)


def words_tokenizer(end="</s>"):
    """Two words; anything else, and the end, is one token."""
    words = Tokenizer(models.WordLevel({"</s>": 0, "two": 1}, unk_token="</s>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token=end)


@pytest.mark.parametrize("make", CHATTING)
def test_the_text_is_the_templates_and_tokenized_once(make):
    tokenizer = make()
    example = Example((Message("user", "2 + 2 = ?"),), "4 it is")
    head, tail = render(example, tokenizer)
    turns = [{"role": "user", "content": "2 + 2 = ?"}]
    assert head == tokenizer.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=True
    )
    turns.append({"role": "assistant", "content": "4 it is"})
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    assert head + example.completion + tail == text
    code = encode(example, tokenizer)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert code.input_ids.tolist() == ids[: len(code.input_ids)]
    assert code.input_ids[-1] == tokenizer.convert_tokens_to_ids(
        "<|end|>" if "<|end|>" in tail else tokenizer.eos_token
    )
    # The space behind "assistant:" may be of one token with the answer.
    before = tokenizer.decode(code.input_ids[~code.completion_mask])
    assert before == head[: len(head) + code.start]
    first = len(code.input_ids) - len(code.ends)
    assert code.positions.tolist() == list(range(first - 1, len(code.input_ids) - 1))


def test_plain_texts_get_start_tokens_and_no_end_before_the_completion():
    tokenizer = starting(digits_tokenizer())
    first, last = tokenizer.bos_token_id, tokenizer.eos_token_id
    body = tokenizer("ab", add_special_tokens=False)["input_ids"]
    code = encode(Example("a", "b"), tokenizer)
    assert code.input_ids.tolist() == [first, *body, last]
    # A text that begins with the start token has it already.
    assert encode(Example("<s>a", "b"), tokenizer).input_ids.tolist() == [
        first,
        *body,
        last,
    ]
    for prompt in ("a", "<s>a"):
        ids, ends = encode_prompt(Example(prompt, "b"), tokenizer)
        assert ids == [first, *tokenizer("a", add_special_tokens=False)["input_ids"]]
        assert ends == [last]


def test_a_token_across_the_seam_belongs_to_the_completion():
    # "? The" holds a token "? T…" of this tokenizer.
    tokenizer = digits_tokenizer()
    example = Example("What is 1 plus 2?", " The sum is 3.")
    code = encode(example, tokenizer)
    first = tokenizer.decode(code.input_ids[code.completion_mask][:1])
    before, _, inside = first.partition("?")
    assert inside
    assert code.start == -len(before + "?")
    assert code.ends[0] == len(inside)
    assert code.ends[-2] == len(example.completion)


def test_a_token_across_the_end_is_cut_there():
    tokenizer = whole_tokenizer()
    kept, tokenizer.chat_template = (
        tokenizer.chat_template,
        "{% for m in messages %}{{ m.content }}um of{% endfor %}</end>",
    )
    try:
        code = encode(Example((Message("user", "a"),), "the s"), tokenizer)
        text = tokenizer.decode(code.input_ids[code.completion_mask])
        # The token that ends behind the completion is its last, and one more follows.
        assert text.startswith("the sum")
        assert code.ends[-2:].tolist() == [5, 5]
        assert (np.diff(code.ends) >= 0).all()
    finally:
        tokenizer.chat_template = kept


@pytest.mark.parametrize("kind", [k for k in kinds.MAKERS if "fallback" in k])
def test_spaces_that_a_tokenizer_puts_first_are_no_bytes(kind):
    code = encode(Example("<|user|>", "Hello"), kinds.made(kind))
    assert code.start == 0
    assert code.ends[-1] == 5
    tokens = kinds.made(kind).convert_ids_to_tokens(
        code.input_ids[code.completion_mask].tolist()
    )
    assert "".join(tokens[:-1]).lstrip("▁") == "Hello"


def test_refuses_conversations_without_a_template():
    with pytest.raises(ValueError, match="must have a chat template"):
        encode(CHAT, fallback_tokenizer())


@given(st.integers(0, 1000), st.integers(0, 40))
def test_cutting_drops_the_end_of_the_completion_only(seed, room):
    tokenizer, example = digits_tokenizer(), sums(1, seed)[0]
    code = encode(example, tokenizer)
    prompt = int((~code.completion_mask).sum())
    cut = encode(example, tokenizer, prompt + 1 + room)
    n = len(cut.ends)
    assert cut.cut is (len(cut.input_ids) < len(code.input_ids))
    assert len(cut.input_ids) == min(len(code.input_ids), prompt + 1 + room)
    assert cut.input_ids.tolist() == code.input_ids[: len(cut.input_ids)].tolist()
    assert cut.ends.tolist() == code.ends[:n].tolist()
    assert n == cut.completion_mask.sum()
    assert cut.start == code.start


def test_every_marked_token_has_an_end_where_the_completion_gives_none():
    tokenizer = words_tokenizer()
    code = encode(Example("two", " "), tokenizer)
    assert code.input_ids.tolist() == [1, 0]
    assert code.completion_mask.tolist() == [False, True]
    assert code.ends.tolist() == [0]
    assert code.ends.dtype == np.int32
    # As after tokens, the end token ends where they do, not at dropped characters.
    assert encode(Example("two ", "two "), tokenizer).ends.tolist() == [3, 3]


def test_refuses_examples_of_no_token_to_learn():
    with pytest.raises(ValueError, match=r"^completion must give .* in row 7: drop"):
        encode(Example("two", " ", row=7), words_tokenizer(end=None))
    with pytest.raises(
        ValueError, match=r"^prompt must give .* begins with 'two': put"
    ):
        encode(Example(" ", "two"), words_tokenizer())


def test_refuses_prompts_that_leave_no_room():
    with pytest.raises(ValueError, match="must be shorter than max_length = 3"):
        encode(sums(1)[0], digits_tokenizer(), 3)


def test_digests_tell_texts_apart():
    plain, chat = sums(1)[0], sums(1, chat=True)[0]
    made = [encode(e, make()).digest for e in (plain, chat) for make in CHATTING]
    assert len(set(made)) == 4


def test_prompts_of_conversations_are_those_of_training():
    for make in CHATTING:
        tokenizer = make()
        example = Example((Message("user", "1 + 1"),), " <2 \n")
        ids, ends = encode_prompt(example, tokenizer)
        other = Example(example.prompt, "2")
        head, _ = render(other, tokenizer)
        assert ids == tokenizer(head, add_special_tokens=False)["input_ids"]
        assert ends[0] == encode(other, tokenizer).input_ids[-1]
        assert ends[-1] == tokenizer.eos_token_id


def test_spaces_before_the_end_token_end_no_answer():
    tokenizer = starting(kinds.made("fallback, no space"))
    tokenizer.chat_template = (
        "{% for m in messages %}<s>{{ m.content }}\n {{ eos_token }}{% endfor %}"
    )
    example = Example((Message("user", "Hello"),), "Hello")
    assert render(example, tokenizer)[1] == "\n </s>"
    _, ends = encode_prompt(example, tokenizer)
    assert ends == [tokenizer.eos_token_id]


# Kinds that put no space of their own in front.
OWN = ["bytes", "fallback, no space", "fallback, spaces replaced"]


@given(parts, parts, st.sampled_from(OWN))
def test_seams_of_plain_texts_are_where_the_bytes_of_tokens_are(head, answer, kind):
    tokenizer = kinds.made(kind)
    text = head + answer
    whole = tokenizer(text, add_special_tokens=False)
    edges = kinds.edges_of(whole.tokens(), text, kind)
    seam, size = len(head.encode()), len(answer.encode())
    inside = [i for i in range(len(edges) - 1) if edges[i + 1] > seam]
    assume(inside[0] > 0)  # a token of the prompt is left
    code = encode(Example(head, answer), tokenizer)
    assert code.start == edges[inside[0]] - seam
    assert code.ends.tolist() == [*(edges[i + 1] - seam for i in inside), size]


def test_turns_are_pairs_with_fields_beside_them():
    turn = Message("tool", "5", {"name": "add"})
    role, content = turn
    assert (role, content) == ("tool", "5")
    assert turn.as_dict() == {"role": "tool", "content": "5", "name": "add"}
    assert turn != Message("tool", "5")
    assert Message("tool", "5") == ("tool", "5") != turn
    assert hash(turn) == hash(("tool", "5"))
    assert repr(turn) == "Message(role='tool', content='5', fields={'name': 'add'})"
    assert json.dumps(turn) == '["tool", "5"]'


@pytest.mark.parametrize("side", ["lstrip", "rstrip"])
@pytest.mark.parametrize("answer", ["four", " four", "four ", " \n"])
def test_added_tokens_stay_where_their_own_text_is(side, answer):
    tokenizer = copy.deepcopy(whole_tokenizer())
    names = ["<|answer|>", "<|stop|>"]
    added = [AddedToken(name, special=True, **{side: True}) for name in names]
    tokenizer.add_special_tokens({"additional_special_tokens": added})
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}<|answer|>\n{{ m.content }}<|stop|>\n"
        "{% endfor %}"
    )
    code = encode(Example((Message("user", "2 + 2?"),), answer), tokenizer)
    marked = code.input_ids[code.completion_mask].tolist()
    shown = tokenizer.convert_ids_to_tokens(marked)
    assert shown[-1] == "<|stop|>"
    assert not set(names) & set(shown[:-1])
    # What a token on the other side took up is predicted by none of the marked.
    taken_up = len(answer) - len(answer.lstrip()) if side == "rstrip" else 0
    assert code.start in (taken_up, -1 if answer == " \n" else taken_up)
    assert code.start <= code.ends[0]
