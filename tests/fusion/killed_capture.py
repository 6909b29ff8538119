"""Kills captures at random moments and resumes them; prints whether each ended with the bytes of an undisturbed one."""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from fusion.capture import capture
from tests.fusion import tiny


def content(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def run(teacher, path):
    """Capture in a process of its own, so that it can be killed; return its id."""
    child = os.fork()
    if child == 0:
        capture(*teacher, EXAMPLES, path, k=5, batch_size=2, shard_size=3, progress=False)
        os._exit(0)
    return child


def seconds(teacher, path):
    start = time.monotonic()
    os.waitpid(run(teacher, path), 0)
    return time.monotonic() - start


def kill_until_done(teacher, path, rng, whole):
    """Kill the first runs somewhere, let a later one end; return how many were killed."""
    killed = 0
    while True:
        child = run(teacher, path)
        if killed < 2:
            time.sleep(rng.uniform(0, whole))
            os.kill(child, signal.SIGKILL)
        if not os.WIFSIGNALED(os.waitpid(child, 0)[1]):
            return killed
        killed += 1


EXAMPLES = tiny.sums(60)

if __name__ == "__main__":
    folder, teacher, rng = Path(sys.argv[1]), tiny.llama(), random.Random(0)
    whole = seconds(teacher, folder / "whole")
    interrupted, same = [], []
    for i in range(5):
        interrupted.append(kill_until_done(teacher, folder / str(i), rng, whole))
        same.append(content(folder / str(i)) == content(folder / "whole"))
    print(json.dumps({"interrupted": interrupted, "same": same, "seconds": whole}))
