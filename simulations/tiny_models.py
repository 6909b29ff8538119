"""Two small language models made on the spot, and sums to ask them about.

They are of different architectures and tokenizers.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from fusion.evaluate import extract
from fusion.tasks import Problem
from fusion.text.conversations import Example, Message

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<|end|>", "<|user|>", "<|assistant|>"]


class Pair(NamedTuple):
    """A model and its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast


def sums(count: int, seed: int = 0, below: int = 100) -> list[Example]:
    """Sums and differences as conversations, in two domains; no two alike."""
    questions = [
        (a, b, sign)
        for a in range(below)
        for b in range(below)
        for sign in ("plus", "minus")
    ]
    return [
        _sum(*question) for question in random.Random(seed).sample(questions, count)
    ]


def _sum(a: int, b: int, sign: str) -> Example:
    result = a + b if sign == "plus" else a - b
    answer = f"{a} {sign} {b} is <answer>{result}</answer>."
    return Example((Message("user", f"What is {a} {sign} {b}?"),), answer, sign)


def problems(examples: Iterable[Example]) -> list[Problem]:
    """Return the examples as problems to solve."""
    return [
        Problem(example.prompt, extract(example.completion) or "", example.domain)
        for example in examples
    ]


def llama(
    seed: int = 0,
    width: int = 128,
    layers: int = 4,
    tokenizer: PreTrainedTokenizerFast | None = None,
) -> Pair:
    """A Llama; by default, its tokenizer reads numbers digit by digit."""
    if tokenizer is None:
        tokenizer = _tokenizer(600, digits=True)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        **_ends(tokenizer),
    )
    return Pair(_seeded(LlamaForCausalLM, config, seed), tokenizer)


def gpt2(
    seed: int = 1,
    width: int = 128,
    layers: int = 4,
    dropout: float = 0.1,
    tokenizer: PreTrainedTokenizerFast | None = None,
) -> Pair:
    """A GPT-2; by default, its tokenizer reads whole numbers."""
    if tokenizer is None:
        tokenizer = _tokenizer(1200, digits=False)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=width,
        n_layer=layers,
        n_head=4,
        n_positions=256,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        resid_pdrop=dropout,
        **_ends(tokenizer),
    )
    return Pair(_seeded(GPT2LMHeadModel, config, seed), tokenizer)


def _tokenizer(size: int, digits: bool) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    split = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = (
        pre_tokenizers.Sequence([split, level]) if digits else level
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [
        f"{example.prompt[0][1]} {example.completion}"
        for example in sums(2000, seed=-1)
    ]
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=SPECIAL[0], pad_token=SPECIAL[0]
    )
    fast.chat_template = TEMPLATE
    return fast


def _ends(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    end = tokenizer.eos_token_id
    return {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}


def _seeded(kind: Any, config: Any, seed: int) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = kind(config)
    return model
