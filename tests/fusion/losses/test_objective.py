"""The objective that puts all terms together.

Its terms, its gradient, micro-batches, ranks and what it refuses.
"""

import numpy as np
import pytest
import torch

import fusion
from tests.fusion import processes, reference
from tests.fusion.reference import number


def batch(rng, B=3, T=4, V=9, k=3):
    """A student's reading and two teachers.

    One teacher is aligned position by position, one is shorter and over other tokens.
    """
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
        0.3,
        graph=graph,
        alignment_weight=0.5,
        graph_weight=2.0,
        teacher_weights=weights,
        standardize=standardize,
    )
    found = loss(out.topk, out.nll, terms(out, labels, near, far))
    mask, total = labels != -100, 0
    sft = torch.nn.functional.cross_entropy(logits[mask], labels[mask])
    assert number(found.terms["sft"]) == pytest.approx(number(sft))
    ours = out.topk.standardized(standardize)
    for name, teacher in (("near", near), ("far", far)):
        theirs = teacher.standardized(standardize)
        term = terms(out, labels, near, far)[name]
        pairs = [
            side.select(i, term.pairs)
            for side, i in ((ours, term.student_index), (theirs, term.teacher_index))
        ]
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
        theirs = near.select(
            torch.arange(4).expand(8, 4).contiguous(),
            torch.ones(8, 4, dtype=torch.bool),
        )
        theirs = fusion.TopKLogits(
            theirs.values[rows],
            theirs.ids[rows],
            theirs.mask[rows],
            theirs.logsumexp[rows],
            None,
            None,
            9,
        )
        out = fusion.read(logits[rows], labels[rows], 3, ids=theirs.ids)
        term = terms(out, labels[rows], theirs, theirs)["near"]
        return loss(out.topk, out.nll, {"near": term}, totals).total

    whole = step(slice(None))
    (wanted,) = torch.autograd.grad(whole, logits)
    count = number((labels != -100).sum())
    parts = [
        step(slice(i, i + 1), fusion.Totals(count, {"near": count}, {"near": 8.0}))
        for i in range(8)
    ]
    (found,) = torch.autograd.grad(sum(parts), logits)
    assert number(sum(parts)) == pytest.approx(number(whole), rel=1e-12)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


def test_a_teacher_without_a_valid_position_adds_zero(rng):
    logits, labels, near, far = batch(rng)
    out = fusion.read(logits, labels, 3)
    unseen = near.select(
        torch.zeros(3, 4, dtype=torch.int64), torch.zeros(3, 4, dtype=torch.bool)
    )
    silent = terms(out, labels, unseen, far)
    found = fusion.FusionLoss(0.5, graph="row_means")(
        out.topk, out.mean_nll, {"near": silent["near"]}
    )
    assert number(found.terms["uld/near"]) == number(found.terms["graph/near"]) == 0
    assert number(found.total.detach()) == pytest.approx(
        0.5 * number(found.terms["sft"])
    )


def test_a_batch_without_any_pair_adds_no_token_loss(rng):
    logits, labels, near, _ = batch(rng)
    out = fusion.read(logits, labels, 3)
    none = torch.zeros(3, 0, dtype=torch.int64)
    found = fusion.FusionLoss(graph="row_means")(
        out.topk, out.mean_nll, {"near": fusion.TeacherTerm(near, none, none)}
    )
    assert number(found.terms["uld/near"]) == 0
    assert number(found.terms["graph/near"]) > 0
    found.total.backward()
    assert logits.grad.isfinite().all()


def test_students_are_cut_to_a_teacher_that_kept_fewer(rng):
    logits, labels, near, far = batch(rng)
    five = fusion.read(logits, labels, 5)
    three = fusion.read(logits, labels, 3)
    totals = [
        fusion.FusionLoss(graph="row_means")(
            o.topk, o.nll, terms(o, labels, near, far)
        ).total
        for o in (five, three)
    ]
    assert number(totals[0]) == pytest.approx(number(totals[1]))
    two = fusion.read(logits, labels, 2)
    with pytest.raises(ValueError, match="the same k"):
        fusion.FusionLoss(graph="row_means")(
            two.topk, two.nll, terms(two, labels, near, far)
        )


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
    graph_only = fusion.FusionLoss(alignment=None, graph="row_means")(
        out.topk, out.nll, bare
    )
    assert set(graph_only.terms) == {"sft", "graph/near"}


def test_two_ranks_that_share_sequences_have_the_loss_and_gradient_of_one(forkserver):
    results = processes.run(forkserver)
    assert len(results) == len(processes.CASES) + 3
    for whole, gradient, split in results.values():
        assert np.mean([value for value, _ in split]) == pytest.approx(whole, rel=1e-9)
        np.testing.assert_allclose(
            np.mean([own for _, own in split], axis=0), gradient, rtol=1e-8, atol=1e-10
        )


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
