"""Graph losses: the formula, invariances, what they bound, and degeneracy."""

import re
import warnings
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fusion
import gwtools as gw
from tests.fusion import reference
from tests.fusion.reference import number

SEEDS = st.integers(0, 2**32 - 1)
BOUNDS = ("row_means", "norm", "spectral")
KINDS = (*BOUNDS, "gw")
SIDES = ("student", "teacher")
# The same over vocabularies, where channels "gw" has no place.
CASES = [(kind, "rank") for kind in BOUNDS] + [(kind, "vocabulary") for kind in BOUNDS]
CASES_AND_GW = [*CASES, ("gw", "rank")]
few = settings(max_examples=80)  # each draws whole batches


def side(rng, B, T, V, k):
    mask = torch.tensor(rng.random((B, T)) < 0.7)
    mask[0, 0] = True
    logits = reference.draw(rng, B, T, V)
    return logits, mask, k


def topk(logits, mask, k):
    return fusion.top_k(logits, k, mask)


def slow(side):
    logits, mask, k = side
    return (*reference.rows(logits, mask, k), logits.shape[2])


@st.composite
def pairs(draw, k=None):
    """Student and teacher with other lengths, masks and vocabularies.

    The first example has a position on both sides.
    """
    rng = np.random.default_rng(draw(SEEDS))
    B, k = draw(st.integers(1, 3)), draw(st.integers(1, 4)) if k is None else k
    sizes = st.tuples(st.integers(1, 5), st.integers(max(k, 2), 8))
    return tuple(side(rng, B, *draw(sizes), k) for _ in range(2))


@pytest.mark.parametrize(("kind", "channels"), CASES)
@few
@given(drawn=pairs())
def test_value_is_that_of_the_formula(kind, channels, drawn):
    student, teacher = drawn
    found = fusion.graph_loss(topk(*student), topk(*teacher), kind, channels)
    wanted = reference.graph_loss(slow(student), slow(teacher), kind, channels)
    assert number(found) == pytest.approx(wanted, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("kind", "channels"), CASES)
def test_gradient_is_that_of_the_formula(kind, channels, rng):
    student, teacher = side(rng, 2, 4, 7, 3), side(rng, 2, 3, 6, 3)
    logits = student[0].requires_grad_()
    fusion.graph_loss(topk(*student), topk(*teacher), kind, channels).backward()
    theirs = slow(teacher)

    def loss(x):
        return reference.graph_loss(slow((x, *student[1:])), theirs, kind, channels)

    torch.testing.assert_close(
        logits.grad, reference.slope(loss, logits.detach()), atol=1e-7, rtol=1e-5
    )


@pytest.mark.parametrize("side", ["student", "teacher"])
@pytest.mark.parametrize("fault", ["one id", "all ids", "vocabulary", "too few"])
def test_vocabulary_channels_need_known_tokens(side, fault, rng):
    sides = {name: topk(reference.draw(rng, 1, 3, 6), None, 2) for name in SIDES}
    spoiled = sides[side]
    ids = spoiled.ids.clone()
    if fault == "one id":
        ids[0, 1, 0] = -1
    elif fault == "all ids":
        ids[:] = -1
    known = {"vocabulary": 0, "too few": int(ids.max())}.get(fault, 6)
    sides[side] = replace(spoiled, ids=ids, vocabulary=known)
    with pytest.raises(ValueError, match=f"^{side} must hold known tokens") as caught:
        fusion.graph_loss(**sides, channels="vocabulary")
    assert re.fullmatch(r"[^\n]+, but [^\n]+: [^\n]+\.", str(caught.value))
    # Ranks need no tokens, and those of masked positions are never read.
    assert fusion.graph_loss(**sides) >= 0
    mask = torch.tensor([[True, False, True]])
    if fault == "one id":
        sides[side] = replace(sides[side], mask=mask)
        assert fusion.graph_loss(**sides, channels="vocabulary") >= 0


def test_gradient_of_gw_is_that_at_the_coupling_held_fixed(rng):
    logits, other = (
        reference.draw(rng, 1, 3, 6).requires_grad_(),
        fusion.top_k(reference.draw(rng, 1, 5, 9), 4),
    )

    def loss(x):
        return fusion.graph_loss(fusion.top_k(x, 4), other, "gw")

    loss(logits).backward()
    # Where the best permutation is unique it does not move with the logits.
    torch.testing.assert_close(
        logits.grad,
        reference.slope(loss, logits.detach()).detach(),
        atol=1e-6,
        rtol=1e-5,
    )


