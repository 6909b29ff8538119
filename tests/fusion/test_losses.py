"""Token-level losses, and the objective that puts all terms together."""

import math
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fusion
from fusion.losses import graphs
from tests.fusion import processes, reference
from tests.fusion.reference import number

SEEDS = st.integers(0, 2**32 - 1)
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def quiet():
    """Few positions make degenerate graphs; the tests of graphs look at the warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "graph_loss of kind", UserWarning)
        yield
    graphs._warn_degenerate.cache_clear()


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
    sides = [fusion.top_k(x, k).select(at, pairs) for x, at in ((student, i), (teacher, j))]
    assert number(fusion.uld_loss(*sides)) == pytest.approx(reference.uld(*rows), rel=1e-6)
    each = fusion.uld_loss(*sides, reduction="none")
    assert not each[~pairs].any()
    assert number(fusion.uld_loss(*sides, reduction="sum")) == pytest.approx(number(each.sum()))


def test_gradient_of_uld_is_that_of_the_formula(rng):
    student, teacher = reference.draw(rng, 2, 3, 6).requires_grad_(), reference.draw(rng, 2, 3, 5)
    fusion.uld_loss(fusion.top_k(student, 4), fusion.top_k(teacher, 4)).backward()

    def slow(x):
        return reference.uld(*([reference.row(v, 4)[0] for v in side.flatten(0, 1)] for side in (x, teacher)))

    torch.testing.assert_close(student.grad, reference.slope(slow, student), atol=1e-7, rtol=1e-5)


@given(aligned())
def test_losses_of_an_identical_teacher_are_zero(drawn):
    logits, _, _, _, k = drawn
    logits = logits.clone().requires_grad_()
    labels = torch.zeros(logits.shape[:2], dtype=torch.int64)
    teacher = fusion.top_k(logits.detach(), k)
    out = fusion.read(logits, labels, k, ids=teacher.ids)
    losses = [fusion.uld_loss(out.topk, teacher), *(f(out.logprobs_at, teacher) for f in DIVERGENCES)]
    for loss in losses:
        assert abs(number(loss.detach())) < 1e-12
    sum(losses).backward()
    assert number(logits.grad.abs().max()) < 1e-12


@given(aligned(), st.sampled_from([1.0, 2.5]), st.sampled_from([0.2, 0.5]))
def test_divergences_are_those_of_the_tokens_kept_and_the_rest(drawn, temperature, beta):
    student, _, _, _, k = drawn
    teacher = torch.roll(student, 1, dims=2) * 0.7
    labels = torch.zeros(student.shape[:2], dtype=torch.int64)
    theirs = fusion.top_k(teacher, k, standardize="logprob", temperature=temperature)
    at = fusion.read(student, labels, k, ids=theirs.ids, temperature=temperature).logprobs_at
    wanted = []
    for s, t in zip(student.flatten(0, 1), teacher.flatten(0, 1), strict=True):
        tokens = reference.row(t, k)[1]
        p, q = (reference.partition(x, tokens, temperature) for x in (t, s))
        whole = [reference.partition(x, list(range(len(x))), temperature)[:-1] for x in (t, s)]
        wanted.append((reference.kl(p, q), reference.jsd(p, q, beta)))
        assert wanted[-1][0] <= reference.kl(*whole) + 1e-12
    kl, jsd = np.mean(wanted, axis=0)
    assert number(fusion.kl_loss(at, theirs)) == pytest.approx(kl, rel=1e-6, abs=1e-12)
    assert number(fusion.jsd_loss(at, theirs, beta=beta)) == pytest.approx(jsd, rel=1e-6, abs=1e-12)
    assert jsd <= math.log(2)


DIVERGENCES = (fusion.kl_loss, fusion.jsd_loss)


@pytest.mark.parametrize(
    ("loss", "slow"), [(fusion.kl_loss, reference.kl), (fusion.jsd_loss, lambda p, q: reference.jsd(p, q, 0.5))]
)
def test_gradients_of_divergences_are_those_of_the_formula(loss, slow, rng):
    student, teacher = reference.draw(rng, 1, 2, 6).requires_grad_(), reference.draw(rng, 1, 2, 6)
    theirs = fusion.top_k(teacher, 3)
    at = fusion.read(student, torch.zeros(1, 2, dtype=torch.int64), 3, ids=theirs.ids).logprobs_at
    loss(at, theirs).backward()

    def of_rows(x):
        parts = [
            [reference.partition(v, ids.tolist()) for v, ids in zip(side[0].numpy(), theirs.ids[0], strict=True)]
            for side in (teacher, x)
        ]
        return number(np.mean([slow(p, q) for p, q in zip(*parts, strict=True)]))

    torch.testing.assert_close(student.grad, reference.slope(of_rows, student), atol=1e-8, rtol=1e-5)


@pytest.mark.parametrize("loss", DIVERGENCES)
def test_divergences_are_finite_where_nothing_is_left_over(loss, rng):
    logits = (reference.draw(rng, 1, 3, 4) * 20).float().requires_grad_()
    theirs = fusion.top_k((reference.draw(rng, 1, 3, 4) * 20).float(), 4)
    at = fusion.read(logits, torch.zeros(1, 3, dtype=torch.int64), 4, ids=theirs.ids).logprobs_at
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
        (lambda: fusion.uld_loss(side, side.select(index, none)), "must mark a valid position"),
        (lambda: fusion.kl_loss(side.values[..., :2], side), "student_logprobs must have the shape"),
        (lambda: fusion.kl_loss(side.values, side.standardized("center")), "must be raw or 'logprob'"),
        (lambda: fusion.jsd_loss(side.values, side, beta=1.0), "1 − beta must be"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def batch(rng, B=3, T=4, V=9, k=3):
    """A student's reading and two teachers: one aligned position by position, one shorter and over other tokens."""
    logits = reference.draw(rng, B, T, V).requires_grad_()
    labels = torch.tensor(rng.integers(0, V, (B, T)))
    labels[0, 2:] = -100
    near = fusion.top_k(reference.draw(rng, B, T, V), k)
    far = fusion.top_k(reference.draw(rng, B, T - 1, V + 4), k)
    return logits, labels, near, far


