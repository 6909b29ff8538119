"""Terms: means are quotients of sums over all ranks, and denominators those by hand."""

import pytest
import torch

from fusion.training.terms import Meter, denominators, term_names


class Ranks:
    """An accelerator of several ranks that all hold the same."""

    device = torch.device("cpu")

    def __init__(self, count):
        self.count = count

    def reduce(self, tensor, how):
        assert how == "sum"
        return self.count * tensor


def batch(weights, pairs):
    """A batch of two examples with three labels behind the first row that is read."""
    teacher = {
        "weights": torch.tensor(weights),
        "pairs": torch.tensor(pairs),
    }
    labels = torch.tensor([[-100, 7, 8, -100], [-100, -100, 9, -100]])
    return {"labels": labels, "first": 0, "teachers": {"a": teacher}}


@pytest.mark.parametrize("ranks", [1, 3])
def test_means_are_over_what_occurred(ranks):
    meter = Meter(["a", "b", "never"])
    meter.add("a", 3.0, 2)
    meter.add("a", torch.tensor(1.0, requires_grad=True), torch.tensor(2))
    meter.add("b", 0.0, 5)
    assert meter.means(Ranks(ranks)) == {"a": 1.0, "b": 0.0}
    meter.reset()
    assert meter.means(Ranks(ranks)) == {}


def test_names_are_unique_and_terms_have_gradients():
    names = term_names(["a", "b"])
    assert len(set(names)) == len(names)
    terms = {"sft", "uld/a", "graph/a", "uld/b", "graph/b"}
    assert terms | {f"gradient/{term}" for term in terms} <= set(names)


def test_denominators_by_hand():
    first = batch([0.5, 0.25], [[True, True], [True, False]])
    second = batch([1.0, 0.0], [[True, False], [True, True]])
    assert denominators([first]).tolist() == [3, 2 * 0.5 + 0.25, 0.75]
    assert denominators([first, second]).tolist() == [6, 2.25, 1.75]
    assert denominators([]).tolist() == [0, 0, 0]


def test_pairs_count_by_their_weights():
    teacher = {
        "weights": torch.tensor([0.5, 1.0]),
        "pairs": torch.ones(2, 3, dtype=torch.bool),
    }
    batch = {
        "labels": torch.tensor([[-100, 1, 2], [-100, 3, -100]]),
        "first": 0,
        "teachers": {"a": teacher},
    }
    assert denominators([batch]).tolist() == [3.0, 4.5, 1.5]
    teacher["pair_weights"] = torch.tensor([[1.0, 0.0, 1.0], [2.0, 0.5, 0.0]])
    assert denominators([batch]).tolist() == [3.0, 3.5, 1.5]
