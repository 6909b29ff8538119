"""Greedy generation and exact match, each score beside what guessing would give."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from scipy.stats import binomtest
from torch import Tensor
from torch.nn.functional import pad
from tqdm import tqdm
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from fusion.models import input_device, longest, vocabulary_size
from fusion.tasks import Problem, normal
from fusion.text.conversations import Example, encode_prompt

# In the order of trust: what was asked for, then what models write unasked.
_PATTERNS = (
    r"<answer>(.*?)</answer>",
    r"\\boxed\{([^{}]*)\}",
    r"####\s*([^\n]+)",
    r"answer is:?\s*([^\n]+?)\.?(?:\n|$)",
)
_FLAGS = re.DOTALL | re.IGNORECASE
_ANSWERS = tuple(re.compile(pattern, _FLAGS) for pattern in _PATTERNS)

# A problem, and the text that was written for it.
Answered = tuple[Problem, str]


class Prompt(NamedTuple):
    """A prompt's tokens, and the tokens that end an answer to it.

    Attributes
    ----------
    ids, end_ids : list of int
        As of `fusion.text.conversations.encode_prompt`.
    """

    ids: list[int]
    end_ids: list[int]


class Written(NamedTuple):
    """What a model wrote for a batch of problems.

    Attributes
    ----------
    problems : list of int
        Their places among all problems.
    texts : list of str
        The text for each, without special tokens.
    ended : list of bool
        Whether the model itself ended it; else it was cut off.
    """

    problems: list[int]
    texts: list[str]
    ended: list[bool]


@dataclass(frozen=True)
class Score:
    """How often a task was solved, and how often guessing would have.

    Attributes
    ----------
    task : str
        The task, or "all".
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
        test = binomtest(self.correct, self.problems)
        found = test.proportion_ci(0.95, method="wilson")
        return float(found.low), float(found.high)

    def as_dict(self) -> dict[str, Any]:
        """Return fields and accuracy with its interval, as a row of a table."""
        low, high = self.interval
        return {
            "task": self.task,
            # Numbers of problems.
            "problems": self.problems,
            "correct": self.correct,
            "unextracted": self.unextracted,
            # Shares of them.
            "accuracy": self.accuracy,
            "low": low,
            "high": high,
            "majority": self.majority,
            "chance": self.chance,
        }


def extract(text: str) -> str | None:
    r"""Return the last answer that a text states, or None where it states none.

    Looked for are, in this order, ``<answer>…</answer>``, ``\boxed{…}``, ``#### …`` and
    ``answer is …``.
    """
    for pattern in _ANSWERS:
        found = pattern.findall(text)
        if found:
            # The last: models state what they take back later.
            last = str(found[-1])
            return last.strip()
    return None


def score(problems: Sequence[Problem], texts: Sequence[str]) -> list[Score]:
    """Score the texts written for the problems, task by task.

    Parameters
    ----------
    problems : sequence of Problem
        What was asked.
    texts : sequence of str
        What was answered, one text for each problem.

    Returns
    -------
    list of Score
        One for each task, in alphabetical order, and if there are several tasks, one
        for all together.

    Raises
    ------
    ValueError
        If there is no problem, or not one text for each.
    """
    if not problems or len(problems) != len(texts):
        raise ValueError(
            "There must be one text for each problem, "
            f"but there are {len(texts)} for {len(problems)}: generate the others."
        )
    pairs_of_task: dict[str, list[Answered]] = {}
    for problem, text in zip(problems, texts, strict=True):
        pairs = pairs_of_task.setdefault(problem.task, [])
        pairs.append((problem, text))

    scores = []
    for task in sorted(pairs_of_task):
        scores.append(_task_score(task, pairs_of_task[task]))
    if len(scores) > 1:
        scores.append(_score_of_all(scores))
    return scores


