"""Kills captures at random moments and resumes them; prints whether each ended with the bytes of an undisturbed one."""

import json
import os
import random
import signal
import sys
from pathlib import Path

import torch

from fusion.capture import capture
from tests.fusion import tiny


def content(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def run(teacher, path, seconds=0.0):
    """Capture in a process that is ended, as by a kill, after so many seconds of its own; tell whether it was, and its time.

    Seconds are the process's, so that a busy machine changes nothing; 0 means that it runs to its end.
    """
    child = os.fork()
    if child == 0:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        capture(*teacher, EXAMPLES, path, k=5, batch_size=2, shard_size=3, progress=False)
        os._exit(0)
    _, status, usage = os.wait4(child, 0)
    assert status == 0 or os.WTERMSIG(status) == signal.SIGPROF
    return status != 0, usage.ru_utime + usage.ru_stime


def kill_twice(teacher, path, rng, whole):
    """Kill two runs somewhere in what is left to them and let a third one end; return how many were killed."""
    return sum(
        run(teacher, path, seconds)[0] for seconds in (rng.uniform(0, whole / 4), rng.uniform(0, whole / 4), 0.0)
    )


EXAMPLES = tiny.sums(60)

if __name__ == "__main__":
    torch.set_num_threads(1)  # threads that wait for each other use up time
    folder, teacher, rng = Path(sys.argv[1]), tiny.llama(), random.Random(0)
    _, whole = run(teacher, folder / "whole")
    interrupted, same = [], []
    for i in range(5):
        interrupted.append(kill_twice(teacher, folder / str(i), rng, whole))
        same.append(content(folder / str(i)) == content(folder / "whole"))
    print(json.dumps({"interrupted": interrupted, "same": same, "seconds": whole}))
