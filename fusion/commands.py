"""The steps of a fusion as commands: the settings that each one takes, and what it does."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from fusion._extras import require
from fusion.tasks import read_data, read_problems
from fusion.training.config import FusionConfig, known, read_config, read_settings

EXAMPLES = Path(__file__).parent / "examples"
_Settings = TypeVar("_Settings")


def _setting(help: str, **default: Any) -> Any:
    return field(metadata={"help": help}, **default)


@dataclass(frozen=True)
class CaptureSettings:
    """Ask a teacher once, and store the top of its logits at every completion token."""

    teacher: str = _setting(
        "folder of the teacher, a Hugging Face causal language model"
    )
    data: str = _setting(
        "JSONL with prompt and completion or messages, or reasoning-gym:TASK+TASK:SIZE:SEED"
    )
    store: str = _setting("folder to fill; an interrupted capture goes on there")
    k: int = _setting("logits a token", default=10)
    batch_size: int = _setting("examples a forward pass", default=8)
    shard_size: int = _setting("examples a file", default=256)
    max_length: int | None = _setting(
        "tokens beyond it are cut from the completion", default=None
    )
    dtype: str = _setting(
        "what the teacher computes in: float32, bfloat16 or float16", default="float32"
    )
    device: str = _setting("cpu, cuda, … or auto", default="auto")


@dataclass(frozen=True)
class ReportSettings:
    """Compare teachers by domain: likelihood, agreement and conflict, as tables and a heatmap."""

    stores: dict[str, str] = _setting("stores by name: stores.NAME=FOLDER")  # noqa: RUF009
    data: str = _setting("the examples, whose `domain` says where they are counted")
    out: str | None = _setting(
        "folder for report.md, report.json and report.png", default=None
    )


@dataclass(frozen=True)
class EvaluateSettings:
    """Let a model answer greedily, and score exact matches beside what guessing gives."""

    model: str = _setting("folder of the model")
    data: str = _setting(
        "JSONL with prompt and answer, or reasoning-gym:TASK+TASK:SIZE:SEED"
    )
    out: str | None = _setting("folder for scores.json and texts.jsonl", default=None)
    max_new_tokens: int = _setting("where an answer is cut off", default=64)
    batch_size: int = _setting("problems a batch", default=8)
    dtype: str = _setting("what the model computes in", default="float32")
    device: str = _setting("cpu, cuda, … or auto", default="auto")


def settings_of(kind: type[_Settings], arguments: Sequence[str]) -> _Settings:
    """Read a command's settings from YAML files and ``key=value``.

    Raises
    ------
    ValueError
        If a key is unknown or a necessary one is missing.
    """
    settings = read_settings(arguments)
    entries: list[Field[Any]] = list(fields(kind))  # type: ignore[arg-type]
    known(settings, [entry.name for entry in entries])
    missing = [
        entry.name
        for entry in entries
        if necessary(entry) and settings.get(entry.name) is None
    ]
    if missing:
        raise ValueError(f"{missing[0]} must be given, but is not: add {missing[0]}=….")
    return kind(**settings)


def necessary(entry: Field[Any]) -> bool:
    """Tell whether a setting has no default."""
    return entry.default is MISSING and entry.default_factory is MISSING


def capture(arguments: Sequence[str]) -> None:
    """Run ``fusion capture``; several processes of one launcher share the work."""
    from fusion.models import load_model, load_tokenizer
    from fusion.teachers.capture import capture as run
    from fusion.teachers.store import TeacherStore

    settings = settings_of(CaptureSettings, arguments)
    examples, start = read_data(settings.data), time.perf_counter()
    model: Any = load_model(settings.teacher, settings.dtype)
    rank, world = (
        int(os.environ.get("RANK", "0")),
        int(os.environ.get("WORLD_SIZE", "1")),
    )
    run(
        model.to(_device(settings.device)),
        load_tokenizer(settings.teacher),
        examples,
        settings.store,
        k=settings.k,
        batch_size=settings.batch_size,
        shard_size=settings.shard_size,
        max_length=settings.max_length,
        rank=rank,
        world=world,
        progress=sys.stderr.isatty(),
    )
    if world > 1:
        print(f"Rank {rank} of {world} has captured its part.")
        return
    store = TeacherStore(settings.store)
    size = sum(file.stat().st_size for file in Path(settings.store).iterdir())
    contents = f"{len(store)} examples, {store.tokens} tokens, {size / store.tokens:.1f} bytes a token"
    print(f"{settings.store}: {contents}; {spent(start)}.")


def report(arguments: Sequence[str]) -> None:
    """Run ``fusion report``."""
    from fusion.teachers.report import heatmap
    from fusion.teachers.report import report as run
    from fusion.teachers.store import TeacherStore

    settings = settings_of(ReportSettings, arguments)
    if settings.out is not None:
        require("fusion report with out=", "matplotlib")
    found = run(
        {name: TeacherStore(path) for name, path in settings.stores.items()},
        read_data(settings.data),
    )
    print(found)
    if settings.out is not None:
        out = _folder(settings.out)
        (out / "report.md").write_text(f"{found}\n", encoding="utf-8")
        (out / "report.json").write_text(
            json.dumps(asdict(found), indent=2) + "\n", encoding="utf-8"
        )
        heatmap(found, out / "report.png")


def train(arguments: Sequence[str]) -> None:
    """Run ``fusion train``: the student, trained, lies in ``output_dir`` at the end."""
    from fusion.training.checkpoints import newest_checkpoint
    from fusion.training.trainer import FusionTrainer

    config = read_config(
        arguments, output_dir="fused", save_strategy="no", logging_steps=10
    )
    if config.data is None:
        raise ValueError("data must be given, but is not: add data=….")
    if config.resume_from_checkpoint is None and newest_checkpoint(
        str(config.output_dir)
    ):
        raise ValueError(
            f"output_dir must be without checkpoints where training starts anew, but {config.output_dir} has some: "
            "choose another, or add resume_from_checkpoint=auto."
        )
    start = time.perf_counter()
    held_out = None if config.eval_data is None else read_data(config.eval_data)
    trainer = FusionTrainer(
        args=config, train_dataset=read_data(config.data), eval_dataset=held_out
    )
    before = {} if held_out is None else trainer.evaluate()
    trainer.train(resume_from_checkpoint=config.resume_from_checkpoint)
    if before:
        trainer.state.log_history.insert(0, before | {"step": 0})
    after = {} if held_out is None else trainer.evaluate()
    trainer.save_student()
    if trainer.is_world_process_zero():
        changed = [
            f"{n} {before[n]:.4g} -> {after[n]:.4g}"
            for n in after
            if n.split("/")[0] in _SHOWN and n in before
        ]
        print(
            "\n".join(
                [
                    *changed,
                    f"{config.output_dir}: {trainer.state.global_step} steps; {spent(start)}.",
                ]
            )
        )


_SHOWN = ("eval_loss", "eval_sft", "eval_uld", "eval_graph", "eval_coverage")


def evaluate(arguments: Sequence[str]) -> None:
    """Run ``fusion evaluate``."""
    from fusion import evaluate as room
    from fusion.models import load_model, load_tokenizer

    settings = settings_of(EvaluateSettings, arguments)
    problems, start = read_problems(settings.data), time.perf_counter()
    model: Any = load_model(settings.model, settings.dtype)
    model = model.to(_device(settings.device))
    texts = room.generate(
        model,
        load_tokenizer(settings.model),
        problems,
        settings.max_new_tokens,
        settings.batch_size,
    )
    scores = room.score(problems, texts)
    print(room.table(scores), f"{spent(start)}.", sep="\n\n")
    if settings.out is not None:
        out = _folder(settings.out)
        rows = [
            {"task": p.task, "answer": p.answer, "text": t}
            for p, t in zip(problems, texts, strict=True)
        ]
        (out / "scores.json").write_text(
            json.dumps([s.as_dict() for s in scores], indent=2) + "\n", encoding="utf-8"
        )
        (out / "texts.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
        )


def trained_settings() -> list[Field[Any]]:
    """Settings of ``fusion train`` that the Trainer of transformers does not have."""
    inherited = {
        entry.name for base in FusionConfig.__mro__[1:2] for entry in fields(base)
    }
    return [entry for entry in fields(FusionConfig) if entry.name not in inherited]


def spent(start: float) -> str:
    """Say how long it took since ``start`` and the most memory that was resident."""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
    return f"{time.perf_counter() - start:.0f} s, peak memory {peak:.1f} GiB"


def _device(name: str) -> str:
    import torch

    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def _folder(path: str) -> Path:
    out = Path(path)
    out.mkdir(parents=True, exist_ok=True)
    return out
