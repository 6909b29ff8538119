"""Training runs in processes of their own, which may be killed or be several."""

from __future__ import annotations

import os
import socket

import torch

from fusion.config import FusionConfig
from fusion.trainer import FusionTrainer
from tests.fusion import tiny

EXAMPLES = tiny.sums(12)


def train(folder: str, store: str, settings: dict) -> FusionTrainer:
    """Train the tiny Llama on what the store holds, and keep its weights beside the checkpoints when it is done."""
    model, tokenizer = tiny.llama()
    defaults = {"output_dir": folder, "stores": {"gpt2": store}, "standardize": "center", "graph_weight": 0.1}
    quiet = {"use_cpu": True, "disable_tqdm": True, "logging_steps": 1}
    config = FusionConfig(**defaults | quiet | settings)
    trainer = FusionTrainer(model, config, EXAMPLES, processing_class=tokenizer)
    trainer.train(resume_from_checkpoint="auto")
    if trainer.is_world_process_zero():
        torch.save(trainer.accelerator.unwrap_model(trainer.model).state_dict(), os.path.join(folder, "done.pt"))
    return trainer


def rank(place: int, world: int, port: int, folder: str, store: str, settings: dict) -> None:
    """Train as one rank of several on this machine."""
    told = {"RANK": place, "LOCAL_RANK": place, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    os.environ.update({name: str(value) for name, value in told.items()})
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), ACCELERATE_USE_CPU="true")
    torch.set_num_threads(1)
    train(folder, store, settings | {"ddp_backend": "gloo"})
    torch.distributed.destroy_process_group()


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
