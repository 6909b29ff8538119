"""Next bytes of two vocabularies, and losses between single positions."""

import math
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

import fusion
from simulations import tiny_models
from simulations.study import graphs, next_bytes
from tests.simulations.study import cases
from tests.simulations.study.cases import (
    PAIRS,
    K,
    by_example,
    check,
    pairs_of,
    read,
    rows,
    term_of,
)


@pytest.fixture
def tokenizers():
    return cases.tokenizers()


@pytest.fixture
def single_bytes():
    return cases.single_bytes()


@pytest.fixture
def case():
    return cases.case()


def test_symbols_are_first_bytes(tokenizers):
    student, teacher = tokenizers
    shared = next_bytes.symbols(student, teacher)
    assert shared.count == 256 + len(tiny_models.SPECIAL)
    for text in ("plus", " plus", "7", "é", *tiny_models.SPECIAL):
        ours, theirs = student(text).input_ids, teacher(text).input_ids
        assert shared.student[ours[0]] == shared.teacher[theirs[0]]
    ours = {text: int(shared.student[student(text).input_ids[0]]) for text in "pw. "}
    assert len(set(ours.values())) == 4
    assert shared.student[student("plush").input_ids].tolist() == [ours["p"]]


def test_ends_of_texts_are_one_symbol(tokenizers, single_bytes):
    student, _ = tokenizers
    shared = next_bytes.symbols(student, single_bytes)
    ends = student.eos_token_id, single_bytes.eos_token_id
    assert shared.student[ends[0]] == shared.teacher[ends[1]]
    assert student.eos_token != single_bytes.eos_token
    # What only the student has is its own.
    special = student.convert_tokens_to_ids("<|user|>")
    assert shared.student[special] not in shared.teacher
    # What only the teacher has, the student cannot say.
    shared = next_bytes.symbols(single_bytes, student)
    assert shared.count == len(single_bytes)
    assert shared.teacher[special] == shared.count


def test_pairs_are_valid_on_both_sides(case):
    logits, mask, term = case
    ours, theirs = next_bytes.at_pairs(read(logits, mask), term)
    expected = PAIRS.clone()
    expected[1, 3] = expected[4] = False
    assert ours.mask.equal(expected)
    assert theirs.mask.equal(expected)
    # All are pairs where nothing else is said.
    ours, _ = next_bytes.at_pairs(read(logits, mask), replace(term, pairs=None))
    assert ours.mask.sum() == 4 + 3 + 4 + 4


def test_pairs_are_needed(case):
    logits, mask, term = case
    with pytest.raises(ValueError, match="student_index"):
        next_bytes.at_pairs(read(logits, mask), replace(term, student_index=None))


def test_next_bytes(case, tokenizers):
    shared = next_bytes.symbols(*tokenizers)
    logits, _, term = case

    def divergence(H, G):
        kept = G > 0
        return (G[kept] * np.log(G[kept] / H[kept])).sum() / len(H)

    expected = by_example(divergence, shared, logits, term)
    check(next_bytes.NextBytes(shared), case, expected)


def test_next_bytes_of_single_bytes_are_tokens(single_bytes):
    V = len(single_bytes)
    teacher = read(rows(2, 3, V, 1), k=K)
    every = torch.arange(3).expand(2, 3).tolist()
    shared = next_bytes.symbols(single_bytes, single_bytes)
    output = fusion.read(
        rows(2, 3, V, 0), torch.zeros(2, 3, dtype=torch.int64), k=V, ids=teacher.ids
    )
    values, _ = next_bytes.NextBytes(shared)(
        output.topk, term_of(teacher, every, every)
    )
    expected = fusion.kl_loss(output.logprobs_at, teacher, reduction="none")
    torch.testing.assert_close(values, expected.mean(dim=1))


def test_next_bytes_the_student_cannot_say(single_bytes):
    shared = next_bytes.symbols(single_bytes, single_bytes)
    V = len(single_bytes)
    # A student without the last 100 bytes, and a teacher who knows all.
    assert shared.student.tolist() == list(range(V))
    few = next_bytes.Symbols(
        shared.student[: V - 100], shared.teacher.clamp(max=V - 100), V - 100
    )
    term = term_of(read(rows(1, 1, V, 1)), [[0]], [[0]])
    compared = next_bytes.compare(few, read(rows(1, 1, V - 100, 0)), term)
    p = term.topk.standardized("softmax")
    unsayable = p.values[p.ids >= V - 100].sum()
    torch.testing.assert_close(compared.theirs[0, 0, -1], unsayable)
    values, _ = next_bytes.NextBytes(few)(read(rows(1, 1, V - 100, 0)), term)
    assert values.isfinite().all()


def test_hybrid(case, tokenizers):
    student, teacher = tokenizers
    logits, _, term = case
    own = [student.convert_ids_to_tokens(t) for t in range(len(student))]
    foreign = [teacher.convert_ids_to_tokens(t) for t in range(len(teacher))]
    assert set(own) - set(foreign)
    assert set(foreign) - set(own)
    expected = []
    for b in range(3):
        total = []
        for i, j in pairs_of(term, b):
            p = dict(zip(own, logits[b, i].softmax(0).tolist(), strict=True))
            q = {}
            for value, token in zip(
                term.topk.values[b, j], term.topk.ids[b, j], strict=True
            ):
                q[foreign[token]] = math.exp(value - term.topk.logsumexp[b, j])
            same = sum(abs(q[name] - p[name]) for name in q if name in p)
            left_t = sorted((q[name] for name in q if name not in p), reverse=True)
            left_s = sorted((p[name] for name in set(p) - set(foreign)), reverse=True)
            left_t += [0.0] * (K - len(left_t))
            left_s += [0.0] * (K - len(left_s))
            left = sum(abs(x - y) for x, y in zip(left_s[:K], left_t, strict=True))
            total.append(same + left)
        expected.append(np.mean(total))
    check(next_bytes.hybrid(student, teacher), case, expected)


def test_next_bytes_move_what_is_all_but_impossible(single_bytes):
    """A probability that underflows still has its gradient."""
    V = len(single_bytes)
    logits = torch.zeros(1, 1, V)
    logits[0, 0, 3] = 300
    theirs = torch.zeros(1, 1, V)
    theirs[0, 0, 7] = 300
    x = logits.requires_grad_()
    loss = graphs.losses(single_bytes, single_bytes)["next_bytes"]
    values, _ = loss(read(x), term_of(read(theirs, k=K), [[0]], [[0]]))
    (gradient,) = torch.autograd.grad(values.sum(), x)
    assert float(values.detach()) == pytest.approx(300, rel=1e-3)
    assert float(gradient[0, 0, 7]) == pytest.approx(-1, rel=1e-3)


def test_next_bytes_of_whole_rows_have_no_rest(single_bytes):
    V = len(single_bytes)
    logits = rows(2, 3, V, 0).float()
    every = torch.arange(3).expand(2, 3).tolist()
    loss = graphs.losses(single_bytes, single_bytes)["next_bytes"]
    values, _ = loss(read(logits), term_of(read(logits), every, every))
    assert values.abs().max() < 1e-5
