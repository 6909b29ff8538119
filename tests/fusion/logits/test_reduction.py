"""Reading rows of logits: nothing of what is masked or not needed is read."""

import pytest
import torch
from hypothesis import given

import fusion
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
