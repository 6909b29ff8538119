"""Kills captures at random events and resumes them."""

import builtins
import io
import json
import os
import random
import signal
import sys
from itertools import count
from pathlib import Path

import torch

from fusion.teachers.capture import capture
from tests.fusion import tiny

EXAMPLES = tiny.sums(60)
EVENTS = ("forward", "write", "rename")  # a whole run has 40 or more of each


def content(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def kill_at(model, path, event, number):
    """Have this process kill itself at so many events of a kind, counted from 0.

    It happens however fast it gets there.

    Files of the folder are half written then, or about to get their name.
    """
    numbers, open_ = count(), io.open

    def kill_if_reached(kind):
        if kind == event and next(numbers) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(kind, arguments):
        if kind == "os.rename" and Path(arguments[1]).parent == path:
            kill_if_reached("rename")

    class Writer:
        """A file whose first half reaches the disk before the rest."""

        def __init__(self, file):
            self._file = file

        def __getattr__(self, name):
            return getattr(self._file, name)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self._file.__exit__(*error)

        def write(self, data):
            self._file.write(data[: len(data) // 2])
            self._file.flush()
            kill_if_reached("write")
            self._file.write(data[len(data) // 2 :])
            return len(data)

    def opened(file, mode="r", *args, **kwargs):
        found = open_(file, mode, *args, **kwargs)
        return Writer(found) if "w" in mode and Path(file).parent == path else found

    model.register_forward_hook(lambda *_: kill_if_reached("forward"))
    sys.addaudithook(audit)
    builtins.open = io.open = opened


def run(teacher, path, kill=None):
    """Capture in a process that may have to kill itself; tell whether it did."""
    child = os.fork()
    if child == 0:
        if kill is not None:
            kill_at(teacher[0], path, *kill)
        capture(
            *teacher, EXAMPLES, path, k=5, batch_size=2, shard_size=3, progress=False
        )
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL
    return status != 0


def kill_and_resume(folder):
    """Write to a file whether killed captures end with the bytes of a whole one."""
    torch.set_num_threads(1)  # a fork has none of its parent's threads
    folder, teacher, rng = Path(folder), tiny.llama(), random.Random(0)
    run(teacher, folder / "whole")
    events, interrupted, same = set(), [], []
    for i in range(5):
        kills = [(rng.choice(EVENTS), rng.randrange(20)) for _ in range(2)]
        events.update(event for event, _ in kills)
        interrupted.append(
            [run(teacher, folder / str(i), kill) for kill in (*kills, None)]
        )
        same.append(content(folder / str(i)) == content(folder / "whole"))
    found = {"events": sorted(events), "interrupted": interrupted, "same": same}
    (folder / "kills.json").write_text(json.dumps(found))
