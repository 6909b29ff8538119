"""The tiny models, made once a session; tests copy what they train."""

import pytest

pytest.importorskip("transformers")

from tests.fusion import tiny


@pytest.fixture(scope="session")
def llama():
    """A tiny Llama and its tokenizer (digits one by one)."""
    return tiny.llama()


@pytest.fixture(scope="session")
def gpt2():
    """A tiny GPT-2 and its tokenizer (whole numbers)."""
    return tiny.gpt2()
