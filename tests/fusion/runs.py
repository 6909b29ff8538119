"""Training runs in processes of their own, which may be killed or be several."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import TrainerCallback, TrainerState, modeling_utils

from fusion.training.config import FusionConfig
from fusion.training.interruption import TrainingInterrupted
from fusion.training.trainer import FusionTrainer
from tests.fusion import tiny

EXAMPLES = tiny.sums(12)
FILES = (
    "model.safetensors",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "trainer_state.json",
)
# In their order within a step: a file's moment is when half of it is written.
MOMENTS = ("forward", "backward", "optimizer", "end", *FILES, "deletion", "saved")


def train(
    folder: str,
    store: str,
    settings: dict,
    kill: tuple[int, str] | None = None,
    callback: TrainerCallback | None = None,
) -> FusionTrainer:
    """Train the tiny Llama on what the store holds, and keep its weights.

    They lie beside the checkpoints when it is done.

    ``kill`` is a step and one of its ``MOMENTS``, at which the process ends instead.
    """
    model, tokenizer = tiny.llama()
    defaults = {
        "output_dir": folder,
        "stores": {"gpt2": store},
        "standardize": "center",
        "graph": "row_means",
        "fusion_weight": 0.5,
        "graph_weight": 0.1,
    }
    quiet = {"use_cpu": True, "disable_tqdm": True, "logging_steps": 1}
    config = FusionConfig(**defaults | quiet | settings)
    trainer = FusionTrainer(model, config, EXAMPLES, processing_class=tokenizer)
    if kill is not None:
        kill_at(trainer, *kill)
    if callback is not None:
        trainer.add_callback(callback)
    trainer.train(resume_from_checkpoint="auto")
    if trainer.is_world_process_zero():
        torch.save(
            trainer.accelerator.unwrap_model(trainer.model).state_dict(),
            os.path.join(folder, "done.pt"),
        )
    return trainer


def kill_at(trainer: FusionTrainer, step: int, moment: str) -> None:
    """Have this process kill itself at a moment of a step, however fast it is."""

    def reached(name: str, steps: int = step - 1) -> bool:
        return name == moment and trainer.state.global_step == steps

    def kill_if(here: bool) -> None:
        if here:
            os.kill(os.getpid(), signal.SIGKILL)

    class Phases(TrainerCallback):
        def on_optimizer_step(self, *_, **__):
            kill_if(reached("optimizer"))

        def on_step_end(self, *_, **__):
            kill_if(reached("end", step))

        def on_save(self, *_, **__):
            kill_if(reached("saved", step))

    trainer.add_callback(Phases())
    trainer.model.register_forward_hook(lambda *_: kill_if(reached("forward")))
    next(trainer.model.parameters()).register_hook(
        lambda _: kill_if(reached("backward"))
    )

    def torn(write):
        def half(content, path, *args, **kwargs):
            write(content, path, *args, **kwargs)
            if Path(path).parts[-2:] == (f"checkpoint-{step}", moment):
                os.truncate(path, os.path.getsize(path) // 2)
                kill_if(True)

        return half

    for owner, name in (
        (modeling_utils, "safe_save_file"),
        (torch, "save"),
        (TrainerState, "save_to_json"),
    ):
        setattr(owner, name, torn(getattr(owner, name)))

    rmtree = shutil.rmtree

    def cut_off(path, *args, **kwargs):
        if reached("deletion", step):
            # What tells that a checkpoint is whole may be the last of its files to go.
            for file in set(Path(path).iterdir()) - {Path(path, "trainer_state.json")}:
                file.unlink()
            kill_if(True)
        rmtree(path, *args, **kwargs)

    shutil.rmtree = cut_off


@contextmanager
def joined(place: int, world: int, folder: str) -> Iterator[None]:
    """Make this process one rank of several on this machine.

    The ranks meet in a file: a port that is free may be taken a moment later.
    """
    told = {
        "RANK": place,
        "LOCAL_RANK": place,
        "WORLD_SIZE": world,
        "LOCAL_WORLD_SIZE": world,
    }
    os.environ.update(
        {name: str(value) for name, value in told.items()}, ACCELERATE_USE_CPU="true"
    )
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=place, world_size=world
    )
    yield
    torch.distributed.destroy_process_group()


class Signals(TrainerCallback):
    """Sends this process signals as the forward pass of a step is about to begin."""

    def __init__(self, step: int, *numbers: int, rank: int = 0):
        self.step, self.numbers, self.rank = step, numbers, rank

    def on_step_begin(self, args, state, control, **_):
        if state.global_step == self.step - 1 and args.process_index == self.rank:
            for number in self.numbers:
                signal.raise_signal(number)


def interrupted(folder: str, store: str, settings: dict, signals: Signals) -> None:
    """Train until the signals, and keep what is said of it."""
    try:
        train(folder, store, settings, callback=signals)
    except TrainingInterrupted as interruption:
        rank = os.environ.get("RANK", "0")
        Path(folder, f"said-{rank}").write_text(str(interruption))


def interrupted_rank(
    place: int, world: int, folder: str, store: str, settings: dict, signals: Signals
) -> None:
    """Train until the signals, as one rank of several on this machine."""
    with joined(place, world, folder):
        interrupted(folder, store, settings | {"ddp_backend": "gloo"}, signals)
