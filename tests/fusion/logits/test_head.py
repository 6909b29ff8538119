"""What is read of a head is the same as from stored logits, with its gradient.

The head is read whole or in chunks.
"""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fusion
from fusion.logits.topk import KINDS
from tests.fusion import reference
from tests.fusion.largest import Largest
from tests.fusion.reference import number

SEEDS = st.integers(0, 2**32 - 1)


def heads(rng, B=2, T=5, d=4, V=9, dtype=torch.float64):
    """Hidden states, a head with its bias, labels and further tokens.

    Some of the labels are ignored.
    """
    hidden, weight, bias = (
        torch.tensor(rng.standard_normal(shape)).to(dtype)
        for shape in ((B, T, d), (V, d), (V,))
    )
    labels = torch.tensor(rng.integers(0, V, (B, T)))
    labels[torch.tensor(rng.random((B, T)) < 0.3)] = -100
    labels[0, 0] = 1
    ids = torch.tensor(rng.integers(0, V, (B, T, 2)))
    return [t.requires_grad_() for t in (hidden, weight, bias)], labels, ids


def everything(out, rng):
    """A number that depends on all that was read."""
    parts = (
        out.nll,
        out.topk.values,
        out.topk.logsumexp,
        out.topk.mean,
        out.topk.std,
        out.logprobs_at,
    )
    return sum(
        (part * torch.tensor(rng.standard_normal(part.shape))).sum() for part in parts
    )


@given(
    SEEDS,
    st.integers(1, 12),
    st.sampled_from(KINDS),
    st.sampled_from([1.0, 2.0]),
    st.booleans(),
)
def test_chunks_give_what_the_whole_gives_and_its_gradient(
    seed, chunk, kind, temperature, biased
):
    rng = np.random.default_rng(seed)
    (hidden, weight, bias), labels, ids = heads(rng)
    inputs = (hidden, weight, bias) if biased else (hidden, weight)
    options = {
        "ids": ids,
        "standardize": kind,
        "temperature": temperature,
        "statistics": True,
    }
    logits = torch.nn.functional.linear(*inputs)
    chunked = fusion.chunked_head(
        hidden, weight, labels, 3, bias=bias if biased else None, chunk=chunk, **options
    )
    whole = fusion.read(logits, labels, 3, **options)
    totals = [everything(out, np.random.default_rng(seed)) for out in (chunked, whole)]
    torch.testing.assert_close(*totals)
    found, wanted = (
        torch.autograd.grad(total, inputs, retain_graph=True) for total in totals
    )
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


@given(SEEDS)
def test_nll_is_the_cross_entropy_and_topk_that_of_the_logits(seed):
    rng = np.random.default_rng(seed)
    (hidden, weight, bias), labels, ids = heads(rng)
    logits = torch.nn.functional.linear(hidden, weight, bias).detach().requires_grad_()
    out, mask = fusion.read(logits, labels, 4, ids=ids, temperature=1.5), labels != -100
    torch.testing.assert_close(
        out.mean_nll, torch.nn.functional.cross_entropy(logits[mask], labels[mask])
    )
    assert not out.nll[~mask].any()
    assert torch.equal(out.topk.mask, mask)
    torch.testing.assert_close(
        out.topk.values, fusion.top_k(logits, 4, mask, temperature=1.5).values
    )
    wanted = torch.where(
        mask[..., None], (logits / 1.5).log_softmax(-1).gather(2, ids), 0.0
    )
    torch.testing.assert_close(out.logprobs_at, wanted)
    (found,) = torch.autograd.grad(out.mean_nll, logits)
    (theirs,) = torch.autograd.grad(
        torch.nn.functional.cross_entropy(logits[mask], labels[mask]), logits
    )
    torch.testing.assert_close(found, theirs)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(
    ("alignment", "graph", "tolerance"),
    [("kl", None, 0.03), ("uld", "row_means", 0.1), ("kl", "spectral", 0.1)],
)
def test_bfloat16_heads_give_the_loss_of_single_precision(
    alignment, graph, tolerance, autocast, rng
):
    """To 1 % in the loss, to 3 % in the gradient's norm.

    To 10 % in the gradient's norm where ranks or signs matter.

    The logits themselves are rounded to 8 bits: ranks that then change places hand
    their gradient to another token, and differences that then change sign turn it
    round.
    """
    (hidden, weight, _), labels, _ = heads(rng, 2, 24, 32, 300, torch.bfloat16)
    teacher = fusion.top_k(torch.tensor(rng.standard_normal((2, 24, 300)) * 5).float())
    single = [t.detach().float().requires_grad_() for t in (hidden, weight)]
    index, loss = (
        torch.arange(24).expand(2, 24).contiguous(),
        fusion.FusionLoss(0.5, alignment, graph),
    )

    def total(hidden, weight):
        out = fusion.chunked_head(hidden, weight, labels, ids=teacher.ids, chunk=7)
        term = fusion.TeacherTerm(teacher, index, index, out.topk.mask, out.logprobs_at)
        return loss(out.topk, out.nll, {"a": term}).total

    wanted = total(*single)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = total(hidden, weight)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, rtol=1e-2, atol=0)
    theirs, ours = (
        torch.autograd.grad(wanted, single),
        torch.autograd.grad(found, (hidden, weight)),
    )
    for half, full in zip(ours, theirs, strict=True):
        assert half.dtype == torch.bfloat16
        assert number((half.float() - full).norm()) <= tolerance * number(full.norm())


