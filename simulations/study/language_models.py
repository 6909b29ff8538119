"""What fusing Gemma-3-270m into SmolLM2-135M costs and gives on reasoning-gym tasks.

Measured are time, store, memory, losses and answers.

The teacher is captured on 300 examples. Two students are trained on 260 of them for 60
steps of four: one on the labels alone, one fused. Both, and the student before, answer
problems of another seed. Each step is a command of ``python -m fusion`` in a process of
its own, as a user would run it; times and memory are what it prints.

    python -m simulations.study.language_models --out DIR --models DIR [--quick]
        [--seed S]

``--models`` holds gemma3 and smollm2 (``python -m fusion models fetch gemma3
DIR/gemma3``; Gemma's terms bind its students). Writes commands.csv, training.csv,
scores.csv, meta.json, language_models.md and language_models.png. Finished commands
are not repeated; what they leave lies in ``--work``.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from fusion.tasks import reasoning_gym_problems
from fusion.text.conversations import Example
from simulations import _report as report
from simulations._report import Row

TASKS = ("gcd", "letter_counting", "syllogism", "word_sequence_reversal")
ARMS = {"fused": "fusion_weight=0.1", "labels": "fusion_weight=0"}
TERMS = ("sft", "uld", "graph")
SPENT = re.compile(r"(\d+) s, peak memory ([\d.]+) GiB")
STORED = re.compile(r"(\d+) examples, (\d+) tokens, ([\d.]+) bytes a token")
TRAINING = (
    "standardize=zscore",
    "graph_weight=0.02",
    "trained_layers=6",
    "per_device_train_batch_size=4",
    "learning_rate=2e-4",
    "lr_scheduler_type=cosine",
    "disable_tqdm=true",
)


@dataclass(frozen=True)
class Size:
    """How much is captured, held out, trained and answered."""

    captured: int
    held_out: int
    steps: int
    problems: int


FULL, QUICK = Size(300, 40, 60, 100), Size(24, 8, 4, 8)


def write_data(folder: Path, size: Size, seed: int) -> None:
    """Write the examples and the problems.

    The examples are split in those to train on and those held out; the problems are of
    another seed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    examples = [
        problem.example()
        for problem in reasoning_gym_problems(TASKS, size.captured, seed)
    ]
    cut = size.captured - size.held_out
    for name, chosen in (
        ("all", examples),
        ("train", examples[:cut]),
        ("held_out", examples[cut:]),
    ):
        _write_lines(folder / f"{name}.jsonl", map(_row, chosen))
    problems = reasoning_gym_problems(TASKS, size.problems, seed + 1)
    _write_lines(
        folder / "problems.jsonl",
        ({"prompt": p.prompt, "answer": p.answer, "task": p.task} for p in problems),
    )


def _row(example: Example) -> Row:
    return {
        "prompt": example.prompt,
        "completion": example.completion,
        "domain": example.domain,
    }


