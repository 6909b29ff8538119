"""Problems with an answer that can be checked, from reasoning-gym or from JSONL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fusion._extras import needed_by
from fusion.text.messages import Example, Message
from fusion.text.rows import (
    OnBadRows,
    Turns,
    numbered_rows,
    read_examples,
    read_tools,
    read_turns,
)

# The form that `fusion.evaluate.extract` looks for first.
INSTRUCTION = (
    "Write the final answer, and nothing else, between <answer> and </answer>."
)
SPEC = "reasoning-gym:"
# Problem i of seed s is problem 0 of seed s + i: without room between them, seeds would
# share nearly all of their problems.
_BETWEEN_SEEDS = 10**6
# Tasks whose answers differ between runs of one seed.
_UNREPEATABLE = frozenset({"list_functions"})


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
    tools : tuple of mappings
        Definitions of the tools that a conversation may call.
    """

    prompt: str | tuple[Message, ...]
    answer: str
    task: str
    choices: tuple[str, ...] = ()
    accepts: Callable[[str], bool] | None = None
    tools: tuple[Mapping[str, Any], ...] = ()

    def example(self) -> Example:
        """Return the problem and its answer as something to learn from."""
        # In the form that INSTRUCTION asks for.
        completion = f"<answer>{self.answer}</answer>"
        return Example(self.prompt, completion, domain=self.task, tools=self.tools)

    def solved_by(self, answer: str) -> bool:
        """Tell whether the answer is the one looked for, or one that is as good.

        Case and white space make no difference to the one looked for.
        """
        if normal(answer) == normal(self.answer):
            return True
        return self.accepts is not None and self.accepts(answer)


def normal(answer: str) -> str:
    """Return the answer without differences of case and white space."""
    words = answer.split()
    return " ".join(words).casefold()


