"""Commands of fusion in processes of their own, which may be killed at a step.

A process that is to be killed does it itself, by a signal that it cannot handle: how
fast the machine is does not decide at which step.

    python -m simulations._killing STEP WORD ...

runs ``python -m fusion WORD ...`` to STEP. Its integer part says behind which step,
counted from the start of the process, and its fraction how much of a step later.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STEP = re.compile(r"^\{'loss'", re.MULTILINE)  # what the Trainer prints at a step
KILLED = -9  # the exit status by SIGKILL


class _Watched:
    """Standard output that kills its process at a step."""

    def __init__(self, stream: Any, kill: float) -> None:
        self._stream = stream
        self._kill = kill
        self._moments: list[float] = []  # of the steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text, and look whether it tells of the step."""
        written: int = self._stream.write(text)
        if STEP.match(text):
            self._moments.append(time.perf_counter())
            if len(self._moments) == int(self._kill):
                self._end()
        return written

    def _end(self) -> None:
        """Kill this process while it goes on with the next step."""
        self._stream.flush()
        step = self._moments[-1] - self._moments[-2] if len(self._moments) > 1 else 0.0
        wait = (self._kill - int(self._kill)) * step
        threading.Timer(wait, os.kill, (os.getpid(), signal.SIGKILL)).start()


@dataclass(frozen=True)
class Ended:
    """What became of a command."""

    status: int
    printed: str
    steps: int  # optimiser steps that it has logged
    seconds: float
    peak: float  # in MiB


def launch(words: Sequence[str], errors: Path, kill: float | None = None) -> Ended:
    """Run a command in a process to its end, or have it kill itself."""
    start = time.perf_counter()
    module = ["fusion"] if kill is None else ["simulations._killing", str(kill)]
    with errors.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *module, *words],
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        )
    assert process.stdout is not None
    with process.stdout as stream:
        printed = stream.read()
    # Unlike `wait`, this tells the memory of this process alone.
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return Ended(
        status=process.returncode,
        printed=printed,
        steps=len(STEP.findall(printed)),
        seconds=time.perf_counter() - start,
        peak=used.ru_maxrss / unit,
    )


def main(argv: Sequence[str]) -> int:
    kill, *words = argv
    sys.stdout = _Watched(sys.stdout, float(kill))
    from fusion.__main__ import main as command

    return command(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
