"""Two real teachers into one student with LoRA, killed twice and resumed.

Gemma-3-270m and SmolLM2-135M are captured on conversations made by program
(`simulations.chat_text`), and teach SmolLM2-135M for one epoch of those in five
languages. It is trained twice by the same settings: undisturbed, and killed at two
random moments by a signal that no process can handle; each time the same command goes
on. Adapters and merged students of both are compared bit for bit. Losses before and
after are of held-out conversations, in the languages of training and in three others.
Each step is a command of ``python -m fusion`` in a process of its own.

    python -m simulations.real_fusion --out DIR --models DIR [--quick] [--seed S]

``--models`` holds gemma3 and smollm2 (``python -m fusion models fetch gemma3
DIR/gemma3``); a quick run makes two tiny models in their place. Writes commands.csv,
stores.csv, equality.csv, held_out.csv, meta.json and real_fusion.md. Finished commands
are not repeated; what they leave lies in ``--work``.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import fusion
from fusion.models import load_tokenizer
from fusion.text.conversations import Example, Message, encode, read_examples
from fusion.training.checkpoints import newest_checkpoint
from simulations import _report as report
from simulations import chat_text, tiny_models
from simulations._killing import KILLED, launch
from simulations._report import Row
from simulations.study.language_models import STORED

TEACHERS = ("gemma3", "smollm2")
STUDENT = "smollm2"
TRAINED_ON = ("English", "German", "Russian", "Arabic", "Chinese")
OTHERS = ("Vietnamese", "Hindi", "Korean")
TRAINING = (
    "weighting=ce",
    "standardize=zscore",
    "fusion_weight=0.3",
    "graph=row_means",
    "graph_weight=0.02",
    "lora.r=8",
    "lora.lora_alpha=16",
    # Dropout draws random numbers in each step: a resumed run must go on with them.
    "lora.lora_dropout=0.05",
    "lora.target_modules=all-linear",
    "num_train_epochs=1",
    "per_device_train_batch_size=4",
    "learning_rate=5e-4",
    "lr_scheduler_type=cosine",
    "save_strategy=steps",
    "save_total_limit=2",
    # A line for each step, by which this program knows when to kill it.
    "logging_steps=1",
    "disable_tqdm=true",
    "report_to=none",
)
TERMS = ("sft", "uld", "graph")


@dataclass(frozen=True)
class Size:
    """How much is captured, trained on and held out.

    Attributes
    ----------
    trained, held_out, others : int
        Conversations in each language: to train on, and held out in the languages of
        training and in the others.
    shortest, longest : int
        Bytes of the shortest answer, and of the longest conversation.
    max_length : int
        Tokens of the longest conversation.
    save_steps : int
        Steps between two checkpoints.
    """

    trained: int
    held_out: int
    others: int
    shortest: int
    longest: int
    max_length: int
    save_steps: int


FULL = Size(40, 3, 5, 30, 220, 384, 10)
QUICK = Size(8, 1, 1, 1, 120, 256, 3)


def write_data(folder: Path, size: Size, seed: int) -> None:
    """Write the conversations: all, those to train on, and two sets held out."""
    folder.mkdir(parents=True, exist_ok=True)
    sets: dict[str, list[Example]] = {"train": [], "held_out": [], "others": []}
    needed = max(size.trained + size.held_out, size.others)
    # Far more than are needed, as most are too long.
    many = chat_text.conversations(len(chat_text.WORDS) * needed * 20, seed)
    for language, examples in many.items():
        fitting = _fitting(language, examples, size)
        if language in TRAINED_ON:
            sets["train"] += fitting[: size.trained]
            sets["held_out"] += fitting[size.trained :][: size.held_out]
        else:
            sets["others"] += fitting[: size.others]
    sets["all"] = [example for chosen in sets.values() for example in chosen]
    for name, chosen in sets.items():
        lines = [json.dumps(_row(example)) + "\n" for example in chosen]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


def _fitting(language: str, examples: Iterable[Example], size: Size) -> list[Example]:
    """Conversations that are neither too long nor too short, no two alike."""
    found = {}
    for example in examples:
        answer = len(example.completion.encode())
        turns = (len((turn.content or "").encode()) for turn in example.prompt)
        if answer >= size.shortest and answer + sum(turns) <= size.longest:
            found[example.key] = replace(example, domain=language)
    return list(found.values())


def _row(example: Example) -> Row:
    turns = (*example.prompt, Message("assistant", example.completion))
    return {"messages": [turn.as_dict() for turn in turns], "domain": example.domain}


def make_tiny_models(folder: Path) -> None:
    """Write two tiny models in place of the real ones."""
    pairs = {
        "gemma3": tiny_models.gpt2(width=32, layers=1),
        "smollm2": tiny_models.llama(width=32, layers=1),
    }
    for name, pair in pairs.items():
        pair.model.save_pretrained(folder / name)
        pair.tokenizer.save_pretrained(folder / name)


def capture_command(teacher: str, models: Path, work: Path, size: Size) -> list[str]:
    """Return the command that stores what a teacher says."""
    words = [
        "capture",
        f"teacher={models / teacher}",
        f"data={work / 'data' / 'all.jsonl'}",
        f"store={work / 'stores' / teacher}",
        f"max_length={size.max_length}",
    ]
    tokenizer = load_tokenizer(models / teacher)
    if not tokenizer.chat_template:
        # Base models have none.
        template = work / "gemma.jinja"
        template.write_text(chat_text.GEMMA, encoding="utf-8")
        words.append(f"template={template}")
    return words


def train_command(
    arm: str, models: Path, work: Path, size: Size, seed: int
) -> list[str]:
    """Return the command that trains a student, or goes on with it."""
    stores = [f"stores.{name}={work / 'stores' / name}" for name in TEACHERS]
    return [
        "train",
        f"student={models / STUDENT}",
        *stores,
        f"data={work / 'data' / 'train.jsonl'}",
        f"output_dir={work / arm}",
        f"max_length={size.max_length}",
        f"save_steps={size.save_steps}",
        f"seed={seed}",
        "resume_from_checkpoint=auto",
        *TRAINING,
    ]


def run(name: str, words: Sequence[str], path: Path, kill: float | None = None) -> None:
    """Run a command, unless it has been finished before, and keep what it took."""
    rows = report.resume_rows(path)
    if name in {row["command"] for row in rows}:
        return
    print(f"{name}: python -m fusion {' '.join(words)}", flush=True)
    errors = path.with_name("errors.txt")
    ended = launch(words, errors, kill)
    wanted = 0 if kill is None else KILLED
    if ended.status != wanted:
        last = (errors.read_text().strip().splitlines() or ["no message"])[-1]
        raise SystemExit(f"{name} ended with status {ended.status}: {last}")
    errors.unlink()
    stored = STORED.search(ended.printed)
    figures: Sequence[Any] = stored.groups() if stored else ("",) * 3
    row = {
        "command": name,
        "end": "killed" if kill is not None else "finished",
        "steps": ended.steps,
        "seconds": ended.seconds,
        "peak_MiB": ended.peak,
    }
    names = ("examples", "tokens", "bytes_a_token")
    report.append_row(path, row | dict(zip(names, figures, strict=True)))


def train_with_kills(words: Sequence[str], folder: Path, path: Path, seed: int) -> None:
    """Train, killed twice at random moments, and go on each time."""
    rows = len(read_examples(folder.parent / "data" / "train.jsonl"))
    steps = -(-rows // 4)
    rng = random.Random(seed)
    # Anywhere between the first step and the last but one: the second kill is behind
    # the step of the first.
    first, second = sorted(rng.sample(range(1, steps), 2))
    for number, step in enumerate((first, second), 1):
        name = f"train, kill {number} behind step {step}"
        done = _resumed_step(folder)
        run(name, words, path, kill=step - done + rng.random())
    run("train, the rest", words, path)


def _resumed_step(folder: Path) -> int:
    """The step from which training goes on."""
    checkpoint = newest_checkpoint(folder)
    if checkpoint is None:
        return 0
    return int(checkpoint.rpartition("-")[2])


def equality_rows(work: Path) -> list[Row]:
    """Compare what the undisturbed and the killed training have left, bit for bit."""
    rows = []
    last = f"checkpoint-{_resumed_step(work / 'undisturbed')}"
    files = {
        "merged student": "model.safetensors",
        "adapters": f"{last}/adapter_model.safetensors",
    }
    for name, file in files.items():
        one, other = (load_file(work / arm / file) for arm in ("undisturbed", "killed"))
        if one.keys() != other.keys():
            raise SystemExit(f"The tensors of {file} have different names.")
        differences = [
            float((one[key].double() - other[key].double()).abs().max()) for key in one
        ]
        equal = [torch.equal(one[key], other[key]) for key in one]
        rows.append(
            {
                "what": name,
                "tensors": len(equal),
                "equal": sum(equal),
                "largest_difference": max(differences),
            }
        )
    return rows


def store_rows(work: Path, ran: Sequence[Row], evaluated: Sequence[Row]) -> list[Row]:
    """Sizes of the stores, and which share of the student's labels they cover."""
    rows = []
    for teacher in TEACHERS:
        folder = work / "stores" / teacher
        (captured,) = [row for row in ran if row["command"] == f"capture {teacher}"]
        rows.append(
            {
                "teacher": teacher,
                "examples": captured["examples"],
                "tokens": captured["tokens"],
                "bytes": sum(file.stat().st_size for file in folder.iterdir()),
                "bytes_a_token": captured["bytes_a_token"],
                "tokens_a_second": captured["tokens"] / captured["seconds"],
                "coverage": min(row[f"coverage/{teacher}"] for row in evaluated),
            }
        )
    return rows


