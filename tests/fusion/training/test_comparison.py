"""What teachers say of a batch: their tokens at the student's positions."""

import pytest
import torch

from fusion.teachers.capture import capture
from fusion.teachers.store import TeacherStore
from fusion.training.comparison import (
    check_tokenizers,
    teacher_terms,
    teachers_tokens,
)
from tests.fusion import tiny


def hand_made():
    """Two examples; a teacher with positions before the student's, and padding."""
    teacher = {
        "values": torch.zeros(2, 3, 2),
        "ids": torch.tensor(
            [[[1, 2], [3, 4], [5, 6]], [[7, 8], [9, 10], [0, 0]]],
        ),
        "mask": torch.ones(2, 3, dtype=torch.bool),
        "student_index": torch.tensor([[0, 2], [1, 0]]),
        "teacher_index": torch.tensor([[1, 2], [0, 0]]),
        "pairs": torch.tensor([[True, True], [True, False]]),
        "weights": torch.ones(2),
    }
    labels = torch.zeros(2, 4, dtype=torch.int64)
    return {"labels": labels, "first": 0, "teachers": {"a": teacher, "b": teacher}}


def test_tokens_stand_at_the_positions_of_pairs_alone():
    found = teachers_tokens(hand_made())
    wanted = torch.tensor([[[3, 4], [0, 0], [5, 6]], [[0, 0], [7, 8], [0, 0]]])
    assert torch.equal(found, torch.cat([wanted, wanted], dim=2))
    assert teachers_tokens(hand_made() | {"teachers": {}}) is None


def test_logprobs_are_taken_at_the_pairs_of_each_teacher(tmp_path, llama):
    examples = tiny.sums(2)
    capture(*llama, examples, tmp_path / "store", k=2, progress=False)
    store = TeacherStore(tmp_path / "store")
    logprobs = torch.arange(24.0).reshape(2, 3, 4)
    stores = {"a": store, "b": store}
    terms = teacher_terms(hand_made(), stores, {"b": 2.0}, logprobs)
    assert torch.equal(terms["a"].logprobs_at[0], logprobs[0, [0, 2], :2])
    assert torch.equal(terms["b"].logprobs_at[1], logprobs[1, [1, 0], 2:])
    assert terms["a"].temperature is None
    assert terms["b"].temperature == 2.0


def test_tokens_of_other_tokenizers_are_not_compared(tmp_path, llama, gpt2):
    examples = tiny.sums(2)
    capture(*gpt2, examples, tmp_path / "other", k=2, progress=False)
    capture(*llama, examples, tmp_path / "same", k=2, progress=False)
    stores = {name: TeacherStore(tmp_path / name) for name in ("same", "other")}
    check_tokenizers(stores, llama[1], "uld")
    check_tokenizers({"same": stores["same"]}, llama[1], "kl")
    with pytest.raises(ValueError, match="store of other was made with another"):
        check_tokenizers(stores, llama[1], "jsd")
