"""Token-level losses: values and gradients are those of the formulas."""

import math
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fusion
from tests.fusion import reference
from tests.fusion.reference import number

SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def aligned(draw):
    """Student and teacher over other vocabularies, some pairs of positions, and k."""
    rng = np.random.default_rng(draw(SEEDS))
    B, k, P = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 5))
    T, S, V, U = (draw(st.integers(least, 7)) for least in (1, 1, k, k))
    index = [torch.tensor(rng.integers(0, n, (B, P))) for n in (T, S)]
    pairs = torch.tensor(rng.random((B, P)) < 0.7)
    pairs[0, 0] = True
    return reference.draw(rng, B, T, V), reference.draw(rng, B, S, U), index, pairs, k


@given(aligned())
def test_uld_is_that_of_the_formula(drawn):
    student, teacher, (i, j), pairs, k = drawn
    rows = [
        [reference.row(x[b, at[b, p]], k)[0] for b, p in pairs.nonzero().tolist()]
        for x, at in ((student, i), (teacher, j))
    ]
    sides = [
        fusion.top_k(x, k).select(at, pairs) for x, at in ((student, i), (teacher, j))
    ]
    assert number(fusion.uld_loss(*sides)) == pytest.approx(
        reference.uld(*rows), rel=1e-6
    )
    each = fusion.uld_loss(*sides, reduction="none")
    assert not each[~pairs].any()
    assert number(fusion.uld_loss(*sides, reduction="sum")) == pytest.approx(
        number(each.sum())
    )


def test_gradient_of_uld_is_that_of_the_formula(rng):
    student, teacher = (
        reference.draw(rng, 2, 3, 6).requires_grad_(),
        reference.draw(rng, 2, 3, 5),
    )
    fusion.uld_loss(fusion.top_k(student, 4), fusion.top_k(teacher, 4)).backward()

    def slow(x):
        return reference.uld(
            *(
                [reference.row(v, 4)[0] for v in side.flatten(0, 1)]
                for side in (x, teacher)
            )
        )

    torch.testing.assert_close(
        student.grad, reference.slope(slow, student), atol=1e-7, rtol=1e-5
    )


# Length of the vocabulary, and starts and lengths of answers in rows of 9 tokens.
ANSWERS = {
    "one sequence": (2, [(3, 5)]),
    "the same length": (300, [(1, 4), (5, 4), (2, 4)]),
    "other lengths": (11, [(1, 8), (4, 2), (6, 1)]),
    "a sequence without answer": (7, [(2, 3), (0, 0), (3, 6)]),
}
IGNORED = -100  # label of what is no answer


@pytest.fixture(scope="module")
def trl_uld():
    """ULD of TRL's GOLD trainer, without its cross-entropy, from its settings."""
    with warnings.catch_warnings():
        # All of it is experimental, and says so.
        warnings.simplefilter("ignore")
        gold = pytest.importorskip(
            "trl.experimental.gold.gold_trainer", exc_type=ImportError
        )

    def made(**settings):
        common = {
            "uld_crossentropy_weight": 0.0,
            "uld_distillation_weight": 1.0,
            "uld_skip_student_eos": False,
            "uld_skip_teacher_eos": False,
        }
        return gold.ULDLoss(SimpleNamespace(**common, **settings))

    return made


@pytest.mark.parametrize("strategy", ["observed", "bayesian"])
@pytest.mark.parametrize("how", ["positional", "bytes"])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("answers", ANSWERS)
def test_uld_of_whole_softmax_rows_is_that_of_trl(
    answers, temperature, how, strategy, rng, trl_uld
):
    """Value and gradient, for tokenizers that are the same.

    TRL sorts whole rows of probabilities, and pads the shorter vocabulary with zeros.
    It differs in two ways, which are made up for here. Its strategy "bayesian" reads
    the rows that predict an answer's tokens, as fusion does, but "observed" the rows at
    these tokens, one later. And it takes the mean over the positions of each sequence,
    then over all sequences, of which one without an answer counts as 0, where fusion
    has one mean over all pairs of positions. The end of an answer, which TRL leaves out
    by default, counts on both sides.
    """
    V, spans = ANSWERS[answers]
    B, T = len(spans), 9
    labels = torch.full((B, T), IGNORED)
    for b, (start, size) in enumerate(spans):
        labels[b, start : start + size] = 1
    student = (3 * reference.draw(rng, B, T, V).float()).requires_grad_()
    teacher = 3 * reference.draw(rng, B, T, V).float()
    ids = torch.zeros((B, T), dtype=torch.int64)
    ends = 2 * torch.arange(1, T + 1)  # tokens of two bytes
    offsets = torch.stack([ends - 2, ends], dim=1).expand(B, T, 2)
    loss = trl_uld(
        uld_student_temperature=temperature,
        uld_teacher_temperature=temperature,
        use_extended_uld=how == "bytes",
        uld_token_merge_strategy=strategy,
    )
    theirs = loss(student, teacher, labels, labels, ids, ids, offsets, offsets)

    answer = labels != IGNORED
    rows = answer.roll(-1, dims=1) if strategy == "bayesian" else answer
    index = fusion.align(ends, ends, how=how)
    pairs = [torch.tensor(i).expand(B, -1) for i in index]
    sides = [
        fusion.top_k(x, V, rows, standardize="softmax", temperature=temperature).select(
            at, rows
        )
        for x, at in zip((student, teacher), pairs, strict=True)
    ]
    each = fusion.uld_loss(*sides, reduction="none")  # (B, T)
    ours = (each.sum(dim=1) / answer.sum(dim=1).clamp(min=1)).mean()
    assert number(ours) == pytest.approx(number(theirs), rel=1e-5, abs=1e-6)
    gradients = [torch.autograd.grad(x, student)[0] for x in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)
    if len({size for _, size in spans}) == 1:
        assert number(fusion.uld_loss(*sides)) == pytest.approx(
            number(theirs), rel=1e-5, abs=1e-6
        )