def terms(out, labels, near, far):
    B, T = labels.shape
    index = torch.arange(T, device=labels.device).expand(B, T).contiguous()
    pairs = labels != -100
    short = index[:, : T - 1]
    return {
        "near": fusion.TeacherTerm(near, index, index, pairs, out.logprobs_at),
        "far": fusion.TeacherTerm(far, short + 1, short, pairs[:, 1:]),
    }


@pytest.mark.parametrize("standardize", ["none", "zscore"])
@pytest.mark.parametrize("graph", ["row_means", "spectral", None])
def test_total_is_the_weighted_sum_of_its_terms(graph, standardize, rng):
    logits, labels, near, far = batch(rng)
    logits = logits.detach()
    out = fusion.read(logits, labels, 3, statistics=True)
    weights = {"near": 0.7, "far": 2.0}
    loss = fusion.FusionLoss(
        0.3, graph=graph, alignment_weight=0.5, graph_weight=2.0, teacher_weights=weights, standardize=standardize
    )
    found = loss(out.topk, out.nll, terms(out, labels, near, far))
    mask, total = labels != -100, 0
    sft = torch.nn.functional.cross_entropy(logits[mask], labels[mask])
    assert number(found.terms["sft"]) == pytest.approx(number(sft))
    ours = out.topk.standardized(standardize)
    for name, teacher in (("near", near), ("far", far)):
        theirs = teacher.standardized(standardize)
        term = terms(out, labels, near, far)[name]
        pairs = [side.select(i, term.pairs) for side, i in ((ours, term.student_index), (theirs, term.teacher_index))]
        uld = fusion.uld_loss(*pairs)
        assert number(found.terms[f"uld/{name}"]) == pytest.approx(number(uld))
        total = total + weights[name] * 0.5 * uld
        if graph is not None:
            value = fusion.graph_loss(ours, theirs, graph)
            assert number(found.terms[f"graph/{name}"]) == pytest.approx(number(value))
            total = total + weights[name] * 2.0 * value
    assert number(found.total) == pytest.approx(number(0.7 * sft + 0.3 * total))


