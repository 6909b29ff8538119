"""What fusing language models costs and gives: time, store, memory, losses, answers.

The models, the questions, the sizes and the arms are in a YAML file:

- ``simulations/study/gemma.yaml``: Gemma-3-270m, as it is, into SmolLM2-135M.
- ``simulations/study/taught.yaml``: both models, taught one family first by LoRA, into
  SmolLM2-135M: teachers that know what they are asked.

Each step is a command of ``python -m fusion`` in a process of its own, as a user would
run it; times and memory are what it prints.

    python -m simulations.fusion_study --config FILE --models DIR --out DIR [--quick]
        [--seed S] [--work DIR]

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
from argparse import Namespace
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from simulations import _report as report
from simulations._report import Row
from simulations.study import plans
from simulations.study.plans import Arm, Plan

# The terms of the loss: title and unit.
TERMS = {
    "sft": ("NLL of the labels", "nats"),
    "uld": ("ULD", "logits"),
    "graph": ("GLD", "logits²"),
}
# Of ``fusion train``: a command that was interrupted goes on from its last checkpoint.
UNATTENDED = ("disable_tqdm=true", "resume_from_checkpoint=auto")
SPENT = re.compile(r"(\d+) s, peak memory ([\d.]+) GiB")
STORED = re.compile(r"(\d+) examples, (\d+) tokens, ([\d.]+) bytes a token")


@dataclass(frozen=True)
class Run:
    """A run of a plan: where models are, and where its own things are put."""

    plan: Plan
    models: Path
    work: Path
    seed: int

    def commands(self) -> dict[str, list[str]]:
        """Return every command by name, in order."""
        found = {}
        for name in self.plan.teachers:
            found |= self.of_teacher(name)
        found |= self.evaluated("before", self.models / self.plan.student)
        for name, arm in self.plan.arms.items():
            found[f"train {name}"] = self.trained(name, arm)
            found |= self.evaluated(name, self.work / name)
        return found

    def teacher(self, name: str) -> Path:
        """Return the folder of a teacher, taught or as it is."""
        if self.plan.size.taught:
            return self.work / "teachers" / name
        return self.models / self.plan.teachers[name]

    def of_teacher(self, name: str) -> dict[str, list[str]]:
        """Return the commands that teach, ask and capture a teacher."""
        size, data = self.plan.size, self.work / "data"
        folder = self.teacher(name)
        found = {}
        if size.taught:
            found[f"teach {name}"] = [
                "train",
                f"student={self.models / self.plan.teachers[name]}",
                f"data={data / 'taught.jsonl'}",
                f"output_dir={folder}",
                f"max_steps={size.teaching_steps}",
                f"seed={self.seed}",
                "fusion_weight=0",
                *UNATTENDED,
                *self.plan.teaching,
            ]
            found |= self.evaluated(f"teacher {name}", folder)
        arms = self.plan.arms.values()
        if any(name in arm.teachers for arm in arms):
            found[f"capture {name}"] = [
                "capture",
                f"teacher={folder}",
                f"data={data / 'captured.jsonl'}",
                f"store={self.work / 'stores' / name}",
            ]
        if any(name == arm.answers for arm in arms):
            found[f"answers {name}"] = [
                "generate",
                f"teacher={folder}",
                f"data={data / 'unlabelled.jsonl'}",
                f"out={self.work / 'answers' / name}.jsonl",
                f"max_new_tokens={self.plan.max_new_tokens}",
            ]
        return found

    def trained(self, name: str, arm: Arm) -> list[str]:
        """Return the command that trains the student of an arm."""
        size, data = self.plan.size, self.work / "data"
        learnt = f"answers_{arm.answers}" if arm.answers else "labelled"
        return [
            "train",
            f"student={self.models / self.plan.student}",
            *(f"stores.{t}={self.work / 'stores' / t}" for t in arm.teachers),
            f"data={data / learnt}.jsonl",
            f"eval_data={data / 'held_out.jsonl'}",
            f"output_dir={self.work / name}",
            f"max_steps={size.steps}",
            f"logging_steps={max(1, size.steps // 12)}",
            f"seed={self.seed}",
            *UNATTENDED,
            *self.plan.training,
            *arm.settings,
        ]

    def evaluated(self, name: str, folder: Path) -> dict[str, list[str]]:
        """Return the command by which a model answers the problems."""
        problems = self.work / "data" / "problems.jsonl"
        scores = self.work / "scores" / name
        return {f"evaluate {name}": self.answering(folder, problems, scores)}

    def answering(self, folder: Path, asked: Path, out: Path) -> list[str]:
        """Return the command by which a model answers questions."""
        tokens = self.plan.max_new_tokens
        return [
            "evaluate",
            f"model={folder}",
            f"data={asked}",
            f"out={out}",
            f"max_new_tokens={tokens}",
        ]


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


def training_rows(work: Path, arms: Iterable[str]) -> list[Row]:
    """Return the held-out and training terms that the arms logged."""
    rows = []
    for arm in arms:
        state = json.loads((work / arm / "trainer_state.json").read_text())
        for entry in state["log_history"]:
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


def score_rows(work: Path, students: Iterable[str]) -> list[Row]:
    """Return the scores of models."""
    found = []
    for name in students:
        scores: list[dict[str, Any]] = json.loads(
            (work / "scores" / name / "scores.json").read_text()
        )
        found += [{"student": name, **score} for score in scores]
    return found


def tables(ran: Sequence[Row], training: Sequence[Row], scores: Sequence[Row]) -> str:
    """Lay costs, held-out losses and answers out."""
    costs = [
        [row["command"], f"{row['seconds']:.0f}", f"{row['peak_memory_GiB']:.1f}"]
        for row in ran
    ]
    stores = [
        f"The store of `{row['command']}` holds {row['examples']:.0f} examples, "
        f"{row['tokens']:.0f} tokens, at {row['bytes_a_token']:.1f} bytes a token."
        for row in ran
        if row["command"].startswith("capture")
    ]
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
        "model",
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
            "\n".join(stores),
            "## Held-out losses",
            report.markdown_table(["student", "step", *TERMS], losses),
            "## Answers to problems that no model has learnt",
            report.markdown_table(header, answers),
            "Times are of a shared machine, so those of trainings do not compare; that "
            "of a training that was interrupted is of what was left of it. Where an "
            "interval holds the majority's share, nothing is shown to be learnt beyond "
            "the frequency of answers.",
        ]
    )


def draw(training: Sequence[Row], path: Path) -> None:
    """Draw each term over the steps."""
    arms = list(dict.fromkeys(row["arm"] for row in training))
    with report.figure_style():
        figure = Figure(figsize=(7.5, 3.2))
        panels = figure.subplots(1, len(TERMS))
        for ax, (term, (title, unit)) in zip(panels, TERMS.items(), strict=True):
            for arm in arms:
                # Arms that began at one point are seen in one another.
                size = 9 - 2 * arms.index(arm)
                for part, style in (("training", "-"), ("held out", "o")):
                    points = [
                        (r["step"], r[term])
                        for r in training
                        if (r["arm"], r["part"]) == (arm, part)
                    ]
                    ax.plot(
                        *zip(*points, strict=True),
                        style,
                        markersize=size,
                        fillstyle="none",
                        color=f"C{arms.index(arm)}",
                        label=f"{arm}, {part}",
                    )
            ax.set_title(title)
            ax.set_xlabel("step")
            ax.set_ylabel(unit)
            ax.set_ylim(bottom=0)
        marks = panels[0].get_legend_handles_labels()
        figure.legend(*marks, loc="outside lower center", ncols=len(arms))
        figure.savefig(path)


def study(arguments: Namespace) -> int:
    """Run and publish the plan of a command line."""
    if arguments.models is None:
        raise SystemExit("--models must name the folder of the models: add it.")
    plan = plans.read(arguments.config, arguments.quick)
    folder = report.results_folder(arguments)
    work = arguments.work or folder / "work"
    packages = {name: version(name) for name in ("torch", "transformers")}
    facts = asdict(plan) | {
        "seed": arguments.seed,
        "versions": report.versions() | packages,
    }
    # As JSON gives them back: lists, not tuples.
    report.claim(folder, json.loads(json.dumps(facts)))
    plans.write_data(work / "data", plan, arguments.seed)
    (work / ".gitignore").write_text("*\n")  # models are gigabytes
    planned = Run(plan, arguments.models, work, arguments.seed)
    return report.run_and_publish(
        folder,
        lambda: run_commands(planned, folder / "commands.csv"),
        lambda path: publish(path, planned),
    )


def run_commands(planned: Run, path: Path) -> None:
    """Run what is not recorded yet."""
    recorded = {row["command"] for row in report.resume_rows(path)}
    for name, words in planned.commands().items():
        if name not in recorded:
            print(f"python -m fusion {' '.join(words)}", flush=True)
            run(name, words, path)
        if name.startswith("answers "):
            plans.write_answers(planned.work, name.removeprefix("answers "))


def publish(folder: Path, planned: Run) -> None:
    """Write tables and the figure."""
    arms = planned.plan.arms
    asked = [
        name.removeprefix("evaluate ")
        for name in planned.commands()
        if name.startswith("evaluate ")
    ]
    training = training_rows(planned.work, arms)
    scores = score_rows(planned.work, asked)
    report.write_rows(folder / "training.csv", training)
    report.write_rows(folder / "scores.csv", scores)
    ran = report.resume_rows(folder / "commands.csv")
    text = tables(ran, training, scores)
    (folder / "language_models.md").write_text(
        f"# {planned.plan.title}\n\n{text}\n", encoding="utf-8"
    )
    draw(training, folder / "language_models.png")
    print(text, f"Written to {folder}.", sep="\n\n")
