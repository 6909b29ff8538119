"""Tokens of `fusion.encode` against those of `apply_chat_template`, in 8 languages.

Conversations are made by program, a quarter of them with a system's turn and half of
several turns. Each is encoded, and compared token for token with what the tokenizer
itself makes of the whole conversation. At the seam, the marked tokens decode to the
answer (to its NFC form where the tokenizer has that normalizer), with what they take of
the prompt before it. Tokenizers are those of folders of models, and three made here
like those of Llama 2 (a space in front, bytes for unknown characters), Mistral (the
space prepended by a normalizer, headers as tokens) and Qwen (bytes, NFC).

    python -m simulations.chat_text --out DIR [--quick] [--seed S] [--models FOLDER ...]

writes conversations.csv (one row a tokenizer and language), meta.json and chat_text.md.
"""

from __future__ import annotations

import random
import re
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

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
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from fusion.models import load_tokenizer
from fusion.text.conversations import Encoded, Example, Message, encode, render
from simulations import _report as report
from simulations._report import Row

CONVERSATIONS = 200
QUICK = 16

# Words of each language; marks are composed or not, and scripts run either way.
WORDS = {
    "English": "the answer is four because we add two numbers don't forget Anna's note",
    "German": "die Lösung heißt größer als fünf weil wir über zwölf Brücken müssen",
    "Vietnamese": "câu trả lời là bốn vì chúng ta cộng hai số e\u0302\u0301",
    "Russian": "ответ четыре потому что мы складываем два числа и ещё одно",
    "Arabic": "الجواب هو أربعة لأننا نجمع عددين وَلَكِنْ لا تنسَ ذلك",
    "Hindi": "उत्तर चार है क्योंकि हम दो संख्याएँ जोड़ते हैं और फिर",
    "Chinese": "答案 是四 因为 我们 把两个 数 相加 𠮷野家 再 想一想",
    "Korean": "답은 넷 입니다 왜냐하면 두 수를 \u1112\u1161\u11ab 더 때문",
}
# What stands between words, most often a space.
BETWEEN = (" ",) * 12 + (
    ", ",
    ". ",
    "\n",
    "\n\n",
    "\r\n",
    " 12 ",
    ": 3.5 ",
    " 👩‍👩‍👧 ",
    "  ",
    "\t",
)
# What an answer may begin and end with, at the seam.
FIRST = ("", "", "", "", "7 ", '"', "(", "👍🏽 ", "- ", "…", "`x` ", "<b>", "[1] ", "@")
LAST = ("", "", ".", "!", "?", "…", ")", "</b>", " 8", "。", "\u200d")