@pytest.mark.parametrize("graph", ["row_means", "norm", "spectral", "gw"])
def test_bfloat16_logits_have_the_loss_of_their_values(graph, rng):
    """Exactly, and the gradient to its own rounding.

    Nothing is summed in half precision.
    """
    half = (reference.draw(rng, 2, 300, 60) + 10).bfloat16()
    labels = torch.zeros(2, 300, dtype=torch.int64)
    teacher = fusion.top_k(reference.draw(rng, 2, 200, 60).float())
    index, loss = (
        torch.arange(200).expand(2, 200).contiguous(),
        fusion.FusionLoss(graph=graph),
    )
    gradients = []
    for logits in (half.requires_grad_(), half.detach().float().requires_grad_()):
        out = fusion.read(logits, labels)
        total = loss(
            out.topk, out.nll, {"a": fusion.TeacherTerm(teacher, index, index)}
        ).total
        gradients.append((total, torch.autograd.grad(total, logits)[0].float()))
    (ours, rounded), (theirs, exact) = gradients
    assert number(ours) == number(theirs)
    torch.testing.assert_close(rounded, exact, rtol=2**-8, atol=1e-12)


def test_frozen_heads_and_frozen_bodies_get_no_gradient(rng):
    (hidden, weight, bias), labels, ids = heads(rng)
    for fixed in ((weight, bias), (hidden,)):
        inputs = [
            t.detach() if any(t is f for f in fixed) else t
            for t in (hidden, weight, bias)
        ]
        out = fusion.chunked_head(
            *inputs[:2], labels, 3, bias=inputs[2], ids=ids, statistics=True, chunk=4
        )
        everything(out, rng).backward()
        for t in (hidden, weight, bias):
            assert (t.grad is None) == any(t is f for f in fixed)
            t.grad = None


@pytest.mark.parametrize("chunk", [1, 3, 8])
def test_never_more_than_a_chunk_of_logits_is_alive(chunk, rng):
    (hidden, weight, bias), labels, ids = heads(rng, 2, 10, 1, 101)
    with Largest(101) as seen:
        out = fusion.chunked_head(
            hidden, weight, labels, 3, bias=bias, ids=ids, statistics=True, chunk=chunk
        )
        everything(out, rng).backward()
    assert seen.rows == chunk


def test_ignored_positions_may_hold_anything(rng):
    (hidden, weight, _), labels, _ = heads(rng)
    filled = (
        torch.where((labels == -100)[..., None], float("nan"), hidden)
        .detach()
        .requires_grad_()
    )
    for x in (hidden, filled):
        out = fusion.chunked_head(x, weight, labels, 3)
        (out.nll.sum() + out.topk.values.sum()).backward()
    torch.testing.assert_close(filled.grad, hidden.grad)