@pytest.mark.parametrize("alignment", ["uld", "kl", "jsd"])
@pytest.mark.parametrize("graph", ["row_means", "norm", "gw"])
def test_eight_micro_batches_give_the_step_of_one(alignment, graph, rng):
    logits, labels, near, _ = batch(rng, B=8)
    labels[1] = -100
    labels[1, 0] = 2
    loss = fusion.FusionLoss(0.5, alignment, graph)

    def step(rows, totals=None):
        theirs = near.select(torch.arange(4).expand(8, 4).contiguous(), torch.ones(8, 4, dtype=torch.bool))
        theirs = fusion.TopKLogits(
            theirs.values[rows], theirs.ids[rows], theirs.mask[rows], theirs.logsumexp[rows], None, None, 9
        )
        out = fusion.read(logits[rows], labels[rows], 3, ids=theirs.ids)
        term = terms(out, labels[rows], theirs, theirs)["near"]
        return loss(out.topk, out.nll, {"near": term}, totals).total

    whole = step(slice(None))
    (wanted,) = torch.autograd.grad(whole, logits)
    count = number((labels != -100).sum())
    parts = [step(slice(i, i + 1), fusion.Totals(count, {"near": count}, {"near": 8.0})) for i in range(8)]
    (found,) = torch.autograd.grad(sum(parts), logits)
    assert number(sum(parts)) == pytest.approx(number(whole), rel=1e-12)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


def test_a_teacher_without_a_valid_position_adds_zero(rng):
    logits, labels, near, far = batch(rng)
    out = fusion.read(logits, labels, 3)
    unseen = near.select(torch.zeros(3, 4, dtype=torch.int64), torch.zeros(3, 4, dtype=torch.bool))
    silent = terms(out, labels, unseen, far)
    found = fusion.FusionLoss()(out.topk, out.mean_nll, {"near": silent["near"]})
    assert number(found.terms["uld/near"]) == number(found.terms["graph/near"]) == 0
    assert number(found.total.detach()) == pytest.approx(0.5 * number(found.terms["sft"]))


def test_a_batch_without_any_pair_adds_no_token_loss(rng):
    logits, labels, near, _ = batch(rng)
    out = fusion.read(logits, labels, 3)
    none = torch.zeros(3, 0, dtype=torch.int64)
    found = fusion.FusionLoss()(out.topk, out.mean_nll, {"near": fusion.TeacherTerm(near, none, none)})
    assert number(found.terms["uld/near"]) == 0
    assert number(found.terms["graph/near"]) > 0
    found.total.backward()
    assert logits.grad.isfinite().all()


def test_students_are_cut_to_a_teacher_that_kept_fewer(rng):
    logits, labels, near, far = batch(rng)
    five = fusion.read(logits, labels, 5)
    three = fusion.read(logits, labels, 3)
    totals = [fusion.FusionLoss()(o.topk, o.nll, terms(o, labels, near, far)).total for o in (five, three)]
    assert number(totals[0]) == pytest.approx(number(totals[1]))
    two = fusion.read(logits, labels, 2)
    with pytest.raises(ValueError, match="the same k"):
        fusion.FusionLoss()(two.topk, two.nll, terms(two, labels, near, far))