def _task_score(task: str, pairs: Sequence[Answered]) -> Score:
    """Score one task, and what guessing would give on its problems."""
    # Answers that differ in case and white space only are one answer.
    frequency: Counter[str] = Counter()
    for problem, _ in pairs:
        frequency[normal(problem.answer)] += 1
    distinct = len(frequency)

    correct = 0
    unextracted = 0
    chances = []  # of solving each problem by drawing an answer
    for problem, text in pairs:
        answer = extract(text)
        if answer is None:
            unextracted += 1
        elif problem.solved_by(answer):
            correct += 1
        choices = len(problem.choices) or distinct
        chances.append(1.0 / choices)
    total = len(pairs)
    most_frequent = max(frequency.values())
    return Score(
        task,
        total,
        correct,
        unextracted,
        majority=most_frequent / total,
        chance=sum(chances) / total,
    )


def _score_of_all(scores: Sequence[Score]) -> Score:
    """The problems of all tasks together; guesses are made task by task."""
    problems = 0
    correct = 0
    unextracted = 0
    # Expected numbers of problems solved by guessing, of each task.
    by_majority = []
    by_chance = []
    for s in scores:
        problems += s.problems
        correct += s.correct
        unextracted += s.unextracted
        by_majority.append(s.majority * s.problems)
        by_chance.append(s.chance * s.problems)
    return Score(
        "all",
        problems,
        correct,
        unextracted,
        majority=sum(by_majority) / problems,
        chance=sum(by_chance) / problems,
    )


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    max_new_tokens: int = 64,
    batch_size: int = 8,
) -> list[str]:
    """Continue each problem's prompt greedily, by the likeliest token at each step.

    Parameters
    ----------
    model : PreTrainedModel
        A causal language model, on the device to run on.
    tokenizer : PreTrainedTokenizerBase
        Its tokenizer; prompts are rendered as in training.
    problems : sequence of Problem
        What to ask.
    max_new_tokens : int
        Length at which a text is cut off that the model does not end.
    batch_size : int
        Problems per forward pass.

    Returns
    -------
    list of str
        The text after each prompt, without special tokens.

    Raises
    ------
    ValueError
        If a prompt cannot be rendered, or leaves no room for an answer of
        ``max_new_tokens`` tokens in the model's context.
    """
    texts = [""] * len(problems)
    for batch in write(model, tokenizer, problems, max_new_tokens, batch_size):
        for i, text in zip(batch.problems, batch.texts, strict=True):
            texts[i] = text
    return texts


@torch.inference_mode()
def write(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    max_new_tokens: int,
    batch_size: int,
    first: int = 0,
) -> Iterator[Written]:
    """Continue each problem's prompt greedily, and yield what is written by batches.

    Batches are the same whichever is the first to be written, so that work that was cut
    off can go on. Parameters and errors are else those of `generate`.
    """
    model.eval()
    prompts = [tokenized(problem, tokenizer) for problem in problems]
    check_room(prompts, longest(model), max_new_tokens)

    # Long prompts first: if memory is short, one learns it at once; and a batch pads
    # little.
    def minus_length(i: int) -> int:
        return -len(prompts[i].ids)

    order = sorted(range(len(prompts)), key=minus_length)
    starts = range(0, len(order), batch_size)
    bar = tqdm(starts, unit="batch", desc="generate", disable=None)
    for start in bar:
        if start < first * batch_size:
            continue
        batch = order[start : start + batch_size]
        asked = [prompts[i] for i in batch]
        texts = []
        ended = []
        for text, whole in continued(model, tokenizer, asked, max_new_tokens):
            texts.append(text)
            ended.append(whole)
        yield Written(batch, texts, ended)


def tokenized(problem: Problem, tokenizer: PreTrainedTokenizerBase) -> Prompt:
    """Return the tokens of a prompt as in training, and those that end an answer.

    Raises
    ------
    ValueError
        If it cannot be rendered.
    """
    # Any answer will do, but for an empty one.
    example = Example(problem.prompt, "?", tools=problem.tools)
    ids, end_ids = encode_prompt(example, tokenizer)
    return Prompt(ids, end_ids)


