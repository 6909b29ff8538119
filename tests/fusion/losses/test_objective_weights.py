"""The objective with a weight for each example, against its formula written out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fusion
from tests.fusion import reference
from tests.fusion.reference import number

SEEDS = st.integers(0, 2**32 - 1)
few = settings(max_examples=40)  # each draws whole batches
W, A, G = 0.4, 0.7, 1.3
SHARES = {"near": 0.6, "far": 2.0}
LOSS = fusion.FusionLoss(
    W,
    graph="row_means",
    alignment_weight=A,
    graph_weight=G,
    teacher_weights=SHARES,
)


def drawn(seed, B=3):
    """A student, and two teachers of other vocabularies and k.

    Each teacher lacks an example and has weights of 0.
    """
    rng = np.random.default_rng(seed)
    logits = reference.draw(rng, B, 4, 9).requires_grad_()
    labels = torch.tensor(rng.integers(0, 9, (B, 4)))
    labels[torch.tensor(rng.random((B, 4)) < 0.3)] = -100
    labels[0, 0] = 1
    teachers = {}
    for name, T, V, k in (("near", 4, 9, 2), ("far", 6, 5, 3)):
        mask = torch.tensor(rng.random((B, T)) < 0.8)
        mask[0, 0], mask[rng.integers(1, B)] = True, False
        weights = torch.tensor(rng.random(B) * (rng.random(B) < 0.7))
        weights[0] = 0.5
        index = [torch.tensor(rng.integers(0, n, (B, 5))) for n in (4, T)]
        pairs = torch.tensor(rng.random((B, 5)) < 0.8)
        topk = fusion.top_k(reference.draw(rng, B, T, V), k, mask)
        teachers[name] = fusion.TeacherTerm(topk, *index, pairs, weights=weights)
    return logits, labels, teachers


def rows(teachers, keep):
    """Some of the examples of all teachers."""
    return {
        name: fusion.TeacherTerm(
            replace(
                term.topk._with_statistics(lambda statistic: statistic[keep]),
                **{
                    part: getattr(term.topk, part)[keep]
                    for part in ("values", "ids", "mask")
                },
            ),
            *(
                getattr(term, part)[keep]
                for part in ("student_index", "teacher_index", "pairs")
            ),
            weights=term.weights[keep],
        )
        for name, term in teachers.items()
    }


def weighted(teachers, **changes):
    """The same teachers with other weights of the examples."""
    return {
        name: replace(term, weights=changes.get(name, term.weights))
        for name, term in teachers.items()
    }


def fused(logits, labels, teachers, totals=None, loss=LOSS):
    out = fusion.read(logits, labels, 3)
    return loss(out.topk, out.nll, teachers, totals)


def expected(logits, labels, teachers, totals=None):
    """The formula, where top-k logits of a teacher stand for its full rows.

    The formula needs no more of them.
    """
    plain = [
        {
            "share": SHARES[name],
            "weights": term.weights,
            "logits": term.topk.values,
            "mask": term.topk.mask,
            "k": term.topk.k,
            "pairs": [
                (b, int(term.student_index[b, p]), int(term.teacher_index[b, p]))
                for b, p in term.pairs.nonzero().tolist()
            ],
        }
        for name, term in teachers.items()
    ]
    return reference.objective(logits.detach(), labels, plain, W, A, G, totals)


@few
@given(SEEDS)
def test_total_with_weights_is_that_of_the_formula(seed):
    logits, labels, teachers = drawn(seed)
    assert number(fused(logits, labels, teachers).total) == pytest.approx(
        expected(logits, labels, teachers), rel=1e-9
    )
    mapped = fusion.Totals(7.0, {"near": 3.0, "far": 5.0}, {"near": 2.0, "far": 0.5})
    wanted = expected(logits, labels, teachers, (7.0, (3.0, 2.0), (5.0, 0.5)))
    assert number(fused(logits, labels, teachers, mapped).total) == pytest.approx(
        wanted, rel=1e-9
    )
    shared = fusion.Totals(7.0, torch.tensor(3.0), 2.0)
    wanted = expected(logits, labels, teachers, (7.0, (3.0, 2.0), (3.0, 2.0)))
    assert number(fused(logits, labels, teachers, shared).total) == pytest.approx(
        wanted, rel=1e-9
    )


@few
@given(SEEDS)
def test_a_weight_of_zero_takes_a_teacher_away_from_an_example(seed):
    """As if the teacher had not seen it; without any weight, as if it were absent."""
    logits, labels, teachers = drawn(seed)
    unseen = {
        name: replace(
            term,
            topk=replace(term.topk, mask=term.topk.mask & (term.weights > 0)[:, None]),
        )
        for name, term in teachers.items()
    }
    both = [fused(logits, labels, side).total for side in (teachers, unseen)]
    gradients = [torch.autograd.grad(total, logits)[0] for total in both]
    assert number(both[0]) == pytest.approx(number(both[1]), rel=1e-12)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)
    silent = fused(logits, labels, weighted(teachers, far=torch.zeros(3)))
    alone = fused(logits, labels, {"near": teachers["near"]})
    assert number(silent.total) == pytest.approx(number(alone.total), rel=1e-12)
    assert number(silent.terms["uld/far"]) == number(silent.terms["graph/far"]) == 0


@few
@given(SEEDS, st.floats(1e-3, 1e3))
def test_a_factor_on_all_weights_of_a_teacher_cancels_but_for_given_totals(
    seed, factor
):
    logits, labels, teachers = drawn(seed)
    once = fused(logits, labels, teachers)
    scaled = weighted(teachers, far=factor * teachers["far"].weights)
    assert number(fused(logits, labels, scaled).total) == pytest.approx(
        number(once.total), rel=1e-9
    )
    totals = fusion.Totals(9.0, 4.0, 2.0)
    before, after = (fused(logits, labels, side, totals) for side in (teachers, scaled))
    for name in ("uld/far", "graph/far"):
        assert number(after.terms[name]) == pytest.approx(
            factor * number(before.terms[name]), rel=1e-9, abs=1e-12
        )
    assert number(after.terms["uld/near"]) == number(before.terms["uld/near"])
    heavy = replace(LOSS, teacher_weights=SHARES | {"far": factor * SHARES["far"]})
    added = (
        W
        * SHARES["far"]
        * number(A * once.terms["uld/far"] + G * once.terms["graph/far"])
    )
    more = number(fused(logits, labels, teachers, loss=heavy).total - once.total)
    assert more == pytest.approx((factor - 1) * added, rel=1e-9, abs=1e-9)


@few
@given(SEEDS)
def test_equal_weights_are_those_that_are_left_out(seed):
    logits, labels, teachers = drawn(seed)
    ones = weighted(teachers, near=torch.full((3,), 2.0), far=torch.full((3,), 0.1))
    plain = {name: replace(term, weights=None) for name, term in teachers.items()}
    totals = [number(fused(logits, labels, side).total) for side in (ones, plain)]
    assert totals[0] == pytest.approx(totals[1], rel=1e-6)


@few
@given(SEEDS)
def test_micro_batches_with_weights_add_up(seed):
    """Their sums and counts are those of the examples, and give the step's totals."""
    logits, labels, teachers = drawn(seed)
    labels[:, 0] = 2
    whole = fused(logits, labels, teachers)
    counts = {
        name: number(
            part.sum()
            if name == "sft"
            else part.double() @ teachers[name.partition("/")[2]].weights
        )
        for name, part in whole.counts.items()
    }
    split = {
        kind: {name: counts[f"{kind}/{name}"] for name in teachers}
        for kind in ("uld", "graph")
    }
    totals = fusion.Totals(counts["sft"], split["uld"], split["graph"])
    parts = [
        fused(logits[[b]], labels[[b]], rows(teachers, [b]), totals) for b in range(3)
    ]
    assert number(sum(part.total for part in parts)) == pytest.approx(
        number(whole.total), rel=1e-9
    )
    for name, sums in whole.sums.items():
        torch.testing.assert_close(torch.cat([part.sums[name] for part in parts]), sums)