def test_gradient_norms_are_those_of_each_term(rng):
    logits, labels, near, far = batch(rng)
    out = fusion.read(logits, labels, 3)
    found = fusion.FusionLoss()(out.topk, out.mean_nll, terms(out, labels, near, far))
    norms = found.gradient_norms(logits)
    assert set(norms) == {"sft", "uld/near", "graph/near", "uld/far", "graph/far"}
    for name, term in found.terms.items():
        (gradient,) = torch.autograd.grad(term, logits, retain_graph=True)
        assert norms[name] == pytest.approx(number(gradient.norm()))
        assert norms[name] > 0
    found.total.backward()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"weight": 1.5}, "weight must be a finite number at least 0 and at most 1"),
        ({"alignment": "mse"}, "alignment must be one of"),
        ({"graph": "third"}, "graph must be one of"),
        ({"channels": "token"}, "channels must be one of"),
        ({"graph": "gw", "channels": "vocabulary"}, "out of reach"),
        ({"standardize": "rank"}, "standardize must be one of"),
        ({"graph_weight": -1.0}, "graph_weight must be"),
        ({"temperature": 0.0}, "temperature must be"),
        ({"beta": 1.0}, "1 − beta must be"),
        ({"teacher_weights": {"a": float("nan")}}, "teacher_weights"),
    ],
)
def test_bad_settings_are_refused_before_any_step(settings, words):
    with pytest.raises(ValueError, match=words):
        fusion.FusionLoss(**settings)


def test_incomplete_terms_are_refused(rng):
    logits, labels, near, _ = batch(rng)
    out = fusion.read(logits, labels, 3)
    bare = {"near": fusion.TeacherTerm(near)}
    whole = {"near": terms(out, labels, near, near)["near"]}
    for settings, teachers, words in (
        ({}, bare, "must have student_index"),
        ({"alignment": "kl"}, whole, "must have logprobs_at"),
        ({"teacher_weights": {"far": 1.0}}, whole, "must name every teacher"),
        ({"standardize": "center"}, whole, "center needs the mean"),
    ):
        with pytest.raises(ValueError, match=words):
            fusion.FusionLoss(**settings)(out.topk, out.nll, teachers)
    graph_only = fusion.FusionLoss(alignment=None)(out.topk, out.nll, bare)
    assert set(graph_only.terms) == {"sft", "graph/near"}


def test_two_ranks_that_share_sequences_have_the_loss_and_gradient_of_one():
    results = processes.run()
    assert len(results) == len(processes.CASES) + 3
    for whole, gradient, split in results.values():
        assert np.mean([value for value, _ in split]) == pytest.approx(whole, rel=1e-9)
        np.testing.assert_allclose(np.mean([own for _, own in split], axis=0), gradient, rtol=1e-8, atol=1e-10)


def test_losses_need_neither_transformers_nor_what_the_trainer_needs():
    code = """
import sys, fusion
fusion.FusionLoss, fusion.top_k, fusion.graph_loss, fusion.read
assert callable(fusion.align)
print(sorted(set(sys.modules) & {'transformers', 'datasets', 'accelerate', 'matplotlib'}))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_are_listed_and_documented():
    assert sorted(fusion.__all__) == list(fusion.__all__)
    assert set(fusion.__all__) <= set(dir(fusion))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = fusion.nothing
    for name in ("FusionLoss", "TopKLogits", "graph_loss", "read", "top_k", "uld_loss"):
        assert getattr(fusion, name).__doc__


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("graph", ["row_means", "norm", "spectral", "gw"])
def test_losses_stay_on_the_device_and_agree(graph, rng):
    logits, labels, near, far = batch(rng)
    found = []
    for device in ("cpu", "cuda"):
        x = logits.detach().to(device).requires_grad_()
        out = fusion.read(x, labels.to(device), 3)
        both = terms(out, labels.to(device), near.to(device), far.to(device))
        total = fusion.FusionLoss(graph=graph)(out.topk, out.nll, both).total
        found.append((total.cpu(), torch.autograd.grad(total, x)[0].cpu()))
    for here, there in zip(*found, strict=True):
        torch.testing.assert_close(there, here)
