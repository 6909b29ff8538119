"""The commands of ``fusion``: the functions that run them."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from fusion import _check
from fusion._extras import require
from fusion.command_settings import (
    TRAIN_DEFAULTS,
    CaptureSettings,
    EvaluateSettings,
    GenerateSettings,
    ImportSettings,
    ReportSettings,
    require_given,
    settings_of,
)
from fusion.losses.objective import ALIGNMENTS
from fusion.tasks import SPEC, Problem, read_data, read_problems, read_prompts
from fusion.text.messages import Example
from fusion.text.rows import OnBadRows, Turns
from fusion.training.config import FusionConfig, read_config
from fusion.training.config_checks import AUTO
from fusion.training.setting_types import from_words
from fusion.training.settings import read_settings

EXAMPLES = Path(__file__).parent / "examples"
# What `train` prints of evaluations before and after: means over all teachers, and the
# coverage of each.
_SHOWN = ("loss", "sft", *ALIGNMENTS, "graph", "coverage")
Metrics = dict[str, float]


def capture(arguments: Sequence[str]) -> None:
    """Run ``fusion capture``; several processes of one launcher share the work."""
    # Imported here, as below, what the command runs: its help needs the settings alone.
    from fusion.models import load_tokenizer
    from fusion.teachers.capture import capture as run
    from fusion.teachers.store import TeacherStore

    settings = settings_of(CaptureSettings, arguments)
    # The model last, as it may take minutes to load: mistakes are told before.
    rank, world = _processes()
    _check_source(settings.data, "data")
    examples = _examples(settings.data, settings)
    tokenizer = load_tokenizer(settings.teacher, settings.template)
    start = time.perf_counter()
    run(
        _placed(settings.teacher, settings),
        tokenizer,
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


def _processes() -> tuple[int, int]:
    """Read which process this is, and of how many, as launchers tell it."""
    found = []
    for name, default in (("RANK", "0"), ("WORLD_SIZE", "1")):
        text = os.environ.get(name, default)
        if not text.isdecimal():
            raise ValueError(
                f"The environment's {name} must be a number from {default} on, "
                f"but is {text!r}: unset it, or start with torchrun."
            )
        found.append(int(text))
    rank, world = found
    if rank >= world:
        raise ValueError(
            f"The environment's RANK must be less than WORLD_SIZE = {world}, "
            f"but is {rank}: unset both, or start with torchrun."
        )
    return rank, world


def _check_source(source: str, name: str) -> None:
    """Require a file of data, before anything that takes long."""
    if not source.startswith(SPEC) and not Path(source).is_file():
        raise ValueError(
            f"{name} must be a file of JSONL or {SPEC}TASK:SIZE:SEED, "
            f"but there is no file {source}: correct the path."
        )


def _placed(
    path: str, settings: CaptureSettings | EvaluateSettings | GenerateSettings
) -> Any:
    """A model, loaded onto the devices that the settings of a command name."""
    from fusion.models import is_quantized, load_model

    device = _device(settings.device)
    device_map: Any = settings.device_map
    # Quantised weights go where they shall be used as they are loaded.
    if device_map is None and is_quantized(path):
        device_map = {"": device}
    model: Any = load_model(path, settings.dtype, device_map)
    return model if device_map is not None else model.to(device)


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
    from fusion.teachers.choice import chosen
    from fusion.teachers.report import heatmap
    from fusion.teachers.report import report as run
    from fusion.teachers.store import TeacherStore

    settings = settings_of(ReportSettings, arguments)
    # Before the report, which may take minutes.
    if settings.out is not None:
        require("fusion report with out=", "matplotlib")
    if settings.student is not None:
        _check.choice(settings.student, "student", tuple(settings.stores))
    stores = {}
    for name, path in settings.stores.items():
        stores[name] = TeacherStore(path)
    examples = _examples(settings.data, settings)
    found = run(stores, examples)
    print(found, "", sep="\n")
    for domain, teachers in chosen(found, settings.student).items():
        print(f"{domain or '(no domain)'}: learn from {', '.join(teachers) or 'none'}.")
    if settings.out is not None:
        out = _folder(settings.out)
        _write(out / "report.md", f"{found}\n")
        _write_json(out / "report.json", asdict(found))
        heatmap(found, out / "report.png")


def train(arguments: Sequence[str]) -> None:
    """Run ``fusion train``: the student, trained, lies in ``output_dir`` at the end."""
    from fusion.models import check_folder
    from fusion.teachers.store import TeacherStore
    from fusion.training.checkpoints import newest_checkpoint
    from fusion.training.parts import check_live
    from fusion.training.trainer import FusionTrainer

    config = read_config(arguments, **_saving(arguments))
    _check_output(config)
    require_given("student", config.student)
    require_given("data", config.data)
    check_folder(str(config.student))
    for folder in config.live_teachers.values():
        check_folder(folder)
    check_live(config.on_policy, config.live_teachers)
    stores = {name: TeacherStore(path) for name, path in config.stores.items()}
    for name in ("data", "eval_data", "on_policy_prompts"):
        source = getattr(config, name)
        if source is not None:
            _check_source(source, name)

    start = time.perf_counter()
    held_out = None
    if config.eval_data is not None:
        held_out = _examples(config.eval_data, config)
    prompts = None
    if config.on_policy_prompts is not None:
        prompts = read_prompts(config.on_policy_prompts)
    trainer = FusionTrainer(
        args=config,
        train_dataset=_examples(str(config.data), config),
        eval_dataset=held_out,
        stores=stores,
        prompts=prompts,
    )
    output = str(config.output_dir)
    anew = config.resume_from_checkpoint == AUTO and newest_checkpoint(output) is None
    if anew and trainer.is_world_process_zero():
        print(f"No checkpoint in {output}: starting from step 0.")
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


def _saving(arguments: Sequence[str]) -> dict[str, Any]:
    """The defaults of ``fusion train``, with checkpoints where the best is chosen."""
    given = read_settings(arguments)
    best = given.get("load_best_model_at_end", False)
    chosen = from_words(FusionConfig, {"load_best_model_at_end": best})
    defaults: dict[str, Any] = dict(TRAIN_DEFAULTS)
    # Pinned memory is for accelerators: torch warns of it at every step without one.
    defaults["dataloader_pin_memory"] = _device("auto") != "cpu"
    # The best checkpoint is one that was evaluated: both are made at the same steps.
    # What the one cannot be, as "no", is left to transformers to refuse.
    if chosen.get("load_best_model_at_end") is True:
        defaults["save_strategy"] = given.get("eval_strategy", "no")
        logged = given.get("logging_steps", defaults["logging_steps"])
        defaults["save_steps"] = given.get("eval_steps", logged)
    return defaults


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
        if kind.removeprefix("eval_") in _SHOWN and name in before:
            lines.append(f"{name} {before[name]:.4g} -> {value:.4g}")
    return lines


def generate(arguments: Sequence[str]) -> None:
    """Run ``fusion generate``."""
    from fusion.answers import Keep, check_asked, generate_answers
    from fusion.models import load_tokenizer

    settings = settings_of(GenerateSettings, arguments)
    # Before the model, as in `capture`.
    _check_source(settings.data, "data")
    problems = read_prompts(settings.data)
    check_asked(problems, Path(settings.out), settings.keep)
    tokenizer = load_tokenizer(settings.teacher, settings.template)
    start = time.perf_counter()
    found = generate_answers(
        _placed(settings.teacher, settings),
        tokenizer,
        problems,
        settings.out,
        keep=cast(Keep, settings.keep),
        max_new_tokens=settings.max_new_tokens,
        batch_size=settings.batch_size,
    )
    print(f"{settings.out}: {found}; {spent(start)}.")


def evaluate(arguments: Sequence[str]) -> None:
    """Run ``fusion evaluate``."""
    from fusion.evaluate import generate, score, table
    from fusion.models import load_tokenizer

    settings = settings_of(EvaluateSettings, arguments)
    # Before the model, as in `capture`.
    _check_source(settings.data, "data")
    problems = read_problems(settings.data)
    tokenizer = load_tokenizer(settings.model)
    start = time.perf_counter()
    texts = generate(
        _placed(settings.model, settings),
        tokenizer,
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


def spent(start: float) -> str:
    """Say how long it took since ``start`` and the most memory that was resident.

    Only the time where the system does not count memory.
    """
    seconds = time.perf_counter() - start
    try:
        import resource
    except ImportError:  # not on every system
        return f"{seconds:.0f} s"
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    usage = resource.getrusage(resource.RUSAGE_SELF)
    peak = usage.ru_maxrss * unit / 2**30
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
