"""One cell of the study: a teacher's logits and answers, a student, and its score.

Everything is determined by the protocol and the cell's seed. What teachers say is kept
in a folder for all cells of a family and a seed; it is written under another name and
then renamed, so that two processes may make it at once and none reads half of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from fusion.losses.graphs import KINDS
from fusion.tasks import Problem
from fusion.teachers.capture import capture
from fusion.teachers.live import LiveTeacher
from fusion.teachers.store import TeacherStore
from fusion.text.conversations import Example
from fusion.training.config import FusionConfig
from fusion.training.trainer import FusionTrainer
from simulations._report import Row
from simulations.study import graphs, models, tasks
from simulations.study.arms import ARMS, Arm
from simulations.study.protocol import Cell, Protocol
from simulations.tiny_models import Pair

NOTHING = float("nan")
# Weight of teachers' losses where their gradients are measured and not followed.
UNFOLLOWED = 1e-9
TERMS = ("sft", "uld", "graph")
LONGEST = 32  # tokens of an answer; the longest work has 24


class Factors(NamedTuple):
    """Factors a and g of an arm's losses, 0 where it has none."""

    token: float
    graph: float


NONE = Factors(0.0, 0.0)


@dataclass(frozen=True)
class Chosen:
    """What tuning chose for a cell.

    Attributes
    ----------
    rate : float
        Learning rate.
    factors : Factors
        Of its losses.
    """

    rate: float
    factors: Factors = NONE


class Own(NamedTuple):
    """What a student answers itself, and the teacher that scores it."""

    teacher: LiveTeacher
    problems: list[Problem]


@dataclass(frozen=True)
class Place:
    """Where a study works, and by which protocol."""

    protocol: Protocol
    work: Path


def teacher(place: Place, name: str) -> Pair:
    """Load a trained teacher."""
    return _loaded(place.work / "teachers" / name, name)


@lru_cache(maxsize=4)
def _loaded(folder: Path, name: str) -> Pair:
    """Load a teacher once."""
    fresh = models.teacher(name, seed=0)
    found = type(fresh.model).from_pretrained(folder)
    return Pair(found.eval(), fresh.tokenizer)


def train_teacher(place: Place, name: str) -> list[Row]:
    """Train a teacher on the questions of its families, and score it on all families.

    The questions of tests and validations are none of those that it learns.
    """
    protocol = place.protocol
    learnt: list[Example] = []
    for family in tasks.FAMILIES.values():
        if family.teacher == name:
            for question in tasks.parts(family).rest[: protocol.teacher_questions]:
                learnt.append(models.example(question, family.name))
    pair = models.teacher(name, seed=0)
    start = time.process_time()
    settings = {
        "max_steps": protocol.teacher_steps[name],
        "per_device_train_batch_size": protocol.teacher_batch,
        "learning_rate": protocol.teacher_rate,
    }
    _train(pair, learnt, settings)
    seconds = time.process_time() - start
    rows = []
    for family in tasks.FAMILIES.values():
        questions = tasks.parts(family).test[: protocol.questions]
        scored = _scored(pair, questions, family.name)
        rows.append({"teacher": name, **scored, "seconds": seconds})
    with made(place.work / "teachers" / name) as folder:
        pair.model.save_pretrained(folder)
    return rows


def run(place: Place, cell: Cell, chosen: Chosen, questions: str = "test") -> Row:
    """Train and score the student of a cell.

    Parameters
    ----------
    place : Place
        Protocol and folder.
    cell : Cell
        Which student.
    chosen : Chosen
        Its learning rate and factors.
    questions : {"test", "validation"}
        What it is asked.
    """
    pair, terms, seconds = student(place, cell, chosen)
    family = tasks.FAMILIES[cell.family]
    asked = getattr(tasks.split(family, cell.seed), questions)
    start = time.process_time()
    scored = _scored(pair, asked[: place.protocol.questions], cell.family)
    return {
        **cell._asdict(),
        **scored,
        "seconds": seconds,
        "evaluation_seconds": time.process_time() - start,
        "steps": place.protocol.steps * cell.of.longer if cell.arm != "before" else 0,
        "rate": chosen.rate,
        "token_factor": chosen.factors.token,
        "graph_factor": chosen.factors.graph,
        **terms,
    }


def student(
    place: Place, cell: Cell, chosen: Chosen
) -> tuple[Pair, dict[str, float], float]:
    """Train the student of a cell; return it, its last terms, and the seconds."""
    pair = models.student(cell.seed)
    if cell.arm == "before":
        return pair, dict.fromkeys(TERMS, NOTHING), 0.0
    start = time.process_time()
    taught = prepared(place, cell, chosen, pair)
    taught.train()
    seconds = time.process_time() - start
    return pair, _last_terms(taught.state.log_history, cell.of), seconds


