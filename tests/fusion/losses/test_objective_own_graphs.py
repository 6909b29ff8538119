"""A graph loss of the caller's own in the objective: what it is given, and returns."""

import pytest
import torch

import fusion
from tests.fusion import reference


def batch(rng):
    """Three examples of four positions, and a teacher with fewer logits."""
    logits = reference.draw(rng, 3, 4, 9).requires_grad_()
    labels = torch.tensor(rng.integers(0, 9, (3, 4)))
    labels[0, 2:] = -100
    out = fusion.read(logits, labels, 9, statistics=True)
    teacher = fusion.top_k(reference.draw(rng, 3, 5, 12), 4)
    weights = torch.tensor([0.5, 2.0, 1.0])
    return logits, out, fusion.TeacherTerm(teacher, weights=weights)


def test_one_that_is_the_library_s_gives_its_total_and_gradient(rng):
    """Row means of raw logits, computed by the caller from what is passed."""
    logits, out, term = batch(rng)

    def own(student, theirs):
        ours = student.first(theirs.topk.k)
        values = fusion.graph_loss(ours, theirs.topk, reduction="none")
        return values, ours.mask.any(dim=1)

    gradients = []
    totals = []
    for graph in ("row_means", own):
        loss = fusion.FusionLoss(0.4, alignment=None, graph=graph, graph_weight=0.7)
        result = loss(out.topk, out.nll, {"teacher": term})
        totals.append(result.total)
        (gradient,) = torch.autograd.grad(result.total, logits, retain_graph=True)
        gradients.append(gradient)
    assert torch.equal(*totals)
    assert torch.equal(*gradients)
    assert gradients[0].abs().max() > 0


def test_it_sees_whole_raw_rows_and_examples_without_one_do_not_count(rng):
    _, out, term = batch(rng)
    seen = []

    def own(student, theirs):
        seen.append((student, theirs))
        return torch.tensor([0.0, 3.0, 5.0]), torch.tensor([False, True, True])

    loss = fusion.FusionLoss(0.4, graph=own, alignment=None, standardize="zscore")
    result = loss(out.topk, out.nll, {"teacher": term})
    assert seen == [(out.topk, term)]
    assert out.topk.k == 9
    mean = (2.0 * 3.0 + 1.0 * 5.0) / (2.0 + 1.0)  # by the weights of the examples
    assert result.terms["graph/teacher"].item() == pytest.approx(mean)


@pytest.mark.parametrize(
    "returned",
    [
        (torch.tensor(1.0), torch.tensor([True, True, True])),
        (torch.ones(3), torch.tensor(True)),
        (torch.ones(2), torch.tensor([True, True])),
    ],
)
def test_reduced_losses_are_refused(returned, rng):
    _, out, term = batch(rng)
    loss = fusion.FusionLoss(graph=lambda *sides: returned, alignment=None)
    with pytest.raises(ValueError, match="3 losses and a mask of as many"):
        loss(out.topk, out.nll, {"teacher": term})


def test_shared_sequences_are_refused(rng):
    _, out, term = batch(rng)
    loss = fusion.FusionLoss(graph=lambda *sides: None, alignment=None)
    with pytest.raises(ValueError, match="leave group out"):
        # Sums of SFT need a group of ranks; a mean does not.
        loss(out.topk, out.mean_nll, {"teacher": term}, group=object())
