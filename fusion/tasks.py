"""Problems with an answer that can be checked: from reasoning-gym by seed, or from JSONL; as examples to learn from too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fusion._extras import needed_by
from fusion.text.conversations import Example, Message, read_examples, read_rows

INSTRUCTION = (
    "Write the final answer, and nothing else, between <answer> and </answer>."
)
_SPEC = "reasoning-gym:"
# Problem i of seed s is problem 0 of seed s + i: without room between them, seeds would
# share nearly all of their problems.
_BETWEEN_SEEDS = 10**6
_UNREPEATABLE = frozenset(
    {"list_functions"}
)  # its answers differ between runs of one seed


@dataclass(frozen=True)
class Problem:
    """A question with its answer.

    Attributes
    ----------
    prompt : str or tuple of Message
        Plain text, or a conversation that the chat template renders.
    answer : str
        The answer looked for.
    task : str
        Where it belongs; scores are by task.
    choices : tuple of str
        All answers one may give, if they are known.
    accepts : callable, optional
        Tells whether another answer is as good; by default none is.
    """

    prompt: str | tuple[Message, ...]
    answer: str
    task: str
    choices: tuple[str, ...] = ()
    accepts: Callable[[str], bool] | None = None

    def example(self) -> Example:
        """Return the problem and its answer as something to learn from."""
        return Example(self.prompt, f"<answer>{self.answer}</answer>", self.task)

    def solved_by(self, answer: str) -> bool:
        """Tell whether the answer is the one looked for, up to case and white space, or one that is as good."""
        return normal(answer) == normal(self.answer) or (
            self.accepts is not None and self.accepts(answer)
        )


def normal(answer: str) -> str:
    """Return the answer without differences of case and white space."""
    return " ".join(answer.split()).casefold()


def reasoning_gym_problems(
    tasks: Sequence[str], size: int, seed: int = 0
) -> list[Problem]:
    """Make problems of several tasks, in turns.

    Parameters
    ----------
    tasks : sequence of str
        Names of reasoning-gym's tasks; without ``list_functions``, which a seed does
        not determine.
    size : int
        Number of problems, of all tasks together.
    seed : int
        The same seed gives the same problems; others give others, but for coincidence.

    Raises
    ------
    ValueError
        If a task is unknown or not reproducible, or ``size`` is not positive.
    ImportError
        If reasoning-gym is not installed.
    """
    with needed_by("fusion.tasks.reasoning_gym_problems"):
        import reasoning_gym

    known = reasoning_gym.factory.DATASETS
    for task in tasks:
        if task not in known or task in _UNREPEATABLE:
            raise ValueError(
                f"tasks must be reproducible tasks of reasoning-gym, but {task!r} is none: leave it out."
            )
    if not tasks or size < 1:
        raise ValueError(
            f"tasks and size must not be empty, but are {list(tasks)} and {size}: ask for a problem."
        )
    each, first = -(-size // len(tasks)), seed * _BETWEEN_SEEDS
    sets = [reasoning_gym.create_dataset(task, size=each, seed=first) for task in tasks]
    return [
        _gym_problem(sets[i % len(sets)], i // len(sets), tasks[i % len(sets)])
        for i in range(size)
    ]


def _gym_problem(dataset: Any, index: int, task: str) -> Problem:
    entry = dataset[index]

    def accepts(answer: str) -> bool:
        return bool(dataset.score_answer(answer=answer, entry=entry) == 1.0)

    return Problem(
        f"{entry['question'].strip()}\n{INSTRUCTION}\n",
        str(entry["answer"]),
        task,
        accepts=accepts,
    )


def read_problems(source: str) -> list[Problem]:
    """Read problems from JSONL or make them: ``reasoning-gym:TASK+TASK:SIZE:SEED``.

    Each line of JSONL has ``prompt`` (text, or a list of ``{"role", "content"}``) and
    ``answer``, and perhaps ``task`` (or ``domain``) and ``choices``.

    Raises
    ------
    ValueError
        If a line or the specification is not of this form.
    """
    if source.startswith(_SPEC):
        return reasoning_gym_problems(*_specified(source))
    return [
        _problem(row, number) for number, row in enumerate(read_rows(source), start=1)
    ]


def read_data(source: str) -> list[Example]:
    """Read examples from JSONL, or make them of problems: ``reasoning-gym:TASK+TASK:SIZE:SEED``."""
    if source.startswith(_SPEC):
        return [problem.example() for problem in read_problems(source)]
    return read_examples(source)


def _specified(source: str) -> tuple[list[str], int, int]:
    parts = source.removeprefix(_SPEC).split(":")
    try:
        tasks, size, seed = [*parts, "0"] if len(parts) == 2 else parts
        return tasks.split("+"), int(size), int(seed)
    except ValueError as error:
        raise ValueError(
            f"Problems must be asked for as {_SPEC}TASK+TASK:SIZE:SEED, but {source!r} is not of this form: correct it."
        ) from error


def _problem(row: Mapping[str, Any], number: int) -> Problem:
    try:
        prompt, answer = row["prompt"], row["answer"]
        if not isinstance(prompt, str):
            prompt = tuple(Message(turn["role"], turn["content"]) for turn in prompt)
        if not prompt or not isinstance(answer, str):
            raise TypeError("prompt must not be empty, and answer must be text")
        return Problem(
            prompt,
            answer,
            str(row.get("task") or row.get("domain") or ""),
            tuple(row.get("choices") or ()),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"Line {number} must be a JSON object with `prompt` and `answer`, but is not "
            f"({type(error).__name__}: {error}): repair or drop it."
        ) from error
