"""Log-probabilities and ids of a server, checked and made the rows of a store."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.teachers.server_formats import Candidate, Entry
from fusion.teachers.store import TeacherRows

# The largest id that stores can hold: they have int32.
_LARGEST_ID = 2**31 - 1
# Servers put this, or less, for probabilities of 0 and for those they do not tell.
_STAND_IN = -9999.0
# Types that JSON makes come first: isinstance finds them faster.
_INTEGERS = (int, Integral)
_NUMBERS = (float, int, Real)
_ROUNDING = 1e-3  # how far a log-probability may be above 0


def teacher_rows(entries: Sequence[Entry], ends: list[int], k: int) -> TeacherRows:
    """Make the teacher's rows of a completion.

    Parameters
    ----------
    entries : sequence of n Entry
        What the server says of its tokens.
    ends : list of n ints
        Bytes of the completion at which they end.
    k : int
        Entries a token.

    Returns
    -------
    TeacherRows
        What a store keeps.

    Raises
    ------
    ValueError
        If a number or an id cannot be stored, or there are fewer than k; the message is
        a part of a sentence that names the token.
    """
    values = []  # (n, k)
    ids = []  # (n, k), −1 where the server does not tell them
    nll = []  # (n,)
    full = _full(entries)
    for i, entry in enumerate(entries, start=1):
        try:
            top = _top(entry, k, full)
            values.append([_logprob(one.logprob) for one in top])
            ids.append([_id(one.id) for one in top])
            nll.append(-_logprob(entry.token.logprob))
        except ValueError as error:
            raise ValueError(f"at token {i}, {error}") from error
    return _stored(values, ids, nll, ends)


def _stored(
    values: list[list[float]],
    ids: list[list[int]],
    nll: list[float],
    ends: list[int],
) -> TeacherRows:
    """Make what a store keeps of log-probabilities."""
    # Log-probabilities are logits whose log-sum-exp is 0. Moments of their full rows
    # are unknown.
    return TeacherRows(
        values=_half(values),
        ids=np.array(ids, dtype=np.int32),
        logsumexp=np.zeros(len(ends), dtype=np.float32),
        mean=None,
        std=None,
        nll=_half(nll),
        ends=np.array(ends, dtype=np.int32),
        shift=np.zeros(len(ends), dtype=np.float32),
    )


def _half(numbers: Sequence[Any]) -> NDArray[np.float16]:
    """Return numbers as they are stored; those that are checked all fit."""
    return np.array(numbers, dtype=np.float16)


def _top(entry: Entry, k: int, full: int) -> list[Candidate]:
    """Return the k likeliest tokens in descending order, or refuse fewer."""
    listed = _distinct(entry)
    # Servers promise no order, but stores hold values in descending order.
    ranked = sorted(listed, key=lambda one: -_number(one.logprob))
    top = ranked[:k]
    if len(top) < k:
        raise ValueError(
            f"it has {len(top)} top log-probabilities, not {k}: ask the server for "
            f"{k}, or import with k={max(len(top), 1)}"
        )
    for one in top:
        # A token that was chosen is listed even where it is none of the likeliest.
        if isinstance(one.rank, int) and one.rank > k:
            raise ValueError(
                f"one of its {k} likeliest tokens is of rank {one.rank}: ask the "
                f"server for {k} of them"
            )
    if _pushed_out(entry, top):
        raise ValueError(
            "the token that was chosen may stand in the place of a likelier one: ask "
            f"the server for top_logprobs={k + 1}"
        )
    if _merged(entry, full):
        raise ValueError(
            "several of its likeliest tokens have one text, under which the server "
            "gives one number: ask for a form with ids, as that of chats"
        )
    return top


def _distinct(entry: Entry) -> list[Candidate]:
    """Return the candidates that are listed, each once."""
    found: dict[Any, Candidate] = {}
    for i, one in enumerate(entry.top):
        key: Any = i
        if isinstance(one.id, _INTEGERS) and int(one.id) >= 0:
            key = ("id", int(one.id))
        elif isinstance(one.text, str) and one.text and "\ufffd" not in one.text:
            # Several tokens may show one text, but hardly with one probability.
            key = ("text", one.text, str(one.data), str(one.logprob))
        if key in found and found[key].logprob != one.logprob:
            raise ValueError(
                f"the token {one.id} is listed twice, as {found[key].logprob!r} and "
                f"{one.logprob!r}"
            )
        found.setdefault(key, one)
    return list(found.values())


def _pushed_out(entry: Entry, top: Sequence[Candidate]) -> bool:
    """Tell whether the chosen token may have taken the place of a likelier one.

    vLLM lists it first and the likeliest after it, and cuts the list where it is full:
    at its end.
    """
    listed = entry.top
    if entry.by_text or len(listed) > len(top) or len(listed) < 2:
        return False
    first, *rest = listed
    if first.rank is not None or (first.text, first.id) != _name(entry, first):
        return False
    numbers = [_number(one.logprob) for one in rest]
    descending = numbers == sorted(numbers, reverse=True)
    return descending and _number(first.logprob) < numbers[-1]


def _name(entry: Entry, first: Candidate) -> tuple[Any, Any]:
    """Return text and id of the chosen token; the id where both tell it."""
    number = entry.token.id if entry.token.id != -1 else first.id
    return entry.token.text, number


def _full(entries: Sequence[Entry]) -> int:
    """Return how long those lists are to which no chosen token is added."""
    named = [entry for entry in entries if entry.by_text]
    sizes = [len(entry.top) for entry in named if not _is_least(entry)]
    if not sizes:
        sizes = [len(entry.top) for entry in named]
    return max(sizes, default=0)


def _is_least(entry: Entry) -> bool:
    """Tell whether the chosen token is the least likely that is listed.

    Then it may have been added to the likeliest.
    """
    listed = min((_number(one.logprob) for one in entry.top), default=0.0)
    texts = [one.text for one in entry.top if _number(one.logprob) == listed]
    return entry.token.text in texts


def _merged(entry: Entry, full: int) -> bool:
    """Tell whether candidates that are named by their text may be one for several."""
    if not entry.by_text:
        return False
    # A list may be full only since the chosen token was added, while several of the
    # likeliest show no text and count once.
    unspelled = any("\ufffd" in str(one.text) or not one.text for one in entry.top)
    hidden = len(entry.top) == full and _is_least(entry) and unspelled
    return len(entry.top) < full or hidden


def _number(value: Any) -> float:
    """Return a log-probability that can be compared, or refuse it."""
    if value is None:
        raise ValueError("a log-probability is null")
    if not isinstance(value, _NUMBERS) or isinstance(value, bool):
        raise ValueError(f"a log-probability is {value!r}, not a number")
    try:
        number = float(value)
    except OverflowError:
        number = -math.inf if value < 0 else math.inf
    if math.isnan(number):
        raise ValueError("a log-probability is NaN")
    return number


def _logprob(value: Any) -> float:
    """Return a log-probability that can be stored, or refuse it."""
    number = _number(value)
    if number > _ROUNDING:
        raise ValueError(f"a log-probability is {number:g}, above 0")
    if number <= _STAND_IN:
        raise ValueError(
            f"a log-probability is {number:g}, which stands for one that is not known"
        )
    return number


def _id(number: Any) -> int:
    """Return the id of a token, or −1 where the server does not tell it."""
    # Stores would cut what is no integer. True and False are integers to Python.
    integer = isinstance(number, _INTEGERS) and not isinstance(number, bool)
    if not integer or not -1 <= int(number) <= _LARGEST_ID:
        raise ValueError(
            f"an id is {number!r}, not an integer from 0 to {_LARGEST_ID}: leave out "
            "ids that are not known"
        )
    return int(number)
