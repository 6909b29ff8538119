"""Rejects arrays, numbers and options; each error says the requirement, what was received and the remedy, in one sentence.

No other module rejects input, except ``_check_spaces``, ``_check_graphs`` and
``_check_plans``, in the same form.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any

import numpy as np

from gwtools import _array, _words
from gwtools._array import Array


def array(value: Any, name: str, ndim: int) -> Array:
    """Require a non-empty array of finite floating-point numbers with ``ndim`` axes, and return it in native byte order."""
    value = floating(value, name, ndim)
    finite(value, name)
    return value


def floating(value: Any, name: str, ndim: int, meant: str | None = None) -> Array:
    """Require a non-empty array of floating-point numbers, finite or not, and return it in native byte order.

    ``meant`` is the argument whose axes the remedy explains, where errors give it
    another name.
    """
    if not _array.is_array(value):
        raise TypeError(
            f"{name} must be an array of NumPy, PyTorch, JAX, CuPy or another array-API library, "
            f"but is {_words.shown(value)}: {_words.to_array(value, name)}."
        )
    if _array.is_abstract(value):
        raise TypeError(
            f"{name} must hold numbers, but is an abstract array, as within jax.jit, jax.vmap and jax.checkpoint: "
            "call gwtools outside of them, where jax.grad alone works."
        )
    if received := _array.without_numbers(value):
        raise TypeError(
            f"{name} must hold numbers, but is {received}: pass plain tensors, and gwtools.solve_batch lists of them."
        )
    _plain(value, name)
    if not _array.is_floating(value):
        raise TypeError(
            f"{name} must hold floating-point numbers, but has dtype {value.dtype}: {_words.to_floating(value, name)}."
        )
    if _array.epsilon(value) > 1e-2:
        raise TypeError(
            f"{name} must hold numbers of at least 16 bits, but has dtype {value.dtype}: "
            f"convert it yourself, for example with {_words.to_double(value, name)}."
        )
    if _array.epsilon(value) < 1e-16:
        raise TypeError(
            f"{name} must hold numbers of at most 64 bits, but has dtype {value.dtype}: "
            f"round them yourself, with {name}.astype(float)."
        )
    axes(value, name, ndim, meant)
    if 0 in tuple(value.shape):
        raise ValueError(
            f"{name} must not be empty, but has shape {tuple(value.shape)}: a space needs at least one atom."
        )
    return _array.native(value)


def axes(value: Array, name: str, ndim: int, meant: str | None = None) -> None:
    """Require ``ndim`` axes."""
    if value.ndim != ndim:
        raise ValueError(
            f"{name} must have {ndim} {'axis' if ndim == 1 else 'axes'}, but has shape {tuple(value.shape)}: "
            f"{_words.to_axes(value.ndim, meant or name)}."
        )


def _plain(value: Array, name: str) -> None:
    """Refuse arrays whose entries or products mean something else than those of plain ones."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{name} must be an array without a mask, but is of type MaskedArray: "
            f"leave the masked atoms out, or fill their entries with {name}.filled(value)."
        )
    if isinstance(value, np.ndarray) and type(value) not in (np.ndarray, np.memmap):
        raise TypeError(
            f"{name} must be a plain numpy.ndarray, but is of type {type(value).__name__}: pass numpy.asarray({name})."
        )
    layout = str(getattr(value, "layout", ""))
    if layout.startswith("torch.") and layout != "torch.strided":
        raise TypeError(
            f"{name} must be a dense tensor, but has layout {layout}: pass {name}.to_dense()."
        )


def instance(value: Any, name: str, kind: type, remedy: str) -> None:
    """Require an instance of one of gwtools' classes."""
    if not isinstance(value, kind):
        raise TypeError(
            f"{name} must be a gwtools.{kind.__name__}, but is {_words.shown(value)}: {remedy}."
        )