def prepared(
    place: Place,
    cell: Cell,
    chosen: Chosen,
    pair: Pair,
    **settings: Any,
) -> FusionTrainer:
    """Make the trainer of a cell's student; settings replace those of the protocol."""
    protocol = place.protocol
    steps = protocol.steps * cell.of.longer
    own = {
        "max_steps": steps,
        "per_device_train_batch_size": protocol.batch,
        "learning_rate": chosen.rate,
        "seed": cell.seed,
        "logging_strategy": "steps",
        "logging_steps": steps,
        "k": protocol.k,
    }
    examples = learnt(place, cell)
    if not cell.of.fused:
        return trainer(pair, examples, own | settings)
    own |= _losses(cell.of, chosen.factors)
    if cell.of.own:
        return trainer(pair, examples, own | settings, own=asked_itself(place, cell))
    stores: Any = {"teacher": store(place, cell)}
    if cell.of.shuffled:
        keys = [asked.key for asked in examples]
        stores = {"teacher": Shuffled(stores["teacher"], keys, cell.seed)}
    graph = None
    if cell.of.graph is not None and cell.of.graph not in KINDS:
        other = models.tokenizer(cell.teacher)
        graph = graphs.losses(pair.tokenizer, other)[str(cell.of.graph)]
    return trainer(pair, examples, own | settings, stores, graph)


def _losses(arm: Arm, factors: Factors) -> dict[str, Any]:
    """Return the settings of an arm's losses: SFT + a · A + g · G, up to a half."""
    known = arm.graph if arm.graph in KINDS else None
    return {
        "fusion_weight": 0.5,
        "alignment": arm.token or "uld",
        "uld_weight": factors.token,
        "graph": known,
        "graph_weight": factors.graph,
        "on_policy": arm.own,
        "on_policy_length": LONGEST,
        **arm.settings,
    }


def asked_itself(place: Place, cell: Cell) -> Own:
    """Return the questions that a cell's student answers itself, and who scores it."""
    family = tasks.FAMILIES[cell.family]
    asked = tasks.split(family, cell.seed).unlabelled[: place.protocol.unlabelled]
    pair = teacher(place, cell.teacher)
    live = LiveTeacher(pair.model, pair.tokenizer, place.protocol.k)
    return Own(live, [models.problem(question, cell.family) for question in asked])


def learnt(place: Place, cell: Cell) -> list[Example]:
    """Return the examples that a cell's student learns."""
    family = tasks.FAMILIES[cell.family]
    parts = tasks.split(family, cell.seed)
    found: list[Example] = []
    if cell.of.labels:
        found += [models.example(question, cell.family) for question in parts.labelled]
    if cell.of.answers:
        found += answered(place, cell)
    return found


def answered(place: Place, cell: Cell) -> list[Example]:
    """Return the unlabelled questions with the teacher's own answers to them."""
    family = tasks.FAMILIES[cell.family]
    unlabelled = tasks.split(family, cell.seed).unlabelled
    asked = unlabelled[: place.protocol.unlabelled]
    path = _said(place, cell) / "answers" / "texts.json"
    if not path.exists():
        pair = teacher(place, cell.teacher)
        texts = models.answers(pair, asked, LONGEST)
        with made(path.parent) as folder:
            (folder / path.name).write_text(json.dumps(texts), encoding="utf-8")
    found = []
    for question, text in zip(asked, json.loads(path.read_text()), strict=True):
        # A text without a character is no completion.
        if text.strip():
            given = tasks.Question(question.prompt, text, question.answer)
            found.append(models.example(given, cell.family))
    return found


def store(place: Place, cell: Cell) -> TeacherStore:
    """Return the teacher's logits for what the cell's student learns."""
    kind = "labels" * cell.of.labels + "answers" * cell.of.answers
    path = _said(place, cell) / f"store-{kind}"
    if not path.exists():
        pair = teacher(place, cell.teacher)
        k = place.protocol.k
        examples = learnt(place, cell)
        with made(path) as folder, quiet():
            capture(
                pair.model,
                pair.tokenizer,
                examples,
                folder / "store",
                k=k,
                batch_size=64,
                progress=False,
            )
    return TeacherStore(path / "store")


def _said(place: Place, cell: Cell) -> Path:
    """Folder of what a teacher says of a family's questions under a seed."""
    name = f"{cell.family}-{cell.seed}-{cell.teacher}"
    return place.work / "said" / name