@few
@given(case=st.sampled_from(CASES_AND_GW), drawn=pairs())
def test_loss_of_an_identical_teacher_is_zero(case, drawn):
    kind, channels = case
    logits, mask, k = drawn[0]
    logits = logits.clone().requires_grad_()
    student = topk(logits, mask, k)
    loss = fusion.graph_loss(student, student.detach(), kind, channels)
    loss.backward()
    assert 0 <= number(loss.detach()) < 1e-9
    assert logits.grad.isfinite().all()


@few
@given(case=st.sampled_from(CASES_AND_GW), drawn=pairs(), seed=SEEDS)
def test_neither_padding_nor_the_order_of_positions_matters(case, drawn, seed):
    kind, channels = case
    rng = np.random.default_rng(seed)
    (logits, mask, k), teacher = drawn
    order = torch.tensor(rng.permutation(logits.shape[1] + 2))
    padded = torch.cat(
        [logits, torch.full_like(logits[:, :1], float("nan")).expand(-1, 2, -1)], dim=1
    )[:, order]
    longer = torch.cat([mask, torch.zeros(len(mask), 2, dtype=torch.bool)], dim=1)[
        :, order
    ]
    theirs = topk(*teacher)
    found = [
        fusion.graph_loss(ours, theirs, kind, channels)
        for ours in (topk(logits, mask, k), topk(padded, longer, k))
    ]
    assert number(found[0]) == pytest.approx(number(found[1]), rel=1e-9, abs=1e-9)


def first_graphs(drawn):
    """Both graphs of the first example, by outer products."""
    return [reference.graph(slow(one)[0][0]) for one in drawn]


def costs(C, D, p):
    """Objectives of all permutations of k nodes."""
    k = len(C)
    return [
        (abs(C - D[np.ix_(order, order)]) ** p).mean()
        for order in map(list, permutations(range(k)))
    ]


@given(drawn=pairs(k=3), seed=SEEDS)
def test_row_means_are_k_times_a_bound_of_every_coupling(drawn, seed):
    C, D = first_graphs(drawn)
    loss = number(
        fusion.graph_loss(*(topk(*one) for one in drawn), reduction="none")[0]
    )
    assert loss / 3 == pytest.approx(
        number(gw.bounds.row_means(C, D, p=1)), rel=1e-9, abs=1e-12
    )
    share = np.random.default_rng(seed).dirichlet(np.ones(6))
    mixed = sum(
        w * np.eye(3)[list(order)] / 3
        for w, order in zip(share, permutations(range(3)), strict=True)
    )
    apart = abs(C[:, None, :, None] - D[None, :, None, :])
    for cost in (*costs(C, D, 1), np.einsum("ijkl,ij,kl->", apart, mixed, mixed)):
        assert loss / 3 <= cost + 1e-9


@few
@given(drawn=pairs(k=4))
def test_norm_spectral_gw_2_squared_and_gw_are_in_this_order(drawn):
    # Gram spaces make the objective concave: GW_2² is attained at a permutation.
    exact = min(costs(*first_graphs(drawn), 2))
    sides = [topk(*one) for one in drawn]
    norm, spectral, best = (
        number(fusion.graph_loss(*sides, kind, reduction="none")[0])
        for kind in ("norm", "spectral", "gw")
    )
    slack = 1e-9 * (1 + exact)
    assert norm <= spectral + slack
    assert spectral <= exact + slack
    assert exact <= best + slack


def standardised(values, kind="none"):
    """Rows as they are, all valid."""
    ids = torch.arange(values.shape[2]).expand_as(values).contiguous()
    mask = torch.ones(values.shape[:2], dtype=torch.bool)
    return fusion.TopKLogits(values, ids, mask, None, None, None, values.shape[2], kind)


