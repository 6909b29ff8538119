"""Draws from the tail: their law, sums without bias, and what is refused."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fusion
from fusion.logits.tail import TailSample, sample_tail
from tests.fusion import reference

SEEDS = st.integers(0, 2**32 - 1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def sampled(row, k, draws, positions=1, temperature=1.0, **options):
    """Top-k logits and a sample of one row, at some positions."""
    logits = row.expand(1, positions, -1).contiguous()
    topk = fusion.top_k(logits, k, temperature=temperature)
    return topk, sample_tail(logits, topk, draws, **options)


@st.composite
def rows(draw):
    """A row of logits, perhaps with ties and impossible tokens, and k."""
    V = draw(st.integers(2, 9))
    rng = np.random.default_rng(draw(SEEDS))
    row = torch.tensor(rng.standard_normal(V).round(draw(st.integers(0, 3))))
    k = draw(st.integers(1, V))
    possible = draw(st.integers(k, V))
    row[row.argsort()[: V - possible]] = -math.inf
    return row, k


@settings(max_examples=40)
@given(rows(), SEEDS, st.sampled_from([1.0, 0.7]), st.booleans())
def test_each_token_of_the_tail_is_drawn_in_proportion_to_its_probability(
    case, seed, temperature, ranked
):
    row, k = case
    m = 1000
    topk, tail = sampled(
        row, k, m, 1, temperature, ranked=ranked, generator=seeded(seed % 2**31)
    )
    p = (row / temperature).softmax(0)
    of_tail = p.clone()
    of_tail[topk.ids[0, 0]] = 0
    mass = of_tail.sum()
    torch.testing.assert_close(tail.mass[0, 0], mass)
    if mass == 0:
        return
    # Numbers 0 … 1 in m equal parts: an interval of length w meets them w m times, but
    # for the parts at both of its ends.
    counts = tail.ids[0, 0].bincount(minlength=len(row))
    assert bool(((counts - m * of_tail / mass).abs() < 2 + 1e-6).all())
    torch.testing.assert_close(tail.logprobs[0, 0].exp(), p[tail.ids[0, 0]])


@settings(max_examples=30)
@given(rows())
def test_the_expectation_over_one_draw_is_the_sum_over_the_tail(case):
    row, k = case
    topk, tail = sampled(row, k, 1)
    p = row.softmax(0)
    f = torch.linspace(-1, 2, len(row), dtype=torch.float64)
    expectation = torch.zeros((), dtype=torch.float64)
    wanted = torch.zeros((), dtype=torch.float64)
    for v in set(range(len(row))) - set(topk.ids[0, 0].tolist()):
        one = TailSample(torch.tensor([[[v]]]), tail.logprobs, tail.mass)
        if p[v] > 0:
            chance = p[v] / tail.mass[0, 0]
            expectation += chance * one.estimate(f[v].reshape(1, 1, 1))[0, 0]
            wanted += p[v] * f[v]
    torch.testing.assert_close(expectation, wanted)


def test_estimates_of_kl_and_its_gradient_have_no_bias(rng):
    teacher, student = (reference.draw(rng, 1, 1, 6)[0, 0] for _ in range(2))
    student.requires_grad_()
    topk = fusion.top_k(teacher[None, None], 2)
    p = teacher.softmax(0)
    tail = sample_tail(teacher[None, None], topk, 1)

    def estimate(v):
        """The loss that the draw of token v gives."""
        kept = topk.ids[0, 0]
        log_q = student.log_softmax(0)
        exact = (p[kept] * (p[kept].log() - log_q[kept])).sum()
        return exact + tail.estimate((p[v].log() - log_q[v]).reshape(1, 1, 1)).sum()

    others = [v for v in range(6) if v not in topk.ids.tolist()[0][0]]
    mean = sum(p[v] / tail.mass[0, 0] * estimate(v) for v in others)
    log_q = student.log_softmax(0)
    torch.testing.assert_close(mean, (p * (p.log() - log_q)).sum())
    (gradient,) = torch.autograd.grad(mean, student)
    torch.testing.assert_close(gradient, (student.softmax(0) - p).detach())


@pytest.mark.parametrize("m", [1, 5])
def test_independent_draws_have_the_variance_of_the_formula(m, rng):
    row = reference.draw(rng, 1, 1, 8)[0, 0]
    f = row + torch.tensor(rng.standard_normal(8)) / 4
    N = 20_000
    variances = {}
    for stratified in (False, True):
        options = {"stratified": stratified, "ranked": stratified}
        topk, tail = sampled(row, 2, m, N, **options, generator=seeded())
        estimates = tail.estimate(f[tail.ids])
        p = row.softmax(0)
        p[topk.ids[0, 0]] = 0
        variances[stratified] = float(estimates.var())
        off = float(estimates.mean() - (p * f).sum())
        assert abs(off) < 5 * math.sqrt(variances[stratified] / N)
    mass = p.sum()
    within = (p * f**2).sum() / mass - ((p * f).sum() / mass) ** 2
    assert variances[False] == pytest.approx(float(mass**2 * within / m), rel=0.05)
    assert variances[True] <= 1.05 * variances[False]
    assert m == 1 or variances[True] < 0.7 * variances[False]


def test_ranks_are_places_in_the_sorted_row(rng):
    logits = reference.draw(rng, 2, 3, 30)
    tail = sample_tail(
        logits, fusion.top_k(logits, 4), 50, ranked=True, generator=seeded()
    )
    order = logits.sort(dim=2, descending=True).indices
    torch.testing.assert_close(order.gather(2, tail.ranks), tail.ids)
    assert tail.ranks.min() >= 4
    # Stratified draws come in the order of the row.
    assert bool((tail.ranks.diff(dim=2) >= 0).all())


def test_ties_with_what_is_kept_are_drawn_and_what_is_kept_is_not():
    logits = torch.zeros(1, 4, 300)  # which of the equal ones are kept is open
    topk = fusion.top_k(logits, 7)
    tail = sample_tail(logits, topk, 293)
    for t in range(4):
        assert set(tail.ids[0, t].tolist()) == set(range(300)) - set(
            topk.ids[0, t].tolist()
        )


def test_an_empty_tail_adds_nothing():
    impossible = torch.tensor([2.0, 1.0, -math.inf, -math.inf])
    for row, k in ((impossible, 2), (torch.tensor([0.0, 3.0, 1.0]), 3)):
        topk, tail = sampled(row, k, 3, ranked=True)
        assert tail.mass.item() == 0
        # A token that exists stands in, so that it can be looked up.
        assert tail.ids.flatten().tolist() == [topk.ids[0, 0, 0]] * 3
        assert tail.ranks.flatten().tolist() == [0] * 3
        torch.testing.assert_close(tail.logprobs[0, 0, 0], row.log_softmax(0).max())
        values = torch.full((1, 1, 3), -math.inf, requires_grad=True)
        estimate = tail.estimate(values)
        estimate.sum().backward()
        assert estimate.item() == 0
        assert not values.grad.any()


@pytest.mark.parametrize("ranked", [True, False])
def test_rounding_draws_no_token_without_probability(ranked, monkeypatch):
    # A number that rounds to one points behind the last token.
    row = torch.tensor([0.1, 0.7, 0.2, -math.inf, 3.0])
    most = torch.ones((1, 1), dtype=torch.float64)
    monkeypatch.setattr("fusion.logits.tail._uniforms", lambda *_: most)
    _, tail = sampled(row, 1, 1, ranked=ranked)
    assert tail.ids.item() == 1
    assert tail.logprobs.item() > -math.inf


@pytest.mark.parametrize("ranked", [True, False])
def test_a_number_of_zero_draws_the_first_token_of_the_tail(ranked, monkeypatch):
    row = torch.tensor([3.0, -math.inf, 0.2, 0.7])
    least = torch.zeros((1, 1), dtype=torch.float64)
    monkeypatch.setattr("fusion.logits.tail._uniforms", lambda *_: least)
    _, tail = sampled(row, 1, 1, ranked=ranked)
    assert tail.ids.item() == (3 if ranked else 2)
    assert (tail.ranks is not None) == ranked


def test_masked_positions_are_not_read(rng):
    logits = reference.draw(rng, 2, 3, 9).float()
    mask = torch.tensor([[True, False, True], [False, True, True]])
    topk = fusion.top_k(logits, 2, mask)
    wanted = sample_tail(logits, topk, 4, ranked=True, generator=seeded())
    logits[~mask] = math.nan
    tail = sample_tail(logits, topk, 4, ranked=True, generator=seeded())
    for name in ("ids", "ranks", "logprobs", "mass"):
        torch.testing.assert_close(getattr(tail, name), getattr(wanted, name))
        assert not getattr(tail, name)[~mask].any()
    assert tail.draws == 4
    assert tail.logprobs.dtype == torch.float32


def test_no_valid_position_and_blocks_of_rows(rng, monkeypatch):
    logits = reference.draw(rng, 1, 5, 9)
    topk = fusion.top_k(logits, 2)
    whole = sample_tail(logits, topk, 3, generator=seeded())
    monkeypatch.setattr("fusion.logits.tail._BLOCK_ENTRIES", 18)
    blocks = sample_tail(logits, topk, 3, generator=seeded())
    torch.testing.assert_close(blocks.ids, whole.ids)
    index = torch.arange(5)[None]
    nowhere = topk.select(index, torch.zeros(1, 5, dtype=torch.bool))
    assert not sample_tail(logits, nowhere, 3).mass.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_double(dtype, rng):
    logits = reference.draw(rng, 1, 2, 40).to(dtype).requires_grad_()
    topk = fusion.top_k(logits, 5)
    tail = sample_tail(logits, topk, 6, generator=seeded())
    same = sample_tail(logits.double(), topk, 6, generator=seeded())
    assert tail.logprobs.dtype == torch.float32
    assert not tail.logprobs.requires_grad
    torch.testing.assert_close(tail.ids, same.ids)
    torch.testing.assert_close(tail.mass, same.mass.float())


GOOD = torch.zeros(1, 2, 4)


@pytest.mark.parametrize(
    ("logits", "draws", "error", "words"),
    [
        (GOOD.int(), 3, TypeError, "logits must be a floating-point"),
        (GOOD[0], 3, ValueError, "logits must have 3 axes"),
        (GOOD[..., :3], 3, ValueError, r"logits must have the shape \(1, 2, 4\)"),
        (GOOD, 0, ValueError, "draws must be an integer at least 1"),
        (GOOD - math.inf, 3, ValueError, "must be finite but for"),
        (GOOD + math.nan, 3, ValueError, "must be finite but for"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(logits, draws, error, words):
    topk = fusion.top_k(GOOD, 2)
    with pytest.raises(error, match=words) as raised:
        sample_tail(logits, topk, draws)
    assert str(raised.value).count(". ") == 0


def test_values_must_be_one_for_each_draw():
    tail = sample_tail(GOOD, fusion.top_k(GOOD, 2), 3)
    with pytest.raises(ValueError, match="one for each drawn token"):
        tail.estimate(torch.zeros(1, 2, 2))
