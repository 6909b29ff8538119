"""On-policy distillation: the student's own completions, scored by live teachers.

In chosen steps the student answers prompts itself, by draws from its probabilities; the
teachers' logits for what it has written take the place of those in stores (Agarwal et
al. 2024, arXiv 2306.13649). A completion of the student's own has no label.

All draws hang on the seed, the step and the place of a completion in its step: neither
on what was drawn before, so that a run that was interrupted goes on as it would have,
nor on how a step is divided into batches and ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedModel, PreTrainedTokenizerBase

from fusion.evaluate import Prompt, check_room, continued, tokenized
from fusion.models import input_device, load_model, load_tokenizer, longest
from fusion.tasks import Problem
from fusion.teachers.live import LiveTeacher
from fusion.text.conversations import Example, encode
from fusion.text.messages import sha256
from fusion.training.batches import Batch, Collator, Feature
from fusion.training.config import FusionConfig
from fusion.training.data import FittingExamples


class _Written(NamedTuple):
    """An example whose completion the student wrote, and whether it ended it."""

    example: Example
    ended: bool


class Draws(LogitsProcessor):
    """Makes the largest logit a draw from the softmax, by Gumbel's noise.

    The largest of z_i / τ − log E_i with independent exponential E_i is token i with
    the probability softmax(z / τ)_i.

    Parameters
    ----------
    generators : sequence of torch.Generator
        One for each row.
    temperature : float
        τ.
    """

    def __init__(
        self, generators: Sequence[torch.Generator], temperature: float
    ) -> None:
        self._generators = generators
        self._temperature = temperature

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Return the logits (B, V) with noise."""
        noise = torch.empty_like(scores)
        for row, generator in zip(noise, self._generators, strict=True):
            row.exponential_(generator=generator)
        # An exponential number may round to 0, whose logarithm is infinite.
        noise = noise.clamp(min=torch.finfo(noise.dtype).tiny)
        return scores / self._temperature - noise.log()


@dataclass(frozen=True)
class Share:
    """Which examples of a step are one rank's.

    Attributes
    ----------
    rank, world : int
        Which rank, of how many.
    batches : int
        Micro-batches of the step, on each rank.
    size : int
        Examples of a micro-batch.
    """

    rank: int
    world: int
    batches: int
    size: int

    def places(self, batch: int) -> range:
        """Return the places in the step of the examples of a micro-batch."""
        # Ranks take batches in turns, as they do of the data.
        first = (batch * self.world + self.rank) * self.size
        return range(first, first + self.size)