def flag(value: Any, name: str) -> None:
    """Require a truth value."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(
            f"{name} must be True or False, but is {_words.shown(value)}: pass one of these."
        )


def callback(value: Any) -> None:
    """Require a function, or nothing."""
    if value is not None and not callable(value):
        raise TypeError(
            f"callback must be a function of a gwtools.Progress, but is {_words.shown(value)}: pass one, or leave it out."
        )


def keyword(value: str, name: str, meant: str) -> None:
    """Refuse a word in the place of an array."""
    raise TypeError(
        f"{name} must be an array, but is {_words.shown(value)}: pass {meant}={_words.shown(value)} by its name."
    )


def listed(values: Any, name: str) -> None:
    """Require a list of spaces, or a stack of matrices, whose entries can be read more than once."""
    if isinstance(values, Sequence) and not isinstance(values, str | bytes):
        return
    if _array.is_array(values) and values.ndim == 3:
        return
    if isinstance(values, str | bytes):
        remedy = "pass a list of what is read from the files"
    elif _array.is_array(values) or hasattr(values, "weights"):
        remedy = f"pass [{name}] for one pair of spaces"
    else:
        remedy = f"pass list({name}) if it yields spaces"
    raise TypeError(
        f"{name} must be a list of spaces or square arrays, but is {_words.shown(values)}: {remedy}."
    )


def paired(xs: Sequence[Any], ys: Sequence[Any]) -> None:
    """Require lists of one length."""
    if len(xs) != len(ys):
        raise ValueError(
            f"xs must have as many spaces as ys, but they have {len(xs)} and {len(ys)}: pass one y for each x."
        )


def not_empty(xs: Sequence[Any]) -> None:
    """Require a list that is not empty, where nothing else tells the array library of the answer."""
    if not xs:
        raise ValueError(
            "xs must hold at least one space, but is empty: no array library is known then."
        )


def untransformed(arrays: Sequence[Any], name: str, function: str) -> None:
    """Require arrays outside ``jax.grad``, for a function that gradients do not pass."""
    if any(_array.is_array(array) and _array.is_traced(array) for array in arrays):
        raise TypeError(
            f"{name} must be outside of jax.grad for {function}, which gradients do not pass, but is within it: "
            "pass jax.lax.stop_gradient of its arrays, or use another bound, such as spectral or second."
        )


def finite(value: Array, name: str) -> None:
    """Require that no entry is NaN or infinite."""
    xp = _array.namespace(value)
    _finite(bool(xp.all(xp.isfinite(value))), name)


def finite_largest(largest: float, name: str) -> None:
    """Require that no entry is NaN or infinite, from the largest absolute value, which is NaN where an entry is."""
    _finite(math.isfinite(largest), name)


def _finite(met: bool, name: str) -> None:
    if not met:
        raise ValueError(
            f"{name} must be finite, but holds NaN or infinite entries: remove those atoms or replace the entries."
        )


def same_library(first: Array, second: Array, name: str, other: str) -> None:
    """Require one array library and one device for both arrays."""
    if _array.kind(first) == _array.kind(second):  # quick, as nothing need be named
        return
    _same("library", _array.library(first), _array.library(second), name, other)
    _same("device", str(_array.device(first)), str(_array.device(second)), name, other)


def same_kind(first: Array, second: Array, name: str, other: str) -> None:
    """Require one array library, one dtype and one device for both arrays."""
    if _array.kind(first) == _array.kind(second):
        return
    same_library(first, second, name, other)
    _same("dtype", _array.dtype_name(first), _array.dtype_name(second), name, other)


def _same(kind: str, first: str, second: str, name: str, other: str) -> None:
    if first != second:
        raise TypeError(
            f"{name} must have the same array {kind} as {other}, but they have {first} and {second}: "
            "convert one of them first."
        )


def representable(value: float, name: str, like: Array) -> None:
    """Require that a positive number is a normal one of an array's dtype, also after a change of units."""
    least = float(_array.namespace(like).finfo(like.dtype).smallest_normal)
    if value < least:
        received, limit = _words.distinguishable(value, least)
        raise ValueError(
            f"{name} must be at least {limit}, the smallest normal number of {like.dtype}, but is "
            f"{received} in the units of the problem: raise it, or pass wider arrays."
        )


def within_range(fits: bool, name: str) -> None:
    """Require what a name stands for to be within the range of float64."""
    if not fits:
        raise ValueError(
            f"{name} must be within the range of float64, up to {np.finfo(float).max:.2g}, but exceeds it: "
            "divide the stored values by a power of two and multiply the bound by it, or by its square, yourself."
        )


