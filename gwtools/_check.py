"""Rejects invalid arrays, numbers and options, in errors of one sentence.

It says what is required, what was received and how to correct it. No other module
rejects input, except for ``_check_spaces``, ``_check_graphs`` and ``_check_plans``, in
the same form.
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
    """Require a non-empty array of finite floating-point numbers with ``ndim`` axes.

    It is returned in native byte order.
    """
    value = floating(value, name, ndim)
    finite(value, name)
    return value


def floating(value: Any, name: str, ndim: int, argument: str | None = None) -> Array:
    """Require a non-empty array of floating-point numbers, finite or not.

    It is returned in native byte order. ``argument`` is the parameter whose axes the
    remedy explains, where ``name``, which the error begins with, is another.
    """
    _with_numbers(value, name)
    _plain(value, name)
    if not _array.is_floating(value):
        remedy = _words.to_floating(value, name)
        raise TypeError(
            f"{name} must hold floating-point numbers, but has dtype {value.dtype}: "
            f"{remedy}."
        )
    _precision(value, name)
    axes(value, name, ndim, argument)
    shape = tuple(value.shape)
    if 0 in shape:
        raise ValueError(
            f"{name} must not be empty, but has shape {shape}: "
            "a space needs at least one atom."
        )
    return _array.in_native_order(value)


def _with_numbers(value: Any, name: str) -> None:
    """Require an array whose entries can be read."""
    if not _array.is_array(value):
        remedy = _words.to_array(value, name)
        raise TypeError(
            f"{name} must be an array of NumPy, PyTorch, JAX, CuPy or another "
            f"array-API library, but is {_words.shown(value)}: {remedy}."
        )
    if _array.is_abstract(value):
        raise TypeError(
            f"{name} must hold numbers, "
            "but is an abstract array, as within jax.jit, jax.vmap and jax.checkpoint: "
            "call gwtools outside of them, where jax.grad alone works."
        )
    received = _array.kind_without_numbers(value)
    if received is not None:
        raise TypeError(
            f"{name} must hold numbers, but is {received}: "
            "pass plain tensors, and gwtools.solve_batch lists of them."
        )


def _precision(value: Array, name: str) -> None:
    """Require numbers of half, single or double precision."""
    epsilon = _array.epsilon(value)
    # bfloat16 has 2⁻⁷, formats of 8 bits have 2⁻⁴ or more.
    if epsilon > 1e-2:
        remedy = _words.to_double(value, name)
        raise TypeError(
            f"{name} must hold numbers of at least 16 bits, "
            f"but has dtype {value.dtype}: "
            f"convert it yourself, for example with {remedy}."
        )
    # float64 has 2⁻⁵²: certificates, computed in it, would not cover longer numbers.
    if epsilon < 1e-16:
        raise TypeError(
            f"{name} must hold numbers of at most 64 bits, "
            f"but has dtype {value.dtype}: "
            f"round them yourself, with {name}.astype(float)."
        )


def axes(value: Array, name: str, ndim: int, argument: str | None = None) -> None:
    """Require ``ndim`` axes; ``argument`` is as for :func:`floating`."""
    if value.ndim != ndim:
        noun = "axis" if ndim == 1 else "axes"
        shape = tuple(value.shape)
        remedy = _words.to_axes(value.ndim, argument or name)
        raise ValueError(
            f"{name} must have {ndim} {noun}, but has shape {shape}: {remedy}."
        )


def _plain(value: Array, name: str) -> None:
    """Refuse arrays whose entries or products mean something else than usual."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{name} must be an array without a mask, but is of type MaskedArray: "
            "leave the masked atoms out, or fill their entries with "
            f"{name}.filled(value)."
        )
    # A matrix of NumPy multiplies where others take the product entry by entry. Files
    # mapped into memory compute as plain arrays do.
    is_numpy = isinstance(value, np.ndarray)
    if is_numpy and type(value) not in (np.ndarray, np.memmap):
        kind = type(value).__name__
        raise TypeError(
            f"{name} must be a plain numpy.ndarray, but is of type {kind}: "
            f"pass numpy.asarray({name})."
        )
    # Only tensors of PyTorch have a layout; "torch.strided" is the dense one.
    layout = str(getattr(value, "layout", ""))
    if layout.startswith("torch.") and layout != "torch.strided":
        raise TypeError(
            f"{name} must be a dense tensor, but has layout {layout}: "
            f"pass {name}.to_dense()."
        )


def instance(value: Any, name: str, kind: type, remedy: str) -> None:
    """Require an instance of one of gwtools' classes."""
    if not isinstance(value, kind):
        received = _words.shown(value)
        raise TypeError(
            f"{name} must be a gwtools.{kind.__name__}, but is {received}: {remedy}."
        )


def flag(value: Any, name: str) -> None:
    """Require a truth value."""
    if not isinstance(value, bool | np.bool_):
        received = _words.shown(value)
        raise TypeError(
            f"{name} must be True or False, but is {received}: pass one of these."
        )


