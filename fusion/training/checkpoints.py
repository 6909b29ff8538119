"""The newest checkpoint of a folder that was written to its end."""

from __future__ import annotations

import json
import re
from pathlib import Path

# What the Trainer calls a checkpoint: the step after which it was written.
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


def _is_whole(checkpoint: Path) -> bool:
    """Tell whether the trainer's state, a mapping in JSON, can be read."""
    file = checkpoint / "trainer_state.json"
    # A killed process leaves no file, or the beginning of one, which is no JSON.
    try:
        state = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(state, dict)
