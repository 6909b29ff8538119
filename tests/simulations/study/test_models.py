"""Models of the study: what their tokenizers read, and how answers are scored."""

import pytest

pytest.importorskip("transformers")

from fusion.text.conversations import encode
from simulations.study import models
from simulations.study.tasks import FAMILIES, Question, parts

NAMES = ("byte", "bpe", "packed")


def pieces(name, text):
    return models.tokenizer(name).tokenize(text)


@pytest.mark.parametrize("name", NAMES)
def test_texts_come_back_from_their_tokens(name):
    tokenizer = models.tokenizer(name)
    for family in FAMILIES.values():
        question = parts(family).test[0]
        encoded = encode(models.example(question, family.name), tokenizer, 256)
        text = tokenizer.decode(encoded.input_ids)
        expected = f"<|user|>{question.prompt}<|assistant|>{question.work}<|end|>"
        assert text == expected


def test_tokenizers_differ_in_what_they_merge():
    assert pieces("byte", "17-36 a") == [*"17-36", "Ġ", "a"]
    assert len(models.tokenizer("byte")) == 98
    assert pieces("bpe", "17-36 a") == [*"17-36", "Ġa"]
    for number in range(30):
        assert pieces("packed", f"-{number}=") == ["-", str(number), "="]


def test_student_and_teacher_are_made_from_their_seed():
    for make in (models.student, lambda seed: models.teacher("bpe", seed)):
        one, again, other = (next(make(seed).model.parameters()) for seed in (0, 0, 1))
        assert one.equal(again)
        assert not one.equal(other)
    assert models.student(0).model.config.vocab_size == 98


def test_each_family_has_a_teacher():
    known = [family for name in NAMES for family in models.families_of(name)]
    assert {family.name for family in known} == set(FAMILIES)
    assert len(known) == len(FAMILIES)


def test_untrained_models_answer_something():
    questions = parts(FAMILIES["causal_judgement"]).test[:3]
    texts = models.answers(models.student(0), questions, 4)
    assert len(texts) == 3


def test_the_last_step_counts():
    family = FAMILIES["causal_judgement"]
    questions = [Question("?", "a0;y", "y")] * 3 + [Question("!", "a0;n", "n")]
    found = models.accuracy(["y;n", "a;y", "y", "b0;n"], questions, family)
    assert (found.correct, found.problems) == (3, 4)
    assert (found.majority, found.chance) == (0.75, 0.5)
