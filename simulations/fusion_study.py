"""Does a loss between graphs on logits help a student, and what does?

Tiny teachers that know families of questions, a student of another architecture with
few labels, and some forty ways to learn from both. What is run is in a YAML file:
sizes, tuning, families, arms and seeds (``simulations/study/protocol.yaml``); the arms
are described in ``simulations/study/arms.py``, the questions in
``simulations/study/tasks.py``.

    python -m simulations.fusion_study --out DIR [--config FILE] [--budget HOURS]
        [--jobs N] [--stages NAME ...] [--work DIR] [--quick]

Studies of language models on this machine are configurations, too
(``simulations/study/gemma.yaml``, ``simulations/study/taught.yaml``;
`simulations.study.language_models` says what they do and write):

    python -m simulations.fusion_study --out DIR --config FILE --models DIR
        [--work DIR] [--quick] [--seed S]

Every cell (family, arm, seed, teacher) is a row of cells.csv as soon as it is finished;
a run that was interrupted or killed goes on behind them. ``--budget`` is of all hours
of one core that cells, tuning and teachers have cost, of earlier runs too. Writes
teachers.csv, calibration.csv, tuning.csv, cells.csv, history.csv, distances.csv,
points.csv, choices.csv, summary.csv, meta.json, fusion_study.md and figures.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from simulations import _processes
from simulations import _report as report
from simulations._report import Row
from simulations.study import (
    cells,
    figures,
    language_models,
    measures,
    plans,
    protocol,
    statistics,
    tables,
    tasks,
)
from simulations.study.arms import ARMS
from simulations.study.cells import Chosen, Place
from simulations.study.measures import TEACHERS
from simulations.study.protocol import Cell, Protocol

CONFIG = Path(__file__).parent / "study" / "protocol.yaml"
QUICK = Path(__file__).parent / "study" / "quick.yaml"
VALIDATION = "tuning"  # the stage of cells that choose values
TRANSFER = "transfer"  # the stage of cells with teachers that may not know the family


@dataclass(frozen=True)
class Work:
    """One thing to do in a process: its place, and what is asked for."""

    place: Place
    what: Any


def teach(work: Work) -> list[Row]:
    """Train a teacher and score it."""
    torch.set_num_threads(1)
    return cells.train_teacher(work.place, work.what)


def calibrate(work: Work) -> Row:
    """Measure the gradients of an arm."""
    torch.set_num_threads(1)
    cell, rate = work.what
    return cells.calibrated(work.place, cell, rate)


def try_value(work: Work) -> Row:
    """Score an arm at a value, on validation questions."""
    torch.set_num_threads(1)
    cell, chosen, value = work.what
    row = cells.run(work.place, cell, chosen, "validation")
    return {**row, "value": value}


def run_cell(work: Work) -> Row:
    """Train and score a student."""
    torch.set_num_threads(1)
    cell, chosen = work.what
    return cells.run(work.place, cell, chosen)


def measure(work: Work) -> list[Row]:
    """Measure something beside scores."""
    torch.set_num_threads(1)
    function, arguments = work.what
    rows: list[Row] = function(work.place, *arguments)
    return rows


@dataclass
class Study:
    """What is recorded, and what is still to be run.

    Attributes
    ----------
    place : Place
        Protocol and folder of work.
    folder : Path
        Folder of the results.
    jobs : int
        Processes.
    budget : float
        Hours of one core.
    """

    place: Place
    folder: Path
    jobs: int
    budget: float

    def rows(self, name: str) -> list[Row]:
        """Return the rows of a file of results."""
        return report.resume_rows(self.folder / name)

    def spent(self) -> float:
        """Return the hours of one core that all recorded work has cost."""
        seconds = 0.0
        for name in ("tuning.csv", "cells.csv"):
            for row in self.rows(name):
                seconds += row["seconds"] + row["evaluation_seconds"]
        # Each teacher has a row for every family.
        by_teacher = {
            row["teacher"]: row["seconds"] for row in self.rows("teachers.csv")
        }
        return (seconds + sum(by_teacher.values())) / 3600

    def run(self, stages: Sequence[str]) -> None:
        """Do what is not recorded yet, as far as the budget allows."""
        wanted = [c for c in protocol.cells(self.place.protocol) if c.stage in stages]
        arms = protocol.tuned_arms(wanted)
        asked = [*wanted, *map(self.tuning_cell, arms)]
        others = [arm for arm in arms if arm not in protocol.BASES]
        parts: list[Callable[[], None]] = [
            lambda: self.teach({cell.teacher for cell in asked}),
            # The learning rates of bases come first: all other arms have them.
            lambda: self.tune(protocol.BASES),
            lambda: self.calibrate(others),
            lambda: self.tune(others),
            lambda: self.train(wanted),
            self.measure,
        ]
        for part in parts:
            part()
            if self.spent() >= self.budget:
                return

    def teach(self, names: Any) -> None:
        """Train the teachers that are not recorded or whose weights are not here."""
        recorded = {row["teacher"] for row in self.rows("teachers.csv")}
        pending = []
        for name in sorted(names):
            known = (self.place.work / "teachers" / name).exists()
            if name not in recorded or not known:
                pending.append(Work(self.place, name))
        for rows in _processes.results(teach, pending, self.jobs):
            for row in rows:
                print(f"{row['teacher']} on {row['family']}: {row['accuracy']:.1%}")
                if row["teacher"] not in recorded:
                    report.append_row(self.folder / "teachers.csv", row)

    def tune(self, arms: Sequence[str]) -> None:
        """Try the values of arms."""
        tried = {(row["arm"], row["value"]) for row in self.rows("tuning.csv")}
        pending = []
        for arm in arms:
            for value in protocol.values(self.place.protocol, arm):
                if (arm, value) not in tried:
                    pending.append((self.tuning_cell(arm), self.at(arm, value), value))
        self.finish(try_value, pending, "tuning.csv")

    def calibrate(self, arms: Sequence[str]) -> None:
        """Measure the gradients of arms."""
        known = {row["arm"] for row in self.rows("calibration.csv")}
        pending = []
        for arm in arms:
            if arm not in known:
                cell = self.tuning_cell(arm)
                pending.append((cell, self.rate(arm)))
        self.finish(calibrate, pending, "calibration.csv")

    def train(self, wanted: Sequence[Cell]) -> None:
        """Train and score the students that are not recorded."""
        recorded = {_key(row) for row in self.rows("cells.csv")}
        pending = []
        for cell in wanted:
            if cell.key not in recorded:
                pending.append((cell, self.chosen(cell)))
        self.finish(run_cell, pending, "cells.csv")

    def measure(self) -> None:
        """Measure losses over steps, between models, and on single examples."""
        plan = self.place.protocol
        names = {row["teacher"] for row in self.rows("teachers.csv")}
        if not names.issuperset(TEACHERS):
            return
        rate = self.rate("labels")
        for name, pending in {
            "history.csv": self.histories(),
            "distances.csv": [(measures.distances, (f, rate)) for f in plan.families()],
            "points.csv": [(measures.points, (f, rate)) for f in plan.families("byte")],
            "choices.csv": [(measures.choices, (f,)) for f in plan.families()],
        }.items():
            if not (self.folder / name).exists():
                items = [Work(self.place, what) for what in pending]
                rows: list[Row] = []
                for found in _processes.results(measure, items, self.jobs):
                    rows += found
                report.write_rows(self.folder / name, rows)

    def histories(self) -> list[Any]:
        """Return the students whose losses are followed, each with its arm's factors.

        All have both losses, next to nothing where the arm has not, so that each is
        logged.
        """
        family = tables.PRIMARY_FAMILIES[0]
        teacher = tasks.FAMILIES[family].teacher
        both = Cell("history", family, "uld_gld", 0, teacher)
        pending = []
        for arm in figures.DRAWN_ARMS:
            chosen = self.chosen(both._replace(arm=arm))
            followed = [max(factor, cells.UNFOLLOWED) for factor in chosen.factors]
            chosen = replace(chosen, factors=cells.Factors(*followed))
            pending.append((measures.history, (both, chosen, arm)))
        return pending

    def finish(
        self, function: Callable[[Work], Row], pending: Sequence[Any], name: str
    ) -> None:
        """Do what is pending while there is budget, and record each row."""
        if not pending:
            return
        items = [Work(self.place, what) for what in pending]
        with tqdm(total=len(items), desc=name, unit="cell", disable=None) as bar:
            for row in self.within_budget(function, items):
                report.append_row(self.folder / name, row)
                bar.update()

    def within_budget(
        self, function: Callable[[Work], Row], items: Sequence[Work]
    ) -> Iterator[Row]:
        """Yield results until the budget is spent."""
        spent = self.spent()
        if spent >= self.budget:
            return
        for row in _processes.results(function, items, self.jobs):
            yield row
            spent += (row.get("seconds", 0) + row.get("evaluation_seconds", 0)) / 3600
            if spent >= self.budget:
                return

    def tuning_cell(self, arm: str) -> Cell:
        """Return the cell on which an arm is tuned."""
        family = protocol.tuning_family(self.place.protocol, arm)
        teacher = tasks.FAMILIES[family].teacher
        return Cell(VALIDATION, family, arm, self.place.protocol.tuning.seed, teacher)

    def rate(self, arm: str) -> float:
        """Return the learning rate of an arm: that of the base with its data."""
        base = protocol.base(protocol.ARMS[arm])
        return protocol.best(self.rows("tuning.csv"), base)

    def at(self, arm: str, value: float) -> Chosen:
        """Return what an arm learns with at a value that is tried of it."""
        if arm in protocol.BASES:
            return Chosen(value)
        return Chosen(self.rate(arm), self.factors(arm, value))

    def chosen(self, cell: Cell) -> Chosen:
        """Return what a cell learns with: tuned, or as the arm that it controls."""
        if cell.arm == "before":
            return Chosen(0.0)
        rate = self.rate(cell.arm)
        if not cell.of.fused:
            return Chosen(rate)
        tuned = cells.tuned_arm(cell.arm)
        share = protocol.best(self.rows("tuning.csv"), tuned)
        return Chosen(rate, self.factors(cell.arm, share))

    def factors(self, arm: str, share: float) -> cells.Factors:
        """Return the factors of an arm's losses at a share."""
        tuned = cells.tuned_arm(arm)
        rows = {row["arm"]: row for row in self.rows("calibration.csv")}
        return cells.factors(protocol.ARMS[arm], share, rows[tuned])


