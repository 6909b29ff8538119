"""Plans of studies of language models, from YAML files, and their questions."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from fusion.tasks import Problem, reasoning_gym_problems
from simulations._report import Row
from simulations.study import tasks

# What holds the answer at the end of a completion, for `fusion evaluate`.
MARK = " #### "


@dataclass(frozen=True)
class Size:
    """How much is learnt, held out and answered.

    Attributes
    ----------
    labelled, unlabelled : int
        Questions that students learn from, with and without labels.
    held_out : int
        Labelled questions on which losses are measured.
    problems : int
        Questions that are answered at the end.
    steps : int
        Steps of each student.
    taught, teaching_steps : int
        Questions that each teacher learns first, and its steps; 0 takes it as it is.
    """

    labelled: int
    held_out: int
    problems: int
    steps: int
    unlabelled: int = 0
    taught: int = 0
    teaching_steps: int = 0


@dataclass(frozen=True)
class Arm:
    """One way to train the student.

    Attributes
    ----------
    teachers : tuple of str
        Whose logits it learns.
    answers : str or None
        Whose answers to the unlabelled questions it learns.
    settings : tuple of str
        Of ``fusion train``.
    """

    teachers: tuple[str, ...] = ()
    answers: str | None = None
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """All of a study of language models.

    Attributes
    ----------
    title : str
        What it is.
    student : str
        Folder of the student, under that of the models.
    teachers : dict of str to str
        Folder of each teacher, by its name.
    questions : tuple of str
        Tasks of reasoning-gym, or one family of `simulations.study.tasks`.
    size : Size
        How much of all.
    teaching, training : tuple of str
        Settings of ``fusion train`` for teachers and for students.
    arms : dict of Arm
        By name.
    max_new_tokens : int
        Tokens of an answer at most.
    """

    title: str
    student: str
    teachers: dict[str, str]
    questions: tuple[str, ...]
    size: Size
    training: tuple[str, ...]
    arms: dict[str, Arm]
    teaching: tuple[str, ...] = ()
    max_new_tokens: int = 24
    quick: dict[str, int] = field(default_factory=dict)


def is_plan(path: Path) -> bool:
    """Tell whether a YAML file plans a study of language models."""
    return "teachers" in yaml.safe_load(path.read_text(encoding="utf-8"))


def read(path: Path, quick: bool = False) -> Plan:
    """Read a plan; a quick one has the smaller sizes that it names."""
    given = yaml.safe_load(path.read_text(encoding="utf-8"))
    size = Size(**given["size"])
    if quick:
        size = replace(size, **given["quick"])
    arms = {name: _tuples(Arm, arm) for name, arm in given["arms"].items()}
    plan: Plan = _tuples(Plan, given | {"size": size, "arms": arms})
    return plan


def _tuples(kind: Any, given: Mapping[str, Any]) -> Any:
    """Make an object of a mapping; lists become tuples."""
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})


@dataclass(frozen=True)
class Asked:
    """A question and all that is learnt of it."""

    problem: Problem
    completion: str

    @property
    def row(self) -> Row:
        """What ``fusion train`` and ``fusion evaluate`` read."""
        return {
            "prompt": self.problem.prompt,
            "completion": self.completion,
            "answer": self.problem.answer,
            "domain": self.problem.task,
        }


def questions(plan: Plan, seed: int) -> dict[str, list[Asked]]:
    """Return the questions by what they are for; no question is for two things."""
    size = plan.size
    counts = {
        "taught": size.taught,
        "labelled": size.labelled,
        "held_out": size.held_out,
        "unlabelled": size.unlabelled,
    }
    known = tasks.FAMILIES.get(plan.questions[0])
    count = sum(counts.values())
    if known is None:
        learnt = _of_gym(plan.questions, count, seed)
        asked = _of_gym(plan.questions, size.problems, seed + 1)
    else:
        held_out = tasks.parts(known)
        rest = list(held_out.rest)
        random.Random(f"{known.name} {seed}").shuffle(rest)
        learnt = [_of_family(known.name, question) for question in rest[:count]]
        test = held_out.test[: size.problems]
        asked = [_of_family(known.name, question) for question in test]
    found = {}
    start = 0
    for name, number in counts.items():
        found[name] = learnt[start : start + number]
        start += number
    return {**found, "problems": asked}


def _of_gym(names: Sequence[str], count: int, seed: int) -> list[Asked]:
    problems = reasoning_gym_problems(names, count, seed)
    return [Asked(p, str(p.example().completion)) for p in problems]


def _of_family(name: str, question: tasks.Question) -> Asked:
    """A question of the study, with its answer behind the mark."""
    work = question.work.rsplit(";", 1)[0]
    problem = Problem(f"{question.prompt}\n", question.answer, name)
    return Asked(problem, f"{work}{MARK}{question.answer}")


def write_data(folder: Path, plan: Plan, seed: int) -> None:
    """Write the questions, and all that are captured in one file."""
    folder.mkdir(parents=True, exist_ok=True)
    found = questions(plan, seed)
    for name, chosen in found.items():
        _write_lines(folder / f"{name}.jsonl", [asked.row for asked in chosen])
    captured = found["labelled"] + found["held_out"]
    _write_lines(folder / "captured.jsonl", [asked.row for asked in captured])


def write_answers(work: Path, name: str) -> None:
    """Write the labelled questions, and the others with the answers of a teacher.

    As in the study, errors of the teacher are learnt, too.
    """
    data = work / "data"
    rows = _lines(data / "labelled.jsonl") + _lines(work / "answers" / f"{name}.jsonl")
    _write_lines(data / f"answers_{name}.jsonl", rows)


def _lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _write_lines(path: Path, rows: Iterable[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