def _write_lines(path: Path, rows: Iterable[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def commands(models: Path, work: Path, size: Size, seed: int) -> dict[str, list[str]]:
    """Return every command by name, in order."""
    data, store = work / "data", work / "store"
    found = {
        "capture": [
            "capture",
            f"teacher={models / 'gemma3'}",
            f"data={data / 'all.jsonl'}",
            f"store={store}",
        ]
    }
    for arm in ("before", *ARMS):
        folder = models / "smollm2" if arm == "before" else work / arm
        if arm != "before":
            found[f"train {arm}"] = [
                "train",
                f"student={models / 'smollm2'}",
                f"stores.gemma3={store}",
                f"data={data / 'train.jsonl'}",
                f"eval_data={data / 'held_out.jsonl'}",
                f"output_dir={folder}",
                f"max_steps={size.steps}",
                f"logging_steps={max(1, size.steps // 12)}",
                f"seed={seed}",
                ARMS[arm],
                *TRAINING,
            ]
        told = [
            f"model={folder}",
            f"data={data / 'problems.jsonl'}",
            f"out={work / 'scores' / arm}",
            "max_new_tokens=24",
        ]
        found[f"evaluate {arm}"] = ["evaluate", *told]
    return found


def run(name: str, words: Sequence[str], path: Path) -> Row:
    """Run one command, and keep what it says of itself."""
    done = subprocess.run(
        [sys.executable, "-m", "fusion", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{name} failed: {done.stderr.strip().splitlines()[-1]}")
    spent, stored = SPENT.search(done.stdout), STORED.search(done.stdout)
    figures = [
        *(spent.groups() if spent else ["nan"] * 2),
        *(stored.groups() if stored else ["nan"] * 3),
    ]
    names = ("seconds", "peak_memory_GiB", "examples", "tokens", "bytes_a_token")
    row = {"command": name, **dict(zip(names, map(float, figures), strict=True))}
    report.append_row(path, row)
    return row


def training_rows(work: Path) -> list[Row]:
    """Return the held-out and training terms that both arms logged."""
    rows = []
    for arm in ARMS:
        history = json.loads((work / arm / "trainer_state.json").read_text())[
            "log_history"
        ]
        for entry in history:
            prefix = "eval_" if "eval_sft" in entry else ""
            if f"{prefix}sft" in entry:
                terms = {
                    term: entry.get(f"{prefix}{term}", float("nan")) for term in TERMS
                }
                rows.append(
                    {
                        "arm": arm,
                        "part": "held out" if prefix else "training",
                        "step": entry["step"],
                        **terms,
                    }
                )
    return rows


def score_rows(work: Path) -> list[Row]:
    """Return the scores of the three students."""
    found = []
    for arm in ("before", *ARMS):
        scores: list[dict[str, Any]] = json.loads(
            (work / "scores" / arm / "scores.json").read_text()
        )
        found += [{"student": arm, **score} for score in scores]
    return found


def tables(ran: Sequence[Row], training: Sequence[Row], scores: Sequence[Row]) -> str:
    """Lay costs, held-out losses and answers out."""
    costs = [
        [row["command"], f"{row['seconds']:.0f}", f"{row['peak_memory_GiB']:.1f}"]
        for row in ran
    ]
    stored = ran[0]
    held = [r for r in training if r["part"] == "held out"]
    losses = [
        [r["arm"], r["step"], *(f"{r[term]:.3f}" for term in TERMS)] for r in held
    ]
    answers = [
        [
            s["student"],
            s["task"],
            s["problems"],
            f"{s['accuracy']:.1%}",
            f"{s['low']:.1%} – {s['high']:.1%}",
            f"{s['majority']:.1%}",
            f"{s['chance']:.1%}",
            s["unextracted"],
        ]
        for s in scores
    ]
    header = [
        "student",
        "task",
        "problems",
        "solved",
        "95 % interval",
        "majority",
        "chance",
        "no answer found",
    ]
    return "\n\n".join(
        [
            "## Costs",
            report.markdown_table(["command", "seconds", "peak memory, GiB"], costs),
            f"The store holds {stored['examples']:.0f} examples, "
            f"{stored['tokens']:.0f} tokens, at "
            f"{stored['bytes_a_token']:.1f} bytes a token.",
            "## Held-out losses",
            report.markdown_table(["student", "step", *TERMS], losses),
            "## Answers to problems of another seed",
            report.markdown_table(header, answers),
            "Times are of a shared machine, so those of the two trainings "
            "do not compare. Where an interval holds the majority's share, nothing is "
            "shown to be learnt beyond the frequency of answers.",
        ]
    )


def draw(training: Sequence[Row], path: Path) -> None:
    """Draw each term over the steps."""
    with report.figure_style():
        figure = Figure(figsize=(7.5, 2.6))
        for ax, term in zip(figure.subplots(1, len(TERMS)), TERMS, strict=True):
            for arm in ARMS:
                for part, style in (("training", "-"), ("held out", "o")):
                    points = [
                        (r["step"], r[term])
                        for r in training
                        if (r["arm"], r["part"]) == (arm, part)
                    ]
                    colour = f"C{list(ARMS).index(arm)}"
                    ax.plot(
                        *zip(*points, strict=True),
                        style,
                        color=colour,
                        label=f"{arm}, {part}",
                    )
            ax.set_title(
                {"sft": "NLL of the labels", "uld": "ULD", "graph": "GLD"}[term]
            )
            ax.set_xlabel("step")
            ax.set_ylim(bottom=0)
        figure.axes[0].legend(fontsize=6)
        figure.savefig(path)


def main(argv: Sequence[str] | None = None) -> int:
    parser = report.command_line(__doc__)
    parser.add_argument(
        "--models", type=Path, required=True, help="folder with gemma3 and smollm2"
    )
    parser.add_argument(
        "--work",
        type=Path,
        help="folder for data, store and students (default: OUT/work)",
    )
    arguments = parser.parse_args(argv)
    size, folder = (
        (QUICK if arguments.quick else FULL),
        report.results_folder(arguments),
    )
    work = arguments.work or folder / "work"
    versions = report.versions() | {
        name: version(name) for name in ("torch", "transformers")
    }
    told = {
        "seed": arguments.seed,
        "tasks": list(TASKS),
        "size": vars(size),
        "training": list(TRAINING),
        "arms": ARMS,
    }
    report.claim(folder, told | {"versions": versions})
    write_data(work / "data", size, arguments.seed)
    (work / ".gitignore").write_text("*\n")  # models are gigabytes
    path = folder / "commands.csv"
    ran = report.resume_rows(path)
    for name, words in commands(arguments.models, work, size, arguments.seed).items():
        if name not in {row["command"] for row in ran}:
            print(f"python -m fusion {' '.join(words)}", flush=True)
            ran.append(run(name, words, path))
    training, scores = training_rows(work), score_rows(work)
    report.write_rows(folder / "training.csv", training)
    report.write_rows(folder / "scores.csv", scores)
    text = tables(ran, training, scores)
    (folder / "language_models.md").write_text(
        f"# Gemma-3-270m into SmolLM2-135M\n\n{text}\n", encoding="utf-8"
    )
    draw(training, folder / "language_models.png")
    print(text, f"Written to {folder}.", sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
