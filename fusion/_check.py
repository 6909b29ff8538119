"""Refusals of tensors and numbers that do not fit, each in one sentence.

It says the requirement, what was received and the remedy.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gwtools._check import choice, number

__all__ = [
    "choice",
    "count",
    "described",
    "finite",
    "indices",
    "is_tensor",
    "known_tokens",
    "mask",
    "number",
    "paired",
    "tensor",
    "weights",
]


def is_tensor(
    value: Any,
    dtype: torch.dtype,
    shape: torch.Size,
) -> bool:
    """Tell whether a value is a tensor of this dtype and shape."""
    if not isinstance(value, Tensor):
        return False
    return value.dtype == dtype and value.shape == shape


def described(value: Any) -> str:
    """Return the dtype and shape of a tensor, or the type of another value."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{value.dtype} of shape {tuple(value.shape)}"


def tensor(
    value: Any,
    name: str,
    ndim: int,  # how many axes
    empty: bool = False,  # whether one of them may have no entries
) -> None:
    """Require a floating-point tensor with a number of axes."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name} must be a floating-point torch tensor, "
            f"but is of type {type(value).__name__}: convert it first."
        )
    if not value.is_floating_point():
        raise TypeError(
            f"{name} must be a floating-point torch tensor, "
            f"but is of dtype {value.dtype}: convert it first."
        )
    if value.ndim != ndim or (0 in value.shape and not empty):
        filled = "" if empty else ", none of them empty"
        raise ValueError(
            f"{name} must have {ndim} axes{filled}, "
            f"but has shape {tuple(value.shape)}: "
            "add the missing axis with unsqueeze, or drop the empty batch."
        )


def mask(
    value: Any,
    shape: torch.Size,
    name: str = "mask",
) -> None:
    """Require a boolean tensor of the given shape with a valid position."""
    if not is_tensor(value, torch.bool, shape):
        raise ValueError(
            f"{name} must be a boolean tensor of shape {tuple(shape)}, "
            f"True at valid positions, but is {described(value)}: "
            "pass one entry for each position."
        )
    # Without one there is nothing to take the mean over.
    if not bool(value.any()):
        raise ValueError(
            f"{name} must mark a valid position, but none of {value.numel()} is: "
            "leave out such a batch."
        )


def weights(
    value: Any,
    name: str,
    size: int,  # how many
) -> None:
    """Require a floating-point tensor of finite entries of at least 0."""
    # Empty, since a batch may have no examples.
    tensor(value, name, 1, empty=True)
    # NaN is not at least 0, and infinity would take all weight.
    valid = (value >= 0) & value.isfinite()
    if len(value) != size or not bool(valid.all()):
        raise ValueError(
            f"{name} must be {size} finite numbers at least 0, "
            f"but are {value.tolist()}: pass one for each example."
        )


def pair_weights(value: Any, index: Any) -> None:
    """Require a floating-point tensor of weights, one for each pair of an index."""
    tensor(value, "pair_weights", 2, empty=True)
    pairs = None if index is None else tuple(index.shape)
    if tuple(value.shape) != pairs:
        raise ValueError(
            f"pair_weights must have the shape {pairs} of student_index, "
            f"but have {tuple(value.shape)}: pass one for each pair."
        )
    if not bool(((value >= 0) & value.isfinite()).all()):
        raise ValueError(
            "pair_weights must be finite numbers at least 0, but some are not: "
            "set 0 where a pair shall not count."
        )


def indices(
    value: Any,
    name: str,
    leading: torch.Size,  # with which its shape starts
    below: int,  # how many entries may be pointed at
) -> None:
    """Require an int64 tensor of indices from 0 to ``below`` − 1."""
    if (
        not isinstance(value, Tensor)
        or value.dtype != torch.int64
        or value.shape[: len(leading)] != leading
    ):
        raise ValueError(
            f"{name} must be an int64 tensor whose shape starts with {tuple(leading)}, "
            f"but is {described(value)}: convert it first."
        )
    # Without entries none is out of range, and there is no minimum to take.
    if value.numel() == 0:
        return
    # An index out of range would be an error of the device, which names no argument.
    least = int(value.min())
    most = int(value.max())
    if least < 0 or most >= below:
        raise ValueError(
            f"{name} must lie between 0 and {below - 1}, "
            f"but lies between {least} and {most}: "
            "mask out positions that have none, and put a valid index there."
        )


def count(
    value: Any,
    name: str,
    most: int | None = None,  # how large it may be, if that is limited
) -> None:
    """Require a positive integer."""
    # True and False are integers to Python.
    integer = isinstance(value, int) and not isinstance(value, bool)
    if integer and value >= 1 and (most is None or value <= most):
        return
    limit = "" if most is None else f" and at most {most}"
    raise ValueError(
        f"{name} must be an integer at least 1{limit}, "
        f"but is {value!r}: pass such a number."
    )


def finite(values: Tensor, k: int) -> None:
    """Require that the k largest logits and log-sum-exps of valid rows are finite."""
    # NaN, +inf and fewer than k finite logits in a row all show there.
    all_finite = values.isfinite().all()
    if not bool(all_finite):
        raise ValueError(
            "logits at valid positions must be finite but for −inf outside the "
            f"{k} largest, but hold NaN, +inf or too many −inf: "
            "mask those positions, lower k, "
            "or compute the head in bfloat16 or float32 where float16 overflows."
        )


def known_tokens(side: Any, name: str) -> None:
    """Require top-k logits whose tokens are those of a vocabulary of known length."""
    V = side.vocabulary
    # Masked positions may hold anything. One number crosses from the device.
    unknown = (side.ids < 0) | (side.ids >= V)
    if V < 1 or bool((unknown & side.mask[..., None]).any()):
        raise ValueError(
            f"{name} must hold known tokens for channels 'vocabulary', but has ids "
            f"outside its vocabulary of {V}, as of servers that tell no ids: "
            "use channels 'rank', or a store with ids and the vocabulary's length."
        )


def paired(student: Any, teacher: Any) -> None:
    """Require that two sets of top-k logits hold as many ranks of the same quantity."""
    remedies = {
        "k": "cut the longer one with .first(k)",
        "standardize": "make both with .standardized from raw ones",
        "temperature": "make both with .standardized from raw ones",
    }
    for name, remedy in remedies.items():
        ours = getattr(student, name)
        theirs = getattr(teacher, name)
        if ours != theirs:
            raise ValueError(
                f"student and teacher must have the same {name}, "
                f"but they have {ours!r} and {theirs!r}: {remedy}."
            )
    # Losses compare example by example, on one device.
    device = student.values.device
    other = teacher.values.device
    if student.batch != teacher.batch or device != other:
        raise ValueError(
            "student and teacher must hold as many sequences on one device, "
            f"but hold {student.batch} on {device} and {teacher.batch} on {other}: "
            "move one of them, and pass row b of both for the same example."
        )
