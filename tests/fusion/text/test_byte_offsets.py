"""Starts and ends of tokens in bytes: every byte of the text is accounted for.

Also where a token splits a character, and beside characters that a normalizer changes.
"""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken

from fusion.text.byte_offsets import byte_ends, byte_spans
from tests.fusion.text import kinds
from tests.fusion.tiny import digits_tokenizer, fallback_tokenizer, whole_tokenizer

# What is hard: spaces, marks to be joined, ligatures, joiners, added tokens.
PARTS = [
    *("a", "the", " Hello", " ", "  ", "\n", "\r\n", "\t", "12", "?", "İ", "Å"),
    *("東", "é", "e\u0301", "x\u0323\u0301", "ﬁ", "👩‍👩‍👧", "\u0301", "\u1100\u1161"),
    *(
        "</s>",
        "<s>",
        "<|end|>",
        "\u00a0",
        "\u3000",
        "א",
        "\U00020000",
        "\x00",
        "\ufffd",
    ),
]
texts = st.lists(st.sampled_from(PARTS) | st.characters(codec="utf-8"), max_size=9)


def spans_of(text, tokenizer):
    read = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    spans = byte_spans(text, read["input_ids"], read["offset_mapping"], tokenizer)
    return read.tokens(), spans.starts.tolist(), spans.ends.tolist()


@given(texts.map("".join), st.sampled_from(kinds.EXACT))
@example("  ", "bytes")
@example("</s> ", "bytes, space first")
def test_tokens_that_spell_the_text_span_their_own_bytes(text, kind):
    whole = text.encode()
    place = 0
    for token, start, end in zip(*spans_of(text, kinds.made(kind)), strict=True):
        own = kinds.spelled(token, kind)
        if "▁" not in text:  # which stands for a space
            assert start == place
            assert whole[start:end] in (own, own.removeprefix(b" "))
        place = end
    assert place == len(whole)


@given(texts.map("".join), st.sampled_from(list(kinds.MAKERS)))
def test_spans_are_in_order_and_cut_no_character_that_was_changed(text, kind):
    _, starts, ends = spans_of(text, kinds.made(kind))
    assert ends == sorted(ends)
    assert all(s <= e for s, e in zip(starts, ends, strict=True))
    # Where bytes are not spelled as they are, no token ends inside of a character.
    if kind in ("word pieces", "unigram", "words"):
        for end in ends:
            text.encode()[:end].decode()


@pytest.mark.parametrize("odd", ["e\u0301", "\u1100\u1161", "\u212b"])
def test_an_odd_character_spoils_its_own_tokens_alone(odd):
    tokenizer = kinds.made("bytes, NFC")
    text = f"{odd} 東 {odd}x\U00020000"
    size = len(odd.encode())
    tokens, starts, ends = spans_of(text, tokenizer)
    whole = text.encode()
    assert tokens[-4:] == [*tokenizer.tokenize("\U00020000")]
    assert ends[-4:] == [len(whole) - 3, len(whole) - 2, len(whole) - 1, len(whole)]
    # No token ends inside of an odd character.
    for end in ends[: ends.index(size)]:
        whole[:end].decode()
    assert starts[-4] == len(whole) - 4


def test_of_a_ligature_one_token_takes_the_character():
    _, _, ends = spans_of("ﬁx", kinds.made("unigram"))
    assert ends[-1] == 4
    assert all(end in (0, 3, 4) for end in ends)


def test_white_space_that_no_token_spans_belongs_to_the_token_behind_it():
    _, starts, ends = spans_of("one  two ", kinds.made("words"))
    assert (starts, ends) == ([0, 5], [3, 8])


def test_added_tokens_keep_the_white_space_that_they_take_up():
    tokenizer = kinds.starting(kinds.made("fallback, no space"))
    tokenizer.add_tokens([AddedToken("<|x|>", lstrip=True, rstrip=True)])
    _, starts, ends = spans_of("a  <|x|> b", tokenizer)
    assert (starts, ends) == ([0, 1, 9], [1, 9, 10])
    # Also beside white space that no token takes up.
    words = kinds.starting(kinds.made("words"))
    words.add_tokens([AddedToken("<|x|>", lstrip=True)])
    assert spans_of("a  <|x|> two", words)[1:] == ([0, 1, 9], [1, 8, 12])


def test_ends_are_the_same_numbers():
    text = " 東é"
    for make in (digits_tokenizer, whole_tokenizer, fallback_tokenizer):
        tokenizer = make()
        read = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ends = byte_ends(text, read["input_ids"], read["offset_mapping"], tokenizer)
        assert ends.dtype == "int32"
        assert ends.tolist() == spans_of(text, tokenizer)[2]
        assert ends[-1] == 6
    # One byte each where characters are unknown.
    assert ends.tolist()[-5:] == [2, 3, 4, 5, 6]


def test_no_tokens_have_no_ends():
    assert byte_ends("", [], [], digits_tokenizer()).tolist() == []


class Halving:
    """Byte-level tokens that cut 東 after its second byte.

    Before them is a space that the tokenizer put there, or not.
    """

    def __init__(self, *tokens):
        self.convert_ids_to_tokens = lambda ids: [tokens[i] for i in ids]

    def get_added_vocab(self):
        return {}


@pytest.mark.parametrize(
    ("tokens", "ends"),
    [
        (["æĿ", "±"], [2, 3]),
        (["Ġ", "æĿ", "±"], [0, 2, 3]),
        (["ĠæĿ", "±"], [2, 3]),
        # Other bytes than the text's: where the character is cut is unknown.
        (["æĿ", "æĿ"], [3, 3]),
    ],
)
def test_cuts_inside_characters_are_exact_where_tokens_spell_the_text(tokens, ends):
    spans = [(0, 1)] * len(tokens)
    assert byte_ends("東", range(len(tokens)), spans, Halving(*tokens)).tolist() == ends
