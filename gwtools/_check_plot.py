"""Rejects what cannot be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from gwtools import _words


def matplotlib() -> None:
    """Require matplotlib."""
    if find_spec("matplotlib") is None:
        raise ImportError(
            "gwtools.plot needs matplotlib, which is not installed: "
            "run pip install 'gwfusion[plots]'."
        )


def instance(value: Any, name: str, kinds: Sequence[type]) -> None:
    """Require an instance of one of several classes of gwtools."""
    if not isinstance(value, tuple(kinds)):
        wanted = " or ".join(f"gwtools.{kind.__name__}" for kind in kinds)
        raise TypeError(
            f"{name} must be a {wanted}, but is {_words.shown(value)}: "
            "pass what gwtools.solve returns, or a part of it."
        )


def axes(ax: Any) -> None:
    """Require axes of matplotlib."""
    if not hasattr(ax, "get_xlim"):
        raise TypeError(
            f"ax must be axes of matplotlib, but is {_words.shown(ax)}: "
            "pass one of those that matplotlib.pyplot.subplots returns, or None."
        )


def known(count: int, what: str, remedy: str) -> None:
    """Require something to draw."""
    if count == 0:
        raise ValueError(f"result must have {what}, but has none: {remedy}.")


def labels(names: Sequence[Any], count: int, name: str) -> None:
    """Require a name for each row or column."""
    if len(names) != count:
        raise ValueError(
            f"{name} must have a name for each of {count}, but has {len(names)}: "
            "pass as many, or None."
        )
