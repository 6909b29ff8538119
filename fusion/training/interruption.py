"""Ctrl-C during training: the step ends, a checkpoint is saved, and it says so."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

import torch
from transformers import (
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

# What a terminal sends for Ctrl-C, and what schedulers send before they kill.
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainingInterrupted(KeyboardInterrupt):
    """Training was interrupted, and lies in a checkpoint from which it can go on.

    As a KeyboardInterrupt it ends a program that does not expect it.
    """


class Interruption(TrainerCallback):
    """Saves a checkpoint after the step that SIGINT or SIGTERM interrupts, and ends.

    As a context manager it handles the signals in between, if it is entered in the
    main thread; handlers are restored behind it. The second signal does what it would
    have done without. If one rank is interrupted, all stop at the same step.

    Parameters
    ----------
    accelerator : Accelerator
        The Trainer's, by which ranks speak to each other.

    Raises
    ------
    TrainingInterrupted
        By the Trainer, after the checkpoint is whole on all ranks.
    """

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator
        self._stops = False  # after the step that has ended
        self._received: int | None = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> None:
        """Handle the signals from here on."""
        self._received = None
        self._stops = False
        # Python lets no other thread set handlers.
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._handlers[number] = signal.signal(number, self._receive)

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        """Restore the handlers; a signal that came too late for a step is repeated."""
        self._restore()
        if self._received is not None and kind is None:
            signal.raise_signal(self._received)

    def _restore(self) -> None:
        """Set the handlers that were set before."""
        for number, handler in self._handlers.items():
            # None is a handler that Python has not set: it cannot set it again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._handlers.clear()

    def _receive(self, number: int, _: FrameType | None) -> None:
        """Remember the first signal, and leave the second to the earlier handlers."""
        self._received = number
        self._restore()
        # Unbuffered: the signal may have come in the middle of a print.
        text = "\nSaving a checkpoint after this step; Ctrl-C again ends at once.\n"
        os.write(2, text.encode())

    def _interrupted(self) -> bool:
        """Tell whether any rank was interrupted; every rank must call it."""
        received = self._received is not None
        ranks = self._accelerator
        if ranks.num_processes == 1:
            return received
        flag = torch.tensor(float(received), device=ranks.device)
        return bool(ranks.reduce(flag, "sum") > 0)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Ask for a checkpoint, if the step was interrupted."""
        self._stops = self._interrupted()
        if self._stops:
            control.should_save = True

    # For a signal during the evaluation after the last step of an epoch.
    on_epoch_end = on_step_end

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """End the training, once its checkpoint is whole."""
        if not self._stops:
            return
        # A rank that ends may take the others with it, while one of them still writes.
        self._accelerator.wait_for_everyone()
        raise TrainingInterrupted(
            f"Interrupted at step {state.global_step} of {state.max_steps}: "
            "go on with resume_from_checkpoint=auto."
        )
