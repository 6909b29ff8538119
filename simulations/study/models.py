"""Tokenizers, student and teachers of the study, and how their answers are scored."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stderr
from functools import cache

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from fusion.evaluate import Score, generate, score
from fusion.tasks import Problem
from fusion.text.conversations import Example, Message
from simulations import tiny_models
from simulations.study.tasks import FAMILIES, Family, Question, parts
from simulations.tiny_models import SPECIAL, Pair

# A question, a mark, and its work.
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% else %}<|end|>{% endif %}"
)
# Printable ASCII, as the tokenizers of bytes spell it: Ġ is the space.
ALPHABET = ("Ġ", *map(chr, range(ord("!"), ord("~") + 1)))
MERGED_SIZE = 300
# Width and layers of each teacher.
TEACHERS = {"byte": (64, 3), "bpe": (64, 3), "packed": (64, 3)}
BATCH = 250


def example(question: Question, family: str) -> Example:
    """The question and its work, as something to learn from."""
    return Example(_asked(question), question.work, family)


def problem(question: Question, family: str) -> Problem:
    """The question as something to answer."""
    return Problem(_asked(question), question.answer, family)


def _asked(question: Question) -> tuple[Message]:
    return (Message("user", question.prompt),)


def student(seed: int) -> Pair:
    """A Llama that reads bytes."""
    return tiny_models.llama(seed, width=64, layers=2, tokenizer=tokenizer("byte"))


def teacher(name: str, seed: int) -> Pair:
    """A GPT-2 that reads as its name says."""
    width, layers = TEACHERS[name]
    return tiny_models.gpt2(seed, width, layers, dropout=0.0, tokenizer=tokenizer(name))


def families_of(name: str) -> list[Family]:
    """The families that a teacher knows."""
    return [family for family in FAMILIES.values() if family.teacher == name]


def tokenizer(name: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a teacher.

    "byte" has a token for each character; "bpe" merges frequent ones, but no digits;
    "packed" merges digits, too, so that numbers are single tokens.
    """
    fast = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained(name)),
        eos_token=SPECIAL[0],
        pad_token=SPECIAL[0],
    )
    fast.chat_template = TEMPLATE
    return fast


@cache
def _trained(name: str) -> str:
    """A tokenizer as JSON."""
    found = Tokenizer(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    digits = pre_tokenizers.Digits(individual_digits=name != "packed")
    found.pre_tokenizer = pre_tokenizers.Sequence([digits, level])
    found.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=len(SPECIAL) + len(ALPHABET) if name == "byte" else MERGED_SIZE,
        # Longer tokens would hold several steps of a work.
        max_token_length=2,
        special_tokens=SPECIAL,
        initial_alphabet=list(ALPHABET),
        show_progress=False,
    )
    texts = []
    for family in families_of(name):
        for question in parts(family).rest:
            texts += [question.prompt, question.work]
    found.train_from_iterator(texts, trainer)
    return str(found.to_str())


def answers(
    pair: Pair, questions: Sequence[Question], max_new_tokens: int
) -> list[str]:
    """What a model writes to each question, by the likeliest token at each step."""
    problems = [problem(question, "") for question in questions]
    # Bars are drawn on terminals alone.
    with redirect_stderr(io.StringIO()):
        return generate(pair.model, pair.tokenizer, problems, max_new_tokens, BATCH)


def accuracy(
    texts: Sequence[str], questions: Sequence[Question], family: Family
) -> Score:
    """How often a text's last step is the answer, beside what guessing would give."""
    problems = [
        Problem(q.prompt, q.answer, family.name, family.choices) for q in questions
    ]
    wrapped = []
    for text in texts:
        last = text.rpartition(";")[2]
        wrapped.append(f"<answer>{last}</answer>")
    (found,) = score(problems, wrapped)
    return found
