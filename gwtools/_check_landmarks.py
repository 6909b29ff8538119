"""Rejects what proves nothing through landmarks: lists and plans that do not pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gwtools import _array, _check_plans, _words
from gwtools._array import Array


def certificates(values: Any, name: str, kind: type) -> None:
    """Require a list of certificates that is not empty."""
    is_list = isinstance(values, Sequence) and not isinstance(values, str | bytes)
    if not is_list:
        remedy = f"pass [{name}] for one landmark"
        if not isinstance(values, kind):
            remedy = "pass one certificate for each landmark"
        raise TypeError(
            f"{name} must be a list of gwtools.Certificate, "
            f"but is {_words.shown(values)}: {remedy}."
        )
    if not values:
        raise ValueError(
            f"{name} must have one certificate for each landmark, but is empty: "
            "without a landmark nothing is known."
        )
    for place, value in enumerate(values):
        if not isinstance(value, kind):
            raise TypeError(
                f"{name}[{place}] must be a gwtools.Certificate, "
                f"but is {_words.shown(value)}: "
                "pass result.certificate, or what gwtools.certify returns."
            )


def paired(xs: Sequence[Any], ys: Sequence[Any]) -> None:
    """Require as many certificates of both spaces."""
    if len(xs) != len(ys):
        raise ValueError(
            "certificates_x must be of the landmarks of certificates_y, "
            f"but they are {len(xs)} and {len(ys)}: "
            "pass one of each for every landmark, in one order."
        )


def one_landmark(columns_x: Array, columns_y: Array) -> None:
    """Require two plans whose columns are the atoms of one space, of equal masses."""
    if columns_x.shape != columns_y.shape:
        count_x = columns_x.shape[0]
        count_y = columns_y.shape[0]
        raise ValueError(
            "plan_x and plan_y must have one column for each atom of the same "
            f"landmark, but have {count_x} and {count_y}: "
            "pass the plans from x to the landmark and from y to the landmark."
        )
    xp = _array.namespace(columns_x, columns_y)
    missed = _array.number(xp.sum(xp.abs(columns_x - columns_y)))
    # Not missed > most: NaN must be refused as well.
    if not missed <= _check_plans.MOST_MISSED:
        limit = f"{_check_plans.MOST_MISSED:g}"
        raise ValueError(
            "plan_x and plan_y must have the same column sums, the weights of the "
            f"landmark, up to {limit} in total, but they differ by {missed:.3g}: "
            "pass plans to one landmark, as gwtools.round_plan gives them."
        )