def callback(value: Any) -> None:
    """Require a function, or nothing."""
    if value is not None and not callable(value):
        received = _words.shown(value)
        raise TypeError(
            f"callback must be a function of a gwtools.Progress, but is {received}: "
            "pass one, or leave it out."
        )


def refuse_word(value: str, name: str, meant: str) -> None:
    """Refuse a word in the place of the array ``name``; it is meant for ``meant``."""
    received = _words.shown(value)
    raise TypeError(
        f"{name} must be an array, but is {received}: "
        f"pass {meant}={received} by its name."
    )


def listed(values: Any, name: str) -> None:
    """Require a list of spaces, or a stack of matrices.

    An iterator is refused, whose entries can be read only once.
    """
    is_text = isinstance(values, str | bytes)
    if isinstance(values, Sequence) and not is_text:
        return
    if _array.is_array(values) and values.ndim == 3:
        return
    if is_text:
        remedy = "pass a list of what is read from the files"
    elif _array.is_array(values) or hasattr(values, "weights"):
        remedy = f"pass [{name}] for one pair of spaces"
    else:
        remedy = f"pass list({name}) if it yields spaces"
    received = _words.shown(values)
    raise TypeError(
        f"{name} must be a list of spaces or square arrays, but is {received}: "
        f"{remedy}."
    )


def paired(xs: Sequence[Any], ys: Sequence[Any]) -> None:
    """Require lists of one length."""
    if len(xs) != len(ys):
        raise ValueError(
            "xs must have as many spaces as ys, "
            f"but they have {len(xs)} and {len(ys)}: pass one y for each x."
        )


def not_empty(xs: Sequence[Any]) -> None:
    """Require a list that is not empty: its entries tell the library of the answer."""
    if not xs:
        raise ValueError(
            "xs must hold at least one space, but is empty: "
            "no array library is known then."
        )


def untransformed(arrays: Sequence[Any], name: str, function: str) -> None:
    """Require arrays outside ``jax.grad``, for a function that has no gradient."""
    for array in arrays:
        if _array.is_array(array) and _array.is_traced(array):
            raise TypeError(
                f"{name} must be outside of jax.grad for {function}, which gradients "
                "do not pass, but is within it: "
                "pass jax.lax.stop_gradient of its arrays, or use another bound, such "
                "as spectral or second."
            )


def finite(value: Array, name: str) -> None:
    """Require that no entry is NaN or infinite."""
    xp = _array.namespace(value)
    are_finite = xp.all(xp.isfinite(value))
    _finite(bool(are_finite), name)


def finite_largest(largest: float, name: str) -> None:
    """Require that no entry is NaN or infinite, by the largest absolute value."""
    # A maximum is NaN where an entry is.
    _finite(math.isfinite(largest), name)


def _finite(met: bool, name: str) -> None:
    if not met:
        raise ValueError(
            f"{name} must be finite, but holds NaN or infinite entries: "
            "remove those atoms or replace the entries."
        )


def same_library(first: Array, second: Array, name: str, other: str) -> None:
    """Require one array library and one device for both arrays."""
    # Names take longer to find than kinds, and nearly all arrays are of one kind.
    if _array.kind(first) == _array.kind(second):
        return
    first_library = _array.library(first)
    second_library = _array.library(second)
    _same("library", first_library, second_library, name, other)
    first_device = str(_array.device(first))
    second_device = str(_array.device(second))
    _same("device", first_device, second_device, name, other)


def same_kind(first: Array, second: Array, name: str, other: str) -> None:
    """Require one array library, one dtype and one device for both arrays."""
    if _array.kind(first) == _array.kind(second):
        return
    same_library(first, second, name, other)
    # Kinds may differ in the byte order alone, which no computation keeps.
    first_dtype = _array.dtype_name(first)
    second_dtype = _array.dtype_name(second)
    _same("dtype", first_dtype, second_dtype, name, other)


def _same(kind: str, first: str, second: str, name: str, other: str) -> None:
    if first != second:
        raise TypeError(
            f"{name} must have the same array {kind} as {other}, "
            f"but they have {first} and {second}: convert one of them first."
        )


def representable(value: float, name: str, like: Array) -> None:
    """Require that a positive number is a normal one of an array's dtype.

    ``value`` is in the units of the problem, as it is used.
    """
    xp = _array.namespace(like)
    least = float(xp.finfo(like.dtype).smallest_normal)
    if value < least:
        received, limit = _words.distinguishable(value, least)
        raise ValueError(
            f"{name} must be at least {limit}, the smallest normal number of "
            f"{like.dtype}, but is {received} in the units of the problem: "
            "raise it, or pass wider arrays."
        )


def within_range(fits: bool, name: str) -> None:
    """Require that a quantity is within the range of float64."""
    if not fits:
        largest = np.finfo(float).max
        raise ValueError(
            f"{name} must be within the range of float64, up to {largest:.2g}, "
            "but exceeds it: "
            "divide the stored values by a power of two and multiply the bound by it, "
            "or by its square, yourself."
        )


