"""What fusion's tensor functions refuse: each error says the requirement, what was received and the remedy, in one sentence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gwtools._check import choice, number

__all__ = [
    "choice",
    "count",
    "finite",
    "indices",
    "mask",
    "number",
    "paired",
    "tensor",
    "weights",
]


def tensor(value: Any, name: str, ndim: int, empty: bool = False) -> None:
    """Require a floating-point tensor with ``ndim`` axes, none of them empty unless that is allowed."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        received = (
            f"dtype {value.dtype}"
            if isinstance(value, Tensor)
            else f"type {type(value).__name__}"
        )
        raise TypeError(
            f"{name} must be a floating-point torch tensor, but is of {received}: convert it first."
        )
    if value.ndim != ndim or (0 in value.shape and not empty):
        raise ValueError(
            f"{name} must have {ndim} axes{'' if empty else ', none of them empty'}, but has shape {tuple(value.shape)}: "
            "add the missing axis with unsqueeze, or drop the empty batch."
        )


def mask(value: Any, shape: torch.Size, name: str = "mask") -> None:
    """Require a boolean tensor of the given shape with a valid position."""
    if (
        not isinstance(value, Tensor)
        or value.dtype != torch.bool
        or value.shape != shape
    ):
        received = (
            f"{value.dtype} of shape {tuple(value.shape)}"
            if isinstance(value, Tensor)
            else type(value).__name__
        )
        raise ValueError(
            f"{name} must be a boolean tensor of shape {tuple(shape)}, True at valid positions, but is {received}: "
            "pass one entry for each position."
        )
    if not bool(value.any()):
        raise ValueError(
            f"{name} must mark a valid position, but none of {value.numel()} is: leave out such a batch."
        )


def weights(value: Any, name: str, size: int) -> None:
    """Require a floating-point tensor of ``size`` finite entries of at least 0."""
    tensor(value, name, 1, empty=True)
    if len(value) != size or not bool(((value >= 0) & value.isfinite()).all()):
        received = f"are {value.tolist()}: pass one for each example."
        raise ValueError(
            f"{name} must be {size} finite numbers at least 0, but {received}"
        )


def indices(value: Any, name: str, leading: torch.Size, below: int) -> None:
    """Require an int64 tensor whose shape starts with ``leading`` and whose entries are from 0 to ``below`` − 1."""
    if (
        not isinstance(value, Tensor)
        or value.dtype != torch.int64
        or value.shape[: len(leading)] != leading
    ):
        received = (
            f"{value.dtype} of shape {tuple(value.shape)}"
            if isinstance(value, Tensor)
            else type(value).__name__
        )
        raise ValueError(
            f"{name} must be an int64 tensor whose shape starts with {tuple(leading)}, but is {received}: convert it first."
        )
    if value.numel() and (int(value.min()) < 0 or int(value.max()) >= below):
        raise ValueError(
            f"{name} must lie between 0 and {below - 1}, but lies between {int(value.min())} and {int(value.max())}: "
            "mask out positions that have none, and put a valid index there."
        )


def count(value: Any, name: str, most: int | None = None) -> None:
    """Require a positive integer, of at most ``most`` where that is given."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or value < 1
        or (most is not None and value > most)
    ):
        limit = "" if most is None else f" and at most {most}"
        raise ValueError(
            f"{name} must be an integer at least 1{limit}, but is {value!r}: pass such a number."
        )


def finite(values: Tensor, k: int) -> None:
    """Require that what was read of valid rows is finite: NaN, +inf and fewer than k finite logits show there."""
    if not bool(values.isfinite().all()):
        raise ValueError(
            f"logits at valid positions must be finite but for −inf outside the {k} largest, but hold NaN, +inf or too many "
            "−inf: mask those positions, lower k, or compute the head in bfloat16 or float32 where float16 overflows."
        )


def paired(student: Any, teacher: Any) -> None:
    """Require that two sets of top-k logits hold the same number of ranks of the same quantity."""
    for name in ("k", "standardize", "temperature"):
        ours, theirs = getattr(student, name), getattr(teacher, name)
        if ours != theirs:
            remedy = (
                "cut the longer one with .first(k)"
                if name == "k"
                else "make both with .standardized from raw ones"
            )
            raise ValueError(
                f"student and teacher must have the same {name}, but they have {ours!r} and {theirs!r}: {remedy}."
            )
    if student.batch != teacher.batch or student.values.device != teacher.values.device:
        raise ValueError(
            "student and teacher must hold as many sequences on one device, but hold "
            f"{student.batch} on {student.values.device} and {teacher.batch} on {teacher.values.device}: "
            "move one of them, and pass row b of both for the same example."
        )