def held_out_rows(models: Path, work: Path, size: Size) -> list[Row]:
    """Evaluate the student before and after training, on both held-out sets."""
    stores = {name: str(work / "stores" / name) for name in TEACHERS}
    rows = []
    for when, folder in (
        ("before", models / STUDENT),
        ("after", work / "undisturbed"),
    ):
        config = fusion.FusionConfig(
            str(folder),
            student=str(folder),
            stores=stores,
            weighting="ce",
            standardize="zscore",
            fusion_weight=0.3,
            graph="row_means",
            graph_weight=0.02,
            max_length=size.max_length,
            per_device_eval_batch_size=4,
            use_cpu=True,
            disable_tqdm=True,
            report_to="none",
        )
        for name in ("held_out", "others"):
            examples = read_examples(work / "data" / f"{name}.jsonl")
            trainer = fusion.FusionTrainer(args=config, eval_dataset=examples)
            found = trainer.evaluate()
            row: Row = {"student": when, "languages": name, "examples": len(examples)}
            shares = [f"{of}/{t}" for of in ("uld", "coverage") for t in TEACHERS]
            for term in (*TERMS, *shares, *(f"weight/{t}" for t in TEACHERS)):
                row[term] = found[f"eval_{term}"]
            rows.append(row)
    return rows