class OnPolicy:
    """Writes and scores the student's own completions in some of the steps.

    Parameters
    ----------
    student : PreTrainedModel
        The student.
    tokenizer : PreTrainedTokenizerBase
        Its tokenizer.
    teachers : mapping of str to LiveTeacher
        Who scores its completions.
    prompts : sequence of Problem
        What it is asked.
    collator : Collator
        Joins examples with what teachers say of them.
    spare : Feature
        An example that stands in a batch of which no completion can be used.
    args : FusionConfig
        All settings.

    Raises
    ------
    ValueError
        If there is no prompt, or one cannot be rendered or leaves no room for a
        completion.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        teachers: Mapping[str, LiveTeacher],
        prompts: Sequence[Problem],
        collator: Collator,
        spare: Feature,
        args: FusionConfig,
    ) -> None:
        self.teachers = teachers
        self.prompts = prompts
        self._tokenizer = tokenizer
        self._args = args
        self._collator = collator
        self._spare = spare
        self._longest = longest(student, args.max_length)
        self._tokens = self._checked(prompts)

    def _checked(self, prompts: Sequence[Problem]) -> list[Prompt]:
        """Tokens of all prompts, which student and teachers must be able to read."""
        if not prompts:
            raise ValueError(
                "There must be a prompt for on_policy, but there is none: "
                "add training examples or on_policy_prompts."
            )
        found = [tokenized(problem, self._tokenizer) for problem in prompts]
        length = self._args.on_policy_length
        check_room(found, self._longest, length, "on_policy_length")
        asked = [_example(problem, "?") for problem in prompts]
        for name, teacher in self.teachers.items():
            teacher.check(asked, f"prompts for {name}")
        return found

    def takes(self, step: int) -> bool:
        """Tell whether a step, from 0 on, learns the student's own completions."""
        number = torch.rand((), generator=self._generator("cpu", step))
        return bool(number < self._args.on_policy)

    def batches(self, model: PreTrainedModel, step: int, share: Share) -> list[Batch]:
        """Return one rank's micro-batches of a step.

        Parameters
        ----------
        model : PreTrainedModel
            The student as it is at this step; it is left in the mode, training or
            evaluation, that it is in.
        step : int
            The step.
        share : Share
            Which part of it is this rank's.

        Returns
        -------
        list of Batch
            Completions that a tokenizer or chat template does not give back as they
            are, as empty ones, are left out.
        """
        # In an order of the step's own, in which none comes twice before all have come.
        generator = self._generator("cpu", step, "order")
        order = torch.randperm(len(self.prompts), generator=generator).tolist()
        batches = []
        for batch in range(share.batches):
            places = share.places(batch)
            asked = [order[place % len(order)] for place in places]
            written = self._written(model, step, places, asked)
            batches.append(self._batch(written))
        return batches

    def _written(
        self,
        model: PreTrainedModel,
        step: int,
        places: Sequence[int],
        asked: Sequence[int],
    ) -> list[_Written]:
        """Let the student answer some prompts, by draws from its probabilities."""
        device = input_device(model)
        generators = [self._generator(device, step, place) for place in places]
        draws = Draws(generators, self._args.on_policy_temperature)
        prompts = [self._tokens[i] for i in asked]
        length = self._args.on_policy_length
        # Dropout is for training: completions are drawn from the student as it is.
        was_training = model.training
        model.train(False)
        try:
            with torch.no_grad():
                texts = list(continued(model, self._tokenizer, prompts, length, draws))
        finally:
            model.train(was_training)
        found = []
        for i, (text, ended) in zip(asked, texts, strict=True):
            if text:
                found.append(_Written(_example(self.prompts[i], text), ended))
        return found

    def _batch(self, written: Sequence[_Written]) -> Batch:
        """Join completions with what the teachers say of them."""
        features: list[Feature] = []
        examples = []
        ended = 0
        for one in written:
            try:
                encoded = encode(one.example, self._tokenizer, self._longest)
            except ValueError:
                continue
            features.append({"key": one.example.key, "encoded": encoded})
            examples.append(one.example)
            ended += one.ended
        if not features:
            features.append({**self._spare, "filler": True})
        said = {name: live.rows(examples) for name, live in self.teachers.items()}
        batch = replace(self._collator, stores=said)(features)
        batch["ended"] = ended
        return batch

    def _generator(self, device: Any, *about: object) -> torch.Generator:
        """A generator whose seed hangs on that of the run and on what it is about."""
        words = " ".join(map(str, (self._args.seed, *about)))
        # 60 bits of the digest: seeds are numbers of 64 bits with a sign.
        seed = int(sha256(words)[:15], 16)
        return torch.Generator(device).manual_seed(seed)


def _example(problem: Problem, completion: str) -> Example:
    """A completion of a prompt, as something to learn from."""
    return Example(problem.prompt, completion, problem.task, problem.tools)


def prompts_of(examples: Sequence[Example]) -> list[Problem]:
    """Return the prompts of examples, each once."""
    found = {}
    for example in examples:
        problem = Problem(example.prompt, "", example.domain, tools=example.tools)
        found[_example(problem, "?").key] = problem
    return list(found.values())


def own_completions(
    student: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    teachers: Mapping[str, LiveTeacher],
    prompts: Sequence[Problem] | None,
    collator: Collator,
    training: FittingExamples | None,
    args: FusionConfig,
) -> OnPolicy | None:
    """Return what lets a student learn what it writes; None where no step shall.

    Parameters are those of `OnPolicy`, but for the training examples, whose prompts are
    asked where no others are given.
    """
    if not args.on_policy or training is None:
        return None
    if prompts is None:
        prompts = prompts_of(training.examples)
    spare = training[0]
    return OnPolicy(student, tokenizer, teachers, prompts, collator, spare, args)


def load_teachers(args: FusionConfig) -> dict[str, LiveTeacher]:
    """Load the live teachers that the settings name, onto the device of the run.

    Raises
    ------
    ValueError
        If a folder holds no model, or one has fewer tokens than ``args.k``.
    """
    # Tokenizers first: they tell what is wrong before weights are loaded.
    tokenizers = {}
    for name, folder in args.live_teachers.items():
        tokenizers[name] = load_tokenizer(folder, args.live_templates.get(name))
    found = {}
    for name, folder in args.live_teachers.items():
        model: Any = load_model(folder, args.live_dtype)
        found[name] = LiveTeacher(model.to(args.device), tokenizers[name], args.k)
    return found


def without_labels(nll: Tensor) -> Tensor:
    """Return the supervised loss of completions that have no labels: 0."""
    # Of the student's logits, so that its backward pass has something to begin with
    # where teachers say nothing.
    return 0.0 * nll.sum()
