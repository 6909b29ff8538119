"""The newest checkpoint of a folder that was written to its end."""

from __future__ import annotations

import json
from pathlib import Path


def newest_checkpoint(folder: str | Path) -> str | None:
    """Return the newest checkpoint that was written to its end, or None.

    The trainer's state is the last file of a checkpoint, and older ones are deleted
    only after it: if it can be read, all is there.
    """
    checkpoints = Path(folder).glob("checkpoint-*")
    for checkpoint in sorted(checkpoints, key=_step, reverse=True):
        if _is_whole(checkpoint):
            return str(checkpoint)
    return None


def _step(checkpoint: Path) -> int:
    """The step after which a checkpoint was written, from its name."""
    # As a number: by name, checkpoint-9 would come after checkpoint-10.
    _, _, step = checkpoint.name.rpartition("-")
    return int(step)


def _is_whole(checkpoint: Path) -> bool:
    """Tell whether the trainer's state, a mapping in JSON, can be read."""
    file = checkpoint / "trainer_state.json"
    # A killed process leaves no file, or the beginning of one, which is no JSON.
    try:
        state = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(state, dict)
