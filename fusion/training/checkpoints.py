"""The newest checkpoint of a folder that was written to its end."""

from __future__ import annotations

import json
import re
from pathlib import Path

# What the Trainer calls a checkpoint: the step after which it was written.
_STATE = "trainer_state.json"
_NAME = re.compile(r"checkpoint-([0-9]+)")


def newest_checkpoint(folder: str | Path) -> str | None:
    """Return the newest checkpoint that was written to its end, or None.

    The trainer's state is the last file of a checkpoint, and older ones are deleted
    only after it: if it can be read, all is there. What is not named
    ``checkpoint-STEP``, such as a copy that was set aside, is none.
    """
    steps = {}  # by checkpoint
    for path in Path(folder).glob("checkpoint-*"):
        name = _NAME.fullmatch(path.name)
        if name is not None:
            # As a number: by name, checkpoint-9 would come after checkpoint-10.
            steps[path] = int(name[1])
    newest_first = sorted(steps, key=steps.__getitem__, reverse=True)
    for checkpoint in newest_first:
        if _is_whole(checkpoint):
            return str(checkpoint)
    return None


def check_place(
    checkpoint: str | Path,
    batches: int,
    accumulation: int,
) -> None:
    """Require that training goes on behind the examples that it has learnt.

    Parameters
    ----------
    checkpoint : path
        Where it goes on.
    batches : int
        Batches of an epoch, on each rank.
    accumulation : int
        How many of them make a step.

    Raises
    ------
    ValueError
        If the checkpoint is at another place: of other data, or of other numbers of
        examples a step.
    """
    file = Path(checkpoint) / _STATE
    state = json.loads(file.read_bytes())
    steps = -(-batches // accumulation)  # of an epoch, rounded up
    epochs, step = divmod(state["global_step"], steps)
    place = epochs + min(step * accumulation, batches) / batches
    found = state["epoch"]
    # Logs round it to fewer digits than these.
    if found is not None and abs(found - place) > 1e-3 / batches:
        raise ValueError(
            f"A run must go on with the data and the examples a step that {checkpoint} "
            f"was made with, but that is at epoch {found:.6g} where step "
            f"{state['global_step']} is at {place:.6g} now: restore the number of "
            "processes, per_device_train_batch_size, gradient_accumulation_steps and "
            "data, or begin in another output_dir."
        )


def _is_whole(checkpoint: Path) -> bool:
    """Tell whether the trainer's state, a mapping in JSON, can be read."""
    file = checkpoint / _STATE
    # A killed process leaves no file, or the beginning of one, which is no JSON.
    try:
        state = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(state, dict)