def test_renormalised_softmax_leaves_the_difference_of_mean_rows(rng):
    k = 5
    sides = [
        fusion.top_k(reference.draw(rng, 1, T, k), k, standardize="softmax")
        for T in (6, 8)
    ]
    means = [side.values[0].mean(dim=0) for side in sides]
    with pytest.warns(UserWarning, match="degenerate on these 'softmax' logits"):
        loss = fusion.graph_loss(*sides)
    assert number(loss) == pytest.approx(
        number((means[0] - means[1]).abs().sum()) / k, rel=1e-9
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fusion.graph_loss(*sides)  # said once


def test_z_scores_of_the_k_logits_leave_nothing_but_the_spectrum_sees(rng):
    k = 5
    sides = [
        fusion.top_k(reference.draw(rng, 1, T, k), k, standardize="zscore")
        for T in (6, 8)
    ]
    with pytest.warns(UserWarning, match="degenerate on these 'zscore' logits"):
        assert number(fusion.graph_loss(*sides)) < 1e-12
    assert number(fusion.graph_loss(*sides, "spectral")) > 1e-5


@pytest.mark.parametrize("kind", ["none", "center", "logprob", "zscore"])
def test_no_warning_where_row_masses_vary(kind, rng):
    sides = [
        fusion.top_k(reference.draw(rng, 2, 6, 40), 5, standardize=kind)
        for _ in range(2)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fusion.graph_loss(*sides)


def test_raw_logits_carry_a_constant_that_centred_ones_do_not(rng):
    logits = reference.draw(rng, 1, 4, 30)
    shifted = logits + 3
    assert number(fusion.graph_loss(fusion.top_k(logits), fusion.top_k(shifted))) > 1
    for kind in ("center", "logprob", "zscore"):
        sides = [fusion.top_k(x, standardize=kind) for x in (logits, shifted)]
        assert number(fusion.graph_loss(*sides)) < 1e-9


@pytest.mark.parametrize(("kind", "channels"), CASES_AND_GW)
def test_graphs_without_residual_have_finite_gradients(kind, channels):
    values = torch.full((1, 3, 4), 2.0, dtype=torch.float64, requires_grad=True)
    loss = fusion.graph_loss(
        standardised(values),
        standardised(torch.ones(1, 2, 4, dtype=torch.float64)),
        kind,
        channels,
    )
    loss.backward()
    assert values.grad.isfinite().all()
    assert values.grad.any()


@pytest.mark.parametrize(("kind", "channels"), CASES)
def test_half_precision_and_autocast_lose_nothing_in_the_sums(kind, channels, rng):
    sides = [
        (reference.draw(rng, 1, 1024, 40) + 20).to(torch.bfloat16) for _ in range(2)
    ]
    wanted = fusion.graph_loss(
        *(fusion.top_k(x.double()) for x in sides), kind, channels
    )
    with torch.autocast("cpu", torch.bfloat16):
        found = fusion.graph_loss(*(fusion.top_k(x) for x in sides), kind, channels)
    assert found.dtype == torch.float32
    assert number(found) == pytest.approx(number(wanted), rel=2e-3)


def test_double_stays_double_and_the_narrower_side_is_widened(rng):
    student, teacher = reference.draw(rng, 1, 3, 8), reference.draw(rng, 1, 4, 9)
    single = fusion.graph_loss(
        fusion.top_k(student, 3), fusion.top_k(teacher.float(), 3)
    )
    assert single.dtype == torch.float64
    assert number(single) == pytest.approx(
        number(fusion.graph_loss(*(fusion.top_k(x, 3) for x in (student, teacher))))
    )


def test_sequences_that_one_side_lacks_take_no_part(rng):
    student, teacher = (
        fusion.top_k(reference.draw(rng, 3, 4, 8), 3),
        fusion.top_k(reference.draw(rng, 3, 5, 8), 3),
    )
    mask = teacher.mask.clone()
    mask[1] = False
    teacher = replace(teacher, mask=mask)
    each = fusion.graph_loss(student, teacher, reduction="none")
    assert number(each[1]) == 0
    assert number(fusion.graph_loss(student, teacher)) == pytest.approx(
        number(each.sum()) / 2
    )
    assert number(
        fusion.graph_loss(student, teacher, reduction="sum")
    ) == pytest.approx(number(each.sum()))
    unseen = replace(teacher, mask=torch.zeros_like(mask))
    with pytest.raises(
        ValueError, match="the mask of sequences must mark a valid position"
    ):
        fusion.graph_loss(student, unseen)
    assert not fusion.graph_loss(student, unseen, reduction="none").any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "third"}, "kind must be one of 'row_means'"),
        ({"channels": "token"}, "channels must be one of"),
        ({"kind": "gw", "channels": "vocabulary"}, "out of reach"),
        ({"reduction": "batch"}, "reduction must be one of"),
    ],
)
def test_unknown_options_are_refused(options, words, rng):
    side = fusion.top_k(reference.draw(rng, 1, 2, 6), 3)
    with pytest.raises(ValueError, match=words):
        fusion.graph_loss(side, side, **options)


def test_sides_that_do_not_fit_are_refused(rng):
    logits = reference.draw(rng, 2, 2, 6)
    side = fusion.top_k(logits, 3)
    for other, words in (
        (fusion.top_k(logits, 2), "the same k, but they have 3 and 2: cut"),
        (fusion.top_k(logits, 3, standardize="center"), "the same standardize"),
        (fusion.top_k(logits, 3, temperature=2.0), "the same temperature"),
        (fusion.top_k(logits[:1], 3), "as many sequences"),
    ):
        with pytest.raises(ValueError, match=words):
            fusion.graph_loss(side, other)
