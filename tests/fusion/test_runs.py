"""Whole runs: killed and resumed they end with the same weights, and two ranks end with those of one."""

import multiprocessing
import random
import signal
import time

import pytest
import torch

from fusion.capture import capture
from tests.fusion import runs

KILLS = 5


@pytest.fixture(scope="module")
def store(tmp_path_factory, gpt2):
    path = tmp_path_factory.mktemp("runs") / "gpt2"
    capture(*gpt2, runs.EXAMPLES, path, progress=False)
    return str(path)


@pytest.fixture(scope="module")
def context():
    """Processes that start with everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.fusion.runs"])
    return context


def started(context, target, *arguments):
    process = context.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def finished(folder):
    return torch.load(folder / "done.pt", weights_only=True)


def wait_for_checkpoint(folder, step, process):
    """Wait until a step at least this far has begun to be saved."""
    while process.is_alive() and not any(int(p.name.rpartition("-")[2]) >= step for p in folder.glob("checkpoint-*")):
        time.sleep(0.002)


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_killed_at_random_moments_a_run_ends_with_the_same_weights(context, store, tmp_path):
    """SIGKILL during training and during checkpoints, of which there is one a step."""
    settings = {"max_steps": 12, "save_strategy": "steps", "save_steps": 1, "save_total_limit": 2,
                "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "learning_rate": 1e-2}  # fmt: skip
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = started(context, runs.train, str(tmp_path / "whole"), store, settings)
    whole.join()
    assert whole.exitcode == 0
    moments = random.Random(0)
    for kill in range(KILLS):
        process = started(context, runs.train, str(tmp_path / "killed"), store, settings)
        wait_for_checkpoint(tmp_path / "killed", moments.randint(2 * kill, 2 * kill + 1), process)
        time.sleep(moments.uniform(0.0, 0.2))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    last = started(context, runs.train, str(tmp_path / "killed"), store, settings)
    last.join()
    assert last.exitcode == 0
    assert same(finished(tmp_path / "whole"), finished(tmp_path / "killed"))


def test_two_ranks_equal_one(context, store, tmp_path):
    """Four examples a step on one rank, two on each of two; the halves differ in tokens."""
    settings = {"max_steps": 3, "save_strategy": "no", "optim": "sgd", "learning_rate": 0.05, "max_grad_norm": 0.0,
                "report_to": "none"}  # fmt: skip
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one = started(context, runs.train, str(tmp_path / "one"), store, settings | {"per_device_train_batch_size": 4})
    one.join()
    port, halves = runs.free_port(), settings | {"per_device_train_batch_size": 2}
    two = [started(context, runs.rank, r, 2, port, str(tmp_path / "two"), store, halves) for r in range(2)]
    for process in two:
        process.join()
    assert [process.exitcode for process in (one, *two)] == [0, 0, 0]
    first, second = finished(tmp_path / "one"), finished(tmp_path / "two")
    start = runs.tiny.llama()[0].state_dict()
    assert max(float((first[name] - start[name]).abs().max()) for name in first) > 1e-3
    for name in first:
        assert torch.allclose(first[name], second[name], rtol=0, atol=1e-5), name
