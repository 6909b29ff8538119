"""Weights of pairs by how sure their teachers are."""

import numpy as np
import pytest

pytest.importorskip("transformers")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.training.confidence import confidence_weights


def drawn(seed, teachers=3, examples=2, positions=4):
    """Batches of teachers that are paired with some of the student's positions."""
    rng = np.random.default_rng(seed)
    found = {}
    for number in range(teachers):
        length = int(rng.integers(2, 6))
        values = torch.tensor(rng.standard_normal((examples, length, 3)) * 3).float()
        values = values.sort(dim=2, descending=True).values
        count = int(rng.integers(1, min(positions, length) + 1))
        index = [
            torch.tensor(
                np.array([np.sort(rng.permutation(n)[:count]) for _ in range(examples)])
            )
            for n in (positions, length)
        ]
        found[str(number)] = {
            "values": values,
            "logsumexp": values.logsumexp(dim=2) + torch.tensor(rng.random()),
            "student_index": index[0],
            "teacher_index": index[1],
            "pairs": torch.tensor(rng.random((examples, count)) < 0.8),
        }
    return found


def at_positions(teachers):
    """By example and position of the student: each teacher's probability and pair."""
    found = {}
    for name, teacher in teachers.items():
        for b, p in teacher["pairs"].nonzero().tolist():
            t = teacher["teacher_index"][b, p]
            top = teacher["values"][b, t, 0] - teacher["logsumexp"][b, t]
            key = (b, int(teacher["student_index"][b, p]))
            found.setdefault(key, {})[name, p] = float(top.exp())
    return found


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_teachers_of_a_position_have_the_mean_weight_1(seed):
    """Each in proportion to its largest probability, and 0 where there is no pair."""
    teachers = drawn(seed)
    found = confidence_weights(teachers)
    for (b, _), sure in at_positions(teachers).items():
        total = sum(sure.values())
        for (name, p), probability in sure.items():
            expected = len(sure) * probability / total
            assert float(found[name][b, p]) == pytest.approx(expected, rel=1e-5)
    for name, teacher in teachers.items():
        assert not found[name][~teacher["pairs"]].any()


def test_teachers_that_are_equally_sure_weigh_as_without_weights():
    one = drawn(0, teachers=1)["0"]
    found = confidence_weights({"a": one, "b": dict(one)})
    for weights in found.values():
        assert torch.equal(weights, one["pairs"].float())
    assert confidence_weights({}) == {}
