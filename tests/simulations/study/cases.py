"""Logits of a student and of a teacher, for the losses of the fusion study."""

import math
from functools import cache

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import fusion
from simulations import tiny_models

K = 6


@cache
def tokenizers():
    """One that splits numbers, with words of its own, and one that does not."""
    student = tiny_models.llama().tokenizer
    student.add_tokens(["zebra", "quiz", " zebra", " quiz", "plush"])
    return student, tiny_models.gpt2().tokenizer


@cache
def single_bytes():
    """A tokenizer whose tokens are the 256 bytes and the end."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: token for token, character in enumerate(alphabet)}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>")


def rows(B, T, V, seed, spread=3.0):
    """Logits (B, T, V) whose positions differ in level and in how sure they are."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    scale = spread * (0.3 + normal(B, T, 1).abs())
    return 1.5 + normal(B, T, 1) + scale * normal(B, T, V)


def read(logits, mask=None, k=None):
    return fusion.top_k(logits, k or logits.shape[2], mask)


def term_of(topk, student_index, teacher_index, pairs=None):
    indices = [torch.tensor(index) for index in (student_index, teacher_index)]
    return fusion.TeacherTerm(topk, *indices, pairs)


# Pairs of 5 examples with 7 positions of the student and 5 of the teacher, of which the
# fourth has no pair and the fifth no teacher; the last pair of the second is masked.
OURS = [[0, 2, 3, 6], [1, 2, 4, 5], [0, 1, 0, 0], [0, 0, 0, 0], [0, 1, 2, 3]]
THEIRS = [[0, 1, 2, 4], [0, 1, 2, 3], [1, 3, 0, 0], [0, 0, 0, 0], [0, 1, 2, 3]]
PAIRS = torch.tensor(
    [[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]]
).bool()
MASK = torch.ones(5, 7, dtype=torch.bool)
MASK[1, 5:] = MASK[2, 2:] = False


@cache
def case():
    """Logits and mask of the student, and a teacher's term."""
    student, teacher = tokenizers()
    logits = rows(5, 7, len(student), 0)
    theirs = torch.ones(5, 5, dtype=torch.bool)
    theirs[2, 4] = theirs[4] = False
    topk = read(rows(5, 5, len(teacher), 1), theirs, K)
    return logits, MASK, term_of(topk, OURS, THEIRS, PAIRS)


def pairs_of(term, b):
    """The valid pairs of one example."""
    for i, j, pair in zip(OURS[b], THEIRS[b], PAIRS[b], strict=True):
        if pair and MASK[b, i] and term.topk.mask[b, j]:
            yield i, j


def profiles(shared, logits, term, b):
    """Next-byte probabilities of both sides at one example's pairs, by loops."""
    H, G = [], []
    for i, j in pairs_of(term, b):
        ours, theirs = np.zeros(shared.count + 1), np.zeros(shared.count + 1)
        topk = term.topk
        for value, token in zip(topk.values[b, j], topk.ids[b, j], strict=True):
            symbol = int(shared.teacher[token])
            if symbol < shared.count:
                theirs[symbol] += math.exp(value - topk.logsumexp[b, j])
        theirs[-1] = 1 - theirs.sum()
        for token, p in enumerate(logits[b, i].softmax(0).tolist()):
            symbol = int(shared.student[token])
            ours[symbol if theirs[symbol] > 0 else -1] += p
        H.append(ours)
        G.append(theirs)
    return np.array(H), np.array(G)


def by_example(function, shared, logits, term):
    """Values of a function of both profiles, for the examples that have pairs."""
    return [function(*profiles(shared, logits, term, b)) for b in range(3)]


def check(loss, case, expected):
    logits, mask, term = case
    values, present = loss(read(logits, mask), term)
    assert present.tolist() == [True, True, True, False, False]
    np.testing.assert_allclose(values[:3], expected, rtol=1e-9)
    assert values[3:].tolist() == [0.0, 0.0]