GOOD = torch.zeros(1, 3, 5)
LABELS = torch.tensor([[1, 2, -100]])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: fusion.read(GOOD, LABELS[:, :2], 2),
            "labels must be an int64 tensor of shape",
        ),
        (lambda: fusion.read(GOOD, LABELS.int(), 2), "labels must be an int64 tensor"),
        (lambda: fusion.read(GOOD, LABELS * 5, 2), "labels must lie between 0 and 4"),
        (
            lambda: fusion.read(GOOD, LABELS * 0 - 100, 2),
            "labels != −100 must mark a valid position",
        ),
        (
            lambda: fusion.read(GOOD, LABELS, 2, ids=LABELS[..., None] + 9),
            "ids must lie between 0 and 4",
        ),
        (
            lambda: fusion.read(GOOD, LABELS, 6),
            "k must be an integer at least 1 and at most 5",
        ),
        (
            lambda: fusion.chunked_head(GOOD, torch.zeros(7, 4), LABELS, 2),
            r"must have shapes \(B, T, d\)",
        ),
        (
            lambda: fusion.chunked_head(
                GOOD, torch.zeros(7, 5), LABELS, 2, bias=torch.zeros(3)
            ),
            "must have shapes",
        ),
        (
            lambda: fusion.chunked_head(GOOD, torch.zeros(7, 5), LABELS, 2, chunk=0),
            "chunk must be an integer",
        ),
        (
            lambda: fusion.chunked_head(GOOD, torch.zeros(7, 5) / 0, LABELS, 2),
            "hold NaN",
        ),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, words):
    with pytest.raises(ValueError, match=words) as raised:
        call()
    assert str(raised.value).count(". ") == 0


def test_chunked_head_is_read_as_the_reference_reads_it(rng):
    (hidden, weight, _), labels, _ = heads(rng)
    out = fusion.chunked_head(
        hidden.detach(), weight.detach(), labels, 3, standardize="zscore", chunk=2
    )
    logits = (hidden @ weight.T).detach()
    for b, t in (labels != -100).nonzero().tolist():
        np.testing.assert_allclose(
            out.topk.values[b, t], reference.row(logits[b, t], 3, "zscore")[0]
        )


@pytest.mark.parametrize("biased", [True, False])
def test_columns_of_no_token_are_not_read(biased, rng):
    parts, labels, ids = heads(rng)
    padded = [torch.cat([p.detach(), 9 * p.detach()[:2]]) for p in parts[1:]]
    padded = [parts[0].detach(), *padded]
    padded = [part.requires_grad_() for part in padded]
    settings = {"ids": ids, "standardize": "center", "statistics": True}

    def chunked(hidden, weight, bias, **further):
        bias = bias if biased else None
        return fusion.chunked_head(
            hidden, weight, labels, 3, bias=bias, chunk=4, **settings, **further
        )

    def whole(hidden, weight, bias, **further):
        logits = hidden @ weight.T + (bias if biased else 0)
        return fusion.read(logits, labels, 3, **settings, **further)

    used = slice(0, 3 if biased else 2)
    wanted = everything(chunked(*parts), np.random.default_rng(1))
    gradients = torch.autograd.grad(wanted, parts[used])
    for read in (chunked, whole):
        found = everything(read(*padded, vocabulary=9), np.random.default_rng(1))
        assert number(found) == pytest.approx(number(wanted))
        of_padded = torch.autograd.grad(found, padded[used])
        torch.testing.assert_close(of_padded[0], gradients[0])
        for ours, theirs in zip(of_padded[1:], gradients[1:], strict=True):
            torch.testing.assert_close(ours[:9], theirs)
            assert not ours[9:].any()
        # Labels and k are of the tokens alone.
        with pytest.raises(ValueError, match="labels must lie between 0 and 3"):
            read(*padded, vocabulary=4)
        for vocabulary in (0, 12):
            with pytest.raises(ValueError, match="vocabulary must be an integer"):
                read(*padded, vocabulary=vocabulary)
