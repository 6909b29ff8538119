"""Twelve kinds of fast tokenizers, each made in milliseconds and once.

They cover what tells widespread tokenizers apart: how bytes are spelled, what is put in
front of texts and of their parts, what normalizers change, and what is added at ends.
"""

from __future__ import annotations

import re
from functools import cache

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

TEXTS = [
    "Hello world, hello there: the answer is 12 and 345.",
    "user assistant system tool Hello the question",
    "Ünïcode naïve café 東京 один два",
    "? The sum of it is: yes. no.  two  spaces\n\nand lines\n",
] * 3
SPECIAL = ["<unk>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|end|>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]

# Templates, each with what many models' have: headers as added tokens, or as plain
# text, start tokens, line breaks behind the answer, and turns whose end is plain text.
HEADERS = (
    "{{ bos_token }}{% if tools %}<tools>{{ tools | tojson }}</tools>{% endif %}"
    "{% for m in messages %}<|{{ m.role }}|>\n"
    "{% if m.name %}[{{ m.name }}] {% endif %}{{ m.content or '' }}"
    "{% for call in m.tool_calls or [] %}<call>{{ call | tojson }}</call>{% endfor %}"
    "<|end|>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
TIGHT = HEADERS.replace("|>\n", "|>").replace("{{ bos_token }}", "")
WORDS = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
INSTRUCT = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'user' %}[INST] {{ m.content | trim }} [/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content | trim }} {{ eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles') }}{% endif %}"
    "{% endfor %}"
)


@cache
def made(kind: str) -> PreTrainedTokenizerFast:
    """Return the tokenizer of a kind."""
    backend, template = MAKERS[kind]()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.chat_template = template
    return tokenizer


def _byte_level(template, normalizer=None, prefix=False, pattern=None, both=False):
    tokenizer = Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    level = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=pattern is None)
    tokenizer.pre_tokenizer = level
    if pattern is not None:
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    tokenizer.decoder = decoders.ByteLevel()
    _train(tokenizer, trainers.BpeTrainer, 420, pre_tokenizers.ByteLevel.alphabet())
    if both:
        tokenizer.post_processor = processors.RobertaProcessing(
            ("</s>", 2), ("<s>", 1), trim_offsets=True, add_prefix_space=prefix
        )
    else:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return tokenizer, template


def _fallback(template, scheme=None, normalizer=None, processor=None):
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if scheme is not None:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
            prepend_scheme=scheme, split=False
        )
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.Sequence(steps)
    _train(tokenizer, trainers.BpeTrainer, 420, bytes_=True)
    if processor is not None:
        tokenizer.post_processor = processor
    return tokenizer, template


def _train(tokenizer, trainer, size, alphabet=(), *, bytes_=False):
    special = SPECIAL + (BYTES if bytes_ else [])
    options = {"initial_alphabet": list(alphabet)} if alphabet else {}
    made = trainer(
        vocab_size=size, special_tokens=special, show_progress=False, **options
    )
    tokenizer.train_from_iterator(TEXTS, made)


def _word_pieces():
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    _train(tokenizer, trainers.WordPieceTrainer, 300)
    tokenizer.post_processor = processors.BertProcessing(("</s>", 2), ("<s>", 1))
    return tokenizer, WORDS


def _unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 2)]
    )
    return tokenizer, TIGHT


def _words():
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    _train(tokenizer, trainers.WordLevelTrainer, 300)
    return tokenizer, WORDS


def _bos_and_eos():
    return processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )


def _old_llama():
    return normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )


def _lower_case():
    return normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace("\u2019", "'")]
    )


QWEN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
MAKERS = {
    "bytes": lambda: _byte_level(WORDS),
    "bytes, NFC": lambda: _byte_level(HEADERS, normalizers.NFC(), pattern=QWEN),
    "bytes, space first": lambda: _byte_level(TIGHT, prefix=True, both=True),
    "bytes, lower case": lambda: _byte_level(HEADERS, _lower_case()),
    "fallback, space first": lambda: _fallback(INSTRUCT, "first"),
    "fallback, spaces always": lambda: _fallback(HEADERS, "always"),
    "fallback, no space": lambda: _fallback(TIGHT, "never", processor=_bos_and_eos()),
    "fallback, space prepended": lambda: _fallback(INSTRUCT, None, _old_llama()),
    "fallback, spaces replaced": lambda: _fallback(
        HEADERS, None, normalizers.Replace(" ", "▁"), _bos_and_eos()
    ),
    "word pieces": _word_pieces,
    "unigram": _unigram,
    "words": _words,
}
# Those whose tokens spell every text as it is.
EXACT = (
    "bytes",
    "bytes, space first",
    *(kind for kind in MAKERS if "fallback" in kind),
)
BYTE_OF = {character: byte for byte, character in bytes_to_unicode().items()}


def spelled(token: str, kind: str) -> bytes:
    """Return the bytes that a token of an exact kind stands for."""
    if token in SPECIAL:
        return token.encode()
    if kind.startswith("bytes"):
        return bytes(BYTE_OF[character] for character in token)
    if re.fullmatch("<0x..>", token):
        return bytes([int(token[3:5], 16)])
    return token.replace("▁", " ").encode()


def starting(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """Return a copy that begins and ends every text with a token."""
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    special = [(token, backend.token_to_id(token)) for token in ("<s>", "</s>")]
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=special
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>"
    )


def edges_of(tokens: list[str], text: str, kind: str) -> list[int]:
    """Return where tokens start and end that spell a text, but for spaces in front."""
    whole, edges = text.encode(), [0]
    for token in tokens:
        own = spelled(token, kind)
        place = edges[-1]
        if whole[place : place + len(own)] != own:
            own = own.removeprefix(b" ")
        assert whole[place : place + len(own)] == own
        edges.append(place + len(own))
    return edges
