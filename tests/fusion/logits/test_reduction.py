"""What is read of rows of logits: the largest in two stages, and nothing of what is masked or not needed."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fusion
from fusion.logits.reduction import top_ids
from fusion.logits.topk import KINDS
from tests.fusion import reference
from tests.fusion.logits.test_topk import SEEDS, batches


@given(SEEDS, st.integers(1, 5), st.integers(60, 700), st.booleans())
def test_two_stages_find_the_same_values_as_one(seed, k, V, ties):
    rng = np.random.default_rng(seed)
    rows = torch.tensor(
        rng.integers(-3, 4, (4, V)).astype(float)
        if ties
        else rng.standard_normal((4, V))
    )
    ids = top_ids(rows, k)
    torch.testing.assert_close(
        rows.gather(1, ids), rows.topk(k, dim=1).values, rtol=0, atol=0
    )
    assert all(len(set(row)) == k for row in ids.tolist())


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


@pytest.mark.parametrize("kind", KINDS)
def test_impossible_tokens_outside_the_largest_are_left_out(kind, rng):
    logits = reference.draw(rng, 1, 2, 8)
    logits[0, :, 5:] = -torch.inf
    logits.requires_grad_()
    found = fusion.top_k(logits, 3, standardize=kind)
    values, _ = reference.rows(logits.detach(), torch.ones(1, 2), 3, kind)
    np.testing.assert_allclose(found.values[0].detach(), values[0])
    (found.values**2).sum().backward()
    assert logits.grad.isfinite().all()
    assert not logits.grad[0, :, 5:].any()


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
