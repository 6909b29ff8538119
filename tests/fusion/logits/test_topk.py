"""Top-k logits: what is read of full rows, and the gradient back."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fusion
from fusion.logits.topk import KINDS
from tests.fusion import reference

SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def batches(draw):
    """Logits, a mask with a valid position, and k."""
    B, T, V = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(SEEDS))
    mask = torch.tensor(rng.random((B, T)) < 0.7)
    mask[0, 0] = True
    return reference.draw(rng, B, T, V), mask, draw(st.integers(1, V))


@given(batches(), st.sampled_from(KINDS), st.sampled_from([1.0, 2.5]))
def test_values_are_those_of_the_formula(batch, kind, temperature):
    logits, mask, k = batch
    if logits.shape[2] == 1 and kind == "zscore":
        return
    found = fusion.top_k(logits, k, mask, kind, temperature)
    values, tokens = reference.rows(logits, mask, k, kind, temperature)
    for b in range(len(logits)):
        np.testing.assert_allclose(found.values[b][mask[b]], values[b], atol=1e-12)
        np.testing.assert_array_equal(found.ids[b][mask[b]], tokens[b])
    assert not found.values[~mask].any()
    full = logits[mask]
    np.testing.assert_allclose(found.logsumexp[mask], full.logsumexp(1))
    np.testing.assert_allclose(found.mean[mask], full.mean(1), atol=1e-12)
    np.testing.assert_allclose(found.std[mask], full.std(1, correction=0), atol=1e-12)


@given(batches(), st.sampled_from(KINDS), st.sampled_from([1.0, 2.5]))
def test_raw_rows_with_their_statistics_give_the_other_kinds(batch, kind, temperature):
    logits, mask, k = batch
    if kind in ("logprob", "softmax"):
        temperature = 1.0
    raw, wanted = (
        fusion.top_k(logits, k, mask),
        fusion.top_k(logits, k, mask, kind, temperature),
    )
    torch.testing.assert_close(
        raw.standardized(kind, temperature).values, wanted.values
    )


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_that_of_the_formula(kind, rng):
    logits, mask = (
        reference.draw(rng, 2, 3, 6).requires_grad_(),
        torch.tensor([[True, False, True], [True] * 3]),
    )
    weights = torch.tensor(rng.standard_normal((2, 3, 4)))

    def slow(x):
        values, _ = reference.rows(x, mask, 4, kind, 1.5)
        return sum((values[b] * weights[b][mask[b]].numpy()).sum() for b in range(2))

    (fusion.top_k(logits, 4, mask, kind, 1.5).values * weights).sum().backward()
    torch.testing.assert_close(
        logits.grad, reference.slope(slow, logits), atol=1e-7, rtol=1e-6
    )


@pytest.mark.parametrize("statistic", ["logsumexp", "mean", "std"])
def test_statistics_have_gradients(statistic, rng):
    logits = reference.draw(rng, 1, 3, 7).requires_grad_()
    logits.data[0, 1] = (
        0.5  # a constant row, where the deviation has no gradient but a subgradient
    )
    getattr(fusion.top_k(logits, 2), statistic)[0, ::2].sum().backward()
    other = logits.detach().clone().requires_grad_()
    of_row = {
        "logsumexp": lambda x: x.logsumexp(-1),
        "mean": lambda x: x.mean(-1),
        "std": lambda x: x.std(-1, correction=0),
    }
    of_row[statistic](other[0, ::2]).sum().backward()
    torch.testing.assert_close(logits.grad, other.grad)


def test_constant_rows_have_finite_gradients():
    logits = torch.ones(1, 2, 6, dtype=torch.float64, requires_grad=True)
    found = fusion.top_k(logits, 3, standardize="zscore")
    (found.values.sum() + found.std.sum()).backward()
    assert not found.values.any()
    assert logits.grad.isfinite().all()


def test_selected_rows_are_those_at_the_index(rng):
    topk = fusion.top_k(
        reference.draw(rng, 2, 4, 6),
        3,
        torch.tensor([[True, True, False, True], [True] * 4]),
    )
    index, mask = (
        torch.tensor([[3, 2], [0, 0]]),
        torch.tensor([[True, True], [True, False]]),
    )
    found = topk.select(index, mask)
    assert found.mask.tolist() == [[True, False], [True, False]]
    torch.testing.assert_close(found.values[0, 0], topk.values[0, 3])
    torch.testing.assert_close(found.std[1, 0], topk.std[1, 0])
    assert not found.values[0, 1].any()
    assert found.first(2).values.shape == (2, 2, 2)
    with pytest.raises(ValueError, match="index must lie between 0 and 3"):
        topk.select(index + 1, mask)


GOOD = torch.zeros(1, 2, 4)


def spoiled(value, count):
    logits = GOOD.clone()
    logits[0, 1, :count] = value
    return logits


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (
            (GOOD, 5),
            ValueError,
            "k must be an integer at least 1 and at most 4, but is 5",
        ),
        ((GOOD, 0), ValueError, "k must be an integer"),
        ((GOOD[0], 2), ValueError, "3 axes"),
        ((GOOD[:, :0], 2), ValueError, "none of them empty"),
        ((GOOD.long(), 2), TypeError, "floating-point"),
        ((GOOD.numpy(), 2), TypeError, "torch tensor"),
        (
            (GOOD, 2, torch.zeros(1, 2, dtype=torch.bool)),
            ValueError,
            "must mark a valid position",
        ),
        ((GOOD, 2, torch.ones(1, 2)), ValueError, "boolean"),
        ((GOOD, 2, torch.ones(1, 3, dtype=torch.bool)), ValueError, r"shape \(1, 2\)"),
        ((GOOD, 2, None, "rank"), ValueError, "standardize must be one of"),
        ((GOOD, 2, None, "none", 0.0), ValueError, "temperature must be"),
        ((spoiled(float("nan"), 1), 2), ValueError, "hold NaN"),
        ((spoiled(float("inf"), 1), 2), ValueError, r"\+inf"),
        ((spoiled(-float("inf"), 3), 2), ValueError, "lower k"),
        ((torch.full((1, 2, 4), 1e6).half(), 2), ValueError, "float16 overflows"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(arguments, error, words):
    with pytest.raises(error, match=words) as raised:
        fusion.top_k(*arguments)
    assert str(raised.value).count(". ") == 0


def test_only_raw_rows_can_be_standardised(rng):
    logits = reference.draw(rng, 1, 2, 6)
    with pytest.raises(ValueError, match="logits must be raw or"):
        fusion.top_k(logits, 2, standardize="center").standardized("zscore")
    with pytest.raises(ValueError, match="must be made from full rows"):
        fusion.top_k(logits, 2).standardized("logprob", 2.0)
