"""What is made once a session: tiny models, of which tests copy what they train."""

import multiprocessing

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


@pytest.fixture(scope="session")
def forkserver():
    """A context of processes that start with everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["tests.fusion.killed_capture", "tests.fusion.processes", "tests.fusion.runs"]
    )
    return context