def _key(row: Row) -> tuple[Any, ...]:
    """What identifies a cell, of its row."""
    return row["family"], row["arm"], row["seed"], row["teacher"]


def main(argv: Sequence[str] | None = None) -> int:
    parser = report.command_line(__doc__)
    parser.add_argument("--config", type=Path, help="YAML file of what is run")
    parser.add_argument(
        "--budget", type=float, default=8.0, help="hours of one core, of all runs"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--stages", nargs="+", help="stages to run (default: all)")
    parser.add_argument(
        "--work",
        type=Path,
        help="folder of teachers and of what they say (default: OUT/work)",
    )
    parser.add_argument(
        "--models", type=Path, help="folder of the language models of a configuration"
    )
    arguments = parser.parse_args(argv)
    arguments.config = arguments.config or (QUICK if arguments.quick else CONFIG)
    if plans.is_plan(arguments.config):
        return language_models.study(arguments)
    return study(arguments)


def study(arguments: Namespace) -> int:
    """Run and publish the protocol of a command line."""
    plan: Protocol = protocol.read(arguments.config)
    stages = arguments.stages or list(plan.stages)
    folder = report.results_folder(arguments)
    work = arguments.work or folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    (work / ".gitignore").write_text("*\n")
    packages = {name: version(name) for name in ("torch", "transformers", "tokenizers")}
    facts = {**plan.facts(), "versions": report.versions() | packages}
    # As JSON gives them back: lists, not tuples.
    report.claim(folder, json.loads(json.dumps(facts)))
    study = Study(Place(plan, work), folder, arguments.jobs, arguments.budget)
    return report.run_and_publish(
        folder, lambda: study.run(stages), lambda path: publish(path, plan)
    )


def publish(folder: Path, plan: Protocol) -> None:
    """Write tables and figures of what is recorded."""
    rows = report.resume_rows(folder / "cells.csv")
    if not rows:
        print("No cell is recorded yet.")
        return
    teachers = report.resume_rows(folder / "teachers.csv")
    tuned = report.resume_rows(folder / "tuning.csv")
    every = [cell._asdict() for cell in protocol.cells(plan)]
    planned = [cell for cell in every if cell["stage"] != TRANSFER]
    words = {name: arm.words for name, arm in ARMS.items()}
    gains = tables.gain_rows(rows, planned)
    report.write_rows(folder / "summary.csv", gains)
    text = "\n\n".join(
        [
            "# The fusion study",
            "## Teachers, and the student before",
            tables.teachers_table(rows, teachers),
            "## The primary comparison",
            tables.primary_table(rows, planned, words),
            "## What each arm adds",
            tables.gain_table(gains, rows, planned, words),
            "## Accuracy by family",
            tables.accuracy_table(rows, teachers, planned, words),
            "## Tuning",
            tables.tuning_table(tuned, words),
            "## Costs",
            tables.cost_table([*tuned, *rows], teachers),
        ]
    )
    if choices := report.resume_rows(folder / "choices.csv"):
        text += f"\n\n## Whom a report chooses\n\n{tables.choices_table(choices)}"
    (folder / "fusion_study.md").write_text(f"{text}\n", encoding="utf-8")
    draw(folder)
    print(text, f"Written to {folder}.", sep="\n\n")


def draw(folder: Path) -> None:
    """Draw what is recorded: gains, and what is measured beside scores."""
    rows = report.read_rows(folder / "cells.csv")
    gains = report.read_rows(folder / "summary.csv")
    words = {name: arm.words for name, arm in ARMS.items()}
    figures.bars_with_intervals(gains, words).savefig(folder / "gains.png")
    if history := report.resume_rows(folder / "history.csv"):
        family = history[0]["family"]
        drawn = figures.losses_over_steps(history, family, words=words)
        drawn.savefig(folder / "losses_over_steps.png")
    if points := report.resume_rows(folder / "points.csv"):
        figures.gld_against_kl(points).savefig(folder / "gld_against_kl.png")
    if distances := report.resume_rows(folder / "distances.csv"):
        of_student = [row for row in distances if row["other"] == "student"]
        gains = statistics.transfer_gains(rows, "uld_gld", "labels")
        drawn = figures.distance_against_transfer(of_student, gains)
        drawn.savefig(folder / "distance_against_transfer.png")


if __name__ == "__main__":
    sys.exit(main())
