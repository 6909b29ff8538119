"""One block of rows: the largest in two stages; what impossible tokens count for."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fusion
from fusion.logits.rows import top_ids
from fusion.logits.topk import KINDS
from tests.fusion import reference
from tests.fusion.logits.test_topk import SEEDS


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
