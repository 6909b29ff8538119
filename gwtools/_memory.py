"""Memory: how much is free, and work that cannot fit is refused before it starts."""

from __future__ import annotations

import math
from pathlib import Path

from gwtools import _array, _check
from gwtools._array import Array

NUMBER = 8  # bytes: certificates and linear programs are computed in float64
_WORTH_ASKING = 2**26  # bytes: less is not worth the time it takes to ask what is free
_MOST_HELD = 32  # numbers for each of (n + m)² pairs: no solver and no bound holds more
# Names of the limit, of what is used, and of cached pages: versions 2 and 1 of groups.
_FILES_OF_A_GROUP = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
_ROOT = Path("/")  # of the files in which Linux says what is free and what is used


def atoms_surely_fit(n: int, m: int) -> bool:
    """Tell whether all work on n and m atoms is sure to fit.

    What is free need not be asked for then, which takes longer than a small problem.
    """
    most_bytes = NUMBER * _MOST_HELD * (n + m) ** 2
    return most_bytes < _WORTH_ASKING


def numbers_surely_fit(numbers: float, limit: float | None) -> bool:
    """Tell whether so many float64 numbers are sure to fit, and within a limit."""
    needed = NUMBER * numbers
    if limit is None:
        return needed < _WORTH_ASKING
    return needed < min(_WORTH_ASKING, limit)


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
        Estimate of how many it holds, rather too large than too small.
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
    """Return the free bytes of an array's CUDA device, or else for this process."""
    on_device = _array.free_on_device(like)
    if on_device is not None:
        return on_device
    return min(_of_the_machine(), _of_the_group(), _of_the_process())


def _of_the_machine() -> float:
    """What the system can hand out without swapping; infinite where it does not say."""
    kibibytes = _fields("proc/meminfo").get("MemAvailable:", math.inf)
    return 1024 * kibibytes


def _of_the_group() -> float:
    """What the limits of this process's control groups (versions 2 and 1) leave."""
    version_2 = Path("sys/fs/cgroup")
    version_1 = Path("sys/fs/cgroup/memory")
    groups = [version_2, version_1]
    for line in _text("proc/self/cgroup").splitlines():
        # Number of the hierarchy, its controllers, and the group: "0::/user.slice".
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            groups += _with_parents(version_2, path)
        elif controllers == "memory":
            groups += _with_parents(version_1, path)
    left = [_left_in(group) for group in groups]
    return min(left)


def _with_parents(root: Path, path: str) -> list[Path]:
    """Return a control group and those around it, whose limits hold for it as well."""
    group = root / path.lstrip("/")
    groups = [group]
    for parent in group.parents:
        if root in parent.parents:
            groups.append(parent)
    return groups


def _left_in(group: Path) -> float:
    """What one control group has left: its limit less what is used and not only cached.

    Infinite where it has no limit, for which version 2 writes "max".
    """
    for limit_file, used_file, cached_field in _FILES_OF_A_GROUP:
        limit = _text(group / limit_file).strip()
        used = _text(group / used_file).strip()
        if limit.isdigit() and used.isdigit():
            # The system drops these pages of files before it refuses memory.
            cached = _fields(group / "memory.stat").get(cached_field, 0.0)
            return float(limit) - float(used) + cached
    return math.inf


def _of_the_process() -> float:
    """What the limit of the address space, if one is set, leaves."""
    try:
        import resource
    except ImportError:  # not on every system
        return math.inf
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return math.inf
    # The limit is in bytes, the size in kibibytes.
    used = 1024 * _fields("proc/self/status").get("VmSize:", 0.0)
    return float(limit) - used


def _fields(path: Path | str) -> dict[str, float]:
    """Read lines of a name and a number; other lines are left out."""
    numbers = {}
    for line in _text(path).splitlines():
        cells = line.split()
        if len(cells) > 1 and cells[1].isdigit():
            name = cells[0]
            numbers[name] = float(cells[1])
    return numbers


def _text(path: Path | str) -> str:
    """Read a file; an empty text where there is none, as on other systems."""
    try:
        return (_ROOT / path).read_text(encoding="utf-8")
    except OSError:
        return ""
