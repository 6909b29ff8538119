"""Two tiny language models, and examples to ask them about.

Their tokenizers have nothing in common but bytes.
"""

from __future__ import annotations

import random
from functools import cache

import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from fusion.text.conversations import Example, Message

WORDS = [
    "sum",
    "total",
    "result of adding",
    "naïve sum",
    "café bill",
    "東京 count",
    "Ωmega",
    "number",
]
SENTENCES = [
    f"What is {a} plus {b}? The sum of {a} and {b} is {a + b}."
    for a in range(0, 400, 7)
    for b in range(0, 90, 17)
]
CHATS = {
    "llama": "{{ bos_token }}{% for m in messages %}"
    "<|{{ m.role }}|>\n{{ m.content | trim }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
    "gpt2": "{% for m in messages %}"
    "{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}",
}


def sums(count: int, seed: int = 0, *, chat: bool = False) -> list[Example]:
    """Sums as examples: no two alike, some with characters of several bytes."""
    rng, found = random.Random(seed), {}
    while len(found) < count:
        a, b = rng.randrange(1000), rng.randrange(1000)
        question, answer = (
            f"What is {a} plus {b}?",
            f" The {rng.choice(WORDS)} of {a} and {b} is {a + b}.",
        )
        prompt = question
        if chat:
            # A template may strip answers, which is refused where it changes one.
            prompt, answer = (Message("user", question),), answer.strip()
        found[question] = Example(prompt, answer, "even" if (a + b) % 2 == 0 else "odd")
    return list(found.values())


@cache
def digits_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level pairs, digits one by one, a start token: as Llama-like models have."""
    return _tokenizer(
        "llama",
        400,
        pre_tokenizers.Digits(individual_digits=True),
        "<s>",
        "</s>",
        ["<|end|>"],
    )


@cache
def whole_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level pairs of GPT-2's pattern.

    Numbers are whole, and there is no start token.
    """
    return _tokenizer("gpt2", 700, None, None, "<|endoftext|>", [])


@cache
def fallback_tokenizer() -> PreTrainedTokenizerFast:
    """SentencePiece-like pairs of characters.

    Bytes are for the unknown ones, and a space is put first.
    """
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=["<unk>", "</s>", *bytes_], show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>"
    )


def _tokenizer(name, size, split, bos, eos, special):
    tokenizer = Tokenizer(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None)
    tokenizer.pre_tokenizer = (
        level if split is None else pre_tokenizers.Sequence([split, level])
    )
    tokenizer.decoder = decoders.ByteLevel()
    specials = [token for token in (bos, eos, *special) if token]
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*SENTENCES, " ".join(WORDS)], trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, pad_token=eos
    )
    fast.chat_template = CHATS[name]
    return fast


def llama(seed: int = 0) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A Llama of a few thousand weights, and its tokenizer."""
    tokenizer = digits_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.2,
    )
    return _seeded(LlamaForCausalLM, config, seed), tokenizer


def gpt2(seed: int = 1) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A GPT-2 of a few thousand weights, and its tokenizer."""
    tokenizer = whole_tokenizer()
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=512,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
        initializer_range=0.2,
    )
    return _seeded(GPT2LMHeadModel, config, seed), tokenizer


def _seeded(kind, config, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(config).eval()
