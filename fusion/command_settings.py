"""The settings of the commands of ``fusion``, each with what its help says of it."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import Field, dataclass, fields
from typing import Any, TypeVar

from fusion.text.rows import ON_BAD_ROWS, TURNS
from fusion.training.config import FusionConfig
from fusion.training.setting_types import (
    check_settings,
    from_words,
    necessary,
    setting,
)
from fusion.training.settings import read_settings, require_known

_Settings = TypeVar("_Settings")
# What the weights of models may be converted to; "auto" keeps what they are saved as.
_DTYPES = ("float32", "bfloat16", "float16", "auto")
# Defaults of `train` that the Trainer of transformers does not have. A tenth of the
# steps is what an interruption can cost, at two checkpoints on the disk.
TRAIN_DEFAULTS = {
    "output_dir": "fused",
    "save_strategy": "steps",
    "save_steps": 0.1,
    "save_total_limit": 2,
    "logging_steps": 10,
}
# Settings of the Trainer that most runs give, and what they mean.
TRAINER_SETTINGS = {
    "output_dir": "folder for the student, and for checkpoints on the way",
    "max_steps": "length of the training in steps; -1: num_train_epochs says it",
    "num_train_epochs": "length of the training in passes through data",
    "per_device_train_batch_size": "examples a forward pass, on each process",
    "gradient_accumulation_steps": "forward passes a step",
    "learning_rate": "the largest of the schedule",
    "lr_scheduler_type": "schedule of the learning rate",
    "bf16": "computes in bfloat16 where it can, with weights in float32",
    "gradient_checkpointing": "less memory, more time",
    "eval_strategy": "when eval_data is looked at on the way",
    "save_strategy": "when checkpoints are written",
    "save_steps": "steps between checkpoints; below 1, as a share of all",
    "resume_from_checkpoint": "auto goes on after an interruption",
    "seed": "of the order of examples, and of new adapters",
    "use_cpu": "leaves a GPU alone",
    "logging_steps": "steps between two lines of the log",
}


@dataclass(frozen=True)
class CaptureSettings:
    """Ask a teacher once, and store the top of its logits at every completion token."""

    teacher: str = setting(
        "folder of the teacher, a Hugging Face causal language model"
    )
    data: str = setting(
        "JSONL with prompt and completion or messages, "
        "or reasoning-gym:TASK+TASK:SIZE:SEED"
    )
    store: str = setting("folder to fill; an interrupted capture goes on there")
    turns: str = setting(
        "which answers of a conversation are asked about", choices=TURNS, default="last"
    )
    on_bad_rows: str = setting(
        "what happens to rows that cannot be used", choices=ON_BAD_ROWS, default="error"
    )
    k: int = setting("logits a token", least=1, default=10)
    batch_size: int = setting("examples a forward pass", least=1, default=8)
    shard_size: int = setting("examples a file", least=1, default=256)
    max_length: int | None = setting(
        "tokens beyond it, or the context, are cut from the completion",
        least=1,
        default=None,
    )
    template: str | None = setting(
        "Jinja file to use as chat template, as base models need", default=None
    )
    dtype: str = setting(
        "what the teacher computes in; auto: as it is saved",
        choices=_DTYPES,
        default="float32",
    )
    device: str = setting("cpu, cuda, … or auto", default="auto")
    device_map: str | dict[str, str | int] | None = setting(
        "spreads a large model over devices, in place of device: auto, or a mapping",
        default=None,
    )


@dataclass(frozen=True)
class ImportSettings:
    """Store the log-probabilities that a server returned for completions."""

    source: str = setting("JSONL with prompt or messages, and response or logprobs")
    store: str = setting("folder to fill")
    k: int = setting(
        "log-probabilities a token; ask the server for more", least=1, default=10
    )
    model: str = setting("name of the teacher, for the store", default="")
    vocabulary: int = setting(
        "length of its vocabulary; 0: unknown", least=0, default=0
    )
    on_bad_rows: str = setting(
        "error: refuse all rows where some cannot be stored; drop: leave these out",
        choices=ON_BAD_ROWS,
        default="error",
    )
    shard_size: int = setting("examples a file", least=1, default=256)
    data: str | None = setting(
        "JSONL to write: what is stored, as data to train on", default=None
    )


@dataclass(frozen=True)
class ReportSettings:
    """Compare teachers by domain (likelihood, agreement, conflict), with a heatmap."""

    stores: dict[str, str] = setting("stores by name: stores.NAME=FOLDER")
    data: str = setting("the examples, whose `domain` says where they are counted")
    student: str | None = setting(
        "which of the stores is the student's own: teachers that know a domain no "
        "better are not chosen there",
        default=None,
    )
    turns: str = setting(
        "which answers of a conversation were asked about",
        choices=TURNS,
        default="last",
    )
    on_bad_rows: str = setting(
        "what happens to rows that cannot be used", choices=ON_BAD_ROWS, default="error"
    )
    out: str | None = setting(
        "folder for report.md, report.json and report.png", default=None
    )


@dataclass(frozen=True)
class EvaluateSettings:
    """Let a model answer greedily; score exact matches beside what guessing gives."""

    model: str = setting("folder of the model")
    data: str = setting(
        "JSONL with prompt and answer, or reasoning-gym:TASK+TASK:SIZE:SEED"
    )
    out: str | None = setting("folder for scores.json and texts.jsonl", default=None)
    max_new_tokens: int = setting(
        "tokens where an answer is cut off", least=1, default=64
    )
    batch_size: int = setting("problems a batch", least=1, default=8)
    dtype: str = setting(
        "what the model computes in; auto: as it is saved",
        choices=_DTYPES,
        default="float32",
    )
    device: str = setting("cpu, cuda, … or auto", default="auto")
    device_map: str | dict[str, str | int] | None = setting(
        "spreads a large model over devices, in place of device: auto, or a mapping",
        default=None,
    )


@dataclass(frozen=True)
class GenerateSettings:
    """Let a teacher answer prompts greedily; write its answers as data to train on."""

    teacher: str = setting("folder of the teacher")
    data: str = setting(
        "JSONL with prompt or messages, or reasoning-gym:TASK+TASK:SIZE:SEED"
    )
    out: str = setting("JSONL to write; an interrupted run goes on")
    keep: str = setting(
        "ended: all answers that the teacher ended itself; solved: those among them "
        "that state the row's `answer`",
        choices=("ended", "solved"),
        default="ended",
    )
    max_new_tokens: int = setting(
        "tokens where an answer is cut off, and left out", least=1, default=256
    )
    batch_size: int = setting("prompts a batch", least=1, default=8)
    template: str | None = setting(
        "Jinja file to use as chat template, as base models need", default=None
    )
    dtype: str = setting(
        "what the teacher computes in; auto: as it is saved",
        choices=_DTYPES,
        default="float32",
    )
    device: str = setting("cpu, cuda, … or auto", default="auto")
    device_map: str | dict[str, str | int] | None = setting(
        "spreads a large model over devices, in place of device: auto, or a mapping",
        default=None,
    )


def settings_of(kind: type[_Settings], arguments: Sequence[str]) -> _Settings:
    """Read a command's settings from YAML files and ``key=value``.

    Parameters
    ----------
    kind : type
        The command's data class of settings.
    arguments : sequence of str
        See `fusion.training.settings.read_settings`.

    Raises
    ------
    ValueError
        If a key is unknown, a necessary one is missing, or a value is not as its
        setting says.
    """
    settings = read_settings(arguments)
    entries = settings_in(kind)
    # Unknown keys first: a necessary one may be missing because it is misspelt.
    names = [entry.name for entry in entries]
    require_known(settings, names)
    settings = from_words(kind, settings)
    for entry in entries:
        if necessary(entry):
            require_given(entry.name, settings.get(entry.name))
    check_settings(kind, settings)
    return kind(**settings)


def settings_in(kind: Any) -> list[Field[Any]]:
    """Return the settings of a command's data class."""
    return list(fields(kind))


def train_settings() -> list[Field[Any]]:
    """Settings of ``fusion train`` that the Trainer of transformers does not have."""
    parent = FusionConfig.__mro__[1]  # TrainingArguments
    inherited = {entry.name for entry in settings_in(parent)}
    own = []
    for entry in settings_in(FusionConfig):
        if entry.name not in inherited:
            own.append(entry)
    return own


def trainer_settings() -> list[Field[Any]]:
    """Return the settings of the Trainer that most runs give.

    They have the meaning and the defaults that they have in ``fusion train``.
    """
    inherited = {entry.name: entry for entry in settings_in(FusionConfig)}
    found = []
    for name, text in TRAINER_SETTINGS.items():
        # A copy: the class's own field stays as it is.
        entry: Any = copy(inherited[name])
        entry.metadata = {"help": text}
        entry.default = TRAIN_DEFAULTS.get(name, entry.default)
        found.append(entry)
    return found


def require_given(name: str, value: Any) -> None:
    """Require a necessary setting.

    Raises
    ------
    ValueError
        If it is None.
    """
    if value is None:
        raise ValueError(f"{name} must be given, but is not: add {name}=….")