def trained_tokens(models: Path, work: Path) -> int:
    """Tokens of the student in one epoch of training."""
    tokenizer = load_tokenizer(models / STUDENT)
    examples = read_examples(work / "data" / "train.jsonl")
    return sum(len(encode(example, tokenizer).input_ids) for example in examples)


def training_seconds(work: Path) -> float:
    """What the undisturbed training took, without loading and saving the student."""
    state = json.loads((work / "undisturbed" / "trainer_state.json").read_text())
    seconds: float = state["log_history"][-1]["train_runtime"]
    return seconds


def _costs(ran: Sequence[Row]) -> str:
    """Lay the commands out."""
    costs = [
        [
            row["command"],
            row["end"],
            row["steps"] or "",
            f"{row['seconds']:.0f}",
            f"{row['peak_MiB']:.0f}",
        ]
        for row in ran
    ]
    header = ["command", "end", "steps", "seconds", "peak memory, MiB"]
    return report.markdown_table(header, costs)


def _kept(stores: Sequence[Row]) -> str:
    """Lay the stores out."""
    kept = [
        [
            row["teacher"],
            row["examples"],
            row["tokens"],
            f"{row['bytes'] / 1e6:.2f}",
            row["bytes_a_token"],
            f"{row['tokens_a_second']:.0f}",
            f"{row['coverage']:.1%}",
        ]
        for row in stores
    ]
    header = [
        "teacher",
        "conversations",
        "tokens of answers",
        "MB",
        "bytes a token",
        "tokens a second, with loading",
        "covered labels of held-out",
    ]
    return report.markdown_table(header, kept)