@few
@given(SEEDS)
def test_one_total_for_all_teachers_makes_one_mean(seed):
    logits, labels, teachers = drawn(seed)
    each = fused(logits, labels, teachers)
    counts = {
        name: number(each.counts[f"uld/{name}"].double() @ term.weights)
        for name, term in teachers.items()
    }
    equal = replace(LOSS, teacher_weights=dict.fromkeys(teachers, 1.0))
    one = fused(
        logits, labels, teachers, fusion.Totals(1.0, sum(counts.values()), 1.0), equal
    )
    mean = sum(
        counts[name] * number(each.terms[f"uld/{name}"]) for name in teachers
    ) / max(sum(counts.values()), 1e-300)
    assert number(one.terms["uld/near"] + one.terms["uld/far"]) == pytest.approx(
        mean, rel=1e-9
    )


def test_a_teacher_may_have_a_temperature_of_its_own(rng):
    logits, labels, teachers = drawn(0)
    hot = {name: replace(term, temperature=2.0) for name, term in teachers.items()}
    wanted = fused(logits, labels, teachers, loss=replace(LOSS, temperature=2.0))
    assert number(fused(logits, labels, hot).total) == number(wanted.total)
    assert number(wanted.total) != number(fused(logits, labels, teachers).total)


@given(SEEDS)
@settings(max_examples=15)
def test_weights_of_pairs_are_those_of_their_means(seed):
    """Weights 0 and 1 leave pairs out, and a factor on all of a teacher's cancels."""
    logits, labels, teachers = drawn(seed)
    out = fusion.read(logits, labels, k=3)
    rng = np.random.default_rng(seed)
    some, less, scaled = {}, {}, {}
    for name, term in teachers.items():
        kept = torch.tensor(rng.random(term.pairs.shape) < 0.7)
        some[name] = replace(term, pair_weights=kept.double())
        scaled[name] = replace(term, pair_weights=2.5 * kept.double())
        less[name] = replace(term, pairs=term.pairs & kept)
    expected = LOSS(out.topk, out.nll, less)
    for given_weights in (some, scaled):
        found = LOSS(out.topk, out.nll, given_weights)
        assert number(found.total) == pytest.approx(number(expected.total))
    assert torch.equal(
        LOSS(out.topk, out.nll, some).counts["uld/far"].long(),
        expected.counts["uld/far"],
    )


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (torch.ones(3, 4), r"must have the shape \(3, 5\)"),
        (-torch.ones(3, 5), "must be finite numbers at least 0"),
        (torch.full((3, 5), torch.nan), "must be finite numbers at least 0"),
    ],
)
def test_weights_of_pairs_that_are_none_are_refused(weights, words):
    _, _, teachers = drawn(0)
    with pytest.raises(ValueError, match=words):
        replace(teachers["near"], pair_weights=weights)
