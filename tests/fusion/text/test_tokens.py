"""Texts are tokenized as a whole, with the start tokens that belong there alone."""

import pytest

from fusion.text.tokens import tokenize
from tests.fusion.text import kinds
from tests.fusion.tiny import digits_tokenizer

# What each kind's post-processor puts in front of a text.
STARTS = {
    "bytes": [],
    "bytes, space first": ["<s>"],
    "fallback, no space": ["<s>"],
    "word pieces": ["<s>"],
    "unigram": [],
}


@pytest.mark.parametrize("kind", STARTS)
def test_plain_texts_have_start_tokens_in_front_and_nothing_behind(kind):
    tokenizer = kinds.made(kind)
    own = tokenizer("Hello the", add_special_tokens=False)["input_ids"]
    found = tokenize("Hello the", tokenizer, plain=True)
    added = len(STARTS[kind])
    assert tokenizer.convert_ids_to_tokens(found.ids[:added]) == STARTS[kind]
    assert found.ids[added:] == own
    assert found.starts[:added].tolist() == found.ends[:added].tolist() == [0] * added
    assert len(found.starts) == len(found.ends) == len(found.ids)
    assert found.ends[-1] == len("Hello the")
    # A template has written its special tokens.
    assert tokenize("Hello the", tokenizer, plain=False).ids == own


def test_no_text_starts_twice():
    tokenizer = kinds.starting(digits_tokenizer())
    once = tokenize("<s>a", tokenizer, plain=True).ids
    assert once == tokenize("a", tokenizer, plain=True).ids
    assert once.count(tokenizer.bos_token_id) == 1


def test_refuses_slow_tokenizers():
    class Slow:
        is_fast = False
        eos_token = None

    with pytest.raises(ValueError, match=r"^tokenizer must be a fast one, .* Slow:"):
        tokenize("a", Slow(), plain=True)
