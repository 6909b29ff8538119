"""Ends of tokens in bytes: every byte of the answer is accounted for.

Also where a token splits a character.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.text.byte_offsets import byte_ends
from fusion.text.conversations import Example, encode
from tests.fusion.tiny import digits_tokenizer, fallback_tokenizer, whole_tokenizer

TOKENIZERS = [digits_tokenizer, whole_tokenizer, fallback_tokenizer]


texts = st.text(
    st.characters(codec="utf-8") | st.sampled_from("0123 é東"), min_size=1, max_size=12
)


@given(texts, st.sampled_from(TOKENIZERS))
def test_ends_are_where_the_bytes_of_tokens_end(completion, make):
    tokenizer = make()
    code = encode(Example("Q:", completion), tokenizer)
    whole = completion.encode()
    assert code.ends[-1] == len(whole)
    answer = code.input_ids[code.completion_mask]
    assert len(code.ends) == len(answer) == code.completion_mask.sum()
    assert answer[-1] == tokenizer.eos_token_id
    first = 0
    for i, last in enumerate(
        code.ends[:-1].tolist()
    ):  # a single token decodes to its bytes, or to none that are valid
        piece = tokenizer.decode([answer[i]], clean_up_tokenization_spaces=False)
        if "\ufffd" not in piece and "\ufffd" not in completion and i:
            assert piece.encode() == whole[first:last]
        first = last


@given(texts)
def test_offsets_give_the_same_ends_but_inside_characters(completion):
    tokenizer = digits_tokenizer()
    answer = tokenizer(
        completion, add_special_tokens=False, return_offsets_mapping=True
    )
    exact = byte_ends(
        completion, answer["input_ids"], answer["offset_mapping"], tokenizer
    )
    ids = [tokenizer.eos_token_id] * len(exact)  # tokens that do not spell the text
    found = byte_ends(completion, ids, answer["offset_mapping"], tokenizer)
    edges = np.cumsum([0, *(len(character.encode()) for character in completion)])
    same = np.isin(exact, edges)
    np.testing.assert_array_equal(found[same], exact[same])
    np.testing.assert_array_equal(np.isin(found, edges), same)


def test_bytes_of_split_characters():
    text = " 東é"
    for make in TOKENIZERS:
        tokenizer = make()
        answer = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ends = byte_ends(text, answer["input_ids"], answer["offset_mapping"], tokenizer)
        assert ends[-1] == 6
        assert len(ends) == len(answer["input_ids"])
    assert ends.tolist()[-5:] == [
        2,
        3,
        4,
        5,
        6,
    ]  # one byte each where characters are unknown


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
    [(["æĿ", "±"], [2, 3]), (["Ġ", "æĿ", "±"], [0, 2, 3]), (["ĠæĿ", "±"], [2, 3])],
)
def test_cuts_inside_characters_are_exact_where_tokens_spell_the_text(tokens, ends):
    spans = [(0, 1)] * len(tokens)
    assert byte_ends("東", range(len(tokens)), spans, Halving(*tokens)).tolist() == ends
