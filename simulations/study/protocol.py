"""What the study runs, from a YAML file: sizes, tuning, and stages of cells.

A cell is one student: of a family, an arm, a seed and a teacher.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from simulations._report import Row
from simulations.study.arms import ARMS, Arm
from simulations.study.tasks import FAMILIES

# Arms that tune their learning rate; the others learn at that of their data.
BASES = ("labels", "sequence")


@dataclass(frozen=True)
class Stage:
    """Cells of some families, arms, seeds and teachers.

    Attributes
    ----------
    families, arms : tuple of str
        Of `simulations.study.tasks` and `simulations.study.arms`.
    seeds : int
        How many, from 0 on.
    teachers : tuple of str
        By default the one that knows the family.
    """

    families: tuple[str, ...]
    arms: tuple[str, ...]
    seeds: int
    teachers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tuning:
    """The values of each arm that are tried, and where.

    Attributes
    ----------
    family, same_tokens_family : str
        The family of all arms, and that of the arms that need a teacher with the
        student's tokenizer.
    seed : int
        A seed of no stage; scores are of the validation questions.
    rates : tuple of float
        Learning rates of `BASES`.
    shares : tuple of float
        Shares ρ of the other arms (`simulations.study.arms`).
    calibration_steps : int
        Steps over which the gradients of the losses are measured.
    """

    family: str
    same_tokens_family: str
    seed: int
    rates: tuple[float, ...]
    shares: tuple[float, ...]
    calibration_steps: int


@dataclass(frozen=True)
class Protocol:
    """All of the study.

    Attributes
    ----------
    steps, batch : int
        Steps of the optimiser and examples a step, of every arm.
    k : int
        Logits kept a position.
    unlabelled, questions : int
        Unlabelled questions of a cell, and test or validation questions, at most.
    teacher_questions : int
        Questions of each of its families that a teacher learns, at most.
    teacher_steps : dict of str to int
        Steps of each teacher.
    teacher_batch, teacher_rate
        Examples a step, and learning rate.
    tuning : Tuning
        The values that are tried.
    stages : dict of Stage
        In the order in which they are run.
    """

    steps: int
    batch: int
    k: int
    unlabelled: int
    questions: int
    teacher_questions: int
    teacher_steps: dict[str, int]
    teacher_batch: int
    teacher_rate: float
    tuning: Tuning
    stages: dict[str, Stage]

    def families(self, teacher: str | None = None) -> list[str]:
        """Return the families of all stages, or those that a teacher knows."""
        found: dict[str, None] = {}
        for stage in self.stages.values():
            found |= dict.fromkeys(stage.families)
        return [f for f in found if teacher in (None, FAMILIES[f].teacher)]

    def facts(self) -> dict[str, Any]:
        """Return all that numbers depend on, but for the choice of cells."""
        facts = asdict(self)
        del facts["stages"]
        return facts


class Cell(NamedTuple):
    """One student to train and to ask."""

    stage: str
    family: str
    arm: str
    seed: int
    teacher: str

    @property
    def of(self) -> Arm:
        """The arm."""
        return ARMS[self.arm]

    @property
    def key(self) -> tuple[str, str, int, str]:
        """What it is, whatever stage asked for it first."""
        return self.family, self.arm, self.seed, self.teacher


def read(path: Path) -> Protocol:
    """Read a protocol.

    Raises
    ------
    ValueError
        If a key, a family or an arm is unknown, or one is missing.
    """
    given = yaml.safe_load(path.read_text(encoding="utf-8"))
    given["tuning"] = _made(Tuning, given["tuning"])
    stages = {}
    for name, stage in given["stages"].items():
        stages[name] = _made(Stage, stage)
        _check_known("families", stages[name].families, FAMILIES)
        _check_known("arms", stages[name].arms, ARMS)
    given["stages"] = stages
    protocol: Protocol = _made(Protocol, given)
    return protocol


def _made(kind: Any, given: Mapping[str, Any]) -> Any:
    """Make an object of a mapping; lists become tuples."""
    known = {entry.name for entry in fields(kind)}
    _check_known(f"{kind.__name__.lower()} settings", given, known)
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})


def _check_known(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Require names of the study."""
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ValueError(
            f"{what} must be among {', '.join(sorted(known))}, "
            f"but {', '.join(unknown)} are not: correct the YAML file."
        )


def cells(protocol: Protocol) -> list[Cell]:
    """Return the cells of all stages in their order, each once.

    Seeds come before families and arms, so that a study that is cut off has all of
    them with fewer seeds. Arms that compare tokens are left out where the teacher has
    other ones.
    """
    found: dict[Any, Cell] = {}
    for name, stage in protocol.stages.items():
        for seed in range(stage.seeds):
            for family in stage.families:
                own = FAMILIES[family].teacher
                for teacher in stage.teachers or (own,):
                    for arm in stage.arms:
                        cell = Cell(
                            name, family, arm, seed, _teacher(arm, own, teacher)
                        )
                        if teacher == "byte" or not cell.of.same_tokens:
                            found.setdefault(cell.key, cell)
    return list(found.values())


def _teacher(arm: str, own: str, teacher: str) -> str:
    """The teacher of a cell; arms without one have that of the family."""
    return teacher if ARMS[arm].taught else own


def tuned_arms(chosen: Sequence[Cell]) -> list[str]:
    """Return the arms whose values are to be tuned for these cells, bases first."""
    names = dict.fromkeys(BASES)
    for cell in chosen:
        if cell.of.tuned_as is None and cell.arm != "before":
            names[cell.arm] = None
        elif cell.of.tuned_as is not None:
            names[cell.of.tuned_as] = None
    return list(names)


def values(protocol: Protocol, arm: str) -> tuple[float, ...]:
    """Return the values that are tried of an arm."""
    tuning = protocol.tuning
    return tuning.rates if arm in BASES else tuning.shares


def tuning_family(protocol: Protocol, arm: str) -> str:
    """Return the family on which an arm is tuned."""
    tuning = protocol.tuning
    return tuning.same_tokens_family if ARMS[arm].same_tokens else tuning.family


def best(rows: Iterable[Row], arm: str) -> float:
    """Return the tuned value of an arm: of the best score, the smallest."""
    tried = [row for row in rows if row["arm"] == arm]
    if not tried:
        raise ValueError(f"{arm} must be tuned before it is run, but is not: tune it.")
    found = max(tried, key=lambda row: (row["accuracy"], -row["value"]))
    return float(found["value"])


def base(arm: Arm) -> str:
    """Return the arm whose learning rate an arm has: that of the same data."""
    return "sequence" if arm.answers else "labels"
