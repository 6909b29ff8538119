"""Which positions of two tokenizations of one text predict the same next byte."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

How = Literal["bytes", "positional"]
Index = NDArray[np.int64]


def align(
    student_ends: ArrayLike, teacher_ends: ArrayLike, how: How = "bytes"
) -> tuple[Index, Index]:
    """Pair the completion positions of a student with those of a teacher.

    Parameters
    ----------
    student_ends, teacher_ends : (n,) and (m,) integer arrays, non-decreasing
        The byte at which each token of the completion ends (``Encoded.ends``,
        ``TeacherRows.ends``). Token i starts where token i - 1 ends, the first at 0.
    how : {"bytes", "positional"}
        Pair tokens that start at the same byte, so that both models predict the
        continuation of one and the same text; of several that start there, as after an
        empty token, the last. Or pair the i-th with the i-th, whatever they say.

    Returns
    -------
    student, teacher : (P,) int64 arrays
        Rows of each that belong together, increasing. P / n is the coverage.

    Raises
    ------
    ValueError
        If ``how`` is unknown or ends decrease.

    Examples
    --------
    "The sum is 7" in four tokens and in three: where the second of the student starts,
    none of the teacher does.

    >>> import fusion
    >>> student, teacher = fusion.align([3, 7, 10, 12], [7, 10, 12])
    >>> student.tolist(), teacher.tolist()
    ([0, 2, 3], [0, 1, 2])
    """
    if how not in get_args(How):
        raise ValueError(
            f"how must be one of {', '.join(map(repr, get_args(How)))}, but is {how!r}: choose one of these."
        )
    student, teacher = (
        _checked(student_ends, "student_ends"),
        _checked(teacher_ends, "teacher_ends"),
    )
    if how == "positional":
        both = np.arange(min(len(student), len(teacher)))
        return both, both.copy()
    starts, rows = _last_at_each_start(student)
    others, columns = _last_at_each_start(teacher)
    _, i, j = np.intersect1d(starts, others, assume_unique=True, return_indices=True)
    return rows[i], columns[j]


def _checked(ends: ArrayLike, name: str) -> Index:
    found = np.asarray(ends)
    if found.ndim != 1 or (
        found.size
        and (found.dtype.kind not in "iu" or found[0] < 0 or (np.diff(found) < 0).any())
    ):
        raise ValueError(
            f"{name} must be a list of integers that start at 0 or above and never decrease, but is {found!r}: "
            "pass the bytes at which the tokens end."
        )
    return found.astype(np.int64)


def _last_at_each_start(ends: Index) -> tuple[Index, Index]:
    """Distinct starts, and the last token that starts at each."""
    starts = np.concatenate([[0], ends[:-1]])[: len(ends)]
    last = np.flatnonzero(np.append(starts[1:] != starts[:-1], True)[: len(starts)])
    return starts[last], last
