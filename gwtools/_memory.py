"""Memory: how much is free for this process, and the refusal of work that cannot fit before it starts."""

from __future__ import annotations

import math
from pathlib import Path

from gwtools import _array, _check
from gwtools._array import Array

NUMBER = 8  # bytes: certificates and linear programs are computed in float64
_WORTH_ASKING = 2**26  # bytes: less is not worth the time it takes to ask what is free
_MOST_HELD = 32  # numbers for each of (n + m)² pairs: no solver and no bound holds more
_ROOT = Path("/")


def atoms_surely_fit(n: int, m: int) -> bool:
    """Tell whether n and m atoms are so few that all work on them fits: then nobody asks how much memory is free."""
    return NUMBER * _MOST_HELD * (n + m) ** 2 < _WORTH_ASKING


def numbers_surely_fit(numbers: float, limit: float | None) -> bool:
    """Tell whether so many float64 numbers are within a limit, and so few that nobody asks how much memory is free."""
    return NUMBER * numbers < min(_WORTH_ASKING, math.inf if limit is None else limit)


def require(
    numbers: float,
    shape: tuple[int, int],
    what: str,
    like: Array,
    limit: float | None = None,
    name: str = "x and y",
) -> None:
    """Refuse work that holds more float64 numbers at once than fit.

    Parameters
    ----------
    numbers : float
        How many, about and rather too many.
    shape : (int, int)
        Numbers of atoms (n, m).
    what : str
        Name of the work.
    like : array
        One of the arrays of the spaces, on whose device the work is done.
    limit : float, optional
        Bytes that may be used; by default what is free.
    name : str
        Name of the two spaces.

    Raises
    ------
    MemoryError
        If it does not fit.
    """
    needed = NUMBER * numbers
    if limit is None:
        if needed < _WORTH_ASKING:
            return
        limit = free(like)
    _check.fits(needed, limit, shape, what, name)


def free(like: Array) -> float:
    """Return the bytes that are free where an array lies: on its CUDA device, or for this process."""
    on_device = _array.free_on_device(like)
    return (
        min(part() for part in (_of_the_machine, _of_the_group, _of_the_process))
        if on_device is None
        else on_device
    )


def _of_the_machine() -> float:
    """Memory that the system can hand out without swapping; infinite where it does not say."""
    fields = _fields("proc/meminfo")
    return 1024 * fields["MemAvailable:"] if "MemAvailable:" in fields else math.inf


def _of_the_group() -> float:
    """What the limits of the control groups (versions 2 and 1) of this process leave."""
    groups = [Path("sys/fs/cgroup"), Path("sys/fs/cgroup/memory")]
    for line in _text("proc/self/cgroup").splitlines():
        controllers, path = line.split(":", 2)[1:]
        if controllers in ("", "memory"):
            base = groups[0] if controllers == "" else groups[1]
            here = base / path.lstrip("/")
            groups += [
                here,
                *(parent for parent in here.parents if base in parent.parents),
            ]
    return min(_left_in(group) for group in groups)


def _left_in(group: Path) -> float:
    """What one control group has left: its limit less what is used and not only cached."""
    for limit, used, cached in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        most, now = _text(group / limit).strip(), _text(group / used).strip()
        if most.isdigit() and now.isdigit():
            return (
                float(most)
                - float(now)
                + _fields(group / "memory.stat").get(cached, 0.0)
            )
    return math.inf


def _of_the_process() -> float:
    """What the limit of the address space, if one is set, leaves."""
    try:
        import resource
    except ImportError:  # not on every system
        return math.inf
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    if most == resource.RLIM_INFINITY:
        return math.inf
    return float(most) - 1024 * _fields("proc/self/status").get("VmSize:", 0.0)


def _fields(path: Path | str) -> dict[str, float]:
    """Read lines of a name and a number."""
    cells = (line.split() for line in _text(path).splitlines())
    return {
        name: float(value)
        for name, value, *_ in (c for c in cells if len(c) > 1)
        if value.isdigit()
    }


def _text(path: Path | str) -> str:
    try:
        return (_ROOT / path).read_text(encoding="utf-8")
    except OSError:
        return ""
