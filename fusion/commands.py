"""The commands of ``fusion``: settings of each, and the functions that run them."""

from __future__ import annotations

import json
import math
import os
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, cast

from fusion._extras import require
from fusion.tasks import Problem, read_data, read_problems
from fusion.text.messages import Example
from fusion.text.rows import OnBadRows, Turns
from fusion.training.config import (
    FusionConfig,
    read_config,
    read_settings,
    require_known,
)

EXAMPLES = Path(__file__).parent / "examples"
# What `train` prints of evaluations before and after: means over all teachers, and the
# coverage of each.
_SHOWN = ("eval_loss", "eval_sft", "eval_uld", "eval_graph", "eval_coverage")
Metrics = dict[str, float]
_Settings = TypeVar("_Settings")


def _setting(help: str, **default: Any) -> Any:
    """A setting with its line in the help of its command."""
    return field(metadata={"help": help}, **default)


@dataclass(frozen=True)
class CaptureSettings:
    """Ask a teacher once, and store the top of its logits at every completion token."""

    teacher: str = _setting(
        "folder of the teacher, a Hugging Face causal language model"
    )
    data: str = _setting(
        "JSONL with prompt and completion or messages, "
        "or reasoning-gym:TASK+TASK:SIZE:SEED"
    )
    store: str = _setting("folder to fill; an interrupted capture goes on there")
    turns: str = _setting(
        "which answers of a conversation are asked about: last or all", default="last"
    )
    on_bad_rows: str = _setting(
        "what happens to rows that cannot be used: error or drop", default="error"
    )
    k: int = _setting("logits a token", default=10)
    batch_size: int = _setting("examples a forward pass", default=8)
    shard_size: int = _setting("examples a file", default=256)
    max_length: int | None = _setting(
        "tokens beyond it, or the context, are cut from the completion", default=None
    )
    template: str | None = _setting(
        "Jinja file to use as chat template, as base models need", default=None
    )
    dtype: str = _setting(
        "what the teacher computes in: float32, bfloat16 or float16", default="float32"
    )
    device: str = _setting("cpu, cuda, … or auto", default="auto")


@dataclass(frozen=True)
class ImportSettings:
    """Store the log-probabilities that a server returned for completions."""

    source: str = _setting("JSONL with prompt or messages, and response or logprobs")
    store: str = _setting("folder to fill")
    k: int = _setting("log-probabilities a token; ask the server for more", default=10)
    model: str = _setting("name of the teacher, for the store", default="")
    vocabulary: int = _setting("length of its vocabulary; 0: unknown", default=0)
    on_bad_rows: str = _setting(
        "error: refuse all rows where some cannot be stored; drop: leave these out",
        default="error",
    )
    shard_size: int = _setting("examples a file", default=256)
    data: str | None = _setting(
        "JSONL to write: what is stored, as data to train on", default=None
    )


@dataclass(frozen=True)
class ReportSettings:
    """Compare teachers by domain (likelihood, agreement, conflict), with a heatmap."""

    stores: dict[str, str] = _setting(  # noqa: RUF009
        "stores by name: stores.NAME=FOLDER"
    )
    data: str = _setting("the examples, whose `domain` says where they are counted")
    turns: str = _setting(
        "which answers of a conversation were asked about: last or all", default="last"
    )
    on_bad_rows: str = _setting(
        "what happens to rows that cannot be used: error or drop", default="error"
    )
    out: str | None = _setting(
        "folder for report.md, report.json and report.png", default=None
    )


