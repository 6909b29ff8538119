"""Speed and time left, counted on a clock that the test sets."""

from types import SimpleNamespace

import pytest
import torch
from transformers import ProgressCallback

from fusion.training import progress
from fusion.training.progress import Progress

# Two examples of 3 and 2 tokens, and a filler that does not count.
BATCH = {
    "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 1]]),
    "labels": torch.tensor([[-100, 4, 5], [-100, 6, -100], [-100, -100, -100]]),
    "first": 0,
    "examples": 2,
}


class Ranks:
    """Two ranks that do the same."""

    device = "cpu"

    def reduce(self, counts, kind):
        assert kind == "sum"
        return 2 * counts


@pytest.fixture
def clock(monkeypatch):
    found = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress.time, "perf_counter", lambda: found.now)
    return found


def test_tokens_of_all_ranks_are_divided_by_the_time_of_steps_alone(clock):
    made = Progress([])
    state = SimpleNamespace(global_step=10, max_steps=16)
    made.on_train_begin(None, state, None)
    made.count([BATCH, BATCH])
    clock.now += 2
    state.global_step = 11
    made.on_step_end(None, state, None)
    clock.now += 50
    made.on_evaluate(None, state, None)
    clock.now += 6
    made.on_save(None, state, None)
    made.count([BATCH])
    clock.now += 2
    state.global_step = 12
    made.on_step_end(None, state, None)
    # 15 tokens and 9 labels in 4 s on each rank; 4 steps left, of 30 s each.
    assert made.speed(Ranks(), state) == {
        "tokens_per_second": 7.5,
        "labels_per_second": 4.5,
        "seconds_left": 120.0,
    }
    assert made.speed(Ranks(), state)["tokens_per_second"] == 0


def test_the_bar_shows_the_speed():
    shown = []
    bar = ProgressCallback()
    bar.training_bar = SimpleNamespace(set_postfix_str=shown.append)
    made = Progress([bar, object()])
    made.on_log(None, None, None, {"loss": 1.0})
    made.on_log(None, None, None, {"tokens_per_second": 1234.5})
    assert shown == ["1234 tokens/s"]
    bar.training_bar = None
    made.on_log(None, None, None, {"tokens_per_second": 1234.5})
