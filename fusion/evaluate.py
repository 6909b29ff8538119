"""Greedy generation and exact match, each score beside what guessing would give."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from scipy.stats import binomtest
from torch.nn.functional import pad
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fusion.tasks import Problem, normal
from fusion.text.conversations import Example, render

# In the order of trust: what was asked for, then what models write unasked.
_ANSWERS = tuple(
    re.compile(pattern, re.DOTALL | re.IGNORECASE)
    for pattern in (
        r"<answer>(.*?)</answer>",
        r"\\boxed\{([^{}]*)\}",
        r"####\s*([^\n]+)",
        r"answer is:?\s*([^\n]+?)\.?(?:\n|$)",
    )
)


@dataclass(frozen=True)
class Score:
    """How often a task was solved, and how often guessing would have.

    Attributes
    ----------
    task : str
    problems, correct, unextracted : int
        Number of problems, of those solved, and of texts in which no answer was found
        (never counted as solved).
    majority : float
        Share solved by giving the most frequent answer to every problem of the task.
    chance : float
        Expected share solved by drawing among the choices, or where these are unknown
        among the task's own answers.
    """

    task: str
    problems: int
    correct: int
    unextracted: int
    majority: float
    chance: float

    @property
    def accuracy(self) -> float:
        """Share of all problems that was solved."""
        return self.correct / self.problems

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval, which covers the accuracy of 95 % of repetitions."""
        found = binomtest(self.correct, self.problems).proportion_ci(
            0.95, method="wilson"
        )
        return float(found.low), float(found.high)

    def as_dict(self) -> dict[str, Any]:
        """Return all fields and the accuracy with its interval, for a row of a table."""
        low, high = self.interval
        counts = {"task": self.task, "problems": self.problems, "correct": self.correct}
        shares = {
            "accuracy": self.accuracy,
            "low": low,
            "high": high,
            "majority": self.majority,
            "chance": self.chance,
        }
        return {**counts, "unextracted": self.unextracted, **shares}


def extract(text: str) -> str | None:
    r"""Return the last answer that a text states, or None where it states none.

    Looked for are, in this order, ``<answer>…</answer>``, ``\boxed{…}``, ``#### …`` and ``answer is …``.
    """
    for pattern in _ANSWERS:
        if found := pattern.findall(text):
            return str(found[-1]).strip()
    return None


def score(problems: Sequence[Problem], texts: Sequence[str]) -> list[Score]:
    """Score the texts written for the problems: one score for each task and, if there are several, one for all.

    Raises
    ------
    ValueError
        If there is no problem, or not one text for each.
    """
    if not problems or len(problems) != len(texts):
        raise ValueError(
            f"There must be one text for each problem, but there are {len(texts)} for {len(problems)}: generate the others."
        )
    pairs = sorted(zip(problems, texts, strict=True), key=lambda pair: pair[0].task)
    scores = [
        _task_score(task, list(found))
        for task, found in groupby(pairs, key=lambda pair: pair[0].task)
    ]
    return [*scores, _all(scores)] if len(scores) > 1 else scores


def _task_score(task: str, pairs: Sequence[tuple[Problem, str]]) -> Score:
    answers = [extract(text) for _, text in pairs]
    problems = [problem for problem, _ in pairs]
    correct = sum(
        a is not None and p.solved_by(a) for p, a in zip(problems, answers, strict=True)
    )
    counts = Counter(normal(problem.answer) for problem in problems)
    chances = (1.0 / len(problem.choices or counts) for problem in problems)
    majority = max(counts.values()) / len(pairs)
    return Score(
        task,
        len(pairs),
        correct,
        answers.count(None),
        majority,
        sum(chances) / len(pairs),
    )


def _all(scores: Sequence[Score]) -> Score:
    """The problems of all tasks together; guesses are made task by task."""
    total = sum(s.problems for s in scores)
    majority, chance = (
        sum(getattr(s, name) * s.problems for s in scores) / total
        for name in ("majority", "chance")
    )
    return Score(
        "all",
        total,
        sum(s.correct for s in scores),
        sum(s.unextracted for s in scores),
        majority,
        chance,
    )


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    max_new_tokens: int = 64,
    batch_size: int = 8,
) -> list[str]:
    """Continue each problem's prompt with the likeliest token until the model ends or the tokens run out.

    Parameters
    ----------
    model : PreTrainedModel
        A causal language model, on the device to run on.
    tokenizer : PreTrainedTokenizerBase
        Its tokenizer; prompts are rendered as in training.
    problems : sequence of Problem
    max_new_tokens, batch_size : int

    Returns
    -------
    list of str
        The text after each prompt, without special tokens.
    """
    model.eval()  # type: ignore[no-untyped-call]
    prompts = [_prompt(problem, tokenizer) for problem in problems]
    # Long prompts first: if memory is short, one learns it at once; and a batch pads
    # little.
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i][0]))
    texts = [""] * len(prompts)
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    for batch in tqdm(batches, unit="batch", desc="generate", disable=None):
        ends = sorted({token for i in batch for token in prompts[i][1]})
        written = _continue(
            model, tokenizer, [prompts[i][0] for i in batch], ends, max_new_tokens
        )
        for i, text in zip(batch, written, strict=True):
            texts[i] = text
    return texts


def _prompt(
    problem: Problem, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[int], list[int]]:
    """Ids of the prompt, and of the tokens that end an answer to it."""
    head, tail = render(Example(problem.prompt, problem.answer or "?"), tokenizer)
    ids = tokenizer(head, add_special_tokens=isinstance(problem.prompt, str))[
        "input_ids"
    ]
    end = tokenizer(tail, add_special_tokens=False)["input_ids"][:1] if tail else []
    return ids, [
        *end,
        *([] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]),
    ]


def _continue(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[int]],
    ends: list[int],
    max_new_tokens: int,
) -> Iterator[str]:
    longest = max(map(len, prompts))
    filler = (
        tokenizer.pad_token_id
        if tokenizer.pad_token_id is not None
        else (ends or [0])[0]
    )
    left = [(longest - len(prompt), 0) for prompt in prompts]
    ids = torch.stack(
        [
            pad(torch.tensor(p), side, value=filler)
            for p, side in zip(prompts, left, strict=True)
        ]
    )
    mask = torch.stack(
        [
            pad(torch.ones(len(p), dtype=torch.long), side)
            for p, side in zip(prompts, left, strict=True)
        ]
    )
    written = model.generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        # The model's own generation settings may hold sampling parameters, which greedy
        # search warns about.
        temperature=None,
        top_p=None,
        top_k=None,
        eos_token_id=ends or None,
        pad_token_id=filler,
    )
    for row in written[:, longest:].tolist():
        stop = next((i for i, token in enumerate(row) if token in ends), len(row))
        yield str(tokenizer.decode(row[:stop], skip_special_tokens=True))


def table(scores: Iterable[Score]) -> str:
    """Lay scores out as a Markdown table: shares in percent."""
    header = "| task | problems | solved | 95 % interval | majority | chance | no answer found |"
    rows = [header, "|---|---:|---:|---:|---:|---:|---:|"]
    for s in scores:
        low, high = s.interval
        shares = f"{s.accuracy:.1%} | {low:.1%} – {high:.1%} | {s.majority:.1%} | {s.chance:.1%}"
        rows.append(f"| {s.task} | {s.problems} | {shares} | {s.unextracted} |")
    return "\n".join(rows)
