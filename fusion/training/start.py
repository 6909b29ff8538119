"""What a training run says before its first step: a line on each of its parts."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from tqdm.auto import tqdm
from transformers import (
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from fusion.training.batches import Collator
from fusion.training.config import FusionConfig
from fusion.training.data import FittingExamples, held
from fusion.training.on_policy import OnPolicy
from fusion.training.sampling import examples_at_once
from fusion.training.weights import mean_weights

CHOSEN = {
    "uniform": "equal among those that have seen an example",
    "confidence": "at each position by the probability of their likeliest token",
    "static": "in proportion to static_weights among those that have seen an example",
}


class Start(TrainerCallback):
    """Prints on stderr what is trained, on what, with which teachers and which loss.

    One rank prints, and with ``log_level`` "error" or "critical" none does.

    Parameters
    ----------
    model : Module
        The student, with adapters where it has some.
    collator : Collator
        What joins examples and teachers.
    training, held_out : FittingExamples or None
        What is learnt, and what is evaluated on.
    own : OnPolicy, optional
        What lets the student write completions of its own.
    """

    def __init__(
        self,
        model: nn.Module | None,
        collator: Collator,
        training: FittingExamples | None,
        held_out: FittingExamples | None,
        own: OnPolicy | None = None,
    ) -> None:
        self._own = own
        self._collator = collator
        self._training = training
        self._held_out = held_out
        # Now: later a rank may have a part of the student only.
        parameters = [] if model is None else list(model.parameters())
        self._all = sum(each.numel() for each in parameters)
        self._trained = sum(each.numel() for each in parameters if each.requires_grad)
        self._name = type(model).__name__

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Print the lines."""
        silent = args.get_process_log_level() > logging.WARNING
        if state.is_world_process_zero and not silent:
            assert isinstance(args, FusionConfig)
            # Above the bar of the steps, which is drawn already.
            tqdm.write("\n".join(self.lines(args, state)), file=sys.stderr)

    def lines(self, args: FusionConfig, state: TrainerState) -> list[str]:
        """Return a line on the student, the data, each store, weights and the loss.

        Parameters
        ----------
        args : FusionConfig
            All settings.
        state : TrainerState
            The Trainer's, which knows the number of steps.
        """
        return [
            self._of_student(args, state),
            self._of_data(args),
            *self._of_stores(),
            *self._of_own_completions(args),
            self._of_weights(args),
            _of_loss(args, bool(self._collator.stores) or self._own is not None),
        ]

    def _of_student(self, args: FusionConfig, state: TrainerState) -> str:
        """What is trained, and for how long."""
        name = args.student or self._name
        batch = state.train_batch_size or args.train_batch_size
        step = examples_at_once(args, batch) * args.gradient_accumulation_steps
        done = ""
        if state.global_step:
            done = f", of which {state.global_step} are done"
        return (
            f"Student: {name}, {self._trained:,} of {self._all:,} parameters trained; "
            f"{state.max_steps} steps{done}, {step} examples a step."
        )

    def _of_data(self, args: FusionConfig) -> str:
        """What is learnt, and what of it was left out."""
        training = self._training
        if training is None:
            return "Data: no training examples."
        fitting = training.fitting
        context = training.context or "unknown"
        line = (
            f"Data: {len(training)} examples of {fitting.tokens:,} tokens, "
            f"{fitting.labels:,} of them learnt; rows left out: {len(fitting.bad)}, "
            f"completions cut of {len(fitting.cut)} "
            f"(max_length {args.max_length}, context of the student {context})"
        )
        if self._held_out is not None:
            line += f"; {len(self._held_out)} held out"
        return f"{line}."

    def _of_stores(self) -> list[str]:
        """How much each teacher has seen."""
        lines = []
        stores: Mapping[str, Any] = self._collator.stores
        for name, store in stores.items():
            manifest = store.manifest
            line = f"Store {name}: holds {_share(store, self._training)}"
            if self._held_out is not None:
                line += f", of those held out {_share(store, self._held_out)}"
            # Fingerprints are longer than they need be to be known again.
            model = manifest.model[:12] or "unknown"
            lines.append(f"{line}; k = {manifest.k}, model {model}.")
        if lines or self._own is not None:
            return lines
        return ["Stores: none, so that labels alone are learnt."]

    def _of_own_completions(self, args: FusionConfig) -> list[str]:
        """In how many steps the student learns what it writes, and who scores it."""
        if self._own is None:
            return []
        scorers = []
        for name, teacher in self._own.teachers.items():
            scorers.append(f"{name} (model {teacher.manifest.model[:12]})")
        return [
            f"Own completions: {args.on_policy:.0%} of the steps, of "
            f"{len(self._own.prompts)} prompts, at most {args.on_policy_length} tokens "
            f"at temperature {args.on_policy_temperature:g}, without labels; scored by "
            f"{', '.join(scorers)}."
        ]

    def _of_weights(self, args: FusionConfig) -> str:
        """The teachers' mean weights, and what they are chosen by."""
        keys = [] if self._training is None else self._training.keys
        found = mean_weights(self._collator, keys)
        weights = ", ".join(f"{name} {weight:.3g}" for name, weight in found.items())
        if args.weighting == "ce":
            scale = self._collator.ce_temperature
            source = "the teachers' median difference"
            if args.ce_temperature is not None:
                source = "ce_temperature"
            chosen = (
                "by the likelihood of each completion, e times for "
                f"{scale:.3g} nats a byte ({source})"
            )
        else:
            chosen = CHOSEN[args.weighting]
        if not weights and self._own is not None:
            return f"Weights: {chosen}."
        return f"Weights: {weights or 'none'} on average, {chosen}."


def _of_loss(args: FusionConfig, taught: bool) -> str:
    """The loss with its factors, and where the student will be saved."""
    added = f" + w · ({_terms(args)})" if taught else ""
    w = f"w = {args.fusion_weight:g}"
    if args.fusion_schedule != "constant":
        end = args.final_fusion_weight
        w = f"w from {args.fusion_weight:g} to {end:g} ({args.fusion_schedule})"
    return f"Loss: (1 − w) · SFT{added}, {w}; saved to {args.output_dir}."


def _terms(args: FusionConfig) -> str:
    """What the teachers add to the loss."""
    terms = f"{args.uld_weight:g} · {args.alignment.upper()}"
    if args.graph is not None:
        terms += f" + {args.graph_weight:g} · GLD"
    return terms


def _share(store: Any, examples: FittingExamples | None) -> str:
    """How many of the examples a store holds."""
    keys: Sequence[str] = [] if examples is None else examples.keys
    distinct = set(keys)
    count = held(store, distinct)
    share = count / max(1, len(distinct))
    return f"{count} of {len(distinct)} examples ({share:.0%})"
