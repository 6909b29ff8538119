"""How fast training is, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import torch
from transformers import (
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from fusion.logits.head import IGNORED
from fusion.training.batches import Batch, targets


class Progress(TrainerCallback):
    """Counts tokens and seconds of steps, for the log and the bar.

    Parameters
    ----------
    callbacks : iterable of TrainerCallback
        Those of the Trainer, of which one may have a bar.
    """

    def __init__(self, callbacks: Iterable[TrainerCallback]) -> None:
        self._bars = [each for each in callbacks if isinstance(each, ProgressCallback)]
        self._begin(0)

    def _begin(self, step: int) -> None:
        """Start the clocks at a step."""
        now = time.perf_counter()
        self._first_step = step
        self._start = now  # of the training
        self._mark = now  # of the step that is under way
        self._seconds = 0.0  # of steps, since the last log
        self._tokens = 0  # this rank's, since then
        self._labels = 0

    def count(self, batches: Iterable[Batch]) -> None:
        """Count the tokens of micro-batches."""
        for batch in batches:
            labelled = targets(batch).ne(IGNORED)  # (B, rows from ``first`` on)
            self._labels += int(labelled.sum())
            # Fillers come last: what they hold is of no example.
            of_examples = batch["attention_mask"][: batch["examples"]]
            self._tokens += int(of_examples.sum())

    def speed(self, accelerator: Any, state: TrainerState) -> dict[str, float]:
        """Return what is logged, and begin to count anew; every rank must call it.

        Parameters
        ----------
        accelerator : Accelerator
            By which ranks add up their tokens.
        state : TrainerState
            The Trainer's.

        Returns
        -------
        dict of str to float
            "tokens_per_second" and "labels_per_second": all tokens but padding, and
            those that are learnt, of all ranks since the last log, without the time of
            evaluations and checkpoints. "seconds_left": of the whole training, at its
            mean pace since it was started or resumed, evaluations and checkpoints
            included.
        """
        own = torch.tensor([self._tokens, self._labels], dtype=torch.float32)
        counts = accelerator.reduce(own.to(accelerator.device), "sum")
        tokens, labels = counts.tolist()
        seconds = max(self._seconds, 1e-9)  # a clock may be coarse
        steps = max(1, state.global_step - self._first_step)
        pace = (time.perf_counter() - self._start) / steps
        left = max(0, state.max_steps - state.global_step)
        self._seconds = 0.0
        self._tokens = 0
        self._labels = 0
        return {
            "tokens_per_second": round(tokens / seconds, 1),
            "labels_per_second": round(labels / seconds, 1),
            "seconds_left": round(pace * left, 1),
        }

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Start the clocks."""
        self._begin(state.global_step)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Add the time since the last step, or since what came behind it."""
        now = time.perf_counter()
        self._seconds += now - self._mark
        self._mark = now

    def _resume(self, *args: Any, **kwargs: Any) -> None:
        """Start the clock of steps again."""
        self._mark = time.perf_counter()

    # Their time is no step's.
    on_evaluate = on_save = _resume

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write the speed beside the bar, which has the time left already."""
        if logs is None or "tokens_per_second" not in logs:
            return
        for callback in self._bars:
            # Only one rank has it, and only while it trains.
            if callback.training_bar is not None:
                speed = logs["tokens_per_second"]
                callback.training_bar.set_postfix_str(f"{speed:.0f} tokens/s")