def tables(
    ran: Sequence[Row],
    stores: Sequence[Row],
    equality: Sequence[Row],
    held_out: Sequence[Row],
    rate: str,
) -> str:
    """Lay costs, stores, equality and held-out losses out."""
    names = {"held_out": "of training", "others": "others"}
    losses = [
        [
            row["student"],
            names[row["languages"]],
            row["examples"],
            *(f"{row[term]:.3f}" for term in TERMS),
            *(f"{row[f'{of}/{t}']:.3f}" for of in ("uld", "weight") for t in TEACHERS),
        ]
        for row in held_out
    ]
    of_teachers = [f"{of} of {t}" for of in ("uld", "weight") for t in TEACHERS]
    return "\n\n".join(
        [
            "## Commands",
            _costs(ran),
            rate,
            "## Stores",
            _kept(stores),
            "## Undisturbed against killed twice",
            report.markdown_table(
                ["what", "tensors", "equal in all bits", "largest difference"],
                [list(row.values()) for row in equality],
            ),
            "## Held-out losses",
            report.markdown_table(
                ["student", "languages", "conversations", *TERMS, *of_teachers], losses
            ),
            "The student is one of its own teachers: ULD to it begins at what stores "
            "round. A teacher's labels are covered where one of its tokens starts at "
            "the same byte as one of the student's.",
        ]
    )


def publish(folder: Path, models: Path, work: Path, size: Size) -> str:
    """Write all tables of finished commands."""
    ran = report.read_rows(folder / "commands.csv")
    held_out = held_out_rows(models, work, size)
    stores = store_rows(work, ran, held_out)
    equality = equality_rows(work)
    report.write_rows(folder / "held_out.csv", held_out)
    report.write_rows(folder / "stores.csv", stores)
    report.write_rows(folder / "equality.csv", equality)
    tokens, seconds = trained_tokens(models, work), training_seconds(work)
    rate = (
        f"The undisturbed training saw {tokens} tokens in {seconds:.0f} s: "
        f"{tokens / seconds:.0f} a second, prompts included. A killed training repeats "
        "its steps from the last checkpoint on. Times are of a shared core."
    )
    text = tables(ran, stores, equality, held_out, rate)
    (folder / "real_fusion.md").write_text(
        f"# Two teachers into SmolLM2-135M, killed twice\n\n{text}\n", encoding="utf-8"
    )
    return text


def main(argv: Sequence[str] | None = None) -> int:
    parser = report.command_line(__doc__)
    parser.add_argument("--models", type=Path, help="folder with gemma3 and smollm2")
    parser.add_argument(
        "--work", type=Path, help="folder for data and students (default: OUT/work)"
    )
    arguments = parser.parse_args(argv)
    if arguments.models is None and not arguments.quick:
        parser.error("--models must be given, but is not: fetch the two models.")
    size, seed = (QUICK if arguments.quick else FULL), arguments.seed
    folder = report.results_folder(arguments)
    work: Path = arguments.work or folder / "work"
    versions = report.versions() | {
        name: version(name) for name in ("torch", "transformers", "peft")
    }
    facts = {
        "seed": seed,
        "size": vars(size),
        "training": list(TRAINING),
        "threads": torch.get_num_threads(),
    }
    report.claim(folder, facts | {"versions": versions})
    write_data(work / "data", size, seed)
    (work / ".gitignore").write_text("*\n")  # models are gigabytes
    models = arguments.models
    if arguments.quick:
        models = work / "models"
        make_tiny_models(models)
    path = folder / "commands.csv"
    for teacher in TEACHERS:
        run(f"capture {teacher}", capture_command(teacher, models, work, size), path)
    if not (work / "undisturbed" / "trainer_state.json").exists():
        # What an interrupted one has left would make it a resumed one.
        shutil.rmtree(work / "undisturbed", ignore_errors=True)
    words = train_command("undisturbed", models, work, size, seed)
    run("train, undisturbed", words, path)
    words = train_command("killed", models, work, size, seed)
    train_with_kills(words, work / "killed", path, seed)
    print(publish(folder, models, work, size), f"Written to {folder}.", sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
