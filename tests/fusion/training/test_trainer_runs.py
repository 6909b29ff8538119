"""Whole runs end with the same weights when killed and resumed, or on two ranks."""

import json
import os
import random
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from fusion.__main__ import main
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


def test_a_run_that_has_ended_takes_no_further_step(store, tmp_path):
    """Also in the middle of an epoch, as when it was killed before it said so."""
    settings = {
        "max_steps": 2,
        "save_strategy": "steps",
        "save_steps": 1,
        "lr_scheduler_type": "constant",
        "per_device_train_batch_size": 2,
    }
    runs.train(str(tmp_path), store, settings)
    weights = finished(tmp_path)
    again = runs.train(str(tmp_path), store, settings)
    assert again.state.global_step == 2
    assert same(finished(tmp_path), weights)


def test_accelerate_launches_the_command_on_two_ranks(store, tmp_path, llama):
    """Eleven examples, two for each of two ranks or four: the last batch has three.

    The command also evaluates before and after training.
    """
    for part in llama:
        part.save_pretrained(tmp_path / "student")
    for name, examples in (("train", runs.EXAMPLES[:11]), ("held_out", runs.EXAMPLES)):
        rows = [{"prompt": e.prompt, "completion": e.completion} for e in examples]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(text)
    words = [
        "train",
        f"student={tmp_path / 'student'}",
        f"stores.a={store}",
        f"data={tmp_path / 'train.jsonl'}",
        f"eval_data={tmp_path / 'held_out.jsonl'}",
        "use_cpu=true",
        "max_steps=5",
        "optim=sgd",
        "learning_rate=0.01",
        "graph=row_means",
        "graph_weight=0.01",
        "report_to=none",
        "save_strategy='no'",
    ]
    one, two = tmp_path / "one", tmp_path / "two"
    assert main([*words, f"output_dir={one}", "per_device_train_batch_size=4"]) == 0
    launcher = [
        "accelerate.commands.launch",
        "--multi_gpu",
        "--num_processes=2",
        "--num_machines=1",
        "--mixed_precision=no",
        "--dynamo_backend=no",
        "--main_process_port=0",  # any that is free
    ]
    ours = [f"output_dir={two}", "per_device_train_batch_size=2", "ddp_backend=gloo"]
    subprocess.run(
        [sys.executable, "-m", *launcher, "-m", "fusion", *words, *ours],
        check=True,
        capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    first, second = (load_file(out / "model.safetensors") for out in (one, two))
    start = llama[0].state_dict()
    assert max(float((first[name] - start[name]).abs().max()) for name in first) > 1e-3
    for name in first:
        assert torch.allclose(first[name], second[name], rtol=0, atol=1e-5), name