@given(aligned())
def test_losses_of_an_identical_teacher_are_zero(drawn):
    logits, _, _, _, k = drawn
    logits = logits.clone().requires_grad_()
    labels = torch.zeros(logits.shape[:2], dtype=torch.int64)
    teacher = fusion.top_k(logits.detach(), k)
    out = fusion.read(logits, labels, k, ids=teacher.ids)
    losses = [
        fusion.uld_loss(out.topk, teacher),
        *(f(out.logprobs_at, teacher) for f in DIVERGENCES),
    ]
    for loss in losses:
        assert abs(number(loss.detach())) < 1e-12
    sum(losses).backward()
    assert number(logits.grad.abs().max()) < 1e-12


@given(aligned(), st.sampled_from([1.0, 2.5]), st.sampled_from([0.2, 0.5]))
def test_divergences_are_those_of_the_tokens_kept_and_the_rest(
    drawn, temperature, beta
):
    student, _, _, _, k = drawn
    teacher = torch.roll(student, 1, dims=2) * 0.7
    labels = torch.zeros(student.shape[:2], dtype=torch.int64)
    theirs = fusion.top_k(teacher, k, standardize="logprob", temperature=temperature)
    at = fusion.read(
        student, labels, k, ids=theirs.ids, temperature=temperature
    ).logprobs_at
    wanted = []
    for s, t in zip(student.flatten(0, 1), teacher.flatten(0, 1), strict=True):
        tokens = reference.row(t, k)[1]
        p, q = (reference.partition(x, tokens, temperature) for x in (t, s))
        whole = [
            reference.partition(x, list(range(len(x))), temperature)[:-1]
            for x in (t, s)
        ]
        wanted.append((reference.kl(p, q), reference.jsd(p, q, beta)))
        assert wanted[-1][0] <= reference.kl(*whole) + 1e-12
    kl, jsd = np.mean(wanted, axis=0)
    assert number(fusion.kl_loss(at, theirs)) == pytest.approx(kl, rel=1e-6, abs=1e-12)
    assert number(fusion.jsd_loss(at, theirs, beta=beta)) == pytest.approx(
        jsd, rel=1e-6, abs=1e-12
    )
    assert jsd <= math.log(2)


DIVERGENCES = (fusion.kl_loss, fusion.jsd_loss)


@pytest.mark.parametrize(
    ("loss", "slow"),
    [
        (fusion.kl_loss, reference.kl),
        (fusion.jsd_loss, lambda p, q: reference.jsd(p, q, 0.5)),
    ],
)
def test_gradients_of_divergences_are_those_of_the_formula(loss, slow, rng):
    student, teacher = (
        reference.draw(rng, 1, 2, 6).requires_grad_(),
        reference.draw(rng, 1, 2, 6),
    )
    theirs = fusion.top_k(teacher, 3)
    at = fusion.read(
        student, torch.zeros(1, 2, dtype=torch.int64), 3, ids=theirs.ids
    ).logprobs_at
    loss(at, theirs).backward()

    def of_rows(x):
        parts = [
            [
                reference.partition(v, ids.tolist())
                for v, ids in zip(side[0].numpy(), theirs.ids[0], strict=True)
            ]
            for side in (teacher, x)
        ]
        return number(np.mean([slow(p, q) for p, q in zip(*parts, strict=True)]))

    torch.testing.assert_close(
        student.grad, reference.slope(of_rows, student), atol=1e-8, rtol=1e-5
    )


@pytest.mark.parametrize("loss", DIVERGENCES)
def test_divergences_are_finite_where_nothing_is_left_over(loss, rng):
    logits = (reference.draw(rng, 1, 3, 4) * 20).float().requires_grad_()
    theirs = fusion.top_k((reference.draw(rng, 1, 3, 4) * 20).float(), 4)
    at = fusion.read(
        logits, torch.zeros(1, 3, dtype=torch.int64), 4, ids=theirs.ids
    ).logprobs_at
    loss(at, theirs).backward()
    assert logits.grad.isfinite().all()


def test_bad_pairs_are_refused(rng):
    side = fusion.top_k(reference.draw(rng, 1, 3, 6), 3)
    other = fusion.top_k(reference.draw(rng, 1, 2, 6), 3)
    none = torch.zeros(1, 3, dtype=torch.bool)
    index = torch.zeros(1, 3, dtype=torch.int64)
    for call, words in (
        (lambda: fusion.uld_loss(side, other), "aligned positions"),
        (lambda: fusion.uld_loss(side, side.first(2)), "the same k"),
        (lambda: fusion.uld_loss(side, side, "batch"), "reduction must be one of"),
        (
            lambda: fusion.uld_loss(side, side.select(index, none)),
            "must mark a valid position",
        ),
        (
            lambda: fusion.kl_loss(side.values[..., :2], side),
            "student_logprobs must have the shape",
        ),
        (
            lambda: fusion.kl_loss(side.values, side.standardized("center")),
            "must be raw or 'logprob'",
        ),
        (lambda: fusion.jsd_loss(side.values, side, beta=1.0), "1 − beta must be"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