def fits(
    needed: float, limit: float, shape: tuple[int, int], what: str, name: str
) -> None:
    """Require that work on n × m atoms needs no more than ``limit`` bytes."""
    if needed <= limit:
        return
    (n, m), share = shape, math.sqrt(max(limit, 0.0) / needed)
    fewer_n, fewer_m = (max(1, int(size * share)) for size in shape)
    raise MemoryError(
        f"{name} must be small enough for {what}, but {n} × {m} atoms need about {_gigabytes(needed)} GB at once, of which "
        f"{_gigabytes(limit)} GB may be used: take gwtools.Sorted(), gwtools.certify or gwtools.bounds.norm, which hold no "
        f"n × m arrays, subsamples of at most {fewer_n} and {fewer_m} atoms, or a larger memory_limit if the "
        "machine has more."
    )


def memory_limit(value: Any) -> None:
    """Require a number of bytes, or None."""
    if value is not None:
        number(value, "memory_limit", above=0.0)


def _gigabytes(number: float) -> str:
    return f"{float(f'{max(number, 0.0) / 1e9:.3g}'):,.12g}"


def choice(value: Any, name: str, options: Collection[Any]) -> None:
    """Require one of a few values."""
    if not isinstance(value, str | Real | None) or value not in options:
        allowed = ", ".join(repr(option) for option in options)
        raise ValueError(
            f"{name} must be one of {allowed}, but is {_words.shown(value)}: choose one of these."
        )


def number(
    value: Any,
    name: str,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float = math.inf,
    most: float = math.inf,
) -> None:
    """Require a finite real number, greater than ``above`` or at least ``least``, less than ``below``, at most ``most``."""
    size = (
        math.nan
        if isinstance(value, bool) or not isinstance(value, Real)
        else as_float(value)
    )
    if (
        not math.isfinite(size)
        or (above is not None and size <= above)
        or (least is not None and size < least)
        or size >= below
        or size > most
    ):
        limit = (
            f"greater than {above:g}" if above is not None else f"at least {least:g}"
        )
        limit += "" if below == math.inf else f" and less than {below:g}"
        limit += "" if most == math.inf else f" and at most {most:g}"
        raise ValueError(
            f"{name} must be a finite number {limit}, but is {_words.shown(value)}: pass such a number."
        )


def as_float(value: Real) -> float:
    """Read a number as a float, infinite where it is beyond their range, as long integers may be."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def integer(value: Any, name: str, *, least: int) -> None:
    """Require an integer of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(
            f"{name} must be an integer at least {least}, but is {_words.shown(value)}: pass such a number."
        )


def indices(value: Any, name: str, size: int) -> None:
    """Require a list of positions among ``size`` atoms."""
    if not _array.is_array(value) or not _array.is_integer(value):
        received = (
            f"has dtype {value.dtype}"
            if _array.is_array(value)
            else f"is {_words.shown(value)}"
        )
        remedy = f"pass the positions of the atoms, for example numpy.asarray({name}, dtype=int)"
        raise TypeError(
            f"{name} must be an array of integers, but {received}: {remedy}."
        )
    axes(value, name, 1)
    if 0 in tuple(value.shape):
        return
    xp = _array.namespace(value)
    for position in (int(xp.min(value)), int(xp.max(value))):
        if not 0 <= position < size:
            raise ValueError(
                f"{name} must hold positions from 0 to {size - 1}, but holds {position}: count the {size} atoms from 0."
            )


def count_in_environment(text: str, name: str) -> None:
    """Require a whole number of at least 1 in an environment variable."""
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(
            f"{name} must be a whole number of at least 1, but is {text!r}: set it so, or not at all."
        )


@contextmanager
def of_file(name: str) -> Iterator[None]:
    """Put the name of a file before errors about what it holds."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from None


def unreadable(place: str, requirement: str, received: str, remedy: str) -> ValueError:
    """Return the error about what a file holds; ``place`` names the file and, where there are any, its line and column."""
    return ValueError(f"{place} must {requirement}, but {received}: {remedy}.")