@dataclass(frozen=True)
class EvaluateSettings:
    """Let a model answer greedily; score exact matches beside what guessing gives."""

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

    Parameters
    ----------
    kind : type
        The command's data class of settings.
    arguments : sequence of str
        See `fusion.training.config.read_settings`.

    Raises
    ------
    ValueError
        If a key is unknown or a necessary one is missing.
    """
    settings = read_settings(arguments)
    entries: list[Field[Any]] = list(fields(kind))  # type: ignore[arg-type]
    # Unknown keys first: a necessary one may be missing because it is misspelt.
    names = [entry.name for entry in entries]
    require_known(settings, names)
    for entry in entries:
        name = entry.name
        if necessary(entry) and settings.get(name) is None:
            raise ValueError(f"{name} must be given, but is not: add {name}=….")
    return kind(**settings)


def necessary(entry: Field[Any]) -> bool:
    """Tell whether a setting has no default."""
    return entry.default is MISSING and entry.default_factory is MISSING


def capture(arguments: Sequence[str]) -> None:
    """Run ``fusion capture``; several processes of one launcher share the work."""
    # Imported here, as below, what the command runs: its help needs the settings alone.
    from fusion.models import load_model, load_tokenizer
    from fusion.teachers.capture import capture as run
    from fusion.teachers.store import TeacherStore

    settings = settings_of(CaptureSettings, arguments)
    # Data before the model, which may take minutes to load: a bad line is told first.
    examples = _examples(settings.data, settings)
    start = time.perf_counter()
    model: Any = load_model(settings.teacher, settings.dtype)
    device = _device(settings.device)
    # As torchrun and accelerate tell their processes.
    rank = int(os.environ.get("RANK", "0"))
    world = int(os.environ.get("WORLD_SIZE", "1"))
    run(
        model.to(device),
        load_tokenizer(settings.teacher, settings.template),
        examples,
        settings.store,
        k=settings.k,
        batch_size=settings.batch_size,
        shard_size=settings.shard_size,
        max_length=settings.max_length,
        on_bad_rows=cast(OnBadRows, settings.on_bad_rows),
        rank=rank,
        world=world,
        progress=sys.stderr.isatty(),
    )
    # The store of several processes is whole once the last of them has ended.
    if world > 1:
        print(f"Rank {rank} of {world} has captured its part.")
        return
    store = TeacherStore(settings.store)
    size = 0  # in bytes
    for file in Path(settings.store).iterdir():
        size += file.stat().st_size
    contents = (
        f"{len(store)} examples, {store.tokens} tokens, "
        f"{size / store.tokens:.1f} bytes a token"
    )
    print(f"{settings.store}: {contents}; {spent(start)}.")


def _examples(
    source: str,
    settings: CaptureSettings | ReportSettings | FusionConfig,
) -> list[Example]:
    """Examples of a file or of reasoning-gym, as the settings of a command say."""
    return read_data(
        source,
        cast(Turns, settings.turns),
        on_bad_rows=cast(OnBadRows, settings.on_bad_rows),
    )


def import_(arguments: Sequence[str]) -> None:
    """Run ``fusion import``; what is left out is listed."""
    from fusion.teachers.server_logs import import_logprobs

    settings = settings_of(ImportSettings, arguments)
    choices = asdict(settings)
    source = choices.pop("source")
    store = choices.pop("store")
    start = time.perf_counter()
    found = import_logprobs(source, store, **choices)
    left_out = [str(row) for row in found.left_out]
    contents = (
        f"{found.examples} examples, {found.tokens} tokens, "
        f"{found.repeated} rows repeated, {len(left_out)} left out"
    )
    print(*left_out, f"{store}: {contents}; {spent(start)}.", sep="\n")


def report(arguments: Sequence[str]) -> None:
    """Run ``fusion report``."""
    from fusion.teachers.report import heatmap
    from fusion.teachers.report import report as run
    from fusion.teachers.store import TeacherStore

    settings = settings_of(ReportSettings, arguments)
    # Before the report, which may take minutes.
    if settings.out is not None:
        require("fusion report with out=", "matplotlib")
    stores = {}
    for name, path in settings.stores.items():
        stores[name] = TeacherStore(path)
    examples = _examples(settings.data, settings)
    found = run(stores, examples)
    print(found)
    if settings.out is not None:
        out = _folder(settings.out)
        _write(out / "report.md", f"{found}\n")
        _write_json(out / "report.json", asdict(found))
        heatmap(found, out / "report.png")


def train(arguments: Sequence[str]) -> None:
    """Run ``fusion train``: the student, trained, lies in ``output_dir`` at the end."""
    from fusion.training.trainer import FusionTrainer

    # The student is saved at the end; checkpoints on the way are made on request.
    config = read_config(
        arguments,
        output_dir="fused",
        save_strategy="no",
        logging_steps=10,
    )
    if config.data is None:
        raise ValueError("data must be given, but is not: add data=….")
    _check_output(config)

    start = time.perf_counter()
    held_out = None
    if config.eval_data is not None:
        held_out = _examples(config.eval_data, config)
    trainer = FusionTrainer(
        args=config,
        train_dataset=_examples(config.data, config),
        eval_dataset=held_out,
    )
    # Metrics of the held-out data; none without such data.
    before: Metrics = {}
    after: Metrics = {}
    if held_out is not None:
        before = trainer.evaluate()
    trainer.train(resume_from_checkpoint=config.resume_from_checkpoint)
    if before:
        # Training begins a new history, which lacks what was evaluated before it.
        trainer.state.log_history.insert(0, before | {"step": 0})
    if held_out is not None:
        after = trainer.evaluate()
    trainer.save_student()

    # Evaluations are means over all ranks: one of them prints.
    if trainer.is_world_process_zero():
        steps = trainer.state.global_step
        lines = _changes(before, after)
        lines.append(f"{config.output_dir}: {steps} steps; {spent(start)}.")
        print("\n".join(lines))


def _check_output(config: FusionConfig) -> None:
    """Require a folder without checkpoints where training starts anew."""
    from fusion.training.checkpoints import newest_checkpoint

    if config.resume_from_checkpoint is not None:
        return
    if newest_checkpoint(str(config.output_dir)):
        raise ValueError(
            "output_dir must be without checkpoints where training starts anew, "
            f"but {config.output_dir} has some: "
            "choose another, or add resume_from_checkpoint=auto."
        )


def _changes(before: Metrics, after: Metrics) -> list[str]:
    """Lines on the metrics of the held-out data, before and after training."""
    lines = []
    for name, value in after.items():
        kind, _, _ = name.partition("/")  # without the teacher's name
        if kind in _SHOWN and name in before:
            lines.append(f"{name} {before[name]:.4g} -> {value:.4g}")
    return lines


def evaluate(arguments: Sequence[str]) -> None:
    """Run ``fusion evaluate``."""
    from fusion.evaluate import generate, score, table
    from fusion.models import load_model, load_tokenizer

    settings = settings_of(EvaluateSettings, arguments)
    # Before the model, as in `capture`.
    problems = read_problems(settings.data)
    start = time.perf_counter()
    model: Any = load_model(settings.model, settings.dtype)
    device = _device(settings.device)
    texts = generate(
        model.to(device),
        load_tokenizer(settings.model),
        problems,
        settings.max_new_tokens,
        settings.batch_size,
    )
    scores = score(problems, texts)
    print(table(scores), f"{spent(start)}.", sep="\n\n")
    if settings.out is not None:
        out = _folder(settings.out)
        rows = [of_task.as_dict() for of_task in scores]
        _write_json(out / "scores.json", rows)
        # Whole texts show why an answer was not found.
        _write(out / "texts.jsonl", _lines(problems, texts))


def _lines(problems: Sequence[Problem], texts: Sequence[str]) -> str:
    """The problems and what was answered, as JSONL."""
    lines = []
    for problem, text in zip(problems, texts, strict=True):
        row = {
            "task": problem.task,
            "answer": problem.answer,
            "text": text,
        }
        lines.append(json.dumps(row) + "\n")
    return "".join(lines)


def train_settings() -> list[Field[Any]]:
    """Settings of ``fusion train`` that the Trainer of transformers does not have."""
    parent = FusionConfig.__mro__[1]  # TrainingArguments
    inherited = {entry.name for entry in fields(parent)}
    own = []
    for entry in fields(FusionConfig):
        if entry.name not in inherited:
            own.append(entry)
    return own


def spent(start: float) -> str:
    """Say how long it took since ``start`` and the most memory that was resident."""
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    usage = resource.getrusage(resource.RUSAGE_SELF)
    peak = usage.ru_maxrss * unit / 2**30
    seconds = time.perf_counter() - start
    return f"{seconds:.0f} s, peak memory {peak:.1f} GiB"


def _device(name: str) -> str:
    """The device to compute on, where "auto" is a GPU if there is one."""
    import torch

    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def _folder(path: str) -> Path:
    """A folder to write to, made where it is not there."""
    out = Path(path)
    out.mkdir(parents=True, exist_ok=True)
    return out


def _write(path: Path, text: str) -> None:
    """Write text, in UTF-8 on every system."""
    path.write_text(text, encoding="utf-8")


def _write_json(path: Path, value: Any) -> None:
    """Write JSON that people and strict parsers can read."""
    text = json.dumps(_without_nan(value), indent=2, allow_nan=False)
    _write(path, text + "\n")


def _without_nan(value: Any) -> Any:
    """Put None for floats that JSON has no form for: NaN and the infinities."""
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