class Shuffled:
    """A store that gives the rows of another example, by a derangement of its keys.

    Parameters
    ----------
    store : TeacherStore
        The store.
    keys : sequence of str
        Of its examples.
    seed : int
        Of the order of which each key is given the next one's rows.
    """

    def __init__(self, store: TeacherStore, keys: Sequence[str], seed: int) -> None:
        self._store = store
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(keys), generator=generator).tolist()
        self._other = {}
        for place, following in zip(order, order[1:] + order[:1], strict=True):
            self._other[keys[place]] = keys[following]

    def __contains__(self, key: object) -> bool:
        return key in self._store

    def __getitem__(self, key: str) -> Any:
        return self._store[self._other[key]]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def calibrated(place: Place, cell: Cell, rate: float) -> Row:
    """Measure the gradients of a cell's losses, relative to that of SFT.

    The student learns by SFT alone over the first steps; norms are of the gradients
    with respect to its logits, averaged over the steps.
    """
    pair = models.student(cell.seed)
    chosen = Chosen(rate, Factors(UNFOLLOWED, UNFOLLOWED))
    steps = place.protocol.tuning.calibration_steps
    taught = prepared(
        place,
        cell,
        chosen,
        pair,
        max_steps=steps,
        logging_steps=steps,
        log_term_gradients=True,
    )
    taught.train()
    logged = next(row for row in taught.state.log_history if "gradient/sft" in row)
    prefix = "own_" if cell.of.own else ""
    token = logged.get(f"{prefix}gradient/{cell.of.token}/teacher", NOTHING)
    graph = logged.get("gradient/graph/teacher", NOTHING)
    return {
        "arm": cell.arm,
        "gradient_sft": logged["gradient/sft"],
        "gradient_token": token,
        "gradient_graph": graph,
    }


def factors(arm: Arm, share: float, measured: Mapping[str, float]) -> Factors:
    """Return the factors at which the losses of an arm have the share ρ together."""
    count = (arm.token is not None) + (arm.graph is not None)
    of_each = share * measured["gradient_sft"] / max(1, count)
    token = graph = 0.0
    if arm.token is not None:
        token = of_each / measured["gradient_token"]
    if arm.graph is not None:
        graph = of_each / measured["gradient_graph"]
    if arm.factors == "one":
        # Both by the same number, at which their sum has about the share.
        norm = measured["gradient_token"] + measured["gradient_graph"]
        token = graph = share * measured["gradient_sft"] / norm
    return Factors(token, graph)


def tuned_arm(name: str) -> str:
    """Return the arm whose values an arm takes."""
    return ARMS[name].tuned_as or name


def _last_terms(history: Sequence[Row], arm: Arm) -> dict[str, float]:
    """Means of the terms over all steps, as the trainer logged them at the end."""
    logged = next((row for row in history[::-1] if "sft" in row), {})
    token = ("own_" if arm.own else "") + (arm.token or "uld")
    return {
        "sft": logged.get("sft", NOTHING),
        "uld": logged.get(token, NOTHING) if arm.fused else NOTHING,
        "graph": logged.get("graph", NOTHING) if arm.graph else NOTHING,
    }


def _scored(pair: Pair, questions: Sequence[tasks.Question], family: str) -> Row:
    """Ask a model, and score its answers to a family's questions."""
    texts = models.answers(pair, questions, LONGEST)
    score = models.accuracy(texts, questions, tasks.FAMILIES[family])
    return {
        "family": family,
        "accuracy": score.accuracy,
        "problems": score.problems,
        "unextracted": score.unextracted,
        "majority": score.majority,
        "chance": score.chance,
    }


def _train(
    pair: Pair, examples: Sequence[Example], settings: Mapping[str, Any]
) -> None:
    """Train a model on examples alone."""
    trainer(pair, examples, {"logging_strategy": "no", **settings}).train()


def trainer(
    pair: Pair,
    examples: Sequence[Example] | None,
    settings: Mapping[str, Any],
    stores: Mapping[str, Any] | None = None,
    graph: Any = None,
    held_out: Sequence[Example] | None = None,
    own: Own | None = None,
) -> FusionTrainer:
    """Make a trainer that writes nothing."""
    common = {
        "output_dir": str(Path(tempfile.gettempdir()) / "fusion-study"),
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "log_level": "error",
        "lr_scheduler_type": "cosine",
        "warmup_steps": 20,
        "weight_decay": 0.01,
        "dataloader_pin_memory": False,
        "fusion_weight": 0.0,
    }
    args = FusionConfig(**common | dict(settings))
    return _Quiet(
        pair.model,
        args,
        examples,
        held_out,
        processing_class=pair.tokenizer,
        stores=stores or {},
        live_teachers={} if own is None else {"teacher": own.teacher},
        prompts=None if own is None else own.problems,
        graph=graph,
        # Graphs of one's own see whole rows.
        student_k=None if graph is None else len(pair.tokenizer),
    )


class _Quiet(FusionTrainer):
    """A trainer that prints nothing."""

    def train(self, *args: Any, **kwargs: Any) -> Any:
        with quiet():
            return super().train(*args, **kwargs)


@contextlib.contextmanager
def quiet() -> Any:
    """Keep what trainers print out of the tables, and their warnings."""
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        warnings.catch_warnings(),
    ):
        # Of degenerate graphs: they are among the arms.
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def made(path: Path) -> Any:
    """Make a folder whole: under another name, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as name:
        folder = Path(name) / path.name
        folder.mkdir()
        yield folder
        # Another process may have been faster, with the same content.
        with contextlib.suppress(OSError):
            folder.rename(path)
