"""Reading rows of logits: nothing of what is masked or not needed is read."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fusion
from fusion.logits.reduction import read_logits, read_relative
from fusion.logits.rows import Reading
from tests.fusion import reference
from tests.fusion.logits.test_topk import SEEDS, batches


@given(batches(), SEEDS)
def test_what_masked_rows_hold_changes_nothing(batch, seed):
    logits, mask, k = batch
    filled = torch.where(mask[..., None], logits, float("nan")).requires_grad_()
    clean = logits.clone().requires_grad_()
    results = [fusion.top_k(x, k, mask, "logprob") for x in (filled, clean)]
    for result in results:
        (result.values.sum() + result.std.sum()).backward()
    torch.testing.assert_close(results[0].values, results[1].values, rtol=0, atol=0)
    torch.testing.assert_close(filled.grad, clean.grad, rtol=0, atol=0)
    assert not clean.grad[~mask].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_in_single(dtype, rng):
    logits = reference.draw(rng, 2, 3, 50).to(dtype).requires_grad_()
    found, single = fusion.top_k(logits, 5), fusion.top_k(logits.detach().float(), 5)
    assert found.values.dtype == torch.float32
    for name in ("values", "logsumexp", "mean", "std"):
        torch.testing.assert_close(
            getattr(found, name), getattr(single, name), rtol=0, atol=0
        )
    found.values.sum().backward()
    assert logits.grad.dtype == dtype


def test_without_statistics_only_what_is_needed_is_read(rng):
    logits = reference.draw(rng, 1, 2, 6)
    bare = fusion.top_k(logits, 2, statistics=False)
    assert (bare.logsumexp, bare.mean, bare.std) == (None, None, None)
    with pytest.raises(ValueError, match="logprob needs the logsumexp"):
        bare.standardized("logprob")
    wanted = fusion.top_k(logits, 2, standardize="zscore")
    torch.testing.assert_close(
        fusion.top_k(logits, 2, standardize="zscore", statistics=False).values,
        wanted.values,
    )


@settings(max_examples=30)
@given(batches(), SEEDS, st.sampled_from(["none", "logprob", "zscore"]))
def test_columns_of_no_token_are_not_read_and_have_no_gradient(batch, seed, kind):
    """Heads are padded with columns, which may hold anything, also the largest."""
    logits, mask, k = batch
    B, T, V = logits.shape
    generator = torch.Generator().manual_seed(seed)
    columns = 100 * torch.randn((B, T, 3), generator=generator, dtype=logits.dtype)
    padded = torch.cat([logits, columns], dim=2).requires_grad_()
    clean = logits.clone().requires_grad_()
    found = fusion.top_k(padded, k, mask, kind, vocabulary=V)
    wanted = fusion.top_k(clean, k, mask, kind)
    assert found.vocabulary == V
    for name in ("values", "ids", "logsumexp", "mean", "std"):
        ours, theirs = getattr(found, name), getattr(wanted, name)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    for read in (found, wanted):
        (read.values.sum() + read.logsumexp.sum() + read.std.sum()).backward()
    torch.testing.assert_close(padded.grad[..., :V], clean.grad, rtol=0, atol=0)
    assert not padded.grad[..., V:].any()


def test_relative_rows_are_rows_less_their_largest(rng):
    logits = reference.draw(rng, 1, 700, 2000)[0].float()  # more than one block
    at = torch.arange(700)[:, None]
    reading = Reading(3, vocabulary=1900)
    shift, found = read_relative(logits, at, reading)
    plain = read_logits(logits, at[:, 0], at, reading)
    torch.testing.assert_close(shift, logits[:, :1900].amax(dim=1))
    moved = shift[:, None]
    torch.testing.assert_close(found.values + moved, plain.values)
    torch.testing.assert_close(found.logsumexp + moved, plain.logsumexp)
    torch.testing.assert_close(found.at + moved, plain.at)
    torch.testing.assert_close(found.moments[:, :1] + moved, plain.moments[:, :1])
    torch.testing.assert_close(found.moments[:, 1:], plain.moments[:, 1:])
    assert not found.values[:, 0].any()
