"""A teacher's own answers to prompts, checked and kept as data to train on.

Training on them is sequence-level distillation (Kim and Rush 2016).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fusion import _check
from fusion.evaluate import Written, extract, write
from fusion.fingerprints import (
    model_fingerprint,
    template_fingerprint,
    tokenizer_fingerprint,
)
from fusion.tasks import Problem
from fusion.teachers.manifests import write_atomically
from fusion.text.messages import Example, sha256

Keep = Literal["ended", "solved"]
KEEP = get_args(Keep)


@dataclass(frozen=True)
class Answers:
    """How many prompts were answered, and how many of the answers are kept.

    Attributes
    ----------
    asked, kept : int
        Prompts, and answers that were written to the file.
    cut_off : int
        Answers that the model had not ended.
    empty : int
        Answers of white space alone.
    wrong : int
        Of the others, those that are not the right one; 0 where all are kept.
    """

    asked: int
    kept: int
    cut_off: int
    empty: int
    wrong: int

    def __str__(self) -> str:
        """Say it in a line."""
        return (
            f"{self.kept} of {self.asked} answers kept "
            f"({self.cut_off} cut off, {self.empty} empty, {self.wrong} wrong)"
        )


class _Answered(NamedTuple):
    """A problem, and what a teacher wrote."""

    problem: Problem
    text: str
    ended: bool


def generate_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    path: str | Path,
    *,
    keep: Keep = "ended",
    max_new_tokens: int = 256,
    batch_size: int = 8,
) -> Answers:
    """Let a teacher answer prompts greedily, and write what it says as JSONL.

    An interrupted run goes on from the last whole batch, which it keeps in the file
    with ``.partial`` behind its name, and ends with the same data.

    Parameters
    ----------
    model : PreTrainedModel
        The teacher, on the device to run on.
    tokenizer : PreTrainedTokenizerBase
        Its tokenizer.
    problems : sequence of Problem
        What to ask, as of `fusion.tasks.read_prompts`.
    path : path
        The file to write: a row of ``prompt``, ``completion``, ``domain`` and perhaps
        ``tools`` for each answer that is kept, in the order of the prompts.
    keep : {"ended", "solved"}
        Which answers are kept: all that the teacher has ended itself, or those among
        them that state the answer of their problem.
    max_new_tokens : int
        Length at which an answer is cut off.
    batch_size : int
        Prompts a forward pass.

    Returns
    -------
    Answers
        How many are kept, and why others are not.

    Raises
    ------
    ValueError
        If there is no problem, ``keep`` is unknown, or is "solved" while a problem has
        no answer; if there is already such a file, or what an interrupted run left is
        of another model or of other prompts; if no answer is kept, or a prompt cannot
        be rendered or leaves no room for an answer.
    """
    path = Path(path)
    check_asked(problems, path, keep)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    origin = _origin(model, tokenizer, problems, max_new_tokens, batch_size)
    batches = _resumed(partial, origin)
    with partial.open("a", encoding="utf-8") as file:
        for batch in write(
            model, tokenizer, problems, max_new_tokens, batch_size, len(batches)
        ):
            file.write(json.dumps(batch._asdict()) + "\n")
            file.flush()
            batches.append(batch)

    answered = _in_order(problems, batches)
    counts, kept = _checked(answered, keep)
    if not kept:
        raise ValueError(
            f"Some answer must be fit to be kept, but {counts}: raise "
            "max_new_tokens, or choose another teacher, template or keep=ended."
        )
    lines = [json.dumps(_row(one)) + "\n" for one in kept]
    _write(path, lines)
    partial.unlink()
    return counts


def check_asked(problems: Sequence[Problem], path: Path, keep: str) -> None:
    """Require what can be told before a teacher is loaded.

    Raises
    ------
    ValueError
        As of `generate_answers`, of prompts, file and ``keep``.
    """
    _check.choice(keep, "keep", KEEP)
    if not problems:
        raise ValueError("There must be a prompt to answer, but there is none: add it.")
    unknown = [i for i, problem in enumerate(problems, 1) if not problem.answer]
    if keep == "solved" and unknown:
        raise ValueError(
            "Where solved answers alone are kept, every prompt must have `answer`, but "
            f"{len(unknown)} of {len(problems)} have none (the first is number "
            f"{unknown[0]}): add them or use keep=ended."
        )
    if path.exists():
        raise ValueError(
            f"The file to write must be new, but there is a {path}: "
            "delete it or name another."
        )


def _origin(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    max_new_tokens: int,
    batch_size: int,
) -> dict[str, Any]:
    """Say what the answers of a run depend on."""
    asked = [Example(one.prompt, "?", tools=one.tools).key for one in problems]
    return {
        "model": model_fingerprint(model),
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "template": template_fingerprint(tokenizer),
        "prompts": sha256("".join(asked)),
        "max_new_tokens": max_new_tokens,
        "batch_size": batch_size,
    }


def _resumed(partial: Path, origin: dict[str, Any]) -> list[Written]:
    """Return the whole batches of an interrupted run, and cut off what is not."""
    lines = []
    if partial.exists():
        text = partial.read_text(encoding="utf-8")
        # What follows the last end of a line was being written.
        lines = text.splitlines() if text.endswith("\n") else text.splitlines()[:-1]
    header = json.dumps(origin)
    if lines and lines[0] != header:
        raise ValueError(
            f"{partial} must be of the same teacher, prompts and lengths, but is of "
            "other ones: delete it, or ask as before."
        )
    kept = lines or [header]
    _write(partial, [f"{line}\n" for line in kept])
    return [Written(**json.loads(line)) for line in kept[1:]]


def _write(path: Path, lines: Sequence[str]) -> None:
    """Write lines, with their ends, as a file that is whole or not there."""
    # A name of its own: other runs may write to other files of the folder meanwhile.
    write_atomically(path, "".join(lines).encode(), f".{path.name}.writing")


def _in_order(
    problems: Sequence[Problem], batches: Sequence[Written]
) -> Iterator[_Answered]:
    """Yield what was written in the order of the problems."""
    found = {}
    for batch in batches:
        for i, text, ended in zip(*batch, strict=True):
            found[i] = _Answered(problems[i], text, ended)
    for i in range(len(problems)):
        yield found[i]


def _checked(
    answered: Iterator[_Answered], keep: Keep
) -> tuple[Answers, list[_Answered]]:
    """Return the answers that are fit to be learnt, and how many are not, and why."""
    kept = []
    cut_off = empty = wrong = asked = 0
    for one in answered:
        asked += 1
        if not one.ended:
            cut_off += 1
        elif not one.text.strip():
            empty += 1
        elif keep == "solved" and not _solves(one):
            wrong += 1
        else:
            kept.append(one)
    return Answers(asked, len(kept), cut_off, empty, wrong), kept


def _solves(one: _Answered) -> bool:
    """Whether the text states the answer of its problem."""
    found = extract(one.text)
    return found is not None and one.problem.solved_by(found)


def _row(one: _Answered) -> dict[str, Any]:
    """The answer as a row of data to train on, in the form of its prompt."""
    problem = one.problem
    row: dict[str, Any] = {"prompt": problem.prompt, "completion": one.text}
    if not isinstance(problem.prompt, str):
        row["prompt"] = [message.as_dict() for message in problem.prompt]
        row["completion"] = [{"role": "assistant", "content": one.text}]
    if problem.task:
        row["domain"] = problem.task
    if problem.tools:
        row["tools"] = list(problem.tools)
    return row