def reasoning_gym_problems(
    tasks: Sequence[str],
    size: int,
    seed: int = 0,
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

    Returns
    -------
    list of Problem
        Problem i is of task i modulo the number of tasks.

    Raises
    ------
    ValueError
        If a task is unknown or not reproducible, there is no task, or ``size`` is not
        positive.
    ImportError
        If reasoning-gym is not installed.
    """
    with needed_by("fusion.tasks.reasoning_gym_problems"):
        import reasoning_gym

    known = reasoning_gym.factory.DATASETS
    for task in tasks:
        if task not in known or task in _UNREPEATABLE:
            raise ValueError(
                "tasks must be reproducible tasks of reasoning-gym, "
                f"but {task!r} is none: leave it out."
            )
    if not tasks or size < 1:
        raise ValueError(
            "tasks and size must not be empty, "
            f"but are {list(tasks)} and {size}: ask for a problem."
        )

    per_task = -(-size // len(tasks))  # rounded up
    first_seed = seed * _BETWEEN_SEEDS
    datasets = []
    for task in tasks:
        dataset = reasoning_gym.create_dataset(task, size=per_task, seed=first_seed)
        datasets.append(dataset)

    problems = []
    for i in range(size):
        # In turns: a prefix of the list has as many problems of each task.
        turn, place = divmod(i, len(tasks))
        problem = _gym_problem(datasets[place], turn, tasks[place])
        problems.append(problem)
    return problems


def _gym_problem(dataset: Any, index: int, task: str) -> Problem:
    """One problem of a data set of reasoning-gym, whose checker accepts answers."""
    entry = dataset[index]

    def accepts(answer: str) -> bool:
        # Answers in another form may score between 0 and 1: they are not solutions.
        score = dataset.score_answer(answer=answer, entry=entry)
        return bool(score == 1.0)

    question = entry["question"].strip()
    return Problem(
        prompt=f"{question}\n{INSTRUCTION}\n",
        answer=str(entry["answer"]),
        task=task,
        accepts=accepts,
    )


def read_problems(source: str) -> list[Problem]:
    """Read problems from JSONL or make them: ``reasoning-gym:TASK+TASK:SIZE:SEED``.

    Each line of JSONL has ``prompt`` (text, or a list of ``{"role", "content"}``) and
    ``answer``, and perhaps ``task`` (or ``domain``), ``choices`` (a list of texts) and
    ``tools`` (a list of definitions). Blank lines are skipped.

    Parameters
    ----------
    source : str
        A file of JSONL, or the specification; SEED is 0 by default.

    Raises
    ------
    ValueError
        If a line or the specification is not of this form.
    """
    if source.startswith(SPEC):
        tasks, size, seed = _specified(source)
        return reasoning_gym_problems(tasks, size, seed)
    problems = []
    for number, row in numbered_rows(source):
        problems.append(_problem(row, number))
    return problems


def read_prompts(source: str) -> list[Problem]:
    """Read what to ask a teacher, from problems or data of which the answer may lack.

    Parameters
    ----------
    source : str
        As of `read_problems`, but ``answer`` may be missing: then it is empty. In its
        place of ``prompt`` rows may have ``messages``, of which those before the
        assistant's last are asked.

    Raises
    ------
    ValueError
        If a line or the specification is not of this form.
    """
    if source.startswith(SPEC):
        return read_problems(source)
    problems = []
    for number, row in numbered_rows(source):
        asked = dict(row)
        asked.setdefault("answer", "")
        if "prompt" not in asked:
            asked["prompt"] = _before_the_answer(row.get("messages"))
        problems.append(_problem(asked, number))
    return problems


def _before_the_answer(messages: Any) -> Any:
    """The messages of a conversation without the assistant's last, if it has one."""
    if not isinstance(messages, list) or not messages:
        return ""  # which no prompt may be
    last = messages[-1]
    answered = isinstance(last, Mapping) and last.get("role") == "assistant"
    return messages[:-1] if answered else messages


def read_data(
    source: str,
    turns: Turns = "last",
    *,
    on_bad_rows: OnBadRows = "error",
) -> list[Example]:
    """Read examples to learn from, from JSONL or of the problems of reasoning-gym.

    Parameters
    ----------
    source : str
        A file of JSONL as of `fusion.read_examples`, or a specification as of
        `read_problems`.
    turns : {"last", "all"}
        Which messages of a conversation are learnt, as of `fusion.read_examples`.
    on_bad_rows : {"error", "drop"}
        As of `fusion.read_examples`.

    Raises
    ------
    ValueError
        If a line or the specification is not of this form.
    """
    if source.startswith(SPEC):
        return [problem.example() for problem in read_problems(source)]
    return read_examples(source, turns, on_bad_rows=on_bad_rows)


def _specified(source: str) -> tuple[list[str], int, int]:
    """Tasks, size and seed of a specification."""
    parts = source.removeprefix(SPEC).split(":")
    if len(parts) == 2:
        parts.append("0")  # seed
    try:
        # Any other number of parts is a ValueError, too.
        tasks, size, seed = parts
        names = tasks.split("+")
        return names, int(size), int(seed)
    except ValueError as error:
        raise ValueError(
            f"Problems must be asked for as {SPEC}TASK+TASK:SIZE:SEED, "
            f"but {source!r} is not of this form: correct it."
        ) from error


def _problem(row: Mapping[str, Any], number: int) -> Problem:
    """The problem of a row, which stands on line ``number``."""
    try:
        prompt = row["prompt"]
        answer = row["answer"]
        if not isinstance(prompt, str):
            prompt = read_turns(prompt)
        if not prompt or not isinstance(answer, str):
            raise TypeError("prompt must not be empty, and answer must be text")
        # Examples to learn from have a domain where problems have a task.
        task = row.get("task") or row.get("domain") or ""
        choices = _choices(row.get("choices"))
        tools = read_tools(row.get("tools"))
        return Problem(prompt, answer, str(task), choices, tools=tools)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"Line {number} must be a JSON object with `prompt` and `answer`, "
            f"but is not ({type(error).__name__}: {error}): repair or drop it."
        ) from error


def _choices(value: Any) -> tuple[str, ...]:
    """The choices of a row; none where it does not say them."""
    if value is None:
        return ()
    # Text is iterable, too: its characters would become choices.
    if not isinstance(value, list | tuple):
        raise TypeError("choices must be a list of texts")
    for choice in value:
        if not isinstance(choice, str):
            raise TypeError("choices must be a list of texts")
    return tuple(value)