LLAMA_2 = (
    "{% if messages[0].role == 'system' %}"
    "{% set start = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}"
    "{% set turns = messages[1:] %}"
    "{% else %}{% set start = '' %}{% set turns = messages %}{% endif %}"
    "{% for m in turns %}{% if m.role == 'user' %}"
    "{{ bos_token + '[INST] ' + (start if loop.first else '') }}"
    "{{ m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}"
    "{{ ' ' + m.content + eos_token }}"
    "{% else %}{{ '[INST] ' + m.content + '[/INST]' }}{% endif %}{% endfor %}"
)
CHATML = (
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Gemma's, as published, for turns that are text.
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{% set start = messages[0].content + '\n\n' %}{% set turns = messages[1:] %}"
    "{% else %}{% set start = '' %}{% set turns = messages %}{% endif %}"
    "{% for m in turns %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' }}"
    "{{ (start if loop.first else '') + (m.content | trim) + '<end_of_turn>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
START, END = "<s>", "</s>"
SPECIAL = r"</?s>|\[/?INST\]"  # behind which tokenizers put a space


@dataclass(frozen=True)
class Comparison:
    """What one conversation came to."""

    tokens: int
    equal: bool  # token for token, up to the end token
    seam: bool  # marked tokens decode to the answer, and the others to what is before
    straddles: bool  # one token begins in the prompt and ends in the answer
    covered: bool  # the last end is the answer's last byte


def conversations(count: int, seed: int) -> dict[str, list[Example]]:
    """Make conversations, the same number in each language."""
    rng = random.Random(seed)
    made = {}
    for language, words in WORDS.items():
        examples = []
        for _ in range(count // len(WORDS)):
            examples.append(_conversation(words.split(), rng))
        made[language] = examples
    return made


def _conversation(words: Sequence[str], rng: random.Random) -> Example:
    turns = []
    if rng.random() < 0.25:
        turns.append(Message("system", _text(words, rng)))
    for _ in range(rng.choice((0, 0, 1, 2))):
        turns.append(Message("user", _text(words, rng)))
        turns.append(Message("assistant", _text(words, rng)))
    turns.append(Message("user", _text(words, rng)))
    answer = rng.choice(FIRST) + _text(words, rng) + rng.choice(LAST)
    return Example(tuple(turns), answer)


def _text(words: Sequence[str], rng: random.Random) -> str:
    pieces = [rng.choice(words)]
    for _ in range(rng.randrange(12)):
        pieces += [rng.choice(BETWEEN), rng.choice(words)]
    return "".join(pieces)


def compare(example: Example, tokenizer: PreTrainedTokenizerBase) -> Comparison:
    """Encode a conversation, and compare with what its tokenizer makes of it."""
    code = encode(example, tokenizer)
    turns = [turn.as_dict() for turn in (*example.prompt, _answer(example))]
    whole = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True)
    ids = code.input_ids.tolist()
    return Comparison(
        tokens=len(ids),
        equal=ids == whole["input_ids"][: len(ids)],
        seam=_seam_is_right(example, code, tokenizer),
        straddles=code.start < 0,
        covered=int(code.ends[-1]) == len(example.completion.encode()),
    )


def _answer(example: Example) -> Message:
    return Message("assistant", example.completion)


def _seam_is_right(
    example: Example, code: Encoded, tokenizer: PreTrainedTokenizerBase
) -> bool:
    head, tail = render(example, tokenizer)
    before = head.encode()
    cut = len(before) + code.start
    ids = code.input_ids
    prompt = _decoded(ids[~code.completion_mask].tolist(), tokenizer)
    answer = _decoded(ids[code.completion_mask].tolist(), tokenizer)
    wanted = _plain(before[cut:].decode() + example.completion + tail)
    return prompt == _plain(before[:cut].decode()) and wanted.startswith(answer)


def _decoded(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> str:
    text = tokenizer.decode(
        ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    return _plain(str(text))


def _plain(text: str) -> str:
    """Without what tokenizers change: composition, and spaces in front of parts."""
    composed = unicodedata.normalize("NFC", text)
    return re.sub(f"(^|{SPECIAL}) +", r"\1", composed)


def made(
    examples: Sequence[Example], vocabulary: int
) -> dict[str, PreTrainedTokenizerFast]:
    """Make three tokenizers like those of widespread models."""
    texts = [example.completion for example in examples]
    texts += [turn.content or "" for example in examples for turn in example.prompt]
    return {
        "like Llama 2": _fallback(
            texts,
            vocabulary,
            pre_tokenizers.Metaspace(prepend_scheme="first", split=False),
        ),
        "like Mistral": _fallback(texts, vocabulary, None),
        "like Qwen": _bytes(texts, vocabulary),
    }


def _fallback(
    texts: Sequence[str], vocabulary: int, metaspace: pre_tokenizers.Metaspace | None
) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    if metaspace is not None:
        tokenizer.pre_tokenizer = metaspace
    else:
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    headers = [] if metaspace is not None else ["[INST]", "[/INST]"]
    special = ["<unk>", START, END, *headers]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[*special, *bytes_],
        # Rarer characters are spelled in bytes.
        limit_alphabet=200,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", special_tokens=[(START, tokenizer.token_to_id(START))]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=START, eos_token=END, unk_token="<unk>"
    )
    fast.chat_template = MISTRAL if headers else LLAMA_2
    return fast


def _bytes(texts: Sequence[str], vocabulary: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = pre_tokenizers.Split(Regex(QWEN_SPLIT), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>")
    fast.chat_template = CHATML
    return fast


def of_models(folders: Sequence[Path]) -> dict[str, PreTrainedTokenizerBase]:
    """Load the tokenizers of models; Gemma's package has no template."""
    loaded = {}
    for folder in folders:
        tokenizer = load_tokenizer(folder)
        if not tokenizer.chat_template and "<start_of_turn>" in tokenizer.get_vocab():
            tokenizer.chat_template = GEMMA
        loaded[folder.name] = tokenizer
    return loaded


def measure(name: str, language: str, found: Sequence[Comparison]) -> Row:
    """Count over the conversations of one language."""
    return {
        "tokenizer": name,
        "language": language,
        "conversations": len(found),
        "tokens": sum(c.tokens for c in found),
        "equal": sum(c.equal for c in found),
        "seam": sum(c.seam for c in found),
        "covered": sum(c.covered for c in found),
        "straddling": sum(c.straddles for c in found),
    }


def table(rows: Sequence[Row]) -> str:
    """Lay the sums over languages out, a line a tokenizer."""
    numbers = ("conversations", "tokens", "equal", "seam", "covered", "straddling")
    lines = []
    for name in dict.fromkeys(row["tokenizer"] for row in rows):
        own = [row for row in rows if row["tokenizer"] == name]
        lines.append([name, *(sum(row[number] for row in own) for number in numbers)])
    header = (
        "tokenizer",
        "conversations",
        "tokens",
        "all tokens equal",
        "seam right",
        "all bytes covered",
        "with a token across the seam",
    )
    return report.markdown_table(header, lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = report.command_line(__doc__)
    parser.add_argument(
        "--models", type=Path, nargs="*", default=[], help="folders of models"
    )
    arguments = parser.parse_args(argv)
    count = QUICK if arguments.quick else CONVERSATIONS
    by_language = conversations(count, arguments.seed)
    everything = [e for examples in by_language.values() for e in examples]
    vocabulary = 700 if arguments.quick else 2000

    folder = report.results_folder(arguments)
    for name in ("conversations.csv", "meta.json"):
        (folder / name).unlink(missing_ok=True)
    versions = report.versions() | {
        name: version(name) for name in ("tokenizers", "transformers")
    }
    facts = {"seed": arguments.seed, "count": count, "versions": versions}
    report.claim(folder, facts)
    tokenizers = of_models(arguments.models) | made(everything, vocabulary)
    rows = []
    for name, tokenizer in tokenizers.items():
        for language, examples in by_language.items():
            found = [compare(example, tokenizer) for example in examples]
            rows.append(measure(name, language, found))
    report.write_rows(folder / "conversations.csv", rows)
    text = (
        "# Tokens of conversations against the chat template's\n\n"
        f"{table(rows)}\n\nConversations in {len(WORDS)} languages, made by program.\n"
    )
    (folder / "chat_text.md").write_text(text, encoding="utf-8")
    print(text, f"Written to {folder}.", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
