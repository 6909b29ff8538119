"""What is measured of losses beside scores: over steps, and between models.

"history": every term of the loss and its gradient over the steps of a few arms.
"distances": how far the logits of the student that learnt the labels alone are from
each teacher's, and those of the teachers from each other, in ULD and in GLD.
"points": GLD against KL on single examples.
"choices": which teachers a report chooses on questions whose answers are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fusion.teachers.capture import capture
from fusion.teachers.choice import chosen
from fusion.teachers.report import report
from fusion.teachers.store import TeacherStore
from fusion.text.conversations import Example
from simulations._report import Row
from simulations.study import cells, models, tasks
from simulations.study.cells import NOTHING, Chosen, Place
from simulations.study.protocol import Cell
from simulations.tiny_models import Pair

TEACHERS = ("byte", "bpe", "packed")
QUESTIONS = 200  # whose logits are compared
POINTS = 60  # of a family
_LOGGED = {"sft": "sft", "uld": "uld", "graph": "graph"}


def history(place: Place, cell: Cell, factors: Chosen, name: str) -> list[Row]:
    """Train a cell's student, and return its terms and their gradients over the steps.

    Parameters
    ----------
    place : Place
        Protocol and folder.
    cell : Cell
        Which student; its arm has ULD and GLD.
    factors : Chosen
        Learning rate and factors, which may be next to nothing.
    name : str
        Of the arm, in the rows.
    """
    steps = place.protocol.steps
    pair = models.student(cell.seed)
    trainer = cells.prepared(
        place,
        cell,
        factors,
        pair,
        logging_steps=max(1, steps // 20),
        log_term_gradients=True,
    )
    trainer.train()
    rows = []
    for logged in trainer.state.log_history:
        if "sft" in logged:
            rows.append(
                {
                    "family": cell.family,
                    "arm": name,
                    "seed": cell.seed,
                    "step": logged["step"],
                    **{term: logged[term] for term in _LOGGED},
                    "gradient_sft": logged["gradient/sft"],
                    "gradient_uld": logged.get("gradient/uld/teacher", NOTHING),
                    "gradient_graph": logged.get("gradient/graph/teacher", NOTHING),
                }
            )
    return rows


def distances(place: Place, family: str, rate: float) -> list[Row]:
    """Compare the student of the labels alone and the teachers on a family.

    The texts are unlabelled questions with their right answers.
    """
    asked = _texts(family)
    own = tasks.FAMILIES[family].teacher
    cell = Cell("distances", family, "labels", 0, own)
    student, _, _ = cells.student(place, cell, Chosen(rate))
    stores = {name: _store(place, family, name, asked) for name in TEACHERS}
    compared = {"student": student}
    compared |= {name: cells.teacher(place, name) for name in TEACHERS}
    rows = []
    for name, pair in compared.items():
        found = _evaluated(place, pair, asked, stores)
        for other in TEACHERS:
            if other != name:
                rows.append(
                    {
                        "family": family,
                        "teacher": other,
                        "other": name,
                        "distance": found[f"eval_graph/{other}"],
                        "uld": found[f"eval_uld/{other}"],
                    }
                )
    return rows


def points(place: Place, family: str, rate: float) -> list[Row]:
    """Return GLD and KL of single examples, of a teacher with the student's tokens."""
    asked = _texts(family)
    cell = Cell("points", family, "labels", 0, "byte")
    student, _, _ = cells.student(place, cell, Chosen(rate))
    stores = {"byte": _store(place, family, "byte", asked)}
    rows = []
    for example in asked[:POINTS]:
        found = _evaluated(place, student, [example], stores, alignment="kl")
        rows.append(
            {
                "family": family,
                "kl": found["eval_kl"],
                "gld": found["eval_graph"],
            }
        )
    return rows


def choices(place: Place, family: str) -> list[Row]:
    """Return how likely each teacher holds right answers, and whom a report chooses."""
    asked = _texts(family)
    stores = {name: _store(place, family, name, asked) for name in TEACHERS}
    found = report(stores, asked)
    kept = chosen(found)[family]
    rows = []
    for line in found.knowledge:
        rows.append(
            {
                "family": family,
                "teacher": line.teacher,
                "nll": line.nll,
                "hits": line.hits,
                "knows": int(line.teacher == tasks.FAMILIES[family].teacher),
                "chosen": int(line.teacher in kept),
            }
        )
    return rows


def _texts(family: str) -> list[Example]:
    """Unlabelled questions of seed 0 with their right answers."""
    unlabelled = tasks.split(tasks.FAMILIES[family], 0).unlabelled[:QUESTIONS]
    return [models.example(question, family) for question in unlabelled]


def _store(
    place: Place, family: str, teacher: str, examples: Sequence[Example]
) -> TeacherStore:
    """Return a teacher's logits for texts of a family."""
    path = place.work / "said" / f"{family}-{teacher}-compared"
    if not path.exists():
        pair = cells.teacher(place, teacher)
        with cells.made(path) as folder, cells.quiet():
            capture(
                pair.model,
                pair.tokenizer,
                examples,
                folder / "store",
                k=place.protocol.k,
                batch_size=64,
                progress=False,
            )
    return TeacherStore(path / "store")


def _evaluated(
    place: Place,
    pair: Pair,
    examples: Sequence[Example],
    stores: Any,
    **settings: Any,
) -> dict[str, float]:
    """Losses of a model on texts, beside each of the stores."""
    common = {
        "k": place.protocol.k,
        "standardize": "none",
        "per_device_eval_batch_size": 64,
        "fusion_weight": 0.5,
        "graph": "row_means",
    }
    trainer = cells.trainer(pair, None, common | settings, stores, held_out=examples)
    with cells.quiet():
        found: dict[str, float] = trainer.evaluate()
    return found