def fits(
    needed: float, limit: float, shape: tuple[int, int], what: str, name: str
) -> None:
    """Require that work on n × m atoms needs no more than ``limit`` bytes."""
    if needed <= limit:
        return
    n, m = shape
    # Memory grows as the product of the sizes: both are reduced by one factor.
    share = math.sqrt(max(limit, 0.0) / needed)
    fewer_n = max(1, int(n * share))
    fewer_m = max(1, int(m * share))
    raise MemoryError(
        f"{name} must be small enough for {what}, "
        f"but {n} × {m} atoms need about {_gigabytes(needed)} GB at once, of which "
        f"{_gigabytes(limit)} GB may be used: "
        "take gwtools.Sorted(), gwtools.certify or gwtools.bounds.norm, which hold no "
        f"n × m arrays, subsamples of at most {fewer_n} and {fewer_m} atoms, or a "
        "larger memory_limit if the machine has more."
    )


def few_pairs(shape: tuple[int, int], most: int, time_limit: float | None) -> None:
    """Require at most so many pairs n m of atoms, or a time limit."""
    n, m = shape
    if time_limit is not None or n * m <= most:
        return
    raise ValueError(
        f"x and y must have at most {most} pairs of atoms together where there is no "
        f"time_limit, but {n} × {m} atoms are {n * m} pairs: pass time_limit=60.0, or "
        "call gwtools.bounds.convex."
    )


def memory_limit(value: Any) -> None:
    """Require a number of bytes, or None."""
    if value is not None:
        number(value, "memory_limit", above=0.0)


def _gigabytes(number: float) -> str:
    """Write bytes in gigabytes, to three digits but never with an exponent."""
    gigabytes = max(number, 0.0) / 1e9
    rounded = float(f"{gigabytes:.3g}")
    return f"{rounded:,.12g}"


def choice(value: Any, name: str, options: Collection[Any]) -> None:
    """Require one of a few values."""
    # Values of other types, such as arrays, may have an equality of their own.
    is_comparable = isinstance(value, str | Real | None)
    if not is_comparable or value not in options:
        allowed = ", ".join(map(repr, options))
        received = _words.shown(value)
        raise ValueError(
            f"{name} must be one of {allowed}, but is {received}: choose one of these."
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
    """Require a finite real number within limits.

    It must be greater than ``above`` or at least ``least``, of which one is given, less
    than ``below`` and at most ``most``.
    """
    # To Python, True and False are integers.
    is_real = isinstance(value, Real) and not isinstance(value, bool)
    size = as_float(value) if is_real else math.nan
    high_enough = (above is None or size > above) and (least is None or size >= least)
    low_enough = size < below and size <= most
    if math.isfinite(size) and high_enough and low_enough:
        return
    limit = f"greater than {above:g}" if above is not None else f"at least {least:g}"
    if below != math.inf:
        limit += f" and less than {below:g}"
    if most != math.inf:
        limit += f" and at most {most:g}"
    received = _words.shown(value)
    raise ValueError(
        f"{name} must be a finite number {limit}, but is {received}: "
        "pass such a number."
    )


def as_float(value: Real) -> float:
    """Read a number as a float; an integer beyond their range is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def integer(value: Any, name: str, *, least: int) -> None:
    """Require an integer of at least ``least``."""
    # To Python, True and False are integers.
    is_integer = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_integer or value < least:
        received = _words.shown(value)
        raise ValueError(
            f"{name} must be an integer at least {least}, but is {received}: "
            "pass such a number."
        )


def indices(value: Any, name: str, size: int) -> None:
    """Require a list of positions among ``size`` atoms."""
    is_array = _array.is_array(value)
    if not is_array or not _array.is_integer(value):
        received = (
            f"has dtype {value.dtype}" if is_array else f"is {_words.shown(value)}"
        )
        raise TypeError(
            f"{name} must be an array of integers, but {received}: "
            f"pass the positions of the atoms, for example numpy.asarray({name}, "
            "dtype=int)."
        )
    axes(value, name, 1)
    if 0 in tuple(value.shape):
        # An empty list has no least position.
        return
    xp = _array.namespace(value)
    first = int(xp.min(value))
    last = int(xp.max(value))
    for position in (first, last):
        if not 0 <= position < size:
            raise ValueError(
                f"{name} must hold positions from 0 to {size - 1}, "
                f"but holds {position}: count the {size} atoms from 0."
            )


def count_in_environment(text: str, name: str) -> None:
    """Require a whole number of at least 1 in an environment variable."""
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(
            f"{name} must be a whole number of at least 1, but is {text!r}: "
            "set it so, or not at all."
        )


@contextmanager
def of_file(name: str) -> Iterator[None]:
    """Put the name of a file before errors about what it holds."""
    try:
        yield
    except (TypeError, ValueError) as error:
        # A wrong type is one of a value in the file, not of an argument.
        raise ValueError(f"{name}: {error}") from None


def unreadable(place: str, requirement: str, received: str, remedy: str) -> ValueError:
    """Return the error about what a file holds at a place.

    ``place`` names the file and, where there are any, its line and column.
    """
    return ValueError(f"{place} must {requirement}, but {received}: {remedy}.")
