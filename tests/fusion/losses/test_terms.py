"""What a loss is made of: terms that are refused, and the gradient of each term."""

import pytest
import torch

import fusion
from tests.fusion import reference
from tests.fusion.losses.test_objective import batch, terms
from tests.fusion.reference import number


def test_gradient_norms_are_those_of_each_term(rng):
    logits, labels, near, far = batch(rng)
    out = fusion.read(logits, labels, 3)
    found = fusion.FusionLoss(graph="row_means")(
        out.topk, out.mean_nll, terms(out, labels, near, far)
    )
    norms = found.gradient_norms(logits)
    assert set(norms) == {"sft", "uld/near", "graph/near", "uld/far", "graph/far"}
    for name, term in found.terms.items():
        (gradient,) = torch.autograd.grad(term, logits, retain_graph=True)
        assert norms[name] == pytest.approx(number(gradient.norm()))
        assert norms[name] > 0
    found.total.backward()


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        (
            {"weights": torch.ones(2)},
            ValueError,
            "weights must be 3 finite numbers at least 0, but are",
        ),
        (
            {"weights": torch.tensor([1.0, -1.0, 0.0])},
            ValueError,
            "weights must be 3 finite numbers",
        ),
        (
            {"weights": torch.tensor([1.0, float("nan"), 0.0])},
            ValueError,
            "weights must be 3 finite numbers",
        ),
        (
            {"weights": torch.ones(3, dtype=torch.int64)},
            TypeError,
            "weights must be a floating-point torch tensor",
        ),
        ({"weights": torch.ones(3, 1)}, ValueError, "weights must have 1 axes"),
        ({"temperature": 0.0}, ValueError, "temperature must be"),
    ],
)
def test_bad_weights_are_refused(changes, error, words, rng):
    topk = fusion.top_k(reference.draw(rng, 3, 2, 6), 3)
    with pytest.raises(error, match=words):
        fusion.TeacherTerm(topk, **changes)