def check_room(
    prompts: Sequence[Prompt],
    context: int | None,
    max_new_tokens: int,
    setting: str = "max_new_tokens",
) -> None:
    """Require that prompts and answers fit the context; None is of any length.

    Raises
    ------
    ValueError
        If one does not. It says that ``setting`` may be lowered.
    """
    if context is None:
        return
    numbers = []
    for number, prompt in enumerate(prompts, start=1):
        if len(prompt.ids) + max_new_tokens > context:
            numbers.append(number)
    if numbers:
        first = ", ".join(map(str, numbers[:10]))
        more = ", …" if len(numbers) > 10 else ""
        raise ValueError(
            f"Prompts must leave room for {max_new_tokens} tokens in the model's "
            f"context of {context}, but {len(numbers)} of {len(prompts)} do not "
            f"(problems {first}{more}): lower {setting} or leave them out."
        )


def continued(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    change: LogitsProcessor | None = None,
) -> Iterator[tuple[str, bool]]:
    """Continue a batch of prompts; yield each text, and whether it was ended.

    Parameters
    ----------
    model, tokenizer, max_new_tokens
        As of `generate`.
    prompts : sequence of Prompt
        The batch.
    change : LogitsProcessor, optional
        Changes the logits of every step, of which the largest then says the token.
    """
    end_ids = _all_end_ids(prompts)
    filler = _filler(tokenizer, end_ids)
    ids, mask = _left_padded(prompts, filler)
    # Columns with which a head is padded are of no token.
    columns = model.config.get_text_config().vocab_size
    padding = range(vocabulary_size(tokenizer), columns)
    device = input_device(model)
    written = model.generate(
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        # The model's own generation settings may hold sampling parameters, which greedy
        # search warns about.
        temperature=None,
        top_p=None,
        top_k=None,
        # Without a token that ends answers, texts run to the limit.
        eos_token_id=end_ids or None,
        pad_token_id=filler,
        suppress_tokens=[*padding] or None,
        logits_processor=None if change is None else LogitsProcessorList([change]),
    )
    width = ids.shape[1]
    new_tokens = written[:, width:]  # (B, at most max_new_tokens)
    for row in new_tokens.tolist():
        answer = _until_end(row, end_ids)
        text = str(tokenizer.decode(answer, skip_special_tokens=True))
        yield text, len(answer) < len(row)


def _all_end_ids(prompts: Sequence[Prompt]) -> list[int]:
    """Tokens that end an answer to any prompt of a batch."""
    end_ids: set[int] = set()
    for prompt in prompts:
        end_ids.update(prompt.end_ids)
    return sorted(end_ids)


def _filler(tokenizer: PreTrainedTokenizerBase, end_ids: Sequence[int]) -> int:
    """Token to pad with: any will do, as it is masked."""
    padding: int | None = tokenizer.pad_token_id
    if padding is not None:
        return padding
    return end_ids[0] if end_ids else 0


def _left_padded(
    prompts: Sequence[Prompt],
    filler: int,
) -> tuple[Tensor, Tensor]:
    """Input ids and attention mask of the prompts, padded to (B, width)."""
    # On the left: new tokens follow the prompt.
    width = max(len(prompt.ids) for prompt in prompts)
    ids = []
    masks = []
    for prompt in prompts:
        tokens = torch.tensor(prompt.ids)
        ones = torch.ones(len(tokens), dtype=torch.long)
        left = (width - len(tokens), 0)  # how much to put before, and behind
        ids.append(pad(tokens, left, value=filler))
        masks.append(pad(ones, left))
    return torch.stack(ids), torch.stack(masks)


def _until_end(tokens: list[int], end_ids: Sequence[int]) -> list[int]:
    """The tokens before the first that ends an answer."""
    for i, token in enumerate(tokens):
        if token in end_ids:
            return tokens[:i]
    return tokens


def table(scores: Iterable[Score]) -> str:
    """Lay scores out as a Markdown table: shares in percent."""
    # Numbers and shares are aligned to the right.
    rows = [
        "| task | problems | solved | 95 % interval | majority | chance "
        "| no answer found |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for s in scores:
        low, high = s.interval
        cells = [
            s.task,
            str(s.problems),
            f"{s.accuracy:.1%}",
            f"{low:.1%} – {high:.1%}",
            f"{s.majority:.1%}",
            f"{s.chance:.1%}",
            str(s.unextracted),
        ]
        row = " | ".join(cells)
        rows.append(f"| {row} |")
    return "\n".join(rows)
