"""Whole runs end with the same weights when killed and resumed, or on two ranks."""

import random
import signal

import pytest
import torch

from fusion.teachers.capture import capture
from fusion.training.checkpoints import newest_checkpoint
from tests.fusion import runs


@pytest.fixture(scope="module")
def store(tmp_path_factory, gpt2):
    path = tmp_path_factory.mktemp("runs") / "gpt2"
    capture(*gpt2, runs.EXAMPLES, path, progress=False)
    return str(path)


def started(context, target, *arguments):
    process = context.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def finished(folder):
    return torch.load(folder / "done.pt", weights_only=True)


def same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def test_killed_at_random_moments_a_run_ends_with_the_same_weights(
    forkserver, store, tmp_path
):
    """SIGKILL at every moment once, in random order and at random steps.

    Each step makes a checkpoint.
    """
    settings = {
        "max_steps": 12,
        "save_strategy": "steps",
        "save_steps": 1,
        "save_total_limit": 2,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-2,
    }
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    undisturbed = started(forkserver, runs.train, str(whole), store, settings)
    undisturbed.join()
    assert undisturbed.exitcode == 0
    rng, saved = random.Random(0), 0
    for moment in rng.sample(runs.MOMENTS, len(runs.MOMENTS)):
        step = saved + rng.randint(1, 2)
        process = started(
            forkserver, runs.train, str(killed), store, settings, (step, moment)
        )
        process.join()
        assert process.exitcode == -signal.SIGKILL, (step, moment)
        assert (
            moment not in runs.FILES
            or (killed / f"checkpoint-{step}" / moment).is_file()
        )
        saved = step if moment in ("deletion", "saved") else step - 1
        assert newest_checkpoint(killed) == (
            str(killed / f"checkpoint-{saved}") if saved else None
        ), (step, moment)
    last = started(forkserver, runs.train, str(killed), store, settings)
    last.join()
    assert last.exitcode == 0
    assert same(finished(whole), finished(killed))


def test_two_ranks_equal_one(forkserver, store, tmp_path):
    """Four examples a step on one rank, two on each of two, which differ in tokens."""
    settings = {
        "max_steps": 3,
        "save_strategy": "no",
        "optim": "sgd",
        "learning_rate": 0.05,
        "max_grad_norm": 0.0,
        "report_to": "none",
    }
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one = started(
        forkserver,
        runs.train,
        str(tmp_path / "one"),
        store,
        settings | {"per_device_train_batch_size": 4},
    )
    one.join()
    halves = settings | {"per_device_train_batch_size": 2}
    two = [
        started(forkserver, runs.rank, r, 2, str(tmp_path / "two"), store, halves)
        for r in range(2)
    ]
    for process in two:
        process.join()
    assert [process.exitcode for process in (one, *two)] == [0, 0, 0]
    first, second = finished(tmp_path / "one"), finished(tmp_path / "two")
    start = runs.tiny.llama()[0].state_dict()
    assert max(float((first[name] - start[name]).abs().max()) for name in first) > 1e-3
    for name in first:
        assert torch.allclose(first[name], second[name], rtol=0, atol=1e-5), name
