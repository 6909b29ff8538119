"""Which positions of two tokenizations of one text predict the same next byte."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

How = Literal["bytes", "positional"]
Index = NDArray[np.int64]  # positions, or bytes at which tokens start or end


def align(
    student_ends: ArrayLike,
    teacher_ends: ArrayLike,
    how: How = "bytes",
    *,
    student_start: int = 0,
    teacher_start: int = 0,
) -> tuple[Index, Index]:
    """Pair the completion positions of a student with those of a teacher.

    Parameters
    ----------
    student_ends, teacher_ends : (n,) and (m,) integer arrays, non-decreasing
        The byte at which each token of the completion ends (``Encoded.ends``,
        ``TeacherRows.ends``). Token i starts where token i - 1 ends.
    how : {"bytes", "positional"}
        "bytes" pairs tokens that start at the same byte, so that both models predict
        the continuation of one and the same text. Where several of one side start
        there, since all but the last are empty, the last is paired. "positional" pairs
        the i-th with the i-th, whatever they say.
    student_start, teacher_start : int
        Where the first token starts (``Encoded.start``): below 0 if it begins with the
        last bytes of the prompt, above if a chat template strips white space in front
        of the completion. Only "bytes" uses it.

    Returns
    -------
    student : (P,) int64 array
        Positions of the student's tokens that have a partner, increasing. P / n is the
        coverage.
    teacher : (P,) int64 array
        Their partners among the teacher's tokens, increasing.

    Raises
    ------
    ValueError
        If ``how`` is unknown, ends are not non-decreasing integers from 0 on, or a
        start is no integer, or above the first end.

    Examples
    --------
    "The sum is 7" in four tokens and in three: where the second of the student starts,
    none of the teacher does.

    >>> import fusion
    >>> student, teacher = fusion.align([3, 7, 10, 12], [7, 10, 12])
    >>> student.tolist(), teacher.tolist()
    ([0, 2, 3], [0, 1, 2])
    """
    _check_how(how)
    student = _checked(student_ends, "student_ends")
    teacher = _checked(teacher_ends, "teacher_ends")
    _check_start(student_start, student, "student_start")
    _check_start(teacher_start, teacher, "teacher_start")
    if how == "positional":
        common = min(len(student), len(teacher))
        positions = np.arange(common)
        # Two arrays, so that whoever changes one leaves the other.
        return positions, positions.copy()
    # Tokens that start at the same byte predict the same continuation.
    student_starts, student_tokens = _last_at_each_start(student, student_start)
    teacher_starts, teacher_tokens = _last_at_each_start(teacher, teacher_start)
    _, ours, theirs = np.intersect1d(
        student_starts,
        teacher_starts,
        assume_unique=True,
        return_indices=True,
    )
    return student_tokens[ours], teacher_tokens[theirs]


def _check_how(how: str) -> None:
    """Require one of the ways to align."""
    ways = get_args(How)
    if how not in ways:
        listed = ", ".join(map(repr, ways))
        raise ValueError(
            f"how must be one of {listed}, but is {how!r}: choose one of these."
        )


def _checked(ends: ArrayLike, name: str) -> Index:
    """Return ends as an array, and require that they may be ends of tokens."""
    found = np.asarray(ends)
    if not _are_ends(found):
        raise ValueError(
            f"{name} must be a list of integers that start at 0 or above "
            f"and never decrease, but is {found!r}: "
            "pass the bytes at which the tokens end."
        )
    return found.astype(np.int64)


def _are_ends(found: NDArray[Any]) -> bool:
    """Tell whether an array holds non-decreasing integers from 0 on."""
    if found.ndim != 1:
        return False
    # An empty list is an array of floats to NumPy.
    if found.size == 0:
        return True
    if found.dtype.kind not in "iu" or found[0] < 0:
        return False
    steps = np.diff(found)
    return not (steps < 0).any()


def _check_start(start: int, ends: Index, name: str) -> None:
    """Require a byte at which the first token of a completion may start."""
    if not isinstance(start, int | np.integer) or (len(ends) and start > ends[0]):
        raise ValueError(
            f"{name} must be an integer of at most the first end, but is {start!r}: "
            "pass `Encoded.start`, the byte at which the first token starts."
        )


def _last_at_each_start(ends: Index, start: int) -> tuple[Index, Index]:
    """Return the distinct starts of tokens, and the last token at each of them."""
    n = len(ends)
    # A token starts where the one before it ends. Cut to n, since without any token
    # there is no first start either.
    starts = np.concatenate([[start], ends[:-1]])[:n]
    differs = starts[1:] != starts[:-1]
    is_last = np.append(differs, True)[:n]
    last = np.flatnonzero(is_last)
    return starts[last], last
